"""The benchmark of whole jobs: who takes part, what a job's process gets, what is verified, what the table says."""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
POLICY = "16-64-64-1, batch 64"
ARTICLE = "1-256x7-1, batch 20"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts' folder on the path, and no variables that hold anybody."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import holding

    for name in (holding.HERE, *holding.VARIABLES["avx2"]):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def avx2(monkeypatch):
    """A processor with AVX2 alone."""
    from gpumlp.backends import instruction_set

    monkeypatch.setattr(instruction_set, "available", lambda: ("avx2", "sse4"))


def told(seconds, losses=(0.5, 0.1)):
    """Return what a job tells."""
    return {"seconds": seconds, "processors": 2 * seconds, "losses": losses and list(losses), "versions": "Python 3.x"}


def made_row(name, median, instructions="avx2", workload="a: 3 s, 7 steps", unit="s", ratio=1.0):
    """Return a row."""
    import rows

    each = (median, median, median, ratio, ratio, ratio)
    return rows.Row("jobs", workload, name, unit, *each, 3, "p 1", "m", "c", "2026-01-02T03:04Z", instructions)


def test_processes_are_held_to_a_set_that_the_processor_has(avx2):
    import holding

    assert "avx512: not measured, as this processor has only avx2, sse4" in holding.hold("avx512")
    assert holding.variables() == {} and holding.hold("avx2") is None
    assert holding.variables()["GPUMLP_CPU"] == "avx2" == holding.instructions()
    assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2" and os.environ["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    assert holding.hold(None) is None and "ATEN_CPU_CAPABILITY" not in os.environ and holding.variables() == {}


def test_rows_say_their_instructions_and_old_ones_do_not(avx2, tmp_path):
    import rows

    new = rows.row("step", "w", "gpumlp", "s", [1.0], [1.0], ())
    assert new.instructions == "avx2"
    rows.write(tmp_path / "new.csv", [new])
    assert rows.read(tmp_path / "new.csv") == [new]
    lines = (tmp_path / "new.csv").read_text().splitlines()
    (tmp_path / "old.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    assert [r.instructions for r in rows.read(tmp_path / "old.csv")] == ["unknown"]


def test_rows_take_the_place_of_the_same_workload_and_set():
    import rows

    old = [made_row("x", 1.0), made_row("y", 2.0), made_row("x", 3.0, "avx512"), made_row("x", 4.0, workload="b")]
    new = [made_row("x", 5.0), made_row("z", 6.0, workload="c")]
    assert rows.replaced(old, new) == [new[0], old[2], old[3], new[1]]


def test_jobs_grow_tenfold():
    from workloads import JOBS, LENGTHS

    assert len(LENGTHS) == 3
    for job in JOBS.values():
        for shortest, short, long in job.epochs.values():
            assert long == 10 * short and 6.5 * shortest <= short <= 12 * shortest


def test_a_job_finds_nothing_cached_and_its_own_variables(avx2, monkeypatch, tmp_path):
    import holding
    import jobs

    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    said = "import json, os, sys; print('noise'); print(json.dumps([dict(os.environ), sys.argv[1:], os.listdir()]))"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{said}" "$@"\n')
    python.chmod(0o755)
    for name in ("GPUMLP_KERNELS", "JAX_PLATFORMS", "PYTHONPATH"):
        monkeypatch.setenv(name, "left over")
    assert holding.hold("avx2") is None
    contender = jobs.Contender("jax", str(tmp_path / "venv"), {"XLA_FLAGS": "--more", "KERAS_BACKEND": "jax"})
    variables, arguments, folder = jobs.run(contender, POLICY, 7, ["env", "LAUNCHED=1"])
    assert arguments == [str(BENCHMARKS / "job.py"), "jax", POLICY, "7"] and folder == []
    assert "left over" not in variables.values() and variables["LAUNCHED"] == "1"
    assert variables["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2 --more" and variables["KERAS_BACKEND"] == "jax"
    assert not Path(variables["GPUMLP_CACHE"]).exists()
    python.write_text("#!/bin/sh\necho why >&2\nexit 3\n")
    with pytest.raises(RuntimeError, match="failed with status 3:\nwhy"):
        jobs.run(contender, POLICY, 7)


@pytest.fixture
def measured(monkeypatch, avx2):
    """Returns a function: measure a job with these seconds of each contender's rounds."""
    import jobs

    def measure(length, rounds, seconds, known=(), losses=None):
        each = {name: iter(values) for name, values in seconds.items()}
        monkeypatch.setattr(jobs, "here", lambda: {name: jobs.Contender(name, "") for name in seconds})

        def run(contender, workload, epochs, launcher):
            value = next(each[contender.trainer])
            if isinstance(value, Exception):
                raise value
            return told(value, *(losses or {}).get(contender.trainer, ()))

        monkeypatch.setattr(jobs, "run", run)
        return jobs.measure(POLICY, length, rounds, known)

    return measure


def test_the_hopeless_take_one_turn_and_the_failing_none(measured):
    import jobs

    found = measured(
        3.0, 3,
        {jobs.OURS: [1, 2, 2], jobs.NUMPY: [40, 40, 40], "JAX": [2, 2, 2], "slow": [7], "bad": [RuntimeError("no")]},
    )  # fmt: skip
    times = {r.contender: r for r in found if r.unit == "s"}
    assert {name: r.repeats for name, r in times.items()} == {jobs.OURS: 3, jobs.NUMPY: 3, "JAX": 3, "slow": 1}
    assert (times["JAX"].ratio, times["JAX"].ratio_high, times["slow"].ratio) == (1.0, 2.0, 7.0)
    assert times["JAX"].workload == f"{POLICY}: 3 s, 160000 steps" and times["JAX"].versions == "Python 3.x"
    assert [r.median for r in found if r.unit == "s of processors"][:2] == [4.0, 80.0]


def test_other_work_is_not_timed(measured):
    import jobs

    seconds = {jobs.OURS: [1], "JAX": [2]}
    assert measured(0.3, 1, seconds, losses={"JAX": [None]})
    for losses in ([(0.6, 0.1)], [(0.5, float("nan"))]):
        with pytest.raises(RuntimeError, match=r"JAX has the losses .* not the same work"):
            measured(0.3, 1, seconds, losses={"JAX": losses})


def test_the_longest_is_for_the_fastest(measured):
    import jobs

    name = jobs.title(POLICY, 3.0, "avx2")
    names = {"JAX": 3.0, "torch": 2.0, "Keras": 4.0, jobs.NUMPY: 0.1, "JAX 0.6.2, no thunks": 0.1}
    known = [made_row(who, s, workload=name) for who, s in names.items()]
    seconds = {jobs.OURS: [1, 1], jobs.NUMPY: [], "Keras": [], "JAX": [2, 2], "torch": [2, 2]}
    found = measured(30.0, 3, seconds, known)
    assert {r.contender: r.repeats for r in found} == {jobs.OURS: 2, "JAX": 2, "torch": 2}
    with pytest.raises(SystemExit, match="measure it before"):
        measured(30.0, 3, seconds, [made_row("JAX", 3.0, "avx512", name)])


def test_the_table_of_jobs_has_the_fastest_peer():
    import tables

    found = [
        made_row("gpumlp", 1.0), made_row("gpumlp, NumPy", 4.0, ratio=4.0), made_row("JAX", 2.5, ratio=2.5),
        made_row("JAX 0.6.2, no thunks", 0.5, ratio=0.5), made_row("torch", 2.0, ratio=2.0),
        made_row("gpumlp", 9.0, unit="s of processors"), made_row("gpumlp", 3.0, "avx512"),
    ]  # fmt: skip
    assert tables.job_table(found).splitlines()[2:] == [
        "| a: 3 s, 7 steps | avx2 | 1 | 2.00 | torch | 4.00 |",
        "| a: 3 s, 7 steps | avx512 | 3 |  |  |  |",
    ]
    assert "instructions: avx2, avx512" in tables.source("cpu_jobs", found)
    assert "ratio: to" not in tables.source("cpu_jobs", found)


@pytest.mark.parametrize("trainer", ["gpumlp", "scikit-learn"])
def test_a_job_trains_all_its_epochs(trainer, monkeypatch):
    import job
    from workloads import Workload

    make, packages = job.TRAINERS[trainer]
    losses = make(Workload("small", (3, 5, 2), batch=4, steps=6, classes=True, epochs=3))()
    assert (losses is None) == (trainer == "scikit-learn") and packages
    assert losses is None or (len(losses) == 3 and losses[2] < losses[0])


def test_a_job_is_told_in_a_line(monkeypatch, capsys):
    import job

    monkeypatch.setattr(job, "TRAINERS", {"mine": (lambda workload: lambda: [float(workload.epochs), 2.0, 1.0], ())})
    monkeypatch.setattr(sys, "argv", ["job.py", "mine", ARTICLE, "3"])
    job.main()
    line = json.loads(capsys.readouterr().out)
    assert line["losses"] == [3.0, 1.0] and line["seconds"] >= 0 and line["versions"].startswith("Python 3")


def test_what_is_measured_is_written_piece_by_piece(avx2, monkeypatch, tmp_path, capsys):
    import run

    def pieces(chosen):
        assert isinstance(chosen, Namespace)
        yield [made_row("gpumlp", 1.0)]
        assert run.known("jobs", tmp_path)
        yield [made_row("gpumlp", 2.0, workload="b")]

    monkeypatch.setattr(run, "BENCHMARKS", {"jobs": pieces})
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "jobs", "--output", str(tmp_path)])
    run.main()
    assert [r.median for r in run.known("jobs", tmp_path)] == [1.0, 2.0]
    said = capsys.readouterr().out
    assert "avx512: not measured" in said and "load" in said.splitlines()[0]
