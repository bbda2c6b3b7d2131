"""What all kinds share: numbers that go in, places that are marked, and a file of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src.backend.common import dtypes

# On JAX, Keras makes float32 of float64 wherever it looks up a common type (tanh, logaddexp, var), whatever floatx is.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
keras.config.set_floatx("float64")

FOLDER = Path(__file__).parent.parent
INF, NAN, EPSILON = float("inf"), float("nan"), 1e-7
Case = dict[str, Any]


def plain(value: Any) -> Any:
    """Return what JSON can hold: lists, numbers, strings; a Keras object as its class's name and config."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "get_config"):
        return {"class_name": type(value).__name__, "config": plain(value.get_config())}
    if callable(value):
        return value.__name__
    array = np.asarray(value)
    if array.dtype not in (np.float64, np.int32, np.int64, np.bool_):
        raise TypeError(f"Computed in {array.dtype}: not exact.")
    return array.tolist()


def write(kind: str, cases: list[Case], inputs: dict[str, Any] | None = None) -> None:
    """Write the cases of a kind, one a line, and before them the arrays that they name."""

    def line(thing: Any) -> str:
        return json.dumps(plain(thing), separators=(",", ":"))

    parts = [f'"keras":{line(keras.__version__)}']
    parts.append('"inputs":{\n' + ",\n".join(f"{line(k)}:{line(v)}" for k, v in (inputs or {}).items()) + "\n}")
    parts.append('"cases":[\n' + ",\n".join(line(c) for c in cases) + "\n]")
    path = FOLDER / f"{kind}.json"
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size:,} bytes", flush=True)


def drawn(seed: int, *shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Return numbers of four decimals, so that the file can be read."""
    return np.round(np.random.default_rng(seed).uniform(low, high, shape), 4)


def places(mask: Any) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def kinks(slopes: Callable[[Any], Any], x: np.ndarray, step: float, tolerance: float) -> tuple[list[int], list[int]]:
    """Return where the slopes on both sides of an element of ``x`` differ: taking one of them (or 0), or neither."""
    flat = x.reshape(-1)
    move = np.where(flat == 0, step * 1e-3, np.abs(flat) * step)
    move[~np.isfinite(flat)] = 0.0
    beside = np.concatenate([flat + np.diag(move), flat - np.diag(move)]).reshape(-1, *x.shape)
    found = np.asarray(jax.vmap(slopes)(jnp.asarray(beside))).reshape(2, flat.size, flat.size)
    above, below = np.diagonal(found[0]), np.diagonal(found[1])
    here = np.asarray(slopes(jnp.asarray(x))).reshape(-1)

    def near(a: Any, b: Any) -> Any:
        return np.abs(a - b) <= tolerance * np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-6)

    with np.errstate(all="ignore"):
        jump = np.isfinite(above + below + here) & ~near(above, below) & (np.abs(flat) < 1e10)
        one = near(here, above) | near(here, below)
    return places(jump & (one | (here == 0))), places(jump & ~one & (here != 0))
