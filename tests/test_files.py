"""Models as files: what comes back, and what Keras has written."""

import json
import sys

import numpy as np
import pytest
from saved import GOLDEN, OPTIMIZERS, WEIGHTS, WHOLE, X, Y, fit, made, same

from gpumlp import (
    activations,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    saving,
    utils,
)
from gpumlp.models import keras_layout, state


# ---- whole models ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_loaded_model_goes_on_to_the_bit(name, optimizer, tmp_path):
    model = made(OPTIMIZERS[optimizer]())
    fit(model, shuffle=False)
    model.save(tmp_path / name)
    loaded = models.load_model(tmp_path / name)
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.optimizer.iterations == model.optimizer.iterations
    assert loaded.get_compile_config() == model.get_compile_config() and loaded.get_config() == model.get_config()
    assert fit(loaded, shuffle=False).history == fit(model, shuffle=False).history and same(loaded, model)


def test_gpumlps_own_file_has_all_that_training_goes_on_from(tmp_path):
    utils.set_random_seed(3)
    model = made(optimizers.AdamW(0.01, weight_decay=0.5), drop=0.4)
    model.optimizer.exclude_from_weight_decay([f"{model.layers[0].name}/kernel"], ["bias"])
    fit(model)
    model.optimizer.learning_rate = 0.02
    model.save(str(tmp_path / "a name.gpumlp"))
    alone = fit(model, 3).history
    utils.set_random_seed(99)
    loaded = models.load_model(str(tmp_path / "a name.gpumlp"))
    assert loaded.history.epoch == [0, 1] and sorted(loaded.history.history) == sorted(alone)
    assert loaded.optimizer.learning_rate == 0.02
    assert fit(loaded, 3).history == alone and same(loaded, model)


def test_a_state_goes_back_into_the_model_it_came_from(tmp_path):
    model = made(drop=0.4)
    fit(model)
    saving.write_state(tmp_path / "a.state", state.whole(model, position={"batch": 7, "order": np.arange(3)}))
    alone = fit(model, 3).history
    fit(model, 5)
    found = saving.read_state(tmp_path / "a.state")
    assert found["position"]["batch"] == 7 and found["position"]["order"].tolist() == [0, 1, 2]
    state.restore(model, found, "a.state")
    assert fit(model, 3).history == alone


@pytest.mark.parametrize("name", WHOLE)
def test_without_what_is_not_there(name, tmp_path):
    path = tmp_path / name
    model = made()
    model.save(path)  # never trained
    loaded = models.load_model(path)
    assert loaded.optimizer.iterations == 0 and fit(loaded).history
    assert models.load_model(path, compile=False).optimizer is None
    fit(model)
    model.save(path, include_optimizer=False)
    assert model.optimizer.iterations == 6
    if name == "m.keras":
        assert (loaded := models.load_model(path)).optimizer.iterations == 0 and loaded.evaluate(X, Y, verbose=0)
    bare = models.Sequential([layers.Dense(2)])
    with pytest.warns(UserWarning, match="has not yet been built"):
        bare.save(path)
    assert not models.load_model(path).built
    bare.build((None, 4))
    bare.save(path)
    assert same(models.load_model(path), bare) and models.load_model(path).optimizer is None


@pytest.mark.parametrize("name", WHOLE)
def test_dtype_and_frozen_layers_come_back(name, tmp_path):
    model = made(dtype="float64")
    fit(model)
    model.save(tmp_path / name)
    loaded = models.load_model(tmp_path / name)
    assert loaded.dtype == np.float64 and same(loaded, model)
    assert [layer.trainable for layer in loaded.layers[2].layers] == [False, True] and loaded.trainable
    assert len(loaded.trainable_weights) == len(model.trainable_weights) == 6


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_a_users_own(name, tmp_path):
    def bent(x):
        return ops.tanh(x) * x

    def mine(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), -1)

    model = models.Sequential([layers.Input((4,)), layers.Dense(2, activation=bent), layers.Dense(1)])
    model.compile("adam", mine)
    fit(model)
    model.save(tmp_path / name)
    with pytest.raises(ValueError, match="bent"):
        models.load_model(tmp_path / name)
    loaded = models.load_model(tmp_path / name, custom_objects={"bent": bent, "mine": mine})
    assert fit(loaded, shuffle=False).history == fit(model, shuffle=False).history
    with saving.custom_object_scope({"bent": bent, "mine": mine}):
        assert same(saving.load_model(tmp_path / name, compile=False), saving.load_model(tmp_path / name))


class Scaled(losses.Loss):
    def __init__(self, factor=1.0, name="scaled"):
        super().__init__(name=name)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * ops.mean(ops.square(y_true - y_pred), -1)

    def get_config(self):
        return {"name": self.name, "factor": self.factor}


class Calls(metrics.Metric):
    def __init__(self, each=1, name="calls"):
        super().__init__(name=name)
        self.each, self.count = each, self.add_weight(name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(self.each)

    def result(self):
        return self.count

    def get_config(self):
        return {"name": self.name, "each": self.each}


@pytest.mark.parametrize("name", WHOLE)
def test_a_loss_and_a_metric_of_one_s_own_have_the_arguments_that_they_had(name, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile("adam", Scaled(7.0), metrics=[Calls(5)])
    history = fit(model, shuffle=False).history
    model.save(tmp_path / name)
    loaded = models.load_model(tmp_path / name, custom_objects={"Scaled": Scaled, "Calls": Calls})
    assert fit(loaded, shuffle=False).history == fit(model, shuffle=False).history != history


def test_keras_names_for_it(tmp_path):
    model = made()
    saving.save_model(model, tmp_path / "m.keras")
    saving.save_weights(model, tmp_path / "m.weights.h5")
    other = models.load_model(tmp_path / "m.keras")
    other.set_weights([w * 0 for w in other.get_weights()])
    saving.load_weights(other, tmp_path / "m.weights.h5")
    assert same(other, model) and same(saving.load_model(tmp_path / "m.keras"), model)


def test_names_that_say_no_format(tmp_path):
    model = made()
    for name in ("m", "m.pkl", "folder/"):
        with pytest.raises(ValueError, match="Invalid filepath extension"):
            model.save(tmp_path / name)
        with pytest.raises(ValueError, match="File format not supported"):
            models.load_model(tmp_path / name)
        with pytest.raises(ValueError, match=r"must end in `\.weights\.h5`"):
            model.save_weights(tmp_path / name)
        with pytest.raises(ValueError, match="File format not supported"):
            model.load_weights(tmp_path / name)
    with pytest.raises(ValueError, match=r"has weights alone: save_weights writes it"):
        model.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"has weights alone: build the model, and call its load_weights"):
        models.load_model(tmp_path / "m.safetensors")
    with pytest.raises(TypeError, match="named by a string or a path"):
        model.save(3)
    with pytest.raises(ValueError, match="not supported"):
        model.save(tmp_path / "m.keras", include_optimiser=False)
    with pytest.raises(ValueError, match="The `save_format` argument is deprecated"):
        model.save(tmp_path / "m.tf", save_format="tf")
    with pytest.raises(NotImplementedError, match="zipped"):
        model.save(tmp_path / "m.keras", zipped=False)
    with pytest.raises(NotImplementedError, match="max_shard_size"):
        model.save_weights(tmp_path / "m.weights.h5", max_shard_size=1)
    with pytest.raises(NotImplementedError, match=r"have Keras export it: keras\.models"):
        model.export(tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="File not found"):
        models.load_model(tmp_path / "no.keras")
    for name in ("no.h5", "no.gpumlp"):
        with pytest.raises(FileNotFoundError):
            models.load_model(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        made().load_weights(tmp_path / "no.weights.h5")
    for name in WHOLE:
        with pytest.raises(FileNotFoundError, match=r"folder of the file does not exist.*no folder.m\.[^.]*$"):
            made().save(tmp_path / "no folder" / name)
    with pytest.raises(FileNotFoundError, match=r"folder of the file does not exist.*no folder.m\.weights\.h5'$"):
        made().save_weights(tmp_path / "no folder" / "m.weights.h5")
    with pytest.raises(ValueError, match=r"ends in '\.keras'.* Add one\.$"):
        made().save("mymodel")


# ---- weights alone ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_go_into_a_model_of_the_same_layers(name, tmp_path):
    model = made()
    fit(model)
    (model.save if name in WHOLE else model.save_weights)(tmp_path / name)
    other, bare = made(), made()
    bare._optimizer = None
    bare.load_weights(tmp_path / name)
    if name in ("m.keras", "m.weights.h5"):
        with pytest.warns(UserWarning, match="Skipping variable loading for optimizer.*2 variables"):
            other.load_weights(tmp_path / name)
    else:
        other.load_weights(tmp_path / name)
    assert same(other, model) and same(bare, model) and other.optimizer.iterations == 0


def test_an_optimizer_that_has_begun_goes_on_from_the_weights_file(tmp_path):
    model = made()
    fit(model, shuffle=False)
    model.save_weights(tmp_path / "m.weights.h5")
    alone = fit(model, shuffle=False).history
    other = made(optimizers.Adam(0.5))
    fit(other, 7)
    other.load_weights(tmp_path / "m.weights.h5")
    assert other.optimizer.iterations == 6 and other.optimizer.learning_rate == np.float32(0.001)
    found = fit(other, shuffle=False).history
    assert np.allclose(found["loss"], alone["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_do_not_fit_change_nothing(name, tmp_path):
    model, other = made(), made(units=5)
    (model.save if name in WHOLE else model.save_weights)(tmp_path / name)
    before = other.get_weights()
    with pytest.raises(
        ValueError, match=r"2 objects could not be loaded: layer '\w+' \(layers/dense\) expected shapes"
    ):
        other.load_weights(tmp_path / name)
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))
    other._optimizer = None
    with pytest.warns(UserWarning, match="these keep their weights: layer"):
        other.load_weights(tmp_path / name, skip_mismatch=True)
    now, theirs = other.get_weights(), model.get_weights()
    assert np.array_equal(now[0], before[0]) and np.array_equal(now[-1], theirs[-1])
    small = models.Sequential([layers.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    with pytest.raises(ValueError, match=r"expected 4 variables .* but received 0 variables|Layer count mismatch"):
        small.load_weights(tmp_path / name)


def test_by_name_in_an_old_file(tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    model.save(tmp_path / "m.h5")
    other = models.Sequential([layers.Input((4,)), layers.Dense(3, name="a"), layers.Dense(5, name="c")])
    before = other.get_weights()
    other.load_weights(tmp_path / "m.h5", by_name=True)
    assert np.array_equal(other.get_weights()[0], model.get_weights()[0])
    assert np.array_equal(other.get_weights()[2], before[2])
    wrong = models.Sequential([layers.Input((4,)), layers.Dense(6, name="a")])
    with pytest.raises(ValueError, match="expected shapes"):
        wrong.load_weights(tmp_path / "m.h5", by_name=True)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="`by_name` only supports loading legacy"):
        other.load_weights(tmp_path / "m.keras", by_name=True)
    with pytest.raises(ValueError, match=r"load_weights\(\) has no argument 'name'. Did you mean 'by_name'"):
        other.load_weights(tmp_path / "m.h5", name="x")


def test_some_are_left_out(tmp_path):
    model, path = made(), tmp_path / "m.weights.h5"
    fit(model)
    other = made()
    first, inner = other.layers[0], other.layers[2]
    before = [w.copy() for layer in (first, inner.layers[0]) for w in layer.get_weights()]
    model.save_weights(path)
    other.load_weights(path, objects_to_skip=[first, inner, other.optimizer])
    now = [w for layer in (first, inner.layers[0]) for w in layer.get_weights()]
    assert all(np.array_equal(a, b) for a, b in zip(before, now, strict=True))
    assert np.array_equal(other.layers[3].get_weights()[0], model.layers[3].get_weights()[0])
    saving.save_weights(model, path, objects_to_skip=[model.layers[0], model.optimizer])
    with pytest.raises(ValueError, match=r"1 objects could not be loaded.*received 0 variables"):
        other.load_weights(path)
    saving.load_weights(other, path, objects_to_skip=[first])
    assert np.array_equal(inner.layers[0].get_weights()[0], model.layers[2].layers[0].get_weights()[0])
    with pytest.raises(ValueError, match=r"only supports loading '\.weights.h5'"):
        other.load_weights(tmp_path / "m.keras", objects_to_skip=[first])


def test_unbuilt_models_have_no_weights_to_save(tmp_path):
    model = models.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="saving a model that has not yet been built"):
        model.save_weights(tmp_path / "m.weights.h5")
    made().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="loading weights into a model that has not yet been built"):
        model.load_weights(tmp_path / "m.weights.h5")


def test_the_way_of_keras_2_holds_models_in_each_other_that_repeat_a_name(tmp_path):
    h5py = pytest.importorskip("h5py")

    def inner(name, *more):
        return models.Sequential([layers.Input((4,)), *more, layers.Dense(4, name="a")], name=name)

    deep = models.Sequential([layers.Input((4,)), layers.Dense(4, name="a"), inner("deep")], name="in")
    two = models.Sequential([layers.Input((4,)), inner("one", inner("in")), inner("two", inner("in"))], name="pair")
    model = models.Sequential([layers.Input((4,)), deep, two, layers.Dense(1)])
    model.compile("adam", "mse")
    fit(model)
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        groups = file["model_weights"]
        names = [name.decode() for name in groups["in"].attrs["weight_names"]]
        assert names == ["in/a/kernel", "in/a/bias", "deep/a/kernel", "deep/a/bias"]
        for layer in model.layers:
            names = list(groups[layer.name].attrs["weight_names"])
            assert len(set(names)) == len(layer.weights)
            for name, weight in zip(names, layer.weights, strict=True):
                assert np.array_equal(groups[layer.name][name], weight.numpy())
    again = models.load_model(tmp_path / "m.h5")
    assert same(model, again)
    fit(model), fit(again)


def test_without_h5py(tmp_path, monkeypatch):
    made().save(tmp_path / "m.keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    for go in (
        lambda: made().save(tmp_path / "new.keras"),
        lambda: made().save_weights(tmp_path / "m.weights.h5"),
        lambda: models.load_model(tmp_path / "m.keras"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'gpumlp\[keras\]'"):
            go()
    made().save(tmp_path / "m.gpumlp")
    assert models.load_model(tmp_path / "m.gpumlp").built
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gpumlp", "m.keras"]


def test_where_keras_has_each_array():
    model = made()
    paths = [path for path, _ in keras_layout.places(model)]
    assert paths == [
        "layers/dense", "layers/dropout", "layers/sequential", "layers/sequential/layers/dense",
        "layers/sequential/layers/batch_normalization", "layers/dense_1",
    ]  # fmt: skip


# ---- Keras's own files -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", json.loads((GOLDEN / "expected.json").read_text()), ids=lambda c: c["file"])
def test_what_keras_has_written(case):
    """Predictions, steps, and the losses of further training are Keras's."""
    x, y = np.array(case["x"]), np.array(case["y"])
    if case["weights"] is None:
        model = models.load_model(GOLDEN / case["file"])
    else:
        model = models.load_model(GOLDEN / case["weights"])
        model.set_weights([w * 0 for w in model.get_weights()])
        model.load_weights(GOLDEN / case["file"])
    np.testing.assert_allclose(model.predict(x, verbose=0), case["predictions"], rtol=1e-5, atol=1e-6)
    assert model.optimizer.iterations == case["iterations"]
    history = model.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0).history
    assert sorted(history) == sorted(case["history"])
    for name, values in case["history"].items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, err_msg=name)


# ---- functions by their names ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", WHOLE)
def test_functions_are_written_as_keras_has_them(tmp_path, name):
    stack = [layers.Input((4,)), layers.Lambda(ops.tanh), layers.Lambda(activations.relu), layers.Dense(1)]
    model = models.Sequential(stack)
    model.compile("sgd", losses.mean_squared_error, metrics=[metrics.mean_absolute_error, metrics.binary_accuracy])
    written = {"module": "builtins", "class_name": "function", "registered_name": "function"}
    assert model.get_compile_config()["loss"] == written | {"config": "mean_squared_error"}
    assert [layer.get_config()["function"]["config"] for layer in model.layers[:2]] == ["tanh", "relu"]
    model.save(tmp_path / name)
    again = models.load_model(tmp_path / name)
    assert again.evaluate(X, Y, verbose=0, return_dict=True) == model.evaluate(X, Y, verbose=0, return_dict=True)
    with pytest.raises(ValueError, match="Unknown function 'open'"):
        saving.deserialize_keras_object(written | {"config": "open"})


@pytest.mark.parametrize("name", WHOLE)
def test_a_loss_of_a_user_s_own_is_asked_for_with_the_file_s_name(tmp_path, name):
    def myloss(t, p):
        return ops.mean(ops.square(t - p), -1)

    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile("sgd", myloss)
    model.save(tmp_path / name)
    words = f"{name}: .*'myloss'.*custom_objects={{'myloss': myloss}}.*register_keras_serializable.*compile=False"
    with pytest.raises(ValueError, match=words):
        models.load_model(tmp_path / name)
    assert not models.load_model(tmp_path / name, compile=False).compiled
    assert models.load_model(tmp_path / name, {"myloss": myloss}).compiled
