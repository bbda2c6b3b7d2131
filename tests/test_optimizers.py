"""Optimizers by their textbook forms, the stages around them, and optimizers of a user's own."""

import copy
import inspect
import pickle

import numpy as np
import pytest

from gpumlp import layers, losses, metrics, models, ops, optimizers, saving, utils
from gpumlp.optimizers import schedules

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(24, 3)), RNG.normal(size=(24, 2))
W, G = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 5, 3))


def applied(optimizer, grads=G):
    """Return W after a step with each of the gradients."""
    w = W.copy()
    for g in grads:
        optimizer.apply([g], [w])
    return w


def build(optimizer, dtype="float64", hidden="tanh"):
    utils.set_random_seed(5)
    model = models.Sequential([layers.Dense(7, hidden, input_shape=(3,)), layers.Dense(2)], dtype=dtype)
    model.compile(optimizer, "mse")
    return model


def trained(optimizer, dtype="float64", **fit):
    model = build(optimizer, dtype)
    model.fit(X, Y, **{"batch_size": 6, "epochs": 3, "verbose": 0, "shuffle": False} | fit)
    return model


def same(one, other, rtol=1e-12):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol, 1e-14)


def is_compiled(model):
    return not model.program.startswith("one operation after the other")


# ---- textbook forms --------------------------------------------------------------------------------------------------


def adam_m(t, beta=0.9):
    return (1 - beta) * sum(beta ** (t - 1 - i) * G[i] for i in range(t)) / (1 - beta**t)


def mean_square(t, beta):
    return (1 - beta) * sum(beta ** (t - 1 - i) * G[i] ** 2 for i in range(t))


TEXTBOOK = {  # what is subtracted at step t
    "SGD": lambda t: 0.01 * G[t - 1],
    "RMSprop": lambda t: 0.001 * G[t - 1] / np.sqrt(mean_square(t, 0.9) + 1e-7),
    "Adam": lambda t: 0.001 * adam_m(t) / (np.sqrt(mean_square(t, 0.999) / (1 - 0.999**t))),
    "Adamax": lambda t: 0.001 * adam_m(t) / np.max([0.999 ** (t - 1 - i) * abs(G[i]) for i in range(t)], 0),
    "Adagrad": lambda t: 0.001 * G[t - 1] / np.sqrt(0.1 + sum(g**2 for g in G[:t])),
    "Lion": lambda t: 0.001 * np.sign(0.1 * G[t - 1] + 0.009 * sum(0.99 ** (t - 2 - i) * G[i] for i in range(t - 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTBOOK)
def test_steps_are_those_of_the_textbook(name):
    expected = W - sum(TEXTBOOK[name](t) for t in range(1, 5))
    np.testing.assert_allclose(applied(getattr(optimizers, name)()), expected, 2e-6)  # but for epsilon


def test_a_step_of_lamb_is_as_long_as_the_weights():
    step = W - applied(optimizers.Lamb(0.1), G[:1])
    assert np.linalg.norm(step) == pytest.approx(0.1 * np.linalg.norm(W))


def test_a_step_of_muon_has_singular_values_of_about_one():
    step = (W - applied(optimizers.Muon(1.0, rms_rate=None, weight_decay=None), G[:1])) / 1.0
    values = np.linalg.svd(step)[1]
    assert 0.6 < values.min() and values.max() < 1.3


def test_adafactor_s_first_step_has_the_size_that_its_weights_and_threshold_say():
    step = W - applied(optimizers.Adafactor(0.1, clip_threshold=0.5), G[:1])
    assert np.sqrt(np.mean(step**2)) == pytest.approx(0.1 * np.sqrt(np.mean(W**2)) * 0.5, rel=0.01)


def test_ftrl_makes_weights_zero_whose_gradients_are_small():
    w = applied(optimizers.Ftrl(0.1, l1_regularization_strength=3.0))
    assert 0 < np.count_nonzero(w == 0.0) < w.size


def test_ftrl_with_nothing_gathered_leaves_what_never_had_a_gradient_at_zero():
    w = np.ones((2, 2))
    optimizers.Ftrl(initial_accumulator_value=0.0).apply([np.array([[0.0, 1.0], [1.0, 0.0]])], [w])
    assert np.isfinite(w).all()


# ---- what all have ---------------------------------------------------------------------------------------------------

SETTINGS = [
    {}, {"weight_decay": 0.1}, {"clipvalue": 0.05}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1},
    {"use_ema": True, "ema_momentum": 0.8}, {"gradient_accumulation_steps": 3, "clipvalue": 0.05},
    {"use_ema": True, "ema_overwrite_frequency": 2, "gradient_accumulation_steps": 2, "weight_decay": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("kind", optimizers.KNOWN.values())
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_all_train_a_model_and_go_on_from_a_copy(kind, setting):
    model = trained(kind(0.01, **setting))
    other = pickle.loads(pickle.dumps(model))
    for m in (model, other):
        m.fit(X, Y, batch_size=6, verbose=0, shuffle=False)
    same(model, other, 0)
    assert np.isfinite(np.concatenate([w.ravel() for w in model.get_weights()])).all()


@pytest.mark.parametrize("kind", [k for k in optimizers.KNOWN.values() if not k().apart])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_compiled_kernels_update_by_the_same_formula(kind, setting, monkeypatch):
    plain = trained(kind(0.01, **setting), "float32")
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    compiled = trained(kind(0.01, **setting), "float32")
    assert is_compiled(compiled) == (not compiled.optimizer.apart)
    for a, b in zip(plain.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 2e-3, 2e-4)


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        (lambda: optimizers.Lamb(), "Lamb has sums over weights"), (lambda: optimizers.SGD(clipnorm=1), "clipnorm is"),
        (lambda: optimizers.Muon(), "products of matrices"), (lambda: optimizers.Adafactor(), "means of rows"),
        (lambda: optimizers.Adam(global_clipnorm=1), "global_clipnorm is of norms"),
    ],
)  # fmt: skip
def test_a_model_says_why_it_trains_with_numpy(optimizer, why, monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    assert why in trained(optimizer(), "float32").program


def test_a_setting_of_a_callback_s_holds_from_the_next_step_on(monkeypatch):
    from gpumlp.callbacks import LambdaCallback

    def fit():
        model = build("sgd", "float32")
        clip = LambdaCallback(on_epoch_begin=lambda e, logs: setattr(model.optimizer, "clipnorm", 0.1 if e else None))
        model.fit(X, Y, batch_size=6, epochs=3, verbose=0, shuffle=False, callbacks=[clip])
        return model

    plain = fit()
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    model = fit()
    assert "clipnorm" in model.program
    same(plain, model, 1e-4)


def test_gathered_gradients_are_those_of_a_larger_batch():
    few = trained(optimizers.Adam(0.01, gradient_accumulation_steps=4), batch_size=3)
    same(few, trained(optimizers.Adam(0.01), batch_size=12), 1e-9)
    assert few.optimizer.iterations == 6 and few.optimizer.steps == 24


def test_schedules_count_the_steps_that_only_gather():
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([0], [9.0, 0.5]), gradient_accumulation_steps=2)
    np.testing.assert_allclose(applied(optimizer, G[:2]), W - 0.5 * G[:2].mean(0))


def test_averages_are_the_weights_when_fit_is_at_its_end():
    plain, averaged = trained("sgd", epochs=1), trained(optimizers.SGD(use_ema=True, ema_momentum=0.0), epochs=1)
    same(plain, averaged)
    model = build(optimizers.SGD(use_ema=True, ema_momentum=0.5))
    now, average = build("sgd"), None
    for k in range(4):
        now.train_on_batch(X[6 * k : 6 * k + 6], Y[6 * k : 6 * k + 6])
        weights = now.get_weights()
        average = weights if average is None else [0.5 * a + 0.5 * w for a, w in zip(average, weights, strict=True)]
    model.fit(X, Y, batch_size=6, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), average, strict=True):
        np.testing.assert_allclose(a, b, 1e-12)


def test_frozen_weights_have_no_average():
    utils.set_random_seed(5)
    model = models.Sequential([layers.Dense(7, input_shape=(3,), trainable=False), layers.Dense(2)])
    model.compile(optimizers.Lamb(use_ema=True, clipnorm=1.0), "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_are_right_far_out(dtype):
    w = np.zeros((2, 2), dtype)
    optimizers.SGD(1.0, clipnorm=1.0).apply([np.full((2, 2), 1e30, dtype)], [w])
    np.testing.assert_allclose(w, -0.5, 1e-6)


@pytest.mark.parametrize(("clip", "finite"), [("clipnorm", [False, True]), ("global_clipnorm", [False, False])])
def test_a_gradient_of_nan_reaches_those_whose_norm_it_is_in(clip, finite):
    pair = np.ones(2), np.ones(2)
    optimizers.SGD(**{clip: 1.0}).apply([np.array([np.nan, 1.0]), np.ones(2)], pair)
    assert [bool(np.isfinite(w).all()) for w in pair] == finite and np.isnan(pair[0]).all()


@pytest.mark.parametrize(
    ("excluded", "kept"),
    [
        ({"var_names": ["ker"]}, [0, 2]), ({"var_names": ["bias", "^k"]}, [0, 1, 2, 3]), ({}, []),
        ({"var_list": ["dense_1/kernel"]}, [2]), ({"var_list": ["dense/bias"], "var_names": ["x"]}, [1]),
    ],
)  # fmt: skip
def test_what_does_not_decay(excluded, kept):
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(**excluded)
    layers.reset_names()
    model = build(optimizer)
    before = [np.ones_like(w) for w in model.get_weights()]
    model.set_weights(before)
    plain = build(optimizers.SGD(0.1))
    plain.set_weights(before)
    for m in (model, plain):
        m.fit(X, Y, batch_size=24, verbose=0)
    for i, (w, other) in enumerate(zip(model.get_weights(), plain.get_weights(), strict=True)):
        np.testing.assert_allclose(other - w, 0.0 if i in kept else 0.05, atol=1e-12)


def test_only_one_clip_can_be_set():
    with pytest.raises(ValueError, match="Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)
    optimizer = optimizers.SGD(clipnorm=1.0)
    with pytest.raises(ValueError, match="Only one"):
        optimizer.clipvalue = 1.0
    optimizer.clipnorm = None
    optimizer.clipvalue = 1.0
    assert optimizer.get_config()["clipvalue"] == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("clipnorm", -1.0), ("ema_momentum", 1.5), ("ema_overwrite_frequency", 0), ("gradient_accumulation_steps", 1),
     ("loss_scale_factor", 0.0), ("use_ema", "yes"), ("weight_decay", np.nan), ("gradient_accumulation_steps", True)],
)  # fmt: skip
def test_bad_settings_are_refused_whenever_they_are_set(name, value):
    with pytest.raises(ValueError, match=name):
        optimizers.Adam(**{name: value})
    with pytest.raises(ValueError, match=name):
        setattr(optimizers.Adam(), name, value)


def test_a_changed_constant_holds_at_the_next_step():
    optimizer = optimizers.SGD(0.1, momentum=0.5)
    assert optimizer.numbers == {"factor": 0.5}
    optimizer.momentum = 0.25
    assert optimizer.numbers == {"factor": 0.25}
    optimizer.momentum = 0.0
    assert optimizer.slots == ()


# ---- the learning rate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [optimizers.SGD, optimizers.Adam, optimizers.AdamW, optimizers.Adamax, optimizers.Nadam]
)
def test_what_changes_from_step_to_step_is_the_same_by_many_steps_as_by_one(kind):
    optimizer = kind(0.01)
    optimizer.count(3)
    found = optimizer.coming(1000)
    np.testing.assert_array_equal(found, [optimizer.scalars(4 + k) for k in range(1000)])
    assert found.shape == (1000, len(optimizer.scalar_names)) and optimizer.coming(0).shape == (0, found.shape[1])


def test_an_adam_whose_rates_are_its_own_is_asked_step_by_step():
    class Slower(optimizers.Adam):
        def rates(self, rate, update):
            return {"rate": rate / float(update)}

    np.testing.assert_allclose(Slower(1.0).coming(3)[:, 0], [1.0, 1 / 2, 1 / 3])


def test_a_function_is_asked_once_for_each_step():
    asked = []

    def rate():
        asked.append(len(asked))
        return 0.1 / len(asked)

    model = trained(optimizers.SGD(rate, weight_decay=0.1))
    assert len(asked) == model.optimizer.steps == 12
    expected = W - 0.1 * G[0] - 0.05 * G[1]
    np.testing.assert_allclose(applied(optimizers.SGD(iter([0.1, 0.05]).__next__), G[:2]), expected)


def test_a_function_must_give_a_rate():
    with pytest.raises(ValueError, match="function gives"):
        trained(optimizers.SGD(lambda: -1.0))


# ---- names and configs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam_w", "AdamW", "adamw", "ADAMW", "rms_prop", "Lamb", "schedule_free_adam_w"])
def test_names_are_taken_in_every_case(name):
    assert type(optimizers.get(name)).__name__.lower() == name.replace("_", "").lower()


def test_nothing_is_no_optimizer():
    assert optimizers.get(None) is None
    with pytest.raises(TypeError, match="needs an optimizer"):
        build(None)


@pytest.mark.parametrize("kind", optimizers.KNOWN.values())
def test_configs_make_the_same_optimizer_again(kind):
    of = kind(schedules.ExponentialDecay(0.1, 3, 0.5), use_ema=True, clipnorm=0.5, name="mine")
    config = optimizers.serialize(of)
    assert config["module"] == "keras.optimizers" and config["config"]["learning_rate"]["config"]["decay_steps"] == 3
    again = optimizers.deserialize(copy.deepcopy(config))
    assert type(again) is kind and again.get_config() == of.get_config()
    assert saving.deserialize_keras_object(config).learning_rate == of.learning_rate == 0.1
    np.testing.assert_array_equal(applied(again), applied(kind.from_config(of.get_config())))


def test_arguments_by_position_are_keras_s():
    assert optimizers.SGD(0.1, 0.9, True, 0.01, None, 0.5).clipvalue == 0.5
    with pytest.raises(ValueError, match=r"no argument 'momentun'\. Did you mean 'momentum'"):
        optimizers.SGD(momentun=0.9)


# ---- a user's own ----------------------------------------------------------------------------------------------------


def signed(w, g, m, rate, keep):
    m = m + (g - m) * keep
    return {"w": w - rate * ops.sign(m), "m": m}


class Signed(optimizers.Optimizer):
    """A sign of a moving average, which begins at ``start``."""

    def __init__(self, learning_rate=0.001, beta=0.9, start=0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.beta = beta
        self.start = start

    def state(self):
        return {"m": self.start}

    def update_rule(self):
        return signed

    def rule_constants(self):
        return {"keep": 1.0 - self.beta}


class Shared(Signed):
    """One whose steps have a mean of zero, which needs a sum."""

    def update_rule(self):
        return lambda w, g, m, rate, keep: {"w": w - rate * (g - ops.mean(g)), "m": m}


def test_an_optimizer_of_one_s_own():
    np.testing.assert_array_equal(applied(Signed(0.1), G[:1]), W - 0.1 * np.sign(G[0]))
    np.testing.assert_array_equal(applied(Signed(0.1, start=99.0), G[:1]), W - 0.1)
    config = Signed(0.1, 0.8, clipnorm=1.0).get_config()
    assert (config["beta"], config["clipnorm"], config["learning_rate"]) == (0.8, 1.0, 0.1)
    assert Signed.from_config(config).beta == 0.8
    trained(Signed(0.01, start=1.0))


def test_an_optimizer_of_one_s_own_is_compiled(monkeypatch):
    plain = trained(Signed(0.01, start=1.0, use_ema=True), "float32")
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    compiled = trained(Signed(0.01, start=1.0, use_ema=True), "float32")
    assert is_compiled(compiled)
    same(plain, compiled, 1e-3)


def test_sums_of_a_rule_go_over_an_array():
    assert "sums" in Shared().apart
    w = applied(Shared(0.1), G[:1])
    np.testing.assert_allclose(w, W - 0.1 * (G[0] - G[0].mean()))
    trained(Shared(0.1))


@pytest.mark.parametrize("method", ["update_step", "apply", "build", "scalars"])
def test_what_would_not_be_called_is_refused(method):
    kind = type("Mine", (Signed,), {method: lambda self, *a: None, "__module__": __name__})
    with pytest.raises(TypeError, match=rf"Mine\.{method} would not be called.*update_rule"):
        optimizers.get(kind())


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (lambda w, g, m, rate, keep: w - g, "must return a dict"),
        (lambda w, g, m, rate, keep: {"w": w - g}, "must say what becomes of w, m"),
        (lambda w, g, m, rate, keep: {"w": w - g, "m": m, "n": m}, "must return a dict"),
        (lambda w, g, m, rate, keep: {"w": w - np.sign(g), "m": m}, "function of NumPy"),
        (
            lambda w, g, m, rate, keep: {"w": w - ops.sum(g, axis=-1), "m": m},
            "goes over all of .* array, or batch: no axis=-1",
        ),
    ],
)
def test_a_rule_that_is_no_formula_is_refused(rule, error):
    kind = type("Mine", (Signed,), {"update_rule": lambda self: rule, "__module__": __name__})
    with pytest.raises(TypeError, match=error):
        trained(kind())


# ---- on arrays -------------------------------------------------------------------------------------------------------


def test_arrays_stay_as_they_are_where_something_is_wrong():
    optimizer, w = optimizers.Adam(), W.copy()
    optimizer.apply([G[0]], [w])
    before = w.copy()
    for grads, variables, error in (
        ([G[0][0]], [w], "shape"), ([None], [w], "No gradients"), ([G[0]], [W.copy()], "Unknown variable"),
        ([G[0], G[1]], [w], "for each variable"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=error):
            optimizer.apply(grads, variables)
    assert np.array_equal(w, before) and optimizer.iterations == 1
    with pytest.raises(TypeError, match="writeable"):
        optimizers.SGD().apply([G[0]], [W.tolist()])
    with pytest.warns(UserWarning, match="no gradients for the variables 1"):
        optimizers.SGD().apply([G[0], None], [w, w.copy()])


def test_state_goes_from_one_to_another():
    one, other, w = optimizers.Adam(0.1), optimizers.Adam(0.3), W.copy()
    one.apply([G[0]], [w])
    with pytest.raises(ValueError, match="build"):
        other.set_weights(one.variables)
    v = w.copy()
    other.build([v])
    with pytest.raises(ValueError, match="shapes"):
        other.set_weights(one.variables[:3])
    other.set_weights(one.variables)
    for optimizer, array in ((one, w), (other, v)):
        optimizer.apply([G[1]], [array])
    np.testing.assert_array_equal(w, v)


def test_views_are_updated_where_they_are():
    w = W.T.copy().T
    optimizers.SGD(1.0).apply_gradients([(G[0], w)])
    np.testing.assert_allclose(w, W - G[0])


def test_state_is_a_model_s_or_arrays_own():
    model = build("adam")
    with pytest.raises(ValueError, match="none of the model's weights"):
        model.optimizer.apply([G[0]], [W.copy()])


def test_arguments_of_older_scripts():
    """As in Keras: decay is ignored, with a warning, and what is not known is told."""
    with pytest.warns(UserWarning, match="`decay` is no longer supported"):
        made = optimizers.SGD(learning_rate=0.01, decay=1e-6, momentum=0.9, nesterov=True)
    assert made.get_config() == optimizers.SGD(0.01, 0.9, True, name=made.name).get_config()
    with pytest.raises(ValueError, match=r"Adam\(\) has no argument 'lr'. Did you mean 'learning_rate'\?"):
        optimizers.Adam(lr=0.1)


@pytest.mark.parametrize("kind", optimizers.KNOWN.values(), ids=lambda kind: kind.__name__)
def test_a_constructor_declares_what_all_optimizers_take(kind):
    """In its own source, by the base's defaults; what has another default stands before, among its own."""
    assert "__init__" in vars(kind)
    shared = dict(inspect.signature(optimizers.Optimizer).parameters)
    declared = dict(inspect.signature(kind).parameters)
    assert set(shared) <= set(declared)
    changed = {name for name, p in shared.items() if p.default != declared[name].default}
    assert changed <= {"learning_rate", "weight_decay"}
    assert all(hasattr(kind(), name) for name in declared)
    configs = [of.get_config() | {"name": ""} for of in (kind(0.5), eval(repr(kind(0.5)), {kind.__name__: kind}))]
    assert configs[0] == configs[1]


def test_what_optimizers_and_schedules_look_like():
    schedule = optimizers.schedules.CosineDecay(0.01, 100)
    assert repr(optimizers.Adam()) == "Adam(learning_rate=0.001)"
    assert repr(optimizers.SGD(0.1, momentum=0.9, name="mine")) == "SGD(learning_rate=0.1, momentum=0.9)"
    assert repr(schedule) == "CosineDecay(initial_learning_rate=0.01, decay_steps=100.0)"
    assert repr(losses.Huber(2.0)) == "Huber(delta=2.0)"
    assert repr(metrics.get("mae")) == "MeanAbsoluteError()"
    assert repr(metrics.MeanMetricWrapper(losses.huber, "h")) == "MeanMetricWrapper(fn=huber, name='h')"
    assert repr(metrics.AUC(curve="PR", name="area")) == "AUC(curve='PR', name='area')"
