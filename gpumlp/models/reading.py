"""A model from a config that stands in a file: no code is executed, no more weights are made than the file has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpumlp.layers import allowing
from gpumlp.saving import deserialize_keras_object
from gpumlp.saving.text import a_dict

SIZES = {
    "num_thresholds": 1 << 20,
    "num_classes": 1 << 12,
}  # by which metrics make arrays: the most that a file may say


def made(config: Any, what: str, numbers: int) -> Any:
    """Return the model that a config dict describes, not compiled, with ``numbers`` weights at most.

    ValueError, naming ``what`` has it, for a config that describes none.
    """
    config = {k: v for k, v in a_dict(config, f"The config in {what}").items() if k != "compile_config"}
    _look_at(config, what)
    with allowing(numbers):
        model = _understood(lambda: deserialize_keras_object(config), what)
        shape = a_dict(config.get("build_config") or {}, f"The build_config in {what}").get("input_shape")
        if not hasattr(model, "_runner"):
            raise ValueError(f"{what} has no model, but {config.get('class_name')!r}.")
        if not model.built and shape is not None and model.layers:
            _understood(lambda: model.build(tuple(shape)), what)
    return model


def compile_as(model: Any, config: Any, what: str) -> None:
    """Compile a model as a config says that `made` has made it of; not at all where that says nothing."""
    how = a_dict(config, f"The config in {what}").get("compile_config")
    _look_at(how, what)
    if how:
        _understood(lambda: model.compile_from_config(a_dict(how, f"The compile config in {what}")), what)


def _understood(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except RecursionError:
        raise ValueError(f"{what} has a config that is too deep.") from None
    except MemoryError as error:
        raise ValueError(f"{what} has a config that no memory holds: {error}") from None
    except (TypeError, KeyError, AttributeError, IndexError, OverflowError, NotImplementedError) as error:
        raise ValueError(f"{what} has a config that cannot be read: {type(error).__name__}: {error}") from error


def _look_at(config: Any, what: str) -> None:
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            raise ValueError(
                f"{what} has code in it, of a function without a name (__lambda__), which gpumlp never executes, with "
                "safe_mode or without. Build the model by the code that made it, and load its weights; or have the "
                "function be one with a name, registered by register_keras_serializable or given in custom_objects."
            )
        for name, value in config.items():
            if isinstance(value, int) and value > SIZES.get(name, value):
                raise ValueError(f"{what} has {name}={value}; {SIZES[name]} is the most that is read from a file.")
            _look_at(value, what)
    elif isinstance(config, list):
        for value in config:
            _look_at(value, what)
