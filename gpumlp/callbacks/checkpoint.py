"""ModelCheckpoint: the model in files, as training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from gpumlp.callbacks.base import Logs
from gpumlp.callbacks.monitor import Mode, MonitorCallback
from gpumlp.layers import whole_number
from gpumlp.naming import flag
from gpumlp.saving import disk, hdf5
from gpumlp.saving.disk import PathLike

Frequency: TypeAlias = Literal["epoch"] | int
WEIGHTS, MODELS = (".weights.h5", ".safetensors"), (".keras", ".gpumlp", ".h5", ".hdf5")


def frequency(value: object) -> Frequency:
    """Return after how many batches a file is written, or "epoch"; ValueError for anything else."""
    try:
        return "epoch" if value == "epoch" else whole_number("save_freq", value)
    except TypeError:
        raise ValueError(f"save_freq must be 'epoch', or a whole number of batches >= 1; got {value!r}.") from None


class ModelCheckpoint(MonitorCallback):
    """Save the model, or its weights, after each epoch, or so many batches, or whenever a number is the best so far.

    A file that is written takes the place of an older one of its name at once: a kill leaves one of the two.

    Parameters
    ----------
    filepath : str or path
        Its end says the format, see `Sequential.save` and `save_weights`. Names in braces stand for the epoch, from 1,
        the batch, and what is in the logs: "{epoch:02d}-{val_loss:.2f}.keras". A folder that is not there is made.
    monitor : str
        For ``save_best_only``: the name of the number in the logs.
    verbose : int
        Whether to say when a file is written (1).
    save_best_only : bool
        Whether a file is written only when ``monitor`` is the best so far. Where the logs do not have it the model is
        saved, with a warning.
    save_weights_only : bool
        Whether `save_weights` writes the file.
    mode : {"auto", "min", "max"}
        Which is better, less or more; see `MonitorCallback`.
    save_freq : "epoch" or int
        After how many batches; then ``monitor`` is what the epoch's batches have given so far.
    initial_value_threshold : float, optional
        What has to be bettered for a first file.

    Raises
    ------
    ValueError
        For a name with another ending; in training, for a name in braces that the logs do not have.
    ImportError
        When training begins, where the file needs h5py, and it is not installed.
    OSError
        Where a file cannot be written; training ends.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> keep = gpumlp.callbacks.ModelCheckpoint("best.keras", "loss", save_best_only=True)
    >>> history = model.fit([[1.0], [2.0]], [2.0, 4.0], epochs=3, verbose=0, callbacks=keep)
    """

    def __init__(
        self,
        filepath: PathLike,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: Mode = "auto",
        save_freq: Frequency = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath, self.verbose = str(disk.path_of(filepath)), verbose
        self.save_best_only = flag("save_best_only", save_best_only)
        self.save_weights_only = flag("save_weights_only", save_weights_only)
        self.save_freq = frequency(save_freq)
        self.wants_batches = save_freq != "epoch"
        endings = WEIGHTS if save_weights_only else MODELS
        if not self.filepath.endswith(endings) or (not save_weights_only and self.filepath.endswith(WEIGHTS)):
            what = "save_weights_only=True" if save_weights_only else "save_weights_only=False"
            raise ValueError(f"With {what} the filepath must end in {', '.join(endings)}; got {self.filepath!r}.")
        self._epoch = self._since = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        if not self.filepath.endswith((".safetensors", ".gpumlp")):
            hdf5.library()  # says now, and not behind the first epoch, where it is missing

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.save_freq == "epoch":
            return
        self._since += 1
        if self._since >= self.save_freq:
            self._since = 0
            self._save({"batch": batch + 1}, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.save_freq == "epoch":
            self._save({}, logs or {})

    def get_state(self) -> dict[str, object]:
        return {"best": self.best, "since": self._since}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best, self._since = state["best"], state["since"]

    def _save(self, at: dict[str, int], logs: Mapping[str, Any]) -> None:
        best, words = self.best, ""
        value = self.get_monitor_value(dict(logs)) if self.save_best_only else None
        if value is not None:
            if not self.is_better(value, self.best):
                self._say(f"{self.monitor} did not improve from {self.best:.5f}" if self.best is not None else "")
                return
            best = value
            words = f"{self.monitor} improved" + ("" if self.best is None else f" from {self.best:.5f}")
            words += f" to {value:.5f}, "
        path = self._path(at, logs)
        disk.path_of(path).parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        self.best = best
        self._say(f"{words}saving model to {path}")

    def _path(self, at: dict[str, int], logs: Mapping[str, Any]) -> str:
        names = {**logs, "epoch": self._epoch + 1, **at}
        try:
            return self.filepath.format(**names)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"The filepath {self.filepath!r} has the name {error} in it, which nothing has; there are "
                f"{', '.join(names)}."
            ) from None

    def _say(self, words: str) -> None:
        if self.verbose and words:
            self._tell(f"\nEpoch {self._epoch + 1}: {words}")
