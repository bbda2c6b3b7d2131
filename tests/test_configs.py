"""Models and layers as config dicts and as JSON; clones."""

import json

import numpy as np
import pytest

from gpumlp import Sequential, layers, metrics, models, optimizers, regularizers, saving

LAYERS = [
    layers.Dense(3, "relu", kernel_regularizer=regularizers.L1L2(0.1, 0.2), bias_initializer="ones"),
    layers.Dense(2, use_bias=False, kernel_constraint="non_neg", trainable=False, name="head"),
    layers.Dropout(0.25, seed=7), layers.Activation("gelu"), layers.ReLU(6.0), layers.LeakyReLU(0.2), layers.ELU(0.5),
    layers.Softmax(), layers.Flatten(), layers.Rescaling(2.0, 1.0), layers.Input((4,)),
    layers.BatchNormalization(1, 0.9, gamma_regularizer="l2"), layers.LayerNormalization((1, 2), center=False),
    layers.UnitNormalization([1, 2]), layers.Normalization(None), layers.Normalization(mean=[1, 2], variance=[3, 4.0]),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_layer_is_made_again_of_its_config(layer):
    described = layers.serialize(layer)
    again = layers.deserialize(json.loads(json.dumps(described)))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    assert described["module"] == "keras.layers" and described["registered_name"] is None


def test_a_config_has_keras_keys():
    config = LAYERS[0].get_config()
    assert config["activation"] == "relu" and config["units"] == 3 and config["dtype"]["config"] == {"name": "float32"}
    assert config["kernel_regularizer"]["class_name"] == "L1L2" and config["bias_constraint"] is None
    assert layers.Dense.from_config(config | {"quantization_config": None}).units == 3
    with pytest.raises(ValueError, match="lora_rank"):
        layers.Dense.from_config(config | {"lora_rank": 3})


def model():
    found = Sequential(
        [layers.Dense(4, "tanh", input_shape=(3,)), layers.Dropout(0.5, seed=1), layers.Dense(1, "sigmoid")], name="m"
    )
    found.compile(
        optimizers.AdamW(0.01, weight_decay=0.1), "binary_crossentropy", metrics=["accuracy", metrics.AUC(50)],
        weighted_metrics=["mae"],
    )  # fmt: skip
    return found


def test_a_model_is_made_again_of_its_json_compiled_as_it_was():
    one = model()
    text = one.to_json(indent=1)
    again = models.model_from_json(text)
    assert again.to_json(indent=1) == text and again.name == "m" and again.built
    assert isinstance(again.optimizer, optimizers.AdamW) and again.optimizer.learning_rate == 0.01
    again.set_weights(one.get_weights())
    x, y = np.linspace(-1, 1, 30).reshape(10, 3), np.arange(10) % 2
    assert again.evaluate(x, y, verbose=0) == one.evaluate(x, y, verbose=0)
    assert json.loads(text)["config"]["layers"][0]["class_name"] == "InputLayer"


def test_models_without_a_shape_of_several_kinds_and_of_a_users_own():
    assert not Sequential.from_config(Sequential([layers.Dense(2)]).get_config()).built
    nested = Sequential([model(), layers.Dense(2)], dtype="float32")
    again = models.model_from_json(nested.to_json())
    assert again.layers[0].name == "m" and again.layers[0].layers[0].units == 4 and again.output_shape == (None, 2)
    assert models.model_from_json(Sequential([layers.Dense(1)], dtype="float64").to_json()).dtype == np.float64

    class Wide(layers.Dense):
        def __init__(self, times=2, **kwargs):
            self.times = times
            super().__init__(10 * times, **kwargs)

    text = Sequential([layers.Input((3,)), Wide(3)]).to_json()
    with pytest.raises(ValueError, match="Wide"):
        models.model_from_json(text)
    found = models.model_from_json(text, custom_objects={"Wide": Wide})
    assert found.layers[0].times == 3 and found.output_shape == (None, 30)


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", '{"module": "keras", "class_name": "Functional", "config": {}}', '{"module": "os", "class_name": '
     '"system", "config": "ls"}', '{"module": "keras", "class_name": "Sequential", "config": {"layers": 3}}',
     '{"module": "keras", "class_name": "Sequential", "config": {"layers": [{"module": "keras.layers", "class_name": '
     '"Conv2D", "config": {}}]}}'],
)  # fmt: skip
def test_what_is_no_model_of_ours_is_refused_in_words(text):
    with pytest.raises(ValueError, match=r"JSON|Sequential|not known|list of layers|Unknown layer"):
        models.model_from_json(text)


def test_a_clone_has_new_weights_and_the_same_layers():
    one = model()
    again = models.clone_model(one)
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in one.layers]
    assert not np.array_equal(again.get_weights()[0], one.get_weights()[0])

    def halved(layer):
        config = layer.get_config()
        return type(layer).from_config(config | ({"units": 2} if config.get("units") == 4 else {}))

    assert models.clone_model(one, clone_function=halved).layers[0].units == 2
    with pytest.raises(ValueError, match="must return a new layer"):
        models.clone_model(one, clone_function=lambda layer: layer)
    nested = Sequential([one, layers.Dense(1)])
    assert models.clone_model(nested).layers[0] is not one
    assert models.clone_model(nested, clone_function=halved, recursive=True).layers[0].layers[0].units == 2


def test_a_clone_is_compiled_alike_with_an_optimizer_of_its_own():
    one = Sequential([layers.Dense(1, input_shape=(3,))])
    assert not models.clone_model(one).compiled
    one.compile(optimizers.SGD(0.25, momentum=0.5), lambda t, p: (t - p) ** 2, metrics=["mae"], jit_compile=False)
    x, y = np.ones((6, 3)), np.ones(6)
    one.fit(x, y, verbose=0)
    again = models.clone_model(one)
    assert again.compiled and again.optimizer is not one.optimizer and again.device.name == one.device.name
    assert again.optimizer.get_config() == one.optimizer.get_config() and again.optimizer.iterations == 0
    assert again._compiled_with == one._compiled_with
    again.set_weights(one.get_weights())
    assert again.evaluate(x, y, verbose=0) == one.evaluate(x, y, verbose=0)
    again.fit(x, y, verbose=0)
    assert one.optimizer.iterations == 1 == again.optimizer.iterations


def test_what_was_compiled_is_said():
    one = model()
    assert Sequential([layers.Dense(1)]).get_compile_config() is None
    found = one.get_compile_config()
    assert found["loss"] == "binary_crossentropy" and found["metrics"][0] == "accuracy"
    other = Sequential([layers.Dense(1, "sigmoid", input_shape=(3,))])
    other.compile_from_config(found)
    assert other.get_compile_config() == found | {"optimizer": found["optimizer"]}
    assert saving.serialize_keras_object(other)["compile_config"] == found


def test_an_input_has_its_batch_s_shape_and_keras_s_older_names():
    """The batch's size is kept, and binds nobody; ``input_shape`` is what tutorials before Keras 3 say."""
    for given, shape in (
        ({"input_shape": (4,)}, (None, 4)),
        ({"batch_input_shape": (8, 4)}, (8, 4)),
        ({"batch_shape": (None, 2, 3)}, (None, 2, 3)),
        ({"shape": (2, 3), "batch_size": 5}, (5, 2, 3)),
    ):
        layer = layers.InputLayer(**given)
        assert layer.batch_shape == shape and layer.get_config()["batch_shape"] == list(shape)
        assert layers.InputLayer.from_config(layer.get_config()).batch_shape == shape
        assert not (layer.sparse or layer.ragged or layer.optional)
    model = Sequential([layers.InputLayer(batch_size=5, input_shape=(3,)), layers.Dense(2)])
    assert model.predict(np.ones((7, 3)), verbose=0).shape == (7, 2)
    with pytest.raises(NotImplementedError, match="input_tensor=None only"):
        layers.InputLayer(input_tensor=np.ones((2, 3)))
    with pytest.raises(TypeError, match="batch_size"):
        layers.Input((3,), batch_size="many")
