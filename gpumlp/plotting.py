"""Plots; matplotlib is imported when one is drawn. Both functions return the axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def _axes(axes: Any) -> Any:
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'gpumlp[plot]'.") from error
    return pyplot.subplots(figsize=(8, 4.5), layout="constrained")[1]


def plot_history(history: Any, title: str = "", metrics: Any = None, axes: Any = None) -> Any:
    """Draw curves of a History, or of its dict, over the epochs; return the axes.

    Parameters
    ----------
    history : History, or dict of lists of numbers by name
    title : str
        By default what is drawn.
    metrics : str or list of str, optional
        Names of what is drawn, with what a validation has of it: "accuracy" is also "val_accuracy". When None the
        losses, on a logarithmic scale where they are all above 0; others are on a linear one.
    axes : matplotlib.axes.Axes, optional
        Where to draw; new ones when None.

    Raises
    ------
    TypeError, ValueError
        For what is no history, and for names that it has not.
    """
    curves = _curves(history)
    if not isinstance(title, str):
        raise TypeError(f"title is a string; got {title!r:.80}. Names of curves are metrics=.")
    if axes is not None and not hasattr(axes, "plot"):
        raise TypeError(f"axes are matplotlib's, to draw in; got {axes!r:.80}. Names of curves are metrics=.")
    names = _chosen(curves, metrics)
    what = "loss" if metrics is None else metrics if isinstance(metrics, str) else "value"
    values = [value for name in names for value in curves[name] if np.isfinite(value)]
    logarithmic = metrics is None and min(values, default=0.0) > 0.0
    axes, numbers = _axes(axes), getattr(history, "epoch", None)
    for name in names:
        epochs = numbers if numbers and len(numbers) == len(curves[name]) else range(len(curves[name]))
        axes.plot([epoch + 1 for epoch in epochs], curves[name], label=name)
    axes.set(xlabel="epoch", ylabel=what, title=title or what.capitalize())
    if logarithmic:
        axes.set_yscale("log")
        if max(values) < 10.0 * min(values):
            _label_plainly(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return axes


def _curves(history: Any) -> Mapping[str, Any]:
    """Return the values of each epoch by name; TypeError for what is no history."""
    curves = history if isinstance(history, Mapping) else getattr(history, "history", None)
    if not isinstance(curves, Mapping):
        hint = " Of a model it is model.history, after fit." if hasattr(history, "fit") else ""
        raise TypeError(
            f"plot_history takes what fit returns, or its dict, such as {{'loss': [0.2, 0.1]}}; got {history!r:.80}."
            f"{hint}"
        )
    return curves


def _chosen(curves: Mapping[str, Any], metrics: Any) -> list[str]:
    """Return the names of the curves to draw; TypeError or ValueError where they are not there."""
    if metrics is None:
        return [name for name in curves if name.endswith("loss")]
    wanted = [metrics] if isinstance(metrics, str) else metrics
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise TypeError(f"metrics is a name, or a list of names, of {list(curves)}; got {metrics!r:.80}.")
    if unknown := [name for name in wanted if name not in curves]:
        raise ValueError(f"The history has no {unknown[0]!r}, but {list(curves)}.")
    return list(dict.fromkeys(n for name in wanted for n in (name, f"val_{name}") if n in curves))


def _label_plainly(axis: Any) -> None:
    """Have a logarithmic axis of less than a decade show numbers such as 0.4, where powers of ten would be none."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def plot_prediction(x: Any, truth: Any, prediction: Any, title: str = "Prediction", axes: Any = None) -> Any:
    """Draw a one-dimensional prediction over the truth, both against ``x``; return the axes."""
    x = np.ravel(x)
    order = np.argsort(x)
    axes = _axes(axes)
    axes.plot(x[order], np.ravel(truth)[order], color="0.6", linewidth=4, label="truth")
    axes.plot(x[order], np.ravel(prediction)[order], color="C3", linewidth=1.5, label="prediction")
    axes.set(xlabel="x", ylabel="y", title=title)
    axes.grid(alpha=0.3)
    axes.margins(y=0.15)
    axes.legend(loc="upper right", ncols=2)
    return axes
