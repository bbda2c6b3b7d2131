"""What an activation is, and the decorator by which one is declared.

`activation` makes of a function of the pre-activations x an `Activation`: what is called on arrays, on symbols in a
formula of a user's own, and what kernels are made of. A new one is a function and its textbook form in the tests. Its
slope is derived; where another form is cheaper, or holds farther out, or needs only the output, ``slope`` has it, of y
or of z, as its argument is called, and the tests hold it against the derived one.

Every value and slope holds for every number: far out it is the limit, also at infinity; NaN gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import config, formulas, tape
from gpumlp.attributes import once
from gpumlp.expressions import Node
from gpumlp.naming import settle
from gpumlp.objectives import Check, axes, defaults, last, looked_at, new_array, some_axes
from gpumlp.ops import Found, Given

Constant: TypeAlias = float | Node  # a constant in a formula: 0 and 1 as they are, others as a symbol
Slope: TypeAlias = Callable[..., Node | float | None]


@dataclass(frozen=True)
class Activation:
    """A function of the pre-activations z[B, O], of each by itself or, as softmax, over a row.

    Parameters
    ----------
    function : callable
        From z, and the constants by name, to y, by `gpumlp.ops`.
    slope : callable, optional
        From y or z, as its argument is called, and the constants to dy/dz; None: it is derived.
    constants : tuple of pairs, optional
        All that the function takes beside z, in its order: each a name and a value. `given` has the same activation
        with others.

    Examples
    --------
    >>> from gpumlp import activations, layers
    >>> steeper = activations.elu.given(alpha=2.0)
    >>> steeper([-100.0, 1.0])
    array([-2.,  1.], dtype=float32)
    >>> layers.Dense(3, activation=steeper, name="first")
    <Dense first: units=3, activation=elu(alpha=2.0)>
    """

    function: Callable[..., Node]
    slope: Slope | None = None
    constants: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        settle(self, __name__=name, __wrapped__=self.function, __doc__=self.function.__doc__)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.__name__  # type: ignore[attr-defined]

    def given(self, **constants: object) -> Activation:
        """Return the activation with other constants.

        Parameters
        ----------
        **constants
            By name, as ``elu.given(alpha=0.5)``; the others are as they were.

        Returns
        -------
        Activation
            Another one.

        Raises
        ------
        TypeError
            For a name that is none of its constants'.
        ValueError
            For a value that a constant cannot have.
        """
        known = dict(self.constants)
        for name in constants:
            if name not in known:
                raise TypeError(f"{self.name} takes {', '.join(known) or 'no constants'}; got {name!r}.")
        checks = _CHECKS.get(self.function, {})
        found = tuple(looked_at(self.name, known, constants, checks).items())
        return self if found == self.constants else Activation(self.function, self.slope, found)

    @overload
    def __call__(self, x: Node, *args: object, **constants: object) -> Node: ...
    @overload
    def __call__(self, x: ArrayLike, *args: object, **constants: object) -> np.ndarray: ...
    def __call__(self, x: Given, *args: object, **constants: object) -> Found:
        """Return f(x), in x's shape.

        Parameters
        ----------
        x : array_like or symbol
            A number or an array of any shape, lists too, or symbols of a formula. float64 stays, everything else
            becomes the default floating-point type. What goes over a row goes over the last axis, or that of the
            constant ``axis``.
        *args, **constants
            Constants in the function's order, or by name.

        Returns
        -------
        ndarray or symbol
            In x's shape.
        """
        constants |= dict(zip(dict(self.constants), args, strict=False))
        if isinstance(x, Node):
            return self.function(x, **dict(self.constants) | constants)
        z, axis = config.floats("x", x), constants.pop("axis", -1)
        if axis != -1:
            return _over(self.given(**constants), z, axis)
        if constants:
            return self.given(**constants)(z)
        if z.ndim == 0 and self.rowwise:
            raise ValueError(f"{self.name} goes over the last axis: x must have one; got the number {z}.")
        rows = z.reshape(math.prod(z.shape[:-1]), *z.shape[-1:]) if z.ndim else z.reshape(1, 1)
        y = np.empty(rows.shape, z.dtype)
        if z.size:
            run = tape.tape(np, self.formula.forward).bind(rows.shape, rows.dtype, new_array)
            with np.errstate(all="ignore"):  # what overflows is infinite
                run(z=rows, y=y, **self.numbers)
        return y.reshape(z.shape)[()]

    def get_config(self) -> dict[str, object]:
        """Return the constants by their Keras names.

        Returns
        -------
        dict
            What `given` takes.
        """
        return dict(self.constants)

    @once
    def formula(self) -> formulas.ActivationFormula:
        """What kernels are made of."""
        return formulas.activation(self.function, self.slope, dict(self.constants))

    @once
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of(dict(self.constants))

    @property
    def retains_input(self) -> bool:
        """Whether z is needed on the way back."""
        return self.formula.retains_input

    @property
    def rowwise(self) -> bool:
        """Whether it goes over the elements of a row, not of each by itself."""
        return self.formula.rowwise

    def __repr__(self) -> str:
        usual = defaults(self.function, 1)
        own = ", ".join(f"{name}={value!r}" for name, value in self.constants if value != usual[name])
        return f"{self.name}({own})" if own else self.name

    def __reduce__(self) -> tuple[object, ...]:
        known = KNOWN.get(self.name)
        if known is not None and known.function is self.function:
            return _restored, (self.name, self.get_config())
        return Activation, (self.function, self.slope, self.constants)


def _restored(name: str, constants: Mapping[str, object]) -> Activation:
    return KNOWN[name].given(**constants)


def _over(activation: Activation, z: np.ndarray, axis: object) -> np.ndarray:
    """Return what goes over rows over another axis, or over several together."""
    along = axes(activation.name, z, some_axes("axis", axis))
    moved = np.moveaxis(z, along, range(-len(along), 0))
    found = activation(last(activation.name, z, along)).reshape(moved.shape)
    return np.moveaxis(found, range(-len(along), 0), along)


KNOWN: dict[str, Activation] = {}
_CHECKS: dict[Callable[..., Node], Mapping[str, Check]] = {}


def activation(
    slope: Slope | None = None, aliases: tuple[str, ...] = (), **checks: Check
) -> Callable[[Callable[..., Node]], Activation]:
    """Return a decorator that makes an Activation of f(x, constants), known by the function's name and ``aliases``.

    ``checks`` are functions by which constants are looked at, of their names and values; see `objectives.looked_at`.
    """

    def decorate(function: Callable[..., Node]) -> Activation:
        found = Activation(function, slope, tuple(defaults(function, 1).items()))
        _CHECKS[function] = checks
        KNOWN.update(dict.fromkeys((function.__name__, *aliases), found))
        return found

    return decorate
