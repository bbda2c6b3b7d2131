"""Products of matrices by NumPy's BLAS, with bits that depend on the sizes alone.

OpenBLAS sums in another order with another number of threads, and the number is one for the whole process: whoever else
computes, or the processors that there are, would enter the result. Its threads also wait for each other in a loop,
without leaving their cores: where somebody else needs a core for a moment, a product that takes microseconds takes
milliseconds. So while anything of ours runs (`one_thread`), OpenBLAS has one thread, and a large product is cut into
blocks (`dot`), each computed by one of a few threads of our own. Where the cuts are depends on the sizes, never on the
threads: one thread gives the same bits, alone.

Another BLAS (MKL, Accelerate) is left as it is, with its own threads and its own rules for bits.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from gpumlp import gate
from gpumlp.backends.runtime import Array
from gpumlp.backends.team import processors

# A block has at least BLOCK products of numbers, 0.15 ms in float32, beside which waking a thread counts little. BLAS
# repacks for every block what blocks share: so none is narrower than WIDTH, and there are more than FEW, up to MANY,
# only while they have LARGE products each. Always 16 made a step of width and batch 1024 2% slower on two processors.
BLOCK, WIDTH = 1 << 23, 256
FEW, LARGE, MANY = 4, 1 << 28, 16

Product = tuple[Array, Array, Array]  # a, b and where a @ b goes


@functools.cache
def openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return how the threads of the OpenBLAS in NumPy's wheels are counted and set; None for another BLAS."""
    base = Path(np.__file__).parent
    for library in [*base.parent.glob("numpy.libs/*openblas*"), *base.glob(".dylibs/*openblas*")]:
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            try:
                loaded = ctypes.CDLL(str(library))
                count = getattr(loaded, f"{prefix}openblas_get_num_threads{suffix}")
                return count, getattr(loaded, f"{prefix}openblas_set_num_threads{suffix}")
            except (OSError, AttributeError):
                continue
    return None


# ---- one thread of BLAS ----------------------------------------------------------------------------------------------


# `gate.inner` is held while these change; a signal's handler that computes may come in between: the order of statements
# bears it.
_before: int | None = None  # the number to give back


class one_thread:
    """Have the BLAS use one thread, for everybody in the process; after the last such computation as many as before.

    Where a handler's exception ends it on the way out, the next one gives them back.
    """

    def __enter__(self) -> None:
        if openblas() is not None:
            _hold(self)

    def __exit__(self, *problem: object) -> None:
        if openblas() is not None:
            _let_go(self)


# The computations, and the threads that they run on: weak, as one that cannot let go is forgotten with its frame.
_holders: weakref.WeakKeyDictionary[one_thread, int] = weakref.WeakKeyDictionary()


def _hold(token: one_thread) -> None:
    global _before
    count, set_to = openblas()  # type: ignore[misc]
    with gate.inner:
        _holders[token] = threading.get_ident()  # first: a handler that computes in between is not the last to let go
        now = count()
        if _before is None:
            _before = now
        set_to(1)  # every time: others may have set it since


def _let_go(token: one_thread) -> None:
    global _before
    _, set_to = openblas()  # type: ignore[misc]
    with gate.inner:
        _holders.pop(token, None)
        if not _holders:
            before, _before = _before, None
            if before is not None:
                set_to(before)


# ---- our own threads -------------------------------------------------------------------------------------------------


class _Job:
    """Blocks to be computed, each by whoever comes first."""

    def __init__(self, blocks: Iterable[Product]) -> None:
        self.left = deque(blocks)
        self.problem: BaseException | None = None

    def work(self) -> None:
        """Compute blocks until none is left."""
        with np.errstate(all="ignore"):  # `np.dot` says nothing of overflow, and both are to behave alike
            while self.left:
                try:
                    a, b, out = self.left.popleft()
                except IndexError:  # another thread has just taken the last
                    return
                np.matmul(a, b, out=out)


class Helpers:
    """Threads that help with large products, of whatever caller; started when there is a first one."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Take it that no thread has been started: a fork has none of its parent's."""
        self._calls: SimpleQueue[tuple[_Job, threading.RLock]] = SimpleQueue()
        self._started, self._wanted = 0, -1

    def compute(self, blocks: list[Product]) -> None:
        """Compute the blocks, here and on as many threads as there are; back, or raising, when nobody writes any more.

        ValueError for a GPUMLP_THREADS that is no number.
        """
        job, places = _Job(blocks), []
        for _ in range(min(self._number(), len(blocks) - 1)):
            places.append(threading.RLock())
            self._calls.put((job, places[-1]))
        interrupt = None
        while True:
            try:
                job.work()
                while places:
                    # A thread that has begun has its place until it ends; another one finds it taken and does not
                    # begin. After an interrupt right here, the lock, being re-entrant, is ours once more.
                    places[-1].acquire()
                    places.pop()
                break
            except BaseException as error:  # outputs are the caller's memory: only the end of all ends the wait
                interrupt = error
                job.left.clear()
        if problem := interrupt or job.problem:
            raise problem

    def _number(self) -> int:
        """Return how many there are, after having started those that are missing."""
        if self._started != self._wanted:
            with gate.inner:
                try:
                    self._wanted = processors() - 1
                    while self._started < self._wanted:
                        name = f"gpumlp-product-{self._started + 1}"
                        threading.Thread(target=self._help, args=(self._calls,), daemon=True, name=name).start()
                        self._started += 1
                except RuntimeError:  # the system gives no more: those that there are do
                    self._wanted = self._started
        return self._started

    @staticmethod
    def _help(calls: SimpleQueue[tuple[_Job, threading.RLock]]) -> None:
        while True:
            job, place = calls.get()
            if place.acquire(blocking=False):
                try:
                    job.work()
                except BaseException as error:  # it is the caller's: this thread goes on
                    job.problem = error
                    job.left.clear()
                finally:
                    place.release()
            del job, place  # or they would keep the arrays until the next call


helpers = Helpers()


def grid(rows: int, inner: int, columns: int) -> tuple[int, int]:
    """Return into how many parts the rows, and the columns, of a product [rows, inner] @ [inner, columns] are cut."""
    down = across = 1
    while (number := down * across) < MANY:
        height, width = rows // down, columns // across
        least = BLOCK if number < FEW else LARGE
        if max(height, width) < 2 * WIDTH or height * inner * width < 2 * least:
            break
        if height >= width:
            down *= 2
        else:
            across *= 2
    return down, across


def dot(*products: Product) -> None:
    """For each (a[M, K], b[K, N], out[M, N]) write a @ b into ``out``, C-contiguous; float32 or float64, all the same.

    Products that do not need each other are best given together. Within `one_thread` their bits depend on their sizes
    and numbers alone.
    """
    large = False
    for a, b, _ in products:
        large = large or a.size * b.shape[1] >= 2 * BLOCK
    if large and openblas() is not None:
        helpers.compute([block for product in products for block in _blocks(*product)])
    else:
        for a, b, out in products:
            np.dot(a, b, out=out)


def _blocks(a: Array, b: Array, out: Array) -> Iterator[Product]:
    down, across = grid(a.shape[0], a.shape[1], b.shape[1])
    for i in _parts(len(out), down):
        for j in _parts(out.shape[1], across):
            yield a[i], b[:, j], out[i, j]


def _parts(size: int, number: int) -> list[slice[int, int, None]]:
    return [slice(size * i // number, size * (i + 1) // number) for i in range(number)]


# ---- after a fork ----------------------------------------------------------------------------------------------------


def _after_fork() -> None:
    """Have a child hold only what the one thread holds that it has, and start threads of its own."""
    helpers.forget()
    me = threading.get_ident()
    for token in [token for token, thread in _holders.items() if thread != me]:
        _let_go(token)


# Nothing waits before a fork: for gates it waits by itself, and who is inside one may wait for `gate.inner`.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
