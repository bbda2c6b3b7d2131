"""Objective: what an estimator minimises, said by a loss of gpumlp's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax, xlogy

from gpumlp import losses


@dataclass(frozen=True)
class Objective:
    """scikit-learn's loss S = ``scale`` * L, where L is the loss that a model of gpumlp's is compiled with.

    L is a mean over outputs where S is a sum of them (of squares, of half of these). Minimising L takes the same steps
    as minimising S, with a learning rate, an epsilon and a penalty that are scaled: so no loss of its own is needed,
    for which kernels would have to be compiled.

    Parameters
    ----------
    loss : Loss
        That of a sample, as it comes with the package.
    scale : float
    out_activation : str
        scikit-learn's name of what turns the network's outputs into predictions.
    outputs : int
    constant : float, default 0
        What scikit-learn reports beside S, which does not depend on the weights.
    """

    loss: losses.Loss
    scale: float
    out_activation: str
    outputs: int
    constant: float = 0.0

    @property
    def last_activation(self) -> str:
        """The activation of the model's last layer: cross-entropies are computed from logits."""
        return "exponential" if self.out_activation == "exp" else "linear"

    @property
    def metrics(self) -> list[str]:
        """What has to be measured beside L to say what scikit-learn reports."""
        return ["mean_squared_error"] if self.out_activation == "identity" and self.outputs > 1 else []

    def reported(self, logs: Mapping[str, float]) -> float:
        """Return the loss that scikit-learn reports, of a model's logs.

        Of several squares that is half of their mean, where what is minimised is half of their sum.
        """
        found = self.scale * logs["loss"] + self.constant
        return found + (0.5 - self.scale) * logs["mean_squared_error"] if self.metrics else found


def predictions(outputs: np.ndarray, out_activation: str) -> np.ndarray:
    """Return numbers, or probabilities, for a model's outputs, [..., outputs], of which the last may be logits."""
    if out_activation == "softmax":
        return softmax(outputs, axis=-1)
    return expit(outputs) if out_activation == "logistic" else outputs


def squared_error(outputs: int) -> Objective:
    """Return what a regressor minimises: half of the squares."""
    return Objective(losses.MeanSquaredError(), 0.5 * outputs, "identity", outputs)


def poisson(y: np.ndarray, weights: np.ndarray | None) -> Objective:
    """Return what a regressor of counts y[n, outputs] minimises: half of Poisson's deviance."""
    constant = np.average(xlogy(y, y) - y, weights=weights, axis=0).sum()
    return Objective(losses.Poisson(), float(y.shape[1]), "exp", y.shape[1], float(constant))


def log_loss(outputs: int, one_of_many: bool) -> Objective:
    """Return what a classifier minimises: the cross-entropy of one class of many, or of each output by itself."""
    if one_of_many:
        return Objective(losses.CategoricalCrossentropy(from_logits=True), 1.0, "softmax", outputs)
    return Objective(losses.BinaryCrossentropy(from_logits=True), float(outputs), "logistic", outputs)
