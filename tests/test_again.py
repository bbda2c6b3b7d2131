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
from compiled import build, data, kernels  # noqa: F401

from gpumlp import callbacks, config, gate, layers, metrics, models, optimizers
from gpumlp.training import again
from gpumlp.utils import set_random_seed

X, Y = data(32)


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


def used(model, x=X, y=Y):
    return [model.train_on_batch(x, y), model.test_on_batch(x, y), model.predict(x[:3], verbose=0), model(x[:1])]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def settle(models, times=4):
    """Have all of them done the same, until there are plans."""
    for _ in range(times):
        same(*[used(model) for model in models])


def freeze(model):
    model.layers[0].trainable = False


def freeze_all(model):
    model.trainable = False


def set_rate(model):
    model.optimizer.learning_rate = 0.1


def set_beta(model):
    model.optimizer.beta_1 = 0.5


def average(model):
    model.optimizer.use_ema = True


def clip_by_norm(model):
    model.optimizer.clipnorm = 0.01  # array by array: not compiled


def set_weights(model):
    model.set_weights([w + 0.25 for w in model.get_weights()])


def set_bad_weights(model):
    model.set_weights([w * np.float32("nan") for w in model.get_weights()])


def assign(model):
    model.layers[0].kernel.assign(np.ones((3, 19)))


def assign_state(model):
    model.optimizer.variables[2].assign(np.ones((3, 19)))


def compile_again(model):
    model.compile(loss="huber", optimizer=optimizers.SGD(0.1, 0.9))


def compile_with_metrics(model):
    model.compile(loss="mse", optimizer=model.optimizer, metrics=["mae"])


def compile_binary(model):
    model.compile(loss="binary_crossentropy", optimizer="adam")


def compile_for_numpy(model):
    os.environ["GPUMLP_KERNELS"] = "numpy"
    model.compile(loss="mse", optimizer="adam")


def other_optimizer(model):
    model.optimizer = optimizers.RMSprop(0.01)


def add_a_layer(model):
    model.add(layers.Dense(2, kernel_initializer="ones"))


def another_activation(model):
    model.layers[0].activation = "sigmoid"


def fit(model):
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False)


def larger(model):
    model.predict(np.tile(X, (40, 1)), batch_size=1280, verbose=0)


def share(model):
    other = models.Sequential([layers.Input((3,)), model.layers[0], layers.Dense(2, kernel_initializer="ones")])
    other.compile(loss="mse", optimizer="sgd")
    for _ in range(4):
        other.train_on_batch(X, Y)


def penalize(model):
    model.layers[0].kernel_regularizer = "l2"


CHANGES = [
    freeze, freeze_all, set_rate, set_beta, average, clip_by_norm, set_weights, set_bad_weights, assign, assign_state,
    compile_again, compile_with_metrics, compile_binary, compile_for_numpy, other_optimizer, add_a_layer,
    another_activation, fit, larger, share, penalize,
]  # fmt: skip


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


class nonfinite:
    """A context in which NaN in data leads to this."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        self._before = config.nonfinite()
        config.set_nonfinite(self._what)

    def __exit__(self, *given):
        config.set_nonfinite(self._before)


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
        version = model._runner.weights.arena.version
        seen.append((int(model.optimizer.iterations), version, model.train_on_batch(X, Y)))

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


# ---- epochs of one batch --------------------------------------------------------------------------------------------


@pytest.fixture
def rows(monkeypatch):
    """The batches of a fit that were done by a plan."""
    found, own = [], again.Plan.rows
    monkeypatch.setattr(again.Plan, "rows", lambda self, *given: (found.append(given[0].first), own(self, *given))[1])
    return found


@pytest.fixture
def unplanned(monkeypatch):
    """The models whose fits have no plans."""
    found, own = set(), again.for_stretch
    monkeypatch.setattr(
        again, "for_stretch", lambda trainee, stretch: None if id(trainee.model) in found else own(trainee, stretch)
    )
    return found


class PerBatch(callbacks.Callback):
    """Looks at each batch, and keeps what it sees."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, dict(logs)))


@pytest.mark.parametrize("loss", ["mse", "huber", "binary_crossentropy", "sparse_categorical_crossentropy"])
@pytest.mark.parametrize("asked", [None, ["mae", "mse"]])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_of_one_batch_is_done_again(unplanned, rows, loss, asked, shuffle):
    last = "sigmoid" if "binary" in loss else "softmax" if "sparse" in loss else None
    asked = None if "sparse" in loss else asked
    one, twin = (build([layers.Dense(19, "relu"), layers.Dense(2, last)], loss=loss, metrics=asked) for _ in range(2))
    unplanned.add(id(twin))
    found, y = [], (Y[:, :1] > 0).astype(np.float32) if "sparse" in loss else np.abs(Y)
    for model in (one, twin):
        set_random_seed(3)
        found.append([model.fit(X, y, verbose=0, shuffle=shuffle, epochs=epochs).history for epochs in (1, 1, 1, 4, 1)])
    assert found[0] == found[1] and len(rows) == 6  # the second one is planned
    same(one.get_weights(), twin.get_weights())


def test_callbacks_of_batches_see_what_they_saw(unplanned, rows):
    one, twin = build(metrics=["mae"]), build(metrics=["mae"])
    unplanned.add(id(twin))
    seen = []
    for model in (one, twin):
        look = PerBatch()
        model.fit(X, Y, batch_size=9, epochs=3, shuffle=False, verbose=0, callbacks=[look])  # the last one has 5
        seen.append(look.seen)
    assert seen[0] == seen[1] and len(seen[0]) == 12 and rows == [2, 0, 1, 2, 0, 1, 2]
    same(one.get_weights(), twin.get_weights())


@pytest.mark.filterwarnings("ignore:y must lie in 0 to 1", "ignore:The model may not learn")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("within", [True, False])
def test_a_fit_s_plan_is_dropped_when_what_it_depends_on_changes(unplanned, rows, monkeypatch, change, within):
    """Between two fits; or between two epochs, where a change may end the fit with words."""
    found = []
    for model in (one := build(), twin := build()):
        unplanned.add(id(twin))
        monkeypatch.setenv("GPUMLP_KERNELS", "numba")
        set_random_seed(3)
        model.fit(X, Y, epochs=4, verbose=0)
        told = []
        if within:
            at = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, m=model: epoch == 2 and change(m))
            try:
                model.fit(X, Y, epochs=8, verbose=0, callbacks=[at])
            except RuntimeError as error:
                told.append(str(error))
        else:
            change(model)
        if change is not set_bad_weights:
            told += [model.fit(X, Y, epochs=4, verbose=0).history["loss"]]
        found.append(told)
    assert rows and found[0] == found[1]
    same(one.get_weights(), twin.get_weights())


@pytest.mark.parametrize("x, y", [
    (X[:7], Y[:7]), (X.astype(np.float64), Y), (X, Y.astype(np.float16)), (X.tolist(), Y.tolist()),
    (np.asfortranarray(X), Y[::-1]), (np.tile(X, (1, 2))[:, ::2], Y), (np.round(X).astype(int), Y),
    (np.tile(X, (3, 1)), np.tile(Y, (3, 1))),
])  # fmt: skip
def test_a_fit_takes_other_data_as_ever(unplanned, x, y):
    found = []
    for model in (one := build(), twin := build()):
        unplanned.add(id(twin))
        set_random_seed(3)
        fits = [(X, Y), (X, Y), (x, y), (x, y), (x, y), (X, Y)]
        found.append([model.fit(*given, verbose=0).history for given in fits])
    assert found[0] == found[1]
    same(one.get_weights(), twin.get_weights())


def test_a_fit_s_data_is_checked_every_time(rows):
    model = build()
    for _ in range(4):
        model.fit(X, Y, verbose=0)
    before, count, bad = model.get_weights(), len(rows), X.copy()
    bad[3, 1] = np.nan
    for x, y, words in (
        (X[:, :2], Y, "samples of shape"), (X, Y[:, :1], "takes"), (X, Y[:5], "cardinality"),
        (X[:0], Y[:0], "is empty"), (X.reshape(32, 3, 1), Y, "samples of shape"),
        (X.reshape(-1), Y, "samples of shape"), (np.float32(1.0), Y, "one row"), (bad, Y, "has NaN or Inf"),
        (X, Y * np.float32("inf"), "has NaN or Inf"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=words), nonfinite("error"):
            model.fit(x, y, verbose=0)
    same(model.get_weights(), before)
    assert count == 2 and len(rows) == count


def test_samples_of_another_shape_are_refused_whoever_planned():
    model = models.Sequential([layers.Input((3, 1)), layers.Flatten(), layers.Dense(2)])
    model.compile(loss="mse", optimizer="adam")
    x = X.reshape(32, 3, 1)
    for _ in range(4):
        model.fit(x, Y, verbose=0)
    with pytest.raises(ValueError, match="samples of shape"):
        model.fit(X, Y, verbose=0)
    model.fit(x, Y, verbose=0)


def test_weights_of_samples_count_in_a_fit(unplanned):
    found, w = [], np.linspace(0, 2, len(X))
    for model in (one := build(), twin := build()):
        unplanned.add(id(twin))
        set_random_seed(3)
        found.append([model.fit(X, Y, sample_weight=of, verbose=0).history for of in (None, None, w, w, None, w)])
    assert found[0] == found[1]
    same(one.get_weights(), twin.get_weights())


def test_what_was_chosen_when_a_fit_began_holds_to_its_end(rows):
    """A plan is for compiled kernels: what began by NumPy goes on so."""
    model, ended = build(), []

    def look(epoch, logs):
        ended.append(model.program)

    os.environ["GPUMLP_KERNELS"] = "numpy"
    model.compile(loss="mse", optimizer="adam")
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=look)])
    assert not rows and len(set(ended)) == 1


@pytest.mark.parametrize("loss, wrong", [("binary_crossentropy", 7.0), ("sparse_categorical_crossentropy", 2.0)])
def test_targets_that_a_loss_looks_at_are_looked_at_in_each_fit(rows, loss, wrong):
    model = build([layers.Dense(2, "softmax" if "sparse" in loss else "sigmoid")], loss=loss)
    y = np.zeros((32, 1 if "sparse" in loss else 2), np.float32)
    for _ in range(4):
        model.fit(X, y, verbose=0)
    y[5] = wrong
    assert len(rows) == 2
    for call in (model.fit, model.train_on_batch):
        with (
            pytest.raises(ValueError, match="class numbers")
            if "sparse" in loss
            else pytest.warns(match="lie in 0 to 1")
        ):
            call(X, y, **{"verbose": 0} if call == model.fit else {})


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
@pytest.mark.parametrize("repeat", range(6))
def test_a_handler_that_raises_ends_a_planned_fit_between_two_steps(rows, repeat):
    class Ended(Exception):
        pass

    def limit(number, frame):
        raise Ended

    model, twin, before = build(), build(), signal.signal(signal.SIGALRM, limit)
    model.fit(X, Y, shuffle=False, epochs=3, verbose=0)
    try:
        with pytest.raises(Ended):
            signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.0037 * repeat)
            model.fit(X, Y, shuffle=False, epochs=10**7, verbose=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    done, history = model.optimizer.iterations - 3, model.history.history["loss"]
    if done:  # where the machine was not busy with something else
        assert len(history) == len(model.history.epoch) == done <= len(rows)
    twin.fit(X, Y, shuffle=False, epochs=3 + done, verbose=0)
    same(model.get_weights(), twin.get_weights())
