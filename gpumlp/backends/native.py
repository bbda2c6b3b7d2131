"""Compiled kernels for the CPU: kernels/cpu/ through Numba to one object file, kept on disk, called through ctypes.

Numba makes the object file; calling what is in it takes LLVM's binding alone, whose import is a fraction of Numba's.
So the object may refer to nothing of Numba's runtime or of Python, and a kernel may raise nothing. One that does is
refused when it is compiled: LLVM would end the process that loads it.

The folder is one package to Python. A file's ``ENTRIES`` say what can be called: functions of ``numba.njit`` by name,
each from (address of a table: int64, thread: int64) to int32. Everything else becomes part of them or is dropped.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import os
import pickle
import re
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from gpumlp import kernel_sources
from gpumlp.backends.disk_cache import DiskCache
from gpumlp.errors import DeviceUnavailable

Function = Callable[[int, int], int]

PACKAGE = "gpumlp_cpu_kernels"  # kernels/cpu, while it is imported
PREFIX = "gpumlp_"  # of the symbols of the entries
INSTALL = "Install gpumlp with its compiler: pip install 'gpumlp[jit]'."
# What an object may ask the C library for: LLVM itself makes such calls out of loops. Mathematics is not among it: it
# differs between systems, and a processor without an instruction would call a function for every element.
ALLOWED = {"memcpy", "memmove", "memset"}
# A kernel that can raise calls this, which nothing defines: so it is refused.
RAISES = "an_exception"
REFUSED = 3  # the status of a process that says on its standard error what is wrong with the kernels
MODULE = """
target triple = "{triple}"
target datalayout = "{layout}"
!llvm.module.flags = !{{!0}}
!0 = !{{i32 7, !"RtLibUseGOT", i32 1}}
declare void @{raises}(ptr)
"""
# A function for C around Numba's, which returns through a pointer and tells by a status whether it raised.
ENTRY = """
declare i32 @"{kernel}"(ptr, ptr, i64, i64)
define i32 @"{symbol}"(i64 %table, i64 %thread) {{
  %result = alloca i32
  %exception = alloca ptr
  %status = call i32 @"{kernel}"(ptr %result, ptr %exception, i64 %table, i64 %thread)
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %returned, label %raised
raised:
  call void @{raises}(ptr %exception)
  unreachable
returned:
  %value = load i32, ptr %result
  ret i32 %value
}}
"""

_lock = threading.Lock()
_engines: list[Any] = []  # they own the machine code, which may be running as long as the process


def problem() -> str | None:
    """Return why compiled kernels cannot be used, and what to do; None where nothing is known against it.

    Numba is not imported for the answer, and nothing is compiled: that is for `functions` to try.
    """
    for package in ("llvmlite", "numba"):
        if _spec(package) is None:
            return f"The compiled CPU kernels need {package}, which is not installed. {INSTALL}"
    try:
        _llvm()
    except DeviceUnavailable as error:
        return str(error)
    outcome = _outcome() if _outcome.cache_info().currsize else None
    return str(outcome) if isinstance(outcome, DeviceUnavailable) else None


def functions() -> Mapping[str, Function]:
    """Return the compiled kernels by name, each to be called with (address of its table, thread).

    They are compiled once on a machine and loaded once in a process, whichever thread asks first. While one runs, other
    Python threads run too.

    Raises
    ------
    DeviceUnavailable
        Where they cannot be compiled or loaded; the message says why. It is not tried again in this process.
    """
    with _lock:
        outcome = _outcome()
    if isinstance(outcome, DeviceUnavailable):
        raise outcome.with_traceback(None)
    return outcome


@functools.cache
def _outcome() -> Mapping[str, Function] | DeviceUnavailable:
    try:
        return load(kernel_sources.folder() / "cpu", DiskCache())
    except DeviceUnavailable as error:
        return error


def state() -> str:
    """Return, in words, whether the kernels are compiled already."""
    cache = DiskCache()
    if cache.folder is None:
        return "compiled anew by each process: there is no folder for caches"
    if cache.get(key_of(kernel_sources.folder() / "cpu")) is None:
        return f"not yet: the first long fit waits some seconds for them; then they are kept in {cache.folder}"
    return f"kept in {cache.folder}"


# ---- loading ---------------------------------------------------------------------------------------------------------


def load(folder: Path, cache: DiskCache) -> Mapping[str, Function]:
    """Return the entries of a kernel package, from the cache or compiled; DeviceUnavailable where that cannot be."""
    key = key_of(folder)
    content = cache.get(key)
    if content is None:
        if sys.stderr is not None and sys.stderr.isatty():
            print("gpumlp compiles its CPU kernels, once on this machine: some seconds.", file=sys.stderr, flush=True)
        content = compile_apart(folder)
        cache.put(key, content)
    return link(content)


def link(content: bytes) -> Mapping[str, Function]:
    """Return the entries of what `compile_package` made."""
    head, _, code = content.partition(b"\n")
    entries, needs = json.loads(head)
    llvm = _llvm()
    try:
        llvm.check_jit_execution()
    except OSError as error:
        raise DeviceUnavailable(f"This system runs no code that was compiled at run time: {error}.") from error
    # llvmlite's own memory manager (lmm) keeps the parts of an object together: see _target_machine
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine(), use_lmm=True)
    for name in needs:
        if llvm.address_of_symbol(name) is None:
            raise DeviceUnavailable(f"The compiled CPU kernels need {name}, which is not in this process.")
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)
    return {name: prototype(engine.get_function_address(PREFIX + name)) for name in entries}


def key_of(folder: Path) -> str:
    """Return all that the object file depends on: the sources, how they are compiled, by what, and for what."""
    llvm = _llvm()
    versions = [sys.modules["llvmlite"].__version__, str(llvm.llvm_version_info), _numba_version()]
    texts = [f"{file.name}\0{file.read_text('utf-8')}" for file in _files(folder)]
    return "\0".join([*texts, Path(__file__).read_text("utf-8"), *versions, *_host()])


def _numba_version() -> str:
    """Return the file that states Numba's version: asking importlib.metadata takes 15 ms, importing Numba 150."""
    spec = _spec("numba")
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin).with_name("_version.py")
    return file.read_text("utf-8") if file.is_file() else ""


def _spec(package: str) -> ModuleSpec | None:
    """Return where a package is, without importing it, also where its import is blocked in sys.modules."""
    return PathFinder.find_spec(package) or find_spec(package)


def _llvm() -> Any:
    """Return LLVM's binding, ready for this machine."""
    try:
        llvm: Any = importlib.import_module("llvmlite.binding")
    except Exception as error:  # not installed, or its library cannot be loaded: each in its own way
        raise DeviceUnavailable(
            f"The compiled CPU kernels need llvmlite, which cannot be imported ({type(error).__name__}: {error}). "
            + INSTALL
        ) from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _host() -> tuple[str, str, str]:
    """Return what machine code is made for: triple, processor, features."""
    llvm = _llvm()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _target_machine() -> Any:
    """Return a compiler for this processor.

    Code finds its constants at a short distance. Numba's own engine assumes nothing of where they are, and loads their
    addresses first: a tenth more time in kernels with many constants. Short distances want an engine that keeps an
    object's parts together, as LLVM does not notice one that is too long. The C library is not near; its functions'
    addresses stand in a table of the object (``RtLibUseGOT``), as llvmlite's memory manager forgets room for detours.
    """
    llvm = _llvm()
    triple, processor, features = _host()
    target = llvm.Target.from_triple(triple + "-elf" * (os.name == "nt"))  # the engine loads no COFF
    return target.create_target_machine(cpu=processor, features=features, opt=3, reloc="pic", codemodel="default")


# ---- compiling -------------------------------------------------------------------------------------------------------


def compile_apart(folder: Path) -> bytes:
    """Return what `compile_package` does, called in a process of its own.

    There Numba optimises nothing: that is done once in the end, and not for each function and again for its callers. It
    takes half the time, and what comes out is as fast. But it is a setting of the whole process, like those that a user
    may have made for kernels of their own. And where LLVM gives up on an object, it takes the process along: so it is
    also loaded there first.
    """
    import subprocess  # 3 ms, which a process that finds the object in the cache saves

    settings = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    settings |= {"NUMBA_OPT": "0", "NUMBA_DISABLE_INTEL_SVML": "1"}  # Intel's library may not be called: see ALLOWED
    path = [os.path.abspath(place) for place in sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from gpumlp.backends import native; native.main({str(folder)!r})"
    try:
        if "python" not in Path(sys.executable or "").name.lower():
            raise OSError("Python is part of another program, which may understand such a call in its own way")
        done = subprocess.run(
            [sys.executable, "-c", code], env=settings, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:
        return compile_package(folder)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == REFUSED:
        raise DeviceUnavailable(said)
    raise DeviceUnavailable(f"Compiling the CPU kernels ended with status {done.returncode}: {said}")


def main(folder: str) -> None:
    """Write what `compile_package` returns to the standard output, or why there is nothing to the standard error."""
    with open(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what else is printed on the way is no object file
        try:
            content = compile_package(Path(folder))
            link(content)
            out.write(content)
        except DeviceUnavailable as error:
            print(error, file=sys.stderr)
            sys.exit(REFUSED)


def compile_package(folder: Path) -> bytes:
    """Return a kernel package as the names of its entries, the symbols that it needs, and an object file.

    DeviceUnavailable without Numba, where Numba does not compile it, and where it needs more than the C library.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Numba's, about itself and about how it compiles
        try:
            numba: Any = importlib.import_module("numba")
        except Exception as error:  # not installed, or not for this NumPy: each in its own way
            raise DeviceUnavailable(
                f"The compiled CPU kernels need Numba, which cannot be imported ({type(error).__name__}: {error}). "
                + INSTALL
            ) from error
        try:
            with package(folder) as files:
                entries = {k: f for file in files.values() for k, f in getattr(file, "ENTRIES", {}).items()}
                parts = {name: _intermediate(numba, entry) for name, entry in entries.items()}
            code, needs = _object_file(parts)
        except DeviceUnavailable:
            raise
        except Exception as error:  # Numba's compiler has many types of its own, and other versions have others
            raise DeviceUnavailable(
                f"Numba {numba.__version__} could not compile the CPU kernels ({type(error).__name__}): {error}"
            ) from error
    return json.dumps([list(parts), needs]).encode() + b"\n" + code


@contextlib.contextmanager
def package(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Import the kernels' files, as one package, and give them by name; afterwards they are forgotten.

    They are read as they are now, as the cache's key was: bytecode on disk is trusted by its date, and may be stale.
    """

    class FromSource(SourceFileLoader):
        def get_code(self, fullname: str) -> Any:
            return self.source_to_code(self.get_data(self.path), self.path)

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            if name == PACKAGE:
                return ModuleSpec(name, None, is_package=True)
            file = folder / (name.removeprefix(PACKAGE + ".") + ".py")
            if not name.startswith(PACKAGE + ".") or not file.is_file():
                return None
            return spec_from_file_location(name, file, loader=FromSource(name, str(file)))

    sys.meta_path.insert(0, Finder)
    try:
        yield {file.stem: importlib.import_module(f"{PACKAGE}.{file.stem}") for file in _files(folder)}
    finally:
        sys.meta_path.remove(Finder)
        for name in [n for n in sys.modules if n.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def _files(folder: Path) -> list[Path]:
    """Return the kernels' files; FileNotFoundError where the installation lacks them."""
    if files := sorted(folder.glob("*.py")):
        return files
    raise FileNotFoundError(f"no CPU kernels in {folder}: install gpumlp again.")


def _intermediate(numba: Any, entry: Any) -> tuple[str, str]:
    """Return an entry's name in LLVM, and it and all that it calls as LLVM's code."""
    signature = numba.int32(numba.int64, numba.int64)
    entry.compile(signature)
    return entry.overloads[signature.args].fndesc.llvm_func_name, entry.inspect_llvm(signature.args)


def _object_file(parts: dict[str, tuple[str, str]]) -> tuple[bytes, list[str]]:
    """Return the object file of entries from `_intermediate`, and what it needs of the C library."""
    llvm, machine = _llvm(), _target_machine()
    head = MODULE.format(triple=machine.triple, layout=machine.target_data, raises=RAISES)
    symbols = {PREFIX + name: kernel for name, (kernel, _) in parts.items()}
    calls = [ENTRY.format(symbol=symbol, kernel=kernel, raises=RAISES) for symbol, kernel in symbols.items()]
    module = llvm.parse_assembly(head + "".join(calls))
    for _, code in parts.values():
        module.link_in(llvm.parse_assembly(code))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in symbols:
            value.linkage = "internal"
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True  # as Numba has them
    options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    code = machine.emit_object(module)
    needs = undefined_symbols(code)
    if foreign := sorted(set(needs) - ALLOWED - {RAISES}):
        raise DeviceUnavailable(
            f"The CPU kernels need {', '.join(foreign)}, and may use nothing but the processor's instructions: no "
            "Python objects, no arrays that Numba makes, no strings, no mathematics of the C library."
        )
    if RAISES in needs:
        raise DeviceUnavailable(f"A CPU kernel can raise an exception, which nobody could catch: {_raised(module)}.")
    return code, needs


def _raised(module: Any) -> str:
    """Return the exceptions in a module, in words. Numba keeps each pickled: type, arguments, place or None."""
    found = []
    for value in module.global_variables:
        if value.name.startswith(".const.pickledata.") and (text := re.search(r' c"(.*?)"', str(value))):
            data = re.sub(rb"\\([0-9A-F]{2})", lambda code: bytes([int(code[1], 16)]), text[1].encode())
            with contextlib.suppress(Exception):  # the digest beside it is no pickle
                kind, arguments, place = pickle.loads(data)
                where = f" in {place[0]} ({Path(place[1]).name}:{place[2]})" if place else ""
                found.append(f"{kind.__name__}: {', '.join(map(str, arguments or ()))}{where}")
    return "; ".join(sorted(found)) or "Numba does not say which"


def undefined_symbols(code: bytes) -> list[str]:
    """Return the names that an object file refers to and does not define, sorted.

    ELF (System V ABI, "Object Files") and Mach-O (mach-o/loader.h, mach-o/nlist.h), both of 64 bits and little-endian:
    what LLVM's engine loads, also on Windows.
    """
    if code.startswith(b"\x7fELF\2\1"):
        (start,), (size, count) = struct.unpack_from("<Q", code, 0x28), struct.unpack_from("<HH", code, 0x3A)
        sections = [struct.unpack_from("<IIQQQQII", code, start + i * size) for i in range(count)]
        for _, kind, _, _, at, length, strings, _ in sections:
            if kind == 2:  # SHT_SYMTAB
                entries = struct.iter_unpack("<IBBHQQ", code[at : at + length])
                names = [sections[strings][4] + name for name, _, _, section, _, _ in entries if name and section == 0]
                return sorted(code[n : code.index(0, n)].decode() for n in names)
        return []
    if code.startswith(b"\xcf\xfa\xed\xfe"):
        at = 32
        for _ in range(*struct.unpack_from("<I", code, 16)):
            command, length, symbols, count, strings = struct.unpack_from("<5I", code, at)
            if command == 2:  # LC_SYMTAB
                entries = struct.iter_unpack("<IBBHQ", code[symbols : symbols + 16 * count])
                names = [strings + name for name, kind, _, _, _ in entries if kind & 0xEF == 1]  # external, nowhere
                return sorted(code[n : code.index(0, n)].decode().removeprefix("_") for n in names)
            at += length
        return []
    raise DeviceUnavailable("LLVM makes no object files here whose symbols are known to be there.")
