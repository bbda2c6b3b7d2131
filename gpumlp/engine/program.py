"""The looping Program: one step after the other over a backend's operations; any network, any backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpumlp.activations import linear
from gpumlp.engine.arena import Arena
from gpumlp.engine.network import ActivationOp, AffineOp, DenseOp, DropoutOp, Network
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer

Array = Any


@dataclass
class Dataset:
    """Arrays as a Program takes them: x[n, F], y[n, O] (or [n, 1] labels), weights[n] or None, of the model's dtype."""

    x: Array
    y: Array | None = None
    weights: Array | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class StepLogs:
    """What some steps gave, one entry a step: samples, loss, and each metric's total and divisor."""

    samples: np.ndarray
    losses: np.ndarray
    totals: np.ndarray
    counts: np.ndarray


class LoopProgram:
    """Forward, backward and update of one network, with preallocated buffers for at most ``batch`` samples."""

    def __init__(self, network: Network, arena: Arena, backend: Any, batch: int) -> None:
        self.network, self.arena, self.backend, self.batch = network, arena, backend, batch
        self.grads = arena.zeros()
        self._grad_views = arena.views(self.grads)
        self._spans = arena.spans(list(network.trainable))
        self._penalised = [(i, s.regularizer) for i, s in enumerate(network.weights) if s.regularizer]
        make = backend.empty
        dtype = arena.dtype
        self._x, self._w = make((batch, network.sizes[0]), dtype), make((batch,), dtype)
        self._y: Array | None = None
        self._out = [make((batch, n), dtype) for n in network.sizes[1:]]
        self._pre = [self._retained(op, n) for op, n in zip(network.ops, network.sizes[1:], strict=True)]
        self._mask = [
            make((batch, n), np.float32) if isinstance(op, DropoutOp) else None
            for op, n in zip(network.ops, network.sizes[1:], strict=True)
        ]
        widest = max(network.sizes)
        self._deltas = [make((batch * widest,), dtype), make((batch * widest,), dtype)]

    def _retained(self, op: object, size: int) -> Array | None:
        if isinstance(op, DenseOp) and op.activation.retains_input:
            return self.backend.empty((self.batch, size), self.arena.dtype)
        return None

    def run(
        self, data: Dataset, order: Array | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None,
    ) -> StepLogs:  # fmt: skip
        """Run batches ``first`` to ``last`` - 1 of ``data`` in ``order`` (None: as it stands).

        With an ``optimizer`` they are training steps; without, only losses and metrics are computed.
        """
        steps = last - first
        logs = StepLogs(
            np.zeros(steps), np.zeros(steps), np.zeros((steps, len(metrics))), np.zeros((steps, len(metrics)))
        )
        training = optimizer is not None
        for k in range(steps):
            x, y, w = self._gather(data, order, (first + k) * batch, (first + k + 1) * batch)
            n = len(x)
            step = optimizer.iterations + 1 if optimizer is not None else 0
            pred = self._forward(x, step if training else None)
            delta = self._deltas[0][: pred.size].reshape(pred.shape)
            value = self.backend.loss(loss, y, pred, w, delta)
            for i, metric in enumerate(metrics):
                logs.totals[k, i], logs.counts[k, i] = self.backend.metric(metric, y, pred, w)
            if optimizer is not None:
                self._backward(x, delta)
            for i, regularizer in self._penalised:
                grad = self._grad_views[i] if training else None
                value += self.backend.penalty(regularizer, self.arena.weights[i], grad)
            logs.samples[k], logs.losses[k] = n, value
            if optimizer is not None and slots is not None:
                self._update(optimizer, slots, step)
                optimizer.iterations = step
        return logs

    def _update(self, optimizer: Optimizer, slots: dict[str, Array], step: int, scalars: Any = None) -> None:
        for span in self._spans:
            state = {name: slot[span] for name, slot in slots.items()}
            optimizer.update(self.backend, self.arena.params[span], self.grads[span], state, step, scalars)

    def predict(self, x: Array, out: Array, batch: int) -> None:
        """Write the predictions for x[n, F] into out[n, O], ``batch`` samples at a time."""
        for start in range(0, len(x), batch):
            stop = min(start + batch, len(x))
            out[start:stop] = self._forward(x[start:stop], None)

    def _gather(self, data: Dataset, order: Array | None, start: int, stop: int) -> tuple[Array, Array, Array | None]:
        if order is None:
            w = None if data.weights is None else data.weights[start:stop]
            return data.x[start:stop], data.y[start:stop], w  # type: ignore[index]
        rows = order[start:stop]
        n = len(rows)
        assert data.y is not None
        if self._y is None or self._y.shape[1] != data.y.shape[1]:
            self._y = self.backend.empty((self.batch, data.y.shape[1]), self.arena.dtype)
        target: Array = self._y
        self.backend.take(data.x, rows, self._x[:n])
        self.backend.take(data.y, rows, target[:n])
        if data.weights is None:
            return self._x[:n], target[:n], None
        self.backend.take(data.weights, rows, self._w[:n])
        return self._x[:n], target[:n], self._w[:n]

    def _forward(self, x: Array, step: int | None) -> Array:
        n = len(x)
        for i, op in enumerate(self.network.ops):
            y = self._out[i][:n]
            match op:
                case DenseOp():
                    z = None if self._pre[i] is None else self._pre[i][:n]  # type: ignore[index]
                    b = None if op.bias is None else self.arena.weights[op.bias]
                    self.backend.dense_forward(x, self.arena.weights[op.kernel], b, op.activation, y, z)
                case ActivationOp():
                    self.backend.activation_forward(op.activation, self._rows(x, op), self._rows(y, op))
                case AffineOp():
                    self.backend.affine(x, op.scale, op.offset, y)
                case DropoutOp() if step is None or op.rate == 0:
                    self.backend.activation_forward(linear, x, y)
                case DropoutOp():
                    mask = self._mask[i][:n]  # type: ignore[index]
                    self.backend.dropout(x, mask, y, op.rate, op.key, i, step)
            x = y
        return x

    def _backward(self, x: Array, dy: Array) -> None:
        n, ops = len(x), self.network.ops
        for i in range(len(ops) - 1, -1, -1):
            op, below = ops[i], self._out[i - 1][:n] if i else x
            match op:
                case DenseOp():
                    spare = self._deltas[1] if dy.base is self._deltas[0] else self._deltas[0]
                    dx = spare[: below.size].reshape(below.shape) if i else None
                    z = None if self._pre[i] is None else self._pre[i][:n]  # type: ignore[index]
                    db = None if op.bias is None else self._grad_views[op.bias]
                    weight, dw = self.arena.weights[op.kernel], self._grad_views[op.kernel]
                    self.backend.dense_backward(dy, below, weight, self._out[i][:n], z, op.activation, dx, dw, db)
                    dy = dx
                case ActivationOp():
                    y, z = self._rows(self._out[i][:n], op), self._rows(below, op)
                    self.backend.activation_backward(op.activation, self._rows(dy, op), y, z)
                case AffineOp():
                    self.backend.affine(dy, op.scale, 0.0, dy)
                case DropoutOp() if op.rate:
                    self.backend.multiply(dy, self._mask[i][:n])  # type: ignore[index]

    def _rows(self, a: Array, op: ActivationOp) -> Array:
        return a.reshape(-1, op.row)
