"""The layers of a model as other software is told of them: each with its samples' shape and its weights."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpumlp import activations, layers
from gpumlp.activations import Activation
from gpumlp.layers import Shape
from gpumlp.models import Sequential

OUTPUT = {"identity": "linear", "logistic": "sigmoid", "softmax": "softmax", "exp": "exponential"}  # theirs: ours


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


def is_estimator(thing: object) -> bool:
    """Whether a thing is an estimator of `gpumlp.sklearn`, which need not be imported for that."""
    home = sys.modules.get("gpumlp.sklearn")
    return home is not None and isinstance(thing, (home.MLPRegressor, home.MLPClassifier))


def network_of(given: Any, asked_by: str) -> Sequential:
    """Return a model as it is, and of a fitted estimator of `gpumlp.sklearn` its network, which shares the weights.

    The estimator's own ends with logits, and this one with probabilities.

    TypeError for anything else, ValueError where there is not one network.
    """
    if is_estimator(given):
        if not hasattr(given, "ensemble_"):
            raise ValueError(f"{asked_by} takes a fitted estimator; {given!r} has no network yet: call fit first.")
        members: Sequence[Sequential] = given.ensemble_.members
        if len(members) > 1:
            raise ValueError(
                f"{asked_by} takes one network, and the estimator is the mean of {len(members)}: its "
                f"ensemble_.members[0] to ensemble_.members[{len(members) - 1}]. Give one of them."
            )
        last = OUTPUT[given.out_activation_]
        stack = (
            members[0].layers if last in ("linear", "exponential") else [*members[0].layers, layers.Activation(last)]
        )
        return Sequential(stack, dtype=members[0].dtype)
    if not isinstance(given, Sequential):
        raise TypeError(f"{asked_by} takes a Sequential; got {given!r}.")
    return given


def layers_of(model: object, asked_by: str) -> list[Placed]:
    """Return the layers of a built model in their order, those of models in it too, as they are at one moment.

    What is no model, or has not one, is as in `network_of`; ValueError for one without weights.
    """
    model = network_of(model, asked_by)
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
