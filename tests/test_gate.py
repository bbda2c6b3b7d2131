"""Gates: who may wait for whom, told by who is inside of what; nobody waits for ever."""

import signal
import threading
import time

import pytest
import soak
from test_threads import at_once

from gpumlp import gate


def test_a_gate_lets_its_waiters_in_and_is_left_after_an_error():
    one = gate.Gate()
    with pytest.raises(ZeroDivisionError):
        gate.hold((one,), lambda: 1 // 0)
    assert gate.hold((one,), lambda: 5) == 5 and not one.is_mine()
    with pytest.raises(RuntimeError, match="in the middle"):
        gate.hold((one,), lambda: gate.hold((one,), lambda: 0))
    assert not one.is_mine() and not one.waiting


def test_a_handler_that_comes_and_goes_while_its_thread_waits_leaves_the_thread_noted():
    """The next one would have the worker wait for the gate that its own thread is inside of."""
    one, seen = gate.Gate(), []

    def handler(number, frame):
        one.within(lambda: seen.append(gate._here.is_inside()))

    class Lock:
        """It is interrupted before it is taken, as by the first signal, and behind that, as by the second."""

        def __init__(self, lock):
            self._is_owned, self.release, self.lock = lock._is_owned, lock.release, lock

        def __enter__(self):
            one.lock = self.lock
            handler(signal.SIGALRM, None)
            self.lock.acquire()
            seen.append(gate._here.is_inside())

        def __exit__(self, *problem):
            self.lock.release()

    one.lock = Lock(one.lock)
    one.within(lambda: seen.append(gate._here.is_inside()))
    assert seen == [True, True, True] and not gate._here.is_inside() and one not in gate._here.held


@pytest.mark.parametrize("waits", [True, False], ids=["who waits", "who goes on"])
def test_a_handler_inside_a_gate_asks_for_an_earlier_one_for_a_moment(waits, monkeypatch):
    """Another thread that is inside that one may wait for this one; a thread that goes on leaves it soon."""
    monkeypatch.setattr(gate, "OUT_OF_TURN", 0.05 if waits else 60.0)
    first, second, inside, ends = gate.Gate(), gate.Gate(), threading.Event(), []

    def other():
        with first:
            inside.set()
            if waits:
                with second:
                    ends.append("both")
            else:
                while not first.waiting:
                    time.sleep(0.001)

    def handler():
        return gate.hold((first,), lambda: "right")

    def work():
        thread.start()
        inside.wait(60)
        if waits:
            with pytest.raises(RuntimeError, match="in the middle of what it does"):
                handler()
        else:
            ends.append(handler())
        assert gate._here.gates() == [second]

    thread = threading.Thread(target=other)
    gate.hold((second,), work)
    thread.join(60)
    assert ends == ["both" if waits else "right"] and not gate._here.is_inside()
    assert handler() == "right" and not first.waiting - {threading.get_ident()}


def test_a_handler_inside_a_gate_does_not_wait_for_who_forks():
    """Who forks has `no_fork`, and waits for the gate: a model that a handler asks first would wait for that one."""
    one, taken, over = gate.Gate(), threading.Event(), threading.Event()

    def forks():
        with gate.no_fork:
            taken.set()
            over.wait(60)

    def handler():
        return soak.build().predict(soak.X[:7], verbose=0)

    thread = threading.Thread(target=forks)
    thread.start()
    taken.wait(60)
    found = []

    def inside():
        with pytest.raises(RuntimeError, match="in the middle of what it does"):
            gate.hold((one,), handler)
        found.append(one.is_mine())

    other = threading.Thread(target=inside, daemon=True)
    other.start()
    other.join(30)
    over.set()
    thread.join()
    assert found == [False]

    def loads():
        with gate.loading():
            return gate.no_fork._is_owned()

    assert gate.hold((one,), loads) and loads() and not gate.no_fork._is_owned()


def test_gates_taken_in_any_order_do_not_lock_each_other_out():
    gates = [gate.Gate() for _ in range(3)]
    total = []

    def work(order):
        for _ in range(300):
            gate.hold([gates[i] for i in order], lambda: total.append(1))

    at_once(lambda: work([0, 1, 2]), lambda: work([2, 1, 0]), lambda: work([1, 0]))
    assert len(total) == 900


def test_who_makes_a_gate_does_not_wait_for_whom_it_holds_up():
    """In a signal's handler: a thread inside a gate that makes one waits for this thread, which would wait for it."""
    one, entered = gate.Gate(), threading.Event()

    def makes_one():
        entered.set()
        gate.Gate()

    thread = threading.Thread(target=gate.hold, args=((one,), makes_one), daemon=True)
    with gate._registry:
        thread.start()
        assert entered.wait(60)
        with pytest.raises(RuntimeError, match="in the middle"):
            gate.hold((one,), lambda: 0)
    thread.join(60)
    assert gate.hold((one,), lambda: 5) == 5


def test_who_forks_is_refused_until_that_is_over():
    one = gate.Gate()
    gate._before_fork()
    try:
        with pytest.raises(RuntimeError, match="in the middle"):
            gate.hold((one,), lambda: 0)
    finally:
        gate._after_in_parent()
        gate._forget_fork()
    assert gate.hold((one,), lambda: 5) == 5
