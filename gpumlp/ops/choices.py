"""Comparisons, choices and limits, number by number, in formulas and of arrays."""

from __future__ import annotations

import math
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from gpumlp.expressions import UNIFORM, Node, both, make
from gpumlp.ops.arithmetic import maximum, minimum
from gpumlp.ops.kinds import (
    Found,
    Given,
    as_array,
    as_found,
    computed,
    either,
    either_of_two,
    floats,
    symbol_first,
    traced,
)


@either_of_two
def less(x1: Given, x2: Given) -> Found:
    """Whether x1 < x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.less([1.0, 5.0], 3.0)
    array([ True, False])
    """
    return computed("lt", np.less, x1, x2)


@either_of_two
def less_equal(x1: Given, x2: Given) -> Found:
    """Whether x1 <= x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.less_equal([1.0, 3.0], 3.0)
    array([ True,  True])
    """
    return computed("le", np.less_equal, x1, x2)


@either_of_two
def greater(x1: Given, x2: Given) -> Found:
    """Whether x1 > x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.greater([1.0, 5.0], 3.0)
    array([False,  True])
    """
    return computed("lt", np.less, x2, x1)


@either_of_two
def greater_equal(x1: Given, x2: Given) -> Found:
    """Whether x1 >= x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.greater_equal([1.0, 3.0], 3.0)
    array([False,  True])
    """
    return computed("le", np.less_equal, x2, x1)


@either_of_two
def equal(x1: Given, x2: Given) -> Found:
    """Whether x1 = x2.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.equal([1.0, 3.0], 3.0)
    array([False,  True])
    """
    return computed("eq", np.equal, x1, x2)


@either_of_two
def not_equal(x1: Given, x2: Given) -> Found:
    """Whether x1 and x2 differ.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.not_equal([1.0, 3.0], 3.0)
    array([ True, False])
    """
    return 1.0 - equal(x1, x2) if traced(x1, x2) else np.logical_not(as_array(equal(x1, x2)))


@either_of_two
def logical_and(x1: Given, x2: Given) -> Found:
    """Whether neither is 0.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.logical_and([0.0, 2.0], 1.0)
    array([False,  True])
    """
    if isinstance(x1, Node) or isinstance(x2, Node):
        return both(*symbol_first(x1, x2))
    return np.logical_and(x1, x2)


@either_of_two
def logical_or(x1: Given, x2: Given) -> Found:
    """Whether one is not 0.

    Parameters
    ----------
    x1, x2 : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.logical_or([0.0, 2.0], 0.0)
    array([False,  True])
    """
    if isinstance(x1, Node) or isinstance(x2, Node):
        one, other = symbol_first(x1, x2)
        return one | other
    return np.logical_or(x1, x2)


@either
def logical_not(x: Given) -> Found:
    """Whether x is 0.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.logical_not([0.0, 2.0])
    array([ True, False])
    """
    return ~x if isinstance(x, Node) else np.logical_not(x)


@either
def isnan(x: Given) -> Found:
    """Whether x is NaN.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        True and False of arrays; 1 and 0 in a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.isnan([0.0, float("nan")])
    array([False,  True])
    """
    return not_equal(x, x)


@overload
def where(condition: Node, x1: Given, x2: Given) -> Node: ...
@overload
def where(condition: Given, x1: Node, x2: Given) -> Node: ...
@overload
def where(condition: Given, x1: Given, x2: Node) -> Node: ...
@overload
def where(condition: ArrayLike, x1: ArrayLike, x2: ArrayLike) -> np.ndarray: ...
def where(condition: Given, x1: Given, x2: Given) -> Found:
    """x1 where a condition holds, else x2.

    Parameters
    ----------
    condition : array_like or symbol
        It holds where this is not 0.
    x1, x2 : array_like or symbol
        What to choose from.

    Returns
    -------
    ndarray or symbol
        In the shape that all have together.

    Notes
    -----
    The slope of the other is 0, also where that is NaN.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.where([True, False], 1.0, 2.0)
    array([1., 2.])
    """
    if traced(condition, x1, x2):
        return make("where", condition, x1, x2)
    return np.where(np.asarray(condition) != 0, as_array(x1), as_array(x2))


@either
def clip(x: Given, x_min: Given | None, x_max: Given | None) -> Found:
    """x between two limits.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    x_min : array_like or symbol, or None
        What is smaller becomes it; None: no limit.
    x_max : array_like or symbol, or None
        What is larger becomes it; None: no limit.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    Beyond the limits, and at them, there is no slope.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.clip([-2.0, 0.5, 2.0], -1.0, 1.0)
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    x = x if x_min is None else maximum(x, x_min)
    return as_found(x if x_max is None else minimum(x, x_max))


@either
def bounded(x: Given, low: Given = -math.inf, high: Given = math.inf) -> Found:
    """x between two limits, which the slope does not know of.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    low : array_like or symbol, default -inf
        What is smaller becomes it.
    high : array_like or symbol, default inf
        What is larger becomes it.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    For limits beyond which nothing would change but overflow.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.bounded([-2.0, 0.5, 2.0], -1.0, 1.0)
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return make("bounded", x, low, high) if traced(x) else clip(x, low, high)


@either
def finite(x: Given) -> Found:
    """x, its infinities as the largest numbers there are.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    So no difference is NaN, and no product with 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import ops
    >>> ops.finite(np.array([1.0, np.inf]))
    array([1.00000000e+000, 1.79769313e+308])
    """
    if not isinstance(x, Node):
        most = np.finfo(floats(x).dtype).max
        return clip(x, -most, most)
    most = x.table.leaf("most", UNIFORM)
    return bounded(x, -most, most)


@either
def step(x: Given) -> Found:
    """1 above 0, else 0; NaN of NaN.

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
    >>> ops.step([-1.0, 0.0, 2.0])
    array([0., 0., 1.], dtype=float32)
    """
    return make("step", x) if traced(x) else np.maximum(np.sign(floats(x)), 0.0)


@either
def stop_gradient(variable: Given) -> Found:
    """x, as a number that does not depend on anything.

    Parameters
    ----------
    variable : array_like or symbol
        The numbers.

    Returns
    -------
    ndarray or symbol
        The same, of slope 0.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.stop_gradient([1.0, 2.0])
    array([1., 2.])
    """
    return make("held", variable) if traced(variable) else as_found(variable)
