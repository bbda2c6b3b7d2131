"""Formulas as source text: functions in C++ (for NVRTC, and g++ under host execution) and in Python for Numba CUDA.

There are two kinds of function. An *element function* computes its roots from the numbers of one element, given by
value: an activation, its way back, the update of one parameter. A *row function* computes them from rows of arrays, by
a group of ``lanes`` threads: a loss, a metric, a softmax. It goes over the row once for each depth of reductions: a
pass computes what the next reductions take, and writes what depends on no later one. Numbers that are read once stand
where they are read; what belongs to the row, and not to an element of it, stands before the loop.

What a formula calls x is called x_ in the text, so that no name of a user's is one of the language's or of the
writer's. What a text relies on otherwise stands in kernels/elementary.cuh or kernels/numba_cuda.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpumlp.expressions import ELEMENT, REDUCTIONS, Node, is_constant, is_truth, order
from gpumlp.formulas import Formula
from gpumlp.lowering import contracted, lowered

SUM, PRODUCT, SIGN, ATOM = range(4)  # how tightly the parts of an expression hold together
INFIX = {"add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT)}
DEEP = 200  # numbers of an expression from which on each has a name
COMPARISONS = {"lt": "<", "le": "<=", "eq": "=="}


@dataclass(frozen=True)
class Reduction:
    """How a row is reduced: what is there before, how it takes an element, and what a group's lanes make of theirs."""

    start: str
    take: str
    of_group: str


@dataclass(frozen=True)
class Language:
    """How a target writes things: formats, of parts by number."""

    calls: Mapping[str, str]  # operations that are functions; those of them that have PARTS are native by that
    fused: bool  # whether multiply-adds are written
    overwrites: bool  # whether an element function of several roots overwrites parameters, in place of returning all
    literal: Callable[[float], str]
    choice: str  # of a condition, what it is if that holds, and what if not
    both: str
    either: str
    neither: str
    let: str
    give: str
    add: str
    returns: str
    several: str  # numbers of a row, returned together
    loop: str
    close: str
    element: str  # an array's element in a loop
    column: str  # a column of an array, in which the group may have no row
    names: Mapping[str, str]  # of the leaves that every target has
    reductions: Mapping[str, Reduction]
    head: str  # of what is returned, the function's name, and its parameters
    types: Mapping[str, str]  # before a parameter's name
    group: tuple[str, ...]  # further parameters of a row function


def _decimal(value: float) -> str:
    """Return the shortest text that is the float32 nearest to ``value``."""
    return str(np.float32(value))


def _cpp_literal(value: float) -> str:
    text = _decimal(value)
    return {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "(0.0f * INFINITY)"}.get(text, f"{text}f")


def _numba_literal(value: float) -> str:
    text = _decimal(value)
    known = {"0.0": "ZERO", "1.0": "ONE", "inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}
    return known.get(text, f"float32({text})")


def _calls(names: Iterable[str], arguments: int = 1, suffix: str = "") -> dict[str, str]:
    return {name: f"{name}{suffix}({', '.join(['{}'] * arguments)})" for name in names}


_OF_C = ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "sqrt", "floor")
_OWN = {
    **_calls(("sign", "step", "sigmoid", "softplus")), **_calls(("maximum", "minimum"), 2),
    "bounded": "clip({}, {}, {})",
}  # fmt: skip

CPP = Language(
    calls={
        **_OWN, **_calls(_OF_C, suffix="f"), **_calls(("pow",), 2, "f"), "abs": "fabsf({})", "sqrt": "root({})",
        "div": "quotient({}, {})", "fma": "multiply_add({}, {}, {})",
    },
    fused=True, overwrites=True,
    literal=_cpp_literal,
    choice="({} ? {} : {})",
    both="({} && {})", either="({} || {})", neither="!({})",
    let="float {} = {};", give="{} = {};", add="{0} = {0} + {1};", returns="return {};", several="{{{{{}}}}}",
    loop="for (int j = lane; j < end; j += lanes) {{", close="}",
    element="{}[j]",
    column="({2} < end ? {0}[{1}] : 0.0f)",
    names={"index": "(float)j", "width": "(float)outputs", "most": "LARGEST"},
    reductions={
        "sum": Reduction("float {} = 0.0f;", "{0} += {1};", "{0} = group_sum({0}, lanes);"),
        "largest": Reduction("float {} = -INFINITY;", "{0} = maximum({0}, {1});", "{0} = group_max({0}, lanes);"),
        "argmax": Reduction(
            "Best best_{};", "best_{0}.take({1}, j);", "float {0} = (float)group_argmax(best_{0}, lanes);"
        ),
    },
    head="DEVICE {} {}({}) {{",
    types={
        "value": "float ", "result": "float &", "read": "Array<const float> ", "written": "Array<float> ",
        "size": "int ",
    },
    group=("outputs", "end", "lane", "lanes"),
)  # fmt: skip

NUMBA = Language(
    calls={**_OWN, **_calls((*_OF_C, "abs")), **_calls(("pow",), 2)},
    fused=False, overwrites=False,
    literal=_numba_literal,
    choice="({1} if {0} else {2})",
    both="({} and {})", either="({} or {})", neither="(not {})",
    let="{} = {}", give="{} = {}", add="{} += {}", returns="return {}", several="({})",
    loop="for j in range(lane, end, lanes):", close="",
    element="{}[r, j]",
    column="({0}[r, {1}] if {2} < end else ZERO)",
    names={"index": "float32(j)", "width": "float32(outputs)", "most": "LARGEST"},
    reductions={
        "sum": Reduction("{} = ZERO", "{0} += {1}", "{0} = group_sum({0}, memory)"),
        "largest": Reduction("{} = -INFINITY", "{0} = maximum({0}, {1})", "{0} = group_max({0}, memory)"),
        "argmax": Reduction(
            "{0}, place_{0} = ZERO, int64(-1)",
            "{0}, place_{0} = first_of({0}, place_{0}, {1}, j)",
            "{0} = float32(group_argmax({0}, place_{0}, memory, places))",
        ),
    },
    head="def {1}({2}):",
    types=dict.fromkeys(("value", "result", "read", "written", "size"), ""),
    group=("r", "outputs", "end", "lane", "lanes", "memory", "places"),
)  # fmt: skip


def name_of(name: str) -> str:
    """Return what the text calls a leaf."""
    return "".join(c if c.isascii() else f"u{ord(c):x}" for c in name) + "_"


def element_function(language: Language, name: str, formula: Formula, arguments: Sequence[str]) -> str:
    """Return the text of a function of one element.

    Its parameters are the leaves in ``arguments``, used or not, then ``formula.numbers``. One root is returned. Of
    several, C++ overwrites the parameters that have their names, and Python returns all, in their order.
    """
    body, roots = _Body(language, ()), _prepared(language, formula)
    body.uses = _uses(roots, ())
    body.name_deep(roots)
    if len(roots) == 1:
        returned = body.read(roots[0])[0]
    else:  # all are known before the first is overwritten
        values, returned = [body.named(root) for root in roots], ""
        if language.overwrites:
            body.lines += [language.give.format(name_of(n), v) for n, v in zip(formula.names, values, strict=True)]
        else:
            returned = language.several.format(", ".join(values))
    results = formula.names if len(roots) > 1 else ()
    parameters = [("result" if a in results else "value", name_of(a)) for a in (*arguments, *formula.numbers)]
    return _function(language, name, "float" if returned else "void", parameters, body, returned)


def row_function(
    language: Language,
    name: str,
    formula: Formula,
    arrays: Sequence[str],
    arguments: Sequence[str] = (),
    into: Mapping[str, str] | None = None,
    adds: bool = False,
) -> str:
    """Return the text of a function of a row.

    Its parameters are the leaves in ``arrays``, a row of each in C++, in Python the whole array; then those in
    ``arguments``, given by value; then, in Python, the row's number r; how wide a row is (outputs), how much of it
    there is (end: outputs, or 0 for a group without a row, which takes part in all reductions), which lane this is of
    how many; in Python, memory and places for the group's reductions, one of each per thread of the block; and
    ``formula.numbers``.

    ``into``: the arrays that roots are written to, or, with ``adds``, added to. Such a one may be an array that is
    read, unless the formula `reads_columns`. Other roots are one number a row, which every lane returns: several as
    ``Several<2>`` in C++, in Python as a tuple.
    """
    into = into or {}
    body, roots = _Body(language, arrays), dict(zip(formula.names, _prepared(language, formula), strict=True))
    written = {name_of(array): roots[root] for root, array in into.items()}
    returned = [root for n, root in roots.items() if n not in into]
    depth = _depths(roots.values())
    for k in range(max(depth.values()) + 1):
        reductions = [n for n in depth if n.op in REDUCTIONS and depth[n] == k + 1]
        body.go_over(reductions, {array: root for array, root in written.items() if depth[root] == k}, adds)
    body.uses = _uses(returned, body.names)
    body.name_deep(returned)
    values = [body.read(root)[0] for root in returned]
    all_of = language.several.format(", ".join(values)) if len(values) > 1 else "".join(values)
    result = "void" if not values else "float" if len(values) == 1 else f"Several<{len(values)}>"
    targets = set(into.values())
    parameters = [("written" if a in targets else "read", name_of(a)) for a in arrays]
    parameters += [("value", name_of(a)) for a in arguments]
    parameters += [("size", n) for n in language.group]
    parameters += [("value", name_of(a)) for a in formula.numbers]
    return _function(language, name, result, parameters, body, all_of)


@functools.lru_cache(maxsize=512)
def reads_columns(formula: Formula) -> bool:
    """Whether a lane reads what others write, if an array is written where it is read."""
    return any(n.op == "column" for n in order(formula.roots))


@functools.lru_cache(maxsize=512)
def is_sum(formula: Formula, name: str) -> bool:
    """Whether the root of that name is a sum over a row's elements: of parts of the row, it is the sum of its parts."""

    def adds_up(n: Node) -> bool:
        if n.op in ("add", "sub", "neg"):
            return all(map(adds_up, n.args))
        if n.op in ("mul", "div"):
            a, b = n.args
            return (_is_given(b) and adds_up(a)) or (n.op == "mul" and _is_given(a) and adds_up(b))
        return is_constant(n, 0.0) or (n.op == "sum" and not any(m.op in REDUCTIONS for m in order(n.args)))

    return adds_up(formula.root(name))


def _is_given(n: Node) -> bool:
    return not any(m.per or (m.op == "leaf" and m.value == "width") for m in order([n]))


def _prepared(language: Language, formula: Formula) -> list[Node]:
    roots = lowered(formula.roots, language.calls)
    return contracted(roots) if language.fused else roots


def _function(
    language: Language, name: str, result: str, parameters: Sequence[tuple[str, str]], body: _Body, returned: str
) -> str:
    head = language.head.format(result, name, ", ".join(language.types[kind] + n for kind, n in parameters))
    last = [language.returns.format(returned)] if returned else []
    end = [language.close] if language.close else []
    return "\n".join([head, *(f"    {line}" for line in [*body.lines, *last]), *end, ""])


def _depths(roots: Iterable[Node]) -> dict[Node, int]:
    """Return for each node how many reductions come before it is known."""
    depth: dict[Node, int] = {}
    for n in order(roots):
        depth[n] = max((depth[a] for a in n.args), default=0) + (n.op in REDUCTIONS)
    return depth


def _uses(targets: Iterable[Node], known: Iterable[Node]) -> dict[Node, int]:
    """Return how often each node is read on the way to the targets, from those that are ``known`` on."""
    uses: dict[Node, int] = {}
    known, stack = set(known), list(targets)
    while stack:
        n = stack.pop()
        uses[n] = uses.get(n, 0) + 1
        if uses[n] == 1 and n not in known:
            stack.extend(n.args)
    return uses


class _Body:
    """The statements of a function, as they come. What is read more than once gets a name, where it is first read."""

    def __init__(self, language: Language, arrays: Iterable[str]) -> None:
        self.language, self.arrays = language, frozenset(arrays)
        self.lines: list[str] = []
        self.names: dict[Node, str] = {}
        self.uses: dict[Node, int] = {}
        self._count = 0

    def go_over(self, reductions: Sequence[Node], written: Mapping[str, Node], adds: bool) -> None:
        """Write a pass over the row: it feeds ``reductions``, and writes elements of arrays."""
        if not reductions and not written:
            return
        language, targets = self.language, [*(n.args[0] for n in reductions), *written.values()]
        self.uses = _uses(targets, self.names)
        for n in order(targets):  # what belongs to the row, before the loop that reads it
            if n in self.uses and n.per == ELEMENT:
                self._name_all(n.args)
        self._name_all(targets)
        taken = [(language.reductions[n.op], self._new_name(n), n) for n in reductions]
        self.lines += [how.start.format(name) for how, name, _ in taken]
        outside, before, self.lines = dict(self.names), self.lines, []
        self.name_deep(targets)
        for how, name, n in taken:
            self.lines.append(how.take.format(name, self.read(n.args[0])[0]))
        for array, root in written.items():
            place = language.element.format(array)
            self.lines.append((language.add if adds else language.give).format(place, self.read(root)[0]))
        self.lines = [*before, language.loop.format(), *(f"    {line}" for line in self.lines)]
        self.lines += [language.close] if language.close else []
        self.lines += [how.of_group.format(name) for how, name, _ in taken]
        self.names = outside | {n: name for _, name, n in taken}

    def read(self, n: Node) -> tuple[str, int]:
        """Return how the node is read, and how tightly that holds together, after what has to stand before it."""
        if n in self.names:
            return self.names[n], ATOM
        if n.op == "constant":
            text = self.language.literal(n.value)
            return text, SIGN if text.startswith("-") else ATOM
        if n.op == "leaf" and n.value in self.language.names:
            return self.language.names[n.value], ATOM
        if n.op == "leaf" and n.value not in self.arrays:
            return name_of(n.value), ATOM
        if self.uses[n] > 1:
            return self.named(n), ATOM
        return self._expression(n)

    def named(self, n: Node) -> str:
        """Return the node's name, which it is given now if it has none."""
        if n not in self.names:
            value = self._expression(n)[0] if n.args or n.value in self.arrays else self.read(n)[0]
            self.names[n] = self._new_name(n)
            self.lines.append(self.language.let.format(self.names[n], value))
        return self.names[n]

    def _name_all(self, nodes: Iterable[Node]) -> None:
        for n in nodes:
            if n.per < ELEMENT and (n.args or n.value in self.arrays):
                self.named(n)

    def name_deep(self, targets: Iterable[Node]) -> None:
        """Give every number a name where there are many: expressions and Python's stack have an end."""
        needed = order(targets)
        if len(needed) > DEEP:
            for n in needed:
                if n.args and n in self.uses and not is_truth(n):
                    self.named(n)

    def _new_name(self, n: Node) -> str:
        self._count += 1
        return f"{name_of(n.value)[:-1] if n.op == 'leaf' else n.op}{self._count}"

    def _expression(self, n: Node) -> tuple[str, int]:
        language = self.language
        if n.op == "leaf":  # of an array
            array = name_of(n.value)
            return (language.element.format(array) if n.per == ELEMENT else language.column.format(array, 0, 0)), ATOM
        if n.op == "column":
            of, place = n.args[0].value, int(n.args[1].value)
            return language.column.format(name_of(of), place, 0 if of == "t" else place), ATOM  # t may have more
        if n.op in COMPARISONS:
            one, zero = language.literal(1.0), language.literal(0.0)
            return language.choice.format(self._comparison(n), one, zero), ATOM
        if n.op == "where":
            condition = self._condition(n.args[0])
            return language.choice.format(condition, *(self.read(a)[0] for a in n.args[1:])), ATOM
        if n.op == "neg":
            return f"-{self._part(n.args[0], ATOM)}", SIGN
        if n.op in INFIX and (n.op not in language.calls or is_constant(n.args[1])):  # a compiler divides by constants
            symbol, tight = INFIX[n.op]
            return f"{self._part(n.args[0], tight)} {symbol} {self._part(n.args[1], tight + 1)}", tight
        return language.calls[n.op].format(*(self.read(a)[0] for a in n.args)), ATOM

    def _part(self, n: Node, least: int) -> str:
        text, tight = self.read(n)
        return f"({text})" if tight < least else text

    def _comparison(self, n: Node) -> str:
        return f"{self.read(n.args[0])[0]} {COMPARISONS[n.op]} {self.read(n.args[1])[0]}"

    def _condition(self, n: Node) -> str:
        """Return what says whether a number is not 0; comparisons as they are."""
        if n not in self.names and self.uses[n] == 1:
            if n.op in COMPARISONS:
                return self._comparison(n)
            if n.op in ("mul", "maximum") and all(map(is_truth, n.args)):
                form = self.language.both if n.op == "mul" else self.language.either
                return form.format(*map(self._condition, n.args))
            if n.op == "sub" and is_truth(n):
                return self.language.neither.format(self._condition(n.args[1]))
        return f"{self.read(n)[0]} != {self.language.literal(0.0)}"
