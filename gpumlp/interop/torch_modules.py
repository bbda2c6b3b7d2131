"""Models as `torch.nn.Sequential`, and their weights by its names, both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gpumlp import activations, layers
from gpumlp.interop.placed import Placed, imported, is_packaged, layers_of
from gpumlp.layers import Layer
from gpumlp.models import Sequential

COUNT = "num_batches_tracked"  # what BatchNorm1d counts, and nothing of gpumlp does
REST = "Or bring over the other layers, which keep their weights: Sequential(model.layers[1:]), say."


class Entry(NamedTuple):
    """An array of a state dict as PyTorch has it, and the layer's weight that it is; None: there is none."""

    weight: str | None
    value: np.ndarray


class Module(NamedTuple):
    """A module of ``torch.nn``: its class, what that is given, and its part of the state dict."""

    kind: str
    arguments: dict[str, Any]
    state: dict[str, Entry]


# ---- activations: torch's class and its arguments, of the activation's constants; None where there is none -----------
def _relu(negative_slope: float, max_value: float | None, threshold: float) -> tuple[str, dict[str, Any]] | None:
    found: dict[tuple[bool, ...], tuple[str, dict[str, Any]]] = {
        (False, False, False): ("ReLU", {}),
        (True, False, False): ("LeakyReLU", {"negative_slope": negative_slope}),
        (False, True, False): ("Hardtanh", {"min_val": 0.0, "max_val": max_value}),
        (False, False, True): ("Threshold", {"threshold": threshold, "value": 0.0}),
    }
    if max_value == 0.0:
        return None  # torch.nn.Hardtanh wants a max_val above its min_val
    return found.get((bool(negative_slope), max_value is not None, bool(threshold)))


def _plain(kind: str, **arguments: Any) -> Callable[..., tuple[str, dict[str, Any]]]:
    return lambda: (kind, arguments)


ACTIVATIONS: Mapping[str, Callable[..., tuple[str, dict[str, Any]] | None]] = {
    "relu": _relu, "relu6": _plain("ReLU6"), "selu": _plain("SELU"), "tanh": _plain("Tanh"), "silu": _plain("SiLU"),
    "leaky_relu": lambda negative_slope: ("LeakyReLU", {"negative_slope": negative_slope}),
    "elu": lambda alpha: ("ELU", {"alpha": alpha}), "celu": lambda alpha: ("CELU", {"alpha": alpha}),
    "tanh_shrink": _plain("Tanhshrink"), "hard_tanh": _plain("Hardtanh"), "mish": _plain("Mish"),
    "soft_shrink": lambda threshold: ("Softshrink", {"lambd": threshold}),
    "hard_shrink": lambda threshold: ("Hardshrink", {"lambd": threshold}),
    "threshold": lambda threshold, default_value: ("Threshold", {"threshold": threshold, "value": default_value}),
    "sigmoid": _plain("Sigmoid"), "log_sigmoid": _plain("LogSigmoid"), "hard_sigmoid": _plain("Hardsigmoid"),
    "hard_silu": _plain("Hardswish"), "softsign": _plain("Softsign"), "softplus": _plain("Softplus"),
    "gelu": lambda approximate: ("GELU", {"approximate": "tanh" if approximate else "none"}),
    "softmax": lambda axis: ("Softmax", {"dim": -1}), "log_softmax": lambda axis: ("LogSoftmax", {"dim": -1}),
}  # fmt: skip


def _activation(each: Placed) -> list[Module]:
    activation = each.layer.activation
    if activation == activations.linear:
        return []
    known = ACTIVATIONS.get(activation.name) if is_packaged(activation) else None
    found = None if known is None else known(**activation.get_config())
    if found is None:
        raise each.refusal("PyTorch", f"torch.nn has no module for {activation!r}", "interop.to_onnx writes all.")
    return [Module(*found, {})]


# ---- layers ----------------------------------------------------------------------------------------------------------
def _dense(each: Placed) -> list[Module]:
    state = {"weight": Entry("kernel", each.weights["kernel"].T)}
    if each.layer.use_bias:
        state["bias"] = Entry("bias", each.weights["bias"])
    arguments = {"in_features": each.shape[-1], "out_features": each.layer.units, "bias": each.layer.use_bias}
    return [Module("Linear", arguments, state), *_activation(each)]


def _softmax(each: Placed) -> list[Module]:
    axes = each.layer.axes(each.shape)
    if len(axes) > 1:
        raise each.refusal("PyTorch", "torch.nn.Softmax goes over one axis", REST)
    return [Module("Softmax", {"dim": axes[0] + 1}, {})]


def _prelu(each: Placed) -> list[Module]:
    alpha = each.weights["alpha"]
    if len(each.shape) > 1 and any(size > 1 for size in alpha.shape[1:]):
        raise each.refusal("PyTorch", "torch.nn.PReLU has a slope for each position along the first axis alone", REST)
    return [Module("PReLU", {"num_parameters": alpha.size}, {"weight": Entry("alpha", alpha.reshape(-1))})]


def _scaled(each: Placed, size: tuple[int, ...]) -> dict[str, Entry]:
    """Return gamma and beta, which torch always has: 1 and 0 where the layer has none."""
    dtype = np.dtype(each.layer.dtype)
    given = {"weight": ("gamma", np.ones), "bias": ("beta", np.zeros)}
    return {
        name: Entry(own, each.weights[own]) if own in each.weights else Entry(None, make(size, dtype))
        for name, (own, make) in given.items()
    }


def _batch_norm(each: Placed) -> list[Module]:
    if each.layer.along(each.shape) != (1,) or len(each.shape) > 2:
        raise each.refusal(
            "PyTorch", "torch.nn.BatchNorm1d has its features along the first axis of a sample, of one or two", REST
        )
    state = _scaled(each, each.shape[:1])
    state["running_mean"] = Entry("moving_mean", each.weights["moving_mean"])
    state["running_var"] = Entry("moving_variance", each.weights["moving_variance"])
    state[COUNT] = Entry(None, np.array(0, np.int64))
    arguments = {"num_features": each.shape[0], "eps": each.layer.epsilon, "momentum": 1.0 - each.layer.momentum}
    return [Module("BatchNorm1d", arguments, state)]


def _layer_norm(each: Placed) -> list[Module]:
    axes, rank = each.layer.along(each.shape), len(each.shape)
    if axes != tuple(range(rank + 1 - len(axes), rank + 1)):
        raise each.refusal("PyTorch", "torch.nn.LayerNorm goes over the last axes", REST)
    size = each.shape[rank - len(axes) :]
    return [Module("LayerNorm", {"normalized_shape": size, "eps": each.layer.epsilon}, _scaled(each, size))]


def _dropout(each: Placed) -> list[Module]:
    if each.layer.noise_shape is not None:
        raise each.refusal("PyTorch", "torch.nn's dropout has no noise_shape", "Leave the layer out.")
    return [Module(type(each.layer).__name__, {"p": each.layer.rate}, {})]


def _flatten(each: Placed) -> list[Module]:
    if each.layer.data_format == "channels_first" and len(each.shape) > 1:
        raise each.refusal("PyTorch", "torch.nn.Flatten keeps the order of numbers", REST)
    return [Module("Flatten", {}, {})]


def _reshape(each: Placed) -> list[Module]:
    flatten = [Module("Flatten", {}, {})] if len(each.shape) > 1 else []
    unflatten = [Module("Unflatten", {"dim": 1, "unflattened_size": each.result}, {})] if len(each.result) > 1 else []
    return flatten + unflatten


LAYERS: dict[type[Layer], Callable[[Placed], list[Module]]] = {
    layers.Dense: _dense,
    layers.Activation: _activation,
    layers.Softmax: _softmax,
    layers.PReLU: _prelu,
    layers.BatchNormalization: _batch_norm,
    layers.LayerNormalization: _layer_norm,
    layers.Dropout: _dropout,
    layers.AlphaDropout: _dropout,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.ActivityRegularization: lambda each: [],
    layers.Identity: lambda each: [Module("Identity", {}, {})],
    layers.Input: lambda each: [],
}


def _modules(model: object, asked_by: str) -> list[tuple[Placed, list[Module]]]:
    return [(each, _modules_of(each)) for each in layers_of(model, asked_by)]


def _modules_of(each: Placed) -> list[Module]:
    for kind in type(each.layer).__mro__:
        if kind in LAYERS:
            return LAYERS[kind](each)
    raise each.refusal("PyTorch", "torch.nn has no module for it", f"interop.to_onnx writes all layers. {REST}")


def _named(modules: list[tuple[Placed, list[Module]]]) -> list[tuple[Placed, str, Entry]]:
    """Return all entries of the state dict by their names, each with the layer that it is of."""
    number, found = 0, []
    for each, own in modules:
        for module in own:
            found += [(each, f"{number}.{name}", entry) for name, entry in module.state.items()]
            number += 1
    return found


def to_torch(model: Sequential) -> dict[str, np.ndarray]:
    """Return the state dict of the `torch.nn.Sequential` that computes what the model does, as NumPy's arrays.

    Modules have the places that `torch_module` gives them: an activation has one of its own, behind its Dense's.
    PyTorch is not needed: ``safetensors.numpy.save_file`` writes such a dict, and ``torch.from_numpy`` makes tensors.

    Parameters
    ----------
    model : Sequential
        Built; or a fitted estimator of `gpumlp.sklearn`, of one network. `Dense`, activations as far as ``torch.nn``
        has them, `PReLU`, `BatchNormalization` and `LayerNormalization`, `Dropout`, `AlphaDropout`, `Flatten`,
        `Reshape` are known.

    Returns
    -------
    dict of str to numpy.ndarray
        Copies, by names such as "0.weight": a Dense's kernel is transposed, moving averages are running ones.

    Raises
    ------
    TypeError
        For what is no `Sequential`.
    ValueError
        For a model that is not built, and, by its name, for a layer for which ``torch.nn`` has no module.

    Examples
    --------
    >>> from gpumlp import Sequential, interop, layers
    >>> model = Sequential([layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1)])
    >>> {name: array.shape for name, array in interop.to_torch(model).items()}
    {'0.weight': (8, 4), '0.bias': (8,), '2.weight': (1, 8), '2.bias': (1,)}
    """
    return {name: entry.value.copy() for _, name, entry in _named(_modules(model, "to_torch"))}


def from_torch(model: Sequential, state: Mapping[str, Any]) -> None:
    """Have the model's weights be those of a state dict, as `to_torch` gives one, or of a `torch.nn.Module`.

    Parameters
    ----------
    model : Sequential
        Built, and of the modules' structure: see `to_torch`.
    state : mapping of str to tensors or arrays, or a torch.nn.Module
        By names such as "0.weight", the modules' places in a `torch.nn.Sequential`.

    Raises
    ------
    TypeError
        For what is no `Sequential`, or no state dict.
    ValueError
        For names and shapes that are not the model's, for a scale or an offset that the model's layer lacks, and for
        numbers that are not finite in the model's dtype, or a variance below 0; then nothing has changed.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import Sequential, interop, layers
    >>> model = Sequential([layers.Input((2,)), layers.Dense(1)])
    >>> interop.from_torch(
    ...     model, {"0.weight": np.array([[2.0, -1.0]]), "0.bias": np.array([0.5])}
    ... )
    >>> model.predict(np.array([[1.0, 1.0]]), verbose=0)
    array([[1.5]], dtype=float32)
    """
    if hasattr(state, "state_dict") and not isinstance(state, type):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise TypeError(f"from_torch takes a state dict, or a torch.nn.Module that has one; got {state!r:.80}.")
    modules = _modules(model, "from_torch")
    entries = _named(modules)
    names = [name for _, name, _ in entries]
    lacking = [name for name in names if name not in state and not name.endswith(COUNT)]
    if lacking or not set(state) <= set(names):
        unknown = [name for name in state if name not in names]
        raise ValueError(
            f"The state dict must have {', '.join(names)}; it lacks {', '.join(lacking) or 'nothing'}, and has beside "
            f"these {', '.join(map(str, unknown)) or 'nothing'}."
        )
    new: dict[tuple[int, str | None], np.ndarray] = {}
    for each, name, entry in entries:
        if not name.endswith(COUNT):
            new[id(each.layer), entry.weight] = _taken(name, state[name], each, entry)
    model.set_weights([new[id(each.layer), weight] for each, _ in modules for weight in each.weights])


def _taken(name: str, value: Any, each: Placed, entry: Entry) -> np.ndarray:
    """Return an array of a state dict as the layer has it; ValueError where it does not fit."""
    array = np.asarray(value.detach().cpu().double() if hasattr(value, "detach") else value)
    if array.shape != entry.value.shape:
        raise ValueError(f"{name} must have shape {entry.value.shape}; got {array.shape}.")
    if entry.weight is None:
        if not np.array_equal(array, entry.value):
            raise ValueError(
                f"{name} must be {entry.value.flat[0]:g} throughout: {type(each.layer).__name__} layer "
                f"{each.layer.name!r} was made without it (scale=False or center=False)."
            )
        return array
    with np.errstate(over="ignore"):
        wrong = array[~np.isfinite(array.astype(each.layer.dtype))]
    if wrong.size:
        raise ValueError(f"{name} must have numbers that are finite in {each.layer.dtype}; got {wrong[0]}.")
    if entry.weight == "moving_variance" and array.min() < 0.0:
        raise ValueError(f"{name} must be variances, of which none is below 0; got {array.min()}.")
    return array.T if entry.weight == "kernel" else array.reshape(each.weights[entry.weight].shape)


def torch_module(model: Sequential) -> Any:
    """Return a `torch.nn.Sequential` with the model's weights, which predicts what the model does.

    It is in evaluation mode, on the CPU, and of the model's dtype; what was trained there comes back by `from_torch`.
    Trained, its batch normalization differs from gpumlp's in one point: torch's running variance is the unbiased one.

    Parameters
    ----------
    model : Sequential
        Built: see `to_torch`.

    Returns
    -------
    torch.nn.Sequential
        Whose weights are its own.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError, ValueError
        As `to_torch`.

    Examples
    --------
    >>> from gpumlp import Sequential, interop, layers
    >>> model = Sequential([layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1)])
    >>> interop.torch_module(model)  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=1, bias=True)
    )
    """
    modules = _modules(model, "torch_module")
    torch = imported("torch", "torch_module", "https://pytorch.org says how it is installed")
    parts = [getattr(torch.nn, m.kind)(**m.arguments) for _, own in modules for m in own]
    made = torch.nn.Sequential(*parts).to(getattr(torch, model.dtype.name))
    made.load_state_dict({name: torch.from_numpy(entry.value.copy()) for _, name, entry in _named(modules)})
    return made.eval()
