"""CallbackList: several callbacks as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpumlp.callbacks.backup import BackupAndRestore
from gpumlp.callbacks.base import HOOKS, Callback, Logs
from gpumlp.callbacks.history import History
from gpumlp.callbacks.progress import ProgbarLogger
from gpumlp.training.position import InProgress

if TYPE_CHECKING:
    from gpumlp.models.sequential import Sequential

WITHIN = frozenset(HOOKS) - {"on_train_begin", "on_train_end"}  # what is called between a training's begin and its end


class CallbackList(Callback):
    """Callbacks as one: its hooks are theirs, in their order; a History comes last.

    The history has an epoch also where one of the others raises at its end: its steps are done.

    Parameters
    ----------
    callbacks : Callback, or list of callbacks and such lists, optional
        Also objects of other classes that have all of a callback's methods, such as Keras's own.
    add_history, add_progbar : bool
        Whether there is to be a `History`, and a progress display, where none is given.
    model : Sequential, optional
        Whose they are; `set_model` later where None.
    **params : object
        ``epochs``, ``steps`` and ``verbose``, which each is given where there are any.

    Raises
    ------
    TypeError
        For what is no callback.

    Examples
    --------
    >>> from gpumlp import callbacks
    >>> both = callbacks.CallbackList([callbacks.TerminateOnNaN()], add_history=True)
    >>> len(both.callbacks)
    2
    """

    def __init__(
        self, callbacks: object = None, add_history: bool = False, add_progbar: bool = False,
        model: Sequential | None = None, **params: Any,
    ) -> None:  # fmt: skip
        self._others = [] if callbacks is None else _flat(callbacks)
        given = [c for c in self._others if isinstance(c, History)]
        self.history = given[-1] if given else History() if add_history else None
        if self.history is not None and given:
            self._others.remove(self.history)
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self._others):
            self._others.append(ProgbarLogger())
        self.set_model(model)
        self.params = params
        if params:
            self.set_params(params)

    @property
    def callbacks(self) -> list[Any]:
        """All of them, in their order."""
        return [*self._others, *([] if self.history is None else [self.history])]

    def append(self, callback: object) -> None:
        """Take one more, which is given the model and the parameters that there are.

        Parameters
        ----------
        callback : Callback
            It comes behind the others, and before the history.
        """
        for one in _flat(callback):
            if self.model is not None:
                one.set_model(self.model)
            if self.params:
                one.set_params(self.params)
            self._others.append(one)

    def set_model(self, model: Sequential | None) -> None:
        """Give the model to all of them; its ``history`` is the one among them."""
        if model is None:
            return
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)
        if self.history is not None:
            model.history = self.history

    def set_params(self, params: dict[str, Any]) -> None:
        """Give the parameters to all of them."""
        super().set_params(params)
        for callback in self.callbacks if params else ():
            callback.set_params(params)

    def __repr__(self) -> str:
        return f"CallbackList({self.callbacks!r})"

    # ---- what the loop asks ------------------------------------------------------------------------------------------

    @property
    def per_batch(self) -> bool:
        """Whether somebody looks at every batch, by now: hooks may be set while a model trains."""
        return any(map(_wants_batches, self._others))

    @property
    def per_epoch(self) -> bool:
        """Whether somebody looks at every epoch, or at what is within it, by now."""
        found = [getattr(callback, hook) for callback in self._others for hook in WITHIN]
        looks = bool(self._backups) or any(not getattr(hook, "_is_default", False) for hook in found)
        history = self.history
        return looks or (history is not None and (type(history) is not History or not WITHIN.isdisjoint(vars(history))))

    @property
    def stopped(self) -> bool:
        """Whether a callback set ``model.stop_training``."""
        return bool(self.model.stop_training)

    def resume(self, training: InProgress) -> None:
        """Have training go on from where a `BackupAndRestore` says that it was; its history, too."""
        for backup in self._backups:
            if backup.resume(self._stateful, training) and self.history is not None:
                if (before := self.model.history) is not None:
                    self.history.go_on_from(before.record)
                self.model.history = self.history

    def batch_done(self, training: InProgress) -> None:
        """Tell those that write training down that a batch is done, and all others have seen it."""
        for backup in self._backups:
            backup.batch_done(self._stateful, training)

    def epoch_done(self, training: InProgress) -> None:
        """Tell them that an epoch is over."""
        for backup in self._backups:
            backup.epoch_done(self._stateful, training)

    @property
    def _backups(self) -> list[BackupAndRestore]:
        return [callback for callback in self._others if isinstance(callback, BackupAndRestore)]

    @property
    def _stateful(self) -> list[Any]:
        """The callbacks that have something to keep."""
        own = Callback.get_state
        return [c for c in self._others if getattr(type(c), "get_state", own) is not own]

    def record(self, epoch: int, logs: Logs) -> None:
        """Have an epoch in the history, if it is not there: its steps are done, and an exception ends training."""
        if self.history is not None:
            self.history.on_epoch_end(epoch, logs)

    def _call(self, hook: str, at: tuple[int, ...], logs: Logs) -> None:
        if not self._others and _does_nothing(self.history, hook):
            return
        shared = dict(logs or {})  # which they may change
        named = {"logs": shared} if "batch" in hook else {}  # so Keras calls these hooks
        arguments = at if named else (*at, shared)
        try:
            for callback in self._others:
                getattr(callback, hook)(*arguments, **named)
        finally:
            if self.history is not None:
                getattr(self.history, hook)(*arguments, **named)


def _for_all(hook: str) -> Callable[..., None]:
    """Return the hook that calls the one of this name of each."""

    def of_batch(self: CallbackList, batch: int, logs: Logs = None) -> None:
        self._call(hook, (batch,), logs)

    def of_epoch(self: CallbackList, epoch: int, logs: Logs = None) -> None:
        self._call(hook, (epoch,), logs)

    def of_all(self: CallbackList, logs: Logs = None) -> None:
        self._call(hook, (), logs)

    return of_batch if "batch" in hook else of_epoch if "epoch" in hook else of_all


for _hook in HOOKS:
    setattr(CallbackList, _hook, _for_all(_hook))


def _flat(value: object) -> list[Any]:
    if isinstance(value, CallbackList):
        return value.callbacks
    if value is None or isinstance(value, (list, tuple)):
        return [callback for one in value or () for callback in _flat(one)]
    if not isinstance(value, Callback):
        missing = [name for name in ("set_model", "set_params", *HOOKS) if not callable(getattr(value, name, None))]
        if missing or isinstance(value, type):
            raise TypeError(f"callbacks must be gpumlp.callbacks.Callback objects; got {value!r}.")
    return [value]


def _does_nothing(history: History | None, hook: str) -> bool:
    """Whether the hook is one of `Callback`'s own."""
    return history is None or (type(history) is History and hook not in vars(History) and hook not in vars(history))


def _wants_batches(callback: object) -> bool:
    wants = getattr(callback, "wants_batches", None)
    if wants is None:
        hooks = (getattr(callback, hook) for hook in HOOKS if "batch" in hook)
        return any(not getattr(hook, "_is_default", False) for hook in hooks)
    return bool(wants)
