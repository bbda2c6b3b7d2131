"""One caller at a time: what computes with a model's weights goes through a gate, whichever Program does it.

Everything that shares an arena shares its gate: predictions and evaluations from several threads, beside training, on
one model or on several that have a layer in common. It is held for a stretch of steps at most, and never while code of
the user's runs: callbacks, schedules, generators. A constraint of the user's own is part of a step: it is called
inside, and what it asks of the model is refused with words.

What may wait for what, from the left to the right and never back:

    a caller -> `no_fork` -> the worker -> the layout of arenas -> gates, by their numbers -> `inner`, a team's threads
    a fork   -> `no_fork` -------------->  the layout of arenas -> gates, by their numbers

A signal's handler runs on the main thread between any two instructions of it, and may raise there. So a stretch that
changes something runs on another thread, the worker, when the main thread asks for it (`apart`): a handler finds the
stretch whole, waits for it like any other caller if it uses the model itself, and if it raises, the stretch ends before
the exception goes on. Waking a thread takes 0.1 ms: what is brief runs on the main thread, and handlers are put off to
its end (`whole`). What only reads (the prediction of some rows) runs where it is asked for; a handler that finds its
own thread inside is refused with words.

There a handler may also raise on the way in or out, in a ``finally``, or on entering the function that puts things
back. So locks are held by ``with`` alone, which takes and leaves them in one instruction; whether a gate is held is
asked of its lock; what else is noted may be stale, and whoever reads it sees to that. What is set in a context for a
while is set in a copy of it.

A fork waits until no stretch runs, and nobody loads code (`no_fork`), so that the child has weights of whole steps, and
locks that nobody holds.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import functools
import importlib
import itertools
import os
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

PATIENCE = 0.2  # seconds that a caller who was the last one inside lets those who wait go first
OUT_OF_TURN = 1.0  # seconds that a caller waits who may be waited for: longer than most steps take
MOMENT = 5e-5
BUSY = (
    "The model is used in the middle of what it does for this same thread, or of what another one does that others "
    "wait for: by a signal's handler, a finalizer, or a constraint, which may use nothing but the weights that it is "
    "called with. "
    "Let the handler set a flag, and use the model where the program looks at the flag, such as in a callback; or use "
    "it in another thread."
)
NESTED = 100  # gates within each other, a call in a call: Python allows a thousand, of which callers have some
DEEPEST = 20  # handlers within handlers that wait for the worker

_numbers = itertools.count()
_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
_registry = threading.RLock()  # a handler may make a gate while its thread makes one
# For moments, inside gates or with none, by what is one for the whole process: the BLAS, and threads that are started.
# A handler that finds its thread has it may ask for no gate: who is inside may wait for this.
inner = threading.RLock()
_RLock = type(_registry)


class Gate:
    """Who is inside, and who waits."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.number = next(_numbers)
        self.waiting: set[int] = set()  # threads; that it is exact matters to nobody's numbers
        self.last = 0
        with _registry:
            _gates.add(self)

    def __reduce__(self) -> tuple[type[Gate], tuple[()]]:
        return Gate, ()  # a copy of what is behind it has a gate of its own

    def is_mine(self) -> bool:
        """Whether this thread is inside."""
        return self.lock._is_owned()  # type: ignore[attr-defined]

    def within(self, work: Callable[[], Result]) -> Result:
        """Return ``work()``, done inside; RuntimeError where the wait would be for ever, at the interpreter's end."""
        waits = self in _here.held  # a handler, which comes and goes while its thread still waits
        self._come()
        try:
            with self.lock:
                self._arrived()
                return work()
        except BaseException:
            if self.is_mine():  # only from Python 3.14 on: a handler may raise when the lock has just been taken
                self.lock.release()
            raise
        finally:
            if not waits:
                _here.held.discard(self)

    def at_last(self, work: Callable[[], Result]) -> Result:
        """Return ``work()``, done inside, for who is inside a later gate; RuntimeError where it takes long to come in.

        That is a handler, and who is inside here may wait for that gate: another thread that goes in order, or forks.
        """
        taken: list[threading.RLock | None] = [None]
        acquire = filter(functools.partial(_RLock.acquire, timeout=OUT_OF_TURN), (self.lock,))
        release = map(_RLock.release, iter(taken.pop, None))
        waits = self in _here.held
        self._come()
        try:
            taken.extend(acquire)  # one call, as is letting go: a handler may come behind it
            self._arrived()
            if len(taken) == 1:
                raise RuntimeError(BUSY)
            return work()
        finally:
            list(release)
            if not waits:
                _here.held.discard(self)

    def __enter__(self) -> None:
        """Go in, where no handler can come: between two steps of this one would leave the gate locked."""
        self._come()
        self.lock.acquire()
        self._arrived()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        _here.held.discard(self)

    def _come(self) -> None:
        me = threading.get_ident()
        if self.last == me and self.waiting:
            self._let_others_in(me)
        if sys.is_finalizing() and not self._is_free():
            raise RuntimeError("The interpreter is ending, and another thread was computing with this model.")
        self.waiting.add(me)
        _here.held.add(self)

    def _arrived(self) -> None:
        me = threading.get_ident()
        self.waiting.discard(me)
        self.last = me

    def _let_others_in(self, me: int) -> None:
        """Wait until another thread has been inside, as a lock by itself does not see to."""
        self.waiting.discard(me)
        until = time.monotonic() + PATIENCE
        while self.waiting and self.last == me:
            if time.monotonic() > until:
                self.waiting.clear()  # they do not wait any more: a handler has raised
            time.sleep(MOMENT)

    def _is_free(self) -> bool:
        if free := self.lock.acquire(blocking=False):
            self.lock.release()
        return free


class _Here(threading.local):
    """What this thread is inside of."""

    def __init__(self) -> None:
        self.held: set[Gate] = set()  # and some that it was inside of, when a handler raised
        self.forks: list[list[threading.RLock | None]] = []  # the locks that each takes, one within the other

    def is_in_the_way(self) -> bool:
        """Whether it forks, makes a gate, or has `inner`: who is inside a gate may wait for it."""
        return any(self.forks) or _registry._is_owned() or inner._is_owned()  # type: ignore[attr-defined]

    def gates(self) -> list[Gate]:
        """Return those that it is inside of."""
        return [gate for gate in tuple(self.held) if gate.is_mine()]  # a handler comes and goes

    def is_inside(self) -> bool:
        """Whether it holds anything that others wait for."""
        return self.is_in_the_way() or bool(self.gates())


_here = _Here()


# What has to be done before this thread's code uses a model.
_before: contextvars.ContextVar[Callable[[], None] | None] = contextvars.ContextVar("before a use", default=None)


def settling(first: Callable[[], None] | None) -> Callable[[], None] | None:
    """Have ``first()`` be called before this thread's code uses a model, and return what was called before.

    That is to be put back wherever a handler may have raised: no context manager, whose exit a handler can prevent.
    """
    before = _before.get()
    _before.set(first)
    return before


def unsettled() -> Callable[[], None] | None:
    """Return what would be called."""
    return _before.get()


def settle() -> None:
    """Do what is to be done before a model is used."""
    if (first := _before.get()) is not None:
        token = _before.set(None)
        try:
            first()
        finally:
            _before.reset(token)


def hold(gates: Collection[Gate], work: Callable[[], Result]) -> Result:
    """Return ``work()``, done inside all of ``gates``.

    RuntimeError where this thread is inside one of them already: a signal's handler that uses a model in the middle of
    what the model does. And where it forks, or makes a gate: who is inside one of these may wait for it.
    """
    settle()
    if _here.is_in_the_way() or any(gate.is_mine() for gate in gates):
        raise RuntimeError(BUSY)
    ordered = sorted(gates, key=_number)  # all in one order: nobody waits in a circle
    if len(ordered) > NESTED:  # a large ensemble's: it comes by `whole` or `apart`, where no handler does
        with contextlib.ExitStack() as stack:
            for gate in ordered:
                stack.enter_context(gate)
            return work()
    late = bool(ordered) and any(gate.number > ordered[0].number for gate in _here.gates())
    for gate in reversed(ordered):
        work = functools.partial(gate.at_last if late else gate.within, work)
    return work()


def _number(gate: Gate) -> int:
    return gate.number


layout = (
    Gate()
)  # of all arenas: whoever makes weights, or lays them out anew, holds it, and then the gates of what is moved


# ---- the worker ------------------------------------------------------------------------------------------------------


class _Job:
    """What the main thread waits for. ``claim`` is taken once: by the worker, or by a caller who gives up before."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.context = work, contextvars.copy_context()  # NumPy's error state, the random stream
        self.claim, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()
        self.finished = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless the caller has given it up."""
        if self.claim.acquire(blocking=False):
            try:
                self.context.run(self.work)
            except BaseException as error:
                self.error = error
            self.finished = True
        self.done.release()

    def give_up(self) -> None:
        """Have it that the work never begins, or wait for its end, whatever handlers raise meanwhile."""
        while True:
            try:
                if not self.claim.acquire(blocking=False) and not self.finished:
                    self.done.acquire()
                return
            except BaseException:
                continue


class _NoThread(Exception):
    """The system gives no more threads."""


class _Worker:
    """The thread that works for the main thread, started when it is first needed."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.started = False
        self.open: set[_Job] = set()

    def do(self, work: Callable[[], Result], meanwhile: Callable[[Callable[[], bool]], None] | None) -> Result:
        if not self.started:
            try:
                threading.Thread(target=_serve, args=(self.jobs,), daemon=True, name="gpumlp-worker").start()
            except RuntimeError as error:  # no more threads, or none any more: the interpreter is ending
                raise _NoThread from error
            self.started = True
        if len(self.open) >= DEEPEST:
            raise RuntimeError(
                f"{DEEPEST} calls of models wait within each other: a signal comes again before its handler has used "
                "the model. Let the handler set a flag, or come less often."
            )
        found: list[Result] = []
        job = _Job(lambda: found.append(work()))
        self.open.add(job)
        try:
            try:
                self.jobs.put(job)
                if meanwhile is not None:
                    meanwhile(lambda: job.finished)
                job.done.acquire()
            except BaseException:  # a handler's: it goes on when the caller's memory is not in use any more
                job.give_up()
                raise
            if job.error is not None:
                raise job.error
            return found[0]
        finally:
            self.open.discard(job)
            job.error = None  # its frames have the job: a circle
            found.clear()

    def forked(self) -> None:
        """End the waiting for what nobody will do any more: the child of a fork has no worker."""
        for job in self.open:
            if not job.finished:
                job.error = RuntimeError(
                    "The process was forked inside a call of the model, by a signal's handler, and this is the child: "
                    "the call's end is in the parent. Call the model anew here."
                )
                job.finished = True
            if job.done.locked():
                job.done.release()


def _serve(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        job = jobs.get()
        job.run()
        del job  # what it refers to is not to wait for the next one


_worker = _Worker()


def apart(work: Callable[[], Result], meanwhile: Callable[[Callable[[], bool]], None] | None = None) -> Result:
    """Return ``work()``, done where no handler of a signal can come between its steps.

    Python runs handlers on the main thread alone, so that is on the worker when the main thread asks, which does
    ``meanwhile(finished)`` before it waits, as long as ``finished()`` is false; that may ask for more, which is done
    after the work. Where no thread can be started, or another one asks, the work is done here, and nothing meanwhile.
    """
    if threading.current_thread() is not threading.main_thread() or sys.is_finalizing():
        return work()  # the interpreter's end has stopped the worker
    if _here.is_inside():
        raise RuntimeError(BUSY)  # the worker would wait for this thread, and this thread for the worker
    try:
        return _worker.do(work, meanwhile)
    except _NoThread:
        return work()


# ---- brief work ------------------------------------------------------------------------------------------------------

# The C functions: those of `signal` make an enum's member of each answer, which takes 30 us for all signals.
_handler_of, _set_handler = (getattr(importlib.import_module("_signal"), name) for name in ("getsignal", "signal"))
_call_handler_of: Callable[[int], None] = _thread.interrupt_main  # type: ignore[assignment]  # soon
_SIGNALS = sorted(int(number) for number in signal.valid_signals())


def whole(work: Callable[[], Result]) -> Result:
    """Return ``work()``, done on this thread; handlers of signals that come meanwhile are called at its end.

    What one of them raises takes the place of the result: the work is done.
    """
    if threading.current_thread() is not threading.main_thread() or sys.is_finalizing():
        return work()
    handlers = [(number, does) for number in _SIGNALS if callable(does := _handler_of(number))]
    came: dict[int, None] = {}
    over = False

    def later(number: int, frame: FrameType | None) -> None:
        if not over:
            came[number] = None
        else:  # what another handler raised has ended putting them back
            try:
                _put_back(handlers)
            finally:
                _call_handler_of(number)

    try:
        for number, _ in handlers:
            _set_handler(number, later)
        return work()
    finally:
        try:
            _put_back(handlers)
        finally:
            over = True
            list(map(_call_handler_of, came))  # all at once: one that raises leaves the others to be called


def _put_back(handlers: list[tuple[int, Callable[[int, FrameType | None], object]]]) -> None:
    """Have all handlers be what they were, also where one that is back already comes, and raises."""
    try:
        while handlers:
            _set_handler(*handlers[-1])
            handlers.pop()
    except BaseException:
        _put_back(handlers)
        raise


# ---- forks -----------------------------------------------------------------------------------------------------------


def _before_fork() -> None:
    """Hold every gate. One may be made meanwhile, by a thread inside another: so the registry is closed at the end.

    A handler that finds its thread has `inner` waits for a while only: who is inside a gate may wait for that.
    """
    seen: set[Gate] = set()
    held: list[threading.RLock | None] = [None]
    _here.forks.append(held)
    while True:
        with _registry:
            new = sorted(set(_gates) - seen, key=_number)  # a later gate has a higher number
            if not new:
                return _take(held, _registry)
        _take(held, *(gate.lock for gate in new if not gate.is_mine()))
        seen.update(new)


def _take(held: list[threading.RLock | None], *locks: threading.RLock) -> None:
    """Acquire, and note what is acquired, in one step for each lock."""
    wait = OUT_OF_TURN if inner._is_owned() else -1.0  # type: ignore[attr-defined]
    held.extend(filter(functools.partial(_RLock.acquire, timeout=wait), locks))  # as it is asked


def _after_in_parent() -> None:
    """Let go of what was taken, in one step; nothing where that is done."""
    if _here.forks and (held := _here.forks[-1]):
        list(map(_RLock.release, iter(held.pop, None)))


def _after_in_child() -> None:
    global _registry, _worker, inner
    _after_in_parent()
    _registry, inner = threading.RLock(), threading.RLock()
    for gate in _gates:
        gate.lock = threading.RLock()  # one that a thread of the parent held, if waiting for it was broken off
        gate.waiting.clear()
    left, _worker = _worker, _Worker()
    left.forked()


def _forget_fork() -> None:
    if _here.forks:
        _here.forks.pop()


# What is done afterwards is asked for twice: a handler that raises may have ended the first as soon as it began.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
    os.register_at_fork(after_in_parent=_after_in_parent, after_in_child=_after_in_child)
    os.register_at_fork(after_in_parent=_forget_fork, after_in_child=_forget_fork)

# A fork waits for who has this, before all gates: imports, the C library, LLVM and its binding have locks, which would
# stay locked in the child. Who is inside a gate asks for it by `loading` alone, as everybody does; nobody has it while
# another process compiles.
no_fork = threading.RLock()


class _AtOnce:
    """`no_fork` for a signal's handler that came inside a gate: who forks may have it, and wait for that gate."""

    def __enter__(self) -> None:
        if not no_fork.acquire(blocking=False):
            raise RuntimeError(BUSY)

    def __exit__(self, *_: object) -> None:
        no_fork.release()


def loading() -> contextlib.AbstractContextManager[object]:
    """Return what is held while code is loaded: `no_fork`; to enter is a RuntimeError where the wait were for ever."""
    return _AtOnce() if _here.is_inside() else no_fork


# These are C's functions: no handler raises on the way into them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=no_fork.acquire,
        after_in_parent=no_fork.release,
        after_in_child=no_fork._at_fork_reinit,  # type: ignore[attr-defined]
    )
