"""Which Program runs a network: by the device, the kernels asked for, and, on the CPU, how long the job is.

On the CPU, compiled kernels are several times faster than NumPy, and the first fit on a machine that uses them waits
for a compiler. So a job that NumPy does in a moment is left to it. What decides is an estimate, made of the network and
of how many steps were asked for, not a clock, nor what this process or this machine has compiled before: the same
program takes the same kernels every time, and so computes the same bits.
"""

from __future__ import annotations

import contextlib
from typing import Any

from gpumlp.engine.arena import Stretches
from gpumlp.engine.network import Network
from gpumlp.engine.program import LoopProgram
from gpumlp.errors import DeviceUnavailable, warn_once

LONG = 5.0  # seconds of NumPy, by the estimate, from which on a model's work is worth a compiler
# What NumPy needs on one slow core: per step, per operation of a step, per number computed, per parameter updated.
STEP, OPERATION, NUMBER, PARAMETER = 1e-4, 2e-5, 2e-11, 1.2e-9


def numpy_seconds(network: Network, batch: int, training: bool) -> float:
    """Return about how long NumPy takes for a batch: a step of training, or the way forward."""
    numbers = 2 * network.products * batch
    if not training:
        return OPERATION * len(network.ops) + NUMBER * numbers
    return STEP + 2 * OPERATION * len(network.ops) + 3 * NUMBER * numbers + PARAMETER * network.parameters


def make_program(network: Network, arena: Stretches, batch: int, kernels: str = "numpy", seconds: float = 0.0) -> Any:
    """Return a Program for the arena's backend, for at most ``batch`` samples.

    On a GPU: the whole-fit kernel, or graphs, where launches can be recorded. On the CPU: what ``kernels`` says, and
    for "auto" compiled kernels from LONG ``seconds`` of NumPy on; where these cannot be had, NumPy, with a warning if
    there is a compiler. DeviceUnavailable where ``kernels`` asks for what cannot be had.
    """
    backend = arena.backend
    if getattr(backend, "records", False):
        from gpumlp.engine.fit_program import FitProgram  # not loaded for those who compute on a CPU

        return FitProgram(network, arena, backend, batch)
    program = None if backend.name != "numpy" else _compiled(network, arena, batch, kernels, seconds)
    return program if not isinstance(program, str | None) else _looping(network, arena, batch, program)


def _looping(network: Network, arena: Stretches, batch: int, why: str | None) -> LoopProgram:
    program = LoopProgram(network, arena, arena.backend, batch)
    program.why = why or ""
    return program


def prepare(network: Network, dtype: Any, backend: Any, kernels: str, seconds: float) -> None:
    """Have the compiled kernels ready, where `make_program` would wait for them: it is called while others wait."""
    if backend.name == "numpy" and _why_not(network, dtype, kernels, seconds) is None:
        from gpumlp.backends import native

        with contextlib.suppress(DeviceUnavailable):  # which is for `make_program` to say
            if kernels != "auto" or not native.problem():
                native.functions()


def _why_not(network: Network, dtype: Any, kernels: str, seconds: float) -> str | None:
    """Return why compiled kernels are not for this, in words; None where they are."""
    if kernels == "numpy":
        return "GPUMLP_KERNELS=numpy"
    if not network.ops:
        return "there is nothing to compute"
    if dtype != "float32":
        return f"compiled kernels compute in float32, the model in {dtype}"
    if kernels == "auto" and seconds < LONG:
        return (
            f"the work asked for takes NumPy about {seconds:.1g} s, and from {LONG:g} s on kernels are compiled "
            "(GPUMLP_KERNELS=numba compiles them for any)"
        )
    return None


def _compiled(network: Network, arena: Stretches, batch: int, kernels: str, seconds: float) -> Any:
    """Return the Program of compiled steps, or in words why it is not to be."""
    if why := _why_not(network, arena.dtype, kernels, seconds):
        return why
    from gpumlp.backends import native, team
    from gpumlp.engine.compiled_program import CompiledProgram

    try:
        if kernels == "auto" and (problem := native.problem()):
            return problem.rstrip(".")
        return CompiledProgram(network, arena, batch, native.functions(), team.team())
    except DeviceUnavailable as error:
        if kernels != "auto":
            raise
        warn_once("no compiled kernels", f"gpumlp trains with NumPy, which is slower: {error}")
        return str(error).rstrip(".")
