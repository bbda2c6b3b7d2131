"""The table that ``Sequential.summary`` prints."""

from __future__ import annotations

import math

import numpy as np

from gpumlp.engine.network import Network
from gpumlp.layers import Layer


def _size(count: int) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.2f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.2f} GB"


def summarize(name: str, stack: list[Layer], network: Network | None, dtype: np.dtype) -> str:
    """Return the table as text; shapes are "?" while the input shape is unknown."""
    rows = [("Layer (type)", "Output Shape", "Param #")]
    total = frozen = 0
    shape = network.input_shape if network else None
    for layer in stack:
        output, params = "?", "?"
        if shape is not None:
            counts = [(math.prod(spec.shape), layer.trainable and spec.trainable) for spec in layer.specs(shape)]
            count, trains = sum(n for n, _ in counts), sum(n for n, trains in counts if trains)
            shape = layer.result_shape(shape)
            output, params = "(" + ", ".join(["None", *map(str, shape)]) + ")", f"{count:,}"
            total, frozen = total + count, frozen + count - trains
        rows.append((f"{layer.name} ({type(layer).__name__})", output, params))
    a, b, c = (max(len(row[i]) for row in rows) for i in range(3))

    def line(left: str, middle: str, right: str, stroke: str) -> str:
        return left + middle.join(stroke * (n + 2) for n in (a, b, c)) + right

    out = [f'Model: "{name}"', line("┏", "┳", "┓", "━")]
    for i, (x, y, z) in enumerate(rows):
        bar = "┃" if i == 0 else "│"
        out.append(f"{bar} {x:<{a}} {bar} {y:<{b}} {bar} {z:>{c}} {bar}")
        last = i == len(rows) - 1
        out.append(
            line("┡", "╇", "┩", "━")
            if i == 0 and not last
            else (line("└", "┴", "┘", "─") if last else line("├", "┼", "┤", "─"))
        )
    if network is None:
        return "\n".join([*out, " The model is not built: its input shape is unknown."])
    item = dtype.itemsize
    for label, count in (("Total", total), ("Trainable", total - frozen), ("Non-trainable", frozen)):
        out.append(f" {label} params: {count:,} ({_size(count * item)})")
    return "\n".join(out)
