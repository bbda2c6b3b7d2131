"""JSON as files may have it: any fault is a ValueError, and numbers are numbers."""

from __future__ import annotations

import json
from typing import Any

DEPTH = 200  # how deep lists and dicts may stand in each other


def parse(text: bytes | str, what: str) -> Any:
    """Return what JSON text says; ValueError, naming ``what`` it is of, where it is none, deep, or has NaN in it."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no number in JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
        _check_depth(found)
        return found
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, too
        raise ValueError(f"{what} is damaged: no JSON that can be read ({str(error)[:200]}).") from None


def _check_depth(value: object) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} lists and dicts stand in each other")
        inner: list[Any] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        level = inner


def a_dict(value: object, what: str) -> dict[str, Any]:
    """Return ``value``; ValueError, naming ``what`` it is, unless it is a dict."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a dict; the file has {str(value)[:60]!r}.")
    return value
