"""Global settings: the default floating-point type, and what NaN or Inf in the data leads to."""

from __future__ import annotations

import numpy as np

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
    name = _floatx if value is None else np.dtype(value).name  # type: ignore[call-overload]
    if name not in FLOAT_TYPES:
        raise ValueError(f"dtype must be one of {', '.join(FLOAT_TYPES)}; got {value!r}.")
    return np.dtype(name)


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
