"""First values without random numbers."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import config
from gpumlp.initializers.base import Initializer, Shape
from gpumlp.naming import number
from gpumlp.saving import deserialize_keras_object


class Zeros(Initializer):
    """All zeros.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Zeros()((1, 2))
    array([[0., 0.]], dtype=float32)
    """

    def values(self, shape: Shape) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Ones()((1, 2))
    array([[1., 1.]], dtype=float32)
    """

    def values(self, shape: Shape) -> np.ndarray:
        return np.ones(shape)


def _constant(value: ArrayLike) -> float | np.ndarray:
    value = deserialize_keras_object(value)  # of an array, in a config
    if not np.ndim(value):
        return number("value", value)
    if not np.isfinite(array := config.floats("value", value, "float64")).all():
        raise ValueError(f"value must be of finite numbers; got {value!r}.")
    return array


class Constant(Initializer):
    """One number everywhere, or an array's.

    Parameters
    ----------
    value : float or array_like, default 0.0
        What every element is, or an array that stretches to the shape asked for.

    Raises
    ------
    TypeError, ValueError
        For what are no finite numbers.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Constant(0.5)((1, 2))
    array([[0.5, 0.5]], dtype=float32)
    """

    value: float | np.ndarray

    checks: ClassVar = {"value": _constant}

    def __init__(self, value: ArrayLike = 0.0) -> None:
        self.value = value  # type: ignore[assignment]  # `checks` has it looked at

    def values(self, shape: Shape) -> np.ndarray:
        return np.full(shape, self.value)


class Identity(Initializer):
    """A number on the diagonal of a matrix, and zeros elsewhere.

    Parameters
    ----------
    gain : float, default 1.0
        The number.

    Raises
    ------
    ValueError
        For what is no finite number, and, when it is called, for a shape that is no matrix's.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Identity(2.0)((2, 2))
    array([[2., 0.],
           [0., 2.]], dtype=float32)
    """

    checks: ClassVar = {"gain": functools.partial(number, "gain")}

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def values(self, shape: Shape) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices, of a shape of two sizes; got shape={shape}.")
        return self.gain * np.eye(*shape)
