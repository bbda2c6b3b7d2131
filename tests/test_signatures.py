"""Constructors of layers, as signatures have them; how layers and what they have show themselves; types of ops."""

import copy
import functools
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
import traceback

import numpy as np
import pytest

from gpumlp import (
    Ensemble,
    activations,
    callbacks,
    constraints,
    errors,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
)

KINDS = sorted({getattr(layers, n) for n in layers.__all__} & set(layers.KINDS), key=lambda kind: kind.__name__)
SHARED = {"name": None, "dtype": None, "trainable": True, "input_shape": None, "input_dim": None}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_s_signature_has_all_that_it_takes(kind):
    found = inspect.signature(kind).parameters
    assert "self" not in found
    assert not [p for p in found.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if kind is not layers.InputLayer:
        assert {name: found[name].default for name in SHARED} == SHARED
        assert all(found[name].kind is inspect.Parameter.KEYWORD_ONLY for name in SHARED)
    assert [name for name in inspect.signature(kind.__init__).parameters if name != "self"] == list(found)


def test_a_layer_itself_is_called_with_an_array():
    assert list(inspect.signature(layers.Dense(3)).parameters) == ["inputs", "training"]


MAKE = {  # of those that need arguments
    "Activation": ("relu",), "Dense": (3,), "Dropout": (0.5,), "AlphaDropout": (0.5,), "GaussianDropout": (0.5,),
    "GaussianNoise": (0.5,), "InputLayer": ((4,),), "Lambda": (activations.relu,), "Permute": ((1,),),
    "RepeatVector": (2,), "Rescaling": (2.0,), "Reshape": ((2, 2),),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_all_layers_take_is_taken_and_what_none_takes_is_refused(kind):
    given = MAKE.get(kind.__name__, ())
    with pytest.raises(
        ValueError, match=rf"{kind.__name__}\(\) has no argument 'input_shap'\. Did you mean 'input_shape'\?"
    ):
        kind(*given, input_shap=4)
    if kind is layers.InputLayer:
        return
    one = kind(*given, name="a", dtype="float64", trainable=False, input_shape=(4,))
    assert (one.name, one.dtype, one.trainable, one.given_shape) == ("a", "float64", False, (4,))
    assert kind(*given, input_dim=4).given_shape == (4,)
    again = kind.from_config(one.get_config())
    assert again.get_config() == one.get_config() and repr(again) == repr(one)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert repr(other) == repr(one)


def test_older_words_are_taken():
    assert layers.LeakyReLU(alpha=0.1).negative_slope == 0.1
    assert "alpha" not in layers.LeakyReLU(alpha=0.1).get_config()
    assert layers.Input(input_shape=(4,)).batch_shape == (None, 4)
    assert layers.Input(batch_input_shape=(2, 4)).batch_shape == (2, 4)


def test_a_class_of_a_user_s_hands_names_on_and_misspelt_ones_are_still_refused():
    class Wide(layers.Dense):
        def __init__(self, **kwargs):
            super().__init__(64, **kwargs)

    assert Wide(activation="relu", name="wide").units == 64
    with pytest.raises(ValueError, match=r"Dense\(\) has no argument 'activaton'. Did you mean 'activation'\?"):
        Wide(activaton="relu")

    class Scaled(layers.Dense):
        def __init__(self, units, **more):
            self.scale = more.pop("scale")
            super().__init__(units, **more)

    assert Scaled(2, scale=3.0).scale == 3.0


MODEL = models.Sequential([layers.Dense(1, input_shape=(2,), name="only")])


@pytest.mark.parametrize(
    ("called", "wrong", "meant"),
    [
        (MODEL.compile, "optimiser", "optimizer"), (MODEL.fit, "epoch", "epochs"), (MODEL.fit, "nb_epoch", "epochs"),
        (MODEL.fit, "batchsize", "batch_size"), (MODEL.evaluate, "sample_weights", "sample_weight"),
        (MODEL.predict, "verbos", "verbose"), (MODEL.train_on_batch, "returndict", "return_dict"),
        (MODEL.test_on_batch, "weight", "sample_weight"), (MODEL.gradients, "traning", "training"),
        (MODEL.get_layer, "nam", "name"), (MODEL.summary, "line_len", "line_length"),
        (MODEL.save_weights, "overwite", "overwrite"), (MODEL.load_weights, "skip_mismatched", "skip_mismatch"),
        (models.load_model, "compiled", "compile"), (models.Sequential, "layer", "layers"),
        (Ensemble, "member", "members"), (Ensemble.fit, "boostrap", "bootstrap"),
        (layers.Dropout, "trainble", "trainable"), (losses.Huber, "delt", "delta"), (metrics.AUC, "curv", "curve"),
        (metrics.Mean, "nam", "name"), (optimizers.Adam, "learn_rate", "learning_rate"),
        (optimizers.schedules.CosineDecay, "alph", "alpha"), (initializers.HeNormal, "sed", "seed"),
        (regularizers.L2, "l", "l2"), (regularizers.OrthogonalRegularizer, "mod", "mode"),
        (constraints.MaxNorm, "max_val", "max_value"), (callbacks.EarlyStopping, "patence", "patience"),
    ],
)  # fmt: skip
def test_an_argument_that_there_is_not_is_named_with_the_nearest(called, wrong, meant):
    name = re.escape(called.__name__)
    with pytest.raises(
        errors.UnknownArgument, match=rf"^{name}\(\) has no argument '{wrong}'\. Did you mean '{meant}'\?$"
    ):
        called(**{wrong: None})
    with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument 'foo_x'\. It takes \w+"):
        called(foo_x=None)
    with pytest.raises(ValueError, match=rf"^{name}\(\) has no arguments '{wrong}', 'foo_x'\. Did you mean '{meant}'"):
        called(**{wrong: None}, foo_x=None)


def test_who_has_no_such_argument_is_named():
    class Own(layers.Dense):
        def __init__(self, units):
            super().__init__(units, actvation="relu")

    with pytest.raises(errors.UnknownArgument, match=r"^Dense\(\) has no argument 'actvation'"):
        Own(3)

    class Loss(losses.Huber):
        def __init__(self):
            super().__init__(delt=1.0)

    with pytest.raises(errors.UnknownArgument, match=r"^Huber\(\) has no argument 'delt'"):
        Loss()
    with pytest.raises(errors.UnknownArgument, match=r"^Dense.__init__\(\) has no argument 'foo'"):
        layers.Dense.__init__(foo=1)
    with pytest.raises(errors.UnknownArgument, match=rf"^{MODEL.name}\(\) has no argument 'trainig'. .*'training'"):
        MODEL([[1.0, 2.0]], trainig=True)


def test_what_a_decorated_constructor_raises_is_left_as_it_is():
    def tagged(function):
        @functools.wraps(function)
        def call(*args, tag=None, **given):
            return function(*args, **given)

        return call

    class Own(callbacks.Callback):
        @tagged
        def __init__(self, x):
            raise TypeError("the reason")

    with pytest.raises(TypeError, match=r"^the reason$"):
        Own(1, tag="a")


def test_an_error_of_a_lambda_s_function_shows_where_it_comes_from():
    def function(x):
        return x + "a"

    with pytest.raises(TypeError, match=r"^Lambda layer 'mine': .*[^.]\. A Lambda's function gives") as caught:
        layers.Lambda(function, name="mine")
    cause = caught.value.__cause__
    assert isinstance(cause, TypeError) and "function" in [f.name for f in traceback.extract_tb(cause.__traceback__)]


def test_other_errors_are_what_they_were():
    """Python's own words for what is missing, and every TypeError from within."""
    with pytest.raises(TypeError, match=r"predict\(\) missing 1 required positional argument: 'x'"):
        MODEL.predict(verbose=0)
    with pytest.raises(TypeError, match=r"predict\(\) got multiple values for argument 'x'"):
        MODEL.predict([[1.0, 2.0]], x=[])

    class Wrong(callbacks.Callback):
        def on_predict_begin(self, logs=None):
            dict(foo=1).pop(key="foo")

    with pytest.raises(TypeError, match="takes no keyword arguments") as caught:
        MODEL.predict([[1.0, 2.0]], callbacks=[Wrong()], verbose=0)
    assert not isinstance(caught.value, errors.UnknownArgument)


@pytest.mark.parametrize("method", ["compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch"])
def test_a_method_s_signature_is_explicit(method):
    found = inspect.signature(getattr(models.Sequential, method)).parameters
    assert not [p for p in found.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert len(found) > 4 and getattr(models.Sequential, method).__doc__
    assert f"{method}(self, {list(found)[1]}" in pydoc.plain(pydoc.render_doc(models.Sequential))


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (layers.Dense(256, "relu", name="d"), "<Dense d: units=256, activation=relu>"),
        (layers.Dense(2, kernel_initializer="he_normal", kernel_regularizer=regularizers.L2(0.1), name="d"),
         "<Dense d: units=2, kernel_initializer=HeNormal(), kernel_regularizer=L2(l2=0.1)>"),
        (layers.Dropout(0.5, name="d"), "<Dropout d: rate=0.5>"),
        (layers.BatchNormalization(name="b"), "<BatchNormalization b>"),
        (layers.Rescaling([1.0, 2.0], name="r"), "<Rescaling r: scale=[1.0, 2.0]>"),
        (layers.Input((4,), name="i"), "<InputLayer i: shape=(4,)>"),
        (initializers.GlorotUniform(), "GlorotUniform()"),
        (initializers.GlorotUniform(seed=1), "GlorotUniform(seed=1)"),
        (initializers.RandomNormal(), "RandomNormal(mean=0.0, stddev=0.05)"),
        (regularizers.L1(), "L1(l1=0.01)"),
        (regularizers.L1L2(l2=0.5), "L1L2(l1=0.0, l2=0.5)"),
        (constraints.MaxNorm(3.0), "MaxNorm(max_value=3.0, axis=0)"),
        (constraints.NonNeg(), "NonNeg()"),
        (activations.elu.given(alpha=0.5), "elu(alpha=0.5)"),
    ],
)  # fmt: skip
def test_reprs_say_what_differs_from_the_usual(thing, text):
    assert repr(thing) == text


@pytest.mark.parametrize(
    "thing",
    [
        initializers.HeNormal(seed=3), initializers.VarianceScaling(2.0, "fan_out"), initializers.Constant(0.5),
        regularizers.L1(0.5), regularizers.L2(0.5), regularizers.L1L2(0.5, 0.25), constraints.MinMaxNorm(0.5, 2.0),
        constraints.UnitNorm(axis=1),
    ],
)  # fmt: skip
def test_a_repr_makes_the_same_thing_again(thing):
    assert eval(repr(thing), vars(initializers) | vars(regularizers) | vars(constraints)) == thing


TYPED = """
from typing import assert_type

import numpy as np

from gpumlp import activations, ops
from gpumlp.expressions import Node, Table

symbol = Table().leaf("x", 2)
assert_type(ops.exp(symbol), Node)
assert_type(ops.exp([0.0, 1.0]), np.ndarray)
assert_type(ops.maximum(symbol, 0.0), Node)
assert_type(ops.maximum(0.0, symbol), Node)
assert_type(ops.maximum(np.zeros(3), 0.0), np.ndarray)
assert_type(ops.where(symbol > 0.0, symbol, 0.0), Node)
assert_type(ops.mean(symbol, axis=-1, keepdims=True), Node)
assert_type(activations.relu([1.0]), np.ndarray)
assert_type(activations.relu(symbol), Node)
assert_type(symbol.shape, tuple[int | None, ...])
ops.exp("a", 2)  # too many
symbol.flags  # which symbols have not
"""


def test_of_symbols_come_symbols_and_of_arrays_arrays_to_a_type_checker(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "typed.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
    done = subprocess.run([*command, str(tmp_path / "typed.py")], capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 2 and "No overload" in errors[0] and '"flags"' in errors[1], done.stdout


def test_ops_compute_what_numpy_does_on_lists_numbers_and_arrays():
    assert ops_of("logical_or", [0.0, 1.0], [0.0, 0.0]).tolist() == [False, True]
    assert ops_of("silu", [0.0]).dtype == np.float32 and ops_of("silu", np.zeros(1)).dtype == np.float64
    assert isinstance(ops_of("stop_gradient", [1.0]), np.ndarray)
    assert ops_of("squeeze", np.zeros((2, 1)), [1]).shape == (2,)


def ops_of(name, *args):
    from gpumlp import ops

    return getattr(ops, name)(*args)
