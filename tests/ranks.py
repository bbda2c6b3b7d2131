"""Ranks that are threads of one process: what holds one model over ranks to its bits without any library."""

import contextlib
import threading

import numpy as np

from gpumlp import random

PATIENCE = 120  # seconds that one rank waits for the others: nothing hangs
GRACE = 2  # and one that fails for others to fail, too


class Meeting:
    """Where ``size`` ranks leave what others fetch."""

    def __init__(self, size, in_turns):
        self.turn = threading.Lock() if in_turns else contextlib.nullcontext()
        self.size, self.left = size, [None] * size
        self.barrier, self.failing = threading.Barrier(size, timeout=PATIENCE), threading.Barrier(size, timeout=GRACE)


class Threads:
    """One rank's `Communicator`."""

    def __init__(self, meeting, rank):
        self._meeting, self.rank, self.size = meeting, rank, meeting.size
        self.sent = 0  # bytes, to others

    def _exchange(self, own, fetch):
        meeting = self._meeting
        meeting.left[self.rank] = own
        self._wait()
        found = fetch(meeting.left)
        self._wait()  # nobody changes what another one still reads
        return found

    def _wait(self):
        self._meeting.turn.__exit__(None, None, None)
        try:
            self._meeting.barrier.wait()
        finally:
            self._meeting.turn.__enter__()

    def all_to_all(self, sent, received):
        assert sent.shape == received.shape and len(sent) == self.size and sent.dtype == received.dtype
        assert sent.flags.c_contiguous and received.flags.c_contiguous and not np.shares_memory(sent, received)
        self.sent += sent[0].nbytes * (self.size - 1)

        def fetch(left):
            for r, other in enumerate(left):
                received[r] = other[self.rank]

        self._exchange(sent, fetch)

    def all_gather(self, own, received):
        assert received.shape == (self.size, *own.shape) and own.dtype == received.dtype
        assert own.flags.c_contiguous and received.flags.c_contiguous and not np.shares_memory(own, received)
        self.sent += own.nbytes * (self.size - 1)

        def fetch(left):
            for r, other in enumerate(left):
                received[r] = other

        self._exchange(own, fetch)

    def gather(self, own, what=""):
        return self._exchange(own, list)

    def fail(self, message):
        try:
            self._meeting.failing.wait()
        except threading.BrokenBarrierError:
            self._meeting.barrier.abort()
            raise RuntimeError(message) from None


def over(size, work, seed=7, in_turns=False):
    """Return what ``work(comm)`` gives on each of ``size`` ranks; what one of them raises, where all end.

    Each has random numbers of its own: seeded by ``seed`` on rank 0, and by others elsewhere.
    ``in_turns``: one computes at a time, between two exchanges.
    """
    meeting, found, errors = Meeting(size, in_turns), [None] * size, []

    def rank(number):
        stream = random.Stream()
        stream.seed(seed + number)
        try:
            with random.drawing_from(stream), meeting.turn:
                found[number] = work(Threads(meeting, number))
        except BaseException as error:
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=rank, args=(number,), daemon=True) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
        assert not thread.is_alive(), "a rank hangs"
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return found
