"""What writes the logs to a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.naming import flag
from gpumlp.saving.disk import PathLike


class CSVLogger(Callback):
    """Write a row an epoch to a file: its number, from 0, and the logs, by name in the order of the alphabet.

    A row is in the file when its epoch is over, and the file is not held open. The columns are those of the first
    epoch, with places for what a validation gives; "NA" stands where an epoch has no such value.

    Parameters
    ----------
    filename : str or path
        What is there is overwritten when training begins, unless ``append``. Training that goes on from a backup
        leaves the rows of the epochs before, and removes those that came after the backup.
    separator : str
        One character.
    append : bool
        Whether rows are added to what is there; the names are written where there is nothing.

    Raises
    ------
    ValueError
        If the separator is not one character.
    OSError
        In training, if the file cannot be written: before the first epoch, or at the end of one, which is done then.

    Examples
    --------
    >>> from pathlib import Path
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> log = gpumlp.callbacks.CSVLogger("log.csv")
    >>> history = model.fit([[1.0], [2.0]], [2.0, 4.0], epochs=2, verbose=0, callbacks=log)
    >>> Path("log.csv").read_text().splitlines()[0]
    'epoch,loss,val_loss'
    """

    def __init__(self, filename: PathLike, separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator must be one character; got {separator!r}.")
        self.filename, self.sep, self.append = os.fspath(filename), separator, flag("append", append)
        self.keys: list[str] | None = None
        self._anew = False

    def on_train_begin(self, logs: Logs = None) -> None:
        self.keys, self._anew = None, not self.append
        self._write([], "a")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._begin()

    def on_train_end(self, logs: Logs = None) -> None:
        self._begin()

    def _begin(self) -> None:
        """Empty the file where that is to be: not before it is known whether training goes on from a backup."""
        if self._anew:
            self._write([], "w")
            self._anew = False

    def get_state(self) -> dict[str, object]:
        return {"size": os.path.getsize(self.filename) if os.path.exists(self.filename) else 0, "keys": self.keys}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.keys, self._anew = state["keys"], False
        if not self._speaks:
            return
        with writing(self, self.filename), open(self.filename, "r+b") as file:
            file.truncate(min(state["size"], os.path.getsize(self.filename)))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = logs or {}
        rows: list[list[object]] = []
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]
        if not os.path.exists(self.filename) or not os.path.getsize(self.filename):
            rows = [["epoch", *self.keys]]
        self._write([*rows, [epoch, *(_cell(logs.get(key, "NA")) for key in self.keys)]], "a")

    def _write(self, rows: list[list[object]], mode: str) -> None:
        if not self._speaks:
            return
        with writing(self, self.filename), open(self.filename, mode, newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=self.sep).writerows(rows)


@contextmanager
def writing(callback: Callback, path: str) -> Iterator[None]:
    """Have an OSError say whose file cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{type(callback).__name__} cannot write ({error.strerror}). Make room, or choose a path that is there and "
            "can be written to",
            path,
        ) from error


def _cell(value: object) -> object:
    """Return what Keras writes for a value: of several numbers the text of a list, in quotes of its own."""
    if isinstance(value, str) or not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and not value.ndim):
        return value
    return f'"[{", ".join(map(str, value))}]"'
