"""Layers that do not train: what of them is added to the loss, and when their flags are read."""

import numpy as np
import pytest

from gpumlp import callbacks, layers, models
from gpumlp.ensemble import Ensemble
from gpumlp.utils import set_random_seed

X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)
Y = X[:, :1] * X[:, 1:2]


def built(*stack):
    set_random_seed(1)
    model = models.Sequential([layers.Input((3,)), *stack])
    model.compile("sgd", "mse")
    return model


def penalised(trainable=True, regularizer="l2"):
    return [
        layers.Dense(4, "tanh", kernel_regularizer=regularizer, bias_regularizer=regularizer, trainable=trainable),
        layers.BatchNormalization(gamma_regularizer=regularizer, trainable=trainable),
    ]


STACKS = {
    "dense": lambda given: [penalised(False, given)[0], layers.Dense(1)],
    "normalized": lambda given: [*penalised(False, given), layers.Dense(1)],
    "nested": lambda given: [models.Sequential(penalised(False, given)), layers.Dense(1)],
}


@pytest.mark.parametrize("name", STACKS)
def test_penalties_of_what_does_not_train_are_not_in_the_loss(family, name):
    with_one, without = (built(*STACKS[name](given)) for given in ("l2", None))
    losses = [
        m.fit(X, Y, batch_size=5, epochs=3, shuffle=False, verbose=0).history["loss"] for m in (with_one, without)
    ]
    np.testing.assert_array_equal(*losses)
    assert with_one.evaluate(X, Y, verbose=0) == without.evaluate(X, Y, verbose=0) and with_one.losses == []
    for one, other in zip(with_one.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    found, expected = (m.gradients(X, Y).weights for m in (with_one, without))
    assert all(map(np.array_equal, found, expected)) and len(found) == 2


def test_penalties_of_a_frozen_model_are_not_in_the_loss(family):
    model = built(*penalised(), layers.Dense(1))
    before = model.evaluate(X, Y, verbose=0)
    model.trainable = False
    found = model.evaluate(X, Y, verbose=0)
    assert found == pytest.approx(np.square(model.predict(X, verbose=0) - Y).mean(), rel=1e-5)
    assert found < before - 1e-3


def kernels(model):
    return [layer.get_weights()[0].tobytes() for layer in model.layers if layer.weights]


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
def test_flags_are_read_when_training_begins(family, how):
    model = built(layers.Dense(4, "tanh"), layers.Dense(1))
    train = {"fit": lambda: model.fit(X, Y, verbose=0), "train_on_batch": lambda: model.train_on_batch(X, Y)}[how]
    for flags in ([True, True], [False, True], [True, False], [True, True]):
        for layer, flag in zip(model.layers, flags, strict=True):
            layer.trainable = flag
        before = kernels(model)
        train()
        assert [a != b for a, b in zip(kernels(model), before, strict=True)] == flags
    model.trainable = False
    before = kernels(model)
    train()
    assert kernels(model) == before


def test_flags_set_in_the_middle_of_a_fit_count_for_the_next(family):
    class Freeze(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].trainable = False
            self.model.predict(X, verbose=0)

        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(X, Y, verbose=0)

    model, other = (built(layers.Dense(4, "tanh"), layers.Dense(1)) for _ in range(2))
    model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[Freeze()])
    other.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    assert kernels(model) == kernels(other)
    model.fit(X, Y, verbose=0)
    assert kernels(model)[0] == kernels(other)[0] and kernels(model)[1] != kernels(other)[1]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_call_reads_them_at_once(compiled):
    layer = layers.BatchNormalization()
    model = models.Sequential([layers.Input((3,)), layer])
    if compiled:
        model.compile("sgd", "mse")
    assert not np.allclose(model(X, training=True), model(X))
    for whole in (layer, model):
        whole.trainable = False
        before = layer.get_weights()
        np.testing.assert_allclose(model(X, training=True), model(X), rtol=1e-6)
        assert all(map(np.array_equal, layer.get_weights(), before))
        whole.trainable = True
        model(X, training=True)
        assert not np.array_equal(layer.get_weights()[2], before[2])


def test_members_of_an_ensemble_must_train_alike_when_a_fit_begins():
    ensemble = Ensemble(lambda: built(layers.Dense(4), layers.Dense(1)), 2)
    ensemble.members[1].layers[0].trainable = False
    with pytest.raises(ValueError, match="the training of weight array 0"):
        ensemble.fit(X, Y, verbose=0)


def test_a_weight_alone_is_not_frozen():
    layer = built(layers.Dense(1, name="last")).layers[0]
    with pytest.raises(AttributeError, match=r"last/kernel is trained where its layer is.*set last\.trainable"):
        layer.kernel.trainable = False
    assert layer.kernel.trainable
