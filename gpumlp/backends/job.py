"""The table that tells compiled kernels what to do (kernels/cpu/layout.py), filled in with names and arrays."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpumlp import kernel_sources
from gpumlp.activations import Activation, Softmax
from gpumlp.backends.device_backend import activation_number, loss_number, metric_number
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


# What kernels only read; and what is of another type than float32.
READ = {"X", "ORDER", "Y", "SAMPLE_WEIGHTS", "SCALARS", "SHARES", "IDENTITY"}
KINDS = {
    **dict.fromkeys(("ORDER", "LISTS", "SHARES", "IDENTITY", "BARRIER", "jobs"), np.dtype(np.int64)),
    **dict.fromkeys(("RESULTS", "PENALTIES"), np.dtype(np.float64)),
}
FLOAT = np.dtype(np.float32)


def address(name: str, array: Any, size: int = 0) -> int:
    """Return where the array of a field starts, for machine code; 0 for None.

    The one gate to it: ValueError unless the array is of the field's type, contiguous, aligned, writeable where kernels
    write, and of at least ``size`` elements. Whoever asks keeps it alive as long as kernels may use it.
    """
    if array is None:
        return 0
    flags = array.flags
    fine = flags.c_contiguous and flags.aligned and (flags.writeable or name in READ)
    if not fine or array.dtype != KINDS.get(name, FLOAT) or array.size < size:
        raise ValueError(
            f"{name} of a compiled step must be a contiguous, aligned{'' if name in READ else ', writeable'} array of "
            f"at least {size} {KINDS.get(name, FLOAT)}; got {array.size} {array.dtype}, contiguous: "
            f"{flags.c_contiguous}, aligned: {flags.aligned}, writeable: {flags.writeable}."
        )
    return array.__array_interface__["data"][0]


def readable(name: str, array: Any) -> Any:
    """Return ``array`` as kernels can read it: itself where it is contiguous, aligned and of the field's type."""
    return None if array is None else np.require(array, KINDS.get(name, FLOAT), ["C", "A"])


def bits(value: float) -> int:
    """Return a real number as the word of the table that holds it."""
    return struct.unpack("<q", struct.pack("<d", value))[0]


class Record:
    """Some words of the table, set by the names of layout.py; whatever array is set is kept alive."""

    def __init__(self, words: np.ndarray, kept: dict[int, Any], start: int) -> None:
        self._words, self._kept, self._start, self._names = words, kept, start, layout()

    def set(self, **fields: Any) -> None:
        """Set words: an int as it is (up to 64 bits), a float as its bits, an array as its address, None as 0."""
        for name, value in fields.items():
            place = self._start + getattr(self._names, name)
            if isinstance(value, float):
                self._words[place] = bits(value)
            elif value is None or isinstance(value, np.ndarray):
                self._words[place] = address(name, value)
                self._kept[place] = value
            else:
                self._words[place] = value if value < 1 << 63 else value - (1 << 64)

    def get(self, name: str) -> int:
        """Return a word."""
        return int(self._words[self._start + getattr(self._names, name)])


class Job(Record):
    """A table with room for ``operations`` and ``metrics``."""

    def __init__(self, operations: int, metrics: int) -> None:
        names = layout()
        ops_at = names.JOB_WORDS
        metrics_at = ops_at + operations * names.OP_WORDS
        super().__init__(aligned_zeros((metrics_at + metrics * names.METRIC_WORDS,), np.int64), {}, 0)
        self.operations = [Record(self._words, self._kept, ops_at + i * names.OP_WORDS) for i in range(operations)]
        self.metrics = [Record(self._words, self._kept, metrics_at + i * names.METRIC_WORDS) for i in range(metrics)]
        self.set(OPS=operations, OPS_AT=ops_at, METRICS=metrics, METRICS_AT=metrics_at)
        self.set(BARRIER=aligned_zeros((16,), np.int64))
        self.address, self._memory = address("jobs", self._words), memoryview(self._words.data).cast("B")

    def set_call(
        self, phases: int, batches: tuple[int, int], batch: int, samples: int, step: int, *addresses: int
    ) -> None:
        """Set what changes from call to call; ``addresses``: X, ORDER, PREDICTIONS, which the caller keeps alive."""
        fields = (phases, *batches, batch, samples, step, *addresses)
        CALL.pack_into(self._memory, 8 * self._names.PHASES, *fields)  # NumPy would take five times as long

    def set_work(self, threads: int, batch: int, widest: int) -> None:
        """Give the threads their work memory."""
        names = layout()
        kinds = ("LISTS", "GRADIENTS", "PANELS", "TURNED")
        for kind, size in zip(kinds, names.work_sizes(batch, widest), strict=True):
            dtype = np.int64 if kind == "LISTS" else np.float32
            distance = -(-size * np.dtype(dtype).itemsize // LINE) * LINE // np.dtype(dtype).itemsize
            self.set(**{kind: aligned_zeros((threads, distance), dtype), kind + "_LD": distance})
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
        first = address("PARAMS", params)
        for i, name in enumerate(order):
            array = slots.get(name)
            self.set(**{f"SLOT_{i + 1}": 0 if array is None else (address(name, array, params.size) - first) // 4})
        self._kept[-1] = slots
        self.set(
            OPTIMIZER=kind,
            BETA_1=float(config.get("beta_1", config.get("momentum", 0.0))),
            BETA_2=float(config.get("beta_2", config.get("rho", 0.0))),
            EPSILON=float(config.get("epsilon", 0.0)),
            NESTEROV=int(config.get("nesterov", False)),
            CENTERED=int(config.get("centered", False)),
        )


def job_list(run: Any, jobs: Sequence[int]) -> np.ndarray:
    """Return the list that ``run_many`` takes: jobs by address, and the compiled function that runs one."""
    names = layout()
    words = np.zeros(names.JOBS_AT + len(jobs), np.int64)
    words[names.JOBS], words[names.RUN] = len(jobs), ctypes.cast(run, ctypes.c_void_p).value
    words[names.JOBS_AT :] = jobs
    return words


def function_fields(activation: Activation) -> dict[str, Any]:
    """Return the fields FUNCTION and CONSTANT."""
    if isinstance(activation, Softmax):
        return {"FUNCTION": layout().SOFTMAX, "CONSTANT": 0.0}
    number, constant = activation_number(activation)
    return {"FUNCTION": number, "CONSTANT": constant}
