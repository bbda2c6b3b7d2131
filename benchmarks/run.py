"""Measure gpumlp beside its peers on this machine: ``python benchmarks/run.py``; rows go to benchmarks/results/.

Contenders take turns, one after the other, for several rounds, and ratios are taken within a round: a machine that is
slow for a while is slow for all. Each contender lives in a process of its own; before timing, all must reach the same
losses from the same weights.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rows
from contenders import CONTENDERS
from turns import Worker, same_loss
from workloads import STEPS

HERE = Path(__file__).parent
SCRIPT = (HERE.parent / "examples" / "sine.py").read_text()
OURS = "gpumlp, NumPy"
PAUSE = 0.2  # seconds between turns: idle thread pools go on spinning for a while


def installed() -> list[str]:
    """Return the contenders whose packages are here, ours first."""
    modules = {"scikit-learn": "sklearn"}
    return [
        name
        for name, (_, packages) in CONTENDERS.items()
        if all(find_spec(modules.get(p, p)) is not None for p in packages)
    ]


def steps(repeats: int) -> list[rows.Row]:
    """Measure milliseconds per training step of every workload and contender."""
    out = []
    for workload in STEPS.values():
        workers = {name: started(name, workload.name) for name in installed()}
        verify(workload.name, {name: turn(w)["loss"] for name, w in workers.items()})  # the first turn also compiles
        for w in workers.values():
            turn(w)
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(repeats):
            for name, w in workers.items():
                seconds[name].append(turn(w)["seconds"])
        for w in workers.values():
            w.close()
        for name, values in seconds.items():
            ms = [v / workload.steps * 1e3 for v in values]
            ours = [v / workload.steps * 1e3 for v in seconds[OURS]]
            out.append(rows.row("step", workload.name, name, "ms per step", ms, ours, CONTENDERS[name][1]))
            show(out[-1])
    return out


def started(contender: str, workload: str) -> Worker:
    """Return the contender's process, ready to take turns."""
    worker = Worker(contender, workload)
    worker.ready()
    return worker


def turn(worker: Worker) -> dict[str, Any]:
    """Return a turn's seconds and loss, after a pause in which the others' threads fall asleep."""
    time.sleep(PAUSE)
    return worker.turn()


def verify(workload: str, losses: dict[str, float | None]) -> None:
    """Raise RuntimeError unless every contender that tells its loss reached ours."""
    for name, value in losses.items():
        if not same_loss(value, losses[OURS]):
            raise RuntimeError(f"{workload}: {name} has the loss {value}, {OURS} {losses[OURS]}: not the same work.")


def process(code: str, environment: dict[str, str]) -> tuple[float, float]:
    """Run ``code`` as a script; return wall seconds and peak resident MiB."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(code)
        everything = {**os.environ, "MPLBACKEND": "Agg", **environment}
        time.sleep(PAUSE)
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, str(script)], env=everything, cwd=folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
    if status:
        raise RuntimeError(f"The script failed with status {status}:\n{code}")
    return seconds, usage.ru_maxrss / 1024


def script(repeats: int) -> list[rows.Row]:
    """Measure the article's whole script as a process: wall time and peak memory."""
    keras = SCRIPT.replace("from gpumlp import", "from keras import")
    variants = {
        OURS: (SCRIPT, {"GPUMLP_DEVICE": "cpu"}),
        "Keras on JAX": (keras, {"KERAS_BACKEND": "jax"}),
        "Keras on TensorFlow": (keras, {"KERAS_BACKEND": "tensorflow"}),
    }
    return processes("script", "the article's script, 10 x 10", variants, repeats, memory=True)


def imports(repeats: int) -> list[rows.Row]:
    """Measure a process that imports gpumlp beside one that imports NumPy."""
    variants = {OURS: ("import gpumlp", {}), "NumPy alone": ("import numpy", {})}
    return processes("import", "a process that only imports", variants, 4 * repeats, memory=False)


def processes(
    benchmark: str, workload: str, variants: dict[str, tuple[str, dict[str, str]]], repeats: int, memory: bool
) -> list[rows.Row]:
    """Run each variant's script in turn; return rows of its wall time, and of its peak memory on request."""
    here = [name for name in variants if name in installed() or name not in CONTENDERS]
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in here}
    for turn in range(repeats + 1):
        for name in here:
            measured = process(*variants[name])
            if turn:  # the first one only warms the file cache
                results[name].append(measured)
    out = []
    for i, unit in enumerate(("s", "MiB peak") if memory else ("s",)):
        for name in here:
            values, ours = ([r[i] for r in results[k]] for k in (name, OURS))
            packages = CONTENDERS[name][1] if name in CONTENDERS else ("numpy",)
            out.append(rows.row(benchmark, workload, name, unit, values, ours, packages))
            show(out[-1])
    return out


def show(r: rows.Row) -> None:
    """Print a row."""
    print(
        f"{r.workload:<30} {r.contender:<20} {r.median:>9.4g} {r.unit:<11} [{r.low:.4g}, {r.high:.4g}]"
        f"   {r.ratio:.2f}x [{r.ratio_low:.2f}, {r.ratio_high:.2f}]",
        flush=True,
    )


BENCHMARKS = {"import": imports, "script": script, "step": steps}


def main() -> None:
    """Run the chosen benchmarks and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="one of the benchmarks (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--output", type=Path, default=rows.RESULTS, help="folder of the rows")
    chosen = parser.parse_args()
    missing = [name for name in CONTENDERS if name not in installed()]
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}", flush=True)
    for name in chosen.only or BENCHMARKS:
        rows.write(chosen.output / f"cpu_{name}.csv", BENCHMARKS[name](chosen.repeats))


if __name__ == "__main__":
    main()
