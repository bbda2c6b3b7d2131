"""What each word of the compiled kernels' table holds, said once: mypy reads it, and so does whoever sets a word.

kernels/cpu/layout.py says where the words stand, and what they mean. A whole number stands as it is, a real one as
the bits of a float64, an array as its address.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from typing import Annotated, TypedDict, get_args, get_type_hints, overload

import numpy as np

from gpumlp.backends.runtime import Array, DType

_BYTE = ctypes.c_char


class Whole:
    """A whole number of up to 64 bits, with a sign or without."""

    def word(self, name: str, value: object) -> int:
        """Return the word for ``value``; TypeError or ValueError, with the field's name, where it is none."""
        if not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name} of a compiled step must be a whole number; got {value!r}.")
        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"{name} of a compiled step must be a whole number of 64 bits; got {value!r}.")
        return int(value) if value < 1 << 63 else int(value) - (1 << 64)


class Real:
    """A real number."""

    def word(self, name: str, value: object) -> int:
        """See `Whole.word`."""
        if not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name} of a compiled step must be a number; got {value!r}.")
        return struct.unpack("<q", struct.pack("<d", value))[0]


@dataclass(frozen=True)
class Address:
    """Where an array of one type starts; 0 for None. ``written``: kernels do not only read it."""

    dtype: DType
    written: bool = True

    def word(self, name: str, value: object, size: int = 0) -> int:
        """Return where the array starts, for machine code.

        The one gate to it: ValueError unless the array is of the field's type, contiguous, aligned, writeable where
        kernels write, and of at least ``size`` elements. Whoever asks keeps it alive as long as kernels may use it.
        """
        if value is None:
            return 0
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name} of a compiled step must be an array of {self.dtype}, or None; got {value!r}.")
        flags = value.flags
        writeable = flags.writeable
        fine = flags.c_contiguous and flags.aligned and (writeable or not self.written)
        if not fine or value.dtype != self.dtype or value.size < size:
            raise ValueError(
                f"{name} of a compiled step must be a contiguous, aligned{', writeable' if self.written else ''} array "
                f"of at least {size} {self.dtype}; got {value.size} {value.dtype}, contiguous: {flags.c_contiguous}, "
                f"aligned: {flags.aligned}, writeable: {flags.writeable}."
            )
        if writeable and value.size:  # a third of the time that the other way takes
            return ctypes.addressof(_BYTE.from_buffer(value))  # type: ignore[arg-type]
        return value.__array_interface__["data"][0]


Kind = Whole | Real | Address
FLOATS, WORDS = Address(np.dtype(np.float32)), Address(np.dtype(np.int64))

Int = Annotated[int, Whole()]
Float = Annotated[float, Real()]
Floats = Annotated[Array | None, FLOATS]
ReadFloats = Annotated[Array | None, Address(np.dtype(np.float32), written=False)]
Words = Annotated[Array | None, WORDS]
ReadWords = Annotated[Array | None, Address(np.dtype(np.int64), written=False)]
Doubles = Annotated[Array | None, Address(np.dtype(np.float64))]


class JobFields(TypedDict, total=False):
    """The words of a job."""

    THREADS: Int
    BARRIER: Words
    YIELD: Int
    PHASES: Int
    FIRST: Int
    LAST: Int
    BATCH: Int
    SAMPLES: Int
    STEP: Int
    X: ReadFloats
    ORDER: ReadWords
    PREDICTIONS: Floats
    Y: ReadFloats
    SAMPLE_WEIGHTS: ReadFloats
    RESULTS: Doubles
    SCALARS: ReadFloats
    X_WIDTH: Int
    PREDICTIONS_WIDTH: Int
    Y_WIDTH: Int
    BATCH_Y: Floats
    BATCH_W: Floats
    OPS: Int
    OPS_AT: Int
    LOSS_CODE: Int
    LOSS_NUMBERS: ReadFloats
    METRICS: Int
    METRICS_AT: Int
    FACTORS: Floats
    VALUES: Floats
    VALUES_LD: Int
    SERIES: Int
    SCALARS_LD: Int
    UPDATE_CODE: Int
    UPDATE_NUMBERS: ReadFloats
    SLOTS: ReadWords
    IDENTITY: ReadWords
    LISTS: Words
    GRADIENTS: Floats
    PANELS: Floats
    COPIES: Floats
    LISTS_LD: Int
    GRADIENTS_LD: Int
    PANELS_LD: Int
    COPIES_LD: Int
    PLACE: Int
    LONG: Int
    SLICE: Int
    SLICES: Floats
    SLICES_LD: Int
    WEIGHTS_BAD: Int
    GRADIENTS_BAD: Int


class ActivationFields(TypedDict, total=False):
    """Those words of an operation that say its activation."""

    FORWARD_CODE: Int
    FORWARD_NUMBERS: ReadFloats
    BACK_CODE: Int
    BACK_NUMBERS: ReadFloats
    RELU: Int


class PenaltyFields(TypedDict, total=False):
    """Those words of an operation that say its penalties."""

    KERNEL_PENALTY_CODE: Int
    KERNEL_PENALTY_NUMBERS: ReadFloats
    BIAS_PENALTY_CODE: Int
    BIAS_PENALTY_NUMBERS: ReadFloats


class OperationFields(ActivationFields, PenaltyFields, total=False):
    """The words of an operation."""

    KIND: Int
    INPUTS: Int
    OUTPUTS: Int
    FACTOR: Float
    OFFSET: Float
    ROW: Int
    KERNEL: Floats
    BIAS: Floats
    KERNEL_TRAINS: Int
    BIAS_TRAINS: Int
    PENALTIES: Doubles
    PARTS: Int
    MEAN: Floats
    VARIANCE: Floats
    KEPT: Floats
    SUMS: Floats
    EPSILON: Float
    MOMENTUM: Float
    FROZEN: Int
    IN: Floats
    IN_DELTA: Floats
    IN_LD: Int
    Z: Floats
    OUT: Floats
    DELTA: Floats
    OUT_LD: Int
    MASK: Floats
    RATE: Float
    SCALE: Float
    KEY: Int
    LAYER: Int
    ZEROS: Int
    ACTIVE: Floats
    ACTIVE_LD: Int
    SHARES: ReadWords
    SLICE_AT: Int


class MetricFields(TypedDict, total=False):
    """The words of a metric."""

    METRIC_CODE: Int
    METRIC_NUMBERS: ReadFloats
    METRIC_WEIGHTED: Int
    METRIC_SUMS: Int
    METRIC_FIRST: Int


def _kinds(fields: type) -> dict[str, Kind]:
    return {name: get_args(hint)[1] for name, hint in get_type_hints(fields, include_extras=True).items()}


JOB, OPERATION, METRIC = _kinds(JobFields), _kinds(OperationFields), _kinds(MetricFields)
FIELDS = JOB | OPERATION | METRIC  # all names differ
_ARRAYS = {name: kind for name, kind in FIELDS.items() if isinstance(kind, Address)}


def kind_of(name: str, kinds: dict[str, Kind]) -> Kind:
    """Return what a field holds; TypeError where there is none of that name."""
    if name not in kinds:
        raise TypeError(f"A compiled step has no field {name!r} there; there are {', '.join(kinds)}.")
    return kinds[name]


def _array(name: str) -> Address:
    if (found := _ARRAYS.get(name)) is None:
        kind = type(kind_of(name, FIELDS)).__name__.lower()
        raise TypeError(f"{name} of a compiled step is no array, but a {kind} number.")
    return found


def address(name: str, array: object, size: int = 0) -> int:
    """Return where the array of a field starts: see `Address.word`."""
    return 0 if array is None else _array(name).word(name, array, size)


@overload
def readable(name: str, array: Array) -> Array: ...
@overload
def readable(name: str, array: Array | None) -> Array | None: ...
def readable(name: str, array: Array | None) -> Array | None:
    """Return ``array`` as kernels can read it: itself where it is contiguous, aligned and of the field's type."""
    if array is None:
        return None
    dtype = _array(name).dtype
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array  # np.require takes ten times as long to say so
    return np.require(array, dtype, ["C", "A"])
