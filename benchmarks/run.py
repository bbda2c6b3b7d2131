"""Measure gpumlp beside its peers on this machine: ``python benchmarks/run.py``; rows go to benchmarks/results/.

Contenders take turns, one after the other, for several rounds, and ratios are taken within a round: a machine that is
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rows
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


def in_turns(suite: str, unit: str, per_second: float, repeats: int, only: Sequence[str] = ()) -> list[rows.Row]:
    """Measure a suite's workloads, or only those named; a member's step takes so many units of 1/per_second s."""
    contenders, workloads = SUITES[suite]
    here = [name for name, (_, packages) in contenders.items() if installed(packages)]
    if missing := [name for name in contenders if name not in here]:
        print(f"not installed, and left out: {', '.join(missing)}", flush=True)
    if OURS not in here:
        raise SystemExit(f"{OURS!r}, which the others are compared with, needs {' and '.join(contenders[OURS][1])}.")
    out = []
    for workload in workloads.values():
        if only and workload.name not in only:
            continue
        seconds = timed(workload.name, {name: started(suite, name, workload.name) for name in here}, repeats)
        each = {
            name: [s / (workload.steps * workload.members) * per_second for s in values]
            for name, values in seconds.items()
        }
        for name, values in each.items():
            out.append(rows.row(suite, workload.name, name, unit, values, each[OURS], contenders[name][1]))
            show(out[-1])
    return out


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
            [sys.executable, str(file)], env={**inherited, "MPLBACKEND": "Agg", **cache, **script.variables},
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"The script failed with status {child.returncode}:\n{script.code}")
    return seconds, usage.ru_maxrss / 1024


def article(repeats: int) -> list[rows.Row]:
    """Measure the article's whole script as a process: wall time and peak memory.

    gpumlp's three are what a first user gets, the same with a cache of compiled kernels, and these kernels whether the
    rule takes them or not. Those with a cache share it, and the compiled one's first run, not timed, fills it.
    """
    keras = SCRIPT.replace("from gpumlp import", "from keras import")
    compiled = SCRIPT + '\nassert model.device.kernels == "numba", model.device\n'
    numba = ("gpumlp", "numpy", "numba")
    with tempfile.TemporaryDirectory() as cache:
        cpu = {"GPUMLP_DEVICE": "cpu"}
        warm = {**cpu, "GPUMLP_CACHE": cache}
        variants = {
            "gpumlp, nothing cached": Script(SCRIPT, ("gpumlp", "numpy"), cpu),
            "gpumlp, warm compile cache": Script(SCRIPT, numba, warm),
            "gpumlp, compiled, warm cache": Script(compiled, numba, {**warm, "GPUMLP_KERNELS": "numba"}),
            "Keras on JAX": Script(keras, ("keras", "jax"), {"KERAS_BACKEND": "jax"}),
            "Keras on TensorFlow": Script(keras, ("keras", "tensorflow"), {"KERAS_BACKEND": "tensorflow"}),
        }
        return processes("script", "the article's script, 10 x 10", variants, repeats, memory=True)


def imports(repeats: int) -> list[rows.Row]:
    """Measure a process that imports gpumlp beside one that imports NumPy."""
    variants = {
        "gpumlp": Script("import gpumlp", ("gpumlp", "numpy")),
        "NumPy alone": Script("import numpy", ("numpy",)),
    }
    return processes("import", "a process that only imports", variants, 4 * repeats, memory=False)


def processes(benchmark: str, workload: str, variants: dict[str, Script], repeats: int, memory: bool) -> list[rows.Row]:
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
    out = []
    for i, unit in enumerate(("s", "MiB peak") if memory else ("s",)):
        ours = [r[i] for r in next(iter(results.values()))]
        for name, script in here.items():
            values = [r[i] for r in results[name]]
            out.append(rows.row(benchmark, workload, name, unit, values, ours, script.packages))
            show(out[-1])
    return out


def show(r: rows.Row) -> None:
    """Print a row."""
    print(
        f"{r.workload:<30} {r.contender:<31} {r.median:>9.4g} {r.unit:<11} [{r.low:.4g}, {r.high:.4g}]"
        f"   {r.ratio:.2f}x [{r.ratio_low:.2f}, {r.ratio_high:.2f}]",
        flush=True,
    )


steps = partial(in_turns, "step", "ms per step", 1e3)
BENCHMARKS = {
    "import": imports,
    "script": article,
    "step": steps,
    "predict": partial(in_turns, "predict", "us per call", 1e6),
    "calls": partial(in_turns, "calls", "us per call", 1e6),
    "ensemble": partial(in_turns, "ensemble", "us per step of one model", 1e6),
}


def main() -> None:
    """Run the chosen benchmarks and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="one of the benchmarks (default: all)")
    parser.add_argument(
        "--workload", choices=SUITES["step"][1], action="append", help="only this of the step benchmark, not written"
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--output", type=Path, default=rows.RESULTS, help="folder of the rows")
    chosen = parser.parse_args()
    if chosen.workload:
        steps(chosen.repeats, chosen.workload)
        return
    for name in chosen.only or BENCHMARKS:
        rows.write(chosen.output / f"cpu_{name}.csv", BENCHMARKS[name](chosen.repeats))


if __name__ == "__main__":
    main()
