"""Everything worth doing on a machine with a GPU, in under ten minutes: ``benchmarks/gpu/run.py --output FOLDER``.

Whether things work at all, the tests that need a GPU, each kernel against NumPy, ceilings and microbenchmarks, the
sanitizer, the profiler's counters of the kernels that matter, training beside its peers, ensembles beside theirs,
kernels beside theirs: each part in a process of its own, with a time limit. Before them, machine code that was compiled
elsewhere is imported where there is some (``--cache``).
What a part has written stays when it fails or is ended, and what it leaves of its time, later ones may use. The exit
status is 1 where a test, a check or the sanitizer did not pass, or a network lost the whole-fit kernel. Without a GPU
every part is skipped, nothing is written, and the status is 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import constants
import contest
import environment
import limited
import rows
from report import first_line

HERE = Path(__file__).parent
OURS = "gpumlp"


@dataclass(frozen=True)
class Part:
    """A command; ``file`` takes its words, or, where it ends in .csv, the rows that it writes there itself.

    Without a file, its words are few and stand in the summary. ``gate``: whether its failure is the whole run's.
    ``elastic``: whether it is told its seconds, and uses them; then its end at the limit is no failure.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    file: str = ""
    gate: bool = False
    elastic: bool = False


GRACE = 10.0  # seconds before its limit, at which an elastic part should be done
# What has a test that needs a GPU: other files are not even imported, as what they need may not be installed there.
TESTS = tuple(
    f"tests/test_{name}.py"
    for name in (
        "constraints", "cuda_formulas", "cuda_kernels", "cuda_models", "ensemble", "epochs_at_once", "fit_failures",
        "fit_kernel", "gpu", "gradients", "layer_operations", "normalization", "operations", "own_columns",
        "whole_runs",
    )
)  # fmt: skip
PARTS = (
    Part("first", (str(HERE / "first.py"),), 20, gate=True),
    Part("tests", ("-m", "pytest", *TESTS, "-m", "gpu", "-q", "-p", "no:cacheprovider"), 125, "gpu_tests.txt", True),
    Part("check", ("-m", "gpumlp", "check", "--device", "cuda", "--all"), 50, "gpu_check.txt", True),
    Part("micro", (str(HERE / "microbench.py"),), 30, "gpu_micro.csv"),
    Part("sanitizer", (str(HERE / "sanitize.py"),), 60, gate=True),
    Part("counters", (str(HERE / "counters.py"),), 40, "gpu_counters.txt"),
    Part("training", (str(HERE / "training.py"),), 140, "gpu_training.csv", True, elastic=True),
    Part("ensemble", (str(HERE / "ensemble.py"),), 60, "gpu_ensemble.csv", True, elastic=True),
    Part("kernels", (str(HERE / "kernels.py"),), 50, "gpu_kernels.csv", elastic=True),
)


def imported(cache: Path) -> Part:
    """Return the part that imports an archive from gpu_cache.py, so that what others ask for needs no compiler."""
    return Part("cache", ("-m", "gpumlp", "cache", "import", str(cache)), 15, gate=True)


@dataclass
class Outcome:
    """How a part ended, in a few words; ``passed`` unless it failed or was ended. ``words``: for the summary."""

    name: str
    verdict: str
    seconds: float
    passed: bool = True
    words: str = ""


def run(part: Part, folder: Path, spare: float = 0.0) -> Outcome:
    """Run a part and judge it; an elastic one has ``spare`` seconds more."""
    print(f"==== {part.name}", flush=True)
    path = folder / part.file if part.file else None
    command = [sys.executable, "-u", *part.command]
    rows_only = path is not None and path.suffix == ".csv"
    if rows_only:
        path.unlink(missing_ok=True)  # an earlier run's rows are not this one's
        command += ["--output", str(path)]
    limit = part.seconds + (spare if part.elastic else 0.0)
    if part.elastic:
        command += ["--seconds", f"{limit - GRACE:.0f}"]
    began = time.perf_counter()
    status, said = limited.run(command, limit, log=None if rows_only else path, folder=environment.ROOT)
    seconds = time.perf_counter() - began
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = first_line(lines[-1]) if lines else "it said nothing"
    words = said if path is None and len(lines) > 1 else ""
    if status is None:  # an elastic part may be late by its peers alone
        why = contest.lost(read(path)) if part.gate and rows_only else ""
        told = f"ended after {limit:.0f} s; kept what it had" + (f": {why}" if why else "")
        return Outcome(part.name, told, seconds, part.elastic and not why, words)
    if status:
        return Outcome(part.name, f"failed with status {status}: {last}", seconds, False, words)
    if rows_only and path.exists():
        last = f"{len(read(path))} rows"
    lost_gpu = part.gate and last.startswith("skipped")  # it was there when the run began
    return Outcome(part.name, last, seconds, not lost_gpu, words)


def read(path: Path) -> list[rows.RateRow]:
    """Return the rows of a GPU in a file; none where it is not there."""
    return [r for r in rows.read(path) if isinstance(r, rows.RateRow)] if path.exists() else []


def summary(outcomes: list[Outcome], folder: Path | None) -> str:
    """Return the short table that may be all that is read of a run."""
    lines = [f"{'part':<10} {'seconds':>7}  verdict"]
    lines += [f"{o.name:<10} {o.seconds:>7.1f}  {o.verdict}" for o in outcomes]
    lines += [line for o in outcomes for line in o.words.splitlines()]
    if folder is not None:
        shows = {"micro": ceilings, "training": against_peers, "ensemble": against_peers, "kernels": against_cublas}
        for name, show in shows.items():
            path = folder / f"gpu_{name}.csv"
            found = read(path) if any(o.name == name for o in outcomes) else []  # an earlier run's are not this one's
            lines += show([r for r in found if r.median == r.median])
            if name == "micro" and found:
                lines.append(constants.line([*found]))
    return "\n".join(lines) + "\n"


def ceilings(found: list[rows.RateRow]) -> list[str]:
    """Return the ceilings and the fastest of each barrier, exchange and launch."""
    lines = [f"{r.contender}, {r.workload}: {r.rate:.4g} {r.rate_unit}" for r in found if r.rate == r.rate]
    latencies = [r for r in found if r.rate != r.rate]
    for workload in dict.fromkeys(r.workload for r in latencies):
        best = min((r for r in latencies if r.workload == workload), key=lambda r: r.median)
        lines.append(f"{workload}: {best.median:.3g} us ({best.contender})")
    return lines


def against_cublas(found: list[rows.RateRow]) -> list[str]:
    """Return gpumlp's rate at every shape, its share of the ceiling, and the ratio to the fastest peer."""
    lines = []
    for workload in dict.fromkeys(r.workload for r in found):
        here = [r for r in found if r.workload == workload]
        ours = next((r for r in here if r.contender == OURS), None)
        peers = [r for r in here if not r.contender.startswith(OURS)]
        if ours is None or not peers:
            continue
        best = min(peers, key=lambda r: r.median)
        share = f"{100 * ours.share:.0f}%" if ours.share == ours.share else "?"
        lines.append(
            f"{workload}: {ours.median:.4g} us, {ours.rate:.4g} {ours.rate_unit}, {share} of the ceiling; "
            f"{best.contender} takes {best.ratio:.2f}x of our time; {ours.note}".rstrip("; ")
        )
    return lines


def against_peers(found: list[rows.RateRow]) -> list[str]:
    """Return every contender's time on every workload, one line a workload."""
    lines = []
    for workload, unit in dict.fromkeys((r.workload, r.unit) for r in found):
        here = sorted((r for r in found if (r.workload, r.unit) == (workload, unit)), key=lambda r: r.median)
        lines.append(f"{workload}, {unit}: " + ", ".join(map(in_words, here)))
    return lines


def in_words(r: rows.RateRow) -> str:
    """Return a row's contender and time, and what was predicted, if anything was."""
    guess = f" (predicted {r.predicted:.4g})" if r.predicted == r.predicted else ""
    return f"{r.contender} {r.median:.4g}{guess}"


def main() -> int:
    """Run the parts; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, default=rows.RESULTS, help="folder of the results")
    parser.add_argument("--only", action="append", choices=[p.name for p in PARTS], help="a part (default: all)")
    parser.add_argument("--cache", type=Path, help="an archive of machine code from gpu_cache.py")
    chosen = parser.parse_args()
    parts = [p for p in PARTS if not chosen.only or p.name in chosen.only]
    if chosen.cache:
        if not chosen.cache.is_file():
            parser.error(f"there is no archive {chosen.cache}: make gpu-cache makes one, and GPU_CACHE names it")
        parts.insert(0, imported(chosen.cache.resolve()))
    problem = environment.problem()
    if problem:
        print(f"skipped: {problem}\nThe parts would have been: {', '.join(p.name for p in parts)}.", flush=True)
        return 1 if environment.asked("name") else 0  # a GPU that is there and cannot be used is a failure
    folder = chosen.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    description = environment.description()
    print(description, end="", flush=True)
    outcomes: list[Outcome] = []
    spare = 0.0
    for part in parts:
        try:
            outcomes.append(run(part, folder, spare))
        except Exception as error:  # the runner's own trouble with one part must not lose the others
            outcomes.append(Outcome(part.name, first_line(error), 0.0, False))
        spare = max(spare + part.seconds - outcomes[-1].seconds, 0.0)
        told = f"{description}\n{summary(outcomes, folder)}"
        (folder / "gpu_summary.txt").write_text(told, encoding="utf-8")
    print(f"==== summary\n{summary(outcomes, folder)}", end="", flush=True)
    gates = {p.name for p in parts if p.gate}
    return 0 if all(o.passed for o in outcomes if o.name in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
