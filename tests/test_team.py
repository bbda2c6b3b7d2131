"""Threads that the system does not give, and numbers of threads that make no sense."""

import os
import signal
import threading

import numpy as np
import pytest

from gpumlp import gate, layers, models
from gpumlp.backends import team
from gpumlp.backends.blas import Helpers as Products
from gpumlp.engine import compiled_program


@pytest.fixture
def given(monkeypatch):
    """A function: from now on the system gives so many threads more."""
    left, start = [], threading.Thread.start

    def some(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    def give(count):
        left[:] = [None] * count
        monkeypatch.setattr(threading.Thread, "start", some)

    return give


def parts(crew, threads):
    """Return which threads' parts of a job have been done when it is back."""
    done = []
    crew.run(lambda address, thread: done.append(thread), 0, threads)
    return sorted(done)


@pytest.mark.parametrize(("threads", "there"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 4)])
def test_a_job_has_as_many_threads_as_could_be_started(given, threads, there):
    crew = team.Team(4)
    given(threads)
    assert crew.available(1) == 1
    assert crew.available(4) == crew.available(9) == there
    assert parts(crew, there) == list(range(there))
    if there < 4:
        with pytest.raises(RuntimeError, match=rf"can't start 4 threads: there are {there}, of at most 4"):
            parts(crew, 4)
    given(9)  # later there is room again
    assert crew.available(4) == 4 and parts(crew, 4) == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root becomes another user, with a limit")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_user_who_may_have_no_more_processes_has_one_thread():
    import resource

    child = os.fork()
    if child == 0:
        signal.alarm(60)  # which ends it where it hangs
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        crew = team.Team(4)
        os._exit(0 if crew.available(4) == 1 and parts(crew, 1) == [0] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_more_threads_are_started_than_a_job_has(given):
    crew = team.Team(9)
    given(3)
    assert parts(crew, 2) == [0, 1] and parts(crew, 3) == [0, 1, 2]
    assert crew.available(4) == 3


@pytest.mark.parametrize("at", range(3))
def test_an_interrupt_right_after_a_thread_was_started_leaves_the_team_whole(monkeypatch, at):
    """Jobs of several callers are run one after the other, each with all of its threads."""
    crew, start, left = team.Team(3), threading.Thread.start, [None] * at

    def interrupted(thread):
        start(thread)
        if not left:
            raise KeyboardInterrupt
        left.pop()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupted)
        parts(crew, 3)
    wrong = []

    def call():
        for _ in range(200):
            if parts(crew, 3) != [0, 1, 2]:
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_a_signal_s_handler_that_asks_while_threads_are_started_gets_them(monkeypatch):
    """A handler runs in its thread, in between: here within the start of a thread."""
    crew, start, found = team.Team(3), threading.Thread.start, []

    def asked(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        found.append(parts(crew, 3))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", asked)
    assert parts(crew, 3) == found[0] == [0, 1, 2]


@pytest.mark.parametrize(
    "starts", [lambda: team.Team(2).available(2), lambda: Products()._number()], ids=["team", "BLAS"]
)
def test_a_signal_s_handler_waits_for_nobody_while_threads_are_started(starts, monkeypatch):
    """Who is inside a gate may wait for the same threads."""
    one, start, said = gate.Gate(), threading.Thread.start, []

    def asked(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        for ask in (lambda: gate.hold((one,), int), lambda: gate.apart(int)):
            with pytest.raises(RuntimeError, match="in the middle of what it does"):
                said.append(ask())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", asked)
    monkeypatch.setenv("GPUMLP_THREADS", "2")
    starts()
    assert threading.Thread.start is start and not said and gate.hold((one,), int) == 0


def train(threads, monkeypatch):
    """Return the weights of a model that a team of so many threads at most trains."""
    crew = team.Team(threads)
    monkeypatch.setattr(team, "team", lambda: crew)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(96, 5)).astype("f"), rng.normal(size=(96, 2)).astype("f")
    stack = [layers.Input(shape=(5,)), layers.Dense(24, "relu"), layers.Dense(2)]
    model = models.Sequential(stack)
    model.set_weights([rng.normal(size=w.shape).astype("f") for w in model.get_weights()])
    model.compile("adam", "mse")
    model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_model_trains_to_the_same_bits_on_the_threads_that_there_are(given, monkeypatch, threads):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    monkeypatch.setattr(compiled_program, "OPERATIONS_EACH", 1)
    monkeypatch.setattr(compiled_program.Pace, "_next", lambda self, steps: (self._choices[-1], 0.1))
    alone = train(1, monkeypatch)
    given(threads)
    assert np.array_equal(train(4, monkeypatch), alone)


@pytest.mark.parametrize("value", ["99999", "513", "9" * 5000, "0", "000", "-3", "1e3", " 2", "²"])
def test_a_number_of_threads_that_makes_no_sense_is_an_error_that_says_the_limit(monkeypatch, value):
    monkeypatch.setenv("GPUMLP_THREADS", value)
    with pytest.raises(ValueError, match=r"^GPUMLP_THREADS must be a whole number from 1 to 512; got .{1,60}$"):
        team.processors()


@pytest.mark.parametrize("value", ["1", "512", "007", "0" * 50 + "2"])
def test_a_number_of_threads_up_to_the_limit_is_taken(monkeypatch, value):
    monkeypatch.setenv("GPUMLP_THREADS", value)
    assert team.processors() == int(value)


def test_a_machine_of_many_processors_has_as_many_threads_as_the_limit(monkeypatch):
    monkeypatch.delenv("GPUMLP_THREADS", raising=False)
    monkeypatch.setattr(team.os, "sched_getaffinity", lambda process: range(2048), raising=False)
    monkeypatch.setattr(team, "_quota", lambda: 4096)
    assert team.processors() == team.MOST


@pytest.mark.parametrize(
    ("allowed", "taken", "moves", "after"),
    [
        ({5, 6}, {5}, [{6}, {5, 6}], {5, 6}),
        ({5, 6}, {6}, [], {5, 6}),
        ({5}, {5}, [], {5}),
        ({4, 5}, {4, 5}, [], {4, 5}),
    ],
)
def test_a_thread_leaves_a_processor_that_another_of_its_job_is_on(monkeypatch, allowed, taken, moves, after):
    where, asked = [5], []

    def put(thread, processors):
        asked.append(processors)
        where[0] = where[0] if where[0] in processors else min(processors)

    monkeypatch.setattr(team, "_processor", lambda: where[0])
    monkeypatch.setattr(team.os, "sched_setaffinity", put, raising=False)
    monkeypatch.setattr(team.os, "sched_getaffinity", lambda thread: set(allowed), raising=False)
    team.move_from(taken)
    assert asked == moves and taken == after
