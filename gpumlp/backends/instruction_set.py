"""For which instructions the CPU's code is made: a few sets, not every processor's own.

So that what came with the package, what is in the cache, and what is compiled now are the same code, and give the same
bits: by a processor's own name LLVM would schedule, and contract, in other ways.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import sys
from dataclasses import dataclass, field
from typing import Any

from gpumlp.errors import DeviceUnavailable

_X86, _ARM = ("x86_64", "amd64"), ("aarch64", "arm64")


@dataclass(frozen=True)
class InstructionSet:
    """``lanes``: float32 in a vector; ``masks``: whether it can leave lanes of them out.

    ``machines``: what systems call those that may have it, LLVM's word first. ``processor``, ``features`` and
    ``wants``, what a processor must have, are LLVM's words.
    """

    name: str
    machines: tuple[str, ...] = field(repr=False)
    processor: str
    features: str
    lanes: int
    masks: bool
    wants: frozenset[str] = field(default=frozenset(), repr=False)  # is written in another order by every process

    @property
    def foreign(self) -> bool:
        """Whether it is another kind of machine's."""
        return platform.machine().lower() not in self.machines


_SSE = frozenset({"sse4.1", "sse4.2", "ssse3", "popcnt", "cx16"})
_AVX2 = _SSE | {"avx2", "fma", "bmi", "bmi2", "f16c", "movbe", "lzcnt"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
# The best first.
SETS = {
    found.name: found
    for found in (
        InstructionSet("avx512", _X86, "x86-64-v4", "-prefer-256-bit", 16, True, _AVX512),
        InstructionSet("avx2", _X86, "x86-64-v3", "", 8, True, _AVX2),
        InstructionSet("sse4", _X86, "x86-64-v2", "", 4, False, _SSE),
        InstructionSet("neon", _ARM, "generic", "", 4, False),
    )
}
# /proc/cpuinfo's words, where they are not LLVM's with "_" for "."
_LINUX = {"bmi": "bmi1", "lzcnt": "abm"}


def chosen() -> InstructionSet:
    """Return the set that GPUMLP_CPU names, otherwise the best that this processor has.

    Raises
    ------
    ValueError, DeviceUnavailable
        As `asked`; and DeviceUnavailable where nothing is asked for, and no set is known to be there.
    """
    if (own := asked()) is not None:
        return own
    if best := next(iter(available()), None):
        return SETS[best]
    untold = sys.platform != "linux" and not all(s.foreign for s in SETS.values())
    raise DeviceUnavailable(
        f"There are no compiled kernels for this processor ({platform.machine()})"
        + untold * ", as far as can be told without llvmlite: pip install 'gpumlp[jit]'" + "."
    )  # fmt: skip


def asked() -> InstructionSet | None:
    """Return the set that GPUMLP_CPU names; None where it is not set.

    Raises
    ------
    ValueError
        For a name that is no set's.
    DeviceUnavailable
        For a set that this processor lacks: a wish is met or refused.
    """
    name = os.environ.get("GPUMLP_CPU")
    if not name:
        return None
    if name not in SETS:
        raise ValueError(f"GPUMLP_CPU must be one of {', '.join(SETS)}; got {name!r}.")
    if name not in available():
        there = ", ".join(available()) or "none of them"
        raise DeviceUnavailable(
            f"GPUMLP_CPU={name}: this processor ({platform.machine()}) has not got these instructions; it has {there}."
        )
    return SETS[name]


def whose_choice() -> str:
    """Return, in words, who chose the set."""
    return "which GPUMLP_CPU names" if asked() else "the best that this processor has"


@functools.cache
def available() -> tuple[str, ...]:
    """Return the names of the sets that this processor has, the best first."""
    features = _features()
    return tuple(s.name for s in SETS.values() if not s.foreign and s.wants <= features)


def _features() -> set[str]:
    """Return which of the instructions that are asked for there are, as far as it can be found out."""
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", "rb") as file:
                head = file.read(1 << 13)  # the first processor's: a large machine's whole text takes milliseconds
        except OSError:
            return set()
        flags = next((line for line in head.split(b"\n") if line.startswith(b"flags")), b"").decode().split()
        return {want for want in _AVX512 if _LINUX.get(want, want.replace(".", "_")) in flags}
    try:
        binding: Any = importlib.import_module("llvmlite.binding")
    except Exception:  # not installed, or its library cannot be loaded
        return set()
    return {name for name, there in binding.get_host_cpu_features().items() if there}
