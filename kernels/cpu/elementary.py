"""exp, expm1, log, log1p, tanh, sigmoid and erf of one float32, written so that LLVM turns loops of them into vectors.

A call of the C library ends vectorisation, and so does a branch: here are only additions, products, quotients, shifts,
and choices between two values that are both computed. So a plain loop ``for i in range(n): y[i] = exp(x[i])`` becomes
code for as many lanes as the processor has. Scalars in, scalars out: no memory, no exception. Everything is inlined.

float32 throughout: a plain literal would be a double to Numba and take its whole expression along, so constants stand
here by name, and whole numbers, which Numba widens to 64 bits, are cut back to 32. Of fast-math only contraction: a
product and a sum may become one instruction. The bounds hold without it, too.

The method is that of Cody and Waite, Software Manual for the Elementary Functions (1980), and of Moshier's Cephes:
reduce the argument exactly, evaluate a polynomial on a short interval, put the result together. The polynomials are
fitted for this file: minimax (Remez), their coefficients rounded to float32 one by one, those left fitted again each
time. The power of two beside each is its largest relative error in the function that it serves.

Largest errors in units in the last place of the result, normal or not, as tests/test_cpu_elementary.py holds them:

    log 1, exp 1.25, erf 1.5, expm1 and log1p 1.75, sigmoid 2.5, tanh 2.75

NaN gives NaN; infinities and overflow give the limits. exp and sigmoid may give 0 where the result is below 2^-126.
"""

import math

from llvmlite import ir
from numba import float32, int32, njit, types
from numba.extending import intrinsic

ZERO, QUARTER, HALF = float32(0.0), float32(0.25), float32(0.5)
ONE, TWO, FOUR = float32(1.0), float32(2.0), float32(4.0)
INFINITY, NAN = float32(math.inf), float32(math.nan)

# A float32: a bit of sign, eight of exponent, MANTISSA_BITS of mantissa.
MANTISSA_BITS, SIGN = int32(23), int32(-(2**31))
FOUR_BITS, ROOT_HALF_BITS = int32(0x40800000), int32(0x3F3504F3)
LEAST_NORMAL, TWO_23 = float32(2.0**-126), float32(2.0**23)

# Added to a number below 2^22, MAGIC leaves the nearest whole number in the low bits of the sum. MAGIC_POWER leaves it
# with the exponent's bias of 127 already added, so that a shift makes a power of two of it; MAGIC_HALF, with 126.
MAGIC, MAGIC_POWER, MAGIC_HALF = float32(1.5 * 2**23), float32(1.5 * 2**23 + 127), float32(1.5 * 2**23 + 126)

# ln 2 in two parts: the first has nine bits, so that its products with an exponent are exact.
LOG2_E = float32(1.0 / math.log(2.0))
LN2_HIGH = float32(0.693359375)
LN2_LOW = float32(math.log(2.0) - 0.693359375)

EXP_TOP = float32(88.72284)  # the first number whose exp overflows
EXP_BOTTOM = float32(-87.336544)  # the last whose exp is at least 2^-126
POWER_BOTTOM = float32(-88.0)  # its nearest power of two is 2^-127, which the shift makes 0
EXPM1_TOP, EXPM1_BOTTOM = float32(89.0), float32(-18.0)  # inf and -1 already; further out the exponent leaves its bits

# (expm1(r) - r) / r^2 for |r| <= ln(2) / 2: 2^-26
E0, E1, E2 = float32(0.49999997), float32(0.16666539), float32(0.0416677482)
E3, E4 = float32(0.00836708769), float32(0.00138378621)
# (log1p(f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2): 2^-27
L0, L1, L2, L3 = float32(0.333333313), float32(-0.250008225), float32(0.200012594), float32(-0.16623345)
L4, L5, L6, L7 = float32(0.142010719), float32(-0.131595492), float32(0.127657294), float32(-0.076411806)
# erf(x) / x - 1 by powers of x^2 for x <= ERF_SPLIT: 2^-25.6; ln(erfc(x)) from there on: 2^-25.4 of erf(x)
ERF_SPLIT = float32(0.9375)
S0, S1, S2 = float32(0.128379151), float32(-0.376124799), float32(0.112816177)
S3, S4, S5 = float32(-0.0267585646), float32(0.00498068752), float32(-0.000592512486)
C0, C1, C2 = float32(-0.00209785812), float32(-1.11941588), float32(-0.651821017)
C3, C4, C5 = float32(-0.0903939158), float32(0.0153449746), float32(-0.00122169987)

scalar = njit(error_model="numpy", fastmath={"contract"}, forceinline=True)


# ---- pieces ----------------------------------------------------------------------------------------------------------
@intrinsic
def bits_of(typing, x):
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def float_of(typing, bits):
    """The float32 of these bits."""
    return types.float32(types.int32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.FloatType())


@scalar
def with_sign(x, sign):
    """x >= 0 with the sign of ``sign``."""
    return float_of(int32(bits_of(x) | (bits_of(sign) & SIGN)))


@scalar
def reduced(x, magic):
    """n, the nearest whole number to x / ln 2, in the low bits of an int32 as ``magic`` puts it, and x - n ln 2."""
    shifted = x * LOG2_E + magic
    n = shifted - magic
    return bits_of(shifted), x - n * LN2_HIGH - n * LN2_LOW


@scalar
def power_of_two(bits):
    """2^n from the low bits of a sum with MAGIC_POWER, 2^(n - 1) from MAGIC_HALF."""
    return float_of(int32(bits << MANTISSA_BITS))


@scalar
def expm1_near_0(r):
    return r + r * r * (E0 + r * (E1 + r * (E2 + r * (E3 + r * E4))))


@scalar
def exp_nonpositive(x):
    """exp(x) for x <= 0."""
    bits, r = reduced(POWER_BOTTOM if x < POWER_BOTTOM else x, MAGIC_POWER)
    return power_of_two(bits) * (ONE + expm1_near_0(r))


@scalar
def split(x):
    """k as an int32 for x = 2^k m with sqrt(1/2) <= m < sqrt(2), from the bits of a normal number x > 0."""
    return int32(int32(bits_of(x) - ROOT_HALF_BITS) >> MANTISSA_BITS)


@scalar
def log_of_split(k, f):
    """k ln 2 + ln(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    p = L0 + f * (L1 + f * (L2 + f * (L3 + f * (L4 + f * (L5 + f * (L6 + f * L7))))))
    n = float32(k)
    return n * LN2_HIGH + ((n * LN2_LOW + f) + f * f * (f * p - HALF))


@scalar
def log_at_limits(y, x):
    """y, unless a logarithm of x is a limit or none."""
    y = y if x > ZERO else (-INFINITY if x == ZERO else NAN)
    return y if x < INFINITY else x  # infinity itself; a NaN is not below it either


# ---- functions -------------------------------------------------------------------------------------------------------
@scalar
def exp(x):
    """2^n exp(r), where n goes to the exponent by addition: 2^128 exp(r) may be finite, 2^128 is not."""
    bits, r = reduced(x, MAGIC)
    y = ONE + expm1_near_0(r)
    y = float_of(int32(bits_of(y) + (bits << MANTISSA_BITS)))
    y = ZERO if x < EXP_BOTTOM else y
    return y if x < EXP_TOP else x + INFINITY


@scalar
def expm1(x):
    """2 (2^(n - 1) expm1(r) + 2^(n - 1) - 1/2): by halves, as 2^128 is no float32."""
    x = EXPM1_TOP if x > EXPM1_TOP else x
    x = EXPM1_BOTTOM if x < EXPM1_BOTTOM else x
    bits, r = reduced(x, MAGIC_HALF)
    half = power_of_two(bits)
    return TWO * (half * expm1_near_0(r) + (half - HALF))


@scalar
def log(x):
    """k ln 2 + ln(m) for x = 2^k m; of a denormal number x, that of 2^23 x is taken."""
    small = x < LEAST_NORMAL
    z = x * TWO_23 if small else x
    k = split(z)
    m = float_of(int32(bits_of(z) - (k << MANTISSA_BITS)))
    return log_at_limits(log_of_split(int32(k - MANTISSA_BITS) if small else k, m - ONE), x)


@scalar
def log1p(x):
    """k ln 2 + ln(1 + f) for 1 + x = 2^k (1 + f); f comes from x, not from the sum, whose rounding takes x's bits."""
    k = split(ONE + x)
    scale = float_of(int32(FOUR_BITS - (k << MANTISSA_BITS)))
    return log_at_limits(log_of_split(k, QUARTER * (x * scale + (scale - FOUR))), ONE + x)


@scalar
def sigmoid(z):
    """1 / (1 + exp(-z)), by an exponential that cannot overflow."""
    e = exp_nonpositive(-abs(z))
    return (e if z < ZERO else ONE) / (ONE + e)


@scalar
def tanh(x):
    """-e / (2 + e) for e = expm1(-2 |x|), with the sign of x."""
    x2 = -TWO * abs(x)
    bits, r = reduced(EXPM1_BOTTOM if x2 < EXPM1_BOTTOM else x2, MAGIC_POWER)
    power = power_of_two(bits)
    e = power * expm1_near_0(r) + (power - ONE)
    return with_sign(abs(e) / (TWO + e), x)


@scalar
def erf(x):
    """x + x S(x^2) near 0, further out 1 - exp(C(|x|)), with the sign of x."""
    a = abs(x)
    s = x * x
    near = a + a * (S0 + s * (S1 + s * (S2 + s * (S3 + s * (S4 + s * S5)))))
    # C falls without end, as its highest coefficient says: no limit to a is needed
    far = ONE - exp_nonpositive(C0 + a * (C1 + a * (C2 + a * (C3 + a * (C4 + a * C5)))))
    return with_sign(near if a < ERF_SPLIT else far, x)
