"""Several epochs in one launch, where nobody looks at what is between them: to the bits of one epoch at a time."""

import signal
import threading
import warnings

import numpy as np
import pytest
from host.runtime import HostRuntime, broken
from whole_fit import launches_of, state

from gpumlp import Ensemble, Sequential, callbacks, constraints, errors, layers, metrics, optimizers, random
from gpumlp.engine import feed, fit_program, program
from gpumlp.engine.compiled_program import CompiledProgram
from gpumlp.errors import NonFiniteLossWarning
from gpumlp.training import loop, streams
from gpumlp.utils import set_random_seed

SAMPLES, BATCH = 23, 5  # so that an epoch's last batch is a shorter one
STEPS = 5  # of an epoch


@pytest.fixture(autouse=True)
def by_the_kernel(monkeypatch):
    """The kernel trains, by one block, and a stretch is not cut, however slow it is here."""
    monkeypatch.setenv("GPUMLP_FIT", "tags")
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)


def data(samples=SAMPLES):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((samples, 3)), rng.standard_normal((samples, 2))
    return x.astype(np.float32), y.astype(np.float32), rng.uniform(0.5, 2, samples)


def build(rate=0.01, device="cuda"):
    model = Sequential([layers.Input((3,)), layers.Dense(4, "relu", kernel_regularizer="l2"), layers.Dense(2)])
    model.compile(optimizers.Adam(rate), "mse", metrics=["mae"], weighted_metrics=["mse"], device=device)
    return model


class Looks(callbacks.Callback):
    """What looks at each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        pass


def fitted(rate=0.01, seed=0, device="cuda", **how):
    """Return all that a fit leaves."""
    set_random_seed(seed)
    model = build(rate() if callable(rate) else rate, device)
    x, y, weights = data()
    history = model.fit(x, y, sample_weight=weights, **{"batch_size": BATCH, "epochs": 9, "verbose": 0, **how})
    return {
        **state(model), "history": history.history, "epochs": history.epoch, "steps": model.optimizer.iterations,
        "drawn": random.randint(3, 0, 1 << 30).tolist(),
    }  # fmt: skip


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]) if isinstance(value, np.ndarray) else value == other[name], name


@pytest.mark.parametrize("capacity", [4096, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_epochs_in_one_launch_are_those_one_by_one(gpu, monkeypatch, shuffle, capacity):
    monkeypatch.setattr(fit_program, "CAPACITY", capacity)
    launched = launches_of(gpu)
    for rate in (0.01, lambda: optimizers.schedules.ExponentialDecay(0.02, 7, 0.9)):
        alone = fitted(rate, shuffle=shuffle, callbacks=Looks())
        assert alone["steps"] == 9 * STEPS and len(launched) == 9 * -(-STEPS // capacity)
        launched.clear()
        assert_same(fitted(rate, shuffle=shuffle, callbacks=callbacks.Callback()), alone)
        # 6 epochs in the 32 steps by which a step's time is found out, and then all others
        assert len(launched) == -(-6 * STEPS // capacity) + -(-3 * STEPS // capacity)
        launched.clear()


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning")  # on purpose
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("start += pass * m[0].samples;", ";"), ("(nth - pass * batches)", "nth"),
        ("(uint32)m[0].first + of_step", "of_step"),
        ("fetched = left < BATCH ? (int)left : BATCH;", "fetched = BATCH;"), ("rows = fetched;", "rows = BATCH;"),
    ],
)  # fmt: skip
def test_a_kernel_that_takes_other_rows_is_noticed(as_gpu, monkeypatch, old, new):
    monkeypatch.setattr(fit_program, "CAPACITY", 3)  # launches that begin within an epoch
    monkeypatch.setattr(errors, "_said", set())
    as_gpu(HostRuntime())
    alone = fitted(callbacks=Looks())
    runtime, found = broken(old, new)
    as_gpu(runtime)
    try:
        wrong = fitted()
    except UserWarning as said:  # it was stopped, and graphs would train
        assert "The whole-fit kernel can train this network and failed" in str(said)
    else:
        assert not np.array_equal(wrong["weights"], alone["weights"])
    assert found


class Own(optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01


@pytest.mark.parametrize(
    "how",
    [
        {"callbacks": Looks()}, {"callbacks": callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)},
        {"callbacks": callbacks.EarlyStopping("loss", patience=100)}, {"validation_split": 0.2}, {"rate": Own},
        {"rate": lambda: lambda: 0.01}, {"verbose": 2}, {"callbacks": type("Mine", (callbacks.History,), {})()},
    ],
    ids=["a look", "each batch", "stopping", "validation", "a schedule of one's own", "a function", "lines", "history"],
)  # fmt: skip
def test_who_looks_sees_each_epoch(gpu, capsys, how):
    launched = launches_of(gpu)
    fitted(**how)
    fits = [name for name, _ in launched if name == "fit"]
    assert len(fits) >= 9


def test_epochs_of_some_of_the_batches_come_one_by_one(gpu):
    launched = launches_of(gpu)
    with pytest.warns(UserWarning, match="The data ran out after 1 of 2 steps"):
        found = fitted(steps_per_epoch=2)
    assert found["steps"] == 9 // 3 * STEPS and len(launched) == 9


def test_a_second_fit_knows_how_long_a_step_takes(gpu):
    set_random_seed(0)
    model, (x, y, _), launched = build(), data(), launches_of(gpu)
    for launches in (2, 1):
        launched.clear()
        model.fit(x, y, batch_size=BATCH, epochs=9, verbose=0)
        assert len(launched) == launches


def test_what_is_known_to_be_brief_wakes_no_other_thread(gpu, monkeypatch):
    monkeypatch.setattr(loop, "BRIEF", 0.0)
    threads, launch = [], gpu.launch

    def note(*arguments, **how):
        threads.append(threading.current_thread() is threading.main_thread())
        launch(*arguments, **how)

    monkeypatch.setattr(gpu, "launch", note)
    for brief in (False, True):
        monkeypatch.setattr(loop.Pace, "is_brief", lambda self, steps, brief=brief: brief)
        threads.clear()
        fitted(epochs=2)
        assert threads == [brief]


def test_a_pace_goes_by_what_was_seen_and_before_that_by_what_is_expected(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.1)
    new, known = loop.Pace(32), loop.Pace(32, 1e-5)
    assert (new.most(False), new.is_brief(1)) == (32, False)
    assert (known.most(False), known.most(True)) == (10_000 // 32 * 32, 1)
    assert known.is_brief(1000) and not known.is_brief(3000)
    known.took(10, loop.time.perf_counter() - 1.0)
    assert known.most(False) == 1 and known.per_step >= 0.1


def test_orders_of_many_samples_do_not_pile_up(gpu, monkeypatch):
    monkeypatch.setattr(streams, "ORDER_BYTES", 2 * 8 * SAMPLES)
    launched = launches_of(gpu)
    found = fitted()
    assert len(launched) == 5
    assert_same(found, fitted(callbacks=Looks()))


def test_graphs_and_streams_take_the_epochs_one_by_one(as_gpu, monkeypatch):
    for how in ("tags", "graph"):
        monkeypatch.setenv("GPUMLP_FIT", how)
        as_gpu(HostRuntime())
        alone = fitted(callbacks=Looks())
        assert_same(fitted(), alone)
        with monkeypatch.context() as small:
            small.setattr(feed, "RESIDENT_SHARE", 0.0)
            small.setattr(feed, "STAGE_BYTES", 2 * BATCH * 4 * 6)
            runtime = as_gpu(HostRuntime())
            assert_same(fitted(), alone)
            assert runtime.copies


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("kernels", ["numba", "numpy"])
def test_programs_of_the_cpu_are_given_one_pass_at_a_time(monkeypatch, kernels, shuffle):
    monkeypatch.setenv("GPUMLP_KERNELS", kernels)
    kind = CompiledProgram if kernels == "numba" else program.LoopProgram
    given, run = [], kind.run_together.__func__

    def note(cls, programs, tasks):
        given.append([task[3:5] for task in tasks])
        return run(cls, programs, tasks)

    monkeypatch.setattr(kind, "run_together", classmethod(note))
    monkeypatch.setattr(loop.Pace, "most", lambda self, one_by_one: 2 * STEPS + 1)  # two whole epochs
    trained = []
    for looks in (None, Looks()):
        trained.append(fitted(device="cpu", shuffle=shuffle, callbacks=looks))
        assert given == [[(0, STEPS)]] * 9
        given.clear()
    assert_same(*trained)
    x, y, _ = data()
    together = Ensemble(lambda: build(device="cpu"), 2)
    histories = together.fit(x, y, batch_size=BATCH, epochs=4, verbose=0, shuffle=shuffle)
    assert given == [[(0, STEPS)] * 2] * 4
    for k, member in enumerate(together.members):
        set_random_seed(k)
        twin = build(device="cpu")
        history = twin.fit(x, y, batch_size=BATCH, epochs=4, verbose=0, shuffle=shuffle, callbacks=Looks()).history
        assert_same({**state(member), "history": histories[k].history}, {**state(twin), "history": history})


def test_metrics_that_the_host_computes_are_made_anew_by_the_caller_s_thread():
    threads = []

    class Largest(metrics.Metric):
        most = 0.0

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.most = max(self.most, float(np.abs(y_pred).max()))

        def result(self):
            return self.most

        def reset_state(self):
            self.most = 0.0
            threads.append(threading.current_thread())

    found = []
    for looks in (None, Looks()):
        set_random_seed(0)
        model, (x, y, _) = build(device="cpu"), data()
        model.compile("adam", "mse", metrics=[Largest(name="largest")], device="cpu")
        found.append(model.fit(x, y, batch_size=BATCH, epochs=6, verbose=0, callbacks=looks).history)
    assert found[0] == found[1] and len(threads) >= 12 and {*threads} == {threading.main_thread()}


def test_logs_are_put_together_with_what_the_host_computes_metrics_of():
    logs = program.StepLogs.zeros(3, [])
    logs.put(1, program.StepLogs(np.ones(2), np.ones(2), np.zeros((2, 0)), np.zeros((2, 0)), ["a", "b"]))
    assert logs.losses.tolist() == [0, 1, 1] and logs.batches == ["a", "b"]


def test_members_of_an_ensemble_go_on_together(gpu):
    found, launched = [], launches_of(gpu)
    x, y, _ = data()
    for looks in (None, lambda k: Looks()):
        launched.clear()
        together = Ensemble(build, 3)
        histories = together.fit(x, y, batch_size=BATCH, epochs=6, verbose=0, callbacks=looks)
        found.append([{**state(m), "history": h.history} for m, h in zip(together.members, histories, strict=True)])
        assert len(launched) == (6 if looks else 1)
    for one, other in zip(*found, strict=True):
        assert_same(one, other)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are the main thread's")
@pytest.mark.parametrize("brief", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_ctrl_c_leaves_the_epochs_that_are_done(gpu, monkeypatch, at, brief):
    monkeypatch.setattr(loop, "BRIEF", 1e3 if brief else 0.0)
    set_random_seed(0)
    model, (x, y, _) = build(), data()
    launches, launch = [], gpu.launch

    def press(*arguments, **how):
        launches.append(1)
        if len(launches) == at:
            signal.raise_signal(signal.SIGINT)
        launch(*arguments, **how)

    monkeypatch.setattr(gpu, "launch", press)
    monkeypatch.setattr(loop.Pace, "most", lambda self, one_by_one: 12)  # two epochs at once
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=BATCH, epochs=9, verbose=0)
    done = 2 * at
    assert model.history.epoch == list(range(done)) and model.optimizer.iterations == done * STEPS
    set_random_seed(0)
    other = build()
    found = other.fit(x, y, batch_size=BATCH, epochs=done, verbose=0, callbacks=Looks())
    assert found.history == model.history.history
    assert_same(state(model), state(other))


def test_an_exception_between_records_leaves_every_epoch_once(gpu, monkeypatch):
    model, (x, y, _) = build(), data()
    told, end = [], callbacks.CallbackList.on_epoch_end

    def fails(self, epoch, logs=None):
        told.append(epoch)
        if epoch == 3 and told.count(3) == 1:
            raise KeyboardInterrupt
        end(self, epoch, logs)

    monkeypatch.setattr(callbacks.CallbackList, "on_epoch_end", fails)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=BATCH, epochs=6, verbose=0)
    assert model.history.epoch == list(range(6)) and model.optimizer.iterations == 6 * STEPS
    assert len(model.history.history["loss"]) == 6


def test_the_epoch_of_a_loss_that_is_no_number_is_told(gpu):
    found = []
    for looks in (Looks(), None):
        set_random_seed(0)
        model, (x, y, _) = build(), data()
        rates = optimizers.schedules.PiecewiseConstantDecay([17], [0.01, 1e30])
        model.compile(optimizers.SGD(rates), "mse", device="cuda")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", NonFiniteLossWarning)
            model.fit(x, y, batch_size=BATCH, epochs=6, shuffle=False, verbose=0, callbacks=looks)
        found += [str(one.message) for one in said if one.category is NonFiniteLossWarning]
    assert len(found) == 2 and found[0] == found[1] and "in epoch 4, at step" in found[0]


def test_what_is_set_to_stop_stops_behind_what_is_done(gpu, monkeypatch):
    model, (x, y, _) = build(), data()
    took = loop.Trainee.took

    def stop(self, stretch, logs):
        took(self, stretch, logs)
        model.stop_training = True  # as a signal's handler may

    monkeypatch.setattr(loop.Trainee, "took", stop)
    history = model.fit(x, y, batch_size=BATCH, epochs=9, verbose=0)
    assert history.epoch == list(range(6)) and model.optimizer.iterations == 6 * STEPS


class Held(constraints.Constraint):
    """A user's, called after each step: ``does`` is told how many there have been."""

    def __init__(self, does):
        self.calls, self.does = 0, does

    def __call__(self, w):
        self.calls += 1
        self.does(self.calls)
        return w


def constrained(does):
    model = Sequential([layers.Input((3,)), layers.Dense(4, "relu", kernel_constraint=Held(does)), layers.Dense(2)])
    model.compile(optimizers.SGD(0.01), "mse")
    return model


@pytest.fixture
def two_at_once(monkeypatch):
    """Two epochs are a stretch, where nobody looks at what is between them."""
    monkeypatch.setattr(loop.Pace, "most", lambda self, one_by_one: 1 if one_by_one else 2 * STEPS)


@pytest.mark.parametrize("looks", [None, Looks()])
def test_a_constraint_of_a_user_s_own_acts_on_the_next_epoch(two_at_once, looks):
    """It may change the rate, and set what stops: as everything does between two epochs, whatever the clock says."""
    x, y, _ = data()
    rates = []

    def does(calls):
        if calls == 3:
            model.optimizer.learning_rate = 0.005
        model.stop_training = calls > 2 * STEPS

    model = constrained(does)
    coming = model.optimizer.coming
    model.optimizer.coming = lambda steps: rates.append(coming(steps)) or rates[-1]
    history = model.fit(x, y, batch_size=BATCH, epochs=9, verbose=0, callbacks=looks)
    assert history.epoch == [0, 1, 2]
    assert [len(each) for each in rates] == [STEPS] * 3 and rates[1][0, 0] == 0.005


def test_constraints_that_are_ours_leave_epochs_together(monkeypatch, two_at_once):
    begun, begin = [], loop.Trainee.begin_epochs
    monkeypatch.setattr(
        loop.Trainee, "begin_epochs", lambda self, epochs: begun.append(len(epochs)) or begin(self, epochs)
    )
    x, y, _ = data()
    model = Sequential([layers.Input((3,)), layers.Dense(2, kernel_constraint="non_neg")])
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=BATCH, epochs=4, verbose=0)
    assert begun == [2, 2]


@pytest.mark.parametrize("members", [0, 2])
def test_an_exception_out_of_a_step_leaves_the_epochs_before_it(monkeypatch, two_at_once, members):
    """Epoch 3 is the second of a stretch: what a step raises ends it there."""
    x, y, _ = data()
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")
    step, calls = program.LoopProgram._step, []

    def fails(self, *arguments):
        calls.append(1)
        if len(calls) == (3 * STEPS + 2) * max(1, members):
            raise MemoryError
        step(self, *arguments)

    monkeypatch.setattr(program.LoopProgram, "_step", fails)
    trained = Ensemble(lambda: build(device="cpu"), members) if members else build(device="cpu")
    with pytest.raises(MemoryError):
        trained.fit(x, y, batch_size=BATCH, epochs=6, verbose=0)
    for model in trained.members if members else [trained]:
        assert model.history.epoch == [0, 1, 2] and len(model.history.history["loss"]) == 3
        assert 3 * STEPS <= model.optimizer.iterations <= 4 * STEPS


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are the main thread's")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_second_ctrl_c_waits_until_all_histories_are_written(monkeypatch, two_at_once, at):
    ends, records = [], []
    end, record = loop.Trainee.end_epochs, loop.Trainee.record

    def end_epochs(self):
        ends.append(self)
        if len(ends) == 4:  # of the second two epochs
            signal.raise_signal(signal.SIGINT)
        end(self)

    def recorded(self):
        records.append(self)
        if len(records) == at:
            signal.raise_signal(signal.SIGINT)
        record(self)

    monkeypatch.setattr(loop.Trainee, "end_epochs", end_epochs)
    monkeypatch.setattr(loop.Trainee, "record", recorded)
    together, (x, y, _) = Ensemble(lambda: build(device="cpu"), 3), data()
    with pytest.raises(KeyboardInterrupt):
        together.fit(x, y, batch_size=BATCH, epochs=6, verbose=0)
    for model in together.members:
        assert model.history.epoch == [0, 1, 2, 3] and model.optimizer.iterations == 4 * STEPS


def test_a_fit_that_was_not_taken_out_of_the_books_is_over(monkeypatch):
    """A handler may raise in a ``finally``: layers that are frozen later are frozen all the same."""

    class Stays(set):
        def discard(self, fit):
            raise KeyboardInterrupt

    model, (x, y, _) = build(device="cpu"), data()
    model._runner.fits = Stays()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=BATCH, verbose=0)
    assert model._runner.fits
    model._runner.fits = set(model._runner.fits)
    model.layers[0].trainable = False
    model.compile("adam", "mse", device="cpu")
    before = model.layers[0].get_weights()
    model.fit(x, y, batch_size=BATCH, verbose=0)
    assert all(map(np.array_equal, before, model.layers[0].get_weights()))
