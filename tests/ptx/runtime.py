"""The runtime seam by what NVRTC emits: kernels compiled to PTX, translated to C++, and run on the host.

All is as in `host.runtime`, but for where the C++ comes from, and that a pointer is an address alone, as on a GPU.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from host import runtime as host
from host.runtime import HostRuntime

from gpumlp.backends import compiler
from gpumlp.backends.runtime import Defines
from ptx.translate import translated

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "benchmarks"))
import nvrtcs  # noqa: E402  (found there)

# Thousands of registers are variables, of which not all find room in the CPU's.
FLAGS = [*host.FLAGS, "-fwrapv", "-DGPUMLP_HOST_STACK=262144"]


class PtxRuntime(HostRuntime):
    """Runs the PTX that a version of NVRTC makes for ``capability``, compute capability times ten."""

    name = "PTX on the host"
    pointer_words = 1
    launched: ClassVar[Counter[str]] = Counter()  # by all of them, by kernel

    def __init__(self, seed: int = 0, mutate: Any = None, version: str | None = None, capability: int = 90) -> None:
        super().__init__(seed, mutate)
        self.nvrtc, self.capability = nvrtcs.get(version or nvrtcs.COMMON), capability
        self._owners: list[tuple[weakref.ref[np.ndarray], tuple[int, int]]] = []  # of memory, and where it is

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        array = super().empty(shape, dtype)
        self._owners.append((weakref.ref(owner(array)), extent(array)))
        return array

    def pointer(self, array: np.ndarray | None) -> tuple[int, ...]:
        return super().pointer(array)[:1]

    def _text(self, file: str, defines: Defines) -> str:
        return compiler.text_of(file, defines)

    def _compile(self, text: str, defines: Defines) -> ctypes.CDLL:
        ptx, _ = self.nvrtc.compile(text, f"sm_{self.capability}", ptx=True)
        return host.library(translated(ptx.decode().rstrip("\0")), [HERE, host.HERE], FLAGS)

    def _run(self, library: ctypes.CDLL, function: str, shape: Any, packed: list[Any], keep: Any) -> None:
        """Run, and let the kernel touch what was allocated and is alive, and what it was given from elsewhere."""
        self._owners = [(alive, where) for alive, where in self._owners if alive() is not None]
        own = {where for _, where in self._owners}
        given = {extent(array) for array in keep if array is not None}
        foreign = {(low, high) for low, high in given if not any(a <= low and high <= b for a, b in own)}
        bounds = [bound for where in own | foreign for bound in where]
        library["hold_arrays"]((ctypes.c_ulonglong * len(bounds))(*bounds), ctypes.c_longlong(len(bounds) // 2))
        super()._run(library, function, shape, packed, keep)
        self.launched[function] += 1


def owner(array: np.ndarray) -> np.ndarray:
    """Return the array that lives as long as the memory is used."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def extent(array: np.ndarray) -> tuple[int, int]:
    """Return where an array's memory begins and ends."""
    return array.ctypes.data, array.ctypes.data + array.nbytes
