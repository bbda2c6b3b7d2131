"""Where a model knows, and where it guesses: an ensemble fits y = sin(x), x from 0 to 20, with a part left out.

Ten networks, alike but for their first weights and the order of their batches, are trained together. Where there is
data they agree; where there is none, each goes its own way, and the band of two standard deviations opens.

Run with ``python examples/uncertainty.py``; without a display, ``--output FILE`` writes the plot.
"""

import argparse
import time

import numpy as np
from matplotlib import pyplot as plt

import gpumlp
from gpumlp import layers, models, optimizers, plotting

GAP = 8.0, 12.0  # what no member sees


def build() -> models.Sequential:
    """Return one member, untrained."""
    model = models.Sequential([layers.Input((1,)), layers.Rescaling(1 / 3, -10 / 3)])  # x is 0 to 20
    for _ in range(3):
        model.add(layers.Dense(64, activation="gelu", kernel_initializer="he_uniform"))
    model.add(layers.Dense(1))
    rate = optimizers.schedules.ExponentialDecay(3e-3, decay_steps=2000, decay_rate=0.7)
    model.compile(loss="mse", optimizer=optimizers.Adam(rate))
    return model


def plot(ensemble: gpumlp.Ensemble, x: np.ndarray) -> plt.Axes:
    """Draw what the members make of 0 to 20 and a little more, with the ``x`` that they were trained on."""
    everywhere = np.linspace(-1.0, 21.0, 881)
    axes = plotting.plot_ensemble(
        ensemble, everywhere, data=(x, np.sin(x)), y_true=np.sin(everywhere),
        title="Where there is data they agree; where there is none, the band opens",
    )  # fmt: skip
    axes.axvspan(*GAP, color="0.95", linewidth=0, zorder=0)
    axes.text(sum(GAP) / 2, -2.55, "no data", color="0.45", ha="center", va="bottom")
    axes.set(xlim=(-1, 21), ylim=(-2.6, 2.8), xticks=range(0, 21, 4))
    return axes


def main() -> None:
    """Train, say how far the members disagree, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="file for the plot (default: the screen)")
    parser.add_argument("--epochs", type=int, default=2000, help="passes over the data (default: 2000)")
    chosen = parser.parse_args()
    x = np.arange(0, 20, 0.1)
    x = x[(x <= GAP[0]) | (x >= GAP[1])]

    ensemble = gpumlp.Ensemble(build, members=10)
    began = time.perf_counter()
    ensemble.fit(x, np.sin(x), batch_size=20, epochs=chosen.epochs, verbose=0)
    print(f"trained in {time.perf_counter() - began:.1f} s; {ensemble.program}")
    for name, where in (("with", x), ("without", np.linspace(*GAP, 41)[1:-1])):
        print(f"{name} data the members' spread is on average: {ensemble.predict(where)[1].mean():.4f}")

    plot(ensemble, x)
    if chosen.output:
        plt.savefig(chosen.output)
    else:
        plt.show()


if __name__ == "__main__":
    main()
