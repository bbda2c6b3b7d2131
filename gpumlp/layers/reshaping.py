"""Layers that change the shape of samples, and the order of their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp.layers.base import Layer, Shape


def _format(value: Any) -> str:
    if value not in (None, "channels_last", "channels_first"):
        raise ValueError(f'data_format must be "channels_last" or "channels_first"; got {value!r}.')
    return str(value or "channels_last")


class Flatten(Layer):
    """Samples of any shape become samples of one axis: by default, or "channels_last", in the order of their numbers.

    With ``data_format`` "channels_first" their first axis is taken to be the last.
    """

    checks: ClassVar = {**Layer.checks, "data_format": _format}

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        self.data_format = data_format
        super().__init__(**kwargs)

    def result_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


def _target(value: Any) -> Shape:
    sizes = tuple(value) if hasattr(value, "__iter__") else ()
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and (n > 0 or n == -1) for n in sizes)
    if not sizes or not whole or sizes.count(-1) > 1:
        raise ValueError(
            f"target_shape must be a tuple of sizes without the batch, one of which may be -1, what is left for it; "
            f"got {value!r}."
        )
    return tuple(map(int, sizes))


class Reshape(Layer):
    """Samples of another shape, ``target_shape``: one of its sizes may be -1, what is left for it."""

    checks: ClassVar = {**Layer.checks, "target_shape": _target}

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        self.target_shape: Shape = target_shape  # type: ignore[assignment]
        super().__init__(**kwargs)

    def result_shape(self, shape: Shape) -> Shape:
        given, size = math.prod(n for n in self.target_shape if n != -1), math.prod(shape)
        rest = size // given if -1 in self.target_shape else 1
        if given * rest != size or not rest:
            raise ValueError(
                f"Reshape layer {self.name!r}: the total size must be unchanged; got samples of shape {shape}, "
                f"{size} numbers, for target_shape={self.target_shape}."
            )
        return tuple(rest if n == -1 else n for n in self.target_shape)


def _dims(value: Any) -> Shape:
    dims = tuple(value)
    if sorted(dims) != list(range(1, len(dims) + 1)):
        raise ValueError(
            f"Invalid permutation argument `dims`: it must have the axes of a sample, counted from 1, in another "
            f"order. Received dims={value!r}"
        )
    return tuple(map(int, dims))


class Permute(Layer):
    """Samples whose axes are in the order ``dims``, counted from 1."""

    checks: ClassVar = {**Layer.checks, "dims": _dims}

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        self.dims: Shape = dims  # type: ignore[assignment]
        super().__init__(**kwargs)

    def result_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.dims):
            raise ValueError(
                f"Permute layer {self.name!r} of dims={self.dims} takes samples of {len(self.dims)} axes; got samples "
                f"of shape {shape}."
            )
        return tuple(shape[i - 1] for i in self.dims)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"Expected an integer value for `n`, got {type(value)}.")
    if value < 1:
        raise ValueError(f"Argument `n` should be a positive integer. Received: n={value}")
    return int(value)


class RepeatVector(Layer):
    """A sample of shape (features,) ``n`` times: (n, features)."""

    checks: ClassVar = {**Layer.checks, "n": _count}

    def __init__(self, n: int, **kwargs: Any) -> None:
        self.n = n
        super().__init__(**kwargs)

    def result_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                f"RepeatVector layer {self.name!r} takes samples of one axis; got samples of shape {shape}. Put a "
                "Flatten() before it."
            )
        return (self.n, *shape)
