"""What kernels would not call, or could not mean, is refused where it comes in; values are looked at when set."""

import numpy as np
import pytest

from gpumlp import initializers, layers, losses, metrics, models, optimizers

X, Y = np.ones((8, 3), "f4"), np.ones((8, 1), "f4")


def small(**how):
    model = models.Sequential([layers.Dense(4, "relu", input_shape=(3,)), layers.Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **how})
    return model


def subclass(base, name):
    return type("Mine", (base,), {name: lambda self, *arguments, **named: None, "__module__": __name__})


OVERRIDES = {
    "Keras's loss": lambda: small(loss=subclass(losses.MeanSquaredError, "call")()),
    "optimizer": lambda: small(optimizer=subclass(optimizers.SGD, "apply")()),
    "layer": lambda: models.Sequential([subclass(layers.Activation, "result_shape")("relu", input_shape=(3,))]),
    "Keras's layer": lambda: models.Sequential([subclass(layers.Dense, "call")(2, input_shape=(3,))]),
    **{
        f"a layer's {name}": lambda name=name: models.Sequential([layers.Input((3,)), subclass(layers.Dense, name)(2)])
        for name in ("build", "compute_output_shape", "compute_mask", "add_loss")
    },
    "model": lambda: subclass(models.Sequential, "train_step")(),
}


@pytest.mark.parametrize("what", OVERRIDES)
def test_a_method_of_a_user_s_class_that_kernels_would_not_call_is_refused(what):
    with pytest.raises(TypeError, match=r"Mine\.\w+ would not be called"):
        OVERRIDES[what]()


def test_subclasses_that_override_nothing_of_it_are_taken():
    class Mine(layers.Dense):
        """Names and constants of one's own are fine."""

        def __init__(self):
            super().__init__(1, "tanh")

    model = models.Sequential([layers.Input((3,)), Mine()])
    model.compile(type("Slow", (optimizers.SGD,), {})(1e-4), "mse")
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("built", [True, False])
def test_an_initializer_must_give_the_shape_that_is_asked_for(built):
    class Mine(initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return np.full((1, 1), 0.5, dtype)

    def make():
        layer = layers.Dense(3000, kernel_initializer=Mine())
        model = models.Sequential([*([layers.Input((3,))] if built else []), layer, layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(X, Y, verbose=0)

    with pytest.raises(ValueError, match=r"kernel_initializer of layer .* shape \(3, 3000\); got float32 of shape \(1"):
        make()


WRONG = [
    (lambda: layers.Dropout(0.5), "rate", 2.0), (lambda: layers.AlphaDropout(0.5), "rate", 1.0),
    (lambda: layers.Dropout(0.5), "rate", np.nan), (lambda: layers.Dense(2), "trainable", "no"),
    (lambda: layers.Dense(2), "units", 2.5), (lambda: layers.Dense(2), "use_bias", "no"),
    (lambda: layers.Dense(2), "activation", "rely"), (lambda: layers.Rescaling(2.0), "scale", "a"),
    (lambda: layers.Rescaling(2.0), "offset", np.inf), (optimizers.SGD, "momentum", -1),
    (optimizers.SGD, "momentum", "0.9"),
    (optimizers.SGD, "nesterov", "no"), (optimizers.SGD, "weight_decay", -5),
    (optimizers.SGD, "learning_rate", 10**400),
    (optimizers.Adam, "beta_1", 1.5), (optimizers.Adam, "beta_2", 1.0), (optimizers.Adam, "epsilon", np.nan),
    (optimizers.RMSprop, "rho", 2), (optimizers.RMSprop, "centered", "yes"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "value"), WRONG)
def test_a_value_that_a_constructor_refuses_is_refused_later_too(make, name, value):
    thing = make()
    before = getattr(thing, name)
    with pytest.raises((ValueError, TypeError)):
        setattr(thing, name, value)
    assert getattr(thing, name) == before


def test_a_name_set_later_means_what_it_means_in_the_constructor():
    model = small()
    model.layers[0].activation = "tanh"
    model.layers[0].kernel_regularizer = "l2"
    same = models.Sequential([layers.Dense(4, "tanh", kernel_regularizer="l2", input_shape=(3,)), layers.Dense(1)])
    same.compile("sgd", "mse")
    same.set_weights(model.get_weights())
    assert model.evaluate(X, Y, verbose=0) == same.evaluate(X, Y, verbose=0)


def test_the_dtype_of_a_model_is_chosen_when_it_is_made():
    with pytest.raises(AttributeError):
        small().dtype = "float64"


# ---- targets and metrics ---------------------------------------------------------------------------------------------


def grid(loss):
    model = models.Sequential([layers.Input((2, 3)), layers.Rescaling(1.0)])
    model.compile("sgd", loss)
    return model


def test_targets_of_another_shape_with_as_many_numbers_are_refused():
    x = np.arange(12.0).reshape(2, 2, 3)
    assert grid("mse").evaluate(x, x, verbose=0) == 0
    with pytest.raises(ValueError, match=r"y has samples of shape \(3, 2\).*\(2, 3\)"):
        grid("mse").evaluate(x, x.transpose(0, 2, 1).copy(), verbose=0)


def test_a_metric_that_does_not_fit_the_targets_is_refused():
    model = models.Sequential([layers.Dense(3, "softmax", input_shape=(3,))])
    model.compile("sgd", "categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
    with pytest.raises(ValueError, match=r"'sparse_categorical_accuracy' takes one class number.*'accuracy' means"):
        model.evaluate(X, np.eye(3)[np.zeros(8, int)], verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["categorical_accuracy"])
    with pytest.raises(ValueError, match="'categorical_accuracy' takes 3 numbers"):
        model.evaluate(X, np.zeros(8), verbose=0)


def test_metrics_of_one_name_are_numbered_and_none_is_named_loss():
    model = small(metrics=[metrics.MeanAbsoluteError("m"), metrics.MeanSquaredError("m")])
    found = model.evaluate(X, 3 * Y, verbose=0, return_dict=True)
    assert sorted(found) == ["loss", "m", "m_1"] and found["loss"] == found["m_1"] != found["m"]
    model = small(metrics=[metrics.MeanAbsoluteError("loss")])
    with pytest.raises(ValueError, match="cannot be named 'loss'"):
        model.evaluate(X, Y, verbose=0)


def test_class_weights_need_class_numbers():
    with pytest.raises(ValueError, match=r"class_weight needs class numbers in y; row 0 has 0\.[89]"):
        small().fit(X, np.full(8, 0.9), class_weight={0: 1.0, 1: 5.0}, verbose=0)


def test_a_large_class_number_takes_a_row_and_no_square(recwarn):
    from gpumlp.utils import to_categorical

    assert to_categorical([49_999]).shape == (1, 50_000)
    assert np.array_equal(to_categorical([[1], [0]], 3), [[0, 1, 0], [1, 0, 0]])


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning")  # on purpose
@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_what_overflows_is_infinite_in_silence_and_ends_no_step(kernels, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", kernels)
    model = small(optimizer=optimizers.SGD(1e25))
    model.fit(X, Y, batch_size=2, epochs=3, verbose=0)
    assert model.optimizer.iterations == 12 and not np.isfinite(model.get_weights()[0]).all()


def of_keras(name, module="keras.src.somewhere", base=object):
    return type(name, (base,), {"__module__": module, "__call__": lambda self, *arguments: None})


@pytest.mark.parametrize(
    "take",
    [
        lambda thing: models.Sequential([thing]), lambda thing: small().add(thing), optimizers.get, losses.get,
        metrics.get, initializers.get, lambda thing: small(loss=thing), lambda thing: small(metrics=[thing]),
    ],
)  # fmt: skip
def test_things_of_keras_are_to_be_imported_from_gpumlp(take):
    for kind in (of_keras("Thing"), of_keras("Mine", __name__, of_keras("Thing"))):
        with pytest.raises((TypeError, ValueError), match="that is Keras's Thing; import it from gpumlp"):
            take(kind())


def test_a_layer_is_in_a_model_once():
    layer = layers.Dense(3)
    for second in (layer, models.Sequential([layer])):
        with pytest.raises(ValueError, match="is in the model already: gpumlp shares layers between models"):
            models.Sequential([layers.Input((3,)), layer, second])


@pytest.mark.parametrize("weight", [0.5, [0.5], {"dense": 0.5}])
def test_another_weight_of_the_loss_is_said_to_be_the_loss_s_own(weight):
    with pytest.raises(ValueError, match="scale the loss itself"):
        small(loss_weights=weight)
    small(loss=lambda y_true, y_pred: 0.5 * losses.mean_squared_error(y_true, y_pred))
