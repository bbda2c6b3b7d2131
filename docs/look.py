"""Matplotlib's settings for what pages draw by themselves: the look of `gpumlp.plotting`, as a file for matplotlib."""

from pathlib import Path

from gpumlp.plotting import style

TICKS = {
    "labelsize": "labelsize",
    "color": "color",
    "labelcolor": "labelcolor",
    "length": "major.size",
    "width": "major.width",
}


def text(value: object) -> str:
    """Return a setting as it is written in the file: in quotes where a # would begin a comment."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f'"{value}"' if "#" in str(value) else str(value)


def write(path: Path) -> None:
    """Write the settings."""
    found = {f"{x}tick.{ours}": style.TICKS[name] for x in "xy" for name, ours in TICKS.items()}
    found |= style.STYLE | {"lines.linewidth": style.LINE, "figure.figsize": style.WIDE}
    found["axes.prop_cycle"] = f"cycler(color={list(style.COLOURS)})"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}: {text(value)}\n" for name, value in found.items()), encoding="utf-8")
