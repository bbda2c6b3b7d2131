"""Layers without kernels of their own: values, gradients, training on every device, what they refuse."""

import copy
import json
import pickle

import numpy as np
import pytest
from test_cuda_models import flat

from gpumlp import Ensemble, activations, layers, models, ops, random, regularizers
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.engine.operations import Site, operations_of
from gpumlp.engine.runner import CALLS
from gpumlp.utils import set_random_seed

STEP = 3
RNG = np.random.default_rng(5)
SCALES, OFFSETS = [0.5, -2.0, 3.0, 1.0], np.arange(4.0)


def squared(x):
    return 0.3 * ops.sum(ops.square(x))


def centred(x, factor=1.0):
    return factor * (x - ops.mean(x, axis=-1, keepdims=True))


CASES = {  # by name: a layer, and samples that it takes
    "Dense on two axes": (lambda: layers.Dense(3), (5, 4)),
    "Dense on three axes, gelu": (lambda: layers.Dense(2, "gelu", use_bias=False), (2, 3, 4)),
    "Dense on two axes, softmax": (lambda: layers.Dense(3, "softmax"), (5, 4)),
    "PReLU": (lambda: layers.PReLU("glorot_uniform"), (17,)),
    "PReLU of one number": (lambda: layers.PReLU("ones"), (1,)),
    "PReLU, shared": (lambda: layers.PReLU("uniform", shared_axes=[1, 3]), (2, 3, 4)),
    "Softmax over the first axis": (lambda: layers.Softmax(1), (5, 4)),
    "Softmax over the middle": (lambda: layers.Softmax(-2), (2, 3, 4)),
    "Softmax over two axes": (lambda: layers.Softmax((1, 3)), (2, 3, 4)),
    "Softmax over all": (lambda: layers.Softmax([1, 2]), (5, 4)),
    "Rescaling, vectors": (lambda: layers.Rescaling(SCALES, OFFSETS), (5, 4)),
    "Rescaling, a vector and a number": (lambda: layers.Rescaling(np.array([[2.0], [-1.0]]), 0.5), (2, 3)),
    "Permute": (lambda: layers.Permute((3, 1, 2)), (2, 3, 4)),
    "Flatten, channels first": (lambda: layers.Flatten("channels_first"), (2, 3, 4)),
    "RepeatVector": (lambda: layers.RepeatVector(3), (7,)),
    "Lambda": (lambda: layers.Lambda(centred, arguments={"factor": 0.5}), (5, 4)),
    "GaussianNoise": (lambda: layers.GaussianNoise(0.3, seed=7), (17,)),
    "GaussianDropout": (lambda: layers.GaussianDropout(0.3, seed=7), (5, 4)),
    "AlphaDropout": (lambda: layers.AlphaDropout(0.3, seed=7), (17,)),
    "AlphaDropout, shared": (lambda: layers.AlphaDropout(0.3, (1, None, 1), seed=7), (5, 4)),
    "Dropout, shared": (lambda: layers.Dropout(0.3, (None, 1, None), seed=7), (5, 4)),
    "Dropout of everything": (lambda: layers.Dropout(1.0), (5,)),
    "ActivityRegularization": (lambda: layers.ActivityRegularization(0.1, 0.2), (17,)),
    "Dense, activity": (lambda: layers.Dense(3, "tanh", activity_regularizer=squared), (4,)),
    "Dense, orthogonal activity": (lambda: layers.Dense(3, activity_regularizer="orthogonal_regularizer"), (4,)),
    "Flatten, activity": (lambda: layers.Flatten(activity_regularizer="l1"), (5, 4)),
}  # fmt: skip


class Chain:
    """A layer's operations in float64 by NumPy, with outputs and gradients of NaN until they are written."""

    def __init__(self, make, sample, n):
        self.layer, backend = make(), NumpyBackend()
        self.weights = [RNG.standard_normal(spec.shape) for spec in self.layer.specs(sample)]
        self.grads = [np.full(w.shape, np.nan) for w in self.weights]
        self.ops, out = operations_of(self.layer, sample, 0), int(np.prod(self.layer.result_shape(sample)))
        self.sizes, self.n = [int(np.prod(sample)), *[out] * len(self.ops)], n
        self.sites = []
        for i, (op, size) in enumerate(zip(self.ops, self.sizes[1:], strict=True)):
            kept = op.keep(backend, n + 2, size, np.float64)
            if isinstance(kept, np.ndarray) and kept.flags.writeable and not hasattr(op, "scale"):
                kept[...] = np.nan
            self.sites.append(Site(backend, i, self.weights, self.grads, kept))

    def forward(self, x, step=STEP):
        """Return what comes out of each operation, and all penalties."""
        values, penalty = [x], 0.0
        for op, site, size in zip(self.ops, self.sites, self.sizes[1:], strict=True):
            y = np.full((len(x), size), np.nan)
            op.forward(site, values[-1], y, step)
            penalty += op.penalty(site, y)
            values.append(y)
        return values, penalty

    def value(self, x, dy):
        values, penalty = self.forward(x)
        return float((values[-1] * dy).sum()) + penalty

    def backward(self, x, dy):
        values, _ = self.forward(x)
        for i in range(len(self.ops) - 1, -1, -1):
            dy = self.ops[i].backward(self.sites[i], dy, values[i], values[i + 1], np.full_like(values[i], np.nan))
        return dy


def slopes(f, a, h=1e-6):
    found = np.empty_like(a)
    for i in np.ndindex(a.shape):
        before, a[i] = a[i], a[i] + h
        high, a[i] = f(), before - h
        found[i], a[i] = (high - f()) / (2 * h), before
    return found


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_central_differences(name, n):
    make, sample = CASES[name]
    chain = Chain(make, sample, n)
    x = RNG.standard_normal((n, chain.sizes[0]))
    dy = RNG.standard_normal((n, chain.sizes[-1]))
    dx = chain.backward(x, dy.copy())
    np.testing.assert_allclose(dx, slopes(lambda: chain.value(x, dy), x), rtol=1e-6, atol=1e-8)
    for grad, weight in zip(chain.grads, chain.weights, strict=True):
        np.testing.assert_allclose(grad, slopes(lambda: chain.value(x, dy), weight), rtol=1e-6, atol=1e-8)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


TEXTBOOK = {
    "Dense on two axes": lambda x, k, b: x @ k + b,
    "Dense on three axes, gelu": lambda x, k: activations.gelu(x @ k),
    "Dense on two axes, softmax": lambda x, k, b: softmax(x @ k + b, -1),
    "PReLU": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "PReLU of one number": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "PReLU, shared": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "Softmax over the first axis": lambda x: softmax(x, 1),
    "Softmax over the middle": lambda x: softmax(x, 2),
    "Softmax over two axes": lambda x: softmax(x, (1, 3)),
    "Softmax over all": lambda x: softmax(x, (1, 2)),
    "Rescaling, vectors": lambda x: x * np.array(SCALES) + OFFSETS,
    "Rescaling, a vector and a number": lambda x: x * [[2.0], [-1.0]] + 0.5,
    "Permute": lambda x: np.transpose(x, (0, 3, 1, 2)),
    "Flatten, channels first": lambda x: np.moveaxis(x, 1, -1).reshape(len(x), -1),
    "RepeatVector": lambda x: np.repeat(x[:, None], 3, axis=1),
    "Lambda": lambda x: 0.5 * (x - x.mean(-1, keepdims=True)),
}


def predicted(layer, x):
    model = models.Sequential([layers.Input(x.shape[1:]), layer], dtype="float64")
    weights = [RNG.standard_normal(w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    return model.predict(x, verbose=0), weights


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_textbook_and_without_training_nothing_is_dropped(name):
    make, sample = CASES[name]
    x = RNG.standard_normal((6, *sample))
    found, weights = predicted(make(), x)
    if "activity" in name:
        name = "Dense on two axes" if "orthogonal" in name else ""
        expected = {"": found}.get(name, x @ weights[0] + weights[1] if weights else found)
    else:
        expected = TEXTBOOK.get(name, lambda x: x)(x, *weights)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# ---- what they cost nothing, or what existing kernels do -------------------------------------------------------------


def test_what_only_renames_axes_is_no_operation():
    stack = [layers.Reshape((2, -1)), layers.Identity(), layers.Flatten(), layers.Reshape([3, 2])]
    model = models.Sequential([layers.Input((6,)), *stack])
    assert model._runner.network.ops == () and model._runner.network.output_shape == (3, 2)
    x = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x.reshape(2, 3, 2))


def test_layers_are_called_on_one_sample_too():
    assert layers.Rescaling([1.0, 2.0, 3.0], 0.5)(np.ones(3)).tolist() == [1.5, 2.5, 3.5]
    assert layers.PReLU("ones")(np.array([-2.0, 2.0])).tolist() == [-2.0, 2.0]
    assert layers.Lambda(ops.square)(np.array([-2.0, 2.0])).tolist() == [4.0, 4.0]
    assert layers.GaussianNoise(0.5)(np.ones(3)).tolist() == [1.0] * 3


def test_a_function_of_a_user_s_own_has_kernels(family):
    model = models.Sequential([layers.Input((3,)), layers.Dense(5), layers.Lambda(centred), layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
    x = RNG.standard_normal((20, 3))
    model.fit(x, x[:, :1], verbose=0)
    assert {"numpy": "GPUMLP_KERNELS=numpy", "numba": "compiled for"}.get(family, "CUDA graphs") in model.program


# ---- noise -----------------------------------------------------------------------------------------------------------


def noise_of(layer, n=400, sample=(60,), number=1, step=1, x=1.0):
    chain = Chain(lambda: layer, sample, n)
    chain.sites = [Site(s.backend, number, s.weights, s.grads, s.kept) for s in chain.sites]
    return chain.forward(np.full((n, chain.sizes[0]), x), step)[0][-1]


@pytest.mark.parametrize(
    ("layer", "mean", "deviation"),
    [
        (layers.GaussianNoise(0.3, seed=1), 1.0, 0.3),
        (layers.GaussianDropout(0.3, seed=1), 1.0, (0.3 / 0.7) ** 0.5),
        (layers.Dropout(0.3, (None, 1), seed=1), 1.0, (0.3 / 0.7) ** 0.5),
    ],
)
def test_noise_has_keras_s_mean_and_deviation(layer, mean, deviation):
    found = noise_of(layer, n=20_000)
    assert abs(found.mean() - mean) < 0.02 and abs(found.std() - deviation) < 0.02


def test_alpha_dropout_keeps_mean_and_variance_and_has_keras_s_two_values():
    x, chain = RNG.standard_normal((4000, 50)), Chain(lambda: layers.AlphaDropout(0.2, seed=1), (50,), 4000)
    found = chain.forward(x)[0][-1]
    assert abs(found.mean()) < 0.02 and abs(found.std() - 1.0) < 0.02
    limit = -1.7580993408473766
    a = ((1 - 0.2) * (1 + 0.2 * limit**2)) ** -0.5
    dropped = np.isclose(found, a * limit - a * limit * 0.2)
    assert abs(dropped.mean() - 0.2) < 0.01
    np.testing.assert_allclose(found[~dropped], (a * x - a * limit * 0.2)[~dropped], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout])
def test_noise_is_a_function_of_key_layer_and_step_alone(make):
    layer = make(0.3, seed=11)
    first = noise_of(layer)
    assert (noise_of(make(0.3, seed=11)) == first).all()
    others = [noise_of(layer, step=2), noise_of(layer, number=2), noise_of(make(0.3, seed=12))]
    assert all((other != first).mean() > 0.3 for other in others)
    assert (noise_of(layer, n=7) == first[:7]).all()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: layers.GaussianNoise(0.3, seed=9), lambda numbers: 1 + 0.3 * numbers.standard_normal((6, 17), "f4")),
        (
            lambda: layers.GaussianDropout(0.5, seed=9),
            lambda numbers: 1 + numbers.standard_normal((6, 17), "f4"),
        ),
        (
            lambda: layers.Dropout(0.5, (None, 1), seed=9),
            lambda numbers: 2.0 * np.broadcast_to(numbers.random((6, 1), "f4") >= 0.5, (6, 17)),
        ),
    ],
)
def test_every_family_has_the_same_numbers(family, make, expected):
    model = models.Sequential([layers.Input((17,)), make()])
    found = model(np.ones((6, 17)), training=True)
    np.testing.assert_allclose(found, expected(random.Counted().at(9, 0, CALLS + 1)), rtol=1e-6)


def test_a_dropout_s_shape_of_all_numbers_is_the_usual_dropout():
    one, other = (layers.Dropout(0.3, shape, seed=4) for shape in ((None, None), None))
    assert operations_of(one, (3,), 0) == operations_of(other, (3,), 0)
    shared = layers.Dropout(0.3, (400, 60), seed=4)
    assert (noise_of(shared) == noise_of(other).astype("f4")).all()


def test_along_axes_of_size_1_all_share_one():
    found = noise_of(layers.Dropout(0.5, (1, 1, None), seed=4), sample=(5, 12)).reshape(400, 5, 12)
    assert (found == found[:1, :1]).all() and set(np.unique(found)) == {0.0, 2.0}


def test_a_shape_for_one_size_of_batch_refuses_others():
    model = models.Sequential([layers.Input((3,)), layers.Dropout(0.5, (20, 1)), layers.Dense(1)])
    model.compile(loss="mse")
    x = np.zeros((30, 3))
    model.fit(x[:20], x[:20, :1], batch_size=20, verbose=0)
    with pytest.raises(ValueError, match=r"noise_shape \(20, 1\).*batches of 20 samples; this one has 10"):
        model.fit(x, x[:, :1], batch_size=20, verbose=0, shuffle=False)
    assert model.predict(x, verbose=0).shape == (30, 1)


def test_a_seed_set_later_begins_anew():
    layer = layers.GaussianNoise(0.3)
    drawn = noise_of(layer)
    layer.seed = 5
    assert layer.seed == 5 and (noise_of(layer) == noise_of(layers.GaussianNoise(0.3, 5))).all()
    layer.seed = None
    assert layer.seed is None and (noise_of(layer) != drawn).any()


def test_dropout_of_everything_trains_what_comes_after_alone(family):
    model = models.Sequential([layers.Input((3,)), layers.Dense(4), layers.Dropout(1.0), layers.Dense(2)])
    model.compile(loss="mse", optimizer="sgd")
    before, x = model.get_weights(), RNG.standard_normal((20, 3))
    model.fit(x, x[:, :2] + 1.0, verbose=0)
    after = model.get_weights()
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, True, False]


# ---- training --------------------------------------------------------------------------------------------------------

STACKS = {
    "noise": lambda: [
        layers.GaussianNoise(0.1, seed=1), layers.Dense(9, "selu"), layers.AlphaDropout(0.1, seed=2), layers.Dense(6),
        layers.GaussianDropout(0.1, seed=3), layers.Reshape((2, 3)), layers.Dropout(0.2, (None, 1, None), seed=4),
        layers.Flatten(), layers.Dense(2),
    ],
    "axes": lambda: [
        layers.Rescaling([1.0, 0.5, 2.0]), layers.Dense(12), layers.Reshape((4, 3)), layers.Softmax(1),
        layers.Permute((2, 1)), layers.Dense(5, "gelu", kernel_regularizer="l2"), layers.PReLU("ones", "l1"),
        layers.Flatten(), layers.Dense(2),
    ],
    "penalties": lambda: [
        layers.Dense(9, "tanh", activity_regularizer=regularizers.L1L2(0.01, 0.02)), layers.PReLU(shared_axes=1),
        layers.ActivityRegularization(0.01), layers.RepeatVector(2), layers.Flatten(),
        layers.Dense(2, activity_regularizer=squared),
    ],
    "constraints": lambda: [
        layers.Dense(9, bias_constraint="non_neg"), layers.PReLU("ones", "l2", "unit_norm"), layers.Dense(2),
    ],
}  # fmt: skip


def data(n=57):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return x, np.sin(x @ rng.standard_normal((3, 2))).astype(np.float32)


def trained(name, device, dtype="float32", initial=None):
    x, y = data()
    set_random_seed(0)
    model = models.Sequential([layers.Input((3,)), *STACKS[name]()], dtype=dtype)
    model.compile(loss="mse", optimizer="adam", device=device)
    initial = initial or model.get_weights()
    model.set_weights(initial)
    history = model.fit(x, y, batch_size=25, epochs=8, verbose=0, validation_data=(x[::2], y[::2])).history
    return model, initial, history["loss"] + history["val_loss"]


@pytest.mark.parametrize("name", STACKS)
def test_a_gpu_trains_them_as_numpy_does(gpu, name):
    truth, initial, right = trained(name, "cpu", "float64")
    plain, _, _ = trained(name, "cpu", "float32", initial)
    model, _, losses = trained(name, "cuda", "float32", initial)
    assert model.program.startswith("one operation after the other, by the cuda kernels: no cuda kernel for ")
    np.testing.assert_allclose(losses, right, rtol=2e-4)
    error, own = np.abs(flat(model) - flat(truth)).max(), np.abs(flat(plain) - flat(truth)).max()
    assert error <= max(4 * own, 1e-5)
    x, _ = data()
    np.testing.assert_allclose(model.predict(x, verbose=0), truth.predict(x, verbose=0), atol=1e-4)


@pytest.mark.parametrize("name", STACKS)
def test_the_compiled_kernels_leave_them_to_numpy(monkeypatch, name):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    plain, initial, losses = trained(name, "cpu")
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    model, _, _ = trained(name, "cpu", initial=initial)
    assert "by the numpy kernels: no compiled kernel for " in model.program and losses[15] < losses[8]
    assert (flat(model) == flat(plain)).all()


@pytest.mark.parametrize("name", STACKS)
def test_copies_go_on_as_the_model_does(name):
    model, _, _ = trained(name, "cpu")
    x, y = data()
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for each in (model, *copies):
        each.fit(x, y, shuffle=False, verbose=0)
    assert all((flat(each) == flat(model)).all() for each in copies)


def test_members_of_an_ensemble_are_models_alone(family):
    def model():
        made = models.Sequential([layers.Input((3,)), *STACKS["noise"]()])
        made.compile(loss="mse", optimizer="sgd")
        return made

    x, y = data()
    ensemble = Ensemble(model, 2)
    ensemble.fit(x, y, batch_size=20, epochs=2, verbose=0)
    for k, member in enumerate(ensemble.members):
        set_random_seed(k)
        alone = model()
        alone.fit(x, y, batch_size=20, epochs=2, verbose=0)
        assert (flat(member) == flat(alone)).all()


def test_a_frozen_slope_stays(family):
    model = models.Sequential([layers.Input((3,)), layers.PReLU("ones", trainable=False), layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
    x, y = data()
    model.fit(x, y[:, :1], verbose=0)
    alpha, kernel, _ = model.get_weights()
    assert (alpha == 1.0).all() and kernel.shape == (3, 1)


# ---- penalties -------------------------------------------------------------------------------------------------------


def test_a_penalty_of_outputs_is_a_sum_over_the_batch_s_divided_by_its_size():
    model = models.Sequential([layers.Input((4,)), layers.ActivityRegularization(0.2, 0.3)])
    model.compile(loss="mse")
    x = RNG.standard_normal((7, 4))
    expected = 0.2 * np.abs(x).sum() / 7 + 0.3 * (x**2).sum() / 7
    assert model.evaluate(x, x, verbose=0) == pytest.approx(expected, rel=1e-5)
    parts = [(0.2 * np.abs(p).sum() + 0.3 * (p**2).sum()) / len(p) * len(p) for p in (x[:5], x[5:])]
    assert model.evaluate(x, x, batch_size=5, verbose=0) == pytest.approx(sum(parts) / 7, rel=1e-5)


def test_a_penalty_can_be_set_later():
    layer = layers.Dense(2, activity_regularizer="l2")
    model = models.Sequential([layers.Input((3,)), layer])
    model.compile(loss="mse")
    x, y = data()
    with_it = model.evaluate(x, y, verbose=0)
    layer.activity_regularizer = None
    assert model.evaluate(x, y, verbose=0) < with_it
    regular = layers.ActivityRegularization(0.1)
    regular.l2 = 0.5
    assert regular.activity_regularizer == regularizers.L1L2(0.1, 0.5)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sample", "words"),
    [
        (lambda: layers.Reshape((4, 2)), (6,), r"total size must be unchanged.*\(6,\), 6 numbers"),
        (lambda: layers.Reshape((4, -1)), (6,), "total size"),
        (lambda: layers.Reshape((-1, -1)), (6,), "one of which may be -1"),
        (lambda: layers.Reshape((0, 6)), (6,), "target_shape must be"),
        (lambda: layers.Permute((0, 1)), (2, 3), "Invalid permutation argument `dims`"),
        (lambda: layers.Permute((2, 1)), (6,), "takes samples of 2 axes"),
        (lambda: layers.RepeatVector(0), (6,), "positive integer"),
        (lambda: layers.RepeatVector(2), (2, 3), "samples of one axis"),
        (lambda: layers.Softmax(0), (6,), "axes of its samples, counted with the batch's, 1 to 1"),
        (lambda: layers.Softmax((1, -1)), (6,), "got axis=.1, -1."),
        (lambda: layers.Softmax(3), (5, 4), "1 to 2"),
        (lambda: layers.PReLU(shared_axes=2), (6,), "shares axes"),
        (lambda: layers.PReLU(shared_axes=0), (6,), "counted from 1"),
        (lambda: layers.PReLU(alpha_regularizer="orthogonal_regularizer"), (6,), "rows or columns"),
        (lambda: layers.Dense(2, activity_regularizer="orthogonal_regularizer"), (5, 4), "rows or columns"),
        (lambda: layers.Rescaling([1.0, 2.0]), (3,), r"scale .* must go with samples of shape \(3,\)"),
        (lambda: layers.Rescaling(1.0, [[1.0] * 3] * 2), (3,), "offset .* must go with"),
        (lambda: layers.Rescaling("a"), (3,), "scale must be a finite number"),
        (lambda: layers.Rescaling([1.0, np.nan]), (2,), "or several"),
        (lambda: layers.Flatten("channels"), (3,), "data_format must be"),
        (lambda: layers.Dropout(-0.1), (3,), "rate must be a finite number >= 0 and <= 1; got -0.1"),
        (lambda: layers.AlphaDropout(1.0), (3,), "rate must be a finite number >= 0 and < 1; got 1.0"),
        (lambda: layers.GaussianDropout(1.5), (3,), "rate must be a finite number >= 0 and < 1; got 1.5"),
        (lambda: layers.GaussianNoise(1.5), (3,), "stddev must be a finite number >= 0 and <= 1"),
        (lambda: layers.Dropout(0.5, "Invalid"), (3,), "a tuple or list of integers"),
        (lambda: layers.Dropout(0.5, (None, 1.5)), (3,), "element at index 1: 1.5"),
        (lambda: layers.Dropout(0.5, (None, 0)), (3,), "negative or zero value at index 1"),
        (lambda: layers.Dropout(0.5, (None, 2)), (3,), r"must go with a batch of samples of shape \(3,\)"),
        (lambda: layers.Dropout(0.5, (None, 1, 1)), (3,), "noise_shape of layer"),
        (lambda: layers.Lambda(ops.square, output_shape=(4,)), (3,), r"the shape of its samples, \(3,\)"),
        (lambda: layers.Lambda(lambda x: ops.softmax(x, axis=1)), (5, 4), "another axis than the last"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_before_anything_is_made(make, sample, words):
    with pytest.raises(ValueError, match=words):
        models.Sequential([layers.Input(sample), make()])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (np.exp, "Lambda layer .* hands its arguments to a function of NumPy"),
        (lambda x: ops.sum(x, axis=-1), "must return a number for each element.*Reshape, Flatten"),
        (lambda x: [1.0], "must return what it computed"),
        (lambda x, training: x, "has the argument 'training'"),
        (3, "a function of one array"),
    ],
)
def test_a_function_that_cannot_be_differentiated_is_told(function, words):
    with pytest.raises(TypeError, match=words):
        layers.Lambda(function)


def test_a_lambda_takes_what_keras_s_does():
    layer = layers.Lambda(lambda x, y, mask=1: x * y, lambda shape: shape, None, {"y": 3.0}, name="tripled")
    found, _ = predicted(layer, np.ones((2, 4)))
    assert (found == 3.0).all()
    assert layers.Lambda(centred, arguments={"factor": 2.0}).activation == layers.Lambda(
        centred, arguments={"factor": 2.0}).activation  # fmt: skip
    model = models.Sequential([layers.Input((4,)), layers.Lambda(ops.square, output_shape=4)])
    assert model.predict(np.full((1, 4), 3.0), verbose=0).tolist() == [[9.0] * 4]
    again = pickle.loads(pickle.dumps(layers.Lambda(centred, arguments={"factor": 2.0})))
    assert again.activation == layers.Lambda(centred, arguments={"factor": 2.0}).activation


def test_names_are_keras_s():
    made = [layers.PReLU(), layers.LeakyReLU(), layers.GaussianNoise(0.1), layers.ActivityRegularization()]
    stems = ["p_re_lu", "leaky_re_lu", "gaussian_noise", "activity_regularization"]
    assert all(layer.name.startswith(stem) for layer, stem in zip(made, stems, strict=True))


DESCRIBED = [
    layers.PReLU("ones", "l1", "max_norm", [1], name="p"), layers.GaussianNoise(0.5, 3), layers.GaussianDropout(0.5),
    layers.AlphaDropout(0.5, (None, 1), 3), layers.Dropout(0.5, (None, 1), 3), layers.Rescaling([1.0, 2.0], 0.5),
    layers.ActivityRegularization(0.1, 0.2), layers.Reshape((2, -1)), layers.Permute((2, 1)), layers.RepeatVector(3),
    layers.Identity(), layers.Softmax((1, 2)), layers.Dense(3, activity_regularizer="l2"),
    layers.Activation("relu", activity_regularizer="l1"), layers.Flatten(activity_regularizer="l2"),
    layers.Lambda(ops.square, output_shape=(3,)), layers.Lambda(ops.power, arguments={"x2": 2.0}),
]  # fmt: skip


@pytest.mark.parametrize("layer", DESCRIBED, ids=lambda layer: type(layer).__name__)
def test_layers_are_made_again_of_their_configs(layer):
    again = layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    assert again.activity_regularizer == layer.activity_regularizer


def test_a_lambda_of_a_named_function_is_made_again_and_code_is_not_executed():
    config = layers.Lambda(centred, lambda shape: shape).get_config()
    assert config["function"]["config"] == "centred" and set(config["output_shape"]["config"]) == {
        "code", "defaults", "closure"}  # fmt: skip
    with pytest.raises(ValueError, match="never executes"):
        layers.Lambda.from_config(config, {"centred": centred}, safe_mode=False)
    again = layers.Lambda.from_config(layers.Lambda(centred).get_config(), {"centred": centred})
    assert again.function is centred
