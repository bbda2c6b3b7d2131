"""Compiled kernels for the CPU, and the functions of formulas: who wants one asks here, and gets an address to call.

They come with the package (`shipped`), from this user's cache, or are compiled: `kernel_compiler` makes an object file
of kernels/cpu by Numba, `llvm` one of each formula without it, and loads them. Everything goes by the instruction set
that it was made for; a process may have kernels of several.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpumlp import kernel_sources
from gpumlp.backends import instruction_set, kernel_compiler, llvm, llvm_writer, shipped
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.disk_cache import DiskCache, symbols
from gpumlp.backends.instruction_set import InstructionSet
from gpumlp.backends.llvm import Function
from gpumlp.errors import DeviceUnavailable, Uncompiled

# Whose formula it is, by the kind of its function.
WHAT = {
    "forward": "An activation", "back": "An activation", "loss": "The loss", "metric": "A metric",
    "penalty": "A regularizer", "update": "The optimizer",
}  # fmt: skip


class Kernels(dict[str, Function]):
    """Compiled kernels by name, each to be called with (address of its table, thread), and what they are made for."""

    def __init__(self, functions: Mapping[str, Function], instructions: InstructionSet) -> None:
        super().__init__(functions)
        self.instructions = instructions


COMPILER = ("kernel_compiler", "kernel_text", "llvm")  # the files beside this one that say how kernels are compiled
_lock = threading.RLock()  # of who compiles or loads; a signal's handler that asks meanwhile does it for itself
_found: dict[str, Kernels | DeviceUnavailable] = {}  # by the instruction set's name
# Where the functions of formulas stand, by what they are asked for, and by their names; and for which instructions.
_formulas: dict[tuple[str, Code], int] = {}
_formula_names: dict[tuple[str, str], int] = {}


def problem() -> str | None:
    """Return why compiled kernels cannot be used, and what to do; None where nothing is known against it.

    Numba is not imported for the answer, and nothing is compiled: that is for `functions` to try.

    Raises
    ------
    ValueError, DeviceUnavailable
        For a GPUMLP_CPU that cannot be met: see `instruction_set.asked`.
    """
    instruction_set.asked()
    try:
        instructions = instruction_set.chosen()
        if shipped.library(instructions) is not None:
            return None
        for package in ("llvmlite", "numba"):
            if llvm.spec_of(package) is None:
                why = shipped.why_none(instructions)
                return f"There are no compiled CPU kernels: {why}, and {package} is not installed. {llvm.INSTALL}"
        llvm.binding()
    except DeviceUnavailable as error:
        return str(error)
    found = _found.get(instructions.name)
    return str(found) if isinstance(found, DeviceUnavailable) else None


def functions() -> Kernels:
    """Return the compiled kernels for the instructions that are chosen now.

    Where none came with the package they are compiled, once on a machine; they are loaded once in a process, whichever
    thread asks first. While one runs, other Python threads run too.

    Raises
    ------
    DeviceUnavailable
        Where they cannot be compiled or loaded; the message says why. It is not tried again in this process.
    """
    instructions = instruction_set.chosen()
    with _lock:
        if instructions.name not in _found:
            _found[instructions.name] = _outcome(instructions)
    found = _found[instructions.name]
    if isinstance(found, DeviceUnavailable):
        raise found.with_traceback(None)
    return found


def _outcome(instructions: InstructionSet) -> Kernels | DeviceUnavailable:
    if (library := shipped.library(instructions)) is not None:
        return Kernels(library.functions(), instructions)
    try:
        return load(kernel_sources.folder() / "cpu", DiskCache(), instructions)
    except DeviceUnavailable as error:
        return error
    except OSError as error:  # no more processes, no more files; kernels that are not there or cannot be read
        return DeviceUnavailable(f"The CPU kernels cannot be compiled or loaded: {error}")


def state() -> str:
    """Return, in words, for which instructions the kernels are, and whether they are compiled already."""
    instructions, cache = instruction_set.chosen(), DiskCache()
    made_for = f"for {instructions.name}, {instruction_set.whose_choice()}"
    if shipped.library(instructions) is not None:
        return f"came with gpumlp, {made_for}"
    why = shipped.why_none(instructions)
    if cache.peek(key_of(kernel_sources.folder() / "cpu", instructions)) is None:
        return (
            f"not yet, {made_for}: {why}; the first fit, or `python -m gpumlp compile`, makes them, to be kept "
            f"{cache.where()}"
        )
    return f"made here, {made_for}, as {why}; kept {cache.where()}"


def _after_fork() -> None:
    """Take it that nobody compiles or loads: a fork has no other thread of its parent's, but the lock as it was."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# ---- kernels ---------------------------------------------------------------------------------------------------------


def load(folder: Path, cache: DiskCache, instructions: InstructionSet) -> Kernels:
    """Return the entries of a kernel package, from the cache or compiled; DeviceUnavailable where that cannot be."""
    llvm.look_at_system()
    key = key_of(folder, instructions)
    kept = cache.get(key)
    if kept is not None:
        with contextlib.suppress(DeviceUnavailable):  # what is not as it should be is made anew
            return Kernels(llvm.link(kept, instructions), instructions)
    _announce(instructions)
    content = kernel_compiler.compile_apart(folder, instructions)
    functions = Kernels(llvm.link(content, instructions), instructions)  # what cannot be loaded is not kept
    cache.put(key, content)
    return functions


def _announce(instructions: InstructionSet) -> None:
    with contextlib.suppress(Exception):  # a word that nobody can read
        print(
            f"gpumlp compiles its CPU kernels for {instructions.name}, once on this machine, as "
            f"{shipped.why_none(instructions)}: it takes some 5 to 15 s (python -m gpumlp compile does it ahead).",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def key_of(folder: Path, instructions: InstructionSet) -> str:
    """Return all that the object file depends on: the sources, how they are compiled, by what, and for what."""
    texts = [f"{file.name}\0{file.read_text('utf-8')}" for file in kernel_compiler.files(folder)]
    compiler = [Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in COMPILER]
    return "\0".join(
        [*texts, *compiler, *llvm.versions(), _numba_version(), llvm.triple(instructions), str(instructions)]
    )


def _numba_version() -> str:
    """Return the file that states Numba's version: asking importlib.metadata takes 15 ms, importing Numba 150."""
    spec = llvm.spec_of("numba")
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin).with_name("_version.py")
    return file.read_text("utf-8") if file.is_file() else ""


# ---- formulas --------------------------------------------------------------------------------------------------------


def formula_addresses(codes: Sequence[Code], instructions: InstructionSet) -> list[int]:
    """Return where the functions of formulas stand.

    Those that did not come with the package are compiled here, in some milliseconds each, when they are first asked
    for; what is on disk goes by the text that is compiled, so none is taken for another. Once they have been asked for,
    this takes no lock.

    Raises
    ------
    NotImplementedError
        For a formula that cannot be compiled; the message says why.
    DeviceUnavailable
        Where LLVM cannot be had, or what it makes cannot be loaded.
    """
    known = [(instructions.name, code) for code in codes]
    if not all(code in _formulas for code in known):
        with _lock:
            for code in known:
                if code not in _formulas:
                    name = instructions.name, code[1].name
                    found = _formula_names.get(name) or _formula(code[1], instructions)
                    _formulas[code] = _formula_names[name] = found
    return [_formulas[code] for code in known]


def _formula(code: Code, instructions: InstructionSet) -> int:
    library = shipped.library(instructions)
    if library is not None and (found := library.formula(code.name)):
        return found
    if llvm.spec_of("llvmlite") is None:
        raise Uncompiled(
            f"{WHAT[code.kind]} has a formula of its own, which has to be compiled, and llvmlite is not installed. "
            + llvm.INSTALL
        )
    llvm.look_at_system()
    text = llvm_writer.written([code.function()], instructions.lanes, instructions.masks)
    cache, key = DiskCache(), "\0".join([text, *llvm.versions(), llvm.triple(instructions), str(instructions)])
    kept = cache.get(key)
    if kept is not None:
        with contextlib.suppress(DeviceUnavailable, ValueError):  # what is not as it should be is made anew
            return _loaded_formula(kept, code.name, instructions)
    content = llvm.assembled_for(text, instructions)
    address = _loaded_formula(content, code.name, instructions)  # what cannot be loaded is not kept
    cache.put(key, content)
    return address


def _loaded_formula(content: bytes, name: str, instructions: InstructionSet) -> int:
    defined, needs = symbols(content)
    if name not in defined or needs - llvm.ALLOWED:
        raise DeviceUnavailable(
            f"This is no formula's machine code, or it needs {', '.join(sorted(needs)) or 'nothing'}."
        )
    return llvm.addresses(content, [name], instructions)[0]
