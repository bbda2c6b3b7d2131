"""An operation that no kernel knows: it trains wherever there is an array library, and models say so."""

from dataclasses import dataclass

import numpy as np
import pytest
from test_cuda_models import build, data, flat

from gpumlp import Ensemble, layers
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.engine import fit_plan, graph_program, operations
from gpumlp.engine.network import describe
from gpumlp.engine.operations import Operation, Site


class Bend(layers.Layer):
    """x / (strength + |x|)."""

    def __init__(self, strength=1.0, **kwargs):
        self.strength = strength
        super().__init__(**kwargs)


@dataclass(frozen=True)
class BendOp(Operation):
    """It keeps the divisors for the way back."""

    strength: float

    def keep(self, backend, batch, size, dtype):
        return backend.empty((batch, size), dtype)

    def forward(self, site, x, y, step):
        xp, divisors = site.backend.xp, site.kept_of(x)
        xp.absolute(x, out=divisors)
        xp.add(divisors, self.strength, out=divisors)
        xp.divide(x, divisors, out=y)

    def backward(self, site, dy, x, y, dx):
        xp, divisors = site.backend.xp, site.kept_of(x)
        xp.multiply(dy, self.strength, out=dy)
        xp.divide(dy, divisors, out=dy)
        xp.divide(dy, divisors, out=dy)
        return dy


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(operations.LAYERS, Bend, lambda layer, shape, first: BendOp(layer.strength))


def stack():
    return [layers.Dense(9), Bend(0.7), layers.Dense(5, "gelu"), layers.Dropout(0.1, seed=3), layers.Dense(2)]


def trained(device, dtype="float32", initial=None, make=stack):
    """Return a model after some epochs with a ragged last batch, its initial weights, and its losses."""
    x, y = data()
    model = build(device, dtype, make())
    initial = initial or model.get_weights()
    model.set_weights(initial)
    history = model.fit(x, y, batch_size=25, epochs=12, verbose=0, validation_data=(x[::2], y[::2])).history
    return model, initial, history["loss"] + history["val_loss"]


def test_its_gradient_is_that_of_central_differences():
    rng, op, backend, h = np.random.default_rng(0), BendOp(0.7), NumpyBackend(), 1e-6
    x, dy = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    site, y = Site(backend, 0, [], [], op.keep(backend, 4, 3, np.float64)), np.empty((4, 3))

    def at(x):
        op.forward(site, x, y, None)
        return y.copy()

    slope = (at(x + h) - at(x - h)) / (2 * h)
    at(x)
    np.testing.assert_allclose(op.backward(site, dy.copy(), x, y, None), dy * slope, rtol=1e-7)


def test_numpy_trains_it_and_learns():
    model, _, losses = trained("cpu")
    assert losses[11] < 0.9 * losses[0] and "by the numpy kernels" in model.program


@pytest.mark.parametrize("fit", ["auto", "graph"])
def test_a_gpu_trains_it_by_the_array_library(gpu, monkeypatch, fit):
    monkeypatch.setenv("GPUMLP_FIT", fit)
    truth, initial, right = trained("cpu", "float64")
    plain, _, _ = trained("cpu", "float32", initial)
    model, _, losses = trained("cuda", "float32", initial)
    assert model.program == (
        "one operation after the other, by the cuda kernels: no cuda kernel for Bend, which the array library computes"
    )
    np.testing.assert_allclose(losses, right, rtol=1e-4)
    error, own = np.abs(flat(model) - flat(truth)).max(), np.abs(flat(plain) - flat(truth)).max()
    assert error <= max(4 * own, 1e-5)
    x, _ = data()
    np.testing.assert_allclose(model.predict(x, verbose=0), truth.predict(x, verbose=0), atol=1e-4)


def test_a_network_without_it_has_the_better_programs(gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "graph")
    model, _, _ = trained("cuda", make=lambda: [layers.Dense(9, "relu"), layers.Dense(2)])
    assert model.program.startswith("CUDA graphs")


def test_the_cpu_leaves_it_to_numpy(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    plain, initial, _ = trained("cpu")
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    model, _, _ = trained("cpu", initial=initial)
    assert "by the numpy kernels: no compiled kernel for Bend" in model.program
    assert (flat(model) == flat(plain)).all()


def test_an_ensemble_trains_it_and_refuses_members_that_differ_in_it(family):
    def model(strength=1.0):
        return build(None, stack=[layers.Dense(4), Bend(strength), layers.Dense(2)])

    x, y = data()
    alone, ensemble = model(), Ensemble(model, 2)
    initial = alone.get_weights()
    for each in (alone, *ensemble.members):
        each.set_weights(initial)
        each.compile(loss="mse", optimizer="sgd")
    how = {"batch_size": 20, "epochs": 2, "verbose": 0, "shuffle": False}
    alone.fit(x, y, **how)
    ensemble.fit(x, y, **how)
    assert [(flat(each) == flat(alone)).all() for each in ensemble.members] == [True, True]
    with pytest.raises(ValueError, match="operation 1 of member 1"):
        Ensemble(lambda k: model(1.0 + k), 2)


def test_tables_say_what_they_lack():
    network = describe(stack(), (3,))
    assert network.beyond(graph_program.KERNELS) == "Bend" and not network.beyond({type(op) for op in network.ops})
    assert fit_plan.stages_of(network) == "it has nothing for Bend"


def test_a_layer_of_nobody_s_is_refused_by_its_name(monkeypatch):
    monkeypatch.delitem(operations.LAYERS, Bend)
    with pytest.raises(TypeError, match="does not know layers of type Bend"):
        build("cpu", stack=stack())
