"""The NumPy backend beyond the cases of `gpumlp.check`: strided inputs, stretches, denormals, work arrays."""

import numpy as np
import pytest

from gpumlp import activations, check, optimizers
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.check import U, normal


def poisoned(*shape):
    return np.full(shape, np.nan, np.float32)


def assert_within(got, truth, bound):
    """NaN-safe: an element passes only where its error IS within its bound."""
    error = np.abs(got - truth)
    wrong = ~(error <= bound)
    if wrong.any():
        worst = np.unravel_index(np.nanargmax(np.where(wrong, error, -1)), error.shape)
        pytest.fail(f"{wrong.sum()} of {wrong.size} elements; worst at {worst}: {got[worst]} for {truth[worst]}")


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize(("b", "i", "o"), check.SHAPES)
def test_dense_takes_inputs_that_are_not_contiguous(b, i, o):
    rng = np.random.default_rng(b + 7 * i + 49 * o)
    x, w, bias, dy = normal(rng, 2 * b, i)[::2], normal(rng, i, o), normal(rng, o), normal(rng, b, o)
    backend, linear = NumpyBackend(), activations.get("linear")
    y, dx, dw, db = poisoned(b, o), poisoned(b, i), poisoned(i, o), poisoned(o)
    x64, w64, bias64, dy64 = wide(x, w, bias, dy)

    backend.dense_forward(x, w, bias, linear, y)
    assert_within(y, x64 @ w64 + bias64, 2 * (i + 2) * U * (abs(x64) @ abs(w64) + abs(bias64)))

    backend.dense_backward(dy, x, w, y, None, linear, dx, dw, db)
    assert_within(dx, dy64 @ w64.T, 2 * (o + 2) * U * (abs(dy64) @ abs(w64.T)))
    assert_within(dw, x64.T @ dy64, 2 * (b + 2) * U * (abs(x64.T) @ abs(dy64)))
    assert_within(db, dy64.sum(0), 2 * (b + 2) * U * abs(dy64).sum(0))


@pytest.mark.parametrize("n", [1, 17, 65_535, 65_536, 65_537, 200_000])
def test_updates_reach_every_element_in_float32(n):
    rng = np.random.default_rng(n)
    for optimizer in (
        optimizers.Adam(),
        optimizers.SGD(momentum=0.9, nesterov=True),
        optimizers.RMSprop(centered=True),
    ):
        results = []
        w, grads = normal(rng, n), [normal(rng, n) for _ in range(3)]
        for dtype in (np.float32, np.float64):
            params = w.astype(dtype)
            slots = {name: np.zeros(n, dtype) for name in optimizer.slots}
            for t, g in enumerate(grads, 1):
                optimizer.update(NumpyBackend(), params, g.astype(dtype), slots, t)
            results.append(params)
        assert_within(*results, 1e-6 + 16 * U * np.abs(results[1]))


def test_the_flush_of_denormals_changes_nothing_that_counts():
    backend = NumpyBackend()
    w, g = np.ones(4, np.float32), np.zeros(4, np.float32)
    m, v = np.array([1e-31, -1e-31, 1e-20, 0.0], np.float32), np.zeros(4, np.float32)
    backend.update(optimizers.Adam(), w, g, {"m": m, "v": v}, 128, (1e-3, 1.0))
    assert m.tolist() == [0.0, 0.0, np.float32(1e-20) * np.float32(0.9), 0.0] or m[0] == m[1] == 0 != m[2]
    assert (w == 1).all()


def test_scratch_keeps_its_arrays():
    backend = NumpyBackend()
    first = backend.scratch(0, (4, 5), np.dtype("f4"))
    assert backend.scratch(0, (4, 5), np.dtype("f4")) is first
    assert backend.scratch(0, (2, 5), np.dtype("f4")).base is first.base
    assert backend.scratch(1, (4, 5), np.dtype("f4")).base is not first.base


def test_the_blas_in_numpy_s_wheels_counts_its_threads():
    from gpumlp.backends import blas

    if found := blas.openblas():
        before = found[0]()
        with blas.one_thread():
            assert found[0]() == 1
        assert found[0]() == before >= 1
