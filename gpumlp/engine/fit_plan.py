"""How the whole-fit kernel (kernels/fit.cu) trains a network: on how many blocks, and how long a step will take.

A plan is found by trying: every number of blocks and of threads that fits the chip is laid out, its step's time is
predicted (`gpumlp.engine.cost`), and the fastest is taken. Whatever is chosen, the bits are the same. Nothing here
needs a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gpumlp import candidates
from gpumlp.backends.device_backend import activation_number, loss_number, metric_number
from gpumlp.backends.runtime import Chip, Defines
from gpumlp.engine import cost
from gpumlp.engine.arena import Stretches
from gpumlp.engine.fit_layout import WARP, Cut, Layout, Problem, Stage
from gpumlp.engine.network import Network
from gpumlp.engine.operations import ActivationOp, AffineOp, DenseOp, DropoutOp, Operation
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import SGD, Adam, Optimizer
from gpumlp.regularizers import L1L2

REGISTERS = 65536  # of a multiprocessor, dealt out to its four parts: a block's warps count in fours
MOST_REGISTERS = 255  # of a thread
WORKING = 64  # of them, what the work takes beside the optimizer's state
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


def _add_dense(stages: list[Stage], op: DenseOp, is_first: bool) -> str:
    stages.append(Stage(op.inputs, op.outputs, op.activation, op.kernel, op.bias))
    return ""


def _add_activation(stages: list[Stage], op: ActivationOp, is_first: bool) -> str:
    if op.activation.name == "linear":
        return ""
    if not stages or not stages[-1].activation.name == "linear":
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
    if any(s.activation.name == "softmax" for s in stages[:-1]):
        return "it has a softmax before its last layer"
    return tuple(stages) or "it has no Dense layer"


def problem_of(
    network: Network, arena: Stretches, batch: int, loss: Loss, metrics: list[Metric], optimizer: Optimizer,
    targets: int, weighted: bool,
) -> Problem | str:  # fmt: skip
    """Return what is to be trained, or why the kernel cannot."""
    stages = stages_of(network)
    if isinstance(stages, str):
        return stages
    if not isinstance(optimizer, Adam | SGD):
        return f"its optimizer is {type(optimizer).__name__}"
    return Problem(stages, arena, network, batch, loss, tuple(metrics), optimizer, targets, weighted)


def best_plan(problem: Problem, chip: Chip, tags: bool, models: int = 1) -> Plan | str:
    """Return the plan that trains ``models`` models at once in the least time, or why there is none."""
    machine = cost.machine(chip)
    best, least = None, 0.0
    for group in _groups(problem, chip.multiprocessors):
        at_once = chip.multiprocessors // group
        for most, threads in _threads(problem, group):
            cut = Cut(problem, group, threads, most)
            plan = _plan(cut, tags, chip.shared_bytes, machine, min(models, at_once))
            if plan is not None:
                seconds = plan.predicted * -(-models // at_once)
                if best is None or seconds < least:
                    best, least = plan, seconds
    return best or "its weights, their optimizer's state and the activations of a batch do not fit on the chip"


def _groups(problem: Problem, multiprocessors: int) -> list[int]:
    """Return the numbers of blocks to try: those that cut the widest layer differently, few per doubling."""
    widest = max((s.outputs for s in (problem.stages[:-1] if problem.is_whole(2) else problem.stages)), default=1)
    found = {-(-widest // columns) for columns in range(1, widest + 1) if columns <= 4 or columns & (columns - 1) == 0}
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
    if not cut.is_complete or cut.state_registers > registers - WORKING:
        return None
    layout = Layout(cut, shared // 4, ahead=True)
    if 4 * layout.size > shared:
        layout = Layout(cut, shared // 4, ahead=False)
    if 4 * layout.size > shared:
        return None
    problem, penalties = cut.problem, _penalties(cut.problem)
    half = cut.triples * sum(s.outputs * sum(e) for s, e in zip(problem.stages, cut.exchanged, strict=True))
    columns = sum(s.outputs for s in problem.stages) if any(sum(v) for v in penalties.values()) else 0
    lists = {**_properties(problem), **penalties, **_places(cut, layout)}
    runs = _runs(lists, problem.last)
    lists["RUN_FIRST"], lists["RUN_COUNT"] = [run[0] for run in runs], [len(run) for run in runs]
    defines: dict[str, int | str] = {
        "THREADS": cut.threads, "RESIDENT": 1, "MOST_AT_ONCE": cut.most, "GROUP": cut.group, "TAGS": int(tags),
        "WHOLE_SUMS": int("whole-sums" in candidates.chosen()),
        "PATIENCE": PATIENCE, "LAST_IS_WHOLE": int(problem.is_whole(cut.group)), "AHEAD": int(layout.ahead),
        "RUNS": len(runs), "PACKETS": half, "PENALTIES": columns, "PREDICTIONS_AT": layout.predictions,
        "TARGETS_AT": layout.targets, "WEIGHTS_AT": layout.weights, "LOGS_AT": layout.logs, **_constants(problem),
        **{name: ", ".join(map(_literal, values)) for name, values in lists.items()},
    }  # fmt: skip
    seconds = cost.step_seconds(cut, layout, tags, machine, models)
    exchanges = sum(map(sum, cut.exchanged))
    return Plan(
        cut.group, cut.threads, 4 * layout.size, defines, half, exchanges, problem.series, columns, seconds
    )  # fmt: skip


def _constants(problem: Problem) -> dict[str, int | str]:
    """Return the kernel's single constants that do not depend on how the network is cut."""
    optimizer, loss, weighted = problem.optimizer, problem.loss, int(problem.weighted)
    momentum = isinstance(optimizer, SGD) and bool(optimizer.slots)
    first = problem.network.ops[0]
    scale, offset = (float(first.scale), float(first.offset)) if isinstance(first, AffineOp) else (1.0, 0.0)
    return {
        "RESCALES": int(isinstance(first, AffineOp)), "SCALE": _literal(scale), "OFFSET": _literal(offset),
        "LAYERS": len(problem.stages), "BATCH": problem.batch, "TARGETS": problem.targets, "WEIGHTED": weighted,
        "LOSS": loss_number(loss)[0], "SPARSE": int(loss.sparse), "SERIES": problem.series,
        "SOFTMAX": int(problem.stages[-1].activation.name == "softmax"), "METRIC_COUNT": len(problem.metrics),
        "OPTIMIZER": 2 if isinstance(optimizer, Adam) else int(momentum),
        "NESTEROV": int(isinstance(optimizer, SGD) and optimizer.nesterov),
    }  # fmt: skip


def _properties(problem: Problem) -> dict[str, list[Any]]:
    """Return the layers' properties, by the kernel's names for them; softmax is no function of single elements."""
    stages, offsets, trainable = problem.stages, problem.arena.offsets, problem.network.trainable
    functions = [
        (0, 0.0) if s.activation.name == "softmax" else activation_number(s.activation) for s in stages
    ]  # fmt: skip
    ends = [sum(s.outputs for s in stages[:i]) for i in range(len(stages))]
    return {
        "WIDTHS": [stages[0].inputs, *(s.outputs for s in stages)],
        "KINDS": [kind for kind, _ in functions],
        "SLOPES": [slope for _, slope in functions],
        "TRAINS": [int(trainable[s.kernel]) + 2 * int(s.bias is not None and trainable[s.bias]) for s in stages],
        "BIASES": [int(s.bias is not None) for s in stages],
        "KERNEL_AT": [offsets[s.kernel] for s in stages],
        "BIAS_AT": [0 if s.bias is None else offsets[s.bias] for s in stages],
        "PENALTY_AT": ends,
        "METRICS": [metric_number(m) for m in problem.metrics] or [0],
        "METRIC_WEIGHTED": [int(problem.weighted and m.weighted) for m in problem.metrics] or [0],
    }


def _penalties(problem: Problem) -> dict[str, list[float]]:
    """Return the coefficients of the penalties, by the kernel's names for them."""

    def of(place: int | None) -> L1L2:
        return (None if place is None else problem.network.weights[place].regularizer) or L1L2()

    kernels, biases = [of(s.kernel) for s in problem.stages], [of(s.bias) for s in problem.stages]
    return {
        "KERNEL_L1": [float(p.l1) for p in kernels], "KERNEL_L2": [float(p.l2) for p in kernels],
        "BIAS_L1": [float(p.l1) for p in biases], "BIAS_L2": [float(p.l2) for p in biases],
    }  # fmt: skip


def _places(cut: Cut, layout: Layout) -> dict[str, list[Any]]:
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


def _runs(lists: dict[str, list[Any]], last: int) -> list[list[int]]:
    """Return the layers, cut into runs of layers that are alike, and that lie on layers that are alike.

    The lowest two and the last are runs of their own: what they hand on differs.
    """
    names = ["KINDS", "SLOPES", "BIASES", "KERNEL_L1", "KERNEL_L2", "BIAS_L1", "BIAS_L2"]
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
