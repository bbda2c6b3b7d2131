"""Batches that come one by one, from generators, data loaders and a PyDataset: what is read when, and the same bits."""

import threading
import time
import warnings
from itertools import count, islice

import batches
import numpy as np
import pytest
from batches import BATCH, RAN_OUT, Endless, Loader, N, Numbered, W, X, Y, bits, build, fit, forever, parts

from gpumlp import callbacks, layers, metrics, models, utils
from gpumlp.ensemble import Ensemble
from gpumlp.training import loop, streams
from gpumlp.utils import PyDataset, set_random_seed

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
    assert [RAN_OUT in str(w.message) and w.filename == batches.__file__ for w in told] == [True] * warns


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
