"""Every good plan of the whole-fit kernel, timed: whether the one that gpumlp takes is the fastest.

``--compile ARCHIVE`` compiles them where there is no GPU, for `python -m gpumlp cache import`. On a GPU each plan of a
network trains the same steps, from the same weights; all must end with the same bits. A row has the device's time of a
step, and what was predicted for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import environment  # noqa: F401, its paths come before the package
import fit_cases
import gpu_cache
import nvrtcs
import report
from gpu_contenders import OurFit
from report import Report
from workloads import GPU_STEPS, Workload

from gpumlp.backends import cache_archive, compiler
from gpumlp.engine import fit_plan
from gpumlp.engine.fit_plan import Plan

NETWORKS = list(GPU_STEPS.values())[:3]
STEPS, REPEATS = 400, 5
WITHIN = 1.7  # times the best prediction: slower ones are left out


def good_plans(workload: Workload, chip: Any, most: int) -> list[Plan]:
    """Return the plans that may be the fastest, best prediction first."""
    problem = fit_cases.of(workload).problem()
    assert not isinstance(problem, str)
    found = sorted(fit_plan.plans(problem, chip, True), key=lambda plan: plan.predicted)
    return [plan for plan in found if plan.predicted <= WITHIN * found[0].predicted][:most]


def words(plan: Plan) -> str:
    """Return a plan's name in a row."""
    ahead = "" if plan.defines["AHEAD"] else ", not ahead"
    return f"{plan.group} blocks of {plan.threads}, {plan.defines['MOST_AT_ONCE']} at once{ahead}"


def measured(workload: Workload, plan: Plan) -> tuple[list[float], bytes]:
    """Return microseconds a step of a fit by this plan, on the device, and its weights' bytes."""
    import cupy

    work = replace(workload, steps=STEPS, epochs=1)
    with mock.patch.object(fit_plan, "best_plan", lambda *_: plan):
        fit = OurFit(work, "tags")
        runtime, times = fit._runtime, []
        launch: Callable[..., None] = runtime.launch

        def timed(file: str, *arguments: Any, **how: Any) -> None:
            events = cupy.cuda.Event(), cupy.cuda.Event()
            events[0].record()
            launch(file, *arguments, **how)
            events[1].record()
            times.append((file, events))

        fit()
        weights = b"".join(w.tobytes() for w in fit._model.get_weights())
        with mock.patch.object(runtime, "launch", timed):
            found = []
            for _ in range(REPEATS):
                times.clear()
                fit()
                cupy.cuda.runtime.deviceSynchronize()
                found.append(sum(cupy.cuda.get_elapsed_time(*e) for f, e in times if f == "fit.cu") * 1e3 / STEPS)
    return found, weights


def on_gpu(out: Report, most: int, seconds: float) -> None:
    """Time the plans of all networks."""
    from gpumlp import devices

    runtime = devices.resolve("cuda").backend().runtime
    for number, workload in enumerate(NETWORKS):
        ends = time.perf_counter() + seconds / len(NETWORKS)
        bits: set[bytes] = set()
        for plan in good_plans(workload, runtime, most):
            if time.perf_counter() > ends:
                break
            name = f"plans {number}: {workload.name}"
            try:
                times, weights = measured(workload, plan)
            except Exception as error:
                out.skip(name, words(plan), report.first_line(error))
                continue
            bits.add(weights)
            same = "" if len(bits) == 1 else "OTHER BITS"
            out.add(name, words(plan), "us", times, predicted=plan.predicted * 1e6, note=same)


def texts(chip: Any, most: int) -> Iterator[tuple[str, str]]:
    """Yield what the plans' kernels are compiled from, with their file's name."""
    for workload in NETWORKS:
        for plan in good_plans(workload, chip, most):
            yield compiler.text_of("fit.cu", plan.defines), "fit.cu"


def main() -> None:
    """Compile, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--compile", type=Path, help="an archive to be made, without a GPU")
    parser.add_argument("--output", type=Path, help="where the rows go")
    parser.add_argument("--most", type=int, default=30, help="plans of a network")
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    if chosen.compile:
        found = dict(texts(fit_cases.CHIPS["sm_90"], chosen.most))
        codes = gpu_cache.compiled(found, "sm_90", nvrtcs.get(nvrtcs.COMMON))
        cache_archive.write(chosen.compile, f"plans, NVRTC {nvrtcs.COMMON}", codes)
        print(f"{chosen.compile}: {len(found)} plans")
        return
    report.need_gpu()
    on_gpu(Report(chosen.output, "plans"), chosen.most, chosen.seconds)


if __name__ == "__main__":
    main()
