"""Whole models: gradients against central differences, optimizers against a formula, same bits, bad input."""

import re

import numpy as np
import pytest

import gpumlp
from gpumlp import activations, callbacks, layers, losses, models, optimizers
from gpumlp.engine import dispatch
from gpumlp.engine.feed import Dataset
from gpumlp.engine.operations import DropoutOp
from gpumlp.utils import set_random_seed


def small(loss="mse", activation="tanh", last="linear", outputs=3, dtype="float64", extra=(), **dense):
    stack = [layers.Input((4,)), layers.Dense(5, activation, **dense), *extra, layers.Dense(outputs, last)]
    model = models.Sequential(stack, dtype=dtype)
    model.compile(loss=loss, optimizer="adam")
    return model


def gradient(model, x, y, w=None):
    """The program's gradients, taken before any update."""
    model._runner.place()
    program = model._runner.program_for(len(x), dispatch.Choice())
    pred = program._forward(x, None)
    delta = np.empty_like(pred)
    value = program.backend.loss(model._loss, y, pred, w, delta)
    program._deltas[0][: delta.size] = delta.ravel()
    program._backward(x, program._deltas[0][: delta.size].reshape(delta.shape))
    for i, regularizer in program._penalised:
        value += program.backend.penalty(regularizer, model._runner.weights.weights[i], program._grad_views[i])
    return value, [g.copy() for g in program._grad_views]


def check_gradient(model, x, y, w=None):
    _, grads = gradient(model, x, y, w)
    for weight, grad in zip(model._runner.weights.weights, grads, strict=True):
        flat, h = weight.reshape(-1), 1e-6
        for i in range(flat.size):
            keep = flat[i]
            flat[i] = keep + h
            up, _ = gradient(model, x, y, w)
            flat[i] = keep - h
            down, _ = gradient(model, x, y, w)
            flat[i] = keep
            np.testing.assert_allclose(grad.reshape(-1)[i], (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


LOSSES = [
    (losses.MeanSquaredError(), "linear", "real"),
    (losses.MeanAbsoluteError(), "linear", "real"),
    (losses.Huber(0.3), "linear", "real"),
    (losses.BinaryCrossentropy(), "sigmoid", "binary"),
    (losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), "linear", "binary"),
    (losses.BinaryCrossentropy(label_smoothing=0.2), "sigmoid", "binary"),
    (losses.CategoricalCrossentropy(), "softmax", "one_hot"),
    (losses.CategoricalCrossentropy(from_logits=True), "linear", "one_hot"),
    (losses.CategoricalCrossentropy(label_smoothing=0.1), "sigmoid", "one_hot"),
    (losses.SparseCategoricalCrossentropy(), "softmax", "sparse"),
    (losses.SparseCategoricalCrossentropy(from_logits=True), "linear", "sparse"),
]


def targets(kind, rng, n):
    classes = rng.integers(0, 3, (n, 1))
    return {
        "real": rng.normal(size=(n, 3)),
        "binary": rng.integers(0, 2, (n, 3)).astype(float),
        "one_hot": np.eye(3)[classes[:, 0]],
        "sparse": classes.astype(float),
    }[kind]


@pytest.mark.parametrize(("loss", "last", "kind"), LOSSES, ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_gradients(loss, last, kind, weighted):
    set_random_seed(1)
    rng = np.random.default_rng(1)
    w = rng.uniform(0.5, 2, 7) if weighted else None
    check_gradient(small(loss, last=last), rng.normal(size=(7, 4)), targets(kind, rng, 7), w)


@pytest.mark.parametrize("name", sorted(activations.KNOWN))
def test_network_gradients_with_every_activation_layer_and_penalty(name):
    set_random_seed(2)
    rng = np.random.default_rng(2)
    extra = (layers.Activation(name), layers.Rescaling(0.5, 0.1), layers.Dropout(0.5), layers.Flatten())
    model = small("mse", name, extra=extra, kernel_regularizer="l2", bias_regularizer="l1", bias_initializer="ones")
    model._runner.place()
    program = model._runner.program_for(3, dispatch.Choice())
    for op, site in zip(program.network.ops, program._sites, strict=True):
        if isinstance(op, DropoutOp):  # inference-mode forward uses no mask: make backward's the identity
            site.kept[...] = 1
    check_gradient(model, rng.normal(size=(3, 4)), rng.normal(size=(3, 3)))


def reference(optimizer, w, g, state, t):
    """One step in float64, written from the papers, with scalars elementwise."""
    lr = optimizer.learning_rate
    if optimizer.weight_decay:
        w = w - lr * optimizer.weight_decay * w
    if isinstance(optimizer, optimizers.Adam):
        b1, b2 = optimizer.beta_1, optimizer.beta_2
        m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
        v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
        return w - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + optimizer.epsilon)
    if isinstance(optimizer, optimizers.SGD):
        if not optimizer.momentum:
            return w - lr * g
        u = state["u"] = optimizer.momentum * state.get("u", 0) - lr * g
        return w + optimizer.momentum * u - lr * g if optimizer.nesterov else w + u
    v = state["v"] = optimizer.rho * state.get("v", 0) + (1 - optimizer.rho) * g**2
    mean = 0.0
    if optimizer.centered:
        mean = state["mean"] = optimizer.rho * state.get("mean", 0) + (1 - optimizer.rho) * g
    step = lr * g / np.sqrt(v - mean**2 + optimizer.epsilon)
    u = state["u"] = optimizer.momentum * state.get("u", 0) + step
    return w - u


OPTIMIZERS = [
    optimizers.SGD(),
    optimizers.SGD(0.1, momentum=0.9),
    optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    optimizers.Adam(),
    optimizers.Adam(0.01, 0.8, 0.99, 1e-4),
    optimizers.AdamW(),
    optimizers.RMSprop(),
    optimizers.RMSprop(momentum=0.9, centered=True),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o.get_config()}")
def test_optimizers_follow_their_formula_over_100_steps(optimizer):
    from gpumlp.backends.numpy_backend import NumpyBackend

    rng = np.random.default_rng(3)
    backend, state = NumpyBackend(), {}
    w = rng.normal(size=70_001)  # more than one stretch
    expected = w.copy()
    slots = {name: np.zeros_like(w) for name in optimizer.slots}
    for t in range(1, 101):
        g = rng.normal(size=w.size)
        expected = reference(optimizer, expected, g.copy(), state, t)
        optimizer.update(backend, w, g, slots, t)
    np.testing.assert_allclose(w, expected, rtol=1e-10, atol=1e-12)


def test_the_article_in_short_learns_and_repeats_bit_for_bit():
    x = np.arange(0, 20, 0.1)
    results = []
    for _ in range(2):
        set_random_seed(5)
        model = models.Sequential([layers.Dense(32, "relu", input_shape=(1,)), layers.Dropout(0.1), layers.Dense(1)])
        model.compile(loss="mse", optimizer="adam")
        history = model.fit(x, np.sin(x), steps_per_epoch=10, epochs=20, verbose=0)
        results.append([*model.get_weights(), np.array(history.history["loss"])])
    assert all((a == b).all() for a, b in zip(*results, strict=True))
    assert results[0][-1][-1] < results[0][-1][0]


BAD = [
    (lambda m: m.fit(np.ones((5, 4)), np.ones((4, 3))), "cardinality"),
    (lambda m: m.fit(np.ones((5, 2)), np.ones((5, 3))), "takes samples of shape"),
    (lambda m: m.fit(np.ones((0, 4)), np.ones((0, 3))), "empty"),
    (lambda m: m.fit([[1, 2], [3]], np.ones((2, 3))), "rows differ"),
    (lambda m: m.fit([["a"] * 4], np.ones((1, 3))), "numbers"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones(5)), "3 values per sample"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), batch_size=0), "batch_size"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), epochs=-1), "epochs"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), steps_per_epoch=0), "steps"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), class_weight={0: 1}, sample_weight=np.ones(5)), "together"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), batch_size=2.5), "batch_size must be a whole number"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), steps_per_epoch=-2), "steps"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), validation_split="a"), "validation_split"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), validation_split=0.999), "leaves training"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), validation_data=np.ones((5, 4))), "validation_data must be"),
    (
        lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), validation_data=(np.ones((5, 4)), np.ones((4, 3)))),
        "validation y: 4",
    ),
    (
        lambda m: m.fit(
            np.ones((5, 4)),
            np.ones((5, 3)),
            validation_data=(np.ones((5, 4)), np.ones((5, 3))),
            validation_batch_size=0,
        ),
        "batch_size must be",
    ),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), class_weight={"a": 1.0}), "class_weight maps"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), sample_weight=np.ones(4)), "one per sample"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), callbacks=print), "callbacks must be"),
    (lambda m: m.fit(np.ones((5, 4)), np.ones((5, 3)), verbose=7), "verbose"),
    (lambda m: m.fit(np.ones((5, 4))), "y is missing"),
    (lambda m: m.fit(np.full((5, 4), None), np.ones((5, 3))), "dtype object"),
    (lambda m: m.set_weights([np.ones(3)]), "set_weights expects"),
    (lambda m: m.set_weights(None), "set_weights takes"),
    (lambda m: m.set_weights([[1, [2]]]), "rows differ"),
    (lambda m: m.compile(optimizer="adm", loss="mse"), "Did you mean 'adam'"),
    (lambda m: m.compile(loss="mse", metrics=["acuracy"]), "Did you mean 'accuracy'"),
    (lambda m: m.compile(loss="mse", device="gpu"), "device must be"),
    (lambda m: m.add(layers.Dense(1, name=m.layers[0].name)), "names must differ"),
    (lambda m: m.predict(np.ones((5, 3))), "takes samples of shape"),
    (lambda m: m.predict(np.ones(4)), "samples of shape (4,). For one sample pass x[None]."),
    (lambda m: m.predict(np.ones((0, 4))), "empty"),
    (lambda m: m.compile(loss="mze"), "Did you mean 'mse'"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input_says_so_and_changes_nothing(call, message):
    model = small()
    before, compiled = model.get_weights(), (model.optimizer, model._loss, model.history, len(model.layers))
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call(model)
    assert (model.optimizer, model._loss, model.history, len(model.layers)) == compiled
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("units", [0, -3, 2.5, None, True])
def test_units_must_be_a_whole_number(units):
    with pytest.raises((ValueError, TypeError), match="units"):
        layers.Dense(units)


def test_nan_is_warned_of_with_its_row_and_is_an_error_on_request():
    model = small()
    x = np.ones((5, 4))
    x[3, 1] = np.nan
    with pytest.warns(UserWarning, match="row 3"):
        model.fit(x, np.ones((5, 3)), verbose=0)
    gpumlp.config.set_nonfinite("error")
    try:
        with pytest.raises(ValueError, match="row 3"):
            model.fit(x, np.ones((5, 3)), verbose=0)
    finally:
        gpumlp.config.set_nonfinite("warn")


def test_what_float32_cannot_hold_is_warned_of():
    x = np.ones((5, 4))
    x[2] = 1e300
    model = models.Sequential([layers.Dense(1, input_shape=(4,))])
    model.compile(loss="mse")
    with pytest.warns(UserWarning, match="too large for float32, first in row 2"), np.errstate(all="ignore"):
        model.fit(x, np.ones(5), verbose=0)


def test_a_batch_beyond_the_data_takes_no_memory_for_the_rest():
    model = small()
    model.fit(np.ones((5, 4)), np.ones((5, 3)), batch_size=10**12, verbose=0)
    assert model._runner.last.batch == 5


def test_a_layer_too_large_for_memory_leaves_the_model():
    model = small()
    with pytest.raises(MemoryError):
        model.add(layers.Dense(10**14))
    assert len(model.layers) == 2 and model.predict(np.ones((1, 4)), verbose=0).shape == (1, 3)


def test_fit_before_compile_and_predict_before_build():
    with pytest.raises(ValueError, match="compiled"):
        models.Sequential([layers.Dense(1)]).fit([1.0], [1.0])
    assert models.Sequential([layers.Dense(1)]).predict([1.0], verbose=0).shape == (1, 1)


def test_a_gpu_that_cannot_be_used_is_an_error_with_the_cause():
    with pytest.raises(RuntimeError, match=r"'cuda:7' cannot be used:.*driver.*device='cpu'"):
        small(dtype="float32").compile(loss="mse", device="cuda:7")
    with pytest.raises(ValueError, match="float32; the model is float64"):
        small(dtype="float64").compile(loss="mse", device="cuda")


def test_ctrl_c_leaves_the_model_and_the_history():
    import signal

    from gpumlp.callbacks import LambdaCallback

    model = small()

    def press(epoch, logs):
        if epoch == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        model.fit(np.ones((5, 4)), np.ones((5, 3)), epochs=9, verbose=0, callbacks=LambdaCallback(on_epoch_end=press))
    assert model.history.epoch == [0, 1]
    assert np.isfinite(model.predict(np.ones((2, 4)))).all()


def test_a_step_allocates_nothing_after_the_first():
    import tracemalloc

    model = small(activation="gelu", dtype="float32")
    rng = np.random.default_rng(0)
    n = 40_000
    data = Dataset(rng.normal(size=(n, 4)).astype("f4"), rng.normal(size=(n, 3)).astype("f4"))
    weights = model._runner.place()
    program = model._runner.program_for(n // 2, dispatch.Choice())
    slots = {name: weights.zeros() for name in model.optimizer.slots}
    order = np.arange(n)

    def run():
        program.run(data, order, n // 2, 0, 2, model._loss, [], model.optimizer, slots)

    run()
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000  # the ufuncs' own casting buffers are 32 kB; one activation would be 400 kB


def test_results_stay_until_something_else_is_computed():
    x, y = np.arange(8.0), np.arange(8.0)
    model = models.Sequential([layers.Dense(1, input_shape=(1,))])
    assert model.metrics == [] and model.metrics_names == [] and model.loss is None and model.get_metrics_result() == {}
    model.compile("sgd", "mse", metrics=["mae", "mape"])
    assert model.loss == "mse" and model.metrics_names == ["loss", "compile_metrics"]
    got = model.train_on_batch(x, y, return_dict=True)
    assert got == model.get_metrics_result() and [part.result() for part in model.metrics] == [
        got["loss"], {"mae": got["mae"], "mape": got["mape"]},
    ]  # fmt: skip
    again = model.train_on_batch(x, y, return_dict=True)  # of this batch alone
    assert again["loss"] < got["loss"] and again == model.get_metrics_result()
    assert model.test_on_batch(x[:3], y[:3], return_dict=True) == model.get_metrics_result()
    seen = []
    hook = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((model.get_metrics_result(), logs)))
    history = model.fit(x, y, verbose=0, validation_data=(x, y), callbacks=[hook]).history
    assert seen[0][0] == {name: seen[0][1]["val_" + name] for name in ("loss", "mae", "mape")} == {
        name: history["val_" + name][0] for name in ("loss", "mae", "mape")
    }  # fmt: skip
    model.reset_metrics()
    assert model.get_metrics_result() == {"loss": 0.0, "mae": 0.0, "mape": 0.0}
    model.compile("sgd", "mse")
    assert model.metrics_names == ["loss"] and model.get_metrics_result() == {}
    for name in ("loss", "metrics"):
        with pytest.raises(AttributeError, match="Call compile again"):
            setattr(model, name, "mae")
