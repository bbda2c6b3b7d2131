"""What a person is told when training goes wrong: a loss that is no number, relus that are dead, inputs out of scale.

It is looked for after the fact, in a few hundred samples at most, so that it costs nothing while all is well: at the
end of an epoch whose loss is no number, and at the end of a fit, where a model has been trained for a while, and then
again when it has been trained ten times as long. One thing is told in a fit, the first cause of the others, and each
once of a model. Nothing is changed: a copy of the weights is looked at, by NumPy.

The step that makes a loss no number makes all weights such: where it began is looked for with the weights from before
the fit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gpumlp import activations, config
from gpumlp.backends.runtime import Array
from gpumlp.engine.arena import alone
from gpumlp.engine.feed import Dataset
from gpumlp.engine.operations import ActivationOp, DenseOp, Operation
from gpumlp.engine.program import LoopProgram, StepLogs
from gpumlp.engine.runner import Runner, together
from gpumlp.errors import DeadUnitsWarning, InputScaleWarning, NonFiniteLossWarning, TrainingWarning, caller_level
from gpumlp.losses import Loss
from gpumlp.training.data import library, on_gpu
from gpumlp.training.samples import on_device

if TYPE_CHECKING:
    from gpumlp.training.loop import Trainee

FEW, ROWS = 64, 256  # samples that are looked at, at most: first, and where these show something
FIRST, AGAIN = 100, 10  # steps after which a model is looked at, and how many times as many until the next time
DEAD = 2 / 3  # of a layer's relus: half are, of a network whose inputs are all positive, from the beginning
FAR, NEAR, APART = 100.0, 0.01, 1000.0  # of the inputs' scales, their root mean squares: the largest, and their ratio
ENOUGH = 100  # samples of a batch, where the others are not known, from which on a relu that is 0 for all is dead
RECENT = 4  # losses that are told
KEPT = 1 << 24  # weights, at most, of which a copy is kept while a model trains
RELUS = (activations.relu.function, activations.relu6.function)
SCALE = "put norm = layers.Normalization() first in the model, and call norm.adapt(x) before fit"
SILENCE = "gpumlp.config.set_advice('ignore') silences this."


class Watch:
    """A fit, of a model, that is watched: its weights from before, and the first step whose loss was no number."""

    step: int | None = None  # in its epoch, from 0
    losses: Sequence[float] = ()  # the last ones before it, and its own
    before: list[Array] | None = None

    def begin(self, trainee: Trainee, epochs: range) -> None:
        """Keep a copy of the weights, unless the fit is short or the model large."""
        steps, runner = trainee.source.steps, trainee.runner
        long = steps is None or steps * len(epochs) >= FIRST
        if long and config.advice() == "warn" and runner.current().parameters <= KEPT:
            self.before = _weights(runner)

    def broke(self, logs: StepLogs, done: int) -> None:
        """Take note of the first loss that is no number, among those of the steps that follow ``done`` ones."""
        at = int(np.argmin(np.isfinite(logs.losses)))
        self.step, self.losses = done + at, logs.losses[max(0, at - RECENT) : at + 1].tolist()


def after_epoch(trainees: Sequence[Trainee], epoch: int) -> None:
    """Tell of the first of some models whose loss was no number in this epoch."""
    for trainee in trainees:
        if trainee.watch.step is not None and NonFiniteLossWarning not in trainee.runner.advised:
            if config.advice() == "warn" and trainee.as_it_began:
                _tell(trainees, NonFiniteLossWarning, _of_loss(trainee, epoch))
            return


def after_fit(trainees: Sequence[Trainee]) -> None:
    """Look at a model that has been trained: of several, which have the same data, at the first."""
    trainee = trainees[0]
    runner, steps = trainee.runner, trainee.optimizer.steps
    due = config.advice() == "warn" and steps >= max(FIRST, AGAIN * runner.looked_at)
    if due and trainee.watch.step is None and trainee.as_it_began:
        runner.looked_at = steps
        found = _of_trained(trainee, FEW) and _of_trained(trainee, ROWS)
        if found is not None and found[0] not in runner.advised:
            _tell(trainees, *found)


def _tell(trainees: Sequence[Trainee], kind: type[TrainingWarning], message: str) -> None:
    for trainee in trainees:
        trainee.runner.advised.add(kind)
    if message:
        warnings.warn(f"{message} {SILENCE}", kind, stacklevel=caller_level())


# ---- what is seen ----------------------------------------------------------------------------------------------------
def _weights(runner: Runner) -> list[Array]:
    return together([runner], lambda: runner.place().get(), change=False, brief=True)


def _on_host(runner: Runner, array: Array, rows: slice[None, None, int]) -> Array:
    return runner.backend.to_host(array[rows]) if on_gpu(array) else np.array(array[rows])


class Look:
    """Some samples on their way through a model with these weights, on the host, in inference mode."""

    def __init__(self, runner: Runner, data: Dataset, weights: Sequence[Array], rows: int = ROWS) -> None:
        self.network, every = runner.current(), slice(None, None, -(-len(data) // rows))
        with on_device(runner):
            self.data = data.each(lambda array: _on_host(runner, array, every))
        held = alone(self.network.weights, runner.dtype)
        held.set(weights)
        self.program = LoopProgram(self.network.asked(False, True), held, held.backend, len(self.data))

    def outputs(self) -> Iterator[tuple[Operation, str, Array, Array]]:
        """Yield each operation, its layer's name, what goes into it and what comes out."""
        x = self.data.x
        for op, name, y in zip(self.network.ops, self.network.names, self.program.look(x), strict=True):
            yield op, name, x, y
            x = y

    def loss(self, loss: Loss) -> float:
        """Return the loss."""
        n = len(self.data)
        return float(self.program.run(self.data, None, n, 0, 1, loss, []).losses[0])

    def gradients(self, loss: Loss) -> dict[str, float]:
        """Return the largest number of each weight's gradient, by its name, from the first layer on."""
        found = self.program.gradients(self.data, np.empty_like(self.data.x), len(self.data), loss)
        return {path: float(abs(grad).max()) for path, grad in zip(self.network.paths, found, strict=True)}


def _of_trained(trainee: Trainee, rows: int) -> tuple[type[TrainingWarning], str] | None:
    """Return what is to tell of a model that was trained; None where all is well."""
    data = trainee.source.sample
    assert data is not None
    seen, first, worst = Look(trainee.runner, data, _weights(trainee.runner), rows), True, (0.0, "", 0)
    for op, name, x, y in seen.outputs():
        if first and isinstance(op, DenseOp):
            first = False
            if found := _of_inputs(x.reshape(-1, op.inputs)):
                return InputScaleWarning, found
        if isinstance(op, (DenseOp, ActivationOp)) and _is_relu(op.activation):
            units = y.reshape(-1, op.outputs if isinstance(op, DenseOp) else op.row)
            worst = max(worst, (float(np.mean(~units.any(axis=0))), name, units.shape[1]))
    known = len(data) >= ENOUGH or not trainee.source.reads
    return (DeadUnitsWarning, _of_relus(*worst, len(seen.data))) if worst[0] > DEAD and known else None


def _is_relu(activation: activations.Activation) -> bool:
    return activation.function in RELUS and not dict(activation.constants).get("negative_slope", 0.0)


def _of_relus(share: float, name: str, units: int, samples: int) -> str:
    return (
        f"{share:.0%} of the {units} relus of layer {name!r} are 0 for all of the {samples} samples looked at: they "
        f"are dead, and neither give anything nor learn. What helps: inputs of mean 0 and deviation 1 ({SCALE}), a "
        "smaller learning rate, or activation='leaky_relu'."
    )


def _of_inputs(x: Array) -> str:
    """Return what is to tell of the inputs of the first Dense, x[n, F]; nothing where they are of a common scale."""
    scales = np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=0))
    scales = np.where(np.isfinite(scales), scales, 0.0)
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


# ---- a loss that is no number ----------------------------------------------------------------------------------------
def _of_loss(trainee: Trainee, epoch: int) -> str:
    """Return what is to tell of the first loss that is no number; nothing where data that are told of are to blame."""
    data, watch, name = trainee.source.sample, trainee.watch, trainee.objective.loss.name
    assert data is not None and watch.step is not None
    with on_device(trainee.runner):
        bad = [what for what, a in (("x", data.x), ("y", data.y)) if not bool(library(a).isfinite(a).all())]
    if bad:
        told = config.nonfinite() != "ignore"
        return "" if told else f"The loss {name} is no number, as {bad[0]} has NaN or Inf. Remove such rows."
    *before, value = watch.losses
    course = f" (before: {', '.join(f'{loss:.3g}' for loss in before)})" if before else ""
    with np.errstate(all="ignore"):
        where = _where(trainee, data)
    return (
        f"The loss {name} became {'NaN' if math.isnan(value) else 'infinite'} in epoch {epoch + 1}, at step "
        f"{watch.step + 1}{course}. {where}Try a smaller learning rate, clipnorm=1.0 in the optimizer, inputs and "
        "targets of mean 0 and deviation 1. A loss or an activation of one's own must not divide by 0, nor take its "
        "logarithm."
    )


def _where(trainee: Trainee, data: Dataset) -> str:
    """Return which layer was the first, in words; nothing where that cannot be known any more."""
    runner, loss, before = trainee.runner, trainee.objective.loss, trainee.watch.before
    when = "With the weights that fit began with" if before else "With the weights as they are now"
    now = _weights(runner)
    seen = Look(runner, data, before or now)
    if not before and not all(np.isfinite(array).all() for array in now):
        return ""  # all layers are alike by now
    for _, name, _, y in seen.outputs():
        if not np.isfinite(y).all():
            return f"{when}, the outputs of layer {name!r} are the first that are not finite. "
    if not math.isfinite(seen.loss(loss)):
        return f"{when}, outputs are finite, and the loss of them is not. "
    slopes = seen.gradients(loss)
    for path, size in reversed(slopes.items()):
        if not math.isfinite(size):
            return f"{when}, the loss is finite, and the gradient by {path} is the first that is not. "
    largest = max(slopes, key=slopes.__getitem__)
    return f"{when}, all was finite; the largest gradient was that by {largest}, {slopes[largest]:.3g}. "
