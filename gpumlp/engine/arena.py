"""Where weights stand: those of all layers that go together in one flat buffer, and every state array beside it alike.

A layer owns its weights. Until something is computed they are arrays of its own; then they stand in an arena, and the
layer knows where:

    arena    | dense | dense_1 | head |    | new_head |      one buffer, one gate, one dtype, one device
    model A  |<---------------------->|                      Stretches: of these three layers
    model B  |<-------------->|            |<-------->|      Stretches: shares two of them

Models that share a layer share its arena; arenas become one when the first model computes that has layers in both, and
what they were is marked as moved. Programs and optimizers know a model's weights by its Stretches alone, as one flat
array that may have gaps, where weights of others stand.

Each array starts at a multiple of 64 bytes, so that vector loads are aligned; the room between holds zeros, whose
gradients are zero, so every optimizer leaves them zero.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gpumlp.backends.contract import Backend
from gpumlp.backends.numpy_backend import ALIGNMENT, NumpyBackend
from gpumlp.backends.runtime import Array, DType
from gpumlp.devices import Device
from gpumlp.gate import Gate, apart, hold
from gpumlp.layers import Layer, Shape, WeightSpec
from gpumlp.optimizers.layout import Layout

if TYPE_CHECKING:
    from gpumlp.engine.runner import Runner

Result = TypeVar("Result")


class Stretches:
    """Some weight arrays of an arena, in a model's order, seen as one flat array from the first to the last of them.

    ``offsets`` count from the first. The arrays are a backend's: they live where it computes; `get` and `set` speak the
    host's NumPy.
    """

    def __init__(self, arena: Arena, places: Sequence[int]) -> None:
        self.arena, self.places = arena, list(places)
        self.shapes, self.dtype, self.backend = [arena.shapes[i] for i in places], arena.dtype, arena.backend
        starts = [arena.offsets[i] for i in places]
        first, last = min(starts, default=0), max((arena.ends[i] for i in places), default=0)
        self.offsets, self.size = [start - first for start in starts], last - first
        self._ends = [arena.ends[i] - first for i in places]
        self._gaps = sum(end - start for start, end in zip(self.offsets, self._ends, strict=True)) < self.size
        self.params: Array = arena.flat[first:last]
        self.weights: list[Array] = self.views(self.params)

    @property
    def version(self) -> int:
        """Counts the times that weights of the arena were set or trained."""
        return self.arena.version

    @version.setter
    def version(self, value: int) -> None:
        self.arena.version = value

    def is_like(self, other: Layout) -> bool:
        """See `Layout.is_like`."""
        return isinstance(other, Stretches) and (self.backend, self.offsets) == (other.backend, other.offsets)

    def zeros(self) -> Array:
        """Return a new flat array of this layout, of zeros."""
        return self.backend.zeros(self.size, self.dtype)

    def full(self, value: float) -> Array:
        """Return a new flat array of this layout, of one number."""
        made = self.zeros()
        if value:
            self.backend.assign(made, np.full(self.size, value, self.dtype))
        return made

    def views(self, flat: Array) -> list[Array]:
        """Return one view into ``flat`` per weight array, in order."""
        return [
            flat[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(self.offsets, self.shapes, strict=True)
        ]

    def get(self, flat: Array | None = None) -> list[Array]:
        """Return copies of the weight arrays, or of those in another array of the layout: if possible in one transfer.

        The caller holds the gate, as for everything that reads or writes weights.
        """
        flat = self.params if flat is None else flat
        if self._gaps:
            return [self.backend.to_host(view) for view in self.views(flat)]
        return self.views(self.backend.to_host(flat))

    def set(self, arrays: Sequence[Array], flat: Array | None = None) -> None:
        """Set all weight arrays, or those in another array of the layout; of the same shapes."""
        self.version += 1
        flat = self.params if flat is None else flat
        if type(flat) is np.ndarray or self._gaps:
            for view, array in zip(self.views(flat), arrays, strict=True):
                self.backend.assign(view, np.asarray(array, self.dtype))
            return
        host = np.zeros(self.size, self.dtype)
        for view, array in zip(self.views(host), arrays, strict=True):
            view[...] = array
        self.backend.assign(flat, host)

    def spans(self, trainable: Sequence[bool]) -> list[slice[int, int, None]]:
        """Return the stretches of the flat array that hold trainable weights: the whole of it where all are."""
        spans: list[slice[int, int, None]] = []
        for start, end, wanted in sorted(zip(self.offsets, self._ends, trainable, strict=True)):
            if wanted and spans and spans[-1].stop == start:
                spans[-1] = slice(spans[-1].start, end)
            elif wanted:
                spans.append(slice(start, end))
        return spans


class Arena:
    """A flat buffer with room for arrays of ``shapes``, one after the other, and the gate to it."""

    def __init__(self, shapes: Iterable[Shape], dtype: DType, backend: Backend | None = None) -> None:
        self.shapes, self.dtype = list(shapes), np.dtype(dtype)
        self.backend: Backend = backend or NumpyBackend()
        step = ALIGNMENT // self.dtype.itemsize
        self.offsets: list[int] = []
        self.ends: list[int] = []
        for shape in self.shapes:
            self.offsets.append(self.ends[-1] if self.ends else 0)
            self.ends.append(self.offsets[-1] + -(-math.prod(shape) // step) * step)
        self.flat = self.backend.zeros(self.ends[-1] if self.ends else 0, self.dtype)
        self.gate, self.version, self.moved = Gate(), 0, False
        self.device: Device | None = None  # chosen by the models that compute with it
        self.tenants: weakref.WeakSet[Layer] = weakref.WeakSet()
        self.users: weakref.WeakSet[Runner] = weakref.WeakSet()  # the Runners that compute with it

    def whole(self) -> Stretches:
        """Return all of it."""
        return Stretches(self, range(len(self.shapes)))


def alone(specs: Iterable[WeightSpec], dtype: DType, backend: Backend | None = None) -> Stretches:
    """Return arrays as ``specs`` say in an arena of their own, zeros, that no layer owns."""
    return Arena([spec.shape for spec in specs], dtype, backend).whole()


class Home:
    """Where a layer's weights stand in an arena: ``count`` arrays from number ``first`` on."""

    def __init__(self, arena: Arena, first: int, count: int) -> None:
        self.arena, self.places = arena, range(first, first + count)

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the arrays."""
        return [self.arena.shapes[i] for i in self.places]

    @property
    def dtype(self) -> DType:
        """The dtype of the arrays."""
        return self.arena.dtype

    def read(self, layer: Layer) -> list[Array]:
        """Return copies of the weights of ``layer``, whose home this is or was."""
        return inside([layer], Stretches.get)

    def write(self, layer: Layer, arrays: Sequence[Array]) -> None:
        """Set the weights of ``layer``, whose home this is or was."""
        apart(lambda: inside([layer], lambda weights: weights.set(arrays)))

    def change(self, layer: Layer, place: int, to: Callable[[Array], object]) -> None:
        """Have one weight array of ``layer`` be what ``to`` returns of it."""

        def put(weights: Stretches) -> None:
            array = weights.weights[place]
            weights.backend.assign(array, np.asarray(to(weights.backend.to_host(array)), weights.dtype))
            weights.version += 1

        apart(lambda: inside([layer], put))


def home_of(layer: Layer) -> Home | None:
    """Return where the weights of ``layer`` stand; None where they are arrays of its own, or not there."""
    return layer.held if isinstance(layer.held, Home) else None


def homes_of(layers: Iterable[Layer]) -> list[Home]:
    """Return where the weights of those ``layers`` are that are in an arena."""
    return [home for layer in layers if (home := home_of(layer)) is not None]


def _together(homes: Sequence[Home]) -> Stretches:
    return Stretches(homes[0].arena, [i for home in homes for i in home.places])


def inside(layers: Sequence[Layer], work: Callable[[Stretches], Result]) -> Result:
    """Return ``work`` of where the weights of ``layers`` stand, all in one arena, done inside its gate."""
    while True:
        homes = homes_of(layers)

        def look(homes: list[Home] = homes) -> tuple[Result] | None:
            return None if homes[0].arena.moved else (work(_together(homes)),)

        if (found := hold((homes[0].arena.gate,), look)) is not None:
            return found[0]


def check_dtype(layers: Iterable[Layer], dtype: DType) -> None:
    """Raise ValueError for layers that have weights of another dtype."""
    for layer in layers:
        held = layer.held if isinstance(layer.held, list) else []
        kinds = [home.arena.dtype for home in homes_of([layer])] + [array.dtype for array in held]
        if any(kind != dtype for kind in kinds):
            raise ValueError(
                f"Layer {layer.name!r} has {kinds[0]} weights, and the model computes in {dtype}: models that share a "
                f"layer compute alike. Make the model with dtype={str(kinds[0])!r}, or use a new layer."
            )


def lay_out(layers: list[Layer], dtype: DType, backend: Backend) -> Stretches:
    """Have the weights of ``layers`` stand in one arena of ``backend``, and return where; the caller holds `layout`.

    Where they do already, nothing is done. Otherwise a new arena takes in theirs and all others of the arenas that they
    stood in. ValueError for weights of another dtype.
    """
    old = {home.arena for home in homes_of(layers)}
    check_dtype(layers, dtype)
    if not layers:
        return Arena((), dtype, backend).whole()
    loose = any(home_of(layer) is None for layer in layers)
    if loose or len(old) != 1 or any(arena.backend is not backend for arena in old):
        _move(layers, old, dtype, backend)
    return _together(homes_of(layers))


def _move(layers: list[Layer], old: set[Arena], dtype: DType, backend: Backend) -> None:
    """Make one arena of ``old`` and of the layers whose weights are arrays of their own; ``layers`` stand first."""
    others = [layer for arena in old for layer in arena.tenants if layer not in layers]
    everybody = [*layers, *others]
    shapes = [layer.weight_shapes for layer in everybody]
    made = Arena([shape for own in shapes for shape in own], dtype, backend)

    def fill() -> None:
        made.whole().set([array for layer in everybody for array in _arrays(layer)])
        for arena in old:
            made.users.update(arena.users)
            arena.moved = True
        first = 0
        for layer, own in zip(everybody, shapes, strict=True):
            layer.held = Home(made, first, len(own))
            made.tenants.add(layer)
            first += len(own)

    hold([arena.gate for arena in old], fill)


def _arrays(layer: Layer) -> list[Array]:
    return layer.held if isinstance(layer.held, list) else _together(homes_of([layer])).get()
