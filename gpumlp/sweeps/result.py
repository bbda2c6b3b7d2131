"""SearchResult: what a search has found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpumlp.sweeps.cases import Case, Fold, comparable
from gpumlp.workers import counted

if TYPE_CHECKING:
    from gpumlp.models import Sequential

REASON = 60  # letters of a reason, where a failure is shown
UNKNOWN = "It is not known whether more or less of {!r} is better: pass mode='max' or 'min'."
SHOWN = 12  # rows of a table, the best ones
DATA = "x", "y", "sample_weight", "validation_data"


class Failure(NamedTuple):
    """A candidate that was not trained, or not judged, on a fold, and why.

    Parameters
    ----------
    candidate, fold : int
        Their numbers, from 0.
    params : dict
        The candidate's.
    reason : str
        The error, in words; what is shown of a failure is their beginning.

    Examples
    --------
    >>> from gpumlp import sweeps
    >>> sweeps.Failure(3, 0, {"units": -1}, "ValueError: units").candidate
    3
    """

    candidate: int
    fold: int
    params: Mapping[str, Any]
    reason: str

    def __repr__(self) -> str:
        words = f"candidate={self.candidate}, fold={self.fold}, params={self.params!r}"
        return f"Failure({words}, reason={textwrap.shorten(self.reason, REASON, placeholder=' ...')!r})"


class Scored(NamedTuple):
    """What has become of a case: numbers by name, or the reason why there are none."""

    scores: Mapping[str, Any]
    history: Mapping[str, list[float]]
    directions: Mapping[str, str | None]  # "up" where more of a number is better, "down" where less is
    program: str
    penalties: str = ""  # those in its loss, in words
    reason: str = ""


@dataclass(repr=False, eq=False)  # results are compared by their scores, which are dicts
class SearchResult:
    """What a search has found: a row for each candidate, with means and spreads over the folds.

    Parameters
    ----------
    params : list of dict
        Each candidate's parameters.
    folds : list of pairs of int arrays
        The rows that were trained on, and those that were judged by.
    monitor : str
        By which number candidates are compared.
    mode : {"auto", "min", "max"}
        Which is better, less or more of it.
    seed : int
        By which each model was begun.

    Attributes
    ----------
    scores : dict of dict
        The numbers of `Sequential.evaluate` on a fold's rows, by ``(candidate, fold)``.
    histories : dict of dict
        The lists of the history of each fit, by ``(candidate, fold)``.
    failed : list of Failure
        Candidates that have no number on a fold, and why.
    model : Sequential or None
        The best candidate, trained on all samples, where that was asked for.

    Examples
    --------
    >>> import gpumlp
    >>> import numpy as np
    >>> def build(units):
    ...     model = gpumlp.Sequential(
    ...         [gpumlp.layers.Dense(units, "tanh"), gpumlp.layers.Dense(1)]
    ...     )
    ...     model.compile("adam", "mse")
    ...     return model
    >>> x = np.linspace(-1.0, 1.0, 60)[:, None]
    >>> found = gpumlp.search(build, {"units": [2, 8]}, x, x**2, cv=3, verbose=0)
    >>> found.best_params
    {'units': 8}
    >>> list(found.to_dict())
    ['units', 'loss', 'loss_std', 'folds']
    """

    params: list[dict[str, Any]]
    folds: list[Fold]
    monitor: str = "loss"
    mode: str = "auto"
    seed: int = 0
    scores: dict[Case, Mapping[str, Any]] = field(default_factory=dict, init=False)
    histories: dict[Case, Mapping[str, list[float]]] = field(default_factory=dict, init=False)
    failed: list[Failure] = field(default_factory=list, init=False)
    model: Sequential | None = field(default=None, init=False)
    _directions: dict[str, str | None] = field(default_factory=dict, init=False)
    _penalties: dict[Case, str] = field(default_factory=dict, init=False)
    _made_of: dict[str, Any] = field(default_factory=dict, init=False)  # digests of data, and what it was searched with

    def _take(self, case: Case, found: Scored) -> None:
        """Take in what has become of a case."""
        if found.reason:
            self.failed.append(Failure(*case, self.params[case.candidate], found.reason))
            return
        self.scores[case], self.histories[case] = found.scores, found.history
        self._directions.update(found.directions)
        self._penalties[case] = found.penalties

    def _going_on(self, before: SearchResult) -> None:
        """Take over what another search has found for the same candidates and folds."""
        mine, theirs = ({"seed": comparable(of.seed)} | of._made_of for of in (self, before))
        differing = [
            f"another {name}" if name in DATA else f"{name}={theirs.get(name)!r}; here it is {value!r}"
            for name, value in mine.items()
            if theirs.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"resume is of a search with {', '.join(differing)}. Pass the same, or search without resume."
            )
        known = [comparable(params) for params in before.params]
        self._directions.update(before._directions)
        for i, params in enumerate(map(comparable, self.params)):
            for j, (train, test) in enumerate(self.folds):
                for case in before.scores:
                    there = before.folds[case.fold]
                    same = known[case.candidate] == params
                    if same and np.array_equal(there[0], train) and np.array_equal(there[1], test):
                        found = before.scores[case], before.histories[case], before._penalties[case]
                        self.scores[Case(i, j)], self.histories[Case(i, j)], self._penalties[Case(i, j)] = found

    def _names(self) -> list[str]:
        """Return which numbers there are."""
        return list(dict.fromkeys(name for scores in self.scores.values() for name in scores))

    def _of(self, candidate: int) -> list[Mapping[str, Any]]:
        return [self.scores[case] for case in sorted(self.scores) if case.candidate == candidate]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each candidate.

        Returns
        -------
        list of dict
            Its parameters; then of each number the mean over the folds, NaN where the candidate has failed on all, or
            has no such metric, and, with ``_std``, its standard deviation, NaN of fewer than two folds; and on how many
            ``folds`` it was judged.
        """
        names = self._names()
        found = []
        for i, params in enumerate(self.params):
            row, own = dict(params), self._of(i)
            for name in names:
                values = np.array([scores[name] for scores in own if name in scores], np.float64)
                mean = values.mean(0) if len(values) else math.nan
                spread = values.std(0) if len(values) > 1 else mean * math.nan
                row |= {name: _plain(mean), f"{name}_std": _plain(spread)}
            found.append(row | {"folds": len(own)})
        return found

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the rows as columns, as ``pandas.DataFrame`` takes them.

        Returns
        -------
        dict of list
            None where a candidate has no such parameter.
        """
        rows = self.rows()
        names = list(dict.fromkeys(name for row in rows for name in row))
        names.sort(key=lambda name: not any(name in params for params in self.params))
        return {name: [row.get(name) for row in rows] for name in names}

    @property
    def ranking(self) -> list[int]:
        """The numbers of the candidates that were judged on all folds, the best first.

        Last are those whose number is NaN, or who have none.
        """
        whole = [i for i in range(len(self.params)) if len(self._of(i)) == len(self.folds)]
        if not whole:
            return []
        rows, sign = self.rows(), self._sign()
        return sorted(whole, key=lambda i: (math.isnan(rows[i][self.monitor]), sign * rows[i][self.monitor]))

    @property
    def best_index(self) -> int:
        """The number of the best candidate; ValueError where none was judged on all folds."""
        if not self.ranking:
            why = f" The first failure: {self.failed[0].reason}" if self.failed else ""
            raise ValueError(f"No candidate was judged on all folds; failed has {len(self.failed)}.{why}")
        return self.ranking[0]

    @property
    def best_params(self) -> dict[str, Any]:
        """The parameters of the best of the candidates that were judged on all folds."""
        return self.params[self.best_index]

    @property
    def best_score(self) -> float:
        """The best candidate's number, the mean over the folds."""
        return float(self.rows()[self.best_index][self.monitor])

    def _sign(self) -> float:
        """Return 1 where less is better, -1 where more is."""
        if self.monitor not in (names := self._names()):
            raise ValueError(f"monitor must be one of {', '.join(names)}; got {self.monitor!r}.")
        direction = {"min": "down", "max": "up"}.get(self.mode) or self._directions.get(self.monitor)
        if not direction:  # a metric of one's own has none, or no words for it
            raise ValueError(UNKNOWN.format(self.monitor))
        return 1.0 if direction == "down" else -1.0

    def __repr__(self) -> str:
        order = self.ranking
        order += [i for i in range(len(self.params)) if i not in order]
        rows, shown = self.rows(), order[:SHOWN]
        names = list(self.to_dict())
        table = [["", *names], *([str(i), *(_short(rows[i].get(name), name) for name in names)] for i in shown)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in table]
        more = len(order) - len(shown)
        counts = f"{counted(len(self.params), 'candidate')}, {counted(len(self.folds), 'fold')}"
        title = f"{counts}, the best by {self.monitor} first"
        end = [f"... and {more} more"] * (more > 0)
        if self.failed:
            of_all = (
                "the best is one of those that were judged on all folds" if self.ranking else "none was judged on all"
            )
            end += [f"{counted(len(self.failed), 'model')} failed; {of_all}"]
        return "\n".join([title, *lines, *end])


def _plain(value: Any) -> Any:
    return value if np.ndim(value) else float(value)


def _short(value: object, name: str) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    text = "-" if text == "nan" and name.endswith("_std") else text
    return text if len(text) <= 24 else text[:21] + "..."


def reasons(found: Sequence[Failure]) -> str:
    """Return the reasons of failures in words, each once."""
    return " ".join(dict.fromkeys(failure.reason for failure in found))
