"""One model used from threads, handlers and forks: right numbers, the bits of training, and nobody waits for ever."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import soak

import gpumlp
from gpumlp import callbacks, config, gate, layers, members, models, optimizers, random, workers
from gpumlp.engine import runner
from gpumlp.utils import set_random_seed

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 30)).astype("f4")
Y = np.sin(X[:, :1])


def build(units=32, **how):
    set_random_seed(0)
    stack = [layers.Input((30,)), layers.Dense(units, "relu"), layers.Dense(units, "relu"), layers.Dense(1)]
    model = models.Sequential(stack)
    model.compile("adam", "mse", **how)
    return model


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def at_once(*jobs):
    """Run all jobs, each in a thread of its own; what one raises is raised."""
    errors, start = [], threading.Barrier(len(jobs))

    def run(job):
        try:
            start.wait(600)
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not any(thread.is_alive() for thread in threads)
    for error in errors:
        raise error


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_eight_threads_predict_what_each_gets_alone(family):
    model, rounds = build(256 if family != "cuda" else 32), 40 if family != "cuda" else 3
    inputs = [RNG.normal(size=(64, 30)).astype("f4") for _ in range(8)]
    expected = [model.predict(x, verbose=0) for x in inputs]

    def ask(x, right):
        for _ in range(rounds):
            assert np.array_equal(model.predict(x, verbose=0), right)

    at_once(*[lambda x=x, right=right: ask(x, right) for x, right in zip(inputs, expected, strict=True)])


@pytest.mark.parametrize("cold", [True, False])
def test_fit_has_its_own_bits_beside_predictions_and_evaluations(family, cold):
    found = []
    for others in (0, 3):
        model, done = build(), threading.Event()
        if not cold:
            model.fit(X, Y, verbose=0, shuffle=False)

        def fit(model=model, done=done):
            model.fit(X, Y, epochs=6, verbose=0, shuffle=False, validation_split=0.25)
            done.set()

        def use(model=model, done=done):
            while not done.is_set():
                assert np.isfinite(model.predict(X, verbose=0)).all()
                assert np.isfinite(model.evaluate(X, Y, verbose=0))

        at_once(fit, *[use] * others)
        found.append((bits(model), model.optimizer.iterations))
    assert found[0] == found[1]


def test_two_fits_of_one_model_do_all_their_steps(family):
    model = build()
    at_once(*[lambda: model.fit(X, Y, epochs=10, batch_size=16, verbose=0)] * 2)
    assert model.optimizer.iterations == 80 and all(np.isfinite(w).all() for w in model.get_weights())


def test_a_callback_may_wait_for_a_prediction_in_another_thread(family):
    model, seen = build(), []

    def wait(epoch, logs):
        at_once(lambda: seen.append(model.predict(X, verbose=0)))

    every = dict.fromkeys(("on_epoch_begin", "on_epoch_end", "on_train_begin", "on_train_end"), wait)
    every["on_train_begin"] = every["on_train_end"] = lambda logs: wait(0, logs)
    callback = callbacks.LambdaCallback(**every, on_train_batch_end=wait)
    callback.on_test_batch_end = wait
    model.fit(X, Y, epochs=2, verbose=0, callbacks=callback, validation_data=(X, Y))
    assert len(seen) == 14


def test_a_schedule_may_wait_for_a_prediction_in_another_thread(family):
    """Code of the user's never runs inside the gate."""
    seen = []

    class Waits(optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            if step == 1:
                at_once(lambda: seen.append(model.predict(X, verbose=0)))
            return 0.01

    model = build()
    model.compile(optimizers.SGD(Waits()), "mse")
    model.fit(X, Y, verbose=0)
    assert seen


def test_a_prediction_waits_for_one_stretch_of_training_at_most(monkeypatch, family):
    """Counted in stretches: the next one begins after those who wait have been inside."""
    model, entered, waiting = build(), [], threading.Event()
    hold = gate.hold

    def noted(gates, work):
        if gate.layout in gates:
            return hold(gates, work)

        def inside():
            entered.append(threading.current_thread().name)
            if threading.current_thread().name == "fit":
                waiting.set()
                asks.wait(600)
            return work()

        return hold(gates, inside)

    asks = threading.Event()
    monkeypatch.setattr(runner, "hold", noted)
    within = gate.Gate.within

    def told(self, work):
        if threading.current_thread().name == "predict" and self is not gate.layout:
            threading.Timer(0.2, asks.set).start()  # when it is on its way
        return within(self, work)

    monkeypatch.setattr(gate.Gate, "within", told)
    monkeypatch.setattr(gate, "PATIENCE", 600.0)
    fit = threading.Thread(target=lambda: model.fit(X, Y, epochs=3, batch_size=8, verbose=0), name="fit", daemon=True)
    fit.start()
    assert waiting.wait(600)

    def predict():
        model.predict(X, verbose=0)

    other = threading.Thread(target=predict, name="predict", daemon=True)
    other.start()
    other.join(600), fit.join(600)
    assert not other.is_alive() and not fit.is_alive()
    assert entered.index("predict") <= 2


# ---- handlers --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this system")
@pytest.mark.parametrize("family", ["numpy", "numba"], indirect=True)
def test_a_handler_that_uses_the_model_gets_right_numbers_and_training_its_bits(family):
    alone, model, seen = build(), build(), []
    alone.fit(X, Y, epochs=400, batch_size=16, shuffle=False, verbose=0)

    def handler(number, frame):
        signal.setitimer(signal.ITIMER_REAL, 0)
        seen.append((model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)))
        signal.setitimer(signal.ITIMER_REAL, 0.005)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        model.fit(X, Y, epochs=400, batch_size=16, shuffle=False, verbose=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert bits(model) == bits(alone)
    for loss, prediction in seen:
        assert np.isfinite(loss) and np.isfinite(prediction).all()


def test_a_model_used_inside_its_own_stretch_is_refused_with_words(monkeypatch, family):
    """A handler that comes while its own thread is inside: here, where a thread has no worker."""
    model = build()
    model.predict(X, verbose=0)
    program, errors = model._runner.last, []
    predict = type(program).predict

    def interrupted(self, *arguments):
        for call in (lambda: model.predict(X, verbose=0), lambda: model.fit(X, Y, verbose=0)):
            with pytest.raises(RuntimeError, match=r"in the middle of what it does.*set a flag"):
                call()
        errors.append(True)
        predict(self, *arguments)

    monkeypatch.setattr(type(program), "predict", interrupted)
    at_once(lambda: model.predict(X, verbose=0))
    assert errors == [True]


# ---- forks -----------------------------------------------------------------------------------------------------------


def child_of(work):
    """Fork; return whether ``work`` was well in the child, which is ended if it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            if hasattr(signal, "SIGALRM"):
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(600)
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
@pytest.mark.parametrize("family", ["numpy", "numba"], indirect=True)
@pytest.mark.parametrize("same", [True, False])
def test_the_child_of_a_fork_uses_a_model_while_another_thread_trains(family, same):
    trained, done = build(), threading.Event()
    model = trained if same else build()
    model.predict(X, verbose=0)

    def fit():
        while not done.is_set():
            trained.fit(X, Y, epochs=3, batch_size=16, verbose=0)

    def use():
        before = model.predict(X, verbose=0)
        model.fit(X, Y, verbose=0)
        return np.isfinite(before).all() and np.isfinite(model.evaluate(X, Y, verbose=0))

    def forks():
        try:
            assert all(child_of(use) for _ in range(10))
        finally:
            done.set()

    at_once(fit, forks)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
@pytest.mark.parametrize("family", ["numpy", "numba"], indirect=True)
def test_a_fork_in_a_handler_inside_a_call(family):
    """The child of a fork that a handler makes has no worker: it goes on, or is told why not."""
    model, found = build(), []

    def handler(number, frame):
        found.append(child_of(lambda: np.isfinite(model.predict(X, verbose=0)).all()))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        hook = callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: signal.setitimer(signal.ITIMER_REAL, 1e-4 * (epoch + 1))
        )
        model.fit(X, Y, epochs=20, batch_size=8, verbose=0, callbacks=hook)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
@pytest.mark.parametrize("family", ["numpy", "numba"], indirect=True)
@pytest.mark.parametrize("what", ["evaluate", "a new model"])
def test_a_handler_that_comes_while_its_thread_forks_gets_numbers_or_is_refused(family, what):
    """The thread holds every gate then, and the worker could not get in; another thread trains another model."""
    model, other, over, calls = build(), build(), threading.Event(), []
    model.fit(X, Y, verbose=0)

    def handler(number, frame):
        try:
            if what == "evaluate":
                model.evaluate(X, Y, verbose=0)
            else:
                build().fit(X, Y, verbose=0)
        except RuntimeError as error:
            assert "in the middle of what it does" in str(error)
        calls.append(what)

    def train():
        while not over.is_set():
            other.fit(X, Y, verbose=0)

    thread = threading.Thread(target=train, daemon=True)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        thread.start()
        for k in range(20):  # a process that has grown is slow to fork
            signal.setitimer(signal.ITIMER_REAL, 1e-4 * (k + 1))
            assert child_of(lambda: np.isfinite(model.predict(X[:2], verbose=0)).all())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        over.set()
        thread.join(600)
    assert calls and not thread.is_alive()


@pytest.mark.parametrize("within", ["members", "warnings", "settings"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_no_thread_that_it_has_not(within):
    """Another thread makes members, or does a worker's piece by its caller's settings, while this one forks."""
    inside, over, own = threading.Event(), threading.Event(), config.settings()
    theirs = {"members": lambda: members.randomness_of(random.Stream()), "warnings": lambda: workers._alone,
              "settings": lambda: workers._going_by(("float64", *own[1:]))}[within]  # fmt: skip

    def other():
        with theirs():
            inside.set()
            over.wait(60)

    def works():
        assert len(gpumlp.Ensemble(soak.build, 2).members) == 2 and config.settings() == own
        with workers._going_by(("float64", *own[1:])), workers._noted(False) as found:
            warnings.warn("heard", UserWarning, stacklevel=1)
        return found == [(UserWarning, "heard")] and config.settings() == own

    thread = threading.Thread(target=other)
    thread.start()
    try:
        inside.wait(60)
        assert child_of(works)
    finally:
        over.set()
        thread.join(60)
    assert config.settings() == own


# ---- all of it -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("family", ["numpy", "numba"], indirect=True)
def test_a_short_soak(family):
    everybody = soak.Soak(forks=True, signals=True)
    everybody.round()
    assert not everybody.wrong, everybody.wrong[:5]
    assert {"predict", "evaluate", "copy", "share", "train"} <= set(everybody.counts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_short_soak_of_all_sorts_of_calls():
    command = [sys.executable, str(Path(__file__).with_name("soak_calls.py")), "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("wrong: nothing") == 2


def test_a_fit_that_begins_while_another_thread_reads_the_layers_again_does_not_disturb_it():
    class Fit:
        def locked(self):
            if len(model._runner.fits) == 1:
                model._runner.fits.add(Fit())  # another thread's
            return False

    model = soak.build()
    model._runner.fits.add(Fit())
    model._runner._read = -1  # so the layers are read again
    model._runner.reread(trainable=True)
    assert len(model._runner.fits) == 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this system")
@pytest.mark.parametrize("family", ["numpy", "numba"], indirect=True)
@pytest.mark.parametrize("over", ["predict", "get_weights"])
def test_a_handler_that_comes_where_the_main_thread_is_inside_gets_numbers_or_is_refused(family, over):
    """It must not wait for the worker, which would wait for the thread that the handler is on."""
    model, calls = build(), []
    model.fit(X, Y, verbose=0)

    def handler(number, frame):
        try:
            model.evaluate(X, Y, verbose=0), model.train_on_batch(X, Y)
            calls.append("right")
        except RuntimeError as error:
            assert "in the middle of what it does" in str(error)
            calls.append("refused")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(60):
            count = len(calls)
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while len(calls) == count:
                model.predict(X[:2], verbose=0) if over == "predict" else model.get_weights()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(calls) >= 60


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_finalizer_at_the_interpreter_s_end_does_not_wait_for_a_thread_that_is_stopped(kernels):
    code = """
import numpy as np
from gpumlp import layers, models
class Watch:
    def __init__(self):
        self.model = models.Sequential([layers.Dense(2, input_shape=(1,)), layers.Dense(1)])
        self.model.compile("adam", "mse")
        self.model.fit(np.ones(9), np.ones(9), verbose=0)
        self.x = np.ones(9)
    def __del__(self):
        try:
            print("loss", self.model.evaluate(self.x, self.x, verbose=0))
        except RuntimeError as error:
            print("refused", error)
watch = Watch()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GPUMLP_KERNELS": kernels}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0 and ("loss" in done.stdout or "refused" in done.stdout), done.stderr


def test_weights_that_are_set_beside_the_first_computation_are_there_afterwards(family):
    for _ in range(10):
        model = build(200)
        zeros = [np.zeros(w.shape) for w in model.get_weights()]
        at_once(lambda m=model, z=zeros: m.set_weights(z), lambda m=model: m.predict(X, verbose=0))
        assert not any(w.any() for w in model.get_weights())
        assert not any(w.any() for layer in model.layers for w in layer.get_weights())


def test_a_model_is_built_once_by_whichever_thread_comes_first(family):
    for _ in range(10):
        set_random_seed(0)
        model = models.Sequential([layers.Dense(40, "relu"), layers.Dense(1)])
        model.compile(optimizers.SGD(0.01), "mse")
        losses = []

        def fit(m=model, out=losses):
            out.extend(m.fit(X, Y, epochs=4, batch_size=64, shuffle=False, verbose=0).history["loss"])

        at_once(fit, lambda m=model: m.predict(X[:1], verbose=0))
        set_random_seed(0)
        alone = models.Sequential([layers.Input((30,)), layers.Dense(40, "relu"), layers.Dense(1)])
        alone.compile(optimizers.SGD(0.01), "mse")
        assert losses == alone.fit(X, Y, epochs=4, batch_size=64, shuffle=False, verbose=0).history["loss"]


def test_layers_that_another_thread_changes_are_an_error_that_says_so(family):
    model, done = build(), threading.Event()

    def change():
        for _ in range(30):
            top = model.pop()
            model.add(top)
            model.pop()
            model.add(layers.Dense(1))
        done.set()

    def use(call):
        while not done.is_set():
            try:
                call()
            except RuntimeError as error:
                assert "layers were changed" in str(error)
            except ValueError as error:  # the targets are not those of the layers that there are now
                assert "y has" in str(error) or "samples" in str(error)

    at_once(
        change,
        lambda: use(lambda: model.predict(X, verbose=0)),
        lambda: use(lambda: model.evaluate(X, Y, verbose=0)),
        lambda: use(lambda: model.fit(X, Y, verbose=0)),
    )
