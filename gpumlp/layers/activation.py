"""Activations as layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from gpumlp import activations, constraints, objectives, regularizers
from gpumlp.initializers import Initializing
from gpumlp.layers.base import Layer
from gpumlp.layers.checks import DType, Shape, ShapeLike, initializer_of
from gpumlp.layers.weights import WeightSpec
from gpumlp.literals import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from gpumlp.naming import number


def _most(value: float | None) -> float | None:
    return None if value is None else number("max_value", value, 0.0)


class Activation(Layer):
    """An activation as a layer of its own.

    Parameters
    ----------
    activation : str, callable or dict
        A name such as "relu", an activation, or a function of yours by `gpumlp.ops`.
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
        For an unknown name, and for a function that is not made of `gpumlp.ops`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Activation("tanh")(np.array([[0.0, 100.0]]))
    array([[0., 1.]], dtype=float32)
    """

    activation: activations.Activation

    checks: ClassVar = {**Layer.checks, "activation": activations.get}

    def __init__(
        self, activation: ActivationLike, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(activation=activation)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class _OfConstants(Activation):
    """Base of layers that are one activation, whose constants are attributes of theirs."""

    function: ClassVar[activations.Activation]

    @property
    def activation(self) -> activations.Activation:  # type: ignore[override]
        """The activation, with the constants as they are now."""
        return self.function.given(**{name: getattr(self, name) for name in self.function.get_config()})


class ReLU(_OfConstants):
    """max(x, 0), or with the arguments of `activations.relu` as a layer.

    Parameters
    ----------
    max_value : float, optional
        What outputs are at most, at least 0; None: no limit.
    negative_slope : float, default 0.0
        The slope below the threshold, at least 0.
    threshold : float, default 0.0
        Up to where x is not passed on, at least 0.
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
    ValueError
        For an argument below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.ReLU(max_value=6.0)(np.array([[-1.0, 2.0, 9.0]]))
    array([[0., 2., 6.]], dtype=float32)
    """

    max_value: float | None
    negative_slope: float
    threshold: float

    function = activations.relu
    checks: ClassVar = {
        **Layer.checks, "max_value": _most,
        **{name: functools.partial(number, name, low=0.0) for name in ("negative_slope", "threshold")},
    }  # fmt: skip

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0,
        *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(max_value=max_value, negative_slope=negative_slope, threshold=threshold)
        Layer.__init__(
            self, name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class LeakyReLU(_OfConstants):
    """x for x > 0, negative_slope * x otherwise (Maas et al. 2013).

    Parameters
    ----------
    negative_slope : float, default 0.3
        At least 0.
    alpha : float, optional
        Older scripts' word for ``negative_slope``.
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
    ValueError
        For a slope below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.LeakyReLU(negative_slope=0.5)(np.array([[-1.0, 2.0]]))
    array([[-0.5,  2. ]], dtype=float32)
    """

    unwritten: ClassVar = Layer.unwritten | {"alpha"}
    negative_slope: float

    function = activations.leaky_relu
    checks: ClassVar = {**Layer.checks, "negative_slope": functools.partial(number, "negative_slope", low=0.0)}

    def __init__(
        self, negative_slope: float = 0.3, *, alpha: float | None = None, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(negative_slope=negative_slope if alpha is None else alpha)
        Layer.__init__(
            self, name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class ELU(_OfConstants):
    """x for x > 0, alpha * (exp(x) - 1) otherwise (Clevert et al. 2015).

    Parameters
    ----------
    alpha : float, default 1.0
        How far below 0 outputs come, at least 0.
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
    ValueError
        For an alpha below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.ELU(alpha=0.5)(np.array([[-100.0, 2.0]]))
    array([[-0.5,  2. ]], dtype=float32)
    """

    alpha: float

    function = activations.elu
    checks: ClassVar = {**Layer.checks, "alpha": functools.partial(number, "alpha", low=0.0)}

    def __init__(
        self, alpha: float = 1.0, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(alpha=alpha)
        Layer.__init__(
            self, name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


class Softmax(_OfConstants):
    """exp(x_j) / sum_k exp(x_k), over one axis of a sample or several.

    Parameters
    ----------
    axis : int or tuple of int, default -1
        What it goes over, counted with the batch's axis, which is none of them.
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
    ValueError
        For what is no axis, and, when it is built, for one that samples have not.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Softmax()(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]], dtype=float32)
    """

    axis: int | tuple[int, ...]

    function = activations.softmax
    checks: ClassVar = {**Layer.checks, "axis": functools.partial(objectives.some_axes, "axis")}

    def __init__(
        self, axis: int | Sequence[int] = -1, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(axis=axis)
        Layer.__init__(
            self, name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    @property
    def activation(self) -> activations.Activation:  # type: ignore[override]
        """The activation, over the last axis."""
        return activations.softmax

    def axes(self, shape: Shape) -> Shape:
        """Return the axes of a sample of ``shape`` that it goes over, from 0; ValueError where there is none."""
        given, rank = self.axis if isinstance(self.axis, tuple) else (self.axis,), len(shape) + 1
        found = tuple(a % rank - 1 if a is not None and -rank <= a < rank else -1 for a in given)
        if not found or -1 in found or len(set(found)) < len(found):
            raise ValueError(
                f"Softmax layer {self.name!r} goes over axes of its samples, counted with the batch's, 1 to "
                f"{len(shape)}, or -1 for the last; got axis={self.axis!r} for samples of shape {shape}."
            )
        return found

    def result_shape(self, shape: Shape) -> Shape:
        if shape or self.axis != -1:  # an array of one axis is one sample
            self.axes(shape)
        return shape


def _some(value: int | Sequence[int] | None) -> list[int] | None:
    if value is None:
        return None
    axes = [value] if isinstance(value, int) or not isinstance(value, (list, tuple)) else list(value)
    if any(isinstance(a, bool) or not isinstance(a, (int, np.integer)) or a < 1 for a in axes):
        raise ValueError(f"shared_axes are axes of a sample, counted from 1; got {value!r}.")
    return list(map(int, axes))  # type: ignore[arg-type]  # looked at


class PReLU(Layer):
    """x for x >= 0, and alpha * x below, alpha trained: a weight array of a sample's shape (He et al. 2015).

    Parameters
    ----------
    alpha_initializer : str, callable, dict or array, default "Zeros"
        What makes the first alphas.
    alpha_regularizer : str, callable or dict, optional
        A penalty of the alphas, added to the loss.
    alpha_constraint : str, callable or dict, optional
        What the alphas are made to be after each step.
    shared_axes : int or list of int, optional
        Axes of a sample, counted from 1, along which numbers share one alpha.
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

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import initializers, layers
    >>> layer = layers.PReLU(alpha_initializer=initializers.Constant(0.5))
    >>> layer(np.array([[-1.0, 2.0]]))
    array([[-0.5,  2. ]], dtype=float32)
    >>> layer.alpha.shape
    (2,)
    """

    alpha_initializer: Initializing
    alpha_regularizer: regularizers.Regularizer | None
    alpha_constraint: constraints.Constraining | None
    shared_axes: list[int] | None

    weight_names = ("alpha",)
    checks: ClassVar = {
        **Layer.checks, "alpha_initializer": initializer_of, "alpha_regularizer": regularizers.get,
        "alpha_constraint": constraints.get, "shared_axes": _some,
    }  # fmt: skip

    def __init__(
        self, alpha_initializer: InitializerLike = "Zeros", alpha_regularizer: RegularizerLike = None,
        alpha_constraint: ConstraintLike = None, shared_axes: int | Sequence[int] | None = None,
        *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(
            alpha_initializer=alpha_initializer, alpha_regularizer=alpha_regularizer, alpha_constraint=alpha_constraint,
            shared_axes=shared_axes,
        )  # fmt: skip
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def specs(self, shape: Shape) -> list[WeightSpec]:
        own = tuple(1 if self.shared_axes and i in self.shared_axes else n for i, n in enumerate(shape, 1))
        return [WeightSpec("alpha", own, self.alpha_initializer, self.alpha_regularizer, self.alpha_constraint)]

    def result_shape(self, shape: Shape) -> Shape:
        if self.shared_axes and max(self.shared_axes) > len(shape):
            raise ValueError(
                f"PReLU layer {self.name!r} shares axes {self.shared_axes}, counted from 1; got samples of shape "
                f"{shape}."
            )
        if self.alpha_regularizer is not None and not self.alpha_regularizer.by_formula and len(shape) != 2:
            raise ValueError(
                f"alpha_regularizer of PReLU layer {self.name!r} is of rows or columns: samples must have two axes; "
                f"got samples of shape {shape}."
            )
        return shape
