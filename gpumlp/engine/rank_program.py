"""One model over ranks: each computes some shards of a batch, and updates some slices of the weights.

A step on 2 ranks:

    rank 0                                            rank 1
    shards 0 to 3: forward, backward                  shards 4 to 7: forward, backward
    the sum of their gradients, by the tree           the sum of theirs
      ==== all_to_all: of each sum the slices, to the rank that has them =================
    all of slices 0 to 3, by the tree                 all of slices 4 to 7
    their update, with their state                    their update, with their state
      ==== all_gather: the new weights ====================================================

Losses and metrics go by the same tree, before. What is computed, and in which order numbers are added, depends on the
batch and the weights alone: shards, slices and tree are the same on 1, 2, 4 and 8 ranks, and so are the bits. Without
ranks a batch is one sum, in another order.

How many steps come at once is each rank's own affair, as it depends on its clock: whatever goes between ranks does so
within a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol, Self, cast

import numpy as np

from gpumlp import constraints, regularizers
from gpumlp.backends.numpy_backend import Scratch
from gpumlp.backends.runtime import Array, Rows
from gpumlp.distributed import cost, tree
from gpumlp.engine.feed import Dataset, Feed, Part
from gpumlp.engine.network import Network
from gpumlp.engine.normalization import BatchNormOp
from gpumlp.engine.operation import Place
from gpumlp.engine.operations import ActivityOp
from gpumlp.engine.program import Batch, Program, StepLogs, Task, one_after_the_other, rates_of
from gpumlp.engine.share import Doubles, Piece, Share
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer, stages
from gpumlp.optimizers.gathering import GRADIENT, Gathering
from gpumlp.optimizers.stages import Variable
from gpumlp.regularizers import L1L2


def rows_of(batch: int) -> int:
    """Return how many rows of a batch a shard has at most."""
    return -(-batch // tree.SHARDS)


def refuse(network: Network, optimizer: Optimizer | None) -> None:
    """Raise NotImplementedError for what ranks cannot share; without an ``optimizer`` nothing is trained."""
    found = [
        f"the activity regularizer {type(op.regularizer).__name__} of {name!r}, which may be no sum over samples"
        for op, name in zip(network.ops, network.names, strict=True)
        if isinstance(op, ActivityOp) and not isinstance(op.regularizer, L1L2)
    ]
    if optimizer is not None:
        found += [
            f"the BatchNormalization {name!r} in training, which is of a whole batch's statistics"
            for op, name, frozen in zip(network.ops, network.names, network.frozen, strict=True)
            if isinstance(op, BatchNormOp) and not frozen
        ]
        if why := optimizer.needs_whole:
            found.append(f"the optimizer {type(optimizer).__name__}, as {why}, and each rank has a part of these")
    if found:
        raise NotImplementedError(
            f"Ranks cannot share {'; '.join(found)}. Compile without distributed=, or use what they can: "
            "LayerNormalization, optimizers that go weight by weight, such as Adam, and L1 and L2 penalties."
        )


class Shards(Program, Protocol):
    """A Program that can be told of which rows of a batch its masks are."""

    place: Place


class RankProgram:
    """Steps of one rank, for at most ``batch`` samples on all ranks together.

    A shard is a step of ``inner``, a Program for `rows_of` a batch, whose optimizer has its gradients.
    """

    first_stretch = 1
    takes_passes = False

    def __init__(self, network: Network, share: Share, batch: int, inner: Shards) -> None:
        self.network, self.share, self.backend, self.batch = network, share, share.backend, batch
        self.shards = tree.own(share.comm.rank, share.comm.size)
        self._inner, self._gradient, self._feed = inner, Gathering(), Feed(self.backend)
        self._samples = Scratch(self.backend.zeros)
        self._sent, self._received = share.whole(), share.whole()
        more = range(1, tree.levels(self.shards))
        self._sums = [share.flat(self._sent), *(share.weights.zeros() for _ in more)]
        self._states = [{GRADIENT: array} for array in self._sums]
        self._spans = share.weights.spans(list(network.trainable))
        self._pieces = share.cut(self._spans)
        self._trained = [i for i, trains in enumerate(network.trainable) if trains]
        self._parts = self._cut(self._trained)
        self._penalties = [(i, penalty) for i, penalty in enumerate(network.penalties) if penalty]
        self._penalised = self._cut([i for i, _ in self._penalties])

    def _cut(self, places: Sequence[int]) -> list[Piece]:
        """Return what this rank has of some weight arrays."""
        weights = self.share.weights
        starts, sizes = [weights.offsets[i] for i in places], [math.prod(weights.shapes[i]) for i in places]
        return self.share.cut(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))

    def describe(self) -> str:
        """See `Program.describe`."""
        comm, first, last = self.share.comm, self.shards[0], self.shards[-1]
        shards = f"shard {first}" if first == last else f"shards {first} to {last}"
        own, whole = self.share.state_bytes
        return (
            f"rank {comm.rank} of {comm.size}, {shards} of the {tree.SHARDS} of each batch: {self._inner.describe()}; "
            f"{self.share.rows:,} rows computed, {own:,} of {whole:,} bytes of optimizer state{self._pays()}"
        )

    def _pays(self) -> str:
        """Return in words whether so many ranks are predicted to pay; nothing on GPUs, where nothing was measured."""
        ranks, work = self.share.comm.size, cost.Work(self.network.products, self.network.parameters)
        return f"; {cost.advice(ranks, work, self.batch)}" if self.backend.runtime is None and ranks > 1 else ""

    def run(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int, loss: Loss, metrics: list[Metric],
        optimizer: Optimizer | None = None, slots: dict[str, Array] | None = None, scalars: Doubles | None = None,
    ) -> StepLogs:  # fmt: skip
        """See `Program.run`; all ranks run the same batches."""
        task = Task(data, order, batch, first, last, loss, metrics, optimizer, slots, scalars)
        with self.backend.running():
            return self._run_steps(task)

    @classmethod
    def run_together(cls, programs: Sequence[Self], tasks: Sequence[Task]) -> list[StepLogs]:
        """See `Program.run_together`."""
        return one_after_the_other(programs, tasks)

    def predict(self, x: Array, out: Array, batch: int) -> None:
        """See `Program.predict`: each rank predicts what it is asked, by itself."""
        self._inner.predict(x, out, min(batch, self._inner.batch))

    def _run_steps(self, task: Task) -> StepLogs:
        logs, k, scalars = StepLogs.zeros(task.last - task.first, task.metrics), 0, rates_of(task)
        for part in self._feed.parts(task.data, task.order, task.batch, task.first, task.last):
            for i in range(part.first, part.first + part.steps):
                found = self._learn(task, part, i * task.batch, min((i + 1) * task.batch, len(part.data)))
                found.losses[0] = self._with_penalties(float(found.losses[0]))
                logs.put(k, found)
                if task.optimizer is not None:
                    assert scalars is not None and task.slots is not None
                    self._step(task.optimizer, task.slots, tuple(scalars[k].tolist()))
                k += 1
        return logs

    def _learn(self, task: Task, part: Part, start: int, stop: int) -> StepLogs:
        """Return what the batch of rows ``start`` to ``stop`` - 1 gives; in training, sum up this rank's gradients."""
        cuts, found = tree.bounds(stop - start), StepLogs.zeros(len(self.shards), task.metrics)
        optimizer = task.optimizer

        def learn(shard: int, k: int, adds: bool) -> None:
            first, last, total = cuts[shard], cuts[shard + 1], self._sums[k]
            if first == last and adds:
                self.backend.xp.add(total, 0.0, out=total)  # -0 becomes 0, wherever the empty one is
            elif first == last:
                total[...] = 0.0
            if first == last:
                return
            self._inner.place.first, self._inner.place.rows = first, stop - start
            share, rows = (last - first) / (stop - start), self._rows(part, start + first, start + last)
            of = rows, None, last - first, 0, 1, task.loss, task.metrics
            if optimizer is None:
                logs = self._inner.run(*of)
            else:
                gradient = self._gradient.of_step(optimizer.steps + 1)
                logs = self._inner.run(*of, gradient, self._states[k], np.array([[share, adds, 1.0]]))
            logs.losses *= share
            found.put(shard - self.shards[0], logs)

        if optimizer is not None:
            tree.grow(learn, self.shards, self._sums)
        else:
            for shard in self.shards:
                learn(shard, 0, False)
        self.share.rows += cuts[self.shards.stop] - cuts[self.shards.start]
        return self._of_all(found, stop - start, on_host=not all(metric.series for metric in task.metrics))

    def _rows(self, part: Part, start: int, stop: int) -> Dataset:
        """Return rows ``start`` to ``stop`` - 1 of a part, which stand there until the next ones do."""
        order = part.order

        def taken(i: int, of: Array) -> Array:
            if order is None:
                return of[start:stop]
            out = self._samples(i, (stop - start, *of.shape[1:]), of.dtype)
            self.backend.take(of, order[start:stop], out)
            return out

        return Dataset(*(taken(i, of) for i, of in enumerate(part.data.arrays)))

    def _of_all(self, found: StepLogs, samples: int, on_host: bool) -> StepLogs:
        """Return the logs of a batch: the sums of those of its shards, on all ranks; with outputs, for metrics that the
        host computes."""
        own = np.hstack([found.losses[:, None], found.totals, found.counts])
        loss, totals, counts = np.split(self.share.total(tree.total(list(own))), [1, 1 + found.totals.shape[1]])
        logs = StepLogs(np.array([float(samples)]), loss, totals[None], counts[None])
        if on_host:
            every = cast(list[list[Batch]], self.share.comm.gather(found.batches))
            targets, outputs, weights = zip(*(part for own in every for part in own), strict=True)
            weighted = None if weights[0] is None else np.concatenate(weights)
            logs.batches.append(Batch(np.concatenate(targets), np.concatenate(outputs), weighted))
        return logs

    def _step(self, optimizer: Optimizer, slots: dict[str, Array], scalars: tuple[float, ...]) -> None:
        """Update what trains by the gradients that all ranks have summed up, and count the step."""
        share, params, step = self.share, self.share.weights.params, optimizer.steps + 1
        share.slots = len(slots)
        share.comm.all_to_all(self._sent, self._received)
        grads = tree.total(list(self._received))
        self._add_penalties(grads)
        if optimizer.apart:
            optimizer.update_each(self.backend, self._variables(grads, slots), step, scalars, self._norms)
        else:
            for piece in self._pieces:
                state = {name: slot[piece.own] for name, slot in slots.items()}
                optimizer.update(self.backend, params[piece.flat], grads[piece.own], state, step, scalars)
        share.gather(self._spans, self._received)
        optimizer.count(1)
        share.weights.version += 1
        for j, constraint in self.network.constrained:  # of whole arrays, which all ranks have
            constraints.apply(constraint, self.backend, share.weights.weights[j])

    def _with_penalties(self, loss: float) -> float:
        """Return the loss with the penalties of all weights, which each rank has."""
        weights = self.share.weights.weights
        for i, penalty in self._penalties:
            loss += regularizers.apply(penalty, self.backend, weights[i], None)
        return loss

    def _add_penalties(self, grads: Array) -> None:
        """Add the penalties' gradients to what this rank has of the others; each comes of a whole weight array."""
        if not self._penalised:
            return
        weights, work = self.share.weights, self._sums[0]  # which has been sent
        work[...] = 0.0
        views = weights.views(work)
        for i, penalty in self._penalties:
            regularizers.apply(penalty, self.backend, weights.weights[i], views[i])
        for piece in self._penalised:
            self.backend.xp.add(grads[piece.own], work[piece.flat], out=grads[piece.own])

    def _variables(self, grads: Array, slots: dict[str, Array]) -> list[Variable]:
        """Return what this rank has of the weight arrays that train."""
        params, paths = self.share.weights.params, [self.network.paths[i] for i in self._trained]
        return [
            Variable(paths[of], params[flat], grads[own], {name: slot[own] for name, slot in slots.items()})
            for of, _, flat, own in self._parts
        ]

    def _norms(self, xp: ModuleType, grads: Sequence[Array]) -> tuple[list[float], float]:
        """Return for each part of a weight array the norm of the whole one's gradient, and that of all."""
        squares = np.zeros((len(self.shards), len(self._trained)))
        for piece, grad in zip(self._parts, grads, strict=True):
            squares[piece.slice, piece.span] = stages.square_sum(xp, grad)
        norms: list[float] = np.sqrt(self.share.total(tree.total(list(squares)))).tolist()
        return [norms[piece.span] for piece in self._parts], stages.together(norms)
