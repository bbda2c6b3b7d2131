"""A layer's weights: what they are to be, where they stand, and as they were at one moment."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gpumlp.constraints import Constraining
from gpumlp.initializers import Initializing
from gpumlp.layers.checks import Shape
from gpumlp.naming import unmasked
from gpumlp.regularizers import Regularizer
from gpumlp.variables import Change, Variable

if TYPE_CHECKING:
    from gpumlp.layers.base import Layer


@dataclass(frozen=True)
class WeightSpec:
    """One weight array of a layer: its name, shape, initial values, penalty, and what it is made to be after a step."""

    name: str
    shape: Shape
    initializer: Initializing
    regularizer: Regularizer | None = None
    constraint: Constraining | None = None
    trainable: bool = True  # or a state that the layer itself keeps, such as a moving average


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
    def trainable(self) -> bool:
        """Whether training changes it: its layer's ``trainable`` says so, and what it is."""
        return self._layer.trainable and self._spec.trainable

    @trainable.setter
    def trainable(self, value: object) -> None:
        raise AttributeError(
            f"{self.path} is trained where its layer is, all of its weights or none: set {self._layer.name}.trainable, "
            f"the layer's; got {value!r} for this one alone."
        )

    @property
    def shape(self) -> Shape:
        return self._layer.weight_shapes[self._place]

    @property
    def dtype(self) -> str:
        return self._layer.dtype

    @property
    def initializer(self) -> Initializing:
        """What its first values were made by."""
        return self._spec.initializer

    @property
    def regularizer(self) -> Regularizer | None:
        """The penalty that is added to the loss for it, or None."""
        return self._spec.regularizer

    @property
    def constraint(self) -> Constraining | None:
        """What it is made to be after each step, or None."""
        return self._spec.constraint

    def numpy(self) -> np.ndarray:
        return self._layer.get_weights()[self._place]

    def change(self, to: Change) -> None:
        self._layer.change(self._place, to)


class Home(Protocol):
    """Where weights stand that are no arrays of the layer's own: see `gpumlp.engine.arena.Home`."""

    @property
    def shapes(self) -> list[Shape]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self, layer: Layer) -> list[np.ndarray]: ...

    def write(self, layer: Layer, arrays: Sequence[np.ndarray]) -> None: ...

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

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
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


def allow(name: str, specs: Sequence[WeightSpec]) -> None:
    if (room := _room.get()) is not None:
        room[0] -= sum(math.prod(spec.shape) for spec in specs)
        if room[0] < 0:
            raise ValueError(f"Layer {name!r} has more weights by its config than there are in the file.")
