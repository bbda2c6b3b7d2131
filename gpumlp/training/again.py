"""Steps with one batch, again: what they come to is planned once, and done anew as long as that is the same.

With compiled kernels a step of a small network takes some microseconds, and all that is asked, checked and set around
it ten times as long. So the first call, which asks everything, leaves a `Plan`: arrays to copy a batch into, and the
table's words for these. The next call looks whether all that the plan depends on is what it was, each by its identity
or its count; what it says of the data it looks at again. Where anything is another, it is the first call once more.

An epoch's stretch of one batch, as `fit` runs them where there is little data, or somebody looks at each batch, is such
a step, too: of rows that the plan copies out of the data.

A plan stands with the Programs of its Runner, and goes with them: when layers, what trains, the weights' place or the
device change, and when the model is compiled again. Inside the gate it is looked up again, as another thread may have
changed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from gpumlp.backends.runtime import Array
from gpumlp.engine.dispatch import Choice
from gpumlp.engine.feed import Dataset
from gpumlp.engine.program import StepLogs, Task
from gpumlp.engine.runner import Runner
from gpumlp.gate import Gate, hold, settle, whole
from gpumlp.layers import Shape, Snapshot
from gpumlp.losses import Loss
from gpumlp.optimizers import Optimizer
from gpumlp.training import data
from gpumlp.training.results import Averages, Objective
from gpumlp.training.trained import Compiled, Logs

if TYPE_CHECKING:
    from gpumlp.engine.compiled_program import CompiledProgram
    from gpumlp.training.loop import Trainee
    from gpumlp.training.streams import Stretch

TRAINING = "again", True  # the plan to train by, there
COMPILED = True, False  # the compiled Program, among those of a Runner
MOST = 1 << 12  # numbers of a batch that are copied: of more, the kernels take longer than all the rest


class Plan:
    """A step with a batch of the shapes of ``x`` and ``y``: of training with an optimizer, or in inference mode.

    Made inside the gate, behind such a step.
    """

    loss: Loss

    def __init__(self, runner: Runner, objective: Objective, x: Array, y: Array, optimizer: Optimizer | None) -> None:
        program = _compiled(runner)
        assert program is not None
        self.program = program
        self.objective, (_, self.loss, self.names, *_) = objective, objective.of
        self.shapes, self.dtype, self.samples = (x.shape, y.shape), runner.dtype, len(x)
        self.optimizer, slots, scalars = optimizer, None, None
        if optimizer is not None:
            slots, scalars = (
                runner.slots(optimizer),
                np.zeros((1, len(optimizer.scalar_names))),
            )
            self.made, self.state = optimizer._made, optimizer._state
        held = Dataset(*(np.zeros((len(a), a.size // len(a)), runner.dtype) for a in (x, y)))
        self.held = held.arrays
        task = Task(held, None, len(x), 0, 1, objective.loss, objective.metrics, optimizer, slots, scalars)
        self.run = self.program.begun(task)
        self.logs = self.run.logs(self.run.results)  # of the step that was done last
        self.x, self.y = (a.reshape(shape) for a, shape in zip(held.arrays, self.shapes, strict=True))

    def holds(self, model: Compiled, x: Array, y: Array) -> bool:
        """Whether it is what the model is to do with ``x`` and ``y``; the layers have been read."""
        return (
            (x.shape, y.shape) == self.shapes
            and x.dtype == self.dtype == y.dtype
            and model._loss is self.loss
            and self.names is model._metric_names
            and not data.looks_at_targets(self.loss)
            and (self.optimizer is None or (self.optimizer is model._optimizer and self._trains(model)))
            and data.all_finite(x)
            and data.all_finite(y)
        )

    def dataset(self, x: Array, y: Array) -> tuple[Dataset, Shape] | None:
        """Return samples like the step's, of any number, as they are, and the shape of one."""
        if not x.shape or x.shape[:1] != y.shape[:1] or not 0 < x.size + y.size <= data.PIECE:
            return None
        for a, like in ((x, self.x), (y, self.y)):
            flags = a.flags
            if a.shape[1:] != like.shape[1:] or a.dtype != self.dtype or not flags.c_contiguous or not flags.aligned:
                return None
        if not data.all_finite(x) or not data.all_finite(y):
            return None
        rows_of_x, rows_of_y = (a if a.ndim == 2 else a.reshape(len(a), -1) for a in (x, y))
        return Dataset(rows_of_x, rows_of_y), x.shape[1:] or (1,)

    def _trains(self, model: Compiled) -> bool:
        optimizer = self.optimizer
        assert optimizer is not None
        return optimizer._made is self.made and optimizer._state is self.state and optimizer.belongs_to(model)

    def rows(self, stretch: Stretch, scalars: Array) -> Callable[[], list[tuple[list[Stretch], list[StepLogs]]]]:
        """Return what does the step with the batch that ``stretch`` is; the caller holds the gate."""
        of, order, batch, first, _ = stretch
        (x, y), (all_x, all_y), at = self.held, of.arrays, slice(first * batch, (first + 1) * batch)

        def step() -> list[tuple[list[Stretch], list[StepLogs]]]:
            if order is None:
                x[...], y[...] = all_x[at], all_y[at]
            else:
                rows = order[at]
                all_x.take(rows, 0, x, "clip")
                all_y.take(rows, 0, y, "clip")
            self.program.again(self.run, scalars[0])
            return [([stretch], [self.logs])]

        return step

    def do(self, model: Compiled, x: Array, y: Array) -> Logs | None:
        """Do the step, and return its logs; None, and nothing is changed, where another thread has changed anything."""
        optimizer, program, runner = self.optimizer, self.program, model._runner
        before, scalars = 0, tuple[float, ...]()
        if optimizer is not None:  # a schedule may be a user's: it is asked before the gate
            before = optimizer._steps
            scalars = optimizer.scalars(before + 1)

        def step() -> list[float] | None:
            if runner._programs.get(_kind(optimizer)) is not self or not _is_there(runner, program):
                return None
            if optimizer is not None and (optimizer._steps != before or not self._trains(model)):
                return None
            self.x[...], self.y[...] = x, y
            runner.last = program
            return program.again(self.run, scalars)

        found = whole(lambda: hold(_gates(program), step))
        if found is None:
            return None
        if self.objective.metrics:
            return Averages.of(self.objective, self.run.logs(np.array([found])))
        return {"loss": found[0] * self.samples / self.samples}


def _compiled(runner: Runner) -> CompiledProgram | None:
    """Return the compiled Program; None where there is none by now."""
    found: CompiledProgram | None = runner._programs.get(COMPILED)
    return found


def _is_there(runner: Runner, program: CompiledProgram) -> bool:
    """Whether it is the compiled Program, and its weights stand where they stood; the caller holds their gate."""
    return _compiled(runner) is program and not program.arena.arena.moved


def _gates(program: CompiledProgram) -> tuple[Gate]:
    return (program.arena.arena.gate,)


def _kind(optimizer: Optimizer | None) -> tuple[object, ...]:
    return "again", optimizer is not None


def step(model: Compiled, x: object, y: object, optimizer: Optimizer | None = None) -> tuple[Logs, Objective] | None:
    """Do a step with a batch like the last one: of training, or in inference mode; None where that is not planned.

    Returns its logs, and what they are of.
    """
    if type(x) is not np.ndarray or type(y) is not np.ndarray:
        return None
    settle()
    runner: Runner = model._runner
    runner.reread(model._trainable)
    plan = runner._programs.get(_kind(optimizer))
    if type(plan) is not Plan or not plan.holds(model, x, y):
        return None
    Snapshot.forget()
    logs = plan.do(model, x, y)
    return None if logs is None else (logs, plan.objective)


def plan(
    model: Compiled, x: object, y: object, objective: Objective, choice: Choice, optimizer: Optimizer | None = None
) -> None:
    """Plan such a step, if the last one, which was done, is the second with arrays like ``x`` and ``y``."""
    if type(x) is not np.ndarray or type(y) is not np.ndarray:
        return
    runner: Runner = model._runner
    programs, program = runner._programs, _compiled(runner)
    if program is None or not _may_plan(runner, x, y, objective, choice, optimizer):
        return
    if data.looks_at_targets(objective.loss):
        return  # they would have to be looked at again

    def make() -> None:
        if runner._programs is programs and _is_there(runner, program):  # with programs goes a network
            programs[_kind(optimizer)] = Plan(runner, objective, x, y, optimizer)

    if _is_second(runner, x, y, optimizer):
        whole(lambda: hold(_gates(program), make))


def _may_plan(
    runner: Runner, x: Array, y: Array, objective: Objective, choice: Choice, optimizer: Optimizer | None
) -> bool:
    """Whether a step with ``x`` and ``y`` is one that a plan is worth it for, and makes the same of."""
    return (
        choice.functions is not None
        and not choice.ranks
        and not (optimizer is not None and optimizer.apart)
        and objective.of is not None
        and objective.of[0] is runner.network
        and x.size + y.size <= MOST
        and (program := _compiled(runner)) is not None
        and program.is_brief(len(x))
        and all(metric.series for metric in objective.metrics)
    )


def _is_second(runner: Runner, x: Array, y: Array, optimizer: Optimizer | None) -> bool:
    """Whether the last step had arrays like these, too."""
    programs, kind, shapes = runner._programs, _kind(optimizer), (x.shape, y.shape)
    if programs.get(kind) == shapes:
        return True
    programs[kind] = shapes
    return False


def for_stretch(trainee: Trainee, stretch: Stretch) -> Plan | None:
    """Return the plan of the step that ``stretch`` is; None where there is none. The caller holds the gate."""
    runner, optimizer, held = trainee.runner, trainee.optimizer, stretch.data
    plan = runner._programs.get(_kind(optimizer))
    if (
        type(plan) is not Plan
        or stretch.steps != 1
        or stretch.batch != plan.samples
        or len(held) < stretch.last * stretch.batch
        or held.weights is not None
        or trainee.choice.functions is None
        or trainee.objective is not plan.objective
        or optimizer is not plan.optimizer
        or not plan._trains(trainee.model)
        or not _is_there(runner, plan.program)
    ):
        return None
    runner.last = plan.program
    return plan


def plan_stretch(trainee: Trainee, stretch: Stretch) -> None:
    """Plan the step that was done for ``stretch``, if it is the second like this; the caller holds the gate."""
    held, runner, objective, optimizer = stretch.data, trainee.runner, trainee.objective, trainee.optimizer
    if _compiled(runner) is None or stretch.steps != 1 or held.weights is not None:
        return
    network, at = runner.current(), slice(stretch.first * stretch.batch, stretch.last * stretch.batch)
    shapes = network.input_shape, network.output_shape
    x, y = (_as_given(a[at], shape) for a, shape in zip(held.arrays, shapes, strict=True))
    if len(x) == stretch.batch and _may_plan(runner, x, y, objective, trainee.choice, optimizer):
        if _is_second(runner, x, y, optimizer):
            runner._programs[_kind(optimizer)] = Plan(runner, objective, x, y, optimizer)


def _as_given(a: Array, shape: Shape) -> Array:
    """Return rows as samples of ``shape``, if they are such: as a person has them, and `data.check_axes` wants them."""
    return a.reshape(len(a), *shape) if a.shape[1] == math.prod(shape) else a


def dataset(runner: Runner, x: object, y: object, loss: Loss) -> tuple[Dataset, Shape] | None:
    """Return x and y as a Dataset, and a sample's shape, if samples are like those of the step that is planned."""
    plan = runner._programs.get(TRAINING)
    if type(plan) is not Plan or plan.loss is not loss or data.looks_at_targets(loss):
        return None
    return plan.dataset(x, y) if type(x) is type(y) is np.ndarray else None


def predict(model: Compiled, x: object) -> Array | None:
    """Return the predictions for some rows, x[n, F], by the Program that is there; None where there is more to it."""
    if type(x) is not np.ndarray:
        return None
    settle()
    runner: Runner = model._runner
    runner.reread(model._trainable)
    network, program = runner.network, _compiled(runner)
    if program is None or network is None or x.dtype != runner.dtype or len(network.output_shape) != 1:
        return None
    if len(shape := x.shape) != 2 or shape[1:] != network.input_shape or not 0 < shape[0] <= program.few:
        return None
    if not data.all_finite(x):
        return None

    def rows() -> Array | None:
        if not _is_there(runner, program):
            return None
        runner.last = program
        return program.predict_few(x)

    return hold(_gates(program), rows)
