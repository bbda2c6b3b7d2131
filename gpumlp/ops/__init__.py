"""What formulas are made of, with Keras's names: losses, metrics, activations and regularizers of a user's own.

Each works on the symbols that a formula is traced with, and on NumPy's arrays. In a formula arrays are [batch,
outputs], and reductions go along the last axis: a formula says what becomes of one sample, and gpumlp makes kernels of
it. A sum over the batch, or what is not here, is refused by name. What is of arrays alone, `gpumlp.arrays` has.
"""

from gpumlp import arrays
from gpumlp.naming import listing
from gpumlp.ops.arithmetic import abs as abs
from gpumlp.ops.arithmetic import absolute as absolute
from gpumlp.ops.arithmetic import add as add
from gpumlp.ops.arithmetic import ceil as ceil
from gpumlp.ops.arithmetic import divide as divide
from gpumlp.ops.arithmetic import floor as floor
from gpumlp.ops.arithmetic import maximum as maximum
from gpumlp.ops.arithmetic import minimum as minimum
from gpumlp.ops.arithmetic import multiply as multiply
from gpumlp.ops.arithmetic import negative as negative
from gpumlp.ops.arithmetic import power as power
from gpumlp.ops.arithmetic import reciprocal as reciprocal
from gpumlp.ops.arithmetic import rsqrt as rsqrt
from gpumlp.ops.arithmetic import sign as sign
from gpumlp.ops.arithmetic import sqrt as sqrt
from gpumlp.ops.arithmetic import square as square
from gpumlp.ops.arithmetic import subtract as subtract
from gpumlp.ops.arithmetic import true_divide as true_divide
from gpumlp.ops.choices import bounded as bounded
from gpumlp.ops.choices import clip as clip
from gpumlp.ops.choices import equal as equal
from gpumlp.ops.choices import finite as finite
from gpumlp.ops.choices import greater as greater
from gpumlp.ops.choices import greater_equal as greater_equal
from gpumlp.ops.choices import isnan as isnan
from gpumlp.ops.choices import less as less
from gpumlp.ops.choices import less_equal as less_equal
from gpumlp.ops.choices import logical_and as logical_and
from gpumlp.ops.choices import logical_not as logical_not
from gpumlp.ops.choices import logical_or as logical_or
from gpumlp.ops.choices import not_equal as not_equal
from gpumlp.ops.choices import step as step
from gpumlp.ops.choices import stop_gradient as stop_gradient
from gpumlp.ops.choices import where as where
from gpumlp.ops.functions import cos as cos
from gpumlp.ops.functions import cosh as cosh
from gpumlp.ops.functions import erf as erf
from gpumlp.ops.functions import exp as exp
from gpumlp.ops.functions import exp2 as exp2
from gpumlp.ops.functions import expm1 as expm1
from gpumlp.ops.functions import log as log
from gpumlp.ops.functions import log1p as log1p
from gpumlp.ops.functions import log2 as log2
from gpumlp.ops.functions import log10 as log10
from gpumlp.ops.functions import log_sigmoid as log_sigmoid
from gpumlp.ops.functions import logaddexp as logaddexp
from gpumlp.ops.functions import relu as relu
from gpumlp.ops.functions import sigmoid as sigmoid
from gpumlp.ops.functions import silu as silu
from gpumlp.ops.functions import sin as sin
from gpumlp.ops.functions import sinh as sinh
from gpumlp.ops.functions import softplus as softplus
from gpumlp.ops.functions import tan as tan
from gpumlp.ops.functions import tanh as tanh
from gpumlp.ops.kinds import Found as Found
from gpumlp.ops.kinds import Given as Given
from gpumlp.ops.making import cast as cast
from gpumlp.ops.making import convert_to_tensor as convert_to_tensor
from gpumlp.ops.making import ones as ones
from gpumlp.ops.making import ones_like as ones_like
from gpumlp.ops.making import round as round
from gpumlp.ops.making import zeros as zeros
from gpumlp.ops.making import zeros_like as zeros_like
from gpumlp.ops.rows import amax as amax
from gpumlp.ops.rows import amin as amin
from gpumlp.ops.rows import argmax as argmax
from gpumlp.ops.rows import expand_dims as expand_dims
from gpumlp.ops.rows import log_softmax as log_softmax
from gpumlp.ops.rows import logsumexp as logsumexp
from gpumlp.ops.rows import max as max
from gpumlp.ops.rows import mean as mean
from gpumlp.ops.rows import min as min
from gpumlp.ops.rows import norm as norm
from gpumlp.ops.rows import one_hot as one_hot
from gpumlp.ops.rows import softmax as softmax
from gpumlp.ops.rows import squeeze as squeeze
from gpumlp.ops.rows import std as std
from gpumlp.ops.rows import sum as sum
from gpumlp.ops.rows import var as var

FORMULAS = [
    "abs", "absolute", "add", "amax", "amin", "argmax", "bounded", "cast", "ceil", "clip", "convert_to_tensor",
    "cos", "cosh", "divide", "equal", "erf", "exp", "exp2", "expand_dims", "expm1", "finite", "floor", "greater",
    "greater_equal", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2", "log_sigmoid", "log_softmax",
    "logaddexp", "logical_and", "logical_not", "logical_or", "logsumexp", "max", "maximum", "mean", "min",
    "minimum", "multiply", "negative", "norm", "not_equal", "one_hot", "ones", "ones_like", "power", "reciprocal",
    "relu", "round", "rsqrt", "sigmoid", "sign", "silu", "sin", "sinh", "softmax", "softplus", "sqrt", "square",
    "squeeze", "std", "step", "stop_gradient", "subtract", "sum", "tan", "tanh", "true_divide", "var", "where",
    "zeros", "zeros_like",
]  # fmt: skip
__all__ = sorted([*FORMULAS, *arrays.FUNCTIONS])
__dir__ = listing(__name__)
globals().update(arrays.FUNCTIONS)
