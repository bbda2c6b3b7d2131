"""What goes along a row: in a formula, over a sample's outputs."""

from __future__ import annotations

import numpy as np

from gpumlp import config
from gpumlp.columns import WidthUnknown, joined
from gpumlp.expressions import ELEMENT, ROW, Node, count, flat, index, kept, make, mean_of
from gpumlp.ops.arithmetic import sqrt, square
from gpumlp.ops.kinds import Axis, Found, Given, either, floats


def _axes(axis: Axis) -> int | tuple[int, ...] | None:
    """Return axes as NumPy takes them."""
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


def _along(x: Node, axis: Axis, what: str) -> Node:
    """Return x, whose last axis is gone along; TypeError for any other."""
    last = axis[0] if isinstance(axis, (tuple, list)) and len(axis) == 1 else axis
    if x.table.one_row:
        if axis is None:
            return kept(x)
        raise TypeError(f"{what} goes over all of a regularizer's or update's array, or batch: no axis={axis!r}.")
    if last in (-1, 1) and not isinstance(last, bool) and not x.flat:
        return x
    raise TypeError(
        f"{what} of a formula goes along the last axis, a sample's outputs: {what}(x, axis=-1); got axis={axis!r}"
        + (" of an array that has lost it." if x.flat and last in (-1, 1) else ".")
        + " A model takes the mean over the batch. A loss of the whole batch has no axis in any of its reductions."
    )


def _reduced(node: Node, keepdims: bool) -> Node:
    return node if keepdims else flat(node)


@either
def sum(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The sum along the last axis.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=-1)
    array([3., 7.], dtype=float32)
    """
    if isinstance(x, Node):
        row = _along(x, axis, "sum")
        return _reduced(row if row.per == ROW else make("sum", row), keepdims)
    return np.sum(floats(x), axis=_axes(axis), keepdims=keepdims)


@either
def mean(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The mean along the last axis; without an axis, at a formula's end, that over the batch, too.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.mean([[1.0, 2.0], [3.0, 4.0]], axis=-1)
    array([1.5, 3.5], dtype=float32)
    """
    if isinstance(x, Node):
        if axis is None and not keepdims and not x.table.one_row:
            return mean_of(x)
        total = sum(x, axis, keepdims)
        return total if x.per == ROW else total / count(x)
    return np.mean(floats(x), axis=_axes(axis), keepdims=keepdims)


@either
def max(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The largest along the last axis; several share the slope.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.max([[1.0, 2.0], [4.0, 3.0]], axis=-1)
    array([2., 4.], dtype=float32)
    """
    if isinstance(x, Node):
        return _reduced(make("largest", _along(x, axis, "max")), keepdims)
    return np.max(floats(x), axis=_axes(axis), keepdims=keepdims)


@either
def min(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The smallest along the last axis; several share the slope.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.min([[1.0, 2.0], [4.0, 3.0]], axis=-1)
    array([1., 3.], dtype=float32)
    """
    if isinstance(x, Node):
        return _reduced(-make("largest", -_along(x, axis, "min")), keepdims)
    return np.min(floats(x), axis=_axes(axis), keepdims=keepdims)


@either
def var(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The variance along the last axis: the mean square of what differs from the mean.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Notes
    -----
    The biased one: a sum of squares divided by their number.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.var([[1.0, 3.0], [4.0, 4.0]], axis=-1)
    array([1., 0.], dtype=float32)
    """
    if isinstance(x, Node):
        return mean(square(x - mean(x, axis, True)), axis, keepdims)
    return np.var(floats(x), axis=_axes(axis), keepdims=keepdims)


@either
def std(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The standard deviation along the last axis.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Notes
    -----
    The biased one: of a sum of squares divided by their number.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.std([[1.0, 3.0], [4.0, 4.0]], axis=-1)
    array([1., 0.], dtype=float32)
    """
    return sqrt(var(x, axis, keepdims))


@either
def argmax(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """The place of the largest along the last axis.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Notes
    -----
    Of several the first; of NaN the first, if there is one.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.argmax([[1.0, 2.0], [4.0, 3.0]], axis=-1)
    array([1, 0])
    """
    if isinstance(x, Node):
        return _reduced(make("argmax", _along(x, axis, "argmax")), keepdims)
    if axis is not None and not isinstance(axis, int):
        (axis,) = axis
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))[()]


@either
def logsumexp(x: Given, axis: Axis = None, keepdims: bool = False) -> Found:
    """log(sum(exp(x))) along the last axis, without overflow.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.logsumexp([[1000.0, 1000.0]], axis=-1)
    array([1000.6932], dtype=float32)
    """
    if isinstance(x, Node):
        return _reduced(make("logsumexp", _along(x, axis, "logsumexp")), keepdims)
    z, along = floats(x), _axes(axis)
    top = np.max(z, axis=along, keepdims=True)
    with np.errstate(all="ignore"):
        result = np.log(np.sum(np.exp(z - top), axis=along, keepdims=True)) + top
    return result if keepdims else np.squeeze(result, axis=along)


@either
def norm(x: Given, ord: float | None = None, axis: Axis = None, keepdims: bool = False) -> Found:
    """The Euclidean length along the last axis; of a whole matrix with ord=2 its largest singular value.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    ord : int, optional
        2, or None.
    axis : int, optional
        In a formula -1, or 1; of arrays any, or several, and None for all.
    keepdims : bool, default False
        Whether the axis stays, of size 1.

    Returns
    -------
    ndarray or symbol
        One number a row.

    Raises
    ------
    TypeError
        For another axis of a formula.
    NotImplementedError
        For another norm.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.norm([[3.0, 4.0]], axis=-1)
    array([5.], dtype=float32)
    """
    if ord not in (None, 2):
        raise NotImplementedError(f"norm is the Euclidean one: ord=2; got ord={ord!r}.")
    if ord == 2 and axis is None and not isinstance(x, Node) and np.ndim(x) == 2:
        return np.asarray(np.linalg.norm(floats(x), 2, None, keepdims))[()]
    if ord == 2 and isinstance(x, Node) and x.table.one_row:
        raise NotImplementedError("norm with ord=2 is a matrix's largest singular value; leave ord out for a length.")
    return sqrt(sum(square(x), axis, keepdims))


@either
def softmax(x: Given, axis: Axis = -1) -> Found:
    """exp(x) / sum(exp(x)) along the last axis, without overflow.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, default -1
        In a formula -1, or 1; of arrays any.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    if isinstance(x, Node):
        return make("softmax", _along(x, axis, "softmax"))
    return np.exp(log_softmax(x, axis))


@either
def log_softmax(x: Given, axis: Axis = -1) -> Found:
    """log(softmax(x)) along the last axis, without overflow.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, default -1
        In a formula -1, or 1; of arrays any.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.log_softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[-6.931472e-01, -6.931472e-01],
           [ 0.000000e+00, -1.000000e+03]], dtype=float32)
    """
    if isinstance(x, Node):
        return make("log_softmax", _along(x, axis, "log_softmax"))
    z = floats(x)
    return z - logsumexp(z, axis, keepdims=True)


@either
def expand_dims(x: Given, axis: int) -> Found:
    """An axis of size 1 more.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int
        Where; in a formula -1: a number a row, [batch], becomes [batch, 1].

    Returns
    -------
    ndarray or symbol
        The same numbers.

    Raises
    ------
    TypeError
        For another axis of a formula.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.expand_dims([1.0, 2.0], -1)
    array([[1.],
           [2.]])
    """
    if not isinstance(x, Node):
        return np.expand_dims(x, axis)
    if axis not in (-1, 1) or not x.flat:
        raise TypeError(f"expand_dims of a formula makes [batch, 1] of [batch]: axis -1; got axis={axis!r}.")
    return kept(x)


@either
def squeeze(x: Given, axis: Axis = None) -> Found:
    """An axis of size 1 taken away.

    Parameters
    ----------
    x : array_like or symbol
        The numbers.
    axis : int, optional
        Which; in a formula the last. None: all of size 1.

    Returns
    -------
    ndarray or symbol
        The same numbers.

    Raises
    ------
    TypeError
        In a formula, for another axis, and for more than one number a row.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.squeeze([[1.0], [2.0]], -1)
    array([1., 2.])
    """
    if not isinstance(x, Node):
        return np.squeeze(x, _axes(axis))
    if axis not in (None, -1, 1) or x.per == ELEMENT:
        raise TypeError("squeeze of a formula makes [batch] of [batch, 1]: of one number a row, axis -1.")
    return flat(x)


@either
def one_hot(x: Given, num_classes: int | None = None, axis: int = -1) -> Found:
    """1 at the place that x says, else 0.

    Parameters
    ----------
    x : array_like or symbol
        Places, from 0; in a formula a number a row.
    num_classes : int, optional
        How many places there are; in a formula as many as outputs.
    axis : int, default -1
        The last: where the places are.

    Returns
    -------
    ndarray or symbol
        With an axis more, the last.

    Examples
    --------
    >>> from gpumlp import ops
    >>> ops.one_hot([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    if isinstance(x, Node):
        if num_classes is not None and num_classes != (outputs := x.table.outputs):
            if outputs is None:
                raise WidthUnknown("How many outputs there are is not known here; leave out num_classes to mean that.")
            return joined(x.table, [make("eq", kept(x), i) for i in range(num_classes)])
        return make("eq", index(x.table), kept(x))
    return np.eye(num_classes, dtype=config.floatx())[np.asarray(x, np.int64)]  # type: ignore[arg-type]


amax, amin = max, min
