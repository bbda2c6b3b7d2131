"""Functions of rows that are no formulas: dropout, copies, and looking for NaN and Inf."""

import math

from numba import float32, uint64

from .vector import at, kernel

ZERO, ONE = float32(0.0), float32(1.0)
LARGEST, LOWEST = float32(3.4028235e38), float32(-math.inf)


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
