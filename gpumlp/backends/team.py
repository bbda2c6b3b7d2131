"""Threads that run compiled jobs together: as many at once as a job's table says, no Python between its first step and
its last.

One of them leads: a job is handed to it alone, and it calls the others. So whatever interrupts the caller (Ctrl-C, a
signal's handler that raises) finds a job that has not begun, and is dropped, or one that runs, and is waited for.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from gpumlp import gate

Function = Callable[[int, int], int]
MOST = 512  # threads: each has memory of its own in every job's table, and more than processors only wait


class _Job:
    def __init__(self, function: Function, address: int, threads: int) -> None:
        self.function, self.address, self.threads = function, address, threads
        self.taken, self.done = threading.Lock(), threading.Event()  # taken once: by who runs it, or drops it
        self.problem: BaseException | None = None  # what the function raised
        self.processors: set[int] = set()  # those that its threads began on

    def work(self, thread: int) -> None:
        """Do one thread's part."""
        try:
            move_from(self.processors)
            self.function(self.address, thread)
        except BaseException as error:  # it is the caller's: a thread of the team goes on
            self.problem = error


_teams: weakref.WeakSet[Team] = weakref.WeakSet()
_share = MOST  # of the machine's processors, where other processes are to have the rest: see `share`


class Team:
    """Up to ``size`` threads, started when they are first needed. Jobs of several callers run one after the other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.forget()
        _teams.add(self)

    def forget(self) -> None:
        """Take it that no thread has been started: a fork has none of its parent's."""
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._leading = threading.Lock()
        self._calls: list[queue.SimpleQueue[tuple[_Job, int]]] = []
        self._back: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._led = False

    def available(self, threads: int) -> int:
        """Return how many threads there are for a job, of ``threads``: fewer where the system gives no more now.

        They are started for this. A job is shared out among so many, as each must do its part.
        """
        if threads > 1:
            with contextlib.suppress(RuntimeError):  # can't start new thread
                self._start(min(threads, self.size, _share))
        return max(1, min(threads, self.size, _share, self._led * (1 + len(self._calls))))

    def run(self, function: Function, address: int, threads: int) -> None:
        """Run ``function(address, thread)`` on ``threads`` threads, which are `available`; back when all are done.

        RuntimeError, before anything is run, where there are not so many.
        """
        if threads == 1:
            function(address, 0)
            return
        if (there := self.available(threads)) < threads:
            raise RuntimeError(f"can't start {threads} threads: there are {there}, of at most {self.size}.")
        job = _Job(function, address, threads)
        try:
            self._jobs.put(job)
            job.done.wait()
        except BaseException:
            dropped = job.taken.acquire(blocking=False)
            while not dropped and not job.done.is_set():
                try:
                    job.done.wait()
                except BaseException:  # it uses the caller's memory: only its end ends the wait
                    continue
            raise
        if job.problem is not None:
            raise job.problem

    def _start(self, threads: int) -> None:
        """Start what is missing of so many threads; RuntimeError where the system gives no more."""
        with gate.inner:  # a signal's handler may also start some, but wait for nobody who waits for this
            if not self._led:
                threading.Thread(target=self._lead, daemon=True, name="gpumlp-0").start()
                self._led = True
            while len(self._calls) < threads - 1:  # those that are there already wait for the others
                calls: queue.SimpleQueue[tuple[_Job, int]] = queue.SimpleQueue()
                name = f"gpumlp-{len(self._calls) + 1}"
                threading.Thread(target=self._follow, args=(calls,), daemon=True, name=name).start()
                self._calls.append(calls)

    def _lead(self) -> None:
        while True:
            job = self._jobs.get()
            with self._leading:  # an interrupt right after a thread's start leaves it uncounted: a second leader
                self._lead_job(job)

    def _lead_job(self, job: _Job) -> None:
        if not job.taken.acquire(blocking=False):
            return
        helpers = self._calls[: job.threads - 1]
        for thread, calls in enumerate(helpers, 1):
            calls.put((job, thread))
        job.work(0)
        for _ in helpers:
            self._back.get()
        job.done.set()

    def _follow(self, calls: queue.SimpleQueue[tuple[_Job, int]]) -> None:
        while True:
            job, thread = calls.get()
            job.work(thread)
            self._back.put(None)


def processors() -> int:
    """Return how many threads to use: GPUMLP_THREADS, or the processors that this process may run on, up to MOST.

    ValueError for a GPUMLP_THREADS that is no whole number from 1 to MOST.
    """
    if own := os.environ.get("GPUMLP_THREADS"):
        digits = own.lstrip("0")
        if not own.isdecimal() or not digits or len(digits) > len(str(MOST)) or int(digits) > MOST:
            raise ValueError(f"GPUMLP_THREADS must be a whole number from 1 to {MOST}; got {_short(own)}.")
        return int(digits)
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(there, _quota(), _share))


def share(processes: int) -> None:
    """Leave this machine's processors to so many processes in equal parts; GPUMLP_THREADS goes before this."""
    global _share
    if not os.environ.get("GPUMLP_THREADS"):
        _share = MOST
        _share = max(1, processors() // processes)


def _short(text: str) -> str:
    return repr(text if len(text) < 40 else text[:40] + "...")


def _quota() -> int:
    """Return how many processors' time a container's limit allows (cgroup v2); threads beyond it only wait."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return sys.maxsize if limit == "max" else max(1, int(limit) // int(period))
    except (OSError, ValueError):
        return sys.maxsize


def move_from(taken: set[int]) -> None:
    """Have this thread on a processor that is not ``taken``, if there is one, and add it to these.

    Systems wake a thread beside who wakes it, where no other processor is idle at that moment, and leave it there for
    tenths of a second: two that meet at every step would run in turns. Afterwards it may be moved as before.
    """
    here = _processor()
    if here in taken:
        with contextlib.suppress(OSError, ValueError):
            allowed = os.sched_getaffinity(0)
            if free := allowed - taken:
                os.sched_setaffinity(0, free)
                os.sched_setaffinity(0, allowed)
                here = _processor()
    taken.add(here)


@functools.cache
def _asked() -> Callable[[], int]:
    """Return the C function that tells on which processor a thread is; where there is none, one that gives numbers."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.CDLL(None).sched_getcpu
    return itertools.count().__next__


def _processor() -> int:
    return _asked()()


@functools.cache
def let_others() -> int:
    """Return the address of the C function by which a waiting thread offers its core; 0 where there is none."""
    try:
        library = ctypes.WinDLL("kernel32") if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined]
        function = library.SwitchToThread if sys.platform == "win32" else library.sched_yield
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@functools.cache
def team() -> Team:
    """Return this process's team."""
    return Team(processors())


def _after_fork() -> None:
    for crew in list(_teams):  # also that of a model which the child has from its parent
        crew.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
