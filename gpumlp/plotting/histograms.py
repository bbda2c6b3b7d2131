"""How the numbers in a model are spread, layer by layer: its weights, and what its layers give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpumlp.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpumlp.layers import Layer
    from gpumlp.models import Sequential


def plot_weights(model: Sequential, *, title: str = "", axes: object = None) -> np.ndarray:
    """Draw histograms of a model's weights: a panel for each layer that has some.

    Weights that left where they began, or are all 0, NaN or Inf, are seen here. Kernels are filled, all else are lines.

    Parameters
    ----------
    model : Sequential
        A model that is built.
    title : str, default ""
        Over all panels; when empty, what they are of.
    axes : array of matplotlib.axes.Axes, optional
        Where to draw, one a layer; those of a new figure when None.

    Returns
    -------
    array of matplotlib.axes.Axes
        One a layer.

    Raises
    ------
    TypeError, ValueError
        For what is no model, or has no weights yet, and for another number of axes.

    Examples
    --------
    >>> from gpumlp import layers, models
    >>> from gpumlp.plotting import plot_weights
    >>> model = models.Sequential(
    ...     [layers.Input((4,)), layers.Dense(32, "relu"), layers.Dense(1)]
    ... )
    >>> first, last = plot_weights(model)
    >>> first.get_legend_handles_labels()[1]
    ['kernel (4, 32)', 'bias (32,)']
    """
    shown = [layer for layer in _layers("plot_weights", model) if layer.weights]
    if not shown:
        raise ValueError(f"Model {model.name!r} has no weights to draw.")
    about = f"The {sum(layer.count_params() for layer in shown):,} weights of {model.name!r}"
    with style.panels(axes, len(shown), title, style.TILE, about=about) as drawn:
        for panel, layer in zip(drawn, shown, strict=True):
            arrays = [np.asarray(weight.value) for weight in layer.weights]
            for k, (weight, array) in enumerate(zip(layer.weights, arrays, strict=True)):
                _histogram(panel, array, f"{weight.name} {array.shape}", style.COLOURS[k % len(style.COLOURS)], k == 0)
            panel.legend(fontsize=style.SMALL - 1.5, handlelength=1.0, columnspacing=1.0, loc="upper left", ncols=2)
            _label(panel, layer, _not_finite(arrays), "weight")
            panel.set_ylim(0, 1.1 + 0.2 * -(-len(arrays) // 2))  # the legend's rows are above the bars
    return drawn


def plot_activations(model: Sequential, x: npt.ArrayLike, *, title: str = "", axes: object = None) -> np.ndarray:
    """Draw histograms of what a model's layers give for some samples: a panel for each layer.

    Of each layer it is said which part of its outputs is exactly 0, and left out of the histogram, and how many of its
    units give 0 for all samples: a relu that does so for all data is dead, and learns no more. Layers that hand on what
    they are given, such as Dropout, have no panel.

    Parameters
    ----------
    model : Sequential
        A model that is built.
    x : array of shape (n, *sample)
        The samples; some hundred are enough.
    title : str, default ""
        Over all panels; when empty, what they are of.
    axes : array of matplotlib.axes.Axes, optional
        Where to draw, one a layer; those of a new figure when None.

    Returns
    -------
    array of matplotlib.axes.Axes
        One a layer.

    Raises
    ------
    TypeError, ValueError
        For what is no model, or is not built, for other samples than it takes, where no layer does anything to them,
        and for another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers, models
    >>> from gpumlp.plotting import plot_activations
    >>> model = models.Sequential(
    ...     [layers.Input((2,)), layers.Dense(3, "relu", name="hidden")]
    ... )
    >>> model.set_weights([np.zeros((2, 3)), np.array([1.0, 2.0, -1.0])])
    >>> (axes,) = plot_activations(model, np.ones((10, 2)))
    >>> axes.get_title("left")
    'hidden: 33% zeros, 1 of 3 units always 0'
    """
    shown = [(layer, outputs) for layer, outputs in _outputs(model, x)]
    if not shown:
        raise ValueError(f"Model {model.name!r} hands on what it is given: it has no outputs of layers to draw.")
    about = f"What the layers of {model.name!r} give for {len(shown[0][1]):,} samples"
    with style.panels(axes, len(shown), title, style.TILE, about=about) as drawn:
        for panel, (layer, outputs) in zip(drawn, shown, strict=True):
            _histogram(panel, outputs[outputs != 0], "", style.COLOURS[0], True)
            _label(panel, layer, _zeros(outputs) + _not_finite([outputs]), "output")
    return drawn


def _layers(asks: str, model: object) -> list[Layer]:
    """Return a built model's layers, those of models among them, too."""
    if not hasattr(model, "layers"):
        raise TypeError(f"{asks} takes a Sequential; got {model!r:.80}.")
    if not getattr(model, "built", False):
        raise ValueError(f"{asks} takes a model that is built: call build, or fit, first, or begin with an Input.")

    def flat(found: Sequence[Any]) -> Iterator[Layer]:
        for layer in found:
            yield from flat(layer.layers) if hasattr(layer, "layers") else (layer,)

    return list(flat(model.layers))


def _outputs(model: Sequential, x: npt.ArrayLike) -> Iterator[tuple[Layer, np.ndarray]]:
    """Yield each layer with what it gives, where that is not what it was given."""
    stack = _layers("plot_activations", model)
    model.predict(x, verbose=0)  # says what is wrong with x, in the words of the model
    given = np.asarray(x)
    given = given.reshape(len(given), *(model.input_shape[1:] or (1,)))
    for layer in stack:
        found = np.asarray(layer(given))
        if not np.array_equal(found.ravel(), given.ravel(), equal_nan=True):
            yield layer, found
        given = found


def _histogram(axes: Axes, array: np.ndarray, label: str, colour: str, filled: bool) -> None:
    """Draw where the finite numbers lie; the highest bar of each array is 1, so that few are seen beside many."""
    values = array[np.isfinite(array)].astype(np.float64)
    if not values.size or values.min() == values.max():
        axes.plot(values[:1].repeat(2), [0, 1][: 2 * values.size], color=colour, linewidth=style.LINE, label=label)
        return
    edges = style.bins(values)
    counts = np.histogram(values, edges)[0]
    heights = counts / counts.max()
    if filled:
        axes.stairs(heights, edges, color=colour, fill=True, alpha=0.3, label=label)
    axes.stairs(heights, edges, color=colour, linewidth=1.0 if filled else style.LINE, label=None if filled else label)


def _zeros(outputs: np.ndarray) -> list[str]:
    """Return what part of the outputs is 0, and how many units are 0 for all samples."""
    zeros = outputs == 0
    always = zeros.all(axis=0)
    if not zeros.any():
        return []
    return [f"{zeros.mean():.0%} zeros", *([f"{always.sum()} of {always.size} units always 0"] if always.any() else [])]


def _not_finite(arrays: Sequence[np.ndarray]) -> list[str]:
    count = sum(int(np.sum(~np.isfinite(array))) for array in arrays)
    return [f"{count:,} NaN or Inf"] if count else []


def _label(axes: Axes, layer: Layer, words: Sequence[str], what: str) -> None:
    """Write what a panel is of; heights have no numbers, as they have no unit."""
    said = f"{layer.name}: {', '.join(words)}" if words else layer.name
    axes.set_title(said, fontsize=style.SMALL, fontweight="normal")
    axes.set(xlabel=what, yticks=[], ylim=(0, 1.1))
    axes.locator_params(axis="x", nbins=5)
