"""Arrays of files that are mapped into memory: whether the file still has what they stand for."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.lib.array_utils import byte_bounds


def rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return a copy of these rows; OSError as `check_there`."""
    check_there(array)
    found: np.ndarray = array[rows]
    return found


def check_there(array: object) -> None:
    """Raise OSError where ``array`` is of a mapped file that has become too short for it.

    To touch what is no longer there is the process's end (SIGBUS). What counts is the file that is mapped, whatever
    now has its name. Where that is none, or is unknown, nothing is raised.
    """
    if not isinstance(array, np.ndarray):
        return
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not isinstance(root.base, mmap.mmap) or not array.size:
        return
    there, needed = root.base.size(), byte_bounds(array)[1] - byte_bounds(root)[0] + root.offset
    if there < needed:
        raise OSError(f"{root.filename} has been cut to {there} bytes, of which byte {needed - 1} is asked for.")
