"""The CPU kernels' elementary functions: each against float64, in units in the last place, and loops as vectors."""

import ctypes
import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import cfunc, types

HERE = Path(__file__).parent
LEAST_NORMAL, LEAST = 2.0**-126, 2.0**-149


def _load():
    path = HERE.parent / "kernels" / "cpu" / "elementary.py"
    spec = importlib.util.spec_from_file_location("cpu_elementary", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


elementary = _load()


def _sigmoid(z):
    e = np.exp(-abs(z))
    return np.where(z < 0, e, 1) / (1 + e)


ERF = np.vectorize(math.erf, otypes=[np.float64])
# name: float64 truth, bound in ulps (the module's docstring has them), where it begins, below what results may be 0
CASES = {
    "exp": (np.exp, 1.25, -np.inf, LEAST_NORMAL),
    "exp_nonpositive": (np.exp, 1.25, -np.inf, LEAST_NORMAL),
    "expm1": (np.expm1, 1.75, -np.inf, 0),
    "log": (np.log, 1.0, 0, 0),
    "log1p": (np.log1p, 1.75, -1, 0),
    "tanh": (np.tanh, 2.75, -np.inf, 0),
    "sigmoid": (_sigmoid, 2.5, -np.inf, LEAST_NORMAL),
    "erf": (ERF, 1.5, -np.inf, 0),
}
NAN, INF = math.nan, math.inf
AT = (NAN, -INF, INF, -0.0, 0.0)
LIMITS = {
    "exp": (NAN, 0, INF, 1, 1),
    "exp_nonpositive": (NAN, 0, NAN, 1, 1),  # at inf, whatever: it is not called there
    "expm1": (NAN, -1, INF, 0, 0),
    "log": (NAN, NAN, INF, -INF, -INF),
    "log1p": (NAN, NAN, INF, 0, 0),
    "tanh": (NAN, -1, 1, 0, 0),
    "sigmoid": (NAN, 0, 1, 0.5, 0.5),
    "erf": (NAN, -1, 1, 0, 0),
}
FLOATS = types.CPointer(types.float32)
LOOPS = {}


def loop(name):
    """Return y[i] = f(x[i]) over raw pointers, as a kernel would have it: no exceptions, no reference counts."""
    if name not in LOOPS:
        function = getattr(elementary, name)

        @cfunc(types.void(FLOATS, FLOATS, types.int64), _nrt=False, error_model="numpy")
        def kernel(y, x, count):
            for i in range(count):
                y[i] = function(x[i])

        LOOPS[name] = kernel
    return LOOPS[name]


def call(name, x):
    x = np.ascontiguousarray(x, np.float32)
    y = np.full_like(x, NAN)
    pointer = ctypes.POINTER(ctypes.c_float)
    loop(name).ctypes(y.ctypes.data_as(pointer), x.ctypes.data_as(pointer), x.size)
    return y


def samples(name):
    """Every 9973rd float32 there is, and many where the functions change: near 0, near 1, to where results end."""
    everywhere = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32).view(np.float32)
    lines = [np.linspace(-s, s, 60_001, dtype=np.float32) for s in (1e-3, 0.1, 1.0, 4.0, 20.0, 106.0)]
    near_1 = (1 + np.arange(-20_000, 20_001) * 2.0**-24).astype(np.float32)
    x = np.concatenate([everywhere, *lines, near_1, -near_1])
    x = x[np.isfinite(x)]
    if name == "erf":  # float64's erf is slow, and constant further out
        x = x[(abs(x) < 5) & ((abs(x) > 1e-6) | (np.arange(x.size) % 8 == 0))]
    if name == "exp_nonpositive":
        x = -abs(x)
    return x[x >= CASES[name][2]]


@pytest.mark.parametrize("name", CASES)
def test_error(name):
    truth, bound, _, flushed = CASES[name]
    x = samples(name)
    y = call(name, x)
    with np.errstate(all="ignore"):  # overflow, log(0)
        expected = truth(x.astype(np.float64))
        nearest = expected.astype(np.float32)
        unit = np.maximum(2.0 ** np.floor(np.log2(abs(nearest.astype(np.float64)))) * 2.0**-23, LEAST)
        error = abs(y - expected) / unit
    infinite = np.isinf(nearest)
    small = abs(expected) < flushed
    good = np.where(infinite, y == nearest, np.where(small, (y >= 0) & (y <= flushed), error <= bound))
    worst = np.argsort(np.where(good, -1, np.nan_to_num(error, nan=np.inf)))[-5:]
    listed = "\n".join(f"  at {x[i]!r}: {y[i]!r}, not {expected[i]!r} ({error[i]:.2f} ulp)" for i in worst)
    assert good.all(), f"{name}: {(~good).sum()} of {x.size} beyond {bound} ulp; the worst:\n{listed}"


@pytest.mark.parametrize("name", CASES)
def test_limits(name):
    # many times over, so that both the vectors and what is left of the loop behind them see each
    y = call(name, np.tile(np.array(AT), 21)).reshape(21, len(AT))
    if name == "exp_nonpositive":
        y[:, AT.index(INF)] = NAN
    np.testing.assert_array_equal(y, np.tile(np.array(LIMITS[name], np.float32), (21, 1)))


def test_odd_functions_keep_the_sign_of_0():
    for name in ("tanh", "erf"):
        assert np.signbit(call(name, [-0.0, 0.0])).tolist() == [True, False]


def test_every_nan_stays_one():
    nans = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFC01234, 0xFFFFFFFF], np.uint32)
    for name in CASES:
        assert np.isnan(call(name, nans.view(np.float32))).all(), name


def test_below_where_a_logarithm_begins():
    assert np.isnan(call("log", [-1e-45, -1, -3e38])).all()
    assert np.isnan(call("log1p", [-1.0000001, -2, -3e38])).all()
    assert call("log1p", [-1])[0] == -INF


def test_overflow_begins_at_the_right_number():
    last = np.float32(88.72283)
    for name in ("exp", "expm1"):
        y = call(name, [last, np.nextafter(last, np.float32(100)), 89.5, 3e38])
        assert np.isfinite(y[0]) and np.isinf(y[1:]).all(), name


def test_no_result_leaves_the_range():
    x = np.linspace(-20, 20, 200_001, dtype=np.float32)
    for name in ("tanh", "erf"):
        assert abs(call(name, x)).max() == 1
    assert call("sigmoid", x).max() == 1


@pytest.mark.parametrize("name", CASES)
def test_bits_do_not_depend_on_the_place_in_a_loop(name):
    """The same number gives the same bits in a vector and in what is left of a loop behind the vectors."""
    x = samples(name)[::3001][:500]
    together = call(name, x)
    alone = np.concatenate([call(name, x[i : i + 1]) for i in range(x.size)])
    assert np.array_equal(together.view(np.int32), alone.view(np.int32))


@pytest.mark.parametrize("name", CASES)
def test_loop_is_vectorised(name):
    code = loop(name).inspect_llvm()
    assert re.search(r"fmul contract <\d+ x float>", code), f"{name}: no vectors in\n{code}"
    assert "double" not in code, f"{name}: something is computed in float64"
    assert not re.search(r"<\d+ x i64>", code), f"{name}: whole numbers take 64 bits, two vectors instead of one"
    called = set(re.findall(r'call [^@\n]*@"?([\w.$]+)', code))
    outside = {c for c in called if not c.startswith(("llvm.fabs.", "llvm.copysign.")) and "kernel" not in c}
    assert not outside, f"{name} calls {sorted(outside)}"


@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="is the test of another processor")
def test_on_a_plain_processor():
    """The same without what this processor has beyond the least of its kind; on x86: no fused multiply-add."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stdout[-8000:] + done.stderr[-2000:], pytrace=False)
