"""What the sanitizer looks at: short whole fits with either exchange, and small cases of ``python -m gpumlp check``.

The losses of both fits must be the same to the bit. The sanitizer slows a kernel a hundredfold, so there are few steps.
All stands in one process, as most of the sanitizer's time is a process's start.
"""

from __future__ import annotations

import os
import sys

import environment  # noqa: F401, its paths come before the package
import numpy as np

STEPS, BATCH = 3, 8


def losses(exchange: str) -> list[float]:
    """Return the losses of a fit by this exchange; RuntimeError where no blocks exchanged anything."""
    from gpumlp import layers, models, utils

    os.environ["GPUMLP_FIT"] = exchange
    utils.set_random_seed(0)
    stack = [layers.Dense(64, "relu", input_shape=(3,)), layers.Dense(64, "silu", kernel_regularizer="l2")]
    model = models.Sequential([*stack, layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"], device="cuda")
    x = np.linspace(-1, 1, 3 * STEPS * BATCH - 3, dtype=np.float32).reshape(-1, 3)  # the last batch is ragged
    history = model.fit(x, x[:, :2], batch_size=BATCH, epochs=2, verbose=0).history
    if "exchange by" not in model.program:
        raise RuntimeError(f"no whole fit of several blocks: {model.program}")
    print(f"{exchange}: {history['loss']}; {model.program}", flush=True)
    return history["loss"]


def whole_fits() -> None:
    """Run both fits."""
    if losses("tags") != losses("barrier"):
        raise RuntimeError("tags and barrier differ")


if __name__ == "__main__":
    from gpumlp import cli

    whole_fits()
    sys.exit(cli.main(["check", "--small", "--kernels", "cuda"]))
