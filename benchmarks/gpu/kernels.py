"""Each operation of the contract on this GPU, beside CuPy, cuBLAS and PyTorch doing the same work.

The ceilings are measured first, in the same process. Every contender's output is held against float64 before it is
timed; one that is wrong gets no time. Times are the device's, with L2 flushed, in rounds of all contenders. A row's
rate is the case's work over its median time, its share that of the ceiling (cuBLAS float32, or a copy's GB/s).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import cases
import ceilings
import environment  # noqa: F401, its settings come before the libraries
import more_cases
import report
from measure import Timer
from report import Report

SECONDS = 0.8  # of rounds, for each case
LIMIT = 55.0  # seconds for all; what does not fit is reported as skipped
DENSE = ((20, 256, 256), (128, 784, 512), (128, 512, 512), (1024, 1024, 1024), (4096, 4096, 4096))
ARENAS = (400_000, 16_000_000, 64_000_000)
OURS = "gpumlp"


def backends(out: Report) -> dict[str, Any]:
    """Return our kernel families by name, the CUDA C++ one first; a row says why one is missing."""
    from gpumlp import devices

    found = {}
    for name, family in ((OURS, "cuda"), (f"{OURS}, Numba", "numba")):
        os.environ["GPUMLP_KERNELS"] = family
        try:
            found[name] = devices.resolve("cuda").backend()
        except Exception as error:  # no Numba, or one without CUDA: the others do not need it
            out.skip("all operations", name, report.first_line(error))
        finally:
            del os.environ["GPUMLP_KERNELS"]
    return found


def all_cases(families: dict[str, Any]) -> Iterator[tuple[str, Callable[[], cases.Case]]]:
    """Yield what to measure and how to make it, small shapes first."""
    for shape in DENSE:
        for make in (cases.dense_forward, cases.dense_backward):
            yield f"{make.__name__} {shape}", lambda make=make, shape=shape: make(families, *shape)
    for count in ARENAS:
        yield f"adam {count}", lambda count=count: more_cases.adam(families, count)
        yield f"sgd {count}", lambda count=count: more_cases.sgd(families, count)
    yield "rmsprop", lambda: more_cases.rmsprop(families, 16_000_000)
    yield "tanh", lambda: more_cases.activation(families, 8192, 4096)
    for shape in ((128, 10), (8192, 1000)):
        yield f"cross-entropy {shape}", lambda shape=shape: more_cases.cross_entropy(families, *shape)
    for shape in ((20, 1), (8192, 4096)):
        yield f"squared error {shape}", lambda shape=shape: more_cases.squared_error(families, *shape)
    for shape in ((128, 10), (8192, 4096)):
        yield f"softmax {shape}", lambda shape=shape: more_cases.softmax(families, *shape)
    yield "metric", lambda: more_cases.metric(families, 8192, 1000)
    yield "penalty", lambda: more_cases.penalty(families, 16_000_000)
    yield "dropout", lambda: more_cases.dropout(families, 8192, 4096)
    for shape in ((128, 784, 60_000), (8192, 784, 60_000)):
        yield f"take {shape}", lambda shape=shape: more_cases.take(families, *shape)


def verified(case: cases.Case, out: Report, without: set[str]) -> dict[str, cases.Contender]:
    """Return the contenders of a case that computed what they should; report the others."""
    expected, good = case.expected(), {}
    for name, make in case.contenders.items():
        if name.split(",")[0] in without:
            continue
        try:
            contender = make()
            contender.work()
            outputs = contender.outputs()
            wrong = contender.verify(outputs) if contender.verify else cases.difference(outputs, expected)
        except Exception as error:  # a missing library, too little memory: the others go on
            out.skip(case.name, name, report.first_line(error))
            continue
        if wrong:
            out.skip(case.name, name, f"wrong, and not timed: {wrong}")
        else:
            good[name] = contender
    return good


def measured(case: cases.Case, timer: Timer, out: Report, ceiling: ceilings.Ceilings, without: set[str]) -> None:
    """Verify the contenders of a case, time them side by side and report them."""
    good = verified(case, out, without)
    if not good:
        return
    times = timer.rounds({name: contender.work for name, contender in good.items()}, SECONDS)
    limit = ceiling.float32 if case.rate_unit == "TFLOP/s" else ceiling.memory
    for name, contender in good.items():
        amount = case.amount if contender.amount is None else contender.amount
        out.add_rate(
            case.name, name, times[name], times.get(OURS, ()), amount, case.rate_unit, limit, contender.packages,
            contender.note,
        )  # fmt: skip


def missing(out: Report) -> set[str]:
    """Return the libraries that cannot be had here, with a row each that says why."""
    try:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        if not torch.cuda.is_available():
            raise RuntimeError("this PyTorch has no CUDA, or sees no GPU")
    except Exception as error:
        out.skip("all operations", "PyTorch", report.first_line(error))
        return {"PyTorch"}
    return set()


def main() -> None:
    """Measure everything, case by case, until the time is over."""
    chosen = report.arguments(__doc__, LIMIT)
    report.need_gpu()
    began = time.perf_counter()
    timer, out = Timer(), Report(chosen.output, "kernel")
    try:
        ceiling = ceilings.measured(timer, out)
    except Exception as error:
        out.skip("ceilings", "all", report.first_line(error))
        ceiling = ceilings.Ceilings(math.nan, math.nan)
    empty = timer.kernels.function("empty")
    floor = timer.rounds({"empty": lambda: timer.kernels.launch(empty, 1, 32, [])}, SECONDS / 4)["empty"]
    out.add("empty kernel", "what this way of timing adds", "us", floor)
    families, without = backends(out), missing(out)
    for name, make in all_cases(families):
        if time.perf_counter() - began > chosen.seconds:
            out.skip(name, "all", f"the {chosen.seconds:.0f} seconds are over")
            continue
        try:
            measured(make(), timer, out, ceiling, without)
        except Exception as error:
            out.skip(name, "all", report.first_line(error))
        free()


def free() -> None:
    """Give the libraries' cached memory back, for the next case's other sizes."""
    import sys

    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


if __name__ == "__main__":
    main()
