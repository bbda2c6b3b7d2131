"""Callback: what every callback is, and the one that is made of functions."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gpumlp.signatures import Named
from gpumlp.training.progress import say

if TYPE_CHECKING:
    from gpumlp.models.sequential import Sequential

Logs = dict[str, Any] | None  # numbers, and what callbacks put there
Hook = Callable[..., object] | None


def _default(hook: Callable[..., None]) -> Callable[..., None]:
    """Mark a hook that does nothing of its own, by the attribute that Keras's own callbacks have, too."""
    hook._is_default = True  # type: ignore[attr-defined]
    return hook


class Callback(Named):
    """Base class: every hook does nothing. ``self.model`` and ``self.params`` are set before training.

    Hooks may use the model: evaluate it, set its weights, its optimizer's learning rate, ``stop_training``. ``logs`` is
    one dict for all callbacks of a hook: what one puts into it at an epoch's end is in the history.

    A callback that remembers something from one epoch to the next returns it in `get_state`, and takes it back in
    `set_state`: then training that was cut off goes on as if it had not been.

    Attributes
    ----------
    params : dict
        ``verbose``, ``epochs``, and ``steps`` of an epoch.
    wants_batches : bool or None
        Whether the batch hooks are to be called for every batch, so that every step comes back to Python; None: where
        the class, or the object, has such a hook.

    Examples
    --------
    >>> import gpumlp
    >>> class CountWorse(gpumlp.callbacks.Callback):
    ...     def on_train_begin(self, logs=None):
    ...         self.worse, self.last = 0, None
    ...
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.worse += self.last is not None and logs["loss"] > self.last
    ...         self.last = logs["loss"]
    ...
    ...     def get_state(self):
    ...         return {"worse": self.worse, "last": self.last}
    ...
    ...     def set_state(self, state):
    ...         self.worse, self.last = state["worse"], state["last"]
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> count = CountWorse()
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [2.0, 4.0], epochs=3, verbose=0, callbacks=count
    ... )
    >>> count.worse
    0
    """

    _model: Sequential | None = None
    params: dict[str, Any] | None = None
    wants_batches: bool | None = None

    @property
    def model(self) -> Sequential:
        """The model that trains, is evaluated, or predicts."""
        return self._model  # type: ignore[return-value]  # it is set before any hook is called

    def set_model(self, model: Sequential) -> None:
        """Take the model, as is called before anything else.

        Parameters
        ----------
        model : Sequential
            The model that trains, is evaluated, or predicts.
        """
        self._model = model

    @property
    def _speaks(self) -> bool:
        """Whether it prints and writes: of a model over ranks, which all have callbacks, rank 0 does so."""
        ranks = getattr(self._model, "distributed", None)
        return ranks is None or ranks.rank == 0

    def _tell(self, words: str) -> None:
        """Print a line, once for all ranks."""
        if self._speaks:
            say(words)

    def set_params(self, params: dict[str, Any]) -> None:
        """Take what is known of a run, as is called before it begins.

        Parameters
        ----------
        params : dict
            ``epochs``, ``steps`` of an epoch (None: not known) and ``verbose``.
        """
        self.params = params

    def __repr__(self) -> str:
        """Say what it was made with, beside the defaults."""
        words = []
        for parameter in inspect.signature(type(self).__init__).parameters.values():
            value = vars(self).get(parameter.name, parameter.default)
            if isinstance(value, (bool, int, float, str)) and value != parameter.default:
                words.append(f"{parameter.name}={value!r}")
        return f"{type(self).__name__}({', '.join(words)})"

    def get_state(self) -> dict[str, object]:
        """Return what has to be kept for training to go on later.

        It is asked for between two batches or epochs, and a copy of what it returns is written down at once.

        Returns
        -------
        dict
            None, numbers, strings, arrays, and lists and dicts of these, by name.
        """
        return {}

    def set_state(self, state: Mapping[str, object]) -> None:
        """Take back what `get_state` had returned, after ``on_train_begin`` of all callbacks.

        Parameters
        ----------
        state : dict
            What was returned.
        """

    @_default
    def on_train_begin(self, logs: Logs = None) -> None:
        """Called when ``fit`` begins.

        Parameters
        ----------
        logs : dict
            Empty.
        """

    @_default
    def on_train_end(self, logs: Logs = None) -> None:
        """Called when ``fit`` ends, unless by an exception.

        Parameters
        ----------
        logs : dict
            Those of the last epoch.
        """

    @_default
    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Called before an epoch.

        Parameters
        ----------
        epoch : int
            Its number, from 0.
        logs : dict
            Empty.
        """

    @_default
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Called behind an epoch, and the validation at its end.

        Parameters
        ----------
        epoch : int
            Its number, from 0.
        logs : dict
            Its results by name; what is put into it is in the history.
        """

    @_default
    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of training: `on_train_batch_begin` by an older name.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            Empty.
        """

    @_default
    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called behind a batch of training: `on_train_batch_end` by an older name.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            The results of the epoch so far.
        """

    @_default
    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of training.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            Empty.
        """
        self.on_batch_begin(batch, logs=logs)

    @_default
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called behind a batch of training.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            The results of the epoch so far.
        """
        self.on_batch_end(batch, logs=logs)

    @_default
    def on_test_begin(self, logs: Logs = None) -> None:
        """Called when an evaluation, or a validation begins.

        Parameters
        ----------
        logs : dict
            Empty.
        """

    @_default
    def on_test_end(self, logs: Logs = None) -> None:
        """Called when an evaluation, or a validation ends.

        Parameters
        ----------
        logs : dict
            The results by name.
        """

    @_default
    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of an evaluation, or a validation.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            Empty.
        """

    @_default
    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called behind a batch of an evaluation, or a validation.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            The results so far.
        """

    @_default
    def on_predict_begin(self, logs: Logs = None) -> None:
        """Called when a prediction begins.

        Parameters
        ----------
        logs : dict
            Empty.
        """

    @_default
    def on_predict_end(self, logs: Logs = None) -> None:
        """Called when a prediction ends.

        Parameters
        ----------
        logs : dict
            Empty.
        """

    @_default
    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of a prediction.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            Empty.
        """

    @_default
    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called behind a batch of a prediction.

        Parameters
        ----------
        batch : int
            Its number in the epoch, from 0.
        logs : dict
            ``outputs``, where the batch is looked at.
        """


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """Hooks given as functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : function of epoch and logs, optional
        See `Callback`, here and below.
    on_train_begin, on_train_end : function of logs, optional
        When ``fit`` begins and ends.
    on_train_batch_begin, on_train_batch_end : function of batch and logs, optional
        Before and behind a batch.
    **kwargs : function or object
        Any other hook. What is no hook is kept as an attribute; a warning where its name is close to one.

    Raises
    ------
    TypeError
        For a hook that is no function.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> say = gpumlp.callbacks.LambdaCallback(
    ...     on_epoch_end=lambda epoch, logs: print("epoch", epoch)
    ... )
    >>> history = model.fit([[1.0], [2.0]], [2.0, 4.0], epochs=2, verbose=0, callbacks=say)
    epoch 0
    epoch 1
    """

    def __init__(
        self,
        on_epoch_begin: Hook = None,
        on_epoch_end: Hook = None,
        on_train_begin: Hook = None,
        on_train_end: Hook = None,
        on_train_batch_begin: Hook = None,
        on_train_batch_end: Hook = None,
        **kwargs: object,
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
