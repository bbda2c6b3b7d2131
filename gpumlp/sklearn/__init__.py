"""Estimators for scikit-learn's pipelines, searches and scores, trained by gpumlp's kernels.

`MLPClassifier` and `MLPRegressor` have the parameters, attributes and semantics of `sklearn.neural_network`'s.
"""

from gpumlp.naming import listing

try:
    from gpumlp.sklearn.estimators import MLPClassifier, MLPRegressor
except ImportError as error:
    raise ImportError(
        f"gpumlp.sklearn needs scikit-learn 1.7 or newer ({error}): pip install 'gpumlp[sklearn]'."
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor"]
__dir__ = listing(__name__)
