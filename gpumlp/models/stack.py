"""A stack of layers: what a model is made of, and its weights, seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gpumlp import config
from gpumlp.attributes import Attributes
from gpumlp.engine.network import Network, describe
from gpumlp.engine.runner import Runner, together
from gpumlp.layers import Input, Layer, Shape, Weight, WeightSpec, checked_weights, feature_shape, without_batch
from gpumlp.naming import automatic, of_keras
from gpumlp.signatures import named
from gpumlp.training import data, samples
from gpumlp.training.progress import say
from gpumlp.variables import Symbol


class Stack(Attributes):
    """The layers of a model in their order; its Runner has the network that they are, and where their weights stand.

    A model can be one of the layers: the Runner has its layers in its place.
    """

    def __init__(
        self, layers: Iterable[Layer | Stack] | None, trainable: bool, name: str | None, dtype: object
    ) -> None:
        self.name = automatic(type(self)) if name is None else name
        self._trainable = bool(trainable)
        self._own_dtype = None if dtype is None else config.float_type(config.policy_name(dtype))
        self._runner = Runner(self._own_dtype or config.float_type())
        self._layers: list[Layer | Stack] = []
        stack: list[Layer | Stack] = []
        if isinstance(layers, (Layer, Stack)):
            raise TypeError(f"Sequential takes a list of layers: Sequential([layer]); got {layers!r} alone.")
        for layer in layers or ():
            stack = self._extended(stack, layer)
        self._restack(stack)

    # ---- the stack -------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Any]:  # each a Layer or a model: which, whoever indexes it knows
        """The layers, and the models among them, without the Input."""
        return [layer for layer in self._layers if not isinstance(layer, Input)]

    @property
    def built(self) -> bool:
        """Whether the input shape is known and the weights exist."""
        if self._runner.network is not None:
            return True
        own = leaves(self._layers)
        return bool(own) and all(layer.built for layer in own)

    @property
    def dtype(self) -> np.dtype:
        """The type of weights and arithmetic, chosen when the model is made."""
        return self._runner.dtype

    @property
    def trainable(self) -> bool:
        """Whether training changes anything; set, it is the layers' own too. Read when a fit begins."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self._layers:
            layer.trainable = self._trainable

    def add(self, layer: Layer | Stack) -> None:
        """Put a layer, or a model, on top.

        Parameters
        ----------
        layer : Layer or Sequential
            What is put there.

        Raises
        ------
        ValueError
            For anything else, and where it does not fit.
        """
        self._restack(self._extended(self._layers, layer))

    def _extended(self, stack: list[Layer | Stack], layer: Layer | Stack) -> list[Layer | Stack]:
        """Return ``stack`` with ``layer`` on top; raises as `add` does, before anything is changed."""
        if not isinstance(layer, (Layer, Stack)):
            raise ValueError(
                of_keras(layer)
                or "Only instances of gpumlp.layers.Layer can be added, such as layers.Dense(8); got "
                f"{layer!r} of type {type(layer).__name__}."
            )
        if isinstance(layer, Input) and stack:
            raise ValueError("Input must be the first layer.")
        there = {id(leaf) for leaf in leaves(stack)}
        if layer in stack or any(id(leaf) in there for leaf in leaves([layer])):
            raise ValueError(
                f"{layer.name!r}, or a layer in it, is in the model already: gpumlp shares layers between models, "
                "not within one. Add another layer, with a name of its own."
            )
        if any(layer.name == other.name for other in stack):
            raise ValueError(f"There is a layer named {layer.name!r} already; names must differ.")
        stack = [*stack, layer]
        if (shape := self._known_input_shape(stack)) is not None:
            describe(leaves(stack), shape)
        return stack

    def pop(self) -> Layer | Stack:
        """Take the top layer off, with its weights.

        Returns
        -------
        Layer or Sequential

        Raises
        ------
        ValueError
            Where there is none.
        """
        if not self.layers:
            raise ValueError("There is no layer to pop.")
        top = self._layers[-1]
        self._restack(self._layers[:-1])
        return top

    def _known_input_shape(self, stack: list[Layer | Stack] | None = None) -> Shape | None:
        """Return the shape of a sample: of the model as it was, of its first layer, or of that one's weights."""
        if self._runner.network is not None:
            return self._runner.network.input_shape
        stack = self._layers if stack is None else stack
        if not stack:
            return None
        first = stack[0]
        if isinstance(first, Stack):
            return first._known_input_shape()
        return first.given_shape or (first.samples if first.held else None)

    def _restack(self, stack: list[Layer | Stack]) -> None:
        leaf_layers = leaves(stack)
        if self._runner.network is None:
            self._runner.dtype = self._own_dtype or _dtype_of(leaf_layers)
        self._runner.take(leaf_layers, self._known_input_shape(stack), self._trainable)
        self._layers = stack

    def specs(self, shape: Shape) -> list[WeightSpec]:
        """Return what weight arrays there are for samples of ``shape``."""
        found = []
        for layer in leaves(self._layers):
            found += layer.specs(shape)
            shape = layer.result_shape(shape)
        return found

    def result_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample for samples of ``shape``; ValueError where it does not fit."""
        for layer in leaves(self._layers):
            shape = layer.result_shape(shape)
        return shape

    def build(self, input_shape: object = None) -> None:
        """Create the weights.

        Parameters
        ----------
        input_shape : int or tuple (batch or None, *sample), optional
            The shape of what goes in; a number is (None, number). That of the first layer when None.

        Raises
        ------
        ValueError
            If the model is built for another shape already, or no shape is known.
        """
        if input_shape is None:
            shape = self._known_input_shape()
            if shape is None:
                raise ValueError("build needs the input shape, such as build((None, 4)): no layer has one.")
        else:
            shape = feature_shape(without_batch(input_shape))
        known = self._known_input_shape()
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
        network = self._runner.build(shape, self._trainable)
        self._runner.reread(self._trainable)
        return self._runner.network or network

    # ---- looking in ------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Weight]:
        """All weight arrays as `gpumlp.Variable`, in the order of `get_weights`; none before they are there."""
        return [weight for layer in leaves(self._layers) for weight in layer.weights]

    @property
    def trainable_weights(self) -> list[Weight]:
        """Those that training changes."""
        return [weight for weight in self.weights if weight.trainable and self._trainable]

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """Those that training does not change, or that a layer itself keeps."""
        return [weight for weight in self.weights if not (weight.trainable and self._trainable)]

    variables, trainable_variables, non_trainable_variables = weights, trainable_weights, non_trainable_weights

    @named
    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Return the layer of a name, or at a place in `layers`.

        Parameters
        ----------
        name : str, optional
            The name of the layer; one of the two is given.
        index : int, optional
            Its place, from 0.

        Returns
        -------
        Layer or Sequential

        Raises
        ------
        ValueError
            Where there is none.
        """
        if (name is None) == (index is None):
            raise ValueError(f"get_layer takes a name or an index, one of them; got {name!r} and {index!r}.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(
                    f"Was asked to retrieve layer at index {index}; the model has {len(self.layers)} layers."
                )
            return self.layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        names = ", ".join(repr(layer.name) for layer in self.layers)
        raise ValueError(f"No such layer: {name}. Existing layers are: {names}.")

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of what goes in, (None, *sample); AttributeError before it is known."""
        if (shape := self._known_input_shape()) is None:
            raise AttributeError(f"Sequential model {self.name!r} has no defined input shape yet.")
        return None, *shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of what comes out, (None, *sample); AttributeError before it is known."""
        if (shape := self._known_input_shape()) is None:
            raise AttributeError(f"Sequential model {self.name!r} has no defined output shape yet.")
        return None, *self.result_shape(shape)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of what comes out.

        Parameters
        ----------
        input_shape : tuple (batch or None, *sample)
            The shape of what goes in.

        Returns
        -------
        tuple (batch or None, *output)

        Raises
        ------
        ValueError
            Where it does not fit.
        """
        shape = feature_shape(without_batch(input_shape))
        known = self._known_input_shape()
        if known is not None and known != shape:
            raise ValueError(f"The model takes samples of shape {known}; got {input_shape}, samples of shape {shape}.")
        return input_shape[0], *self.result_shape(shape)

    @property
    def inputs(self) -> list[Symbol]:
        """What goes in, a list of one: its shape and dtype; AttributeError before they are known."""
        return [Symbol(self.input_shape, self.dtype.name, f"{self.name}_input")]

    @property
    def outputs(self) -> list[Symbol]:
        """What comes out, a list of one: its shape and dtype; AttributeError before they are known."""
        return [Symbol(self.output_shape, self.dtype.name, f"{self.name}_output")]

    @property
    def input(self) -> Symbol:
        """What goes in."""
        return self.inputs[0]

    @property
    def output(self) -> Symbol:
        """What comes out."""
        return self.outputs[0]

    # ---- weights ---------------------------------------------------------------------------------------------------

    def count_params(self) -> int:
        """Return the number of weights.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            Before the model is built.
        """
        if not self.built:
            raise ValueError(
                "count_params needs a built model. Give the first layer input_shape=, or call build or fit first."
            )
        return sum(layer.count_params() for layer in self.layers)

    @property
    def losses(self) -> list[object]:
        """The penalties of the weights as they are now, one number for each array that has one."""
        return [value for layer in leaves(self._layers) for value in layer.losses] if self._trainable else []

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weight arrays.

        Returns
        -------
        list of arrays
            Layer by layer, kernel then bias; none before they are there.
        """
        if self._runner.weights is None:
            return [array for layer in leaves(self._layers) for array in layer.get_weights()]
        return together([self._runner], lambda: self._runner.place().get(), change=False)

    def set_weights(self, weights: Sequence[object]) -> None:
        """Set all weight arrays.

        Parameters
        ----------
        weights : list of arrays
            In the order of `get_weights`.

        Raises
        ------
        TypeError, ValueError
            Where they are no numbers, or a shape differs; then nothing is changed.
        """
        if not self.built:
            raise ValueError("set_weights needs a built model. Give the first layer input_shape=, or call build first.")
        if isinstance(weights, (list, tuple)):
            found = [samples.on_host(self._runner, w) for w in weights]
            weights = [data.to_array("each weight array", w) if getattr(w, "ndim", 1) else w for w in found]
        self._put(checked_weights(weights, [s for layer in self._runner.owners for s in layer.weight_shapes]))

    def _put(self, arrays: list[np.ndarray], also: Callable[[], None] = lambda: None) -> None:
        """Set all weight arrays, which fit, and do what belongs to the same moment."""
        if self._runner.weights is not None:

            def put() -> None:
                self._runner.place().set(arrays)
                also()

            together([self._runner], put, brief=True)
            return
        rest = iter(arrays)
        for layer in leaves(self._layers):
            if layer.held:
                layer.set_weights([next(rest) for _ in layer.weight_shapes])
        also()

    @named
    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], object] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Show a table of the layers, their output shapes and parameter counts, and what they add up to.

        Parameters
        ----------
        line_length : int, optional
            How wide the table is, in characters; 88, or what the terminal has, when None.
        positions : three numbers, optional
            Where its columns end, of the last of them.
        print_fn : function, optional
            Gets the text; the standard output when None.
        expand_nested : bool
            Also the layers of models among the layers.
        show_trainable : bool
            One more column: whether a layer's weights are trained.
        layer_range : two strings, optional
            Names of layers, or regular expressions: only the layers from the first to the last that they match.

        Raises
        ------
        ValueError
            Where ``line_length`` is too small for the columns, or ``layer_range`` matches no layer.
        """
        from gpumlp.summary import summarize

        text = summarize(self, line_length, positions, expand_nested, show_trainable, layer_range)
        if print_fn is None:
            say(text)
        else:
            print_fn(text + "\n")


def leaves(stack: Iterable[Layer | Stack]) -> list[Layer]:
    """Return the layers of a stack, those of models in it in their places; of these without their Input."""
    found: list[Layer] = []
    for each in stack:
        inner = [each] if isinstance(each, Layer) else leaves(each._layers)
        found += inner if isinstance(each, Layer) or not found else [a for a in inner if not isinstance(a, Input)]
    return found


def _dtype_of(stack: Iterable[Layer]) -> np.dtype:
    """Return the dtype that layers were given, or have weights of; ValueError where it is not one."""
    given = {layer.name: layer.given_dtype for layer in stack if layer.given_dtype is not None}
    if len(set(given.values())) > 1:
        raise ValueError(f"A model computes in one dtype; its layers have {given}.")
    return next(iter(given.values()), config.float_type())
