"""The layer that brings numbers to a common scale by the statistics of data seen before."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from gpumlp.layers.base import Layer
from gpumlp.layers.checks import DType, Shape, ShapeLike, initializer_of, whole_number
from gpumlp.layers.normalization import along, axes_of
from gpumlp.layers.weights import WeightSpec
from gpumlp.literals import RegularizerLike
from gpumlp.maps import check_there
from gpumlp.naming import flag, unmasked

PIECE = 1 << 21  # numbers of an array that `Normalization.adapt` has in double at a time
ROWS = 65_536  # or so many samples


def _axes_or_none(value: object) -> tuple[int, ...]:
    found = () if value is None else axes_of(value)
    return found if isinstance(found, tuple) else (found,)


def _numbers(name: str, value: object) -> np.ndarray:
    """Return ``value`` as an array of numbers; TypeError or ValueError naming it."""
    array = np.asarray(unmasked(name, value))
    check_there(array)
    if array.dtype.kind == "O" and all(isinstance(number, (Real, np.bool_)) for number in array.flat):
        array = array.astype(np.float64)  # as a data frame of int, float and bool columns gives them
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers; got dtype {array.dtype}. Encode it as numbers first.")
    return array


def _lies_elsewhere(data: object) -> bool:
    """Whether this is an array that slices are read of: of HDF5's or zarr's, of which no more is held than a piece."""
    held = "__array_interface__", "__dlpack__", "to_numpy"
    return all(hasattr(data, way) for way in ("shape", "size", "ndim", "__getitem__")) and not any(
        hasattr(data, way) for way in held
    )


def _batches(data: object, batch_size: int | None, steps: int | None) -> Iterator[np.ndarray]:
    """Return the batches that ``data`` is, or is cut into; TypeError for what is neither an array nor batches."""
    if hasattr(type(data), "__array__"):
        whole: Any = data if _lies_elsewhere(data) else _numbers("data", data)
        rows = whole.shape[0] if whole.ndim else 0
        size = whole_number("batch_size", batch_size or 32)
        if batch_size is None and steps is None:
            size = max(1, min(ROWS, PIECE * rows // max(1, whole.size)))
        data = (whole[first : first + size] for first in range(0, rows, size))
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


class Normalization(Layer):
    """(x - mean) / sqrt(variance): with those of data that `adapt` has seen, or with numbers that are given.

    Parameters
    ----------
    axis : int, tuple of int, or None, default -1
        Along which each position has a mean and a variance of its own; None: there is one of each.
    mean, variance : array_like, optional
        Both or none, of a shape that NumPy would stretch to that along ``axis``. Without them they are weights, 0 and 1
        until `adapt`; ``fit`` warns, once, where they still are.
    invert : bool, default False
        Whether to compute x * sqrt(variance) + mean.
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
        For a value that an argument cannot have, and, when it is built, for axes that samples have not.

    Notes
    -----
    The square root is taken to be 1e-7 at least. Mean and variance of batches are put together in double (Chan, Golub
    & LeVeque 1979).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> x = np.array([[1.0, 100.0], [3.0, 300.0]])
    >>> layer = layers.Normalization()
    >>> layer.adapt(x)
    >>> layer(x)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    weight_names: ClassVar[tuple[str, ...]] = ("count",)
    unread: ClassVar = {
        **Layer.unread, **dict.fromkeys(("mean", "variance", "count"), "Use adapt(data), or set_weights.")
    }  # fmt: skip
    checks: ClassVar = {**Layer.checks, "axis": _axes_or_none, "invert": functools.partial(flag, "invert")}

    axis: tuple[int, ...]
    invert: bool
    adapted = False  # whether `adapt` has seen data, which files do not tell

    def __init__(
        self, axis: int | Sequence[int] | None = -1, mean: ArrayLike | None = None, variance: ArrayLike | None = None,
        invert: bool = False, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        if (mean is None) != (variance is None):
            raise ValueError(
                "When setting values directly, both `mean` and `variance` must be set; got "
                f"mean={mean!r} and variance={variance!r}."
            )
        self.take(axis=axis, invert=invert)
        self.given = None if mean is None else (_numbers("mean", mean), _numbers("variance", variance))
        if self.given is not None:
            shapes, most = [array.shape for array in self.given], len(self.axis)
            if shapes[0] != shapes[1] or len(shapes[0]) > most:
                raise ValueError(
                    "When setting values directly, `mean` and `variance` must have the same shape, of as many axes as "
                    f"`axis` has at most; got shapes {shapes[0]} and {shapes[1]} for axis {self.axis}."
                )
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def along(self, shape: Shape) -> tuple[int, ...]:
        """See `_Scaled.along`."""
        return along(self.axis, shape)

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

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, by Keras's names.

        Returns
        -------
        dict
            As JSON can hold it.
        """
        mean, variance = (None, None) if self.given is None else (array.tolist() for array in self.given)
        return super().get_config() | {"mean": mean, "variance": variance}

    def adapt(self, data: object, *, batch_size: int | None = None, steps: int | None = None) -> None:
        """Take mean and variance from ``data``, in place of what they were; they are computed in double.

        Parameters
        ----------
        data : array of shape ``(n, *sample)``, data frame, or iterable of batches
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
        self.adapted = True

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
