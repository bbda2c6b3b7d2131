"""CUDA C++ to machine code with NVRTC, through cuda.core; results are kept on disk.

Machine code needs no driver and no GPU (PTX does: cuda.core asks what the driver can read). A kernel file is compiled
whole, its headers in their places and its constants as macros, so what is compiled is decided by one text; the cache's
key is that text, the options, the architecture and NVRTC's version. cuda.core's is not in it: it hands the options on,
in whatever spelling, and what NVRTC makes of them is NVRTC's.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gpumlp import kernel_sources
from gpumlp.backends.disk_cache import DiskCache, symbols
from gpumlp.backends.runtime import Defines, parted
from gpumlp.errors import INSTALL, DeviceUnavailable

One = TypeVar("One")

OLDEST_NVRTC = (12, 3)  # which knows the accesses of 128 bits that the whole-fit kernel's packets are
OLDEST = 75  # compute capability times ten: Turing. Older ones lack what the kernels' tiles are made for, and testers
# No fast math: division, square root and denormals as IEEE 754 has them, which is what the CPU computes; and no
# multiply-adds but those that the kernels write, so that what runs on a host gives the bits of a GPU.
OPTIONS: dict[str, str | bool] = {"std": "c++17", "fma": False}


def text_of(file: str, defines: Defines) -> str:
    """Return what is compiled: the constants, then the kernel file with its headers in it."""
    macros, headers = parted(defines)
    return "".join(f"#define {k} {v}\n" for k, v in sorted(macros.items())) + kernel_sources.expanded(file, headers)


def check_core() -> None:
    """Raise DeviceUnavailable where cuda.core cannot be imported, or is of a version that lacks what is used of it."""
    try:
        from cuda.core import __version__ as version
    except Exception as error:  # a part of it may be missing, or be for another CUDA
        raise DeviceUnavailable(f"cuda.core cannot be imported ({type(error).__name__}: {error}). {INSTALL}") from error
    if not (1, 2) <= tuple(int(part) for part in version.split(".")[:2]) < (2, 0):  # as in pyproject.toml
        raise DeviceUnavailable(
            f"cuda.core {version} is installed, which gpumlp cannot use: pip install 'cuda-core>=1.2,<2'."
        )


def architectures() -> list[int]:
    """Return what the installed NVRTC compiles for, as compute capability times ten; DeviceUnavailable without it."""
    try:
        from cuda.bindings import nvrtc

        return [int(a) for a in nvrtc.nvrtcGetSupportedArchs()[1]]
    except Exception as error:  # not installed, or its library cannot be loaded: each in its own way
        raise DeviceUnavailable(
            f"NVRTC, which compiles the kernels, cannot be used ({type(error).__name__}: {error}). {INSTALL}"
        ) from error


def target(capability: int) -> str:
    """Return the architecture to compile for on a GPU of this compute capability (times ten).

    Machine code where NVRTC knows the GPU, else the newest older PTX, which the driver translates.
    """
    known = architectures()
    if capability in known:
        return f"sm_{capability}"
    return f"compute_{max(a for a in known if a <= capability)}"


def _too_old() -> str:
    """Return in words that NVRTC is older than what the kernels are made for; nothing where it is not."""
    told, oldest = version(), ".".join(map(str, OLDEST_NVRTC))
    if tuple(map(int, told.split("."))) >= OLDEST_NVRTC:
        return ""
    return (
        f" (it is version {told}, and gpumlp's kernels are made for {oldest} and newer: "
        f"pip install 'nvidia-cuda-nvrtc-cu12>={oldest}')"
    )


def version() -> str:
    """Return NVRTC's version, such as 13.0: all that it tells of itself."""
    from cuda.bindings import nvrtc

    return ".".join(map(str, nvrtc.nvrtcVersion()[1:]))


def key_of(text: str, arch: str, nvrtc: str) -> str:
    """Return the key under which the cache has a text's machine code for an architecture, by this version of NVRTC."""
    return "\0".join([text, arch, str(OPTIONS), f"nvrtc {nvrtc}"])


def compile_text(text: str, arch: str, name: str = "kernel", report: bool = False) -> tuple[bytes, str]:
    """Compile; return the machine code (PTX for ``compute_``) and, with ``report``, what the assembler says of it.

    RuntimeError, with the compiler's words, where it does not compile.
    """
    check_core()
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(name=name, arch=arch, ptxas_options=["-v"] if report else None, **OPTIONS)
    log = io.StringIO()
    try:
        code = Program(text, "c++", options).compile("ptx" if arch.startswith("compute") else "cubin", logs=log)
    except Exception as error:
        raise RuntimeError(
            f"NVRTC could not compile {name} for {arch}{_too_old()}:\n{error}\n{log.getvalue()}"
        ) from error
    return code.code if isinstance(code.code, bytes) else code.code.encode(), log.getvalue()


def compiled(file: str, defines: Defines, arch: str, cache: DiskCache) -> bytes:
    """Return the machine code of a kernel file, from the cache where it is there."""
    text = text_of(file, defines)
    key = key_of(text, arch, version())
    code = cache.get(key)
    if code is None or lacking(code, text):
        code, _ = compile_text(text, arch, file)
        if kernels := lacking(code, text):
            raise RuntimeError(f"NVRTC compiled {file} for {arch} to something without {', '.join(kernels)}.")
        cache.put(key, code)
    return code


def side_by_side(make: Callable[[One], bytes], wanted: Sequence[One]) -> list[bytes]:
    """Return ``make`` of each, several at once as far as the system gives threads."""
    with ThreadPoolExecutor() as pool:
        begun = []
        with contextlib.suppress(RuntimeError):  # no further thread: those that are there, and this one, do it
            for one in wanted[1:]:
                begun.append(pool.submit(make, one))
        own = [make(one) for one in (*wanted[:1], *wanted[1 + len(begun) :])]
        return [*own[:1], *(other.result() for other in begun), *own[1:]]


def lacking(code: bytes, text: str) -> list[str]:
    """Return which kernels of a text its machine code, or its PTX, does not have: all where it is neither."""
    try:
        has = symbols(code)[0] if code.startswith(b"\x7fELF") else set(re.findall(r"\.entry\s+(\w+)", code.decode()))
    except ValueError:
        has = set()
    return sorted(set(re.findall(r"^KERNEL\((\w+)\)", text, flags=re.MULTILINE)) - has)
