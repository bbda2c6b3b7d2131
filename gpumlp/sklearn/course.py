"""The course of a training in scikit-learn's terms: when it ends, and what it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gpumlp.callbacks import Callback
from gpumlp.models import Sequential

SMALLEST_RATE = 1e-6  # where learning_rate="adaptive" ends training, as in scikit-learn


class Settings(Protocol):
    """The parameters of an estimator that are read while it trains."""

    solver: str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    tol: float
    n_iter_no_change: float
    verbose: bool | int
    early_stopping: bool


@dataclass
class Course:
    """What the training of one model has been so far: the numbers that an estimator's attributes show."""

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best_score: float = -math.inf
    no_improvement: int = 0  # epochs in a row
    n_iter: int = 0  # epochs of the last fit
    t: int = 0  # samples
    converged: bool = False


class Watch(Callback):
    """Writes a model's `Course` down epoch by epoch, sets its learning rate, and stops it, as scikit-learn does.

    Parameters
    ----------
    course : Course
    settings : Settings
    reported : callable
        From the logs of an epoch to the loss.
    scale : float
        What the learning rate of SGD is multiplied by: see `gpumlp.sklearn.objective`.
    samples : int
        Of an epoch.
    score : callable, optional
        From a model to its score on what is held out, which then decides when training stops.
    """

    def __init__(
        self, course: Course, settings: Settings, reported: Callable[[Mapping[str, float]], float], scale: float,
        samples: int, score: Callable[[Sequential], float] | None = None,
    ) -> None:  # fmt: skip
        self.course, self.settings, self.reported, self.scale = course, settings, reported, scale
        self.samples, self.score = samples, score
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Begin to count epochs anew."""
        self.course.n_iter, self.course.converged = 0, False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write the epoch down; have the model stop where it is not better than the ones before."""
        course, settings = self.course, self.settings
        loss = self.reported(logs or {})
        course.n_iter += 1
        course.t += self.samples
        course.loss_curve.append(loss)
        self._say(f"Iteration {course.n_iter}, loss = {loss:.8f}")
        worse = self._loss_is_no_better(loss) if self.score is None else self._score_is_no_better(self.score)
        course.no_improvement = course.no_improvement + 1 if worse else 0
        if settings.solver == "sgd" and settings.learning_rate == "invscaling":
            self._set_rate(settings.learning_rate_init / (course.t + 1) ** settings.power_t)
        if course.no_improvement > settings.n_iter_no_change:
            self._no_better()
        if not math.isfinite(loss):
            self.model.stop_training = True  # nothing becomes finite again

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Put the weights back that had the best score."""
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def _loss_is_no_better(self, loss: float) -> bool:
        before, self.course.best_loss = self.course.best_loss, min(loss, self.course.best_loss)
        return loss > before - self.settings.tol

    def _score_is_no_better(self, score: Callable[[Sequential], float]) -> bool:
        found, before = score(self.model), self.course.best_score
        self.course.validation_scores.append(found)
        self._say(f"Validation score: {found:.6f}")
        if found > before:
            self.course.best_score, self.best_weights = found, self.model.get_weights()
        return found < before + self.settings.tol

    def _no_better(self) -> None:
        """Stop; with an adaptive learning rate go on with a fifth of it, while it is not too small."""
        settings, what = self.settings, "training loss" if self.score is None else "validation score"
        said = f"No better {what} by tol={settings.tol:g} for {settings.n_iter_no_change} epochs."
        rate = float(self.model.optimizer.learning_rate) / self.scale
        if settings.solver == "sgd" and settings.learning_rate == "adaptive" and rate > SMALLEST_RATE:
            self._say(f"{said} The learning rate becomes {rate / 5.0:g}.")
            self._set_rate(rate / 5.0)
            self.course.no_improvement = 0
            return
        self._say(f"{said} Stopping.")
        self.course.converged = self.model.stop_training = True

    def _set_rate(self, rate: float) -> None:
        self.model.optimizer.learning_rate = rate * self.scale

    def _say(self, words: str) -> None:
        if self.settings.verbose:
            print(words)
