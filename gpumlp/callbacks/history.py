"""History: what `fit` returns."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.training.results import plain


@dataclass
class Record:
    """What a `History` shows.

    Parameters
    ----------
    history : dict
        Lists of numbers by name, one each epoch.
    epoch : list of int
        The numbers of the epochs, from 0.
    params : dict
        ``epochs``, ``steps`` of an epoch, and ``verbose``.
    validated : list of int
        The numbers of those epochs whose results have some of a validation: names that begin with ``val_``.

    Examples
    --------
    >>> from gpumlp import callbacks
    >>> callbacks.History(record=callbacks.Record({"loss": [0.5, 0.25]}, [0, 1]))
    <History of 2 epochs: loss>
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    validated: list[int] = field(default_factory=list)


class History(Callback):
    """What ``fit`` returns: the results of each epoch.

    It has the model, and the model has the `Record` alone: a model that nobody else has is freed at once.

    Parameters
    ----------
    record : Record, optional
        What it shows; a new one when None.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit([[1.0], [2.0]], [2.0, 4.0], epochs=3, verbose=0)
    >>> len(history.history["loss"])
    3
    """

    def __init__(self, *, record: Record | None = None) -> None:
        self.record = Record() if record is None else record

    @property
    def history(self) -> dict[str, list[float]]:
        """The values of each epoch by name."""
        return self.record.history

    @property
    def epoch(self) -> list[int]:
        """The numbers of the epochs, from 0."""
        return self.record.epoch

    @property
    def validated(self) -> list[int]:
        """The numbers of the epochs that a validation came behind, from 0: see ``validation_freq``."""
        return self.record.validated

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history) or 'nothing yet'}>"

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = self.record.params = params

    def go_on_from(self, record: Record) -> None:
        """Have what another one has."""
        self.record.history = dict(record.history)
        self.record.epoch, self.record.validated = list(record.epoch), list(record.validated)

    def on_train_begin(self, logs: Logs = None) -> None:
        self.record.epoch, self.record.validated = (
            [],
            [],
        )  # of one that is given to a second fit, Keras keeps the values

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.epoch and self.epoch[-1] >= epoch:
            return  # it is there: an exception came behind
        values = {name: _kept(value) for name, value in (logs or {}).items()}
        lists: list[list[Any]] = [self.history.setdefault(name, []) for name in values]
        noted = [self.epoch, *([self.validated] if any(name.startswith("val_") for name in values) else [])]
        # in C, where no handler comes between: Ctrl-C leaves an epoch in the history, or not
        deque(map(list.append, [*noted, *lists], [*[epoch] * len(noted), *values.values()]), 0)


def _kept(value: object) -> Any:
    """Return what a callback may have put into the logs: numbers as Python's, anything else as it is."""
    if type(value) is float or value is None or isinstance(value, str):
        return value
    try:
        return plain(value)
    except (TypeError, ValueError):
        return value
