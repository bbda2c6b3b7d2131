"""Threads that run compiled jobs together: as many at once as a job's table says, no Python between its first step and
its last.

One of them leads: a job is handed to it alone, and it calls the others. So whatever interrupts the caller (Ctrl-C, a
signal's handler that raises) finds a job that has not begun, and is dropped, or one that runs, and is waited for.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

Function = Callable[[int, int], int]
PENDING, RUNNING, DROPPED = range(3)


class _Job:
    def __init__(self, function: Function, address: int, threads: int) -> None:
        self.function, self.address, self.threads = function, address, threads
        self.state, self.done = PENDING, threading.Event()
        self.problem: BaseException | None = None  # what the function raised

    def work(self, thread: int) -> None:
        """Do one thread's part."""
        try:
            self.function(self.address, thread)
        except BaseException as error:  # it is the caller's: a thread of the team goes on
            self.problem = error


_teams: weakref.WeakSet[Team] = weakref.WeakSet()


class Team:
    """Up to ``size`` threads, started when they are first needed. Jobs of several callers run one after the other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.forget()
        _teams.add(self)

    def forget(self) -> None:
        """Take it that no thread has been started: a fork has none of its parent's."""
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._calls: list[queue.SimpleQueue[_Job]] = []
        self._back: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._started = False

    def run(self, function: Function, address: int, threads: int) -> None:
        """Run ``function(address, thread)`` on ``threads`` threads; back when all are done.

        RuntimeError where the system gives no more threads.
        """
        if threads == 1:
            function(address, 0)
            return
        self._start()
        job = _Job(function, address, threads)
        try:
            self._jobs.put(job)
            job.done.wait()
        except BaseException:
            with self._lock:
                if job.state == PENDING:
                    job.state = DROPPED
            while job.state == RUNNING and not job.done.is_set():
                try:
                    job.done.wait()
                except BaseException:  # it uses the caller's memory: only its end ends the wait
                    continue
            raise
        if job.problem is not None:
            raise job.problem

    def _start(self) -> None:
        with self._lock:
            while len(self._calls) < self.size - 1:  # those that are there already wait for the others
                calls: queue.SimpleQueue[_Job] = queue.SimpleQueue()
                number = len(self._calls) + 1
                threading.Thread(
                    target=self._follow, args=(calls, number), daemon=True, name=f"gpumlp-{number}"
                ).start()
                self._calls.append(calls)
            if not self._started:
                threading.Thread(target=self._lead, daemon=True, name="gpumlp-0").start()
                self._started = True

    def _lead(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                if job.state == DROPPED:
                    continue
                job.state = RUNNING
            helpers = self._calls[: job.threads - 1]
            for calls in helpers:
                calls.put(job)
            job.work(0)
            for _ in helpers:
                self._back.get()
            job.done.set()

    def _follow(self, calls: queue.SimpleQueue[_Job], thread: int) -> None:
        while True:
            job = calls.get()
            job.work(thread)
            self._back.put(None)


def processors() -> int:
    """Return how many threads to use: GPUMLP_THREADS, or the processors that this process may run on.

    ValueError for a GPUMLP_THREADS that is no whole number from 1 up.
    """
    if own := os.environ.get("GPUMLP_THREADS"):
        if not own.isdecimal() or int(own) < 1:
            raise ValueError(f"GPUMLP_THREADS must be a whole number >= 1; got {own!r}.")
        return int(own)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, _quota()))


def _quota() -> int:
    """Return how many processors' time a container's limit allows (cgroup v2); threads beyond it only wait."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return sys.maxsize if limit == "max" else max(1, int(limit) // int(period))
    except (OSError, ValueError):
        return sys.maxsize


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
