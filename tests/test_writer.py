"""The source text that formulas become, executed: C++ on the host, and Python as it is; against float64."""

import dataclasses
import functools
import itertools

import formula_cases
import numpy as np
import pytest
from formula_cases import ROWS, WIDTH
from host.runtime import HostKernelError, HostRuntime

from gpumlp import formulas, kernel_sources, ops
from gpumlp.backends.writer import CPP, NUMBA, element_function, is_sum, reads_columns, row_function

CASES = formula_cases.all_cases()
THREADS, LANES = 32, 4  # ROWS leave some groups without a row, and WIDTH some lanes without a second element


def text(language, name, case):
    if case.arrays:
        return row_function(language, name, case.formula, case.arrays, case.arguments, case.into, case.adds)
    return element_function(language, name, case.formula, case.arguments)


# ---- Python, one lane ------------------------------------------------------------------------------------------------
def _first_of(value, place, v, at):
    better = place < 0 or (v != v and value == value) or v > value
    return (v, at) if better else (value, place)


PYTHON = {
    "float32": np.float32, "int64": np.int64, "ZERO": np.float32(0.0), "ONE": np.float32(1.0),
    "INFINITY": np.float32(np.inf), "NAN": np.float32(np.nan), "LARGEST": np.float32(formula_cases.MOST),
    "clip": lambda v, low, high: np.minimum(np.maximum(v, low), high),
    **{n: f for n, f in formula_cases.NUMPY.items() if n not in ("sum", "largest", "argmax", "column", "where")},
    "group_sum": lambda v, memory: v, "group_max": lambda v, memory: v, "first_of": _first_of,
    "group_argmax": lambda v, place, memory, places: place,
}  # fmt: skip


def run_python(case, inputs, language=NUMBA):
    """Return the roots, by the Python text, in their order."""
    space = dict(PYTHON)
    exec(text(language, "f", case), space)
    found = {n: np.full((ROWS, WIDTH), np.nan, np.float32) for n in case.formula.names}
    constants = [np.float32(c) for c in case.constants]
    with np.errstate(all="ignore"):
        for r in range(ROWS):
            if case.arrays:
                arrays = {a: inputs.get(a) for a in case.arrays}
                for root, a in case.into.items():
                    arrays[a] = found[root]
                    found[root][r] = 0.0 if case.adds else np.nan
                values = [inputs[a][r, 0] for a in case.arguments if a in inputs]
                values += [np.float32(0.0)] * (len(case.arguments) - len(values))
                got = space["f"](*arrays.values(), *values, r, WIDTH, WIDTH, 0, 1, None, None, *constants)
                returned = [n for n in case.formula.names if n not in case.into]
                for n, value in zip(returned, got if isinstance(got, tuple) else [got], strict=False):
                    found[n][r] = value
            else:
                for c in range(WIDTH):
                    values = [inputs[a][r, c] if a in inputs else np.float32(np.nan) for a in case.arguments]
                    got = space["f"](*values, *constants)
                    for n, value in zip(case.formula.names, got if isinstance(got, tuple) else [got], strict=True):
                        found[n][r, c] = value
    return list(found.values())


# ---- C++, in groups of four lanes ------------------------------------------------------------------------------------
def probe(k, case, language):
    """Return a kernel that calls the function of a case for all there is: out, what it reads, and its constants."""
    constants = "".join(f", float c{i}" for i in range(len(case.constants)))
    passed = "".join(f", c{i}" for i in range(len(case.constants)))
    n = len(case.arguments)
    function = text(language, f"f{k}", case)
    names = case.formula.names
    if not case.arrays:
        read = "".join(f"float a{i} = in{i}[e]; " for i in range(n))
        arrays = "".join(f", Global<const float> in{i}" for i in range(n))
        call = f"f{k}({', '.join(f'a{i}' for i in range(n))}{passed})"
        if len(names) == 1:
            write = f"out[e] = {call};"
        else:
            places = [case.arguments.index(name) for name in names]
            write = f"{call}; " + " ".join(f"out[{i} * count + e] = a{at};" for i, at in enumerate(places))
        body = f"for (long long e = first_element(); e < count; e += element_stride()) {{ {read}{write} }}"
        head = f"KERNEL(probe{k})(Global<float> out{arrays}, long long count{constants})"
        return f"{function}\n{head} {{ begin(); {body} }}\n"
    written = set(case.into.values())
    arrays = "".join(f", Global<{'float' if a in written else 'const float'}> a{i}" for i, a in enumerate(case.arrays))
    sizes = "".join(f", long long n{i}" for i in range(len(case.arrays)))
    rows = ", ".join(f"part(a{i}, row * n{i}, n{i})" for i in range(len(case.arrays)))
    values = "".join(f", {0.75}f" for _ in case.arguments)
    returned = [name for name in names if name not in case.into]
    call = f"f{k}({rows}{values}, (int)width, end, lane, LANES{passed});"
    store = "; ".join(
        f"out[{i} * rows + row] = v{'' if len(returned) == 1 else f'.at[{i}]'}" for i in range(len(returned))
    )
    body = f"""
    int lane = thread_index() % LANES;
    long long row = block_index() * (THREADS / LANES) + thread_index() / LANES;
    int end = row < rows ? (int)width : 0;
    row = row < rows ? row : 0;
    {"auto v = " if returned else ""}{call}
    {f"if (lane == 0 && end) {{ {store}; }}" if returned else ""}
"""
    head = f"KERNEL(probe{k})(Global<float> out{arrays}, long long rows, long long width{sizes}{constants})"
    return f"{function}\n{head} {{ begin(); {body} }}\n"


def source_of(cases, language=CPP):
    return f"#define LANES {LANES}\n" + "\n".join(probe(k, case, language) for k, case in enumerate(cases))


def compiled(cases, language=CPP, before="elementary.cuh", runtime=HostRuntime):
    """Return a function like `run_python` over C++ of all cases, compiled at once."""
    source = f"#define THREADS {THREADS}\n{kernel_sources.expanded(before)}{source_of(cases, language)}"
    runtime = runtime(mutate=lambda file, old: source)

    def run(case, inputs):
        k = next(i for i, c in enumerate(cases) if c.name == case.name)
        to_device, none = (lambda a: runtime.empty(a.shape, np.float32)), runtime.zeros((ROWS, WIDTH), np.float32)
        there = {n: to_device(a) for n, a in inputs.items()}
        for n, a in inputs.items():
            there[n][...] = a
        names, launch = case.formula.names, {"THREADS": THREADS}
        if not case.arrays:
            out = runtime.empty((len(names), ROWS, WIDTH), np.float32)
            arguments = (out, *(there.get(a, none) for a in case.arguments), out[0].size, *map(float, case.constants))
            runtime.launch("take.cu", f"probe{k}", launch, (3, 1), arguments)
            return list(np.array(out))
        out, found = runtime.empty((len(names), ROWS), np.float32), {}
        for root, a in case.into.items():
            found[root] = there[a] = runtime.zeros((ROWS, WIDTH), np.float32)
        arrays = [there.get(a, none) for a in case.arrays]
        sizes = [a.shape[1] for a in arrays]
        blocks = -(-ROWS // (THREADS // LANES))
        arguments = (out, *arrays, ROWS, WIDTH, *sizes, *map(float, case.constants))
        runtime.launch("take.cu", f"probe{k}", launch, (blocks, 1), arguments)
        returned = iter(out)
        return [np.array(found[n]) if n in found else np.array(next(returned))[:, None] for n in names]

    return run


@pytest.fixture(scope="module")
def run_cpp():
    return compiled(CASES)


def inputs_of(case, seed=0):
    inputs = case.inputs(np.random.default_rng(seed))
    if "y" in inputs:  # what is retained goes with z
        forward = next(c for c in CASES if c.name == case.name.removesuffix(" back"))
        z = np.random.default_rng(seed + 1).standard_normal((ROWS, WIDTH)).astype(np.float32) * 2
        inputs["y"] = forward.truth({"z": z})[0].astype(np.float32)
        if "z" in inputs:
            inputs["z"] = z
    return inputs


def error(case, inputs, got):
    """Return how far the roots are from the truth, in parts of what they may be: above 1, something is wrong."""
    worst = 0.0
    for truth, value in zip(case.truth(inputs), got, strict=True):
        value = value.astype(np.float64)
        if not np.array_equal(np.isnan(value), np.isnan(np.broadcast_to(truth, value.shape))):
            return np.inf
        with np.errstate(invalid="ignore"):
            apart = np.where(value == truth, 0.0, np.abs(value - truth) / (1e-5 + 2e-5 * np.abs(truth)))
        worst = max(worst, np.nanmax(apart, initial=0.0))
    return worst


def name_of(case):
    return case.name


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_python_text(case):
    inputs = inputs_of(case)
    assert error(case, inputs, run_python(case, inputs)) < 1, text(NUMBA, "f", case)


def test_cpp_text_by_what_nvrtc_makes_of_it():
    from ptx.runtime import PtxRuntime, nvrtcs

    text = f"#define THREADS {THREADS}\n{kernel_sources.expanded('elementary.cuh')}{source_of(CASES)}"
    ptx = nvrtcs.get().compile(text, "sm_90", ptx=True)[0].decode()
    assert all(f"probe{k}" in ptx for k in range(len(CASES))) and ".f64" not in ptx, "nothing is double"
    run = compiled(CASES, runtime=functools.partial(PtxRuntime, version=nvrtcs.NEWEST))
    assert [case.name for case in CASES for i in [inputs_of(case)] if error(case, i, run(case, i)) > 1] == []


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_cpp_text(case, run_cpp):
    inputs = inputs_of(case)
    assert error(case, inputs, run_cpp(case, inputs)) < 1, text(CPP, "f", case)


def names_that_differ(mutate):
    """Return which names of elementary.cuh are not NumPy's, of numbers near, far, and none."""
    differ, numbers = [], np.array(formula_cases.NUMBERS)
    kernels = "".join(
        f"KERNEL(of_{name})(Global<float> out, Global<const float> in, long long count) {{ begin();"
        f"for (long long e = first_element(); e < count; e += element_stride())"
        f" out[e] = {name}({', '.join(f'in[{i} * count + e]' for i in range(arguments))}); }}\n"
        for name, (arguments, _) in formula_cases.NAMES.items()
    )
    text = mutate(kernel_sources.expanded("elementary.cuh")) + kernels
    runtime = HostRuntime(mutate=lambda file, old: text)
    for name, (arguments, function) in formula_cases.NAMES.items():
        given = np.array(list(itertools.product(numbers, repeat=arguments))).T.copy()
        there, out = runtime.empty(given.shape, np.float32), runtime.empty(given.shape[1], np.float32)
        there[...] = given
        runtime.launch("take.cu", f"of_{name}", {"THREADS": 32}, (2, 1), (out, there, out.size))
        with np.errstate(all="ignore"):
            truth = function(*given.astype(np.float64)).astype(np.float32)
        if not np.allclose(np.array(out), truth, rtol=1e-6, atol=1e-37, equal_nan=True):
            differ.append(name)
    return differ


NAME_BREAKS = {
    "maximum": ("return a <= b || b != b ? b : a", "return a <= b ? b : a"),
    "minimum": ("return a >= b || b != b ? b : a", "return a >= b ? b : a"),
    "step": ("(v == v ? 0.0f : v)", "0.0f"),
    "sign": ("(v < 0.0f ? -1.0f : v)", "-1.0f"),
    "sigmoid": ("(1.0f + expf(-z))", "(1.0f + expf(z))"),
    "softplus": ("expf(-fabsf(z))", "expf(z)"),
    "clip": ("v > high ? high : v", "v < high ? v : high"),
}


def test_names_are_numpys():
    assert names_that_differ(lambda text: text) == []


@pytest.mark.parametrize("name", NAME_BREAKS)
def test_a_broken_name_shows(name):
    old, new = NAME_BREAKS[name]

    def mutate(text):
        assert text.count(old) == 1
        return text.replace(old, new)

    assert name in names_that_differ(mutate)


# ---- far out ---------------------------------------------------------------------------------------------------------
FAR = np.array([-np.inf, -3e38, -1e30, -200.0, -1e-30, 0.0, 1e-30, 3.0, 200.0, 1e30, np.inf, np.nan], np.float32)


@pytest.mark.parametrize("case", [c for c in CASES if not c.arrays and c.arguments[0] in ("z", "dy")], ids=name_of)
def test_activations_far_out(case, run_cpp):
    """What float64 gives, rounded; two values of a name, as there are z, y and dy."""
    z = np.resize(FAR, (ROWS, WIDTH)).astype(np.float32)
    forward = next(c for c in CASES if c.name == case.name.removesuffix(" back"))
    with np.errstate(all="ignore"):
        y = forward.truth({"z": z})[0].astype(np.float32)
        inputs = {"z": z, "y": y, "dy": np.full_like(z, 0.5)}
        inputs = {name: inputs[name] for name in case.formula.leaves if name in inputs}
        truth = case.truth(inputs)[0].astype(np.float32)
    for got in (run_python(case, inputs)[0], run_cpp(case, inputs)[0]):
        # alpha is rounded in the slopes of these, y + alpha, and does not cancel
        atol = 2e-7 if case.name in ("selu back", "celu_alpha back") else 1e-36
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=atol)


# ---- a rule that is broken shows -------------------------------------------------------------------------------------
def changed(language, **changes):
    return dataclasses.replace(language, **changes)


def reduction(language, op, **changes):
    how = {**language.reductions, op: dataclasses.replace(language.reductions[op], **changes)}
    return changed(language, reductions=how)


def call(language, op, form):
    return changed(language, calls={**language.calls, op: form})


PYTHON_BREAKS = {
    "a choice swapped": changed(NUMBA, choice="({2} if {0} else {1})"),
    "or for and": changed(NUMBA, both="({} or {})"),
    "and for or": changed(NUMBA, both="({} and {})", either="({} and {})", neither="({})"),
    "a sum that keeps its last": reduction(NUMBA, "sum", take="{0} = {1}"),
    "a sum from one": reduction(NUMBA, "sum", start="{} = ONE"),
    "the largest from zero": reduction(NUMBA, "largest", start="{} = ZERO"),
    "the smallest": reduction(NUMBA, "largest", take="{0} = minimum({0}, {1})"),
    "the last place": reduction(NUMBA, "argmax", take="{0}, place_{0} = {1}, j"),
    "one element short": changed(NUMBA, loop="for j in range(lane, end - 1, lanes):"),
    "another column": changed(NUMBA, column="{0}[r, {1} - 1]"),
    "no index": changed(NUMBA, names={**NUMBA.names, "index": "ZERO"}),
    "a width of one": changed(NUMBA, names={**NUMBA.names, "width": "ONE"}),
    "what is added to is overwritten": changed(NUMBA, add="{} = -{}"),
    "clipped to the other side": call(NUMBA, "minimum", "maximum({}, {})"),
    "log for log1p": call(NUMBA, "log1p", "log({})"),
}
CPP_BREAKS = {
    "lanes that are not added": reduction(CPP, "sum", of_group=""),
    "lanes that are not compared": reduction(CPP, "largest", of_group=""),
    "the best of one lane": reduction(CPP, "argmax", of_group="float {0} = (float)best_{0}.place;"),
    "all elements by every lane": changed(CPP, loop="for (int j = 0; j < end; j += 1) {{"),
    "a column where there is no row": changed(CPP, column="{0}[{1} - 1]"),
    "a multiply-add that subtracts": call(CPP, "fma", "multiply_add({}, {}, -({}))"),
}


@pytest.mark.parametrize("name", PYTHON_BREAKS)
def test_a_broken_rule_of_python_shows(name):
    assert any(
        error(case, i, run_python(case, i, PYTHON_BREAKS[name])) > 1 for case in CASES for i in [inputs_of(case)]
    )


@pytest.mark.parametrize("name", CPP_BREAKS)
def test_a_broken_rule_of_cpp_shows(name):
    cases = [case for case in CASES if case.arrays]
    run = compiled(cases, CPP_BREAKS[name])

    def wrong(case):
        inputs = inputs_of(case)
        try:
            return error(case, inputs, run(case, inputs)) > 1
        except HostKernelError:
            return True

    assert any(map(wrong, cases))


# ---- what is asked of formulas ---------------------------------------------------------------------------------------
def test_what_is_a_sum_and_what_reads_columns():
    by_name = {case.name: case.formula for case in CASES}
    assert is_sum(by_name["penalty 2"], "value") and not is_sum(by_name["penalty 1"], "value")
    assert reads_columns(by_name["centred"]) and not reads_columns(by_name["softmax"])


@pytest.mark.parametrize("language", [CPP, NUMBA], ids=["C++", "Python"])
def test_names_of_users_are_none_of_the_languages(language):
    def loss(t, p, **numbers):
        return ops.mean(ops.square(p - t), -1) * sum(numbers.values())

    numbers = {"end": 2.0, "lambda": 3.0, "double": 4.0, "lane": 5.0, "\N{GREEK SMALL LETTER DELTA}": 6.0, "sum1": 7.0}
    case = formula_cases.Case(
        "names", formulas.loss(loss, numbers, False), numbers, ("factor",), ("dp", "t", "p"), {"dp": "dp"}
    )
    inputs = inputs_of(case)
    got = run_python(case, inputs) if language is NUMBA else compiled([case])(case, inputs)
    assert error(case, inputs, got) < 1 and text(language, "f", case).isascii()


@pytest.mark.parametrize("language", [CPP, NUMBA], ids=["C++", "Numba"])
def test_a_deep_formula_is_written(language):
    """Of 300 times two operations on the way there, and as many back: deeper than Python's stack."""

    def deep(t, p):
        for _ in range(300):
            p = ops.tanh(p) * 0.9 + p * 0.1
        return ops.mean(ops.square(t - p), -1)

    formula = formulas.loss(deep, {}, False)
    text = row_function(language, "row_loss", formula, ("dp", "t", "p"), ("factor",), {"dp": "dp"})
    assert text.count("tanhf(") + text.count("tanh(") >= 300 and max(map(len, text.splitlines())) < 200
