"""Arithmetic, number by number, in formulas and of arrays."""

from __future__ import annotations

import numpy as np

from gpumlp.expressions import Node
from gpumlp.expressions import power as raised
from gpumlp.ops.kinds import Found, Given, as_number, computed, either, either_of_two, floats, on_arrays


@either_of_two
def add(x1: Given, x2: Given) -> Found:
    """x1 + x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.add([1.0, 2.0], 3.0)
    array([4., 5.], dtype=float32)
    """
    return computed("add", np.add, x1, x2)


@either_of_two
def subtract(x1: Given, x2: Given) -> Found:
    """x1 - x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.subtract([1.0, 2.0], 3.0)
    array([-2., -1.], dtype=float32)
    """
    return computed("sub", np.subtract, x1, x2)


@either_of_two
def multiply(x1: Given, x2: Given) -> Found:
    """x1 * x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.multiply([1.0, 2.0], 3.0)
    array([3., 6.], dtype=float32)
    """
    return computed("mul", np.multiply, x1, x2)


@either_of_two
def divide(x1: Given, x2: Given) -> Found:
    """x1 / x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.divide([1.0, 2.0], 4.0)
    array([0.25, 0.5 ], dtype=float32)
    """
    return computed("div", np.true_divide, x1, x2)


@either
def negative(x: Given) -> Found:
    """-x.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.negative([-2.0, 3.0])
    array([ 2., -3.], dtype=float32)
    """
    return computed("neg", np.negative, x)


@either
def absolute(x: Given) -> Found:
    """What a number is without its sign.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.absolute([-2.0, 3.0])
    array([2., 3.], dtype=float32)
    """
    return computed("abs", np.absolute, x)


@either
def sign(x: Given) -> Found:
    """-1, 0 or 1.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.sign([-2.0, 0.0, 3.0])
    array([-1.,  0.,  1.], dtype=float32)
    """
    return computed("sign", np.sign, x)


@either
def floor(x: Given) -> Found:
    """The largest whole number that is not above x.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.floor([-1.5, 1.5])
    array([-2.,  1.], dtype=float32)
    """
    return computed("floor", np.floor, x)


@either
def ceil(x: Given) -> Found:
    """The smallest whole number that is not below x.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.ceil([-1.5, 1.5])
    array([-1.,  2.], dtype=float32)
    """
    return negative(floor(negative(x))) if isinstance(x, Node) else on_arrays(np.ceil, x)


@either
def square(x: Given) -> Found:
    """x * x.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.square([2.0, 3.0])
    array([4., 9.], dtype=float32)
    """
    return x * x if isinstance(x, Node) else np.square(floats(x))


@either_of_two
def power(x1: Given, x2: Given) -> Found:
    """x1 to the power of x2; of whole numbers up to 4 by products.

    Parameters
    ----------
    x1 : array_like or symbol
        The bases.
    x2 : array_like or symbol
        The exponents.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.power([2.0, 3.0], 2.0)
    array([4., 9.])
    """
    if isinstance(x1, Node) or isinstance(x2, Node):
        return raised(as_number(x1), as_number(x2))
    return np.power(floats(x1), floats(x2))


@either
def sqrt(x: Given) -> Found:
    """The square root.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.sqrt([4.0, 9.0])
    array([2., 3.], dtype=float32)
    """
    return computed("sqrt", np.sqrt, x)


@either
def reciprocal(x: Given) -> Found:
    """1 / x.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.reciprocal([2.0, 4.0])
    array([0.5 , 0.25], dtype=float32)
    """
    return divide(1.0, x)


@either
def rsqrt(x: Given) -> Found:
    """1 / sqrt(x).

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.rsqrt([4.0, 16.0])
    array([0.5 , 0.25], dtype=float32)
    """
    return divide(1.0, sqrt(x))


@either_of_two
def maximum(x1: Given, x2: Given) -> Found:
    """The larger of the two; NaN if one is.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Notes
    -----
    At a tie x2 has the slope.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.maximum([1.0, 5.0], 3.0)
    array([3., 5.], dtype=float32)
    """
    return computed("maximum", np.maximum, x1, x2)


@either_of_two
def minimum(x1: Given, x2: Given) -> Found:
    """The smaller of the two; NaN if one is.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In the shape that both have together.

    Notes
    -----
    At a tie x2 has the slope.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.minimum([1.0, 5.0], 3.0)
    array([1., 3.], dtype=float32)
    """
    return computed("minimum", np.minimum, x1, x2)


abs = absolute
true_divide = divide
