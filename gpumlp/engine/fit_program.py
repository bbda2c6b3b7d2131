"""The Program of the whole-fit kernel: many training steps in one launch, with weights and optimizer state on the chip.

It trains what fits (`gpumlp.engine.fit_plan`), and leaves the rest to the graphs that it holds: evaluation, prediction,
networks that are too large or of other kinds. A launch hands over nothing but where the data is and each step's
learning rate, and comes back with the losses; several models can be trained by one launch.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from gpumlp.backends.contract import Recorder
from gpumlp.backends.runtime import Array, Rows, float_words, words
from gpumlp.engine import cost, fit_plan
from gpumlp.engine.feed import Dataset, Part
from gpumlp.engine.fit_plan import Plan
from gpumlp.engine.graph_program import CAPACITY, PLANS, GraphProgram
from gpumlp.engine.program import Doubles, StepLogs, Task, one_after_the_other, pass_by_pass, rates_of
from gpumlp.errors import KernelError, warn_once
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer

CHOICES = ("auto", "graph", "tags", "barrier")  # GPUMLP_FIT: who decides, or which way of training and of exchanging
GIVEN_UP = "given up: "  # begins the reason where the kernel could have been used, and failed
LOG_BYTES = 64 << 20  # for rates and logs of a launch: with penalties, each column of each model has one at every step
MEMBER_POINTERS, MEMBER_NUMBERS = 10, 5  # of the struct Member in fit.cu, beside the optimizer's state


class _Launch:
    """Those models of a launcher that train at once, and their plan: where packets go, and how far the counts are."""

    def __init__(self, backend: Recorder, plan: Plan, first: int, count: int) -> None:
        self.plan, self.models = plan, slice(first, first + count)
        self.packets = backend.zeros((count, 2 * plan.half, 4), np.uint32)
        self.arrivals = backend.zeros((count, 1), np.uint32)
        self.number, self.awaited = 1, 0

    def count(self, steps: int) -> None:
        """Take note of so many steps."""
        plan = self.plan
        meetings = 0 if plan.group == 1 else 1 + (0 if plan.defines["TAGS"] else steps * plan.exchanges)
        self.awaited = (self.awaited + meetings * plan.group) % (1 << 32)
        self.number += steps


class _Launcher:
    """What trains some models: launches of as many as have room at once, queued one behind the other.

    What all of them are told goes to the device before the first one, and what they have logged comes back behind the
    last: the device waits for the host once, however many there are.
    """

    def __init__(self, backend: Recorder, plans: Sequence[tuple[Plan, int]]) -> None:
        self._backend, self.launches, self.models = backend, list[_Launch](), 0
        for plan, count in plans:
            self.launches.append(_Launch(backend, plan, self.models, count))
            self.models += count
        self.plan = plan = plans[0][0]  # what is asked of it here, all have in common
        zeros, models = backend.zeros, self.models
        each = 4 * plan.scalars + 8 * plan.series + 4 * plan.columns  # bytes of a step
        self.capacity = min(CAPACITY, max(1, LOG_BYTES // (models * each)))
        self.control = zeros(models * (self._words + self._rates(self.capacity)), np.int64)
        self.results = zeros(models * (self.capacity * plan.series + 1), np.float64)
        self.penalties = zeros(models * self.capacity * plan.columns, np.float32) if plan.columns else None
        self._kept: tuple[list[Array], int] = [], 0  # of which arrays, and how many steps, these are the words
        self._own = np.zeros((0, 0), np.int64)
        self._orders: tuple[list[Rows | None], Rows | None] = [], None  # those that are on the device

    @property
    def _words(self) -> int:
        pointers = MEMBER_POINTERS + max(self.plan.slots, 1)
        return pointers * self._backend.runtime.pointer_words + MEMBER_NUMBERS

    def _rates(self, steps: int) -> int:
        """Return in how many words the optimizer's numbers of so many steps have room."""
        return -(-steps * self.plan.scalars // 2)

    def parts(
        self, programs: Sequence[FitProgram], tasks: Sequence[Task]
    ) -> Generator[list[Part], None, None]:  # fmt: skip
        """Yield the tasks in parts, one of each: a single model's data may be streamed, those of several are there."""
        if len(tasks) == 1:
            task = tasks[0]
            for part in programs[0]._feed.parts(task.data, task.order, task.batch, task.first, task.last):
                yield [part]
            return
        found = []
        for task, order in zip(tasks, self._on_device([task.order for task in tasks]), strict=True):
            assert task.data.resident is not None
            found.append(Part(task.data.resident, order, task.first, task.last - task.first))
        yield found

    def _on_device(self, orders: list[Rows | None]) -> list[Rows | None]:
        """Return orders where the device reads them; they go there at once, and again when one is another."""
        kept, there = self._orders
        if len(kept) != len(orders) or not all(map(operator.is_, kept, orders)):
            given = [order for order in orders if order is not None]
            size = sum(map(len, given))
            if there is None or len(there) != size:
                there = self._backend.empty(size, np.int64) if size else None
            if there is not None:
                self._backend.assign(there, np.concatenate(given))
            self._orders = orders, there
        found, done = list[Rows | None](), 0
        for order in orders:
            found.append(None if order is None or there is None else there[done : done + len(order)])
            done += 0 if order is None else len(order)
        return found

    def run(
        self, programs: Sequence[FitProgram], tasks: Sequence[Task], parts: Sequence[Part], rates: Doubles, first: int,
    ) -> tuple[Array, Array, str]:  # fmt: skip
        """Run the steps of ``rates[models, steps, scalars]``.

        Return what was logged, [models, steps, series and columns], whether each model is well, and why some are not:
        those are as they were before.
        """
        plan, models = self.plan, self.models
        steps, length = rates.shape[1], rates.shape[1] * plan.series + 1
        scalars = self.control[models * self._words :][: models * self._rates(steps)].reshape(models, -1)
        results = self.results[: models * length].reshape(models, length)
        penalties = None
        if self.penalties is not None:
            penalties = self.penalties[: models * steps * plan.columns].reshape(models, -1)
        own = self._words_of_own(programs, tasks, scalars, results, penalties)
        data, numbers = self._words_of_data(tasks, parts, first)
        members, rate_words = np.concatenate([data, own, numbers], axis=1), float_words(rates.reshape(models, -1))
        control = np.concatenate([members.reshape(-1), rate_words.reshape(-1)])
        self._backend.assign(self.control[: len(control)], control)
        launched, why = self._launch(steps)
        logged = self._backend.to_host(results)
        well = logged[:, -1] == -0.5 - steps - numbers[:, MEMBER_NUMBERS - 2]
        well[launched:] = False
        logged = logged[:, :-1].reshape(models, steps, plan.series)
        if penalties is not None:
            columns = self._backend.to_host(penalties).reshape(models, steps, plan.columns)
            logged = np.concatenate([logged, columns], axis=2)
        return logged, well, why

    def _launch(self, steps: int) -> tuple[int, str]:
        """Launch all; return how many models have been, and why the others have not.

        KernelError where that are none.
        """
        for launch in self.launches:
            plan, models = launch.plan, launch.models
            members = self.control[models.start * self._words : models.stop * self._words]
            blocks = (models.stop - models.start) * plan.group
            try:
                self._backend.runtime.launch(
                    "fit.cu", "fit", plan.defines, (blocks, 1), (members, steps, plan.numbers), shared=plan.shared,
                    cooperative=plan.group > 1,
                )  # fmt: skip
            except KernelError as error:
                if models.start == 0:
                    raise
                return models.start, str(error)
            launch.count(steps)
        return self.models, "blocks of the whole-fit kernel waited for others in vain"

    def _words_of_data(
        self, tasks: Sequence[Task], parts: Sequence[Part], first: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the pointers to each model's data, and the numbers of its launch, by its row."""
        pointers, numbers, found = list[list[int]](), list[tuple[int, ...]](), dict[int, list[int]]()
        for task, part in zip(tasks, parts, strict=True):
            data, samples = part.data, len(part.data)
            if id(data) not in found:  # which most have in common
                found[id(data)] = words(self._backend.runtime, (data.x, data.y, data.weights))
            pointers.append([*found[id(data)], *self._backend.runtime.pointer(part.order)])
            numbers.append((first, -(-samples // task.batch), samples, 0, 0))
        counted = np.array(numbers, np.int64)
        for launch in self.launches:
            counted[launch.models, MEMBER_NUMBERS - 2 :] = launch.number, launch.awaited
        return np.array(pointers, np.int64), counted

    def _words_of_own(
        self, programs: Sequence[FitProgram], tasks: Sequence[Task], scalars: Array, results: Array,
        penalties: Array | None,
    ) -> npt.NDArray[np.int64]:  # fmt: skip
        """Return the pointers to what is each model's own, by its row; they are kept for the next launch like this."""
        arrays, steps, none = list[Array](), results.shape[1], list[Array | None]([None])
        for program, task in zip(programs, tasks, strict=True):
            arrays.append(program.arena.params)
            arrays += [task.slots[name] for name in task.optimizer.slots]  # type: ignore[index, union-attr]
        kept, of = self._kept
        if of == steps and len(kept) == len(arrays) and all(map(operator.is_, kept, arrays)):
            return self._own
        found, each = [], len(arrays) // self.models
        exchanges = [pair for launch in self.launches for pair in zip(launch.packets, launch.arrivals, strict=True)]
        for k, exchange in enumerate(exchanges):
            params, *slots = arrays[k * each : (k + 1) * each]
            own = scalars[k], results[k], None if penalties is None else penalties[k]
            found.append(words(self._backend.runtime, (*own, params, *(slots or none), *exchange)))
        self._kept, self._own = (arrays, steps), np.array(found, np.int64)
        return self._own


@dataclass(frozen=True)
class _Choice:
    """What was decided for the steps of some models: what launches them, in words; or why nothing does."""

    why: str
    launcher: _Launcher | None = None


class FitProgram:
    """Training by the whole-fit kernel where it can and pays, else by ``graphs``; `describe` says which, and why."""

    first_stretch = GraphProgram.first_stretch
    takes_passes = True

    def __init__(self, graphs: GraphProgram) -> None:
        self.graphs, self.network, self.arena = graphs, graphs.network, graphs.arena
        self.backend, self.batch = graphs.backend, graphs.batch
        self._feed = graphs.feed  # one for both: a stream's places are not there twice
        self._choices: dict[tuple[int, tuple[object, ...]], _Choice] = {}
        self._known: tuple[tuple[object, ...], tuple[object, ...]] = (), ()  # of what the last key was, and that
        self._last: _Choice | None = None
        self._mode = os.environ.get("GPUMLP_FIT") or "auto"
        if self._mode not in CHOICES:
            raise ValueError(f"GPUMLP_FIT must be one of {', '.join(CHOICES)}; got {self._mode!r}.")
        self._graphs_only = "GPUMLP_FIT=graph" if self._mode == "graph" else ""
        network = graphs.network
        self._built_in = (network.trainable, *fit_plan.stages_of(network), *network.penalties, *network.ops[:1])

    def describe(self) -> str:
        """Return how steps are run, and why so."""
        if self._last is None:
            return self.graphs.describe()
        if self._last.launcher is None:
            return f"{self.graphs.describe()}; not the whole-fit kernel: {self._last.why}"
        return self._last.why

    def run(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None, scalars: Doubles | None = None,
    ) -> StepLogs:  # fmt: skip
        """See `Program.run`."""
        task = Task(data, order, batch, first, last, loss, metrics, optimizer, slots, scalars)
        return self.run_together([self], [task])[0]

    def predict(self, x: Array, out: Array, batch: int) -> None:
        """See `Program.predict`."""
        self.graphs.predict(x, out, batch)

    @classmethod
    def run_together(cls, programs: Sequence[Self], tasks: Sequence[Task]) -> list[StepLogs]:
        """Run the steps of several models in as few launches as there can be; see `Program.run_together`."""
        first, count = programs[0], len(programs)
        tasks = [task if task.scalars is not None else task._replace(scalars=rates_of(task)) for task in tasks]
        if count > 1 and not _alike(programs, tasks):
            return one_after_the_other(programs, tasks)
        choice = first._choose(tasks[0], count)
        for program in programs:
            program._last = choice
        if choice.launcher is None:
            run = functools.partial(one_after_the_other, [program.graphs for program in programs])
            return pass_by_pass(run, tasks)
        found, done = StepLogs.zeros((count, tasks[0].last - tasks[0].first), tasks[0].metrics), [0] * count
        logs = found.each()
        try:
            _launch_all(choice.launcher, programs, tasks, found, done)
        except KernelError as error:  # a model that a launch fails on is as it was: its steps are still to be done
            for k, (program, task) in enumerate(zip(programs, tasks, strict=True)):
                program._give_up(str(error))
                if task.first + done[k] < task.last:
                    rest = pass_by_pass(
                        functools.partial(one_after_the_other, [program.graphs]), [_rest(task, done[k])]
                    )
                    logs[k].put(done[k], *rest)
        return logs

    def _give_up(self, why: str) -> None:
        """From now on leave everything to graphs: slower, so whoever could have had the kernel is told, once."""
        self._choices.clear()
        self._graphs_only = GIVEN_UP + why
        self._last = _Choice(self._graphs_only)
        warn_once(  # which may raise
            self._graphs_only,
            "The whole-fit kernel can train this network and failed; recorded steps, which are slower, take its place: "
            + why.partition("\n")[0],
        )

    def _key(self, task: Task) -> tuple[object, ...]:
        """Return all that a launch is compiled for."""
        assert task.data.y is not None and task.optimizer is not None
        data = task.batch, task.data.weights is not None, task.data.y.shape[1]
        of = *data, task.loss, *task.metrics, task.optimizer._made
        if len(of) != len(self._known[0]) or not all(map(operator.is_, of, self._known[0])):
            config = task.optimizer.formula.text, *task.optimizer.numbers.items()
            loss = task.loss.formula.text, *task.loss.numbers.items()  # an object of one's own is equal to itself alone
            self._known = of, (*data, loss, *task.metrics, *config, *self._built_in)
        return self._known[1]

    def _choose(self, task: Task, models: int) -> _Choice:
        if task.optimizer is None or task.slots is None:
            return _Choice("nothing is trained")
        key = models, self._key(task)
        if key not in self._choices:
            if len(self._choices) >= PLANS:
                del self._choices[next(iter(self._choices))]
            self._choices[key] = self._decide(task, models)
        return self._choices[key]

    def _decide(self, task: Task, models: int) -> _Choice:
        if self._graphs_only:
            return _Choice(self._graphs_only)
        assert task.optimizer is not None and task.data.y is not None
        problem = fit_plan.problem_of(
            self.network, self.arena, task.batch, task.loss, task.metrics, task.optimizer, task.data.y.shape[1],
            task.data.weights is not None,
        )  # fmt: skip
        if isinstance(problem, str):
            return _Choice(problem)
        runtime = self.backend.runtime
        machine = cost.machine(runtime)
        tags = cost.tags_by_default(machine) if self._mode == "auto" else self._mode == "tags"
        plans, rest = list[tuple[Plan, int]](), models
        while rest:
            plan = fit_plan.best_plan(problem, runtime, tags, rest)
            if isinstance(plan, str):
                return _Choice(plan)
            at_once = rest if plan.group == 1 else min(rest, runtime.multiprocessors // plan.group)
            plans += [(plan, at_once)] * (rest // at_once)
            rest %= at_once  # which a plan of their own trains faster
        graph, predicted = cost.graph_seconds(problem, machine), sum(plan.predicted for plan, _ in plans)
        if self._mode == "auto" and graph * models < predicted:
            return _Choice(f"a step is predicted to take {predicted * 1e6:.1f} us, and {graph * 1e6:.1f} us as a graph")
        launcher = _Launcher(self.backend, plans)
        return _Choice(_told(launcher, tags, machine), launcher)


def _rest(task: Task, done: int) -> Task:
    """Return a task without its first ``done`` steps."""
    assert task.scalars is not None
    return task._replace(first=task.first + done, scalars=task.scalars[done:])


def _alike(programs: Sequence[FitProgram], tasks: Sequence[Task]) -> bool:
    """Whether one launch can run all: the same kernel, and every model's data on the device."""
    if any(task.optimizer is None for task in tasks):
        return False
    first = programs[0]._key(tasks[0])
    for program, task in zip(programs, tasks, strict=True):
        if program._key(task) != first or not program._feed.is_resident(task.data):
            return False
        program._known = program._known[0], first  # they are compared by their parts, the next time the same objects
    return True


def _told(launcher: _Launcher, tags: bool, machine: cost.Machine) -> str:
    plan, models = launcher.plan, launcher.launches[0].models.stop
    blocks = f"{plan.group} block{'s' if plan.group > 1 else ''} of {plan.threads} threads"
    exchange = "" if plan.group == 1 else f", exchange by {'tags' if tags else 'a barrier'}"
    return (
        f"whole-fit kernel: up to {launcher.capacity} steps in one launch on {blocks}{exchange}"
        f"{f'; {models} models at once' if launcher.models > 1 else ''}; "
        f"predicted {plan.predicted * 1e6:.1f} us a step ({machine.source} constants)"
    )


def _launch_all(
    launcher: _Launcher, programs: Sequence[FitProgram], tasks: Sequence[Task], logs: StepLogs, done: list[int]
) -> None:
    """Run all steps of the tasks, which are as many each; count in ``done`` which of each have run and are logged.

    KernelError where a launch fails, for some models or for all.
    """
    rates = np.stack([rates_of(task) for task in tasks])  # type: ignore[misc]
    with closing(launcher.parts(programs, tasks)) as all_parts:  # at once: graphs will want the places of a stream
        for parts in all_parts:
            for start in range(0, parts[0].steps, launcher.capacity):
                count = min(launcher.capacity, parts[0].steps - start)
                now = slice(done[0], done[0] + count)  # they are as far as each other: a failure ends this
                logged, well, why = launcher.run(programs, tasks, parts, rates[:, now], parts[0].first + start)
                _read(launcher.plan, tasks[0], parts, parts[0].first + start, logged, logs, now)
                for k in np.flatnonzero(well).tolist():
                    tasks[k].optimizer.count(count)  # type: ignore[union-attr]
                    programs[k].arena.version += 1
                    done[k] += count
                if not well.all():
                    raise KernelError(why)


def _read(
    plan: Plan, task: Task, parts: Sequence[Part], first: int, logged: Array, logs: StepLogs,
    where: slice[int, int, None],
) -> None:  # fmt: skip
    """Put what launches logged of models, from batch ``first`` of their parts on, into their logs; ``task``: like all.

    Those of models that are not well are still to be written.
    """
    rows = np.array([_rows(len(part.data), task.batch, first, logged.shape[1]) for part in parts])
    logs.samples[:, where] = rows
    logs.losses[:, where] = logged[:, :, 0] / rows
    logs.totals[:, where] = logged[:, :, 1 : 1 + logs.totals.shape[2]]
    for i, metric in enumerate(task.metrics):
        weighted = metric.weighted and task.data.weights is not None
        logs.counts[:, where, i] = logged[:, :, plan.series - 1] if weighted else rows
    if plan.columns:
        logs.losses[:, where] += logged[:, :, plan.series :].sum(axis=2, dtype=np.float64)


@functools.lru_cache(maxsize=8)  # an ensemble's members ask for the same
def _rows(samples: int, batch: int, first: int, steps: int) -> Doubles:
    """Return how many samples each of so many steps has, which may be those of several passes."""
    k = np.arange(first, first + steps) % -(-samples // batch)
    rows = (np.minimum((k + 1) * batch, samples) - k * batch).astype(np.float64)
    rows.flags.writeable = False
    return rows
