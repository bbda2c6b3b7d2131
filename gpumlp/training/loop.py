"""The loop over epochs and batches. It knows a Runner and callbacks by their methods, and nothing of models."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpumlp.engine import dispatch
from gpumlp.engine.dispatch import Choice, Judged
from gpumlp.engine.feed import Dataset
from gpumlp.engine.program import Batch, Program, StepLogs, Task, one_after_the_other
from gpumlp.engine.runner import Runner, together
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.optimizers.stages import AVERAGE
from gpumlp.training.data import Batches

BRIEF = 0.002  # seconds of NumPy, by the estimate, up to which waking another thread is not worth it
CHUNK_SECONDS = 0.1  # how long a Program runs before others may use the model, and the display is refreshed


@dataclass
class Objective:
    """What is minimised and what is reported."""

    loss: Loss
    metrics: list[Metric]

    @property
    def names(self) -> list[str]:
        """The names of what is reported, in the order in which it was asked for."""
        return ["loss", *(metric.name for metric in self.metrics)]

    def judged(self, held: Dataset, optimizer: Optimizer | None = None) -> Judged:
        """Return what is computed beside the network, of such data, and for training with ``optimizer``."""
        assert held.y is not None
        return Judged(self.loss, self.metrics, held.y.shape[1], optimizer)


class Averages:
    """What an epoch adds up to so far: the loss weighted by samples, and of each metric its sums."""

    def __init__(self, objective: Objective) -> None:
        self._metrics = [m if m.series else m.fresh() for m in objective.metrics]
        self._loss, self._samples = 0.0, 0.0
        self._totals = [0.0] * sum(m.series for m in self._metrics)
        self._counts = [0.0] * len(self._metrics)
        self._batches: deque[Batch] = deque()  # which the host's metrics have not taken in yet

    def add(self, logs: StepLogs) -> None:
        """Take in the logs of some steps, one by one: how many come at a time must not change a bit."""
        for value in (logs.losses * logs.samples).tolist():
            self._loss += value
        self._samples += float(logs.samples.sum())
        for found, sums in ((logs.totals, self._totals), (logs.counts, self._counts)):
            for i, column in enumerate(found.T.tolist()):
                for value in column:
                    sums[i] += value
        self._batches += logs.batches

    def _take_in(self) -> None:
        """Have the host's metrics take in what came: here, as a user's code does not run in the gate."""
        while self._batches:
            targets, outputs, weights = self._batches.popleft()
            for metric in self._metrics:
                if not metric.series:
                    metric.update_state(
                        targets, outputs, *(() if weights is None or not metric.weighted else (weights,))
                    )

    def result(self) -> dict[str, Any]:
        """Return the results by name, in the order of the alphabet, as Keras has them.

        Of a metric with several numbers it is an array; one that gives a dict has its names in place of its own.
        """
        self._take_in()
        logs: dict[str, Any] = {"loss": self._loss / self._samples if self._samples else 0.0}
        first = 0
        for metric, count in zip(self._metrics, self._counts, strict=True):
            last = first + metric.series
            found = metric.of(*self._totals[first:last], count) if metric.series else metric.result()
            logs |= {k: plain(v) for k, v in (found if isinstance(found, dict) else {metric.name: found}).items()}
            first = last
        return dict(sorted(logs.items()))


def plain(value: Any) -> Any:
    """Return a result as Python's number, or as an array of several."""
    found = np.asarray(value, np.float64)
    return found.item() if found.size == 1 else found


class Pace:
    """How many steps to run at a time: about CHUNK_SECONDS of them, by the fastest that was seen."""

    def __init__(self, first: int) -> None:
        self._first, self._per_step = first, 0.0

    def stretches(self, first: int, last: int, one_by_one: bool) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) from ``first`` to ``last``; the caller runs each before it asks for the next."""
        while first < last:
            size = 1 if one_by_one else max(1, int(CHUNK_SECONDS / self._per_step)) if self._per_step else self._first
            if size > self._first:
                size -= size % self._first  # in the lengths that a Program has recorded
            stop, began = min(first + size, last), time.perf_counter()
            yield first, stop
            seconds = max((time.perf_counter() - began) / (stop - first), 1e-9)
            self._per_step = min(self._per_step or seconds, seconds)  # a first step may have had to compile
            first = stop


def sizes_for(runner: Runner, data: Dataset, loss: Loss) -> tuple[int, ...]:
    """Return the sizes of the network that ``data`` was made for; RuntimeError where the layers are others since."""
    network = runner.current()
    assert data.y is not None
    width = data.y.shape[1] if loss.own else network.rows * loss.target_width(network.sizes[-1] // network.rows)
    if (network.sizes[0], width) != (data.x.shape[1], data.y.shape[1]):
        runner.current(())
    return network.sizes


@dataclass
class Trainee:
    """A model in training: what computes for it, and its optimizer, on its data.

    ``model`` is the optimizer's. ``choice``: by what kernels all of the training runs, which was decided when it began.
    """

    model: Any
    runner: Runner
    data: Dataset
    batches: Batches
    objective: Objective
    optimizer: Optimizer
    choice: Choice
    most: int = 0  # samples, at least, for which there is to be room

    def __post_init__(self) -> None:
        self._sizes = sizes_for(self.runner, self.data, self.objective.loss)

    def program(self) -> Program:
        """Return the Program; the caller holds the gate. RuntimeError where layers or optimizer are others by now."""
        self.runner.current(self._sizes)
        if not self.optimizer.belongs_to(self.model):
            raise RuntimeError(
                "Another model was compiled with this model's optimizer while it was training, and its state is now "
                "that model's. Compile this one again, with an optimizer of its own."
            )
        assert self.runner.weights is not None
        choice = dispatch.fitting(self.choice, self.optimizer, self.runner.weights.backend)
        return self.runner.program_for(max(self.batches.batch_size, self.most), choice)

    def begin_epoch(self) -> tuple[int, int]:
        """Choose the epoch's batches; return the first, and the last + 1."""
        self.averages = Averages(self.objective)
        self._order, first, last = self.batches.epoch()
        self.done = first
        return first, last

    def task(self, start: int, stop: int, scalars: np.ndarray) -> Task:
        """Return the training steps on batches ``start`` to ``stop`` - 1; the caller holds the gate."""
        size, (loss, metrics) = self.batches.batch_size, (self.objective.loss, self.objective.metrics)
        assert self.runner.weights is not None
        slots = self.optimizer.slots_for(self.runner.weights, self.runner.owners)
        return Task(self.data, self._order, size, start, stop, loss, metrics, self.optimizer, slots, scalars)

    def finish(self) -> None:
        """Have the averages of an optimizer that has any be the weights that train: so a fit ends, as Keras's does."""
        if self.optimizer.use_ema:
            together([self.runner], self._take_averages, brief=True)

    def _take_averages(self) -> None:
        weights, network = self.runner.weights, self.runner.current(self._sizes)
        assert weights is not None
        slots = self.optimizer.slots_for(weights, self.runner.owners)
        if self.optimizer.steps:
            pairs = zip(weights.get(), weights.get(slots[AVERAGE]), network.trainable, strict=True)
            weights.set([average if trains else now for now, average, trains in pairs])


def first_stretch(trainees: Sequence[Trainee]) -> int:
    """Return how many steps to run before anything is known of how long they take; Programs are made, where they lack.

    So bad settings, or a device that is full, raise before a callback has run.
    """
    runners = [t.runner for t in trainees]
    return together(runners, lambda: [t.program() for t in trainees], brief=True)[0].first_stretch


def train(trainees: Sequence[Trainee], start: int, stop: int) -> None:
    """Run batches ``start`` to ``stop`` - 1 of each, and take in their logs: all of it or, after an exception, nothing.

    Nobody else computes with their weights meanwhile.
    """
    size = trainees[0].batches.batch_size
    brief = (stop - start) * len(trainees) <= trainees[0].runner.in_seconds(BRIEF, size, training=True)
    while True:  # rates come from schedules, which may be a user's: they are asked before the gate
        counts = [t.optimizer.steps for t in trainees]
        scalars = [t.optimizer.coming(stop - start) for t in trainees]

        def steps(counts: list[int] = counts, scalars: list[np.ndarray] = scalars) -> bool:
            programs = [t.program() for t in trainees]
            tasks = [t.task(start, stop, rates) for t, rates in zip(trainees, scalars, strict=True)]
            if [t.optimizer.steps for t in trainees] != counts:
                return False  # another thread has trained, or the state has started anew
            kinds = {type(program) for program in programs}
            run_together = kinds.pop().run_together if len(kinds) == 1 else one_after_the_other
            for trainee, logs in zip(trainees, run_together(programs, tasks), strict=True):
                trainee.averages.add(logs)
                trainee.done = stop
            return True

        if together([t.runner for t in trainees], steps, brief=brief):
            return


def mean(logs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of several models' logs, value by value."""
    return {name: sum(each[name] for each in logs) / len(logs) for name in logs[0]}


def fit(
    trainees: Sequence[Trainee], epochs: range, callbacks: Any,
    close: Callable[[int, list[dict[str, float]]], dict[str, float]],
    validates: Callable[[int], bool] = lambda epoch: False,
) -> None:  # fmt: skip
    """Train over ``epochs``: one model, or several, in steps of equally many batches.

    ``callbacks`` has the hooks, ``per_batch`` and ``stopped``; logs are dicts of float, of several models the mean.
    ``close`` takes an epoch's number and the trainees' logs, and returns the epoch's; ``validates`` says whether it
    also validates. Ctrl-C, and whatever else a signal's handler raises, ends it between two steps; an epoch whose
    steps were all done, and validated where they are to be, is in the history.
    """
    pace = Pace(first_stretch(trainees))
    callbacks.on_train_begin()
    logs: dict[str, float] | None = {}
    for epoch in epochs:
        callbacks.on_epoch_begin(epoch)
        ((first, last),) = {t.begin_epoch() for t in trainees}
        logs = None
        try:
            for start, stop in pace.stretches(first, last, callbacks.per_batch):
                callbacks.on_train_batch_begin(start - first)
                train(trainees, start, stop)
                callbacks.on_train_batch_end(stop - first - 1, mean([t.averages.result() for t in trainees]))
                if callbacks.stopped:
                    break
            logs = close(epoch, [t.averages.result() for t in trainees])
            callbacks.on_epoch_end(epoch, logs)
        except BaseException:
            if logs is None and not validates(epoch) and all(t.done == last for t in trainees):
                logs = close(epoch, [t.averages.result() for t in trainees])
            if logs is not None:
                callbacks.record(epoch, logs)  # weights and steps have it
            raise
        if callbacks.stopped:
            break
    for trainee in trainees:
        trainee.finish()
    callbacks.on_train_end(logs)


def evaluate(
    runner: Runner, data: Dataset, batches: Batches, objective: Objective, choice: Choice, callbacks: Any
) -> dict[str, float]:
    """Return the loss and the metrics over the first batches of ``data``, in inference mode.

    What takes no longer than a stretch is of one moment, also while another thread trains.
    """
    averages, size = Averages(objective), batches.batch_size
    callbacks.on_test_begin()
    order, first, last = batches.epoch()
    sizes = sizes_for(runner, data, objective.loss)

    def steps(start: int, stop: int) -> StepLogs:
        runner.current(sizes)
        program = runner.program_for(size, choice)
        return program.run(data, order, size, start, stop, objective.loss, objective.metrics)

    first_one = together([runner], lambda: runner.program_for(size, choice), brief=True).first_stretch
    pace = Pace(max(first_one, runner.in_seconds(CHUNK_SECONDS, size)))
    for start, stop in pace.stretches(first, last, callbacks.per_batch):
        callbacks.on_test_batch_begin(start - first)
        brief = stop - start <= runner.in_seconds(BRIEF, size)
        averages.add(together([runner], functools.partial(steps, start, stop), brief=brief))
        callbacks.on_test_batch_end(stop - first - 1, averages.result())
        if callbacks.model.stop_evaluating:
            break
    logs = averages.result()
    callbacks.on_test_end(logs)
    return logs


def predict(runner: Runner, x: Any, out: Any, batch: int, choice: Choice, callbacks: Any) -> int:
    """Write the predictions for x[n, F] into out[n, O], ``batch`` samples at a time; return how many there are.

    That is all, unless a callback set ``model.stop_predicting``.

    A handler that raises may come between the steps: what it leaves unfinished is ``out``.
    """
    piece, change = runner.predicting(batch), runner.runtime is not None
    sizes = runner.current().sizes
    if (sizes[0], sizes[-1]) != (x.shape[1], out.shape[1]):
        runner.current(())  # other layers since x and out were made

    def steps(rows: slice) -> int:
        runner.current(sizes)
        program = runner.program_for(piece, choice)
        program.predict(x[rows], out[rows], piece)
        return program.first_stretch

    if callbacks.nobody and len(x) <= batch and len(x) <= piece:  # the shortest way for the smallest predictions
        together([runner], lambda: steps(slice(0, len(x))), change)
        return len(x)
    done = 0
    callbacks.on_predict_begin()
    step = batch if callbacks.per_batch else piece  # of a batch that is larger than a piece, a piece is a stretch
    pace = Pace(runner.in_seconds(CHUNK_SECONDS, step))
    for start, stop in pace.stretches(0, -(-len(x) // step), callbacks.per_batch):
        callbacks.on_predict_batch_begin(start * step // batch)
        rows = slice(start * step, min(stop * step, len(x)))
        together([runner], functools.partial(steps, rows))
        done = rows.stop
        callbacks.on_predict_batch_end(-(-done // batch) - 1, {"outputs": out[rows]})
        if callbacks.model.stop_predicting:
            break
    callbacks.on_predict_end()
    return done
