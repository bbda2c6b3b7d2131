"""Which Program runs a network: by the device, the kernels asked for, and, on the CPU, what came with the package.

On the CPU, compiled kernels run wherever they can be had, whatever the job: so the same program computes the same bits,
whether it trains for a moment or for hours, and whatever this process or this machine has done before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import DType
from gpumlp.engine.arena import Stretches
from gpumlp.engine.network import Network
from gpumlp.engine.program import LoopProgram, Program
from gpumlp.errors import DeviceUnavailable, note_once, warn_once
from gpumlp.formulas import Formula
from gpumlp.gate import loading
from gpumlp.losses import Loss
from gpumlp.metrics import Metric, of_host
from gpumlp.optimizers import Optimizer

if TYPE_CHECKING:
    from gpumlp.backends.native import Kernels
    from gpumlp.engine.share import Share

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

    ``general``: by the LoopProgram, on a GPU too. ``lacks``: kernels would be faster, and are not there. ``ranks``: the
    steps are those of shards, which ranks share.
    """

    functions: Kernels | None = None
    why: str = ""
    general: bool = False
    lacks: bool = False
    ranks: bool = False

    @property
    def kind(self) -> tuple[object, ...]:
        """By which its Program is known among those of a model."""
        found = self.functions is not None, self.general
        return ("ranks", *found) if self.ranks else found


class Judged(NamedTuple):
    """What a job computes beside the network: a loss and metrics of targets of ``width``; an optimizer, to train."""

    loss: Loss
    metrics: list[Metric]
    width: int
    optimizer: Optimizer | None = None

    @property
    def rule(self) -> str | tuple[Formula, dict[str, float]] | None:
        """The optimizer's formula, and its numbers; in words why there is none."""
        of = self.optimizer
        return None if of is None else of._once("rule", lambda: of.apart or (of.formula, of.numbers))


def fitting(choice: Choice, optimizer: Optimizer, backend: Backend) -> Choice:
    """Return the Choice for steps with ``optimizer`` as it is now, which may have no formula for kernels."""
    special = not choice.ranks and (choice.functions is not None or backend.recorder is not None)
    return Choice(why=optimizer.apart, general=True, lacks=True) if special and optimizer.apart else choice


def fit_for(choice: Choice, network: Network, backend: Backend, judged: Judged | None) -> Choice:
    """Return the Choice, or the LoopProgram for what graphs or compiled kernels have not.

    The host computes metrics of outputs, which graphs do not keep; kernels go back from samples before they know all of
    a batch; and a sample has one row of outputs, unless it does not matter: each output is judged alone.
    """
    if judged is not None and judged.loss.of_batch:
        return Choice(why=f"the loss {judged.loss.name} is of a whole batch", general=True, lacks=True)
    if judged is None or (backend.recorder is None and (choice.functions is None or network.rows == 1)):
        return choice
    why = of_host(judged.metrics) if backend.recorder is not None else ""
    parts: list[Loss | Metric] = [judged.loss, *judged.metrics] if network.rows > 1 else []
    if whole := [of.name for of in parts if not getattr(getattr(of, "function", None), "elementwise", False)]:
        why = f"{', '.join(whole)} of each of a sample's {network.rows} rows of outputs"
    return Choice(why=why, general=True, lacks=True) if why else choice


def ready(choice: Choice, network: Network, judged: Judged | None, kernels: str) -> Choice:
    """Return the Choice for a job, once machine code of all its formulas is there: nothing is compiled in the gate.

    Where it cannot be had: see `choose`.
    """
    try:
        from gpumlp.backends import native
        from gpumlp.engine import compiled_program
    except ImportError as error:
        raise RuntimeError("The interpreter ends, and loads nothing for new work any more.") from error
    assert choice.functions is not None
    try:
        native.formula_addresses(compiled_program.codes(network, judged), choice.functions.instructions)
    except NotImplementedError as error:
        return Choice(why=str(error))
    except DeviceUnavailable as error:
        return _without(error, kernels)
    return choice


def _without(error: DeviceUnavailable, kernels: str) -> Choice:
    """Return the Choice of NumPy, with a warning, unless ``kernels`` asks for others: then raise the error."""
    if kernels != "auto":
        raise error
    warn_once("no compiled kernels", f"gpumlp trains with NumPy, which is slower: {error}")
    return Choice(why=str(error).rstrip("."))


def choose(network: Network, dtype: DType, backend: Backend, kernels: str) -> Choice:
    """Return the Choice: what ``kernels`` says, and for "auto" compiled kernels wherever they can be had.

    Kernels that did not come with the package, and are not there yet, are compiled here, which takes seconds: nobody
    may be kept waiting for it. Where they cannot be had it is NumPy, with a line in the log if nothing is there to
    compile them, otherwise with a warning. DeviceUnavailable where ``kernels``, or GPUMLP_CPU, asks for what cannot be
    had.
    """
    if backend.name != "numpy":
        return Choice()
    if why := _why_not(network, dtype, kernels):
        return Choice(why=why)
    with loading():  # a module that is being imported is locked
        from gpumlp.backends import native, team
        from gpumlp.engine import compiled_program

    if names := network.beyond(compiled_program.KERNELS):
        return Choice(why=f"no compiled kernel for {names}", lacks=True)
    team.team()  # a bad GPUMLP_THREADS is told before anything is compiled
    if kernels == "auto" and (problem := native.problem()):
        return Choice(why=problem.rstrip("."), lacks=True)
    try:
        return Choice(native.functions())
    except DeviceUnavailable as error:
        return _without(error, kernels)


def _why_not(network: Network, dtype: DType, kernels: str) -> str:
    """Return why compiled kernels are not for this, in words; nothing where they are."""
    if kernels == "numpy":
        return "GPUMLP_KERNELS=numpy"
    if not network.ops:
        return "there is nothing to compute"
    if dtype != "float32":
        return f"compiled kernels compute in float32, the model in {dtype}"
    return ""


def over_ranks(choice: Choice, network: Network, backend: Backend, judged: Judged) -> tuple[Choice, Judged]:
    """Return by what a rank's shards are to run, and what is computed of them.

    NotImplementedError for what ranks cannot share.
    """
    if judged.loss.of_batch:
        raise NotImplementedError(
            f"Ranks cannot share the loss {judged.loss.name}: it is of a whole batch. Train without distributed=, or "
            "on the mean of what a loss is for each sample."
        )
    from gpumlp.engine import rank_program  # not loaded for those who train here alone

    rank_program.refuse(network, judged.optimizer)
    if judged.optimizer is not None:
        judged = judged._replace(optimizer=rank_program.Gathering())
    return (replace(choice, general=True) if backend.runtime is not None else choice), judged


def make_program(network: Network, arena: Stretches, batch: int, choice: Choice, share: Share | None = None) -> Program:
    """Return a Program for the arena's backend, for at most ``batch`` samples; over ranks for one rank's ``share``.

    On a GPU the whole-fit kernel, or graphs, where launches can be recorded, and all operations are launches; on the
    CPU what ``choice`` says. Where kernels lack for something, a line in the log says so, once for each reason.
    """
    if share is not None:
        from gpumlp.engine.rank_program import RankProgram, Shards, rows_of

        inner = make_program(network.bare(), arena, rows_of(batch), replace(choice, ranks=False))
        return RankProgram(network, share, batch, cast(Shards, inner))  # no whole fit: see `over_ranks`
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
