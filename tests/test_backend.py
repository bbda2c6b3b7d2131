"""The contract, operation by operation: the float32 backend against float64 truth, in awkward sizes.

Outputs are poisoned with NaN first, so that an element which is never written shows. A float32 result passes when its
error is within 2 (K + 2) u (|A| |B|), K the summed length and u = 2^-24 (Higham 2002, section 3.1), or at most twice
what float32 NumPy does in the plainest way: the second rule is for inputs where cancellation makes the bound itself
loose or tight by chance.
"""

import numpy as np
import pytest

from gpumlp import activations, losses, optimizers
from gpumlp.backends.numpy_backend import NumpyBackend

U = 2.0**-24
SIZES = (1, 3, 17, 20, 31, 33, 255, 256, 257, 1000)
# every size once in each place, against a size of another kind
SHAPES = [(b, i, o) for b, i, o in zip(SIZES, SIZES[3:] + SIZES[:3], SIZES[7:] + SIZES[:7], strict=True)]
SHAPES += [(0, 5, 7), (20, 256, 256), (1, 1, 1)]


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def poisoned(*shape):
    return np.full(shape, np.nan, np.float32)


def assert_within(got, truth, bound):
    """NaN-safe: an element passes only where its error IS within its bound."""
    error = np.abs(got - truth)
    wrong = ~(error <= bound)
    if wrong.any():
        worst = np.unravel_index(np.nanargmax(np.where(wrong, error, -1)), error.shape)
        pytest.fail(f"{wrong.sum()} of {wrong.size} elements; worst at {worst}: {got[worst]} for {truth[worst]}")


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize(("b", "i", "o"), SHAPES)
@pytest.mark.parametrize("contiguous", [True, False])
def test_dense_is_within_its_bound_of_float64(b, i, o, contiguous):
    rng = np.random.default_rng(b + 7 * i + 49 * o)
    x = normal(rng, b, i) if contiguous else normal(rng, 2 * b, i)[::2]
    w, bias, dy = normal(rng, i, o), normal(rng, o), normal(rng, b, o)
    backend, linear = NumpyBackend(), activations.get("linear")
    y, dx, dw, db = poisoned(b, o), poisoned(b, i), poisoned(i, o), poisoned(o)
    x64, w64, bias64, dy64 = wide(x, w, bias, dy)

    backend.dense_forward(x, w, bias, linear, y)
    assert_within(y, x64 @ w64 + bias64, 2 * (i + 2) * U * (abs(x64) @ abs(w64) + abs(bias64)))

    backend.dense_backward(dy, x, w, y, None, linear, dx, dw, db)
    assert_within(dx, dy64 @ w64.T, 2 * (o + 2) * U * (abs(dy64) @ abs(w64.T)))
    assert_within(dw, x64.T @ dy64, 2 * (b + 2) * U * (abs(x64.T) @ abs(dy64)))
    assert_within(db, dy64.sum(0), 2 * (b + 2) * U * abs(dy64).sum(0))


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "softmax", "silu"])
def test_a_dense_layer_applies_its_activation_and_masks_its_gradient(name):
    rng = np.random.default_rng(4)
    x, w, bias, dy = normal(rng, 20, 33), normal(rng, 33, 17), normal(rng, 17), normal(rng, 20, 17)
    results = []
    for dtype in (np.float32, np.float64):
        a = activations.get(name)
        backend = NumpyBackend()
        y, dx, dw, db = (np.full(s, np.nan, dtype) for s in ((20, 17), (20, 33), (33, 17), (17,)))
        z = np.full((20, 17), np.nan, dtype) if a.retains_input else None
        backend.dense_forward(x.astype(dtype), w.astype(dtype), bias.astype(dtype), a, y, z)
        backend.dense_backward(dy.astype(dtype), x.astype(dtype), w.astype(dtype), y, z, a, dx, dw, db)
        results.append((y, dx, dw, db))
    for single, double in zip(*results, strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=2e-5, atol=2e-5 * np.abs(double).max())


@pytest.mark.parametrize("n", [1, 17, 65_535, 65_536, 65_537, 200_000])
def test_updates_reach_every_element_in_float32(n):
    rng = np.random.default_rng(n)
    for optimizer in (
        optimizers.Adam(),
        optimizers.SGD(momentum=0.9, nesterov=True),
        optimizers.RMSprop(centered=True),
    ):
        results = []
        w, grads = normal(rng, n), [normal(rng, n) for _ in range(3)]
        for dtype in (np.float32, np.float64):
            params = w.astype(dtype)
            slots = {name: np.zeros(n, dtype) for name in optimizer.slots}
            for t, g in enumerate(grads, 1):
                optimizer.update(NumpyBackend(), params, g.astype(dtype), slots, t)
            results.append(params)
        assert_within(*results, 1e-6 + 16 * U * np.abs(results[1]))


def test_the_flush_of_denormals_changes_nothing_that_counts():
    backend = NumpyBackend()
    w, g = np.ones(4, np.float32), np.zeros(4, np.float32)
    m, v = np.array([1e-31, -1e-31, 1e-20, 0.0], np.float32), np.zeros(4, np.float32)
    backend.adam_update(w, g, m, v, (1e-3, 1.0), 0.9, 0.999, 1e-7, 128)
    assert m.tolist() == [0.0, 0.0, np.float32(1e-20) * np.float32(0.9), 0.0] or m[0] == m[1] == 0 != m[2]
    assert (w == 1).all()


@pytest.mark.parametrize("loss", [losses.MeanSquaredError(), losses.Huber(0.5), losses.MeanAbsoluteError()], ids=repr)
@pytest.mark.parametrize("b", [1, 20, 257])
def test_losses_in_float32_are_near_float64(loss, b):
    rng = np.random.default_rng(b)
    t, p, weights = normal(rng, b, 33), normal(rng, b, 33), np.abs(normal(rng, b))
    dp = poisoned(b, 33)
    value = NumpyBackend().loss(loss, t, p, weights, dp)
    dp64 = np.full((b, 33), np.nan)
    truth = NumpyBackend().loss(loss, *wide(t, p, weights), dp64)
    assert abs(value - truth) <= 1e-5 * abs(truth)
    assert_within(dp, dp64, 1e-6 * np.abs(dp64).max() + 8 * U * np.abs(dp64))


def test_scratch_keeps_its_arrays():
    backend = NumpyBackend()
    first = backend.scratch(0, (4, 5), np.dtype("f4"))
    assert backend.scratch(0, (4, 5), np.dtype("f4")) is first
    assert backend.scratch(0, (2, 5), np.dtype("f4")).base is first.base
    assert backend.scratch(1, (4, 5), np.dtype("f4")).base is not first.base
