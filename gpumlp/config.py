"""The one global setting: the floating-point type of models that do not name theirs."""

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
