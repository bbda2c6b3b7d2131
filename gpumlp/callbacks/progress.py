"""ProgbarLogger: the progress display."""

from __future__ import annotations

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.training.progress import Progress


class ProgbarLogger(Callback):
    """The progress display of fit, evaluate and predict.

    It looks at the logs when the loop comes by, and asks for no batch of its own. The validation inside a fit shows in
    the epoch's own line. ``verbose`` comes with the parameters.

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.callbacks.CallbackList(add_progbar=True).callbacks
    [ProgbarLogger()]
    """

    wants_batches = False

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._done, self._fitting = 0, False
        self._known: int | None = None  # steps of the first epoch, where nobody knew before

    def _begin(self, title: str = "") -> None:
        assert self.params is not None
        asked, steps = self.params.get("verbose", "auto"), self.params["steps"] or self._known
        level = 1 if asked == "auto" else asked
        self._bar, self._done = Progress(steps, level, title) if level and self._speaks else None, 0

    def _update(self, batch: int, logs: Logs) -> None:
        self._done = batch + 1
        if self._bar:
            self._bar.update(self._done, logs or {})

    def _finish(self, logs: Logs) -> None:
        if self._bar:
            self._bar.finish(self._done, logs or {})
        self._known = self._known or self._done

    def on_train_begin(self, logs: Logs = None) -> None:
        self._fitting = True

    def on_train_end(self, logs: Logs = None) -> None:
        self._fitting = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        assert self.params is not None
        epochs = self.params["epochs"]
        self._begin(f"Epoch {epoch + 1}/{epochs}" if epochs > 1 else "")

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
