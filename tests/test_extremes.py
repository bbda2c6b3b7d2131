"""Activations and losses at the ends of the number line, in every family of kernels that runs here.

What is right stands here by hand, in long double: the textbook form where it holds, the limit where it does not. A
result beyond the type's largest number may be infinite.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpumlp import activations, losses
from gpumlp.backends.numpy_backend import NumpyBackend

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NumPy's word for an infinity
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"  # which is chosen for a whole process
POSITIVE = [0.0, 1e-37, 1e-30, 0.3, 1.0, 5.0, 20.0, 88.0, 104.0, 1e4, 2e7, 1e19, 1e30, 3e38, math.inf]
NUMBERS = [*POSITIVE, *(-z for z in POSITIVE), math.nan]
LARGEST = float(np.finfo(np.float32).max)


def backends():
    """Return what runs in this process, by name: a function that makes it, and its type of numbers."""

    def numba():
        from numba_simulator import NUMBA

        return NUMBA

    def compiled():
        from gpumlp.backends.compiled_backend import CompiledBackend

        return CompiledBackend()

    def cuda():
        from host.runtime import HostRuntime

        from gpumlp.backends.cuda_backend import CudaBackend

        return CudaBackend(HostRuntime())

    if SIMULATED:
        return {"numba": (numba, np.float32)}
    here = {"numpy": (NumpyBackend, np.float32), "numpy float64": (NumpyBackend, np.float64)}
    return here | {"compiled": (compiled, np.float32), "cuda": (cuda, np.float32)}


@pytest.fixture(params=backends(), scope="module")
def family(request):
    make, dtype = backends()[request.param]
    return make(), dtype


def test_the_numba_kernels_in_the_simulator():
    if SIMULATED:
        return
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stdout[-8000:] + done.stderr[-2000:], pytrace=False)


# ---- what is right ---------------------------------------------------------------------------------------------------


def sigmoid(z):
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def density(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) if abs(z) < 100 else 0.0


def gelu_tanh(z):
    """Value and slope of gelu's approximation, |z| < 100."""
    c, k = math.sqrt(2 / math.pi), 0.044715
    s = sigmoid(2 * c * (z + k * z**3))
    return z * s, s + z * 2 * s * sigmoid(-2 * c * (z + k * z**3)) * c * (1 + 3 * k * z * z)


def gate(near):
    """Value and slope of what goes from 0 to z: ``near`` gives them, but far out they are those of relu."""
    return lambda z: (z, z) if z != z else near(z) if abs(z) < 100 else (z, 1.0) if z > 0 else (0.0, 0.0)


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # selu's


def otherwise(z, below, slope, above=1.0):
    return (above * z, above) if z > 0 else (below, slope)


def mish(z):
    """Value and slope, z < 100."""
    e = math.exp(z)
    n = e * (e + 2)
    return z * n / (n + 2), n / (n + 2) + 4 * z * e * (e + 1) / (n + 2) ** 2


def between(z, low, high, value, slope):
    """``low`` and ``high`` beyond -3 and 3, or -1 and 1, with slope 0 there."""
    return (low if z < 0 else high, 0.0) if abs(z) >= (3 if slope < 0.4 else 1) else (value, slope)


def beyond(z, limit, less):
    """0 up to ``limit`` on both sides of 0, ``less`` nearer to 0 farther out."""
    return (z - math.copysign(less, z), 1.0) if abs(z) > limit else (0.0, 0.0)


def squareplus(z):
    root = math.sqrt(z * z + 4) if abs(z) < 1e100 else abs(z)
    value = z / 2 + root / 2 if z >= 0 else 2 / (root - z)
    return value, value / root if value < math.inf else 1.0


RIGHT = {
    activations.linear: lambda z: (z, 1.0),
    activations.relu: lambda z: otherwise(z, 0.0, 0.0),
    activations.leaky_relu: lambda z: otherwise(z, 0.2 * z, 0.2),
    activations.leaky_relu.given(negative_slope=3e7): lambda z: otherwise(z, 3e7 * z, 3e7),
    activations.elu: lambda z: otherwise(z, math.expm1(min(z, 0)), math.exp(min(z, 0))),
    activations.elu.given(alpha=3e7): lambda z: otherwise(z, 3e7 * math.expm1(min(z, 0)), 3e7 * math.exp(min(z, 0))),
    activations.tanh: lambda z: (math.tanh(z), 1 / math.cosh(min(abs(z), 300)) ** 2),
    activations.sigmoid: lambda z: (sigmoid(z), sigmoid(z) * sigmoid(-z)),
    activations.silu: gate(lambda z: (z * sigmoid(z), sigmoid(z) * (1 + z * sigmoid(-z)))),
    activations.gelu: gate(
        lambda z: (z * math.erfc(-z / math.sqrt(2)) / 2, math.erfc(-z / math.sqrt(2)) / 2 + z * density(z))
    ),
    activations.gelu.given(approximate=True): gate(gelu_tanh),
    activations.relu6: lambda z: (min(max(z, 0.0), 6.0), float(0 < z < 6)),
    activations.selu: lambda z: otherwise(
        z, SCALE * ALPHA * math.expm1(min(z, 0)), SCALE * ALPHA * math.exp(min(z, 0)), SCALE
    ),
    activations.celu: lambda z: otherwise(z, math.expm1(min(z, 0)), math.exp(min(z, 0))),
    activations.celu.given(alpha=0.25): lambda z: otherwise(
        z, 0.25 * math.expm1(4 * min(z, 0)), math.exp(4 * min(z, 0))
    ),
    activations.mish: gate(mish),
    activations.hard_silu: lambda z: (0.0, 0.0) if z <= -3 else (z, 1.0) if z >= 3 else (z * (z + 3) / 6, z / 3 + 0.5),
    activations.hard_sigmoid: lambda z: between(z, 0.0, 1.0, z / 6 + 0.5, 1 / 6),
    activations.sparse_sigmoid: lambda z: between(z, 0.0, 1.0, (z + 1) / 2, 0.5),
    activations.hard_tanh: lambda z: (min(max(z, -1.0), 1.0), float(abs(z) <= 1)),
    activations.tanh_shrink: lambda z: (z - math.tanh(z), math.tanh(z) ** 2),
    activations.soft_shrink: lambda z: beyond(z, 0.5, 0.5),
    activations.hard_shrink: lambda z: beyond(z, 0.5, 0.0),
    activations.threshold.given(threshold=0.5, default_value=2.0): lambda z: (z, 1.0) if z > 0.5 else (2.0, 0.0),
    activations.softplus: lambda z: (softplus(z), sigmoid(z)),
    activations.log_sigmoid: lambda z: (-softplus(-z), sigmoid(-z)),
    activations.softsign: lambda z: (
        z / (1 + abs(z)) if abs(z) < math.inf else math.copysign(1, z),
        1 / (1 + abs(z)) ** 2,
    ),
    activations.squareplus: squareplus,
    activations.sparse_plus: lambda z: (
        (0.0, 0.0) if z <= -1 else (z, 1.0) if z >= 1 else ((z + 1) ** 2 / 4, (z + 1) / 2)
    ),
    activations.exponential: lambda z: (math.exp(z),) * 2 if z < 700 else (math.inf,) * 2,
}


def assert_right(got, right, dtype, scale=1.0, what=None):
    """Each number within rounding, relative to itself and to ``scale``; NaN for NaN."""
    got, right = np.asarray(got, np.float64), np.asarray(right, np.float64)
    unit = 16 * float(np.finfo(dtype).eps) * scale
    with np.errstate(all="ignore"):
        beyond = (np.abs(right) >= LARGEST * (1 - 1e-6)) & (np.abs(got) >= LARGEST * (1 - 1e-6))
        near = np.abs(got - right) <= unit * (1 + np.abs(right))
        good = near | (got == right) | (np.isnan(got) & np.isnan(right)) | (beyond & (np.sign(got) == np.sign(right)))
    assert good.all(), (
        [(w, g, r) for w, g, r in zip(what, got[~good], right[~good], strict=False)] if what else (got, right)
    )


@pytest.mark.parametrize("activation", RIGHT, ids=repr)
def test_values_and_slopes_of_an_activation(family, activation):
    backend, dtype = family
    z = np.array([NUMBERS], dtype)
    expected = np.array([RIGHT[activation](float(v)) if v == v else (math.nan, math.nan) for v in z[0]])
    if activation is activations.linear:
        expected[-1, 1] = 1.0
    there = backend.to_device(z.copy())
    y, slope = backend.to_device(np.full_like(z, np.nan)), backend.to_device(np.ones_like(z))
    with np.errstate(all="ignore"):
        backend.activation_forward(activation, there, y)
        backend.activation_backward(activation, slope, y, there)
    scale = max([1.0, *activation.numbers.values()])
    assert_right(backend.to_host(y)[0], expected[:, 0], dtype, scale, z[0].tolist())
    assert_right(backend.to_host(slope)[0], expected[:, 1], dtype, scale, z[0].tolist())


ROWS = [
    ([0, 0, 0], [1 / 3] * 3), ([-math.inf, 0, 0], [0, 0.5, 0.5]), ([math.inf, 0, 1], [1, 0, 0]),
    ([math.inf, math.inf, 0], [0.5, 0.5, 0]), ([3e38, -3e38, 3e38], [0.5, 0, 0.5]), ([-math.inf] * 3, [1 / 3] * 3),
    ([1e30, 1e29, -1e30], [1, 0, 0]), ([-2e7, -2e7, -2e7 - 200], [0.5, 0.5, 0]), ([math.nan, 0, 1], [math.nan] * 3),
]  # fmt: skip


def test_values_of_softmax(family):
    backend, dtype = family
    z = np.array([row for row, _ in ROWS], dtype)
    y = backend.to_device(np.full_like(z, np.nan))
    with np.errstate(all="ignore"):
        backend.activation_forward(activations.softmax, backend.to_device(z.copy()), y)
    assert_right(backend.to_host(y), [right for _, right in ROWS], dtype)


# ---- losses: value and slope by p of one target and one prediction ---------------------------------------------------


def softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def logits(t, p):
    """Binary cross-entropy of a logit, t 0 or 1: softplus of what the logit says against the target."""
    return softplus(-p if t else p), sigmoid(p) - t


def huber(t, p, delta):
    e = abs(p - t)
    value = e * e / 2 if e <= delta else delta * e - delta * delta / 2
    return value, max(-delta, min(delta, p - t))


def probability(t, p):
    q = min(max(p, 1e-7), 1 - 1e-7)
    return -math.log(q if t else 1 - q), ((q - t) / (q * (1 - q)) if p == q else 0.0)


def margin(t, p):
    """Value and slope of a hinge, t 0 or 1."""
    sign = 2 * t - 1
    return max(1 - sign * p, 0.0), -sign if 1 - sign * p > 0 else 0.0


def log_cosh(t, p):
    e = abs(p - t)
    return (e + math.log1p(math.exp(-2 * e)) - math.log(2) if e < 300 else e - math.log(2)), math.tanh(p - t)


def logarithmic(t, p, most):
    """What is infinite is the largest number: its logarithm is none that is infinite."""
    p = min(p, most)
    error = math.log1p(max(p, 1e-7)) - math.log1p(max(t, 1e-7))
    return error * error, (2 * error / (1 + p) if p > 1e-7 else 0.0)


def poisson(t, p, most):
    return p - t * math.log(min(p, most) + 1e-7), 1 - t / (p + 1e-7)


PAIRS = {
    losses.MeanAbsolutePercentageError(): lambda t, p: tuple(
        100 / max(t, 1e-7) * v for v in (abs(p - t), float(np.sign(p - t)))
    ),
    losses.Hinge(): margin,
    losses.SquaredHinge(): lambda t, p: (margin(t, p)[0] ** 2, 2 * margin(t, p)[0] * margin(t, p)[1]),
    losses.LogCosh(): log_cosh,
    losses.MeanSquaredError(): lambda t, p: ((p - t) * (p - t), 2 * (p - t)),
    losses.MeanAbsoluteError(): lambda t, p: (abs(p - t), float(np.sign(p - t))),
    losses.Huber(): lambda t, p: huber(t, p, 1.0),
    losses.Huber(0.25): lambda t, p: huber(t, p, 0.25),
    losses.BinaryCrossentropy(from_logits=True): logits,
}


@pytest.mark.parametrize("loss", PAIRS, ids=lambda v: f"{v.name}{v.get_config().get('delta', '')}")
def test_values_and_slopes_of_a_loss(family, loss):
    backend, dtype = family
    for number in NUMBERS:
        for t in (0.0, 1.0):
            p = dtype(number)
            right = (math.nan, math.nan) if p != p else PAIRS[loss](t, float(p))
            assert_right(one(backend, loss, dtype, [t], [p]), right, dtype, what=[(t, p)] * 2)


def one(backend, loss, dtype, t, p):
    """Return a loss and its slopes."""
    dp = backend.to_device(np.full((1, len(p)), np.nan, dtype))
    there, targets = backend.to_device(np.array([p], dtype)), backend.to_device(np.array([t], dtype))
    with np.errstate(all="ignore"):
        value = backend.loss(loss, targets, there, None, dp)
    return np.array([value, *backend.to_host(dp)[0]])


@pytest.mark.parametrize("number", [0.0, 1e-30, 0.5, 1.0, 20.0, 2e7, 3e38, math.inf, -3e38, -math.inf, math.nan])
def test_binary_cross_entropy_of_a_probability_anywhere(family, number):
    backend, dtype = family
    for t in (0.0, 1.0):
        value, slope = one(backend, losses.BinaryCrossentropy(), dtype, [t], [dtype(number)])
        right = (math.nan, math.nan) if number != number else probability(t, number)
        # 1 - 1e-7 is no float32, and the logarithm of what is left to 1 tells
        np.testing.assert_allclose((value, slope), right, rtol=0.2 if dtype is np.float32 else 1e-8, atol=1e-6)


@pytest.mark.parametrize("number", [v for v in NUMBERS if not v < 0.0])
def test_losses_of_what_is_not_below_0(family, number):
    backend, dtype = family
    for loss, form in ((losses.MeanSquaredLogarithmicError(), logarithmic), (losses.Poisson(), poisson)):
        for t in (0.0, 1.0):
            p = dtype(number)
            right = (math.nan, math.nan) if p != p else form(t, float(p), float(np.finfo(dtype).max))
            scale = max([1.0, *(abs(v) for v in right if abs(v) < 1e9)])
            assert_right(one(backend, loss, dtype, [t], [p]), right, dtype, scale, what=[(t, p)] * 2)


DIRECTIONS = [  # a target, a prediction, minus the cosine between them
    ([1, 0], [1e30, 0], -1.0), ([1, 0], [-3e38, 0], 1.0), ([1, 1], [1e-6, 0], -math.sqrt(0.5)),
    ([1e30, 1e30], [3e38, 3e38], -1.0), ([1, 0], [0, 0], 0.0), ([1, 0], [math.inf, 1], -1.0),
    ([0, 0], [1, 1], 0.0), ([1, 0], [math.nan, 0], math.nan),
]  # fmt: skip


@pytest.mark.parametrize("case", DIRECTIONS, ids=str)
def test_cosine_similarity(family, case):
    backend, dtype = family
    t, p, value = case
    got = one(backend, losses.CosineSimilarity(), dtype, t, p)
    assert_right(got[0], value, dtype)
    if value in (-1.0, 1.0):
        assert abs(got[1:]).max() < 1e-6  # along itself nothing changes
    if not np.any(p):
        np.testing.assert_allclose(got[1:], [-1e7, 0], rtol=1e-5)


@pytest.mark.parametrize("number", [0.0, 1e-30, 0.5, 1.0, 20.0, 3e38, math.inf, -20.0, -3e38, -math.inf, math.nan])
@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_focal_losses_of_logits(family, number, gamma):
    """The clipped logarithm times a power of what is missing to 1: no infinity anywhere, and no slope of one."""
    backend, dtype = family
    for t in (0.0, 1.0):
        loss = losses.BinaryFocalCrossentropy(from_logits=True, gamma=gamma)
        got = one(backend, loss, dtype, [t], [number])
        q, wrong = (sigmoid(v if t else -v) for v in (number, -number)) if number == number else (math.nan,) * 2
        value, tolerance = (
            wrong**gamma * -math.log(min(max(q, 1e-7), 1 - 1e-7)),
            0.2 if dtype is np.float32 else 1e-8,
        )  # 1 - 1e-7 is none
        np.testing.assert_allclose(got[0], value if number == number else math.nan, rtol=tolerance, atol=1e-6)
        assert np.isfinite(got[1]) == (number == number)


INFINITE = math.inf
CLASSES = [  # logits, the true class, the loss, its slopes
    ([0, 0], 0, math.log(2), [-0.5, 0.5]),
    ([3e38, -3e38], 0, 0.0, [0, 0]),
    ([3e38, -3e38], 1, LARGEST, [1, -1]),
    ([INFINITE, 0], 0, 0.0, [0, 0]),
    ([-INFINITE, 0], 1, 0.0, [0, 0]),
    ([-INFINITE, 0], 0, LARGEST, [-1, 1]),
    ([2e7, 2e7], 1, math.log(2), [0.5, -0.5]),
    ([1e30, -1e30], 0, 0.0, [0, 0]),
    ([math.nan, 0], 1, math.nan, [math.nan, math.nan]),
]


@pytest.mark.parametrize("case", CLASSES, ids=str)
@pytest.mark.parametrize("sparse", [False, True])
def test_categorical_cross_entropy_of_logits(family, case, sparse):
    backend, dtype = family
    p, true, value, slopes = case
    kind = losses.SparseCategoricalCrossentropy if sparse else losses.CategoricalCrossentropy
    t = [true] if sparse else [float(true == c) for c in range(2)]
    assert_right(one(backend, kind(from_logits=True), dtype, t, p), [value, *slopes], dtype)


def test_the_slope_of_silu_keeps_its_one_where_z_is_large(family):
    backend, dtype = family
    z = backend.to_device(np.array([[2e7, 3e7, 1e10, 1e30, 3e38, math.inf]], dtype))
    slope = backend.to_device(np.ones((1, 6), dtype))
    with np.errstate(all="ignore"):
        backend.activation_backward(activations.silu, slope, z, z)
    assert (backend.to_host(slope) == 1).all()
