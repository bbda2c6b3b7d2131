"""Activations: textbook forms, slopes against central differences in float64, and what is called on what."""

import copy
import math
import pickle

import numpy as np
import pytest

from gpumlp import activations, layers, models, ops, saving
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.erf import erf

sigma = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
normal = lambda z: 0.5 * math.erfc(-z / math.sqrt(2))  # noqa: E731
LAMBDA, ALPHA = 1.05070098735548049342, 1.67326324235437728482


def threshold_of(row):
    """What sparsemax takes off: of the k largest that are above it, (their sum - 1) / k (Martins et al. 2016)."""
    largest = np.sort(row)[::-1]
    taken = [(largest[:k].sum() - 1) / k for k in range(1, len(row) + 1) if 1 + k * largest[k - 1] > largest[:k].sum()]
    return taken[-1]


# The textbook form of each, in one line; of one number, or of a row.
TEXTBOOK = {
    activations.linear: lambda z: z,
    activations.relu: lambda z: max(z, 0),
    activations.relu.given(negative_slope=0.1, max_value=1.5, threshold=0.2): lambda z: (
        min(z, 1.5) if z > 0.2 else 0.1 * (z - 0.2)
    ),
    activations.relu.given(max_value=1.5): lambda z: min(max(z, 0), 1.5),
    activations.relu.given(threshold=0.5): lambda z: z if z > 0.5 else 0,
    activations.leaky_relu: lambda z: z if z > 0 else 0.2 * z,
    activations.leaky_relu.given(negative_slope=0.0): lambda z: max(z, 0),
    activations.leaky_relu.given(negative_slope=1.5): lambda z: z if z > 0 else 1.5 * z,
    activations.elu: lambda z: z if z > 0 else math.exp(z) - 1,
    activations.elu.given(alpha=0.0): lambda z: max(z, 0),
    activations.elu.given(alpha=2.5): lambda z: z if z > 0 else 2.5 * (math.exp(z) - 1),
    activations.tanh: math.tanh,
    activations.sigmoid: sigma,
    activations.silu: lambda z: z * sigma(z),
    activations.gelu: lambda z: z * normal(z),
    activations.gelu.given(approximate=True): lambda z: (
        0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    ),
    activations.softmax: lambda row: np.exp(row) / np.exp(row).sum(),
    activations.log_softmax: lambda row: row - math.log(np.exp(row).sum()),
    activations.sparsemax: lambda row: np.maximum(row - threshold_of(row), 0),
    activations.relu6: lambda z: min(max(z, 0), 6),
    activations.selu: lambda z: LAMBDA * (z if z > 0 else ALPHA * (math.exp(z) - 1)),
    activations.celu: lambda z: z if z > 0 else math.exp(z) - 1,
    activations.celu.given(alpha=0.4): lambda z: z if z > 0 else 0.4 * (math.exp(z / 0.4) - 1),
    activations.mish: lambda z: z * math.tanh(math.log(1 + math.exp(z))),
    activations.hard_sigmoid: lambda z: min(max(z / 6 + 0.5, 0), 1),
    activations.hard_silu: lambda z: z * min(max(z / 6 + 0.5, 0), 1),
    activations.hard_tanh: lambda z: min(max(z, -1), 1),
    activations.tanh_shrink: lambda z: z - math.tanh(z),
    activations.soft_shrink: lambda z: math.copysign(max(abs(z) - 0.5, 0), z),
    activations.soft_shrink.given(threshold=0.0): lambda z: z,
    activations.hard_shrink: lambda z: z if abs(z) > 0.5 else 0,
    activations.hard_shrink.given(threshold=1.5): lambda z: z if abs(z) > 1.5 else 0,
    activations.threshold: lambda z: max(z, 0),
    activations.threshold.given(threshold=1.5, default_value=-2.0): lambda z: z if z > 1.5 else -2,
    activations.softplus: lambda z: math.log(1 + math.exp(z)),
    activations.softsign: lambda z: z / (1 + abs(z)),
    activations.squareplus: lambda z: (z + math.sqrt(z * z + 4)) / 2,
    activations.squareplus.given(b=0.3): lambda z: (z + math.sqrt(z * z + 0.3)) / 2,
    activations.squareplus.given(b=0.0): lambda z: max(z, 0),
    activations.log_sigmoid: lambda z: math.log(sigma(z)),
    activations.exponential: math.exp,
    activations.sparse_plus: lambda z: 0 if z < -1 else z if z > 1 else (z + 1) ** 2 / 4,
    activations.sparse_sigmoid: lambda z: min(max((z + 1) / 2, 0), 1),
}
CASES = list(TEXTBOOK)
BACKEND = NumpyBackend()


def forward(activation, z):
    y = np.full_like(z, np.nan)
    with np.errstate(all="ignore"):
        BACKEND.activation_forward(activation, z.copy(), y)
    return y


def backward(activation, dy, z):
    dz = dy.copy()
    with np.errstate(all="ignore"):
        BACKEND.activation_backward(activation, dz, forward(activation, z), z.copy())
    return dz


def test_every_activation_has_its_textbook_form_here():
    assert {a.function for a in TEXTBOOK} == {a.function for a in activations.KNOWN.values()}


@pytest.mark.parametrize("activation", CASES, ids=repr)
def test_values_are_those_of_the_textbook(activation):
    z = np.random.default_rng(1).normal(scale=3, size=(20, 33))
    form = TEXTBOOK[activation]
    expected = np.array([form(row) for row in z]) if activation.rowwise else np.vectorize(form, otypes=[float])(z)
    np.testing.assert_allclose(forward(activation, z), expected, rtol=1e-12, atol=1e-14)


FAR_OUT = [s * z for z in (1e-6, 1e-3, 0.3, 4.0, 9.0, 20.0, 60.0, 300.0, 1e3, 1e6) for s in (1.0, -1.0)]


@pytest.mark.parametrize("activation", CASES, ids=repr)
def test_values_are_those_of_the_textbook_far_out(activation):
    """Wherever the textbook's own form does not overflow; what it loses by cancellation is allowed for."""
    form, compared = TEXTBOOK[activation], 0
    for z in FAR_OUT:
        x = np.array([[z, 0.25, -z / 2]]) if activation.rowwise else np.array([[z]])
        try:
            with np.errstate(all="ignore"):
                expected = form(x[0]) if activation.rowwise else form(z)
        except (OverflowError, ValueError):
            continue
        if np.isfinite(expected).all():
            compared += 1
            np.testing.assert_allclose(forward(activation, x)[0], expected, rtol=1e-9, atol=1e-9 * min(abs(z), 1.0))
    assert compared > 10


@pytest.mark.parametrize("activation", [a for a in CASES if a.slope is not None], ids=repr)
def test_a_slope_of_its_own_is_the_derived_one_far_out(activation):
    derived = activations.Activation(activation.function, None, activation.constants)
    z = np.array([FAR_OUT]).T
    ours, expected = (backward(a, np.ones_like(z), z) for a in (activation, derived))
    there = np.isfinite(expected)
    assert there.sum() > 10
    np.testing.assert_allclose(ours[there], expected[there], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("activation", CASES, ids=repr)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (20, 33), (0, 5)])
def test_gradient_is_the_central_difference(activation, shape):
    rng = np.random.default_rng(1)
    z, dy = rng.normal(scale=2, size=shape), rng.normal(size=shape)
    for kink in (0.0, 0.2, 0.5, 1.0, 1.5, 3.0, 6.0):
        z[np.abs(np.abs(z) - kink) < 1e-3] = 0.7
    h = 1e-6
    expected = np.zeros(shape)
    for j in range(shape[1]):  # the sum over a row covers softmax too
        step = np.zeros(shape)
        step[:, j] = h
        difference = (forward(activation, z + step) - forward(activation, z - step)) / (2 * h)
        expected[:, j] = (dy * difference).sum(axis=1)
    np.testing.assert_allclose(backward(activation, dy, z), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("activation", [a for a in CASES if a.slope is not None], ids=repr)
def test_a_slope_of_its_own_is_the_derived_one(activation):
    derived = activations.Activation(activation.function, None, activation.constants)
    rng = np.random.default_rng(3)
    z, dy = rng.normal(scale=3, size=(20, 33)), rng.normal(size=(20, 33))
    np.testing.assert_allclose(backward(activation, dy, z), backward(derived, dy, z), rtol=1e-9, atol=1e-12)


ALL = [10.0**k for k in range(-30, 31, 3)]
EVERYWHERE = np.array([[*ALL, *(-v for v in ALL), 0.0, math.inf, -math.inf, math.nan, 0.3, -0.7, 3.0, -9.0]])


@pytest.mark.parametrize("activation", CASES, ids=repr)
@pytest.mark.parametrize("of_one", [True, False], ids=["alone", "in a row"])
def test_float32_agrees_with_float64_everywhere(activation, of_one):
    narrow = EVERYWHERE.astype(np.float32)
    if of_one or activation.rowwise:
        narrow = narrow.T
    if activation.rowwise and not of_one:
        narrow = np.column_stack([narrow, np.full_like(narrow, 0.5), -narrow])
    wide = narrow.astype(np.float64)
    ones, scale = np.ones_like(narrow), max([1.0, *activation.numbers.values()])
    y, y64 = forward(activation, narrow), forward(activation, wide)
    dz, dz64 = backward(activation, ones, narrow), backward(activation, ones.astype(np.float64), wide)
    assert y.dtype == dz.dtype == np.float32
    for got, truth in ((y, y64), (dz, dz64)):
        with np.errstate(over="ignore"):
            truth = truth.astype(np.float32)
        got, truth = np.nan_to_num(got, nan=np.nan), np.nan_to_num(truth, nan=np.nan)  # infinite: the largest
        np.testing.assert_allclose(got, truth, rtol=4e-6, atol=4e-6 * scale)


@pytest.mark.parametrize("activation", CASES, ids=repr)
def test_nan_stays_nan(activation):
    z = np.array([[1.0, np.nan, -1.0]])
    assert np.isnan(forward(activation, z)[0, 1])
    if activation is not activations.linear and (activation.name != "relu" or activation is activations.relu):
        assert np.isnan(backward(activation, np.ones_like(z), z)[0, 1])


@pytest.mark.parametrize("activation", CASES, ids=repr)
def test_values_may_be_written_over_their_arguments_unless_these_are_retained(activation):
    z = np.random.default_rng(2).normal(scale=3, size=(5, 7))
    expected = forward(activation, z)
    if not activation.retains_input:
        BACKEND.activation_forward(activation, z, z)
        np.testing.assert_array_equal(z, expected)


BY_OUTPUT = (
    "linear", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "softmax", "relu6", "selu", "celu", "hard_sigmoid",
    "soft_shrink", "hard_shrink", "softplus", "squareplus", "log_sigmoid", "exponential", "sparse_sigmoid",
)  # fmt: skip


@pytest.mark.parametrize("name", BY_OUTPUT)
def test_what_needs_no_input_on_the_way_back(name):
    assert not activations.get(name).retains_input


def test_an_activation_is_a_value():
    elu = activations.elu.given(alpha=2.0)
    assert elu == activations.elu.given(alpha=2.0) != activations.elu and hash(elu) != hash(activations.elu)
    assert activations.elu.given(alpha=1.0) == activations.elu
    for same in (
        pickle.loads(pickle.dumps(elu)),
        copy.deepcopy(elu),
        activations.get({"class_name": "elu", "config": elu.get_config()}),
    ):
        assert same == elu and hash(same) == hash(elu)
    assert repr(elu) == "elu(alpha=2.0)" and elu.name == "elu"
    with pytest.raises(TypeError, match=r"elu takes alpha; got 'beta'"):
        activations.elu.given(beta=1.0)
    with pytest.raises(TypeError, match=r"elu takes alpha; got 'beta'"):
        activations.elu([1.0], beta=1.0)


# ---- as layers -------------------------------------------------------------------------------------------------------

AS_LAYERS = [
    (layers.ReLU(), activations.relu),
    (layers.ReLU(1.5, 0.1, 0.2), activations.relu.given(negative_slope=0.1, max_value=1.5, threshold=0.2)),
    (layers.LeakyReLU(), activations.leaky_relu.given(negative_slope=0.3)),
    (layers.LeakyReLU(alpha=0.1), activations.leaky_relu.given(negative_slope=0.1)),
    (layers.ELU(0.5), activations.elu.given(alpha=0.5)),
    (layers.Softmax(), activations.softmax),
]


@pytest.mark.parametrize(("layer", "activation"), AS_LAYERS)
def test_an_activation_as_a_layer(layer, activation):
    z = np.random.default_rng(1).normal(scale=2, size=(5, 7))
    model = models.Sequential([layers.Input((7,)), layer], dtype="float64")
    np.testing.assert_allclose(model.predict(z, verbose=0), forward(activation, z), rtol=1e-12)
    dense = models.Sequential([layers.Dense(4, input_shape=(7,)), pickle.loads(pickle.dumps(layer))], dtype="float64")
    dense.compile("sgd", "mse")
    assert len(set(dense.fit(z, np.ones((5, 4)), epochs=3, verbose=0).history["loss"])) == 3


@pytest.mark.parametrize("given", [layers.ReLU, layers.ReLU(), "relu"])
def test_a_layer_of_an_activation_or_its_class_is_one(given):
    assert layers.Dense(3, activation=given).activation == activations.relu


@pytest.mark.parametrize("given", [layers.PReLU(), layers.Dense(4), layers.Dropout(0.5), layers.BatchNormalization()])
def test_a_layer_that_is_no_function_is_no_activation(given):
    with pytest.raises(TypeError, match=f"such as LeakyReLU; got <{type(given).__name__} .*after this layer"):
        layers.Dense(3, activation=given)


def test_a_layer_s_constants_are_looked_at_and_may_be_set():
    layer = layers.ReLU()
    model, z = models.Sequential([layers.Input((2,)), layer]), np.array([[3.0, -1.0]])
    assert model.predict(z, verbose=0).tolist() == [[3.0, 0.0]]
    layer.max_value = 2.0
    assert model.predict(z, verbose=0).tolist() == [[2.0, 0.0]]
    for make in (
        lambda: layers.ReLU(-1.0), lambda: layers.ReLU(threshold=None), lambda: layers.LeakyReLU(-0.1),
        lambda: layers.LeakyReLU(None), lambda: setattr(layer, "negative_slope", -1.0), lambda: layers.ELU(math.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be a finite number"):
            make()
    with pytest.raises(ValueError, match=r"counted with the batch's, 1 to 2, or .*; got axis=3 for samples of shape"):
        models.Sequential([layers.Input((2, 3)), layers.Softmax(3)])
    assert models.Sequential([layers.Input((2, 3)), layers.Softmax(2)]).predict(np.ones((1, 2, 3))).shape == (1, 2, 3)


def test_configs_of_activations():
    assert activations.serialize("swish") == "silu" and activations.serialize(None) == "linear"
    for found in (activations.celu.given(alpha=0.5), activations.get(activations.celu), activations.mish):
        assert activations.deserialize(activations.serialize(found)) == found
    registered = saving.register_keras_serializable("mine")(mish)
    config = activations.serialize(registered)
    assert config["config"] == "mine>mish" and activations.deserialize(config).function is mish
    with pytest.raises(TypeError, match="named functions"):
        activations.serialize(lambda z: 2.0 * z)


def test_glu_is_for_arrays():
    x = np.arange(8.0).reshape(2, 4)
    np.testing.assert_allclose(activations.glu(x), x[:, :2] * activations.sigmoid(x[:, 2:]))
    np.testing.assert_allclose(activations.glu(x, 0), x[:1] * activations.sigmoid(x[1:]))
    for glu in ("glu", activations.glu):
        with pytest.raises(TypeError, match=r"glu halves the outputs.*activations.glu takes arrays"):
            layers.Dense(4, glu)
    with pytest.raises(ValueError, match=r"halves an axis of an even size; got axis=-1 of shape \(3,\)"):
        activations.glu(np.ones(3))


# ---- a user's own ----------------------------------------------------------------------------------------------------


def mish(z):
    return z * ops.tanh(ops.softplus(z))


def trained(activation):
    model = models.Sequential([layers.Dense(7, activation, input_shape=(3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    model.fit(x, y, epochs=3, verbose=0, shuffle=False)
    return model.get_weights()


OWN = {
    "a function": mish,
    "a closure": (lambda beta: lambda z: z * ops.sigmoid(beta * z))(1.5),
    "by known ones": lambda z: activations.elu(z, 0.5) + activations.tanh(z) + activations.gelu(z, approximate=True),
    "celu": lambda z: ops.maximum(z, 0.0) + ops.minimum(0.5 * ops.expm1(z / 0.5), 0.0),
    "log_softmax": ops.log_softmax,
    "with a row's mean": lambda z: z - ops.mean(z, -1, keepdims=True),
}


@pytest.mark.parametrize("what", OWN)
def test_a_function_of_a_user_s_own(what):
    activation = activations.get(OWN[what])
    rng = np.random.default_rng(1)
    z, dy, h = rng.normal(size=(9, 5)), rng.normal(size=(9, 5)), 1e-6
    expected = np.zeros(z.shape)
    for j in range(5):
        step = h * (np.arange(5) == j)
        expected[:, j] = (dy * (forward(activation, z + step) - forward(activation, z - step)) / (2 * h)).sum(axis=1)
    np.testing.assert_allclose(backward(activation, dy, z), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(activation(z), forward(activation, z))


def test_a_function_trains_as_the_same_known_one_does():
    for known, own in (("silu", lambda z: z * ops.sigmoid(z)), ("softmax", lambda z: ops.softmax(z))):
        for a, b in zip(trained(known), trained(own), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda z: z if z > 0 else 0.0, r"cannot branch on them\. Write ops\.where"),
        (np.tanh, r"function of NumPy.*Use the function of gpumlp\.ops"),
        (lambda z: np.mean(z), "cannot be made an array"),
        (lambda z: ops.sum(z), r"goes along the last axis.*A model takes the mean over the batch"),
        (lambda z: ops.sum(z, axis=0), "got axis=0"),
        (lambda z: ops.sum(z, axis=-1), r"must return a number for each element"),
        (lambda z: ops.sum(z, axis=-1) + z, r"\(batch,\) meets one of \(batch, outputs\)"),
        (lambda z: None, "must return what it computed"),
        (lambda z: z + np.ones(3), "How many outputs .* not known here, as it is for a loss: an array"),
        (len, "cannot ask how many there are"),
    ],
)
def test_what_cannot_be_a_formula_is_refused_in_words(function, words):
    with pytest.raises(TypeError, match=words):
        layers.Dense(3, function)


def test_an_unknown_operation_is_named():
    with pytest.raises(NotImplementedError, match=r"gpumlp has no keras\.ops\.fft\."):
        layers.Dense(3, lambda z: ops.fft(z))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 5e-16), (np.float32, 4e-7)])
def test_erf_is_the_standard_librarys(dtype, tolerance):
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.0, 1e-9, -1e-9, 40.0, -1e4, np.inf, -np.inf]]).astype(dtype)
    out = np.full_like(x, np.nan)
    erf(np, x, out, lambda i, shape, dtype: np.full(shape, np.nan, dtype))
    expected = np.array([math.erf(float(v)) for v in x])
    assert np.abs(out - expected).max() <= tolerance


def test_an_unknown_name_gets_its_near_match_first():
    with pytest.raises(ValueError, match=r"Unknown activation 'rellu'. Did you mean 'relu'"):
        activations.get("rellu")
