"""Where a training step's time goes on this CPU, beside the peaks measured here: ``python benchmarks/profile_step.py``.

A peak is what this machine was seen to do at its best, with one thread and with all: arithmetic in a large sgemm, data
movement in copies, one of arrays that stay in the caches, one of arrays that do not fit. An operation is bound by
whichever of its two shares is near 100%; neither near, and its time goes elsewhere.

The compiled step is timed whole, each phase by itself, and each operation in each phase, by a table of one operation
(kernels/cpu/layout.py). Alone, an operation finds its data in caches from which the others would have pushed them, and
waits for no line that another thread wrote: what a phase or the step takes beyond the sum stands in lines of its own.
The learning rate is zero, so that all rounds work on the same weights, those after one pass of training.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rows
from contenders import on_the_cpu
from threadpoolctl import threadpool_limits
from workloads import STEPS, Workload

from gpumlp.backends.fields import address
from gpumlp.backends.job import layout
from gpumlp.backends.team import processors

ROUNDS = 7
SGEMM = 2048
# Bytes of each array that a thread copies. The smaller ones overflow a core's own cache, as a network's weights do, and
# stay in the shared one; smaller still, and the threads would wait for the interpreter's lock between copies.
IN_CACHE, IN_MEMORY = 2 << 20, 256 << 20
ADAM = 12  # floating-point operations a parameter; it reads and writes the parameter and two moments
MOMENT, MOST = 5e-3, 20_000  # seconds for which a part is run at least, so that the call counts little; and batches
STEP, GATHER, OBJECTIVE, BARRIERS = "the step", "gather x", "objective", "two barriers"
CALL, EMPTY_ROWS = "a call", "rows of no floats"  # nothing done, to be subtracted from others
PHASES, BETWEEN = ("forward", "back", "update"), ", in between"
COLUMNS = ("9.1f", "8.0%", "8.1f", "8.0%", "7.0%")
NOTE = """\
All products are counted, computed or not: left out are inputs that are zero in all samples of a thread (update: of the
batch); "in use" is the rest. "in between": what a phase, or the step, takes beyond the sum of its parts."""


@dataclass(frozen=True)
class Peaks:
    """What ``threads`` threads reach: GFLOP/s of a product, GB/s (1e9 bytes, read and written) of both copies."""

    threads: int
    gflops: float
    cache: float
    memory: float


@dataclass(frozen=True)
class Operation:
    """One part of a step: its seconds per step, its floating-point operations, the bytes it must read and write.

    ``used``: the share of its inputs with which products are computed. ``each``: the seconds of every round.
    """

    name: str
    seconds: float
    flops: float = 0.0
    bytes: float = 0.0
    used: float = math.nan
    each: tuple[float, ...] = ()


def fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some calls, after one that is not timed."""
    work()
    times = [time.perf_counter()]
    for _ in range(ROUNDS):
        work()
        times.append(time.perf_counter())
    return min(b - a for a, b in pairwise(times))


def product_rate(threads: int) -> float:
    """Return the GFLOP/s of the BLAS with so many threads, in a product of squares."""
    a, b = np.random.default_rng(0).standard_normal((2, SGEMM, SGEMM), np.float32)
    out = np.empty_like(a)
    with threadpool_limits(threads, "blas"):
        return 2 * SGEMM**3 / fastest(lambda: np.matmul(a, b, out=out)) / 1e9


def copy_rate(threads: int, size: int) -> float:
    """Return the GB/s of so many threads, each copying ``size`` bytes of its own back and forth, read and written."""
    pairs = [np.ones((2, size // 4), np.float32) for _ in range(threads)]
    trips = max(IN_MEMORY // size // 2, 1)  # enough of them to make a thread's start cheap

    def back_and_forth(pair: np.ndarray) -> None:
        for _ in range(trips):
            np.copyto(pair[1], pair[0])
            np.copyto(pair[0], pair[1])

    with ThreadPoolExecutor(threads) as pool:
        seconds = fastest(lambda: list(pool.map(back_and_forth, pairs)))
    return 4 * trips * size * threads / seconds / 1e9


def peaks(threads: int) -> Peaks:
    """Measure them; takes seconds."""
    return Peaks(threads, product_rate(threads), copy_rate(threads, IN_CACHE), copy_rate(threads, IN_MEMORY))


def peaks_table(measured: Iterable[Peaks]) -> str:
    """Return the peaks, a line for each number of threads."""
    lines = [f"{'threads':<24} {'GFLOP/s':>9} {'GB/s, caches':>13} {'GB/s, memory':>13}"]
    lines += [f"{p.threads:<24} {p.gflops:>9.1f} {p.cache:>13.1f} {p.memory:>13.1f}" for p in measured]
    return "\n".join(lines)


def rates(o: Operation, peak: Peaks) -> tuple[float, float, float, float]:
    """Return GFLOP/s and GB/s (of data in the caches), each with its share of the peak; NaN if nothing is counted."""
    gflops, gbytes = (n / o.seconds / 1e9 if n and o.seconds > 0 else math.nan for n in (o.flops, o.bytes))
    return gflops, gflops / peak.gflops, gbytes, gbytes / peak.cache


def summed(operations: Sequence[Operation]) -> Operation:
    """Return the step that they make."""
    sums = (sum(getattr(o, f) for o in operations) for f in ("seconds", "flops", "bytes"))
    return Operation(STEP, *sums, each=tuple(map(sum, zip(*(o.each for o in operations), strict=True))))


def table(operations: Sequence[Operation], peak: Peaks) -> str:
    """Return where a step's time goes, an operation a line, with `rates`; the sum comes last."""
    step = summed(operations)
    heads = f"{'us per step':>11} {'of it':>6} {'GFLOP/s':>9} {'of peak':>8} {'GB/s':>8} {'of peak':>8} {'in use':>7}"
    lines = [f"{'operation':<24} {heads}"]
    for o in (*operations, step):
        cells = zip((*rates(o, peak), o.used), COLUMNS, strict=True)
        known = " ".join(format(value, form) if value == value else " " * int(form[0]) for value, form in cells)
        lines.append(f"{o.name:<24} {o.seconds * 1e6:>11.2f} {o.seconds / step.seconds:>6.0%} {known}".rstrip())
    return "\n".join(lines)


# ---- a compiled step, part by part -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    """What one call is to do for each batch: ``phases`` of ``count`` operations from ``first`` on.

    ``less``: the Part, with nothing to do, whose time is not counted. ``width``: floats of a sample that are gathered.
    """

    name: str
    phases: int
    less: str = ""
    flops: float = 0.0
    bytes: float = 0.0
    first: int = 0
    count: int = 0
    width: int = 0


def parts(sizes: Sequence[int], batch: int) -> list[Part]:
    """Return the parts of a step of a network of dense layers, in the order of a step: each finds its data in place.

    Bytes are the least that must be moved, activations and the gradients by them among them, everything once.
    """
    names, count = layout(), len(sizes) - 1
    everything = names.FORWARD | names.OBJECTIVE | names.BACK | names.UPDATE
    forward, back, update = [], [], []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        name, weights, x, y = f"{i} {inputs}x{outputs}", (inputs + 1) * outputs, batch * inputs, batch * outputs
        products, moved = 2.0 * x * outputs, 4.0 * (weights + x + y)
        forward.append(Part(f"forward {name}", names.FORWARD, EMPTY_ROWS, products, moved, i, 1))
        # The first layer's way back is the slope of its activation, and no product.
        products_back, moved = (products, 4.0 * (inputs * outputs + x + 3 * y)) if i else (0.0, 12.0 * y)
        back.append(Part(f"back {name}", names.BACK, "", products_back, moved, i, 1))
        products, moved = products + y + ADAM * weights, 4.0 * (6 * weights + x + y)
        update.append(Part(f"update {name}", names.UPDATE, BARRIERS, products, moved, i, 1))
    return [
        Part(STEP, everything, CALL, count=count, width=sizes[0]),
        Part(CALL, 0),
        Part(GATHER, names.FORWARD, CALL, bytes=8.0 * batch * sizes[0], width=sizes[0]),
        Part(EMPTY_ROWS, names.FORWARD),
        *forward,
        Part("forward", names.FORWARD, EMPTY_ROWS, count=count),
        Part(OBJECTIVE, names.OBJECTIVE, BARRIERS, count=count),
        *reversed(back),
        Part("back", names.BACK, count=count),
        Part(BARRIERS, names.UPDATE),
        *update,
        Part("update", names.UPDATE, BARRIERS, count=count),
    ]


def seconds_of(part: Part, program: Any, x: np.ndarray, batch: int, batches: int, threads: int) -> float:
    """Return the seconds per batch of one call for so many; the table is afterwards as it was."""
    job, names = program._job, layout()
    before = {name: job.get(name) for name in ("OPS", "OPS_AT", "X_WIDTH")}
    job.set(OPS=part.count, OPS_AT=before["OPS_AT"] + part.first * names.OP_WORDS, X_WIDTH=part.width)
    job.set_call(part.phases, (0, batches), batch, batches * batch, 1, address("X", x), 0, 0)
    began = time.perf_counter()
    program._call(threads)
    seconds = time.perf_counter() - began
    job.set(**before)
    return seconds / batches


def in_use(part: Part, program: Any, batch: int, threads: int) -> float:
    """Return the share of an operation's inputs that are not zero in all rows of a thread; NaN if none is left out."""
    if part.count != 1 or program._job.operations[part.first].get("ZEROS") == 0:
        return math.nan
    x = program._values[part.first][:batch, : program.network.sizes[part.first]]
    groups = np.array_split(x, 1 if part.name.startswith("update") else threads)  # an update sums over the batch
    return float(np.mean([group.any(0).mean() for group in groups]))


def rounds(program: Any, workload: Workload, repeats: int, counts: Sequence[int]) -> dict[int, dict[str, list[float]]]:
    """Measure all parts in turns, ``repeats`` times with each number of threads: {threads: {part: seconds}}."""
    x, steps, size = workload.data()[0], workload.steps, max(workload.steps, MOST)
    results, scalars = np.zeros((size, 1)), np.tile(np.float32([0, 1]), (size, 1))  # a rate of 0; weights do not decay
    program._job.set(RESULTS=results, SCALARS=scalars)
    made = parts(program.network.sizes, workload.batch)
    raw: dict[int, dict[str, list[float]]] = {threads: {p.name: [] for p in made} for threads in counts}
    batches: dict[tuple[int, str], int] = {}
    for turn in range(repeats + 1):
        for threads in counts:
            for part in made:
                number = batches.get((threads, part.name), steps)
                seconds = seconds_of(part, program, x, workload.batch, number, threads)
                if turn:
                    raw[threads][part.name].append(seconds)
                elif part.width == 0 and part.name != CALL:  # from then on long enough; others have x for so many only
                    batches[threads, part.name] = min(max(steps, int(MOMENT / seconds)), MOST)
    return raw


def operations_of(program: Any, workload: Workload, threads: int, raw: dict[str, list[float]]) -> list[Operation]:
    """Return the operations of a step with so many threads, by the parts' seconds: their sum is the whole step."""
    made = {p.name: p for p in parts(program.network.sizes, workload.batch)}
    net = {name: np.subtract(raw[name], raw[p.less] if p.less else 0).clip(0) for name, p in made.items()}
    out: list[Operation] = []
    for name, p in made.items():
        if name in (STEP, CALL, EMPTY_ROWS):
            continue
        line, each, used = name, net[name], in_use(p, program, workload.batch, threads)
        if name in PHASES:
            line, each = name + BETWEEN, each - sum(np.array(o.each) for o in out if o.name.startswith(name))
        out.append(Operation(line, float(np.median(each)), p.flops, p.bytes, used, tuple(each.tolist())))
    so_far = summed(out)
    rest, each = float(np.median(net[STEP])) - so_far.seconds, net[STEP] - so_far.each
    return [*out, Operation("phases" + BETWEEN, rest, each=tuple(each.tolist()))]


def profiles(workload: Workload, repeats: int, counts: Sequence[int]) -> list[list[Operation]]:
    """Return the operations of a compiled step with each number of threads, after a pass over the workload."""
    model = on_the_cpu(workload, "compiled")
    model.fit(*workload.data(), batch_size=workload.batch, shuffle=False, verbose=0)  # which fills the table in, too
    raw = rounds(model._runner.last, workload, repeats, counts)
    return [operations_of(model._runner.last, workload, threads, raw[threads]) for threads in counts]


def rows_of(title: str, operations: Sequence[Operation], peak: Peaks) -> list[rows.Row]:
    """Return a row a line of the table; its ratio is to the whole step, its share the larger of the two."""
    step, out, packages = summed(operations), [], ("gpumlp", "numpy", "numba")
    for o in (*operations, step):
        us, whole = ([1e6 * s for s in each] for each in (o.each, step.each))
        made = rows.row("profile", title, o.name, "us per step", us, whole, packages)
        r = [rows.significant(value) for value in rates(o, peak)]
        known = [k for k in ((r[1], r[0], "GFLOP/s"), (r[3], r[2], "GB/s")) if k[0] == k[0]]
        share, rate, unit = max(known, default=(math.nan, math.nan, ""))
        note = f"{o.used:.0%} of the inputs in use" if o.used == o.used else ""
        out.append(rows.RateRow(**vars(made), rate=rate, rate_unit=unit, share=share, note=note))
    return out


def main() -> None:
    """Measure and print the peaks, and the steps of the chosen workloads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--workload", choices=STEPS, action="append", help="one of the workloads (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--output", type=Path, help="folder that cpu_profile.csv is written to (default: none)")
    chosen = parser.parse_args()
    print(f"{rows.machine()}; {rows.commit()}; {rows.now()}")
    counts = sorted({1, processors()})
    measured = [peaks(threads) for threads in counts]
    print(peaks_table(measured), flush=True)
    found: list[rows.Row] = []
    for name in chosen.workload or STEPS:
        for peak, operations in zip(measured, profiles(STEPS[name], chosen.repeats, counts), strict=True):
            title = f"{name}, threads: {peak.threads}"
            print(f"\n{title}\n{table(operations, peak)}", flush=True)
            found += rows_of(title, operations, peak)
    print(f"\n{NOTE}")
    if chosen.output:
        rows.write(chosen.output / "cpu_profile.csv", found)


if __name__ == "__main__":
    main()
