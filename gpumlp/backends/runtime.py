"""The seam below the CUDA backend: what a runtime is, and what a recording of launches is.

A runtime has
- ``xp``, ``name``, ``multiprocessors``; ``pointer_words``, the 8-byte words that a pointer takes inside a struct;
- ``empty(shape, dtype)``, ``zeros(shape, dtype)``: device arrays, 16-byte aligned at least; MemoryError when full;
- ``upload(array, values)``, ``download(array)``: copies in stream order; the download waits for everything before it;
- ``pointer(array or None)``: ``pointer_words`` integers;
- ``launch(file, function, defines, grid, arguments)``: a kernel of kernels/``file`` compiled with ``defines``, of which
  THREADS is the block's size; an int goes as long long, a float as float, an array or None as a pointer;
- ``record(work)``: calls ``work`` and returns its launches, not run, as a `Recording`;
- ``synchronize()``.

`cuda_runtime` is the one for GPUs. The tests have another, which runs the same kernels on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Recording:
    """Launches that can be run again as they were recorded."""

    replay: Callable[[], None]
    nodes: int
