"""The CPU benchmarks: what they verify before they time, what their processes get, what their tables say."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
POLICY = "16-64-64-1, batch 64"
ROW = "1-256x7-1, one row"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts' folder on the path."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]  # run is also the name of the GPU's


def test_ours_comes_first_and_a_suite_has_steps_of_its_own():
    from run import OURS
    from suites import SUITES

    assert all(next(iter(SUITES[suite][0])) == OURS for suite in ("step", "calls", "predict", "ensemble"))
    assert SUITES["step"][1][POLICY].steps == 2000 and SUITES["gpu step"][1][POLICY].steps == 100
    assert all(name == w.name for _, workloads in SUITES.values() for name, w in workloads.items())


def test_other_kernels_than_asked_for_are_not_timed(monkeypatch):
    import contenders

    for name in ("GPUMLP_DEVICE", "GPUMLP_KERNELS"):
        monkeypatch.setenv(name, "")
    model = SimpleNamespace(device=SimpleNamespace(kernels="numpy"))
    monkeypatch.setattr(contenders, "keras_model", lambda workload, package, member: model)
    assert contenders.on_the_cpu(None, "numpy") is model and os.environ["GPUMLP_KERNELS"] == "numpy"
    with pytest.raises(RuntimeError, match="asked for its compiled kernels, and would run with numpy"):
        contenders.on_the_cpu(None, "compiled")


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda y: y, None),
        (lambda y: y[:, 0], None),  # scikit-learn's shape
        (lambda y: y + np.float32(1e-3), "differ from float64's"),
        (lambda y: y * np.float32("nan"), "differ from float64's by nan"),
        (lambda y: y.tolist(), "list came out"),
    ],
)
def test_predictions_are_verified_before_they_are_timed(spoilt, words):
    from predictors import calls
    from workloads import Workload

    workload = Workload("small", (3, 5, 1), batch=1, steps=4)
    w, b, v, c = workload.weights()
    seen, contexts = [], []

    @contextmanager
    def context():
        contexts.append(len(seen))
        yield

    def predict(x):
        seen.append(x)
        return spoilt(np.maximum(x @ w + b, 0) @ v + c)

    if words:
        with pytest.raises(RuntimeError, match=words):
            calls(workload, predict, context)
        return
    turn = calls(workload, predict, context)
    assert turn() is None
    assert [x.shape for x in seen] == [(1, 3)] * 8 and contexts == [0, 4]


def test_an_ensemble_does_what_its_members_do_one_after_the_other(monkeypatch):
    import ensembles
    from workloads import Workload

    for name in ("GPUMLP_DEVICE", "GPUMLP_KERNELS"):
        monkeypatch.setenv(name, "")
    workload = Workload("small", (3, 5, 1), batch=4, steps=6, members=3)
    together, in_turn = ensembles.gpumlp_together(workload), ensembles.gpumlp_in_turn(workload)
    first = [together(), in_turn()]
    assert first[0] == first[1] != together() == in_turn()
    assert len({workload.weights(k)[0].tobytes() for k in range(3)}) == 3


def test_times_are_those_of_one_member(monkeypatch):
    import run

    monkeypatch.setattr(run, "installed", lambda packages: set(packages) <= {"gpumlp", "numpy", "numba"})
    monkeypatch.setattr(run, "PAUSE", 0.0)
    monkeypatch.setattr(run, "started", lambda suite, contender, workload: Fake([9, 9, 8 * 100 * 3e-6], 1.0))
    chosen = SimpleNamespace(repeats=1, workload=["8 of 1-256x7-1, batch 20"])
    (rows,) = run.BENCHMARKS["ensemble"](chosen)
    assert [r.median for r in rows] == pytest.approx([3.0, 3.0])


def test_a_peer_predicts_in_a_process_of_its_own():
    from turns import Worker

    worker = Worker("predict", "scikit-learn", ROW)
    worker.ready()
    assert worker.turn()["seconds"] > 0
    worker.close()


class Fake:
    """A worker whose turns take the seconds given, in order, and that remembers whether it was closed."""

    def __init__(self, seconds, loss):
        self.seconds, self.loss, self.closed = iter(seconds), loss, False

    def turn(self):
        """Take the next one."""
        return {"seconds": next(self.seconds), "loss": self.loss}

    def close(self):
        """Remember it."""
        self.closed = True


def test_ratios_are_taken_within_a_round(monkeypatch):
    import run

    monkeypatch.setattr(run, "installed", lambda packages: set(packages) <= {"gpumlp", "numpy", "numba", "jax"})
    monkeypatch.setattr(run, "PAUSE", 0.0)
    workers = {
        "gpumlp, compiled": Fake([9, 9, 2, 4], 1.0),
        "gpumlp, NumPy": Fake([9, 9, 4, 4], 1.001),
        "JAX, lax.scan": Fake([9, 9, 4, 10], None),
    }
    monkeypatch.setattr(run, "started", lambda suite, contender, workload: workers[contender])
    ((ours, same, peer),) = run.in_turns("step", "ms per step", 1e3, 2, [POLICY])
    assert (ours.contender, ours.low, ours.high, ours.ratio) == ("gpumlp, compiled", 1.0, 2.0, 1.0)
    assert (same.ratio_low, same.ratio_high) == (1.0, 2.0)
    assert (peer.contender, peer.ratio_low, peer.ratio_high) == ("JAX, lax.scan", 2.0, 2.5)
    assert all(w.closed for w in workers.values())
    workers["gpumlp, compiled"], workers["gpumlp, NumPy"] = Fake([9], 1.0), Fake([9], 1.1)
    workers["JAX, lax.scan"] = Fake([9], None)
    with pytest.raises(RuntimeError, match=r"16-64-64-1, batch 64: gpumlp, NumPy has the loss 1\.1"):
        list(run.in_turns("step", "ms per step", 1e3, 2, [POLICY]))
    assert all(w.closed for w in workers.values())


def test_a_process_finds_nothing_cached_and_no_variables_of_ours(monkeypatch, tmp_path):
    import run

    for name in ("GPUMLP_KERNELS", "GPUMLP_CACHE", "NUMBA_DISABLE_JIT", "KERAS_BACKEND"):
        monkeypatch.setenv(name, "left over")
    code = (
        "import os, pathlib\n"
        "assert 'left over' not in os.environ.values()\n"
        "assert os.environ['KERAS_BACKEND'] == 'jax'\n"
        "pathlib.Path(os.environ['GPUMLP_CACHE']).mkdir()\n"  # fails where there is one
    )
    script = run.Script(code, ("numpy",), {"KERAS_BACKEND": "jax"})
    for _ in range(2):
        seconds, peak = run.process(script)
        assert seconds > 0 and peak > 0
    kept = run.Script(code, ("numpy",), {"KERAS_BACKEND": "jax", "GPUMLP_CACHE": str(tmp_path / "kept")})
    run.process(kept)
    assert (tmp_path / "kept").is_dir()
    with pytest.raises(RuntimeError, match="failed with status"):
        run.process(kept)


def test_processes_are_compared_with_the_first(monkeypatch):
    import run

    times = iter([(9.0, 9.0)] * 2 + [(2.0, 50.0), (6.0, 100.0), (2.0, 50.0), (8.0, 200.0)])
    monkeypatch.setattr(run, "process", lambda script: next(times))
    variants = {name: run.Script("", ("numpy",)) for name in ("ours", "theirs")}
    variants["absent"] = run.Script("", ("no_such_package",))
    (made,) = run.processes("script", "a script", variants, 2, memory=True)
    assert [(r.contender, r.unit) for r in made] == [
        ("ours", "s"), ("theirs", "s"), ("ours", "MiB peak"), ("theirs", "MiB peak")
    ]  # fmt: skip
    assert [(r.ratio_low, r.ratio_high) for r in made] == [(1, 1), (3, 4), (1, 1), (2, 4)]


def test_a_table_has_a_line_a_contender_and_a_column_a_workload(monkeypatch, tmp_path):
    import rows
    import tables

    made = [
        rows.row("step", workload, name, "ms per step", values, ours, ("numpy",))
        for workload, ours in (("small", [0.01, 0.02, 0.03]), ("large", [1000.0, 1001.0, 1002.0]))
        for name, values in (("gpumlp, compiled", ours), ("JAX", [2 * v for v in ours]))
    ]
    rows.write(tmp_path / "cpu_step.csv", made[:3])
    assert tables.table(rows.read(tmp_path / "cpu_step.csv")).splitlines() == [
        "| | small<br>ms per step | large<br>ms per step |",
        "|---|---:|---:|",
        "| gpumlp, compiled | 0.02 [0.01, 0.03]<br>1x | 1001 [1000, 1002]<br>1x |",
        "| JAX | 0.04 [0.02, 0.06]<br>2.00x [2.00, 2.00] |  |",
    ]
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    text = tables.filled("<!-- table cpu_step -->\n<!-- end -->\n<!-- table cpu_predict -->\nold\n<!-- end -->\n")
    assert 'of 3 rounds; ratio: to "gpumlp, compiled" in the same round' in text
    assert text.endswith("<!-- table cpu_predict -->\nNot measured yet.\n<!-- end -->\n")
    assert tables.filled(text) == text


def test_a_step_is_held_against_the_peaks(monkeypatch):
    import profile_step

    monkeypatch.setattr(profile_step, "SGEMM", 32)
    monkeypatch.setattr(profile_step, "IN_CACHE", 1 << 12)
    monkeypatch.setattr(profile_step, "IN_MEMORY", 1 << 14)
    measured = profile_step.peaks(2)
    assert min(measured.gflops, measured.cache, measured.memory) > 0
    assert profile_step.peaks_table([measured]).splitlines()[1].startswith("2 ")
    operations = [profile_step.Operation("product", 3e-6, 3e5, 3e4), profile_step.Operation("Adam", 1e-6, 1e4, 7e4)]
    peak = profile_step.Peaks(2, gflops=200.0, cache=100.0, memory=50.0)
    lines = [line.split() for line in profile_step.table(operations, peak).splitlines()]
    assert lines[1] == ["product", "3.00", "75%", "100.0", "50%", "10.0", "10%"]
    assert lines[2] == ["Adam", "1.00", "25%", "10.0", "5%", "70.0", "70%"]
    assert lines[3][:4] == ["the", "step", "4.00", "100%"]


def test_a_step_is_timed_part_by_part_and_trains_nothing(monkeypatch):
    import profile_step
    import rows
    from contenders import on_the_cpu
    from workloads import Workload

    from gpumlp.backends.team import processors

    for name in ("GPUMLP_DEVICE", "GPUMLP_KERNELS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(profile_step, "MOMENT", 1e-5)
    workload = Workload("tiny", (3, 130, 129, 2), batch=8, steps=3, classes=True)
    profiled, trained = on_the_cpu(workload, "compiled"), on_the_cpu(workload, "compiled")
    trained.fit(*workload.data(), batch_size=8, shuffle=False, verbose=0)
    monkeypatch.setattr(profile_step, "on_the_cpu", lambda workload, kernels: profiled)
    for operations in profile_step.profiles(workload, 1, sorted({1, processors()})):
        dense = ("0 3x130", "1 130x129", "2 129x2")
        assert [o.name for o in operations] == [
            "gather x", *(f"forward {d}" for d in dense), "forward, in between", "objective",
            *(f"back {d}" for d in reversed(dense)), "back, in between", "two barriers",
            *(f"update {d}" for d in dense), "update, in between", "phases, in between",
        ]  # fmt: skip
        flops = {o.name: o.flops for o in operations}
        assert flops["forward 1 130x129"] == flops["back 1 130x129"] == 2 * 8 * 130 * 129 and flops["back 0 3x130"] == 0
        used = {o.name: o.used for o in operations}
        assert 0 < used["forward 1 130x129"] <= used["update 1 130x129"] <= 1
        assert np.isnan(used["forward 2 129x2"])  # so few outputs that nothing is left out
        peak = profile_step.Peaks(1, 100.0, 100.0, 50.0)
        assert len(profile_step.table(operations, peak).splitlines()) == 1 + len(operations) + 1
        made_rows = profile_step.rows_of("tiny", operations, peak)
        assert [r.contender for r in made_rows] == [*(o.name for o in operations), "the step"]
        assert made_rows[-1].ratio == 1 and made_rows[-1].median > 0 and all(type(r) is rows.RateRow for r in made_rows)
    for a, b in zip(profiled.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    job = profiled._runner.last._job
    assert (job.get("OPS"), job.get("OPS_AT"), job.get("X_WIDTH")) == (3, profile_step.layout().JOB_WORDS, 3)


def test_products_take_turns(monkeypatch, tmp_path, capsys):
    import products
    import rows

    monkeypatch.setattr(products, "SHAPES", {"5x7x6": (5, 7, 6)})
    monkeypatch.setattr(products, "MOMENT", 1e-5)
    monkeypatch.setattr(products, "find_spec", lambda name: None)  # PyTorch takes seconds to come
    monkeypatch.setattr(sys, "argv", ["products.py", "--threads", "1", "--repeats", "3", "--output", str(tmp_path)])
    products.main()
    found = rows.read(tmp_path / "cpu_products.csv")
    assert [r.workload.split(",")[0] for r in found[::2]] == ["y of 5x7x6", "dx of 5x7x6", "dw of 5x7x6"]
    assert [r.contender.split()[0] for r in found] == ["gpumlp", found[1].contender.split()[0]] * 3
    assert all(r.repeats == 3 and r.rate > 0 and abs(2e-3 * 5 * 7 * 6 / r.median / r.rate - 1) < 0.01 for r in found)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_product_that_is_timed_is_computed_and_trains_nothing():
    import products

    from gpumlp.engine.compiled_program import CompiledProgram

    made = []
    with pytest.MonkeyPatch.context() as patch:
        start = CompiledProgram.__init__
        patch.setattr(CompiledProgram, "__init__", lambda self, *a: (start(self, *a), made.append(self))[0])
        work = products.ours((70, 300, 260), 1)
    program = made[0]
    x, w, dz = program._values[1][:, :300], program.arena.weights[0].copy(), program._deltas[2][:, :260].copy()
    for product in products.PRODUCTS:
        work[product](2)
    np.testing.assert_allclose(program._values[2][:, :260], x @ w + program.arena.weights[1], rtol=0, atol=1e-3)
    np.testing.assert_allclose(program._deltas[1][:, :300], dz @ w.T, rtol=0, atol=1e-3)
    assert np.array_equal(program.arena.weights[0], w)


def test_the_article_without_plots_trains_and_draws_nothing():
    import run

    script = run.without_plots(run.SCRIPT)
    assert "plt" not in script and "matplotlib" not in script and "model.fit(" in script
    assert {line for line in run.SCRIPT.splitlines() if line not in script} >= {"import matplotlib.pyplot as plt"}
    compile(script, "script", "exec")


@pytest.mark.parametrize("call", ["train_on_batch", "test_on_batch", "fit", "evaluate", "predict"])
def test_a_call_is_made_for_each_batch(monkeypatch, call):
    import calls
    from workloads import Workload

    for name in ("GPUMLP_DEVICE", "GPUMLP_KERNELS"):
        monkeypatch.setenv(name, "")
    turn = calls.gpumlp_numpy(Workload("small", (3, 5, 2), batch=4, steps=3, call=call))
    losses = [turn(), turn()]
    assert (losses[0] is None) == (call == "predict")
    if call in ("train_on_batch", "fit"):
        assert losses[1] < losses[0]
    elif call != "predict":
        assert losses[1] == losses[0]
