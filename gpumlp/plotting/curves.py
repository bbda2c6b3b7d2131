"""Curves over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpumlp.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW, MANY = 15, 250  # of fewer epochs each has a dot; of more the line is a thin one


@dataclass
class Run:
    """The values of one training's epochs, by name, and these epochs' numbers, from 1; and those with a validation."""

    label: str
    curves: Mapping[str, Sequence[object]]
    epochs: Sequence[int]
    colour: str
    width: float = style.LINE
    validated: Sequence[int] = ()

    def points(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return epochs and values of a curve; what is no number is NaN.

        Of a validation that is not done each epoch there are fewer values. A `History` knows of which epochs; else
        they are drawn as of every so many epochs.
        """
        values = np.array([_number(value) for value in self.curves.get(name, ())])
        epochs = np.asarray(self.epochs or range(1, len(values) + 1))
        if len(values) == len(self.validated):
            epochs = np.asarray(self.validated)
        elif 0 < len(values) < len(epochs):
            every = len(epochs) // len(values)
            epochs = epochs[every - 1 :: every]
        return epochs[: len(values)], values[: len(epochs)]


def plot_history(
    history: object, metrics: str | Iterable[str] | None = None, *, title: str = "", axes: object = None
) -> np.ndarray:
    """Draw the curves of a training over its epochs: a panel for each quantity, the loss first.

    Training is a solid line, validation a dashed one of the same colour. A quantity that falls to less than a tenth of
    where it began has a logarithmic axis.

    Parameters
    ----------
    history : History, or dict of lists of numbers by name
        What ``fit`` returns. Several trainings are a dict of these by their names, drawn in a colour each, or a list,
        as an `Ensemble`'s ``fit`` returns it, drawn as thin lines of one colour. A `History` knows after which epochs
        a validation was done; of a dict whose validation has fewer values than epochs this is guessed: after every
        so many, from the first epoch on.
    metrics : str or iterable of str, optional
        The quantities to draw, such as "accuracy", each with what a validation has of it; all when None.
    title : str, default ""
        Over all panels.
    axes : matplotlib.axes.Axes, or array of them, optional
        Where to draw, one a quantity; those of a new figure when None.

    Returns
    -------
    array of matplotlib.axes.Axes
        One a quantity, however many there are.

    Raises
    ------
    TypeError, ValueError
        For what is no history, for names that it has not, and where there are not as many axes as quantities.

    Examples
    --------
    >>> from gpumlp.plotting import plot_history
    >>> curves = {
    ...     "loss": [0.9, 0.3, 0.05],
    ...     "val_loss": [0.8, 0.4, 0.2],
    ...     "mae": [0.7, 0.4, 0.3],
    ... }
    >>> loss, mae = plot_history(curves)
    >>> loss.get_yscale(), [line.get_label() for line in loss.lines]
    ('log', ['training', 'validation'])
    >>> loss.figure.savefig("curves.png")
    """
    runs = _runs(history)
    names = _quantities(runs, metrics)
    with style.panels(axes, len(names), title, style.WIDE if len(names) == 1 else style.PANEL) as drawn:
        shown: list[str] = []
        for panel, name in zip(drawn, names, strict=True):
            _draw(panel, name, runs)
            labels = panel.get_legend_handles_labels()[1]
            if labels not in (["training"], shown):  # that of one panel is that of the next
                panel.legend()
                shown = labels
    return drawn


def _number(value: object) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return float(value) if isinstance(value, (int, float, np.number)) else np.nan


def _runs(history: object) -> list[Run]:
    """Return the trainings of whatever `plot_history` takes; TypeError for what is no history."""
    if isinstance(history, Mapping) and history and not any(_is_curve(value) for value in history.values()):
        several = [(str(name), value) for name, value in history.items()]
    elif isinstance(history, (list, tuple)) and history:
        several = [(f"{len(history)} trainings" if i == 0 else "", value) for i, value in enumerate(history)]
    else:
        return [_run("", history, style.COLOURS[0])]
    named = isinstance(history, Mapping)
    colours = style.COLOURS if named else style.COLOURS[:1]
    width = style.LINE if named or len(several) == 1 else style.THIN
    return [_run(label, value, colours[i % len(colours)], width) for i, (label, value) in enumerate(several)]


def _is_curve(value: object) -> bool:
    many = hasattr(value, "__len__") and not isinstance(value, (str, Mapping))
    return many and not any(_is_run(each) for each in np.asarray(value, object))


def _is_run(value: object) -> bool:
    return isinstance(value, Mapping) or isinstance(getattr(value, "history", None), Mapping)


def _run(label: str, history: object, colour: str, width: float = style.LINE) -> Run:
    curves = history if isinstance(history, Mapping) else getattr(history, "history", None)
    if not isinstance(curves, Mapping) or not all(_is_curve(value) for value in curves.values()):
        hint = " Of a model it is model.history, after fit." if hasattr(history, "fit") else ""
        raise TypeError(
            f"plot_history takes what fit returns, or its dict, such as {{'loss': [0.2, 0.1]}}, or several of these in "
            f"a dict or list; got {history!r:.80}.{hint}"
        )
    epochs, validated = ([number + 1 for number in getattr(history, name, ())] for name in ("epoch", "validated"))
    longest = max(map(len, curves.values()), default=0)
    if len(epochs) != longest:
        epochs, validated = [*range(1, longest + 1)], []
    return Run(label, curves, epochs, colour, width, validated)


def _quantities(runs: Sequence[Run], metrics: object) -> list[str]:
    """Return what to draw, without "val_"; TypeError or ValueError where it is not there."""
    names = dict.fromkeys(name for run in runs for name in run.curves if np.isfinite(run.points(name)[1]).any())
    there = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    if metrics is None:
        if not there:
            raise ValueError("The history has no numbers: plot it when an epoch is done.")
        return sorted(there, key=lambda name: name != "loss")
    wanted = [metrics] if isinstance(metrics, str) else [*metrics] if isinstance(metrics, Iterable) else []
    if not wanted or not all(isinstance(name, str) for name in wanted):
        raise TypeError(f"metrics is a name, or a list of names, of {there}; got {metrics!r:.80}.")
    if isinstance(metrics, Set):  # which has another order in each process
        wanted.sort()
    wanted = list(dict.fromkeys(name.removeprefix("val_") for name in wanted))
    if unknown := [name for name in wanted if name not in there]:
        raise ValueError(f"The history has no {unknown[0]!r}, but {', '.join(there)}.")
    return wanted


def _draw(axes: Axes, name: str, runs: Sequence[Run]) -> None:
    """Draw one quantity of all trainings."""
    from matplotlib import ticker

    falls = []
    for run in runs:
        for of, dashes, word in ((name, "-", "training"), (f"val_{name}", (0, (4, 1.5)), "validation")):
            epochs, values = run.points(of)
            if not np.isfinite(values).any():
                continue
            named = f"{run.label}, {word}" if word == "validation" else run.label
            axes.plot(
                epochs, values, linestyle=dashes, color=run.colour,
                linewidth=run.width * (1.0 if len(values) < MANY else 0.6),
                label=named if run.label else word if len(runs) == 1 else None,
                marker="o" if len(values) < FEW else "", markersize=3.5,
            )  # fmt: skip
            known = values[np.isfinite(values)]
            falls.append((known[0], known.min(), known.max()))
    axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    first, least, most = np.array(falls).T
    if least.min() > 0.0 and (least < first / 10).any():
        _logarithmic(axes, least.min(), most.max())


def _logarithmic(axes: Axes, least: float, most: float) -> None:
    """Have a logarithmic axis show numbers such as 0.2, where powers of ten would be one or two."""
    from matplotlib import ticker

    axes.set_yscale("log")
    if most < 200.0 * least:
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
