"""Long batches of small networks, which compiled steps take through the network slice by slice."""

import numpy as np
import pytest
from compiled import build, data, flat, hold

from gpumlp import Ensemble, layers
from gpumlp.engine import compiled_program

SMALL = {"LONG": 6_000, "SLICE": 5_700, "LEAST": 1}  # more than 4 samples of `narrow` go in slices of up to 4
TEAMS = (1, 2, 3, 5)


def narrow(dtype="float32", **more):
    stack = [
        layers.Rescaling(0.5), layers.Dense(20, "tanh", kernel_regularizer="l2"), layers.Dropout(0.2, seed=3),
        layers.Dense(7, "gelu", bias_regularizer="l1"), layers.Dense(7, trainable=False), layers.Activation("softmax"),
        layers.Dense(3, use_bias=False), layers.Dense(2),
    ]  # fmt: skip
    return build(stack, dtype=dtype, metrics=["mae"], weighted_metrics=["mse"], **more)


def of_batches(batch):
    """Return two batches and a half, with weights."""
    x, y = data(2 * batch + batch // 2)
    return x, y, np.random.default_rng(5).uniform(0.1, 2.0, len(x)).astype(np.float32)


def fitted(model, batch, epochs):
    x, y, weights = of_batches(batch)
    checked = x[: batch + 1], y[: batch + 1]
    return model.fit(
        x, y, batch_size=batch, epochs=epochs, sample_weight=weights, verbose=0, validation_data=checked
    )  # fmt: skip


def begin(monkeypatch, batch):
    for name, value in SMALL.items() if batch < 1000 else ():
        monkeypatch.setattr(compiled_program, name, value)


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 17, 33, 1000, 10_007])
def test_slices_give_what_numpy_gives(kernels, monkeypatch, batch):
    begin(monkeypatch, batch)
    hold(kernels, narrow, lambda model: fitted(model, batch, 3), threads=3)


@pytest.mark.parametrize("batch", [3, 17, 33, 1000, 10_007])
def test_slices_give_the_same_bits_by_any_number_of_threads(kernels, instructions, monkeypatch, batch):
    begin(monkeypatch, batch)
    found = []
    for threads in TEAMS:
        kernels("numba", threads)
        model = narrow()
        logs = fitted(model, batch, 2).history
        assert (model._runner.last._slices > 1) == (batch > 4)
        found.append((flat(model), model.predict(of_batches(batch)[0], batch_size=batch, verbose=0), logs))
    for weights, predictions, logs in found[1:]:
        assert np.array_equal(weights, found[0][0]) and np.array_equal(predictions, found[0][1]) and logs == found[0][2]


def test_what_memory_there_is_for_changes_no_bit(kernels, monkeypatch):
    begin(monkeypatch, 17)
    found = []
    kernels("numba", 2)
    for before in (17, 3, 100):
        model = narrow()
        model.predict(data(before)[0], batch_size=before, verbose=0)
        for batch in (17, 3):
            fitted(model, batch, 1)
        found.append(flat(model))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_members_of_an_ensemble_are_sliced_as_models_are(kernels, monkeypatch):
    begin(monkeypatch, 33)
    kernels("numba", 2)
    x, y, weights = of_batches(33)
    members = Ensemble(narrow, 3)
    first = members.members[0].get_weights()
    members.fit(x, y, batch_size=33, epochs=2, sample_weight=weights, verbose=0, shuffle=False)
    alone = narrow()
    alone.set_weights(first)
    alone.fit(x, y, batch_size=33, epochs=2, sample_weight=weights, verbose=0, shuffle=False)
    assert np.array_equal(flat(members.members[0]), flat(alone))


def test_who_needs_all_rows_or_has_many_weights_is_not_sliced(kernels):
    kernels("numba", 2)
    for stack in (
        [layers.Dense(8), layers.BatchNormalization(), layers.Dense(2)],
        [layers.Dense(5000), layers.Dense(2)],
    ):
        model = build(stack)
        model.fit(*data(6000), batch_size=6000, verbose=0)
        assert model._runner.last._slices == 1
