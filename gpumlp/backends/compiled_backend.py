"""The contract by the compiled CPU kernels, one operation at a time: so that each can be held against NumPy by itself.

Training takes them all at once (`gpumlp/engine/compiled_program.py`); an operation here is a job of a single operation,
of which some phases are run, so what is held is what trains. float32 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np

from gpumlp.activations import Activation
from gpumlp.backends import native
from gpumlp.backends.fields import OperationFields
from gpumlp.backends.job import Job, OperationRecord, activation_fields, layout, penalty_fields, series_of
from gpumlp.backends.numpy_backend import NumpyBackend, kept_scale
from gpumlp.backends.runtime import Array
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import SGD, Optimizer
from gpumlp.regularizers import Regularizer


class CompiledBackend(NumpyBackend):
    """The package's own kernels for the CPU, on NumPy's arrays. What has no kernel of its own is NumPy's."""

    name = "compiled"

    def __init__(self) -> None:
        super().__init__()
        kernels = native.functions()
        self._function, self._instructions = kernels["run"], kernels.instructions

    # ---- jobs ------------------------------------------------------------------------------------------------------

    def _job(
        self, x: Array, y: Array, metrics: int = 0, **values: Unpack[OperationFields]
    ) -> tuple[Job, OperationRecord]:
        """Return a job of one operation from x[B, I] to y[B, O], where they stand."""
        (batch, inputs), outputs = x.shape, y.shape[1]
        job = Job(1, metrics, self._instructions)
        job.set_work(1, max(batch, 1), max(inputs, outputs))
        job.set(
            BATCH=batch,
            SAMPLES=batch,
            FIRST=0,
            LAST=1,
            X=x,
            X_WIDTH=inputs,
            FACTORS=np.zeros(max(batch, 1), np.float32),
        )
        record = job.operations[0]
        record.set(
            INPUTS=inputs, OUTPUTS=outputs, IN=np.zeros_like(x), IN_LD=inputs, OUT=y, OUT_LD=outputs,
            DELTA=np.zeros_like(y), KIND=layout().ACTIVATION, ROW=max(outputs, 1),
        )  # fmt: skip
        record.set(**values)
        return job, record

    def _run(self, job: Job, *phases: str) -> None:
        job.set(PHASES=sum(getattr(layout(), phase) for phase in phases))
        self._function(job.address, 0)

    # ---- operations ------------------------------------------------------------------------------------------------

    def dense_forward(
        self, x: Array, w: Array, b: Array | None, activation: Activation, y: Array, z: Array | None = None
    ) -> None:
        """See `NumpyBackend.dense_forward`."""
        job, record = self._job(x, y, **activation_fields(activation, self._instructions, fused=True))
        record.set(KIND=layout().DENSE, KERNEL=w, BIAS=b, Z=z, ZEROS=layout().SOME_ZEROS)
        record.set(ACTIVE=np.zeros(x.shape[1], np.float32), ACTIVE_LD=x.shape[1])
        self._run(job, "FORWARD")

    def dense_backward(
        self, dy: Array, x: Array, w: Array, y: Array, z: Array | None, activation: Activation, dx: Array | None,
        dw: Array, db: Array | None,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.dense_backward`.

        The kernels use gradients up as they come. So weights beside the real ones are trained: see `_collect`.
        """
        names = layout()
        job, record = self._job(x, y, **activation_fields(activation, self._instructions))
        inputs, outputs = w.shape
        room = np.zeros((2, inputs + 1, outputs), np.float32)
        room[0, :inputs] = w
        self._collect(job, room)
        record.set(
            KIND=names.DENSE, KERNEL=w, IN=x, IN_DELTA=dx, DELTA=dy, Z=z, ZEROS=names.SOME_ZEROS,
            KERNEL_TRAINS=0, SHARES=np.array([0, inputs]),
            ACTIVE=np.abs(x).sum(axis=0, dtype=np.float32), ACTIVE_LD=inputs,
        )  # fmt: skip
        self._run(job, "BACK")
        record.set(KERNEL=room[0], KERNEL_TRAINS=1, BIAS=room[0, inputs], BIAS_TRAINS=int(db is not None))
        self._run(job, "UPDATE")
        dw[...] = room[1, :inputs]
        if db is not None:
            db[...] = room[1, inputs]

    def _collect(self, job: Job, room: Array) -> None:
        """Have updates of room[0] put its gradient into room[1], zeros: the state of SGD, rate -1, with no momentum."""
        job.set_optimizer(SGD(1.0, momentum=0.5), room[0], {"momentum": room[1]})
        job.set(SCALARS=np.array([-1.0, 1.0], np.float32), UPDATE_NUMBERS=np.zeros(1, np.float32))

    def activation_forward(self, activation: Activation, z: Array, y: Array) -> None:
        """See `NumpyBackend.activation_forward`."""
        self._run(self._job(z, y, **activation_fields(activation, self._instructions))[0], "FORWARD")

    def activation_backward(self, activation: Activation, dy: Array, y: Array, z: Array | None) -> None:
        """See `NumpyBackend.activation_backward`."""
        job, record = self._job(y if z is None else z, y, **activation_fields(activation, self._instructions))
        record.set(IN=y if z is None else z, DELTA=dy)
        self._run(job, "BACK")

    def affine(self, x: Array, scale: float, offset: float, y: Array) -> None:
        """See `NumpyBackend.affine`."""
        job, record = self._job(x, y, FACTOR=float(scale), OFFSET=float(offset))
        record.set(KIND=layout().AFFINE)
        self._run(job, "FORWARD")

    def dropout(
        self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int, first: int = 0
    ) -> None:
        """See `NumpyBackend.dropout`; kernels begin with a batch's first row."""
        if first:
            super().dropout(x, mask, y, rate, key, layer, step, first)
            return
        job, record = self._job(x, y, RATE=float(rate), SCALE=kept_scale(rate), KEY=key, LAYER=layer, MASK=mask)
        record.set(KIND=layout().DROPOUT)
        job.set(STEP=step)
        self._run(job, "FORWARD")

    def multiply(self, y: Array, mask: Array) -> None:
        """See `NumpyBackend.multiply`."""
        job, record = self._job(y, y, RATE=0.5, MASK=mask)
        record.set(KIND=layout().DROPOUT, DELTA=y)
        self._run(job, "BACK")

    def batch_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], momentum: float,
        epsilon: float, kept: Array, y: Array,
    ) -> None:  # fmt: skip
        """See `BatchNorm.batch_norm`; kernels have x[B, C]."""
        if x.ndim != 2:
            super().batch_norm(x, gamma, beta, averages, momentum, epsilon, kept, y)
            return
        job, record = self._job(x, y, EPSILON=float(epsilon), MOMENTUM=float(momentum), KEPT=kept)
        self._normalize(job, record, gamma, beta, averages, 1)

    def fixed_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], epsilon: float,
        y: Array, least: float = 0.0,
    ) -> None:  # fmt: skip
        """See `BatchNorm.fixed_norm`."""
        if x.ndim != 2 or least:
            super().fixed_norm(x, gamma, beta, averages, epsilon, y, least)
            return
        job, record = self._job(x, y, EPSILON=float(epsilon))
        self._normalize(job, record, gamma, beta, averages, 0)

    def _normalize(
        self, job: Job, record: OperationRecord, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array],
        step: int,
    ) -> None:  # fmt: skip
        sums = np.zeros((2, record.get("OUTPUTS")), np.float32)
        record.set(
            KIND=layout().BATCH_NORM, KERNEL=gamma, BIAS=beta, MEAN=averages[0], VARIANCE=averages[1], SUMS=sums
        )  # fmt: skip
        job.set(STEP=step)
        self._run(job, "FORWARD")

    def batch_norm_backward(
        self, dy: Array, x: Array, gamma: Array | None, kept: Array, dx: Array | None, dgamma: Array | None,
        dbeta: Array | None,
    ) -> None:  # fmt: skip
        """See `BatchNorm.batch_norm_backward`."""
        if x.ndim != 2:
            super().batch_norm_backward(dy, x, gamma, kept, dx, dgamma, dbeta)
            return
        sums = np.zeros((2, x.shape[1]), np.float32)
        job, record = self._job(x, dy, KERNEL=gamma, KEPT=kept, SUMS=sums)
        record.set(KIND=layout().BATCH_NORM, IN=x, IN_DELTA=dx, DELTA=dy)
        self._run(job, "BACK")
        for gradient, found in zip((dgamma, dbeta), sums, strict=True):
            if gradient is not None:
                gradient[...] = found

    def fixed_norm_backward(
        self, dy: Array, gamma: Array | None, variance: Array, epsilon: float, dx: Array, least: float = 0.0
    ) -> None:
        """See `BatchNorm.fixed_norm_backward`."""
        if dy.ndim != 2 or least:
            super().fixed_norm_backward(dy, gamma, variance, epsilon, dx, least)
            return
        job, record = self._job(dy, dy, KERNEL=gamma, VARIANCE=variance, EPSILON=float(epsilon), FROZEN=1)
        record.set(KIND=layout().BATCH_NORM, IN_DELTA=dx, DELTA=dy)
        self._run(job, "BACK")

    # ---- objectives ------------------------------------------------------------------------------------------------

    def _judged(
        self, target: Array, pred: Array, weights: Array | None, metrics: list[Metric], loss: Loss, dpred: Array
    ) -> Array:
        """Return the results of a batch: loss, totals, divisors."""
        job, record = self._job(pred, pred, len(metrics))
        record.set(DELTA=dpred)
        job.set_objective(loss, metrics, pred.shape[1], target.shape[1])
        series = series_of(metrics)
        results = np.zeros(series)
        job.set(
            BATCH_Y=np.ascontiguousarray(target), Y_WIDTH=target.shape[1], VALUES_LD=len(pred), SERIES=series,
            VALUES=np.zeros((series, max(len(pred), 1)), np.float32), RESULTS=results,
            BATCH_W=weights, SAMPLE_WEIGHTS=weights,
        )  # fmt: skip
        self._run(job, "OBJECTIVE")
        return results

    def loss(self, loss: Loss, target: Array, pred: Array, weights: Array | None, dpred: Array) -> float:
        """See `NumpyBackend.loss`."""
        return float(self._judged(target, pred, weights, [], loss, dpred)[0])

    def metric(self, metric: Metric, target: Array, pred: Array, weights: Array | None) -> tuple[list[float], float]:
        """See `NumpyBackend.metric`."""
        from gpumlp.losses import MeanSquaredError, SparseCategoricalCrossentropy

        loss = MeanSquaredError() if target.shape == pred.shape else SparseCategoricalCrossentropy()
        results = self._judged(target, pred, weights, [metric], loss, np.empty_like(pred))
        return results[1:-1].tolist(), float(results[-1])

    def penalty(self, regularizer: Regularizer, w: Array, dw: Array | None) -> float:
        """See `NumpyBackend.penalty`: dw counts as the gradient of a bias, for a batch of one sample."""
        flat = w.reshape(-1)
        places, room = np.zeros(2), np.zeros((2, flat.size), np.float32)
        room[0] = flat
        code, numbers = penalty_fields(regularizer, self._instructions)
        job, record = self._bias(room[0], dw)
        self._collect(job, room)
        record.set(BIAS_PENALTY_CODE=code, BIAS_PENALTY_NUMBERS=numbers, PENALTIES=places, PARTS=2)
        self._run(job, "UPDATE")
        if dw is not None:
            dw.reshape(-1)[...] = room[1]
        return float(places[1])

    # ---- updates ---------------------------------------------------------------------------------------------------

    def _bias(self, params: Array, grads: Array | None) -> tuple[Job, OperationRecord]:
        """Return a job that updates ``params`` as a bias, of which ``grads`` is the gradient by the only sample."""
        delta = np.zeros(params.size, np.float32) if grads is None else grads.reshape(-1).copy()
        job, record = self._job(np.zeros((1, 1), np.float32), delta.reshape(1, -1))
        record.set(
            KIND=layout().DENSE, KERNEL_TRAINS=0, BIAS=params, BIAS_TRAINS=int(grads is not None), DELTA=delta,
            SHARES=np.zeros(2, np.int64),
        )  # fmt: skip
        return job, record

    def update(
        self, optimizer: Optimizer, params: Array, grads: Array, slots: Mapping[str, Array], step: int,
        scalars: Sequence[float] | Array,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.update`."""
        job, _ = self._bias(params, grads)
        job.set_optimizer(optimizer, params, slots)
        job.set(SCALARS=np.array(scalars, np.float32))
        self._run(job, "UPDATE")
