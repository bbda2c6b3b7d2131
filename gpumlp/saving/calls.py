"""Models as files by functions, as Keras has them: a model does it itself, see `gpumlp.models.files`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def save_model(model: Any, filepath: object, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
    """Save a model to a file named ".keras", ".gpumlp" or ".h5": see `gpumlp.models.save_model`."""
    model.save(filepath, overwrite, zipped, **kwargs)


def load_model(
    filepath: object, custom_objects: Mapping[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """Return a new model from a file: see `gpumlp.models.load_model`."""
    models = importlib.import_module("gpumlp.models")  # which stands above, and is there when somebody loads a model
    return models.load_model(filepath, custom_objects, compile, safe_mode)


def save_weights(
    model: Any, filepath: object, overwrite: bool = True, max_shard_size: None = None, **kwargs: Any
) -> None:
    """Save a model's weights to a file named ".weights.h5" or ".safetensors": see `Sequential.save_weights`."""
    model.save_weights(filepath, overwrite, max_shard_size, **kwargs)


def load_weights(model: Any, filepath: object, skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Load a model's weights from a file: see `Sequential.load_weights`."""
    model.load_weights(filepath, skip_mismatch, **kwargs)
