"""Callbacks: what a person hooks into training."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gpumlp.errors import caller_level
from gpumlp.gate import whole
from gpumlp.layers import whole_number
from gpumlp.naming import flag, number
from gpumlp.training.loop import plain
from gpumlp.training.progress import Progress, say

Logs = dict[str, Any] | None
Hook = Callable[..., None] | None
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
        """Whether there is a batch hook, the class's own or the object's: then batches have to come back to Python."""
        kind = type(self)
        return any(hook in vars(self) or getattr(kind, hook) is not getattr(Callback, hook) for hook in _BATCH_HOOKS)


@dataclass
class Record:
    """What a `History` shows: ``history`` (lists of float by name), ``epoch`` and ``params``."""

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)


class History(Callback):
    """What ``fit`` returns: ``history`` (lists of float by name), ``epoch`` and ``params``.

    It has the model, and the model has the `Record` alone: a model that nobody else has is freed at once.
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

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = self.record.params = params

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.epoch and self.epoch[-1] == epoch:
            return  # it is there: an exception came just behind
        values = {name: plain(value) for name, value in (logs or {}).items()}

        def append() -> None:
            self.epoch.append(epoch)
            for name, value in values.items():
                self.history.setdefault(name, []).append(value)

        whole(append)  # Ctrl-C leaves an epoch in the history, or not


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
        self._update(batch, None)

    def on_predict_end(self, logs: Logs = None) -> None:
        self._finish(logs)


class LambdaCallback(Callback):
    """Hooks given as functions. What is no hook is kept as an attribute; a warning where its name is close to one."""

    def __init__(
        self,
        on_epoch_begin: Hook = None,
        on_epoch_end: Hook = None,
        on_train_begin: Hook = None,
        on_train_end: Hook = None,
        on_train_batch_begin: Hook = None,
        on_train_batch_end: Hook = None,
        **kwargs: Any,
    ) -> None:
        own = {name: value for name, value in locals().items() if name.startswith("on_")}
        known = [h for h in dir(Callback) if h.startswith("on_")]
        for name, function in {**own, **kwargs}.items():
            if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=0.8)):
                warnings.warn(
                    f"LambdaCallback knows no hook {name!r}, and will not call it. Did you mean {near[0]!r}?",
                    stacklevel=2,
                )
            if name in known and not (function is None or callable(function)):
                raise TypeError(f"{name} must be a function; got {function!r}.")
            if function is not None:
                setattr(self, name, function)


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
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name in the logs, such as 'val_loss'; got {monitor!r}.")
        self.monitor, self.patience, self.verbose = monitor, whole_number("patience", patience, 0), verbose
        self.min_delta = abs(number("min_delta", min_delta))
        self.baseline = None if baseline is None else number("baseline", baseline)
        self.restore_best_weights = flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = whole_number("start_from_epoch", start_from_epoch, 0)
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
            warnings.warn(
                f"EarlyStopping watches {self.monitor!r}, which is not in the logs: {names}.", stacklevel=caller_level()
            )
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
        if than is None:
            return value == value  # NaN is better than nothing else
        return self._sign * value < self._sign * than - self.min_delta

    def on_train_end(self, logs: Logs = None) -> None:
        if self.stopped_epoch and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                say(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class CallbackList:
    """All callbacks of one ``fit`` as one, with what the loop asks: ``per_batch``, ``stopped``, ``nobody`` is there.

    ``history`` comes last, and has an epoch also where one of the others raises at its end: its steps are done.
    """

    def __init__(
        self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any], history: History | None = None
    ) -> None:
        self._all, self._model, self._history = list(callbacks), model, history
        for callback in [*self._all, *([] if history is None else [history])]:
            callback.set_model(model)
            callback.set_params(params)
        self.nobody = not self._all

    @property
    def per_batch(self) -> bool:
        """Whether somebody looks at every batch, by now: hooks may be set while a model trains."""
        return any(c.wants_batches for c in self._all)

    def record(self, epoch: int, logs: Logs) -> None:
        """Have an epoch in the history, if it is not there: its steps are done, and an exception ends training."""
        if self._history is not None:
            self._history.on_epoch_end(epoch, logs)

    @property
    def stopped(self) -> bool:
        """Whether a callback set ``model.stop_training``."""
        return self._model.stop_training

    def __getattr__(self, hook: str) -> Callable[..., None]:
        if not hook.startswith("on_"):
            raise AttributeError(hook)

        expected = 2 if "epoch" in hook or "batch" in hook else 1  # (index, logs) or (logs), always all of them

        def call(*arguments: Any) -> None:
            arguments += ({},) * (expected - len(arguments))
            try:
                for callback in self._all:
                    getattr(callback, hook)(*arguments)
            finally:
                if self._history is not None:
                    getattr(self._history, hook)(*arguments)

        return call
