"""Layers that bring numbers to a common scale: by a batch's statistics, or by a sample's.

``axis`` counts as in Keras, with the batch as axis 0: what stands along it, or them, is what has a mean, a variance, a
gamma and a beta of its own (`LayerNormalization`: what a mean goes over, and has a gamma and a beta).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from gpumlp import constraints
from gpumlp.initializers import Initializing
from gpumlp.layers.base import Layer
from gpumlp.layers.checks import DType, Shape, ShapeLike, initializer_of, penalty_of_bias
from gpumlp.layers.weights import WeightSpec
from gpumlp.literals import ConstraintLike, InitializerLike, RegularizerLike
from gpumlp.naming import flag, neutral, number
from gpumlp.regularizers import Regularizer


def axis_of(value: object) -> int:
    """Return one axis; TypeError for what is no whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"axis must be a whole number; got axis={value!r}.")
    return int(value)


def axes_of(value: object) -> int | tuple[int, ...]:
    """Return one axis, or several."""
    return tuple(map(axis_of, value)) if isinstance(value, (list, tuple)) else axis_of(value)


def _only(name: str, accepted: object) -> Callable[[object], object]:
    """Return a check for what Keras has and gpumlp has not."""

    def check(value: object) -> object:
        neutral("BatchNormalization", **{name: (value, accepted)})
        return accepted

    return check


def along(axis: int | tuple[int, ...], shape: Shape) -> tuple[int, ...]:
    """Return the axes of samples of ``shape`` that are meant, counted with the batch; ValueError for the batch."""
    batch, axes = (None, *shape), axis if isinstance(axis, tuple) else (axis,)
    n = len(batch)
    for one in axes:
        if not -n <= one < n:
            raise ValueError(
                f"All `axis` values must be in the range [-{n}, {n}): axis {one} is out of bounds for input shape "
                f"{batch}."
            )
        if one % n == 0:
            raise ValueError(
                f"All `axis` values to be kept must have a known shape: axis {one} is the batch, of input shape "
                f"{batch}. An axis of a sample is meant, such as -1."
            )
    return tuple(sorted({one % n for one in axes}))


class _Scaled(Layer):
    """Base of what ends with a gamma and a beta for each position along ``axis``."""

    axis: int | tuple[int, ...]
    epsilon: float
    center: bool
    scale: bool
    beta_initializer: Initializing
    gamma_initializer: Initializing
    beta_regularizer: Regularizer | None
    gamma_regularizer: Regularizer | None
    beta_constraint: constraints.Constraining | None
    gamma_constraint: constraints.Constraining | None
    weight_names: ClassVar[tuple[str, ...]] = ("gamma", "beta")
    unread: ClassVar = {**Layer.unread, **dict.fromkeys(("gamma", "beta"), "Use layer.gamma.assign(values).")}
    checks: ClassVar = {
        **Layer.checks, "epsilon": functools.partial(number, "epsilon", low=0.0),
        "center": functools.partial(flag, "center"), "scale": functools.partial(flag, "scale"),
        **dict.fromkeys(("beta_initializer", "gamma_initializer"), initializer_of),
        **dict.fromkeys(("beta_regularizer", "gamma_regularizer"), penalty_of_bias),
        **dict.fromkeys(("beta_constraint", "gamma_constraint"), constraints.get),
    }  # fmt: skip

    def along(self, shape: Shape) -> tuple[int, ...]:
        """Return the axes that ``axis`` means of samples of ``shape``, counted with the batch; ValueError if beyond."""
        return along(self.axis, shape)

    def specs(self, shape: Shape) -> list[WeightSpec]:
        own = tuple(shape[axis - 1] for axis in self.along(shape))
        gamma = WeightSpec("gamma", own, self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint)
        beta = WeightSpec("beta", own, self.beta_initializer, self.beta_regularizer, self.beta_constraint)
        return [spec for spec, wanted in ((gamma, self.scale), (beta, self.center)) if wanted]

    def result_shape(self, shape: Shape) -> Shape:
        self.along(shape)
        return shape


class BatchNormalization(_Scaled):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with the mean and variance of the batch in training.

    Otherwise, and where ``trainable`` is False, with their moving averages.

    Parameters
    ----------
    axis : int, default -1
        Whose positions have a mean and a variance each, counted with the batch's axis. These go over all other axes.
    momentum : float, default 0.99
        How much of the moving averages a training step leaves, 0 to 1.
    epsilon : float, default 1e-3
        Added to variances, at least 0, in x's unit squared.
    center : bool, default True
        Whether there is a beta.
    scale : bool, default True
        Whether there is a gamma.
    beta_initializer : str, callable, dict or array, default "zeros"
        What makes the first betas.
    gamma_initializer : str, callable, dict or array, default "ones"
        What makes the first gammas.
    moving_mean_initializer : str, callable, dict or array, default "zeros"
        What makes the moving mean before training.
    moving_variance_initializer : str, callable, dict or array, default "ones"
        What makes the moving variance before training.
    beta_regularizer : str, callable or dict, optional
        A penalty of the betas, added to the loss.
    gamma_regularizer : str, callable or dict, optional
        A penalty of the gammas, added to the loss.
    beta_constraint : str, callable or dict, optional
        What the betas are made to be after each step.
    gamma_constraint : str, callable or dict, optional
        What the gammas are made to be after each step.
    renorm : bool, default False
        False: there is no renormalization.
    renorm_clipping : None
        There is no renormalization.
    renorm_momentum : float, default 0.99
        There is no renormalization.
    synchronized : bool, default False
        False: a model trains on one device.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Whether training changes the weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    TypeError, ValueError
        For a value that an argument cannot have, and, when it is built, for axes that samples have not.
    NotImplementedError
        For ``renorm`` and ``synchronized``.

    Notes
    -----
    A training step makes of the averages average * momentum + batch's * (1 - momentum). The variance is the biased one.
    Sample weights do not enter the statistics (Ioffe & Szegedy 2015).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layer = layers.BatchNormalization(epsilon=0.0, momentum=0.5)
    >>> x = np.array([[1.0], [3.0]])
    >>> layer(x, training=True)
    array([[-1.],
           [ 1.]], dtype=float32)
    >>> layer.moving_mean.numpy()
    array([1.], dtype=float32)
    """

    axis: int
    momentum: float
    moving_mean_initializer: Initializing
    moving_variance_initializer: Initializing

    weight_names: ClassVar[tuple[str, ...]] = ("gamma", "beta", "moving_mean", "moving_variance")
    unread: ClassVar = {
        **_Scaled.unread,
        **dict.fromkeys(("moving_mean", "moving_variance"), "Use layer.moving_mean.assign(values)."),
    }
    checks: ClassVar = {
        **_Scaled.checks, "axis": axis_of, "momentum": functools.partial(number, "momentum", low=0.0, high=1.0),
        **dict.fromkeys(("moving_mean_initializer", "moving_variance_initializer"), initializer_of),
        "renorm": _only("renorm", False), "renorm_clipping": _only("renorm_clipping", None),
        "renorm_momentum": _only("renorm_momentum", 0.99), "synchronized": _only("synchronized", False),
    }  # fmt: skip

    def __init__(
        self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: InitializerLike = "zeros", gamma_initializer: InitializerLike = "ones",
        moving_mean_initializer: InitializerLike = "zeros", moving_variance_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None, gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None, gamma_constraint: ConstraintLike = None, renorm: bool = False,
        renorm_clipping: None = None, renorm_momentum: float = 0.99, synchronized: bool = False,
        *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(
            renorm=renorm, renorm_clipping=renorm_clipping, renorm_momentum=renorm_momentum, synchronized=synchronized,
            axis=axis, momentum=momentum, moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            epsilon=epsilon, center=center, scale=scale, beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer, beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer, beta_constraint=beta_constraint, gamma_constraint=gamma_constraint,
        )  # fmt: skip
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def specs(self, shape: Shape) -> list[WeightSpec]:
        own = tuple(shape[axis - 1] for axis in self.along(shape))
        return [
            *super().specs(shape),
            WeightSpec("moving_mean", own, self.moving_mean_initializer, trainable=False),
            WeightSpec("moving_variance", own, self.moving_variance_initializer, trainable=False),
        ]


class LayerNormalization(_Scaled):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with each sample's own mean and variance.

    Parameters
    ----------
    axis : int or tuple of int, default -1
        What mean and variance go over, counted with the batch's axis; each position on the others has its own.
    epsilon : float, default 1e-3
        Added to variances, at least 0, in x's unit squared.
    center : bool, default True
        Whether there is a beta.
    scale : bool, default True
        Whether there is a gamma.
    beta_initializer : str, callable, dict or array, default "zeros"
        What makes the first betas.
    gamma_initializer : str, callable, dict or array, default "ones"
        What makes the first gammas.
    beta_regularizer : str, callable or dict, optional
        A penalty of the betas, added to the loss.
    gamma_regularizer : str, callable or dict, optional
        A penalty of the gammas, added to the loss.
    beta_constraint : str, callable or dict, optional
        What the betas are made to be after each step.
    gamma_constraint : str, callable or dict, optional
        What the gammas are made to be after each step.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Whether training changes the weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    TypeError, ValueError
        For a value that an argument cannot have, and, when it is built, for axes that samples have not.

    Notes
    -----
    The variance is the biased one. Gamma and beta are of the shape of ``axis`` (Lei Ba et al. 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.LayerNormalization(epsilon=0.0)(np.array([[1.0, 3.0], [10.0, 30.0]]))
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    checks: ClassVar = {**_Scaled.checks, "axis": axes_of}

    def __init__(
        self, axis: int | Sequence[int] = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: InitializerLike = "zeros", gamma_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None, gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None, gamma_constraint: ConstraintLike = None, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(
            axis=axis, epsilon=epsilon, center=center, scale=scale, beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer, beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer, beta_constraint=beta_constraint, gamma_constraint=gamma_constraint,
        )  # fmt: skip
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, by Keras's names.

        Returns
        -------
        dict
            As JSON can hold it.
        """
        return super().get_config() | {"rms_scaling": False}  # which Keras writes, and gpumlp has not


class UnitNormalization(Layer):
    """x divided by its length, the square root of the sum of squares; by 1e-12 where that is less.

    Parameters
    ----------
    axis : int or tuple of int, default -1
        What the sum goes over, counted with the batch's axis.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Of no effect here: there are no weights.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    TypeError, ValueError
        For a value that an argument cannot have, and, when it is built, for axes that samples have not.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.UnitNormalization()(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]], dtype=float32)
    """

    axis: int | tuple[int, ...]

    checks: ClassVar = {**Layer.checks, "axis": axes_of}

    def __init__(
        self, axis: int | Sequence[int] = -1, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(axis=axis)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def along(self, shape: Shape) -> tuple[int, ...]:
        """See `_Scaled.along`."""
        return along(self.axis, shape)

    def result_shape(self, shape: Shape) -> Shape:
        self.along(shape)
        return shape
