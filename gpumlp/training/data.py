"""What a person passes becomes arrays that a Program takes, or an error before anything has changed.

What comes out of `features`, `targets` and `sample_weights` is of the model's dtype, C-contiguous, aligned and of the
machine's byte order: compiled code goes by addresses and asks nothing. An array that is all of this already is used as
it is, memory-mapped and read-only ones too; any other is copied once.
"""

from __future__ import annotations

import math
import numbers
import reprlib
import sys
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gpumlp import config, random
from gpumlp.backends.runtime import Array, DType, Rows
from gpumlp.errors import caller_level
from gpumlp.layers import Shape, whole_number
from gpumlp.losses import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    Loss,
    SparseCategoricalCrossentropy,
)  # fmt: skip
from gpumlp.maps import check_there
from gpumlp.naming import unmasked

DEFAULT_BATCH = 32
BINARY = (BinaryCrossentropy, BinaryFocalCrossentropy)  # of targets and outputs in 0 to 1
CATEGORICAL = (CategoricalCrossentropy, CategoricalFocalCrossentropy, SparseCategoricalCrossentropy)  # a class a sample
DLPACK_CUDA = (2, 13)  # DLPack's numbers for CUDA memory and for CUDA's managed memory
PIECE = 1 << 18  # elements that a check looks at at a time: it needs no more memory for it, whatever the data's size
ROUNDING = 1e-6  # how far beside [0, 1] a probability may lie that was scaled in floating point
TEXT = (
    "Where the text spells numbers, astype(float) reads them; else encode it: numpy.unique(values, "
    "return_inverse=True) gives class numbers."
)
TIME = "Pass times as numbers, such as (times - times.min()) / numpy.timedelta64(1, 's')."
ENCODE = {  # by NumPy's letter for the kind of a dtype
    "U": TEXT, "S": TEXT, "T": TEXT, "M": TIME, "m": TIME,
    "c": "Pass real and imaginary parts as features of their own: numpy.concatenate([z.real, z.imag], axis=-1).",
    "V": "Convert it first: numpy.lib.recfunctions.structured_to_unstructured(a) for named fields, a.astype('float32') "
         "for another library's number types.",
}  # fmt: skip


def on_gpu(value: object) -> bool:
    """Whether ``value`` is an array in a GPU's memory; TypeError for a tensor that records gradients."""
    if type(value) is np.ndarray:
        return False
    if getattr(value, "requires_grad", False) is True:  # it gives nobody its memory, and says so in its own words
        raise TypeError("A tensor that requires gradients cannot be used as data: pass tensor.detach().")
    if getattr(value, "__cuda_array_interface__", None) is not None:
        return True
    where = None if isinstance(value, np.ndarray) else getattr(value, "__dlpack_device__", None)
    try:
        return where is not None and where()[0] in DLPACK_CUDA
    except Exception:  # a device that DLPack has no number for: whatever it is, it is not CUDA's
        return False


def library(array: object) -> ModuleType:
    """Return the library that computes with ``array``: NumPy, or CuPy for an array on a GPU."""
    return np if isinstance(array, np.ndarray) else sys.modules[type(array).__module__.partition(".")[0]]


def kind(value: object) -> str:
    """Return what ``value`` is, in words: "a list", "an Array"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def to_array(name: str, value: object) -> Array:
    """Return ``value`` as a numeric array with at least one axis; TypeError or ValueError naming ``name``.

    Arrays of any library, lists and data frames of numbers are taken; None in a list, and what pandas and polars hold
    for missing, becomes NaN. An array on a GPU stays there, and no array is copied. OSError for a map of a file that
    has been cut.
    """
    array: Any = value
    if type(value) is np.ndarray and value.dtype.kind in "biuf":  # the usual case, and the quickest
        pass
    elif not on_gpu(value):
        _refuse(name, value)
        is_frame = all(hasattr(type(value), has) for has in ("columns", "dtypes", "to_numpy"))
        array = _from_frame(name, value) if is_frame else _from_array(name, value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of numbers; got dtype {array.dtype}. {ENCODE[array.dtype.kind]}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have one row per sample; got the single number {array}.")
    check_there(array)
    return array


def _refuse(name: str, value: Any) -> None:
    """Raise for what NumPy would make something of, but not what was meant."""
    own = name.split()[-1]  # "x" of "validation x"
    if value is None:
        raise ValueError(f"{name} is missing: pass an array of numbers, one row per sample.")
    if hasattr(value, "nnz") and (hasattr(value, "toarray") or hasattr(value, "todense")):
        how = "toarray" if hasattr(value, "toarray") else "todense"
        raise TypeError(
            f"{name} is sparse, {kind(value)} of shape {value.shape}; dense arrays are taken: pass {own}.{how}()."
        )
    unmasked(name, value)
    if _is_group(value):
        raise TypeError(
            f"{name} must be one array; got {kind(value)}, which holds {reprlib.repr(list(value))}. Pass its arrays, "
            "by their names: fit(f['x'], f['y'])."
        )
    if isinstance(value, Mapping):
        raise TypeError(f"{name} must be one array; got {kind(value)}. Pass numpy.column_stack(list({own}.values())).")
    if not _holds_its_values(value) and any(hasattr(value, way) for way in ("__iter__", "__next__", "__getitem__")):
        raise TypeError(
            f"{name} must be an array; got {kind(value)}. What gives batches (x, y) or (x, y, sample_weight), such as "
            "a generator or a data loader, is passed to fit, evaluate or predict as x, by itself; a data set of single "
            "samples goes into a data loader first. Anything else: numpy.array(list(values))."
        )


def _is_group(value: object) -> bool:
    """Whether this is a file or a folder of arrays, of h5py's or zarr's."""
    return hasattr(value, "create_group") and hasattr(value, "__iter__")


def gives_batches(value: object) -> bool:
    """Whether ``value`` gives batches one by one: a generator, a PyDataset, a data loader, or any other iterable."""
    if type(value) is np.ndarray:
        return False
    if isinstance(value, (Mapping, Set)) or hasattr(value, "nnz") or _is_group(value) or _holds_its_values(value):
        return False
    return any(hasattr(value, way) for way in ("__iter__", "__next__", "on_epoch_end"))


def unpack_x_y_sample_weight(data: object) -> tuple[Any, Any, Any]:
    """Return x, y and sample_weight of a batch, None for what is not there.

    Parameters
    ----------
    data : array or tuple
        ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``.

    Returns
    -------
    tuple of 3

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> from gpumlp import utils
    >>> utils.unpack_x_y_sample_weight(("x", "y"))
    ('x', 'y', None)
    """
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"A batch is x, (x,), (x, y) or (x, y, sample_weight); got {len(parts)} parts.")
    return (*parts, None, None)[:3]


def one_of_one(value: Any, name: str | None = None) -> Any:
    """Return the array that a list, a tuple, or, by the input's ``name``, a dict has for the only input or output."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if isinstance(value, (list, tuple)) and len(value) == 1 and getattr(value[0], "ndim", 0) > (name is not None):
        return value[0]
    return value


def _holds_its_values(value: object) -> bool:
    """Whether ``value`` is an array or a list in some library's sense, and does not make its items when asked."""
    ways = "__array__", "__array_interface__", "__array_struct__", "__dlpack__"
    if isinstance(value, (Sequence, deque)) or any(hasattr(value, way) for way in ways):
        return True
    try:
        return memoryview(value) is not None  # type: ignore[arg-type]
    except TypeError:
        return False


def _from_array(name: str, value: Any) -> Array:
    """Return anything but a data frame as NumPy's array; objects that are all numbers become float64."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", None) == "O" and not isinstance(dtype, np.dtype):  # pandas' own: NumPy would see values
        raise TypeError(f"{name} must be an array of numbers; got dtype {dtype}. Encode it as numbers first.")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        if isinstance(value, (list, tuple)) and isinstance(error, ValueError):
            raise ValueError(_uneven(name, value, error)) from None
        raise TypeError(f"{name} cannot be read as an array of numbers: {error}") from error
    return _from_objects(name, array) if array.dtype.kind == "O" else array


def _uneven(name: str, value: Sequence[object], error: ValueError) -> str:
    """Return why a list is no array: often it holds the arguments of `fit`, as a batch does."""
    if 2 <= len(value) <= 3 and all(getattr(each, "ndim", 0) for each in value):
        shapes = ", ".join(str(each.shape) for each in value)  # type: ignore[attr-defined]
        return (
            f"{name} must be one array; got {len(value)} arrays of shapes {shapes}. Targets and weights are arguments "
            "of their own: x, y, sample_weight=."
        )
    return f"{name} must be a rectangular array of numbers; rows differ in length ({error})."


def _from_objects(name: str, array: Array) -> Array:
    """Return an array of Python objects as float64, None and pandas.NA as NaN; TypeError naming the first other."""
    kinds = set(map(type, array.flat))
    missing = {k for k in kinds if k is type(None) or k.__name__ == "NAType"}
    real = {k for k in kinds if issubclass(k, np.bool_ | numbers.Real) or k.__name__ == "Decimal"}
    if wrong := kinds - missing - real or (missing if not real else set()):
        i, found = next((i, v) for i, v in enumerate(array.flat) if type(v) in wrong)
        where = f" in row {i // (array.size // len(array))}" if array.ndim else ""
        advice = "numpy.stack makes rows one array" if isinstance(found, list | np.ndarray) else "Encode it first"
        raise TypeError(
            f"{name} must be an array of numbers; got dtype object, with {reprlib.repr(found)}{where}. {advice}."
        )
    try:
        flat = [math.nan if type(v) in missing else float(v) for v in array.flat]
    except OverflowError as error:
        raise ValueError(f"{name} has a number that no floating-point type holds: {error}.") from None
    return np.array(flat, np.float64).reshape(array.shape)


def _from_frame(name: str, frame: Any) -> Array:
    """Return a data frame of pandas or polars, column by column; TypeError naming the columns that are no numbers."""
    kinds = list(frame.dtypes)
    if kinds and isinstance(kinds[0], np.dtype) and kinds[0].kind in "biuf" and all(k == kinds[0] for k in kinds):
        return np.asarray(frame.to_numpy())  # not copied, where the frame holds one array
    columns = frame.items() if hasattr(frame, "items") else [(c.name, c) for c in frame.iter_columns()]
    arrays, wrong = [], []
    for (label, column), kind in zip(columns, kinds, strict=True):
        try:
            arrays.append(to_array(f"column {label!r}", column))
        except TypeError:
            wrong.append(f"{label!r} ({kind})")
    if wrong:
        raise TypeError(no_numbers(name, wrong))
    return np.column_stack(arrays) if arrays else np.empty((len(frame), 0))


def no_numbers(name: str, columns: Sequence[str]) -> str:
    """Return what is to be said where a table has ``columns`` of anything else."""
    return (
        f"{name} has columns that are no numbers: {', '.join(columns)}. One-hot encode text and categories "
        "(get_dummies in pandas, to_dummies in polars), turn times into seconds, or leave the columns out."
    )


def _first_row(array: Array, wrong: Callable[[Array], npt.NDArray[np.bool_]]) -> int | None:
    """Return the first row with an element of which ``wrong`` holds, or None; in pieces, never over the whole."""
    if array.size <= PIECE and not wrong(array).any():
        return None
    rows = max(1, PIECE // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        found = wrong(array[start : start + rows])
        if found.any():
            return start + int(found.reshape(len(found), -1).any(axis=1).argmax())
    return None


def all_finite(array: Array) -> bool:
    """Whether there is no NaN and no Inf in an array."""
    return b"\0" not in np.isfinite(array).tobytes()  # half the time of all(), for few


def looks_at_targets(loss: Loss) -> bool:
    """Whether it matters to a loss which numbers its targets are: see `targets`."""
    return loss.sparse or isinstance(loss, BINARY)


def _converted(name: str, array: Array, dtype: DType, own: bool = False) -> Array:
    """Return ``array`` as a Program takes it, of ``dtype``; where NaN or Inf come out, as `gpumlp.config` says.

    ``own``: of targets of a loss of one's own, which may leave them out.
    """
    xp, out, flags = library(array), array, array.flags
    if array.dtype != dtype or not flags.c_contiguous or not getattr(flags, "aligned", True):  # CuPy's always are
        with np.errstate(all="ignore"):
            out = xp.array(array, dtype, order="C")
    if xp is np and out.size <= PIECE and all_finite(out):
        return out
    if config.nonfinite() == "ignore":
        return out
    if xp is not np and math.isfinite(float(out.sum(dtype=np.float64))):
        return out  # on a GPU, where the sum is one kernel and one wait
    if xp is np and all(np.isfinite(piece).all() for piece in np.split(out.reshape(-1), range(PIECE, out.size, PIECE))):
        return out  # a tenth of the time that looking for a row takes
    row = _first_row(out, lambda piece: ~xp.isfinite(piece))
    if row is None:
        return out
    what = "NaN or Inf" if not xp.isfinite(array[row]).all() else f"a number too large for {dtype}"
    then = "what is computed of it is NaN, and after a training step all weights are"
    unless, instead = ("unless the loss leaves them out, ", ", or config.set_nonfinite('ignore')") if own else ("", "")
    message = f"{name} has {what}, first in row {row}: {unless}{then}. Remove such rows{instead}."
    if config.nonfinite() == "error":
        raise ValueError(message)
    warnings.warn(message, stacklevel=caller_level())
    return out


def features(name: str, value: object, shape: Shape | None, dtype: DType) -> tuple[Array, Shape]:
    """Return x as [n, F] of ``dtype`` and the shape of one sample; ``shape`` None takes what comes.

    A 1-D array is n samples of one feature each.
    """
    array = to_array(name, value)
    got = array.shape[1:] or (1,)
    if len(array) == 0 or 0 in got:
        raise ValueError(f"{name} is empty: its shape is {array.shape}.")
    if shape is not None and got != shape:
        one = f" For one sample pass {name}[None]." if array.shape == shape else ""
        raise ValueError(
            f"{name} has shape {array.shape}, samples of shape {got}; the model takes samples of shape {shape}.{one}"
        )
    return _converted(name, array, dtype).reshape(len(array), -1), got


def targets(name: str, value: object, width: int, loss: Loss, dtype: DType, rows: int = 1) -> Array:
    """Return y as [n, rows * width] of ``dtype``, or [n, rows] class numbers for a sparse loss; never broadcast.

    ValueError where the shape or a class number does not fit; a warning where a binary cross-entropy is asked of what
    is no probability.
    """
    array: Any = to_array(name, value)
    given = math.prod(array.shape[1:])
    each = given // rows if given % rows == 0 else 0
    if each != loss.for_targets(each, width).target_width(width):
        values = "1 value" if width == 1 else f"{width} values"
        what = "one class number per sample" if loss.sparse else f"{values} per sample, as the model's output has"
        if loss.own and not loss.formula.of_batch:
            what += ", or one"
        if rows > 1:
            what += f", in each of its {rows} rows"
        hint = loss.refusal(each, width)
        if loss.sparse and given == width:
            hint = " One-hot targets go with the loss categorical_crossentropy; y.argmax(axis=1) makes class numbers."
        elif isinstance(loss, CATEGORICAL) and given == 1:
            hint = (
                " Class numbers go with the loss sparse_categorical_crossentropy; utils.to_categorical(y) is one-hot."
            )
        raise ValueError(f"{name} has shape {array.shape}; the loss {loss.name} takes {what}.{hint}")
    xp = library(array)
    if loss.sparse:  # before the conversion, which rounds
        row = _first_row(array, lambda t: ~((t >= 0) & (t < width) & (t == xp.floor(t))))
        if row is not None:
            raise ValueError(
                f"{name} must hold class numbers 0 to {width - 1}; got {array[row].reshape(-1)[0]} in row {row}. "
                "The model's last layer needs one unit per class."
            )
    out = _converted(name, array, dtype, loss.own).reshape(len(array), given)
    if isinstance(loss, BINARY):
        row = _first_row(out, lambda t: (t < -ROUNDING) | (t > 1 + ROUNDING))
        if row is not None:
            warnings.warn(
                f"{name} must lie in 0 to 1 for the loss {loss.name}, which has no least value otherwise; row {row} "
                f"has {_span(out[row])}. Labels -1 and 1 become (y + 1) / 2; several classes need "
                "a categorical cross-entropy and one unit per class.",
                stacklevel=caller_level(),
            )
    return out


def _span(values: Array) -> str:
    """Return the numbers that there are, from the least to the most, in words."""
    least, most = values.min(), values.max()
    return str(least) if least == most else f"{least} to {most}"


def check_axes(name: str, value: object, outputs: Shape, loss: Loss) -> None:
    """Raise ValueError where targets have as many numbers a sample as the model's output, and in another shape.

    Samples of (n,) are also those of (n, 1), and these of (n,). Where they have others, which a loss of one's own may
    take, that is along the last axis.
    """
    shape = tuple(to_array(name, value).shape[1:])
    others = math.prod(shape) != math.prod(outputs) and outputs[:-1] not in (shape, shape[:-1])
    if loss.own and others:
        raise ValueError(
            f"{name} has samples of shape {shape}; the model's output has samples of shape {outputs}, and what is not "
            "as long may be the last axis alone."
        )
    if shape != outputs and not loss.sparse and shape not in (outputs, (*outputs, 1)) and (*shape, 1) != outputs:
        if math.prod(shape) == math.prod(outputs):
            raise ValueError(f"{name} has samples of shape {shape}; the model's output has samples of shape {outputs}.")


def check_objective(activation: str | None, width: int, loss: Loss) -> bool:
    """Warn where a model cannot learn, whatever the data: a last layer and a loss that give a constant together.

    Returns whether it has warned.

    ``activation`` is the name of the last one before the loss, None where something else comes last; ``width`` the
    number of outputs.
    """
    categorical = isinstance(loss, CATEGORICAL)
    binary = isinstance(loss, BINARY)
    problem = None
    if width == 1 and activation in ("softmax", "log_softmax"):
        problem = f"{activation} over a single unit is constant. Use activation='sigmoid' for two classes"
    elif width == 1 and categorical:
        problem = f"{loss.name} over a single unit is constant. Use 'sigmoid' and loss='binary_crossentropy'"
    elif (categorical or binary) and activation == "linear" and not getattr(loss, "from_logits", True):
        fitting = "sigmoid" if binary else "softmax"
        problem = (
            f"{loss.name} takes probabilities, and the last layer gives any numbers. Use activation={fitting!r}, or "
            f"{type(loss).__name__}(from_logits=True)"
        )
    if problem:
        warnings.warn(f"The model may not learn: {problem}.", stacklevel=caller_level())
    return problem is not None


def sample_weights(value: object, class_weight: Mapping[int, float] | None, y: Array, loss: Loss) -> Array | None:
    """Return weights[n] of y's dtype, or None; ``class_weight`` maps class numbers to weights, 1 where absent."""
    if value is not None and class_weight is not None:
        raise ValueError("class_weight and sample_weight cannot be given together; multiply them into sample_weight.")
    if class_weight is not None:
        if not isinstance(class_weight, dict):
            raise TypeError(f"class_weight must be a dict of class number to weight; got {class_weight!r}.")
        labels = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
        row = _first_row(labels, lambda t: t != library(y).floor(t))
        if row is not None:
            raise ValueError(
                f"class_weight needs class numbers in y; row {row} has {labels[row]}. Give sample_weight instead."
            )
        weights = library(y).ones(len(y), y.dtype)
        for label, weight in class_weight.items():
            if not all(isinstance(v, numbers.Real) and math.isfinite(v) for v in (label, weight)):
                raise TypeError(f"class_weight maps class numbers to weights; got {label!r}: {weight!r}.")
            weights[labels == label] = weight
        return _converted("class_weight", weights, y.dtype)
    if value is None:
        return None
    array = to_array("sample_weight", value)
    if array.shape not in ((len(y),), (len(y), 1)):
        raise ValueError(f"sample_weight must have shape ({len(y)},), one per sample; got {array.shape}.")
    return _converted("sample_weight", array, y.dtype).reshape(-1)


def same_length(**arrays: Array | None) -> None:
    """Raise ValueError unless all arrays have as many rows."""
    lengths = {name: a.shape[0] for name, a in arrays.items() if a is not None}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"Data cardinality is ambiguous: all arrays must have as many rows; got {sizes}.")


def cut_at(n: int, share: float) -> int:
    """Return how many of n rows come before the last ``share`` of them; ValueError where all or none do."""
    cut = math.floor(n * (1.0 - share))
    if cut in (0, n):
        raise ValueError(f"validation_split={share} of {n} samples leaves training or validation empty.")
    return cut


def split(value: object, share: float) -> tuple[Array | None, Array | None]:
    """Return the first rows and the last ``share`` of them, as Keras cuts: at floor(n * (1 - share))."""
    if value is None:
        return None, None
    array = to_array("the data", value)
    cut = cut_at(len(array), share)
    if isinstance(value, np.memmap):
        array = value  # parts of a mapped file are such, too: they may be read in blocks
    return array[:cut], array[cut:]


def _is_order(order: object, n: int) -> bool:
    """Whether ``order`` has n numbers of rows: kernels go by them without a look."""
    if not isinstance(order, np.ndarray) or order.shape != (n,) or order.dtype.kind not in "iu":
        return False
    return bool(0 <= order.min() and order.max() < n)


class Batches:
    """Which batches each epoch runs: Keras's rules for batch_size, steps and shuffle over n samples.

    ``batch_size = ceil(n / steps)`` when only steps are given, 32 when neither is. With steps given, an epoch goes on
    where the last one ended, and warns when the data runs out before its steps are done. ``rows`` [n] says which
    of the data's samples are meant, None all.

    The first epoch draws one number from the stream that is current at the construction, and all shuffles come from
    that: so they do not depend on who else draws meanwhile, such as a fit in another thread.
    """

    def __init__(
        self, n: int, batch_size: int | None, steps: int | None, shuffle: bool, rows: Rows | None = None
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
        self._shuffles: np.random.Generator | None = None
        self.order = rows
        self._seen = 0

    @property
    def within(self) -> bool:
        """Whether the last epoch has left some of the batches to the next one."""
        return self._seen != 0

    def start_anew(self) -> None:
        """Have the next epoch begin with the first batch."""
        self._seen = 0

    def position(self) -> dict[str, object]:
        """Return where the batches are, for `going_on_from`."""
        shuffles = None if self._shuffles is None else dict(self._shuffles.bit_generator.state)
        return {"order": self.order, "seen": self._seen, "shuffles": shuffles, "n": self.n, "size": self.batch_size}

    def going_on_from(self, position: Mapping[str, Any], what: str) -> Callable[[], None]:
        """Return what has the batches be where `position` was; ValueError, naming ``what``, where it is of others."""
        if (position.get("n"), position.get("size")) != (self.n, self.batch_size):
            raise ValueError(
                f"{what} is of a fit with batches of {position.get('size')} out of {position.get('n')} samples; here "
                f"they are of {self.batch_size} out of {self.n}."
            )
        order, seen = position.get("order"), position.get("seen")
        if order is not None and not _is_order(order, self.n):
            raise ValueError(f"{what} must have {self.n} numbers of samples as their order.")
        if type(seen) is not int or not 0 <= seen <= self.total:
            raise ValueError(f"{what} must have 0 to {self.total} batches that an epoch begins behind; got {seen!r}.")
        shuffles = random.generator_in(position.get("shuffles"))

        def put() -> None:
            self.order = self._rows if order is None else np.ascontiguousarray(order, np.int64)
            self._seen, self._shuffles = seen, shuffles

        return put

    def epoch(self) -> tuple[Rows | None, int, int]:
        """Return the sample order (None: as it stands) and the first and last + 1 batch of the next epoch."""
        if self._seen == 0 and self.shuffle:
            if self._shuffles is None:
                self._shuffles = np.random.default_rng(self._stream.generator().integers(2**63))
            order = self._shuffles.permutation(self.n)
            self.order = order if self._rows is None else self._rows[order]
        first, last = self._seen, min(self._seen + self.steps, self.total)
        if self._asked and last - first < self.steps:
            warnings.warn(
                f"The data ran out after {last - first} of {self.steps} steps: {self.n} samples make {self.total} "
                f"batches of {self.batch_size}. The epoch ends here.",
                stacklevel=caller_level(),
            )
        self._seen = 0 if last == self.total or not self._asked else last
        return self.order, first, last
