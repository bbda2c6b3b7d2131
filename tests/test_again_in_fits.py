"""Epochs of one batch that are done again by a plan within `fit`: see test_again.py."""

import os
import signal

import numpy as np
import pytest
from compiled import build, kernels  # noqa: F401
from plans import CHANGES, X, Y, nonfinite, same, set_bad_weights

from gpumlp import callbacks, layers, models
from gpumlp.training import again
from gpumlp.utils import set_random_seed


@pytest.fixture(autouse=True)
def compiled(kernels):  # noqa: F811
    kernels("numba", always=False)


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


class PerEpoch(callbacks.Callback):
    """Looks at each epoch: where nobody does, many are one stretch."""

    def on_epoch_begin(self, epoch, logs=None):
        pass


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
        how = {"verbose": 0, "shuffle": shuffle, "callbacks": PerEpoch()}
        found.append([model.fit(X, y, epochs=epochs, **how).history for epochs in (1, 1, 1, 4, 1)])
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


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning")  # on purpose
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
        model.fit(X, Y, epochs=4, verbose=0, callbacks=PerEpoch())
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
            told += [model.fit(X, Y, epochs=4, verbose=0, callbacks=PerEpoch()).history["loss"]]
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
    model.fit(X, Y, shuffle=False, epochs=3, verbose=0, callbacks=PerEpoch())
    try:
        with pytest.raises(Ended):
            signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.0037 * repeat)
            model.fit(X, Y, shuffle=False, epochs=10**7, verbose=0, callbacks=PerEpoch())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    done, history = model.optimizer.iterations - 3, model.history.history["loss"]
    if done:  # where the machine was not busy with something else
        assert len(history) == len(model.history.epoch) == done <= len(rows)
    twin.fit(X, Y, shuffle=False, epochs=3 + done, verbose=0)
    same(model.get_weights(), twin.get_weights())
