"""Losses and activations called on arrays, and the names, classes and dicts that `get` takes. Numbers: Keras 3.15."""

import math
import re

import numpy as np
import pytest

from gpumlp import (
    activations,
    config,
    initializers,
    layers,
    losses,
    metrics,
    naming,
    optimizers,
    regularizers,
    utils,
)

Y, P = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]]
CROSSENTROPIES = (losses.BinaryCrossentropy, losses.CategoricalCrossentropy, losses.SparseCategoricalCrossentropy)


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_a_loss_of_vectors_is_one_value_times_every_weight():
    got = losses.MeanSquaredError()([1, 2, 3], [1, 2, 5], sample_weight=[1, 1, 2])
    assert got == pytest.approx(1.77778, abs=1e-5)
    assert losses.MeanSquaredError()([1, 2, 3], [1, 2, 5]) == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("loss", "t", "expected"),
    [
        (losses.MeanSquaredError, Y, [0.0466667, 0.1266667]),
        (losses.MeanAbsoluteError, Y, [0.2, 0.3333333]),
        (losses.Huber, Y, [0.0233333, 0.0633333]),
        (losses.BinaryCrossentropy, Y, [0.2283930, 0.4243219]),
        (losses.CategoricalCrossentropy, Y, [0.3566749, 0.6931472]),
        (losses.SparseCategoricalCrossentropy, [1, 0], [0.3566749, 0.6931472]),
    ],
)
def test_a_loss_goes_over_the_last_axis_of_any_shape(loss, t, expected):
    values = loss(reduction=None)
    np.testing.assert_allclose(values(t, P), expected, rtol=1e-5)
    np.testing.assert_allclose(values(t[0], P[0]), expected[0], rtol=1e-5)
    np.testing.assert_allclose(values([t, t], [P, P]), [expected] * 2, rtol=1e-5)
    np.testing.assert_allclose(values([[t]], [[P]]), [[expected]], rtol=1e-5)
    np.testing.assert_allclose(loss()([t, t], [P, P]), np.mean(expected), rtol=1e-5)
    assert values(np.zeros((0, 3) if np.ndim(t) == 2 else (0,)), np.zeros((0, 3))).shape == (0,)


def test_a_last_axis_of_one_comes_and_goes():
    for loss in (losses.MeanSquaredError, losses.Huber, losses.BinaryCrossentropy):
        t, p = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.6, 0.9])
        expected = loss(reduction=None)(t[:, None], p[:, None])
        assert expected.shape == (3,)
        np.testing.assert_array_equal(loss(reduction=None)(t, p[:, None]), expected)
        np.testing.assert_array_equal(loss(reduction=None)(t[:, None], p), expected)
    sparse = losses.SparseCategoricalCrossentropy(reduction=None)
    np.testing.assert_array_equal(sparse([[1], [0]], P), sparse([1, 0], P))


@pytest.mark.parametrize(
    ("shape", "weights", "expected"),
    [
        ((2, 3), (), 2.0), ((2, 3), (1,), 2.0), ((2, 3), (2,), 1.5), ((2, 3), (2, 1), 1.5), ((2, 4, 3), (2, 4), 4.5),
        ((2, 4, 3), (2, 4, 1), 4.5), ((2, 4, 3), (4,), 2.5), ((2, 4, 3), (2, 1), 1.5), ((3,), (3,), 2.0),
    ],
)  # fmt: skip
def test_weights_are_of_the_values_in_whatever_shape_goes(shape, weights, expected):
    """Errors are 1 everywhere, weights 1, 2, 3, ...: the result is their mean over the values."""
    w = np.arange(1.0, math.prod(weights) + 1).reshape(weights) if weights else 2.0
    if weights == (1,):
        w = [2.0]
    assert losses.MeanSquaredError()(np.zeros(shape), np.ones(shape), sample_weight=w) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sum", 5), ("mean", 2.5), ("sum_over_batch_size", 2.5), ("mean_with_sample_weight", 5 / 3), (None, [0, 5]),
     ("none", [0, 5])],
)  # fmt: skip
def test_every_reduction(reduction, expected):
    got = losses.MeanSquaredError(reduction)([[1, 2], [3, 4]], [[1, 2], [5, 5]], sample_weight=[1, 2])
    np.testing.assert_allclose(got, expected)


@pytest.mark.parametrize("loss", CROSSENTROPIES)
def test_a_crossentropy_never_broadcasts(loss):
    sparse = loss is losses.SparseCategoricalCrossentropy
    shapes = [((2, 3), (3, 3)), ((3,), (4,)), ((3, 3), (3,)), ((4,), (3, 3)), ((1, 4), (2, 4))]
    shapes += [] if sparse else [((3, 1), (3, 3)), ((3,), (3, 3)), ((1, 3), (3, 3)), ((3, 3), (3, 2))]
    for t, p in shapes:
        with pytest.raises(ValueError, match="must have the same shape"):
            loss()(np.zeros(t), np.full(p, 0.5))


def test_what_a_loss_cannot_take_is_said_in_words():
    mse, sparse = losses.MeanSquaredError(), losses.SparseCategoricalCrossentropy()
    for call, words in (
        (lambda: mse(np.zeros((2, 3)), np.zeros((2, 4))), r"do not go together: y_true \(2, 3\), y_pred \(2, 4\)"),
        (lambda: mse(1.0, 2.0), "must have one; got two numbers"),
        (lambda: mse([], []), "has none"),
        (lambda: mse([[1, 2]] * 3, [[1, 2]] * 3, [1, 2]), "one weight per value"),
        (lambda: mse([[1], [1, 2]], [1]), "rectangular"),
        (lambda: mse(["a"], [1]), "array of numbers"),
        (lambda: mse(None, [1]), "array of numbers"),
        (lambda: mse(np.ma.masked_less([1.0, -1.0], 0), [1.0, 1.0]), "has masked values"),
        (lambda: sparse([0, 3], P), "class numbers 0 to 2; got 3"),
        (lambda: sparse([0, -1], P), "class numbers 0 to 2; got -1"),
        (lambda: sparse([0, 0.5], P), "class numbers 0 to 2; got 0.5"),
        (lambda: losses.MeanSquaredError("summed"), "Invalid value for argument `reduction`.*'sum'.*got 'summed'"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()


def test_a_loss_computes_in_the_default_type_but_keeps_arrays_of_float64(monkeypatch):
    mse = losses.MeanSquaredError()
    assert mse([1.0], [2.0]).dtype == mse(np.array([1]), np.array([2])).dtype == np.float32
    assert mse(np.array([1.0]), np.array([2.0])).dtype == np.float64
    assert losses.MeanSquaredError(dtype="float64")([1], [2]).dtype == np.float64
    assert mse(np.float16([1]), np.float16([2])).dtype == np.float32
    monkeypatch.setattr(config, "_floatx", "float64")
    assert mse([1.0], [2.0]).dtype == np.float64


def test_a_model_is_trained_on_one_number_a_batch():
    assert losses.for_models(losses.Huber(2.0, reduction="mean", name="mine")) == losses.Huber(2.0, reduction="mean")
    with pytest.raises(NotImplementedError, match="one number a batch; mean_squared_error has reduction='none'"):
        losses.for_models(losses.MeanSquaredError("none"))
    for loss, words in (
        (losses.CosineSimilarity(axis=0), "axis=0, which arrays may have. Give axis=-1"), (losses.dice, "axis=None"),
        ("circle", "circle compares the samples of a batch with each other"),
        (losses.SparseCategoricalCrossentropy(ignore_class=0), "Give these samples class 0 and sample_weight 0"),
    ):  # fmt: skip
        with pytest.raises(NotImplementedError, match=words):
            losses.for_models(loss)


# ---- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (2, 1, 4, 3), (0,), (0, 3), (2, 0), (2, 0, 3)])
def test_softmax_goes_over_the_last_axis(shape):
    x = np.random.default_rng(1).normal(size=shape)
    with np.errstate(all="ignore"):
        e = np.exp(x)
        expected = e / e.sum(axis=-1, keepdims=True)
    got = activations.softmax(x)
    assert got.shape == shape
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_softmax_over_another_axis():
    x = np.random.default_rng(1).normal(size=(2, 4, 3))
    for axis in (0, 1, 2, -1, -2, -3):
        np.testing.assert_allclose(activations.softmax(x, axis), np.exp(x) / np.exp(x).sum(axis, keepdims=True))
    flat = activations.softmax(x.reshape(2, 12)).reshape(2, 4, 3)
    np.testing.assert_allclose(activations.softmax(x, (1, 2)), flat)
    np.testing.assert_allclose(activations.softmax(x.swapaxes(0, 1), (-1, 0)), flat.swapaxes(0, 1))
    for wrong in (3, 1.0, (0, 0), "last"):
        with pytest.raises(ValueError, match=r"softmax: axis must be one, or several, of 3 axes; got|must be of type"):
            activations.softmax(x, wrong)
    with pytest.raises(ValueError, match="last axis"):
        activations.softmax(1.0)


@pytest.mark.parametrize("activation", dict.fromkeys(activations.KNOWN.values()), ids=lambda a: a.name)
def test_an_activation_takes_any_shape_and_number(activation):
    row = activation(np.array([[-1.5, 0.5]], np.float32))[0]
    for x in ([-1.5, 0.5], [[-1.5, 0.5]], np.float32([[[-1.5, 0.5]]]), np.float64([[[[-1.5, 0.5]]]])):
        got = activation(x)
        assert got.shape == np.shape(x)
        assert got.dtype == (np.float64 if getattr(x, "dtype", None) == np.float64 else np.float32)
        np.testing.assert_allclose(np.ravel(got), row, rtol=1e-6)
    for dtype in (np.float16, np.int64, np.uint8, bool):
        assert activation(np.ones(3, dtype)).dtype == np.float32
    assert activation([1, 2]).dtype == np.float32
    for shape in ((0,), (0, 3), (3, 0)):
        assert activation(np.zeros(shape)).shape == shape
    if not activation.rowwise:
        assert np.ndim(activation(-1.5)) == 0
        np.testing.assert_allclose(activation(-1.5), row[0], rtol=1e-6)
    x = np.array([[-1.5, 0.5]])
    activation(x[:, ::-1])
    assert x.tolist() == [[-1.5, 0.5]]
    with pytest.raises(TypeError, match="array of numbers"):
        activation(["a"])


def test_constants_are_given_after_x_in_keras_order():
    x = np.array([-2.0, 3.0])
    np.testing.assert_allclose(activations.leaky_relu(x, 0.5), [-1, 3])
    np.testing.assert_allclose(activations.relu(x, 0.5), [-1, 3])
    np.testing.assert_allclose(activations.elu(x, 2.0), [2 * math.expm1(-2), 3])
    np.testing.assert_array_equal(activations.gelu(x, True), activations.gelu.given(approximate=True)(x))
    np.testing.assert_array_equal(activations.gelu.given(approximate=True)(x, False), activations.gelu(x))
    np.testing.assert_allclose(activations.relu([-2.0, 0.2, 3.0, 9.0], 0.1, 6.0, 0.5), [-0.25, -0.03, 3, 6], rtol=1e-6)
    assert np.isnan(activations.relu(np.nan, 0.1, 6.0, 0.5))


# ---- names -----------------------------------------------------------------------------------------------------------

GETS = [
    (losses.described, losses.Huber(), ("huber", "Huber", losses.Huber, losses.Huber()), {"delta": 2.0}),
    (losses.described, losses.MeanSquaredError(), ("mse", "MSE", "mean_squared_error", "MeanSquaredError"),
     {"name": "loss"}),
    (activations.get, activations.leaky_relu, ("leaky_relu", "LeakyRelu", "LeakyReLU"), {"negative_slope": 0.3}),
    (initializers.get, initializers.GlorotUniform(), ("glorot_uniform", "GlorotUniform", initializers.GlorotUniform),
     {"seed": 3}),
    (initializers.get, initializers.Constant(), ("constant", "Constant", initializers.constant), {"value": 2.0}),
    (regularizers.get, regularizers.L1L2(), ("l1_l2", "L1L2", "l1l2", regularizers.L1L2), {"l1": 0.5}),
    (regularizers.get, regularizers.L2(), ("l2", "L2", regularizers.L2, regularizers.l2()), {"l2": 0.5}),
    (metrics.get, metrics.BinaryAccuracy(), ("binary_accuracy", metrics.BinaryAccuracy), {"name": "mine"}),
]  # fmt: skip


@pytest.mark.parametrize(("get", "expected", "identifiers", "changed"), GETS)
def test_get_takes_names_classes_objects_and_dicts(get, expected, identifiers, changed):
    for identifier in identifiers:
        assert get(identifier) == expected, identifier
    name = next(i for i in identifiers if isinstance(i, str))
    assert get({"class_name": name, "config": {}}) == expected
    ((key, value),) = changed.items()
    got = get({"module": "keras", "class_name": name, "config": changed})
    if get is not losses.described or key != "name":
        assert (got.get_config() if isinstance(got, activations.Activation) else vars(got))[key] == value


def test_a_metric_has_the_name_that_it_was_asked_for_by():
    names = [metrics.get(n).name for n in ("mse", "MeanSquaredError", "mae")]  # alone: its class's
    assert names == ["mean_squared_error", "mean_squared_error", "mean_absolute_error"]
    assert metrics.get("AUC").name.startswith("auc")  # with a number from the second one on
    in_model = metrics.get("mse", loss=losses.described("mse"), target_width=1, output_width=1)
    assert in_model.name == "mse"
    assert metrics.get(None) is None
    mse = losses.described("mse")
    assert isinstance(metrics.get("acc", loss=mse, target_width=1, output_width=1), metrics.BinaryAccuracy)
    assert isinstance(metrics.get("acc", loss=mse, target_width=1, output_width=3), metrics.SparseCategoricalAccuracy)
    assert isinstance(metrics.get("accuracy", loss=mse, target_width=3, output_width=3), metrics.CategoricalAccuracy)
    with pytest.raises(ValueError, match="depends on a model; name one of binary_accuracy"):
        metrics.get("acc")


@pytest.mark.parametrize(
    ("get", "wrong", "near"),
    [(losses.get, "huper", "huber"), (losses.get, "MeanSquaredEror", "mean_squared_error"),
     (activations.get, "Rellu", "relu"), (initializers.get, "GlorotUnifrom", "glorot_uniform"),
     (metrics.get, "acuracy", "accuracy"),
     (optimizers.get, "adm", "adam")],
)  # fmt: skip
def test_an_unknown_name_has_its_near_matches_first(get, wrong, near):
    with pytest.raises(ValueError, match=f"Unknown .* {wrong!r}. Did you mean '({near})'.* Known: "):
        get(wrong)


@pytest.mark.parametrize("get", [losses.get, activations.get, initializers.get, regularizers.get, metrics.get])
def test_what_is_no_name_at_all_is_refused_in_words(get):
    for wrong in (3, [1], object):
        with pytest.raises(TypeError, match="must be a name"):
            get(wrong)
    with pytest.raises(ValueError, match="'class_name'"):
        get({"config": {}})


# ---- arguments -------------------------------------------------------------------------------------------------------

NUMBERS = [
    (losses.Huber, "delta"), (activations.leaky_relu.given, "negative_slope"), (activations.elu.given, "alpha"),
    (losses.BinaryCrossentropy, "label_smoothing"), (losses.CategoricalCrossentropy, "label_smoothing"),
    (lambda l1: regularizers.L1L2(math.nan if l1 is None else l1), "l1"),  # None is the default
    (lambda l1: regularizers.L1(math.nan if l1 is None else l1), "l1"),
    (lambda l2: regularizers.L2(math.nan if l2 is None else l2), "l2"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "0.5", None, [0.5]], ids=repr)
def test_a_constant_is_a_finite_number(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        kind(**{name: value})
    assert kind(**{name: np.float32(0.5)}).get_config()[name] == 0.5


def test_a_constant_lies_in_its_bounds():
    for make in (lambda: losses.Huber(0), lambda: losses.Huber(-1), lambda: activations.elu.given(alpha=-0.1),
                 lambda: losses.BinaryCrossentropy(label_smoothing=1.1), lambda: regularizers.L1(-1),
                 lambda: activations.leaky_relu.given(negative_slope=-1)):  # fmt: skip
        with pytest.raises(ValueError, match="must be a finite number >"):
            make()
    for make in (lambda: losses.BinaryCrossentropy("no"), lambda: activations.gelu.given(approximate=2),
                 lambda: losses.SparseCategoricalCrossentropy(None)):  # fmt: skip
        with pytest.raises(ValueError, match="must be True or False"):
            make()
    for seed in ("1", True, 1.5, -1):
        with pytest.raises(ValueError, match="seed must be"):
            initializers.HeNormal(seed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Lambda(abs, mask=True),
        lambda: layers.Input((3,), sparse=True),
    ],
)  # fmt: skip
def test_what_keras_has_and_is_not_here_is_refused(make):
    with pytest.raises(NotImplementedError, match=r"works with \w+=\S+ only; got"):
        make()


def test_neutral_values_of_what_is_not_here_are_taken():
    losses.CategoricalCrossentropy(True, 0.1, -1, "sum_over_batch_size", "mine", None)
    losses.SparseCategoricalCrossentropy(True, None, "sum", -1, "mine", "float64")
    metrics.BinaryAccuracy("mine", None, 0.5)
    assert layers.Input((3,), 8, "float32").given_shape == (3,)
    assert layers.Input(batch_shape=(None, 4)).given_shape == (4,)
    assert layers.Dropout(0.5, None, 7).key == 7
    assert optimizers.AdamW(0.1, 0.2, 0.3, 0.4, 0.5, False).weight_decay == 0.2
    for wrong in ({"shape": (3,), "batch_shape": (None, 3)}, {"batch_shape": 3}):
        with pytest.raises(ValueError, match="batch_shape"):
            layers.Input(**wrong)


def test_a_constant_initializer_takes_a_number_or_an_array():
    assert initializers.Constant([1.0, 2.0])((3, 2)).tolist() == [[1, 2]] * 3
    for wrong in (math.nan, "1", None, True, [1.0, math.inf]):
        with pytest.raises((ValueError, TypeError), match="value must be"):
            initializers.Constant(wrong)


def test_initializers_take_any_shape_and_the_default_type():
    for kind in dict.fromkeys(initializers.KNOWN.values()):
        assert kind()((3, 2)).dtype == np.float32
        assert kind()([3, 2], "float64").shape == (3, 2)


def test_labels_become_one_hot_rows_or_words():
    assert utils.to_categorical([0.0, 1.7]).tolist() == [[1, 0], [0, 1]]
    assert utils.to_categorical(2).tolist() == [0, 0, 1]
    assert utils.to_categorical([[[1], [0]]]).shape == (1, 2, 2)
    assert utils.to_categorical([], 3).shape == (0, 3)
    for x, classes, words in (
        ([], None, "no labels"), ([3], 2, "lie in"), ([-1], None, "lie in"), ([math.nan], None, "NaN"),
        ([1], 2.0, "whole"), (["a"], None, "numbers"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=words):
            utils.to_categorical(x, classes)


def test_numbers_and_flags_are_looked_at():
    assert naming.number("n", np.int64(3)) == 3.0
    inf = math.inf
    assert naming.number("n", 0.0, 0.0, 1.0) == 0.0 and naming.number("n", 1.0, 0.0, 1.0, above=True) == 1.0
    for value, bounds, words in (
        (0, (0.0, 1.0, True), " > 0 and <= 1"), (1.0, (0.0, 1.0, False, True), " >= 0 and < 1"),
        (1.5, (0.0, 1.0, False, True), " >= 0 and < 1"), (0.5, (-inf, 0.0), " <= 0"), (-1.0, (0.0, inf, True), " > 0"),
        (math.nan, (0.0,), " >= 0"), (inf, (), ""), (-inf, (-inf, 0.0), " <= 0"), (True, (), ""), ("1", (), ""),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(f"n must be a finite number{words}; got {value!r}.")):
            naming.number("n", value, *bounds)
    assert naming.flag("f", np.True_) is True


def test_a_loss_s_name_is_a_function_s_or_a_class_s():
    """As in Keras: the function gives a number for each sample, the class's object one for all."""
    t, p = [[1.0, 2.0], [0.0, 0.0]], [[0.0, 2.0], [3.0, 0.0]]
    for name in ("mse", "MSE", "mean_squared_error"):
        assert losses.get(name) is losses.mean_squared_error
        np.testing.assert_allclose(losses.get(name)(t, p), [0.5, 4.5])
    assert losses.get("MeanSquaredError")(t, p) == losses.get({"class_name": "mse", "config": {}})(t, p) == 2.5
    assert losses.get("circle") is losses.circle and losses.get("Circle") == losses.Circle()
    assert losses.deserialize(losses.serialize(losses.huber)) is losses.huber
    assert losses.get(losses.huber) is losses.huber and losses.get(None) is None
