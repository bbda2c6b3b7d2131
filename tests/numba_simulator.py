"""Every operation of NumbaBackend in Numba's simulator, against the NumPy backend in float64.

`test_numba_kernels.py` runs this file in a process of its own, with NUMBA_ENABLE_CUDASIM=1. The simulator makes every
CUDA thread a Python thread, so sizes are small and, but for one check, blocks too: that brings more tiles, not fewer.
Outputs hold NaN before; an element passes where its error is within its bound or at most twice what NumPy's float32
does, as in `test_backend.py`.
"""

import os
import random
import threading
import types

import numpy as np
import pytest
from host.runtime import HostRuntime, poison
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator.kernelapi import Dim3

from gpumlp import activations, kernel_sources, layers, losses, metrics, optimizers, regularizers
from gpumlp.backends.numba_backend import NumbaBackend
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.engine.arena import Arena
from gpumlp.engine.network import describe
from gpumlp.engine.program import Dataset, LoopProgram
from gpumlp.errors import KernelError

U = 2.0**-24
SIZES = (1, 3, 17, 20, 31, 33)
SHAPES = [*zip(SIZES, SIZES[2:] + SIZES[:2], SIZES[4:] + SIZES[:4], strict=True), (1, 1, 1), (0, 5, 7)]
SMALL = {"TILE = 16": "TILE = 8", "ROW_THREADS = 128": "ROW_THREADS = 32", "\nTHREADS = 256": "\nTHREADS = 32"}


# ---- the simulator ---------------------------------------------------------------------------------------------------


class Thread(threading.Thread):
    """One CUDA thread. It runs when it is told to, until its next barrier or its end."""

    def __init__(self, work, block, place, back):
        super().__init__(daemon=True)
        self.blockIdx, self.threadIdx = Dim3(*block), Dim3(*place)
        self._work, self._turn, self._back, self.error, self.ended = work, threading.Lock(), back, None, False
        self._turn.acquire()
        self.start()

    def run(self):
        self._turn.acquire()
        try:
            self._work()
        except Exception as error:
            self.error = error
        self.ended = True
        self._back.release()

    def go_on(self):
        self._turn.release()
        self._back.acquire()

    def syncthreads(self):
        self._back.release()
        self._turn.acquire()


class Block:
    """One block, in place of the simulator's: its threads take turns, where Numba's would contend for the interpreter.

    Their order is drawn by chance, what another block left in shared memory is forgotten, and all that have not ended
    must meet at every barrier.
    """

    chance = random.Random(0)

    def __init__(self, function, grid, block, debug):
        self._function, self._shape = function, block

    def run(self, block, *arguments):
        for array in simulator._get_kernel_context().shared._allocations.values():
            poison(array)
        back = threading.Lock()
        back.acquire()
        threads = [Thread(lambda: self._function(*arguments), block, p, back) for p in np.ndindex(*self._shape)]
        self.chance.shuffle(threads)
        while threads:
            for thread in threads:
                thread.go_on()
                if thread.error is not None:
                    raise thread.error
            if len({thread.ended for thread in threads}) == 2:
                raise RuntimeError("some threads wait at a barrier, others have ended")
            threads = [thread for thread in threads if not thread.ended]


simulator.BlockManager = Block
if hasattr(os, "sched_setaffinity"):  # the turn passes from thread to thread several times faster on one core
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def backend(changes=SMALL):
    """Return a backend over the kernels' source with some of its text changed."""
    text = kernel_sources.source("numba_cuda.py")
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    made, module = NumbaBackend(HostRuntime()), types.ModuleType("kernels")
    exec(compile(text, "numba_cuda.py", "exec"), module.__dict__)
    made.kernels = module
    return made


NUMBA = backend()


# ---- comparing -------------------------------------------------------------------------------------------------------


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def assert_within(got, truth, bound, single=None):
    """NaN where the truth is, and nowhere else; ``single`` is NumPy's float32 result."""
    got, truth = np.asarray(got), np.asarray(truth)
    error = np.abs(got - truth)
    if single is not None:
        bound = np.fmax(bound, 2 * np.abs(single - truth))
    wrong = ~((error <= bound) | (np.isnan(got) & np.isnan(truth)))
    if wrong.any():
        worst = np.unravel_index(np.argmax(wrong * np.nan_to_num(error, nan=np.inf)), error.shape)
        pytest.fail(f"{wrong.sum()} of {wrong.size} elements; such as {worst}: {got[worst]} for {truth[worst]}")


def run(operation, inputs, outputs, numba=NUMBA, strided=False):
    """Return what operation(backend, *inputs, *outputs) leaves in its arrays, and returns: Numba, float64, float32.

    ``inputs`` are float32 arrays or None, ``outputs`` shapes. With ``strided``, every second row of a device array.
    """
    given = [a if a is None else numba.to_device(np.repeat(a, 2, 0))[::2] if strided else numba.to_device(a)
             for a in inputs]  # fmt: skip
    results = []
    for which, dtype in ((numba, np.float32), (NumpyBackend(), np.float64), (NumpyBackend(), np.float32)):
        if which is not numba:
            given = [None if a is None else a.astype(dtype) for a in inputs]
        made = [which.empty(shape, dtype) for shape in outputs]
        for array in made:
            poison(array)
        value = operation(which, *given, *made)
        results.append(([None if a is None else np.array(a) for a in (*given, *made)], value))
    return results


# ---- dense layers ----------------------------------------------------------------------------------------------------


def check_dense(b, i, o, numba=NUMBA, strided=False, bias=True, dx=True):
    rng = np.random.default_rng(b + 7 * i + 49 * o)
    linear, x, w, dy = activations.linear, normal(rng, b, i), normal(rng, i, o), normal(rng, b, o)
    shift = normal(rng, o) if bias else None

    y, x, w = numba.empty((b, o), np.float32), *(numba.to_device(a) for a in (x, w))
    if strided:
        x = numba.to_device(np.repeat(np.array(x), 2, 0))[::2]
    numba.dense_forward(x, w, None if shift is None else numba.to_device(shift), linear, y)
    x64, w64, dy64, shift64 = (np.array(a, np.float64) for a in (x, w, dy, np.zeros(o) if shift is None else shift))
    assert_within(y, x64 @ w64 + shift64, 2 * (i + 2) * U * (abs(x64) @ abs(w64) + abs(shift64)))

    dw, db, back = (numba.empty(s, np.float32) for s in ((i, o), (o,), (b, i)))
    numba.dense_backward(numba.to_device(dy), x, w, y, None, linear, back if dx else None, dw, db if bias else None)
    assert_within(dw, x64.T @ dy64, 2 * (b + 2) * U * (abs(x64.T) @ abs(dy64)))
    if bias:
        assert_within(db, dy64.sum(0), 2 * (b + 2) * U * abs(dy64).sum(0))
    if dx:
        assert_within(back, dy64 @ w64.T, 2 * (o + 2) * U * (abs(dy64) @ abs(w64.T)))


@pytest.mark.parametrize(("b", "i", "o"), SHAPES)
def test_dense_is_within_its_bound_of_float64(b, i, o):
    check_dense(b, i, o)


def test_dense_from_strided_inputs_without_bias_and_at_the_bottom():
    check_dense(17, 9, 10, strided=True)
    check_dense(3, 17, 8, bias=False)
    check_dense(3, 8, 17, dx=False)


def test_dense_with_blocks_as_they_are_shipped():
    check_dense(17, 18, 33, backend({}))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "softmax"])
def test_a_dense_layer_is_its_product_and_its_activation_bit_for_bit(name):
    rng = np.random.default_rng(5)
    activation, linear = activations.get(name), activations.linear
    x, w, shift, dy = (NUMBA.to_device(normal(rng, *s)) for s in ((5, 9), (9, 10), (10,), (5, 10)))
    x[3, 2] = np.nan
    y, z, pre, out = (NUMBA.empty((5, 10), np.float32) for _ in range(4))
    kept = z if activation.retains_input else None
    NUMBA.dense_forward(x, w, shift, activation, y, kept)
    NUMBA.dense_forward(x, w, shift, linear, pre)
    NUMBA.activation_forward(activation, pre, out)
    np.testing.assert_array_equal(y, out)
    assert np.isnan(y[3]).all() and not np.isnan(y[:3]).any()
    if kept is not None:
        np.testing.assert_array_equal(z, pre)

    fused, plain = ([NUMBA.empty(s, np.float32) for s in ((5, 9), (9, 10), (10,))] for _ in range(2))
    copy = NUMBA.to_device(np.array(dy))
    NUMBA.dense_backward(dy, x, w, y, kept, activation, *fused)
    NUMBA.activation_backward(activation, copy, y, kept)
    NUMBA.dense_backward(copy, x, w, y, None, linear, *plain)
    for one, other in zip(fused, plain, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- elementwise and by rows -----------------------------------------------------------------------------------------

ELEMENTWISE = [activations.get(n) for n in sorted(activations.KNOWN) if n != "softmax"]
ELEMENTWISE += [activations.LeakyRelu(0.0), activations.Elu(0.5), activations.Gelu(approximate=True)]


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=repr)
def test_activations(activation):
    rng = np.random.default_rng(6)
    z, dy = 3 * normal(rng, 7, 11), normal(rng, 7, 11)
    z[0, :6] = np.nan, 0.0, -0.0, 80.0, -80.0, 1e-6
    forward = run(lambda on, z, y: on.activation_forward(activation, z, y), [z], [z.shape])
    (_, y), truth = forward[0][0], forward[1][0][1]
    tail = abs(z) if activation.name in ("gelu", "silu") else 0.0  # z times a rounded share of one
    assert_within(y, truth, 8 * U * (abs(truth) + tail))
    back = run(lambda on, dy, y, z: on.activation_backward(activation, dy, y, z), [dy, y, z], [])
    assert_within(back[0][0][0], back[1][0][0], 8 * U * abs(dy) * (1 + np.nan_to_num(abs(z))))


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (17, 3), (5, 33), (2, 70)])
def test_softmax(shape):
    rng = np.random.default_rng(7)
    z, dy = 5 * normal(rng, *shape), normal(rng, *shape)
    z[-1] += 1000
    if len(z) > 2:
        z[1, 0] = np.nan
    softmax, rows = activations.softmax, shape[1]
    forward = run(lambda on, z, y: on.activation_forward(softmax, z, y), [z], [shape], strided=True)
    (_, y), truth = forward[0][0], forward[1][0][1]
    assert_within(y, truth, 4 * (rows + 2) * U * truth)
    inplace = run(lambda on, z: on.activation_forward(softmax, z, z), [z], [])[0][0][0]
    np.testing.assert_array_equal(inplace, y)
    back = run(lambda on, dy, y: on.activation_backward(softmax, dy, y, None), [dy, y], [])
    size = y * (abs(dy) + (abs(dy) * y).sum(1, keepdims=True))
    assert_within(back[0][0][0], back[1][0][0], 2 * (rows + 2) * U * size)


def test_affine_in_place():
    x = normal(np.random.default_rng(8), 5, 9)
    got, truth, _ = run(lambda on, x: on.affine(x, 1 / 255, -0.5, x), [x], [])
    assert_within(got[0][0], truth[0][0], 2 * U * (abs(x) / 255 + 0.5))


@pytest.mark.parametrize("shape", [(9, 4), (9,)])
def test_take(shape):
    source = NUMBA.to_device(normal(np.random.default_rng(9), *shape))
    rows = NUMBA.to_device(np.array([8, 0, 3, 3, 1], np.int64))
    out = NUMBA.empty((5, *shape[1:]), np.float32)
    NUMBA.take(source, rows, out)
    np.testing.assert_array_equal(out, source[[8, 0, 3, 3, 1]])
    NUMBA.take(source, rows[:0], out[:0])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 300])
@pytest.mark.parametrize("numbers", [(3, 0, 1), (2**64 - 1, 5, 2**40), (2**63 + 12345, 1, 7)])
def test_dropout_is_numpys_bit_for_bit(size, numbers):
    x = normal(np.random.default_rng(10), 1, size)
    results = []
    for on in (NUMBA, NumpyBackend()):
        given, mask, y = on.to_device(x), on.empty(x.shape, np.float32), on.empty(x.shape, np.float32)
        on.dropout(given, mask, y, 0.3, *numbers)
        twice = on.to_device(np.array(y))
        on.multiply(twice, mask)
        results.append((mask, y, twice))
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


# ---- losses, metrics, penalties --------------------------------------------------------------------------------------

LOSSES = [
    losses.MeanSquaredError(),
    losses.MeanAbsoluteError(),
    losses.Huber(0.5),
    losses.BinaryCrossentropy(),
    losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
    losses.BinaryCrossentropy(label_smoothing=0.2),
    losses.CategoricalCrossentropy(),
    losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    losses.CategoricalCrossentropy(label_smoothing=0.1),
    losses.SparseCategoricalCrossentropy(),
    losses.SparseCategoricalCrossentropy(from_logits=True),
]


def sample(rng, b, o, like):
    """Return targets and predictions of a kind, with the cases that have a rule of their own."""
    p, t = normal(rng, b, o), normal(rng, b, o)
    if getattr(like, "sparse", False) or "sparse" in like.name:
        t = rng.integers(0, o, (b, 1)).astype(np.float32)
    elif "cat" in like.name:
        t = np.eye(o, dtype=np.float32)[rng.integers(0, o, b)]
        t[-1] *= 0.5  # a sum that is not one
    elif "binary" in like.name:
        t = (t > 0).astype(np.float32)
    if "crossentropy" in like.name and not like.from_logits:
        p = rng.uniform(0.05, 0.95, (b, o)).astype(np.float32)
    if b > 2:
        p[1, 0], p[2, 0] = np.nan, 0.0
        if t.shape == p.shape:
            t[0, 0] = p[0, 0] if "mean" in like.name else t[0, 0]
    return t, p


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize(("b", "o", "weighted"), [(1, 1, False), (20, 3, True), (3, 33, True), (2, 70, False)])
def test_losses(loss, b, o, weighted):
    rng = np.random.default_rng(b + o)
    t, p = sample(rng, b, o, loss)
    weights = np.abs(normal(rng, b)) if weighted else None
    got, truth, single = run(lambda on, t, p, w, dp: on.loss(loss, t, p, w, dp), [t, p, weights], [p.shape])
    size = np.nan_to_num(abs(truth[0][3])).max(1, keepdims=True)
    assert_within(got[0][3], truth[0][3], 2 * (o + 8) * U * size, single[0][3])
    assert np.isnan(got[1]) == np.isnan(truth[1]) == (b > 2)  # one NaN among the predictions
    if b > 2:
        p[1, 0] = 0.5
        got, truth, single = run(lambda on, t, p, w, dp: on.loss(loss, t, p, w, dp), [t, p, weights], [p.shape])
    assert_within(got[1], truth[1], 2 * (o + 8) * U * (1 + abs(truth[1])), single[1])


METRICS = [metrics.MeanSquaredError, metrics.MeanAbsoluteError, metrics.BinaryAccuracy]
METRICS += [metrics.CategoricalAccuracy, metrics.SparseCategoricalAccuracy]


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize(("b", "o", "weighted"), [(1, 1, False), (20, 3, True), (5, 33, False), (3, 70, True)])
def test_metrics(kind, b, o, weighted):
    rng = np.random.default_rng(b + o)
    metric = kind(kind.default_name, weighted)
    t, p = sample(rng, b, o, metric)
    weights = np.abs(normal(rng, b))
    if "categorical" in metric.name:
        p = np.round(p)  # ties
        p[-1, o // 2 :] = np.nan  # where the first NaN is the largest
    else:
        p = np.nan_to_num(p)
    (_, got), (_, truth), _ = run(lambda on, t, p, w: on.metric(metric, t, p, w), [t, p, weights], [])
    assert_within(got[0], truth[0], 2 * (o + 2) * U * abs(truth[0]))
    assert_within(got[1], truth[1], 4 * U * truth[1])


L1, L2, BOTH = regularizers.L1(0.1), regularizers.L2(0.2), regularizers.L1L2(0.1, 0.2)


@pytest.mark.parametrize(
    ("regularizer", "shape"),
    [(L1, (1, 1)), (L2, (9, 3)), (BOTH, (33, 3)), (BOTH, (50, 45))],  # the last has more than a block's share each
)
def test_penalties(regularizer, shape):
    rng = np.random.default_rng(11)
    w, dw = normal(rng, *shape), normal(rng, *shape)
    w[0, 0] = 0.0
    got, truth, _ = run(lambda on, w, dw: on.penalty(regularizer, w, dw), [w, dw], [])
    assert_within(got[1], truth[1], (w.size + 2) * U * truth[1])
    assert_within(got[0][1], truth[0][1], 4 * U * (abs(dw) + 0.1 + 0.4 * abs(w)))
    alone, _, _ = run(lambda on, w, dw: on.penalty(regularizer, w, dw), [w, None], [])
    assert alone[1] == got[1]


# ---- optimizers, whole models ----------------------------------------------------------------------------------------

OPTIMIZERS = [
    optimizers.SGD(0.1),
    optimizers.SGD(0.1, momentum=0.9),
    optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    optimizers.Adam(),
    optimizers.AdamW(),
    optimizers.RMSprop(),
    optimizers.RMSprop(momentum=0.9, centered=True, weight_decay=0.01),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o.get_config()}")
@pytest.mark.parametrize("n", [1, 100])
def test_updates(optimizer, n):
    rng = np.random.default_rng(n)
    w, grads = normal(rng, n), [normal(rng, n) for _ in range(3)]
    names = list(optimizer.slots)

    def train(on, w, *slots):
        for step, g in enumerate(grads, 1):
            scalars = optimizer.scalars(step)
            if on is NUMBA and step == 2:  # as a step finds them that has them on the device already
                scalars = on.to_device(np.array(scalars, np.float32))
            g = on.to_device(g.astype(w.dtype))
            optimizer.update(on, w, g, dict(zip(names, slots, strict=True)), step, scalars)

    got, truth, single = run(train, [w, *(np.zeros(n, np.float32) for _ in names)], [])
    for one, true, plain in zip(got[0], truth[0], single[0], strict=True):
        assert_within(one, true, 1e-7 + 16 * U * abs(true), plain)


def test_a_whole_model_learns_as_with_numpy():
    stack = [
        layers.Dense(9, "relu", kernel_regularizer="l2"),
        layers.Rescaling(0.5, 0.1),
        layers.Dropout(0.25, seed=3),
        layers.Dense(5, "gelu"),
        layers.Activation("softmax"),
        layers.Dense(3, use_bias=False),
    ]
    network, rng = describe(stack, (4,)), np.random.default_rng(12)
    x, y = normal(rng, 20, 4), rng.integers(0, 3, (20, 1)).astype(np.float32)
    weights, start = np.abs(normal(rng, 20)), [normal(rng, *s.shape) for s in network.weights]
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    results = []
    for on, dtype in ((NUMBA, np.float32), (NumpyBackend(), np.float64)):
        arena = Arena(list(network.weights), np.dtype(dtype), on)
        arena.set(start)
        program, optimizer = LoopProgram(network, arena, on, 7), optimizers.Adam(0.01)
        slots = {name: arena.zeros() for name in optimizer.slots}
        data = Dataset(*(a.astype(dtype) for a in (x, y, weights)))
        order = np.random.default_rng(13).permutation(20)
        watched = [metrics.SparseCategoricalAccuracy("accuracy", weighted=True)]
        logs = program.run(data, order, 7, 0, 3, loss, watched, optimizer, slots)  # the last batch is shorter
        out = np.full((20, 3), np.nan, dtype)
        program.predict(data.x, out, 7)
        results.append((logs.losses, logs.totals, logs.counts, out, *arena.get()))
    for got, truth in zip(*results, strict=True):
        assert_within(got, truth, 2e-5 * (1 + abs(truth)))


# ---- do the checks see anything? -------------------------------------------------------------------------------------

BREAKS = {
    "no barrier before a tile is read": (
        "    cuda.syncthreads()\n    for k in range(TILE):",
        "    for k in range(TILE):",
    ),
    "no barrier before a tile is refilled": ("    cuda.syncthreads()  # read to the end", "    # read to the end"),
    "a product that stops short": ("for k in range(TILE):", "for k in range(TILE - 1):"),
    "rows beyond the last": ("    if r < batch and o < outputs:", "    if r <= batch and o < outputs:"),
    "an element never written": ("    if r < batch and i < inputs:", "    if r < batch - 1 and i < inputs:"),
    "a tile of the last column": (
        "a[r, c] if r < rows and c < columns else",
        "a[r, c] if r < rows and c <= columns else",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_kernel_shows(name):
    broken = backend({**SMALL, BREAKS[name][0]: BREAKS[name][1]})
    with pytest.raises((pytest.fail.Exception, KernelError)):
        check_dense(3, 17, 10, broken)
    check_dense(3, 17, 10)
