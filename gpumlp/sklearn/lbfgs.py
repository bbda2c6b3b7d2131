"""The solver "lbfgs": SciPy's L-BFGS-B over all weights of a model as one vector, by gpumlp's gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from gpumlp.models import Sequential


def fit(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    scale: float,
    options: Mapping[str, float],
) -> OptimizeResult:
    """Minimise ``scale`` times the loss that ``model`` is compiled with, and have it keep the best weights.

    Parameters
    ----------
    model : Sequential
    x, y : arrays [n, features], [n, outputs]
    weights : array [n], optional
        Of the samples.
    scale : float
        See `gpumlp.sklearn.objective`.
    options : dict
        L-BFGS-B's.

    Returns
    -------
    OptimizeResult
        SciPy's.
    """
    arrays = model.get_weights()
    cuts = np.cumsum([array.size for array in arrays])[:-1]

    def take(flat: np.ndarray) -> None:
        parts = np.split(flat, cuts)
        model.set_weights([part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)])

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        take(flat)
        loss = model.test_on_batch(x, y, weights, return_dict=True)["loss"]
        found = model.gradients(x, y, sample_weight=weights).weights
        return scale * loss, scale * _flat(found)

    objective: Callable[[np.ndarray], tuple[float, np.ndarray]] = loss_and_gradient
    found = minimize(objective, _flat(arrays), jac=True, method="L-BFGS-B", options=dict(options))
    take(found.x)
    return found


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
