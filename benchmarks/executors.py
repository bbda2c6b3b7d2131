"""An ensemble trained here, and by an executor's worker processes.

    python benchmarks/executors.py --rounds 5       writes results/executors.csv

16 of the article's network, 500 steps each, on this machine's processors. Workers are there already, as they are in a
sweep; they and this process share the same processors, so that what is above 1 is what sending members and data costs.
"""

from __future__ import annotations

import argparse
import csv
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import rows

import gpumlp
from gpumlp import layers

MEMBERS, EPOCHS = 16, 50
WORKLOAD = f"{MEMBERS} of 1-256x7-1, batch 20, {EPOCHS} epochs of 10 steps"


def build() -> gpumlp.Sequential:
    """Return a member."""
    hidden = [layers.Dense(256, "relu") for _ in range(7)]
    model = gpumlp.Sequential([layers.Input((1,)), *hidden, layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def turn(executor: Executor | None, x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Return the seconds of a fit, and the members' weights afterwards."""
    ensemble = gpumlp.Ensemble(build, MEMBERS)
    began = time.perf_counter()
    ensemble.fit(x, y, batch_size=20, epochs=EPOCHS, verbose=0, executor=executor)
    return time.perf_counter() - began, [array for member in ensemble.members for array in member.get_weights()]


def main() -> None:
    """Measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    gpumlp.config.set_advice("ignore")  # the article's inputs are badly scaled
    x = np.arange(0, 20, 0.1, dtype=np.float32)[:, None]
    y, found = np.sin(x), dict[str, list[float]]()
    with ProcessPoolExecutor(1) as one, ProcessPoolExecutor(2) as two:
        contenders: dict[str, Any] = {"here": None, "1 worker process": one, "2 worker processes": two}
        for number in range(rounds + 1):
            expected = None
            for name, executor in contenders.items():
                seconds, weights = turn(executor, x, y)
                expected = weights if expected is None else expected
                assert all(np.array_equal(a, b) for a, b in zip(weights, expected, strict=True)), name
                if number:  # the first one starts workers
                    found.setdefault(name, []).append(seconds)
    made = [
        rows.row("executors", WORKLOAD, name, "s", values, found["here"], ("gpumlp", "numpy"))
        for name, values in found.items()
    ]
    with (rows.RESULTS / "executors.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(made[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in made)
    for row in made:
        print(f"{row.contender:20} {row.median:.3g} [{row.low:.3g}, {row.high:.3g}] s, ratio {row.ratio:.3g}")


if __name__ == "__main__":
    main()
