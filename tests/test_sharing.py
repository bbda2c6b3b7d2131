"""Layers own their weights, optimizers their steps and state: what is shared is shared, and nothing is mixed."""

import copy
import gc
import io
import pickle
import threading
import weakref

import numpy as np
import pytest
from host.runtime import HostRuntime

import gpumlp
from gpumlp import layers, models, optimizers
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("f4")
Y = np.sin(X @ RNG.normal(size=(4, 2))).astype("f4")


pytestmark = pytest.mark.usefixtures("family")


def build(*more, seed=0, optimizer="adam", **how):
    set_random_seed(seed)
    stack = [layers.Dense(9, "tanh"), layers.Dense(7, "relu"), *more, layers.Dense(2)]
    model = models.Sequential([layers.Input((4,)), *stack])
    model.compile(optimizer, "mse", **how)
    return model


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def trained(**how):
    model = build(**how)
    model.fit(X, Y, epochs=2, verbose=0)
    return model


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_layers_of_a_trained_model_bring_their_weights():
    model = trained()
    hidden = model.layers[0].get_weights() + model.layers[1].get_weights()
    one = models.Sequential(model.layers[:-1])
    two = models.Sequential([*model.layers[:-1], layers.Dense(3)])
    three = models.Sequential()
    for layer in model.layers[:-1]:
        three.add(layer)
    for other in (one, two, three):
        assert other.built
        for a, b in zip(hidden, other.get_weights(), strict=False):
            assert a.tobytes() == b.tobytes()
    assert one.predict(X, verbose=0).shape == (60, 7)
    assert np.array_equal(one.predict(X, verbose=0), three.predict(X, verbose=0))


def test_training_either_of_two_models_is_seen_by_both():
    model = trained()
    head = models.Sequential([*model.layers[:-1], layers.Dense(2)])
    head.compile(optimizers.SGD(0.1), "mse")
    before, own = bits(model), bits(head)[-2:]
    head.fit(X, Y, verbose=0)
    after = bits(model)
    assert before[:4] != after[:4] == bits(head)[:4] and before[4:] == after[4:] and own != bits(head)[-2:]
    model.fit(X, Y, verbose=0)
    assert after[:4] != bits(model)[:4] == bits(head)[:4]
    model.layers[0].set_weights([w + 1 for w in model.layers[0].get_weights()])
    assert bits(model)[:2] == bits(head)[:2]


def test_a_model_that_shares_layers_trains_as_one_that_does_not():
    """The arena is laid out anew when another model comes, and the optimizer's state goes along."""
    alone, shared = trained(), trained()
    others = []
    for k in range(3):
        others.append(models.Sequential([*shared.layers[: k % 2 + 1], layers.Dense(3 + k)]))
        others[-1].predict(X, verbose=0)
        if k == 1:
            others.pop(0)  # whose place is given up
        alone.fit(X, Y, shuffle=False, verbose=0)
        shared.fit(X, Y, shuffle=False, verbose=0)
        assert bits(alone) == bits(shared)
    assert alone.optimizer.iterations == shared.optimizer.iterations


def test_a_frozen_trunk_under_a_new_head_stays_as_it_is():
    model = trained()
    for layer in model.layers[:-1]:
        layer.trainable = False
    head = models.Sequential([*model.layers[:-1], layers.Dense(2)])
    head.compile("adam", "mse")
    before = bits(head)
    head.fit(X, Y, epochs=3, verbose=0)
    assert bits(head)[:4] == before[:4] and bits(head)[4:] != before[4:]
    trunk = bits(model)[:4]
    model.fit(X, Y, verbose=0)
    assert bits(model)[:4] == trunk == bits(head)[:4]
    for layer in model.layers:
        layer.trainable = True
    model.fit(X, Y, verbose=0)
    assert bits(model)[:4] != trunk and bits(head)[:4] == bits(model)[:4]


def test_a_frozen_model_does_not_train_and_its_layers_are_frozen_too():
    model = build()
    model.trainable = False
    before = bits(model)
    model.fit(X, Y, verbose=0)
    assert bits(model) == before and not any(layer.trainable for layer in model.layers)
    model.trainable = True
    model.fit(X, Y, verbose=0)
    assert all(a != b for a, b in zip(bits(model), before, strict=True))


def test_what_is_popped_keeps_its_weights():
    model = trained()
    expected = model.layers[-1].get_weights()
    top = model.pop()
    assert [w.tobytes() for w in top.get_weights()] == [w.tobytes() for w in expected]
    model.add(layers.Dense(5))
    model.predict(X, verbose=0)
    other = models.Sequential([layers.Input((7,)), top])
    assert bits(other) == [w.tobytes() for w in expected]
    features = models.Sequential(model.layers[:2]).predict(X, verbose=0)
    found = other.predict(features, verbose=0)
    np.testing.assert_allclose(found, features @ expected[0] + expected[1], rtol=1e-5, atol=1e-5)


def test_a_layer_with_weights_for_other_samples_is_refused():
    model = trained()
    with pytest.raises(ValueError, match=r"made for samples of shape \(4,\).*new layer"):
        models.Sequential([layers.Input((5,)), model.layers[0]])


def test_models_of_two_dtypes_cannot_share_a_layer():
    layer = build().layers[0]
    with pytest.raises(ValueError, match=r"float32 weights.*float64"):
        models.Sequential([layers.Input((4,)), layer], dtype="float64")


def test_models_on_two_devices_cannot_share_a_layer(family, as_gpu, monkeypatch):
    as_gpu(HostRuntime())
    monkeypatch.setenv("GPUMLP_KERNELS", "auto")
    model = build(device="cpu")
    model.fit(X, Y, verbose=0)
    before = bits(model)
    other = models.Sequential([*model.layers[:-1], layers.Dense(2)])
    other.predict(X, verbose=0)  # follows
    with pytest.raises(ValueError, match=r"shares layers with one that computes on cpu.*cuda:0.*same device"):
        other.compile("adam", "mse", device="cuda")
    assert bits(model) == before
    other.compile("adam", "mse", device="cpu")
    other.fit(X, Y, verbose=0)


def test_copies_have_weights_of_their_own_and_train_alike():
    model = trained()
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    before = bits(model)
    for each in (model, *copies):
        each.fit(X, Y, shuffle=False, verbose=0)
    assert before != bits(model) == bits(copies[0]) == bits(copies[1])
    assert {each.optimizer.iterations for each in (model, *copies)} == {6}


def test_models_pickled_together_share_what_they_shared():
    model = trained()
    head = models.Sequential([*model.layers[:-1], layers.Dense(2)])
    one, two = pickle.loads(pickle.dumps((model, head)))
    assert one.layers[0] is two.layers[0]
    before = bits(two)
    one.fit(X, Y, verbose=0)
    assert before[:4] != bits(two)[:4] == bits(one)[:4]


def test_a_layer_is_pickled_with_its_own_weights_alone():
    model = build(layers.Dense(200))
    model.fit(X, Y, verbose=0)
    layer = model.layers[0]
    data = pickle.dumps(layer)
    assert [w.tobytes() for w in pickle.loads(data).get_weights()] == bits(model)[:2] and len(data) < 2000


def test_a_model_is_pickled_as_it_is_at_one_moment(family):
    """Weights, state and steps of a copy made while another thread trains are those after some number of steps."""
    model = build(optimizer=optimizers.SGD(1e-3, momentum=0.9))
    running, stop = threading.Event(), []

    def train():
        callback = gpumlp.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: running.set())
        while not stop:
            model.fit(X, Y, batch_size=60, shuffle=False, verbose=0, epochs=2, callbacks=callback)

    thread = threading.Thread(target=train)
    thread.start()
    running.wait(600)
    copies = [pickle.loads(pickle.dumps(model)) for _ in range(5)]
    stop.append(True)
    thread.join(600)
    for each in copies:
        again = build(optimizer=optimizers.SGD(1e-3, momentum=0.9))
        again.fit(X, Y, batch_size=60, shuffle=False, verbose=0, epochs=each.optimizer.iterations)
        assert bits(again) == bits(each)
        each.fit(X, Y, batch_size=60, shuffle=False, verbose=0)
        again.fit(X, Y, batch_size=60, shuffle=False, verbose=0)
        assert bits(again) == bits(each)


def test_members_of_an_ensemble_do_not_share_layers():
    layer = layers.Dense(2, input_shape=(4,))

    def member():
        model = models.Sequential([layer])
        model.compile("adam", "mse")
        return model

    with pytest.raises(ValueError, match="share one layer"):
        gpumlp.Ensemble(member, 2)


def test_a_member_of_an_ensemble_shares_its_layers_with_other_models():
    ensemble = gpumlp.Ensemble(build, 2)
    ensemble.fit(X, Y, verbose=0)
    alone = gpumlp.Ensemble(build, 2)
    alone.fit(X, Y, verbose=0)
    features = models.Sequential(ensemble.members[1].layers[:-1])
    before = features.predict(X, verbose=0)
    for each in (ensemble, alone):
        each.fit(X, Y, verbose=0)
    assert [bits(m) for m in ensemble.members] == [bits(m) for m in alone.members]
    assert not np.array_equal(before, features.predict(X, verbose=0))


def test_two_threads_fit_models_that_share_a_trunk():
    model = build()
    heads = [models.Sequential([*model.layers[:-1], layers.Dense(2)]) for _ in range(2)]
    for head in heads:
        head.compile(optimizers.SGD(0.0), "mse")
    expected = [head.predict(X, verbose=0) for head in heads]
    threads = [threading.Thread(target=lambda h=h: h.fit(X, Y, epochs=20, verbose=0)) for h in heads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert [head.optimizer.iterations for head in heads] == [40, 40]
    for head, value in zip(heads, expected, strict=True):
        assert np.array_equal(head.predict(X, verbose=0), value)


def test_an_unbuilt_layer_is_built_for_a_shape_with_its_batch():
    layer = layers.Dense(3)
    assert layer.get_weights() == [] and not layer.built
    layer.build((None, 4))
    assert [w.shape for w in layer.get_weights()] == [(4, 3), (3,)] and layer.count_params() == 15
    model = models.Sequential([layer])
    assert bits(model) == [w.tobytes() for w in layer.get_weights()]


def test_a_change_of_a_layer_s_attribute_is_read():
    model = trained()
    linear = models.Sequential([layers.Input((4,)), layers.Dense(9), layers.Dense(7), layers.Dense(2)])
    linear.set_weights(model.get_weights())
    for layer in model.layers:
        layer.activation = gpumlp.activations.linear
    assert np.array_equal(model.predict(X, verbose=0), linear.predict(X, verbose=0))


def test_layers_that_change_while_a_model_trains_end_the_fit():
    model = build()
    change = gpumlp.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: model.pop())
    with pytest.raises(RuntimeError, match="layers were changed while it was training"):
        model.fit(X, Y, epochs=2, verbose=0, callbacks=change)


def test_a_callback_may_look_through_a_model_of_the_same_layers():
    found = {}
    for looks in (False, True):
        model, seen = build(), []

        def look(epoch, logs, model=model, seen=seen):
            seen.append(models.Sequential([*model.layers[:-1], layers.Dense(1)]).predict(X, verbose=0))

        callback = gpumlp.callbacks.LambdaCallback(on_epoch_end=look) if looks else None
        set_random_seed(1)
        model.fit(X, Y, epochs=3, verbose=0, shuffle=False, callbacks=callback)
        found[looks] = bits(model)
    assert found[True] == found[False] and len(seen) == 3


# ---- optimizers ------------------------------------------------------------------------------------------------------


def first_step(model):
    """How far the first step after this moves the last bias: its rate, for Adam."""
    before = model.get_weights()[-1]
    model.fit(X, Y + 50, batch_size=60, shuffle=False, verbose=0)
    return np.abs(model.get_weights()[-1] - before).max()


def test_an_optimizer_starts_anew_in_a_second_model_and_is_refused_in_the_first():
    optimizer = optimizers.Adam(0.01)
    first = build(optimizer=optimizer)
    first.fit(X, Y, epochs=20, verbose=0)
    second = build(optimizer=optimizer)
    assert optimizer.iterations == 0
    assert first_step(second) == pytest.approx(0.01, rel=1e-3)
    for call in (first.fit, first.train_on_batch):
        with pytest.raises(ValueError, match="Another model was compiled with this model's optimizer"):
            call(X, Y)
    assert optimizer.iterations == 1
    first.predict(X, verbose=0), first.evaluate(X, Y, verbose=0)
    first.compile("adam", "mse")
    first.fit(X, Y, verbose=0)


def test_a_model_that_is_compiled_again_with_its_optimizer_goes_on():
    one, other = build(), build()
    for model in (one, other):
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    other.compile(optimizer=other.optimizer, loss="mse")
    for model in (one, other):
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    assert bits(one) == bits(other) and other.optimizer.iterations == 12


def test_after_pop_and_add_the_optimizer_starts_anew():
    model = build(optimizer=optimizers.Adam(0.01))
    model.fit(X, Y, epochs=20, verbose=0)
    model.pop()
    model.add(layers.Dense(2))
    assert first_step(model) == pytest.approx(0.01, rel=1e-3)
    assert model.optimizer.iterations == 1


def test_a_schedule_begins_where_its_optimizer_does():
    schedule = optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    optimizer = optimizers.SGD(schedule)
    build(optimizer=optimizer).fit(X, Y, epochs=3, verbose=0)
    assert optimizer.learning_rate < 0.01
    second = build(optimizer=optimizer)
    assert second.optimizer.learning_rate == 0.1


def test_an_optimizer_alone_is_copied_without_anybody_s_state():
    model = trained()
    for other in (copy.deepcopy(model.optimizer), pickle.loads(pickle.dumps(model.optimizer))):
        assert other.iterations == 0 and other.get_config() == model.optimizer.get_config()
    assert model.optimizer.iterations == 4


def test_an_optimizer_that_is_taken_away_ends_the_fit_it_is_taken_from():
    optimizer = optimizers.Adam()
    first = build(optimizer=optimizer)
    second = models.Sequential(first.layers)

    def take(epoch, logs):
        if epoch == 2:
            second.compile(optimizer, "mse")

    with pytest.raises(RuntimeError, match="compiled with this model's optimizer while it was training"):
        first.fit(X, Y, epochs=5, verbose=0, callbacks=gpumlp.callbacks.LambdaCallback(on_epoch_end=take))
    assert optimizer.iterations == 0
    second.fit(X, Y, verbose=0)
    assert optimizer.iterations == 2


def test_a_layer_is_copied_as_it_is_also_while_an_earlier_pickle_is_kept():
    model = trained()
    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump(model)
    model.mine = threading.Lock()
    with pytest.raises(TypeError) as kept:  # which cannot be copied
        copy.deepcopy(model)
    model.fit(X, Y, verbose=0)
    for layer in (copy.deepcopy(model.layers[0]), pickle.loads(pickle.dumps(model.layers[0]))):
        assert [w.tobytes() for w in layer.get_weights()] == bits(model)[:2]
    assert pickler and kept


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_a_dropped_model_is_freed_at_once():
    gc.collect()
    gc.disable()
    try:
        model = build()
        history = model.fit(X, Y, validation_split=0.2, verbose=0, callbacks=gpumlp.callbacks.EarlyStopping())
        model.predict(X, verbose=0), model.evaluate(X, Y, verbose=0)
        assert history.model is model and model.history is history
        seen = weakref.ref(model), weakref.ref(model.layers[0]), weakref.ref(model._runner.weights.arena)
        del model, history
        assert [ref() for ref in seen] == [None, None, None]
    finally:
        gc.enable()


def test_the_history_and_the_model_know_each_other():
    model = trained()
    values = model.history.history
    again = model.history
    assert again.history is values and again.model is model and again is model.history
    assert pickle.loads(pickle.dumps(model)).history.history == values
