"""Formulas in the operations that a target has: what stands for those that it lacks, and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gpumlp.expressions import UNIFORM, Node, make, order, rebuilt, without_flats


def _bounded_by_most(z: Node) -> Node:
    """z, its infinities as the largest numbers: no difference is NaN."""
    most = z.table.leaf("most", UNIFORM)
    return make("bounded", z, -most, most)


def _shifted(z: Node) -> Node:
    z = _bounded_by_most(z)
    return make("sub", z, make("held", make("largest", z)))


def _softmax(z: Node) -> Node:
    e = make("exp", _shifted(z))
    return make("div", e, make("sum", e))


def _log_softmax(z: Node) -> Node:
    shifted = _shifted(z)
    return make("sub", shifted, make("log", make("sum", make("exp", shifted))))


def _logsumexp(z: Node) -> Node:
    largest = make("held", make("largest", _bounded_by_most(z)))
    return make("add", make("log", make("sum", make("exp", _shifted(z)))), largest)


def _sigmoid_parts(z: Node) -> Node:
    e = make("exp", -make("abs", z))
    return make("where", make("lt", z, 0.0), e, 1.0) / (1.0 + e)


# What stands for an operation where a target has none for it.
PARTS: Mapping[str, Callable[..., Node]] = {
    "sigmoid": _sigmoid_parts,
    "softplus": lambda z: make("log1p", make("exp", -make("abs", z))) + make("maximum", z, 0.0),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "pow": lambda a, b: make("exp", b * make("log", a)),
    "bounded": lambda z, low, high: make("minimum", make("maximum", z, low), high),
    "mask": lambda c, d: make("where", c, d, 0.0),
    "held": lambda a: a,
}


def lowered(
    roots: Iterable[Node], native: Iterable[str], parts: Mapping[str, Callable[..., Node]] = PARTS
) -> list[Node]:
    """Return the roots in operations that a target has: those of ``native``, and those without ``parts``."""
    parts = {op: make_parts for op, make_parts in parts.items() if op not in frozenset(native)}
    roots = without_flats(roots)
    while any(n.op in parts for n in order(roots)):
        roots = rebuilt(roots, lambda n, args: parts[n.op](*args) if n.op in parts else None)
    return roots


def contracted(roots: Iterable[Node]) -> list[Node]:
    """Return the roots with multiply-adds: a product that only one sum or difference takes is part of it.

    "fma" of a, b, c is a b + c, rounded once. For targets where what is not written is not there.
    """
    roots = list(roots)
    uses: dict[Node, int] = dict.fromkeys(roots, 1)
    for n in order(roots):
        for a in n.args:
            uses[a] = uses.get(a, 0) + 1

    def change(n: Node, args: list[Node]) -> Node | None:
        if n.op not in ("add", "sub"):
            return None
        for i in (0, 1):
            product = n.args[i]
            if product.op == "mul" and uses[product] == 1 and args[i].op == "mul" and product.per == n.per:
                a, b = args[i].args
                other = args[1 - i]
                if n.op == "add":
                    return make("fma", a, b, other)
                return make("fma", a, b, -other) if i == 0 else make("fma", -a, b, other)
        return None

    return rebuilt(roots, change)
