"""The threads of NumPy's BLAS: how many there are, and one only for products that two would not make faster.

OpenBLAS's threads wait for each other in a loop, without leaving their cores. Where somebody else needs a core for a
moment, a product that takes microseconds then takes milliseconds; a small network was seen to train a hundred times
slower for it. One thread loses a tenth at most there.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SMALL = 4_000_000  # products of numbers in a product of matrices, below which one thread is as good: 20 x 256 x 256 is

_lock = threading.Lock()
_holders = 0
_before = 0


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Have the BLAS use one thread, for everybody in the process; afterwards as many as before."""
    global _holders, _before
    found = openblas()
    if found is None:
        yield
        return
    count, set_to = found
    with _lock:
        _holders += 1
        if _holders == 1:
            _before = count()
            set_to(1)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                set_to(_before)
