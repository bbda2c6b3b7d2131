"""Compiled CPU kernels from a small package of their own: compiled once, kept on disk, loaded without Numba, refused
where they need more than the C library.
"""

import contextlib
import importlib
import io
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from gpumlp import errors
from gpumlp.backends import disk_cache, instruction_set, kernel_compiler, llvm, native
from gpumlp.backends.disk_cache import DiskCache
from gpumlp.errors import DeviceUnavailable

ROOT = Path(__file__).parents[1]
HERE = instruction_set.chosen()

POINTERS = '''
"""The table: word 0 is the address of float32 values, word 1 how many, word 2 the address of float32 results."""
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def pointer(kind):
    @intrinsic
    def cast(typing, address):
        return kind(types.int64), lambda context, builder, signature, args: builder.inttoptr(
            args[0], context.get_value_type(kind)
        )

    return cast


floats, words = pointer(types.CPointer(types.float32)), pointer(types.CPointer(types.int64))


@intrinsic
def look_again(typing):
    """What was read from memory before may have been changed by another thread."""

    def code(context, builder, signature, args):
        builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
        return context.get_dummy_value()

    return types.void(), code
'''
ENTRIES = """
import math

from numba import float32, njit

from .pointers import floats, look_again, words

kernel = njit(_nrt=False, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@njit
def root(x):
    return math.sqrt(x)


@kernel
def total(table, thread):
    job = words(table)
    values, out = floats(job[0]), floats(job[2])
    s = float32(0.0)
    for i in range(job[1]):
        s += values[i]
    out[thread] = s
    return 0


@kernel
def roots(table, thread):
    job = words(table)
    values, out = floats(job[0]), floats(job[2])
    for i in range(job[1]):
        out[i] = root(values[i])
    return job[1] + thread


@kernel
def clears(table, thread):
    job = words(table)
    out = floats(job[2])
    for i in range(thread):
        out[i] = 0  # LLVM makes a call of memset of it
    return 0


@kernel
def meets(table, thread):
    marks = words(table)
    marks[thread] = 1
    for _ in range(1 << 30):  # a second or so
        look_again()
        if marks[1 - thread]:
            return 1
    return 0


ENTRIES = {"total": total, "roots": roots, "clears": clears, "meets": meets}
"""
REFUSED = {
    "values[0] = 1 // thread": None,  # as in NumPy: no exception
    "values[0] = plain(thread)": None,  # what is called inherits that
    "assert thread < 4, 'four'": r"can raise an exception.*AssertionError: four in run \(kernels.py:",
    "values[0] = strict(thread)": r"can raise an exception.*ZeroDivisionError: integer division by zero",
    "values[0] = made(thread)": r"need .*NRT_\w+.*may use nothing but",
    "values[0] = math.exp(values[0])": r"need expf, and may use nothing but",
    "print(thread)": r"need .*numba_\w+.*may use nothing but",
    "values[0] = values.nothing": r"could not compile the CPU kernels \(TypingError\)[\s\S]*nothing",
}
HELPERS = """
import math

import numpy as np
from numba import njit

from .pointers import floats, words


@njit
def plain(x):
    return 1 // x


@njit(error_model="python")
def strict(x):
    return 1 // x


@njit(_nrt=True)
def made(x):
    return np.ones(x).sum()


@njit(_nrt=False, error_model="numpy")
def run(table, thread):
    values = floats(words(table)[0])
    {line}
    return 0


ENTRIES = {{"run": run}}
"""


def written(place):
    """Return the folder, with the small package in it."""
    place.mkdir()
    (place / "pointers.py").write_text(POINTERS)
    (place / "kernels.py").write_text(ENTRIES)
    return place


@pytest.fixture
def folder(tmp_path):
    """A package of kernels."""
    return written(tmp_path / "kernels")


@pytest.fixture
def compilations(monkeypatch):
    """The folders that have been compiled, in this process, where Numba is imported once for all tests."""
    done = []
    compile_package = kernel_compiler.compile_package
    monkeypatch.setattr(
        kernel_compiler,
        "compile_apart",
        lambda folder, made_for: done.append(folder) or compile_package(folder, made_for),
    )
    return done


def hold(functions):
    """Assert that the kernels of the small package compute what they are to compute."""
    values, out = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    table = np.array([values.ctypes.data, 100, out.ctypes.data], np.int64)
    assert functions["total"](table.ctypes.data, 3) == 0
    assert out[3] == 4950 and np.count_nonzero(out) == 1
    assert functions["roots"](table.ctypes.data, 5) == 105
    assert np.array_equal(out, np.sqrt(values))
    assert functions["clears"](table.ctypes.data, 99) == 0
    assert np.flatnonzero(out).tolist() == [99]


# ---- compiled, kept, loaded ------------------------------------------------------------------------------------------


def test_kernels_compute_and_are_compiled_once(folder, tmp_path, compilations):
    cache = DiskCache(tmp_path / "cache")
    for _ in range(2):
        hold(native.load(folder, cache, HERE))
    assert compilations == [folder]
    assert not [name for name in sys.modules if name.startswith(kernel_compiler.PACKAGE)]
    assert {p.name for p in folder.iterdir()} == {"pointers.py", "kernels.py"}  # no bytecode, which could be stale


def test_the_next_process_needs_no_numba(folder, tmp_path):
    native.load(folder, DiskCache(tmp_path / "cache"), HERE)
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from pathlib import Path; from test_native import HERE, DiskCache, hold, native\n"
        "native.kernel_compiler.compile_apart = None\n"
        "hold(native.load(Path(sys.argv[1]), DiskCache(Path(sys.argv[2])), HERE))\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] == 'numba'))"
    )
    arguments = [sys.executable, "-W", "error", "-c", code, folder, tmp_path / "cache"]
    done = subprocess.run(arguments, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['numba']\n", "")


def test_other_sources_are_another_object(folder, tmp_path, compilations, monkeypatch):
    cache = DiskCache(tmp_path / "cache")
    before = (folder / "kernels.py").stat()
    native.load(folder, cache, HERE)
    # as long as before and as old as before: whatever looks at the file's date sees no difference
    (folder / "kernels.py").write_text(ENTRIES.replace("s += values[i]", "s -= values[i]"))
    os.utime(folder / "kernels.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(AssertionError):
        hold(native.load(folder, cache, HERE))
    assert len(compilations) == 2
    (folder / "unused.py").write_text("")
    keys = {native.key_of(folder, HERE)}
    keys |= {native.key_of(folder, other) for other in instruction_set.SETS.values()}
    for where, name, result in [(native, "_numba_version", "another"), (llvm, "triple", "a-triple")]:
        monkeypatch.setattr(where, name, lambda *made_for, result=result: result)
        keys.add(native.key_of(folder, HERE))
    assert len(keys) == len(instruction_set.SETS) + 2


@pytest.mark.parametrize("tear", [lambda b: b[:-1], lambda b: b"", lambda b: b[:200] + b"x" + b[201:]])
def test_a_torn_object_is_made_anew(folder, tmp_path, compilations, tear):
    cache = DiskCache(tmp_path / "cache")
    native.load(folder, cache, HERE)
    file = cache.path(native.key_of(folder, HERE))
    file.write_bytes(tear(file.read_bytes()))
    for _ in range(2):
        hold(native.load(folder, cache, HERE))
    assert len(compilations) == 2


def test_without_a_place_for_the_cache_it_works(folder, tmp_path, compilations, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(disk_cache, "spare_folder", lambda: None)
    monkeypatch.setattr(errors, "_said", set())
    with pytest.warns(UserWarning, match="every process compiles anew") as said:
        for _ in range(2):
            hold(native.load(folder, DiskCache(tmp_path / "file" / "folder"), HERE))
    assert len(compilations) == 2 and len(said) == 1


def test_an_interrupt_leaves_nothing_half_made(folder, tmp_path, compilations, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    cache, finders = DiskCache(tmp_path / "cache"), list(sys.meta_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kernel_compiler, "_object_file", interrupted)
        native.load(folder, cache, HERE)
    assert sys.meta_path == finders and not [name for name in sys.modules if name.startswith(kernel_compiler.PACKAGE)]
    assert not (tmp_path / "cache").exists()
    hold(native.load(folder, cache, HERE))


# ---- what is loaded, and what is kept --------------------------------------------------------------------------------


SPOILT = {
    "printed before it": lambda head, code: b"hello\n" + head + b"\n" + code,
    "no list of entries": lambda head, code: b"7\n" + code,
    "other entries": lambda head, code: head.replace(b"total", b"sums") + b"\n" + code,
    "no entries": lambda head, code: b"[]\n" + code,
    "torn": lambda head, code: head + b"\n" + code[: len(code) // 2],
    "no object": lambda head, code: head + b"\nmachine code",
    "nothing": lambda head, code: b"",
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_no_object_is_not_loaded_though_its_digest_is_right_but_made_anew(folder, tmp_path, compilations, name):
    cache, key = DiskCache(tmp_path / "cache"), native.key_of(folder, HERE)
    head, _, code = kernel_compiler.compile_package(folder, HERE).partition(b"\n")
    spoilt = SPOILT[name](head, code)
    with pytest.raises(DeviceUnavailable, match="CPU kernels"):
        llvm.link(spoilt, HERE)
    assert cache.put(key, spoilt)
    for _ in range(2):
        hold(native.load(folder, cache, HERE))
    assert compilations == [folder] and cache.get(key) != spoilt


def test_an_object_with_a_symbol_of_its_own_to_look_for_is_not_loaded(folder, monkeypatch):
    content = kernel_compiler.compile_package(folder, HERE)
    monkeypatch.setattr(llvm, "ALLOWED", set())
    with pytest.raises(DeviceUnavailable, match="lack memset"):
        llvm.link(content, HERE)


def test_what_cannot_be_loaded_is_not_kept_and_auto_trains_with_numpy(own, monkeypatch):
    from gpumlp import layers, models

    monkeypatch.setattr(kernel_compiler, "compile_apart", lambda folder, made_for: b"hello")
    monkeypatch.setattr(errors, "_said", set())
    monkeypatch.delenv("GPUMLP_KERNELS", raising=False)
    model = models.Sequential([layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="trains with NumPy, which is slower: These are no compiled CPU kernels"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0)
    assert DiskCache().peek(native.key_of(own, HERE)) is None


def test_a_system_without_room_for_another_process_is_told_as_kernels_that_cannot_be_had(own, monkeypatch):
    def full(folder, made_for):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(kernel_compiler, "compile_apart", full)
    with pytest.raises(DeviceUnavailable, match="Too many open files"):
        native.functions()


@pytest.mark.parametrize("stream", [None, object(), io.StringIO()])
def test_a_standard_error_of_any_kind_does_not_hinder_compiling(folder, tmp_path, compilations, monkeypatch, stream):
    if isinstance(stream, io.StringIO):
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    hold(native.load(folder, DiskCache(tmp_path / "cache"), HERE))


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", REFUSED)
def test_what_needs_more_than_the_c_library_is_refused(folder, line):
    (folder / "kernels.py").write_text(HELPERS.format(line=line))
    with nullcontext() if REFUSED[line] is None else pytest.raises(DeviceUnavailable, match=REFUSED[line]):
        kernel_compiler.compile_package(folder, HERE)


def test_a_symbol_that_this_system_lacks_is_told_before_it_is_fatal(folder, monkeypatch):
    content = kernel_compiler.compile_package(folder, HERE)
    assert disk_cache.symbols(content.partition(b"\n")[2])[1] == {"memset"}
    monkeypatch.setattr(llvm.binding(), "address_of_symbol", lambda name: None)
    with pytest.raises(DeviceUnavailable, match="need memset, which is not in this process"):
        llvm.link(content, HERE)


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"])
def test_symbols_are_found_in_the_object_files_of_every_system(triple):
    binding = pytest.importorskip("llvmlite.binding")
    try:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        machine = binding.Target.from_triple(triple).create_target_machine()
    except RuntimeError as error:
        pytest.skip(f"this LLVM knows no {triple}: {error}")
    module = binding.parse_assembly(
        f'target triple = "{triple}"\n'
        "declare float @expf(float)\ndeclare void @other()\n@data = external global float\n"
        "define internal float @inside(float %x) noinline {\n  %y = call float @expf(float %x)\n  ret float %y\n}\n"
        "define float @entry() {\n  call void @other()\n  %x = load float, ptr @data\n"
        "  %y = call float @inside(float %x)\n  ret float %y\n}\n"
    )
    code = machine.emit_object(module)
    assert disk_cache.symbols(code) == ({"entry"}, {"data", "expf", "other"})
    for end in range(8, 400, 7):
        with contextlib.suppress(ValueError):  # and nothing else
            disk_cache.symbols(code[:end])


@pytest.mark.parametrize("code", [b"", b"\x7fELF\1\1", b"\x7fELF\2\1", b"\xcf\xfa\xed\xfe", b"MZ"])
def test_an_unknown_kind_of_object_file_is_refused(code):
    with pytest.raises(ValueError, match="object file"):
        disk_cache.symbols(code)


# ---- the functions of this process -----------------------------------------------------------------------------------


@pytest.fixture
def own(folder, tmp_path, monkeypatch):
    """The process without compiled kernels as yet, and the small package in the place of kernels/cpu."""
    folder.rename(tmp_path / "cpu")
    monkeypatch.setattr(native.kernel_sources, "folder", lambda: tmp_path)
    monkeypatch.setattr(native.shipped, "library", lambda instructions: None)
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    native._found.clear()
    yield tmp_path / "cpu"
    native._found.clear()


def test_threads_that_ask_at_once_compile_once(own, compilations):
    found, start = [], threading.Barrier(4)

    def ask():
        start.wait()
        found.append(native.functions())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compilations == [own] and len(found) == 4 and all(f is found[0] for f in found)
    hold(found[0])
    assert native.problem() is None


def test_what_failed_once_is_not_tried_again(own, compilations):
    (own / "kernels.py").write_text("raise RuntimeError('no kernels today')")
    assert native.problem() is None and not compilations
    for _ in range(2):
        with pytest.raises(DeviceUnavailable, match="no kernels today"):
            native.functions()
    assert len(compilations) == 1 and "no kernels today" in native.problem()


@pytest.mark.parametrize("package", ["llvmlite", "numba"])
def test_without_the_compiler_it_says_what_to_install(own, monkeypatch, package):
    spec = llvm.spec_of
    monkeypatch.setattr(llvm, "spec_of", lambda name: None if name == package else spec(name))
    assert package in native.problem() and "pip install 'gpumlp[jit]'" in native.problem()


@pytest.mark.parametrize("module", ["llvmlite.binding", "numba"])
def test_a_compiler_that_cannot_be_imported_is_told_in_its_own_words(own, compilations, monkeypatch, module):
    import_module = importlib.import_module

    def broken(name):
        if name == module:
            raise OSError("its library is broken")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(DeviceUnavailable, match=r"OSError: its library is broken.*gpumlp\[jit\]"):
        native.functions()
    assert "its library is broken" in native.problem()


def test_a_system_that_runs_no_new_code_is_told(own, compilations, monkeypatch):
    def forbidden():
        raise PermissionError(13, "cannot allocate executable memory")

    monkeypatch.setattr(llvm.binding(), "check_jit_execution", forbidden)
    with pytest.raises(DeviceUnavailable, match="cannot allocate executable memory"):
        native.functions()


def test_an_installation_without_the_kernels_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="install gpumlp again"):
        native.load(tmp_path / "cpu", DiskCache(tmp_path), HERE)


def test_two_threads_are_in_kernels_at_once(own, compilations):
    """Each waits for the other's mark, so they meet only where a call leaves the interpreter to other threads."""
    table, met, meets = np.zeros(2, np.int64), [], native.functions()["meets"]
    threads = [threading.Thread(target=lambda t=t: met.append(meets(table.ctypes.data, t))) for t in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [1, 1]


def test_an_interrupt_of_one_who_compiles_lets_the_next_try_again(own, monkeypatch):
    calls = []

    def interrupted_once(folder, made_for):
        calls.append(folder)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return kernel_compiler.compile_package(folder, HERE)

    monkeypatch.setattr(kernel_compiler, "compile_apart", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        native.functions()
    assert native.problem() is None
    hold(native.functions())
    assert len(calls) == 2
