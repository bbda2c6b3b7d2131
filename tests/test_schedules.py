"""Learning-rate schedules. Numbers: Keras 3.15."""

import json
import math

import numpy as np
import pytest

from gpumlp import Sequential, layers, optimizers, saving
from gpumlp.optimizers import schedules

STEPS = [0, 1, 3, 4, 7, 10, 13, 25]
CASES = [
    (schedules.ExponentialDecay(0.1, 7, 0.9),
     [0.1, 0.09850612, 0.09558498, 0.09415706, 0.09, 0.08602648, 0.08222839, 0.06864049]),
    (schedules.ExponentialDecay(0.1, 7, 0.9, True), [0.1, 0.1, 0.1, 0.1, 0.09, 0.09, 0.09, 0.07289999]),
    (schedules.InverseTimeDecay(0.1, 7, 0.9),
     [0.1, 0.0886076, 0.07216495, 0.06603773, 0.05263158, 0.04375, 0.03743316, 0.02372881]),
    (schedules.InverseTimeDecay(0.1, 7, 0.9, staircase=True),
     [0.1, 0.1, 0.1, 0.1, 0.05263158, 0.05263158, 0.05263158, 0.02702703]),
    (schedules.PiecewiseConstantDecay([3, 10], [0.5, 0.25, 0.125]), [0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]),
    (schedules.PolynomialDecay(0.1, 8, 0.01, 2.0),
     [0.1, 0.07890625, 0.04515625, 0.0325, 0.01140625, 0.01, 0.01, 0.01]),
    (schedules.PolynomialDecay(0.1, 8, 0.01, 0.5, cycle=True),
     [0.1, 0.0941873, 0.08115125, 0.07363961, 0.0418198, 0.06511352, 0.04897115, 0.05209365]),
    (schedules.CosineDecay(0.1, 10, 0.2),
     [0.1, 0.09804226, 0.08351141, 0.07236068, 0.03648859, 0.02, 0.02, 0.02]),
    (schedules.CosineDecay(0.01, 10, 0.1, warmup_target=0.2, warmup_steps=4),
     [0.01, 0.0575, 0.1525, 0.2, 0.16290067, 0.08218845, 0.02440492, 0.02]),
    (schedules.CosineDecayRestarts(0.1, 4),
     [0.1, 0.08535534, 0.01464466, 0.1, 0.06913417, 0.01464466, 0.09903926, 0.00842652]),
    (schedules.CosineDecayRestarts(0.1, 4, 1.0, 0.5, 0.1),
     [0.1, 0.08681981, 0.0231802, 0.055, 0.0165901, 0.02125, 0.01960248, 0.01120031]),
    (schedules.CosineDecayRestarts(0.1, 3, 3.0, 0.8),
     [0.1, 0.075, 0.08, 0.07758771, 0.04694593, 0.00935822, 0.06378364, 0.03386064]),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_rates_are_keras_s(schedule, expected):
    np.testing.assert_allclose([schedule(step) for step in STEPS], expected, rtol=2e-6)
    assert schedule(np.float32(3)) == schedule(3)


@pytest.mark.parametrize(("schedule", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_configs_make_the_same_again(schedule, expected):
    described = json.loads(json.dumps(schedules.serialize(schedule)))
    assert described["module"] == "keras.optimizers.schedules" and described["class_name"] == type(schedule).__name__
    assert schedules.deserialize(described) == schedule == saving.deserialize_keras_object(described)
    assert type(schedule).from_config(schedule.get_config())(25) == pytest.approx(expected[-1], rel=2e-6)


@pytest.mark.parametrize("longer", [1.0, 1.3, 2.0, 3.0, 10.0])
def test_a_restart_is_at_its_very_step(longer):
    schedule, at = schedules.CosineDecayRestarts(1.0, 1.0, longer, 0.5), 0.0
    for restart in range(12):
        assert schedule(at) == pytest.approx(0.5**restart, rel=1e-6)
        at += longer**restart


class Mine(schedules.LearningRateSchedule):
    """As Keras's documentation has one."""

    def __init__(self, initial_learning_rate):
        self.initial_learning_rate = initial_learning_rate

    def __call__(self, step):
        return self.initial_learning_rate / (step + 1)


def test_a_user_s_own_trains_and_has_a_config():
    described = schedules.serialize(Mine(0.5))
    assert schedules.deserialize(described, {"Mine": Mine}) == Mine(0.5)
    x = np.ones((6, 1))
    model = Sequential([layers.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=(1,))])
    model.compile(optimizers.SGD(Mine(0.5)), "mse")
    model.fit(x, x, batch_size=2, epochs=1, verbose=0)
    w = 0.0
    for k in range(3):
        w -= 0.5 / (k + 1) * 2 * (w - 1)
    assert model.get_weights()[0].item() == pytest.approx(w, rel=1e-6)
    with pytest.raises(NotImplementedError, match="needs a get_config of its own: its constructor takes 'rate'"):
        type("Other", (Mine,), {"__init__": lambda self, rate: None})(1).get_config()
    with pytest.raises(NotImplementedError, match="must have a method __call__"):
        schedules.LearningRateSchedule()(1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.9), "decay_steps must be a finite number > 0"),
        (lambda: schedules.CosineDecayRestarts(0.1, 0), "first_decay_steps must be a finite number > 0"),
        (lambda: schedules.CosineDecayRestarts(0.1, 5, 0.5), "t_mul must be a finite number >= 1"),
        (lambda: schedules.PolynomialDecay(math.nan, 5), "initial_learning_rate must be"),
        (lambda: schedules.PolynomialDecay(0.1, 5, cycle="no"), "cycle must be True or False"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "one value more than boundaries"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [1.0, 2.0, 3.0]), "boundaries must increase"),
        (lambda: schedules.deserialize({"class_name": "Cosine", "config": {}}), "Unknown learning-rate schedule"),
    ],
)
def test_what_is_wrong_is_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_schedule_of_an_array_of_steps_is_a_curve():
    for schedule in (schedules.CosineDecay(0.0, 10, 0.1, "up", 0.2, 5), schedules.PiecewiseConstantDecay([3], [1, 2])):
        steps = np.linspace(0, 12, 6).reshape(2, 3)
        found = schedule(steps)
        assert found.shape == (2, 3) and found.ravel().tolist() == [schedule(step) for step in steps.ravel()]
        assert type(schedule(np.array(3))) is float and schedule(np.array(3)) == schedule(3)
