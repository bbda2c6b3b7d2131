"""From times to rates: operations and bytes of each operation, TFLOP/s, GB/s, and the share of a ceiling."""

from __future__ import annotations

import math
from itertools import pairwise


def dense_forward_flops(batch: int, inputs: int, outputs: int) -> int:
    """Return the multiplications and additions of x[B, I] w[I, O]; bias and activation are left out, as is usual."""
    return 2 * batch * inputs * outputs


def dense_backward_flops(batch: int, inputs: int, outputs: int) -> int:
    """Return those of both gradients: x^T dz and dz w^T."""
    return 4 * batch * inputs * outputs


def mlp_step_flops(sizes: tuple[int, ...], batch: int) -> int:
    """Return those of one training step of a stack of dense layers; the first one needs no gradient of its input."""
    pairs = list(pairwise(sizes))
    forward = sum(dense_forward_flops(batch, i, o) for i, o in pairs)
    return 3 * forward - dense_forward_flops(batch, *pairs[0])


def adam_bytes(count: int) -> int:
    """Return the bytes that Adam must move: w, g, m, v read and w, m, v written, float32."""
    return 28 * count


def sgd_bytes(count: int, momentum: bool) -> int:
    """Return the bytes that SGD must move: w, g (and u) read, w (and u) written, float32."""
    return (20 if momentum else 12) * count


def tflops(flops: float, microseconds: float) -> float:
    """Return TFLOP/s; NaN without a time."""
    return flops / microseconds / 1e6 if microseconds > 0 else math.nan


def gigabytes(moved: float, microseconds: float) -> float:
    """Return GB/s (1e9 bytes); NaN without a time."""
    return moved / microseconds / 1e3 if microseconds > 0 else math.nan


def share(rate: float, ceiling: float) -> float:
    """Return which part of the ceiling a rate is; NaN where either is unknown."""
    return rate / ceiling if ceiling > 0 else math.nan
