"""Layers: descriptions that own their weights. What they compute stands in the engine and the backends."""

from __future__ import annotations

from collections.abc import Mapping

from gpumlp.layers.activation import ELU as ELU
from gpumlp.layers.activation import Activation as Activation
from gpumlp.layers.activation import LeakyReLU as LeakyReLU
from gpumlp.layers.activation import PReLU as PReLU
from gpumlp.layers.activation import ReLU as ReLU
from gpumlp.layers.activation import Softmax as Softmax
from gpumlp.layers.adapting import Normalization as Normalization
from gpumlp.layers.base import Changes as Changes
from gpumlp.layers.base import Layer as Layer
from gpumlp.layers.base import reset_names as reset_names
from gpumlp.layers.checks import Shape as Shape
from gpumlp.layers.checks import feature_shape as feature_shape
from gpumlp.layers.checks import whole_number as whole_number
from gpumlp.layers.checks import without_batch as without_batch
from gpumlp.layers.core import Dense as Dense
from gpumlp.layers.core import Identity as Identity
from gpumlp.layers.core import Input as Input
from gpumlp.layers.core import InputLayer as InputLayer
from gpumlp.layers.core import Lambda as Lambda
from gpumlp.layers.core import Rescaling as Rescaling
from gpumlp.layers.normalization import BatchNormalization as BatchNormalization
from gpumlp.layers.normalization import LayerNormalization as LayerNormalization
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
from gpumlp.layers.weights import Snapshot as Snapshot
from gpumlp.layers.weights import Weight as Weight
from gpumlp.layers.weights import WeightSpec as WeightSpec
from gpumlp.layers.weights import allowing as allowing
from gpumlp.layers.weights import checked_weights as checked_weights
from gpumlp.naming import listing, resolve
from gpumlp.saving import deserialize_keras_object, read_by, serialize_keras_object

__all__ = [
    "ELU", "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "Flatten",
    "GaussianDropout", "GaussianNoise", "Identity", "Input", "InputLayer", "Lambda", "Layer", "LayerNormalization",
    "LeakyReLU", "Normalization", "PReLU", "Permute", "ReLU", "RepeatVector", "Rescaling", "Reshape", "Softmax",
    "UnitNormalization", "deserialize", "get", "serialize",
]  # fmt: skip
__dir__ = listing(__name__)
KINDS: list[type[Layer]] = [
    Activation, ActivityRegularization, AlphaDropout, BatchNormalization, Dense, Dropout, ELU, Flatten,
    GaussianDropout, GaussianNoise, Identity, InputLayer, Lambda, LayerNormalization, LeakyReLU, Normalization, PReLU,
    Permute, ReLU, RepeatVector, Rescaling, Reshape, Softmax, UnitNormalization,
]  # fmt: skip
KNOWN: dict[str, type[Layer]] = {kind.__name__: kind for kind in KINDS}


def get(identifier: str | type | Mapping[str, object] | Layer) -> Layer:
    """Return the layer that is meant.

    Parameters
    ----------
    identifier : str, class, dict or Layer
        A class or its name, of a layer that needs no arguments; a config dict; or the layer itself.

    Returns
    -------
    Layer
        The layer.

    Raises
    ------
    ValueError
        For an unknown name, and for values that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import layers
    >>> layers.get({"class_name": "Dense", "config": {"units": 3, "name": "first"}})
    <Dense first: units=3>
    """
    found: Layer = resolve("layer", identifier, KNOWN, Layer)
    return found


def serialize(layer: Layer) -> dict[str, object]:
    """Return the config of a layer.

    Parameters
    ----------
    layer : Layer
        The layer.

    Returns
    -------
    dict
        What `deserialize` makes the same layer of, without its weights; see `gpumlp.saving`.

    Examples
    --------
    >>> from gpumlp import layers
    >>> layers.serialize(layers.Flatten(name="flat"))["class_name"]
    'Flatten'
    """
    found: dict[str, object] = serialize_keras_object(layer)
    return found


_own = read_by("keras.layers", get)


def deserialize(config: Mapping[str, object] | Layer, custom_objects: Mapping[str, object] | None = None) -> Layer:
    """Return the layer, or the model, that a config describes.

    Parameters
    ----------
    config : dict or Layer
        As `serialize` returns it; a layer is returned as it is.
    custom_objects : dict, optional
        Classes and functions of a user's own, by name.

    Returns
    -------
    Layer
        The layer; a model where the config is one's.

    Raises
    ------
    TypeError, ValueError
        For what describes no layer.

    Examples
    --------
    >>> from gpumlp import layers
    >>> layers.deserialize(layers.serialize(layers.Dense(3, "relu", name="first")))
    <Dense first: units=3, activation=relu>
    """
    if isinstance(config, Layer):
        return config
    read = deserialize_keras_object if isinstance(config, dict) else _own
    found: Layer = read(config, custom_objects)
    return found
