"""Formulas written for the CPU: by vectors, in every shape, whatever the formula; what is broken is noticed."""

import ctypes
import math
import re
from pathlib import Path

import formula_cases as cases
import numpy as np
import pytest

from gpumlp import check, formulas, losses, ops, regularizers
from gpumlp.backends import elementary, instruction_set, llvm_writer, native
from gpumlp.backends.compiled_backend import CompiledBackend
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.llvm_writer import written
from gpumlp.expressions import ELEMENT, Table, make, order

U = 2.0**-24


# ---- formulas that the package does not have -------------------------------------------------------------------------
def wave(z):
    return ops.sin(3.0 * z) + ops.cos(z)


def standardized(z, epsilon):
    return (z - ops.mean(z, -1, keepdims=True)) / ops.sqrt(ops.var(z, -1, keepdims=True) + epsilon)


ACTIVATIONS = [
    (cases.mish, {}), (cases.celu, {"alpha": 0.7}), (cases.log_softmax, {}), (cases.centred, {}), (wave, {}),
    (standardized, {"epsilon": 1e-3}),
]  # fmt: skip
LOSSES = [
    (cases.cosine, {}, False), (cases.poisson, {}, False), (cases.focal, {"gamma": 1.7, "alpha": 0.3}, False),
    (cases.gaussian, {}, True), (cases.closure(3), {}, False), (cases.closure(1.5), {}, False),
]  # fmt: skip


def top(t, p):
    return ops.argmax(t, -1), ops.argmax(p, -1)


def extremes(t, p):
    return ops.max(p, -1), ops.min(p, -1), ops.max(ops.maximum(t, p), -1), ops.min(ops.minimum(t, p), -1)


def choices(t, p):
    return ops.sum(ops.step(p), -1), ops.sum(ops.where(ops.logical_not(t < p), 2.0, p), -1), ops.sum(ops.sign(p), -1)


def evaluated(formula, values, width):
    """Return the formula's roots by name, in float64."""
    count = len(next(v for v in values.values() if np.ndim(v)))
    given = {"width": float(width), "most": cases.MOST, "index": np.arange(width)[None]}
    found = cases.evaluate(formula.roots, values | given, (count, width))
    return dict(zip(formula.names, found, strict=True))


def call(code, *arguments):
    """Call a formula's function with arrays and whole numbers."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))
    (address,) = native.formula_addresses([code], instruction_set.chosen())
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
@pytest.mark.parametrize(("function", "constants", "sparse"), LOSSES)
def test_a_loss_that_the_package_does_not_have(function, constants, sparse, shape):
    formula = formulas.loss(function, constants, sparse)
    count, width, distance = shape
    try:
        formula.look_at_columns("", p=width)
    except ValueError:
        return
    rng = np.random.default_rng(1)
    p, t = (rng.uniform(0.05, 0.95, (count, w)).astype(np.float32) for w in (width, 1 if sparse else width))
    factor = rng.uniform(0.5, 1.5, (count, 1)).astype(np.float32)
    value, dp = np.full(count, np.nan, np.float32), rows(p, distance)
    code = Code("loss", formula, narrow=width == 1)
    call(code, value, dp, t, rows(p, distance), factor, t.shape[1], distance, count, width, numbers(formula, constants))
    truth = evaluated(formula, {"t": t.astype(float), "p": p.astype(float), "factor": factor, **constants}, width)
    close(value[:, None], truth["value"])
    close(dp[:, :width], truth["dp"], 256)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [cases.precision, top, extremes, choices])
@pytest.mark.parametrize("single", [False, True])
def test_a_metric_of_several_sums(function, single, shape):
    formula = formulas.metric(function, {}, False)
    count, width, distance = shape
    rng = np.random.default_rng(2)
    p = np.sign(check.normal(rng, count, width))
    p[1, width // 2 :] = np.nan
    t = np.sign(check.normal(rng, count, 1 if single else width))
    if not single:
        t[0, -1] = np.nan
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
    [
        (cases.amsgrad, ("m", "v", "top"), ("rate", "decay")),
        (cases.nadam, ("m", "v"), ("rate", "decay", "now", "coming")),
        (cases.swapped, ("a", "b"), ("rate",)),
    ],
)
def test_an_update_that_the_package_does_not_have(function, slots, scalars, count):
    constants = {} if function is cases.swapped else {"keep_1": 0.1, "keep_2": 0.01, "epsilon": 1e-7}
    formula = formulas.update(function, slots, scalars, constants)
    rng = np.random.default_rng(3)
    room, g = np.abs(check.normal(rng, 1 + len(slots), count)) + 0.1, check.normal(rng, count)
    rates = np.array([0.01, 0.99, 0.3, 0.7][: len(scalars)], np.float32)
    names = ("w", *slots)
    values = (
        {name: room[i : i + 1].astype(float) for i, name in enumerate(names)} | {"g": g[None].astype(float)} | constants
    )
    truth = evaluated(formula, values | dict(zip(scalars, rates.astype(float), strict=True)), count)
    code, places = Code("update", formula, slots, scalars), np.arange(1, len(names)) * count
    arguments = (room, g, places, count, numbers(formula, constants), rates)
    assert call(code, *arguments) == 0
    for i, name in enumerate(names):
        close(room[i : i + 1], truth[name])
    room[0, count // 2] = math.inf
    assert call(code, *arguments) == 1


def test_what_cannot_be_written_says_so():
    def clipped(w, g, rate, decay):
        return {"w": w - rate * g / ops.sqrt(ops.sum(g * g))}

    def unknown(z):
        return make("bessel", z)

    with pytest.raises(NotImplementedError, match="kernels have no bessel"):
        llvm_writer.prepared([unknown(Table().leaf("z", ELEMENT))])
    for penalty in (cases.distance, lambda w, scale: scale * ops.mean(w * w)):
        with pytest.raises(NotImplementedError, match="it must be a sum over weights"):
            Code("penalty", formulas.penalty(penalty, {"scale": 0.3})).function()
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
    for metric in check.METRICS:
        yield from (Code("metric", metric.formula, narrow=narrow) for narrow in (False, True))
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
        *(check.metric_case((33, o), metric, True) for metric in check.METRICS for o in (10, 37)),
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
    "not": ("llvm_writer", "xor {truth} {self._truth", "or {truth} {self._truth", "choices"),
    "one slot for all": ("llvm_writer", "ptr %{memory}, i64 {i}", "ptr %{memory}, i64 0", "update adam"),
    "one number for all": ("llvm_writer", "float, ptr %{pointer}, i64 {i}", "float, ptr %{pointer}, i64 0", "adam"),
    "the power of two": ("elementary", "1.5 * 2**23 + 127,", "1.5 * 2**23 + 128,", "sigmoid"),
    "a coefficient": ("elementary", "(0.49999997, 0.16666539", "(0.49999997, 0.16656539", "tanh"),
    "NaN of two": ("elementary", "else _where(make(\"eq\", b, b), larger, b)", "else larger", "extremes"),
    "step of NaN": ("elementary", "_where(make(\"eq\", a, a), 0.0, a)", "0.0", "choices"),
}  # fmt: skip


def failing(monkeypatch, instructions=None):
    """Return the names of the cases that notice something, by formulas made for these instructions."""
    monkeypatch.setattr(native, "_formulas", {})
    monkeypatch.setattr(native, "_formula_names", {})
    backend = CompiledBackend()
    monkeypatch.setattr(native.shipped, "library", lambda instructions: None)  # all formulas are written here
    if instructions is not None:
        backend._instructions = instructions
        monkeypatch.setattr(instruction_set, "chosen", lambda: instructions)
    found = {n for n, case in POOL.items() if not check.hold(case, backend, "broken", own_reference=True).passed}
    for function in (top, extremes, choices):
        try:
            test_a_metric_of_several_sums(function, False, (3, 100, 112))
        except AssertionError:
            found.add(function.__name__)
    return found


@pytest.mark.parametrize("name", instruction_set.available())
def test_nothing_is_broken_as_it_stands(monkeypatch, name):
    assert failing(monkeypatch, instruction_set.SETS[name]) == set()


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
