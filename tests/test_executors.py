"""Ensembles and searches by executors' workers: bits are those of training here, whoever trains, and whoever dies."""

import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
from sklearn.model_selection import TimeSeriesSplit
from test_ensemble import compiled, data, state
from test_ensemble_fit import attributes, watched

import gpumlp
from gpumlp import callbacks, errors, layers, optimizers, regularizers, workers
from gpumlp.backends import team
from gpumlp.utils import set_random_seed

SCRIPT = Path(__file__).parent / "cluster" / "same_bits.py"
X, Y = data(40, seed=1)


@pytest.fixture(scope="module", params=["forkserver", "spawn"])
def processes(request):
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{request.param} is not there")
    with ProcessPoolExecutor(2, multiprocessing.get_context(request.param)) as executor:
        yield executor


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def mortal():
    """Processes that a test may kill."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


class Inline:
    """An executor that does what it is given at once; as if it had so many workers."""

    def __init__(self, count=2):
        self._max_workers, self.sent, self.tasks = count, 0, 0

    def submit(self, function, *args):
        self.sent, self.tasks, future = self.sent + (args[1] is not None), self.tasks + 1, Future()
        try:
            future.set_result(function(*pickle.loads(pickle.dumps(args))))
        except Exception as error:
            future.set_exception(error)
        return future


def build(k=0):
    stack = layers.Dense(9, "tanh"), layers.Dropout(0.2), layers.BatchNormalization(), layers.Dense(2)
    return compiled(*stack, optimizer=optimizers.Adam(0.03 / (k + 1)), metrics=["mae"])


def unbuilt(k):
    return compiled(layers.Dense(9, "relu"), layers.Dense(2), built=False, optimizer=optimizers.RMSprop(0.01))


def exploding():
    return compiled(layers.Dense(9, "relu"), layers.Dense(2), optimizer=optimizers.SGD(1e20))


class Thaws(callbacks.Callback):
    """Changes what it is given: layers, the optimizer, and what the model has by itself."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.layers[0].trainable = epoch % 2 == 0
        self.model.optimizer.learning_rate = 0.01 / (epoch + 1)
        self.model.note, self.last = epoch, self.model.layers[-1]


class Ends(callbacks.Callback):
    """Ends its process, or raises, in the second epoch, at member ``k``."""

    def __init__(self, k, how):
        self.k, self.how = k, how

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif epoch == 1 and self.how == "exit":
            os._exit(3)
        elif epoch == 1 and self.how == "sys.exit":
            sys.exit(3)
        elif epoch == 1 and self.how == "raise":
            raise ZeroDivisionError(f"member {self.k}")
        elif self.how == "lock":
            self.lock = threading.Lock()


def whole(ensemble):
    """Return all that training changes."""
    own = [[attributes(callback) for callback in each[:-1]] for each in ensemble.callbacks]
    rows = None if ensemble.samples is None else [each.tolist() for each in ensemble.samples]
    results = [member.get_metrics_result() for member in ensemble.members]
    return [state(m) for m in ensemble.members], own, rows, results, [s.state() for s in ensemble._streams]


def both(make, members=5, **fits):
    return gpumlp.Ensemble(make, members, **fits), gpumlp.Ensemble(make, members, **fits)


FITS = {
    "plain": {},
    "bootstrap": {"bootstrap": True},
    "a split": {"validation_split": 0.3, "validation_freq": 2},
    "data to validate on": {"validation_data": data(23, seed=2), "sample_weight": np.linspace(0.5, 2, 40)},
}


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:(EarlyStopping|ReduceLROnPlateau) watches")
@pytest.mark.parametrize("fit", FITS)
def test_members_are_those_that_are_trained_here(processes, fit):
    here, there = both(build, seeds=[7, 0, 3, 1, 9])
    for how in ({"epochs": 5, **FITS[fit]}, {"epochs": 2}):
        here.fit(X, Y, batch_size=8, callbacks=watched(), verbose=0, **how)
        found = there.fit(X, Y, batch_size=8, callbacks=watched(), verbose=0, executor=processes, **how)
        assert whole(here) == whole(there)
        assert found == [member.history for member in there.members] == [own[-1] for own in there.callbacks]
        assert "trained by 2 workers (processes): compiled" in there.program or "numpy" in there.program.lower()


@pytest.mark.parametrize("make", [build, unbuilt])
def test_training_goes_on_here_after_it_was_there(threads, make):
    here, there = both(make)
    for executor in (threads, None, threads):
        here.fit(X, Y, epochs=2, verbose=0)
        there.fit(X, Y, epochs=2, verbose=0, executor=executor)
        assert whole(here) == whole(there)
    copy = pickle.loads(pickle.dumps(there))
    assert [state(m)[:2] for m in copy.members] == [state(m)[:2] for m in here.members]


def test_objects_stay_what_they_are(threads):
    here, there = both(build, 3)
    mine = {k: [Thaws()] for k in range(3)}
    before = [(m, m.optimizer, *m.layers) for m in there.members]
    here.fit(X, Y, epochs=2, verbose=0, callbacks=lambda k: [Thaws()])
    there.fit(X, Y, epochs=2, verbose=0, callbacks=mine.get, executor=threads)
    assert all(
        a is b
        for m, own in zip(there.members, before, strict=True)
        for a, b in zip((m, m.optimizer, *m.layers), own, strict=True)
    )
    for k, member in enumerate(there.members):
        assert there.callbacks[k][0] is mine[k][0] and mine[k][0].model is member
        assert mine[k][0].last is member.layers[-1] and member.note == 1
        assert not member.layers[0].trainable and member.optimizer.learning_rate == 0.005
    here.fit(X, Y, epochs=2, verbose=0)
    there.fit(X, Y, epochs=2, verbose=0)
    assert [state(m) for m in here.members] == [state(m) for m in there.members]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_how_members_are_grouped_changes_no_bit(count):
    here, there = both(build, 7)
    here.fit(X, Y, epochs=2, verbose=0)
    there.fit(X, Y, epochs=2, verbose=0, executor=Inline(count))
    assert whole(here) == whole(there)


def test_pieces_are_of_one_size_and_enough():
    sizes = {
        case: [len(piece) for piece in workers._cut(*case)] for case in [(16, 2), (7, 2), (3, 8), (100, 2), (0, 3)]
    }
    assert sizes == {
        (16, 2): [4] * 4, (7, 2): [2, 2, 2, 1], (3, 8): [1] * 3, (100, 2): [15, 15, 14, 14, 14, 14, 14], (0, 3): []
    }  # fmt: skip
    assert sorted(k for piece in workers._cut(100, 7) for k in piece) == list(range(100))


def test_data_are_sent_once_to_a_worker(monkeypatch):
    monkeypatch.setattr(workers, "_kept", {})
    monkeypatch.setattr(team, "_share", team.MOST)
    one = Inline(1)
    sender = workers._sender()
    monkeypatch.setattr(workers, "_sender", lambda seen=[]: seen.append(1) or (*sender[:2], bytes([len(seen) % 251])))
    ensemble = gpumlp.Ensemble(build, 8)
    ensemble.fit(X, Y, verbose=0, executor=one)
    assert one.sent == 1 and one.tasks == 3  # two pieces, the first of them twice
    ensemble.fit(X, Y, epochs=2, verbose=0, executor=one)
    assert one.sent == 1
    ensemble.fit(X, Y + 1, verbose=0, executor=one)
    ensemble.fit(X, Y + 2, verbose=0, executor=one)
    assert one.sent == 3 and len(workers._kept) == workers.KEPT
    ensemble.fit(X, Y, verbose=0, executor=one)
    assert one.sent == 4


def test_a_worker_that_lacks_data_twice_is_sent_them_once(monkeypatch):
    """Two pieces are asked for before it has any: the second waits for what the first brings along."""
    monkeypatch.setattr(workers, "_kept", {})
    monkeypatch.setattr(team, "_share", team.MOST)
    one, sender = Inline(2), workers._sender()
    monkeypatch.setattr(workers, "_sender", lambda seen=[]: seen.append(1) or (*sender[:2], bytes([len(seen) % 251])))
    gpumlp.Ensemble(build, 8).fit(X, Y, verbose=0, executor=one)
    assert one.sent == 1 and one.tasks == 6  # four pieces, two of them twice


def test_the_display_counts_members(capsys, threads):
    gpumlp.Ensemble(build, 3).fit(X, Y, verbose=2, executor=threads)
    out = capsys.readouterr().out
    assert "Training 3 members\n" in out and re.search(r"\n3/3 - 0s - \d+ms/member - loss: ", out)
    ensemble = gpumlp.Ensemble(build, 1)
    ensemble.fit(X, Y, verbose=2, executor=Inline(1))
    assert "Training 1 member\n" in capsys.readouterr().out
    assert ensemble.program.startswith("1 member, trained by 1 worker (Inline): ")


# ---- what fails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_a_worker_that_dies_is_told_and_the_rest_can_be_gone_on_with(mortal, how):
    if how == "kill" and not hasattr(signal, "SIGKILL"):
        pytest.skip("there is no SIGKILL")
    here, there = both(build, 8)
    here.fit(X, Y, epochs=3, verbose=0)
    before = [state(member) for member in there.members]
    with pytest.raises(errors.NotTrained, match=r"Member.* 7.*BrokenProcessPool.*killed.*__main__") as raised:
        there.fit(X, Y, epochs=3, verbose=0, callbacks=lambda k: [Ends(k, how if k == 7 else "")], executor=mortal)
    left = raised.value.members
    assert 7 in left and len(left) <= 4 and raised.value.reasons.keys() == set(left)
    now, wanted = ([state(member) for member in of.members] for of in (there, here))
    assert now == [before[k] if k in left else wanted[k] for k in range(8)]
    there.fit(X, Y, epochs=3, verbose=0, members=left)
    assert [state(member) for member in there.members] == wanted


@pytest.mark.parametrize("how, words", [("raise", "ZeroDivisionError: member 2"), ("sys.exit", r"SystemExit\(3\)")])
def test_an_exception_is_of_the_member_that_raised_it(processes, how, words):
    here, there = both(build, 6)
    here.fit(X, Y, epochs=3, verbose=0)
    with pytest.raises(errors.NotTrained, match=rf"Member 2: .*{words}.*members=\[2\]") as raised:
        there.fit(X, Y, epochs=3, verbose=0, callbacks=lambda k: [Ends(k, how if k == 2 else "")], executor=processes)
    assert raised.value.members == [2] and there.callbacks[2] == [] and len(there.callbacks[1]) == 2
    there.fit(X, Y, epochs=3, verbose=0, members=raised.value.members, executor=processes)
    assert [state(m) for m in here.members] == [state(m) for m in there.members]


def test_what_cannot_travel_is_told(processes):
    ensemble = gpumlp.Ensemble(build, 2)
    before = [state(member) for member in ensemble.members]
    with pytest.raises(errors.NotTrained, match=r"Members 0, 1: .*pickle.*put classes and functions into a module"):
        ensemble.fit(X, Y, verbose=0, executor=processes, callbacks=callbacks.LambdaCallback(lambda epoch, logs: None))
    with pytest.raises(errors.NotTrained, match=r"Members 0, 1: .*cannot pickle.*lock"):
        ensemble.fit(X, Y, verbose=0, executor=processes, callbacks=[Ends(0, "lock")])
    assert [state(member) for member in ensemble.members] == before
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        ensemble.fit(X, Y, verbose=0, executor=processes, validation_data=(X, Y), class_weight={0: lambda: 1})


def test_ctrl_c_keeps_what_is_done_and_cancels_the_rest():
    class Interrupted(Inline):
        def submit(self, function, *args):
            if self.tasks == 6:  # each piece comes twice, the second time with data
                raise KeyboardInterrupt
            return super().submit(function, *args)

    here, there = both(build, 8)
    here.fit(X, Y, verbose=0)
    before = [state(member) for member in there.members]
    with pytest.raises(KeyboardInterrupt):
        there.fit(X, Y, verbose=0, executor=Interrupted(4))
    wanted, now = ([state(member) for member in of.members] for of in (here, there))
    done = [a == b for a, b in zip(now, wanted, strict=True)]
    assert any(done) and [a == b for a, b in zip(now, before, strict=True)] == [not one for one in done]
    assert {k for k, own in enumerate(there.callbacks) if own} == {k for k, one in enumerate(done) if one}


def test_a_worker_of_another_version_is_refused(monkeypatch, threads):
    place, main = workers._place(), threading.get_ident()
    monkeypatch.setattr(
        workers, "_place", lambda: place if threading.get_ident() == main else place._replace(gpumlp="9")
    )
    with pytest.raises(errors.NotTrained, match=r"has gpumlp 9, who asks it has .*install the same version"):
        gpumlp.Ensemble(build, 2).fit(X, Y, verbose=0, executor=threads)


def test_workers_that_compute_differently_are_told(monkeypatch):
    place, numbers = workers._place(), iter(range(100))
    monkeypatch.setattr(workers, "_place", lambda: place._replace(numpy=f"2.{next(numbers)}"))
    with pytest.warns(
        UserWarning, match=r"bits depend on who has trained what: members \d.* with NumPy 2\..*GPUMLP_CPU"
    ):
        gpumlp.Ensemble(build, 4).fit(X, Y, verbose=0, executor=Inline(4))


def test_warnings_of_workers_are_told_here(processes):
    with pytest.warns(errors.NonFiniteLossWarning):
        gpumlp.Ensemble(exploding, 2).fit(X, Y, epochs=9, verbose=0, executor=processes)


@pytest.mark.parametrize(
    "executor, words",
    [(3, "concurrent.futures.Executor"), (type("Pool", (), {"apply_async": 1})(), "waits for ever"),
     (type("Client", (), {"submit": print, "get_executor": 1})(), "client.get_executor")],
)  # fmt: skip
def test_what_is_no_executor_is_refused(executor, words):
    for start in (
        lambda: gpumlp.Ensemble(build, 2).fit(X, Y, verbose=0, executor=executor),
        lambda: gpumlp.search(candidate, {"units": [2]}, X, Y, verbose=0, executor=executor),
    ):
        with pytest.raises(TypeError, match=words):
            start()


def test_what_cannot_be_sent_and_who_is_no_member(threads):
    ensemble = gpumlp.Ensemble(build, 2)
    for given in ({"x": iter([(X, Y)])}, {"x": X, "y": Y, "validation_data": [(X, Y)] and iter([(X, Y)])}):
        with pytest.raises(ValueError, match=r"executor sends data .* pass numpy.asarray\(x\); else train here"):
            ensemble.fit(**given, verbose=0, executor=threads)
    for members in ([], [2], [0, 0], [-1]):
        with pytest.raises(ValueError, match="members must be different numbers from 0 to 1"):
            ensemble.fit(X, Y, verbose=0, members=members)


def test_large_data_that_lie_elsewhere_are_not_read_as_a_whole(tmp_path, threads):
    rows = 700_000
    with h5py.File(tmp_path / "x.h5", "w") as file:
        x = file.create_dataset("x", (rows, 3), "float64")
        y = np.zeros(rows, np.float32)
        few = file.create_dataset("few", data=X)
        words = r"takes arrays that are in memory; {} is a Dataset of 16 MiB.*pass numpy.asarray\({}\); else fit"
        with pytest.raises(TypeError, match="search " + words.format("x", "x")):
            gpumlp.search(candidate, GRID, x, y, verbose=0)
        with pytest.raises(TypeError, match="search " + words.format(r"validation_data\[0\]", ".*")):
            gpumlp.search(candidate, GRID, X, Y, verbose=0, validation_data=(x, y))
        for given in ({"x": x, "y": y}, {"x": x, "y": list(y)}):
            with pytest.raises(TypeError, match="executor " + words.format("x", "x")):
                gpumlp.Ensemble(build, 2).fit(**given, verbose=0, executor=threads)
        found = gpumlp.search(candidate, [{}], few, Y, cv=2, **HOW)
    assert found.scores == gpumlp.search(candidate, [{}], X, Y, cv=2, **HOW).scores
    mapped = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    assert found.scores == gpumlp.search(candidate, [{}], mapped, Y, cv=2, executor=threads, **HOW).scores


def test_some_members_alone(threads):
    here, there = both(build, 3)
    here.fit(X, Y, verbose=0, bootstrap=True)
    for members, executor in (([2], None), ([0, 1], threads)):
        found = there.fit(X, Y, verbose=0, bootstrap=True, members=members, executor=executor)
        assert found == [there.members[k].history for k in members]
    assert whole(here) == whole(there)


def test_processes_of_one_machine_share_its_processors(monkeypatch):
    monkeypatch.setattr(team, "_share", team.MOST)
    monkeypatch.delenv("GPUMLP_THREADS", raising=False)
    monkeypatch.setattr(team.os, "sched_getaffinity", lambda process: set(range(9)), raising=False)
    monkeypatch.setattr(team, "_quota", lambda: 100)
    crew = team.Team(9)
    for processes, threads in ((2, 4), (3, 3), (50, 1)):
        team.share(processes)
        assert team.processors() == threads == crew.available(9)
    monkeypatch.setenv("GPUMLP_THREADS", "5")
    monkeypatch.setattr(team, "_share", team.MOST)
    team.share(50)
    assert team.processors() == 5


# ---- engines ---------------------------------------------------------------------------------------------------------


def done_by(engine, *command):
    """Return what a script says, which ends in time, and its workers with it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    process = subprocess.Popen(
        [*command, str(SCRIPT), engine], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, err
    for _ in range(200):  # those that end with it take a moment
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:  # nobody of its session is left
            return out
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("Processes were left.")


def check(out, count, engine):
    """Two data went to so many workers, who need not all have begun before the first has done what there is."""
    found = re.match(r"same bits: True; data sent (\d+) times; 7 members, trained by (\d+) workers \((\w+)\)", out)
    assert found and (int(found[2]), found[3]) == (count, engine) and 2 <= int(found[1]) <= 3 * count


@pytest.mark.skipif(sys.platform != "linux", reason="the extra brings mpi4py and MPICH on Linux")
def test_mpi():
    mpiexec = Path(sys.executable).parent / "mpiexec"
    check(done_by("mpi", mpiexec, "-n", "4", sys.executable, "-m", "mpi4py.futures"), 3, "MPI")


@pytest.mark.skipif(sys.platform != "linux", reason="the extra brings mpi4py and MPICH on Linux")
def test_ranks_that_all_run_the_script_are_told():
    begin = Path(sys.executable).parent / "mpiexec", "-n", "2", sys.executable
    out = done_by("ranks", *begin)
    assert out.count("Each of 2 MPI ranks runs this script") == 2 == out.count("python -m mpi4py.futures script.py")
    assert done_by("ranks", *begin, "-m", "mpi4py.futures") == "nothing\n"
    assert done_by("ranks", sys.executable) == "nothing\n"


@pytest.mark.parametrize("engine", ["Dask", "loky"])
def test_dask_and_loky(engine):
    check(done_by(engine.lower(), sys.executable), 2, engine)


def test_a_script_without_a_guard_is_told_what_it_lacks():
    assert 'under `if __name__ == "__main__":`' in done_by("unguarded", sys.executable)


# ---- search ----------------------------------------------------------------------------------------------------------


def candidate(units=4, rate=0.01, drop=0.0):
    if units < 0:
        raise ValueError(f"{units} units")
    stack = layers.Dense(units, "tanh"), layers.Dropout(drop), layers.Dense(2)
    return compiled(*stack, built=units % 2 == 0, optimizer=optimizers.Adam(rate), metrics=["mae"])


GRID = {"units": [4, 7], "drop": [0.0, 0.2]}
HOW = {"epochs": 3, "batch_size": 8, "verbose": 0}
SEARCHES = {
    "plain": {}, "in order": {"shuffle": False}, "weighted": {"sample_weight": np.linspace(0.5, 2, 40)},
    "a split": {"validation_split": 0.25}, "stopped": {"callbacks": [callbacks.EarlyStopping("loss", min_delta=0.1)]},
    "steps": {"steps_per_epoch": 2},
}  # fmt: skip


def by_itself(found, case, how):
    """Return the scores and the history of a case's model, trained alone."""
    (train, test), how, params = found.folds[case.fold], dict(how), dict(found.params[case.candidate])
    how |= {name: params.pop(name) for name in ("batch_size", "epochs", "shuffle") if name in params}
    weights = how.pop("sample_weight", None)
    set_random_seed(found.seed)
    model = candidate(**params)
    own = None if weights is None else weights[train]
    model.fit(X[train], Y[train], sample_weight=own, **how)
    own = None if weights is None else weights[test]
    return model.evaluate(X[test], Y[test], how["batch_size"], 0, own, return_dict=True), model.history.history


@pytest.mark.filterwarnings("ignore:The data ran out")
@pytest.mark.parametrize("fit", SEARCHES)
def test_each_candidate_is_the_model_trained_alone(threads, fit):
    how = HOW | SEARCHES[fit]
    python, numpy = np.random.get_state()[1].tobytes(), gpumlp.random.current().state()
    here = gpumlp.search(candidate, GRID, X, Y, cv=3, seed=5, **how)
    assert (np.random.get_state()[1].tobytes(), gpumlp.random.current().state()) == (python, numpy)
    assert len(here.scores) == 12 and not here.failed
    for case in here.scores:
        assert (here.scores[case], here.histories[case]) == by_itself(here, case, how)
    there = gpumlp.search(candidate, GRID, X, Y, cv=3, seed=5, executor=threads, **how)
    assert (here.scores, here.histories) == (there.scores, there.histories) and repr(here) == repr(there)


def test_arguments_of_fit_are_candidates_too(threads):
    grid = {"units": [4, 6], "batch_size": [5, 8], "epochs": [1, 4], "shuffle": [True, False]}
    for executor in (None, threads):
        found = gpumlp.search(candidate, grid, X, Y, cv=2, refit=True, executor=executor, **HOW)
        assert {len(history["loss"]) for history in found.histories.values()} == {1, 4} and len(found.scores) == 32
        for case in found.scores:
            assert (found.scores[case], found.histories[case]) == by_itself(found, case, HOW)
    assert len(found.model.history.epoch) == found.best_params["epochs"]
    seen = []

    def takes(epochs, **others):
        seen.append((epochs, others))
        return candidate()

    found = gpumlp.search(takes, [{"epochs": 2, "batch_size": 5}], X, Y, cv=2, **HOW)
    assert seen == [(2, {"batch_size": 5})] * 2 and len(found.histories[0, 0]["loss"]) == 3


def test_by_processes_and_the_best_trained_on_all(processes):
    found = gpumlp.search(candidate, GRID, X, Y, cv=3, refit=True, executor=processes, **HOW)
    assert found.scores == gpumlp.search(candidate, GRID, X, Y, cv=3, **HOW).scores
    set_random_seed(0)
    model = candidate(**found.best_params)
    model.fit(X, Y, **HOW)
    assert state(model) == state(found.model)
    again = pickle.loads(pickle.dumps(found))
    assert repr(again) == repr(found) and state(again.model)[0] == state(model)[0]


def test_a_table_of_means_and_spreads():
    found = gpumlp.search(candidate, GRID, X, Y, cv=4, monitor="mae", **HOW)
    frame = pandas.DataFrame(found.to_dict())
    assert list(frame) == ["units", "drop", "loss", "loss_std", "mae", "mae_std", "folds"]
    maes = np.array([[found.scores[i, j]["mae"] for j in range(4)] for i in range(4)])
    assert np.array_equal(frame["mae"], maes.mean(1)) and np.array_equal(frame["mae_std"], maes.std(1))
    assert found.best_index == maes.mean(1).argmin() and found.best_score == maes.mean(1).min()
    assert found.rows()[found.best_index] == frame.to_dict("records")[found.best_index]
    lines = repr(found).splitlines()
    assert lines[0] == "4 candidates, 4 folds, the best by mae first" and len(lines) == 6
    assert lines[2].split()[0] == str(found.best_index)
    assert found.ranking == np.argsort(maes.mean(1), kind="stable").tolist()
    found.mode = "max"
    assert found.best_index == maes.mean(1).argmax()
    found.monitor = "rmse"
    with pytest.raises(ValueError, match="monitor must be one of loss, mae"):
        _ = found.best_params


def test_one_of_each(capsys):
    found = gpumlp.search(candidate, [{}], X, Y, cv=[(range(30), range(30, 40))], **(HOW | {"verbose": 2}))
    assert re.match(r"Training 1 model\n1/1 - \d+s - \S+/model\n", capsys.readouterr().out)
    lines = repr(found).splitlines()
    assert lines[0] == "1 candidate, 1 fold, the best by loss first"
    row = found.rows()[0]
    assert np.isnan(row["mae_std"]) and lines[2].split()[2:] == ["-", f"{row['mae']:.4g}", "-", "1"]
    assert found == found and found != pickle.loads(pickle.dumps(found))


def penalised(l2):
    stack = layers.Dense(3, "tanh", kernel_regularizer=regularizers.L2(l2) if l2 else None), layers.Dense(2)
    return compiled(*stack, optimizer=optimizers.Adam(0.01), metrics=["mse"])


def test_losses_with_other_penalties_are_told(threads):
    grid = {"l2": [0.0, 0.3, 0.3]}
    for executor in (None, threads):
        with pytest.warns(UserWarning, match=r"which differ: L2\(l2=0.3\); none. .*monitor='mse'"):
            found = gpumlp.search(penalised, grid, X, Y, cv=2, executor=executor, **HOW)
    with pytest.warns(UserWarning, match="which differ"):
        gpumlp.search(penalised, grid, X, Y, cv=2, resume=found, **HOW)
    gpumlp.search(penalised, grid, X, Y, cv=2, monitor="mse", **HOW)
    gpumlp.search(penalised, {"l2": [0.3, 0.3]}, X, Y, cv=2, **HOW)


def test_folds():
    rows = gpumlp.search(candidate, [{}], X, Y, cv=3, **HOW).folds
    assert sorted(np.concatenate([test for _, test in rows])) == list(range(40))
    assert all(sorted([*train, *test]) == list(range(40)) for train, test in rows)
    pairs = [(range(30), range(30, 40)), (np.arange(40) < 20, [39])]
    for cv in (TimeSeriesSplit(3), pairs):
        given = (
            list(cv.split(X)) if hasattr(cv, "split") else [(np.arange(30), np.arange(30, 40)), (np.arange(20), [39])]
        )
        found = gpumlp.search(candidate, [{"units": 4}], X, Y, cv=cv, **HOW)
        assert all(
            np.array_equal(a, b)
            for one, two in zip(found.folds, given, strict=True)
            for a, b in zip(one, two, strict=True)
        )
        for case in found.scores:
            assert (found.scores[case], found.histories[case]) == by_itself(found, case, HOW)


def test_failures_are_listed_and_only_these_are_tried_again():
    built = []

    def fragile(units):
        built.append(units)
        return candidate(units)

    grid = [{"units": 4}, {"units": -2}, {"units": 6}]
    with pytest.warns(UserWarning, match=r"3 models of 9 failed: ValueError: -2 units"):
        found = gpumlp.search(fragile, grid, X, Y, cv=3, **HOW)
    assert [(f.candidate, f.fold, f.params) for f in found.failed] == [(1, k, {"units": -2}) for k in range(3)]
    assert found.rows()[1]["folds"] == 0 and found.best_index != 1 and "failed: 3" in repr(found)
    assert "judged on all folds" in repr(found)
    built.clear()
    grid[1] = {"units": 2}
    again = gpumlp.search(fragile, grid, X, Y, cv=3, resume=found, **HOW)
    assert built == [2] * 3 and again.scores == gpumlp.search(candidate, grid, X, Y, cv=3, **HOW).scores
    with pytest.raises(errors.SearchFailed, match=r"All models .* have failed, 2\. .*ValueError: -1 units") as raised:
        gpumlp.search(fragile, [{"units": -1}], X, Y, cv=2, **HOW)
    assert len(raised.value.result.failed) == 2
    with pytest.raises(ValueError, match=r"No candidate was judged on all folds.*-1 units"):
        _ = raised.value.result.best_params
    with pytest.raises(ValueError, match="resume is of a search with seed=0; here it is 1"):
        gpumlp.search(fragile, grid, X, Y, cv=3, seed=1, resume=found, **HOW)


OTHER = {
    "x": ({"x": X + 1}, "another x"), "y": ({"y": np.asfortranarray(2 * Y)}, "another y"),
    "sample_weight": ({"sample_weight": np.ones(40)}, "another sample_weight"),
    "validation_data": ({"validation_data": (X, Y)}, "another validation_data"),
    "epochs": ({"epochs": 4, "batch_size": 9}, "batch_size=8; here it is 9, epochs=3; here it is 4"),
    "class_weight": ({"class_weight": {0: 2.0}}, r"class_weight=None; here it is \{0: 2.0\}"),
    "validation_split": ({"validation_split": 0.5}, "validation_split=0.0; here it is 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER)
def test_what_was_found_of_other_data_or_arguments_is_not_gone_on_with(what):
    given, words = OTHER[what]
    same = {"build": candidate, "grid": {"units": [4]}, "x": X, "y": Y, "cv": 2} | HOW
    found = pickle.loads(pickle.dumps(gpumlp.search(**same)))
    with pytest.raises(ValueError, match=f"resume is of a search with {words}. Pass the same"):
        gpumlp.search(**(same | given), resume=found)
    again = gpumlp.search(**(same | {"x": np.asfortranarray(X), "y": Y.copy()}), resume=found)
    assert all(again.scores[case] is found.scores[case] for case in found.scores)


def ends(params):
    return [Ends(0, params["how"])]


def ending(how):
    return candidate()


def test_a_candidate_that_raises_is_told_and_those_beside_it_are_trained(processes):
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        found = gpumlp.search(
            ending, {"how": ["", "raise", ""]}, X, Y, cv=2, callbacks=ends, executor=processes, **HOW
        )  # fmt: skip
    assert {f.candidate for f in found.failed} == {1} and len(found.scores) == 4


def test_a_worker_that_dies_leaves_the_rest_of_a_search(mortal):
    grid = {"how": ["", "", "", "exit"]}
    with pytest.warns(UserWarning, match="BrokenProcessPool"):
        found = gpumlp.search(ending, grid, X, Y, cv=2, callbacks=ends, executor=mortal, **HOW)
    assert {3} <= {f.candidate for f in found.failed} and found.scores
    assert len(repr(found.failed)) < 200 * len(found.failed) < sum(len(f.reason) for f in found.failed)
    with pytest.warns(UserWarning, match="SystemExit|failed"):
        again = gpumlp.search(
            ending, {"how": ["", "", "", "raise"]}, X, Y, cv=2, callbacks=ends, resume=found, **HOW
        )  # fmt: skip
    assert len(again.scores) == 6


def test_ctrl_c_keeps_what_a_search_has_done():
    calls = []

    def interrupting(units):
        calls.append(units)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return candidate(units)

    grid = {"units": [2, 4, 6, 8]}
    with pytest.raises(errors.SearchInterrupted, match="resume") as raised:
        gpumlp.search(interrupting, grid, X, Y, cv=3, **HOW)
    found = raised.value.result
    assert len(found.scores) == 6
    calls = [None] * 10
    again = gpumlp.search(interrupting, grid, X, Y, cv=3, resume=found, **HOW)
    assert len(calls) == 16 and again.scores == gpumlp.search(candidate, grid, X, Y, cv=3, **HOW).scores


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"grid": 3}, TypeError, "grid must be a dict of lists"), ({"grid": {"units": 4}}, TypeError, r"Write \[4\]"),
        ({"grid": {"units": []}}, ValueError, "must have a candidate"), ({"grid": [3]}, TypeError, "a list of dicts"),
        ({"cv": 1}, ValueError, "2 folds or more"), ({"cv": "x"}, TypeError, "cv must be a number of folds"),
        ({"cv": [([0], [40])]}, ValueError, "test of fold 0"), ({"cv": [([], [1])]}, ValueError, "train of fold 0"),
        ({"cv": [3]}, ValueError, "Fold 0 of cv must be a pair"), ({"cv": []}, ValueError, "no fold"),
        ({"build": 3}, TypeError, "build must be a function"), ({"y": Y[:3]}, ValueError, "3"),
        ({"grid": {"unit": [4]}}, TypeError, "has 'unit', which build does not take. Did you mean 'units'"),
        ({"grid": [{"units": 4}, {"epoch": 4}]}, ValueError, "'epoch', which .* Did you mean 'epochs'"),
        ({"grid": {"units": [4], "validation_split": [0.1]}}, TypeError, "a grid may have batch_size, epochs"),
        ({"build": ending, "grid": [{}]}, TypeError, "missing a required argument: 'how'"),
        ({"x": iter([])}, ValueError, "search takes arrays"), ({"epoch": 3}, TypeError, "epochs"),
    ],
)  # fmt: skip
def test_what_a_search_refuses(given, error, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=words):
            gpumlp.search(**({"build": candidate, "grid": GRID, "x": X, "y": Y, "verbose": 0} | given))
