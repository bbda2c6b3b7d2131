"""Losses and metrics of outputs of several rows: means over all of them, as in Keras."""

import numpy as np
import pytest
from test_layer_operations import slopes

from gpumlp import layers, losses, models
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(6)
ROWS = {
    "categorical_crossentropy": lambda n: np.eye(3)[RNG.integers(0, 3, (n, 4))],
    "sparse_categorical_crossentropy": lambda n: RNG.integers(0, 3, (n, 4)),
    "cosine_similarity": lambda n: RNG.uniform(size=(n, 4, 3)),
    "mse": lambda n: RNG.uniform(size=(n, 4, 3)),
}


def of_rows(loss, dtype=None, metrics=(), device=None):
    set_random_seed(3)
    stack = [layers.Input((2,)), layers.Dense(12), layers.Reshape((4, 3)), layers.Softmax()]
    model = models.Sequential(stack, dtype=dtype)
    model.compile("sgd", loss, metrics=list(metrics), weighted_metrics=["mae"], device=device)
    return model


@pytest.mark.parametrize("loss", ROWS)
def test_a_loss_is_the_mean_over_all_rows_and_so_is_a_metric(family, loss):
    x, y, w = RNG.standard_normal((17, 2)), ROWS[loss](17), RNG.uniform(0.5, 2.0, 17)
    accuracy = ["accuracy"] if "crossentropy" in loss else []
    model = of_rows(loss, metrics=accuracy)
    if "sparse" in loss:
        model.compile("sgd", loss, metrics=accuracy)
    found = model.evaluate(x, y, sample_weight=w, batch_size=6, verbose=0, return_dict=True)
    program, p = model.program, model.predict(x, verbose=0)
    values = losses.described(loss).function(y, p)
    assert values.shape == (17, 4)
    assert found["loss"] == pytest.approx((values * w[:, None]).mean(), rel=1e-5)
    if accuracy:
        labels = y if "sparse" in loss else y.argmax(-1)
        assert found["accuracy"] == pytest.approx((p.argmax(-1) == labels).mean())
    if "sparse" not in loss:
        each = np.abs(y - p).mean(-1)
        assert found["mae"] == pytest.approx((each * w[:, None]).sum() / (4 * w.sum()), rel=1e-5)
    if loss != "mse":
        assert family == "numpy" or (loss in program and "of each of a sample's 4 rows of outputs" in program)


@pytest.mark.parametrize("loss", ROWS)
def test_its_step_is_that_of_central_differences(loss):
    x, y, w = RNG.standard_normal((5, 2)), ROWS[loss](5), RNG.uniform(0.5, 2.0, 5)
    model = of_rows(loss, "float64")
    if "sparse" in loss:
        model.compile("sgd", loss)
    before = model.get_weights()

    def at():
        model.set_weights(before)
        return model.evaluate(x, y, sample_weight=w, verbose=0, return_dict=True)["loss"]

    expected = slopes(at, before[1], 1e-5)
    model.set_weights(before)
    model.optimizer.learning_rate = 1.0
    model.fit(x, y, sample_weight=w, verbose=0)
    np.testing.assert_allclose(before[1] - model.get_weights()[1], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("outputs", "targets"), [((4, 1), (4,)), ((4,), (4, 1)), ((1,), ()), ((2, 2, 1), (2, 2))])
def test_a_last_axis_of_size_1_comes_and_goes(outputs, targets):
    model = models.Sequential([layers.Input((4,)), layers.Dense(int(np.prod(outputs))), layers.Reshape(outputs)])
    model.compile("sgd", "mse")
    y = RNG.standard_normal((5, *targets))
    p = model.predict(x := RNG.standard_normal((5, 4)), verbose=0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(np.mean((p.reshape(y.shape) - y) ** 2), rel=1e-5)


def test_targets_that_have_no_row_for_each_are_told():
    model = of_rows("sparse_categorical_crossentropy")
    x = np.zeros((5, 2))
    for wrong in (np.zeros(5), np.zeros((5, 3)), np.zeros((5, 12))):
        with pytest.raises(ValueError, match="one class number per sample, in each of its 4 rows"):
            model.fit(x, wrong, verbose=0)
    with pytest.raises(ValueError, match="class numbers 0 to 2; got 3"):
        model.fit(x, np.full((5, 4), 3), verbose=0)
    with pytest.raises(ValueError, match="class_weight is of samples of one class"):
        model.fit(x, np.zeros((5, 4)), class_weight={0: 2.0}, verbose=0)
