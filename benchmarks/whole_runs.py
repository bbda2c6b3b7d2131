"""Whole runs whose weights must be the same bits wherever CUDA's kernels run, and the digests that were committed.

relu, mse, SGD and Adam are additions, products, quotients and roots, each rounded as IEEE 754 has it, in an order that
is written; the compiler is left no multiply-add to make of them. So what a CPU gives when it executes the kernels
(tests/host) is what a GPU must give. ``checksums.json`` has what the host gave: ``python benchmarks/whole_runs.py``,
with tests/ on PYTHONPATH, writes it; ``make gpu`` and the tests compare.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

CHECKSUMS = Path(__file__).with_name("checksums.json")  # of a network's weights after its fit, by the run's name
MULTIPROCESSORS = (
    132  # for which tiles are chosen and batches split: sums of recorded steps have the order of their tiles
)


@dataclass(frozen=True)
class Run:
    """A stack of relu layers, trained by ``optimizer`` for ``epochs``, the way that GPUMLP_FIT names."""

    sizes: tuple[int, ...]
    batch: int
    samples: int
    optimizer: str = "Adam"
    how: str = "auto"
    epochs: int = 2

    @property
    def name(self) -> str:
        """Return the run in words: its key among the checksums."""
        sizes = "-".join(map(str, self.sizes))
        how = "" if self.how == "auto" else f", {self.how}"
        return f"{sizes}, {self.optimizer}, batch {self.batch}, {self.epochs} epochs of {self.samples} samples{how}"

    @property
    def steps(self) -> int:
        """Return how many steps a fit has."""
        return self.epochs * -(-self.samples // self.batch)


FIRST = Run((16, 64, 64, 1), 64, 640)
RUNS = (
    FIRST,
    Run((3, 40, 40, 40, 2), 20, 109, "SGD with momentum", "tags"),
    Run((5, 33, 17, 1), 7, 50, "SGD", "barrier"),
    Run((7, 64, 33, 3), 32, 109, "Adam", "graph"),
    Run(
        (128, 288, 8), 512, 600, "AdamW", "graph", epochs=1
    ),  # tiles of 32 x 16 and 8 x 8, and of 32 x 32 with a batch that is split
)


def _optimizer(name: str) -> Any:
    from gpumlp import optimizers

    return {
        "SGD": lambda: optimizers.SGD(0.01), "SGD with momentum": lambda: optimizers.SGD(0.01, 0.9, nesterov=True),
        "Adam": optimizers.Adam, "AdamW": optimizers.AdamW,
    }[name]()  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A model's first fit: its losses and weights, the seconds it took; and microseconds a step of the second."""

    program: str
    losses: list[float]
    weights: list[np.ndarray]
    seconds: float
    step: float

    def checksum(self) -> str:
        """Return a digest of the weights, each as little-endian float32, in order."""
        return hashlib.sha256(b"".join(w.astype("<f4").tobytes() for w in self.weights)).hexdigest()


def _settings(run: Run, device: str) -> Any:
    """Return the context of a run: how it trains, and, for recorded steps, a GPU of MULTIPROCESSORS."""
    from gpumlp import devices

    stack = ExitStack()
    stack.enter_context(mock.patch.dict(os.environ, {"GPUMLP_FIT": run.how}))
    if run.how == "graph" and device != "cpu":
        runtime = devices.resolve(device).backend().runtime
        stack.enter_context(mock.patch.object(runtime, "multiprocessors", MULTIPROCESSORS))
    return stack


def fitted(run: Run, device: str, dtype: str = "float32") -> Fitted:
    """Fit a run's network twice, the second time as one that goes on."""
    from gpumlp import layers, models

    rng = np.random.default_rng(0)

    def exact(*shape: int) -> np.ndarray:  # the same everywhere: nothing is rounded, no library's function is asked
        return (rng.integers(-64, 65, shape) / 256).astype(np.float32)

    how: dict[str, Any] = {"batch_size": run.batch, "epochs": run.epochs, "shuffle": False, "verbose": 0}
    with _settings(run, device):
        *hidden, last = run.sizes[1:]
        stack = [layers.Dense(n, "relu") for n in hidden]
        model = models.Sequential([layers.Input((run.sizes[0],)), *stack, layers.Dense(last)], dtype=dtype)
        model.compile(_optimizer(run.optimizer), "mse", device=device)
        model.set_weights([exact(*w.shape) for w in model.get_weights()])
        x = 4 * exact(run.samples, run.sizes[0])
        y = np.repeat(x[:, :1] * x[:, 1:2], last, axis=1)
        began = time.perf_counter()
        losses = model.fit(x, y, **how).history["loss"]
        seconds, weights = time.perf_counter() - began, model.get_weights()
        began = time.perf_counter()
        model.fit(x, y, **how)
        step = 1e6 * (time.perf_counter() - began) / run.steps
    return Fitted(model.program, losses, weights, seconds, step)


def committed() -> dict[str, str]:
    """Return the checksums by the names of their runs."""
    return json.loads(CHECKSUMS.read_text(encoding="utf-8"))


def main() -> None:
    """Execute all runs on the host and write what came of them."""
    from host.runtime import HostRuntime

    from gpumlp import devices

    runtime = HostRuntime()
    with (
        mock.patch.object(devices, "open_runtime", lambda index: runtime),
        mock.patch.object(devices, "gpu_problem", lambda index=0: None),
    ):
        found = {run.name: fitted(run, "cuda").checksum() for run in RUNS}
    CHECKSUMS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} checksums: {CHECKSUMS}")


if __name__ == "__main__":
    main()
