"""The CPU's code for machines of another kind: it cannot run here, but what it defines and needs can be seen."""

import struct

from gpumlp import kernel_sources
from gpumlp.backends import kernel_compiler, llvm
from gpumlp.backends.disk_cache import symbols
from gpumlp.backends.instruction_set import SETS

OTHER = SETS["avx2" if SETS["avx2"].foreign else "neon"]
MACHINES = {"avx2": 62, "neon": 183}  # ELF's numbers


def test_the_kernels_are_compiled_for_a_machine_of_another_kind():
    code = kernel_compiler.compile_apart(kernel_sources.folder() / "cpu", OTHER).partition(b"\n")[2]
    assert code.startswith(b"\x7fELF") and struct.unpack_from("<H", code, 18)[0] == MACHINES[OTHER.name]
    defined, needs = symbols(code)
    assert {"gpumlp_run", "gpumlp_run_many"} <= defined and needs <= llvm.ALLOWED
