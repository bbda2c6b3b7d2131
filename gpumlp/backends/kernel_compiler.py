"""Compiling kernels/cpu: Numba makes LLVM's code of it, LLVM one object file, in a process of its own.

The object may refer to nothing of Numba's runtime or of Python, and a kernel may raise nothing. One that does is
refused when it is compiled: LLVM would end the process that loads it.

The folder is one package to Python. A file's ``ENTRIES`` say what can be called: functions of ``numba.njit`` by name,
each from (address of a table: int64, thread: int64) to int32. Everything else becomes part of them or is dropped. The
package's ``TARGET`` is the instruction set that it is compiled for.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from gpumlp.backends import llvm
from gpumlp.backends.disk_cache import opened, sealed, symbols
from gpumlp.backends.instruction_set import SETS, InstructionSet
from gpumlp.errors import DeviceUnavailable
from gpumlp.gate import loading

if TYPE_CHECKING:
    from subprocess import Popen

    from llvmlite.binding import ModuleRef, TargetMachine

PACKAGE = "gpumlp_cpu_kernels"  # kernels/cpu, while it is imported
# A kernel that can raise calls this, which nothing defines: so it is refused.
RAISES = "an_exception"
COMPILING = 180  # seconds of a processor that compiling may take, which takes 4 to 10
# Instructions, as Numba writes them, of a function that does not become part of those that call it: optimising and
# emitting one function of half of all there is takes twice as long. What lists the inputs in use is smaller, as it
# gains from the numbers that it is called with.
LARGE = 400
MADE, REFUSED = "kernels", "why there are none"  # what a process that compiles hands over
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


def compile_apart(folder: Path, instructions: InstructionSet) -> bytes:
    """Return what `compile_package` does, called in a process of its own.

    There Numba optimises nothing: that is done once in the end, and not for each function and again for its callers. It
    takes half the time, and what comes out is as fast. But it is a setting of the whole process, like those that a user
    may have made for kernels of their own. And where LLVM gives up on an object, it takes the process along: so it is
    also loaded there first.

    Nobody else has a say there: Python reads no variables and runs no sitecustomize. Ctrl-C does not reach the process;
    whoever waits for it is interrupted, and ends it.
    """
    call = [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _program(folder, instructions)]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    settings |= {"NUMBA_OPT": "0", "NUMBA_DISABLE_INTEL_SVML": "1"}  # Intel's library may not be called: see ALLOWED
    try:
        if "python" not in Path(sys.executable or "").name.lower():
            raise OSError("Python is part of another program, which may understand such a call in its own way")
        child = _started(call, settings)
    except OSError:
        with loading():  # Numba's lock is of the same kind
            return compile_package(folder, instructions)
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


def _program(folder: Path, instructions: InstructionSet) -> str:
    """Return the Python program, in ASCII, that compiles a package and finds all that can be imported here."""
    path = [*(os.path.abspath(place) for place in sys.path), str(Path(__file__).resolve().parents[2])]
    return (
        f"import sys; sys.path[:] = {path!a}; sys.dont_write_bytecode = {sys.dont_write_bytecode!a}; "
        f"sys.pycache_prefix = {sys.pycache_prefix!a}; from gpumlp.backends import kernel_compiler; "
        f"kernel_compiler.main({str(folder)!a}, {instructions.name!a})"
    )


def _started(call: list[str], settings: dict[str, str]) -> Popen[bytes]:
    """Return a process that has been started; what comes from it as its result takes the place of its stderr.

    The result travels through a pipe of its own, which the process has as its standard input, where nobody prints. A
    fork in between would also hold the pipe's other end, and only with the fork's end would all have been read.
    """
    import subprocess  # 3 ms, which a process that finds the object in the cache saves

    with loading():
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


def main(folder: str, name: str) -> None:
    """Write what `compile_package` returns, or why there is nothing, to what is the standard input: see `_started`."""
    with open(os.dup(0), "wb") as out:
        with contextlib.suppress(ImportError, ValueError, OSError):  # no such limits on this system
            import resource

            resource.setrlimit(resource.RLIMIT_CPU, (COMPILING, COMPILING))  # one that spins ends, as does its waiting
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)  # what is started on the way does not hold the pipe
        gc.disable()  # a tenth of the time, for 15 MB
        try:
            content = compile_package(Path(folder), SETS[name])
            if not SETS[name].foreign:
                llvm.link(content, SETS[name])
            out.write(sealed(MADE, content))
        except DeviceUnavailable as error:
            out.write(sealed(REFUSED, str(error).encode(errors="backslashreplace")))


def compile_package(folder: Path, instructions: InstructionSet) -> bytes:
    """Return a kernel package as a line with the names of its entries (JSON), and an object file.

    DeviceUnavailable without Numba, where Numba does not compile it, and where it needs more than the C library.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Numba's, about itself and about how it compiles
        try:
            numba = importlib.import_module("numba")
        except Exception as error:  # not installed, or not for this NumPy: each in its own way
            raise DeviceUnavailable(
                f"The compiled CPU kernels need Numba, which cannot be imported ({type(error).__name__}: {error}). "
                + llvm.INSTALL
            ) from error
        try:
            with package(folder, instructions) as files:
                entries = {k: f for file in files.values() for k, f in getattr(file, "ENTRIES", {}).items()}
                text = importlib.import_module("gpumlp.backends.kernel_text")
                names, texts = text.written(
                    entries, (thing for file in files.values() for thing in vars(file).values())
                )
            code = _object_file(names, texts, instructions)
        except DeviceUnavailable:
            raise
        except Exception as error:  # Numba's compiler has many types of its own, and other versions have others
            raise DeviceUnavailable(
                f"Numba {numba.__version__} could not compile the CPU kernels ({type(error).__name__}): {error}"
            ) from error
    return json.dumps(list(names)).encode() + b"\n" + code


@contextlib.contextmanager
def package(folder: Path, instructions: InstructionSet) -> Iterator[Mapping[str, ModuleType]]:
    """Import the kernels' files, as one package, and give them by name; afterwards they are forgotten.

    They are read as they are now, as the cache's key was: bytecode on disk is trusted by its date, and may be stale.
    """

    class FromSource(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:
            return self.source_to_code(self.get_data(self.path), self.path)

    class Finder:
        @staticmethod
        def find_spec(
            name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
        ) -> ModuleSpec | None:
            if name == PACKAGE:
                return ModuleSpec(name, None, is_package=True)
            file = folder / (name.removeprefix(PACKAGE + ".") + ".py")
            if not name.startswith(PACKAGE + ".") or not file.is_file():
                return None
            return spec_from_file_location(name, file, loader=FromSource(name, str(file)))

    sys.meta_path.insert(0, Finder)
    try:
        vars(importlib.import_module(PACKAGE))["TARGET"] = instructions
        yield {file.stem: importlib.import_module(f"{PACKAGE}.{file.stem}") for file in files(folder)}
    finally:
        sys.meta_path.remove(Finder)
        for name in [n for n in sys.modules if n.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def files(folder: Path) -> list[Path]:
    """Return the kernels' files; FileNotFoundError where the installation lacks them."""
    if files := sorted(folder.glob("*.py")):
        return files
    raise FileNotFoundError(f"no CPU kernels in {folder}: install gpumlp again.")


def _object_file(names: Mapping[str, str], texts: Sequence[str], instructions: InstructionSet) -> bytes:
    """Return the object file of entries, their names in LLVM by their own, and of the code that they need."""
    binding, machine = llvm.binding(), llvm.target_machine(instructions)
    entries = {llvm.PREFIX + name: kernel for name, kernel in names.items()}
    calls = [ENTRY.format(symbol=symbol, kernel=kernel, raises=RAISES) for symbol, kernel in entries.items()]
    module = binding.parse_assembly("".join([llvm.head(machine), f"declare void @{RAISES}(ptr)\n", *calls]))
    for text in texts:
        part = binding.parse_assembly(text)
        part.triple, part.data_layout = module.triple, module.data_layout  # Numba's are this machine's
        module.link_in(part)
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in entries:
            value.linkage = "internal"
    for function in module.functions:
        if sum(1 for block in function.blocks for _ in block.instructions) > LARGE:
            function.add_function_attribute("noinline")
    module.verify()
    optimise(module, machine)
    code = machine.emit_object(module)
    needs = symbols(code)[1]
    if foreign := sorted(needs - llvm.ALLOWED - {RAISES}):
        raise DeviceUnavailable(
            f"The CPU kernels need {', '.join(foreign)}, and may use nothing but the processor's instructions: no "
            "Python objects, no arrays that Numba makes, no strings, no mathematics of the C library."
        )
    if RAISES in needs:
        raise DeviceUnavailable(f"A CPU kernel can raise an exception, which nobody could catch: {_raised(module)}.")
    return code


def optimise(module: ModuleRef, machine: TargetMachine) -> None:
    """Have LLVM's optimiser go over a module."""
    options = llvm.binding().create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True  # as Numba has them
    options.slp_vectorization = False
    passes = llvm.binding().create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)


def _raised(module: ModuleRef) -> str:
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
