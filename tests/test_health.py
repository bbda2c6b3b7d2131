"""What a person is told when training goes wrong, and that being told changes nothing.

The networks are those of the article on y = sin(x), which loses its relus, and small ones.
"""

import pickle
import warnings

import numpy as np
import pytest
from host.runtime import HostRuntime

from gpumlp import Ensemble, Sequential, callbacks, config, layers, losses, ops, optimizers
from gpumlp.errors import (
    DeadUnitsWarning,
    DeviceMemoryError,
    InputScaleWarning,
    NonFiniteLossWarning,
    NotAdaptedWarning,
    TargetScaleWarning,
    TrainingWarning,
)
from gpumlp.training import health
from gpumlp.utils import set_random_seed

X = np.arange(0, 20, 0.1)
Y = np.sin(X)


@pytest.fixture(params=["numpy", "numba"])
def both(request, monkeypatch):
    """NumPy's kernels, and the compiled ones."""
    monkeypatch.setenv("GPUMLP_KERNELS", request.param)


def article(activation="relu", norm=None, optimizer="adam"):
    set_random_seed(0)
    stack = [layers.Dense(256, activation, name=f"layer_{i}") for i in range(1, 8)]
    model = Sequential([layers.Input((1,)), *([norm] if norm else []), *stack, layers.Dense(1, name="last")])
    model.compile(optimizer, "mse")
    return model


def small(activation="relu", loss="mse", optimizer="adam", features=1, first=(), **kwargs):
    set_random_seed(0)
    stack = [layers.Dense(16, activation, name="one"), layers.Dense(16, activation, name="two")]
    model = Sequential([layers.Input((features,)), *first, *stack, layers.Dense(1, name="last")], **kwargs)
    model.compile(optimizer, loss)
    return model


def told(model, x=X, y=Y, epochs=20, **kwargs):
    """Return what a fit of 10 steps an epoch says, as category and text."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(x, y, **{"steps_per_epoch": 10, "epochs": epochs, "verbose": 0} | kwargs)
    return [(each.category, str(each.message)) for each in found]


def normal(features=1, n=200):
    return np.random.default_rng(5).standard_normal((n, features))


# ---- relus -----------------------------------------------------------------------------------------------------------
def test_the_articles_network_loses_its_relus(both):
    model = article()
    ((kind, text),) = told(model, epochs=60)
    assert kind is DeadUnitsWarning and "layers.Normalization" in text and "leaky_relu" in text
    shares = []
    for i in range(7):
        out = Sequential(model.layers[: i + 1]).predict(X, verbose=0)
        shares.append(np.mean(~out.any(axis=0)))
    worst = int(np.argmax(shares))
    assert shares[worst] > health.DEAD
    assert text.startswith(
        f"{shares[worst]:.0%} of the 256 relus of layer 'layer_{worst + 1}' are 0 for all of the 200"
    )


@pytest.mark.parametrize("remedy", ["normalization", "learning rate", "leaky_relu"])
def test_the_remedies_are_some(remedy):
    norm = layers.Normalization()
    norm.adapt(X)
    model = {
        "normalization": lambda: article(norm=norm), "learning rate": lambda: article(optimizer=optimizers.Adam(1e-4)),
        "leaky_relu": lambda: article("leaky_relu"),
    }[remedy]()  # fmt: skip
    assert told(model, epochs=60) == []


def lost(*stack):
    """Return a model whose stack gives 0 for all of X."""
    set_random_seed(0)
    model = Sequential([layers.Input((1,)), *stack, layers.Dense(1, name="last")])
    model.compile(optimizers.SGD(1e-9), "mse")
    arrays = [-np.ones(w.shape) if w.name == "kernel" else np.zeros(w.shape) for w in model.weights]
    model.set_weights(arrays)
    return model


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        ([layers.Dense(4, "relu", name="a")], "a"), ([layers.Dense(4), layers.ReLU(name="b")], "b"),
        ([layers.Dense(4), layers.Activation("relu6", name="c")], "c"),
        ([layers.Reshape((1, 1)), layers.Dense(4, "relu", name="d"), layers.Flatten()], "d"),
        ([layers.Dense(4, layers.ReLU(max_value=3.0), name="e")], "e"),
        ([layers.Dense(4), layers.ReLU(negative_slope=0.1)], None), ([layers.Dense(4, "tanh")], None),
    ],
)  # fmt: skip
def test_which_layers_have_relus(stack, name):
    found = told(lost(*stack))
    assert [kind for kind, _ in found] == ([DeadUnitsWarning] if name else [])
    assert not name or f"100% of the 4 relus of layer {name!r}" in found[0][1]


def test_a_batch_of_few_samples_does_not_show_it():
    def batches(n):
        while True:
            yield X[:n], Y[:n]

    assert told(lost(layers.Dense(4, "relu")), batches(50), None) == []
    assert [kind for kind, _ in told(lost(layers.Dense(4, "relu")), batches(100), None)] == [DeadUnitsWarning]


def test_whatever_computes(family):
    """Where the samples are, and the weights, does not matter."""
    ((kind, _),) = told(lost(layers.Dense(4, "relu")))
    assert kind is DeadUnitsWarning
    model = small(optimizer=optimizers.SGD(1.0))
    with np.errstate(all="ignore"):
        ((kind, text),) = told(model, X * 3, Y * 100)
    assert kind is NonFiniteLossWarning and "With the weights that fit began with, all was finite" in text
    assert model.device.name.startswith("cuda") == (family == "cuda")


def hours(n=24 * 256):
    """Return one-hot hours of n / 24 days."""
    return np.eye(24)[np.arange(n) % 24]


FAR_BELOW = {"bias_initializer": lambda *_: -np.full(3, 99.0)}


@pytest.mark.parametrize(
    ("stack", "x"),
    [
        # samples at a stride of 24 would show one hour's unit
        ([layers.Dense(24, "relu", kernel_initializer="identity"), layers.Dense(3)], hours()),
        ([layers.Dense(4), layers.Dense(3, layers.ReLU(), **FAR_BELOW)], normal()),
        ([layers.Dense(3, **FAR_BELOW), layers.ReLU(), layers.Reshape((3,))], normal()),
        ([layers.Dense(4, "relu", kernel_initializer="ones"), layers.Dense(3)], np.r_[-np.ones(1999), 1.0][:, None]),
    ],
    ids=["periodic", "outputs, of rare events", "outputs of a layer", "one sample in many"],
)  # fmt: skip
def test_relus_that_are_not_dead(stack, x):
    model = Sequential([layers.Input(x.shape[1:]), *stack])
    model.compile(optimizers.SGD(1e-9), "mse")
    assert told(model, x, np.zeros((len(x), 3))) == []


def test_what_is_behind_averages_that_lag():
    """In training it gets numbers of mean 0 and deviation 1, and in inference mode still x as it is."""
    norm = layers.BatchNormalization(momentum=0.9999, center=False, scale=False)
    model = Sequential([layers.Input((1,)), norm, layers.Dense(4, "relu", kernel_initializer="ones"), layers.Dense(1)])
    model.compile(optimizers.SGD(1e-9), "mse")
    x = normal() - 1e4
    assert told(model, x, Y) == []
    assert not Sequential(model.layers[:2]).predict(x, verbose=0).any()


# ---- inputs ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scales", "says"),
    [
        ([1, 1, 1], ""), ([50, 1, 0.1], ""), ([0, 0, 0], ""), ([0.02, 0.02, 0], ""),
        ([1, 500, 1], "column 1 is of the size"), ([1e-3, 1e-4, 2e-4], "column 0 is of the size"),
        ([0.01, 1, 30], "column 0 of"), ([1, 2000, 0.1], "column 1 is of the size"),
    ],
)  # fmt: skip
def test_inputs_of_other_scales(scales, says, both):
    found = told(small("tanh", features=3), normal(3) * scales, Y)
    assert [kind for kind, _ in found] == ([InputScaleWarning] if says else [])
    assert not says or (says in found[0][1] and "adapt(x)" in found[0][1])


def test_what_counts_is_what_the_first_dense_gets():
    x = normal(2) * [1.0, 1e4] + 3e3
    norm = layers.Normalization()
    norm.adapt(x)
    assert told(small("tanh", features=2, first=[norm]), x, Y) == []
    assert told(small("tanh", features=2, first=[layers.Rescaling([1e-3, 1e-4])]), x, Y) == []
    assert [kind for kind, _ in told(small("tanh", features=2, first=[layers.Rescaling(10.0)]), x, Y)] == [
        InputScaleWarning
    ]


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_normalization_that_has_seen_no_data(scale, both):
    """Before the first step, and once; then nobody need be told what comes of it."""
    x, seen = normal(2) * scale, []
    inner = Sequential([layers.Normalization(name="idle")])
    model = small("tanh", features=2, first=[inner])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotAdaptedWarning, match=r"'idle' has mean 0 and variance 1.*adapt\(x\).*set_advice"):
            model.fit(x, Y, verbose=0, callbacks=[callbacks.LambdaCallback(on_train_batch_end=seen.append)])
    assert model.optimizer.iterations == 0 and not seen
    assert told(model, x, Y) == []
    model = small("tanh", features=2, first=[layers.Normalization()])
    assert [kind for kind, _ in told(model, x, Y)] == [NotAdaptedWarning]
    assert told(model, x, Y, epochs=200) == []


def test_a_normalization_that_has_numbers():
    x = normal(2)
    norm = layers.Normalization()
    norm.build((None, 2))
    norm.set_weights([[0.0, 0.1], [1.0, 1.0], 0])
    assert told(small("tanh", features=2, first=[norm]), x, Y) == []
    norm = layers.Normalization(mean=0.0, variance=1.0)
    assert told(small("tanh", features=2, first=[norm]), x, Y) == []
    norm, pairs = layers.Normalization(), np.array([[-1.0, 1.0], [1.0, -1.0]])
    norm.adapt(pairs)  # which have mean 0 and variance 1
    assert told(small("tanh", features=2, first=[pickle.loads(pickle.dumps(norm))]), x, Y) == []
    assert told(small("tanh", features=2, first=[layers.Normalization()]), x, Y, epochs=0) == []
    config.set_advice("ignore")
    try:
        assert told(small("tanh", features=2, first=[layers.Normalization()]), x, Y) == []
    finally:
        config.set_advice("warn")


def test_an_ensemble_is_told_once_of_a_normalization():
    ensemble = Ensemble(lambda: small("tanh", features=2, first=[layers.Normalization()]), 2)
    with pytest.warns(NotAdaptedWarning) as found:
        ensemble.fit(normal(2), Y, verbose=0)
    assert len(found) == 1


# ---- targets ---------------------------------------------------------------------------------------------------------
PRICES = 3e5 + 5e4 * normal()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "log_cosh", "mape"])
def test_targets_out_of_reach(loss, family):
    """Before the first step, and once, with what helps; which is all that it takes."""
    model, x = small("tanh", loss), normal()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            TargetScaleWarning, match=r"column 0 of y has mean 2.97e\+05 and deviation 4.*StandardScaler"
        ):
            model.fit(x, PRICES, verbose=0)
    assert model.optimizer.iterations == 0
    assert told(model, x, PRICES) == []
    assert told(small("tanh", loss), x, (PRICES - 3e5) / 5e4) == []


@pytest.mark.parametrize(
    ("y", "column"),
    [
        (normal(2) * [1.0, 500.0], 1), (normal(2) - [150.0, 0.0], 0),
        (normal(2) * 50.0, None), (normal(2) + 50.0, None), (normal(2) * [np.nan, 500.0], 1),
        (np.where(np.arange(200) % 100 == 0, 1e3, 0.0)[:, None] + [0.0, 0.0], None),
    ],
)  # fmt: skip
def test_which_targets_are_out_of_reach(y, column, both):
    config.set_nonfinite("ignore")
    try:
        model = Sequential([layers.Input((1,)), layers.Dense(4, "tanh"), layers.Dense(2)])
        model.compile("adam", "mse")
        found = told(model, normal(), y, epochs=1)
    finally:
        config.set_nonfinite("warn")
    found = [each for each in found if each[0] is not NonFiniteLossWarning]
    assert [kind for kind, _ in found] == ([] if column is None else [TargetScaleWarning])
    assert column is None or f"column {column} of y" in found[0][1]


@pytest.mark.parametrize(
    "last",
    [
        [layers.Dense(1, bias_initializer=lambda *_: np.full(1, 3e5))],
        [layers.Dense(1), layers.Rescaling(5e4, 3e5)],
        [layers.Dense(1), layers.Normalization(mean=3e5, variance=25e8, invert=True)],
    ],
)
def test_models_that_reach_far_are_not_told_of(last):
    model = Sequential([layers.Input((1,)), layers.Dense(4, "tanh"), *last])
    model.compile("adam", "mse")
    assert told(model, normal(), PRICES, epochs=1) == []
    model.compile("adam", "mse")  # and anew, of what has learned
    assert told(model, normal(), PRICES, epochs=1) == []


def test_labels_and_losses_that_are_no_distances():
    model = Sequential([layers.Input((1,)), layers.Dense(1000)])
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
    assert told(model, normal(), np.arange(200) + 700, epochs=1) == []
    assert told(small("tanh", "cosine_similarity"), normal(), PRICES, epochs=1) == []


def test_targets_of_weight_0_do_not_count():
    y, weights = np.r_[np.full(100, 1e6), np.zeros(100)], np.r_[np.zeros(100), np.ones(100)]
    assert told(small("tanh"), normal(), y, epochs=1, sample_weight=weights) == []
    assert [kind for kind, _ in told(small("tanh"), normal(), y, epochs=1)] == [TargetScaleWarning]


def test_an_ensemble_is_told_once_of_its_targets():
    ensemble = Ensemble(lambda: small("tanh"), 2)
    assert [kind for kind, _ in told(ensemble, normal(), PRICES, epochs=1)] == [TargetScaleWarning]


# ---- in any case -----------------------------------------------------------------------------------------------------
def test_samples_of_weight_0_do_not_count():
    x, weights = normal(2), np.ones(200)
    x[::2] *= 1e6
    weights[::2] = 0.0
    model = small("tanh", features=2)
    assert told(model, x, Y, sample_weight=weights) == []
    assert told(small("tanh", features=2), x, Y, sample_weight=0.0 * weights) == []
    assert [kind for kind, _ in told(small("tanh", features=2), x, Y, sample_weight=1 - weights)] == [InputScaleWarning]


@pytest.mark.parametrize("value", [1e-4, 1e7])
def test_a_column_that_is_nearly_all_0_has_no_scale(value):
    x = np.c_[normal(), np.zeros(200)]
    x[16, 1] = value
    assert told(small("tanh", features=2), x, Y) == []


def test_of_several_things_the_cause_is_told():
    model = lost(layers.Dense(4, "relu"))
    ((kind, _),) = told(model, X * 1e3)
    assert kind is InputScaleWarning


# ---- the loss --------------------------------------------------------------------------------------------------------
def test_a_loss_that_grows(both):
    def steps():
        model = small(optimizer=optimizers.SGD(1.0))
        return model, [model.train_on_batch(X[:, None] * 3, Y * 100) for _ in range(12)]

    with np.errstate(all="ignore"):
        _, losses = steps()
        model = small(optimizer=optimizers.SGD(1.0))
        ((kind, text),) = told(model, X[:, None] * 3, Y * 100, steps_per_epoch=1, epochs=120)
    at = int(np.argmin(np.isfinite(losses)))
    assert kind is NonFiniteLossWarning
    assert f"in epoch {at + 1}, at step 1" in text and "With the weights that fit began with, all was finite" in text
    assert "the largest gradient was that by" in text and "a smaller learning rate, clipnorm" in text


def test_the_step_and_the_losses_before_it():
    seen = []
    keep = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    with np.errstate(all="ignore"):
        ((_, text),) = told(small(optimizer=optimizers.SGD(1.0)), X * 3, Y * 100)
        told(small(optimizer=optimizers.SGD(1.0)), X * 3, Y * 100, epochs=1, callbacks=[keep])
    at = int(np.argmin(np.isfinite(seen)))  # means over the epoch so far
    own = np.diff(np.multiply(seen[:at], np.arange(1, at + 1)), prepend=0.0)
    course = ", ".join(f"{value:.3g}" for value in own[-health.RECENT :])
    assert f"in epoch 1, at step {at + 1} (before: {course})." in text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_which_layer_was_the_first(dtype):
    big = layers.Dense(4, "exponential", name="big", kernel_initializer="ones")
    model = small("tanh", first=[layers.Dense(4, kernel_initializer="ones"), layers.Rescaling(1e6), big], dtype=dtype)
    with np.errstate(all="ignore"):
        ((kind, text),) = told(model)
    assert kind is NonFiniteLossWarning and "the outputs of layer 'big' are the first that are not finite" in text


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda t, p: ops.mean(ops.log(p - 1e3), -1), "outputs are finite, and the loss of them is not"),
        (lambda t, p: ops.mean(ops.sqrt(0.0 * p), -1), "the gradient by last/bias is the first that is not"),
    ],
)
def test_a_loss_that_is_none(loss, says):
    with np.errstate(all="ignore"):
        ((kind, text),) = told(small("tanh", loss))
    assert kind is NonFiniteLossWarning and "became NaN in epoch 1, at step" in text and says in text


def test_short_fits_are_told_without_what_was_before():
    with np.errstate(all="ignore"):
        ((kind, text),) = told(small(optimizer=optimizers.SGD(1.0)), X * 3, Y * 100, epochs=5)
    assert kind is NonFiniteLossWarning and "). Try a smaller learning rate" in text


class Fetched(HostRuntime):
    """Counts the arrays of so many numbers that the host fetches; ``full``, it has no room for one more."""

    count, size, full = 0, 0, False

    def download(self, array):
        self.count += array.size >= self.size
        return super().download(array)

    def empty(self, shape, dtype):
        if self.full and np.prod(shape) >= self.size:
            raise DeviceMemoryError(1, 0)
        return super().empty(shape, dtype)


def test_weights_from_before_stay_on_the_gpu_where_there_is_room(as_gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_DEVICE", "cuda")
    texts = []
    for full in (False, True):
        runtime, model = as_gpu(Fetched()), small(optimizer=optimizers.SGD(0.0))
        assert told(model, X * 0.1, steps_per_epoch=1, epochs=1) == []
        runtime.size, runtime.full, runtime.count = model.count_params(), full, 0
        model.optimizer.learning_rate = 1.0
        with np.errstate(all="ignore"):
            ((kind, text),) = told(model, X * 3, Y * 100, steps_per_epoch=1, epochs=120, shuffle=False)
        assert kind is NonFiniteLossWarning and "With the weights that fit began with, all was finite" in text
        assert runtime.count == 2  # these, and those that there are now
        texts.append(text)
    assert texts[0] == texts[1]


def test_a_fit_on_the_gpu_that_goes_well_fetches_no_member_s_weights(as_gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_DEVICE", "cuda")
    runtime, ensemble = as_gpu(Fetched()), Ensemble(lambda: small("tanh"), 3)
    runtime.size = ensemble.members[0].count_params()
    assert told(ensemble, epochs=12) == []
    assert runtime.count == 1  # of the first, which is looked at when all is done


def test_data_that_are_no_numbers_are_told_of_once(monkeypatch):
    x = X.copy()
    x[3] = np.nan
    ((kind, text),) = told(small(), x)
    assert kind is UserWarning and "x has NaN or Inf, first in row 3" in text
    monkeypatch.setattr(config, "_nonfinite", "ignore")
    ((kind, text),) = told(small(), x)
    assert kind is NonFiniteLossWarning and "x has NaN or Inf" in text


def batches(at=150, which="x", value=np.nan, steps=200):
    """Yield batches of x, y and weights, one of which has a value that is no number."""
    for step in range(steps):
        batch = {"x": 0.1 * normal()[:32], "y": Y[:32].copy(), "sample_weight": np.ones(32)}
        if step == at:
            batch[which][5] = value
        yield tuple(batch.values())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("which", ["x", "y", "sample_weight"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_batch_that_has_no_numbers_is_the_one_cause(which, value, activation, both):
    """Also where its own loss is a number still, as tanh(inf) is, and where each batch is a stretch of its own."""
    one_by_one = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    for hooks in ([], [one_by_one]):
        with np.errstate(all="ignore"):
            ((kind, text),) = told(
                small(activation), batches(151, which, value), None, epochs=1, steps_per_epoch=200, callbacks=hooks
            )
        assert kind is UserWarning and f"{which} has NaN or Inf, first in row 5" in text


def test_weights_that_are_no_numbers_are_told_of_once(monkeypatch):
    weights = np.ones(200)
    weights[3] = np.nan
    ((kind, text),) = told(small(), sample_weight=weights)
    assert kind is UserWarning and "sample_weight has NaN or Inf, first in row 3" in text
    monkeypatch.setattr(config, "_nonfinite", "ignore")
    ((kind, text),) = told(small(), sample_weight=weights)
    assert kind is NonFiniteLossWarning and "as sample_weight has NaN or Inf" in text
    ((kind, text),) = told(small(), batches(which="sample_weight"), None, epochs=1, steps_per_epoch=200)
    assert kind is NonFiniteLossWarning and "as sample_weight has NaN or Inf" in text


def test_of_batches_the_one_that_broke_is_looked_at(monkeypatch):
    with np.errstate(all="ignore"):
        ((_, text),) = told(small("tanh"), batches(150, "y", 1e30), None, epochs=1, steps_per_epoch=200)
    assert "at step 151" in text and "outputs are finite, and the loss of them is not" in text
    assert "others could not be looked at" not in text  # they were, as they came
    monkeypatch.setattr(config, "_nonfinite", "ignore")
    with np.errstate(all="ignore"):
        ((_, text),) = told(small("tanh"), batches(150, "y", 1e30), None, epochs=1, steps_per_epoch=200)
    assert "others could not be looked at: gpumlp.config.set_nonfinite('warn')" in text


# ---- once, and never in the way --------------------------------------------------------------------------------------
def test_it_is_told_once():
    model = lost(layers.Dense(4, "relu"))
    assert len(told(model)) == 1
    assert told(model, epochs=300) == []
    assert told(pickle.loads(pickle.dumps(model)), epochs=300) == []
    with np.errstate(all="ignore"):
        model = small(optimizer=optimizers.SGD(1.0))
        assert len(told(model, X * 3, Y * 100)) == 1
        assert told(model, X * 3, Y * 100) == []


def test_an_ensemble_is_told_once():
    ensemble = Ensemble(lambda: lost(layers.Dense(4, "relu")), 3)
    assert [kind for kind, _ in told(ensemble)] == [DeadUnitsWarning]


def test_it_can_be_silenced(monkeypatch):
    monkeypatch.setattr(health, "Look", None)  # nothing is looked at
    config.set_advice("ignore")
    try:
        with np.errstate(all="ignore"):
            assert told(lost(layers.Dense(4, "relu"))) == []
            assert told(small(optimizer=optimizers.SGD(1.0)), X * 3, Y * 100) == []
    finally:
        config.set_advice("warn")
    assert config.advice() == "warn"
    with pytest.raises(ValueError, match="advice must be one of warn, ignore; got 'never'"):
        config.set_advice("never")


@pytest.mark.parametrize("kind", [DeadUnitsWarning, InputScaleWarning, NonFiniteLossWarning, TargetScaleWarning])
def test_each_is_a_category(kind):
    assert issubclass(kind, TrainingWarning) and issubclass(TrainingWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeadUnitsWarning)
        lost(layers.Dense(4, "relu")).fit(X, Y, steps_per_epoch=10, epochs=20, verbose=0)


def test_short_fits_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(health, "_copied", None)
    model = lost(layers.Dense(4, "relu"))
    for _ in range(9):
        assert told(model, epochs=1) == []  # 90 steps in all


def test_nor_again_before_ten_times_as_many_steps(monkeypatch):
    looks, model = [], small("tanh")
    monkeypatch.setattr(health, "_of_trained", lambda trainee: looks.append(trainee.optimizer.steps))
    for _ in range(30):
        told(model, epochs=10)
    assert looks == [100, 1000]


@pytest.mark.parametrize("case", ["dead", "scale", "broken", "well"])
def test_no_bit_is_changed(case, both):
    def run(advice):
        made = {"dead": lambda: lost(layers.Dense(4, "relu"), layers.Dropout(0.5)), "scale": small, "well": small}
        model = made.get(case, lambda: small(optimizer=optimizers.SGD(1.0)))()
        x = X * {"scale": 1e4, "broken": 3.0, "well": 0.1}.get(case, 1.0)
        config.set_advice(advice)
        try:
            with np.errstate(all="ignore"):
                found = told(model, x, Y * 100)
                told(model, x, Y * 100)
        finally:
            config.set_advice("warn")
        assert len(found) == (advice == "warn" and case != "well")
        return [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)], model.program

    (advised, program), (silent, other) = run("warn"), run("ignore")
    assert program == other
    for a, b in zip(advised, silent, strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_a_callback_changed_are_not_looked_at():
    model = lost(layers.Dense(4, "relu"))
    assert told(model, callbacks=[callbacks.LambdaCallback(on_train_end=lambda logs: model.pop())]) == []
