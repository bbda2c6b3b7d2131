"""The contract on a GPU in Python: which kernel of kernels/numba_cuda.py each operation is, and how it is launched.

A kernel that computes a formula is made of it: `writer` writes the formula as a device function, and formulas of one
text have one kernel. Tracebacks and Numba's messages show the text's lines. Numba is imported when the first backend is
made. It compiles a kernel for the types of its arguments at the first launch, so types are few: arrays are
C-contiguous, integers int64, reals float32, and where an operation goes without an array another one stands in its
place, with a flag of zero. Under NUMBA_ENABLE_CUDASIM=1 the same kernels run in the simulator of numba-cuda on NumPy's
arrays. float32 only.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import linecache
import math
import types
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gpumlp import activations, kernel_sources
from gpumlp.activations import Activation
from gpumlp.backends.device_backend import PENALTY_PARTS, DeviceBackend, lanes_for
from gpumlp.backends.numpy_backend import kept_scale
from gpumlp.backends.runtime import Argument, Array, Rows, Runtime
from gpumlp.backends.writer import NUMBA, element_function, is_sum, reads_columns, row_function
from gpumlp.errors import INSTALL, DeviceUnavailable, KernelError
from gpumlp.formulas import Formula
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

if TYPE_CHECKING:
    from numba.cuda.cudadrv.driver import Stream
    from numba.cuda.dispatcher import CUDADispatcher as Function
    from numba.cuda.dispatcher import CUDADispatcher as Kernel

Numbers = tuple[np.float32, ...]
Given: TypeAlias = Argument | np.float32 | np.uint64 | tuple[np.float32 | np.uint64, ...]  # to a launch
C_FUNCTIONS = ("cos", "exp", "expm1", "log", "log1p", "pow", "sin", "sqrt", "tanh")


@functools.cache
def load_kernels() -> types.ModuleType:
    """Return kernels/numba_cuda.py as a module; DeviceUnavailable where numba-cuda cannot be imported."""
    try:
        from numba import cuda

        if cuda.implementation != "NVIDIA":  # numba-cuda puts itself in the place of the one in Numba
            raise ImportError("numba.cuda is Numba's own, which is deprecated")
        module = made_of(kernel_sources.source("numba_cuda.py"), str(kernel_sources.folder() / "numba_cuda.py"))
    except ImportError as error:
        raise DeviceUnavailable(
            f"The Numba kernels need numba-cuda, which cannot be imported: {error}. {INSTALL}"
        ) from error
    if not module.cuda.config.ENABLE_CUDASIM:
        _import_arrays()
    # A small layer fills a few multiprocessors only, and Numba would warn at each launch; nothing can be done about it.
    module.cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    return module


def _import_arrays() -> None:
    """Import what numba-cuda knows of arrays: up to 0.30 it takes a name from NumPy that NumPy 2.5 has no more."""
    missing = not hasattr(np, "row_stack")
    if missing:
        np.row_stack = np.vstack  # of which it was another name
    try:
        importlib.import_module("numba.cuda.np.arrayobj")
    finally:
        if missing:
            del np.row_stack


def made_of(text: str, path: str) -> types.ModuleType:
    """Return the kernels of a source text as a module."""
    module = types.ModuleType("gpumlp_numba_cuda")
    module.__file__ = path
    exec(compile(text, path, "exec"), module.__dict__)
    if module.cuda.config.ENABLE_CUDASIM:  # Python's functions raise where a GPU's give infinity or NaN, and are double
        for name in C_FUNCTIONS:
            setattr(module, name, getattr(np, {"pow": "power"}.get(name, name)))
        module.__dict__["erf"] = lambda v: np.float32(math.erf(v))
    return module


def _function(kernels: types.ModuleType, text: str) -> Function:
    """Return the function called ``f`` of a text, with the names of ``kernels``; its lines can be shown."""
    path = f"<formula {hashlib.sha256(text.encode()).hexdigest()[:12]}>"
    linecache.cache[path] = len(text), None, text.splitlines(keepends=True), path
    space = {n: value for n, value in vars(kernels).items() if n != "cuda"}  # the simulator looks for it, slowly
    space["device"] = device = kernels.cuda.jit(device=True)
    exec(compile(text, path, "exec"), space)
    return device(space["f"])


# Texts, by formula: descriptions give the same one each time.
@functools.lru_cache(maxsize=1024)
def _element_text(formula: Formula, arguments: tuple[str, ...]) -> str:
    return element_function(NUMBA, "f", formula, arguments)


@functools.lru_cache(maxsize=1024)
def _row_text(
    formula: Formula, arrays: tuple[str, ...], arguments: tuple[str, ...] = (), root: str = "", into: str = "",
    adds: bool = False,
) -> str:  # fmt: skip
    """Return a row function's text; ``root`` is written to the array ``into``."""
    return row_function(NUMBA, "f", formula, arrays, arguments, {root: into} if root else {}, adds)


@functools.lru_cache(maxsize=1024)
def _update_text(formula: Formula, slots: tuple[str, ...], scalars: tuple[str, ...]) -> str:
    """Return the text of an update, of one element of the arena."""
    places = ["w[e]", *(f"slots[{i}][e]" for i in range(len(slots)))]
    read = ["w[e]", "g[e]", *places[1:], *(f"scalars[{i}]" for i in range(len(scalars))), "*numbers"]
    return (
        element_function(NUMBA, "update", formula, ("w", "g", *slots, *scalars))
        + "\nupdate = device(update)\n\n\n"
        + f"def f(e, w, g, slots, scalars, numbers):\n    {', '.join(places)} = update({', '.join(read)})\n"
    )


def _values(formula: Formula, numbers: Mapping[str, float]) -> Numbers:
    return tuple(np.float32(numbers[name]) for name in formula.numbers)


class NumbaBackend(DeviceBackend):
    """The package's own kernels in Numba CUDA."""

    name = "numba"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.kernels = load_kernels()
        self._made: dict[tuple[str, str], Kernel] = {}
        self._none = runtime.zeros(1, np.float32)  # stands where there is no array
        self._streams: dict[int, Stream] = {}

    # ---- kernels of formulas ---------------------------------------------------------------------------------------

    def _kernel(self, maker: str, text: str) -> Kernel:
        """Return the kernel that ``maker`` of numba_cuda.py makes of a text's function; the same one each time."""
        if (maker, text) not in self._made:
            self._made[maker, text] = getattr(self.kernels, maker)(_function(self.kernels, text))
        return self._made[maker, text]

    def _forward(self, maker: str, activation: Activation) -> tuple[Kernel, Numbers]:
        """Return the kernel of an elementwise activation, and its numbers."""
        formula = activation.formula.forward
        return self._kernel(maker, _element_text(formula, ("z",))), _values(formula, activation.numbers)

    def _back(self, maker: str, activation: Activation) -> tuple[Kernel, Numbers]:
        """Return the kernel of an elementwise activation's way back, and its numbers."""
        formula = activation.formula.back
        return self._kernel(maker, _element_text(formula, ("dy", "y", "z"))), _values(formula, activation.numbers)

    # ---- launching -------------------------------------------------------------------------------------------------

    def _launch(self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Given) -> None:
        """Launch on the runtime's stream; an int goes as int64, a float as float32. Nothing to do: no launch."""
        if 0 in grid:
            return
        self.runtime.last = kernel.py_func.__name__
        try:
            with self.runtime.current(), self._current():
                kernel[grid, block, self._stream()](*map(self._argument, arguments))
        except Exception as error:  # Numba's compiler and the driver have many types of their own
            raise KernelError(f"{self.runtime.last} could not be launched: {error}") from error
        if self.runtime.step_by_step:
            self.runtime.synchronize()

    def _current(self) -> AbstractContextManager[object]:
        """Return a context in which Numba, which keeps a device of its own, has the runtime's."""
        return nullcontext() if self.kernels.cuda.config.ENABLE_CUDASIM else self.kernels.cuda.gpus[self.runtime.index]

    def _argument(self, a: Given) -> object:
        if isinstance(a, np.generic):
            return a
        if isinstance(a, tuple):
            return tuple(map(self._argument, a))
        if isinstance(a, int):
            return np.int64(a)
        if isinstance(a, float):
            return np.float32(a)
        cuda = self.kernels.cuda
        if cuda.config.ENABLE_CUDASIM:  # a plain NumPy array would be copied there and back, one copy per argument
            return cuda.devicearray.FakeCUDAArray(a)
        return cuda.as_cuda_array(a, sync=False)  # all work is on one stream; by default Numba would wait for it here

    def _stream(self) -> Stream | int:
        pointer = self.runtime.stream_pointer
        if pointer == 0 or self.kernels.cuda.config.ENABLE_CUDASIM:
            return 0  # the default stream, for Numba as for CUDA
        if pointer not in self._streams:
            self._streams[pointer] = self.kernels.cuda.external_stream(pointer)
        return self._streams[pointer]

    def _elementwise(self, kernel: Kernel, threads: int, *arguments: Given) -> None:
        block = self.kernels.THREADS
        self._launch(kernel, (-(-threads // block),), (block,), *arguments)

    def _rowwise(self, kernel: Kernel, rows: int, columns: int, *arguments: Given) -> None:
        lanes = lanes_for(columns)
        groups = self.kernels.ROW_THREADS // lanes
        self._launch(kernel, (-(-rows // groups),), (lanes, groups), *arguments)

    def _tiles(self, kernel: Kernel, rows: int, columns: int, *arguments: Given) -> None:
        tile = self.kernels.TILE
        self._launch(kernel, (-(-rows // tile), -(-columns // tile)), (tile, tile), *arguments)

    def _flat(self, a: Array | None) -> Array:
        """Return ``a`` as one dimension, sharing its memory; any array for None."""
        if a is None:
            return self._none
        assert a.flags.c_contiguous
        return a.reshape(-1)

    # ---- the contract ----------------------------------------------------------------------------------------------

    def take(self, source: Array, rows: Rows, out: Array) -> None:
        """See `NumpyBackend.take`."""
        width = out.size // len(rows) if len(rows) else 0
        arrays = (self._flat(out), self._flat(self.whole(source)), self.whole(rows))
        self._elementwise(self.kernels.take, out.size, *arrays, out.size, width)

    def dense_forward(
        self, x: Array, w: Array, b: Array | None, activation: Activation, y: Array, z: Array | None = None
    ) -> None:
        """See `NumpyBackend.dense_forward`."""
        (batch, inputs), outputs = x.shape, w.shape[1]
        formula = activation.formula
        sums = y if z is None else z
        if formula.rowwise and z is None and reads_columns(formula.forward):
            sums = self.scratch(0, y.shape, np.float32)
        kernel, numbers = self._forward("dense_forward", activations.linear if formula.rowwise else activation)
        arrays = (sums if formula.rowwise else y, sums, self.whole(x), w, self._flat(b))
        keeps = z is not None and not formula.rowwise
        self._tiles(kernel, batch, outputs, *arrays, batch, inputs, outputs, keeps, b is not None, numbers)
        if formula.rowwise:
            self.activation_forward(activation, sums, y)

    def dense_backward(
        self, dy: Array, x: Array, w: Array, y: Array, z: Array | None, activation: Activation, dx: Array | None,
        dw: Array, db: Array | None,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.dense_backward`."""
        x, dy = self.whole(x), self.whole(dy)
        (batch, inputs), outputs = x.shape, w.shape[1]
        if activation.formula.rowwise or activation.formula.retains_input:  # too dear for wherever dy is read
            self.activation_backward(activation, dy, y, z)
            activation = activations.linear
        sizes, biased = (batch, inputs, outputs), db is not None
        kernel, numbers = self._back("dense_backward_weights", activation)
        self._tiles(kernel, inputs + biased, outputs, dw, self._flat(db), dy, x, y, *sizes, biased, numbers)
        if dx is not None:
            kernel, numbers = self._back("dense_backward_inputs", activation)
            self._tiles(kernel, batch, inputs, dx, dy, w, y, *sizes, numbers)

    def activation_forward(self, activation: Activation, z: Array, y: Array) -> None:
        """Write y = f(z) over rows; y may be z, unless columns of it are read."""
        formula, z = activation.formula, self.whole(z)
        if formula.rowwise:
            kernel = self._kernel("rows_forward", _row_text(formula.forward, ("y", "z"), root="y", into="y"))
            self._rowwise(kernel, *z.shape, y, z, *z.shape, _values(formula.forward, activation.numbers))
        else:
            kernel, numbers = self._forward("activation_forward", activation)
            self._elementwise(kernel, z.size, self._flat(y), self._flat(z), z.size, numbers)

    def activation_backward(self, activation: Activation, dy: Array, y: Array, z: Array | None) -> None:
        """Overwrite dy with dz, over rows."""
        formula, y = activation.formula, self.whole(y)
        z = y if z is None else self.whole(z)
        if formula.rowwise:
            kernel = self._kernel("rows_backward", _row_text(formula.back, ("dy", "y", "z"), root="dz", into="dy"))
            self._rowwise(kernel, *dy.shape, dy, y, z, *dy.shape, _values(formula.back, activation.numbers))
        else:
            kernel, numbers = self._back("activation_backward", activation)
            arrays = (self._flat(dy), self._flat(y), self._flat(z))
            self._elementwise(kernel, dy.size, *arrays, dy.size, numbers)

    def affine(self, x: Array, scale: float, offset: float, y: Array) -> None:
        """Write y = scale x + offset; y may be x."""
        arrays = (self._flat(y), self._flat(self.whole(x)))
        self._elementwise(self.kernels.affine, x.size, *arrays, x.size, float(scale), float(offset))

    def drop(self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int) -> None:
        """See `DeviceBackend.drop`."""
        arrays = (self._flat(y), self._flat(mask), self._flat(self.whole(x)))
        counters = (np.uint64(key), np.uint64(layer), np.uint64(step))
        scale = kept_scale(rate)
        self._elementwise(self.kernels.dropout, -(-x.size // 8), *arrays, x.size, *counters, float(rate), scale)

    def multiply(self, y: Array, mask: Array) -> None:
        """Write y = y mask."""
        self._elementwise(self.kernels.multiply, y.size, self._flat(y), self._flat(mask), y.size)

    def loss_into(self, values: Array, loss: Loss, t: Array, p: Array, weights: Array | None, dp: Array) -> None:
        """See `DeviceBackend.loss_into`."""
        formula = loss.formula
        kernel = self._kernel("loss", _row_text(formula, ("dp", "t", "p"), ("factor",), "dp", "dp"))
        arrays = (dp, values, t, p, self._none if weights is None else self.whole(weights))
        numbers = _values(formula, loss.numbers)
        self._rowwise(kernel, *p.shape, *arrays, *p.shape, weights is not None, numbers)

    def metric_into(
        self, values: Array, counts: Array | None, metric: Metric, t: Array, p: Array, weights: Array | None
    ) -> None:
        """See `DeviceBackend.metric_into`."""
        formula = metric.formula
        places = values.reshape(len(formula.names), len(p))  # of several sums one behind the other
        for name, place in zip(formula.names, places, strict=True):
            one = formula.only(name)
            kernel = self._kernel("metric", _row_text(one, ("t", "p")))
            arrays = (
                place,
                self._flat(counts),
                t,
                p,
                self._none if counts is None or weights is None else self.whole(weights),
            )
            numbers = _values(one, metric.numbers)
            self._rowwise(kernel, *p.shape, *arrays, *p.shape, counts is not None, numbers)

    def penalty_into(self, values: Array, regularizer: Regularizer, w: Array, dw: Array | None) -> None:
        """See `DeviceBackend.penalty_into`."""
        formula, threads = regularizer.formula, self.kernels.THREADS
        blocks = min(PENALTY_PARTS, -(-w.size // threads)) if is_sum(formula, "value") else min(1, w.size)
        if dw is None:
            dw, formula = w, formula.only("value")
            text = _row_text(formula, ("dw", "w"))
        else:
            text = _row_text(formula, ("dw", "w"), root="dw", into="dw", adds=True)
        rows = (dw.reshape(1, -1), w.reshape(1, -1))
        numbers = _values(formula, regularizer.numbers)
        self._launch(self._kernel("penalty", text), (blocks,), (threads,), values, *rows, w.size, numbers)

    def update(
        self, optimizer: Optimizer, params: Array, grads: Array, slots: Mapping[str, Array], step: int,
        scalars: Sequence[float] | Array,
    ) -> None:  # fmt: skip
        """See `DeviceBackend.update`. A GPU handles denormal numbers at full speed: nothing is flushed."""
        formula = optimizer.formula
        state = tuple(slots[name] for name in optimizer.slots)
        kernel = self._kernel("update", _update_text(formula, optimizer.slots, optimizer.scalar_names))
        arrays = (params, grads, state, self.on_device(scalars))
        self._elementwise(kernel, params.size, *arrays, params.size, _values(formula, optimizer.numbers))
