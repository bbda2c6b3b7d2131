"""Ctrl-C, and whatever else a signal's handler raises, at any moment: whole steps, and a model as good as before."""

import _thread
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gpumlp import callbacks, gate, layers, models, optimizers
from gpumlp.backends import blas, llvm, numpy_backend
from gpumlp.engine import runner
from gpumlp.training import again, health, loop
from gpumlp.utils import set_random_seed

ROOT = Path(__file__).parents[1]
ALONE = "GPUMLP_TEST_ALONE"  # which test this process is for
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype("f4")
Y = np.sin(X[:, :1])

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this system")


class Ended(Exception):
    """What a time limit raises."""


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", request.param)


def build(**how):
    set_random_seed(0)
    model = models.Sequential([layers.Input((5,)), layers.Dense(33, "relu"), layers.Dense(17, "tanh"), layers.Dense(1)])
    model.compile(optimizers.SGD(1e-3, momentum=0.9), "mse", **how)
    return model


def fit(model, epochs, batch_size=16, **how):
    return model.fit(X, Y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, **how)


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def press(*ignored, **too):
    signal.raise_signal(signal.SIGINT)


def check_that_it_is_as_good_as_before(model, batch_size=16):
    """Weights, state and steps are those of so many steps, and training goes on as if nothing had happened."""
    steps, again = model.optimizer.iterations, build()
    for _ in range(2):
        for start in range(again.optimizer.iterations, steps):
            rows = slice(start % 4 * batch_size, (start % 4 + 1) * batch_size)
            again.train_on_batch(X[rows], Y[rows])
        assert bits(model) == bits(again)
        fit(model, 1)
        fit(again, 1)
        steps = model.optimizer.iterations


@pytest.mark.parametrize("repeat", range(12))
def test_a_handler_that_raises_ends_fit_between_two_steps(repeat):
    """A time limit by SIGALRM, which comes at another moment each time."""

    def limit(number, frame):
        raise Ended

    model, before = build(), signal.signal(signal.SIGALRM, limit)
    fit(model, 1)
    signal.setitimer(signal.ITIMER_REAL, 0.003 + 0.0037 * repeat)
    try:
        with pytest.raises(Ended):
            fit(model, 10**7)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert model.history.epoch == list(range(len(model.history.epoch)))
    assert {len(values) for values in model.history.history.values()} <= {len(model.history.epoch)}
    done = model.optimizer.iterations - 4  # of which no whole epoch is missing in the history
    assert 4 * len(model.history.epoch) <= done < 4 * len(model.history.epoch) + 4
    check_that_it_is_as_good_as_before(model)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end", "on_train_batch_end", "on_test_batch_end"])
def test_ctrl_c_in_a_hook_ends_fit_there(hook):
    model, calls = build(), []

    def pressed(*arguments, **logs):
        calls.append(arguments)
        if len(calls) == 3:
            press()

    callback = callbacks.Callback()
    setattr(callback, hook, pressed)
    with pytest.raises(KeyboardInterrupt):
        fit(model, 9, validation_data=(X, Y), callbacks=callback)
    assert len(calls) == 3
    assert model.history.epoch == {
        "on_epoch_begin": [0, 1], "on_epoch_end": [0, 1, 2], "on_train_batch_end": [], "on_test_batch_end": []
    }[hook]  # fmt: skip
    check_that_it_is_as_good_as_before(model)


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_end", "on_test_end", "on_test_batch_end"])
def test_ctrl_c_at_the_very_end_is_not_swallowed(hook):
    model, callback = build(), callbacks.Callback()
    setattr(callback, hook, press)
    with pytest.raises(KeyboardInterrupt):
        fit(model, 1, validation_data=(X, Y), validation_batch_size=64, callbacks=callback)
    check_that_it_is_as_good_as_before(model)


def test_a_long_validation_ends_between_two_stretches(monkeypatch):
    model, stretches = build(), []
    run = loop.Averages.add

    def add(self, logs):
        stretches.append(logs)
        if len(stretches) == 8:  # the first four are training's
            press()
        run(self, logs)

    monkeypatch.setattr(loop.Averages, "add", add)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr("gpumlp.engine.compiled_program.CompiledProgram.first_stretch", 1, raising=False)
    callback = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    callback.on_test_batch_end = lambda batch, logs: None
    with pytest.raises(KeyboardInterrupt):
        fit(model, 1, validation_data=(X, Y), validation_batch_size=1, callbacks=callback)
    assert len(stretches) == 8


def test_ctrl_c_while_a_stretch_runs_waits_for_its_step(monkeypatch):
    """Pressed from another thread in the middle of an update; the step is whole before anything else happens."""
    model = build()
    fit(model, 1)
    from gpumlp.engine.program import rates_of

    def pressed(task):
        if task.optimizer is not None:
            os.kill(os.getpid(), signal.SIGINT)
        return rates_of(task)

    monkeypatch.setattr("gpumlp.engine.program.rates_of", pressed)
    monkeypatch.setattr("gpumlp.engine.compiled_program.rates_of", pressed)
    for call in (lambda: fit(model, 5), lambda: model.train_on_batch(X[:16], Y[:16])):
        before = model.optimizer.iterations
        with pytest.raises(KeyboardInterrupt):
            call()
        assert model.optimizer.iterations > before
    monkeypatch.undo()
    state = model.optimizer.saved()["momentum"]
    assert all(np.isfinite(a).all() for a in state)


def test_ctrl_c_in_a_script_ends_it(kernels):
    """Also while the last validation runs; and the exit status says so."""
    code = """
import os, signal, numpy as np
from gpumlp import callbacks, layers, models
signal.signal(signal.SIGINT, signal.default_int_handler)
model = models.Sequential([layers.Dense(4, input_shape=(1,)), layers.Dense(1)])
model.compile("adam", "mse")
x = np.ones(9)
press = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: os.kill(os.getpid(), signal.SIGINT))
model.fit(x, x, validation_data=(x, x), verbose=0, callbacks=press)
print("goes on")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert "goes on" not in done.stdout and "KeyboardInterrupt" in done.stderr and done.returncode != 0


def test_an_own_handler_of_ctrl_c_is_called_and_kept():
    model, pressed = build(), []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    fit(model, 2, callbacks=callbacks.LambdaCallback(on_epoch_end=press))
    assert len(pressed) == 2 and len(model.history.epoch) == 2


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_exception_in_a_callback_leaves_the_model(error):
    model = build()

    def fail(epoch, logs):
        raise error("mine")

    with pytest.raises(error, match="mine"):
        fit(model, 3, callbacks=callbacks.LambdaCallback(on_epoch_end=fail))
    assert model.history.epoch == [0] and model.optimizer.iterations == 4
    check_that_it_is_as_good_as_before(model)


# ---- the worker ------------------------------------------------------------------------------------------------------


def test_work_that_has_not_begun_is_given_up_and_work_that_has_is_waited_for():
    running, raised, ended = threading.Event(), threading.Event(), []

    def slow():
        running.set()
        raised.wait(600)
        ended.append(True)

    def limit(number, frame):
        if not ended:
            if pressed[0] > 3:
                raised.set()
            raise Ended

    pressed = [0]

    def press_until_it_is_heard():  # a signal that comes just before the wait for a lock begins ends no wait
        running.wait(600)
        while not raised.wait(0.01):
            pressed[0] += 1
            os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, limit)
    try:
        helper = threading.Thread(target=press_until_it_is_heard)
        helper.start()
        with pytest.raises(Ended):
            gate.apart(slow)
        helper.join(600)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended == [True]
    assert gate.apart(lambda: 3) == 3


def test_a_handler_that_comes_in_the_middle_of_brief_work_is_called_at_its_end():
    seen = []

    def limit(number, frame):
        seen.append("handler")
        raise Ended

    before = signal.signal(signal.SIGALRM, limit)

    def work():
        os.kill(os.getpid(), signal.SIGALRM)
        seen.append("work")
        return 3

    try:
        with pytest.raises(Ended):
            gate.whole(work)
        assert seen == ["work", "handler"] and signal.getsignal(signal.SIGALRM) is limit
        assert gate.whole(lambda: 4) == 4
        with pytest.raises(ZeroDivisionError):
            gate.whole(lambda: 1 // 0)
        assert signal.getsignal(signal.SIGALRM) is limit
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGALRM, before)


def test_handlers_of_all_signals_that_come_in_brief_work_are_called_whichever_of_them_raise():
    seen = []

    def raises(number, frame):
        seen.append(number)
        raise Ended

    signals = signal.SIGALRM, signal.SIGUSR1
    before = {number: signal.signal(number, raises) for number in signals}
    try:
        with pytest.raises(Ended):
            try:
                gate.whole(lambda: [signal.raise_signal(number) for number in signals])
            finally:
                time.sleep(0)
        assert sorted(seen) == sorted(signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_an_error_of_the_work_is_the_caller_s():
    with pytest.raises(ZeroDivisionError):
        gate.apart(lambda: 1 // 0)


def test_without_threads_work_is_done_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(gate, "_worker", gate._Worker())

    def none(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    assert gate.apart(threading.current_thread) is threading.main_thread()
    model = build()
    fit(model, 1)
    check_that_it_is_as_good_as_before(model)


def test_numpy_s_error_state_is_the_caller_s():
    model = build()
    model.set_weights([np.full_like(w, 1e30) for w in model.get_weights()])
    if "numpy" not in os.environ["GPUMLP_KERNELS"]:
        pytest.skip("compiled kernels raise nothing")
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        fit(model, 1)


# ---- every moment ----------------------------------------------------------------------------------------------------

WATCHED = [gate, again, runner, blas, llvm, numpy_backend]


def at_each_moment(call, signals):
    """Do ``call()`` again and again, each time with the signals coming at the next instruction of the watched modules.

    Handlers are called where the interpreter does so next, as always. Yields after each.
    """
    files, left = {module.__file__ for module in WATCHED}, 0

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and (left := left - 1) < 0:
            sys.settrace(None)
            while frame is not None:
                frame.f_trace, frame = None, frame.f_back
            come[signals[0]], come[signals[-1]]  # no call, no loop: the interpreter calls no handler behind these
        return trace

    come, moment = type("Come", (), {"__getitem__": staticmethod(_thread.interrupt_main)})(), 0
    while True:
        left = moment
        try:
            try:
                try:
                    sys.settrace(trace)
                    call()
                finally:
                    sys.settrace(None)  # where the first handler is called at the latest
            finally:
                time.sleep(0)  # and the second
        except Ended:
            pass
        if left >= 0:
            return
        yield moment
        moment += 1


@pytest.mark.parametrize("signals", [(signal.SIGALRM,), (signal.SIGALRM, signal.SIGUSR1)], ids=["one", "two at once"])
@pytest.mark.parametrize("call", ["predict", "get_weights", "gradients", "train_on_batch", "hold"])
def test_a_handler_raises_at_every_moment_of_a_call_and_nothing_stays_locked(call, signals):
    model, state, threads = build(), np.geterr(), blas_threads()
    earlier, later = gate.Gate(), gate.Gate()
    does = {
        "predict": lambda: model.predict(X[:3], verbose=0),
        "get_weights": model.get_weights,
        "gradients": lambda: model.gradients(X[:3], Y[:3]),
        "train_on_batch": lambda: model.train_on_batch(X[:3], Y[:3]),
        "hold": lambda: gate.hold((later,), lambda: gate.hold((earlier,), int)),  # out of turn
    }[call]
    fit(model, 1)
    for _ in range(4):
        does()

    def raises(number, frame):
        raise Ended

    before = {number: signal.signal(number, raises) for number in signals}
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    try:
        for moment in at_each_moment(does, signals):
            for number in (signal.SIGINT, *signals):
                with pytest.raises((KeyboardInterrupt, Ended)):
                    signal.raise_signal(number)
            assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers, moment
            assert not any(one.is_mine() for one in gate._gates) and not gate._here.is_inside(), moment
            assert np.geterr() == state, moment
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert moment > 100
    does()
    assert blas_threads() == threads
    with ThreadPoolExecutor(1) as pool:
        pool.submit(does).result(60)
        pool.submit(fit, build(), 1).result(60)
    fit(build(), 1)


def test_a_handler_uses_a_model_at_every_moment_of_a_call_beside_a_thread_that_does():
    """It waits for the thread, which may wait for what the main thread has: NumPy's BLAS is one for all models."""
    model, other, ends, said = build(), build(), [], set()
    expected = other.predict(X[:3], verbose=0)
    look = health.Look(model._runner, None, 3)  # as after `fit`, on the main thread and in no gate

    def uses(number, frame):
        thread = threading.Thread(target=lambda: ends.append(other.predict(X[:3], verbose=0)))
        thread.start()
        thread.join(0.05)
        try:
            assert (other.predict(X[:3], verbose=0) == expected).all()
        except RuntimeError as error:
            said.add(str(error))

    def hangs(number, frame):
        raise AssertionError("the handler and the thread wait for each other")

    before = {signal.SIGALRM: uses, signal.SIGUSR2: hangs}
    before = {number: signal.signal(number, handler) for number, handler in before.items()}
    watch = threading.Timer(200, os.kill, (os.getpid(), signal.SIGUSR2))
    watch.start()
    try:
        for call in (lambda: model.predict(X[:3], verbose=0), lambda: look.given(X[:3])):
            assert sum(1 for _ in at_each_moment(call, [signal.SIGALRM])) > 20
    finally:
        watch.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(ends) > 100 and all((end == expected).all() for end in ends)
    assert said <= {gate.BUSY}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:.*fork:DeprecationWarning")
def test_a_handler_raises_at_every_moment_of_a_fork_and_nothing_stays_locked(request):
    if os.environ.get(ALONE) != request.node.name:
        # thousands of tests leave gigabytes to each fork, and more that a fork looks at: minutes instead of seconds
        command = [sys.executable, "-m", "pytest", "-q", f"{__file__}::{request.node.name}"]
        env = os.environ | {ALONE: request.node.name}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    model, parent, statuses = build(), os.getpid(), []
    model.predict(X[:3], verbose=0)

    def fork():
        with contextlib.suppress(Ended):
            os.fork()
        if os.getpid() != parent:
            sys.settrace(None)
            try:
                model.predict(X[:3], verbose=0)
                os._exit(any(one.is_mine() for one in gate._gates))
            finally:
                os._exit(2)
        statuses.append(os.waitstatus_to_exitcode(os.wait()[1]))

    def raises(number, frame):
        raise Ended

    before = signal.signal(signal.SIGALRM, raises)
    try:
        for moment in at_each_moment(fork, [signal.SIGALRM]):
            assert not any(one.is_mine() for one in gate._gates) and not gate._here.is_inside(), moment
            assert not gate._registry._is_owned() and not gate.no_fork._is_owned(), moment
            assert statuses == [0] * (moment + 1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert moment > 100


def blas_threads():
    return None if blas.openblas() is None else blas.openblas()[0]()
