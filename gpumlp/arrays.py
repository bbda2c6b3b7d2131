"""What of Keras's operations is of arrays alone: NumPy's functions by Keras's names, for callbacks and metrics.

`gpumlp.ops` has them beside what formulas are made of; no formula, which becomes kernels, can have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gpumlp import columns, config
from gpumlp.expressions import Node, known, make

DOC = """`numpy.{1}`, of arrays alone: no formula, of which kernels are made, can have it.

Parameters
----------
*args, **kwargs
    As `numpy.{1}` takes them.

Returns
-------
ndarray, number or tuple
    As `numpy.{1}`; doubles that are made of no doubles become the default floating-point type.

Raises
------
TypeError
    In a formula.

Examples
--------
>>> import numpy as np
>>> from gpumlp import ops
>>> ops.{0}({2})
{3}
"""
EXAMPLES: dict[str, tuple[str, str]] = {  # of each: what it is given, and what it gives
    "all": ("[True, False]", "np.False_"),
    "any": ("[True, False]", "np.True_"),
    "append": ("[1.0, 2.0], 3.0", "array([1., 2., 3.], dtype=float32)"),
    "arange": ("3", "array([0, 1, 2])"),
    "arccos": ("1.0", "np.float32(0.0)"),
    "arccosh": ("1.0", "np.float32(0.0)"),
    "arcsin": ("0.0", "np.float32(0.0)"),
    "arcsinh": ("0.0", "np.float32(0.0)"),
    "arctan": ("0.0", "np.float32(0.0)"),
    "arctan2": ("0.0, 1.0", "np.float32(0.0)"),
    "arctanh": ("0.0", "np.float32(0.0)"),
    "argmin": ("[3.0, 1.0, 2.0]", "np.int64(1)"),
    "argsort": ("[3.0, 1.0, 2.0]", "array([1, 2, 0])"),
    "array": ("[3.0, 1.0, 2.0]", "array([3., 1., 2.], dtype=float32)"),
    "average": ("[3.0, 1.0, 2.0], weights=[1.0, 1.0, 2.0]", "np.float32(2.0)"),
    "bincount": ("[0, 1, 1]", "array([1, 2])"),
    "broadcast_to": ("[1.0, 2.0], (2, 2)", "array([[1., 2.],\n       [1., 2.]], dtype=float32)"),
    "concatenate": ("([1.0], [2.0])", "array([1., 2.], dtype=float32)"),
    "copy": ("[3.0, 1.0, 2.0]", "array([3., 1., 2.], dtype=float32)"),
    "count_nonzero": ("[0.0, 2.0, 3.0]", "np.int64(2)"),
    "cross": ("[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]", "array([0., 0., 1.], dtype=float32)"),
    "cumprod": ("[1.0, 2.0, 3.0]", "array([1., 2., 6.], dtype=float32)"),
    "cumsum": ("[1.0, 2.0, 3.0]", "array([1., 3., 6.], dtype=float32)"),
    "diag": ("[1.0, 2.0]", "array([[1., 0.],\n       [0., 2.]], dtype=float32)"),
    "diagonal": ("[[1.0, 2.0], [3.0, 4.0]]", "array([1., 4.], dtype=float32)"),
    "diff": ("[1.0, 4.0, 9.0]", "array([3., 5.], dtype=float32)"),
    "digitize": ("[0.5, 1.5], [0.0, 1.0]", "array([1, 2])"),
    "dot": ("[1.0, 2.0], [3.0, 4.0]", "np.float32(11.0)"),
    "einsum": ('"ij->i", [[1.0, 2.0], [3.0, 4.0]]', "array([3., 7.], dtype=float32)"),
    "eye": ("2", "array([[1., 0.],\n       [0., 1.]], dtype=float32)"),
    "flip": ("[3.0, 1.0, 2.0]", "array([2., 1., 3.], dtype=float32)"),
    "floor_divide": ("7.0, 2.0", "np.float32(3.0)"),
    "full": ("2, 0.5", "array([0.5, 0.5], dtype=float32)"),
    "full_like": ("[1.0, 2.0], 0.5", "array([0.5, 0.5], dtype=float32)"),
    "hstack": ("([1.0], [2.0])", "array([1., 2.], dtype=float32)"),
    "identity": ("2", "array([[1., 0.],\n       [0., 1.]], dtype=float32)"),
    "isclose": ("1.0, 1.0 + 1e-9", "np.True_"),
    "isfinite": ('[1.0, float("inf")]', "array([ True, False])"),
    "isinf": ('[1.0, float("inf")]', "array([False,  True])"),
    "linspace": ("0.0, 1.0, 3", "array([0. , 0.5, 1. ], dtype=float32)"),
    "logical_xor": ("True, False", "np.True_"),
    "logspace": ("0.0, 2.0, 3", "array([  1.,  10., 100.], dtype=float32)"),
    "matmul": ("[[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]", "array([3., 7.], dtype=float32)"),
    "median": ("[3.0, 1.0, 2.0]", "np.float32(2.0)"),
    "meshgrid": ("[1.0, 2.0], [3.0]", "(array([[1., 2.]]), array([[3., 3.]]))"),
    "mod": ("7.0, 4.0", "np.float32(3.0)"),
    "moveaxis": ("[[1.0, 2.0]], 0, 1", "array([[1.],\n       [2.]], dtype=float32)"),
    "nan_to_num": ('[1.0, float("nan")]', "array([1., 0.], dtype=float32)"),
    "ndim": ("[[1.0, 2.0], [3.0, 4.0]]", "2"),
    "nonzero": ("[0.0, 2.0]", "(array([1]),)"),
    "outer": ("[1.0, 2.0], [3.0, 4.0]", "array([[3., 4.],\n       [6., 8.]], dtype=float32)"),
    "pad": ("[1.0], 1", "array([0., 1., 0.], dtype=float32)"),
    "prod": ("[2.0, 3.0]", "np.float32(6.0)"),
    "quantile": ("[1.0, 2.0, 3.0], 0.5", "np.float32(2.0)"),
    "ravel": ("[[1.0, 2.0], [3.0, 4.0]]", "array([1., 2., 3., 4.], dtype=float32)"),
    "repeat": ("[1.0, 2.0], 2", "array([1., 1., 2., 2.], dtype=float32)"),
    "reshape": ("[1.0, 2.0], (2, 1)", "array([[1.],\n       [2.]], dtype=float32)"),
    "roll": ("[3.0, 1.0, 2.0], 1", "array([2., 3., 1.], dtype=float32)"),
    "shape": ("[[1.0, 2.0], [3.0, 4.0]]", "(2, 2)"),
    "size": ("[[1.0, 2.0], [3.0, 4.0]]", "4"),
    "sort": ("[3.0, 1.0, 2.0]", "array([1., 2., 3.], dtype=float32)"),
    "split": ("np.array([1.0, 2.0]), 2", "[array([1.]), array([2.])]"),
    "stack": ("([1.0], [2.0])", "array([[1.],\n       [2.]], dtype=float32)"),
    "swapaxes": ("[[1.0, 2.0]], 0, 1", "array([[1.],\n       [2.]], dtype=float32)"),
    "take": ("[3.0, 1.0, 2.0], [0, 2]", "array([3., 2.], dtype=float32)"),
    "take_along_axis": ("np.array([3.0, 1.0]), np.array([1]), 0", "array([1.])"),
    "tensordot": ("[1.0, 2.0], [3.0, 4.0], 1", "array(11., dtype=float32)"),
    "tile": ("[1.0, 2.0], 2", "array([1., 2., 1., 2.], dtype=float32)"),
    "trace": ("[[1.0, 2.0], [3.0, 4.0]]", "np.float32(5.0)"),
    "transpose": ("[[1.0, 2.0]]", "array([[1.],\n       [2.]], dtype=float32)"),
    "tri": ("2", "array([[1., 0.],\n       [1., 1.]], dtype=float32)"),
    "tril": ("[[1.0, 2.0], [3.0, 4.0]]", "array([[1., 0.],\n       [3., 4.]], dtype=float32)"),
    "triu": ("[[1.0, 2.0], [3.0, 4.0]]", "array([[1., 2.],\n       [0., 4.]], dtype=float32)"),
    "trunc": ("[1.9, -1.9]", "array([ 1., -1.], dtype=float32)"),
    "vdot": ("[1.0, 2.0], [3.0, 4.0]", "np.float32(11.0)"),
    "vstack": ("([1.0], [2.0])", "array([[1.],\n       [2.]], dtype=float32)"),
    "convert_to_numpy": ("[3.0, 1.0, 2.0]", "array([3., 1., 2.], dtype=float32)"),
}  # fmt: skip


# ---- of a formula's columns ------------------------------------------------------------------------------------------
def _split(x: Node, indices_or_sections: object, axis: int = 0) -> list[Node]:
    sections = columns.cuts(columns.width_of(x), indices_or_sections)
    if axis not in (-1, 1) or sections is None:
        raise TypeError(
            "split of a formula cuts the outputs of each sample, axis=-1, into parts of one size, or at places; got "
            f"{indices_or_sections!r}, axis={axis!r} for shape {x.shape}."
        )
    return [x[:, part] for part in sections]


def _concatenate(xs: Sequence[Node], axis: int = 0) -> Node:
    table = next(x.table for x in xs if isinstance(x, Node))
    nodes = [x if isinstance(x, Node) else known("concatenate", x, table) for x in xs]
    if axis not in (-1, 1) or any(node.flat for node in nodes):
        raise TypeError(
            f"concatenate of a formula puts outputs side by side, arrays (batch, outputs) along axis=-1; got "
            f"axis={axis!r} for {', '.join('(batch,)' if node.flat else '(batch, outputs)' for node in nodes)}."
        )
    return columns.beside(make, nodes)


OF_COLUMNS: dict[str, Callable[..., Any]] = {"split": _split, "concatenate": _concatenate, "shape": lambda x: x.shape}


def _flat(given: Iterable[object]) -> Iterator[object]:
    for each in given:
        yield each
        if isinstance(each, (list, tuple)):
            yield from each


def _of_arrays(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays; doubles that it makes of no doubles become the default type, as Keras's are."""

    def function(*args: object, **kwargs: object) -> Any:
        given = list(_flat([*args, *kwargs.values()]))
        if any(isinstance(each, Node) for each in given):
            if name in OF_COLUMNS:
                return OF_COLUMNS[name](*args, **kwargs)
            raise TypeError(f"ops.{name} is of arrays alone: a formula, of which kernels are made, cannot have it.")
        found = compute(*args, **kwargs)
        made = getattr(found, "dtype", None) == np.float64 and kwargs.get("dtype") is None
        if not made or any(getattr(each, "dtype", None) == np.float64 for each in given):
            return found
        return found.astype(config.floatx())

    function.__name__ = function.__qualname__ = name
    function.__doc__ = DOC.format(name, compute.__name__, *EXAMPLES[name])
    return function


FUNCTIONS = {name: _of_arrays(name, getattr(np, name)) for name in EXAMPLES if name != "convert_to_numpy"}
FUNCTIONS["convert_to_numpy"] = _of_arrays("convert_to_numpy", np.array)
