"""Functions of rows: activations and their slopes, softmax, dropout. Definitions: gpumlp/activations.py.

A loop per function, rather than a choice per element: each becomes vector code of its own. NaN goes through comparisons
the way it goes through NumPy. ``dy`` becomes dz = dy f'(z) in place.
"""

import math

from numba import float32, uint64

from .elementary import INFINITY, erf, exp, exp_nonpositive, expm1, sigmoid, tanh
from .layout import ELU, GELU, GELU_TANH, LEAKY_RELU, RELU, SIGMOID, SILU, SOFTMAX, TANH
from .vector import at, kernel

ZERO, HALF, ONE, TWO, THREE = float32(0.0), float32(0.5), float32(1.0), float32(2.0), float32(3.0)
ROOT_HALF, DENSITY = float32(math.sqrt(0.5)), float32(1.0 / math.sqrt(2.0 * math.pi))
GELU_SCALE, GELU_CUBE = float32(math.sqrt(2.0 / math.pi)), float32(0.044715)
LARGEST, LOWEST = float32(3.4028235e38), float32(-math.inf)
FAR = float32(1000.0)  # farther out sigmoid and CDF are 0 or 1: a product with z takes it, not inf * 0


@kernel
def clip(v, low, high):
    return low if v < low else (high if v > high else v)


@kernel
def bounded(z):
    """z, its infinities as the largest numbers: no difference is NaN, and no product with a target of 0."""
    return clip(z, -LARGEST, LARGEST)


@kernel
def normal_cdf(z):
    return HALF + HALF * erf(z * ROOT_HALF)


@kernel
def gelu_tanh_cdf(z):
    return HALF + HALF * tanh(GELU_SCALE * z * (ONE + GELU_CUBE * z * z))


# ---- forward ---------------------------------------------------------------------------------------------------------
@kernel
def activate(function, y, n, a):
    """y[n] = f(y[n]); ``a`` is the constant of leaky_relu and elu.

    In place, by one pointer: of two that are the same LLVM would have to find out, and then not use vectors.
    """
    if function == RELU:
        for j in range(n):
            y[j] = ZERO if y[j] < ZERO else y[j]
    elif function == LEAKY_RELU:
        for j in range(n):
            y[j] = a * y[j] if y[j] < ZERO else y[j]
    elif function == ELU:
        for j in range(n):
            y[j] = a * expm1(y[j]) if y[j] < ZERO else y[j]
    elif function == TANH:
        for j in range(n):
            y[j] = tanh(y[j])
    elif function == SIGMOID:
        for j in range(n):
            y[j] = sigmoid(y[j])
    elif function == GELU:
        for j in range(n):
            y[j] = clip(y[j], -FAR, INFINITY) * normal_cdf(clip(y[j], -FAR, FAR))
    elif function == GELU_TANH:
        for j in range(n):
            y[j] = clip(y[j], -FAR, INFINITY) * gelu_tanh_cdf(clip(y[j], -FAR, FAR))
    elif function == SILU:
        for j in range(n):
            y[j] = clip(y[j], -FAR, INFINITY) * sigmoid(y[j])
    elif function == SOFTMAX:
        softmax(y, n)


@kernel
def largest(z, n):
    """The largest element, NaN passed over."""
    top = LOWEST
    for j in range(n):
        top = z[j] if z[j] > top else top
    return top


@kernel
def softmax(y, n):
    """y = exp(y - max) / sum."""
    top, total = bounded(largest(y, n)), ZERO
    for j in range(n):
        y[j] = exp_nonpositive(bounded(y[j]) - top)
    for j in range(n):
        total += y[j]
    for j in range(n):
        y[j] /= total


# ---- back ------------------------------------------------------------------------------------------------------------
@kernel
def apply_slope(function, dy, y, z, n, a):
    """dy[n] *= f'(z), from y where y tells it."""
    if function == RELU:
        for j in range(n):
            dy[j] *= ONE if y[j] > ZERO else (ZERO if y[j] == y[j] else y[j])
    elif function == LEAKY_RELU:
        for j in range(n):
            dy[j] *= ONE if y[j] > ZERO else (a if y[j] == y[j] else y[j])
    elif function == ELU:
        for j in range(n):
            dy[j] *= ONE if y[j] > ZERO else y[j] + a
    elif function == TANH:
        for j in range(n):
            dy[j] *= ONE - y[j] * y[j]
    elif function == SIGMOID:
        for j in range(n):
            dy[j] *= (ONE - y[j]) * y[j]
    elif function == GELU:
        for j in range(n):
            near = clip(z[j], -FAR, FAR)
            dy[j] *= normal_cdf(near) + near * DENSITY * exp(-HALF * near * near)
    elif function == GELU_TANH:
        for j in range(n):
            near = clip(z[j], -FAR, FAR)
            s = gelu_tanh_cdf(near)
            dy[j] *= s + near * TWO * s * (ONE - s) * GELU_SCALE * (ONE + THREE * GELU_CUBE * near * near)
    elif function == SILU:
        for j in range(n):
            near = clip(z[j], -FAR, FAR)
            dy[j] *= sigmoid(near) * (ONE + near * sigmoid(-near))  # 1 - s would lose what a large z magnifies
    elif function == SOFTMAX:
        total = ZERO
        for j in range(n):
            total += dy[j] * y[j]
        for j in range(n):
            dy[j] = (dy[j] - total) * y[j]


@kernel
def any_bad(a, n):
    """Whether there is NaN or Inf in a[n]."""
    bad = False
    for j in range(n):
        bad |= not abs(a[j]) <= LARGEST
    return bad


# ---- dropout ---------------------------------------------------------------------------------------------------------
# Philox4x64-10 (Salmon et al. 2011), made of 32-bit halves as in kernels/numba_cuda.py; bit for bit what NumPy draws.
BITS, LOW = uint64(32), uint64(0xFFFFFFFF)
MULTIPLIER_0, MULTIPLIER_1 = uint64(0xD2E7470EE14C6C93), uint64(0xCA5A826395121157)
WEYL_0, WEYL_1 = uint64(0x9E3779B97F4A7C15), uint64(0xBB67AE8584CAA73B)
UNIFORM = float32(2.0**-24)


@kernel
def high_half(a, b):
    """The high 64 bits of a b."""
    a0, a1, b0, b1 = a & LOW, a >> BITS, b & LOW, b >> BITS
    middle = a1 * b0 + ((a0 * b0) >> BITS)
    cross = a0 * b1 + (middle & LOW)
    return a1 * b1 + (middle >> BITS) + (cross >> BITS)


@kernel
def philox(block, step, key, layer):
    """The four random words of counter (block, step, 0, 0) at key (key, layer)."""
    c0, c1, c2, c3 = block, step, uint64(0), uint64(0)
    for _ in range(10):
        high_0, low_0 = high_half(MULTIPLIER_0, c0), MULTIPLIER_0 * c0
        high_1, low_1 = high_half(MULTIPLIER_1, c2), MULTIPLIER_1 * c2
        c0, c1, c2, c3 = high_1 ^ c1 ^ key, low_1, high_0 ^ c3 ^ layer, low_0
        key, layer = key + WEYL_0, layer + WEYL_1
    return c0, c1, c2, c3


@kernel
def drop(y, mask, first, last, rate, kept, key, layer, step):
    """y = y mask, for elements ``first`` to ``last`` - 1 of the batch; mask = 0 with probability ``rate``, else kept.

    y and mask stand at element ``first``. Four words give eight 24-bit uniforms, low half first.
    """
    block = first // 8
    while block * 8 < last:
        words = philox(uint64(block + 1), uint64(step), uint64(key), uint64(layer))
        for w in range(4):
            word = words[0] if w == 0 else words[1] if w == 1 else words[2] if w == 2 else words[3]
            for half in range(2):
                e = block * 8 + w * 2 + half - first
                if 0 <= e < last - first:
                    bits = (word >> uint64(half * 32)) & LOW
                    mask[e] = kept if float32(bits >> uint64(8)) * UNIFORM >= rate else ZERO
                    y[e] *= mask[e]
        block += 1


@kernel
def scale(y, n, factor, offset):
    """y = factor y + offset."""
    for j in range(n):
        y[j] = factor * y[j] + offset


@kernel
def multiply(y, mask, n):
    """y = y mask."""
    for j in range(n):
        y[j] *= mask[j]


@kernel
def copy(y, x, n):
    """y = x."""
    for j in range(n):
        y[j] = x[j]


@kernel
def clear(y, rows, y_row, n):
    """y[rows, n] = 0."""
    for r in range(rows):
        row = at(y, r * y_row)
        for j in range(n):
            row[j] = ZERO
