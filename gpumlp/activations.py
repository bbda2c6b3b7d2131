"""Activation functions: a description (name and constants), its value and its gradient.

Each is written once over an array namespace ``xp`` (NumPy or CuPy). ``forward`` writes ``y`` from the pre-activation
``z``; ``backward`` turns the gradient ``dy`` into ``dz`` in place. Gradients come from the retained OUTPUT ``y`` where
that is possible, so that no pre-activation and no mask is stored; ``retains_input`` marks the ones that need ``z``.
``scratch(i, shape, dtype)`` gives work array number i. Kernels of other backends read ``name`` and the constants.

Every value and slope holds for every number: far out it is the limit, also at infinity; NaN gives NaN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.attributes import refuse_overrides
from gpumlp.erf import erf
from gpumlp.naming import OWN, flag, number, resolve, settle

Array = Any
Scratch = Callable[..., Any]
# Farther out sigmoid and the normal distribution's CDF are 0 or 1 in every floating-point type, so a product with z may
# take FAR for z: no inf * 0, and no square that overflows.
FAR = 1000.0


# ---- the formulas, each once: f(z, constants), and f' where another form than the derived one is wanted --------------
def _linear(z: Any) -> Any:
    return z


def _relu(z: Any) -> Any:
    return ops.maximum(z, 0.0)


def _leaky_relu(z: Any, negative_slope: Any) -> Any:
    return ops.where(z < 0.0, negative_slope * z, z)


def _leaky_relu_slope(y: Any, negative_slope: Any) -> Any:
    return ops.where(y > 0.0, 1.0, ops.where(ops.equal(y, y), negative_slope, y))


def _elu(z: Any, alpha: Any) -> Any:
    return ops.where(z < 0.0, alpha * ops.expm1(z), z)


def _elu_slope(y: Any, alpha: Any) -> Any:
    return ops.where(y > 0.0, 1.0, y + alpha)


def _tanh(z: Any) -> Any:
    return ops.tanh(z)


def _sigmoid_value(z: Any) -> Any:
    return ops.sigmoid(z)


def _sigmoid_slope(y: Any) -> Any:
    return (1.0 - y) * y


def _softmax(z: Any) -> Any:
    return ops.softmax(z)


def _cdf(z: Any, approximate: bool) -> Any:
    """The normal distribution's, or its approximation 0.5 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))."""
    if approximate:
        return 0.5 + 0.5 * ops.tanh(math.sqrt(2.0 / math.pi) * z * (1.0 + 0.044715 * (z * z)))
    return 0.5 + 0.5 * ops.erf(z * math.sqrt(0.5))


def _gelu(z: Any, approximate: bool) -> Any:
    return ops.maximum(z, -FAR) * _cdf(ops.clip(z, -FAR, FAR), approximate)


def _gelu_slope(z: Any, approximate: bool) -> Any:
    z = ops.clip(z, -FAR, FAR)
    cdf = _cdf(z, approximate)
    if approximate:  # cdf' = 2 cdf (1 - cdf) u', u the argument of tanh
        return cdf + z * (cdf * (1.0 - cdf)) * (math.sqrt(8.0 / math.pi) * (1.0 + 3 * 0.044715 * (z * z)))
    return cdf + z * (math.sqrt(0.5 / math.pi) * ops.exp(-0.5 * (z * z)))  # cdf' is the normal density


def _silu(z: Any) -> Any:
    return ops.maximum(z, -FAR) * ops.sigmoid(z)


def _silu_slope(z: Any) -> Any:
    z = ops.clip(z, -FAR, FAR)
    return ops.sigmoid(z) * (1.0 + z * ops.sigmoid(-z))  # not 1 - sigmoid(z): z would magnify its rounding


# By the activation's name: f, and f' of y or z, as its argument is called; None: as it is derived.
FORMULAS: Mapping[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {
    "linear": (_linear, None), "relu": (_relu, None), "leaky_relu": (_leaky_relu, _leaky_relu_slope),
    "elu": (_elu, _elu_slope), "tanh": (_tanh, None), "sigmoid": (_sigmoid_value, _sigmoid_slope),
    "softmax": (_softmax, None), "gelu": (_gelu, _gelu_slope), "silu": (_silu, _silu_slope),
}  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """An elementwise (or, for softmax, row-wise) function of the pre-activations z[B, O]."""

    name: ClassVar[str] = ""
    retains_input: ClassVar[bool] = False
    rowwise: ClassVar[bool] = False  # over the elements of a row, not of each by itself

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        """Write f(z) into ``y``; ``y`` may be ``z`` itself unless ``retains_input``."""
        raise NotImplementedError

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        """Overwrite ``dy`` with dz = dy * f'(z)."""
        raise NotImplementedError

    def __call__(self, x: object) -> Any:
        """Return f(x) of a number or an array of any shape, lists too, in x's shape; softmax goes over the last axis.

        float64 stays, everything else becomes the default floating-point type. Constants that a function of Keras takes
        after x can be given here, too, in its order.
        """
        z = config.floats("x", x)
        if z.ndim == 0 and self.rowwise:
            raise ValueError(f"{self.name} goes over the last axis: x must have one; got the number {z}.")
        rows = z.reshape(math.prod(z.shape[:-1]), *z.shape[-1:]) if z.ndim else z.reshape(1, 1)
        y = np.empty(rows.shape, z.dtype)
        if z.size:
            with np.errstate(all="ignore"):  # what overflows is infinite
                self.forward(np, rows.copy(), y, lambda i, shape, dtype: np.empty(shape, dtype))
        return y.reshape(z.shape)[()]

    def get_config(self) -> dict[str, Any]:
        """Return the constants by their Keras names."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @property
    def formula(self) -> formulas.ActivationFormula:
        """What kernels are made of."""
        return formulas.activation(*FORMULAS[self.name], self.get_config())

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of(self.get_config())


@dataclass(frozen=True)
class Linear(Activation):
    """f(z) = z."""

    name = "linear"

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        if y is not z:
            y[...] = z

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        pass


@dataclass(frozen=True)
class Relu(Activation):
    """f(z) = max(z, 0), with f'(0) = 0."""

    name = "relu"

    def __call__(
        self, x: object, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
    ) -> Any:
        """Return x above ``threshold``, at most ``max_value``, and negative_slope * (x - threshold) below it."""
        slope, start = number("negative_slope", negative_slope), number("threshold", threshold)
        most = math.inf if max_value is None else number("max_value", max_value, 0.0)
        z = config.floats("x", x)
        with np.errstate(all="ignore"):
            below = slope * (z - start) if slope else np.where(np.isnan(z), z, 0.0)  # no 0 * -inf
            return np.where(z > start, np.minimum(z, most), below).astype(z.dtype)[()]

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        xp.maximum(z, 0.0, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        mask = scratch(0, dy.shape, dy.dtype)
        xp.sign(y, out=mask)  # y >= 0, so this is 0 or 1, and NaN stays NaN
        xp.multiply(dy, mask, out=dy)


def _positive(xp: Any, y: Array, out: Array) -> None:
    """Write 1 where y > 0, else 0, NaN for NaN: factors that choose, where a sum with 1 - slope would lose the 1."""
    xp.sign(y, out=out)
    xp.maximum(out, 0.0, out=out)


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """f(z) = z for z > 0, negative_slope * z otherwise."""

    name = "leaky_relu"
    negative_slope: float = 0.2

    def __post_init__(self) -> None:  # the sign of y must tell the sign of z
        settle(self, negative_slope=number("negative_slope", self.negative_slope, 0.0))

    def __call__(self, x: object, negative_slope: float | None = None) -> Any:
        """Return `Activation.__call__`, with another ``negative_slope`` where one is given."""
        return super().__call__(x) if negative_slope is None else LeakyRelu(negative_slope)(x)

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        negative = scratch(0, z.shape, z.dtype)
        xp.minimum(z, 0.0, out=negative)
        xp.multiply(negative, self.negative_slope, out=negative)
        xp.maximum(z, 0.0, out=y)
        xp.add(y, negative, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        slope, positive = scratch(0, dy.shape, dy.dtype), scratch(1, dy.shape, dy.dtype)
        _positive(xp, y, positive)
        xp.subtract(1.0, positive, out=slope)
        xp.multiply(slope, self.negative_slope, out=slope)
        xp.add(slope, positive, out=slope)
        xp.multiply(dy, slope, out=dy)


@dataclass(frozen=True)
class Elu(Activation):
    """f(z) = z for z > 0, alpha * (exp(z) - 1) otherwise (Clevert et al. 2015)."""

    name = "elu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        settle(self, alpha=number("alpha", self.alpha, 0.0))

    def __call__(self, x: object, alpha: float | None = None) -> Any:
        """Return `Activation.__call__`, with another ``alpha`` where one is given."""
        return super().__call__(x) if alpha is None else Elu(alpha)(x)

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        negative = scratch(0, z.shape, z.dtype)
        xp.minimum(z, 0.0, out=negative)
        xp.expm1(negative, out=negative)
        xp.multiply(negative, self.alpha, out=negative)
        xp.maximum(z, 0.0, out=y)
        xp.add(y, negative, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        # f' = 1 above zero, f + alpha below it. With alpha = 0 the sign of y no longer tells, but both give 0 there.
        slope, positive, negative = (scratch(i, dy.shape, dy.dtype) for i in range(3))
        _positive(xp, y, positive)
        xp.subtract(1.0, positive, out=negative)
        xp.minimum(y, 0.0, out=slope)
        xp.add(slope, self.alpha, out=slope)
        xp.multiply(slope, negative, out=slope)
        xp.add(slope, positive, out=slope)
        xp.multiply(dy, slope, out=dy)


@dataclass(frozen=True)
class Tanh(Activation):
    """f(z) = tanh(z)."""

    name = "tanh"

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        xp.tanh(z, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        slope = scratch(0, dy.shape, dy.dtype)
        xp.multiply(y, y, out=slope)
        xp.subtract(1.0, slope, out=slope)
        xp.multiply(dy, slope, out=dy)


def _sigmoid(xp: Any, z: Array, out: Array) -> None:
    # By exp rather than tanh: 0.5 + 0.5 tanh would lose the small values, which a logarithm is taken of, or a product
    # with a large z. exp may overflow to infinity for z < -88 (float32), which gives the right 0; the limit avoids the
    # warning.
    low = -math.log(float(np.finfo(z.dtype).max)) + 1.0
    xp.maximum(z, low, out=out)
    xp.negative(out, out=out)
    xp.exp(out, out=out)
    xp.add(out, 1.0, out=out)
    xp.reciprocal(out, out=out)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(z) = 1 / (1 + exp(-z))."""

    name = "sigmoid"

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        _sigmoid(xp, z, y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        slope = scratch(0, dy.shape, dy.dtype)
        xp.subtract(1.0, y, out=slope)
        xp.multiply(slope, y, out=slope)
        xp.multiply(dy, slope, out=dy)


def bound(xp: Any, z: Array, out: Array) -> None:
    """Write z, its infinities as the largest numbers: no difference is NaN, and no product with a target of 0."""
    most = float(np.finfo(z.dtype).max)
    xp.clip(z, -most, most, out=out)


@dataclass(frozen=True)
class Softmax(Activation):
    """f(z)_j = exp(z_j) / sum_k exp(z_k) over each row."""

    name = "softmax"
    rowwise = True

    def __call__(self, x: object, axis: int | tuple[int, ...] = -1) -> Any:
        """Return `Activation.__call__`, over another ``axis``, or over several together, where they are given."""
        if axis == -1:
            return super().__call__(x)
        array = config.floats("x", x)
        axes = axis if isinstance(axis, tuple) else (axis,)
        good = all(isinstance(a, int) and -array.ndim <= a < array.ndim for a in axes)
        if not axes or not good or len({a % array.ndim for a in axes}) < len(axes):
            raise ValueError(f"axis must be one, or several, of x's {array.ndim} axes; got {axis!r}.")
        last = tuple(range(-len(axes), 0))
        moved = np.moveaxis(array, axes, last)
        rows = moved.reshape(*moved.shape[: -len(axes)], math.prod(moved.shape[-len(axes) :]))
        return np.moveaxis(super().__call__(rows).reshape(moved.shape), last, axes)

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        row = scratch(0, (z.shape[0], 1), z.dtype)
        bound(xp, z, y)
        xp.max(y, axis=1, keepdims=True, out=row)
        xp.subtract(y, row, out=y)
        xp.exp(y, out=y)
        xp.sum(y, axis=1, keepdims=True, out=row)
        xp.divide(y, row, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        row, product = scratch(0, (dy.shape[0], 1), dy.dtype), scratch(1, dy.shape, dy.dtype)
        xp.multiply(dy, y, out=product)
        xp.sum(product, axis=1, keepdims=True, out=row)
        xp.subtract(dy, row, out=dy)
        xp.multiply(dy, y, out=dy)


@dataclass(frozen=True)
class Gelu(Activation):
    """f(z) = z * Phi(z), Phi the normal distribution's CDF, or its tanh approximation (Hendrycks & Gimpel 2016)."""

    name = "gelu"
    retains_input = True
    approximate: bool = False

    def __post_init__(self) -> None:
        settle(self, approximate=flag("approximate", self.approximate))

    def __call__(self, x: object, approximate: bool | None = None) -> Any:
        """Return `Activation.__call__`, in the form that ``approximate`` says where it is given."""
        return super().__call__(x) if approximate is None else Activation.__call__(Gelu(approximate), x)

    def _cdf(self, xp: Any, z: Array, out: Array, scratch: Scratch, first: int) -> None:
        if self.approximate:  # 0.5 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
            xp.multiply(z, z, out=out)
            xp.multiply(out, 0.044715, out=out)
            xp.add(out, 1.0, out=out)
            xp.multiply(out, z, out=out)
            xp.multiply(out, math.sqrt(2.0 / math.pi), out=out)
            xp.tanh(out, out=out)
        else:
            scaled = scratch(first, z.shape, z.dtype)
            xp.multiply(z, math.sqrt(0.5), out=scaled)
            erf(xp, scaled, out, scratch, first + 1)
        xp.multiply(out, 0.5, out=out)
        xp.add(out, 0.5, out=out)

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        near = scratch(0, z.shape, z.dtype)
        xp.clip(z, -FAR, FAR, out=near)
        self._cdf(xp, near, y, scratch, 1)
        xp.maximum(z, -FAR, out=near)
        xp.multiply(y, near, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        assert z is not None
        cdf, slope, near = (scratch(i, z.shape, z.dtype) for i in range(3))
        xp.clip(z, -FAR, FAR, out=near)
        z = near
        self._cdf(xp, z, cdf, scratch, 3)
        if self.approximate:  # cdf' = 2 cdf (1 - cdf) u',  u' = sqrt(2/pi) (1 + 3 * 0.044715 z^2)
            factor = scratch(3, z.shape, z.dtype)
            xp.multiply(z, z, out=slope)
            xp.multiply(slope, 3 * 0.044715, out=slope)
            xp.add(slope, 1.0, out=slope)
            xp.multiply(slope, 2.0 * math.sqrt(2.0 / math.pi), out=slope)
            xp.subtract(1.0, cdf, out=factor)
            xp.multiply(slope, factor, out=slope)
            xp.multiply(slope, cdf, out=slope)
        else:  # cdf' = the normal density
            xp.multiply(z, z, out=slope)
            xp.multiply(slope, -0.5, out=slope)
            xp.exp(slope, out=slope)
            xp.multiply(slope, 1.0 / math.sqrt(2.0 * math.pi), out=slope)
        xp.multiply(slope, z, out=slope)
        xp.add(slope, cdf, out=slope)
        xp.multiply(dy, slope, out=dy)


@dataclass(frozen=True)
class Silu(Activation):
    """f(z) = z * sigmoid(z) (Elfwing et al. 2017)."""

    name = "silu"
    retains_input = True

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        near = scratch(0, z.shape, z.dtype)
        xp.maximum(z, -FAR, out=near)
        _sigmoid(xp, near, y)
        xp.multiply(y, near, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        assert z is not None
        s, slope, near = (scratch(i, z.shape, z.dtype) for i in range(3))
        xp.clip(z, -FAR, FAR, out=near)
        _sigmoid(xp, near, s)
        xp.negative(near, out=slope)
        _sigmoid(xp, slope, slope)  # 1 - s, without the difference's rounding, which z would magnify
        xp.multiply(slope, near, out=slope)
        xp.add(slope, 1.0, out=slope)
        xp.multiply(slope, s, out=slope)  # s' z + s = s (1 + z (1 - s))
        xp.multiply(dy, slope, out=dy)


linear, relu, leaky_relu, elu = Linear(), Relu(), LeakyRelu(), Elu()
tanh, sigmoid, softmax, gelu, silu = Tanh(), Sigmoid(), Softmax(), Gelu(), Silu()
swish = silu

KNOWN: Mapping[str, Activation] = {
    **{a.name: a for a in (linear, relu, leaky_relu, elu, tanh, sigmoid, softmax, gelu, silu)},
    "swish": silu,
}


def get(identifier: object) -> Activation:
    """Return the activation for a name, a class or instance of `Activation`, a config dict, or None (linear).

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, a Python function included: the package could not differentiate it.
    """
    found: Activation = linear if identifier is None else resolve("activation", identifier, KNOWN, Activation, OWN)
    refuse_overrides(type(found), ("forward", "backward", "__call__"))
    return found
