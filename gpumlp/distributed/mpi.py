"""MPI, by mpi4py: ranks on CPUs, of one machine or many."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from gpumlp.backends.runtime import Array

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class MPI:
    """A `Communicator` over the ranks of an mpi4py communicator.

    It has a communicator of its own, a duplicate, so that nobody else's messages come in between.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Such as ``MPI.COMM_WORLD``. All of its ranks make this call.
    """

    def __init__(self, comm: Intracomm) -> None:
        self._comm = comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()

    def __repr__(self) -> str:
        return f"<MPI: rank {self.rank} of {self.size}>"

    def all_to_all(self, sent: Array, received: Array) -> None:
        """See `Communicator.all_to_all`."""
        self._comm.Alltoall(sent, received)

    def all_gather(self, own: Array, received: Array) -> None:
        """See `Communicator.all_gather`."""
        self._comm.Allgather(own, received)

    def gather(self, own: object) -> list[object]:
        """See `Communicator.gather`."""
        return self._comm.allgather(own)

    def fail(self, message: str) -> NoReturn:
        """See `Communicator.fail`."""
        print(message, file=sys.stderr, flush=True)
        self._comm.Abort(1)
        os._exit(1)  # what Abort has not ended
