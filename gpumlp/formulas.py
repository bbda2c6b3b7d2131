"""Formulas as targets read them: traced once, differentiated, with the numbers that are given to kernels named.

A description (an activation, a loss, a metric, an optimizer, a regularizer) has a Python function over `gpumlp.ops`,
and constants. Constants of 0 and 1, and those that are no real numbers, shape the formula; others are numbers by name,
so that another value needs no other kernel.

Leaves by name: z, y and dy of an activation (its inputs, outputs, and the gradient by these); t, p and factor of a loss
or metric (targets, predictions, and what a row's gradient is multiplied by); w, g and an optimizer's slots. Besides
these every formula may have index (an element's place in its row), width (how many there are), and most (the largest
number there is).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from gpumlp.attributes import once
from gpumlp.columns import WidthUnknown, joined
from gpumlp.derivatives import gradient
from gpumlp.expressions import (
    ELEMENT,
    OF_ELEMENT,
    ROW,
    UNIFORM,
    Node,
    Table,
    kept,
    leaves,
    make,
    mean_of,
    order,
    text,
    with_leaf,
    without_flats,
)  # fmt: skip

GIVEN = frozenset({"index", "width", "most"})  # leaves that every target has
Constants: TypeAlias = tuple[tuple[str, object], ...]
Slope: TypeAlias = Callable[..., Node | float | None]


@dataclass(frozen=True, eq=False)
class Formula:
    """What is computed: ``roots`` by ``names``, of leaves by name; ``numbers`` are those that a kernel is given.

    Formulas of the same ``text`` are computed by the same kernel. With ``of_batch`` a row is all numbers of a batch;
    with ``by_output`` a loss is the mean of what a function gives for each output.
    """

    names: tuple[str, ...]
    roots: tuple[Node, ...]
    numbers: tuple[str, ...] = ()
    of_batch: bool = False
    by_output: bool = False

    @once
    def text(self) -> str:
        """The formula in words, a line an operation."""
        return text(self.roots, self.names)

    @once
    def leaves(self) -> Mapping[str, Node]:
        """What it is computed from, by name."""
        return leaves(self.roots)

    @once
    def is_identity(self) -> bool:
        """Whether it gives what it is given: z, or dy."""
        return len(self.roots) == 1 and self.roots[0].op == "leaf"

    @once
    def rowwise(self) -> bool:
        """Whether an element depends on others of its row, or on its place there."""
        places = ("index", "width")
        return any(n.per == ROW or n.op in OF_ELEMENT or n.value in places for n in order(self.roots))

    def reads(self, name: str) -> bool:
        """Whether the leaf of that name is needed."""
        return name in self.leaves

    def reads_rows(self, name: str) -> bool:
        """Whether a leaf is read as a row as long as the outputs, and not by columns alone."""
        leaf = self.leaves.get(name)
        if leaf is None or leaf.per < ELEMENT:
            return False
        used = (n.op for n in order(self.roots) if any(a is leaf for a in n.args))
        return any(root is leaf for root in self.roots) or any(op != "column" for op in used)

    def look_at_columns(self, who: str, **widths: int) -> None:
        """Raise ValueError where the formula reads columns of leaves beyond their ``widths``; ``who`` it is of."""
        for n in order(self.roots):
            if n.op != "column":
                continue
            read = [name for name, leaf in leaves(n.args[:1]).items() if leaf.per == ELEMENT and name in widths]
            shortest = min(read, key=widths.__getitem__, default="")
            if shortest and n.args[1].value >= widths[shortest]:
                what = {"t": "the targets", "p": "the predictions"}.get(shortest, "its argument")
                raise ValueError(
                    f"{who} reads column {n.args[1].value:g} of {what}, counted from 0; there are {widths[shortest]}."
                )

    def root(self, name: str) -> Node:
        """Return the root of that name."""
        return self.roots[self.names.index(name)]

    @functools.lru_cache(maxsize=512)  # noqa: B019  formulas are kept as long, in any case
    def only(self, *names: str) -> Formula:
        """Return the formula of these roots alone; the same one each time."""
        roots = tuple(map(self.root, names))
        read = leaves(roots)
        return Formula(names, roots, tuple(n for n in self.numbers if n in read), self.of_batch)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a constant is given to kernels by name, and does not shape the formula."""
    return isinstance(value, float) and value not in (0.0, 1.0)


def is_zero(constant: object) -> bool:
    """Whether a constant is known to be 0: what it is a factor of is not there."""
    return not isinstance(constant, Node) and constant == 0.0


def numbers_of(constants: Mapping[str, object]) -> dict[str, float]:
    """Return the constants that a kernel is given, by name."""
    return {name: value for name, value in constants.items() if is_number(value)}


def _shape(constants: Mapping[str, object]) -> Constants:
    """Return what shapes a formula: constants, with None for the numbers."""
    return tuple((name, Ellipsis if is_number(value) else value) for name, value in constants.items())


def _arguments(table: Table, shape: Constants) -> dict[str, object]:
    return {name: table.leaf(name, UNIFORM) if value is Ellipsis else value for name, value in shape}


def _numbers(shape: Constants, roots: tuple[Node, ...]) -> tuple[str, ...]:
    read = leaves(roots)
    return tuple(name for name, value in shape if value is Ellipsis and name in read)


def _node(what: str, value: object, table: Table, per: int) -> Node:
    """Return what a formula gave, as a number of each row or element; TypeError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = table.constant(float(value))
    if not isinstance(value, Node):
        raise TypeError(
            f"{what} must return what it computed of its arguments by gpumlp.ops; got {type(value).__name__}: "
            f"{value!r:.80}. Functions of NumPy, SciPy or another framework cannot be differentiated here: write it "
            "with gpumlp.ops, which has Keras's names."
        )
    return value


def _called(what: str, function: Callable[..., object], args: tuple[Node, ...], given: Mapping[str, object]) -> object:
    try:
        return function(*args, **given)
    except TypeError as error:
        if "__array_ufunc__" not in str(error):
            raise
        raise TypeError(
            f"{what} hands its arguments to a function of NumPy, which cannot be differentiated here. Use the function "
            "of gpumlp.ops of that name."
        ) from error


# ---- activations -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class ActivationFormula:
    """An activation both ways: y of z, and dz of dy, y and z; ``retains_input`` where z is needed on the way back.

    ``rowwise`` where an element depends on others of its row.
    """

    forward: Formula
    back: Formula
    retains_input: bool
    rowwise: bool


@functools.lru_cache(maxsize=512)
def _activation(function: Callable[..., object], slope: Slope | None, shape: Constants) -> ActivationFormula:
    table = Table()
    z, given = table.leaf("z", ELEMENT), _arguments(table, shape)
    name = getattr(function, "__name__", "an activation")
    y = _node(f"The activation {name}", _called(f"The activation {name}", function, (z,), given), table, ELEMENT)
    if y.per != ELEMENT or y.op == "columns":
        raise TypeError(
            f"The activation {name} must return a number for each element of its argument, (batch, outputs)."
        )
    table, (y,) = _fresh([y])
    z, dy, retained = table.leaf("z", ELEMENT), table.leaf("dy", ELEMENT), table.leaf("y", ELEMENT)
    by_hand = None
    if slope is not None:
        of = next(iter(inspect.signature(slope).parameters))
        by_hand = slope({"y": retained, "z": z}[of], **_arguments(table, shape))
    if by_hand is not None:
        dz = dy * by_hand
    else:
        (dz,) = with_leaf([gradient(y, z, dy)], y, retained) if y is not z else [dy]
    (dz,) = without_flats([dz])
    forward = Formula(("y",), (y,), _numbers(shape, (y,)))
    back = Formula(("dz",), (dz,), _numbers(shape, (dz,)))
    return ActivationFormula(forward, back, back.reads("z"), forward.rowwise)


def activation(
    function: Callable[..., object], slope: Slope | None, constants: Mapping[str, object]
) -> ActivationFormula:
    """Return an activation's formula, of f(z, **constants).

    ``slope``, of y or of z by its first argument's name, stands for the derived f' where another form is cheaper, or
    holds farther out; None of it: with these constants it does not.
    """
    return _activation(function, slope, _shape(constants))


# ---- losses and metrics ----------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=512)
def _objective(
    function: Callable[..., object], shape: Constants, sparse: bool, slopes: bool, outputs: int | None = None,
    targets: int | None = None, mean: bool = True,
) -> Formula:  # fmt: skip
    table = Table()
    table.outputs = outputs
    t, p = table.leaf("t", ROW if sparse else ELEMENT), table.leaf("p", ELEMENT)
    if targets is not None:
        t = joined(table, [make("column", t, i) for i in range(targets)])
    name = getattr(function, "__name__", "it")
    found = _called(f"The function {name}", function, (t, p), _arguments(table, shape))
    several = found if isinstance(found, tuple) and not slopes else (found,)
    values, by_output = [], False
    for value in several:
        node = _node(f"The function {name}", value, table, ROW)
        if node.op == "whole" and not mean:
            raise TypeError(f"The mean over the batch of {name} is to be a number of its own: give no axis in it.")
        by_output = node.per == ELEMENT
        node = mean_of(node)  # Keras takes the mean of all that a function gives
        node = kept(node.args[0] if node.op == "whole" else node)
        values.append(node)
    table, roots = _fresh(values)
    names = ["value"] if slopes else [f"sum_{i}" for i in range(len(roots))]
    if slopes:
        roots.append(gradient(roots[0], table.leaf("p", ELEMENT), table.leaf("factor", ROW)))
        names.append("dp")
    return Formula(tuple(names), tuple(roots), _numbers(shape, tuple(roots)), by_output=by_output)


def loss(
    function: Callable[..., object], constants: Mapping[str, object], sparse: bool, outputs: int | None = None,
    targets: int | None = None, mean: bool = True,
) -> Formula:  # fmt: skip
    """Return a loss's formula: ``value``, one number a row, of t, p, and ``dp``, its gradient by p times ``factor``.

    ``sparse``: t is one number a row. A function that gives one for each element means their mean. WidthUnknown where
    it asks how many ``outputs`` there are, and that is not said. ``targets``: how many columns t has, if not as many.

    A function that goes over the whole batch, such as the root of a mean, gives its loss: `Formula.of_batch`. A mean
    over the batch is that of samples, unless ``mean`` is false.
    """
    shape = _shape(constants)
    try:
        return _objective(function, shape, sparse, True, outputs, targets, mean)
    except WidthUnknown:
        raise
    except TypeError as error:
        if sparse or targets is not None:
            raise
        try:
            return _of_batch(function, shape)
        except (TypeError, NotImplementedError) as other:
            more = f" As a loss of the whole batch: {other}" if "whole batch" in str(error) else ""
            raise TypeError(f"{error}{more}") from None


@functools.lru_cache(maxsize=512)
def _of_batch(function: Callable[..., object], shape: Constants) -> Formula:
    """Return a loss's formula with all numbers of a batch in one row: reductions name no axis, and go over all."""
    table = Table()
    table.one_row = True
    what, both = f"The function {getattr(function, '__name__', '')}", [table.leaf(name, ELEMENT) for name in "tp"]
    value = _node(what, _called(what, function, tuple(both), _arguments(table, shape)), table, ROW)
    if value.per == ELEMENT:
        raise TypeError(f"{what} gives many numbers: end with ops.mean(x), without an axis.")
    if any(n.op == "column" or n.value == "index" for n in order([value])):
        raise TypeError(f"{what} takes columns; it can only take all numbers of the targets and outputs together.")
    table, (value,) = _fresh([value])
    roots = value, gradient(value, table.leaf("p", ELEMENT), table.leaf("factor", ROW))
    return Formula(("value", "dp"), roots, _numbers(shape, roots), of_batch=True)


def metric(function: Callable[..., object], constants: Mapping[str, object], sparse: bool) -> Formula:
    """Return a metric's formula: ``sum_0``, ``sum_1``, ...: what is added up over samples, one number a row each."""
    return _objective(function, _shape(constants), sparse, False)


def traceable(formula: Callable[[bool], Formula]) -> None:
    """Raise what tracing a user's formula raises, for targets like the outputs and for such of one number a row."""
    try:
        formula(False)
    except WidthUnknown:  # when data come it is known
        return
    except TypeError:
        try:
            formula(True)
        except WidthUnknown:
            return
        except TypeError:
            pass
        else:
            return
        raise


# ---- regularizers ----------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=512)
def _penalty(function: Callable[..., object], shape: Constants) -> Formula:
    table = Table()
    table.one_row = True
    what = f"The regularizer {getattr(function, '__name__', '')}"
    found = _called(what, function, (table.leaf("w", ELEMENT),), _arguments(table, shape))
    node = kept(_node(what, found, table, ROW))
    if node.per == ELEMENT:
        raise TypeError(f"{what} must return one number of all weights: ops.sum(...) of what it is for each.")
    table, (value,) = _fresh([node])
    roots = value, gradient(value, table.leaf("w", ELEMENT))
    return Formula(("value", "dw"), roots, _numbers(shape, roots))


def penalty(function: Callable[..., object], constants: Mapping[str, object]) -> Formula:
    """Return a regularizer's formula: ``value`` of all weights w, taken as one row, and ``dw``, its gradient."""
    return _penalty(function, _shape(constants))


# ---- optimizers ------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=1024)
def _traced(
    function: Callable[..., object], arrays: tuple[str, ...], scalars: tuple[str, ...], shape: Constants
) -> Formula:
    table = Table()
    table.one_row = True
    what = f"The update {getattr(function, '__name__', '')}"
    given = {name: table.leaf(name, ELEMENT) for name in arrays} | {name: table.leaf(name, UNIFORM) for name in scalars}
    found = _called(what, function, (), given | _arguments(table, shape))
    if not isinstance(found, Mapping) or not set(found) <= set(arrays):
        raise TypeError(
            f"{what} must return a dict of what becomes of its arrays, {', '.join(arrays)}; got {found!r:.200}."
        )
    names = tuple(name for name in arrays if name in found)
    _, roots = _fresh([kept(_node(what, found[name], table, ELEMENT)) for name in names])
    return Formula(names, tuple(roots), _numbers(shape, tuple(roots)))


def traced(
    function: Callable[..., object], arrays: tuple[str, ...], scalars: tuple[str, ...], constants: Mapping[str, object]
) -> Formula:
    """Return a formula of arrays and numbers by name, which gives what becomes of some of the arrays.

    ``scalars`` are the numbers that differ from step to step; they are leaves by name, and not among ``numbers``. Sums
    go over all elements of an array.
    """
    return _traced(function, arrays, scalars, _shape(constants))


def update(
    function: Callable[..., object], slots: tuple[str, ...], scalars: tuple[str, ...], constants: Mapping[str, object]
) -> Formula:
    """Return an optimizer's formula: what w and all of the slots become, of them and g. See `traced`."""
    formula = traced(function, ("w", "g", *slots), scalars, constants)
    if formula.names != ("w", *slots):
        raise TypeError(
            f"The update {getattr(function, '__name__', '')} must say what becomes of {', '.join(('w', *slots))}; it "
            f"does of {', '.join(formula.names)}."
        )
    return formula


def _fresh(roots: list[Node]) -> tuple[Table, list[Node]]:
    """Return the roots without flat rows, in a table of their own."""
    found = without_flats(roots)
    return found[0].table, found
