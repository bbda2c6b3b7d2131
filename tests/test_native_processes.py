"""Compiling beside everything else that goes on: a process that compiles, forks, signals."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_native import ENTRIES, HELPERS, HERE, hold, written

from gpumlp.backends import kernel_compiler, llvm, native
from gpumlp.backends.disk_cache import DiskCache
from gpumlp.errors import DeviceUnavailable

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks are those of POSIX")


@pytest.fixture
def folder(tmp_path):
    """A package of kernels."""
    return written(tmp_path / "kernels")


# ---- the process that compiles ---------------------------------------------------------------------------------------


def test_compiling_is_left_to_another_process(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # a user's, who looks for a bug in kernels of their own
    code = (
        "import sys; from pathlib import Path; from test_native import HERE, DiskCache, hold, native\n"
        "hold(native.load(Path(sys.argv[1]), DiskCache(Path(sys.argv[2])), HERE))\n"
        "print('numba' in sys.modules)"
    )
    arguments = [sys.executable, "-W", "error", "-c", code, folder, tmp_path / "cache"]
    done = subprocess.run(arguments, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert done.stdout == "False\n"
    assert re.fullmatch(
        rf"gpumlp compiles its CPU kernels for {HERE.name}, once .*, as .*: it takes [^\n]*\n", done.stderr
    )


def test_what_is_printed_while_compiling_is_no_part_of_the_object(folder):
    (folder / "kernels.py").write_text(f"print('hello')\nimport os\nos.system('echo hello')\n{ENTRIES}")
    assert list(llvm.link(kernel_compiler.compile_apart(folder, HERE), HERE)) == ["total", "roots", "clears", "meets"]


def test_what_another_process_refuses_is_told_here(folder):
    (folder / "kernels.py").write_text(HELPERS.format(line="assert thread < 4, 'four'"))
    with pytest.raises(DeviceUnavailable, match=r"^A CPU kernel can raise .*AssertionError: four in run [^\n]*\Z"):
        kernel_compiler.compile_apart(folder, HERE)


def test_another_process_that_crashes_is_told_here(folder):
    (folder / "kernels.py").write_text("import os, sys\nprint('no memory', file=sys.stderr, flush=True)\nos.abort()")
    with pytest.raises(DeviceUnavailable, match=r"ended with status -?\d+: no memory"):
        kernel_compiler.compile_apart(folder, HERE)


@pytest.mark.parametrize("program", [None, "", "blender", "/nowhere/python3"])
def test_where_python_cannot_be_started_it_compiles_here(folder, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(kernel_compiler, "compile_package", lambda folder, made_for: b"here")
    assert kernel_compiler.compile_apart(folder, HERE) == b"here"


@posix
def test_compiling_that_spins_is_ended_by_its_processor_time(folder, tmp_path):
    limit = tmp_path / "limit"
    (folder / "kernels.py").write_text(
        "import resource\nfound = resource.getrlimit(resource.RLIMIT_CPU)\n"
        f"open({str(limit)!r}, 'w').write(str(found))\n"
        "so_far = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (so_far + 2, found[1]))\nwhile True:\n    pass\n"
    )
    with pytest.raises(DeviceUnavailable, match=r"ended with status -\d+"):
        kernel_compiler.compile_apart(folder, HERE)
    assert limit.read_text() == str((kernel_compiler.COMPILING, kernel_compiler.COMPILING))


@posix
def test_what_a_handler_raises_during_the_import_is_no_trouble_of_the_import_s(monkeypatch):
    class Ended(Exception):
        pass

    def limit(number, frame):
        raise Ended

    def imported():
        os.kill(os.getpid(), signal.SIGALRM)
        return importlib.import_module("llvmlite.binding"), None

    monkeypatch.setattr(llvm, "_imported", imported)
    before = signal.signal(signal.SIGALRM, limit)
    try:
        with pytest.raises(Ended):
            llvm.binding()
    finally:
        signal.signal(signal.SIGALRM, before)


@posix
def test_ctrl_c_ends_compiling(folder, tmp_path):
    """The process that compiles is ended with it: it holds a lock for as long as it lives."""
    import fcntl

    begun, ended, cache = tmp_path / "begun", tmp_path / "ended", tmp_path / "cache"
    (folder / "kernels.py").write_text(
        f"import fcntl, time\nfile = open({str(tmp_path / 'alive')!r}, 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        f"open({str(begun)!r}, 'w').close()\ntime.sleep(60)\nopen({str(ended)!r}, 'w').close()"
    )
    code = (
        "import sys; from pathlib import Path; from test_native import HERE, DiskCache, native\n"
        "native.load(Path(sys.argv[1]), DiskCache(Path(sys.argv[2])), HERE)"
    )
    arguments = [sys.executable, "-c", code, folder, cache]
    with subprocess.Popen(arguments, cwd=ROOT / "tests", stderr=subprocess.PIPE, start_new_session=True) as running:
        while not begun.exists():
            time.sleep(0.01)
            assert running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
        assert running.communicate(timeout=600)[1].endswith(b"KeyboardInterrupt\n")
    with open(tmp_path / "alive", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    assert not ended.exists() and not cache.exists()


# ---- nobody has a say in the process that compiles -------------------------------------------------------------------


def test_what_python_prints_when_it_starts_is_no_part_of_the_object(folder, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('hello from the site')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    cache = DiskCache(tmp_path / "cache")
    hold(native.load(folder, cache, HERE))
    hold(llvm.link(cache.get(native.key_of(folder, HERE)), HERE))


@posix
def test_a_python_that_prints_by_itself_compiles(folder, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho hello\n{sys.executable} "$@"\necho done')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    hold(llvm.link(kernel_compiler.compile_apart(folder, HERE), HERE))


def test_variables_of_python_do_not_disturb_compiling(folder, monkeypatch):
    for name in ("HOME", "PATH", "STARTUP", "INSPECT", "OPTIMIZE", "VERBOSE", "WARNINGS", "PROFILEIMPORTTIME", "DEBUG"):
        monkeypatch.setenv(f"PYTHON{name}", "/nowhere" if name in ("HOME", "PATH", "STARTUP") else "1")
    hold(llvm.link(kernel_compiler.compile_apart(folder, HERE), HERE))


def test_half_a_result_is_not_taken(folder, monkeypatch):
    monkeypatch.setattr(
        kernel_compiler, "_program", lambda folder, made_for: "import os; os.write(0, b'half'); print('then it ended')"
    )
    with pytest.raises(DeviceUnavailable, match="ended with status 0: then it ended"):
        kernel_compiler.compile_apart(folder, HERE)


# ---- forks and signals: a time limit ends what hangs -----------------------------------------------------------------

ALONE = """
import os, signal, sys, threading
from pathlib import Path
from test_native import HERE, DiskCache, hold, kernel_compiler, llvm, native
from gpumlp import gate

native.kernel_sources.folder = lambda: Path(sys.argv[1])
native.shipped.library = lambda instructions: None
native._announce = lambda instructions: None
compile_apart = kernel_compiler.compile_apart


def child(work):
    number = os.fork()
    if number == 0:
        signal.alarm(100)
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return number


def ended_well(number):
    assert os.waitpid(number, 0)[1] == 0
"""


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A function that runs a script in a process of its own, the small package in the place of kernels/cpu."""
    written(tmp_path / "cpu")
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))

    def run(code):
        arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", ALONE + code, tmp_path]
        done = subprocess.run(
            arguments, cwd=ROOT / "tests", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")

    return run


@posix
def test_a_fork_while_another_thread_compiles_does_not_wait_and_compiles_for_itself(alone):
    alone("""
compiles, go = threading.Event(), threading.Event()


def waiting(folder, made_for):
    compiles.set()
    go.wait()
    return compile_apart(folder, made_for)


kernel_compiler.compile_apart = waiting
other = threading.Thread(target=lambda: hold(native.functions()))
other.start()
compiles.wait()
assert native._lock.acquire(blocking=False) is False
kernel_compiler.compile_apart = compile_apart
number = child(lambda: hold(native.functions()))
ended_well(number)  # before the parent has compiled
go.set()
other.join()
hold(native.functions())
""")


@posix
def test_a_fork_waits_for_a_thread_that_links(alone):
    alone("""
go, inside, left, target_machine = threading.Event(), threading.Event(), [], llvm.target_machine


def slow(made_for):
    inside.set()
    go.wait()
    left.append(True)
    return target_machine(made_for)


native.functions()  # kept
native._found.clear()
llvm.target_machine = slow
other = threading.Thread(target=native.functions)
other.start()
inside.wait()
threading.Timer(0.2, go.set).start()


def work():
    assert left  # so the fork was made when that was over
    hold(native.functions())


ended_well(child(work))
other.join()
""")


@posix
def test_a_fork_while_the_compiling_process_is_started_does_not_hold_its_pipe(alone):
    alone("""
import subprocess
asked, forks, numbers, Popen = threading.Event(), [], [], subprocess.Popen
hanging = os.pipe()  # the fork reads from it until the parent ends it


def beside(*arguments, **more):
    subprocess.Popen = Popen
    os.register_at_fork(before=asked.set)
    forks.append(threading.Thread(target=lambda: numbers.append(child(lambda: os.read(hanging[0], 1)))))
    forks[0].start()
    asked.wait()
    forks[0].join(0.2)  # where forks do not wait for this, it has been made
    return Popen(*arguments, **more)


subprocess.Popen = beside
hold(native.functions())
forks[0].join()
os.write(hanging[1], b"x")
ended_well(numbers[0])
""")


@posix
def test_a_fork_in_the_thread_that_compiles_goes_on(alone):
    alone("""
numbers = []


def forks(folder, made_for):
    kernel_compiler.compile_apart = compile_apart
    numbers.append(child(lambda: hold(native.functions())))
    return compile_apart(folder, made_for)


kernel_compiler.compile_apart = forks
hold(native.functions())
ended_well(numbers[0])
with gate.no_fork:
    ended_well(child(lambda: hold(native.functions())))
""")


@posix
def test_a_signal_s_handler_that_asks_while_its_thread_compiles_does_not_hang(alone):
    alone("""
found = []
signal.signal(signal.SIGUSR1, lambda *_: found.append(native.functions()))


def signalled(folder, made_for):
    kernel_compiler.compile_apart = compile_apart
    signal.raise_signal(signal.SIGUSR1)
    return compile_apart(folder, made_for)


kernel_compiler.compile_apart = signalled
hold(native.functions())
hold(found[0])
""")


@posix
def test_forks_while_another_thread_makes_the_first_fit_of_a_process():
    """Modules are imported there, which are locked meanwhile: no child may find one so."""
    native.functions()  # which are in the cache then
    code = """
import os, signal, threading, time, warnings
import numpy as np
from gpumlp import Sequential, layers

warnings.simplefilter("ignore", DeprecationWarning)  # of threads in a process that forks
x = np.zeros((23, 2), np.float32)
first, second = (Sequential([layers.Input((2,)), layers.Dense(1)]) for _ in range(2))
for model in (first, second):
    model.compile("adam", "mse")
thread = threading.Thread(target=lambda: first.fit(x, x[:, :1], epochs=3, verbose=0))
thread.start()
children = []
while thread.is_alive() and len(children) < 20:
    if not (child := os.fork()):
        signal.alarm(20)
        second.predict(x, verbose=0)
        os._exit(0)
    children.append(child)
    time.sleep(0.002)
thread.join()
print({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{0}\n", "")


@posix
def test_nobody_forks_while_the_binding_of_llvm_holds_its_lock(alone):
    """A child would find it locked for ever: versions are asked for, and modules freed, under it as code is made."""
    alone("""
import gc, traceback
import llvmlite.binding as binding
from gpumlp import Sequential, layers

calls = []


def taken():
    calls.append(gate.no_fork._is_owned())
    if not calls[-1]:
        print("".join(traceback.format_stack(limit=8)), file=sys.stderr)


binding.initialize_native_target()
binding.ffi.register_lock_callback(taken, lambda: None)
for _ in range(2):  # made, and from the cache
    hold(native.functions())
    assert native.problem() is None
    native.state()
    model = Sequential([layers.Input((2,)), layers.Dense(3, lambda z: z / (2.0 + abs(z)))])
    activation = model.layers[0].activation.formula
    native.formula_addresses([native.Code("forward", activation.forward)], HERE)
    native._found.clear(), native._formulas.clear(), native._formula_names.clear()
gc.collect()
assert len(calls) > 20
""")
