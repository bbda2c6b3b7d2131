"""Normalization by columns: a batch's mean and variance, what they make of rows, and the way back.

Statistics go over all rows, in their order, so a column is one thread's; which thread's changes no bit. They take two
passes, and the mean that rounding has left in the differences is taken out of both.
"""

import math

from numba import float32

from .rows import ONE, ZERO, multiply
from .vector import at, kernel


@kernel
def batch_statistics(x, x_row, rows, mean, inverse, rest, averages, variances, momentum, epsilon, first, last):
    """mean, 1 / sqrt(variance + epsilon) of columns ``first`` to ``last`` - 1, and their moving averages."""
    n, kept = float32(rows), ONE - momentum
    for c in range(first, last):
        mean[c] = ZERO
        rest[c] = ZERO
        inverse[c] = ZERO
    for r in range(rows):
        row = at(x, r * x_row)
        for c in range(first, last):
            mean[c] += row[c]
    for c in range(first, last):
        mean[c] /= n
    for r in range(rows):
        row = at(x, r * x_row)
        for c in range(first, last):
            off = row[c] - mean[c]
            rest[c] += off
            inverse[c] += off * off
    for c in range(first, last):
        off = rest[c] / n
        variance = inverse[c] / n - off * off
        variance = ZERO if variance < ZERO else variance  # NaN stays NaN
        mean[c] += off
        averages[c] = averages[c] * momentum + mean[c] * kept
        variances[c] = variances[c] * momentum + variance * kept
        inverse[c] = ONE / math.sqrt(variance + epsilon)


@kernel
def centre(y, x, n, mean, inverse):
    """y = (x - mean) inverse."""
    for j in range(n):
        y[j] = (x[j] - mean[j]) * inverse[j]


@kernel
def standardize(y, x, n, mean, variance, epsilon):
    """y = (x - mean) / sqrt(variance + epsilon)."""
    for j in range(n):
        y[j] = (x[j] - mean[j]) / math.sqrt(variance[j] + epsilon)


@kernel
def add(y, more, n):
    """y = y + more."""
    for j in range(n):
        y[j] += more[j]


@kernel
def column_gradients(dgamma, dbeta, dy, dy_row, x, x_row, rows, mean, inverse, first, last):
    """The sums of dy, and of dy (x - mean) inverse, over the rows of columns ``first`` to ``last`` - 1."""
    for c in range(first, last):
        dgamma[c] = ZERO
        dbeta[c] = ZERO
    for r in range(rows):
        above, row = at(dy, r * dy_row), at(x, r * x_row)
        for c in range(first, last):
            dbeta[c] += above[c]
            dgamma[c] += above[c] * ((row[c] - mean[c]) * inverse[c])


@kernel
def batch_slope(dx, dy, x, n, mean, inverse, dgamma, dbeta, samples):
    """dx = inverse (dy - the mean of dy - (x - mean) inverse times the mean of dy (x - mean) inverse)."""
    share = ONE / float32(samples)
    for j in range(n):
        normal = (x[j] - mean[j]) * inverse[j]
        dx[j] = (dy[j] - dbeta[j] * share - normal * (dgamma[j] * share)) * inverse[j]


@kernel
def fixed_slope(dx, dy, n, variance, epsilon):
    """dx = dy / sqrt(variance + epsilon)."""
    for j in range(n):
        dx[j] = dy[j] / math.sqrt(variance[j] + epsilon)


@kernel
def scaled(y, gamma, has_gamma, beta, has_beta, n):
    """y = y gamma + beta, of which either may be missing."""
    if has_gamma:
        multiply(y, gamma, n)
    if has_beta:
        add(y, beta, n)
