"""Layers that change the shape of samples, and the order of their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from gpumlp.layers.base import Layer
from gpumlp.layers.checks import DType, Shape, ShapeLike
from gpumlp.literals import RegularizerLike

DataFormat: TypeAlias = Literal["channels_last", "channels_first"] | None


def _format(value: object) -> str:
    if value not in (None, "channels_last", "channels_first"):
        raise ValueError(f'data_format must be "channels_last" or "channels_first"; got {value!r}.')
    return str(value or "channels_last")


class Flatten(Layer):
    """Samples of any shape become samples of one axis.

    Parameters
    ----------
    data_format : str, optional
        "channels_last", as by default: in the order of their numbers; "channels_first": their first axis is taken to be
        the last.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Of no effect here: there are no weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    ValueError
        For another ``data_format``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Flatten()(np.zeros((5, 28, 28))).shape
    (5, 784)
    """

    data_format: str

    checks: ClassVar = {**Layer.checks, "data_format": _format}

    def __init__(
        self, data_format: DataFormat = None, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(data_format=data_format)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def result_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


def _target(value: Iterable[int] | object) -> Shape:
    sizes = tuple(value) if isinstance(value, Iterable) else ()
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and (n > 0 or n == -1) for n in sizes)
    if not sizes or not whole or sizes.count(-1) > 1:
        raise ValueError(
            f"target_shape must be a tuple of sizes without the batch, one of which may be -1, what is left for it; "
            f"got {value!r}."
        )
    return tuple(map(int, sizes))


class Reshape(Layer):
    """Samples of another shape, with the same numbers in the same order.

    Parameters
    ----------
    target_shape : tuple of int
        The shape of a sample, without the batch; one size may be -1: what is left for it.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Of no effect here: there are no weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    ValueError
        For what is no shape, and, when it is built, for samples of another size.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Reshape((2, -1))(np.zeros((5, 6))).shape
    (5, 2, 3)
    """

    target_shape: Shape

    checks: ClassVar = {**Layer.checks, "target_shape": _target}

    def __init__(
        self, target_shape: Sequence[int], *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(target_shape=target_shape)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def result_shape(self, shape: Shape) -> Shape:
        given, size = math.prod(n for n in self.target_shape if n != -1), math.prod(shape)
        rest = size // given if -1 in self.target_shape else 1
        if given * rest != size or not rest:
            raise ValueError(
                f"Reshape layer {self.name!r}: the total size must be unchanged; got samples of shape {shape}, "
                f"{size} numbers, for target_shape={self.target_shape}."
            )
        return tuple(rest if n == -1 else n for n in self.target_shape)


def _dims(value: Iterable[int]) -> Shape:
    dims = tuple(value)
    if sorted(dims) != list(range(1, len(dims) + 1)):
        raise ValueError(
            f"Invalid permutation argument `dims`: it must have the axes of a sample, counted from 1, in another "
            f"order. Received dims={value!r}"
        )
    return tuple(map(int, dims))


class Permute(Layer):
    """Samples whose axes are in another order.

    Parameters
    ----------
    dims : tuple of int
        The axes of a sample in their new order, counted from 1.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Of no effect here: there are no weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    ValueError
        For what is no order of axes, and, when it is built, for samples with others.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Permute((2, 1))(np.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """

    dims: Shape

    checks: ClassVar = {**Layer.checks, "dims": _dims}

    def __init__(
        self, dims: Sequence[int], *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(dims=dims)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def result_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.dims):
            raise ValueError(
                f"Permute layer {self.name!r} of dims={self.dims} takes samples of {len(self.dims)} axes; got samples "
                f"of shape {shape}."
            )
        return tuple(shape[i - 1] for i in self.dims)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"Expected an integer value for `n`, got {type(value)}.")
    if value < 1:
        raise ValueError(f"Argument `n` should be a positive integer. Received: n={value}")
    return int(value)


class RepeatVector(Layer):
    """A sample of one axis several times: (features,) becomes (n, features).

    Parameters
    ----------
    n : int
        How many times, at least 1.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Of no effect here: there are no weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    TypeError, ValueError
        For what is no whole number above 0, and, when it is built, for samples of more axes.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.RepeatVector(3)(np.zeros((5, 2))).shape
    (5, 3, 2)
    """

    n: int

    checks: ClassVar = {**Layer.checks, "n": _count}

    def __init__(
        self, n: int, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(n=n)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def result_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                f"RepeatVector layer {self.name!r} takes samples of one axis; got samples of shape {shape}. Put a "
                "Flatten() before it."
            )
        return (self.n, *shape)
