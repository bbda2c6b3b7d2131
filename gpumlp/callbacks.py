"""Callbacks: what a person hooks into training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from gpumlp.layers import whole_number
from gpumlp.training.progress import Progress

Logs = dict[str, float] | None
_BATCH_HOOKS = [f"on_{mode}batch_{end}" for mode in ("", "train_", "test_", "predict_") for end in ("begin", "end")]


class Callback:
    """Base class: every hook does nothing. ``self.model`` and ``self.params`` are set before training."""

    model: Any = None
    params: dict[str, Any]

    def set_model(self, model: Any) -> None:
        """Take the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take epochs, steps and verbose."""
        self.params = params

    def on_train_begin(self, logs: Logs = None) -> None: ...
    def on_train_end(self, logs: Logs = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None: ...
    def on_batch_begin(self, batch: int, logs: Logs = None) -> None: ...
    def on_batch_end(self, batch: int, logs: Logs = None) -> None: ...

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs = None) -> None: ...
    def on_test_end(self, logs: Logs = None) -> None: ...
    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None: ...
    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None: ...
    def on_predict_begin(self, logs: Logs = None) -> None: ...
    def on_predict_end(self, logs: Logs = None) -> None: ...
    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None: ...
    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None: ...

    @property
    def wants_batches(self) -> bool:
        """Whether a batch hook is overridden, so that every batch has to come back to Python."""
        return any(getattr(type(self), hook) is not getattr(Callback, hook) for hook in _BATCH_HOOKS)


class History(Callback):
    """What ``fit`` returns: ``history`` (lists of float by name), ``epoch`` and ``params``."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = {}

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))


class ProgbarLogger(Callback):
    """The progress display of fit, evaluate and predict.

    It looks at the logs when the loop comes by, and asks for no batch of its own. The validation inside a fit shows in
    the epoch's own line.
    """

    wants_batches = False

    def __init__(self, verbose: int = 1) -> None:
        self._verbose = verbose
        self._bar: Progress | None = None
        self._done, self._fitting = 0, False

    def _begin(self, title: str = "") -> None:
        self._bar, self._done = Progress(self.params["steps"], self._verbose, title), 0

    def _update(self, batch: int, logs: Logs) -> None:
        self._done = batch + 1
        if self._bar:
            self._bar.update(self._done, logs or {})

    def _finish(self, logs: Logs) -> None:
        if self._bar:
            self._bar.finish(self._done, logs or {})

    def on_train_begin(self, logs: Logs = None) -> None:
        self._fitting = True

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._begin(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._update(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._finish(logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        if not self._fitting:
            self._begin()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self._fitting:
            self._update(batch, logs)

    def on_test_end(self, logs: Logs = None) -> None:
        if not self._fitting:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        self._begin()

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._update(batch, logs)

    def on_predict_end(self, logs: Logs = None) -> None:
        self._finish(logs)


class LambdaCallback(Callback):
    """Hooks given as functions."""

    def __init__(self, **hooks: Callable[..., None] | None) -> None:
        known = [h for h in dir(Callback) if h.startswith("on_")]
        for name, function in hooks.items():
            if name not in known:
                raise TypeError(f"LambdaCallback knows no hook {name!r}. Known: {', '.join(known)}.")
            if function is not None:
                setattr(self, name, function)
        self._hooks = hooks

    @property
    def wants_batches(self) -> bool:
        return any(self._hooks.get(hook) for hook in _BATCH_HOOKS)


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not improved by ``min_delta`` for ``patience`` epochs.

    ``mode`` "auto" maximises names with "acc" or "auc" in them and minimises the others. ``restore_best_weights``
    puts the best epoch's weights back at the end, also where training ended for another reason.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max'; got {mode!r}.")
        self.monitor, self.patience, self.verbose = monitor, whole_number("patience", patience, 0), verbose
        self.min_delta, self.baseline = abs(min_delta), baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        rising = mode == "max" or (mode == "auto" and any(word in monitor for word in ("acc", "auc")))
        self._sign = -1.0 if rising else 1.0

    def on_train_begin(self, logs: Logs = None) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best: float | None = None
        self.best_weights: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            names = ", ".join(logs or {})
            warnings.warn(f"EarlyStopping watches {self.monitor!r}, which is not in the logs: {names}.", stacklevel=2)
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def _better(self, value: float, than: float | None) -> bool:
        return than is None or self._sign * value < self._sign * than - self.min_delta

    def on_train_end(self, logs: Logs = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class CallbackList:
    """All callbacks of one ``fit`` as one, with what the loop asks: ``per_batch``, ``stopped``, ``nobody`` is there."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any]) -> None:
        self._all, self._model = list(callbacks), model
        for callback in self._all:
            callback.set_model(model)
            callback.set_params(params)
        self.per_batch = any(c.wants_batches for c in self._all)
        self.nobody = not self._all

    @property
    def stopped(self) -> bool:
        """Whether a callback set ``model.stop_training``."""
        return self._model.stop_training

    def __getattr__(self, hook: str) -> Callable[..., None]:
        if not hook.startswith("on_"):
            raise AttributeError(hook)

        expected = 2 if "epoch" in hook or "batch" in hook else 1  # (index, logs) or (logs), always all of them

        def call(*arguments: Any) -> None:
            arguments += (None,) * (expected - len(arguments))
            for callback in self._all:
                getattr(callback, hook)(*arguments)

        return call
