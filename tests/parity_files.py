"""Whether files go both ways between gpumlp and Keras: what one saves the other loads, and goes on training alike.

Run by ``tests/parity.py``, where Keras is installed; files that Keras wrote once are in ``tests/golden/files``.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import gpumlp

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 4))
Y = np.tanh(X[:, :1])
CLOSE = 1e-6  # Keras on JAX has losses and tanh in float32
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam amsgrad": lambda o: o.Adam(0.01, amsgrad=True),
    "SGD, a schedule": lambda o: o.SGD(o.schedules.ExponentialDecay(0.1, 4, 0.5)),
    "SGD, momentum, gathering": lambda o: o.SGD(0.05, momentum=0.9, nesterov=True, gradient_accumulation_steps=3),
    "RMSprop": lambda o: o.RMSprop(0.01, momentum=0.5, centered=True),
    **{
        name: lambda o, name=name: getattr(o, name)(0.01)
        for name in ("Adafactor", "Muon", "Nadam", "Ftrl", "ScheduleFreeAdamW", "Adadelta", "Adamax")
    },
}


def fit(model: Any) -> dict[str, list[float]]:
    return model.fit(X, Y, epochs=2, batch_size=10, shuffle=False, verbose=0).history


def made(library: Any, optimizer: Callable[[Any], Any]) -> Any:
    layers = library.layers
    normalization = layers.Normalization()
    normalization.adapt(X)
    inner = [layers.Dense(5, kernel_constraint="non_neg"), layers.LeakyReLU(0.1), layers.Dense(3, trainable=False)]
    model = library.models.Sequential(
        [
            layers.Input((4,)), normalization,
            layers.Dense(8, activation="gelu", kernel_regularizer="l2", name="first"),
            layers.BatchNormalization(), library.models.Sequential(inner), layers.Activation("tanh"),
            layers.Dropout(0.0), layers.Flatten(), layers.Rescaling(0.5), layers.Dense(1),
        ]
    )  # fmt: skip
    model.compile(optimizer(library.optimizers), library.losses.LogCosh(), metrics=["mae"], weighted_metrics=["mse"])
    fit(model)
    return model


def farthest(one: Any, other: Any) -> float:
    """Return by how much predictions, further losses and then the weights of two models differ; inf for other steps."""
    found = [np.subtract(one.predict(X, verbose=0), other.predict(X, verbose=0))]
    histories = [fit(model) for model in (one, other)]
    if int(one.optimizer.iterations) != int(other.optimizer.iterations) or histories[0].keys() != histories[1].keys():
        return np.inf
    found += [np.subtract(values, histories[1][name]) for name, values in histories[0].items()]
    found += [np.subtract(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True)]
    return max(float(np.abs(each).max()) for each in found)


def exchanged(path: Path, writer: Any, reader: Any, optimizer: Callable[[Any], Any]) -> float:
    one = made(writer, optimizer)
    if path.name.endswith(".weights.h5"):
        other = made(reader, optimizer)
        one.save_weights(path)
        other.load_weights(path)
    else:
        one.save(path)
        other = reader.models.load_model(path)
    return farthest(one, other)


def main() -> int:
    """Print a line for each exchange, and return 1 where one is not close."""
    before = keras.config.floatx(), gpumlp.config.floatx()
    for library in (keras, gpumlp):
        library.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    found = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [(name, "m.keras") for name in OPTIMIZERS] + [("Adam amsgrad", "m.weights.h5"), ("RMSprop", "m.h5")]
        for name, file in cases:
            for writer, reader in ((keras, gpumlp), (gpumlp, keras)):
                if file == "m.h5" and reader is keras:
                    continue  # Keras does not train on what it reads so: its optimizer has no variables then
                by = exchanged(Path(folder) / file, writer, reader, OPTIMIZERS[name])
                found.append(by < CLOSE)
                print(f"{'ok  ' if by < CLOSE else 'FAIL'} {writer.__name__} writes {file}, {name}: {by:.1e}")
        path = Path(folder) / "m.h5"
        one = made(gpumlp, OPTIMIZERS["RMSprop"])
        one.save(path)
        other = keras.models.load_model(path)
        found.append(np.abs(one.predict(X, verbose=0) - other.predict(X, verbose=0)).max() < CLOSE)
        print(f"{'ok  ' if found[-1] else 'FAIL'} gpumlp writes m.h5")
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[0])
    gpumlp.config.set_floatx(before[1])
    return 0 if all(found) else 1
