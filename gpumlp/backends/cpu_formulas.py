"""Formulas as machine code for the CPU: what kinds of function there are, and how kernels find them.

A function is called by its address, once for a stretch of rows, with what its kind says; who calls it needs to know
nothing else of the formula. Its name is a digest of all that its text depends on but the processor: so a library may
hold any number of them, and a formula finds its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gpumlp.attributes import once
from gpumlp.backends.llvm_writer import BEGIN, Array, Function, prepared
from gpumlp.backends.writer import is_sum
from gpumlp.expressions import ELEMENT, OF_ELEMENT, OF_ROW, ROW, UNIFORM, Node, Table, make, order
from gpumlp.formulas import Formula
from gpumlp.lowering import lowered  # fmt: skip

LENGTHS = frozenset({"rows", "columns", "series", "row", "t_row", "p_row", "w_row", "g_row"})


@dataclass(frozen=True)
class Kind:
    """How functions of a kind are called: parameters in C's order, and where leaves and roots stand."""

    parameters: tuple[str, ...]
    arrays: Mapping[str, Array]
    merged: str = ""


KINDS: Mapping[str, Kind] = {
    # An activation; y may be z.
    "forward": Kind(
        ("y", "z", "row", "rows", "columns", "numbers"), {"z": Array("z", "row"), "y": Array("y", "row")}, "row"
    ),
    # Its way back: dy becomes dz, of y and, where it is retained, z.
    "back": Kind(
        ("dy", "y", "z", "row", "rows", "columns", "numbers"),
        {name: Array("dy" if name == "dz" else name, "row") for name in ("dy", "dz", "y", "z")}, "row",
    ),
    # A loss: the values of rows, and their gradients dp, times a factor each.
    "loss": Kind(
        ("values", "dp", "t", "p", "factors", "t_row", "p_row", "rows", "columns", "numbers"),
        {"value": Array("values", "1"), "dp": Array("dp", "p_row"), "t": Array("t", "t_row"), "p": Array("p", "p_row"),
         "factor": Array("factors", "1")},
    ),
    # A metric: a sum's values of rows; those of the next sum stand ``series`` further on.
    "metric": Kind(
        ("values", "series", "t", "p", "t_row", "p_row", "rows", "columns", "numbers"),
        {"t": Array("t", "t_row"), "p": Array("p", "p_row")},
    ),
    # A penalty: its value of each row of weights; its slope is added to their gradients.
    "penalty": Kind(
        ("values", "w", "g", "w_row", "g_row", "rows", "columns", "numbers"),
        {"value": Array("values", "1"), "w": Array("w", "w_row"), "g": Array("g", "g_row")},
    ),
    # An update of w and of the optimizer's slots, whose distances from w stand in ``slots``; it returns whether one of
    # w is not finite.
    "update": Kind(("w", "g", "slots", "columns", "numbers", "scalars"), {"w": Array("w"), "g": Array("g")}),
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """A formula's function: ``kind``, and what of it differs.

    ``slots`` and ``scalars`` are an optimizer's. ``narrow``: there is one output, and rows are gone over as if they
    were elements of a row. ``single``: targets have one number a row, which counts for every output.
    """

    kind: str
    formula: Formula
    slots: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    narrow: bool = False
    single: bool = False

    @once
    def name(self) -> str:
        """What the function is called in an object file."""
        what = self.kind, self.formula.text, self.formula.numbers, self.slots, self.scalars, self.narrow, self.single
        return "formula_" + hashlib.sha256(repr(what).encode()).hexdigest()[:32]

    def function(self) -> Function:
        """Return what is to be written; NotImplementedError where it cannot be."""
        kind, numbers = KINDS[self.kind], {name: ("numbers", i) for i, name in enumerate(self.formula.numbers)}
        numbers |= {name: ("scalars", i) for i, name in enumerate(self.scalars)}
        names, roots = self._roots()
        arrays = {**kind.arrays, **{name: Array(f"slot.{name}") for name in self.slots}}
        sums = [name for name in names if name not in arrays and name != BAD]
        arrays |= {name: Array(name, "1") for name in sums}
        if self.narrow:
            arrays = {name: Array(a.pointer) for name, a in arrays.items()}
        per_row = () if self.narrow else ("value", *sums)
        plain = not any(n.op in BEGIN or n.per == ROW or n.value in ("index", "width") for n in order(roots))
        return Function(
            name=self.name,
            parameters=kind.parameters, lengths=LENGTHS, arrays=arrays, numbers=numbers,
            roots=[
                (root, arrays[name], ROW if name in per_row else ELEMENT)
                for name, root in zip(names, roots, strict=True) if name != BAD
            ],
            away={f"slot.{name}": ("w", "slots", i) for i, name in enumerate(self.slots)},
            shifted={name: ("values", "series", i) for i, name in enumerate(sums)},
            returned=roots[names.index(BAD)] if BAD in names else None,
            merged=kind.merged if plain else "", rows="" if self.narrow or self.kind == "update" else "rows",
            columns="rows" if self.narrow else "columns",
        )  # fmt: skip

    def _roots(self) -> tuple[list[str], list[Node]]:
        """Return what is computed, by name, in operations that can be written."""
        names, roots = list(self.formula.names), list(self.formula.roots)
        if self.kind == "penalty":
            _look_at_penalty(self.formula)
            names, roots[1] = ["value", "g"], roots[1].table.leaf("g", ELEMENT) + roots[1]
        if self.kind == "update":
            if any(n.op in OF_ROWS or n.value == "width" for n in order(roots)):
                raise NotImplementedError("the compiled CPU kernels have no update by sums over all weights")
            size = make("abs", roots[0])
            names, roots = [*names, BAD], [*roots, _any(1.0 - make("le", size, size.table.leaf("most", UNIFORM)))]
        roots = lowered(roots, ("pow",))  # whose parts here know of negative numbers
        if self.narrow:
            roots = _changed(roots, _narrowed)
        elif self.single:
            roots = _changed(roots, _of_single_targets)
        return names, prepared(roots)


BAD = "bad"  # whether one of w is not finite
OF_ROWS = OF_ROW | OF_ELEMENT


def _any(condition: Node) -> Node:
    return condition.table.node("any", (condition,), None, ROW)


def _look_at_penalty(formula: Formula) -> None:
    """NotImplementedError where a penalty of all weights is not the sum of those of parts of them."""
    nodes = order(formula.roots)
    if not is_sum(formula, "value") or any(n.op in OF_ROWS - {"sum"} or n.value in ("width", "index") for n in nodes):
        raise NotImplementedError(
            "the compiled CPU kernels add a penalty up over parts of the weights: it must be a sum over weights, or "
            "numbers times such sums"
        )


# ---- other shapes ----------------------------------------------------------------------------------------------------
Change = Callable[[Table, Node, list[Node]], Node | None]


def _changed(roots: Sequence[Node], change: Change) -> list[Node]:
    """Return the roots in a table of their own, each node what ``change`` makes of it, None: what it was."""
    table, new = Table(), {}  # type: ignore[var-annotated]
    for n in order(roots):
        args = [new[a] for a in n.args]
        found = change(table, n, args)
        if found is None:
            found = make(n.op, *args) if args else table.node(n.op, (), n.value, n.per, n.flat)
        new[n] = found
    return [new[r] for r in roots]


def _narrowed(table: Table, n: Node, args: list[Node]) -> Node | None:
    """A row of one element is that element."""
    if n.op in ("sum", "largest"):
        return args[0]
    if n.op == "argmax" or n.value == "index":
        return table.constant(0.0)
    if n.value == "width":
        return table.constant(1.0)
    if n.op == "column":
        return args[0]
    return table.leaf(n.value, ELEMENT) if n.op == "leaf" and n.per == ROW else None


def _of_single_targets(table: Table, n: Node, args: list[Node]) -> Node | None:
    """A target is a row's number."""
    if n.op == "leaf" and n.value == "t":
        return table.leaf("t", ROW)
    if n.op == "argmax" and args[0].per < ELEMENT:
        return table.constant(0.0)
    return args[0] if n.op == "column" and args[0].per < ELEMENT else None
