"""Global settings: the default floating-point type, what NaN or Inf in the data leads to, whether progress is shown.

Settings of Keras's that are one value here can be read, and set to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gpumlp.literals import FloatName
from gpumlp.naming import listing, neutral, unmasked

__all__ = [
    "advice", "backend", "disable_interactive_logging", "disable_traceback_filtering", "enable_interactive_logging",
    "epsilon", "floatx", "image_data_format", "is_interactive_logging_enabled", "is_traceback_filtering_enabled",
    "nonfinite", "set_advice", "set_epsilon", "set_floatx", "set_image_data_format", "set_nonfinite",
]  # fmt: skip
__dir__ = listing(__name__)

FLOAT_TYPES = ("float32", "float64")
_floatx = "float32"


def floatx() -> str:
    """Return the default floating-point type.

    Returns
    -------
    str
        "float32", unless `set_floatx` has changed it.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.floatx()
    'float32'
    """
    return _floatx


def set_floatx(value: FloatName) -> None:
    """Set the default floating-point type of models made from now on.

    Parameters
    ----------
    value : {"float32", "float64"}
        "float64" is the exact way: NumPy's kernels on a CPU, slower than compiled ones.

    Raises
    ------
    ValueError
        For any other type.

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.config.set_floatx("float64")
    >>> gpumlp.Sequential().dtype
    dtype('float64')
    >>> gpumlp.config.set_floatx("float32")
    """
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


def policy(name: str) -> dict[str, object]:
    """Return what Keras's configs have for a dtype."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": None}


def policy_name(value: object) -> object:
    """Return the name of a dtype that is given as Keras's dtype policy, or its config; anything else as it is."""
    if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        return value["config"].get("name")
    return getattr(value, "name", value) if hasattr(value, "variable_dtype") else value


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
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array of numbers; rows differ in length ({error}).") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of numbers; got {type(value).__name__} of dtype {array.dtype}.")
    wide = dtype is None and array.dtype == np.float64 and hasattr(value, "dtype")
    with np.errstate(over="ignore"):  # a number too large for the type is infinite in it
        return array.astype(array.dtype if wide else float_type(dtype), copy=False)


def in_float32(values: ArrayLike) -> np.ndarray:
    """Return numbers as float32; one that is too large for it is infinite, in silence, as in every step."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


NONFINITE = ("warn", "error", "ignore")
_nonfinite = "warn"


def nonfinite() -> str:
    """Return what NaN or Inf in x or y leads to.

    Returns
    -------
    str
        "warn", unless `set_nonfinite` has changed it.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.nonfinite()
    'warn'
    """
    return _nonfinite


def set_nonfinite(value: Literal["warn", "error", "ignore"]) -> None:
    """Choose what NaN or Inf in x or y leads to.

    Parameters
    ----------
    value : {"warn", "error", "ignore"}
        A UserWarning, a ValueError before anything is trained, or nothing.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.set_nonfinite("error")
    >>> config.set_nonfinite("warn")
    """
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


def set_advice(value: Literal["warn", "ignore"]) -> None:
    """Choose whether a warning tells that a loss is no number, that relus are dead, or that data are badly scaled.

    Parameters
    ----------
    value : {"warn", "ignore"}
        With "ignore" nothing of the kind is looked for. To silence one of them, filter its category of
        `gpumlp.errors`: `NonFiniteLossWarning`, `DeadUnitsWarning`, `TargetScaleWarning`,
        `InputScaleWarning` and, of it, `NotAdaptedWarning`; all are a `TrainingWarning`.

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
    """Return whether progress and summaries go to standard output, and not to the logger "gpumlp".

    Returns
    -------
    bool
        True, unless `disable_interactive_logging` was called.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.is_interactive_logging_enabled()
    True
    """
    return _interactive


def enable_interactive_logging() -> None:
    """Have progress and summaries on standard output, as from the beginning.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.enable_interactive_logging()
    """
    global _interactive
    _interactive = True


def disable_interactive_logging() -> None:
    """Have progress and summaries go to the logger "gpumlp", of Python's ``logging``, at the level INFO.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.disable_interactive_logging()
    >>> config.is_interactive_logging_enabled()
    False
    >>> config.enable_interactive_logging()
    """
    global _interactive
    _interactive = False


def settings() -> tuple[str, str, str, bool]:
    """Return all that can be set, for `go_by` in another process."""
    return _floatx, _nonfinite, _advice, _interactive


def go_by(found: tuple[str, str, str, bool]) -> None:
    """Set what `settings` has returned elsewhere."""
    global _floatx, _nonfinite, _advice, _interactive
    _floatx, _nonfinite, _advice, _interactive = found


def epsilon() -> float:
    """Return by how much losses keep probabilities from 0 and 1.

    Returns
    -------
    float
        1e-7, always.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.epsilon()
    1e-07
    """
    return 1e-7


def set_epsilon(value: float) -> None:
    """Take 1e-7, which is a constant of the losses.

    Parameters
    ----------
    value : float
        1e-7.

    Raises
    ------
    NotImplementedError
        For anything else.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.set_epsilon(1e-7)
    """
    neutral("set_epsilon", value=(value, epsilon()))


def image_data_format() -> str:
    """Return which axis of an image is its channels, where it is flattened as it stands.

    Returns
    -------
    str
        "channels_last", always.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.image_data_format()
    'channels_last'
    """
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Take "channels_last", which is how images are.

    Parameters
    ----------
    data_format : str
        "channels_last".

    Raises
    ------
    NotImplementedError
        For anything else.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.set_image_data_format("channels_last")
    """
    neutral("set_image_data_format", data_format=(data_format, image_data_format()))


def backend() -> str:
    """Return whose arrays are given and come back.

    Returns
    -------
    str
        "numpy", always. Which kernels compute is said by `Sequential.program`.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.backend()
    'numpy'
    """
    return "numpy"


def is_traceback_filtering_enabled() -> bool:
    """Return whether tracebacks leave out the package's own lines.

    Returns
    -------
    bool
        False, always: they are whole.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.is_traceback_filtering_enabled()
    False
    """
    return False


def disable_traceback_filtering() -> None:
    """Do nothing: tracebacks are whole already.

    Examples
    --------
    >>> from gpumlp import config
    >>> config.disable_traceback_filtering()
    """
