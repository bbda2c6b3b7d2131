"""The random numbers that a person's code draws: NumPy's, Python's, and torch's, where that is loaded."""

from __future__ import annotations

import random as python_random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np


def states() -> dict[str, Any]:
    """Return where they are, by library."""
    found = {"python": python_random.getstate(), "numpy": np.random.get_state()}
    if (torch := _torch()) is not None:
        found["torch"] = torch.get_rng_state().numpy()
    return found


def put(found: Mapping[str, Any]) -> None:
    """Have them go on from `states`; torch's are left alone where it is not loaded."""
    python_random.setstate(found["python"])
    np.random.set_state(found["numpy"])
    if (torch := _torch()) is not None and "torch" in found:
        torch.set_rng_state(torch.from_numpy(np.array(found["torch"])))


@contextmanager
def drawn_from(found: Mapping[str, Any] | None) -> Iterator[None]:
    """Have them go on from ``found``, where that is something, and afterwards be what they were before."""
    before = states()
    try:
        if found is not None:
            put(found)
        yield
    finally:
        put(before)


def packed(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return states as `gpumlp.saving.write_state` takes them."""
    version, words, gauss = found["python"]
    return {**found, "python": [version, np.array(words, np.uint64), gauss], "numpy": list(found["numpy"])}


def unpacked(found: Any, what: str) -> dict[str, Any]:
    """Return the states that `packed` has packed; ValueError where they are none."""
    try:
        version, words, gauss = found["python"]
        python, numpys = (version, tuple(int(word) for word in words), gauss), tuple(found["numpy"])
        python_random.Random().setstate(python)
        np.random.RandomState().set_state(numpys)
        given: dict[str, Any] = {"python": python, "numpy": numpys}
        if "torch" in found:
            given["torch"] = np.array(found["torch"], np.uint8)
            if (torch := _torch()) is not None:
                torch.Generator().set_state(torch.from_numpy(given["torch"]))
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{what} has no state of random numbers: {error}. Remove the file to begin anew.") from None
    return given


def _torch() -> ModuleType | None:
    """Return torch where somebody has imported all of it."""
    found = sys.modules.get("torch")
    return found if hasattr(found, "get_rng_state") and hasattr(found, "from_numpy") else None
