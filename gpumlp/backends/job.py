"""The table that tells compiled kernels what to do (kernels/cpu/layout.py), filled in with names and arrays."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import struct
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import ClassVar, Unpack

import numpy as np

from gpumlp import kernel_sources
from gpumlp.activations import Activation, relu
from gpumlp.backends import fields, native
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.fields import ActivationFields, Address, JobFields, Kind, MetricFields, OperationFields, kind_of
from gpumlp.backends.instruction_set import InstructionSet
from gpumlp.backends.llvm import PROTOTYPE, Function
from gpumlp.backends.numpy_backend import aligned_zeros
from gpumlp.backends.runtime import Array, DType
from gpumlp.config import in_float32
from gpumlp.formulas import Formula
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

LINE = 64  # bytes
CALLS = {addresses: struct.Struct(f"={6 + addresses}q") for addresses in (3, 7)}  # without what judges, and with it


@functools.cache
def layout() -> ModuleType:
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
    apart would all want the same few places of the first cache. Rows of one number stand side by side, so that lanes
    can go along them.
    """
    if columns == 1:
        return 1
    line = LINE // 4
    distance = -(-columns // line) * line
    return distance + line if distance % 256 == 0 else distance


class Record:
    """Some words of the table, of the fields ``kinds``; whatever array is set is kept alive."""

    kinds: ClassVar[dict[str, Kind]]

    def __init__(self, words: Array, kept: dict[int, object], start: int) -> None:
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
    """A table with room for ``operations`` and ``metrics``, for kernels of a set of instructions."""

    kinds = fields.JOB

    def __init__(self, operations: int, metrics: int, instructions: InstructionSet) -> None:
        self.instructions = instructions
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
        self._call_at = words.itemsize * names.PHASES

    def set(self, **values: Unpack[JobFields]) -> None:
        """Set words."""
        self._put(values)

    def set_call(
        self, phases: int, batches: tuple[int, int], batch: int, samples: int, step: int, *addresses: int
    ) -> None:
        """Set what changes from call to call.

        ``addresses``: X, ORDER, PREDICTIONS, of what the caller keeps alive; and, where something is judged, Y,
        SAMPLE_WEIGHTS, RESULTS and SCALARS.
        """
        place, put = self._call_at, CALLS[len(addresses)].pack_into  # NumPy would take five times as long
        put(self._memory, place, phases, *batches, batch, samples, step, *addresses)

    def begin(self) -> None:
        """Have it that nobody has seen a gradient that is NaN or Inf."""
        self._words[self._names.GRADIENTS_BAD] = 0

    def set_work(self, threads: int, batch: int, widest: int) -> None:
        """Give the threads their work memory."""
        names = layout()
        dtypes: list[DType] = [np.dtype(np.int64), *[np.dtype(np.float32)] * 3]
        lists, gradients, panels, copies = (
            aligned_zeros((threads, _in_lines(size, dtype.itemsize)), dtype)
            for size, dtype in zip(names.work_sizes(batch, widest), dtypes, strict=True)
        )
        self.set(
            LISTS=lists, LISTS_LD=lists.shape[1], GRADIENTS=gradients, GRADIENTS_LD=gradients.shape[1],
            PANELS=panels, PANELS_LD=panels.shape[1], COPIES=copies, COPIES_LD=copies.shape[1],
        )  # fmt: skip
        self.set(IDENTITY=np.arange(max(batch, widest) + names.SPARE))
        self.set_threads(threads)

    def set_threads(self, threads: int) -> None:
        """Set how many threads run the job, of those with work memory."""
        self.threads = threads
        self.set(THREADS=threads)

    def set_objective(self, loss: Loss, metrics: Sequence[Metric], outputs: int, width: int) -> None:
        """Set the loss and the metrics, as many as there is room for, of rows of outputs and targets of ``width``."""
        for formula in (loss.formula, *(metric.formula for metric in metrics)):
            formula.look_at_columns("A loss or metric", p=outputs, t=width)
        code, *found = native.formula_addresses(objective_codes(loss, metrics, outputs, width), self.instructions)
        self.set(LOSS_CODE=code, LOSS_NUMBERS=numbers_for(loss.formula, loss.numbers))
        first = 1
        for record, metric, address in zip(self.metrics, metrics, found, strict=True):
            sums = len(metric.formula.roots)
            record.set(
                METRIC_CODE=address, METRIC_NUMBERS=numbers_for(metric.formula, metric.numbers),
                METRIC_WEIGHTED=int(metric.weighted), METRIC_SUMS=sums, METRIC_FIRST=first,
            )  # fmt: skip
            first += sums

    def set_optimizer(self, optimizer: Optimizer, params: Array, slots: Mapping[str, Array]) -> None:
        """Set the optimizer and where its state is: ``slots`` have the layout of ``params``."""
        code, first = update_code(optimizer), fields.FLOATS.word("the weights", params)
        places = [fields.FLOATS.word(name, slots[name], params.size) for name in optimizer.slots]
        self._kept[-1] = slots
        self.set(
            UPDATE_CODE=native.formula_addresses([code], self.instructions)[0],
            UPDATE_NUMBERS=numbers_for(code.formula, optimizer.numbers),
            SLOTS=np.array([(place - first) // 4 for place in places], np.int64),
            SCALARS_LD=len(optimizer.scalar_names),
        )  # fmt: skip


def series_of(metrics: Sequence[Metric]) -> int:
    """Return how many numbers a batch gives: the loss, and of each metric the sums and the divisor."""
    return 1 + sum(len(metric.formula.roots) + 1 for metric in metrics)


def numbers_for(formula: Formula, numbers: Mapping[str, float]) -> Array:
    """Return the numbers that a formula's function is given, in their order."""
    return in_float32([numbers[name] for name in formula.numbers])


def _in_lines(count: int, itemsize: int) -> int:
    """Return how many elements whole cache lines have, that are at least ``count``."""
    return -(-count * itemsize // LINE) * LINE // itemsize


def job_list(run: Function, jobs: Sequence[int]) -> Array:
    """Return the list that ``run_many`` takes: jobs by address, and the compiled function that runs one."""
    assert isinstance(run, PROTOTYPE)
    names = layout()
    words = np.zeros(names.JOBS_AT + len(jobs), np.int64)
    words[names.JOBS], words[names.RUN] = len(jobs), ctypes.cast(run, ctypes.c_void_p).value
    words[names.JOBS_AT :] = jobs
    return words


# ---- formulas --------------------------------------------------------------------------------------------------------


def objective_codes(loss: Loss, metrics: Sequence[Metric], outputs: int, width: int) -> list[Code]:
    """Return the functions of a loss and of metrics, of rows of outputs and of targets of ``width``."""
    one = outputs == width == 1  # rows of one number each stand side by side
    single = width == 1 < outputs
    of_metrics = (Code("metric", m.formula, narrow=one, single=single and not m.sparse) for m in metrics)
    return [Code("loss", loss.formula, narrow=one), *of_metrics]


def update_code(optimizer: Optimizer) -> Code:
    """Return an optimizer's function."""
    return Code("update", optimizer.formula, tuple(optimizer.slots), optimizer.scalar_names)


def penalty_code(regularizer: Regularizer) -> Code:
    """Return a penalty's function."""
    return Code("penalty", regularizer.formula)


def activation_codes(activation: Activation, fused: bool) -> list[Code | None]:
    """Return an activation's functions, forward and back; None where there is nothing to do."""
    forward, back = activation.formula.forward, activation.formula.back
    return [
        None if forward.is_identity or (fused and is_plain_relu(activation)) else Code("forward", forward),
        None if back.is_identity else Code("back", back),
    ]


def is_plain_relu(activation: Activation) -> bool:
    """Whether an activation is relu, whatever it is called: products end with it, and dead inputs are left out."""
    return activation.formula.forward.text == relu.formula.forward.text


def activation_fields(activation: Activation, instructions: InstructionSet, fused: bool = False) -> ActivationFields:
    """Return the words that say an activation; ``fused``: of a product, which ends with relu by itself."""
    formula, numbers = activation.formula, activation.numbers
    forward, back = (
        0 if code is None else native.formula_addresses([code], instructions)[0]
        for code in activation_codes(activation, fused)
    )
    return {
        "FORWARD_CODE": forward, "FORWARD_NUMBERS": numbers_for(formula.forward, numbers),
        "BACK_CODE": back, "BACK_NUMBERS": numbers_for(formula.back, numbers),
        "RELU": int(fused and is_plain_relu(activation)),
    }  # fmt: skip


def penalty_fields(regularizer: Regularizer | None, instructions: InstructionSet) -> tuple[int, Array | None]:
    """Return where a penalty's function stands, and its numbers; (0, None) without a penalty."""
    if regularizer is None:
        return 0, None
    code = penalty_code(regularizer)
    return native.formula_addresses([code], instructions)[0], numbers_for(code.formula, regularizer.numbers)
