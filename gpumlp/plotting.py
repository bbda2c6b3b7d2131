"""Plots; matplotlib is imported when one is drawn. Both functions return the axes."""

from __future__ import annotations

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


def plot_history(history: Any, title: str = "Loss", axes: Any = None) -> Any:
    """Draw the losses of a History (or of its dict) over the epochs, on a logarithmic scale; return the axes."""
    curves = getattr(history, "history", history)
    axes = _axes(axes)
    numbers = getattr(history, "epoch", None)
    for name, values in curves.items():
        if name.endswith("loss"):
            epochs = numbers if numbers and len(numbers) == len(values) else range(len(values))
            axes.plot([epoch + 1 for epoch in epochs], values, label=name)
    axes.set(xlabel="epoch", ylabel="loss", yscale="log", title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return axes


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
