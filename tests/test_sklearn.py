"""gpumlp.sklearn's estimators: scikit-learn's own checks, and scikit-learn's own estimators as the oracle."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pytest
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks

import gpumlp
from gpumlp import sklearn as ours
from gpumlp import utils
from gpumlp.errors import NonFiniteLossWarning, TargetScaleWarning, TrainingWarning

ROUNDING = "float32: sums of a sample's weight, and of the sample so many times, differ by their rounding"
UNEQUAL = {
    "check_sample_weight_equivalence_on_dense_data": ROUNDING,
    "check_sample_weight_equivalence_on_sparse_data": ROUNDING,
}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5))
NUMBERS = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2], X.sum(1)], 1)
COUNTS = RNG.poisson(np.exp(0.5 * X[:, 0])).astype(float)
WEIGHTS = RNG.uniform(0.2, 2.0, 300)
CLASSES = np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5])
WORDS = np.array(["low", "middle", "high"])[CLASSES]
LABELS = make_multilabel_classification(300, 5, n_classes=4, random_state=0)[1]
SETTINGS = dict(hidden_layer_sizes=(16, 8), alpha=0.1, random_state=0, max_iter=15, batch_size=300, shuffle=False)


@pytest.fixture(autouse=True)
def _unconverged():
    """Short trainings do not converge, which is not what is tested; other warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@parametrize_with_checks([ours.MLPClassifier(), ours.MLPRegressor()], expected_failed_checks=lambda estimator: UNEQUAL)
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TargetScaleWarning)  # a check has numbers of 100, as they are
        check(estimator)


# ---- the same numbers ------------------------------------------------------------------------------------------------
def pair(kind, y, sample_weight=None, x=X, **settings):
    """Return scikit-learn's estimator and ours, fitted with the same settings, the former in double."""
    both = [getattr(module, kind)(**{**SETTINGS, **settings}) for module in (theirs, ours)]
    return [each.fit(x, y, sample_weight=sample_weight) for each in both]


def assert_alike(expected, found, rtol=2e-6):
    assert (found.n_iter_, found.t_) == (expected.n_iter_, expected.t_)
    assert (found.n_layers_, found.n_outputs_) == (expected.n_layers_, expected.n_outputs_)
    assert found.out_activation_ == expected.out_activation_
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=rtol)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(found, name), getattr(expected, name), strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    if found.best_loss_ is None:
        np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-5, atol=1e-6)
        assert found.best_validation_score_ == pytest.approx(expected.best_validation_score_, rel=1e-5)
    else:
        assert found.best_loss_ == pytest.approx(expected.best_loss_, rel=rtol)
        assert found.validation_scores_ is None and found.best_validation_score_ is None


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize(
    ("kind", "y"),
    [
        ("MLPClassifier", WORDS), ("MLPClassifier", CLASSES > 0), ("MLPClassifier", LABELS),
        ("MLPRegressor", NUMBERS), ("MLPRegressor", NUMBERS[:, 0]),
    ],
    ids=["words", "two classes", "labels", "several numbers", "numbers"],
)  # fmt: skip
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_losses_and_weights_are_scikit_learns(activation, kind, y, weights):
    expected, found = pair(kind, y, weights, activation=activation)
    assert_alike(expected, found)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X)) if kind == "MLPClassifier" else (
        np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-4, atol=1e-5)
    )


@pytest.mark.parametrize(
    "settings",
    [
        dict(nesterovs_momentum=False),
        dict(momentum=0.0),
        dict(learning_rate="invscaling", power_t=0.1),
        dict(learning_rate="adaptive", max_iter=80, tol=1e-2, n_iter_no_change=2),
        dict(max_iter=200, tol=1e-2, n_iter_no_change=3),  # which stops before
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("kind", "y"), [("MLPClassifier", LABELS), ("MLPRegressor", NUMBERS)], ids=["labels", "numbers"]
)
def test_sgd_is_scikit_learns(settings, kind, y):
    assert_alike(*pair(kind, y, solver="sgd", learning_rate_init=0.05, **settings), rtol=1e-5)


def test_adam_takes_scikit_learns_arguments():
    settings = dict(beta_1=0.5, beta_2=0.9, epsilon=1e-2, learning_rate_init=0.01, alpha=0.0)
    assert_alike(*pair("MLPRegressor", NUMBERS, **settings), rtol=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_poisson_is_scikit_learns(weights):
    both = pair("MLPRegressor", COUNTS, weights, loss="poisson")
    assert_alike(*both)
    assert (both[1].predict(X) > 0.0).all()


@pytest.mark.parametrize(("kind", "y"), [("MLPClassifier", CLASSES), ("MLPRegressor", NUMBERS)])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_early_stopping_is_scikit_learns(kind, y, weights):
    settings = dict(
        early_stopping=True, max_iter=60, learning_rate_init=0.02, n_iter_no_change=3, batch_size=270, tol=0.02
    )
    expected, found = pair(kind, y, weights, **settings)
    assert_alike(expected, found, rtol=1e-4)
    assert found.n_iter_ < 60 and len(found.validation_scores_) == found.n_iter_


def test_the_best_weights_are_kept():
    """Also for words, for which scikit-learn 1.7.0 raises an error of its own."""
    settings = {**SETTINGS, "early_stopping": True, "max_iter": 40, "batch_size": 50, "learning_rate_init": 0.2}
    model = ours.MLPClassifier(**settings).fit(X, WORDS)
    held_out = train_test_split(np.arange(300), random_state=drawn(model), test_size=0.1)[1]
    assert model.score(X[held_out], WORDS[held_out]) == max(model.validation_scores_) > model.validation_scores_[-1]


def drawn(model):
    """Return the random numbers from which the split comes: behind those of the first weights."""
    state = np.random.RandomState(0)
    for kernel, bias in zip(model.coefs_, model.intercepts_, strict=True):
        state.uniform(size=kernel.shape), state.uniform(size=bias.shape)
    return state


def test_batches_of_equal_size_are_scikit_learns():
    assert_alike(*pair("MLPClassifier", WORDS, batch_size=100), rtol=1e-5)


def test_a_smaller_last_batch_has_the_penalty_of_the_others():
    expected, found = pair("MLPRegressor", NUMBERS, batch_size=128, alpha=0.0)
    assert_alike(expected, found, rtol=1e-5)
    expected, found = pair("MLPRegressor", NUMBERS, batch_size=128, alpha=0.1)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-2)


@pytest.mark.parametrize(
    ("kind", "y"),
    [("MLPClassifier", WORDS), ("MLPClassifier", LABELS), ("MLPRegressor", NUMBERS[:, 0])],
    ids=["words", "labels", "numbers"],
)
def test_lbfgs_gets_as_far_as_scikit_learns(kind, y):
    expected, found = pair(kind, y, solver="lbfgs", max_iter=30, activation="tanh", hidden_layer_sizes=(8,))
    assert found.loss_ == pytest.approx(expected.loss_, rel=1e-2)
    assert found.n_iter_ == expected.n_iter_ and found.t_ == 0 and not hasattr(found, "loss_curve_")
    assert found.score(X, y) == pytest.approx(expected.score(X, y), abs=0.02)


def test_lbfgs_says_where_it_does_not_converge_and_takes_its_limits():
    with pytest.warns(ConvergenceWarning, match=r"Increase max_iter \(5\)"):
        found = ours.MLPRegressor(hidden_layer_sizes=8, solver="lbfgs", max_iter=5, random_state=0).fit(X, NUMBERS)
    assert found.n_iter_ == 5
    converged = ours.MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", tol=1e-3).fit(X, NUMBERS[:, 2])
    assert converged.score(X, NUMBERS[:, 2]) > 0.999
    with pytest.raises(AttributeError, match="partial_fit"):
        converged.partial_fit  # noqa: B018


def test_lbfgs_says_where_float32_ends_it():
    x = np.linspace(-1, 1, 300)[:, None]
    settings = dict(hidden_layer_sizes=(20,), activation="tanh", solver="lbfgs", random_state=0, max_iter=2000)
    with pytest.warns(ConvergenceWarning, match=r"as far as float32 can tell, .* above tol=0.0001\. Scale the data"):
        far = ours.MLPRegressor(**settings).fit(x, np.sin(8 * x[:, 0]) + 1e3)
    assert far.n_iter_ < 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.MLPRegressor(**settings).fit(x, np.sin(8 * x[:, 0])).score(x, np.sin(8 * x[:, 0])) > 0.999


# ---- going on --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "y"), [("MLPClassifier", WORDS), ("MLPRegressor", NUMBERS)])
def test_partial_fit_and_warm_start_go_on_as_scikit_learns_do(kind, y):
    both = [getattr(module, kind)(**{**SETTINGS, "max_iter": 4, "warm_start": True}) for module in (theirs, ours)]
    for each in both:
        each.fit(X, y).fit(X, y)
    assert_alike(*both, rtol=1e-5)
    assert len(both[1].loss_curve_) == 8 and both[1].n_iter_ == 4 and both[1].t_ == 8 * len(X)
    first = {"classes": np.unique(y)} if kind == "MLPClassifier" else {}
    settings = {**SETTINGS, "batch_size": 100}
    both = [getattr(module, kind)(**settings).partial_fit(X, y, **first) for module in (theirs, ours)]
    for each in both:
        each.partial_fit(X[:200], y[:200]).partial_fit(X, y)
    assert_alike(*both, rtol=1e-5)


def test_the_penalty_follows_the_size_of_batches():
    both = [module.MLPRegressor(random_state=0, alpha=10.0, shuffle=False) for module in (theirs, ours)]
    for each in both:
        each.partial_fit(X[:150], NUMBERS[:150]).partial_fit(X[:50], NUMBERS[:50])
    assert_alike(*both, rtol=1e-5)


def test_partial_fit_knows_its_classes():
    model = ours.MLPClassifier(**{**SETTINGS, "batch_size": "auto"})
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X, WORDS)
    model.partial_fit(X[:20], np.full(20, "low"), classes=np.unique(WORDS))
    assert list(model.classes_) == ["high", "low", "middle"] and model.predict_proba(X).shape == (300, 3)
    with pytest.raises(ValueError, match="not the same"):
        model.partial_fit(X, WORDS, classes=["low", "high"])
    with pytest.raises(ValueError, match="other"):
        model.partial_fit(X[:2], ["other", "low"])


@pytest.mark.parametrize("module", [theirs, ours])
def test_partial_fit_knows_its_classes_though_the_first_y_was_wrong(module):
    model = module.MLPClassifier(**{**SETTINGS, "batch_size": "auto"})
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, CLASSES, classes=[0, 1])
    model.partial_fit(X[:9], np.zeros(9, int))
    assert list(model.classes_) == [0, 1] and model.predict_proba(X).shape == (300, 2)


@pytest.mark.parametrize("module", [theirs, ours])
def test_warm_start_wants_the_same_classes(module):
    model = module.MLPClassifier(**SETTINGS, warm_start=True).fit(X, CLASSES)
    before = model.coefs_[0].copy()
    for y in (np.minimum(CLASSES, 1), CLASSES + 1):  # fewer, and others
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
            model.fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], before)
    assert list(model.classes_) == [0, 1, 2]


def test_a_fit_starts_anew():
    model = ours.MLPClassifier(**SETTINGS).fit(X, WORDS)
    first = model.coefs_
    assert model.fit(X, WORDS).coefs_[0].tolist() == first[0].tolist() and len(model.loss_curve_) == 15
    assert list(model.fit(X[:, :2], CLASSES).classes_) == [0, 1, 2] and model.n_features_in_ == 2


# ---- as scikit-learn's tools use them --------------------------------------------------------------------------------
def test_pipelines_scores_searches():
    x, y = load_digits(return_X_y=True)
    made = make_pipeline(
        StandardScaler(), ours.MLPClassifier((32,), max_iter=20, learning_rate_init=0.01, random_state=0)
    )
    assert cross_val_score(made, x[:900], y[:900], cv=3).mean() > 0.85
    search = GridSearchCV(
        ours.MLPRegressor(hidden_layer_sizes=(16,), max_iter=100, learning_rate_init=0.01, random_state=0),
        {"alpha": [1e-3, 300.0], "activation": ["tanh", "relu"]}, n_jobs=2, cv=2,
    ).fit(*map(scale, load_diabetes(return_X_y=True)))  # fmt: skip
    assert search.best_params_["alpha"] == 1e-3 and search.best_score_ > 0.3


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_copies(solver):
    model = ours.MLPClassifier(**{**SETTINGS, "solver": solver, "n_models": 2}).fit(X, WORDS)
    read = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(read.predict_proba(X), model.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    assert clone(model).get_params() == model.get_params()
    if solver != "lbfgs":
        for each in (read, model):
            each.partial_fit(X, WORDS)  # the optimizer's state and the order of samples go on, too
        np.testing.assert_array_equal(read.predict_proba(X), model.predict_proba(X))


def test_random_state_decides_all_and_nothing_else_does():
    settings = {**SETTINGS, "shuffle": True, "batch_size": 32, "max_iter": 3}
    utils.set_random_seed(1)
    state, first = np.random.get_state()[1].tolist(), ours.MLPRegressor(**settings).fit(X, NUMBERS).predict(X)
    assert np.random.get_state()[1].tolist() == state
    utils.set_random_seed(2)
    np.testing.assert_array_equal(ours.MLPRegressor(**settings).fit(X, NUMBERS).predict(X), first)
    other = ours.MLPRegressor(**{**settings, "random_state": 1}).fit(X, NUMBERS).predict(X)
    assert np.abs(other - first).max() > 1e-3


def test_several_models():
    settings = {**SETTINGS, "shuffle": True, "batch_size": 32}
    model = ours.MLPRegressor(**settings, n_models=3).fit(X, NUMBERS)
    mean, std = model.predict(X, return_std=True)
    each = model.ensemble_.predict_members(X.astype(np.float32)).astype(np.float64)
    assert mean.shape == std.shape == (300, 3) and len(each) == 3
    np.testing.assert_allclose(mean, each.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, each.std(0), rtol=1e-9)
    assert std.min() > 0.0
    one = ours.MLPRegressor(**settings).fit(X, NUMBERS[:, 0])
    assert one.predict(X).shape == (300,)
    with pytest.raises(ValueError, match="n_models"):
        one.predict(X, return_std=True)
    classifier = ours.MLPClassifier(**settings, n_models=3).fit(X, WORDS)
    np.testing.assert_allclose(classifier.predict_proba(X).sum(1), 1.0, rtol=1e-12)
    assert (classifier.classes_[classifier.predict_proba(X).argmax(1)] == classifier.predict(X)).all()


# ---- what comes in, and what comes out -------------------------------------------------------------------------------
def test_dtypes_and_sparse_data():
    model = ours.MLPClassifier(**SETTINGS).fit(X, WORDS)
    single = model.predict_proba(X.astype(np.float32))
    double = model.predict_proba(X)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, rtol=1e-5)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(double), rtol=1e-12)
    for dtype in (np.float32, np.float64):
        frame = pandas.DataFrame(X.astype(dtype))
        assert model.predict_proba(frame.to_numpy()).dtype == model.predict_proba(frame).dtype == dtype
        assert model.predict_proba(X.astype(dtype).tolist()).dtype == np.float64
    from_sparse = ours.MLPClassifier(**SETTINGS).fit(sparse.csr_matrix(X), WORDS)
    np.testing.assert_array_equal(from_sparse.predict_proba(sparse.csc_matrix(X)), double)


def test_labels_come_back_as_they_were():
    assert ours.MLPClassifier(**SETTINGS).fit(X, WORDS).predict(X).dtype.kind == "U"
    several = ours.MLPClassifier(**SETTINGS).fit(X, LABELS)
    assert several.predict(X).shape == several.predict_proba(X).shape == (300, 4)
    np.testing.assert_array_equal(several.predict(X), several.predict_proba(X) > 0.5)
    two = ours.MLPClassifier(**SETTINGS).fit(X, CLASSES > 0)
    assert two.predict(X).dtype == bool and two.predict_proba(X).shape == (300, 2)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (dict(activation="swish"), ValueError, "activation"), (dict(solver="adamw"), ValueError, "Did you mean 'adam'"),
        (dict(learning_rate="optimal"), ValueError, "learning_rate"), (dict(alpha=-1.0), ValueError, "alpha"),
        (dict(hidden_layer_sizes=(3, 0)), ValueError, "hidden_layer_sizes"),
        (dict(hidden_layer_sizes="100"), TypeError, "hidden_layer_sizes"),
        (dict(batch_size=0), ValueError, "batch_size"),
        (dict(beta_1=1.0), ValueError, "beta_1 must .* >= 0 and < 1"), (dict(max_iter=0), ValueError, "max_iter"),
        (dict(shuffle="yes"), ValueError, "shuffle"), (dict(n_iter_no_change=0.5), TypeError, "n_iter_no_change"),
        (dict(n_models=0), ValueError, "n_models"), (dict(loss="absolute"), ValueError, "loss"),
        (dict(device="tpu"), ValueError, "tpu"), (dict(loss=(64, 64)), TypeError, "hidden_layer_sizes="),
    ],
    ids=str,
)  # fmt: skip
def test_parameters_are_looked_at(settings, error, words):
    model = ours.MLPRegressor(**settings)
    with pytest.raises(error, match=words):
        model.fit(X, NUMBERS)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("kind", [ours.MLPRegressor, ours.MLPClassifier])
def test_a_parameter_that_there_is_not_is_named_with_the_nearest(kind):
    with pytest.raises(
        TypeError, match=rf"{kind.__name__}\(\) has no argument 'hidden_layers'. Did you mean 'hidden_layer_s"
    ):
        kind(hidden_layers=(3,))


def test_what_cannot_be_trained_on_is_told():
    with pytest.raises(ValueError, match=r"non-finite.*float32"), pytest.warns(TrainingWarning) as told:
        ours.MLPRegressor(**SETTINGS).fit(X, NUMBERS[:, 0] * 1e30)
    assert [each.category for each in told] == [TargetScaleWarning, NonFiniteLossWarning]
    assert "TransformedTargetRegressor" in str(told[0].message)
    with pytest.raises(ValueError, match="validation set is too small"):
        ours.MLPRegressor(**SETTINGS, early_stopping=True).fit(X[:8], NUMBERS[:8])
    with pytest.raises(ValueError, match="does not support early_stopping"):
        ours.MLPRegressor(**SETTINGS, early_stopping=True).partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match=r"sum above 0|non-zero"):
        ours.MLPRegressor(**SETTINGS).fit(X, NUMBERS, sample_weight=np.zeros(300))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        ours.MLPRegressor(**SETTINGS).fit(X, NUMBERS, sample_weight=-WEIGHTS)
    with pytest.warns(UserWarning, match="clipped"):
        ours.MLPRegressor(**{**SETTINGS, "batch_size": 301}).fit(X, NUMBERS)


def test_poisson_wants_counts():
    model = ours.MLPRegressor(**SETTINGS, loss="poisson")
    with pytest.raises(ValueError, match=r"y must be >= 0; its least is -1\.0"):
        model.fit(X, COUNTS - 1.0)
    assert not hasattr(model, "coefs_")


def test_maximum_iterations_are_told_by_the_line_that_called():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(15\)") as found:
        ours.MLPRegressor(**SETTINGS).fit(X, NUMBERS)
    assert found[0].filename == __file__


def test_verbose_prints_epochs(capsys):
    ours.MLPClassifier(**{**SETTINGS, "max_iter": 2, "batch_size": 270}, verbose=True, early_stopping=True).fit(
        X, WORDS
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" = ")[0].split(": ")[0] for line in lines] == [
        "Iteration 1, loss", "Validation score", "Iteration 2, loss", "Validation score",
    ]  # fmt: skip


def test_ctrl_c_keeps_what_there_is(monkeypatch):
    from gpumlp.sklearn import course

    def press(self, rate):
        raise KeyboardInterrupt

    monkeypatch.setattr(course.Watch, "_set_rate", press)
    model = ours.MLPRegressor(**SETTINGS, solver="sgd", learning_rate="invscaling")
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, NUMBERS)
    assert model.n_iter_ == 1 and model.predict(X).shape == NUMBERS.shape


def test_scikit_learn_is_imported_where_it_is_asked_for():
    code = (
        "import sys, gpumlp; assert 'sklearn' not in sys.modules; gpumlp.sklearn.MLPRegressor; "
        "assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert gpumlp.sklearn is ours
