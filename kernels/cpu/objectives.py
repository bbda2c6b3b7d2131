"""Losses and metrics of one sample. Definitions: gpumlp/losses.py, gpumlp/metrics.py.

A row is short, so these are plain loops. ``factor`` is what the gradient is multiplied by: the sample's weight over the
number of samples.
"""

from numba import float32

from .elementary import exp, log, log1p
from .layout import (
    ABSOLUTE,
    ABSOLUTE_ERROR,
    BINARY_LOGITS,
    CATEGORICAL,
    CATEGORICAL_ACCURACY,
    CATEGORICAL_LOGITS,
    HUBER,
    SPARSE_ACCURACY,
    SQUARED,
    SQUARED_ERROR,
)  # fmt: skip
from .rows import HALF, ONE, TWO, ZERO, bounded, clip, largest
from .vector import kernel

FUZZ, FUZZ_TOP = float32(1e-7), float32(1.0 - 1e-7)  # Keras clips probabilities to [1e-7, 1 - 1e-7]


@kernel
def sign(v):
    """-1, 0 or 1; NaN of NaN."""
    return ONE if v > ZERO else (-ONE if v < ZERO else v)


@kernel
def elementwise(loss, t, p, c):
    """One output's loss and its slope by p; ``c`` is huber's delta or the label smoothing."""
    error = p - t
    if loss == SQUARED:
        return error * error, TWO * error
    if loss == ABSOLUTE:
        return abs(error), sign(error)
    if loss == HUBER:
        slope = clip(error, -c, c)
        return slope * (error - HALF * slope), slope
    t = t * (ONE - c) + HALF * c
    if loss == BINARY_LOGITS:
        p = bounded(p)
        softplus = log1p(exp(-abs(p))) + (ZERO if p < ZERO else p)
        return softplus - p * t, exp(p - softplus) - t
    q = clip(p, FUZZ, FUZZ_TOP)
    slope = (q - t) / (q * (ONE - q)) * (ONE if p == q else ZERO)
    return -(t * (log(q) - log(ONE - q)) + log(ONE - q)), slope


@kernel
def class_target(t, c, outputs, sparse, smoothing):
    """The target of class c, smoothed; t[O], or the class number in t[0] where ``sparse``."""
    target = (ONE if t[0] == float32(c) else ZERO) if sparse else t[c]
    return target * (ONE - smoothing) + smoothing / float32(outputs)


@kernel
def probability_slope(target, q):
    """The slope of -target log clip(q) by q."""
    inside = clip(q, FUZZ, FUZZ_TOP)
    return -(target / inside) * (ONE if inside == q else ZERO)


@kernel
def probabilities(dp, t, p, outputs, factor, sparse, smoothing):
    """The loss of probabilities: with q = p / sum(p), dp = (dq - sum(dq q)) / sum(p)."""
    total, value, pull = ZERO, ZERO, ZERO
    for c in range(outputs):
        total += p[c]
    for c in range(outputs):
        q, target = p[c] / total, class_target(t, c, outputs, sparse, smoothing)
        value -= target * log(clip(q, FUZZ, FUZZ_TOP))
        pull += probability_slope(target, q) * q
    for c in range(outputs):
        slope = probability_slope(class_target(t, c, outputs, sparse, smoothing), p[c] / total)
        dp[c] = (slope - pull) / total * factor
    return value


@kernel
def logits(dp, t, p, outputs, factor, sparse, smoothing):
    """The loss of logits: dp = softmax(p) sum(t) - t."""
    top, total, weight, value = bounded(largest(p, outputs)), ZERO, ZERO, ZERO
    for c in range(outputs):
        total += exp(bounded(p[c]) - top)
        weight += class_target(t, c, outputs, sparse, smoothing)
    log_total = log(total)
    for c in range(outputs):
        shifted, target = bounded(p[c]) - top, class_target(t, c, outputs, sparse, smoothing)
        value -= target * bounded(shifted - log_total)
        dp[c] = (exp(shifted) / total * weight - target) * factor
    return value


@kernel
def sample_loss(loss, dp, t, p, outputs, factor, sparse, c):
    """The loss of one sample, before its weight; dp[O] = factor times its gradient by p[O]."""
    if loss == CATEGORICAL:
        return probabilities(dp, t, p, outputs, factor, sparse, c)
    if loss == CATEGORICAL_LOGITS:
        return logits(dp, t, p, outputs, factor, sparse, c)
    share = ONE / float32(outputs)
    value = ZERO
    for o in range(outputs):
        part, slope = elementwise(loss, t[o], p[o], c)
        value += part
        dp[o] = slope * (factor * share)
    return value * share


@kernel
def argmax(a, n):
    """NumPy's argmax: the first NaN, or the first place of the largest."""
    place = 0
    for c in range(1, n):
        if a[place] == a[place] and not a[c] <= a[place]:
            place = c
    return place


@kernel
def sample_metric(metric, t, p, outputs, width):
    """The metric of one sample, before its weight; of t[width], a single number counts for every output."""
    if metric == SPARSE_ACCURACY:
        return ONE if float32(argmax(p, outputs)) == t[0] else ZERO
    if metric == CATEGORICAL_ACCURACY:
        return ONE if argmax(p, outputs) == argmax(t, width) else ZERO
    value, step = ZERO, 1 if width > 1 else 0
    for o in range(outputs):
        target = t[o * step]
        error = p[o] - target
        if metric == SQUARED_ERROR:
            value += error * error
        elif metric == ABSOLUTE_ERROR:
            value += abs(error)
        elif (ONE if p[o] > HALF else ZERO) == target:
            value += ONE
    return value / float32(outputs)
