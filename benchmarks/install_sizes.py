"""Measure what an installation takes on the disk: python benchmarks/install_sizes.py [--only NAME] [--wheel FILE].

Each is installed by pip into an environment of its own, which has nothing else, not even pip; counted is every file in
its site-packages, compiled Python included, as pip leaves it. Rows go to benchmarks/results/install_sizes.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path

import rows

OURS = "gpumlp"
# What is installed, for each. PyPI's torch brings gigabytes of CUDA on
# Linux, but for a file that pip finds elsewhere: its version says which it was.
PEERS = {
    "NumPy": ("numpy",),
    "scikit-learn": ("scikit-learn",),
    "JAX": ("jax[cpu]",),
    "PyTorch": ("torch==2.13.*", "numpy"),
    "Keras on JAX": ("keras", "jax[cpu]"),
    "TensorFlow, with its Keras": ("tensorflow-cpu",),
}
EXTRAS = ("keras", "plot", "tensorboard", "jit", "sklearn", "onnx", "data", "cluster", "all", "cuda12", "cuda13")


@dataclass
class Size:
    """What one installation takes: in 10^6 bytes, and of how many packages that is."""

    installed: str
    megabytes: float
    packages: int
    versions: str
    python: str
    machine: str
    commit: str
    time: str


def contenders(wheel: Path) -> dict[str, tuple[str, ...]]:
    """Return what is installed, by its name; of gpumlp's extras those that the wheel has."""
    found = next(iter(metadata.distributions(path=[str(wheel)]))).metadata.get_all("Provides-Extra") or []
    extras = [extra for extra in EXTRAS if extra in found]
    ours = [OURS, *(f"{OURS}[{extra}]" for extra in extras)]
    return {**{name: (f"{name} @ {wheel.resolve().as_uri()}",) for name in ours}, **PEERS}


def pip() -> list[str]:
    """Return pip's command; it is this Python's, as the environments have none."""
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def measure(name: str, requirements: Sequence[str]) -> Size:
    """Install into a fresh environment, and return what that takes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = next(
            path for path in (Path(folder) / "bin/python", Path(folder) / "Scripts/python.exe") if path.exists()
        )
        to = [*pip(), "--python", str(python)]
        subprocess.run([*to, "install", "--quiet", "--prefer-binary", *requirements], check=True)
        where = "import sysconfig; print(*{sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}, sep='\\n')"
        sites = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.splitlines()
        files = [file for site in sites for file in Path(site).rglob("*") if file.is_file() and not file.is_symlink()]
        listed = subprocess.run([*to, "list", "--format", "json"], capture_output=True, text=True, check=True).stdout
        versions = {line["name"].lower().replace("_", "-"): line["version"] for line in json.loads(listed)}
        asked = [match[0] for match in map(re.compile(r"[\w-]+").match, requirements) if match]
        return Size(
            name, round(sum(file.stat().st_size for file in files) / 1e6, 1), len(versions),
            "; ".join(f"{name} {versions[name]}" for name in asked), platform.python_version(),
            f"{platform.system()} {platform.machine()}", rows.commit(), rows.now(),
        )  # fmt: skip


def write(path: Path, sizes: Sequence[Size]) -> None:
    """Write the rows, over what was there."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Size)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, sizes))


def read(path: Path) -> list[Size]:
    """Return the rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Size(**line | {"megabytes": float(line["megabytes"]), "packages": int(line["packages"])})  # type: ignore
            for line in csv.DictReader(file)
        ]


def table(sizes: list[Size]) -> str:
    """Return a Markdown table, a line an installation."""
    ours = next(size.megabytes for size in sizes if size.installed == OURS)
    lines = ["| installed | MB | times gpumlp's | packages |", "|---|---:|---:|---:|"]
    for size in sizes:
        name = f"`{size.installed}`" if size.installed.startswith(OURS) else size.installed
        lines.append(f"| {name} | {size.megabytes:.0f} | {size.megabytes / ours:.1f} | {size.packages} |")
    return "\n".join(lines)


def source(name: str, sizes: list[Size]) -> str:
    """Return the line under a table."""

    def all_of(attribute: str) -> str:
        return ", ".join(dict.fromkeys(v for size in sizes for v in getattr(size, attribute).split("; ")))

    return (
        f"Files in site-packages after `pip install`, with what it needs. `benchmarks/results/{name}.csv`; commit "
        f"{all_of('commit')}; {all_of('machine')}; Python {all_of('python')}; {all_of('versions')}; "
        f"{sizes[-1].time[:10]}."
    )


def main() -> None:
    """Measure all, or what is named, and write the rows into the place of those of the same name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", action="append", help="one of them, by its name in the table (default: all)")
    parser.add_argument("--wheel", type=Path, help="gpumlp's (default: that for this system in dist/)")
    chosen = parser.parse_args()
    dist = rows.RESULTS.parents[1] / "dist"
    wheel = chosen.wheel or next((path for path in dist.glob("*.whl") if "-any" not in path.name), None)
    if wheel is None:
        raise SystemExit(f"There is no wheel in {dist}: make dist puts it there, or name one with --wheel.")
    path = rows.RESULTS / "install_sizes.csv"
    found = {size.installed: size for size in (read(path) if path.exists() else [])}
    everything = contenders(wheel)
    for name, requirements in everything.items():
        if name in (chosen.only or everything):
            found[name] = measure(name, requirements)
            print(f"{name:<28} {found[name].megabytes:>8.1f} MB  {found[name].versions}", flush=True)
            write(path, [found[name] for name in everything if name in found])  # whoever stops it keeps the others


if __name__ == "__main__":
    main()
