"""What the host takes of training ensembles on a GPU, where there is none: ``python benchmarks/gpu/idle.py``.

The CUDA runtime runs its own lines on stand-ins for CuPy, cuda.core and the driver (tests/host/fake_cuda.py) that
answer at once: an H100 to plans, and a launch of the whole-fit kernel trains nothing and says that all is well. What a
turn of ``make gpu``'s ensembles takes then is Python's, and memory that the host copies. CuPy's own calls cost more
than these, and what the device does meanwhile is not seen. Beside the times are counts: launches, copies to the device
and back, calls of functions.

``--profile`` shows where the time goes. To compare commits run it in a checkout of each, by turns, with PYTHONPATH.
"""

from __future__ import annotations

import argparse
import cProfile
import ctypes
import os
import pstats
import statistics
import sys
import time
import types
from collections import Counter
from typing import Any
from unittest import mock

import environment

sys.path.append(str(environment.ROOT / "tests"))

import fit_cases
import numpy as np
import pytest
from contenders import keras_model
from host import fake_cuda
from workloads import GPU_ENSEMBLES, Workload

import gpumlp
from gpumlp import devices, kernel_sources
from gpumlp.backends.runtime import parted

RESULTS = 5  # where a Member of fit.cu has its results, among its words; its number is the last but one
WARM = 3  # turns before those that count
SHOWN = 40  # lines of a profile


class Idle(fake_cuda.FakeCuda):
    """A GPU that computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pointer_words, self.launched, self.fetched = 1, Counter[str](), 0
        self._widths: dict[int, int] = {}  # words of a Member, by the kernel

    def cupy(self) -> types.ModuleType:
        """Return CuPy whose memory takes no time: from a pool, and copies within it are the device's."""
        module = super().cupy()

        class ndarray(module.ndarray):  # type: ignore[misc, name-defined]
            def __setitem__(self, at: Any, value: Any) -> None:
                if not isinstance(value, module.ndarray):
                    super().__setitem__(at, value)

        module.empty = lambda shape, dtype: np.empty(shape, dtype).view(ndarray)  # type: ignore[attr-defined]
        return module

    def bounds(self, pointer: int) -> tuple[int, ...]:  # type: ignore[override]
        """Return a pointer as a GPU has it."""
        return (pointer,)

    def execute(self, kernel: Any, shape: tuple[int, ...], values: tuple[Any, ...], kinds: tuple[Any, ...]) -> None:
        """Answer a launch; a whole fit's losses are 1, and its members well."""
        self.launched[kernel.function] += 1
        if kernel.function != "fit":
            return
        if kernel.handle not in self._widths:
            text = kernel_sources.expanded(kernel.file, parted(kernel.defines)[1])
            size = self.size_of("Member", text) + self.size_of("Slots", text) - 8  # the one counts the other as a word
            self._widths[kernel.handle] = size // 8
        control, steps, _ = values
        models, length = shape[0] // kernel.defines["GROUP"], steps * kernel.defines["SERIES"] + 1
        for member in _at(control, ctypes.c_longlong, models, self._widths[kernel.handle]):
            (results,) = _at(int(member[RESULTS]), ctypes.c_double, 1, length)
            results[:-1], results[-1] = 1.0, -0.5 - member[-2] - steps


def _at(address: int, kind: Any, rows: int, columns: int) -> np.ndarray:
    """Return the rows that stand at an address."""
    return np.ctypeslib.as_array((kind * (rows * columns)).from_address(address)).reshape(rows, columns)


def idle_gpu(patch: pytest.MonkeyPatch) -> tuple[Idle, Any]:
    """Have device="cuda" be such a GPU, an H100 to whoever asks; return it and its runtime."""
    chip = fit_cases.CHIPS["sm_90"]
    shown = {"MultiProcessorCount": chip.multiprocessors, "MaxSharedMemoryPerBlockOptin": chip.shared_bytes}
    patch.setattr(fake_cuda, "ATTRIBUTES", shown)
    patch.setattr(fake_cuda, "FakeCuda", Idle)
    fake, module = fake_cuda.install(patch)
    assert isinstance(fake, Idle)
    runtime = module.CudaRuntime(0)
    download = runtime.download

    def fetch(array: Any) -> Any:
        fake.fetched += 1
        return download(array)

    runtime.download = fetch
    patch.setattr(devices, "open_runtime", lambda index: runtime)
    patch.setattr(devices, "gpu_problem", lambda index=0: None)
    patch.setenv("GPUMLP_DEVICE", "cuda")
    return fake, runtime


def calls_of(turn: Any) -> tuple[int, pstats.Stats]:
    """Return how many functions a turn calls, and its profile."""
    profile = cProfile.Profile()
    profile.runcall(turn)
    found = pstats.Stats(profile)
    return found.total_calls, found  # type: ignore[attr-defined]


def measure(workload: Workload, fake: Idle, runtime: Any, chosen: argparse.Namespace) -> None:
    """Take turns of an ensemble, and print what they took."""
    ensemble = gpumlp.Ensemble(lambda k: keras_model(workload, "gpumlp", k), workload.members)
    x, y = (runtime.xp.ascontiguousarray(a) for a in workload.data())

    def turn() -> None:
        ensemble.fit(x, y, batch_size=workload.batch, shuffle=chosen.shuffle, verbose=0)

    began = time.perf_counter()
    turn()
    first, seconds = time.perf_counter() - began, list[float]()
    for _ in range(WARM + chosen.turns):
        began = time.perf_counter()
        turn()
        seconds.append(time.perf_counter() - began)
    fake.launched.clear()
    fake.order.clear()
    fake.fetched = 0
    calls, profile = calls_of(turn)
    copies, each = sum(what == "copy" for what, *_ in fake.order), 1e6 * statistics.median(seconds[WARM:])
    print(
        f"{workload.name}: {each / workload.members / workload.steps:.3g} us a model's step, "
        f"{each / workload.members:.3g} a member (first turn {first:.2f} s); a turn has {fake.launched.total()} "
        f"launches, {copies} copies to the device and {fake.fetched} back, {calls} calls, "
        f"{calls / workload.members:.0f} a member",
        flush=True,
    )
    if chosen.profile:
        profile.sort_stats("tottime").print_stats(SHOWN)


def main() -> None:
    """Measure the ensembles that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", choices=GPU_ENSEMBLES, action="append", help="one of the ensembles (default: all)")
    parser.add_argument("--turns", type=int, default=9, help="how many to take the median of (default: 9)")
    parser.add_argument("--shuffle", action="store_true", help="each member has an order of its own, as by default")
    parser.add_argument("--profile", action="store_true", help="show where a turn's time goes")
    chosen = parser.parse_args()
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        fake, runtime = idle_gpu(patch)
        for name in chosen.only or GPU_ENSEMBLES:
            measure(GPU_ENSEMBLES[name], fake, runtime, chosen)


if __name__ == "__main__":
    main()
