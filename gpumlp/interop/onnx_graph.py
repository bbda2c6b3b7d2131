"""An ONNX graph under construction, and formulas in ONNX's operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, count
from typing import Any

import numpy as np

from gpumlp.expressions import Node, make, order
from gpumlp.formulas import Formula
from gpumlp.lowering import PARTS, lowered

CALLS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "pow": "Pow", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "erf": "Erf", "abs": "Abs", "sign": "Sign",
    "floor": "Floor", "maximum": "Max", "minimum": "Min", "sigmoid": "Sigmoid", "softplus": "Softplus",
}  # fmt: skip
COMPARISONS = {"lt": "Less", "le": "LessOrEqual", "eq": "Equal"}
OVER_ROWS = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}
REDUCTIONS = {"sum": "ReduceSum", "largest": "ReduceMax"}


class Graph:
    """Nodes and constants, and the names of what they give; ``dtype`` is that of all numbers."""

    def __init__(self, onnx: Any, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._onnx, self._known, self._scope, self._scopes = onnx, dict[tuple[Any, ...], str](), "", set[str]()

    def enter(self, name: str) -> None:
        """Begin a layer, whose names start with its own: with a number behind where another layer has that name."""
        names = chain([name], (f"{name}_{number}" for number in count(1)))
        self._scope = next(each for each in names if each not in self._scopes)
        self._scopes.add(self._scope)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Put a node behind the others, and return the name of what it gives."""
        out = f"{self._scope}/{operator}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [out], name=out, **attributes))
        return out

    def numbers(self, values: Any, name: str = "") -> str:
        """Return the name of an array of the graph's type, by default made up."""
        return self._constant(np.asarray(values, self.dtype), name)

    def sizes(self, *values: int) -> str:
        """Return the name of a list of whole numbers, such as a shape."""
        return self._constant(np.array(values, np.int64), "")

    def _constant(self, array: np.ndarray, name: str) -> str:
        key = array.dtype.str, array.shape, array.tobytes(), name
        if key not in self._known:
            made = self._known[key] = f"{self._scope}/{name}" if name else f"constant_{len(self._known)}"
            self.constants[made] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), made)
        return self._known[key]

    def cast(self, value: str) -> str:
        """Return numbers of the graph's type, of truth values or whole numbers."""
        return self.add("Cast", value, to=self._onnx.helper.np_dtype_to_tensor_dtype(self.dtype))


def _log1p(z: Node) -> Node:
    """log(1 + z); near 0 what rounding 1 + z lost is put right (Kahan's; Goldberg 1991, theorem 4)."""
    one_more = 1.0 + z
    rest = one_more - 1.0
    near = make("where", make("eq", rest, 0.0), z, make("log", one_more) * (z / rest))
    return make("where", make("lt", 1.0, z), make("log", one_more), near)


def _expm1(z: Node) -> Node:
    """exp(z) - 1 = 2 t / (1 - t), t = tanh(z / 2), up to 1: no difference of numbers that are close."""
    t = make("tanh", 0.5 * z)
    return make("where", make("lt", 1.0, z), make("exp", z) - 1.0, 2.0 * t / (1.0 - t))


LACKING: Mapping[str, Callable[..., Node]] = {
    **PARTS, "log1p": _log1p, "expm1": _expm1, "step": lambda z: make("maximum", make("sign", z), 0.0),
}  # fmt: skip


def write_formula(graph: Graph, formula: Formula, numbers: Mapping[str, float], z: str, width: int) -> str:
    """Write an activation's way forward, of ``z`` whose last axis has ``width`` numbers; return its result's name."""
    (root,) = lowered(formula.roots, [*CALLS, *OVER_ROWS], LACKING)
    most = float(np.finfo(graph.dtype).max)
    given = {"width": float(width), "most": most, "index": np.arange(width), **numbers}
    found: dict[Node, str] = {}
    truths: dict[Node, str] = {}
    for node in order([root]):
        if node.op == "leaf":
            found[node] = z if node.value == "z" else graph.numbers(given[node.value])
        elif node.op == "constant":
            found[node] = graph.numbers(node.value)
        else:
            found[node] = _write(graph, node, [found[a] for a in node.args], truths)
    return found[root]


def _write(graph: Graph, node: Node, args: list[str], truths: dict[Node, str]) -> str:
    """Write one operation; comparisons are in ``truths``, too, as what Where takes."""
    op = node.op
    if op in CALLS:
        return graph.add(CALLS[op], *args)
    if op in COMPARISONS:
        truths[node] = graph.add(COMPARISONS[op], *args)
        return graph.cast(truths[node])
    if op == "where":
        truth = truths.get(node.args[0]) or graph.add("Not", graph.add("Equal", args[0], graph.numbers(0.0)))
        return graph.add("Where", truth, *args[1:])
    if op in OVER_ROWS:
        return graph.add(OVER_ROWS[op], *args, axis=-1)
    if op in REDUCTIONS:
        axes = graph.sizes(-1)
        return graph.add(REDUCTIONS[op], args[0], axes, keepdims=1)
    if op == "column":
        return graph.add("Gather", args[0], graph.sizes(int(node.args[1].value)), axis=-1)
    assert op == "argmax", op
    return graph.cast(graph.add("ArgMax", args[0], axis=-1, keepdims=1))
