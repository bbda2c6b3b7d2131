"""A model from a config that stands in a file: no code is executed, no more weights are made than the file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from gpumlp import missing
from gpumlp.keras_names import NAMES
from gpumlp.layers import allowing
from gpumlp.saving import deserialize_keras_object
from gpumlp.saving.text import a_dict

if TYPE_CHECKING:
    from gpumlp.models.compiled import Compiled
    from gpumlp.models.sequential import Sequential

Made = TypeVar("Made")
SIZES = {
    "num_thresholds": 1 << 20,
    "num_classes": 1 << 12,
}  # by which metrics make arrays: the most that a file may say


def made(config: object, what: str, numbers: int) -> Sequential:
    """Return the model that a config dict describes, not compiled, with ``numbers`` weights at most.

    ValueError, naming ``what`` has it, for a config that describes none.
    """
    given = {k: v for k, v in a_dict(config, f"The config in {what}").items() if k != "compile_config"}
    _look_at(given, what)
    with allowing(numbers):
        model: Sequential = _understood(lambda: deserialize_keras_object(given), what, given)
        shape = a_dict(given.get("build_config") or {}, f"The build_config in {what}").get("input_shape")
        if not hasattr(model, "_runner"):
            raise ValueError(f"{what} has no model, but {given.get('class_name')!r}.")
        if not model.built and shape is not None and model.layers:
            _understood(lambda: model.build(tuple(shape)), what, given)
    return model


def compile_as(model: Compiled, config: object, what: str) -> None:
    """Compile a model as a config says that `made` has made it of; not at all where that says nothing."""
    how = a_dict(config, f"The config in {what}").get("compile_config")
    _look_at(how, what)
    if how:
        more = "; with compile=False the model is loaded as if it had not been compiled"
        _understood(lambda: model.compile_from_config(a_dict(how, f"The compile config in {what}")), what, how, more)


def _understood(make: Callable[[], Made], what: str, config: object, more: str = "") -> Made:
    """Return what ``make`` makes of a config; ValueError, which names the file, where it cannot, and what to do."""
    try:
        return make()
    except ValueError as error:
        said = str(error).removeprefix(f"{what}: ")
        if (instead := _instead(config, said, more)) is not None:
            said = f"{said.partition(' Known: ')[0].partition(' Register it')[0]} {instead}"
        raise ValueError(f"{what}: {said}") from error
    except RecursionError:
        raise ValueError(f"{what} has a config that is too deep.") from None
    except MemoryError as error:
        raise ValueError(f"{what} has a config that no memory holds: {error}") from None
    except (TypeError, KeyError, AttributeError, IndexError, OverflowError, NotImplementedError) as error:
        raise ValueError(f"{what} has a config that cannot be read: {type(error).__name__}: {error}") from error


def _instead(config: object, said: str, more: str) -> str | None:
    """Return what to do about the class or function of a config that ``said`` says is unknown; None where it is not."""
    if "Unknown " not in said and "is not known" not in said:
        return None
    for name, module in _named(config):
        if repr(name) not in said:
            continue
        within = module.removeprefix("keras.")
        if module.startswith("keras.") and within in NAMES:
            return f"gpumlp has none. {missing.instead(f'{within}.{name}')}"
        if not module.startswith("keras"):
            plain = name.rpartition(">")[2]
            return (
                f"If it is your own: load_model(..., custom_objects={{{plain!r}: {plain}}}), or have "
                f"register_keras_serializable know it{more}."
            )
    return None


def _named(config: object) -> Iterator[tuple[str, str]]:
    """Yield the names in a config, of classes and functions, and the modules that they are of."""
    if isinstance(config, str):
        yield config, ""
    elif isinstance(config, list):
        for each in config:
            yield from _named(each)
    elif isinstance(config, dict):
        name = config.get("config") if config.get("class_name") == "function" else config.get("class_name")
        if isinstance(name, str):
            yield name, str(config.get("module"))
        for key, each in config.items():
            if key not in ("module", "class_name", "registered_name"):
                yield from _named(each)


def _look_at(config: object, what: str) -> None:
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
