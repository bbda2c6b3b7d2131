"""Batches that do not fit, generators that raise, signals and forks while they are read; other libraries' batches."""

import os
import signal
import threading

import numpy as np
import pytest
from batches import BATCH, RAN_OUT, N, Numbered, W, X, Y, bits, build, fit, forever, parts

from gpumlp import gate, layers, models
from gpumlp.utils import set_random_seed

# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "how", "message"),
    [
        (lambda: (forever(X, Y), Y), {}, r"x is a generator, which gives batches: y comes with each of them"),
        (lambda: (forever(X, Y),), {"sample_weight": W}, "sample_weight comes with each of them"),
        (lambda: (forever(X, Y),), {"validation_split": 0.5}, "validation_split cuts arrays; x is a generator"),
        (lambda: (iter([]),), {}, "x must give at least one batch; it gave none"),
        (lambda: (Numbered([]),), {}, "x must give at least one batch; it gave none"),
        (lambda: (forever(X),), {}, "^batch 1: y is missing"),
        (lambda: (iter([(X, Y, W, W)]),), {}, "batch 1: A batch is .*; got 4 parts"),
        (lambda: (iter([(X[:4], Y[:4]), (X[:4], Y[:3])]),), {}, "cardinality.* batch 2: x: 4, batch 2: y: 3"),
        (lambda: (forever(X, Y),), {"steps_per_epoch": 0}, "steps must be a whole number >= 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(given, how, message):
    model = build()
    before = bits(model)
    with pytest.raises(ValueError, match=message):
        fit(model, *given(), **{"steps_per_epoch": 2, **how})
    assert bits(model) == before and model.optimizer.iterations == 0 and model.history is None


WRONG = {
    "another width": (
        (X[:4, :2], Y[:4]),
        ValueError,
        r"^batch 6: x has shape \(4, 2\).* takes samples of shape \(3,\)",
    ),
    "no samples": ((X[:0], Y[:0]), ValueError, "^batch 6: x is empty"),
    "targets of another width": ((X[:4], Y[:4, :1]), ValueError, "^batch 6: y has shape"),
    "NaN": ((X[:4] * np.nan, Y[:4]), UserWarning, "^batch 6: x has NaN or Inf, first in row 0"),
    "text": ((np.array([["a"] * 3]), Y[:1]), TypeError, "^batch 6: x must be an array of numbers"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("where", ["fit", "validation", "evaluate", "predict"])
def test_a_batch_that_does_not_fit_is_named_and_those_before_are_done(kind, where):
    batch, error, message = WRONG[kind]
    if where == "predict" and "targets" in kind:
        pytest.skip("targets are not looked at")
    message = message.replace("^", "^validation ") if where == "validation" else message
    source, model = iter([*parts(X, Y)[:5], batch]), build()
    with pytest.raises(error, match=message):
        if where == "fit":
            fit(model, source, steps_per_epoch=6)
        elif where == "validation":
            fit(model, X, Y, batch_size=BATCH, validation_data=source)
        else:
            getattr(model, where)(source, verbose=0)
    if where == "fit":
        other = build()
        fit(other, X[:50], Y[:50], batch_size=BATCH)
        assert bits(model) == bits(other) and model.optimizer.iterations == 5


class Own(Exception):
    pass


@pytest.mark.parametrize("error", [Own, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_what_a_generator_raises_comes_out_as_it_is_after_the_steps_before(at, error, family):
    raised = error("own words")

    def failing():
        for k, batch in enumerate(forever(X[:50], Y[:50])):
            if k == at:
                raise raised
            yield batch

    model, other = build(), build()
    before = threading.active_count()
    with pytest.raises(error) as found:
        fit(model, failing(), epochs=5, steps_per_epoch=5)
    assert found.value is raised
    assert threading.active_count() <= max(before, 2)  # the worker, which stays
    for k in range(0 if at < 2 else at):
        other.train_on_batch(*parts(X[:50], Y[:50])[k % 5])
    assert bits(model) == bits(other) and model.optimizer.iterations == (0 if at < 2 else at)
    assert model.history is None if at < 2 else model.history.epoch == list(range(at // 5))
    fit(model, X, Y)


def test_ctrl_c_is_not_lost_where_training_is_to_end_anyway():
    model = build()

    def ending():
        yield from parts(X, Y)[:3]
        model.stop_training = True
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, ending())
    assert model.optimizer.iterations <= 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this system")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what a finalizer swallows
@pytest.mark.parametrize("repeat", range(6))
def test_a_handler_that_raises_leaves_whole_steps(repeat, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", ["numpy", "numba"][repeat % 2])

    def end(number, frame):
        raise Own

    model, before = build(), signal.signal(signal.SIGALRM, end)
    fit(model, X[:50], Y[:50], batch_size=BATCH)
    signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.0037 * repeat, 2.0)  # again, where Python swallows it in a finalizer
    try:
        with pytest.raises(Own):
            fit(model, forever(X[:50], Y[:50]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other = build()
    for k in range(model.optimizer.iterations):
        other.train_on_batch(*parts(X[:50], Y[:50])[k % 5])
    assert bits(model) == bits(other)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("at", range(1, 40, 3))
def test_an_exception_where_reading_ends_leaves_nothing_to_be_done_by_others(at, times, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    calls, settling = [], gate.settling

    def raising(first):  # as a handler that comes just there
        calls.append(first)
        if at <= len(calls) < at + times:
            raise Own
        return settling(first)

    model = build()
    with monkeypatch.context() as patched, pytest.raises(Own):
        patched.setattr(gate, "settling", raising)
        fit(model, forever(X[:50], Y[:50]))
    other = build()
    for k in range(model.optimizer.iterations):
        other.train_on_batch(*parts(X[:50], Y[:50])[k % 5])
    assert bits(model) == bits(other)
    assert gate.unsettled() is None


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that signal on this system")
def test_a_handler_may_use_the_model_while_batches_are_read():
    model, found = build(), []
    fit(model, X, Y)

    def look(number, frame):
        found.append(model.predict(X, verbose=0))

    def until():
        for batch in forever(X, Y):
            if len(found) >= 5:
                return
            yield batch

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.013)
    try:
        with pytest.warns(UserWarning, match=RAN_OUT):
            fit(model, until())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.isfinite(found).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_generator_may_fork():
    model, statuses = build(), []

    def forking():
        for k, batch in enumerate(forever(X, Y)):
            if k in (3, 7):
                child = os.fork()
                if child == 0:
                    os._exit(0 if model.predict(X, verbose=0).shape == (N, 2) else 1)
                statuses.append(os.waitpid(child, 0)[1])
            yield batch

    fit(model, forking(), steps_per_epoch=12)
    assert statuses == [0, 0]


# ---- other libraries' batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_frames_are_taken_as_a_batchs_parts_and_as_data(name):
    library = pytest.importorskip(name)
    frame = library.DataFrame({f"f{i}": X[:, i] for i in range(3)})
    targets = library.DataFrame({"a": Y[:, 0], "b": Y[:, 1]})
    weights = library.Series(W)
    one, other = build(), build()
    expected = fit(one, X, Y, batch_size=BATCH, sample_weight=W)
    assert fit(other, frame, targets, batch_size=BATCH, sample_weight=weights) == expected
    third = build()
    batches = [(frame[i : i + BATCH], targets[i : i + BATCH], weights[i : i + BATCH]) for i in range(0, N, BATCH)]
    assert fit(third, Numbered(batches)) == expected
    assert bits(one) == bits(other) == bits(third)


def test_a_data_loader_of_pytorch():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=BATCH)
    one, other = build(), build()
    assert fit(one, loader, epochs=2) == fit(other, X, Y, batch_size=BATCH, epochs=2)
    assert bits(one) == bits(other) and one.predict(loader, verbose=0).shape == (N, 2)


@pytest.mark.parametrize(
    "x", [[X], (X,), {"features": X}, {"features": X, "more": Y}], ids=["list", "tuple", "dict", "dict of two"]
)
def test_lists_of_one_and_dicts_with_the_inputs_name_are_the_only_input(x):
    def named():
        set_random_seed(0)
        model = models.Sequential([layers.Input((3,), name="features"), layers.Dense(2)])
        model.compile("sgd", "mse")
        return model

    one, other, third = named(), named(), named()
    expected = fit(one, X, Y, batch_size=N)
    assert fit(other, x, [Y], batch_size=N) == expected == fit(third, iter([(x, [Y])] * 2), steps_per_epoch=1)
    assert bits(one) == bits(other) == bits(third)
    np.testing.assert_array_equal(other.predict(x, verbose=0), one.predict(X, verbose=0))
    with pytest.raises(TypeError, match="x must be one array; got a dict"):
        one.predict({"other": X})
