"""Look names up, and say what there is when a name is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any


def unknown_name(kind: str, name: object, known: Mapping[str, Any]) -> ValueError:
    """Return the error for an unknown name: near matches first, then every name there is."""
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return ValueError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}.")


def look_up(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """Return ``known[name]``, ignoring case.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    found = known.get(name, known.get(name.lower()))
    if found is None:
        raise unknown_name(kind, name, known)
    return found
