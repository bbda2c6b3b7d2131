"""Models as config dicts, as Keras has them: what they are made of, and what they were compiled with."""

from __future__ import annotations

import contextlib
import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from gpumlp import config, layers, losses, metrics, optimizers, saving
from gpumlp.layers import Input, Layer
from gpumlp.models.stack import leaves
from gpumlp.naming import own

if TYPE_CHECKING:
    from gpumlp.models.compiled import Compiled
    from gpumlp.models.sequential import Sequential
    from gpumlp.models.stack import Stack


Model = TypeVar("Model", bound="Compiled")
HOW = ("run_eagerly", "steps_per_execution", "jit_compile")  # of compile's arguments those that change nothing

UNTRAINED = ("name", "module", "registered_name", "build_config", "compile_config")  # of no matter to training


def described(model: Stack) -> dict[str, object]:
    """Return name, dtype and layers of a model; of one whose input is known an Input comes first."""
    stack = list(model._layers)
    shape = model._known_input_shape()
    if shape is not None and not isinstance(stack[0], Input):
        stack = [Input(shape, name=f"{stack[0].name}_input"), *stack]
    found = {
        "name": model.name,
        "trainable": model.trainable,
        "dtype": config.policy(next((a.dtype for a in leaves(stack) if a.held), model.dtype.name)),
        "layers": [saving.serialize_keras_object(layer) for layer in stack],
    }
    return found if shape is None else found | {"build_input_shape": [None, *shape]}


def from_config(kind: type[Model], given: Mapping[str, Any]) -> Model:
    """Return a new model of a class, as `described` has described one; ValueError where a config is not one of these.

    Weights are new. Keras's attributes that gpumlp has not are refused unless they have their neutral values.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("layers"), (list, tuple)):
        raise ValueError(f"The config of a model must be a dict with a list of layers at 'layers'; got {given!r:.200}.")
    dtype = config.policy_name(given.get("dtype"))
    model = kind(name=given.get("name")) if dtype is None else kind(name=given.get("name"), dtype=dtype)
    for each in given["layers"]:
        model.add(layers.deserialize(each))
    if model._known_input_shape() is None and given.get("build_input_shape"):
        model.build(tuple(given["build_input_shape"]))
    model._trainable = bool(given.get("trainable", True))  # the layers have their own
    return model


def compiled(model: Compiled) -> dict[str, object] | None:
    """Return what a model was compiled with, by Keras's names; None for one that was not."""
    if model._compiled_with is None:
        return None
    given = {name: _value(value) for name, value in model._compiled_with.items()}
    return {"optimizer": saving.serialize_keras_object(model.optimizer), **given}


def _value(given: object) -> object:
    if isinstance(given, (list, tuple)):
        return [_value(value) for value in given]
    if isinstance(given, Mapping):
        return {name: _value(value) for name, value in given.items()}
    return saving.serialize_keras_object(given)


def compile_from(model: Compiled, given: Mapping[str, Any]) -> None:
    """Compile a model as `compiled` has described it."""
    model.compile(
        optimizer=optimizers.deserialize(given["optimizer"]),
        loss=_read(given.get("loss"), losses.deserialize),
        metrics=_read(given.get("metrics"), metrics.deserialize),
        weighted_metrics=_read(given.get("weighted_metrics"), metrics.deserialize),
        **{name: given[name] for name in ("loss_weights", *HOW) if name in given},
    )


def _read(given: object, deserialize: Callable[[Any], Any]) -> Any:
    """Return what a config dict describes, in whatever lists and dicts by name; names stay what they are."""
    if isinstance(given, (list, tuple)):
        return [_read(each, deserialize) for each in given]
    if isinstance(given, Mapping) and "class_name" in given:
        known = own(given.get("registered_name"))
        if known is None or (isinstance(known, type) and isinstance(given.get("config"), Mapping)):
            return deserialize(given)
        return known
    if isinstance(given, Mapping):
        return {name: _read(value, deserialize) for name, value in given.items()}
    return given


def made_of(model: Compiled, loss: losses.Loss, judged: Iterable[metrics.Metric]) -> dict[str, str]:
    """Return what a model in training is made of, in words by place: "layers 1 activation" is "relu".

    Names are not in it, nor where weights and steps begin, nor what cannot be serialized.
    """
    found: dict[str, str] = {"optimizer": type(model.optimizer).__name__}
    parts = {"layers": model.layers, "loss": loss, "metrics": list(judged)}
    for name, part in parts.items():
        for i, each in enumerate(part) if isinstance(part, list) else [("", part)]:
            with contextlib.suppress(Exception):  # of a user's own get_config
                _say(f"{name} {i}".strip(), saving.serialize_keras_object(each), found)
    return found


def _say(at: str, value: object, found: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in UNTRAINED and not name.endswith("initializer"):
                _say(at if name == "config" else f"{at} {name}", inner, found)
    elif isinstance(value, (list, tuple)) and any(isinstance(each, Mapping) for each in value):
        for i, inner in enumerate(value):
            _say(f"{at} {i}", inner, found)
    else:
        found[at] = str(value)


def to_json(model: Compiled, **arguments: Any) -> str:
    """Return a model, without its weights, as JSON; ``arguments`` are those of `json.dumps`."""
    return json.dumps(saving.serialize_keras_object(model), **arguments)


def model_from_json(json_string: str, custom_objects: Mapping[str, object] | None = None) -> Sequential:
    """Return a new model, as `Sequential.to_json` has described one; it is compiled if that one was.

    Parameters
    ----------
    json_string : str
        What `Sequential.to_json` returns, here or in Keras.
    custom_objects : dict, optional
        Classes and functions of a user's own by name, that are not registered.

    Returns
    -------
    Sequential
        Its weights are new.

    Raises
    ------
    ValueError
        For what is no JSON, or of what gpumlp has not.

    Examples
    --------
    >>> import gpumlp
    >>> text = gpumlp.Sequential([gpumlp.layers.Dense(4, input_shape=(3,))]).to_json()
    >>> gpumlp.models.model_from_json(text).count_params()
    16
    """
    try:
        given = json.loads(json_string)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"model_from_json takes the text that model.to_json returns; this is no JSON: {error}."
        ) from None
    made: Sequential = saving.deserialize_keras_object(given, custom_objects)
    if not hasattr(made, "compile_from_config"):
        raise ValueError(
            f"model_from_json takes what model.to_json returns, that of a Sequential; got {reprlib.repr(given)}."
        )
    return made


def clone_model(
    model: Model,
    input_tensors: None = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: None = None,
    recursive: bool = False,
    **kwargs: object,
) -> Model:
    """Return a new model of the same layers with new weights, compiled alike if the old one is.

    Parameters
    ----------
    model : Sequential
        It stays as it is.
    input_tensors : None
        Of Keras's functional models, which are not there.
    clone_function : function, optional
        Makes each new layer of the old one; `from_config` does when None.
    call_function : None
        Of functional models, too.
    recursive : bool
        Whether it also makes the layers of models among the layers.
    **kwargs : object
        Refused.

    Returns
    -------
    Sequential
        Its optimizer is a new one, of the same settings.

    Raises
    ------
    ValueError
        Where ``clone_function`` returns the old layer.
    NotImplementedError
        For an argument of functional models.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(4, input_shape=(3,))])
    >>> target = gpumlp.models.clone_model(model)
    >>> target.set_weights(model.get_weights())
    """
    if input_tensors is not None or call_function is not None or kwargs:
        raise NotImplementedError(
            "clone_model takes model, clone_function and recursive: a Sequential is all there is."
        )
    made = type(model)(name=model.name, dtype=model.dtype.name)
    for layer in _with_input(model):
        made.add(_cloned(layer, clone_function, recursive))
    made.trainable = model.trainable
    if model._compiled_with is not None:
        optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        made.compile(optimizer, **model._compiled_with, device=model.device.name, distributed=model.distributed)
    return made


def _with_input(model: Stack) -> Iterable[Layer | Stack]:
    stack, shape = model._layers, model._known_input_shape()
    return stack if shape is None or isinstance(stack[0], Input) else [Input(shape), *stack]


def _cloned(layer: Any, clone: Callable[[Layer], Layer] | None, recursive: bool) -> Any:
    if not isinstance(layer, Layer) and (clone is None or recursive):
        return clone_model(layer, None, clone, None, recursive)
    if clone is None or isinstance(layer, Input):
        return type(layer).from_config(layer.get_config())
    made = clone(layer)
    if made is layer:
        raise ValueError(f"The clone_function must return a new layer; it returned {layer!r} itself.")
    return made
