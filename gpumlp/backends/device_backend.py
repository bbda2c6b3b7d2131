"""What all backends on a GPU share: arrays in a runtime's memory, names as the kernels number them, and numbers back.

A kernel family gives the operations of the contract in the form that leaves every result on the device; ``loss``,
``metric`` and ``penalty``, which hand a number to the host, are derived here. float32 only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from gpumlp.backends.contract import Recorder
from gpumlp.backends.numpy_backend import Scratch
from gpumlp.backends.runtime import Array, Kind, Runtime, Scalar
from gpumlp.backends.statistics import BatchNorm
from gpumlp.expressions import order
from gpumlp.formulas import ActivationFormula
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

PENALTY_PARTS = 1024  # at most so many parts of a penalty, which fill a large GPU; `reduce` or the host adds them

# What costs next to nothing beside reading a number.
CHEAP = frozenset({
    "leaf", "constant", "add", "sub", "mul", "neg", "abs", "lt", "le", "eq", "maximum", "minimum", "bounded", "where",
    "mask", "sign", "step", "held",
})  # fmt: skip


@functools.lru_cache(maxsize=512)
def is_cheap(activation: ActivationFormula) -> bool:
    """Whether dz is cheap enough to be computed wherever dy is read: from y alone, without special functions."""
    back = activation.back
    return not back.reads("z") and not back.rowwise and all(n.op in CHEAP for n in order(back.roots))


def lanes_for(columns: int) -> int:
    """Return how many threads share a row: the power of two that covers it, at most a warp."""
    return min(32, 1 << max(columns - 1, 0).bit_length())


class DeviceBackend(BatchNorm):
    """Base of the kernel families."""

    name = ""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.xp = runtime, runtime.xp
        self.scratch = Scratch(runtime.zeros)

    @property
    def recorder(self) -> Recorder | None:
        """See `Backend.recorder`."""
        return None

    def running(self) -> AbstractContextManager[object]:
        """See `NumpyBackend.running`."""
        return self.runtime.current()

    # ---- arrays ----------------------------------------------------------------------------------------------------

    def zeros(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return a device array of zeros."""
        return self.runtime.zeros(shape, dtype)

    def empty(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        """Return a device array."""
        return self.runtime.empty(shape, dtype)

    def to_device(self, values: Array) -> Array:
        """Return a device array of the values; the same one if it is on the device already."""
        if self.runtime.owns(values):
            return values
        array = self.runtime.empty(values.shape, values.dtype)
        self.runtime.upload(array, values)
        return array

    def to_host(self, array: Array) -> Array:
        """Return the values as a NumPy array of its own, when all work before it is done."""
        return self.runtime.download(array)

    def assign(self, array: Array, values: npt.ArrayLike) -> None:
        """Copy the host's values into a device array."""
        self.runtime.upload(array, values)

    def whole(self, a: Array) -> Array:
        """Return ``a``, C-contiguous."""
        if a.flags.c_contiguous:
            return a
        with self.runtime.current():
            return self.xp.ascontiguousarray(a)

    def on_device(self, scalars: Sequence[float] | Array) -> Array:
        """Return an update's scalars as a device array of float32; they may be one already."""
        if isinstance(scalars, Sequence):
            there = self.scratch(4, (max(len(scalars), 1),), np.float32)
            self.runtime.upload(there[: len(scalars)], np.array(scalars, np.float32))
            return there
        return scalars

    # ---- what a family gives, results on the device ------------------------------------------------------------------

    def update(
        self, optimizer: Optimizer, params: Array, grads: Array, slots: Mapping[str, Array], step: int,
        scalars: Sequence[float] | Array,
    ) -> None:  # fmt: skip
        """Apply an optimizer's step number ``step`` to a stretch of the arena and its state: `Optimizer.update`."""
        raise NotImplementedError

    def drop(self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int) -> None:
        """Write the mask of (key, layer, step) and y = x mask, of a batch's rows from the first one on."""
        raise NotImplementedError

    def loss_into(self, values: Array, loss: Loss, t: Array, p: Array, weights: Array | None, dp: Array) -> None:
        """Write each sample's weighted loss into ``values[B]`` and the gradient of their mean into ``dp``."""
        raise NotImplementedError

    def metric_into(
        self, values: Array, counts: Array | None, metric: Metric, t: Array, p: Array, weights: Array | None
    ) -> None:
        """Write each sample's sums into ``values[sums, B]``; with ``counts[B]``, weighted, and the weights there."""
        raise NotImplementedError

    def penalty_into(self, values: Array, regularizer: Regularizer, w: Array, dw: Array | None) -> None:
        """Write the penalty of ``w`` in at most PENALTY_PARTS parts into ``values``; add its gradient to ``dw``."""
        raise NotImplementedError

    def dropout(
        self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int, first: int = 0
    ) -> None:
        """See `NumpyBackend.dropout`; the masks of rows before the ``first`` one are drawn, too."""
        if not first:
            self.drop(x, mask, y, rate, key, layer, step)
            return
        whole = first + len(x), *x.shape[1:]
        work, drawn = self.scratch(5, whole, x.dtype), self.scratch(6, whole, mask.dtype)
        self.drop(work, drawn, work, rate, key, layer, step)
        mask[...] = drawn[first:]
        self.xp.multiply(x, mask, out=y)

    # ---- numbers for the host ----------------------------------------------------------------------------------------

    def _sum(self, values: Array) -> float:
        return float(self.to_host(values).sum(dtype=np.float64))

    def loss(self, loss: Loss, target: Array, pred: Array, weights: Array | None, dpred: Array) -> float:
        """See `NumpyBackend.loss`."""
        values = self.scratch(1, (len(pred),), pred.dtype)
        self.loss_into(values, loss, self.whole(target), self.whole(pred), weights, dpred)
        return self._sum(values) / len(pred)

    def metric(self, metric: Metric, target: Array, pred: Array, weights: Array | None) -> tuple[list[float], float]:
        """See `NumpyBackend.metric`."""
        weighted = metric.weighted and weights is not None
        values = self.scratch(1, (len(metric.formula.roots), len(pred)), pred.dtype)
        counts = self.scratch(2, (len(pred),), pred.dtype) if weighted else None
        self.metric_into(values, counts, metric, self.whole(target), self.whole(pred), weights)
        sums = self.to_host(values).sum(axis=1, dtype=np.float64).tolist()
        return sums, float(len(pred)) if counts is None else self._sum(counts)

    def penalty(self, regularizer: Regularizer, w: Array, dw: Array | None) -> float:
        """See `NumpyBackend.penalty`."""
        values = self.zeros((PENALTY_PARTS,), w.dtype)
        self.penalty_into(values, regularizer, w, dw)
        return self._sum(values)
