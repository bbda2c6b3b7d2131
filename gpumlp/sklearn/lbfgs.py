"""The solver "lbfgs": SciPy's L-BFGS-B over all weights of a model as one vector, by gpumlp's gradients.

Loss and gradient come from one step of training, which the compiled kernels do in one call: by SGD at RATE weights
become w - RATE g, so that g is their difference, divided by RATE. That is a power of two, and so large that g is what
is rounded, and not w.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from threadpoolctl import threadpool_limits

from gpumlp.models import Sequential

RATE = 1024.0
LIMIT = 1  # SciPy's status where maxiter or maxfun was reached


def fit(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    scale: float,
    options: Mapping[str, float],
) -> OptimizeResult:
    """Minimise ``scale`` times the loss of ``model``, compiled with ``SGD(RATE)``; then it has the best weights.

    Parameters
    ----------
    model : Sequential
    x, y : arrays [n, features], [n, outputs]
    weights : array [n], optional
        Of the samples.
    scale : float
        See `gpumlp.sklearn.objective`.
    options : dict
        L-BFGS-B's, of which ``gtol`` is one.

    Returns
    -------
    OptimizeResult
        SciPy's, but that it is no success where the loss falls no more and the gradient is still above ``gtol``: then
        it is float32 that tells losses no longer apart, as of targets far from 0.
    """
    arrays = model.get_weights()
    cuts = np.cumsum([array.size for array in arrays])[:-1]

    def take(flat: np.ndarray) -> None:
        parts = np.split(flat, cuts)
        model.set_weights([part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)])

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        take(flat)
        before = _flat(model.get_weights())  # as rounded to the model's dtype
        loss = model.train_on_batch(x, y, weights, return_dict=True)["loss"]
        return scale * loss, (scale / RATE) * (before - _flat(model.get_weights()))

    with threadpool_limits(1, "blas"):  # SciPy's vectors are short, and threads that wait for more take processors
        found = minimize(loss_and_gradient, _flat(arrays), jac=True, method="L-BFGS-B", options=dict(options))
    take(found.x)
    if found.success and (steepest := np.abs(found.jac).max()) > options["gtol"]:
        found.success = False
        found.message = (
            f"the loss falls no more, as far as float32 can tell, with a gradient of {steepest:.2g}, above "
            f"tol={options['gtol']:g}"
        )
    return found


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    """Return all elements as one vector, in double."""
    return np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
