"""CUDA C++ to machine code with NVRTC, through cuda.core; results are kept on disk.

Machine code needs no driver and no GPU (PTX does: cuda.core asks what the driver can read). A kernel file is compiled
whole, its headers in their places and its constants as macros, so what is compiled is decided by one text; the cache's
key is that text, the options, the architecture and the versions.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from gpumlp import kernel_sources
from gpumlp.errors import DeviceUnavailable

OLDEST = 75  # compute capability times ten: Turing. Older ones lack what the kernels' tiles are made for, and testers
DIGEST = 32  # bytes of SHA-256
# No fast math: division, square root and denormals as IEEE 754 has them, which is what the CPU computes.
OPTIONS = {"std": "c++17"}


def text_of(file: str, defines: dict[str, int]) -> str:
    """Return what is compiled: the constants, then the kernel file with its headers in it."""
    return "".join(f"#define {k} {v}\n" for k, v in sorted(defines.items())) + kernel_sources.expanded(file)


def architectures() -> list[int]:
    """Return what the installed NVRTC compiles for, as compute capability times ten; DeviceUnavailable without it."""
    try:
        from cuda.bindings import nvrtc

        return [int(a) for a in nvrtc.nvrtcGetSupportedArchs()[1]]
    except Exception as error:  # not installed, or its library cannot be loaded: each in its own way
        raise DeviceUnavailable(
            f"NVRTC, which compiles the kernels, cannot be used ({type(error).__name__}: {error}). "
            "Install it with gpumlp: pip install 'gpumlp[cuda12]' or 'gpumlp[cuda13]'."
        ) from error


def target(capability: int) -> str:
    """Return the architecture to compile for on a GPU of this compute capability (times ten).

    Machine code where NVRTC knows the GPU, else the newest older PTX, which the driver translates.
    """
    known = architectures()
    if capability in known:
        return f"sm_{capability}"
    return f"compute_{max(a for a in known if a <= capability)}"


def versions() -> str:
    """Return the versions that the machine code depends on."""
    from cuda.bindings import nvrtc

    return f"nvrtc {'.'.join(map(str, nvrtc.nvrtcVersion()[1:]))}; cuda-core {metadata.version('cuda-core')}"


def compile_text(text: str, arch: str, name: str = "kernel", report: bool = False) -> tuple[bytes, str]:
    """Compile; return the machine code (PTX for ``compute_``) and, with ``report``, what the assembler says of it.

    RuntimeError, with the compiler's words, where it does not compile.
    """
    from cuda.core import Program, ProgramOptions

    more = {"ptxas_options": ["-v"]} if report else {}  # which older versions of cuda.core do not know
    options = ProgramOptions(name=name, arch=arch, **OPTIONS, **more)
    log = io.StringIO()
    try:
        code = Program(text, "c++", options).compile("ptx" if arch.startswith("compute") else "cubin", logs=log)
    except Exception as error:
        raise RuntimeError(f"NVRTC could not compile {name} for {arch}:\n{error}\n{log.getvalue()}") from error
    return code.code if isinstance(code.code, bytes) else code.code.encode(), log.getvalue()


class DiskCache:
    """Machine code by key, in files that are whole or ignored.

    Writers write beside the file and rename; readers check a digest. So processes may share it, and a file that a
    crash or a full disk tore is made anew. Where nothing can be written, everything works without a cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def path(self, key: str) -> Path:
        """Return where the entry for ``key`` stands; OSError where there is no place for it."""
        if self.folder is None:
            raise OSError("there is no folder for caches")
        return self.folder / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".bin")

    def get(self, key: str) -> bytes | None:
        """Return the entry, or None where there is none or not a whole one."""
        try:
            data = self.path(key).read_bytes()
        except OSError:
            return None
        content = data[DIGEST:]
        return content if data[:DIGEST] == hashlib.sha256(content).digest() else None

    def put(self, key: str, content: bytes) -> bool:
        """Keep ``content``; return whether that could be done."""
        temporary = None
        try:
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                temporary = file.name
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            return False
        return True


def default_folder() -> Path | None:
    """Return GPUMLP_CACHE, or gpumlp/ in the user's folder for caches; None for a user without a home."""
    if own := os.environ.get("GPUMLP_CACHE"):
        return Path(own)
    windows = sys.platform == "win32"
    if base := os.environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME"):
        return Path(base) / "gpumlp"
    try:
        return Path.home() / ("AppData/Local" if windows else ".cache") / "gpumlp"
    except RuntimeError:
        return None


def compiled(file: str, defines: dict[str, int], arch: str, cache: DiskCache) -> bytes:
    """Return the machine code of a kernel file, from the cache where it is there."""
    text = text_of(file, defines)
    key = "\0".join([text, arch, str(OPTIONS), versions()])
    code = cache.get(key)
    if code is None:
        code, _ = compile_text(text, arch, file)
        cache.put(key, code)
    return code
