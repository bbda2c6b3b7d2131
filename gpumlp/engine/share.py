"""What one of several ranks updates of a model's weights, and has the optimizer's state of.

The flat array of all weights is cut into as many slices as a batch has shards, whatever the ranks:

    weights   | dense/kernel          | b | dense_1/kernel   | b |zeros
    slices    |   0   |   1   |   2   |   3   |   4   |   5   |   6   |   7   |
    2 ranks   |          rank 0's share       |         rank 1's share        |

Whole arrays of state are gathered where somebody asks for them: by all ranks at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from gpumlp.backends.numpy_backend import ALIGNMENT
from gpumlp.backends.runtime import Array
from gpumlp.distributed import tree
from gpumlp.distributed.communicator import Communicator
from gpumlp.engine.arena import Stretches
from gpumlp.optimizers.layout import Layout

Span: TypeAlias = "slice[int, int, None]"
Doubles = npt.NDArray[np.float64]


class Piece(NamedTuple):
    """What one slice has of a span of the weights: where that is among all weights, and in an array of the share."""

    span: int  # which of several
    slice: int  # counted from the first that the rank has
    flat: Span
    own: Span


class Share:
    """One rank's slices of all weights: a `Layout` of the optimizer's state.

    When it is made the weights become those of rank 0. All ranks make it at once; and each holds the gate of its own
    weights, as for all that ranks do at once.
    """

    def __init__(self, weights: Stretches, comm: Communicator) -> None:
        self.weights, self.comm = weights, comm
        self.backend, self.offsets = weights.backend, weights.offsets
        step = ALIGNMENT // weights.dtype.itemsize
        self._width = -(-weights.size // (tree.SHARDS * step)) * step
        self.slices = tree.own(comm.rank, comm.size)
        self.size = self._width * len(self.slices)
        first = comm.rank * self.size
        self._span = slice(min(first, weights.size), min(first + self.size, weights.size))  # without zeros behind it
        self.rows, self.slots = 0, 0  # samples that this rank has computed, and arrays of state
        self._own = self.full(0.0)
        self._take_the_first_ones()

    @property
    def state_bytes(self) -> tuple[int, int]:
        """The bytes of the optimizer's state that this rank has, and those of all of it."""
        each = self.slots * self.weights.dtype.itemsize
        return (self._span.stop - self._span.start) * each, self.weights.size * each

    def whole(self) -> Array:
        """Return an array for all ranks' shares, [ranks, size], of zeros."""
        return self.backend.zeros((self.comm.size, self.size), self.weights.dtype)

    def flat(self, whole: Array) -> Array:
        """Return that part of what `whole` has made that is laid out like the weights."""
        return whole.reshape(-1)[: self.weights.size]

    def cut(self, spans: Iterable[Span]) -> list[Piece]:
        """Return the pieces of ``spans`` that the rank has; on however many ranks, together they are the same ones."""
        spans, found = list(spans), []
        for i, number in enumerate(self.slices):
            low = number * self._width
            for of, span in enumerate(spans):
                start, stop = max(span.start, low), min(span.stop, low + self._width)
                if start < stop:
                    first = start - low + i * self._width
                    found.append(Piece(of, i, slice(start, stop), slice(first, first + stop - start)))
        return found

    # ---- between ranks: all of them at once --------------------------------------------------------------------------

    def gather(self, spans: Iterable[Span], work: Array) -> None:
        """Have all weights within ``spans`` be what their ranks have made of them; ``work`` is as `whole` makes it."""
        params = self.weights.params
        self._own[: self._span.stop - self._span.start] = params[self._span]
        self.comm.all_gather(self._own, work)
        there = self.flat(work)
        for span in spans:
            params[span] = there[span]

    def total(self, partial: Array) -> Doubles:
        """Return the sum of what all ranks have, by the tree."""
        received = self.backend.empty((self.comm.size, partial.size), np.float64)
        self.comm.all_gather(self.backend.to_device(partial), received)
        return cast(Doubles, tree.total(list(self.backend.to_host(received))))

    def _take_the_first_ones(self) -> None:
        """Have the weights be rank 0's: it gives each rank its slices, and all gather them."""
        with self.backend.running():
            params, sent, received = self.weights.params, self.whole(), self.whole()
            every, there = self.weights.spans([True] * len(self.offsets)), self.flat(sent)
            for span in every:
                there[span] = params[span]
            self.comm.all_to_all(sent, received)
            for piece in self.cut(every):
                params[piece.flat] = received[0][piece.own]
            self.gather(every, sent)
            self.weights.version += 1

    # ---- a layout ----------------------------------------------------------------------------------------------------

    def is_like(self, other: Layout) -> bool:
        """See `Layout.is_like`."""
        return isinstance(other, Share) and self.slices == other.slices and self.weights.is_like(other.weights)

    def full(self, value: float) -> Array:
        """Return a new array of the share, of one number."""
        made = self.backend.zeros(self.size, self.weights.dtype)
        if value:
            self.backend.assign(made, np.full(self.size, value, self.weights.dtype))
        return made

    def get(self, flat: Array | None = None) -> list[Array]:
        """Return copies of all weight arrays; or of all that ranks' arrays of their shares are, when all ranks ask."""
        if flat is None:
            return self.weights.get()
        with self.backend.running():
            whole = self.whole()
            self.comm.all_gather(flat, whole)
            return self.weights.get(self.flat(whole))

    def set(self, arrays: Sequence[Array], flat: Array | None = None) -> None:
        """Set all weight arrays; or an array of the share to what that has of others like them."""
        if flat is None:
            self.weights.set(arrays)
            return
        host = np.zeros(self.weights.size, self.weights.dtype)
        for view, array in zip(self.weights.views(host), arrays, strict=True):
            view[...] = array
        own = np.zeros(self.size, self.weights.dtype)
        own[: self._span.stop - self._span.start] = host[self._span]
        self.backend.assign(flat, own)
