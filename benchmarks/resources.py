"""What every kernel takes on every architecture, from the assembler's report: ``python benchmarks/resources.py``.

Compiles the kernels with two versions of NVRTC (no GPU, no driver), and the whole-fit kernel for some networks where
they would be trained, and writes kernels/RESOURCES.md, with the larger of both. Exits with 1 where a kernel keeps
anything in local memory: a spilled register is a trip to memory in an inner loop.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cuda.core  # noqa: F401, here and not by two threads at once, which it does not bear
import fit_cases
import nvrtcs
from nvrtcs import Nvrtc
from variants import formula_name, variants

from gpumlp.backends.compiler import text_of
from gpumlp.backends.cuda_backend import TILES
from gpumlp.backends.runtime import Defines, parted

CACHE = 128 << 10  # bytes of instructions that a multiprocessor keeps: a step's code should fit
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
# Of the dense kernels' activations the one that most networks have, and where it makes a difference a dear one: the
# others are compiled for one architecture.
KINDS = {"dense_forward.cu": ("relu", "gelu"), "dense_backward.cu": ("linear", "relu")}
TABLE = Path(__file__).parents[1] / "kernels" / "RESOURCES.md"
One = TypeVar("One", bound=Any)
ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?:[^\n]*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Use:
    """What one kernel takes: registers a thread, bytes of shared memory a block, bytes of local memory a thread."""

    kernel: str
    variant: str
    arch: str
    registers: int
    shared: int
    local: int


def variant_name(file: str, defines: Defines) -> str:
    """Return a variant in words: its tile, its width of access, and whatever else tells it from its kernel's others."""
    macros, _ = parted(defines)
    tile = next((n for n, t in TILES.items() if t.defines.items() <= macros.items()), "")
    width = "16-byte access" if defines.get("VECTOR") else ""
    told = {"THREADS", "VECTOR", *(TILES[tile].defines if tile else ())}
    others = [f"{name.lower()} {value}" for name, value in macros.items() if name not in told]
    return ", ".join(word for word in (tile, width, formula_name(file, defines), *others) if word)


def chosen_variants() -> list[tuple[str, Defines]]:
    """Return the variants that stand for all: every file, tile and width of access, and KINDS."""
    return [
        (file, defines)
        for file, defines in variants()
        if file not in KINDS or formula_name(file, defines) in KINDS[file]
    ]


def uses(nvrtc: Nvrtc, file: str, defines: Defines, arch: str) -> list[Use]:
    """Compile one variant; return what each of its kernels takes."""
    _, report = nvrtc.compile(text_of(file, defines), arch, file, report=True)
    found = [m.groupdict() for m in ENTRY.finditer(report)]
    if not found:
        raise RuntimeError(f"the assembler's report of {file} for {arch} says nothing of its kernels:\n{report}")
    return [
        Use(
            f["name"], variant_name(file, defines), arch, int(f["registers"]), int(f["shared"] or 0),
            int(f["stack"]) + int(f["stores"]) + int(f["loads"]),
        )
        for f in found
    ]  # fmt: skip


def all_uses(
    nvrtc: Nvrtc, files: Iterable[tuple[str, Defines]], architectures: Iterable[str] = ARCHITECTURES
) -> Iterator[Use]:
    """Yield what every kernel of the variants takes on every architecture that a compiler knows."""
    known = [arch for arch in architectures if nvrtc.knows(arch)]
    jobs = [(nvrtc, file, defines, arch) for file, defines in files for arch in known]
    with ThreadPoolExecutor() as pool:
        for found in pool.map(lambda job: uses(*job), jobs):
            yield from found


def larger(found: Sequence[Sequence[One]], what: tuple[str, ...]) -> list[One]:
    """Return the first list, with the largest of each number in ``what`` among all the lists, which are as long."""
    return [
        replace(same[0], **{n: max(getattr(u, n) for u in same) for n in what}) for same in zip(*found, strict=True)
    ]


def table(found: list[Use], versions: Sequence[str]) -> str:
    """Return the page: a line a kernel, a column an architecture."""
    archs = list(dict.fromkeys(u.arch for u in found))
    by_place = {(u.kernel, u.variant, u.arch): u for u in found}
    lines = [
        "# What the kernels take",
        "",
        "Registers a thread by architecture, bytes of shared memory a block; none of these spills to local memory. Of",
        "the dense kernels' activations two stand for all.",
        f"Written by `benchmarks/resources.py` from the assembler: the larger of NVRTC {' and '.join(versions)}.",
        "",
        "| kernel | variant | " + " | ".join(archs) + " | shared |",
        "|---|---|" + "---:|" * (len(archs) + 1),
    ]
    for kernel, variant in dict.fromkeys((u.kernel, u.variant) for u in found):
        row = [by_place[kernel, variant, a] for a in archs]
        shared = max(u.shared for u in row)
        lines.append(f"| {kernel} | {variant} | " + " | ".join(str(u.registers) for u in row) + f" | {shared:,} |")
    return "\n".join(lines) + "\n"


def numbers(page: str) -> dict[tuple[str, str], list[int]]:
    """Return what a page says of each (kernel, variant): registers by architecture, then bytes of shared memory."""
    first = page.partition("\n## ")[0]
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in first.splitlines() if line.startswith("| ")]
    return {(kernel, variant): [int(n.replace(",", "")) for n in rest] for kernel, variant, *rest in cells[1:]}


# ---- the whole-fit kernel, which is compiled for one network ---------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """The whole-fit kernel of a network on a GPU: its launch, and what it takes; ``why`` there is none otherwise.

    ``shared`` is what the launch asks for, ``code`` the bytes of instructions, loading and saving included.
    """

    network: str
    arch: str
    exchange: str
    launch: str = ""
    shared: int = 0
    registers: int = 0
    local: int = 0
    code: int = 0
    why: str = ""


def planned(case: tuple[fit_cases.Training, str, bool]) -> tuple[Fit, Defines]:
    """Return how a case would be launched, and what the compiler would be told; nothing is compiled."""
    training, arch, tags = case
    plan = training.plan(fit_cases.CHIPS[arch], tags)
    words = training.name, arch, "tags" if tags else "barrier"
    if isinstance(plan, str):
        return Fit(*words, why=plan), {}
    return Fit(*words, f"{plan.group} x {plan.threads}", plan.shared), plan.defines


def measured(nvrtc: Nvrtc, case: tuple[fit_cases.Training, str, bool]) -> Fit:
    """Compile a case, where the compiler knows its architecture."""
    fit, defines = planned(case)
    if fit.why or not nvrtc.knows(fit.arch):
        return fit
    code, report = nvrtc.compile(text_of("fit.cu", defines), fit.arch, "fit.cu", report=True)
    found = ENTRY.search(report)
    if found is None:
        raise RuntimeError(f"the assembler's report of fit.cu for {fit.arch} says nothing of it:\n{report}")
    # also of the functions that it calls
    local = sum(map(int, re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", report)))
    return replace(fit, registers=int(found["registers"]), local=local, code=section_bytes(code, ".text.fit"))


def all_fits(nvrtc: Nvrtc) -> list[Fit]:
    """Compile all cases."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda case: measured(nvrtc, case), fit_cases.CASES))


def section_bytes(elf: bytes, name: str) -> int:
    """Return the size of a section of machine code (ELF, 64 bits); KeyError where it has none of that name."""
    (headers,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQ", elf, headers + i * size) for i in range(count)]
    strings = sections[names][4]
    for where, _, _, _, _, length in sections:
        if elf[strings + where :].partition(b"\0")[0] == name.encode():
            return length
    raise KeyError(name)


def fits_table(found: list[Fit]) -> str:
    """Return the page's part on the whole-fit kernel: a line a case."""
    lines = [
        "",
        "## The whole-fit kernel",
        "",
        "It is compiled for one network, as its plan lays it out on a GPU. A step's code should stay within",
        f"{CACHE >> 10} KB, what a multiprocessor keeps of instructions; the code here is all of the kernel's, which",
        "loads and saves besides (a third of it, for the article's network: on compute capability 8.0 and 8.6, where",
        "64 blocks share its work, a step's code is larger, and may be fetched anew at every step). Local memory:",
        "bytes a thread of stack, spill stores and spill loads. Blocks and threads are those for this many",
        "multiprocessors: " + ", ".join(f"{c.arch} {c.multiprocessors}" for c in fit_cases.CHIPS.values()) + ".",
        "",
        "| network | architecture | exchange by | blocks x threads | shared | registers | local | code |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for f in found:
        numbers = "| | | | |" if f.why else f"{f.shared:,} | {f.registers} | {f.local} | {f.code:,} |"
        lines.append(f"| {f.network} | {f.arch} | {f.exchange} | {f.launch or f.why} | {numbers}")
    return "\n".join(lines) + "\n"


def launches(page: str) -> list[tuple[str, ...]]:
    """Return what a page says of the whole-fit kernel's launches, up to their shared memory."""
    second = page.partition("\n## ")[2]
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in second.splitlines() if line.startswith("| ")]
    return [tuple(line[:5]) for line in cells[1:]]


def main() -> int:
    """Compile everything and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, default=TABLE, help="where the table goes")
    output = parser.parse_args().output
    compilers = [nvrtcs.get(v) for v in (nvrtcs.COMMON, nvrtcs.NEWEST)]
    found = larger([list(all_uses(nvrtc, chosen_variants())) for nvrtc in compilers], ("registers", "shared", "local"))
    fits = larger([all_fits(nvrtc) for nvrtc in compilers], ("registers", "local", "code"))
    spilled = [(f"{u.kernel} ({u.variant})", u) for u in found if u.local]
    spilled += [(f"fit ({f.network}, {f.exchange})", f) for f in fits if f.local]  # type: ignore[misc]
    for name, use in spilled:
        print(f"{name} on {use.arch} keeps {use.local} bytes in local memory", file=sys.stderr)
    page = table(found, [nvrtc.version for nvrtc in compilers]) + fits_table(fits)
    output.write_text(page, encoding="utf-8")
    each = len(found) // len(ARCHITECTURES)
    print(f"{each} kernels for each of {len(ARCHITECTURES)} architectures, fit.cu for {len(fits)} cases: {output}")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
