"""What the tests of the whole-fit kernel share: networks to train, plans to force, and what training leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from gpumlp import layers, models, optimizers
from gpumlp.engine import fit_plan
from gpumlp.training import loop
from gpumlp.utils import set_random_seed

Dense = layers.Dense


@dataclass(frozen=True)
class Case:
    """A network and its training, and how the kernel is to do it: from ``group`` on."""

    stack: Callable[[], list[Any]]
    features: int = 3
    samples: int = 15
    batch: int = 7
    epochs: int = 2
    loss: Any = "mse"
    targets: str = "numbers"  # or "labels", "one hot", "shares" (in [0, 1])
    optimizer: Callable[[], Any] = optimizers.Adam
    metrics: tuple[str, ...] = ()
    weighted_metrics: tuple[str, ...] = ()
    weighted: bool = False
    rates: tuple[float, ...] = ()  # assigned after each epoch
    group: int = 2
    threads: int = 64
    most: int = 4  # columns that a thread updates at once
    exchange: str = "tags"
    shared: int | None = None

    def data(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return x, y and the samples' weights."""
        rng, outputs = np.random.default_rng(seed), self.outputs()
        x = rng.standard_normal((self.samples, self.features)).astype(np.float32)
        classes = rng.integers(0, outputs, self.samples)
        y = {
            "numbers": rng.standard_normal((self.samples, outputs)), "labels": classes,
            "one hot": np.eye(outputs)[classes], "shares": rng.uniform(0, 1, (self.samples, outputs)).round(),
        }[self.targets]  # fmt: skip
        weights = rng.uniform(0.5, 2, self.samples).astype(np.float32) if self.weighted else None
        return x, y.astype(np.float32), weights

    def outputs(self) -> int:
        return next(layer.units for layer in reversed(self.stack()) if isinstance(layer, Dense))

    def build(self, device: str, dtype: str = "float32", seed: int = 0) -> models.Sequential:
        """Return the compiled model."""
        set_random_seed(seed)
        model = models.Sequential([layers.Input((self.features,)), *self.stack()], dtype=dtype)
        loss = self.loss() if callable(self.loss) else self.loss
        named = {"metrics": list(self.metrics), "weighted_metrics": list(self.weighted_metrics)}
        model.compile(self.optimizer(), loss, **named, device=device)
        return model


def force(monkeypatch, case: Case) -> None:
    """Let plans be of this group and these threads, and exchange so."""
    monkeypatch.setattr(fit_plan, "_groups", lambda problem, multiprocessors: [case.group])
    monkeypatch.setattr(fit_plan, "_threads", lambda problem, group: [(case.most, case.threads)])
    monkeypatch.setenv("GPUMLP_FIT", case.exchange)


def train(case: Case, model: models.Sequential, seed: int = 0, **how: Any) -> dict[str, np.ndarray]:
    """Train, and return the weights, the optimizer's state and every step's logs, by name."""
    x, y, weights = case.data(seed)
    found: list[Any] = []
    add = loop.Averages.add

    def note(self, logs):
        found.append(logs)
        add(self, logs)

    def assign(epoch, logs):
        if epoch < len(case.rates):
            model.optimizer.learning_rate = case.rates[epoch]

    how = {"batch_size": case.batch, "epochs": case.epochs, "shuffle": False, "verbose": 0, **how}
    if case.rates:
        from gpumlp.callbacks import LambdaCallback

        how["callbacks"] = LambdaCallback(on_epoch_end=assign)
    with mock.patch.object(loop.Averages, "add", note):
        model.fit(x, y, sample_weight=weights, **how)
    logs = {name: np.concatenate([getattr(f, name) for f in found]) for name in ("losses", "totals", "counts")}
    return {**state(model), **logs}


def state(model: models.Sequential) -> dict[str, np.ndarray]:
    """Return the weights and the optimizer's state, flat."""
    slots = {
        name: np.concatenate([array.ravel() for array in arrays])
        for name, arrays in (model.optimizer.saved() or {}).items()
    }
    weights = (
        model.get_weights() if model._runner.weights is None else model._runner.weights.get()
    )  # inside the gate too
    return {"weights": np.concatenate([w.ravel() for w in weights]), **slots}


def by_numpy(case: Case, dtype: str, seed: int = 0, **how: Any) -> dict[str, np.ndarray]:
    """Train in NumPy."""
    with mock.patch.dict(os.environ, GPUMLP_KERNELS="numpy"):
        return train(case, case.build("cpu", dtype, seed), seed, **how)


def by_kernel(case: Case, seed: int = 0, **how: Any) -> dict[str, np.ndarray]:
    """Train by the whole-fit kernel."""
    model = case.build("cuda", seed=seed)
    found = train(case, model, seed, **how)
    assert model.program.startswith("whole-fit kernel"), model.program
    return found


def assert_same_bits(runs: list[dict[str, np.ndarray]]) -> None:
    for name, value in runs[0].items():
        for k, other in enumerate(runs[1:], 1):
            assert np.array_equal(value, other[name], equal_nan=True), (name, k)


def launches_of(runtime: Any) -> list[tuple[str, int]]:
    """Return a list to which every launch from now on is added: the kernel and its blocks."""
    launched: list[tuple[str, int]] = []
    launch = runtime.launch

    def note(file, function, defines, grid, arguments, **how):
        launched.append((function, grid[0] * grid[1]))
        launch(file, function, defines, grid, arguments, **how)

    runtime.launch = note
    return launched
