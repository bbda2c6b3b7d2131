"""Compiled kernels for the CPU: kernels/cpu/ through Numba to one object file, kept on disk, called through ctypes.

Numba makes the object file; calling what is in it takes LLVM's binding alone, whose import is a fraction of Numba's.
So the object may refer to nothing of Numba's runtime or of Python, and a kernel may raise nothing. One that does is
refused when it is compiled: LLVM would end the process that loads it. A model's formulas are machine code of their own,
which LLVM's binding makes without Numba (`formula_addresses`).

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
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from gpumlp import kernel_sources
from gpumlp.backends import llvm_writer
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.disk_cache import DiskCache, opened, sealed, symbols
from gpumlp.errors import DeviceUnavailable
from gpumlp.gate import apart

Function = Callable[[int, int], int]

PACKAGE = "gpumlp_cpu_kernels"  # kernels/cpu, while it is imported
PREFIX = "gpumlp_"  # of the symbols of the entries
INSTALL = "Install gpumlp with its compiler: pip install 'gpumlp[jit]'."
# What an object may ask the C library for: LLVM itself makes such calls out of loops. Mathematics is not among it: it
# differs between systems, and a processor without an instruction would call a function for every element.
ALLOWED = {"memcpy", "memmove", "memset"}
# A kernel that can raise calls this, which nothing defines: so it is refused.
RAISES = "an_exception"
COMPILING = 180  # seconds of a processor that compiling may take, which takes 10 to 20
MADE, REFUSED = "kernels", "why there are none"  # what a process that compiles hands over
MODULE = """
target triple = "{triple}"
target datalayout = "{layout}"
!llvm.module.flags = !{{!0}}
!0 = !{{i32 7, !"RtLibUseGOT", i32 1}}
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

_lock = threading.RLock()  # of who compiles or loads; a signal's handler that asks meanwhile does it for itself
# A fork waits for who has this: LLVM's binding and LLVM itself have locks, which would stay locked in the child. It is
# never held while another process compiles.
_no_fork = threading.RLock()
_engines: list[Any] = []  # they own the machine code, which may be running as long as the process
# Where the functions of formulas stand, by what they are asked for, and by their names.
_formulas: dict[Code, int] = {}
_formula_names: dict[str, int] = {}


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
    except OSError as error:  # no more processes, no more files; kernels that are not there or cannot be read
        return DeviceUnavailable(f"The CPU kernels cannot be compiled or loaded: {error}")


def state() -> str:
    """Return, in words, whether the kernels are compiled already."""
    cache = DiskCache()
    if cache.peek(key_of(kernel_sources.folder() / "cpu")) is None:
        return f"not yet: the first long fit waits some seconds for them; then they are kept {cache.where()}"
    return f"kept {cache.where()}"


def _after_fork() -> None:
    """Take it that nobody compiles or loads: a fork has no other thread of its parent's, but the locks as they were."""
    global _lock, _no_fork
    _lock, _no_fork = threading.RLock(), threading.RLock()


def _let_go() -> None:
    with contextlib.suppress(RuntimeError):  # a signal's handler raised, and so nobody waited
        _no_fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: _no_fork.acquire(), after_in_parent=_let_go, after_in_child=_after_fork)


# ---- loading ---------------------------------------------------------------------------------------------------------


def load(folder: Path, cache: DiskCache) -> Mapping[str, Function]:
    """Return the entries of a kernel package, from the cache or compiled; DeviceUnavailable where that cannot be."""
    with _no_fork:
        try:
            _llvm().check_jit_execution()
        except OSError as error:
            raise DeviceUnavailable(f"This system runs no code that was compiled at run time: {error}.") from error
    key = key_of(folder)
    kept = cache.get(key)
    if kept is not None:
        with contextlib.suppress(DeviceUnavailable):  # what is not as it should be is made anew
            return link(kept)
    with contextlib.suppress(Exception):  # a word that nobody can read
        if sys.stderr.isatty():
            print("gpumlp compiles its CPU kernels, once on this machine: some seconds.", file=sys.stderr, flush=True)
    content = compile_apart(folder)
    functions = link(content)  # what cannot be loaded is not kept
    cache.put(key, content)
    return functions


def link(content: bytes) -> Mapping[str, Function]:
    """Return the entries of what `compile_package` made; DeviceUnavailable where that cannot be loaded."""
    entries, code = _checked(content)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)
    found = addresses(code, [PREFIX + name for name in entries])
    return {name: prototype(address) for name, address in zip(entries, found, strict=True)}


def addresses(code: bytes, names: Sequence[str]) -> list[int]:
    """Return where functions of an object file stand, once it is loaded; DeviceUnavailable where it cannot be."""
    with _no_fork:
        llvm = _llvm()
        # llvmlite's own memory manager (lmm) keeps the parts of an object together: see _target_machine
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine(), use_lmm=True)
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


def _checked(content: bytes) -> tuple[list[str], bytes]:
    """Return the entries' names and the object file of what `compile_package` made.

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


def _imported() -> tuple[Any, Exception | None]:
    try:
        return importlib.import_module("llvmlite.binding"), None
    except Exception as error:  # not installed, or its library cannot be loaded: each in its own way
        return None, error


def _llvm() -> Any:
    """Return LLVM's binding, ready for this machine."""
    with _no_fork:
        llvm, error = apart(_imported)  # what a signal's handler raises meanwhile is no trouble of the import's
        if error is not None:
            raise DeviceUnavailable(
                f"The compiled CPU kernels need llvmlite, which cannot be imported ({type(error).__name__}: {error}). "
                + INSTALL
            ) from error
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    return llvm


def _host() -> tuple[str, str, str]:
    """Return what machine code is made for: triple, processor, features."""
    with _no_fork:
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


# ---- formulas --------------------------------------------------------------------------------------------------------


def formula_addresses(codes: Sequence[Code]) -> list[int]:
    """Return where the functions of formulas stand.

    They are compiled here, in some milliseconds each, when they are first asked for; what is on disk goes by the text
    that is compiled, so none is taken for another. Once they have been asked for, this takes no lock.

    Raises
    ------
    NotImplementedError
        For a formula that cannot be compiled; the message says why.
    DeviceUnavailable
        Where LLVM cannot be had, or what it makes cannot be loaded.
    """
    if not all(code in _formulas for code in codes):
        with _lock:
            for code in codes:
                if code not in _formulas:
                    found = _formula_names.get(code.name) or _formula(code)
                    _formulas[code] = _formula_names[code.name] = found
    return [_formulas[code] for code in codes]


def vectors() -> tuple[int, bool]:
    """Return how many float32 this processor's vectors have, and whether it can leave lanes of them out."""
    features = _host()[2].split(",")
    lanes = 16 if "+avx512f" in features else 8 if "+avx" in features else 4
    return lanes, lanes > 4


def _formula(code: Code) -> int:
    text = llvm_writer.written([code.function()], *vectors())
    cache, key = DiskCache(), "\0".join([text, str(_llvm().llvm_version_info), *_host()])
    kept = cache.get(key)
    if kept is not None:
        with contextlib.suppress(DeviceUnavailable, ValueError):  # what is not as it should be is made anew
            return _loaded_formula(kept, code.name)
    content = assembled(text)
    address = _loaded_formula(content, code.name)  # what cannot be loaded is not kept
    cache.put(key, content)
    return address


def _loaded_formula(content: bytes, name: str) -> int:
    defined, needs = symbols(content)
    if name not in defined or needs - ALLOWED:
        raise DeviceUnavailable(
            f"This is no formula's machine code, or it needs {', '.join(sorted(needs)) or 'nothing'}."
        )
    return addresses(content, [name])[0]


def assembled(text: str, machine: Any = None) -> bytes:
    """Return the object file of functions in LLVM's language that are written out: no optimiser goes over them."""
    with _no_fork:
        llvm, machine = _llvm(), machine or _target_machine()
        module = llvm.parse_assembly(MODULE.format(triple=machine.triple, layout=machine.target_data) + text)
        module.verify()
        content: bytes = machine.emit_object(module)
        return content


# ---- compiling -------------------------------------------------------------------------------------------------------


def compile_apart(folder: Path) -> bytes:
    """Return what `compile_package` does, called in a process of its own.

    There Numba optimises nothing: that is done once in the end, and not for each function and again for its callers. It
    takes half the time, and what comes out is as fast. But it is a setting of the whole process, like those that a user
    may have made for kernels of their own. And where LLVM gives up on an object, it takes the process along: so it is
    also loaded there first.

    Nobody else has a say there: Python reads no variables and runs no sitecustomize. Ctrl-C does not reach the process;
    whoever waits for it is interrupted, and ends it.
    """
    call = [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _program(folder)]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    settings |= {"NUMBA_OPT": "0", "NUMBA_DISABLE_INTEL_SVML": "1"}  # Intel's library may not be called: see ALLOWED
    try:
        if "python" not in Path(sys.executable or "").name.lower():
            raise OSError("Python is part of another program, which may understand such a call in its own way")
        child = _started(call, settings)
    except OSError:
        with _no_fork:  # Numba's lock is of the same kind
            return compile_package(folder)
    with child:
        try:
            said, result = child.communicate()
        except BaseException:
            child.kill()
            raise
    content, why = opened(MADE, result), opened(REFUSED, result)
    if content is not None:
        return content
    if why is not None:
        raise DeviceUnavailable(why.decode())
    words = said.decode(errors="replace").strip()
    raise DeviceUnavailable(f"Compiling the CPU kernels ended with status {child.returncode}: {words}")


def _program(folder: Path) -> str:
    """Return the Python program, in ASCII, that compiles a package and finds all that can be imported here."""
    path = [*(os.path.abspath(place) for place in sys.path), str(Path(__file__).resolve().parents[2])]
    return (
        f"import sys; sys.path[:] = {path!a}; sys.dont_write_bytecode = {sys.dont_write_bytecode!a}; "
        f"sys.pycache_prefix = {sys.pycache_prefix!a}; from gpumlp.backends import native; native.main({str(folder)!a})"
    )


def _started(call: list[str], settings: dict[str, str]) -> Any:
    """Return a process (Popen) that has been started; what comes from it as its result takes the place of its stderr.

    The result travels through a pipe of its own, which the process has as its standard input, where nobody prints. A
    fork in between would also hold the pipe's other end, and only with the fork's end would all have been read.
    """
    import subprocess  # 3 ms, which a process that finds the object in the cache saves

    with _no_fork:
        read, write = os.pipe()
        with open(write, "wb") as theirs, contextlib.ExitStack() as failed:
            ours = failed.enter_context(open(read, "rb"))
            child = subprocess.Popen(
                call, env=settings, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            child.stderr = ours
            failed.pop_all()
    return child


def main(folder: str) -> None:
    """Write what `compile_package` returns, or why there is nothing, to what is the standard input: see `_started`."""
    with open(os.dup(0), "wb") as out:
        with contextlib.suppress(ImportError, ValueError, OSError):  # no such limits on this system
            import resource

            resource.setrlimit(resource.RLIMIT_CPU, (COMPILING, COMPILING))  # one that spins ends, as does its waiting
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)  # what is started on the way does not hold the pipe
        try:
            content = compile_package(Path(folder))
            link(content)
            out.write(sealed(MADE, content))
        except DeviceUnavailable as error:
            out.write(sealed(REFUSED, str(error).encode(errors="backslashreplace")))


def compile_package(folder: Path) -> bytes:
    """Return a kernel package as a line with the names of its entries (JSON), and an object file.

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
            code = _object_file(parts)
        except DeviceUnavailable:
            raise
        except Exception as error:  # Numba's compiler has many types of its own, and other versions have others
            raise DeviceUnavailable(
                f"Numba {numba.__version__} could not compile the CPU kernels ({type(error).__name__}): {error}"
            ) from error
    return json.dumps(list(parts)).encode() + b"\n" + code


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


def _object_file(parts: dict[str, tuple[str, str]]) -> bytes:
    """Return the object file of entries from `_intermediate`."""
    llvm, machine = _llvm(), _target_machine()
    head = MODULE.format(triple=machine.triple, layout=machine.target_data) + f"declare void @{RAISES}(ptr)\n"
    entries = {PREFIX + name: kernel for name, (kernel, _) in parts.items()}
    calls = [ENTRY.format(symbol=symbol, kernel=kernel, raises=RAISES) for symbol, kernel in entries.items()]
    module = llvm.parse_assembly(head + "".join(calls))
    for _, code in parts.values():
        module.link_in(llvm.parse_assembly(code))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in entries:
            value.linkage = "internal"
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True  # as Numba has them
    options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    code = machine.emit_object(module)
    needs = symbols(code)[1]
    if foreign := sorted(needs - ALLOWED - {RAISES}):
        raise DeviceUnavailable(
            f"The CPU kernels need {', '.join(foreign)}, and may use nothing but the processor's instructions: no "
            "Python objects, no arrays that Numba makes, no strings, no mathematics of the C library."
        )
    if RAISES in needs:
        raise DeviceUnavailable(f"A CPU kernel can raise an exception, which nobody could catch: {_raised(module)}.")
    return code


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
