"""PTX as text to PTX in parts: a module's variables and functions, a function's statements.

Every character is accounted for: what is not understood is a PtxError, never passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME = r"[\w$%]+"
# Whatever has a name and a size: a variable, a parameter.
DECLARATION = re.compile(
    r"(?:\.(?:extern|visible|weak) )*\.(?P<space>global|const|shared|local|param)(?: \.align (?P<align>\d+))? "
    rf"\.(?P<type>[busf])(?P<bits>\d+)(?: \.ptr(?: \.\w+(?: \d+)?)*)? (?P<name>{NAME})(?:\[(?P<count>\d*)\])?"
    r"(?: = (?P<values>[^;]+))?"
)
FUNCTION = re.compile(
    rf"(?:\.(?:visible|weak) )*\.(?P<kind>entry|func) ?(?:\( ?(?P<result>[^()]*?) ?\) ?)?(?P<name>{NAME}) ?"
    r"\( ?(?P<parameters>[^()]*?) ?\) ?(?:\.(?:maxntid|reqntid|minnctapersm) [\d, ]+)*(?P<end>[{;]) ?"
)
STATEMENT = re.compile(rf"(?P<brace>[{{}}])|(?P<label>{NAME}): ?|(?P<text>[^;{{}}:][^;]*);")
INSTRUCTION = re.compile(rf"(?:@(?P<guard>!?{NAME}) )?(?P<opcode>[a-z][\w.:]*)(?: (?P<operands>.+))?")


class PtxError(Exception):
    """PTX that says something which the tests do not know how to do."""


@dataclass(frozen=True)
class Variable:
    """``size`` bytes with a name; None: as many as the launch asks for."""

    space: str
    name: str
    size: int | None
    align: int
    data: bytes = b""  # what it begins with; zeros follow


@dataclass(frozen=True)
class Instruction:
    """``guard``: the predicate, or its opposite (!%p1), under which it is done."""

    guard: str
    opcode: str
    operands: list[str]


@dataclass(frozen=True)
class Label:
    name: str


@dataclass(frozen=True)
class Text:
    """A brace, or a directive."""

    text: str


@dataclass(frozen=True)
class Function:
    name: str
    entry: bool
    result: Variable | None
    parameters: list[Variable]
    statements: list[Instruction | Label | Text]


@dataclass(frozen=True)
class Module:
    variables: list[Variable]
    functions: list[Function]


def parts(text: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    found, depth = [""], 0
    for c in text:
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            found.append("")
        else:
            found[-1] += c
    return [part.strip() for part in found if part.strip()]


def variable(text: str) -> Variable:
    """Return what a declaration declares."""
    match = DECLARATION.fullmatch(text.strip())
    if not match:
        raise PtxError(f"not a declaration: {text}")
    bits, size = int(match["bits"]), match["count"]
    count = None if size == "" else int(size or 1)
    align = int(match["align"] or bits // 8)
    if align > 16:
        raise PtxError(f"alignment that the host does not give: {text}")
    data = b"".join(number(v, bits) for v in parts((match["values"] or "").strip("{} ")))
    return Variable(match["space"], match["name"], None if count is None else count * bits // 8, align, data)


def number(text: str, bits: int) -> bytes:
    """Return the bytes of an initial value."""
    value = int(text[2:], 16) if text[:2].lower() in ("0f", "0d") else int(text, 0)
    return (value % (1 << bits)).to_bytes(bits // 8, "little")


def statements(body: str) -> list[Instruction | Label | Text]:
    """Return a function's statements, in order."""
    found: list[Instruction | Label | Text] = []
    at = 0
    while at < len(body):
        match = STATEMENT.match(body, at)
        if not match:
            raise PtxError(f"not a statement: {body[at : at + 80]}")
        at = match.end()
        while body[at : at + 1] == " ":
            at += 1
        if match["label"]:
            found.append(Label(match["label"]))
        elif match["brace"] or match["text"].startswith("."):
            found.append(Text(match["brace"] or match["text"].strip()))
        else:
            told = INSTRUCTION.fullmatch(match["text"].strip())
            if not told:
                raise PtxError(f"not an instruction: {match['text']}")
            found.append(Instruction(told["guard"] or "", told["opcode"], parts(told["operands"] or "")))
    return found


def parsed(text: str) -> Module:
    """Return a module's parts."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^\.(version|target|address_size) .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\s+", " ", text).strip()
    variables, functions, at = [], [], 0
    while at < len(text):
        if function := FUNCTION.match(text, at):
            at = function.end()
            if function["end"] == "{":
                end = closing(text, at)
                functions.append(_function(function, text[at:end].strip()))
                at = end + 1
        else:
            end = text.find(";", at)
            variables.append(variable(text[at:end] if end >= 0 else text[at:]))
            at = end + 1
        while text[at : at + 1] == " ":
            at += 1
    return Module(variables, functions)


def closing(text: str, at: int) -> int:
    """Return where the brace closes that opened before ``at``."""
    depth = 1
    for brace in re.finditer(r"[{}]", text[at:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return at + brace.start()
    raise PtxError("a function without an end")


def _function(match: re.Match[str], body: str) -> Function:
    result = variable(match["result"]) if match["result"] else None
    given = [variable(p) for p in parts(match["parameters"])]
    return Function(match["name"], match["kind"] == "entry", result, given, statements(body))
