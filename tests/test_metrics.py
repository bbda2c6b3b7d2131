"""Metrics in fit and evaluate: several sums, the host's, weighted; a user's own; and used alone."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from gpumlp import Ensemble, Variable, callbacks, layers, losses, metrics, models, ops
from gpumlp.engine import dispatch
from gpumlp.training.results import Averages, Objective

RNG = np.random.default_rng(3)
X, W = RNG.normal(size=(50, 3)), RNG.uniform(0.2, 2.0, size=50)
BITS, REAL = (RNG.uniform(size=(50, 2)) < 0.4).astype(float), RNG.normal(size=(50, 2))
ONE_HOT = np.eye(3)[RNG.integers(0, 3, 50)]


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")


def model_of(outputs, activation, loss, plain=(), weighted=()):
    model = models.Sequential([layers.Dense(outputs, activation, input_shape=(3,))], dtype="float64")
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()])
    model.compile("sgd", loss, metrics=list(plain), weighted_metrics=list(weighted))
    return model


def counts(t, p, w, at=0.5):
    above, w = p > at, w[:, None]
    return ((above * t) * w).sum(), ((above * (1 - t)) * w).sum(), ((~above * t) * w).sum()


def roc_area(t, p, w, n=200):
    """By each pair of a positive and a negative, of outputs between the same thresholds half."""
    t, level, w = t.ravel() > 0, np.maximum(np.ceil(p.ravel() * (n - 1)), 1), np.repeat(w, t.shape[1])
    pairs, weights = level[t][:, None] - level[~t], w[t][:, None] * w[~t]
    return (((pairs > 0) + 0.5 * (pairs == 0)) * weights).sum() / weights.sum()


def precision(t, p, w, at=0.5):
    tp, fp, _ = counts(t, p, w, at)
    return tp / (tp + fp)


def recall(t, p, w):
    tp, _, fn = counts(t, p, w)
    return tp / (tp + fn)


def r2(t, p, w):
    mean = (t * w[:, None]).sum(0) / w.sum()
    return (1 - ((t - p) ** 2 * w[:, None]).sum(0) / ((t - mean) ** 2 * w[:, None]).sum(0)).mean()


def jaccard(t, p, w):
    t, p, w = t.argmax(1), p.argmax(1), w.astype(np.int32)
    inside = [((t == c) & (p == c)) @ w for c in range(3)]
    return np.mean([i / (((t == c) | (p == c)) @ w) for c, i in enumerate(inside)])


def f1(t, p, w):
    tp, fp, fn = counts(t, p, w)
    return 2 * tp / (2 * tp + fp + fn)


FORMS = {
    "several sums": (metrics.Precision, BITS, "sigmoid", precision, 2),
    "recall": (metrics.Recall, BITS, "sigmoid", recall, 2),
    "one threshold of several": (lambda: metrics.Precision([0.2, 0.6]), BITS, "sigmoid",
                                 lambda *a: [precision(*a, 0.2), precision(*a, 0.6)], 4),
    "a root": (metrics.RootMeanSquaredError, REAL, None, lambda t, p, w: np.average(((t - p) ** 2).mean(1), weights=w)
               ** 0.5, 1),
    "correlation": (metrics.CosineSimilarity, REAL, None, lambda t, p, w: np.average(
        (t * p).sum(1) / np.sqrt((t * t).sum(1) * (p * p).sum(1)), weights=w), 1),
    "the host's bins": (metrics.AUC, BITS, "sigmoid", roc_area, 0),
    "few thresholds": (lambda: metrics.AUC(5, name="auc"), BITS, "sigmoid", lambda *a: roc_area(*a, n=5), 20),
    "an output each": (metrics.R2Score, REAL, None, r2, 0),
    "classes": (lambda: metrics.OneHotMeanIoU(3), ONE_HOT, "softmax", jaccard, 0),
    "F": (lambda: metrics.F1Score("micro", 0.5), BITS, "sigmoid", f1, 0),
    "the largest two": (lambda: metrics.TopKCategoricalAccuracy(2), ONE_HOT, "softmax", lambda t, p, w: np.average(
        [t[i].argmax() in p[i].argsort()[-2:] for i in range(len(t))], weights=w), 1),
}  # fmt: skip


@pytest.mark.parametrize("what", FORMS)
@pytest.mark.filterwarnings("ignore:.*counts whole weights")
def test_evaluate_gives_what_the_textbook_makes_of_predictions(what):
    make, y, activation, form, series = FORMS[what]
    assert make().series == series
    model = model_of(y.shape[1], activation, "mse", [make()], [make()])
    w = np.ceil(W) if what == "classes" else W
    logs = model.evaluate(X, y, batch_size=7, sample_weight=w, verbose=0, return_dict=True)
    p, (loss, plain, weighted) = model.predict(X, verbose=0), sorted(logs, key=lambda k: (k != "loss", len(k), k))
    np.testing.assert_allclose(logs[plain], form(y, p, np.ones(50)), rtol=1e-6)
    np.testing.assert_allclose(logs[weighted], form(y, p, w), rtol=1e-6)
    assert weighted.startswith("weighted_") == (weighted[9:] == plain) and loss == "loss"
    alone = make()
    alone.update_state(y[:20], p[:20], sample_weight=w[:20])
    alone.update_state(y[20:], p[20:], sample_weight=w[20:])
    np.testing.assert_allclose(alone.result(), logs[weighted], rtol=1e-12)


def test_a_fit_has_all_kinds_side_by_side_epoch_by_epoch():
    several = ["mae", metrics.Precision(name="precision"), metrics.AUC(name="auc"), "r2_score", "binary_accuracy"]
    model = model_of(2, "sigmoid", "mse", several)
    history = model.fit(X, BITS, epochs=3, batch_size=50, shuffle=False, verbose=0, validation_data=(X, BITS)).history
    assert [k for k in history if k[:3] != "val"] == sorted(["loss", "mae", "precision", "auc", "r2_score",
                                                             "binary_accuracy"])  # fmt: skip
    for name in ("mae", "precision", "auc", "r2_score"):  # of the next epoch, before its step
        np.testing.assert_allclose(history[name][1:], history["val_" + name][:-1], rtol=1e-12)
    values = model.evaluate(X, BITS, verbose=0)
    assert values[3] == pytest.approx(roc_area(BITS, model.predict(X, verbose=0), np.ones(50)))
    again = model.evaluate(X, BITS, verbose=0)
    assert values == again
    assert "auc counts at 200 thresholds" not in model.program  # there is nothing faster here


def test_bits_do_not_depend_on_how_many_steps_come_at_a_time():
    def history(**how):
        model = model_of(2, "sigmoid", "mse", [metrics.Precision(), metrics.AUC()])
        return model.fit(X, BITS, epochs=2, batch_size=4, shuffle=False, verbose=0, **how).history

    from gpumlp.callbacks import Callback

    class EachBatch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert "precision" in [k[:9] for k in logs]

    one, other = history(), history(callbacks=[EachBatch()])
    assert list(one.values()) == list(other.values())


def median_error(y_true, y_pred):
    return np.median(np.abs(y_true - y_pred), axis=-1)


class Largest(metrics.Metric):
    """The largest error so far, in a variable, and how many batches, in an attribute."""

    def __init__(self, name="largest", **kwargs):
        super().__init__(name=name, **kwargs)
        self.most = self.add_variable(shape=(), initializer="zeros", name="most")
        self.batches = 0

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.most.assign(ops.maximum(self.most, ops.max(ops.absolute(y_true - y_pred))))
        self.batches += 1

    def result(self):
        return self.most


class Several(metrics.Metric):
    """Other metrics, in a list."""

    def __init__(self):
        super().__init__(name="several")
        self.parts = [metrics.MeanSquaredError(), {"largest": Largest()}]

    def update_state(self, *arguments):
        self.parts[0].update_state(*arguments)
        self.parts[1]["largest"].update_state(*arguments)

    def result(self):
        return self.parts[0].result() + self.parts[1]["largest"].result()


class Both(Largest):
    def result(self):
        return {"most": self.most, "twice": 2 * self.most}


class Halved(metrics.MeanSquaredError):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(0.5 * np.asarray(y_true), 0.5 * np.asarray(y_pred), sample_weight)


def test_a_user_s_own():
    model = model_of(2, None, "mse", [median_error, Largest(), Halved("halved"), "mse", losses.Huber(0.5),
                                      metrics.MeanMetricWrapper(losses.huber, "narrow", delta=0.1)],
                     [metrics.MeanMetricWrapper(median_error, name="weighted")])  # fmt: skip
    for _ in range(2):
        found = model.evaluate(X, REAL, batch_size=8, sample_weight=W, verbose=0, return_dict=True)
        off = np.abs(model.predict(X, verbose=0) - REAL)
        assert found["median_error"] == pytest.approx(np.median(off, axis=1).mean())
        assert found["weighted"] == pytest.approx(np.average(np.median(off, axis=1), weights=W))
        assert found["largest"] == pytest.approx(off.max(), rel=1e-6)
        assert found["halved"] == pytest.approx(found["mse"] / 4)
        assert found["huber"] == pytest.approx(losses.huber(REAL, model.predict(X, verbose=0), 0.5).mean())
        assert found["narrow"] == pytest.approx(losses.huber(REAL, model.predict(X, verbose=0), 0.1).mean())
    assert len(Several().variables) == 3
    model.compile("sgd", "mse", metrics=[Several()])
    for _ in range(2):
        assert model.evaluate(X, REAL, verbose=0)[1] == pytest.approx((off**2).mean() + off.max(), rel=1e-6)
    model.compile("sgd", "mse", metrics=[Both()])
    found = model.evaluate(X, REAL, verbose=0, return_dict=True)
    assert found["twice"] == 2 * found["most"] and list(found) == ["loss", "most", "twice"]
    assert model.evaluate(X, REAL, verbose=0) == list(found.values())


def test_a_user_s_metric_may_ask_the_model_itself():
    class Asks(Largest):
        def update_state(self, y_true, y_pred, sample_weight=None):
            self.most.assign(model.predict(X[:2], verbose=0).size)

        def __deepcopy__(self, memo):
            return type(self)()

    model = model_of(2, None, "mse", [Asks()])
    assert model.fit(X, REAL, epochs=1, verbose=0).history["largest"] == [4.0]


def test_members_of_an_ensemble_add_up_apart():
    def member(seed):
        model = model_of(2, "sigmoid", "mse", [several, counts_by_host])
        model.set_weights([np.random.default_rng(seed).normal(size=w.shape) for w in model.get_weights()])
        return model

    several, counts_by_host = metrics.Precision(name="p"), metrics.AUC(name="a")
    seeds = iter((1, 2))
    both = Ensemble(lambda: member(next(seeds)), 2)
    found = both.fit(X, BITS, epochs=2, batch_size=10, shuffle=False, verbose=0)
    for seed, history in zip((1, 2), found, strict=True):
        alone = member(seed).fit(X, BITS, epochs=2, batch_size=10, shuffle=False, verbose=0)
        assert history.history == alone.history


def test_a_metric_that_was_given_is_nobody_s_state_until_it_is_computed():
    mine = Largest()
    mine.update_state(np.zeros((1, 2)), np.full((1, 2), 9.0))
    one, other = (Averages(Objective(losses.described("mse"), [mine])) for _ in range(2))
    assert one.result()["largest"] == other.result()["largest"] == 0.0 and float(mine.result()) == 9.0
    model = model_of(2, None, "mse", [mine])
    assert model.evaluate(X, REAL, verbose=0)[1] == float(mine.result()) < 9.0


class Counted(metrics.MeanSquaredError):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.batches = getattr(self, "batches", 0) + 1
        super().update_state(y_true, y_pred, sample_weight)


GIVEN = {
    "a formula": metrics.MeanAbsoluteError,
    "counts by a formula": metrics.Precision,
    "counts at some thresholds": lambda **name: metrics.Recall([0.2, 0.6], **name),
    "counts by the host": metrics.AUC,
    "a user's": Largest,
    "a user's of ours": Counted,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", GIVEN)
def test_a_metric_that_was_given_has_the_result_that_was_computed_last(kind, weighted):
    seen = []

    class Looks(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((np.array(given.result()), logs["val_it"]))

        def on_test_batch_end(self, batch, logs=None):
            seen.append((np.array(given.result()), logs["it"]))

    model = model_of(2, "sigmoid", "mse")
    for given in (GIVEN[kind](name="it") for _ in range(2)):  # the second one is as the first one, and another
        model.compile("sgd", "mse", **{"weighted_metrics" if weighted else "metrics": [given]})
        model.fit(X, BITS, epochs=2, validation_data=(X[:7], BITS[:7]), callbacks=[Looks()], verbose=0)
        found = model.evaluate(X, BITS, verbose=0)[1]
        seen.append((np.array(given.result()), found))
        found = [model.test_on_batch(X[:5], BITS[:5], return_dict=True)["it"] for _ in range(4)]
        seen.append((np.array(given.result()), found[-1]))
        model.train_on_batch(X, BITS)
        seen.append((np.array(given.result()), model.get_metrics_result()["it"]))
    for result, expected in seen:
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert given.name == "it" and all(np.any(result) for result, _ in seen[-3:])
    model.reset_metrics()
    np.testing.assert_array_equal(given.result(), np.zeros_like(seen[0][0]))
    outputs = model.predict(X, verbose=0)
    given.update_state(BITS, outputs)  # it goes on, as of any batch
    np.testing.assert_allclose(given.result(), model.evaluate(X, BITS, verbose=0)[1], rtol=1e-6)


def test_graphs_step_aside_for_what_is_computed_of_outputs():
    def why(*asked, recorder=True):
        judged = dispatch.Judged(losses.described("mse"), list(asked), 2)
        choice = dispatch.fit_for(
            dispatch.Choice({}), SimpleNamespace(rows=1), SimpleNamespace(recorder=recorder), judged
        )
        assert choice.general == bool(choice.why)
        return choice.why

    assert why(metrics.get("mse"), metrics.Precision([0.1, 0.2]), metrics.TopKCategoricalAccuracy()) == ""
    assert why(metrics.AUC(), recorder=None) == ""  # compiled kernels hand outputs over
    assert "a counts at 200 thresholds" in why(metrics.AUC(name="a"))
    assert "median_error is no formula of each sample" in why(metrics.get(median_error))
    assert "largest (Largest) is computed from each batch's outputs" in why(Largest())


def test_every_family_gives_them(family):
    model = models.Sequential([layers.Dense(2, "sigmoid", input_shape=(3,))])
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()])
    model.compile("sgd", "mse", metrics=["mae", metrics.Precision(name="p"), metrics.AUC(name="a"), median_error])
    assert model.fit(X, BITS, epochs=2, batch_size=20, shuffle=False, verbose=0).history["a"][1] > 0.0
    if family != "numpy":
        assert "p adds up" not in model.program and model.program.startswith("compiled") == (family == "numba")
        assert "a counts at 200 thresholds; median_error is no formula" in model.program
    found = model.evaluate(X, BITS, batch_size=20, verbose=0, return_dict=True)
    t, p = BITS, model.predict(X, verbose=0).astype("f8")
    ones = np.ones(50)
    expected = {"a": roc_area(t, p, ones), "p": precision(t, p, ones), "mae": abs(t - p).mean(),
                "median_error": np.median(abs(t - p), axis=1).mean()}  # fmt: skip
    assert {k: v for k, v in found.items() if k != "loss"} == pytest.approx(expected, rel=1e-5)


def test_kernels_give_those_of_one_sum(family):
    names = ["root_mean_squared_error", "cosine_similarity", "pearson_correlation", "accuracy"]
    model = models.Sequential([layers.Dense(3, "softmax", input_shape=(3,))])
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()])
    model.compile("sgd", "mse", metrics=[*names, metrics.TopKCategoricalAccuracy(2, "two")], weighted_metrics=names[:1])
    found = model.evaluate(X, ONE_HOT, batch_size=20, sample_weight=W, verbose=0, return_dict=True)
    p = model.predict(X, verbose=0).astype("f8")
    if family != "numpy":
        assert "one operation after the other" not in model.program
    for name in names[:3]:
        assert found[name] == pytest.approx(float(metrics.get(name)(ONE_HOT, p)), rel=1e-5)
    weighted = metrics.RootMeanSquaredError()(ONE_HOT, p, sample_weight=W)
    assert found["weighted_root_mean_squared_error"] == pytest.approx(float(weighted), rel=1e-5)
    assert found["accuracy"] == np.mean(p.argmax(1) == ONE_HOT.argmax(1))
    assert found["two"] == pytest.approx(FORMS["the largest two"][3](ONE_HOT, p, np.ones(50)))


def test_names_arguments_and_copies():
    assert metrics.get("accuracy").name == "accuracy" and isinstance(metrics.get("Accuracy"), metrics.Accuracy)
    mse = losses.described("mse")
    assert isinstance(metrics.get("ce", loss=mse, output_width=1), metrics.BinaryCrossentropy)
    assert metrics.get("huber").result() == 0.0
    with pytest.raises(ValueError, match="What 'ce' means depends on a model"):
        metrics.get("ce")
    with pytest.raises(TypeError, match="needs arguments"):
        metrics.get("mean_iou")
    for metric in (metrics.AUC(7, "PR"), metrics.Precision([0.1, 0.2], class_id=0), metrics.FBetaScore(beta=2.0),
                   metrics.MeanIoU(3, ignore_class=1), metrics.BinaryAccuracy(threshold=0.2),
                   metrics.MeanMetricWrapper(losses.huber, delta=0.3)):  # fmt: skip
        config = metrics.serialize(metric)
        assert config["module"] == "keras.metrics"
        copies = [copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))]
        if not isinstance(metric, metrics.MeanMetricWrapper):
            copies.append(metrics.deserialize(config))
        assert [c.get_config() for c in copies] == [metric.get_config()] * len(copies)


WRONG = [
    (lambda: metrics.Precision(1.5), r"Threshold values must be in \[0, 1\]"),
    (lambda: metrics.AUC(1), "`num_thresholds` must be an integer > 1"),
    (lambda: metrics.AUC(curve="roc curve"), "Invalid AUC curve value"),
    (lambda: metrics.AUC(num_labels=3), "needed only when `multi_label`"),
    (lambda: metrics.SensitivityAtSpecificity(-1), r"`specificity` must be in the range \[0, 1\]"),
    (lambda: metrics.FBetaScore(beta=1), "should be a Python float > 0"),
    (lambda: metrics.F1Score(average="all"), "Invalid `average`"),
    (lambda: metrics.IoU(2, [2]), "is out of range"),
    (lambda: metrics.R2Score("mean"), "Invalid value for argument `class_aggregation`"),
    (lambda: metrics.TopKCategoricalAccuracy(0), "k must be a finite number >= 1"),
    (lambda: metrics.Recall(class_id=0).update_state([1], [0.5]), "needs y_pred of"),
    (lambda: metrics.R2Score().update_state([1.0], [2.0]), "expects 2D inputs"),
    (lambda: metrics.MeanSquaredError().update_state(np.ones((3, 2)), np.ones((3, 2)), np.ones(2)), "sample_weight"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_what_is_wrong_is_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("make", [metrics.AUC, metrics.Precision, metrics.R2Score, metrics.F1Score,
                                  lambda: metrics.OneHotMeanIoU(3)])  # fmt: skip
def test_targets_that_a_metric_does_not_mean_are_refused_before_training(make):
    model = model_of(3, "softmax", "sparse_categorical_crossentropy", [make()])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"takes 3 numbers per sample; y has 1\. Choose another metric"):
        model.fit(X, ONE_HOT.argmax(1), verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_weights_of_single_outputs_count_where_outputs_are_judged_alone():
    t, p, w = RNG.uniform(size=(3, 5, 2))
    root = metrics.RootMeanSquaredError()
    root.update_state(t, p, sample_weight=w)
    assert root.result() == pytest.approx(np.sqrt(((t - p) ** 2 * w).sum() / w.sum()))
    share = metrics.Precision()
    share.update_state(t > 0.5, p, sample_weight=w)
    above = p > 0.5
    assert share.result() == pytest.approx((w * above * (t > 0.5)).sum() / (w * above).sum())


def test_the_host_s_bins_and_the_formula_count_alike():
    t, w = (RNG.uniform(size=(400, 1)) < 0.5).astype(float), RNG.uniform(size=400)
    p = RNG.integers(0, 11, size=(400, 1)) / 10.0  # on the thresholds, all of them
    for make in (lambda: metrics.AUC(11), lambda: metrics.SpecificityAtSensitivity(0.5, 11),
                 lambda: metrics.Precision([0.1, 0.3, 0.45]), lambda: metrics.Recall([0.0, 0.5, 1.0])):  # fmt: skip
        model = models.Sequential([layers.Activation("linear", input_shape=(1,))], dtype="float64")
        model.compile("sgd", "mse", weighted_metrics=[make()])
        alone = make()
        alone.update_state(t, p, sample_weight=w)
        found = model.evaluate(p, t, sample_weight=w, verbose=0)[1]
        np.testing.assert_allclose(found, alone.result(), rtol=1e-12)


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e30, 1e200])
def test_what_does_not_depend_on_sizes_does_not_far_out(size):
    t, p = np.array([[1.0, 2.0, 4.0]]), np.array([[1.0, 2.0, 3.0]])
    assert metrics.pearson_correlation(t * size, p * size) == pytest.approx(np.corrcoef(t[0], p[0])[0, 1])
    if size >= 1.0:  # below 1e-7 vectors count for less, as in Keras
        assert metrics.get("cosine_similarity")(t * size, p * size) == pytest.approx(17 / np.sqrt(21 * 14))
        covariance, spread = np.cov(t[0], p[0], bias=True)[0, 1], t.var() + p.var() + (t.mean() - p.mean()) ** 2
        assert metrics.concordance_correlation(t * size, p * size) == pytest.approx(2 * covariance / spread, rel=1e-6)


@pytest.mark.parametrize("name", ["pearson_correlation", "concordance_correlation", "cosine_similarity", "mse",
                                  "r2_score", "root_mean_squared_error"])  # fmt: skip
def test_nan_goes_through(name):
    assert np.isnan(metrics.get(name)([[1.0, 2.0, 4.0], [0.0, 1.0, 2.0]], [[1.0, np.nan, 3.0], [0.0, 1.0, 1.0]]))


def test_an_output_that_is_none_is_above_nothing():
    nan, half = metrics.TopKCategoricalAccuracy(2), metrics.TruePositives()
    nan.update_state([[1.0, 0.0, 0.0]], [[np.nan, 0.1, 0.2]])
    half.update_state([1.0, 1.0], [np.nan, 0.6])
    assert nan.result() == 0.0 and half.result() == 1.0


def test_a_function_that_gives_no_numbers_is_named():
    model = models.Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile("sgd", "mse", metrics=[lambda t, p: None])
    with pytest.raises(TypeError, match=r"The metric <lambda> must return numbers, .*; got array\(None"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)


def test_weights_of_an_ignored_class_do_not_count():
    """As in Keras: 1.33774646 of weights 0.5, 1.5, 2; without weights all three samples count."""
    t, p = [0, 1, 2], [[0.8, 0.1, 0.1], [0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]
    assert metrics.SparseCategoricalCrossentropy(ignore_class=0)(t, p) == pytest.approx(0.78462, abs=1e-5)
    ignoring, w = metrics.SparseCategoricalCrossentropy(ignore_class=0), np.array([0.5, 1.5, 2.0])
    assert ignoring(t, p, w) == ignoring(np.c_[t], p, w[:, None]) == pytest.approx(1.33774646, abs=1e-6)
    model = models.Sequential([layers.Dense(3, "softmax")])
    x, y = np.random.default_rng(0).random((10, 4)), np.arange(10) % 3
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=[ignoring])
    found = model.evaluate(x, y, sample_weight=y + 1.0, batch_size=4, verbose=0)[1]
    ignoring.reset_state()
    assert found == pytest.approx(float(ignoring(y, model.predict(x, verbose=0), y + 1.0)), rel=1e-6)


def test_variables_among_its_attributes_are_its_own():
    for held in (Variable(2.0), [Variable(2.0)], {"of": (Variable([2.0, 3.0]),)}):
        metric = metrics.MeanSquaredError()
        metric.more = held
        assert len(metric.variables) == 3
        metric([1.0], [2.0])
        metric.reset_state()
        assert not any(np.any(v.numpy()) for v in metric.variables)


def test_a_name_alone_gives_the_class_s_own_and_in_a_model_itself():
    for given, own in (
        ("mse", "mean_squared_error"),
        ("Precision", "precision"),
        ("BinaryAccuracy", "binary_accuracy"),
    ):
        assert metrics.get(given).name.startswith(own)  # with a number, from the second of a class on
        assert metrics.get(given, loss=losses.get(losses.MeanSquaredError), output_width=1).name == given
