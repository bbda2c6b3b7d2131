"""The Program of CUDA graphs: the steps of an epoch, recorded once and replayed, for any network.

A recording holds up to LONGEST steps, each of them all the launches of forward, loss, backward and update. What differs
from replay to replay stands in device memory, in a small control block that the host writes once a run: where the data
and the order of the samples are, which batch comes first, each step's learning rate. Losses and metrics gather on the
device and come back once a run. A ragged last batch runs the same launches, of which some threads find nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gpumlp.backends.contract import Recorder
from gpumlp.backends.device_backend import PENALTY_PARTS
from gpumlp.backends.runtime import Array, Recording, Rows, float_words
from gpumlp.engine.arena import Stretches
from gpumlp.engine.feed import Dataset, Feed, Part
from gpumlp.engine.network import Network
from gpumlp.engine.normalization import FeatureBatchNormOp, FeatureNormalizationOp
from gpumlp.engine.operations import ActivationOp, AffineOp, DenseOp, DropoutOp
from gpumlp.engine.program import Doubles, LoopProgram, StepLogs, Task, rates_of
from gpumlp.errors import KernelError
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer

KERNELS = {  # that launch kernels, which can be recorded, and nothing else
    DenseOp, ActivationOp, DropoutOp, AffineOp, FeatureBatchNormOp, FeatureNormalizationOp,
}  # fmt: skip
LONGEST = 32  # steps in a recording: past that, launching a graph costs nothing beside running it
CAPACITY = 4096  # steps in a run of the device without the host
PLANS = 8  # kept: training, evaluation, and some other batch sizes; the one longest unused goes first


class _Control:
    """What the host writes for a run: the struct Run of step.cu, the counters, and ``rates`` numbers for each step."""

    def __init__(self, backend: Recorder, rates: int) -> None:
        self.rates = max(rates, 1)
        self.words = backend.zeros(backend.run_words + 2 + -(-CAPACITY * self.rates // 2), np.int64)
        self.run, rest = self.words[: backend.run_words], self.words[backend.run_words :]
        self.counters, self.scalars = rest[:2], rest[2:]
        self.now = backend.zeros(self.rates, np.float32)  # the numbers of the step under way


@dataclass
class _Plan:
    """What recordings are made for, and the device memory that they share."""

    batch: int
    loss: Loss
    metrics: list[Metric]
    optimizer: Optimizer | None
    slots: dict[str, Array] | None
    weighted: bool
    targets: int
    control: _Control
    values: Array  # [LONGEST, series, length]: a step's loss, metrics (and counts), penalties, not yet summed
    results: Array  # [CAPACITY, series] float64: their sums
    counted: list[bool]  # for each metric, whether a series behind its sums has its divisors; else they are the samples
    recordings: dict[int, Recording] = field(default_factory=dict)


class GraphProgram(LoopProgram):
    """Steps as recorded graphs; where recording fails, as its base runs them, and `describe` says why."""

    first_stretch = LONGEST
    backend: Recorder

    def __init__(self, network: Network, arena: Stretches, backend: Recorder, batch: int) -> None:
        super().__init__(network, arena, backend, batch)
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self._failure: str | None = None
        self._said: dict[str, float] = {}  # launches a step, by what is run
        self._live = backend.zeros(1, np.int32)

    @property
    def feed(self) -> Feed:
        """How samples come: also to a Program that holds this one, and runs other steps on the same data."""
        return self._feed

    def describe(self) -> str:
        if self._failure:
            return f"{super().describe()}: {self._failure}"
        said = "".join(f"; {kind}: {count:.1f} launches a step" for kind, count in self._said.items())
        return f"CUDA graphs of up to {LONGEST} steps{said}"

    def run(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None, scalars: Doubles | None = None,
    ) -> StepLogs:  # fmt: skip
        """See `Program.run`."""
        scalars = rates_of(Task(data, order, batch, first, last, loss, metrics, optimizer, slots, scalars))
        assert data.y is not None
        if self._failure is None:
            plan = self._plan(batch, loss, metrics, optimizer, slots, data.weights is not None, data.y.shape[1])
            try:
                self._record(plan, data, first, last)
            except KernelError as error:
                self._failure = str(error)
        if self._failure is not None:
            return super().run(data, order, batch, first, last, loss, metrics, optimizer, slots, scalars)
        logs = StepLogs.zeros(last - first, metrics)
        for start in range(first, last, CAPACITY):
            stop = min(start + CAPACITY, last)
            k = np.arange(start, stop)
            rows = np.minimum((k + 1) * batch, len(data)) - k * batch
            parts = self._feed.parts(data, order, batch, start, stop)
            rates = None if scalars is None else scalars[start - first : stop - first]
            self._replay(plan, optimizer, parts, rates)
            self._read(plan, logs, slice(start - first, stop - first), rows)
        return logs

    # ---- recording -------------------------------------------------------------------------------------------------

    def _plan(
        self, batch: int, loss: Loss, metrics: list[Metric], optimizer: Optimizer | None,
        slots: dict[str, Array] | None, weighted: bool, targets: int,
    ) -> _Plan:  # fmt: skip
        # all that a launch holds as a constant; the rates are read on the device at every step
        config = () if optimizer is None else (optimizer.formula.text, *optimizer.numbers.items())
        key = (batch, loss, *metrics, *config, id(slots), weighted, targets)
        plan = self._plans.pop(key, None)
        if plan is None:
            counted = [metric.weighted and weighted for metric in metrics]
            series = 1 + sum(len(m.formula.roots) for m in metrics) + sum(counted) + len(self._penalised)
            length = max(batch, PENALTY_PARTS if self._penalised else 0)
            values = self.backend.zeros((LONGEST, series, length), np.float32)
            results = self.backend.zeros((CAPACITY, series), np.float64)
            control = _Control(self.backend, 0 if optimizer is None else len(optimizer.scalar_names))
            plan = _Plan(batch, loss, metrics, optimizer, slots, weighted, targets, control, values, results, counted)
        plan.optimizer = optimizer  # another one perhaps, of the same constants
        self._plans[key] = plan
        if len(self._plans) > PLANS:
            del self._plans[next(iter(self._plans))]
        return plan

    def _record(self, plan: _Plan, data: Dataset, first: int, last: int) -> None:
        """Record all that batches ``first`` to ``last`` - 1 will replay: where that fails, nothing has run yet."""
        for start in range(first, last, CAPACITY):
            for steps in self._feed.part_steps(data, plan.batch, start, min(start + CAPACITY, last)):
                for length in _lengths(steps):
                    self._recording(plan, length)

    def _recording(self, plan: _Plan, length: int) -> Recording:
        if length not in plan.recordings:
            recording = plan.recordings[length] = self.backend.runtime.record(lambda: self._launch(plan, length))
            kind = "evaluation" if plan.optimizer is None else "training"
            self._said[kind] = recording.nodes / length
        return plan.recordings[length]

    def _launch(self, plan: _Plan, length: int) -> None:
        """Launch everything that ``length`` steps need."""
        backend, control = self.backend, plan.control
        with backend.live(self._live, plan.batch, control.counters[1:]):
            for slot in range(length):
                self._launch_step(plan, slot)
        backend.reduce(control.run, control.counters, plan.values, length)
        backend.advance(control.counters, length)

    def _launch_step(self, plan: _Plan, slot: int) -> None:
        backend, n, training, control = self.backend, plan.batch, plan.optimizer is not None, plan.control
        x, y, w = self._x[:n], self._targets(plan.targets)[:n], self._w[:n] if plan.weighted else None
        backend.gather(x, y, w, self._live, control.now, control.counters, control.run, slot, training)
        pred = self._forward(x, 1 if training else None)  # the step's number is read from the device
        delta = self._delta(pred)
        values, at = plan.values[slot], 1
        backend.loss_into(values[0], plan.loss, y, pred, w, delta)
        for metric, counted in zip(plan.metrics, plan.counted, strict=True):
            end = at + len(metric.formula.roots)
            backend.metric_into(values[at:end], values[end] if counted else None, metric, y, pred, w)
            at = end + counted
        if training:
            self._backward(x, delta)
        for k, (i, regularizer) in enumerate(self._penalised):
            gradient = self._grad_views[i] if training else None
            backend.penalty_into(values[at + k], regularizer, self.arena.weights[i], gradient)
        if plan.optimizer is not None and plan.slots is not None:
            self._update_spans(plan.optimizer, plan.slots, 0, control.now)

    # ---- running ---------------------------------------------------------------------------------------------------

    def _replay(self, plan: _Plan, optimizer: Optimizer | None, parts: Iterator[Part], scalars: Doubles | None) -> None:
        """Run at most CAPACITY steps on the samples of ``parts``, of which ``scalars`` has the optimizer's numbers."""
        done, control = 0, plan.control
        rates = float_words([] if scalars is None else scalars.reshape(-1))
        iteration = 0 if optimizer is None else optimizer.steps
        for part in parts:
            # the device counts on through a run's parts: batch part.first must be the one of step ``done``
            numbers = (part.first - done, plan.batch, len(part.data), iteration, plan.results.shape[1])
            run = self.backend.run_struct(part.data, part.order, control.scalars, plan.results, numbers)
            words = np.concatenate([run, np.array([done, 0]), rates])
            self.backend.assign(control.words[: len(words)], words)
            for length in _lengths(part.steps):
                self._recording(plan, length).replay()
            done += part.steps
        if optimizer is not None:
            optimizer.count(done)
            self.arena.version += 1

    def _read(self, plan: _Plan, logs: StepLogs, where: slice[int, int, None], rows: Rows) -> None:
        """Fetch the sums of a run's steps, of ``rows`` samples each, into ``logs``."""
        series = iter(self.backend.to_host(plan.results[: len(rows)]).T)
        logs.samples[where] = rows
        logs.losses[where] = next(series) / rows
        place = iter(range(logs.totals.shape[1]))
        for i, (metric, counted) in enumerate(zip(plan.metrics, plan.counted, strict=True)):
            for _ in range(metric.series):
                logs.totals[where, next(place)] = next(series)
            logs.counts[where, i] = next(series) if counted else rows
        for _ in self._penalised:
            logs.losses[where] += next(series)


def _lengths(steps: int) -> Iterator[int]:
    """Yield the lengths of the recordings that make up ``steps`` steps."""
    for start in range(0, steps, LONGEST):
        yield min(LONGEST, steps - start)
