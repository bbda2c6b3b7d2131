"""What callbacks watch, what they set, and what they remember."""

import pickle

import numpy as np
import pytest

from gpumlp import callbacks, layers, metrics, models, optimizers
from gpumlp.optimizers import schedules
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("f4")
Y = np.sin(X[:, :1])


def build(**how):
    set_random_seed(0)
    model = models.Sequential([layers.Dense(5, "tanh", input_shape=(3,)), layers.Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **how})
    return model


def fed(callback, values, name="loss", model=None):
    """Have a callback see ``values``, an epoch each; return the rates after each."""
    model = model or build()
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {name: value})
        rates.append(float(model.optimizer.learning_rate))
    return rates


# ---- which is better -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("monitor", "better"),
    [("val_loss", -1), ("loss", -1), ("val_mse", -1), ("accuracy", 1), ("val_acc", 1), ("hinge", -1), ("f1", 1)],
)
def test_auto_is_what_the_metric_says(monitor, better):
    score = metrics.F1Score(name="f1")
    model = build(metrics=["mse", "acc", "accuracy", "hinge", score])
    watch = callbacks.MonitorCallback(monitor)
    model.fit(X, (Y > 0) * 1.0, validation_split=0.5, verbose=0)
    watch.set_model(model)
    assert type(model.history.history["f1"][0]) is float
    assert watch.is_better(0.5 + better / 4, 0.5) and not watch.is_better(0.5 - better / 4, 0.5)
    assert not watch.is_better(np.nan, None) and watch.is_better(0.0, None)


@pytest.mark.parametrize("kind", [callbacks.EarlyStopping, callbacks.ReduceLROnPlateau])
def test_auto_is_refused_where_nobody_knows(kind):
    model = build(metrics=[lambda t, p: abs(t - p)])
    for monitor in ("score", "<lambda>"):
        with pytest.raises(ValueError, match="mode='max'"):
            model.fit(X, Y, verbose=0, callbacks=kind(monitor))
    with pytest.raises(TypeError, match="a name in the logs"):
        kind(monitor=3)


def test_a_delta_counts_and_a_number_that_is_not_there_warns():
    watch = callbacks.MonitorCallback("loss", min_delta=-0.5)
    assert watch.is_better(0.4, 1.0) and not watch.is_better(0.5, 1.0)
    with pytest.warns(UserWarning, match="ReduceLROnPlateau watches 'val_loss'"):
        build().fit(X, Y, verbose=0, callbacks=callbacks.ReduceLROnPlateau())


# ---- rates -----------------------------------------------------------------------------------------------------------
def test_the_rate_falls_on_a_plateau_as_in_keras():
    reduce = callbacks.ReduceLROnPlateau("loss", 0.5, patience=2, cooldown=2, min_lr=0.002)
    values = [1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    # Keras 3.15, its rates rounded to float32
    expected = [0.01] * 3 + [0.005] * 3 + [0.0025] * 3 + [0.0025] * 2 + [0.002] * 4
    assert fed(reduce, values) == pytest.approx(expected)


def test_the_rate_is_in_the_history_and_in_words(capsys):
    model = build()
    reduce = callbacks.ReduceLROnPlateau("loss", 0.1, patience=1, min_delta=100, verbose=1)
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[reduce])
    assert history.history["learning_rate"] == [0.01, 0.01] and model.optimizer.learning_rate == pytest.approx(0.001)
    assert "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.001" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"factor must be a finite number >= 0 and < 1; got 1"):
        callbacks.ReduceLROnPlateau(factor=1.0)
    with pytest.warns(UserWarning, match="does not read epsilon"):
        callbacks.ReduceLROnPlateau(epsilon=1.0)


@pytest.mark.parametrize("schedule", [lambda epoch, rate: rate / 2, lambda epoch: np.array(0.01 / 2 ** (epoch + 1))])
def test_a_scheduler_sets_each_epoch_s_rate(schedule, capsys):
    seen = []

    class Rates(callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            seen.append(float(self.model.optimizer.learning_rate))

    scheduler = callbacks.LearningRateScheduler(schedule, verbose=1)
    history = build().fit(X, Y, batch_size=24, epochs=2, verbose=0, callbacks=[scheduler, Rates()])
    assert history.history["learning_rate"] == seen == [0.005, 0.0025]
    assert "Epoch 1: LearningRateScheduler setting learning rate to 0.005." in capsys.readouterr().out


def test_a_scheduler_refuses_what_is_no_rate():
    with pytest.raises(TypeError, match="must be a function"):
        callbacks.LearningRateScheduler(0.1)
    for wrong in (1, "0.1", None):
        with pytest.raises(ValueError, match="must return a float"):
            build().fit(X, Y, verbose=0, callbacks=callbacks.LearningRateScheduler(lambda epoch, rate: wrong))  # noqa: B023

    def fails(epoch, rate):
        raise TypeError("its own")

    with pytest.raises(TypeError, match="its own"):
        build().fit(X, Y, verbose=0, callbacks=callbacks.LearningRateScheduler(fails))


def test_no_callback_sets_the_rate_that_a_schedule_gives():
    model = build(optimizer=optimizers.SGD(schedules.PolynomialDecay(0.1, 10)))
    reduce = callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=9)
    for callback in (callbacks.LearningRateScheduler(lambda epoch, rate: rate), reduce):
        with pytest.raises(TypeError, match="created with a `LearningRateSchedule`"):
            model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        model.optimizer.learning_rate.assign(0.1)
    model.optimizer.learning_rate = schedules.PolynomialDecay(0.2, 10)
    assert model.optimizer.learning_rate < 0.2


def test_a_learning_rate_is_a_number_and_a_variable():
    adam = optimizers.Adam(0.25, name="adam")
    rate = adam.learning_rate
    assert isinstance(rate, float) and rate == 0.25 and f"{rate:.1f}" == "0.2" and rate * 2 == 0.5
    assert rate.numpy() == rate.value == np.asarray(rate) == float(rate) == 0.25
    assert rate.numpy().dtype == rate.dtype == "float32"
    assert (rate.name, rate.path, rate.shape, rate.ndim) == ("learning_rate", "adam/learning_rate", (), 0)
    assert type(pickle.loads(pickle.dumps(rate))) is float
    assert rate.assign(np.float32(0.5)) == adam.learning_rate == 0.5 and rate == 0.25
    adam.learning_rate *= 2
    assert adam.learning_rate == 1.0 and adam.get_config()["learning_rate"] == 1.0
    with pytest.raises(ValueError, match="learning_rate must be"):
        rate.assign(-1)


def test_iterations_are_a_number_and_a_variable():
    adam = optimizers.Adam(name="adam")
    assert adam.iterations.assign(3) == adam.iterations == 3 and adam.iterations + 1 == 4
    assert adam.iterations.numpy() == 3 and adam.iterations.numpy().dtype == adam.iterations.dtype == "int32"
    assert adam.iterations.path == "adam/iteration" and [0, 1, 2, 3][adam.iterations] == 3
    assert type(pickle.loads(pickle.dumps(adam.iterations))) is int
    model = build()
    model.fit(X, Y, verbose=0)
    with pytest.raises(RuntimeError, match="counted along with"):
        model.optimizer.iterations.assign(0)


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning", "ignore::gpumlp.errors.TargetScaleWarning")
# ---- NaN -------------------------------------------------------------------------------------------------------------
def test_the_first_batch_with_nan_ends_training(capsys):
    y = Y.copy()
    y[5] = 1e30  # whose square is too large for float32
    stop = callbacks.TerminateOnNaN()
    model = build()
    history = model.fit(X, y, batch_size=4, epochs=5, shuffle=False, verbose=0, callbacks=[stop])
    assert len(history.epoch) == 1 and model.optimizer.iterations == 2
    assert "Batch 1: Invalid loss, terminating training" in capsys.readouterr().out
    ends = []
    last = callbacks.LambdaCallback(on_train_end=lambda logs: ends.append(logs))
    with pytest.raises(RuntimeError, match="NaN or Inf loss at batch 1"):
        stop = callbacks.TerminateOnNaN(raise_error=True)
        build().fit(X, y, batch_size=4, shuffle=False, verbose=0, callbacks=[stop, last])
    assert not ends


# ---- averages --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("on_epoch", [False, True])
@pytest.mark.parametrize("stop_at", [None, 1])
def test_averages_are_evaluated_and_the_weights_train(on_epoch, stop_at):
    class Keep(callbacks.Callback):
        def __init__(self):
            self.at_end, self.at_begin = [], []

        def on_train_batch_begin(self, batch, logs=None):
            self.at_begin.append(self.model.get_weights())

        def on_epoch_end(self, epoch, logs=None):
            self.at_end.append(self.model.get_weights())
            if epoch == stop_at:
                self.model.stop_training = True

    def run(*others):
        model = build(optimizer=optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7))
        keep = Keep()
        how = {"epochs": 3, "batch_size": 24, "verbose": 0, "validation_data": (X, Y)}
        history = model.fit(X, Y, callbacks=[*others, keep], **how)
        return model, keep, history.history["val_loss"]

    plain, seen, plain_losses = run()
    model, keep, losses = run(callbacks.SwapEMAWeights(swap_on_epoch=on_epoch))
    keep.at_begin.append(model.get_weights())
    seen.at_begin.append(plain.get_weights())
    for mine, other in zip(keep.at_begin, seen.at_begin, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))
    assert losses[-1] == pytest.approx(model.evaluate(X, Y, verbose=0)) and losses[1] != plain_losses[1]
    ends_by_averages = all(np.array_equal(a, b) for a, b in zip(keep.at_end[-1], model.get_weights(), strict=True))
    assert ends_by_averages == on_epoch


def test_averages_leave_the_weights_after_an_exception_and_need_an_optimizer_with_any():
    with pytest.raises(ValueError, match="SwapEMAWeights must be used when `use_ema=True` is set"):
        build().fit(X, Y, verbose=0, callbacks=callbacks.SwapEMAWeights())
    model = build(optimizer=optimizers.SGD(0.1, use_ema=True))
    model.fit(X, Y, verbose=0)
    model.set_weights([w + 1 for w in model.get_weights()])
    before, swap = model.get_weights(), callbacks.SwapEMAWeights()

    def fails(batch, logs):
        raise KeyError("own")

    with pytest.raises(KeyError):
        model.predict(X, verbose=0, callbacks=[swap, callbacks.LambdaCallback(on_predict_batch_end=fails)])
    assert not np.array_equal(model.get_weights()[0], before[0])
    model.predict(X, verbose=0, callbacks=swap)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


# ---- what is remembered ----------------------------------------------------------------------------------------------
VALUES = [1.0, 0.5, 0.6, 0.55, 0.7, 0.4, 0.6, 0.6, 0.6, 0.6]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_callback_goes_on_from_its_state(cut):
    def make():
        model = build()
        both = [
            callbacks.EarlyStopping("loss", patience=4, restore_best_weights=True),
            callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, cooldown=1),
        ]
        for callback in both:
            callback.set_model(model)
            callback.on_train_begin()
        return model, both

    def feed(model, both, epochs):
        for epoch in epochs:
            model.set_weights([np.full_like(w, epoch) for w in model.get_weights()])
            for callback in both:
                callback.on_epoch_end(epoch, {"loss": VALUES[epoch]})

    model, both = make()
    feed(model, both, range(10))
    first, half = make()
    feed(first, half, range(cut))
    states = pickle.loads(pickle.dumps([callback.get_state() for callback in half]))
    second, rest = make()
    second.set_weights(first.get_weights())
    second.optimizer.learning_rate = first.optimizer.learning_rate
    for callback, state in zip(rest, states, strict=True):
        callback.set_state(state)
    feed(second, rest, range(cut, 10))
    assert second.optimizer.learning_rate == model.optimizer.learning_rate < 0.01
    for mine, other in zip(rest, both, strict=True):
        found, expected = mine.get_state(), other.get_state()
        weights, others = found.pop("best_weights", []), expected.pop("best_weights", [])
        assert found == expected
        assert all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))
    assert both[0].stopped_epoch == 9 and both[0].best_epoch == 5


def test_a_callback_has_nothing_to_keep_unless_it_says_so():
    assert callbacks.Callback().get_state() == {}
    callbacks.Callback().set_state({})


@pytest.mark.parametrize("kind", [callbacks.EarlyStopping, callbacks.ReduceLROnPlateau])
def test_a_class_of_one_s_own_extends_the_hooks(kind):
    class Own(kind):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            self.began = self.model.name

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            self.seen = self.get_monitor_value(logs)

    own, model = Own("loss"), build()
    model.fit(X, Y, verbose=0, callbacks=own)
    assert own.began == model.name and own.seen == own.best == model.history.history["loss"][0]
