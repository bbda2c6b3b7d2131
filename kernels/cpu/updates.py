"""What a gradient does to weights: penalties and optimizers, over n weights and the state beside them.

The gradient of a few rows of a weight array comes straight from the tiles that computed it, still in the first cache,
and is gone afterwards: each weight and its state are read and written once a step, and no gradient ever is. Each update
says whether NaN or Inf came out.
"""

import math

from numba import float32

from .rows import LARGEST, ONE, TWO, ZERO
from .vector import kernel


@kernel
def adam(w, g, m, v, n, rate, decay, keep_1, keep_2, epsilon):
    """m += (g - m) keep_1; v += (g^2 - v) keep_2; w = decay w - rate m / (sqrt(v) + epsilon); keep = 1 - beta."""
    bad = False
    for e in range(n):
        mean = m[e] + (g[e] - m[e]) * keep_1
        square = v[e] + (g[e] * g[e] - v[e]) * keep_2
        m[e], v[e] = mean, square
        weight = decay * w[e] - rate * mean / (math.sqrt(square) + epsilon)
        w[e] = weight
        bad |= not abs(weight) <= LARGEST
    return bad


@kernel
def sgd(w, g, n, rate, decay):
    """w = decay w - rate g."""
    bad = False
    for e in range(n):
        weight = decay * w[e] - rate * g[e]
        w[e] = weight
        bad |= not abs(weight) <= LARGEST
    return bad


@kernel
def sgd_momentum(w, g, u, n, rate, decay, momentum, nesterov):
    """u = momentum u - rate g; w = decay w + u, or, ``nesterov``, + momentum u - rate g."""
    bad = False
    for e in range(n):
        change = -rate * g[e]
        speed = momentum * u[e] + change
        u[e] = speed
        weight = decay * w[e] + (momentum * speed + change if nesterov else speed)
        w[e] = weight
        bad |= not abs(weight) <= LARGEST
    return bad


@kernel
def rmsprop(w, g, v, n, rate, decay, keep, epsilon):
    """v += (g^2 - v) keep; w = decay w - rate g / sqrt(v + epsilon); keep = 1 - rho."""
    bad = False
    for e in range(n):
        square = v[e] + (g[e] * g[e] - v[e]) * keep
        v[e] = square
        weight = decay * w[e] - rate * (g[e] / math.sqrt(square + epsilon))
        w[e] = weight
        bad |= not abs(weight) <= LARGEST
    return bad


@kernel
def rmsprop_full(w, g, v, u, mean, n, rate, decay, keep, momentum, epsilon, moving, centered):
    """`rmsprop`; ``centered``: v - mean^2 under the root; ``moving``: u = momentum u + the change, w = decay w - u.

    Where it does not move, or is not centered, u or mean may be w: they are not touched.
    """
    bad = False
    for e in range(n):
        square = v[e] + (g[e] * g[e] - v[e]) * keep
        v[e] = square
        if centered:
            centre = mean[e] + (g[e] - mean[e]) * keep
            mean[e] = centre
            square -= centre * centre
        change = rate * (g[e] / math.sqrt(square + epsilon))
        if moving:
            change += momentum * u[e]
            u[e] = change
        weight = decay * w[e] - change
        w[e] = weight
        bad |= not abs(weight) <= LARGEST
    return bad


@kernel
def penalty(w, g, n, l1, l2, slopes):
    """Return l1 sum |w| + l2 sum w^2, summed in double; ``slopes``: g += l1 sign(w) + 2 l2 w."""
    total = 0.0
    for e in range(n if l1 != 0 else 0):  # an Inf times zero would be NaN
        total += l1 * abs(w[e])
    for e in range(n if l2 != 0 else 0):
        total += l2 * w[e] * w[e]
    if slopes and (l1 != 0 or l2 != 0):
        for e in range(n):
            sign = ONE if w[e] > ZERO else (-ONE if w[e] < ZERO else w[e])
            g[e] += float32(l1) * sign + TWO * float32(l2) * w[e]
    return total
