"""Latencies that decide a design: barriers and exchanges between blocks, graph nodes, launches from Python.

All in microseconds; the ceilings come first, in the same file. Each kernel's answer is checked before it is timed: a
barrier that lets a block pass, or an exchange that loses a value, is reported as failed and not timed. The last line
is what they make of gpumlp's model of a step's cost (constants.py).
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import ceilings
import constants
import environment  # noqa: F401, its paths and settings come before the libraries
import exchanges
import numpy as np
import report
import rows
from launcher import Kernels, Launcher
from measure import CHECKED, REPEATS, Timer, checked_rounds, per_round
from report import Report

THREADS, EXCHANGED = 512, 5120  # as in microbench.cu
CYCLES = 10_000_000  # some 6 ms
NODES = 1000
BATCH = 200  # launches between two waits, well below what a stream can queue


def clock(timer: Timer, out: Report) -> None:
    """Report how fast a multiprocessor runs while it spins."""
    import cupy

    kernels, nanoseconds = timer.kernels, cupy.zeros(1, cupy.int64)
    times = []
    for _ in range(REPEATS):
        kernels.launch(kernels.function("ticks"), 1, 1, [np.int64(CYCLES), nanoseconds])
        times.append(int(nanoseconds[0]) / 1e3)
    rate = rows.significant(CYCLES / statistics.median(times) / 1e3)
    out.add(
        constants.CLOCK, "a spinning thread", "us", times, rate=rate, rate_unit="GHz", note=f"sm_{kernels.capability}"
    )


def flags_barriers(timer: Timer, out: Report) -> None:
    """Report another barrier over all blocks of a cooperative launch than the one of exchange.cuh."""
    import cupy

    multiprocessors = cupy.cuda.Device().attributes["MultiProcessorCount"]
    for blocks in exchanges.BLOCKS:
        if blocks <= multiprocessors:
            measure = functools.partial(flags_barrier, timer.kernels, blocks)
            out.tried(f"barrier, {blocks} blocks", "a flag per block", measure)


def flags_barrier(kernels: Kernels, blocks: int) -> list[float]:
    """Return microseconds per barrier; RuntimeError where one let a block pass too early."""
    import cupy

    function = kernels.function("grid_barrier")
    state, failures = cupy.zeros(32 * blocks, cupy.uint32), cupy.zeros(1, cupy.uint32)
    mail = cupy.zeros(2 * blocks, cupy.uint32)

    def run(rounds: int, mail: Any = None) -> None:
        words = [state, mail, failures, np.int32(rounds)]
        kernels.launch(function, blocks, exchanges.THREADS, words, cooperative=True)

    run(CHECKED, mail)
    if int(failures[0]):
        raise RuntimeError("blocks passed the barrier before all had arrived, or waited in vain")
    times = per_round(run, lambda: state.fill(0))
    if int(failures[0]):
        raise RuntimeError("blocks waited in vain")
    return times


def clusters(timer: Timer, out: Report) -> None:
    """Report barriers and exchanges inside one cluster, through the blocks' shared memory."""
    kernels = timer.kernels
    names = {
        "cluster_barrier": ("cluster barrier", "barrier.cluster alone"),
        "cluster_stores": ("exchange of 20 KB, cluster", "remote stores, barrier.cluster"),
        "cluster_async": ("exchange of 20 KB, cluster", "st.async, mbarrier"),
    }

    def run(name: str, blocks: int, rounds: int, values: Any, failures: Any) -> None:
        function = kernels.function(name)
        if blocks > 8:
            kernels.allow_large_clusters(function)
        kernels.launch(function, blocks, THREADS, [values, failures, np.int32(rounds)], cluster=blocks)

    def nothing() -> None: ...

    for blocks in (2, 4, 8, 16):
        for name, (workload, contender) in names.items():
            if kernels.capability < 90:
                why = f"clusters need compute capability 9.0; this GPU has {kernels.capability / 10:.1f}"
                out.skip(f"{workload} of {blocks}", contender, why)
            else:
                measure = functools.partial(checked_rounds, functools.partial(run, name, blocks), nothing, EXCHANGED)
                out.tried(f"{workload} of {blocks}", contender, measure)


def graph_nodes(timer: Timer, out: Report) -> None:
    """Report an empty kernel as a node of a graph of them, and as a launch behind launches."""
    import cupy

    kernels = timer.kernels
    empty = kernels.function("empty")

    def launches() -> None:
        for _ in range(NODES):
            kernels.launch(empty, 1, 32, [])

    def measure(work: Callable[[], None]) -> list[float]:
        times = []
        for repeat in range(REPEATS + 1):
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            work()
            end.record()
            end.synchronize()
            if repeat:
                times.append(cupy.cuda.get_elapsed_time(begin, end) * 1e3 / NODES)
        return times

    def in_graph() -> list[float]:
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            launches()
            graph = stream.end_capture()
            return measure(lambda: graph.launch(stream=stream))

    out.tried(constants.NODE[0].format(NODES), constants.NODE[1], in_graph)
    title = "launches in a row, the host's cost included"
    out.tried(constants.NODE[0].format(NODES), title, lambda: measure(launches))


def sixteen_arguments() -> list[Any]:
    """Return eight arrays, six integers and two floats, as a kernel of this package takes them."""
    import cupy

    arrays = [cupy.zeros(4, cupy.float32) for _ in range(8)]
    return [*arrays, *(np.int64(i) for i in range(6)), np.float32(0.5), np.float32(1.5)]


def launch_costs(timer: Timer, out: Report) -> None:
    """Report the host's time to launch a kernel of 16 arguments, per library."""
    makers = {
        "cuda.bindings, prepared": (lambda: bindings_launch(timer), ("cuda-bindings",)),
        "cuda.core": (lambda: core_launch(timer), ("cuda-core",)),
        "CuPy RawKernel": (cupy_launch, ("cupy",)),
        "Numba": (numba_launch, ("numba",)),
    }
    for name, (make, packages) in makers.items():
        out.tried("launch, 16 arguments, host", name, lambda make=make: host_times(make()), packages=packages)


def host_times(launch: Callable[[], None]) -> list[float]:
    """Return the host's microseconds per launch, over batches that a stream can queue."""
    import cupy

    times = []
    for batch in range(REPEATS + 2):
        cupy.cuda.runtime.deviceSynchronize()
        began = time.perf_counter()
        for _ in range(BATCH):
            launch()
        if batch > 1:
            times.append((time.perf_counter() - began) / BATCH * 1e6)
    cupy.cuda.runtime.deviceSynchronize()
    return times


def bindings_launch(timer: Timer) -> Callable[[], None]:
    """Return a launch through the driver's entry point, its arguments packed once."""
    return Launcher(timer.kernels, timer.kernels.function("sixteen"), sixteen_arguments())


def core_launch(timer: Timer) -> Callable[[], None]:
    """Return a launch through cuda.core."""
    from cuda.core import Device, LaunchConfig, ObjectCode, Stream, launch

    Device().set_current()
    kernel = ObjectCode.from_cubin(timer.kernels.code).get_kernel("sixteen")
    config, stream = LaunchConfig(grid=1, block=32), Stream.from_handle(1)  # the legacy default stream
    words = [int(a.data.ptr) if hasattr(a, "get") else a for a in sixteen_arguments()]
    return lambda: launch(stream, config, kernel, *words)


def cupy_launch() -> Callable[[], None]:
    """Return a launch through CuPy."""
    import cupy

    types = ["float *"] * 8 + ["long long"] * 6 + ["float"] * 2
    declared = ", ".join(f"{t} a{i}" for i, t in enumerate(types))
    kernel = cupy.RawKernel(f'extern "C" __global__ void sixteen({declared}) {{}}', "sixteen")
    words = tuple(sixteen_arguments())
    return lambda: kernel((1,), (32,), words)


def numba_launch() -> Callable[[], None]:
    """Return a launch through Numba, its arrays made Numba's beforehand."""
    from numba import cuda

    @cuda.jit
    def sixteen(a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q):
        pass

    words = [cuda.as_cuda_array(a) if hasattr(a, "get") else a for a in sixteen_arguments()]
    configured = sixteen[1, 32]
    return lambda: configured(*words)


def main() -> None:
    """Run everything, each group for itself."""
    chosen = report.arguments(__doc__)
    report.need_gpu()
    timer = Timer()
    out = Report(chosen.output, "micro")
    groups = (ceilings.measured, clock, exchanges.measured, flags_barriers, clusters, graph_nodes, launch_costs)
    for group in groups:
        try:
            group(timer, out)
        except Exception as error:
            out.skip(f"{group.__module__}.{group.__name__}", "all", report.first_line(error))
    print(constants.line(out.rows), flush=True)


if __name__ == "__main__":
    main()
