r"""The tree by which everything is summed, whatever the ranks: a batch, and the weights, are cut into SHARDS.

    shard    0   1   2   3   4   5   6   7
              \ /     \ /     \ /     \ /
    2 ranks    +       +   |   +       +       a rank has one subtree, and sends its partial sum
                \     /    |    \     /
                   +       |       +
                    \______|______/
                           +

Two numbers are added in one order alone, so the sum of all is the same bits on 1, 2, 4 and 8 ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpumlp.backends.runtime import Array

SHARDS = 8


def own(rank: int, size: int) -> range:
    """Return the shards of one of ``size`` ranks: a subtree."""
    each = SHARDS // size
    return range(rank * each, (rank + 1) * each)


def bounds(rows: int) -> list[int]:
    """Return where each shard of so many rows begins, and where the last one ends: SHARDS + 1 numbers.

    Their sizes differ by one at most, the larger ones spread among the others; where rows lack some are empty.
    """
    return [(rows * shard + SHARDS - 1) // SHARDS for shard in range(SHARDS + 1)]


def total(partials: Sequence[Array]) -> Array:
    """Return the sum of 1, 2, 4 or 8 arrays of one shape by the tree; it is written over the first of them.

    The others are spent.
    """
    assert len(partials) in (1, 2, 4, SHARDS)
    distance = 1
    while distance < len(partials):
        for first in range(0, len(partials), 2 * distance):
            np.add(partials[first], partials[first + distance], out=partials[first])  # CuPy's answer to it, too
        distance *= 2
    return partials[0]


def grow(compute: Callable[[int, int, bool], None], shards: range, sums: Sequence[Array], level: int = 0) -> None:
    """Have ``sums[level]`` be the tree's sum over ``shards``, with one array for each level: no shard has its own.

    ``compute(shard, k, adds)`` writes what one gives into ``sums[k]``, or adds it to what is there.
    """
    if len(shards) <= 2:
        for i, shard in enumerate(shards):
            compute(shard, level, i > 0)
        return
    half = len(shards) // 2
    grow(compute, shards[:half], sums, level)
    grow(compute, shards[half:], sums, level + 1)
    total(sums[level : level + 2])


def levels(shards: range) -> int:
    """Return how many arrays `grow` takes."""
    return max(1, len(shards).bit_length() - 1)
