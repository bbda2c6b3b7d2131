"""How the whole-fit kernel (kernels/fit.cu) trains a network: on how many blocks, what stands where, and how long a step
will take. Nothing here needs a GPU.

A plan is found by trying: every number of blocks and of threads that fits the chip is laid out, its step's time is
predicted (`gpumlp.engine.cost`), and the fastest is taken. Whatever is chosen, the bits are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpumlp.activations import Activation, Linear, Softmax
from gpumlp.backends.device_backend import activation_number, loss_number, metric_number
from gpumlp.engine import cost
from gpumlp.engine.arena import Arena
from gpumlp.engine.network import ActivationOp, AffineOp, DenseOp, DropoutOp, Network
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import SGD, Adam, Optimizer
from gpumlp.regularizers import L1L2

WHOLE = 16  # outputs of a last layer, up to which every block computes all of them: an exchange costs more
WARP = 32
REGISTERS = 65536  # of a multiprocessor
WORKING = 64  # of a thread's registers, what its work takes beside the optimizer's state
PATIENCE = 1 << 24  # polls: some seconds, in which a block that others wait for would have come


@dataclass(frozen=True)
class Stage:
    """One layer as the kernel has it: y[B, outputs] = activation(x[B, inputs] w + b); places in the network's weights."""

    inputs: int
    outputs: int
    activation: Activation
    kernel: int
    bias: int | None

    @property
    def needs_input(self) -> bool:
        """Whether the slope of the activation is computed from what went into it."""
        return self.activation.retains_input


@dataclass(frozen=True)
class Problem:
    """What is to be trained, as far as the kernel is compiled for it."""

    stages: tuple[Stage, ...]
    arena: Arena
    network: Network
    batch: int
    loss: Loss
    metrics: tuple[Metric, ...]
    optimizer: Optimizer
    targets: int
    weighted: bool


@dataclass(frozen=True)
class Plan:
    """A launch: ``group`` blocks of ``threads`` for each model, ``shared`` bytes each; ``defines`` for the compiler."""

    group: int
    threads: int
    shared: int
    defines: dict[str, int | str]
    half: int  # packets of a step
    exchanges: int  # of a step
    series: int  # numbers of a step that are logged
    columns: int  # whose penalties are logged: 0 where there are none
    predicted: float  # seconds a step


def stages_of(network: Network) -> tuple[Stage, ...] | str:
    """Return the network as the kernel has it, or why it cannot."""
    stages: list[Stage] = []
    for op in network.ops:
        match op:
            case DenseOp():
                stages.append(Stage(op.inputs, op.outputs, op.activation, op.kernel, op.bias))
            case DropoutOp() if op.rate == 0:
                continue
            case ActivationOp() if isinstance(op.activation, Linear):
                continue
            case ActivationOp() if stages and isinstance(stages[-1].activation, Linear):
                stages[-1] = replace(stages[-1], activation=op.activation)
            case ActivationOp():
                return "it has an Activation layer that does not follow a linear Dense"
            case DropoutOp():
                return "it has a Dropout layer"
            case AffineOp():
                return "it has a Rescaling layer"
    if any(isinstance(s.activation, Softmax) for s in stages[:-1]):
        return "it has a softmax before its last layer"
    return tuple(stages) or "it has no Dense layer"


def problem_of(
    network: Network, arena: Arena, batch: int, loss: Loss, metrics: list[Metric], optimizer: Optimizer, targets: int,
    weighted: bool,
) -> Problem | str:  # fmt: skip
    """Return what is to be trained, or why the kernel cannot."""
    stages = stages_of(network)
    if isinstance(stages, str):
        return stages
    if not isinstance(optimizer, Adam | SGD):
        return f"its optimizer is {optimizer.name}"
    return Problem(stages, arena, network, batch, loss, tuple(metrics), optimizer, targets, weighted)


def best_plan(problem: Problem, runtime: Any, tags: bool, models: int = 1) -> Plan | str:
    """Return the plan that trains ``models`` models at once in the least time, or why there is none."""
    machine = cost.machine(runtime)
    best, least = None, 0.0
    for group in _groups(problem, runtime.multiprocessors):
        at_once = runtime.multiprocessors // group
        for threads in _threads(problem, group):
            plan = _plan(problem, group, threads, tags, runtime.shared_bytes, machine)
            if plan is not None:
                seconds = plan.predicted * -(-models // at_once)
                if best is None or seconds < least:
                    best, least = plan, seconds
    if best is None:
        return "its weights, their optimizer's state and the activations of a batch do not fit on the chip"
    return best


def _groups(problem: Problem, multiprocessors: int) -> list[int]:
    """Return the numbers of blocks to try: those that cut the widest exchanged layer differently, few per doubling.

    So each block has columns of that layer. It must: nobody waits for one that publishes nothing, and by tags the
    others could overwrite what it still needs (exchange.cuh).
    """
    if len(problem.stages) == 1:
        return [1]
    exchanged = problem.stages[:-1] if _whole(problem, 2) else problem.stages
    widest = max(s.outputs for s in exchanged)
    found = {-(-widest // columns) for columns in range(1, widest + 1) if columns <= 4 or columns & (columns - 1) == 0}
    return sorted(g for g in found | {1} if g <= multiprocessors)


def _threads(problem: Problem, group: int) -> list[int]:
    """Return the sizes of a block to try: those among which the largest update is dealt out evenly."""
    units = max(_units(stage, i, problem, group) for i, stage in enumerate(problem.stages))
    sizes = {-(-units // (each * WARP)) * WARP for each in range(1, 9)} | {128, 256, 512}
    return sorted(s for s in sizes if 2 * WARP <= s <= 1024)


def _whole(problem: Problem, group: int) -> bool:
    last = problem.stages[-1]
    return group == 1 or last.outputs <= WHOLE or last.needs_input


def _columns(problem: Problem, i: int, group: int) -> int:
    """Return how many columns of layer i a block owns."""
    whole = i == len(problem.stages) - 1 and _whole(problem, group)
    return problem.stages[i].outputs if whole else -(-problem.stages[i].outputs // group)


def _chunk(count: int) -> int:
    return 4 if count >= 3 else count


def _units(stage: Stage, i: int, problem: Problem, group: int) -> int:
    """Return into how many units a layer's update is cut: fit_layout.cuh has the same."""
    columns, rows = _columns(problem, i, group), -(-stage.inputs // group) if i else 0
    lines = stage.inputs + (stage.bias is not None)
    return lines * -(-columns // _chunk(columns)) + (stage.outputs * -(-rows // _chunk(rows)) if rows else 0)


def _state_registers(problem: Problem, group: int, threads: int) -> int:
    """Return how many registers a thread needs for the optimizer's state."""
    slots, total = len(problem.optimizer.slots), 0
    for i, stage in enumerate(problem.stages):
        rows = -(-stage.inputs // group) if i else 0
        wide = max(_chunk(_columns(problem, i, group)), _chunk(rows))
        total += -(-_units(stage, i, problem, group) // threads) * wide * slots
    return total


def _up(count: int) -> int:
    """Return ``count`` floats as whole 16 bytes."""
    return -(-count // 4) * 4


class _Layout:
    """Places in shared memory, in floats, as fit_layout.cuh names them."""

    def __init__(self, problem: Problem, group: int, room: int, series: int) -> None:
        self.size = 0
        batch, stages = problem.batch, problem.stages
        last, alone = len(stages) - 1, group == 1
        ins, outs = [_up(s.inputs) for s in stages], [_up(s.outputs) for s in stages]
        slices = [_up(_columns(problem, i, group)) for i in range(len(stages))]
        whole = _whole(problem, group)
        self.targets, self.weights = self._take(2 * batch * problem.targets), self._take(2 * batch)
        self.logs, self.predictions = self._take(series * batch), self._take(batch * outs[last])
        self.columns = [
            self._take(_columns(problem, i, group) * (ins[i] + 4)) for i in range(len(stages))
        ]
        self.rows = [0] + [self._take(-(-stages[i].inputs // group) * outs[i]) for i in range(1, len(stages))]
        self.z = [self._take(batch * slices[i]) if s.needs_input else 0 for i, s in enumerate(stages)]
        self.inputs = [self._take(2 * batch * ins[0])] + [0] * last
        self._place_gradients(batch, outs, slices, alone, whole)
        if alone:  # its own outputs are all there are
            self.inputs[1:] = [self._take(batch * n) for n in ins[1:]]
            self.own = [*self.inputs[1:], self.predictions]
            self.reloads = [0] * len(stages)
        else:
            self.own = [self._take(batch * n) for n in slices[:-1]]
            self.own.append(self.predictions if whole else self._take(batch * slices[last]))
            self._place_inputs(batch, ins, room)

    def _take(self, count: int) -> int:
        place, self.size = self.size, self.size + _up(count)
        return place

    def _place_gradients(self, batch: int, outs: list[int], slices: list[int], alone: bool, whole: bool) -> None:
        """One place for the gradient that is whole; two in turn for a block's own, of one layer and of that below."""
        widest = batch * max(outs if alone else [0, *outs[1:]])
        places = [self._take(widest), self._take(widest) if alone else 0]
        if alone:
            self.delta = [places[i % 2] for i in range(len(outs))]
            self.own_delta = self.delta
            return
        own = [self._take(batch * max(slices)) for _ in range(2)]
        self.delta = [places[0]] * len(outs)
        self.own_delta = [own[i % 2] for i in range(len(outs))]
        if whole:
            self.own_delta[-1] = self.delta[-1]

    def _place_inputs(self, batch: int, ins: list[int], room: int) -> None:
        """Keep as many layers' inputs as there is room for; the others pass through one place, and come again."""
        needed = [_up(batch * n) for n in ins]
        kept: list[int] = []
        for i in range(1, len(ins)):
            rest = [needed[j] for j in range(1, len(ins)) if j not in kept and j != i]
            if self.size + sum(needed[j] for j in kept) + needed[i] + max(rest, default=0) <= room:
                kept.append(i)
        for i in kept:
            self.inputs[i] = self._take(needed[i])
        passing = [i for i in range(1, len(ins)) if i not in kept]
        place = self._take(max((needed[i] for i in passing), default=0))
        for i in passing:
            self.inputs[i] = place
        self.reloads = [int(i in passing and i != passing[-1]) for i in range(len(ins))]


def _plan(problem: Problem, group: int, threads: int, tags: bool, shared: int, machine: cost.Machine) -> Plan | None:
    """Return the plan of these sizes, or None where it does not fit."""
    if _state_registers(problem, group, threads) > min(255, REGISTERS // (-(-threads // 128) * 128)) - WORKING:
        return None
    weighted = [int(problem.weighted and m.weighted) for m in problem.metrics]
    series = 1 + len(weighted) + sum(weighted)
    layout = _Layout(problem, group, shared // 4, series)
    if 4 * layout.size > shared:
        return None
    stages, last = problem.stages, len(problem.stages) - 1
    triples, half, exchanges = -(-problem.batch // 3), 0, 0
    forward, backward = [0] * len(stages), [0] * len(stages)
    for i, stage in enumerate(stages):
        if group > 1 and not (i == last and _whole(problem, group)):
            forward[i], half, exchanges = half, half + triples * stage.outputs, exchanges + 1
        if group > 1 and 0 < i < last:
            backward[i], half, exchanges = half, half + triples * stage.outputs, exchanges + 1
    penalties = _penalties(problem)
    ends = [sum(s.outputs for s in stages[:i]) for i in range(len(stages) + 1)]
    columns = ends[-1] if any(v for values in penalties.values() for v in values) else 0
    optimizer = problem.optimizer
    lists: dict[str, list[Any]] = {
        "WIDTHS": [stages[0].inputs, *(s.outputs for s in stages)],
        "KINDS": [0 if isinstance(s.activation, Softmax) else activation_number(s.activation)[0] for s in stages],
        "SLOPES": [0.0 if isinstance(s.activation, Softmax) else activation_number(s.activation)[1] for s in stages],
        "TRAINS": [_trains(problem, s) for s in stages],
        "BIASES": [int(s.bias is not None) for s in stages],
        **penalties,
        "KERNEL_AT": [problem.arena.offsets[s.kernel] for s in stages],
        "BIAS_AT": [0 if s.bias is None else problem.arena.offsets[s.bias] for s in stages],
        "PENALTY_AT": ends[:-1],
        "INPUTS_AT": layout.inputs, "OWN_AT": layout.own, "Z_AT": layout.z, "COLUMNS_AT": layout.columns,
        "ROWS_AT": layout.rows, "DELTA_AT": layout.delta, "OWN_DELTA_AT": layout.own_delta,
        "RELOADS": layout.reloads, "FORWARD_AT": forward, "BACKWARD_AT": backward,
        "METRICS": [metric_number(m) for m in problem.metrics] or [0],
        "METRIC_WEIGHTED": weighted or [0],
    }  # fmt: skip
    runs = _runs(lists, last)
    momentum = isinstance(optimizer, SGD) and bool(optimizer.slots)
    defines: dict[str, int | str] = {
        "THREADS": threads, "RESIDENT": 1, "GROUP": group, "BATCH": problem.batch, "LAYERS": len(stages), "TAGS": int(tags),
        "PATIENCE": PATIENCE, "LAST_IS_WHOLE": int(_whole(problem, group)),
        "LOSS": loss_number(problem.loss)[0], "SPARSE": int(problem.loss.sparse), "TARGETS": problem.targets,
        "SOFTMAX": int(isinstance(stages[-1].activation, Softmax)), "WEIGHTED": int(problem.weighted),
        "METRIC_COUNT": len(problem.metrics), "SERIES": series, "PENALTIES": columns,
        "OPTIMIZER": 2 if isinstance(optimizer, Adam) else int(momentum),
        "NESTEROV": int(isinstance(optimizer, SGD) and optimizer.nesterov),
        "RUNS": len(runs), "RUN_FIRST": ", ".join(str(r[0]) for r in runs),
        "RUN_COUNT": ", ".join(str(len(r)) for r in runs), "PACKETS": half, "PREDICTIONS_AT": layout.predictions, "TARGETS_AT": layout.targets,
        "WEIGHTS_AT": layout.weights, "LOGS_AT": layout.logs,
        **{name: ", ".join(map(_literal, values)) for name, values in lists.items()},
    }  # fmt: skip
    seconds = cost.step_seconds(problem, group, threads, tags, sum(layout.reloads), machine)
    return Plan(group, threads, 4 * layout.size, defines, half, exchanges, series, columns, seconds)


def _runs(lists: dict[str, list[Any]], last: int) -> list[list[int]]:
    """Return the layers, cut into runs of layers that are alike, and that lie on layers that are alike.

    The lowest two and the last are runs of their own: what they hand on differs.
    """
    properties = ["KINDS", "SLOPES", "BIASES", "KERNEL_L1", "KERNEL_L2", "BIAS_L1", "BIAS_L2"]
    shapes = [
        (lists["WIDTHS"][i], lists["WIDTHS"][i + 1], *(lists[name][i] for name in properties)) for i in range(last + 1)
    ]
    runs: list[list[int]] = []
    for i in range(last + 1):
        alike = 2 < i < last and (shapes[i], shapes[i - 1]) == (shapes[i - 1], shapes[i - 2])
        if alike:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _literal(value: int | float) -> str:
    return f"{value!r}f" if isinstance(value, float) else str(value)


def _trains(problem: Problem, stage: Stage) -> int:
    trainable = problem.network.trainable
    return int(trainable[stage.kernel]) + 2 * int(stage.bias is not None and trainable[stage.bias])


def _penalties(problem: Problem) -> dict[str, list[float]]:
    """Return the coefficients of the penalties, by the kernel's names for them."""

    def of(place: int | None) -> L1L2:
        return (None if place is None else problem.network.weights[place].regularizer) or L1L2()

    kernels, biases = [of(s.kernel) for s in problem.stages], [of(s.bias) for s in problem.stages]
    return {
        "KERNEL_L1": [float(p.l1) for p in kernels], "KERNEL_L2": [float(p.l2) for p in kernels],
        "BIAS_L1": [float(p.l1) for p in biases], "BIAS_L2": [float(p.l2) for p in biases],
    }  # fmt: skip
