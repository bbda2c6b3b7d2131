"""Initial weights. Fan-in and fan-out of a Dense kernel are its two axes (Glorot & Bengio 2010, He et al. 2015)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gpumlp import config
from gpumlp.initializers.base import Initializer as Initializer
from gpumlp.initializers.base import Initializing as Initializing
from gpumlp.initializers.drawn import DISTRIBUTIONS as DISTRIBUTIONS
from gpumlp.initializers.drawn import MODES as MODES
from gpumlp.initializers.drawn import GlorotNormal as GlorotNormal
from gpumlp.initializers.drawn import GlorotUniform as GlorotUniform
from gpumlp.initializers.drawn import HeNormal as HeNormal
from gpumlp.initializers.drawn import HeUniform as HeUniform
from gpumlp.initializers.drawn import LecunNormal as LecunNormal
from gpumlp.initializers.drawn import LecunUniform as LecunUniform
from gpumlp.initializers.drawn import Orthogonal as Orthogonal
from gpumlp.initializers.drawn import RandomInitializer as RandomInitializer
from gpumlp.initializers.drawn import RandomNormal as RandomNormal
from gpumlp.initializers.drawn import RandomUniform as RandomUniform
from gpumlp.initializers.drawn import TruncatedNormal as TruncatedNormal
from gpumlp.initializers.drawn import VarianceScaling as VarianceScaling
from gpumlp.initializers.drawn import compute_fans as compute_fans
from gpumlp.initializers.fixed import Constant as Constant
from gpumlp.initializers.fixed import Identity as Identity
from gpumlp.initializers.fixed import Ones as Ones
from gpumlp.initializers.fixed import Zeros as Zeros
from gpumlp.literals import InitializerLike
from gpumlp.naming import listing, resolve
from gpumlp.saving import read_by, serialize_keras_object

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "IdentityInitializer",
    "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "OrthogonalInitializer", "RandomInitializer",
    "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros", "compute_fans", "constant",
    "deserialize", "get", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity", "lecun_normal",
    "lecun_uniform", "ones", "orthogonal", "random_normal", "random_uniform", "serialize", "truncated_normal",
    "variance_scaling", "zeros",
]  # fmt: skip
__dir__ = listing(__name__)


KNOWN: dict[str, type[Initializer]] = {
    "zeros": Zeros, "ones": Ones, "constant": Constant, "identity": Identity,
    "glorot_uniform": GlorotUniform, "glorot_normal": GlorotNormal, "he_uniform": HeUniform, "he_normal": HeNormal,
    "lecun_uniform": LecunUniform, "lecun_normal": LecunNormal, "variance_scaling": VarianceScaling,
    "random_normal": RandomNormal, "random_uniform": RandomUniform, "truncated_normal": TruncatedNormal,
    "orthogonal": Orthogonal, "zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform,
    "identity_initializer": Identity, "orthogonal_initializer": Orthogonal,
}  # fmt: skip
zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
glorot_uniform, glorot_normal, he_uniform, he_normal = GlorotUniform, GlorotNormal, HeUniform, HeNormal
lecun_uniform, lecun_normal, variance_scaling = LecunUniform, LecunNormal, VarianceScaling
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal


def _as_given(array: np.ndarray, shape: Sequence[int], dtype: DTypeLike | None = None) -> np.ndarray:
    if tuple(shape) != array.shape:
        raise ValueError(f"An array as an initializer must have the shape of the weights: {shape}; got {array.shape}.")
    return array.astype(config.floatx() if dtype is None else dtype)


@overload
def get(identifier: None) -> None: ...
@overload
def get(identifier: str | Callable[..., object] | Mapping[str, object] | ArrayLike) -> Initializing: ...
def get(identifier: InitializerLike) -> Initializing | None:
    """Return the initializer that is meant.

    Parameters
    ----------
    identifier : str, Initializer, class, callable, dict, array or None
        A name; an object or a class; a function of (shape, dtype), or another object that can be called so; a config
        dict; or the values themselves.

    Returns
    -------
    callable or None
        What makes first values, of a shape and a dtype; None for None.

    Raises
    ------
    ValueError
        For an unknown name, and for values that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.get("he_normal")
    HeNormal()
    """
    if identifier is None:
        return None
    if hasattr(identifier, "__array__") and not isinstance(identifier, (type, np.generic)):
        return functools.partial(_as_given, config.floats("an initializer", identifier).copy())
    return resolve("initializer", identifier, KNOWN, Initializer, callables=True)


def serialize(initializer: object) -> dict[str, object]:
    """Return the config of an initializer.

    Parameters
    ----------
    initializer : Initializer or callable
        What `get` returns.

    Returns
    -------
    dict or str
        What `deserialize` makes the same of; see `gpumlp.saving`.

    Raises
    ------
    TypeError
        For a function without a name.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.serialize(initializers.Constant(0.5))["config"]
    {'value': 0.5}
    """
    return serialize_keras_object(initializer)


deserialize = read_by("keras.initializers", get)
