"""What an operation of a network is: what it computes, forward and back, for whichever backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Array, DType


@dataclass
class Place:
    """Which rows of a batch random numbers are for: those from ``first`` on, of so many ``rows``; None: for all."""

    first: int = 0
    rows: int | None = None

    def batch(self, x: Array) -> int:
        """Return how many rows the batch has that ``x`` is of."""
        return len(x) if self.rows is None else self.rows


@dataclass(frozen=True)
class Site:
    """Where an operation works, for one Program."""

    backend: Backend
    number: int  # of the operation in its network
    weights: Sequence[Array]  # the network's, by their places
    grads: Sequence[Array]  # as many
    kept: Array | None  # what `Operation.keep` has made
    frozen: bool = False  # whether the layer's ``trainable`` was False when it began to compute
    place: Place = field(default_factory=Place)

    @property
    def memory(self) -> Array:
        """What is kept, of an operation that always keeps something."""
        assert self.kept is not None
        return self.kept

    def kept_of(self, x: Array) -> Array | None:
        """Return what is kept of as many samples as ``x`` has; None where nothing is."""
        return None if self.kept is None else self.kept[: len(x)]


class Operation:
    """Base of all; what makes two of a kind differ stands in their fields."""

    @property
    def products(self) -> int:
        """How many products of numbers a sample takes on its way forward: the elements of a kernel."""
        return 0

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        """Return memory for what goes from forward to backward, beside x and y[batch, size]; None for nothing."""
        return None

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        """Write ``y`` from ``x``, a row a sample; ``step`` is the training step's number, None outside training."""
        raise NotImplementedError

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        """Return the gradient by ``x``: ``dy``, overwritten, or ``dx``, written; and write those by the weights.

        ``dx`` has the shape of ``x``; in training it is None for the first operation, of which nobody asks for it.
        """
        raise NotImplementedError

    def penalty(self, site: Site, y: Array) -> float:
        """Return what is added to the loss for ``y``, all of a batch's."""
        return 0.0

    def asked(self, training: bool, loss: bool) -> Operation:
        """Return the operation whose way back gives the gradient of a ``loss``, with all penalties, or of the outputs.

        As in ``training``, or as outside of it: there what a mask or a batch's statistics were in training is not.
        """
        return self

    def outline(self) -> Operation:
        """Return it without the numbers that a step only reads, which members of an ensemble may have of their own."""
        return self
