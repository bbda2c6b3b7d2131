"""Find the kernel sources: the ones that belong to the `gpumlp` that was imported.

One rule: inside the package if it carries them (a wheel), beside it otherwise (a checkout or an editable install).
"""

from __future__ import annotations

from pathlib import Path


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
