"""What a formula is made of: numbers that depend on others by a few operations.

A formula is a Python function, called once with nodes. Equal nodes of a table are one: what is computed twice in the
text is computed once. A node is one number for all (UNIFORM), one for each row of a batch (ROW), or one for each
element of a row (ELEMENT); comparisons give 1 or 0. A row that has lost its axis, [B] where others are [B, 1], is
``flat``, and does not meet rows with one: NumPy would broadcast [B] against [B, O] in silence.

NaN goes through everything, maximum and comparisons to choose by included, as it goes through NumPy: so no rule here
turns 0 x into 0. What would lose digits or overflow by its parts (sigmoid, softplus, softmax, log_softmax) is an
operation of its own, whose stable parts stand in lowering.py, for targets that have no instruction for it. How formulas
are differentiated stands in derivatives.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, SupportsFloat, TypeAlias

from gpumlp import columns
from gpumlp.columns import ELEMENT, ROW, UNIFORM

Number: TypeAlias = "Node | SupportsFloat"  # what a formula computes with: its numbers, and Python's and NumPy's
KINDS = ("one number for all", "one number a row", "one number an element")


class Table:
    """Nodes that are compared with each other: those of one formula."""

    one_row = False  # whether all there is stands in one row: then a reduction needs no axis
    outputs: int | None = None  # how many numbers a row has, where that is known

    def __init__(self) -> None:
        self.nodes: dict[object, Node] = {}

    def node(self, op: str, args: tuple[Node, ...], value: Any, per: int, flat: bool = False) -> Node:
        """Return the node of ``op``; the same one each time."""
        sign = math.copysign(1.0, value) if isinstance(value, float) else None
        key = op, tuple(a.serial for a in args), value, sign, per, flat
        found = self.nodes.get(key)
        if found is None:
            found = self.nodes[key] = Node(self, len(self.nodes), op, args, value, per, flat)
        return found

    def leaf(self, name: str, per: int) -> Node:
        """Return the number called ``name``, given to the formula."""
        return self.node("leaf", (), name, per)

    def constant(self, value: float) -> Node:
        """Return a number that is known."""
        return self.node("constant", (), float(value), UNIFORM)


class Node:
    """One number, or one of each row or element; made by a Table."""

    __slots__ = ("args", "flat", "op", "per", "serial", "table", "value")
    __array_ufunc__ = None  # np.float64(2) * node asks the node

    def __init__(
        self,
        table: Table,
        serial: int,
        op: str,
        args: tuple[Node, ...],
        value: Any,
        per: int,
        flat: bool,
    ) -> None:
        self.table, self.serial, self.op, self.args, self.value, self.per = table, serial, op, args, value, per
        self.flat = flat

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return text([self])

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise TypeError(
            f"A formula is traced once, with symbols for its numbers, and cannot {what}. {instead} "
            "gpumlp.ops has what a formula can be made of."
        )

    def __bool__(self) -> bool:
        self._refuse("branch on them", "Write ops.where(condition, a, b) for `if`, `and`, `or` and `not`.")

    def __float__(self) -> float:
        self._refuse("turn them into Python's numbers", "Compute with them as they are.")

    def __iter__(self) -> NoReturn:
        self._refuse("go through them one by one", "Reduce along the last axis: ops.sum(x, axis=-1).")

    def __len__(self) -> int:
        self._refuse("ask how many there are", "ops.mean(x, axis=-1) divides by their number.")

    if not TYPE_CHECKING:  # it is none to a type checker either

        def __array__(self, *args: object, **kwargs: object) -> NoReturn:
            self._refuse("be made an array, as NumPy's functions want", "Use the function of gpumlp.ops of that name.")

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            raise AttributeError(
                f"A formula is traced once, with symbols for its numbers, which have no {name!r}: shapes are (batch, "
                "outputs), whatever these are, and what is computed is functions, ops.mean(x, axis=-1) for "
                "x.mean(axis=-1)."
            )

    @property
    def dtype(self) -> None:
        """None: it is the model's, whichever that is."""
        return None

    def __add__(self, other: Number) -> Node:
        return make("add", self, other)

    def __radd__(self, other: Number) -> Node:
        return make("add", other, self)

    def __sub__(self, other: Number) -> Node:
        return make("sub", self, other)

    def __rsub__(self, other: Number) -> Node:
        return make("sub", other, self)

    def __mul__(self, other: Number) -> Node:
        return make("mul", self, other)

    def __rmul__(self, other: Number) -> Node:
        return make("mul", other, self)

    def __truediv__(self, other: Number) -> Node:
        return make("div", self, other)

    def __rtruediv__(self, other: Number) -> Node:
        return make("div", other, self)

    def __pow__(self, other: Number) -> Node:
        return power(self, other)

    def __rpow__(self, other: Number) -> Node:
        return power(other, self)

    def __neg__(self) -> Node:
        return make("neg", self)

    def __pos__(self) -> Node:
        return self

    def __abs__(self) -> Node:
        return make("abs", self)

    def __lt__(self, other: Number) -> Node:
        return make("lt", self, other)

    def __gt__(self, other: Number) -> Node:
        return make("lt", other, self)

    def __le__(self, other: Number) -> Node:
        return make("le", self, other)

    def __ge__(self, other: Number) -> Node:
        return make("le", other, self)

    def __eq__(self, other: object) -> Node:  # type: ignore[override]  # a symbol, as NumPy has arrays
        return make("eq", self, other)

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return 1.0 - make("eq", self, other)

    def __and__(self, other: Number) -> Node:
        return both(self, other)

    def __rand__(self, other: Number) -> Node:
        return both(self, other)

    def __or__(self, other: Number) -> Node:
        return 1.0 - both(1.0 - truth(self), 1.0 - _truth_of(self, other))

    def __ror__(self, other: Number) -> Node:
        return self | other

    def __invert__(self) -> Node:
        return 1.0 - truth(self)

    def __mod__(self, other: Number) -> NoReturn:
        self._refuse("take a remainder", "Write x - y * ops.floor(x / y).")

    def __floordiv__(self, other: Number) -> NoReturn:
        self._refuse("divide in whole numbers by //", "Write ops.floor(x / y).")

    def __matmul__(self, other: Number) -> NoReturn:
        self._refuse("multiply matrices", "A row's product is ops.sum(x * y, axis=-1).")

    def __round__(self, digits: int = 0) -> NoReturn:
        self._refuse("be rounded by Python", "Write ops.round(x).")

    def __getitem__(self, at: object) -> Node:
        """Return a column, a[:, 1] of each row, or several with their axis, a[:, 1:3]; of a row, a[:, 0]."""
        rows, column = at if isinstance(at, tuple) and len(at) == 2 else (None, None)
        if (isinstance(rows, slice) and rows == slice(None)) or rows is Ellipsis:
            if column is None and (self.flat or self.per < ELEMENT or self.shape[-1] == 1):
                return kept(self)
            found = columns.chosen(lambda: columns.width_of(self), column)
            if found is not None and (len(found) == 1 or not self.table.one_row):
                each = [make("column", self, i) for i in found]
                return columns.joined(self.table, each) if isinstance(column, slice) else flat(each[0])
        self._refuse(f"take [{at!r}] of them", "Columns: x[:, 1], counted from 0, or with their axis kept x[:, 1:3].")

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(None, outputs), or (None,): how many samples a batch has, a formula does not know."""
        if self.table.one_row:
            self._refuse("ask how many there are of all", "ops.mean(x) divides by their number.")
        return (None,) if self.flat else (None, columns.width_of(self))


def is_constant(node: Node, value: float | None = None) -> bool:
    """Whether the node is a known number, that one if one is given."""
    return node.op == "constant" and (value is None or node.value == value)


# ---- making ----------------------------------------------------------------------------------------------------------
def _fold_power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except (ValueError, OverflowError):
        return math.nan if a < 0 else math.inf


def _folds(extremum: Callable[[list[float]], float]) -> Callable[[float, float], float]:
    """Return it with NaN where one is: of Python's the first number counts."""
    return lambda a, b: extremum([a, b]) if a == a and b == b else math.nan


FOLD: Mapping[str, Callable[..., float]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
    "abs": abs, "lt": lambda a, b: float(a < b), "le": lambda a, b: float(a <= b), "eq": lambda a, b: float(a == b),
    "maximum": _folds(max), "minimum": _folds(min), "pow": _fold_power,
}  # fmt: skip
REDUCTIONS = frozenset({"sum", "largest", "argmax"})  # what goes over all of a row before it is known
OF_ROW = REDUCTIONS | {"logsumexp", "column"}  # what gives one number a row
OF_ELEMENT = frozenset({"softmax", "log_softmax"})  # what gives one number an element
COMMUTES = frozenset({"add", "mul", "eq"})  # not extrema: at a tie their second argument has the slope


def make(op: str, *args: object) -> Node:
    """Return the node of an operation, after what simplifies it and loses no NaN.

    Arguments are nodes of one table, or numbers. TypeError for anything else, and where rows meet that have lost their
    axis with such as have it.
    """
    table = next(a.table for a in args if isinstance(a, Node))
    if any(isinstance(a, Node) and a.table is not table for a in args):
        raise TypeError(f"{op} of numbers of two formulas: what was traced for one means nothing in another.")
    nodes = tuple(a if isinstance(a, Node) else known(op, a, table) for a in args)
    if any(a.op == "whole" for a in nodes):
        return _of_wholes(op, nodes)
    if any(a.op == "columns" for a in nodes):
        _is_flat(op, nodes)
        return columns.distributed(make, op, nodes)
    if op in FOLD and all(a.op == "constant" for a in nodes):
        return table.constant(FOLD[op](*(a.value for a in nodes)))
    if op in COMMUTES and nodes[0].serial > nodes[1].serial:
        nodes = nodes[::-1]
    simple = SIMPLER[op](*nodes) if op in SIMPLER else None
    if simple is not None:
        return simple
    is_flat = _is_flat(op, nodes)
    if op in OF_ROW:
        per = ROW
    else:
        per = ELEMENT if op in OF_ELEMENT else max(a.per for a in nodes)
    return table.node(op, nodes, None, per, is_flat)


def known(op: str, value: object, table: Table) -> Node:
    """Return a number that is known, or one for each output."""
    row = None if table.one_row or columns.is_number(value) else columns.row_of(value)
    if row is not None:
        return columns.joined(table, list(map(table.constant, row)))
    return table.constant(_number(op, value))


def alike(node: Node, value: float) -> Node:
    """Return a number, 0 or 1, in the place of each that there is: a known one would not be as many."""
    zero = make("lt", node, node)
    return 1.0 - zero if value else zero


def count(node: Node) -> Node | float:
    """Return how many numbers a row of it has, to divide by."""
    return float(len(node.args)) if node.op == "columns" else node.table.leaf("width", UNIFORM)


def _number(op: str, value: object) -> float:
    if columns.is_number(value):
        return float(value)
    raise TypeError(
        f"{op} of a formula takes its numbers and Python's; got {type(value).__name__}: {value!r:.80}. An array would "
        "be other data than the batch's: nothing could say which row of it belongs to which sample. One number an "
        "output, of shape (outputs,), a loss can have."
    )


def _is_flat(op: str, args: tuple[Node, ...]) -> bool:
    flats = [a for a in args if a.flat]
    if not flats:
        return False
    if op in OF_ROW | OF_ELEMENT or any(a.per > UNIFORM and not a.flat for a in args):
        raise TypeError(
            f"{op}: an array of shape (batch,) meets one of (batch, outputs), or is gone over along an axis that it "
            "has lost. Keep the axis: ops.sum(x, axis=-1, keepdims=True), or y[:, 0:1] for a column."
        )
    return True


def flat(node: Node) -> Node:
    """Return a row's number without its axis: [B] in place of [B, 1]. Where there is one row only, it is the same."""
    same = node.flat or node.per != ROW or node.table.one_row
    return node if same else node.table.node("flat", (node,), None, ROW, True)


def kept(node: Node) -> Node:
    """Return a row's number with its axis, [B, 1], whether or not it had lost it."""
    return node.table.node("kept", (node,), None, ROW) if node.flat else node


def is_truth(node: Node) -> bool:
    """Whether a number is 0 or 1."""
    if node.op == "sub":
        return is_constant(node.args[0], 1.0) and is_truth(node.args[1])
    return node.op in ("lt", "le", "eq") or (node.op == "mul" and all(map(is_truth, node.args)))


def truth(node: Node) -> Node:
    """Return 1 where a number is not 0, else 0."""
    return node if is_truth(node) else 1.0 - make("eq", node, 0.0)


def _truth_of(node: Node, other: Number) -> Node | float:
    if not isinstance(other, Node) and columns.is_number(other):
        return float(bool(other))
    return truth(other if isinstance(other, Node) else known("and", other, node.table))


def both(node: Node, other: Number) -> Node:
    """Return 1 where neither is 0, else 0."""
    return make("mul", truth(node), _truth_of(node, other))


def whole(node: Node) -> Node:
    """Return the mean over the batch of what a row's number, or a mean over outputs, is for each sample.

    A formula may end with one: what it gives for a sample is then ``node``, of which a model takes the mean anyway.
    """
    return node.table.node("whole", (node,), None, ROW, True)


def mean_of(node: Node) -> Node:
    """Return the mean over the batch of what there is for each sample."""
    if node.op == "whole" or node.per == UNIFORM:
        return node
    return whole(flat(kept(node) if node.per < ELEMENT else make("sum", node) / count(node)))


def _of_wholes(op: str, args: tuple[Node, ...]) -> Node:
    """What is linear in means over the batch is the mean of what it is for each sample; TypeError for anything else."""
    if op in ("add", "sub"):  # what is of each sample, too: a model takes its mean
        args = tuple(a if a.op == "whole" or a.per == UNIFORM else mean_of(a) for a in args)
    means = [a.op == "whole" for a in args]
    linear = op in ("add", "sub", "neg") or (op == "mul" and means.count(True) == 1) or (op == "div" and not means[1])
    if not linear or any(a.per > UNIFORM and not mean for a, mean in zip(args, means, strict=True)):
        raise TypeError(
            f"{op} of a mean over the whole batch, beside what is of a sample: a formula gives a value for each "
            "sample, by reductions along its outputs, ops.mean(x, axis=-1), of which a model takes the mean; or a loss "
            "gives one for the batch, by reductions that all go without an axis."
        )
    return whole(make(op, *(a.args[0] if mean else a for a, mean in zip(args, means, strict=True))))


def power(base: Number, exponent: Number) -> Node:
    """Return base ** exponent: by products for small whole numbers, by a root for a half."""
    if isinstance(exponent, Node) and exponent.op == "constant":
        exponent = exponent.value
    if not isinstance(base, Node) or isinstance(exponent, Node):
        return make("pow", base, exponent)
    if not columns.is_number(exponent):
        return make("pow", base, exponent)
    if exponent in (-4, -3, -2, -1):
        return 1.0 / power(base, -exponent)
    if exponent in (0, 1, 2, 3, 4):
        square = base * base if exponent > 1 else base
        return {0: alike(base, 1.0), 1: base, 2: square, 3: square * base, 4: square * square}[int(exponent)]
    return make("sqrt", base) if exponent == 0.5 else make("pow", base, exponent)


# What an operation is instead, for some arguments: f(*args) -> node or None. NaN and the sign of zero's limits stay.
def _add(a: Node, b: Node) -> Node | None:
    if is_constant(a, 0.0):
        return b
    if is_constant(b, 0.0):
        return a
    if a is b:
        return make("mul", 2.0, a)
    for one, other in ((a, b), (b, a)):  # what is masked by a condition, and what by its contrary
        if one.op == other.op == "mask" and other.args[0] is 1.0 - one.args[0]:
            return make("where", one.args[0], one.args[1], other.args[1])
    if b.op == "neg":
        return make("sub", a, b.args[0])
    return make("sub", b, a.args[0]) if a.op == "neg" else None


def _sub(a: Node, b: Node) -> Node | None:
    if is_constant(b, 0.0):
        return a
    if is_constant(a, 0.0):
        return make("neg", b)
    return make("add", a, b.args[0]) if b.op == "neg" else None


def _mul(a: Node, b: Node) -> Node | None:
    if b.op == "constant":
        a, b = b, a
    for one, other in ((a, b), (b, a)):
        if is_constant(one, 1.0):
            return other
        if is_constant(one, -1.0):
            return make("neg", other)
        if one.op == "neg":
            return make("neg", make("mul", one.args[0], other))
        if one.op == "mask":  # products go inside: what is masked is 0 whatever the other is
            return make("mask", one.args[0], make("mul", one.args[1], other))
    for one, other in ((a, b), (b, a)):  # what is the same for all elements is multiplied first
        if one.per < ELEMENT and other.op == "mul":
            for i in (0, 1):
                factor, rest = other.args[i], other.args[1 - i]
                if (factor.op == "constant" and one.op == "constant") or factor.per < rest.per == ELEMENT:
                    return make("mul", make("mul", one, factor), rest)
    return None


def _div(a: Node, b: Node) -> Node | None:
    if is_constant(b, 1.0):
        return a
    if is_constant(a, 0.0) and b.op == "leaf" and b.value == "width":
        return a
    if a.op == "mask":
        return make("mask", a.args[0], make("div", a.args[1], b))
    return make("neg", make("div", a.args[0], b)) if a.op == "neg" else None


def _neg(a: Node) -> Node | None:
    if a.op == "neg":
        return a.args[0]
    if a.op == "sub":
        return make("sub", a.args[1], a.args[0])
    if a.op == "mask":
        return make("mask", a.args[0], make("neg", a.args[1]))
    return None


def _sum(a: Node) -> Node | None:
    """What is the same for all of a row stands before the sum."""
    if a.per < ELEMENT and not a.flat:
        return make("mul", a, a.table.leaf("width", UNIFORM))
    if a.op == "neg":
        return make("neg", make("sum", a.args[0]))
    if a.op == "div" and a.args[1].per < ELEMENT:
        return make("div", make("sum", a.args[0]), a.args[1])
    if a.op == "mul":
        for i in (0, 1):
            if a.args[i].per < ELEMENT:
                return make("mul", a.args[i], make("sum", a.args[1 - i]))
    return None


def _mask(condition: Node, value: Node) -> Node | None:
    if condition.op == "constant":
        return value if condition.value else value.table.constant(0.0)
    return value if is_constant(value, 0.0) else None


def _where(condition: Node, a: Node, b: Node) -> Node | None:
    if condition.op == "constant":
        return a if condition.value else b
    return a if a is b else None


def _column(a: Node, i: Node) -> Node | None:
    """A column of what is computed element by element is computed of columns."""
    if a.per < ELEMENT:
        return a if not a.flat and is_constant(i, 0.0) else None
    if a.op in OF_ELEMENT:
        return None
    if a.op == "leaf":
        return i if a.value == "index" else None
    return make(a.op, *(make("column", b, i) if b.per == ELEMENT else b for b in a.args))


def _over_one(value: float) -> Callable[[Node], Node | None]:
    """What goes over a row of one number, which targets of one number beside several outputs are."""
    return lambda a: a.table.constant(value) if a.per == ROW and not a.flat else None


SIMPLER: Mapping[str, Callable[..., Node | None]] = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "neg": _neg, "sum": _sum, "mask": _mask, "where": _where,
    "softmax": _over_one(1.0), "log_softmax": _over_one(0.0),
    "logsumexp": lambda a: a if a.per == ROW and not a.flat else None,
    "largest": lambda a: a if a.per < ELEMENT and not a.flat else None, "column": _column,
    "held": lambda a: a if a.op in ("constant", "held") else None,
    "abs": lambda a: make("abs", a.args[0]) if a.op == "neg" else None,
}  # fmt: skip


def index(table: Table) -> Node:
    """Return an element's number in its row, from 0."""
    return table.leaf("index", ELEMENT)


# ---- graphs ----------------------------------------------------------------------------------------------------------
def order(roots: Iterable[Node]) -> list[Node]:
    """Return all nodes that the roots need, arguments first."""
    seen: set[Node] = set()
    out: list[Node] = []
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            out.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args) if a not in seen)
    return out


def rebuilt(
    roots: Iterable[Node], change: Callable[[Node, list[Node]], Node | None], table: Table | None = None
) -> list[Node]:
    """Return the roots with each node what ``change(node, new arguments)`` makes of it, None: what it was.

    They are nodes of ``table``, by default a new one: what they are does not depend on what was made before.
    """
    roots, table, new = list(roots), table or Table(), {}  # type: ignore[var-annotated]
    for n in order(roots):
        args = [new[a] for a in n.args]
        found = change(n, args) if args else None
        if found is None:
            found = make(n.op, *args) if args else table.node(n.op, (), n.value, n.per, n.flat)
        new[n] = found
    return [new[r] for r in roots]


def with_leaf(roots: Iterable[Node], node: Node, leaf: Node) -> list[Node]:
    """Return the roots with ``leaf`` where ``node`` was: what is retained is not computed again."""
    new: dict[Node, Node] = {node: leaf}
    roots = list(roots)
    for n in order(roots):
        if n not in new:
            changed = any(new[a] is not a for a in n.args)
            new[n] = make(n.op, *(new[a] for a in n.args)) if changed else n
    return [new[r] for r in roots]


def without_flats(roots: Iterable[Node]) -> list[Node]:
    """Return the roots as targets see them, where a row is a row: with or without its axis it is the same numbers."""
    return rebuilt(roots, lambda n, args: args[0] if n.op in ("flat", "kept") else None)


def leaves(roots: Iterable[Node]) -> dict[str, Node]:
    """Return what the roots are computed from, by name."""
    return {n.value: n for n in order(roots) if n.op == "leaf"}


# ---- words -----------------------------------------------------------------------------------------------------------
def text(roots: Iterable[Node], names: Iterable[str] = ()) -> str:
    """Return the roots in words, a line a node: the same for formulas that are the same."""
    roots, numbers, lines = list(roots), {}, []  # type: ignore[var-annotated]
    for n in order(roots):
        if n.op == "constant":
            numbers[n] = repr(n.value)
        elif n.op == "leaf":
            numbers[n] = n.value + ("", "[row]", "[element]")[n.per]
        else:
            numbers[n] = f"%{len(lines)}"
            lines.append(f"{numbers[n]} = {n.op} {', '.join(numbers[a] for a in n.args)}")
    lines += [f"{name}: {numbers[root]}" for name, root in zip(list(names) or [""] * len(roots), roots, strict=True)]
    return "\n".join(lines)
