"""What one model over several ranks asks of whatever carries its numbers: the protocol, and who answers by it."""

from __future__ import annotations

from typing import Protocol

from gpumlp.backends.runtime import Array


class Communicator(Protocol):
    """One rank's end of what ties ``size`` ranks together; all of them make the same calls in the same order.

    Arrays are where the model computes, C-contiguous, and of one dtype; what is sent and what is received do not
    overlap. The calls move numbers and add nothing up: by what tree sums go is not theirs to choose.
    """

    @property
    def rank(self) -> int:
        """Which of the ranks this is, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def all_to_all(self, sent: Array, received: Array) -> None:
        """Write into received[r] what rank r sent here, its sent[rank]; both are [size, n]."""

    def all_gather(self, own: Array, received: Array) -> None:
        """Write into received[r] what rank r has as ``own`` [n]; received is [size, n]."""

    def gather(self, own: object, what: str = "") -> list[object]:
        """Return what each rank gave, by rank: small objects of the host's, that can be pickled.

        ``what`` it is for, in words: for whoever has to say that ranks wait for each other in different calls.
        """

    def fail(self, message: str) -> None:
        """Return once all ranks have called this; where one does not soon, end all, ``message`` on standard error.

        The others may be in the middle of anything, and wait for this rank there.
        """
