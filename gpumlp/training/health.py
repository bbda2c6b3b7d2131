"""What a person is told when training goes wrong: a loss that is no number, relus that are dead, inputs out of scale.

It is looked for after the fact, in a few hundred samples at most, so that it costs nothing while all is well: at the
end of an epoch whose loss is no number, and at the end of a fit, where a model has been trained for a while, and then
again when it has been trained ten times as long. One thing is told in a fit, the first cause of the others, and each
once of a model. Nothing is changed: what is looked at goes through a Program of its own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpumlp import activations, config
from gpumlp.engine.feed import Dataset
from gpumlp.engine.operations import ActivationOp, DenseOp
from gpumlp.engine.program import LoopProgram, StepLogs
from gpumlp.engine.runner import Runner, together
from gpumlp.errors import (
    DeadUnitsWarning,
    InputScaleWarning,
    NonFiniteLossWarning,
    TrainingWarning,
    caller_level,
)

if TYPE_CHECKING:
    from gpumlp.training.loop import Trainee

ROWS = 256  # samples that are looked at, at most
FIRST, AGAIN = (
    100,
    10,
)  # steps from which on a trained model is looked at, and how many times as many until the next time
DEAD = 2 / 3  # of a layer's relus: half are, of a network whose inputs are all positive, from the beginning
FAR, NEAR, APART = 100.0, 0.01, 1000.0  # of the inputs' scales, their root mean squares: the largest, and their ratio
RECENT = 4  # losses that are told
RELUS = (activations.relu.function, activations.relu6.function)
SMALLER = "a smaller learning rate, clipnorm=1.0 in the optimizer, inputs and targets of mean 0 and deviation 1"
SCALE = "put norm = layers.Normalization() first in the model, and call norm.adapt(x) before fit"
SILENCE = "gpumlp.config.set_advice('ignore') silences this."


@dataclass
class Broken:
    """The first step of an epoch whose loss was no number, and the last losses before it."""

    step: int
    loss: float
    before: list[float]

    @classmethod
    def of(cls, logs: StepLogs, done: int) -> Broken:
        """Return it of the steps that follow ``done`` ones."""
        at = int(np.argmin(np.isfinite(logs.losses)))
        return cls(done + at, float(logs.losses[at]), logs.losses[max(0, at - RECENT) : at].tolist())


def after_epoch(trainees: Sequence[Trainee], epoch: int) -> None:
    """Tell of the first of some models whose loss was no number in this epoch."""
    for trainee in trainees:
        if trainee.broken is not None and trainee.runner.advised.isdisjoint(_names(NonFiniteLossWarning)):
            _tell(trainees, NonFiniteLossWarning, _of_loss(trainee, trainee.broken, epoch))
            return


def after_fit(trainees: Sequence[Trainee]) -> None:
    """Look at models that have been trained, one after the other, until there is something to tell."""
    for trainee in trainees:
        runner, steps = trainee.runner, trainee.optimizer.steps
        if config.advice() == "ignore" or steps < max(FIRST, AGAIN * runner.looked_at):
            continue
        runner.looked_at = steps
        found = trainee.broken is None and _of_trained(trainee)
        if found and found[0].__name__ not in runner.advised:
            _tell(trainees, *found)
            return


def _names(*kinds: type[TrainingWarning]) -> set[str]:
    return {kind.__name__ for kind in kinds}


def _tell(trainees: Sequence[Trainee], kind: type[TrainingWarning], message: str) -> None:
    for trainee in trainees:
        trainee.runner.advised |= _names(kind)
    if message and config.advice() == "warn":
        warnings.warn(f"{message} {SILENCE}", kind, stacklevel=caller_level())


# ---- what is seen ----------------------------------------------------------------------------------------------------
class _Look:
    """Some samples on their way through a model, in inference mode; whoever looks holds the gate."""

    def __init__(self, runner: Runner, data: Dataset) -> None:
        assert runner.weights is not None
        self.network, self.weights, backend = runner.current(), runner.weights, runner.weights.backend
        rows = np.linspace(0, len(data) - 1, min(len(data), ROWS)).astype(np.int64)
        y, w = (None if a is None else a[rows] for a in (data.y, data.weights))
        self.data = Dataset(data.x[rows], y, w)
        self.program = LoopProgram(self.network.asked(False, True), self.weights, backend, len(rows))
        self.host = backend.to_host

    def outputs(self) -> Iterator[tuple[Any, str, np.ndarray, np.ndarray]]:
        """Yield each operation, its layer's name, what goes into it and what comes out."""
        x = np.asarray(self.data.x) if isinstance(self.data.x, np.ndarray) else self.host(self.data.x)
        for op, name, y in zip(self.network.ops, self.network.names, self.program.look(self.data.x), strict=True):
            yield op, name, x, y
            x = y


def _of_trained(trainee: Trainee) -> tuple[type[TrainingWarning], str] | None:
    """Return what is to tell of a model that was trained; None where all is well."""
    data = trainee.source.sample
    assert data is not None

    def look() -> tuple[type[TrainingWarning], str] | None:
        seen, first, worst = _Look(trainee.runner, data), True, (0.0, "", 0)
        for op, name, x, y in seen.outputs():
            if first and isinstance(op, DenseOp):
                first = False
                if found := _of_inputs(x.reshape(-1, op.inputs)):
                    return InputScaleWarning, found
            if isinstance(op, (DenseOp, ActivationOp)) and _is_relu(op.activation):
                units = y.reshape(-1, op.outputs if isinstance(op, DenseOp) else op.row)
                worst = max(worst, (float(np.mean(~units.any(axis=0))), name, units.shape[1]))
        return None if worst[0] <= DEAD else (DeadUnitsWarning, _of_relus(*worst, len(seen.data)))

    return together([trainee.runner], look, change=False, brief=True)


def _is_relu(activation: activations.Activation) -> bool:
    return activation.function in RELUS and not dict(activation.constants).get("negative_slope", 0.0)


def _of_relus(share: float, name: str, units: int, samples: int) -> str:
    return (
        f"{share:.0%} of the {units} relus of layer {name!r} are 0 for all of the {samples} samples looked at: such "
        "units are dead, they neither give anything nor learn. What helps: inputs of mean 0 and deviation 1 "
        f"({SCALE}), a smaller learning rate, kernel_initializer='he_normal', or activation='leaky_relu'."
    )


def _of_inputs(x: np.ndarray) -> str:
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
def _of_loss(trainee: Trainee, broken: Broken, epoch: int) -> str:
    """Return what is to tell of the first loss that is no number; nothing where data that are told of are to blame."""
    data = trainee.source.sample
    assert data is not None
    where = _in_data(data)
    if where:
        return where if config.nonfinite() == "ignore" else ""
    before = ", ".join(f"{value:.3g}" for value in broken.before)
    found = together([trainee.runner], lambda: _first_layer(trainee, data), change=False, brief=True)
    return (
        f"The loss became {broken.loss:g} in epoch {epoch + 1}, at step {broken.step + 1}"
        + (f" (before: {before})" if before else "")
        + f". {found} Try {SMALLER}; a loss or an activation of your own must not take a root or a logarithm of 0."
    )


def _in_data(data: Dataset) -> str:
    for name, array in (("x", data.x), ("y", data.y)):
        if array is not None and not math.isfinite(float(abs(array).max())):
            return f"The loss is no number, as {name} has NaN or Inf. Remove such rows."
    return ""


def _first_layer(trainee: Trainee, data: Dataset) -> str:
    """Return in which layer the first numbers are that are none, in words: of weights, outputs, or gradients."""
    seen, loss = _Look(trainee.runner, data), trainee.objective.loss
    paths, arrays = seen.network.paths, [seen.host(a) for a in seen.weights.weights]
    if bad := [path for path, a in zip(paths, arrays, strict=True) if not np.isfinite(a).all()]:
        layers = list(dict.fromkeys(path.rpartition("/")[0] for path in bad))
        several = len(layers) == len({path.rpartition("/")[0] for path in paths}) > 1
        return (
            "By now no layer's weights are finite." if several else f"The first weights that are not finite: {bad[0]}."
        )
    for _, name, _, y in seen.outputs():
        if not np.isfinite(y).all():
            return f"The first outputs that are not finite are those of layer {name!r}."
    dx = np.empty(seen.data.x.shape, arrays[0].dtype) if arrays else None
    if dx is None or not isinstance(seen.data.x, np.ndarray):
        return ""
    grads = seen.program.gradients(seen.data, dx, len(seen.data), loss)
    wrong = [path for path, grad in zip(paths, grads, strict=True) if not np.isfinite(seen.host(grad)).all()]
    return f"The first gradient that is not finite, from the loss down, is that of {wrong[-1]}." if wrong else ""
