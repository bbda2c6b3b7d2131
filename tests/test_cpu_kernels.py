"""The compiled CPU kernels, operation by operation, held against NumPy in float64."""

import numpy as np
import pytest
from compiled import SETS

from gpumlp import activations, check
from gpumlp.backends.compiled_backend import CompiledBackend
from gpumlp.backends.numpy_backend import NumpyBackend

CASES = [*check.dense_sweep((*check.SHAPES, *check.LARGE_SHAPES)), *check.other_cases(small=False)]


@pytest.fixture(scope="module", params=SETS)
def backend(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUMLP_CPU", request.param)
        return CompiledBackend()


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.operation} {c.shape}")
@pytest.mark.parametrize("seed", [0, 1])
def test_an_operation_is_as_near_to_the_truth_as_its_bound(backend, case, seed):
    result = check.hold(case, backend, "numba", seed)
    assert result.passed, (result.error, result.worst)


def test_every_shape_s_products_are_held_by_the_bound_alone(backend):
    for case in check.dense_sweep(check.SHAPES):
        result = check.hold(case, backend, "numba", own_reference=True)
        assert result.passed, (case.shape, result.error, result.worst)


# ---- inputs that are zero --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", [0.0, 0.3, 0.97, 1.0])
@pytest.mark.parametrize(
    "shape", [(20, 70, 65), (3, 257, 33), (1, 29, 28), (64, 31, 4), (20, 64, 1), (40, 84, 513), (70, 2100, 260)]
)
def test_dead_units_are_left_out_and_change_nothing(backend, shape, dead):
    b, i, o = shape
    rng = np.random.default_rng(7)
    x, w = check.normal(rng, b, i), check.normal(rng, i, o)
    x[:, rng.random(i) < dead] = 0.0
    dy, y = check.normal(rng, b, o), check.normal(rng, b, o)
    found = []
    for unit in (0.0, np.float32(1e-30)):  # too small to change a sum of others, and no zero
        there = np.where(x == 0, unit, x).astype(np.float32)
        z, dx, dw, db = (np.full(s, np.nan, np.float32) for s in ((b, o), (b, i), (i, o), o))
        backend.dense_forward(there, w, None, activations.linear, z)
        backend.dense_backward(dy.copy(), there, w, y, None, activations.linear, dx, dw, db)
        found.append((z, dx, np.where(x[0] == 0, 0, dw.T).T, db))
    for without, using in zip(*found, strict=True):
        np.testing.assert_allclose(without, using, rtol=0, atol=1e-25)
    assert np.isfinite(found[0][2]).all() and (found[0][2][x[0] == 0] == 0).all()


def test_argmax_takes_the_first_nan_and_the_first_of_equals(backend):
    from gpumlp import metrics

    p = np.array([[1, 3, 3], [np.nan, 5, np.nan], [2, np.nan, 9], [0, 0, 0]], np.float32)
    t = np.array([[1], [0], [1], [2]], np.float32)
    metric = metrics.SparseCategoricalAccuracy()
    assert backend.metric(metric, t, p, None) == NumpyBackend().metric(metric, t, p, None) == ([3.0], 4.0)
