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
class Pair:
    """The texts of a variant, as it is and as it was; empty where it was not, or is no longer."""

    name: Name
    now: str
    was: str


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


def pairs(after: Mapping[Name, str], before: Mapping[Name, str]) -> list[Pair]:
    """Return what there is, each with what it was, and what there is no longer."""
    olds = {name: earlier(name, before) for name in after}
    found = [Pair(name, after[name], before[old] if old else "") for name, old in olds.items()]
    return found + [Pair(name, "", before[name]) for name in before if name not in olds.values()]


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


def lines_of(pair: Pair, compiler: nvrtcs.Nvrtc, arch: str, most: int) -> list[Line]:
    """Compile a variant as it is and as it was; return the lines of its kernels."""
    file, variant = pair.name
    now, was, note = of_text(file, pair.now, compiler, arch, most), {}, ""
    try:
        was = of_text(file, pair.was, compiler, arch, most) if pair.was else {}
    except RuntimeError:  # another commit's, which may not have known this compiler
        note = ", which did not compile"
    out: list[Line] = []
    for kernel in {**now, **was}:
        # most files have one kernel, which is called like them
        words = (variant or kernel) if kernel == file.partition(".")[0] else f"{kernel} {variant}".strip()
        out += [(words + note, {}), *beside(was.get(kernel, []), now.get(kernel, []))]
    return out


def page(found: Sequence[Pair], version: str, arch: str, most: int) -> str:
    """Return a table for each file, of what has changed."""
    compiler = nvrtcs.get(version)
    if not compiler.knows(arch):
        return f"# {arch}, which NVRTC {compiler.version} does not know"
    changed = [pair for pair in found if pair.now and pair.now != pair.was]
    with ThreadPoolExecutor() as pool:
        lines = list(pool.map(lambda pair: lines_of(pair, compiler, arch, most), changed))
    by_file: dict[str, list[Line]] = {}
    for pair, some in zip(changed, lines, strict=True):
        by_file.setdefault(pair.name[0], []).extend(some)
    out = [f"# {arch}, NVRTC {compiler.version}"]
    for file, some in by_file.items():
        out += ["", f"## {file}", "", table(some)]
    for what, names in (
        ("Unchanged", [pair.name for pair in found if pair.now == pair.was]),
        ("New", [pair.name for pair in changed if not pair.was and any(other.was for other in found)]),
        ("Gone", [pair.name for pair in found if not pair.now]),
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
            before = texts_of_commit(told.against, arch) if told.against else {}
            found = [
                pair
                for pair in pairs(texts(ROOT, arch), before)
                if all(word in " ".join(pair.name) for word in told.words)
            ]
            if not found:
                raise RuntimeError(f"No kernel has all of these in its name: {' '.join(told.words)}.")
            for version in told.nvrtc:
                print(f"\n{page(found, version, arch, told.loops)}")
    except (FileNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:  # in words, as they are raised
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
