"""The contract by the compiled CPU kernels, one operation at a time: so that each can be held against NumPy by itself.

Training takes them all at once (`gpumlp/engine/compiled_program.py`); an operation here is a job of a single operation,
of which some phases are run, so what is held is what trains. float32 only.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from gpumlp.activations import Activation
from gpumlp.backends import native
from gpumlp.backends.fields import OperationFields
from gpumlp.backends.job import Job, OperationRecord, function_fields, layout
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import SGD, Adam, Optimizer, RMSprop
from gpumlp.regularizers import L1L2

Scalars = tuple[float, float]

Array = np.ndarray


class CompiledBackend(NumpyBackend):
    """The package's own kernels for the CPU, on NumPy's arrays. What has no kernel of its own is NumPy's."""

    name = "numba"

    def __init__(self) -> None:
        super().__init__()
        self._function = native.functions()["run"]

    # ---- jobs ------------------------------------------------------------------------------------------------------

    def _job(
        self, x: Array, y: Array, metrics: int = 0, **values: Unpack[OperationFields]
    ) -> tuple[Job, OperationRecord]:
        """Return a job of one operation from x[B, I] to y[B, O], where they stand."""
        (batch, inputs), outputs = x.shape, y.shape[1]
        job = Job(1, metrics)
        job.set_work(1, max(batch, 1), max(inputs, outputs))
        job.set(BATCH=batch, SAMPLES=batch, FIRST=0, LAST=1, X=x, X_WIDTH=inputs, SCALARS=np.ones(2, np.float32))
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

    def dense_forward(self, x: Any, w: Any, b: Any, activation: Activation, y: Any, z: Any = None) -> None:
        """See `NumpyBackend.dense_forward`."""
        job, record = self._job(x, y, **function_fields(activation))
        record.set(KIND=layout().DENSE, KERNEL=w, BIAS=b, Z=z, ZEROS=layout().SOME_ZEROS)
        record.set(ACTIVE=np.zeros(x.shape[1], np.float32), ACTIVE_LD=x.shape[1])
        self._run(job, "FORWARD")

    def dense_backward(
        self, dy: Any, x: Any, w: Any, y: Any, z: Any, activation: Activation, dx: Any, dw: Any, db: Any
    ) -> None:
        """See `NumpyBackend.dense_backward`.

        The kernels use gradients up as they come. So weights beside the real ones are trained, by SGD of rate -1 with a
        momentum of 0, whose state is then the gradient.
        """
        names = layout()
        job, record = self._job(x, y, **function_fields(activation))
        inputs, outputs = w.shape
        room = np.zeros((2, inputs + 1, outputs), np.float32)
        room[0, :inputs] = w
        job.set_optimizer(SGD(1.0, momentum=0.5), room[0], {"momentum": room[1]})
        job.set(SCALARS=np.array([-1.0, 1.0], np.float32), BETA_1=0.0)
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

    def activation_forward(self, activation: Activation, z: Any, y: Any) -> None:
        """See `NumpyBackend.activation_forward`."""
        self._run(self._job(z, y, **function_fields(activation))[0], "FORWARD")

    def activation_backward(self, activation: Activation, dy: Any, y: Any, z: Any) -> None:
        """See `NumpyBackend.activation_backward`."""
        job, record = self._job(y if z is None else z, y, **function_fields(activation))
        record.set(IN=y if z is None else z, DELTA=dy)
        self._run(job, "BACK")

    def affine(self, x: Any, scale: float, offset: float, y: Any) -> None:
        """See `NumpyBackend.affine`."""
        job, record = self._job(x, y, CONSTANT=float(scale), OFFSET=float(offset))
        record.set(KIND=layout().AFFINE)
        self._run(job, "FORWARD")

    def dropout(self, x: Any, mask: Any, y: Any, rate: float, key: int, layer: int, step: int) -> None:
        """See `NumpyBackend.dropout`."""
        job, record = self._job(x, y, RATE=float(rate), SCALE=1.0 / (1.0 - rate), KEY=key, LAYER=layer, MASK=mask)
        record.set(KIND=layout().DROPOUT)
        job.set(STEP=step)
        self._run(job, "FORWARD")

    def multiply(self, y: Any, mask: Any) -> None:
        """See `NumpyBackend.multiply`."""
        job, record = self._job(y, y, RATE=0.5, MASK=mask)
        record.set(KIND=layout().DROPOUT, DELTA=y)
        self._run(job, "BACK")

    # ---- objectives ------------------------------------------------------------------------------------------------

    def _judged(
        self, target: Array, pred: Array, weights: Any, metrics: list[Metric], loss: Any, dpred: Array
    ) -> Array:
        """Return the results of a batch: loss, totals, divisors."""
        job, record = self._job(pred, pred, len(metrics))
        record.set(DELTA=dpred)
        job.set_metrics(metrics)
        job.set_loss(loss)
        series, results = 1 + 2 * len(metrics), np.zeros(1 + 2 * len(metrics))
        job.set(
            BATCH_Y=np.ascontiguousarray(target), Y_WIDTH=target.shape[1], VALUES_LD=len(pred),
            VALUES=np.zeros((series, max(len(pred), 1)), np.float32), RESULTS=results, RESULTS_LD=series,
            BATCH_W=weights, SAMPLE_WEIGHTS=weights,
        )  # fmt: skip
        self._run(job, "OBJECTIVE")
        return results

    def loss(self, loss: Loss, target: Any, pred: Any, weights: Any, dpred: Any) -> float:
        """See `NumpyBackend.loss`."""
        return float(self._judged(target, pred, weights, [], loss, dpred)[0])

    def metric(self, metric: Metric, target: Any, pred: Any, weights: Any) -> tuple[float, float]:
        """See `NumpyBackend.metric`."""
        from gpumlp.losses import MeanSquaredError, SparseCategoricalCrossentropy

        loss = MeanSquaredError() if target.shape == pred.shape else SparseCategoricalCrossentropy()
        results = self._judged(target, pred, weights, [metric], loss, np.empty_like(pred))
        return float(results[1]), float(results[2])

    def penalty(self, regularizer: L1L2, w: Any, dw: Any) -> float:
        """See `NumpyBackend.penalty`: dw counts as the gradient of a bias, for a batch of one sample."""
        flat = w.reshape(-1)
        places = np.zeros(2)
        room = np.zeros((2, flat.size), np.float32)
        room[0] = flat
        job, record = self._updates(room[0], SGD(1.0, momentum=0.5), {"momentum": room[1]}, dw, (-1.0, 1.0))
        job.set(BETA_1=0.0)
        record.set(BIAS_L1=float(regularizer.l1), BIAS_L2=float(regularizer.l2), PENALTIES=places)
        self._run(job, "UPDATE")
        if dw is not None:
            dw.reshape(-1)[...] = room[1]
        return float(places[1])

    # ---- updates ---------------------------------------------------------------------------------------------------

    def _updates(
        self, params: Array, optimizer: Optimizer, slots: dict[str, Any], grads: Any, scalars: Scalars
    ) -> tuple[Job, OperationRecord]:
        """Return a job that updates ``params`` as a bias, of which ``grads`` is the gradient by the only sample."""
        names, one = layout(), np.zeros((1, 1), np.float32)
        delta = np.zeros(params.size, np.float32) if grads is None else grads.reshape(-1).copy()
        job, record = self._job(one, delta.reshape(1, -1))
        job.set_optimizer(optimizer, params, {name: slot for name, slot in slots.items() if slot is not None})
        job.set(SCALARS=np.array(scalars, np.float32))
        record.set(KIND=names.DENSE, KERNEL=None, KERNEL_TRAINS=0, BIAS=params, BIAS_TRAINS=int(grads is not None))
        record.set(DELTA=delta, SHARES=np.zeros(2, np.int64))
        return job, record

    def update(self, optimizer: Optimizer, params: Any, grads: Any, slots: Any, step: int, scalars: Any) -> None:
        """See `NumpyBackend.update`."""
        optimizer.apply(self, params, grads, slots, step, scalars)

    def adam_update(
        self, params: Any, grads: Any, m: Any, v: Any, scalars: Scalars, beta_1: float, beta_2: float, epsilon: float,
        step: int,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.adam_update`."""
        optimizer = Adam(1.0, beta_1, beta_2, epsilon)
        self._run(self._updates(params, optimizer, {"m": m, "v": v}, grads, scalars)[0], "UPDATE")

    def sgd_update(
        self, params: Any, grads: Any, momentum: Any, scalars: Scalars, factor: float, nesterov: bool
    ) -> None:
        """See `NumpyBackend.sgd_update`."""
        optimizer = SGD(1.0, factor, nesterov)
        self._run(self._updates(params, optimizer, {"momentum": momentum}, grads, scalars)[0], "UPDATE")

    def rmsprop_update(
        self, params: Any, grads: Any, v: Any, momentum: Any, mean: Any, scalars: Scalars, rho: float, factor: float,
        epsilon: float,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.rmsprop_update`."""
        optimizer = RMSprop(1.0, rho, factor, epsilon, mean is not None)
        slots = {"v": v, "momentum": momentum, "mean": mean}
        self._run(self._updates(params, optimizer, slots, grads, scalars)[0], "UPDATE")
