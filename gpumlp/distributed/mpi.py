"""MPI, by mpi4py: ranks on CPUs, of one machine or many."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from gpumlp.backends import team
from gpumlp.backends.runtime import Array

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

LEFT = 1  # the tag of what a rank tells the others when its process ends
SPIN, NAP = 0.02, 0.0001  # seconds of waiting in a loop, then of sleep between two looks
LOOK = 0.5  # seconds of waiting after which it is looked whether a rank has left
GRACE = 5.0  # seconds for others to fail too, or to say why they have ended, before one rank ends all

rest: Callable[[], object] = getattr(os, "sched_yield", functools.partial(time.sleep, 0))  # others may need this core


_found: dict[int, MPI] = {}  # by mpi4py's communicator: each duplicate is one of not so many that there can be


def of(comm: Intracomm) -> MPI:
    """Return the `MPI` over a communicator of mpi4py's, always the same; all of its ranks make this call."""
    from mpi4py.MPI import _handleof

    name = _handleof(comm)
    if name not in _found:
        _found[name] = MPI(comm)
    return _found[name]


class MPI:
    """A `Communicator` over the ranks of an mpi4py communicator.

    It has a communicator of its own, a duplicate, so that nobody else's messages come in between. Ranks of one machine
    share its processors, unless GPUMLP_THREADS says how many threads each has. An exception that
    nobody catches ends all ranks, with its traceback on standard error: none waits for one that has failed. A rank
    whose process ends tells the others; one that waits for it ends all.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Such as ``MPI.COMM_WORLD``. All of its ranks make this call.
    """

    def __init__(self, comm: Intracomm) -> None:
        self._comm, self._failing = comm.Dup(), comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        if self.size > 1:
            self._share_processors()
            self._end_together()

    def __repr__(self) -> str:
        return f"<MPI: rank {self.rank} of {self.size}>"

    def all_to_all(self, sent: Array, received: Array) -> None:
        """See `Communicator.all_to_all`."""
        self._wait(self._comm.Ialltoall(sent, received))

    def all_gather(self, own: Array, received: Array) -> None:
        """See `Communicator.all_gather`."""
        self._wait(self._comm.Iallgather(own, received))

    def gather(self, own: object) -> list[object]:
        """See `Communicator.gather`."""
        self._wait(self._comm.Ibarrier())  # where it can be seen that a rank has left
        return self._comm.allgather(own)

    def fail(self, message: str) -> None:
        """See `Communicator.fail`."""
        others, began = self._failing.Ibarrier(), time.perf_counter()
        while not others.Test():
            if time.perf_counter() - began > GRACE:
                self._end_all(f"{message}\ngpumlp: rank {self.rank} of {self.size} has failed: all end.")
            time.sleep(NAP)

    def _end_all(self, message: str) -> NoReturn:
        sys.stdout.flush()
        print(message, file=sys.stderr, flush=True)
        self._comm.Abort(1)
        os._exit(1)  # where Abort has not ended it

    def _wait(self, request: Request) -> None:
        """Wait until all ranks have come; where one of them has left, end all."""
        began, left = time.perf_counter(), None
        while not request.Test():
            waited = time.perf_counter() - began
            if waited < SPIN:
                rest()
                continue
            time.sleep(NAP)
            if left is None and waited > LOOK:
                left, found = self._who_left(), waited
            elif left is not None and waited > found + GRACE:
                self._end_all(
                    f"gpumlp: rank {left} of {self.size} has ended, and rank {self.rank} waits for it: all ranks must "
                    "make the same calls of a model that is distributed (compile, fit, evaluate, save), in the same "
                    "order."
                )

    def _share_processors(self) -> None:
        """Leave the processors that this rank may use to all ranks that may use the same ones, in equal parts."""
        from mpi4py.MPI import COMM_TYPE_SHARED

        near = self._comm.Split_type(COMM_TYPE_SHARED)
        own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        team.share(near.allgather(own).count(own))  # where mpiexec has bound ranks each has its own
        near.Free()

    def _who_left(self) -> int | None:
        """Return a rank whose process ends, if there is one that has said so."""
        from mpi4py.MPI import Status

        status = Status()
        return status.Get_source() if self._comm.Iprobe(tag=LEFT, status=status) else None

    def _end_together(self) -> None:
        """Have an exception that ends this rank end all, and an end of this rank be known to the others."""
        before = sys.excepthook

        def on_exception(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
            before(kind, error, where)
            self._end_all(f"gpumlp: rank {self.rank} of {self.size} has failed ({kind.__name__}): all end.")

        def on_end() -> None:
            from mpi4py.MPI import Is_finalized

            for other in range(0 if Is_finalized() else self.size):
                if other != self.rank:
                    self._comm.Isend([bytearray(), 0], dest=other, tag=LEFT).Free()

        sys.excepthook = on_exception
        atexit.register(on_end)
