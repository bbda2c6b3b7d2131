"""The GPU benchmarks without a GPU: what they compute, what they skip, and that a part's failure stays its own."""

import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from host.runtime import HostRuntime, aligned_copy

from gpumlp import devices

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu"
PATIENCE = 600  # seconds, for what ends a hang


def test_rates_and_shares(scripts):
    import units

    assert units.dense_forward_flops(2, 3, 5) == 60
    assert units.dense_backward_flops(2, 3, 5) == 120
    assert units.mlp_step_flops((3, 5, 7), 2) == 3 * (60 + 140) - 60
    assert units.adam_bytes(10) == 280
    assert units.sgd_bytes(10, momentum=True) == 200 and units.sgd_bytes(10, momentum=False) == 120
    assert units.tflops(2 * 4096**3, 2748.779) == pytest.approx(50.0, rel=1e-6)
    assert units.gigabytes(2 << 30, 536.870912) == pytest.approx(4000.0)
    assert math.isnan(units.tflops(1, 0.0)) and math.isnan(units.share(1.0, math.nan))
    assert units.share(30.0, 50.0) == pytest.approx(0.6)


@pytest.mark.skipif(devices.has_driver(), reason="this machine may have a GPU: make gpu is its test")
@pytest.mark.parametrize("script", ["run", "first", "microbench", "kernels", "training", "ensemble", "sanitize"])
def test_without_a_gpu_everything_is_skipped(script, tmp_path):
    output = [] if script in ("first", "sanitize") else ["--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(GPU / f"{script}.py"), *output],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped: there is no NVIDIA driver") == 1
    assert not list(tmp_path.iterdir()), "results of an earlier run must stay"


@pytest.fixture
def impatient(scripts, monkeypatch):
    """A function: time limits are over when a file has these words, however long that takes."""
    import limited

    def until(path, words):
        class Process(subprocess.Popen):
            def wait(self, timeout=None):
                while timeout is not None:
                    if path.exists() and path.read_text() == words:
                        raise subprocess.TimeoutExpired(self.args, timeout)
                    time.sleep(0.01)
                return super().wait()

        monkeypatch.setattr(limited.subprocess, "Popen", Process)

    return until


def test_a_part_that_hangs_is_ended_and_keeps_what_it_said(scripts, impatient, tmp_path):
    import run

    impatient(tmp_path / "slow.txt", "half\n")
    code = f"import time; print('half', flush=True); time.sleep({PATIENCE})"
    hangs = run.run(run.Part("slow", ("-c", code), 2.0, "slow.txt", gate=True), tmp_path)
    assert not hangs.passed and "ended after 2 s" in hangs.verdict
    assert hangs.seconds < PATIENCE, "not by its own end"
    assert (tmp_path / "slow.txt").read_text() == "half\n"


def test_a_part_that_fails_says_so_and_one_that_passes_gives_its_last_words(scripts, tmp_path):
    import run

    code = "print('ERROR: found'); raise SystemExit(3)"
    fails = run.run(run.Part("bad", ("-c", code), PATIENCE, "bad.txt"), tmp_path)
    assert not fails.passed and fails.verdict == "failed with status 3: ERROR: found"
    good = run.run(run.Part("good", ("-c", "print('3 passed')"), PATIENCE, "good.txt"), tmp_path)
    assert good.passed and good.verdict == "3 passed"
    assert run.summary([fails, good], tmp_path).count("\n") == 3


def test_the_parts_fit_into_ten_minutes_and_eight_files(scripts):
    import run

    parts = (run.imported(Path("cache.zip")), *run.PARTS)
    assert sum(part.seconds for part in parts) <= 590  # and what the runner itself takes
    assert len({part.file for part in parts if part.file}) + 1 <= 8  # gpu_summary.txt is the runner's own


def test_the_tests_part_has_every_file_with_a_test_for_gpus(scripts):
    """And no other: what such a file imports need not be installed where a GPU is."""
    import run

    command = [sys.executable, "-m", "pytest", "tests", "-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line} == set(run.TESTS), done.stdout


def test_the_words_of_a_part_without_a_file_stand_in_the_summary(scripts, tmp_path):
    import run

    said = run.run(run.Part("first", ("-c", "print('one'); print('two')"), PATIENCE), tmp_path)
    assert said.verdict == "two" and run.summary([said], None).endswith("  two\none\ntwo\n")
    assert not list(tmp_path.iterdir())


def test_an_archive_of_machine_code_is_imported_by_a_part_of_its_own(scripts, tmp_path, monkeypatch):
    import run

    from gpumlp.backends import cache_archive, compiler
    from gpumlp.backends.disk_cache import DiskCache

    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    made_for = f"NVRTC {compiler.version()}.1, a test"
    cache_archive.write(tmp_path / "cache.zip", made_for, [("key", b"code")])
    done = run.run(run.imported(tmp_path / "cache.zip"), tmp_path)
    assert done.passed and done.verdict.startswith(f"imported 1 entries for {made_for}") and not done.words
    assert DiskCache().get("key") == b"code"
    (tmp_path / "cache.zip").write_bytes(b"")
    done = run.run(run.imported(tmp_path / "cache.zip"), tmp_path)
    assert not done.passed and "is no whole archive" in done.verdict


def test_a_part_may_use_what_earlier_ones_left(scripts, tmp_path):
    import run

    code = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(sys.argv[4])"  # --output FILE --seconds N
    part = run.Part("elastic", ("-c", code), PATIENCE, "said.csv", elastic=True)
    run.run(part, tmp_path, spare=25.0)
    assert (tmp_path / "said.csv").read_text() == f"{PATIENCE + 25 - run.GRACE:.0f}"
    hangs = run.Part("slow", ("-c", f"import time; time.sleep({PATIENCE})"), 1.0, "slow.txt")
    ended = run.run(hangs, tmp_path, spare=25.0)
    assert "ended after 1 s" in ended.verdict and not ended.passed, "only what is told its time has more"
    hangs = run.Part("slow", ("-c", f"import time; time.sleep({PATIENCE})"), 0.5, "slow.txt", elastic=True)
    ended = run.run(hangs, tmp_path, spare=0.5)
    assert "ended after 1 s" in ended.verdict and ended.passed, "it has what it could do in the time"


@pytest.mark.parametrize(
    ("note", "contender", "why"),
    [
        ("whole-fit kernel", "gpumlp", ""),
        ("skipped: RuntimeError: the whole-fit kernel was given up: boom", "gpumlp", "boom"),
        ("whole-fit kernel", "PyTorch", "gpumlp was not measured"),
        (None, "", "gpumlp was not measured"),
    ],
)
def test_a_part_that_is_ended_is_judged_by_the_rows_that_it_had(
    scripts, tmp_path, monkeypatch, note, contender, why
):  # fmt: skip
    import rows
    import run

    values = [] if note and note.startswith("skipped") else [1.0]
    row = rows.gpu_row("training", "w", contender, "us", values, [], (), "a GPU", note=note or "")

    def run_until_its_limit(command, limit, **how):
        if note is not None:
            rows.write(tmp_path / "gpu_training.csv", [row])
        return None, ""

    monkeypatch.setattr(run.limited, "run", run_until_its_limit)
    part = run.Part("training", ("script.py",), PATIENCE, "gpu_training.csv", gate=True, elastic=True)
    ended = run.run(part, tmp_path)
    assert ended.passed == (not why) and why in ended.verdict and "ended after" in ended.verdict


def test_rows_that_are_written_anew_are_whole_or_the_ones_before(scripts, tmp_path):
    import rows

    path = tmp_path / "gpu_training.csv"
    before = [rows.gpu_row("training", "w", "gpumlp", "us", [1.0], [], (), "a GPU")]
    rows.write(path, before)
    with pytest.raises(TypeError):  # the second row cannot be written: as if the process were ended there
        rows.write(path, [before[0], object()])
    assert [(r.contender, r.median) for r in rows.read(path)] == [("gpumlp", 1.0)]


def test_a_gpu_that_is_gone_and_rows_of_an_earlier_run_are_no_success(scripts, tmp_path):
    import rows
    import run

    gone = run.Part("first", ("-c", "print('skipped: there is no NVIDIA driver')"), PATIENCE, gate=True)
    outcome = run.run(gone, tmp_path)
    assert not outcome.passed
    old = rows.gpu_row("training", "old net", "gpumlp", "us", [1.0], [], (), "a GPU")
    rows.write(tmp_path / "gpu_training.csv", [old])
    assert "old net" not in run.summary([outcome], tmp_path)
    assert "old net" in run.summary([run.Outcome("training", "1 rows", 1.0)], tmp_path)


def test_rows_of_a_gpu_survive_their_file_and_make_a_table(scripts, tmp_path):
    import rows
    import run
    import tables

    made = [
        rows.gpu_row(
            "kernel", "dense_forward 1x2x3", name, "us", values, [10.0, 10.0, 10.0], ("numpy",), "a GPU", **more
        )
        for name, values, more in (
            ("gpumlp", [10.0, 10.0, 10.0], {"rate": 30.0, "rate_unit": "TFLOP/s", "share": 0.6}),
            ("cuBLAS alone", [8.0, 9.0, 12.0], {"rate": 33.0, "rate_unit": "TFLOP/s", "share": 0.66}),
        )
    ]
    made.append(
        rows.gpu_row("kernel", "adam 5", "PyTorch", "us", [], [], ("numpy",), "a GPU", note="skipped: no torch")
    )
    rows.write(tmp_path / "gpu_kernels.csv", made)
    found = rows.read(tmp_path / "gpu_kernels.csv")
    assert [repr(r) for r in found] == [repr(r) for r in made]  # NaN is not equal to itself, but reads the same
    assert found[1].ratio == pytest.approx(0.9) and found[1].share == pytest.approx(0.66)
    table = tables.rate_table(found)
    assert "| cuBLAS alone | 9 [8, 12] us | 33 TFLOP/s | 66% | 0.90 [0.80, 1.20] |" in table
    assert "PyTorch" not in table
    assert "cuBLAS alone takes 0.90x of our time" in "\n".join(run.against_cublas(found))


def test_a_sanitizers_words_are_judged(scripts):
    import sanitize

    assert sanitize.verdict(0, "...\n========= ERROR SUMMARY: 0 errors\n")[1]
    assert not sanitize.verdict(99, "========= ERROR SUMMARY: 2 errors")[1]
    assert not sanitize.verdict(1, "========= ERROR SUMMARY: 0 errors")[1], "the check itself failed"
    assert sanitize.verdict(1, "========= Error: Device not supported. Please refer to ...")[1]
    assert not sanitize.verdict(None, "")[1]
    assert not sanitize.verdict(127, "")[1]


def test_a_contender_that_fails_says_why(scripts):
    from turns import Worker

    worker = Worker("gpu step", "no such contender", "1-256x7-1, batch 20")
    with pytest.raises(RuntimeError, match="no such contender"):
        worker.ready(30)
    worker.close()


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_the_microbenchmarks_compile(scripts, arch):
    pytest.importorskip("cuda.bindings.nvrtc", reason="the CUDA bindings with NVRTC are not installed")
    import exchanges
    import launcher

    for text in (launcher.SOURCE.read_text(), *(exchanges.text(tags, 112) for tags in exchanges.WAYS.values())):
        try:
            code = launcher.compiled(text, arch)
        except RuntimeError as error:
            if "does not compile" in str(error):
                raise
            pytest.skip(f"NVRTC cannot be used here: {error}")
        assert code.startswith(b"\x7fELF")


# ---- the whole-fit kernel: what it waits for, and what is predicted of it -------------------------------------------


@pytest.mark.parametrize("way", ["barrier", "tags"])
@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_every_value_of_an_exchange_arrives(scripts, way, blocks):
    import exchanges

    runtime = HostRuntime(seed=blocks, mutate=lambda file, text: text + exchanges.SOURCE.read_text())
    count, rounds = 50, 4
    defines = exchanges.defines(exchanges.WAYS[way], count) | {"THREADS": 32}
    packets, arrivals = runtime.zeros((2 * count, 4), np.uint32), runtime.zeros(1, np.uint32)
    values, failures = runtime.zeros(3 * count, np.float32), runtime.zeros(1, np.uint32)
    values[:] = start = np.arange(3 * count, dtype=np.float32)
    words = (packets, arrivals, values, failures, rounds)
    runtime.launch("exchange.cuh", "rounds", defines, (blocks, 1), words, cooperative=True)
    assert np.array_equal(values, start + rounds) and not failures[0]
    arrivals[:] = 0
    words = (packets, arrivals, failures, rounds)
    runtime.launch("exchange.cuh", "barriers", defines, (blocks, 1), words, cooperative=True)
    assert arrivals[0] == rounds * blocks and not failures[0]


class HostCupy:
    """What the microbenchmarks ask of CuPy; its arrays are the host kernels', its clock counts launches."""

    class Array(np.ndarray):
        def get(self):
            return np.array(self)

    uint32 = np.uint32
    launches = 0

    def __init__(self, multiprocessors):
        attributes = {"MultiProcessorCount": multiprocessors}
        outer = self

        class Event:
            def record(self):
                self.time = outer.launches

            def synchronize(self): ...

        self.cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(attributes=attributes), Event=Event,
            get_elapsed_time=lambda begin, end: float(end.time - begin.time),
        )  # fmt: skip

    def asarray(self, values):
        return aligned_copy(np.asarray(values)).view(self.Array)

    def zeros(self, shape, dtype):
        return self.asarray(np.zeros(shape, dtype))


def test_the_exchanges_are_measured_and_a_broken_one_is_not(scripts, monkeypatch):
    import exchanges
    import measure
    from report import Report

    cupy = HostCupy(multiprocessors=4)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    for name, value in {"WITHIN": 3, "CHECKED": 3, "REPEATS": 1}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(exchanges, "THREADS", 32)
    monkeypatch.setattr(exchanges, "SIZES", {"20 x 2": 14, "20 x 1": 7})
    broken = False

    class Kernels:
        def __init__(self, text):
            text = text.replace("+ 1.0f", "+ 2.0f") if broken else text
            self.runtime = HostRuntime(mutate=lambda file, _: text)

        def function(self, name):
            return name

        def launch(self, name, blocks, threads, words, cooperative):
            assert cooperative and threads == 32
            cupy.launches += 1
            words = tuple(int(w) if isinstance(w, np.integer) else w for w in words)
            self.runtime.launch("exchange.cuh", name, {"THREADS": threads}, (blocks, 1), words, cooperative=True)

    monkeypatch.setattr(exchanges, "Kernels", Kernels)
    out = Report(None, "micro")
    exchanges.measured(None, out)
    assert len(out.rows) == 2 * 2 * 2 + 2  # sizes, ways, 2 and 4 blocks; barriers
    assert not [r.note for r in out.rows if r.median != r.median]
    broken = True
    out = Report(None, "micro")
    exchanges.measured(None, out)
    assert {r.note for r in out.rows if r.workload.startswith("exchange")} == {
        "skipped: RuntimeError: values were lost or late"
    }


def micro_rows(clock=1.98, barrier=0.9, tags=0.5, link=0.1, cache=5.0, blocks=(2, 64, 128)):
    """Rows as a GPU of these constants would give: microseconds, and terabytes a second."""
    import constants
    import exchanges
    import rows

    def row(workload, contender, value, **more):
        return rows.gpu_row("micro", workload, contender, "us", [value], [], (), "a GPU; driver 1", **more)

    found = [row(constants.CLOCK, "a spinning thread", 5.0, rate=clock, rate_unit="GHz", note="sm_90")]
    found.append(row(constants.NODE[0].format(1000), constants.NODE[1], 1.25))
    for number in blocks:
        for size, packets in exchanges.SIZES.items():
            for way, wait in (("barrier", barrier), ("tags", tags)):
                value = wait + 16 * packets / (min(link, cache / number) * 1e6)
                found.append(row(exchanges.workload(size, number), way, value))
    return found


def test_constants_of_the_cost_model_come_out_of_rows(scripts):
    import constants

    from gpumlp.engine import cost

    line = constants.line(micro_rows())
    made = eval("{" + line.partition("#")[0] + "}", {"Machine": cost.Machine})["sm_90"]  # as it is pasted
    assert (made.clock, made.node, made.source) == (1.98e9, 1.25e-6, "measured")
    assert made.barrier == pytest.approx(0.9e-6, rel=1e-2) and made.tags == pytest.approx(0.5e-6, rel=1e-2)
    assert (made.link, made.cache) == (pytest.approx(0.1e12, rel=1e-2), pytest.approx(5e12, rel=1e-2))
    assert "a GPU; 64 blocks" in line
    assert "2 blocks" in constants.line(micro_rows(blocks=(2,)))
    assert constants.line(micro_rows(clock=math.nan)).startswith("no constants")
    assert constants.line(micro_rows(link=-0.1)).startswith("no constants"), "the larger exchange was faster"
    assert constants.line([]).startswith("no constants")


def test_rounds_go_on_while_there_is_time_and_are_never_too_few(scripts, monkeypatch, tmp_path):
    import contest
    from report import Report
    from workloads import Workload

    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now

    class Stand:
        def turn(self, patience):
            clock.now += 2.0
            return {"seconds": 1e-5}

    monkeypatch.setattr(contest, "time", clock)
    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    one = contest.Contest("gpu step", "us per step", 1e6, lambda w: w.steps)
    for seconds, rounds in ((0.0, contest.LEAST), (9.0, 5), (100.0, contest.ROUNDS)):
        out = Report(tmp_path / "rows.csv", "training")
        one._timed({contest.OURS: Stand()}, Workload("w", (1, 2, 1), 4, 5), out, seconds)
        assert [row.repeats for row in out.rows] == [rounds]


def test_each_workload_has_its_part_of_the_time_and_who_comes_too_late_is_told(scripts, monkeypatch, tmp_path):
    import contest
    from report import Report
    from workloads import Workload

    clock, parts = SimpleNamespace(now=0.0), []
    clock.perf_counter = lambda: clock.now

    def measure(workload, seconds):
        parts.append((workload.name, seconds))
        clock.now += 30.0

    monkeypatch.setattr(contest, "time", clock)
    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    out = Report(tmp_path / "rows.csv", "training")
    contest.each_its_part([Workload(n, (1, 1), 1, 1) for n in "abcd"], out, 90.0, "us per step", measure)
    assert parts == [("a", 22.5), ("b", 20.0), ("c", 15.0)]
    assert [(row.workload, row.note) for row in out.rows] == [("d", "skipped: the 90 seconds are over")]


def test_contests_need_agreement_and_report_who_is_out(scripts, monkeypatch, tmp_path):
    import contest
    import rows
    import run
    import tables
    from report import Report
    from workloads import Workload

    class Stand:
        def __init__(self, suite, name, workload):
            self.contender, self.n = name, 0

        def ready(self, patience):
            if self.contender == "late":
                raise RuntimeError("no answer within 60 s")

        def ask(self): ...

        def answer(self, patience):
            self.n += 1
            more = {"program": "whole-fit", "predicted": 2e-6} if self.contender == "gpumlp" else {}
            return {"seconds": 1e-5 * self.n, "loss": losses.get(self.contender, 1.0), **more}

        def turn(self, patience):
            return self.answer(patience)

        def close(self, patience): ...

    names = ("gpumlp", "peer", "wrong", "late", "sgd", "peer, sgd", "wrong, sgd", "absent")
    losses = {"wrong": 9.0, "sgd": 2.0, "peer, sgd": 2.01}
    beside = {name: "sgd" for name in names if name.endswith("sgd")}
    packages = {"absent": ("no_such_package",)}
    suite = {name: (None, packages.get(name, ("numpy",))) for name in names}
    workload = Workload("w", (1, 2, 1), 4, 5, epochs=2)
    monkeypatch.setitem(contest.SUITES, "stand", (suite, {"w": workload}))
    monkeypatch.setattr(contest, "Worker", Stand)
    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    monkeypatch.setattr(contest, "time", SimpleNamespace(perf_counter=lambda: 0.0))  # all rounds have their time
    out = Report(tmp_path / "gpu_training.csv", "training")
    contest.Contest("stand", "us per step", 1e6, lambda w: w.steps * w.epochs, beside).measure(workload, out, 1.0)
    found = rows.read(tmp_path / "gpu_training.csv")
    ours, peer = (next(r for r in found if (r.contender, r.workload) == (n, "w")) for n in ("gpumlp", "peer"))
    assert (ours.predicted, ours.note, ours.repeats) == (2.0, "whole-fit", contest.ROUNDS)
    assert peer.ratio == 1.0 and math.isnan(peer.predicted)
    why = {r.contender: r.note for r in found if r.median != r.median}
    assert "not the same work" in why["wrong"] and "no answer" in why["late"] and "not installed" in why["absent"]
    assert why["wrong, sgd"].startswith("skipped: RuntimeError: its loss is 1.0, not 2.0 as sgd's")
    assert contest.lost(out.rows) == ""
    losses["gpumlp"] = 3.7  # which no peer has
    out = Report(None, "training")
    contest.Contest("stand", "us per step", 1e6, lambda w: w.steps * w.epochs, beside).measure(workload, out, 1.0)
    assert "its loss is nobody else's: 3.7, and the peers' are 1.0" in contest.lost(out.rows)
    notes = {r.contender: r.note for r in found if r.workload == "w"}
    assert "to be read beside sgd" in notes["peer, sgd"] and notes["sgd"] == notes["peer"] == "10 steps a turn"
    assert "(predicted 2)" in "\n".join(run.against_peers([r for r in found if r.median == r.median]))
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    text = tables.filled("<!-- table gpu_training -->\n<!-- end -->\n<!-- table gpu_ensemble -->\nold\n<!-- end -->\n")
    assert "| predicted, not measured |" in text and "| 2 us per step |" in text and "first turns" not in text
    assert text.endswith("<!-- table gpu_ensemble -->\n<!-- end -->\n"), "where there are no rows there are no words"


def test_those_who_are_awaited_one_by_one_have_one_patience_for_all(scripts, monkeypatch, tmp_path):
    import contest
    from report import Report
    from workloads import Workload

    clock, given = SimpleNamespace(now=0.0), []
    clock.perf_counter = lambda: clock.now

    class Hangs:
        def __init__(self, suite, name, workload):
            self.contender = name

        def ready(self, patience):
            given.append(patience)
            clock.now += patience
            raise RuntimeError("no answer")

        ask = None

        def close(self, patience): ...

    workload = Workload("w", (1, 2, 1), 4, 5)
    monkeypatch.setitem(contest.SUITES, "stand", ({name: (None, ("numpy",)) for name in "abc"}, {"w": workload}))
    monkeypatch.setattr(contest, "Worker", Hangs)
    monkeypatch.setattr(contest, "time", clock)
    monkeypatch.setattr("environment.gpu", lambda: "a GPU")
    out = Report(None, "training")
    contest.Contest("stand", "us per step", 1e6, lambda w: w.steps).measure(workload, out, 1.0, patience=90.0)
    assert given == [90.0, 0.0, 0.0] and len(out.rows) == 3


def test_resources_of_the_whole_fit_kernel_are_those_of_its_plans(scripts):
    pytest.importorskip("cuda.core", reason="cuda.core is not installed")
    import fit_cases
    import resources

    fits = [resources.planned(case)[0] for case in fit_cases.CASES]
    page = (ROOT / "kernels" / "RESOURCES.md").read_text()
    assert resources.launches(page) == resources.launches("\n" + resources.fits_table(fits)), "run make resources"
