"""Activation functions: a description (name and constants), its value and its gradient.

Each is written once over an array namespace ``xp`` (NumPy or CuPy). ``forward`` writes ``y`` from the pre-activation
``z``; ``backward`` turns the gradient ``dy`` into ``dz`` in place. Gradients come from the retained OUTPUT ``y`` where
that is possible, so that no pre-activation and no mask is stored; ``retains_input`` marks the ones that need ``z``.
``scratch(i, shape, dtype)`` gives work array number i. Kernels of other backends read ``name`` and the constants.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gpumlp.erf import erf
from gpumlp.naming import look_up

Array = Any
Scratch = Callable[..., Any]


@dataclass(frozen=True)
class Activation:
    """An elementwise (or, for softmax, row-wise) function of the pre-activations z[B, O]."""

    name: ClassVar[str] = ""
    retains_input: ClassVar[bool] = False

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        """Write f(z) into ``y``; ``y`` may be ``z`` itself unless ``retains_input``."""
        raise NotImplementedError

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        """Overwrite ``dy`` with dz = dy * f'(z)."""
        raise NotImplementedError

    def __call__(self, x: object) -> np.ndarray:
        """Return f(x) of an array, as Keras's functions do."""
        z = np.asarray(x)
        if not np.issubdtype(z.dtype, np.floating):
            z = z.astype(np.float32)
        y = np.empty_like(z)
        self.forward(np, z.copy(), y, lambda i, shape, dtype: np.empty(shape, dtype))
        return y

    def get_config(self) -> dict[str, Any]:
        """Return the constants by their Keras names."""
        return dataclasses.asdict(self)


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

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        xp.maximum(z, 0.0, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        mask = scratch(0, dy.shape, dy.dtype)
        xp.sign(y, out=mask)  # y >= 0, so this is 0 or 1, and NaN stays NaN
        xp.multiply(dy, mask, out=dy)


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """f(z) = z for z > 0, negative_slope * z otherwise."""

    name = "leaky_relu"
    negative_slope: float = 0.2

    def __post_init__(self) -> None:
        if not self.negative_slope >= 0:  # the sign of y must tell the sign of z
            raise ValueError(f"negative_slope must be >= 0; got {self.negative_slope!r}.")

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        negative = scratch(0, z.shape, z.dtype)
        xp.minimum(z, 0.0, out=negative)
        xp.multiply(negative, self.negative_slope, out=negative)
        xp.maximum(z, 0.0, out=y)
        xp.add(y, negative, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        slope = scratch(0, dy.shape, dy.dtype)
        xp.greater(y, 0.0, out=slope)
        xp.multiply(slope, 1.0 - self.negative_slope, out=slope)
        xp.add(slope, self.negative_slope, out=slope)
        xp.multiply(dy, slope, out=dy)


@dataclass(frozen=True)
class Elu(Activation):
    """f(z) = z for z > 0, alpha * (exp(z) - 1) otherwise (Clevert et al. 2015)."""

    name = "elu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"alpha must be >= 0; got {self.alpha!r}.")

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        negative = scratch(0, z.shape, z.dtype)
        xp.minimum(z, 0.0, out=negative)
        xp.expm1(negative, out=negative)
        xp.multiply(negative, self.alpha, out=negative)
        xp.maximum(z, 0.0, out=y)
        xp.add(y, negative, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        # f' = 1 above zero, f + alpha below it. With alpha = 0 the sign of y no longer tells, but both give 0 there.
        slope, positive = scratch(0, dy.shape, dy.dtype), scratch(1, dy.shape, dy.dtype)
        xp.greater(y, 0.0, out=positive)
        xp.minimum(y, 0.0, out=slope)
        xp.multiply(positive, 1.0 - self.alpha, out=positive)
        xp.add(slope, positive, out=slope)
        xp.add(slope, self.alpha, out=slope)
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
    # 0.5 + 0.5 tanh(z / 2): one pass through the transcendental, and no overflow at either end
    xp.multiply(z, 0.5, out=out)
    xp.tanh(out, out=out)
    xp.multiply(out, 0.5, out=out)
    xp.add(out, 0.5, out=out)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(z) = 1 / (1 + exp(-z))."""

    name = "sigmoid"

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        # By exp rather than tanh: 0.5 + 0.5 tanh would lose the small values that a logarithm is taken of. exp may
        # overflow to infinity for z < -88 (float32), which gives the right 0; clipping avoids the warning.
        low = -math.log(float(np.finfo(z.dtype).max)) + 1.0
        xp.maximum(z, low, out=y)
        xp.negative(y, out=y)
        xp.exp(y, out=y)
        xp.add(y, 1.0, out=y)
        xp.reciprocal(y, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        slope = scratch(0, dy.shape, dy.dtype)
        xp.subtract(1.0, y, out=slope)
        xp.multiply(slope, y, out=slope)
        xp.multiply(dy, slope, out=dy)


@dataclass(frozen=True)
class Softmax(Activation):
    """f(z)_j = exp(z_j) / sum_k exp(z_k) over each row."""

    name = "softmax"

    def forward(self, xp: Any, z: Array, y: Array, scratch: Scratch) -> None:
        row = scratch(0, (z.shape[0], 1), z.dtype)
        xp.max(z, axis=1, keepdims=True, out=row)
        xp.subtract(z, row, out=y)
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
        self._cdf(xp, z, y, scratch, 0)
        xp.multiply(y, z, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        assert z is not None
        cdf, slope = scratch(0, z.shape, z.dtype), scratch(1, z.shape, z.dtype)
        self._cdf(xp, z, cdf, scratch, 2)
        if self.approximate:  # cdf' = 2 cdf (1 - cdf) u',  u' = sqrt(2/pi) (1 + 3 * 0.044715 z^2)
            factor = scratch(2, z.shape, z.dtype)
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
        _sigmoid(xp, z, y)
        xp.multiply(y, z, out=y)

    def backward(self, xp: Any, dy: Array, y: Array, z: Array | None, scratch: Scratch) -> None:
        assert z is not None
        s, slope = scratch(0, z.shape, z.dtype), scratch(1, z.shape, z.dtype)
        _sigmoid(xp, z, s)
        xp.subtract(z, y, out=slope)  # s' z + s = s (1 + z - z s) = s (1 + z - y)
        xp.add(slope, 1.0, out=slope)
        xp.multiply(slope, s, out=slope)
        xp.multiply(dy, slope, out=dy)


linear, relu, leaky_relu, elu = Linear(), Relu(), LeakyRelu(), Elu()
tanh, sigmoid, softmax, gelu, silu = Tanh(), Sigmoid(), Softmax(), Gelu(), Silu()
swish = silu

KNOWN: Mapping[str, Activation] = {
    **{a.name: a for a in (linear, relu, leaky_relu, elu, tanh, sigmoid, softmax, gelu, silu)},
    "swish": silu,
}


def get(identifier: object) -> Activation:
    """Return the activation for a name, an `Activation`, or None (linear).

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, a Python function included: the package could not differentiate it.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, str):
        return look_up("activation", identifier, KNOWN)
    raise TypeError(
        f"activation must be a name such as 'relu' or one of gpumlp.activations; got {identifier!r}. "
        "A function of your own has no gradient here."
    )
