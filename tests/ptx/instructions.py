"""What each PTX instruction is in C++, on the machine of `machine.h`.

A rule is a pattern that a whole opcode must match, with all of its modifiers: one that nobody has thought of, such as
.ftz where it is not named, matches none, and is an error. ``t`` in a pattern is the type of the operands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ptx.module import PtxError, parts

INTEGER = r"(?P<t>[us](?:16|32|64))"
BITS = r"(?P<t>b(?:16|32|64))"
REAL = r"(?P<t>f(?:32|64))"
FLOAT = r"(?P<t>f32)"

# The first operand becomes this; {a}, {b} ... are the others, as of type ``t`` or of the type after the colon.
EXPRESSIONS = {
    # integers wrap; shifts by more than there is shift everything out
    rf"add\.{INTEGER}": "{a} + {b}",
    rf"sub\.{INTEGER}": "{a} - {b}",
    rf"mul\.lo\.{INTEGER}": "{a} * {b}",
    rf"mad\.lo\.{INTEGER}": "{a} * {b} + {c}",
    r"mul\.wide\.(?P<t>[us](?:16|32))": "wide({a}) * wide({b})",
    r"mul\.hi\.(?P<t>[us](?:32|64))": "high({a}, {b})",
    rf"div\.{INTEGER}": "quotient({a}, {b})",
    rf"rem\.{INTEGER}": "remainder({a}, {b})",
    r"neg\.(?P<t>s(?:16|32|64))": "-{a}",
    r"abs\.(?P<t>s(?:16|32|64))": "{a} < 0 ? -{a} : {a}",
    rf"min\.{INTEGER}": "{b} < {a} ? {b} : {a}",
    rf"max\.{INTEGER}": "{a} < {b} ? {b} : {a}",
    rf"and\.{BITS}": "{a} & {b}",
    rf"or\.{BITS}": "{a} | {b}",
    rf"xor\.{BITS}": "{a} ^ {b}",
    rf"not\.{BITS}": "~{a}",
    r"and\.(?P<t>pred)": "{a} && {b}",
    r"or\.(?P<t>pred)": "{a} || {b}",
    r"xor\.(?P<t>pred)": "{a} != {b}",
    r"not\.(?P<t>pred)": "!{a}",
    rf"shl\.{BITS}": "shifted_left({a}, {b:u32})",
    r"shr\.(?P<t>[bus](?:16|32|64))": "shifted_right({a}, {b:u32})",
    r"shf\.l\.wrap\.(?P<t>b32)": "shifted_left(joined({a}, {b}), {c:u32} & 31) >> 32",
    r"shf\.r\.wrap\.(?P<t>b32)": "joined({a}, {b}) >> ({c:u32} & 31)",
    r"bfi\.(?P<t>b(?:32|64))": "inserted({a}, {b}, {c:u32}, {d:u32})",
    # reals: rounded to nearest unless it says otherwise, denormals kept
    rf"add\.(?:rn\.)?{REAL}": "{a} + {b}",
    rf"sub\.(?:rn\.)?{REAL}": "{a} - {b}",
    rf"mul\.(?:rn\.)?{REAL}": "{a} * {b}",
    rf"fma\.rn\.{REAL}": "std::fma({a}, {b}, {c})",
    rf"add\.(?P<mode>rz|rm|rp)\.{FLOAT}": "rounded<{mode}>({a}, 1.0f, {b})",
    rf"sub\.(?P<mode>rz|rm|rp)\.{FLOAT}": "rounded<{mode}>({b}, -1.0f, {a})",
    rf"fma\.(?P<mode>rz|rm|rp)\.{FLOAT}": "rounded<{mode}>({a}, {b}, {c})",
    rf"div\.rn\.{REAL}": "{a} / {b}",
    rf"rcp\.rn\.{REAL}": "{t}(1) / {a}",
    rf"sqrt\.rn\.{REAL}": "std::sqrt({a})",
    rf"neg\.{REAL}": "-{a}",
    rf"abs\.{REAL}": "std::fabs({a})",
    rf"min\.{REAL}": "least({a}, {b})",
    rf"max\.{REAL}": "-least(-{a}, -{b})",
    rf"copysign\.{REAL}": "std::copysign({b}, {a})",
    # Rounded once here; hardware may be off by some 2^-22 of the value (ex2, lg2), a unit in the last place (rcp),
    # 2^-11 (tanh): a test that passes by less says nothing of hardware.
    rf"ex2\.approx\.{FLOAT}": "near_exp2({a})",
    rf"ex2\.approx\.ftz\.{FLOAT}": "flushed(near_exp2(flushed({a})))",
    rf"lg2\.approx\.{FLOAT}": "near_log2({a})",
    rf"lg2\.approx\.ftz\.{FLOAT}": "near_log2(flushed({a}))",
    rf"rcp\.approx\.ftz\.{FLOAT}": "flushed(1.0f / flushed({a}))",
    rf"rsqrt\.approx\.ftz\.{FLOAT}": "flushed((float)(1.0 / std::sqrt((double)flushed({a}))))",
    rf"tanh\.approx\.{FLOAT}": "near_tanh({a})",
    # from one type to another
    r"cvt\.(?P<to>[us](?:8|16|32|64))\.(?P<t>[us](?:8|16|32|64))": "{to}({a})",
    r"cvt\.rn\.(?P<to>f(?:32|64))\.(?P<t>[us](?:16|32|64))": "{to}({a})",
    r"cvt\.(?P<to>f64)\.(?P<t>f32)": "{to}({a})",
    r"cvt\.rn\.(?P<to>f32)\.(?P<t>f64)": "{to}({a})",
    r"cvt\.sat\.f32\.(?P<t>f32)": "saturated({a})",
    r"cvt\.(?P<mode>rni|rzi|rmi|rpi)\.(?P<to>f32|f64)\.(?P<t>(?P=to))": "{mode}({a})",
    r"cvt\.(?P<mode>rni|rzi|rmi|rpi)\.(?P<to>[us](?:32|64))\.(?P<t>f32|f64)": "whole<{to}>({mode}({a}))",
    # choices
    r"selp\.(?P<t>[busf](?:16|32|64))": "{c:pred} ? {a} : {b}",
    r"setp\.eq\.(?P<t>[busf](?:16|32|64))": "{a} == {b}",
    r"setp\.ne\.(?P<t>[bus](?:16|32|64))": "{a} != {b}",
    r"setp\.ne\.(?P<t>f(?:32|64))": "{a} < {b} || {a} > {b}",
    r"setp\.lt\.(?P<t>[usf](?:16|32|64))": "{a} < {b}",
    r"setp\.le\.(?P<t>[usf](?:16|32|64))": "{a} <= {b}",
    r"setp\.gt\.(?P<t>[usf](?:16|32|64))": "{a} > {b}",
    r"setp\.ge\.(?P<t>[usf](?:16|32|64))": "{a} >= {b}",
    # those that are true where a NaN is
    rf"setp\.equ\.{REAL}": "!({a} < {b} || {a} > {b})",
    rf"setp\.neu\.{REAL}": "!({a} == {b})",
    rf"setp\.ltu\.{REAL}": "!({a} >= {b})",
    rf"setp\.leu\.{REAL}": "!({a} > {b})",
    rf"setp\.gtu\.{REAL}": "!({a} <= {b})",
    rf"setp\.geu\.{REAL}": "!({a} < {b})",
    rf"setp\.num\.{REAL}": "{a} == {a} && {b} == {b}",
    rf"setp\.nan\.{REAL}": "!({a} == {a} && {b} == {b})",
    # from one window to another; that of the device is everybody's
    r"cvta\.to\.shared\.(?P<t>u64)": "within_shared({a})",
    r"cvta\.shared\.(?P<t>u64)": "from_shared({a})",
    r"cvta\.(?:to\.)?(?:global|const|local)\.(?P<t>u64)": "{a}",
}

Emitter = Callable[[Any, "re.Match[str]", list[str]], str]
STATEMENTS: dict[str, Emitter] = {}


def means(pattern: str) -> Callable[[Emitter], Emitter]:
    """The decorated function returns the C++ of such an instruction in a body: of the match and the operands."""

    def keep(emitter: Emitter) -> Emitter:
        STATEMENTS[pattern] = emitter
        return emitter

    return keep


class Operand:
    """An operand in a template of EXPRESSIONS."""

    def __init__(self, body: Any, text: str, kind: str) -> None:
        self.body, self.text, self.kind = body, text, kind

    def __format__(self, kind: str) -> str:
        return self.body.value(kind or self.kind, self.text)


def _expression(template: str) -> Emitter:
    wanted = set(re.findall(r"{([abcd])[:}]", template))

    def emit(body: Any, match: re.Match[str], operands: list[str]) -> str:
        target, *given = expect(operands, 1 + len(wanted))
        told = {name: Operand(body, text, match["t"]) for name, text in zip("abcd", given, strict=False)}
        kind = "pred" if match[0].startswith("setp") else match.groupdict().get("to") or match["t"]
        return body.put(target, kind, template.format(**{**match.groupdict(), **told}))

    return emit


def expect(operands: list[str], count: int) -> list[str]:
    """Return the operands, which must be so many."""
    if len(operands) != count:
        raise PtxError(f"{len(operands)} operands, and not {count}")
    return operands


# ---- memory ----------------------------------------------------------------------------------------------------------

ACCESS = r"(?:\.(?P<space>global|shared|const|local|param))?(?:\.v(?P<count>[24]))?\.(?P<t>[busf](?:8|16|32|64))"


def _listed(operand: str, match: re.Match[str]) -> list[str]:
    return expect(parts(operand.strip("{}")), int(match["count"] or 1))


@means(rf"ld{ACCESS}")
def load(body: Any, match: re.Match[str], operands: list[str]) -> str:
    target, place = expect(operands, 2)
    targets = _listed(target, match)
    kind = match["t"].replace("f", "b")  # bits as they are
    read = f"load<{kind}, {len(targets)}>({body.place(match['space'], place)})"
    return f"const auto v = {read};" + "".join(body.put(t, kind, f"v.values[{i}]") for i, t in enumerate(targets))


@means(rf"st{ACCESS}")
def store(body: Any, match: re.Match[str], operands: list[str]) -> str:
    place, source = expect(operands, 2)
    kind = match["t"].replace("f", "b")
    values = [f"{kind}({body.value(kind, v)})" for v in _listed(source, match)]
    return f"store<{kind}, {len(values)}>({body.place(match['space'], place)}, {{{', '.join(values)}}});"


@means(r"cp\.async\.(?P<cache>c[ag])\.shared\.global")
def copy_async(body: Any, match: re.Match[str], operands: list[str]) -> str:
    to, source, size, taken = expect(operands, 4)
    if (match["cache"], size) not in (("cg", "16"), ("ca", "4")):
        raise PtxError(f"an asynchronous copy of {size} bytes")
    places = f"{body.place('shared', to)}, [&] {{ return {body.place('global', source)}; }}"
    return f"copy<{int(size) // 4}>({places}, {body.value('u32', taken)});"


@means(r"cp\.async\.commit_group")
def close_group(body: Any, match: re.Match[str], operands: list[str]) -> str:
    expect(operands, 0)
    return "copies_close();"


@means(r"cp\.async\.wait_group")
def wait_group(body: Any, match: re.Match[str], operands: list[str]) -> str:
    (pending,) = expect(operands, 1)
    return f"copies_wait<{int(pending)}>();"


@means(r"griddepcontrol\.(?:wait|launch_dependents)")
def dependence(body: Any, match: re.Match[str], operands: list[str]) -> str:
    """Nothing: here a launch begins when the one before it has ended."""
    expect(operands, 0)
    return ""


# What the blocks of a launch hand each other numbers with: these alone, in these orders and scopes.


def _told(function: str, kind: str) -> Emitter:
    """Return the emitter of an instruction that tells others a value of this type."""

    def told(body: Any, match: re.Match[str], operands: list[str]) -> str:
        place, value = expect(operands, 2)
        return f"{function}({body.place('global', place)}, {body.value(kind, value)});"

    return told


def _seen(function: str, kind: str) -> Emitter:
    """Return the emitter of an instruction that sees what others told."""

    def seen(body: Any, match: re.Match[str], operands: list[str]) -> str:
        target, place = expect(operands, 2)
        return body.put(target, kind, f"{function}({body.place('global', place)})")

    return seen


means(r"st\.relaxed\.gpu\.global\.b128")(_told("post_packet", "b128"))
means(r"ld\.relaxed\.gpu\.global\.b128")(_seen("see_packet", "b128"))
means(r"red\.release\.gpu\.global\.add\.u32")(_told("count_release", "u32"))
means(r"ld\.acquire\.gpu\.global\.u32")(_seen("count_acquire", "u32"))


# ---- registers -------------------------------------------------------------------------------------------------------


@means(r"mov\.(?P<t>[busf](?P<bits>16|32|64)|b(?P<wide>128)|pred)")
def move(body: Any, match: re.Match[str], operands: list[str]) -> str:
    """A value, or two halves that become one, or one that becomes two."""
    target, source = expect(operands, 2)
    bits = int(match["bits"] or match["wide"] or 0)
    half, whole = f"b{bits // 2}", f"b{bits}"
    if target.startswith("{"):
        low, high = expect(parts(target.strip("{}")), 2)
        halves = f"const auto v = halves({body.value(whole, source)});"
        return halves + body.put(low, half, "v.low") + body.put(high, half, "v.high")
    if source.startswith("{"):
        low, high = (f"{half}({body.value(half, part)})" for part in expect(parts(source.strip("{}")), 2))
        return body.put(target, whole, f"joined({low}, {high})")
    return body.put(target, match["t"], body.value(match["t"], source))


# ---- between threads, and where to go on -----------------------------------------------------------------------------


@means(r"(?:bar|barrier)\.sync(?:\.aligned)?")
def barrier(body: Any, match: re.Match[str], operands: list[str]) -> str:
    (number,) = expect(operands, 1)
    _only_barrier(number)
    return f"meet_at({body.site()});"


@means(r"(?:bar|barrier)\.red(?:\.aligned)?\.(?P<how>or|and)\.pred")
def vote(body: Any, match: re.Match[str], operands: list[str]) -> str:
    target, number, given = expect(operands, 3)
    _only_barrier(number)
    no = "!" if match["how"] == "and" else ""  # all do where none does not
    voted = f"{no}vote_at({body.site()}, {no}{body.value('pred', given)})"
    return body.put(target, "pred", voted)


def _only_barrier(number: str) -> None:
    if number != "0":
        raise PtxError(f"barrier {number}")


@means(r"shfl\.sync\.bfly\.b32")
def shuffle(body: Any, match: re.Match[str], operands: list[str]) -> str:
    targets, *given = expect(operands, 5)
    value, *told = (body.value("b32", text) for text in given)
    target, _, within = targets.partition("|")
    swapped = f"const auto v = swapped_at({body.site()}, {', '.join((value, *told))});"
    return swapped + body.put(target, "b32", "v.value") + (body.put(within, "pred", "v.within") if within else "")


@means(r"bra(?:\.uni)?")
def branch(body: Any, match: re.Match[str], operands: list[str]) -> str:
    (label,) = expect(operands, 1)
    return f"goto {body.label(label)};"


@means(r"brx\.idx(?:\.uni)?")
def branch_by_table(body: Any, match: re.Match[str], operands: list[str]) -> str:
    index, table = expect(operands, 2)
    cases = "".join(f"case {i}: goto {body.label(to)};" for i, to in enumerate(body.table(table)))
    return f'switch ({body.value("u32", index)}) {{ {cases} default: fail("a branch beyond its table"); }}'


@means(r"call(?:\.uni)?")
def call(body: Any, match: re.Match[str], operands: list[str]) -> str:
    result = body.parameter(operands.pop(0).strip("() ")) + " = " if operands[0].startswith("(") else ""
    name, *given = operands
    arguments = [body.parameter(a) for a in parts(given[0].strip("() "))] if given else []
    return f"{result}{body.function_named(name, len(arguments))}({', '.join(arguments)});"


@means(r"ret|exit")
def leave(body: Any, match: re.Match[str], operands: list[str]) -> str:
    expect(operands, 0)
    if match[0] == "exit" and not body.entry:
        raise PtxError("an exit from within a function")
    return body.leave()


@means(r"trap")
def trap(body: Any, match: re.Match[str], operands: list[str]) -> str:
    expect(operands, 0)
    return 'fail("a trap");'


RULES = [
    *((re.compile(pattern), _expression(template)) for pattern, template in EXPRESSIONS.items()),
    *((re.compile(pattern), emitter) for pattern, emitter in STATEMENTS.items()),
]


def meaning(body: Any, opcode: str, operands: list[str]) -> str:
    """Return the C++ of an instruction; PtxError where no rule has the whole of its opcode."""
    for pattern, emitter in RULES:
        if match := pattern.fullmatch(opcode):
            return emitter(body, match, operands)
    raise PtxError("no rule for this instruction with these modifiers")
