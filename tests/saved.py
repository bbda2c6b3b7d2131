"""What the tests of files save: models, what they are trained on, and with which optimizers."""

from pathlib import Path

import numpy as np

from gpumlp import (
    layers,
    losses,
    metrics,
    models,
    optimizers,
)

GOLDEN = Path(__file__).parent / "golden" / "files"
X = np.linspace(-1.0, 1.0, 48, dtype=np.float32).reshape(12, 4)
Y = np.sin(X[:, :1] * 3)
WHOLE = ("m.keras", "m.h5", "m.gpumlp")
WEIGHTS = ("m.weights.h5", "m.safetensors", *WHOLE)
OPTIMIZERS = {
    "Adam, averages": lambda: optimizers.Adam(0.01, use_ema=True, amsgrad=True),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "SGD, a schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
    "Lion, gathering": lambda: optimizers.Lion(0.01, gradient_accumulation_steps=2, weight_decay=0.1),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Adafactor": lambda: optimizers.Adafactor(0.01),
    "Muon": lambda: optimizers.Muon(0.01),
    "ScheduleFreeAdamW": lambda: optimizers.ScheduleFreeAdamW(0.01),
}


def made(optimizer="adam", units=3, dtype=None, drop=0.0):
    model = models.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(units, activation="tanh", kernel_regularizer="l2"),
            layers.Dropout(drop),
            models.Sequential([layers.Dense(3, trainable=False), layers.BatchNormalization()]),
            layers.Dense(1),
        ],
        dtype=dtype,
    )
    model.compile(optimizer, losses.Huber(), metrics=["mae"], weighted_metrics=[metrics.MeanSquaredError()])
    return model


def fit(model, epochs=2, **more):
    return model.fit(X, Y, batch_size=5, epochs=epochs, verbose=0, **more)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
