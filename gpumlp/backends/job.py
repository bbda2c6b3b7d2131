"""The table that tells compiled kernels what to do (kernels/cpu/layout.py), filled in with names and arrays."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import numpy as np

from gpumlp import kernel_sources
from gpumlp.activations import Activation
from gpumlp.backends import fields
from gpumlp.backends.device_backend import activation_number, loss_number, metric_number
from gpumlp.backends.fields import Address, FunctionFields, JobFields, Kind, MetricFields, OperationFields, kind_of
from gpumlp.backends.numpy_backend import aligned_zeros
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Adam, Optimizer, RMSprop

LINE = 64  # bytes
CALL = struct.Struct("=9q")


@functools.cache
def layout() -> Any:
    """Return kernels/cpu/layout.py: names for the words of the table."""
    path = kernel_sources.folder() / "cpu" / "layout.py"
    spec = importlib.util.spec_from_file_location("gpumlp_cpu_layout", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def padded(columns: int) -> int:
    """Return how far apart rows of so many floats stand.

    Whole cache lines, and never a multiple of 1 KiB: a tile reads one element of each of 14 rows, and rows that far
    apart would all want the same few places of the first cache.
    """
    line = LINE // 4
    distance = -(-columns // line) * line
    return distance + line if distance % 256 == 0 else distance


class Record:
    """Some words of the table, of the fields ``kinds``; whatever array is set is kept alive."""

    kinds: ClassVar[dict[str, Kind]]

    def __init__(self, words: np.ndarray, kept: dict[int, Any], start: int) -> None:
        self._words, self._kept, self._start, self._names = words, kept, start, layout()

    def _put(self, values: Mapping[str, object]) -> None:
        """Set words; TypeError or ValueError, with the field's name, where a value is not of its kind."""
        for name, value in values.items():
            kind = kind_of(name, self.kinds)
            place = self._start + getattr(self._names, name)
            self._words[place] = kind.word(name, value)
            if isinstance(kind, Address):
                self._kept[place] = value

    def get(self, name: str) -> int:
        """Return a word."""
        kind_of(name, self.kinds)
        return int(self._words[self._start + getattr(self._names, name)])


class OperationRecord(Record):
    """An operation's words."""

    kinds = fields.OPERATION

    def set(self, **values: Unpack[OperationFields]) -> None:
        """Set words."""
        self._put(values)


class MetricRecord(Record):
    """A metric's words."""

    kinds = fields.METRIC

    def set(self, **values: Unpack[MetricFields]) -> None:
        """Set words."""
        self._put(values)


class Job(Record):
    """A table with room for ``operations`` and ``metrics``."""

    kinds = fields.JOB

    def __init__(self, operations: int, metrics: int) -> None:
        names = layout()
        ops_at = names.JOB_WORDS
        metrics_at = ops_at + operations * names.OP_WORDS
        super().__init__(aligned_zeros((metrics_at + metrics * names.METRIC_WORDS,), np.int64), {}, 0)
        words, kept = self._words, self._kept
        self.operations = [OperationRecord(words, kept, ops_at + i * names.OP_WORDS) for i in range(operations)]
        self.metrics = [MetricRecord(words, kept, metrics_at + i * names.METRIC_WORDS) for i in range(metrics)]
        self.set(OPS=operations, OPS_AT=ops_at, METRICS=metrics, METRICS_AT=metrics_at)
        self.set(BARRIER=aligned_zeros((16,), np.int64))
        self.address, self._memory = fields.WORDS.word("a job", words), memoryview(words.data).cast("B")

    def set(self, **values: Unpack[JobFields]) -> None:
        """Set words."""
        self._put(values)

    def set_call(
        self, phases: int, batches: tuple[int, int], batch: int, samples: int, step: int, *addresses: int
    ) -> None:
        """Set what changes from call to call; ``addresses``: X, ORDER, PREDICTIONS, which the caller keeps alive."""
        words = (phases, *batches, batch, samples, step, *addresses)
        CALL.pack_into(self._memory, 8 * self._names.PHASES, *words)  # NumPy would take five times as long

    def set_work(self, threads: int, batch: int, widest: int) -> None:
        """Give the threads their work memory."""
        names = layout()
        dtypes = (np.int64, np.float32, np.float32, np.float32)
        lists, gradients, panels, turned = (
            aligned_zeros((threads, _in_lines(size, np.dtype(dtype).itemsize)), dtype)
            for size, dtype in zip(names.work_sizes(batch, widest), dtypes, strict=True)
        )
        self.set(
            LISTS=lists, LISTS_LD=lists.shape[1], GRADIENTS=gradients, GRADIENTS_LD=gradients.shape[1],
            PANELS=panels, PANELS_LD=panels.shape[1], TURNED=turned, TURNED_LD=turned.shape[1],
        )  # fmt: skip
        self.set(IDENTITY=np.arange(max(batch, widest) + names.SPARE))
        self.set_threads(threads)

    def set_threads(self, threads: int) -> None:
        """Set how many threads run the job, of those with work memory."""
        self.threads = threads
        self.set(THREADS=threads)

    def set_loss(self, loss: Loss) -> None:
        """Set the loss."""
        number, constant = loss_number(loss)
        self.set(LOSS=number, LOSS_CONSTANT=constant, SPARSE_LABELS=int(loss.sparse))

    def set_metrics(self, metrics: list[Metric]) -> None:
        """Set the metrics, as many as there is room for."""
        for record, metric in zip(self.metrics, metrics, strict=True):
            record.set(METRIC_KIND=metric_number(metric), METRIC_WEIGHTED=int(metric.weighted))

    def set_optimizer(self, optimizer: Optimizer, params: np.ndarray, slots: dict[str, np.ndarray]) -> None:
        """Set the optimizer and where its state is: ``slots`` have the layout of ``params``."""
        names, config = layout(), optimizer.get_config()
        kind, order = names.SGD, ["momentum", "", ""]
        if isinstance(optimizer, Adam):
            kind, order = names.ADAM, ["m", "v", ""]
        elif isinstance(optimizer, RMSprop):
            kind, order = names.RMSPROP, ["v", "momentum", "mean"]
        first = fields.FLOATS.word("the weights", params)
        state = [(name, slots.get(name)) for name in order]
        away = [0 if a is None else (fields.FLOATS.word(name, a, params.size) - first) // 4 for name, a in state]
        self._kept[-1] = slots
        self.set(
            SLOT_1=away[0], SLOT_2=away[1], SLOT_3=away[2],
            OPTIMIZER=kind,
            BETA_1=float(config.get("beta_1", config.get("momentum", 0.0))),
            BETA_2=float(config.get("beta_2", config.get("rho", 0.0))),
            EPSILON=float(config.get("epsilon", 0.0)),
            NESTEROV=int(config.get("nesterov", False)),
            CENTERED=int(config.get("centered", False)),
        )  # fmt: skip


def _in_lines(count: int, itemsize: int) -> int:
    """Return how many elements whole cache lines have, that are at least ``count``."""
    return -(-count * itemsize // LINE) * LINE // itemsize


def job_list(run: Any, jobs: Sequence[int]) -> np.ndarray:
    """Return the list that ``run_many`` takes: jobs by address, and the compiled function that runs one."""
    names = layout()
    words = np.zeros(names.JOBS_AT + len(jobs), np.int64)
    words[names.JOBS], words[names.RUN] = len(jobs), ctypes.cast(run, ctypes.c_void_p).value
    words[names.JOBS_AT :] = jobs
    return words


def function_fields(activation: Activation) -> FunctionFields:
    """Return the fields FUNCTION and CONSTANT."""
    if activation.name == "softmax":
        return {"FUNCTION": layout().SOFTMAX, "CONSTANT": 0.0}
    number, constant = activation_number(activation)
    return {"FUNCTION": number, "CONSTANT": constant}
