"""Result rows: what one measurement says, on which machine, with which versions; read and written as CSV."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """Median and spread (lowest, highest) over ``repeats`` rounds of one contender on one workload.

    ``ratio``: this contender's value over gpumlp's of the same round (above 1: gpumlp is better), median and spread.
    """

    benchmark: str
    workload: str
    contender: str
    unit: str
    median: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repeats: int
    versions: str
    machine: str
    commit: str
    time: str


def significant(value: float) -> float:
    """Return ``value`` to four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def row(
    benchmark: str, workload: str, contender: str, unit: str, values: Sequence[float], ours: Sequence[float],
    packages: Sequence[str],
) -> Row:  # fmt: skip
    """Return the Row of ``values``, one a round, beside ``ours`` of the same rounds."""
    ratios = [v / o for v, o in zip(values, ours, strict=True)]
    spread = [f(series) for series in (values, ratios) for f in (statistics.median, min, max)]
    providers = metadata.packages_distributions()  # tensorflow may come from tensorflow-cpu
    versions = "; ".join(f"{p} {metadata.version(providers.get(p, [p])[0])}" for p in packages)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
    return Row(
        benchmark, workload, contender, unit, *map(significant, spread), len(values),
        f"Python {platform.python_version()}; {versions}", machine(), commit(), now,
    )  # fmt: skip


def machine() -> str:
    """Return the processor's name and how many of it this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}; {usable} processors; {platform.system()}"


def commit() -> str:
    """Return the commit that is measured, with + where the package's files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "../gpumlp", "../kernels")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows`` to ``path``, over what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(r) for r in rows)


def read(path: Path) -> list[Row]:
    """Return the rows of ``path``."""
    numbers = {"median", "low", "high", "ratio", "ratio_low", "ratio_high"}
    with path.open(newline="") as file:
        return [
            Row(**{k: float(v) if k in numbers else int(v) if k == "repeats" else v for k, v in line.items()})
            for line in csv.DictReader(file)
        ]
