"""fit, evaluate and predict from outside: Keras's batch rules, callbacks, validation, weights."""

import warnings

import numpy as np
import pytest

from gpumlp import callbacks, layers, models, optimizers
from gpumlp.engine import dispatch
from gpumlp.training.data import Batches
from gpumlp.utils import set_random_seed, to_categorical

X = np.linspace(-1, 1, 50).reshape(25, 2)
Y = X[:, :1] * X[:, 1:]


def build(**compile_arguments):
    set_random_seed(0)
    model = models.Sequential([layers.Dense(8, "tanh", input_shape=(2,)), layers.Dense(1)])
    model.compile(**{"loss": "mse", "optimizer": "adam", **compile_arguments})
    return model


class Recorder(callbacks.Callback):
    def __init__(self):
        self.calls = []

    def __getattribute__(self, name):
        if name.startswith("on_") and name not in ("on_batch_begin", "on_batch_end"):
            return lambda *at, **logs: self.calls.append((name, *at[:1]))
        return super().__getattribute__(name)

    wants_batches = True


@pytest.mark.parametrize(
    ("n", "batch_size", "steps", "sizes"),
    [
        (200, None, 10, [20] * 10),
        (70, None, None, [32, 32, 6]),
        (10, 4, None, [4, 4, 2]),
        (10, 32, None, [10]),
        (1, None, None, [1]),
        (9, None, 2, [5, 4]),
    ],
)
def test_batch_sizes_of_an_epoch(n, batch_size, steps, sizes):
    batches = Batches(n, batch_size, steps, shuffle=False)
    order, first, last = batches.epoch()
    got = [min((k + 1) * batches.batch_size, n) - k * batches.batch_size for k in range(first, last)]
    assert (order, got) == (None, sizes)


def test_steps_with_a_batch_size_go_on_in_the_next_epoch_and_warn_when_data_runs_out():
    batches = Batches(10, 2, 2, shuffle=False)
    assert [batches.epoch()[1:] for _ in range(2)] == [(0, 2), (2, 4)]
    with pytest.warns(UserWarning, match="ran out after 1 of 2 steps"):
        assert batches.epoch()[1:] == (4, 5)
    assert batches.epoch()[1:] == (0, 2)


def test_shuffle_visits_every_sample_once_an_epoch_in_a_new_order():
    set_random_seed(1)
    batches = Batches(100, 32, None, shuffle=True)
    first, second = batches.epoch()[0], batches.epoch()[0]
    assert sorted(first) == sorted(second) == list(range(100))
    assert list(first) != list(second)


def test_the_loss_of_an_epoch_is_weighted_by_samples():
    model = build(optimizer=optimizers.SGD(0.0))
    history = model.fit(X, Y, batch_size=24, shuffle=False, verbose=0)  # batches of 24 and 1
    assert history.history["loss"][0] == pytest.approx(np.mean((model.predict(X, verbose=0) - Y) ** 2), rel=1e-5)


def test_validation_split_takes_the_last_rows_before_shuffling():
    model = build(optimizer=optimizers.SGD(0.0), metrics=["mae"])
    history = model.fit(X, Y, validation_split=0.2, verbose=0)
    loss, mae = model.evaluate(X[20:], Y[20:], verbose=0)
    assert history.history["val_loss"][0] == pytest.approx(loss, rel=1e-6)
    assert history.history["val_mae"][0] == pytest.approx(mae, rel=1e-6)
    assert sorted(history.history) == ["loss", "mae", "val_loss", "val_mae"]


def test_validation_freq_and_initial_epoch():
    model = build()
    history = model.fit(X, Y, epochs=6, initial_epoch=2, validation_data=(X, Y), validation_freq=2, verbose=0)
    assert history.epoch == [2, 3, 4, 5]
    assert len(history.history["loss"]) == 4 and len(history.history["val_loss"]) == 2


def test_hooks_come_in_keras_order():
    recorder = Recorder()
    build().fit(X, Y, batch_size=20, validation_data=(X, Y), validation_batch_size=25, verbose=0, callbacks=recorder)
    assert recorder.calls == [
        ("on_train_begin", {}),
        ("on_epoch_begin", 0),
        ("on_train_batch_begin", 0),
        ("on_train_batch_end", 0),
        ("on_train_batch_begin", 1),
        ("on_train_batch_end", 1),
        ("on_test_begin", {}),
        ("on_test_batch_begin", 0),
        ("on_test_batch_end", 0),
        ("on_test_end", {"loss": recorder.calls[9][1]["loss"]}),
        ("on_epoch_end", 0),
        ("on_train_end", recorder.calls[11][1]),
    ]
    assert sorted(recorder.calls[11][1]) == ["loss", "val_loss"]


def test_a_callback_stops_training_in_the_middle_of_an_epoch():
    seen = []

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)
            self.model.stop_training = batch == 2

    history = build().fit(X, Y, batch_size=2, epochs=5, verbose=0, callbacks=[Stop()])
    assert seen == [0, 1, 2] and history.epoch == [0]


def test_a_callback_can_change_the_learning_rate():
    rates = []
    model = build()
    change = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(model.optimizer, "learning_rate", 0.1 * (epoch + 1)),
        on_epoch_end=lambda epoch, logs: rates.append(model.optimizer.learning_rate),
    )
    model.fit(X, Y, epochs=2, verbose=0, callbacks=change)
    assert rates == pytest.approx([0.1, 0.2])


def test_lambda_callback_warns_of_a_name_close_to_a_hook_and_keeps_others():
    with pytest.warns(UserWarning, match="on_epoch_ende.*Did you mean 'on_epoch_end'"):
        callbacks.LambdaCallback(on_epoch_ende=print)
    assert callbacks.LambdaCallback(custom=print).custom is print


def test_early_stopping_stops_and_restores_the_best_weights():
    model = build(optimizer=optimizers.SGD(5.0))  # diverges
    stop = callbacks.EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
    kept = {}
    keep = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.setdefault(epoch, model.get_weights()))
    with np.errstate(all="ignore"):
        history = model.fit(X, Y, epochs=50, verbose=0, callbacks=[keep, stop])
    best = int(np.argmin(history.history["loss"]))
    assert len(history.epoch) == best + 3 < 50
    assert all((a == b).all() for a, b in zip(kept[best], model.get_weights(), strict=True))


def test_early_stopping_on_a_missing_name_warns():
    with pytest.warns(UserWarning, match="val_loss"):
        build().fit(X, Y, verbose=0, callbacks=callbacks.EarlyStopping())


def test_early_stopping_patience_counts_epochs_without_improvement():
    stop = callbacks.EarlyStopping("val_accuracy", min_delta=0.01, patience=2, mode="max")
    stop.set_model(build())
    stop.on_train_begin()
    for epoch, accuracy in enumerate([0.5, 0.6, 0.605, 0.609]):
        assert not stop.model.stop_training
        stop.on_epoch_end(epoch, {"val_accuracy": accuracy})
    assert stop.model.stop_training and stop.best == 0.6 and stop.stopped_epoch == 3


def test_sample_weights_of_zero_take_samples_out_of_the_gradient():
    keep = np.arange(25) < 10
    weighted, alone = build(optimizer="sgd"), build(optimizer=optimizers.SGD(0.01 * 10 / 25))  # Keras divides by B
    weighted.fit(X, Y, batch_size=25, sample_weight=keep.astype(float), shuffle=False, verbose=0)
    alone.fit(X[keep], Y[keep], batch_size=10, shuffle=False, verbose=0)
    for a, b in zip(weighted.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_class_weights_are_sample_weights_by_class():
    labels = np.arange(25) % 3
    results = []
    for arguments in ({"class_weight": {1: 5.0}}, {"sample_weight": np.where(labels == 1, 5.0, 1.0)}):
        set_random_seed(0)
        model = models.Sequential([layers.Dense(3, "softmax", input_shape=(2,))])
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["acc"])
        results.append(model.fit(X, labels, epochs=2, verbose=0, **arguments).history)
    assert results[0] == results[1]
    assert results[0]["accuracy"] != results[0]["acc"]


def test_a_one_dimensional_y_is_never_broadcast():
    x = np.linspace(-1, 1, 40)
    losses = []
    for y in (np.sin(x), np.sin(x)[:, None]):
        set_random_seed(3)
        model = models.Sequential([layers.Dense(4, "relu", input_shape=(1,)), layers.Dense(1)])
        model.compile(loss="mse", optimizer="adam")
        model.fit(x, y, epochs=3, shuffle=False, verbose=0)
        assert model.predict(x, verbose=0).shape == (40, 1)
        losses.append(model.evaluate(x, y, verbose=0))
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(np.mean((model.predict(x, verbose=0)[:, 0] - np.sin(x)) ** 2), rel=1e-5)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda a: a[::-1][::-1], lambda a: a.tolist(), np.float16])
def test_inputs_of_any_layout_and_type_give_the_same_bits(make):
    x = (np.arange(50) % 7).reshape(25, 2) / 8.0  # exact in float16
    a, b = (build().fit(data, Y, epochs=2, verbose=0).history["loss"] for data in (x, make(x)))
    assert a == b


@pytest.mark.parametrize("n", [1, 3, 17, 20, 31, 33, 255, 256, 257])
def test_predict_in_any_batching_is_near_the_whole(n):
    model = build()
    x = np.random.default_rng(n).standard_normal((n, 2))
    whole = model.predict(x, batch_size=n, verbose=0)
    assert whole.shape == (n, 1) and whole.dtype == np.float32
    for batch in (1, 7, 32, 1000):
        np.testing.assert_allclose(model.predict(x, batch_size=batch, verbose=0), whole, rtol=1e-5, atol=1e-6)


def test_evaluate_answers_in_three_forms():
    model = build(metrics=["mae"])
    loss, mae = model.evaluate(X, Y, verbose=0)
    assert model.evaluate(X, Y, verbose=0, return_dict=True) == {"loss": loss, "mae": mae}
    assert isinstance(build().evaluate(X, Y, verbose=0), float)
    assert model.test_on_batch(X, Y) == pytest.approx([loss, mae], rel=1e-6)


def test_train_on_batch_is_a_step_of_fit():
    one, other = build(), build()
    before = one.evaluate(X, Y, verbose=0)
    assert one.train_on_batch(X, Y) == pytest.approx(before, rel=1e-6)
    other.fit(X, Y, batch_size=25, shuffle=False, verbose=0)
    assert one.optimizer.iterations == other.optimizer.iterations == 1
    assert all((a == b).all() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert (one.predict_on_batch(X) == one(X)).all()


def test_a_second_fit_goes_on_where_the_first_ended():
    once, twice = build(), build()
    once.fit(X, Y, epochs=4, shuffle=False, verbose=0)
    for _ in range(2):
        twice.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    assert all((a == b).all() for a, b in zip(once.get_weights(), twice.get_weights(), strict=True))


def test_frozen_layers_stay():
    model = build()
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    assert [bool((a == b).all()) for a, b in zip(before, model.get_weights(), strict=True)] == [
        True,
        True,
        False,
        False,
    ]


def test_float64_models_train_in_float64():
    model = models.Sequential([layers.Dense(2, input_shape=(2,)), layers.Dense(1)], dtype="float64")
    model.compile(loss="mse")
    model.fit(X, Y, verbose=0)
    assert {w.dtype for w in model.get_weights()} == {np.dtype("f8")} == {model.predict(X, verbose=0).dtype}


def test_a_float32_run_stays_near_the_float64_run():
    """Whole runs agree: 200 steps of the article's network from the same weights in the same order."""
    x = np.arange(0, 20, 0.1)
    set_random_seed(0)
    single, double = (
        models.Sequential(
            [layers.Input((1,)), *(layers.Dense(256, "relu") for _ in range(7)), layers.Dense(1)], dtype=d
        )
        for d in ("float32", "float64")
    )
    double.set_weights(single.get_weights())
    histories = []
    for model in (single, double):
        model.compile(loss="mse", optimizer=optimizers.SGD(1e-3))
        histories.append(model.fit(x, np.sin(x), steps_per_epoch=10, epochs=20, shuffle=False, verbose=0).history)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-4)


def test_set_weights_takes_what_get_weights_gave():
    one, other = build(), build()
    one.fit(X, Y, verbose=0)
    other.set_weights(one.get_weights())
    assert (one.predict(X, verbose=0) == other.predict(X, verbose=0)).all()
    with pytest.raises(ValueError, match="shapes"):
        other.set_weights([w.T for w in one.get_weights()])
    with pytest.raises(TypeError, match="numbers"):
        other.set_weights([w.astype(str) for w in one.get_weights()])
    assert (one.predict(X, verbose=0) == other.predict(X, verbose=0)).all()


def test_add_and_pop_keep_the_weights_below():
    for stack in ([layers.Dense(8, input_shape=(2,))], [layers.Dense(8)]):  # declared, and built by fit
        model = models.Sequential([*stack, layers.Dense(1)])
        model.compile(loss="mse")
        model.fit(X, Y, verbose=0)
        kept = model.get_weights()[:2]
        model.pop()
        model.add(layers.Dense(1, name="another"))
        assert all((a == b).all() for a, b in zip(kept, model.get_weights()[:2], strict=True))
        model.fit(X, Y, verbose=0)


def test_a_layer_that_does_not_fit_is_refused_and_the_model_stays():
    model = models.Sequential([layers.Input((2, 2))])
    with pytest.raises(ValueError, match="Flatten"):
        model.add(layers.RepeatVector(3))
    assert model.layers == []
    model.add(layers.Flatten())
    model.add(layers.Dense(1))
    assert model.predict(np.zeros((3, 2, 2)), verbose=0).shape == (3, 1)
    with pytest.raises(ValueError, match="built for"):
        model.build((None, 7))


def test_the_article_has_395521_parameters():
    from gpumlp.cli import article_model

    model = article_model()
    text = []
    model.summary(print_fn=text.append)
    assert model.count_params() == 395_521
    assert "395,521 (1.51 MB)" in text[0]


def test_to_categorical():
    assert to_categorical([0, 2, 1]).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="labels"):
        to_categorical([3], 3)


def test_dropout_in_training_only_and_different_every_step():
    model = models.Sequential([layers.Dropout(0.5, input_shape=(1000,))])
    ones = np.ones((1, 1000), np.float32)
    assert (model.predict(ones, verbose=0) == 1).all()
    program = model._runner.program_for(1, dispatch.Choice())
    first, second = (program._forward(ones, step).copy() for step in (1, 2))
    assert set(np.unique(first)) == {0.0, 2.0} and 400 < (first > 0).sum() < 600
    assert (first != second).any() and (program._forward(ones, 1) == first).all()


def test_no_warning_in_an_ordinary_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build().fit(X, Y, steps_per_epoch=5, epochs=3, verbose=0)


def test_warnings_point_to_who_called():
    model = build()
    with pytest.warns(UserWarning, match="NaN") as caught:
        model.fit(X * np.nan, Y, verbose=0)
        model.predict(X * np.nan, verbose=0)
        model.evaluate(X * np.nan, Y, verbose=0)
    with pytest.warns(UserWarning, match="ran out") as short:
        model.fit(X, Y, steps_per_epoch=20, verbose=0)
    assert {w.filename for w in (*caught, *short)} == {__file__}


def test_the_keys_of_an_epoch_are_sorted_all_together():
    class Look(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.seen = list(logs)

    look = Look()
    model = build(metrics=["mae"], weighted_metrics=["mae"])
    found = model.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[look]).history
    assert list(found) == look.seen
    assert look.seen == ["loss", "mae", "val_loss", "val_mae", "val_weighted_mae", "weighted_mae"]
