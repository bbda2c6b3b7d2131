"""What a person passes becomes arrays that a Program takes, or an error before anything has changed."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from gpumlp import config, random
from gpumlp.errors import caller_level
from gpumlp.layers import Shape, whole_number
from gpumlp.losses import Loss

DEFAULT_BATCH = 32
DLPACK_CUDA = (2, 13)  # DLPack's numbers for CUDA memory and for CUDA's managed memory


def on_gpu(value: object) -> bool:
    """Whether ``value`` is an array in a GPU's memory."""
    if type(value) is np.ndarray:
        return False
    if getattr(value, "__cuda_array_interface__", None) is not None:
        return True
    where = None if isinstance(value, np.ndarray) else getattr(value, "__dlpack_device__", None)
    return where is not None and where()[0] in DLPACK_CUDA


def library(array: Any) -> Any:
    """Return the library that computes with ``array``: NumPy, or CuPy for an array on a GPU."""
    return np if isinstance(array, np.ndarray) else sys.modules[type(array).__module__.partition(".")[0]]


def to_array(name: str, value: object) -> np.ndarray:
    """Return ``value`` as a numeric array with at least one axis; TypeError or ValueError naming ``name``.

    An array on a GPU stays there.
    """
    try:
        array: Any = value if on_gpu(value) else np.asarray(value)
    except ValueError as error:  # NumPy's own words for ragged lists are about shapes, not about data
        raise ValueError(f"{name} must be a rectangular array of numbers; rows differ in length ({error}).") from None
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of numbers; got dtype {array.dtype}. Encode it as numbers first.")
    if array.ndim == 0:
        raise ValueError(f"{name} must have one row per sample; got the single number {array}.")
    return array


def _converted(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return ``array`` of ``dtype``; a warning or an error, as `gpumlp.config` says, where NaN or Inf come out."""
    xp, out = library(array), array
    if array.dtype != dtype or not array.flags.c_contiguous:
        with np.errstate(over="ignore", invalid="ignore"):
            out = xp.ascontiguousarray(array, dtype)
    if config.nonfinite() == "ignore" or xp.isfinite(out).all():
        return out
    row = int(xp.flatnonzero(~xp.isfinite(out.reshape(len(out), -1)).all(axis=1))[0])
    what = "NaN or Inf" if not xp.isfinite(array[row]).all() else f"a number too large for {dtype}"
    message = f"{name} has {what}, first in row {row}: the loss and the weights will become NaN. Remove such rows."
    if config.nonfinite() == "error":
        raise ValueError(message)
    warnings.warn(message, stacklevel=caller_level())
    return out


def features(name: str, value: object, shape: Shape | None, dtype: np.dtype) -> tuple[np.ndarray, Shape]:
    """Return x as [n, F] of ``dtype`` and the shape of one sample; ``shape`` None takes what comes.

    A 1-D array is n samples of one feature each.
    """
    array = to_array(name, value)
    got = array.shape[1:] or (1,)
    if len(array) == 0 or 0 in got:
        raise ValueError(f"{name} is empty: its shape is {array.shape}.")
    if shape is not None and got != shape:
        raise ValueError(
            f"{name} has shape {array.shape}, samples of shape {got}; the model takes samples of shape {shape}."
        )
    return _converted(name, array.reshape(len(array), -1), dtype), got


def targets(name: str, value: object, width: int, loss: Loss, dtype: np.dtype) -> np.ndarray:
    """Return y as [n, width] of ``dtype``, or [n, 1] class numbers for a sparse loss; never broadcast."""
    array = to_array(name, value)
    flat = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 1)
    expected = 1 if loss.sparse else width
    if flat.shape[1] != expected:
        what = "one class number per sample" if loss.sparse else f"{width} values per sample, as the model's output has"
        raise ValueError(f"{name} has shape {array.shape}; the loss {loss.name} takes {what}.")
    if loss.sparse and flat.size:
        xp = library(flat)
        with np.errstate(invalid="ignore"):
            wrong = ~((flat >= 0) & (flat < width) & (flat == xp.floor(flat)))
        if wrong.any():
            row = int(xp.flatnonzero(wrong)[0])
            raise ValueError(
                f"{name} must hold class numbers 0 to {width - 1}; got {flat[row, 0]} in row {row}. "
                "The model's last layer needs one unit per class."
            )
    return _converted(name, flat, dtype)


def sample_weights(value: object, class_weight: dict[int, float] | None, y: np.ndarray, loss: Loss) -> Any:
    """Return weights[n] of y's dtype, or None; ``class_weight`` maps class numbers to weights, 1 where absent."""
    if value is not None and class_weight is not None:
        raise ValueError("class_weight and sample_weight cannot be given together; multiply them into sample_weight.")
    if class_weight is not None:
        if not isinstance(class_weight, dict):
            raise TypeError(f"class_weight must be a dict of class number to weight; got {class_weight!r}.")
        labels = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
        weights = library(y).ones(len(y), y.dtype)
        for label, weight in class_weight.items():
            if not all(isinstance(v, (int, float, np.number)) for v in (label, weight)):
                raise TypeError(f"class_weight maps class numbers to weights; got {label!r}: {weight!r}.")
            weights[labels == label] = weight
        return _converted("class_weight", weights, y.dtype)
    if value is None:
        return None
    array = to_array("sample_weight", value)
    if array.shape not in ((len(y),), (len(y), 1)):
        raise ValueError(f"sample_weight must have shape ({len(y)},), one per sample; got {array.shape}.")
    return _converted("sample_weight", array.reshape(-1), y.dtype)


def same_length(**arrays: np.ndarray | None) -> None:
    """Raise ValueError unless all arrays have as many rows."""
    lengths = {name: len(a) for name, a in arrays.items() if a is not None}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"Data cardinality is ambiguous: all arrays must have as many rows; got {sizes}.")


def split(value: object, share: float) -> tuple[Any, Any]:
    """Return the first rows and the last ``share`` of them, as Keras cuts: at floor(n * (1 - share))."""
    if value is None:
        return None, None
    array = to_array("the data", value)
    cut = math.floor(len(array) * (1.0 - share))
    if cut == 0 or cut == len(array):
        raise ValueError(f"validation_split={share} of {len(array)} samples leaves training or validation empty.")
    return array[:cut], array[cut:]


class Batches:
    """Which batches each epoch runs: Keras's rules for batch_size, steps and shuffle over n samples.

    ``batch_size = ceil(n / steps)`` when only steps are given, 32 when neither is. With steps given, an epoch goes on
    where the last one ended, and warns when the data runs out before its steps are done. ``rows`` [n] says which
    of the data's samples are meant, None all. Shuffles are drawn from the stream that is current at the construction.
    """

    def __init__(
        self, n: int, batch_size: int | None, steps: int | None, shuffle: bool, rows: np.ndarray | None = None
    ) -> None:
        if steps is not None:
            steps = whole_number("steps", steps)
        if batch_size is None:
            batch_size = math.ceil(n / steps) if steps else DEFAULT_BATCH
        self.batch_size = min(whole_number("batch_size", batch_size), n)  # buffers are made for that many
        self.n, self.shuffle, self._asked = n, shuffle, steps
        self.total = math.ceil(n / self.batch_size)
        self.steps = steps or self.total
        self._rows, self._stream = rows, random.current()
        self._order = rows
        self._seen = 0

    def epoch(self) -> tuple[np.ndarray | None, int, int]:
        """Return the sample order (None: as it stands) and the first and last + 1 batch of the next epoch."""
        if self._seen == 0 and self.shuffle:
            order = self._stream.generator().permutation(self.n)
            self._order = order if self._rows is None else self._rows[order]
        first, last = self._seen, min(self._seen + self.steps, self.total)
        if self._asked and last - first < self.steps:
            warnings.warn(
                f"The data ran out after {last - first} of {self.steps} steps: {self.n} samples make {self.total} "
                f"batches of {self.batch_size}. The epoch ends here.",
                stacklevel=caller_level(),
            )
        self._seen = 0 if last == self.total or not self._asked else last
        return self._order, first, last
