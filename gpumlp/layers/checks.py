"""What layers are given, looked at: shapes, whole numbers, what first weights and penalties are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from gpumlp import initializers, regularizers
from gpumlp.initializers import Initializing
from gpumlp.literals import FloatName, InitializerLike, RegularizerLike

Shape = tuple[int, ...]
ShapeLike: TypeAlias = int | Sequence[int] | None  # of one sample, as a person gives it
DType: TypeAlias = FloatName | str | np.dtype | type[np.floating] | Mapping[str, object] | None


def whole_number(name: str, value: object, low: int = 1) -> int:
    """Return ``value`` as an int; TypeError or ValueError, naming it, unless it is a whole number >= ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number >= {low}; got {value!r}.")
    if value < low:
        raise ValueError(f"{name} must be a whole number >= {low}; got {value!r}.")
    return int(value)


def without_batch(value: object) -> object:
    """Return a shape without its first size, the batch, as Keras's ``build`` takes it; ValueError for that alone."""
    if isinstance(value, (tuple, list)):
        if len(value) < 2:
            raise ValueError(
                f"the input shape must have the batch first and then the shape of a sample, such as (None, 4); got "
                f"{value!r}."
            )
        return tuple(value[1:])
    return value


def feature_shape(value: object) -> Shape:
    """Return the shape of one sample from an ``input_shape``; a single int counts as (int,)."""
    sizes = (value,) if isinstance(value, (int, np.integer)) else value
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise TypeError(f"the input shape must be a tuple of sizes without the batch, such as (1,); got {value!r}.")
    return tuple(whole_number("each size of the input shape", s) for s in sizes)


def sample_shape(value: object) -> Shape:
    """Return the shape of one sample from one with the batch first; an array of one axis has samples without any."""
    alone = isinstance(value, (tuple, list)) and len(value) == 1
    return () if alone else feature_shape(without_batch(value))


def initializer_of(value: InitializerLike) -> Initializing:
    """Return what makes first values; None stands for Glorot's, as Keras has it, of a bias too."""
    return initializers.get("glorot_uniform") if value is None else initializers.get(value)


def penalty_of_bias(value: RegularizerLike) -> regularizers.Regularizer | None:
    """Return a penalty, or None; ValueError for one of rows or columns, which a bias has not."""
    found = regularizers.get(value)
    if found is not None and not found.by_formula:
        raise ValueError(f"{type(found).__name__} is of a kernel's rows or columns; a bias has neither.")
    return found
