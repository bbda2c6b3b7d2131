"""Layers: descriptions that own their weights. What they compute stands in the engine and the backends.

A layer's weights are made when the shape of its samples is known. They are arrays of its own until something is
computed; then they stand in an arena (`gpumlp.engine.arena`), together with those of the other layers. Either way they
are the layer's: a model that takes a layer from another one takes its weights with it, and trains them for both.
"""

from __future__ import annotations

import functools
import inspect
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import activations, config, regularizers
from gpumlp.attributes import Attributes
from gpumlp.gate import apart, hold, layout
from gpumlp.layers.checks import DType, Shape, ShapeLike, feature_shape, sample_shape
from gpumlp.layers.weights import Home, Snapshot, Weight, WeightSpec, allow, checked_weights
from gpumlp.literals import RegularizerLike
from gpumlp.naming import automatic, flag
from gpumlp.naming import reset_names as reset_names
from gpumlp.saving import serialize_keras_object
from gpumlp.signatures import taken_by
from gpumlp.variables import Change, Symbol

SHOWN = 4  # numbers of an array in what a layer is shown as
NEUTRAL = {  # what gpumlp has not
    "quantization_config": None, "sparse": False, "ragged": False, "optional": False, "rms_scaling": False,
}  # fmt: skip


def _is_neutral(name: str, value: object) -> bool:
    return name in NEUTRAL and value == NEUTRAL[name]


class Changes:
    """How often an attribute of any layer was set: whoever has read them asks whether they are still the same."""

    count = 0


def _in_words(value: object) -> str:
    """Return a value for a line: of an array the first numbers."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    first = [f"{one:.3g}" for one in value.ravel()[:SHOWN].tolist()]
    return f"[{', '.join(first + ['...'] * (value.size > SHOWN))}]"


class Layer(Attributes):
    """Base of all layers: what they have in common. A layer itself is one of its subclasses.

    Parameters
    ----------
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Whether training changes its weights. Read when a ``fit``, another method or a call begins.
    activity_regularizer : str, callable or dict, optional
        A penalty of all outputs of a batch; divided by the batch's size, it is added to the loss.
    input_shape : int or tuple of int, optional
        On the first layer of a model: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    TypeError, ValueError
        For a value that an argument cannot have, and for an argument that there is not, with the nearest there is.

    Examples
    --------
    >>> from gpumlp import layers
    >>> layer = layers.Dense(3, name="first")
    >>> isinstance(layer, layers.Layer), layer.built
    (True, False)
    >>> layer.build((None, 4))
    >>> layer.kernel.shape, layer.count_params()
    ((4, 3), 15)
    """

    unread: ClassVar = {
        **dict.fromkeys(("kernel", "bias"), "Use layer.kernel.assign(values), or set_weights([kernel, bias])."),
        "supports_masking": "There are no masks.",
        "stateful": "No layer has a state beside its weights.",
        "autocast": "There is one dtype in a model.",
        "frozen": "Use trainable = False.",
        "lora_rank": "There is no LoRA.",
    }
    weight_names: ClassVar[tuple[str, ...]] = ()  # of the weights that it may have, which are attributes of these names
    checks: ClassVar = {
        "trainable": functools.partial(flag, "trainable"), "activity_regularizer": regularizers.get,
    }  # fmt: skip
    activity_regularizer: regularizers.Regularizer | None = None
    answer: ClassVar[
        Callable[[Layer, object, bool], np.ndarray]
    ]  # what computes: set by `gpumlp.models.calls`, far above
    _calls = 0  # in training mode: each has masks of its own
    _penalty: object = None  # of what the last call has made, where there is an activity_regularizer
    held: list[np.ndarray] | Home | None = None  # the weights, or where they stand; None before they are made
    samples: Shape | None = None  # the shape of a sample that they were made for
    # what the constructor takes, and a config has elsewhere or not at all
    unwritten: ClassVar = frozenset({"name", "trainable", "dtype", "activity_regularizer", "input_shape", "input_dim"})

    def __init__(
        self, *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        activity_regularizer: RegularizerLike = None, input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        if input_shape is None and input_dim is not None:
            input_shape = (input_dim,)
        self.given_dtype = None if dtype is None else config.float_type(config.policy_name(dtype))
        self.given_shape = None if input_shape is None else feature_shape(input_shape)
        self.trainable = trainable
        if activity_regularizer is not None:
            self.take(activity_regularizer=activity_regularizer)
        name = automatic(type(self)) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"name must be a string; got {name!r}.")
        self.name = name

    def take(self, **values: object) -> None:
        """Set what the constructor was given: `checks` say what becomes of it."""
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name not in ("held", "samples", "_shown", "_calls", "_penalty"):
            Changes.count += 1

    def __getattr__(self, name: str) -> Any:
        if name not in type(self).weight_names:
            return object.__getattribute__(self, name)  # which says what is missing, a property's words too
        if not self.built:
            raise AttributeError(
                f"You must build the layer before accessing `{name}`: layer {self.name!r} has no weights before the "
                "shape of its input is known."
            )
        return next((weight for weight in self.weights if weight.name == name), None)

    def __getstate__(self) -> dict[str, object]:
        """Return the layer with its weights as arrays of its own."""
        held = Snapshot.weights_of(self) or (self.get_weights() if self.built else None)
        kept = {name: value for name, value in self.__dict__.items() if name != "_shown"}
        return kept | {"held": held}

    def __repr__(self) -> str:
        own = ", ".join(f"{name}={_in_words(value)}" for name, value in self._told().items())
        return f"<{type(self).__name__} {self.name}{': ' if own else ''}{own}>"

    def _told(self) -> dict[str, object]:
        """Return what the constructor was given, but for what is as by default, and what all layers take."""
        found, of_all = {}, taken_by(Layer)
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if name in of_all or parameter.kind is parameter.VAR_KEYWORD:
                continue
            value: object = getattr(self, name, None)
            usual, check = parameter.default, self.checks.get(name)
            if usual is not parameter.empty and check is not None:
                usual = check(usual)
            if value is not usual and not np.array_equal(np.asarray(value), np.asarray(usual)):
                found[name] = value
        return found

    # ---- what it is --------------------------------------------------------------------------------------------------

    def specs(self, shape: Shape) -> list[WeightSpec]:
        """Return what weight arrays there are for samples of ``shape``."""
        return []

    def result_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample for samples of ``shape``; ValueError where it does not fit."""
        return shape

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape that comes out for one that goes in.

        Parameters
        ----------
        input_shape : tuple of int
            The batch's size, or None, and then the shape of a sample.

        Returns
        -------
        tuple of int
            The batch's size, and then the shape of an output sample.

        Raises
        ------
        ValueError
            Where the layer takes no such samples.
        """
        return input_shape[0], *self.result_shape(sample_shape(input_shape))

    def __call__(self, inputs: object, training: bool | None = None) -> np.ndarray:
        """Return what the layer makes of an array ``[n, *sample]``: of the layer's dtype, on the GPU if the array is.

        Weights are made by the first call, float32 as `gpumlp.config` says, unless a model has made them, or `build`.

        Parameters
        ----------
        inputs : array_like
            A batch: n samples.
        training : bool, optional
            Whether to compute as in training, where Dropout has another mask each time. None is False.

        Returns
        -------
        ndarray
            A batch: n output samples.

        Raises
        ------
        TypeError
            For what is no array of numbers, and for a layer or a model: there is no functional API.
        ValueError
            Where the layer takes other samples.
        """
        return Layer.answer(self, inputs, bool(training))

    def call(self, inputs: object, training: bool | None = None) -> np.ndarray:
        """Return what calling the layer does.

        Parameters
        ----------
        inputs : array_like
            A batch: n samples.
        training : bool, optional
            Whether to compute as in training. None is False.

        Returns
        -------
        ndarray
            A batch: n output samples.
        """
        return self(inputs, training)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of what goes in, ``(None, *sample)``; AttributeError before it is known."""
        if (shape := self.samples or self.given_shape) is None:
            raise AttributeError(f"Layer {self.name!r} has no defined input shape yet: it has not been built.")
        return None, *shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of what comes out, ``(None, *sample)``; AttributeError before it is known."""
        return self.compute_output_shape(self.input_shape)

    @property
    def input(self) -> Symbol:
        """What goes in: its shape and dtype; AttributeError before they are known."""
        return Symbol(self.input_shape, self.dtype, f"{self.name}_input")

    @property
    def output(self) -> Symbol:
        """What comes out: its shape and dtype; AttributeError before they are known."""
        return Symbol(self.output_shape, self.dtype, f"{self.name}_output")

    @property
    def dtype(self) -> str:
        """The type of its weights and arithmetic: that of the model that it is in."""
        held = self.held or []
        if isinstance(held, list):
            return held[0].dtype.name if held else (self.given_dtype or config.float_type()).name
        return held.dtype.name

    variable_dtype = compute_dtype = dtype

    # ---- its config --------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, by Keras's names.

        Returns
        -------
        dict
            As JSON can hold it; `from_config` makes the same layer of it, without its weights.
        """
        found = {"name": self.name, "trainable": self.trainable, "dtype": config.policy(self.dtype)}
        more = [] if self.activity_regularizer is None else ["activity_regularizer"]
        own = (name for name in taken_by(type(self)) if name not in self.unwritten and name != "**")
        for name in (*own, *more):
            found[name] = self.described(name)
        return found

    def described(self, name: str) -> object:
        """Return what the constructor takes by this name as a config has it."""
        value = getattr(self, name)
        return (
            activations.serialize(value) if isinstance(value, activations.Activation) else serialize_keras_object(value)
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a new layer, as `get_config` has described one.

        Parameters
        ----------
        config : dict
            What the constructor takes, by name. What Keras alone has must be neutral there.

        Returns
        -------
        Layer
            With weights of its own, not yet made.
        """
        known = taken_by(cls)
        return cls(**{name: value for name, value in config.items() if name in known or not _is_neutral(name, value)})

    def get_build_config(self) -> dict[str, object] | None:
        """Return what the weights were made for.

        Returns
        -------
        dict or None
            ``{"input_shape": [None, *sample]}``; None where there are no weights.
        """
        return {"input_shape": [None, *self.samples]} if self.samples and self.weight_shapes else None

    # ---- its weights -------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Weight]:
        """The weight arrays as `Variable`, in the order of `get_weights`; none before they are there."""
        if not self.built or self.samples is None:
            return []
        shown: weakref.WeakValueDictionary[int, Weight]
        shown = self.__dict__.setdefault("_shown", weakref.WeakValueDictionary())
        found = []
        for place, spec in enumerate(self.specs(self.samples)):
            weight = shown.get(place)
            if weight is None:
                weight = shown[place] = Weight(self, place, spec)
            found.append(weight)
        return found

    @property
    def trainable_weights(self) -> list[Weight]:
        """Those that training changes."""
        return [weight for weight in self.weights if weight.trainable]

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """Those that training does not change, or that the layer itself keeps."""
        return [weight for weight in self.weights if not weight.trainable]

    variables, trainable_variables, non_trainable_variables = weights, trainable_weights, non_trainable_weights

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        return self.held is not None

    @property
    def weight_shapes(self) -> list[Shape]:
        """The shapes of the weight arrays; none before they are there."""
        held = self.held or []
        return [a.shape for a in held] if isinstance(held, list) else held.shapes

    def build(self, input_shape: object) -> None:
        """Make the weights, of the layer's dtype.

        Parameters
        ----------
        input_shape : tuple of int
            The batch's size, or None, and then the shape of a sample.

        Raises
        ------
        ValueError
            Where the layer takes no such samples, or has weights for others.
        """
        shape = sample_shape(input_shape)
        self.result_shape(shape)
        self.check_weights(self.specs(shape))

        def make() -> None:
            if not self.built:
                dtype = self.given_dtype or config.float_type()
                self.held, self.samples = self.initial(shape, dtype), shape

        hold((layout,), make)

    def initial(self, shape: Shape, dtype: np.dtype) -> list[np.ndarray]:
        """Return new weights for samples of ``shape``."""
        made, specs = [], self.specs(shape)
        allow(self.name, specs)
        for spec in specs:
            array = np.asarray(spec.initializer(spec.shape, dtype))
            if array.shape != spec.shape or array.dtype.kind not in "biuf":
                raise ValueError(
                    f"{spec.name}_initializer of layer {self.name!r} must return numbers of shape {spec.shape}; got "
                    f"{array.dtype} of shape {array.shape}."
                )
            made.append(np.asarray(array, dtype, order="C"))
        return made

    def check_weights(self, specs: Sequence[WeightSpec]) -> None:
        """Raise ValueError where there are weights, and others than ``specs`` say."""
        if self.built and (expected := [spec.shape for spec in specs]) != self.weight_shapes:
            raise ValueError(
                f"Layer {self.name!r} has weights of shapes {self.weight_shapes}, made for samples of shape "
                f"{self.samples}; here they would have to be {expected}. Use a new layer."
            )

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the weight arrays.

        Returns
        -------
        list of ndarray
            In Keras's order, kernel then bias; none before they are made.
        """
        held = self.held or []
        return [a.copy() for a in held] if isinstance(held, list) else held.read(self)

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Set all weight arrays.

        Parameters
        ----------
        weights : list of array_like
            In the order of `get_weights`.

        Raises
        ------
        TypeError, ValueError
            For what are no numbers, or of other shapes; then nothing has changed.
        """
        arrays = checked_weights(weights, self.weight_shapes)

        def put() -> bool:
            if isinstance(self.held, list):
                self.held = [np.array(a, old.dtype) for a, old in zip(arrays, self.held, strict=True)]
                return True
            return self.held is None

        if not apart(lambda: hold((layout,), put)):  # they may be moving to an arena just now
            self.held.write(self, arrays)  # type: ignore[union-attr]

    @property
    def losses(self) -> list[object]:
        """The penalties, one number each: of weights that train, as they are now, and of what a call has made last."""
        of_call = [] if self._penalty is None else [self._penalty]
        if self.samples is None or not self.built or not self.trainable:
            return of_call
        specs = self.specs(self.samples)
        pairs = zip(specs, self.get_weights(), strict=True) if any(spec.regularizer for spec in specs) else ()
        return [spec.regularizer(weight) for spec, weight in pairs if spec.regularizer] + of_call

    def change(self, place: int, to: Change) -> None:
        """Have the weight array at ``place`` be what ``to`` returns of it, while nobody else computes with it."""

        def put() -> bool:
            if isinstance(self.held, list):
                held = self.held[place]
                self.held = [*self.held[:place], np.array(to(held), held.dtype), *self.held[place + 1 :]]
                return True
            return False

        if not apart(lambda: hold((layout,), put)):  # they may be moving to an arena just now
            self.held.change(self, place, to)  # type: ignore[union-attr]

    def count_params(self) -> int:
        """Return the number of weights.

        Returns
        -------
        int
            Those of all arrays.

        Raises
        ------
        ValueError
            Before they are made.
        """
        if not self.built:
            raise ValueError(f"Layer {self.name!r} has no weights yet: they are made when the input shape is known.")
        return sum(math.prod(shape) for shape in self.weight_shapes)
