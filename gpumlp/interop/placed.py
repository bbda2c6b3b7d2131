"""The layers of a model as other software is told of them: each with its samples' shape and its weights."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from gpumlp import activations
from gpumlp.activations import Activation
from gpumlp.layers import Shape
from gpumlp.models import Sequential


class Placed(NamedTuple):
    """A layer, the shape of the samples that come in, and its weights by their names."""

    layer: Any
    shape: Shape
    weights: dict[str, np.ndarray]

    @property
    def result(self) -> Shape:
        """The shape of the samples that come out."""
        found: Shape = self.layer.result_shape(self.shape)
        return found

    def refusal(self, target: str, why: str, instead: str) -> ValueError:
        """Return the error that says that the layer cannot be brought to ``target``."""
        kind = type(self.layer).__name__
        return ValueError(f"{kind} layer {self.layer.name!r} cannot be brought to {target}: {why}. {instead}")


def layers_of(model: object, asked_by: str) -> list[Placed]:
    """Return the layers of a built model in their order, those of models in it too, as they are at one moment.

    TypeError for what is no Sequential, ValueError for one without weights.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"{asked_by} takes a Sequential; got {model!r}.")
    if not model.built:
        raise ValueError(
            f"{asked_by} needs a built model. Give the first layer input_shape=, or call build or fit first."
        )
    arrays, shape = iter(model.get_weights()), model._known_input_shape()
    assert shape is not None
    found = []
    for layer in model._runner.stack:
        named = {spec.name: next(arrays) for spec in layer.specs(shape)}
        found.append(Placed(layer, shape, named))
        shape = layer.result_shape(shape)
    return found


def is_packaged(activation: Activation) -> bool:
    """Whether the function is the package's own, with any constants, and not a user's of the same name."""
    own = activations.KNOWN.get(activation.name)
    return own is not None and own.function is activation.function


def imported(name: str, asked_by: str, extra: str) -> Any:
    """Return a module of other software; ImportError says how it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{asked_by} needs {name}, which cannot be imported ({error}): {extra}.") from error
