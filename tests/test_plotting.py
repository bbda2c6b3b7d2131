"""Plots: what is drawn is what was given; they look the same everywhere, and leave everything else as it was."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

import gpumlp
from gpumlp import layers, models, plotting
from gpumlp.plotting import style

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def figures():
    from matplotlib import pyplot

    pyplot.switch_backend("Agg")
    yield pyplot
    pyplot.close("all")


def regressor():
    gpumlp.utils.set_random_seed(0)
    model = models.Sequential([layers.Input((1,)), layers.Dense(4, "relu"), layers.Dropout(0.5), layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"])
    return model


class Members:
    """What `plot_ensemble` needs of an ensemble."""

    def predict_members(self, x):
        return np.stack([np.sin(x) + k for k in (-1.0, 0.0, 2.0)])[..., None]


X = np.array([3.0, 1.0, 2.0])
ALL = {
    "plot_history": lambda **given: plotting.plot_history({"loss": [1.0, 0.01], "mae": [3.0, 2.0]}, **given),
    "plot_prediction": lambda **given: plotting.plot_prediction(X, X, X + 1, **given),
    "plot_parity": lambda **given: plotting.plot_parity(X, X + 1, **given),
    "plot_residuals": lambda **given: plotting.plot_residuals(X, X + 1, **given),
    "plot_ensemble": lambda **given: plotting.plot_ensemble(Members(), X, data=(X, X), y_true=X, **given),
    "plot_confusion_matrix": lambda **given: plotting.plot_confusion_matrix([0, 1, 1], [0, 1, 0], **given),
    "plot_weights": lambda **given: plotting.plot_weights(regressor(), **given),
    "plot_activations": lambda **given: plotting.plot_activations(regressor(), X, **given),
}
PANELS = {"plot_history": 2, "plot_residuals": 2, "plot_weights": 2, "plot_activations": 2}
each = pytest.mark.parametrize("name", ALL)


def test_all_are_here():
    assert {*ALL, "plot_model"} == {*plotting.__all__}


def colours(line):
    return matplotlib.colors.to_hex(line.get_color())


def xy(line):
    return [list(values) for values in line.get_data()]


# ---- what all have ---------------------------------------------------------------------------------------------------


@each
def test_axes_are_returned_and_can_be_given(figures, name):
    made = ALL[name](title="a title")
    assert len(figures.get_fignums()) == 1
    assert isinstance(made, np.ndarray) == (name in PANELS)
    axes = np.ravel(made)
    assert len(axes) == PANELS.get(name, 1)
    titles = [axes[0].figure.get_suptitle(), *(a.get_title("left") for a in axes)]
    assert "a title" in titles
    assert all(a.get_xlabel() for a in axes)
    own = figures.subplots(1, PANELS.get(name, 1))[1]
    assert list(np.ravel(ALL[name](axes=own))) == list(np.ravel(own))
    assert len(figures.get_fignums()) == 2


def test_figures_of_several_panels_say_what_of(figures):
    model = regressor()
    said = {
        "plot_weights": f"The {model.count_params():,} weights of {model.name!r}",
        "plot_activations": f"What the layers of {model.name!r} give for {len(X):,} samples",
        "plot_residuals": f"The residuals of {len(X):,} samples",
    }
    given = {"plot_weights": (model,), "plot_activations": (model, X), "plot_residuals": (X, np.sin(X))}
    for name, arguments in given.items():
        assert getattr(plotting, name)(*arguments)[0].figure.get_suptitle() == said[name]
        own, axes = figures.subplots(1, 2)
        getattr(plotting, name)(*arguments, axes=axes)
        assert own.get_suptitle() == ""


@each
def test_the_users_settings_are_left_alone_and_do_not_change_a_plot(figures, name):
    def look(axes):
        figure = axes.figure
        figure.canvas.draw()
        ticks = [t for t in axes.get_xticklabels() if t.get_text()]
        texts = [axes.xaxis.label, *ticks, *(legend.get_texts()[0] for legend in [axes.get_legend()] if legend)]
        to_hex = matplotlib.colors.to_hex
        shown = [(t.get_text(), t.get_fontsize(), to_hex(t.get_color()), t.get_fontfamily()) for t in texts]
        return shown, figure.get_facecolor(), axes.get_facecolor(), figure.dpi, axes.spines["top"].get_visible()

    plain = look(np.ravel(ALL[name]())[0])
    assert plain[3] == style.DPI
    with matplotlib.rc_context():
        figures.style.use("dark_background")
        matplotlib.rcParams.update({"font.size": 21, "font.family": "serif", "axes.grid": False, "figure.dpi": 50})
        before = dict(matplotlib.rcParams)
        assert look(np.ravel(ALL[name]())[0]) == plain
        assert dict(matplotlib.rcParams) == before


@each
def test_axes_that_are_given_keep_their_look(figures, name):
    with matplotlib.rc_context():
        figures.style.use("dark_background")
        own = figures.subplots(1, PANELS.get(name, 1))[1]
        before = [(a.get_facecolor(), a.xaxis.label.get_color(), a.spines["top"].get_visible()) for a in np.ravel(own)]
        ALL[name](axes=own)
        after = [(a.get_facecolor(), a.xaxis.label.get_color(), a.spines["top"].get_visible()) for a in np.ravel(own)]
        assert after == before
        if name == "plot_ensemble":  # what would be as dark as the ground is not
            assert colours(own.lines[-1]) == "#ffffff"


@each
def test_what_are_no_axes_is_said_and_nothing_stays_open(figures, name):
    count = PANELS.get(name, 1)
    with pytest.raises(TypeError, match=r"axes are matplotlib's.*got 'here'"):
        ALL[name](axes="here")
    with pytest.raises(TypeError, match="title is a string"):
        ALL[name](title=["a"])
    assert figures.get_fignums() == []
    own = figures.subplots(1, 3)[1]
    with pytest.raises(ValueError, match=f"{count} panels? to draw, and 3 axes"):
        ALL[name](axes=own)
    assert not any(a.lines or a.patches or a.images for a in own)


@each
def test_the_extra_is_named_without_matplotlib(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'gpumlp[plot]'")):
        ALL[name]()


def test_a_figure_of_a_drawing_that_fails_is_closed(figures):
    with pytest.raises(ZeroDivisionError), style.panels(None, 1):
        assert len(figures.get_fignums()) == 1
        raise ZeroDivisionError
    assert figures.get_fignums() == []


def test_matplotlib_is_imported_when_one_is_drawn():
    code = "import sys; from gpumlp.plotting import *; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebooks_backend_stays_interactive(tmp_path):
    """It turns that on when the first figure loads it, and shows none without."""
    (tmp_path / "inline.py").write_text(
        "import matplotlib\nfrom matplotlib.backends.backend_agg import *\nmatplotlib.interactive(True)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    code = "import gpumlp, matplotlib as m; gpumlp.plotting.plot_parity([1, 2], [1, 2]); print(m.is_interactive())"
    environment = {**os.environ, "MPLBACKEND": "module://inline", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_colours_can_be_told_apart_in_grey():
    def lightness(colour):
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        return 116 * (0.2126 * red + 0.7152 * green + 0.0722 * blue) ** (1 / 3) - 16  # CIE L*

    first = sorted(lightness(matplotlib.colors.to_rgb(colour)) for colour in style.COLOURS[:3])
    assert min(np.diff(first)) > 18 and first[-1] < 80  # of each other, and of white
    assert lightness(matplotlib.colors.to_rgb(style.PALE)) - first[0] > 40  # truth and prediction
    ramp = [lightness(matplotlib.colormaps[style.SEQUENTIAL](x)[:3]) for x in np.linspace(0, 1, 20)]
    assert (np.diff(ramp) < 0).all()


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_a_panel_for_each_quantity_the_loss_first():
    model = regressor()
    history = model.fit(X, X, epochs=3, validation_data=(X, X), verbose=0)
    found = {"mae": history.history["mae"], **history.history}
    for given in (history, found):
        loss, mae = plotting.plot_history(given)
        assert (loss.get_ylabel(), mae.get_ylabel()) == ("loss", "mae")
        for axes, name in ((loss, "loss"), (mae, "mae")):
            training, validation = axes.lines
            assert xy(training) == [[1, 2, 3], history.history[name]]
            assert xy(validation) == [[1, 2, 3], history.history[f"val_{name}"]]
            assert training.get_color() == validation.get_color()
            assert training.get_linestyle() == "-" and validation.get_linestyle() == "--"
        assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
        assert mae.get_legend() is None  # it would be the same
    later = model.fit(X, X, epochs=9, initial_epoch=7, verbose=0)
    (axes,) = plotting.plot_history(later, metrics="mae")
    assert xy(axes.lines[0])[0] == [8, 9] and axes.get_legend() is None


@pytest.mark.parametrize(
    ("curves", "scale"),
    [
        ({"loss": [1.0, 0.09]}, "log"),
        ({"loss": [1.0, 0.2]}, "linear"),  # less than a tenth
        ({"loss": [1.0, 0.0]}, "linear"),  # of which there is no logarithm
        ({"loss": [1.0, 0.5], "val_loss": [1.0, 0.01]}, "log"),
        ({"accuracy": [0.05, 0.99]}, "linear"),  # rises
        ({"learning_rate": [1e-2, 1e-3, 1e-5]}, "log"),
        ({"loss": [float("nan"), 1.0, 0.01, float("inf")]}, "log"),
    ],
)
def test_the_axis_is_logarithmic_for_what_falls_far(curves, scale):
    (axes,) = plotting.plot_history(curves)
    assert axes.get_yscale() == scale


def test_a_short_logarithmic_axis_has_plain_numbers():
    (axes,) = plotting.plot_history({"loss": [0.9, 0.3, 0.05]})
    axes.figure.canvas.draw()
    shown = {label.get_text() for label in axes.get_yticklabels(which="both")}
    assert {"0.1", "0.2", "0.5"} <= shown and not any("$" in text for text in shown)


def test_a_validation_of_some_epochs_is_where_it_was_done():
    model = regressor()
    history = model.fit(X, X, epochs=6, validation_data=(X, X), validation_freq=2, verbose=0)
    (axes,) = plotting.plot_history(history, metrics=["val_loss"])
    assert xy(axes.lines[1]) == [[2, 4, 6], history.history["val_loss"]]


@pytest.mark.parametrize(
    ("first", "frequency", "epochs"),
    [(5, 2, [6, 8, 10]), (0, 4, [4, 8]), (0, [1, 2, 10], [1, 2, 10]), (0, 11, []), (0, 1, [*range(1, 11)])],
)
def test_a_history_knows_which_epochs_were_validated(first, frequency, epochs):
    kwargs = {"initial_epoch": first, "validation_freq": frequency, "validation_data": (X, X), "verbose": 0}
    history = regressor().fit(X, X, epochs=10, **kwargs)
    assert history.validated == [epoch - 1 for epoch in epochs]
    for kept in (history, pickle.loads(pickle.dumps(history))):
        (axes,) = plotting.plot_history(kept, "loss")
        assert xy(axes.lines[0])[0] == [*range(first + 1, 11)]
        assert [xy(line) for line in axes.lines[1:]] == [[epochs, history.history["val_loss"]] for _ in epochs[:1]]


def test_a_history_that_goes_on_knows_them_too(tmp_path):
    def stop(epoch, logs):
        if epoch == 5:
            raise KeyboardInterrupt

    def fit(*more):
        hooks = [gpumlp.callbacks.BackupAndRestore(tmp_path / "backup"), *more]
        model = regressor()
        return model.fit(X, X, epochs=10, validation_data=(X, X), validation_freq=4, verbose=0, callbacks=hooks), model

    with pytest.raises(KeyboardInterrupt):
        fit(gpumlp.callbacks.LambdaCallback(on_epoch_begin=stop))
    history, model = fit()
    assert history.epoch == [*range(10)] and history.validated == [3, 7]
    model.save(tmp_path / "model.gpumlp")
    again = models.load_model(tmp_path / "model.gpumlp").history
    assert again.validated == [3, 7]
    assert xy(plotting.plot_history(again, "mae")[0].lines[1])[0] == [4, 8]


def test_columns_of_a_frame_are_curves_too():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"loss": [3.0, 2.0], "val_loss": [4.0, 3.0], "when": ["a", "b"]})  # as from a CSVLogger
    (axes,) = plotting.plot_history(dict(frame))
    assert [xy(line) for line in axes.lines] == [[[1, 2], [3.0, 2.0]], [[1, 2], [4.0, 3.0]]]


def test_names_of_metrics_come_as_any_iterable_and_numbers_as_arrays_without_axes():
    curves = {"loss": [np.array(3.0), np.array(2.0)], "mae": [1, 2], "val_mae": [2, 3], "auc": [0.1, 0.2]}
    for names in (
        {"mae", "loss"},
        (name for name in ["loss", "mae"]),
        {"loss": 0, "mae": 0},
        np.array(["loss", "mae"]),
    ):
        loss, mae = plotting.plot_history(curves, names)
        assert (loss.get_ylabel(), mae.get_ylabel()) == ("loss", "mae")
        assert xy(loss.lines[0]) == [[1, 2], [3.0, 2.0]]


def test_several_trainings_have_a_colour_each():
    one, two = {"loss": [3.0, 2.0], "val_loss": [4.0, 3.0]}, {"loss": [2.0]}
    (axes,) = plotting.plot_history({"narrow": one, "wide": two})
    assert [line.get_label() for line in axes.lines] == ["narrow", "narrow, validation", "wide"]
    assert [colours(line) for line in axes.lines] == [style.COLOURS[k] for k in (0, 0, 1)]
    assert xy(axes.lines[2]) == [[1], [2.0]]


def test_an_ensembles_histories_are_thin_lines():
    ensemble = gpumlp.Ensemble(regressor, members=3)
    histories = ensemble.fit(X, X, epochs=2, verbose=0)
    loss, _ = plotting.plot_history(histories)
    assert [xy(line)[1] for line in loss.lines] == [history.history["loss"] for history in histories]
    assert {line.get_linewidth() for line in loss.lines} == {style.THIN}
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["3 trainings"]


def test_what_is_no_history_is_said(figures):
    for what, metrics, error, words in (
        (regressor(), None, TypeError, "model.history, after fit"), ([0.2, 0.1], None, TypeError, "what fit returns"),
        ("loss", None, TypeError, "what fit returns"), ({"loss": 3.0}, None, TypeError, "what fit returns"),
        ({"loss": [1.0]}, "auc", ValueError, "no 'auc', but loss"), ({"loss": [1.0]}, 3, TypeError, "a name"),
        ({}, None, ValueError, "no numbers"), ({"loss": [None]}, None, ValueError, "no numbers"),
        ({"loss": [1.0]}, [], TypeError, "a name"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            plotting.plot_history(what, metrics)
    assert figures.get_fignums() == []


# ---- predictions -----------------------------------------------------------------------------------------------------


def test_a_prediction_is_drawn_in_the_order_of_x():
    axes = plotting.plot_prediction(X[:, None], np.sin(X), np.cos(X)[:, None])
    truth, prediction = axes.lines
    assert [line.get_label() for line in axes.lines] == ["truth", "prediction"]
    assert xy(truth) == [[1, 2, 3], list(np.sin([1, 2, 3]))] and xy(prediction) == [[1, 2, 3], list(np.cos([1, 2, 3]))]
    points = plotting.plot_prediction(X, X, X, points=True).lines[0]
    assert (points.get_linestyle(), points.get_marker(), points.get_label()) == ("None", ".", "data")


def test_parity_says_what_scikit_learn_says():
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    truth = random.normal(size=50)
    found = truth + random.normal(0, 0.3, 50)
    axes = plotting.plot_parity(truth, found)
    error, explained = sklearn.root_mean_squared_error(truth, found), sklearn.r2_score(truth, found)
    assert axes.texts[0].get_text() == f"RMSE {error:.3g}, R2 {explained:.3f}"
    line, points = axes.lines
    assert xy(points) == [list(truth), list(found)] and xy(line)[0] == xy(line)[1]
    assert plotting.plot_parity([1.0, 1.0], [1.0, 2.0]).texts[0].get_text() == "RMSE 0.707"


def test_lists_and_integers_are_taken_in_double():
    stamps, found = [1_700_000_000, 1_700_000_100, 1_700_000_200], [1_700_000_030, 1_700_000_130, 1_700_000_230]
    for kind in (list, np.array):
        assert plotting.plot_parity(kind(stamps), kind(found)).texts[0].get_text().startswith("RMSE 30, R2 0.865")
        histogram = plotting.plot_residuals(kind(stamps), kind(found))[1]
        assert histogram.get_title("left") == "mean -30, deviation 0"
        assert xy(plotting.plot_prediction(kind(stamps), kind(stamps), kind(found)).lines[1]) == [stamps, found]
    drawn = plotting.plot_ensemble(Members(), X, data=([16777217], [2**53 - 1]))
    assert xy(drawn.lines[-1]) == [[16777217], [2**53 - 1]]


def test_numbers_whose_squares_are_none():
    assert plotting.plot_parity([1e200, 2e200], [1e200, 1e200]).texts[0].get_text() == "RMSE 7.07e+199, R2 -1.000"
    assert plotting.plot_residuals([1e-200, 2e-200], [0, 0])[1].get_title("left") == "mean 1.5e-200, deviation 5e-201"
    assert plotting.plot_parity([0.1] * 3, [0.2, 0.1, 0.1]).texts[0].get_text() == "RMSE 0.0577"  # the mean is rounded


def test_residuals_are_what_is_left_of_the_truth():
    truth, found = np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.5, 2.0, 3.0, 9.0])
    points, histogram = plotting.plot_residuals(truth, found)
    assert xy(points.lines[1]) == [list(found), [-0.5, 0.0, 1.0, -1.0]]
    counts = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in histogram.patches}
    assert counts == {-0.8: 1, -0.4: 1, 0.0: 1, 0.4: 0, 0.8: 1}
    assert histogram.get_title("left") == f"mean {np.mean(truth - found):.3g}, deviation {np.std(truth - found):.3g}"


def test_a_band_is_the_spread_of_the_members():
    ensemble = gpumlp.Ensemble(regressor, members=3)
    axes = plotting.plot_ensemble(ensemble, X, data=([0.0], [5.0]), y_true=10 * X, deviations=3.0)
    *each, mean, truth, data = axes.lines
    assert [line.get_label() for line in (mean, truth, data)] == ["mean of 3 models", "truth", "data"]
    ordered = np.sort(X)
    np.testing.assert_array_equal([line.get_ydata() for line in each], ensemble.predict_members(ordered)[..., 0])
    middle, spread = (values[:, 0] for values in ensemble.predict(ordered))
    np.testing.assert_allclose(mean.get_ydata(), middle, rtol=1e-6)
    assert xy(truth) == [[1, 2, 3], [10, 20, 30]] and xy(data) == [[0.0], [5.0]]
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    for x, m, s in zip(ordered, middle, spread, strict=True):
        there = edges[edges[:, 0] == x][:, 1]
        np.testing.assert_allclose([there.min(), there.max()], [m - 3 * s, m + 3 * s], rtol=1e-5)
    assert band.get_label() == "± 3 standard deviations"


def test_what_cannot_be_a_prediction_is_said(figures):
    for call, error, words in (
        (lambda: plotting.plot_parity(X, X[:2]), ValueError, "as many samples of each; got y_true 3, y_pred 2"),
        (lambda: plotting.plot_parity(X, np.ones((3, 2))), ValueError, r"y_pred\[:, 0\]"),
        (lambda: plotting.plot_residuals([1.0, np.nan], [1.0, 2.0]), ValueError, "y_true has 1 NaN or Inf among 2"),
        (lambda: plotting.plot_prediction([], [], []), ValueError, "x is empty"),
        (lambda: plotting.plot_prediction(["a"], [1.0], [1.0]), TypeError, "numbers"),
        (lambda: plotting.plot_ensemble(regressor(), X), TypeError, "plot_prediction"),
        (lambda: plotting.plot_ensemble(Members(), X, data=(X, X[1:])), ValueError, r"data\[0\] 3, data\[1\] 2"),
        (lambda: plotting.plot_ensemble(Members(), X, data=(X,)), ValueError, "a pair of x and y.*got 1 of them"),
        (lambda: plotting.plot_ensemble(Members(), X, data=np.c_[X, X]), TypeError, r"got ndarray.*\(a\[:, 0\]"),
        (
            lambda: plotting.plot_ensemble(Members(), X, output=1),
            ValueError,
            "one of the ensemble's 1, from 0 on; got 1",
        ),
        (lambda: plotting.plot_ensemble(Members(), X, output=0.5), TypeError, "output must be a whole number"),
        (lambda: plotting.plot_ensemble(Members(), X, output=-1), ValueError, "output must be a whole number"),
        (
            lambda: plotting.plot_ensemble(Members(), X, deviations="a"),
            ValueError,
            "deviations must be a finite number",
        ),
        (lambda: plotting.plot_ensemble(Members(), X, deviations=np.nan), ValueError, "deviations must be a finite"),
        (lambda: plotting.plot_ensemble(Members(), X, deviations=-1), ValueError, "deviations must be a finite"),
    ):
        with pytest.raises(error, match=words):
            call()
    assert figures.get_fignums() == []


# ---- classes ---------------------------------------------------------------------------------------------------------


def written(axes):
    """Return the numbers in the cells, by (row, column)."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}


@pytest.mark.parametrize("classes", [2, 30])
def test_confusions_are_those_that_scikit_learn_counts(classes):
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    truth = random.integers(0, classes, 40 * classes)
    chances = random.random((len(truth), classes)) + 0.7 * np.eye(classes)[truth]
    counts = sklearn.confusion_matrix(truth, chances.argmax(1))
    for given in (truth, truth[:, None].astype(np.float32), np.eye(classes)[truth]):
        axes = plotting.plot_confusion_matrix(given, chances)
        assert written(axes) == {(i, j): str(counts[i, j]) for i, j in np.argwhere(counts)}
        np.testing.assert_allclose(axes.images[0].get_array(), counts / counts.sum(1, keepdims=True))
        assert axes.get_title("left") == f"{np.trace(counts) / counts.sum():.1%} of {len(truth):,} right"
        assert axes.get_xlabel() == "predicted" and axes.get_ylabel() == "true"
    axes.figure.canvas.draw()
    width = np.ptp(axes.transData.transform([(0, 0), (1, 0)])[:, 0])
    for text in axes.texts:  # each number fits its cell, and can be read
        j, i = text.get_position()
        assert text.get_window_extent().width < width and text.get_fontsize() >= style.SMALL - 3
        assert (text.get_color() == "white") == (axes.images[0].get_array()[i, j] > 0.5)


def test_names_of_classes():
    truth, found = ["cat", "dog", "dog", "ant"], ["cat", "cat", "dog", "ant"]
    axes = plotting.plot_confusion_matrix(truth, found)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["ant", "cat", "dog"]
    assert written(axes) == {(0, 0): "1", (1, 1): "1", (2, 1): "1", (2, 2): "1"}
    axes = plotting.plot_confusion_matrix(truth, found, ["dog", "cat", "ant"], normalize=True, title="beasts")
    assert written(axes) == {(0, 0): "50", (0, 1): "50", (1, 1): "100", (2, 2): "100"}
    assert axes.get_title("left") == "beasts"
    axes = plotting.plot_confusion_matrix([0, 1, 1], [[0.2], [0.7], [0.4]], ["no", "yes"])  # of a sigmoid
    assert written(axes) == {(0, 0): "1", (1, 0): "1", (1, 1): "1"}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["no", "yes"]


def test_a_class_without_samples_has_an_empty_row():
    axes = plotting.plot_confusion_matrix([0, 2], [0, 2])
    assert written(axes) == {(0, 0): "1", (2, 2): "1"} and axes.images[0].get_array()[1].tolist() == [0, 0, 0]


def test_numbers_that_would_be_too_small_are_left_out():
    axes = plotting.plot_confusion_matrix(np.arange(150), np.arange(150))
    assert not axes.texts and axes.images[0].get_array().shape == (150, 150)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (([0, 1], [0]), ValueError, "y_true 2, y_pred 1"),
        (([0, -1], [0, 0]), ValueError, "from 0 to 1; got -1"),
        (
            ([0, 1], [0, 2], ["a", "b"]),
            ValueError,
            "from 0 to 1; got 0 to 2. labels has 2 names, and needs one for each class",
        ),
        (([0, 1], ["a", "b"]), TypeError, "got numbers and names"),
        ((["a", "b"], ["a", "c"], ["a", "b"]), ValueError, "c are not among them"),
        (([0, 1], [-2.5, 3.1]), ValueError, "Of logits: y_pred > 0"),
        (([0, np.nan], [0, 1]), ValueError, "y_true has NaN"),
        (([], []), ValueError, "must be classes"),
        ((np.arange(500), np.arange(500)), ValueError, "too many"),
        (([10**12], [0]), ValueError, "1,000,000,000,001 classes are too many.*astype"),
        ((np.uint64([2**63, 1]), [0, 1]), ValueError, "y_true must be class numbers from 0 on; got 1 to 9223372036854"),
        (([1e30], [0]), ValueError, "y_true must be class numbers"),
        (([0, 1], [0, 1], 5), TypeError, "labels is a list of the classes' names; got 5"),
        (([0, 1], [0, 1], []), TypeError, "labels is a list"),
    ],
)
def test_what_are_no_classes_is_said(figures, given, error, words):
    with pytest.raises(error, match=words):
        plotting.plot_confusion_matrix(*given)
    assert figures.get_fignums() == []


# ---- layers ----------------------------------------------------------------------------------------------------------


def bars(patch):
    return patch.get_data().values, patch.get_data().edges


def test_weights_are_those_of_the_layers():
    inner = models.Sequential([layers.Input((2,)), layers.Dense(30, name="inner")])
    model = models.Sequential([inner, layers.Dropout(0.1), layers.BatchNormalization(name="norm"), layers.Dense(1)])
    model.build((None, 2))
    drawn = plotting.plot_weights(model)
    assert [axes.get_title("left") for axes in drawn] == ["inner", "norm", model.layers[-1].name]
    kernel = inner.layers[0].kernel.numpy()
    (patch,) = [patch for patch in drawn[0].patches if patch.get_label() == "kernel (2, 30)"]
    heights, edges = bars(patch)
    counts = np.histogram(kernel, edges)[0]
    assert counts.sum() == 60
    np.testing.assert_allclose(heights, counts / counts.max())
    assert [line.get_label() for line in drawn[0].lines] == ["bias (30,)"]  # all 0: one line
    assert len(drawn[1].get_legend_handles_labels()[1]) == 4


def test_weights_that_are_no_numbers_are_counted():
    model = regressor()
    kernel = model.layers[0].kernel.numpy()
    kernel[0, :2] = np.nan
    kernel[0, 2] = np.inf
    model.layers[0].kernel.assign(kernel)
    (axes, _) = plotting.plot_weights(model)
    assert axes.get_title("left").endswith(": 3 NaN or Inf")


def test_a_model_that_hands_on_what_it_is_given_has_no_outputs_to_draw(figures):
    model = models.Sequential([layers.Input((2,)), layers.Dropout(0.1)])
    with pytest.raises(ValueError, match="hands on what it is given"):
        plotting.plot_activations(model, np.ones((3, 2)))
    assert figures.get_fignums() == []


def test_outputs_of_layers_and_units_that_are_dead():
    model = regressor()
    model.set_weights([np.array([[1.0, -1.0, 2.0, 1.0]]), np.array([0.0, 0.0, 0.0, -1.5]), np.ones((4, 1)), [0.5]])
    drawn = plotting.plot_activations(model, X)  # the Dropout has no panel
    hidden = np.maximum(X[:, None] * [1, -1, 2, 1] + [0, 0, 0, -1.5], 0)
    assert (
        drawn[0].get_title("left") == f"{model.layers[0].name}: {np.mean(hidden == 0):.0%} zeros, 1 of 4 units always 0"
    )
    heights, edges = bars(drawn[0].patches[0])
    counts = np.histogram(hidden[hidden > 0], edges)[0]
    np.testing.assert_allclose(heights, counts / counts.max())
    assert counts.sum() == 8
    edges = bars(drawn[1].patches[0])[1]
    outputs = model.predict(X, verbose=0)
    np.testing.assert_allclose([edges[0], edges[-1]], [outputs.min(), outputs.max()], rtol=1e-6)


def test_what_is_no_model_is_said(figures):
    for plot in (plotting.plot_weights, lambda model: plotting.plot_activations(model, X)):
        with pytest.raises(TypeError, match="takes a Sequential"):
            plot([1.0])
        with pytest.raises(ValueError, match="call build, or fit"):
            plot(models.Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="no weights to draw"):
        plotting.plot_weights(models.Sequential([layers.Input((2,)), layers.Rescaling(2.0)]))
    with pytest.raises(ValueError, match="shape"):
        plotting.plot_activations(regressor(), np.ones((3, 5)))
    assert figures.get_fignums() == []
