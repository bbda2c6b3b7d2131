"""The loop over epochs and batches. It knows a Program and callbacks by their methods, and nothing of models."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gpumlp.engine.feed import Dataset
from gpumlp.engine.program import LoopProgram, StepLogs, Task
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.training.data import Batches

CHUNK_SECONDS = 0.1  # how long a Program runs before the loop looks at Ctrl-C and the progress display


@dataclass
class Objective:
    """What is minimised and what is reported."""

    loss: Loss
    metrics: list[Metric]


class Averages:
    """Running averages over an epoch: the loss weighted by samples, each metric by its own divisor."""

    def __init__(self, objective: Objective) -> None:
        self._names = [m.name for m in objective.metrics]
        self._loss, self._samples = 0.0, 0.0
        self._totals, self._counts = [0.0] * len(self._names), [0.0] * len(self._names)

    def add(self, logs: StepLogs) -> None:
        """Take in the logs of some steps, one by one: how many come at a time must not change a bit."""
        for value in (logs.losses * logs.samples).tolist():
            self._loss += value
        self._samples += float(logs.samples.sum())
        for i in range(len(self._names)):
            for total, count in zip(logs.totals[:, i].tolist(), logs.counts[:, i].tolist(), strict=True):
                self._totals[i] += total
                self._counts[i] += count

    def result(self, prefix: str = "") -> dict[str, float]:
        """Return the averages by name."""
        logs = {prefix + "loss": self._loss / self._samples if self._samples else 0.0}
        for name, total, count in zip(self._names, self._totals, self._counts, strict=True):
            logs[prefix + name] = total / count if count else 0.0
        return logs


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back to the next call of the yielded function, so that no update is cut in half.

    A second Ctrl-C acts at once. Outside the main thread, where Python delivers no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed = False
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:  # somebody handles it already: theirs to decide
        yield lambda: None
        return

    def handler(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handler)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)


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


@dataclass
class Trainee:
    """A model in training: its Program and its optimizer, on its data."""

    program: Any
    data: Dataset
    batches: Batches
    objective: Objective
    optimizer: Optimizer
    slots: dict[str, Any]

    def begin_epoch(self) -> tuple[int, int]:
        """Choose the epoch's batches; return the first, and the last + 1."""
        self.averages = Averages(self.objective)
        self._order, first, last = self.batches.epoch()
        return first, last

    def task(self, start: int, stop: int) -> Task:
        """Return the training steps on batches ``start`` to ``stop`` - 1."""
        size, (loss, metrics) = self.batches.batch_size, (self.objective.loss, self.objective.metrics)
        return Task(self.data, self._order, size, start, stop, loss, metrics, self.optimizer, self.slots)


def mean(logs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of several models' logs, value by value."""
    return {name: sum(each[name] for each in logs) / len(logs) for name in logs[0]}


def fit(
    trainees: Sequence[Trainee], epochs: range, callbacks: Any,
    close: Callable[[int, list[dict[str, float]]], dict[str, float]],
) -> None:  # fmt: skip
    """Train over ``epochs``: one model, or several, in steps of equally many batches.

    ``callbacks`` has the hooks, ``per_batch`` and ``stopped``; logs are dicts of float, of several models the mean.
    ``close`` takes an epoch's number and the trainees' logs, and returns the epoch's.
    """
    programs, kinds = [t.program for t in trainees], {type(t.program) for t in trainees}
    run_together = kinds.pop().run_together if len(kinds) == 1 else LoopProgram.run_together
    pace = Pace(programs[0].first_stretch)
    with deferred_interrupt() as check:
        callbacks.on_train_begin()
        logs: dict[str, float] = {}
        for epoch in epochs:
            callbacks.on_epoch_begin(epoch)
            ((first, last),) = {t.begin_epoch() for t in trainees}
            for start, stop in pace.stretches(first, last, callbacks.per_batch):
                callbacks.on_train_batch_begin(start - first)
                tasks = [t.task(start, stop) for t in trainees]
                for trainee, gave in zip(trainees, run_together(programs, tasks), strict=True):
                    trainee.averages.add(gave)
                callbacks.on_train_batch_end(stop - first - 1, mean([t.averages.result() for t in trainees]))
                check()
                if callbacks.stopped:
                    break
            logs = close(epoch, [t.averages.result() for t in trainees])
            callbacks.on_epoch_end(epoch, logs)
            if callbacks.stopped:
                break
        callbacks.on_train_end(logs)


def evaluate(program: Any, data: Dataset, batches: Batches, objective: Objective, callbacks: Any) -> dict[str, float]:
    """Return the loss and the metrics over ``data``, in inference mode."""
    averages = Averages(objective)
    callbacks.on_test_begin()
    order, first, last = batches.epoch()
    for start, stop in Pace(program.first_stretch).stretches(first, last, callbacks.per_batch):
        callbacks.on_test_batch_begin(start - first)
        averages.add(program.run(data, order, batches.batch_size, start, stop, objective.loss, objective.metrics))
        callbacks.on_test_batch_end(stop - first - 1, averages.result())
    logs = averages.result()
    callbacks.on_test_end(logs)
    return logs


def predict(program: Any, x: Any, out: Any, batch: int, callbacks: Any) -> None:
    """Write the predictions for x[n, F] into out[n, O], ``batch`` samples at a time."""
    if callbacks.nobody and len(x) <= batch:  # the shortest way for the smallest predictions
        program.predict(x, out, batch)
        return
    callbacks.on_predict_begin()
    for start, stop in Pace(program.first_stretch).stretches(0, -(-len(x) // batch), callbacks.per_batch):
        callbacks.on_predict_batch_begin(start)
        rows = slice(start * batch, stop * batch)
        program.predict(x[rows], out[rows], batch)
        callbacks.on_predict_batch_end(stop - 1)
    callbacks.on_predict_end()
