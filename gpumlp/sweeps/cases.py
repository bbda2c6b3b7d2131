"""What a search trains: candidates, by their parameters, over folds of the data."""

from __future__ import annotations

import inspect
import itertools
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gpumlp.errors import UnknownArgument
from gpumlp.naming import nearest
from gpumlp.signatures import NEAR, taken_by
from gpumlp.workers import digest

FIT = "batch_size", "epochs", "shuffle", "class_weight", "steps_per_epoch"  # arguments of fit that candidates may have
Fold: TypeAlias = tuple[np.ndarray, np.ndarray]  # rows to train on, and to judge by


class Case(NamedTuple):
    """A candidate and a fold, by their numbers."""

    candidate: int
    fold: int


def candidates(grid: object) -> list[dict[str, Any]]:
    """Return each candidate's parameters: all combinations of a dict's lists, or a list's dicts as they are."""
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
                raise TypeError(f"grid[{name!r}] must be a list of values to try; got {values!r}. Write [{values!r}].")
        names = list(grid)
        found = [dict(zip(names, each, strict=True)) for each in itertools.product(*map(list, grid.values()))]
    elif isinstance(grid, Iterable) and not isinstance(grid, (str, bytes)):
        found = list(grid)
        if wrong := next((each for each in found if not isinstance(each, Mapping)), None):
            raise TypeError(f"grid must be a dict of lists, or a list of dicts; got a list with {wrong!r}.")
        found = [dict(each) for each in found]
    else:
        raise TypeError(
            f"grid must be a dict of lists, such as {{'units': [16, 64]}}, or a list of dicts; got {grid!r}."
        )
    if not found:
        raise ValueError("grid must have a candidate; one of its lists, or it, is empty.")
    return found


def dealt(
    build: Callable[..., object], params: Sequence[Mapping[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what of each candidate's parameters ``build`` takes, and what is left to ``fit``.

    TypeError where neither takes one, or ``build`` lacks one.
    """
    try:
        signature, takes = inspect.signature(build), taken_by(build)
    except ValueError:  # what is written in C may not say what it takes
        return [(dict(each), {}) for each in params]
    found = []
    for each in params:
        of_fit = {name: v for name, v in each.items() if name in FIT and not {name, "**"} & {*takes}}
        of_build = {name: v for name, v in each.items() if name not in of_fit}
        unknown = [] if "**" in takes else [str(name) for name in of_build if name not in takes]
        if unknown:
            near = nearest(unknown[0], (*takes, *FIT), NEAR)
            hint = (f" Did you mean {near!r}?" if near else "") + f" It takes {', '.join(takes) or 'nothing'}"
            raise UnknownArgument(
                f"grid has {unknown[0]!r}, which build does not take.{hint}; of fit's arguments a grid "
                f"may have {', '.join(FIT)}."
            )
        try:
            signature.bind(**of_build)
        except TypeError as error:
            raise TypeError(f"build cannot be called with a candidate of the grid, {of_build}: {error}.") from None
        found.append((of_build, of_fit))
    return found


def folds(cv: Any, x: np.ndarray, y: object, seed: int) -> list[Fold]:
    """Return the rows of each fold: of so many equal parts, by a splitter of scikit-learn's, or as they are given."""
    n = len(x)
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if not 2 <= cv <= n:
            raise ValueError(f"cv must be 2 folds or more, and no more than there are samples, {n}; got {cv}.")
        parts = np.array_split(np.random.default_rng(seed).permutation(n), cv)
        return [(np.sort(np.concatenate([*parts[:k], *parts[k + 1 :]])), np.sort(parts[k])) for k in range(cv)]
    given = cv.split(x, y) if hasattr(cv, "split") and not isinstance(cv, str) else cv
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"cv must be a number of folds, pairs (train, test) of rows, or a splitter of scikit-learn's; got {cv!r}."
        )
    found = []
    for k, pair in enumerate(given):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"Fold {k} of cv must be a pair (train, test) of rows; got {pair!r}.")
        found.append((_rows(pair[0], n, f"train of fold {k}"), _rows(pair[1], n, f"test of fold {k}")))
    if not found:
        raise ValueError("cv gives no fold.")
    return found


def _rows(given: object, n: int, what: str) -> np.ndarray:
    rows = np.asarray(given)
    if rows.dtype == bool and rows.shape == (n,):
        rows = np.flatnonzero(rows)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"cv: {what} must be one or more numbers of rows, from 0 to {n - 1}, or {n} booleans.")
    return rows.astype(np.int64)


def comparable(value: object) -> Any:
    """Return what is equal, by ``==``, for values that mean the same: also for one that a file has kept.

    Numbers are themselves, NumPy's too; arrays, and objects that can be pickled, stand for their contents; a function
    for its name, where it has one that can be imported. What is left, such as a lambda, is equal to itself alone.
    """
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value
    if isinstance(value, Mapping):
        return {name: comparable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [comparable(each) for each in value]
    try:  # once more: what is unpickled shares its strings in another way than what was made by hand
        return digest((pickle.loads(pickle.dumps(value)),))
    except Exception:
        return value if callable(value) else repr(value)
