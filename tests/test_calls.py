"""Models and layers called on arrays: in training mode or not, built by it, and what they are not called on."""

import copy
import pickle
import threading

import numpy as np
import pytest

from gpumlp import layers, models
from gpumlp.engine import runner as runners
from gpumlp.utils import set_random_seed

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def build(*stack, **more):
    set_random_seed(0)
    return models.Sequential([layers.Input((4,)), *stack], **more)


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [None, False, 0])
def test_a_call_is_a_prediction(family, training):
    model = build(layers.Dense(3, "tanh"), layers.Dropout(0.5), layers.Dense(2))
    np.testing.assert_array_equal(model(X, training=training), model.predict(X, verbose=0))
    np.testing.assert_array_equal(model(X.tolist()), model.predict(X, verbose=0))


def test_in_training_mode_masks_go_on_from_call_to_call_and_are_those_of_the_seed():
    def outputs():
        model = build(layers.Dropout(0.5, seed=7))
        return [model(np.ones((50, 4)), training=True) for _ in range(3)]

    found = outputs()
    for one, again in zip(found, outputs(), strict=True):
        assert set(np.unique(one)) == {0.0, 2.0} and 60 < one.sum() / 2 < 140
        np.testing.assert_array_equal(one, again)
    assert (found[0] != found[1]).any() and (found[1] != found[2]).any()


def test_training_mode_is_one_batch_whatever_its_size(monkeypatch):
    model = build(layers.Dropout(0.5, seed=7), layers.Dense(2))
    whole = model(X, training=True)
    monkeypatch.setattr(runners, "HOST_BYTES", 1)
    other = build(layers.Dropout(0.5, seed=7), layers.Dense(2))
    np.testing.assert_array_equal(other(X, training=True), whole)
    assert not other._runner._programs  # what is large is not kept


def test_training_mode_without_dropout_is_a_prediction(family):
    model = build(layers.Rescaling(0.5), layers.Dense(3, "gelu"), layers.Dense(2, "softmax"))
    np.testing.assert_allclose(model(X, training=True), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_call_builds_a_model():
    for training in (False, True):
        model = models.Sequential([layers.Dense(3), layers.Flatten()])
        assert model(X.reshape(6, 4), training=training).shape == (6, 3) and model.built
    square = models.Sequential([layers.Flatten(), layers.Dense(3)])
    assert square(X.reshape(6, 2, 2), training=True).shape == (6, 3)


def test_a_copy_goes_on_with_the_masks():
    model = build(layers.Dropout(0.5, seed=7))
    model(X, training=True)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(X, training=True), copy.deepcopy(model)(X, training=True))


@pytest.mark.parametrize("what", ["x", None, object(), layers.Input((4,)), layers.Dense(2)])
def test_what_is_no_array_is_said(what):
    model = build(layers.Dense(2))
    for called in (model, model.layers[0], layers.Dense(2)):
        with pytest.raises((TypeError, ValueError), match=r"array of numbers|no functional API"):
            called(what)


def test_an_output_that_has_no_data_is_told_of_the_functional_api():
    model = build(layers.Dense(2))
    for what in (layers.Input((4,)), model.output, model.layers[0].output, model):
        for called in (model, layers.Dense(2)):
            with pytest.raises(TypeError, match=r"no functional API: Sequential"):
                called(what)


def test_samples_of_another_shape_and_masks_are_refused():
    model = build(layers.Dense(2))
    with pytest.raises(ValueError, match=r"samples of shape \(3,\)"):
        model(X[:, :3], training=True)
    with pytest.raises(ValueError, match="masks"):
        model(X, mask=np.ones(6))


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_a_layer_by_itself_is_built_by_its_first_call(family):
    layer = layers.Dense(3, "tanh", bias_initializer="ones")
    found = layer(X)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (4, 3) and found.dtype == np.float32 and type(found) is np.ndarray
    np.testing.assert_allclose(found, np.tanh(X @ kernel + bias), rtol=1e-5)
    np.testing.assert_array_equal(layer(X), found)
    np.testing.assert_array_equal(layer.call(X), found)
    with pytest.raises(ValueError, match="made for samples"):
        layer(X[:, :3])


@pytest.mark.parametrize("axes", [(), (4,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize(
    ("layer", "right"),
    [
        (layers.ReLU(), lambda x: np.maximum(x, 0)),
        (layers.Activation("tanh"), np.tanh),
        (layers.Rescaling(2.0, 1.0), lambda x: 2 * x + 1),
        (layers.Dropout(0.5), lambda x: x),
        (layers.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    ],
)
def test_a_layer_without_weights_takes_any_axes(layer, right, axes):
    x = np.random.default_rng(1).standard_normal(axes)
    if isinstance(layer, layers.Softmax) and not axes:
        return
    found = layer(x)
    assert found.shape == axes and found.dtype == np.float32
    np.testing.assert_allclose(found, right(x), rtol=1e-5, atol=1e-6)


def test_flatten_and_dense_say_what_one_axis_is():
    assert layers.Flatten()(np.ones(5)).shape == (5, 1) and layers.Flatten()(np.ones((2, 3, 4))).shape == (2, 12)
    with pytest.raises(ValueError, match="Dense layer"):
        layers.Dense(4)(np.ones(4))
    assert layers.Flatten().compute_output_shape((5,)) == (5, 1) and layers.ReLU().compute_output_shape((5,)) == (5,)
    assert layers.Input((3,)).call() is None
    assert layers.Input((3,))(np.ones((2, 3))).shape == (2, 3)


def test_a_dtype_of_its_own_is_what_comes_out():
    assert layers.Dense(2, dtype="float64")(X).dtype == np.float64
    assert layers.Dense(2)(X.astype(np.float64)).dtype == np.float32
    assert layers.ReLU(dtype="float64")(X.astype(int)).dtype == np.float64


def test_dropout_called_in_training_mode():
    layer, other = layers.Dropout(0.25, seed=3), layers.Dropout(0.25, seed=3)
    first, second = (layer(np.ones((40, 10)), training=True) for _ in range(2))
    assert (first != second).any() and set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_array_equal(other(np.ones((40, 10)), training=True), first)
    np.testing.assert_array_equal(layer(np.ones((40, 10))), np.ones((40, 10)))


def test_a_layer_of_a_model_has_the_model_s_weights_while_it_trains():
    model = build(layers.Dense(5, "tanh"), layers.Dense(1))
    model.compile("sgd", "mse")
    first, last = model.layers
    for _ in range(3):
        np.testing.assert_allclose(last(first(X)), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
        model.fit(X, X[:, :1], epochs=1, verbose=0)
    first.set_weights([np.zeros((4, 5)), np.zeros(5)])
    assert (first(X) == 0).all()
    alone = layers.Dense(5)
    before = alone(X)
    np.testing.assert_allclose(build(alone)(X), before, rtol=1e-6)


def test_layers_called_by_threads_beside_training():
    model = build(layers.Dense(16, "tanh"), layers.Dense(16, "tanh"), layers.Dense(1))
    model.compile("sgd", "mse")
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    layer, right, wrong = model.layers[0], model.layers[0](X), []

    def ask():
        for _ in range(30):
            if not (layer(X) == right).all():
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    model.fit(X, X[:, :1], epochs=20, verbose=0)
    for thread in threads:
        thread.join()
    assert not wrong


def test_shapes_and_penalties_without_data():
    model = build(layers.Dense(3, kernel_regularizer="l2"), layers.Dense(2))
    assert model.compute_output_shape((None, 4)) == (None, 2) and model.compute_output_shape((7, 4)) == (7, 2)
    assert models.Sequential([layers.Flatten()]).compute_output_shape((None, 2, 3)) == (None, 6)
    with pytest.raises(ValueError, match=r"takes samples of shape \(4,\)"):
        model.compute_output_shape((None, 5))
    kernel = model.layers[0].get_weights()[0]
    (penalty,) = model.losses
    np.testing.assert_allclose([penalty, *model.layers[0].losses], 0.01 * (kernel**2).sum(), rtol=1e-5)
    assert model.layers[1].losses == [] and layers.Dense(2, kernel_regularizer="l1").losses == []
    model.trainable = False
    assert model.losses == []
    active = layers.ActivityRegularization(l1=0.2, l2=0.3)
    assert active.losses == [] and active(2 * np.ones((2, 1))).shape == (2, 1)
    np.testing.assert_allclose(active.losses, [0.2 * 2 + 0.3 * 4], rtol=1e-6)


def test_layers_with_a_state_are_called():
    norm = layers.BatchNormalization(momentum=0.5)
    np.testing.assert_allclose(norm(X, training=True).mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(norm.get_weights()[2], 0.5 * X.mean(axis=0), rtol=1e-4)
    before = norm.get_weights()
    np.testing.assert_allclose(norm(X)[0], (X[0] - before[2]) / np.sqrt(before[3] + 1e-3), rtol=1e-4)
    np.testing.assert_array_equal(norm.get_weights()[2], before[2])
    model = build(layers.BatchNormalization(momentum=0.5))
    model(X, training=True)
    np.testing.assert_allclose(model.get_weights()[2], before[2], rtol=1e-6)
    adapted = layers.Normalization()
    adapted.adapt(X)
    np.testing.assert_allclose(adapted(X), (X - X.mean(axis=0)) / X.std(axis=0), rtol=1e-3, atol=1e-5)
    assert layers.Normalization(axis=None, mean=1.0, variance=1.0)(np.ones(3)).shape == (3,)
