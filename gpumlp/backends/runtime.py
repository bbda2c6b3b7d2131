"""The seam below the GPU backends: what a runtime is, and what a recording of launches is.

`cuda_runtime` is the one for GPUs. The tests have another, which runs the same kernels on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gpumlp.config import in_float32

# NumPy's, or a GPU library's, which is called alike and has no types of its own: CuPy's arrays pass for these.
Array = npt.NDArray[np.float32 | np.float64 | np.int32 | np.int64 | np.uint32]
Rows = npt.NDArray[np.int64]  # which samples, in which order
DType = np.dtype[np.float32 | np.float64 | np.int32 | np.int64 | np.uint32]
Member = int | Array | None  # of a struct that a kernel is given
Argument = float | Member | tuple[Member, ...]  # of a kernel: see `Runtime.launch`
Result = TypeVar("Result")
Scalar = TypeVar("Scalar", bound="np.generic[object]")
Kind = type[Scalar] | np.dtype[Scalar]
# What a kernel file is compiled with: macros by name, and headers that are made for it (FORMULAS) by theirs.
Defines = Mapping[str, int | str]
FORMULAS = "formulas.cuh"


def parted(defines: Defines) -> tuple[dict[str, int | str], dict[str, str]]:
    """Return the macros, and the made headers."""
    headers = {name: str(text) for name, text in defines.items() if name.endswith(".cuh")}
    return {name: value for name, value in defines.items() if name not in headers}, headers


def words(runtime: Runtime, members: Iterable[Member]) -> list[int]:
    """Return a struct of integers (long long) and pointers as its 8-byte words: nothing lies between its members."""
    return [word for m in members for word in ((m,) if isinstance(m, int) else runtime.pointer(m))]


def float_words(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return numbers as float32 in 8-byte words; the last one, or that of each row, may have room for one more."""
    found = np.atleast_1d(in_float32(values))
    if found.shape[-1] % 2:
        found = np.concatenate([found, np.zeros((*found.shape[:-1], 1), np.float32)], axis=-1)
    return found.view(np.int64)


@dataclass
class Recording:
    """``nodes`` launches that can be run again as they were recorded, and the arrays that they hold on to."""

    replay: Callable[[], None]
    nodes: int
    arrays: list[tuple[Argument, ...]] = field(default_factory=list, repr=False)


class Chip(Protocol):
    """What is known of a GPU before anything runs there."""

    @property
    def arch(self) -> str:
        """Its architecture, such as sm_90."""

    @property
    def multiprocessors(self) -> int: ...

    @property
    def shared_bytes(self) -> int:
        """The most dynamic shared memory that a block may ask for."""


class Runtime(Chip, Protocol):
    """One GPU: memory, copies, launches, recordings."""

    last: str  # the name of what was launched last, for errors that come later

    @property
    def name(self) -> str: ...

    @property
    def xp(self) -> ModuleType:
        """The array library whose arrays these are."""

    @property
    def index(self) -> int:
        """Which GPU."""

    @property
    def stream_pointer(self) -> int:
        """The current stream, as a number; 0 for the default one."""

    @property
    def pointer_words(self) -> int:
        """The 8-byte words that a pointer takes inside a struct."""

    @property
    def step_by_step(self) -> bool:
        """Whether every launch is waited for, so that errors name it, and nothing is recorded: GPUMLP_SYNC=1."""

    # ---- memory

    def empty(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return a device array, 16-byte aligned; DeviceMemoryError when full."""

    def zeros(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return such an array of zeros."""

    def free_bytes(self) -> int:
        """Return how much could still be allocated, about."""

    def owns(self, value: object) -> bool:
        """Whether the value is an array of this device already."""

    def adopt(self, value: object) -> Array | None:
        """Return a device array that shares the value's memory, None where that is no array on this device.

        It may be one of CuPy, or have DLPack or ``__cuda_array_interface__``.
        """

    def pointer(self, array: Array | None) -> tuple[int, ...]:
        """Return ``pointer_words`` integers."""

    # ---- copies

    def upload(self, array: Array, values: npt.ArrayLike) -> None:
        """Copy from the host, in stream order."""

    def download(self, array: Array) -> Array:
        """Copy to the host, in stream order: it waits for everything before it."""

    def pinned(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return a page-locked NumPy array."""

    def upload_beside(self, array: Array, pinned: Array, after: object) -> object:
        """Start a copy beside the kernels, once mark ``after`` (or None) is reached, and return the mark of its end.

        Until then ``pinned`` must stay as it is, and nothing may read ``array`` before ``wait_for(mark)``.
        """

    def mark(self) -> object:
        """Return a mark behind all that was launched so far."""

    def wait_for(self, mark: object) -> None:
        """Have what is launched from now on come after the mark."""

    def reached(self, mark: object) -> None:
        """Have the host wait for the mark."""

    # ---- launches

    def launch(
        self, file: str, function: str, defines: Defines, grid: tuple[int, int], arguments: tuple[Argument, ...],
        shared: int = 0, cooperative: bool = False,
    ) -> None:  # fmt: skip
        """Launch a kernel of kernels/``file`` compiled with ``defines``, of which THREADS is the block's size.

        An int goes as long long, a float as float, an array or None as a pointer, a tuple of ints and pointers as a
        struct, by value (see `words`). Each block has ``shared`` bytes of dynamic shared memory. In a ``cooperative``
        launch all blocks are resident at once, so that they may wait for each other; KernelError where so many cannot.
        """

    def record(self, work: Callable[[], None]) -> Recording:
        """Call ``work`` and return its launches, not run."""

    def synchronize(self) -> None:
        """Wait for everything; KernelError where something went wrong on the device."""

    def carried(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Return a function that calls ``work`` on another thread as it would be called on this one.

        For a library that has a current device and a current stream.
        """

    def current(self) -> AbstractContextManager[object]:
        """Return a context under which the device is the array library's current one.

        What goes wrong there is a DeviceMemoryError or a KernelError.
        """
