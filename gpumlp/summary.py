"""The table that ``summary`` shows, as Keras lays it out."""

from __future__ import annotations

import itertools
import math
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

WIDEST, NARROWEST = 88, 40  # of a table that nobody has said the width of, in characters
OF_TRAINABLE = 12  # how wide one more column is
POSITIONS = (0.45, 0.8, 1.0)  # where the columns end, of the table's width
COUNTERS = 2  # numbers that every optimizer has: its iterations and its learning rate
Row = list[str]


def summarize(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> str:
    """Return the table of a model as text; what `Stack.summary` says of its arguments holds here."""
    shown = _between(model.layers, layer_range)
    shape = model._known_input_shape() if model.built else None
    rows = [row for i, row in _rows(model.layers, shape, expand_nested, show_trainable) if shown[0] <= i < shown[1]]
    head = ["Layer (type)", "Output Shape", "Param #"] + ["Trainable"] * show_trainable
    return "\n".join([f'Model: "{model.name}"', *_table(head, rows, _widths(line_length, positions, show_trainable)),
                      *_totals(model)])  # fmt: skip


def _rows(stack: Sequence[Any], shape: Any, expand: bool, trainable: bool, depth: int = 0) -> Iterator[tuple[int, Row]]:
    """Yield the row of each layer, and with ``expand`` of those of models among them, with its place in ``stack``."""
    for i, layer in enumerate(stack):
        below, shape = shape, None if shape is None else layer.result_shape(shape)
        known = shape is not None
        row = [
            "   " * depth + "└ " * (depth > 0) + f"{layer.name} ({type(layer).__name__})",
            "(" + ", ".join(["None", *map(str, shape)]) + ")" if known else "?",
            f"{layer.count_params():,}" if layer.built or known else "0 (unbuilt)",
        ]
        if trainable:
            row.append(("Y" if layer.trainable else "N") if layer.weights else "-")
        yield i, row
        if expand and hasattr(layer, "layers"):
            for _, inner in _rows(layer.layers, below, expand, trainable, depth + 1):
                yield i, inner


def _between(stack: Sequence[Any], names: Sequence[str] | None) -> tuple[int, int]:
    """Return the places from the first layer that one pattern matches to the last that another does, and one more."""
    if names is None:
        return 0, len(stack)
    if not isinstance(names, (list, tuple)) or len(names) != 2 or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"layer_range must be a list or tuple of length 2, names of layers or patterns; got {names!r}."
        )
    found = [[i for i, layer in enumerate(stack) if re.match(name, layer.name)] for name in names]
    if not all(found):
        listed = ", ".join(repr(layer.name) for layer in stack)
        raise ValueError(f"layer_range must match names of layers; got {names!r}, and there are {listed}.")
    first, last = found if found[0][0] <= found[1][-1] else found[::-1]
    return first[0], last[-1] + 1


def _widths(line_length: int | None, positions: Sequence[float] | None, trainable: bool) -> list[int]:
    """Return how many characters each column has for its text; with its frame the table has ``line_length``."""
    if line_length is None:
        free = shutil.get_terminal_size().columns - 4
        line_length = max(min(WIDEST + OF_TRAINABLE * trainable, free), NARROWEST)
    ends = list(POSITIONS if positions is None else positions)
    if len(ends) != len(POSITIONS) or not all(np.isreal(ends)) or sorted(ends) != ends or ends[0] <= 0:
        raise ValueError(
            f"positions must be where {len(POSITIONS)} columns end, such as {POSITIONS}; got {positions!r}."
        )
    last = line_length - 1 - OF_TRAINABLE * trainable
    bars = [0, *(int(end / ends[-1] * last) for end in ends), *[line_length - 1] * trainable]
    widths = [right - left - 3 for left, right in itertools.pairwise(bars)]
    if min(widths) < 4:
        raise ValueError(
            f"Insufficient console width to print summary: line_length={line_length} leaves a column {min(widths)} "
            "characters. Give a larger one, or other positions."
        )
    return widths


def _table(head: Row, rows: list[Row], widths: list[int]) -> Iterator[str]:
    def frame(left: str, middle: str, right: str, stroke: str) -> str:
        return left + middle.join(stroke * (width + 2) for width in widths) + right

    def lines(row: Row, bar: str) -> Iterator[str]:
        cells = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            texts = [cell[i] if i < len(cell) else "" for cell in cells]
            placed = [align(text, n) for align, text, n in zip(ALIGN, texts, widths, strict=False)]
            yield f"{bar} {f' {bar} '.join(placed)} {bar}"

    yield frame("┏", "┳", "┓", "━")
    yield from lines(head, "┃")
    yield frame("┡", "╇", "┩", "━")
    for i, row in enumerate(rows):
        if i:
            yield frame("├", "┼", "┤", "─")
        yield from lines(row, "│")
    yield frame("└", "┴", "┘", "─")


ALIGN = (str.ljust, str.ljust, str.rjust, str.center)


def _wrapped(text: str, width: int) -> list[str]:
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(text, width, subsequent_indent=indent, drop_whitespace=True) or [text[:width]]


def _totals(model: Any) -> Iterator[str]:
    trains, rests = (
        [math.prod(w.shape) for w in which] for which in (model.trainable_weights, model.non_trainable_weights)
    )
    counts = {"Trainable": sum(trains), "Non-trainable": sum(rests)}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.belongs_to(model) and int(optimizer.iterations):
        counts["Optimizer"] = len(optimizer.slots) * sum(trains) + COUNTERS
    for label, count in {"Total": sum(counts.values()), **counts}.items():
        yield f" {label} params: {count:,} ({_size(count * model.dtype.itemsize)})"


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"
