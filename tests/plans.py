"""What may change between two calls of one batch, for tests of their plans; and the calls."""

import os

import numpy as np
from compiled import data

from gpumlp import config, layers, models, optimizers

X, Y = data(32)


def used(model, x=X, y=Y):
    return [model.train_on_batch(x, y), model.test_on_batch(x, y), model.predict(x[:3], verbose=0), model(x[:1])]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def settle(models, times=4):
    """Have all of them done the same, until there are plans."""
    for _ in range(times):
        same(*[used(model) for model in models])


def freeze(model):
    model.layers[0].trainable = False


def freeze_all(model):
    model.trainable = False


def set_rate(model):
    model.optimizer.learning_rate = 0.1


def set_beta(model):
    model.optimizer.beta_1 = 0.5


def average(model):
    model.optimizer.use_ema = True


def clip_by_norm(model):
    model.optimizer.clipnorm = 0.01  # array by array: not compiled


def set_weights(model):
    model.set_weights([w + 0.25 for w in model.get_weights()])


def set_bad_weights(model):
    model.set_weights([w * np.float32("nan") for w in model.get_weights()])


def assign(model):
    model.layers[0].kernel.assign(np.ones((3, 19)))


def assign_state(model):
    model.optimizer.variables[2].assign(np.ones((3, 19)))


def compile_again(model):
    model.compile(loss="huber", optimizer=optimizers.SGD(0.1, 0.9))


def compile_with_metrics(model):
    model.compile(loss="mse", optimizer=model.optimizer, metrics=["mae"])


def compile_binary(model):
    model.compile(loss="binary_crossentropy", optimizer="adam")


def compile_for_numpy(model):
    os.environ["GPUMLP_KERNELS"] = "numpy"
    model.compile(loss="mse", optimizer="adam")


def other_optimizer(model):
    model.optimizer = optimizers.RMSprop(0.01)


def add_a_layer(model):
    model.add(layers.Dense(2, kernel_initializer="ones"))


def another_activation(model):
    model.layers[0].activation = "sigmoid"


def fit(model):
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False)


def larger(model):
    model.predict(np.tile(X, (40, 1)), batch_size=1280, verbose=0)


def share(model):
    other = models.Sequential([layers.Input((3,)), model.layers[0], layers.Dense(2, kernel_initializer="ones")])
    other.compile(loss="mse", optimizer="sgd")
    for _ in range(4):
        other.train_on_batch(X, Y)


def penalize(model):
    model.layers[0].kernel_regularizer = "l2"


CHANGES = [
    freeze, freeze_all, set_rate, set_beta, average, clip_by_norm, set_weights, set_bad_weights, assign, assign_state,
    compile_again, compile_with_metrics, compile_binary, compile_for_numpy, other_optimizer, add_a_layer,
    another_activation, fit, larger, share, penalize,
]  # fmt: skip


class nonfinite:
    """A context in which NaN in data leads to this."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        self._before = config.nonfinite()
        config.set_nonfinite(self._what)

    def __exit__(self, *given):
        config.set_nonfinite(self._before)
