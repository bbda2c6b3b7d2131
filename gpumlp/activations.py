"""Activations, each a function of the pre-activations x, with Keras's arguments, declared by a decorator.

`activation` makes of it an `Activation`: what is called on arrays, on symbols in a formula of a user's own, and what
kernels are made of. A new one is a function below and its textbook form in the tests. Its slope is derived; where
another form is cheaper, or holds farther out, or needs only the output, ``slope`` has it, of y or of z, as its argument
is called, and the tests hold it against the derived one.

Every value and slope holds for every number: far out it is the limit, also at infinity; NaN gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpumlp import config, formulas, ops, tape
from gpumlp.attributes import once
from gpumlp.expressions import Node
from gpumlp.formulas import is_zero
from gpumlp.naming import OWN, is_function, number, resolve, settle
from gpumlp.objectives import Check, defaults, looked_at, new_array, within

# Farther out sigmoid and the normal distribution's CDF are 0 or 1 in every floating-point type, so a product with z may
# take FAR for z: no inf * 0, and no square that overflows.
FAR = 1000.0


@dataclass(frozen=True)
class Activation:
    """A function of the pre-activations z[B, O], of each by itself or, as softmax, over a row.

    ``constants`` are all that it takes beside z, in its order. `given` has the same activation with others.
    """

    function: Callable[..., Any]
    slope: Callable[..., Any] | None = None
    constants: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        settle(self, __name__=name, __wrapped__=self.function, __doc__=self.function.__doc__)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.__name__  # type: ignore[attr-defined]

    def given(self, **constants: Any) -> Activation:
        """Return the activation with these constants, as ``elu.given(alpha=0.5)``; the others are as they were."""
        known = dict(self.constants)
        for name in constants:
            if name not in known:
                raise TypeError(f"{self.name} takes {', '.join(known) or 'no constants'}; got {name!r}.")
        checks = _CHECKS.get(self.function, {})
        found = tuple(looked_at(self.name, known, constants, checks).items())
        return self if found == self.constants else Activation(self.function, self.slope, found)

    def __call__(self, x: Any, *args: Any, **constants: Any) -> Any:
        """Return f(x) of a number or an array of any shape, lists too, in x's shape, or of symbols of a formula.

        float64 stays, everything else becomes the default floating-point type. Constants can be given after x, in
        Keras's order. What goes over a row goes over the last axis, or that of the constant ``axis``.
        """
        constants |= dict(zip(dict(self.constants), args, strict=False))
        if isinstance(x, Node):
            return self.function(x, **dict(self.constants) | constants)
        z, axis = config.floats("x", x), constants.pop("axis", -1)
        if axis != -1:
            return _over(self.given(**constants), z, axis)
        if constants:
            return self.given(**constants)(x)
        if z.ndim == 0 and self.rowwise:
            raise ValueError(f"{self.name} goes over the last axis: x must have one; got the number {z}.")
        rows = z.reshape(math.prod(z.shape[:-1]), *z.shape[-1:]) if z.ndim else z.reshape(1, 1)
        y = np.empty(rows.shape, z.dtype)
        if z.size:
            run = tape.tape(np, self.formula.forward).bind(rows.shape, rows.dtype, new_array)
            with np.errstate(all="ignore"):  # what overflows is infinite
                run(z=rows, y=y, **self.numbers)
        return y.reshape(z.shape)[()]

    def get_config(self) -> dict[str, Any]:
        """Return the constants by their Keras names."""
        return dict(self.constants)

    @once
    def formula(self) -> formulas.ActivationFormula:
        """What kernels are made of."""
        return formulas.activation(self.function, self.slope, dict(self.constants))

    @once
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of(dict(self.constants))

    @property
    def retains_input(self) -> bool:
        """Whether z is needed on the way back."""
        return self.formula.retains_input

    @property
    def rowwise(self) -> bool:
        """Whether it goes over the elements of a row, not of each by itself."""
        return self.formula.rowwise

    def __repr__(self) -> str:
        usual = defaults(self.function, 1)
        own = ", ".join(f"{name}={value!r}" for name, value in self.constants if value != usual[name])
        return f"{self.name}({own})" if own else self.name

    def __reduce__(self) -> Any:
        known = KNOWN.get(self.name)
        if known is not None and known.function is self.function:
            return _restored, (self.name, self.get_config())
        return Activation, (self.function, self.slope, self.constants)


def _restored(name: str, constants: Mapping[str, Any]) -> Activation:
    return KNOWN[name].given(**constants)


def _over(activation: Activation, z: np.ndarray, axis: object) -> np.ndarray:
    """Return what goes over rows over another axis, or over several together."""
    axes: Any = axis if isinstance(axis, tuple) else (axis,)
    good = all(isinstance(a, int) and -z.ndim <= a < z.ndim for a in axes)
    if not axes or not good or len({a % z.ndim for a in axes}) < len(axes):
        raise ValueError(f"axis must be one, or several, of x's {z.ndim} axes; got {axis!r}.")
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(z, axes, last)
    rows = moved.reshape(*moved.shape[: -len(axes)], math.prod(moved.shape[-len(axes) :]))
    return np.moveaxis(activation(rows).reshape(moved.shape), last, axes)


KNOWN: dict[str, Activation] = {}
_CHECKS: dict[Callable[..., Any], Mapping[str, Check]] = {}


def activation(
    slope: Callable[..., Any] | None = None, aliases: tuple[str, ...] = (), **checks: Check
) -> Callable[[Callable[..., Any]], Activation]:
    """Return a decorator that makes an Activation of f(x, constants), known by the function's name and ``aliases``.

    ``checks`` are functions by which constants are looked at, of their names and values; see `objectives.looked_at`.
    """

    def decorate(function: Callable[..., Any]) -> Activation:
        found = Activation(function, slope, tuple(defaults(function, 1).items()))
        _CHECKS[function] = checks
        KNOWN.update(dict.fromkeys((function.__name__, *aliases), found))
        return found

    return decorate


@activation()
def linear(x: Any) -> Any:
    """x."""
    return x


def _relu_slope(y: Any, negative_slope: Any, max_value: Any, threshold: Any) -> Any:
    plain = is_zero(negative_slope) and max_value is None and is_zero(threshold)
    return ops.sign(y) if plain else None  # y >= 0, so this is 0 or 1, and NaN stays NaN


def _limit(name: str, value: Any) -> float | None:
    return None if value is None else number(name, value, 0.0)


@activation(_relu_slope, max_value=_limit)
def relu(x: Any, negative_slope: Any = 0.0, max_value: Any = None, threshold: Any = 0.0) -> Any:
    """x above ``threshold``, at most ``max_value``, and negative_slope * (x - threshold) below; f'(0) = 0."""
    if is_zero(negative_slope) and is_zero(threshold):
        y = ops.maximum(x, 0.0)
        return y if max_value is None else ops.minimum(y, max_value)
    below = 0.0 if is_zero(negative_slope) else negative_slope * (x - threshold)
    return ops.where(x <= threshold, below, x if max_value is None else ops.minimum(x, max_value))


def _leaky_relu_slope(y: Any, negative_slope: Any) -> Any:
    return ops.where(y <= 0.0, negative_slope, ops.sign(y))


@activation(_leaky_relu_slope, negative_slope=within(0.0))  # so the sign of y tells the sign of x
def leaky_relu(x: Any, negative_slope: Any = 0.2) -> Any:
    """x for x > 0, negative_slope * x otherwise."""
    return ops.where(x < 0.0, negative_slope * x, x)


def _elu_slope(y: Any, alpha: Any) -> Any:
    return ops.where(y > 0.0, 1.0, y + alpha)  # with alpha = 0 the sign of y no longer tells, but both give 0 there


@activation(_elu_slope, alpha=within(0.0))
def elu(x: Any, alpha: Any = 1.0) -> Any:
    """x for x > 0, alpha * (exp(x) - 1) otherwise (Clevert et al. 2015)."""
    return ops.where(x < 0.0, alpha * ops.expm1(x), x)


@activation()
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return ops.tanh(x)


def _sigmoid_slope(y: Any) -> Any:
    return (1.0 - y) * y


@activation(_sigmoid_slope)
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(x)


@activation()
def softmax(x: Any, axis: Any = -1) -> Any:
    """exp(x_j) / sum_k exp(x_k) over each row."""
    return ops.softmax(x, axis)


def _cdf(z: Any, approximate: bool) -> Any:
    """The normal distribution's, or its approximation 0.5 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))."""
    if approximate:
        return 0.5 + 0.5 * ops.tanh(math.sqrt(2.0 / math.pi) * z * (1.0 + 0.044715 * (z * z)))
    return 0.5 + 0.5 * ops.erf(z * math.sqrt(0.5))


def _gelu_slope(z: Any, approximate: bool) -> Any:
    z = ops.clip(z, -FAR, FAR)
    cdf = _cdf(z, approximate)
    if approximate:  # cdf' = 2 cdf (1 - cdf) u', u the argument of tanh
        return cdf + z * (cdf * (1.0 - cdf)) * (math.sqrt(8.0 / math.pi) * (1.0 + 3 * 0.044715 * (z * z)))
    return cdf + z * (math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * (z * z)))  # cdf' is the normal density


@activation(_gelu_slope)
def gelu(x: Any, approximate: bool = False) -> Any:
    """x * Phi(x), Phi the normal distribution's CDF, or its tanh approximation (Hendrycks & Gimpel 2016)."""
    return ops.maximum(x, -FAR) * _cdf(ops.clip(x, -FAR, FAR), approximate)


def _silu_slope(z: Any) -> Any:
    z = ops.clip(z, -FAR, FAR)
    return ops.sigmoid(z) * (1.0 + z * ops.sigmoid(-z))  # not 1 - sigmoid(z): z would magnify its rounding


@activation(_silu_slope, aliases=("swish",))
def silu(x: Any) -> Any:
    """x * sigmoid(x) (Elfwing et al. 2017)."""
    return ops.maximum(x, -FAR) * ops.sigmoid(x)


swish = silu


def get(identifier: object) -> Activation:
    """Return the activation for a name, an `Activation`, a config dict, a user's function of x, or None (linear).

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, and for a function that is not made of gpumlp.ops.
    """
    if identifier is None:
        return linear
    if is_function(identifier, Activation):
        found = Activation(identifier)
    else:
        found = resolve("activation", identifier, KNOWN, Activation, OWN)
    found.formula  # noqa: B018  what cannot be traced is told here
    return found
