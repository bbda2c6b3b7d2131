"""The whole-fit kernel over whole runs: as near to float64 as NumPy is, and the same bits however it is launched."""

from dataclasses import replace

import numpy as np
import pytest
from host.runtime import HostRuntime
from whole_fit import Case, Dense, assert_same_bits, by_kernel, by_numpy, force, launches_of, state, train

from gpumlp import Ensemble, layers, losses, models, optimizers, random, regularizers
from gpumlp.activations import gelu
from gpumlp.callbacks import EarlyStopping
from gpumlp.engine import fit_plan, fit_program
from gpumlp.optimizers import schedules
from gpumlp.training import loop
from gpumlp.utils import set_random_seed


@pytest.fixture(autouse=True)
def whole_epochs(monkeypatch):
    """An epoch is one launch, however slow it is here."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)


BOTH = regularizers.L1L2(0.01, 0.02)

# ---- against float64 -------------------------------------------------------------------------------------------------

# Every activation, loss, optimizer, penalty, exchange and awkward size is in one of these at least, for 50 steps.
# Batches of 7, 3, 20 and 2 of which the last has one sample; layers narrower than the group; last layers of up to 16
# outputs, which every block computes, and of more, which are exchanged.
CASES = {
    "one layer, binary crossentropy, weighted metrics": Case(
        lambda: [Dense(3, "sigmoid")], features=17, samples=41, batch=20, epochs=17, group=1, threads=96,
        loss=lambda: losses.BinaryCrossentropy(label_smoothing=0.1), targets="shares", weighted=True,
        optimizer=lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        metrics=("accuracy", "mae"), weighted_metrics=("acc", "mse"),
    ),
    "one wide layer": Case(
        lambda: [Dense(33, "softmax", kernel_regularizer="l2")], features=17, samples=22, epochs=13, group=3,
        loss="categorical_crossentropy", targets="one hot", most=2,
    ),
    "a rescaling, two layers, one feature, one output": Case(
        lambda: [layers.Rescaling(0.4, 0.1), Dense(20, "relu"), Dense(1)], features=1, samples=29, epochs=10,
        metrics=("mae",),
    ),
    "a wide last layer, mae, momentum": Case(
        lambda: [Dense(33, "tanh"), Dense(65, "sigmoid"), Dense(17)], samples=7, batch=3, epochs=17, loss="mae",
        optimizer=lambda: optimizers.SGD(0.01, momentum=0.8), group=3, threads=96, exchange="barrier", weighted=True,
    ),
    "activations whose slope needs their input, also the last": Case(
        lambda: [Dense(31, "gelu"), Dense(17, "silu"), Dense(20, gelu.given(approximate=True))], features=20, samples=9,
        batch=4, epochs=17, loss=lambda: losses.Huber(0.5), optimizer=lambda: optimizers.AdamW(0.003, weight_decay=0.1),
    ),
    "nine layers, a wide softmax, labels": Case(
        lambda: [Dense(20, "relu"), *(Dense(17, "elu") for _ in range(6)), Dense(3, "tanh"), Dense(20, "softmax")],
        samples=22, epochs=13, loss="sparse_categorical_crossentropy", targets="labels", group=5, metrics=("accuracy",),
        optimizer=lambda: optimizers.Adam(0.003),
    ),
    "logits, smoothed labels, l1, Activation layers": Case(
        lambda: [
            Dense(9, kernel_regularizer=regularizers.L1L2(0.01, 0)), layers.Activation("leaky_relu"),
            layers.Dropout(0), Dense(17), layers.Activation("linear"),
        ], samples=21, batch=20, epochs=25, group=3, exchange="barrier", targets="one hot", threads=128,
        loss=lambda: losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), metrics=("accuracy",),
    ),
    "frozen layers, layers without bias, l2 on biases": Case(
        lambda: [
            Dense(33, "relu", trainable=False, kernel_regularizer="l2"), Dense(17, "tanh", use_bias=False),
            Dense(20, "sigmoid", bias_regularizer="l2"), Dense(5, trainable=False, bias_regularizer="l1"),
            Dense(2, bias_regularizer=BOTH, use_bias=True),
        ], samples=29, epochs=10, group=5, threads=32, most=2, optimizer=lambda: optimizers.Adam(0.01),
    ),
    "too little shared memory to fetch ahead, by tags": Case(
        lambda: [Dense(17, "tanh") for _ in range(5)] + [Dense(2)], samples=41, batch=20, epochs=17, shared=18_200,
        most=2,
    ),
    "little shared memory, by a barrier, both penalties": Case(
        lambda: [Dense(17, "sigmoid", kernel_regularizer=BOTH) for _ in range(4)] + [Dense(18)], samples=41,
        batch=20, epochs=17, shared=24_000, exchange="barrier", optimizer=lambda: optimizers.SGD(0.1),
    ),
    "one sample a batch, a schedule": Case(
        lambda: [Dense(20, "leaky_relu"), Dense(3)], samples=10, batch=1, epochs=5, exchange="barrier",
        optimizer=lambda: optimizers.SGD(schedules.ExponentialDecay(0.1, 5, 0.8)),
    ),
    "layers of one, two samples a batch": Case(
        lambda: [Dense(1, "tanh"), Dense(31, "elu"), Dense(1), Dense(2)], samples=9, batch=2, epochs=10, group=5,
        optimizer=lambda: optimizers.AdamW(schedules.ExponentialDecay(0.01, 5, 0.8), weight_decay=0.05),
    ),
    "binary crossentropy of wide logits": Case(
        lambda: [Dense(9, "silu", bias_regularizer="l1"), Dense(20)], samples=22, epochs=13, exchange="barrier",
        loss=lambda: losses.BinaryCrossentropy(from_logits=True), targets="shares", weighted=True, group=4, threads=32,
    ),
    "categorical crossentropy of sigmoids, rates that change": Case(
        lambda: [Dense(65, "gelu"), Dense(5, "sigmoid")], samples=29, epochs=10, group=3, targets="one hot",
        loss="categorical_crossentropy", rates=(0.01, 0.0, 0.002), metrics=("mse",), weighted_metrics=("accuracy",),
        weighted=True,
    ),
    "one block, labels as logits": Case(
        lambda: [Dense(17, "silu", kernel_regularizer="l2"), Dense(20, "elu", use_bias=False), Dense(17)], samples=22,
        epochs=13, group=1, loss=lambda: losses.SparseCategoricalCrossentropy(from_logits=True), targets="labels",
        optimizer=lambda: optimizers.SGD(0.05, momentum=0.9), metrics=("accuracy",),
    ),
}  # fmt: skip


def assert_as_near(truths, plains, gots):
    """Errors over several runs together: at most twice those of float32 NumPy, but for the last bits."""
    for name in truths[0]:
        truth, plain, got = (np.concatenate([r[name].ravel() for r in runs]) for runs in (truths, plains, gots))
        finite = np.isfinite(plain)
        assert np.array_equal(np.isnan(plain), np.isnan(got)) and np.array_equal(plain[~finite], got[~finite], True)
        own, theirs = (np.linalg.norm((a - truth)[finite]) for a in (got, plain))
        assert own <= 2 * theirs + 2.0**-22 * np.linalg.norm(truth[finite]), (name, own, theirs)


@pytest.mark.parametrize("name", CASES)
def test_fifty_steps_are_as_near_to_float64_as_numpy_s_are(gpu, monkeypatch, name):
    case = CASES[name]
    force(monkeypatch, case)
    if case.shared:
        monkeypatch.setattr(gpu, "shared_bytes", case.shared, raising=False)
    launched = launches_of(gpu)
    truths, plains, gots = [], [], []
    for seed in range(3):
        truths.append(by_numpy(case, "float64", seed))
        plains.append(by_numpy(case, "float32", seed))
        gots.append(by_kernel(case, seed))
    assert len(gots[0]["losses"]) >= 50
    first = fit_program.FitProgram.first_stretch // -(-case.samples // case.batch)  # epochs, then all others at once
    launches = case.epochs if case.rates else 1 + (case.epochs > first)
    assert launched.count(("fit", case.group)) == len(launched) == 3 * launches
    assert_as_near(truths, plains, gots)


def test_what_is_not_a_number_in_the_data_is_none_where_numpy_has_none(gpu, monkeypatch):
    case = Case(
        lambda: [Dense(5, "relu"), Dense(6, "tanh", kernel_regularizer="l1"), Dense(17)], samples=9, batch=4, epochs=1,
        metrics=("mae",), group=3, threads=32,
    )  # fmt: skip
    force(monkeypatch, case)
    data = Case.data
    for place, value in (((0, 1), np.nan), ((8, 0), np.inf), ((3, 2), -np.inf)):

        def poisoned(self, seed, place=place, value=value):
            x, y, weights = data(self, seed)
            x[place] = value
            return x, y, weights

        monkeypatch.setattr(Case, "data", poisoned)
        for epochs in (1, 2):
            with pytest.warns(UserWarning, match="NaN or Inf"), np.errstate(all="ignore"):
                expected, got = by_numpy(case, "float32", epochs=epochs), by_kernel(case, epochs=epochs)
            for name, value_there in expected.items():
                assert np.array_equal(np.isnan(got[name]), np.isnan(value_there)), (name, place)
                assert np.array_equal(np.isinf(got[name]), np.isinf(value_there)), (name, place)


# ---- the same bits ---------------------------------------------------------------------------------------------------

COMMON = Case(
    lambda: [
        Dense(5, "tanh", kernel_regularizer=BOTH), Dense(6, "gelu"), Dense(20, "sigmoid", bias_regularizer="l2"),
    ], samples=9, batch=4, group=1, threads=32, weighted=True, metrics=("mae",), weighted_metrics=("mse",),
)  # fmt: skip
PLANS = [
    (1, 32, 4, "tags"), (1, 96, 2, "tags"), (2, 64, 4, "tags"), (2, 32, 2, "barrier"), (3, 32, 2, "tags"),
    (3, 96, 4, "barrier"), (5, 32, 4, "tags"), (5, 64, 2, "barrier"),
]  # fmt: skip


@pytest.mark.parametrize(("group", "threads", "most", "exchange"), PLANS)
def test_no_bit_depends_on_the_plan_or_on_the_launches(gpu, monkeypatch, group, threads, most, exchange):
    force(monkeypatch, COMMON)
    plain, shuffled = by_kernel(COMMON, epochs=4), by_kernel(COMMON, epochs=4, shuffle=True)
    assert not np.array_equal(plain["weights"], shuffled["weights"])
    case = replace(COMMON, group=group, threads=threads, most=most, exchange=exchange)
    force(monkeypatch, case)
    launched = launches_of(gpu)
    for seed in range(3):
        gpu.seed = seed  # of the host's schedules
        assert_same_bits([plain, by_kernel(case, epochs=4)])
    assert_same_bits([shuffled, by_kernel(case, epochs=4, shuffle=True)])
    assert launched == [("fit", group)] * 4  # of four epochs each
    for capacity in (1, 2):  # steps in a launch
        monkeypatch.setattr(fit_program, "CAPACITY", capacity)
        launched.clear()
        assert_same_bits([plain, by_kernel(case, epochs=4)])
        assert launched == [("fit", group)] * (12 // capacity)
    monkeypatch.setattr(fit_program, "LOG_BYTES", 1)  # no room for the logs of more than one
    launched.clear()
    assert_same_bits([plain, by_kernel(case, epochs=4)])
    assert len(launched) == 12


@pytest.mark.parametrize("exchange", ["tags", "barrier"])
def test_no_bit_depends_on_how_often_training_stops_and_goes_on(gpu, monkeypatch, exchange):
    case = replace(COMMON, group=3 if exchange == "tags" else 2, exchange=exchange)
    force(monkeypatch, case)
    once = by_kernel(case, epochs=4)
    model = case.build("cuda")
    x, y, weights = case.data(0)
    for epochs in (1, 2, 1):
        found = train(case, model, epochs=epochs)
        model.evaluate(x, y, sample_weight=weights, verbose=0)
        model.predict(x, verbose=0)
    assert_same_bits([{name: once[name] for name in ("weights", "m", "v")}, {**found, **state(model)}])


@pytest.mark.parametrize(("exchange", "shared"), [("tags", 1352), ("barrier", 1380)])
def test_inputs_that_are_collected_again_change_no_bit(gpu, monkeypatch, exchange, shared):
    force(monkeypatch, replace(TINY, group=1))
    once = by_kernel(TINY)
    small = replace(TINY, exchange=exchange, shared=shared)
    force(monkeypatch, small)
    monkeypatch.setattr(gpu, "shared_bytes", small.shared, raising=False)
    assert_same_bits([once, by_kernel(small)])


# The smallest that has everything: a batch of one sample, inputs that are collected again, a layer of fewer columns
# than blocks, a wide last one. In 1380 bytes of shared memory the next batch has a place, in 1352 it has none.
TINY = Case(
    lambda: [Dense(3, "tanh"), Dense(2, "gelu"), Dense(17)], features=1, samples=5, batch=2, epochs=1, group=3,
    threads=32,
)  # fmt: skip


@pytest.mark.parametrize(("exchange", "shared", "ahead"), [("tags", 1380, 1), ("barrier", 1352, 0)])
def test_a_thousand_schedules_give_the_same_bits(as_gpu, monkeypatch, exchange, shared, ahead):
    runtime = as_gpu(HostRuntime())
    runtime.shared_bytes = shared
    case = replace(TINY, exchange=exchange)
    force(monkeypatch, case)
    model = case.build("cuda")
    train(case, model)  # so that there are tags of earlier launches
    (launch,) = model._runner.last._last.launcher.launches
    assert "1" in launch.plan.defines["RELOADS"] and launch.plan.defines["AHEAD"] == ahead
    arrays = [model._runner.weights.params, *model.optimizer._state.slots.values(), launch.packets, launch.arrivals]
    before = [np.array(a) for a in arrays]
    counts = launch.number, launch.awaited
    runs = []
    for seed in range(1000):
        runtime.seed = seed
        for array, values in zip(arrays, before, strict=True):
            array[...] = values
        launch.number, launch.awaited = counts
        model.optimizer._steps = 3
        runs.append(train(case, model))
    assert_same_bits(runs)


def test_a_block_that_falls_behind_finds_what_it_needs(as_gpu, monkeypatch):
    """Also where the widest layer is the last, which is not exchanged: nobody would wait for a block of no columns."""
    case = Case(lambda: [Dense(3, "tanh"), Dense(16)], samples=20, batch=2, epochs=1, threads=32)
    runtime = as_gpu(HostRuntime())
    groups = fit_plan._groups
    force(monkeypatch, case)
    monkeypatch.setattr(fit_plan, "_groups", lambda problem, most: groups(problem, most)[-1:])
    runs = []
    for seed in range(20):
        runtime.seed = seed
        runs.append(by_kernel(case))
    assert_same_bits(runs)


# ---- ensembles -------------------------------------------------------------------------------------------------------


def member(rate=lambda k: 0.01, l2=lambda k: 0.01, beta=lambda k: 0.9, **how):
    """Return how member k is built, and the case that it is a variation of."""
    case = replace(COMMON, metrics=("mae",), weighted_metrics=(), weighted=False, **how)

    def build(k):
        stack = [Dense(5, "tanh", kernel_regularizer=regularizers.L1L2(l2=l2(k))), Dense(6, "gelu"), Dense(20)]
        model = models.Sequential([layers.Input((3,)), *stack])
        model.compile(optimizers.Adam(rate(k), beta_1=beta(k)), "mse", metrics=list(case.metrics), device="cuda")
        return model

    return build, case


def alone(build, seed, fit):
    set_random_seed(seed)
    model = build(seed)
    x, y, how = fit(model)
    model.fit(x, y, batch_size=4, verbose=0, **how)
    return state(model), model.history.history


@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_members_in_one_launch_are_the_models_alone(gpu, monkeypatch, shuffle, bootstrap):
    rates = (0.01, schedules.ExponentialDecay(0.03, 2, 0.9), 0.002)
    build, case = member(rate=lambda k: rates[k], group=2, exchange="barrier")
    force(monkeypatch, case)
    x, y, _ = case.data(0)
    together = Ensemble(build, 3)
    launched = launches_of(gpu)
    together.fit(x, y, batch_size=4, epochs=3, verbose=0, shuffle=shuffle, bootstrap=bootstrap)
    assert launched == [("fit", 6)] and "3 models at once" in together.program
    force(monkeypatch, replace(case, group=3, exchange="tags"))  # another plan than the ensemble's
    for k, trained in enumerate(together.members):

        def fit(model):
            rows = random.generator().integers(9, size=9) if bootstrap else slice(None)
            return x[rows], y[rows], {"epochs": 3, "shuffle": shuffle}

        found, history = alone(build, k, fit)
        assert_same_bits([state(trained), found])
        assert trained.history.history == history


def test_the_others_go_on_in_one_launch_where_a_member_has_stopped(gpu, monkeypatch):
    build, case = member(group=2, exchange="barrier")
    force(monkeypatch, case)
    x, y, _ = case.data(0)
    how = {"epochs": 4, "validation_data": (x[:5], y[:5])}

    def stop(k):
        return EarlyStopping(min_delta=10.0 if k == 1 else 0.0, patience=1 + k, restore_best_weights=True)

    together = Ensemble(build, 3)
    launched = launches_of(gpu)
    together.fit(x, y, batch_size=4, verbose=0, callbacks=stop, **how)
    assert [len(each.history.epoch) for each in together.members] == [4, 3, 4]
    assert [each for each in launched if each[0] == "fit"] == [("fit", 6)] * 3 + [("fit", 4)]
    for k, trained in enumerate(together.members):
        found, history = alone(build, k, lambda model, k=k: (x, y, {"callbacks": [stop(k)], **how}))
        assert_same_bits([state(trained), found])
        assert trained.history.history == history


@pytest.mark.parametrize(
    "how",
    [{"l2": lambda k: 0.1 * k}, {"beta": lambda k: 0.5 + 0.1 * k}],
    ids=["penalties", "constants of the optimizer"],
)
def test_members_that_differ_in_what_a_launch_has_once(gpu, monkeypatch, how):
    build, case = member(**how)
    force(monkeypatch, case)
    x, y, _ = case.data(0)
    together = Ensemble(build, 3)
    launched = launches_of(gpu)
    together.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert launched == [("fit", 1)] * 3
    for k, trained in enumerate(together.members):
        found, history = alone(build, k, lambda model: (x, y, {"epochs": 2}))
        assert_same_bits([state(trained), found])
        assert trained.history.history == history


def test_an_ensemble_s_plan_is_chosen_for_all_of_its_members(gpu, monkeypatch):
    build, case = member()
    monkeypatch.setenv("GPUMLP_FIT", "tags")
    x, y, _ = case.data(0)
    together = Ensemble(build, 5)
    launched = launches_of(gpu)
    for _ in range(2):  # what it is compiled for, it has
        together.fit(x, y, batch_size=4, epochs=2, verbose=0, sample_weight=np.ones(9))
    assert len(launched) == 2 and set(launched) == {
        ("fit", 5 * together.members[0]._runner.last._last.launcher.plan.group)
    }
    model = together.members[2]
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)  # and goes on alone
    assert model.optimizer.iterations == 15 and together.members[1].optimizer.iterations == 12


def driver_calls(runtime):
    """Return a list to which every call that goes to the device, or waits for it, is added from now on."""
    calls = []

    def noting(name):
        call = getattr(runtime, name)

        def note(*arguments, **how):
            calls.append(name)
            return call(*arguments, **how)

        return note

    for name in ("upload", "launch", "download", "empty", "synchronize"):
        setattr(runtime, name, noting(name))
    return calls


@pytest.mark.parametrize("shuffle", [False, True])
def test_launches_are_queued_and_nothing_is_done_for_each_member(as_gpu, monkeypatch, shuffle):
    """An epoch of however many members: what they are told, their launches, and one wait for what they have logged."""
    build, case = member(group=3)  # of which two have room at once
    force(monkeypatch, case)
    x, y, _ = case.data(0)
    for members, launches in ((2, 1), (6, 3), (7, 4)):
        runtime = as_gpu(HostRuntime())
        together = Ensemble(build, members)
        together.fit(x, y, batch_size=4, verbose=0, shuffle=shuffle)  # what is allocated, is
        calls = driver_calls(runtime)
        together.fit(x, y, batch_size=4, epochs=2, initial_epoch=1, verbose=0, shuffle=shuffle)
        data, orders = ["empty", "upload"] * 2, ["upload"] * shuffle  # x and y; and the order of each, all as one
        logs = ["download"] * 2  # the penalties' apart
        assert calls == [*data, *orders, "upload", *["launch"] * launches, *logs]


def test_one_plan_is_looked_for_however_many_launches_there_are(as_gpu, monkeypatch):
    build, case = member(group=3)
    force(monkeypatch, case)
    runtime, best, asked = as_gpu(HostRuntime()), fit_plan.best_plan, []
    monkeypatch.setattr(fit_plan, "best_plan", lambda *how: asked.append(how[-1]) or best(*how))
    launched = launches_of(runtime)
    x, y, _ = case.data(0)
    together = Ensemble(build, 7)
    together.fit(x, y, batch_size=4, verbose=0)
    assert launched == [("fit", 6)] * 3 + [("fit", 3)] and asked == [7, 1]  # the last, alone, may have another
    for k, trained in enumerate(together.members):
        found, history = alone(build, k, lambda model: (x, y, {}))
        assert_same_bits([state(trained), found])
        assert trained.history.history == history
