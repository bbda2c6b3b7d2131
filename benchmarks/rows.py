"""Result rows: what one measurement says, on which machine, with which versions; read and written as CSV."""

from __future__ import annotations

import csv
import functools
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import holding

RESULTS = Path(__file__).parent / "results"
ASIDE = ("gpumlp", "JAX 0.6.2", "JAX without")  # how the names begin of those that are no reference


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
    instructions: str = "unknown"  # the set that all were held to; rows from before it was asked for do not say


@dataclass
class RateRow(Row):
    """A Row of which it is known how much work it was. In a GPU's benchmark ``machine`` names the GPU and its driver.

    ``rate`` is what the median time amounts to, in ``rate_unit``, and ``share`` what part that is of the ceiling
    measured in the same run; ``predicted`` is no measurement, but what gpumlp's model of a GPU made of it, in the row's
    unit (NaN, empty in the file, where there is none). ``note``: what was chosen, or why there is no number.
    """

    rate: float = math.nan
    rate_unit: str = ""
    share: float = math.nan
    note: str = ""
    predicted: float = math.nan


def significant(value: float) -> float:
    """Return ``value`` to four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def spread(values: Sequence[float]) -> list[float]:
    """Return median, lowest and highest, to four digits; NaN for each where there are no values."""
    return [significant(f(values)) if values else math.nan for f in (statistics.median, min, max)]


def row(
    benchmark: str, workload: str, contender: str, unit: str, values: Sequence[float], ours: Sequence[float],
    packages: Sequence[str],
) -> Row:  # fmt: skip
    """Return the Row of ``values``, one a round, beside ``ours`` of the same rounds."""
    ratios = [v / o for v, o in zip(values, ours, strict=True)]
    return Row(
        benchmark, workload, contender, unit, *spread(values), *spread(ratios), len(values), versions(tuple(packages)),
        machine(), commit(), now(), holding.instructions(),
    )  # fmt: skip


def gpu_row(
    benchmark: str, workload: str, contender: str, unit: str, values: Sequence[float], ours: Sequence[float],
    packages: Sequence[str], gpu: str, **more: Any,
) -> RateRow:  # fmt: skip
    """Return the RateRow of ``values`` beside ``ours`` of the same rounds; without ``ours`` its ratio is NaN."""
    ratios = [v / o for v, o in zip(values, ours, strict=True)] if ours else []
    return RateRow(
        benchmark, workload, contender, unit, *spread(values), *spread(ratios), len(values), versions(tuple(packages)),
        f"{gpu}; {machine()}", commit(), now(), holding.instructions(), **more,
    )  # fmt: skip


def now() -> str:
    """Return the time of day, in UTC and to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


@functools.cache
def versions(packages: tuple[str, ...]) -> str:
    """Return Python's version and those of the packages; gpumlp may run from its checkout, not installed."""
    providers = metadata.packages_distributions()  # tensorflow may come from tensorflow-cpu

    def version(package: str) -> str:
        try:
            return metadata.version(providers.get(package, [package])[0])
        except metadata.PackageNotFoundError:
            return str(getattr(sys.modules.get(package), "__version__", "not installed"))

    return "; ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)])


@functools.cache
def machine() -> str:
    """Return the processor's name and how many of it this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}; {usable} processors; {platform.system()}"


@functools.cache
def commit() -> str:
    """Return the commit that is measured, with + where the package's files differ from it.

    GPUMLP_COMMIT names it where a copy of the files without their history is measured.
    """
    if os.environ.get("GPUMLP_COMMIT"):
        return os.environ["GPUMLP_COMMIT"]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "../gpumlp", "../kernels")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows``, all of one kind, to ``path``, over what was there; NaN becomes an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")  # whoever is ended meanwhile leaves whole rows
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(rows[0] if rows else Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v != v else v for k, v in asdict(r).items()} for r in rows)
    part.replace(path)


def read(path: Path) -> list[Row]:
    """Return the rows of ``path``: of a GPU where they have its columns."""
    numbers = {"median", "low", "high", "ratio", "ratio_low", "ratio_high", "rate", "share", "predicted"}

    def value(name: str, text: str) -> Any:
        if name in numbers:
            return float(text) if text else math.nan
        return int(text) if name == "repeats" else text

    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        kind = RateRow if "rate" in (reader.fieldnames or ()) else Row
        return [kind(**{k: value(k, v) for k, v in line.items()}) for line in reader]


def replaced(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the old rows, those of ``new`` in the place of what was measured of the same workload and set before."""

    def groups(found: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
        out: dict[tuple[str, str], list[Row]] = {}
        for r in found:
            out.setdefault((r.workload, r.instructions), []).append(r)
        return out

    return [r for group in (groups(old) | groups(new)).values() for r in group]


def peers(found: Sequence[Row]) -> list[Row]:
    """Return the rows of those that gpumlp is compared to, the fastest first: not its own, nor an older release's."""
    return sorted((r for r in found if not r.contender.startswith(ASIDE)), key=lambda r: r.median)
