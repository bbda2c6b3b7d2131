"""The runtime seam without a GPU: kernels compiled by the host's C++ compiler and run by `primitives.h`.

Arrays are NumPy's; recording keeps launches in a list, with the arguments that they were given, and replays them. Every
launch gets a schedule of its own, drawn from the runtime's seed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from gpumlp import kernel_sources
from gpumlp.backends.numpy_backend import aligned_zeros
from gpumlp.backends.runtime import Defines, Recording, parted, words
from gpumlp.errors import DeviceMemoryError, KernelError

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX", "g++")
CPU = Path("/proc/cpuinfo")
# no multiply-add but those that are written, as on a GPU; and these by the processor's own instruction, if it has one
FLAGS = [
    "-std=c++17", "-O1", "-fPIC", "-shared", "-fno-gnu-unique", "-fno-strict-aliasing", "-w", "-ffp-contract=off",
    *(["-mfma"] if CPU.exists() and " fma " in CPU.read_text() else []),
]  # fmt: skip
CACHE = Path(tempfile.gettempdir()) / f"gpumlp-host-kernels-{os.getuid()}"


class HostKernelError(KernelError):
    """A kernel did on the host what would be wrong on a GPU."""


class DeviceArray(np.ndarray):
    """An array in the memory of the host runtime: a type of its own, so that mixing it up with the host's shows."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.__array_interface__

    @property
    def __array_namespace__(self) -> Any:
        raise AttributeError("CuPy's arrays have none")


def broken(old: str, new: str, runtime: Any = None) -> tuple[HostRuntime, list[str]]:
    """Return a runtime in whose kernels ``old`` is replaced by ``new``, and the files where it was, as they come.

    ``runtime``: its class, if it is not HostRuntime.
    """
    found: list[str] = []

    def mutate(file: str, text: str) -> str:
        if old in text:
            found.append(file)
        return text.replace(old, new)

    return (runtime or HostRuntime)(mutate=mutate), found


def aligned_copy(values: np.ndarray) -> np.ndarray:
    """Return the values as a device array."""
    array = aligned_zeros(values.shape, values.dtype).view(DeviceArray)
    array[...] = values
    return array


class Copy:
    """A copy beside the kernels. Where it has not been waited for, nobody knows what has arrived."""

    def __init__(self, array: np.ndarray, pinned: np.ndarray) -> None:
        self.array, self.pinned, self.landed = array, pinned, False
        self.awaited: int | None = None  # how many launches there were when later ones were told to come after it
        self.left = False  # whether the host has waited, and may write into ``pinned`` again
        poison(array)

    def land(self) -> None:
        if not self.landed:
            self.array[...], self.landed = self.pinned, True


class Mark(int):
    """A place behind so many launches."""


def poison(array: np.ndarray) -> None:
    """Fill with NaN (with -1 for integers)."""
    if array.size:
        array.reshape(-1).view(np.uint8).fill(0xFF)


RUN = ("primitives.h", "run", "unsigned long long seed", "seed")
EXPLORE = ("explore.h", "explore", "unsigned long long limit, long long *found", "limit, found")


def compile_kernels(text: str, defines: Defines, how: tuple[str, str, str, str] = RUN) -> ctypes.CDLL:
    """Return the library of all kernels in ``text``, each behind a function run_NAME.

    ``how``: the header that has the function, its name, and its parameters beyond those of every launch.
    """
    names = re.findall(r"KERNEL\((\w+)\)\(", text)
    header, function, parameters, passed = how
    calls = f'#include "{header}"\n' + "".join(
        f'extern "C" const char *{function}_{n}(void **values, const long long *shape, {parameters}) '
        f"{{ return host::{function}({n}, values, shape, {passed}); }}\n"
        for n in names
    )
    settings = "".join(f"#define {k} {v}\n" for k, v in parted(defines)[0].items())
    return library(f"#define GPUMLP_HOST\n{settings}{text}\n{calls}", [HERE], FLAGS)


def library(source: str, folders: list[Path], flags: list[str]) -> ctypes.CDLL:
    """Return the library of a C++ source that includes headers of ``folders``; cached by content."""
    if shutil.which(COMPILER) is None:
        raise RuntimeError(
            f"the kernels cannot be run on this machine: there is no C++ compiler {COMPILER!r}. "
            "Install g++ (Debian: apt install g++), or name another in the variable CXX."
        )
    headers = [path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.h"))]
    key = hashlib.sha256("\0".join([source, *headers, COMPILER, *flags]).encode()).hexdigest()[:24]
    compiled = CACHE / f"{key}.so"
    if not compiled.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            file, output = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
            file.write_text(source, encoding="utf-8")
            including = [f"-I{folder}" for folder in folders]
            done = subprocess.run(
                [COMPILER, *flags, *including, str(file), "-o", str(output)], capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(f"{COMPILER} could not compile the kernels:\n{done.stderr[:4000]}")
            output.replace(compiled)  # whole or not at all, also with several processes at it
    return ctypes.CDLL(str(compiled))


class HostRuntime:
    """See `gpumlp.backends.runtime` for what each method means."""

    name = "host execution"
    index = stream_pointer = 0
    arch = "host"
    xp: Any = np
    pointer_words = 3
    multiprocessors = 8
    shared_bytes = 232448  # as on compute capability 9.0

    def __init__(self, seed: int = 0, mutate: Any = None) -> None:
        self.seed, self._mutate = seed, mutate
        self.launches = self.recorded = self.copies = 0  # how many there were
        self._copied: dict[int, Copy] = {}  # the last copy to an address
        self._libraries: dict[tuple[str, tuple[tuple[str, int | str], ...]], ctypes.CDLL] = {}
        self.step_by_step, self.last = False, "nothing"
        self._recording: list[Any] | None = None
        self._preparing = False
        self.memory: int | None = None  # bytes that may still be allocated; None: as many as there are

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """Return an array of NaN (of -1 for integers), 64-byte aligned."""
        assert self._recording is None, "an allocation cannot be recorded"
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size, kind = int(np.prod(shape)), np.dtype(dtype)
        if self.memory is not None:
            self.memory -= size * kind.itemsize
            if self.memory < 0:
                self.memory += size * kind.itemsize
                raise DeviceMemoryError(size * kind.itemsize, self.memory)
        array = aligned_zeros(shape, kind).view(DeviceArray)
        poison(array)
        return array

    def free_bytes(self) -> int:
        return 1 << 40 if self.memory is None else self.memory

    def owns(self, value: Any) -> bool:
        return isinstance(value, DeviceArray)

    def adopt(self, value: Any) -> Any:
        return value if self.owns(value) else None

    def zeros(self, shape: Any, dtype: Any) -> np.ndarray:
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def upload(self, array: np.ndarray, values: Any) -> None:
        assert self._recording is None, "a copy from the host cannot be recorded"
        array[...] = values

    def download(self, array: np.ndarray) -> np.ndarray:
        assert self._recording is None, "a copy to the host cannot be recorded"
        return np.array(array)

    def pinned(self, shape: Any, dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def upload_beside(self, array: np.ndarray, pinned: np.ndarray, after: Any) -> Copy:
        self.copies += 1
        before = self._copied.get(array.ctypes.data)
        if before is not None:
            assert before.left, "the page-locked memory of a copy that may still be on its way"
            used = before.awaited is not None and self.launches > before.awaited
            assert not used or after > before.awaited, "a copy over what kernels may still read"
        self._copied[array.ctypes.data] = copy = Copy(array, pinned)
        return copy

    def mark(self) -> Mark:
        return Mark(self.launches)

    def wait_for(self, mark: Copy | Mark) -> None:
        if isinstance(mark, Copy):
            mark.land()
            mark.awaited = self.launches

    def reached(self, mark: Copy | Mark) -> None:
        if isinstance(mark, Copy):
            mark.land()
            mark.left = True

    def current(self) -> Any:
        return nullcontext()

    def pointer(self, array: np.ndarray | None) -> tuple[int, ...]:
        if array is None:
            return 0, 0, 0
        assert array.flags.c_contiguous
        start = array.ctypes.data
        return start, start, start + array.nbytes

    def carried(self, work: Any) -> Any:
        return work

    def synchronize(self) -> None: ...

    def launch(
        self, file: str, function: str, defines: Defines, grid: tuple[int, int], arguments: tuple[Any, ...],
        shared: int = 0, cooperative: bool = False,
    ) -> None:  # fmt: skip
        self._check_resources(function, grid, shared, cooperative)
        packed, keep = [], []
        for a in arguments:
            if isinstance(a, tuple):
                members = words(self, a)
                packed.append((ctypes.c_longlong * len(members))(*members))
                keep += [member for member in a if not isinstance(member, int)]
            elif a is None or isinstance(a, np.ndarray):
                packed.append((ctypes.c_longlong * self.pointer_words)(*self.pointer(a)))
                keep.append(a)
            elif isinstance(a, int):
                assert -(1 << 63) <= a < 1 << 63, f"{function}: {a} is no 64-bit integer"
                packed.append(ctypes.c_longlong(a))
            else:
                packed.append(ctypes.c_float(a))
        if self._preparing:
            self._library(file, defines)
            return
        shape = (*grid, defines["THREADS"], shared, cooperative)
        job = (self._library(file, defines), function, shape, packed, keep)
        if self._recording is None:
            self._run(*job)
        else:
            self._recording.append(job)

    def _check_resources(self, function: str, grid: tuple[int, int], shared: int, cooperative: bool) -> None:
        """Refuse what a driver would: a GPU has as much shared memory as it has, and room for so many blocks."""
        if shared > self.shared_bytes:
            raise HostKernelError(f"{function}: {shared} bytes of shared memory; a block may have {self.shared_bytes}")
        blocks = grid[0] * grid[1]
        if cooperative and blocks > self.multiprocessors:
            raise HostKernelError(f"{function}: {blocks} blocks cannot be resident on {self.multiprocessors}")

    def _library(self, file: str, defines: Defines) -> ctypes.CDLL:
        key = (file, tuple(sorted(defines.items())))
        if key not in self._libraries:
            text = self._text(file, defines)
            self._libraries[key] = self._compile(self._mutate(file, text) if self._mutate else text, defines)
        return self._libraries[key]

    def _text(self, file: str, defines: Defines) -> str:
        """Return what is compiled, and what ``mutate`` gets."""
        return kernel_sources.expanded(file, parted(defines)[1])

    def _compile(self, text: str, defines: Defines) -> ctypes.CDLL:
        return compile_kernels(text, defines)

    def _run(self, library: ctypes.CDLL, function: str, shape: Any, packed: list[Any], keep: Any) -> None:
        call = library["run_" + function]
        call.restype = ctypes.c_char_p
        self.launches += 1
        pointers = (ctypes.c_void_p * len(packed))(*(ctypes.addressof(p) for p in packed))
        seed = ctypes.c_ulonglong(self.seed * 1_000_003 + self.launches)
        message = call(pointers, (ctypes.c_longlong * 5)(*shape), seed)
        if message:
            raise HostKernelError(f"{function}: {message.decode()}")

    def record(self, work: Any) -> Recording:
        assert self._recording is None, "recordings do not nest"
        self._preparing = True
        try:
            work()  # compiles and allocates; what it launches is dropped
        finally:
            self._preparing = False
        self.recorded += 1
        self._recording = jobs = []
        try:
            work()
        finally:
            self._recording = None

        def replay() -> None:
            for job in jobs:
                self._run(*job)

        return Recording(replay, len(jobs))


class Explorer(HostRuntime):
    """A runtime that runs every launch in all orders in which its blocks' loads and stores may come: see explore.h."""

    limit = 10_000_000  # executions
    executions = states = 0  # of the last launch

    def _compile(self, text: str, defines: Defines) -> ctypes.CDLL:
        return compile_kernels(text, defines, EXPLORE)

    def _run(self, library: ctypes.CDLL, function: str, shape: Any, packed: list[Any], keep: Any) -> None:
        call = library["explore_" + function]
        call.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p * len(packed))(*(ctypes.addressof(p) for p in packed))
        found = (ctypes.c_longlong * 3)()
        message = call(pointers, (ctypes.c_longlong * 5)(*shape), ctypes.c_ulonglong(self.limit), found)
        self.executions, self.states, complete = found
        if message:
            raise HostKernelError(f"{function}: {message.decode()}")
        assert complete, f"{function}: more than {self.limit} executions"
