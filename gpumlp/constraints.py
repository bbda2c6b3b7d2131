"""Constraints: what weights are made to be after each step, as norms of a limited size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp.naming import number, resolve
from gpumlp.saving import Configured, read_by, serialize_keras_object

Array = Any
Axes = int | Sequence[int]
EPSILON = 1e-7  # Keras's epsilon: a norm of 0 is divided by


class Constraint(Configured):
    """Called with an array of weights, one returns what they become: here what they were.

    One of a user's own has a method ``__call__(self, w)``, from a NumPy array to an array of its shape.
    """

    def __call__(self, w: Array) -> Array:
        return w


def _array(w: Any) -> Array:
    """Return ``w`` as an array: one of any array library stays what it is, and computes by its own methods."""
    return w if hasattr(w, "dtype") else np.asarray(w)


def _axis(value: Any) -> Any:
    axes = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) for axis in axes):
        raise ValueError(f"axis must be a whole number, or a list of them; got {value!r}.")
    return value


class _OfNorms(Constraint):
    """Has the norms along ``axis`` be what `wanted` says."""

    checks: ClassVar = {"axis": _axis}
    axis: Axes = 0

    def __call__(self, w: Array) -> Array:
        w = _array(w)
        axes = tuple(self.axis) if isinstance(self.axis, (list, tuple)) else self.axis
        norms = (w * w).sum(axis=axes, keepdims=True) ** 0.5
        return w * (self.wanted(norms) / (EPSILON + norms))

    def wanted(self, norms: Array) -> Array:
        """Return what the norms are to be."""
        raise NotImplementedError


class MaxNorm(_OfNorms):
    """Norms along ``axis`` of at most ``max_value``; axis 0 of a Dense kernel: of the weights into each unit."""

    checks: ClassVar = {**_OfNorms.checks, "max_value": functools.partial(number, "max_value", low=0.0)}

    def __init__(self, max_value: float = 2, axis: Axes = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def wanted(self, norms: Array) -> Array:
        return norms.clip(0.0, self.max_value)


class UnitNorm(_OfNorms):
    """Norms along ``axis`` of 1."""

    def __init__(self, axis: Axes = 0) -> None:
        self.axis = axis

    def wanted(self, norms: Array) -> Array:
        return 1.0


class MinMaxNorm(_OfNorms):
    """Norms along ``axis`` within ``min_value`` and ``max_value``; a ``rate`` below 1 takes that part of the way."""

    checks: ClassVar = {
        **_OfNorms.checks, "rate": functools.partial(number, "rate"),
        **{name: functools.partial(number, name, low=0.0) for name in ("min_value", "max_value")},
    }  # fmt: skip

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axes = 0) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def wanted(self, norms: Array) -> Array:
        return self.rate * norms.clip(self.min_value, self.max_value) + (1.0 - self.rate) * norms


class NonNeg(Constraint):
    """No weight below 0: such a one becomes 0."""

    def __call__(self, w: Array) -> Array:
        return _array(w).clip(0, None)


KNOWN: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm, "min_max_norm": MinMaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm, "constraint": Constraint,
}  # fmt: skip
max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm
maxnorm, nonneg, unitnorm = MaxNorm, NonNeg, UnitNorm  # of Keras 1 and 2


def get(identifier: Any) -> Any:
    """Return the constraint for a name, a class or instance of `Constraint`, or a config dict; None is None.

    A function of an array of weights is one itself. ValueError or TypeError for anything else.
    """
    return None if identifier is None else resolve("constraint", identifier, KNOWN, Constraint, callables=True)


def serialize(constraint: Any) -> Any:
    """Return the config dict of a constraint; see `gpumlp.saving`."""
    return serialize_keras_object(constraint)


deserialize = read_by("keras.constraints", get)


def name_of(constraint: Callable[[Array], Array]) -> str:
    """Return what to call a constraint."""
    return getattr(constraint, "__name__", type(constraint).__name__)


def apply(constraint: Callable[[Array], Array], backend: Any, w: Array) -> None:
    """Have ``w``, an array of ``backend``'s, become what ``constraint`` makes of it.

    Ours computes by the backend's array library. A user's own is given NumPy's on every device. ValueError where it
    returns no numbers of that shape.
    """
    if getattr(type(constraint).__call__, "__module__", None) == __name__:
        w[...] = constraint(w)
        return
    found = np.asarray(constraint(backend.to_host(w)))
    if found.shape != w.shape or found.dtype.kind not in "biuf":
        raise ValueError(
            f"the constraint {name_of(constraint)} must return numbers of shape {w.shape}; got {found.dtype} of shape "
            f"{found.shape}."
        )
    backend.assign(w, found.astype(w.dtype, copy=False))
