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
from typing import Any, NamedTuple

import numpy as np

from gpumlp import formulas, ops, tape

Array = Any
Rule = Callable[..., dict[str, Any]]
GATHERED, AVERAGE = "gradient_accumulator", "average"  # the state arrays of gathering and averaging


class Variable(NamedTuple):
    """An array of weights with its gradient and state, of one shape, all of which an update writes."""

    path: str  # of its layer and its own name: "dense/kernel"
    w: Array
    g: Array
    slots: dict[str, Array]
    of: Any = None  # the array that `apply` was given

    @property
    def name(self) -> str:
        """The weights' own name."""
        return self.path.rpartition("/")[2]


# ---- formulas --------------------------------------------------------------------------------------------------------
def gather(g: Any, gradient_accumulator: Any, updates: Any, micro_steps: Any) -> dict[str, Any]:
    """Add g to what is gathered; g is the mean of it, an update's where ``updates`` is 1; then 0 is gathered."""
    total = gradient_accumulator + g
    return {"g": total / micro_steps, GATHERED: ops.where(updates, 0.0, total)}


def average(w: Any, average: Any, take: Any, overwrites: Any) -> dict[str, Any]:
    """Go towards w by ``take``, which is 1 at first; where ``overwrites`` is 1, w is replaced."""
    average = average + (w - average) * take
    return {"w": ops.where(overwrites, average, w), AVERAGE: average}


def clip_value(g: Any, clipvalue: Any) -> Any:
    """Hold each element of g between -clipvalue and clipvalue."""
    return ops.clip(g, -clipvalue, clipvalue)


def step_along(w: Any, g: Any) -> dict[str, Any]:
    """Take what a rule of the array library has made of g from w."""
    return {"w": w - g}


@functools.lru_cache(maxsize=512)
def decayed(rule: Rule, clips: bool = False) -> Rule:
    """Return a rule with the clipping and decay that come before it; the same function each time."""

    def update(w: Any, g: Any, decay: Any, clipvalue: Any = None, **rest: Any) -> dict[str, Any]:
        return rule(w=decay * w, g=clip_value(g, clipvalue) if clips else g, **rest)

    return update


@functools.lru_cache(maxsize=512)
def whole(rule: Rule, slots: tuple[str, ...], clips: bool, gathers: bool, averages: bool) -> Rule:
    """Return all stages as one formula; the same function each time. ``slots`` are the rule's own."""
    inner = decayed(rule, clips)
    if not gathers and not averages:
        return inner

    def update(
        w: Any, g: Any, gradient_accumulator: Any = None, average: Any = None, updates: Any = None,
        micro_steps: Any = None, take: Any = None, overwrites: Any = None, **rest: Any,
    ) -> dict[str, Any]:  # fmt: skip
        found: dict[str, Any] = {}
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


def square_sum(xp: Any, a: Array) -> float:
    """Return the sum of squares, in double: the squares of float32 may be too large for it."""
    return float(xp.sum(xp.square(a, dtype=np.float64)))


def run(
    on: Any, function: Rule, arrays: Mapping[str, Array], numbers: Mapping[str, float], constants: Mapping[str, Any]
) -> None:
    """Compute a formula over arrays of one shape, each of which takes what becomes of it; sums go over all of it.

    ``on`` has the array library ``xp``, and work arrays, ``scratch``, as a backend has.
    """
    rows = {name: array.reshape(1, -1) for name, array in arrays.items()}
    formula = formulas.traced(function, tuple(arrays), tuple(numbers), constants)
    (like, *_) = rows.values()
    calls = tape.tape(on.xp, formula).bind(like.shape, like.dtype, on.scratch)
    calls(**rows, **numbers, **formulas.numbers_of(constants))
