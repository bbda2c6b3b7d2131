"""What a person types: names are looked up, numbers looked at; the errors say what there is, or what is expected."""

from __future__ import annotations

import difflib
import math
import numbers
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TypeGuard

import numpy as np

NEAR = 0.86  # how alike two names are where one may also be a name of its own
DIGITS = "0123456789"
_taken: Counter[str] = Counter()
# Classes and functions of a user's own by name: see `gpumlp.saving`, which fills both.
registered: dict[str, Any] = {}
scope: ContextVar[Mapping[str, Any]] = ContextVar("names that hold for a while", default={})  # noqa: B039


def snake(kind: type) -> str:
    """Return a class's name in snake case, as Keras has it."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind.__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def automatic(kind: type) -> str:
    """Return a name for a new object: its class's in snake case, with a number from the second one on, as Keras does.

    "LayerNormalization" is "layer_normalization", "PReLU" is "p_re_lu", "SGD" is "sgd".
    """
    base = snake(kind)
    _taken[base] += 1
    return base if _taken[base] == 1 else f"{base}_{_taken[base] - 1}"


def reset_names() -> None:
    """Start the numbering of automatic names again."""
    _taken.clear()


def unknown_name(kind: str, name: object, known: Mapping[str, object]) -> ValueError:
    """Return the error for an unknown name: near matches first, then every name there is."""
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return ValueError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}.")


def _squashed(name: str) -> str:
    return name.replace("_", "").lower()


def nearest(name: str, known: Iterable[str], near: float = NEAR) -> str | None:
    """Return which of ``known`` a name is likely to mean; None for a name of its own, such as weights_2.

    ``near``, of 1: how alike two names are that one is taken for the other misspelt.
    """
    for other in sorted(known):
        if _squashed(other) == _squashed(name):
            return other
        if other[-1] in DIGITS and _squashed(other).rstrip(DIGITS) == _squashed(name).rstrip(DIGITS):
            return other  # beta_3
    if name[-1] in DIGITS:
        return None
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=near)
    return found[0] if found else None


def own(name: object) -> Any:
    """Return the class or function that a user has given this name; None where nobody has."""
    found = (names[name] for names in (scope.get(), registered) if isinstance(name, str) and name in names)
    return next(found, None)


def look_up(kind: str, name: str, known: Mapping[str, object]) -> Any:
    """Return what a user has given the name, or else ``known[name]``.

    That is in any case, with or without underscores: "MeanSquaredError" is "mean_squared_error".

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if (found := own(name)) is not None:
        return found
    if name in known:
        return known[name]
    for other, found in known.items():
        if _squashed(other) == _squashed(name):
            return found
    raise unknown_name(kind, name, known)


def of_keras(value: object) -> str:
    """Return what to do about a thing of Keras's, or of a class that is based on one; "" for all others."""
    kinds = value.__mro__ if isinstance(value, type) else (*((value,) if callable(value) else ()), *type(value).__mro__)
    for kind in kinds:
        if str(getattr(kind, "__module__", "")).split(".")[0] in ("keras", "tf_keras") and hasattr(kind, "__name__"):
            return f"Got {value!r}: that is Keras's {kind.__name__}; import it from gpumlp."
    return ""


def is_function(identifier: object, base: type) -> TypeGuard[Callable[..., Any]]:
    """Whether a user's function is meant: what can be called, and is no class and no instance of ``base``."""
    return callable(identifier) and not isinstance(identifier, (type, base))


def _described(kind: str, description: Mapping[str, Any], known: Mapping[str, object]) -> tuple[Any, Mapping[str, Any]]:
    """Return the class, instance or function that a dict names, and the config beside it."""
    name, config = description.get("class_name"), description.get("config") or {}
    if name == "function":
        name, config = config, {}
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ValueError(
            f"{kind}: a dict must have a name at 'class_name', and a dict at 'config'; got {description!r}."
        )
    found = own(description.get("registered_name"))
    return (look_up(kind, name, known) if found is None else found), config


def resolve(kind: str, identifier: object, known: Mapping[str, object], base: type, callables: bool = False) -> Any:
    """Return the instance of ``base`` meant by an instance, a class, a name, or a dict of class_name and config.

    With ``callables`` also a user's function, or the instance of another class, that can be called.

    Raises
    ------
    ValueError
        For an unknown name, and for values that a class does not take.
    TypeError
        For anything else.
    """
    found: object = identifier
    config: Mapping[str, object] = {}
    if words := of_keras(identifier):
        raise TypeError(words)
    if isinstance(identifier, Mapping):
        found, config = _described(kind, identifier, known)
    elif isinstance(identifier, str):
        found = look_up(kind, identifier, known)
    if isinstance(found, type):
        abstract = found is base and base not in known.values()
        if not abstract and (issubclass(found, base) or (callables and "__call__" in dir(found))):
            found = found.from_config(config) if config and hasattr(found, "from_config") else found(**config)
    elif config and isinstance(found, base):
        described: Any = found
        found = described.given(**config)
    if isinstance(found, base) or (callables and callable(found) and not isinstance(found, type)):
        return found
    raise TypeError(
        f"{kind} must be a name ({', '.join(list(known)[:3])}, ...), or an object or class of "
        f"{base.__module__}{', or a function' if callables else ''}; got {found!r}."
    )


def number(
    name: str, value: object, low: float = -math.inf, high: float = math.inf, above: bool = False, below: bool = False
) -> float:
    """Return ``value`` as a float; ValueError unless it is finite and in [low, high].

    With ``above`` it must not be ``low``, with ``below`` not ``high``. A bool or a string is no number.
    """
    if type(value) is float and low < value < high:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    try:
        given = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except OverflowError:
        given = math.inf
    inside = low <= given <= high and not (above and given == low) and not (below and given == high)
    if not math.isfinite(given) or not inside:
        bounds = [f" {'>' if above else '>='} {low:g}"] if low > -math.inf else []
        bounds += [f" {'<' if below else '<='} {high:g}"] if high < math.inf else []
        raise ValueError(f"{name} must be a finite number{' and'.join(bounds)}; got {value!r}.")
    return given


def neutral(owner: str, **given: tuple[object, object]) -> None:
    """Refuse what Keras has and gpumlp has not: NotImplementedError unless each value is the neutral one beside it."""
    for name, (value, accepted) in given.items():
        if value is not accepted and (type(value) is not type(accepted) or value != accepted):
            raise NotImplementedError(f"{owner} works with {name}={accepted!r} only; got {name}={value!r}.")


def flag(name: str, value: object) -> bool:
    """Return ``value`` as a bool; ValueError unless it is True or False, or the numbers 1 or 0."""
    if not isinstance(value, (numbers.Integral, np.bool_)) or value not in (0, 1):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return bool(value)


def unmasked(name: str, value: object) -> Any:
    """Return ``value``; ValueError for a masked array that has holes, which NumPy would fill with what is beneath."""
    if has_holes(value):
        raise ValueError(
            f"{name} has masked values. Fill them, as {name.split()[-1]}.filled(0.0) does, or leave their rows out of "
            "all arrays; what stands beneath a mask is no data."
        )
    return value


def has_holes(value: object) -> bool:
    """Whether ``value`` is a masked array with something masked, or a list with one in it, however deep."""
    ma = sys.modules.get("numpy.ma")  # NumPy imports it when it is first used
    if ma is None:
        return False
    if isinstance(value, ma.MaskedArray):
        return value.dtype.names is None and bool(ma.is_masked(value))
    if not isinstance(value, (list, tuple, deque)):
        return False
    kinds = set(map(type, value))  # most lists are of numbers: one look at their types is enough
    return any(issubclass(k, (list, tuple, ma.MaskedArray)) for k in kinds) and any(map(has_holes, value))


def listing(module: str) -> Callable[[], list[str]]:
    """Return the ``__dir__`` of a public module: what is in its ``__all__``, and Python's own names."""

    def names() -> list[str]:
        found = vars(sys.modules[module])
        return sorted([*found["__all__"], *(name for name in found if name.startswith("__"))])

    return names


def settle(frozen: object, **values: object) -> None:
    """Put values, looked at, into the fields of a frozen dataclass under construction."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
