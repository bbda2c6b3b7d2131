"""What goes from 0 to x, smoothly; and exp."""

from __future__ import annotations

import math

from gpumlp import ops
from gpumlp.activations.base import Constant, activation
from gpumlp.expressions import Node
from gpumlp.formulas import is_zero
from gpumlp.objectives import within

# Farther out sigmoid and the normal distribution's CDF are 0 or 1 in every floating-point type, so a product with z may
# take FAR for z: no inf * 0, and no square that overflows.
FAR = 1000.0
NEAR = 30.0  # from here on tanh(log(1 + exp(z))) is 1, and exp(z)^2 does not overflow yet
ROOT_FAR = 1e18  # from here on sqrt(z^2 + b) is |z|, and z^2 does not overflow yet


def _cdf(z: Node, approximate: bool) -> Node:
    """The normal distribution's, or its approximation 0.5 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))."""
    if approximate:
        return 0.5 + 0.5 * ops.tanh(math.sqrt(2.0 / math.pi) * z * (1.0 + 0.044715 * (z * z)))
    return 0.5 + 0.5 * ops.erf(z * math.sqrt(0.5))


def _gelu_slope(z: Node, approximate: bool) -> Node:
    z = ops.clip(z, -FAR, FAR)
    cdf = _cdf(z, approximate)
    if approximate:  # cdf' = 2 cdf (1 - cdf) u', u the argument of tanh
        return cdf + z * (cdf * (1.0 - cdf)) * (math.sqrt(8.0 / math.pi) * (1.0 + 3 * 0.044715 * (z * z)))
    return cdf + z * (math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * (z * z)))  # cdf' is the normal density


@activation(_gelu_slope)
def gelu(x: Node, approximate: bool = False) -> Node:
    """x * Phi(x), Phi the normal distribution's CDF.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    approximate : bool, default False
        Whether Phi is 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Notes
    -----
    Hendrycks & Gimpel 2016.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.gelu([-1.0, 1.0])
    array([-0.15865523,  0.8413448 ], dtype=float32)
    """
    return ops.maximum(x, -FAR) * _cdf(ops.clip(x, -FAR, FAR), approximate)


def _silu_slope(z: Node) -> Node:
    z = ops.clip(z, -FAR, FAR)
    return ops.sigmoid(z) * (1.0 + z * ops.sigmoid(-z))  # not 1 - sigmoid(z): z would magnify its rounding


@activation(_silu_slope, aliases=("swish",))
def silu(x: Node) -> Node:
    """x * sigmoid(x); `swish` is the same.

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
    Elfwing et al. 2017.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.silu([-1.0, 1.0])
    array([-0.2689414,  0.7310586], dtype=float32)
    """
    return ops.maximum(x, -FAR) * ops.sigmoid(x)


swish = silu


def _mish_parts(z: Node) -> tuple[Node, Node]:
    """exp(z), and tanh(log(1 + exp(z))) = n / (n + 2) as that n; from NEAR on the latter is 1 in every type."""
    e = ops.exp(ops.minimum(z, NEAR))
    return e, e * (e + 2.0)


def _mish_slope(z: Node) -> Node:
    z = ops.clip(z, -FAR, NEAR)
    e, n = _mish_parts(z)
    rest = 2.0 / (n + 2.0)
    return n / (n + 2.0) + z * (e * (e + 1.0) * rest) * rest


@activation(_mish_slope)
def mish(x: Node) -> Node:
    """x * tanh(log(1 + exp(x))).

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
    Misra 2019.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.mish([-1.0, 1.0])
    array([-0.30340144,  0.8650984 ], dtype=float32)
    """
    _, n = _mish_parts(x)
    return ops.maximum(x, -FAR) * (n / (n + 2.0))


def _hard_silu_slope(z: Node) -> Node:
    return ops.where(z <= -3.0, 0.0, ops.where(z >= 3.0, 1.0, z / 3.0 + 0.5))


@activation(_hard_silu_slope, aliases=("hard_swish",))
def hard_silu(x: Node) -> Node:
    """x * hard_sigmoid(x); `hard_swish` is the same.

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
    f'(-3) = 0, f'(3) = 1 (Howard et al. 2019).

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.hard_silu([-9.0, 1.0, 9.0])
    array([-0.       ,  0.6666667,  9.       ], dtype=float32)
    """
    return ops.maximum(x, -3.0) * (ops.clip(x + 3.0, 0.0, 6.0) / 6.0)


hard_swish = hard_silu


def _softplus_slope(y: Node) -> Node:
    return -ops.expm1(-y)  # the sigmoid, where that is small too


@activation(_softplus_slope)
def softplus(x: Node) -> Node:
    """log(1 + exp(x)).

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
    >>> activations.softplus([0.0, 1000.0])
    array([6.931472e-01, 1.000000e+03], dtype=float32)
    """
    return ops.softplus(x)


def _squareplus_slope(y: Node, b: Constant) -> Node:
    return ops.sign(y) if is_zero(b) else 1.0 / (1.0 + 0.25 * b / (y * y))


@activation(_squareplus_slope, b=within(0.0))
def squareplus(x: Node, b: Constant = 4.0) -> Node:
    """(x + sqrt(x^2 + b)) / 2.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    b : float, default 4.0
        How round it is at 0, at least 0.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For a negative b.

    Notes
    -----
    Barron 2021.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.squareplus([0.0, 3.0])
    array([1.       , 3.3027756], dtype=float32)
    """
    positive = ops.maximum(x, 0.0)
    if is_zero(b):
        return positive
    size = ops.absolute(x)
    root = ops.maximum(ops.sqrt(ops.square(ops.minimum(size, ROOT_FAR)) + b), size)
    return positive + 0.5 * b / (size + root)  # (root - |x|) / 2, as no difference


def _sparse_plus_slope(z: Node) -> Node:
    return ops.clip(0.5 * (z + 1.0), 0.0, 1.0)


@activation(_sparse_plus_slope)
def sparse_plus(x: Node) -> Node:
    """0 up to -1, (x + 1)^2 / 4 from there to 1, and x.

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
    >>> activations.sparse_plus([-2.0, 0.0, 2.0])
    array([0.  , 0.25, 2.  ], dtype=float32)
    """
    return 0.25 * ops.square(ops.clip(x, -1.0, 1.0) + 1.0) + ops.maximum(x - 1.0, 0.0)


@activation()
def exponential(x: Node) -> Node:
    """exp(x).

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
    >>> activations.exponential([0.0, 1.0])
    array([1.      , 2.718282], dtype=float32)
    """
    return ops.exp(x)
