"""The Program of compiled steps on the CPU: any number of batches in one call, on several threads; any network.

What is computed, and how it is shared out, stands in kernels/cpu/step.py. Here is the memory that it works in, and the
table that describes it. Activations, and the gradients by them, are kept in rows that are padded to whole cache lines.
float32 only.

Several Programs run in one call too, each by one thread: then no thread waits for another before the call's end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.fields import WORDS, address, readable
from gpumlp.backends.job import (
    Job,
    OperationRecord,
    activation_codes,
    activation_fields,
    is_plain_relu,
    job_list,
    layout,
    objective_codes,
    padded,
    penalty_code,
    penalty_fields,
    series_of,
    update_code,
)  # fmt: skip
from gpumlp.backends.native import Kernels
from gpumlp.backends.numpy_backend import aligned_zeros, kept_scale
from gpumlp.backends.runtime import Array, Rows
from gpumlp.backends.team import Team, let_others
from gpumlp.config import in_float32
from gpumlp.engine.arena import Stretches
from gpumlp.engine.dispatch import Judged
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network
from gpumlp.engine.normalization import BatchNormOp, FeatureBatchNormOp, FeatureNormalizationOp, NormalizationOp
from gpumlp.engine.operation import Place
from gpumlp.engine.operations import ActivationOp, AffineOp, DenseOp, DropoutOp, Operation
from gpumlp.engine.program import Batch, Doubles, StepLogs, Task, rates_of
from gpumlp.formulas import Formula
from gpumlp.losses import Loss
from gpumlp.metrics import Metric, of_host
from gpumlp.optimizers import Optimizer

# A thread must have this many operations to do in a step, and this many samples in its tiles, to be worth its waiting.
OPERATIONS_EACH = 400_000
FEW = 16  # samples that are predicted through memory of the Program's own
PREDICTING = 20  # times as much for predictions: another thread must be woken for each
RATE = 5e10  # operations a second that one thread is taken to do before anything is known
SAMPLES_EACH = 4
WORTH = 0.004  # seconds of work, on one thread, for which others are called: which takes some tenths of a millisecond
BRIEF = 0.1  # of that
PIECE, TRIAL = 0.1, 0.005  # seconds in one call, and in one that tries another number of threads
THRIFT = 50  # times what a trial may cost must have gone by since the last one
RETRY = 2.0  # seconds at least from one trial to the next of what was tried before
SOON = 0.125  # of what must have gone by, at first, where another number has become the best: somebody else's work ends
GAIN = 0.8  # of the time that half as many threads take, at most: processor time is somebody's, too
ALONE = 3.0  # seconds of work for which one thread is left alone, unless there are HEAVY operations to do in a step
HEAVY = 20_000_000


LONG = 1 << 20  # bytes of a batch's activations and gradients by them, from which on it goes in slices
SLICE, LEAST = 1 << 18, 64  # bytes of a slice's at most, and samples at least


class Pace:
    """How many threads to use, of ``most``, half of that, a quarter, ... 1, by trying; twice as many must be worth it.

    Results do not depend on it, and what is best does not depend on the network alone: two processors may be two halves
    of one core, or far apart, or busy with somebody else's work, and then wait for each other. ``guess``: seconds a
    step. All steps must be about as long. ``heavy``: meetings count little in such steps, so all threads begin.
    """

    def __init__(self, most: int, guess: float, heavy: bool) -> None:
        self._choices = [most]
        while self._choices[0] > 1:
            self._choices.insert(0, self._choices[0] // 2)
        self._first = most if heavy else 1
        self._seconds: dict[int, float] = {}  # a step's, the less of the last two measured
        self._last: dict[int, float] = {}
        self._guess, self._alone = guess, 0.0 if heavy else ALONE
        self._since, self._trials = 0.0, 0  # seconds of work since the last trial, and how many there were
        self._patience, self._was = 1.0, 0  # share of the time to wait for the next one; what was best last
        self._before, self._trial = 0, 0  # threads of the last piece, and of one that is to be run once more
        self.threads = 1

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, threads) from ``first`` to ``last``; the caller runs each before it asks for the next."""
        while first < last:
            self.threads, seconds = self._next(last - first)
            size = max(1, int(min(seconds / self._per_step(self.threads), last - first)))
            stop, began = first + size, time.perf_counter()
            yield first, stop, self.threads
            took = time.perf_counter() - began
            self._since += took
            if self.threads == self._before:  # the first one of others also wakes threads and moves memory to them
                each = max(took / size, 1e-9)
                self._seconds[self.threads] = min(each, self._last.get(self.threads, each))
                self._last[self.threads] = each
            first, self._before = stop, self.threads

    def is_one_piece(self, steps: int) -> bool:
        """Whether so many steps are one piece, by one thread, whatever was measured; Python's time counts there."""
        return len(self._choices) == 1 and steps * self._guess < TRIAL

    def _per_step(self, threads: int) -> float:
        return self._seconds.get(threads) or min(self._seconds.values(), default=self._guess)

    def _next(self, steps: int) -> tuple[int, float]:
        """Return with how many threads to run the next piece of at most so many steps, and for how long."""
        if len(self._choices) == 1 or steps * self._per_step(1) < WORTH:
            return 1, PIECE
        if self._trial:
            threads, self._trial = self._trial, 0
            return threads, TRIAL
        best = self._best()
        if best != self._was and self._was:
            self._patience = SOON
        self._was = best
        if threads := self._due(best):
            self._trial, self._since, self._alone = threads, 0.0, 0.0
            self._trials, self._patience = self._trials + 1, min(1.0, 2 * self._patience)
            return threads, TRIAL
        return best, PIECE if best in self._seconds else TRIAL

    def _best(self) -> int:
        best, *more = [n for n in self._choices if n in self._seconds] or [self._first]
        for threads in more:
            if self._seconds[threads] <= self._seconds[best] * GAIN ** math.log2(threads / best):
                best = threads
        return best

    def _due(self, best: int) -> int:
        """Return how many threads are to be tried now, twice as many as the best or half; 0 for none."""
        i = self._choices.index(best)
        near = [n for n in self._choices[max(i - 1, 0) : i + 2] if n != best]
        unknown = [n for n in near if n not in self._seconds]
        found = (unknown or near)[self._trials % len(unknown or near)]
        cost = 2 * max(TRIAL, self._per_step(best) * max(best / found, 1.0))
        wait = max(self._alone, max(0.0 if unknown else RETRY, THRIFT * cost) * self._patience)
        return found if self._since >= wait else 0


class CompiledProgram:
    """Steps of one network, with preallocated memory for at most ``batch`` samples.

    It has one table, and kernels write where that says: one caller at a time, who is inside the model's gate.
    """

    takes_passes = False

    def __init__(self, network: Network, arena: Stretches, batch: int, functions: Kernels, team: Team) -> None:
        self.network, self.arena, self.batch = network, arena, batch
        self._functions, self._instructions, self._team = functions, functions.instructions, team
        self.place = Place()
        self._work = 2 * network.products
        self._paces: dict[tuple[bool, int, int], Pace] = {}
        self._pace, self._together = self._pace_for(batch, True), 1  # of the last steps, and how many ran them together
        self.first_stretch = max(1, int(TRIAL / _guess(3 * self._work * batch)))  # steps before anything is known
        self._long, self._slice = _slices(network)
        self._slices = layout().slices_of(batch, self._long, self._slice)
        self._rows = batch if self._slices == 1 else max(self._long, min(team.size, self._slices) * self._slice)
        self._values = [aligned_zeros((self._rows, padded(n)), arena.dtype) for n in network.sizes]
        self._deltas = [aligned_zeros((self._rows, padded(n)), arena.dtype) for n in network.sizes]
        self._few = [aligned_zeros((FEW, n), arena.dtype) for n in (network.sizes[0], network.sizes[-1])]
        source, target = (address("PREDICTIONS", array) for array in self._few)
        self._few_addresses = source, 0, target
        self.few, self._forward = min(FEW, batch), layout().FORWARD
        self._job = self._made(0)
        self._checked = -1  # the arena's version whose weights were looked at for NaN and Inf
        # What the table says: a loss, metrics and how wide targets are; an optimizer's rule, and its state.
        self._objective: tuple[Loss, list[Metric], int] | None = None
        self._why_host = ""  # what it does not say: which of the last metrics the host computes, and why
        self._updated: tuple[tuple[Formula, dict[str, float]], dict[str, Array]] | None = None
        self._told: Task | None = None  # what the whole table is of, if that is done `again`

    def describe(self) -> str:
        """Return how steps are run."""
        threads = self._pace.threads
        how = f"{'together on ' * (self._together > 1)}{threads} thread{'s' if threads > 1 else ''}"
        host = f"; by the host: {self._why_host}" if self._why_host else ""
        return f"compiled for {self._instructions.name}, many steps in one call; {how} in the last call{host}"

    def _threads_for(self, samples: int, operations: float) -> int:
        """Return how many threads can be of use."""
        return int(max(1, min(self._team.size, samples // SAMPLES_EACH, operations // OPERATIONS_EACH)))

    def _pace_for(self, batch: int, training: bool, together: int = 1) -> Pace:
        """Return the Pace of steps of that kind, about that large, of so many Programs: others say nothing of these."""
        kind = training, batch.bit_length(), together
        if kind not in self._paces:
            operations = (3 if training else 1) * self._work * batch
            most = self._threads_for(batch, operations) if together == 1 else min(together, self._team.size)
            heavy = together > 1 or operations >= HEAVY  # several Programs do not wait for each other in a step
            self._paces[kind] = Pace(most, together * _guess(operations), heavy)
        return self._paces[kind]

    # ---- the table -------------------------------------------------------------------------------------------------

    def _made(self, metrics: int, series: int = 1) -> Job:
        """Return a table for this network, and for so many metrics, which give ``series`` numbers with the loss."""
        network, batch, self._series = self.network, self.batch, series
        job = Job(len(network.ops), metrics, self._instructions)
        self._shared: list[tuple[OperationRecord, DenseOp]] = []  # the rows of a kernel, which threads share
        self._columns: list[tuple[NormalizationOp, Array]] = []  # and, for each feature, (x - [0]) * [1] + [2]
        job.set_work(self._team.size, self._rows, max(network.sizes))
        job.set(
            YIELD=let_others(), X_WIDTH=network.sizes[0], PREDICTIONS_WIDTH=network.sizes[-1],
            BATCH_W=aligned_zeros((self._rows,), np.float32), FACTORS=aligned_zeros((self._rows,), np.float32),
            VALUES=aligned_zeros((series, batch), np.float32), VALUES_LD=batch, SERIES=series,
            LONG=self._long, SLICE=self._slice,
        )  # fmt: skip
        weights = 0
        for i, (op, record) in enumerate(zip(network.ops, job.operations, strict=True)):
            record.set(
                INPUTS=network.sizes[i], OUTPUTS=network.sizes[i + 1], LAYER=i,
                IN=self._values[i], IN_LD=padded(network.sizes[i]), IN_DELTA=self._deltas[i] if i else None,
                OUT=self._values[i + 1], OUT_LD=padded(network.sizes[i + 1]), DELTA=self._deltas[i + 1],
            )  # fmt: skip
            KERNELS[type(op)](self, record, i, op)
            record.set(SLICE_AT=weights)
            weights += _weights(op)
        if self._slices > 1:
            gradients = aligned_zeros((self._slices, padded(weights)), np.float32)
            job.set(SLICES=gradients, SLICES_LD=gradients.shape[1])
        self._penalized = any(record.get("PENALTIES") for record in job.operations)
        return job

    def _set_activation(self, record: OperationRecord, i: int, op: ActivationOp) -> None:
        record.set(KIND=layout().ACTIVATION, ROW=op.row, **activation_fields(op.activation, self._instructions))

    def _set_affine(self, record: OperationRecord, i: int, op: AffineOp) -> None:
        record.set(KIND=layout().AFFINE, FACTOR=op.scale, OFFSET=op.offset)

    def _set_dropout(self, record: OperationRecord, i: int, op: DropoutOp) -> None:
        mask = aligned_zeros((self._rows, self.network.sizes[i + 1]), np.float32)
        record.set(KIND=layout().DROPOUT, MASK=mask, RATE=op.rate, SCALE=kept_scale(op.rate), KEY=op.key)

    def _set_dense(self, record: OperationRecord, i: int, op: DenseOp) -> None:
        names, network = layout(), self.network
        of_kernel, kernel_numbers = penalty_fields(network.penalties[op.kernel], self._instructions)
        of_bias, bias_numbers = penalty_fields(
            None if op.bias is None else network.penalties[op.bias], self._instructions
        )
        self._shared.append((record, op))
        below = network.ops[i - 1] if i else None
        zeros = names.SOME_ZEROS if i == 0 or isinstance(below, DropoutOp) else 0
        if isinstance(below, (DenseOp, ActivationOp)) and is_plain_relu(below.activation):
            zeros = names.RELU_ZEROS
        if op.outputs < names.WIDE:
            zeros = 0
        z = aligned_zeros(self._values[i + 1].shape, np.float32) if op.activation.formula.retains_input else None
        record.set(
            KIND=names.DENSE, KERNEL=self.arena.weights[op.kernel], KERNEL_TRAINS=int(network.trainable[op.kernel]),
            BIAS=None if op.bias is None else self.arena.weights[op.bias],
            BIAS_TRAINS=int(op.bias is not None and network.trainable[op.bias]),
            KERNEL_PENALTY_CODE=of_kernel, KERNEL_PENALTY_NUMBERS=kernel_numbers,
            BIAS_PENALTY_CODE=of_bias, BIAS_PENALTY_NUMBERS=bias_numbers,
            PENALTIES=np.zeros(op.inputs + 1) if of_kernel or of_bias else None, PARTS=op.inputs + 1, Z=z, ZEROS=zeros,
            ACTIVE=aligned_zeros((self._team.size, padded(op.inputs)), np.float32), ACTIVE_LD=padded(op.inputs),
            SHARES=_shares(op, self._team.size),
            **activation_fields(op.activation, self._instructions, fused=True),
        )  # fmt: skip

    def _set_batch_norm(self, record: OperationRecord, i: int, op: BatchNormOp) -> None:
        size = self.network.sizes[i]
        places = [None if place is None else self.arena.weights[place] for place in (op.gamma, op.beta)]
        trains = [place is not None and self.network.trainable[place] for place in (op.gamma, op.beta)]
        penalties = [None if place is None else self.network.penalties[place] for place in (op.gamma, op.beta)]
        of_gamma, gamma_numbers = penalty_fields(penalties[0], self._instructions)
        of_beta, beta_numbers = penalty_fields(penalties[1], self._instructions)
        record.set(
            KIND=layout().BATCH_NORM, KERNEL=places[0], BIAS=places[1], KERNEL_TRAINS=int(trains[0]),
            BIAS_TRAINS=int(trains[1]), KERNEL_PENALTY_CODE=of_gamma, KERNEL_PENALTY_NUMBERS=gamma_numbers,
            BIAS_PENALTY_CODE=of_beta, BIAS_PENALTY_NUMBERS=beta_numbers,
            PENALTIES=np.zeros(2) if of_gamma or of_beta else None, PARTS=2,
            MEAN=self.arena.weights[op.mean], VARIANCE=self.arena.weights[op.variance],
            KEPT=aligned_zeros((2, size), np.float32), SUMS=aligned_zeros((2, size), np.float32),
            EPSILON=op.epsilon, MOMENTUM=op.momentum, FROZEN=int(self.network.frozen[i]),
        )  # fmt: skip

    def _set_columns(self, record: OperationRecord, i: int, op: NormalizationOp) -> None:
        vectors = aligned_zeros((3, self.network.sizes[i]), np.float32)
        self._columns.append((op, vectors))
        record.set(KIND=layout().COLUMNS, MEAN=vectors[0], KERNEL=vectors[1], BIAS=vectors[2])

    # ---- running ---------------------------------------------------------------------------------------------------

    def run(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None, scalars: Doubles | None = None,
    ) -> StepLogs:  # fmt: skip
        """See `Program.run`."""
        task = Task(data, order, batch, first, last, loss, metrics, optimizer, slots, scalars)
        return self.run_together([self], [task])[0]

    def is_brief(self, samples: int) -> bool:
        """Whether a step with so many samples is over long before other threads would be called, by the estimate."""
        return _guess(3 * self._work * samples) < BRIEF * WORTH

    def begun(self, task: Task) -> _Run:
        """Return a task of one step that `is_brief`, to be done `again` and again, with other numbers in its arrays."""
        return _Run(self, task)

    def again(self, run: _Run, scalars: Sequence[float]) -> list[float]:
        """Do what was `begun`, with the optimizer's ``scalars``; return its row of results."""
        if self._told is run.task:
            self._job.begin()
            self._look_at_weights()
        else:
            run.phases = self._set_task(run.task)
            self._told = run.task
        run.set_all(scalars)
        self._call(1)
        run.count(1)
        found: list[float] = run.results[0].tolist()
        return found

    @classmethod
    def run_together(cls, programs: Sequence[Self], tasks: Sequence[Task]) -> list[StepLogs]:
        """See `Program.run_together`; one Program by itself has all threads in each of its steps."""
        runs = [_Run(program, task) for program, task in zip(programs, tasks, strict=True)]
        lead, count = programs[0], len(programs)
        pace = lead._pace_for(tasks[0].batch, tasks[0].optimizer is not None, count)
        for program in programs:
            program._pace, program._together = pace, count
        steps = tasks[0].last - tasks[0].first
        for start, stop, threads in ((0, steps, 1),) if pace.is_one_piece(steps) else pace.pieces(0, steps):
            for run in runs:
                run.set(start, stop)
            if count == 1:
                lead._call(threads)
            else:
                _call_many(programs, threads)
            for run in runs:
                run.count(stop - start)
        return [run.logs(run.results) for run in runs]

    def _call(self, threads: int) -> None:
        if threads > 1:
            threads = self._team.available(threads)
        self._share(threads)
        self._team.run(self._functions["run"], self._job.address, threads)

    def _share(self, threads: int) -> None:
        """Share the job out among so many threads."""
        if self._job.threads != threads:
            self._job.set_threads(threads)
            for record, op in self._shared:
                record.set(SHARES=_shares(op, threads))

    def _set_task(self, task: Task) -> int:
        """Have the table say what the steps of ``task`` are made of; return the phases of a step."""
        names, y = layout(), task.data.y
        assert y is not None
        self._told = None
        self._set_objective(task.loss, task.metrics, y.shape[1])
        job, phases = self._job, names.FORWARD | names.OBJECTIVE
        if task.optimizer is not None and task.slots is not None:
            phases |= names.BACK | names.UPDATE
            self._set_optimizer(task.optimizer, task.slots)
        elif self._penalized:
            phases |= names.PENALIZE
        job.set(PLACE=self.place.first)
        job.begin()
        self._look_at_weights()
        return phases

    def _set_objective(self, loss: Loss, metrics: list[Metric], width: int) -> None:
        """Have the table say what is judged, of targets of ``width``, unless it does so already."""
        objective = loss, [*metrics], width
        if objective == self._objective:
            return
        self._why_host = of_host(metrics)
        metrics = _summed(metrics)
        count, series, outputs = len(metrics), series_of(metrics), self.network.sizes[-1]
        if count != len(self._job.metrics) or series != self._series:
            self._job, self._checked, self._updated = self._made(count, series), -1, None
        self._job.set_objective(loss, metrics, outputs, width)
        self._job.set(BATCH_Y=aligned_zeros((self._rows, width), np.float32), Y_WIDTH=width)
        self._objective = objective

    def _set_optimizer(self, optimizer: Optimizer, slots: dict[str, Array]) -> None:
        """Have the table say how weights are updated, unless it does so already."""
        rule, params = (optimizer.formula, optimizer.numbers), self.arena.params
        if self._updated is None or self._updated[0] != rule or self._updated[1] is not slots:
            self._job.set_optimizer(optimizer, params, slots)
            self._updated = rule, slots

    def _look_at_weights(self) -> None:
        """Tell the kernels whether there is NaN or Inf in weights that were set by somebody else, and what is fixed."""
        if self._checked != self.arena.version:
            for op, vectors in self._columns:
                vectors[...] = op.columns(self.arena.weights, vectors.shape[1])
            self._job.set(WEIGHTS_BAD=int(not np.isfinite(self.arena.params).all()))
            self._checked = self.arena.version

    def predict(self, x: Array, out: Array, batch: int) -> None:
        """Write the predictions for x[n, F] into out[n, O], ``batch`` samples at a time."""
        if len(x) <= min(self.few, batch):
            out[...] = self.predict_few(x)
            return
        x, count = readable("X", x), len(x)
        source, target = address("X", x), address("PREDICTIONS", out, count * self.network.sizes[-1])
        self._look_at_weights()
        self._job.set_call(layout().FORWARD, (0, -(-count // batch)), batch, count, 0, source, 0, target)
        self._call(self._threads_for(min(batch, count), self._work * count / PREDICTING))

    def predict_few(self, x: Array) -> Array:
        """Return the predictions for x[n, F], n up to ``few``: copying is quicker than asking NumPy for addresses."""
        count, (source, target) = len(x), self._few
        source[:count] = x
        self._look_at_weights()
        self._job.set_call(self._forward, (0, 1), count, count, 0, *self._few_addresses)
        self._call(1)
        return target[:count].copy()


# The operations that there are compiled kernels for, and what fills in their records.
KERNELS: dict[type[Operation], Callable[[CompiledProgram, OperationRecord, int, Any], None]] = {
    DenseOp: CompiledProgram._set_dense,
    ActivationOp: CompiledProgram._set_activation,
    DropoutOp: CompiledProgram._set_dropout,
    AffineOp: CompiledProgram._set_affine,
    NormalizationOp: CompiledProgram._set_columns,
    FeatureNormalizationOp: CompiledProgram._set_columns,
    FeatureBatchNormOp: CompiledProgram._set_batch_norm,
}


def codes(network: Network, judged: Judged | None) -> list[Code]:
    """Return the formulas' functions that a job needs."""
    found: list[Code | None] = []
    for op in network.ops:
        if isinstance(op, (DenseOp, ActivationOp)):
            found += activation_codes(op.activation, fused=isinstance(op, DenseOp))
    found += [penalty_code(penalty) for penalty in network.penalties if penalty]
    if judged is not None:
        found += objective_codes(judged.loss, _summed(judged.metrics), network.sizes[-1], judged.width)
        if judged.optimizer is not None:
            found.append(update_code(judged.optimizer))
    return [code for code in found if code is not None]


def _summed(metrics: Sequence[Metric]) -> list[Metric]:
    """Return those metrics that kernels add up."""
    return [metric for metric in metrics if metric.series]


class _Run:
    """A task that a Program has begun: what its table says from call to call, and what comes out."""

    def __init__(self, program: CompiledProgram, task: Task) -> None:
        self._program, self.task, data = program, task, task.data
        self.phases = program._set_task(task)
        self._x, self._y, self._order = readable("X", data.x), readable("Y", data.y), readable("ORDER", task.order)
        self._weights = readable("SAMPLE_WEIGHTS", data.weights)
        assert self._y is not None
        steps, rates, samples = task.last - task.first, rates_of(task), len(self._x)
        self.results = np.zeros((steps, program._series))
        self._scalars = np.ones((steps, 0), np.float32) if rates is None else in_float32(rates)
        self._step = 0 if task.optimizer is None else task.optimizer.steps + 1
        # what comes out, where the host is to judge it: of these steps alone, which are a tenth of a second's
        self._first, self._last = task.first * task.batch, min(task.last * task.batch, samples)
        shape = self._last - self._first, program.network.sizes[-1]
        self._outputs = np.empty(shape, np.float32) if program._why_host else None
        self._addresses = [
            address("X", self._x, samples * program.network.sizes[0]), address("ORDER", self._order, samples),
            address("PREDICTIONS", self._outputs), address("Y", self._y, samples * self._y.shape[1]),
            address("SAMPLE_WEIGHTS", self._weights, samples), address("RESULTS", self.results),
            address("SCALARS", self._scalars),
        ]  # fmt: skip

    def set(self, start: int, stop: int) -> None:
        """Have the table say that the next call runs steps ``start`` to ``stop`` - 1 of the task's."""
        task, number = self.task, self._step and self._step + start
        x, order, outputs, y, weights, results, scalars = self._addresses
        if start:  # of what has a row a step
            results, scalars = results + start * self.results.strides[0], scalars + start * self._scalars.strides[0]
            outputs = 0 if self._outputs is None else outputs + start * task.batch * self._outputs.strides[0]
        batches, places = (task.first + start, task.first + stop), (x, order, outputs, y, weights, results, scalars)
        self._program._job.set_call(self.phases, batches, task.batch, len(self._x), number, *places)

    def set_all(self, scalars: Sequence[float]) -> None:
        """Have the table say that the next call runs all steps, of which there is one, as the next of its optimizer."""
        task = self.task
        if task.optimizer is not None:
            self._step, self._scalars[0] = task.optimizer.steps + 1, scalars
        self._program._job.set_call(self.phases, (0, 1), task.batch, task.batch, self._step, *self._addresses)

    def count(self, steps: int) -> None:
        """Take note that so many steps more are done."""
        if self.task.optimizer is not None:
            self.task.optimizer.count(steps)
            self._program.arena.arena.version += 1
            self._program._checked = self._program.arena.arena.version  # the kernels have looked on

    def logs(self, results: Doubles) -> StepLogs:
        """Return what the steps gave, all of them done, of their ``results``."""
        task = self.task
        samples = np.empty(len(results))
        samples.fill(task.batch)
        samples[-1:] = self._last - (task.last - 1) * task.batch
        series = sum(metric.series for metric in task.metrics)
        counts = results[:, 1 + series :]  # divisors stand behind the loss and all sums
        if self._outputs is not None:
            counts = np.zeros((len(results), len(task.metrics)))
            counts[:, [metric.series > 0 for metric in task.metrics]] = results[:, 1 + series :]
        return StepLogs(samples, results[:, 0], results[:, 1 : 1 + series], counts, [*self._batches()])

    def _batches(self) -> Iterator[Batch]:
        """Yield what the host judges, batch by batch."""
        if self._outputs is None:
            return
        data, size, rows = self.task.data, self.task.batch, slice(self._first, self._last)
        which = np.arange(self._first, self._last) if self._order is None else self._order[rows]
        assert data.y is not None
        targets, weights = data.y[which], None if data.weights is None else data.weights[which]
        for start in range(0, len(which), size):
            batch = slice(start, start + size)
            yield Batch(targets[batch], self._outputs[batch], None if weights is None else weights[batch])


def _call_many(programs: Sequence[CompiledProgram], threads: int) -> None:
    """Run the job of each Program, by one thread, in one call of so many threads."""
    for program in programs:
        program._share(1)
    team, functions = programs[0]._team, programs[0]._functions
    jobs = job_list(functions["run"], [program._job.address for program in programs])
    team.run(functions["run_many"], WORDS.word("a list of jobs", jobs), team.available(threads))


def _guess(operations: float) -> float:
    """Return how many seconds a step of so many operations is taken to last before anything is known."""
    return max(operations / RATE, 1e-5)


def _weights(op: Operation) -> int:
    return (op.inputs + 1) * op.outputs if isinstance(op, DenseOp) else 0


def _slices(network: Network) -> tuple[int, int]:
    """Return from more than how many samples on a batch goes in slices, and of how many; 0: never.

    A slice's activations and gradients by them stay in a core's cache, and gradients by weights are few beside them.
    """
    sample, weights = 8 * sum(map(padded, network.sizes)), 4 * sum(map(_weights, network.ops))  # bytes
    rows, whole = SLICE // sample, any(isinstance(op, BatchNormOp) for op in network.ops)
    return (0, 0) if whole or rows < LEAST or weights > SLICE // 4 else (LONG // sample, rows)


def _shares(op: DenseOp, threads: int) -> Array:
    """Return where each thread's rows of a kernel begin, and where the last one's end; of a column, whole tiles."""
    tile = layout().TILE if op.outputs == 1 else 1
    return np.minimum(np.arange(threads + 1) * -(-op.inputs // tile) // threads * tile, op.inputs)
