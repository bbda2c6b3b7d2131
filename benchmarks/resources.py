"""What every kernel takes on every architecture, from the assembler's report: ``python benchmarks/resources.py``.

Compiles each variant with NVRTC (no GPU, no driver) and writes kernels/RESOURCES.md. Exits with 1 where a kernel keeps
anything in local memory: a spilled register is a trip to memory in an inner loop.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cuda.core  # noqa: F401, here and not by two threads at once, which it does not bear

from gpumlp.backends.compiler import compile_text, text_of, versions
from gpumlp.backends.cuda_backend import TILES, variants

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120")
TABLE = Path(__file__).parents[1] / "kernels" / "RESOURCES.md"
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


def variant_name(defines: dict[str, int]) -> str:
    """Return a variant's tile and width of access, in words."""
    tile = next((n for n, t in TILES.items() if t.defines.items() <= defines.items()), "")
    width = "16-byte access" if defines.get("VECTOR") else ""
    return ", ".join(word for word in (tile, width) if word)


def uses(file: str, defines: dict[str, int], arch: str) -> list[Use]:
    """Compile one variant; return what each of its kernels takes."""
    _, report = compile_text(text_of(file, defines), arch, file, report=True)
    found = [m.groupdict() for m in ENTRY.finditer(report)]
    if not found:
        raise RuntimeError(f"the assembler's report of {file} for {arch} says nothing of its kernels:\n{report}")
    return [
        Use(
            f["name"], variant_name(defines), arch, int(f["registers"]), int(f["shared"] or 0),
            int(f["stack"]) + int(f["stores"]) + int(f["loads"]),
        )
        for f in found
    ]  # fmt: skip


def all_uses(architectures: Iterable[str] = ARCHITECTURES) -> Iterator[Use]:
    """Yield what every kernel of every variant takes on every architecture."""
    jobs = [(file, defines, arch) for file, defines in variants() for arch in architectures]
    with ThreadPoolExecutor() as pool:
        for found in pool.map(lambda job: uses(*job), jobs):
            yield from found


def table(found: list[Use]) -> str:
    """Return the page: a line a kernel, a column an architecture."""
    archs = list(dict.fromkeys(u.arch for u in found))
    by_place = {(u.kernel, u.variant, u.arch): u for u in found}
    compiler = versions().split(";")[0].replace("nvrtc", "NVRTC")
    lines = [
        "# What the kernels take",
        "",
        "Registers a thread, by architecture, and bytes of shared memory a block; nothing is spilled to local memory.",
        f"Written by `benchmarks/resources.py` from the assembler's report ({compiler}).",
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
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    return {(kernel, variant): [int(n.replace(",", "")) for n in rest] for kernel, variant, *rest in cells[1:]}


def main() -> int:
    """Compile everything and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, default=TABLE, help="where the table goes")
    output = parser.parse_args().output
    found = list(all_uses())
    spilled = [u for u in found if u.local]
    for u in spilled:
        print(f"{u.kernel} ({u.variant}) on {u.arch} keeps {u.local} bytes in local memory", file=sys.stderr)
    output.write_text(table(found), encoding="utf-8")
    each = len(found) // len(ARCHITECTURES)
    print(f"{each} kernels compiled for each of {len(ARCHITECTURES)} architectures; the table is {output}")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
