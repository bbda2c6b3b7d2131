"""The contract, and its definition: every other backend is held against this one run in float64.

Arrays are C-contiguous, float32 or float64; B batch, I inputs, O outputs. Outputs are written into given arrays; work
arrays come from `Scratch`, so that after the first step nothing is allocated. `activation` is an
`activations.Activation`; `z` is the retained pre-activation, None unless ``activation.retains_input``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpumlp.activations import Activation
from gpumlp.backends import blas
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import L1L2

# 64 Ki floats of each array: the loop over stretches keeps one stretch of the parameters, the gradient and the state
# in cache through the ten passes of an update, where whole-arena passes would read memory each time (measured: 0.36 ms
# against 0.78 ms with 4 Ki, for 395,521 parameters).
STRETCH = 65_536

# Adam's first moment of a dead unit decays towards zero and stays a denormal number for ever, which some processors
# handle many times slower. Every FLUSH_EVERY steps whatever is below FLUSH_BELOW becomes zero; 0.9^128 < 1e-5, so what
# survives cannot reach the denormals (below 1e-38) before the next flush. It changes a weight by at most
# learning_rate * 1e-30 / epsilon.
FLUSH_EVERY = 128
FLUSH_BELOW = 1e-30

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
Scalars = tuple[float, float]


def aligned_zeros(shape: Any, dtype: Any) -> np.ndarray:
    """Return zeros whose first byte stands at a multiple of ALIGNMENT."""
    size, kind = math.prod(shape) if isinstance(shape, tuple) else int(shape), np.dtype(dtype)
    raw = np.zeros(size * kind.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * kind.itemsize].view(kind).reshape(shape)


class Scratch:
    """Work arrays by number, shape and type; one flat buffer per number and type, grown when a shape needs more."""

    def __init__(self, zeros: Callable[[int, Any], Any] = np.zeros) -> None:
        self._zeros = zeros
        self._buffers: dict[tuple[int, Any], np.ndarray] = {}
        self._views: dict[tuple[int, tuple[int, ...], Any], np.ndarray] = {}

    def __call__(self, index: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return work array ``index`` with ``shape``; its content is whatever was left there."""
        view = self._views.get((index, shape, dtype))
        if view is None:
            size = math.prod(shape)
            buffer = self._buffers.get((index, dtype))
            if buffer is None or buffer.size < size:
                buffer = self._buffers[index, dtype] = self._zeros(size, dtype)
                self._views = {k: v for k, v in self._views.items() if (k[0], k[2]) != (index, dtype)}
            view = self._views[index, shape, dtype] = buffer[:size].reshape(shape)
        return view


class NumpyBackend:
    """Plain NumPy on the host."""

    name = "numpy"
    xp: Any = np
    runtime: None = None  # of a GPU
    recorder: None = None  # nothing is launched: there is nothing to record

    def __init__(self) -> None:
        self.scratch = Scratch()
        self._random: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context for computing in: what comes out of it depends on nobody else who computes.

        What overflows is infinite, in silence, as on every other device; a caller who has NumPy raise is heard.
        """
        quiet: Any = {kind: "ignore" for kind, does in np.geterr().items() if does == "warn"}
        with blas.one_thread(), np.errstate(**quiet):
            yield

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """Return an array of zeros, aligned to 64 bytes."""
        return aligned_zeros(shape, dtype)

    def empty(self, shape: Any, dtype: Any) -> Any:
        """Return an array."""
        return np.empty(shape, dtype)

    def to_device(self, values: Any) -> Any:
        """Return the values where this backend computes: here."""
        return values

    def to_host(self, array: Any) -> np.ndarray:
        """Return the values as a NumPy array of its own."""
        return array.copy()

    def assign(self, array: Any, values: Any) -> None:
        """Copy the values into an array of this backend."""
        array[...] = values

    def take(self, source: Any, rows: Any, out: Any) -> None:
        """Write out[r] = source[rows[r]]: the samples of a batch. ``rows`` [B] int64, all within ``source``."""
        # mode="clip": with the default, NumPy copies through a buffer; the indices are in range by construction
        np.take(source, rows, axis=0, out=out, mode="clip")

    def dense_forward(
        self, x: Any, w: Any, b: Any | None, activation: Activation, y: Any, z: Any | None = None
    ) -> None:
        """Write y[B, O] = activation(x[B, I] @ w[I, O] + b[O]), and the pre-activation into ``z`` if given."""
        pre = y if z is None else z
        blas.dot((x, w, pre))
        if b is not None:
            np.add(pre, b, out=pre)
        activation.forward(np, pre, y, self.scratch)

    def dense_backward(
        self, dy: Any, x: Any, w: Any, y: Any, z: Any | None, activation: Activation, dx: Any, dw: Any, db: Any
    ) -> None:
        """Write dw[I, O], db[O] (None without bias) and dx[B, I] (None for the first layer).

        ``dy[B, O]`` is consumed: what it holds afterwards is not defined.
        """
        activation.backward(np, dy, y, z, self.scratch)
        if dx is None:
            blas.dot((x.T, dy, dw))
        else:
            blas.dot((x.T, dy, dw), (dy, w.T, dx))
        if db is not None:
            np.add.reduce(dy, axis=0, out=db)

    def loss(self, loss: Loss, target: Any, pred: Any, weights: Any | None, dpred: Any) -> float:
        """Return the batch's loss and write its gradient by ``pred`` into ``dpred``."""
        return loss.batch(np, target, pred, weights, dpred, self.scratch)

    def metric(self, metric: Metric, target: Any, pred: Any, weights: Any | None) -> tuple[float, float]:
        """Return the metric's sum over the batch and what to divide it by."""
        return metric.update(np, target, pred, weights, self.scratch)

    def penalty(self, regularizer: L1L2, w: Any, dw: Any | None) -> float:
        """Return the penalty of ``w`` and add its gradient to ``dw`` unless that is None."""
        return regularizer.penalty(np, w, dw, self.scratch)

    def activation_forward(self, activation: Activation, z: Any, y: Any) -> None:
        """Write y = f(z) over rows."""
        activation.forward(np, z, y, self.scratch)

    def activation_backward(self, activation: Activation, dy: Any, y: Any, z: Any | None) -> None:
        """Overwrite dy with dy f'(z), over rows; y is the retained output, z the pre-activation."""
        activation.backward(np, dy, y, z, self.scratch)

    def affine(self, x: Any, scale: float, offset: float, y: Any) -> None:
        """Write y = scale x + offset; y may be x."""
        np.multiply(x, scale, out=y)
        np.add(y, offset, out=y)

    def dropout(self, x: Any, mask: Any, y: Any, rate: float, key: int, layer: int, step: int) -> None:
        """Write y = x mask, and into ``mask`` 0 with probability ``rate`` and 1 / (1 - rate) otherwise.

        The mask is a function of the other numbers alone: Philox4x64-10 (Salmon et al. 2011) at key (key, layer) and
        counter (., step, 0, 0), taken as 24-bit uniforms.
        """
        if self._random is None:
            self._random = np.random.Philox(key=0)
        state = self._random.state
        state["state"]["key"][:] = key, layer
        state["state"]["counter"][:] = 0, step, 0, 0
        state["buffer_pos"], state["has_uint32"] = 4, 0
        self._random.state = state
        np.random.Generator(self._random).random(out=mask, dtype=np.float32)
        np.greater_equal(mask, np.float32(rate), out=mask)
        np.multiply(mask, 1.0 / (1.0 - rate), out=mask)
        np.multiply(x, mask, out=y)

    def multiply(self, y: Any, mask: Any) -> None:
        """Write y = y mask: dropout's way back."""
        np.multiply(y, mask, out=y)

    def update(self, optimizer: Optimizer, params: Any, grads: Any, slots: Any, step: int, scalars: Any) -> None:
        """Apply an optimizer's step number ``step`` to a stretch of the arena and its state: `Optimizer.update`."""
        optimizer.apply(self, params, grads, slots, step, scalars)

    def adam_update(
        self, params: Any, grads: Any, m: Any, v: Any, scalars: Scalars, beta_1: float, beta_2: float, epsilon: float,
        step: int,
    ) -> None:  # fmt: skip
        """m += (g - m)(1 - beta_1); v += (g^2 - v)(1 - beta_2); w = decay w - alpha m / (sqrt(v) + epsilon).

        ``scalars`` of every update are the rate and the decay of the step, from `Optimizer.scalars`.
        """
        alpha, decay = scalars
        for start in range(0, params.size, STRETCH):
            part = slice(start, start + STRETCH)
            w, g, m_, v_ = params[part], grads[part], m[part], v[part]
            a = self.scratch(0, w.shape, w.dtype)
            np.subtract(g, m_, out=a)
            np.multiply(a, 1.0 - beta_1, out=a)
            np.add(m_, a, out=m_)
            np.multiply(g, g, out=a)
            np.subtract(a, v_, out=a)
            np.multiply(a, 1.0 - beta_2, out=a)
            np.add(v_, a, out=v_)
            np.sqrt(v_, out=a)
            np.add(a, epsilon, out=a)
            np.divide(m_, a, out=a)
            np.multiply(a, alpha, out=a)
            if decay != 1.0:
                np.multiply(w, decay, out=w)
            np.subtract(w, a, out=w)
            if step % FLUSH_EVERY == 0:
                np.absolute(m_, out=a)
                np.greater_equal(a, FLUSH_BELOW, out=a)
                np.multiply(m_, a, out=m_)

    def sgd_update(
        self, params: Any, grads: Any, momentum: Any | None, scalars: Scalars, factor: float, nesterov: bool
    ) -> None:
        """See `gpumlp.optimizers.SGD`; ``grads`` is overwritten."""
        rate, decay = scalars
        if decay != 1.0:
            np.multiply(params, decay, out=params)
        np.multiply(grads, rate, out=grads)
        if momentum is None:
            np.subtract(params, grads, out=params)
            return
        np.multiply(momentum, factor, out=momentum)
        np.subtract(momentum, grads, out=momentum)
        if nesterov:
            np.subtract(params, grads, out=params)
            np.multiply(momentum, factor, out=grads)
            np.add(params, grads, out=params)
        else:
            np.add(params, momentum, out=params)

    def rmsprop_update(
        self, params: Any, grads: Any, v: Any, momentum: Any | None, mean: Any | None, scalars: Scalars,
        rho: float, factor: float, epsilon: float,
    ) -> None:  # fmt: skip
        """See `gpumlp.optimizers.RMSprop`; ``grads`` is overwritten."""
        rate, decay = scalars
        if decay != 1.0:
            np.multiply(params, decay, out=params)
        a = self.scratch(0, params.shape, params.dtype)
        np.multiply(grads, grads, out=a)
        np.subtract(a, v, out=a)
        np.multiply(a, 1.0 - rho, out=a)
        np.add(v, a, out=v)
        if mean is None:
            np.add(v, epsilon, out=a)
        else:
            np.subtract(grads, mean, out=a)
            np.multiply(a, 1.0 - rho, out=a)
            np.add(mean, a, out=mean)
            np.multiply(mean, mean, out=a)
            np.subtract(v, a, out=a)
            np.add(a, epsilon, out=a)
        np.sqrt(a, out=a)
        np.divide(grads, a, out=grads)
        np.multiply(grads, rate, out=grads)
        if momentum is not None:
            np.multiply(momentum, factor, out=momentum)
            np.add(momentum, grads, out=momentum)
            grads = momentum
        np.subtract(params, grads, out=params)
