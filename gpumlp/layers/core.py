"""What a network is made of first of all: its input, and Dense; what moves and scales; a user's own function."""

from __future__ import annotations

import base64
import functools
import inspect
import marshal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import activations, constraints, ops, regularizers
from gpumlp.expressions import Node
from gpumlp.initializers import Initializing
from gpumlp.layers.activation import Activation
from gpumlp.layers.base import Layer
from gpumlp.layers.checks import DType, Shape, ShapeLike, initializer_of, penalty_of_bias, whole_number
from gpumlp.layers.weights import WeightSpec
from gpumlp.literals import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from gpumlp.naming import flag, neutral, number, settle
from gpumlp.saving import deserialize_keras_object, read_by, serialize_keras_object
from gpumlp.saving.objects import function_named

# the shape of a sample, or a function of the shape with the batch first
OutputShape: TypeAlias = int | Sequence[int] | Callable[[tuple[int | None, ...]], tuple[int | None, ...]] | None


class InputLayer(Layer):
    """The first line of a model: the shape of one sample. `Input` is the same class.

    Parameters
    ----------
    shape : int or tuple of int
        The shape of one sample, without the batch.
    batch_size : int, optional
        The batch's size. It binds nobody: models take any.
    dtype : str, optional
        Any name of numbers' type. The model's arithmetic is not changed by it.
    sparse, ragged : bool, optional
        False: there are no sparse or ragged arrays.
    batch_shape : tuple of int, optional
        In place of ``shape`` and ``batch_size``: the batch's size, or None, and then the shape of a sample.
    name : str, optional
        By default "input_layer", with a number from the second one on.
    optional : bool, default False
        False: a model has one input.
    input_tensor, tensor : None
        There are no symbolic tensors.
    input_shape : int or tuple of int, optional
        Older scripts' word for ``shape``.
    batch_input_shape : tuple of int, optional
        Older scripts' word for ``batch_shape``.

    Raises
    ------
    TypeError, ValueError
        Without a shape, with two, or with what is none.
    NotImplementedError
        For sparse, ragged, optional or symbolic inputs.

    Examples
    --------
    >>> import gpumlp
    >>> from gpumlp import layers
    >>> model = gpumlp.Sequential([gpumlp.Input(shape=(4,)), layers.Dense(3)])
    >>> model.input_shape
    (None, 4)
    """

    sparse = ragged = optional = False

    def __init__(
        self,
        shape: ShapeLike = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        *,
        name: str | None = None,
        optional: bool = False,
        input_tensor: object = None,
        tensor: object = None,
        input_shape: ShapeLike = None,
        batch_input_shape: Sequence[int | None] | None = None,
    ) -> None:
        more = {"sparse": (sparse or None, None), "ragged": (ragged or None, None), "optional": (bool(optional), False)}
        neutral("Input", **more, input_tensor=(input_tensor, None), tensor=(tensor, None))
        shape = input_shape if shape is None else shape
        batch_shape = batch_input_shape if batch_shape is None else batch_shape
        if dtype is not None and np.dtype(dtype).kind not in "biuf":
            raise ValueError(f"dtype must be one of numbers; got {dtype!r}.")
        if batch_shape is not None and batch_size is not None:
            raise ValueError("You cannot pass both `batch_size` and `batch_shape`: the latter has the batch's size.")
        if batch_shape is not None:
            if shape is not None or not isinstance(batch_shape, (tuple, list)):
                raise ValueError(f"Give shape, or a tuple as batch_shape; got {shape!r} and {batch_shape!r}.")
            batch_size, *sizes = batch_shape or (None,)
            shape = tuple(sizes)
        if shape is None:
            raise ValueError("Input needs shape=, the shape of one sample, such as Input(shape=(1,)).")
        self.batch_size = None if batch_size is None else whole_number("batch_size", batch_size)
        super().__init__(name=name, input_shape=shape)

    @property
    def batch_shape(self) -> tuple[int | None, ...]:
        """The shape of a batch: its size, or None, and then the shape of a sample."""
        return self.batch_size, *(self.given_shape or ())

    def call(self, inputs: object = None, training: bool | None = None) -> np.ndarray | None:  # type: ignore[override]
        """Return what is given, as an array.

        Parameters
        ----------
        inputs : array_like, optional
            A batch.
        training : bool, optional
            Of no effect.

        Returns
        -------
        ndarray or None
            None for nothing.
        """
        return None if inputs is None else self(inputs, training)

    def _told(self) -> dict[str, object]:
        size = {} if self.batch_size is None else {"batch_size": self.batch_size}
        return {"shape": self.given_shape, **size}

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, by Keras's names.

        Returns
        -------
        dict
            As JSON can hold it.
        """
        shape = list(self.batch_shape)
        return {"name": self.name, "batch_shape": shape, "dtype": self.dtype, "sparse": False, "ragged": False}


Input = InputLayer


def _units(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"units must be a positive integer; got units={value!r}.")
    return int(value)


def _function_of(value: ActivationLike) -> activations.Activation:
    """Return an activation; a layer that is one counts as its function, as Keras has it, and so does its class."""
    found: Any = value
    if isinstance(value, type) and issubclass(value, Activation):
        found = cast(Callable[[], Activation], value)()
    if isinstance(found, Layer) and not isinstance(found, Activation):
        raise TypeError(
            f"activation must be a name, a function, or a layer that is a function alone, such as LeakyReLU; got "
            f"{found!r}. Add it to the model after this layer."
        )
    return activations.get(found.activation if isinstance(found, Activation) else found)


class Dense(Layer):
    """Every output depends on every input: activation(x @ kernel + bias), along the samples' last axis.

    Parameters
    ----------
    units : int
        How many outputs there are.
    activation : str, callable or dict, optional
        A name such as "relu", an activation, or a function of yours by `gpumlp.ops`. None: x @ kernel + bias itself.
    use_bias : bool, default True
        Whether there is a bias.
    kernel_initializer : str, callable, dict or array, default "glorot_uniform"
        What makes the first values of the kernel.
    bias_initializer : str, callable, dict or array, default "zeros"
        What makes the first values of the bias.
    kernel_regularizer : str, callable or dict, optional
        A penalty of the kernel, added to the loss.
    bias_regularizer : str, callable or dict, optional
        A penalty of the bias, added to the loss.
    activity_regularizer : str, callable or dict, optional
        A penalty of the outputs, divided by the batch's size and added to the loss.
    kernel_constraint : str, callable or dict, optional
        What the kernel is made to be after each step.
    bias_constraint : str, callable or dict, optional
        What the bias is made to be after each step.
    name : str, optional
        By default the class's name in snake case, with a number from the second one on.
    dtype : str, optional
        "float32" or "float64"; None: that of the model that it is in.
    trainable : bool, default True
        Whether training changes the weights.
    input_shape : int or tuple of int, optional
        On a model's first layer: the shape of one sample, without the batch.
    input_dim : int, optional
        Older scripts' word for ``input_shape=(input_dim,)``.

    Raises
    ------
    TypeError, ValueError
        For a value that an argument cannot have, and for an argument that there is not, with the nearest there is.

    Notes
    -----
    Weights are ``kernel`` of shape (inputs, units) and ``bias`` of shape (units,). With dz the gradient by what the
    activation is given, those by kernel, bias and inputs are x.T @ dz, the sum of dz over the batch, and dz @ kernel.T
    (Rumelhart et al. 1986).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layer = layers.Dense(2, activation="relu", kernel_initializer="ones", name="first")
    >>> layer
    <Dense first: units=2, activation=relu, kernel_initializer=Ones()>
    >>> layer(np.array([[1.0, 2.0], [-1.0, -2.0]]))
    array([[3., 3.],
           [0., 0.]], dtype=float32)
    """

    units: int
    activation: activations.Activation
    use_bias: bool
    kernel_initializer: Initializing
    bias_initializer: Initializing
    kernel_regularizer: regularizers.Regularizer | None
    bias_regularizer: regularizers.Regularizer | None
    kernel_constraint: constraints.Constraining | None
    bias_constraint: constraints.Constraining | None

    weight_names = ("kernel", "bias")
    checks: ClassVar = {
        **Layer.checks, "units": _units, "activation": _function_of, "use_bias": functools.partial(flag, "use_bias"),
        "kernel_initializer": initializer_of, "bias_initializer": initializer_of,
        "kernel_regularizer": regularizers.get, "bias_regularizer": penalty_of_bias,
        "kernel_constraint": constraints.get, "bias_constraint": constraints.get,
    }  # fmt: skip

    def __init__(
        self, units: int, activation: ActivationLike = None, use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform", bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None, bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None, kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None, *, name: str | None = None, dtype: DType = None, trainable: bool = True,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(
            units=units, activation=activation, use_bias=use_bias, kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer, kernel_regularizer=kernel_regularizer, bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint, bias_constraint=bias_constraint,
        )  # fmt: skip
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def specs(self, shape: Shape) -> list[WeightSpec]:
        kernel = WeightSpec(
            "kernel", (shape[-1], self.units), self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )
        if not self.use_bias:
            return [kernel]
        return [
            kernel,
            WeightSpec("bias", (self.units,), self.bias_initializer, self.bias_regularizer, self.bias_constraint),
        ]

    def result_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise ValueError(f"Dense layer {self.name!r} takes a batch of samples of one axis at least; got one axis.")
        return (*shape[:-1], self.units)


def _numbers(name: str, value: ArrayLike) -> ArrayLike:
    """Return one number as a float, several as they came; ValueError for anything else, naming it."""
    if np.ndim(value) == 0:
        return number(name, value)
    array = np.array(value)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a finite number, or several; got {value!r}.")
    return value


class Rescaling(Layer):
    """x * scale + offset.

    Parameters
    ----------
    scale : float or array_like
        One number, or several that go with the last axes of a sample.
    offset : float or array_like, default 0.0
        One number, or several, in x's unit times the scale's.
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
        For what are no finite numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Rescaling(1 / 255, offset=-0.5)(np.array([[0, 255]]))
    array([[-0.5,  0.5]], dtype=float32)
    """

    scale: ArrayLike
    offset: ArrayLike

    checks: ClassVar = {
        **Layer.checks, "scale": functools.partial(_numbers, "scale"), "offset": functools.partial(_numbers, "offset")
    }  # fmt: skip

    def __init__(
        self, scale: ArrayLike, offset: ArrayLike = 0.0, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        self.take(scale=scale, offset=offset)
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip

    def result_shape(self, shape: Shape) -> Shape:
        for name in ("scale", "offset"):
            own = np.shape(getattr(self, name))
            if shape and (
                len(own) > len(shape) or any(n not in (1, of) for n, of in zip(own[::-1], shape[::-1], strict=False))
            ):
                raise ValueError(
                    f"{name} of Rescaling layer {self.name!r} must go with samples of shape {shape}; got numbers of "
                    f"shape {own}."
                )
        return shape


class Identity(Layer):
    """x, as it is.

    Parameters
    ----------
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

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers
    >>> layers.Identity()(np.array([[1.0, 2.0]]))
    array([[1., 2.]], dtype=float32)
    """

    def __init__(
        self, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip


def _of_ops(config: Mapping[str, object]) -> Callable[..., object]:
    """Return the function of gpumlp.ops that a config describes."""
    return getattr(ops, str(config["config"]).lstrip("_"))


read_by("keras.ops", _of_ops)


@dataclass(frozen=True)
class _Bound:
    """A function with the arguments that it is given beside x; equal to another one of the same."""

    function: Callable[..., object]
    arguments: Mapping[str, object] = field(hash=False)

    def __post_init__(self) -> None:
        settle(self, __name__=getattr(self.function, "__name__", type(self.function).__name__))

    def __call__(self, x: Node) -> object:
        return self.function(x, **self.arguments)


class Lambda(Activation):
    """A function of a user's own as a layer, of one array, by `gpumlp.ops`: of each number, or along the last axis.

    Parameters
    ----------
    function : callable
        From x to an array of x's shape. It is called with symbols and differentiated, as an activation is; in training
        and outside it is the same.
    output_shape : tuple or callable, optional
        The samples' shape, or a function of the shape with the batch first: the one that comes in.
    mask : None
        There are no masks.
    arguments : dict, optional
        What the function is given beside x, by name.
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
    TypeError
        If the function is not made of gpumlp.ops, or gives anything but a number for each of x's.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import layers, ops
    >>> layers.Lambda(lambda x: ops.square(x) + 1.0)(np.array([[1.0, 2.0]]))
    array([[2., 5.]], dtype=float32)
    """

    def __init__(
        self, function: Callable[..., object], output_shape: OutputShape = None, mask: None = None,
        arguments: Mapping[str, object] | None = None, *, name: str | None = None,
        dtype: DType = None, trainable: bool = True, activity_regularizer: RegularizerLike = None,
        input_shape: ShapeLike = None, input_dim: int | None = None,
    ) -> None:  # fmt: skip
        neutral("Lambda", mask=(mask, None))
        if not callable(function):
            raise TypeError(f"Lambda takes a function of one array, by gpumlp.ops; got {function!r}.")
        self.function, self.arguments = function, dict(arguments or {})
        self._output_shape = tuple(output_shape) if isinstance(output_shape, list) else output_shape
        Layer.__init__(
            self, name=name, dtype=dtype, trainable=trainable, activity_regularizer=activity_regularizer,
            input_shape=input_shape, input_dim=input_dim,
        )  # fmt: skip
        try:
            self.activation.formula  # noqa: B018  what cannot be traced is told here
        except TypeError as error:
            said = str(error).removesuffix(".")
            raise TypeError(
                f"Lambda layer {self.name!r}: {said}. A Lambda's function gives a number for each of its argument's, "
                "by gpumlp.ops, and nothing else; for other shapes there are Reshape, Flatten, Permute, RepeatVector."
            ) from error

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, by Keras's names.

        Returns
        -------
        dict
            As JSON can hold it; a function without a name is there as code, which Keras reads.
        """
        found = super().get_config()
        return {name: v for name, v in found.items() if v is not None or name not in ("output_shape", "mask")}

    def _told(self) -> dict[str, object]:
        given = {"function": self.function, "output_shape": self._output_shape, "arguments": self.arguments}
        return {name: value for name, value in given.items() if value}

    def described(self, name: str) -> object:
        """See `Layer.described`."""
        value: Any = {"output_shape": self._output_shape, "mask": None}.get(name, getattr(self, name, None))
        if isinstance(value, activations.Activation) and isinstance(of := activations.serialize(value), str):
            return function_named(of)
        if getattr(value, "__name__", "") != "<lambda>":
            return serialize_keras_object(value)
        code = base64.encodebytes(marshal.dumps(value.__code__)).decode("ascii")
        closure = tuple(cell.cell_contents for cell in value.__closure__ or ()) or None
        return {
            "class_name": "__lambda__", "config": {"code": code, "defaults": value.__defaults__, "closure": closure}
        }  # fmt: skip

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None, safe_mode: bool | None = None
    ) -> Self:
        """Return a new layer, as `get_config` has described one, of named functions.

        Parameters
        ----------
        config : dict
            What the constructor takes, by name.
        custom_objects : dict, optional
            A user's own functions by name.
        safe_mode : bool, optional
            Of no effect: code is never executed.

        Returns
        -------
        Lambda
            The layer.

        Raises
        ------
        ValueError
            For a function that is there as code.
        """
        own = {k: config[k] for k in ("function", "output_shape", "arguments") if k in config}
        for value in own.values():
            if isinstance(value, Mapping) and value.get("class_name") == "__lambda__":
                raise ValueError(
                    "The config of a Lambda layer has code in it, of a function without a name, which gpumlp never "
                    "executes. Build the model by the code that made it and load its weights, or have the function be "
                    "one with a name, registered by register_keras_serializable or given in custom_objects."
                )
        return super().from_config({**config, **deserialize_keras_object(own, custom_objects)})

    @property
    def activation(self) -> activations.Activation:  # type: ignore[override]
        """The function, with its arguments."""
        known = inspect.signature(self.function).parameters if inspect.isfunction(self.function) else ()
        if "training" in known:
            raise TypeError("its function has the argument 'training', and is the same in training and outside it.")
        arguments = {**self.arguments, "mask": None} if "mask" in known else self.arguments
        function: Callable[..., Any] = _Bound(self.function, arguments) if arguments else self.function
        return activations.Activation(function)

    def result_shape(self, shape: Shape) -> Shape:
        if (said := self._output_shape) is not None:
            said = tuple(said((None, *shape))[1:] if callable(said) else np.atleast_1d(said))
            if said != shape:
                raise ValueError(
                    f"output_shape of Lambda layer {self.name!r} must be the shape of its samples, {shape}, which its "
                    f"function gives a number for each number of; got {said}. Put a Reshape on top of it."
                )
        return shape
