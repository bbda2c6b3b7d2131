"""What losses and metrics share: a function of targets and predictions, by which a class is described.

`objective` makes a formula a function of arrays, too, as Keras's functions are: a value for each sample. `Described`
is the base of classes whose constructors take the function's constants beside the class's own arguments.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from gpumlp import config, formulas, tape
from gpumlp.expressions import Node
from gpumlp.naming import flag, neutral, number
from gpumlp.ops.kinds import Found
from gpumlp.signatures import Named, shown

Check = Callable[[str, object], object]
Values: TypeAlias = Found  # what a formula computes with, and gives: symbols, or arrays
Rule: TypeAlias = Callable[..., Values]
Function = TypeVar("Function", bound=Rule)
Axes: TypeAlias = int | Sequence[int] | None  # one axis, several, or None for all


# ---- constants -------------------------------------------------------------------------------------------------------
def defaults(function: Callable[..., object], first: int) -> dict[str, object]:
    """Return the defaults of a function's parameters after the ``first`` ones."""
    return {name: p.default for name, p in list(inspect.signature(function).parameters.items())[first:]}


def looked_at(
    owner: str, defaults: Mapping[str, object], given: Mapping[str, object], checks: Mapping[str, Check]
) -> dict[str, object]:
    """Return all constants by name: those given, looked at, and the defaults of the others.

    What has no check of its own is a finite number where the default is one, True or False where it is that, and else
    may be the default alone.
    """
    found = dict(defaults)
    for name, value in given.items():
        default = defaults[name]
        if name in checks:
            found[name] = checks[name](name, value)
        elif isinstance(default, bool):
            found[name] = flag(name, value)
        elif isinstance(default, float):
            found[name] = number(name, value)
        else:
            neutral(owner, **{name: (value, default)})
    return found


def within(low: float, high: float = math.inf, above: bool = False) -> Check:
    """Return a check for a number in [low, high], with ``above`` in (low, high]."""
    return lambda name, value: number(name, value, low, high, above)


def an_axis(name: str, value: object) -> int:
    """A check for one axis."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"`axis` must be of type `int`. Received: axis={value!r} of type {type(value)}.")
    return int(value)


def some_axes(name: str, value: object) -> Axes:
    """A check for one axis, several, or None for all."""
    if isinstance(value, (tuple, list)):
        return tuple(an_axis(name, v) for v in value)
    return None if value is None else an_axis(name, value)


# ---- functions -------------------------------------------------------------------------------------------------------
def objective(
    sparse: bool = False, broadcasts: bool = True, elementwise: bool = False, places: bool = False, **checks: Check
) -> Callable[[Function], Function]:
    """Return a decorator for formulas f(y_true, y_pred, constants), by which they take arrays of any shape as well.

    Parameters
    ----------
    sparse : bool
        Whether targets are class numbers, one a sample.
    broadcasts : bool
        Whether arrays of different shapes are broadcast, as Keras's regression losses do and its others do not.
    elementwise : bool
        Whether it is a mean of what each output gives alone, which weights of single outputs can apply to.
    places : bool
        Whether of arrays that mean is not taken: there is a value for each place.
    **checks
        By a constant's name the function that looks at it, of its name and value.
    """

    def decorate(function: Function) -> Function:
        name, constants = function.__name__, defaults(function, 2)

        @functools.wraps(function)
        def of_arrays(y_true: Values, y_pred: Values, *args: object, **given: object) -> Values:
            if isinstance(y_true, Node) or isinstance(y_pred, Node):
                return function(y_true, y_pred, *args, **given)
            bound = inspect.signature(function).bind(y_true, y_pred, *args, **given).arguments
            given = constants | {k: v for k, v in bound.items() if k in constants}
            if places:
                both = same_rank(config.floats("y_true", y_true), config.floats("y_pred", y_pred))
                y_true, y_pred = (array[..., None] for array in both)
            return values(of_arrays, looked_at(name, constants, given, checks), y_true, y_pred)

        vars(of_arrays).update(sparse=sparse, broadcasts=broadcasts, elementwise=elementwise, checks=checks)
        return of_arrays  # type: ignore[return-value]

    return decorate


def values(
    function: Rule, constants: Mapping[str, object], y_true: object, y_pred: object, dtype: object = None
) -> np.ndarray:
    """Return a formula's value for each place of the axes but the last, which has a sample's outputs.

    The constant ``axis`` may name another one, or several, or None for all. Where two arrays differ by one axis, a last
    axis of size 1 comes or goes. ValueError, TypeError if the shapes do not go together, or the values are no numbers.
    """
    return sums(function, constants, y_true, y_pred, dtype)[0]


def sums(
    function: Rule, constants: Mapping[str, object], y_true: object, y_pred: object, dtype: object = None
) -> np.ndarray:
    """Return all that a formula gives, each as `values` does, [sums, ...]."""
    name = getattr(function, "__name__", "a function")
    sparse, broadcasts = getattr(function, "sparse", False), getattr(function, "broadcasts", True)
    axis = constants.get("axis", -1)
    p = config.floats("y_pred", y_pred, dtype)
    t, p = same_rank(config.floats("y_true", y_true, p.dtype), p)
    if p.ndim == 0 and t.ndim == 0 and axis is not None:
        raise ValueError(f"{name} goes over the last axis: y_true and y_pred must have one; got two numbers.")
    if sparse:
        t, p = _class_numbers(name, t, p, axis, constants.get("ignore_class"))
    elif broadcasts:
        shape = common_shape(name, y_true=t, y_pred=p)
        t, p = np.broadcast_to(t, shape), np.broadcast_to(p, shape)
    elif t.shape != p.shape:
        raise ValueError(f"{name}: y_true and y_pred must have the same shape; got {t.shape}, {p.shape}.")
    if not sparse:
        t, p = (last(name, a, axis) for a in (t, p))
    if p.shape[-1] == 0:
        raise ValueError(f"{name} is a mean over outputs; y_pred of shape {p.shape} has none.")
    formula, rows = formulas.metric(function, constants, sparse), math.prod(p.shape[:-1])
    found, flat = np.empty((len(formula.names), *p.shape[:-1]), p.dtype), p.reshape(rows, p.shape[-1])
    roots = dict(zip(formula.names, found.reshape(len(found), rows, 1), strict=True))
    run = tape.tape(np, formula).bind(flat.shape, flat.dtype, new_array)
    with np.errstate(all="ignore"):  # what overflows is infinite
        numbers = formulas.numbers_of(constants)
        run(t=t.reshape(rows, t.shape[-1]), p=flat, **roots, **numbers)
    return found


def _class_numbers(
    name: str, t: np.ndarray, p: np.ndarray, axis: object, ignored: object
) -> tuple[np.ndarray, np.ndarray]:
    """Return class numbers with an axis of one number in the place of the classes, which come last, and ``p`` so."""
    moved, (place,) = last(name, p, axis), axes(name, p, axis)
    labels = np.squeeze(t, place) if t.ndim == p.ndim and t.shape[place] == 1 else t
    if labels.shape != moved.shape[:-1]:
        raise ValueError(
            f"{name}: y_true and y_pred must have the same shape up to y_pred's last axis, the classes; "
            f"got {t.shape}, {p.shape}."
        )
    good = (labels >= 0) & (labels < moved.shape[-1]) & (labels == np.floor(labels))
    if ignored is not None:
        good |= labels == ignored
    if not good.all():
        raise ValueError(
            f"{name}: y_true must hold class numbers 0 to {moved.shape[-1] - 1}; got {labels[~good].flat[0]:g}."
        )
    return labels[..., None], moved


def axes(name: str, array: np.ndarray, axis: object) -> tuple[int, ...]:
    """Return one or several axes of an array, or with None all, as numbers from 0; ValueError where there is none."""
    given = tuple(range(array.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    good = all(isinstance(a, (int, np.integer)) and -array.ndim <= a < array.ndim for a in given)
    found = tuple(int(a) % array.ndim for a in given) if good else ()
    if axis is not None and (not found or len(set(found)) < len(found)):
        raise ValueError(f"{name}: axis must be one, or several, of {array.ndim} axes; got {axis!r}.")
    return found


def last(name: str, array: np.ndarray, axis: object) -> np.ndarray:
    """Return the array with one axis, or several as one, behind all others."""
    found = axes(name, array, axis)
    kept = [size for i, size in enumerate(array.shape) if i not in found]
    return np.moveaxis(array, found, range(-len(found), 0)).reshape(*kept, math.prod(array.shape[i] for i in found))


def new_array(index: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """Return a work array that nobody else has."""
    return np.empty(shape, dtype)


def same_rank(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both of the same rank where one has a last axis of size 1 too many: (n, 1) to (n,), else taken away."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return (a, b[:, None]) if b.ndim == 1 else (a[..., 0], b)
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return (a[:, None], b) if a.ndim == 1 else (a, b[..., 0])
    return a, b


def common_shape(name: str, **arrays: np.ndarray) -> tuple[int, ...]:
    """Return the shape that arrays have together; ValueError where they do not go together."""
    shapes = {key: a.shape for key, a in arrays.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ValueError(f"{name}: the shapes do not go together: {listed}.") from None


# ---- classes ---------------------------------------------------------------------------------------------------------
class OfTargets(Named):
    """What is computed of targets and predictions: how many targets a sample has, and copies with other arguments."""

    rows = False  # whether targets are one number a row, though not class numbers

    @property
    def sparse(self) -> bool:
        """Whether targets are class numbers."""
        return False

    def target_width(self, width: int) -> int:
        """Return how many numbers a sample's targets are, for so many outputs."""
        return 1 if self.sparse or self.rows else width

    def changed(self, **arguments: object) -> Self:
        """Return it with other arguments, which have been looked at."""
        other = copy.copy(self)
        other.__dict__.update(arguments)
        return other


class Described(OfTargets):
    """Base of losses and of metrics: arguments that are given once, of which some are the constants of a function.

    A class of the package is ``class Huber(Loss, function=huber)``, with a `constructor` that takes the function's
    constants, too. It is in its base's ``known`` by the function's name and by ``aliases``. A user's class has its
    formula in a method, ``call``.
    """

    known: ClassVar[dict[str, type[Described]]]
    arguments: ClassVar[tuple[str, ...]] = ()  # of the constructor, in its order
    constant_defaults: ClassVar[Mapping[str, object]] = {}
    default_name: ClassVar[str] = ""
    function: ClassVar[Rule | None] = None
    name: str

    def __init_subclass__(
        cls, function: Rule | None = None, aliases: tuple[str, ...] = (), name: str = "", **kwargs: object
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.arguments = tuple(getattr(vars(cls).get("__init__"), "names", cls.arguments))
        if function is None:
            return
        cls.function, cls.default_name = staticmethod(function), name or function.__name__
        cls.constant_defaults = defaults(function, 2)
        vars(function)["kind"] = {**getattr(function, "kind", {}), cls.__base__: cls}
        for known in (cls.default_name, *aliases):
            cls.known[known] = cls

    def _recognized(self, given: dict[str, object]) -> dict[str, object]:
        return given

    def _take(self, arguments: dict[str, object]) -> None:
        given = {k: arguments.get(k, default) for k, default in self.constant_defaults.items()}
        checks = getattr(self.function, "checks", {})
        found = looked_at(type(self).__name__, self.constant_defaults, given, checks)
        self.__dict__.update(self._looked_at({**arguments, **found}))

    def _looked_at(self, arguments: dict[str, object]) -> dict[str, object]:
        """Return the arguments, the class's own looked at."""
        return arguments

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.arguments and name in self.__dict__:
            raise AttributeError(f"{name} of a {type(self).__name__} is given when it is made: make another one.")
        super().__setattr__(name, value)

    @property
    def rule(self) -> Rule:
        """The formula, a function of targets and predictions: the package's, or a user's ``call``."""
        return self.function if self.function is not None else self.call

    def call(self, y_true: Values, y_pred: Values) -> Values:
        """Return what it is of targets and predictions; a class of a user's own has its formula here.

        Parameters
        ----------
        y_true : symbol or numpy.ndarray, shape (batch, outputs)
            Targets.
        y_pred : symbol or numpy.ndarray, shape (batch, outputs)
            Predictions.

        Returns
        -------
        symbol or numpy.ndarray
            A number for each sample, or for each output, of which the mean is taken; by `gpumlp.ops`.
        """
        raise TypeError(f"{type(self).__name__} needs a method call(self, y_true, y_pred), of gpumlp.ops.")

    @property
    def sparse(self) -> bool:
        """Whether targets are class numbers of shape (B, 1)."""
        return getattr(self.function, "sparse", False)

    @property
    def constants(self) -> dict[str, object]:
        """What the formula takes beside targets and predictions."""
        return {name: getattr(self, name) for name in self.constant_defaults}

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of(self.constants)

    @property
    def own(self) -> bool:
        """Whether the formula is a user's."""
        return not self.constant_defaults and getattr(self.function, "kind", None) is None

    def for_targets(self, given: int, width: int) -> Self:
        """Return it for targets of ``given`` numbers a sample: a user's formula takes one for all outputs, too."""
        return self.changed(rows=True) if self.own and given == 1 != width else self

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            All but the dtype.
        """
        found = {k: getattr(self, k) for k in self.arguments if k != "dtype"}
        of_numbers = {k for k, default in self.constant_defaults.items() if isinstance(default, float)}
        return {k: float(value) if k in of_numbers else value for k, value in found.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Return a new one, as `get_config` has described it.

        Parameters
        ----------
        config : Mapping
            The constructor's arguments by name.

        Returns
        -------
        object of the class
            Equal to the one described.
        """
        return cls(**config)

    def __getstate__(self) -> dict[str, object]:
        """Return what it is made of, without what is found out from that."""
        return {k: v for k, v in self.__dict__.items() if k != "formula"}

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.function, *(getattr(self, k) for k in self.arguments), self.rows)

    def __eq__(self, other: object) -> bool:
        if self.own or type(self) is not type(other):
            return self is other
        return self._key() == other._key()

    def __hash__(self) -> int:
        return id(self) if self.own else hash(self._key())

    def __repr__(self) -> str:
        return shown(self, self.constant_defaults)
