"""What of Keras's operations is of arrays alone: NumPy's functions by Keras's names, for callbacks and metrics.

`gpumlp.ops` has them beside what formulas are made of; no formula, which becomes kernels, can have one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpumlp import config
from gpumlp.expressions import Node

NAMES = """
    all any append arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmin argsort array average
    bincount broadcast_to ceil concatenate copy cosh count_nonzero cross cumprod cumsum diag diagonal diff
    digitize dot einsum exp2 eye flip floor_divide full full_like hstack identity isclose isfinite isinf
    linspace log10 log2 logical_xor logspace matmul median meshgrid mod moveaxis nan_to_num ndim nonzero outer
    pad prod quantile ravel repeat reshape roll shape sinh size sort split stack swapaxes take take_along_axis
    tan tensordot tile trace transpose tri tril triu trunc vdot vstack
""".split()


def _flat(given: Any) -> Iterator[Any]:
    for each in given:
        yield each
        if isinstance(each, (list, tuple)):
            yield from each


def _of_arrays(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays; doubles that it makes of no doubles become the default type, as Keras's are."""

    @functools.wraps(compute, assigned=(), updated=())
    def function(*args: Any, **kwargs: Any) -> Any:
        given = list(_flat([*args, *kwargs.values()]))
        if any(isinstance(each, Node) for each in given):
            raise TypeError(f"ops.{name} is of arrays alone: a formula, of which kernels are made, cannot have it.")
        found = compute(*args, **kwargs)
        made = getattr(found, "dtype", None) == np.float64 and kwargs.get("dtype") is None
        if not made or any(getattr(each, "dtype", None) == np.float64 for each in given):
            return found
        return found.astype(config.floatx())

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`numpy.{compute.__name__}`, of arrays alone."
    return function


FUNCTIONS = {name: _of_arrays(name, getattr(np, name)) for name in NAMES}
FUNCTIONS["convert_to_numpy"] = _of_arrays("convert_to_numpy", np.array)
