"""From one limit to another one: sigmoids, and what is made of them."""

from __future__ import annotations

from gpumlp import ops
from gpumlp.activations.base import activation
from gpumlp.activations.rectifiers import inside
from gpumlp.expressions import Node


@activation()
def tanh(x: Node) -> Node:
    """The hyperbolic tangent.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.tanh([0.0, 1.0])
    array([0.       , 0.7615942], dtype=float32)
    """
    return ops.tanh(x)


def _tanh_shrink_slope(z: Node) -> Node:
    return ops.square(ops.tanh(z))


@activation(_tanh_shrink_slope)
def tanh_shrink(x: Node) -> Node:
    """x - tanh(x).

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.tanh_shrink([0.0, 1.0])
    array([0.        , 0.23840582], dtype=float32)
    """
    return x - ops.tanh(x)


def _hard_tanh_slope(z: Node) -> Node:
    return 1.0 - ops.step(ops.absolute(z) - 1.0)


@activation(_hard_tanh_slope)
def hard_tanh(x: Node) -> Node:
    """x between -1 and 1, and these beyond them.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    f'(-1) = f'(1) = 1.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.hard_tanh([-2.0, 0.5, 2.0])
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return ops.clip(x, -1.0, 1.0)


def _sigmoid_slope(y: Node) -> Node:
    return (1.0 - y) * y


@activation(_sigmoid_slope)
def sigmoid(x: Node) -> Node:
    """1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.sigmoid([0.0, -1000.0])
    array([5.00000e-01, 7.98831e-39], dtype=float32)
    """
    return ops.sigmoid(x)


def _log_sigmoid_slope(y: Node) -> Node:
    return -ops.expm1(y)  # 1 - sigmoid, where that is small too


@activation(_log_sigmoid_slope)
def log_sigmoid(x: Node) -> Node:
    """log(1 / (1 + exp(-x))).

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.log_sigmoid([0.0, -1000.0])
    array([-6.931472e-01, -1.000000e+03], dtype=float32)
    """
    return ops.log_sigmoid(x)


def _hard_sigmoid_slope(y: Node) -> Node:
    return (1.0 / 6.0) * inside(y, 1.0)


@activation(_hard_sigmoid_slope)
def hard_sigmoid(x: Node) -> Node:
    """x / 6 + 1/2 between 0 and 1, and these beyond them.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.hard_sigmoid([-9.0, 0.0, 9.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return ops.clip(x + 3.0, 0.0, 6.0) / 6.0


def _sparse_sigmoid_slope(y: Node) -> Node:
    return 0.5 * inside(y, 1.0)


@activation(_sparse_sigmoid_slope)
def sparse_sigmoid(x: Node) -> Node:
    """(x + 1) / 2 between 0 and 1, and these beyond them.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    Blondel et al. 2019.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.sparse_sigmoid([-9.0, 0.0, 9.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return ops.clip(0.5 * (x + 1.0), 0.0, 1.0)


def _softsign_slope(z: Node) -> Node:
    return ops.square(1.0 / (1.0 + ops.absolute(z)))


@activation(_softsign_slope)
def softsign(x: Node) -> Node:
    """x / (1 + abs(x)).

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.softsign([-1.0, 3.0])
    array([-0.5 ,  0.75], dtype=float32)
    """
    x = ops.finite(x)
    return x / (1.0 + ops.absolute(x))
