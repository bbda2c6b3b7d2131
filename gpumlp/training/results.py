"""What is reported: what training and evaluation are judged by, and what the steps' logs add up to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, mul
from typing import Any

import numpy as np

from gpumlp.engine.dispatch import Judged
from gpumlp.engine.feed import Dataset
from gpumlp.engine.program import Batch, StepLogs
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer


@dataclass
class Objective:
    """What is minimised and what is reported.

    ``objects``: for each metric the object that ``compile`` was given, or None where it was given a name or a function.
    ``lasts``: whether it is the same as long as that is which it is ``of``; metrics of a user's own may change.
    """

    loss: Loss
    metrics: list[Metric]
    objects: Sequence[Metric | None] = ()
    lasts: bool = False
    of: Any = None

    @property
    def names(self) -> list[str]:
        """The names of what is reported, in the order in which it was asked for."""
        return ["loss", *(metric.name for metric in self.metrics)]

    def judged(self, held: Dataset, optimizer: Optimizer | None = None) -> Judged:
        """Return what is computed beside the network, of such data, and for training with ``optimizer``."""
        assert held.y is not None
        return Judged(self.loss, self.metrics, held.y.shape[1], optimizer)


class Averages:
    """What an epoch adds up to so far: the loss weighted by samples, and of each metric its sums."""

    def __init__(self, objective: Objective) -> None:
        self._metrics = [m if m.series else m.fresh() for m in objective.metrics]
        self._objects = objective.objects or [None] * len(self._metrics)
        self._loss, self._samples = 0.0, 0.0
        self._totals = [0.0] * sum(m.series for m in self._metrics)
        self._counts = [0.0] * len(self._metrics)
        self._batches: deque[Batch] = deque()  # which the host's metrics have not taken in yet

    def add(self, logs: StepLogs) -> None:
        """Take in the logs of some steps, one by one: how many come at a time must not change a bit."""
        samples = logs.samples.tolist()
        self._loss = reduce(add, map(mul, logs.losses.tolist(), samples), self._loss)
        self._samples = reduce(add, samples, self._samples)
        if self._metrics:
            for found, sums in ((logs.totals, self._totals), (logs.counts, self._counts)):
                for i, column in enumerate(found.T.tolist()):
                    sums[i] = reduce(add, column, sums[i])
        self._batches += logs.batches

    @property
    def loss(self) -> float:
        """The sum of the losses."""
        return self._loss

    def _take_in(self) -> None:
        """Have the host's metrics take in what came: here, as a user's code does not run in the gate."""
        while self._batches:
            targets, outputs, weights = self._batches.popleft()
            for metric in self._metrics:
                if not metric.series:
                    metric.update_state(
                        targets, outputs, *(() if weights is None or not metric.weighted else (weights,))
                    )

    def state(self) -> dict[str, object]:
        """Return the sums, for `go_on_from`; ValueError where the host computes metrics, which have their own."""
        if own := [metric.name for metric in self._metrics if not metric.series]:
            raise ValueError(
                f"The metrics {', '.join(own)} are computed of whole outputs, and cannot be written down within an "
                "epoch. Use save_freq='epoch'."
            )
        return {
            "loss": self._loss,
            "samples": self._samples,
            "totals": list(self._totals),
            "counts": list(self._counts),
        }

    def go_on_from(self, state: Mapping[str, Any], what: str) -> None:
        """Have the sums of `state`; ValueError where they are of other metrics."""
        sums = [state.get("loss"), state.get("samples"), *state.get("totals", ()), *state.get("counts", ())]
        sizes = len(state.get("totals", ())), len(state.get("counts", ()))
        if sizes != (len(self._totals), len(self._counts)) or not all(isinstance(v, (int, float)) for v in sums):
            raise ValueError(f"{what} has sums of other metrics.")
        self._loss, self._samples = float(state["loss"]), float(state["samples"])
        self._totals, self._counts = list(state["totals"]), list(state["counts"])

    @classmethod
    def of(cls, objective: Objective, logs: StepLogs) -> dict[str, Any]:
        """Return the results of some steps alone."""
        averages = cls(objective)
        averages.add(logs)
        return averages.result()

    def result(self) -> dict[str, Any]:
        """Return the results by name, in the order of the alphabet, as Keras has them.

        Of a metric with several numbers it is an array; one that gives a dict has its names in place of its own. A
        metric's object that ``compile`` was given has the state, and so the result, that was computed last.
        """
        self._take_in()
        logs: dict[str, Any] = {"loss": self._loss / self._samples if self._samples else 0.0}
        first = 0
        for metric, given, count in zip(self._metrics, self._objects, self._counts, strict=True):
            last = first + metric.series
            sums = [np.asarray(total) for total in (*self._totals[first:last], count)]
            found = metric.of(*sums) if metric.series else metric.result()
            if given is not None:
                given.has_the_state(sums if metric.series else metric)
            logs |= {k: plain(v) for k, v in (found if isinstance(found, dict) else {metric.name: found}).items()}
            first = last
        return dict(sorted(logs.items())) if self._metrics else logs


def plain(value: object) -> Any:
    """Return a result as Python's number, or as an array of several."""
    found = np.asarray(value, np.float64)
    return found.item() if found.size == 1 else found


def mean(logs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of several models' logs, value by value."""
    return {name: sum(each[name] for each in logs) / len(logs) for name in logs[0]}
