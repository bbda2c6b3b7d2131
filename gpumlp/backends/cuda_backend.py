"""The contract on a GPU: which kernel of kernels/ each operation is, with which tile, grid and arguments.

Nothing here knows CUDA: a runtime (see `gpumlp.backends.runtime`) holds arrays and launches kernels. Operations return
without waiting, except `loss`, `metric` and `penalty`, which hand a number to the host; the ``_into`` forms, which a
recorded step uses, leave it on the device. float32 only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from gpumlp import candidates, formulas
from gpumlp.activations import Activation, linear
from gpumlp.backends import cuda_formulas
from gpumlp.backends.contract import Samples
from gpumlp.backends.cuda_formulas import Made
from gpumlp.backends.device_backend import PENALTY_PARTS, DeviceBackend, is_cheap, lanes_for
from gpumlp.backends.numpy_backend import kept_scale
from gpumlp.backends.runtime import Argument, Array, Defines, Rows, Runtime, words
from gpumlp.backends.writer import is_sum, reads_columns
from gpumlp.expressions import Node
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

THREADS = 256  # of the elementwise kernels; the row kernels take 128, as their groups of lanes leave less to do
ROW_THREADS = 128
WARP = 32


def _affine(z: Node, scale: Node, offset: Node) -> Node:
    return scale * z + offset


AFFINE = formulas.activation(_affine, None, {"scale": math.nan, "offset": math.nan}).forward  # of any numbers


@dataclass(frozen=True)
class Tile:
    """How a block cuts a matrix product, see product.cuh; and the cycles that a step of K takes, to choose by."""

    block_m: int
    block_n: int
    block_k: int
    thread_m: int
    thread_n: int
    slices: int
    buffers: int
    busy: float  # of a multiprocessor, for each of its blocks
    alone: float  # for a block at least, while others leave it the multiprocessor

    @property
    def defines(self) -> dict[str, int]:
        """Return the constants that the kernel is compiled with."""
        threads = self.block_m // self.thread_m * (self.block_n // self.thread_n) * self.slices
        cut = {name.upper(): value for name, value in vars(self).items() if name not in ("busy", "alone")}
        return {**cut, "THREADS": threads}

    def count(self, m: int, n: int) -> int:
        """Return how many tiles cover [m, n]."""
        return -(-m // self.block_m) * -(-n // self.block_n)

    def cycles(self, multiprocessors: int, *parts: tuple[int, int]) -> float:
        """Return what a launch takes whose parts have so many blocks, with sums of so many steps each.

        A block's beginning and end count as ENDS steps.
        """
        blocks = max(1, sum(count for count, _ in parts))
        mean = sum(count * steps for count, steps in parts) / blocks
        longest = max(steps if count else 0 for count, steps in parts)
        return max(self.busy * -(-blocks // multiprocessors) * (mean + ENDS), self.alone * longest)


MOST = 16  # blocks of elementwise work for each multiprocessor: five, as many as fit, took 1 to 4% longer on an H100
ENDS = 64
# By instructions, by passes through shared memory and by traffic with the second cache, where an H100 was not timed.
TILES = {
    "large": Tile(128, 128, 16, 8, 8, 1, 2, 172.0, 190.0),  # 64 multiply-adds for 16 values read: bound by arithmetic
    "middle": Tile(64, 64, 16, 8, 4, 1, 3, 48.0, 85.0),
    "medium": Tile(32, 32, 32, 4, 4, 4, 3, 15.0, 18.0),
    "narrow": Tile(32, 16, 64, 4, 4, 8, 3, 8.5, 9.0),  # 128 x 512 makes 128 blocks of eight warps
    "small": Tile(
        8, 8, 64, 2, 2, 8, 5, 3.5, 3.5
    ),  # 20 x 256 makes 96 blocks of four; 256 inputs are one trip to memory
}
PASS = 4000.0  # cycles of a launch more, of little work


def slope_apart(tile: Tile) -> bool:
    """Whether f' is a pass of its own before dense_backward: worth it where each dz is read by many tiles."""
    return tile in (TILES["large"], TILES["middle"], TILES["narrow"])


class CudaBackend(DeviceBackend):
    """The package's own CUDA C++ kernels."""

    name = "cuda"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.run_words = 6 * runtime.pointer_words + 5  # of the struct Run in step.cu
        self.tile: str | None = None  # the name of the tile to use for everything; None: chosen by shape
        self._everywhere = {"DEPENDENT": 1} if "dependent" in candidates.chosen() else {}
        self._live: Array | None = None
        self._batch = 0
        self._iteration: Array | None = None
        self._count = runtime.zeros(1, np.int64)

    @property
    def recorder(self) -> CudaBackend | None:
        """See `Backend.recorder`."""
        return None if self.runtime.step_by_step else self

    @contextmanager
    def live(self, rows: Array, batch: int, iteration: Array) -> Iterator[None]:
        """Within: arrays hold ``batch`` samples, of which rows[0] are live; iteration[0] numbers the step."""
        self._live, self._batch, self._iteration = rows, batch, iteration
        try:
            yield
        finally:
            self._live = self._iteration = None

    # ---- launching -------------------------------------------------------------------------------------------------

    def _launch(self, file: str, function: str, defines: Defines, blocks: int, *arguments: Argument) -> None:
        if blocks > 0:
            self.runtime.launch(file, function, {**defines, **self._everywhere}, (blocks, 1), arguments)

    def _elementwise(
        self, file: str, function: str, count: int, *arguments: Argument, made: Made | None = None,
        vector: bool = False,
    ) -> None:  # fmt: skip
        """Launch over ``count`` elements, on at most MOST blocks for each multiprocessor.

        What is ``made`` of a formula is compiled, and its numbers come behind the other arguments.
        """
        threads = count // 4 if vector else count
        blocks = min(-(-max(threads, 1) // THREADS), MOST * self.runtime.multiprocessors) if count else 0
        defines: Defines = {"THREADS": THREADS, "VECTOR": int(vector)}
        if made is None:
            self._launch(file, function, defines, blocks, *arguments)
        else:
            self._launch(file, function, {**defines, **made.header}, blocks, *arguments, made.numbers)

    def _rowwise(self, file: str, function: str, rows: int, columns: int, *arguments: Argument, made: Made) -> None:
        blocks = -(-rows * lanes_for(columns) // ROW_THREADS)
        defines = {"THREADS": ROW_THREADS, **made.header}
        self._launch(file, function, defines, blocks, *arguments, columns, lanes_for(columns), made.numbers)

    def _compute(
        self, made: Made, out: Array, dy: Array | None = None, y: Array | None = None, z: Array | None = None
    ) -> None:
        """Write what is made of dy, y and z, over rows, into ``out``, which may be one of them."""
        rows, row = out.shape
        arguments = (out, (dy, y, z), *self._rows(rows))
        if made.rowwise:
            self._rowwise("rowwise.cu", "rowwise", rows, row, *arguments, made=made)
        else:
            self._elementwise("elementwise.cu", "elementwise", out.size, *arguments, row, made=made)

    def _rows(self, rows: int) -> tuple[Array | None, int, int]:
        """Return the device's count of live samples (or None), the rows, and how many rows a sample has."""
        return self._live, rows, 1 if self._live is None else rows // self._batch

    def _aligned(self, *arrays: Array | None) -> bool:
        return all(a is None or self.runtime.pointer(a)[0] % 16 == 0 for a in arrays)

    def forward_tile(self, batch: int, inputs: int, outputs: int) -> Tile:
        """Return the tile for dense_forward."""

        def cycles(tile: Tile) -> float:
            return tile.cycles(self.runtime.multiprocessors, (tile.count(batch, outputs), inputs))

        return TILES[self.tile] if self.tile else min(TILES.values(), key=cycles)

    def backward_tile(self, batch: int, inputs: int, outputs: int, dx: bool = True, slope: bool = False) -> Tile:
        """Return the tile for dense_backward, with dx or without, and with a slope that may be applied on the way."""

        def cycles(tile: Tile) -> float:
            splits, stretch = self._split(tile, batch, inputs, outputs)
            passes = (splits > 1) + (slope and slope_apart(tile))
            weights = splits * tile.count(inputs, outputs), stretch
            values = (tile.count(batch, inputs), outputs) if dx else (0, 0)
            return tile.cycles(self.runtime.multiprocessors, weights, values) + passes * PASS

        return TILES[self.tile] if self.tile else min(TILES.values(), key=cycles)

    # ---- the contract ----------------------------------------------------------------------------------------------

    def dense_forward(
        self, x: Array, w: Array, b: Array | None, activation: Activation, y: Array, z: Array | None = None
    ) -> None:
        """See `NumpyBackend.dense_forward`."""
        x, made = self.whole(x), cuda_formulas.epilogue(activation)
        (batch, inputs), outputs = x.shape, w.shape[1]
        tile = self.forward_tile(batch, inputs, outputs)
        vector = inputs % 4 == 0 and outputs % 4 == 0 and self._aligned(x, w, y, z)
        self._launch(
            "dense_forward.cu", "dense_forward", {**tile.defines, "VECTOR": int(vector), **made.header},
            tile.count(batch, outputs), y, z, x, w, b, self._live, batch, inputs, outputs, made.numbers,
        )  # fmt: skip
        if cuda_formulas.forward(activation).rowwise:
            self.activation_forward(activation, y if z is None else z, y)

    def dense_backward(
        self, dy: Array, x: Array, w: Array, y: Array, z: Array | None, activation: Activation, dx: Array | None,
        dw: Array, db: Array | None,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.dense_backward`."""
        x, dy = self.whole(x), self.whole(dy)
        (batch, inputs), outputs = x.shape, w.shape[1]
        cheap = is_cheap(activation.formula)
        slope = cheap and not activation.formula.back.is_identity
        tile = self.backward_tile(batch, inputs, outputs, dx is not None, slope)
        if slope_apart(tile) or not cheap:
            self.activation_backward(activation, dy, y, z)
            activation = linear
        made = cuda_formulas.slope(activation)
        splits, stretch = self._split(tile, batch, inputs, outputs)
        partial = self.scratch(0, (splits, inputs + 1, outputs), dw.dtype) if splits > 1 else None
        weight_blocks = splits * tile.count(inputs, outputs)
        vector = inputs % 4 == 0 and outputs % 4 == 0 and self._aligned(dy, x, w, y, dx, dw, partial)
        self._launch(
            "dense_backward.cu", "dense_backward", {**tile.defines, "VECTOR": int(vector), **made.header},
            weight_blocks + (0 if dx is None else tile.count(batch, inputs)),
            (dx, dw, db, partial), (dy, x, w, y, self._live), (batch, inputs, outputs),
            (splits, stretch, weight_blocks), made.numbers,
        )  # fmt: skip
        if partial is not None:
            self._elementwise(
                "sum_partials.cu", "sum_partials", dw.size + outputs, dw, db, partial, splits, inputs, outputs
            )

    def _split(self, tile: Tile, batch: int, m: int, n: int) -> tuple[int, int]:
        """Return into how many stretches of how many samples the batch is cut for the weight gradient.

        As many as give every multiprocessor two blocks, each of them at least eight stages long: below that, adding the
        partial sums costs more than it wins.
        """
        wanted = 2 * self.runtime.multiprocessors // tile.count(m, n)
        splits = max(1, min(wanted, batch // (8 * tile.block_k)))
        stages = -(-batch // (splits * tile.block_k))
        stretch = max(stages, 1) * tile.block_k
        return max(1, -(-batch // stretch)), stretch

    def activation_forward(self, activation: Activation, z: Array, y: Array) -> None:
        """Write y = f(z) over rows."""
        made = cuda_formulas.forward(activation)
        if made.rowwise and y is z and reads_columns(activation.formula.forward):
            z = self.scratch(3, z.shape, z.dtype)
            self.activation_forward(linear, y, z)
        self._compute(made, y, z=z)

    def activation_backward(self, activation: Activation, dy: Array, y: Array, z: Array | None) -> None:
        """Overwrite dy with dy f'(z), over rows."""
        if not activation.formula.back.is_identity:
            self._compute(cuda_formulas.back(activation), dy, dy, y, z)

    def affine(self, x: Array, scale: float, offset: float, y: Array) -> None:
        """Write y = scale x + offset; y may be x."""
        self._compute(cuda_formulas.of_inputs(AFFINE, {"scale": scale, "offset": offset}), y, z=x)

    def drop(self, x: Array, mask: Array, y: Array, rate: float, key: int, layer: int, step: int) -> None:
        """See `DeviceBackend.drop`."""
        batch, row = x.shape
        iteration = self._iteration
        if iteration is None:
            iteration = self._count
            self.runtime.upload(iteration, np.array([step], np.int64))
        key = key - (1 << 64) if key >= 1 << 63 else key  # the same bits as a signed number
        arguments = (y, mask, x, self._live, iteration, batch, row, key, layer, float(rate), kept_scale(rate))
        threads = -(-x.size // 8)
        self._elementwise("dropout.cu", "dropout", threads, *arguments)

    def multiply(self, y: Array, mask: Array) -> None:
        """Write y = y mask."""
        self._elementwise("dropout.cu", "multiply", y.size, y, mask, self._live, *y.shape)

    # batch normalization of x[B, C]; what has more axes is the array library's

    def _by_columns(self, function: str, columns: int, *arguments: Argument) -> None:
        self._launch("batch_norm.cu", function, {"THREADS": THREADS, "VECTOR": 0}, -(-columns // WARP), *arguments)

    def batch_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], momentum: float,
        epsilon: float, kept: Array, y: Array,
    ) -> None:  # fmt: skip
        """See `BatchNorm.batch_norm`."""
        if x.ndim != 2:
            super().batch_norm(x, gamma, beta, averages, momentum, epsilon, kept, y)
            return
        x, (batch, columns) = self.whole(x), x.shape
        arguments = (kept, *averages, x, self._live, batch, columns, float(momentum), float(epsilon))
        self._by_columns("batch_statistics", columns, *arguments)
        self._standardize(x, gamma, beta, (kept[0], kept[1]), y, 0, 0.0, 0.0)

    def _standardize(
        self, x: Array, gamma: Array | None, beta: Array | None, statistics: tuple[Array, Array], y: Array,
        is_variance: int, epsilon: float, least: float,
    ) -> None:  # fmt: skip
        arguments = (y, x, gamma, beta, *statistics, self._live, *x.shape, is_variance, float(epsilon), float(least))
        self._elementwise("batch_norm.cu", "standardize", x.size, *arguments)

    def batch_norm_backward(
        self, dy: Array, x: Array, gamma: Array | None, kept: Array, dx: Array | None, dgamma: Array | None,
        dbeta: Array | None,
    ) -> None:  # fmt: skip
        """See `BatchNorm.batch_norm_backward`."""
        if x.ndim != 2:
            super().batch_norm_backward(dy, x, gamma, kept, dx, dgamma, dbeta)
            return
        x, (batch, columns) = self.whole(x), x.shape
        sums = self.scratch(5, (2, columns), x.dtype)
        size = self._live, batch, columns
        self._by_columns("batch_gradients", columns, sums, dgamma, dbeta, dy, x, kept, *size)
        if dx is not None:
            self._elementwise("batch_norm.cu", "batch_slope", x.size, dx, dy, x, gamma, kept, sums, *size)

    def fixed_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], epsilon: float,
        y: Array, least: float = 0.0,
    ) -> None:  # fmt: skip
        """See `BatchNorm.fixed_norm`."""
        if x.ndim != 2:
            super().fixed_norm(x, gamma, beta, averages, epsilon, y, least)
            return
        self._standardize(self.whole(x), gamma, beta, averages, y, 1, epsilon, least)

    def fixed_norm_backward(
        self, dy: Array, gamma: Array | None, variance: Array, epsilon: float, dx: Array, least: float = 0.0
    ) -> None:
        """See `BatchNorm.fixed_norm_backward`."""
        if dy.ndim != 2:
            super().fixed_norm_backward(dy, gamma, variance, epsilon, dx, least)
            return
        arguments = (dx, dy, gamma, variance, self._live, *dy.shape, float(epsilon), float(least))
        self._elementwise("batch_norm.cu", "fixed_slope", dy.size, *arguments)

    def take(self, source: Array, rows: Rows, out: Array) -> None:
        """See `NumpyBackend.take`."""
        width = out.size // len(rows) if len(rows) else 0
        self._elementwise("take.cu", "take", out.size, out, source, rows, len(rows), width)

    def loss_into(self, values: Array, loss: Loss, t: Array, p: Array, weights: Array | None, dp: Array) -> None:
        """See `DeviceBackend.loss_into`."""
        arguments = (dp, values, t, p, weights, self._live, len(p), t.shape[1])
        self._rowwise("loss.cu", "loss", *p.shape, *arguments, made=cuda_formulas.loss(loss))

    def metric_into(
        self, values: Array, counts: Array | None, metric: Metric, t: Array, p: Array, weights: Array | None
    ) -> None:
        """See `DeviceBackend.metric_into`."""
        weights = weights if counts is not None else None
        arguments = (values, counts, t, p, weights, self._live, len(p), values.shape[1], t.shape[1])
        self._rowwise("metric.cu", "metric", *p.shape, *arguments, made=cuda_formulas.metric(metric))

    def penalty_into(self, values: Array, regularizer: Regularizer, w: Array, dw: Array | None) -> None:
        """See `DeviceBackend.penalty_into`."""
        threads, most = (THREADS, PENALTY_PARTS) if is_sum(regularizer.formula, "value") else (WARP, 1)
        made, blocks = cuda_formulas.penalty(regularizer), min(most, -(-w.size // threads))
        defines = {"THREADS": threads, **made.header}
        self._launch("penalty.cu", "penalty", defines, blocks, values, dw, w, w.size, made.numbers)

    def update(
        self, optimizer: Optimizer, params: Array, grads: Array, slots: Mapping[str, Array], step: int,
        scalars: Sequence[float] | Array,
    ) -> None:  # fmt: skip
        """See `NumpyBackend.update`. A GPU handles denormal numbers at full speed: nothing is flushed."""
        state = tuple(slots[name] for name in optimizer.formula.names[1:])
        self._elementwise(
            "update.cu", "update", params.size,
            params, grads, state or (None,), self.on_device(scalars), params.size,
            made=cuda_formulas.update(optimizer), vector=self._aligned(params, grads, *state),
        )  # fmt: skip

    # ---- recorded steps: step.cu ---------------------------------------------------------------------------------

    def run_struct(
        self, data: Samples, order: Array | None, scalars: Array, results: Array, numbers: tuple[int, ...]
    ) -> Array:
        """Return a Run as int64 words; ``numbers`` are its integers in order."""
        members = data.x, data.y, data.weights, order, scalars, results, *numbers
        return np.array(words(self.runtime, members), np.int64)

    def gather(
        self, x: Array, y: Array, w: Array | None, live: Array, scalars: Array, counters: Array, run: Array, slot: int,
        training: bool,
    ) -> None:  # fmt: skip
        """Gather the batch of recorded step ``slot`` into x, y, w, and set what its later launches read."""
        count, features, targets = len(x) * (x.shape[1] + y.shape[1] + 1), x.shape[1], y.shape[1]
        arguments = (x, y, w, live, scalars, counters, run, slot, features, targets, int(training), len(scalars))
        self._elementwise("step.cu", "gather", count, *arguments)

    def reduce(self, run: Array, counters: Array, values: Array, steps: int) -> None:
        """Sum values[slot, series, :] of the first ``steps`` slots into the run's results."""
        _, series, length = values.shape
        defines = {"THREADS": THREADS, "VECTOR": 0, **self._everywhere}
        self.runtime.launch("step.cu", "reduce", defines, (steps, series), (run, counters, values, length))

    def advance(self, counters: Array, steps: int) -> None:
        """Count ``steps`` steps as done."""
        self._elementwise("step.cu", "advance", 1, counters, steps)
