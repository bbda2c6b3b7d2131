"""How all plots look, in one place: colours, sizes, fonts and grid; and the axes that they are drawn in.

A new figure is made with these settings, and the user's own are left alone. Axes that a user gives keep their own look:
in them only the marks (lines, points, bars) are the package's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, EDGE, PALE, GRID, GROUND = "#1f2933", "#616e7c", "#9aa5b1", "#c3cad2", "#e4e7eb", "#f5f7fa"
# For curves, in their order. The first three differ in lightness by 20 and more, so that they can be told apart in
# grey; all of them by those who do not see red or green (most are from Okabe and Ito, "Color universal design", 2008).
COLOURS = ("#004c8c", "#d55e00", "#f0b440", "#009e73", "#56b4e9", "#a3195b")
SEQUENTIAL = "Blues"  # from white to dark: in grey, too
FONT, TEXT, SMALL = "DejaVu Sans", 10.0, 9.0  # the font comes with matplotlib; points
LINE, THIN = 1.8, 0.6  # widths, points
WIDE, PANEL, SQUARE, TILE = (7.0, 3.9), (4.4, 3.3), (4.8, 4.4), (3.3, 2.3)  # of one panel, inches
DPI = 120  # 840 pixels across for one panel: what a notebook's and README's column hold

TICKS = {"labelsize": SMALL, "labelfontfamily": FONT, "color": EDGE, "labelcolor": SOFT, "length": 3.0, "width": 0.8}
STYLE: dict[Any, Any] = {  # matplotlib's types have every setting's name, of one version
    "figure.dpi": DPI, "figure.facecolor": "white", "savefig.facecolor": "auto", "axes.facecolor": "white",
    "font.family": [FONT], "font.size": TEXT, "text.color": INK,
    "axes.titlesize": TEXT + 1, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
    "axes.titlepad": 8.0, "figure.titlesize": TEXT + 1, "figure.titleweight": "bold",
    "axes.labelsize": TEXT, "axes.labelcolor": INK, "axes.edgecolor": EDGE, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "axes.grid.which": "major", "grid.color": GRID, "grid.linewidth": 0.8, "grid.linestyle": "-",
    "grid.alpha": 1.0, "legend.frameon": False, "legend.fontsize": SMALL, "legend.labelcolor": INK,
}  # fmt: skip


def in_style() -> AbstractContextManager[None]:
    """Have matplotlib draw in this style; ImportError, with what to do, where it is not installed."""
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'gpumlp[plot]'.") from error
    return rc_context(STYLE)


@contextmanager
def panels(
    given: object, count: int, title: object = "", size: tuple[float, float] = WIDE, columns: int = 3, about: str = ""
) -> Iterator[np.ndarray]:
    """Have ``count`` axes to draw in: those that are given, or those of a new figure, in this style.

    A new figure is closed again where drawing fails.

    Parameters
    ----------
    given : matplotlib.axes.Axes, array or list of these, or None
    count : int
    title : str
        Over one panel, or over all.
    size : pair of float
        Of one panel of a new figure, in inches.
    columns : int
        The most panels beside each other.
    about : str
        Over several panels of a new figure where the title is empty.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        For what are no axes, and for another number of them.
    """
    if not isinstance(title, str):
        raise TypeError(f"title is a string; got {title!r:.80}.")
    if given is not None:
        found = _checked(given, count)
        yield found
        _entitle(found, title)
        return
    rows = -(-count // columns)
    columns = -(-count // rows)
    styled = in_style()
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Outside the style: the first figure may load a backend that changes settings, which the style's end would undo.
    figure = pyplot.figure(
        figsize=(size[0] * columns, size[1] * rows), dpi=DPI, facecolor=STYLE["figure.facecolor"],
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08),
    )  # fmt: skip
    try:
        with styled:
            made = figure.subplots(rows, columns, squeeze=False)
            for extra in made.flat[count:]:
                extra.remove()
            found = made.ravel()[:count]
            for axes in found:
                axes.tick_params(which="both", **TICKS)  # ticks that come later, with a zoom, look like these
            yield found
            _entitle(found, title or (about if count > 1 else ""))
    except BaseException:
        pyplot.close(figure)
        raise


def _checked(given: object, count: int) -> np.ndarray:
    found = np.ravel(np.asarray(given, object))
    for axes in found:
        if not hasattr(axes, "set_xlabel"):
            raise TypeError(f"axes are matplotlib's, to draw in, such as pyplot.subplots()[1]; got {axes!r:.80}.")
    if len(found) != count:
        raise ValueError(
            f"There are {count} panels to draw, and {len(found)} axes for them: give {count}, such as "
            f"pyplot.subplots(1, {count})[1], or none."
        )
    return found


def _entitle(found: np.ndarray, title: str) -> None:
    if title and len(found) == 1:
        found[0].set_title(title)
    elif title:
        found[0].figure.suptitle(title, x=0.01, horizontalalignment="left")


def ink(axes: Axes) -> str:
    """Return the colour of what is to be seen on these axes' ground, which may be dark: that of their labels."""
    return str(axes.xaxis.label.get_color())


def bins(values: np.ndarray) -> np.ndarray:
    """Return the edges of a histogram's bins: the more values, the finer."""
    return np.histogram_bin_edges(values, int(np.clip(2 * np.sqrt(len(values)), 5, 60)))
