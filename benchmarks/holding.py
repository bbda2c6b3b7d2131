"""An instruction set that everybody is held to: gpumlp by GPUMLP_CPU, its peers and their libraries by theirs.

That a variable works was looked at: threadpoolctl names OpenBLAS's kernels, PyTorch its capability and the one that
Inductor compiles for, oneDNN its instructions (ONEDNN_VERBOSE), NumPy its features. MKL, in PyTorch, has nothing to be
held to: on AMD's processors it takes AVX2 by itself. XLA's flag holds what it compiles, and not YNNPACK, which makes
its products and looks at the processor: 257 GFLOP/s of one core at 1024 cubed with the flag and without, where AVX2's
peak is 131. Without YNNPACK it is 106 to 120, and small networks are slower than by it on a processor with AVX2 alone,
most likely: so that is a row of its own, and JAX as it is, which uses AVX-512, is what gpumlp is compared to.
"""

from __future__ import annotations

import os

NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="
# The widest set that a library knows is what it takes by itself, so that there is nothing to set for it.
VARIABLES: dict[str, dict[str, str]] = {
    "avx512": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    },
    "sse4": {},
    "neon": {},
}
HERE = "GPUMLP_CPU"


def variables() -> dict[str, str]:
    """Return the variables that hold a process of anybody's to the set of this one."""
    name = os.environ.get(HERE)
    return {HERE: name, **VARIABLES[name]} if name else {}


def hold(name: str | None) -> str | None:
    """Hold the processes that are started from now on to a set, or to none.

    Returns why they cannot be held to it, None where they can.
    """
    from gpumlp.backends import instruction_set

    if name and name not in instruction_set.available():
        return f"{name}: not measured, as this processor has only {', '.join(instruction_set.available())}"
    for variable in (HERE, *(v for variables in VARIABLES.values() for v in variables)):
        os.environ.pop(variable, None)
    if name:
        os.environ.update({HERE: name, **VARIABLES[name]})
    return None


def instructions() -> str:
    """Return the name of the set that processes are held to, or of the best that this processor has."""
    from gpumlp.backends import instruction_set

    return os.environ.get(HERE) or next(iter(instruction_set.available()), "unknown")
