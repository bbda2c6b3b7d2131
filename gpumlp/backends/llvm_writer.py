"""Expressions as functions in LLVM's language, for a CPU: loops over rows and their elements, written out in vectors.

What needs sums over a row is split into passes: a number's depth is how many reductions stand before it, and for each
depth a pass goes over the row. Vectors have as many lanes as the processor: nothing is left to an optimiser, which may
or may not find them. What is left behind the whole vectors of a row goes through the same instructions, with lanes
masked out, or, on a processor without masks, one by one; and multiply-adds are written. So no number depends on where
in a row it stands. A reduction has a number a lane, joined by halves in the end: sums depend on the number of lanes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpumlp.backends.elementary import RULES
from gpumlp.expressions import ELEMENT, ROW, UNIFORM, Node, is_constant, is_truth, order
from gpumlp.lowering import contracted, lowered

MOST = 3.4028234663852886e38  # the largest float32
DEEP = 300  # numbers from which on each is written before those that need it: Python's stack has an end
BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
WHOLE = {"iadd": "add", "isub": "sub", "shl": "shl", "ashr": "ashr"}  # of numbers of 32 bits
COMPARE = {"lt": "olt", "le": "ole", "eq": "oeq"}
CALLS = {"sqrt": "sqrt", "abs": "fabs", "floor": "floor", "rint": "rint", "copysign": "copysign", "fma": "fmuladd"}
CASTS = {"bits": "bitcast float i32", "float": "bitcast i32 float", "of_whole": "sitofp i32 float"}
# A reduction's numbers, one a lane: their types, and what they begin with. any: whether one of a row is not 0.
BEGIN = {
    "sum": [("float", 0.0)], "any": [("i1", 0.0)],
    "largest": [("float", -math.inf), ("i1", 0.0)],  # of those that are no NaN; whether one is
    "argmax": [("float", -math.inf), ("float", 0.0)],  # the first NaN, or the first of the largest, and its place
}  # fmt: skip
WHOLE_OPS = {*WHOLE, "bits", "iwhere"}  # what gives such a number
KNOWN = {*BINARY, *WHOLE, *COMPARE, *CALLS, *CASTS, *BEGIN, "leaf", "constant", "column", "neg", "where", "iwhere"}


@dataclass(frozen=True)
class Array:
    """Where numbers stand: the pointer's parameter, and that of the distance between rows, or the distance itself."""

    pointer: str
    distance: str = "0"


@dataclass(frozen=True)
class Function:
    """What is to be written: ``roots``, which go to arrays, of leaves that stand in ``arrays`` or are ``numbers``.

    ``parameters`` in C's order, each a pointer, or, those of ``lengths``, a whole number of 64 bits. ``numbers``: where
    leaves stand that are the same for all, a pointer and a place each. Other pointers are a distance away from another:
    ``away``, by their names, those whose distance stands in memory (the other, the memory, the place there); and
    ``shifted``, those whose distance is a multiple of a parameter (the other, the parameter, how many times).
    ``returned``: whether one of a row is not 0. ``rows`` and ``columns``: the parameters that say how many there are;
    without the former there is one row. ``merged``: the distance that rows of all arrays have in common; where padding
    is little, they are gone over as one row, padding included: short loops cost more than a few elements too many.
    """

    name: str
    parameters: tuple[str, ...]
    lengths: frozenset[str]
    arrays: Mapping[str, Array]
    roots: Sequence[tuple[Node, Array, int]]  # the number, where it goes, and whether it is one a row or an element
    numbers: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    away: Mapping[str, tuple[str, str, int]] = field(default_factory=dict)
    shifted: Mapping[str, tuple[str, str, int]] = field(default_factory=dict)
    returned: Node | None = None
    merged: str = ""
    rows: str = "rows"
    columns: str = "columns"


def prepared(roots: Sequence[Node]) -> list[Node]:
    """Return the roots in operations that can be written; NotImplementedError where one cannot."""
    found = contracted(lowered(roots, (), RULES))
    if unknown := {n.op for n in order(found)} - KNOWN:
        raise NotImplementedError(f"the compiled CPU kernels have no {', '.join(sorted(unknown))}")
    return found


def _literal(value: float) -> str:
    """Return a float32 in LLVM's language: as the bits of the double that it is."""
    try:
        single = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        single = math.copysign(math.inf, value)
    return "0x" + struct.pack(">d", single).hex().upper()


class _Place:
    """Code that runs for as many ``lanes`` at once, and what is known there.

    ``j`` is the first lane's place in its row, ``mask`` the lanes that are meant; "": all.
    """

    def __init__(self, lanes: int, j: str = "", lines: list[str] | None = None) -> None:
        self.lanes, self.j, self.mask = lanes, j, ""
        self.lines: list[str] = [] if lines is None else lines
        self.known: dict[object, str] = {}


def _type(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def _constant(kind: str, value: float, lanes: int) -> str:
    one = _literal(value) if kind == "float" else str(int(value))
    return one if lanes == 1 else f"<{', '.join([f'{kind} {one}'] * lanes)}>"


class _Writer:
    """Writes one function, by vectors of so many lanes."""

    def __init__(self, function: Function, lanes: int, masks: bool) -> None:
        self._function, self._lanes, self._masks = function, lanes, masks
        self._count = 0
        self._entry, self._row = _Place(1), _Place(1)  # once a call, once a row
        self._block, self._r = "", ""  # where what comes next stands, and the row's number
        self._columns = "%all.columns" if function.merged else f"%{function.columns}"
        roots = [root for root, _, _ in function.roots]
        self._nodes = order(roots if function.returned is None else [*roots, function.returned])
        self._depth: dict[Node, int] = {}
        for n in self._nodes:
            self._depth[n] = max((self._depth[a] for a in n.args), default=0) + (n.op in BEGIN)

    def text(self) -> str:
        """Return the function."""
        function, entry = self._function, self._entry
        if function.merged:
            self._merge(function.merged)
        for pointer, (base, memory, i) in function.away.items():
            place = self._put(entry, f"getelementptr i64, ptr %{memory}, i64 {i}")
            distance = self._put(entry, f"load i64, ptr {place}, align 8")
            entry.lines.append(f"  %{pointer} = getelementptr float, ptr %{base}, i64 {distance}")
        for pointer, (base, parameter, times) in function.shifted.items():
            distance = self._put(entry, f"mul i64 %{parameter}, {times}")
            entry.lines.append(f"  %{pointer} = getelementptr float, ptr %{base}, i64 {distance}")
        parameters = (f"{'i64' if p in function.lengths else 'ptr'} %{p}" for p in function.parameters)
        head = f"define i64 @{function.name}({', '.join(parameters)}) nounwind {{\nentry:"
        if not function.rows:
            lines = ["  br label %line", "line:", *self._line_of("line", short=False)]
            result = "0"
            if function.returned is not None:
                result = self._put(self._row, f"zext i1 {self._truth(function.returned, self._row)} to i64")
                lines.append(self._row.lines[-1])
            return "\n".join([head, *entry.lines, *lines, f"  ret i64 {result}", "}", ""])
        loops = [self._row_loop("long", short=False)]
        choice = ["  br label %long.rows"]
        if self._masks and max(self._depth.values()):
            loops.append(self._row_loop("short", short=True))
            choice = [f"  %is.short = icmp sle i64 {self._columns}, {self._lanes}",
                      "  br i1 %is.short, label %short.rows, label %long.rows"]  # fmt: skip
        return "\n".join([head, *entry.lines, *choice, *loops, "end:", "  ret i64 0", "}", ""])

    def _row_loop(self, name: str, short: bool) -> str:
        """Return the loop over rows; ``short``: none has more than a vector."""
        lines = self._line_of(f"{name}.row", short)
        rows = "%all.rows" if self._function.merged else f"%{self._function.rows}"
        return "\n".join([
            f"{name}.rows:", "  br label %" + f"{name}.next", f"{name}.next:",
            f"  %{name}.r = phi i64 [ 0, %{name}.rows ], [ %{name}.r.next, %{self._block} ]",
            f"  %{name}.more = icmp slt i64 %{name}.r, {rows}",
            f"  br i1 %{name}.more, label %{name}.row, label %end", f"{name}.row:", *lines,
            f"  %{name}.r.next = add nuw i64 %{name}.r, 1", f"  br label %{name}.next",
        ])  # fmt: skip

    def _line_of(self, block: str, short: bool) -> list[str]:
        """Return what is done for a row, in the block of that name and in those that follow."""
        self._row, self._block, self._r = _Place(1), block, f"%{block.partition('.')[0]}.r"
        row = self._row
        one = _Place(self._lanes, "0", row.lines) if short else None  # all of a short row
        if one is not None:
            left = self._put(self._entry, f"trunc i64 {self._columns} to i32")
            wide = self._spread(left, "i32", self._entry, one)
            one.mask = self._put(self._entry, f"icmp slt {_type('i32', self._lanes)} {self._lane_numbers()}, {wide}")
        for depth in range(max(self._depth.values()) + 1):
            self._pass(depth, one)
        for root, array, per in self._function.roots:
            if per == ROW:
                row.lines.append(f"  store float {self._value(root, row)}, ptr {self._line(array)}, align 4")
        return row.lines

    def _merge(self, distance: str) -> None:
        """Take rows as one, if there are any, where what fills them up is little."""
        self._entry.lines += [
            "  %twice = shl i64 %columns, 1", f"  %wide = icmp sge i64 %twice, %{distance}",
            "  %some = icmp sgt i64 %rows, 0", "  %one = and i1 %wide, %some",
            "  %before = sub i64 %rows, 1", f"  %filled = mul i64 %before, %{distance}",
            "  %stretch = add i64 %filled, %columns", "  %all.rows = select i1 %one, i64 1, i64 %rows",
            "  %all.columns = select i1 %one, i64 %stretch, i64 %columns",
        ]  # fmt: skip

    def _put(self, place: _Place, text: str) -> str:
        self._count += 1
        place.lines.append(f"  %v{self._count} = {text}")
        return f"%v{self._count}"

    # ---- passes ----------------------------------------------------------------------------------------------------

    def _pass(self, depth: int, one: _Place | None) -> None:
        """Write what computes what stands behind ``depth`` reductions: loops over a row, or ``one`` vector's lines."""
        sums = [n for n in self._nodes if n.op in BEGIN and self._depth[n] == depth + 1]
        outs = [(n, a) for n, a, per in self._function.roots if per == ELEMENT and self._depth[n] == depth]
        if not sums and not outs:
            return
        found = [[_constant(kind, v, self._lanes) for kind, v in BEGIN[n.op]] for n in sums]
        j = "0"
        if one is not None:
            found = self._body(one, sums, None, outs)
        else:
            j, found = self._loop(self._lanes, j, sums, found, outs)
            found = self._rest(j, sums, found, outs) if self._masks else found
        found = [self._joined(n, parts) for n, parts in zip(sums, found, strict=True)]
        if not self._masks:
            found = self._loop(1, j, sums, found, outs)[1]
        for n, parts in zip(sums, found, strict=True):
            self._know(n, parts)

    def _know(self, n: Node, parts: list[str]) -> None:
        """Take note of what a reduction has given in the end."""
        row = self._row
        if n.op == "largest":
            parts = [self._put(row, f"select i1 {parts[1]}, float {_literal(math.nan)}, float {parts[0]}")]
        row.known[("truth", n) if n.op == "any" else n] = parts[-1]

    def _loop(
        self, lanes: int, start: str, sums: list[Node], begin: list[list[str]], outs: list[tuple[Node, Array]]
    ) -> tuple[str, list[list[str]]]:
        """Write a loop over whole vectors; return where it ends, and what its reductions are then."""
        self._count += 1
        k, columns = self._count, self._columns
        place = _Place(lanes, f"%j{k}")
        carried = [[f"%a{k}.{i}.{p}" for p in range(len(parts))] for i, parts in enumerate(begin)]
        after = self._body(place, sums, carried, outs)
        head = [f"  br label %head{k}", f"head{k}:",
                f"  %j{k} = phi i64 [ {start}, %{self._block} ], [ %next{k}, %body{k} ]"]  # fmt: skip
        for n, names, first, last in zip(sums, carried, begin, after, strict=True):
            for name, (kind, _), a, b in zip(names, BEGIN[n.op], first, last, strict=True):
                head.append(f"  {name} = phi {_type(kind, lanes)} [ {a}, %{self._block} ], [ {b}, %body{k} ]")
        head += [f"  %next{k} = add nuw i64 %j{k}, {lanes}", f"  %fits{k} = icmp sle i64 %next{k}, {columns}",
                 f"  br i1 %fits{k}, label %body{k}, label %done{k}", f"body{k}:"]  # fmt: skip
        self._row.lines += [*head, *place.lines, f"  br label %head{k}", f"done{k}:"]
        self._block = f"done{k}"
        return f"%j{k}", carried

    def _rest(
        self, j: str, sums: list[Node], begin: list[list[str]], outs: list[tuple[Node, Array]]
    ) -> list[list[str]]:
        """Write what is left from ``j`` on, less than a vector; return what the reductions are then."""
        self._count += 1
        k, lanes, columns = self._count, self._lanes, self._columns
        self._row.lines += [f"  %left{k} = sub i64 {columns}, {j}", f"  %some{k} = icmp sgt i64 %left{k}, 0"]
        place = _Place(lanes, j)
        left = self._spread(f"%short{k}", "i32", place, place)
        place.mask = self._put(place, f"icmp slt {_type('i32', lanes)} {self._lane_numbers()}, {left}")
        after = self._body(place, sums, begin, outs)
        self._row.lines += [f"  br i1 %some{k}, label %rest{k}, label %after{k}", f"rest{k}:",
                            f"  %short{k} = trunc i64 %left{k} to i32", *place.lines,
                            f"  br label %after{k}", f"after{k}:"]  # fmt: skip
        found = []
        for n, before, last in zip(sums, begin, after, strict=True):
            parts = zip(BEGIN[n.op], before, last, strict=True)
            found.append([
                self._put(self._row, f"phi {_type(kind, lanes)} [ {a}, %{self._block} ], [ {b}, %rest{k} ]")
                for (kind, _), a, b in parts
            ])  # fmt: skip
        self._block = f"after{k}"
        return found

    def _body(
        self, place: _Place, sums: list[Node], carried: list[list[str]] | None, outs: list[tuple[Node, Array]]
    ) -> list[list[str]]:
        """Write what is done for a vector: reductions go on, or begin; roots are stored once all is loaded."""
        needed = order([*(n.args[0] for n in sums), *(root for root, _ in outs)])
        if len(needed) > DEEP:
            for n in needed:
                if n.op not in BEGIN and n.op != "leaf" and not is_truth(n):
                    self._value(n, place)
        found = [self._terms(n, place) for n in sums]
        if carried is not None:
            found = [self._taken(*of, place=place) for of in zip(sums, carried, found, strict=True)]
        stores = [(self._value(root, place), array) for root, array in outs]
        for value, array in stores:
            self._store(place, value, self._at(array, place))
        return found

    # ---- reductions ------------------------------------------------------------------------------------------------

    def _terms(self, n: Node, place: _Place) -> list[str]:
        """Return what a vector gives to a reduction; lanes that are not meant give what it begins with."""
        lanes = place.lanes
        if n.op == "any":
            terms = [self._truth(n.args[0], place)]
        else:
            terms = [self._value(n.args[0], place)]
        if n.op == "argmax":
            terms.append(self._index(place))
        if n.op == "largest":
            terms.append(self._put(place, f"fcmp uno {_type('float', lanes)} {terms[0]}, {terms[0]}"))
        if not place.mask:
            return terms
        return [
            self._put(place, f"select {_type('i1', lanes)} {place.mask}, {_type(kind, lanes)} {term}, "
                      f"{_type(kind, lanes)} {_constant(kind, first, lanes)}")
            for term, (kind, first) in zip(terms, BEGIN[n.op], strict=True)
        ]  # fmt: skip

    def _taken(self, n: Node, before: list[str], terms: list[str], place: _Place) -> list[str]:
        """Return what a reduction is with the next vector's terms."""
        if n.op != "argmax":
            kinds = (kind for kind, _ in BEGIN[n.op])
            return [self._two(n.op, k, place, a, b) for k, a, b in zip(kinds, before, terms, strict=True)]
        kind, truth = _type("float", place.lanes), _type("i1", place.lanes)
        good = self._put(place, f"fcmp ord {kind} {before[0]}, {before[0]}")
        larger = self._put(place, f"fcmp ugt {kind} {terms[0]}, {before[0]}")
        takes = self._put(place, f"and {truth} {larger}, {good}")
        pairs = zip(before, terms, strict=True)
        return [self._put(place, f"select {truth} {takes}, {kind} {b}, {kind} {a}") for a, b in pairs]

    def _two(self, op: str, kind: str, place: _Place, a: str, b: str) -> str:
        """Return what two numbers of a reduction give: their sum, the larger or, of places, the "least" of both."""
        if kind == "i1":
            return self._put(place, f"or {_type('i1', place.lanes)} {a}, {b}")
        kind = _type("float", place.lanes)
        if op == "sum":
            return self._put(place, f"fadd {kind} {a}, {b}")
        larger = self._put(place, f"fcmp {'olt' if op == 'least' else 'ogt'} {kind} {b}, {a}")
        return self._put(place, f"select {_type('i1', place.lanes)} {larger}, {kind} {b}, {kind} {a}")

    def _joined(self, n: Node, parts: list[str]) -> list[str]:
        """Return what the lanes of a reduction give together."""
        if n.op == "argmax":
            return self._first_of_largest(*parts)
        return [self._halved(n.op, kind, part) for part, (kind, _) in zip(parts, BEGIN[n.op], strict=True)]

    def _halved(self, op: str, kind: str, value: str) -> str:
        """Return what lanes give together, by halves."""
        row, lanes = self._row, self._lanes
        if kind == "i1" and lanes > 1:
            bits = self._put(row, f"bitcast <{lanes} x i1> {value} to i{lanes}")
            return self._put(row, f"icmp ne i{lanes} {bits}, 0")
        while lanes > 1:
            halves = [self._part(value, lanes, half) for half in (0, 1)]
            lanes //= 2
            value = self._two(op, kind, _Place(lanes, lines=row.lines), *halves)
        return value

    def _part(self, value: str, lanes: int, half: int) -> str:
        """Return a half of a vector's lanes."""
        if lanes == 2:
            return self._put(self._row, f"extractelement <2 x float> {value}, i32 {half}")
        places = ", ".join(f"i32 {half * lanes // 2 + i}" for i in range(lanes // 2))
        wide = _type("float", lanes)
        return self._put(
            self._row, f"shufflevector {wide} {value}, {wide} poison, {_type('i32', lanes // 2)} <{places}>"
        )

    def _first_of_largest(self, values: str, places: str) -> list[str]:
        """Return the first NaN, or the largest, of lanes, and the least place where it is."""
        row, lanes = self._row, self._lanes
        kind, truth = _type("float", lanes), _type("i1", lanes)
        wide = _Place(lanes, lines=row.lines)
        bad = self._put(row, f"fcmp uno {kind} {values}, {values}")
        some = self._halved("any", "i1", bad)
        top = self._halved("largest", "float", values)
        equal = self._put(row, f"fcmp oeq {kind} {values}, {self._spread(top, 'float', row, wide)}")
        there = self._put(row, f"select i1 {some}, {truth} {bad}, {truth} {equal}")
        nowhere = _constant("float", math.inf, lanes)
        place = self._halved(
            "least", "float", self._put(row, f"select {truth} {there}, {kind} {places}, {kind} {nowhere}")
        )
        return [self._put(row, f"select i1 {some}, float {_literal(math.nan)}, float {top}"), place]

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def _value(self, n: Node, place: _Place) -> str:
        """Return a number as it is called at a place, after what computes it has been written."""
        if n.op == "constant":
            return _constant("float", n.value, place.lanes)
        home = (self._entry, self._row, place)[n.per]
        if home is not place:
            return self._spread(self._value(n, home), "i32" if n.op in WHOLE_OPS else "float", home, place)
        if n not in place.known:  # a reduction is known once its pass is written
            place.known[n] = self._leaf(n, place) if n.op == "leaf" else self._computed(n, place)
        return place.known[n]

    def _spread(self, value: str, kind: str, home: _Place, place: _Place) -> str:
        """Return a number in all lanes of a place, spread where it is known."""
        lanes = place.lanes
        if lanes == 1:
            return value
        if (value, lanes) not in home.known:
            wide = _type(kind, lanes)
            one = self._put(home, f"insertelement {wide} poison, {kind} {value}, i32 0")
            zeros = _constant("i32", 0, lanes)
            home.known[value, lanes] = self._put(
                home, f"shufflevector {wide} {one}, {wide} poison, {_type('i32', lanes)} {zeros}"
            )
        return home.known[value, lanes]

    def _computed(self, n: Node, place: _Place) -> str:
        lanes = place.lanes
        kind, whole, truth = (_type(k, lanes) for k in ("float", "i32", "i1"))
        if n.op in WHOLE:
            a, b = (self._whole(arg, place) for arg in n.args)
            return self._put(place, f"{WHOLE[n.op]} {whole} {a}, {b}")
        if n.op in CASTS:
            how, source, target = CASTS[n.op].split()
            arg = (self._whole if source == "i32" else self._value)(n.args[0], place)
            return self._put(place, f"{how} {_type(source, lanes)} {arg} to {_type(target, lanes)}")
        if n.op in COMPARE:
            one, zero = (_constant("float", v, lanes) for v in (1.0, 0.0))
            return self._put(place, f"select {truth} {self._truth(n, place)}, {kind} {one}, {kind} {zero}")
        if n.op in ("where", "iwhere"):
            of, give = (kind, self._value) if n.op == "where" else (whole, self._whole)
            c, a, b = self._truth(n.args[0], place), give(n.args[1], place), give(n.args[2], place)
            return self._put(place, f"select {truth} {c}, {of} {a}, {of} {b}")
        if n.op == "column":
            row, i = self._line(self._function.arrays[n.args[0].value]), int(n.args[1].value)
            return self._put(
                place, f"load float, ptr {self._put(place, f'getelementptr float, ptr {row}, i64 {i}')}, align 4"
            )
        args = [self._value(arg, place) for arg in n.args]
        if n.op in BINARY:
            return self._put(place, f"{BINARY[n.op]} {kind} {args[0]}, {args[1]}")
        if n.op == "neg":
            return self._put(place, f"fneg {kind} {args[0]}")
        return self._put(
            place, f"call {kind} @llvm.{CALLS[n.op]}.{_suffix(lanes)}({', '.join(f'{kind} {a}' for a in args)})"
        )

    def _whole(self, n: Node, place: _Place) -> str:
        """Return a whole number of 32 bits."""
        return _constant("i32", n.value, place.lanes) if n.op == "constant" else self._value(n, place)

    def _truth(self, n: Node, place: _Place) -> str:
        """Return whether a number is not 0, as a bit; what compares, and what is made of that, is one already."""
        if is_constant(n):
            return _constant("i1", -(n.value != 0.0), place.lanes)
        home = (self._entry, self._row, place)[n.per]
        if home is not place:
            return self._spread(self._truth(n, home), "i1", home, place)
        if ("truth", n) not in place.known:
            kind, truth = _type("float", place.lanes), _type("i1", place.lanes)
            if n.op in COMPARE:
                a, b = (self._value(arg, place) for arg in n.args)
                text = f"fcmp {COMPARE[n.op]} {kind} {a}, {b}"
            elif n.op == "sub" and is_constant(n.args[0], 1.0) and is_truth(n.args[1]):
                text = f"xor {truth} {self._truth(n.args[1], place)}, {_constant('i1', -1, place.lanes)}"
            elif n.op == "mul" and all(map(is_truth, n.args)):
                text = f"and {truth} {self._truth(n.args[0], place)}, {self._truth(n.args[1], place)}"
            else:
                text = f"fcmp une {kind} {self._value(n, place)}, {_constant('float', 0.0, place.lanes)}"
            place.known["truth", n] = self._put(place, text)
        return place.known["truth", n]

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _leaf(self, n: Node, place: _Place) -> str:
        if n.value == "index":
            return self._index(place)
        if n.value == "most":
            return _literal(MOST)
        if n.value == "width":
            return self._put(place, f"sitofp i64 {self._columns} to float")
        if n.per == UNIFORM:
            pointer, i = self._function.numbers[n.value]
            return self._put(
                place, f"load float, ptr {self._put(place, f'getelementptr float, ptr %{pointer}, i64 {i}')}, align 4"
            )
        array = self._function.arrays[n.value]
        return self._load(place, self._at(array, place) if n.per == ELEMENT else self._line(array))

    def _line(self, array: Array) -> str:
        """Return where a row of an array begins."""
        key, row = ("line", array), self._row
        if array.distance == "0":
            return f"%{array.pointer}"
        if key not in row.known:
            away = self._r
            if array.distance != "1":
                away = self._put(row, f"mul i64 {self._r}, %{array.distance}")
            row.known[key] = self._put(row, f"getelementptr float, ptr %{array.pointer}, i64 {away}")
        return row.known[key]

    def _at(self, array: Array, place: _Place) -> str:
        """Return where a place's elements stand in a row."""
        key = "at", array
        if key not in place.known:
            line = self._line(array)
            place.known[key] = self._put(place, f"getelementptr float, ptr {line}, i64 {place.j}")
        return place.known[key]

    def _load(self, place: _Place, pointer: str) -> str:
        kind, lanes = _type("float", place.lanes), place.lanes
        if not place.mask:
            return self._put(place, f"load {kind}, ptr {pointer}, align 4")
        zero, truth = _constant("float", 0.0, lanes), _type("i1", lanes)
        name = f"@llvm.masked.load.{_suffix(lanes)}.p0"
        return self._put(place, f"call {kind} {name}(ptr {pointer}, i32 4, {truth} {place.mask}, {kind} {zero})")

    def _store(self, place: _Place, value: str, pointer: str) -> None:
        kind, lanes = _type("float", place.lanes), place.lanes
        if not place.mask:
            place.lines.append(f"  store {kind} {value}, ptr {pointer}, align 4")
            return
        name, truth = f"@llvm.masked.store.{_suffix(lanes)}.p0", _type("i1", lanes)
        place.lines.append(f"  call void {name}({kind} {value}, ptr {pointer}, i32 4, {truth} {place.mask})")

    def _index(self, place: _Place) -> str:
        """Return elements' places in their row."""
        if "index" not in place.known:
            lanes = place.lanes
            first = self._put(place, f"trunc i64 {place.j} to i32")
            if lanes > 1:
                wide = self._spread(first, "i32", place, place)
                first = self._put(place, f"add {_type('i32', lanes)} {wide}, {self._lane_numbers()}")
            place.known["index"] = self._put(place, f"sitofp {_type('i32', lanes)} {first} to {_type('float', lanes)}")
        return place.known["index"]

    def _lane_numbers(self) -> str:
        return f"<{', '.join(f'i32 {i}' for i in range(self._lanes))}>"


def _suffix(lanes: int) -> str:
    """Return what names of LLVM's functions end with, for so many lanes."""
    return "f32" if lanes == 1 else f"v{lanes}f32"


def written(functions: Sequence[Function], lanes: int, masks: bool) -> str:
    """Return functions for vectors of so many lanes, with what they call; ``masks``: whether lanes can be left out."""
    texts = [_Writer(function, lanes, masks).text() for function in functions]
    return "".join([*_declared(lanes, masks), *texts])


def _declared(lanes: int, masks: bool) -> list[str]:
    lines = []
    for n in sorted({1, lanes}):
        kind = _type("float", n)
        for name in CALLS.values():
            arguments = ", ".join([kind] * {"copysign": 2, "fmuladd": 3}.get(name, 1))
            lines.append(f"declare {kind} @llvm.{name}.{_suffix(n)}({arguments})\n")
    if masks:
        kind, truth, end = _type("float", lanes), _type("i1", lanes), f"{_suffix(lanes)}.p0"
        lines.append(f"declare {kind} @llvm.masked.load.{end}(ptr, i32, {truth}, {kind})\n")
        lines.append(f"declare void @llvm.masked.store.{end}({kind}, ptr, i32, {truth})\n")
    return lines
