"""gpumlp against numbers that Keras computed once, in float64 (``tests/golden``): no Keras is needed here.

What gpumlp does not have yet is skipped, with its name; what it has is compared. Left out of slopes are ties, where
JAX shares a gradient among those that are equal, and, but for activations, all kinks; of everything what is NaN in
Keras by accident. NaN gives NaN, which Keras does not always hold to.
"""

from __future__ import annotations

import inspect

import golden
import numpy as np
import parity_signatures
import pytest

import gpumlp
from gpumlp import layers
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.engine.arena import alone, lay_out
from gpumlp.engine.network import Network, describe
from gpumlp.engine.program import LoopProgram, StepLogs
from gpumlp.missing import Missing

MODULES = ("activations", "losses", "metrics", "optimizers", "initializers", "regularizers")


def every(kind):
    """Parametrize a test by all cases of a kind."""
    found = golden.cases(kind)
    return pytest.mark.parametrize("case", found, ids=[c.id for c in found])


def of(module):
    """Return a module of gpumlp; skip where there is none."""
    found = gpumlp
    for part in module.split("."):
        found = getattr(found, part, None)
        if found is None:
            pytest.skip(f"gpumlp has no {module} yet")
    return found


def found(module, name):
    """Return what has a name in a module of gpumlp; skip where there is nothing."""
    thing = getattr(of(module), name, None)
    if thing is None or isinstance(thing, Missing):
        pytest.skip(f"gpumlp has no {module}.{name} yet")
    return thing


def made(module, name, config):
    """Return an object with a configuration of Keras's; skip where the class or an argument is not there yet."""
    kind = found(module, name)
    kind = kind if isinstance(kind, type) else kind.given
    unknown = [k for k in config if k not in inspect.signature(found(module, name)).parameters]
    if unknown:
        pytest.skip(f"gpumlp has no {', '.join(unknown)} in {module}.{name} yet")
    try:
        return kind(**config)
    except NotImplementedError as error:
        pytest.skip(f"gpumlp has not yet: {error}")


def agree(what, ours, theirs, rtol=golden.RTOL, atol=golden.ATOL, keep=True):
    """Fail where the numbers that are kept differ."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if keep is not True and ours.shape == theirs.shape:
        ours, theirs = np.where(keep, ours, 0.0), np.where(keep, theirs, 0.0)
    assert not (text := golden.difference(ours, theirs, rtol, atol)), f"{what}: {text}"


# Where gpumlp is not Keras: by what is compared and a case's name and configuration, at which inputs, and why.
AT_ZERO = "which slope holds at the kink is the engine's convention: JAX takes the right one, TensorFlow the left one"
LARGEST = "infinite logits are the largest numbers, so that losses with them are finite"
SUMS = "Keras adds up sums of what it has sorted: what it gives is not what adds up to 1"
OVERFLOWS = "Keras's square overflows, or is 0"
AT_THE_CLIP = "the probability is at the clip's edge, where JAX shares the slope with the limit"
NAN = "Keras has an infinity over an infinity, or times 0, where there is a limit"
ALL = Ellipsis
DIFFERS = {
    ("values", "relu(negative_slope=0.2,max_value=3.0,threshold=-0.5)-line"): (
        (-0.25, -1e-8, -1e-300), "Keras cuts off at 0 from below where there is a max_value, above the threshold too"
    ),
    **{
        ("slopes", f"relu({config})-line"): (kinks, AT_ZERO)
        for config, kinks in {
            "negative_slope=0.1": (0.0,), "negative_slope=0.1,max_value=2.0": (0.0,),
            "negative_slope=0.1,threshold=1.5": (1.5,), "negative_slope=0.2,max_value=3.0,threshold=0.5": (0.5,),
            "negative_slope=0.2,max_value=3.0,threshold=-0.5": (-0.5, -0.25, -1e-8, -1e-300),
        }.items()
    },
    **{
        ("slopes", f"leaky_relu({config})-line"): ((0.0,), AT_ZERO)
        for config in ("", "negative_slope=0.0", "negative_slope=0.3")
    },
    **{
        (what, f"sparsemax({at}"): (ALL, SUMS)
        for what in ("values", "slopes") for at in (")-rows", ")-cube", "axis=0)-cube", "axis=1)-cube")
    },
    **{
        (what, f"squareplus({b})-line"): ((1e200, -1e200), OVERFLOWS)
        for what in ("values", "slopes") for b in ("", "b=1")
    },
    ("values", "squareplus(b=0.0)-line"): ((1e200, -1e200), OVERFLOWS),
    ("slopes", "squareplus(b=0.0)-line"): ((1e200, -1e200, 1e-300, -1e-300), OVERFLOWS),
    ("values", "log_softmax()-rows"): ((-np.inf,), LARGEST),
    **{
        ("slopes", f"BinaryFocalCrossentropy({config})-t_bits_edge"): ((2, 12), AT_THE_CLIP)
        for config in ("", "alpha=0.6", "apply_class_balancing=True")
    },
    ("slopes", "BinaryFocalCrossentropy(gamma=0.0)-t_bits_edge"): ((20,), NAN),
    ("slopes", "MeanSquaredLogarithmicError()-t_positive_edge"): ((6,), NAN),
    ("values", "BinaryCrossentropy(from_logits=True,label_smoothing=0.1)-t_bits_far"): ((3,), LARGEST),
}  # fmt: skip


def known(case, what, among):
    """Return where, by the list, gpumlp differs from Keras: at which of these numbers."""
    where = DIFFERS.get((what, case.id), ((), ""))[0]
    return np.full(np.shape(among), True) if where is ALL else np.isin(among, where)


def still_differs(ours, theirs, apart):
    """Fail where nothing differs any more that is on the list."""
    differ = np.asarray(ours) != theirs
    assert differ.any() if apart.all() else differ[apart].all(), "no longer differs: take it off the list"


def loose(case, what):
    """Return the absolute tolerance of an activation: far below what training sees: small values must be right.

    Keras's gelu has 1 + erf and 1 + tanh, and its squareplus x + sqrt(x^2 + b), which cancel for negative numbers; so
    do its slopes of softsign and of tanh_shrink. gpumlp has the slopes of tanh and selu from their values.
    """
    if case.name in ("gelu", "squareplus"):
        return 4e-15 if case.name == "gelu" else 1e-13
    return 4e-15 if what == "slopes" and case.name in ("tanh", "selu", "softsign", "tanh_shrink") else 1e-300


# ---- the reader ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "differs"),
    [
        ([1.0, np.nan, np.inf, -0.0], False),
        ([1.0 + 1e-11, np.nan, np.inf, 0.0], True),
        ([1.0, 0.0, np.inf, 0.0], True),
        ([1.0, np.nan, -np.inf, 0.0], True),
        ([1.0, np.nan, 1e300, 0.0], True),
        ([1.0, np.nan, np.inf, np.nan], True),
        ([1.0, np.nan, np.inf, 1e-14], True),
        ([1.0, np.nan, np.inf], True),
    ],
)
def test_a_difference_shows(ours, differs):
    assert bool(golden.difference(ours, [1.0, np.nan, np.inf, 0.0])) is differs


@pytest.mark.parametrize("kind", [*MODULES, "constraints", "api"])
def test_names_of_cases_are_their_own(kind):
    ids = [(c.id, str(c.names)) for c in golden.cases(kind)]
    assert len(set(ids)) == len(ids) > 0


@pytest.mark.parametrize("kind", ["activations", "losses", "metrics", "optimizers", "initializers", "regularizers"])
def test_what_gpumlp_has_has_cases(kind):
    theirs = {name.replace("_", "").lower() for name in (c.name for c in golden.cases(kind))}
    known = {plain(k.__name__) for k in of(kind).KNOWN.values() if k is not None}
    assert known <= theirs


# ---- activations -----------------------------------------------------------------------------------------------------


@every("activations")
def test_activation_values(case):
    function = found("activations", case.name)
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in case.config.items()}
    unknown = [k for k in config if k not in inspect.signature(function).parameters]
    if unknown:
        pytest.skip(f"gpumlp has no {', '.join(unknown)} in activations.{case.name} yet")
    x, y = case.inputs["x"], case.expected["y"]
    ours, keep = function(x, **config), True
    if y.shape == x.shape:
        keep = case.keep(x.shape, "accident", "nan")
        assert np.isnan(ours[np.isnan(x)]).all()
    if (apart := known(case, "values", x)).any():
        still_differs(ours, y, apart)
        keep &= ~apart
    agree("values", ours, y, atol=loose(case, "values"), keep=keep)


@every("activations")
def test_activation_slopes(case):
    if case.name == "glu":
        pytest.skip("glu is for arrays")
    activation = made("activations", case.name, case.config)
    z = case.inputs["x"]
    rows = z.reshape(-1, z.shape[-1]).copy()
    y, dz = np.empty_like(rows), case.inputs["c"].reshape(rows.shape).copy()
    with np.errstate(all="ignore"):
        NumpyBackend().activation_forward(activation, rows.copy(), y)
        NumpyBackend().activation_backward(activation, dz, y, rows)
    dz, keep = dz.reshape(z.shape), case.keep(z.shape, "tie", "accident", "nan")
    chosen = case.name == "relu" and case.config  # a choice by what NaN is not above
    assert np.isnan(dz[np.isnan(z)]).all() or case.name == "linear" or chosen
    dx = case.expected["dx"]
    if (apart := known(case, "slopes", z)).any():
        still_differs(dz, dx, apart)
        keep &= ~apart
    agree("slopes", dz, dx, atol=loose(case, "slopes"), keep=keep)


# ---- losses ----------------------------------------------------------------------------------------------------------


@every("losses")
def test_loss_values(case):
    made("losses", case.name, case.config)
    t, p, w = (case.inputs.get(k) for k in ("t", "p", "w"))

    def value(reduction, w=None):
        return made("losses", case.name, case.config | {"reduction": reduction})(t, p, sample_weight=w)

    keep = case.keep(case.expected["values"].shape, "accident_values")
    ours, theirs = value("none"), case.expected["values"]
    if (apart := known(case, "values", np.arange(theirs.size).reshape(theirs.shape))).any():
        still_differs(ours, theirs, apart)
        keep &= ~apart
    agree("values", ours, theirs, keep=keep)
    for key, weights in (("reduced", None), ("weighted", w)):
        for reduction, expected in case.expected.get(key, {}).items():
            agree(f"{key}, {reduction}", value(reduction, weights), expected)


@every("losses")
def test_loss_slopes(case):
    loss = made("losses", case.name, case.config)
    t, p, w = (case.inputs.get(k) for k in ("t", "p", "w"))
    if p.ndim != 2 or case.name == "Circle":
        pytest.skip("slopes are those of rows")
    shape = p.shape
    if case.name in ("Dice", "Tversky") and loss.axis is None:
        t, p = t.reshape(1, -1), p.reshape(1, -1)
    t, dp = t.reshape(len(p), -1).astype(p.dtype), np.empty_like(p)
    keep = case.keep(shape, "kink", "tie", "accident", "nan")
    with np.errstate(all="ignore"):
        NumpyBackend().loss(loss, t, p, None, dp)
        ours, theirs = (dp * len(p)).reshape(shape), case.expected["dp"]
        if (apart := known(case, "slopes", np.arange(dp.size).reshape(shape))).any():
            still_differs(ours, theirs, apart)
            keep &= ~apart
        agree("slopes", ours, theirs, keep=keep)
        if w is not None:
            if (counts := loss.counts(t, w)) is not None:
                w = w * counts.size / counts.sum()
            NumpyBackend().loss(loss, t, p, w, dp)
            agree("weighted slopes", dp, case.expected["dp_weighted"], keep=keep)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def metric_of(case):
    config = dict(case.config)
    if case.name == "MeanMetricWrapper":
        config["fn"] = found("metrics", config["fn"])
        return gpumlp.metrics.MeanMetricWrapper(**config)
    return made("metrics", case.name, config)


@pytest.mark.filterwarnings("ignore:.* counts whole weights", "ignore:More independent predictors")
@every("metrics")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_metrics_used_alone(case, weighted):
    """After each of three updates, and after a reset."""
    metric = metric_of(case)
    expected = case.expected.get("weighted" if weighted else "plain")
    for i, (batch, w) in enumerate(zip(case.inputs["batches"], case.inputs["weights"], strict=True)):
        if expected is None:
            with pytest.raises(ValueError, match="sample_weight"):
                metric.update_state(*batch, sample_weight=w)
            return
        metric.update_state(*batch, sample_weight=w if weighted else None)
        agree(f"after update {i + 1}", metric.result(), expected[i], rtol=case.expected.get("rtol", golden.RTOL))
    metric.reset_state()
    agree("after a reset", metric.result(), expected[-1])


@every("metrics")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_metrics_by_what_programs_add_up(case, weighted):
    """Targets and outputs as a model has them, [n, outputs]."""
    metric = metric_of(case).changed(weighted=weighted)
    if not metric.series:
        pytest.skip("the host computes it")
    expected, sums = case.expected["weighted" if weighted else "plain"], 0.0
    network = Network((), (1,), (1,), (1,), (), ())
    program = LoopProgram(network, lay_out([], np.dtype("f8"), NumpyBackend()), NumpyBackend(), 8)
    for i, ((t, p), w) in enumerate(zip(case.inputs["batches"], case.inputs["weights"], strict=True)):
        logs = StepLogs.zeros(1, [metric])
        t, p = (np.asarray(a, "f8").reshape(len(a), -1) for a in (t, p))
        with program.backend.running():
            program._measure(logs, 0, [metric], t, p.copy(), w if weighted else None)
        sums = sums + np.concatenate([logs.totals[0], logs.counts[0]])
        agree(f"after update {i + 1}", metric.of(*sums), expected[i], rtol=case.expected.get("rtol", golden.RTOL))


# ---- optimizers ------------------------------------------------------------------------------------------------------

SLOTS = {  # gpumlp's name, and Keras's where that is another one
    "m": "momentum", "v": "velocity", "mean": "average_gradient", "top": "velocity_hat", "u": "norm", "z": "momentum",
    ("Adadelta", "v"): "accumulated_grad", ("Adadelta", "d"): "accumulated_delta_var",
}  # fmt: skip


def tuned(case):
    """Return the optimizer of a case; "exclude" of its configuration is what does not decay."""
    config = dict(case.config)
    names = config.pop("exclude", None)
    optimizer = made("optimizers", case.name, config)
    if names is not None:
        optimizer.exclude_from_weight_decay(var_names=names)
    return optimizer


def agree_on_slots(case, name, arrays):
    """Fail where the state is not Keras's; of a matrix Muon has no velocity."""
    theirs = SLOTS.get((case.name, name), SLOTS.get(name, name))
    for variable, array in zip(("kernel", "bias"), arrays, strict=True):
        if (expected := case.expected["slots"].get(f"{variable}_{theirs}")) is not None:
            agree(f"slot {name} of the {variable}", array, expected)


@every("optimizers")
def test_optimizers_in_a_model_s_arena(case):
    optimizer = tuned(case)
    network = describe([layers.Dense(3)], (4,))
    arena = alone(network.weights, np.float64)
    program = LoopProgram(network, arena, arena.backend, 1)
    arena.set(case.inputs["weights"])
    slots = optimizer.slots_for(arena, [])
    gradients = arena.views(program.grads)
    for grads, expected in zip(case.inputs["grads"], case.expected["steps"], strict=True):
        step = optimizer.steps + 1
        for there, grad in zip(gradients, grads, strict=True):
            there[...] = grad / (optimizer.loss_scale_factor or 1.0)  # a model scales none
        with arena.backend.running():
            program._update(optimizer, slots, step, optimizer.scalars(step))
        optimizer.count(1)
        for ours, theirs in zip(arena.get(), expected, strict=True):
            agree(f"weights after step {step}", ours, theirs)
    assert optimizer.iterations == case.expected["iterations"]
    for name, slot in slots.items():
        agree_on_slots(case, name, arena.get(slot))
    if case.name == "Adafactor":  # the means of rows and columns are those of v
        kernel = arena.get(slots["v"])[0]
        agree("means of rows", kernel.mean(-1), case.expected["slots"]["kernel"])
        agree("means of columns", kernel.mean(-2), case.expected["slots"]["kernel_2"])


class Named:
    """What has a name, as a layer's weights have, and is read as an array."""

    def __init__(self, path, value):
        self.path, self.value = path, value.copy()

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype)

    def assign(self, value):
        self.value[...] = value


@every("optimizers")
def test_optimizers_on_arrays(case):
    optimizer = tuned(case)
    variables = [Named(f"dense/{n}", w) for n, w in zip(("kernel", "bias"), case.inputs["weights"], strict=True)]
    for i, (grads, expected) in enumerate(zip(case.inputs["grads"], case.expected["steps"], strict=True)):
        optimizer.apply(grads, variables)
        for variable, theirs in zip(variables, expected, strict=True):
            agree(f"weights after step {i + 1}", variable, theirs)
    for name in optimizer.slots:
        agree_on_slots(case, name, [v.slots[name] for v in optimizer._arrays])
    if "finalized" in case.expected:
        optimizer.finalize_variable_values(variables)
        for variable, theirs in zip(variables, case.expected["finalized"], strict=True):
            agree("averages", variable, theirs)


# ---- initializers, regularizers, constraints -------------------------------------------------------------------------


@every("initializers")
def test_initializers(case):
    initializer, shape = made("initializers", case.name, case.config), tuple(case.inputs["shape"])
    expected = case.expected
    if "values" in expected:
        agree("values", initializer(shape, "float64"), expected["values"])
        return
    if "gram" in expected:
        values = initializer(shape, "float64").reshape(-1, shape[-1])
        tall = values.shape[0] >= values.shape[1]
        agree("gram", values.T @ values if tall else values @ values.T, expected["gram"], atol=1e-6)
        return
    if len(shape) > 2:
        pytest.skip("gpumlp has no kernels of more than two axes yet")
    # what it draws is seen in many: within four standard errors of the moments, and inside the bounds
    many = np.concatenate([initializer(shape, "float64").reshape(-1) for _ in range(20_000 // int(np.prod(shape)) + 1)])
    if expected["distribution"] == "uniform":
        low, high = expected["minval"], expected["maxval"]
        mean, std, bounds = (low + high) / 2, (high - low) / 12**0.5, (low, high)
    else:
        mean, std = expected["mean"], expected["stddev"]
        bounds = (mean - 2 * std, mean + 2 * std) if expected["distribution"] == "truncated_normal" else (-9e9, 9e9)
        std *= 0.87962566103423978 if expected["distribution"] == "truncated_normal" else 1.0
    assert bounds[0] <= many.min() and many.max() <= bounds[1]
    if bounds[1] < 1e9:
        assert np.ptp(many) > 0.99 * (bounds[1] - bounds[0]) * (1 if expected["distribution"] == "uniform" else 0.97)
    assert abs(many.mean() - mean) < 5 * std / many.size**0.5
    assert abs(many.std() / std - 1) < 5 * 0.75 / many.size**0.5


@every("regularizers")
def test_regularizers(case):
    regularizer, w = made("regularizers", case.name, case.config), case.inputs["w"]
    dw = np.zeros_like(w)
    agree("penalty", gpumlp.regularizers.apply(regularizer, NumpyBackend(), w, dw), case.expected["penalty"])
    agree("slopes", dw, case.expected["dw"], keep=case.keep(w.shape, "kink", "tie"))


@every("constraints")
def test_constraints(case):
    agree("weights", made("constraints", case.name, case.config)(case.inputs["w"]), case.expected["w"])


# ---- the API ---------------------------------------------------------------------------------------------------------


def plain(name):
    return name.replace("_", "").lower()


@pytest.mark.parametrize(
    ("module", "name", "means"), [(m, n, c) for m in MODULES for n, c in golden.aliases(m).items() if c is not None]
)
def test_aliases(module, name, means):
    if "(wants" in means:
        pytest.skip("a name alone makes none")
    if name == "glu":
        pytest.skip("glu is for arrays")
    try:
        thing = of(module).get(name)
    except ValueError as error:
        if "depends on a model" in str(error):
            pytest.skip(f"{name!r} is what a model makes of it, as in Keras's compile; Keras's get makes {means} of it")
        if not str(error).startswith("Unknown"):
            raise
        pytest.skip(f"gpumlp.{module}.get does not know {name!r} yet")
    assert plain(getattr(thing, "__name__", type(thing).__name__)) == plain(means)


API = [c for c in golden.cases("api") if c.name != "get"]


@pytest.mark.parametrize(
    "case", [c for c in API if "config" in c.expected], ids=lambda c: f"{c.inputs['module']}.{c.name}"
)
def test_configs(case):
    wraps = case.name == "MeanMetricWrapper"
    thing = metric_of(case) if wraps else made(case.inputs["module"], case.name, case.config)
    if case.name in ("Loss", "Optimizer"):
        pytest.skip("a base, of which people make none of their own yet")
    if not hasattr(thing, "get_config"):
        pytest.skip(f"gpumlp has no get_config in {case.inputs['module']}.{case.name} yet")
    ours, theirs = thing.get_config(), case.expected["config"]
    shared = ours.keys() & theirs.keys() - {"name", "dtype", "fn"}  # a number, or a class's own; the default type
    assert {k: ours[k] for k in shared} == {k: theirs[k] for k in shared}
    if missing := theirs.keys() - ours.keys():
        pytest.skip(f"gpumlp has no {', '.join(sorted(missing))} in the config of {case.name} yet")


@pytest.mark.parametrize("case", API, ids=lambda c: f"{c.inputs['module']}.{c.name}")
def test_signatures(case):
    module = case.inputs["module"]
    thing, why = found(module, case.name), parity_signatures.WHY
    if f"{module}.{case.name}" in why:
        pytest.skip(why[f"{module}.{case.name}"])
    if not inspect.isclass(thing) and case.expected["is_class"]:
        pytest.skip(f"gpumlp's {case.name} is no class")
    ours = parity_signatures.positional(parity_signatures.parameters(thing))
    theirs = [p for p in case.expected["signature"] if p[1] == ""]
    names = [p.name for p in ours]
    assert names == [p[0] for p in theirs][: len(names)]
    for mine, other in zip(ours, theirs, strict=False):
        if f"{module}.{case.name}({mine.name})" not in why and len(other) == 3 and mine.default is not mine.empty:
            assert mine.default == other[2], mine.name
