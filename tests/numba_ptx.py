"""Every Numba kernel compiled to PTX as for a GPU, without one: it takes NVVM, and a device that is only a number.

`test_numba_kernels.py` runs this file in a process of its own, as it gives numba-cuda that device. Nothing may be
double: one plain literal takes its whole expression along. With two arguments, the first is replaced by the second in
the kernels' text.
"""

import re
import sys
import types

import formula_cases
import numba
import numba.cuda.api
import numba.cuda.codegen
import numba.cuda.compiler
import numba.cuda.dispatcher
import numpy as np
from host.runtime import HostRuntime
from numba import cuda
from numba.cuda.cudadrv import devices, nvvm

from gpumlp import activations, check, kernel_sources
from gpumlp.backends.numba_backend import NumbaBackend, made_of

DEVICE = types.SimpleNamespace(compute_capability=(9, 0), id=0)


def without_a_driver():
    """Give numba-cuda a current device."""
    devices.get_context = lambda number=None: types.SimpleNamespace(device=DEVICE)
    for module in (numba.cuda, cuda.api, cuda.codegen, cuda.compiler, cuda.dispatcher):
        if hasattr(module, "get_current_device"):
            module.get_current_device = lambda: DEVICE


def type_of(a):
    """Return what Numba calls an argument, as `NumbaBackend` hands it over."""
    if isinstance(a, tuple):
        return numba.types.UniTuple(type_of(a[0]), len(a)) if a else numba.types.Tuple(())
    if isinstance(a, np.ndarray):
        return numba.types.Array(getattr(numba.types, str(a.dtype)), a.ndim, "C")
    if isinstance(a, np.generic):
        return getattr(numba.types, str(a.dtype))
    return numba.types.int64 if isinstance(a, int) else numba.types.float32


class Compiling(NumbaBackend):
    """A backend that compiles what it would launch."""

    def __init__(self):
        super().__init__(HostRuntime())
        self.compiled, self.double = {}, []

    def _launch(self, kernel, grid, block, *arguments):
        signature = tuple(map(type_of, arguments))
        if (kernel, signature) not in self.compiled:
            ptx, _ = cuda.compile(kernel.py_func, signature, cc=(9, 0), device=False, abi="numba", output="ptx")
            self.compiled[kernel, signature] = ptx
            if re.search(r"\.f64\b", re.sub(r"_Z\w+", "", ptx)):
                self.double.append(f"{kernel.py_func.__name__} of {arguments}"[:200])


def main(*change):
    try:
        nvvm.NVVM()
    except Exception as error:
        print(f"no NVVM: {error}")
        return 3
    without_a_driver()
    on = Compiling()
    if change:
        text = kernel_sources.source("numba_cuda.py")
        assert change[0] in text
        on.kernels = made_of(text.replace(*change), "numba_cuda.py")
    cases = [*check.dense_sweep([(3, 17, 5)]), *check.other_cases(small=True)]
    for case in [*cases, *check.activation_cases((3, 17), activations.softmax)]:
        check.outputs(case, on, case.inputs(np.random.default_rng(0)))
    for case in formula_cases.all_cases():
        formula_cases.by_operation(case, case.inputs(np.random.default_rng(0)), on)
    names = {kernel.py_func.__name__ for kernel, _ in on.compiled}
    print(f"{len(on.compiled)} kernels: {', '.join(sorted(names))}", *on.double, sep="\n")
    return 1 if on.double or len(names) < 14 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
