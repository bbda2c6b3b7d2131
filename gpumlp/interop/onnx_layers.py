"""Models as ONNX: a graph of its operators for prediction, of any number of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from gpumlp import layers
from gpumlp.activations import Activation
from gpumlp.engine.normalization import LEAST_DEVIATION, LEAST_LENGTH
from gpumlp.interop.onnx_graph import Graph, write_formula
from gpumlp.interop.placed import Placed, imported, is_packaged, layers_of, network_of
from gpumlp.layers import Layer, Shape, whole_number
from gpumlp.models import Sequential
from gpumlp.saving import disk

OLDEST = 18  # of ONNX's opsets: from it on all reductions are told their axes in one way


def _of_relu(negative_slope: float, max_value: float | None, threshold: float) -> dict[str, float] | None:
    return None if negative_slope or threshold or max_value is not None else {}


# ONNX's own operator for an activation, the opset from which on it is there, and its attributes, of the activation's
# constants; None where it does not go with these. All others are written by their formulas.
OPERATORS: Mapping[str, tuple[str, int, Callable[..., dict[str, Any] | None]]] = {
    "relu": ("Relu", 14, _of_relu),
    "leaky_relu": ("LeakyRelu", 16, lambda negative_slope: {"alpha": negative_slope}),
    "elu": ("Elu", 6, lambda alpha: {"alpha": alpha}),
    "selu": ("Selu", 6, lambda: {}),
    "celu": ("Celu", 12, lambda alpha: {"alpha": alpha}),
    "hard_sigmoid": ("HardSigmoid", 6, lambda: {"alpha": 1.0 / 6.0, "beta": 0.5}),
    "hard_silu": ("HardSwish", 14, lambda: {}),
    "softsign": ("Softsign", 1, lambda: {}),
    "mish": ("Mish", 18, lambda: {}),
    "gelu": ("Gelu", 20, lambda approximate: {"approximate": "tanh" if approximate else "none"}),
}


def to_onnx(model: Sequential, path: str | PathLike[str] | None = None, *, opset: int = 20) -> Any:
    """Return the model as an ONNX model for prediction, or write it to a file if one is named.

    Its input is called "input", its output "output"; both have the batch first, of any size. All numbers are float32,
    which every runtime has: those of a float64 model are rounded. Dropout and noise are not in it, as in a prediction;
    whatever has weights has them as they are now.

    Parameters
    ----------
    model : Sequential
        Built; or a fitted estimator of `gpumlp.sklearn`, of one network. All of its layers and activations can be
        written, a `Lambda`'s and a function of one's own by what they are made of.
    path : str or path, optional
        The file, such as "model.onnx". It takes the place of one that is there.
    opset : int, default 20
        The version of ONNX's operators, 18 or newer, as whoever reads the model knows it.

    Returns
    -------
    onnx.ModelProto or None
        The model, which ``onnx.checker`` accepts; None where it was written to a file.

    Raises
    ------
    ImportError
        Without onnx: ``pip install 'gpumlp[onnx]'``.
    TypeError
        For what is no `Sequential`.
    ValueError
        For a model that is not built, or an opset that is not known.

    Examples
    --------
    >>> from gpumlp import Sequential, interop, layers
    >>> model = Sequential([layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1)])
    >>> found = interop.to_onnx(model)
    >>> [node.op_type for node in found.graph.node]
    ['Gemm', 'Relu', 'Gemm', 'Identity']
    """
    onnx = imported("onnx", "to_onnx", "pip install 'gpumlp[onnx]'")
    opset, newest = whole_number("opset", opset), onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ValueError(f"opset must be {OLDEST} to {newest}, the newest that this onnx knows; got {opset}.")
    model = network_of(model, "to_onnx")
    found = layers_of(model, "to_onnx")
    graph, last = Graph(onnx, np.dtype(np.float32)), "input"
    for each in found:
        graph.enter(each.layer.name)
        last = _writer(each)(graph, each, last, opset)
    graph.nodes.append(onnx.helper.make_node("Identity", [last], ["output"], name="output"))
    made = _model(onnx, graph, model, opset)
    if path is None:
        return made
    disk.write(disk.path_of(path), [made.SerializeToString()])
    return None


def _model(onnx: Any, graph: Graph, model: Sequential, opset: int) -> Any:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [
        helper.make_tensor_value_info(name, kind, ["batch", *shape[1:]])
        for name, shape in (("input", model.input_shape), ("output", model.output_shape))
    ]
    body = helper.make_graph(graph.nodes, model.name, ends[:1], ends[1:], list(graph.constants.values()))
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        body, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets), producer_name="gpumlp"
    )


# ---- layers: each returns the name of what comes out of it -----------------------------------------------------------
def _dense(graph: Graph, each: Placed, x: str, opset: int) -> str:
    kernel = graph.numbers(each.weights["kernel"], "kernel")
    bias = graph.numbers(each.weights["bias"], "bias") if each.layer.use_bias else None
    if len(each.shape) == 1:
        z = graph.add("Gemm", *[name for name in (x, kernel, bias) if name])
    else:
        z = graph.add("MatMul", x, kernel)
        z = z if bias is None else graph.add("Add", z, bias)
    return _activated(graph, each.layer.activation, z, each.layer.units, opset)


def _activated(graph: Graph, activation: Activation, z: str, width: int, opset: int) -> str:
    operator, since, attributes = OPERATORS.get(activation.name, ("", 0, lambda **_: None))
    if is_packaged(activation) and opset >= since:
        if (given := attributes(**activation.get_config())) is not None:
            return graph.add(operator, z, **given)
    return write_formula(graph, activation.formula.forward, activation.numbers, z, width)


def _activation(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return _activated(graph, each.layer.activation, x, each.shape[-1], opset)


def _softmax(graph: Graph, each: Placed, x: str, opset: int) -> str:
    axes = [axis + 1 for axis in each.layer.axes(each.shape)]
    if len(axes) == 1:
        return graph.add("Softmax", x, axis=axes[0])

    def over_one(x: str, shape: Shape) -> str:
        several = math.prod(shape[-len(axes) :])
        rows = graph.add("Softmax", graph.add("Reshape", x, graph.sizes(-1, several)), axis=-1)
        return graph.add("Reshape", rows, graph.sizes(-1, *shape))

    return _with_last(graph, axes, x, each.shape, over_one)


def _with_last(graph: Graph, axes: Sequence[int], x: str, shape: Shape, work: Callable[[str, Shape], str]) -> str:
    """Do ``work``, of x and the shape of its samples, with ``axes``, counted with the batch, behind all others."""
    order = [axis for axis in range(len(shape) + 1) if axis not in axes] + list(axes)
    if order == sorted(order):
        return work(x, shape)
    moved = work(graph.add("Transpose", x, perm=order), tuple(shape[axis - 1] for axis in order[1:]))
    return graph.add("Transpose", moved, perm=[order.index(axis) for axis in range(len(order))])


def _prelu(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return graph.add("PRelu", x, graph.numbers(each.weights["alpha"], "alpha"))


def _affine(graph: Graph, x: str, minus: Any = 0.0, times: Any = 1.0, plus: Any = 0.0) -> str:
    """(x - minus) * times + plus, of numbers in double, without what changes nothing."""
    for operator, value, neutral in (("Sub", minus, 0.0), ("Mul", times, 1.0), ("Add", plus, 0.0)):
        if np.any(np.asarray(value) != neutral):
            x = graph.add(operator, x, graph.numbers(value))
    return x


def _along(each: Placed, values: np.ndarray) -> np.ndarray:
    """Return numbers along a layer's axes in double, shaped to be stretched over the others."""
    along = each.layer.along(each.shape)
    sizes = [size if axis in along else 1 for axis, size in enumerate(each.shape, 1)]
    return np.asarray(values, np.float64).reshape(sizes)


def _batch_norm(graph: Graph, each: Placed, x: str, opset: int) -> str:
    found = {name: _along(each, array) for name, array in each.weights.items()}
    times = found.get("gamma", 1.0) / np.sqrt(found["moving_variance"] + each.layer.epsilon)
    return _affine(graph, x, found["moving_mean"], times, found.get("beta", 0.0))


def _normalization(graph: Graph, each: Placed, x: str, opset: int) -> str:
    given = each.layer.constants(each.shape) or [each.weights[name] for name in ("mean", "variance")]
    mean, variance = (_along(each, array) for array in given)
    deviation = np.maximum(np.sqrt(variance), LEAST_DEVIATION)
    if each.layer.invert:
        return _affine(graph, x, times=deviation, plus=mean)
    return _affine(graph, x, mean, 1.0 / deviation)


def _rescaling(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return _affine(graph, x, times=each.layer.scale, plus=each.layer.offset)


def _layer_norm(graph: Graph, each: Placed, x: str, opset: int) -> str:
    axes = each.layer.along(each.shape)
    gamma = each.weights.get("gamma", np.ones([each.shape[axis - 1] for axis in axes]))
    weights = [graph.numbers(gamma, "gamma")]
    if each.layer.center:
        weights.append(graph.numbers(each.weights["beta"], "beta"))
    attributes = {"axis": -len(axes), "epsilon": each.layer.epsilon}

    def normalized(x: str, shape: Shape) -> str:
        return graph.add("LayerNormalization", x, *weights, **attributes)

    return _with_last(graph, axes, x, each.shape, normalized)


def _unit_norm(graph: Graph, each: Placed, x: str, opset: int) -> str:
    axes = graph.sizes(*each.layer.along(each.shape))
    length = graph.add("ReduceL2", x, axes, keepdims=1)
    return graph.add("Div", x, graph.add("Max", length, graph.numbers(LEAST_LENGTH)))


def _flatten(graph: Graph, each: Placed, x: str, opset: int) -> str:
    if each.layer.data_format == "channels_first" and len(each.shape) > 1:
        x = graph.add("Transpose", x, perm=[0, *range(2, len(each.shape) + 1), 1])
    return graph.add("Flatten", x, axis=1)


def _reshape(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return graph.add("Reshape", x, graph.sizes(-1, *each.result))


def _permute(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return graph.add("Transpose", x, perm=[0, *each.layer.dims])


def _repeat(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return graph.add("Expand", graph.add("Unsqueeze", x, graph.sizes(1)), graph.sizes(1, each.layer.n, 1))


def _nothing(graph: Graph, each: Placed, x: str, opset: int) -> str:
    return x


LAYERS: dict[type[Layer], Callable[[Graph, Placed, str, int], str]] = {
    layers.Dense: _dense,
    layers.Activation: _activation,
    layers.Softmax: _softmax,
    layers.PReLU: _prelu,
    layers.BatchNormalization: _batch_norm,
    layers.LayerNormalization: _layer_norm,
    layers.UnitNormalization: _unit_norm,
    layers.Normalization: _normalization,
    layers.Rescaling: _rescaling,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.RepeatVector: _repeat,
    layers.OfNoise: _nothing,
    layers.ActivityRegularization: _nothing,
    layers.Identity: _nothing,
    layers.Input: _nothing,
}


def _writer(each: Placed) -> Callable[[Graph, Placed, str, int], str]:
    for kind in type(each.layer).__mro__:
        if kind in LAYERS:
            return LAYERS[kind]
    known = ", ".join(kind.__name__ for kind in LAYERS)
    raise each.refusal("ONNX", f"what can be written is {known}", "Have the model be made of these.")
