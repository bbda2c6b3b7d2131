"""What each kernel's innermost loops are made of, to be read in review: ``python benchmarks/machine_code.py``.

NVRTC compiles, nvdisasm reads, and nothing is run: no GPU, no driver. Words choose kernels (``dense_forward large``).
``--against COMMIT`` puts what another commit's kernels are made of beside it, for those whose text has changed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median

import disassembly
import nvrtcs

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("kernel_texts.py")
ARCH = "sm_90a"
ARITHMETIC = ("FFMA", "FADD", "FMUL")
COLUMNS = ("bytes", "all", *disassembly.KINDS, "LDS>use", "LDG>use")
LEGEND = """\
Loops are the innermost ones, by where they begin, those with most arithmetic first; those that count the same share a
line. all: instructions. LD, ST: of any memory, as the compiler did not find out which. strong: loads and stores that
other blocks see as they happen. local: registers that went to memory, or arrays. LDS>use, LDG>use: how many
instructions after a load its first reader comes, the middle one of a loop's loads (LDG: LD and strong ones too); few
mean waiting, more than half of the loop that it was loaded a round ahead."""

Name = tuple[str, str]  # file, variant
Line = tuple[str, dict[str, str]]  # what it is about, and a cell for each column; or no cells: a heading


@dataclass(frozen=True)
class Part:
    """A kernel, or loops in it that count the same: one line of a table."""

    name: str
    numbers: Mapping[str, float]


# ---- what there is to compile ----------------------------------------------------------------------------------------


def texts(folder: Path, arch: str) -> dict[Name, str]:
    """Return the texts of a checkout's kernels, by the code that is in it: so in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "benchmarks")}
    command = [sys.executable, "-c", PROGRAM.read_text(encoding="utf-8"), arch.rstrip("af")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{folder} does not list its kernels:\n{done.stderr}")
    return {(file, variant): text for file, variant, text in json.loads(done.stdout)}


def texts_of_commit(commit: str, arch: str) -> dict[Name, str]:
    """Return the texts of a commit's kernels."""
    command = ["git", "-C", str(ROOT), "archive", "--format=zip", commit, "gpumlp", "kernels", "benchmarks"]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
        return texts(Path(folder), arch)


def chosen(found: Mapping[Name, str], words: Sequence[str]) -> dict[Name, str]:
    """Return those that have all the words in their names; RuntimeError where there are none."""
    some = {name: text for name, text in found.items() if all(word in " ".join(name) for word in words)}
    if not some:
        raise RuntimeError(f"No kernel has all of these in its file's and its variant's name: {' '.join(words)}.")
    return some


def earlier(name: Name, before: Mapping[Name, str]) -> Name | None:
    """Return which variant a variant was: that of its name, else the one of most words that all are words of its name.

    So a variant is found that a constant more now tells from others; None where several are as near, or none is.
    """

    def words(one: Name) -> set[str]:
        return {one[0], *filter(None, one[1].split(", "))}

    if name in before:
        return name
    found = sorted((old for old in before if words(old) < words(name)), key=lambda old: len(words(old)))
    alone = len(found) == 1 or (found and len(words(found[-1])) > len(words(found[-2])))
    return found[-1] if alone else None


# ---- what it is made of ----------------------------------------------------------------------------------------------


def parts(code: disassembly.Code, most: int) -> list[Part]:
    """Return a kernel, and its heaviest loops."""
    loops = code.loops()
    every = code.counts(range(len(code.instructions)))
    size = len(code.instructions) * disassembly.BYTES
    found = [Part(f"whole, {len(loops)} loop{'s' * (len(loops) != 1)}", {"bytes": size, **every})]
    alike: dict[tuple[tuple[str, int], ...], list[list[int]]] = {}
    for loop in loops:
        alike.setdefault(tuple(sorted(code.counts(loop).items())), []).append(loop)

    def weight(counts: tuple[tuple[str, int], ...]) -> tuple[int, int]:
        numbers = Counter(dict(counts))
        return sum(numbers[kind] for kind in ARITHMETIC), numbers["all"]

    for counts in sorted(alike, key=weight, reverse=True)[:most]:
        group = alike[counts]
        uses = [code.until_used(loop) for loop in group]
        to_use = {f"{kind}>use": [n for use in uses for n in use[kind]] for kind in ("LDS", "LDG")}
        name = f"{len(group)} loops, {{}}" if len(group) > 1 else "loop, {}"
        place = f"{code.instructions[group[0][0]].at:x}"
        found.append(Part(name.format(place), {**dict(counts), **{kind: median(n) for kind, n in to_use.items() if n}}))
    return found


def of_text(file: str, text: str, compiler: nvrtcs.Nvrtc, arch: str, most: int) -> dict[str, list[Part]]:
    """Compile a text; return each of its kernels, by its name."""
    cubin, _ = compiler.compile(text, arch, file)
    return {kernel: parts(code, most) for kernel, code in disassembly.read(cubin).items()}


# ---- how it is shown -------------------------------------------------------------------------------------------------


def beside(before: Sequence[Part], after: Sequence[Part]) -> list[Line]:
    """Return a kernel's lines; where two differ, what was, an arrow, and what is. Loops are paired by their order."""
    lines = []
    for old, new in zip_longest(before, after):
        cells = {}
        for column in COLUMNS:
            was, now = (part.numbers.get(column, 0) if part else 0 for part in (old, new))
            shown = f"{was:,.10g} > {now:,.10g}" if before and was != now else f"{now:,.10g}"
            cells[column] = "" if was == now == 0 else shown
        lines.append(("  " + (new.name if new else f"{old.name}, gone"), cells))
    return lines


def table(lines: Sequence[Line]) -> str:
    """Return lines as a table, without the columns that none of them has anything in; names alone may be longer."""
    columns = [c for c in COLUMNS if any(cells[c] for _, cells in lines if cells)]
    rows = [["", *columns], *([name, *(cells[c] for c in columns if cells)] for name, cells in lines)]
    widths = [max(len(row[i]) for row in rows if len(row) > 1) for i in range(len(columns) + 1)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def page(after: Mapping[Name, str], before: Mapping[Name, str], version: str, arch: str, most: int) -> str:
    """Compile what is there, and what was where its text was another; return a table for each file."""
    compiler = nvrtcs.get(version)
    pairs = {name: earlier(name, before) for name in after}
    same = [name for name, old in pairs.items() if old and before[old] == after[name]]
    changed = [name for name in after if name not in same]

    def lines(name: Name) -> list[Line]:
        file, variant = name
        now = of_text(file, after[name], compiler, arch, most)
        old = pairs[name]
        was = of_text(file, before[old], compiler, arch, most) if old else {}
        out: list[Line] = []
        for kernel in {**now, **was}:
            # a kernel is called like its file where that has but one
            words = (variant or kernel) if kernel == file.partition(".")[0] else f"{kernel} {variant}".strip()
            out += [(words, {}), *beside(was.get(kernel, []), now.get(kernel, []))]
        return out

    with ThreadPoolExecutor() as pool:
        found = dict(zip(changed, pool.map(lines, changed), strict=True))
    out = [f"# {arch}, NVRTC {compiler.version}"]
    for file in dict.fromkeys(file for file, _ in changed):
        out += ["", f"## {file}", "", table([line for name in changed if name[0] == file for line in found[name]])]
    for what, names in (
        ("Unchanged", same),
        ("New", [name for name in changed if before and not pairs[name]]),
        ("Gone", [name for name in before if name not in pairs.values()]),
    ):
        if names:
            out += ["", f"{what}: " + "; ".join(" ".join(name).strip() for name in names) + "."]
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("words", nargs="*", help="only kernels whose file and variant have all of these in their names")
    parser.add_argument("--against", metavar="COMMIT", help="another commit, to show what has changed since")
    parser.add_argument("--arch", nargs="+", default=[ARCH], help="architectures")
    parser.add_argument("--nvrtc", nargs="+", default=[nvrtcs.COMMON], choices=nvrtcs.VERSIONS)
    parser.add_argument("--loops", type=int, default=3, help="most loops of a kernel to show")
    told = parser.parse_args(arguments)

    try:
        disassembly.nvdisasm()
        print(LEGEND)
        for arch in told.arch:
            after = chosen(texts(ROOT, arch), told.words)
            before = chosen(texts_of_commit(told.against, arch), told.words) if told.against else {}
            for version in told.nvrtc:
                print(f"\n{page(after, before, version, arch, told.loops)}")
    except (FileNotFoundError, RuntimeError) as error:  # in words, as they are raised
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
