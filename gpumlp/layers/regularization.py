"""Layers that change training alone: what they drop or add is a function of their key and the step."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import ClassVar

from gpumlp import random, regularizers
from gpumlp.layers.base import Layer
from gpumlp.layers.checks import DType, Shape, ShapeLike, whole_number
from gpumlp.literals import RegularizerLike
from gpumlp.naming import number


def _noise_shape(value: Iterable[int | None] | None) -> tuple[int | None, ...] | None:
    if value is None:
        return None
    wrong = "Invalid value received for argument `noise_shape`. Expected "
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{wrong}a tuple or list of integers. Received: noise_shape={value!r}")
    sizes = tuple(value)
    for i, size in enumerate(sizes):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
            raise ValueError(
                f"{wrong}all elements to be integers or None. Received element at index {i}: {size} "
                f"(type: {type(size).__name__})"
            )
        if size is not None and size < 1:
            raise ValueError(
                f"{wrong}all dimensions to be positive integers or None. Received negative or zero value at index "
                f"{i}: {size}"
            )
    return sizes


class OfNoise(Layer):
    """Base of layers that draw: from ``seed``, or from what the package's random numbers give when it is None."""

    noise_shape: tuple[int | None, ...] | None = None  # of what is drawn, batch first, None: as many as there are
    key: int

    @property
    def seed(self) -> int | None:
        """What its key is made of; when it is set, the layer draws anew from it."""
        return self._seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        if value is not None and whole_number("seed", value, 0) >= 1 << 64:
            raise ValueError(f"seed must be a whole number below 2**64; got {value!r}.")
        self._seed = None if value is None else int(value)
        self.key = random.key() if value is None else int(value)

    def result_shape(self, shape: Shape) -> Shape:
        noise = self.noise_shape
        if noise is not None:
            good = [n in (None, 1, of) for n, of in zip(noise[1:], shape, strict=False)]
            if len(noise) != len(shape) + 1 or not all(good):
                raise ValueError(
                    f"noise_shape of layer {self.name!r} must go with a batch of samples of shape {shape}, "
                    f"{(None, *shape)}, with 1 where the numbers along an axis share one; got {noise}."
                )
        return shape


class Dropout(OfNoise):
    """In training, zero each element with probability ``rate`` and divide the others by 1 - rate.

    So the mean stays what it is (Srivastava et al. 2014). Otherwise x as it is.

    Parameters
    ----------
    rate : float
        The probability, 0 to 1.
    noise_shape : tuple of int, optional
        The shape of what is drawn, the batch first: along an axis where it is 1, elements share one number. None, and
        None in it: as many as there are.
    seed : int, optional
        What is drawn from, 0 to 2**64 - 1; None: the package's random numbers, which ``utils.set_random_seed`` seeds.
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
        For a rate outside that, and for a seed that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layer = layers.Dropout(0.5, seed=1)
    >>> layer(np.ones((1, 4)))
    array([[1., 1., 1., 1.]], dtype=float32)
    >>> sorted(set(layer(np.ones((100, 4)), training=True).ravel().tolist()))
    [0.0, 2.0]
    """

    rate: float
    checks: ClassVar = {
        **OfNoise.checks, "rate": functools.partial(number, "rate", low=0.0, high=1.0), "noise_shape": _noise_shape,
    }  # fmt: skip
    unread: ClassVar = {**OfNoise.unread, "p": "Use rate."}

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None,
        *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(rate=rate, noise_shape=noise_shape, seed=seed)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class AlphaDropout(OfNoise):
    """Dropout for selu, after which mean and variance are what they were (Klambauer et al. 2017).

    In training, with probability ``rate`` an element becomes selu's limit far below 0, and all are scaled and moved.

    Parameters
    ----------
    rate : float
        The probability, 0 to below 1.
    noise_shape : tuple of int, optional
        The shape of what is drawn, the batch first: along an axis where it is 1, elements share one number. None, and
        None in it: as many as there are.
    seed : int, optional
        What is drawn from, 0 to 2**64 - 1; None: the package's random numbers, which ``utils.set_random_seed`` seeds.
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
        For a rate outside that, and for a seed that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> x = np.random.default_rng(0).standard_normal((1000, 100))
    >>> y = layers.AlphaDropout(0.2, seed=1)(x, training=True)
    >>> bool(abs(y.mean()) < 0.01 and abs(y.std() - 1.0) < 0.01)
    True
    """

    rate: float
    checks: ClassVar = {
        **OfNoise.checks, "rate": functools.partial(number, "rate", low=0.0, high=1.0, below=True),
        "noise_shape": _noise_shape,
    }  # fmt: skip

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None,
        *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(rate=rate, noise_shape=noise_shape, seed=seed)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class GaussianNoise(OfNoise):
    """In training, add normal numbers of mean 0.

    Parameters
    ----------
    stddev : float
        Their standard deviation, 0 to 1, in the unit of the inputs.
    seed : int, optional
        What is drawn from, 0 to 2**64 - 1; None: the package's random numbers, which ``utils.set_random_seed`` seeds.
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
        For a stddev outside that, and for a seed that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layer = layers.GaussianNoise(0.1, seed=1)
    >>> y = layer(np.zeros((1000, 10)), training=True)
    >>> round(float(y.std()), 2)
    0.1
    """

    stddev: float
    checks: ClassVar = {**OfNoise.checks, "stddev": functools.partial(number, "stddev", low=0.0, high=1.0)}

    def __init__(
        self, stddev: float, seed: int | None = None, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(stddev=stddev, seed=seed)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class GaussianDropout(OfNoise):
    """In training, multiply by normal numbers of mean 1 and variance rate / (1 - rate) (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        As `Dropout`'s, which has the same mean and variance: 0 to below 1.
    seed : int, optional
        What is drawn from, 0 to 2**64 - 1; None: the package's random numbers, which ``utils.set_random_seed`` seeds.
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
        For a rate outside that, and for a seed that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layer = layers.GaussianDropout(0.5, seed=1)
    >>> y = layer(np.ones((1000, 10)), training=True)
    >>> round(float(y.mean()), 1), round(float(y.std()), 1)
    (1.0, 1.0)
    """

    rate: float
    checks: ClassVar = {**OfNoise.checks, "rate": functools.partial(number, "rate", low=0.0, high=1.0, below=True)}

    def __init__(
        self, rate: float, seed: int | None = None, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(rate=rate, seed=seed)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class ActivityRegularization(Layer):
    """x, whose penalty l1 * sum abs(x) + l2 * sum x^2, divided by the batch's size, is added to the loss.

    Parameters
    ----------
    l1 : float, default 0.0
        The factor of the sum of abs(x), at least 0.
    l2 : float, default 0.0
        The factor of the sum of squares, at least 0.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Of no effect here: there are no weights.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    ValueError
        For a factor below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layer = layers.ActivityRegularization(l1=0.5)
    >>> y = layer(np.array([[1.0, -2.0], [0.0, 1.0]]), training=True)
    >>> float(layer.losses[0])
    1.0
    """

    l1: float
    l2: float

    checks: ClassVar = {
        **Layer.checks, **{name: functools.partial(number, name, low=0.0) for name in ("l1", "l2")},
    }  # fmt: skip

    def __init__(
        self, l1: float = 0.0, l2: float = 0.0, *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(l1=l1, l2=l2)
        super().__init__(name=name, dtype=dtype, trainable=trainable, input_shape=input_shape, input_dim=input_dim)

    @property
    def activity_regularizer(self) -> regularizers.L1L2:  # type: ignore[override]
        """The penalty."""
        return regularizers.L1L2(self.l1, self.l2)

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, by Keras's names.

        Returns
        -------
        dict
            As JSON can hold it.
        """
        return {name: value for name, value in super().get_config().items() if name != "activity_regularizer"}
