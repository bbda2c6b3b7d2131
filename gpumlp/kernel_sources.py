"""Find the kernel sources: the ones that belong to the `gpumlp` that was imported.

One rule: inside the package if it carries them (a wheel), beside it otherwise (a checkout or an editable install).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


def folder() -> Path:
    """Return the folder of kernel sources; FileNotFoundError where the installation lacks it."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "kernels", package.parent / "kernels"):
        if (candidate / "README.md").is_file():
            return candidate
    raise FileNotFoundError(f"no kernel sources in {package} or beside it: install gpumlp again.")


def source(name: str) -> str:
    """Return the text of one kernel source; FileNotFoundError, listing what there is, for an unknown name."""
    path = folder() / name
    if not path.is_file() or path.parent != folder():
        known = ", ".join(sorted(p.name for p in folder().iterdir() if p.is_file()))
        raise FileNotFoundError(f"there is no kernel source {name!r}. Known: {known}.")
    return path.read_text(encoding="utf-8")


def expanded(name: str, made: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a source with every header of ours in its place, once: the text alone decides what is compiled.

    ``made`` are the texts of headers that are no files, by name.
    """
    seen: set[str] = set()

    def insert(match: re.Match[str]) -> str:
        header = match.group(1)
        if header in seen or header.endswith(".h"):
            return match.group(0) if header.endswith(".h") else ""
        seen.add(header)
        return expand(made[header] if header in made else source(header))

    def expand(text: str) -> str:
        return re.sub(r'^#include "([^"]+)"$', insert, text.replace("#pragma once\n", ""), flags=re.MULTILINE)

    return expand(source(name))
