"""Activations: values and slopes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from makers.recording import INF, NAN, Case, drawn, kinks, places, write

# Ordinary numbers, every kink that one of the functions has, and what lies far out.
LINE = [
    0.0, -0.0, 0.25, -0.25, 0.7, -0.7, 1.7, -1.3, 2.6, -2.2, 4.5, -4.1, 5.5, -7.5, 9.0, -12.0,
    0.5, -0.5, 1.0, -1.0, 1.5, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0,
    1e-8, -1e-8, 1e-300, -1e-300, 30.0, -30.0, 50.0, -50.0, 800.0, -800.0, 1e3, -1e3, 1e30, -1e30, 1e200, -1e200,
    INF, -INF, NAN,
]  # fmt: skip
ELEMENTWISE: dict[str, list[Case]] = {
    "linear": [{}],
    "relu": [
        {}, {"negative_slope": 0.1}, {"max_value": 2.0}, {"max_value": 6.0}, {"threshold": 1.5}, {"threshold": -1.0},
        {"negative_slope": 0.1, "max_value": 2.0}, {"negative_slope": 0.1, "threshold": 1.5},
        {"negative_slope": 0.2, "max_value": 3.0, "threshold": 0.5},
        {"negative_slope": 0.2, "max_value": 3.0, "threshold": -0.5}, {"max_value": 3.0, "threshold": 1.5},
    ],
    "relu6": [{}], "leaky_relu": [{}, {"negative_slope": 0.0}, {"negative_slope": 0.3}], "selu": [{}],
    "elu": [{}, {"alpha": 0.5}], "celu": [{}, {"alpha": 0.5}, {"alpha": 2.0}],
    "gelu": [{}, {"approximate": True}], "silu": [{}], "mish": [{}], "sigmoid": [{}], "hard_sigmoid": [{}],
    "hard_silu": [{}], "tanh": [{}], "hard_tanh": [{}], "tanh_shrink": [{}],
    "soft_shrink": [{}, {"threshold": 1.0}], "hard_shrink": [{}, {"threshold": 1.0}],
    "softplus": [{}], "softsign": [{}], "squareplus": [{}, {"b": 1}, {"b": 0.0}], "log_sigmoid": [{}],
    "exponential": [{}], "sparse_plus": [{}], "sparse_sigmoid": [{}],
    "threshold": [{"threshold": 0.5, "default_value": -2.0}, {"threshold": -1.0, "default_value": 0.0}],
}  # fmt: skip
ROWS = [
    [0.5, -1.2, 2.0, 0.1], [1.0, 1.0, 0.25, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, -2.0, 0.1, 2.9],
    [1e3, -1e3, 999.0, 0.0], [1e30, 1e30, -1e30, 1.0], [-INF, 0.5, 0.25, 1.0], [INF, 0.5, -1.0, 2.0],
    [INF, INF, 0.0, -INF], [NAN, 0.0, 1.0, 2.0],
]  # fmt: skip
ROWWISE: dict[str, list[Case]] = {
    "softmax": [{}, {"axis": 0}, {"axis": 1}, {"axis": [0, 2]}], "log_softmax": [{}, {"axis": 0}, {"axis": 1}],
    "glu": [{}, {"axis": 0}], "sparsemax": [{}, {"axis": 0}, {"axis": 1}],
}  # fmt: skip


def activations() -> None:
    """y = f(x), and dx: the gradient of sum(c y) by x."""
    line, cube = np.array(LINE), drawn(1, 2, 3, 4)
    inputs = {
        "line": line, "line_c": drawn(2, line.size, low=0.5, high=1.5) * np.where(np.arange(line.size) % 3, 1.0, -1.0),
        "rows": np.array(ROWS), "rows_c": drawn(3, *np.shape(ROWS)), "rows_c_half": drawn(4, len(ROWS), 2),
        "cube": cube, "cube_c": drawn(5, *cube.shape), "cube_c_half": drawn(6, 1, 3, 4),
    }  # fmt: skip
    cases = []
    every = [(n, k, "line", "line_c") for n, all_ in ELEMENTWISE.items() for k in all_]
    for name, configs in ROWWISE.items():
        half = "_half" if name == "glu" else ""
        every += [(name, {}, "rows", "rows_c" + half), (name, {}, "cube", "cube_c" + half * 0) if not half else None]
        every += [(name, k, "cube", "cube_c" + half) for k in configs if k]
    for name, config, x_name, c_name in filter(None, every):
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        function, x, c = getattr(keras.activations, name), inputs[x_name], inputs[c_name]

        def slopes(x: Any, f: Any = function, given: Case = given, c: Any = c) -> Any:
            return jax.vjp(lambda x: f(x, **given), x)[1](jnp.asarray(c))[0]

        y, dx = np.asarray(function(jnp.asarray(x), **given)), np.asarray(slopes(jnp.asarray(x)))
        case = {"name": name, "config": config, "inputs": {"x": x_name, "c": c_name}, "expected": {"y": y, "dx": dx}}
        kink, tie = kinks(slopes, x, 1e-13, 1e-6)
        lost = np.isnan(dx)
        if y.shape == x.shape:
            lost = lost | np.isnan(y)
        far = ~np.isfinite(x) | (np.abs(x) >= 30) | ((np.abs(x) < 1e-7) & (x != 0))
        nan = np.isnan(x)
        if x_name == "rows":
            far, nan = (np.broadcast_to(a.any(-1, keepdims=True), x.shape) for a in (far, nan))
        marks = {"kink": kink, "tie": tie, "accident": places(lost & ~nan), "edge": places(far)}
        marks["nan"] = places(np.isnan(x))
        cases.append(case | {"marks": {k: v for k, v in marks.items() if v}})
    write("activations", cases, inputs)
