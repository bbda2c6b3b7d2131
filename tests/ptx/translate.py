"""PTX to C++ for the machine of `machine.h`: a register is a variable, a label a label, an instruction a statement."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ptx import module
from ptx.instructions import meaning
from ptx.module import Function, Instruction, Label, Module, PtxError, Text, Variable

SPECIAL = {
    "%tid.x": "u32(s.current)",
    "%ntid.x": "u32(s.threads)",
    "%ctaid.x": "u32(s.block->index % s.grid_x)",
    "%ctaid.y": "u32(s.block->index / s.grid_x)",
    "%nctaid.x": "u32(s.grid_x)",
}
REALS = {"f32": "b32", "f64": "b64"}
HINT = re.compile(r'\.pragma "(nounroll|used_bytes_mask \w+)"|\.loc .*')  # what does not change what is computed


def translated(text: str) -> str:
    """Return the C++ of a module, with a function run_NAME for each of its kernels."""
    parsed = module.parsed(text)
    lines = ['#include "machine.h"', "namespace ptx {", *_memory(parsed)]
    sites = itertools.count(1)
    bodies = [Body(parsed, function, sites) for function in parsed.functions]
    lines += [f"{body.signature()};" for body in bodies]
    for body in bodies:
        lines += body.lines()
    return "\n".join([*lines, "}  // namespace ptx", ""])


def _memory(parsed: Module) -> list[str]:
    """Return the definitions of the module's own variables in device memory, and a list of them."""
    lines, listed = [], []
    for variable in parsed.variables:
        if variable.space == "shared":
            continue
        size = variable.size or 0
        data = ", ".join(str(byte) for byte in variable.data)
        lines.append(f"alignas(16) static unsigned char {symbol(variable.name)}[{size}] = {{{data}}};")
        listed.append(f"remember_variable({symbol(variable.name)}, {size});")
    return [*lines, f"static const bool remembered = [] {{ {' '.join(listed)} return true; }}();"]


def symbol(name: str) -> str:
    """Return the C++ name of a PTX name that is no register's."""
    return "s_" + name.replace("$", "_").replace("%", "_")


@dataclass
class Body:
    """A function on its way to C++: what its names mean, scope by scope."""

    module: Module
    function: Function
    sites: Iterator[int]  # numbers for instructions at which threads meet
    registers: dict[str, str] = field(default_factory=dict)  # the types of those that are used, by their C++ names

    def __post_init__(self) -> None:
        self.entry = self.function.entry
        self._scopes: list[dict[str, str]] = [{}]  # by PTX name: the C++ name
        self._families: list[tuple[str, int, str]] = []  # %r<12>: "%r", 12, "b32"
        self._definitions: list[str] = []  # of what is declared in its statements
        self._objects: dict[str, Variable] = {}  # parameters and local arrays, by C++ name
        self._tables: dict[str, list[str]] = {}  # of labels to branch to
        self._label = ""  # the last
        self._shared: dict[str, str] = {}
        self._shared_size = 0
        self._numbered = 0
        for variable in self.module.variables:
            if variable.space == "shared":
                self._share(variable)
        for variable in (*self.function.parameters, self.function.result):
            if variable:
                self._name(variable)

    def signature(self) -> str:
        given = ", ".join(f"Bytes<{v.size}> {symbol(v.name)}" for v in self.function.parameters)
        result = f"Bytes<{self.function.result.size}>" if self.function.result else "void"
        return f"static {result} {symbol(self.function.name)}({given})"

    def lines(self) -> list[str]:
        """Return the function's definition."""
        done = [line for statement in self.function.statements for line in self._statement(statement)]
        name, result = symbol(self.function.name), self.function.result
        head = [f"{self.signature()} {{", *([f"Bytes<{result.size}> {symbol(result.name)};"] if result else [])]
        head += [f"{kind} {register} = poison<{kind}>();" for register, kind in self.registers.items()]
        lines = [*head, *self._definitions, *done, "}"]
        if self.entry:
            lines.append(
                f'extern "C" const char *run_{self.function.name}(void **values, const long long *shape, u64 seed) '
                f"{{ return run({name}, {self._shared_size}, values, shape, seed); }}"
            )
        return lines

    # ---- what instructions ask for ---------------------------------------------------------------------------------

    def value(self, kind: str, text: str) -> str:
        """Return an operand as a C++ value of a PTX type."""
        if text.startswith("!"):
            return f"!{self.value(kind, text[1:])}"
        if text in SPECIAL:
            return self._cast(kind, SPECIAL[text])
        if text.startswith("%") or self._find(text) in self.registers:
            return self._cast(kind, self._register(text))
        if re.fullmatch(r"-?(\d+|0[xX][0-9a-fA-F]+)U?", text):
            return self._cast(kind, f"{int(text.rstrip('U'), 0) % (1 << 64)}ull")
        if match := re.fullmatch(r"0([fF][0-9a-fA-F]{8}|[dD][0-9a-fA-F]{16})", text):
            return self._cast(kind, f"0x{match[1][1:]}ull")
        return self._cast(kind, self._address(text))

    def _cast(self, kind: str, bits: str) -> str:
        """Return what the bits are when they are taken for a PTX type."""
        if kind in REALS:
            return f"__builtin_bit_cast({kind}, {REALS[kind]}({bits}))"
        return bits if kind == "b128" else f"{kind}({bits})"

    def put(self, register: str, kind: str, value: str) -> str:
        """Return the statement that puts a value of a PTX type into a register."""
        if register == "_":
            return ""
        bits = f"__builtin_bit_cast({REALS[kind]}, {kind}({value}))" if kind in REALS else value
        return f"{self._register(register)} = {bits};"

    def place(self, space: str | None, text: str) -> str:
        """Return the place in memory that an operand [name+offset] is."""
        match = re.fullmatch(rf"\[ ?({module.NAME})(?: ?\+ ?(-?\d+))?(-\d+)? ?\]", text)
        if not match:
            raise PtxError(f"not a place: {text}")
        base, offset = match[1], int(match[2] or match[3] or 0)
        if space == "param":
            return f"within({self.parameter(base)}, {offset})"
        kind = "u32" if space == "shared" else "u64"
        window = {None: "generic", "const": "global"}.get(space, space)
        return f"{window}({self.value(kind, base)} + {kind}({offset}))"

    def parameter(self, name: str) -> str:
        """Return the C++ name of a parameter, of this function or of one that it calls."""
        found = self._find(name)
        if found not in self._objects:
            raise PtxError(f"no such parameter: {name}")
        return found

    def function_named(self, name: str, arguments: int) -> str:
        for function in self.module.functions:
            if function.name == name and not function.entry and len(function.parameters) == arguments:
                return symbol(name)
        raise PtxError(f"no such function: {name} of {arguments}")

    def label(self, name: str) -> str:
        return symbol(name)

    def table(self, name: str) -> list[str]:
        if name not in self._tables:
            raise PtxError(f"no such table: {name}")
        return self._tables[name]

    def site(self) -> int:
        """Return a number of its own for the instruction, by which the machine knows where threads meet."""
        return next(self.sites)

    def leave(self) -> str:
        return f"return {symbol(self.function.result.name)};" if self.function.result else "return;"

    # ---- statements ------------------------------------------------------------------------------------------------

    def _statement(self, statement: Instruction | Label | Text) -> list[str]:
        if isinstance(statement, Label):
            self._label = statement.name
            return [f"{symbol(statement.name)}:;"]
        if isinstance(statement, Text):
            return self._directive(statement.text)
        words = f"{statement.opcode} {', '.join(statement.operands)}"
        try:
            guard = f"if ({self.value('pred', statement.guard)}) " if statement.guard else ""
            return [f"{guard}{{ {meaning(self, statement.opcode, statement.operands)} }}"]
        except PtxError as error:
            raise PtxError(f"{self.function.name}: {words}: {error}") from None

    def _directive(self, text: str) -> list[str]:
        if text == "{":
            self._scopes.append({})
        elif text == "}":
            self._scopes.pop()
        elif match := re.fullmatch(r"\.reg \.(pred|[busf](?:16|32|64)|b128) (.+)", text):
            kind = "pred" if match[1] == "pred" else "b" + match[1][1:]
            for name in module.parts(match[2]):
                self._declare(name, kind)
        elif text.startswith((".param", ".shared", ".local")):
            return self._variable(module.variable(text))
        elif text.startswith(".branchtargets "):
            self._tables[self._label] = module.parts(text.removeprefix(".branchtargets "))
        elif not HINT.fullmatch(text):
            raise PtxError(f"{self.function.name}: no rule for this directive: {text}")
        return []

    def _variable(self, variable: Variable) -> list[str]:
        """Make room for an array; return what is done where it is declared: a parameter begins anew at each call."""
        if variable.space == "shared":
            self._share(variable)
            return []
        name = self._name(variable)
        self._definitions.append(f"{'Local' if variable.space == 'local' else 'Bytes'}<{variable.size}> {name};")
        return [f"{name} = {{}};"] if variable.space == "param" else []

    def _declare(self, name: str, kind: str) -> None:
        if match := re.fullmatch(r"(%\w+)<(\d+)>", name):
            self._families.append((match[1], int(match[2]), kind))
        else:
            self._numbered += 1
            self._scopes[-1][name] = unique = f"r_{name.strip('%$')}_{self._numbered}"
            self.registers[unique] = kind

    def _name(self, variable: Variable) -> str:
        """Give a parameter or local array a C++ name: what stands in a scope may be there again in another."""
        name = symbol(variable.name)
        if len(self._scopes) > 1:
            self._numbered += 1
            name = f"{name}_{self._numbered}"
        self._scopes[-1][variable.name] = name
        self._objects[name] = variable
        return name

    def _share(self, variable: Variable) -> None:
        """Give a shared array its place; what the launch asks for comes after all others."""
        if variable.size is None:
            self._shared[variable.name] = "dynamic_start()"
            return
        start = -(-self._shared_size // variable.align) * variable.align
        self._shared[variable.name] = str(start)
        self._shared_size = start + variable.size

    def _find(self, name: str) -> str | None:
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _register(self, name: str) -> str:
        found = self._find(name)
        if found in self.registers:
            return found
        match = re.fullmatch(r"(%[a-zA-Z_]+)(\d+)", name)
        for family, count, kind in self._families if match else ():
            if match[1] == family and int(match[2]) < count:
                unique = "r_" + name[1:]
                self.registers[unique] = kind
                return unique
        raise PtxError(f"no such register: {name}")

    def _address(self, name: str) -> str:
        if name in self._shared:
            return f"u64({self._shared[name]})"
        found = self._find(name)
        if found in self._objects and self._objects[found].space == "local":
            return f"u64({found}.bytes)"
        if any(v.name == name and v.space in ("global", "const") for v in self.module.variables):
            return f"u64({symbol(name)})"
        raise PtxError(f"no such name: {name}")
