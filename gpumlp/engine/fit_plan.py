"""How the whole-fit kernel (kernels/fit.cu) trains a network: on how many blocks, and how long a step will take.

A plan is found by trying: every number of blocks and of threads that fits the chip is laid out, its step's time is
predicted (`gpumlp.engine.cost`), and the fastest is taken. Whatever is chosen, the bits are the same. Nothing here
needs a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gpumlp.activations import Activation
from gpumlp.backends.runtime import Chip, Defines
from gpumlp.backends.writer import is_sum, reads_columns
from gpumlp.engine import cost
from gpumlp.engine.arena import Stretches
from gpumlp.engine.fit_layout import WARP, Cut, Layout, Problem, Stage
from gpumlp.engine.network import Network
from gpumlp.engine.operations import ActivationOp, AffineOp, DenseOp, DropoutOp, Operation
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer

REGISTERS = 65536  # of a multiprocessor, dealt out to its four parts: a block's warps count in fours
MOST_REGISTERS = 255  # of a thread
WORKING = 62  # of them, what the work takes beside the optimizer's state and its numbers
PATIENCE = 1 << 24  # polls: some seconds, in which a block that others wait for would have come


@dataclass(frozen=True)
class Plan:
    """A launch: ``group`` blocks of ``threads`` for each model, ``shared`` bytes each; ``defines`` for the compiler."""

    group: int
    threads: int
    shared: int
    defines: Defines
    half: int  # packets of a step
    exchanges: int  # of a step
    series: int  # numbers of a step that are logged
    columns: int  # whose penalties are logged: 0 where there are none
    predicted: float  # seconds a step
    numbers: tuple[int, ...]  # the struct Numbers, as the kernel is given it
    scalars: int  # numbers of a step that the optimizer needs
    slots: int  # arrays of its state


def _add_dense(stages: list[Stage], op: DenseOp, is_first: bool) -> str:
    stages.append(Stage(op.inputs, op.outputs, op.activation, op.kernel, op.bias))
    return ""


def _add_activation(stages: list[Stage], op: ActivationOp, is_first: bool) -> str:
    if _is_linear(op.activation):
        return ""
    if not stages or not _is_linear(stages[-1].activation):
        return "it has an Activation layer that does not follow a linear Dense"
    stages[-1] = replace(stages[-1], activation=op.activation)
    return ""


def _add_dropout(stages: list[Stage], op: DropoutOp, is_first: bool) -> str:
    return "it has a Dropout layer" if op.rate else ""


def _add_affine(stages: list[Stage], op: AffineOp, is_first: bool) -> str:
    return "" if is_first else "it has a Rescaling layer after the first layer"  # the first is done at fetching a batch


# The operations that the kernel has, or does without: each adds to the stages, or says why it cannot.
KERNELS: dict[type[Operation], Callable[[list[Stage], Any, bool], str]] = {
    DenseOp: _add_dense,
    ActivationOp: _add_activation,
    DropoutOp: _add_dropout,
    AffineOp: _add_affine,
}


def stages_of(network: Network) -> tuple[Stage, ...] | str:
    """Return the network's layers as the kernel has them, or why it cannot."""
    if names := network.beyond(KERNELS):
        return f"it has nothing for {names}"
    stages: list[Stage] = []
    for op in network.ops:
        if why := KERNELS[type(op)](stages, op, op is network.ops[0]):
            return why
    if any(s.activation.formula.rowwise for s in stages[:-1]):
        return "it has an activation over rows, such as softmax, before its last layer"
    if stages and reads_columns(stages[-1].activation.formula.forward):
        return "its last layer's activation reads columns"
    return tuple(stages) or "it has no Dense layer"


def _is_linear(activation: Activation) -> bool:
    return activation.formula.forward.is_identity


def problem_of(
    network: Network, arena: Stretches, batch: int, loss: Loss, metrics: list[Metric], optimizer: Optimizer,
    targets: int, weighted: bool,
) -> Problem | str:  # fmt: skip
    """Return what is to be trained, or why the kernel cannot."""
    stages = stages_of(network)
    if isinstance(stages, str):
        return stages
    if optimizer.apart:
        return optimizer.apart
    regularizers = [penalty.formula for penalty in network.penalties if penalty]
    if any(f.only("dw").rowwise or not is_sum(f, "value") for f in regularizers):
        return "it has a penalty that is no sum over weights"
    return Problem(stages, arena, network, batch, loss, tuple(metrics), optimizer, targets, weighted)


def best_plan(problem: Problem, chip: Chip, tags: bool, models: int = 1) -> Plan | str:
    """Return the plan that trains ``models`` models at once in the least time, or why there is none."""

    def seconds(plan: Plan) -> float:
        return plan.predicted * -(-models // (chip.multiprocessors // plan.group))

    best = min(plans(problem, chip, tags, models), key=seconds, default=None)
    return best or "its weights, their optimizer's state and the activations of a batch do not fit on the chip"


def plans(problem: Problem, chip: Chip, tags: bool, models: int = 1) -> Iterator[Plan]:
    """Yield every plan that fits; each predicts its step with as many of the models at once as have room."""
    for group in _groups(problem, chip.multiprocessors):
        at_once = min(models, chip.multiprocessors // group)
        for most, threads in _threads(problem, group):
            cut = Cut(problem, group, threads, most)
            plan = _plan(cut, tags, chip.shared_bytes, cost.machine(chip), at_once)
            if plan is not None:
                yield plan


def _groups(problem: Problem, multiprocessors: int) -> list[int]:
    """Return the numbers of blocks to try: those that cut the widest layer differently, few per doubling."""
    widest = max((s.outputs for s in (problem.stages[:-1] if problem.is_whole(2) else problem.stages)), default=1)
    found = {-(-widest // columns) for columns in range(1, widest + 1) if columns <= 6 or columns & (columns - 1) == 0}
    return sorted(g for g in found | {1} if g <= multiprocessors)


def _threads(problem: Problem, group: int) -> list[tuple[int, int]]:
    """Return what to try: how many columns a thread updates at once, and among how many threads.

    The sizes of a block are those among which the largest update is dealt out evenly.
    """
    found: list[tuple[int, int]] = []
    for most in (2, 4):
        units = max(Cut(problem, group, 0, most).units(i) for i in range(len(problem.stages)))
        sizes = {-(-units // (each * WARP)) * WARP for each in range(1, 9)} | {128, 256, 512}
        found += [(most, size) for size in sorted(sizes) if 2 * WARP <= size <= 1024]
    return found


def _plan(cut: Cut, tags: bool, shared: int, machine: cost.Machine, models: int = 1) -> Plan | None:
    """Return the plan of this cut, for so many models at once, or None where it does not fit."""
    registers = min(MOST_REGISTERS, REGISTERS // (-(-cut.threads // (4 * WARP)) * 4 * WARP))
    if not cut.is_complete or cut.state_registers > registers - WORKING - len(cut.problem.optimizer.scalar_names):
        return None
    layout = Layout(cut, shared // 4, ahead=True)
    if 4 * layout.size > shared:
        layout = Layout(cut, shared // 4, ahead=False)
    if 4 * layout.size > shared:
        return None
    problem, (header, numbers, _) = cut.problem, cut.problem.made
    half = cut.triples * sum(s.outputs * sum(e) for s, e in zip(problem.stages, cut.exchanged, strict=True))
    columns = sum(s.outputs for s in problem.stages) if problem.penalties else 0
    lists = {**_properties(problem), **_places(cut, layout)}
    runs = _runs(lists, problem.last)
    lists["RUN_FIRST"], lists["RUN_COUNT"] = [run[0] for run in runs], [len(run) for run in runs]
    defines: dict[str, int | str] = {
        "THREADS": cut.threads, "RESIDENT": 1, "MOST_AT_ONCE": cut.most, "GROUP": cut.group, "TAGS": int(tags),
        "PATIENCE": PATIENCE, "LAST_IS_WHOLE": int(problem.is_whole(cut.group)), "AHEAD": int(layout.ahead),
        "RUNS": len(runs), "PACKETS": half, "PENALTIES": columns, "PREDICTIONS_AT": layout.predictions,
        "TARGETS_AT": layout.targets, "WEIGHTS_AT": layout.weights, "LOGS_AT": layout.logs, **_constants(problem),
        **{name: ", ".join(map(_literal, values)) for name, values in lists.items()}, **header,
    }  # fmt: skip
    seconds = cost.step_seconds(cut, layout, tags, machine, models)
    exchanges = sum(map(sum, cut.exchanged))
    return Plan(
        cut.group, cut.threads, 4 * layout.size, defines, half, exchanges, problem.series, columns, seconds, numbers,
        len(problem.optimizer.scalar_names), len(problem.optimizer.slots),
    )  # fmt: skip


def _constants(problem: Problem) -> dict[str, int | str]:
    """Return the kernel's single constants that do not depend on how the network is cut."""
    first = problem.network.ops[0]
    scale, offset = (float(first.scale), float(first.offset)) if isinstance(first, AffineOp) else (1.0, 0.0)
    return {
        "RESCALES": int(isinstance(first, AffineOp)), "SCALE": _literal(scale), "OFFSET": _literal(offset),
        "LAYERS": len(problem.stages), "BATCH": problem.batch, "TARGETS": problem.targets,
        "WEIGHTED": int(problem.weighted), "SERIES": problem.series,
        "MEETS": int(problem.kinds[-1].formula.rowwise and reads_columns(problem.loss.formula)),
        "DIVISOR_AT": problem.series - 1 if problem.counts_weights else 0,
    }  # fmt: skip


def _properties(problem: Problem) -> dict[str, list[int]]:
    """Return the layers' properties, and the metrics', by the kernel's names for them."""
    stages, offsets, trainable = problem.stages, problem.arena.offsets, problem.network.trainable
    penalties = problem.network.penalties
    sums = [problem.weighted and m.weighted for m in problem.metrics for _ in m.formula.roots]

    def penalty(place: int | None) -> int:
        found = None if place is None else penalties[place]
        return problem.penalties.index(found) if found else -1

    ends = [sum(s.outputs for s in stages[:i]) for i in range(len(stages))]
    return {
        "WIDTHS": [stages[0].inputs, *(s.outputs for s in stages)],
        "KINDS": [problem.kinds.index(s.activation) for s in stages],
        "NEEDS_Z": [int(s.needs_input) for s in stages],
        "TRAINS": [int(trainable[s.kernel]) + 2 * int(s.bias is not None and trainable[s.bias]) for s in stages],
        "BIASES": [int(s.bias is not None) for s in stages],
        "KERNEL_AT": [offsets[s.kernel] for s in stages],
        "BIAS_AT": [0 if s.bias is None else offsets[s.bias] for s in stages],
        "PENALTY_AT": ends,
        "KERNEL_PENALTIES": [penalty(s.kernel) for s in stages],
        "BIAS_PENALTIES": [penalty(s.bias) for s in stages],
        "SUMS_AT": [1 + i for i in range(len(sums))] or [0],
        "SUMS_WEIGHTED": [int(weighted) for weighted in sums] or [0],
    }


def _places(cut: Cut, layout: Layout) -> dict[str, list[int]]:
    """Return where a layer's arrays stand in shared memory, and its packets among a step's."""
    forward, backward, packets = [0] * len(layout.own), [0] * len(layout.own), 0
    for i, (stage, (out, back)) in enumerate(zip(cut.problem.stages, cut.exchanged, strict=True)):
        for places, wanted in ((forward, out), (backward, back)):
            if wanted:
                places[i], packets = packets, packets + cut.triples * stage.outputs
    return {
        "INPUTS_AT": layout.inputs, "OWN_AT": layout.own, "Z_AT": layout.z, "COLUMNS_AT": layout.columns,
        "ROWS_AT": layout.rows, "DELTA_AT": layout.delta, "OWN_DELTA_AT": layout.own_delta,
        "RELOADS": layout.reloads, "FORWARD_AT": forward, "BACKWARD_AT": backward,
    }  # fmt: skip


def _runs(lists: dict[str, list[int]], last: int) -> list[list[int]]:
    """Return the layers, cut into runs of layers that are alike, and that lie on layers that are alike.

    The lowest two and the last are runs of their own: what they hand on differs.
    """
    names = ["KINDS", "BIASES", "TRAINS", "KERNEL_PENALTIES", "BIAS_PENALTIES"]
    widths = lists["WIDTHS"]
    shapes = [(widths[i], widths[i + 1], *(lists[name][i] for name in names)) for i in range(last + 1)]
    runs: list[list[int]] = []
    for i in range(last + 1):
        if 2 < i < last and shapes[i] == shapes[i - 1] == shapes[i - 2]:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _literal(value: int | float) -> str:
    return f"{value!r}f" if isinstance(value, float) else str(value)
