"""Layers of normalization: their gradients, Keras's own numbers, whole trainings on every device, and `adapt`."""

import pickle

import compiled
import numpy as np
import pytest
from test_cuda_models import build, data, flat
from test_golden import agree, every

from gpumlp import Ensemble, layers, models, optimizers
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.engine.operations import Site, operations_of
from gpumlp.layers import adapting

SAMPLE = 3, 2, 2
MADE = [
    lambda: layers.BatchNormalization(),
    lambda: layers.BatchNormalization(axis=1, scale=False),
    lambda: layers.BatchNormalization(axis=2, center=False, epsilon=0.1),
    lambda: layers.BatchNormalization(trainable=False),
    lambda: layers.LayerNormalization(),
    lambda: layers.LayerNormalization(axis=(1, 3), epsilon=0.1),
    lambda: layers.LayerNormalization(axis=[1, 2, 3], scale=False),
    lambda: layers.UnitNormalization(),
    lambda: layers.UnitNormalization(axis=(1, 2)),
    lambda: layers.Normalization(),
    lambda: layers.Normalization(axis=(1, 3), invert=True),
    lambda: layers.Normalization(axis=None, mean=0.5, variance=3.0),
    lambda: layers.Normalization(axis=(1, 3), mean=[1.0, 2.0], variance=[3.0, 0.5]),
]


def site_of(layer, batch, shape=SAMPLE):
    """Return the operation that a layer is, and where it works in float64, with weights of 0.5 to 1.5."""
    rng, backend = np.random.default_rng(1), NumpyBackend()
    op = operations_of(layer, shape, 0)[0]
    weights = [rng.uniform(0.5, 1.5, spec.shape) for spec in layer.specs(shape)]
    kept = op.keep(backend, batch, int(np.prod(shape)), np.float64)
    return op, Site(backend, 0, weights, [np.full_like(w, np.nan) for w in weights], kept, not layer.trainable)


@pytest.mark.parametrize("make", MADE)
def test_gradients_are_those_of_central_differences(make):
    rng, layer = np.random.default_rng(0), make()
    x, dy = rng.standard_normal((2, 5, np.prod(SAMPLE)))
    op, site = site_of(layer, 7)  # there is room for more samples

    def value():
        y = np.empty_like(x)
        op.forward(site, x, y, 1)
        return (y * dy).sum()

    def differences(a):
        found = np.empty_like(a)
        for i in np.ndindex(a.shape):
            now = a[i]
            a[i] = now + 1e-6
            above = value()
            a[i] = now - 1e-6
            found[i], a[i] = (above - value()) / 2e-6, now
        return found

    y = np.empty_like(x)
    op.forward(site, x, y, 1)
    dx = op.backward(site, dy.copy(), x, y, np.empty_like(x))
    trained = [i for i, spec in enumerate(layer.specs(SAMPLE)) if layer.trainable and spec.trainable]
    gradients = [site.grads[i].copy() for i in trained]
    np.testing.assert_allclose(dx, differences(x), atol=1e-7)
    for i, gradient in zip(trained, gradients, strict=True):
        np.testing.assert_allclose(gradient, differences(site.weights[i]), atol=1e-7)


def test_statistics_of_numbers_far_from_0_are_exact():
    x = (np.random.default_rng(0).standard_normal((1000, 3)) + 4096).astype(np.float32)
    layer = layers.BatchNormalization(momentum=0.0, center=False, scale=False)
    model = models.Sequential([layers.Input((3,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, x[:, 0], batch_size=1000, verbose=0)
    mean, variance = layer.get_weights()
    truth = x.astype(np.float64)
    np.testing.assert_allclose(mean, truth.mean(0), rtol=1e-7)
    np.testing.assert_allclose(variance, truth.var(0), rtol=5e-6)  # a thousand summands, one after the other


# ---- Keras's numbers -------------------------------------------------------------------------------------------------


@every("normalization")
def test_trainings_are_keras_s(case):
    given = case.inputs
    x, y, weight = given["x"], given["y"], given["sample_weight"]
    stack = [getattr(layers, kind)(**config) for kind, config in given["stack"]]
    model = models.Sequential([layers.Input((3, 2)), *stack, layers.Dense(1)], dtype="float64")
    model.compile(optimizers.SGD(0.02), "mse")
    model.set_weights(given["weights"])
    if case.name.startswith("adapted"):
        stack[0].adapt(2 * x)
    for weights, outputs in zip(case.expected["steps"], case.expected["outputs"], strict=True):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, sample_weight=weight)
        for i, (ours, theirs) in enumerate(zip(model.get_weights(), weights, strict=True)):
            agree(f"weight array {i}", ours, theirs, rtol=1e-9, atol=1e-12)
        agree("predictions", model.predict(x, verbose=0), outputs, rtol=1e-9, atol=1e-12)


# ---- whole trainings, on every device --------------------------------------------------------------------------------


def stack():
    return [
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.0, 2.0]), layers.Dense(9, use_bias=False),
        layers.BatchNormalization(), layers.Activation("relu"), layers.Dense(6), layers.LayerNormalization(),
        layers.BatchNormalization(center=False, momentum=0.5), layers.Dropout(0.1, seed=3), layers.UnitNormalization(),
        layers.Dense(2),
    ]  # fmt: skip


def trained(device, dtype="float32", initial=None, make=stack, epochs=8):
    """Return a model after some epochs with a ragged last batch, its initial weights, and its losses."""
    x, y = data()
    model = build(device, dtype, make())
    initial = initial or model.get_weights()
    model.set_weights(initial)
    history = model.fit(x, y, batch_size=25, epochs=epochs, verbose=0, validation_data=(x[::2], y[::2])).history
    return model, initial, history["loss"] + history["val_loss"]


def test_every_device_trains_them(gpu):
    truth, initial, right = trained("cpu", "float64")
    plain, _, _ = trained("cpu", "float32", initial)
    model, _, losses = trained("cuda", "float32", initial)
    assert right[7] < 0.9 * right[0]
    np.testing.assert_allclose(losses, right, rtol=1e-4)
    error, own = np.abs(flat(model) - flat(truth)).max(), np.abs(flat(plain) - flat(truth)).max()
    assert error <= max(4 * own, 1e-5)
    x, _ = data()
    np.testing.assert_allclose(model.predict(x, verbose=0), truth.predict(x, verbose=0), atol=1e-4)


def batch_model(**how):
    layer = layers.BatchNormalization(**how)
    model = models.Sequential([layers.Input((3,)), layers.Dense(4, "tanh"), layer, layers.Dense(2)])
    model.compile("sgd", "mse")
    return model, layer


def test_a_batch_of_one_row_is_beta_and_its_averages_move():
    model, layer = batch_model(beta_initializer="ones")
    x, y = data(1)
    assert np.isfinite(model.train_on_batch(x, y))
    mean, variance = layer.get_weights()[2:]
    assert (mean != 0).all()
    np.testing.assert_allclose(variance, 0.99)
    assert np.array_equal(layer.moving_mean, mean) and layer.moving_variance.trainable is False
    assert [weight.path for weight in model.non_trainable_weights] == [
        f"{layer.name}/moving_mean", f"{layer.name}/moving_variance"
    ]  # fmt: skip
    with pytest.raises(AttributeError, match="assign"):
        layer.moving_mean = mean


@pytest.mark.parametrize("whole", [False, True])
def test_a_frozen_layer_is_as_in_inference(whole):
    model, layer = batch_model()
    x, y = data()
    model.fit(x, y, verbose=0)
    before = layer.get_weights()
    (model if whole else layer).trainable = False
    expected = model.evaluate(x, y, verbose=0)
    assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-6)
    assert all(map(np.array_equal, layer.get_weights(), before))


def test_prediction_and_evaluation_leave_the_averages():
    model, layer = batch_model()
    x, y = data()
    before = layer.get_weights()
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert all(map(np.array_equal, layer.get_weights(), before))


@pytest.mark.parametrize("how", [{"use_ema": True}, {"clipnorm": 0.1}, {"gradient_accumulation_steps": 2}])
def test_no_optimizer_touches_the_averages(how):
    found = []
    for more in ({}, how):
        model, layer = batch_model(trainable=True)
        model.set_weights([np.full_like(w, 0.5) * (i + 1) for i, w in enumerate(model.get_weights())])
        model.compile(optimizers.SGD(0.0, weight_decay=0.5, **more), "mse")
        x, y = data()
        model.fit(x, y, epochs=2, verbose=0, shuffle=False)
        found.append(layer.get_weights()[2:])
    assert not np.allclose(found[0][0], 2.5)
    np.testing.assert_array_equal(*[np.array(each) for each in found])


def test_copies_shared_layers_and_ensembles_have_the_averages():
    model, layer = batch_model()
    x, y = data()
    model.fit(x, y, verbose=0)
    copy = pickle.loads(pickle.dumps(model))
    assert all(map(np.array_equal, copy.get_weights(), model.get_weights()))
    shared = models.Sequential(model.layers[:2])
    np.testing.assert_array_equal(shared.get_weights()[4], layer.get_weights()[2])
    ensemble = Ensemble(lambda: batch_model()[0], 2)
    initial = [member.get_weights() for member in ensemble.members]
    ensemble.fit(x, y, epochs=2, batch_size=20, verbose=0, shuffle=False)
    for member, weights in zip(ensemble.members, initial, strict=True):
        alone, _ = batch_model()
        alone.set_weights(weights)
        alone.fit(x, y, epochs=2, batch_size=20, verbose=0, shuffle=False)
        assert all(map(np.array_equal, member.get_weights(), alone.get_weights()))
    with pytest.raises(ValueError, match="training of operation 1"):
        Ensemble(lambda k: batch_model(center=False, scale=False, trainable=k == 0)[0], 2)


# ---- adapt -----------------------------------------------------------------------------------------------------------

VALUES = np.random.default_rng(3).normal(40.0, 3.0, (90, 3, 2)).astype(np.float32)


@pytest.mark.parametrize(("axis", "others"), [(-1, (0, 1)), (1, (0, 2)), ((1, 2), (0,)), (None, (0, 1, 2))])
@pytest.mark.parametrize("cut", [lambda a: a, lambda a: list(np.split(a, [1, 40])), lambda a: ((b, 0) for b in [a])])
def test_adapt_takes_mean_and_variance(axis, others, cut):
    layer = layers.Normalization(axis=axis)
    layer.adapt(VALUES * 2)
    layer.adapt(cut(VALUES))
    truth = VALUES.astype(np.float64)
    mean, variance, count = layer.get_weights()
    np.testing.assert_allclose(mean, truth.mean(others), rtol=1e-6)
    np.testing.assert_allclose(variance, truth.var(others), rtol=1e-6)
    assert count == 0 and layer.variance.shape == np.var(VALUES, others, keepdims=True).shape
    model = models.Sequential([layer])
    out = model.predict(VALUES, verbose=0)
    np.testing.assert_allclose(out.mean(others), 0.0, atol=1e-4)
    np.testing.assert_allclose(out.std(others), 1.0, rtol=1e-4)
    back = models.Sequential([layers.Normalization(axis, *layer.get_weights()[:2], invert=True)])
    np.testing.assert_allclose(back.predict(out, verbose=0), VALUES, rtol=1e-5)
    layer.adapt(VALUES + 1)  # while it stands in an arena
    np.testing.assert_allclose(layer.get_weights()[0], truth.mean(others) + 1, rtol=1e-6)


class Elsewhere:
    """Rows that slices are read of, as HDF5's: it keeps how many rows were asked for at a time."""

    def __init__(self, array):
        self._array, self.shape, self.size, self.ndim, self.asked = array, array.shape, array.size, array.ndim, []

    def __getitem__(self, rows):
        self.asked.append(len(self._array[rows]))
        return self._array[rows]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read as a whole")


@pytest.mark.parametrize("shape", [(100,), (100, 3), (100, 4, 2), (0, 3)])
def test_adapt_reads_what_lies_elsewhere_in_pieces(shape, monkeypatch):
    monkeypatch.setattr(adapting, "PIECE", 60)
    x = np.random.default_rng(3).normal(size=shape)
    there, own, other = Elsewhere(x), layers.Normalization(), layers.Normalization()
    if not len(x):
        with pytest.raises(ValueError, match="no samples"):
            own.adapt(there)
        return
    own.adapt(there)
    other.adapt(x)
    assert sum(there.asked) == 100 and max(there.asked) == 60 * 100 // x.size
    assert [w.tobytes() for w in own.get_weights()] == [w.tobytes() for w in other.get_weights()]


def test_a_layer_that_has_seen_nothing_leaves_numbers_as_they_are():
    x, _ = data()
    np.testing.assert_array_equal(models.Sequential([layers.Normalization()]).predict(x, verbose=0), x)


def test_a_column_of_zeros_is_divided_by_1e_7():
    layer = layers.Normalization()
    layer.adapt(np.zeros((4, 1)))
    np.testing.assert_allclose(models.Sequential([layer]).predict([[1e-7]], verbose=0), [[1.0]])


def test_numbers_without_axes_are_samples_of_one_number():
    layer = layers.Normalization(input_shape=[1], axis=None)
    layer.adapt(VALUES[:, 0, 0])
    np.testing.assert_allclose(layer.get_weights()[0], VALUES[:, 0, 0].mean(), rtol=1e-6)
    model = models.Sequential([layer, layers.Dense(1)])
    assert model.predict(VALUES[:5, 0, 0], verbose=0).shape == (5, 1)


def test_adapt_takes_as_many_batches_as_it_is_told():
    layer = layers.Normalization()
    layer.adapt(VALUES, batch_size=10, steps=2)
    np.testing.assert_allclose(layer.get_weights()[0], VALUES[:20].mean((0, 1)), rtol=1e-6)
    layer.adapt(iter(np.split(VALUES, 9)), steps=3)
    np.testing.assert_allclose(layer.get_weights()[0], VALUES[:30].mean((0, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        (VALUES[:, :, :1], ValueError, "incompatible shape"), ([VALUES, VALUES[..., :1]], ValueError, "incompatible"),
        ([], ValueError, "empty iterable"), (np.zeros((0, 3, 2)), ValueError, "empty iterable"),
        (3, TypeError, "Unsupported data type: int"), ([[1.0, 2.0]], TypeError, "shape"),
        (np.array([["a", "b"]]), TypeError, "Encode it as numbers"), ("text", TypeError, "Unsupported"),
        (np.ma.masked_less(VALUES, 40.0), ValueError, "masked"),
    ],
)  # fmt: skip
def test_what_adapt_does_not_take_changes_nothing(what, error, words):
    layer = layers.Normalization()
    layer.adapt(VALUES)
    before = layer.get_weights()
    with pytest.raises(error, match=words):
        layer.adapt(what)
    assert all(map(np.array_equal, layer.get_weights(), before))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: layers.Normalization(mean=0.5), ValueError, "both `mean` and `variance` must be set"),
        (lambda: layers.Normalization(mean=[0.5], variance=1.0), ValueError, "the same shape"),
        (lambda: layers.Normalization(mean=[[0.5]], variance=[[1.0]]), ValueError, "axes"),
        (lambda: layers.Normalization(mean=[1, 2], variance=[1, 2]).build((None, 3)), ValueError, "stretch to it"),
        (lambda: layers.Normalization(mean=0.0, variance=1.0).adapt(VALUES), ValueError, "nothing to adapt"),
        (lambda: layers.Normalization(axis=3).build((2, 2)), ValueError, "All `axis` values must be in the range"),
        (lambda: layers.Normalization(axis=0).build((2, 2)), ValueError, "is the batch"),
        (lambda: layers.BatchNormalization(axis=-3).build((2, 2)), ValueError, "out of bounds"),
        (lambda: layers.BatchNormalization(axis=[1]), TypeError, "axis must be a whole number"),
        (lambda: layers.LayerNormalization(axis="x"), TypeError, "axis must be a whole number"),
        (lambda: layers.BatchNormalization(momentum=2.0), ValueError, "momentum"),
        (lambda: layers.BatchNormalization(synchronized=True), NotImplementedError, "synchronized"),
        (lambda: setattr(layers.BatchNormalization(), "synchronized", True), NotImplementedError, "synchronized"),
        (lambda: layers.BatchNormalization(renorm=True), NotImplementedError, "renorm"),
        (lambda: layers.BatchNormalization(beta_regularizer="orthogonal_regularizer"), ValueError, "bias"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_states_do_not_count_as_trainable_in_the_summary():
    model, _ = batch_model()
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "Trainable params: 34 " in lines[0] and "Non-trainable params: 8 " in lines[0]


# ---- kernels ---------------------------------------------------------------------------------------------------------


def columns(width, frozen=False):
    return lambda: [
        layers.Normalization(axis=None, mean=0.1, variance=2.0), layers.Dense(width, use_bias=False),
        layers.BatchNormalization(gamma_regularizer="l2", beta_regularizer="l1"), layers.Activation("relu"),
        layers.BatchNormalization(scale=False, momentum=0.5), layers.Dropout(0.1, seed=3), layers.Dense(width, "tanh"),
        layers.BatchNormalization(center=False, trainable=not frozen), layers.Dense(2),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1, 17, 33, 257])
@pytest.mark.parametrize("steps", ["as graphs", "one by one"])
def test_graphs_are_as_near_to_float64_as_numpy_s(gpu, monkeypatch, width, steps):
    monkeypatch.setenv("GPUMLP_FIT", "graph" if width == 17 else "auto")
    monkeypatch.setattr(gpu, "step_by_step", steps == "one by one", raising=False)

    def make():
        return columns(width, frozen=width % 2)()

    initial, found = None, []
    for device, dtype in (("cpu", "float64"), ("cpu", "float32"), ("cuda", "float32")):
        model, initial, losses = trained(device, dtype, initial, make, epochs=4)
        found.append((flat(model), np.array(losses), model.predict(data(31)[0], verbose=0)))
    assert model.program.startswith("CUDA graphs" if steps == "as graphs" else "one operation after the other")
    for truth, plain, got in zip(*found, strict=True):
        own, theirs = np.linalg.norm(got - truth), np.linalg.norm(plain - truth)
        assert own <= 2 * theirs + 2e-6 * np.linalg.norm(truth), (own, theirs, np.linalg.norm(truth))


@pytest.mark.parametrize("width", [1, 3, 17, 20, 31, 33, 255, 256, 257])
def test_compiled_steps_are_as_near_to_float64_as_numpy_s(kernels, width):
    def make(dtype):
        return compiled.build(columns(width, frozen=width % 2)(), optimizers.SGD(0.02), dtype=dtype)

    x, y = data()
    compiled.hold(
        kernels, make, lambda m: m.fit(x, y, batch_size=20, epochs=4, verbose=0, validation_data=(x[::2], y[::2])),
        threads=3,
    )  # fmt: skip


def test_any_number_of_threads_gives_the_same_bits(kernels):
    x, y = data(90)
    found = []
    for threads in (1, 2, 3, 5):
        kernels("numba", threads)
        model = compiled.build(columns(37)(), "adam")
        logs = model.fit(x, y, batch_size=23, epochs=5, verbose=0, validation_split=0.2).history
        assert model.program.startswith("compiled")
        found.append((flat(model), model.predict(x, verbose=0), logs))
    for weights, predictions, logs in found[1:]:
        assert np.array_equal(weights, found[0][0]) and np.array_equal(predictions, found[0][1]) and logs == found[0][2]


def test_compiled_steps_see_what_a_layer_adapts_to_later(kernels):
    kernels("numba")
    layer = layers.Normalization(input_shape=(3, 2), axis=1)
    model = models.Sequential([layer, layers.Flatten()])
    model.compile("sgd", "mse")
    before = model.predict(VALUES, verbose=0)
    layer.adapt(VALUES)
    after = model.predict(VALUES, verbose=0).reshape(VALUES.shape)
    assert model.program.startswith("compiled") and before.mean() > 30
    np.testing.assert_allclose(after.std((0, 2)), 1.0, rtol=1e-4)


def test_statistics_that_are_no_feature_s_are_left_to_numpy(kernels):
    kernels("numba")
    model = models.Sequential([layers.Input((3, 2)), layers.BatchNormalization(axis=1), layers.LayerNormalization()])
    model.predict(VALUES, verbose=0)
    assert "no compiled kernel for BatchNorm, LayerNorm" in model.program


def test_objects_that_are_numbers_are_adapted_to_as_numbers():
    mixed = np.array([[1, 2.5, True], [3, 4.5, False]], object)  # what a frame of such columns gives
    one, other = layers.Normalization(), layers.Normalization()
    one.adapt(mixed)
    other.adapt(mixed.astype(float))
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    with pytest.raises(TypeError, match="Encode it as numbers"):
        layers.Normalization().adapt(np.array([[1, "a"]], object))
