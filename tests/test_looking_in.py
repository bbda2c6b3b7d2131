"""What models and layers show of themselves: weights as variables, shapes, layers by name, models among layers."""

import gc
import pickle
import weakref

import numpy as np
import pytest

import gpumlp
from gpumlp import Sequential, Variable, layers, optimizers


def model():
    found = Sequential([layers.Input((3,)), layers.Dense(4, "relu", name="first"), layers.Dense(2, use_bias=False)])
    found.compile("sgd", "mse")
    return found


X, Y = np.linspace(-1, 1, 24).reshape(8, 3), np.linspace(0, 1, 16).reshape(8, 2)


def test_weights_are_variables_in_the_order_of_get_weights():
    one = model()
    assert [w.path for w in one.weights] == ["first/kernel", "first/bias", f"{one.layers[1].name}/kernel"]
    assert [w.name for w in one.weights] == ["kernel", "bias", "kernel"]
    assert [w.shape for w in one.weights] == [(3, 4), (4,), (4, 2)] and one.weights[0].size == 12
    for weight, array in zip(one.weights, one.get_weights(), strict=True):
        assert np.array_equal(weight.numpy(), array) and np.array_equal(np.asarray(weight), array)
        assert weight.dtype == "float32" and weight.value.dtype == np.float32 and weight.trainable
    assert one.layers[0].kernel is one.weights[0] and one.layers[1].bias is None
    assert "path=first/bias, shape=(4,), dtype=float32" in repr(one.layers[0].bias)


@pytest.mark.parametrize("computed", [False, True])
def test_a_weight_is_set_where_it_stands(computed):
    one = model()
    if computed:  # then it stands in an arena
        one.fit(X, Y, verbose=0)
    kernel = one.layers[0].kernel
    kernel.assign(np.full((3, 4), 2.0))
    kernel.assign_add(np.ones((3, 4)))
    assert np.array_equal(kernel.assign_sub(np.full((3, 4), 0.5)), np.full((3, 4), 2.5))
    one.layers[0].bias.assign(np.zeros(4))
    one.weights[2].assign(np.ones((4, 2)))
    expected = np.maximum(X @ np.full((3, 4), 2.5), 0) @ np.ones((4, 2))
    np.testing.assert_allclose(one.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-5)
    before = kernel.numpy()
    with pytest.raises(ValueError, match=r"first/kernel.*\(3, 4\).*\(4, 3\)"):
        kernel.assign(np.ones((4, 3)))
    with pytest.raises(TypeError, match="numbers"):
        kernel.assign(np.full((3, 4), "a"))
    assert np.array_equal(kernel.numpy(), before)


def test_a_variable_computes_as_an_array_does():
    one = Variable([1.0, 2.0], name="mine")
    assert np.array_equal(one * 2 + one, [3.0, 6.0]) and np.array_equal(2 - one, [1.0, 0.0]) and one[1] == 2.0
    assert float(Variable(3.0)) == 3.0 and int(Variable(3.0)) == 3 and np.sum(one) == 3.0 and len(one) == 2
    assert np.array_equal(np.ones((1, 2)) @ one, [3.0]) and one.ndim == 1 and {one: 1}[one] == 1
    one += 1  # an array by now, as for Keras's
    assert isinstance(one, np.ndarray)
    assert Variable(lambda shape, dtype: np.ones(shape, dtype), (2, 3)).shape == (2, 3)


def test_what_trains_is_said_by_layers_and_models():
    one = model()
    one.layers[0].trainable = False
    assert [w.path for w in one.non_trainable_weights] == ["first/kernel", "first/bias"]
    assert one.trainable_variables == [one.layers[1].kernel] and one.layers[0].trainable_weights == []
    one.trainable = False
    assert one.trainable_weights == [] and len(one.non_trainable_variables) == 3 == len(one.variables)


def test_shapes_before_and_after_they_are_known():
    one = model()
    assert (one.input_shape, one.output_shape) == ((None, 3), (None, 2))
    assert one.inputs[0].shape == (None, 3) == one.input.shape and one.outputs[0].dtype == "float32"
    assert one.layers[1].input_shape == (None, 4) and one.layers[1].output.shape == (None, 2) == one.output.shape
    assert layers.Dense(5).compute_output_shape((None, 3)) == (None, 5)
    unbuilt = Sequential([layers.Dense(2)])
    assert unbuilt.weights == []
    for of, name in ((unbuilt, "input_shape"), (unbuilt, "outputs"), (unbuilt.layers[0], "output")):
        with pytest.raises(AttributeError, match="no defined"):
            getattr(of, name)
    with pytest.raises(AttributeError, match="You must build the layer before accessing `kernel`"):
        _ = unbuilt.layers[0].kernel
    assert not hasattr(layers.Flatten(), "kernel")
    with pytest.raises(AttributeError, match="assign"):
        one.layers[0].kernel = np.ones((3, 4))


def test_a_layer_is_found_by_its_name_or_place():
    one = model()
    assert (
        one.get_layer("first") is one.get_layer(index=0) is one.layers[0] and one.get_layer(index=-1) is one.layers[1]
    )
    for wrong in ({}, {"name": "first", "index": 0}, {"name": "nobody"}, {"index": 2}):
        with pytest.raises(ValueError, match=r"get_layer takes|No such layer: nobody.*'first'|at index 2"):
            one.get_layer(**wrong)


def test_reprs_say_what_a_thing_is():
    assert repr(model().layers[0]) == "<Dense first: units=4, activation=relu>"
    assert repr(Sequential(name="m")) == "<Sequential m: 0 layers, not built, not compiled>"


def test_variables_keep_their_layer_and_nothing_else():
    one = model()
    seen, kernel = weakref.ref(one), one.layers[0].kernel
    del one
    gc.collect()
    assert seen() is None and kernel.shape == (3, 4)
    again = pickle.loads(pickle.dumps(model()))
    assert again.layers[0].kernel.shape == (3, 4)


def test_a_layer_has_a_dtype_that_its_model_takes():
    one = Sequential([layers.Dense(2, input_shape=(3,), dtype="float64"), layers.Dense(1)])
    assert one.dtype == np.float64 and one.predict(X, verbose=0).dtype == np.float64
    assert one.layers[1].dtype == one.layers[1].variable_dtype == "float64"
    with pytest.raises(ValueError, match="one dtype"):
        Sequential([layers.Dense(2, dtype="float64"), layers.Dense(1, dtype="float32")])
    with pytest.raises(ValueError, match="float16"):
        layers.Dense(2, dtype="mixed_float16")
    assert layers.Input((3,), dtype="int32").given_shape == (3,)


def test_a_model_is_a_layer_of_another_one():
    inner = Sequential([layers.Flatten(input_shape=(3, 1)), layers.Dense(4, "tanh"), layers.Dense(2)], name="inner")
    inner.compile("sgd", "mse")
    outer = Sequential([inner, layers.Softmax(), layers.Dense(1)])
    assert outer.layers[0] is inner and outer.get_layer("inner") is inner and len(outer.weights) == 6
    assert (outer.input_shape, outer.output_shape) == ((None, 3, 1), (None, 1)) and outer.count_params() == 29
    x = X.reshape(8, 3, 1)
    logits = inner.predict(x, verbose=0)
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    kernel, bias = outer.layers[2].get_weights()
    np.testing.assert_allclose(outer.predict(x, verbose=0), soft @ kernel + bias, rtol=1e-5, atol=1e-6)
    before = inner.get_weights()
    outer.compile("sgd", "mse")
    outer.fit(x, Y[:, :1], verbose=0)
    assert all(not np.array_equal(a, b) for a, b in zip(before, inner.get_weights(), strict=True))  # one and the same
    frozen = Sequential([layers.Dense(3), inner])
    inner.trainable = False
    with pytest.raises(ValueError, match="'inner', or a layer in it, is in the model already"):
        frozen.add(inner)
    copied = pickle.loads(pickle.dumps(outer))
    assert (
        np.array_equal(copied.predict(x, verbose=0), outer.predict(x, verbose=0)) and copied.layers[0].name == "inner"
    )


def test_a_model_that_was_not_built_is_built_inside_another_one():
    inner = Sequential([layers.Dense(2)])
    outer = Sequential([layers.Input((3,)), layers.Dense(4), inner])
    assert inner.built and outer.layers[1] is inner and inner.weights[0].shape == (4, 2)
    assert inner.predict(np.ones((1, 4)), verbose=0).shape == (1, 2)
    with pytest.raises(ValueError, match="is in the model already"):
        Sequential([layers.Input((3,)), outer, inner, outer.layers[0]])
    assert gpumlp.Variable is Variable


def test_an_optimizer_shows_what_it_keeps_in_keras_order():
    one = model()
    one.compile(optimizers.Adam(0.01), "mse")
    assert [v.name for v in one.optimizer.variables] == ["iteration", "learning_rate"]
    one.fit(X, Y, batch_size=4, verbose=0)
    found = one.optimizer.variables
    last = f"{one.layers[1].name}_kernel"
    names = [f"{n}_{k}" for n in ("first_kernel", "first_bias", last) for k in ("momentum", "velocity")]
    assert [v.name for v in found] == ["iteration", "learning_rate", *names]
    assert int(found[0]) == 2 and float(found[1]) == np.float32(0.01) and found[2].shape == (3, 4)
    assert found[2].path == f"{one.optimizer.name}/first_kernel_momentum" and np.any(found[2].numpy())
    for variable in found[2:]:
        variable.assign(np.zeros(variable.shape))
    found[0].assign(0)
    assert one.optimizer.iterations == 0 and not any(np.any(v) for v in one.optimizer.variables[2:])
    other = model()
    other.compile(optimizers.Adam(0.01), "mse")
    other.set_weights(one.get_weights())
    for each in (one, other):  # the state of both is new
        each.fit(X, Y, shuffle=False, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert [v.name for v in optimizers.SGD(0.1).variables] == ["iteration", "learning_rate"]
