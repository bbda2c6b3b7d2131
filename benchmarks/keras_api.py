"""Write how much of Keras runs, from what was run elsewhere: `make tables` makes the README's tables of it.

    python benchmarks/keras_api.py [--scripts SCRIPTS] [--tests TESTS] [--versions WORDS]

SCRIPTS is a text with a line for each Keras script that was run with only its import lines changed: its name, then
"ok", "differs" (where it gave other kinds, shapes or keys) or "stops", and for these the error. What a script is about
its name says (KINDS). TESTS is a file of JSON lines, one for each of Keras's own unit tests that were run against
gpumlp: "file", its path from keras/src, and "class": "passed", "adapted" (passed, with a call form of Keras's put into
gpumlp's), "absent" (of what there is not), "differs" or "out" (of what an MLP has no use for).
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import rows

# What scripts are about, by words in their names; the first that matches counts.
KINDS = {
    "frames, generators, series": "frame|generator|series|titanic|fuel|mpg",
    "saving, checkpoints": "sav|load|checkpoint",
    "scikit-learn, tuners": "wrapper|tuner|kfold|scikit",
    "own losses, own steps": "own|quantile|custom",
    "several inputs or outputs, the functional API": "functional|wide|multi|subclass",
    "reinforcement learning": "cartpole|dqn|gym",
    "normalization, regularization": "normalization|dropout|l2|overfit|maxnorm|autoencoder",
    "callbacks, schedules, optimizers": "callback|optimizers|schedule|stopping",
    "first networks": "",
}
# What a script that stops wants, by its error: the first of these that matches.
WANTED = (
    (re.compile(r"gpumlp has no (keras\.[\w.]+\w)"), r"\1"),
    (re.compile(r"There is no functional API"), "keras.Model"),
    (re.compile(r"'(\w+)' object has no attribute '(\w+)'"), r"\1.\2"),
)


@dataclass
class Part:
    """How many scripts or tests about one thing are right, of how many; ``words``: what the others want."""

    part: str
    right: int
    of: int
    outside: int
    words: str
    versions: str
    commit: str
    time: str


def of_scripts(lines: Iterable[str], versions: str) -> list[Part]:
    """Return a Part for each kind of script that is there."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    wants: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if (match := re.match(r"(\S+)\s+(ok|differs|stops)\b\s*(.*)", line)) is None:
            continue
        name, status, why = match.groups()
        kind = next(kind for kind, words in KINDS.items() if re.search(words, name))
        counts[kind][status] += 1
        found = next((match.expand(words) for error, words in WANTED if (match := error.search(why))), None)
        if found is not None:
            wants[kind].add(found.replace("keras.models.Model", "keras.Model"))
    return [
        Part(kind, counts[kind]["ok"], counts[kind].total(), 0, ", ".join(sorted(wants[kind])), versions, rows.commit(),
             rows.now())
        for kind in [*list(KINDS)[-1:], *list(KINDS)[:-1]] if kind in counts
    ]  # fmt: skip


def of_tests(lines: Iterable[str], versions: str) -> list[Part]:
    """Return a Part for each of Keras's modules."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        found = json.loads(line)
        counts[found["file"].split("/")[0]][found["class"]] += 1
    judged = ("passed", "adapted", "absent", "differs")
    return [
        Part(module, sum(kinds[k] for k in judged[:2]), sum(kinds[k] for k in judged), kinds["out"], "", versions,
             rows.commit(), rows.now())
        for module, kinds in sorted(counts.items())
    ]  # fmt: skip


def write(path: Path, parts: list[Part]) -> None:
    """Write ``parts`` as CSV, over what was there."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Part)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, parts))


def read(path: Path) -> list[Part]:
    """Return what `write` has written."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Part(**line | {n: int(line[n]) for n in ("right", "of", "outside")})  # type: ignore[arg-type]
            for line in csv.DictReader(file)
        ]


def total(parts: list[Part]) -> Part:
    """Return the sum of all parts."""
    right, of, outside = (sum(getattr(p, name) for p in parts) for name in ("right", "of", "outside"))
    return Part("all", right, of, outside, "", "", "", "")


def table(parts: list[Part], head: str) -> str:
    """Return a Markdown table: a line a part, and one for all; a column that is empty throughout is left out."""
    listed = [*parts, total(parts)]
    columns = {
        head: [p.part for p in listed],
        "run": [f"{p.right} of {p.of}" for p in listed],
        "what the others want": [f"`{p.words.replace(', ', '`, `')}`" if p.words else "" for p in listed],
        "out of scope": [str(p.outside) if p.outside else "" for p in listed],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    lines = ["| " + " | ".join(shown) + " |", "|---|---:|" + "---|" * (len(shown) - 2)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in zip(*shown.values(), strict=True))])


def source(name: str, parts: list[Part]) -> str:
    """Return the line under a table."""
    return f"`benchmarks/results/{name}.csv`; commit {parts[0].commit}; {parts[0].versions}; {parts[0].time[:10]}."


def main() -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--scripts", type=Path)
    parser.add_argument("--tests", type=Path)
    parser.add_argument("--versions", default="Keras 3.15.1")
    given = parser.parse_args()
    for name, path, count in (("keras_scripts", given.scripts, of_scripts), ("keras_tests", given.tests, of_tests)):
        if path is not None:
            write(rows.RESULTS / f"{name}.csv", count(path.read_text(encoding="utf-8").splitlines(), given.versions))


if __name__ == "__main__":
    main()
