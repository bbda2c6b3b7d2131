"""Utilities with Keras's names."""

from __future__ import annotations

import random as python_random
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from gpumlp import config, random
from gpumlp.naming import listing, reset_names
from gpumlp.plotting.diagram import plot_model as plot_model
from gpumlp.saving import CustomObjectScope as CustomObjectScope
from gpumlp.saving import custom_object_scope as custom_object_scope
from gpumlp.saving import deserialize_keras_object as deserialize_keras_object
from gpumlp.saving import get_custom_objects as get_custom_objects
from gpumlp.saving import get_registered_name as get_registered_name
from gpumlp.saving import get_registered_object as get_registered_object
from gpumlp.saving import register_keras_serializable as register_keras_serializable
from gpumlp.saving import serialize_keras_object as serialize_keras_object
from gpumlp.training.blocks import Blocks as Blocks
from gpumlp.training.data import unpack_x_y_sample_weight as unpack_x_y_sample_weight

__all__ = [
    "Blocks", "CustomObjectScope", "PyDataset", "Sequence", "clear_session", "custom_object_scope",
    "deserialize_keras_object", "get_custom_objects", "get_registered_name", "get_registered_object", "normalize",
    "pack_x_y_sample_weight", "pad_sequences", "plot_model", "register_keras_serializable",
    "serialize_keras_object", "set_random_seed", "to_categorical", "unpack_x_y_sample_weight",
]  # fmt: skip
__dir__ = listing(__name__)


class PyDataset:
    """Batches by number, for ``fit``, ``evaluate`` and ``predict``: a class of one's own with ``__getitem__``.

    ``self[i]`` is batch ``i``: ``(x, y)`` or ``(x, y, sample_weight)``. ``len(self)``, or the property ``num_batches``,
    says how many there are; ``num_batches`` None is a data set without end, of which ``fit`` takes ``steps_per_epoch``.
    With ``shuffle=True`` ``fit`` asks for the batches in another order in each epoch.

    Parameters
    ----------
    workers : int
    use_multiprocessing : bool
    max_queue_size : int
        As in Keras, and kept as attributes. The thread that calls ``fit`` reads batches, while another one trains.

    Examples
    --------
    >>> import gpumlp
    >>> import numpy as np
    >>> class Line(gpumlp.utils.PyDataset):
    ...     def __len__(self):
    ...         return 10
    ...
    ...     def __getitem__(self, index):
    ...         x = np.full((32, 1), index / 10)
    ...         return x, 2.0 * x
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("adam", "mse")
    >>> model.fit(Line(), epochs=2, verbose=0)
    <History of 2 epochs: loss>
    """

    workers = 1
    use_multiprocessing = False
    max_queue_size = 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    def __getitem__(self, index: int) -> object:
        """Return batch ``index``."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a method __getitem__(self, index) that returns a batch."
        )

    def __iter__(self) -> Iterator[object]:
        total = self.num_batches
        for index in count() if total is None else range(total):
            yield self[index]

    @property
    def num_batches(self) -> int | None:
        """How many batches there are; None: without end. NotImplementedError where the class has no ``__len__``."""
        if hasattr(self, "__len__"):
            return len(self)
        raise NotImplementedError(
            f"{type(self).__name__} needs a method __len__(self) that returns the number of batches, or a property "
            "num_batches, which may be None."
        )

    def on_epoch_begin(self) -> None:
        """Called before the first batch of each epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of each epoch."""


Sequence = PyDataset


def pack_x_y_sample_weight(x: object, y: object = None, sample_weight: object = None) -> object:
    """Return a batch as a PyDataset may give it.

    Parameters
    ----------
    x, y, sample_weight : array, optional
        Inputs, targets and weights.

    Returns
    -------
    tuple or array
        ``(x, y)`` or ``(x, y, sample_weight)``; without ``y``, ``x`` alone, in a tuple if it is a list or tuple.

    Examples
    --------
    >>> from gpumlp import utils
    >>> utils.pack_x_y_sample_weight("x", "y")
    ('x', 'y')
    """
    if y is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def set_random_seed(seed: int) -> None:
    """Seed Python's, NumPy's and gpumlp's generators, so that a script gives the same bits twice.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1.

    Raises
    ------
    ValueError
        If ``seed`` is not an integer in [0, 2**32).

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.utils.set_random_seed(0)
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer in [0, 2**32); got {seed!r}.")
    python_random.seed(int(seed))
    np.random.seed(int(seed))
    random.seed(int(seed))


def to_categorical(x: object, num_classes: int | None = None) -> np.ndarray:
    """Return one-hot rows of class numbers.

    Parameters
    ----------
    x : array
        Class numbers, from 0; a last axis of 1 goes.
    num_classes : int, optional
        The largest number + 1 when None.

    Returns
    -------
    array [*x, num_classes]
        Of float64, as Keras's is.

    Raises
    ------
    TypeError, ValueError
        Where they are no class numbers below ``num_classes``.

    Examples
    --------
    >>> from gpumlp import utils
    >>> utils.to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer, type(None))):
        raise ValueError(f"num_classes must be a whole number or None; got {num_classes!r}.")
    given = config.floats("x", x, "float64")
    if given.ndim > 1 and given.shape[-1] == 1:
        given = given[..., 0]
    if not given.size and num_classes is None:
        raise ValueError("x has no labels: num_classes must be given.")
    if not np.isfinite(given).all():
        raise ValueError("x must hold class numbers; got NaN or Inf.")
    labels = given.astype(np.int64)  # 1.7 is class 1, as in Keras
    classes = int(labels.max()) + 1 if num_classes is None else int(num_classes)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in [0, {classes}); got {labels.min()} to {labels.max()}.")
    if classes < 0:
        raise ValueError(f"num_classes must be >= 0; got {num_classes!r}.")
    rows = np.zeros((labels.size, classes))
    rows[np.arange(labels.size), labels.reshape(-1)] = 1.0
    return rows.reshape(*labels.shape, classes)


def clear_session(free_memory: bool = True) -> None:
    """Start the numbering of automatic names again: the next Dense layer is "dense".

    Nothing else is kept for all models: memory goes with the last reference to a model.

    Parameters
    ----------
    free_memory : bool
        As in Keras; nothing depends on it.

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.utils.clear_session()
    >>> gpumlp.layers.Dense(3).name
    'dense'
    """
    reset_names()


def normalize(x: object, axis: int = -1, order: float = 2) -> np.ndarray:
    """Return an array divided by its norms along an axis, zeros where a norm is 0.

    Parameters
    ----------
    x : array
        One row [n] becomes [1, n].
    axis : int
        Along which the norms are taken.
    order : float
        Of the norm: 2 is Euclid's.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        Where ``x`` is not an array of numbers.

    Examples
    --------
    >>> from gpumlp import utils
    >>> utils.normalize([[3.0, 4.0]])
    array([[0.6, 0.8]], dtype=float32)
    """
    whole = isinstance(x, np.ndarray) and x.dtype.kind in "biu"
    given = np.atleast_2d(config.floats("x", x, "float64" if whole else None))
    norms = np.linalg.norm(given, order, axis, keepdims=True)
    return given / np.where(norms == 0, 1, norms)


def pad_sequences(
    sequences: Iterable[Any],
    maxlen: int | None = None,
    dtype: DTypeLike = "int32",
    padding: Literal["pre", "post"] = "pre",
    truncating: Literal["pre", "post"] = "pre",
    value: float | str = 0.0,
) -> np.ndarray:
    """Return sequences of any lengths as one array.

    Parameters
    ----------
    sequences : list of lists
        Their elements are numbers, or arrays of one shape.
    maxlen : int, optional
        The length of all; that of the longest when None.
    dtype : dtype
        Of the array; ``object`` for words.
    padding, truncating : {"pre", "post"}
        At which end ``value`` fills up, and longer ones are cut off.
    value : float or str
        What stands where a sequence has nothing.

    Returns
    -------
    array [n, maxlen, *element]

    Raises
    ------
    ValueError
        For anything that has no length, and for elements of different shapes.

    Examples
    --------
    >>> from gpumlp import utils
    >>> utils.pad_sequences([[1], [2, 3]])
    array([[0, 1],
           [2, 3]], dtype=int32)
    """
    for name, word in (("padding", padding), ("truncating", truncating)):
        if word not in ("pre", "post"):
            raise ValueError(f"{name} must be 'pre' or 'post'; got {word!r}.")
    try:
        given = list(sequences)
        lengths = [len(sequence) for sequence in given]
    except TypeError as error:
        raise ValueError(f"sequences must be a list of lists: {error}.") from None
    length = max(lengths, default=0) if maxlen is None else int(maxlen)
    shape = next((np.asarray(sequence).shape[1:] for sequence in given if len(sequence)), ())
    if isinstance(value, str) and np.dtype(dtype).kind in "biuf":
        raise ValueError(f"value is a string, and dtype {dtype}: for words give dtype=object.")
    padded = np.full((len(given), length, *shape), value, dtype)
    for row, sequence in zip(padded, given, strict=True):
        kept = np.asarray(sequence[max(len(sequence) - length, 0) :] if truncating == "pre" else sequence[:length])
        if len(kept) and kept.shape[1:] != shape:
            raise ValueError(f"all elements must have the shape {shape} of the first; got {kept.shape[1:]}.")
        if len(kept):
            row[slice(len(kept)) if padding == "post" else slice(length - len(kept), None)] = kept
    return padded
