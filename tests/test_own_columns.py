"""Losses of one's own that take outputs apart: several columns, a number an output, and targets of another width."""

import itertools
import os

import numpy as np
import pytest

import gpumlp
from gpumlp import layers, losses, models, ops
from gpumlp.columns import WidthUnknown

RNG = np.random.default_rng(9)
N = 60
X = RNG.normal(size=(N, 3))
ONE, TWO, FOUR = RNG.normal(size=(N, 1)), RNG.normal(size=(N, 2)), RNG.normal(size=(N, 4))
PACKED = np.column_stack([RNG.normal(size=N), RNG.uniform(0.1, 2.0, N)])
LEVELS = np.array([0.1, 0.5, 0.9])


def mixture(t, p):
    """Bishop 1994: three Gaussians, their logits, means and the logarithms of their deviations."""
    logits, means, scales = p[:, :3], p[:, 3:6], p[:, 6:]
    each = -0.5 * ops.square((t - means) * ops.exp(-scales)) - scales
    return -ops.logsumexp(ops.log_softmax(logits, axis=-1) + each, axis=-1)


def mixture_by_weights(t, p):
    logits, means, scales = ops.split(p, 3, axis=-1)
    each = ops.exp(-0.5 * ops.square((t - means) * ops.exp(-scales)) - scales)
    return -ops.log(ops.sum(ops.softmax(logits) * each, axis=-1))


def mixture_of_arrays(t, p):
    logits, means, scales = np.split(p, 3, axis=-1)
    each = np.exp(-0.5 * ((t - means) * np.exp(-scales)) ** 2 - scales)
    return -np.log((np.exp(logits) * each).sum(-1) / np.exp(logits).sum(-1))


def quantiles(t, p):
    error = t - p
    return ops.mean(ops.maximum(LEVELS * error, (LEVELS - 1.0) * error), axis=-1)


def deviations(t, p):
    means, logs = p[:, :2], p[..., -2:]
    return 0.5 * ops.mean(logs + ops.square(t - means) * ops.exp(-logs), axis=-1)


def deviations_of_arrays(t, p):
    return 0.5 * (p[:, 2:] + (t - p[:, :2]) ** 2 * np.exp(-p[:, 2:])).mean(-1)


def spread(t, p):
    """What goes along columns: each reduction, once."""
    part, width = p[:, 1:], p.shape[-1]
    found = ops.max(part, -1) - ops.min(part, axis=-1) + ops.var(part, -1) + ops.norm(part, axis=-1) / width
    return found + ops.square(ops.mean(ops.concatenate([p[:, :1], t, part], axis=-1), -1))


def spread_of_arrays(t, p):
    part = p[:, 1:]
    found = part.max(-1) - part.min(-1) + part.var(-1) + np.sqrt((part**2).sum(-1)) / 4
    return found + np.concatenate([p[:, :1], t, part], -1).mean(-1) ** 2


def chosen(t, p):
    """The number at the place of the largest, and every second one."""
    place = ops.cast(ops.argmax(p[:, :3], axis=-1), "float32")
    return ops.square(t[:, 0] - place) * p[:, -1] + ops.sum(ops.square(p[:, ::2]) * [1.0, 3.0], axis=-1)


def chosen_of_arrays(t, p):
    return (t[:, 0] - p[:, :3].argmax(-1)) ** 2 * p[:, 3] + p[:, 0] ** 2 + 3 * p[:, 2] ** 2


class Weighted(losses.Loss):
    """Targets that bring their weights along."""

    def call(self, y_true, y_pred):
        value, weight = y_true[:, :1], y_true[:, 1:]
        return weight * ops.square(value - y_pred)


CASES = {  # the loss, what it is of arrays, outputs, targets
    "a mixture": (mixture, mixture_of_arrays, 9, ONE),
    "a mixture by weights": (mixture_by_weights, mixture_of_arrays, 9, ONE),
    "quantiles": (quantiles, lambda t, p: np.maximum(LEVELS * (t - p), (LEVELS - 1) * (t - p)).mean(-1), 3, ONE),
    "deviations": (deviations, deviations_of_arrays, 4, TWO),
    "along columns": (spread, spread_of_arrays, 4, ONE),
    "a choice": (chosen, chosen_of_arrays, 4, ONE),
    "a number an output": (lambda t, p: abs(t - p) * [1.0, 2.0, 3.0, 4.0],
                           lambda t, p: (abs(t - p) * [1, 2, 3, 4]).mean(-1), 4, FOUR),
    "packed": (Weighted(), lambda t, p: t[:, 1] * (t[:, 0] - p[:, 0]) ** 2, 1, PACKED),
    "packed, more outputs": (lambda t, p: t[:, 1:] * ops.square(t[:, :1] - p),
                             lambda t, p: (t[:, 1:] * (t[:, :1] - p) ** 2).mean(-1), 3, PACKED),
    "a mean over all": (lambda t, p: ops.mean(ops.square(t - p[:, 1:])),
                        lambda t, p: ((t - p[:, 1:]) ** 2).mean(-1), 3, TWO),
}  # fmt: skip


def model_of(outputs, dtype="float32"):
    model = models.Sequential([layers.Input((3,)), layers.Dense(8, "tanh"), layers.Dense(outputs)], dtype=dtype)
    weights = np.random.default_rng(outputs)
    model.set_weights([weights.normal(size=w.shape, scale=0.4) for w in model.get_weights()])
    return model


def formula_of(function, outputs):
    return losses.described(function).for_targets(1, outputs).formula


@pytest.mark.parametrize("what", CASES)
def test_values_and_gradients_are_those_of_arrays(what, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    function, form, outputs, t = CASES[what]
    model = model_of(outputs, "float64")
    model.compile("sgd", function)
    loss = losses.described(function).for_targets(t.shape[1], outputs)
    p, backend, h = RNG.normal(size=(N, outputs)), model._runner.backend, 1e-6
    dp = np.empty_like(p)
    assert backend.loss(loss, t, p, None, dp) == pytest.approx(form(t, p).mean(), rel=1e-10)
    for j in range(outputs):
        step = h * (np.arange(outputs) == j)
        central = (form(t, p + step) - form(t, p - step)) / (2 * h) / N
        np.testing.assert_allclose(dp[:, j], central, rtol=1e-6, atol=1e-9)
    assert np.mean(losses.described(function)(t, p)) == pytest.approx(form(t, p).mean(), rel=1e-10)


@pytest.mark.parametrize("what", ["a mixture", "along columns", "a choice", "deviations", "packed", "a mean over all"])
def test_every_device_trains_on_them(what, family, monkeypatch):
    function, form, outputs, t = CASES[what]
    found, asked = {}, os.environ.get("GPUMLP_KERNELS", "")
    for dtype in ("float64", "float32"):
        monkeypatch.setenv("GPUMLP_KERNELS", "numpy" if dtype == "float64" else asked)
        model = model_of(outputs, dtype)
        model.compile("adam", function, device="cpu" if dtype == "float64" else None)
        how = {"batch_size": 7, "epochs": 3, "shuffle": False, "verbose": 0}
        found[dtype] = model.fit(X, t, **how, validation_data=(X[:9], t[:9])).history
        value = form(t, model.predict(X, verbose=0).astype(np.float64)).mean()
        assert model.evaluate(X, t, verbose=0) == pytest.approx(value, rel=1e-4)
        assert model.train_on_batch(X, t) == pytest.approx(value, rel=1e-4)
    for name, values in found["float32"].items():
        np.testing.assert_allclose(values, found["float64"][name], rtol=2e-4)


@pytest.mark.parametrize("what", ["a mixture", "deviations", "packed"])
def test_graphs_train_on_them_as_the_whole_fit_kernel_does(what, gpu, monkeypatch):
    function, _, outputs, t = CASES[what]
    found = []
    for mode, program in (("graph", "CUDA graphs"), ("auto", "whole-fit kernel")):
        monkeypatch.setenv("GPUMLP_FIT", mode)
        model = model_of(outputs)
        model.compile("adam", function, device="cuda")
        found.append(model.fit(X, t, batch_size=7, epochs=2, shuffle=False, verbose=0).history["loss"])
        assert program in model.program, model.program
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.parametrize("what", ["a mixture", "packed"])
def test_members_with_such_a_loss_train_in_one_launch(what, gpu):
    function, _, outputs, t = CASES[what]

    def build(k=0):
        model = model_of(outputs)
        model.compile("adam", function, device="cuda")
        return model

    ensemble, alone = gpumlp.Ensemble(build, 2), build()
    ensemble.fit(X, t, epochs=2, verbose=0, shuffle=False)
    alone.fit(X, t, epochs=2, verbose=0, shuffle=False)
    assert "2 models at once" in ensemble.members[0].program
    assert ensemble.members[1].history.history == alone.history.history


@pytest.mark.parametrize("what", ["a mixture", "deviations"])
def test_ensembles_and_searches_have_them(what):
    function, _, outputs, t = CASES[what]

    def build(k=0):
        model = model_of(outputs)
        model.compile("adam", function)
        return model

    ensemble = gpumlp.Ensemble(build, 2)
    ensemble.fit(X, t, epochs=2, verbose=0, shuffle=False)
    alone = build()
    alone.fit(X, t, epochs=2, verbose=0, shuffle=False)
    assert ensemble.members[1].history.history == alone.history.history
    found = gpumlp.search(build, [{}], X, t, cv=2, verbose=0)
    test = found.folds[0][1]
    assert np.isfinite(found.scores[0, 0]["loss"]) and len(test) == N // 2


def test_an_array_is_as_long_as_there_are_outputs(family):
    for wrong, words in (
        (lambda t, p: ops.mean(LEVELS * p, -1), r"Shapes \(batch, 4\) and \(batch, 3\) of a formula do not go"),
        (lambda t, p: ops.mean(p[:, :3] + p[:, :2], -1), r"Shapes \(batch, 2\) and \(batch, 3\)"),
    ):
        model = model_of(4)
        with pytest.raises(TypeError, match=words):
            model.compile("sgd", wrong)
            model.fit(X, FOUR, verbose=0)
    model = model_of(4)
    model.compile("sgd", lambda t, p: ops.mean(p[:, 2:9] - t[:, :1], -1))
    with pytest.raises(ValueError, match="reads column 8 of the predictions, counted from 0; there are 4"):
        model.fit(X, FOUR, verbose=0)


@pytest.mark.filterwarnings("ignore::gpumlp.errors.TrainingWarning")
@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("number", [np.array([np.nan, 1.0]), np.array([1.0, np.nan]), float("nan")])
def test_no_number_stays_none_beside_the_larger_of_two(name, number, family):
    extremum = getattr(ops, name)
    for loss in (
        lambda t, p: ops.mean(extremum(p, number) * t, axis=-1),
        lambda t, p: ops.mean(p + extremum(number, 3.0), axis=-1),
        lambda t, p: ops.mean(p + extremum(3.0, number) * ops.abs(t), axis=-1),
    ):
        model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
        model.compile("sgd", loss)
        assert np.isnan(model.evaluate(X, TWO, verbose=0))


def test_metrics_are_of_targets_as_wide_as_they_mean(family):
    """What reads a row of as many targets as outputs would read on in the next sample's."""
    model = model_of(4)
    for metric, takes in (("mse", "4 numbers"), ("accuracy", "4 numbers|one class")):
        model.compile("sgd", deviations, metrics=[metric])
        with pytest.raises(ValueError, match=f"takes {takes} per sample; y has 2"):
            model.fit(X, TWO, verbose=0)
    model = model_of(1)
    model.compile("sgd", Weighted(), metrics=["mae"])
    with pytest.raises(ValueError, match="takes one number per sample; y has 2"):
        model.fit(X, PACKED, verbose=0)

    def error(t, p):
        return abs(t[:, :1] - p)

    model.compile("sgd", Weighted(), metrics=[error])
    found = model.evaluate(X, PACKED, verbose=0, return_dict=True)["error"]
    expected = abs(PACKED[:, :1] - model.predict(X, verbose=0)).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_validation_is_of_targets_as_wide_as_training(family):
    """The loss is looked up for those; NumPy would stretch others over the outputs in silence."""

    def first(t, p):
        return ops.mean(ops.square(t[:, :1] - p), axis=-1)

    for outputs, here, there in ((2, 1, 2), (2, 2, 1), (1, 3, 2), (2, 4, 3)):
        model = model_of(outputs)
        model.compile("sgd", first)
        with pytest.raises(ValueError, match=f"validation y has {there} numbers a sample, where y has {here}"):
            model.fit(X, FOUR[:, :here], verbose=0, validation_data=(X, FOUR[:, :there]))
        assert model.optimizer.iterations == 0
        with pytest.raises(ValueError, match=f"has {there} numbers a sample, where {here} came first"):
            batches = iter([(X, FOUR[:, :there])])
            model.fit(X, FOUR[:, :here], verbose=0, validation_data=batches, validation_steps=1)
        expected = ((FOUR[:, :1] - model.predict(X, verbose=0)) ** 2).mean()
        for width in (here, there):
            assert model.evaluate(X, FOUR[:, :width], verbose=0) == pytest.approx(expected, rel=1e-4)


def test_targets_that_a_loss_leaves_out_are_told_so():
    def masked(t, p):
        return ops.mean(ops.where(ops.isnan(t), 0.0, ops.square(t - p)), axis=-1)

    t, model = np.where(np.arange(N)[:, None] == 3, np.nan, TWO), model_of(2)
    model.compile("sgd", masked)
    with pytest.warns(UserWarning, match=r"row 3: unless the loss leaves them out, .*set_nonfinite\('ignore'\)"):
        model.fit(X, t, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_width_that_nobody_knows_is_told():
    for use in (lambda z: z[:, :-1] + z, lambda z: z * z.shape[-1]):
        with pytest.raises(WidthUnknown, match=r"How many outputs there are is not known here.*x\[:, 1:3\]"):
            layers.Dense(3, activation=use)
    with pytest.raises(TypeError, match="must return a number for each element"):
        layers.Dense(3, activation=lambda z: z[:, 0:3])
    with pytest.raises(TypeError, match=r"split of a formula cuts the outputs .*got 4, axis=-1 for shape \(None, 9\)"):
        formula_of(lambda t, p: ops.split(p, 4, axis=-1)[0], 9)
    for at in (slice(0, 2), (0, 1), (slice(None), 1.5), (slice(None), [0, 1])):
        with pytest.raises(TypeError, match="cannot take"):
            formula_of(lambda t, p, at=at: p[at], 9)


@pytest.mark.parametrize("sections", [3, [2, 5]])
def test_a_split_is_numpy_s(sections):
    p = RNG.normal(size=(5, 9))
    for k, part in enumerate(np.split(p, sections, axis=-1)):
        loss = losses.described(lambda t, p, k=k: ops.sum(ops.split(p, sections, axis=-1)[k] ** 3, -1))
        formula = loss.for_targets(1, 9).formula
        backend = model_of(9, "float64")._runner.backend
        value = backend.loss(loss.for_targets(1, 9), p[:, :1], p, None, np.empty_like(p))
        assert value == pytest.approx((part**3).sum(-1).mean())
        assert formula is loss.for_targets(1, 9).formula  # traced once


@pytest.mark.parametrize("row", list(itertools.permutations([1.0, 2.0, np.nan])))
def test_the_largest_of_columns_is_numpy_s(row):
    p = np.array([row, [0.5, 0.5, -1.0]])
    backend = model_of(3, "float64")._runner.backend
    loss = losses.described(lambda t, p: ops.cast(ops.argmax(p[:, :], axis=-1), "float32"))
    assert backend.loss(loss.for_targets(1, 3), p[:, :1], p, None, np.empty_like(p)) == np.argmax(p, -1).mean()


def told(function, t, outputs=3, **how):
    """Return what a compiled and a float64 model say of a loss, and what it is of arrays."""
    found = []
    for dtype in ("float32", "float64"):
        model = model_of(outputs, dtype)
        model.compile("sgd", function)
        found.append(model.evaluate(X, t, verbose=0))
    return found, model.predict(X, verbose=0)


AS_NUMPY = {  # what was once another number, in silence
    "ones like columns": (lambda t, p: ops.sum(ops.ones_like(p[:, :2]) * p[:, :2], -1), lambda t, p: p[:, :2].sum(-1)),
    "zeros beside them": (
        lambda t, p: ops.mean(ops.concatenate([p[:, :2], ops.zeros_like(p[:, :2])], axis=-1), -1),
        lambda t, p: p[:, :2].sum(-1) / 4,
    ),
    "a power of 0": (lambda t, p: p[:, 0] + ops.sum(p[:, :2] ** 0, -1), lambda t, p: p[:, 0] + 2),
    "a list of truths": (
        lambda t, p: ops.mean(((p < 100) & [True, False, True]) * p, axis=-1), lambda t, p: (p * [1, 0, 1]).mean(-1)
    ),
    "an array of truths": (
        lambda t, p: ops.mean(ops.logical_or(p > 100, np.array([1.0, 0.0, 1.0])) * p, axis=-1),
        lambda t, p: (p * [1, 0, 1]).mean(-1),
    ),
    "numbers of NumPy's": (
        lambda t, p: ops.mean([np.float32(1), np.int64(2), 3] * p, axis=-1) + p[:, np.int64(1)],
        lambda t, p: (p * [1, 2, 3]).mean(-1) + p[:, 1],
    ),
    "places": (
        lambda t, p: ops.mean(ops.one_hot(ops.floor(abs(t[:, 0])), 2) * p[:, :2], -1),
        lambda t, p: (np.eye(9)[np.floor(abs(t[:, 0])).astype(int)][:, :2] * p[:, :2]).mean(-1),
    ),
    "a stop beyond the end": (
        lambda t, p: ops.sum(p[:, 1:9] * p[:, -2:][:, 0:7], -1), lambda t, p: (p[:, 1:] ** 2).sum(-1)
    ),
    "beside constants": (
        lambda t, p: ops.sum(ops.concatenate([p, [1.0, 2.0]], axis=-1), -1), lambda t, p: p.sum(-1) + 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", AS_NUMPY)
def test_columns_are_numpy_s(what):
    function, form = AS_NUMPY[what]
    found, p = told(function, TWO)
    assert found == pytest.approx([form(TWO, p).mean()] * 2, rel=1e-5)


def test_labels_are_smoothed_over_the_classes_that_there_are():
    labels = np.eye(3)[RNG.integers(0, 3, N)]
    t = np.column_stack([labels, ONE, ONE])

    def heads(t, p):
        return losses.categorical_crossentropy(t[:, :3], p[:, :3], from_logits=True, label_smoothing=0.3)

    found, p = told(heads, t, 4)
    expected = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)(labels, p[:, :3])
    assert found == pytest.approx([float(expected)] * 2, rel=1e-5)


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_a_sum_of_powers_takes_infinities(infinite):
    t = np.full((N, 2), infinite)
    model = model_of(3, "float64")
    loss = losses.described(lambda t, p: ops.logsumexp(t[:, :2], -1)).for_targets(2, 3)
    p = RNG.normal(size=(N, 3))
    with np.errstate(divide="ignore"):  # as a model computes
        assert model._runner.backend.loss(loss, t, p, None, np.empty_like(p)) == infinite


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t, p: p[:, -5], lambda t, p: t[:, -8] + p[:, 0], lambda t, p: p[:, 1:][:, -3],
        lambda t, p: p[:, 1:2][:, 1],
        lambda t, p: ops.softmax(p)[:, 7], lambda t, p: ops.log_softmax(p)[:, 1:7] - p[:, :6],
        lambda t, p: ops.concatenate([p[:, 0], p[:, 1]], axis=-1), lambda t, p: LEVELS * (t[..., None] - p[..., None]),
        lambda t, p: np.linspace(0, 1, 600) * p,
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error(wrong, family):
    model = model_of(3)
    with pytest.raises((TypeError, ValueError), match=r"column|cannot take|side by side|go together"):
        model.compile("sgd", wrong)
        model.fit(X, TWO, verbose=0)


def test_too_many_columns_are_refused():
    model = model_of(400)
    model.compile("sgd", lambda t, p: ops.mean(ops.square(p[:, 1:]), axis=-1))
    with pytest.raises(TypeError, match=r"A formula of 399 columns.*128 are the most"):
        model.fit(X, ONE, verbose=0)


def test_why_targets_do_not_go_with_a_loss_is_told():
    model = model_of(3)
    model.compile("sgd", lambda t, p: ops.mean(t[:, :1] - p + t[:, 9:10], -1))
    with pytest.raises(ValueError, match=r"takes 3 values per sample.*, or one\. By columns, of 2: .*cannot take"):
        model.fit(X, TWO, verbose=0)
    model = models.Sequential([layers.Input((7, 3)), layers.Dense(2)])
    model.compile("sgd", lambda t, p: ops.square(t[:, :1] - p[:, :1]))
    x = RNG.normal(size=(8, 7, 3))
    for shape in ((8, 3, 7), (8, 21)):
        with pytest.raises(ValueError, match=r"model's output has samples of shape \(7, 2\), and what is not as long"):
            model.fit(x, np.zeros(shape), verbose=0)
    model.fit(x, np.zeros((8, 7, 3)), verbose=0)
