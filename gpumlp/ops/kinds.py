"""What functions of formulas take: the symbols that a formula is traced with, and arrays, alike.

Of symbols they make symbols, of arrays arrays: `either` and `either_of_two` say so to type checkers.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeAlias, TypeGuard, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import config
from gpumlp.expressions import Node, Number, make

Given: TypeAlias = Node | ArrayLike
Found: TypeAlias = Node | np.ndarray  # of a number alone NumPy's scalar
Axis: TypeAlias = int | Sequence[int] | None
Shape: TypeAlias = int | Sequence[int]
P = ParamSpec("P")
ALONE = (bool, int, float, np.bool_)  # beside arrays these take their type


class OfFirst(Protocol[P]):
    """A function whose first argument says what it gives."""

    @overload
    def __call__(self, x: Node, /, *args: P.args, **kwargs: P.kwargs) -> Node: ...
    @overload
    def __call__(self, x: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> np.ndarray: ...


class OfTwo(Protocol):
    """A function of two numbers, which gives symbols if one of them is one."""

    @overload
    def __call__(self, x1: Node, x2: Given) -> Node: ...
    @overload
    def __call__(self, x1: Given, x2: Node) -> Node: ...
    @overload
    def __call__(self, x1: ArrayLike, x2: ArrayLike) -> np.ndarray: ...


def either(function: Callable[Concatenate[Given, P], Found]) -> OfFirst[P]:
    """Return the function itself, as one whose first argument says what it gives."""
    return cast("OfFirst[P]", function)


def either_of_two(function: Callable[[Given, Given], Found]) -> OfTwo:
    """Return the function itself, as one that gives symbols if one of two arguments is one."""
    return cast(OfTwo, function)


def traced(*args: object) -> bool:
    """Whether there is a symbol among the arguments."""
    return builtins.any(isinstance(a, Node) for a in args)


def floats(x: Given) -> np.ndarray:
    """Return x as an array of a floating-point type: its own, else the default one; of a number alone double."""
    if is_alone(x):
        return cast(np.ndarray, np.float64(x))
    array = np.asarray(x)
    plain = array.dtype.kind in "iub" or (array.dtype.kind == "f" and not hasattr(x, "dtype"))
    return array.astype(config.floatx()) if plain else array


def is_alone(x: object) -> TypeGuard[float]:
    """Whether x is one of Python's numbers."""
    return type(x) in ALONE


def computed(op: str, compute: Callable[..., np.ndarray], *x: Given) -> Found:
    """Return an operation on symbols, by its name, or what ``compute`` makes of arrays."""
    if traced(*x):
        return make(op, *x)
    return on_arrays(compute, *x)


def on_arrays(compute: Callable[..., np.ndarray], *x: Given) -> np.ndarray:
    """Return what ``compute`` makes of arrays, which become those of a floating-point type."""
    with np.errstate(all="ignore"):
        return compute(*(float(a) if is_alone(a) else floats(a) for a in x))


def as_found(x: Given) -> Found:
    """Return symbols as they are, and anything else as an array."""
    return x if isinstance(x, (Node, np.ndarray)) else np.asarray(x)


def as_number(x: Given) -> Number:
    """Return x as a formula's number: what is none, `make` refuses by name."""
    return cast(Number, x)


def symbol_first(x1: Given, x2: Given) -> tuple[Node, Number]:
    """Return two numbers, one of which is a symbol, that one first."""
    one, other = (x1, x2) if isinstance(x1, Node) else (x2, x1)
    return cast(Node, one), as_number(other)


def as_array(x: Given) -> ArrayLike:
    """Return x, which is no symbol, as what it is."""
    return cast(ArrayLike, x)
