"""Activations: each a function of the pre-activations x, with Keras's arguments."""

from __future__ import annotations

from gpumlp.activations.base import KNOWN as KNOWN
from gpumlp.activations.base import Activation as Activation
from gpumlp.activations.rectifiers import SELU_ALPHA as SELU_ALPHA
from gpumlp.activations.rectifiers import SELU_SCALE as SELU_SCALE
from gpumlp.activations.rectifiers import celu as celu
from gpumlp.activations.rectifiers import elu as elu
from gpumlp.activations.rectifiers import hard_shrink as hard_shrink
from gpumlp.activations.rectifiers import leaky_relu as leaky_relu
from gpumlp.activations.rectifiers import linear as linear
from gpumlp.activations.rectifiers import relu as relu
from gpumlp.activations.rectifiers import relu6 as relu6
from gpumlp.activations.rectifiers import selu as selu
from gpumlp.activations.rectifiers import soft_shrink as soft_shrink
from gpumlp.activations.rectifiers import threshold as threshold
from gpumlp.activations.rows import GLU as GLU
from gpumlp.activations.rows import glu as glu
from gpumlp.activations.rows import log_softmax as log_softmax
from gpumlp.activations.rows import softmax as softmax
from gpumlp.activations.rows import sparsemax as sparsemax
from gpumlp.activations.sigmoids import hard_sigmoid as hard_sigmoid
from gpumlp.activations.sigmoids import hard_tanh as hard_tanh
from gpumlp.activations.sigmoids import log_sigmoid as log_sigmoid
from gpumlp.activations.sigmoids import sigmoid as sigmoid
from gpumlp.activations.sigmoids import softsign as softsign
from gpumlp.activations.sigmoids import sparse_sigmoid as sparse_sigmoid
from gpumlp.activations.sigmoids import tanh as tanh
from gpumlp.activations.sigmoids import tanh_shrink as tanh_shrink
from gpumlp.activations.smooth import exponential as exponential
from gpumlp.activations.smooth import gelu as gelu
from gpumlp.activations.smooth import hard_silu as hard_silu
from gpumlp.activations.smooth import hard_swish as hard_swish
from gpumlp.activations.smooth import mish as mish
from gpumlp.activations.smooth import silu as silu
from gpumlp.activations.smooth import softplus as softplus
from gpumlp.activations.smooth import sparse_plus as sparse_plus
from gpumlp.activations.smooth import squareplus as squareplus
from gpumlp.activations.smooth import swish as swish
from gpumlp.literals import ActivationLike
from gpumlp.naming import is_function, listing, resolve
from gpumlp.saving import read_by, serialize_keras_object

__all__ = [
    "Activation", "celu", "deserialize", "elu", "exponential", "gelu", "get", "glu", "hard_shrink", "hard_sigmoid",
    "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu",
    "relu6", "selu", "serialize", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip
__dir__ = listing(__name__)


def get(identifier: ActivationLike) -> Activation:
    """Return the activation that is meant.

    Parameters
    ----------
    identifier : str, Activation, callable, dict or None
        A name; an activation; a config dict; a function of yours of x, by `gpumlp.ops`; None: linear.

    Returns
    -------
    Activation
        What a layer has.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, and for a function that is not made of gpumlp.ops.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.get("relu")
    relu
    >>> activations.get({"class_name": "elu", "config": {"alpha": 0.5}})
    elu(alpha=0.5)
    """
    if identifier is None:
        return linear
    if identifier is glu or identifier == "glu":
        raise TypeError(GLU)
    found = resolve("activation", identifier, KNOWN, Activation, callables=True)
    made: Activation = Activation(found) if is_function(found, Activation) else found
    made.formula  # noqa: B018  what cannot be traced is told here
    return made


def serialize(activation: ActivationLike) -> str | dict[str, object]:
    """Return the config of an activation.

    Parameters
    ----------
    activation : str, Activation, callable, dict or None
        As `get` takes it.

    Returns
    -------
    str or dict
        A name, or a dict where there are constants or the function is a user's: what `get` takes.

    Raises
    ------
    TypeError
        For a function without a name.

    Examples
    --------
    >>> from gpumlp import activations
    >>> activations.serialize(activations.relu)
    'relu'
    >>> activations.serialize(activations.elu.given(alpha=0.5))
    {'class_name': 'elu', 'config': {'alpha': 0.5}}
    """
    found = get(activation)
    known = KNOWN.get(found.name)
    if known is None or known.function is not found.function:
        described: dict[str, object] = serialize_keras_object(found.function)
        return described
    return found.name if found == known else {"class_name": found.name, "config": found.get_config()}


deserialize = read_by("keras.activations", get)
