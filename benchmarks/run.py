"""Measure gpumlp beside its peers on this machine: ``python benchmarks/run.py``; rows go to benchmarks/results/.

Whole jobs are measured as a user gets them (jobs.py), products of matrices in one process (products.py). For the rest:
contenders take turns, one after the other, for several rounds, and ratios are taken within a round: a machine that is
slow for a while is slow for all. Each contender lives in a process of its own; before timing, all must reach the same
losses from the same weights, and those that predict the same outputs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import holding
import jobs
import rows
import sklearn_jobs
from suites import SUITES
from turns import Worker, same_loss

HERE = Path(__file__).parent
SCRIPT = (HERE.parent / "examples" / "sine.py").read_text()
OURS = "gpumlp, compiled"  # in the suites, what the others' ratios refer to
PAUSE = 0.2  # seconds between turns: idle thread pools go on spinning for a while
# Variables of these names would change what a script's process does; the last one has Python compile gpumlp each time.
LEFT_OUT = ("GPUMLP_", "NUMBA_", "JAX_", "KERAS_", "PYTHONDONTWRITEBYTECODE")


def installed(packages: Sequence[str]) -> bool:
    """Whether all of the packages are here."""
    modules = {"scikit-learn": "sklearn"}
    return all(find_spec(modules.get(p, p)) is not None for p in packages)


def in_turns(
    suite: str, unit: str, per_second: float, repeats: int, only: Sequence[str] = ()
) -> Iterator[list[rows.Row]]:
    """Measure a suite's workloads, or only those named; a member's step takes so many units of 1/per_second s."""
    contenders, workloads = SUITES[suite]
    here = [name for name, (_, packages) in contenders.items() if installed(packages)]
    if missing := [name for name in contenders if name not in here]:
        print(f"not installed, and left out: {', '.join(missing)}", flush=True)
    if OURS not in here:
        raise SystemExit(f"{OURS!r}, which the others are compared with, needs {' and '.join(contenders[OURS][1])}.")
    for workload in workloads.values():
        if only and workload.name not in only:
            continue
        seconds = timed(workload.name, {name: started(suite, name, workload.name) for name in here}, repeats)
        each = {
            name: [s / (workload.steps * workload.members) * per_second for s in values]
            for name, values in seconds.items()
        }
        yield [
            rows.row(suite, workload.name, name, unit, values, each[OURS], contenders[name][1])
            for name, values in each.items()
        ]


def timed(workload: str, workers: dict[str, Worker], repeats: int) -> dict[str, list[float]]:
    """Return each worker's seconds of every round; before them come two turns: one that compiles and is verified."""
    try:
        verify(workload, {name: turn(w)["loss"] for name, w in workers.items()})
        for w in workers.values():
            turn(w)
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(repeats):
            for name, w in workers.items():
                seconds[name].append(turn(w)["seconds"])
        return seconds
    finally:
        for w in workers.values():
            w.close()


def started(suite: str, contender: str, workload: str) -> Worker:
    """Return the contender's process, ready to take turns."""
    worker = Worker(suite, contender, workload)
    worker.ready()
    return worker


def turn(worker: Worker) -> dict[str, Any]:
    """Return a turn's seconds and loss, after a pause in which the others' threads fall asleep."""
    time.sleep(PAUSE)
    return worker.turn()


def verify(workload: str, losses: dict[str, float | None]) -> None:
    """Raise RuntimeError unless every contender that tells its loss reached ours; predictors verify themselves."""
    for name, value in losses.items():
        if not same_loss(value, losses[OURS]):
            raise RuntimeError(f"{workload}: {name} has the loss {value}, {OURS} {losses[OURS]}: not the same work.")


@dataclass(frozen=True)
class Script:
    """A script to run as a process: its text, the packages whose versions count, and the variables it is given."""

    code: str
    packages: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)


def process(script: Script) -> tuple[float, float]:
    """Run a script; return wall seconds and peak resident MiB.

    It runs in a folder of its own, where compiled kernels are cached too unless its variables name another: nothing is
    cached before. Of variables that could change what it does it has its own only.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.py"
        file.write_text(script.code)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
        cache = {"GPUMLP_CACHE": str(Path(folder) / "cache")}
        time.sleep(PAUSE)
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, str(file)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**inherited, **holding.variables(), "MPLBACKEND": "Agg", **cache, **script.variables},
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"The script failed with status {child.returncode}:\n{script.code}")
    return seconds, usage.ru_maxrss / 1024


def article(repeats: int) -> Iterator[list[rows.Row]]:
    """Measure the article's whole script as a process: wall time and peak memory.

    Compiled kernels come with the package: one row says what NumPy takes in their place. Without plots nothing imports
    matplotlib, whose import alone is a row.
    """
    keras = SCRIPT.replace("from gpumlp import", "from keras import")
    ours, cpu = ("gpumlp", "numpy"), {"GPUMLP_DEVICE": "cpu"}
    variants = {
        "gpumlp": Script(SCRIPT, ours, cpu),
        "gpumlp, NumPy": Script(SCRIPT, ours, {**cpu, "GPUMLP_KERNELS": "numpy"}),
        "gpumlp, without plots": Script(without_plots(SCRIPT), ours, cpu),
        "matplotlib.pyplot, imported alone": Script("import matplotlib.pyplot", ("numpy", "matplotlib")),
        "Keras on JAX": Script(keras, ("keras", "jax"), {"KERAS_BACKEND": "jax"}),
        "Keras on TensorFlow": Script(keras, ("keras", "tensorflow"), {"KERAS_BACKEND": "tensorflow"}),
    }
    return processes("script", "the article's script, 10 x 10", variants, repeats, memory=True)


def without_plots(script: str) -> str:
    """Return a script without the lines that draw."""
    return "\n".join(line for line in script.splitlines() if "matplotlib" not in line and not line.startswith("plt."))


def imports(repeats: int) -> Iterator[list[rows.Row]]:
    """Measure a process that imports gpumlp beside one that imports NumPy."""
    variants = {
        "gpumlp": Script("import gpumlp", ("gpumlp", "numpy")),
        "NumPy alone": Script("import numpy", ("numpy",)),
    }
    return processes("import", "a process that only imports", variants, 4 * repeats, memory=False)


def processes(
    benchmark: str, workload: str, variants: dict[str, Script], repeats: int, memory: bool
) -> Iterator[list[rows.Row]]:
    """Run the variants' scripts in turn; return rows of their wall times, and of their peak memory on request.

    Ratios refer to the first variant.
    """
    here = {name: script for name, script in variants.items() if installed(script.packages)}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in here}
    for turn in range(repeats + 1):
        for name, script in here.items():
            measured = process(script)
            if turn:  # the first one only warms the file cache, and a variant's own
                results[name].append(measured)
    found = []
    for i, unit in enumerate(("s", "MiB peak") if memory else ("s",)):
        ours = [r[i] for r in next(iter(results.values()))]
        for name, script in here.items():
            values = [r[i] for r in results[name]]
            found.append(rows.row(benchmark, workload, name, unit, values, ours, script.packages))
    yield found


def products(chosen: argparse.Namespace) -> Iterator[list[rows.Row]]:
    """Measure products of matrices, in a process that begins under the variables that hold its libraries."""
    from products import SHAPES

    shapes = [shape for shape in SHAPES if not chosen.workload or shape in chosen.workload]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "products.py"), "--repeats", str(chosen.repeats), "--output", folder]
        if shapes:
            subprocess.run([*command, *(f"--shape={shape}" for shape in shapes)], check=True)
            yield known("products", Path(folder))


def whole_jobs(chosen: argparse.Namespace) -> Iterator[list[rows.Row]]:
    """Measure whole jobs, of a workload the shorter first."""
    for workload in (name for name in jobs.JOBS if not chosen.workload or name in chosen.workload):
        for length in chosen.length or jobs.LENGTHS:
            yield jobs.measure(workload, length, chosen.repeats, known("jobs", chosen.output), chosen.launcher)


def estimators(chosen: argparse.Namespace) -> Iterator[list[rows.Row]]:
    """Measure gpumlp.sklearn's estimators beside scikit-learn's."""
    for name, fit in sklearn_jobs.FITS.items():
        if not chosen.workload or name in chosen.workload:
            yield sklearn_jobs.measure(fit, chosen.repeats)


def show(r: rows.Row) -> None:
    """Print a row."""
    print(
        f"{r.instructions:<7}{r.workload:<42} {r.contender:<36} {r.median:>9.4g} {r.unit:<11} "
        f"[{r.low:.4g}, {r.high:.4g}]   {r.ratio:.2f}x [{r.ratio_low:.2f}, {r.ratio_high:.2f}]",
        flush=True,
    )


def known(benchmark: str, folder: Path) -> list[rows.Row]:
    """Return the rows that a benchmark has in a folder."""
    path = folder / f"cpu_{benchmark}.csv"
    return rows.read(path) if path.exists() else []


def suite(name: str, unit: str, per_second: float) -> Benchmark:
    """Return the benchmark of a suite."""
    return lambda chosen: in_turns(name, unit, per_second, chosen.repeats, chosen.workload or ())


Benchmark = Callable[[argparse.Namespace], Iterator[list[rows.Row]]]  # rows come workload by workload
BENCHMARKS: dict[str, Benchmark] = {
    "import": lambda chosen: imports(chosen.repeats),
    "script": lambda chosen: article(chosen.repeats),
    "jobs": whole_jobs,
    "step": suite("step", "ms per step", 1e3),
    "calls": suite("calls", "us per call", 1e6),
    "predict": suite("predict", "us per call", 1e6),
    "ensemble": suite("ensemble", "us per step of one model", 1e6),
    "sklearn": estimators,
    "products": products,
}
SETS = ("avx512", "avx2")
OF_EACH_SET = ("jobs", "products")  # of the others, only what this machine does by itself


def main() -> None:
    """Run the chosen benchmarks, and write their rows into the place of those of the same workloads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="one of the benchmarks (default: all)")
    parser.add_argument("--workload", action="append", help="one of the workloads, by its name (default: all)")
    parser.add_argument("--length", type=float, choices=jobs.LENGTHS, action="append", help="seconds of the jobs")
    parser.add_argument(
        "--cpu", choices=holding.VARIABLES, action="append",
        help=f"the instruction set that all are held to (default: {' and '.join(SETS)} for "
        f"{' and '.join(OF_EACH_SET)}, the best for the others)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument(
        "--launcher", type=str.split, default=[], help="a command that starts each job, as taskset -c 0"
    )
    parser.add_argument("--output", type=Path, default=rows.RESULTS, help="folder of the rows")
    chosen = parser.parse_args()
    written = 0
    print(f"{rows.machine()}; load {', '.join(f'{part:.1f}' for part in os.getloadavg())}; {rows.commit()}", flush=True)
    for name in chosen.only or BENCHMARKS:
        for instructions in chosen.cpu or (SETS if name in OF_EACH_SET else (None,)):
            if why := holding.hold(instructions):
                print(why, flush=True)
                continue
            for found in BENCHMARKS[name](chosen):
                for r in found:
                    show(r)
                written += len(found)
                rows.write(chosen.output / f"cpu_{name}.csv", rows.replaced(known(name, chosen.output), found))
    if chosen.workload and not written:
        raise SystemExit(f"There is no workload {' or '.join(chosen.workload)} in what was to be measured.")


if __name__ == "__main__":
    main()
