"""MPI, by mpi4py: ranks on CPUs, of one machine or many."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gpumlp.backends import team
from gpumlp.backends.runtime import Array

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

LEFT, WAITS = 1, 2  # the tags of what a rank tells the others: when its process ends, and when it waits for them
SPIN, NAP = 0.02, 0.0001  # seconds of waiting in a loop, then of sleep between two looks
LOOK = 0.5  # seconds of waiting after which it is looked what has become of the others, and between two such looks
GRACE = 5.0  # seconds for others to fail too, or to say why they have ended, before one rank ends all
PATIENCE = 20.0  # seconds of waiting for others to begin, after which it is said once
ALIKE = (
    "All ranks must make the same calls of a model that is distributed (compile, fit, evaluate, train_on_batch, save, "
    "copies, the optimizer's variables), in the same order: none of them behind `if rank == 0:`."
)

rest: Callable[[], object] = getattr(os, "sched_yield", functools.partial(time.sleep, 0))  # others may need this core


class _Place(NamedTuple):
    """Where a rank is: how many exchanges it has begun, and what the last one is."""

    number: int
    what: str


@functools.cache
def _attribute() -> int:
    """Return the key by which a communicator of mpi4py's knows the `MPI` over it, which is freed with it."""
    from mpi4py.MPI import Comm

    return Comm.Create_keyval(delete_fn=lambda comm, key, made: made.free())


def of(comm: Intracomm) -> MPI:
    """Return the `MPI` over a communicator of mpi4py's, always the same; all of its ranks make this call.

    TypeError for one that is no intracommunicator.
    """
    from mpi4py.MPI import COMM_NULL, Intracomm

    if not isinstance(comm, Intracomm) or comm == COMM_NULL:
        raise TypeError(f"distributed must be an intracommunicator, such as MPI.COMM_WORLD; got {comm!r}.")
    found = comm.Get_attr(_attribute())
    if not isinstance(found, MPI):
        comm.Set_attr(_attribute(), found := MPI(comm))
    return found


class MPI:
    """A `Communicator` over the ranks of an mpi4py communicator.

    It has communicators of its own, duplicates, so that nobody else's messages come in between; one thread of a process
    may use it at a time. Ranks of one machine share its processors, unless GPUMLP_THREADS says how many threads each
    has. An exception that nobody catches ends all ranks, with its traceback on standard error: none waits for one that
    has failed. So does a rank whose process ends, or that makes another call, while others wait for it.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Such as ``MPI.COMM_WORLD``. All of its ranks make this call.
    """

    def __init__(self, comm: Intracomm) -> None:
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._place, self._others = _Place(0, ""), dict[int, _Place]()
        self._told: dict[int, tuple[_Place, Request]] = {}  # what others were told last of where this rank waits
        # a communicator for each kind of exchange: ranks that make different ones wait, and say so
        self._comm, self._gathering, self._talking, self._failing = (self._duplicate(comm) for _ in range(4))
        if self.size > 1:
            self._share_processors()
            _live.add(self)
            _end_together()

    def __repr__(self) -> str:
        return f"<MPI: rank {self.rank} of {self.size}>"

    def all_to_all(self, sent: Array, received: Array) -> None:
        """See `Communicator.all_to_all`."""
        self._begin(f"an exchange of {sent.size:,} numbers")
        self._wait(self._comm.Ialltoall(sent, received))

    def all_gather(self, own: Array, received: Array) -> None:
        """See `Communicator.all_gather`."""
        self._begin(f"a gathering of {own.size:,} numbers")
        self._wait(self._gathering.Iallgather(own, received))

    def gather(self, own: object, what: str = "") -> list[object]:
        """See `Communicator.gather`."""
        self._begin(what or "a meeting")
        self._wait(self._talking.Ibarrier())  # where it can be seen what others do
        return self._talking.allgather(own)

    def fail(self, message: str) -> None:
        """See `Communicator.fail`."""
        others, began = self._failing.Ibarrier(), time.perf_counter()
        while not others.Test():
            if time.perf_counter() - began > GRACE:
                self._end_all(f"{message}\ngpumlp: rank {self.rank} of {self.size} has failed: all end.")
            time.sleep(NAP)

    def _duplicate(self, comm: Intracomm) -> Intracomm:
        """Return a duplicate, for which all ranks are waited for; after a while it is said that they are."""
        made, request = comm.Idup()
        began, said = time.perf_counter(), False
        while not request.Test():
            time.sleep(NAP)
            if not said and time.perf_counter() - began > PATIENCE:
                said = True
                print(
                    f"gpumlp: rank {self.rank} of {self.size} waits for others to call compile(distributed=). If one "
                    "has failed, stop this run, and begin it by `mpiexec ... python -m mpi4py script.py`, which ends "
                    "all ranks then.",
                    file=sys.stderr,
                    flush=True,
                )
        return made

    def _end_all(self, message: str) -> NoReturn:
        sys.stdout.flush()
        print(message, file=sys.stderr, flush=True)
        self._talking.Abort(1)
        os._exit(1)  # where Abort has not ended it

    def _begin(self, what: str) -> None:
        self._place = _Place(self._place.number + 1, what)

    def _wait(self, request: Request) -> None:
        """Wait until all ranks have come; where one of them has left, or waits elsewhere, end all."""
        began = time.perf_counter()
        looked, fault, since = began, "", began
        while not request.Test():
            now = time.perf_counter()
            if now - began < SPIN:
                rest()
                continue
            time.sleep(NAP)
            if now - looked < LOOK:
                continue
            looked, before = now, fault
            fault = self._fault()
            since = now if fault != before else since
            if fault and now - since > GRACE:
                self._end_all(f"gpumlp: {fault}. {ALIKE}")

    def _fault(self) -> str:
        """Say to the others where this rank waits; return in words which of them has left, or waits elsewhere."""
        from mpi4py.MPI import Status

        comm, status = self._talking, Status()
        for other in range(self.size):
            there, sent = self._told.get(other, (None, None))
            # one message at a time, which is kept until it has gone, and only what is news: a rank may be long away
            if other != self.rank and there != self._place and (sent is None or sent.Test()):
                self._told[other] = self._place, comm.isend(self._place, dest=other, tag=WAITS)
        while comm.Iprobe(tag=WAITS, status=status):
            self._others[status.Get_source()] = comm.recv(source=status.Get_source(), tag=WAITS)
        if comm.Iprobe(tag=LEFT, status=status):
            return (
                f"rank {status.Get_source()} of {self.size} has ended, and rank {self.rank} waits for it in "
                f"{self._place.what}"
            )
        for other, place in sorted(self._others.items()):
            if place.what != self._place.what and place.number >= self._place.number:
                return (
                    f"rank {self.rank} of {self.size} waits for others in {self._place.what}, and rank {other} in "
                    f"{place.what}"
                )
        return ""

    def _share_processors(self) -> None:
        """Leave the processors that this rank may use to all ranks that may use the same ones, in equal parts."""
        from mpi4py.MPI import COMM_TYPE_SHARED

        near = self._talking.Split_type(COMM_TYPE_SHARED)
        own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        team.share(near.allgather(own).count(own))  # where mpiexec has bound ranks each has its own
        near.Free()

    def free(self) -> None:
        """Give back the communicators, as is done where the one that they are duplicates of is freed."""
        _live.discard(self)
        for each in (self._comm, self._gathering, self._talking, self._failing):
            each.Free()


_live: set[MPI] = set()  # of several ranks


@functools.cache
def _end_together() -> None:
    """Have an exception that ends this process end all ranks, and its end be known to the others."""
    before: Any = sys.excepthook

    def on_exception(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        before(kind, error, where)
        for each in _live:
            each._end_all(f"gpumlp: rank {each.rank} of {each.size} has failed ({kind.__name__}): all end.")

    def on_end() -> None:
        from mpi4py.MPI import Is_finalized

        for each in () if Is_finalized() else _live:
            for other in range(each.size):
                if other != each.rank:
                    each._talking.Isend([bytearray(), 0], dest=other, tag=LEFT).Free()

    sys.excepthook = on_exception
    atexit.register(on_end)
