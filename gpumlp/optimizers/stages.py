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
import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from gpumlp import formulas, ops, tape
from gpumlp.expressions import Node

Array: TypeAlias = np.ndarray  # or a device's, which is called alike
Rule: TypeAlias = Callable[..., Mapping[str, Node]]
Norms: TypeAlias = Callable[[ModuleType, "Sequence[Array]"], tuple[list[float], float]]


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
OF_STAGES = GATHERED, AVERAGE, "updates", "micro_steps", "take", "overwrites"  # what a rule does not take


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
def gather(g: Node, gradient_accumulator: Node, updates: Node, micro_steps: Node) -> dict[str, Node]:
    """Add g to what is gathered; g is the mean of it, an update's where ``updates`` is 1; then 0 is gathered."""
    total = gradient_accumulator + g
    return {"g": total / micro_steps, GATHERED: _where(updates, 0.0, total)}


def average(w: Node, average: Node, take: Node, overwrites: Node) -> dict[str, Node]:
    """Go towards w by ``take``, which is 1 at first; where ``overwrites`` is 1, w is replaced."""
    average = average + (w - average) * take
    return {"w": _where(overwrites, average, w), AVERAGE: average}


def step_along(w: Node, g: Node) -> dict[str, Node]:
    """Take what a rule of the array library has made of g from w."""
    return {"w": w - g}


def _where(condition: Node, a: Node | float, b: Node) -> Node:
    return cast(Node, ops.where(condition, a, b))


@functools.lru_cache(maxsize=512)
def decayed(rule: Rule, clips: bool = False) -> Rule:
    """Return a rule with the clipping and decay that come before it; the same function each time."""

    def update(w: Node, g: Node, decay: Node, clipvalue: Node | float = 0.0, **rest: Node) -> Mapping[str, Node]:
        return rule(w=decay * w, g=ops.clip(g, -clipvalue, clipvalue) if clips else g, **rest)

    return update


@functools.lru_cache(maxsize=512)
def whole(rule: Rule, clips: bool, gathers: bool, averages: bool) -> Rule:
    """Return all stages as one formula; the same function each time."""
    inner = decayed(rule, clips)
    if not gathers and not averages:
        return inner

    def update(w: Node, g: Node, **given: Node) -> dict[str, Node]:
        found: dict[str, Node] = {}
        if gathers:
            found = gather(g, given[GATHERED], given["updates"], given["micro_steps"])
            g = found.pop("g")
        new = dict(inner(w=w, g=g, **{name: value for name, value in given.items() if name not in OF_STAGES}))
        if gathers:
            before = {"w": w, **given}
            new = {name: _where(given["updates"], value, before[name]) for name, value in new.items()}
        found |= new
        return found | (average(found["w"], given[AVERAGE], given["take"], given["overwrites"]) if averages else {})

    return update


# ---- by the array library --------------------------------------------------------------------------------------------
def scale_for(norm: float, limit: float) -> float:
    """Return what gradients of this norm are multiplied by, so that it is ``limit`` at most."""
    return float(limit / np.maximum(norm, limit))


def square_sum(xp: ModuleType, a: Array) -> float:
    """Return the sum of squares, in double: the squares of float32 may be too large for it."""
    return float(xp.sum(xp.square(a, dtype=np.float64)))


def norms(xp: ModuleType, grads: Sequence[Array]) -> tuple[list[float], float]:
    """Return the norm of each array, and that of all together."""
    found = [math.sqrt(square_sum(xp, g)) for g in grads]
    return found, together(found)


def together(norms: Sequence[float]) -> float:
    """Return the norm of all arrays that have these norms."""
    return math.sqrt(sum(norm * norm for norm in norms))


def clip(
    xp: ModuleType, grads: Sequence[Array], clipvalue: float | None, clipnorm: float | None,
    global_clipnorm: float | None, norms: Norms = norms,
) -> None:  # fmt: skip
    """Clip gradients where they are."""
    if clipvalue:
        for g in grads:
            xp.clip(g, -clipvalue, clipvalue, out=g)
    elif clipnorm or global_clipnorm:
        each, norm = norms(xp, grads)
        if clipnorm:
            scales = [scale_for(one, clipnorm) for one in each]
        else:  # NaN in place of all where it is not finite
            scales = [scale_for(norm, global_clipnorm or 0.0) + (norm - norm)] * len(grads)
        for g, scale in zip(grads, scales, strict=True):
            xp.multiply(g, scale, out=g)


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
