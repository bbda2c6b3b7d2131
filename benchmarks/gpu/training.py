"""Training steps of whole networks on this GPU: gpumlp beside PyTorch, JAX and Keras, each in a process of its own.

All start from the same weights and see the same batches, in float32 with TF32 off, their data on the device. The first
turn, which compiles, is a row of its own, and its loss must agree with ours. Then they take turns for several rounds,
and ratios are taken within a round.
"""

from __future__ import annotations

import math
import time
from importlib.util import find_spec

import environment  # noqa: F401, its paths and settings come before the libraries
import report
import units
from gpu_contenders import GPU_CONTENDERS
from report import Report
from turns import Worker, same_loss
from workloads import GPU_STEPS, Workload

LIMIT = 190.0  # seconds for all; each workload may take its part of what is left
ROUNDS = 7
LEAST = 3  # rounds, however long they take
TOLERANCE = 0.05  # relative, of the first epoch's mean loss: PyTorch's place for Adam's epsilon alone makes 1.5%
FIRST = 60.0  # seconds that a first turn may take
OURS = "gpumlp, CUDA"


def started(workload: Workload, out: Report) -> dict[str, Worker]:
    """Return the processes of all contenders whose packages are here, started together; report the others."""
    workers = {}
    for name, (_, packages) in GPU_CONTENDERS.items():
        missing = [p for p in packages if find_spec(p) is None]
        if missing:
            out.skip(workload.name, name, f"{missing[0]} is not installed", "us per step")
        else:
            workers[name] = Worker("gpu step", name, workload.name)
    return kept(workers, workload, out, lambda w: w.ready(FIRST))


def kept(workers: dict[str, Worker], workload: Workload, out: Report, act) -> dict[str, Worker]:
    """Return the workers for which ``act`` succeeds; report the others and end them."""
    good = {}
    for name, worker in workers.items():
        try:
            act(worker)
        except Exception as error:
            worker.close(0.0)
            out.skip(workload.name, name, report.first_line(error), "us per step")
        else:
            good[name] = worker
    return good


def agreeing(workers: dict[str, Worker], workload: Workload, out: Report) -> dict[str, Worker]:
    """Take the first turns, report their seconds, and return the workers whose loss is ours."""
    answers = {}

    def first(worker: Worker) -> None:
        answers[worker.contender] = worker.turn(FIRST)

    good = kept(workers, workload, out, first)
    wanted = answers.get(OURS, next(iter(answers.values()), {})).get("loss")

    def same(worker: Worker) -> None:
        loss = answers[worker.contender]["loss"]
        if not same_loss(loss, wanted, TOLERANCE):
            raise RuntimeError(f"its loss is {loss}, gpumlp's {wanted}: not the same work, and not timed")

    good = kept(good, workload, out, same)
    ours = [answers[OURS]["seconds"]] if OURS in good else []
    for name in good:
        packages = GPU_CONTENDERS[name][1]
        note = f"loss {answers[name]['loss']:.6g}"
        seconds = [answers[name]["seconds"]]
        out.add(f"{workload.name}, first turn", name, "s", seconds, ours, packages, note=note)
    return good


def timed(workers: dict[str, Worker], workload: Workload, out: Report, seconds: float) -> None:
    """Take turns for some rounds, within about so many seconds, and report microseconds per step."""
    began, times = time.perf_counter(), {name: [] for name in workers}  # type: ignore[var-annotated]
    number = 0
    while workers and number < ROUNDS and (number < LEAST or time.perf_counter() - began < seconds):
        for name in list(workers):
            try:
                times[name].append(workers[name].turn(FIRST)["seconds"])
            except Exception as error:
                out.skip(workload.name, name, report.first_line(error), "us per step")
                workers.pop(name).close(0.0)
        number += 1
    flops = units.mlp_step_flops(workload.sizes, workload.batch)
    steps = workload.steps * workload.epochs
    for name in workers:
        each = [t / steps * 1e6 for t in times[name]]
        ours = [t / steps * 1e6 for t in times[OURS]] if OURS in workers else []
        rate = units.tflops(flops, sorted(each)[len(each) // 2])
        more = {"rate": float(f"{rate:.4g}"), "rate_unit": "TFLOP/s", "note": f"{steps} steps a turn"}
        out.add(workload.name, name, "us per step", each, ours, GPU_CONTENDERS[name][1], **more)


def main() -> None:
    """Measure every workload, within the time."""
    chosen = report.arguments(__doc__)
    report.need_gpu()
    out = Report(chosen.output, "training")
    deadline = time.perf_counter() + LIMIT
    for number, workload in enumerate(GPU_STEPS.values()):
        left = deadline - time.perf_counter()
        if left < LIMIT / 20:
            out.skip(workload.name, "all", f"the {LIMIT:.0f} seconds are over", "us per step")
            continue
        end = time.perf_counter() + left / (len(GPU_STEPS) - number)
        workers: dict[str, Worker] = {}
        try:
            workers = agreeing(started(workload, out), workload, out)
            workers = kept(workers, workload, out, lambda w: w.turn(FIRST))  # the second turn: all is warm after it
            timed(workers, workload, out, max(end - time.perf_counter(), 0.0))
        finally:
            for worker in workers.values():
                worker.close(0.0)  # nothing to be saved, and an orderly end takes some of them seconds
    if not any(r.contender == OURS and not math.isnan(r.median) for r in out.rows):
        print("gpumlp was not measured: see the notes of its rows", flush=True)


if __name__ == "__main__":
    main()
