"""How long a training step takes on a GPU, by a model of what it waits for: exchanges, bytes, arithmetic.

What is computed here are predictions. They choose between plans, and between the whole-fit kernel and graphs; the
benchmarks print them beside what was measured. The constants of a `Machine` say where they come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpumlp.backends.runtime import Chip
from gpumlp.engine.fit_layout import WARP, Cut, Layout, Problem

# Measured on an H100, by clocks read within a step (benchmarks/gpu/NOTES.md), in cycles: the loss and a step's
# beginning; what a layer takes beside its sums, both ways. The part of an exchange that reading takes by itself.
OBJECTIVE, LAYER, READING = 1000.0, 550.0, 0.8
FLOPS, BYTES = 10e12, 2e12  # a second, of kernels as small as these networks', in a graph
TRIPS = 2e-6  # of such a kernel, however little it does: to memory, through shared memory, and back


@dataclass(frozen=True)
class Machine:
    """What a GPU's work is made of. Times in seconds, ``link`` and ``cache`` in bytes a second."""

    clock: float  # of a multiprocessor, in Hz
    barrier: float  # from the last block's arrival until all know of it, and what they wrote can be read
    tags: float  # from a packet's publication until whoever polls for it has it
    link: float  # what one multiprocessor reads from the second cache
    cache: float  # what all of them together read from it
    node: float  # a kernel in a graph, beyond its work
    source: str


# A barrier is two trips to the second cache and an atomic addition, a tag one trip and half a poll; a multiprocessor
# reads 64 bytes a cycle, and all of a large GPU's together less than half of what that adds up to. `make gpu` measures
# them (benchmarks/gpu/microbench.py).
ESTIMATED = Machine(1.7e9, 0.9e-6, 0.6e-6, 64 * 1.7e9, 5.5e12, 1.3e-6, "estimated")
MACHINES = {  # by architecture, where they were measured
    "sm_90": Machine(1.98e9, 1.32e-6, 0.589e-6, 73e9, 7.595e12, 0.79e-6, "measured"),  # an H100; 64 blocks
}


def machine(chip: Chip) -> Machine:
    """Return the constants of a GPU: measured where there are any, else estimated."""
    return MACHINES.get(chip.arch, ESTIMATED)


def tags_by_default(machine: Machine) -> bool:
    """Return whether tags are the faster exchange."""
    return machine.tags <= machine.barrier


def graph_seconds(problem: Problem, machine: Machine) -> float:
    """Predict a step as a graph: a node for every operation, one after the other."""
    penalised = sum(penalty is not None for penalty in problem.network.penalties)
    nodes = 2 * len(problem.stages) + 3 + len(problem.metrics) + penalised
    parameters = sum(s.inputs * s.outputs for s in problem.stages)
    moved = 4 * (3 + 2 * len(problem.optimizer.slots))  # bytes: weight, gradient and state read, all but one written
    work = 6 * problem.batch * parameters / FLOPS + moved * parameters / BYTES
    return nodes * (machine.node + TRIPS) + work


def step_seconds(cut: Cut, layout: Layout, tags: bool, machine: Machine, models: int = 1) -> float:
    """Predict a step of the whole-fit kernel, where a launch trains so many models at once."""
    problem, rows = cut.problem, cut.problem.batch
    wait = machine.tags if tags else machine.barrier
    read = min(machine.link, machine.cache / (models * cut.group))  # by each block, when all collect
    cycles, seconds = OBJECTIVE + LAYER * len(problem.stages), 0.0

    def packets(width: int) -> float:  # up to eight of them are under way for each thread at a time
        count = cut.triples * width
        return 16 * count / read + (-(-count // (8 * cut.threads)) - 1) * machine.tags

    def hidden(work: float) -> float:  # behind an exchange: what it takes from when it is sent until it is read
        return max(work / machine.clock + READING * machine.tags, wait)

    line = problem.stages[0].inputs + problem.targets + 1
    fetch = 500.0 + 300.0 * -(-rows * line // cut.threads)
    if not layout.ahead:
        cycles += fetch
    for i, (stage, (out, _)) in enumerate(zip(problem.stages, cut.exchanged, strict=True)):
        cycles += _products(cut, cut.columns(i), stage.inputs)
        if out:
            seconds += hidden(fetch if i == 0 and layout.ahead else 0.0) + packets(stage.outputs)
        if i:
            cycles += _products(cut, cut.rows(i), stage.outputs)
        if i and cut.exchanged[i - 1][1]:  # the update hides behind the exchange of the gradient below
            seconds += hidden(_update(cut, i)) + packets(stage.inputs)
        else:
            cycles += _update(cut, i)
        if layout.reloads[i]:  # half of it behind an exchange
            seconds += 0.5 * packets(stage.inputs)
    return cycles / machine.clock + seconds


def _products(cut: Cut, columns: int, inputs: int) -> float:
    """Return the cycles of the sums of products over ``inputs``, for ``columns`` columns; see `products` in fit.cu."""
    quads = -(-inputs // 4)
    lanes = min(WARP, 1 << max(quads - 1, 0).bit_length())
    groups = cut.threads // lanes
    tile = 4 if columns >= 4 and cut.triples * -(-columns // 4) >= groups else min(columns, 2)
    tiles, each, steps = cut.triples * -(-columns // tile), -(-quads // lanes), math.log2(lanes)
    warps, rounds = tiles * lanes / WARP, -(-tiles // groups)
    reads = warps * each * (3 + tile) * 4  # of 128 bytes from shared memory, one a cycle
    adding = 12 * (tile - 1) + 6 * max(steps - math.log2(tile), 0)  # over the lanes: `add_lanes`
    alone = each * (15 + 13 * tile) + adding + 60  # instructions of a warp, one a cycle at best
    return 130 + 1.2 * (max(reads, warps * alone / 4, rounds * alone) + rounds * (40 * each + 30 * steps + 100))


def _update(cut: Cut, i: int) -> float:
    """Return the cycles of the gradients of a layer's weights, and of their update."""
    units, chunk, rows = cut.units(i), max(cut.chunk(cut.columns(i)), cut.chunk(cut.rows(i))), cut.problem.batch
    issued = -(-units // WARP) * (110 + (2.5 + chunk) * rows + 85 * chunk) / 4
    alone = 250 + 12.5 * rows + 250 * chunk * -(-units // cut.threads)  # of one thread, which waits for each result
    return max(alone, issued + alone / 2)
