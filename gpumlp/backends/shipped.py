"""Machine code that came with the package: a library for each set of instructions, which the C library finds and loads.

It holds kernels/cpu, and the functions of the package's own formulas by their names (`built_in`). `build_library` makes
it, of sources whose digest it keeps: in a checkout where these have changed since, it is none. Nor is a damaged file:
the system's loader would end the process at a torn one, and calls whatever stands in a flipped one.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path

from gpumlp import kernel_sources
from gpumlp.backends import disk_cache
from gpumlp.backends.instruction_set import InstructionSet
from gpumlp.backends.llvm import PREFIX, PROTOTYPE, Function
from gpumlp.gate import loading

FOLDER = Path(__file__).resolve().parents[1] / "compiled"
MADE_OF = "gpumlp_made_of"  # the symbol of a text: the digest, and the kernels' entries
# What writes and compiles code. Not formulas: another formula has another name.
WRITERS = (
    "expressions.py", "lowering.py", "backends/cpu_formulas.py", "backends/elementary.py",
    "backends/instruction_set.py", "backends/kernel_compiler.py", "backends/kernel_text.py", "backends/llvm.py",
    "backends/llvm_writer.py",
)  # fmt: skip


class Library:
    """A library that is loaded: for as long as the process, as its code may be running."""

    def __init__(self, path: Path) -> None:
        with loading():  # the C library has a lock for it
            self._library = ctypes.CDLL(str(path))
        text = ctypes.cast(self._address(MADE_OF), ctypes.c_char_p).value or b""
        self.digest, *self._entries = json.loads(text)

    def _address(self, name: str) -> int:
        return ctypes.addressof(ctypes.c_char.in_dll(self._library, name))

    def functions(self) -> dict[str, Function]:
        """Return the kernels by name."""
        return {name: PROTOTYPE(self._address(PREFIX + name)) for name in self._entries}

    def formula(self, name: str) -> int:
        """Return where a formula's function stands; 0 where it is not among them."""
        try:
            return self._address(name)
        except ValueError:
            return 0


_libraries: dict[Path, Library | str] = {}


def library(instructions: InstructionSet) -> Library | None:
    """Return the library for these instructions; None where there is none that can be used."""
    found = _found(instructions)
    return None if isinstance(found, str) else found


def why_none(instructions: InstructionSet) -> str:
    """Return, in words, why there is no library for these instructions; nothing where there is one."""
    found = _found(instructions)
    return found if isinstance(found, str) else ""


def _found(instructions: InstructionSet) -> Library | str:
    path = FOLDER / f"{instructions.name}.so"
    if path not in _libraries:
        _libraries[path] = opened(path)
    return _libraries[path]


def opened(path: Path) -> Library | str:
    """Return the library in a file, which has the name of its instruction set; in words why it is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return f"none for {path.stem} came with this installation"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    end = len(content) - disk_cache.HEAD.size
    if end <= 0 or content != sealed(path.stem, content[:end]):
        return f"{path} is damaged (install gpumlp again)"
    try:
        found = Library(path)
    except (OSError, ValueError) as error:
        return f"{path} cannot be loaded ({error})"
    return found if found.digest == digest() else f"{path} is of other sources than are here"


def sealed(name: str, content: bytes) -> bytes:
    """Return a library for the set of this name with what `opened` looks for: at its end, where no loader looks."""
    return content + disk_cache.sealed(name, content)[: disk_cache.HEAD.size]


def digest() -> str:
    """Return the digest of all that the code depends on, but for the compiler."""
    package, kernels = Path(__file__).resolve().parents[1], kernel_sources.folder() / "cpu"
    found = hashlib.sha256()
    for file in (*sorted(kernels.glob("*.py")), *(package / name for name in WRITERS)):
        found.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()
