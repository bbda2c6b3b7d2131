"""gpumlp: multi-layer perceptrons behind the Sequential API. This file is the index of the public API."""

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
from gpumlp.variables import Variable

__all__ = [
    "Ensemble",
    "Input",
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
    "utils",
]
__version__ = "0.1.0.dev0"


def version() -> str:
    """Return gpumlp's version."""
    return __version__


def __dir__() -> list[str]:
    """Return the public names, and not the modules that have them."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__")), "version"])


missing.install()
