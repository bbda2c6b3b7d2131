"""Layers: descriptions that own their weights. What they compute stands in the engine and the backends."""

from __future__ import annotations

from typing import Any

from gpumlp.layers.activation import ELU as ELU
from gpumlp.layers.activation import Activation as Activation
from gpumlp.layers.activation import LeakyReLU as LeakyReLU
from gpumlp.layers.activation import PReLU as PReLU
from gpumlp.layers.activation import ReLU as ReLU
from gpumlp.layers.activation import Softmax as Softmax
from gpumlp.layers.base import Changes as Changes
from gpumlp.layers.base import Layer as Layer
from gpumlp.layers.base import Shape as Shape
from gpumlp.layers.base import Snapshot as Snapshot
from gpumlp.layers.base import Weight as Weight
from gpumlp.layers.base import WeightSpec as WeightSpec
from gpumlp.layers.base import allowing as allowing
from gpumlp.layers.base import checked_weights as checked_weights
from gpumlp.layers.base import feature_shape as feature_shape
from gpumlp.layers.base import reset_names as reset_names
from gpumlp.layers.base import whole_number as whole_number
from gpumlp.layers.base import without_batch as without_batch
from gpumlp.layers.core import Dense as Dense
from gpumlp.layers.core import Identity as Identity
from gpumlp.layers.core import Input as Input
from gpumlp.layers.core import InputLayer as InputLayer
from gpumlp.layers.core import Lambda as Lambda
from gpumlp.layers.core import Rescaling as Rescaling
from gpumlp.layers.normalization import BatchNormalization as BatchNormalization
from gpumlp.layers.normalization import LayerNormalization as LayerNormalization
from gpumlp.layers.normalization import Normalization as Normalization
from gpumlp.layers.normalization import UnitNormalization as UnitNormalization
from gpumlp.layers.regularization import ActivityRegularization as ActivityRegularization
from gpumlp.layers.regularization import AlphaDropout as AlphaDropout
from gpumlp.layers.regularization import Dropout as Dropout
from gpumlp.layers.regularization import GaussianDropout as GaussianDropout
from gpumlp.layers.regularization import GaussianNoise as GaussianNoise
from gpumlp.layers.regularization import OfNoise as OfNoise
from gpumlp.layers.reshaping import Flatten as Flatten
from gpumlp.layers.reshaping import Permute as Permute
from gpumlp.layers.reshaping import RepeatVector as RepeatVector
from gpumlp.layers.reshaping import Reshape as Reshape
from gpumlp.naming import resolve
from gpumlp.saving import deserialize_keras_object, read_by, serialize_keras_object

KINDS: list[type[Layer]] = [
    Activation, ActivityRegularization, AlphaDropout, BatchNormalization, Dense, Dropout, ELU, Flatten,
    GaussianDropout, GaussianNoise, Identity, InputLayer, Lambda, LayerNormalization, LeakyReLU, Normalization, PReLU,
    Permute, ReLU, RepeatVector, Rescaling, Reshape, Softmax, UnitNormalization,
]  # fmt: skip
KNOWN: dict[str, type[Layer]] = {kind.__name__: kind for kind in KINDS}


def get(identifier: object) -> Any:
    """Return the layer that a config dict describes, or the layer itself; ValueError, TypeError for anything else."""
    return resolve("layer", identifier, KNOWN, Layer)


def serialize(layer: Layer) -> Any:
    """Return the config dict of a layer; see `gpumlp.saving`."""
    return serialize_keras_object(layer)


_own = read_by("keras.layers", get)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Return the layer, or the model, that a config dict describes; ``custom_objects`` are a user's own by name."""
    if isinstance(config, Layer):
        return config
    return (
        deserialize_keras_object(config, custom_objects) if isinstance(config, dict) else _own(config, custom_objects)
    )
