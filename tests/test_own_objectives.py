"""Losses, metrics and regularizers of a user's own, from compile to fit, and functions on arrays."""

import functools
import inspect
import pickle

import numpy as np
import pytest

from gpumlp import layers, losses, metrics, models, ops, regularizers
from gpumlp.metrics.metric import Sums

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(60, 3)), RNG.uniform(0.05, 0.95, size=(60, 2))


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")


def model_of(outputs=2, activation=None, dtype="float64", **how):
    model = models.Sequential(
        [layers.Dense(8, "tanh", input_shape=(3,), **how), layers.Dense(outputs, activation)], dtype=dtype
    )
    weights = np.random.default_rng(1)
    model.set_weights([weights.normal(size=w.shape, scale=0.5) for w in model.get_weights()])
    return model


def trained(loss, y=Y, metrics=(), **how):
    model = model_of(**how)
    model.compile("adam", loss, metrics=list(metrics))
    history = model.fit(X, y, epochs=3, batch_size=7, shuffle=False, verbose=0).history
    return history, model.get_weights()


def my_mse(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


class Weighted(losses.Loss):
    def __init__(self, factor):
        super().__init__(name="weighted")
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * ops.mean(ops.square(y_true - y_pred), axis=-1)


SAME = {
    "a function": (my_mse, "mse"),
    "elementwise": (lambda t, p: (t - p) ** 2, "mse"),
    "a partial": (functools.partial(lambda t, p, k: k * ops.mean(abs(t - p), -1), k=1.0), "mae"),
    "a class": (Weighted(1.0), "mse"),
    "known ones": (lambda t, p: 0.5 * losses.mean_squared_error(t, p) + 0.5 * losses.MeanSquaredError()(t, p), "mse"),
    "Keras's function": (losses.huber, "huber"),
    "a hyperbolic cosine": (lambda t, p: ops.mean(ops.log(ops.cosh(p - t)), axis=-1), "log_cosh"),
    "a mean over all": (lambda t, p: ops.mean((t - p) ** 2) / 2 + 0.5 * ops.mean(ops.mean((t - p) ** 2, -1)), "mse"),
    "columns with their axis": (
        lambda t, p: ((t[:, :1] - p[:, :1]) ** 2 + (t[:, 1:2] - p[:, 1:2]) ** 2) / 2, "mse"
    ),
    "of its type": (lambda t, p: ops.mean(abs(ops.cast(t, p.dtype) - p)), "mae"),
    "by columns": (lambda t, p: 0.5 * ((t[:, 0] - p[:, 0]) ** 2 + (t[:, 1] - p[:, 1]) ** 2), "mse"),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_a_loss_of_one_s_own_trains_as_the_known_one(what):
    own, known = SAME[what]
    (history, weights), (expected, others) = trained(own), trained(known)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-10)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_a_class_has_its_constants_and_is_itself():
    double = Weighted(2.0)
    assert trained(double)[0]["loss"][0] == pytest.approx(2 * trained("mse")[0]["loss"][0], rel=0.2)
    assert double != Weighted(2.0) and double == double and len({double, Weighted(2.0)}) == 2
    assert double([[1.0, 3.0]], [[0.0, 0.0]]) == pytest.approx(10.0)
    assert losses.described(double) is double and double.factor == 2.0
    assert pickle.loads(pickle.dumps(double)).factor == 2.0


def nll(t, p):
    """Gaussian: the mean and the logarithm of the deviation are outputs, the target is one number a row."""
    mean, log_deviation = p[:, 0:1], p[:, 1:2]
    return 0.5 * ops.square((t - mean) / ops.exp(log_deviation)) + log_deviation


def focal(t, p):
    p = ops.clip(p, 1e-7, 1.0 - 1e-7)
    return ops.mean(-t * (1.0 - p) ** 2.5 * ops.log(p) - (1.0 - t) * p**2.5 * ops.log(1.0 - p), -1)


def cosine(t, p):
    return -ops.sum(t * p, -1) / (ops.norm(t, axis=-1) * ops.norm(p, axis=-1))


def pinball(q):
    return lambda t, p: ops.mean(ops.maximum(q * (t - p), (q - 1.0) * (t - p)), -1)


def asymmetric(t, p):
    """What is too low costs three times as much."""
    return ops.mean(ops.where(p < t, 3.0, 1.0) * ops.square(t - p), -1)


class Columns(losses.Loss):
    """Outputs by weights, as columns."""

    def __init__(self, first=2.0, **kwargs):
        super().__init__(**kwargs)
        self.first = first

    def call(self, y_true, y_pred):
        error = ops.abs(y_true - y_pred)
        return self.first * error[:, 0] + error[:, 1]


OWN = {
    "pinball": (pinball(0.9), Y, lambda t, p: np.maximum(0.9 * (t - p), -0.1 * (t - p)).mean(1)),
    "asymmetric": (asymmetric, Y, lambda t, p: (np.where(p < t, 3.0, 1.0) * (t - p) ** 2).mean(1)),
    "weighted": (Columns(), Y, lambda t, p: 2 * abs(t - p)[:, 0] + abs(t - p)[:, 1]),
    "nll": (nll, RNG.normal(size=60), lambda t, p: (0.5 * ((t - p[:, :1]) / np.exp(p[:, 1:])) ** 2 + p[:, 1:])[:, 0]),
    "focal": (focal, Y, lambda t, p: (-t * (1 - p) ** 2.5 * np.log(p) - (1 - t) * p**2.5 * np.log(1 - p)).mean(1)),
    "poisson": (lambda t, p: ops.mean(p - t * ops.log(p), -1), Y, lambda t, p: (p - t * np.log(p)).mean(1)),
    "rows beside elements": (
        lambda t, p: ops.mean(p + ops.max(p, -1, True) + ops.square(t), -1), Y,
        lambda t, p: (p + p.max(1, keepdims=True) + t**2).mean(1),
    ),
    "logits by hand": (
        lambda t, p: -ops.sum(t * p - t * ops.logsumexp(p, -1, True) - 0.1 * ops.logsumexp(p, -1, True), -1), Y,
        lambda t, p: -(t * p - (t + 0.1) * np.log(np.exp(p).sum(1, keepdims=True))).sum(1),
    ),
    "all alike": (lambda t, p: ops.mean(10.0 * p + p, -1) + ops.sum(t, -1), Y, lambda t, p: 11 * p.mean(1) + t.sum(1)),
    "sums of ones": (
        lambda t, p: ops.sum(ops.ones_like(p), -1) * ops.mean(ops.square(t - p), -1), Y,
        lambda t, p: 2 * ((t - p) ** 2).mean(1),
    ),
    "logic": (
        lambda t, p: ops.mean(ops.logical_or(t > 0.5, ops.logical_not(p)) * p + (t & p) * ops.square(p), -1), Y,
        lambda t, p: ((t > 0.5) * p + p * p).mean(1),
    ),
    "whole numbers": (
        lambda t, p: ops.mean(p * ops.cast(8.0 * t, "int32") + ops.cast(t, bool) * p * p, -1), Y,
        lambda t, p: (p * np.floor(8 * t) + p * p).mean(1),
    ),
    "odd powers": (
        lambda t, p: ops.mean((p - 2.0) ** 6 + ops.clip(p, None, 5.0) ** 2, -1), Y,
        lambda t, p: ((p - 2) ** 6 + p * p).mean(1),
    ),
    "of one target": (
        lambda t, p: ops.sum(ops.softmax(t) * (1.0 + p * p), -1) + ops.var(t, -1) + ops.logsumexp(t, -1),
        RNG.normal(size=60), lambda t, p: (1 + p * p).sum(1) + t[:, 0],
    ),
    "cosine": (cosine, Y, lambda t, p: -(t * p).sum(1) / np.sqrt((t * t).sum(1) * (p * p).sum(1))),
}  # fmt: skip


@pytest.mark.parametrize("what", OWN)
def test_the_gradient_of_a_loss_of_one_s_own_is_the_central_difference(what):
    function, y, form = OWN[what]
    loss = losses.described(function).for_targets(y.size // 60, 2)
    model = model_of(activation="sigmoid")
    model.compile("sgd", function)
    t, p = y.reshape(60, -1), RNG.uniform(0.1, 0.9, size=(60, 2))
    backend, dp, h = model._runner.backend, np.empty_like(p), 1e-6
    value = backend.loss(loss, t, p, None, dp)
    assert value == pytest.approx(form(t, p).mean(), rel=1e-10)
    for j in range(2):
        step = h * (np.arange(2) == j)
        np.testing.assert_allclose(
            dp[:, j], (form(t, p + step) - form(t, p - step)) / (2 * h) / 60, rtol=1e-6, atol=1e-9
        )
    history = model.fit(X, y, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert model.evaluate(X, y, verbose=0) == pytest.approx(form(t, model.predict(X, verbose=0)).mean(), rel=1e-10)


def close(t, p):
    return ops.mean(abs(t - p) < 0.3, axis=-1)


def test_a_metric_of_one_s_own():
    history, _ = trained("mse", metrics=[close, metrics.mean_absolute_error, "mae"])
    assert history["mean_absolute_error"] == history["mae"]
    model = model_of()
    model.compile("sgd", "mse", metrics=[close], weighted_metrics=[close])
    w = RNG.uniform(size=60)
    found = model.evaluate(X, Y, sample_weight=w, verbose=0, return_dict=True)
    each = (abs(Y - model.predict(X, verbose=0)) < 0.3).mean(1)
    assert found["close"] == pytest.approx(each.mean()) and found["weighted_close"] == pytest.approx(
        (each * w).sum() / w.sum()
    )


class Orthogonal(regularizers.Regularizer):
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * ops.sum(ops.square(x)) + 0.0 * ops.sum(x)


@pytest.mark.parametrize(
    "own", [lambda w: 0.01 * ops.sum(ops.square(w)), Orthogonal(0.01), regularizers.l2, regularizers.L1L2(l2=0.01)]
)
def test_a_regularizer_of_one_s_own(own):
    (history, weights), (expected, others) = (trained("mse", kernel_regularizer=r) for r in (own, "l2"))
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-10)
    np.testing.assert_allclose(weights[0], others[0], rtol=1e-8)
    assert history["loss"] != trained("mse")[0]["loss"]


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_an_orthogonal_regularizer(mode, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")  # which has no kernel for it
    r = regularizers.OrthogonalRegularizer(0.5, mode)
    model = model_of(kernel_regularizer=r, dtype="float32")
    w = model.get_weights()[0] if mode == "rows" else model.get_weights()[0].T
    cosines = [w[i] @ w[j] / np.linalg.norm(w[i]) / np.linalg.norm(w[j]) for i in range(len(w)) for j in range(i)]
    assert r(model.get_weights()[0]) == pytest.approx(0.5 * np.mean(np.abs(cosines)), rel=1e-5)
    model.compile("adam", "mse")
    history = model.fit(X, Y, epochs=30, verbose=0).history["loss"]
    assert r(model.get_weights()[0]) < 0.45 * np.mean(np.abs(cosines)) and history[-1] < history[0]
    assert "OrthogonalRegularizer" in model.program
    assert r == regularizers.get(regularizers.serialize(r)) != regularizers.OrthogonalRegularizer()
    with pytest.raises(ValueError, match="must have rank 2"):
        r(np.ones(3))
    with pytest.raises(ValueError, match="a bias has neither"):
        layers.Dense(3, bias_regularizer=r)
    with pytest.raises(TypeError, match="multiplies rows with each other"):
        regularizers.get(lambda w: r(w) + ops.sum(w))


def test_a_regularizer_of_arrays_is_a_number():
    w = np.array([[1.0, -2.0], [3.0, 0.0]])
    assert regularizers.L1(0.1)(w) == pytest.approx(0.6) and regularizers.L2(0.1)(w) == pytest.approx(1.4)
    assert Orthogonal(0.5)(w) == pytest.approx(7.0)


def test_functions_of_arrays_give_a_value_a_sample():
    t, p = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.25, 0.75]]
    np.testing.assert_allclose(losses.mean_squared_error(t, p), [0.25, 0.0625])
    np.testing.assert_allclose(losses.huber(t, p, 0.1), [0.045, 0.02], rtol=1e-6)
    smooth = losses.CategoricalCrossentropy(label_smoothing=1.0, reduction=None)
    np.testing.assert_array_equal(losses.categorical_crossentropy(t, p, label_smoothing=1.0), smooth(t, p))
    np.testing.assert_allclose(metrics.binary_accuracy(t, p, threshold=0.4), [[1.0, 0.0], [1.0, 1.0]])  # of each place
    assert metrics.binary_accuracy([[1.0], [0.0]], [[0.9], [0.6]]).tolist() == [[1.0], [0.0]]
    np.testing.assert_allclose(metrics.sparse_categorical_accuracy([0, 0], p), [1.0, 0.0])
    with pytest.raises(ValueError, match="delta must be a finite number > 0; got 0"):
        losses.huber(t, p, 0)
    columns = losses.binary_crossentropy(np.transpose(t), np.transpose(p), axis=0)
    np.testing.assert_allclose(columns, losses.binary_crossentropy(t, p))
    with pytest.raises(ValueError, match=r"axis must be one, or several, of 2 axes; got 2"):
        losses.binary_crossentropy(t, p, axis=2)
    with pytest.raises(ValueError, match="`axis` must be of type `int`"):
        losses.CategoricalCrossentropy(axis=True)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda t, p: 0.0 if p > t else p, r"cannot branch on them\. Write ops\.where"),
        (lambda t, p: np.mean((t - p) ** 2), "cannot be made an array"),
        (lambda t, p: np.abs(t - p), "function of NumPy"),
        (lambda t, p: ops.sum(t - p) * p[:, 0], "goes along the last axis"),
        (lambda t, p: ops.sqrt(ops.mean(p)) * ops.mean(p, axis=-1), "sqrt of a mean over the whole batch, beside"),
        (lambda t, p: ops.mean(t) * p, r"mul of a mean over the whole batch.*ops.mean\(x, axis=-1\)"),
        (lambda t, p: ops.mean(t[1:] - p[1:]), r"Columns: x\[:, 1\], counted from 0"),
        (lambda t, p: ops.mean(t - p, axis=0), "got axis=0"),
        (lambda t, p: ops.sum(t, -1) - p, r"\(batch,\) meets one of \(batch, outputs\)"),
        (lambda t, p: "no", "must return what it computed"),
        (lambda t, p: (ops.mean(t - p, -1), ops.mean(p, -1)), "must return what it computed"),
        (lambda t, p: p % 2.0, "cannot take a remainder"),
        (lambda t, p: ops.mean(ops.square(t - p), -1) * np.ones(60), r"\(batch,\) meets one of \(batch, outputs\)"),
        (lambda t, p: ops.mean(t - p, -1) * np.ones((60, 2)), "An array would be other data"),
        (lambda t, p: ops.sum(p * ops.max(t, axis=(0, 1)), -1), r"got axis=\(0, 1\)"),
        (type("Empty", (losses.Loss,), {})(), r"needs a method call"),
    ],
)
def test_what_cannot_be_a_loss_is_refused_in_words_when_it_is_compiled(loss, words):
    with pytest.raises(TypeError, match=words):
        model_of().compile("sgd", loss)


def test_what_arrays_have_and_symbols_have_not_is_named():
    with pytest.raises(AttributeError, match=r"have no 'mean': .* ops\.mean\(x, axis=-1\)"):
        model_of().compile("sgd", lambda t, p: (t - p).mean(axis=-1))
    with pytest.raises(AttributeError, match="have no 'ndim'"):
        model_of().compile("sgd", lambda t, p: p * p.ndim)
    model = model_of()
    model.compile("sgd", lambda t, p: (t - p) / p.shape[0])
    with pytest.raises(TypeError, match="got NoneType"):  # how many samples there are
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_columns_that_are_not_there_are_refused(kernels, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", kernels)
    with pytest.raises(ValueError, match=r"activation <lambda> of layer 'd' reads column 8 of its argument.*are 7"):
        models.Sequential([layers.Input((3,)), layers.Dense(7, lambda x: x + x[:, 8:9], name="d")])
    model = model_of(dtype="float32")
    model.compile("sgd", lambda t, p: ops.square(p[:, 5] - t[:, 0]))
    with pytest.raises(ValueError, match="reads column 5 of the predictions, counted from 0; there are 2"):
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    "function",
    [lambda t, p: ops.mean((t - p) ** 5 + 0.1 * p**7, -1), lambda t, p: ops.mean(ops.power(p - t, 3.0 + 0.0 * t), -1)],
)
def test_powers_of_negative_numbers(function, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    model = model_of(dtype="float32")
    model.compile("sgd", function)
    t, p = Y, model.predict(X, verbose=0).astype(float)
    found = model.evaluate(X, Y, verbose=0)
    expected = ((t - p) ** 5 + 0.1 * p**7).mean() if "5" in str(function.__code__.co_consts) else ((p - t) ** 3).mean()
    assert found == pytest.approx(expected, rel=2e-4)


def test_a_deep_formula(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")

    def deep(t, p):
        e = t - p
        for _ in range(300):
            e = ops.tanh(e) * 0.9 + e * 0.1
        return ops.mean(ops.square(e), -1)

    model = model_of(dtype="float32")
    model.compile("sgd", deep)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


def test_numbers_of_two_formulas_do_not_meet():
    kept = []
    model = model_of()
    model.compile("sgd", lambda t, p: kept.append(p) or ops.mean(p, -1))
    with pytest.raises(TypeError, match="numbers of two formulas"):
        model.compile("sgd", lambda t, p: ops.mean(p - kept[0], -1))


def test_an_unknown_operation_is_named():
    with pytest.raises(NotImplementedError, match=r"gpumlp has no keras\.ops\.fft\."):
        model_of().compile("sgd", lambda t, p: ops.fft(t - p))
    with pytest.raises(TypeError, match=r"ops\.cumsum is of arrays alone"):
        model_of().compile("sgd", lambda t, p: ops.cumsum(t - p))


def test_a_loss_of_arrays_is_what_its_formula_gives_for_them():
    """Of each element where it is one of elements, so that weights may be, too."""
    each = type("Each", (losses.Loss,), {"call": lambda self, t, p: ops.square(t - p)})
    t, p = np.array([1.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.3])
    assert each()(t, p, [0.5, 1.0, 0.0]) == pytest.approx(((t - p) ** 2 * [0.5, 1.0, 0.0]).mean())
    np.testing.assert_allclose(each(reduction=None)(t[:, None], p), (t - p)[:, None] ** 2)
    with pytest.raises(ValueError, match=r"y_true \(3,\), y_pred \(3, 3\)"):
        each()(t, np.ones((3, 3)))


def test_targets_of_another_width_are_refused():
    model = model_of()
    model.compile("sgd", my_mse)
    with pytest.raises(ValueError, match=r"2 values per sample, as the model's output has, or one"):
        model.fit(X, np.zeros((60, 3)), verbose=0)


def test_arguments_are_given_once():
    loss = losses.Huber(0.5)
    with pytest.raises(AttributeError, match="delta of a Huber is given when it is made"):
        loss.delta = 1.0
    with pytest.raises(TypeError, match=r"Huber: too many positional arguments; it takes \(delta=1.0"):
        losses.Huber(1.0, None, "h", None, 2.0)
    assert pickle.loads(pickle.dumps(loss)) == loss and loss.get_config()["delta"] == 0.5


KINDS = sorted({*losses.KNOWN.values(), *Sums.known.values()}, key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__.split('.')[1]}-{kind.__name__}")
def test_a_constructor_says_what_its_formula_takes(kind):
    """What it declares in its own source has the function's names and defaults, and its name in lists."""
    assert "__init__" in vars(kind)
    declared = inspect.signature(kind).parameters
    assert kind.arguments == tuple(declared)
    own = {name: p.default for name, p in declared.items() if name not in ("name", "reduction", "dtype")}
    if kind.function is None:  # a loss of arrays alone
        constants = {n: p.default for n, p in inspect.signature(losses.circle).parameters.items() if n in own}
    else:
        constants = {name: kind.constant_defaults[name] for name in own}
        assert set(kind.constant_defaults) - set(own) <= {"axis"}
        assert declared["name"].default == kind.default_name
    assert own == constants
    assert declared["dtype"].default is None
    assert eval(repr(kind()), {kind.__name__: kind}) == kind()
