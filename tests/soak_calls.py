"""All sorts of calls at once, each with models of its own: `python tests/soak_calls.py 60`

Threads, the main thread, and children of forks do jobs whose results are known from when they were done alone, and
train one model that all share; a signal's handler uses that one, too. It is right if every job has those bits, if a
handler gets numbers or is told that it comes in the middle, and if nobody waits for ever: a child that does says where.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from soak import main

import gpumlp
from gpumlp import callbacks, initializers, layers, metrics, models, ops, optimizers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 5)).astype("f4")
Y = np.sin(X[:, :1])
CLASSES = (Y > 0).astype("f4")
LIMIT = 120  # seconds after which a child that waits says where


def drawn(seed: int) -> initializers.Initializer:
    """The same numbers whoever draws others meanwhile."""
    return initializers.GlorotUniform(seed=seed)


def network(*inner: layers.Layer, last: str | None = None, seed: int = 1) -> models.Sequential:
    """Return a network that is not compiled."""
    first = layers.Dense(24, "relu", kernel_initializer=drawn(seed))
    return models.Sequential([layers.Input((5,)), first, *inner, layers.Dense(1, last, kernel_initializer=drawn(2))])


def trained(model: models.Sequential, loss: Any = "mse", y: Any = Y, epochs: int = 2, **how: Any) -> tuple[Any, ...]:
    """Train in order, and return weights and history."""
    model.compile(how.pop("optimizer", "adam"), loss, metrics=how.pop("metrics", None))
    history = model.fit(X, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0, **how).history
    return bits(model), repr(history)


def bits(model: models.Sequential) -> list[bytes]:
    return [w.tobytes() for w in model.get_weights()]


# ---- jobs ------------------------------------------------------------------------------------------------------------


def plain() -> Any:
    model = network()
    return trained(model, metrics=["mae"], validation_split=0.2), model.predict(X[:9], verbose=0).tobytes()


def own() -> Any:
    """Formulas of one's own, which are traced and compiled each time."""
    inner = layers.Dense(16, lambda z: z / (1.0 + ops.abs(z)), kernel_initializer=drawn(3))
    return trained(network(inner), lambda t, p: ops.mean(ops.abs(t - p) ** 1.5, axis=-1), optimizer="sgd")


def of_batch() -> Any:
    return trained(network(), lambda t, p: ops.sqrt(ops.mean(ops.square(t - p))))


def stream() -> Any:
    model = network()
    model.compile(optimizers.RMSprop(1e-3), "mse")
    parts = (slice(i, i + 24) for i in itertools.cycle(range(0, 96, 24)))
    model.fit(((X[part], Y[part]) for part in parts), steps_per_epoch=4, epochs=3, verbose=0)
    return bits(model)


def saved() -> Any:
    model = network(layers.LayerNormalization())
    trained(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return trained(models.load_model(f"{folder}/model.keras"))


def pickled() -> Any:
    model = network()
    trained(model)
    return trained(pickle.loads(pickle.dumps(model)))


def classes() -> Any:
    model = network(last="sigmoid")
    found = trained(model, "binary_crossentropy", CLASSES, metrics=["accuracy", metrics.AUC(name="auc")])
    return found, repr(model.evaluate(X, CLASSES, verbose=0))


def members() -> Any:
    seeds = itertools.count(10)

    def build() -> models.Sequential:
        model = network(seed=next(seeds))
        model.compile("adam", "mse")
        return model

    ensemble = gpumlp.Ensemble(build, 3)
    ensemble.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    return [bits(model) for model in ensemble.members]


def gradients() -> Any:
    model = network()
    model.compile("adam", "mse")
    found = [w.tobytes() for w in model.gradients(X, Y).weights]
    return found, [model.train_on_batch(X, Y) for _ in range(4)], bits(model)


def stopped() -> Any:
    model = network(layers.BatchNormalization())
    stop = callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: model.predict(X[:3], verbose=0))
    return trained(model, epochs=8, validation_data=(X[:20], Y[:20]), callbacks=[stop, look])


JOBS = [plain, own, of_batch, stream, saved, pickled, classes, members, gradients, stopped]


# ---- all at once -----------------------------------------------------------------------------------------------------


class Soak:
    """Whoever does jobs; ``wrong`` collects what was not right."""

    def __init__(self) -> None:
        self.expected = {job: job() for job in JOBS}
        self.shared = network()
        trained(self.shared)
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.inside: list[bool] = []

    def do(self, who: str, rng: random.Random) -> bool:
        """Do one of the jobs; return whether it was right."""
        job = rng.choice(JOBS)
        try:
            good = job() == self.expected[job]
            said = "other numbers"
        except Exception:
            good, said = False, traceback.format_exc()
        self.counts[who] += 1
        if not good:
            self.wrong.append(f"{who}, {job.__name__}: {said}")
        return good

    def fork(self, rng: random.Random) -> None:
        """Have a child do one, and use the model that all share."""
        child = os.fork()
        if child == 0:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                faulthandler.dump_traceback_later(LIMIT, exit=True)
                good = self.do("child", rng) and bool(np.isfinite(self.shared.predict(X[:4], verbose=0)).all())
                print(*self.wrong, sep="\n", end="", file=sys.stderr, flush=True)
                os._exit(not good)
            finally:
                os._exit(2)
        status = os.waitpid(child, 0)[1]
        self.counts["forks"] += 1
        if status:
            self.wrong.append(f"a child ended with status {status}")

    def handle(self, number: int, frame: Any) -> None:
        """Use the shared model, unless the handler is at that already."""
        if self.inside:
            return
        self.inside.append(True)
        try:
            self.shared.predict(X[:4], verbose=0)
            self.shared.evaluate(X, Y, verbose=0)
            self.counts["handlers"] += 1
        except RuntimeError as error:
            self.counts["refused"] += 1
            if "in the middle of what it does" not in str(error):
                self.wrong.append(f"a handler: {traceback.format_exc()}")
        finally:
            self.inside.clear()

    def work(self, seed: int, over: threading.Event) -> None:
        """Do what there is to do until it is over."""
        rng = random.Random(seed)
        while not over.is_set():
            what = rng.random()
            if what < 0.25:
                self.fork(rng)
            elif what < 0.45:
                self.shared.fit(X, Y, verbose=0)
            else:
                self.do("thread", rng)

    @contextlib.contextmanager
    def signalled(self) -> Iterator[None]:
        """Have a signal come every now and then."""
        before = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.021)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def run(self, seconds: float) -> None:
        """Have everybody work for so long."""
        over, until, rng = threading.Event(), time.monotonic() + seconds, random.Random(99)
        threads = [threading.Thread(target=self.work, args=(seed, over), daemon=True) for seed in range(4)]
        with self.signalled():
            for thread in threads:
                thread.start()
            while time.monotonic() < until and not self.wrong:
                self.do("main", rng)
        over.set()
        for thread in threads:
            thread.join(LIMIT + 60)
        if any(thread.is_alive() for thread in threads):
            faulthandler.dump_traceback()
            self.wrong.append("threads that wait for ever")


def soaked(seconds: float) -> Soak:
    """Return what so many seconds have shown."""
    found = Soak()
    found.run(seconds)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    faulthandler.register(signal.SIGUSR1)  # where they all are
    sys.exit(main(soaked))
