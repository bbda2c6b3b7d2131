"""Attributes that are set on models, layers and optimizers: what is known is read, what nobody would read is refused.

Python keeps whatever is set on an object, so a word that is misspelt, or that only Keras knows, would be silence: a
model frozen by ``trainble = False`` would train. An attribute of a user's own is kept, pickled, and never read.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

NEAR = 0.86  # of 1: how alike two names are that one is taken for the other misspelt


class Attributes:
    """Base of what a person sets attributes on.

    ``unread`` has the names that Keras knows and gpumlp does not read, each with what to use instead.
    """

    unread: ClassVar[Mapping[str, str]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self.__dict__ and not hasattr(type(self), name):
            self._refuse(name)
        super().__setattr__(name, value)

    def _refuse(self, name: str) -> None:
        """Raise AttributeError where ``name`` is known to Keras alone, or close to a name that is read."""
        kind = type(self).__name__
        if instead := self.unread.get(name):
            raise AttributeError(f"gpumlp does not read {name!r} of a {kind}: setting it would do nothing. {instead}")
        setter = sys._getframe(1)
        while setter.f_code.co_name == "__setattr__" and setter.f_back is not None:
            setter = setter.f_back
        if setter.f_code.co_name == "__init__" and setter.f_locals.get("self") is self:
            return  # its own constructor, which says what there is
        known = [n for n in {*self.__dict__, *dir(type(self))} if not n.startswith("_") and n.strip("0123456789") == n]
        if near := difflib.get_close_matches(name, known, n=1, cutoff=NEAR):
            if name.strip("0123456789_") != near[0]:  # weights_2 is a name of its own
                raise AttributeError(
                    f"A {kind} has no attribute {name!r}, and setting it would do nothing. Did you mean {near[0]!r}? "
                    "Choose a name less like it for an attribute of your own."
                )
