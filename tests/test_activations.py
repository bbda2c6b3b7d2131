"""Activations against float64 central differences, and the error function against the standard library's."""

import math

import numpy as np
import pytest

from gpumlp import activations
from gpumlp.erf import erf


class Scratch:
    """Work arrays that start as NaN, so that a value read before it was written shows."""

    def __init__(self):
        self.arrays = {}

    def __call__(self, index, shape, dtype):
        return self.arrays.setdefault((index, shape, dtype), np.full(shape, np.nan, dtype))


CASES = [
    *activations.KNOWN.values(),
    activations.LeakyRelu(0.0),
    activations.LeakyRelu(1.5),
    activations.Elu(0.0),
    activations.Elu(2.5),
    activations.Gelu(approximate=True),
]


def forward(activation, z):
    y = np.full_like(z, np.nan)
    activation.forward(np, z, y, Scratch())
    return y


@pytest.mark.parametrize("activation", CASES, ids=repr)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (20, 33), (0, 5)])
def test_gradient_is_the_central_difference(activation, shape):
    rng = np.random.default_rng(1)
    z, dy = rng.normal(scale=2, size=shape), rng.normal(size=shape)
    z[np.abs(z) < 1e-3] = 0.5  # away from the kinks
    y, dz, h = forward(activation, z), dy.copy(), 1e-6
    activation.backward(np, dz, y, z, Scratch())
    expected = np.zeros(shape)
    for j in range(shape[1]):  # the sum over a row covers softmax too
        step = np.zeros(shape)
        step[:, j] = h
        difference = (forward(activation, z + step) - forward(activation, z - step)) / (2 * h)
        expected[:, j] = (dy * difference).sum(axis=1)
    np.testing.assert_allclose(dz, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("activation", CASES, ids=repr)
def test_float32_agrees_with_float64(activation):
    z = np.random.default_rng(2).normal(scale=4, size=(31, 257)).astype(np.float32)
    y = forward(activation, z)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, forward(activation, z.astype(np.float64)), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("activation", CASES, ids=repr)
def test_nan_stays_nan(activation):
    z = np.array([[1.0, np.nan, -1.0]])
    dz = np.ones_like(z)
    y = forward(activation, z)
    activation.backward(np, dz, y, z, Scratch())
    assert np.isnan(y[0, 1])


@pytest.mark.parametrize("activation", CASES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_inputs_give_finite_outputs_and_no_warning(activation, dtype):
    z = np.array([[-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4]], dtype)
    assert np.isfinite(forward(activation, z)).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 5e-16), (np.float32, 4e-7)])
def test_erf_is_the_standard_librarys(dtype, tolerance):
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.0, 1e-9, -1e-9, 40.0, -1e4, np.inf, -np.inf]]).astype(dtype)
    out = np.full_like(x, np.nan)
    erf(np, x, out, Scratch())
    expected = np.array([math.erf(float(v)) for v in x])
    assert np.abs(out - expected).max() <= tolerance


def test_an_unknown_name_gets_its_near_match_first():
    with pytest.raises(ValueError, match=r"Unknown activation 'rellu'. Did you mean 'relu'"):
        activations.get("rellu")
    with pytest.raises(TypeError, match="must be a name"):
        activations.get(np.tanh)
