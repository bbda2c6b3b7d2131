"""loky's processes, which are joblib's, and take functions of a notebook, too."""

import numpy as np
from loky import get_reusable_executor

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


if __name__ == "__main__":
    executor = get_reusable_executor(2)
    main(executor)
    executor.shutdown()
