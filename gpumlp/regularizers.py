"""Weight penalties, added to the loss: each a function of all weights of an array, by `gpumlp.ops`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.expressions import Node
from gpumlp.naming import is_function, number, resolve, settle
from gpumlp.saving import Configured, read_by, serialize_keras_object

Array = Any
EPSILON = 1e-7  # Keras's epsilon: a norm below it counts as it


class Regularizer(Configured):
    """Base of penalties: ``__call__`` gives the one of a weight array, by `gpumlp.ops`, as in Keras."""

    by_formula: ClassVar[bool] = True  # or else `by_library`

    def __call__(self, x: Any) -> Any:
        """Return the penalty of the weights x: one number of all of them."""
        raise TypeError(f"{type(self).__name__} needs a method __call__(self, x), of gpumlp.ops.")

    @property
    def rule(self) -> Callable[..., Any]:
        """The formula, of the weights and the constants."""
        return self.__call__

    @property
    def constants(self) -> dict[str, Any]:
        """What the formula takes beside the weights."""
        return {}

    @property
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.penalty(self.rule, self.constants)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of(self.constants)

    def by_library(self, xp: Any, w: Array) -> tuple[float, Array]:
        """Return the penalty and its gradient by an array library, where there is no formula."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Function(Regularizer):
    """A penalty that is a user's function."""

    function: Callable[..., Any]

    def __call__(self, x: Any) -> Any:
        return self.function(x)

    @property
    def rule(self) -> Callable[..., Any]:
        return self.function


def _l1_l2(w: Any, l1: Any, l2: Any) -> Any:
    """The penalty of all weights; a term whose factor is 0 is none: 0 * inf would be NaN."""
    terms = [(l1, lambda: ops.sum(ops.absolute(w))), (l2, lambda: ops.sum(ops.square(w)))]
    return sum((factor * term() for factor, term in terms if not formulas.is_zero(factor)), 0.0)


@dataclass(frozen=True)
class L1L2(Regularizer):
    """The penalty l1 * sum |w| + l2 * sum w^2."""

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            value = getattr(self, name)
            settle(self, **{name: number(name, getattr(type(self), name) if value is None else value, 0.0)})

    def __call__(self, x: Any) -> Any:
        return _l1_l2(x if isinstance(x, Node) else config.floats("x", x), self.l1, self.l2)

    @property
    def rule(self) -> Callable[..., Any]:
        return _l1_l2 if self.constants else self.__call__

    @property
    def constants(self) -> dict[str, Any]:
        own = type(self).__call__ is not L1L2.__call__  # a user's class
        return {} if own else {"l1": self.l1, "l2": self.l2}


@dataclass(frozen=True)
class L1(L1L2):
    """The penalty l1 * sum |w|."""

    l1: float = 0.01
    l2: float = field(default=0.0, init=False)


@dataclass(frozen=True)
class L2(L1L2):
    """The penalty l2 * sum w^2."""

    l1: float = field(default=0.0, init=False)
    l2: float = 0.01


@dataclass(frozen=True)
class OrthogonalRegularizer(Regularizer):
    """The penalty factor * mean |cos|, over all pairs of a kernel's rows, or with mode "columns" of its columns.

    It goes over products of rows, so it is no formula of kernels: the array library computes it.
    """

    by_formula: ClassVar = False
    factor: float = 0.01
    mode: str = "rows"

    def __post_init__(self) -> None:
        settle(self, factor=number("factor", self.factor, 0.0))
        if self.mode not in ("rows", "columns"):
            raise ValueError(
                f'Invalid value for argument `mode`. Expected one of {{"rows", "columns"}}. Received: mode={self.mode}'
            )

    def __call__(self, inputs: Any) -> Any:
        if isinstance(inputs, Node):
            raise TypeError("OrthogonalRegularizer multiplies rows with each other: no formula can have it as a part.")
        w = config.floats("inputs", inputs)
        return w.dtype.type(self.by_library(np, w)[0])

    def by_library(self, xp: Any, w: Array) -> tuple[float, Array]:
        if w.ndim != 2:
            raise ValueError(f"Inputs to OrthogonalRegularizer must have rank 2. Received: inputs.shape={w.shape}")
        rows = w if self.mode == "rows" else w.T
        count = len(rows)
        if count < 2:
            return 0.0, xp.zeros_like(w)
        norms = xp.sqrt((rows * rows).sum(axis=1, keepdims=True))
        unit = rows / xp.maximum(norms, EPSILON)
        cosines = (unit @ unit.T) * (1.0 - xp.eye(count, dtype=w.dtype))
        share = self.factor / (count * (count - 1) / 2)
        slope = share * (xp.sign(cosines) @ unit)
        along = xp.where(norms > EPSILON, (slope * unit).sum(axis=1, keepdims=True), 0.0)
        slope = (slope - along * unit) / xp.maximum(norms, EPSILON)
        return 0.5 * share * float(xp.abs(cosines).sum()), slope if self.mode == "rows" else slope.T


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer
KNOWN: dict[str, type[Regularizer]] = {
    "l1": L1, "l2": L2, "l1_l2": L1L2, "orthogonal_regularizer": OrthogonalRegularizer,
}  # fmt: skip


def get(identifier: object) -> Regularizer | None:
    """Return the regularizer for a name, a class, an instance, a config dict, a user's function, or None.

    ValueError or TypeError for anything else, and for what is not made of gpumlp.ops.
    """
    if identifier is None:
        return None
    found: Any = resolve("regularizer", identifier, KNOWN, Regularizer, callables=True)
    found = _Function(found) if is_function(found, Regularizer) else found
    if found.by_formula:
        found.formula  # noqa: B018  what cannot be traced is told here
    return found


def apply(regularizer: Regularizer, backend: Any, w: Array, dw: Array | None) -> float:
    """Return the penalty of weights on a backend, and add its gradient to ``dw`` unless that is None."""
    if regularizer.by_formula:
        return float(backend.penalty(regularizer, w, dw))
    value, slope = regularizer.by_library(backend.xp, w)
    if dw is not None:
        dw += slope
    return value


def serialize(regularizer: Any) -> Any:
    """Return a regularizer as `get` takes it: a dict, or for a user's function what it is registered by."""
    return serialize_keras_object(regularizer.function if isinstance(regularizer, _Function) else regularizer)


deserialize = read_by("keras.regularizers", get)
