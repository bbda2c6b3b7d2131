"""Formulas by an array library: a list of calls, each into a given array, written as a Python function.

``xp`` is NumPy or CuPy. Run in float64 this is what all other targets are held against. An array of an element is
[B, O], or flat where nothing goes over rows; one of a row is [B, 1]. Whatever is read and written may be the same
array only where `Tape` is told so. What is done with makes room for what comes: most formulas take one or two work
arrays, and those of an optimizer, or of a slope by y, work in the arrays that they are given.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import cast

import numpy as np

from gpumlp import ops
from gpumlp.erf import Scratch, erf
from gpumlp.expressions import (
    COMMUTES,
    ELEMENT,
    REDUCTIONS,
    ROW,
    UNIFORM,
    Node,
    is_constant,
    make,
    order,
    rebuilt,
    with_leaf,
)
from gpumlp.formulas import Formula
from gpumlp.lowering import lowered

Array = np.ndarray
NATIVE = ("sigmoid", "pow", "bounded")  # beside these, and what has no parts, `PARTS` are what a formula is made of
# By operation: the library's function of that many arguments, and the array that takes what it gives.
CALLS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative", "pow": "power",
    "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "sqrt": "sqrt", "sin": "sin", "cos": "cos",
    "tanh": "tanh", "abs": "absolute", "sign": "sign", "floor": "floor", "maximum": "maximum", "minimum": "minimum",
    "lt": "less", "le": "less_equal", "eq": "equal",
}  # fmt: skip
COMPARISONS = frozenset({"lt", "le", "eq"})
OPERATORS = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "neg": "-{}"}  # of numbers alone
NUMBER, TRUTH, MASK = range(3)  # what a work array has: numbers, what comparisons give, or integers for `choose`
Place = str


@dataclass
class _Room:
    """An array that can be written: ``since`` the call that reads last what it held; ``root`` what it is to hold."""

    place: Place
    since: int
    root: Node | None = None
    holds: Node | None = None


OF_ELEMENTS = ("y", "dz", "dp", "dw")  # roots whose arrays have a number for each element


@dataclass
class _Writer:
    """Writes the calls; see `Tape` for the arguments."""

    formula: Formula
    over: Mapping[str, str]
    spent: Iterable[str]
    ones: Iterable[str]
    lines: list[str] = field(default_factory=list)
    places: dict[Node, Place] = field(default_factory=dict)
    kinds: list[tuple[int, int]] = field(default_factory=list)  # of each work array: of what, and what it has
    shared: dict[tuple[int, int], Place] = field(default_factory=dict)
    erf_arrays: bool = False

    def __post_init__(self) -> None:
        roots = list(self.formula.roots)
        for name in self.ones:
            if name in self.formula.leaves:
                leaf = self.formula.leaves[name]
                roots = with_leaf(roots, leaf, leaf.table.constant(1.0))
        self.roots = _simpler(lowered(roots, NATIVE))
        self.nodes = order(self.roots)
        self.at = {n: i for i, n in enumerate(self.nodes)}
        self.last = {a: i for i, n in enumerate(self.nodes) for a in _read(n)}
        self.last |= dict.fromkeys(self.roots, len(self.nodes))
        users: dict[Node, list[tuple[Node, int]]] = {}
        for n in self.nodes:
            for j, a in enumerate(n.args):
                users.setdefault(a, []).append((n, j))
        self.truths = {  # comparisons that nothing but choices read
            n for n in self.nodes
            if n.op in COMPARISONS and n.per and n not in set(self.roots)
            and all(user.op == "where" and j == 0 for user, j in users[n])
        }  # fmt: skip
        read_at = {n.value: self.last[n] for n in self.nodes if n.op == "leaf" and n in self.last}
        self.rooms: dict[tuple[int, int], list[_Room]] = {}
        for name, root in zip(self.formula.names, self.roots, strict=True):
            if root.per < ELEMENT and name in OF_ELEMENTS:
                continue  # the same for all of a row: computed as a row's number, and copied
            since = read_at.get(self.over.get(name, name), -1)
            self.rooms.setdefault((max(root.per, ROW), NUMBER), []).append(_Room(name, since, root))
        for name in self.spent:
            self.rooms.setdefault((ELEMENT, NUMBER), []).append(_Room(name, read_at.get(name, -1)))
        for i, n in enumerate(self.nodes):
            self._write(i, n)
        self._finish()

    # ---- rooms -------------------------------------------------------------------------------------------------------

    def _free(self, room: _Room, i: int, n: Node, reads: Iterable[Node]) -> bool:
        """Whether call i may write n there; it may write over what it reads last, unless that is among ``reads``."""
        held = room.holds
        if held is not None and (self.last[held] > i or (self.last[held] == i and held in set(reads))):
            return False
        if room.since > i or (room.since == i and any(self._is_over(room.place, a) for a in reads)):
            return False
        if room.root is None or room.root is n:
            return True
        return self.last[n] < self.at[room.root] or (self.last[n] == self.at[room.root] and room.root.op in CALLS)

    def _room(self, i: int, n: Node, reads: Iterable[Node] = (), kind: int = NUMBER) -> Place:
        """Return where call i writes n, of what may not be written over while it runs."""
        rooms = self.rooms.setdefault((max(n.per, ROW), kind), [])
        free = [room for room in rooms if self._free(room, i, n, reads)]
        dying = [room for room in free if room.holds in set(n.args) and self.last.get(room.holds) == i]
        own = [room for room in free if room.root is n]
        found = next(iter(own or dying or free), None)
        if found is None:
            found = _Room(f"_{len(self.kinds)}", -1)
            self.kinds.append((max(n.per, ROW), kind))
            rooms.append(found)
        found.holds = n
        self.places[n] = found.place
        return found.place

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _write(self, i: int, n: Node) -> None:
        args = [self.places[a] for a in n.args]
        if n.op == "leaf":
            self.places[n] = n.value
        elif n.op == "constant":
            self.places[n] = repr(n.value) if math.isfinite(n.value) else f"float('{n.value}')"
        elif n.op == "column":
            column = int(n.args[1].value)
            self.places[n] = f"{args[0]}[:, {column}:{column + 1}]"
        elif n.per == UNIFORM:
            self.places[n] = f"_n{i}"
            if n.op in OPERATORS:
                value = OPERATORS[n.op].format(*args)
            else:
                value = f"float({'np.' + CALLS[n.op] if n.op in CALLS else 'ops.' + n.op}({', '.join(args)}))"
            self.lines.append(f"{self.places[n]} = {value}")
        elif n.op in CALLS:
            self._call(i, n, args)
        elif n.op in REDUCTIONS:
            self.lines.append(f"{n.op}({args[0]}, {self._room(i, n, n.args)})")
        else:
            getattr(self, f"_{n.op}")(i, n, *args)

    def _call(self, i: int, n: Node, args: list[Place]) -> None:
        name, extremum = CALLS[n.op], n.op in ("maximum", "minimum")
        if (extremum or n.op in COMMUTES) and n.args[0].per == UNIFORM:
            args = args[::-1]  # NumPy is quicker where the number comes last
        if extremum and UNIFORM in (n.args[0].per, n.args[1].per):
            name, limits = "clip", [args[1], "inf"] if n.op == "maximum" else ["-inf", args[1]]
            args = [args[0], *limits]
        out = self._room(i, n, (), TRUTH if n in self.truths else NUMBER)
        self.lines.append(f"{name}({', '.join(args)}, out={out})")

    def _bounded(self, i: int, n: Node, a: Place, low: Place, high: Place) -> None:
        self.lines.append(f"clip({a}, {low}, {high}, out={self._room(i, n)})")

    def _step(self, i: int, n: Node, a: Place) -> None:
        out = self._room(i, n)
        self.lines += [f"sign({a}, out={out})", f"clip({out}, 0.0, 1.0, out={out})"]

    def _sigmoid(self, i: int, n: Node, a: Place) -> None:
        # By exp rather than tanh: 0.5 + 0.5 tanh would lose the small values, which a logarithm is taken of, or a
        # product with a large z. Below ``lowest`` exp would overflow to infinity, which gives the right 0, and warn.
        out = self._room(i, n)
        for call in (f"clip({a}, lowest, inf", f"negative({out}", f"exp({out}", f"add({out}, 1.0", f"reciprocal({out}"):
            self.lines.append(f"{call}, out={out})")

    def _erf(self, i: int, n: Node, a: Place) -> None:
        self.erf_arrays = True
        self.lines.append(f"erf({a}, {self._room(i, n, n.args)}, scratch)")

    def _where(self, i: int, n: Node, condition: Place, a: Place, b: Place) -> None:
        k, one, other = n.args
        if k not in self.truths:
            self.lines.append(f"not_equal({condition}, 0.0, out={(condition := self._work(k.per, TRUTH))})")
        mask = self._work(k.per, MASK)
        for zero, rest, place in ((other, one, a), (one, other, b)):
            if is_constant(zero, 0.0) and rest.per == n.per:
                self.lines.append(f"mask({condition}, {place}, {self._room(i, n)}, {mask}, {zero is one})")
                return
        # in one room with `other` it goes the other way round, by `one`
        over = one is not other and self._is_there(i, n, other)
        out = self._room(i, n, (one,) if over else (other,))
        over = over and (out == b or self._is_over(out, other))
        self.lines.append(f"choose({condition}, {a}, {b}, {out}, {mask}, {over})")

    def _work(self, per: int, kind: int) -> Place:
        """Return a work array of truth values or of masks; there is one for all calls, as none reads another's."""
        if (per, kind) not in self.shared:
            self.shared[per, kind] = f"_{len(self.kinds)}"
            self.kinds.append((per, kind))
        return self.shared[per, kind]

    def _is_over(self, place: Place, a: Node) -> bool:
        """Whether what is written there may be written over the leaf a."""
        leaf = a.args[0] if a.op == "column" else a
        return leaf.op == "leaf" and leaf.value == self.over.get(place, place)

    def _is_there(self, i: int, n: Node, a: Node) -> bool:
        """Whether n can stand where its argument a does."""
        rooms = self.rooms.get((max(n.per, ROW), NUMBER), [])
        here = [room for room in rooms if room.holds is a or self._is_over(room.place, a)]
        return any(self._free(room, i, n, ()) for room in here)

    def _finish(self) -> None:
        """Copy what did not come to stand where it belongs: leaves first, before their arrays are written."""
        pairs = [
            (name, root) for name, root in zip(self.formula.names, self.roots, strict=True)
            if self.places[root] != name
        ]  # fmt: skip
        for name, root in sorted(pairs, key=lambda pair: pair[1].op != "leaf"):
            self._copy(name, root)

    def _copy(self, out: Place, a: Node) -> None:
        """Copy a to ``out``, which may be the array of a leaf that it may be written over."""
        copy = f"copyto({out}, {self.places[a]})"
        given = a.op == "leaf" and out in self.formula.names
        self.lines.append(f"if {out} is not {self.places[a]}: {copy}" if given else copy)


def _read(n: Node) -> Iterable[Node]:
    """Return what the call of n reads: of a column, the array that it is a part of, whoever reads it."""
    for a in n.args:
        yield a
        if a.op == "column":
            yield a.args[0]


def _simpler(roots: list[Node]) -> list[Node]:
    """Return the roots with choices by what is compared, and limits in one call.

    where(1 - c, a, b) is where(c, b, a); minimum(maximum(x, a), b) is x between a and b, if nobody else reads maximum.
    """
    read: dict[Node, int] = {}
    for a in [a for n in order(roots) for a in n.args] + roots:
        read[a] = read.get(a, 0) + 1

    def change(n: Node, args: list[Node]) -> Node | None:
        if n.op == "where" and args[0].op == "sub" and args[0].args[0].op == "constant":
            one, c = args[0].args
            if one.value == 1.0 and c.op in COMPARISONS:
                return make("where", c, args[2], args[1])
        if n.op == "minimum" and args[0].op == "maximum" and read[n.args[0]] == 1:
            (x, low), high = args[0].args, args[1]
            return make("bounded", x, low, high) if low.per == high.per == UNIFORM else None
        return None

    return rebuilt(roots, change)


@functools.lru_cache(maxsize=1024)
def tape(
    xp: ModuleType, formula: Formula, over: tuple[tuple[str, str], ...] = (), spent: tuple[str, ...] = (),
    ones: tuple[str, ...] = (),
) -> Tape:  # fmt: skip
    """Return the Tape, the same one each time."""
    return Tape(xp, formula, dict(over), spent, ones)


class Tape:
    """A formula as calls of ``xp``.

    Parameters
    ----------
    xp : module
        NumPy or CuPy.
    formula : Formula
    over : dict, optional
        By a root's name that of the leaf whose array it may be written to, where they are not called the same.
    spent : iterable of str
        Leaves of elements whose arrays may be used as work arrays when they are no longer read.
    ones : iterable of str
        Leaves that are 1: what they are a factor of is not multiplied.
    """

    def __init__(
        self, xp: ModuleType, formula: Formula, over: Mapping[str, str] | None = None, spent: Iterable[str] = (),
        ones: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.xp, self.formula = xp, formula
        writer = _Writer(formula, over or {}, tuple(spent), tuple(ones))
        self._kinds, self._erf_arrays = writer.kinds, writer.erf_arrays
        leaf_names = {n.value for n in writer.nodes if n.op == "leaf"}
        self._given = [name for name in ("index", "width", "most") if name in leaf_names]
        names = [f"_{i}" for i in range(len(writer.kinds))] + self._given + ["lowest", "scratch"]
        arrays = [name for name in dict.fromkeys([*formula.names, *leaf_names]) if name not in self._given]
        head = f"def run({', '.join(names)}, *, {', '.join(arrays)}, **_):"
        self.source = "\n    ".join([head, *(writer.lines or ["pass"])])
        space = dict(_functions(xp))
        exec(compile(self.source, "<a formula>", "exec"), space)
        self._run = cast("Callable[..., None]", space["run"])

    def bind(self, shape: tuple[int, ...], dtype: np.dtype, scratch: Scratch) -> Callable[..., None]:
        """Return a function of the arrays, and of the numbers, by name, for arrays of this shape and type.

        It is called by the names of leaves and roots; names that it does not know are ignored.
        """
        of_row = (*shape[:-1], 1)
        types = {NUMBER: dtype, TRUTH: np.dtype(bool), MASK: np.dtype(f"i{dtype.itemsize}")}
        work = [
            scratch(i, shape if per == ELEMENT else of_row, types[kind]) for i, (per, kind) in enumerate(self._kinds)
        ]
        most = float(np.finfo(dtype).max)
        known = {"width": float(shape[-1]), "most": most}
        if "index" in self._given:
            known["index"] = self.xp.broadcast_to(self.xp.arange(shape[-1], dtype=dtype), shape)
        lowest = 1.0 - math.log(most)
        more = functools.partial(_further, scratch, len(work)) if self._erf_arrays else None
        return functools.partial(self._run, *work, *(known[name] for name in self._given), lowest, more)


def _further(scratch: Scratch, first: int, index: int, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return scratch(first + index, shape, dtype)


@functools.lru_cache(maxsize=4)
def _functions(xp: ModuleType) -> dict[str, object]:
    """Return what the calls are made of, by name."""
    names = {*CALLS.values(), "reciprocal", "copyto", "not_equal"}
    own = {"erf": functools.partial(erf, xp), "float": float, "np": np, "ops": ops, "inf": math.inf}
    return {name: getattr(xp, name) for name in names} | own | (_of_numpy() if xp is np else _of_library(xp))


def _of_library(xp: ModuleType) -> dict[str, Callable[..., None]]:
    """Return calls that are no functions of a library as they are."""

    def largest(a: Array, out: Array) -> None:
        xp.max(a, axis=-1, keepdims=True, out=out)

    def total(a: Array, out: Array) -> None:
        xp.sum(a, axis=-1, keepdims=True, out=out)

    def argmax(a: Array, out: Array) -> None:
        xp.copyto(out, xp.argmax(a, axis=-1)[..., None])

    def choose(truth: Array, a: Array | float, b: Array | float, out: Array, mask: Array, over: bool) -> None:
        xp.copyto(out, xp.where(truth, a, b))

    def only(truth: Array, a: Array, out: Array, mask: Array, where_not: bool) -> None:
        xp.copyto(out, xp.where(truth != where_not, a, 0.0))

    return {"largest": largest, "sum": total, "argmax": argmax, "choose": choose, "mask": only, "clip": xp.clip}


def _of_numpy() -> dict[str, Callable[..., None]]:
    """Return those where NumPy has something quicker than the library's function."""
    core: ModuleType = np._core  # type: ignore[attr-defined]
    maximum: Callable[..., object] = np.maximum.reduce  # by position, which is quicker, and not in their types
    add: Callable[..., object] = np.add.reduce
    negative, subtract, xor, both = np.negative, np.subtract, np.bitwise_xor, np.bitwise_and

    def largest(a: Array, out: Array) -> None:
        maximum(a, -1, None, out, True)

    def total(a: Array, out: Array) -> None:
        add(a, -1, None, out, True)

    # A choice by bits takes the same time for all truths; np.where and masked copies take six times as long for
    # truths that are not foreseen, and np.copyto always.
    def choose(truth: Array, a: Array | float, b: Array | float, out: Array, mask: Array, over: bool) -> None:
        """out = a where truth, else b; out may be a, or with ``over`` b."""
        kind = mask.dtype
        a = (a if isinstance(a, np.ndarray) else np.array(a, out.dtype)).view(kind)
        b = (b if isinstance(b, np.ndarray) else np.array(b, out.dtype)).view(kind)
        out = out.view(kind)
        if over:
            subtract(truth.view(np.int8), 1, out=mask)
        else:
            negative(truth.view(np.int8), out=mask)
        xor(a, b, out=out)
        both(out, mask, out=out)
        xor(out, a if over else b, out=out)

    def only(truth: Array, a: Array, out: Array, mask: Array, where_not: bool) -> None:
        """out = a where truth is not ``where_not``, else 0."""
        if where_not:
            subtract(truth.view(np.int8), 1, out=mask)
        else:
            negative(truth.view(np.int8), out=mask)
        both(a.view(mask.dtype), mask, out=out.view(mask.dtype))

    argmax = _of_library(np)["argmax"]
    return {
        "largest": largest,
        "sum": total,
        "argmax": argmax,
        "choose": choose,
        "mask": only,
        "clip": core.umath.clip,
    }  # np.clip is that one, after 2 us of Python
