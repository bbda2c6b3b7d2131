"""Constructors that are declared: what a class takes stands in its own ``__init__``, where help() and editors read it.

    class Huber(Loss, function=huber):
        @constructor
        def __init__(self, delta: float = 1.0, reduction: Reduction = MEAN, name: str = "huber") -> None: ...

What is given goes by name, with the defaults of what is not, to the class's ``_take``, which looks at it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

Declared = TypeVar("Declared", bound=Callable[..., None])


class Takes(Protocol):
    """What has such a constructor."""

    def _recognized(self, given: dict[str, object], known: list[str]) -> dict[str, object]:
        """Return the arguments given by name, all ``known``; raise what says which is not."""

    def _take(self, arguments: dict[str, object]) -> None:
        """Look at all arguments, and keep them."""


def constructor(declared: Declared) -> Declared:
    """Return the constructor that takes what ``declared`` does; its arguments are in its attribute ``names``."""
    signature = inspect.signature(declared)
    names = list(signature.parameters)[1:]

    @functools.wraps(declared)
    def __init__(self: Takes, *args: object, **given: object) -> None:
        given = self._recognized(given, names)
        try:
            bound = signature.bind(self, *args, **given)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}; it takes {_plain(signature)}.") from None
        bound.apply_defaults()
        self._take({name: bound.arguments[name] for name in names})

    __init__.names = names  # type: ignore[attr-defined]
    return __init__  # type: ignore[return-value]


def _plain(signature: inspect.Signature) -> inspect.Signature:
    """Return a method's signature without self and types."""
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return inspect.Signature(parameters[1:])


def shown(thing: object, always: Iterable[str] = (), never: Iterable[str] = ()) -> str:
    """Return how an object is made, in one line: ``Huber(delta=2.0)``; arguments that have their default are left out.

    ``always`` are shown in any case, ``never`` in none. What was given stands in an attribute of the argument's name,
    or, where that is computed, in one that has "init_" before it.
    """
    words = []
    for p in list(inspect.signature(type(thing).__init__).parameters.values())[1:]:
        value = getattr(thing, f"init_{p.name}", getattr(thing, p.name, p.default))
        same = value == p.default if isinstance(value, (int, float)) else repr(value) == repr(p.default)
        if p.name not in never and (p.name in always or not same):
            words.append(f"{p.name}={value.__name__ if inspect.isfunction(value) else repr(value)}")
    return f"{type(thing).__name__}({', '.join(words)})"
