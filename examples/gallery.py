"""One picture of each kind that `gpumlp.plotting` draws, of networks that are trained in a second or two.

Run with ``python examples/gallery.py``; it writes into ``examples/plots/gallery/``, or where ``--output`` says.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import gpumlp
from gpumlp import layers, models, plotting
from gpumlp.cli import article_model
from gpumlp.utils import clear_session, plot_model, set_random_seed

FOLDER = Path(__file__).parent / "plots" / "gallery"


def network(outputs: int, units: int = 64, loss: str = "mse", metric: str = "mae") -> models.Sequential:
    """Return a compiled network of two hidden layers, for 6 inputs."""
    last = "softmax" if "crossentropy" in loss else "linear"
    model = models.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(units, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(units, activation="relu"),
            layers.Dense(outputs, activation=last),
        ]
    )
    model.compile(loss=loss, optimizer="adam", metrics=[metric])
    return model


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, and a target of three of them with a little noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 6))
    return x, np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + random.normal(0, 0.1, count)


def clouds(classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return clouds of points, one a class, that overlap with some of their neighbours."""
    random = np.random.default_rng(classes)
    number = random.integers(0, classes, count)
    return random.normal(0, 2.0 if classes > 2 else 0.6, (classes, 6))[number] + random.normal(size=(count, 6)), number


def regression() -> Iterator[str]:
    """Curves, predictions and residuals, weights and outputs of one network."""
    x, y = samples(1200)
    model = network(1)
    history = model.fit(x[:900], y[:900], epochs=60, validation_data=(x[900:], y[900:]), verbose=0)
    found = model.predict(x[900:], verbose=0)
    plotting.plot_history(history)
    yield "history"
    plotting.plot_parity(y[900:], found, title="300 samples that training never saw")
    yield "parity"
    plotting.plot_residuals(y[900:], found)
    yield "residuals"
    plotting.plot_weights(model)
    yield "weights"
    plotting.plot_activations(model, x)
    yield "activations"


def dead_units() -> Iterator[str]:
    """Outputs of the article's network, which loses many of its relus at once."""
    x = np.arange(0, 20, 0.1)
    model = article_model()
    model.compile(loss="mse", optimizer="adam")
    model.fit(x, np.sin(x), steps_per_epoch=10, epochs=10, verbose=0)
    plotting.plot_activations(model, x, title="y = sin(x) by 7 layers of 256 relus, after 100 steps")
    yield "dead_units"


def comparison() -> Iterator[str]:
    """The losses of networks of three widths."""
    x, y = samples(400)
    y += np.random.default_rng(1).normal(0, 0.3, len(y))
    runs = {
        f"{units} units": network(1, units).fit(x, y, epochs=120, validation_split=0.5, verbose=0)
        for units in (4, 32, 256)
    }
    plotting.plot_history(runs, "loss", title="Three widths: the widest learns its samples by heart")
    yield "comparison"


def classification() -> Iterator[str]:
    """Confusion matrices of two classes, and of thirty."""
    for classes in (2, 30):
        x, number = clouds(classes, 200 * classes)
        half = len(x) // 2
        model = network(classes, 64, "sparse_categorical_crossentropy", "accuracy")
        model.fit(x[:half], number[:half], epochs=20, verbose=0)
        names = ["left", "right"] if classes == 2 else None
        plotting.plot_confusion_matrix(number[half:], model.predict(x[half:], verbose=0), names)
        yield f"confusion_{classes}"


def curve() -> Iterator[str]:
    """A prediction over noisy measurements."""
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(0, 6, 150))
    y = np.sin(x) + random.normal(0, 0.15, len(x))
    model = member()
    model.fit(x, y, batch_size=10, epochs=500, verbose=0)
    plotting.plot_prediction(x, y, model.predict(x, verbose=0), points=True, title="sin(x), measured with noise")
    yield "prediction"


def member() -> models.Sequential:
    """Return a compiled network for one input."""
    model = models.Sequential([layers.Input((1,)), layers.Dense(64, "relu"), layers.Dense(64, "relu"), layers.Dense(1)])
    model.compile(loss="mse", optimizer="adam")
    return model


def ensemble() -> Iterator[str]:
    """An ensemble's band, and its members' losses."""
    x = np.concatenate([np.linspace(-3, -1, 40), np.linspace(0.5, 2, 30)])
    several = gpumlp.Ensemble(member, members=8)
    histories = several.fit(x, np.sin(2 * x), batch_size=10, epochs=500, verbose=0)
    everywhere = np.linspace(-4, 3, 300)
    plotting.plot_ensemble(several, everywhere, data=(x, np.sin(2 * x)), y_true=np.sin(2 * everywhere))
    yield "ensemble"
    plotting.plot_history(histories, title="Eight members' losses")
    yield "members"


def save(path: Path) -> None:
    """Write the current figure with 200 colours, which are enough for it: a third of the bytes."""
    picture = io.BytesIO()
    plt.savefig(picture)
    Image.open(picture).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)


PARTS: tuple[Callable[[], Iterator[str]], ...] = (regression, dead_units, comparison, classification, curve, ensemble)


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        set_random_seed(0)
        clear_session()  # layers are called "dense" again
        for name in part():
            save(folder / f"{name}.png")
            plt.close()
    plot_model(network(1), folder / "model.png", show_shapes=True, show_layer_activations=True, dpi=100)
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main()
