"""What an update is made of beside an optimizer's own rule: formulas, each a function that stands once.

    gather      with gradient_accumulation_steps: gradients are added up; every so many steps their mean is one
    clip        clipvalue; clipnorm and global_clipnorm need a sum over an array, or over all
    decay       w becomes ``decay`` w (weight_decay, decoupled: Loshchilov & Hutter 2017)
    rule        the optimizer's own
    average     with use_ema: a moving average of the weights, which replaces them now and then

Where no sum is needed, `whole` makes one formula of all that are wanted, which every backend has a kernel of. Where one
is, they follow each other, an array of weights at a time, by the array library (`Optimizer.update_each`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from gpumlp import formulas, ops, tape
from gpumlp.expressions import Node

Array: TypeAlias = np.ndarray  # or a device's, which is called alike
Symbol: TypeAlias = Node | float
Rule: TypeAlias = Callable[..., Mapping[str, Symbol]]


class Assigned(Protocol):
    """What is read as an array, and can be assigned: a variable of gpumlp's, or of another library's."""

    def __array__(self) -> np.ndarray: ...

    def assign(self, value: np.ndarray, /) -> object: ...


Assignable: TypeAlias = np.ndarray | Assigned


class Library(Protocol):
    """An array library, and work arrays: what a backend has, or `on_arrays.Host`."""

    @property
    def xp(self) -> ModuleType: ...

    def scratch(self, index: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array: ...


GATHERED, AVERAGE = "gradient_accumulator", "average"  # the state arrays of gathering and averaging


class Variable(NamedTuple):
    """An array of weights with its gradient and state, of one shape, all of which an update writes."""

    path: str  # of its layer and its own name: "dense/kernel"
    w: Array
    g: Array
    slots: dict[str, Array]
    of: Assignable | None = None  # the array that `apply` was given

    @property
    def name(self) -> str:
        """The weights' own name."""
        return self.path.rpartition("/")[2]


# ---- formulas --------------------------------------------------------------------------------------------------------
def gather(g: Symbol, gradient_accumulator: Symbol, updates: Symbol, micro_steps: Symbol) -> dict[str, Symbol]:
    """Add g to what is gathered; g is the mean of it, an update's where ``updates`` is 1; then 0 is gathered."""
    total = gradient_accumulator + g
    return {"g": total / micro_steps, GATHERED: ops.where(updates, 0.0, total)}


def average(w: Symbol, average: Symbol, take: Symbol, overwrites: Symbol) -> dict[str, Symbol]:
    """Go towards w by ``take``, which is 1 at first; where ``overwrites`` is 1, w is replaced."""
    average = average + (w - average) * take
    return {"w": ops.where(overwrites, average, w), AVERAGE: average}


def clip_value(g: Symbol, clipvalue: Symbol) -> Symbol:
    """Hold each element of g between -clipvalue and clipvalue."""
    return ops.clip(g, -clipvalue, clipvalue)


def step_along(w: Symbol, g: Symbol) -> dict[str, Symbol]:
    """Take what a rule of the array library has made of g from w."""
    return {"w": w - g}


@functools.lru_cache(maxsize=512)
def decayed(rule: Rule, clips: bool = False) -> Rule:
    """Return a rule with the clipping and decay that come before it; the same function each time."""

    def update(w: Symbol, g: Symbol, decay: Symbol, clipvalue: Symbol = 0.0, **rest: Symbol) -> Mapping[str, Symbol]:
        return rule(w=decay * w, g=clip_value(g, clipvalue) if clips else g, **rest)

    return update


@functools.lru_cache(maxsize=512)
def whole(rule: Rule, slots: tuple[str, ...], clips: bool, gathers: bool, averages: bool) -> Rule:
    """Return all stages as one formula; the same function each time. ``slots`` are the rule's own."""
    inner = decayed(rule, clips)
    if not gathers and not averages:
        return inner

    def update(
        w: Symbol, g: Symbol, gradient_accumulator: Symbol = 0.0, average: Symbol = 0.0, updates: Symbol = 1.0,
        micro_steps: Symbol = 1.0, take: Symbol = 1.0, overwrites: Symbol = 0.0, **rest: Symbol,
    ) -> dict[str, Symbol]:  # fmt: skip
        found: dict[str, Symbol] = {}
        if gathers:
            found = gather(g, gradient_accumulator, updates, micro_steps)
            g = found.pop("g")
        new = inner(w=w, g=g, **rest)
        if gathers:
            before = {"w": w, **{name: rest[name] for name in slots}}
            new = {name: ops.where(updates, value, before[name]) for name, value in new.items()}
        found |= new
        return found | (_average(found["w"], average, take, overwrites) if averages else {})

    return update


_average = average


# ---- by the array library --------------------------------------------------------------------------------------------
def scale_for(norm: float, limit: float) -> float:
    """Return what gradients of this norm are multiplied by, so that it is ``limit`` at most."""
    return float(limit / np.maximum(norm, limit))


def square_sum(xp: ModuleType, a: Array) -> float:
    """Return the sum of squares, in double: the squares of float32 may be too large for it."""
    return float(xp.sum(xp.square(a, dtype=np.float64)))


def run(
    on: Library,
    function: Rule,
    arrays: Mapping[str, Array],
    numbers: Mapping[str, float],
    constants: Mapping[str, object],
) -> None:
    """Compute a formula over arrays of one shape, each of which takes what becomes of it; sums go over all of it.

    ``on`` has the array library ``xp``, and work arrays, ``scratch``, as a backend has.
    """
    rows = {name: array.reshape(1, -1) for name, array in arrays.items()}
    formula = formulas.traced(function, tuple(arrays), tuple(numbers), constants)
    (like, *_) = rows.values()
    calls = tape.tape(on.xp, formula).bind(like.shape, like.dtype, on.scratch)
    calls(**rows, **numbers, **formulas.numbers_of(constants))
