"""Golden data: what Keras computed once, in float64, with its numbers; ``make.py`` wrote it and says what is in it.

    for case in golden.cases("losses"): ...

No Keras is needed to read it. A kind is the name of a file: activations, losses, metrics, optimizers, normalization,
initializers, regularizers, constraints, api.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RTOL = 1e-12  # of float64, in sums of a dozen numbers
ATOL = 1e-15


@dataclass(frozen=True)
class Case:
    """One call of something of Keras's.

    Parameters
    ----------
    kind, name : str
        The file, and Keras's name of the class or function.
    config : dict
        The arguments it is made with, or for an activation called with; what is missing is Keras's default.
    inputs, expected : dict
        Arrays (labels of int64, all else float64) and lists of arrays by name.
    marks : dict
        By "kink", "tie", "accident" and "edge" the places in the flattened first input: see `golden.make`.
    """

    kind: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    expected: dict[str, Any]
    marks: dict[str, list[int]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)  # those of the inputs

    @property
    def id(self) -> str:
        """What a test calls it: name, configuration and inputs."""
        config = ",".join(f"{k}={v}" for k, v in self.config.items()).replace(" ", "")
        first = next(iter(self.names.values()), "")
        while isinstance(first, list):
            first = first[0]
        return f"{self.name}({config})-{first}"

    def keep(self, shape: tuple[int, ...], *left_out: str) -> np.ndarray:
        """Return which elements of an array of ``shape`` have none of the marks."""
        found = np.ones(shape, bool)
        for mark in left_out:
            found.reshape(-1)[self.marks.get(mark, [])] = False
        return found


@functools.cache
def _file(kind: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / f"{kind}.json").read_text())


def _arrays(value: Any) -> Any:
    """Return lists of numbers as arrays, whatever they stand in; other lists as they are."""
    if isinstance(value, dict):
        return {k: _arrays(v) for k, v in value.items()}
    if not isinstance(value, list):
        return np.float64(value) if isinstance(value, float) else value
    try:
        array = np.array(value)
    except ValueError:  # arrays of several shapes
        return [_arrays(v) for v in value]
    return array if array.dtype.kind in "fi" else [_arrays(v) for v in value]


def _named(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_named(v, arrays) for v in value]
    return arrays[value] if isinstance(value, str) and value in arrays else value


def cases(kind: str) -> list[Case]:
    """Return all cases of a kind, in the file's order."""
    data = _file(kind)
    arrays = {k: _arrays(v) for k, v in data["inputs"].items()}
    found = []
    for case in data["cases"]:
        expected = case["expected"] if kind == "api" else _arrays(case["expected"])
        given = {k: _named(v, arrays) for k, v in case["inputs"].items()}
        found.append(Case(kind, case["name"], case["config"], given, expected, case["marks"], case["inputs"]))
    return found


def aliases(module: str) -> dict[str, str | None]:
    """Return what Keras's ``module.get`` makes of names: a class's or a function's name, None where it refuses."""
    return next(c.expected["aliases"] for c in cases("api") if c.name == "get" and c.inputs["module"] == module)


def difference(ours: Any, theirs: Any, rtol: float = RTOL, atol: float = ATOL) -> str:
    """Return "" where two arrays agree, NaN for NaN and infinity for infinity; else the worst place, in words."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.shape != b.shape:
        return f"shape {a.shape}, Keras has {b.shape}"
    with np.errstate(all="ignore"):
        wrong = np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b) - (atol + rtol * np.abs(b)), np.inf)
    wrong = np.where((a == b) | (np.isnan(a) & np.isnan(b)), -np.inf, wrong)
    if wrong.size == 0 or wrong.max() <= 0:
        return ""
    place = np.unravel_index(np.argmax(wrong), wrong.shape)
    return (
        f"{(wrong > 0).sum()} of {wrong.size} differ, most at {[int(i) for i in place]}: {a[place]}, Keras {b[place]}"
    )
