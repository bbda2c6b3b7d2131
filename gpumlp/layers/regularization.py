"""Layers that change training alone: what they drop or add is a function of their key and the step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

from gpumlp import random, regularizers
from gpumlp.layers.base import Layer, Shape, whole_number
from gpumlp.naming import number


def _share(name: str, value: Any, most: bool = True) -> float:
    """Return a number from 0 to 1; ValueError for any other, and for 1 unless that is possible: ``most``."""
    try:
        share = number(name, value, 0.0, 1.0)
    except ValueError:
        raise ValueError(
            f"Invalid value received for argument `{name}`. Expected a float value between 0 and 1. Received: "
            f"{name}={value!r}"
        ) from None
    if share == 1.0 and not most:
        raise ValueError(f"{name} must lie in [0, 1); got 1: noise would be infinite.")
    return share


def _noise_shape(value: Any) -> tuple[int | None, ...] | None:
    if value is None:
        return None
    wrong = "Invalid value received for argument `noise_shape`. Expected "
    if isinstance(value, str) or not hasattr(value, "__iter__"):
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

    Elements along the axes where ``noise_shape``, which has the batch first, is 1 are zeroed together.
    """

    checks: ClassVar = {
        **OfNoise.checks, "rate": functools.partial(_share, "rate"), "noise_shape": _noise_shape,
    }  # fmt: skip
    unread: ClassVar = {**OfNoise.unread, "p": "Use rate."}

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed  # type: ignore[assignment]
        super().__init__(**kwargs)


class AlphaDropout(OfNoise):
    """Dropout for selu, after which mean and variance are what they were (Klambauer et al. 2017).

    In training, with probability ``rate`` an element becomes selu's limit far below 0, and all are scaled and moved.
    """

    checks: ClassVar = {
        **OfNoise.checks, "rate": functools.partial(_share, "rate", most=False), "noise_shape": _noise_shape,
    }  # fmt: skip

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed  # type: ignore[assignment]
        super().__init__(**kwargs)


class GaussianNoise(OfNoise):
    """In training, add normal numbers of standard deviation ``stddev``, 0 to 1."""

    checks: ClassVar = {**OfNoise.checks, "stddev": functools.partial(_share, "stddev")}

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        self.stddev, self.seed = stddev, seed
        super().__init__(**kwargs)


class GaussianDropout(OfNoise):
    """In training, multiply by normal numbers of mean 1 and variance rate / (1 - rate) (Srivastava et al. 2014)."""

    checks: ClassVar = {**OfNoise.checks, "rate": functools.partial(_share, "rate", most=False)}

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        self.rate, self.seed = rate, seed
        super().__init__(**kwargs)


class ActivityRegularization(Layer):
    """x, whose penalty l1 * sum |x| + l2 * sum x^2, divided by the batch's size, is added to the loss."""

    checks: ClassVar = {
        **Layer.checks, **{name: functools.partial(number, name, low=0.0) for name in ("l1", "l2")},
    }  # fmt: skip

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        self.l1, self.l2 = l1, l2
        super().__init__(**kwargs)

    @property
    def activity_regularizer(self) -> regularizers.L1L2:
        """The penalty."""
        return regularizers.L1L2(self.l1, self.l2)

    def get_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().get_config().items() if name != "activity_regularizer"}
