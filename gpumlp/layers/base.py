"""Layers: descriptions that own their weights. What they compute stands in the engine and the backends.

A layer's weights are made when the shape of its samples is known. They are arrays of its own until something is
computed; then they stand in an arena (`gpumlp.engine.arena`), together with those of the other layers. Either way they
are the layer's: a model that takes a layer from another one takes its weights with it, and trains them for both.
"""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from gpumlp import config, initializers, regularizers
from gpumlp.attributes import Attributes
from gpumlp.gate import apart, hold, layout
from gpumlp.naming import automatic, flag, unmasked
from gpumlp.naming import reset_names as reset_names

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


def initializer_of(value: object) -> Any:
    return initializers.get("glorot_uniform" if value is None else value)  # as Keras has it, of a bias too


def bias_regularizer(value: object) -> Any:
    found = regularizers.get(value)
    if found is not None and not found.by_formula:
        raise ValueError(f"{type(found).__name__} is of a kernel's rows or columns; a bias has neither.")
    return found


class Home(Protocol):
    """Where weights stand that are no arrays of the layer's own: see `gpumlp.engine.arena.Home`."""

    @property
    def shapes(self) -> list[Shape]: ...

    def read(self, layer: Layer) -> list[np.ndarray]: ...

    def write(self, layer: Layer, arrays: Sequence[Any]) -> None: ...


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
        Read by ``Sequential.compile``: a frozen layer's weights are not updated.
    """

    unread: ClassVar = {
        "kernel": "Use layer.set_weights([kernel, bias]).",
        "bias": "Use layer.set_weights([kernel, bias]).",
        "dtype": "The dtype is the model's: Sequential(layers, dtype=...).",
        "dtype_policy": "The dtype is the model's: Sequential(layers, dtype=...).",
        "activity_regularizer": "Use kernel_regularizer or bias_regularizer.",
        "supports_masking": "There are no masks.",
        "stateful": "No layer has a state beside its weights.",
        "autocast": "There is one dtype in a model.",
        "frozen": "Use trainable = False.",
        "lora_rank": "There is no LoRA.",
        **dict.fromkeys(("weights", "variables", "trainable_weights", "non_trainable_weights"), "Use set_weights."),
    }
    checks: ClassVar = {"trainable": functools.partial(flag, "trainable")}
    answer: ClassVar[Callable[[Layer, object, bool], Any]]  # what computes: set by `gpumlp.models.calls`, far above
    _calls = 0  # in training mode: each has masks of its own
    held: list[np.ndarray] | Home | None = None  # the weights, or where they stand; None before they are made
    samples: Shape | None = None  # the shape of a sample that they were made for

    def __init__(
        self,
        *,
        name: str | None = None,
        input_shape: object = None,
        input_dim: int | None = None,
        trainable: bool = True,
    ) -> None:
        if input_shape is None and input_dim is not None:
            input_shape = (input_dim,)
        self.given_shape = None if input_shape is None else feature_shape(input_shape)
        self.trainable = trainable
        name = automatic(type(self)) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"name must be a string; got {name!r}.")
        self.name = name

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name not in ("held", "samples", "_calls"):
            Changes.count += 1

    def __getstate__(self) -> dict[str, Any]:
        """Return the layer with its weights as arrays of its own."""
        return self.__dict__ | {"held": Snapshot.weights_of(self) or (self.get_weights() if self.built else None)}

    # ---- what it is --------------------------------------------------------------------------------------------------

    def specs(self, shape: Shape) -> list[WeightSpec]:
        """Return what weight arrays there are for samples of ``shape``."""
        return []

    def result_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample for samples of ``shape``; ValueError where it does not fit."""
        return shape

    def compute_output_shape(self, input_shape: object) -> tuple[int | None, ...]:
        """Return the shape of what comes out for ``input_shape`` = (batch or None, *sample); ValueError: no fit."""
        shape = feature_shape(without_batch(input_shape))
        return (cast("Sequence[Any]", input_shape)[0], *self.result_shape(shape))

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

    # ---- its weights -------------------------------------------------------------------------------------------------

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
        """Make the weights, float32 as `gpumlp.config` says, for ``input_shape`` = (batch or None, *sample)."""
        shape = feature_shape(without_batch(input_shape))
        self.result_shape(shape)
        self.check_weights(self.specs(shape))

        def make() -> None:
            if not self.built:
                self.held, self.samples = self.initial(shape, config.float_type()), shape

        hold((layout,), make)

    def initial(self, shape: Shape, dtype: np.dtype) -> list[np.ndarray]:
        """Return new weights for samples of ``shape``."""
        made = []
        for spec in self.specs(shape):
            array = np.asarray(spec.initializer(spec.shape, dtype))
            if array.shape != spec.shape or array.dtype.kind not in "biuf":
                raise ValueError(
                    f"{spec.name}_initializer of layer {self.name!r} must return numbers of shape {spec.shape}; got "
                    f"{array.dtype} of shape {array.shape}."
                )
            made.append(np.ascontiguousarray(array, dtype))
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
        """The penalties of the weights as they are now, a number for each that has one; none before they are there."""
        if self.samples is None or not self.built or not self.trainable:
            return []
        specs = self.specs(self.samples)
        pairs = zip(specs, self.get_weights(), strict=True) if any(spec.regularizer for spec in specs) else ()
        return [spec.regularizer(weight) for spec, weight in pairs if spec.regularizer]

    def count_params(self) -> int:
        """Return the number of weights; ValueError before they are there."""
        if not self.built:
            raise ValueError(f"Layer {self.name!r} has no weights yet: they are made when the input shape is known.")
        return sum(math.prod(shape) for shape in self.weight_shapes)
