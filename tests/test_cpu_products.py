"""Products of the compiled CPU kernels on both sides of each size at which they are made in another way."""

import numpy as np
import pytest
from compiled import SETS, build, data, flat, hold

from gpumlp import activations, check, layers, optimizers
from gpumlp.backends.compiled_backend import CompiledBackend

# batch, inputs, outputs
PACKED = [
    (63, 300, 260), (64, 300, 260), (65, 300, 260), (64, 255, 257), (64, 256, 256),  # whether there are copies
    *((70, n, 530) for n in (127, 128, 129, 191, 192, 193)), *((64, n, 258) for n in (257, 511, 512, 513)),  # sums
    *((n, 260, 253) for n in (127, 128, 129, 191, 192, 193, 255, 257, 383, 384, 385, 769)),  # samples
    *((66, 270, n) for n in (255, 256, 257, 271, 272, 273, 287, 288, 289, 511, 513)),  # columns
    (65, 1023, 513), (64, 1024, 512), (64, 1025, 512), (385, 721, 729), (193, 2100, 289), (129, 289, 2100),
    (64, 127, 4200), (64, 129, 4200), (64, 4200, 127), (64, 4200, 129), (64, 192, 2800), (64, 193, 2800),
    *((n, 70, 33) for n in (31, 32, 33)), (3, 270, 32), (3, 270, 33), (64, 15, 17), (64, 16, 16), (64, 33, 31),  # dx
    (70, 33_000, 2), (70, 4, 16_400), (70, 1, 66_000), (70, 66_000, 1),
]  # fmt: skip


@pytest.fixture(scope="module", params=SETS)
def backend(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUMLP_CPU", request.param)
        return CompiledBackend()


def products(backend, x, w, dy):
    """Return y, dx and dw, of x w."""
    out = y, dx, dw = [np.full(shape, np.nan, np.float32) for shape in (dy.shape, x.shape, w.shape)]
    backend.dense_forward(x, w, None, activations.linear, y)
    backend.dense_backward(dy.copy(), x, w, y, None, activations.linear, dx, dw, None)
    return out


@pytest.mark.parametrize("shape", PACKED, ids=str)
def test_products_are_as_near_to_the_truth_as_their_bounds(backend, shape):
    for case in check.dense_cases(shape, activations.relu):
        result = check.hold(case, backend, "numba", own_reference=True)
        assert result.passed, (case.operation, result.error, result.worst)


def test_copies_change_no_bit_of_y_and_dw(backend):
    """63 samples have none, 64 have: another sample is another row of y, and a last summand, zero, of dw."""
    rng = np.random.default_rng(3)
    x, w, dy = check.normal(rng, 64, 601), check.normal(rng, 601, 923), check.normal(rng, 64, 923)
    dy[63] = 0.0
    y, _, dw = products(backend, x, w, dy)
    few_y, _, few_dw = products(backend, x[:63], w, dy[:63])
    assert np.array_equal(y[:63], few_y) and np.array_equal(dw, few_dw)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["x", "w", "dy"])
def test_nan_and_inf_come_where_they_belong_and_nowhere_else(backend, place, bad):
    rng = np.random.default_rng(4)
    x, w, dy = arrays = [check.normal(rng, *shape) for shape in ((70, 2100), (2100, 260), (70, 260))]
    arrays["xwd".index(place[0])][2, 259] = bad
    for got, true in zip(products(backend, x, w, dy), (x @ w, dy @ w.T, x.T @ dy), strict=True):
        assert np.array_equal(np.isnan(got), np.isnan(true)) and np.array_equal(np.isinf(got), np.isinf(true))


def test_any_number_of_threads_gives_the_same_bits(kernels, instructions):
    """Hidden layers of which some inputs are dead, rows that are padded, and batches of which the last is short."""
    x, y = data(150, features=5)
    found = []
    for threads in (1, 2, 3):
        kernels("numba", threads)
        model = build([layers.Dense(1200, "relu"), layers.Dense(450, "relu"), layers.Dense(2)], features=5)
        weights = model.get_weights()
        weights[0][:, ::7], weights[1][::7] = 0.0, -1.0
        model.set_weights(weights)
        logs = model.fit(x, y, batch_size=130, epochs=2, shuffle=False, verbose=0).history
        found.append((flat(model).tobytes(), model.predict(x, batch_size=130, verbose=0).tobytes(), logs))
    assert found[0] == found[1] == found[2]


def test_dead_units_are_left_out_over_a_run(kernels, instructions):
    def make(dtype):
        stack = [layers.Dense(300, "relu"), layers.Dense(1801, "relu"), layers.Dense(300, "relu"), layers.Dense(2)]
        model = build(stack, optimizers.SGD(0.05), dtype=dtype)
        weights = model.get_weights()
        for layer in (0, 2, 4):
            weights[layer][:, ::3], weights[layer + 1][::3] = 0.0, -1.0
            weights[layer][:, -1], weights[layer + 1][-1] = 0.0, -1.0
        model.set_weights(weights)
        return model

    x, y = data(160)
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=80, epochs=3, shuffle=False, verbose=0))


@pytest.mark.parametrize("where", ["weights", "y"])
@pytest.mark.filterwarnings("ignore:.*NaN or Inf")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_product_of_a_dead_unit_is_left_out_beside_nan(kernels, instructions, where):
    x, y = data(70)
    found = []
    for name in ("numpy", "numba"):
        kernels(name, 2)
        model = build([layers.Dense(2100, "relu"), layers.Dense(260, "relu"), layers.Dense(2)], optimizers.SGD(0.1))
        weights, targets = model.get_weights(), y.copy()
        weights[0][:, ::2], weights[1][::2] = 0.0, -1.0
        if where == "weights":
            weights[2][0, 5] = np.nan
        else:
            targets[11, 0] = np.inf
        model.set_weights(weights)
        model.train_on_batch(x, targets)
        found.append([np.isnan(a) for a in (*model.get_weights(), model.predict(x, verbose=0))])
    for numpy, compiled in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, numpy)
    assert any(a.any() for a in found[0])


@pytest.mark.parametrize("outputs", [4, 5, 33, 257])
@pytest.mark.parametrize("batch", [1, 70])
def test_a_large_bias_swallows_no_product(backend, batch, outputs):
    """It is added to the whole sum: each of a thousand additions to it would round the summand away."""
    x, w = np.ones((batch, 1000), np.float32), np.full((1000, outputs), 4e-4, np.float32)
    y = np.full((batch, outputs), np.nan, np.float32)
    backend.dense_forward(x, w, np.full(outputs, 1e4, np.float32), activations.linear, y)
    assert np.abs(y - 10_000.4).max() <= 1e-3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_short_last_batch_is_that_batch_alone(kernels, threads):
    """How dx is made goes by the samples that there are, not by those of the batches before."""
    kernels("numba", threads)
    x, y = data(48)
    stack = [layers.Dense(40, "tanh"), layers.Dense(65, "tanh"), layers.Dense(2)]
    whole, apart = (build(stack=[type(one).from_config(one.get_config()) for one in stack]) for _ in range(2))
    whole.fit(x, y, batch_size=33, shuffle=False, verbose=0)
    for rows in (slice(33), slice(33, None)):
        apart.train_on_batch(x[rows], y[rows])
    assert np.array_equal(flat(whole), flat(apart))
