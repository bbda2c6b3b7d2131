"""The contract on a GPU in Python: which kernel of kernels/numba_cuda.py each operation is, and how it is launched.

Numba is imported when the first backend is made. It compiles a kernel for the types of its arguments at the first
launch, so types are few: arrays are C-contiguous, integers int64, reals float32, and where an operation goes without an
array another one stands in its place, with a flag of zero. Under NUMBA_ENABLE_CUDASIM=1 the same kernels run in the
simulator of numba-cuda on NumPy's arrays. float32 only.
"""

from __future__ import annotations

import functools
import importlib.util
from contextlib import nullcontext
from typing import Any

import numpy as np

from gpumlp import kernel_sources
from gpumlp.activations import Activation
from gpumlp.backends.device_backend import (
    ACTIVATIONS,
    PENALTY_PARTS,
    DeviceBackend,
    activation_number,
    lanes_for,
    loss_number,
    metric_number,
)
from gpumlp.backends.runtime import Runtime
from gpumlp.errors import INSTALL, DeviceUnavailable, KernelError
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.regularizers import L1L2

Array = Any


@functools.cache
def load_kernels() -> Any:
    """Return kernels/numba_cuda.py as a module; DeviceUnavailable where numba-cuda cannot be imported."""
    path = kernel_sources.folder() / "numba_cuda.py"
    spec = importlib.util.spec_from_file_location("gpumlp_numba_cuda", path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    try:
        from numba import cuda

        if cuda.implementation != "NVIDIA":  # numba-cuda puts itself in the place of the one in Numba
            raise ImportError("numba.cuda is Numba's own, which is deprecated")
        spec.loader.exec_module(module)
    except ImportError as error:
        raise DeviceUnavailable(
            f"The Numba kernels need numba-cuda, which cannot be imported: {error}. {INSTALL}"
        ) from error
    # A small layer fills a few multiprocessors only, and Numba would warn at each launch; nothing can be done about it.
    module.cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    return module


class NumbaBackend(DeviceBackend):
    """The package's own kernels in Numba CUDA."""

    name = "numba"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.kernels = load_kernels()
        self._none = runtime.zeros(1, np.float32)  # stands where there is no array
        self._streams: dict[int, Any] = {}

    # ---- launching -------------------------------------------------------------------------------------------------

    def _launch(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
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

    def _current(self) -> Any:
        """Return a context in which Numba, which keeps a device of its own, has the runtime's."""
        return nullcontext() if self.kernels.cuda.config.ENABLE_CUDASIM else self.kernels.cuda.gpus[self.runtime.index]

    def _argument(self, a: Any) -> Any:
        if isinstance(a, np.generic):
            return a
        if isinstance(a, int):
            return np.int64(a)
        if isinstance(a, float):
            return np.float32(a)
        cuda = self.kernels.cuda
        if cuda.config.ENABLE_CUDASIM:  # a plain NumPy array would be copied there and back, one copy per argument
            return cuda.devicearray.FakeCUDAArray(a)
        return cuda.as_cuda_array(a, sync=False)  # all work is on one stream; by default Numba would wait for it here

    def _stream(self) -> Any:
        pointer = self.runtime.stream_pointer
        if pointer == 0 or self.kernels.cuda.config.ENABLE_CUDASIM:
            return 0  # the default stream, for Numba as for CUDA
        if pointer not in self._streams:
            self._streams[pointer] = self.kernels.cuda.external_stream(pointer)
        return self._streams[pointer]

    def _elementwise(self, kernel: Any, threads: int, *arguments: Any) -> None:
        block = self.kernels.THREADS
        self._launch(kernel, (-(-threads // block),), (block,), *arguments)

    def _rowwise(self, kernel: Any, rows: int, columns: int, *arguments: Any) -> None:
        lanes = lanes_for(columns)
        groups = self.kernels.ROW_THREADS // lanes
        self._launch(kernel, (-(-rows // groups),), (lanes, groups), *arguments)

    def _tiles(self, kernel: Any, rows: int, columns: int, *arguments: Any) -> None:
        tile = self.kernels.TILE
        self._launch(kernel, (-(-rows // tile), -(-columns // tile)), (tile, tile), *arguments)

    def _flat(self, a: Array | None) -> Array:
        """Return ``a`` as one dimension, sharing its memory; any array for None."""
        if a is None:
            return self._none
        assert a.flags.c_contiguous
        return a.reshape(-1)

    # ---- the contract ----------------------------------------------------------------------------------------------

    def take(self, source: Array, rows: Array, out: Array) -> None:
        """See `NumpyBackend.take`."""
        width = out.size // len(rows) if len(rows) else 0
        arrays = (self._flat(out), self._flat(self.whole(source)), self.whole(rows))
        self._elementwise(self.kernels.take, out.size, *arrays, out.size, width)

    def dense_forward(
        self, x: Array, w: Array, b: Array | None, activation: Activation, y: Array, z: Array | None = None
    ) -> None:
        """See `NumpyBackend.dense_forward`."""
        (batch, inputs), outputs = x.shape, w.shape[1]
        rowwise = activation.name == "softmax"
        kind, constant = (0, 0.0) if rowwise else activation_number(activation)
        self._tiles(
            self.kernels.dense_forward, batch, outputs,
            y, y if z is None else z, self.whole(x), w, self._flat(b), batch, inputs, outputs,
            z is not None, b is not None, kind, constant,
        )  # fmt: skip
        if rowwise:
            self.activation_forward(activation, y, y)

    def dense_backward(
        self, dy: Array, x: Array, w: Array, y: Array, z: Array | None, activation: Activation, dx: Array | None,
        dw: Array, db: Array | None,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.dense_backward`."""
        x, dy = self.whole(x), self.whole(dy)
        (batch, inputs), outputs = x.shape, w.shape[1]
        kind, constant = self.slope_where_read(activation, dy, y, z)
        sizes, biased = (batch, inputs, outputs), db is not None
        self._tiles(
            self.kernels.dense_backward_weights, inputs + biased, outputs,
            dw, self._flat(db), dy, x, y, *sizes, biased, kind, constant,
        )  # fmt: skip
        if dx is not None:
            self._tiles(self.kernels.dense_backward_inputs, batch, inputs, dx, dy, w, y, *sizes, kind, constant)

    def activation_forward(self, activation: Activation, z: Array, y: Array) -> None:
        """Write y = f(z) over rows."""
        if activation.name == "softmax":
            self._rowwise(self.kernels.softmax_forward, *z.shape, y, self.whole(z), *z.shape)
        else:
            self._activate(z, y, *activation_number(activation), 0.0)

    def activation_backward(self, activation: Activation, dy: Array, y: Array, z: Array | None) -> None:
        """Overwrite dy with dy f'(z), over rows."""
        if activation.name == "softmax":
            self._rowwise(self.kernels.softmax_backward, *dy.shape, dy, self.whole(y), *dy.shape)
        elif activation.name != "linear":
            of = self.whole(z if activation.retains_input else y)
            kind, constant = activation_number(activation)
            arguments = (self._flat(dy), self._flat(of), dy.size, kind, activation.retains_input, constant)
            self._elementwise(self.kernels.activation_backward, dy.size, *arguments)

    def affine(self, x: Array, scale: float, offset: float, y: Array) -> None:
        """Write y = scale x + offset; y may be x."""
        self._activate(x, y, ACTIVATIONS.index("affine"), float(scale), float(offset))

    def _activate(self, z: Array, y: Array, kind: int, a: float, b: float) -> None:
        arrays = (self._flat(y), self._flat(self.whole(z)))
        self._elementwise(self.kernels.activation_forward, z.size, *arrays, z.size, kind, a, b)

    def dropout(self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int) -> None:
        """Write the mask of (key, layer, step) and y = x mask; see `NumpyBackend.dropout`."""
        arrays = (self._flat(y), self._flat(mask), self._flat(self.whole(x)))
        counters = (np.uint64(key), np.uint64(layer), np.uint64(step))
        scale = 1.0 / (1.0 - rate)
        self._elementwise(self.kernels.dropout, -(-x.size // 8), *arrays, x.size, *counters, float(rate), scale)

    def multiply(self, y: Array, mask: Array) -> None:
        """Write y = y mask."""
        self._elementwise(self.kernels.multiply, y.size, self._flat(y), self._flat(mask), y.size)

    def loss_into(self, values: Array, loss: Loss, t: Array, p: Array, weights: Array | None, dp: Array) -> None:
        """See `DeviceBackend.loss_into`."""
        kind, constant = loss_number(loss)
        arrays = (dp, values, t, p, self._none if weights is None else self.whole(weights))
        numbers = (*p.shape, weights is not None, kind, loss.sparse, constant)
        self._rowwise(self.kernels.loss, *p.shape, *arrays, *numbers)

    def metric_into(
        self, values: Array, counts: Array | None, metric: Metric, t: Array, p: Array, weights: Array | None
    ) -> None:
        """See `DeviceBackend.metric_into`."""
        arrays = (values, self._flat(counts), t, p, self._none if counts is None else self.whole(weights))
        numbers = (*p.shape, counts is not None, metric_number(metric))
        self._rowwise(self.kernels.metric, *p.shape, *arrays, *numbers)

    def penalty_into(self, values: Array, regularizer: L1L2, w: Array, dw: Array | None) -> None:
        """See `DeviceBackend.penalty_into`."""
        threads = self.kernels.THREADS
        blocks = min(PENALTY_PARTS, -(-w.size // threads))
        arguments = (values, self._flat(dw), self._flat(w), w.size, dw is not None)
        constants = (float(regularizer.l1), float(regularizer.l2))
        self._launch(self.kernels.penalty, (blocks,), (threads,), *arguments, *constants)

    def adam_update(
        self, params: Array, grads: Array, m: Array, v: Array, scalars: Any, beta_1: float, beta_2: float,
        epsilon: float, step: int,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.adam_update`. A GPU handles denormal numbers at full speed: nothing is flushed."""
        constants = (params.size, 1.0 - beta_1, 1.0 - beta_2, float(epsilon))
        scalars = self.on_device(scalars)
        self._elementwise(self.kernels.adam, params.size, params, grads, m, v, scalars, *constants)

    def sgd_update(
        self, params: Array, grads: Array, momentum: Array | None, scalars: Any, factor: float, nesterov: bool
    ) -> None:
        """See `NumpyBackend.sgd_update`."""
        arrays = (params, grads, self._flat(momentum), self.on_device(scalars))
        constants = (params.size, momentum is not None, float(factor), bool(nesterov))
        self._elementwise(self.kernels.sgd, params.size, *arrays, *constants)

    def rmsprop_update(
        self, params: Array, grads: Array, v: Array, momentum: Array | None, mean: Array | None, scalars: Any,
        rho: float, factor: float, epsilon: float,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.rmsprop_update`."""
        arrays = (params, grads, v, self._flat(momentum), self._flat(mean), self.on_device(scalars))
        flags = (momentum is not None, mean is not None)
        constants = (1.0 - rho, float(factor), float(epsilon))
        self._elementwise(self.kernels.rmsprop, params.size, *arrays, params.size, *flags, *constants)
