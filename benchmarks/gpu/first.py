"""Whether things work at all on this GPU, in about ten lines: versions, one kernel, one graph, one whole fit.

Each is held against what it must give, and timed once by the host's clock. The whole fit starts from numbers that every
machine makes alike, and must end with the bits that host execution gave (whole_runs.py).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import environment
import numpy as np
import report
import whole_runs
from gpu_contenders import not_given_up

FIT = whole_runs.FIRST
REPEATS = 100  # of a launch, for its time
COUNT = 4096  # numbers
AGREES = 1e-3  # relative, of the last loss to NumPy's in float64


def timed(work: Callable[[], Any], done: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of the first call, which compiles, and microseconds a call of many."""
    began = time.perf_counter()
    work()
    done()
    ready = time.perf_counter()
    for _ in range(REPEATS):
        work()
    done()
    return ready - began, 1e6 * (time.perf_counter() - ready) / REPEATS


def versions(runtime: Any) -> Iterator[str]:
    """Yield what there is."""
    from gpumlp.backends import compiler, disk_cache

    yield f"{environment.gpu()}; Python {sys.version.split()[0]}"
    yield ", ".join(f"{name} {version}" for name, version in environment.versions().items())
    where = disk_cache.DiskCache().where()
    yield f"{runtime.multiprocessors} multiprocessors; NVRTC {compiler.version()}, whose code is kept {where}"


def one_kernel(backend: Any) -> Iterator[str]:
    """Launch y = 3 x + 1."""
    x, y = backend.zeros((1, COUNT), np.float32), backend.zeros((1, COUNT), np.float32)
    numbers = np.arange(COUNT, dtype=np.float32)[None]
    backend.assign(x, numbers)
    first, each = timed(lambda: backend.affine(x, 3.0, 1.0, y), backend.runtime.synchronize)
    if not np.array_equal(backend.to_host(y), 3 * numbers + 1):
        raise RuntimeError(f"3 x + 1 of 0 to {COUNT - 1} is not what it should be: {backend.to_host(y)[0, :4]} ...")
    yield f"kernel: right; ready in {first:.2f} s, {each:.1f} us a launch"


def one_graph(backend: Any) -> Iterator[str]:
    """Record two launches, y = 3 x + 1 and z = 2 y, and replay them."""
    x, y, z = (backend.zeros((1, COUNT), np.float32) for _ in range(3))
    numbers = np.arange(COUNT, dtype=np.float32)[None]

    def work() -> None:
        backend.affine(x, 3.0, 1.0, y)
        backend.affine(y, 2.0, 0.0, z)

    recording = backend.runtime.record(work)
    backend.assign(x, numbers)
    first, each = timed(recording.replay, backend.runtime.synchronize)
    if recording.nodes != 2 or not np.array_equal(backend.to_host(z), 6 * numbers + 2):
        raise RuntimeError(f"a graph of {recording.nodes} nodes, not 2, gave {backend.to_host(z)[0, :4]} ...")
    yield f"graph: right; first replayed in {first:.2f} s, {each:.1f} us a replay"


def one_fit(backend: Any) -> Iterator[str]:
    """Train a network that the whole-fit kernel is made for, there and by NumPy in float64."""
    found, truth = whole_runs.fitted(FIT, "cuda"), whole_runs.fitted(FIT, "cpu", "float64")
    yield f"whole fit, {FIT.name}: {not_given_up(found.program)}"
    loss, wanted = found.losses[-1], truth.losses[-1]
    if not found.program.startswith("whole-fit kernel"):
        raise RuntimeError("the whole-fit kernel was expected to train it")
    if not abs(loss - wanted) <= AGREES * wanted:
        raise RuntimeError(f"its last loss is {loss:.7g}, and NumPy's {wanted:.7g}")
    yield f"whole fit: right, loss {loss:.7g}; ready in {found.seconds:.2f} s, {found.step:.1f} us a step"
    checksum, committed = found.checksum(), whole_runs.committed()[FIT.name]
    yield f"checksum: {checksum}; committed: {committed}"
    if committed != checksum:
        raise RuntimeError("the checksum of its weights is not the one that is committed")


def tried(check: Callable[[Any], Iterator[str]], subject: Any) -> bool:
    """Print what a check finds, or why it failed; return whether it passed."""
    try:
        for line in check(subject):
            print(line, flush=True)
    except Exception as error:  # each is to be known of
        print(f"FAILED: {check.__name__}: {report.first_line(error)}", flush=True)
        return False
    return True


def main() -> int:
    """Run all checks; return the exit status."""
    report.need_gpu()
    from gpumlp import devices

    os.environ.pop("GPUMLP_FIT", None)  # as gpumlp chooses by itself
    os.environ.pop("GPUMLP_KERNELS", None)
    began, backend = time.perf_counter(), devices.resolve("cuda").backend()
    passed = [tried(versions, backend.runtime), *(tried(check, backend) for check in (one_kernel, one_graph, one_fit))]
    print(f"{sum(passed)} of {len(passed)} work, {time.perf_counter() - began:.1f} s", flush=True)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
