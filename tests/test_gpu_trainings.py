"""The GPU benchmarks' trainings, first minute and machine code made beforehand, on a GPU that the host plays."""

import numpy as np
import pytest
from host.runtime import HostRuntime, broken

from gpumlp import cli, devices
from gpumlp.errors import KernelError


@pytest.fixture
def host_gpu(scripts, as_gpu, monkeypatch):
    """The contenders of a GPU on the host's, whose arrays are the host's too."""
    monkeypatch.setenv("GPUMLP_DEVICE", "cuda")  # a contender sets them for its process
    monkeypatch.setenv("GPUMLP_FIT", "auto")
    monkeypatch.setenv("GPUMLP_TRY", "")
    return as_gpu(HostRuntime())


@pytest.mark.parametrize(
    ("mode", "said", "sgd"),
    [
        ("auto", "whole-fit", False), ("auto", "whole-fit", True), ("tags", "by tags", False),
        ("barrier", "by a barrier", False), ("graph", "CUDA graphs", False),
    ],
)  # fmt: skip
def test_each_way_of_training_takes_the_same_turns_and_tells_what_was_predicted(host_gpu, mode, said, sgd):
    import gpu_contenders
    from workloads import Workload

    workload = Workload("small", (3, 64, 64, 2), 8, 2, epochs=2, sgd=sgd)
    turn = gpu_contenders.gpumlp_by(mode)(workload)
    loss, told = turn(), turn.told()
    model = gpu_contenders.keras_model(workload, "gpumlp")
    model.compile("sgd" if sgd else "adam", "mse", device="cpu")
    model.optimizer.learning_rate = workload.learning_rate
    x, y = workload.data()
    assert loss == pytest.approx(model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history["loss"][0], rel=1e-5)
    assert said in told["program"] and 0 < told["predicted"] < 1e-3
    if mode != "graph":
        assert f"predicted {told['predicted'] * 1e6:.1f} us" in told["program"]


def test_a_way_of_training_that_cannot_be_says_why(host_gpu):
    import gpu_contenders
    from workloads import Workload

    wide = Workload("wide", (3, 2000, 2000, 2), 8, 1)
    for mode in ("tags", "barrier"):
        with pytest.raises(RuntimeError, match="do not fit on the chip"):
            gpu_contenders.gpumlp_by(mode)(wide)


@pytest.fixture
def refusing(host_gpu, as_gpu):
    """A GPU whose driver refuses the whole-fit kernel."""

    class Refusing(HostRuntime):
        def launch(self, file, function, *arguments, **how):
            if function == "fit":
                raise KernelError("fit could not be launched: the driver refuses")
            super().launch(file, function, *arguments, **how)

    return as_gpu(Refusing())


@pytest.mark.filterwarnings("ignore::UserWarning")  # that it was given up
def test_a_whole_fit_that_was_given_up_is_a_failure(refusing, monkeypatch, capsys):
    import contest
    import gpu_contenders
    import gpu_ensembles
    from report import Report
    from workloads import Workload

    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    workload = Workload("small", (3, 64, 64, 2), 8, 2, members=2)
    for make in (gpu_contenders.gpumlp_from_host, gpu_contenders.gpumlp_by("tags"), gpu_ensembles.OurEnsemble):
        turn = make(workload)
        turn()
        with pytest.raises(RuntimeError, match="whole-fit kernel was given up: fit could not be launched") as failed:
            turn.told()
    out = Report(None, "training")
    out.add("small", "gpumlp", "us", [1.0])
    assert contest.verdict(out) == 0
    out.skip("small", "gpumlp, whole fit by tags", str(failed.value))
    assert contest.verdict(out) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("given up: fit could not be launched: the driver refuses")
    out = Report(None, "training")
    out.skip("small", "gpumlp", "no answer within 60 s")
    assert contest.verdict(out) == 1, "ours was not measured"


def test_an_ensembles_turn_is_the_mean_of_its_members(host_gpu):
    import gpu_contenders
    import gpu_ensembles
    from workloads import Workload

    workload = Workload("small", (3, 16, 2), 8, 2, members=2)
    turn = gpu_ensembles.OurEnsemble(workload)
    x, y = workload.data()
    alone = [gpu_contenders.keras_model(workload, "gpumlp", k) for k in range(2)]
    losses = [m.fit(x, y, batch_size=8, shuffle=False, verbose=0).history["loss"][0] for m in alone]
    assert turn() == pytest.approx(np.mean(losses))
    told = turn.told()
    assert "2 members, each whole-fit" in told["program"]
    assert f"predicted {told['predicted'] * 1e6:.1f} us" in told["program"], "both at once take a step's time"


def test_what_the_sanitizer_looks_at_runs_on_the_host(host_gpu):
    import sanitized

    sanitized.whole_fits()


# ---- the first minute ------------------------------------------------------------------------------------------------


@pytest.fixture
def brief(scripts, monkeypatch):
    """The first minute's script, with less to do."""
    import first
    import whole_runs

    monkeypatch.setattr(first, "REPEATS", 2)
    monkeypatch.setattr(first, "FIT", whole_runs.Run((3, 64, 64, 1), 8, 16))
    return first


def test_the_first_minute_finds_what_works(brief, host_gpu, monkeypatch, capsys):
    import report
    import whole_runs

    first = brief
    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    monkeypatch.setattr(report, "need_gpu", lambda: None)
    right = whole_runs.fitted(first.FIT, "cuda").checksum()
    monkeypatch.setattr(whole_runs, "committed", lambda: {first.FIT.name: right, "another": "1"})
    assert first.main() == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 10 and "4 of 4 work" in said and "FAILED" not in said
    assert "kernel: right" in said and "graph: right" in said and "whole fit: right" in said
    assert f"checksum: {right}; committed: {right}" in said
    monkeypatch.setattr(whole_runs, "committed", lambda: {first.FIT.name: "0" * 64})
    assert not first.tried(first.one_fit, devices.resolve("cuda").backend())
    said = capsys.readouterr().out
    assert f"checksum: {right}; committed: {'0' * 64}" in said and "FAILED" in said


@pytest.mark.filterwarnings("ignore::UserWarning")  # that it was given up
def test_the_first_minute_finds_what_does_not_work(brief, refusing, capsys, as_gpu):
    first = brief
    backend = devices.resolve("cuda").backend()
    assert first.tried(first.one_kernel, backend) and not first.tried(first.one_fit, backend)
    assert "FAILED: one_fit: RuntimeError: the whole-fit kernel was given up: fit could" in capsys.readouterr().out
    wrong, files = broken("element(inputs, e, numbers)", "(element(inputs, e, numbers) + 1.0f)")
    as_gpu(wrong)
    backend = devices.resolve("cuda").backend()
    assert not first.tried(first.one_kernel, backend) and not first.tried(first.one_graph, backend)
    assert files and capsys.readouterr().out.count("FAILED") == 2


# ---- machine code beforehand ---------------------------------------------------------------------------------------


def test_what_trains_on_the_listing_gpu_is_noted_and_compiled_for_where_it_runs(scripts, monkeypatch, tmp_path):
    """As the other machine will ask for it: an import, and what a runtime there wants is in the cache."""
    pytest.importorskip("cuda.core", reason="cuda.core is not installed")
    import fit_cases
    import gpu_cache
    import nvrtcs
    from variants import formula_name, variants
    from workloads import Workload

    from gpumlp.backends import cache_archive, compiler
    from gpumlp.backends.disk_cache import DiskCache

    chip = fit_cases.CHIPS["sm_90"]
    assert chip.arch == compiler.target(90), "a GPU's own word for itself"
    gpu = gpu_cache.Listing(chip)
    monkeypatch.setattr(devices, "open_runtime", lambda index: gpu)
    monkeypatch.setattr(devices, "gpu_problem", lambda index=0: None)
    small = Workload("small", (3, 64, 64, 2), 8, 100, epochs=9)
    contenders = {name: gpu_cache.SUITES["gpu step"][0][name] for name in ("gpumlp", "gpumlp, whole fit by a barrier")}
    monkeypatch.setattr(gpu_cache, "SUITES", dict.fromkeys(gpu_cache.SUITES, (contenders, {"small": small})))
    gpu_cache.trained(gpu)
    assert gpu.launches == 0 and not gpu.idle
    plans = [fit_cases.of(small).plan(chip, tags) for tags in (True, False)]
    fits = {compiler.text_of("fit.cu", plan.defines) for plan in plans}
    assert fits == {text for text, file in gpu.asked.items() if file == "fit.cu"}
    take = {text: file for text, file in gpu.asked.items() if file == "update.cu"}
    made = gpu_cache.compiled(take, chip.arch, nvrtcs.get())
    cache_archive.write(tmp_path / "cache.zip", "a test", made)
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    assert cli.main(["cache", "import", str(tmp_path / "cache.zip")]) == 0
    monkeypatch.setattr(compiler, "compile_text", None)
    adam = next(d for file, d in variants() if formula_name(file, d) == "adam" and d["VECTOR"])
    code = compiler.compiled("update.cu", adam, chip.arch, DiskCache())
    assert compiler.lacking(code, compiler.text_of("update.cu", adam)) == []
