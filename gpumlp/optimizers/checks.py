"""Checks of what an optimizer's attributes are set to: functions from what is given to what is kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from gpumlp.naming import flag, number

Check: TypeAlias = Callable[[object], object]
Checks: TypeAlias = Mapping[str, Check]  # by the name of an attribute


def within(name: str, low: float, high: float = math.inf, below: bool = False) -> Callable[[object], float]:
    """Return a function that returns a number in [low, high], or with ``below`` in [low, high), as a float."""
    return functools.partial(number, name, low=low, high=high, below=below)


def fractions(*names: str) -> dict[str, Check]:
    """Return checks for numbers in [0, 1) of these names."""
    return {name: within(name, 0.0, 1.0, below=True) for name in names}


def numbers(*names: str, low: float = 0.0) -> dict[str, Check]:
    """Return checks for numbers >= ``low`` of these names."""
    return {name: within(name, low) for name in names}


def flags(*names: str) -> dict[str, Check]:
    """Return checks for True and False of these names."""
    return {name: functools.partial(flag, name) for name in names}


def or_none(check: Check) -> Check:
    """Return a check that lets None pass."""
    return lambda value: None if value is None else check(value)


def whole(name: str, low: int) -> Callable[[object], int]:
    """Return a check for a whole number >= ``low``."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise ValueError(f"{name} must be a whole number >= {low}, or None; got {value!r}.")
        return int(value)

    return check
