"""gpumlp: multi-layer perceptrons behind the Sequential API. This file is the index of the public API."""

from gpumlp import activations, config, utils

__all__ = ["activations", "config", "utils"]
__version__ = "0.1.0.dev0"
