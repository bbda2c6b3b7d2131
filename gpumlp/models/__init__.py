"""Models: what a person builds, trains and asks."""

from __future__ import annotations

from collections.abc import Mapping

from gpumlp.models.builtins import function_of as _function_of
from gpumlp.models.configs import clone_model, model_from_json
from gpumlp.models.files import load_model, save_model
from gpumlp.models.sequential import Sequential
from gpumlp.naming import listing
from gpumlp.saving import read_by

__all__ = ["Sequential", "clone_model", "load_model", "model_from_json", "save_model"]
__dir__ = listing(__name__)


def _get(described: object) -> Sequential:
    """Return the model that a config dict describes; ValueError for what is no Sequential."""
    if not isinstance(described, Mapping) or described.get("class_name") != "Sequential":
        name = described.get("class_name") if isinstance(described, Mapping) else described
        raise ValueError(
            f"A model of class {name!r} cannot be made: a Sequential is all there is. Layers one after the "
            "other can be saved again by Keras as Sequential(model.layers)."
        )
    return Sequential.from_config(described["config"])


for _module in ("keras", "keras.models"):
    read_by(_module, _get)
read_by("builtins", _function_of)
