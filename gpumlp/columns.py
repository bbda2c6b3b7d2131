"""Several columns of a formula's rows: what is computed of them is computed column by column.

y_pred[:, 1:3] is two numbers a row, and so is an array of two numbers, one for each output. No kernel knows of such: a
node "columns" stands for them while a formula is traced, and an operation on it is the operation on each.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeGuard

if TYPE_CHECKING:
    from gpumlp.expressions import Node, Table

UNIFORM, ROW, ELEMENT = range(3)  # what a number belongs to
MOST = 128  # columns: each is some nodes, and code of its own
Make = Callable[..., "Node"]  # of expressions, which this module cannot import: it is what makes nodes of these


class WidthUnknown(TypeError):
    """How many outputs there are is not known where a formula is traced; a loss is traced again when data come."""


def joined(table: Table, parts: Sequence[Node]) -> Node:
    """Return columns side by side; of one it is that one. TypeError for more than MOST."""
    if len(parts) > MOST:
        raise TypeError(
            f"A formula of {len(parts)} columns, each of which is computed by itself: {MOST} are the most. Compute "
            "with whole rows."
        )
    return parts[0] if len(parts) == 1 else table.node("columns", tuple(parts), None, ELEMENT)


def row_of(value: object) -> list[float] | None:
    """Return the numbers of an array that has one for each output, of shape (outputs,) or (1, outputs); else None."""
    numbers: Any = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(numbers, (list, tuple)) and len(numbers) == 1 and isinstance(numbers[0], (list, tuple)):
        numbers = numbers[0]
    if isinstance(numbers, (list, tuple)) and numbers and all(map(is_number, numbers)):
        return [float(v) for v in numbers]
    return None


def is_number(value: object) -> TypeGuard[SupportsFloat]:
    """Whether this is one of Python's numbers, or NumPy's."""
    one = isinstance(value, (int, float)) or getattr(value, "shape", None) == ()
    return one and isinstance(value, SupportsFloat)


def width_of(node: Node) -> int:
    """Return how many columns a node has; WidthUnknown where that is a matter of the data."""
    if node.op == "columns":
        return len(node.args)
    if node.per < ELEMENT:
        return 1
    if node.table.outputs is None:
        raise WidthUnknown(
            "How many outputs there are is not known here, as it is for a loss: an array that has a number for each, "
            "x[:, 1:] and x[:, -1] cannot be had. Say which columns: x[:, 1:3]."
        )
    return node.table.outputs


def parts_of(make: Make, node: Node, width: int) -> list[Node]:
    """Return the columns of what has so many, or has one for all of them; TypeError for another number."""
    if node.per < ELEMENT:
        return [node] * width
    if (own := width_of(node)) != width:
        raise TypeError(f"Shapes (batch, {own}) and (batch, {width}) of a formula do not go together.")
    return list(node.args) if node.op == "columns" else [make("column", node, i) for i in range(width)]


def beside(make: Make, nodes: Sequence[Node]) -> Node:
    """Return the columns of all, one after the other."""
    parts = [each for node in nodes for each in parts_of(make, node, width_of(node))]
    return joined(parts[0].table, parts)


def distributed(make: Make, op: str, args: Sequence[Node]) -> Node:
    """Return an operation on columns, by operations on each."""
    first = args[0]
    if op == "column":
        place = int(args[1].value)
        if place >= len(first.args):
            raise TypeError(f"Column {place} of an array of shape (batch, {len(first.args)}), counted from 0.")
        return first.args[place]
    if op in ALONG:
        return ALONG[op](make, first)
    width = max(width_of(a) for a in args if a.op == "columns")
    columns = [parts_of(make, a, width) for a in args]
    return joined(first.table, [make(op, *each) for each in zip(*columns, strict=True)])


def _total(make: Make, x: Node) -> Node:
    return functools.reduce(functools.partial(make, "add"), x.args)


def _largest(make: Make, x: Node) -> Node:
    return functools.reduce(functools.partial(make, "maximum"), x.args)


def _argmax(make: Make, x: Node) -> Node:
    best, place = x.args[0], x.table.constant(0.0)
    for i, each in enumerate(x.args[1:], 1):
        first_nan = make("mul", make("eq", best, best), make("sub", 1.0, make("eq", each, each)))
        better = make("maximum", make("lt", best, each), first_nan)
        best, place = make("where", better, each, best), make("where", better, float(i), place)
    return place


def _logsumexp(make: Make, x: Node) -> Node:
    largest = _largest(make, x)
    finite = make("le", make("abs", largest), x.table.leaf("most", UNIFORM))
    top = make("held", make("where", finite, largest, 0.0))  # whatever it is, the sum has the slope
    powers = [make("exp", make("sub", each, top)) for each in x.args]
    return make("add", make("log", functools.reduce(functools.partial(make, "add"), powers)), top)


def _log_softmax(make: Make, x: Node) -> Node:
    total = _logsumexp(make, x)
    return joined(x.table, [make("sub", each, total) for each in x.args])


def _softmax(make: Make, x: Node) -> Node:
    return make("exp", _log_softmax(make, x))


ALONG: dict[str, Callable[[Make, Node], Node]] = {
    "sum": _total, "largest": _largest, "argmax": _argmax, "logsumexp": _logsumexp, "log_softmax": _log_softmax,
    "softmax": _softmax,
}  # fmt: skip


# ---- which ones ------------------------------------------------------------------------------------------------------
def chosen(width: Callable[[], int], at: object) -> list[int] | None:
    """Return which columns an index means; None where it means none that a formula could have.

    ``width``: asked how many there are, where that is needed.
    """
    try:
        if not isinstance(at, slice):
            place = _place(at)
            count = _count(width, place >= 0)
            return [place % (count or place + 1)] if count is None or -count <= place < count else None
        start, stop, step = (None if v is None else _place(v) for v in (at.start, at.stop, at.step))
        forward = (step is None or step > 0) and stop is not None and min(start or 0, stop) >= 0
        count = _count(width, forward)
        return list(range(*slice(start, stop, step).indices(stop if count is None and stop else count or 0))) or None
    except (TypeError, ValueError) as error:
        if isinstance(error, WidthUnknown):
            raise
        return None


def _place(at: object) -> int:
    if isinstance(at, bool):
        raise TypeError
    return operator.index(at)  # type: ignore[arg-type]


def _count(width: Callable[[], int], needless: bool) -> int | None:
    """Return how many columns there are; None where nobody knows, and it is ``needless``."""
    try:
        return width()
    except WidthUnknown:
        if not needless:
            raise
        return None


def cuts(width: int, sections: object) -> list[slice] | None:
    """Return the slices of `numpy.split`; None where there are none."""
    if type(sections) is int and sections > 0 and width % sections == 0:
        each = width // sections
        return [slice(k * each, (k + 1) * each) for k in range(sections)]
    if isinstance(sections, (list, tuple)) and all(type(v) is int and 0 < v < width for v in sections):
        return [slice(a, b) for a, b in zip([0, *sections], [*sections, width], strict=True)]
    return None
