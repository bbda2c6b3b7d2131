"""A picture of a model: a card for each layer, drawn by matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpumlp.plotting.style import EDGE, GROUND, INK, SMALL, SOFT, TEXT, in_style

MARGIN, GAP, PAD, FRAME = 0.25, 0.36, 0.14, 0.16  # around all, between cards, within one, around a model; inches
HEAD, LINE = 0.36, 0.23  # the heights of a card's head and of a line
TITLE = TEXT + 1  # points
# What a layer does, by its class's name: the colour of its card's head.
COLOURS = {
    "Input": "#e4e7eb", "Dense": "#cfe2f7", "Dropout": "#ece1f4", "Noise": "#ece1f4", "Normalization": "#d4ecd9",
    "Sequential": "#f7e3cf",
}  # fmt: skip
OTHER = "#f5eec9"
DIRECTIONS = ("TB", "BT", "LR", "RL")


@dataclass
class Card:
    """One layer: its title, what stands opposite, lines of (label, text), and the models that it is in."""

    kind: str
    title: str
    aside: str
    lines: list[tuple[str, str]]
    inside: tuple[str, ...] = ()
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0  # of its lower left corner
    y: float = 0.0


def plot_model(
    model: Any,
    to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: float = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> Any:
    """Draw a model's layers, one after the other, into a file.

    Parameters
    ----------
    model : Sequential
        A model that is built.
    to_file : path, default "model.png"
        Its ending says the format, such as .png, .svg or .pdf. None: no file, and the figure is returned.
    show_shapes : bool, default False
        The shapes of what goes into each layer and what comes out, and how many parameters it has.
    show_dtype : bool, default False
        The type of its numbers.
    show_layer_names : bool, default False
        Its name, before its class.
    rankdir : {"TB", "BT", "LR", "RL"}, default "TB"
        From where to where layers follow each other: from the top to the bottom, from the left to the right.
    expand_nested : bool, default False
        Draw the layers of models among the layers, in a frame.
    dpi : float, default 200
        Dots per inch.
    show_layer_activations : bool, default False
        What is applied to its outputs, such as relu.
    show_trainable : bool, default False
        Whether it trains.

    Returns
    -------
    IPython.display.Image, matplotlib.figure.Figure or None
        In a notebook the image, which it shows; the figure where there is no file; None otherwise.

    Raises
    ------
    ValueError
        If the model is not built, or ``rankdir`` is no direction.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from gpumlp import layers, models
    >>> from gpumlp.utils import plot_model
    >>> model = models.Sequential(
    ...     [layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1)]
    ... )
    >>> plot_model(model, "model.svg", show_shapes=True)
    """
    if not model.built:
        raise ValueError("plot_model draws a model that is built: call build, or fit, first, or begin with an Input.")
    if rankdir not in DIRECTIONS:
        raise ValueError(f"rankdir must be one of {', '.join(DIRECTIONS)}; got {rankdir!r}.")
    shown = {
        "shapes": show_shapes, "dtype": show_dtype, "names": show_layer_names,
        "activations": show_layer_activations, "trainable": show_trainable,
    }  # fmt: skip
    shape = model._known_input_shape()
    cards = [_first(model, shape, shown), *_cards(model, shape, shown, expand_nested, ())]
    figure = _drawn(cards, rankdir)
    if to_file is None:
        return figure
    path = Path(to_file) if Path(to_file).suffix else Path(to_file).with_suffix(".png")
    figure.savefig(path, dpi=dpi)
    if "ipykernel" not in sys.modules or path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        return None
    from IPython.display import Image

    return Image(filename=str(path))


def _text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["None", *map(str, shape)]) + ")"


def _first(model: Any, shape: tuple[int, ...], shown: dict[str, bool]) -> Card:
    lines = [("output", _text(shape))] * shown["shapes"] + [("dtype", model.dtype.name)] * shown["dtype"]
    return Card("Input", "Input", "", lines)


def _cards(
    model: Any, shape: tuple[int, ...], shown: dict[str, bool], expand: bool, inside: tuple[str, ...]
) -> Iterator[Card]:
    """Yield the cards of a model's layers, for samples of ``shape``."""
    for layer in model.layers:
        below, shape = shape, layer.result_shape(shape)
        kind = type(layer).__name__
        if expand and hasattr(layer, "layers"):
            yield from _cards(layer, below, shown, expand, (*inside, f"{layer.name} ({kind})"))
            continue
        lines = []
        activation = getattr(layer, "activation", None)
        if shown["activations"] and activation is not None:
            lines.append(("activation", getattr(activation, "name", getattr(activation, "__name__", str(activation)))))
        if shown["shapes"]:
            lines += [("input", _text(below)), ("output", _text(shape))]
        if shown["dtype"]:
            lines.append(("dtype", model.dtype.name))
        if shown["trainable"] and layer.weights:
            lines.append(("trainable", "yes" if layer.trainable else "no"))
        count = layer.count_params() if shown["shapes"] else 0
        title = f"{layer.name} ({kind})" if shown["names"] else kind
        yield Card(kind, title, f"{count:,} params" if count else "", lines, inside)


@dataclass
class Frame:
    """What stands around the layers of a model among the layers: how deep it is, its title, where it is."""

    depth: int
    title: str
    x: float
    y: float
    width: float
    height: float


def _drawn(cards: list[Card], rankdir: str) -> Any:
    down = rankdir in ("TB", "BT")
    ordered = cards if rankdir in ("TB", "LR") else cards[::-1]
    with in_style():
        from matplotlib.figure import Figure

        _measure(cards, down)
        frames, width, height = _place(ordered, down)
        figure = Figure((width, height))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        for frame in sorted(frames, key=lambda frame: frame.depth):
            _draw_frame(axes, frame)
        for card in cards:
            _draw_card(axes, card)
        for one, two in itertools.pairwise(ordered):
            ends = [(one.x + one.width / 2, one.y), (two.x + two.width / 2, two.y + two.height)]
            if not down:
                ends = [(one.x + one.width, one.y + one.height / 2), (two.x, two.y + two.height / 2)]
            _draw_arrow(axes, *(ends if ordered is cards else ends[::-1]))
    return figure


def _measure(cards: list[Card], down: bool) -> None:
    """Give every card its size; across their direction all have the same."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    def inches(text: str, points: float) -> float:
        font = FontProperties(weight="bold" if points == TITLE else "normal")
        return float(TextPath((0, 0), text, points, prop=font).get_extents().width) / 72 if text else 0.0

    for card in cards:
        heads = inches(card.title, TITLE) + (inches(card.aside, SMALL) + 2 * PAD if card.aside else 0.0)
        labels = max((inches(label, SMALL) for label, _ in card.lines), default=0.0)
        texts = max((inches(text, SMALL) for _, text in card.lines), default=0.0)
        card.width = max(heads, labels + PAD + texts) + 2 * PAD
        card.height = HEAD + (len(card.lines) * LINE + PAD if card.lines else 0.0)
    for card in cards:
        if down:
            card.width = max(1.8, *(other.width for other in cards))
        else:
            card.height = max(other.height for other in cards)


def _place(cards: list[Card], down: bool) -> tuple[list[Frame], float, float]:
    """Put the cards one after the other, with frames around models; return the frames, and the picture's size."""
    deepest = max(len(card.inside) for card in cards)
    spans: list[tuple[int, str, float, float]] = []  # of frames: depth, title, from and to, along the cards
    begun: list[tuple[str, float]] = []
    starts, at = [], MARGIN
    for card, before in zip([*cards, None], [None, *cards], strict=True):
        inside, outer = (() if c is None else c.inside for c in (card, before))
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(inside, outer, strict=False)))
        while len(begun) > common:
            at += FRAME
            title, start = begun.pop()
            spans.append((len(begun), title, start, at))
        if card is not None:
            at += GAP if before is not None else 0.0
            for title in inside[common:]:
                begun.append((title, at))
                at += FRAME + (LINE if down else 0.0)
            starts.append(at)
            at += card.height if down else card.width
    length, side = at + MARGIN, MARGIN + deepest * FRAME
    frames = []
    for card, start in zip(cards, starts, strict=True):
        card.x, card.y = (side, length - start - card.height) if down else (start, side)
    first = cards[0]
    across = first.width + 2 * side if down else first.height + 2 * side + deepest * LINE
    for depth, title, start, end in spans:
        edge = MARGIN + depth * FRAME
        if down:
            frames.append(Frame(depth, title, edge, length - end, across - 2 * edge, end - start))
        else:
            frames.append(Frame(depth, title, start, edge, end - start, across - 2 * edge - depth * LINE))
    return (frames, across, length) if down else (frames, length, across)


def _draw_frame(axes: Any, frame: Frame) -> None:
    axes.add_patch(_rounded(frame, facecolor=GROUND, edgecolor=EDGE, linewidth=0.8, linestyle=(0, (4, 2))))
    y = frame.y + frame.height - (FRAME + LINE) / 2
    ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 1.5}  # an arrow may pass behind
    axes.text(
        frame.x + PAD, y, frame.title, va="center", fontsize=SMALL, color=SOFT, style="italic", bbox=ground, zorder=5
    )


def _draw_card(axes: Any, card: Card) -> None:
    from matplotlib.patches import Rectangle

    top = card.y + card.height
    colour = next((COLOURS[word] for word in COLOURS if card.kind.endswith(word)), OTHER)
    outline = _rounded(card, facecolor=colour, edgecolor="none")
    axes.add_patch(outline)
    if card.lines:
        body = Rectangle((card.x, card.y), card.width, card.height - HEAD, facecolor="white")
        axes.add_patch(body)
        body.set_clip_path(outline)
    axes.add_patch(_rounded(card, facecolor="none", edgecolor=EDGE, linewidth=1.0))
    middle = top - (HEAD if card.lines else card.height) / 2
    left, right = card.x + PAD, card.x + card.width - PAD
    axes.text(left, middle, card.title, va="center", fontsize=TITLE, color=INK, weight="bold")
    axes.text(right, middle, card.aside, va="center", ha="right", fontsize=SMALL, color=SOFT)
    for i, (label, text) in enumerate(card.lines):
        y = top - HEAD - PAD / 2 - (i + 0.5) * LINE
        axes.text(left, y, label, va="center", fontsize=SMALL, color=SOFT)
        axes.text(right, y, text, va="center", ha="right", fontsize=SMALL, color=INK)


def _draw_arrow(axes: Any, begin: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": SOFT, "lw": 1.2, "shrinkA": 1, "shrinkB": 1, "mutation_scale": 11}
    axes.annotate("", end, begin, arrowprops=look)


def _rounded(box: Card | Frame, **look: Any) -> Any:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch((box.x, box.y), box.width, box.height, boxstyle="round,pad=0,rounding_size=0.07", **look)
