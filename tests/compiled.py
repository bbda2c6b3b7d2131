"""Models for tests of the compiled Program, and the fixture that has its kernels asked for."""

import numpy as np
import pytest

from gpumlp import layers, models
from gpumlp.backends import instruction_set, team
from gpumlp.engine import compiled_program
from gpumlp.utils import set_random_seed

# The sets of instructions whose kernels are tested: those that are shipped, as far as this processor has them.
SETS = [name for name in instruction_set.available() if name in ("avx512", "avx2")] or [instruction_set.chosen().name]


@pytest.fixture(params=SETS)
def instructions(request, monkeypatch):
    """Every set of instructions in turn."""
    monkeypatch.setenv("GPUMLP_CPU", request.param)
    return instruction_set.SETS[request.param]


@pytest.fixture
def kernels(monkeypatch):
    """A function: from now on models on the CPU take these kernels, with a team of so many threads."""

    def choose(name, threads=1, always=True):
        monkeypatch.setenv("GPUMLP_KERNELS", name)
        monkeypatch.setattr(team, "team", lambda: TEAMS.setdefault(threads, team.Team(threads)))
        if always:  # small networks too, and no trial of fewer threads
            monkeypatch.setattr(compiled_program, "OPERATIONS_EACH", 1)
            monkeypatch.setattr(compiled_program, "SAMPLES_EACH", 1)
            monkeypatch.setattr(compiled_program, "WORTH", 0.0)
            monkeypatch.setattr(compiled_program.Pace, "_next", lambda self, steps: (self._choices[-1], 0.1))

    return choose


TEAMS = {}


def data(n=57, features=3, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)).astype(np.float32)
    return x, np.sin(x @ rng.standard_normal((features, outputs))).astype(np.float32)


def build(stack=None, optimizer="adam", loss="mse", dtype="float32", features=3, **more):
    set_random_seed(0)
    stack = stack or [layers.Dense(19, "tanh"), layers.Dense(33, "relu"), layers.Dense(2)]
    model = models.Sequential([layers.Input((features,)), *stack], dtype=dtype)
    model.compile(loss=loss, optimizer=optimizer, **more)
    return model


def flat(model):
    return np.concatenate([w.ravel().astype(np.float64) for w in model.get_weights()])


def hold(kernels, make, fit, threads=2):
    """Run ``fit(make(dtype))`` in float64, in float32, and compiled; the last must be as near to the first as NumPy.

    Compiled for each set of instructions.
    """
    initial, found = None, []
    compiled = [("numba", "float32", instructions) for instructions in SETS]
    for name, dtype, made_for in (("numpy", "float64", ""), ("numpy", "float32", ""), *compiled):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GPUMLP_CPU", made_for)
            kernels(name, threads)
            model = make(dtype)
            initial = initial or model.get_weights()
            model.set_weights(initial)
            history = fit(model).history
        found.append((flat(model), *(np.array(values) for values in history.values())))
        assert model.program.startswith("compiled") == bool(made_for)
    for truth, plain, *compiled in zip(*found, strict=True):
        for got in compiled:
            own, theirs = np.linalg.norm(got - truth), np.linalg.norm(plain - truth)
            assert own <= 2 * theirs + 2e-6 * np.linalg.norm(truth), (own, theirs, np.linalg.norm(truth))
