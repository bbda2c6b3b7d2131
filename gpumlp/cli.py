"""The commands: ``demo`` trains the article's network and plots it, ``info`` says what there is."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import gpumlp
from gpumlp import devices, layers, models
from gpumlp.utils import set_random_seed

# (name, steps per epoch, epochs): the article's two settings, and one that fits all of [0, 20]
SETTINGS = (("short", 10, 10), ("article", 30, 30), ("long", 10, 600))


def article_model() -> models.Sequential:
    """Return the article's network: seven Dense(256, relu) and a Dense(1); 395,521 parameters."""
    stack: list[layers.Layer] = [layers.Input(shape=(1,))]
    stack += [layers.Dense(256, activation="relu") for _ in range(7)]
    return models.Sequential([*stack, layers.Dense(1)])


def demo(folder: Path) -> int:
    """Fit sin(x) with each setting, print a table and write the plots into ``folder``."""
    import warnings

    import matplotlib

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
    for name, steps, epochs in SETTINGS:
        set_random_seed(0)
        model = article_model()
        model.compile(loss="mse", optimizer="adam")
        began = time.perf_counter()
        with warnings.catch_warnings():  # 200 samples make 29 batches of 7, not 30: known, and shown in the title
            warnings.simplefilter("ignore", UserWarning)
            history = model.fit(x, np.sin(x), steps_per_epoch=steps, epochs=epochs, verbose=0)
        seconds = time.perf_counter() - began
        prediction = model.predict(test_x, verbose=0)
        error = float(np.mean((prediction[:, 0] - np.sin(test_x)) ** 2))
        trained = f"{steps} steps x {epochs} epochs"
        print(
            f"{name:<8} {f'{steps} x {epochs}':>14} {model.device.name:>6} {model.count_params():>10,} {seconds:>8.2f} "
            f"{error:>13.2e}"
        )
        curves[f"{trained}: loss"] = history.history["loss"]
        axes = plot_prediction(
            test_x, np.sin(test_x), prediction, f"y = sin(x), 1-256x7-1, Adam, {trained}: MSE {error:.1e}"
        )
        axes.figure.savefig(folder / f"sine_{name}.png", dpi=120)
        pyplot.close(axes.figure)
    axes = plot_history(curves, "y = sin(x), 1-256x7-1, Adam: training loss")
    axes.figure.savefig(folder / "loss.png", dpi=120)
    pyplot.close(axes.figure)
    print(f"plots: {', '.join(str(p) for p in sorted(folder.glob('*.png')))}")
    return 0


def info() -> int:
    """Print versions, the BLAS and its threads, and what ``device="auto"`` picks and why."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    threads = {
        name: os.environ[name] for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        if name in os.environ
    }  # fmt: skip
    auto = devices.resolve(None)
    rows = {
        "gpumlp": gpumlp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "blas threads": ", ".join(f"{k}={v}" for k, v in threads.items())
        or f"its default, {os.cpu_count()} processors",
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
    return info() if chosen.command == "info" else demo(chosen.output)
