"""What watches a number in the logs: the base of these, and what ends training by it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from gpumlp import ops
from gpumlp.callbacks.base import Callback, Logs
from gpumlp.errors import caller_level
from gpumlp.layers import whole_number
from gpumlp.naming import flag, nearest, number
from gpumlp.signatures import NEAR

Mode: TypeAlias = Literal["auto", "min", "max"]


class MonitorCallback(Callback):
    """Base of what watches one number in the logs, ``best`` so far, None before there is one.

    Parameters
    ----------
    monitor : str
        Its name in the logs.
    mode : {"auto", "min", "max"}
        Which is better, less or more. "auto": less of a loss, of another metric what its class says. Any other word is
        "auto", with a warning.
    baseline : float, optional
        What ``best`` is at first.
    min_delta : float
        By how much it has to be better.

    Raises
    ------
    TypeError, ValueError
        For a name or number that is none; in training, with mode "auto", for a number of which nobody knows which
        is better: of a function of a user's own, or of what another callback put into the logs.

    Examples
    --------
    >>> from gpumlp import callbacks
    >>> watch = callbacks.MonitorCallback("val_accuracy", mode="max")
    >>> watch.is_better(0.9, than=0.8)
    True
    """

    def __init__(
        self, monitor: str = "val_loss", mode: Mode = "auto", baseline: float | None = None, min_delta: float = 0
    ) -> None:
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"{type(self).__name__} mode {mode!r} is unknown; 'min' and 'max' are known. It is taken as 'auto'.",
                stacklevel=caller_level(),
            )
            mode = "auto"
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name in the logs, such as 'val_loss'; got {monitor!r}.")
        self.monitor, self.mode = monitor, mode
        self.best = None if baseline is None else number("baseline", baseline)
        self.min_delta = abs(number("min_delta", min_delta))

    @property
    def monitor_op(self) -> Callable[..., Any]:
        """What says whether one number is better than another: `gpumlp.ops.greater` or `less`."""
        return ops.greater if self._sign() > 0 else ops.less

    def get_monitor_value(self, logs: Logs) -> float | None:
        """Return the number.

        Parameters
        ----------
        logs : dict
            Of an epoch, or a batch.

        Returns
        -------
        float or None
            None, with a warning, where the logs have none of this name.
        """
        value: float | None = (logs or {}).get(self.monitor)
        meant = nearest(self.monitor, logs or {}, NEAR) if value is None else None
        hint = f" Did you mean {meant!r}?" if meant else ""
        self._sign(hint)
        if value is None:
            names = ", ".join(logs or {})
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which is not in the logs: {names}.{hint}",
                stacklevel=caller_level(),
            )
        return value

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a number is better by more than ``min_delta``.

        Parameters
        ----------
        value : float
            The number.
        than : float or None
            Another one; anything but NaN is better than None.

        Returns
        -------
        bool
        """
        if than is None:
            return value == value
        return self._sign() * value > self._sign() * than + self.min_delta

    def _sign(self, hint: str = "") -> float:
        """Return 1 where more is better, -1 where less is; ValueError, with the hint, where neither is known."""
        if self.mode != "auto":
            return 1.0 if self.mode == "max" else -1.0
        name = self.monitor.removeprefix("val_")
        objective = getattr(self.model, "_objective", None)
        found = {metric.name: metric._direction for metric in objective.metrics} if objective else {}
        direction = "down" if name == "loss" else found.get(name)
        hint = hint or " Pass mode='max' or mode='min'."
        if not direction:
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, of which it is not known whether more or less is "
                f"better.{hint}"
            )
        return 1.0 if direction == "up" else -1.0


class EarlyStopping(MonitorCallback):
    """Stop when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        The name of the number in the logs.
    min_delta : float
        By how much it has to be better.
    patience : int
        For how many epochs it may not be.
    verbose : int
        Whether to say so (1).
    mode : {"auto", "min", "max"}
        Which is better, less or more; see `MonitorCallback`.
    baseline : float, optional
        Epochs count as no improvement until it is better than this.
    restore_best_weights : bool
        Whether the best epoch's weights are put back at the end, also where training ended for another reason.
    start_from_epoch : int
        The first epoch that counts, from 0.

    Raises
    ------
    TypeError, ValueError
        As `MonitorCallback`.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> stop = gpumlp.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [2.0, 4.0], epochs=20, verbose=0, callbacks=stop
    ... )
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience, self.verbose = whole_number("patience", patience, 0), verbose
        self.baseline = None if baseline is None else number("baseline", baseline)
        self.restore_best_weights = flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = whole_number("start_from_epoch", start_from_epoch, 0)
        self._reset()

    def on_train_begin(self, logs: Logs = None) -> None:
        self._reset()

    def _reset(self) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best = None
        self.best_weights: list[np.ndarray] | None = None

    def get_state(self) -> dict[str, object]:
        """Return how long it has waited, and what was best, with its weights."""
        names = ("wait", "stopped_epoch", "best_epoch", "best", "best_weights")
        return {name: getattr(self, name) for name in names}

    def set_state(self, state: Mapping[str, object]) -> None:
        """Wait on from there."""
        for name, value in state.items():
            setattr(self, name, value)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        value = self.get_monitor_value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.is_better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self, logs: Logs = None) -> None:
        if self.stopped_epoch and self.verbose:
            self._tell(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                self._tell(f"Restoring model weights from the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class TerminateOnNaN(Callback):
    """Stop at the first batch after which the epoch's loss so far is NaN or infinite.

    Parameters
    ----------
    raise_error : bool
        Whether training ends with a RuntimeError, and so without ``on_train_end`` of all callbacks.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> stop = gpumlp.callbacks.TerminateOnNaN()
    >>> history = model.fit([[1.0], [2.0]], [2.0, 4.0], epochs=2, verbose=0, callbacks=stop)
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = flag("raise_error", raise_error)

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"NaN or Inf loss at batch {batch}: the loss is {loss}. Lower the learning rate, or look for such "
                "numbers in the data."
            )
        self._tell(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
