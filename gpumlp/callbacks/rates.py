"""What sets the learning rate between epochs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.callbacks.monitor import Mode, MonitorCallback
from gpumlp.errors import caller_level
from gpumlp.layers import whole_number
from gpumlp.naming import number


class LearningRateScheduler(Callback):
    """Set the optimizer's learning rate when an epoch begins, to what a function gives.

    Parameters
    ----------
    schedule : callable
        Takes the epoch, from 0, and the learning rate; or the epoch alone. Returns a float.
    verbose : int
        Whether to say so.

    Raises
    ------
    TypeError
        If ``schedule`` is not callable; in training, if the optimizer's rate comes from a schedule of its own.
    ValueError
        In training, if it returns no float, or one that is no rate.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> decay = gpumlp.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 * 0.5**epoch)
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [2.0, 4.0], epochs=3, verbose=0, callbacks=decay
    ... )
    >>> [round(rate, 4) for rate in history.history["learning_rate"]]
    [0.1, 0.05, 0.025]
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be a function of the epoch and the learning rate; got {schedule!r}.")
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        optimizer = self.model.optimizer
        given = (epoch, float(optimizer.learning_rate))
        rate = self.schedule(*given if _takes_two(self.schedule) else given[:1])
        if isinstance(rate, np.ndarray) and not rate.ndim:
            rate = rate[()]  # what gpumlp.ops give
        if not isinstance(rate, (float, np.floating)):
            raise ValueError(f"The function of a LearningRateScheduler must return a float; got {rate!r}.")
        optimizer.learning_rate = rate
        if self.verbose:
            self._tell(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {float(rate)}.")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _takes_two(function: Callable[..., float]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say
        pass
    return True


class ReduceLROnPlateau(MonitorCallback):
    """Multiply the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` epochs.

    Parameters
    ----------
    monitor : str
        The name of a number in the logs.
    factor : float
        What the rate is multiplied by, below 1.
    patience : int
        For how many epochs the number may not be better.
    verbose : int
        Whether to say so (1).
    mode : {"auto", "min", "max"}
        Which is better, less or more; see `MonitorCallback`.
    min_delta : float
        By how much it has to be better.
    cooldown : int
        For how many epochs after that it does not count.
    min_lr : float
        The least that it sets.
    **kwargs : object
        Taken, as in Keras, with a warning that names them.

    Raises
    ------
    TypeError
        In training, if the optimizer's rate comes from a schedule.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> halve = gpumlp.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2)
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [2.0, 4.0], epochs=5, verbose=0, callbacks=halve
    ... )
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: Mode = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **kwargs: object,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        if kwargs:  # Keras takes them in silence
            names = ", ".join(kwargs)
            warnings.warn(f"ReduceLROnPlateau does not read {names}.", stacklevel=caller_level())
        self.factor, self.min_lr = number("factor", factor, 0.0, 1.0, below=True), number("min_lr", min_lr, 0.0)
        self.patience, self.verbose = whole_number("patience", patience, 0), verbose
        self.cooldown = whole_number("cooldown", cooldown, 0)
        self._reset()

    def on_train_begin(self, logs: Logs = None) -> None:
        self._reset()

    def _reset(self) -> None:
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def get_state(self) -> dict[str, object]:
        """Return how long it has waited or cooled down, and what was best."""
        return {"best": self.best, "wait": self.wait, "cooldown_counter": self.cooldown_counter}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Wait on from there."""
        self.best, self.wait, self.cooldown_counter = state["best"], state["wait"], state["cooldown_counter"]

    def in_cooldown(self) -> bool:
        """Whether epochs do not count now.

        Returns
        -------
        bool
        """
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        value = self.get_monitor_value(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(value, self.best):
            self.best, self.wait = value, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and logs["learning_rate"] > self.min_lr:
                self._reduce(epoch, logs["learning_rate"])

    def _reduce(self, epoch: int, rate: float) -> None:
        rate = max(rate * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = rate
        self.wait, self.cooldown_counter = 0, self.cooldown
        if self.verbose:
            self._tell(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
