"""What a person is told when training goes wrong: a loss that is no number, relus that are dead, inputs out of scale.

What is known before the first step is told then: that nobody has adapted a Normalization, which then changes nothing,
or that a regression's targets are far from all that the model gives.

All else is looked for after the fact: at the end of an epoch whose loss is no number, and at the end of a fit, where a
model has been trained for a while, and then again when it has been trained ten times as long. While all is well a few
dozen samples show it, so that it costs nothing; what they seem to show is told of only if thousands more, or all,
agree. One thing is told after a fit, the first cause of the others, and each once of a model. Nothing is changed: a
copy of the weights is looked at, by NumPy, and samples are drawn by random numbers that nobody else draws from.

The step that makes a loss no number makes all weights such: where it began is looked for with the weights from before
the fit.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gpumlp import activations, config
from gpumlp.backends.runtime import Array, Rows
from gpumlp.engine.arena import alone
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network
from gpumlp.engine.normalization import BatchNormOp
from gpumlp.engine.operations import ActivationOp, DenseOp, Operation
from gpumlp.engine.program import LoopProgram, StepLogs
from gpumlp.engine.runner import Runner, together
from gpumlp.errors import (
    DeadUnitsWarning,
    DeviceMemoryError,
    InputScaleWarning,
    NonFiniteLossWarning,
    NotAdaptedWarning,
    TargetScaleWarning,
    TrainingWarning,
    caller_level,
)
from gpumlp.layers import Normalization
from gpumlp.losses import Huber, LogCosh, Loss, MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredError
from gpumlp.training.data import library, on_gpu
from gpumlp.training.samples import on_device
from gpumlp.training.streams import Stretch

if TYPE_CHECKING:
    from gpumlp.training.loop import Trainee

FEW, MANY = 16, 8192  # samples that are looked at: at a time, and at most, while they show something
ROWS, WORK = 256, 1 << 31  # samples that are looked at in any case; products, of all weights with all samples
FIRST, AGAIN = 100, 10  # steps after which a model is looked at, and how many times as many until the next time
DEAD = 2 / 3  # of a layer's relus: half are, of a network whose inputs are all positive, from the beginning
FAR, NEAR, APART = 100.0, 0.01, 1000.0  # of the inputs' scales, their root mean squares: the largest, and their ratio
SOME = 0.05  # of a column's numbers: of one with fewer that are not 0 there is no scale
ENOUGH = 100  # samples of a batch, where the others are not known, from which on a relu that is 0 for all is dead
RECENT = 4  # losses that are told
KEPT = 1 << 24  # numbers, at most: weights of which a copy is kept while a model trains, and what layers give
REACH = 10.0  # times an output's size, from which on a target is out of reach
DISTANCES = MeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError, Huber, LogCosh
RELUS = (activations.relu.function, activations.relu6.function)
SCALE = "put norm = layers.Normalization() first in the model, and call norm.adapt(x) before fit"
SILENCE = "gpumlp.config.set_advice('ignore') silences this."


class Watch:
    """A fit, of a model, that is watched: its weights from before, and the first step whose loss was no number."""

    step: int | None = None  # in its epoch, from 0
    epoch = 0  # which that is
    losses: Sequence[float] = ()  # the last ones before it, and its own
    stretch: Stretch | None = None  # its batch alone, and the data that this is of
    last: Stretch | None = None  # before it: what spoils the weights spoils the next loss
    before: Callable[[], list[Array]] | None = None

    def took(self, stretch: Stretch, logs: StepLogs, epoch: int, done: int, finite: bool) -> None:
        """Take note of the first loss that is no number, of a stretch that follows ``done`` steps of an epoch."""
        if finite:
            self.last = stretch
            return
        at = int(np.argmin(np.isfinite(logs.losses)))
        self.stretch = stretch._replace(first=stretch.first + at, last=stretch.first + at + 1)
        self.epoch, self.step, self.losses = epoch, done + at, logs.losses[max(0, at - RECENT) : at + 1].tolist()


def before_fit(trainees: Sequence[Trainee]) -> None:
    """Keep the weights, and look at a model that begins to learn, of several the first.

    That is at its Normalizations, and at what it is to learn.
    """
    if config.advice() == "warn" and (long := [trainee for trainee in trainees if _is_long(trainee)]):
        runners = [trainee.runner for trainee in long]
        copies = together(runners, lambda: list(map(_copied, runners)), brief=True)  # where no handler comes
        for trainee, before in zip(long, copies, strict=True):
            trainee.watch.before = before
    trainee = trainees[0]
    if config.advice() == "warn" and trainee.place.epochs and not trainee.optimizer.steps:
        for kind, look in ((NotAdaptedWarning, _of_idle), (TargetScaleWarning, _of_targets)):
            if kind not in trainee.runner.advised and (text := look(trainee)):
                _tell(trainees, kind, text)


def after_epochs(trainees: Sequence[Trainee]) -> None:
    """Tell of the first of some models whose loss was no number in the epochs that were begun last."""
    for trainee in trainees:
        if trainee.watch.step is not None and NonFiniteLossWarning not in trainee.runner.advised:
            if config.advice() == "warn" and trainee.as_it_began:
                _tell(trainees, NonFiniteLossWarning, _of_loss(trainee))
            return


def after_fit(trainees: Sequence[Trainee]) -> None:
    """Look at a model that has been trained: of several, which have the same data, at the first."""
    trainee = trainees[0]
    runner, steps = trainee.runner, trainee.optimizer.steps
    due = config.advice() == "warn" and steps >= max(FIRST, AGAIN * runner.looked_at)
    if due and trainee.watch.step is None and trainee.as_it_began:
        runner.looked_at = steps
        found = _of_trained(trainee)
        if found is not None and found[0] not in runner.advised:
            _tell(trainees, *found)


def _tell(trainees: Sequence[Trainee], kind: type[TrainingWarning], message: str) -> None:
    for trainee in trainees:
        trainee.runner.advised |= {kind, *kind.__bases__}  # a special case says what its base would say later
    if message:
        warnings.warn(f"{message} {SILENCE}", kind, stacklevel=caller_level())


# ---- what is seen ----------------------------------------------------------------------------------------------------
def _is_long(trainee: Trainee) -> bool:
    """Whether weights are kept while a model trains: for no short fit, and of no large model."""
    steps = trainee.source.steps
    long = steps is None or steps * len(trainee.place.epochs) >= FIRST
    return long and trainee.runner.current().parameters <= KEPT


def _copied(runner: Runner) -> Callable[[], list[Array]]:
    """Return what gives the weights that there are now; the caller holds the gate.

    They are copied where they are, if there is room: hardly anybody asks for them, and to the host it takes longer.
    """
    there = runner.place()
    try:
        with there.backend.running():
            copy = there.backend.empty(there.params.shape, there.dtype)
            copy[...] = there.params
    except DeviceMemoryError:
        weights = there.get()
        return lambda: weights
    return functools.partial(there.get, copy)


def _weights(runner: Runner) -> list[Array]:
    return together([runner], lambda: runner.place().get(), change=False, brief=True)


def _picked(runner: Runner, data: Dataset, rows: Rows) -> Dataset:
    """Return some rows, on the host."""

    def pick(array: Array) -> Array:
        xp = library(array)
        return runner.backend.to_host(array[xp.asarray(rows)]) if on_gpu(array) else np.asarray(array[rows])

    with on_device(runner):
        return data.each(pick)


def _drawn(runner: Runner, data: Dataset) -> Rows:
    """Return the numbers of samples to look at, in any order, without those of weight 0."""
    there: int | Array = len(data)
    if data.weights is not None:
        with on_device(runner):
            there = np.flatnonzero(runner.backend.to_host(data.weights) if on_gpu(data.weights) else data.weights)
    most = min(MANY, max(ROWS, WORK // max(runner.current().parameters, 1)))
    count = there if isinstance(there, int) else len(there)
    return np.random.default_rng(0).choice(there, min(most, count), replace=False) if count else np.arange(0)


class Look:
    """A model on the host, in inference mode, through which samples go, so many at a time.

    With these weights, or, where there are none, with a copy of those that it has now.
    """

    def __init__(self, runner: Runner, weights: Sequence[Array] | None, rows: int) -> None:
        self.network = runner.current()
        held = alone(self.network.weights, runner.dtype)

        def copied() -> None:
            there = runner.place()
            held.set(there.weights if type(there.params) is np.ndarray else there.get())

        if weights is None:
            together([runner], copied, change=False, brief=True)
        else:
            held.set(weights)
        self.program = LoopProgram(self.network.asked(False, True), held, held.backend, rows)

    def outputs(self, x: Array) -> Iterator[tuple[Operation, str, Array, Array]]:
        """Yield each operation, its layer's name, what goes into it and what comes out."""
        for op, name, y in zip(self.network.ops, self.network.names, self.program.look(x), strict=True):
            yield op, name, x, y
            x = y

    def given(self, x: Array) -> Array:
        """Return the outputs, row by row."""
        y: Array = self.program.look(x)[-1]
        return y.reshape(len(x), -1)

    def loss(self, data: Dataset, loss: Loss) -> float:
        """Return the loss."""
        n = len(data)
        return float(self.program.run(data, None, n, 0, 1, loss, []).losses[0])

    def gradients(self, data: Dataset, loss: Loss) -> dict[str, float]:
        """Return the largest number of each weight's gradient, by its name, from the first layer on."""
        found = self.program.gradients(data, np.empty_like(data.x), len(data), loss)
        return {path: float(abs(grad).max()) for path, grad in zip(self.network.paths, found, strict=True)}


class Seen:
    """What all samples so far have shown: the scales of the first Dense's inputs, and the relus that were 0 for each.

    The relus of the last Dense, or behind it, are the outputs, which may be 0 for all but a rare event. What is behind
    a BatchNormalization is not that which trains, until its averages have caught up.
    """

    def __init__(self, network: Network) -> None:
        ops = network.ops
        dense = [i for i, op in enumerate(ops) if isinstance(op, DenseOp)]
        norm = min((i for i, op in enumerate(ops) if isinstance(op, BatchNormOp)), default=len(ops))
        self.first = dense[0] if dense and dense[0] < norm else -1
        self.hidden = range(min(dense[-1], norm) if dense else 0)
        self.samples, self.inputs, self.squares, self.there = 0, 0, np.zeros(()), np.zeros(())
        self.alive: dict[int, tuple[str, npt.NDArray[np.bool_]]] = {}

    def add(self, samples: int, outputs: Iterator[tuple[Operation, str, Array, Array]]) -> None:
        """Take in what some samples show."""
        self.samples += samples
        for i, (op, name, x, y) in enumerate(outputs):
            if i == self.first and isinstance(op, DenseOp):
                x = x.reshape(-1, op.inputs)
                self.inputs += len(x)
                self.squares = self.squares + np.square(x, dtype=np.float64).sum(axis=0)
                self.there = self.there + np.count_nonzero(x, axis=0)
            if i in self.hidden and isinstance(op, (DenseOp, ActivationOp)) and _is_relu(op.activation):
                alive = y.reshape(-1, op.outputs if isinstance(op, DenseOp) else op.row) != 0.0
                before = [self.alive[i][1]] if i in self.alive else []
                self.alive[i] = name, np.any([*before, *alive], axis=0)

    def tells(self) -> tuple[type[TrainingWarning], str] | None:
        """Return what there is to tell, by these samples; None where all is well."""
        if self.inputs:
            scales = np.where(self.there > SOME * self.inputs, np.sqrt(self.squares / self.inputs), 0.0)
            if text := _of_inputs(np.where(np.isfinite(scales), scales, 0.0)):
                return InputScaleWarning, text
        dead = [(float(np.mean(~alive)), name, len(alive)) for name, alive in self.alive.values()]
        worst = max(dead, key=lambda found: found[0], default=(0.0, "", 0))
        return (DeadUnitsWarning, _of_relus(*worst, self.samples)) if worst[0] > DEAD else None


def _of_trained(trainee: Trainee) -> tuple[type[TrainingWarning], str] | None:
    """Return what is to tell of a model that was trained; None where all is well."""
    data, runner = trainee.source.sample, trainee.runner
    assert data is not None
    rows, found = _drawn(runner, data), None
    look, seen = Look(runner, None, FEW), Seen(runner.current())
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), FEW):
            x = _picked(runner, Dataset(data.x), rows[start : start + FEW]).x
            seen.add(len(x), look.outputs(x))
            if (found := seen.tells()) is None:
                return None
    few = trainee.source.reads and len(rows) < ENOUGH
    return None if found is None or (few and found[0] is DeadUnitsWarning) else found


def _is_relu(activation: activations.Activation) -> bool:
    return activation.function in RELUS and not dict(activation.constants).get("negative_slope", 0.0)


def _of_relus(share: float, name: str, units: int, samples: int) -> str:
    return (
        f"{share:.0%} of the {units} relus of layer {name!r} are 0 for all of the {samples:,} samples looked at, from "
        f"which they learn nothing: they are most likely dead. What helps: inputs of mean 0 and deviation 1 ({SCALE}), "
        "a smaller learning rate, or activation='leaky_relu'."
    )


def _of_inputs(scales: Array) -> str:
    """Return what is to tell of the inputs of the first Dense, by the columns' scales, 0 where there is none."""
    if not (there := np.flatnonzero(scales)).size:
        return ""
    most, least = int(np.argmax(scales)), int(there[np.argmin(scales[there])])
    if NEAR <= scales[most] <= FAR and scales[most] <= APART * scales[least]:
        return ""
    what = f"column {most} is of the size {scales[most]:.3g}" + (
        f", column {least} of {scales[least]:.3g}" if scales[most] > APART * scales[least] else ""
    )
    return (
        f"The inputs of the first Dense layer are badly scaled: {what} (root mean square). Networks learn best from "
        f"columns of mean 0 and deviation 1: {SCALE}, or use a StandardScaler."
    )


def _is_idle(layer: Normalization) -> bool:
    """Whether its mean and variance are 0 and 1, as of a new one, and not those of data that it has seen."""
    if layer.given is not None or layer.adapted:
        return False
    mean, variance, _ = layer.get_weights()
    return not mean.any() and bool((variance == 1.0).all())


def _of_idle(trainee: Trainee) -> str:
    """Return what is to tell of the first Normalization that has seen no data; nothing where there is none."""
    idle = (layer.name for layer in trainee.runner.stack if isinstance(layer, Normalization) and _is_idle(layer))
    return "" if (name := next(idle, None)) is None else (
        f"Layer {name!r} has mean 0 and variance 1, as a new Normalization has: it leaves its inputs as they are. Call "
        "its adapt(x) before fit, or give it mean= and variance=."
    )  # fmt: skip


def _of_targets(trainee: Trainee) -> str:
    """Return what is to tell of a regression's targets, which a model must reach before it can tell them apart.

    What it gives as it is, is looked at only where they are large: it may have been trained before, or scale by itself.
    """
    data, runner = trainee.source.sample, trainee.runner
    if data is None or data.y is None or not isinstance(trainee.objective.loss, DISTANCES):
        return ""
    rows = _drawn(runner, data)
    for most in (FEW, MANY):
        y = np.asarray(_picked(runner, Dataset(data.y), rows[:most]).x, np.float64)
        sizes = np.maximum(abs(y.mean(axis=0)), y.std(axis=0)) if len(y) else np.zeros(1)
        column = int(np.argmax(np.where(np.isfinite(sizes), sizes, 0.0)))
        if not sizes[column] > FAR:
            return ""
    with np.errstate(all="ignore"):
        given = Look(runner, None, FEW).given(_picked(runner, Dataset(data.x), rows[:FEW]).x)
    size = float(np.sqrt(np.square(given[:, column], dtype=np.float64).mean()))
    if sizes[column] <= REACH * size:
        return ""
    mean, std = y[:, column].mean(), y[:, column].std()
    return (
        f"The targets are far from what the model gives: column {column} of y has mean {mean:.3g} and deviation "
        f"{std:.3g}, the outputs for it are of the size {size:.3g}. Training may take far too many steps to get there: "
        "scale y to mean 0 and deviation 1, and predictions back, as StandardScaler does, or around an estimator "
        "sklearn.compose.TransformedTargetRegressor."
    )


# ---- a loss that is no number ----------------------------------------------------------------------------------------
def _of_loss(trainee: Trainee) -> str:
    """Return what is to tell of the first loss that is no number; nothing where data that are told of are to blame."""
    watch, name = trainee.watch, trainee.objective.loss.name
    assert watch.stretch is not None and watch.step is not None
    bad = _unfit(trainee.runner, watch.stretch.data) or _unfit(trainee.runner, (watch.last or watch.stretch).data)
    told = config.nonfinite() != "ignore"
    if bad:
        return "" if told else f"The loss {name} is no number, as {bad} has NaN or Inf. Remove such rows."
    *before, value = watch.losses
    course = f" (before: {', '.join(f'{loss:.3g}' for loss in before)})" if before else ""
    with np.errstate(all="ignore"):
        where = _where(trainee, watch.stretch)
    unseen = "" if told or not trainee.source.reads else (
        "This batch has no NaN or Inf, nor has the one before it; others could not be looked at: "
        "gpumlp.config.set_nonfinite('warn') has each looked at as it comes. "
    )  # fmt: skip
    return (
        f"The loss {name} became {'NaN' if math.isnan(value) else 'infinite'} in epoch {watch.epoch + 1}, at step "
        f"{watch.step + 1}{course}. {unseen}{where}Try a smaller learning rate, clipnorm=1.0 in the optimizer, inputs "
        "and targets of mean 0 and deviation 1. A loss or an activation of one's own must not divide by 0, nor take "
        "its logarithm."
    )


def _unfit(runner: Runner, data: Dataset) -> str:
    """Return the name of what has NaN or Inf; nothing where all are numbers."""
    given = {"x": data.x, "y": data.y, "sample_weight": data.weights}
    with on_device(runner):
        bad = [name for name, a in given.items() if a is not None and not bool(library(a).isfinite(a).all())]
    return bad[0] if bad else ""


def _where(trainee: Trainee, stretch: Stretch) -> str:
    """Return which layer was the first, in words; nothing where that cannot be known any more."""
    runner, loss = trainee.runner, trainee.objective.loss
    before = None if trainee.watch.before is None else trainee.watch.before()
    when = "With the weights that fit began with" if before else "With the weights as they are now"
    now = _weights(runner)
    if not before and not all(np.isfinite(array).all() for array in now):
        return ""  # all layers are alike by now
    most = max(ROWS, KEPT // sum(runner.current().sizes))  # rows, for all that layers give of them
    start = stretch.first * stretch.batch
    rows = np.arange(start, min(start + min(stretch.batch, most), len(stretch.data)))
    data = _picked(runner, stretch.data, rows if stretch.order is None else stretch.order[rows])
    seen = Look(runner, before or now, len(data))
    for _, name, _, y in seen.outputs(data.x):
        if not np.isfinite(y).all():
            return f"{when}, the outputs of layer {name!r} are the first that are not finite. "
    if not math.isfinite(seen.loss(data, loss)):
        return f"{when}, outputs are finite, and the loss of them is not. "
    slopes = seen.gradients(data, loss)
    for path, size in reversed(slopes.items()):
        if not math.isfinite(size):
            return f"{when}, the loss is finite, and the gradient by {path} is the first that is not. "
    largest = max(slopes, key=slopes.__getitem__)
    return f"{when}, all was finite; the largest gradient was that by {largest}, {slopes[largest]:.3g}. "
