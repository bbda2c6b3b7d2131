"""Attributes that are set on models, layers and optimizers: what is known is read, what nobody would read is refused.

Python keeps whatever is set on an object, so a word that is misspelt, or that only Keras knows, would be silence: a
model frozen by ``trainble = False`` would train. An attribute of a user's own is kept, pickled, and never read. And a
value that a constructor would refuse is refused later, too: it is looked at whenever it is set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from gpumlp.naming import nearest
from gpumlp.signatures import Named


class Attributes(Named):
    """Base of what a person sets attributes on.

    ``unread`` has the names that Keras knows and gpumlp does not read, each with what to use instead; ``checks`` the
    functions by which values are looked at, from what is set to what is kept.
    """

    unread: ClassVar[Mapping[str, str]] = {}
    checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self.__dict__:
            if name in self.unread or not hasattr(type(self), name):
                self._refuse(name)
        check = self.checks.get(name)
        super().__setattr__(name, value if check is None else check(value))

    def _refuse(self, name: str) -> None:
        """Raise AttributeError where ``name`` is known to Keras alone, or close to a name that is read."""
        kind = type(self).__name__
        if instead := self.unread.get(name):
            raise AttributeError(f"gpumlp does not read {name!r} of a {kind}: setting it would do nothing. {instead}")
        setter = sys._getframe(1)
        while setter.f_code.co_name in ("__setattr__", "take") and setter.f_back is not None:
            setter = setter.f_back
        if setter.f_code.co_name == "__init__" and setter.f_locals.get("self") is self:
            return  # its own constructor, which says what there is
        known = [n for n in {*self.__dict__, *dir(type(self)), *self.unread} if not n.startswith("_")]
        if (meant := nearest(name, known)) is not None:
            raise AttributeError(
                f"A {kind} has no attribute {name!r}, and setting it would do nothing. Did you mean {meant!r}? "
                "Choose a name less like it for an attribute of your own."
            )


class _Once:
    """A property that is computed when it is first asked for, and kept.

    functools.cached_property of Python 3.11 and older has a lock, one for all objects: a fork beside a thread that asks
    leaves it locked in the child for ever.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self._compute, self.__doc__, self._name = compute, compute.__doc__, compute.__name__

    def __get__(self, thing: Any, owner: type | None = None) -> Any:
        if thing is None:
            return self
        value = thing.__dict__[self._name] = self._compute(thing)  # which is found before this, the next time
        return value


if TYPE_CHECKING:
    from functools import cached_property as once
else:
    once = _Once


def refuse_overrides(kind: type, methods: Iterable[str], instead: str = "") -> None:
    """Raise TypeError where a class of a user's own overrides one of ``methods``, which kernels would not call."""
    for cls in kind.__mro__:
        if cls.__module__.split(".")[0] == "gpumlp" or cls is object:
            continue
        for name in methods:
            if name in vars(cls):
                raise TypeError(
                    f"{cls.__name__}.{name} would not be called: gpumlp computes by kernels of its own, and cannot run "
                    f"methods of a user's class. {instead or 'Use what there is, with other constants.'}"
                )
