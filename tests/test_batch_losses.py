"""Losses of a whole batch, of a user's formula or by their reduction: no mean of what they are for each sample."""

import numpy as np
import pytest

import gpumlp
from gpumlp import layers, losses, models, ops
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(3)
N = 53
X = RNG.normal(size=(N, 3))
Y = np.sin(X[:, :2] + X[:, 1:])
WEIGHTS = RNG.uniform(0.2, 2.0, N)


def root(t, p):
    return ops.sqrt(ops.mean(ops.square(t - p)))


def total(t, p):
    return ops.sum(ops.square(t - p))


def concordance(t, p):
    """Lin 1989."""
    mean_t, mean_p = ops.mean(t), ops.mean(p)
    both = 2.0 * ops.mean((t - mean_t) * (p - mean_p))
    return 1.0 - both / (ops.var(t) + ops.var(p) + ops.square(mean_t - mean_p))


def correlation(t, p):
    a, b = t - ops.mean(t), p - ops.mean(p)
    return 1.0 - ops.sum(a * b) / ops.sqrt(ops.sum(a * a) * ops.sum(b * b) + 1e-7)


def unexplained(t, p):
    return total(t, p) / (total(t, ops.mean(t)) + 1e-7)


def farthest(t, p):
    return ops.max(ops.abs(t - p)) - ops.min(p)


OWN = [root, total, concordance, correlation, unexplained, farthest]


def value_of(loss, t, p, weights):
    """Return what a batch's loss is, in float64; a user's function is one of NumPy's arrays, too."""
    if not isinstance(loss, losses.Loss):
        return float(loss(t, p)) * (1.0 if weights is None else weights.mean())
    each, weights = (t - p) ** 2, np.ones(len(t)) if weights is None else weights
    summed = (each.mean(-1) * weights).sum()
    return summed if loss.reduction == "sum" else summed / weights.sum()


def model_of(outputs=2, **how):
    set_random_seed(4)
    stack = [layers.Input((3,)), layers.Dense(7, "tanh"), layers.Dense(outputs)]
    return models.Sequential(stack, **how)


ALL = [*OWN, losses.MeanSquaredError(reduction="sum"), losses.MeanSquaredError(reduction="mean_with_sample_weight")]
named = pytest.mark.parametrize("loss", ALL, ids=lambda of: getattr(of, "reduction", None) or of.__name__)


def by_hand(loss, weights, arrays):
    hidden = np.tanh(X @ arrays[0] + arrays[1])
    return value_of(loss, Y, hidden @ arrays[2] + arrays[3], weights)


@named
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_values_and_gradients_are_those_of_differences(loss, weights, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    model = model_of(dtype="float64")
    model.compile("sgd", loss)
    arrays = [w.copy() for w in model.get_weights()]
    assert model.evaluate(X, Y, N, sample_weight=weights, verbose=0) == pytest.approx(by_hand(loss, weights, arrays))
    monkeypatch.setattr(type(model._runner), "predicting", lambda runner, batch: 8)  # not so many samples at a time
    found = model.gradients(X, Y, sample_weight=weights).weights
    for array, gradient in zip(arrays, found, strict=True):
        for at in list(np.ndindex(array.shape))[::5]:
            before, ends = array[at], []
            for step in (1e-6, -1e-6):
                array[at] = before + step
                ends.append(by_hand(loss, weights, arrays))
            array[at] = before
            assert gradient[at] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-7)


@named
def test_every_device_trains_on_them(loss, family, monkeypatch):
    """Batches of other sizes count by their samples, in training, validation and evaluation."""
    found = []
    for dtype, kernels in (("float32", None), ("float64", "numpy")):
        if kernels:
            monkeypatch.setenv("GPUMLP_KERNELS", kernels)
            monkeypatch.setenv("GPUMLP_DEVICE", "cpu")
        model = model_of(dtype=dtype)
        model.compile(gpumlp.optimizers.Adam(0.003), loss, metrics=["mae"])
        how = {"batch_size": 20, "epochs": 3, "shuffle": False, "verbose": 0}
        history = model.fit(X, Y, sample_weight=WEIGHTS, validation_data=(X[:31], Y[:31]), **how)
        assert model.program.startswith("one operation after the other")
        found.append([*history.history.values(), model.evaluate(X, Y, 20, verbose=0)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5)
    parts = [slice(0, 20), slice(20, 40), slice(40, N)]
    p = model.predict(X, verbose=0)
    mean = np.average([value_of(loss, Y[s], p[s], None) for s in parts], weights=[20, 20, 13])
    assert found[1][-1][0] == pytest.approx(mean, rel=1e-5)


@named
def test_calls_of_one_batch_members_and_files_have_them(loss, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "auto")
    x, y, one, again = X.astype("f4"), Y.astype("f4"), model_of(), model_of()
    for model in (one, again):
        model.compile("sgd", loss)
    for _ in range(4):
        first = one.train_on_batch(x, y)
        again.fit(x, y, batch_size=N, shuffle=False, verbose=0)
        assert again.history.history["loss"] == [first]
    assert np.array_equal(one.predict(x, verbose=0), again.predict(x, verbose=0))
    ensemble = gpumlp.Ensemble(lambda: compiled(loss), 2)
    ensemble.fit(x, y, epochs=2, batch_size=20, verbose=0)
    assert np.isfinite(ensemble.evaluate(x, y, verbose=0)[0])
    if isinstance(loss, losses.Loss):
        one.save(tmp_path / "model.keras")
        loaded = models.load_model(tmp_path / "model.keras")
        assert loaded.evaluate(x, y, verbose=0) == one.evaluate(x, y, verbose=0)


def compiled(loss):
    model = model_of()
    model.compile("sgd", loss)
    return model


class Rooted(losses.Loss):
    """A class of one's own: of a whole batch by both, its formula and its reduction."""

    def __init__(self):
        super().__init__("rooted", reduction="sum")

    def call(self, y_true, y_pred):
        return root(y_true, y_pred)


@pytest.mark.parametrize(("weights", "times"), [(None, 1.0), (WEIGHTS, WEIGHTS.sum())], ids=["", "weighted"])
def test_a_sum_of_a_batch_s_one_value_is_that_value(weights, times):
    model = compiled(Rooted())
    alone = compiled(root).evaluate(X, Y, N, verbose=0)
    assert model.evaluate(X, Y, N, sample_weight=weights, verbose=0) == pytest.approx(alone * times, rel=1e-5)


def test_weights_that_are_all_zero_leave_everything_as_it_is():
    model = compiled(losses.MeanSquaredError(reduction="mean_with_sample_weight"))
    before = model.get_weights()
    assert model.train_on_batch(X, Y, sample_weight=np.zeros(N)) == 0.0
    assert all(map(np.array_equal, before, model.get_weights()))


def test_penalties_and_rows_of_outputs_are_beside_it():
    """A sample has four rows of outputs; a penalty is no part of what is summed."""
    set_random_seed(1)
    stack = [layers.Input((4, 3)), layers.Dense(2, kernel_regularizer="l2")]
    model, y = models.Sequential(stack), RNG.normal(size=(9, 4, 2))
    x = RNG.normal(size=(9, 4, 3))
    for loss, expected in (
        (losses.MeanSquaredError(reduction="sum"), lambda p: ((y - p) ** 2).mean(-1).sum()),
        (root, lambda p: np.sqrt(((y - p) ** 2).mean())),
    ):
        model.compile("sgd", loss)
        penalty = 0.01 * (model.get_weights()[0] ** 2).sum()
        found = model.evaluate(x, y, verbose=0)
        assert found == pytest.approx(expected(model.predict(x, verbose=0)) + penalty, rel=1e-5)


class Reduced(losses.Loss):
    """A class of one's own with a reduction, of a function."""

    def __init__(self, function, reduction):
        super().__init__("reduced", reduction=reduction)
        self.function_of_mine = function

    def call(self, y_true, y_pred):
        return self.function_of_mine(y_true, y_pred)


def squares(t, p):
    return ops.square(t - p)


# A loss, and what it is in NumPy, of t, p and weights [n] (ones where there are none: then they are no weights).
WORTH = {
    "a sum of one number, as often as there are outputs": (
        lambda t, p: ops.sum(ops.ones_like(p) * ops.square(ops.mean(p - t))),
        lambda t, p, w: p.size * (p - t).mean() ** 2 * w.mean(),
    ),
    "a length of such": (
        lambda t, p: ops.norm(ops.zeros_like(p) + ops.mean(p - t)),
        lambda t, p, w: np.sqrt(p.size) * abs((p - t).mean()) * w.mean(),
    ),
    "by rows, too": (
        lambda t, p: ops.sum(ops.ones_like(p) * ops.square(ops.mean(p - t, axis=-1, keepdims=True)), axis=-1),
        lambda t, p, w: (p.shape[1] * (p - t).mean(-1) ** 2 * w).mean(),
    ),
    "the sum of what is one mean": (
        Reduced(lambda t, p: ops.mean(ops.square(t - p)), "sum"),
        lambda t, p, w: ((t - p) ** 2).mean() * (1.0 if w is ONES else w.sum()),
    ),
    "the sum of outputs": (Reduced(squares, "sum"), lambda t, p, w: ((t - p) ** 2 * w[:, None]).sum()),
    "that divided by the weights": (
        Reduced(squares, "mean_with_sample_weight"),
        lambda t, p, w: ((t - p) ** 2).mean() if w is ONES else ((t - p) ** 2 * w[:, None]).sum() / w.sum(),
    ),
    "a mean of one number divided by the weights": (
        Reduced(lambda t, p: ops.mean(ops.square(t - p)), "mean_with_sample_weight"),
        lambda t, p, w: ((t - p) ** 2).mean(),
    ),
    "losses in a formula": (
        lambda t, p: losses.MeanSquaredError()(t, p) + 0.5 * losses.MeanAbsoluteError(reduction=None)(t, p),
        lambda t, p, w: ((((t - p) ** 2).mean(-1) + 0.5 * abs(t - p).mean(-1)) * w).mean(),
    ),
}
ONES = np.ones(N)


@pytest.mark.parametrize("what", WORTH)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_formulas_are_worth_what_they_are_of_arrays(what, weights, family):
    loss, of_arrays = WORTH[what]
    model = compiled(loss)
    p = model.predict(X, verbose=0).astype("f8")
    expected = of_arrays(Y, p, ONES if weights is None else weights)
    assert model.evaluate(X, Y, N, sample_weight=weights, verbose=0) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS[:9]], ids=["", "weighted"])
def test_weights_are_those_of_samples_where_they_have_rows_of_outputs(weights):
    set_random_seed(2)
    model = models.Sequential([layers.Input((4, 3)), layers.Dense(2)])
    x, y = RNG.normal(size=(9, 4, 3)), RNG.normal(size=(9, 4, 2))
    error, of = (y - model.predict(x, verbose=0)) ** 2, np.ones(9) if weights is None else weights
    by_row = (error.mean(-1) * of[:, None]).sum()
    for loss, expected in (
        (Reduced(root, "sum"), np.sqrt(error.mean()) * (1.0 if weights is None else of.sum())),
        (losses.MeanSquaredError(reduction="sum"), by_row),
        (losses.MeanSquaredError(reduction="mean_with_sample_weight"), by_row / (36 if weights is None else of.sum())),
    ):
        model.compile("sgd", loss)
        assert model.evaluate(x, y, sample_weight=weights, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_why_it_is_no_loss_of_a_batch_is_told():
    for loss, words in (
        (lambda t, p: ops.sqrt(ops.mean(p[:, 0] * t[:, 1])), "takes columns; it can only take all numbers"),
        (lambda t, p: ops.square(t - p) / ops.mean(ops.square(t)), r"gives many numbers: end with ops\.mean\(x\)"),
        (lambda t, p: ops.norm(t - p, ord=2), "norm with ord=2 is a matrix's largest singular value; leave ord out"),
        (lambda t, p: ops.sqrt(ops.mean(ops.square(t - p) * np.array([1.0, 2.0]))), "An array would be other data"),
        (lambda t, p: ops.sum(ops.square(t - p)) / ops.shape(p)[0], r"ops\.mean\(x\) divides by their number"),
        (lambda t, p: ops.sum(ops.square(t - ops.softmax(p))), "softmax goes over all of .* batch: no axis=-1"),
    ):
        model = model_of()
        with pytest.raises(TypeError, match=f"As a loss of the whole batch: .*{words}"):
            model.compile("sgd", loss)
            model.fit(X, Y, verbose=0)  # arrays with a number for each output wait for how many there are
    with pytest.raises(TypeError, match="beside what is of a sample"):
        model_of().compile("sgd", lambda t, p: ops.sqrt(losses.MeanSquaredError()(t, p)))
    model = model_of(3)
    model.compile("sgd", root)
    with pytest.raises(ValueError, match="takes 3 values per sample, as the model's output has"):
        model.fit(X, Y[:, :1], verbose=0)
    with pytest.raises(NotImplementedError, match="the loss mean_squared_error has reduction='sum'"):
        model_of().compile("sgd", "mse", metrics=[losses.MeanSquaredError(reduction="sum")])


def test_a_metric_of_a_whole_batch_may_be_weighted(family):
    """It is one number, of which samples' weights change nothing but what a batch counts."""
    model = model_of()
    model.compile("sgd", "mse", weighted_metrics=[root])
    p = model.predict(X, verbose=0)
    found = model.evaluate(X, Y, 30, sample_weight=WEIGHTS, verbose=0)[1]
    parts = [slice(0, 30), slice(30, N)]
    expected = np.average([root(Y[s], p[s]) for s in parts], weights=[WEIGHTS[s].sum() for s in parts])
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_norm_of_a_matrix_is_numpy_s():
    matrix = [[1.0, 2.0], [3.0, 4.0]]
    assert ops.norm(matrix, ord=2) == pytest.approx(np.linalg.norm(matrix, 2))
    assert ops.norm(matrix) == pytest.approx(np.linalg.norm(matrix))
    assert ops.norm(matrix, ord=2, keepdims=True).shape == (1, 1)


def test_what_goes_over_the_batch_and_over_outputs_is_refused():
    for loss in (
        lambda t, p: ops.sqrt(ops.mean(ops.mean(ops.square(t - p), axis=-1))),
        lambda t, p: ops.sqrt(ops.mean(p[:, 0])) + ops.mean(t),
        lambda t, p: ops.sum(ops.one_hot(t) * p),
    ):
        with pytest.raises(TypeError, match=r"axis=-1|goes along the last axis"):
            model_of().compile("sgd", loss)
    with pytest.raises(NotImplementedError, match=r"one number a batch; mean_squared_error has reduction='none'"):
        model_of().compile("sgd", losses.MeanSquaredError(reduction="none"))
