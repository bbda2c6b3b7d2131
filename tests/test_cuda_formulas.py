"""The CUDA C++ kernels with formulas that gpumlp does not have: each operation, and whole runs both ways.

The truth is computed in float64 from the formulas' graphs by `formula_cases.evaluate`, and knows of no kernel.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import SimpleNamespace

import formula_cases as cases
import numpy as np
import pytest
from host.runtime import broken

from gpumlp import activations, formulas, layers, losses, metrics, models, ops, optimizers, regularizers
from gpumlp.activations import Activation
from gpumlp.backends import compiler, cuda_formulas
from gpumlp.backends.cuda_backend import CudaBackend
from gpumlp.backends.device_backend import is_cheap
from gpumlp.engine import fit_plan
from gpumlp.utils import set_random_seed


# ---- an optimizer of one's own ---------------------------------------------------------------------------------------
class Optimizer(optimizers.Optimizer):
    """Of a rule, which has as many numbers an update as it likes."""

    def __init__(self, rule, state, rates):
        super().__init__(0.01, weight_decay=0.1, name="own")
        self.rule, self.held, self.asked = rule, state, rates

    def state(self):
        return dict.fromkeys(self.held, 0.0)

    def update_rule(self):
        return functools.partial(self.rule, decay=1.0) if "decay" in self.asked else self.rule

    def rule_constants(self):
        return {} if self.rule is cases.swapped else {"keep_1": 0.1, "keep_2": 0.01, "epsilon": 1e-3}

    def rates(self, rate, update):
        known = {"rate": rate, "now": 0.1 + 0.01 * update, "coming": 0.8}
        return {name: known[name] for name in ("rate", *self.asked) if name in known}


# ---- the truth -------------------------------------------------------------------------------------------------------
def roots_of(formula, shape, **leaves):
    """Return a formula's roots in float64, by name."""
    given = {"index": np.arange(shape[1])[None], "width": float(shape[1]), "most": cases.MOST}
    return dict(zip(formula.names, cases.evaluate(formula.roots, {**given, **leaves}, shape), strict=True))


def trained(model, loss, optimizer, x, y, batch, epochs):
    """Return the weights and the loss of each epoch after training a stack of dense layers, by formulas alone."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    weights = [w.astype(np.float64) for w in model.get_weights()]
    slots = [{name: np.zeros_like(w) for name in optimizer.slots} for w in weights]
    stack, history, step = model.layers, [], 0
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), batch):
            step += 1
            ins, zs, ys, grads = [x[start : start + batch]], [], [], []
            for i, layer in enumerate(stack):
                zs.append(ins[-1] @ weights[2 * i] + weights[2 * i + 1])
                a = layer.activation
                ys.append(roots_of(a.formula.forward, zs[-1].shape, z=zs[-1], **a.numbers)["y"])
                ins.append(ys[-1])
            t, rows = y[start : start + batch], len(ins[0])
            given = {"t": t, "p": ys[-1], "factor": np.full((rows, 1), 1 / rows), **loss.numbers}
            found = roots_of(loss.formula, ys[-1].shape, **given)
            total, dy = total + found["value"][:, 0].sum(), found["dp"]
            for i in reversed(range(len(stack))):
                a = stack[i].activation
                dz = roots_of(a.formula.back, dy.shape, dy=dy, y=ys[i], z=zs[i], **a.numbers)["dz"]
                grads = [ins[i].T @ dz, dz.sum(axis=0), *grads]
                dy = dz @ weights[2 * i].T
            scalars = dict(zip(optimizer.scalar_names, optimizer.scalars(step), strict=True))
            for k, g in enumerate(grads):
                shape = (1, g.size)
                state = {name: slot.reshape(shape) for name, slot in slots[k].items()}
                new = roots_of(
                    optimizer.formula, shape, w=weights[k].reshape(shape), g=g.reshape(shape), **state, **scalars,
                    **optimizer.numbers,
                )  # fmt: skip
                weights[k] = new["w"].reshape(g.shape)
                slots[k] = {name: new[name].reshape(g.shape) for name in slots[k]}
        history.append(total / len(x))
    return weights, history


# ---- whole runs ------------------------------------------------------------------------------------------------------
MISH, CELU = Activation(cases.mish), Activation(cases.celu, None, (("alpha", 0.7),))
LOG_SOFTMAX = Activation(cases.log_softmax)


def focal(t, p):
    return cases.focal(t, p, 1.7, 0.25)


AMSGRAD = (cases.amsgrad, ("m", "v", "top"), ("decay",))
NADAM = (cases.nadam, ("m", "v"), ("decay", "now", "coming"))


def positive(z):
    return ops.softplus(z) + 0.1


def own_error(t, p):
    return ops.mean(ops.absolute(t - p), -1)


def gated(t, p):
    return ops.mean(ops.square(t - p * ops.sigmoid(p)), -1)


RUNS = {
    "mish, celu, cosine similarity, AMSGrad": ((MISH, CELU, "linear"), cases.cosine, AMSGRAD),
    "log_softmax, a closure, Nadam": ((MISH, "relu", LOG_SOFTMAX), cases.closure(3), NADAM),
    "softmax, focal loss": (("tanh", "softmax"), focal, AMSGRAD),
    "softmax, columns of it": (("tanh", "softmax"), cases.gaussian, NADAM),
    "poisson, numbers that are positive": ((CELU, Activation(positive)), cases.poisson, NADAM),
    "a gate, one slot read by another": (("elu", Activation(cases.mish)), gated, (cases.swapped, ("a", "b"), ())),
}  # fmt: skip


def build(run, width=5):
    stack, loss, optimizer = RUNS[run]
    set_random_seed(1)
    sizes = [9, 6, width][-len(stack) :]
    dense = [layers.Dense(n, activation) for n, activation in zip(sizes, stack, strict=True)]
    model = models.Sequential([layers.Input((3,)), *dense])
    made = Optimizer(*optimizer)
    model.compile(made, loss, metrics=[own_error], device="cuda")
    return model, losses.described(loss).for_targets(1 if loss is cases.gaussian else width, width), made


def data(loss, width=5, rows=22):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    y = rng.uniform(0.1, 1.0, (rows, 1 if loss.rows else width))
    return x, y.astype(np.float32)


@pytest.mark.parametrize("how", ["graph", "tags"])
@pytest.mark.parametrize("run", RUNS)
def test_a_model_of_formulas_of_one_s_own(gpu, monkeypatch, run, how):
    monkeypatch.setenv("GPUMLP_FIT", how)
    model, loss, optimizer = build(run)
    x, y = data(loss)
    weights, history = trained(model, loss, optimizer, x, y, 8, 3)
    before = [w.copy() for w in model.get_weights()]
    found = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    assert model.program.startswith("whole-fit kernel" if how == "tags" else "CUDA graphs"), model.program
    np.testing.assert_allclose(found["loss"], history, rtol=2e-4)
    for w, truth, start in zip(model.get_weights(), weights, before, strict=True):
        np.testing.assert_allclose(w, truth, rtol=5e-4, atol=5e-6)
        assert np.abs(truth - start).max() > 1e-3, "nothing was learned"


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", ["graph", "tags"])
def test_metrics_of_several_sums_over_a_run(gpu, monkeypatch, how, weighted):
    monkeypatch.setenv("GPUMLP_FIT", how)
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((22, 3)).astype(np.float32), np.eye(5)[rng.integers(0, 5, 22)]
    weights = {"sample_weight": rng.uniform(0.5, 2.0, 22)} if weighted else {}

    def trained_on(device, dtype):
        set_random_seed(2)
        asked = [
            metrics.Precision([0.1, 0.3], name="precision"), "mae", metrics.TopKCategoricalAccuracy(2, "two"),
            metrics.TruePositives([0.15, 0.2, 0.25], "true"),
        ]  # fmt: skip
        of_weight = [metrics.Recall(0.2, class_id=1, name="recall"), "mse", metrics.FalsePositives([0.1, 0.2], "false")]
        stack = [layers.Dense(9, "tanh", kernel_regularizer="l2"), layers.Dense(5, "softmax")]
        model = models.Sequential([layers.Input((3,)), *stack], dtype=dtype)
        model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()])
        model.compile("sgd", "categorical_crossentropy", metrics=asked, weighted_metrics=of_weight, device=device)
        more = {**weights, "validation_data": (x[:9], y[:9]), "batch_size": 8, "shuffle": False}
        history = model.fit(x, y, epochs=3, verbose=0, **more).history
        model.fit(x, y, verbose=0, **weights)  # which validates nothing: the last steps are of training
        return history, model.program

    truth = trained_on("cpu", "float64")[0]
    found, program = trained_on("cuda", "float32")
    assert program.startswith("whole-fit kernel" if how == "tags" else "CUDA graphs"), program
    for name, values in truth.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore:The whole-fit kernel can:UserWarning")
def test_a_loss_that_reads_columns_waits_for_the_lanes_that_write_them(as_gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "tags")
    runtime, found = broken("if (MEETS) barrier();", "")
    as_gpu(runtime)
    model, loss, _ = build("softmax, columns of it")
    model.fit(*data(loss), batch_size=8, verbose=0)
    assert found and "not the whole-fit kernel: given up" in model.program and "barrier" in model.program


def test_another_number_is_no_other_kernel(gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "tags")

    def texts(slope, delta, beta, rate, l2):
        stack = [
            layers.Dense(4, activations.leaky_relu.given(negative_slope=slope), kernel_regularizer=regularizers.L2(l2)),
            layers.Dense(5),
        ]
        model = models.Sequential([layers.Input((3,)), *stack])
        model.compile(optimizers.Adam(rate, beta), losses.Huber(delta), device="cuda")
        x, y = data(losses.described("mse"))
        seen, launch = set(), gpu.launch

        def note(file, function, defines, *arguments, **how):
            seen.add(compiler.text_of(file, defines))
            launch(file, function, defines, *arguments, **how)

        monkeypatch.setattr(gpu, "launch", note)
        model.fit(x, y, batch_size=8, verbose=0)
        monkeypatch.setattr(gpu, "launch", launch)
        assert model.program.startswith("whole-fit kernel")
        return seen

    once = texts(0.1, 0.5, 0.9, 0.01, 0.02)
    assert texts(0.3, 2.5, 0.8, 0.02, 0.03) == once
    assert texts(0.0, 2.5, 0.8, 0.02, 0.03) != once  # which is no number: 0 shapes a formula


# ---- what is cheap, and what the whole-fit kernel does not do --------------------------------------------------------
def test_a_slope_is_computed_where_dy_is_read_if_it_is_y_s_and_has_no_special_functions():
    cheap = {a.name for a in activations.KNOWN.values() if is_cheap(a.formula)}
    assert cheap == {
        "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "tanh", "soft_shrink", "hard_shrink", "sigmoid",
        "hard_sigmoid", "sparse_sigmoid", "exponential",
    }  # fmt: skip
    assert not is_cheap(MISH.formula) and not is_cheap(LOG_SOFTMAX.formula)
    assert is_cheap(formulas.activation(lambda z: z * 2.0 + ops.maximum(z, 0.0) * 0.0, None, {})) is False


def test_an_update_that_reduces_has_no_formula_and_is_left_to_the_array_library(gpu, monkeypatch):
    optimizer, backend = optimizers.Lamb(), CudaBackend(gpu)
    w, g = backend.zeros(4, np.float32), backend.zeros(4, np.float32)
    with pytest.raises(NotImplementedError, match="Lamb has sums over weights"):
        backend.update(optimizer, w, g, {}, 1, (0.1,))
    for how in ("graph", "tags"):
        monkeypatch.setenv("GPUMLP_FIT", how)
        model = models.Sequential([layers.Dense(4, "tanh", input_shape=(3,)), layers.Dense(5)])
        model.compile(optimizer, "mse", device="cuda")
        model.fit(*data(losses.described("mse")), verbose=0)
        assert model.program.startswith("one operation after the other") and "Lamb has sums" in model.program


def test_a_penalty_that_is_no_sum_is_left_to_graphs(gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "tags")

    def length(w):
        return 0.1 * ops.sqrt(ops.sum(ops.square(w)) + 1.0)

    def trained_on(device):
        set_random_seed(2)
        stack = [layers.Dense(4, "tanh", kernel_regularizer=length), layers.Dense(5)]
        model = models.Sequential([layers.Input((3,)), *stack])
        model.compile("sgd", "mse", device=device)
        model.fit(*data(losses.described("mse")), batch_size=8, epochs=3, shuffle=False, verbose=0)
        return model

    model = trained_on("cuda")
    assert model.program.endswith("not the whole-fit kernel: it has a penalty that is no sum over weights")
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    for got, truth in zip(model.get_weights(), trained_on("cpu").get_weights(), strict=True):
        np.testing.assert_allclose(got, truth, rtol=2e-4, atol=1e-6)


def test_activations_over_rows_are_the_last_layer_s_alone():
    from gpumlp.engine.network import describe

    def why(*stack):
        return fit_plan.stages_of(describe([layers.Dense(4, a) for a in stack], (3,)))

    assert why(LOG_SOFTMAX, "linear") == "it has an activation over rows, such as softmax, before its last layer"
    assert why(Activation(cases.centred)) == "its last layer's activation reads columns"
    assert len(why(MISH, LOG_SOFTMAX)) == 2


# ---- each operation --------------------------------------------------------------------------------------------------
ACTIVATIONS = [MISH, CELU, LOG_SOFTMAX, Activation(cases.centred)]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.function.__name__)
@pytest.mark.parametrize("shape", [(7, 5), (33, 40)])
def test_an_activation_as_a_layer_and_behind_products(runtime, activation, shape):
    rng, backend = np.random.default_rng(5), CudaBackend(runtime)
    z, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    y = roots_of(activation.formula.forward, shape, z=z.astype(np.float64), **activation.numbers)["y"]
    wide = {"dy": dy.astype(np.float64), "y": y.astype(np.float32).astype(np.float64), "z": z.astype(np.float64)}
    dz = roots_of(activation.formula.back, shape, **wide, **activation.numbers)["dz"]
    there = {name: backend.to_device(value.astype(np.float32)) for name, value in wide.items()}
    out = backend.to_device(np.full(shape, np.nan, np.float32))
    backend.activation_forward(activation, there["z"], out)
    np.testing.assert_allclose(backend.to_host(out), y, rtol=2e-5, atol=2e-6)
    backend.activation_forward(activation, there["z"], there["z"])  # in place
    np.testing.assert_array_equal(backend.to_host(there["z"]), backend.to_host(out))
    there["z"] = backend.to_device(z)
    backend.activation_backward(activation, there["dy"], there["y"], there["z"])
    np.testing.assert_allclose(backend.to_host(there["dy"]), dz, rtol=2e-5, atol=2e-5)
    eye = backend.to_device(np.eye(shape[1], dtype=np.float32))
    kept = backend.to_device(np.full(shape, np.nan, np.float32)) if activation.retains_input else None
    backend.dense_forward(there["z"], eye, None, activation, out, kept)
    np.testing.assert_allclose(backend.to_host(out), y, rtol=2e-5, atol=2e-6)
    assert kept is None or (backend.to_host(kept) == z).all()


SEVERAL = metrics.get(cases.precision)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_metric_of_several_sums(runtime, weighted):
    rng, backend, shape = np.random.default_rng(6), CudaBackend(runtime), (37, 5)
    p, t = rng.uniform(0, 1, shape).astype(np.float32), np.eye(5, dtype=np.float32)[rng.integers(0, 5, 37)]
    weights = rng.uniform(0.5, 1, 37).astype(np.float32)
    truth = roots_of(SEVERAL.formula, shape, p=p.astype(np.float64), t=t.astype(np.float64))
    values, counts = (backend.to_device(np.full(s, np.nan, np.float32)) for s in ((3, 40), 37))
    there = [backend.to_device(a) for a in (t, p, weights)]
    backend.metric_into(values, counts if weighted else None, metrics.get(cases.precision, weighted=weighted), *there)
    times = weights if weighted else 1.0
    for i in range(3):
        np.testing.assert_allclose(backend.to_host(values)[i, :37], truth[f"sum_{i}"][:, 0] * times, rtol=1e-5)
    assert not weighted or (backend.to_host(counts) == weights).all()


@pytest.mark.parametrize("count", [3, 1000])
def test_a_penalty_that_is_no_sum_over_weights(runtime, count):
    @dataclass(frozen=True)
    class Distance:
        formula = formulas.penalty(cases.distance, {"scale": 0.3})
        numbers = {"scale": 0.3}  # noqa: RUF012

    backend, w = CudaBackend(runtime), np.linspace(-1, 2, count).astype(np.float32)
    dw = np.ones(count, np.float32)
    there, gradient = backend.to_device(w), backend.to_device(dw)
    value = backend.penalty(Distance(), there, gradient)
    truth = roots_of(Distance.formula, (1, count), w=w.astype(np.float64)[None], **Distance.numbers)
    assert value == pytest.approx(truth["value"][0, 0], rel=1e-5)
    np.testing.assert_allclose(backend.to_host(gradient), 1 + truth["dw"][0], rtol=1e-5)
    assert backend.penalty(Distance(), there, None) == pytest.approx(value, rel=1e-6)


def test_an_update_without_slots_or_scalars(runtime):
    formula = formulas.update(lambda w, g: {"w": w - 0.5 * g}, (), (), {})
    optimizer = SimpleNamespace(formula=formula, numbers={}, scalar_names=(), slots=())
    assert "SLOTS = 0, SCALARS = 0" in cuda_formulas.update(optimizer).header["formulas.cuh"]
    backend = CudaBackend(runtime)
    w, g = (backend.to_device(np.arange(9, dtype=np.float32)) for _ in range(2))
    backend.update(optimizer, w, g, {}, 1, ())
    assert backend.to_host(w).tolist() == [0.5 * i for i in range(9)]
