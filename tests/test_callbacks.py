"""Callbacks see what Keras's see, and the history has what they leave."""

import numpy as np
import pytest

from gpumlp import callbacks, layers, models, ops, optimizers
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
                return lambda *arguments, **named: seen.append((name, (*arguments, *named.values())))
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
    with pytest.raises(ValueError, match="loss_weights must be 1: a model has one output"):
        model.compile("adam", "mse", ["mae"])
    with pytest.raises(ValueError, match="run_eagerly must be True or False; got 'cpu'"):
        model.compile("adam", "mse", None, None, None, "cpu")


# ---- callbacks written for Keras -------------------------------------------------------------------------------------
def test_hooks_are_called_as_keras_calls_them():
    calls = []

    class Own(callbacks.Callback):
        def __init__(self):
            super().__init__()

        def set_model(self, model):
            calls.append("model")
            super().set_model(model)

        def on_train_begin(self, logs):
            calls.append(("begin", logs, sorted(self.params)))

        def on_batch_end(self, batch, logs):
            calls.append(("alias", batch, sorted(logs)))
            logs["batch_own"] = 1.0

        def on_train_batch_begin(self, batch, *, logs):
            calls.append(("keyword", batch, logs))

        def on_epoch_end(self, epoch, its_logs):
            its_logs["own"] = np.float32(epoch)
            self.model.stop_training = epoch == 1

    model = build()
    history = model.fit(X, Y, batch_size=64, epochs=4, verbose=0, callbacks=([Own()], [[]]))
    batch = [("keyword", 0, {}), ("alias", 0, ["loss"])]
    assert calls == ["model", ("begin", {}, ["epochs", "steps", "verbose"]), *batch, *batch]
    assert history.params == {"epochs": 4, "steps": 1, "verbose": 0} and history.epoch == [0, 1]
    assert history.history["own"] == [0.0, 1.0] and "batch_own" not in history.history
    assert type(history.history["own"][0]) is float and model.history is history
    model.fit(X, Y)
    assert model.history.params["verbose"] == "auto"  # as it was given


def test_an_object_with_all_hooks_is_a_callback_and_nothing_else():
    class Foreign:
        def __init__(self):
            self.seen = []

        def __getattr__(self, name):
            if name.startswith(("on_", "set_")):
                return lambda *arguments, **named: self.seen.append(name)
            raise AttributeError(name)

    foreign = Foreign()
    build().fit(X, Y, batch_size=32, verbose=0, callbacks=[foreign])
    assert foreign.seen[:3] == ["set_model", "set_params", "on_train_begin"]
    assert foreign.seen.count("on_train_batch_end") == 2
    for wrong in (print, [callbacks.History], 3, [[None, "log"]]):
        with pytest.raises(TypeError, match="callbacks must be"):
            build().fit(X, Y, verbose=0, callbacks=wrong)


def test_the_model_can_be_used_in_hooks():
    class Uses(callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate.assign(0.0 if batch else 0.1)

        def on_train_batch_end(self, batch, logs=None):
            self.kept = [*getattr(self, "kept", []), self.model.get_weights()]

        def on_epoch_end(self, epoch, logs=None):
            logs["again"] = self.model.evaluate(X, Y, verbose=0)
            logs["mean"] = float(self.model.predict(X, verbose=0).mean())

    model, uses = build(optimizer="sgd"), Uses()
    before = model.get_weights()
    history = model.fit(X, Y, batch_size=32, verbose=0, callbacks=uses, validation_data=(X, Y)).history
    first, second = uses.kept
    assert not np.array_equal(before[0], first[0]) and np.array_equal(first[0], second[0])
    assert history["again"] == history["val_loss"] and len(history["mean"]) == 1


def test_a_callback_ends_an_evaluation_and_a_prediction():
    class Enough(callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            self.model.stop_evaluating = batch == 1

        def on_predict_batch_end(self, batch, logs=None):
            self.model.stop_predicting = batch == 1

    model = build()
    found = model.evaluate(X, Y, batch_size=20, verbose=0, callbacks=[Enough()])
    assert found == pytest.approx(model.evaluate(X[:40], Y[:40], verbose=0))
    assert model.evaluate(X, Y, verbose=0) != found  # by itself it goes to the end again
    part = model.predict(X, batch_size=20, verbose=0, callbacks=[Enough()])
    assert np.array_equal(part, model.predict(X, batch_size=20, verbose=0)[:40])
    history = model.fit(X, Y, verbose=0, validation_data=(X, Y), validation_batch_size=20, callbacks=[Enough()])
    assert history.history["val_loss"][0] == pytest.approx(model.evaluate(X[:40], Y[:40], verbose=0))


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_test_end",
                                  "on_epoch_end", "on_train_end"])  # fmt: skip
def test_after_an_exception_in_a_hook_training_goes_on(hook):
    def fails(*arguments, **named):
        raise ZeroDivisionError

    model = build(optimizer="adam")
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, verbose=0, validation_data=(X, Y), callbacks=callbacks.LambdaCallback(**{hook: fails}))
    steps = {"on_train_begin": 0, "on_epoch_begin": 0, "on_train_batch_end": 1}.get(hook, 2)
    assert model.optimizer.iterations == steps
    assert model.history.epoch == ([0] if hook in ("on_epoch_end", "on_train_end") else [])
    assert model.fit(X, Y, verbose=0).epoch == [0] and model.optimizer.iterations == steps + 2


@pytest.mark.parametrize(("frequency", "validated"), [(1, [0, 1, 2]), (2, [1]), ([1, 3], [0, 2]), ([], [])])
def test_validation_comes_in_the_epochs_that_were_asked_for(frequency, validated):
    class Look(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if "val_loss" in logs:
                seen.append(epoch)

    seen = []
    model = build()
    model.fit(X, Y, epochs=3, verbose=0, validation_data=(X, Y), validation_freq=frequency, callbacks=[Look()])
    assert seen == validated
    for wrong in (0, "2", [0], 1.5):
        with pytest.raises((TypeError, ValueError), match="validation_freq"):
            model.fit(X, Y, validation_data=(X, Y), validation_freq=wrong)


def test_a_history_that_is_given_is_the_one_that_comes_back():
    own, model = callbacks.History(), build()
    assert model.fit(X, Y, epochs=2, verbose=0, callbacks=[own]) is own is model.history
    model.fit(X, Y, verbose=0, callbacks=[own])
    assert len(own.history["loss"]) == 3 and own.epoch == [0]  # as Keras


def test_a_callback_list_is_for_a_loop_of_one_s_own(capsys):
    class Look(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["own"] = 1.0

        def on_train_end(self, logs=None):
            self.ended = logs

    look, model = Look(), build()
    hooks = callbacks.CallbackList(
        [look], add_history=True, add_progbar=True, model=model, epochs=1, steps=2, verbose=1
    )
    assert [type(c) for c in hooks.callbacks] == [Look, callbacks.ProgbarLogger, callbacks.History]
    hooks.on_train_begin()
    hooks.on_epoch_begin(epoch=0)
    for batch in range(2):
        hooks.on_train_batch_begin(batch=batch, logs={})
        loss = model.train_on_batch(X, Y)
        hooks.on_train_batch_end(batch, {"loss": loss})
    hooks.on_epoch_end(0, logs={"loss": loss})
    hooks.on_train_end({"loss": loss})
    assert model.history.history == {"loss": [loss], "own": [1.0]} and look.ended == {"loss": loss}
    assert capsys.readouterr().out.startswith("2/2 ")  # of one epoch alone no number is shown
    more = callbacks.Callback()
    hooks.append(more)
    assert more.model is model and more.params["steps"] == 2
    assert callbacks.CallbackList(hooks).callbacks == hooks.callbacks
    with pytest.raises(AttributeError):
        hooks.on_nothing(0)


def test_which_number_is_better_can_be_asked():
    """By classes of a user's own that say themselves when to stop."""
    x = np.linspace(-1, 1, 20).reshape(-1, 2)
    model = models.Sequential([layers.Dense(1, "sigmoid")])
    model.compile("sgd", "mse", metrics=["accuracy"])
    asked = {}

    class Asks(callbacks.EarlyStopping):
        def on_epoch_end(self, epoch, logs=None):
            asked[self.monitor] = self.monitor_op
            super().on_epoch_end(epoch, logs)

    model.fit(x, x[:, :1] > 0, verbose=0, callbacks=[Asks("loss"), Asks("accuracy")])
    assert asked == {"loss": ops.less, "accuracy": ops.greater}
    assert callbacks.EarlyStopping("what", mode="max").monitor_op(2.0, 1.0)


@pytest.mark.parametrize("kind", [callbacks.EarlyStopping, callbacks.ReduceLROnPlateau])
def test_an_unknown_mode_is_auto(kind):
    with pytest.warns(UserWarning, match="mode 'lowest' is unknown"):
        assert kind(mode="lowest").mode == "auto"


def test_no_epochs_are_no_training():
    """Neither with epochs=0, nor where the first one is the last."""
    model = models.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    for how in ({"epochs": 0}, {"epochs": 3, "initial_epoch": 3}):
        history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, **how)
        assert history.history == {} and history.epoch == [] and model.optimizer.iterations == 0


def test_a_history_may_have_hooks_of_its_own():
    history, seen = callbacks.History(), []
    history.on_epoch_begin = lambda epoch, logs=None: seen.append(epoch)

    class Own(callbacks.History):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            seen.append("begin")

    for one in (history, Own()):
        hooks = callbacks.CallbackList(one)
        hooks.on_train_begin()
        hooks.on_epoch_begin(3)
    assert seen == [3, "begin"]


def test_kernels_are_there_when_a_prediction_begins():
    seen = []
    model = build()
    model.predict(
        X, verbose=0, callbacks=callbacks.LambdaCallback(on_predict_begin=lambda logs: seen.append(model.program))
    )
    assert seen == [model.program] and seen != ["nothing has run yet"]


@pytest.mark.parametrize(
    "make", [callbacks.EarlyStopping, lambda name: callbacks.ModelCheckpoint("m.gpumlp", name, save_best_only=True),
             callbacks.ReduceLROnPlateau],
)  # fmt: skip
def test_a_mistyped_name_to_watch_is_told_with_the_nearest(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = models.Sequential([layers.Dense(1, input_shape=(1,))])
    model.compile(loss="mse")
    x = np.linspace(0, 1, 20)

    with pytest.raises(ValueError, match=r"watches 'val_los', .*Did you mean 'val_loss'\?"):
        model.fit(x, x, validation_split=0.5, verbose=0, callbacks=[make("val_los")])
    watching = make("val_los")
    watching.mode = "min"
    with pytest.warns(UserWarning, match=r"not in the logs: loss, val_loss.* Did you mean 'val_loss'\?"):
        model.fit(x, x, validation_split=0.5, verbose=0, callbacks=[watching])
