"""Which Program runs a network: by the device, the kernels asked for, and, on the CPU, how long the job is.

On the CPU, compiled kernels are several times faster than NumPy, and the first fit on a machine that uses them waits
for a compiler. So a job that NumPy does in a moment is left to it. What decides is an estimate, made of the network and
of how many steps were asked for, not a clock, nor what this process or this machine has compiled before: the same
program takes the same kernels every time, and so computes the same bits.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gpumlp.backends.contract import Backend
from gpumlp.engine.arena import Stretches
from gpumlp.engine.network import Network
from gpumlp.engine.program import LoopProgram, Program
from gpumlp.errors import DeviceUnavailable, note_once, warn_once
from gpumlp.losses import Loss
from gpumlp.metrics import Metric, of_host
from gpumlp.optimizers import Optimizer

if TYPE_CHECKING:
    from gpumlp.backends.native import Kernels

LONG = 5.0  # seconds of NumPy, by the estimate, from which on a model's work is worth a compiler
# What NumPy needs on one slow core: per step, per operation of a step, per number computed, per parameter updated.
STEP, OPERATION, NUMBER, PARAMETER = 1e-4, 2e-5, 2e-11, 1.2e-9


def numpy_seconds(network: Network, batch: int, training: bool) -> float:
    """Return about how long NumPy takes for a batch: a step of training, or the way forward."""
    numbers = 2 * network.products * batch
    if not training:
        return OPERATION * len(network.ops) + NUMBER * numbers
    return STEP + 2 * OPERATION * len(network.ops) + 3 * NUMBER * numbers + PARAMETER * network.parameters


@dataclass(frozen=True)
class Choice:
    """By what the steps of a network run on the CPU: compiled kernels, or NumPy, and why.

    ``general``: by the LoopProgram, on a GPU too. ``lacks``: kernels were asked for, or worth it, and are not there.
    """

    functions: Kernels | None = None
    why: str = ""
    general: bool = False
    lacks: bool = False


class Judged(NamedTuple):
    """What a job computes beside the network: a loss and metrics of targets of ``width``; an optimizer, to train."""

    loss: Loss
    metrics: list[Metric]
    width: int
    optimizer: Optimizer | None = None

    @property
    def rule(self) -> Any:
        """The optimizer's formula, and its numbers; in words why there is none."""
        return self.optimizer and (self.optimizer.apart or (self.optimizer.formula, self.optimizer.numbers))


def fitting(choice: Choice, optimizer: Optimizer, backend: Backend) -> Choice:
    """Return the Choice for steps with ``optimizer`` as it is now, which may have no formula for kernels."""
    special = choice.functions is not None or backend.recorder is not None
    return Choice(why=optimizer.apart, general=True, lacks=True) if special and optimizer.apart else choice


def fit_for(choice: Choice, network: Network, backend: Backend, judged: Judged | None) -> Choice:
    """Return the Choice, or the LoopProgram for what graphs or compiled kernels have not.

    The host computes metrics of outputs, which graphs do not keep; and a sample has one row of outputs, unless it does
    not matter: each output is judged alone.
    """
    if judged is None or (choice.functions is None and backend.recorder is None):
        return choice
    why = of_host(judged.metrics) if backend.recorder is not None else ""
    parts: list[Any] = [judged.loss, *judged.metrics] if network.rows > 1 else []
    if whole := [of.name for of in parts if not getattr(getattr(of, "function", None), "elementwise", False)]:
        why = f"{', '.join(whole)} of each of a sample's {network.rows} rows of outputs"
    return Choice(why=why, general=True, lacks=True) if why else choice


def ready(choice: Choice, network: Network, judged: Judged | None, kernels: str) -> Choice:
    """Return the Choice for a job, once machine code of all its formulas is there: nothing is compiled in the gate.

    Where it cannot be had: see `choose`.
    """
    _check_not_ending()
    from gpumlp.backends import native
    from gpumlp.engine import compiled_program

    assert choice.functions is not None
    try:
        native.formula_addresses(compiled_program.codes(network, judged), choice.functions.instructions)
    except NotImplementedError as error:
        return Choice(why=str(error))
    except DeviceUnavailable as error:
        return _without(error, kernels)
    return choice


def _check_not_ending() -> None:
    """Raise RuntimeError for a finalizer that asks for other kernels when nothing can be imported any more."""
    if sys.is_finalizing():
        raise RuntimeError("The interpreter is ending, and no compiled kernels can be got ready any more.")


def _without(error: DeviceUnavailable, kernels: str) -> Choice:
    """Return the Choice of NumPy, with a warning, unless ``kernels`` asks for others: then raise the error."""
    if kernels != "auto":
        raise error
    warn_once("no compiled kernels", f"gpumlp trains with NumPy, which is slower: {error}")
    return Choice(why=str(error).rstrip("."))


def choose(network: Network, dtype: Any, backend: Backend, kernels: str, seconds: float) -> Choice:
    """Return the Choice for ``seconds`` of NumPy: what ``kernels`` says, and for "auto" compiled kernels from LONG on.

    Kernels that are not there yet are compiled here, which takes seconds: nobody may be kept waiting for it. Where they
    cannot be had it is NumPy, with a warning if there is a compiler. DeviceUnavailable where ``kernels`` asks for what
    cannot be had.
    """
    if backend.name != "numpy":
        return Choice()
    if why := _why_not(network, dtype, kernels, seconds):
        return Choice(why=why)
    _check_not_ending()
    from gpumlp.backends import instruction_set, native, team
    from gpumlp.engine import compiled_program

    if names := network.beyond(compiled_program.KERNELS):
        return Choice(why=f"no compiled kernel for {names}", lacks=True)
    team.team()  # a bad GPUMLP_THREADS is told before anything is compiled, as is
    instruction_set.chosen()  # a bad GPUMLP_CPU
    try:
        if kernels == "auto" and (problem := native.problem()):
            return Choice(why=problem.rstrip("."))
        return Choice(native.functions())
    except DeviceUnavailable as error:
        return _without(error, kernels)


def _why_not(network: Network, dtype: Any, kernels: str, seconds: float) -> str:
    """Return why compiled kernels are not for this, in words; nothing where they are."""
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
    return ""


def make_program(network: Network, arena: Stretches, batch: int, choice: Choice) -> Program:
    """Return a Program for the arena's backend, for at most ``batch`` samples.

    On a GPU the whole-fit kernel, or graphs, where launches can be recorded, and all operations are launches; on the
    CPU what ``choice`` says. Where kernels lack for something, a line in the log says so, once for each reason.
    """
    backend, why = arena.backend, choice.why
    if backend.runtime is not None:
        from gpumlp.engine import fit_program, graph_program  # not loaded for those who compute on a CPU

        names, recorder = network.beyond(graph_program.KERNELS), backend.recorder
        if recorder is not None and not names and not choice.general:
            return fit_program.FitProgram(graph_program.GraphProgram(network, arena, recorder, batch))
        why = why or (names and f"no {backend.name} kernel for {names}, which the array library computes")
    if choice.functions is not None:
        from gpumlp.backends import team
        from gpumlp.engine.compiled_program import CompiledProgram

        return CompiledProgram(network, arena, batch, choice.functions, team.team())
    program = LoopProgram(network, arena, backend, batch)
    program.why = why
    if why and (choice.lacks or backend.runtime is not None):
        note_once(f"gpumlp computes one operation after the other, which is slower: {why}.")
    return program
