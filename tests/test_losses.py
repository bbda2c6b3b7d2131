"""Losses: textbook forms, slopes against central differences in float64, training, arrays, and configs."""

import json

import numpy as np
import pytest

from gpumlp import layers, losses, models, saving
from gpumlp.backends.numpy_backend import NumpyBackend

RNG = np.random.default_rng(3)
T, P = RNG.integers(0, 2, (12, 4)).astype(float), RNG.uniform(0.05, 0.95, (12, 4))
REAL, LOGITS = RNG.normal(size=(12, 4)), 3 * RNG.normal(size=(12, 4))
ONE_HOT, LABELS = np.eye(4)[RNG.integers(0, 4, 12)], RNG.integers(0, 4, (12, 1))
SIGNS, COUNTS = 2 * T - 1, RNG.integers(0, 5, (12, 4)).astype(float)


def unit(a):
    return a / np.linalg.norm(a, axis=1, keepdims=True)


def bce(t, p):
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def true(p):
    return np.take_along_axis(p, LABELS, 1)[:, 0]


# The textbook form of each in one line, a value a row; with targets, and predictions.
TEXTBOOK = [
    (losses.MeanSquaredError(), REAL, LOGITS, lambda t, p: ((p - t) ** 2).mean(1)),
    (losses.MeanAbsoluteError(), REAL, LOGITS, lambda t, p: abs(p - t).mean(1)),
    (losses.MeanAbsolutePercentageError(), REAL, LOGITS, lambda t, p: 100 * abs((p - t) / t).mean(1)),
    (losses.MeanSquaredLogarithmicError(), P, P[::-1], lambda t, p: ((np.log(1 + p) - np.log(1 + t)) ** 2).mean(1)),
    (losses.Huber(0.7), REAL, LOGITS,
     lambda t, p: np.where(abs(p - t) < 0.7, (p - t) ** 2 / 2, 0.7 * abs(p - t) - 0.7**2 / 2).mean(1)),
    (losses.LogCosh(), REAL, LOGITS, lambda t, p: np.log(np.cosh(p - t)).mean(1)),
    (losses.CosineSimilarity(), REAL, LOGITS, lambda t, p: -(unit(t) * unit(p)).sum(1)),
    (losses.Hinge(), SIGNS, REAL, lambda t, p: np.maximum(1 - t * p, 0).mean(1)),
    (losses.Hinge(), T, REAL, lambda t, p: np.maximum(1 - (2 * t - 1) * p, 0).mean(1)),
    (losses.SquaredHinge(), SIGNS, REAL, lambda t, p: (np.maximum(1 - t * p, 0) ** 2).mean(1)),
    (losses.CategoricalHinge(), ONE_HOT, REAL,
     lambda t, p: np.maximum(1 + ((1 - t) * p).max(1) - (t * p).sum(1), 0)),
    (losses.KLDivergence(), unit(P), P, lambda t, p: (t * np.log(t / p)).sum(1)),
    (losses.Poisson(), COUNTS, P, lambda t, p: (p - t * np.log(p + 1e-7)).mean(1)),
    (losses.BinaryCrossentropy(), T, P, lambda t, p: bce(t, p).mean(1)),
    (losses.BinaryFocalCrossentropy(), T, P, lambda t, p: (abs(t - p) ** 2 * bce(t, p)).mean(1)),
    (losses.BinaryFocalCrossentropy(True, 0.3, 1.7, True), T, LOGITS,
     lambda t, z: (abs(t - 1 / (1 + np.exp(-z))) ** 1.7 * abs(0.7 - 0.4 * t) * bce(t, 1 / (1 + np.exp(-z)))).mean(1)),
    (losses.CategoricalCrossentropy(), ONE_HOT, P, lambda t, p: -np.log((t * p).sum(1) / p.sum(1))),
    (losses.CategoricalFocalCrossentropy(0.3, 3), ONE_HOT, P,
     lambda t, p: -0.3 * ((1 - p / p.sum(1)[:, None]) ** 3 * t * np.log(p / p.sum(1)[:, None])).sum(1)),
    (losses.CategoricalFocalCrossentropy(1.0, 0.5, True), ONE_HOT, LOGITS,
     lambda t, z: -((1 - softmax(z)) ** 0.5 * t * np.log(softmax(z))).sum(1)),
    (losses.SparseCategoricalCrossentropy(True), LABELS, LOGITS, lambda t, z: -np.log(true(softmax(z)))),
    (losses.CategoricalGeneralizedCrossEntropy(0.7), LABELS, P, lambda t, p: (1 - true(p) ** 0.7) / 0.7),
    (losses.Dice(axis=-1), T, P, lambda t, p: 1 - 2 * (t * p).sum(1) / (t.sum(1) + p.sum(1) + 1e-7)),
    (losses.Tversky(0.3, 0.6, axis=-1), T, P,
     lambda t, p: 1 - (t * p).sum(1) / (
         (t * p).sum(1) + 0.3 * (t * (1 - p)).sum(1) + 0.6 * ((1 - t) * p).sum(1) + 1e-7)),
]  # fmt: skip
TRAINED = pytest.mark.parametrize("case", TEXTBOOK, ids=lambda case: repr(case[0]))


def test_every_loss_has_its_textbook_form_here():
    assert {type(loss) for loss, *_ in TEXTBOOK} == {*losses.KNOWN.values()} - {losses.Circle}


@TRAINED
def test_values_and_slopes_are_those_of_the_textbook(case):
    loss, t, p, form = case
    np.testing.assert_allclose(losses.described(loss).changed(reduction=None)(t, p), form(t, p), rtol=1e-11, atol=1e-15)
    dp, h = np.empty_like(p), 1e-6
    assert NumpyBackend().loss(loss, t.astype(float), p.copy(), None, dp) == pytest.approx(form(t, p).mean(), rel=1e-11)
    for j in range(4):
        step = h * (np.arange(4) == j)
        expected = (form(t, p + step) - form(t, p - step)) / (2 * h) / len(p)
        np.testing.assert_allclose(dp[:, j], expected, rtol=2e-5, atol=1e-8)


@TRAINED
@pytest.mark.parametrize("factor", [1e-3, 12.0, 60.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_and_slopes_are_those_of_the_textbook_far_out(case, factor, dtype):
    """Wherever the textbook's own form, in float64, does not overflow; probabilities stay some."""
    loss, t, p, form = case
    if factor > 1 and ("focal" in loss.name or loss.name in ("kl_divergence", "poisson")):
        return  # they clip what they take a logarithm of, by definition
    if p is P or p[0, 0] == P[-1, 0]:
        p = p**factor if factor > 1 else p
        if dtype == np.float32 and factor > 12:
            return
    else:
        p = factor * p
    wide = p.astype(dtype).astype(float)
    with np.errstate(all="ignore"):
        truth = form(t, wide)
        h = 1e-6 * max(1.0, factor)
        slopes = np.stack([(form(t, wide + h * e) - form(t, wide - h * e)) / (2 * h) for e in np.eye(4)], 1) / len(p)
    there = np.isfinite(truth) & np.isfinite(slopes).all(1)
    dp, tight = np.empty_like(wide, dtype), dtype == np.float64
    values = losses.described(loss).changed(reduction=None)(t.astype(dtype), p.astype(dtype))
    NumpyBackend().loss(loss, t.astype(dtype), p.astype(dtype), None, dp)
    clipped = (wide < 2e-7).any(1) if p.max() <= 1 else np.zeros(len(p), bool)
    there &= ~clipped
    np.testing.assert_allclose(values[there], truth[there], rtol=1e-9 if tight else 2e-5, atol=1e-9 if tight else 2e-6)
    if tight:
        np.testing.assert_allclose(dp[there], slopes[there], rtol=1e-3, atol=1e-6 * abs(slopes[there]).max(initial=1))


@TRAINED
@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_every_loss_trains(case, kernels, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", kernels)
    loss, t, _, _ = case
    last = {"from_logits": None}.get("from_logits" if getattr(loss, "from_logits", False) else "", "sigmoid")
    if isinstance(loss, losses.CategoricalHinge | losses.CosineSimilarity | losses.LogCosh | losses.Hinge):
        last = None
    model = models.Sequential([layers.Dense(8, "tanh", input_shape=(3,)), layers.Dense(4, last)])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape, scale=0.5) for w in model.get_weights()])
    model.compile("adam", loss)
    x = rng.normal(size=(12, 3))
    found = model.fit(x, t, epochs=12, verbose=0, shuffle=False, batch_size=5).history["loss"]
    assert found[-1] < found[0] and np.isfinite(found).all()
    ours = losses.described(loss)(t, model.predict(x, verbose=0))
    assert model.evaluate(x, t, verbose=0) == pytest.approx(float(ours), rel=1e-4)


CONFIGS = [loss for loss, *_ in TEXTBOOK] + [
    losses.Circle(16.0, 0.2, False), losses.Dice("sum", "mine", (1, 2)), losses.Huber(2.0, "sum", "mine"),
    losses.SparseCategoricalCrossentropy(ignore_class=-1),
]  # fmt: skip


@pytest.mark.parametrize("loss", CONFIGS, ids=repr)
def test_a_loss_is_what_its_config_says(loss):
    written = json.loads(json.dumps(losses.serialize(loss)))
    assert written["module"] == "keras.losses" and written["class_name"] == type(loss).__name__
    for read in (
        losses.deserialize(written), losses.described(written), saving.deserialize_keras_object(written),
        type(loss).from_config(loss.get_config()),
    ):  # fmt: skip
        assert read == loss and repr(read) == repr(loss)


def mine(t, p):
    return losses.mean_squared_error(t, p)


def test_a_user_s_function_is_what_it_is_registered_by():
    with saving.custom_object_scope({"mine": mine}):
        assert losses.get("mine") is losses.deserialize(losses.serialize(losses.described(mine))) is mine
        assert losses.described("mine").function is mine
    with pytest.raises(ValueError, match="Unknown loss 'mine'"):
        losses.get("mine")


def test_one_ignored_class_is_in_no_mean():
    labels = np.where(np.arange(12) % 3 == 0, -1, LABELS[:, 0])
    loss, kept = losses.SparseCategoricalCrossentropy(ignore_class=-1), labels >= 0
    expected = losses.sparse_categorical_crossentropy(labels[kept], P[kept])
    assert loss(labels, P) == pytest.approx(expected.mean())
    assert loss(labels, P, sample_weight=kept * 2.0) == pytest.approx(2 * expected.mean())
    assert loss.changed(reduction="sum")(labels, P) == pytest.approx(expected.sum())
    assert loss(np.full(12, -1), P) == 0.0


def test_axes_of_arrays():
    t, p = T.reshape(3, 4, 4), P.reshape(3, 4, 4)
    for axis in (0, 1, 2, (1, 2), (0, 2), None):
        expected = 1 - 2 * (t * p).sum(axis) / (t.sum(axis) + p.sum(axis) + 1e-7)
        np.testing.assert_allclose(losses.dice(t, p, axis=axis), expected, rtol=1e-12)
    moved = np.moveaxis(P.reshape(3, 4, 4), -1, 1)
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy(LABELS.reshape(3, 4), moved, axis=1),
        losses.sparse_categorical_crossentropy(LABELS.reshape(3, 4), P.reshape(3, 4, 4)),
    )
