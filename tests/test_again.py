"""Calls of one batch that are done again by a plan: it is used, and it is what the first way would have done.

A twin never has a plan. After whatever may change between two calls both must give the same bits.
"""

import copy
import gc
import os
import pickle
import signal
import threading
import warnings
import weakref

import numpy as np
import pytest
from compiled import build, kernels  # noqa: F401
from plans import CHANGES, X, Y, nonfinite, same, settle, used

from gpumlp import gate, layers, metrics, optimizers
from gpumlp.training import again


@pytest.fixture(autouse=True)
def compiled(kernels):  # noqa: F811
    kernels("numba", always=False)


@pytest.fixture
def plain(monkeypatch):
    """The models that have no plans."""
    found = set()
    for name in ("step", "predict"):
        own = getattr(again, name)
        monkeypatch.setattr(
            again, name, lambda model, *given, own=own: None if id(model) in found else own(model, *given)
        )
    return found


@pytest.fixture
def done(monkeypatch):
    """What was done by a plan."""
    found = []
    for where, name in ((again.Plan, "do"), (again, "predict")):
        own = getattr(where, name)

        def noted(*given, own=own, name=name):
            result = own(*given)
            if result is not None:
                found.append(name)
            return result

        monkeypatch.setattr(where, name, noted)
    return found


@pytest.mark.filterwarnings("ignore:y must lie in 0 to 1", "ignore:The model may not learn")
@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_is_dropped_when_what_it_depends_on_changes(plain, done, monkeypatch, change):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    one, twin = build(), build()
    plain.add(id(twin))
    settle([one, twin])
    assert done.count("do") >= 2 and done.count("predict") >= 2
    for model in (one, twin):
        monkeypatch.setenv("GPUMLP_KERNELS", "numba")
        change(model)
    settle([one, twin])
    same(one.get_weights(), twin.get_weights())


@pytest.mark.parametrize("asked", [["mae"], ["mae", "mse"]])
def test_metrics_are_those_of_the_batch(plain, done, asked):
    one, twin = (build(metrics=asked) for _ in range(2))
    plain.add(id(twin))
    settle([one, twin])
    assert "do" in done and one.get_metrics_result() == twin.get_metrics_result()
    assert one.test_on_batch(X, Y, return_dict=True) == twin.test_on_batch(X, Y, return_dict=True)


def test_a_metric_of_a_users_own_is_asked_every_time(done):
    class Worst(metrics.Metric):
        scale = 1.0

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.worst = self.scale * float(np.abs(y_true - y_pred).max())

        def result(self):
            return self.worst

    worst = Worst()
    model = build(metrics=[worst])
    found = [model.test_on_batch(X, Y)[1] for _ in range(4)]
    worst.scale = 2.0
    assert "do" not in done and model.test_on_batch(X, Y)[1] == pytest.approx(2 * found[-1])


@pytest.mark.parametrize("optimizer", [
    lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)),
    lambda: optimizers.Adam(0.01, gradient_accumulation_steps=3), lambda: optimizers.SGD(0.1, momentum=0.9),
    lambda: optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True, ema_overwrite_frequency=2), lambda: "nadam",
])  # fmt: skip
def test_every_step_has_the_scalars_of_its_number(plain, done, optimizer):
    one, twin = (
        build([layers.Dense(19, "relu"), layers.Dropout(0.5, seed=1), layers.Dense(2)], optimizer()) for _ in range(2)
    )
    plain.add(id(twin))
    settle([one, twin], 8)
    assert done.count("do") > 8
    same(one.get_weights(), twin.get_weights())


def test_a_rate_that_a_function_gives_is_asked_for_once_a_step(done):
    asked = []

    def rate():
        asked.append(None)
        return 0.01

    model = build(optimizer=optimizers.Adam(rate))
    for _ in range(7):
        model.train_on_batch(X, Y)
    assert len(asked) == 7 and len(done) == 5


@pytest.mark.parametrize("x, y", [
    (X[:7], Y[:7]), (X.astype(np.float64), Y), (X, Y.astype(np.float16)), (X.tolist(), Y.tolist()),
    (np.asfortranarray(X), Y[::-1]), (np.tile(X, (1, 2))[:, ::2], Y), (np.round(X).astype(int), Y),
])  # fmt: skip
def test_other_data_is_taken_as_ever(plain, done, x, y):
    one, twin = build(), build()
    plain.add(id(twin))
    settle([one, twin])
    for _ in range(3):
        same(used(one, x, y), used(twin, x, y)) if not isinstance(x, list) else same(
            [one.train_on_batch(x, y), one(x)], [twin.train_on_batch(x, y), twin(x)]
        )
    settle([one, twin])


def test_data_is_checked_every_time(done):
    model = build()
    for _ in range(4):
        used(model)
    before, count = model.get_weights(), len(done)
    bad = X.copy()
    bad[3, 1] = np.nan
    for call in (lambda: model.train_on_batch(bad, Y), lambda: model.test_on_batch(X, Y * np.float32("inf"))):
        with pytest.raises(ValueError, match="has NaN or Inf, first in row"), nonfinite("error"):
            call()
    with pytest.raises(ValueError, match="has NaN or Inf, first in row 0"), nonfinite("error"):
        model(bad[3:4])
    with pytest.raises(ValueError, match="samples of shape"):
        model.train_on_batch(X[:, :2], Y)
    with pytest.raises(ValueError, match="loss mean_squared_error takes"):
        model.train_on_batch(X, Y[:, :1])
    with pytest.raises(ValueError, match="cardinality"):
        model.train_on_batch(X, Y[:5])
    same(model.get_weights(), before)
    assert len(done) == count
    with pytest.warns(UserWarning, match="has NaN or Inf"):
        model.train_on_batch(bad, Y)


def test_weights_of_samples_count(plain, done):
    one, twin = build(), build()
    plain.add(id(twin))
    settle([one, twin])
    w = np.linspace(0, 2, len(X))
    for _ in range(3):
        assert one.train_on_batch(X, Y, sample_weight=w) == twin.train_on_batch(X, Y, sample_weight=w)
    settle([one, twin])


def test_what_comes_out_is_the_callers():
    model = build()
    first = [model.predict(X[:3], verbose=0) for _ in range(3)]
    kept = first[-1].copy()
    model.predict(X[3:6], verbose=0)[...] = 7.0
    np.testing.assert_array_equal(first[-1], kept)
    logs = [model.train_on_batch(X, Y, return_dict=True) for _ in range(4)]
    logs[-1]["loss"] = None
    assert model.get_metrics_result()["loss"] is not None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_makes_plans_of_its_own(done, copied):
    model = build()
    for _ in range(4):
        used(model)
    other = copied(model)
    for _ in range(4):
        same(used(model), used(other))
    same(model.get_weights(), other.get_weights())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_child_goes_on_by_itself(plain):
    one, twin = build(), build()
    plain.add(id(twin))
    settle([one, twin])
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in a process that forks
        child = os.fork()
    if child == 0:
        try:
            os.write(write, pickle.dumps(used(one)))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        found = pickle.loads(answer.read())
    os.waitpid(child, 0)
    same(found, used(twin))
    same(used(one), found)


def test_threads_take_turns(done):
    model, steps, threads = build(optimizer=optimizers.SGD(0.0)), 200, 3
    expected = used(model)
    found, errors = [], []

    def work():
        try:
            for _ in range(steps):
                found.append(used(model))
        except Exception as error:
            errors.append(error)

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not errors and len(done) > steps and model.optimizer.iterations == steps * threads + 1
    for one in found:
        same(one, expected)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this system")
def test_a_handler_finds_whole_steps_and_may_use_the_model(done):
    model, seen = build(), []
    for _ in range(4):
        used(model)

    def handler(number, frame):
        arena, version = model._runner.weights.arena, -1
        while version != arena.version:  # another signal may come, and train, between the two
            version, steps = arena.version, int(model.optimizer.iterations)
        seen.append((steps, version, model.train_on_batch(X, Y)))

    apart = version_apart(model)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0011)
        for _ in range(3000):
            model.train_on_batch(X, Y)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen and all(version - steps == apart for steps, version, _ in seen)
    assert model.optimizer.iterations == 4 + 3000 + len(seen)


def version_apart(model):
    return model._runner.weights.arena.version - int(model.optimizer.iterations)


def test_what_is_to_be_done_before_a_use_is_done_before(done):
    model, order = build(), []
    for _ in range(4):
        used(model)
    count = len(done)
    for call in (lambda: model.train_on_batch(X, Y), lambda: model.test_on_batch(X, Y), lambda: model(X[:1])):
        outer = gate.settling(lambda: order.append(len(done)))
        try:
            call()
        finally:
            gate.settling(outer)
    assert sorted(set(order)) == [count, count + 1, count + 2] and len(done) == count + 3


def test_a_model_that_is_dropped_is_freed_at_once():
    model = build()
    for _ in range(4):
        used(model)
    gone = weakref.ref(model._runner._programs[again.COMPILED])
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_the_program_says_what_ran_last():
    model = build()
    for _ in range(4):
        used(model)
    model(X[:1], training=True)
    assert "in training mode" in model.program
    model.predict(X[:1], verbose=0)
    assert "compiled" in model.program
