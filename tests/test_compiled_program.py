"""Whole models through the Program of compiled steps: against NumPy over whole runs, with one thread and several."""

import copy
import os
import pickle
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from compiled import build, data, flat, hold

from gpumlp import Ensemble, activations, callbacks, layers, losses, metrics, optimizers
from gpumlp.backends import team
from gpumlp.engine import compiled_program

# ---- whole runs ------------------------------------------------------------------------------------------------------

EVERY_ACTIVATION = [*dict.fromkeys(activations.KNOWN.values()), activations.gelu.given(approximate=True)]
RATES = {"log_softmax": 0.001, "exponential": 0.001}  # what grows without bounds diverges at others', in float64 too
EVERY_OPTIMIZER = [
    lambda: optimizers.Adam(0.01),
    lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    lambda: optimizers.SGD(0.05, weight_decay=0.01),
    lambda: optimizers.SGD(0.05, momentum=0.9),
    lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    lambda: optimizers.RMSprop(0.005),
    lambda: optimizers.RMSprop(0.005, momentum=0.5),
    lambda: optimizers.RMSprop(0.005, centered=True),
    lambda: optimizers.RMSprop(0.005, momentum=0.5, centered=True),
    lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)),
]


@pytest.mark.parametrize("activation", EVERY_ACTIVATION, ids=lambda a: f"{a.name}{a.get_config()}")
@pytest.mark.parametrize("apart", [False, True], ids=["within", "a layer of its own"])
def test_every_activation_over_a_run(kernels, activation, apart):
    def make(dtype):
        own = [layers.Dense(21), layers.Activation(activation)] if apart else [layers.Dense(21, activation)]
        optimizer = optimizers.SGD(RATES.get(activation.name, 0.02))
        return build([*own, layers.Dense(17, activation), layers.Dense(2)], optimizer, dtype=dtype)

    x, y = data()
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=25, epochs=17, verbose=0, validation_data=(x[::2], y[::2])))


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=lambda make: str(make().get_config()))
def test_every_optimizer_over_a_run(kernels, optimizer):
    x, y = data()

    def make(dtype):
        stack = [layers.Dense(19, "tanh"), layers.Dense(33, "tanh"), layers.Dense(2, use_bias=False)]
        return build(stack, optimizer(), dtype=dtype)

    hold(kernels, make, lambda m: m.fit(x, y, batch_size=25, epochs=17, verbose=0))


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        ("mse", None),
        ("mae", None),
        (losses.Huber(0.3), None),
        ("binary_crossentropy", "sigmoid"),
        (losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), None),
        ("categorical_crossentropy", "softmax"),
        (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), None),
        ("sparse_categorical_crossentropy", "softmax"),
        (losses.SparseCategoricalCrossentropy(from_logits=True), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss_and_metric_over_a_run(kernels, loss, last, weighted):
    rng = np.random.default_rng(2)
    x, classes = rng.standard_normal((70, 3)).astype(np.float32), rng.integers(0, 4, 70)
    sparse = losses.described(loss).sparse
    y = classes if sparse else np.eye(4)[classes]
    weight = rng.uniform(0.5, 2, 70) if weighted else None

    def make(dtype):
        names = ["accuracy"] if sparse else ["accuracy", "mae", "mse"]
        stack = [layers.Dense(16, "tanh"), layers.Dense(4, last)]
        return build(stack, optimizers.SGD(0.05), loss, dtype, metrics=names, weighted_metrics=["acc"])

    more = {"sample_weight": weight, "validation_data": (x[:41], y[:41])}
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=32, epochs=5, verbose=0, **more))


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_several_sums_over_a_run(kernels, weighted):
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((70, 3)).astype(np.float32), np.eye(4)[rng.integers(0, 4, 70)]

    def several(prefix):
        return [
            metrics.Precision([0.1, 0.25, 0.4], name=f"{prefix}precision"), metrics.TopKCategoricalAccuracy(2, prefix),
            metrics.TruePositives([0.2, 0.3], f"{prefix}true"), metrics.Recall(0.2, class_id=1, name=f"{prefix}recall"),
            metrics.FalseNegatives(name=f"{prefix}false"),
        ]  # fmt: skip

    def make(dtype):
        stack = [layers.Dense(16, "tanh", kernel_regularizer="l2"), layers.Dense(4, "softmax")]
        more = {"metrics": ["mae", *several("a")], "weighted_metrics": [*several("b"), "mse"]}
        return build(stack, optimizers.SGD(0.05), "categorical_crossentropy", dtype, **more)

    more = {"sample_weight": rng.uniform(0.5, 2, 70)} if weighted else {}
    more["validation_data"] = (x[:41], y[:41])
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=32, epochs=5, verbose=0, **more))


def middle(y_true, y_pred):
    return np.median(np.abs(y_true - y_pred), axis=-1)


class Sees(metrics.Metric):
    """A digest of batches as they come, which are the metric's own: it changes them."""

    def __init__(self):
        super().__init__(name="sees")
        self.seen = self.add_variable((), "zeros", "float64")

    def update_state(self, y_true, y_pred, sample_weight=None):
        w = 1.0 if sample_weight is None else sample_weight[:, None]
        places = np.arange(1.0, len(y_true) + 1)[:, None] * len(y_true)
        self.seen.assign(0.9 * self.seen.value + np.sum(places * y_pred * (1.0 + y_true) * w, dtype=np.float64))
        for own in (y_true, y_pred, sample_weight):
            if own is not None:
                own[...] = np.nan

    def result(self):
        return float(self.seen)


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_the_host_over_a_run(kernels, weighted):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((70, 3)).astype(np.float32), (rng.uniform(size=(70, 2)) < 0.4).astype(np.float32)

    def make(dtype):
        stack = [layers.Dense(16, "tanh"), layers.Dropout(0.2, seed=3), layers.Dense(2, "sigmoid")]
        asked = ["mae", metrics.AUC(name="area"), metrics.Precision(name="p"), middle]
        more = {"metrics": asked, "weighted_metrics": [metrics.AUC(name="weighted"), "mse", Sees()]}
        return build(stack, optimizers.SGD(0.05), "binary_crossentropy", dtype, **more)

    before = x.copy(), y.copy()
    more = {"sample_weight": rng.uniform(0.5, 2, 70)} if weighted else {}
    more["validation_data"] = (x[:41], y[:41])
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=32, epochs=5, verbose=0, **more))
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1])


@pytest.mark.parametrize("shuffle", [False, True])
def test_metrics_of_the_host_change_no_bit_of_what_is_trained(kernels, monkeypatch, shuffle):
    x, y = data(157)
    found = []
    for asked, pieces in (([], 7), (["mae", middle, Sees()], 10**6), (["mae", middle, Sees()], 3), ([Sees()], 1)):
        kernels("numba", 2)
        monkeypatch.setattr(compiled_program.Pace, "_per_step", lambda self, threads, pieces=pieces: 0.1 / pieces)
        model = build(metrics=asked)
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, shuffle=shuffle).history
        reason = "sees (Sees) is computed from each batch's outputs"
        assert model.program.startswith("compiled") and (reason in model.program) == bool(asked)
        found.append((flat(model), history["loss"], history.get("sees"), history.get("middle")))
    for weights, loss, sees, _ in found:
        assert np.array_equal(weights, found[0][0]) and loss == found[0][1] and sees in (None, found[1][2])
    assert found[1][3] == found[2][3]
    model.compile("adam", "mse")
    model.evaluate(x, y, verbose=0)
    assert "by the host" not in model.program


def test_members_of_an_ensemble_have_metrics_of_the_host(kernels):
    x, y = data(50)
    kernels("numba", 2)

    asked = [Sees(), "mae", metrics.TruePositives([0.1, 0.2], "t")]

    def member(seed):
        model = build(metrics=asked)
        model.set_weights([np.random.default_rng(seed).normal(size=w.shape) for w in model.get_weights()])
        return model

    seeds = iter((1, 2, 3))
    together = Ensemble(lambda: member(next(seeds)), 3)
    histories = together.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    for seed, history in zip((1, 2, 3), histories, strict=True):
        alone = member(seed).fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        for name, values in alone.history.items():
            np.testing.assert_array_equal(history.history[name], values)


def test_dropout_rescaling_regularizers_and_a_frozen_layer_over_a_run(kernels):
    def make(dtype):
        stack = [
            layers.Rescaling(0.5, 0.1), layers.Dense(31, "leaky_relu", kernel_regularizer="l2"),
            layers.Dropout(0.3, seed=(1 << 63) + 5), layers.Dense(40, "relu", trainable=False, kernel_regularizer="l1"),
            layers.Dropout(0.0), layers.Rescaling(2.0), layers.Dense(9, "relu", bias_regularizer="l1_l2"),
            layers.Activation("softmax"), layers.Dense(2, "linear", kernel_regularizer="l1_l2"),
        ]  # fmt: skip
        return build(stack, optimizers.SGD(0.02), dtype=dtype)

    x, y = data()
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=20, epochs=6, verbose=0, validation_data=(x[::2], y[::2])))


@pytest.mark.parametrize(
    "shape", [(1, 256, 256, 1), (7, 1, 5), (300, 600, 33, 10), (3, 1100, 2), (64, 4, 64, 5)], ids=str
)
@pytest.mark.parametrize("batch", [1, 20, 33])
def test_awkward_shapes_over_a_run(kernels, shape, batch):
    def make(dtype):
        stack = [layers.Dense(n, "tanh") for n in shape[1:-1]]
        return build([*stack, layers.Dense(shape[-1])], optimizers.SGD(0.01), dtype=dtype, features=shape[0])

    x, y = data(3 * batch + batch // 2, shape[0], shape[-1])
    hold(kernels, make, lambda m: m.fit(x, y, batch_size=batch, epochs=3, verbose=0), threads=3)


def test_batches_larger_than_what_is_summed_at_a_time(kernels):
    x, y = data(2500, 5, 3)

    def make(dtype):
        return build([layers.Dense(20, "tanh"), layers.Dense(3)], optimizers.SGD(0.1), dtype=dtype, features=5)

    hold(kernels, make, lambda m: m.fit(x, y, batch_size=2300, epochs=3, verbose=0))


# ---- the same bits ---------------------------------------------------------------------------------------------------


def runs_of(kernels, make, fit, teams=(1, 2, 3, 5)):
    found = []
    for threads in teams:
        kernels("numba", threads)
        model = make()
        logs = fit(model).history
        found.append((flat(model), model.predict(data(9)[0], verbose=0), logs))
    return found


def test_any_number_of_threads_gives_the_same_bits(kernels, instructions):
    def make():
        stack = [
            layers.Dense(70, "relu", kernel_regularizer="l2"), layers.Dropout(0.2, seed=1), layers.Dense(65, "relu"),
            layers.Dense(40, "gelu"), layers.Dense(2),
        ]  # fmt: skip
        return build(stack, metrics=["mae"])

    x, y = data()
    found = runs_of(kernels, make, lambda m: m.fit(x, y, batch_size=23, epochs=9, verbose=0, validation_split=0.2))
    for weights, predictions, logs in found[1:]:
        assert np.array_equal(weights, found[0][0]) and np.array_equal(predictions, found[0][1]) and logs == found[0][2]


def test_how_steps_are_cut_into_calls_changes_no_bit(kernels, monkeypatch):
    x, y = data()
    found = []
    for pieces, per_batch in ((1, False), (7, False), (10**6, False), (4, True)):
        kernels("numba", 2)
        monkeypatch.setattr(compiled_program.Pace, "_per_step", lambda self, threads, pieces=pieces: 0.1 / pieces)
        model = build(metrics=["mae"], optimizer=optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)))
        hook = callbacks.LambdaCallback(on_train_batch_end=(lambda batch, logs: None) if per_batch else None)
        history = model.fit(x, y, batch_size=3, epochs=4, verbose=0, callbacks=hook).history
        found.append((flat(model), history))
    assert all(np.array_equal(weights, found[0][0]) and logs == found[0][1] for weights, logs in found[1:])


def test_trials_of_other_numbers_of_threads_change_no_bit(kernels, monkeypatch):
    x, y = data(400)
    found = []
    tried = compiled_program.Pace._next
    for retry in (1, 3, None):
        kernels("numba", 4)
        if retry is not None:
            monkeypatch.setattr(compiled_program.Pace, "_next", tried)
            monkeypatch.setattr(compiled_program, "RETRY", retry)
            monkeypatch.setattr(compiled_program, "TRIAL", 1e-4)
            monkeypatch.setattr(compiled_program, "PIECE", 1e-3)
        model = build()
        model.fit(x, y, batch_size=8, epochs=3, verbose=0)
        found.append(flat(model))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


class Clock:
    """Steps take what ``costs`` says of each number of threads, in seconds; the first piece of others, three times."""

    def __init__(self, monkeypatch, **costs):
        self.now, self.before, self.costs = 0.0, 0, {int(name[1:]): seconds for name, seconds in costs.items()}
        monkeypatch.setattr(compiled_program, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def spend(self, pace, seconds):
        """Return how long each number of threads ran, in so many seconds of steps of one thread."""
        spent = dict.fromkeys(self.costs, 0.0)
        for start, stop, threads in pace.pieces(0, int(seconds / self.costs[1])):
            took = (stop - start) * self.costs[threads] * (1 if threads == self.before else 3)
            self.now, self.before = self.now + took, threads
            spent[threads] += took
        return spent


def test_a_second_thread_must_be_worth_its_time(monkeypatch):
    for cost, best in ((0.7e-4, 2), (0.85e-4, 1), (2e-4, 1)):
        pace = compiled_program.Pace(2, 1e-4, heavy=False)
        clock = Clock(monkeypatch, n1=1e-4, n2=cost)
        first, later = clock.spend(pace, 0.95 * compiled_program.ALONE), clock.spend(pace, 20.0)
        assert first[2] == 0.0  # a short job has no trials
        assert later[3 - best] < (0.6 if best == 2 else 0.03 * sum(later.values()))
        assert pace.threads == best


def test_heavy_steps_begin_with_all_threads(monkeypatch):
    pace, clock = compiled_program.Pace(2, 1e-2, heavy=True), Clock(monkeypatch, n1=0.16, n2=0.08)
    assert clock.spend(pace, 6.0)[1] == 0.0  # a trial of one thread may cost a fraction of what has been done
    assert 0.0 < clock.spend(pace, 60.0)[1] < 0.05 * clock.now


def test_four_threads_are_found_behind_two_that_are_not_worth_it(monkeypatch):
    pace = compiled_program.Pace(4, 1e-3, heavy=True)
    assert Clock(monkeypatch, n1=1e-3, n2=0.85e-3, n4=0.6e-3).spend(pace, 10.0)[4] > 4.0


def test_threads_that_have_become_slow_are_left_and_found_again(monkeypatch):
    pace, clock = compiled_program.Pace(2, 1e-4, heavy=True), Clock(monkeypatch, n1=1e-4, n2=0.6e-4)
    clock.spend(pace, 2.0)
    for cost, best in ((1.5e-4, 1), (0.5e-4, 2)):
        clock.costs[2] = cost
        clock.spend(pace, 6.0)
        assert pace.threads == best


def test_a_moment_of_somebody_else_s_work_is_soon_forgotten(monkeypatch):
    pace, clock = compiled_program.Pace(2, 1e-4, heavy=True), Clock(monkeypatch, n1=1e-4, n2=0.6e-4)
    clock.spend(pace, 10.0)
    clock.costs[2] = 3e-4
    clock.spend(pace, 0.4)
    assert pace.threads == 1
    clock.costs[2] = 0.6e-4
    assert clock.spend(pace, 1.5)[1] < 0.5
    clock.costs[2] = 3e-4  # and where it lasts, trials become rare
    clock.spend(pace, 5.0)
    assert clock.spend(pace, 20.0)[2] < 0.5


def test_steps_that_weigh_something_are_shared_at_once(kernels):
    for widths, batch, heavy in (((46, 46), 128, False), ((64, 64), 64, False), ((256, 256, 256, 256), 100, True)):
        kernels("numba", 2)
        x, y = data(batch)
        model = build([*(layers.Dense(n, "relu") for n in widths), layers.Dense(2)])
        model.fit(x, y, batch_size=batch, verbose=0)
        pace = model._runner.last._pace
        assert (pace._first, pace._alone) == ((2, 0.0) if heavy else (1, compiled_program.ALONE))


# ---- NaN and Inf, denormals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["x", "y", "weights"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.filterwarnings("ignore:.*NaN or Inf")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_inf_spread_as_they_do_in_numpy(kernels, where, threads):
    x, y = data(40)
    found = []
    for name in ("numpy", "numba"):
        kernels(name, threads)
        model = build([layers.Dense(60, "relu"), layers.Dense(60, "relu"), layers.Dense(2)], optimizers.SGD(0.1))
        weights = model.get_weights()
        weights[0][:, ::2], weights[1][::2] = 0.0, -1.0  # dead units, of which products would be left out
        bad_x, bad_y = x.copy(), y.copy()
        if where == "weights":
            weights[2][0, 5], weights[2][7, 8] = np.nan, np.inf
        model.set_weights(weights)
        (bad_x if where == "x" else bad_y)[11, 0] = np.inf if where != "weights" else 0.0
        logs = [model.predict(bad_x, verbose=0)]
        for _ in range(3):
            logs.append(model.train_on_batch(bad_x, bad_y))
            logs += model.get_weights()
        found.append([np.isnan(a) * 1 + np.isposinf(a) * 2 + np.isneginf(a) * 4 for a in map(np.asarray, logs)])
    for numpy, compiled in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, numpy)
    assert any(a.any() for a in found[0])


def test_denormal_numbers_are_flushed_in_the_kernels_and_nowhere_else(kernels):
    kernels("numba")
    tiny = np.float32(1e-40)
    model = build([layers.Rescaling(1.0)], optimizers.SGD(0.1))
    x = np.full((4, 3), tiny, np.float32)
    assert (model.predict(x, verbose=0) == 0).all()
    assert tiny * np.float32(0.5) > 0  # the modes of this thread are as they were


def test_nan_in_the_weights_is_seen_by_a_table_for_other_metrics(kernels):
    kernels("numba")
    x, y = data()
    model = build([layers.Dense(160, "relu"), layers.Dense(160, "relu"), layers.Dense(2)], metrics=["mae"])
    weights = model.get_weights()
    weights[0][:, 5], weights[1][5], weights[2][5, 7] = (
        0.0,
        -1.0,
        np.nan,
    )  # a dead unit, whose products would be left out
    model.set_weights(weights)
    assert np.isnan(model.predict(x, verbose=0)).any()  # no metrics
    assert np.isnan(model.evaluate(x, y, verbose=0)).all()


def test_metrics_of_class_numbers_are_numpy_s(kernels):
    x, _ = data()
    found = []
    for name in ("numpy", "numba"):
        kernels(name)
        asked = ["mae", "mse", "binary_accuracy"]
        model = build([layers.Dense(5, "softmax")], loss="sparse_categorical_crossentropy", metrics=asked)
        found.append(model.evaluate(x, np.arange(len(x)) % 5, verbose=0))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_copies_of_a_model_train_as_it_does(kernels):
    x, y = data()
    for name in ("numpy", "numba"):
        kernels(name, 2)
        model = build()
        model.fit(x, y, verbose=0, shuffle=False)
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for each in (model, *copies):
            each.fit(x, y, epochs=2, verbose=0, shuffle=False)
        for each in copies:
            assert np.array_equal(flat(each), flat(model))
            assert np.array_equal(each.predict(x, verbose=0), model.predict(x, verbose=0))


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_that_is_none_is_an_error(monkeypatch, value):
    monkeypatch.setenv("GPUMLP_THREADS", value)
    with pytest.raises(ValueError, match="GPUMLP_THREADS"):
        team.processors()


def test_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("GPUMLP_THREADS", "3")
    assert team.processors() == 3
    monkeypatch.delenv("GPUMLP_THREADS")
    assert 1 <= team.processors() <= (os.cpu_count() or 1)


def test_an_interrupt_waits_for_the_job_and_leaves_the_team_ready():
    crew = team.Team(2)
    began, go, calls = threading.Event(), threading.Event(), []

    def job(address, thread):
        began.set()
        go.wait(600)
        calls.append(thread)
        return 0

    def press():
        began.wait(600)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.2, go.set).start()

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        crew.run(job, 0, 2)
    assert sorted(calls) == [0, 1]
    crew.run(job, 0, 2)
    assert sorted(calls) == [0, 0, 1, 1]


def test_what_a_thread_raises_reaches_the_caller():
    crew = team.Team(2)

    def job(address, thread):
        if thread == address:
            raise ValueError(f"thread {thread}")
        return 0

    for thread in (0, 1):
        with pytest.raises(ValueError, match=f"thread {thread}"):
            crew.run(job, thread, 2)
    crew.run(job, 2, 2)


def test_a_thread_that_cannot_be_started_is_told_and_tried_again(monkeypatch):
    crew, start, left = team.Team(3), threading.Thread.start, [1]

    def some(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start"):
        patch.setattr(threading.Thread, "start", some)
        crew.run(lambda address, thread: 0, 0, 3)
    calls = []
    crew.run(lambda address, thread: calls.append(thread), 0, 3)
    assert sorted(calls) == [0, 1, 2]


def test_steps_of_another_kind_say_nothing_of_training(kernels, monkeypatch):
    """By a clock of our own two threads are faster; the short steps of validation, by one, must not hide that."""
    kernels("numba", 2, always=False)
    clock, steps, call = SimpleNamespace(now=0.0), {1: 0, 2: 0}, compiled_program.CompiledProgram._call
    clock.perf_counter = lambda: clock.now

    def timed(self, threads):
        count, training = self._job.get("LAST") - self._job.get("FIRST"), self._job.get("PHASES") & 4
        steps[threads] += count if training else 0
        clock.now += count * (2e-3 if training else 3e-4) / threads
        call(self, threads)

    monkeypatch.setattr(compiled_program, "time", clock)
    monkeypatch.setattr(compiled_program, "OPERATIONS_EACH", 1)
    monkeypatch.setattr(compiled_program, "ALONE", 0.0)
    monkeypatch.setattr(compiled_program.CompiledProgram, "_call", timed)
    x, y = data(160)
    build().fit(x, y, batch_size=16, epochs=150, verbose=0, validation_data=(x[:16], y[:16]))
    assert steps[2] > 3 * steps[1]


def test_one_model_predicts_for_several_python_threads(kernels):
    kernels("numba", 2)
    model = build()
    batches = [data(n)[0] for n in (3, 9, 300, 700)]  # few, and last batches that are short
    alone, wrong = [model.predict(x, verbose=0) for x in batches], []

    def predict(i):
        for _ in range(30):
            if not np.array_equal(model.predict(batches[i], verbose=0), alone[i]):
                wrong.append(i)

    workers = [threading.Thread(target=predict, args=(i,)) for i in range(len(batches))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_models_trained_by_several_python_threads_do_not_disturb_each_other(kernels):
    kernels("numba", 2)
    x, y = data()
    alone = build()
    alone.fit(x, y, epochs=5, verbose=0)
    together = [build() for _ in range(4)]
    for model in together:
        model.set_weights(build().get_weights())
    workers = [
        threading.Thread(target=m.fit, args=(x, y), kwargs={"epochs": 5, "verbose": 0, "shuffle": False})
        for m in together
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(flat(together[0]), flat(other)) for other in together[1:])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_a_team_of_its_own(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    monkeypatch.setenv("GPUMLP_THREADS", "2")
    monkeypatch.setattr(compiled_program, "OPERATIONS_EACH", 1)
    team.team.cache_clear()
    x, y = data()
    model = build()
    model.fit(x, y, epochs=2, verbose=0)
    child = os.fork()
    if child == 0:
        signal.alarm(600)  # a child that waits for threads which it has not is ended
        other = build()
        other.fit(x, y, epochs=2, verbose=0)
        model.fit(x, y, epochs=2, verbose=0)  # the parent's, whose threads are not here
        other.fit(x, y, epochs=2, verbose=0)
        os._exit(0 if np.isfinite(flat(model)).all() and np.isfinite(flat(other)).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    team.team.cache_clear()
