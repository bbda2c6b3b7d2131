"""Callback: what every callback is, and the one that is made of functions."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

Logs = dict[str, Any] | None
Hook = Callable[..., None] | None


def _default(hook: Callable[..., None]) -> Callable[..., None]:
    """Mark a hook that does nothing of its own, by the attribute that Keras's own callbacks have, too."""
    hook._is_default = True  # type: ignore[attr-defined]
    return hook


class Callback:
    """Base class: every hook does nothing. ``self.model`` and ``self.params`` are set before training.

    Hooks may use the model: evaluate it, set its weights, its optimizer's learning rate, ``stop_training``. ``logs`` is
    one dict for all callbacks of a hook: what one puts into it at an epoch's end is in the history.

    A callback that remembers something from one epoch to the next returns it in `get_state`, and takes it back in
    `set_state`: then training that was cut off goes on as if it had not been::

        class CountWorse(callbacks.Callback):
            def on_train_begin(self, logs=None):
                self.worse, self.last = 0, None

            def on_epoch_end(self, epoch, logs=None):
                self.worse += self.last is not None and logs["loss"] > self.last
                self.last = logs["loss"]

            def get_state(self):
                return {"worse": self.worse, "last": self.last}

            def set_state(self, state):
                self.worse, self.last = state["worse"], state["last"]

    Attributes
    ----------
    params : dict
        ``verbose``, ``epochs``, and ``steps`` of an epoch.
    wants_batches : bool or None
        Whether the batch hooks are to be called for every batch, so that every step comes back to Python; None: where
        the class, or the object, has such a hook.
    """

    _model: Any = None
    params: Any = None
    wants_batches: bool | None = None

    @property
    def model(self) -> Any:
        """The model that trains, is evaluated, or predicts."""
        return self._model

    def set_model(self, model: Any) -> None:
        """Take the model."""
        self._model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take epochs, steps and verbose."""
        self.params = params

    def get_state(self) -> dict[str, Any]:
        """Return what has to be kept for training to go on later: None, numbers, strings, arrays, and lists of these.

        It is asked for between two batches or epochs, and a copy of what it returns is written down at once.
        """
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` had returned, after ``on_train_begin`` of all callbacks."""

    @_default
    def on_train_begin(self, logs: Logs = None) -> None: ...
    @_default
    def on_train_end(self, logs: Logs = None) -> None: ...
    @_default
    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None: ...
    @_default
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None: ...
    @_default
    def on_batch_begin(self, batch: int, logs: Logs = None) -> None: ...
    @_default
    def on_batch_end(self, batch: int, logs: Logs = None) -> None: ...

    @_default
    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self.on_batch_begin(batch, logs=logs)

    @_default
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.on_batch_end(batch, logs=logs)

    @_default
    def on_test_begin(self, logs: Logs = None) -> None: ...
    @_default
    def on_test_end(self, logs: Logs = None) -> None: ...
    @_default
    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None: ...
    @_default
    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None: ...
    @_default
    def on_predict_begin(self, logs: Logs = None) -> None: ...
    @_default
    def on_predict_end(self, logs: Logs = None) -> None: ...
    @_default
    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None: ...
    @_default
    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None: ...


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


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
        for name, function in {**own, **kwargs}.items():
            if name not in HOOKS and (near := difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.8)):
                warnings.warn(
                    f"LambdaCallback knows no hook {name!r}, and will not call it. Did you mean {near[0]!r}?",
                    stacklevel=2,
                )
            if name in HOOKS and not (function is None or callable(function)):
                raise TypeError(f"{name} must be a function; got {function!r}.")
            if function is not None:
                setattr(self, name, function)
