"""gpumlp: multi-layer perceptrons behind the Sequential API."""  # this file: the index of what is public

from gpumlp import (
    activations,
    callbacks,
    config,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    missing,
    models,
    ops,
    optimizers,
    plotting,
    random,
    regularizers,
    saving,
    utils,
)
from gpumlp.ensemble import Ensemble
from gpumlp.layers import Input
from gpumlp.models import Sequential
from gpumlp.naming import listing
from gpumlp.sweeps import SearchResult, search
from gpumlp.variables import Variable

__all__ = [
    "Ensemble",
    "Input",
    "SearchResult",
    "Sequential",
    "Variable",
    "activations",
    "callbacks",
    "config",
    "constraints",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "plotting",
    "random",
    "regularizers",
    "saving",
    "search",
    "utils",
    "version",
]
__version__ = "0.1.0"


def version() -> str:
    """Return gpumlp's version.

    Returns
    -------
    str

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.version() == gpumlp.__version__
    True
    """
    return __version__


__dir__ = listing(__name__)
missing.install()
