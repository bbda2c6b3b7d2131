"""Ensembles by executors' workers: bits are those of training here, whoever trains, and whoever dies."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from test_ensemble import compiled, data, state
from test_ensemble_fit import attributes, watched

import gpumlp
from gpumlp import callbacks, config, errors, layers, optimizers, workers
from gpumlp.backends import team

SCRIPT = Path(__file__).parent / "cluster" / "same_bits.py"
X, Y = data(40, seed=1)


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


class Unreadable(Exception):
    def __init__(self, code, words):
        super().__init__(f"{words} ({code})")


class Raises(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise Unreadable(7, "the disk is full")


def test_an_exception_that_cannot_be_unpickled_is_of_its_member_alone(processes):
    ensemble = gpumlp.Ensemble(build, 3)
    with pytest.raises(
        errors.NotTrained, match=r"Member 1: RuntimeError: Unreadable: the disk is full \(7\)"
    ) as raised:
        ensemble.fit(X, Y, verbose=0, executor=processes, callbacks=lambda k: [Raises()] * (k == 1))
    reason = raised.value.reasons[1]
    assert raised.value.members == [1] and any("in on_epoch_end" in note for note in reason.__notes__)
    assert [member.optimizer.iterations for member in ensemble.members] == [2, 0, 2]


class Slower(optimizers.schedules.LearningRateSchedule):
    """A schedule whose constructor says nothing of its rate."""

    def __init__(self):
        self.rate = 0.1

    def __call__(self, step):
        return self.rate

    def get_config(self):
        return {}


class SlowsDown(callbacks.Callback):
    def on_train_end(self, logs=None):
        self.model.optimizer.learning_rate = new = Slower()
        new.rate = 0.003


def test_what_a_callback_has_put_in_the_place_of_its_like_comes_back(processes):
    here, there = (
        gpumlp.Ensemble(lambda: compiled(layers.Dense(2), optimizer=optimizers.SGD(Slower())), 2) for _ in range(2)
    )
    for ensemble, executor in ((here, None), (there, processes)):
        ensemble.fit(X, Y, verbose=0, executor=executor, callbacks=SlowsDown())
        ensemble.fit(X, Y, initial_epoch=1, epochs=2, verbose=0)
    assert whole(there) == whole(here)
    assert {member.optimizer._learning_rate.rate for member in there.members} == {0.003}


def test_functions_are_the_same_only_with_what_they_have_around_them():
    from gpumlp.models.state import _copied

    def around(slope, more=1.0):
        return lambda z, more=more: z * slope + more

    class Scaled:
        def __init__(self, by):
            self.by = by

        def __call__(self, z):
            return z * self.by

    assert _copied(around(0.5), around(0.5)) and _copied(Scaled(2.0), Scaled(2.0))
    for one, other in ((around(0.5), around(0.1)), (around(0.5), around(0.5, 2.0)), (Scaled(2.0), Scaled(3.0))):
        assert not _copied(one, other)


def test_settings_of_who_asks_are_put_back_and_do_not_mix():
    from threading import Barrier, Thread

    float32, float64 = config.settings(), ("float64", *config.settings()[1:])
    both, seen = Barrier(2, timeout=30), []

    def go(found):
        both.wait()
        for _ in range(50):
            with workers._going_by(found):
                seen.append(config.settings() == found)

    threads = [Thread(target=go, args=(found,)) for found in (float32, float64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [True] * 100 and config.settings() == float32


class Recompiles(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.compile(optimizers.SGD(0.1, momentum=0.9), "mae", metrics=["mse"])


class Exchanges(callbacks.Callback):
    def on_train_end(self, logs=None):
        self.model.optimizer = optimizers.SGD(0.1)


class Adds(callbacks.Callback):
    def on_train_end(self, logs=None):
        self.model.add(layers.Dense(2))


@pytest.mark.parametrize("callback", [Recompiles, Exchanges])
def test_a_callback_that_compiles_anew(threads, callback):
    here, there = gpumlp.Ensemble(build, 3), gpumlp.Ensemble(build, 3)
    for ensemble, executor in ((here, None), (there, Inline())):
        ensemble.fit(X, Y, epochs=2, verbose=0, executor=executor, callbacks=[callback()])
    assert whole(there) == whole(here)
    for ensemble, executor in ((here, None), (there, threads)):
        ensemble.fit(X, Y, epochs=2, verbose=0, executor=executor)
    assert whole(there) == whole(here) and type(there.members[0].optimizer) is optimizers.SGD
    assert [member.loss for member in there.members] == [member.loss for member in here.members]


def test_a_member_that_comes_back_with_other_layers_is_not_taken(processes):
    ensemble = gpumlp.Ensemble(build, 3)
    before = ensemble.members[1].get_weights()
    with pytest.raises(errors.NotTrained, match=r"Member 1: ValueError: .*came back with other layers") as raised:
        ensemble.fit(X, Y, verbose=0, executor=processes, callbacks=lambda k: [Adds()] * (k == 1))
    assert raised.value.members == [1] and all(map(np.array_equal, before, ensemble.members[1].get_weights()))
    assert [member.optimizer.iterations for member in ensemble.members] == [2, 0, 2]


def test_functions_that_travel_by_value_stay_the_callers(threads):
    pytest.importorskip("cloudpickle")

    def bent(z):
        return z * z * 0.1 + z

    def twos(shape, dtype=None):
        return np.full(shape, 0.2)

    def make():
        stack = layers.Dense(3, bent, kernel_initializer=twos), layers.Dense(2)
        return compiled(*stack, optimizer=optimizers.SGD(0.01))

    here, there = gpumlp.Ensemble(make, 2), gpumlp.Ensemble(make, 2)
    here.fit(X, Y, verbose=0)
    there.fit(X, Y, verbose=0, executor=Inline())
    assert all(member.layers[0].activation.function is bent for member in there.members)
    assert all(member.layers[0].kernel_initializer is twos for member in there.members)
    here.fit(X, Y, initial_epoch=1, epochs=2, verbose=0)
    there.fit(X, Y, initial_epoch=1, epochs=2, verbose=0, executor=threads)
    assert [state(m)[0] for m in there.members] == [state(m)[0] for m in here.members]
    assert there.evaluate(X, Y, verbose=0) == here.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize(
    "error", [errors.DeviceMemoryError(5, 1, 2), errors.NotTrained({1: ValueError("x")}), errors.SearchInterrupted(3)]
)
def test_errors_of_the_package_travel(error):
    error.add_note("note")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and str(back) == str(error) and repr(vars(back)) == repr(vars(error))


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
        lambda: gpumlp.search(build, {"k": [2]}, X, Y, verbose=0, executor=executor),
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
