"""Weight penalties, added to the loss: each a function of all weights of an array, by `gpumlp.ops`."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias, overload

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.expressions import Node
from gpumlp.literals import RegularizerLike
from gpumlp.naming import is_function, listing, number, resolve, settle
from gpumlp.saving import Configured, read_by, serialize_keras_object

__all__ = [
    "L1", "L1L2", "L2", "OrthogonalRegularizer", "Regularizer", "deserialize", "get", "l1", "l1_l2", "l2",
    "orthogonal_regularizer", "serialize",
]  # fmt: skip
__dir__ = listing(__name__)

Penalty: TypeAlias = ops.Found | float
EPSILON = 1e-7  # Keras's epsilon: a norm below it counts as it


class Regularizer(Configured):
    """Base of penalties: called with an array of weights, one returns a number that is added to the loss.

    One of a user's own has a method ``__call__(self, x)``, by `gpumlp.ops`: it is called with a symbol, and kernels are
    made of what it returns.

    Examples
    --------
    >>> from gpumlp import layers, ops, regularizers
    >>> class Fourth(regularizers.Regularizer):
    ...     def __call__(self, x):
    ...         return 0.1 * ops.sum(ops.square(ops.square(x)))
    >>> Fourth()([1.0, 2.0]).round(6)
    np.float32(1.7)
    >>> layers.Dense(3, kernel_regularizer=Fourth(), name="first")
    <Dense first: units=3, kernel_regularizer=Fourth()>
    """

    by_formula: ClassVar[bool] = True  # or else `by_library`

    def __call__(self, x: ops.Given) -> Penalty:
        """Return the penalty.

        Parameters
        ----------
        x : array_like or symbol
            The weights.

        Returns
        -------
        number or symbol
            One number of all of them.
        """
        raise TypeError(f"{type(self).__name__} needs a method __call__(self, x), of gpumlp.ops.")

    @property
    def rule(self) -> Callable[..., Penalty]:
        """The formula, of the weights and the constants."""
        return self.__call__

    @property
    def constants(self) -> dict[str, object]:
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

    def by_library(self, xp: types.ModuleType, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalty and its gradient by an array library, where there is no formula."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class _Function(Regularizer):
    """A penalty that is a user's function."""

    function: Callable[..., Penalty]

    def __call__(self, x: ops.Given) -> Penalty:
        return self.function(x)

    @property
    def rule(self) -> Callable[..., Penalty]:
        return self.function


def _l1_l2(w: ops.Found, l1: float | Node, l2: float | Node) -> Penalty:
    """The penalty of all weights; a term whose factor is 0 is none: 0 * inf would be NaN."""
    terms = [(l1, lambda: ops.sum(ops.absolute(w))), (l2, lambda: ops.sum(ops.square(w)))]
    found = [ops.multiply(factor, term()) for factor, term in terms if not formulas.is_zero(factor)]
    return functools.reduce(ops.add, found) if found else 0.0


@dataclass(frozen=True, repr=False, init=False)
class L1L2(Regularizer):
    """The penalty l1 * sum abs(w) + l2 * sum w^2.

    Parameters
    ----------
    l1 : float, default 0.0
        The factor of the sum of abs(w), at least 0.
    l2 : float, default 0.0
        The factor of the sum of squares, at least 0.

    Raises
    ------
    ValueError
        For a factor below 0, and for what is no finite number.

    Examples
    --------
    >>> from gpumlp import regularizers
    >>> regularizers.L1L2(l1=1.0, l2=0.5)([1.0, -2.0])
    np.float32(5.5)
    """

    l1: float
    l2: float

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        given = {"l1": l1, "l2": l2}
        settle(self, **{name: number(name, 0.0 if value is None else value, 0.0) for name, value in given.items()})

    def __call__(self, x: ops.Given) -> Penalty:
        return _l1_l2(x if isinstance(x, Node) else config.floats("x", x), self.l1, self.l2)

    @property
    def rule(self) -> Callable[..., Penalty]:
        return _l1_l2 if self.constants else self.__call__

    @property
    def constants(self) -> dict[str, object]:
        own = type(self).__call__ is not L1L2.__call__  # a user's class
        return {} if own else {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """The penalty l1 * sum abs(w), which makes weights 0 (lasso, Tibshirani 1996).

    Parameters
    ----------
    l1 : float, default 0.01
        The factor of the sum of abs(w), at least 0.

    Raises
    ------
    ValueError
        For a factor below 0, and for what is no finite number.

    Examples
    --------
    >>> from gpumlp import regularizers
    >>> regularizers.L1(1.0)([1.0, -2.0])
    np.float32(3.0)
    """

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=0.01 if l1 is None else l1)


class L2(L1L2):
    """The penalty l2 * sum w^2, which makes weights small (ridge, Hoerl & Kennard 1970).

    Parameters
    ----------
    l2 : float, default 0.01
        The factor of the sum of squares, at least 0.

    Raises
    ------
    ValueError
        For a factor below 0, and for what is no finite number.

    Examples
    --------
    >>> from gpumlp import regularizers
    >>> regularizers.L2(1.0)([1.0, -2.0])
    np.float32(5.0)
    """

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=0.01 if l2 is None else l2)


@dataclass(frozen=True, repr=False, init=False)
class OrthogonalRegularizer(Regularizer):
    """The penalty factor * mean abs(cos), over all pairs of a kernel's rows, or of its columns.

    Parameters
    ----------
    factor : float, default 0.01
        At least 0.
    mode : {"rows", "columns"}, default "rows"
        What is to be orthogonal to each other: the weights from each input, or those into each unit.

    Raises
    ------
    ValueError
        For a factor below 0, for another mode, and, when it is called, for an array that is no matrix.

    Notes
    -----
    cos is that of the angle between two rows, w_i . w_j / (norm(w_i) * norm(w_j)), a length below 1e-7 counting as it.
    It goes over products of rows, so it is no formula of kernels: the array library computes it, and biases cannot have
    it.

    Examples
    --------
    >>> from gpumlp import regularizers
    >>> penalty = regularizers.OrthogonalRegularizer(1.0)
    >>> penalty([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]).round(4)
    np.float32(0.3333)
    """

    by_formula: ClassVar = False
    factor: float
    mode: Literal["rows", "columns"]

    def __init__(self, factor: float = 0.01, mode: Literal["rows", "columns"] = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ValueError(
                f'Invalid value for argument `mode`. Expected one of {{"rows", "columns"}}. Received: mode={mode}'
            )
        settle(self, factor=number("factor", factor, 0.0), mode=mode)

    def __call__(self, inputs: ops.Given) -> Penalty:
        if isinstance(inputs, Node):
            raise TypeError("OrthogonalRegularizer multiplies rows with each other: no formula can have it as a part.")
        w = config.floats("inputs", inputs)
        return w.dtype.type(self.by_library(np, w)[0])

    def by_library(self, xp: types.ModuleType, w: np.ndarray) -> tuple[float, np.ndarray]:
        """See `Regularizer.by_library`."""
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


@overload
def get(identifier: None) -> None: ...
@overload
def get(identifier: str | Callable[..., object] | Mapping[str, object]) -> Regularizer: ...
def get(identifier: RegularizerLike) -> Regularizer | None:
    """Return the regularizer that is meant.

    Parameters
    ----------
    identifier : str, Regularizer, class, callable, dict or None
        A name; an object or a class; a function of an array of weights, by `gpumlp.ops`; or a config dict.

    Returns
    -------
    Regularizer or None
        None for None.

    Raises
    ------
    ValueError
        For an unknown name, and for values that a class does not take.
    TypeError
        For anything else, and for what is not made of `gpumlp.ops`.

    Examples
    --------
    >>> from gpumlp import regularizers
    >>> regularizers.get("l2")
    L2(l2=0.01)
    """
    if identifier is None:
        return None
    found = resolve("regularizer", identifier, KNOWN, Regularizer, callables=True)
    made: Regularizer = _Function(found) if is_function(found, Regularizer) else found
    if made.by_formula:
        made.formula  # noqa: B018  what cannot be traced is told here
    return made


class _Backend(Protocol):
    """What `apply` asks of a backend."""

    @property
    def xp(self) -> types.ModuleType: ...

    def penalty(self, regularizer: Regularizer, w: np.ndarray, dw: np.ndarray | None) -> float: ...


def apply(regularizer: Regularizer, backend: _Backend, w: np.ndarray, dw: np.ndarray | None) -> float:
    """Return the penalty of weights on a backend, and add its gradient to ``dw`` unless that is None."""
    if regularizer.by_formula:
        return float(backend.penalty(regularizer, w, dw))
    value, slope = regularizer.by_library(backend.xp, w)
    if dw is not None:
        dw += slope
    return value


def serialize(regularizer: object) -> dict[str, object]:
    """Return the config of a regularizer.

    Parameters
    ----------
    regularizer : Regularizer or callable
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
    >>> from gpumlp import regularizers
    >>> regularizers.serialize(regularizers.L2(0.1))["config"]
    {'l2': 0.1}
    """
    return serialize_keras_object(regularizer.function if isinstance(regularizer, _Function) else regularizer)


deserialize = read_by("keras.regularizers", get)
