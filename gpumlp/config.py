"""Global settings: the default floating-point type, what NaN or Inf in the data leads to, whether progress is shown.

Settings of Keras's that are one value here can be read, and set to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpumlp.naming import neutral, unmasked

FLOAT_TYPES = ("float32", "float64")
_floatx = "float32"


def floatx() -> str:
    """Return the default floating-point type, ``"float32"`` unless changed."""
    return _floatx


def set_floatx(value: str) -> None:
    """Set the default floating-point type of models built from now on."""
    global _floatx
    _floatx = float_type(value).name


def float_type(value: object = None) -> np.dtype:
    """Return a NumPy dtype for ``value`` (the default type for None).

    Raises
    ------
    ValueError
        For anything but float32 and float64.
    """
    try:
        name = _floatx if value is None else np.dtype(value).name  # type: ignore[call-overload]
    except TypeError:  # NumPy's word for a name that it does not know
        name = ""
    if name not in FLOAT_TYPES:
        raise ValueError(f"dtype must be one of {', '.join(FLOAT_TYPES)}; got {value!r}.")
    return np.dtype(name)


def policy(name: str) -> dict[str, Any]:
    """Return what Keras's configs have for a dtype."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": None}


def policy_name(value: Any) -> Any:
    """Return the name of a dtype that is given as Keras's dtype policy, or its config; anything else as it is."""
    if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        return value["config"].get("name")
    return value.name if hasattr(value, "variable_dtype") else value


def floats(name: str, value: object, dtype: object = None) -> np.ndarray:
    """Return ``value``, an array or nested lists of any shape, as an array of floating-point numbers.

    Of ``dtype``; with None an array of float64 stays, and everything else becomes the default type.

    Raises
    ------
    TypeError
        If it holds anything but numbers.
    ValueError
        If it is ragged, or hides numbers behind a mask.
    """
    unmasked(name, value)
    try:
        array: Any = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array of numbers; rows differ in length ({error}).") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of numbers; got {type(value).__name__} of dtype {array.dtype}.")
    wide = dtype is None and array.dtype == np.float64 and hasattr(value, "dtype")
    with np.errstate(over="ignore"):  # a number too large for the type is infinite in it
        return array.astype(array.dtype if wide else float_type(dtype), copy=False)


def in_float32(values: Any) -> np.ndarray:
    """Return numbers as float32; one that is too large for it is infinite, in silence, as in every step."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


NONFINITE = ("warn", "error", "ignore")
_nonfinite = "warn"


def nonfinite() -> str:
    """Return what NaN or Inf in x or y leads to: "warn" (the default), "error" or "ignore"."""
    return _nonfinite


def set_nonfinite(value: str) -> None:
    """Choose what NaN or Inf in x or y leads to: "warn", "error" or "ignore"."""
    global _nonfinite
    if value not in NONFINITE:
        raise ValueError(f"nonfinite must be one of {', '.join(NONFINITE)}; got {value!r}.")
    _nonfinite = value


ADVICE = ("warn", "ignore")
_advice = "warn"


def advice() -> str:
    """Return whether a warning tells that training goes wrong: "warn" (the default), or "ignore".

    Returns
    -------
    str
        See `set_advice`.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.advice()
    'warn'
    """
    return _advice


def set_advice(value: str) -> None:
    """Choose whether a warning tells that a loss is no number, that relus are dead, or that inputs are badly scaled.

    Parameters
    ----------
    value : {"warn", "ignore"}
        With "ignore" nothing of the kind is looked for. To silence one of them, filter its category of
        `gpumlp.errors`: `NonFiniteLossWarning`, `DeadUnitsWarning`, `InputScaleWarning`; all are a `TrainingWarning`.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> import warnings
    >>> from gpumlp import config, errors
    >>> config.set_advice("ignore")
    >>> config.set_advice("warn")
    >>> warnings.filterwarnings("ignore", category=errors.DeadUnitsWarning)
    """
    global _advice
    if value not in ADVICE:
        raise ValueError(f"advice must be one of {', '.join(ADVICE)}; got {value!r}.")
    _advice = value


_interactive = True


def is_interactive_logging_enabled() -> bool:
    """Return whether progress and summaries go to standard output, and not to the logger "gpumlp"."""
    return _interactive


def enable_interactive_logging() -> None:
    """Have progress and summaries on standard output, as from the beginning."""
    global _interactive
    _interactive = True


def disable_interactive_logging() -> None:
    """Have progress and summaries go to the logger "gpumlp", of Python's ``logging``, at the level INFO."""
    global _interactive
    _interactive = False


def epsilon() -> float:
    """Return by how much losses keep probabilities from 0 and 1: 1e-7."""
    return 1e-7


def set_epsilon(value: float) -> None:
    """Take 1e-7; NotImplementedError for anything else: it is a constant of the losses."""
    neutral("set_epsilon", value=(value, epsilon()))


def image_data_format() -> str:
    """Return "channels_last": an image's last axis is its channels, where it is flattened as it stands."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Take "channels_last"; NotImplementedError for anything else."""
    neutral("set_image_data_format", data_format=(data_format, image_data_format()))


def backend() -> str:
    """Return "numpy": what is given, and what comes back, are NumPy's arrays."""
    return "numpy"


def is_traceback_filtering_enabled() -> bool:
    """Return False: tracebacks are whole."""
    return False


def disable_traceback_filtering() -> None:
    """Do nothing: tracebacks are whole already."""
