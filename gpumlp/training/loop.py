"""The loop over epochs and batches. It knows a Runner and callbacks by their methods, and nothing of models."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gpumlp.engine import dispatch
from gpumlp.engine.dispatch import Choice
from gpumlp.engine.feed import Dataset
from gpumlp.engine.program import Doubles, Program, StepLogs, Task, by_pass, one_after_the_other
from gpumlp.engine.runner import Runner, together
from gpumlp.gate import apart, settling, unsettled, whole
from gpumlp.losses import Loss
from gpumlp.optimizers import Optimizer
from gpumlp.optimizers.scalars import coming
from gpumlp.optimizers.schedules import LearningRateSchedule
from gpumlp.optimizers.stages import AVERAGE
from gpumlp.training import again, health
from gpumlp.training.position import InProgress
from gpumlp.training.results import Averages, Objective, mean
from gpumlp.training.streams import Source, Stretch
from gpumlp.training.trained import Compiled, Hooks, Logs, Shown, Trained

BRIEF = 0.002  # seconds, of NumPy by the estimate, up to which waking another thread is not worth it
PUT_OFF = (
    0.02  # likewise, of a GPU that is known to take so long: handlers of signals wait for it, which nobody notices
)
WORTH = 0.0003  # seconds of steps from which on it is worth it, where this thread reads batches meanwhile
CHUNK_SECONDS = 0.1  # how long a Program runs before others may use the model, and the display is refreshed


class Pace:
    """How many steps to run at a time: about CHUNK_SECONDS of them, by the fastest that was seen.

    ``expected``: seconds that one is expected to take, before any was seen; 0 where nothing is known.
    """

    def __init__(self, first: int, expected: float = 0.0) -> None:
        self._first, self._expected, self._per_step = first, expected, 0.0

    @property
    def per_step(self) -> float:
        """The seconds of a step, as far as is known."""
        return self._per_step or self._expected

    def most(self, one_by_one: bool) -> int:
        """Return how many steps to run next."""
        size = 1 if one_by_one else max(1, int(CHUNK_SECONDS / self.per_step)) if self.per_step else self._first
        return size - size % self._first if size > self._first else size  # in the lengths that a Program has recorded

    def worth(self, most: int) -> int:
        """Return how many steps, ``most`` at most, take as long as is worth another thread."""
        return max(1, min(most, math.ceil(WORTH / self.per_step))) if self.per_step else 1

    def is_brief(self, steps: int) -> bool:
        """Whether so many steps are known to take no longer than is worth waking another thread."""
        return 0.0 < steps * self.per_step <= PUT_OFF

    def took(self, steps: int, began: float) -> None:
        """Take note of how long so many steps took, since ``began``."""
        seconds = max((time.perf_counter() - began) / steps, 1e-9)
        self._per_step = min(self._per_step or seconds, seconds)  # a first step may have had to compile


def sizes_for(runner: Runner, data: Dataset, loss: Loss) -> tuple[int, ...]:
    """Return the sizes of the network that ``data`` was made for; RuntimeError where the layers are others since."""
    network = runner.current()
    assert data.y is not None
    width = data.y.shape[1] if loss.own else network.rows * loss.target_width(network.sizes[-1] // network.rows)
    if (network.sizes[0], width) != (data.x.shape[1], data.y.shape[1]):
        runner.current(())
    return network.sizes


@dataclass
class Validation:
    """What a model is evaluated on at the end of an epoch, where ``due`` of the epoch's number, from 0, says so."""

    source: Source
    due: Callable[[int], bool]


@dataclass
class Trainee:
    """A model in training: what computes for it, and its optimizer, on the batches of its source.

    ``model`` is the optimizer's. ``choice``: by what kernels all of the training runs, which was decided when it began.
    ``callbacks`` has the hooks of `gpumlp.callbacks.CallbackList`, ``per_batch`` and ``stopped``.
    """

    model: Trained
    runner: Runner
    source: Source
    objective: Objective
    optimizer: Optimizer
    choice: Choice
    callbacks: Hooks
    validation: Validation | None = None

    def __post_init__(self) -> None:
        assert self.source.sample is not None
        self._sizes = sizes_for(self.runner, self.source.sample, self.objective.loss)
        self.watch = health.Watch()
        self.most = self.validation.source.batch if self.validation else 0  # samples for which there is to be room

    def program(self, batch: int) -> Program:
        """Return the Program for batches of so many samples; the caller holds the gate.

        RuntimeError where layers or optimizer are others by now.
        """
        return training_program(self.model, self._sizes, self.optimizer, self.choice, max(batch, self.most))

    # ---- training, from its beginning to its end ---------------------------------------------------------------------

    def begin(self, epochs: range) -> None:
        """Begin to train over ``epochs``, or go on from where a training was that was cut off."""
        self.place = InProgress(self, epochs)
        self.callbacks.on_train_begin()
        self.callbacks.resume(self.place)

    def begin_epochs(self, epochs: range) -> None:
        """Begin to count, and to add up; several epochs at once where nobody looks at what is between them."""
        self.begun, self._sums, self.done = epochs, [Averages(self.objective)], 0
        self._logs: dict[int, Logs] = {}  # of the epochs, once all is done that they say

    @property
    def averages(self) -> Averages:
        """What the epoch under way adds up to."""
        return self._sums[-1]

    def end_epochs(self) -> None:
        """End those that were begun, in their order.

        Validate, and tell the callbacks; there is no further epoch where one of them has stopped training.
        """
        place = self.place
        for epoch, sums in enumerate(self._sums, self.begun.start):
            self._logs[epoch] = logs = self._with_validation(epoch, self._results(sums))
            self.callbacks.on_epoch_end(epoch, logs)
            place.logs, place.inside, place.epochs = logs, False, place.epochs[1:]
            self.callbacks.epoch_done(place)
        if self.callbacks.stopped:
            place.epochs = place.epochs[:0]

    def record(self) -> None:
        """Have the epochs in the history that an exception has ended, if their steps, and validation, are done."""
        for epoch, sums in enumerate(self._sums, self.begun.start):
            if epoch not in self._logs and self._is_done(sums) and not self._validates(epoch):
                self._logs[epoch] = self._results(sums)
            if epoch in self._logs:
                self.callbacks.record(epoch, self._logs[epoch])  # weights and steps have it

    def _is_done(self, sums: Averages) -> bool:
        """Whether all steps of the epoch of these sums are done."""
        if len(self.begun) > 1:
            return sums is not self.averages or self.done == self.source.steps
        return self.source.over and self.done == self.source.given

    def end(self) -> None:
        """End training: the averages of an optimizer that has any are the weights then, as in Keras."""
        if self.optimizer.use_ema:
            together([self.runner], self._take_averages, brief=True)
        self.callbacks.on_train_end(self.place.logs)

    def _results(self, sums: Averages) -> Logs:
        logs = sums.result()
        self.model._results = dict(logs)
        return logs

    def _validates(self, epoch: int) -> bool:
        return self.validation is not None and self.validation.due(epoch)

    def _with_validation(self, epoch: int, logs: Logs) -> Logs:
        if self.validation is None or not self._validates(epoch):
            return logs
        self.model.stop_evaluating = False
        found = evaluate(self.runner, self.validation.source, self.objective, self.choice, self.callbacks)
        self.model._results = dict(found)
        return dict(sorted((logs | {"val_" + name: value for name, value in found.items()}).items()))

    @property
    def goes_on_by_itself(self) -> bool:
        """Whether the next epoch needs nothing but the last one's weights: no look at them, no code of a user's."""
        rate, constrained = self.optimizer._learning_rate, self.runner.current(self._sizes).constrained
        ours = [self.optimizer, *(constraint for _, constraint in constrained)]
        if not isinstance(rate, float):
            ours.append(rate)
        return (
            self.validation is None
            and not self.callbacks.per_epoch
            and all(type(one).__module__.startswith("gpumlp.") for one in ours)
            and all(metric.series for metric in self.objective.metrics)
        )

    @property
    def asks_each_step(self) -> bool:
        """Whether rates are asked for step by step: of a function, which may look at what depends on a rank's clock."""
        rate = self.optimizer._learning_rate
        return self.runner.comm is not None and not isinstance(rate, (float, LearningRateSchedule))

    @property
    def as_it_began(self) -> bool:
        """Whether the network is the one that this is a training of: a callback may have changed the layers."""
        network = self.runner.network
        return network is not None and network.sizes == self._sizes

    def took(self, stretch: Stretch, logs: StepLogs) -> None:
        """Take in the logs of the steps on a stretch."""
        if len(self.begun) == 1:
            return self._took(stretch, logs)
        first = stretch.first
        for part in stretch.by_epoch():
            if self.done == self.source.steps:
                self._sums.append(Averages(self.objective))
                self.done = 0
            self._took(part, logs.part(first - stretch.first, first - stretch.first + part.steps))
            first += part.steps

    def _took(self, stretch: Stretch, logs: StepLogs) -> None:
        self.averages.add(logs)
        if self.watch.step is None:
            epoch = self.begun[len(self._sums) - 1]
            self.watch.took(stretch, logs, epoch, self.done, math.isfinite(self.averages.loss))
        self.done += len(logs.losses)

    # ---- steps -------------------------------------------------------------------------------------------------------

    def task(self, stretch: Stretch, scalars: Doubles) -> Task:
        """Return the training steps on the batches of ``stretch``; the caller holds the gate."""
        slots = self.runner.slots(self.optimizer)
        return Task(*stretch, self.objective.loss, self.objective.metrics, self.optimizer, slots, scalars)

    def _take_averages(self) -> None:
        take_averages(self.runner, self.optimizer, self.runner.current(self._sizes).trainable)


def training_program(
    model: Compiled, sizes: tuple[int, ...], optimizer: Optimizer, choice: Choice, batch: int
) -> Program:
    """Return the Program that trains ``model`` on batches of so many samples; the caller holds the gate.

    RuntimeError where the layers, whose ``sizes`` these were, or the optimizer are others by now.
    """
    runner: Runner = model._runner
    runner.current(sizes)
    if not optimizer.belongs_to(model):
        raise RuntimeError(
            "Another model was compiled with this model's optimizer while it was training, and its state is now "
            "that model's. Compile this one again, with an optimizer of its own."
        )
    assert runner.weights is not None
    return runner.program_for(batch, dispatch.fitting(choice, optimizer, runner.weights.backend))


def take_averages(runner: Runner, optimizer: Optimizer, trainable: Sequence[bool]) -> None:
    """Have the averages of the weights that are ``trainable`` be these; the caller holds the gate."""
    weights = runner.weights
    assert weights is not None
    slots = runner.slots(optimizer)
    if optimizer.steps:
        pairs = zip(weights.get(), runner.layout.get(slots[AVERAGE]), trainable, strict=True)
        weights.set([average if trains else now for now, average, trains in pairs])


def first_stretch(trainees: Sequence[Trainee]) -> int:
    """Return how many steps to run before anything is known of how long they take; Programs are made, where they lack.

    So bad settings, or a device that is full, raise before a callback has run.
    """
    there = [None if t.optimizer.apart else t.runner.known(max(t.source.batch, t.most), t.choice) for t in trainees]
    if (lead := there[0]) is not None and all(there):
        return lead.first_stretch
    runners = [t.runner for t in trainees]
    return together(runners, lambda: [t.program(t.source.batch) for t in trainees], change=False)[0].first_stretch


Meanwhile = Callable[[Callable[[], bool]], None]
Found = tuple[Sequence[Stretch], list[StepLogs]]  # of each model, what was run at once and what it gave


def train(
    trainees: Sequence[Trainee], stretches: Sequence[Stretch], pace: Pace, meanwhile: Meanwhile | None = None
) -> None:
    """Run a stretch of equally many batches of each, and take in their logs.

    Those that come at once: all or, after an exception, nothing.

    Nobody else computes with their weights, and this thread may do something else, ``meanwhile``.
    """
    steps, size, runner = stretches[0].steps, stretches[0].batch, trainees[0].runner
    count = steps * len(trainees)
    known = runner.runtime is not None and pace.is_brief(steps)
    brief = meanwhile is None and (count == 1 or known or count <= runner.in_seconds(BRIEF, size, training=True))
    while True:  # rates come from schedules, which may be a user's: they are asked before the gate
        counts = [t.optimizer.steps for t in trainees]
        scalars = coming([t.optimizer for t in trainees], steps)

        def run(counts: list[int] = counts, scalars: list[Doubles] = scalars) -> bool:
            plan = again.for_stretch(trainees[0], stretches[0]) if len(trainees) == 1 else None
            all_steps = plan.rows(stretches[0], scalars[0]) if plan else _steps(trainees, stretches, scalars)
            if [t.optimizer.steps for t in trainees] != counts:
                return False  # another thread has trained, or the state has started anew
            began = time.perf_counter()
            for parts, found in all_steps():
                for trainee, part, logs in zip(trainees, parts, found, strict=True):
                    trainee.took(part, logs)
            pace.took(steps, began)
            if plan is None and len(trainees) == 1:
                again.plan_stretch(trainees[0], stretches[0])
            return True

        if together([t.runner for t in trainees], run, brief=brief, meanwhile=meanwhile):
            return


def _steps(
    trainees: Sequence[Trainee], stretches: Sequence[Stretch], scalars: Sequence[Doubles]
) -> Callable[[], Iterable[Found]]:
    """Return what runs a stretch of each; the caller holds the gate."""
    programs, tasks = [], []
    for trainee, stretch, own in zip(trainees, stretches, scalars, strict=True):
        programs.append(trainee.program(stretch.batch))
        tasks.append(trainee.task(stretch, own))
    kind = type(programs[0])
    alike = all(type(program) is kind for program in programs)
    run = functools.partial(kind.run_together if alike else one_after_the_other, programs)
    if len(trainees[0].begun) == 1 or (alike and programs[0].takes_passes):
        return lambda: [(stretches, run(tasks))]
    return lambda: (([Stretch(*task[:5]) for task in part], run(part)) for part in by_pass(tasks))


def step(model: Compiled, held: Dataset, objective: Objective, optimizer: Optimizer, choice: Choice) -> Logs:
    """Do a step of training with all of ``held`` as its batch, and return what the model was before it."""
    runner, size = model._runner, len(held)
    sizes, logs = sizes_for(runner, held, objective.loss), None
    while logs is None:
        before, scalars = optimizer.steps, optimizer.coming(1)  # see `train`

        def run(before: int = before, scalars: Doubles = scalars) -> StepLogs | None:
            program = training_program(model, sizes, optimizer, choice, size)
            slots = runner.slots(optimizer)
            if optimizer.steps != before:
                return None
            return program.run(held, None, size, 0, 1, objective.loss, objective.metrics, optimizer, slots, scalars)

        logs = together((runner,), run, brief=True)
    return Averages.of(objective, logs)


def judge(runner: Runner, held: Dataset, objective: Objective, choice: Choice) -> Logs:
    """Return the loss and the metrics of all of ``held`` as one batch, in inference mode."""
    sizes, size = sizes_for(runner, held, objective.loss), len(held)

    def run() -> StepLogs:
        runner.current(sizes)
        return runner.program_for(size, choice).run(held, None, size, 0, 1, objective.loss, objective.metrics)

    return Averages.of(objective, together((runner,), run, brief=True))


def fit(trainees: Sequence[Trainee], epochs: range, shown: Sequence[Shown] = ()) -> None:
    """Train over ``epochs``: one model, or several, in steps of equally many batches.

    Each has its callbacks, and ends when one of these has stopped it: within an epoch it takes no more steps, and
    behind the epoch it is done, while the others go on. ``shown`` are callbacks that see the mean of all that train.
    Ctrl-C, and whatever else a signal's handler raises, ends all between two steps; an epoch whose steps were all done,
    and validated where they are to be, is in a model's history.
    """
    lead, running = trainees[0], threading.Lock()
    first, paces = first_stretch(trainees), lead.runner.paces
    kind = lead.source.batch, len(trainees)
    pace = Pace(first, paces.get(kind, 0.0))
    with running:  # which no handler can prevent from ending
        try:
            for trainee in trainees:
                trainee.runner.fits.add(running)  # what trains stays, whatever becomes of the layers' flags
            _epochs(trainees, epochs, shown, pace)
        finally:
            if lead.runner.runtime is not None:  # on a CPU, the best number of threads may still be found out
                paces[kind] = pace.per_step
            for trainee in trainees:
                trainee.runner.fits.discard(running)
                vars(trainee).pop("place", None)  # they have each other: a model that is dropped is freed at once


def _epochs(trainees: Sequence[Trainee], epochs: range, shown: Sequence[Shown], pace: Pace) -> None:
    for trainee in trainees:
        trainee.begin(epochs)
    health.before_fit(trainees)
    for display in shown:
        display.on_train_begin()
    training = _going_on(trainees)
    while training:
        place = training[0].place  # of several, all are in one epoch
        epoch, sources = place.epochs.start, _sources(training)
        if not place.inside:
            for hooks in (*(t.callbacks for t in training), *shown):
                hooks.on_epoch_begin(epoch)
            count = 1 if shown else _at_once(training, sources, pace)
            for trainee in training:
                trainee.begin_epochs(place.epochs[:count])
            for source in sources:
                source.begin_epochs(count)
        for trainee in training:
            trainee.place.inside = True
        try:
            _train_epoch(training, sources, pace, shown)
            for source in sources:
                source.end_epoch()
            for trainee in training:
                trainee.end_epochs()
            health.after_epochs(training)
        except BaseException:
            whole(lambda now=training: [trainee.record() for trainee in now])  # type: ignore[misc]
            raise
        for display in shown:
            display.on_epoch_end(epoch, mean([t.place.logs for t in training]))
        training = _going_on(training)
    for display in shown:
        display.on_train_end()
    health.after_fit(trainees)


def _at_once(trainees: Sequence[Trainee], sources: Sequence[Source], pace: Pace) -> int:
    """Return how many epochs to begin at once: one where anybody looks at what is between them, or may act there."""
    most = pace.most(False)
    found = min(len(trainees[0].place.epochs), *(source.epochs_in(most) for source in sources))
    return found if found == 1 or all(t.goes_on_by_itself for t in trainees) else 1


def _going_on(trainees: Sequence[Trainee]) -> list[Trainee]:
    """End the training of those that have no more epochs to do; return the others."""
    for trainee in trainees:
        if not trainee.place.epochs:
            trainee.end()
    return [t for t in trainees if t.place.epochs]


def _sources(trainees: Sequence[Trainee]) -> list[Source]:
    """Return what all train on; several may train on one."""
    return list(dict.fromkeys(t.source for t in trainees))


def _train_epoch(trainees: Sequence[Trainee], sources: list[Source], pace: Pace, shown: Sequence[Shown]) -> None:
    """Train on all batches that the sources give; where a batch's code uses a model, on those before it first."""
    active = trainees

    def all_of(found: dict[Source, Stretch | None]) -> list[Stretch]:
        return [stretch for t in active if (stretch := found[t.source]) is not None]

    trains, outer = True, unsettled()

    def catch_up() -> None:
        if trains:  # a handler that raises may have left this where `gate.settle` finds it
            apart(lambda: None)  # what the worker was given is done
        while trains and (stretches := all_of({source: source.ready(most) for source in sources})):
            train(active, stretches, pace)

    def read_ahead(finished: Callable[[], bool]) -> None:
        for source in sources:
            source.read_ahead(most, finished, catch_up)

    reads = any([source.reads for source in sources])
    try:
        while active:
            one_by_one = any([t.callbacks.per_batch or t.asks_each_step for t in active])
            most = pace.most(one_by_one)
            worth = pace.worth(most)
            stretches = all_of({source: source.take(most, worth, catch_up) for source in sources})
            if not stretches:
                break
            ahead = reads and not one_by_one and stretches[0].steps >= worth
            for trainee in active:
                trainee.callbacks.on_train_batch_begin(trainee.done)
            train(active, stretches, pace, read_ahead if ahead else None)
            logs = [t.averages.result() for t in active]
            for trainee, found in zip(active, logs, strict=True):
                trainee.callbacks.on_train_batch_end(trainee.done - 1, found)
            for display in shown:
                display.on_train_batch_end(active[0].done - 1, mean(logs))
            if any([t.callbacks.stopped for t in active]):
                active = [t for t in active if not t.callbacks.stopped]
                sources = _sources(active)
            for trainee in active:
                trainee.callbacks.batch_done(trainee.place)
            if not reads and active and sources[0].over:
                break  # where nothing is read, nothing more is to be told
    finally:
        trains = False
        settling(outer)  # where a handler's exception kept a source from it


def evaluate(
    runner: Runner, source: Source, objective: Objective, choice: Choice, callbacks: Hooks
) -> dict[str, float]:
    """Return the loss and the metrics over the batches of ``source`` from the first one on, in inference mode.

    What takes no longer than a stretch is of one moment, also while another thread trains.
    """
    averages, done = Averages(objective), 0
    callbacks.on_test_begin()
    source.begin_epoch(anew=True)
    assert source.sample is not None
    sizes = sizes_for(runner, source.sample, objective.loss)

    size = max(source.batch, 1)
    first_one = together([runner], lambda: runner.program_for(size, choice), brief=True).first_stretch
    pace = Pace(max(first_one, runner.in_seconds(CHUNK_SECONDS, size)))

    def run(stretch: Stretch) -> StepLogs:
        runner.current(sizes)
        program = runner.program_for(stretch.batch, choice)
        began = time.perf_counter()
        logs = program.run(*stretch, objective.loss, objective.metrics)
        pace.took(stretch.steps, began)
        return logs

    while stretch := source.take(most := pace.most(callbacks.per_batch), pace.worth(most)):
        callbacks.on_test_batch_begin(done)
        ahead = source.reads and not callbacks.per_batch and stretch.steps >= pace.worth(most)
        brief = not ahead and stretch.steps <= runner.in_seconds(BRIEF, stretch.batch)
        meanwhile = functools.partial(source.read_ahead, most) if ahead else None
        averages.add(together([runner], functools.partial(run, stretch), brief=brief, meanwhile=meanwhile))
        done += stretch.steps
        callbacks.on_test_batch_end(done - 1, averages.result())
        if callbacks.model.stop_evaluating:
            break
    source.end_epoch()
    logs = averages.result()
    callbacks.on_test_end(logs)
    return logs
