"""Constraints: what weights are made to be after each step, as norms of a limited size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from gpumlp.literals import ConstraintLike
from gpumlp.naming import listing, number, resolve
from gpumlp.saving import Configured, read_by, serialize_keras_object

__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get", "max_norm", "maxnorm",
    "min_max_norm", "non_neg", "nonneg", "serialize", "unit_norm", "unitnorm",
]  # fmt: skip
__dir__ = listing(__name__)

Axes = int | Sequence[int]
Constraining: TypeAlias = Callable[[np.ndarray], ArrayLike]  # of an array of weights: what they become
EPSILON = 1e-7  # Keras's epsilon: a norm of 0 is divided by


class Constraint(Configured):
    """Base of constraints: called with an array of weights, one returns what they become; here what they were.

    One of a user's own has a method ``__call__(self, w)``, from a NumPy array to an array of its shape. It is called
    after each step.

    Examples
    --------
    >>> from gpumlp import constraints, layers
    >>> class AtMostOne(constraints.Constraint):
    ...     def __call__(self, w):
    ...         return w.clip(-1.0, 1.0)
    >>> layers.Dense(3, kernel_constraint=AtMostOne(), name="first")
    <Dense first: units=3, kernel_constraint=AtMostOne()>
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return w


def _array(w: ArrayLike) -> np.ndarray:
    """Return ``w`` as an array: one of any array library stays what it is, and computes by its own methods."""
    return w if hasattr(w, "dtype") else np.asarray(w)  # type: ignore[return-value]  # or CuPy's


def _axis(value: object) -> object:
    axes = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) for axis in axes):
        raise ValueError(f"axis must be a whole number, or a list of them; got {value!r}.")
    return value


class _OfNorms(Constraint):
    """Has the norms along ``axis`` be what `wanted` says."""

    checks: ClassVar = {"axis": _axis}
    axis: Axes = 0

    def __call__(self, w: np.ndarray) -> np.ndarray:
        w = _array(w)
        axes = tuple(self.axis) if isinstance(self.axis, (list, tuple)) else self.axis
        norms = (w * w).sum(axis=axes, keepdims=True) ** 0.5
        return w * (self.wanted(norms) / (EPSILON + norms))

    def wanted(self, norms: np.ndarray) -> np.ndarray | float:
        """Return what the norms are to be."""
        raise NotImplementedError


class MaxNorm(_OfNorms):
    """Euclidean norms of at most a number: longer weights are scaled down.

    Parameters
    ----------
    max_value : float, default 2
        The largest norm, at least 0.
    axis : int or list of int, default 0
        What a norm goes over; 0 of a Dense kernel: the weights into each unit.

    Raises
    ------
    ValueError
        For a negative max_value, and for what is no axis.

    Notes
    -----
    w * min(norm, max_value) / (1e-7 + norm), as in Keras (Srivastava et al. 2014).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import constraints
    >>> constraints.MaxNorm(2.5)(np.array([[3.0], [4.0]])).round(3)
    array([[1.5],
           [2. ]])
    """

    checks: ClassVar = {**_OfNorms.checks, "max_value": functools.partial(number, "max_value", low=0.0)}

    def __init__(self, max_value: float = 2, axis: Axes = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def wanted(self, norms: np.ndarray) -> np.ndarray:
        return norms.clip(0.0, self.max_value)


class UnitNorm(_OfNorms):
    """Euclidean norms of 1.

    Parameters
    ----------
    axis : int or list of int, default 0
        What a norm goes over; 0 of a Dense kernel: the weights into each unit.

    Raises
    ------
    ValueError
        For what is no axis.

    Notes
    -----
    w / (1e-7 + norm), as in Keras.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import constraints
    >>> constraints.UnitNorm()(np.array([[3.0], [4.0]])).round(3)
    array([[0.6],
           [0.8]])
    """

    def __init__(self, axis: Axes = 0) -> None:
        self.axis = axis

    def wanted(self, norms: np.ndarray) -> np.ndarray | float:
        return 1.0


class MinMaxNorm(_OfNorms):
    """Euclidean norms between two numbers.

    Parameters
    ----------
    min_value : float, default 0.0
        The smallest norm, at least 0.
    max_value : float, default 1.0
        The largest norm, at least 0.
    rate : float, default 1.0
        What part of the way to there a step takes.
    axis : int or list of int, default 0
        What a norm goes over; 0 of a Dense kernel: the weights into each unit.

    Raises
    ------
    ValueError
        For a negative limit, and for what is no axis.

    Notes
    -----
    w * (rate * clip(norm, min_value, max_value) + (1 - rate) * norm) / (1e-7 + norm), as in Keras.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import constraints
    >>> constraints.MinMaxNorm(0.0, 1.0, rate=0.5)(np.array([[3.0], [4.0]])).round(3)
    array([[1.8],
           [2.4]])
    """

    checks: ClassVar = {
        **_OfNorms.checks, "rate": functools.partial(number, "rate"),
        **{name: functools.partial(number, name, low=0.0) for name in ("min_value", "max_value")},
    }  # fmt: skip

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axes = 0) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def wanted(self, norms: np.ndarray) -> np.ndarray:
        return self.rate * norms.clip(self.min_value, self.max_value) + (1.0 - self.rate) * norms


class NonNeg(Constraint):
    """No weight below 0: such a one becomes 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import constraints
    >>> constraints.NonNeg()(np.array([-1.0, 2.0])).round(3)
    array([0., 2.])
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return _array(w).clip(0, None)


KNOWN: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm, "min_max_norm": MinMaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm, "constraint": Constraint,
}  # fmt: skip
max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm
maxnorm, nonneg, unitnorm = MaxNorm, NonNeg, UnitNorm  # of Keras 1 and 2


@overload
def get(identifier: None) -> None: ...
@overload
def get(identifier: str | Callable[..., object] | Mapping[str, object]) -> Constraining: ...
def get(identifier: ConstraintLike) -> Constraining | None:
    """Return the constraint that is meant.

    Parameters
    ----------
    identifier : str, Constraint, class, callable, dict or None
        A name; an object or a class; a function of an array of weights; or a config dict.

    Returns
    -------
    callable or None
        What weights are made to be, of an array of them; None for None.

    Raises
    ------
    ValueError
        For an unknown name, and for values that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import constraints
    >>> constraints.get("non_neg")
    NonNeg()
    """
    return None if identifier is None else resolve("constraint", identifier, KNOWN, Constraint, callables=True)


def serialize(constraint: object) -> dict[str, object]:
    """Return the config of a constraint.

    Parameters
    ----------
    constraint : Constraint or callable
        What `get` returns.

    Returns
    -------
    dict or str
        What `deserialize` makes the same of; see `gpumlp.saving`.

    Raises
    ------
    TypeError
        For a function without a name.

    Examples
    --------
    >>> from gpumlp import constraints
    >>> constraints.serialize(constraints.MaxNorm(3.0))["config"]
    {'max_value': 3.0, 'axis': 0}
    """
    return serialize_keras_object(constraint)


deserialize = read_by("keras.constraints", get)


def name_of(constraint: Constraining) -> str:
    """Return what to call a constraint."""
    return getattr(constraint, "__name__", type(constraint).__name__)


class _Backend(Protocol):
    """What `apply` asks of a backend."""

    def to_host(self, array: np.ndarray, /) -> np.ndarray: ...

    def assign(self, array: np.ndarray, values: np.ndarray, /) -> None: ...


def apply(constraint: Constraining, backend: _Backend, w: np.ndarray) -> None:
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
