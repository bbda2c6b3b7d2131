"""Layers that bring numbers to a common scale: by a batch's statistics, by a sample's, or by those of data seen before.

``axis`` counts as in Keras, with the batch as axis 0: what stands along it, or them, is what has a mean, a variance, a
gamma and a beta of its own (`LayerNormalization`: what a mean goes over, and has a gamma and a beta).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from gpumlp import constraints
from gpumlp.layers.base import Layer, Shape, WeightSpec, bias_regularizer, initializer_of, whole_number
from gpumlp.naming import flag, neutral, number, unmasked

PIECE = 65_536  # rows of an array that `Normalization.adapt` has in double at a time


def _axis(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"axis must be a whole number; got axis={value!r}.")
    return int(value)


def _axes(value: object) -> int | tuple[int, ...]:
    return tuple(map(_axis, value)) if isinstance(value, (list, tuple)) else _axis(value)


def _axes_or_none(value: object) -> tuple[int, ...]:
    found = () if value is None else _axes(value)
    return found if isinstance(found, tuple) else (found,)


def _only(name: str, accepted: object) -> Callable[[object], object]:
    """Return a check for what Keras has and gpumlp has not."""

    def check(value: object) -> object:
        neutral("BatchNormalization", **{name: (value, accepted)})
        return accepted

    return check


def _along(axis: int | tuple[int, ...], shape: Shape) -> tuple[int, ...]:
    """Return the axes of samples of ``shape`` that are meant, counted with the batch; ValueError for the batch."""
    batch, axes = (None, *shape), axis if isinstance(axis, tuple) else (axis,)
    n = len(batch)
    for one in axes:
        if not -n <= one < n:
            raise ValueError(
                f"All `axis` values must be in the range [-{n}, {n}): axis {one} is out of bounds for input shape "
                f"{batch}."
            )
        if one % n == 0:
            raise ValueError(
                f"All `axis` values to be kept must have a known shape: axis {one} is the batch, of input shape "
                f"{batch}. An axis of a sample is meant, such as -1."
            )
    return tuple(sorted({one % n for one in axes}))


def _numbers(name: str, value: object) -> np.ndarray:
    """Return ``value`` as an array of numbers; TypeError or ValueError naming it."""
    array = np.asarray(unmasked(name, value))
    if array.dtype.kind == "O" and all(isinstance(number, (Real, np.bool_)) for number in array.flat):
        array = array.astype(np.float64)  # as a data frame of int, float and bool columns gives them
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers; got dtype {array.dtype}. Encode it as numbers first.")
    return array


def _batches(data: object, batch_size: int | None, steps: int | None) -> Iterator[np.ndarray]:
    """Return the batches that ``data`` is, or is cut into; TypeError for what is neither an array nor batches."""
    if hasattr(type(data), "__array__"):
        whole = _numbers("data", data)
        size = PIECE if batch_size is None and steps is None else whole_number("batch_size", batch_size or 32)
        data = (whole[first : first + size] for first in range(0, len(whole) if whole.ndim else 0, size))
    elif not hasattr(data, "__iter__") or isinstance(data, (str, bytes, Mapping)):
        raise TypeError(
            f"Unsupported data type: {type(data).__name__}. adapt() takes an array, a data frame, or an iterable of "
            "batches, each an array or a tuple that begins with one."
        )
    for batch in data:
        found = batch[0] if isinstance(batch, tuple) and batch else batch
        if not hasattr(found, "shape"):
            raise TypeError(
                "adapt() expects an iterable that yields arrays with a `.shape`; got an element of type "
                f"{type(found).__name__}. Wrap it in numpy.array first."
            )
        array = _numbers("a batch", found)
        yield array.reshape(-1, 1) if array.ndim < 2 else array


class _Scaled(Layer):
    """Base of what ends with a gamma and a beta for each position along ``axis``."""

    axis: Any
    weight_names: ClassVar[tuple[str, ...]] = ("gamma", "beta")
    unread: ClassVar = {**Layer.unread, **dict.fromkeys(("gamma", "beta"), "Use layer.gamma.assign(values).")}
    checks: ClassVar = {
        **Layer.checks, "epsilon": functools.partial(number, "epsilon", low=0.0),
        "center": functools.partial(flag, "center"), "scale": functools.partial(flag, "scale"),
        **dict.fromkeys(("beta_initializer", "gamma_initializer"), initializer_of),
        **dict.fromkeys(("beta_regularizer", "gamma_regularizer"), bias_regularizer),
        **dict.fromkeys(("beta_constraint", "gamma_constraint"), constraints.get),
    }  # fmt: skip

    def __init__(
        self, axis: object, epsilon: float, center: bool, scale: bool, beta: tuple[Any, Any, Any],
        gamma: tuple[Any, Any, Any], **kwargs: Any,
    ) -> None:  # fmt: skip
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale
        self.beta_initializer, self.beta_regularizer, self.beta_constraint = beta
        self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint = gamma
        super().__init__(**kwargs)

    def along(self, shape: Shape) -> tuple[int, ...]:
        """Return the axes that ``axis`` means of samples of ``shape``, counted with the batch; ValueError if beyond."""
        return _along(self.axis, shape)

    def specs(self, shape: Shape) -> list[WeightSpec]:
        own = tuple(shape[axis - 1] for axis in self.along(shape))
        gamma = WeightSpec("gamma", own, self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint)
        beta = WeightSpec("beta", own, self.beta_initializer, self.beta_regularizer, self.beta_constraint)
        return [spec for spec, wanted in ((gamma, self.scale), (beta, self.center)) if wanted]

    def result_shape(self, shape: Shape) -> Shape:
        self.along(shape)
        return shape


class BatchNormalization(_Scaled):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with the mean and variance of the batch in training.

    Otherwise, and where ``trainable`` is False, with their moving averages, which a training step changes:
    average * momentum + batch's * (1 - momentum). The variance is the biased one. Statistics go over all axes but
    ``axis``; sample weights do not enter them (Ioffe & Szegedy 2015).
    """

    weight_names: ClassVar[tuple[str, ...]] = ("gamma", "beta", "moving_mean", "moving_variance")
    unread: ClassVar = {
        **_Scaled.unread,
        **dict.fromkeys(("moving_mean", "moving_variance"), "Use layer.moving_mean.assign(values)."),
    }
    checks: ClassVar = {
        **_Scaled.checks, "axis": _axis, "momentum": functools.partial(number, "momentum", low=0.0, high=1.0),
        **dict.fromkeys(("moving_mean_initializer", "moving_variance_initializer"), initializer_of),
        "renorm": _only("renorm", False), "renorm_clipping": _only("renorm_clipping", None),
        "renorm_momentum": _only("renorm_momentum", 0.99), "synchronized": _only("synchronized", False),
    }  # fmt: skip

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: object = "zeros",
        gamma_initializer: object = "ones",
        moving_mean_initializer: object = "zeros",
        moving_variance_initializer: object = "ones",
        beta_regularizer: object = None,
        gamma_regularizer: object = None,
        beta_constraint: object = None,
        gamma_constraint: object = None,
        renorm: bool = False,
        renorm_clipping: object = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        self.renorm, self.renorm_clipping, self.renorm_momentum = renorm, renorm_clipping, renorm_momentum
        self.synchronized = synchronized
        self.momentum = momentum
        self.moving_mean_initializer: Any = moving_mean_initializer
        self.moving_variance_initializer: Any = moving_variance_initializer
        beta = beta_initializer, beta_regularizer, beta_constraint
        gamma = gamma_initializer, gamma_regularizer, gamma_constraint
        super().__init__(axis, epsilon, center, scale, beta, gamma, **kwargs)

    def specs(self, shape: Shape) -> list[WeightSpec]:
        own = tuple(shape[axis - 1] for axis in self.along(shape))
        return [
            *super().specs(shape),
            WeightSpec("moving_mean", own, self.moving_mean_initializer, trainable=False),
            WeightSpec("moving_variance", own, self.moving_variance_initializer, trainable=False),
        ]


class LayerNormalization(_Scaled):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with each sample's mean and variance along ``axis``.

    There are as many of these as there are positions on the other axes (Lei Ba et al. 2016).
    """

    checks: ClassVar = {**_Scaled.checks, "axis": _axes}

    def __init__(
        self,
        axis: int | tuple[int, ...] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: object = "zeros",
        gamma_initializer: object = "ones",
        beta_regularizer: object = None,
        gamma_regularizer: object = None,
        beta_constraint: object = None,
        gamma_constraint: object = None,
        **kwargs: Any,
    ) -> None:
        beta = beta_initializer, beta_regularizer, beta_constraint
        gamma = gamma_initializer, gamma_regularizer, gamma_constraint
        super().__init__(axis, epsilon, center, scale, beta, gamma, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rms_scaling": False}  # which Keras writes, and gpumlp has not


class UnitNormalization(Layer):
    """x divided by its length, the square root of the sum of squares along ``axis``; by 1e-12 where that is less."""

    checks: ClassVar = {**Layer.checks, "axis": _axes}

    def __init__(self, axis: int | tuple[int, ...] = -1, **kwargs: Any) -> None:
        self.axis: Any = axis
        super().__init__(**kwargs)

    def along(self, shape: Shape) -> tuple[int, ...]:
        """See `_Scaled.along`."""
        return _along(self.axis, shape)

    def result_shape(self, shape: Shape) -> Shape:
        self.along(shape)
        return shape


class Normalization(Layer):
    """(x - mean) / sqrt(variance): with those of data that `adapt` has seen, or with numbers that are given.

    Parameters
    ----------
    axis : int, tuple of int, or None
        Along which each position has a mean and a variance of its own; None: there is one of each.
    mean, variance : array_like, optional
        Both or none, of a shape that NumPy would stretch to that along ``axis``. Without them they are weights, 0 and 1
        until `adapt`.
    invert : bool
        Whether to compute x * sqrt(variance) + mean.
    """

    weight_names: ClassVar[tuple[str, ...]] = ("count",)
    unread: ClassVar = {
        **Layer.unread, **dict.fromkeys(("mean", "variance", "count"), "Use adapt(data), or set_weights.")
    }  # fmt: skip
    checks: ClassVar = {**Layer.checks, "axis": _axes_or_none, "invert": functools.partial(flag, "invert")}

    def __init__(
        self, axis: int | tuple[int, ...] | None = -1, mean: object = None, variance: object = None,
        invert: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        if (mean is None) != (variance is None):
            raise ValueError(
                "When setting values directly, both `mean` and `variance` must be set; got "
                f"mean={mean!r} and variance={variance!r}."
            )
        self.axis: Any
        self.axis, self.invert = axis, invert
        self.given = None if mean is None else (_numbers("mean", mean), _numbers("variance", variance))
        if self.given is not None:
            shapes, most = [array.shape for array in self.given], len(self.axis)
            if shapes[0] != shapes[1] or len(shapes[0]) > most:
                raise ValueError(
                    "When setting values directly, `mean` and `variance` must have the same shape, of as many axes as "
                    f"`axis` has at most; got shapes {shapes[0]} and {shapes[1]} for axis {self.axis}."
                )
        super().__init__(**kwargs)

    def along(self, shape: Shape) -> tuple[int, ...]:
        """See `_Scaled.along`."""
        return _along(self.axis, shape)

    def _own(self, shape: Shape) -> Shape:
        return tuple(shape[axis - 1] for axis in self.along(shape))

    def constants(self, shape: Shape) -> list[np.ndarray] | None:
        """Return the given mean and variance for samples of ``shape``; None where they are weights."""
        if self.given is None:
            return None
        own = self._own(shape)
        try:
            return [np.broadcast_to(array, own) for array in self.given]
        except ValueError:
            raise ValueError(
                f"mean and variance of layer {self.name!r} have shape {self.given[0].shape}; along axis {self.axis} of "
                f"samples of shape {shape} they must be of shape {own}, or stretch to it."
            ) from None

    def specs(self, shape: Shape) -> list[WeightSpec]:
        if self.constants(shape) is not None:
            return []
        own, zeros, ones = self._own(shape), initializer_of("zeros"), initializer_of("ones")
        # the count is Keras's, for the sake of files: nobody changes it
        return [
            WeightSpec("mean", own, zeros, trainable=False),
            WeightSpec("variance", own, ones, trainable=False),
            WeightSpec("count", (), zeros, trainable=False),
        ]

    def result_shape(self, shape: Shape) -> Shape:
        self.constants(shape)
        self.along(shape)
        return shape

    @property
    def mean(self) -> np.ndarray | None:
        """The mean, with axes of size 1 where it is stretched over the input's; None before the layer is built."""
        return self._statistic(0)

    @property
    def variance(self) -> np.ndarray | None:
        """The variance, as `mean`."""
        return self._statistic(1)

    def _statistic(self, which: int) -> np.ndarray | None:
        if self.samples is None:
            return None
        along = self.along(self.samples)
        found = self.constants(self.samples) or self.get_weights()
        shape = [size if axis in along else 1 for axis, size in enumerate((1, *self.samples))]
        return found[which].reshape(shape)

    def get_config(self) -> dict[str, Any]:
        mean, variance = (None, None) if self.given is None else (array.tolist() for array in self.given)
        return super().get_config() | {"mean": mean, "variance": variance}

    def adapt(self, data: object, *, batch_size: int | None = None, steps: int | None = None) -> None:
        """Take mean and variance from ``data``, in place of what they were; they are computed in double.

        Parameters
        ----------
        data : array of shape (n, *sample), data frame, or iterable of batches
            A batch is such an array, or a tuple that begins with one, as (x, y). An array of shape (n,) has samples of
            one number.
        batch_size, steps : int, optional
            At most ``steps`` batches are looked at, of ``batch_size`` samples (32) where an array is given.

        Raises
        ------
        TypeError, ValueError
            For what is no array of numbers or holds none, for samples of different shapes, or others than the layer was
            built for, and where mean and variance were given; then nothing has changed.
        """
        if self.given is not None:
            raise ValueError(f"Layer {self.name!r} was given its mean and variance: there is nothing to adapt.")
        seen, total, sample = 0, [np.zeros(()), np.zeros(())], None
        most = None if steps is None else whole_number("steps", steps)
        for batch in itertools.islice(_batches(data, batch_size, most), most):
            sample = self._fitting(batch.shape[1:], sample)
            others = tuple(axis for axis in range(batch.ndim) if axis not in self.along(sample))
            count = batch.size // max(1, int(np.prod(self._own(sample))))
            if not count:
                continue
            mean, variance = batch.mean(others, np.float64), batch.var(others, np.float64)
            seen += count
            share, way = count / seen, mean - total[0]
            total = [  # of two sets together: Chan, Golub & LeVeque 1979
                total[0] + way * share,
                total[1] + (variance - total[1] + way * way * (1 - share)) * share,
            ]
        if sample is None or not seen:
            raise ValueError(
                "adapt() received an empty iterable or no samples: pass an array with a row a sample, or at least one "
                "batch, such as [x]."
            )
        if not self.built:
            self.build((None, *sample))
        self.set_weights([*total, np.zeros(())])

    def _fitting(self, shape: Shape, before: Shape | None) -> Shape:
        """Return the shape of a batch's samples; ValueError where the layer, or the batches before, have others."""
        expected = before or self.samples
        if expected is not None and self._own(shape) != self._own(expected):
            raise ValueError(
                f"Layer {self.name!r} is for samples of shape {expected}, along axis {self.axis}; adapt() got "
                f"data with an incompatible shape: samples of shape {shape}."
            )
        return shape

    def finalize_state(self) -> None:
        """Do nothing: weights that were set are what the layer computes with."""
