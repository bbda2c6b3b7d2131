"""Contenders on this GPU in turns, each in a process of its own; what they must agree on before they are timed.

All start from the same weights and see the same batches, with Adam in float32, TF32 off, if they name nothing else.
First turns, which compile, are taken side by side, to save time; each is a row, and its loss must agree with ours, or,
where a contender does other work than most, with that of whom it stands beside. Then come turns one after the other,
for several rounds, and ratios are taken within a round. Who cannot take part has a row that says why.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import environment  # noqa: F401, its paths and settings come before the libraries
import report
import rows
import units
from gpu_contenders import FAILED
from report import Report
from rows import significant
from suites import SUITES
from turns import Worker, same_loss
from workloads import Workload

ROUNDS = 7
LEAST = 3  # rounds, however long they take
# Relative, of the first epoch's mean loss: PyTorch's place for Adam's epsilon alone makes 1.5%. Products in bf16 make
# 0.1% with SGD; Adam's and SGD's losses are 10% apart.
TOLERANCE = 0.05
FIRST = 60.0  # seconds that all starts, or all first turns, may take
OURS = "gpumlp"
WRONG = "its loss is nobody else's"

Workers = dict[str, Worker]


@dataclass(frozen=True)
class Contest:
    """A suite's workloads and contenders, and what its rows count: ``scale`` x seconds over ``parts`` of a turn.

    ``beside``: for those who do other work than the rest, whose loss theirs must agree with instead of ours.
    """

    suite: str
    unit: str
    scale: float
    parts: Callable[[Workload], int]
    beside: Mapping[str, str] = field(default_factory=dict)

    def measure(self, workload: Workload, out: Report, seconds: float, patience: float = FIRST) -> None:
        """Measure a workload, within about so many seconds; all starts, or all first turns, may take the patience."""
        end = time.perf_counter() + seconds
        workers: Workers = {}
        try:
            workers = self._agreeing(self._started(workload, out, patience), workload, out, patience)
            workers = self._kept(workers, workload, out, lambda w: w.turn(FIRST))  # all is warm after a second turn
            self._timed(workers, workload, out, end - time.perf_counter())
        finally:
            for worker in workers.values():
                worker.close(0.0)  # nothing to be saved, and an orderly end takes some of them seconds

    def _packages(self, name: str) -> tuple[str, ...]:
        return SUITES[self.suite][0][name][1]

    def _started(self, workload: Workload, out: Report, patience: float) -> Workers:
        """Return the processes of all contenders whose packages are here, started together; report the others."""
        workers = {}
        for name in SUITES[self.suite][0]:
            missing = [p for p in self._packages(name) if find_spec(p) is None]
            if missing:
                out.skip(workload.name, name, f"{missing[0]} is not installed", self.unit)
            else:
                workers[name] = Worker(self.suite, name, workload.name)
        left = countdown(patience)
        return self._kept(workers, workload, out, lambda w: w.ready(left()))

    def _kept(self, workers: Workers, workload: Workload, out: Report, act: Callable[[Worker], Any]) -> Workers:
        """Return the workers for which ``act`` succeeds; report the others and end them."""
        good = {}
        for name, worker in workers.items():
            try:
                act(worker)
            except Exception as error:
                worker.close(0.0)
                out.skip(workload.name, name, report.first_line(error), self.unit)
            else:
                good[name] = worker
        return good

    def _agreeing(self, workers: Workers, workload: Workload, out: Report, patience: float) -> Workers:
        """Take the first turns, report their seconds, and return the workers whose loss is ours."""
        answers = {}

        def first(worker: Worker) -> None:
            answers[worker.contender] = worker.answer(left())

        def same(worker: Worker) -> None:
            loss, other = answers[worker.contender]["loss"], self.beside.get(worker.contender, OURS)
            wanted = answers.get(other, next(iter(answers.values())))["loss"]
            if not same_loss(loss, wanted, TOLERANCE):
                raise RuntimeError(f"its loss is {loss}, not {wanted} as {other}'s: not the same work, and not timed")

        def right(worker: Worker) -> None:
            peers = [a["loss"] for name, a in answers.items() if not name.startswith(OURS) and name not in self.beside]
            loss = answers[worker.contender]["loss"]
            if worker.contender == OURS and len(peers) > 1 and not any(same_loss(p, loss, TOLERANCE) for p in peers):
                raise RuntimeError(f"{WRONG}: {loss}, and the peers' are {', '.join(map(str, peers))}")

        good = self._kept(workers, workload, out, Worker.ask)
        left = countdown(patience)
        good = self._kept(good, workload, out, first)
        good = self._kept(good, workload, out, right)  # ours is the one that others are held against
        good = self._kept(good, workload, out, same)
        for name in good:
            note, seconds = f"loss {answers[name]['loss']:.6g}", [answers[name]["seconds"]]
            out.add(
                f"{workload.name}, first turns, all at once", name, "s", seconds, (), self._packages(name), note=note
            )
        return good

    def _timed(self, workers: Workers, workload: Workload, out: Report, seconds: float) -> None:
        """Take turns for some rounds, within about so many seconds, and report them."""
        began, number = time.perf_counter(), 0
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        while workers and number < ROUNDS and (number < LEAST or time.perf_counter() - began < seconds):
            for name in list(workers):
                try:
                    answers[name].append(workers[name].turn(FIRST))
                except Exception as error:
                    out.skip(workload.name, name, report.first_line(error), self.unit)
                    workers.pop(name).close(0.0)
            number += 1
        times = {name: self._counted(workload, answers[name]) for name in workers}
        for name, each in times.items():
            more = self._told(workload, statistics.median(each), answers[name][-1])
            if self.beside.get(name, name) != name:
                more["note"] += f"; other work than most: to be read beside {self.beside[name]}"
            out.add(workload.name, name, self.unit, each, times.get(OURS, ()), self._packages(name), **more)

    def _counted(self, workload: Workload, answers: list[dict[str, Any]]) -> list[float]:
        return [a["seconds"] * self.scale / self.parts(workload) for a in answers]

    def _told(self, workload: Workload, median: float, answer: dict[str, Any]) -> dict[str, Any]:
        """Return a row's other columns: what the time amounts to, and what our own contenders say of themselves."""
        steps, seconds = workload.steps * workload.epochs, median * self.parts(workload) / self.scale
        more: dict[str, Any] = {"note": answer.get("program") or f"{steps} steps a turn"}
        if workload.members > 1:
            more |= {"rate": significant(workload.members / seconds), "rate_unit": f"models of {steps} steps a second"}
        else:
            rate = units.tflops(steps * units.mlp_step_flops(workload.sizes, workload.batch), seconds * 1e6)
            more |= {"rate": significant(rate), "rate_unit": "TFLOP/s"}
        if answer.get("predicted"):
            more["predicted"] = significant(answer["predicted"] * steps * self.scale / self.parts(workload))
        return more


def countdown(seconds: float) -> Callable[[], float]:
    """Return the function that says how many of them are left: for what runs at once, but is awaited one by one."""
    end = time.perf_counter() + seconds
    return lambda: max(end - time.perf_counter(), 0.0)


def lost(found: Collection[rows.RateRow]) -> str:
    """Return where we failed to train as we said, or were never measured; nothing where all is well."""
    ours = [r for r in found if r.contender.startswith(OURS)]
    for row in ours:
        if FAILED in row.note or WRONG in row.note:
            return f"{row.workload}, {row.contender}: {row.note}"
    if not any(r.contender == OURS and r.median == r.median for r in ours):
        return "gpumlp was not measured: see the notes of its rows"
    return ""


def verdict(out: Report) -> int:
    """Return a part's exit status: 1, with the reason, where we lost."""
    if why := lost(out.rows):
        print(why, flush=True)
    return int(bool(why))


def each_its_part(workloads: Collection[Workload], out: Report, limit: float, unit: str, measure: Any) -> None:
    """Call ``measure(workload, seconds)`` for every workload, as long as ``limit`` seconds last; report who is late."""
    deadline = time.perf_counter() + limit
    for number, workload in enumerate(workloads):
        left = deadline - time.perf_counter()
        if left < limit / 12:
            out.skip(workload.name, "all", f"the {limit:.0f} seconds are over", unit)
        else:
            measure(workload, left / (len(workloads) - number))
