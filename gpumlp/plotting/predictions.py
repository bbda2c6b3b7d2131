"""Predictions: over an input, against the truth, what is left between both; and an ensemble's band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from gpumlp import config
from gpumlp.layers import whole_number
from gpumlp.naming import number
from gpumlp.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_prediction(
    x: npt.ArrayLike,
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    points: bool = False,
    title: str = "",
    axes: object = None,
) -> Axes:
    """Draw predictions over a single input, and the truth beneath.

    Parameters
    ----------
    x : array of shape (n,) or (n, 1)
        In any order.
    y_true : array of shape (n,) or (n, 1)
        The truth, a broad pale line.
    y_pred : array of shape (n,) or (n, 1)
        The predictions, a thin dark line.
    points : bool, default False
        Draw the truth as points: measurements, which have noise.
    title : str, default ""
        Over the plot.
    axes : matplotlib.axes.Axes, optional
        Where to draw; those of a new figure when None.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    TypeError, ValueError
        For what are no numbers, one a sample.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp.plotting import plot_prediction
    >>> x = np.linspace(0, 6, 50)
    >>> axes = plot_prediction(x, np.sin(x), np.sin(x) + 0.1, title="A tenth too high")
    >>> [line.get_label() for line in axes.lines]
    ['truth', 'prediction']
    """
    inputs, truth, predicted = _columns(x=x, y_true=y_true, y_pred=y_pred)
    order = np.argsort(inputs, kind="stable")
    inputs, truth, predicted = inputs[order], truth[order], predicted[order]
    with style.panels(axes, 1, title) as (drawn,):
        if points:
            drawn.plot(inputs, truth, ".", color=style.EDGE, markersize=5, label="data")
        else:
            drawn.plot(inputs, truth, color=style.PALE, linewidth=5, solid_capstyle="round", label="truth")
        drawn.plot(inputs, predicted, color=style.COLOURS[0], linewidth=style.LINE, label="prediction")
        drawn.set(xlabel="x", ylabel="y")
        _legend_above_curves(drawn)
    return drawn


def plot_parity(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, title: str = "", axes: object = None) -> Axes:
    """Draw predicted values against true ones, with the line where both are the same (a parity plot).

    Written into it are the root of the mean squared error and R2, the part of the variance that is explained.

    Parameters
    ----------
    y_true : array of shape (n,) or (n, 1)
        The truth.
    y_pred : array of shape (n,) or (n, 1)
        The predictions.
    title : str, default ""
        Over the plot.
    axes : matplotlib.axes.Axes, optional
        Where to draw; those of a new figure when None.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    TypeError, ValueError
        For what are no numbers, one a sample.

    Notes
    -----
    R2 = 1 - sum((t - p)^2) / sum((t - mean t)^2); there is none where all true values are the same.

    Examples
    --------
    >>> from gpumlp.plotting import plot_parity
    >>> axes = plot_parity([1.0, 2.0, 3.0], [1.1, 1.9, 3.1])
    >>> axes.texts[0].get_text()
    'RMSE 0.1, R2 0.985'
    """
    truth, predicted = _columns(y_true=y_true, y_pred=y_pred)
    missed, there = _size(truth - predicted), _size(truth - truth.mean())
    words = f"RMSE {missed:.3g}" + (f", R2 {1 - (missed / there) ** 2:.3f}" if np.ptp(truth) else "")
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    with style.panels(axes, 1, title, style.SQUARE) as (drawn,):
        drawn.plot(ends, ends, color=style.EDGE, linewidth=1.2, zorder=1, label="prediction = truth")
        _scatter(drawn, truth, predicted)
        drawn.text(0.03, 0.97, words, transform=drawn.transAxes, verticalalignment="top", fontsize=style.SMALL)
        drawn.set(xlabel="true", ylabel="predicted", aspect="equal", adjustable="datalim")
        drawn.legend(loc="lower right")
    return drawn


def plot_residuals(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, title: str = "", axes: object = None) -> np.ndarray:
    """Draw what predictions leave of the truth (residuals), over the predictions and as a histogram.

    A good fit leaves noise alone: points about 0, as wide on the left as on the right, without a curve.

    Parameters
    ----------
    y_true : array of shape (n,) or (n, 1)
        The truth.
    y_pred : array of shape (n,) or (n, 1)
        The predictions. A residual is ``y_true - y_pred``.
    title : str, default ""
        Over both panels; when empty, how many residuals there are.
    axes : array of 2 matplotlib.axes.Axes, optional
        Where to draw; those of a new figure when None.

    Returns
    -------
    array of 2 matplotlib.axes.Axes
        The points, and the histogram.

    Raises
    ------
    TypeError, ValueError
        For what are no numbers, one a sample.

    Examples
    --------
    >>> from gpumlp.plotting import plot_residuals
    >>> points, histogram = plot_residuals([1.0, 2.0, 3.0], [1.1, 1.9, 3.1])
    >>> histogram.get_title("left")
    'mean -0.0333, deviation 0.0943'
    """
    truth, predicted = _columns(y_true=y_true, y_pred=y_pred)
    residuals = truth - predicted
    with style.panels(axes, 2, title, style.PANEL, about=f"The residuals of {len(residuals):,} samples") as drawn:
        points, histogram = drawn
        points.axhline(0.0, color=style.EDGE, linewidth=1.2, zorder=1)
        _scatter(points, predicted, residuals)
        points.set(xlabel="predicted", ylabel="true - predicted")
        histogram.hist(residuals, bins=style.bins(residuals), color=style.COLOURS[0])
        histogram.axvline(0.0, color=style.EDGE, linewidth=1.2)
        histogram.set(xlabel="true - predicted", ylabel="samples")
        histogram.locator_params(axis="x", nbins=6)
        words = f"mean {residuals.mean():.3g}, deviation {_size(residuals - residuals.mean()):.3g}"
        histogram.set_title(words, fontsize=style.SMALL, fontweight="normal")
    return drawn


class _Ensemble(Protocol):
    """What an ensemble is asked for."""

    def predict_members(self, x: object, /) -> object: ...


def plot_ensemble(
    ensemble: _Ensemble,
    x: npt.ArrayLike,
    *,
    data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    y_true: npt.ArrayLike | None = None,
    deviations: float = 2.0,
    output: int = 0,
    title: str = "",
    axes: object = None,
) -> Axes:
    """Draw what an ensemble predicts over a single input: each member, their mean, and a band of their spread.

    Parameters
    ----------
    ensemble : Ensemble
        Its members take one number a sample.
    x : array of shape (n,) or (n, 1)
        Where to predict; in any order.
    data : pair of arrays of shape (m,) or (m, 1), optional
        x and y that it was trained on: points.
    y_true : array of shape (n,) or (n, 1), optional
        The truth at ``x``: a dashed line.
    deviations : float, default 2.0
        How many standard deviations over the members the band reaches to either side.
    output : int, default 0
        Which of the outputs, where there are several.
    title : str, default ""
        Over the plot.
    axes : matplotlib.axes.Axes, optional
        Where to draw; those of a new figure when None.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    TypeError, ValueError
        For what is no ensemble, for what are no numbers, one a sample, and for an output that is not there.

    Examples
    --------
    >>> import numpy as np
    >>> import gpumlp
    >>> from gpumlp import layers, models, plotting
    >>> def build():
    ...     model = models.Sequential(
    ...         [layers.Input((1,)), layers.Dense(8, "relu"), layers.Dense(1)]
    ...     )
    ...     model.compile(loss="mse", optimizer="adam")
    ...     return model
    >>> x = np.linspace(0, 1, 20)
    >>> ensemble = gpumlp.Ensemble(build, members=3)
    >>> histories = ensemble.fit(x, x**2, epochs=5, verbose=0)
    >>> axes = plotting.plot_ensemble(ensemble, np.linspace(-1, 2, 50), data=(x, x**2))
    >>> [line.get_label() for line in axes.lines if line.get_label()[0] != "_"]
    ['mean of 3 models', 'data']
    """
    if not hasattr(ensemble, "predict_members"):
        raise TypeError(f"plot_ensemble draws a gpumlp.Ensemble; got {ensemble!r:.80}. Of a model: plot_prediction.")
    inputs, *truth = _columns(x=x) if y_true is None else _columns(x=x, y_true=y_true)
    deviations, output = number("deviations", deviations, 0.0), whole_number("output", output, 0)
    known = [] if data is None else _pair(data)
    order = np.argsort(inputs, kind="stable")
    inputs = inputs[order]
    each = np.asarray(ensemble.predict_members(inputs), np.float64)
    each = each.reshape(len(each), len(inputs), -1)
    if output >= each.shape[2]:
        raise ValueError(f"output must be one of the ensemble's {each.shape[2]}, from 0 on; got {output}.")
    each = each[..., output]
    mean, spread = each.mean(0), each.std(0)
    with style.panels(axes, 1, title) as (drawn,):
        low, high = mean - deviations * spread, mean + deviations * spread
        blue = style.COLOURS[0]
        drawn.fill_between(
            inputs, low, high, color=blue, alpha=0.2, linewidth=0, label=f"± {deviations:g} standard deviations"
        )
        drawn.plot(inputs, each.T, color=blue, alpha=0.45, linewidth=style.THIN)
        drawn.plot(inputs, mean, color=blue, linewidth=style.LINE, label=f"mean of {len(each)} models")
        for values in truth:
            drawn.plot(
                inputs, values[order], color=style.COLOURS[1], linewidth=1.5, linestyle=(0, (4, 2)), label="truth"
            )
        if known:
            drawn.plot(*known, ".", color=style.ink(drawn), markersize=3, label="data")
        drawn.set(xlabel="x", ylabel="y")
        _legend_above_curves(drawn)
    return drawn


def _pair(data: object) -> list[np.ndarray]:
    """Return the x and y that an ensemble was trained on; TypeError or ValueError for what is no pair of these."""
    if not isinstance(data, (tuple, list)):
        raise TypeError(
            f"data is a pair of x and y, (x, y); got {type(data).__name__}. Of columns: (a[:, 0], a[:, 1])."
        )
    if len(data) != 2:
        raise ValueError(f"data is a pair of x and y, (x, y); got {len(data)} of them.")
    return _columns(**{"data[0]": data[0], "data[1]": data[1]})


def _size(values: np.ndarray) -> float:
    """Return the root of the mean square, also of numbers whose squares would be too large, or too small."""
    most = np.abs(values).max()
    return float(most * np.sqrt(np.mean(np.square(values / most)))) if most else 0.0


def _columns(**given: npt.ArrayLike) -> list[np.ndarray]:
    """Return arrays of one number a sample, as many of each, in double; TypeError or ValueError for others."""
    found: dict[str, np.ndarray] = {}
    for name, value in given.items():
        array = config.floats(name, value, "float64")
        if array.ndim == 2 and array.shape[1] > 1:
            raise ValueError(
                f"{name} must have one number a sample; got the shape {array.shape}. Draw one column: {name}[:, 0]."
            )
        found[name] = array.reshape(-1)
        if not array.size:
            raise ValueError(f"{name} is empty: there is nothing to draw.")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} has {np.sum(~np.isfinite(array)):,} NaN or Inf among {array.size:,}: leave these samples out."
            )
    if len({len(array) for array in found.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array):,}" for name, array in found.items())
        raise ValueError(f"There must be as many samples of each; got {lengths}.")
    return list(found.values())


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw points, the smaller and the paler the more there are."""
    few = min(1.0, 300 / len(x))
    axes.plot(
        x, y, ".", color=style.COLOURS[0], markersize=3 + 3 * few, alpha=0.25 + 0.5 * few, markeredgewidth=0,
        rasterized=len(x) > 5000,
    )  # fmt: skip


def _legend_above_curves(axes: Axes) -> None:
    """Put the legend where there is room for it: above the curves, in a row."""
    axes.margins(y=0.15)
    axes.legend(loc="upper left", ncols=4)
