"""A network cut among blocks, for the whole-fit kernel: who owns what, and where it stands in shared memory.

kernels/fit_layout.cuh derives the same sizes from the same numbers, and takes the places as they are given here.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpumlp.activations import Activation
from gpumlp.attributes import once
from gpumlp.backends import cuda_formulas
from gpumlp.engine.arena import Stretches
from gpumlp.engine.network import Network
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

WHOLE = 16  # outputs of a last layer, up to which every block computes all of them: an exchange costs more
WARP = 32


@dataclass(frozen=True)
class Stage:
    """A layer: y[B, outputs] = activation(x[B, inputs] w + b); kernel and bias are places in the network's weights."""

    inputs: int
    outputs: int
    activation: Activation
    kernel: int
    bias: int | None

    @property
    def needs_input(self) -> bool:
        """Whether the slope of the activation is computed from what went into it."""
        return self.activation.formula.retains_input


@dataclass(frozen=True)
class Problem:
    """What is to be trained, as far as the kernel is compiled for it."""

    stages: tuple[Stage, ...]
    arena: Stretches
    network: Network
    batch: int
    loss: Loss
    metrics: tuple[Metric, ...]
    optimizer: Optimizer
    targets: int
    weighted: bool

    @property
    def last(self) -> int:
        """The number of the last layer."""
        return len(self.stages) - 1

    @property
    def series(self) -> int:
        """How many sums are logged at each step: the loss, the metrics', the weights where a metric counts them."""
        return 1 + sum(len(m.formula.roots) for m in self.metrics) + self.counts_weights

    @property
    def counts_weights(self) -> bool:
        """Whether the sum of the sample weights is a metric's divisor."""
        return self.weighted and any(m.weighted for m in self.metrics)

    @once
    def kinds(self) -> list[Activation]:
        """The activations, each once; the last layer's is the last."""
        *hidden, last = (s.activation for s in self.stages)
        return [*dict.fromkeys(a for a in hidden if a != last), last]

    @once
    def penalties(self) -> list[Regularizer]:
        """The penalties, each once."""
        return list(dict.fromkeys(filter(None, self.network.penalties)))

    @once
    def made(self) -> cuda_formulas.Made:
        """What the kernel computes."""
        return cuda_formulas.fit(self.kinds, self.loss, self.metrics, self.penalties, self.optimizer)

    def is_whole(self, group: int) -> bool:
        """Whether every one of ``group`` blocks computes the whole last layer."""
        last = self.stages[-1]
        return group == 1 or last.outputs <= WHOLE or last.needs_input


@dataclass(frozen=True)
class Cut:
    """A problem cut among ``group`` blocks of ``threads``, which update ``most`` (2 or 4) columns at once."""

    problem: Problem
    group: int
    threads: int
    most: int

    def columns(self, i: int) -> int:
        """Return how many columns of layer i a block owns, at most."""
        whole = i == self.problem.last and self.problem.is_whole(self.group)
        outputs = self.problem.stages[i].outputs
        return outputs if whole else -(-outputs // self.group)

    def rows(self, i: int) -> int:
        """Return how many rows of layer i's kernel a block owns, at most: its columns of the layer below."""
        return -(-self.problem.stages[i].inputs // self.group) if i else 0

    def chunk(self, count: int) -> int:
        """Return how many of ``count`` neighbouring columns a thread updates at once."""
        return 4 if count >= 3 and self.most == 4 else min(count, 2)

    def units(self, i: int) -> int:
        """Return into how many units the update of layer i is cut."""
        stage, columns, rows = self.problem.stages[i], self.columns(i), self.rows(i)
        below = stage.outputs * -(-rows // self.chunk(rows)) if rows else 0
        return stage.inputs * -(-columns // self.chunk(columns)) + below

    @once
    def state_registers(self) -> int:
        """How many registers of a thread hold optimizer state."""
        total = 0
        for i in range(len(self.problem.stages)):
            wide = max(self.chunk(self.columns(i)), self.chunk(self.rows(i)))
            total += -(-self.units(i) // self.threads) * wide
        return total * len(self.problem.optimizer.slots)

    @once
    def exchanged(self) -> list[tuple[bool, bool]]:
        """For each layer, whether its outputs are exchanged, and whether the gradients by them are."""
        last, several = self.problem.last, self.group > 1
        whole = self.problem.is_whole(self.group)
        return [(several and not (i == last and whole), several and 0 < i < last) for i in range(last + 1)]

    @once
    def is_complete(self) -> bool:
        """Whether every block owns columns of the widest layer: nobody would wait for one that never sends anything."""
        widest = max(
            (s.outputs for s, (out, _) in zip(self.problem.stages, self.exchanged, strict=True) if out), default=0
        )
        return self.group == 1 or (self.group - 1) * -(-widest // self.group) < widest

    @property
    def triples(self) -> int:
        """How many packets make a column of a batch."""
        return -(-self.problem.batch // 3)


def whole_quads(count: int) -> int:
    """Return ``count`` floats as whole 16 bytes."""
    return -(-count // 4) * 4


class Layout:
    """Places in shared memory, in floats, for a block that has ``room`` of them; ``size`` is what it takes.

    ``ahead``: two batches have their places, the one in use and the next.
    """

    def __init__(self, cut: Cut, room: int, ahead: bool) -> None:
        problem, self.size, self.ahead = cut.problem, 0, ahead
        batch, stages, last, alone = problem.batch, problem.stages, problem.last, cut.group == 1
        ins, outs = [whole_quads(s.inputs) for s in stages], [whole_quads(s.outputs) for s in stages]
        slices = [whole_quads(cut.columns(i)) for i in range(last + 1)]
        whole = problem.is_whole(cut.group)
        self.targets, self.weights = self._take(2 * batch * problem.targets), self._take(2 * batch)
        self.logs, self.predictions = self._take(problem.series * batch), self._take(batch * outs[last])
        bias = whole_quads(1 + len(problem.optimizer.slots))  # and its state
        self.columns = [self._take(cut.columns(i) * (ins[i] + bias)) for i in range(last + 1)]
        self.rows = [self._take(cut.rows(i) * outs[i]) for i in range(last + 1)]
        self.z = [self._take(batch * slices[i]) if s.needs_input else 0 for i, s in enumerate(stages)]
        self.inputs = [self._take((1 + ahead) * batch * ins[0])] + [0] * last
        self.reloads = [0] * (last + 1)
        if alone:  # its own outputs are all there are, and so are its own gradients
            self.inputs[1:] = [self._take(batch * n) for n in ins[1:]]
            self.own = [*self.inputs[1:], self.predictions]
            self.delta = self.own_delta = self._in_turn(batch * max(outs), last + 1)
            return
        self.own = [self._take(batch * n) for n in slices[:-1]]
        self.own.append(self.predictions if whole else self._take(batch * slices[last]))
        self.delta = [self._take(batch * max(outs[1:] or outs))] * (last + 1)  # of the lowest of several: its own alone
        self.own_delta = self._in_turn(batch * max(slices), last + 1)
        if whole:
            self.own_delta[last] = self.delta[last]
        self._place_inputs([whole_quads(batch * n) for n in ins], room)

    def _take(self, count: int) -> int:
        place, self.size = self.size, self.size + whole_quads(count)
        return place

    def _in_turn(self, count: int, layers: int) -> list[int]:
        """Return two places in turn: that of a layer is still read when that of the layer below is written."""
        places = [self._take(count), self._take(count)]
        return [places[i % 2] for i in range(layers)]

    def _place_inputs(self, needed: list[int], room: int) -> None:
        """Keep as many layers' inputs as there is room for; the others pass through one place, and come again."""
        later = range(1, len(needed))
        kept: list[int] = []
        for i in later:
            rest = [needed[j] for j in later if j not in kept and j != i]
            if self.size + sum(needed[j] for j in kept) + needed[i] + max(rest, default=0) <= room:
                kept.append(i)
        passing = [i for i in later if i not in kept]
        for i in kept:
            self.inputs[i] = self._take(needed[i])
        place = self._take(max((needed[i] for i in passing), default=0))
        for i in passing:
            self.inputs[i] = place
            self.reloads[i] = int(i != passing[-1])  # the last one to pass is there still
