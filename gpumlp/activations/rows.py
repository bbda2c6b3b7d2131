"""What goes over a row, and what halves it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import config, ops
from gpumlp.activations.base import Constant, activation
from gpumlp.expressions import Node

SPARSEMAX_STEPS = 16
GLU = (
    "glu halves the outputs, and an activation of a layer gives a number for each of them. activations.glu takes "
    "arrays; for a gate that keeps the width, silu is x * sigmoid(x)."
)


@activation()
def softmax(x: Node, axis: int = -1) -> Node:
    """exp(x_j) / sum_k exp(x_k) over each row: probabilities.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    axis : int or tuple of int, default -1
        What it goes over; in a layer the last, a sample's outputs.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For what is no axis of x.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    return ops.softmax(x, axis)


@activation()
def log_softmax(x: Node, axis: int = -1) -> Node:
    """log(softmax(x)) over each row.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    axis : int or tuple of int, default -1
        What it goes over; in a layer the last, a sample's outputs.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For what is no axis of x.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.log_softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[-6.931472e-01, -6.931472e-01],
           [ 0.000000e+00, -1.000000e+03]], dtype=float32)
    """
    return ops.log_softmax(x, axis)


@activation()
def sparsemax(x: Node, axis: int = -1) -> Node:
    """max(x - tau, 0) over each row, tau such that it adds up to 1: the nearest probabilities.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    axis : int or tuple of int, default -1
        What it goes over; in a layer the last, a sample's outputs.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For what is no axis of x.

    Notes
    -----
    tau is the zero of what is convex and made of straight lines: Newton's method comes to it from below, and stays.
    What is left of the sum is below row^2 / 4^16, and mostly nothing after a few steps (Martins & Astudillo 2016).

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.sparsemax([[0.5, 0.5, -1.0], [5.0, 0.0, 0.0]])
    array([[0.5, 0.5, 0. ],
           [1. , 0. , 0. ]], dtype=float32)
    """
    x = ops.finite(x)
    x = ops.maximum(x - ops.stop_gradient(ops.max(x, axis, keepdims=True)), -1.0)
    tau: Constant = -1.0
    for _ in range(SPARSEMAX_STEPS):
        inside = ops.greater(x, tau)
        tau = (ops.sum(x * inside, axis, keepdims=True) - 1.0) / ops.sum(inside, axis, keepdims=True)
    return ops.maximum(x - tau, 0.0)


def glu(x: ArrayLike, axis: int = -1) -> np.ndarray:
    """a * sigmoid(b) of the two halves a, b of arrays along an axis.

    Parameters
    ----------
    x : array_like
        Numbers, of any shape.
    axis : int, default -1
        The axis that is halved.

    Returns
    -------
    ndarray
        In x's shape, but for the axis that is halved.

    Raises
    ------
    ValueError
        For an axis that is none, or of an odd size.
    TypeError
        In a formula: an activation of a layer gives a number for each of its inputs.

    Notes
    -----
    Dauphin et al. 2017.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.glu([[1.0, 0.0]])
    array([[0.5]], dtype=float32)
    """
    if isinstance(x, Node):
        raise TypeError(GLU)
    z = config.floats("x", x)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -z.ndim <= axis < z.ndim or z.shape[axis] % 2:
        raise ValueError(f"glu halves an axis of an even size; got axis={axis!r} of shape {z.shape}.")
    a, b = np.split(z, 2, axis)
    with np.errstate(all="ignore"):
        return a * ops.sigmoid(b)
