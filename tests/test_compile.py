"""The forms in which compile takes its arguments, and what a model says of them."""

import numpy as np
import pytest

from gpumlp import Sequential, layers, losses, metrics, optimizers

X, Y = np.arange(24.0).reshape(8, 3) / 24, np.arange(8.0) / 8


def trained(**given):
    model = Sequential([layers.Input((3,)), layers.Dense(2, kernel_initializer="ones"), layers.Dense(1, name="out")])
    model.set_weights([w * 0 + 0.1 for w in model.get_weights()])
    model.compile("sgd", **given)
    return model, model.fit(X, Y, verbose=0, shuffle=False).history


@pytest.mark.parametrize(
    "given",
    [
        {"loss": ["mse"]}, {"loss": ("mse",)}, {"loss": {"out": "mse"}}, {"loss": {"out": ["mse"]}},
        {"loss": losses.MeanSquaredError()}, {"loss": losses.mean_squared_error}, {"loss": losses.MeanSquaredError},
        {"loss_weights": 1}, {"loss_weights": 1.0}, {"loss_weights": [1.0]}, {"loss_weights": {"out": 1.0}},
        {"run_eagerly": True}, {"run_eagerly": False}, {"steps_per_execution": 50}, {"jit_compile": "auto"},
        {"jit_compile": True}, {"jit_compile": False}, {"auto_scale_loss": False},
    ],
)  # fmt: skip
def test_what_changes_nothing(given):
    assert trained(**{"loss": "mse", **given})[1] == trained(loss="mse")[1]


@pytest.mark.parametrize(
    "given",
    [
        [["mae", "acc"]], {"out": ["mae", "acc"]}, ["mae", ["acc"]], ("mae", "acc"), {"b": "acc", "a": "mae"},
        [metrics.MeanAbsoluteError(name="mae"), "acc"],
    ],
)  # fmt: skip
def test_metrics_of_the_one_output_in_any_form(given):
    model, history = trained(loss="mse", metrics=given)
    assert list(history) == ["acc", "loss", "mae"] and history == trained(loss="mse", metrics=["mae", "acc"])[1]
    assert list(trained(loss="mse", weighted_metrics=given)[1]) == ["acc", "loss", "mae"]
    assert len(model.evaluate(X, Y, verbose=0)) == 3 and model.metrics_names == ["loss", "compile_metrics"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": []}, "one output, and takes one loss"), ({"loss": ["mse", "mae"]}, "one output, and takes one loss"),
        ({"loss": {"a": "mse", "b": "mae"}}, "one loss"), ({"loss_weights": 2.0}, "the weight 1; got 2.0"),
        ({"loss_weights": [1.0, 1.0]}, "loss_weights must be 1"),
        ({"loss_weights": {"out": 0.5}}, "loss_weights must be 1"),
        ({"loss_weights": "mae"}, "Metrics are given as"), ({"metrics": [None]}, "Expected a metric"),
        ({"metrics": ["maee"]}, "Did you mean 'mae'"), ({"metrics": {"out": ["maee"]}}, "Did you mean 'mae'"),
        ({"run_eagerly": "yes"}, "run_eagerly must be True or False"),
        ({"steps_per_execution": 0}, "steps_per_execution must be a whole number >= 1"),
        ({"jit_compile": "xla"}, "jit_compile must be True or False"),
    ],
)  # fmt: skip
def test_what_means_something_else_is_refused_and_changes_nothing(given, words):
    model, _ = trained(loss="mse")
    before = model.get_compile_config(), model.optimizer
    with pytest.raises(ValueError, match=words):
        model.compile(**{"optimizer": "adam", "loss": "mae", **given})
    assert (model.get_compile_config(), model.optimizer) == before


def test_without_a_loss_a_model_predicts_and_says_what_training_needs():
    model = Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile(optimizer="adam", metrics=["mae", metrics.AUC()])
    assert model.compiled and model.loss is None and model.predict(X, verbose=0).shape == (8, 1)
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"needs a loss.*compile\(loss='mse'"):
            call(X, Y)


def test_what_a_model_says_of_it():
    model = Sequential([layers.Input((3,)), layers.Dense(1)])
    assert not model.compiled and model.loss is None and model.metrics_names == []
    assert model.run_eagerly is False and model.jit_compile is True and model.steps_per_execution == 1
    model.compile(loss="mse", run_eagerly=True, jit_compile=True, steps_per_execution=np.int64(4))
    assert model.compiled and model.loss == "mse" and model.metrics_names == ["loss"]
    assert model.run_eagerly is True and model.jit_compile is False and model.steps_per_execution == 4
    assert type(model.optimizer) is optimizers.RMSprop
    model.run_eagerly = False
    with pytest.raises(ValueError, match="run_eagerly must be True or False"):
        model.run_eagerly = "no"
    other = Sequential([layers.Input((3,)), layers.Dense(1)])
    other.compile_from_config(model.get_compile_config())
    assert (other.loss, other.run_eagerly, other.steps_per_execution) == ("mse", True, 4)
