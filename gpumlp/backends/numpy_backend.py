"""The contract, and its definition: every other backend is held against this one run in float64.

Arrays are C-contiguous, float32 or float64; B batch, I inputs, O outputs. Outputs are written into given arrays; work
arrays come from `Scratch`, so that after the first step nothing is allocated. `activation` is an
`activations.Activation`; `z` is the retained pre-activation, None unless ``activation.retains_input``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from gpumlp import random, tape
from gpumlp.activations import Activation
from gpumlp.backends import blas
from gpumlp.backends.runtime import Array, DType, Kind, Rows, Scalar
from gpumlp.backends.statistics import BatchNorm
from gpumlp.formulas import Formula
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

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

VALUES, FACTORS, SLOPES = -1, -2, -3  # work arrays beside those of formulas
BOUND = 512  # formulas with the arrays for a shape that are kept, at most
PROBLEMS: tuple[Literal["divide", "over", "under", "invalid"], ...] = ("divide", "over", "under", "invalid")
ALIGNMENT = 64  # bytes: a cache line, and the widest vector register

Over = tuple[tuple[str, str], ...]  # which root is written over which leaf


class Calls(Protocol):
    """A formula's calls, of its arrays and numbers by name; what it does not know it leaves."""

    def __call__(self, **values: float | Array | None) -> None: ...


def aligned_zeros(shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
    """Return zeros whose first byte stands at a multiple of ALIGNMENT."""
    size, kind = math.prod(shape) if isinstance(shape, tuple) else int(shape), np.dtype(dtype)
    raw = np.zeros(size * kind.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * kind.itemsize].view(kind).reshape(shape)


def kept_scale(rate: float) -> float:
    """Return what dropout multiplies by what it keeps; at rate 1 that is nothing."""
    return 0.0 if rate == 1.0 else 1.0 / (1.0 - rate)


class Scratch:
    """Work arrays by number, shape and type; one flat buffer per number and type, grown when a shape needs more."""

    def __init__(self, zeros: Callable[[int, DType], Array] = np.zeros) -> None:
        self._zeros = zeros
        self._buffers: dict[tuple[int, DType], Array] = {}
        self._views: dict[tuple[int, tuple[int, ...], DType], Array] = {}

    def __call__(self, index: int, shape: tuple[int, ...], dtype: DType) -> Array:
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


class _Running(blas.one_thread):
    """No generator: one that a handler's exception has left halfway would go on later, wherever that is."""

    def __enter__(self) -> None:
        super().__enter__()
        handling = np.geterr()
        for problem in PROBLEMS:
            if handling[problem] == "warn":
                handling[problem] = "ignore"
        self.quiet = np.errstate(**handling)
        self.quiet.__enter__()

    def __exit__(self, *problem: object) -> None:
        self.quiet.__exit__(None, None, None)
        super().__exit__()


class NumpyBackend(BatchNorm):
    """Plain NumPy on the host."""

    name = "numpy"
    xp: ModuleType = np
    runtime: None = None  # of a GPU
    recorder: None = None  # nothing is launched: there is nothing to record

    def __init__(self) -> None:
        self.scratch = Scratch()
        self._bound: dict[tuple[Formula, tuple[int, ...], DType, tuple[str, ...]], Calls] = {}
        self._random = random.Counted()

    def running(self) -> AbstractContextManager[None]:
        """A context for computing in: what comes out of it depends on nobody else who computes.

        What overflows is infinite, in silence, as on every other device; a caller who has NumPy raise is heard.
        """
        return _Running()

    def zeros(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return an array of zeros, aligned to 64 bytes."""
        return aligned_zeros(shape, dtype)

    def empty(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return an array."""
        return np.empty(shape, dtype)

    def to_device(self, values: Array) -> Array:
        """Return the values where this backend computes: here."""
        return values

    def to_host(self, array: Array) -> Array:
        """Return the values as a NumPy array of its own."""
        return array.copy()

    def assign(self, array: Array, values: npt.ArrayLike) -> None:
        """Copy the values into an array of this backend."""
        array[...] = values

    def take(self, source: Array, rows: Rows, out: Array) -> None:
        """Write out[r] = source[rows[r]]: the samples of a batch. ``rows`` [B] int64, all within ``source``."""
        # mode="clip": with the default, NumPy copies through a buffer; the indices are in range by construction
        np.take(source, rows, axis=0, out=out, mode="clip")

    def dense_forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        activation: Activation,
        y: Array,
        z: Array | None = None,
    ) -> None:
        """Write y[B, O] = activation(x[B, I] @ w[I, O] + b[O]).

        ``z`` takes the pre-activation, if given.
        """
        pre = y if z is None else z
        blas.dot((x, w, pre))
        if b is not None:
            np.add(pre, b, out=pre)
        self.activation_forward(activation, pre, y)

    def dense_backward(
        self,
        dy: Array,
        x: Array,
        w: Array,
        y: Array,
        z: Array | None,
        activation: Activation,
        dx: Array | None,
        dw: Array,
        db: Array | None,
    ) -> None:
        """Write dw[I, O], db[O] (None without bias) and dx[B, I] (None for the first layer).

        ``dy[B, O]`` is consumed: what it holds afterwards is not defined.
        """
        self.activation_backward(activation, dy, y, z)
        if dx is None:
            blas.dot((x.T, dy, dw))
        else:
            blas.dot((x.T, dy, dw), (dy, w.T, dx))
        if db is not None:
            np.add.reduce(dy, axis=0, out=db)

    def loss(self, loss: Loss, target: Array, pred: Array, weights: Array | None, dpred: Array) -> float:
        """Return the batch's loss and write its gradient by ``pred`` into ``dpred``."""
        rows = len(pred)
        factor: float | Array = 1.0 / rows
        if weights is not None:
            factor = self.scratch(FACTORS, (rows, 1), pred.dtype)
            self.xp.multiply(weights[:, None], 1.0 / rows, factor)
        values = self.scratch(VALUES, (rows, 1), pred.dtype)
        self._calls(loss.formula, pred)(t=target, p=pred, factor=factor, value=values, dp=dpred, **loss.numbers)
        if weights is not None:
            self.xp.multiply(values, weights[:, None], values)
        return float(values.sum()) / rows

    def metric(self, metric: Metric, target: Array, pred: Array, weights: Array | None) -> tuple[list[float], float]:
        """Return the metric's sums over the batch and what to divide them by."""
        formula = metric.formula
        values = self.scratch(VALUES, (len(formula.names), len(pred), 1), pred.dtype)
        roots = dict(zip(formula.names, values, strict=True))
        self._calls(formula, pred)(t=target, p=pred, **roots, **metric.numbers)
        if not metric.weighted or weights is None:
            return [float(each.sum()) for each in values], float(len(pred))
        self.xp.multiply(values, weights[:, None], values)
        return [float(each.sum()) for each in values], float(weights.sum())

    def penalty(self, regularizer: Regularizer, w: Array, dw: Array | None) -> float:
        """Return the penalty of ``w`` and add its gradient to ``dw`` unless that is None."""
        formula, row = regularizer.formula, w.reshape(1, -1)
        value = self.scratch(VALUES, (1, 1), w.dtype)
        if dw is None:
            self._calls(formula.only("value"), row)(w=row, value=value, **regularizer.numbers)
        else:
            more = self.scratch(SLOPES, row.shape, w.dtype)
            self._calls(formula, row)(w=row, value=value, dw=more, **regularizer.numbers)
            self.xp.add(dw, more.reshape(dw.shape), dw)
        return float(value[0, 0])

    def activation_forward(self, activation: Activation, z: Array, y: Array) -> None:
        """Write y = f(z) over rows; y may be z unless ``activation.retains_input``."""
        formula = activation.formula.forward
        calls = self._bound.get((formula, z.shape, z.dtype, ()))
        if calls is None:
            calls = self._calls(formula, z, () if activation.retains_input else (("y", "z"),))
        calls(z=z, y=y, **activation.numbers)

    def activation_backward(self, activation: Activation, dy: Array, y: Array, z: Array | None) -> None:
        """Overwrite dy with dy f'(z), over rows; y is the retained output, z the pre-activation."""
        formula = activation.formula.back
        calls = self._bound.get((formula, dy.shape, dy.dtype, ()))
        if calls is None:
            calls = self._calls(formula, dy, (("dz", "dy"),))
        calls(dy=dy, y=y, z=z, dz=dy, **activation.numbers)

    def _calls(
        self, formula: Formula, like: Array, over: Over = (), spent: tuple[str, ...] = (), ones: tuple[str, ...] = ()
    ) -> Calls:
        """Return what computes a formula over arrays ``like`` this one, of the arrays and numbers by name.

        ``over``, ``spent`` and ``ones`` are those of `tape.tape`; which root may be written over which leaf is the
        formula's.
        """
        key = formula, like.shape, like.dtype, ones
        found = self._bound.get(key)
        if found is None:
            if len(self._bound) >= BOUND:
                self._bound.clear()
            calls = tape.tape(self.xp, formula, over, spent, ones).bind(like.shape, like.dtype, self.scratch)
            found = self._bound[key] = calls
        return found

    def affine(self, x: Array, scale: float, offset: float, y: Array) -> None:
        """Write y = scale x + offset; y may be x."""
        np.multiply(x, scale, out=y)
        np.add(y, offset, out=y)

    def dropout(
        self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int, first: int = 0
    ) -> None:
        """Write y = x mask, and into ``mask`` 0 with probability ``rate``, 0 to 1, and 1 / (1 - rate) otherwise.

        The mask is a function of the other numbers alone: `random.Counted`, taken as 24-bit uniforms. x has the rows of
        a batch from ``first`` on: their mask is the one that they have among all.
        """
        numbers = self._random.at(key, layer, step, first * math.prod(x.shape[1:]))
        numbers.random(out=cast(npt.NDArray[np.float32], mask), dtype=np.float32)
        np.greater_equal(mask, np.float32(rate), out=mask)
        np.multiply(mask, kept_scale(rate), out=mask)
        np.multiply(x, mask, out=y)

    def multiply(self, y: Array, mask: Array) -> None:
        """Write y = y mask: dropout's way back."""
        np.multiply(y, mask, out=y)

    def update(
        self, optimizer: Optimizer, params: Array, grads: Array, slots: Mapping[str, Array], step: int,
        scalars: Sequence[float] | Array,
    ) -> None:  # fmt: skip
        """Apply an optimizer's step number ``step`` to a stretch of the arena and its state; ``grads`` is spent.

        ``scalars`` are the numbers of the step, from `Optimizer.scalars`.
        """
        formula = optimizer.formula
        if formula.rowwise:
            raise NotImplementedError(f"{optimizer.name} needs sums over weights, which no update can have yet.")
        names = optimizer.scalar_names
        ones = tuple(
            [name for name, value in zip(names, scalars, strict=True) if value == 1.0]
        )  # no pass for a decay of 1
        numbers = {**optimizer.numbers, **dict(zip(names, scalars, strict=True))}
        arrays, size = {"w": params, "g": grads, **slots}, params.size
        # two passes over w and g are no quicker in stretches
        stretch = STRETCH if slots and size > STRETCH else max(1, size)
        for start in range(0, size, stretch):
            own = arrays
            if stretch < size:
                own = {name: array[start : start + stretch] for name, array in arrays.items()}
            self._calls(formula, own["w"], (), ("g",), ones)(**own, **numbers)
            if step % FLUSH_EVERY == 0:
                for name in optimizer.flushed:
                    self._flush(own[name])

    def _flush(self, a: Array) -> None:
        """Make zero what is below FLUSH_BELOW."""
        work = self.scratch(0, a.shape, a.dtype)
        np.absolute(a, out=work)
        np.greater_equal(work, FLUSH_BELOW, out=work)
        np.multiply(a, work, out=a)
