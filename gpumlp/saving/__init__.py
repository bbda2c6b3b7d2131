"""Config dicts and names of a user's own, `objects`, and what files are made of; `gpumlp.models` has the models."""

from gpumlp.naming import listing
from gpumlp.saving.calls import load_model, load_weights, save_model, save_weights
from gpumlp.saving.objects import Configured as Configured
from gpumlp.saving.objects import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from gpumlp.saving.objects import read_by as read_by
from gpumlp.saving.state import read_state, write_state

__all__ = [
    "CustomObjectScope", "custom_object_scope", "deserialize_keras_object", "get_custom_objects", "get_registered_name",
    "get_registered_object", "load_model", "load_weights", "read_state", "register_keras_serializable", "save_model",
    "save_weights", "serialize_keras_object", "write_state",
]  # fmt: skip
__dir__ = listing(__name__)
