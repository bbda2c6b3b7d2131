"""Batches that come one by one, from generators, data loaders and a PyDataset: what is read when, and the same bits."""

import os
import signal
import threading
import time
import warnings
from itertools import count, islice

import numpy as np
import pytest

from gpumlp import callbacks, layers, metrics, models, optimizers, utils
from gpumlp.ensemble import Ensemble
from gpumlp.training import loop, streams
from gpumlp.utils import PyDataset, set_random_seed

N, BATCH = 57, 10
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("f4")
Y = np.sin(X @ RNG.normal(size=(3, 2))).astype("f4")
W = RNG.random(N).astype("f4")
RAN_OUT = "Your input ran out of data"


def build(**how):
    set_random_seed(0)
    model = models.Sequential([layers.Input((3,)), layers.Dense(19, "tanh"), layers.Dropout(0.2), layers.Dense(2)])
    model.compile(optimizers.SGD(0.1, momentum=0.9), "mse", **how)
    return model


def parts(*arrays, size=BATCH):
    """The batches of an epoch over arrays."""
    return [tuple(a[i : i + size] for a in arrays) for i in range(0, len(arrays[0]), size)]


def forever(*arrays):
    while True:
        yield from parts(*arrays)


class Numbered(PyDataset):
    """Notes what is asked of it."""

    def __init__(self, batches=None, **how):
        super().__init__(**how)
        self.batches, self.notes = parts(X, Y) if batches is None else batches, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        self.notes.append(index)
        return self.batches[index]

    def on_epoch_begin(self):
        self.notes.append("begin")

    def on_epoch_end(self):
        self.notes.append("end")


class Endless(Numbered):
    num_batches = None

    def __getitem__(self, index):
        return super().__getitem__(index % len(self.batches)) if self.notes.append(index) is None else None


class Loader:
    """Like a DataLoader: a list of arrays a batch, from the start each time; ``length`` None: it does not say."""

    def __init__(self, length=None, arrays=(X, Y)):
        self.length, self.arrays, self.starts = length, arrays, 0

    def __iter__(self):
        self.starts += 1
        return iter([list(batch) for batch in parts(*self.arrays)])

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def fit(model, x, *rest, **how):
    return model.fit(x, *rest, **{"verbose": 0, "shuffle": False, **how}).history


# ---- the same numbers as arrays --------------------------------------------------------------------------------------

SOURCES = {
    "generator": lambda *arrays: (forever(*arrays), {"steps_per_epoch": 6}),
    "PyDataset": lambda *arrays: (Numbered(parts(*arrays)), {}),
    "loader": lambda *arrays: (Loader(6, arrays), {}),
    "iterator": lambda *arrays: (map(list, forever(*arrays)), {"steps_per_epoch": 6}),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", SOURCES)
def test_numbers_are_those_of_arrays_to_the_bit(kind, weighted, family):
    measured = {"metrics": ["mae"], "weighted_metrics": ["mse"]}
    arrays = (X, Y, W) if weighted else (X, Y)
    one, other = build(**measured), build(**measured)
    held = (X[:25], *(a[:25] for a in arrays[1:]))
    weights = {"sample_weight": W} if weighted else {}
    expected = fit(one, X, Y, batch_size=BATCH, epochs=3, validation_data=held, **weights)
    source, how = SOURCES[kind](*arrays)
    found = fit(other, source, epochs=3, validation_data=Loader(3, held), **how)
    assert found == expected and bits(one) == bits(other)
    assert one.program.split(":")[0] == other.program.split(":")[0]
    kept = SOURCES[kind](*arrays)
    steps = {"steps": 6} if kept[1] else {}
    assert other.evaluate(kept[0], verbose=0, **steps) == one.evaluate(X, Y, BATCH, verbose=0, **weights)
    predicted = other.predict(SOURCES[kind](*arrays)[0], verbose=0, **steps)
    np.testing.assert_allclose(predicted, one.predict(X, BATCH, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("many", ["one by one", "as they come", "all", "few bytes"])
def test_how_many_come_at_a_time_changes_no_bit(many, family, monkeypatch):
    sizes = [3, 7, 7, 2, 7, 12, 12, 5, 12, 1, 12, 12, 12, 9]

    def varied():
        rng = np.random.default_rng(1)
        for k, size in enumerate(sizes * 3):
            if many == "as they come":
                time.sleep(0.002 * rng.random())
            yield X[k : k + size], Y[k : k + size]

    taken, take = [], streams.Stream.take
    monkeypatch.setattr(streams.Stream, "take", lambda self, *given: taken.append(take(self, *given)) or taken[-1])
    one = build(metrics=["mae", metrics.AUC(name="own")])
    one_by_one = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    with pytest.warns(UserWarning, match=RAN_OUT):
        expected = fit(one, varied(), callbacks=[one_by_one])
    assert all(stretch is None or stretch.steps == 1 for stretch in taken)
    taken.clear()
    if many == "all":
        monkeypatch.setattr(streams, "READ_SECONDS", 60.0)
        monkeypatch.setattr(loop, "WORTH", 60.0)
        monkeypatch.setattr(loop, "CHUNK_SECONDS", 600.0)
    if many == "few bytes":
        monkeypatch.setattr(streams, "AHEAD_BYTES", 1)
    other = build(metrics=["mae", metrics.AUC(name="own")])
    with pytest.warns(UserWarning, match=RAN_OUT):
        found = fit(other, varied(), callbacks=[one_by_one] if many == "one by one" else None)
    assert found == expected and bits(one) == bits(other)
    assert max(stretch.steps for stretch in taken if stretch) > 1 or many not in ("all",)


def test_a_generator_may_fill_the_same_arrays_again(family):
    def again():
        x, y = np.empty((BATCH, 3), "f4"), np.empty((BATCH, 2), "f4")
        for k in count():
            x[...], y[...] = X[k % 5 * BATCH :][:BATCH], Y[k % 5 * BATCH :][:BATCH]
            yield x, y

    one, other = build(), build()
    assert fit(one, again(), steps_per_epoch=5, epochs=2) == fit(other, X[:50], Y[:50], batch_size=BATCH, epochs=2)
    assert bits(one) == bits(other)


def test_members_of_an_ensemble_train_on_one_generator():
    together, alone = Ensemble(build, 2), Ensemble(build, 2)
    together.fit(forever(X, Y), epochs=2, steps_per_epoch=6, verbose=0)
    alone.fit(X, Y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    assert [bits(m) for m in together.members] == [bits(m) for m in alone.members]
    with pytest.raises(ValueError, match="bootstrap draws from arrays"):
        together.fit(forever(X, Y), steps_per_epoch=6, bootstrap=True)


@pytest.fixture
def told():
    """The warnings, each time that one is given."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


# ---- what is read, and when ------------------------------------------------------------------------------------------


class Counted:
    """A generator over so many batches, and how many it has given."""

    def __init__(self, length=None):
        self.given = 0
        self.batches = self.make(length)

    def make(self, length):
        while length is None or self.given < length:
            self.given += 1
            yield X[:4] * self.given, Y[:4]


@pytest.mark.parametrize(
    ("length", "how", "after_each_epoch", "steps", "warns"),
    [
        (None, {"epochs": 2, "steps_per_epoch": 10}, [10, 20], [10, 10], 0),
        (None, {"epochs": 1, "steps_per_epoch": 1}, [2], [1], 0),  # two are read to know shapes by
        (10, {"epochs": 3}, [10, 10, 10], [10, 2, 2], 3),  # and come again, as Keras has it
        (10, {"epochs": 4, "steps_per_epoch": 4}, [4, 8, 10, 10], [4, 4, 2, 2], 2),
        (8, {"epochs": 3, "steps_per_epoch": 4}, [4, 8, 8], [4, 4, 0], 1),
    ],
)
def test_a_generator_gives_what_keras_takes_of_it(length, how, after_each_epoch, steps, warns, told):
    source, model, given, done = Counted(length), build(), [], []

    def note(epoch, logs):
        given.append(source.given)
        done.append(model.optimizer.iterations)

    history = fit(model, source.batches, callbacks=[callbacks.LambdaCallback(on_epoch_end=note)], **how)
    assert given == after_each_epoch
    assert np.diff([0, *done]).tolist() == steps
    assert len(history["loss"]) == how["epochs"]
    assert [RAN_OUT in str(w.message) and w.filename == __file__ for w in told] == [True] * warns


def test_validation_by_a_generator_begins_with_its_first_two_batches_each_time():
    """So it is in Keras: 1 2 3, then 1 2 4, then 1 2 5."""
    source, model, plain = Counted(), build(), build()
    found = fit(model, X, Y, epochs=3, validation_data=source.batches, validation_steps=3)["val_loss"]
    assert source.given == 5
    for epoch, last in enumerate([3, 4, 5]):
        fit(plain, X, Y, epochs=1)
        x = np.concatenate([X[:4] * k for k in (1, 2, last)])
        np.testing.assert_allclose(found[epoch], plain.evaluate(x, np.tile(Y[:4], (3, 1)), verbose=0), rtol=1e-5)


def test_another_length_than_the_epochs_and_what_starts_again(told):
    loader, model = Loader(6), build()
    fit(model, loader, epochs=3)
    assert model.optimizer.iterations == 18 and loader.starts == 3 and not told
    fit(model, loader, epochs=3, steps_per_epoch=4)  # 4, then the 2 that are left, then 4
    assert model.optimizer.iterations == 18 + 10 and loader.starts == 5
    assert [RAN_OUT in str(w.message) for w in told] == [True]
    fit(model, loader, epochs=2, steps_per_epoch=3)  # they fit: nothing to tell
    assert model.optimizer.iterations == 28 + 6 and len(told) == 1
    fit(model, Loader(), epochs=2)  # which does not say how many it has
    assert model.optimizer.iterations == 34 + 12 and len(told) == 3


def test_a_data_set_by_number_is_told_of_epochs_and_shuffled():
    ordered, shuffled = Numbered(), Numbered()
    fit(build(), ordered, epochs=2)
    epoch = ["begin", *range(6), "end"]
    assert ordered.notes == ["begin", 0, "end", *epoch, *epoch]  # the first batch, to know shapes by
    model = build()
    fit(model, shuffled, epochs=2, shuffle=True)
    assert shuffled.notes[:3] == ["begin", 0, "end"] and sorted(map(str, shuffled.notes)) == sorted(
        map(str, ordered.notes)
    )
    first, second = shuffled.notes[4:10], shuffled.notes[12:18]
    assert sorted(first) == sorted(second) == list(range(6)) and first != second
    again = Numbered()
    other = build()
    fit(other, again, epochs=2, shuffle=True)
    assert again.notes == shuffled.notes and bits(model) == bits(other)
    for ask, asked in (
        (lambda d: build().predict(d, verbose=0), epoch),
        (lambda d: fit(build(), X, Y, validation_data=d), epoch),
    ):
        data = Numbered()
        ask(data)
        assert data.notes == asked


def test_a_data_set_without_end_goes_on_where_it_was():
    data = Endless()
    fit(build(), data, epochs=2, steps_per_epoch=4)
    assert [n for n in data.notes if n not in ("begin", "end")][::2][1:] == list(range(8))


def test_what_a_data_set_has_of_its_own():
    data = PyDataset(workers=3, use_multiprocessing=True, max_queue_size=4)
    assert (data.workers, data.use_multiprocessing, data.max_queue_size) == (3, True, 4)
    assert utils.Sequence is PyDataset
    with pytest.raises(NotImplementedError, match="PyDataset needs a method __len__"):
        fit(build(), data)
    with pytest.raises(NotImplementedError, match="PyDataset needs a method __getitem__"):
        data[0]
    assert len(list(Numbered())) == 6 and len(list(islice(Endless(), 9))) == 9


def test_a_batch_is_packed_and_unpacked():
    pack, unpack = utils.pack_x_y_sample_weight, utils.unpack_x_y_sample_weight
    assert pack(X) is X and pack(X, Y) == (X, Y) and pack(X, Y, W) == (X, Y, W) and pack([X]) == ([X],)
    assert unpack(X) == unpack((X,)) == (X, None, None)
    assert unpack([X, Y]) == (X, Y, None) and unpack((X, Y, W)) == (X, Y, W)
    with pytest.raises(ValueError, match=r"A batch is x, .*; got 4 parts"):
        unpack((1, 2, 3, 4))


def test_nothing_is_read_ahead_of_an_epochs_end_and_callbacks_may_change_what_comes():
    scale, source = [1.0], []

    def scaled():
        for x, y in forever(X, Y):
            source.append(scale[0])
            yield x * scale[0], y

    change = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: scale.append(scale.pop() + 1.0))
    fit(build(), scaled(), epochs=3, steps_per_epoch=4, callbacks=[change])
    assert source == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_a_batch_is_read_after_the_hooks_of_the_batch_before():
    notes = []

    def noted():
        for k, batch in enumerate(forever(X, Y)):
            notes.append(k)
            yield batch

    hook = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: notes.append(f"end {batch}"))
    fit(build(), noted(), steps_per_epoch=4, callbacks=[hook])
    assert notes == [0, 1, "end 0", "end 1", 2, "end 2", 3, "end 3"]


def test_another_thread_trains_while_batches_are_read_by_the_callers(family, monkeypatch):
    trained, threads, add = threading.Event(), set(), loop.Averages.add
    monkeypatch.setattr(loop.Averages, "add", lambda self, logs: (add(self, logs), trained.set()))

    def waiting():
        for k, batch in enumerate(forever(X, Y)):
            threads.add(threading.get_ident())
            if k == 3:
                assert trained.wait(60), "nothing trains while a batch is made"
            yield batch

    fit(build(), waiting(), steps_per_epoch=8)
    assert threads == {threading.get_ident()}


def test_draws_of_a_generator_are_the_same_for_the_same_seed():
    def drawn():
        while True:
            rows = np.random.randint(0, N, BATCH)
            yield X[rows], Y[rows]

    def run():
        model = build()  # which seeds
        fit(model, drawn(), epochs=3, steps_per_epoch=20, shuffle=True)
        return bits(model), np.random.random()

    assert run() == run()


@pytest.mark.parametrize("ask", ["predict", "get_weights", "layer", "train_on_batch"])
def test_a_generator_that_uses_the_model_finds_the_steps_before(ask, family, monkeypatch):
    monkeypatch.setattr(streams, "READ_SECONDS", 60.0)
    monkeypatch.setattr(loop, "WORTH", 60.0)
    uses = {
        "predict": lambda model: model.predict(X[:2], verbose=0),
        "get_weights": lambda model: model.get_weights()[0],
        "layer": lambda model: model.layers[0].get_weights()[0],
        "train_on_batch": lambda model: np.float64(model.train_on_batch(X[:4], Y[:4])),
    }

    def run(one_by_one):
        model, seen = build(), []

        def asking():
            for k, batch in enumerate(forever(X, Y)):
                if k > 4 and k % 3:
                    seen.append(np.array(uses[ask](model)).tobytes())
                yield batch

        hook = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
        history = fit(model, asking(), epochs=2, steps_per_epoch=12, callbacks=[hook] if one_by_one else None)
        return seen, history, bits(model), model.optimizer.iterations

    assert run(False) == run(True)


# ---- evaluate and predict --------------------------------------------------------------------------------------------


def test_steps_of_evaluate_and_predict_and_what_ends_too_early():
    model = build(metrics=["mae"])
    assert model.evaluate(forever(X, Y), steps=2, verbose=0) == model.evaluate(X[:20], Y[:20], BATCH, verbose=0)
    assert model.predict(forever(X), steps=3, verbose=0).shape == (30, 2)
    assert model.predict((x for (x,) in parts(X)), steps=3, verbose=0).shape == (30, 2)
    assert model.predict(forever(X, Y, W), steps=3, verbose=0).shape == (30, 2)
    with pytest.warns(UserWarning, match=RAN_OUT):
        assert model.predict(iter(parts(X)), verbose=0).shape == (57, 2)
    with pytest.warns(UserWarning, match=RAN_OUT):
        found = model.evaluate(iter(parts(X, Y)), steps=9, verbose=0, return_dict=True)
    assert found == model.evaluate(X, Y, BATCH, verbose=0, return_dict=True)


@pytest.mark.parametrize("doing", ["training", "evaluating", "predicting"])
def test_a_callback_ends_what_has_no_end(doing):
    model, calls = build(), []

    def end(batch, logs):
        calls.append(batch)
        if batch == 4:
            setattr(model, f"stop_{doing}", True)

    hook = {"training": "on_train_batch_end", "evaluating": "on_test_batch_end", "predicting": "on_predict_batch_end"}
    how = {"callbacks": [callbacks.LambdaCallback(**{hook[doing]: end})], "verbose": 0}
    run = {"training": model.fit, "evaluating": model.evaluate, "predicting": model.predict}[doing]
    for _ in range(2):
        run(forever(X, Y), **how)
        assert calls == [0, 1, 2, 3, 4]
        calls.clear()
    if doing == "predicting":
        assert len(model.predict(X, BATCH, **how)) == 50


def test_class_weight_is_the_weight_of_each_batchs_samples():
    labels, table = (np.arange(N) % 3).astype("f4"), {0: 1.0, 2: 5.0}
    found = []
    for x, y in ((X, labels), (forever(X, labels), None)):
        set_random_seed(0)
        model = models.Sequential([layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
        rest = {"batch_size": BATCH} if y is not None else {"steps_per_epoch": 6}
        found.append((fit(model, x, y, class_weight=table, **rest), bits(model)))
    assert found[0] == found[1]
    with pytest.raises(ValueError, match="cannot be given together"):
        fit(model, forever(X, labels, W), class_weight=table, steps_per_epoch=6)


def test_an_unbuilt_model_is_built_for_the_first_batch():
    def unbuilt():
        model = models.Sequential([layers.Dense(4, "relu"), layers.Dense(3, "softmax")])
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
        return model

    y = np.eye(3, dtype="f4")[np.arange(N) % 3]
    model = unbuilt()
    assert list(fit(model, forever(X, y), steps_per_epoch=2)) == ["accuracy", "loss"]
    assert model.built and 0.0 <= fit(model, forever(X, y), steps_per_epoch=6)["accuracy"][0] <= 1.0
    assert unbuilt().predict(Numbered(parts(X)), verbose=0).shape == (N, 3)
    assert len(unbuilt().evaluate(Numbered(parts(X, y)), verbose=0)) == 2


def test_progress_says_that_the_number_of_steps_is_unknown(capsys, monkeypatch):
    monkeypatch.setattr("gpumlp.training.progress.updates_in_place", lambda: True)
    monkeypatch.setattr("gpumlp.training.progress.REFRESH_SECONDS", 0.0)
    hook = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    model = build()
    with pytest.warns(UserWarning, match=RAN_OUT):
        model.fit(iter(parts(X, Y)), epochs=2, callbacks=[hook])
    assert model.history.params["steps"] is None
    first, second = capsys.readouterr().out.split("Epoch 2/2")
    assert "      1/Unknown 0s" in first and "6/6 ━" in first
    assert "1/6 ━" in second and "2/6 ━" in second and "Unknown" not in second


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
@pytest.mark.parametrize("repeat", range(6))
def test_a_handler_that_raises_leaves_whole_steps(repeat, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", ["numpy", "numba"][repeat % 2])

    def end(number, frame):
        raise Own

    model, before = build(), signal.signal(signal.SIGALRM, end)
    fit(model, X[:50], Y[:50], batch_size=BATCH)
    signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.0037 * repeat)
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
