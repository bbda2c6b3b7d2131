"""What is set on models, layers and optimizers is read, refused with words, or a user's own."""

import copy
import pickle

import numpy as np
import pytest

from gpumlp import layers, models, optimizers


def model():
    found = models.Sequential([layers.Dense(3, "relu", input_shape=(2,)), layers.Dense(1)])
    found.compile("adam", "mse")
    return found


NEAR = [
    (model, "trainble", "'trainable'"), (model, "stop_trainin", "'stop_training'"), (model, "optimiser", "'optimizer'"),
    (lambda: layers.Dense(2), "trainabel", "'trainable'"), (lambda: layers.Dense(2), "kernel_regulariser", "'kernel_r"),
    (lambda: layers.Dense(2), "activations", "'activation'"), (lambda: layers.Dropout(0.5), "ratee", "'rate'"),
    (optimizers.Adam, "learningrate", "'learning_rate'"), (optimizers.Adam, "learn_rate", "'learning_rate'"),
    (optimizers.SGD, "momentun", "'momentum'"), (optimizers.AdamW, "weigth_decay", "'weight_decay'"),
]  # fmt: skip
UNREAD = [
    (model, "lr", r"model\.optimizer\.learning_rate"), (model, "loss", "compile again"), (model, "metrics", "compile"),
    (lambda: layers.Dense(2), "kernel", "set_weights"), (optimizers.Adam, "lr", "learning_rate"),
    (optimizers.SGD, "decay", "schedule"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "meant"), NEAR)
def test_a_name_close_to_one_that_is_read_is_refused(make, name, meant):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'.*Did you mean {meant}"):
        setattr(make(), name, 0.5)


@pytest.mark.parametrize(("make", "name", "instead"), UNREAD)
def test_what_only_keras_reads_is_refused_with_what_to_use(make, name, instead):
    with pytest.raises(AttributeError, match=f"(?i)does not read '{name}'.*{instead}"):
        setattr(make(), name, 0.5)


@pytest.mark.parametrize("make", [model, lambda: layers.Dense(2), optimizers.Adam])
def test_an_attribute_of_one_s_own_is_kept_and_copied(make):
    thing = make()
    thing.note, thing.weights_2, thing._hidden, thing.trainable_2 = "mine", [1], 2, 3
    for each in (thing, copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert (each.note, each.weights_2, each._hidden, each.trainable_2) == ("mine", [1], 2, 3)
    if isinstance(thing, optimizers.Optimizer):
        assert "note" not in thing.get_config()


def test_a_subclass_has_attributes_of_its_own():
    class Mine(layers.Dense):
        def __init__(self, units):
            super().__init__(units)
            self.unit, self.trainables = units, 3

    assert Mine(3).trainables == 3


def test_what_is_read_can_be_set():
    found = model()
    found.optimizer.learning_rate = 0.5
    found.optimizer.beta_1 = 0.8
    found.layers[0].trainable = False
    found.stop_training = True
    found.name = "mine"
    found.optimizer.iterations = 3
    found.history = found.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    assert found.optimizer.iterations == 4
    with pytest.raises(RuntimeError, match="counted along with the optimizer's state"):
        found.optimizer.iterations = 0
    assert found.history.epoch == [0]
