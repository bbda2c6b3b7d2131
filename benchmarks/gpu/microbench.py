"""Latencies that decide a design: barriers and exchanges between blocks, graph nodes, launches from Python.

All in microseconds; the ceilings come first, in the same file. Each kernel's answer is checked before it is timed: a
barrier that lets a block pass, or an exchange that loses a value, is reported as failed and not timed.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import ceilings
import environment  # noqa: F401, its paths and settings come before the libraries
import numpy as np
import report
from launcher import Kernels, Launcher
from measure import Timer
from report import Report

THREADS, EXCHANGED = 512, 5120  # as in microbench.cu
ROUNDS, CHECKED, REPEATS = 2000, 64, 9
NODES = 1000
BATCH = 200  # launches between two waits, well below what a stream can queue


def per_round(launch: Callable[[int], None], reset: Callable[[], None]) -> list[float]:
    """Return microseconds a round of a kernel that repeats its work, from several launches."""
    import cupy

    times = []
    for repeat in range(REPEATS + 1):
        reset()
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        launch(ROUNDS)
        end.record()
        end.synchronize()
        if repeat:  # the first one warms up
            times.append(cupy.cuda.get_elapsed_time(begin, end) * 1e3 / ROUNDS)
    return times


def tried(out: Report, workload: str, contender: str, measure: Callable[[], list[float]], **more: Any) -> None:
    """Report what ``measure`` returns; where it fails, why."""
    try:
        out.add(workload, contender, "us", measure(), **more)
    except Exception as error:  # one of many: the others may well run
        out.skip(workload, contender, report.first_line(error))


def grid_barriers(timer: Timer, out: Report) -> None:
    """Report barriers over all blocks of a cooperative launch."""
    import cupy

    multiprocessors = cupy.cuda.Device().attributes["MultiProcessorCount"]
    for blocks in sorted({16, 32, 64, multiprocessors}):
        for flags, name in enumerate(("own, one counter", "own, a flag per block")):
            measure = functools.partial(grid_barrier, timer.kernels, blocks, flags)
            tried(out, f"grid barrier, {blocks} blocks", name, measure)


def grid_barrier(kernels: Kernels, blocks: int, flags: int) -> list[float]:
    """Return microseconds per barrier; RuntimeError where one let a block pass too early."""
    import cupy

    function = kernels.function("grid_barrier")
    state, failures = cupy.zeros(32 * blocks, cupy.uint32), cupy.zeros(1, cupy.uint32)
    mail = cupy.zeros(2 * blocks, cupy.uint32)

    def run(rounds: int, mail: Any = None) -> None:
        words = [state, mail, failures, np.int32(rounds), np.int32(flags)]
        kernels.launch(function, blocks, THREADS, words, cooperative=True)

    run(CHECKED, mail)
    if int(failures[0]):
        raise RuntimeError("blocks passed the barrier before all had arrived, or waited in vain")
    times = per_round(run, lambda: state.fill(0))
    if int(failures[0]):
        raise RuntimeError("blocks waited in vain")
    return times


def exchanges(timer: Timer, out: Report) -> None:
    """Report 20 KB of values that go from their owners to every block, with flags in the data."""
    import cupy

    packets = cupy.zeros(2 * EXCHANGED, cupy.uint64)

    def run(name: str, blocks: int, rounds: int, values: Any, failures: Any) -> None:
        words = [packets, values, failures, np.int32(rounds)]
        timer.kernels.launch(timer.kernels.function(name), blocks, THREADS, words, cooperative=True)

    for blocks in (16, 32, 64):
        for size in (8, 16):
            measure = checked_exchange(functools.partial(run, f"exchange_{size}", blocks), lambda: packets.fill(0))
            tried(out, f"exchange of 20 KB, {blocks} blocks", f"packets of {size} bytes", measure)


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

    for blocks in (2, 4, 8, 16):
        for name, (workload, contender) in names.items():
            if kernels.capability < 90:
                why = f"clusters need compute capability 9.0; this GPU has {kernels.capability / 10:.1f}"
                out.skip(f"{workload} of {blocks}", contender, why)
            else:
                measure = checked_exchange(functools.partial(run, name, blocks), lambda: None)
                tried(out, f"{workload} of {blocks}", contender, measure)


def checked_exchange(run: Callable[[int, Any, Any], None], reset: Callable[[], None]) -> Callable[[], list[float]]:
    """Return a measurement of an exchange, whose every round must have added 1 to every value."""
    import cupy

    def measure() -> list[float]:
        start = np.random.default_rng(0).integers(0, 1000, EXCHANGED).astype(np.float32)
        values, failures = cupy.asarray(start), cupy.zeros(1, cupy.uint32)
        reset()
        run(CHECKED, values, failures)
        if int(failures[0]) or not np.array_equal(values.get(), start + CHECKED):
            raise RuntimeError("values were lost or late")
        times = per_round(lambda rounds: run(rounds, values, failures), reset)
        if int(failures[0]):
            raise RuntimeError("blocks waited in vain")
        return times

    return measure


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

    tried(out, f"empty kernel, 1 of {NODES}", "node of a graph", in_graph)
    title = "launches in a row, the host's cost included"
    tried(out, f"empty kernel, 1 of {NODES}", title, lambda: measure(launches))


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
        tried(out, "launch, 16 arguments, host", name, lambda make=make: host_times(make()), packages=packages)


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
    groups = (ceilings.measured, grid_barriers, exchanges, clusters, graph_nodes, launch_costs)
    for group in groups:
        try:
            group(timer, out)
        except Exception as error:
            out.skip(group.__name__.replace("_", " "), "all", report.first_line(error))
    fast = [r.median for r in out.rows if r.workload.startswith("exchange") and r.median == r.median]
    if fast:
        print(f"fastest exchange of 20 KB: {min(fast):.3g} us; median of all: {statistics.median(fast):.3g} us")


if __name__ == "__main__":
    main()
