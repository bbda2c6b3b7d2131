"""Config dicts and names of a user's own, `objects`, and what files are made of; `gpumlp.models` has the models."""

from gpumlp.saving.calls import load_model as load_model
from gpumlp.saving.calls import load_weights as load_weights
from gpumlp.saving.calls import save_model as save_model
from gpumlp.saving.calls import save_weights as save_weights
from gpumlp.saving.objects import Configured as Configured
from gpumlp.saving.objects import CustomObjectScope as CustomObjectScope
from gpumlp.saving.objects import custom_object_scope as custom_object_scope
from gpumlp.saving.objects import deserialize_keras_object as deserialize_keras_object
from gpumlp.saving.objects import get_custom_objects as get_custom_objects
from gpumlp.saving.objects import get_registered_name as get_registered_name
from gpumlp.saving.objects import get_registered_object as get_registered_object
from gpumlp.saving.objects import read_by as read_by
from gpumlp.saving.objects import register_keras_serializable as register_keras_serializable
from gpumlp.saving.objects import serialize_keras_object as serialize_keras_object
from gpumlp.saving.state import read_state as read_state
from gpumlp.saving.state import write_state as write_state
