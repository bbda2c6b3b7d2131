"""Constraints: their values, and that trained weights keep to them on every device. Numbers: Keras 3.15."""

import json

import numpy as np
import pytest
from test_cuda_models import build, data, flat

from gpumlp import Sequential, constraints, gate, layers, ops, optimizers, saving

W = np.float32([[0.5, -3.0, 0.0], [1.0, 4.0, 0.0]])
CASES = [
    (constraints.MaxNorm(), [[0.5, -1.2, 0], [1, 1.6, 0]]),
    (constraints.MaxNorm(1.0, 1), [[0.164399, -0.9863939, 0], [0.2425356, 0.9701425, 0]]),
    (constraints.MaxNorm(1.5, [0, 1]), [[0.146385, -0.87831, 0], [0.29277, 1.17108, 0]]),
    (constraints.UnitNorm(), [[0.4472136, -0.6, 0], [0.8944271, 0.8, 0]]),
    (constraints.UnitNorm(1), [[0.164399, -0.9863939, 0], [0.2425356, 0.9701425, 0]]),
    (constraints.MinMaxNorm(2.0, 3.0, 0.5), [[0.6972134, -2.4, 0], [1.3944269, 3.2, 0]]),
    (constraints.MinMaxNorm(2.0, 3.0, axis=1), [[0.493197, -2.9591815, 0], [0.7276069, 2.9104276, 0]]),
    (constraints.NonNeg(), [[0.5, 0, 0], [1, 4, 0]]),
    (constraints.Constraint(), W),
]


@pytest.mark.parametrize(("constraint", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_values_are_keras_s(constraint, expected):
    before = W.copy()
    got = constraint(W)
    assert got.dtype == np.float32 and (before == W).all()
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_allclose(constraint(W.astype(float)), expected, atol=2e-6)
    np.testing.assert_allclose(constraint(W.tolist()), expected, atol=2e-6)


@pytest.mark.parametrize(("constraint", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_configs_make_the_same_again(constraint, expected):
    described = json.loads(json.dumps(constraints.serialize(constraint)))
    assert described["module"] == "keras.constraints"
    assert constraints.deserialize(described) == constraint == saving.deserialize_keras_object(described)


def test_names():
    for name in ("max_norm", "MaxNorm", constraints.max_norm, {"class_name": "MaxNorm", "config": {}}):
        assert constraints.get(name) == constraints.MaxNorm(2)
    assert constraints.get(None) is None and constraints.get(np.abs) is np.abs
    for wrong, words in (
        ("max", "Unknown constraint 'max'"),
        (3, "constraint must be a name"),
        ([1], "must be a name"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            constraints.get(wrong)
    for make, words in (
        (lambda: constraints.MaxNorm(-1), "max_value must be"), (lambda: constraints.UnitNorm("0"), "axis must be"),
        (lambda: constraints.MinMaxNorm(rate=None), "rate must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            make()


# ---- in training -----------------------------------------------------------------------------------------------------


def test_training_is_keras_s():
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    y = x.sum(1, keepdims=True) * 2
    model = Sequential(
        [
            layers.Input((3,)), layers.Dense(4, "tanh", kernel_constraint="max_norm", bias_constraint="non_neg"),
            layers.Dense(1, kernel_constraint=constraints.MaxNorm(0.5)),
        ]
    )  # fmt: skip
    model.compile(optimizers.Adam(0.1), "mse")
    first = np.arange(12, dtype=np.float32).reshape(3, 4) / 10 - np.float32(0.5)
    model.set_weights([first, np.full(4, 0.1), [[1.0], [-1.0], [0.5], [0.25]], [0.0]])
    losses = model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, [13.084488, 10.308426, 9.2514277], rtol=1e-5)
    kernel, bias, head, _ = model.get_weights()
    np.testing.assert_allclose(kernel[0], [-0.058939, -0.857217, 0.166778, 0.286744], atol=1e-5)
    np.testing.assert_allclose(bias, [0, 0.324248, 0, 0], atol=1e-5)
    np.testing.assert_allclose(head[:, 0], [0.147183, -0.281123, 0.278084, 0.268283], atol=1e-5)


def stack(constraint="max_norm"):
    return [layers.Dense(9, "tanh", kernel_constraint=constraint), layers.Dense(2, bias_constraint="non_neg")]


def trained(device=None, initial=None, make=stack, **how):
    x, y = data()
    model = build(device, stack=make())
    model.compile(optimizers.SGD(0.5), "mse", **how)
    initial = initial or model.get_weights()
    model.set_weights(initial)
    model.fit(x, y, batch_size=25, epochs=4, shuffle=False, verbose=0)
    return model, initial


def test_every_kernel_family_leaves_it_to_the_array_library(family):
    model, initial = trained(make=lambda: stack(constraints.MaxNorm(0.25)))
    kernel, _, _, bias = model.get_weights()
    assert np.linalg.norm(kernel, axis=0).max() == pytest.approx(0.25, abs=1e-6) and (bias >= 0).all()
    why = {
        "numpy": "by the numpy kernels: GPUMLP_KERNELS=numpy",
        "numba": "by the numpy kernels: no compiled kernel for MaxNorm, NonNeg",
        "cuda": "by the cuda kernels: no cuda kernel for MaxNorm, NonNeg, which the array library computes",
    }[family]
    assert model.program == f"one operation after the other, {why}"
    plain, _ = trained("cpu", initial, lambda: stack(constraints.MaxNorm(0.25)))
    np.testing.assert_allclose(flat(model), flat(plain), atol=1e-5)


@pytest.mark.parametrize("constraint", [case[0] for case in CASES], ids=lambda case: type(case).__name__)
def test_a_gpu_s_array_library_has_the_same_numbers(gpu, constraint):
    """With the `gpu` of a real one that is CuPy, which other tests have no use for."""
    model, initial = trained("cuda", make=lambda: stack(constraint))
    plain, _ = trained("cpu", initial, lambda: stack(constraint))
    np.testing.assert_allclose(flat(model), flat(plain), atol=1e-4)
    own, _ = trained("cuda", initial, lambda: stack(lambda w: constraint(w)))
    np.testing.assert_allclose(flat(own), flat(plain), atol=1e-4)


def test_a_user_s_own_is_given_numpy_arrays(family):
    seen = set()

    class Clipped(constraints.Constraint):
        def __call__(self, w):
            seen.add(type(w))
            return ops.minimum(ops.maximum(w, -0.1), 0.1)

    model, initial = trained(make=lambda: stack(Clipped()))
    assert seen == {np.ndarray} and np.abs(model.get_weights()[0]).max() == np.float32(0.1)
    other, _ = trained(initial=initial, make=lambda: stack(lambda w: np.clip(w, -0.1, 0.1)))
    assert (flat(model) == flat(other)).all()


def test_frozen_weights_stay_and_have_their_kernels(family):
    def frozen():
        first, last = stack()
        first.trainable, last.bias_constraint = False, None
        return [first, last]

    model, initial = trained(make=frozen)
    assert (model.get_weights()[0] == initial[0]).all() and "MaxNorm" not in model.program


def test_a_constraint_set_later_holds_from_the_next_step_on():
    model, _ = trained(make=lambda: [layers.Dense(9), layers.Dense(2)])
    assert (model.get_weights()[0] < 0).any()
    model.layers[0].kernel_constraint = "non_neg"
    x, y = data()
    model.fit(x, y, verbose=0)
    assert (model.get_weights()[0] >= 0).all()
    with pytest.raises(ValueError, match="Unknown constraint"):
        model.layers[0].kernel_constraint = "non"


def test_what_a_user_s_own_gets_wrong_is_told_in_words():
    for wrong in (lambda w: w[0], lambda w: None):
        with pytest.raises(ValueError, match=r"the constraint <lambda> must return numbers of shape \(3, 9\); got"):
            trained(make=lambda wrong=wrong: stack(wrong))
    model = Sequential([layers.Input((3,)), layers.Dense(2, kernel_constraint=lambda w: model.get_weights()[0])])
    model.compile("sgd", "mse")
    x, y = data()
    with pytest.raises(RuntimeError, match="may use nothing but the weights"):
        model.fit(x, y, verbose=0)
    assert model.optimizer.iterations == 1 and "constraint" in gate.BUSY
    model.layers[-1].kernel_constraint = None
    model.fit(x, y, verbose=0)
