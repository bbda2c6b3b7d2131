"""The commands: ``demo`` trains the article's network and plots it, ``info`` says what there is."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import gpumlp
from gpumlp import callbacks, devices, layers, models
from gpumlp.utils import set_random_seed

# (name, steps per epoch, epochs, whether the best epoch's weights are kept): the article's two settings, and one that
# fits all of [0, 20]; its loss falls below 1e-4 but swings up again now and then, so the last epoch is a matter of luck
SETTINGS = (("short", 10, 10, False), ("article", 30, 30, False), ("long", 10, 600, True))


def article_model() -> models.Sequential:
    """Return the article's network: seven Dense(256, relu) and a Dense(1); 395,521 parameters."""
    stack: list[layers.Layer] = [layers.Input(shape=(1,))]
    stack += [layers.Dense(256, activation="relu") for _ in range(7)]
    return models.Sequential([*stack, layers.Dense(1)])


def demo(folder: Path) -> int:
    """Fit sin(x) with each setting, print a table and write the plots into ``folder``."""
    try:
        import matplotlib
    except ImportError:
        print("The demo draws plots and needs matplotlib: pip install 'gpumlp[plot]'.", file=sys.stderr)
        return 1
    matplotlib.use("Agg")
    from matplotlib import pyplot

    from gpumlp.plotting import plot_history, plot_prediction

    folder.mkdir(parents=True, exist_ok=True)
    x = np.arange(0, 20, 0.1)
    test_x = x + 0.05
    curves = {}
    print(
        f"{'setting':<8} {'steps x epochs':>14} {'device':>6} {'parameters':>10} {'seconds':>8} {'MSE(x + 0.05)':>13}"
    )
    for name, steps, epochs, best in SETTINGS:
        set_random_seed(0)
        model = article_model()
        model.compile(loss="mse", optimizer="adam")
        keep = callbacks.EarlyStopping("loss", patience=epochs, restore_best_weights=True) if best else None
        began = time.perf_counter()
        with warnings.catch_warnings():  # 200 samples make 29 batches of 7, not 30: known, and shown in the title
            warnings.simplefilter("ignore", UserWarning)
            history = model.fit(x, np.sin(x), steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=keep)
        seconds = time.perf_counter() - began
        prediction = model.predict(test_x, verbose=0)
        error = float(np.mean((prediction[:, 0] - np.sin(test_x)) ** 2))
        trained = f"{steps} steps x {epochs} epochs" + (", best epoch" if best else "")
        print(
            f"{name:<8} {f'{steps} x {epochs}':>14} {model.device.name:>6} {model.count_params():>10,} {seconds:>8.2f} "
            f"{error:>13.2e}"
        )
        curves[f"{steps} steps x {epochs} epochs: loss"] = history.history["loss"]
        axes = plot_prediction(
            test_x, np.sin(test_x), prediction, f"y = sin(x), 1-256x7-1, Adam, {trained}: MSE {error:.1e}"
        )
        axes.figure.savefig(folder / f"sine_{name}.png", dpi=120)
        pyplot.close(axes.figure)
    axes = plot_history(dict(reversed(curves.items())), "y = sin(x), 1-256x7-1, Adam: training loss")
    axes.set_xscale("log")  # the short settings would be a dot beside the long one
    axes.figure.savefig(folder / "loss.png", dpi=120)
    pyplot.close(axes.figure)
    print(f"plots: {', '.join(str(p) for p in sorted(folder.glob('*.png')))}")
    return 0


def blas_threads() -> str:
    """Return how many threads the BLAS uses: asked of the OpenBLAS in NumPy's wheels, otherwise what is set."""
    base = Path(np.__file__).parent
    for library in [*base.parent.glob("numpy.libs/*openblas*"), *base.glob(".dylibs/*openblas*")]:
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            count = getattr(ctypes.CDLL(str(library)), f"{prefix}openblas_get_num_threads{suffix}", None)
            if count is not None:
                return str(count())
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    return ", ".join(f"{n}={os.environ[n]}" for n in names if n in os.environ) or "its default"


def info() -> int:
    """Print versions, the BLAS and its threads, and what ``device="auto"`` picks and why."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    auto = devices.resolve(None)
    rows = {
        "gpumlp": gpumlp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "blas threads": f"{blas_threads()} ({os.cpu_count()} processors)",
        "device": f"{auto.name} ({auto.reason})",
    }
    for name, value in rows.items():
        print(f"{name:<13} {value}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gpumlp")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, and what device='auto' picks and why")
    show = commands.add_parser("demo", help="fit y = sin(x) with the article's network and plot it")
    show.add_argument("--output", type=Path, default=Path("demo"), help="folder for the plots (default: demo)")
    chosen = parser.parse_args(arguments)
    if chosen.command == "info":
        return info()
    try:
        return demo(chosen.output)
    except OSError as error:  # no such place, no permission, full disk
        print(f"The plots cannot be written to {chosen.output}: {error}. Choose another --output.", file=sys.stderr)
        return 1
