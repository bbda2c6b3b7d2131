"""Keras's operations on arrays: what callbacks and metrics of a user's own compute with."""

import numpy as np
import pytest

from gpumlp import arrays, config, layers, metrics, models, ops


def test_they_are_numpy_s():
    x = np.arange(6.0, dtype="float32").reshape(2, 3)
    assert ops.shape(x) == (2, 3) and ops.size(x) == 6
    np.testing.assert_array_equal(ops.reshape(ops.transpose(x), (1, -1)), [[0, 3, 1, 4, 2, 5]])
    np.testing.assert_array_equal(ops.matmul(x, x.T), x @ x.T)
    np.testing.assert_array_equal(ops.concatenate([x, x], axis=1), np.hstack([x, x]))
    assert ops.any([0, 1]) and not ops.all([0, 1])
    copied = ops.convert_to_numpy(x)
    copied[0] = 7
    assert x[0, 0] == 0 and all(callable(getattr(ops, name)) for name in arrays.FUNCTIONS)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_what_is_made_of_no_doubles_is_of_the_default_type(kind):
    before = config.floatx()
    config.set_floatx(kind)
    try:
        found = [ops.linspace(0.0, 1.0, 3), ops.eye(2), ops.stack([1.0, 2.0]), ops.full((2,), 0.5)]
        assert [a.dtype for a in found] == [kind] * 4
        assert ops.stack([np.ones(2), np.zeros(2)]).dtype == ops.eye(2, dtype="float64").dtype == np.float64
        assert ops.arange(3).dtype.kind == "i"
    finally:
        config.set_floatx(before)


def test_no_formula_can_have_one():
    for function in (lambda z: ops.stack([z, z]), lambda z: ops.reshape(z, (-1,)), lambda z: ops.sort(x=z)):
        with pytest.raises(TypeError, match="is of arrays alone"):
            layers.Dense(3, function)


class TruePositives(metrics.Metric):
    """As Keras's guide has it."""

    def __init__(self, name="tp", **kwargs):
        super().__init__(name=name, **kwargs)
        self.found = self.add_weight(shape=(), initializer="zeros", name="found")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.reshape(ops.argmax(y_pred, axis=1), (-1, 1))
        right = ops.cast(ops.equal(ops.cast(y_true, "int32"), ops.cast(y_pred, "int32")), "float32")
        if sample_weight is not None:
            right = ops.multiply(right, ops.broadcast_to(ops.reshape(sample_weight, (-1, 1)), ops.shape(right)))
        self.found.assign_add(ops.sum(right))

    def result(self):
        return self.found


def test_a_metric_of_a_user_s_own_computes_with_them():
    x, y = np.eye(4, 3), np.array([0, 1, 2, 0])
    model = models.Sequential([layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[TruePositives()])
    right = (model.predict(x, verbose=0).argmax(1) == y).sum()
    assert model.evaluate(x, y, verbose=0, return_dict=True)["tp"] == right


def test_comparisons_say_yes_or_no():
    """As they do in Keras, so that they can choose from an array; in a formula they are 1 or 0."""
    x = np.array([-1.0, np.nan, 2.0], "float32")
    for found, expected in (
        (ops.greater(x, 0), [False, False, True]), (ops.less(x, 0.0), [True, False, False]),
        (ops.greater_equal(2, x), [True, False, True]), (ops.less_equal(x, x), [True, False, True]),
        (ops.equal(x, 2), [False, False, True]), (ops.not_equal(x, 2), [True, True, False]), (ops.isnan(x), [0, 1, 0]),
        (ops.logical_and(x > 0, [1, 1, 1]), [0, 0, 1]), (ops.logical_or(x > 0, [1, 0, 0]), [1, 0, 1]),
        (ops.logical_not([1, 0, 2]), [0, 1, 0]),
    ):  # fmt: skip
        assert found.dtype == bool and found.tolist() == expected
    assert x[ops.greater(x, 0)].tolist() == [2.0]


def test_numbers_of_python_s_take_the_array_s_type():
    """And alone, or in lists, the default one; an array keeps its own."""
    x = np.ones(2, "float32")
    single = [ops.relu(x), ops.maximum(x, 0), 1.0 / ops.sqrt(x), ops.multiply(2, x), ops.square([1.0, 2.0]),
              ops.sum([1, 2]), ops.one_hot([0, 1], 2), ops.convert_to_tensor([1.0]), ops.cast([1.0, 2.0], "float32"),
              ops.divide(np.array([1, 2]), 2), ops.zeros(2)]  # fmt: skip
    assert [a.dtype for a in single] == ["float32"] * len(single)
    double = [
        ops.relu(np.ones(2)),
        ops.add(x, np.ones(2)),
        ops.exp(np.float64(1)),
        ops.exp(1),
        ops.convert_to_tensor(np.ones(2)),
    ]
    assert [a.dtype for a in double] == ["float64"] * len(double)
    assert ops.convert_to_tensor([1, 2]).dtype.kind == "i" and ops.cast(x > 0).dtype == bool
