"""What a step over ranks costs, and whether it pays: numbers computed, bytes, latency, and the constants of machines.

A step of a rank is, one after the other: the passes over its shards, the sums of their gradients, the exchange of
slices, the update of its own, and the gathering of the new weights. More ranks divide the passes, most of the sums and
the update; what is exchanged does not become less. A model that is not distributed computes a batch as one, and
exchanges nothing.

Constants are those of one rank with one thread, or one GPU. Those of MEASURED come from the rows of
benchmarks/results/ranks.csv, whose model is held against 2 and 4 ranks there; others are predictions, of data sheets.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

from gpumlp.distributed.tree import SHARDS

ITEM = 4  # bytes of a float32
# Arrays as large as the weights that are read or written:
READ = 2  # by the passes of a batch: w, forward and back
KEPT = 3  # and by a shard's: its gradient with what it is added to, and w, which its kernels write back
ADDED = 3  # by a sum of two; half of those of a rank's shards are part of what is KEPT
UPDATED, GRADIENT = 6, 1  # by Adam: w, m and v, there and back; and the gradient, where kernels have not got it
STEP = 5e-6  # seconds of a step, one of many in a call
COPIED = 4  # into what is gathered, and out of it


@dataclass(frozen=True)
class Machine:
    """One rank's processor, and what lies between ranks."""

    name: str
    operations: float  # multiplications and additions a second, in products of a batch
    memory: float  # bytes a second that are read or written
    cached: float  # likewise, where the weights have no more bytes than ``cache``
    cache: int
    call: float  # seconds of one call of a Program, for a shard
    latency: float  # seconds that an exchange takes, however little is exchanged
    bandwidth: float  # bytes a second that a rank sends while it receives as many
    measured: bool = False

    def moved(self, arrays: float, work: Work) -> float:
        """Return the seconds in which so many arrays as large as the weights are read or written."""
        size = ITEM * work.parameters
        return arrays * size / (self.cached if size <= self.cache else self.memory)


class Work(NamedTuple):
    """What a network has to do: products of numbers for a sample, and its weights."""

    products: int
    parameters: int

    @classmethod
    def dense(cls, *sizes: int) -> Work:
        """Return that of Dense layers, from the inputs to the outputs."""
        products = sum(a * b for a, b in itertools.pairwise(sizes))
        return cls(products, products + sum(sizes[1:]))


class Seconds(NamedTuple):
    """What the parts of a step take."""

    passes: float
    sums: float
    exchange: float
    update: float

    @property
    def step(self) -> float:
        """All of them."""
        return sum(self)


MEASURED = Machine(
    "one thread of an EPYC with AVX-512, MPICH on one machine", operations=3.0e11, memory=2.6e10, cached=6.5e10,
    cache=4 << 20, call=1e-4, latency=4e-6, bandwidth=9e9, measured=True,
)  # fmt: skip


def alone(work: Work, batch: int, machine: Machine) -> Seconds:
    """Return what a step of ``batch`` samples takes where the model is not distributed."""
    passes = STEP + 6 * work.products * batch / machine.operations + machine.moved(READ, work)
    return Seconds(passes, 0.0, 0.0, machine.moved(UPDATED, work))


def over(ranks: int, work: Work, batch: int, machine: Machine) -> Seconds:
    """Return what a step of ``batch`` samples takes on each of so many ranks."""
    filled = min(SHARDS, batch)
    shards = -(-filled // ranks)  # of the rank that has the most
    others = (ranks - 1) / ranks  # of all weights, what goes to other ranks
    passes = 6 * work.products * batch * shards / filled / machine.operations
    passes += shards * (machine.call + machine.moved(READ + KEPT, work))
    sums = machine.moved(ADDED * (max(SHARDS // ranks // 2 - 1, 0) + others), work)
    messages = 3 * machine.latency + 2 * others * ITEM * work.parameters / machine.bandwidth  # one is of the logs
    update = machine.moved((UPDATED + GRADIENT) / ranks + COPIED, work)
    return Seconds(passes, sums, messages if ranks > 1 else 0.0, update)


def pays(ranks: int, work: Work, batch: int, machine: Machine) -> bool:
    """Whether so many ranks take a step in less time than one by itself."""
    return over(ranks, work, batch, machine).step < alone(work, batch, machine).step


def least_width(ranks: int, layers: int, batch: int, machine: Machine, most: int = 1 << 16) -> int | None:
    """Return from which width on so many ranks pay for that many square layers: a power of 2; None up to ``most``."""
    widths = (1 << k for k in range(4, most.bit_length()))
    return next((w for w in widths if pays(ranks, Work.dense(*[w] * (layers + 1)), batch, machine)), None)


def advice(ranks: int, work: Work, batch: int, machine: Machine = MEASURED) -> str:
    """Return in words what a step is predicted to take, and whether so many ranks pay."""
    together, one = over(ranks, work, batch, machine).step, alone(work, batch, machine).step
    told = f"predicted {together * 1e3:.3g} ms a step, and {one * 1e3:.3g} without distributed= ({machine.name})"
    return told if together < one else f"{told}: so many ranks do not pay for this network"
