"""What a Program asks of a backend, for the type checker; what each operation computes is said by `numpy_backend`.

An array is the backend's own: NumPy's on the CPU, the runtime's on a GPU, which the type checker takes for NumPy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Protocol

import numpy.typing as npt

from gpumlp.activations import Activation
from gpumlp.backends.runtime import Array, Kind, Rows, Runtime, Scalar
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer, Updates
from gpumlp.regularizers import Regularizer
from gpumlp.tape import Scratch


class Samples(Protocol):
    """What a recorded run reads: arrays as in `gpumlp.engine.feed.Dataset`."""

    x: Array
    y: Array | None
    weights: Array | None


class Backend(Updates, Protocol):
    """One family of kernels, or NumPy: arrays, operations, objectives; the updates are those of the optimizers."""

    @property
    def name(self) -> str: ...

    @property
    def xp(self) -> ModuleType:
        """The array library, for what has no kernel of its own."""

    @property
    def scratch(self) -> Scratch: ...

    @property
    def runtime(self) -> Runtime | None:
        """The GPU's; None on the CPU, where the host's arrays are the backend's."""

    @property
    def recorder(self) -> Recorder | None:
        """The backend itself where its launches can be recorded and replayed as a graph, else None."""

    def running(self) -> AbstractContextManager[object]: ...

    # ---- arrays

    def zeros(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]: ...

    def empty(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]: ...

    def to_device(self, values: Array) -> Array: ...

    def to_host(self, array: Array) -> Array: ...

    def assign(self, array: Array, values: npt.ArrayLike) -> None: ...

    def take(self, source: Array, rows: Rows, out: Array) -> None: ...

    # ---- operations

    def dense_forward(
        self, x: Array, w: Array, b: Array | None, activation: Activation, y: Array, z: Array | None = None
    ) -> None: ...

    def dense_backward(
        self, dy: Array, x: Array, w: Array, y: Array, z: Array | None, activation: Activation, dx: Array | None,
        dw: Array, db: Array | None,
    ) -> None: ...  # fmt: skip

    def activation_forward(self, activation: Activation, z: Array, y: Array) -> None: ...

    def activation_backward(self, activation: Activation, dy: Array, y: Array, z: Array | None) -> None: ...

    def affine(self, x: Array, scale: float, offset: float, y: Array) -> None: ...

    def dropout(
        self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int, first: int = 0
    ) -> None: ...

    def multiply(self, y: Array, mask: Array) -> None: ...

    # ---- batch normalization: see `gpumlp.backends.statistics.BatchNorm`

    def batch_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], momentum: float,
        epsilon: float, kept: Array, y: Array,
    ) -> None: ...  # fmt: skip

    def batch_norm_backward(
        self, dy: Array, x: Array, gamma: Array | None, kept: Array, dx: Array | None, dgamma: Array | None,
        dbeta: Array | None,
    ) -> None: ...  # fmt: skip

    def fixed_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], epsilon: float,
        y: Array, least: float = 0.0,
    ) -> None: ...  # fmt: skip

    def fixed_norm_backward(
        self, dy: Array, gamma: Array | None, variance: Array, epsilon: float, dx: Array, least: float = 0.0
    ) -> None: ...

    # ---- objectives

    def loss(self, loss: Loss, target: Array, pred: Array, weights: Array | None, dpred: Array) -> float: ...

    def metric(
        self, metric: Metric, target: Array, pred: Array, weights: Array | None
    ) -> tuple[list[float], float]: ...

    def penalty(self, regularizer: Regularizer, w: Array, dw: Array | None) -> float: ...

    def update(
        self, optimizer: Optimizer, params: Array, grads: Array, slots: Mapping[str, Array], step: int,
        scalars: Sequence[float] | Array,
    ) -> None: ...  # fmt: skip


class Recorder(Backend, Protocol):
    """A backend on a GPU whose launches can be recorded: every operation leaves its results on the device."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def run_words(self) -> int:
        """How many int64 words a Run takes."""

    def live(self, rows: Array, batch: int, iteration: Array) -> AbstractContextManager[None]: ...

    def loss_into(self, values: Array, loss: Loss, t: Array, p: Array, weights: Array | None, dp: Array) -> None: ...

    def metric_into(
        self, values: Array, counts: Array | None, metric: Metric, t: Array, p: Array, weights: Array | None
    ) -> None: ...

    def penalty_into(self, values: Array, regularizer: Regularizer, w: Array, dw: Array | None) -> None: ...

    def run_struct(
        self, data: Samples, order: Array | None, scalars: Array, results: Array, numbers: tuple[int, ...]
    ) -> Array: ...

    def gather(
        self, x: Array, y: Array, w: Array | None, live: Array, scalars: Array, counters: Array, run: Array, slot: int,
        training: bool,
    ) -> None: ...  # fmt: skip

    def reduce(self, run: Array, counters: Array, values: Array, steps: int) -> None: ...

    def advance(self, counters: Array, steps: int) -> None: ...
