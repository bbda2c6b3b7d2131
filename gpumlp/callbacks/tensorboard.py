"""TensorBoard: the logs, and the weights, as its files of events."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.callbacks.logs import writing
from gpumlp.errors import caller_level
from gpumlp.layers import whole_number
from gpumlp.naming import flag
from gpumlp.saving.disk import PathLike

TRAIN, VALIDATION = "train", "validation"
_number = itertools.count()  # of a file in this process


class TensorBoard(Callback):
    """Write what TensorBoard shows: ``tensorboard --logdir log_dir``, from the package of that name.

    Under ``log_dir/train`` are each epoch's logs and learning rate (``epoch_loss``), under ``log_dir/validation`` those
    of validations, and of evaluations by the number of updates (``evaluation_loss_vs_iterations``). What was written
    is in the files at an epoch's end.

    Parameters
    ----------
    log_dir : str or path
        The folder, which is made where it is not there.
    histogram_freq : int
        Every how many epochs there are histograms of the weights (``dense/kernel/histogram``); 0 for none.
    write_graph : bool
        Not read: there is no graph of TensorFlow's.
    write_images : bool
        Not read, and with a warning, here and below.
    write_steps_per_second : bool
        Whether there are steps a second, too.
    update_freq : "epoch", "batch" or int
        After how many batches there are also the logs so far (``batch_loss``); "batch" is 1.
    profile_batch : int
    embeddings_freq : int
    embeddings_metadata : object
        Not read: nothing is profiled, and there are no embeddings.

    Raises
    ------
    ImportError
        Where the package is missing.
    TypeError, ValueError
        For a frequency that is no whole number.
    OSError
        In training, if the files cannot be written.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> board = gpumlp.callbacks.TensorBoard("logs")
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [2.0, 4.0], epochs=2, verbose=0, callbacks=board
    ... )
    """

    def __init__(
        self,
        log_dir: PathLike = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: Literal["epoch", "batch"] | int = "epoch",
        profile_batch: object = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: object = None,
    ) -> None:
        _package()
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = whole_number("histogram_freq", histogram_freq, 0)
        self.write_steps_per_second = flag("write_steps_per_second", write_steps_per_second)
        self.update_freq = 1 if update_freq == "batch" else update_freq
        if self.update_freq != "epoch":
            whole_number("update_freq", self.update_freq)
        self.wants_batches = self.update_freq != "epoch"
        unread = {
            "write_images": write_images, "profile_batch": profile_batch, "embeddings_freq": embeddings_freq,
            "embeddings_metadata": embeddings_metadata,
        }  # fmt: skip
        if names := ", ".join(name for name, value in unread.items() if value):
            warnings.warn(f"gpumlp's TensorBoard does not read {names}.", stacklevel=caller_level())
        self._files: dict[str, str] = {}
        self._batches, self._began, self._batch_began = 0, (0, 0.0), 0.0

    def get_state(self) -> dict[str, object]:
        """Return how many batches there were."""
        return {"batches": self._batches}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Count on from there."""
        self._batches = state["batches"]

    def on_train_begin(self, logs: Logs = None) -> None:
        self._files, self._batches = {}, 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._began = self.model.optimizer.iterations, time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._batch_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.update_freq == "epoch":
            return  # of several batches at once, maybe
        self._batches += 1
        if self._batches % int(self.update_freq) == 0:
            speed = {"steps_per_second": 1.0 / (time.perf_counter() - self._batch_began)}
            found = (speed if self.write_steps_per_second else {}) | (logs or {})
            self._scalars(TRAIN, self._batches, {f"batch_{name}": value for name, value in found.items()})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs, optimizer = logs or {}, self.model.optimizer
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        train["learning_rate"] = float(optimizer.learning_rate)
        if self.write_steps_per_second:
            first, began = self._began
            train["steps_per_second"] = (optimizer.iterations - first) / (time.perf_counter() - began)
        self._scalars(TRAIN, epoch, {f"epoch_{name}": value for name, value in train.items()})
        held_out = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        self._scalars(VALIDATION, epoch, {f"epoch_{name}": value for name, value in held_out.items()})
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write(TRAIN, epoch, self._histograms())

    def on_test_end(self, logs: Logs = None) -> None:
        found = {f"evaluation_{name}_vs_iterations": value for name, value in (logs or {}).items()}
        self._scalars(VALIDATION, self.model.optimizer.iterations, found)

    def _scalars(self, where: str, step: int, values: Mapping[str, Any]) -> None:
        scalar, numbers = _package()[0], (int, float, np.number)
        self._write(where, step, [scalar(name, v) for name, v in values.items() if isinstance(v, numbers)])

    def _histograms(self) -> Iterable[Any]:
        for weight in self.model.weights:
            values = weight.numpy()
            yield _package()[1](f"{weight.path}/histogram", values[np.isfinite(values)])

    def _write(self, where: str, step: int, summaries: Iterable[Any]) -> None:
        """Add events to the file of ``where``, which is not held open: neither a fork nor an exception costs one."""
        _, _, event, record = _package()
        folder = os.path.join(self.log_dir, where)
        events = [event(wall_time=time.time(), step=step, summary=summary) for summary in summaries]
        if not events or not self._speaks:
            return
        with writing(self, folder):
            if where not in self._files:
                import socket  # 7 ms of a start that needs no name of a machine

                os.makedirs(folder, exist_ok=True)
                name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
                self._files[where] = os.path.join(folder, f"{name}.{next(_number)}")
                events.insert(0, event(wall_time=time.time(), file_version="brain.Event:2"))
            with open(self._files[where], "ab") as file:
                for one in events:
                    record(file).write(one.SerializeToString())


def _package() -> tuple[Callable[..., Any], ...]:
    """Return what makes a scalar and a histogram, an event of one, and what writes events to a file."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise ImportError(
            f"TensorBoard needs the package tensorboard ({error}). Install it: pip install 'gpumlp[tensorboard]'."
        ) from error
    return scalar_pb, histogram_pb, Event, RecordWriter
