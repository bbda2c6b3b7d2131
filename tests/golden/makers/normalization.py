"""Normalization: what training and predicting make of stacks with such layers."""

from __future__ import annotations

import keras
import numpy as np
from makers.recording import Case, drawn, write

STACKS: list[tuple[str, list[tuple[str, Case]]]] = [  # before a Dense of one unit, on samples of (3, 2)
    ("batch", [("Flatten", {}), ("Dense", {"units": 4, "activation": "tanh"}), ("BatchNormalization", {})]),
    ("batch, no beta", [("BatchNormalization", {"momentum": 0.5, "epsilon": 0.1, "center": False}), ("Flatten", {})]),
    ("batch, axis 1", [("BatchNormalization", {"axis": 1, "scale": False, "momentum": 0.8}), ("Flatten", {})]),
    ("batch, nothing", [("Flatten", {}), ("BatchNormalization", {"center": False, "scale": False})]),
    ("batch, frozen", [("Flatten", {}), ("BatchNormalization", {"trainable": False})]),
    ("batch, penalties", [("Flatten", {}), ("BatchNormalization",
                           {"gamma_regularizer": "l2", "beta_regularizer": "l1", "gamma_constraint": "non_neg"})]),
    ("layer", [("Flatten", {}), ("Dense", {"units": 4, "activation": "tanh"}), ("LayerNormalization", {})]),
    ("layer, no gamma, axes", [("LayerNormalization", {"axis": [1, 2], "scale": False}), ("Flatten", {})]),
    ("layer, no beta, axis 1", [("LayerNormalization", {"axis": 1, "center": False, "epsilon": 0.1}), ("Flatten", {})]),
    ("unit", [("UnitNormalization", {}), ("Flatten", {}), ("Dense", {"units": 3}), ("UnitNormalization", {})]),
    ("adapted", [("Normalization", {}), ("Flatten", {})]),
    ("adapted, axes", [("Normalization", {"axis": [1, 2]}), ("Flatten", {})]),
    ("adapted, one", [("Normalization", {"axis": None, "invert": True}), ("Flatten", {})]),
    ("given", [("Normalization", {"axis": [1, 2], "mean": [0.5, 1.0], "variance": [4.0, 0.25]}), ("Flatten", {})]),
    ("given, inverse", [("Flatten", {}), ("Normalization", {"mean": 0.5, "variance": 0.0, "invert": True})]),
]  # fmt: skip


def normalization() -> None:
    """Predictions and weights after each of three epochs of batches of 4, 4 and 2, by SGD with 0.02, of mse.

    A Normalization that is given nothing is adapted to twice x. ``weights``: all, before the first epoch; what a
    variance is made of is positive.
    """
    keras.config.set_dtype_policy("float64")
    x, y = drawn(300, 10, 3, 2, low=-1.0, high=3.0), drawn(301, 10, 1)
    inputs, cases = {"x": x, "y": y, "sample_weight": drawn(302, 10, low=0.5)}, []
    for k, (name, stack) in enumerate(STACKS):
        keras.backend.clear_session()
        found = [getattr(keras.layers, kind)(**config) for kind, config in stack]
        model = keras.Sequential([keras.Input((3, 2)), *found, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.02), "mse")
        for i, variable in enumerate(model.variables[: len(model.weights)]):
            inputs[f"w{k}_{i}"] = drawn(310 + 10 * k + i, *variable.shape, low=0.5 if variable.ndim == 1 else -2.0)
            variable.assign(inputs[f"w{k}_{i}"])
        for layer in found:
            if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
                layer.adapt(2 * x)
                layer.count.assign(0)
        steps, outputs = [], []
        for _ in range(3):
            how = {"sample_weight": inputs["sample_weight"]} if "Batch" in str(stack) else {}
            model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0, **how)
            steps.append([np.array(w, "f8") for w in model.get_weights()])
            outputs.append(model.predict(x, verbose=0))
        weights = [f"w{k}_{i}" for i in range(len(model.weights))]
        given = {"x": "x", "y": "y", "stack": stack, "weights": weights, "sample_weight": next(iter(how), None)}
        expected = {"steps": steps, "outputs": outputs}
        cases.append({"name": name, "config": {}, "inputs": given, "expected": expected, "marks": {}})
    write("normalization", cases, inputs)
