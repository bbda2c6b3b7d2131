"""Every operation of NumbaBackend in numba-cuda's simulator, against the NumPy backend in float64.

`test_numba_kernels.py` runs this file in a process of its own, with NUMBA_ENABLE_CUDASIM=1. The simulator makes every
CUDA thread a Python thread, so sizes are small and, but for one check, blocks too: that brings more tiles, not fewer.
The cases and their bounds are those of `gpumlp.check`.
"""

import itertools
import os
import random
import threading
import traceback
from types import SimpleNamespace

import formula_cases
import numpy as np
import pytest
from formula_cases import ROWS, WIDTH
from host.runtime import HostRuntime, poison
from numba import cuda
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator.kernelapi import Dim3

from gpumlp import activations, check, devices, kernel_sources, layers, losses, metrics, models, optimizers
from gpumlp.backends.numba_backend import NumbaBackend, made_of
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.engine.arena import alone
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import describe
from gpumlp.engine.program import LoopProgram
from gpumlp.errors import KernelError
from gpumlp.utils import set_random_seed

assert cuda.implementation == "NVIDIA" and cuda.config.ENABLE_CUDASIM, cuda.__file__

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
            with np.errstate(all="ignore"):  # as on a GPU
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
    """One block, in place of the simulator's: its threads take turns, where its own would contend for the interpreter.

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
    made = NumbaBackend(HostRuntime())
    made.kernels = made_of(text, "numba_cuda.py")
    return made


NUMBA = backend()
FEW = 3000  # elements: past that, the simulator takes its time


def small_enough(case):
    return max(getattr(v, "size", 0) for v in case.inputs(np.random.default_rng(0)).values()) <= FEW


CASES = [
    *check.dense_sweep([(1, 1, 1), (3, 17, 5), (20, 33, 17), (17, 3, 31), (0, 5, 7)]),
    *(case for case in check.other_cases(small=True) if small_enough(case)),
    *(case for shape in ((5, 33), (9, 7), (2, 70)) for case in check.plain_cases(shape)),
    *(case for shape in ((3, 17), (17, 3), (2, 70)) for case in check.activation_cases(shape, activations.softmax)),
]


def label(case):
    return f"{case.operation}: {case.shape}"


def assert_holds(case, on):
    result = check.hold(case, on, "numba")
    if not result.passed:
        pytest.fail(f"{label(case)}: {result.error:.3g} times its bound at {result.worst}")


# ---- operations and models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=label)
def test_every_operation(case):
    assert_holds(case, NUMBA)


def test_dense_layers_with_blocks_as_they_are_shipped():
    for case in check.dense_cases((17, 18, 33), activations.tanh):
        assert_holds(case, backend({}))


def test_inputs_that_are_not_contiguous_and_no_gradient_at_the_bottom():
    rng = np.random.default_rng(1)
    x, w, dy = check.normal(rng, 18, 7), check.normal(rng, 7, 10), check.normal(rng, 9, 10)
    there, y = NUMBA.to_device(x)[::2], NUMBA.empty((9, 10), np.float32)
    NUMBA.dense_forward(there, NUMBA.to_device(w), None, activations.linear, y)
    np.testing.assert_allclose(y, x[::2] @ w, rtol=1e-5, atol=1e-5)
    dw = NUMBA.empty((7, 10), np.float32)
    NUMBA.dense_backward(NUMBA.to_device(dy), there, w, y, None, activations.linear, None, dw, None)
    np.testing.assert_allclose(dw, x[::2].T @ dy, rtol=1e-5, atol=1e-5)


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
    x, y = check.normal(rng, 20, 4), rng.integers(0, 3, (20, 1)).astype(np.float32)
    weights, start = np.abs(check.normal(rng, 20)), [check.normal(rng, *s.shape) for s in network.weights]
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    results = []
    for on, dtype in ((NUMBA, np.float32), (NumpyBackend(), np.float64)):
        arena = alone(network.weights, dtype, on)
        arena.set(start)
        program, optimizer = LoopProgram(network, arena, on, 7), optimizers.Adam(0.01)
        slots = {name: arena.zeros() for name in optimizer.slots}
        data = Dataset(*(a.astype(dtype) for a in (x, y, weights)))
        order = np.random.default_rng(13).permutation(20)
        watched = [metrics.SparseCategoricalAccuracy("accuracy").changed(weighted=True)]
        logs = program.run(data, order, 7, 0, 3, loss, watched, optimizer, slots)  # the last batch is shorter
        out = np.full((20, 3), np.nan, dtype)
        program.predict(data.x, out, 7)
        results.append((logs.losses, logs.totals, logs.counts, out, *arena.get()))
    for got, truth in zip(*results, strict=True):
        np.testing.assert_allclose(got, truth, rtol=2e-5, atol=2e-5)


def test_a_model_asks_for_them_by_name(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    monkeypatch.setattr(devices, "open_runtime", lambda index: HostRuntime())
    monkeypatch.setattr(devices, "gpu_problem", lambda index=0: None)
    found = []
    for device in ("cpu", "cuda"):
        set_random_seed(0)
        model = models.Sequential([layers.Dense(5, "relu", input_shape=(2,)), layers.Dense(1)])
        model.compile("sgd", "mse", device=device)
        x = np.random.default_rng(0).standard_normal((9, 2))
        found.append(model.fit(x, x[:, :1], batch_size=5, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert model.device.kernels == "numba" and "by the numba kernels" in model.program


# ---- formulas, those that gpumlp does not have among them ------------------------------------------------------------


def far_off(case, on):
    inputs = case.inputs(np.random.default_rng(0))
    got, truth = formula_cases.by_operation(case, inputs, on), case.truth(inputs)
    return any(not np.allclose(a, b, rtol=2e-5, atol=2e-5) for a, b in zip(got, truth, strict=True))


FORMULAS = formula_cases.all_cases()


@pytest.mark.parametrize("case", FORMULAS, ids=[case.name for case in FORMULAS])
def test_every_formula(case):
    assert not far_off(case, NUMBA)


def test_formulas_of_one_text_have_one_kernel():
    on = backend()
    z, y = NUMBA.to_device(np.ones((2, 3), np.float32)), NUMBA.empty((2, 3), np.float32)
    for slope in (0.1, 0.2, 0.3):
        on.activation_forward(activations.leaky_relu.given(negative_slope=slope), z, y)
    assert len(on._made) == 1
    on.activation_forward(activations.elu, z, y)
    assert len(on._made) == 2


def test_an_error_shows_the_line_of_the_formula():
    def broken(v):
        raise ArithmeticError("no tanh today")

    on = backend()
    on.kernels.tanh = broken
    with pytest.raises(KernelError, match="no tanh today") as caught:
        on.activation_forward(activations.tanh, NUMBA.zeros((2, 3), np.float32), NUMBA.zeros((2, 3), np.float32))
    assert "    return tanh(z_)\n" in "".join(traceback.format_exception(caught.value))


def test_columns_are_read_before_they_are_written():
    """A dense layer with an activation over rows writes its sums where y will be, if nobody needs them."""
    case = next(c for c in FORMULAS if c.name == "centred")
    of = SimpleNamespace(formula=SimpleNamespace(forward=case.formula, rowwise=True), numbers={})
    z = case.inputs(np.random.default_rng(5))["z"]
    y, eye = NUMBA.empty((ROWS, WIDTH), np.float32), NUMBA.to_device(np.eye(WIDTH, dtype=np.float32))
    NUMBA.dense_forward(NUMBA.to_device(z), eye, None, of, y)
    np.testing.assert_allclose(y, case.truth({"z": z})[0], rtol=1e-5, atol=1e-5)


def names_that_differ(kernels):
    """Return which of the names that formulas are written in are not NumPy's, of numbers near, far, and none."""
    differ = []
    with np.errstate(all="ignore"):
        for name, (arguments, function) in {**formula_cases.NAMES, "floor": (1, np.floor)}.items():
            for numbers in itertools.product(formula_cases.NUMBERS, repeat=arguments):
                got, truth = getattr(kernels, name)(*numbers), function(*map(np.float64, numbers))
                if not np.allclose(np.float32(got), np.float32(truth), rtol=1e-6, atol=1e-37, equal_nan=True):
                    differ.append((name, numbers))
    return differ


def test_names_are_numpys():
    assert names_that_differ(NUMBA.kernels) == []


NAME_BREAKS = {
    "a maximum of NaN": ("return b if a <= b or b != b else a", "return b if a <= b else a"),
    "a minimum of NaN": ("return b if a >= b or b != b else a", "return b if a >= b else a"),
    "a step at NaN": ("return ONE if v > ZERO else (ZERO if v == v else v)", "return ONE if v > ZERO else ZERO"),
    "a clip of NaN": ("return low if v < low else (high if v > high else v)", "return v if low < v < high else low"),
    "a whole number of any size": ("if abs(v) < WHOLE else v", "if abs(v) < ONE else v"),
    "an exponential that overflows": ("    e = exp(-abs(z))\n    return e /", "    e = exp(abs(z))\n    return e /"),
}


@pytest.mark.parametrize("name", NAME_BREAKS)
def test_a_broken_name_shows(name):
    old, new = NAME_BREAKS[name]
    assert names_that_differ(backend({**SMALL, old: new}).kernels)


# ---- do the checks see anything? -------------------------------------------------------------------------------------

BREAKS = {
    "no barrier before a tile is read": (
        "    cuda.syncthreads()\n    for k in range(TILE):",
        "    for k in range(TILE):",
    ),
    "no barrier before a tile is refilled": ("    cuda.syncthreads()  # read to the end", "    # read to the end"),
    "a product that stops short": ("for k in range(TILE):", "for k in range(TILE - 1):"),
    "rows beyond the last": ("        if r < batch and o < outputs:", "        if r <= batch and o < outputs:"),
    "an element never written": ("        if r < batch and i < inputs:", "        if r < batch - 1 and i < inputs:"),
    "a tile of the last column": (
        "a[r, c] if r < rows and c < columns else",
        "a[r, c] if r < rows and c <= columns else",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_kernel_shows(name):
    broken = backend({**SMALL, BREAKS[name][0]: BREAKS[name][1]})
    with pytest.raises((pytest.fail.Exception, KernelError)):
        for case in check.dense_cases((3, 17, 10), activations.linear):
            assert_holds(case, broken)
    for case in check.dense_cases((3, 17, 10), activations.linear):
        assert_holds(case, NUMBA)


ROW_BREAKS = {
    "no barrier before a sum": (
        "    memory[place] = value\n    cuda.syncthreads()",
        "    memory[place] = value",
    ),
    "no barrier after a sum": ("    cuda.syncthreads()  # read by all", "    # read by all"),
    "half of the lanes": ("half = cuda.blockDim.x // 2", "half = cuda.blockDim.x // 4"),
    "the first lane is not compared": (
        "    for i in range(first, first + cuda.blockDim.x):\n        value = maximum",
        "    for i in range(first + 1, first + cuda.blockDim.x):\n        value = maximum",
    ),
    "lanes without a place": ("        if places[i] >= 0:", "        if places[i] >= -1:"),
    "the later of two": ("better = v > value or (at < place", "better = v > value or (at > place"),
    "a loss without its weight": ("values[r] = value * weight\n", "values[r] = value\n"),
    "a part of a penalty": ("parts[cuda.blockIdx.x] = value", "parts[0] = value"),
}
ROW_CASES = [
    *(check.metric_case((7, 5), metric, weighted=False) for metric in check.METRICS),
    *(check.loss_case((5, 5), loss, kind, weighted=True) for loss, kind in check.LOSSES),
    *(check.loss_case((7, 5), loss, kind, weighted=False, nan=True) for loss, kind in check.LOSSES),
    check.penalty_case(257, check.L1L2(0.01, 0.02)),
    *check.activation_cases((5, 5), activations.softmax),
    *check.activation_cases((5, 5), activations.relu),
]


@pytest.mark.parametrize("name", ROW_BREAKS)
def test_a_broken_reduction_shows(name):
    old, new = ROW_BREAKS[name]
    broken = backend({**SMALL, old: new})

    def notices(case):
        return not check.hold(case, broken, "numba").passed

    assert any(map(notices, ROW_CASES)) or any(far_off(case, broken) for case in FORMULAS)
