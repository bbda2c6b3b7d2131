"""x above 0, or what is like it, and less below; what is 0 around 0."""

from __future__ import annotations

from gpumlp import ops
from gpumlp.activations.base import Constant, activation
from gpumlp.expressions import Node
from gpumlp.formulas import is_zero
from gpumlp.naming import number
from gpumlp.objectives import within

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # such that N(0, 1) has mean 0 and variance 1 again


def inside(y: Node, high: Constant) -> Node:
    """1 between 0 and ``high``, else 0, at both too; NaN of NaN."""
    return ops.step(y) * ops.step(high - y)


def _limit(name: str, value: object) -> float | None:
    return None if value is None else number(name, value, 0.0)


def _relu_slope(y: Node, negative_slope: Constant, max_value: Constant | None, threshold: Constant) -> Node | None:
    if not is_zero(negative_slope) or not is_zero(threshold):
        return None
    return ops.sign(y) if max_value is None else inside(y, max_value)  # of y >= 0 the sign is 0 or 1, or NaN


@activation()
def linear(x: Node) -> Node:
    """x, as it is.

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
    >>> activations.linear([-1.0, 2.0])
    array([-1.,  2.], dtype=float32)
    """
    return x


@activation(_relu_slope, max_value=_limit)
def relu(x: Node, negative_slope: Constant = 0.0, max_value: Constant | None = None, threshold: Constant = 0.0) -> Node:
    """max(x, 0), or with other limits and slopes.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    negative_slope : float, default 0.0
        The slope below the threshold.
    max_value : float, optional
        What outputs are at most, at least 0; None: no limit.
    threshold : float, default 0.0
        Up to where x is not passed on.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For a negative max_value.

    Notes
    -----
    x above ``threshold``, at most ``max_value``, and negative_slope * (x - threshold) below; f'(0) = 0.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.relu([-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """
    if is_zero(negative_slope) and is_zero(threshold):
        y = ops.maximum(x, 0.0)
        return y if max_value is None else ops.minimum(y, max_value)
    below = 0.0 if is_zero(negative_slope) else negative_slope * (x - threshold)
    return ops.where(x <= threshold, below, x if max_value is None else ops.minimum(x, max_value))


def _relu6_slope(y: Node) -> Node:
    return inside(y, 6.0)


@activation(_relu6_slope)
def relu6(x: Node) -> Node:
    """x between 0 and 6, and these beyond them.

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
    f'(0) = f'(6) = 0.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.relu6([-1.0, 2.0, 9.0])
    array([0., 2., 6.], dtype=float32)
    """
    return ops.clip(x, 0.0, 6.0)


def _leaky_relu_slope(y: Node, negative_slope: Constant) -> Node:
    return ops.where(y <= 0.0, negative_slope, ops.sign(y))


@activation(_leaky_relu_slope, negative_slope=within(0.0))  # so the sign of y tells the sign of x
def leaky_relu(x: Node, negative_slope: Constant = 0.2) -> Node:
    """x for x > 0, negative_slope * x otherwise.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    negative_slope : float, default 0.2
        At least 0.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For a negative slope.

    Notes
    -----
    Maas et al. 2013.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.leaky_relu([-1.0, 2.0])
    array([-0.2,  2. ], dtype=float32)
    """
    return ops.where(x < 0.0, negative_slope * x, x)


def _elu_slope(y: Node, alpha: Constant) -> Node:
    return ops.where(y > 0.0, 1.0, y + alpha)  # with alpha = 0 the sign of y no longer tells, but both give 0 there


@activation(_elu_slope, alpha=within(0.0))
def elu(x: Node, alpha: Constant = 1.0) -> Node:
    """x for x > 0, alpha * (exp(x) - 1) otherwise.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    alpha : float, default 1.0
        How far below 0 outputs come, at least 0.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For a negative alpha.

    Notes
    -----
    Clevert et al. 2015.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.elu([-100.0, 2.0])
    array([-1.,  2.], dtype=float32)
    """
    return ops.where(x < 0.0, alpha * ops.expm1(x), x)


def _selu_slope(y: Node) -> Node:
    return ops.where(y > 0.0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)


@activation(_selu_slope)
def selu(x: Node) -> Node:
    """The elu whose outputs keep mean 0 and variance 1 from layer to layer, scaled.

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
    1.0507 * x for x > 0, 1.0507 * 1.67326 * (exp(x) - 1) otherwise, for weights by "lecun_normal" (Klambauer et al.
    2017).

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.selu([-100.0, 1.0])
    array([-1.7580993,  1.050701 ], dtype=float32)
    """
    return ops.where(x < 0.0, SELU_SCALE * SELU_ALPHA * ops.expm1(x), SELU_SCALE * x)


def _celu_slope(y: Node, alpha: Constant) -> Node:
    return ops.where(y > 0.0, 1.0, y / alpha + 1.0)


@activation(_celu_slope, alpha=within(0.0, above=True))
def celu(x: Node, alpha: Constant = 1.0) -> Node:
    """x for x > 0, alpha * (exp(x / alpha) - 1) otherwise.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    alpha : float, default 1.0
        How far below 0 outputs come, above 0.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For an alpha that is not above 0.

    Notes
    -----
    Of slope 1 at 0 for every alpha (Barron 2017).

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.celu([-100.0, 2.0], alpha=0.5)
    array([-0.5,  2. ], dtype=float32)
    """
    return ops.where(x < 0.0, alpha * ops.expm1(x / alpha), x)


def _shrink_slope(y: Node, threshold: Constant) -> Node:
    return ops.absolute(ops.sign(y))  # 0 or 1, and NaN stays NaN


@activation(_shrink_slope, threshold=within(0.0))
def soft_shrink(x: Node, threshold: Constant = 0.5) -> Node:
    """x, nearer to 0 by a threshold, and 0 for what is no farther from it than that.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    threshold : float, default 0.5
        At least 0.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For a negative threshold.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.soft_shrink([-2.0, 0.3, 2.0])
    array([-1.5,  0. ,  1.5], dtype=float32)
    """
    return x - ops.clip(x, -threshold, threshold)


@activation(_shrink_slope, threshold=within(0.0))
def hard_shrink(x: Node, threshold: Constant = 0.5) -> Node:
    """x where it is farther from 0 than a threshold, else 0.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    threshold : float, default 0.5
        At least 0.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Raises
    ------
    ValueError
        For a negative threshold.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.hard_shrink([-2.0, 0.3, 2.0])
    array([-2.,  0.,  2.], dtype=float32)
    """
    return x * ops.step(ops.absolute(x) - threshold)


def _threshold_slope(z: Node, threshold: Constant, default_value: Constant) -> Node:
    return ops.step(z - threshold)


@activation(_threshold_slope)
def threshold(x: Node, threshold: Constant = 0.0, default_value: Constant = 0.0) -> Node:
    """x above a threshold, else another number.

    Parameters
    ----------
    x : array_like or symbol
        The pre-activations.
    threshold : float, default 0.0
        The threshold.
    default_value : float, default 0.0
        The other number.

    Returns
    -------
    ndarray or symbol
        In x's shape.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.threshold([-2.0, 0.3, 2.0], 1.0, -1.0)
    array([-1., -1.,  2.], dtype=float32)
    """
    return ops.where(x <= threshold, default_value, x)
