"""Formulas: every rule of derivatives, simplification and parts, each broken in turn; and what the tape makes of them.

What is right are central differences in float64, the graph without simplifications, and NumPy's functions.
"""

import functools
import math
import types

import numpy as np
import pytest

from gpumlp import expressions, formulas, ops
from gpumlp.columns import WidthUnknown
from gpumlp.derivatives import FLAT_SLOPE, SLOPES, gradient
from gpumlp.expressions import ELEMENT, ROW, SIMPLER, UNIFORM, Table, make, order, rebuilt, text, without_flats
from gpumlp.formulas import Formula
from gpumlp.lowering import PARTS, contracted, lowered
from gpumlp.tape import Tape

RNG = np.random.default_rng(4)
B, O = 6, 5  # noqa: E741
ARRAYS = {
    "x": RNG.uniform(0.3, 2.5, (B, O)), "t": RNG.uniform(0.4, 1.9, (B, O)), "r": RNG.uniform(0.5, 2.0, (B, 1)),
    "c": (RNG.uniform(size=(B, O)) > 0.5).astype(float), "u": 0.7,
}  # fmt: skip
KINDS = {"x": ELEMENT, "t": ELEMENT, "r": ROW, "c": ELEMENT, "u": UNIFORM}


def new(index, shape, dtype):
    """Work arrays that start as NaN, so that a value read before it was written shows."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)


def leaves():
    table = Table()
    return {name: table.leaf(name, per) for name, per in KINDS.items()}


def evaluate(roots, arrays=None, xp=np):
    """Return the roots' values, each an array of rows or elements."""
    arrays = ARRAYS if arrays is None else arrays
    roots = without_flats(roots)
    names = tuple(f"out{i}" for i in range(len(roots)))
    found = {n: np.full((B, O) if r.per == ELEMENT else (B, 1), np.nan) for n, r in zip(names, roots, strict=True)}
    with np.errstate(all="ignore"):
        Tape(xp, Formula(names, tuple(roots))).bind((B, O), np.dtype(float), new)(**arrays, **found)
    return list(found.values())


# ---- derivatives -----------------------------------------------------------------------------------------------------

COUNTS = {op: slope.__code__.co_argcount - 2 for op, slope in SLOPES.items()}  # of arguments
ARGUMENTS = {"bounded": (-1.0, 9.0), "column": (2.0,)}  # after the first


def formula_of(op, given):
    """Return an operation of x, t and c, with something round it, as derivatives come to it from there."""
    count = COUNTS[op]
    x, t = given["x"], given["t"]
    if op in ("where", "mask"):
        y = make(op, given["c"], *(x, t)[: count - 1])
    else:
        more = ARGUMENTS.get(op, (t,) * (count - 1))
        if op in ("maximum", "minimum"):
            more = (t * 1.1 + 0.1,)
        y = make(op, x - 1.2 if op in ("abs", "erf", "sigmoid") else x, *more)
    return ops.sin(y) * given["r"] if y.per == ELEMENT else ops.sin(y)


def check_slope(op, name):
    given = leaves()
    y = formula_of(op, given)
    d = given["r"] if y.per == ROW else given["t"]
    (got,) = evaluate([gradient(y, given[name], d)])
    expected, h = np.zeros((B, O)), 1e-6
    weight = ARRAYS["r"] if y.per == ROW else ARRAYS["t"]
    for j in range(O):
        step = h * (np.arange(O) == j)
        up, down = (evaluate([y], ARRAYS | {name: ARRAYS[name] + s})[0] for s in (step, -step))
        expected[:, j] = (weight * (up - down) / (2 * h)).sum(axis=1)
    np.testing.assert_allclose(np.broadcast_to(got, (B, O)), expected, rtol=1e-6, atol=1e-7)


def slopes():
    """Return each operation, and a leaf that an argument with a slope is made of."""
    found = []
    for op in SLOPES:
        given = leaves()
        y = formula_of(op, given)
        for name in ("x", "t"):
            if given[name] in set(order([y])):
                found.append((op, name))
    return found


@pytest.mark.parametrize(("op", "name"), slopes())
def test_a_slope_is_the_central_difference(op, name):
    check_slope(op, name)


@pytest.mark.parametrize(("op", "name"), slopes())
def test_a_wrong_slope_is_noticed(op, name, monkeypatch):
    right = SLOPES[op]

    def wrong(d, y, *args):
        given = {a for a in args if any(n.op == "leaf" and n.value == name for n in order([a]))}
        return tuple(
            s if s is None or a not in given else 1.01 * s for a, s in zip(args, right(d, y, *args), strict=True)
        )

    monkeypatch.setitem(SLOPES, op, wrong)
    with pytest.raises(AssertionError):
        check_slope(op, name)


def test_every_operation_has_a_slope_or_none_by_intent():
    known = {*SLOPES, *FLAT_SLOPE, "leaf", "constant", "flat", "kept", "fma"}
    made = {op for op in PARTS} | set(expressions.FOLD) | expressions.REDUCTIONS | expressions.OF_ROW
    assert made <= known


def test_a_choice_has_no_slope_of_what_is_not_chosen():
    given = leaves()
    y = ops.sum(ops.where(given["x"] > 1.0, ops.sqrt(given["x"] - 1.0), 0.0), -1, keepdims=True)
    (slope,) = evaluate([gradient(y, given["x"])])
    assert np.isfinite(slope).all() and (slope[ARRAYS["x"] < 1.0] == 0).all()


def random_graph(rng, given):
    """Return a number of each row, of nodes of all kinds that meet each other."""
    nodes = [given["x"], given["t"], given["r"], given["x"].table.constant(1.3)]
    for _ in range(rng.integers(4, 12)):
        a, b = (nodes[i] for i in rng.integers(0, len(nodes), 2))
        what = rng.integers(0, 9)
        if what < 4:
            nodes.append([a + b, a - b, a * b, a / (b * b + 1.0)][what])
        elif what < 6:
            nodes.append([ops.tanh(a), ops.sigmoid(a)][what - 4])
        elif a.per == ELEMENT:
            nodes.append(
                [make("sum", a), make("logsumexp", a), ops.softmax(a) if what == 8 else make("largest", a)][what % 3]
            )
    last = nodes[-1] + nodes[-2] * given["x"]
    return make("sum", last)


@pytest.mark.parametrize("seed", range(60))
def test_derivatives_of_random_graphs_are_central_differences(seed):
    given, h = leaves(), 1e-6
    y = random_graph(np.random.default_rng(seed), given)
    (slope,) = evaluate([gradient(y, given["x"]) + 0.0 * given["x"]])
    for j in range(O):
        step = h * (np.arange(O) == j)
        above, below = (evaluate([y], {**ARRAYS, "x": ARRAYS["x"] + s})[0][:, 0] for s in (step, -step))
        np.testing.assert_allclose(slope[:, j], (above - below) / (2 * h), rtol=2e-6, atol=1e-7)


# ---- simplifications -------------------------------------------------------------------------------------------------

SIMPLE = {  # by what it is called: whose rule, and the case
    "x + 0": ("add", lambda x, t, r, c, u: x + 0.0),
    "0 + x": ("add", lambda x, t, r, c, u: 0.0 + x),
    "x + x": ("add", lambda x, t, r, c, u: x + x),
    "x + -t": ("add", lambda x, t, r, c, u: make("add", x, -t)),
    "-x + t": ("add", lambda x, t, r, c, u: make("add", -x, t)),
    "mask + mask": ("add", lambda x, t, r, c, u: make("mask", c, x) + make("mask", 1.0 - c, t)),
    "mask + mask, turned": ("add", lambda x, t, r, c, u: make("mask", 1.0 - c, x) + make("mask", c, t)),
    "x - 0": ("sub", lambda x, t, r, c, u: x - 0.0),
    "0 - x": ("sub", lambda x, t, r, c, u: 0.0 - x),
    "x - -t": ("sub", lambda x, t, r, c, u: x - (-t)),
    "1 x": ("mul", lambda x, t, r, c, u: 1.0 * x),
    "-1 x": ("mul", lambda x, t, r, c, u: x * -1.0),
    "-x t": ("mul", lambda x, t, r, c, u: (-x) * t),
    "x -t": ("mul", lambda x, t, r, c, u: x * (-t)),
    "mask t": ("mul", lambda x, t, r, c, u: make("mask", c, x) * t),
    "2 (3 x)": ("mul", lambda x, t, r, c, u: 2.0 * (3.0 * x)),
    "2 (r x)": ("mul", lambda x, t, r, c, u: 2.0 * (r * x)),
    "u (r x)": ("mul", lambda x, t, r, c, u: (x * r) * u),
    "x / 1": ("div", lambda x, t, r, c, u: x / 1.0),
    "0 / width": ("div", lambda x, t, r, c, u: x + 0.0 / x.table.leaf("width", UNIFORM)),
    "mask / t": ("div", lambda x, t, r, c, u: make("mask", c, x) / t),
    "-x / t": ("div", lambda x, t, r, c, u: (-x) / t),
    "--x": ("neg", lambda x, t, r, c, u: make("neg", -x)),
    "|-x|": ("abs", lambda x, t, r, c, u: make("abs", -x)),
    "-(x - t)": ("neg", lambda x, t, r, c, u: -(x - t)),
    "-mask": ("neg", lambda x, t, r, c, u: -make("mask", c, x)),
    "sum of a row": ("sum", lambda x, t, r, c, u: make("sum", r)),
    "sum(-x)": ("sum", lambda x, t, r, c, u: make("sum", -x)),
    "sum(x / r)": ("sum", lambda x, t, r, c, u: make("sum", x / r)),
    "sum(x r)": ("sum", lambda x, t, r, c, u: make("sum", r * x)),
    "mask by 1": ("mask", lambda x, t, r, c, u: make("mask", 1.0, x)),
    "mask by 0": ("mask", lambda x, t, r, c, u: t + make("mask", 0.0, x)),
    "mask of 0": ("mask", lambda x, t, r, c, u: t + make("mask", c, 0.0)),
    "where 1": ("where", lambda x, t, r, c, u: make("where", 1.0, x, t)),
    "where 0": ("where", lambda x, t, r, c, u: make("where", 0.0, x, t)),
    "where alike": ("where", lambda x, t, r, c, u: make("where", c, x, x)),
    "largest of a row": ("largest", lambda x, t, r, c, u: make("largest", r)),
    "softmax of one": ("softmax", lambda x, t, r, c, u: t + make("softmax", r)),
    "log_softmax of one": ("log_softmax", lambda x, t, r, c, u: t + make("log_softmax", r)),
    "logsumexp of one": ("logsumexp", lambda x, t, r, c, u: make("logsumexp", r)),
    "column of a row": ("column", lambda x, t, r, c, u: make("column", r, 0.0)),
    "column of an index": ("column", lambda x, t, r, c, u: make("column", expressions.index(x.table), 3.0)),
    "column of a sum": ("column", lambda x, t, r, c, u: make("column", x * r + t, 3.0)),
    "held constant": ("held", lambda x, t, r, c, u: x + make("held", x.table.constant(2.0))),
    "held twice": ("held", lambda x, t, r, c, u: make("held", make("held", x))),
}
PLAIN = {  # by hand, where the graph as it stands has nothing that the tape could compute
    "softmax of one": lambda v: v["t"] + 1.0, "log_softmax of one": lambda v: v["t"],
    "logsumexp of one": lambda v: v["r"],
    "sum of a row": lambda v: v["r"] * O, "largest of a row": lambda v: v["r"], "column of a row": lambda v: v["r"],
    "column of an index": lambda v: np.full((B, 1), 3.0),
    "column of a sum": lambda v: (v["x"] * v["r"] + v["t"])[:, 3:4],
}  # fmt: skip
STRANGE = {name: np.array(a) for name, a in ARRAYS.items()}
STRANGE["x"][0] = [math.nan, math.inf, -math.inf, 1e300, 0.0]
STRANGE["t"][1] = [math.nan, math.inf, -math.inf, 1e300, 0.0]


def check_simple(case, monkeypatch):
    function = SIMPLE[case][1]
    simple = function(**leaves())
    with monkeypatch.context() as patch:
        for op in SIMPLER:
            patch.setitem(SIMPLER, op, lambda *args: None)
        plain = function(**leaves())
    assert text([simple]) != text([plain]), "nothing was simplified"
    for arrays in (ARRAYS,) if case in ("mask t", "mask / t") else (ARRAYS, STRANGE):  # these make 0 of 0 NaN
        if case in PLAIN:
            expected = PLAIN[case](arrays)
        else:
            with monkeypatch.context() as patch:
                for op in SIMPLER:
                    patch.setitem(SIMPLER, op, lambda *args: None)
                (expected,) = evaluate([plain], arrays)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(evaluate([simple], arrays)[0], expected, rtol=1e-14)


@pytest.mark.parametrize("case", SIMPLE)
def test_a_simplification_changes_no_value(case, monkeypatch):
    check_simple(case, monkeypatch)


@pytest.mark.parametrize("case", SIMPLE)
def test_a_wrong_simplification_is_noticed(case, monkeypatch):
    op, right = SIMPLE[case][0], SIMPLER[SIMPLE[case][0]]

    def wrong(*args):
        found = right(*args)
        return None if found is None else ops.sqrt(found + 0.1)

    monkeypatch.setitem(SIMPLER, op, wrong)
    with pytest.raises(AssertionError):
        check_simple(case, monkeypatch)


def test_every_simplification_is_tried():
    assert {op for op, _ in SIMPLE.values()} == set(SIMPLER)


# ---- parts -----------------------------------------------------------------------------------------------------------

WHOLE = {
    "sigmoid": lambda x, t: ops.sigmoid(x), "softplus": lambda x, t: ops.softplus(x), "pow": lambda x, t: x**t,
    "softmax": lambda x, t: ops.softmax(x), "log_softmax": lambda x, t: ops.log_softmax(x),
    "logsumexp": lambda x, t: ops.logsumexp(x, -1, keepdims=True), "bounded": lambda x, t: np.clip(x, 0.5, 1.5),
    "mask": lambda x, t: np.where(ARRAYS["c"] != 0, x, 0.0), "held": lambda x, t: x,
}  # fmt: skip


def check_parts(op):
    given = leaves()
    arguments = {"pow": (given["x"], given["t"]), "bounded": (given["x"], 0.5, 1.5), "mask": (given["c"], given["x"])}
    node = make(op, *arguments.get(op, (given["x"],)))
    node = ops.absolute(node) + 1.0  # so that nothing but its parts is looked at
    parts = lowered([node], ())
    assert not {n.op for n in order(parts)} & set(PARTS)
    for roots in ([node], parts):
        (got,) = evaluate(roots)
        np.testing.assert_allclose(got, abs(WHOLE[op](ARRAYS["x"], ARRAYS["t"])) + 1.0, rtol=1e-13)


@pytest.mark.parametrize("op", PARTS)
def test_an_operation_is_its_parts(op):
    check_parts(op)


@pytest.mark.parametrize("op", PARTS)
def test_wrong_parts_are_noticed(op, monkeypatch):
    right = PARTS[op]
    monkeypatch.setitem(PARTS, op, lambda *args: 1.01 * right(*args))
    with pytest.raises(AssertionError):
        check_parts(op)


def test_multiply_adds_are_those_whose_product_nobody_else_takes():
    given = leaves()
    x, t, r = given["x"], given["t"], given["r"]
    roots = [x * t + r, x - ops.exp(t) * r, ops.sin(x) * t - x]
    found = contracted(roots)
    assert [r.op for r in found] == ["fma"] * 3
    back = rebuilt(found, lambda n, args: args[0] * args[1] + args[2] if n.op == "fma" else None)
    for got, right in zip(evaluate(back), evaluate(roots), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-14)
    shared = x * t
    assert "fma" not in {n.op for n in order(contracted([shared + r, shared]))}
    assert "fma" not in {n.op for n in order(contracted([ops.sin(r) * r + x]))}  # a row's product, an element's sum


# ---- rows, columns, names --------------------------------------------------------------------------------------------


def test_rows_that_have_lost_their_axis_meet_no_others():
    x = leaves()["x"]
    row = ops.sum(x, -1)
    assert row.flat and not ops.sum(x, -1, keepdims=True).flat
    assert (row * row + 1.0).flat and ops.expand_dims(row, -1).per == ROW and not ops.expand_dims(row, -1).flat
    for wrong in (lambda: row + x, lambda: ops.sum(row, -1), lambda: row * ops.sum(x, -1, keepdims=True)):
        with pytest.raises(TypeError, match="lost"):
            wrong()
    assert ops.squeeze(ops.expand_dims(row, -1)).flat
    np.testing.assert_allclose(evaluate([row])[0][:, 0], ARRAYS["x"].sum(1))


def test_columns():
    x = leaves()["x"]
    for node, flat in ((x[:, 2], True), (x[:, 2:3], False), (x[..., 2:3], False)):
        assert node.per == ROW and node.flat is flat
        np.testing.assert_array_equal(evaluate([node])[0], ARRAYS["x"][:, 2:3])
    several = x[:, 1:4]
    assert several.shape == (None, 3) and (several + x[:, :1]).shape == (None, 3) and several[:, -1] is x[:, 3]
    np.testing.assert_array_equal(evaluate([several[:, 1:2]])[0], ARRAYS["x"][:, 2:3])
    for wrong in (0, slice(0, 2), (slice(None), 1.0), (slice(None), slice(2, 2)), (0, 1)):
        with pytest.raises(TypeError, match=r"Columns: x\[:, 1\], counted from 0"):
            x[wrong]
    for unknown in (-1, slice(1, None), slice(None, -1), slice(None, None, -1)):
        with pytest.raises(WidthUnknown, match="How many outputs there are is not known here"):
            x[:, unknown]
    soft = ops.softmax(x)[:, 1:2]
    np.testing.assert_allclose(evaluate([soft])[0], ops.softmax(ARRAYS["x"])[:, 1:2])


NUMPY = {
    **{name: getattr(np, name) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh",
        "sign", "absolute", "negative", "floor", "ceil", "add", "subtract", "multiply", "divide", "maximum",
        "minimum", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "square", "power",
        "reciprocal", "abs", "true_divide", "logaddexp", "isnan", "zeros_like", "ones_like")},
    **{name: functools.partial(getattr(np, name), axis=-1, keepdims=True) for name in (
        "sum", "mean", "max", "min", "var", "argmax")},
    "erf": np.vectorize(math.erf), "rsqrt": lambda x: x**-0.5, "clip": lambda x: np.clip(x, 0.5, 1.5),
    "where": lambda x, t: np.where(x > t, x, t), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)), "log_sigmoid": lambda x: -np.log(1 + np.exp(-x)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "logsumexp": lambda x: np.log(np.exp(x).sum(-1, keepdims=True)), "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)), "norm": lambda x: np.sqrt((x * x).sum(-1, keepdims=True)),
    "step": lambda x: (x > 0).astype(float), "stop_gradient": lambda x: x, "amax": lambda x: x.max(-1, keepdims=True),
    "amin": lambda x: x.min(-1, keepdims=True), "bounded": lambda x: np.clip(x, 0.5, 1.5),
    "logical_and": lambda x, t: (x > 1) & (t > 1), "logical_or": lambda x, t: (x > 1) | (t > 1),
    "logical_not": lambda x: ~(x > 1),
}  # fmt: skip
ROWWISE = {"sum", "mean", "max", "min", "var", "argmax", "logsumexp", "norm", "amax", "amin"}


@pytest.mark.parametrize("name", NUMPY)
def test_a_name_means_what_it_means_in_numpy_on_arrays_and_in_formulas(name):
    function = getattr(ops, name)

    def of(x, t):
        if name in ("clip", "bounded"):
            return function(x, 0.5, 1.5)
        if name in ROWWISE:
            return function(x, axis=-1, keepdims=True)
        if name == "where":
            return function(x > t, x, t)
        if name.startswith("logical"):
            truths = [ops.greater(a, 1.0) for a in (x, t)]
            return function(*truths[: 1 if name == "logical_not" else 2])
        return function(x, t) if name in TWO else function(x)

    x, t = ARRAYS["x"] - 0.1, ARRAYS["t"]
    expected = np.asarray(NUMPY[name](x, t) if name in TWO else NUMPY[name](x), float)
    np.testing.assert_allclose(np.asarray(of(x, t), float), expected, rtol=1e-12)
    given = leaves()
    (got,) = evaluate([of(given["x"] - 0.1, given["t"]) + 0.0 * given["r"]])
    np.testing.assert_allclose(np.broadcast_to(got, expected.shape), expected, rtol=1e-12, atol=1e-12)


TWO = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "less", "less_equal", "greater", "greater_equal",
    "equal", "not_equal", "power", "true_divide", "logaddexp", "where", "logical_and", "logical_or",
}  # fmt: skip


def test_one_hot_of_a_row():
    given = leaves()
    labels = ARRAYS | {"r": np.arange(B, dtype=float)[:, None] % O}
    (got,) = evaluate([ops.one_hot(given["r"]) * 1.0 + 0.0 * given["x"]], labels)
    np.testing.assert_array_equal(got, ops.one_hot(labels["r"][:, 0], O))


# ---- the tape --------------------------------------------------------------------------------------------------------


LIBRARY = types.ModuleType("library")  # an array library of which nothing is known but its functions
vars(LIBRARY).update({name: getattr(np, name) for name in dir(np)})


def random_formula(rng, given):
    """Return roots made of what there is, with many choices, reductions and values that are used again."""
    x, t, r, c, u = given.values()
    nodes = [x, t, r, u, c]
    pick = lambda: nodes[rng.integers(max(0, len(nodes) - 8), len(nodes))]  # noqa: E731
    for _ in range(rng.integers(4, 25)):
        kind = int(rng.integers(10))
        a, b = pick(), pick()
        made = {
            0: lambda a, b: a + b, 1: lambda a, b: a * b, 2: lambda a, b: ops.where(a < b, a, b * 0.5),
            3: lambda a, b: ops.tanh(a) - b, 4: lambda a, b: make("mask", c > 0.5, a),
            5: lambda a, b: ops.sigmoid(a) * x, 6: lambda a, b: make("sum", a * x) * 0.1,
            9: lambda a, b: ops.where(c, b, a) + ops.where(c * x, b, t),
            7: lambda a, b: ops.clip(a, -0.5, u) + x, 8: lambda a, b: ops.maximum(make("largest", x - a), 0.3) * t,
        }  # fmt: skip
        nodes.append(made[kind](a, b))
    return [nodes[-1] + x, pick() * x, make("sum", nodes[-2] * t)]


def by_numpy(roots, arrays):
    """Return the roots by NumPy, an operation after the other, each into an array of its own."""
    found = {}
    functions = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "tanh": np.tanh,
        "lt": np.less, "maximum": np.maximum, "minimum": np.minimum, "where": lambda k, a, b: np.where(k != 0, a, b),
        "mask": lambda k, a: np.where(k != 0, a, 0.0), "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "sum": lambda a: np.sum(np.broadcast_to(a, (B, O)), 1, keepdims=True),
        "largest": lambda a: np.max(np.broadcast_to(a, (B, O)), 1, keepdims=True),
    }  # fmt: skip
    for n in order(roots):
        if n.op == "leaf":
            found[n] = float(O) if n.value == "width" else arrays[n.value]
        else:
            found[n] = (
                n.value if n.op == "constant" else functions[n.op](*(np.asarray(found[a], float) for a in n.args))
            )
    return [found[r] for r in roots]


@pytest.mark.parametrize("seed", range(150))
def test_arrays_that_are_used_again_hold_nothing_that_is_still_read(seed):
    rng = np.random.default_rng(seed)
    given = leaves()
    roots = random_formula(rng, given)
    expected = by_numpy(roots, ARRAYS)
    for xp in (np, LIBRARY):
        for got, right in zip(evaluate(roots, xp=xp), expected, strict=True):
            np.testing.assert_allclose(got, np.broadcast_to(right, got.shape), rtol=1e-9, atol=1e-9)
    # over the arrays that it reads, as an optimizer's and a slope are computed; t is spent
    formula = Formula(("x", "out", "row"), tuple(roots))
    arrays = {name: np.array(a) for name, a in ARRAYS.items() if name != "u"} | {"u": ARRAYS["u"]}
    over = rng.choice([None, "c"])
    out = arrays["c"] if over else np.full((B, O), np.nan)
    row = np.full((B, 1), np.nan)
    calls = Tape(np, formula, {"out": over} if over else {}, ("t",)).bind((B, O), np.dtype(float), new)
    calls(**arrays, out=out, row=row)
    for got, right in zip((arrays["x"], out, row), expected, strict=True):
        np.testing.assert_allclose(got, np.broadcast_to(right, got.shape), rtol=1e-9, atol=1e-9)


def test_truths_of_one_condition_are_not_those_of_another():
    given = leaves()
    x, t, c = given["x"], given["t"], given["c"]
    root = ops.where(x < t, ops.where(c, x, t) * 2.0, x)
    np.testing.assert_array_equal(evaluate([root])[0], by_numpy([root], ARRAYS)[0])


def adam(w, g, m, v, top, rate, decay, keep_1, keep_2, epsilon):
    """With AMSGrad's third slot."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    top = ops.maximum(top, v)
    return {"w": decay * w - rate * m / (ops.sqrt(top) + epsilon), "m": m, "v": v, "top": top}


def nadam(w, g, m, v, rate, decay, now, coming):
    """Four numbers a step."""
    m = 0.9 * m + 0.1 * g
    v = 0.99 * v + 0.01 * g * g
    return {"w": decay * w - rate * (coming * m + now * g) / (ops.sqrt(v) + 1e-7), "m": m, "v": v}


def previous(w, g, last):
    """Slots that change places with the weights: nothing may be overwritten before it was copied."""
    return {"w": last - g, "last": w}


@pytest.mark.parametrize(
    ("rule", "slots", "scalars", "constants", "arrays"),
    [
        (adam, ("m", "v", "top"), ("rate", "decay"), {"keep_1": 0.1, "keep_2": 0.01, "epsilon": 1e-7}, 1),
        (nadam, ("m", "v"), ("rate", "decay", "now", "coming"), {}, 2),
        (previous, ("last",), (), {}, 1),
    ],
)
@pytest.mark.parametrize("ones", [(), ("decay",)])
def test_updates_in_place(rule, slots, scalars, constants, arrays, ones):
    formula = formulas.update(rule, slots, scalars, constants)
    tape = Tape(np, formula, {}, ("g",), ones)
    assert len(tape._kinds) <= arrays, tape.source
    given = {name: RNG.uniform(0.5, 1.0, 50) for name in ("w", "g", *slots)}
    numbers = {name: 1.0 if name == "decay" else 0.1 * i + 0.2 for i, name in enumerate(scalars)} | constants
    expected = rule(**{k: v.copy() for k, v in given.items()}, **numbers)
    tape.bind((50,), np.dtype(float), new)(**given, **numbers)
    for name, right in expected.items():
        np.testing.assert_allclose(given[name], right, rtol=1e-14)


def test_the_type_of_numbers_stays():
    given = leaves()
    roots = without_flats([ops.where(given["x"] > given["u"], ops.softmax(given["x"]) * 0.3, given["r"])])
    out = np.zeros((B, O), np.float32)
    seen = set()

    def scratch(index, shape, dtype):
        seen.add(np.dtype(dtype).itemsize)
        return new(index, shape, dtype)

    narrow = {k: v if isinstance(v, float) else v.astype(np.float32) for k, v in ARRAYS.items()}
    Tape(np, Formula(("out",), tuple(roots))).bind((B, O), np.dtype(np.float32), scratch)(**narrow, out=out)
    assert max(seen) == 4
    np.testing.assert_allclose(out, evaluate(roots)[0], rtol=1e-6)
