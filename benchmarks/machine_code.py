"""What each kernel's innermost loops are made of, to be read in review: ``python benchmarks/machine_code.py``.

NVRTC compiles, nvdisasm reads, and nothing is run: no GPU, no driver. Words choose kernels (``dense_forward large``).
``--against COMMIT`` puts what another commit's kernels are made of beside it, for those whose text has changed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import disassembly
import nvrtcs
import resources

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("kernel_texts.py")
ARCH = "sm_90"  # as the package compiles for an H100
ARITHMETIC = ("FFMA", "FADD", "FMUL")
COLUMNS = ("bytes", "all", *disassembly.KINDS, "LDS>use", "LDG>use")
FUNCTION = re.compile(r"^(?!\s*//|#).*?(?:\b(?:DEVICE|CALLED|__global__)\b.*?|KERNEL\()(\w+|operator\S+)[()]")
WIDEST, WIDEST_NAME, WIDEST_LIST, WIDEST_LOOP = 160, 64, 120, 28
LEGEND = """\
Innermost loops, by where they begin and the line that heads them, those with most arithmetic first. Loops that count
the same share a line; so do variants, and those of which only the loops do have these once, below all of them, by where
they begin in the first. With --against: was>is, without the columns in which nothing changed.
  all: instructions. Where sums are made most should be arithmetic (FFMA, FADD, FMUL); the others are its price.
  MUFU: roots, reciprocals, powers: by a unit a quarter as wide or less. BAR: the block waits for all of its threads.
  LDS, LDS.64, LDS.128: loads of shared memory, by 4, 8 or 16 bytes: the wider, the fewer. LDG, STG: of device memory.
  LDGSTS: copies from there to shared memory that no register waits for. LD, ST: of any memory, as the compiler did not
  find out which: none is best. SHFL: what another thread of the warp has. atomic: those on one address take turns.
  strong: loads and stores that other blocks see as they happen. local: registers that went to memory, or arrays: none
  is right. LDS>use, LDG>use: after how many instructions a load is first read, the middle one of a loop's loads (LDG:
  LD and strong ones too). A load takes the time of some 30 instructions (LDS) or some hundreds (LDG), less what other
  warps do meanwhile: few mean waiting, more than half of the loop that it was loaded a round ahead."""

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
    head: str = ""  # the function of loops and the line that heads them, where they are known


@dataclass(frozen=True)
class Block:
    """The lines of a variant's kernel: the whole one, then its loops; ``new`` where there is nothing to compare."""

    title: str
    lines: list[Line]
    new: bool

    def numbers(self) -> list[tuple[tuple[str, str], ...]]:
        """Return the cells of each line."""
        return [tuple(cells.items()) for _, cells in self.lines]


Made = dict[str, list[Part]] | RuntimeError  # each kernel of a text, or that it does not compile


# ---- what there is to compile ----------------------------------------------------------------------------------------


def texts(folder: Path, arch: str) -> dict[Name, str]:
    """Return the texts of a checkout's kernels, by the code that is in it: so in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "benchmarks")}
    command = [sys.executable, "-c", PROGRAM.read_text(encoding="utf-8"), arch.rstrip("af")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The kernels cannot be listed: {done.stderr.strip().splitlines()[-1]}")
    return {(file, variant): text for file, variant, text in json.loads(done.stdout)}


def texts_of_commit(commit: str, arch: str) -> dict[Name, str]:
    """Return the texts of a commit's kernels; RuntimeError where there is none, or one that does not list them."""

    def git(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True)

    if git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").returncode:
        raise RuntimeError(f"There is no commit {commit} in {ROOT}.")
    needed = ["benchmarks/resources.py", "benchmarks/fit_cases.py"]  # kernel_texts.py's
    if any(git("cat-file", "-e", f"{commit}:{file}").returncode for file in needed):
        since = git("log", "--diff-filter=A", "--format=%h", "--", needed[-1]).stdout.decode().split()[-1:]
        raise RuntimeError(
            f"{commit} is from before this script could list its kernels, by its {' and '.join(needed)}: "
            f"the oldest that can be compared is {' '.join(since) or 'the one that has both'}."
        )
    archive = git("archive", "--format=zip", commit, "gpumlp", "kernels", "benchmarks").stdout
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
        try:
            return texts(Path(folder), arch)
        except RuntimeError as error:
            raise RuntimeError(f"{commit}: {error}") from None


def refuse_unknown(arch: str, compiler: nvrtcs.Nvrtc) -> None:
    """Raise RuntimeError where a compiler does not know an architecture."""
    found = re.fullmatch(r"sm_(\d+)[af]?", arch)
    if not found or int(found[1]) not in compiler.architectures():
        known = ", ".join(f"sm_{number}" for number in compiler.architectures())
        raise RuntimeError(f"NVRTC {compiler.version} does not compile for {arch}, but for {known}.")


def chosen(pair: Pair) -> bool:
    """Whether a variant is one of those that stand for all, or is gone."""
    standing = {(file, resources.variant_name(file, defines)) for file, defines in resources.chosen_variants()}
    return pair.name[0] == "fit.cu" or pair.name in standing or not pair.now


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


def place(text: str, line: int) -> str:
    """Return in which function a line is, and the line, shortened; nothing where it is not known (0)."""
    lines = text.splitlines()[:line]
    if not lines:
        return ""
    function = next((found[1] for found in map(FUNCTION.match, reversed(lines)) if found), "?")
    head = lines[-1].strip().removesuffix("{").rstrip()
    return f"{function}: {head if len(head) <= WIDEST_LOOP else head[: WIDEST_LOOP - 3] + '...'}"


def parts(code: disassembly.Code, text: str) -> list[Part]:
    """Return a kernel, and its loops, the heaviest first."""
    loops = code.loops()
    every = code.counts(range(len(code.instructions)))
    size = len(code.instructions) * disassembly.BYTES
    found = [Part(f"whole, {len(loops)} loop{'s' * (len(loops) != 1)}", {"bytes": size, **every})]
    alike: dict[tuple[str, tuple[tuple[str, int], ...]], list[list[int]]] = {}
    for loop in loops:
        alike.setdefault((place(text, code.head(loop)), tuple(sorted(code.counts(loop).items()))), []).append(loop)

    def weight(key: tuple[str, tuple[tuple[str, int], ...]]) -> tuple[int, int]:
        numbers = Counter(dict(key[1]))
        return sum(numbers[kind] for kind in ARITHMETIC), numbers["all"]

    for key in sorted(alike, key=weight, reverse=True):
        group, (where, counts) = alike[key], key
        uses = [code.until_used(loop) for loop in group]
        to_use = {f"{kind}>use": [n for use in uses for n in use[kind]] for kind in ("LDS", "LDG")}
        name = f"{len(group)} loops," if len(group) > 1 else "loop"
        at = f"{code.instructions[group[0][0]].at:x}"
        numbers = {**dict(counts), **{kind: median(n) for kind, n in to_use.items() if n}}
        found.append(Part(f"{name} {at}{f' in {where}' if where else ''}", numbers, where))
    return found


def of_text(file: str, text: str, compiler: nvrtcs.Nvrtc, arch: str) -> dict[str, list[Part]]:
    """Compile a text; return each of its kernels, by its name."""
    cubin, _ = compiler.compile(text, arch, file, lineinfo=True)
    return {kernel: parts(code, text) for kernel, code in disassembly.read(cubin).items()}


# ---- how it is shown -------------------------------------------------------------------------------------------------


def paired(before: Sequence[Part], after: Sequence[Part]) -> list[tuple[Part | None, Part | None]]:
    """Return each part with what it was: headed by the same line, else in its function; then what is gone."""
    found: dict[int, Part] = {}
    rest = list(before)
    for key in (lambda part: part.head, lambda part: part.head.partition(":")[0]):
        for place, new in enumerate(after):
            old = next((old for old in rest if key(old) == key(new)), None)
            if old and place not in found:
                found[place] = old
                rest.remove(old)
    return [*((found.get(place), new) for place, new in enumerate(after)), *((old, None) for old in rest)]


def beside(before: Sequence[Part], after: Sequence[Part], most: int) -> list[Line]:
    """Return the lines of a kernel and its heaviest loops; where two differ, what was, an arrow, and what is."""
    lines = []
    heaviest = [*before[: most + 1], *after[: most + 1]]
    for old, new in paired(before, after):
        if new not in heaviest and old not in heaviest:
            continue
        cells = {}
        for column in COLUMNS:
            was, now = (part.numbers.get(column, 0) if part else 0 for part in (old, new))
            shown = f"{was:,.10g}>{now:,.10g}" if before and was != now else f"{now:,.10g}"
            cells[column] = "" if was == now == 0 else shown
        name = new.name if new else f"{old.name}, gone" if old else ""
        lines.append((f"  {name}", cells))
    return lines


def wrapped(text: str) -> str:
    """Return a list's lines, broken after semicolons alone."""
    kept = re.sub(r"(?<!;) ", "\0", text)
    lines = textwrap.fill(kept, WIDEST_LIST, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


def table(lines: Sequence[Line]) -> str:
    """Return lines as a table, or as several where one would be too wide; longer names have lines of their own.

    Without the columns that none has anything in; where there is a before, without those in which nothing changed.
    """
    changed = {c for _, cells in lines for c in COLUMNS if ">" in cells[c]}
    shown = [c for c in COLUMNS if any(cells[c] for _, cells in lines) and (not changed or c in {*changed, "all"})]
    width = max((len(name) for name, _ in lines if len(name) <= WIDEST_NAME), default=0)
    widths = {c: max(len(c), *(len(cells[c]) for _, cells in lines)) for c in shown}
    out: list[str] = []
    while shown:
        now = [c for i, c in enumerate(shown) if not i or width + sum(2 + widths[c] for c in shown[: i + 1]) <= WIDEST]
        shown = shown[len(now) :]
        rows = [("", {c: c for c in now}), *lines]
        if further := bool(out):
            out.append("")
        for name, cells in rows:
            if further and name.startswith("  ") and not any(cells[c] for c in now):
                continue  # a loop that this one says nothing of
            if len(name) > WIDEST_NAME:
                out.append(wrapped(name))
                name = ""
            out.append("  ".join([name.ljust(width), *(cells[c].rjust(widths[c]) for c in now)]).rstrip())
    return "\n".join(out)


def blocks_of(pair: Pair, made: Mapping[tuple[str, str], Made], most: int) -> list[Block]:
    """Return the kernels of a variant, as it is and as it was, from what its texts were compiled to."""
    file, variant = pair.name
    now, was, note = made[file, pair.now], made.get((file, pair.was), {}), ""
    if isinstance(now, RuntimeError):
        raise now
    if isinstance(was, RuntimeError):  # another commit's, which may not have known this compiler
        was, note = {}, ", which did not compile"
    out = []
    for kernel in {**now, **was}:
        # most files have one kernel, which is called like them
        words = (variant or kernel) if kernel == file.partition(".")[0] else f"{kernel} {variant}".strip()
        before = was.get(kernel, [])
        out.append(Block(words + note, beside(before, now.get(kernel, []), most), not before))
    return out


def grouped(blocks: Sequence[Block]) -> list[Line]:
    """Return a line of each kernel, or of those that count the same, and below those that share them their loops."""
    by_loops: dict[object, dict[object, list[Block]]] = {}
    for block in blocks:
        whole, *loops = block.numbers()
        by_loops.setdefault(tuple(loops), {}).setdefault(whole, []).append(block)
    lines: list[Line] = []
    for sharing in by_loops.values():
        for same in sharing.values():
            name, cells = same[0].lines[0]
            lines.append((f"{'; '.join(block.title for block in same)} ({name.strip()})", cells))
        lines += next(iter(sharing.values()))[0].lines[1:]
    return lines


def listed(what: str, names: Iterable[Name]) -> list[str]:
    """Return a paragraph for each file of variants, and one for the files that have none."""
    by_head: dict[str, list[str]] = {}
    for file, variant in names:
        by_head.setdefault(f"{what} in {file}" if variant else what, []).append(variant or file)
    return [*[""][: len(by_head)], *(wrapped(f"{head}: {'; '.join(found)}.") for head, found in by_head.items())]


def compiled(changed: Sequence[Pair], compiler: nvrtcs.Nvrtc, arch: str) -> dict[tuple[str, str], Made]:
    """Compile each text once, as what several variants were is often one; tell on stderr how far it is."""
    texts = list(dict.fromkeys((pair.name[0], text) for pair in changed for text in (pair.now, pair.was) if text))

    def make(file: str, text: str) -> Made:
        try:
            return of_text(file, text, compiler, arch)
        except RuntimeError as error:
            return error

    out: dict[tuple[str, str], Made] = {}
    with ThreadPoolExecutor() as pool:
        for key, made in zip(texts, pool.map(make, *zip(*texts, strict=True)), strict=True) if texts else ():
            out[key] = made
            told = f"\r{arch}, NVRTC {compiler.version}: {len(out)} of {len(texts)} texts compiled"
            print(told, end="\n" if len(out) == len(texts) else "", file=sys.stderr, flush=True)
    return out


def page(found: Sequence[Pair], version: str, arch: str, most: int) -> str:
    """Return a table for each file, of what has changed."""
    compiler = nvrtcs.get(version)
    changed = [pair for pair in found if pair.now and pair.now != pair.was]
    by_heading: dict[str, list[Block]] = {}
    same = []
    compared = any(pair.was for pair in found)
    made = compiled(changed, compiler, arch)
    for pair in changed:
        for block in blocks_of(pair, made, most):
            if not block.new and not any(">" in cell for _, cells in block.lines for cell in cells.values()):
                same.append((pair.name[0], "" if pair.name[0] == f"{block.title}.cu" else block.title))
            else:
                heading = f"{pair.name[0]}, nothing to compare with" if compared and block.new else pair.name[0]
                by_heading.setdefault(heading, []).append(block)
    out = [f"# {arch}, NVRTC {compiler.version}"]
    for heading, blocks in by_heading.items():
        out += ["", f"## {heading}", "", table(grouped(blocks))]
    out += listed("Another text that counts the same", same)
    out += listed("The same text", (pair.name for pair in found if pair.now == pair.was))
    out += listed("Gone", (pair.name for pair in found if not pair.now))
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("words", nargs="*", help="only kernels whose file and variant have all of these in their names")
    parser.add_argument("--against", metavar="COMMIT", help="another commit, to show what has changed since")
    parser.add_argument("--every", action="store_true", help="every variant, not only those that stand for all")
    parser.add_argument("--arch", nargs="+", default=[ARCH], help="architectures")
    parser.add_argument("--nvrtc", nargs="+", default=[nvrtcs.COMMON], choices=nvrtcs.VERSIONS)
    parser.add_argument("--loops", type=int, default=5, help="most loops of a kernel to show")
    told = parser.parse_args(arguments)

    try:
        disassembly.nvdisasm()
        for arch in told.arch:
            for version in told.nvrtc:
                refuse_unknown(arch, nvrtcs.get(version))
        pages = 0
        for arch in told.arch:
            before = texts_of_commit(told.against, arch) if told.against else {}
            found = [
                pair
                for pair in pairs(texts(ROOT, arch), before)
                if all(word in " ".join(pair.name) for word in told.words) and (told.every or chosen(pair))
            ]
            if not found:
                raise RuntimeError(f"No kernel has all of these in its name: {' '.join(told.words)}.")
            for version in told.nvrtc:
                made = page(found, version, arch, told.loops)
                if not pages:  # behind whatever may be wrong
                    print(LEGEND)
                print(f"\n{made}", flush=True)
                pages += 1
    except (FileNotFoundError, RuntimeError) as error:  # in words, as they are raised
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
