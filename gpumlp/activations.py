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
from gpumlp.naming import is_function, number, resolve, settle
from gpumlp.objectives import Check, axes, defaults, last, looked_at, new_array, some_axes, within
from gpumlp.saving import read_by, serialize_keras_object

# Farther out sigmoid and the normal distribution's CDF are 0 or 1 in every floating-point type, so a product with z may
# take FAR for z: no inf * 0, and no square that overflows.
FAR = 1000.0
NEAR = 30.0  # from here on tanh(log(1 + exp(z))) is 1, and exp(z)^2 does not overflow yet
ROOT_FAR = 1e18  # from here on sqrt(z^2 + b) is |z|, and z^2 does not overflow yet
SPARSEMAX_STEPS = 16
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # such that N(0, 1) has mean 0 and variance 1 again
GLU = (
    "glu halves the outputs, and an activation of a layer gives a number for each of them. activations.glu takes "
    "arrays; for a gate that keeps the width, silu is x * sigmoid(x)."
)


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
    along = axes(activation.name, z, some_axes("axis", axis))
    moved = np.moveaxis(z, along, range(-len(along), 0))
    found = activation(last(activation.name, z, along)).reshape(moved.shape)
    return np.moveaxis(found, range(-len(along), 0), along)


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


def _inside(y: Any, high: Any) -> Any:
    """1 between 0 and ``high``, else 0, at both too; NaN of NaN."""
    return ops.step(y) * ops.step(high - y)


def _relu_slope(y: Any, negative_slope: Any, max_value: Any, threshold: Any) -> Any:
    if not is_zero(negative_slope) or not is_zero(threshold):
        return None
    return ops.sign(y) if max_value is None else _inside(y, max_value)  # of y >= 0 the sign is 0 or 1, or NaN


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


def _relu6_slope(y: Any) -> Any:
    return _inside(y, 6.0)


@activation(_relu6_slope)
def relu6(x: Any) -> Any:
    """x between 0 and 6, and these beyond them."""
    return ops.clip(x, 0.0, 6.0)


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


def _selu_slope(y: Any) -> Any:
    return ops.where(y > 0.0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)


@activation(_selu_slope)
def selu(x: Any) -> Any:
    """The elu whose outputs keep mean 0 and variance 1 from layer to layer (Klambauer et al. 2017), scaled."""
    return ops.where(x < 0.0, SELU_SCALE * SELU_ALPHA * ops.expm1(x), SELU_SCALE * x)


def _celu_slope(y: Any, alpha: Any) -> Any:
    return ops.where(y > 0.0, 1.0, y / alpha + 1.0)


@activation(_celu_slope, alpha=within(0.0, above=True))
def celu(x: Any, alpha: Any = 1.0) -> Any:
    """x for x > 0, alpha * (exp(x / alpha) - 1) otherwise, of slope 1 at 0 for every alpha (Barron 2017)."""
    return ops.where(x < 0.0, alpha * ops.expm1(x / alpha), x)


@activation()
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return ops.tanh(x)


def _tanh_shrink_slope(z: Any) -> Any:
    return ops.square(ops.tanh(z))


@activation(_tanh_shrink_slope)
def tanh_shrink(x: Any) -> Any:
    """x - tanh(x)."""
    return x - ops.tanh(x)


def _hard_tanh_slope(z: Any) -> Any:
    return 1.0 - ops.step(ops.absolute(z) - 1.0)


@activation(_hard_tanh_slope)
def hard_tanh(x: Any) -> Any:
    """x between -1 and 1, and these beyond them; f'(-1) = f'(1) = 1."""
    return ops.clip(x, -1.0, 1.0)


# ---- what is 0 around 0 ----------------------------------------------------------------------------------------------
def _shrink_slope(y: Any, threshold: Any) -> Any:
    return ops.absolute(ops.sign(y))  # 0 or 1, and NaN stays NaN


@activation(_shrink_slope, threshold=within(0.0))
def soft_shrink(x: Any, threshold: Any = 0.5) -> Any:
    """x, nearer to 0 by ``threshold``, and 0 for what is no farther from it than that."""
    return x - ops.clip(x, -threshold, threshold)


@activation(_shrink_slope, threshold=within(0.0))
def hard_shrink(x: Any, threshold: Any = 0.5) -> Any:
    """x where |x| > threshold, else 0."""
    return x * ops.step(ops.absolute(x) - threshold)


def _threshold_slope(z: Any, threshold: Any, default_value: Any) -> Any:
    return ops.step(z - threshold)


@activation(_threshold_slope)
def threshold(x: Any, threshold: Any = 0.0, default_value: Any = 0.0) -> Any:
    """x above ``threshold``, else ``default_value``."""
    return ops.where(x <= threshold, default_value, x)


# ---- sigmoids --------------------------------------------------------------------------------------------------------


def _sigmoid_slope(y: Any) -> Any:
    return (1.0 - y) * y


@activation(_sigmoid_slope)
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(x)


def _log_sigmoid_slope(y: Any) -> Any:
    return -ops.expm1(y)  # 1 - sigmoid, where that is small too


@activation(_log_sigmoid_slope)
def log_sigmoid(x: Any) -> Any:
    """log(1 / (1 + exp(-x)))."""
    return ops.log_sigmoid(x)


def _hard_sigmoid_slope(y: Any) -> Any:
    return (1.0 / 6.0) * _inside(y, 1.0)


@activation(_hard_sigmoid_slope)
def hard_sigmoid(x: Any) -> Any:
    """x / 6 + 1/2 between 0 and 1, and these beyond them."""
    return ops.clip(x + 3.0, 0.0, 6.0) / 6.0


def _sparse_sigmoid_slope(y: Any) -> Any:
    return 0.5 * _inside(y, 1.0)


@activation(_sparse_sigmoid_slope)
def sparse_sigmoid(x: Any) -> Any:
    """(x + 1) / 2 between 0 and 1, and these beyond them (Blondel et al. 2019)."""
    return ops.clip(0.5 * (x + 1.0), 0.0, 1.0)


def _softsign_slope(z: Any) -> Any:
    return ops.square(1.0 / (1.0 + ops.absolute(z)))


@activation(_softsign_slope)
def softsign(x: Any) -> Any:
    """x / (1 + |x|)."""
    x = ops.finite(x)
    return x / (1.0 + ops.absolute(x))


# ---- what goes over a row --------------------------------------------------------------------------------------------
@activation()
def softmax(x: Any, axis: Any = -1) -> Any:
    """exp(x_j) / sum_k exp(x_k) over each row."""
    return ops.softmax(x, axis)


@activation()
def log_softmax(x: Any, axis: Any = -1) -> Any:
    """log(softmax(x)) over each row."""
    return ops.log_softmax(x, axis)


@activation()
def sparsemax(x: Any, axis: Any = -1) -> Any:
    """max(x - tau, 0) over each row, tau such that it adds up to 1: the nearest probabilities (Martins et al. 2016).

    tau is the zero of what is convex and made of straight lines: Newton's method comes to it from below, and stays.
    What is left of the sum is below row^2 / 4^SPARSEMAX_STEPS, and mostly nothing after a few steps.
    """
    x = ops.finite(x)
    x = ops.maximum(x - ops.stop_gradient(ops.max(x, axis, keepdims=True)), -1.0)
    tau: Any = -1.0
    for _ in range(SPARSEMAX_STEPS):
        inside = ops.greater(x, tau)
        tau = (ops.sum(x * inside, axis, keepdims=True) - 1.0) / ops.sum(inside, axis, keepdims=True)
    return ops.maximum(x - tau, 0.0)


def glu(x: Any, axis: int = -1) -> Any:
    """a * sigmoid(b) of the two halves a, b of arrays along an axis (Dauphin et al. 2017); no activation of a layer."""
    if isinstance(x, Node):
        raise TypeError(GLU)
    x = config.floats("x", x)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -x.ndim <= axis < x.ndim or x.shape[axis] % 2:
        raise ValueError(f"glu halves an axis of an even size; got axis={axis!r} of shape {x.shape}.")
    a, b = np.split(x, 2, axis)
    with np.errstate(all="ignore"):
        return a * ops.sigmoid(b)


# ---- what goes from 0 to x -------------------------------------------------------------------------------------------
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


def _mish_parts(z: Any) -> tuple[Any, Any]:
    """exp(z), and tanh(log(1 + exp(z))) = n / (n + 2) as that n; from NEAR on the latter is 1 in every type."""
    e = ops.exp(ops.minimum(z, NEAR))
    return e, e * (e + 2.0)


def _mish_slope(z: Any) -> Any:
    z = ops.clip(z, -FAR, NEAR)
    e, n = _mish_parts(z)
    rest = 2.0 / (n + 2.0)
    return n / (n + 2.0) + z * (e * (e + 1.0) * rest) * rest


@activation(_mish_slope)
def mish(x: Any) -> Any:
    """x * tanh(log(1 + exp(x))) (Misra 2019)."""
    _, n = _mish_parts(x)
    return ops.maximum(x, -FAR) * (n / (n + 2.0))


def _hard_silu_slope(z: Any) -> Any:
    return ops.where(z <= -3.0, 0.0, ops.where(z >= 3.0, 1.0, z / 3.0 + 0.5))


@activation(_hard_silu_slope, aliases=("hard_swish",))
def hard_silu(x: Any) -> Any:
    """x * hard_sigmoid(x) (Howard et al. 2019); f'(-3) = 0, f'(3) = 1."""
    return ops.maximum(x, -3.0) * (ops.clip(x + 3.0, 0.0, 6.0) / 6.0)


hard_swish = hard_silu


def _softplus_slope(y: Any) -> Any:
    return -ops.expm1(-y)  # the sigmoid, where that is small too


@activation(_softplus_slope)
def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return ops.softplus(x)


def _squareplus_slope(y: Any, b: Any) -> Any:
    return ops.sign(y) if is_zero(b) else 1.0 / (1.0 + 0.25 * b / (y * y))


@activation(_squareplus_slope, b=within(0.0))
def squareplus(x: Any, b: Any = 4.0) -> Any:
    """(x + sqrt(x^2 + b)) / 2 (Barron 2021)."""
    positive = ops.maximum(x, 0.0)
    if is_zero(b):
        return positive
    size = ops.absolute(x)
    root = ops.maximum(ops.sqrt(ops.square(ops.minimum(size, ROOT_FAR)) + b), size)
    return positive + 0.5 * b / (size + root)  # (root - |x|) / 2, as no difference


def _sparse_plus_slope(z: Any) -> Any:
    return ops.clip(0.5 * (z + 1.0), 0.0, 1.0)


@activation(_sparse_plus_slope)
def sparse_plus(x: Any) -> Any:
    """0 up to -1, (x + 1)^2 / 4 from there to 1, and x."""
    return 0.25 * ops.square(ops.clip(x, -1.0, 1.0) + 1.0) + ops.maximum(x - 1.0, 0.0)


@activation()
def exponential(x: Any) -> Any:
    """exp(x)."""
    return ops.exp(x)


# ---- names -----------------------------------------------------------------------------------------------------------
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
    if identifier is glu or identifier == "glu":
        raise TypeError(GLU)
    found: Any = resolve("activation", identifier, KNOWN, Activation, callables=True)
    found = Activation(found) if is_function(found, Activation) else found
    found.formula  # noqa: B018  what cannot be traced is told here
    return found


def serialize(activation: object) -> Any:
    """Return an activation as `get` takes it: a name, or a dict where there are constants or the function is a user's.

    TypeError for a function without a name.
    """
    found = get(activation)
    known = KNOWN.get(found.name)
    if known is None or known.function is not found.function:
        return serialize_keras_object(found.function)
    return found.name if found == known else {"class_name": found.name, "config": found.get_config()}


deserialize = read_by("keras.activations", get)
