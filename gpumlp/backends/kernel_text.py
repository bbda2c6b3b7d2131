"""The CPU's kernels in LLVM's language, as Numba writes them: each function once, neither optimised nor executed.

Numba compiles what is called next. It puts all that a function calls beside it, and again beside its callers, and makes
machine code of it each time; and a number that stands in a call makes another function of the one that is called. All
that is left out here, and so are passes over what kernels do not have: closures, ``with``, arrays. This module imports
Numba; `kernel_compiler` imports it where Numba is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from numba import int32, int64
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.dispatcher import Dispatcher
from numba.core.types import Type, unliteral

if TYPE_CHECKING:
    from llvmlite.binding import ModuleRef
    from numba.core.codegen import CPUCodegen
    from numba.core.compiler_machinery import PassManager

LEFT_OUT = {
    "WithLifting", "InlineClosureLikes", "MakeFunctionToJitFunction", "InlineInlinables", "InlineOverloads",
    "LiteralUnroll", "FindLiterallyCalls", "LiteralPropagationSubPipelinePass", "DeadBranchPrune", "NopythonRewrites",
}  # fmt: skip
# How a dispatcher's calls are typed: from the types of arguments to a template and what goes with it.
Typing = Callable[[tuple[Type, ...], dict[str, Type]], tuple[object, ...]]


def written(entries: Mapping[str, Any], functions: Iterable[object]) -> tuple[dict[str, str], list[str]]:
    """Return the entries' names in LLVM, and the code of all that is needed, a text a function.

    ``functions``: the package's, among other things; one that is not among them is compiled in Numba's own way,
    and may call none of them.
    """
    kernels: dict[int, Any] = {id(f): f for f in functions if isinstance(f, Dispatcher)}
    for function in kernels.values():
        function._compiler.pipeline_class = _Pipeline
        function.get_call_template = _any_number(function.get_call_template)
    names: dict[str, str] = {}
    libraries: dict[int, list[str]] = {}
    signature = int32(int64, int64)
    for name, entry in entries.items():
        entry.compile(signature)
        result = entry.overloads[signature.args]
        names[name] = result.fndesc.llvm_func_name
        _collect(result.library, libraries)
    return names, list(chain.from_iterable(libraries.values()))


def _any_number(template: Typing) -> Typing:
    """Return a dispatcher's method by which it is typed, for numbers of all values."""
    return lambda arguments, keywords: template(tuple(map(unliteral, arguments)), keywords)


def _collect(library: CPUCodeLibrary, found: dict[int, list[str]]) -> None:
    """Put the code of a library, and of all that it calls, into ``found``."""
    if id(library) not in found:
        if not isinstance(library, _Text):  # all that it calls is in it
            found[id(library)] = [library.get_llvm_str()]
            return
        found[id(library)] = library.texts
        for called in library._linking_libraries:
            _collect(called, found)


class _Text(CPUCodeLibrary):
    """A function's code, and what it calls: to Numba a library, which stands nowhere in memory."""

    def __init__(self, codegen: CPUCodegen, name: str) -> None:
        super().__init__(codegen, name)
        self.texts: list[str] = []

    def add_ir_module(self, ir_module: ModuleRef) -> None:
        self.texts.append(str(ir_module))

    def add_linking_library(self, library: CPUCodeLibrary) -> None:
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    @property
    def codegen(self) -> _Text:
        return self

    def set_env(self, name: str, environment: object) -> None:
        """Leave the name undefined: it stands for what Python needs."""


class _Pipeline(CompilerBase):
    """Numba's passes up to LLVM's code."""

    def define_pipelines(self) -> list[PassManager]:
        state = self.state
        state.library = _Text(state.targetctx.codegen(), state.func_id.func_qualname)
        passes = DefaultPassBuilder.define_nopython_pipeline(state)
        passes.passes = [entry for entry in passes.passes if entry[0].__name__ not in LEFT_OUT]
        passes.finalize()
        return [passes]
