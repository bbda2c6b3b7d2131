"""Initial weights. Fan-in and fan-out of a Dense kernel are its two axes (Glorot & Bengio 2010, He et al. 2015)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gpumlp import config, random
from gpumlp.literals import InitializerLike
from gpumlp.naming import listing, number, resolve
from gpumlp.saving import Configured, deserialize_keras_object, read_by, serialize_keras_object

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "IdentityInitializer",
    "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "OrthogonalInitializer", "RandomInitializer",
    "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros", "compute_fans", "constant",
    "deserialize", "get", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity", "lecun_normal",
    "lecun_uniform", "ones", "orthogonal", "random_normal", "random_uniform", "serialize", "truncated_normal",
    "variance_scaling", "zeros",
]  # fmt: skip
__dir__ = listing(__name__)

# standard deviation of a unit normal cut off at two standard deviations
_TRUNCATED_STD = 0.87962566103423978
Shape = tuple[int, ...]
Initializing: TypeAlias = Callable[..., object]  # of a shape and a dtype: what makes first values
Seed: TypeAlias = "int | random.SeedGenerator | None"
Mode: TypeAlias = Literal["fan_in", "fan_out", "fan_avg"]
Distribution: TypeAlias = Literal["uniform", "truncated_normal", "untruncated_normal", "normal"]


class Initializer(Configured):
    """Base of what makes first values: called with a shape and a dtype, one gives a new array.

    One of a user's own has a method ``__call__(self, shape, dtype=None)``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import initializers, layers
    >>> class Halves(initializers.Initializer):
    ...     def __call__(self, shape, dtype=None):
    ...         return np.full(shape, 0.5, dtype)
    >>> layer = layers.Dense(2, kernel_initializer=Halves())
    >>> layer.build((None, 1))
    >>> layer.kernel.numpy()
    array([[0.5, 0.5]], dtype=float32)
    """

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> np.ndarray:
        """Return first values.

        Parameters
        ----------
        shape : tuple of int
            Of the array.
        dtype : dtype, optional
            None: ``config.floatx()``, "float32" unless changed.

        Returns
        -------
        ndarray
            A new array.
        """
        return self.values(tuple(shape)).astype(config.floatx() if dtype is None else dtype, copy=False)

    def values(self, shape: Shape) -> np.ndarray:
        """Return a new array of float64."""
        raise NotImplementedError(f"{type(self).__name__} must have a method __call__(self, shape, dtype=None).")

    def clone(self) -> Self:
        """Return another one, made of the same config.

        Returns
        -------
        Initializer
            One that begins anew.
        """
        return self.from_config(self.get_config())


# ---- without random numbers ------------------------------------------------------------------------------------------


class Zeros(Initializer):
    """All zeros.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Zeros()((1, 2))
    array([[0., 0.]], dtype=float32)
    """

    def values(self, shape: Shape) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Ones()((1, 2))
    array([[1., 1.]], dtype=float32)
    """

    def values(self, shape: Shape) -> np.ndarray:
        return np.ones(shape)


def _constant(value: ArrayLike) -> float | np.ndarray:
    value = deserialize_keras_object(value)  # of an array, in a config
    if not np.ndim(value):
        return number("value", value)
    if not np.isfinite(array := config.floats("value", value, "float64")).all():
        raise ValueError(f"value must be of finite numbers; got {value!r}.")
    return array


class Constant(Initializer):
    """One number everywhere, or an array's.

    Parameters
    ----------
    value : float or array_like, default 0.0
        What every element is, or an array that stretches to the shape asked for.

    Raises
    ------
    TypeError, ValueError
        For what are no finite numbers.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Constant(0.5)((1, 2))
    array([[0.5, 0.5]], dtype=float32)
    """

    value: float | np.ndarray

    checks: ClassVar = {"value": _constant}

    def __init__(self, value: ArrayLike = 0.0) -> None:
        self.value = value  # type: ignore[assignment]  # `checks` has it looked at

    def values(self, shape: Shape) -> np.ndarray:
        return np.full(shape, self.value)


class Identity(Initializer):
    """A number on the diagonal of a matrix, and zeros elsewhere.

    Parameters
    ----------
    gain : float, default 1.0
        The number.

    Raises
    ------
    ValueError
        For what is no finite number, and, when it is called, for a shape that is no matrix's.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.Identity(2.0)((2, 2))
    array([[2., 0.],
           [0., 2.]], dtype=float32)
    """

    checks: ClassVar = {"gain": functools.partial(number, "gain")}

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def values(self, shape: Shape) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices, of a shape of two sizes; got shape={shape}.")
        return self.gain * np.eye(*shape)


# ---- random numbers --------------------------------------------------------------------------------------------------


def _seed(value: object) -> object:
    if isinstance(value, Mapping):  # of a SeedGenerator, in a config
        return resolve("seed", value, {"seed_generator": random.SeedGenerator}, random.SeedGenerator)
    if value is None or hasattr(value, "next"):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"seed must be a whole number >= 0, None, or a SeedGenerator; got {value!r}.")
    return int(value)


class RandomInitializer(Initializer):
    """Base of random first values: drawn in float64, they are the same for every dtype.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        A whole number gives the same values at every call, a `gpumlp.random.SeedGenerator` others at each; with None
        they come from the package's stream, which ``utils.set_random_seed`` seeds.

    Raises
    ------
    ValueError
        For another seed.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> one, same = initializers.HeNormal(seed=1), initializers.HeNormal(seed=1)
    >>> isinstance(one, initializers.RandomInitializer)
    True
    >>> bool((one((3, 4)) == same((3, 4))).all())
    True
    """

    seed: Seed

    checks: ClassVar = {"seed": _seed}

    def __init__(self, seed: Seed = None) -> None:
        self.seed = seed


class _Normal(RandomInitializer):
    checks: ClassVar = {
        **RandomInitializer.checks, "mean": functools.partial(number, "mean"),
        "stddev": functools.partial(number, "stddev", low=0.0),
    }  # fmt: skip

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None) -> None:
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)


class RandomNormal(_Normal):
    """Numbers of a normal distribution.

    Parameters
    ----------
    mean : float, default 0.0
        The mean.
    stddev : float, default 0.05
        The standard deviation, at least 0.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For what is no finite number, and for a negative stddev.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.RandomNormal(stddev=0.0)((1, 2))
    array([[0., 0.]], dtype=float32)
    """

    def values(self, shape: Shape) -> np.ndarray:
        return self.mean + self.stddev * random.generator(self.seed).standard_normal(shape)


class TruncatedNormal(_Normal):
    """Numbers of a normal distribution; what is beyond two standard deviations is drawn again.

    Parameters
    ----------
    mean : float, default 0.0
        The mean, before.
    stddev : float, default 0.05
        The standard deviation, before, at least 0.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For what is no finite number, and for a negative stddev.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.TruncatedNormal(stddev=0.1, seed=1)((100, 100))
    >>> bool(abs(values).max() <= 0.2)
    True
    """

    def values(self, shape: Shape) -> np.ndarray:
        return self.mean + self.stddev * random.truncated(random.generator(self.seed), shape)


class RandomUniform(RandomInitializer):
    """Numbers uniform in [minval, maxval).

    Parameters
    ----------
    minval : float, default -0.05
        The smallest.
    maxval : float, default 0.05
        What all are below.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For what is no finite number, and, when it is called, for maxval below minval.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.RandomUniform(1.0, 2.0, seed=1)((100, 100))
    >>> bool((values >= 1.0).all() and (values <= 2.0).all())
    True
    """

    checks: ClassVar = {
        **RandomInitializer.checks, "minval": functools.partial(number, "minval"),
        "maxval": functools.partial(number, "maxval"),
    }  # fmt: skip

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed = None) -> None:
        self.minval, self.maxval = minval, maxval
        super().__init__(seed)

    def values(self, shape: Shape) -> np.ndarray:
        if self.maxval < self.minval:
            raise ValueError(f"maxval must be >= minval; got minval={self.minval} and maxval={self.maxval}.")
        return random.generator(self.seed).uniform(self.minval, self.maxval, shape)


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """Return how many inputs and outputs an array of weights has.

    Parameters
    ----------
    shape : tuple of int
        The array's.
    input_axes, output_axes : list of int, optional
        The axes that inputs and outputs are along. Without them these are the last two, their sizes each times all
        sizes before, as there are in convolutions' kernels; an array of one axis has that many of both.

    Returns
    -------
    tuple of int
        Fan-in and fan-out.

    Raises
    ------
    ValueError
        For an axis that the array has not.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.compute_fans((4, 3))
    (4, 3)
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        if far := [axis for axis in (*input_axes, *output_axes) if not -len(shape) <= axis < len(shape)]:
            raise ValueError(f"input_axes and output_axes must be axes of shape {shape}; got {far[0]}.")
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    before = math.prod(shape[:-2])
    return before * shape[-2], before * shape[-1]


MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")


def _mode(value: object) -> str:
    if value not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {value!r}.")
    return str(value)


def _distribution(value: object) -> str:
    name = str(value).lower()
    if name not in (*DISTRIBUTIONS, "normal"):
        raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}; got {value!r}.")
    return "truncated_normal" if name == "normal" else name


def _axes(name: str, value: object) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or any(type(axis) is not int for axis in value):
        raise ValueError(f"{name} must be a list of whole numbers, or None; got {value!r}.")
    return list(value)


class VarianceScaling(RandomInitializer):
    """Random numbers of mean 0 and variance scale / fan.

    Parameters
    ----------
    scale : float, default 1.0
        Above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}, default "fan_in"
        The fan: the number of inputs, of outputs, or the mean of both; see `compute_fans`.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}, default "truncated_normal"
        Of the numbers; "normal" is the first. Of the truncated one, the variance is that after the truncation.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.VarianceScaling(2.0, seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    2.0
    """

    scale: float
    mode: str
    distribution: str

    checks: ClassVar = {
        **RandomInitializer.checks, "scale": functools.partial(number, "scale", low=0.0, above=True), "mode": _mode,
        "distribution": _distribution,
        **{name: functools.partial(_axes, name) for name in ("input_axes", "output_axes")},
    }  # fmt: skip

    def __init__(
        self,
        scale: float = 1.0,
        mode: Mode = "fan_in",
        distribution: Distribution = "truncated_normal",
        seed: Seed = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        if (input_axes is None) != (output_axes is None):
            raise ValueError(f"input_axes and output_axes go together; got {input_axes!r} and {output_axes!r}.")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed)

    def variance(self, shape: Shape) -> float:
        """Return the variance of the numbers in an array of ``shape``."""
        inputs, outputs = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[self.mode]
        return self.scale / max(1.0, fan)

    def values(self, shape: Shape) -> np.ndarray:
        source, variance = random.generator(self.seed), self.variance(shape)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return source.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return source.standard_normal(shape) * math.sqrt(variance)
        return random.truncated(source, shape) * math.sqrt(variance) / _TRUNCATED_STD


class _Named(VarianceScaling):
    """A `VarianceScaling` of a scale, mode and distribution that its name stands for."""

    how: ClassVar[tuple[float, Mode, Distribution]]

    def __init__(
        self, seed: Seed = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
    ) -> None:
        super().__init__(*self.how, seed, input_axes, output_axes)


class GlorotUniform(_Named):
    """Uniform in [-limit, limit], limit = sqrt(6 / (fan_in + fan_out)): of variance 2 / (fan_in + fan_out).

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    Glorot & Bengio 2010.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.GlorotUniform(seed=1)((400, 100))
    >>> round(float(values.var()) * 250, 1)
    1.0
    """

    how = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal of variance 2 / (fan_in + fan_out).

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    Glorot & Bengio 2010.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.GlorotNormal(seed=1)((400, 100))
    >>> round(float(values.var()) * 250, 1)
    1.0
    """

    how = (1.0, "fan_avg", "truncated_normal")


class LecunUniform(_Named):
    """Uniform in [-limit, limit], limit = sqrt(3 / fan_in): of variance 1 / fan_in.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    LeCun et al. 1998.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.LecunUniform(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    1.0
    """

    how = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal of variance 1 / fan_in.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    LeCun et al. 1998; for selu, Klambauer et al. 2017.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.LecunNormal(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    1.0
    """

    how = (1.0, "fan_in", "truncated_normal")


class HeUniform(_Named):
    """Uniform in [-limit, limit], limit = sqrt(6 / fan_in): of variance 2 / fan_in, for relu.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    He et al. 2015.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.HeUniform(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    2.0
    """

    how = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal of variance 2 / fan_in, for relu.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    He et al. 2015.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.HeNormal(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    2.0
    """

    how = (2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A number times orthonormal columns, or rows where there are fewer of these; any such matrix is as likely.

    Parameters
    ----------
    gain : float, default 1.0
        The number.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have, and, when it is called, for a shape of one axis.

    Notes
    -----
    Q of the QR decomposition of normal numbers, with the signs that make R's diagonal positive. Of more than two axes,
    all but the last one count as rows (Saxe et al. 2014).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import initializers
    >>> w = initializers.Orthogonal(seed=1)((5, 3), "float64")
    >>> bool(np.allclose(w.T @ w, np.eye(3)))
    True
    """

    checks: ClassVar = {**RandomInitializer.checks, "gain": functools.partial(number, "gain")}

    def __init__(self, gain: float = 1.0, seed: Seed = None) -> None:
        self.gain = gain
        super().__init__(seed)

    def values(self, shape: Shape) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal makes matrices, of a shape of at least two sizes; got shape={shape}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = random.generator(self.seed).standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(drawn)
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # LAPACK's choice of signs is not a uniform one
        return self.gain * (q.T if rows < columns else q).reshape(shape)


# ---- names -----------------------------------------------------------------------------------------------------------

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


def _as_given(array: np.ndarray, shape: Shape, dtype: DTypeLike | None = None) -> np.ndarray:
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


def serialize(initializer: object) -> dict[str, Any]:
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
