"""Weight penalties: l1 * sum |w| + l2 * sum w^2, added to the loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpumlp import formulas, ops
from gpumlp.attributes import refuse_overrides
from gpumlp.naming import number, resolve, settle


def _l1_l2(w: Any, l1: Any, l2: Any) -> Any:
    """The penalty of all weights, as one row; a term whose factor is 0 is none: 0 * inf would be NaN."""
    terms = [(l1, lambda: ops.sum(ops.absolute(w), -1)), (l2, lambda: ops.sum(ops.square(w), -1))]
    return sum((factor * term() for factor, term in terms if not (isinstance(factor, float) and factor == 0.0)), 0.0)


@dataclass(frozen=True)
class L1L2:
    """The penalty of one weight array."""

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        settle(self, l1=number("l1", self.l1, 0.0), l2=number("l2", self.l2, 0.0))

    @property
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.penalty(_l1_l2, {"l1": self.l1, "l2": self.l2})

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of({"l1": self.l1, "l2": self.l2})

    def penalty(self, xp: Any, w: Any, dw: Any | None, scratch: Any) -> float:
        """Return the penalty of ``w`` and add its gradient to ``dw`` unless that is None."""
        work, total = scratch(0, w.shape, w.dtype), 0.0
        if self.l1:
            xp.absolute(w, out=work)
            total += self.l1 * float(xp.sum(work))
            if dw is not None:
                xp.sign(w, out=work)
                xp.multiply(work, self.l1, out=work)
                xp.add(dw, work, out=dw)
        if self.l2:
            flat = w.reshape(-1)
            total += self.l2 * float(xp.dot(flat, flat))
            if dw is not None:
                xp.multiply(w, 2.0 * self.l2, out=work)
                xp.add(dw, work, out=dw)
        return total


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
KNOWN: dict[str, type[L1L2]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}


def get(identifier: object) -> L1L2 | None:
    """Return the regularizer for a name, an `L1L2`, a class, a config dict or None; ValueError or TypeError else."""
    found: L1L2 | None = None if identifier is None else resolve("regularizer", identifier, KNOWN, L1L2)
    refuse_overrides(type(found), ("penalty", "__call__"))
    return found
