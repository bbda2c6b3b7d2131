"""NumPy's path gives the same bits alone and beside others, on one processor or more, with however many threads."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gpumlp import Input, Sequential, optimizers, random, regularizers
from gpumlp.backends import blas
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.layers import Dense

needs_openblas = pytest.mark.skipif(blas.openblas() is None, reason="NumPy's BLAS is not OpenBLAS")
PATIENCE = 600  # seconds, for what ends a hang

# Inputs, units, batch: below the threshold, one vector at a time, and in blocks of rows and of columns.
SIZES = {
    "small": (30, (64, 64, 3), 32),
    "a row": (2100, (2000, 1), 1),
    "one unit": (4100, (1,), 1000),
    "columns": (300, (1024, 700, 1), 64),
    "rows": (500, (256, 130, 1), 600),
}


def fitted(size, dtype="float32", steps=3):
    """Return a digest of a seeded fit's weights, losses and predictions."""
    inputs, units, batch = SIZES[size]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((steps * batch, inputs)), rng.standard_normal((steps * batch, units[-1]))
    stream = random.Stream()  # threads would draw from one stream in turns
    stream.seed(1)
    with random.drawing_from(stream):
        dense = [Dense(n, "relu", kernel_regularizer=regularizers.L1L2(1e-4, 1e-4)) for n in units[:-1]]
        model = Sequential([Input((inputs,)), *dense, Dense(units[-1], kernel_regularizer="l2")], dtype=dtype)
        model.compile(optimizers.Adam(1e-3), "mse", metrics=["mae"])
        losses = model.fit(x, y, batch_size=batch, epochs=2, verbose=0).history["loss"]
    parts = [*model.get_weights(), np.array(losses), model.predict(x, batch_size=batch, verbose=0)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def all_fitted():
    return {f"{size}, {dtype}": fitted(size, dtype) for size in SIZES for dtype in ("float32", "float64")}


def python(*arguments, **settings):
    """Return what another process prints, read as JSON."""
    env = os.environ | {"PYTHONPATH": str(Path(blas.__file__).parents[2])} | settings
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, timeout=PATIENCE, check=True)
    return json.loads(done.stdout)


@contextmanager
def beside(work):
    """Have a thread do ``work`` again and again meanwhile, once at least before it begins."""
    begun, over = threading.Event(), threading.Event()

    def again():
        while not over.is_set():
            work()
            begun.set()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(autouse=True)
def on_numpy(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")


@pytest.fixture
def two_helpers(monkeypatch):
    """Threads of our own, wherever the tests run."""
    monkeypatch.setenv("GPUMLP_THREADS", "3")
    monkeypatch.setattr(blas, "helpers", blas.Helpers())


@pytest.fixture(scope="module")
def alone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUMLP_KERNELS", "numpy")
        return all_fitted()


@needs_openblas
@pytest.mark.parametrize("other", ["small", "columns"])
def test_a_fit_has_the_same_bits_alone_and_beside_another_models_fit(alone, other):
    with beside(lambda: fitted(other)):
        assert all_fitted() == alone


@needs_openblas
def test_a_fit_has_the_same_bits_beside_a_users_own_products(alone):
    a, out = np.ones((700, 700), np.float32), np.empty((700, 700), np.float32)
    with beside(lambda: np.dot(a, a, out=out)):
        assert all_fitted() == alone


@needs_openblas
@pytest.mark.parametrize(
    "settings",
    [{"ONE_PROCESSOR": "1"}] + [{name: n} for name in ("OPENBLAS_NUM_THREADS", "GPUMLP_THREADS") for n in "123"],
    ids=lambda settings: "=".join(*settings.items()),
)
def test_a_fit_has_the_same_bits_whatever_the_processors_and_threads(alone, settings):
    if "ONE_PROCESSOR" in settings and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not say on which processors a process runs")
    assert python(__file__, **settings) == alone


def test_where_a_product_is_cut_depends_on_its_sizes_alone():
    assert blas.grid(20, 256, 256) == blas.grid(64, 300, 256) == blas.grid(1, 10**9, 1) == (1, 1)
    assert blas.grid(128, 784, 512) == (1, 2) and blas.grid(512, 784, 128) == (2, 1)
    assert blas.grid(1024, 1024, 1024) == (2, 2) and blas.grid(4096, 1024, 1024) == (8, 2)
    assert blas.grid(10**5, 4096, 4096) == (16, 1) and blas.grid(10**6, 300, 1) == (4, 1)


@needs_openblas
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_in_blocks_are_right_for_many_callers_at_once(two_helpers, dtype):
    wrong = []

    def check(rows, inner, columns):
        a, b = rng_of(rows, (rows, inner)), rng_of(columns, (inner, columns))
        truth = a.astype(np.float64) @ b.astype(np.float64)
        bound = 4 * inner * np.finfo(dtype).eps * (abs(a) @ abs(b))
        for left, right in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b)), (np.repeat(a, 2, 0)[::2], b)):
            out = np.full((rows, columns), np.nan, dtype)
            blas.dot((left, right, out))
            if not (abs(out - truth) <= bound).all():
                wrong.append((rows, inner, columns))

    def rng_of(seed, shape):
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype)

    sizes = [(600, 500, 257), (64, 300, 1024), (1023, 300, 65), (1, 4100, 4100), (4100, 4100, 1), (20, 30, 40)]
    assert sum(blas.grid(*each) != (1, 1) for each in sizes) == 5
    callers = [threading.Thread(target=check, args=each) for each in sizes]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@needs_openblas
def test_overflow_is_silent_in_blocks_as_in_one(two_helpers):
    large = np.full((1024, 64), 1e30, np.float32)
    out = np.empty((1024, 1024), np.float32)
    assert blas.grid(1024, 64, 1024) != (1, 1)
    blas.dot((large, large.T, out))
    assert np.isinf(out).all()


@needs_openblas
def test_without_threads_to_be_had_the_caller_computes_the_same_bits(alone, monkeypatch):
    def none(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blas, "helpers", blas.Helpers())
    monkeypatch.setenv("GPUMLP_THREADS", "4")
    monkeypatch.setattr(threading.Thread, "start", none)
    assert fitted("columns") == alone["columns, float32"]


def test_a_bad_number_of_threads_is_told_before_any_weight_changes(monkeypatch):
    monkeypatch.setattr(blas, "helpers", blas.Helpers())
    monkeypatch.setenv("GPUMLP_THREADS", "many")
    model = Sequential([Input((300,)), Dense(1024), Dense(300)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match="GPUMLP_THREADS must be a whole number"):
        model.fit(np.ones((64, 300)), np.ones((64, 300)), batch_size=64, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


@needs_openblas
def test_threads_are_started_by_the_first_large_product_not_by_small_ones_or_the_import():
    code = (
        "import threading, numpy as np, gpumlp; from gpumlp.backends import blas; n = [threading.active_count()]\n"
        "for rows in (20, 1024):\n"
        "    a, w = np.ones((rows, 256), np.float32), np.ones((256, 256), np.float32)\n"
        "    blas.dot((a, w, a.copy())); n.append(threading.active_count())\n"
        "print(n)"
    )
    assert python("-c", code, GPUMLP_THREADS="3") == [1, 1, 3]


class Blocks:
    """Blocks whose product is what a test says, for the caller's thread and for the others."""

    def __init__(self, monkeypatch, here, there, count=3):
        caller = threading.current_thread()
        self.begun, self.ended, self.go = threading.Event(), [], threading.Event()

        def matmul(a, b, out):
            if threading.current_thread() is caller:
                assert self.begun.wait(PATIENCE)  # another thread has a block, too
                here(self)
            else:
                self.begun.set()
                there(self)
                self.ended.append(a)

        monkeypatch.setattr(blas, "np", SimpleNamespace(matmul=matmul, errstate=np.errstate))
        self.blocks = [(i, None, None) for i in range(count)]


def ends_after(blocks, seconds=0.1):
    """Go on until the caller has raised, and longer."""
    assert blocks.go.wait(PATIENCE)
    threading.Event().wait(seconds)


def test_an_exception_in_the_callers_block_reaches_it_when_no_other_thread_writes_any_more(two_helpers, monkeypatch):
    def interrupted(blocks):
        blocks.go.set()
        raise KeyboardInterrupt

    blocks = Blocks(monkeypatch, interrupted, ends_after, count=2)
    with pytest.raises(KeyboardInterrupt):
        blas.helpers.compute(blocks.blocks)
    assert len(blocks.ended) == 1


def test_an_exception_in_another_threads_block_reaches_the_caller_and_the_thread_goes_on(two_helpers, monkeypatch):
    def fails(blocks):
        raise MemoryError("no room")

    for _ in range(5):
        blocks = Blocks(monkeypatch, lambda blocks: None, fails)
        with pytest.raises(MemoryError, match="no room"):
            blas.helpers.compute(blocks.blocks)
    blocks = Blocks(monkeypatch, lambda blocks: None, lambda blocks: None)
    blas.helpers.compute(blocks.blocks)
    assert blocks.ended


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
def test_a_signals_handler_that_raises_waits_for_the_blocks_of_other_threads(two_helpers, monkeypatch):
    def handler(number, frame):
        blocks.go.set()
        raise KeyboardInterrupt

    def there(blocks):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        ends_after(blocks)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        blocks = Blocks(monkeypatch, lambda blocks: None, there, count=2)
        with pytest.raises(KeyboardInterrupt):
            blas.helpers.compute(blocks.blocks)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(blocks.ended) == 1


@pytest.fixture
def blas_threads(monkeypatch):
    """The number of threads of a BLAS that stands in, as a list of one."""
    now = [4]
    monkeypatch.setattr(blas, "openblas", lambda: (lambda: now[0], lambda n: now.__setitem__(0, n)))
    return now


def test_steps_hold_the_blas_to_one_thread_and_give_the_others_back(blas_threads):
    backend = NumpyBackend()
    with backend.running():
        assert blas_threads == [1]
        blas_threads[0] = 2  # somebody else's doing
        with backend.running():
            assert blas_threads == [1]
        assert blas_threads == [1]
    assert blas_threads == [4]
    with pytest.raises(KeyError), backend.running():
        raise KeyError
    assert blas_threads == [4]


def test_computations_of_several_threads_give_the_blas_back_when_the_last_one_ends(blas_threads):
    inside, over = threading.Event(), threading.Event()

    def compute():
        with blas.one_thread():
            inside.set()
            assert over.wait(PATIENCE)

    other = threading.Thread(target=compute)
    with blas.one_thread():
        other.start()
        assert inside.wait(PATIENCE)
    assert blas_threads == [1]
    over.set()
    other.join()
    assert blas_threads == [4]


def test_a_signals_handler_may_compute_at_any_place_of_taking_and_giving_back(monkeypatch):
    """Every call to the BLAS, and before it, is such a place: the handler is called there."""
    for at in range(8):
        now, calls = [4], [0]

        def interrupted(at=at, calls=calls):
            calls[0] += 1
            if calls[0] == at:
                with blas.one_thread():
                    assert now == [1]  # noqa: B023

        def count(now=now, interrupted=interrupted):
            interrupted()
            return now[0]

        def set_to(n, now=now, interrupted=interrupted):
            interrupted()
            now[0] = n
            interrupted()

        monkeypatch.setattr(blas, "openblas", lambda count=count, set_to=set_to: (count, set_to))
        with blas.one_thread():
            assert now == [1]
        assert now == [4] and not blas._holders


def test_another_blas_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(blas, "openblas", lambda: None)
    monkeypatch.setattr(blas, "helpers", None)
    a, out = np.ones((1024, 1024), np.float32), np.empty((1024, 1024), np.float32)
    with NumpyBackend().running():
        blas.dot((a, a, out))
    assert (out == 1024).all()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_a_fork(work):
    """Return the exit status of a child that does ``work``; one that hangs is ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(PATIENCE)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@needs_fork
@needs_openblas
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_computes_the_same_bits_with_threads_of_its_own(alone, two_helpers):
    count = blas.openblas()[0]
    before = count()
    fitted("columns")

    def work():
        assert not blas._holders and count() == before
        assert threading.active_count() == 1
        assert fitted("columns") == alone["columns, float32"]
        assert threading.active_count() == 4 and not blas._holders and count() == before

    with beside(lambda: fitted("small")):
        assert [in_a_fork(work) for _ in range(5)] == [0] * 5


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_within_a_computation_keeps_its_own_hold_and_drops_the_others(blas_threads):
    inside, over = threading.Event(), threading.Event()

    def compute():
        with blas.one_thread():
            inside.set()
            assert over.wait(PATIENCE)

    other = threading.Thread(target=compute)
    other.start()
    assert inside.wait(PATIENCE)

    def without():
        assert blas_threads == [4] and not blas._holders

    def within():
        assert blas_threads == [1] and len(blas._holders) == 1

    try:
        assert in_a_fork(without) == 0
        with blas.one_thread():
            assert in_a_fork(within) == 0
    finally:
        over.set()
        other.join()
    assert blas_threads == [4]


if __name__ == "__main__":
    if "ONE_PROCESSOR" in os.environ:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(all_fitted()))
