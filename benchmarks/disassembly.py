"""Machine code read back: instructions by nvdisasm, loops from the control flow, and what they are made of."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path

BYTES = 16  # of an instruction, on every architecture that gpumlp knows
# What is counted, by the instruction's name; the first that fits. LD and ST take addresses of any memory, and are what
# is left where the compiler did not find out which. What is STRONG is seen by other blocks as it happens.
KINDS = {
    "FFMA": r"FFMA2?\b",
    "FADD": r"FADD2?\b",
    "FMUL": r"FMUL2?\b",
    "MUFU": r"MUFU\b",
    "LDS": r"LDS(?!.*\.(64|128))\b",
    "LDS.64": r"LDS\b.*\.64",
    "LDS.128": r"LDS\b.*\.128",
    "strong": r"(LD|LDG|ST|STG)\..*STRONG",
    "LDG": r"LDG\b",
    "LD": r"LD\b",
    "LDGSTS": r"LDGSTS\b",
    "STS": r"STS\b",
    "STG": r"STG\b",
    "ST": r"ST\b",
    "BAR": r"BAR\b",
    "SHFL": r"SHFL\b",
    "atomic": r"(ATOM|RED)[GS]?\b",
    "local": r"(LDL|STL)\b",
}
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@\S+\s)?\s*([A-Z][\w.]*)\s*([^;]*);")
REGISTER = re.compile(r"\bR(\d+)(\.64)?")
SOURCE = re.compile(r'//## File ".*", line (\d+)')


@dataclass(frozen=True)
class Instruction:
    """One line of nvdisasm's."""

    at: int
    guarded: bool  # done by the threads of a predicate only
    name: str
    operands: str  # nvdisasm's notes included, which have the targets of indirect branches
    line: int = 0  # of the text that it comes from, inlined functions' own; 0 where the compiler was not asked for it

    @property
    def kind(self) -> str | None:
        """What it is counted as."""
        return next((kind for kind, pattern in KINDS.items() if re.match(pattern, self.name)), None)

    def loads(self) -> set[int]:
        """Return the registers that it fills from memory other than constants; none where it does not load."""
        if not re.match(r"(LD|LDS|LDG)\b", self.name):
            return set()
        first = REGISTER.match(self.operands)
        return _several(int(first[1]), self.name) if first else set()

    def reads(self) -> set[int]:
        """Return the registers whose values it needs, all but those of the wider forms of arithmetic."""
        operands = [o.strip() for o in self.operands.partition("(*")[0].split(",")]
        while operands and re.fullmatch(r"U?P\w+", operands[0]):
            del operands[0]  # predicates that it sets
        stores = re.match(r"(ST|STS|STG|STL|RED|REDG)\b", self.name)
        compares = re.match(r"\w*SETP|FCHK", self.name)
        found: set[int] = set()
        for place, operand in enumerate(operands):
            if place or stores or compares or not re.fullmatch(r"R\d+", operand):  # else it is what it sets
                wide = self.name if stores and place else ""
                for number, pair in REGISTER.findall(operand):
                    found |= _several(int(number), wide or pair)
        return found


def _several(first: int, name: str) -> set[int]:
    return {first + i for i in range(4 if ".128" in name else 2 if ".64" in name else 1)}


@dataclass(frozen=True)
class Code:
    """A kernel, with the functions that it calls behind it."""

    instructions: list[Instruction]
    labels: dict[str, int]  # which instruction follows a label

    def following(self) -> list[list[int]]:
        """Return, for each instruction, those that may be next."""
        count, out = len(self.instructions), []
        for number, i in enumerate(self.instructions):
            base, places = i.name.partition(".")[0], re.findall(r"\.L_\w+", i.operands)
            jumps = base in ("BRA", "BRX", "BRXU") and not i.name.startswith("BRA.DIV")  # no warp here comes apart
            # a branch may have its predicate before it, or before its target
            always = base in ("EXIT", "RET", "BRX", "BRXU") or (base == "BRA" and i.operands.startswith("`"))
            goes_on = number + 1 < count and (i.guarded or not always)
            targets = [self.labels[p] for p in places] if jumps else []
            out.append(([number + 1] if goes_on else []) + targets)
        return out

    def loops(self) -> list[list[int]]:
        """Return the innermost loops: instructions that come after each other in circles, each by address."""
        return list(innermost(range(len(self.instructions)), self.following()))

    def head(self, loop: list[int]) -> int:
        """Return the line that a loop's way back comes from: its ``for`` or ``while``, however far it is unrolled."""
        inside, following = set(loop), self.following()
        back = [i for i in loop if any(n <= i for n in inside.intersection(following[i]))]
        return self.instructions[back[-1]].line

    def counts(self, part: Iterable[int]) -> Counter[str]:
        """Return how many instructions of each kind a part has."""
        kinds = [self.instructions[i].kind for i in part]
        return Counter({"all": len(kinds), **Counter(k for k in kinds if k)})

    def until_used(self, loop: list[int]) -> dict[str, list[int]]:
        """Return after how many instructions of a loop what each load brings is first read; 1 is the next one.

        By where it comes from, shared or device memory. In the order of addresses, as if no branch were taken.
        """
        found: dict[str, list[int]] = {"LDS": [], "LDG": []}
        for place, number in enumerate(loop):
            loaded = self.instructions[number].loads()
            later = enumerate(loop[place + 1 :] + loop[: place + 1], 1)
            first = next((n for n, i in later if loaded & self.instructions[i].reads()), None) if loaded else None
            if first is not None:
                found["LDS" if self.instructions[number].name.startswith("LDS") else "LDG"].append(first)
        return found


def innermost(nodes: Iterable[int], following: list[list[int]]) -> Iterator[list[int]]:
    """Yield the circles among ``nodes`` that have none left without their first instruction."""
    inside = set(nodes)
    for circle in _circles(inside, following):
        # where it is entered, which is what a loop in it does not go through
        entered = {n for i in inside - circle for n in following[i]} & circle
        inner = list(innermost(circle - {min(entered or circle)}, following))
        yield from inner or [sorted(circle)]


def _circles(inside: set[int], following: list[list[int]]) -> Iterator[set[int]]:
    """Yield the largest sets of several nodes each of which leads to all of its set (Tarjan's algorithm)."""
    order: dict[int, int] = {}
    lowest: dict[int, int] = {}
    open_nodes: dict[int, None] = {}
    for root in sorted(inside):
        path = [] if root in order else [root]
        while path:
            node = path[-1]
            if node not in order:
                order[node] = lowest[node] = len(order)
                open_nodes[node] = None
            ahead = [n for n in following[node] if n in inside]
            new = [n for n in ahead if n not in order]
            if new:
                path.append(new[0])
                continue
            lowest[node] = min([order[node], *(lowest[n] for n in ahead if n in open_nodes)])
            path.pop()
            if lowest[node] == order[node]:
                circle = set()
                while node not in circle:
                    circle.add(open_nodes.popitem()[0])
                if len(circle) > 1:  # one alone is the trap behind a kernel's end
                    yield circle


def parsed(text: str) -> dict[str, Code]:
    """Return each kernel's code from nvdisasm's text."""
    out: dict[str, Code] = {}
    code, source = Code([], {}), 0
    for line in text.splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.([\w$]+)", line):
            code, source = Code([], {}), 0
            out[section[1]] = code
        elif comes_from := SOURCE.search(line):
            source = int(comes_from[1])
        elif label := re.fullmatch(r"(\.L_\w+):", line.strip()):
            code.labels[label[1]] = len(code.instructions)
        elif found := LINE.search(line):
            at, guard, name, operands = found.groups()
            code.instructions.append(Instruction(int(at, 16), bool(guard), name, operands.strip(), source))
    for name, one in out.items():
        if any(after.at - before.at != BYTES for before, after in pairwise(one.instructions)) or not one.instructions:
            raise ValueError(f"nvdisasm's text of {name} is not understood: instructions are missing.")
    return out


def nvdisasm() -> str:
    """Return the program: the environment's, else that in PATH; FileNotFoundError where there is none."""
    try:
        files = metadata.files("nvidia-cuda-nvdisasm") or ()
    except metadata.PackageNotFoundError:
        files = ()
    named = [str(file.locate()) for file in files if file.stem == "nvdisasm"]
    if path := (*named, shutil.which("nvdisasm"))[0]:
        return path
    raise FileNotFoundError("there is no nvdisasm, which reads machine code: pip install 'nvidia-cuda-nvdisasm==13.*'.")


def read(cubin: bytes) -> dict[str, Code]:
    """Return each kernel of machine code; RuntimeError, with nvdisasm's words, where it cannot be read."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        done = subprocess.run(
            [nvdisasm(), "--print-code", "--print-line-info", file.name], capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"nvdisasm cannot read it: {done.stderr or done.stdout}")
    return parsed(done.stdout)
