"""What the host does for an ensemble: counted, never timed."""

import argparse
import cProfile
import pstats

import numpy as np
import pytest

from gpumlp import Ensemble, layers, models, optimizers
from gpumlp.optimizers import schedules
from gpumlp.optimizers.scalars import coming


def build(optimizer="adam"):
    model = models.Sequential([layers.Input((1,)), layers.Dense(3, "tanh"), layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def calls(members):
    """Return how many functions a fit of so many members calls, when what can be kept is."""
    ensemble, x = Ensemble(build, members), np.linspace(-1.0, 1.0, 8)[:, None]
    profile = cProfile.Profile()
    ensemble.fit(x, x**2, verbose=0)
    profile.runcall(ensemble.fit, x, x**2, verbose=0)
    return pstats.Stats(profile).total_calls


@pytest.mark.parametrize("kernels", ["numpy", "compiled"])
def test_each_member_costs_the_same_however_many_there_are(monkeypatch, kernels):
    monkeypatch.setenv("GPUMLP_KERNELS", kernels)
    few, more, many = map(calls, (20, 40, 80))
    assert many - more <= 2.02 * (more - few)


RATES = {
    "alike": ([optimizers.Adam(0.01), optimizers.Adam(0.01), optimizers.Adam(0.01)], 1),
    "other numbers": ([optimizers.Adam(0.01), optimizers.Adam(0.02), optimizers.Adam(0.01, beta_2=0.9)], 3),
    "other classes": ([optimizers.Adam(0.01), optimizers.Nadam(0.01), optimizers.AdamW(0.01)], 3),
    "averages": ([optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3) for _ in range(3)], 1),
    "schedules": ([optimizers.Adam(schedules.ExponentialDecay(0.1, 2, 0.9)) for _ in range(3)], 3),
    "functions": ([optimizers.Adam(lambda: 0.1) for _ in range(3)], 3),
}


@pytest.mark.parametrize("case", RATES)
def test_numbers_of_steps_are_computed_once_for_optimizers_that_are_alike(monkeypatch, case):
    each, times = RATES[case]
    asked, own = [], optimizers.Optimizer.coming
    monkeypatch.setattr(optimizers.Optimizer, "coming", lambda self, steps: asked.append(self) or own(self, steps))
    found = coming(each, 5)
    assert len(asked) == times
    for optimizer, values in zip(each, found, strict=True):
        np.testing.assert_array_equal(values, own(optimizer, 5))
    each[1].count(2)
    np.testing.assert_array_equal(coming(each, 5)[1], own(each[1], 5))
    if case in ("alike", "averages"):
        each[2].learning_rate = 0.5
        np.testing.assert_array_equal(coming(each, 5)[2], own(each[2], 5))


@pytest.mark.parametrize(("sizes", "members", "launches"), [((1, 64, 64, 1), 150, 1), ((1, *[256] * 7, 1), 5, 2)])
def test_the_script_for_the_host_s_part_counts_what_goes_to_a_gpu(scripts, capsys, sizes, members, launches):
    idle = pytest.importorskip("idle", reason="it needs cuda.bindings")
    from workloads import Workload

    workload = Workload("some", sizes, 20, 4, members=members)
    with pytest.MonkeyPatch.context() as patch:
        fake, runtime = idle.idle_gpu(patch)
        idle.measure(workload, fake, runtime, argparse.Namespace(shuffle=False, turns=1, profile=True))
    told = capsys.readouterr().out
    assert f"a turn has {launches} launches, 1 copies to the device and 1 back" in told
    assert "Ordered by: internal time" in told
