"""LLVM's binding: machine code from its language, and loaded into this process. Numba is not needed for it.

LLVM ends the process where an object file needs what is not there: so each is looked at before it is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from gpumlp.backends.disk_cache import symbols
from gpumlp.backends.instruction_set import InstructionSet
from gpumlp.errors import DeviceUnavailable
from gpumlp.gate import loading, whole

if TYPE_CHECKING:
    from llvmlite.binding import ExecutionEngine, TargetMachine

Given = ParamSpec("Given")
Result = TypeVar("Result")
Function = Callable[[int, int], int]
PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)

PREFIX = "gpumlp_"  # of the symbols of a kernel package's entries
INSTALL = "Install gpumlp with its compiler: pip install 'gpumlp[jit]'."
# What an object may ask the C library for: LLVM itself makes such calls out of loops. Mathematics is not among it: it
# differs between systems, and a processor without an instruction would call a function for every element.
ALLOWED = {"memcpy", "memmove", "memset"}
MODULE = """
target triple = "{triple}"
target datalayout = "{layout}"
!llvm.module.flags = !{{!0}}
!0 = !{{i32 7, !"RtLibUseGOT", i32 1}}
"""

_engines: list[ExecutionEngine] = []  # they own the machine code, which may be running as long as the process


def spec_of(package: str) -> ModuleSpec | None:
    """Return where a package is, without importing it, also where its import is blocked in sys.modules."""
    return PathFinder.find_spec(package) or find_spec(package)


def _locked(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Have nobody fork meanwhile: the binding takes a lock for each call, also to ask a version or free a module."""

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with loading():
            return function(*args, **kwargs)

    return call


def _imported() -> ModuleType | Exception:
    try:
        return importlib.import_module("llvmlite.binding")
    except Exception as error:  # not installed, or its library cannot be loaded: each in its own way
        return error


@_locked
def binding() -> ModuleType:
    """Return LLVM's binding, ready for this machine."""
    llvm = whole(_imported)  # what a signal's handler raises meanwhile is no trouble of the import's
    if isinstance(llvm, Exception):
        raise DeviceUnavailable(
            f"The compiled CPU kernels need llvmlite, which cannot be imported ({type(llvm).__name__}: {llvm}). "
            + INSTALL
        ) from llvm
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@_locked
def look_at_system() -> None:
    """Raise DeviceUnavailable where no code may be run that was compiled meanwhile."""
    try:
        binding().check_jit_execution()
    except OSError as error:
        raise DeviceUnavailable(f"This system runs no code that was compiled at run time: {error}.") from error


@_locked
def versions() -> list[str]:
    """Return all by which LLVM, and what it makes, may differ."""
    llvm = binding()
    return [sys.modules["llvmlite"].__version__, str(llvm.llvm_version_info)]


@_locked
def triple(instructions: InstructionSet) -> str:
    """Return for what system code is made, in LLVM's words: this one, or Linux on another kind of machine."""
    if instructions.foreign:
        return f"{instructions.machines[0]}-unknown-linux-gnu"
    found: str = binding().get_process_triple()
    return found + "-elf" * (os.name == "nt")  # the engine loads no COFF


@_locked
def target_machine(instructions: InstructionSet) -> TargetMachine:
    """Return a compiler for processors that have these instructions.

    Code finds its constants at a short distance. Numba's own engine assumes nothing of where they are, and loads their
    addresses first: a tenth more time in kernels with many constants. Short distances want an engine that keeps an
    object's parts together, as LLVM does not notice one that is too long. The C library is not near; its functions'
    addresses stand in a table of the object (``RtLibUseGOT``), as llvmlite's memory manager forgets room for detours.
    """
    llvm = binding()
    if instructions.foreign:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(triple(instructions)).create_target_machine(
        cpu=instructions.processor, features=instructions.features, opt=3, reloc="pic", codemodel="default"
    )


@_locked
def head(machine: TargetMachine) -> str:
    """Return what begins the text of a module for a `target_machine`."""
    return MODULE.format(triple=machine.triple, layout=machine.target_data)


@_locked
def assembled(text: str, machine: TargetMachine) -> bytes:
    """Return the object file of functions in LLVM's language that are written out: no optimiser goes over them."""
    module = binding().parse_assembly(head(machine) + text)
    module.verify()
    content: bytes = machine.emit_object(module)
    return content


@_locked
def assembled_for(text: str, instructions: InstructionSet) -> bytes:
    """Return what `assembled` does, by a compiler that is gone afterwards."""
    return assembled(text, target_machine(instructions))


# ---- loading ---------------------------------------------------------------------------------------------------------


def link(content: bytes, instructions: InstructionSet) -> dict[str, Function]:
    """Return the entries of what `kernel_compiler` made, by name; DeviceUnavailable where that cannot be loaded."""
    entries, code = checked(content)
    found = addresses(code, [PREFIX + name for name in entries], instructions)
    return {name: PROTOTYPE(address) for name, address in zip(entries, found, strict=True)}


@_locked
def addresses(code: bytes, names: Sequence[str], instructions: InstructionSet) -> list[int]:
    """Return where functions of an object file stand, once it is loaded; DeviceUnavailable where it cannot be."""
    llvm = binding()
    # llvmlite's own memory manager (lmm) keeps the parts of an object together: see target_machine
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(instructions), use_lmm=True)
    for name in symbols(code)[1]:
        if llvm.address_of_symbol(name) is None:
            raise DeviceUnavailable(f"The compiled CPU kernels need {name}, which is not in this process.")
    try:
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        found: list[int] = [engine.get_function_address(name) for name in names]
    except RuntimeError as error:
        raise DeviceUnavailable(f"LLVM cannot load the compiled CPU kernels: {error}") from error
    if not all(found):
        raise DeviceUnavailable("LLVM does not find the entries of the compiled CPU kernels.")
    _engines.append(engine)
    return found


def checked(content: bytes) -> tuple[list[str], bytes]:
    """Return the entries' names and the object file of what `kernel_compiler` made.

    DeviceUnavailable for anything else: LLVM ends the process where an object file needs what is not there.
    """
    head, _, code = content.partition(b"\n")
    try:
        entries: list[str] = json.loads(head)
        defined, needs = symbols(code)
        lacking = ({PREFIX + name for name in entries} - defined) | (needs - ALLOWED)
    except (ValueError, TypeError) as error:
        raise DeviceUnavailable(f"These are no compiled CPU kernels: {error}.") from error
    if lacking or not entries:
        raise DeviceUnavailable(f"The compiled CPU kernels lack {', '.join(sorted(lacking)) or 'all entries'}.")
    return entries, code
