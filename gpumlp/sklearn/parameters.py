"""The parameters of an estimator, looked at when training begins, as scikit-learn wants it."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from gpumlp.layers import whole_number
from gpumlp.naming import flag, number, unknown_name

ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}  # each with Keras's name
WORDS: dict[str, dict[str, Any]] = {
    "activation": ACTIVATIONS,
    "solver": dict.fromkeys(("lbfgs", "sgd", "adam")),
    "learning_rate": dict.fromkeys(("constant", "invscaling", "adaptive")),
    "loss": dict.fromkeys(("squared_error", "poisson")),
}
FROM_0 = functools.partial(number, low=0.0)
ABOVE_0 = functools.partial(number, low=0.0, above=True)
BELOW_1 = functools.partial(number, low=0.0, high=1.0, below=True)
NUMBERS = {
    "alpha": FROM_0, "learning_rate_init": ABOVE_0, "power_t": FROM_0, "tol": FROM_0,
    "momentum": functools.partial(number, low=0.0, high=1.0), "validation_fraction": BELOW_1, "beta_1": BELOW_1,
    "beta_2": BELOW_1, "epsilon": ABOVE_0,
}  # fmt: skip
COUNTS = ("max_iter", "max_fun", "n_models")
FLAGS = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping")


def layer_sizes(value: object) -> list[int]:
    """Return the units of each hidden layer; TypeError or ValueError where that is no number, and no list of them."""
    sizes = list(value) if np.iterable(value) and not isinstance(value, str) else [value]
    return [whole_number("each of hidden_layer_sizes", size) for size in sizes]


def check(estimator: Any, incremental: bool) -> None:
    """Raise TypeError or ValueError for a parameter that is none; ``incremental``: for ``partial_fit``."""
    given = estimator.get_params(deep=False)
    if "loss" in given and np.iterable(given["loss"]) and not isinstance(given["loss"], str):
        raise TypeError(
            f"The first argument of MLPRegressor is loss, as in scikit-learn; got {given['loss']!r}. Name the layers: "
            f"MLPRegressor(hidden_layer_sizes={given['loss']!r})."
        )
    for name, known in WORDS.items():
        if name in given and not (isinstance(given[name], str) and given[name] in known):
            raise unknown_name(name, given[name], known)
    for name, looked_at in NUMBERS.items():
        looked_at(name, given[name])
    for name in COUNTS:
        whole_number(name, given[name])
    for name in FLAGS:
        flag(name, given[name])
    if given["batch_size"] != "auto":
        whole_number("batch_size", given["batch_size"])
    if given["n_iter_no_change"] != math.inf:
        whole_number("n_iter_no_change", given["n_iter_no_change"])
    layer_sizes(given["hidden_layer_sizes"])
    if incremental and given["early_stopping"]:
        raise ValueError("partial_fit does not support early_stopping=True: it is one epoch.")
