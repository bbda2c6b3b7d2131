"""Searches: candidates over folds come to the bits of models that are trained alone, whoever trains them."""

import contextlib
import itertools
import pickle
import re
import threading
import warnings

import h5py
import numpy as np
import pandas
import pytest
from sklearn.model_selection import TimeSeriesSplit
from test_ensemble import compiled, state
from test_executors import Ends, X, Y, build

import gpumlp
from gpumlp import callbacks, config, errors, initializers, layers, ops, optimizers, regularizers
from gpumlp.utils import set_random_seed


def candidate(units=4, rate=0.01, drop=0.0):
    if units < 0:
        raise ValueError(f"{units} units")
    stack = layers.Dense(units, "tanh"), layers.Dropout(drop), layers.Dense(2)
    return compiled(*stack, built=units % 2 == 0, optimizer=optimizers.Adam(rate), metrics=["mae"])


GRID = {"units": [4, 7], "drop": [0.0, 0.2]}
HOW = {"epochs": 3, "batch_size": 8, "verbose": 0}
SEARCHES = {
    "plain": {}, "in order": {"shuffle": False}, "weighted": {"sample_weight": np.linspace(0.5, 2, 40)},
    "a split": {"validation_split": 0.25}, "stopped": {"callbacks": [callbacks.EarlyStopping("loss", min_delta=0.1)]},
    "steps": {"steps_per_epoch": 2},
}  # fmt: skip


def by_itself(found, case, how):
    """Return the scores and the history of a case's model, trained alone."""
    (train, test), how, params = found.folds[case.fold], dict(how), dict(found.params[case.candidate])
    how |= {name: params.pop(name) for name in ("batch_size", "epochs", "shuffle") if name in params}
    weights = how.pop("sample_weight", None)
    set_random_seed(found.seed)
    model = candidate(**params)
    own = None if weights is None else weights[train]
    model.fit(X[train], Y[train], sample_weight=own, **how)
    own = None if weights is None else weights[test]
    return model.evaluate(X[test], Y[test], how["batch_size"], 0, own, return_dict=True), model.history.history


@pytest.mark.filterwarnings("ignore:The data ran out")
@pytest.mark.parametrize("fit", SEARCHES)
def test_each_candidate_is_the_model_trained_alone(threads, fit):
    how = HOW | SEARCHES[fit]
    python, numpy = np.random.get_state()[1].tobytes(), gpumlp.random.current().state()
    here = gpumlp.search(candidate, GRID, X, Y, cv=3, seed=5, **how)
    assert (np.random.get_state()[1].tobytes(), gpumlp.random.current().state()) == (python, numpy)
    assert len(here.scores) == 12 and not here.failed
    for case in here.scores:
        assert (here.scores[case], here.histories[case]) == by_itself(here, case, how)
    there = gpumlp.search(candidate, GRID, X, Y, cv=3, seed=5, executor=threads, **how)
    assert (here.scores, here.histories) == (there.scores, there.histories) and repr(here) == repr(there)


def test_arguments_of_fit_are_candidates_too(threads):
    grid = {"units": [4, 6], "batch_size": [5, 8], "epochs": [1, 4], "shuffle": [True, False]}
    for executor in (None, threads):
        found = gpumlp.search(candidate, grid, X, Y, cv=2, refit=True, executor=executor, **HOW)
        assert {len(history["loss"]) for history in found.histories.values()} == {1, 4} and len(found.scores) == 32
        for case in found.scores:
            assert (found.scores[case], found.histories[case]) == by_itself(found, case, HOW)
    assert len(found.model.history.epoch) == found.best_params["epochs"]
    seen = []

    def takes(epochs, **others):
        seen.append((epochs, others))
        return candidate()

    found = gpumlp.search(takes, [{"epochs": 2, "batch_size": 5}], X, Y, cv=2, **HOW)
    assert seen == [(2, {"batch_size": 5})] * 2 and len(found.histories[0, 0]["loss"]) == 3


def test_threads_do_not_draw_from_each_others_numbers(threads):
    both = threading.Barrier(2)

    def drawing(rate):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.05)  # two that build at once would go on in step
        model = candidate(3, rate)
        model.layers[0].set_weights([np.random.normal(size=w.shape) for w in model.layers[0].get_weights()])
        return model

    grid, before = {"rate": [0.01, 0.02]}, np.random.get_state()[1].tolist()
    found = gpumlp.search(drawing, grid, X, Y, cv=2, executor=threads, **HOW)
    assert np.random.get_state()[1].tolist() == before
    assert found.scores == gpumlp.search(drawing, grid, X, Y, cv=2, **HOW).scores


def test_workers_have_the_settings_of_who_asks(processes):
    holed = np.where(np.arange(40)[:, None] == 3, np.nan, X).astype(np.float32)
    gpumlp.config.set_nonfinite("ignore")
    gpumlp.config.set_advice("ignore")
    gpumlp.config.set_floatx("float64")
    try:
        found = gpumlp.search(candidate, {"units": [3]}, X, Y, cv=2, executor=processes, **HOW)
        assert found.scores == gpumlp.search(candidate, {"units": [3]}, X, Y, cv=2, **HOW).scores
        gpumlp.Ensemble(build, 2).fit(holed, Y, verbose=0, executor=processes)  # and no warning
    finally:
        gpumlp.config.set_floatx("float32")
        gpumlp.config.set_nonfinite("warn")
        gpumlp.config.set_advice("warn")
    assert gpumlp.search(candidate, {"units": [3]}, X, Y, cv=2, executor=processes, **HOW).scores != found.scores


def test_by_processes_and_the_best_trained_on_all(processes):
    found = gpumlp.search(candidate, GRID, X, Y, cv=3, refit=True, executor=processes, **HOW)
    assert found.scores == gpumlp.search(candidate, GRID, X, Y, cv=3, **HOW).scores
    set_random_seed(0)
    model = candidate(**found.best_params)
    model.fit(X, Y, **HOW)
    assert state(model) == state(found.model)
    again = pickle.loads(pickle.dumps(found))
    assert repr(again) == repr(found) and state(again.model)[0] == state(model)[0]


def test_a_table_of_means_and_spreads():
    found = gpumlp.search(candidate, GRID, X, Y, cv=4, monitor="mae", **HOW)
    frame = pandas.DataFrame(found.to_dict())
    assert list(frame) == ["units", "drop", "loss", "loss_std", "mae", "mae_std", "folds"]
    maes = np.array([[found.scores[i, j]["mae"] for j in range(4)] for i in range(4)])
    assert np.array_equal(frame["mae"], maes.mean(1)) and np.array_equal(frame["mae_std"], maes.std(1))
    assert found.best_index == maes.mean(1).argmin() and found.best_score == maes.mean(1).min()
    assert found.rows()[found.best_index] == frame.to_dict("records")[found.best_index]
    lines = repr(found).splitlines()
    assert lines[0] == "4 candidates, 4 folds, the best by mae first" and len(lines) == 6
    assert lines[2].split()[0] == str(found.best_index)
    assert found.ranking == np.argsort(maes.mean(1), kind="stable").tolist()
    found.mode = "max"
    assert found.best_index == maes.mean(1).argmax()
    found.monitor = "rmse"
    with pytest.raises(ValueError, match="monitor must be one of loss, mae"):
        _ = found.best_params


def test_one_of_each(capsys):
    found = gpumlp.search(candidate, [{}], X, Y, cv=[(range(30), range(30, 40))], **(HOW | {"verbose": 2}))
    assert re.match(r"Training 1 model\n1/1 - \d+s - \S+/model\n", capsys.readouterr().out)
    lines = repr(found).splitlines()
    assert lines[0] == "1 candidate, 1 fold, the best by loss first"
    row = found.rows()[0]
    assert np.isnan(row["mae_std"]) and lines[2].split()[2:] == ["-", f"{row['mae']:.4g}", "-", "1"]
    assert found == found and found != pickle.loads(pickle.dumps(found))


def penalised(l2):
    stack = layers.Dense(3, "tanh", kernel_regularizer=regularizers.L2(l2) if l2 else None), layers.Dense(2)
    return compiled(*stack, optimizer=optimizers.Adam(0.01), metrics=["mse"])


def test_losses_with_other_penalties_are_told(threads):
    grid = {"l2": [0.0, 0.3, 0.3]}
    for executor in (None, threads):
        with pytest.warns(UserWarning, match=r"which differ: L2\(l2=0.3\); none. .*monitor='mse'"):
            found = gpumlp.search(penalised, grid, X, Y, cv=2, executor=executor, **HOW)
    with pytest.warns(UserWarning, match="which differ"):
        gpumlp.search(penalised, grid, X, Y, cv=2, resume=found, **HOW)
    gpumlp.search(penalised, grid, X, Y, cv=2, monitor="mse", **HOW)
    gpumlp.search(penalised, {"l2": [0.3, 0.3]}, X, Y, cv=2, **HOW)


def test_folds():
    rows = gpumlp.search(candidate, [{}], X, Y, cv=3, **HOW).folds
    assert sorted(np.concatenate([test for _, test in rows])) == list(range(40))
    assert all(sorted([*train, *test]) == list(range(40)) for train, test in rows)
    pairs = [(range(30), range(30, 40)), (np.arange(40) < 20, [39])]
    for cv in (TimeSeriesSplit(3), pairs):
        given = (
            list(cv.split(X)) if hasattr(cv, "split") else [(np.arange(30), np.arange(30, 40)), (np.arange(20), [39])]
        )
        found = gpumlp.search(candidate, [{"units": 4}], X, Y, cv=cv, **HOW)
        assert all(
            np.array_equal(a, b)
            for one, two in zip(found.folds, given, strict=True)
            for a, b in zip(one, two, strict=True)
        )
        for case in found.scores:
            assert (found.scores[case], found.histories[case]) == by_itself(found, case, HOW)


def test_failures_are_listed_and_only_these_are_tried_again():
    built = []

    def fragile(units):
        built.append(units)
        return candidate(units)

    grid = [{"units": 4}, {"units": -2}, {"units": 6}]
    with pytest.warns(UserWarning, match=r"3 models of 9 failed: ValueError: -2 units"):
        found = gpumlp.search(fragile, grid, X, Y, cv=3, **HOW)
    assert [(f.candidate, f.fold, f.params) for f in found.failed] == [(1, k, {"units": -2}) for k in range(3)]
    assert found.rows()[1]["folds"] == 0 and found.best_index != 1 and "3 models failed" in repr(found)
    assert "judged on all folds" in repr(found)
    built.clear()
    grid[1] = {"units": 2}
    again = gpumlp.search(fragile, grid, X, Y, cv=3, resume=found, **HOW)
    assert built == [2] * 3 and again.scores == gpumlp.search(candidate, grid, X, Y, cv=3, **HOW).scores
    with pytest.raises(errors.SearchFailed, match=r"All models .* have failed, 2\. .*ValueError: -1 units") as raised:
        gpumlp.search(fragile, [{"units": -1}], X, Y, cv=2, **HOW)
    assert len(raised.value.result.failed) == 2
    with pytest.raises(ValueError, match=r"No candidate was judged on all folds.*-1 units"):
        _ = raised.value.result.best_params
    with pytest.raises(ValueError, match="resume is of a search with seed=0; here it is 1"):
        gpumlp.search(fragile, grid, X, Y, cv=3, seed=1, resume=found, **HOW)


OTHER = {
    "x": ({"x": X + 1}, "another x"), "y": ({"y": np.asfortranarray(2 * Y)}, "another y"),
    "sample_weight": ({"sample_weight": np.ones(40)}, "another sample_weight"),
    "validation_data": ({"validation_data": (X, Y)}, "another validation_data"),
    "epochs": ({"epochs": 4, "batch_size": 9}, "batch_size=8; here it is 9, epochs=3; here it is 4"),
    "class_weight": ({"class_weight": {0: 2.0}}, r"class_weight=None; here it is \{0: 2.0\}"),
    "validation_split": ({"validation_split": 0.5}, "validation_split=0.0; here it is 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER)
def test_what_was_found_of_other_data_or_arguments_is_not_gone_on_with(what):
    given, words = OTHER[what]
    same = {"build": candidate, "grid": {"units": [4]}, "x": X, "y": Y, "cv": 2} | HOW
    found = pickle.loads(pickle.dumps(gpumlp.search(**same)))
    with pytest.raises(ValueError, match=f"resume is of a search with {words}. Pass the same"):
        gpumlp.search(**(same | given), resume=found)
    again = gpumlp.search(**(same | {"x": np.asfortranarray(X), "y": Y.copy()}), resume=found)
    assert all(again.scores[case] is found.scores[case] for case in found.scores)


def ends(params):
    return [Ends(0, params["how"])]


def ending(how):
    return candidate()


def test_a_candidate_that_raises_is_told_and_those_beside_it_are_trained(processes):
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        found = gpumlp.search(
            ending, {"how": ["", "raise", ""]}, X, Y, cv=2, callbacks=ends, executor=processes, **HOW
        )  # fmt: skip
    assert {f.candidate for f in found.failed} == {1} and len(found.scores) == 4


def test_a_worker_that_dies_leaves_the_rest_of_a_search(mortal):
    grid = {"how": ["", "", "", "exit"]}
    with pytest.warns(UserWarning, match="BrokenProcessPool"):
        found = gpumlp.search(ending, grid, X, Y, cv=2, callbacks=ends, executor=mortal, **HOW)
    assert {3} <= {f.candidate for f in found.failed} and found.scores
    assert len(repr(found.failed)) < 200 * len(found.failed) < sum(len(f.reason) for f in found.failed)
    with pytest.warns(UserWarning, match="SystemExit|failed"):
        again = gpumlp.search(
            ending, {"how": ["", "", "", "raise"]}, X, Y, cv=2, callbacks=ends, resume=found, **HOW
        )  # fmt: skip
    assert len(again.scores) == 6


def test_ctrl_c_keeps_what_a_search_has_done():
    calls = []

    def interrupting(units):
        calls.append(units)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return candidate(units)

    grid = {"units": [2, 4, 6, 8]}
    with pytest.raises(errors.SearchInterrupted, match="resume") as raised:
        gpumlp.search(interrupting, grid, X, Y, cv=3, **HOW)
    found = raised.value.result
    assert len(found.scores) == 6
    calls = [None] * 10
    again = gpumlp.search(interrupting, grid, X, Y, cv=3, resume=found, **HOW)
    assert len(calls) == 16 and again.scores == gpumlp.search(candidate, grid, X, Y, cv=3, **HOW).scores


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"grid": 3}, TypeError, "grid must be a dict of lists"), ({"grid": {"units": 4}}, TypeError, r"Write \[4\]"),
        ({"grid": {"units": []}}, ValueError, "must have a candidate"), ({"grid": [3]}, TypeError, "a list of dicts"),
        ({"cv": 1}, ValueError, "2 folds or more"), ({"cv": "x"}, TypeError, "cv must be a number of folds"),
        ({"cv": [([0], [40])]}, ValueError, "test of fold 0"), ({"cv": [([], [1])]}, ValueError, "train of fold 0"),
        ({"cv": [3]}, ValueError, "Fold 0 of cv must be a pair"), ({"cv": []}, ValueError, "no fold"),
        ({"build": 3}, TypeError, "build must be a function"), ({"y": Y[:3]}, ValueError, "3"),
        ({"grid": {"unit": [4]}}, TypeError, "has 'unit', which build does not take. Did you mean 'units'"),
        ({"grid": [{"units": 4}, {"epoch": 4}]}, ValueError, "'epoch', which .* Did you mean 'epochs'"),
        ({"grid": {"units": [4], "validation_split": [0.1]}}, TypeError, "a grid may have batch_size, epochs"),
        ({"build": ending, "grid": [{}]}, TypeError, "missing a required argument: 'how'"),
        ({"x": iter([])}, ValueError, "search takes arrays"), ({"epoch": 3}, TypeError, "epochs"),
    ],
)  # fmt: skip
def test_what_a_search_refuses(given, error, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=words):
            gpumlp.search(**({"build": candidate, "grid": GRID, "x": X, "y": Y, "verbose": 0} | given))


def test_large_data_that_lie_elsewhere_are_not_read_as_a_whole(tmp_path, threads):
    rows = 700_000
    with h5py.File(tmp_path / "x.h5", "w") as file:
        x = file.create_dataset("x", (rows, 3), "float64")
        y = np.zeros(rows, np.float32)
        few = file.create_dataset("few", data=X)
        words = r"takes arrays that are in memory; {} is a Dataset of 16 MiB.*pass numpy.asarray\({}\); else fit"
        with pytest.raises(TypeError, match="search " + words.format("x", "x")):
            gpumlp.search(candidate, GRID, x, y, verbose=0)
        with pytest.raises(TypeError, match="search " + words.format(r"validation_data\[0\]", ".*")):
            gpumlp.search(candidate, GRID, X, Y, verbose=0, validation_data=(x, y))
        for given in ({"x": x, "y": y}, {"x": x, "y": list(y)}):
            with pytest.raises(TypeError, match="executor " + words.format("x", "x")):
                gpumlp.Ensemble(candidate, 2).fit(**given, verbose=0, executor=threads)
        with pytest.raises(TypeError, match="executor " + words.format(r"validation_data\[0\]", ".*")):
            gpumlp.Ensemble(candidate, 2).fit(X, Y, verbose=0, executor=threads, validation_data=(x, list(y)))
        found = gpumlp.search(candidate, [{}], few, Y, cv=2, **HOW)
    assert found.scores == gpumlp.search(candidate, [{}], X, Y, cv=2, **HOW).scores
    mapped = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    assert found.scores == gpumlp.search(candidate, [{}], mapped, Y, cv=2, executor=threads, **HOW).scores


def writing(tmp_path, names):
    return lambda params: [callbacks.CSVLogger(tmp_path / names)]


def test_files_are_each_model_s_own(tmp_path, threads):
    grid = {"units": [4, 6]}
    for callback in (
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.gpumlp"), callbacks.CSVLogger(tmp_path / "log.csv"),
        writing(tmp_path, "log.csv"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"of all models would write to .*Have '\{member\}'"):
            gpumlp.search(candidate, grid, X, Y, cv=2, callbacks=callback, **HOW)
    with pytest.raises(ValueError, match=r"BackupAndRestore is of one model\. Go on with search"):
        backup = callbacks.BackupAndRestore(tmp_path / "{member}")
        gpumlp.search(candidate, grid, X, Y, cv=2, callbacks=[backup], **HOW)
    assert not list(tmp_path.iterdir())
    given = [
        callbacks.CSVLogger(tmp_path / "{member}.csv"),
        callbacks.ModelCheckpoint(tmp_path / "{member:02d}.gpumlp"),
    ]
    found = gpumlp.search(candidate, grid, X, Y, cv=2, callbacks=given, executor=threads, refit=True, **HOW)
    for case in found.scores:
        lines = (tmp_path / f"{2 * case.candidate + case.fold}.csv").read_text().splitlines()[1:]
        assert [float(line.split(",")[1]) for line in lines] == found.histories[case]["loss"]
    assert state(gpumlp.models.load_model(tmp_path / "04.gpumlp"))[0] == state(found.model)[0]
    assert len(list(tmp_path.iterdir())) == 10


class Late(callbacks.Callback):
    """Raises where a model sees all samples."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        if self.params["steps"] == 5:
            raise self.error


@pytest.mark.parametrize(
    "error, told", [(KeyboardInterrupt(), errors.SearchInterrupted), (OSError("full"), errors.SearchFailed)]
)
def test_a_search_is_kept_where_the_best_is_not_trained_on_all(error, told):
    with pytest.raises(told) as raised:
        gpumlp.search(candidate, {"units": [4]}, X, Y, cv=2, refit=True, callbacks=[Late(error)], **HOW)
    found = raised.value.result
    assert len(found.scores) == 2 and found.model is None and found.best_params == {"units": 4}
    assert pickle.loads(pickle.dumps(raised.value)).result.scores == found.scores


def test_what_no_candidate_has_is_refused_before_any_is_trained():
    def doubled():
        model = candidate()
        model.compile("sgd", "mse", metrics=["mae", "mae"], weighted_metrics=["mae"])
        return model

    class Never(callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise AssertionError

    with pytest.raises(ValueError, match=r"monitor must be one of loss, mae; got 'accuracy'"):
        gpumlp.search(candidate, {"units": [4]}, X, Y, cv=2, monitor="accuracy", callbacks=Never(), **HOW)
    with pytest.raises(ValueError, match=r"mode must be one of auto, min, max; got 'least'"):
        gpumlp.search(candidate, {"units": [4]}, X, Y, cv=2, mode="least", callbacks=Never(), **HOW)
    for name in ("mae_1", "weighted_mae", "mae"):
        assert gpumlp.search(doubled, [{}], X, Y, cv=2, monitor=name, **HOW).best_index == 0


def test_callbacks_are_each_model_s_own(threads):
    class Mine(callbacks.EarlyStopping):
        pass

    one, kept = Mine("loss"), {}
    shared = lambda params: [one], lambda params: kept.setdefault(str(params), Mine("loss"))
    for given, executor in itertools.product(shared, (None, threads)):
        with pytest.raises(ValueError, match="Models share one Mine: the function must make a new one"):
            gpumlp.search(candidate, GRID, X, Y, cv=2, callbacks=given, executor=executor, **HOW)
    assert one.model is None
    found = gpumlp.search(candidate, GRID, X, Y, cv=2, callbacks=lambda params: Mine("loss"), **HOW)
    assert len(found.scores) == 8


def metrics_of(names):
    return compiled(layers.Dense(2), optimizer="sgd", metrics=list(names))


def test_candidates_need_not_have_the_same_metrics():
    grid = [{"names": ["mae"]}, {"names": []}, {"names": ["mae", "mse"]}]
    for monitor, order in (("loss", None), ("mse", [2, 0, 1])):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = gpumlp.search(metrics_of, grid, X, Y, cv=2, monitor=monitor, **HOW)
        words = [str(each.message) for each in told]
        assert len(words) == (monitor == "mse") and all("without 'mse' come last: 0, 1." in each for each in words)
        assert order is None or found.ranking == order
        assert repr(found).count("nan") == 3 and np.isnan(found.to_dict()["mse"][1])
    with pytest.raises(ValueError, match="monitor must be one of loss, mae, mse; got 'rmse'"):
        gpumlp.search(metrics_of, grid, X, Y, cv=2, monitor="rmse", **HOW)
    with pytest.raises(TypeError, match="monitor must be the name of a number, such as 'loss'; got None"):
        gpumlp.search(metrics_of, grid, X, Y, cv=2, monitor=None, **HOW)


def of_numbers(t, p):
    return np.abs(np.asarray(t) - np.asarray(p)).mean(-1)


class Worst(gpumlp.metrics.Metric):
    def __init__(self, name="worst"):
        super().__init__(name=name)
        self.found = self.add_weight(name="found")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.found.assign(max(float(self.found), float(abs(y_true - y_pred).max())))

    def result(self):
        return self.found


def own_metrics(units, metric):
    return compiled(layers.Dense(units, "tanh"), layers.Dense(2), optimizer="sgd", metrics=[metric])


@pytest.mark.parametrize("metric", [lambda t, p: ops.mean(abs(t - p), -1), of_numbers, Worst()])
def test_what_nobody_knows_the_better_of_is_told_before_anything_is_trained(metric):
    """Less of it was taken for worse."""
    name = getattr(metric, "name", None) or metric.__name__

    class Never(callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise AssertionError

    how = {"build": own_metrics, "grid": {"units": [1, 6], "metric": [metric]}, "x": X, "y": Y, "cv": 2} | HOW
    with pytest.raises(ValueError, match=f"not known whether more or less of '{name}' is better: pass mode="):
        gpumlp.search(**how, monitor=name, callbacks=Never())
    found = gpumlp.search(**how, monitor=name, mode="min")
    assert found.best_score == min(row[name] for row in found.rows())
    found.mode = "auto"
    with pytest.raises(ValueError, match="not known whether"):
        _ = found.best_params


def regularized(how, units=3):
    return compiled(layers.Dense(units, "tanh", **how), layers.Dense(2), optimizer="sgd", metrics=["mse"])


SAME = [
    ({"units": 3, "how": {"use_bias": True, "kernel_regularizer": regularizers.L2(0.1)}},
     {"how": {"kernel_regularizer": regularizers.L2(0.1), "use_bias": True}, "units": np.int64(3)}),
    ({"how": {"kernel_initializer": initializers.Constant(np.ones((3, 3)))}},
     {"how": {"kernel_initializer": initializers.Constant(np.ones((3, 3)))}}),
]  # fmt: skip


@pytest.mark.parametrize("travelled", [False, True])
def test_what_a_candidate_is_counts_not_how_it_is_written(travelled):
    other = {"how": {"kernel_regularizer": regularizers.L2(0.2), "use_bias": True}, "units": 3}
    for before, now in SAME:
        found = gpumlp.search(
            regularized, [before], X, Y, cv=2, epochs=np.int64(3), batch_size=32, monitor="mse", verbose=0
        )
        found = pickle.loads(pickle.dumps(found)) if travelled else found
        again = gpumlp.search(regularized, [other, now], X, Y, cv=2, epochs=3, monitor="mse", verbose=0, resume=found)
        assert [again.scores[1, k] is found.scores[0, k] for k in range(2)] == [True, True]
        assert all(again.scores[0, k] is not score for k in range(2) for score in found.scores.values())
    config.set_floatx("float64")
    try:
        with pytest.raises(ValueError, match="resume is of a search with floatx='float32'; here it is 'float64'"):
            gpumlp.search(regularized, [SAME[0][0]], X, Y, cv=2, epochs=3, monitor="mse", verbose=0, resume=found)
    finally:
        config.set_floatx("float32")


def test_arrays_whose_words_are_the_same_are_other_candidates():
    large, other = np.zeros(2000), np.zeros(2000)
    other[1000] = 1.0

    def build(weights):
        return candidate(rate=0.01 + weights.sum())

    assert repr(large) == repr(other)
    found = gpumlp.search(build, {"weights": [large]}, X, Y, cv=2, **HOW)
    again = gpumlp.search(build, {"weights": [other]}, X, Y, cv=2, resume=found, **HOW)
    assert again.scores != found.scores
    assert again.scores == gpumlp.search(build, {"weights": [other]}, X, Y, cv=2, **HOW).scores


def test_a_warning_that_is_an_error_does_not_lose_what_was_found():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(errors.SearchFailed, match="UserWarning: 2 models of 4 failed") as raised:
            gpumlp.search(candidate, {"units": [4, -1]}, X, Y, cv=2, refit=True, **HOW)
    assert len(raised.value.result.scores) == 2
    assert gpumlp.search(candidate, {"units": [4]}, X, Y, cv=2, resume=raised.value.result, **HOW).scores
