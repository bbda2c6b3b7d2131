"""Names of Keras's that gpumlp has not: they can be imported, and say what to use instead when they are used."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpumlp
from gpumlp import activations, layers, ops
from gpumlp.keras_names import NAMES
from gpumlp.missing import INSTEAD, Missing, instead


def test_what_tutorials_import_and_do_not_use_can_be_imported():
    code = """
import gpumlp as keras
from gpumlp.layers import Conv2D, Embedding, Flatten, Dense
from gpumlp.layers.convolutional import MaxPooling2D
from gpumlp.layers.core import Activation, Dropout
from gpumlp import applications, backend as K, datasets, preprocessing
from gpumlp.datasets import mnist
import gpumlp.datasets.mnist
import gpumlp.preprocessing.image as images
from gpumlp.preprocessing.text import Tokenizer
from gpumlp.applications.vgg16 import VGG16
from gpumlp.utils import np_utils
from gpumlp.layers import *
from gpumlp.datasets import *
assert np_utils.to_categorical is keras.utils.to_categorical and Dropout is keras.layers.Dropout
assert K.mean is keras.ops.mean and keras.Layer is keras.layers.Layer and keras.losses.mse is keras.losses.MSE
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_of_keras_is_there():
    for module in NAMES:
        found = importlib.import_module(f"gpumlp.{module}".rstrip("."))
        for entry in NAMES[module].split():
            assert getattr(found, entry.partition("=")[0]) is not None


@pytest.mark.parametrize(
    "path, instead",
    [
        ("layers.Conv2D", "PyTorch"),
        ("layers.LSTM", "PyTorch"),
        ("layers.Embedding", "to_categorical"),
        ("layers.StringLookup", "OrdinalEncoder"),
        ("models.Model", "Sequential"),
        ("datasets.mnist.load_data", "fetch_openml"),
        ("datasets.imdb.load_data", "fetch_openml"),
        ("applications.VGG16", "PyTorch"),
        ("preprocessing.text.Tokenizer", "CountVectorizer"),
        ("utils.model_to_dot", "plot_model"),
        ("losses.Reduction", "'sum_over_batch_size'"),
        ("ops.segment_sum", "NumPy"),
        ("ops.gelu", "activations.gelu"),
        ("ops.binary_crossentropy", "gpumlp.losses"),
        ("visualization.plot_image_gallery", "PyTorch"),
    ],
)
def test_it_says_what_to_use_instead(path, instead):
    thing = gpumlp
    for part in path.split("."):
        thing = getattr(thing, part)
    words = f"gpumlp has no keras.{path}. .*{instead}"
    with pytest.raises(NotImplementedError, match=words):
        thing(1, two=3)
    with pytest.raises(NotImplementedError, match=words):
        exec("class Own(thing): pass", {"thing": thing})
    with pytest.raises(AttributeError, match=words):
        _ = thing.anything
    assert instead in thing.__doc__ and path in repr(thing)


def test_what_keras_has_as_operations_too_are_the_activations():
    assert ops.leaky_relu is activations.leaky_relu and ops.hard_silu is activations.hard_swish
    np.testing.assert_allclose(ops.leaky_relu(np.array([-2.0, 3.0]), negative_slope=0.5), [-1.0, 3.0])
    model = gpumlp.Sequential([layers.Dense(2, lambda x: x * ops.relu6(x + 3.0) / 6.0, input_shape=(3,))])
    known = gpumlp.Sequential([layers.Dense(2, "hard_swish", input_shape=(3,))])
    known.set_weights(model.get_weights())
    x = np.linspace(-9.0, 9.0, 30).reshape(10, 3)
    np.testing.assert_allclose(model.predict(x, verbose=0), known.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_placeholder_is_no_type_of_anything_and_may_be_an_annotation():
    model = gpumlp.Sequential()
    assert isinstance(model, gpumlp.Model) and isinstance(model, gpumlp.models.Model)
    assert not isinstance(gpumlp.layers.Dense(1), gpumlp.Model) and not isinstance(model, gpumlp.layers.Conv2D)
    assert not issubclass(gpumlp.Sequential, gpumlp.layers.Conv2D)
    assert gpumlp.layers.Conv2D is gpumlp.layers.Conv2D
    assert (gpumlp.layers.Conv2D | None) and (None | gpumlp.layers.Conv2D) and list[gpumlp.layers.Conv2D]


def test_placeholders_are_not_listed():
    assert "Conv2D" not in dir(gpumlp.layers) and "datasets" not in dir(gpumlp) and "datasets" not in gpumlp.__all__
    assert dir(gpumlp.preprocessing.image) == [] and "floatx" in dir(gpumlp.backend)
    listed = [name for module in NAMES for name in dir(importlib.import_module(f"gpumlp.{module}".rstrip(".")))]
    assert listed and not any(name in listed for name in ("Conv1D", "Functional", "VGG16", "load_data"))


@pytest.mark.parametrize(
    "module, name, near",
    [("layers", "Dens", "Dense"), ("", "sequential", "Sequential"), ("datasets.mnist", "load", "load_data"),
     ("utils", "to_categoricals", "to_categorical"), ("layers", "qqq", "")],
)  # fmt: skip
def test_a_name_that_keras_has_not_either(module, name, near):
    found = importlib.import_module(f"gpumlp.{module}".rstrip("."))
    words = f"module '{found.__name__}' has no attribute '{name}'." + (f" Did you mean '{near}'?" if near else "")
    with pytest.raises(AttributeError) as raised:
        getattr(found, name)
    assert str(raised.value) == words
    with pytest.raises(AttributeError):
        _ = found._private
    with pytest.raises(ImportError):
        exec(f"from {found.__name__} import {name}")


def test_no_placeholder_stands_before_a_module_of_the_package():
    root = Path(gpumlp.__file__).parent
    for module in filter(None, NAMES):
        path = root.joinpath(*module.split("."))
        if not hasattr(sys.modules[f"gpumlp.{module}"], "__file__"):
            assert not path.with_suffix(".py").exists() and not path.exists()


def test_what_is_called_missing_is_nowhere_in_the_package():
    missing = [value for module in NAMES for value in vars(sys.modules[f"gpumlp.{module}".rstrip(".")]).values()]
    assert not any(isinstance(value, Missing) for value in missing)


def test_each_word_of_what_to_use_instead_is_of_a_name_that_is_missing():
    paths = []
    for module in NAMES:
        found = importlib.import_module(f"gpumlp.{module}".rstrip("."))
        things = [getattr(found, entry.partition("=")[0]) for entry in NAMES[module].split()]
        paths += [thing._known for thing in things if isinstance(thing, Missing)]
    assert len(paths) > 500
    for patterns, words in INSTEAD:
        assert any(instead(path) == words for path in paths), patterns


def test_dir_lists_what_is_public():
    names = [name for name in dir(gpumlp) if not name.startswith("_")]
    assert set(names) == {*gpumlp.__all__, "version"} and "plotting" in names and "tape" not in names
    assert "__version__" in dir(gpumlp)


@pytest.mark.parametrize("old, new", [("maxnorm", "MaxNorm"), ("unitnorm", "UnitNorm"), ("nonneg", "NonNeg")])
def test_constraints_have_their_older_names(old, new):
    assert getattr(gpumlp.constraints, old) is getattr(gpumlp.constraints, new)


def test_what_older_scripts_call_is_told():
    with pytest.raises(NotImplementedError, match=r"optimizer\.learning_rate = v"):
        gpumlp.backend.set_value(None, 0.1)
    model = gpumlp.Sequential([gpumlp.layers.Dense(1)])
    for name, words in (
        ("predict_classes", "argmax"), ("predict_proba", "model.predict"), ("fit_generator", "model.fit"),
        ("evaluate_generator", "model.evaluate"), ("predict_generator", "model.predict"),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=words):
            getattr(model, name)
        assert not hasattr(model, name)
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        model.other  # noqa: B018
