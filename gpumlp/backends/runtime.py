"""The seam below the GPU backends: what a runtime is, and what a recording of launches is.

A runtime has
- ``xp``, ``name``, ``multiprocessors``; ``shared_bytes``, the most dynamic shared memory that a block may ask for;
  ``pointer_words``, the 8-byte words that a pointer takes inside a struct;
- ``empty(shape, dtype)``, ``zeros(shape, dtype)``: device arrays, 16-byte aligned; DeviceMemoryError when full;
- ``free_bytes()``: how much could still be allocated, about;
- ``owns(value)``: whether the value is an array of this device already; ``adopt(value)``: a device array that shares
  the memory of a CuPy, DLPack or ``__cuda_array_interface__`` array on this device, None for anything else;
- ``upload(array, values)``, ``download(array)``: copies in stream order; the download waits for everything before it;
- ``pinned(shape, dtype)``: a page-locked NumPy array; ``upload_beside(array, pinned, after)``: starts a copy beside the
  kernels, once mark ``after`` (or None) is reached, and returns the mark of its end. Until then ``pinned`` must stay as
  it is, and nothing may read ``array`` before ``wait_for(mark)``;
- ``mark()``: a mark behind all that was launched so far; ``wait_for(mark)``: what is launched from now on comes after
  it; ``reached(mark)``: the host waits for it;
- ``pointer(array or None)``: ``pointer_words`` integers;
- ``launch(file, function, defines, grid, arguments, shared=0, cooperative=False)``: a kernel of kernels/``file``
  compiled with ``defines``, of which THREADS is the block's size; an int goes as long long, a float as float, an array
  or None as a pointer, a tuple of ints and pointers as a struct, by value (see `words`). Each block has ``shared``
  bytes of dynamic shared memory. In a ``cooperative`` launch all blocks are resident at once, so that they may wait for
  each other; KernelError where so many cannot be;
- ``record(work)``: calls ``work`` and returns its launches, not run, as a `Recording`;
- ``last``: the name of what was launched last, for errors that come later; ``step_by_step``: whether every launch is
  waited for, so that they name the right one (GPUMLP_SYNC=1), and nothing is recorded;
- ``synchronize()``: waits for everything; KernelError where something went wrong on the device;
- ``carried(work)``: a function that calls ``work`` on another thread as it would be called on this one, where a library
  has a current device and a current stream;
- ``current()``: a context manager under which the device is the array library's current one, and what goes wrong there
  is a DeviceMemoryError or a KernelError.

`cuda_runtime` is the one for GPUs. The tests have another, which runs the same kernels on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Defines = Mapping[str, int | str]  # a kernel's constants: macros by name


def words(runtime: Any, members: Iterable[Any]) -> list[int]:
    """Return a struct of integers (long long) and pointers as its 8-byte words: nothing lies between its members."""
    return [word for m in members for word in ((m,) if isinstance(m, int) else runtime.pointer(m))]


@dataclass
class Recording:
    """``nodes`` launches that can be run again as they were recorded, and the arrays that they hold on to."""

    replay: Callable[[], None]
    nodes: int
    arrays: list[Any] = field(default_factory=list, repr=False)
