"""Layers: descriptions that own their weights. What they compute stands in the engine and the backends.

A layer's weights are made when the shape of its samples is known. They are arrays of its own until something is
computed; then they stand in an arena (`gpumlp.engine.arena`), together with those of the other layers. Either way they
are the layer's: a model that takes a layer from another one takes its weights with it, and trains them for both.
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from gpumlp import activations, config, initializers, regularizers
from gpumlp.attributes import Attributes, nearest
from gpumlp.gate import apart, hold, layout
from gpumlp.naming import automatic, flag, unmasked
from gpumlp.naming import reset_names as reset_names
from gpumlp.saving import serialize_keras_object
from gpumlp.variables import Change, Symbol, Variable

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightSpec:
    """One weight array of a layer: its name, shape, initial values, penalty, and what it is made to be after a step."""

    name: str
    shape: Shape
    initializer: Callable[[Shape, Any], Any]
    regularizer: Any = None
    constraint: Callable[[Any], Any] | None = None
    trainable: bool = True  # or a state that the layer itself keeps, such as a moving average


def whole_number(name: str, value: object, low: int = 1) -> int:
    """Return ``value`` as an int; TypeError or ValueError, naming it, unless it is a whole number >= ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number >= {low}; got {value!r}.")
    if value < low:
        raise ValueError(f"{name} must be a whole number >= {low}; got {value!r}.")
    return int(value)


def without_batch(value: object) -> object:
    """Return a shape without its first size, the batch, as Keras's ``build`` takes it; ValueError for that alone."""
    if isinstance(value, (tuple, list)):
        if len(value) < 2:
            raise ValueError(
                f"the input shape must have the batch first and then the shape of a sample, such as (None, 4); got "
                f"{value!r}."
            )
        return tuple(value[1:])
    return value


def checked_weights(weights: object, shapes: Sequence[Shape]) -> list[np.ndarray]:
    """Return ``weights`` as arrays of ``shapes``; TypeError or ValueError where they are not."""
    if not isinstance(weights, (list, tuple)):
        raise TypeError(f"set_weights takes a list of arrays, as get_weights returns; got {weights!r}.")
    arrays = [np.asarray(unmasked("a weight array", w)) for w in weights]
    if wrong := [a.dtype for a in arrays if a.dtype.kind not in "biuf"]:
        raise TypeError(f"each weight array must be of numbers; got dtype {wrong[0]}.")
    if [a.shape for a in arrays] != list(shapes):
        raise ValueError(f"set_weights expects arrays of shapes {list(shapes)}; got {[a.shape for a in arrays]}.")
    return arrays


def feature_shape(value: object) -> Shape:
    """Return the shape of one sample from an ``input_shape``; a single int counts as (int,)."""
    sizes = (value,) if isinstance(value, (int, np.integer)) else value
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise TypeError(f"the input shape must be a tuple of sizes without the batch, such as (1,); got {value!r}.")
    return tuple(whole_number("each size of the input shape", s) for s in sizes)


def sample_shape(value: object) -> Shape:
    """Return the shape of one sample from one with the batch first; an array of one axis has samples without any."""
    alone = isinstance(value, (tuple, list)) and len(value) == 1
    return () if alone else feature_shape(without_batch(value))


def initializer_of(value: object) -> Any:
    return initializers.get("glorot_uniform" if value is None else value)  # as Keras has it, of a bias too


def bias_regularizer(value: object) -> Any:
    found = regularizers.get(value)
    if found is not None and not found.by_formula:
        raise ValueError(f"{type(found).__name__} is of a kernel's rows or columns; a bias has neither.")
    return found


class Weight(Variable):
    """A weight array of a layer, wherever it stands by now."""

    def __init__(self, layer: Layer, place: int, spec: WeightSpec) -> None:
        self._layer, self._place, self._spec = layer, place, spec
        self.name = spec.name

    @property
    def path(self) -> str:  # type: ignore[override]
        """Where it is: its layer's name and its own."""
        return f"{self._layer.name}/{self.name}"

    @property
    def trainable(self) -> bool:  # type: ignore[override]
        """Whether training changes it: its layer's ``trainable`` says so, and what it is."""
        return self._layer.trainable and self._spec.trainable

    @property
    def shape(self) -> Shape:
        return self._layer.weight_shapes[self._place]

    @property
    def dtype(self) -> str:
        return self._layer.dtype

    @property
    def initializer(self) -> Any:
        """What its first values were made by."""
        return self._spec.initializer

    @property
    def regularizer(self) -> Any:
        """The penalty that is added to the loss for it, or None."""
        return self._spec.regularizer

    @property
    def constraint(self) -> Any:
        """What it is made to be after each step, or None."""
        return self._spec.constraint

    def numpy(self) -> np.ndarray:
        return self._layer.get_weights()[self._place]

    def change(self, to: Change) -> None:
        self._layer.change(self._place, to)


NEUTRAL = {  # what gpumlp has not
    "quantization_config": None, "sparse": False, "ragged": False, "optional": False, "rms_scaling": False,
}  # fmt: skip


def _is_neutral(name: str, value: object) -> bool:
    return name in NEUTRAL and value == NEUTRAL[name]


def constructor_names(kind: type) -> list[str]:
    """Return the names of what a class's own constructor takes."""
    own = list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]
    return [p.name for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _unrecognized(kind: type, given: Mapping[str, Any]) -> str:
    """Return the words for keyword arguments that no constructor of a layer's class takes."""
    known = {name for cls in kind.__mro__ if issubclass(cls, Layer) for name in constructor_names(cls)}
    meant = [near for name in given if (near := nearest(name, known)) is not None]
    hint = f" Did you mean {' and '.join(map(repr, meant))}?" if meant else ""
    return f"Unrecognized keyword arguments passed to {kind.__name__}: {dict(given)}.{hint}"


class Home(Protocol):
    """Where weights stand that are no arrays of the layer's own: see `gpumlp.engine.arena.Home`."""

    @property
    def shapes(self) -> list[Shape]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self, layer: Layer) -> list[np.ndarray]: ...

    def write(self, layer: Layer, arrays: Sequence[Any]) -> None: ...

    def change(self, layer: Layer, place: int, to: Change) -> None: ...


class Snapshot:
    """Weights as they were at one moment, for a model that is pickled or copied: all its layers are of that moment.

    It counts for the thread that made it, until the pickle comes to it, as the last part of the model's state, where it
    becomes None.
    """

    _of_threads = threading.local()

    def __init__(self, weights: dict[int, list[np.ndarray]]) -> None:
        self._weights = weights  # by the id of a layer
        self._of_threads.newest = weakref.ref(self)

    def __reduce__(self) -> Any:
        self._weights = {}  # it is the last of a model's state: the layers are done
        return type(None), ()

    @classmethod
    def forget(cls) -> None:
        """Take it that this thread pickles nothing now: it changes weights."""
        cls._of_threads.newest = lambda: None

    @classmethod
    def weights_of(cls, layer: Layer) -> list[np.ndarray] | None:
        """Return the layer's weights of that moment; None where there is none."""
        newest = getattr(cls._of_threads, "newest", lambda: None)()
        return None if newest is None else newest._weights.get(id(layer))


_room: ContextVar[list[int] | None] = ContextVar("how many weights may be made", default=None)


@contextmanager
def allowing(numbers: int) -> Iterator[None]:
    """Have layers make ``numbers`` weights at most, all together: they raise ValueError before they make more.

    So a file's config is held to the weights that are in the file.
    """
    before = _room.set([numbers])
    try:
        yield
    finally:
        _room.reset(before)


def _allow(name: str, specs: Sequence[WeightSpec]) -> None:
    if (room := _room.get()) is not None:
        room[0] -= sum(math.prod(spec.shape) for spec in specs)
        if room[0] < 0:
            raise ValueError(f"Layer {name!r} has more weights by its config than there are in the file.")


class Changes:
    """How often an attribute of any layer was set: whoever has read them asks whether they are still the same."""

    count = 0


class Layer(Attributes):
    """Base of all layers.

    Parameters
    ----------
    name : str, optional
        Made from the class's name and a number when None.
    input_shape, input_dim : optional
        On the first layer of a model: the shape of one sample.
    trainable : bool
        A frozen layer's weights are not updated. Read when a ``fit``, another method or a call begins.
    activity_regularizer : optional
        The penalty of all outputs of a batch; divided by the batch's size, it is added to the loss.
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
    activity_regularizer: Any = None
    answer: ClassVar[Callable[[Layer, object, bool], Any]]  # what computes: set by `gpumlp.models.calls`, far above
    _calls = 0  # in training mode: each has masks of its own
    _penalty: Any = None  # of what the last call has made, where there is an activity_regularizer
    held: list[np.ndarray] | Home | None = None  # the weights, or where they stand; None before they are made
    samples: Shape | None = None  # the shape of a sample that they were made for

    def __init__(
        self,
        *,
        name: str | None = None,
        input_shape: object = None,
        input_dim: int | None = None,
        trainable: bool = True,
        activity_regularizer: object = None,
        dtype: object = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(_unrecognized(type(self), unknown))
        if input_shape is None and input_dim is not None:
            input_shape = (input_dim,)
        self.given_dtype = None if dtype is None else config.float_type(config.policy_name(dtype))
        self.given_shape = None if input_shape is None else feature_shape(input_shape)
        self.trainable = trainable
        if activity_regularizer is not None:
            self.activity_regularizer = activity_regularizer
        name = automatic(type(self)) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"name must be a string; got {name!r}.")
        self.name = name

    def __setattr__(self, name: str, value: Any) -> None:
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

    def __getstate__(self) -> dict[str, Any]:
        """Return the layer with its weights as arrays of its own."""
        held = Snapshot.weights_of(self) or (self.get_weights() if self.built else None)
        kept = {name: value for name, value in self.__dict__.items() if name != "_shown"}
        return kept | {"held": held}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    # ---- what it is --------------------------------------------------------------------------------------------------

    def specs(self, shape: Shape) -> list[WeightSpec]:
        """Return what weight arrays there are for samples of ``shape``."""
        return []

    def result_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample for samples of ``shape``; ValueError where it does not fit."""
        return shape

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape that comes out of ``input_shape``, both with the batch first; ValueError where none does."""
        return input_shape[0], *self.result_shape(sample_shape(input_shape))

    def __call__(self, inputs: object, training: bool | None = None) -> Any:
        """Return what the layer makes of an array [n, *sample]: of the layer's dtype, on the GPU if the array is.

        Weights are made by the first call, float32 as `gpumlp.config` says, unless a model has made them, or `build`.
        With ``training`` it computes as in training, as if the array were a batch: Dropout has another mask each time.

        Raises
        ------
        TypeError
            For what is no array of numbers, and for a layer or a model: there is no functional API.
        ValueError
            Where the layer takes other samples.
        """
        return Layer.answer(self, inputs, bool(training))

    def call(self, inputs: object, training: bool | None = None) -> Any:
        """See `__call__`."""
        return self(inputs, training)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of what goes in, (None, *sample); AttributeError before it is known."""
        if (shape := self.samples or self.given_shape) is None:
            raise AttributeError(f"Layer {self.name!r} has no defined input shape yet: it has not been built.")
        return None, *shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of what comes out, (None, *sample); AttributeError before it is known."""
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

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes, by Keras's names, as JSON can hold it."""
        found = {"name": self.name, "trainable": self.trainable, "dtype": config.policy(self.dtype)}
        own = [] if type(self).__init__ is Layer.__init__ else constructor_names(type(self))
        for name in (*own, "activity_regularizer"):
            if name not in found and not (name == "activity_regularizer" and self.activity_regularizer is None):
                found[name] = self.described(name)
        return found

    def described(self, name: str) -> Any:
        """Return what the constructor takes by this name as a config has it."""
        value = getattr(self, name)
        return (
            activations.serialize(value) if isinstance(value, activations.Activation) else serialize_keras_object(value)
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a new layer, as `get_config` has described one; what Keras alone has must be neutral."""
        known = constructor_names(cls)
        return cls(**{name: value for name, value in config.items() if name in known or not _is_neutral(name, value)})

    def get_build_config(self) -> dict[str, Any] | None:
        """Return the shape that the weights were made for, the batch first; None where there are none."""
        return {"input_shape": [None, *self.samples]} if self.samples and self.weight_shapes else None

    # ---- its weights -------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Weight]:
        """The weight arrays as `Variable`, in the order of `get_weights`; none before they are there."""
        if not self.built or self.samples is None:
            return []
        shown: Any = self.__dict__.setdefault("_shown", weakref.WeakValueDictionary())
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
        """Make the weights, of the layer's dtype, for ``input_shape`` = (batch or None, *sample)."""
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
        _allow(self.name, specs)
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
        """Return copies of the weight arrays, kernel then bias; an empty list before they are there."""
        held = self.held or []
        return [a.copy() for a in held] if isinstance(held, list) else held.read(self)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weight arrays, in the order of `get_weights`; ValueError, and no change, where a shape differs."""
        arrays = checked_weights(weights, self.weight_shapes)

        def put() -> bool:
            if isinstance(self.held, list):
                self.held = [np.array(a, old.dtype) for a, old in zip(arrays, self.held, strict=True)]
                return True
            return self.held is None

        if not apart(lambda: hold((layout,), put)):  # they may be moving to an arena just now
            self.held.write(self, arrays)  # type: ignore[union-attr]

    @property
    def losses(self) -> list[Any]:
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
        """Return the number of weights; ValueError before they are there."""
        if not self.built:
            raise ValueError(f"Layer {self.name!r} has no weights yet: they are made when the input shape is known.")
        return sum(math.prod(shape) for shape in self.weight_shapes)
