"""One model used by everybody at once: a soak test, for as many rounds as one likes. `python tests/soak.py 300`

A round trains a model while threads predict and evaluate with it, pickle it, and use a model that shares its layers,
while a signal's handler uses it on the main thread, and children of forks use it, too. It is right if training has the
bits that it has alone, if every answer is one that some number of whole steps gives, and if nobody waits for ever.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import gpumlp
from gpumlp import layers, models, optimizers
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 5)).astype("f4")
Y = np.sin(X[:, :1])
EPOCHS = 40


def build() -> models.Sequential:
    """Return a compiled model; its steps are of 32 samples, 3 an epoch."""
    set_random_seed(0)
    model = models.Sequential([layers.Input((5,)), layers.Dense(33, "relu"), layers.Dense(17, "tanh"), layers.Dense(1)])
    model.compile(optimizers.Adam(1e-3), "mse", metrics=["mae"])
    return model


def fit(model: models.Sequential, epochs: int = EPOCHS, **how: Any) -> None:
    """Train ``model`` in order."""
    model.fit(X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0, **how)


def answers() -> tuple[dict[bytes, int], dict[tuple[float, ...], int], list[bytes]]:
    """Return all right predictions and evaluations, with the number of steps they are of, and the trained weights."""
    model = build()
    predictions: dict[bytes, int] = {}
    evaluations: dict[tuple[float, ...], int] = {}

    def note(batch: int = 0, logs: Any = None) -> None:
        steps = len(predictions)
        predictions.setdefault(model.predict(X[:7], verbose=0).tobytes(), steps)
        evaluations.setdefault(tuple(model.evaluate(X, Y, verbose=0)), steps)

    model.predict(X[:7], verbose=0)
    note()
    fit(model, callbacks=gpumlp.callbacks.LambdaCallback(on_train_batch_end=note))
    return predictions, evaluations, [w.tobytes() for w in model.get_weights()]


class Soak:
    """A model, and what is done to it while it trains; ``wrong`` collects what was not right."""

    def __init__(self, forks: bool, signals: bool) -> None:
        self.predictions, self.evaluations, self.weights = answers()
        self.forks, self.signals = forks and hasattr(os, "fork"), signals and hasattr(signal, "SIGALRM")
        self.wrong: list[str] = []
        self.counts: dict[str, int] = {}

    def check(self, what: str, good: bool) -> None:
        """Count, and keep what is wrong."""
        self.counts[what] = self.counts.get(what, 0) + 1
        if not good:
            self.wrong.append(what)

    def predict(self, model: models.Sequential) -> None:
        self.check("predict", model.predict(X[:7], verbose=0).tobytes() in self.predictions)

    def evaluate(self, model: models.Sequential) -> None:
        self.check("evaluate", tuple(model.evaluate(X, Y, verbose=0)) in self.evaluations)

    def copy(self, model: models.Sequential) -> None:
        other = pickle.loads(pickle.dumps(model))
        steps = self.predictions.get(other.predict(X[:7], verbose=0).tobytes(), -1)
        self.check("copy", steps == min(other.optimizer.iterations, len(self.predictions) - 1))

    def share(self, model: models.Sequential) -> None:
        """Use another model of the same layers, with a head of its own: arenas become one while training goes on."""
        other = models.Sequential([*model.layers, layers.Dense(2, name="head")])
        self.check("share", np.isfinite(other.predict(X[:7], verbose=0)).all())

    def fork(self, model: models.Sequential) -> None:
        """Use the model in the child of a fork: right, and not for ever."""
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(600)  # the end of one that hangs
            good = model.predict(X[:7], verbose=0).tobytes() in self.predictions
            fit(model, 1)
            os._exit(0 if good and np.isfinite(model.predict(X[:7], verbose=0)).all() else 1)
        self.check("fork", os.waitpid(child, 0)[1] == 0)

    def handle(self, model: models.Sequential) -> Callable[..., None]:
        """Return a signal's handler that uses the model: right numbers, or an error that says what is wrong."""

        inside: list[bool] = []

        def handler(number: int, frame: Any) -> None:
            if inside:  # the next signal is here before this one's work is done
                return
            inside.append(True)
            try:
                self.evaluate(model)
                self.predict(model)
            except RuntimeError as error:
                self.check("refused", "in the middle of what it does" in str(error))
            finally:
                inside.clear()

        return handler

    def round(self) -> None:
        """Train once, with everybody at it."""
        model, done = build(), threading.Event()
        jobs = [self.predict, self.predict, self.evaluate, self.copy, self.share]
        jobs += [self.fork, self.fork] if self.forks else []

        def use(job: Callable[[models.Sequential], None]) -> None:
            while True:
                try:
                    job(model)
                except Exception as error:
                    self.check(f"{job.__name__}: {type(error).__name__}: {error}", False)
                if done.is_set():
                    return

        threads = [threading.Thread(target=use, args=(job,), daemon=True) for job in jobs]
        before = signal.signal(signal.SIGALRM, self.handle(model)) if self.signals else None
        try:
            if self.signals:
                signal.setitimer(signal.ITIMER_REAL, 0.013, 0.013)
            for thread in threads:
                thread.start()
            fit(model)
        finally:
            if self.signals:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
            done.set()
        for thread in threads:
            thread.join(600)
        self.check("all have ended", not any(thread.is_alive() for thread in threads))
        self.check("train", [w.tobytes() for w in model.get_weights()] == self.weights)


def soaked(seconds: float) -> Soak:
    """Return what so many seconds of rounds have shown."""
    found, until = Soak(forks=True, signals=True), time.monotonic() + seconds
    while time.monotonic() < until:
        found.round()
    return found


def main(soaked: Callable[[float], Any]) -> int:
    """Soak for as many seconds as the first argument says, half of it by NumPy; return 1 where something was wrong."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    for kernels in ("numpy", "auto"):
        os.environ.update(GPUMLP_KERNELS=kernels, GPUMLP_DEVICE="cpu")
        found = soaked(seconds / 2)
        print(f"{kernels}: {dict(found.counts)}; wrong: {found.wrong[:5] or 'nothing'}", flush=True)
        if found.wrong:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(soaked))
