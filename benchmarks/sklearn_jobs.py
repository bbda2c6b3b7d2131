"""gpumlp.sklearn's estimators beside scikit-learn's own: whole fits by the same settings, and what they are worth.

Each takes turns in a process of its own. A turn is a fit from another seed, the same for both, to its own end: by the
loss, or by max_iter. Its score, on samples held out, is not within the time. scikit-learn is there twice, with as many
threads of BLAS as it takes by itself and with one, which is faster for small layers; gpumlp is compared to the faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import rows
from contenders import Contenders
from turns import Worker

OURS = "gpumlp.sklearn"
PAUSE = 0.2  # seconds between turns: idle thread pools go on spinning for a while
SCORES = {"MLPClassifier": "accuracy", "MLPRegressor": "R2"}

Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Fit:
    """An estimator of both libraries, what it is fitted to, and its parameters where these are not the defaults."""

    name: str
    kind: str
    data: Callable[[], Data]
    settings: dict[str, Any] = field(default_factory=dict)

    def parts(self) -> tuple[Data, Data]:
        """Return scaled samples to train on, and a quarter to judge by."""
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import scale

        x, y = self.data()
        y = y if self.kind == "MLPClassifier" else scale(y)
        x_train, x_test, y_train, y_test = train_test_split(scale(x), y, random_state=0)
        return (x_train, y_train), (x_test, y_test)


def _digits() -> Data:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _diabetes() -> Data:
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True)


def _friedman() -> Data:
    """Friedman's first function, of 5 of 8 features, with noise."""
    from sklearn.datasets import make_friedman1

    return make_friedman1(8_000, n_features=8, noise=1.0, random_state=0)


def _fits() -> dict[str, Fit]:
    classifier = partial(Fit, kind="MLPClassifier", data=_digits)
    regressor = partial(Fit, kind="MLPRegressor")
    fits = [classifier(f"digits, {_words(sizes)}", settings={"hidden_layer_sizes": sizes}) for sizes in SIZES]
    fits += [
        regressor(f"8 numbers x 6,000, {_words(sizes)}", data=_friedman, settings={"hidden_layer_sizes": sizes})
        for sizes in SIZES
    ]
    early = {"hidden_layer_sizes": (64, 64), "early_stopping": True}
    fits.append(classifier("digits, 64-64, early stopping", settings=early))
    by_lbfgs = {"hidden_layer_sizes": (32,), "solver": "lbfgs", "alpha": 30.0, "max_iter": 500}
    fits.append(regressor("diabetes, 32, lbfgs", data=_diabetes, settings=by_lbfgs))
    return {fit.name: fit for fit in fits}


def _words(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


SIZES = ((32,), (64, 64), (128, 128, 128))
FITS = _fits()


def fitting(package: str, threads: int | None, fit: Fit) -> Callable[[], float]:
    """Return a turn: a fit of the package's estimator from the next seed, the BLAS held to ``threads``.

    It tells the score.
    """
    import importlib
    import warnings

    from threadpoolctl import threadpool_limits

    kind = getattr(importlib.import_module(package), fit.kind)
    warnings.simplefilter("ignore")  # that max_iter was reached is no news
    threadpool_limits(threads)  # as long as the process lives
    train, test = fit.parts()
    fitted: list[Any] = []

    def turn() -> float:
        fitted.append(kind(random_state=len(fitted), **fit.settings).fit(*train))
        return float(fitted[-1].loss_)

    turn.told = lambda: {"score": fitted[-1].score(*test)}  # type: ignore[attr-defined]
    return turn


ESTIMATORS: Contenders = {
    OURS: (partial(fitting, "gpumlp.sklearn", None), ("gpumlp", "scikit-learn", "numpy")),
    "scikit-learn": (partial(fitting, "sklearn.neural_network", None), ("scikit-learn", "numpy")),
    "scikit-learn, one thread": (partial(fitting, "sklearn.neural_network", 1), ("scikit-learn", "numpy")),
}


def measure(fit: Fit, rounds: int) -> list[rows.Row]:
    """Measure all in turns; before these comes one that loads what is loaded once."""
    workers = {name: Worker("sklearn", name, fit.name) for name in ESTIMATORS}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    try:
        for worker in workers.values():
            worker.ready()
        for _ in range(rounds + 1):
            for name, worker in workers.items():
                time.sleep(PAUSE)
                found[name].append(worker.turn())
    finally:
        for worker in workers.values():
            worker.close()
    made = []
    for told, unit in (("seconds", "s"), ("score", SCORES[fit.kind])):
        values = {name: [turn[told] for turn in turns[1:]] for name, turns in found.items()}
        made += [
            rows.row("sklearn", fit.name, name, unit, values[name], values[OURS], ESTIMATORS[name][1])
            for name in workers
        ]
    return made
