"""exp, expm1, log, log1p, tanh, sigmoid, erf, pow, sin and cos in float32, as rules over expressions, without branches.

A call of the C library ends vectorisation, and so does a branch: here are only additions, products, quotients, shifts,
and choices between two values that are both computed. So a formula becomes straight code for as many lanes as the
processor has, and what two functions share (an exponential in sigmoid and softplus) is computed once.

Beside a formula's own operations a target must have "copysign" and whole numbers of 32 bits: the "bits" of a float32
and the "float" of bits, "iadd", "isub", "shl", "ashr", "iwhere", and "of_whole", a whole number as a float32. A product
and a sum may become one instruction; the bounds hold without it, too.

The method is that of Cody and Waite, Software Manual for the Elementary Functions (1980), and of Moshier's Cephes:
reduce the argument exactly, evaluate a polynomial on a short interval, put the result together. The polynomials are
fitted for this file: minimax (Remez), their coefficients rounded to float32 one by one, those left fitted again each
time. The power of two beside each is its largest relative error in the function that it serves.

Largest errors in units in the last place of the result, normal or not, as tests/test_cpu_elementary.py holds them:

    log 1, exp 1.25, erf 1.5, expm1 and log1p 1.75, sigmoid 2.5, tanh 2.75, sin and cos 6 below 1000, else 2^-18

NaN gives NaN; infinities and overflow give the limits. exp and sigmoid may give 0 where the result is below 2^-126.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from gpumlp.expressions import Node, make
from gpumlp.lowering import PARTS

# A float32: a bit of sign, eight of exponent, MANTISSA_BITS of mantissa.
MANTISSA_BITS = 23.0
FOUR_BITS, ROOT_HALF_BITS = float(0x40800000), float(0x3F3504F3)
LEAST_NORMAL, TWO_23 = 2.0**-126, 2.0**23

# Added to a number below 2^22, MAGIC leaves the nearest whole number in the low bits of the sum. MAGIC_POWER leaves it
# with the exponent's bias of 127 already added, so that a shift makes a power of two of it; MAGIC_HALF, with 126.
MAGIC, MAGIC_POWER, MAGIC_HALF = 1.5 * 2**23, 1.5 * 2**23 + 127, 1.5 * 2**23 + 126

# ln 2 in two parts: the first has nine bits, so that its products with an exponent are exact.
LOG2_E = 1.0 / math.log(2.0)
LN2_HIGH = 0.693359375
LN2_LOW = math.log(2.0) - 0.693359375

EXP_TOP = 88.72284  # the first number whose exp overflows
EXP_BOTTOM = -87.336544  # the last whose exp is at least 2^-126
POWER_BOTTOM = -88.0  # its nearest power of two is 2^-127, which the shift makes 0
EXPM1_TOP, EXPM1_BOTTOM = 89.0, -18.0  # inf and -1 already; further out the exponent leaves its bits

# (expm1(r) - r) / r^2 for |r| <= ln(2) / 2: 2^-26
EXPM1 = (0.49999997, 0.16666539, 0.0416677482, 0.00836708769, 0.00138378621)
# (log1p(f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2): 2^-27
LOG1P = (
    0.333333313, -0.250008225, 0.200012594, -0.16623345, 0.142010719, -0.131595492, 0.127657294, -0.076411806,
)  # fmt: skip
# erf(x) / x - 1 by powers of x^2 for x <= ERF_SPLIT: 2^-25.6; ln(erfc(x)) from there on: 2^-25.4 of erf(x)
ERF_SPLIT = 0.9375
ERF_NEAR = (0.128379151, -0.376124799, 0.112816177, -0.0267585646, 0.00498068752, -0.000592512486)
ERF_FAR = (-0.00209785812, -1.11941588, -0.651821017, -0.0903939158, 0.0153449746, -0.00122169987)
# 2 / pi by 24 bits, the first behind the point: its product with any number, but for multiples of 4, to 2^-30.
TWO_OVER_PI = (0xA2F983, 0x6E4E44, 0x1529FC, 0x2757D1, 0xF534DD, 0xC0DB62, 0x95993C)
HALF_PI, QUARTER_PI = math.pi / 2.0, math.pi / 4.0
# (sin(y) / y - 1) / y^2 and (cos(y) - 1 + y^2 / 2) / y^4, by powers of y^2, for |y| <= pi / 4 (Cephes)
SIN = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
COS = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)


# ---- pieces ----------------------------------------------------------------------------------------------------------
def _where(condition: Node, a: Node | float, b: Node | float) -> Node:
    return make("where", condition, a, b)


def _polynomial(x: Node, coefficients: Sequence[float]) -> Node:
    """The sum of coefficients times powers of x, by Horner's rule."""
    *rest, last, highest = coefficients
    value = last + x * highest
    for c in reversed(rest):
        value = c + x * value
    return value


def _reduced(x: Node, magic: float) -> tuple[Node, Node]:
    """n, the nearest whole number to x / ln 2, in the low bits of a number as ``magic`` puts it, and x - n ln 2."""
    shifted = x * LOG2_E + magic
    n = shifted - magic
    return make("bits", shifted), x - n * LN2_HIGH - n * LN2_LOW


def _power_of_two(bits: Node) -> Node:
    """2^n from the low bits of a sum with MAGIC_POWER, 2^(n - 1) from MAGIC_HALF."""
    return make("float", make("shl", bits, MANTISSA_BITS))


def _expm1_near_0(r: Node) -> Node:
    return r + r * r * _polynomial(r, EXPM1)


def exp_nonpositive(x: Node) -> Node:
    """exp(x) for x <= 0."""
    bits, r = _reduced(_where(x < POWER_BOTTOM, POWER_BOTTOM, x), MAGIC_POWER)
    return _power_of_two(bits) * (1.0 + _expm1_near_0(r))


def _split(x: Node) -> Node:
    """k for x = 2^k m with sqrt(1/2) <= m < sqrt(2), from the bits of a normal number x > 0."""
    return make("ashr", make("isub", make("bits", x), ROOT_HALF_BITS), MANTISSA_BITS)


def _log_of_split(k: Node, f: Node) -> Node:
    """k ln 2 + ln(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    n = make("of_whole", k)
    return n * LN2_HIGH + ((n * LN2_LOW + f) + f * f * (f * _polynomial(f, LOG1P) - 0.5))


def _log_at_limits(y: Node, x: Node) -> Node:
    """y, unless a logarithm of x is a limit or none."""
    y = _where(x > 0.0, y, _where(make("eq", x, 0.0), -math.inf, math.nan))
    return _where(x < math.inf, y, x)  # infinity itself; a NaN is not below it either


def _is_nonpositive(x: Node) -> bool:
    """Whether x cannot be above 0 for what it is made of: then its exponential cannot overflow."""
    if x.op == "neg":
        a = x.args[0]
        return a.op == "abs" or (a.op == "mul" and a.args[0] is a.args[1])
    if x.op == "sub":
        return x.args[1].op == "largest" and x.args[1].args[0] is x.args[0]
    if x.op == "mul":
        factor, a = x.args if x.args[0].op == "constant" else x.args[::-1]
        negative = factor.op == "constant" and factor.value < 0.0
        return negative and a.op == "mul" and a.args[0] is a.args[1]
    return False


# ---- functions -------------------------------------------------------------------------------------------------------
def exp(x: Node) -> Node:
    """2^n exp(r), where n goes to the exponent by addition: 2^128 exp(r) may be finite, 2^128 is not."""
    if _is_nonpositive(x):
        return exp_nonpositive(x)
    bits, r = _reduced(x, MAGIC)
    y = 1.0 + _expm1_near_0(r)
    y = make("float", make("iadd", make("bits", y), make("shl", bits, MANTISSA_BITS)))
    y = _where(x < EXP_BOTTOM, 0.0, y)
    return _where(x < EXP_TOP, y, x + math.inf)


def expm1(x: Node) -> Node:
    """2 (2^(n - 1) expm1(r) + 2^(n - 1) - 1/2): by halves, as 2^128 is no float32."""
    x = _where(x > EXPM1_TOP, EXPM1_TOP, x)
    x = _where(x < EXPM1_BOTTOM, EXPM1_BOTTOM, x)
    bits, r = _reduced(x, MAGIC_HALF)
    half = _power_of_two(bits)
    return 2.0 * (half * _expm1_near_0(r) + (half - 0.5))


def log(x: Node) -> Node:
    """k ln 2 + ln(m) for x = 2^k m; of a denormal number x, that of 2^23 x is taken."""
    small = x < LEAST_NORMAL
    z = _where(small, x * TWO_23, x)
    k = _split(z)
    m = make("float", make("isub", make("bits", z), make("shl", k, MANTISSA_BITS)))
    return _log_at_limits(_log_of_split(make("iwhere", small, make("isub", k, MANTISSA_BITS), k), m - 1.0), x)


def log1p(x: Node) -> Node:
    """k ln 2 + ln(1 + f) for 1 + x = 2^k (1 + f); f comes from x, not from the sum, whose rounding takes x's bits."""
    k = _split(1.0 + x)
    scale = make("float", make("isub", FOUR_BITS, make("shl", k, MANTISSA_BITS)))
    return _log_at_limits(_log_of_split(k, 0.25 * (x * scale + (scale - 4.0))), 1.0 + x)


def sigmoid(z: Node) -> Node:
    """1 / (1 + exp(-z)), by an exponential that cannot overflow."""
    e = exp_nonpositive(-abs(z))
    return _where(z < 0.0, e, 1.0) / (1.0 + e)


def tanh(x: Node) -> Node:
    """-e / (2 + e) for e = expm1(-2 |x|), with the sign of x.

    A quotient of polynomials would take 13 operations in place of 21, and be wrong by 5 units in the last place.
    """
    x2 = -2.0 * abs(x)
    bits, r = _reduced(_where(x2 < EXPM1_BOTTOM, EXPM1_BOTTOM, x2), MAGIC_POWER)
    power = _power_of_two(bits)
    e = power * _expm1_near_0(r) + (power - 1.0)
    return make("copysign", e / (2.0 + e), x)


def erf(x: Node) -> Node:
    """x + x S(x^2) near 0, further out 1 - exp(C(|x|)), with the sign of x."""
    a = abs(x)
    near = a + a * _polynomial(x * x, ERF_NEAR)
    # C falls without end, as its highest coefficient says: no limit to a is needed
    far = 1.0 - exp_nonpositive(_polynomial(a, ERF_FAR))
    return make("copysign", _where(a < ERF_SPLIT, near, far), x)


def _quarters(x: Node) -> tuple[Node, Node]:
    """n in the low bits of a whole number, and y, for x = n pi / 2 + y with |y| <= pi / 4, whatever x.

    Halves of x times pieces of 2 / pi of twelve bits are exact, and so are they without their multiples of 4, which are
    whole turns (Payne and Hanek 1983). For the last pieces x is made smaller, and they larger: none leaves the normal
    numbers.
    """
    high = make("float", make("shl", make("ashr", make("bits", x), 12.0), 12.0))
    pieces = [piece for both in TWO_OVER_PI for piece in (both >> 12, both & 0xFFF)]
    low = x - high
    terms: list[Node] = []
    small = {part: part / 2.0**48 for part in (high, low)}
    for i, piece in enumerate(pieces):
        for part in (high, low):
            scale = 2.0**48 if i > 6 else 1.0
            product = make("mul", part if scale == 1.0 else small[part], piece * 2.0 ** (-12 * (i + 1)) * scale)
            terms.append(product - 4.0 * make("rint", product * 0.25))
    n = make("rint", terms[0])
    rest = terms[0] - n
    for term in terms[1:]:
        rest = rest + term
    more = make("rint", rest)
    near = abs(x) < QUARTER_PI
    n = make("bits", _where(near, 0.0, n + more) + MAGIC)
    return n, _where(near, x, (rest - more) * HALF_PI)


def _of_quarters(n: Node, y: Node) -> Node:
    """sin(n pi / 2 + y)."""
    square = y * y
    sine = y + y * square * _polynomial(square, SIN)
    cosine = 1.0 + square * (square * _polynomial(square, COS) - 0.5)
    odd, half_turn = (make("copysign", 1.0, make("float", make("shl", n, bits))) for bits in (31.0, 30.0))
    return half_turn * _where(odd < 0.0, cosine, sine)


def sin(x: Node) -> Node:
    """The sine, of numbers below 1000 to six units in the last place, of any other to 2^-18."""
    return _of_quarters(*_quarters(x))


def cos(x: Node) -> Node:
    """The cosine, as `sin`."""
    n, y = _quarters(x)
    return _of_quarters(make("iadd", n, 1.0), y)


def power(a: Node, b: Node) -> Node:
    """exp(b log |a|), with a's sign where b is odd, NaN where a is negative and b no whole number.

    b magnifies the rounding of the logarithm: the error is up to 2^-23 (2 + |b log a|) of the value.
    """
    size = make("exp", b * make("log", abs(a)))
    size = _where(make("eq", b, 0.0), 1.0, _where(make("eq", a, 1.0), 1.0, size))
    half = b * 0.5
    odd = 1.0 - make("eq", make("floor", half), half)
    of_negative = _where(make("eq", make("floor", b), b), _where(odd, -size, size), math.nan)
    return _where(a < 0.0, of_negative, size)


def sign(a: Node) -> Node:
    """-1, 0 or 1; NaN of NaN."""
    return _where(a > 0.0, 1.0, _where(a < 0.0, -1.0, a))


def step(a: Node) -> Node:
    """1 above 0, else 0; NaN of NaN."""
    return _where(a > 0.0, 1.0, _where(make("eq", a, a), 0.0, a))


def _never_nan(a: Node) -> bool:
    a = a.args[0] if a.op == "neg" else a
    return (a.op == "constant" and a.value == a.value) or (a.op == "leaf" and a.value == "most")


def maximum(a: Node, b: Node) -> Node:
    """The larger of the two; NaN if one is."""
    if _never_nan(a):
        a, b = b, a
    larger = _where(a < b, b, a)  # a where it is NaN
    return larger if _never_nan(b) else _where(make("eq", b, b), larger, b)


def minimum(a: Node, b: Node) -> Node:
    """The smaller of the two; NaN if one is."""
    if _never_nan(a):
        a, b = b, a
    smaller = _where(b < a, b, a)
    return smaller if _never_nan(b) else _where(make("eq", b, b), smaller, b)


# What stands for an operation, in operations that a processor has.
RULES: Mapping[str, Callable[..., Node]] = {
    **PARTS, "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "sigmoid": sigmoid, "erf": erf,
    "pow": power, "sin": sin, "cos": cos, "sign": sign, "step": step, "maximum": maximum, "minimum": minimum,
}  # fmt: skip
