"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gpumlp.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 200  # classes: a cell would be less than four pixels
SMALLEST = 4.5  # points: smaller numbers are left out, and the colours stay


def plot_confusion_matrix(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    labels: Sequence[object] | None = None,
    *,
    normalize: bool = False,
    title: str = "",
    axes: object = None,
) -> Axes:
    """Draw how many samples of each class were taken for which: a row a true class, a column a predicted one.

    Colours are shares of a row, so that rare classes are seen, too; cells without samples are empty.

    Parameters
    ----------
    y_true : array of shape (n,), (n, 1) or (n, classes)
        Classes: numbers or names, or one-hot rows.
    y_pred : array of shape (n,), (n, 1) or (n, classes)
        Classes, or what ``predict`` returns: a probability for each class, of which the largest counts, or, in one
        column of fractions, the probability of class 1.
    labels : list, optional
        The classes' names, in the order of their numbers. Where ``y_true`` has names: which to draw, in which order;
        all, sorted, when None.
    normalize : bool, default False
        Write percent of a row, not counts.
    title : str, default ""
        Over the plot; when empty, how many were right.
    axes : matplotlib.axes.Axes, optional
        Where to draw; those of a new figure when None.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn.

    Raises
    ------
    TypeError, ValueError
        For what are no classes, and where there are other classes than labels.

    Examples
    --------
    >>> from gpumlp.plotting import plot_confusion_matrix
    >>> axes = plot_confusion_matrix(
    ...     [0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], ["cat", "dog"]
    ... )
    >>> axes.get_title("left")
    '75.0% of 4 right'
    """
    if not isinstance(title, str):
        raise TypeError(f"title is a string; got {title!r:.80}.")
    counts, names = _counts(_classes("y_true", y_true), _classes("y_pred", y_pred), labels)
    title = title or f"{np.trace(counts) / counts.sum():.1%} of {counts.sum():,} right"
    side = float(np.clip(0.27 * len(names) + 1.6, 3.4, 10.0))
    with style.panels(axes, 1, title, (side + 0.8, side)) as (drawn,):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = drawn.imshow(shares, cmap=style.SEQUENTIAL, vmin=0.0, vmax=1.0)
        drawn.set(xlabel="predicted", ylabel="true")
        size = 0.72 * 72 * side / len(names)  # of a cell, in points, about
        points = float(np.clip(0.6 * size, 5.0, style.SMALL))
        turned = 0.6 * points * max(map(len, names)) > size
        drawn.set_xticks(range(len(names)), names, rotation=90 if turned else 0)
        drawn.set_yticks(range(len(names)), names)
        drawn.tick_params(length=0, labelsize=points)
        _separate(drawn, len(names))
        _write(drawn, counts, shares, normalize, size)
        bar = drawn.figure.colorbar(
            image, ax=drawn, shrink=0.6, aspect=25, format="{x:.0%}", label="share of the true class"
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(**style.TICKS)
    return drawn


def _separate(axes: Axes, count: int) -> None:
    """Draw thin lines between cells, by which the eye finds a row's end."""
    axes.grid(False)
    axes.set_axisbelow(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(0.5, count - 1), minor=True)
    axes.grid(which="minor", color=style.GRID, linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def _write(axes: Axes, counts: np.ndarray, shares: np.ndarray, normalize: bool, size: float) -> None:
    """Write a number into each cell that has samples, where a cell of ``size`` points has room for it."""
    texts = {(i, j): f"{100 * shares[i, j]:.0f}" if normalize else f"{counts[i, j]}" for i, j in np.argwhere(counts)}
    points = min(1.5 * size / max(map(len, texts.values())), 0.45 * size, style.TEXT)
    if points < SMALLEST:
        return
    for (i, j), text in texts.items():
        axes.text(
            j, i, text, ha="center", va="center", fontsize=points, color="white" if shares[i, j] > 0.5 else style.INK
        )


def _classes(name: str, given: npt.ArrayLike) -> np.ndarray:
    """Return classes, one a sample: whole numbers, or names."""
    array = np.asarray(given)
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf":
        _need_finite(name, array)
        return array.argmax(axis=1)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} must be classes, of shape (n,), or rows of a number a class, (n, classes); got {array.shape}."
        )
    if array.dtype.kind == "f":
        _need_finite(name, array)
        if (array != np.round(array)).any():
            if array.min() < 0.0 or array.max() > 1.0:
                raise ValueError(
                    f"{name} must be classes, or probabilities from 0 to 1; got numbers from {array.min():g} to "
                    f"{array.max():g}. Of logits: y_pred > 0."
                )
            array = array > 0.5
    if array.dtype.kind not in "biuf":
        return array.astype(str)
    if array.max() >= 2.0**63 or array.min() < -(2.0**63):
        raise ValueError(f"{name} must be class numbers from 0 on; got {array.min()} to {array.max()}.")
    return array.astype(np.int64)


def _need_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or Inf, which are no classes.")


def _counts(true: np.ndarray, predicted: np.ndarray, labels: Sequence[object] | None) -> tuple[np.ndarray, list[str]]:
    """Return the samples of each (true class, predicted class), and the classes' names."""
    if len(true) != len(predicted):
        raise ValueError(f"There must be as many samples of each; got y_true {len(true):,}, y_pred {len(predicted):,}.")
    if true.dtype.kind != predicted.dtype.kind:
        kinds = ["numbers" if array.dtype.kind == "i" else "names" for array in (true, predicted)]
        raise TypeError(f"y_true and y_pred must both be numbers, or both names; got {kinds[0]} and {kinds[1]}.")
    if labels is not None and (not isinstance(labels, Iterable) or not (labels := [*labels])):
        raise TypeError(f"labels is a list of the classes' names; got {labels!r:.80}.")
    found = np.unique(np.concatenate([true, predicted]))
    if true.dtype.kind == "i":
        named = labels is not None
        labels = range(max(int(found[-1]) + 1, 2)) if labels is None else labels
        if found[0] < 0 or found[-1] >= len(labels):
            lacking = f" labels has {len(labels)} names, and needs one for each class." if named else ""
            raise ValueError(
                f"Classes must be numbers from 0 to {len(labels) - 1}; got {found[0]} to {found[-1]}.{lacking}"
            )
    else:
        labels = found.tolist() if labels is None else labels
    if len(labels) > MOST:
        raise ValueError(
            f"{len(labels):,} classes are too many to see; draw at most {MOST}. Where the numbers are names, as years "
            "are, pass them as these: y.astype(str)."
        )
    names = [str(k) for k in labels]
    if true.dtype.kind != "i":
        if unknown := sorted({*map(str, found)} - {*names}):
            raise ValueError(f"labels must have every class; {', '.join(unknown[:5])} are not among them.")
        places = {name: k for k, name in enumerate(names)}
        true, predicted = (np.array([places[str(k)] for k in array]) for array in (true, predicted))
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts, names
