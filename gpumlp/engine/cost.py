"""How long a training step takes on a GPU, by a model of what it waits for: exchanges, bytes, arithmetic.

What is computed here are predictions. They choose between plans, and between the whole-fit kernel and graphs; the
benchmarks print them beside what was measured. The constants of a `Machine` say where they come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpumlp.engine.fit_plan import Problem


@dataclass(frozen=True)
class Machine:
    """What a GPU's work is made of. Times in seconds, ``link`` in bytes a second."""

    clock: float  # of a multiprocessor, in Hz
    barrier: float  # from the last block's arrival until all know of it, and what they wrote can be read
    tags: float  # from a packet's publication until whoever polls for it has it
    link: float  # what one multiprocessor reads from the second cache
    node: float  # a kernel in a graph, beyond its work
    source: str


# Estimates: a barrier is two trips to the second cache and an atomic addition, a tag one trip and half a poll; 64 bytes a
# cycle for a multiprocessor. `make gpu` measures them (benchmarks/gpu/microbench.py).
ESTIMATED = Machine(1.7e9, 0.9e-6, 0.6e-6, 64 * 1.7e9, 1.3e-6, "estimated")
MACHINES: dict[str, Machine] = {}  # by architecture (sm_90, ...), where they were measured


def machine(runtime: Any) -> Machine:
    """Return the constants of a runtime's GPU: measured where there are any, else estimated."""
    return MACHINES.get(getattr(runtime, "arch", ""), ESTIMATED)


def tags_by_default(machine: Machine) -> bool:
    """Return whether tags are the faster exchange."""
    return machine.tags <= machine.barrier


def graph_seconds(problem: Problem, machine: Machine) -> float:
    """Predict a step as a graph: a node for every operation, one after the other."""
    dense = len(problem.stages)
    nodes = 2 * dense + 3 + len(problem.metrics) + len([w for w in problem.network.weights if w.regularizer])
    flops = 6 * problem.batch * sum(s.inputs * s.outputs for s in problem.stages)
    parameters = sum(s.inputs * s.outputs for s in problem.stages)
    return nodes * machine.node + flops / 20e12 + parameters * 28 / 2e12


def step_seconds(
    problem: Problem, group: int, threads: int, most: int, tags: bool, reloads: int, ahead: bool, machine: Machine
) -> float:
    """Predict a step of the whole-fit kernel on ``group`` blocks of ``threads``."""
    rows, stages = problem.batch, problem.stages
    triples, last = -(-rows // 3), len(stages) - 1
    wait = 0.0 if group == 1 else machine.tags if tags else machine.barrier
    whole = group == 1 or stages[last].outputs <= 16
    cycles, seconds = 900.0, 0.0  # the loss, and the step's beginning

    def packets(width: int) -> float:  # up to eight of them are under way for each thread at a time
        more = -(-triples * width // (8 * threads)) - 1
        return 0.0 if group == 1 else 16 * triples * width / machine.link + more * machine.tags

    if not ahead:  # two reads, one after the other: which sample, and the sample
        seconds += 1.4e-6 + 4 * rows * stages[0].inputs / machine.link
    for i, stage in enumerate(stages):
        everything = i == last and whole
        columns = stage.outputs if everything else -(-stage.outputs // group)
        below = -(-stage.inputs // group) if i else 0
        cycles += _products(triples, columns, -(-stage.inputs // 4), threads)
        if not everything:
            seconds += wait + packets(stage.outputs)
        update = _update(rows, columns, stage.inputs + 1, threads, most)
        if i:
            cycles += _products(triples, below, -(-stage.outputs // 4), threads)
            update += _update(rows, below, stage.outputs, threads, most)
        hidden = wait if i > 1 else 0.0
        seconds += max(update / machine.clock, hidden) + (packets(stage.inputs) if i > 1 else 0.0)
    seconds += 0.5 * reloads * packets(max(s.inputs for s in stages))  # half of it behind an exchange
    return cycles / machine.clock + seconds


def _products(triples: int, columns: int, quads: int, threads: int) -> float:
    """Return the cycles of the sums of products of ``columns`` columns; see fit.cu."""
    lanes = min(32, 1 << max(quads - 1, 0).bit_length())
    groups = threads // lanes
    tile = 4 if columns >= 4 and triples * -(-columns // 4) >= groups else min(columns, 2)
    tiles, each = triples * -(-columns // tile), -(-quads // lanes)
    warps = tiles * lanes / 32
    steps = math.log2(lanes)
    reads = warps * each * (3 + tile) * 4  # of 128 bytes from shared memory, one a cycle
    alone = each * (15 + 13 * tile) + 6 * tile * steps + 60  # instructions of a warp, one a cycle at best
    rounds = -(-tiles // groups)
    return max(reads, warps * alone / 4, rounds * alone) + rounds * (40 * each + 30 * steps + 100)


def _update(rows: int, columns: int, lines: int, threads: int, most: int) -> float:
    """Return the cycles of the gradients of ``columns`` columns, and their update."""
    chunk = 4 if columns >= 3 and most == 4 else min(columns, 2)
    if not chunk:
        return 0.0
    warps = -(-lines // 32) * -(-columns // chunk)
    reads = 2 * warps * rows
    issued = warps * (rows * (2 + chunk) + 45 * chunk) / 4
    rounds = -(-warps * 32 // threads)
    return max(reads, issued) + rounds * (8 * rows + 60 + 40 * chunk)
