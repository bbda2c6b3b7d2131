"""Weight penalties, added to the loss: each a function of all weights of an array, by `gpumlp.ops`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpumlp import config, formulas, ops
from gpumlp.expressions import Node
from gpumlp.naming import is_function, number, resolve, settle


class Regularizer:
    """Base of penalties: ``__call__`` gives the one of a weight array, by `gpumlp.ops`, as in Keras."""

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

    def get_config(self) -> dict[str, Any]:
        """Return the constants by their Keras names."""
        return self.constants


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
        settle(self, l1=number("l1", self.l1, 0.0), l2=number("l2", self.l2, 0.0))

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


l1, l2, l1_l2 = L1, L2, L1L2
KNOWN: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}


def get(identifier: object) -> Regularizer | None:
    """Return the regularizer for a name, a class, an instance, a config dict, a user's function, or None.

    ValueError or TypeError for anything else, and for what is not made of gpumlp.ops.
    """
    if identifier is None:
        return None
    if is_function(identifier, Regularizer):
        found: Regularizer = _Function(identifier)
    else:
        found = resolve("regularizer", identifier, KNOWN, Regularizer)
    found.formula  # noqa: B018  what cannot be traced is told here
    return found
