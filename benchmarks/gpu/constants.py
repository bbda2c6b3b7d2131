"""The constants of gpumlp/engine/cost.py from measured rows: ``python benchmarks/gpu/constants.py gpu_micro.csv``.

It prints the line for ``MACHINES`` there, to be put in by hand: a package does not read files of its benchmarks.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import environment  # noqa: F401, its paths come before what is found by them
import exchanges
import rows

CLOCK = "clock"
NODE = "empty kernel, 1 of {}", "node of a graph"
BLOCKS = 64  # a plan of a network that is worth many has about so many; on a smaller GPU, the most that were measured


def line(found: list[rows.Row]) -> str:
    """Return the line for cost.py; or in words what is missing."""
    times = {(r.workload, r.contender): r.median for r in found if r.median == r.median}
    clock = next((r for r in found if isinstance(r, rows.RateRow) and r.workload == CLOCK and r.rate == r.rate), None)
    nodes = [m for (_, contender), m in times.items() if contender == NODE[1]]
    if clock is None or not nodes:
        return "no constants: the clock or a graph's node was not measured"
    waits = {blocks: found for blocks in exchanges.BLOCKS if (found := _waits(times, blocks))}
    if not waits:
        return "no constants: no exchange was measured in both sizes and ways, or a larger one took no longer"
    blocks = max((n for n in waits if n <= BLOCKS), default=min(waits))
    barrier, tags, _ = waits[blocks]
    link, cache = waits[min(waits)][2], max(waits) * waits[max(waits)][2]  # of one that is nearly alone, and of all
    return (
        f'"{clock.note}": Machine({clock.rate:.3g}e9, {barrier:.3g}e-6, {tags:.3g}e-6, {link:.3g}e9, {cache:.4g}e9, '
        f'{nodes[0]:.3g}e-6, "measured"),  # {clock.machine.partition(";")[0]}; {blocks} blocks; commit {clock.commit}'
    )


def _waits(times: dict[tuple[str, str], float], blocks: int) -> tuple[float, float, float] | None:
    """Return microseconds of an exchange of nothing, by barrier and by tags, and the GB/s of what goes around.

    The line through both sizes. Its slope is that of the exchange by a barrier, which reads every packet once.
    """
    (large, most), (small, least) = exchanges.SIZES.items()
    by = {
        (size, way): times.get((exchanges.workload(size, blocks), way), math.nan)
        for size in exchanges.SIZES
        for way in exchanges.WAYS
    }
    slope = (by[large, "barrier"] - by[small, "barrier"]) / (16 * (most - least))  # microseconds a byte
    waits = [by[small, way] - 16 * least * slope for way in ("barrier", "tags")]
    if not (slope > 0 and all(w > 0 for w in waits)):
        return None
    return waits[0], waits[1], 1e-3 / slope


if __name__ == "__main__":
    print(line(rows.read(Path(sys.argv[1]) if len(sys.argv) > 1 else rows.RESULTS / "gpu_micro.csv")))
