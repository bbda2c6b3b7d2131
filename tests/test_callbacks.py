"""Callbacks see what Keras's see, and the history has what they leave."""

import numpy as np
import pytest

from gpumlp import callbacks, layers, models, optimizers
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype("f4")
Y = np.sin(X[:, :1])


def build(**how):
    set_random_seed(0)
    model = models.Sequential([layers.Dense(5, "tanh", input_shape=(3,)), layers.Dense(1)])
    model.compile(**{"optimizer": "adam", "loss": "mse", **how})
    return model


def test_what_a_callback_puts_into_the_logs_is_in_the_history():
    class Score(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_f1"] = 0.5 + epoch

    history = build().fit(X, Y, epochs=2, verbose=0, callbacks=[Score()])
    assert history.history["val_f1"] == [0.5, 1.5]


def test_the_history_s_keys_are_in_the_order_of_the_alphabet():
    model = build(metrics=["mse", "mae"])
    history = model.fit(X, Y, validation_data=(X, Y), verbose=0)
    assert list(history.history) == ["loss", "mae", "mse", "val_loss", "val_mae", "val_mse"]
    assert list(model.evaluate(X, Y, verbose=0, return_dict=True)) == ["loss", "mae", "mse"]
    loss, mse, mae = model.evaluate(X, Y, verbose=0)  # in the order that was asked for
    assert loss == mse != mae


def test_a_metric_plain_and_weighted_has_two_names_and_two_values():
    set_random_seed(0)
    model = models.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(1,))])
    model.compile("sgd", "mse", metrics=["mse", "mae"], weighted_metrics=["mse"])
    x, y, w = np.array([0.0, 0.0]), np.array([0.2, 0.35]), np.array([1.0, 3.0])
    found = model.evaluate(x, y, sample_weight=w, verbose=0, return_dict=True)
    assert found["mse"] == pytest.approx((0.04 + 0.1225) / 2)
    assert found["weighted_mse"] == pytest.approx((0.04 + 3 * 0.1225) / 4)
    assert found["mae"] == pytest.approx(0.275)
    history = model.fit(x, y, sample_weight=w, verbose=0).history
    assert sorted(history) == ["loss", "mae", "mse", "weighted_mse"]


def test_begin_hooks_have_empty_logs_and_predictions_come_with_their_batch():
    seen = []

    class Recorder(callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda *arguments: seen.append((name, arguments))
            return super().__getattribute__(name)

        wants_batches = True

    model = build()
    model.fit(X, Y, batch_size=40, verbose=0, callbacks=Recorder())
    model.evaluate(X, Y, verbose=0, callbacks=Recorder())
    assert all(arguments[-1] == {} for name, arguments in seen if name.endswith("begin"))
    del seen[:]
    expected = model.predict(X, batch_size=40, verbose=0)
    found = model.predict(X, batch_size=40, verbose=0, callbacks=Recorder())
    ends = [arguments for name, arguments in seen if name == "on_predict_batch_end"]
    assert [number for number, _ in ends] == [0, 1]
    assert np.array_equal(np.concatenate([logs["outputs"] for _, logs in ends]), expected)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["instance", "lambda", "subclass of lambda", "set while it trains"])
def test_batch_hooks_are_called_for_every_batch_however_they_are_set(kind):
    calls = []

    def count(batch, logs=None):
        calls.append(batch)

    if kind == "instance":
        callback = callbacks.Callback()
        callback.on_train_batch_end = count
    elif kind == "lambda":
        callback = callbacks.LambdaCallback(on_train_batch_end=count)
    elif kind == "subclass of lambda":

        class Own(callbacks.LambdaCallback):
            def on_train_batch_end(self, batch, logs=None):
                count(batch)

        callback = Own(on_epoch_end=lambda epoch, logs: None)
    else:

        class Later(callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.on_train_batch_end = count

        callback = Later()
    build().fit(X, Y, batch_size=2, verbose=0, callbacks=[callback])
    assert calls == list(range(32))


@pytest.mark.parametrize("first", [np.nan, np.inf])
def test_early_stopping_takes_nothing_for_better_than_nan(first):
    stop = callbacks.EarlyStopping(monitor="loss", patience=9, restore_best_weights=True)
    model = build()
    stop.set_model(model)
    stop.on_train_begin()
    kept = {}
    for epoch, value in enumerate([first, 0.5, 0.3, 0.4]):
        model.set_weights([w + 1 for w in model.get_weights()])
        kept[epoch] = model.get_weights()
        stop.on_epoch_end(epoch, {"loss": value})
    stop.on_train_end()
    assert stop.best == 0.3 and stop.best_epoch == 2
    assert all(np.array_equal(a, b) for a, b in zip(kept[2], model.get_weights(), strict=True))


def test_validation_steps_are_the_first_batches_every_time():
    x = np.arange(101.0)
    model = models.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(1,))])
    model.compile(optimizers.SGD(0.0), "mae")
    fit = {"epochs": 3, "validation_data": (x, 0 * x), "validation_batch_size": 10, "validation_steps": 2}
    history = model.fit(x, x, verbose=0, **fit).history
    assert history["val_loss"] == pytest.approx([x[:20].mean()] * 3)


def test_an_unbuilt_model_is_built_by_what_has_data():
    for call in ("predict", "evaluate", "__call__"):
        model = models.Sequential([layers.Dense(2), layers.Dense(1)])
        model.compile("sgd", "mse")
        assert model.get_weights() == [] and not model.built
        if call == "evaluate":
            assert np.isfinite(model.evaluate(X, Y, verbose=0))
        else:
            assert getattr(model, call)(X).shape == (64, 1)
        assert model.built and len(model.get_weights()) == 4
    model = models.Sequential([layers.Dense(2)])
    model.build((3, 2))  # the leading size is the batch
    assert model.get_weights()[0].shape == (2, 2)
    with pytest.raises(ValueError, match="batch first"):
        models.Sequential([layers.Dense(2)]).build((4,))
    with pytest.raises(ValueError, match="already been configured"):
        model.build((3, 4))
    with pytest.raises(ValueError, match="no layers"):
        models.Sequential()(X)


def test_positional_arguments_of_compile_are_keras_s():
    model = models.Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile("adam", "mse", None, ["mae"], ["mse"])
    assert sorted(model.evaluate(X, Y, verbose=0, return_dict=True)) == ["loss", "mae", "mse"]
    with pytest.raises(ValueError, match="loss_weights are for models of several outputs"):
        model.compile("adam", "mse", ["mae"])
    with pytest.raises(ValueError, match="run_eagerly must be True or False; got 'cpu'"):
        model.compile("adam", "mse", None, None, None, "cpu")
