"""Several columns of a formula's rows: what is computed of them is computed column by column.

y_pred[:, 1:3] is two numbers a row, and so is an array of two numbers, one for each output. No kernel knows of such: a
node "columns" stands for them while a formula is traced, and an operation on it is the operation on each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpumlp.expressions import Node, Table

Make = Callable[..., "Node"]  # of expressions, which this module cannot import: it is what makes nodes of these


class WidthUnknown(TypeError):
    """How many outputs there are is not known where a formula is traced; a loss is traced again when data come."""


def joined(table: Table, parts: Sequence[Node], element: int) -> Node:
    """Return columns side by side; of one it is that one."""
    return parts[0] if len(parts) == 1 else table.node("columns", tuple(parts), None, element)


def row_of(value: object) -> list[float] | None:
    """Return the numbers of an array that has one for each output, of shape (outputs,) or (1, outputs); else None."""
    numbers: Any = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(numbers, (list, tuple)) and len(numbers) == 1 and isinstance(numbers[0], (list, tuple)):
        numbers = numbers[0]
    if isinstance(numbers, (list, tuple)) and numbers and all(isinstance(v, (int, float)) for v in numbers):
        return [float(v) for v in numbers]
    return None


def width_of(node: Node, element: int) -> int:
    """Return how many columns a node has; WidthUnknown where that is a matter of the data."""
    if node.op == "columns":
        return len(node.args)
    if node.per < element:
        return 1
    if node.table.outputs is None:
        raise WidthUnknown(
            "How many outputs there are is not known here, as it is for a loss: an array that has a number for each, "
            "x[:, 1:] and x[:, -1] cannot be had. Say which columns: x[:, 1:3]."
        )
    return node.table.outputs


def parts_of(make: Make, node: Node, width: int, element: int) -> list[Node]:
    """Return the columns of what has so many, or has one for all of them; TypeError for another number."""
    if node.per < element:
        return [node] * width
    if (own := width_of(node, element)) != width:
        raise TypeError(f"Shapes (batch, {own}) and (batch, {width}) of a formula do not go together.")
    return list(node.args) if node.op == "columns" else [make("column", node, i) for i in range(width)]


def beside(make: Make, nodes: Sequence[Node], element: int) -> Node:
    """Return the columns of all, one after the other."""
    parts = [each for node in nodes for each in parts_of(make, node, width_of(node, element), element)]
    return joined(parts[0].table, parts, element)


def distributed(make: Make, op: str, args: Sequence[Node], element: int) -> Node:
    """Return an operation on columns, by operations on each."""
    first = args[0]
    if op == "column":
        place = int(args[1].value)
        if place >= len(first.args):
            raise TypeError(f"Column {place} of an array of shape (batch, {len(first.args)}), counted from 0.")
        return first.args[place]
    if op in ALONG:
        return ALONG[op](make, first, element)
    width = max(width_of(a, element) for a in args if a.op == "columns")
    columns = [parts_of(make, a, width, element) for a in args]
    return joined(first.table, [make(op, *each) for each in zip(*columns, strict=True)], element)


def _total(make: Make, x: Node, element: int) -> Node:
    return functools.reduce(functools.partial(make, "add"), x.args)


def _largest(make: Make, x: Node, element: int) -> Node:
    return functools.reduce(functools.partial(make, "maximum"), x.args)


def _argmax(make: Make, x: Node, element: int) -> Node:
    best, place = x.args[0], x.table.constant(0.0)
    for i, each in enumerate(x.args[1:], 1):
        first_nan = make("mul", make("eq", best, best), make("sub", 1.0, make("eq", each, each)))
        better = make("maximum", make("lt", best, each), first_nan)
        best, place = make("where", better, each, best), make("where", better, float(i), place)
    return place


def _logsumexp(make: Make, x: Node, element: int) -> Node:
    top = make("held", _largest(make, x, element))  # whatever it is, the sum has the slope
    powers = [make("exp", make("sub", each, top)) for each in x.args]
    return make("add", make("log", functools.reduce(functools.partial(make, "add"), powers)), top)


def _log_softmax(make: Make, x: Node, element: int) -> Node:
    total = _logsumexp(make, x, element)
    return joined(x.table, [make("sub", each, total) for each in x.args], element)


def _softmax(make: Make, x: Node, element: int) -> Node:
    return make("exp", _log_softmax(make, x, element))


ALONG: dict[str, Callable[[Make, Node, int], Node]] = {
    "sum": _total, "largest": _largest, "argmax": _argmax, "logsumexp": _logsumexp, "log_softmax": _log_softmax,
    "softmax": _softmax,
}  # fmt: skip


# ---- which ones ------------------------------------------------------------------------------------------------------
def chosen(width: Callable[[], int], at: object) -> list[int] | None:
    """Return which columns an index means; None where it means none that a formula could have.

    ``width``: asked how many there are, where that is needed.
    """
    if type(at) is int:
        return [at if at >= 0 else at + width()]
    if not isinstance(at, slice):
        return None
    bounds = [at.start, at.stop, 1 if at.step is None else at.step]
    if not all(type(v) is int for v in bounds if v is not None) or bounds[2] == 0:
        return None
    known = bounds[2] > 0 and bounds[1] is not None and min(bounds[0] or 0, bounds[1]) >= 0
    found = list(range(*at.indices(bounds[1] if known else width())))
    return found or None


def cuts(width: int, sections: object) -> list[slice] | None:
    """Return the slices of `numpy.split`; None where there are none."""
    if type(sections) is int and sections > 0 and width % sections == 0:
        each = width // sections
        return [slice(k * each, (k + 1) * each) for k in range(sections)]
    if isinstance(sections, (list, tuple)) and all(type(v) is int and 0 < v < width for v in sections):
        return [slice(a, b) for a, b in zip([0, *sections], [*sections, width], strict=True)]
    return None
