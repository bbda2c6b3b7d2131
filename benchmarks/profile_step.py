"""Where a training step's time goes on this CPU, beside the peaks measured here: ``python benchmarks/profile_step.py``.

A peak is what this machine was seen to do at its best, with one thread and with all: arithmetic in a large sgemm, data
movement in copies, one of arrays that stay in the caches, one of arrays that do not fit. An operation is bound by
whichever of its two shares is near 100%; neither near, and its time goes elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import rows
from threadpoolctl import threadpool_limits

ROUNDS = 7
SGEMM = 2048
# Bytes of each array that a thread copies. The smaller ones overflow a core's own cache, as a network's weights do, and
# stay in the shared one; smaller still, and the threads would wait for the interpreter's lock between copies.
IN_CACHE, IN_MEMORY = 2 << 20, 256 << 20


@dataclass(frozen=True)
class Peaks:
    """What ``threads`` threads reach: GFLOP/s of a product, GB/s (1e9 bytes, read and written) of both copies."""

    threads: int
    gflops: float
    cache: float
    memory: float


@dataclass(frozen=True)
class Operation:
    """One part of a step: its seconds per step, its floating-point operations, the bytes it must read and write."""

    name: str
    seconds: float
    flops: float
    bytes: float


def fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some calls, after one that is not timed."""
    work()
    times = [time.perf_counter()]
    for _ in range(ROUNDS):
        work()
        times.append(time.perf_counter())
    return min(b - a for a, b in pairwise(times))


def product_rate(threads: int) -> float:
    """Return the GFLOP/s of the BLAS with so many threads, in a product of squares."""
    a, b = np.random.default_rng(0).standard_normal((2, SGEMM, SGEMM), np.float32)
    out = np.empty_like(a)
    with threadpool_limits(threads, "blas"):
        return 2 * SGEMM**3 / fastest(lambda: np.matmul(a, b, out=out)) / 1e9


def copy_rate(threads: int, size: int) -> float:
    """Return the GB/s of so many threads, each copying ``size`` bytes of its own back and forth, read and written."""
    pairs = [np.ones((2, size // 4), np.float32) for _ in range(threads)]
    trips = max(IN_MEMORY // size // 2, 1)  # enough of them to make a thread's start cheap

    def back_and_forth(pair: np.ndarray) -> None:
        for _ in range(trips):
            np.copyto(pair[1], pair[0])
            np.copyto(pair[0], pair[1])

    with ThreadPoolExecutor(threads) as pool:
        seconds = fastest(lambda: list(pool.map(back_and_forth, pairs)))
    return 4 * trips * size * threads / seconds / 1e9


def peaks(threads: int) -> Peaks:
    """Measure them; takes seconds."""
    return Peaks(threads, product_rate(threads), copy_rate(threads, IN_CACHE), copy_rate(threads, IN_MEMORY))


def peaks_table(measured: Iterable[Peaks]) -> str:
    """Return the peaks, a line for each number of threads."""
    lines = [f"{'threads':<24} {'GFLOP/s':>9} {'GB/s, caches':>13} {'GB/s, memory':>13}"]
    lines += [f"{p.threads:<24} {p.gflops:>9.1f} {p.cache:>13.1f} {p.memory:>13.1f}" for p in measured]
    return "\n".join(lines)


def table(operations: list[Operation], peak: Peaks, in_memory: bool = False) -> str:
    """Return where a step's time goes, an operation a line, with the shares of ``peak``; the sum comes last.

    ``in_memory``: what the step touches does not fit the caches, and bytes are held against the copy in memory.
    """
    bandwidth = peak.memory if in_memory else peak.cache
    total = Operation("the step", *(sum(getattr(o, f) for o in operations) for f in ("seconds", "flops", "bytes")))
    heads = f"{'us per step':>11} {'of it':>6} {'GFLOP/s':>9} {'of peak':>8} {'GB/s':>8} {'of peak':>8}"
    lines = [f"{'operation':<24} {heads}"]
    for o in (*operations, total):
        gflops, gbytes = o.flops / o.seconds / 1e9, o.bytes / o.seconds / 1e9
        lines.append(
            f"{o.name:<24} {o.seconds * 1e6:>11.2f} {o.seconds / total.seconds:>6.0%} "
            f"{gflops:>9.1f} {gflops / peak.gflops:>8.0%} {gbytes:>8.1f} {gbytes / bandwidth:>8.0%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the peaks."""
    everyone = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"{rows.machine()}; {rows.commit()}; {rows.now()}")
    print(peaks_table(peaks(threads) for threads in sorted({1, everyone})))


if __name__ == "__main__":
    main()
