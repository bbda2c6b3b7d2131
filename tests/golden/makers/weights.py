"""What is said about weights: initializers, regularizers, constraints."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from makers.recording import Case, drawn, kinks, write

SHAPES = ((4, 3), (5,), (1, 7), (3, 3, 2, 4))
SCALINGS = [{"scale": s, "mode": m, "distribution": d} for s, m, d in (
    (1.0, "fan_in", "truncated_normal"), (2.0, "fan_out", "untruncated_normal"), (0.5, "fan_avg", "uniform"),
    (0.5, "fan_in", "uniform"), (2.0, "fan_avg", "truncated_normal"))]  # fmt: skip
INITIALIZERS: list[tuple[str, list[Case], Any]] = [
    ("Zeros", [{}], SHAPES), ("Ones", [{}], SHAPES), ("Constant", [{}, {"value": 1.5}], SHAPES[:2]),
    ("Identity", [{}, {"gain": 2.0}], ((3, 3), (4, 3), (2, 5))), ("STFT", [{}], ((4, 1, 6),)),
    *((n, [{}], SHAPES) for n in
      ("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal")),
    ("VarianceScaling", [{}, *SCALINGS], SHAPES), ("RandomNormal", [{}, {"mean": 1.0, "stddev": 2.0}], SHAPES[:1]),
    ("RandomUniform", [{}, {"minval": -1.0, "maxval": 3.0}], SHAPES[:1]),
    ("TruncatedNormal", [{}, {"mean": 1.0, "stddev": 2.0}], SHAPES[:1]),
    ("Orthogonal", [{}, {"gain": 2.0}], ((4, 3), (3, 4), (3, 3), (2, 3, 4))),
]  # fmt: skip


def initializers() -> None:
    """``values``, or where they are random what they are drawn from: ``distribution`` and its parameters.

    A truncated normal's stddev is that of the normal before it is cut off at two of them. Of Orthogonal there is
    ``gram``: of the array taken as a matrix with the last axis as columns, the smaller of a' a and a a'.
    """
    from keras.src.initializers import random_initializers

    cases, draws = [], []
    source = random_initializers.random

    class Recorder:
        """Keras's random numbers, with a note of what was asked for."""

        def __getattr__(self, name: str) -> Any:
            def draw(*args: Any, **kwargs: Any) -> Any:
                bound = inspect.signature(getattr(source, name)).bind(*args, **kwargs)
                bound.apply_defaults()
                kept = {k: float(v) for k, v in bound.arguments.items() if k in ("minval", "maxval", "mean", "stddev")}
                draws.append({"distribution": name} | kept)
                return getattr(source, name)(*args, **kwargs)

            return draw if name in ("uniform", "normal", "truncated_normal") else getattr(source, name)

    random_initializers.random = Recorder()
    for name, configs, shapes in INITIALIZERS:
        for config, shape in ((c, s) for c in configs for s in shapes):
            draws.clear()
            values = np.asarray(getattr(keras.initializers, name)(**config)(shape, dtype="float64"))
            expected: Case = draws[0] if draws else {"values": values}
            if name == "Orthogonal":
                flat = values.reshape(-1, shape[-1])
                gram = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
                expected = {"gram": np.round(gram, 6) + 0.0}
            cases.append(
                {"name": name, "config": config, "inputs": {"shape": shape}, "expected": expected, "marks": {}}
            )
    random_initializers.random = source
    write("initializers", cases)


def regularizers() -> None:
    """The penalty of w, and dw: its gradient."""
    w = drawn(80, 4, 3)
    w[1, 1] = 0.0
    inputs, cases = {"w": w, "zero": np.zeros((2, 2)), "vector": drawn(81, 5)}, []
    orthogonal = [{}, {"mode": "columns"}, {"factor": 0.5}]
    for name, configs, on in (
        ("L1", [{}, {"l1": 0.3}], ("w", "zero", "vector")), ("L2", [{}, {"l2": 0.3}], ("w", "zero", "vector")),
        ("L1L2", [{}, {"l1": 0.3}, {"l2": 0.2}, {"l1": 0.3, "l2": 0.2}], ("w", "vector")),
        ("OrthogonalRegularizer", orthogonal, ("w",)),
    ):  # fmt: skip
        for config, key in ((c, k) for c in configs for k in on):
            regularizer = getattr(keras.regularizers, name)(**config)

            def penalty(w: Any, regularizer: Any = regularizer) -> Any:
                return jnp.sum(regularizer(w))

            slopes = jax.grad(penalty)
            expected = {"penalty": penalty(jnp.asarray(inputs[key])), "dw": slopes(jnp.asarray(inputs[key]))}
            kink, tie = kinks(slopes, inputs[key], 1e-12, 1e-3)
            marks = {k: v for k, v in (("kink", kink), ("tie", tie)) if v}
            cases.append({"name": name, "config": config, "inputs": {"w": key}, "expected": expected, "marks": marks})
    write("regularizers", cases, inputs)


def constraints() -> None:
    """What a constraint makes of w."""
    w = drawn(82, 4, 3)
    w[:, 2], w[3] = 0.0, -0.0  # a column and a row without length
    inputs, cases = {"w": w, "small": drawn(83, 4, 3, low=-0.2, high=0.2), "cube": drawn(84, 2, 3, 4)}, []
    bounds = {"min_value": 0.5, "max_value": 1.0}
    for name, configs in (
        ("MaxNorm", [{}, {"max_value": 0.7}, {"max_value": 0.7, "axis": 1}]), ("NonNeg", [{}]),
        ("UnitNorm", [{}, {"axis": 1}]),
        ("MinMaxNorm", [{}, bounds, bounds | {"rate": 0.3}, bounds | {"rate": 0.3, "axis": 1}]),
    ):  # fmt: skip
        for config, key in ((c, k) for c in configs for k in inputs):
            value = getattr(keras.constraints, name)(**config)(jnp.asarray(inputs[key]))
            case = {"name": name, "config": config, "inputs": {"w": key}, "expected": {"w": value}, "marks": {}}
            cases.append(case)
    write("constraints", cases, inputs)
