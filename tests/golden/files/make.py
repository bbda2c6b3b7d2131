"""Write the files that Keras saves, and what its models then predict and go on to, for tests that have no Keras.

.venv-parity/bin/python tests/golden/files/make.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

HERE = Path(__file__).parent
X = np.round(np.random.default_rng(0).normal(size=(12, 4)), 3)
Y = np.round(np.tanh(X[:, :1] * X[:, 1:2]), 3)


def fit(model: Any) -> dict[str, list[float]]:
    return model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0).history


def full() -> Any:
    normalization = keras.layers.Normalization()
    normalization.adapt(X)
    inner = [keras.layers.Dense(2, kernel_constraint="max_norm"), keras.layers.LeakyReLU(0.1)]
    return keras.Sequential(
        [
            keras.Input((4,)),
            normalization,
            keras.layers.Dense(3, activation="relu", kernel_regularizer="l2", name="first"),
            keras.layers.BatchNormalization(),
            keras.Sequential(inner),
            keras.layers.Dense(2, trainable=False),
            keras.layers.Dropout(0.0),
            keras.layers.Activation("tanh"),
            keras.layers.Dense(1),
        ]
    )


def plain() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="gelu"), keras.layers.Dense(1)])


def main() -> None:
    cases = []
    optimizers = keras.optimizers
    runs = {
        "full.keras": (full, optimizers.Adam(0.01, amsgrad=True), None),
        "gathering.keras": (plain, optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2), None),
        "decaying.keras": (plain, optimizers.RMSprop(optimizers.schedules.CosineDecay(0.01, 30)), None),
        "fresh.keras": (plain, optimizers.Adam(0.01), None),
        "plain.weights.h5": (
            plain,
            optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
            "gathering.keras",
        ),
        "legacy.h5": (plain, optimizers.AdamW(0.01), None),
    }
    for name, (make, optimizer, whole) in runs.items():
        keras.utils.set_random_seed(1)
        model = make()
        model.compile(optimizer, "mse", metrics=["mae", keras.metrics.RootMeanSquaredError(name="root")])
        for _ in range(name.count("plain") + (name != "fresh.keras")):
            fit(model)
        model.save_weights(HERE / name) if whole else model.save(HERE / name)
        case = {"file": name, "weights": whole, "x": X.tolist(), "y": Y.tolist()}
        case |= {"predictions": model.predict(X, verbose=0).tolist(), "iterations": int(optimizer.iterations)}
        cases.append(case | {"history": fit(model)})
    (HERE / "expected.json").write_text(
        "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
