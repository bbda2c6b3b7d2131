"""Rows as they come: printed, and the file written anew with each, so that an interrupted run keeps what it has."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import environment
import rows
import units


class Report:
    """The rows of one file."""

    def __init__(self, path: Path | None, benchmark: str) -> None:
        self.path, self.benchmark, self.rows = path, benchmark, []  # type: ignore[var-annotated]
        self._gpu = environment.gpu()

    def add(
        self, workload: str, contender: str, unit: str, values: Sequence[float], ours: Sequence[float] = (),
        packages: Sequence[str] = ("cupy",), **more: Any,
    ) -> rows.RateRow:  # fmt: skip
        """Add the row of ``values``, beside ``ours`` of the same rounds where there are any."""
        row = rows.gpu_row(self.benchmark, workload, contender, unit, values, ours, packages, self._gpu, **more)
        self._take(row)
        return row

    def add_rate(
        self, workload: str, contender: str, microseconds: Sequence[float], ours: Sequence[float], amount: float,
        rate_unit: str, ceiling: float, packages: Sequence[str] = ("cupy",), note: str = "",
    ) -> rows.RateRow:  # fmt: skip
        """Add a row of times, with what their median amounts to: ``amount`` operations or bytes, beside a ceiling."""
        convert = units.tflops if rate_unit == "TFLOP/s" else units.gigabytes
        rate = convert(amount, statistics.median(microseconds))
        share = rows.significant(units.share(rate, ceiling))
        more = {"rate": rows.significant(rate), "rate_unit": rate_unit, "share": share, "note": note}
        return self.add(workload, contender, "us", microseconds, ours, packages, **more)

    def tried(self, workload: str, contender: str, measure: Callable[[], list[float]], **more: Any) -> None:
        """Add the row of the microseconds that ``measure`` returns; where it fails, why: others may well go."""
        try:
            self.add(workload, contender, "us", measure(), **more)
        except Exception as error:
            self.skip(workload, contender, first_line(error))

    def skip(self, workload: str, contender: str, why: str, unit: str = "us") -> None:
        """Add a row that says why there is no number."""
        self.add(workload, contender, unit, (), note=f"skipped: {first_line(why)}")

    def _take(self, row: rows.RateRow) -> None:
        self.rows.append(row)
        print(line(row), flush=True)
        if self.path is not None:
            rows.write(self.path, self.rows)


def first_line(words: object) -> str:
    """Return the first line of what went wrong, short enough for a table."""
    if isinstance(words, BaseException):
        words = f"{type(words).__name__}: {words}"
    lines = [part.strip() for part in str(words).splitlines() if part.strip()]
    return lines[0][:160] if lines else "no reason given"


def line(r: rows.RateRow) -> str:
    """Return a row as a line of text."""
    head = f"{r.workload:<34} {r.contender:<34}"
    if r.median != r.median:
        return f"{head} {r.note}"
    text = f"{head} {r.median:>9.4g} {r.unit} [{r.low:.4g}, {r.high:.4g}]"
    if r.rate == r.rate:
        text += f"  {r.rate:.4g} {r.rate_unit}"
    if r.share == r.share:
        text += f"  {100 * r.share:.0f}% of ceiling"
    if r.predicted == r.predicted:
        text += f"  (predicted: {r.predicted:.4g})"
    if r.ratio == r.ratio:
        text += f"  {r.ratio:.2f}x [{r.ratio_low:.2f}, {r.ratio_high:.2f}]"
    return f"{text}  {r.note}".rstrip()


def arguments(description: str | None, limit: float | None = None) -> argparse.Namespace:
    """Return a part's command line: ``--output FILE`` for its rows, and, where it has a ``limit``, ``--seconds``."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="CSV file of the rows (default: they are only printed)")
    if limit is not None:
        parser.add_argument("--seconds", type=float, default=limit, help=f"what to be done within (default: {limit:g})")
    return parser.parse_args()


def need_gpu() -> None:
    """End the process with status 0, saying why, where there is no GPU that could be measured."""
    problem = environment.problem()
    if problem:
        print(f"skipped: {problem}", flush=True)
        sys.exit(0)
