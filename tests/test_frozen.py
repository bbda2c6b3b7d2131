"""Layers that do not train: what of them is added to the loss, and when their flags are read."""

import numpy as np
import pytest

from gpumlp import layers, models
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
    losses = [m.fit(X, Y, batch_size=5, epochs=3, shuffle=False, verbose=0).history["loss"] for m in (with_one, without)]
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
    model.compile("sgd", "mse")
    found = model.evaluate(X, Y, verbose=0)
    assert found == pytest.approx(np.square(model.predict(X, verbose=0) - Y).mean(), rel=1e-5)
    assert found < before - 1e-3
