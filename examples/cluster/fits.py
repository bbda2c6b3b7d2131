"""What the scripts here have workers train: an ensemble, and a search. Workers find it where these scripts stand."""

import numpy as np

import gpumlp
from gpumlp import layers, models, optimizers


def build(units=32, rate=0.01):
    hidden = [layers.Dense(units, "tanh") for _ in range(2)]
    model = models.Sequential([layers.Input((1,)), *hidden, layers.Dense(1)])
    model.compile(optimizers.Adam(rate), "mse")
    return model


def main(executor):
    x = np.linspace(-1, 1, 400)[:, None]
    y = np.sin(3 * x)
    ensemble = gpumlp.Ensemble(build, members=8)
    ensemble.fit(x, y, epochs=100, verbose=2, executor=executor)
    print(ensemble.program)
    grid = {"units": [8, 32], "rate": [0.003, 0.03]}
    found = gpumlp.search(build, grid, x, y, epochs=100, verbose=2, executor=executor)
    print(found)
