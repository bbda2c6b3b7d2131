"""Ensembles: every member is, bit for bit, the model trained alone; and what their predictions say together."""

import copy
import pickle
import random as python_random
import signal
import threading

import numpy as np
import pytest

import gpumlp
from gpumlp import layers, losses, models, optimizers, random
from gpumlp.backends import team
from gpumlp.engine import compiled_program
from gpumlp.engine.feed import Dataset
from gpumlp.engine.program import Task
from gpumlp.optimizers import schedules
from gpumlp.training import loop
from gpumlp.training.data import Batches
from gpumlp.training.streams import Held
from gpumlp.utils import set_random_seed

TEAMS = {}


@pytest.fixture
def kernels(monkeypatch):
    """A function: from now on models on the CPU take these kernels, with a team of so many threads, always all."""

    def choose(name, threads=2):
        monkeypatch.setenv("GPUMLP_KERNELS", name)
        monkeypatch.setattr(team, "team", lambda: TEAMS.setdefault(threads, team.Team(threads)))
        monkeypatch.setattr(compiled_program.Pace, "_next", lambda self, steps: (self._choices[-1], 0.1))

    return choose


def data(n=57, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return x, np.sin(x @ rng.standard_normal((3, 2))).astype(np.float32)


def compiled(*stack, built=True, loss="mse", optimizer="adam", **more):
    model = models.Sequential([*([layers.Input((3,))] if built else []), *stack])
    model.compile(loss=loss, optimizer=optimizer, **more)
    return model


def plain(**more):
    return compiled(layers.Dense(19, "tanh"), layers.Dense(33, "relu"), layers.Dense(2), **more)


def regularized():
    stack = [
        layers.Dense(31, "leaky_relu", kernel_regularizer="l2"), layers.Dropout(0.3),
        layers.Dense(150, "relu", bias_regularizer="l1"), layers.Dropout(0.1), layers.Dense(2),
    ]  # fmt: skip
    return compiled(*stack, optimizer=optimizers.SGD(0.05, momentum=0.9), metrics=["mae"], weighted_metrics=["mse"])


def of_each_its_own(k):
    """Learning rates, dropout and penalties differ between members, and the seed of a layer does not."""
    rate = schedules.ExponentialDecay(0.02 / (k + 1), 5, 0.9) if k % 2 else 0.01 * (k + 1)
    hidden = layers.Dense(19, "tanh", kernel_regularizer=gpumlp.regularizers.L1L2(l2=0.01 * k))
    return compiled(
        hidden, layers.Dropout(0.1 * k), layers.Dense(2), optimizer=optimizers.AdamW(rate, weight_decay=0.1)
    )


def built_by_the_first_fit():
    return compiled(layers.Dense(19, "relu"), layers.Dense(2), built=False, optimizer=optimizers.RMSprop(0.01))


BUILDS = [plain, regularized, of_each_its_own, built_by_the_first_fit]
FITS = {
    "shuffled, a short last batch": {"batch_size": 20, "epochs": 3},
    "in order": {"batch_size": 19, "epochs": 2, "shuffle": False},
    "an epoch in parts": {"batch_size": 8, "steps_per_epoch": 2, "epochs": 3},
    "steps alone": {"steps_per_epoch": 5, "epochs": 2},
    "weighted": {"batch_size": 20, "epochs": 2, "sample_weight": np.linspace(0.5, 2, 57)},
    "bootstrap": {"batch_size": 20, "epochs": 2, "bootstrap": True},
    "bootstrap in order, weighted": {"shuffle": False, "bootstrap": True, "sample_weight": np.linspace(0.5, 2, 57)},
}


def alone(build, k, seed, *fits, given=()):
    """Return member k as a model by itself, trained by each of ``fits`` in turn."""
    set_random_seed(seed)
    model = build(k) if build is of_each_its_own else build()
    for arguments in fits:
        (x, y), arguments = given or data(), dict(arguments)
        if arguments.pop("bootstrap", False):
            rows = random.generator().integers(len(x), size=len(x))
            x, y = x[rows], y[rows]
            if "sample_weight" in arguments:
                arguments["sample_weight"] = arguments["sample_weight"][rows]
        model.fit(x, y, verbose=0, **arguments)
    return model


def state(model):
    """Return all that training changes, to be compared bit for bit."""
    arrays = model.get_weights() + [a for slot in (model.optimizer.saved() or {}).values() for a in slot]
    history = model.history and (model.history.history, model.history.epoch, model.history.params)
    return [a.tobytes() for a in arrays], model.optimizer.iterations, history


def trained(build, *fits, members=3, seeds=None):
    ensemble = gpumlp.Ensemble(build, members, seeds)
    for arguments in fits:
        histories = ensemble.fit(*data(), verbose=0, **arguments)
        assert histories == [member.history for member in ensemble.members]
    return ensemble


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("fit", FITS)
def test_a_member_is_the_model_trained_alone(kernels, name, build, fit):
    kernels(name)
    fits = FITS[fit], {"batch_size": 25}  # and another fit after that
    ensemble = trained(build, *fits, seeds=[7, 0, 3])
    found = [state(member) for member in ensemble.members]
    assert found == [state(alone(build, k, seed, *fits)) for k, seed in enumerate([7, 0, 3])]
    assert found[0] != found[1] != found[2]
    assert ("compiled" in ensemble.program) == (name == "numba") and "3 " in ensemble.program


def test_any_number_of_threads_gives_the_same_bits(kernels):
    found = []
    for threads in (1, 2, 3, 8):
        kernels("numba", threads)
        ensemble = trained(regularized, {"epochs": 3}, {"bootstrap": True}, members=5)
        found.append([state(member) for member in ensemble.members])
        assert f"together on {min(threads, 5)} thread" in ensemble.program
    assert all(states == found[0] for states in found)


def test_how_steps_are_cut_into_calls_changes_no_bit(kernels, monkeypatch):
    found = []
    for pieces in (1, 7, 10**6):
        kernels("numba")
        monkeypatch.setattr(compiled_program.Pace, "_per_step", lambda self, threads, pieces=pieces: 0.1 / pieces)
        ensemble = trained(of_each_its_own, {"batch_size": 3, "epochs": 2})
        found.append([state(member) for member in ensemble.members])
    assert all(states == found[0] for states in found)


def test_an_ensemble_of_one(kernels):
    for name in ("numpy", "numba"):
        kernels(name)
        ensemble = trained(plain, {"epochs": 2}, members=1)
        assert state(ensemble.members[0]) == state(alone(plain, 0, 0, {"epochs": 2}))
        mean, spread = ensemble.predict(data()[0])
        assert np.array_equal(mean, ensemble.members[0].predict(data()[0], verbose=0)) and not spread.any()


def test_members_with_programs_of_different_kinds_are_trained_together(kernels):
    kernels("numba")
    fits = {"batch_size": 20, "epochs": 2}, {"batch_size": 20}
    mixed = gpumlp.Ensemble(plain, 3)
    mixed.members[1].optimizer.clipnorm = 0.5  # by the array library
    for arguments in fits:
        mixed.fit(*data(), verbose=0, **arguments)
    assert mixed.members[0].program.startswith("compiled") and "numpy" in mixed.members[1].program

    def clipped():
        model = plain()
        model.optimizer.clipnorm = 0.5
        return model

    for k, build in enumerate((plain, clipped, plain)):
        assert state(mixed.members[k]) == state(alone(build, k, k, *fits))


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning")  # on purpose
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_in_one_member_stays_there(kernels):
    kernels("numba")
    ensemble = gpumlp.Ensemble(regularized, 3)
    ensemble.members[1].set_weights([np.full_like(w, np.nan) for w in ensemble.members[1].get_weights()])
    ensemble.fit(*data(), verbose=0, epochs=2)
    assert np.isnan(ensemble.members[1].get_weights()[0]).all()
    for k in (0, 2):
        assert state(ensemble.members[k]) == state(alone(regularized, k, k, {"epochs": 2}))


def test_copies_of_an_ensemble_train_as_it_does(kernels):
    for name in ("numpy", "numba"):
        kernels(name)
        ensemble = trained(regularized, {"epochs": 1})
        copies = [copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))]
        for each in (ensemble, *copies):
            each.fit(*data(), verbose=0, bootstrap=True)
        for each in copies:
            assert [state(m) for m in each.members] == [state(m) for m in ensemble.members]


def test_on_a_gpu_too(gpu):
    def build():
        return compiled(layers.Dense(8, "relu"), layers.Dense(2), device="cuda")

    ensemble = trained(build, {"batch_size": 20, "epochs": 2, "bootstrap": True}, members=2)
    for k, member in enumerate(ensemble.members):
        model = alone(build, k, k, {"batch_size": 20, "epochs": 2, "bootstrap": True})
        assert member.history.history == model.history.history
        for got, expected in zip(member.get_weights(), model.get_weights(), strict=True):
            assert np.array_equal(got, expected)


# ---- random numbers --------------------------------------------------------------------------------------------------


def draws():
    return python_random.random(), np.random.random(), random.generator().random()


def test_the_caller_s_random_numbers_go_on(kernels):
    kernels("numpy")
    set_random_seed(5)
    expected = [draws() for _ in range(4)]

    def build():
        draws()
        return built_by_the_first_fit()

    def broken():
        draws()
        raise OSError("no model today")

    set_random_seed(5)
    found = [draws()]
    ensemble = gpumlp.Ensemble(build, 2)
    found.append(draws())
    ensemble.fit(*data(), verbose=0, epochs=2, bootstrap=True)
    found.append(draws())
    with pytest.raises(OSError, match="no model"):
        gpumlp.Ensemble(broken, 2)
    assert [*found, draws()] == expected


def test_other_threads_draw_from_the_package_s_stream_meanwhile():
    set_random_seed(5)
    expected, found = random.generator().random(2).tolist(), []
    set_random_seed(5)
    with random.drawing_from(random.Stream()):
        set_random_seed(6)
        worker = threading.Thread(target=lambda: found.append(random.generator().random()))
        worker.start()
        worker.join()
    assert [*found, random.generator().random()] == expected


def test_bootstrap_keeps_the_rows(kernels):
    kernels("numpy")
    ensemble = trained(plain, {"bootstrap": True})
    assert len(ensemble.samples) == 3
    assert all(rows.shape == (57,) and 0 <= rows.min() and rows.max() < 57 for rows in ensemble.samples)
    assert len({rows.tobytes() for rows in ensemble.samples}) == 3
    assert len(np.unique(ensemble.samples[0])) < 57
    ensemble.fit(*data(), verbose=0)
    assert ensemble.samples is None


# ---- predictions -----------------------------------------------------------------------------------------------------


def test_mean_and_spread_are_numpy_s(kernels):
    for name in ("numpy", "numba"):
        kernels(name)
        ensemble = trained(plain, {"epochs": 2})
        x, _ = data(100, seed=1)
        each = ensemble.predict_members(x, batch_size=30)
        assert each.shape == (3, 100, 2) and each.dtype == np.float32
        for k, member in enumerate(ensemble.members):
            assert np.array_equal(each[k], member.predict(x, 30, verbose=0))
        mean, spread = ensemble.predict(x, batch_size=30)
        assert mean.dtype == spread.dtype == np.float32
        assert np.array_equal(mean, np.mean(each.astype(np.float64), axis=0).astype(np.float32))
        assert np.array_equal(spread, np.std(each.astype(np.float64), axis=0).astype(np.float32))
        assert (spread > 0).all()


def test_members_that_agree_have_no_spread(kernels):
    kernels("numpy")
    ensemble = trained(plain, {"epochs": 2}, seeds=[4, 4, 4])
    mean, spread = ensemble.predict(data()[0])
    assert not spread.any() and np.array_equal(mean, ensemble.members[0].predict(data()[0], verbose=0))


def test_the_progress_shows_the_mean(kernels, capsys):
    kernels("numpy")
    ensemble = gpumlp.Ensemble(plain, 3)
    ensemble.fit(*data(), epochs=2, verbose=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    for epoch, line in enumerate(lines):
        mean = np.mean([member.history.history["loss"][epoch] for member in ensemble.members])
        assert line.endswith(f"loss: {mean:.4f}")
    assert len(lines) == 2


# ---- interrupts, and what is not possible ----------------------------------------------------------------------------


class Press(schedules.LearningRateSchedule):
    """A constant rate, and Ctrl-C, once, when step 40 is prepared."""

    pressed = False

    def __call__(self, step):
        if step == 40 and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return 0.01


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_ctrl_c_ends_after_the_steps_under_way(kernels, name):
    kernels(name)

    def build(k):
        return plain(optimizer=optimizers.Adam(Press() if k == 1 else 0.01))

    ensemble = gpumlp.Ensemble(build, 3)
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(*data(), batch_size=57, epochs=10**4, verbose=0)  # an epoch is a step
    assert [member.optimizer.iterations for member in ensemble.members] == [40] * 3
    for k, member in enumerate(ensemble.members):
        assert member.history.epoch == list(range(40))
        expected = alone(lambda: plain(optimizer=optimizers.Adam(0.01)), k, k, {"batch_size": 57, "epochs": 40})
        assert state(member)[0] == state(expected)[0]
        assert member.history.history["loss"] == expected.history.history["loss"][:40]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"x": data()[0][:, :2]}, ValueError, "samples of shape"),
        ({"y": data()[1][:5]}, ValueError, "as many rows"),
        ({"y": None}, ValueError, "y is missing"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"steps_per_epoch": 1.5}, TypeError, "steps"),
        ({"epochs": -1}, ValueError, "epochs"),
        ({"verbose": 7}, ValueError, "verbose"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
    ],
)
def test_bad_input_changes_nothing(kernels, arguments, error, match):
    kernels("numpy")
    ensemble = trained(plain, {"epochs": 2})
    before = [state(member) for member in ensemble.members]
    x, y = data()
    with pytest.raises(error, match=match):
        ensemble.fit(**{"x": x, "y": y, "verbose": 0, "bootstrap": True, **arguments})
    assert [state(member) for member in ensemble.members] == before and ensemble.samples is None
    ensemble.fit(x, y, verbose=0)
    assert state(ensemble.members[2]) == state(alone(plain, 2, 2, {"epochs": 2}, {}))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda k: compiled(layers.Dense(3 + k)), r"operation 0 of member 1 is .*outputs=4.* of member 0 .*outputs=3"),
        (lambda k: compiled(layers.Dense(3, "relu" if k else None)), "operation 0 of member 1 is .*relu"),
        (lambda k: compiled(*[layers.Dense(3) for _ in range(1 + k)]), "operation 1 of member 1"),
        (lambda k: compiled(layers.Dense(3, trainable=k == 0)), "training of weight array 0"),
        (lambda k: compiled(layers.Dense(3), loss="mae" if k else "mse"), "the loss of member 1"),
        (lambda k: compiled(layers.Dense(3), loss=losses.Huber(1.0 + k)), "the loss of member 1"),
        (lambda k: compiled(layers.Dense(3), metrics=["mae"] * k), "the metrics of member 1"),
        (lambda k: compiled(layers.Dense(3), optimizer="sgd" if k else "adam"), "the optimizer of member 1"),
        (lambda k: compiled(layers.Dense(3), optimizer=optimizers.SGD(momentum=0.5 * k)), "the optimizer's state"),
    ],
)  # fmt: skip
def test_members_of_different_shapes_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        gpumlp.Ensemble(make, 2)


def test_members_that_have_become_different_are_refused(kernels):
    kernels("numpy")
    ensemble = gpumlp.Ensemble(
        lambda k: compiled(layers.Dense(3 + k), layers.Dense(2), built=False), 2
    )  # who knows yet
    with pytest.raises(ValueError, match="operation 0 of member 1"):
        ensemble.fit(*data(), verbose=0)
    assert not any(member.built for member in ensemble.members)
    ensemble = trained(plain, {})
    ensemble.members[1].compile(loss="mae", optimizer="adam")
    with pytest.raises(ValueError, match="the loss of member 1"):
        ensemble.fit(*data(), verbose=0)


def test_what_build_must_return():
    model, adam = plain(), optimizers.Adam()
    with pytest.raises(ValueError, match="share one model"):
        gpumlp.Ensemble(lambda: model, 2)
    with pytest.raises(ValueError, match="share one optimizer"):
        gpumlp.Ensemble(lambda: plain(optimizer=adam), 2)
    with pytest.raises(ValueError, match="needs a compiled model"):
        gpumlp.Ensemble(models.Sequential, 2)
    with pytest.raises(TypeError, match="compiled Sequential; got 7"):
        gpumlp.Ensemble(lambda: 7, 2)
    with pytest.raises(TypeError, match="build must be a function"):
        gpumlp.Ensemble(model, 2)
    with pytest.raises(ValueError, match="one for each of 2 members; got 3"):
        gpumlp.Ensemble(plain, 2, seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="seed must be"):
        gpumlp.Ensemble(plain, 2, seeds=[1, -2])
    with pytest.raises(ValueError, match="members"):
        gpumlp.Ensemble(plain, 0)


def test_a_parameter_with_a_default_is_not_the_member_s_number():
    found = []

    def build(units=4, *, rate=0.01):
        found.append(units)
        return compiled(layers.Dense(units), optimizer=optimizers.Adam(rate))

    gpumlp.Ensemble(build, 2)
    gpumlp.Ensemble(lambda k: found.append(10 + k) or plain(), 2)
    assert found == [4, 4, 10, 11]


# ---- the seam --------------------------------------------------------------------------------------------------------


def test_programs_take_tasks_that_differ_in_all_but_the_number_of_steps(kernels):
    kernels("numba")
    found = []
    for together in (False, True):
        programs, tasks = [], []
        for k, (n, batch, first) in enumerate([(40, 8, 1), (57, 20, 0), (30, 7, 2)]):
            model = alone(plain, k, k)
            x, y = data(n, seed=k)
            weights = model._runner.place()
            program = model._runner.program_for(batch, model._runner.ask())
            slots = model.optimizer.slots_for(weights, model._runner.owners)
            order = np.random.default_rng(k).permutation(n) if k else None
            programs.append(program)
            metrics = [gpumlp.metrics.MeanAbsoluteError()] * k
            tasks.append(
                Task(Dataset(x, y), order, batch, first, first + 3, model._loss, metrics, model.optimizer, slots)
            )
        run = programs[0].run_together if together else lambda ps, ts: [p.run(*t) for p, t in zip(ps, ts, strict=True)]
        logs = run(programs, tasks)
        found.append([
            [array.tobytes() for array in (log.samples, log.losses, log.totals, log.counts, program.arena.params)]
            for log, program in zip(logs, programs, strict=True)
        ])  # fmt: skip
        assert [task.optimizer.iterations for task in tasks] == [3] * 3
    assert found[0] == found[1]


def test_threads_that_share_members_do_not_wait_for_each_other_for_ever(kernels):
    kernels("numba")
    members = [alone(plain, k, k) for k in range(3)]
    x, y = data()

    def run(order):
        for _ in range(100):
            sources = [Held(Dataset(x, y), Batches(57, 20, None, False)) for _ in order]
            trainees = [
                members[i]._trainee(source, (3,), 1, members[i]._hooks(None, 0, None))
                for i, source in zip(order, sources, strict=True)
            ]
            for trainee, source in zip(trainees, sources, strict=True):
                trainee.begin_epochs(range(1))
                source.begin_epoch()
            loop.train(trainees, [source.take(3) for source in sources], loop.Pace(3))

    workers = [threading.Thread(target=run, args=(order,), daemon=True) for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
    assert not any(worker.is_alive() for worker in workers)
    assert [member.optimizer.iterations for member in members] == [900] * 3


def test_more_members_than_python_nests_calls():
    """Each member's gate is held for a step: as many calls within each other as members would be too deep."""

    def build():
        model = models.Sequential([layers.Dense(1, input_shape=(1,))])
        model.compile("sgd", "mse", device="cpu")
        return model

    members = gpumlp.Ensemble(build, 1100)
    x = np.linspace(0, 1, 4, dtype=np.float32)[:, None]
    histories = members.fit(x, x, epochs=1, verbose=0)
    assert len(histories) == 1100
    assert all(h.history["loss"][0] > 0 for h in histories)
