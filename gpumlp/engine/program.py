"""The looping Program: one step after the other over a backend's operations; any network, any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from gpumlp import constraints, regularizers
from gpumlp.activations import linear
from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Array, Rows
from gpumlp.engine.arena import Stretches
from gpumlp.engine.feed import Dataset, Feed, Part, passes
from gpumlp.engine.network import Network
from gpumlp.engine.operation import Place, Site
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.optimizers.stages import Variable

Doubles = npt.NDArray[np.float64]
PREDICT_BYTES = 256 << 20  # of samples, or of what comes out, that a prediction has on a device at a time


class Batch(NamedTuple):
    """What a step's metrics are computed of on the host: arrays of their own, [n, targets], [n, outputs], [n]."""

    targets: Array
    outputs: Array
    weights: Array | None


@dataclass
class StepLogs:
    """What some steps gave, one entry a step: samples, loss, and of each metric its sums and their divisor.

    ``totals[steps, sums]`` has the sums of all metrics one after the other, as many as each one's ``series``. Where a
    metric is computed on the host ``batches`` has targets, outputs and weights of each step.
    """

    samples: Doubles
    losses: Doubles
    totals: Doubles
    counts: Doubles
    batches: list[Batch] = field(default_factory=list)

    @classmethod
    def zeros(cls, steps: int | tuple[int, int], metrics: Sequence[Metric]) -> StepLogs:
        """Return the logs of ``steps`` steps, or of (models, steps), to be filled."""
        shape = (steps,) if isinstance(steps, int) else steps
        totals, counts = np.zeros((*shape, sum(m.series for m in metrics))), np.zeros((*shape, len(metrics)))
        return cls(np.zeros(shape), np.zeros(shape), totals, counts)

    def each(self) -> list[StepLogs]:
        """Return the logs of each of several models: what they are is what these are."""
        return [StepLogs(*one) for one in zip(self.samples, self.losses, self.totals, self.counts, strict=True)]

    def put(self, first: int, others: StepLogs) -> None:
        """Put the logs of the steps from ``first`` on in their places."""
        for name in ("samples", "losses", "totals", "counts"):
            values = getattr(others, name)
            getattr(self, name)[first : first + len(values)] = values
        self.batches += others.batches

    def part(self, first: int, last: int) -> StepLogs:
        """Return the logs of some steps, where there are no ``batches``."""
        now = slice(first, last)
        return StepLogs(self.samples[now], self.losses[now], self.totals[now], self.counts[now])


class Task(NamedTuple):
    """The arguments of a Program's ``run``, in its order: what to run which steps on.

    One whose class ``takes_passes`` may be given the batches of several `gpumlp.engine.feed.passes` over the data.
    """

    data: Dataset
    order: Rows | None
    batch: int
    first: int
    last: int
    loss: Loss
    metrics: list[Metric]
    optimizer: Optimizer | None = None
    slots: dict[str, Array] | None = None
    scalars: Doubles | None = None  # [last - first, n], float64: what `Optimizer.scalars` gives for each step


def rates_of(task: Task) -> Doubles | None:
    """Return the scalars of each step of a task, [steps, n] in double; None where nothing is trained."""
    if task.optimizer is None or task.scalars is not None:
        return task.scalars
    return task.optimizer.coming(task.last - task.first)


class Program(Protocol):
    """What runs the steps of one network, for at most ``batch`` samples each; the caller holds the gate."""

    @property
    def batch(self) -> int: ...

    @property
    def first_stretch(self) -> int:
        """How many steps to run before anything is known of how long they take."""

    @property
    def takes_passes(self) -> bool:
        """Whether a task may go over its data several times."""

    def describe(self) -> str:
        """Return how steps are run, and why so."""

    def run(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None, scalars: Doubles | None = None,
    ) -> StepLogs:  # fmt: skip
        """Run batches ``first`` to ``last`` - 1 of ``data`` in ``order`` (None: as it stands).

        With an ``optimizer`` they are training steps; without, only losses and metrics are computed.
        """

    @classmethod
    def run_together(cls, programs: Sequence[Self], tasks: Sequence[Task]) -> list[StepLogs]:
        """Run a task of equally many steps on each of several Programs; each gives what its ``run`` would."""

    def predict(self, x: Array, out: Array, batch: int) -> None:
        """Write the predictions for x[n, F] into out[n, O], ``batch`` samples at a time; both host's or device's."""


def one_after_the_other(programs: Sequence[Program], tasks: Sequence[Task]) -> list[StepLogs]:
    """Run a task on each of several Programs, of whatever classes they are."""
    return [program.run(*task) for program, task in zip(programs, tasks, strict=True)]


def by_pass(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Yield the parts of tasks of training, of equally many steps each, that are of one pass over their data."""
    cut = [passes(len(task.data), task.order, task.batch, task.first, task.last) for task in tasks]
    done = 0
    for each in zip(*cut, strict=True):
        stop = done + each[0][2] - each[0][1]
        yield [
            task._replace(
                order=order, first=first, last=last, scalars=None if task.scalars is None else task.scalars[done:stop]
            )
            for task, (order, first, last) in zip(tasks, each, strict=True)
        ]
        done = stop


def pass_by_pass(run: Callable[[Sequence[Task]], list[StepLogs]], tasks: Sequence[Task]) -> list[StepLogs]:
    """Return the logs of tasks of several passes over their data, of which ``run`` takes one at a time."""
    logs, done = [StepLogs.zeros(task.last - task.first, task.metrics) for task in tasks], 0
    for parts in by_pass(tasks):
        for whole, found in zip(logs, run(parts), strict=True):
            whole.put(done, found)
        done += parts[0].last - parts[0].first
    return logs


class LoopProgram:
    """Forward, backward and update of one network, with preallocated buffers for at most ``batch`` samples."""

    first_stretch = 1
    takes_passes = False
    why = ""  # why this Program, where another one could have been

    def __init__(self, network: Network, arena: Stretches, backend: Backend, batch: int) -> None:
        self.network, self.arena, self.backend, self.batch = network, arena, backend, batch
        self._feed, self.place = Feed(backend), Place()
        self.grads = arena.zeros()
        self._grad_views = arena.views(self.grads)
        self._spans = arena.spans(list(network.trainable))
        self._penalised = [(i, penalty) for i, penalty in enumerate(network.penalties) if penalty]
        make = backend.empty
        dtype = arena.dtype
        self._x, self._w = make((batch, network.sizes[0]), dtype), make((batch,), dtype)
        self._y: Array | None = None
        self._out = [make((batch, n), dtype) for n in network.sizes[1:]]
        self._sites = [
            Site(backend, i, arena.weights, self._grad_views, op.keep(backend, batch, n, dtype), frozen, self.place)
            for i, (op, n, frozen) in enumerate(zip(network.ops, network.sizes[1:], network.frozen, strict=True))
        ]
        widest = max(network.sizes)
        self._deltas = [make((batch * widest,), dtype), make((batch * widest,), dtype)]

    def describe(self) -> str:
        """See `Program.describe`."""
        return f"one operation after the other, by the {self.backend.name} kernels" + (self.why and f": {self.why}")

    def run(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None, scalars: Doubles | None = None,
    ) -> StepLogs:  # fmt: skip
        """See `Program.run`."""
        task = Task(data, order, batch, first, last, loss, metrics, optimizer, slots, scalars)
        with self.backend.running():
            return self._run_steps(task)

    @classmethod
    def run_together(cls, programs: Sequence[Self], tasks: Sequence[Task]) -> list[StepLogs]:
        """See `Program.run_together`; a class that does better overrides it."""
        return one_after_the_other(programs, tasks)

    def _run_steps(self, task: Task) -> StepLogs:
        data, optimizer, metrics, batch = task.data, task.optimizer, task.metrics, task.batch
        logs, k = StepLogs.zeros(task.last - task.first, metrics), 0
        scalars = rates_of(task)
        for part in self._feed.parts(data, task.order, batch, task.first, task.last):
            for i in range(part.first, part.first + part.steps):
                x, y, w = self._gather(part, i * batch, min((i + 1) * batch, len(part.data)))
                logs.samples[k] = len(x)
                step = optimizer.steps + 1 if optimizer is not None else None
                pred = self._forward(x, step)
                delta = self._delta(pred)
                rows = self._by_rows(y, pred, w, delta)
                value = self._lost(task.loss, *rows)
                self._measure(logs, k, metrics, *rows[:3])
                if optimizer is not None:
                    self._backward(x, delta)
                for op, site, out in zip(self.network.ops, self._sites, self._out, strict=True):
                    value += op.penalty(site, out[: len(x)])
                for j, regularizer in self._penalised:
                    grad = self._grad_views[j] if optimizer is not None else None
                    value += regularizers.apply(regularizer, self.backend, self.arena.weights[j], grad)
                logs.losses[k] = value
                if optimizer is not None and task.slots is not None:
                    assert step is not None and scalars is not None
                    self._step(optimizer, task.slots, step, tuple(scalars[k].tolist()))
                k += 1
        return logs

    def _by_rows(
        self, y: Array, pred: Array, w: Array | None, delta: Array
    ) -> tuple[Array, Array, Array | None, Array]:
        """Return targets, outputs, weights and the gradient's place with a row for each that a loss judges."""
        rows = self.network.rows
        if rows == 1:
            return y, pred, w, delta
        n = len(pred) * rows
        weights = None if w is None else self.backend.xp.repeat(w, rows)
        return y.reshape(n, -1), pred.reshape(n, -1), weights, delta.reshape(n, -1)

    def _lost(self, loss: Loss, y: Array, pred: Array, w: Array | None, delta: Array) -> float:
        """Return the loss, and write its gradient by the outputs into ``delta``."""
        share, rows = 1.0, self.network.rows
        if not loss.averages:
            values = len(pred) * (pred.shape[1] if loss.formula.by_output else 1)
            share = loss.share(len(pred) // rows, values, None if w is None else float(w.sum()) / rows)
        if loss.formula.of_batch:  # one row: its weight, by which the loss is multiplied, is the samples' mean
            w = None if w is None else self.backend.xp.mean(w, keepdims=True)
            y, pred, delta = (a.reshape(1, -1) for a in (y, pred, delta))
        value = self.backend.loss(loss, y, pred, w, delta)
        if share != 1.0:
            self.backend.xp.multiply(delta, share, out=delta)
        return value * share

    def _measure(self, logs: StepLogs, k: int, metrics: list[Metric], y: Array, pred: Array, w: Array | None) -> None:
        """Put what step ``k`` adds to the metrics into ``logs``; of those for the host, what they are computed of."""
        first = 0
        for j, metric in enumerate(metrics):
            there = slice(first, first := first + metric.series)
            if metric.series:
                logs.totals[k, there], logs.counts[k, j] = self.backend.metric(metric, y, pred, w)
        if not all(metric.series for metric in metrics):
            host = self.backend.to_host
            logs.batches.append(Batch(host(y), host(pred), None if w is None else host(w)))

    def apply(
        self, grads: Sequence[Array | None], optimizer: Optimizer, slots: dict[str, Array], scalars: Doubles
    ) -> None:
        """Do one training step by gradients from elsewhere: one for each weight array, None where nothing trains.

        They are the host's or the device's, of the weights' shapes, and left as they are.
        """
        with self.backend.running():
            for grad, view in zip(grads, self._grad_views, strict=True):
                if grad is not None and self._feed.is_foreign(grad):
                    self.backend.assign(view, np.ascontiguousarray(grad, self.arena.dtype))
                elif grad is not None:
                    self.backend.xp.multiply(grad, 1.0, out=view)
            if optimizer.loss_scale_factor is not None:
                self.backend.xp.divide(self.grads, optimizer.loss_scale_factor, out=self.grads)
            self._step(optimizer, slots, optimizer.steps + 1, tuple(scalars[0].tolist()))

    def _step(self, optimizer: Optimizer, slots: dict[str, Array], step: int, scalars: tuple[float, ...]) -> None:
        """Update what trains by the gradients that are there, count the step, and hold what is constrained."""
        self._update(optimizer, slots, step, scalars)
        optimizer.count(1)
        self.arena.version += 1
        for j, constraint in self.network.constrained:  # a user's may raise: the step counts already
            constraints.apply(constraint, self.backend, self.arena.weights[j])

    def _update(self, optimizer: Optimizer, slots: dict[str, Array], step: int, scalars: tuple[float, ...]) -> None:
        if optimizer.apart:
            optimizer.update_each(self.backend, self._variables(slots), step, scalars)
        else:
            self._update_spans(optimizer, slots, step, scalars)

    def _update_spans(
        self, optimizer: Optimizer, slots: dict[str, Array], step: int, scalars: tuple[float, ...] | Array
    ) -> None:
        """Update by the optimizer's formula; the device may have the ``scalars`` already."""
        for span in self._spans:
            state = {name: slot[span] for name, slot in slots.items()}
            optimizer.update(self.backend, self.arena.params[span], self.grads[span], state, step, scalars)

    def _variables(self, slots: dict[str, Array]) -> list[Variable]:
        """Return the weight arrays that train, each with its gradient and its state."""
        network, state = self.network, {name: self.arena.views(slot) for name, slot in slots.items()}
        return [
            Variable(path, self.arena.weights[i], self._grad_views[i], {name: own[i] for name, own in state.items()})
            for i, (path, trains) in enumerate(zip(network.paths, network.trainable, strict=True))
            if trains
        ]

    def predict(self, x: Array, out: Array, batch: int, step: int | None = None) -> None:
        """See `Program.predict`; with a ``step``, as that step of training has it."""
        with self.backend.running():
            self._predict_batches(x, out, batch, step)

    def _predict_batches(self, x: Array, out: Array, batch: int, step: int | None = None) -> None:
        piece = max(batch, PREDICT_BYTES // (x.itemsize * max(x.shape[1], out.shape[1])) // batch * batch)
        for first in range(0, len(x), piece):
            there, result = x[first : first + piece], out[first : first + piece]
            on_host = self._feed.is_foreign(out)
            if on_host:
                there, result = self.backend.to_device(there), self.backend.empty(result.shape, out.dtype)
            for start in range(0, len(there), batch):
                rows = slice(start, min(start + batch, len(there)))
                self.backend.activation_forward(linear, self._forward(there[rows], step), result[rows])
            if on_host:
                out[first : first + piece] = self.backend.to_host(result)

    def look(self, x: Array) -> list[Array]:
        """Return what each operation gives for x[n, F], at most ``batch`` samples; it stands until the next call."""
        with self.backend.running():
            self._forward(x, None)
        return [out[: len(x)] for out in self._out]

    def gradients(
        self, data: Dataset, dx: Array, batch: int, loss: Loss | None, step: int | None = None
    ) -> list[Array]:
        """Write the gradient by ``data.x`` into ``dx``, of the same shape, and return those by all weights.

        Of the ``loss`` of all the data, with the penalties, or, without one, of the outputs times ``data.y``.
        ``step``: see `predict`. What batches give is added up in their order, into arrays that are the Program's.
        """
        with self.backend.running():
            return self._sum_gradients(data, dx, batch, loss, step)

    def _sum_gradients(self, data: Dataset, dx: Array, batch: int, loss: Loss | None, step: int | None) -> list[Array]:
        backend, n, done, foreign = self.backend, len(data), 0, self._feed.is_foreign(dx)
        total = self.grads if n <= batch else self.arena.zeros()
        for part in self._feed.parts(data, None, batch, 0, -(-n // batch)):
            for i in range(part.first, part.first + part.steps):
                x, y, w = self._gather(part, i * batch, min((i + 1) * batch, len(part.data)))
                found, share = self._slopes(x, y, w, loss, step), len(x) / n
                if loss is not None and share < 1.0:  # a batch's are those of its mean
                    for slopes in (found, self.grads):
                        backend.xp.multiply(slopes, share, out=slopes)
                rows = slice(done, done := done + len(x))
                if foreign:
                    dx[rows] = backend.to_host(found)
                else:
                    backend.activation_forward(linear, found, dx[rows])
                if total is not self.grads:
                    backend.xp.add(total, self.grads, out=total)
        views = self.arena.views(total)
        for j, regularizer in self._penalised if loss is not None else ():
            regularizers.apply(regularizer, backend, self.arena.weights[j], views[j])
        return views

    def _slopes(self, x: Array, y: Array, w: Array | None, loss: Loss | None, step: int | None) -> Array:
        """Return a batch's gradient by ``x``, and have those by the weights in ``grads``."""
        pred = self._forward(x, step)
        delta = self._delta(pred)
        if loss is None:
            self.backend.activation_forward(linear, y, delta)
        else:
            self._lost(loss, *self._by_rows(y, pred, w, delta))
        found = self._backward(x, delta, by_inputs=True)
        assert found is not None
        return found

    def _gather(self, part: Part, start: int, stop: int) -> tuple[Array, Array, Array | None]:
        data, n = part.data, stop - start
        assert data.y is not None
        if part.order is None:
            w = None if data.weights is None else data.weights[start:stop]
            return data.x[start:stop], data.y[start:stop], w
        rows = part.order[start:stop]
        target = self._targets(data.y.shape[1])[:n]
        self.backend.take(data.x, rows, self._x[:n])
        self.backend.take(data.y, rows, target)
        if data.weights is None:
            return self._x[:n], target, None
        self.backend.take(data.weights, rows, self._w[:n])
        return self._x[:n], target, self._w[:n]

    def _targets(self, width: int) -> Array:
        """Return the buffer for a batch's targets."""
        if self._y is None or self._y.shape[1] != width:
            self._y = self.backend.empty((self.batch, width), self.arena.dtype)
        return self._y

    def _delta(self, like: Array) -> Array:
        """Return the buffer where the gradient by the predictions goes, from where `_backward` takes it."""
        return self._deltas[0][: like.size].reshape(like.shape)

    def _forward(self, x: Array, step: int | None) -> Array:
        for op, site, out in zip(self.network.ops, self._sites, self._out, strict=True):
            y = out[: len(x)]
            op.forward(site, x, y, step)
            x = y
        return x

    def _backward(self, x: Array, dy: Array, by_inputs: bool = False) -> Array | None:
        """Fill the gradients, from ``dy`` in `_delta`'s buffer down to ``x``; two buffers take turns on the way.

        Returns the gradient ``by_inputs`` where it is asked for.
        """
        n, ops, spare = len(x), self.network.ops, 1
        for i in range(len(ops) - 1, -1, -1):
            below = self._out[i - 1][:n] if i else x
            dx = self._deltas[spare][: below.size].reshape(below.shape) if i or by_inputs else None
            found = ops[i].backward(self._sites[i], dy, below, self._out[i][:n], dx)
            if found is None:  # of the first one, of which nobody asks for it
                return None
            dy = found
            if found is dx:
                spare = 1 - spare
        return dy
