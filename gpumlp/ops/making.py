"""Arrays that are made, and numbers of other types."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from gpumlp import config
from gpumlp.expressions import Node, alike, truth
from gpumlp.ops.arithmetic import floor
from gpumlp.ops.choices import equal, where
from gpumlp.ops.kinds import Found, Given, Shape, either, floats


def zeros(shape: Shape, dtype: DTypeLike | None = None) -> np.ndarray:
    """An array of 0s.

    Parameters
    ----------
    shape : int or tuple of int
        The array's.
    dtype : dtype, optional
        None: the default floating-point type.

    Returns
    -------
    ndarray
        A new array.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.zeros(2)
    array([0., 0.], dtype=float32)
    """
    return np.zeros(shape, config.floatx() if dtype is None else dtype)


def ones(shape: Shape, dtype: DTypeLike | None = None) -> np.ndarray:
    """An array of 1s.

    Parameters
    ----------
    shape : int or tuple of int
        The array's.
    dtype : dtype, optional
        None: the default floating-point type.

    Returns
    -------
    ndarray
        A new array.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.ones(2)
    array([1., 1.], dtype=float32)
    """
    return np.ones(shape, config.floatx() if dtype is None else dtype)


@either
def zeros_like(x: Given, dtype: DTypeLike | None = None) -> Found:
    """0 for each number.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    dtype : dtype, optional
        None: x's.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.zeros_like([1.0, 2.0])
    array([0., 0.])
    """
    return alike(x, 0.0) if isinstance(x, Node) else np.zeros_like(x, dtype)


@either
def ones_like(x: Given, dtype: DTypeLike | None = None) -> Found:
    """1 for each number.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    dtype : dtype, optional
        None: x's.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.ones_like([1.0, 2.0])
    array([1., 1.])
    """
    return alike(x, 1.0) if isinstance(x, Node) else np.ones_like(x, dtype)


@either
def cast(x: Given, dtype: DTypeLike | None = None) -> Found:
    """x, of a type: whole numbers lose what is behind the point, truth values are 0 or 1.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    dtype : dtype, optional
        None: its own, or the default floating-point type.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    A formula is computed in the model's floating-point type, whichever is asked for.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.cast([1.9, -1.9], "int32")
    array([ 1, -1], dtype=int32)
    """
    if not isinstance(x, Node):
        array = np.asarray(x, dtype)
        return floats(x) if dtype is None and array.dtype.kind == "f" else array
    kind = "f" if dtype is None or "float" in str(dtype) else np.dtype(dtype).kind
    if kind == "b":
        return truth(x)
    return where(x < 0.0, -floor(-x), floor(x)) if kind in "iu" else x


@either
def convert_to_tensor(x: Given, dtype: DTypeLike | None = None, sparse: bool | None = None) -> Found:
    """x, as an array of a type.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    dtype : dtype, optional
        None: its own, or the default floating-point type.
    sparse : bool, optional
        Of no effect: all arrays are dense.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.convert_to_tensor([1.0, 2.0])
    array([1., 2.], dtype=float32)
    """
    return cast(x, dtype)


@either
def round(x: Given, decimals: int = 0) -> Found:
    """The nearest whole number, of two the even one.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    decimals : int, default 0
        On arrays: how many digits to keep behind the point.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    TypeError
        For decimals in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.round([0.5, 1.5, 2.4])
    array([0., 2., 2.], dtype=float32)
    """
    if not isinstance(x, Node):
        return np.round(floats(x), decimals)
    if decimals:
        raise TypeError(f"round of a formula gives whole numbers; got decimals={decimals!r}.")
    up = floor(x + 0.5)
    return up - equal(up, x + 0.5) * (up - 2.0 * floor(0.5 * up))  # halfway, and odd
