"""Formulas written for the CPU: by vectors, in every shape, whatever the formula; what is broken is noticed."""

import ctypes
import math
import re
from pathlib import Path

import numpy as np
import pytest

from gpumlp import check, formulas, losses, ops, regularizers
from gpumlp.backends import cpu_formulas, elementary, llvm_writer, native
from gpumlp.backends.compiled_backend import CompiledBackend
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.llvm_writer import written
from gpumlp.expressions import ELEMENT, Table, make, order

U = 2.0**-24


# ---- formulas that the package does not have -------------------------------------------------------------------------
def mish(z):
    return z * ops.tanh(ops.softplus(z))


def celu(z, alpha):
    return ops.maximum(z, 0.0) + ops.minimum(alpha * ops.expm1(z / alpha), 0.0)


def log_softmax(z):
    return ops.log_softmax(z)


def wave(z):
    return ops.sin(3.0 * z) + ops.cos(z)


def standardized(z, epsilon):
    return (z - ops.mean(z, -1, keepdims=True)) / ops.sqrt(ops.var(z, -1, keepdims=True) + epsilon)


ACTIVATIONS = [(mish, {}), (celu, {"alpha": 0.7}), (log_softmax, {}), (wave, {}), (standardized, {"epsilon": 1e-3})]


def cosine(t, p):
    def unit(a):
        return a / ops.sqrt(ops.maximum(ops.sum(a * a, -1, keepdims=True), 1e-12))

    return -ops.sum(unit(t) * unit(p), -1)


def poisson(t, p):
    return ops.mean(p - t * ops.log(p + 1e-7), -1)


def focal(t, p, gamma):
    q = ops.clip(p, 1e-7, 1.0 - 1e-7)
    return -ops.mean(t * ops.power(1.0 - q, gamma) * ops.log(q), -1)


def nll(t, p):
    mean, size = p[:, 0:1], ops.softplus(p[:, 1:2]) + 0.1
    return ops.log(size) + ops.square((t[:, 0:1] - mean) / size)


LOSSES = [(cosine, {}), (poisson, {}), (focal, {"gamma": 1.7}), (nll, {})]


def several(t, p):
    return ops.sum(t * p, -1), ops.sum(t, -1), ops.sum(p, -1)


def top(t, p):
    return ops.argmax(t, -1), ops.argmax(p, -1)


def extremes(t, p):
    return ops.max(p, -1), ops.min(p, -1), ops.max(ops.maximum(t, p), -1), ops.min(ops.minimum(t, p), -1)


def amsgrad(w, g, m, v, top, rate, decay, keep_1, keep_2, epsilon):
    m, v = m + (g - m) * keep_1, v + (g * g - v) * keep_2
    top = ops.maximum(top, v)
    return {"w": decay * w - rate * m / (ops.sqrt(top) + epsilon), "m": m, "v": v, "top": top}


def nadam(w, g, m, v, rate, decay, now, later, keep_1, keep_2, epsilon):
    m, v = m + (g - m) * keep_1, v + (g * g - v) * keep_2
    return {"w": decay * w - rate * (now * g + later * m) / (ops.sqrt(v) + epsilon), "m": m, "v": v}


# ---- evaluating a graph in float64 -----------------------------------------------------------------------------------
UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos,
    "tanh": np.tanh, "sign": np.sign, "floor": np.floor, "maximum": np.maximum, "minimum": np.minimum,
    "pow": np.power, "erf": ops.erf, "sigmoid": ops.sigmoid, "softplus": ops.softplus, "step": ops.step,
    "lt": lambda a, b: 1.0 * (a < b), "le": lambda a, b: 1.0 * (a <= b), "eq": lambda a, b: 1.0 * (a == b),
    "where": lambda c, a, b: np.where(c != 0, a, b), "mask": lambda c, a: np.where(c != 0, a, 0.0),
    "held": lambda a: a, "bounded": lambda a, low, high: np.clip(a, low, high),
    "softmax": ops.softmax, "log_softmax": ops.log_softmax,
    "logsumexp": lambda a: ops.logsumexp(a, -1, keepdims=True),
}  # fmt: skip


def evaluated(formula, values, width):
    """Return the formula's roots by name, in float64; rows are [B, 1]."""
    known = {}
    given = {"width": float(width), "most": float(np.finfo(np.float64).max), "index": np.arange(width, dtype=float)}
    for n in order(formula.roots):
        args = [known[a] for a in n.args]
        if n.op == "constant":
            known[n] = n.value
        elif n.op == "leaf":
            known[n] = values[n.value] if n.value in values else given[n.value]
        elif n.op in ("sum", "largest"):
            whole = np.broadcast_to(args[0], np.broadcast_shapes(np.shape(args[0]), (1, width)))
            known[n] = (np.sum if n.op == "sum" else np.max)(whole, axis=-1, keepdims=True)
        elif n.op == "argmax":
            known[n] = np.argmax(args[0], axis=-1, keepdims=True).astype(float)
        elif n.op == "column":
            known[n] = args[0][:, int(args[1]) : int(args[1]) + 1]
        else:
            known[n] = UFUNCS[n.op](*args)
    return {name: known[root] for name, root in zip(formula.names, formula.roots, strict=True)}


def call(code, *arguments):
    """Call a formula's function with arrays and whole numbers."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))
    (address,) = native.formula_addresses([code])
    return prototype(address)(*(a if isinstance(a, int) else a.ctypes.data for a in arguments))


def numbers(formula, constants):
    return np.array([constants[name] for name in formula.numbers], np.float32)


def rows(array, distance):
    """Return the array's rows in float32, ``distance`` apart, with NaN between."""
    out = np.full((len(array), distance), np.nan, np.float32)
    out[:, : array.shape[1]] = array
    return out


SHAPES = [(5, 1, 1), (7, 3, 16), (4, 16, 16), (6, 21, 32), (3, 100, 112), (9, 2, 2), (2, 33, 48)]


def close(got, truth, factor=64):
    got = np.broadcast_to(got, np.broadcast_shapes(got.shape, np.shape(truth)))
    np.testing.assert_allclose(got, np.broadcast_to(truth, got.shape), rtol=factor * U, atol=factor * U)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("function", "constants"), ACTIVATIONS)
def test_an_activation_that_the_package_does_not_have(function, constants, shape):
    formula = formulas.activation(function, None, constants)
    count, width, distance = shape
    rng = np.random.default_rng(0)
    z, dy = 2 * check.normal(rng, count, width), check.normal(rng, count, width)
    values = {"z": z.astype(np.float64), **constants}
    y = rows(z, distance)
    call(Code("forward", formula.forward), y, y, distance, count, width, numbers(formula.forward, constants))
    truth = evaluated(formula.forward, values, width)["y"]
    close(y[:, :width], truth)
    dz = rows(dy, distance)
    back = Code("back", formula.back)
    call(back, dz, rows(truth, distance), rows(z, distance), distance, count, width, numbers(formula.back, constants))
    values |= {"dy": dy.astype(np.float64), "y": truth}
    close(dz[:, :width], evaluated(formula.back, values, width)["dz"], 256)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("function", "constants"), LOSSES)
def test_a_loss_that_the_package_does_not_have(function, constants, shape):
    formula = formulas.loss(function, constants, False)
    count, width, distance = shape
    if width < cpu_formulas.columns_of(formula, "p"):
        return
    rng = np.random.default_rng(1)
    p, t = (rng.uniform(0.05, 0.95, (count, width)).astype(np.float32) for _ in range(2))
    factor = rng.uniform(0.5, 1.5, (count, 1)).astype(np.float32)
    value, dp = np.full(count, np.nan, np.float32), rows(p, distance)
    code = Code("loss", formula, narrow=width == 1)
    call(code, value, dp, t, rows(p, distance), factor, width, distance, count, width, numbers(formula, constants))
    truth = evaluated(formula, {"t": t.astype(float), "p": p.astype(float), "factor": factor, **constants}, width)
    close(value[:, None], truth["value"])
    close(dp[:, :width], truth["dp"], 256)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [several, top, extremes])
@pytest.mark.parametrize("single", [False, True])
def test_a_metric_of_several_sums(function, single, shape):
    formula = formulas.metric(function, {}, False)
    count, width, distance = shape
    rng = np.random.default_rng(2)
    p = np.sign(check.normal(rng, count, width))
    p[1, width // 2 :] = np.nan
    t = np.sign(check.normal(rng, count, 1 if single else width))
    if not single:
        t[:, -1] = np.nan
    code = Code("metric", formula, narrow=width == 1, single=single)
    values = np.full((len(formula.roots), count + 3), np.nan, np.float32)
    call(code, values, count + 3, t, rows(p, distance), t.shape[1], distance, count, width, np.zeros(0, np.float32))
    whole = np.broadcast_to(t, p.shape).astype(float)
    truth = evaluated(formula, {"t": whole, "p": p.astype(float)}, width)
    for i, name in enumerate(formula.names):
        close(values[i, :count, None], np.broadcast_to(truth[name], (count, 1)))


@pytest.mark.parametrize("count", [1, 15, 16, 100])
@pytest.mark.parametrize(
    ("function", "slots", "scalars"),
    [(amsgrad, ("m", "v", "top"), ("rate", "decay")), (nadam, ("m", "v"), ("rate", "decay", "now", "later"))],
)
def test_an_update_that_the_package_does_not_have(function, slots, scalars, count):
    constants = {"keep_1": 0.1, "keep_2": 0.01, "epsilon": 1e-7}
    formula = formulas.update(function, slots, scalars, constants)
    rng = np.random.default_rng(3)
    room, g = np.abs(check.normal(rng, 1 + len(slots), count)) + 0.1, check.normal(rng, count)
    rates = np.array([0.01, 0.99, 0.3, 0.7][: len(scalars)], np.float32)
    names = ("w", *slots)
    values = {name: room[i].astype(float) for i, name in enumerate(names)} | {"g": g.astype(float)} | constants
    truth = evaluated(formula, values | dict(zip(scalars, rates.astype(float), strict=True)), count)
    code, places = Code("update", formula, slots, scalars), np.arange(1, len(names)) * count
    arguments = (room, g, places, count, numbers(formula, constants), rates)
    assert call(code, *arguments) == 0
    for i, name in enumerate(names):
        close(room[i], truth[name])
    room[0, count // 2] = math.inf
    assert call(code, *arguments) == 1


def test_what_cannot_be_written_says_so():
    def of_all(w):
        return ops.sqrt(ops.sum(ops.square(w), -1))

    def clipped(w, g, rate, decay):
        return {"w": w - rate * g / ops.sqrt(ops.sum(g * g, -1, keepdims=True))}

    def unknown(z):
        return make("bessel", z)

    with pytest.raises(NotImplementedError, match="kernels have no bessel"):
        llvm_writer.prepared([unknown(Table().leaf("z", ELEMENT))])
    with pytest.raises(NotImplementedError, match="it must be a sum over weights"):
        Code("penalty", formulas.penalty(of_all, {})).function()
    with pytest.raises(NotImplementedError, match="no update by sums over all weights"):
        Code("update", formulas.update(clipped, (), ("rate", "decay"), {}), (), ("rate", "decay")).function()


# ---- vectors ---------------------------------------------------------------------------------------------------------
def every_code():
    """Yield all functions of the package's own formulas."""
    for activation in check.every_activation():
        yield Code("forward", activation.formula.forward)
        yield Code("back", activation.formula.back)
    for loss, _ in check.LOSSES:
        yield from (Code("loss", loss.formula, narrow=narrow) for narrow in (False, True))
    for kind in check.METRICS:
        yield from (Code("metric", kind().formula, narrow=narrow) for narrow in (False, True))
    for optimizer in check.OPTIMIZERS.values():
        yield Code("update", optimizer.formula, tuple(optimizer.slots), optimizer.scalar_names)
    yield Code("penalty", regularizers.L1L2(0.1, 0.1).formula)


CODES = {code.name: code for code in every_code()}


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: f"{code.kind} {code.name[8:14]}")
def test_every_formula_goes_by_vectors(code, lanes):
    """Of single numbers there are only such as are there once a row or a call, or behind the last whole vector."""
    text = written([code.function()], lanes, lanes > 4)
    body = max(re.findall(r"(?ms)^body\d+:\n(.*?)^done", text), key=len)
    assert f"<{lanes} x float>" in body and not re.search(r"= f\w+ float|llvm\.\w+\.f32\(", body)
    assert "load float, ptr" not in body


# ---- breaks ----------------------------------------------------------------------------------------------------------
POOL = {
    f"{case.operation} {case.shape}": case
    for case in (
        *(c for a in check.every_activation() for s in ((9, 33), (5, 16)) for c in check.activation_cases(s, a)),
        *(check.loss_case(shape, loss, kind, True, nan) for loss, kind in check.LOSSES for shape in ((9, 33), (7, 10))
          for nan in (False, True)),
        *(check.loss_case((37, 1), losses.MeanSquaredError(), "real", weighted) for weighted in (False, True)),
        *(check.metric_case((33, o), kind, True) for kind in check.METRICS for o in (10, 37)),
        *(check.update_case(70, name) for name in check.OPTIMIZERS),
        check.penalty_case(257, check.L1L2(0.1, 0.1)),
    )
}  # fmt: skip
# By name: the module, what stands there, what comes in its place, and what is in the name of a case that notices.
BREAKS = {
    "what is left, of one": ("llvm_writer", "icmp sgt i64 %left{k}, 0", "icmp sgt i64 %left{k}, 1", "softmax"),
    "lanes that are not meant": ("llvm_writer", "if not place.mask:\n            return terms",
                                 "if True:\n            return terms", "loss"),
    "half of the lanes": ("llvm_writer", "half) for half in (0, 1)]", "0) for half in (0, 1)]", "loss"),
    "the smallest": ("llvm_writer", "'olt' if op == 'least' else 'ogt'", "'ogt' if op == 'least' else 'olt'", "metric"),
    "the largest without NaN": ("llvm_writer", "select i1 {parts[1]}, float", "select i1 false, float", "extremes"),
    "the last of the largest": ("llvm_writer", "fcmp ugt {kind} {terms[0]}", "fcmp uge {kind} {terms[0]}", "top"),
    "the first NaN": ("llvm_writer", "select i1 {some}, {truth} {bad}", "select i1 false, {truth} {bad}", "metric"),
    "places of lanes": ("llvm_writer", "{wide}, {self._lane_numbers()}", "{wide}, {wide}", "sparse"),
    "a row's place": ("llvm_writer", "mul i64 {self._r}, %", "mul i64 0, %", "loss"),
    "rows as one": ("llvm_writer", "%filled, %columns" , "%filled, 0", "activation"),
    "less or equal": ("llvm_writer", '"lt": "olt"', '"lt": "ole"', "relu"),
    "a sum for a difference": ("llvm_writer", '"sub": "fsub"', '"sub": "fadd"', "update"),
    "not": ("llvm_writer", "xor {truth} {self._truth", "or {truth} {self._truth", "loss"),
    "one slot for all": ("llvm_writer", "ptr %{memory}, i64 {i}", "ptr %{memory}, i64 0", "update adam"),
    "one number for all": ("llvm_writer", "float, ptr %{pointer}, i64 {i}", "float, ptr %{pointer}, i64 0", "adam"),
    "the power of two": ("elementary", "1.5 * 2**23 + 127,", "1.5 * 2**23 + 128,", "sigmoid"),
    "a coefficient": ("elementary", "(0.49999997, 0.16666539", "(0.49999997, 0.16656539", "tanh"),
    "NaN of two": ("elementary", "else _where(make(\"eq\", b, b), larger, b)", "else larger", "extremes"),
    "step of NaN": ("elementary", "_where(make(\"eq\", a, a), 0.0, a)", "0.0", ""),
}  # fmt: skip


def failing(monkeypatch):
    """Return the names of the cases that notice something."""
    monkeypatch.setattr(native, "_formulas", {})
    monkeypatch.setattr(native, "_formula_names", {})
    backend = CompiledBackend()
    found = {n for n, case in POOL.items() if not check.hold(case, backend, "broken", own_reference=True).passed}
    for function in (top, extremes):
        try:
            test_a_metric_of_several_sums(function, False, (3, 100, 112))
        except AssertionError:
            found.add(function.__name__)
    return found


@pytest.mark.parametrize("vectors", [native.vectors(), (8, native.vectors()[1]), (4, False)], ids=str)
def test_nothing_is_broken_as_it_stands(monkeypatch, vectors):
    monkeypatch.setattr(native, "vectors", lambda: vectors)
    assert failing(monkeypatch) == set()


def test_an_exponential_that_cannot_overflow_is_a_shorter_one():
    z = Table().leaf("z", ELEMENT)
    usual = len(order(llvm_writer.prepared([ops.exp(z)])))
    for x in (-abs(z), -(z * z), -0.5 * (z * z), (z * z) * -0.5, z - make("largest", z)):
        assert len(order(llvm_writer.prepared([ops.exp(x)]))) < usual + 2


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_noticed(monkeypatch, name):
    where, old, new, noticed = BREAKS[name]
    module = {"llvm_writer": llvm_writer, "elementary": elementary}[where]
    text = Path(module.__file__).read_text("utf-8")
    assert text.count(old) == 1, f"{name}: the text that was to be broken is not in the writer any more"
    broken = {"__name__": module.__name__}
    exec(compile(text.replace(old, new), module.__file__, "exec"), broken)
    if where == "llvm_writer":
        monkeypatch.setattr(llvm_writer, "written", broken["written"])
    else:
        monkeypatch.setattr(llvm_writer, "RULES", broken["RULES"])
    found = failing(monkeypatch)
    assert any(noticed in case for case in found), found
