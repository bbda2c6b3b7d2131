"""A stack of layers: what a model is made of, and its weights, seen from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from gpumlp import config
from gpumlp.attributes import Attributes
from gpumlp.engine.network import Network, describe
from gpumlp.engine.runner import Runner, together
from gpumlp.layers import Input, Layer, Shape, checked_weights, feature_shape, without_batch
from gpumlp.naming import neutral
from gpumlp.training import data, samples
from gpumlp.training.progress import say


class Stack(Attributes):
    """The layers of a model in their order; its Runner has the network that they are, and where their weights stand."""

    def __init__(self, layers: Iterable[Layer] | None, trainable: bool, name: str | None, dtype: str | None) -> None:
        self.name = name or "sequential"
        self._trainable = bool(trainable)
        self._runner = Runner(config.float_type(dtype))
        self._layers: list[Layer] = []
        stack: list[Layer] = []
        if isinstance(layers, Layer):
            raise TypeError(f"Sequential takes a list of layers: Sequential([layer]); got {layers!r} alone.")
        for layer in layers or ():
            stack = self._extended(stack, layer)
        self._restack(stack)

    # ---- the stack -------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the Input."""
        return [layer for layer in self._layers if not isinstance(layer, Input)]

    @property
    def built(self) -> bool:
        """Whether the input shape is known and the weights exist."""
        return self._runner.network is not None

    @property
    def dtype(self) -> np.dtype:
        """The type of weights and arithmetic, chosen when the model is made."""
        return self._runner.dtype

    @property
    def trainable(self) -> bool:
        """Whether training changes anything; set, it is the layers' own too. Read by ``compile``."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self._layers:
            layer.trainable = self._trainable

    def add(self, layer: Layer) -> None:
        """Put a layer on top; ValueError for anything else, and where it does not fit."""
        self._restack(self._extended(self._layers, layer))

    def _extended(self, stack: list[Layer], layer: Layer) -> list[Layer]:
        """Return ``stack`` with ``layer`` on top; raises as `add` does, before anything is changed."""
        if not isinstance(layer, Layer):
            raise ValueError(
                f"Only instances of gpumlp.layers.Layer can be added, such as layers.Dense(8); got {layer!r} of type "
                f"{type(layer).__name__}."
            )
        if isinstance(layer, Input) and stack:
            raise ValueError("Input must be the first layer.")
        if any(layer.name == other.name for other in stack):
            raise ValueError(f"There is a layer named {layer.name!r} already; names must differ.")
        stack = [*stack, layer]
        if (shape := self._known_input_shape(stack)) is not None:
            describe(stack, shape)
        return stack

    def pop(self) -> Layer:
        """Take the top layer off, with its weights, and return it."""
        if not self.layers:
            raise ValueError("There is no layer to pop.")
        top = self._layers[-1]
        self._restack(self._layers[:-1])
        return top

    def _known_input_shape(self, stack: list[Layer]) -> Shape | None:
        """Return the shape of a sample: of the model as it was, of its first layer, or of that one's weights."""
        if self._runner.network is not None:
            return self._runner.network.input_shape
        if not stack:
            return None
        return stack[0].given_shape or (stack[0].samples if stack[0].held else None)

    def _restack(self, stack: list[Layer]) -> None:
        self._runner.take(stack, self._known_input_shape(stack), self._trainable)
        self._layers = stack

    def build(self, input_shape: object = None) -> None:
        """Create the weights for samples of ``input_shape`` = (batch or None, *sample); a number is (None, number).

        ValueError if the model is built for another shape already.
        """
        if input_shape is None:
            shape = self._known_input_shape(self._layers)
            if shape is None:
                raise ValueError("build needs the input shape, such as build((None, 4)): no layer has one.")
        else:
            shape = feature_shape(without_batch(input_shape))
        known = self._known_input_shape(self._layers)
        if known is not None and known != shape:
            raise ValueError(
                f"The model has already been configured for samples of shape {known}; it cannot be built for {shape} "
                "as well. (The first size of an input shape is the batch.)"
            )
        self._runner.build(shape, self._trainable)

    def _built_for(self, shape: Shape) -> Network:
        """Return the network, built for samples of ``shape`` if it was not."""
        if not self.built:
            if not self.layers:
                raise ValueError("The model has no layers: add one first.")
        return self._runner.build(shape, self._trainable)

    def compute_output_shape(self, input_shape: object) -> tuple[int | None, ...]:
        """Return the shape of what comes out for ``input_shape`` = (batch or None, *sample); ValueError: no fit."""
        shape = feature_shape(without_batch(input_shape))
        known = self._known_input_shape(self._layers)
        if known is not None and known != shape:
            raise ValueError(f"The model takes samples of shape {known}; got {input_shape}, samples of shape {shape}.")
        return (cast("Sequence[Any]", input_shape)[0], *describe(self._layers, shape).output_shape)

    # ---- weights ---------------------------------------------------------------------------------------------------

    def count_params(self) -> int:
        """Return the number of weights; ValueError before the model is built."""
        if not self.built:
            raise ValueError(
                "count_params needs a built model. Give the first layer input_shape=, or call build or fit first."
            )
        return sum(layer.count_params() for layer in self.layers)

    @property
    def losses(self) -> list[Any]:
        """The penalties of the weights as they are now, one number for each array that has one."""
        return [value for layer in self._layers for value in layer.losses] if self._trainable else []

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weight arrays: layer by layer, kernel then bias; none before they are there."""
        if self._runner.weights is None:
            return [array for layer in self._layers for array in layer.get_weights()]
        return together([self._runner], lambda: self._runner.place().get(), change=False)

    def set_weights(self, weights: list[Any]) -> None:
        """Set all weight arrays, in the order of ``get_weights``; ValueError, and no change, where a shape differs."""
        if not self.built:
            raise ValueError("set_weights needs a built model. Give the first layer input_shape=, or call build first.")
        if isinstance(weights, (list, tuple)):
            weights = [data.to_array("each weight array", samples.on_host(self._runner, w)) for w in weights]
        owners = self._runner.owners
        arrays = checked_weights(weights, [shape for layer in owners for shape in layer.weight_shapes])
        if self._runner.weights is not None:
            together([self._runner], lambda: self._runner.place().set(arrays), brief=True)
            return
        rest = iter(arrays)
        for layer in owners:
            layer.set_weights([next(rest) for _ in layer.weight_shapes])

    def summary(self, line_length: None = None, positions: None = None, print_fn: Any = None) -> None:
        """Show a table of the layers, their output shapes and parameter counts; its columns are as wide as they need.

        ``print_fn`` gets the text; the standard output when None.
        """
        from gpumlp.summary import summarize

        neutral("summary", line_length=(line_length, None), positions=(positions, None))
        (print_fn or say)(summarize(self.name, self.layers, self._runner.network, self.dtype))
