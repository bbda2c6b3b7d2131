"""What formulas are made of, with Keras's names: losses, metrics, activations and regularizers of a user's own.

Each works on the symbols that a formula is traced with, and on NumPy's arrays. In a formula arrays are [batch,
outputs], and reductions go along the last axis: a formula says what becomes of one sample, and gpumlp makes kernels of
it. A sum over the batch, or what is not here, is refused by name. What is of arrays alone, `gpumlp.arrays` has.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpumlp import arrays, config
from gpumlp.expressions import ELEMENT, ROW, UNIFORM, Node, flat, index, kept, make, truth, whole
from gpumlp.expressions import power as _node_power

Number = Any  # a symbol, an array or a number
ALONE = (bool, int, float, np.bool_)  # beside arrays these take their type


def _traced(*args: Any) -> bool:
    return builtins.any(isinstance(a, Node) for a in args)  # `any` is that of arrays here


def _floats(x: Any) -> Any:
    """Return x as an array of a floating-point type: its own, else the default one; of a number alone double."""
    if type(x) in ALONE:
        return np.float64(x)
    array = np.asarray(x)
    plain = array.dtype.kind in "iub" or (array.dtype.kind == "f" and not hasattr(x, "dtype"))
    return array.astype(config.floatx()) if plain else array


def _elementwise(op: str, compute: Callable[..., Any], text: str) -> Callable[..., Any]:
    """Return a function of one or more numbers, by an operation of that name on symbols."""

    def function(*x: Number) -> Any:
        if _traced(*x):
            return make(op, *x)
        given = [float(a) if type(a) in ALONE else _floats(a) for a in x]
        with np.errstate(all="ignore"):
            return compute(*given)

    function.__doc__ = text
    return function


def _unary(op: str, compute: Callable[..., Any], text: str) -> Callable[[Number], Any]:
    function = _elementwise(op, compute, text)

    def of_one(x: Number) -> Any:
        return function(x)

    of_one.__name__ = of_one.__qualname__ = op
    of_one.__doc__ = text
    return of_one


def _binary(name: str, op: str, compute: Callable[..., Any], text: str, swapped: bool = False) -> Callable[..., Any]:
    function = _elementwise(op, compute, text)

    def of_two(x1: Number, x2: Number) -> Any:
        return function(x2, x1) if swapped else function(x1, x2)

    of_two.__name__ = of_two.__qualname__ = name
    of_two.__doc__ = text
    return of_two


def _erf(x: np.ndarray) -> Any:
    from gpumlp.erf import erf as numpy_erf

    out = np.empty(x.shape, x.dtype)
    flat_x = np.ascontiguousarray(x).reshape(1, -1)
    numpy_erf(np, flat_x, out.reshape(1, -1), lambda i, shape, dtype: np.empty(shape, dtype), 0)
    return out[()]


exp = _unary("exp", np.exp, "e ** x.")
expm1 = _unary("expm1", np.expm1, "exp(x) - 1, to the last digit near 0.")
log = _unary("log", np.log, "The natural logarithm.")
log1p = _unary("log1p", np.log1p, "log(1 + x), to the last digit near 0.")
sqrt = _unary("sqrt", np.sqrt, "The square root.")
sin = _unary("sin", np.sin, "The sine.")
cos = _unary("cos", np.cos, "The cosine.")
tanh = _unary("tanh", np.tanh, "The hyperbolic tangent.")
erf = _unary("erf", _erf, "The error function.")
sign = _unary("sign", np.sign, "-1, 0 or 1.")
absolute = _unary("abs", np.absolute, "|x|.")
negative = _unary("neg", np.negative, "-x.")
floor = _unary("floor", np.floor, "The largest whole number that is not above x.")
add = _binary("add", "add", np.add, "x1 + x2.")
subtract = _binary("subtract", "sub", np.subtract, "x1 - x2.")
multiply = _binary("multiply", "mul", np.multiply, "x1 * x2.")
divide = _binary("divide", "div", np.true_divide, "x1 / x2.")
maximum = _binary("maximum", "maximum", np.maximum, "The larger of the two; NaN if one is. At a tie x2 has the slope.")
minimum = _binary("minimum", "minimum", np.minimum, "The smaller of the two; NaN if one is. At a tie x2 has the slope.")
less = _binary("less", "lt", np.less, "Whether x1 < x2; in a formula 1 or 0.")
less_equal = _binary("less_equal", "le", np.less_equal, "Whether x1 <= x2; in a formula 1 or 0.")
greater = _binary("greater", "lt", np.less, "Whether x1 > x2; in a formula 1 or 0.", swapped=True)
greater_equal = _binary("greater_equal", "le", np.less_equal, "Whether x1 >= x2; in a formula 1 or 0.", swapped=True)
equal = _binary("equal", "eq", np.equal, "Whether x1 = x2; in a formula 1 or 0.")
abs = absolute
true_divide = divide


def not_equal(x1: Number, x2: Number) -> Any:
    """Whether x1 and x2 differ; in a formula 1 or 0."""
    return 1.0 - equal(x1, x2) if _traced(x1, x2) else np.logical_not(equal(x1, x2))


def logical_and(x1: Number, x2: Number) -> Any:
    """Whether neither is 0; in a formula 1 or 0."""
    return x1 & x2 if _traced(x1, x2) else np.logical_and(x1, x2)


def logical_or(x1: Number, x2: Number) -> Any:
    """Whether one is not 0; in a formula 1 or 0."""
    return x1 | x2 if _traced(x1, x2) else np.logical_or(x1, x2)


def logical_not(x: Number) -> Any:
    """Whether x is 0; in a formula 1 or 0."""
    return ~x if _traced(x) else np.logical_not(x)


def isnan(x: Number) -> Any:
    """Whether x is NaN; in a formula 1 or 0."""
    return not_equal(x, x)


def where(condition: Number, x1: Number, x2: Number) -> Any:
    """x1 where the condition is not 0, else x2. The other's slope is 0, also where it is NaN."""
    if _traced(condition, x1, x2):
        return make("where", condition, x1, x2)
    return np.where(np.asarray(condition) != 0, x1, x2)


def square(x: Number) -> Any:
    """x * x."""
    return x * x if isinstance(x, Node) else np.square(_floats(x))


def power(x1: Number, x2: Number) -> Any:
    """x1 ** x2; of whole numbers up to 4 by products."""
    return _node_power(x1, x2) if _traced(x1, x2) else np.power(_floats(x1), _floats(x2))


def reciprocal(x: Number) -> Any:
    """1 / x."""
    return divide(1.0, x)


def rsqrt(x: Number) -> Any:
    """1 / sqrt(x)."""
    return divide(1.0, sqrt(x))


def clip(x: Number, x_min: Number, x_max: Number) -> Any:
    """x between x_min and x_max, None for no limit. Beyond them there is no slope."""
    x = x if x_min is None else maximum(x, x_min)
    return x if x_max is None else minimum(x, x_max)


def bounded(x: Number, low: Number = -math.inf, high: Number = math.inf) -> Any:
    """x between two limits, which the slope does not know of: where beyond them nothing would change but overflow."""
    return make("bounded", x, low, high) if _traced(x) else clip(x, low, high)


def finite(x: Number) -> Any:
    """x, its infinities as the largest numbers there are: no difference is NaN, and no product with 0."""
    if not _traced(x):
        most = np.finfo(_floats(x).dtype).max
        return clip(x, -most, most)
    most = x.table.leaf("most", UNIFORM)
    return bounded(x, -most, most)


def stop_gradient(variable: Number) -> Any:
    """x, as a number that does not depend on anything."""
    return make("held", variable) if _traced(variable) else variable


def step(x: Number) -> Any:
    """1 above 0, else 0; NaN of NaN."""
    return make("step", x) if _traced(x) else np.maximum(np.sign(_floats(x)), 0.0)


# ---- along a row -----------------------------------------------------------------------------------------------------
def _along(x: Any, axis: Any, what: str) -> Node:
    """Return x, whose last axis is gone along; TypeError for any other."""
    last = axis[0] if isinstance(axis, (tuple, list)) and len(axis) == 1 else axis
    if x.table.one_row:
        if axis is None:
            return kept(x)
        raise TypeError(
            f"{what} of a regularizer or an update goes over all of an array, whatever its shape: no axis={axis!r}."
        )
    if last in (-1, 1) and not isinstance(last, bool) and not x.flat:
        return x
    raise TypeError(
        f"{what} of a formula goes along the last axis, a sample's outputs: {what}(x, axis=-1); got axis={axis!r}"
        + (" of an array that has lost it." if x.flat and last in (-1, 1) else ".")
        + " What it gives for a sample cannot depend on the batch's others; a model takes the mean over the batch."
    )


def _reduced(node: Node, keepdims: bool) -> Node:
    return node if keepdims else flat(node)


def sum(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum along the last axis."""
    if _traced(x):
        x = _along(x, axis, "sum")
        return _reduced(x if x.per == ROW else make("sum", x), keepdims)
    return np.sum(_floats(x), axis=axis, keepdims=keepdims)


def mean(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean along the last axis; without an axis, at a formula's end, that over the batch, too."""
    if _traced(x):
        if axis is None and not keepdims and not x.table.one_row:
            return x if x.per == UNIFORM else whole(flat(kept(x) if x.per < ELEMENT else mean(x, -1, keepdims=True)))
        total = sum(x, axis, keepdims)
        return total if x.per == ROW else total / x.table.leaf("width", UNIFORM)
    return np.mean(_floats(x), axis=axis, keepdims=keepdims)


def max(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest along the last axis; several share the slope."""
    if _traced(x):
        return _reduced(make("largest", _along(x, axis, "max")), keepdims)
    return np.max(_floats(x), axis=axis, keepdims=keepdims)


def min(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest along the last axis; several share the slope."""
    if _traced(x):
        return _reduced(-make("largest", -_along(x, axis, "min")), keepdims)
    return np.min(_floats(x), axis=axis, keepdims=keepdims)


amax, amin = max, min


def std(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The standard deviation along the last axis."""
    return sqrt(var(x, axis, keepdims))


def round(x: Number, decimals: int = 0) -> Any:
    """The nearest whole number, of two the even one; with ``decimals``, on arrays, the nearest of so many digits."""
    if not _traced(x):
        return np.round(_floats(x), decimals)
    if decimals:
        raise TypeError(f"round of a formula gives whole numbers; got decimals={decimals!r}.")
    up = floor(x + 0.5)
    return up - equal(up, x + 0.5) * (up - 2.0 * floor(0.5 * up))  # halfway, and odd


def zeros(shape: Any, dtype: Any = None) -> np.ndarray:
    """An array of 0s."""
    return np.zeros(shape, dtype or config.floatx())


def ones(shape: Any, dtype: Any = None) -> np.ndarray:
    """An array of 1s."""
    return np.ones(shape, dtype or config.floatx())


def var(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The variance along the last axis: the mean square of what differs from the mean."""
    if _traced(x):
        return mean(square(x - mean(x, axis, True)), axis, keepdims)
    return np.var(_floats(x), axis=axis, keepdims=keepdims)


def argmax(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """The place of the first of the largest along the last axis, of the first NaN if there is one."""
    if _traced(x):
        return _reduced(make("argmax", _along(x, axis, "argmax")), keepdims)
    return np.argmax(x, axis=axis, keepdims=keepdims)


def logsumexp(x: Number, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along the last axis, without overflow."""
    if _traced(x):
        return _reduced(make("logsumexp", _along(x, axis, "logsumexp")), keepdims)
    x = _floats(x)
    top = np.max(x, axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        result = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return result if keepdims else np.squeeze(result, axis=axis)


def expand_dims(x: Number, axis: int) -> Any:
    """An axis of size 1 more, behind: a number a row, [batch], becomes [batch, 1]."""
    if not _traced(x):
        return np.expand_dims(x, axis)
    if axis not in (-1, 1) or not x.flat:
        raise TypeError(f"expand_dims of a formula makes [batch, 1] of [batch]: axis -1; got axis={axis!r}.")
    return kept(x)


def squeeze(x: Number, axis: Any = None) -> Any:
    """The last axis taken away where it has size 1."""
    if not _traced(x):
        return np.squeeze(x, axis)
    if axis not in (None, -1, 1) or x.per == ELEMENT:
        raise TypeError("squeeze of a formula makes [batch] of [batch, 1]: of one number a row, axis -1.")
    return flat(x)


def one_hot(x: Number, num_classes: Any = None, axis: int = -1) -> Any:
    """1 at the place that x says, else 0. In a formula x is a number a row, and there are as many places as outputs."""
    if _traced(x):
        return make("eq", index(x.table), kept(x))
    return np.eye(num_classes, dtype=config.floatx())[np.asarray(x, np.int64)]


def cast(x: Number, dtype: Any = None) -> Any:
    """x, of a type: whole numbers lose what is behind the point, truth values are 0 or 1.

    A formula is computed in the model's floating-point type, whichever is asked for.
    """
    if not _traced(x):
        array = np.asarray(x, dtype)
        return _floats(x) if dtype is None and array.dtype.kind == "f" else array
    kind = "f" if dtype is None or "float" in str(dtype) else np.dtype(dtype).kind
    if kind == "b":
        return truth(x)
    return where(x < 0.0, -floor(-x), floor(x)) if kind in "iu" else x


def convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None) -> Any:
    """x, as an array of this type."""
    return cast(x, dtype)


def zeros_like(x: Number, dtype: Any = None) -> Any:
    """0 for each of x."""
    return x.table.constant(0.0) if _traced(x) else np.zeros_like(x, dtype)


def ones_like(x: Number, dtype: Any = None) -> Any:
    """1 for each of x."""
    return x.table.constant(1.0) if _traced(x) else np.ones_like(x, dtype)


# ---- what has a stable form of its own -------------------------------------------------------------------------------
def sigmoid(x: Number) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    if _traced(x):
        return make("sigmoid", x)
    x = _floats(x)
    e = np.exp(-np.absolute(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def softplus(x: Number) -> Any:
    """log(1 + exp(x)), without overflow."""
    if _traced(x):
        return make("softplus", x)
    x = _floats(x)
    return np.log1p(np.exp(-np.absolute(x))) + np.maximum(x, 0.0)


def log_sigmoid(x: Number) -> Any:
    """log(sigmoid(x)), without overflow."""
    return -softplus(-x if _traced(x) else -_floats(x))


def softmax(x: Number, axis: Any = -1) -> Any:
    """exp(x) / sum(exp(x)) along the last axis, without overflow."""
    if _traced(x):
        return make("softmax", _along(x, axis, "softmax"))
    return np.exp(log_softmax(x, axis))


def log_softmax(x: Number, axis: Any = -1) -> Any:
    """log(softmax(x)), without overflow."""
    if _traced(x):
        return make("log_softmax", _along(x, axis, "log_softmax"))
    x = _floats(x)
    return x - logsumexp(x, axis, keepdims=True)


def relu(x: Number) -> Any:
    """max(x, 0), of which the slope at 0 is 0."""
    return maximum(x, 0.0)


def silu(x: Number) -> Any:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def logaddexp(x1: Number, x2: Number) -> Any:
    """log(exp(x1) + exp(x2)), without overflow."""
    return maximum(x1, x2) + log1p(exp(-absolute(subtract(x1, x2))))


def norm(x: Number, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The Euclidean length along the last axis."""
    if ord not in (None, 2):
        raise NotImplementedError(f"norm is the Euclidean one: ord=2; got ord={ord!r}.")
    return sqrt(sum(square(x), axis, keepdims))


globals().update(arrays.FUNCTIONS)
