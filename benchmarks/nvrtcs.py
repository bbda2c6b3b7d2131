"""NVRTC as users have it: the oldest that gpumlp knows, the one beside PyTorch's CUDA 13.0, and the newest.

Which compiler a machine has decides which code it runs, and even what is C++ to it. Each version is a wheel; the older
two are unpacked into folders of their own by ``.venv/bin/python benchmarks/nvrtcs.py`` (``make test`` calls it), any
other one by that with its number, such as 12.8.93, behind it; the newest is the environment's. None needs a driver or a
GPU.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cuda.bindings import nvrtc
from cuda.core import ProgramOptions

from gpumlp.backends.compiler import OPTIONS

FOLDER = Path(__file__).parents[1] / ".nvrtc"
OLDEST = "12.3.107"  # the first minor version that knows accesses of 128 bits, which packets are
COMMON = "13.0.88"  # beside PyTorch's and JAX's wheels for CUDA 13
NEWEST = "newest"
VERSIONS = (OLDEST, COMMON, NEWEST)


@dataclass(frozen=True)
class Nvrtc:
    """One version's library, through its C interface."""

    version: str
    library: ctypes.CDLL

    def architectures(self) -> list[int]:
        """Return what it compiles for, as compute capability times ten."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", found)
        return list(found)

    def knows(self, arch: str) -> bool:
        """Whether it compiles for an architecture such as sm_90."""
        return int(arch.partition("_")[2].rstrip("a")) in self.architectures()

    def compile(
        self, text: str, arch: str, name: str = "kernel", ptx: bool = False, report: bool = False, **more: Any
    ) -> tuple[bytes, str]:
        """Compile as `gpumlp.backends.compiler.compile_text` does; return machine code, or PTX, and what was said.

        ``more`` are further options, as `ProgramOptions` has them.

        RuntimeError, with the compiler's words, where it does not compile.
        """
        arch = arch.replace("sm_", "compute_") if ptx else arch
        options = ProgramOptions(
            name=name, arch=arch, **OPTIONS, **({"ptxas_options": ["-v"]} if report else {}), **more
        )
        words = options.as_bytes("nvrtc")
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            status = self.library.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
            said = self._text(program, "ProgramLog").decode(errors="replace").rstrip("\0")
            if status:
                raise RuntimeError(f"NVRTC {self.version} could not compile {name} for {arch}:\n{said}")
            return self._text(program, "PTX" if ptx else "CUBIN"), said
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, text)
        return text.raw

    def _call(self, function: str, *arguments: object) -> None:
        status = self.library[function](*arguments)
        if status:
            raise RuntimeError(f"{function} of NVRTC {self.version} failed with status {status}")


@functools.cache
def get(version: str = NEWEST) -> Nvrtc:
    """Return a version: NEWEST, or a number that is unpacked; ValueError, with what to do, for another."""
    where = _installed() if version == NEWEST else FOLDER / version
    found = sorted(where.glob("**/libnvrtc*.so.*"))
    named = {path.name.partition(".so")[0]: path for path in found}
    if not found:
        there = sorted(place.name for place in FOLDER.glob("*") if place.is_dir() and not place.name.startswith("."))
        raise ValueError(
            f"NVRTC {version} is not here; {', '.join([*there, NEWEST])} are. "
            "Fetch a version of its wheel: .venv/bin/python benchmarks/nvrtcs.py 12.8.93"
        )
    # By their paths, as a name finds what is loaded already: so the environment's own, which cuda.bindings finds by its
    # name, comes first. The compiler asks for its other half by name.
    nvrtc.nvrtcVersion()
    ctypes.CDLL(str(named["libnvrtc-builtins"]))
    library = ctypes.CDLL(path := str(named["libnvrtc"]))
    numbers = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(*(ctypes.byref(n) for n in numbers))
    told = f"{numbers[0].value}.{numbers[1].value}"
    assert version == NEWEST or version.startswith(told + "."), f"{path} says that it is {told}"
    return Nvrtc(told if version == NEWEST else version, library)


def _installed() -> Path:
    """Return the folder of the environment's NVRTC."""
    for file in metadata.files("nvidia-cuda-nvrtc") or ():
        if file.name.startswith("libnvrtc.so"):
            return Path(str(file.locate())).parent
    raise FileNotFoundError("the package nvidia-cuda-nvrtc has no libnvrtc.so")


def unpack(version: str) -> None:
    """Put a version's wheel into its folder; nothing where it is there."""
    place = FOLDER / version
    if place.exists():
        return
    part = FOLDER / f"{version}.{os.getpid()}"
    major = int(version.partition(".")[0])
    wheel = "nvidia-cuda-nvrtc" if major >= 13 else f"nvidia-cuda-nvrtc-cu{major}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(part)]
    subprocess.run([*command, f"{wheel}=={version}"], check=True)
    try:
        part.rename(place)
    except OSError:  # another process was faster
        if not place.exists():
            raise


if __name__ == "__main__":
    for one in sys.argv[1:] or (OLDEST, COMMON):
        unpack(one)
