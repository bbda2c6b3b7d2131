"""The CPU's elementary functions: each against float64, in units in the last place, by vectors and without."""

import ctypes
import functools
import math

import numpy as np
import pytest

from gpumlp.backends import elementary, instruction_set, llvm
from gpumlp.backends.disk_cache import symbols
from gpumlp.backends.llvm_writer import Array, Function, prepared, written
from gpumlp.expressions import ELEMENT, Table

LEAST_NORMAL, LEAST = 2.0**-126, 2.0**-149
WAYS = instruction_set.available()
HERE = WAYS[0]


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


@functools.cache
def loop(name, way):
    """Return y[i] = f(x[i]) as machine code: its text, its object file, and the function."""
    instructions = instruction_set.SETS[way]
    table, rule = Table(), getattr(elementary, name)
    names = ("x", "b") if rule is elementary.power else ("x",)
    (y,) = prepared([rule(*(table.leaf(n, ELEMENT) for n in names))])
    arrays = {n: Array(n) for n in ("x", "b")}
    roots = [(y, Array("y"), ELEMENT)]
    function = Function("loop", ("y", "x", "b", "columns"), frozenset({"columns"}), arrays, roots, rows="")
    text = written([function], instructions.lanes, instructions.masks)
    code = llvm.assembled(text, llvm.target_machine(instructions))
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    return text, code, prototype(llvm.addresses(code, ["loop"], instructions)[0])


def call(name, x, way=HERE, b=None):
    x = np.ascontiguousarray(x, np.float32)
    y = np.full_like(x, NAN)
    loop(name, way)[2](y.ctypes.data, x.ctypes.data, None if b is None else b.ctypes.data, x.size)
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_error(name, way):
    truth, bound, _, flushed = CASES[name]
    x = samples(name)
    y = call(name, x, way)
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_limits(name, way):
    # many times over, so that both the vectors and what is left of the loop behind them see each
    y = call(name, np.tile(np.array(AT), 21), way).reshape(21, len(AT))
    if name == "exp_nonpositive":
        y[:, AT.index(INF)] = NAN
    np.testing.assert_array_equal(y, np.tile(np.array(LIMITS[name], np.float32), (21, 1)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sine_and_cosine_of_any_number(name, way):
    x = samples("log1p" if name == "cos" else "exp")
    truth, y = getattr(np, name)(x.astype(np.float64)), call(name, x, way)
    unit = 2.0 ** np.floor(np.log2(np.maximum(abs(truth), LEAST_NORMAL))) * 2.0**-23
    error = abs(y - truth)
    assert (error / unit)[abs(x) < 1000].max() <= 6 and error.max() <= 2.0**-18 and abs(y).max() <= 1
    np.testing.assert_array_equal(np.isnan(call(name, [NAN, INF, -INF, 0.0], way)), [True, True, True, False])


@pytest.mark.parametrize("way", WAYS)
def test_power(way):
    rng = np.random.default_rng(0)
    a = np.exp(rng.uniform(-20, 20, 4000)).astype(np.float32)
    b = rng.uniform(-3, 3, 4000).astype(np.float32)
    a[::7], b[::3] = -a[::7], np.round(b[::3])
    a[:6], b[:6] = (0, 0, 0, 1, -2, NAN), (0, 2, -1, INF, 3, 1)
    y = call("power", a, way, b)
    with np.errstate(all="ignore"):
        truth = np.power(a.astype(np.float64), b.astype(np.float64))
        bound = 2.0**-23 * (2 + abs(b * np.log(abs(a.astype(np.float64))))) * abs(truth)
    known = np.isfinite(truth) & (abs(truth) > LEAST_NORMAL)
    known[:6] = False
    assert (abs(y[known] - truth[known]) <= bound[known]).all() and known.sum() > 3000
    np.testing.assert_array_equal(y[:6], truth[:6].astype(np.float32))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(truth))


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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_bits_do_not_depend_on_the_place_in_a_loop(name, way):
    """The same number gives the same bits in a vector and in what is left of a loop behind the vectors."""
    x = samples(name)[::3001][:500]
    together = call(name, x, way)
    alone = np.concatenate([call(name, x[i : i + 1], way) for i in range(x.size)])
    assert np.array_equal(together.view(np.int32), alone.view(np.int32))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_called(name, way):
    """Mathematics of the C library differs between systems, and would take one number at a time."""
    text, code, _ = loop(name, way)
    assert symbols(code)[1] <= llvm.ALLOWED
    assert f"fmul <{instruction_set.SETS[way].lanes} x float>" in text and "double" not in text
