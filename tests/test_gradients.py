"""model.gradients and model.jacobian: against central differences in float64, on every device, and what they refuse."""

import threading

import numpy as np
import pytest
from host.runtime import DeviceArray

from gpumlp import layers, models, ops, optimizers
from gpumlp.engine import runner as runners
from gpumlp.utils import set_random_seed

H = 1e-6
STACKS = {
    "dense": lambda: [layers.Dense(5, "tanh"), layers.Dense(3, "sigmoid")],
    "one unit": lambda: [layers.Dense(1)],
    "activations of z": lambda: [layers.Dense(17, "gelu"), layers.Dense(7, "silu"), layers.Dense(3, "softmax")],
    "no bias": lambda: [layers.Dense(4, "softplus", use_bias=False), layers.Dense(2, use_bias=False)],
    "an activation first": lambda: [layers.Activation("tanh"), layers.Dense(3), layers.Softmax()],
    "a rescaling first": lambda: [layers.Rescaling(0.5, 0.3), layers.Dense(3), layers.ELU(0.7), layers.Dense(3)],
    "dropout first": lambda: [
        layers.Dropout(0.3, seed=1), layers.Dense(6), layers.Dropout(0.5, seed=2), layers.Dense(3),
    ],
    "layers of constants": lambda: [layers.Dense(4), layers.LeakyReLU(0.2), layers.Dense(3), layers.ReLU(6.0, 0.1)],
    "norms": lambda: [
        layers.Dense(5), layers.BatchNormalization(), layers.Dense(4, "tanh"), layers.LayerNormalization(),
        layers.UnitNormalization(), layers.Dense(3),
    ],
    "a norm first": lambda: [layers.BatchNormalization(), layers.Dense(3)],
    "constants first": lambda: [layers.Normalization(mean=0.5, variance=2.0), layers.Dense(3)],
    "noise": lambda: [
        layers.GaussianNoise(0.2, seed=1), layers.Dense(4, "tanh"), layers.AlphaDropout(0.3, seed=2),
        layers.GaussianDropout(0.3, seed=3), layers.Dropout(0.4, noise_shape=(None, 1), seed=4), layers.Dense(3),
    ],
    "moved": lambda: [
        layers.RepeatVector(2), layers.Dense(4, "tanh"), layers.Permute((2, 1)), layers.Reshape((2, 4)),
        layers.Softmax(axis=1), layers.Flatten(), layers.Dense(3),
    ],
    "prelu": lambda: [layers.PReLU("ones"), layers.Identity(), layers.Dense(3), layers.PReLU("ones")],
    "penalised activity": lambda: [
        layers.ActivityRegularization(0.1, 0.2), layers.Dense(4, "tanh", activity_regularizer="l2"), layers.Dense(3),
    ],
    "no weights": lambda: [layers.Activation("tanh"), layers.Rescaling(2.0)],
    "nothing": lambda: [layers.Flatten()],
}  # fmt: skip
LOSSES = ["mse", "huber", "log_cosh", "poisson", "kl_divergence", "categorical_crossentropy", "cosine_similarity"]


@pytest.fixture(scope="module", autouse=True)
def every_operation_is_here():
    """A new operation is held here too: its layer belongs in STACKS."""
    there = {type(layer) for stack in STACKS.values() for layer in stack()}
    assert set(layers.KINDS) - there <= {layers.Input, layers.Lambda}


def build(stack, shape=(3,), dtype="float64", loss=None, **more):
    set_random_seed(1)
    model = models.Sequential([layers.Input(shape), *stack], dtype=dtype)
    model.set_weights([w + 0.1 for w in model.get_weights()])  # biases too
    if loss is not None:
        model.compile("sgd", loss, **more)
    return model


def samples(n, features=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, features))


def differences(value, array, put):
    """Return the central differences of ``value()`` by the elements of ``array``, each set by ``put(array)``."""
    slopes = np.empty(array.shape)
    for i in np.ndindex(array.shape):
        there, ends = array[i], []
        for step in (H, -H):
            array[i] = there + step
            put(array)
            ends.append(value())
        array[i] = there
        put(array)
        slopes[i] = (ends[0] - ends[1]) / (2 * H)
    return slopes


def hold(model, found, x, value):
    """Hold what was ``found`` against differences of ``value(x)``, a number."""
    x = x.copy()
    np.testing.assert_allclose(found.inputs, differences(lambda: value(x), x, lambda a: None), rtol=1e-6, atol=1e-8)
    weights, trained = model.get_weights(), iter(found.weights)
    for i, weight in enumerate(weights):
        if not model.weights[i].trainable:
            continue
        slopes = differences(
            lambda: value(x), weight, lambda a, i=i: model.set_weights([*weights[:i], a, *weights[i + 1 :]])
        )
        np.testing.assert_allclose(next(trained), slopes, rtol=1e-6, atol=1e-8)
    assert next(trained, None) is None


# ---- against central differences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("n", [1, 7])
def test_those_of_the_outputs(stack, n):
    model, x = build(stack()), samples(n)
    seeds = samples(n, model.predict(x, verbose=0).shape[1], seed=3)
    hold(model, model.gradients(x, output_gradients=seeds), x, lambda x: (model.predict(x, verbose=0) * seeds).sum())
    ones = model.gradients(x)
    np.testing.assert_array_equal(ones.inputs, model.gradients(x, output_gradients=np.ones_like(seeds)).inputs)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stack", [STACKS[k] for k in ("dropout first", "dense", "noise", "norms", "a norm first")])
def test_those_of_training_are_of_one_mask(stack, training):
    model, x = build(stack()), samples(5)

    def again(of):
        model._runner.calls = 0
        return of()

    found = again(lambda: model.gradients(x, training=training))
    hold(model, found, x, lambda x: again(lambda: model(x, training=training)).sum())


def target_of(loss, n):
    y = np.random.default_rng(4).random((n, 3))
    return y / y.sum(axis=1, keepdims=True) if loss in ("kl_divergence", "categorical_crossentropy") else y


@pytest.mark.parametrize("loss", LOSSES)
def test_those_of_a_loss_have_weights_and_penalties(loss):
    penalised = layers.Dense(4, "tanh", kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2")
    model, x, y = build([penalised, layers.Dense(3, "softmax")], loss=loss), samples(6), target_of(loss, 6)
    w = np.random.default_rng(5).random(6)

    def value(x):
        return model.evaluate(x, y, batch_size=6, sample_weight=w, verbose=0)

    hold(model, model.gradients(x, y, sample_weight=w), x, value)


def test_those_of_class_numbers_and_of_a_function_of_one_s_own():
    def own(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred) * ops.exp(y_pred), axis=-1)

    for loss, y in (("sparse_categorical_crossentropy", np.arange(6) % 3), (own, samples(6))):
        model, x = build([layers.Dense(3, "softmax")], loss=loss), samples(6)
        hold(model, model.gradients(x, y), x, lambda x, m=model, y=y: m.evaluate(x, y, batch_size=6, verbose=0))


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "sparse_categorical_crossentropy", "mse"])
def test_those_of_outputs_of_several_rows(loss):
    model = build([layers.Dense(12), layers.Reshape((4, 3)), layers.Softmax()], loss=loss)
    x, labels, w = samples(6), np.random.default_rng(7).integers(0, 3, (6, 4)), np.random.default_rng(5).random(6)
    y = labels if "sparse" in loss else np.eye(3)[labels]
    found = model.gradients(x, y, sample_weight=w)
    hold(model, found, x, lambda x: model.evaluate(x, y, batch_size=6, sample_weight=w, verbose=0))


def test_jacobian_has_a_row_for_each_output():
    model, x = build([layers.Flatten(), *STACKS["activations of z"]()], (2, 2)), samples(5, 4).reshape(5, 2, 2)
    found = model.jacobian(x)
    assert found.shape == (5, 3, 2, 2) and found.flags.c_contiguous
    for o in range(3):
        seeds = np.zeros((5, 3))
        seeds[:, o] = 1.0
        np.testing.assert_allclose(found[:, o], model.gradients(x, output_gradients=seeds).inputs, rtol=1e-12)


# ---- batches, devices, callers ---------------------------------------------------------------------------------------


def test_pieces_add_up_to_the_whole(monkeypatch):
    first = layers.Dense(9, "tanh", kernel_regularizer="l2", activity_regularizer="l1")
    model, x, y = build([first, layers.BatchNormalization(), layers.Dense(2)], loss="mse"), *data(57)
    w = np.random.default_rng(6).random(57)
    whole = model.gradients(x, y, sample_weight=w)
    jacobian = model.jacobian(x)
    monkeypatch.setattr(runners, "HOST_BYTES", 10 * 8 * sum((3, 9, 9, 9, 2)))
    pieces = model.gradients(x, y, sample_weight=w)
    np.testing.assert_allclose(pieces.inputs, whole.inputs, rtol=1e-12)
    for one, other in zip(pieces.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    np.testing.assert_allclose(model.jacobian(x), jacobian, rtol=1e-12)


def test_every_device_adds_pieces_up(family, monkeypatch):
    model, x, y = build(stack(), dtype="float32", loss="mse"), *(a.astype(np.float32) for a in data(57))
    whole, jacobian = [model.gradients(x, y), model.gradients(x)], model.jacobian(x)
    monkeypatch.setattr(runners, "HOST_BYTES", 4000)
    monkeypatch.setattr(runners, "DEVICE_BYTES", 4000)
    for one, other in zip([model.gradients(x, y), model.gradients(x)], whole, strict=True):
        for a, b in zip([one.inputs, *one.weights], [other.inputs, *other.weights], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.jacobian(x), jacobian, rtol=1e-5, atol=1e-6)


def data(n):
    x = samples(n)
    return x, np.sin(x @ samples(3, 2, seed=7))


def stack():
    return [
        layers.Rescaling(0.5, 0.1), layers.Dense(19, "gelu", activity_regularizer="l2"), layers.BatchNormalization(),
        layers.Dropout(0.2, seed=3), layers.GaussianNoise(0.1, seed=4), layers.Dense(2),
    ]  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
def test_every_device_gives_them(family, monkeypatch, training):
    x, y = data(33)
    with monkeypatch.context() as of_truth:
        of_truth.setenv("GPUMLP_KERNELS", "numpy")
        truth = build(stack(), loss="mse", device="cpu")
    model = build(stack(), dtype="float32", loss="mse")
    right, found = truth.gradients(x, y, training=training), model.gradients(x.astype(np.float32), y, training=training)
    assert found.inputs.dtype == np.float32 and type(found.inputs) is np.ndarray
    for one, other in zip([found.inputs, *found.weights], [right.inputs, *right.weights], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert "gradients" in model.program


def test_a_gpu_s_arrays_stay_there(gpu):
    x, y = data(21)
    model = build([layers.Dense(9, "tanh"), layers.Dense(2)], dtype="float32", loss="mse", device="cuda")
    there = gpu.empty(x.shape, np.float32)
    gpu.upload(there, x.astype(np.float32))
    host, found = model.gradients(x.astype(np.float32), y), model.gradients(there, y)
    for one, other in zip([found.inputs, *found.weights], [host.inputs, *host.weights], strict=True):
        assert gpu.owns(one) and not isinstance(other, DeviceArray)
        np.testing.assert_array_equal(gpu.download(one), other)
    assert gpu.owns(model.jacobian(there)) and gpu.owns(model(there, training=True))


def test_nothing_is_changed_and_training_goes_on_as_if_nobody_had_asked():
    x, y = data(40)
    finals = []
    for asks in (False, True):
        model = build([layers.Dense(5, "tanh"), layers.Dropout(0.3, seed=1), layers.Dense(2)], loss="mse")
        for _ in range(3):
            model.train_on_batch(x, y)
            if asks:
                before = model.get_weights()
                model.gradients(x, y, training=True), model.gradients(x), model(x, training=True)
                for one, other in zip(before, model.get_weights(), strict=True):
                    np.testing.assert_array_equal(one, other)
        assert model.optimizer.iterations == 3
        finals.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(*finals)


def test_threads_get_what_each_alone_would():
    model, found = build([layers.Dense(30, "tanh"), layers.Dense(2)]), {}
    inputs = [samples(50, seed=s) for s in range(6)]
    right = [model.gradients(x).inputs for x in inputs]

    def ask(i):
        for _ in range(10):
            found[i] = model.gradients(inputs[i]).inputs

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        np.testing.assert_array_equal(found[i], right[i])


def test_frozen_weights_have_none_and_layers_changed_since_count():
    hidden = layers.Dense(4, "tanh")
    model, x = build([hidden, layers.Dense(2)]), samples(5)
    assert [g.shape for g in model.gradients(x).weights] == [(3, 4), (4,), (4, 2), (2,)]
    hidden.trainable = False
    assert [g.shape for g in model.gradients(x).weights] == [(4, 2), (2,)]
    before = model.gradients(x).inputs
    hidden.activation = "relu"
    assert not np.allclose(model.gradients(x).inputs, before)


def test_a_model_in_a_model_has_its_part():
    inner = models.Sequential([layers.Dense(4, "tanh"), layers.BatchNormalization()], dtype="float64")
    model, x = build([layers.Dense(3), inner, layers.Dense(2)]), samples(5)
    hold(model, model.gradients(x), x, lambda x: model.predict(x, verbose=0).sum())
    assert [g.shape for g in model.gradients(x).weights] == [w.shape for w in model.trainable_weights]


def test_models_chain_by_them():
    actor = build([layers.Dense(5, "tanh"), layers.Dense(2, "tanh")])
    critic = build([layers.Dense(6, "tanh"), layers.Dense(1)], (5,))
    states = samples(8)
    actions = actor.predict(states, verbose=0)
    of_critic = critic.gradients(np.concatenate([states, actions], axis=1)).inputs[:, 3:]
    found = actor.gradients(states, output_gradients=of_critic)

    def value(states, fixed=states):
        acts = actor.predict(states, verbose=0)
        return critic.predict(np.concatenate([fixed, acts], axis=1), verbose=0).sum()

    hold(actor, found, states, value)


def test_an_optimizer_applies_them_an_actor_learns_of_its_critic():
    actor, critic = build([layers.Dense(8, "tanh"), layers.Dense(1)]), build([layers.Dense(1)], (4,))
    critic.set_weights([np.array([[1.0], [-2.0], [0.5], [3.0]]), np.zeros(1)])
    optimizer, states = optimizers.SGD(0.1), samples(20)
    before, right = actor.predict(states, verbose=0).mean(), actor.get_weights()
    for _ in range(5):
        actions = actor(states)
        by_actions = critic.gradients(np.hstack([states, actions])).inputs[:, states.shape[1] :]
        found = actor.gradients(states, output_gradients=-by_actions / len(states))
        right = [w - 0.1 * g for w, g in zip(actor.get_weights(), found.weights, strict=True)]
        optimizer.apply(found.weights, actor.trainable_weights)
        for one, other in zip(actor.get_weights(), right, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    assert actor.predict(states, verbose=0).mean() > before + 1.0


def test_their_steps_are_those_of_training():
    x, y = data(30)
    for training in (False, True):
        model = build([layers.Dense(5, "tanh", kernel_regularizer="l2"), layers.Dense(2)], loss="mse")
        by_hand = build([layers.Dense(5, "tanh", kernel_regularizer="l2"), layers.Dense(2)], loss="mse")
        optimizer = optimizers.SGD(0.01)
        for _ in range(3):
            model.train_on_batch(x, y)
            optimizer.apply(by_hand.gradients(x, y, training=training).weights, by_hand.trainable_weights)
        for one, other in zip(model.get_weights(), by_hand.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


# ---- what is taken, and what is refused ------------------------------------------------------------------------------


def test_shapes_are_those_of_what_came():
    model = build([layers.Dense(2)], (1,))
    assert model.gradients(np.zeros(4)).inputs.shape == (4,)
    assert model.gradients([[1], [2]]).inputs.shape == (2, 1)
    unbuilt = models.Sequential([layers.Dense(2)])
    assert unbuilt.gradients(np.ones((3, 4), int)).inputs.shape == (3, 4) and unbuilt.built
    assert build([layers.Dense(1)]).gradients(samples(4), output_gradients=np.ones(4)).inputs.shape == (4, 3)


def test_what_does_not_fit_is_said():
    model, x = build([layers.Dense(2)]), samples(4)
    with pytest.raises(ValueError, match="compiled"):
        model.gradients(x, np.zeros((4, 2)))
    with pytest.raises(
        ValueError, match=r"output_gradients must have the shape of the outputs, \(4, 2\); got \(4, 1\)"
    ):
        model.gradients(x, output_gradients=np.ones((4, 1)))
    with pytest.raises(ValueError, match="needs y"):
        model.gradients(x, sample_weight=np.ones(4))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be None"):
        model.gradients(x, np.zeros((4, 2)), output_gradients=np.ones((4, 2)))
    with pytest.raises(TypeError, match="no functional API"):
        model.gradients(layers.Input((3,)))
    with pytest.raises(TypeError, match="no functional API"):
        model.jacobian(model)


# ---- steps by a model's own optimizer --------------------------------------------------------------------------------

OWN = {
    "sgd": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "decayed": lambda: optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.01, 1, 0.5), clipvalue=0.02),
    "norms": lambda: optimizers.Adam(0.01, global_clipnorm=0.1),
    "averages": lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2, gradient_accumulation_steps=2),
}


def twins(make, dtype="float32"):
    """Return two equal models, compiled alike."""
    stack = [
        layers.Dense(6, "tanh", kernel_regularizer="l2"), layers.Dense(2, kernel_constraint="max_norm", name="head"),
    ]  # fmt: skip
    pair = [build([type(layer).from_config(layer.get_config()) for layer in stack], dtype=dtype) for _ in range(2)]
    for model in pair:
        model.compile(make(), "mse")
    return pair


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_a_model_s_own_optimizer_does_the_steps_of_training(make, family):
    x, y = data(30)
    model, by_hand = twins(make)
    for _ in range(5):
        model.train_on_batch(x, y)
        found = by_hand.gradients(x, y)
        kept = [grad.copy() for grad in found.weights]
        by_hand.optimizer.apply(found.weights, by_hand.trainable_weights)
        assert all(np.array_equal(*pair) for pair in zip(kept, found.weights, strict=True))
    ours = [*by_hand.get_weights(), *map(np.asarray, by_hand.optimizer.variables)]
    for one, other in zip([*model.get_weights(), *map(np.asarray, model.optimizer.variables)], ours, strict=True):
        if family == "numpy":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)
    by_hand.fit(x, y, epochs=1, verbose=0)
    assert by_hand.optimizer.steps == 6


def test_the_others_get_no_update():
    model, _ = twins(lambda: optimizers.AdamW(0.1, weight_decay=0.1))
    before, found = model.get_weights(), model.gradients(*data(8))
    head = model.get_layer("head").trainable_weights
    model.optimizer.apply_gradients(zip(found.weights[2:], head, strict=True))
    after = model.get_weights()
    assert [np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [True, True, False, False]
    with pytest.warns(UserWarning, match="no gradients"):
        model.optimizer.apply([None, None, None, found.weights[3]], model.trainable_weights)
    assert np.array_equal(after[2], model.get_weights()[2]) and model.optimizer.iterations == 2
    model.optimizer.apply(found.weights)  # of all
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_gradients_on_the_gpu_are_taken_as_they_are(as_gpu, monkeypatch):
    from host.runtime import HostRuntime

    as_gpu(HostRuntime())
    monkeypatch.setenv("GPUMLP_DEVICE", "cuda")
    x, y = data(12)
    one, other = twins(lambda: optimizers.Adam(0.1, loss_scale_factor=2.0))
    found = one.gradients(x, y).weights
    there = [array.view(DeviceArray) for array in found]
    one.optimizer.apply(found, one.trainable_weights)
    other.optimizer.apply(there, other.trainable_weights)
    assert all(np.array_equal(*pair) for pair in zip(one.get_weights(), other.get_weights(), strict=True))


def test_averages_take_the_weights_places():
    model, by_hand = twins(lambda: optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5))
    model.fit(*data(8), epochs=3, batch_size=8, shuffle=False, verbose=0)
    for _ in range(3):
        by_hand.optimizer.apply(by_hand.gradients(*data(8)).weights)
    by_hand.optimizer.finalize_variable_values(by_hand.trainable_variables)
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), by_hand.get_weights(), strict=True))


def test_no_step_where_it_does_not_fit():
    model, other = twins(lambda: "adam")
    before, found = model.get_weights(), model.gradients(*data(8)).weights
    trained = model.trainable_weights
    for grads, variables, error in (
        (found, other.trainable_weights, "none of the model's weights"), (found[::-1], trained, "must have its shape"),
        (found[:2], [trained[0]] * 2, "must have its shape|twice"), (found[:2], trained, "for each variable"),
        ([found[0]] * 2, [trained[0]] * 2, "twice"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=error):
            model.optimizer.apply(grads, variables)
    model.layers[0].trainable = False
    with pytest.raises(ValueError, match="does not train"):
        model.optimizer.apply(found, trained)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    assert model.optimizer.iterations == 0 and not model.optimizer.built
    unbuilt = models.Sequential([layers.Dense(1)])
    unbuilt.compile("adam", "mse")
    with pytest.raises(ValueError, match="no weights yet"):
        unbuilt.optimizer.build([])


def test_a_state_that_was_built_takes_a_file_s(tmp_path):
    pytest.importorskip("h5py")
    model, new = twins(lambda: "adam")
    model.fit(*data(8), epochs=2, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    new.optimizer.build(new.trainable_variables)
    assert new.optimizer.built and len(new.optimizer.variables) == len(model.optimizer.variables)
    new.load_weights(tmp_path / "m.weights.h5")
    for one, other in zip(model.optimizer.variables, new.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
