"""What the whole-fit kernel is compiled for, without a GPU: networks, and GPUs as far as a plan asks about them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from workloads import Workload

from gpumlp import layers, losses, metrics, optimizers
from gpumlp.engine import cost, fit_plan
from gpumlp.engine.arena import alone
from gpumlp.engine.network import describe


@dataclass(frozen=True)
class Chip:
    """A GPU: to a plan it is what a runtime would say of it."""

    arch: str
    multiprocessors: int
    shared_bytes: int  # that a block may have


@dataclass(frozen=True)
class Training:
    """A stack of Dense layers, and how it is trained."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    loss: str = "mse"
    last: str | None = None  # activation
    hidden: str = "relu"
    metrics: tuple[str, ...] = ()
    regularizer: str | None = None
    optimizer: optimizers.Optimizer = field(default_factory=optimizers.Adam)

    def problem(self) -> fit_plan.Problem | str:
        """Return what a plan is made from, or why the kernel cannot."""
        *hidden, last = self.sizes[1:]
        stack: list[Any] = [layers.Dense(n, self.hidden, kernel_regularizer=self.regularizer) for n in hidden]
        network = describe([*stack, layers.Dense(last, self.last)], (self.sizes[0],))
        loss = losses.described(self.loss)
        targets = 1 if loss.sparse else last
        counted = [metrics.get(m, loss=loss, target_width=targets, output_width=last) for m in self.metrics]
        arena = alone(network.weights, "float32")
        return fit_plan.problem_of(network, arena, self.batch, loss, counted, self.optimizer, targets, False)

    def plan(self, chip: Any, tags: bool, models: int = 1) -> fit_plan.Plan | str:
        """Return how a GPU (a `Chip`, a runtime) would train so many of it, or why it cannot."""
        problem = self.problem()
        return problem if isinstance(problem, str) else fit_plan.best_plan(problem, chip, tags, models)

    @functools.cache  # noqa: B019, there are a few
    def predicted(self, chip: Any, mode: str, whole: bool, models: int = 1) -> float | None:
        """Return the seconds that gpumlp predicts for a step of all models.

        Of the ``whole``-fit kernel by ``mode`` (GPUMLP_FIT's), as many models at once as have room; or as graphs.
        """
        problem, machine = self.problem(), cost.machine(chip)
        if isinstance(problem, str):
            return None
        if not whole:
            return models * cost.graph_seconds(problem, machine)
        tags = cost.tags_by_default(machine) if mode == "auto" else mode == "tags"
        plan = fit_plan.best_plan(problem, chip, tags, models)
        return None if isinstance(plan, str) else plan.predicted * -(-models // (chip.multiprocessors // plan.group))


def of(workload: Workload) -> Training:
    """Return a benchmark's workload as the whole-fit kernel knows it."""
    adam = optimizers.Adam(workload.learning_rate, epsilon=workload.epsilon)
    optimizer = optimizers.SGD(workload.learning_rate) if workload.sgd else adam
    how = ("sparse_categorical_crossentropy", "softmax") if workload.classes else ("mse", None)
    return Training(workload.name, workload.sizes, workload.batch, *how, optimizer=optimizer)


# One GPU for each architecture: most of its shared memory, and how many multiprocessors to cut the work for.
CHIPS = {
    chip.arch: chip
    for chip in (
        Chip("sm_75", 40, 64 << 10), Chip("sm_80", 108, 163 << 10), Chip("sm_86", 82, 99 << 10),
        Chip("sm_89", 128, 99 << 10), Chip("sm_90", 132, 227 << 10), Chip("sm_100", 148, 227 << 10),
        Chip("sm_120", 170, 99 << 10),
    )
}  # fmt: skip

ARTICLE = Training("1-256x7-1, batch 20", (1, *[256] * 7, 1), 20)
POLICY = Training("16-64-64-1, batch 64", (16, 64, 64, 1), 64)
CLASSIFIER = Training(
    "64-64x4-10, batch 32: softmax, cross-entropy, accuracy", (64, *[64] * 4, 10), 32,
    "sparse_categorical_crossentropy", "softmax", metrics=("accuracy",),
)  # fmt: skip
PENALISED = Training(
    "8-64x3-2, batch 32: silu, l2, momentum", (8, *[64] * 3, 2), 32, hidden="silu", regularizer="l2",
    optimizer=optimizers.SGD(0.01, momentum=0.9),
)  # fmt: skip

# (network, architecture, exchange by tags): each where it would be used
CASES = (
    *((ARTICLE, arch, True) for arch in CHIPS),
    (ARTICLE, "sm_90", False),
    *((POLICY, arch, True) for arch in ("sm_75", "sm_86", "sm_90")),
    *((CLASSIFIER, arch, True) for arch in ("sm_75", "sm_86", "sm_90")),
    (CLASSIFIER, "sm_90", False),
    *((PENALISED, arch, True) for arch in ("sm_80", "sm_90")),
)
