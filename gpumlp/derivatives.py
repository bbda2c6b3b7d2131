"""Derivatives of formulas, by reverse mode, from one rule an operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from gpumlp.expressions import ELEMENT, ROW, Node, index, make, order


def _sigmoid(a: Node) -> Node:
    return make("sigmoid", a)


def _of_extremum(d: Node, difference: Node) -> tuple[Node, Node]:
    """What an extremum hands to its arguments: to the first where ``difference``, y without the second, is not 0.

    At a tie the second argument has it: relu, max(z, 0), has no slope at 0.
    """
    first = make("step", difference)
    return d * first, d * (1.0 - first)


# For each operation what d, the derivative by y = op(a, ...), gives for each argument; None: nothing goes there. The
# stable form is chosen here, once.
SLOPES: Mapping[str, Callable[..., tuple[Node | None, ...]]] = {
    "add": lambda d, y, a, b: (d, d),
    "sub": lambda d, y, a, b: (d, -d),
    "neg": lambda d, y, a: (-d,),
    "mul": lambda d, y, a, b: (d * b, d * a),
    "div": lambda d, y, a, b: (d / b, -(d * y) / b),
    "pow": lambda d, y, a, b: (d * b * make("pow", a, b - 1.0), d * y * make("log", a)),
    "exp": lambda d, y, a: (d * y,),
    "expm1": lambda d, y, a: (d * (y + 1.0),),
    "log": lambda d, y, a: (d / a,),
    "log1p": lambda d, y, a: (d / (a + 1.0),),
    "sqrt": lambda d, y, a: (d * 0.5 / y,),
    "abs": lambda d, y, a: (d * make("sign", a),),
    "sin": lambda d, y, a: (d * make("cos", a),),
    "cos": lambda d, y, a: (-d * make("sin", a),),
    "tanh": lambda d, y, a: (d * (1.0 - y * y),),
    "erf": lambda d, y, a: (d * (2.0 / math.sqrt(math.pi) * make("exp", -(a * a))),),
    "sigmoid": lambda d, y, a: (d * (y * _sigmoid(-a)),),  # not 1 - y, which loses what a large factor magnifies
    "softplus": lambda d, y, a: (d * _sigmoid(a),),
    "maximum": lambda d, y, a, b: _of_extremum(d, y - b),
    "minimum": lambda d, y, a, b: _of_extremum(d, b - y),
    "bounded": lambda d, y, a, low, high: (d, None, None),  # as if it were not there
    "where": lambda d, y, c, a, b: (None, make("mask", c, d), make("mask", 1.0 - c, d)),
    "mask": lambda d, y, c, a: (None, make("mask", c, d)),
    "column": lambda d, y, a, i: (make("mask", make("eq", index(d.table), i), d), None),
    "sum": lambda d, y, a: (d,),
    "largest": lambda d, y, a: (d * make("eq", a, y) / make("sum", make("eq", a, y)),),
    "softmax": lambda d, y, a: ((d - make("sum", d * y)) * y,),
    "log_softmax": lambda d, y, a: (d - make("softmax", a) * make("sum", d),),
    "logsumexp": lambda d, y, a: (d * make("softmax", a),),
}
FLAT_SLOPE = frozenset({"held", "step", "sign", "lt", "le", "eq", "floor", "argmax"})  # 0 wherever there is one


def gradient(y: Node, x: Node, d: Node | float = 1.0) -> Node:
    """Return d times the derivative of y by the leaf x.

    y has one number a row: then it is its derivative by each element; or one an element: then each depends on its own
    element of x, or on all of the row's, and ``d`` is the derivative of something by each of y's. No row is flat.
    """
    table = y.table
    found: dict[Node, Node] = {y: d if isinstance(d, Node) else table.constant(d)}
    nodes = order([y])
    reach = {x}
    for n in nodes:
        if any(a in reach for a in n.args) and n.op not in FLAT_SLOPE:
            reach.add(n)
    for n in reversed(nodes):
        if n not in found or n not in reach or n is x:
            continue
        for a, slope in zip(n.args, SLOPES[n.op](found[n], n, *n.args), strict=True):
            if slope is None or a not in reach:
                continue
            if max(slope.per, n.per) == ELEMENT and a.per == ROW:  # every element of n has that slope
                slope = make("sum", slope)
            found[a] = found[a] + slope if a in found else slope
    return found.get(x, table.constant(0.0))
