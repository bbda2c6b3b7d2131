"""What the whole-fit kernel waits for: its exchange by tags and by a barrier, and the barrier alone, by blocks.

The kernels are those of exchange.cu around kernels/exchange.cuh itself: what is measured is what training runs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from launcher import Kernels
from measure import checked_rounds, per_round
from report import Report

from gpumlp import kernel_sources

SOURCE = Path(__file__).with_name("exchange.cu")
THREADS = 256
# Packets of three samples of a column: the activations of a batch of 20 in a wide layer, and in a narrow one. Two sizes
# tell what an exchange takes however little goes around, and what a byte adds.
SIZES = {"20 x 256": 7 * 256, "20 x 16": 7 * 16}
BLOCKS = (2, 4, 8, 16, 32, 64, 128)
WAYS = {"barrier": 0, "tags": 1}


def defines(tags: int, count: int, patience: int = 1 << 22) -> dict[str, int | str]:
    """Return what the compiler is told."""
    return {
        "THREADS": THREADS, "RESIDENT": 1, "GROUP": "block_count()", "TAGS": tags, "AROUND": count, "PATIENCE": patience
    }  # fmt: skip


def text(tags: int, count: int) -> str:
    """Return what is compiled."""
    settings = "".join(f"#define {name} {value}\n" for name, value in defines(tags, count).items())
    return f"{settings}{kernel_sources.expanded('exchange.cuh')}\n{SOURCE.read_text()}"


def workload(size: str, blocks: int) -> str:
    """Return the name of an exchange's rows; its contenders are WAYS."""
    return f"exchange of {size}, {blocks} blocks"


def measured(timer: Any, out: Report) -> None:
    """Report every exchange, and the barrier alone."""
    import cupy

    multiprocessors = cupy.cuda.Device().attributes["MultiProcessorCount"]
    numbers = [n for n in BLOCKS if n <= multiprocessors]
    for size, count in SIZES.items():
        for way, tags in WAYS.items():
            kernels = Kernels(text(tags, count))
            for blocks in numbers:
                out.tried(workload(size, blocks), way, functools.partial(exchanged, kernels, blocks, count))
    for blocks in numbers:
        out.tried(
            f"barrier, {blocks} blocks", "exchange.cuh, one counter", functools.partial(met, kernels, blocks, count)
        )


def exchanged(kernels: Kernels, blocks: int, count: int) -> list[float]:
    """Return microseconds an exchange; RuntimeError where a value was lost."""
    import cupy

    packets, arrivals = cupy.zeros((2 * count, 4), cupy.uint32), cupy.zeros(1, cupy.uint32)

    def reset() -> None:
        packets.fill(0)
        arrivals.fill(0)

    def run(rounds: int, values: Any, failures: Any) -> None:
        words = [packets, arrivals, values, failures, np.int64(rounds)]
        kernels.launch(kernels.function("rounds"), blocks, THREADS, words, cooperative=True)

    return checked_rounds(run, reset, 3 * count)


def met(kernels: Kernels, blocks: int, count: int) -> list[float]:
    """Return microseconds a barrier. That it holds back who must wait is shown by the exchange that relies on it."""
    import cupy

    packets, arrivals = cupy.zeros((2 * count, 4), cupy.uint32), cupy.zeros(1, cupy.uint32)
    failures = cupy.zeros(1, cupy.uint32)

    def run(rounds: int) -> None:
        words = [packets, arrivals, failures, np.int64(rounds)]
        kernels.launch(kernels.function("barriers"), blocks, THREADS, words, cooperative=True)

    times = per_round(run, lambda: arrivals.fill(0))
    if int(failures[0]):
        raise RuntimeError("blocks waited in vain")
    return times
