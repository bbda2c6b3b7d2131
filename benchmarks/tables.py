"""Write the tables of README and the documentation from the committed rows, or check that they are up to date.

``python benchmarks/tables.py`` rewrites what stands between ``<!-- table NAME -->`` and ``<!-- end -->`` in README.md
and the PAGES in docs/; with ``--check`` it changes nothing, and fails where a table differs from its rows. It needs no
package.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

import install_sizes
import keras_api
import rows

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "keras.md", ROOT / "docs/guides/ranks.md"
)  # fmt: skip
# What is said before a table that may not be there yet, and so comes and goes with it.
HEADS = {
    "gpu_training": (
        "On a GPU, `make gpu`: Adam in float32, TF32 off, for all who name nothing else; the losses of first epochs "
        'compared before timing. "gpumlp" is what it takes by itself. Predicted is what gpumlp\'s model of a GPU '
        "(`gpumlp/engine/cost.py`) says of the same step; it chooses by that."
    ),
    "gpu_ensemble": "Many models at once on a GPU, each with first weights of its own, all with the same batches:",
    "gpu_kernels": "Single operations on a GPU, outputs checked before they are timed, the second cache emptied:",
    "gpu_micro": "What a GPU's barriers, exchanges, graph nodes and launches take, and its ceilings:",
}
OF_KERAS = {"keras_scripts": "scripts", "keras_tests": "Keras's unit tests of"}
# Of the README's one table of jobs: how the names of its contenders begin. The benchmarks' page has all.
CONTENDERS = {"JAX": "JAX, lax.scan", "PyTorch": "PyTorch", "Keras": "Keras on JAX", "scikit-learn": "scikit-learn"}
LENGTH = ": 3 s"  # of the jobs that stand there
# Likewise of its table of steps on a GPU, for every network that one of ours trains in one launch, or that has none.
ON_GPU = {"JAX": "JAX, lax.scan", "PyTorch": "PyTorch", "Keras": "Keras on JAX"}
NOT_YET = "Not measured yet.\n"
MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def grouped(found: list[rows.Row]) -> dict[tuple[str, str, str], list[rows.Row]]:
    """Return the rows of each (workload, unit, instruction set), in order."""
    groups: dict[tuple[str, str, str], list[rows.Row]] = {}
    for r in found:
        groups.setdefault((r.workload, r.unit, r.instructions), []).append(r)
    return groups


def number(value: float) -> str:
    """Return three significant digits, or a whole number."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def spread(median: float, low: float, high: float) -> str:
    """Return "median [lowest, highest]"; of one round the number."""
    return number(median) if low == high else f"{number(median)} [{number(low)}, {number(high)}]"


def reference(found: list[rows.Row]) -> str:
    """Return the contender that the ratios refer to: its own are all 1."""
    return next((r.contender for r in found if r.ratio == r.ratio_low == r.ratio_high == 1), "gpumlp")


def table(found: list[rows.Row]) -> str:
    """Return a Markdown table: a line a contender, a column a workload; in a cell the spread, and under it the ratio's.

    A column more for the ratios would make four workloads too wide for a page.
    """
    groups, ours = grouped(found), reference(found)

    def cell(name: str, group: list[rows.Row]) -> str:
        for r in group:
            if r.contender == name:
                ratio = "1x" if name == ours else f"{r.ratio:.2f}x [{r.ratio_low:.2f}, {r.ratio_high:.2f}]"
                return f"{spread(r.median, r.low, r.high)}<br>{ratio}"
        return ""

    sets = len({r.instructions for r in found}) > 1
    heads = (f"{workload}<br>{unit}{f', {of}' if sets else ''}" for workload, unit, of in groups)
    lines = ["| | " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---:|" * len(groups))
    for name in dict.fromkeys(r.contender for r in found):
        lines.append(f"| {name} | " + " | ".join(cell(name, group) for group in groups.values()) + " |")
    return "\n".join(lines)


def job_table(found: list[rows.Row]) -> str:
    """Return a Markdown table of whole jobs, a line each: gpumlp's time beside the fastest peer's and NumPy's path.

    Ratios are of their time to gpumlp's, within rounds: above 1 gpumlp is faster.
    """
    lines = ["| job | instructions | gpumlp, s | the fastest peer, times gpumlp's | which was | NumPy's path, times |"]
    lines.append("|---|---|---:|---:|---|---:|")
    for (workload, _, instructions), group in grouped([r for r in found if r.unit == "s"]).items():
        by_name = {r.contender: r for r in group}
        ours, plain, best = by_name["gpumlp"], by_name.get("gpumlp, NumPy"), next(iter(rows.peers(group)), None)
        of_best, of_plain = (f"{r.ratio:.2f}" if r else "" for r in (best, plain))
        time = spread(ours.median, ours.low, ours.high)
        lines.append(
            f"| {workload} | {instructions} | {time} | {of_best} | {best.contender if best else ''} | {of_plain} |"
        )
    return "\n".join(lines)


def fit_table(found: list[rows.Row]) -> str:
    """Return a Markdown table of whole fits, a line each: seconds and scores of gpumlp's and of the fastest peer's.

    The ratio is of their time to gpumlp's, within rounds: above 1 gpumlp is faster.
    """
    lines = ["| fit | gpumlp, s | the fastest peer, s | which was | times gpumlp's | gpumlp's score | the peer's |"]
    lines.append("|---|---:|---:|---|---:|---:|---:|")
    ours = reference(found)
    for workload in dict.fromkeys(r.workload for r in found):
        group = [r for r in found if r.workload == workload]
        best = rows.peers([r for r in group if r.unit == "s"])[0]
        cells = [
            spread(r.median, r.low, r.high) for name in (ours, best.contender) for r in group if r.contender == name
        ]
        seconds, score, of_best, other = cells
        ratio, unit = best.ratio, group[-1].unit
        lines.append(
            f"| {workload} | {seconds} | {of_best} | {best.contender} | {ratio:.2f} | {score} {unit} | {other} |"
        )
    return "\n".join(lines)


def jobs_of_one_length(found: list[rows.Row]) -> str:
    """Return a Markdown table of the jobs of LENGTH by the best instruction set, a line each: everybody's seconds.

    Of a contender that was measured on several Pythons, or in several ways, it is the fastest.
    """
    best = found[0].instructions
    here = [r for r in found if r.unit == "s" and r.instructions == best and LENGTH in r.workload]
    lines = ["| network, batch, steps | gpumlp, s | " + " | ".join(f"{name}, s" for name in CONTENDERS) + " |"]
    lines.append("|---|" + "---:|" * (1 + len(CONTENDERS)))
    for (workload, *_), group in grouped(here).items():
        seconds = [[r.median for r in group if r.contender.startswith(name)] for name in CONTENDERS.values()]
        ours = [r.median for r in group if r.contender == "gpumlp"]
        cells = [number(min(each)) if each else "" for each in (ours, *seconds)]
        lines.append(f"| {workload.replace(LENGTH, '')} | " + " | ".join(cells) + " |")
    rounds = max(r.repeats for r in here)
    words = f"Medians of {rounds} runs" if rounds > 1 else "One run each"
    return "\n".join([*lines, "", f"{words}. Rows: `benchmarks/results/cpu_jobs.csv`; {here[0].machine}; {best}."])


def steps_on_gpu(found: list[rows.Row]) -> str:
    """Return a Markdown table of training steps on a GPU, a line a network: everybody's microseconds, their fastest."""
    lines = ["| network, batch | gpumlp, us | " + " | ".join(f"{name}, us" for name in ON_GPU) + " |"]
    lines.append("|---|" + "---:|" * (1 + len(ON_GPU)))
    here = [r for r in found if r.unit == "us per step"]
    by_name: dict[str, list[rows.Row]] = {}
    for r in here:
        by_name.setdefault(r.workload.partition(":")[0], []).append(r)  # a compiler's steps are a suite of their own
    for workload, group in by_name.items():
        ours = next(r.median for r in group if r.contender == "gpumlp")
        peers = [[r.median for r in group if r.contender.startswith(name)] for name in ON_GPU.values()]
        cells = [number(min(each)) if each else "" for each in ([ours], *peers)]
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    words = f"Medians of {min(r.repeats for r in here)} to {max(r.repeats for r in here)} rounds"
    return "\n".join([*lines, "", f"{words}. Rows: `benchmarks/results/gpu_training.csv`; {here[0].machine}."])


def keras_counts() -> str:
    """Return a sentence: how many scripts and unit tests of Keras's run."""
    scripts, tests = (keras_api.total(keras_api.read(rows.RESULTS / f"{name}.csv")) for name in OF_KERAS)
    return (
        f"Of {scripts.of} scripts in the manner of Keras's and others' tutorials {scripts.right} run with only their "
        f"import lines changed; of {tests.of} unit tests of Keras's own, on what such networks use, {tests.right} pass."
    )


def rate_table(found: list[rows.Row]) -> str:
    """Return a Markdown table of rows with rates, a line each. A column that no row has anything for is left out.

    What was skipped says so in its file. A prediction is marked as such wherever it stands.
    """
    measured = [r for r in found if isinstance(r, rows.RateRow) and r.median == r.median]
    columns = {
        "measured, median [lowest, highest]": [f"{spread(r.median, r.low, r.high)} {r.unit}" for r in measured],
        "predicted, not measured": [shown(r.predicted, f"{number(r.predicted)} {r.unit}") for r in measured],
        "rate": [shown(r.rate, f"{number(r.rate)} {r.rate_unit}") for r in measured],
        "of the ceiling": [shown(r.share, f"{100 * r.share:.0f}%") for r in measured],
        "ratio": [shown(r.ratio, f"{r.ratio:.2f} [{r.ratio_low:.2f}, {r.ratio_high:.2f}]") for r in measured],
    }
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    lines = ["| | | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * len(columns)]
    before = ""
    for r, *cells in zip(measured, *columns.values(), strict=True):
        workload, before = ("" if r.workload == before else r.workload), r.workload
        lines.append(f"| {workload} | {r.contender} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(value: float, words: str) -> str:
    """Return the words for a value, none where there is no value."""
    return words if value == value else ""


def source(name: str, found: list[rows.Row]) -> str:
    """Return the line under a table: what was measured, where, when and with which versions."""
    versions = dict.fromkeys(v for r in found for v in r.versions.split("; ") if r.repeats)
    counts = sorted({r.repeats for r in found if r.repeats}) or [0]
    rounds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    def all_of(of: Callable[[rows.Row], str]) -> str:
        return ", ".join(dict.fromkeys(of(r) for r in found))

    ratio = f'ratio: to "{reference(found)}" in the same round, above 1 where that one is better. '
    alone = name in OF_THEIR_OWN or all(r.ratio != r.ratio for r in found)
    return (
        f"Median [lowest, highest] of {rounds} rounds; {'' if alone else ratio}"
        f"Rows: `benchmarks/results/{name}.csv`; commit {all_of(lambda r: r.commit)}; {all_of(lambda r: r.machine)}; "
        f"instructions: {all_of(lambda r: r.instructions)}; {all_of(lambda r: r.time[:10])}; {', '.join(versions)}."
    )


PREDICTED = ("ranks_predicted",)
OF_THEIR_OWN = {"cpu_jobs": job_table, "cpu_sklearn": fit_table}
PART_OF = {"cpu_jobs_3s": ("cpu_jobs", jobs_of_one_length), "gpu_steps": ("gpu_training", steps_on_gpu)}


def predictions(name: str) -> str:
    """Return a Markdown table of a file of predictions, which says so, as its columns are."""
    with (rows.RESULTS / f"{name}.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    heads = [head for head in found[0] if head != "commit"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    before = ""
    for row in found:
        machine, before = ("" if row[heads[0]] == before else row[heads[0]]), row[heads[0]]
        lines.append("| " + " | ".join([machine, *(row[head] for head in heads[1:])]) + " |")
    told = ", ".join(dict.fromkeys(row["commit"] for row in found))
    return "\n".join([*lines, "", f"Predicted, not measured. Rows: `benchmarks/results/{name}.csv`; commit {told}."])


def made(name: str) -> str:
    """Return what stands between the marks of a table."""
    if name in PREDICTED:
        return f"{predictions(name)}\n"
    if name == "keras_counts":
        return f"{keras_counts()}\n"
    path = rows.RESULTS / f"{PART_OF.get(name, (name,))[0]}.csv"
    if name in OF_KERAS and path.exists():
        parts = keras_api.read(path)
        return f"{keras_api.table(parts, OF_KERAS[name])}\n\n{keras_api.source(name, parts)}\n"
    if name == "install_sizes" and path.exists():
        sizes = install_sizes.read(path)
        return f"{install_sizes.table(sizes)}\n\n{install_sizes.source(name, sizes)}\n"
    found = rows.read(path) if path.exists() else []
    if name not in ("gpu_micro", "larger", "ranks"):
        found = [r for r in found if r.ratio == r.ratio]  # others, as a first turn, stand beside nothing
    if not found:
        return "" if name in HEADS or name in PART_OF else NOT_YET
    if name in PART_OF:
        return f"{PART_OF[name][1](found)}\n"
    kind = OF_THEIR_OWN.get(name, rate_table if isinstance(found[0], rows.RateRow) else table)
    head = f"{HEADS[name]}\n\n" if name in HEADS else ""
    return f"{head}{kind(found)}\n\n{source(name, found)}\n"


def filled(text: str) -> str:
    """Return ``text`` with every marked table made anew from its rows.

    Without rows it says so; where HEADS has words for a table, these and it are left out together.
    """

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{made(match[2])}{match[3]}"

    return MARKED.sub(fill, text)


def main() -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 where a table is not its rows'"
    )
    check = parser.parse_args().check
    differ = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            differ.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(new, encoding="utf-8")
    if check and differ:
        print(f"Tables differ from benchmarks/results/: {', '.join(differ)}. Run make tables.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
