"""A prediction needs the activations that it needs, and keeps none of them; nothing piles up."""

import tracemalloc

import numpy as np
import pytest

from gpumlp import layers, models
from gpumlp.utils import set_random_seed


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", request.param)


def build(*units):
    set_random_seed(0)
    model = models.Sequential([layers.Input((1,)), *(layers.Dense(n, "relu") for n in units), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def memory_of(work):
    """Return the most memory that ``work`` takes, and what of it stays, in MiB."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        now, peak = tracemalloc.get_traced_memory()
        return (peak - before) / 2**20, (now - before) / 2**20
    finally:
        tracemalloc.stop()


def test_a_prediction_of_one_large_batch_needs_no_activations_of_all_its_rows():
    model, x = build(*[256] * 7), np.zeros((100_000, 1), np.float32)  # of which a layer's would take 98 MiB
    model.predict(x[:8], verbose=0)
    peak, kept = memory_of(lambda: model.predict_on_batch(x))
    assert peak < 90 and kept < 80  # a Program with room for activations of 32 MiB, and for as many gradients
    peak, kept = memory_of(lambda: model.predict_on_batch(x))
    assert peak < 2 and kept < 1


def test_predictions_of_any_batch_size_agree():
    model, x = build(33, 17), np.linspace(-1, 1, 5000, dtype=np.float32)
    expected = model.predict(x, verbose=0)
    for size in (1, 7, 4999, 5000, 10**9):
        np.testing.assert_allclose(model.predict(x, batch_size=size, verbose=0), expected, rtol=1e-5, atol=1e-7)


def test_models_that_are_built_trained_and_dropped_leave_nothing():
    x = np.zeros((64, 1), np.float32)

    def one():
        model = build(512, 512)
        model.fit(x, x, validation_split=0.5, verbose=0)
        model.predict(x, verbose=0)

    one()
    peak, kept = memory_of(lambda: [one() for _ in range(5)])
    assert kept < 1 and peak < 40  # one of them has 1 MiB of weights, and its Programs some more


def test_heads_that_are_dropped_give_up_their_place():
    x = np.zeros((64, 1), np.float32)
    trunk = build(64)
    trunk.predict(x, verbose=0)
    sizes = []
    for _ in range(6):
        head = models.Sequential([trunk.layers[0], layers.Dense(500), layers.Dense(1)])
        head.compile("adam", "mse")
        head.fit(x, x, verbose=0)
        sizes.append(head._runner.weights.arena.flat.size)
    assert len(set(sizes)) == 1
