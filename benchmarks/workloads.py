"""What is measured: the networks, their batches, and the data and first weights that every contender gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A network trained with Adam (Keras's defaults), or ``sgd``, on ``steps`` batches, ``epochs`` times a turn.

    Where it only predicts, a step is a call with one batch; and so it is where ``call`` names a method of calls.py. Of
    ``members`` models each has its own first weights, and all have the same batches.

    ``call``: the method that is called for each batch, of those of calls.py, where that is measured.
    ``classes``: softmax cross-entropy over the last layer, from class numbers; otherwise mean squared error.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    steps: int
    classes: bool = False
    epochs: int = 1
    learning_rate: float = 1e-3
    epsilon: float = 1e-7
    members: int = 1
    sgd: bool = False
    activation: str = "relu"  # of all layers but the last: "relu" or "tanh"
    call: str = ""

    def by_sgd(self) -> Workload:
        """Return the same, trained by plain SGD, at a rate at which its first epoch shows whether it learns."""
        return replace(self, sgd=True, learning_rate=0.05)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x[steps * batch, F] and y[steps * batch, O] float32 (or class numbers [steps * batch] int32)."""
        rng = np.random.default_rng(0)
        n = self.steps * self.batch
        x = rng.standard_normal((n, self.sizes[0]), np.float32)
        if self.classes:
            return x, rng.integers(0, self.sizes[-1], n, np.int32)
        return x, np.sin(x[:, :1] * np.arange(1, self.sizes[-1] + 1, dtype=np.float32))

    def weights(self, member: int = 0) -> list[np.ndarray]:
        """Return kernel[I, O] and bias[O] of every layer, Glorot uniform and zeros."""
        rng = np.random.default_rng(1 + member)
        arrays: list[np.ndarray] = []
        for fan_in, fan_out in pairwise(self.sizes):
            limit = np.sqrt(6 / (fan_in + fan_out))
            arrays.append(rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32))
            arrays.append(np.zeros(fan_out, np.float32))
        return arrays

    def outputs(self) -> np.ndarray:
        """Return what the first weights make of all of x, in float64, [steps * batch, O]; for classes, their scores."""
        x = self.data()[0].astype(np.float64)
        arrays = [a.astype(np.float64) for a in self.weights()]
        for w, b in zip(arrays[:-2:2], arrays[1:-2:2], strict=True):
            x = np.tanh(x @ w + b) if self.activation == "tanh" else np.maximum(x @ w + b, 0.0)
        return x @ arrays[-2] + arrays[-1]


def _named(*workloads: Workload) -> dict[str, Workload]:
    return {w.name: w for w in workloads}


# Steps for a turn of 20 ms or more, whoever takes it.
ARTICLE = Workload("1-256x7-1, batch 20", (1, *[256] * 7, 1), 20, 300)
CLASSIFIER = Workload("784-512-512-10, batch 128", (784, 512, 512, 10), 128, 60, classes=True)
SQUARE = Workload("1024x5, batch 1024", (1024,) * 6, 1024, 4)
POLICY = Workload("16-64-64-1, batch 64", (16, 64, 64, 1), 64, 2000)
NARROW = Workload("10-46-46-10, batch 128", (10, 46, 46, 10), 128, 1000)
# What SimpleChains.jl is measured by: its FLOPs are counted as 6 x 704 a sample, tanh not counted.
CHAINS = Workload("4-32-16-4 of tanh, batch 10000", (4, 32, 16, 4), 10_000, 40, activation="tanh")

STEPS = _named(ARTICLE, CLASSIFIER, SQUARE, POLICY, NARROW, CHAINS)
PREDICTIONS = _named(replace(ARTICLE, name="1-256x7-1, one row", batch=1, steps=2000))
ACTOR = Workload("4-24-24-2", (4, 24, 24, 2), 32, 500)
CALLS = _named(
    replace(ACTOR, name="4-24-24-2, train_on_batch of 32", call="train_on_batch"),
    replace(ACTOR, name="4-24-24-2, predict of one row", call="predict", batch=1, steps=2000),
    replace(ACTOR, name="4-24-24-2, fit of one epoch of 32", call="fit"),
    replace(ACTOR, name="4-24-24-2, test_on_batch of 32", call="test_on_batch"),
    replace(ACTOR, name="4-24-24-2, evaluate of 4 rows", call="evaluate", batch=4),
)
ENSEMBLES = _named(
    replace(ARTICLE, name="8 of 1-256x7-1, batch 20", steps=100, members=8),
    replace(POLICY, name="16 of 16-64-64-1, batch 64", steps=500, members=16),
)


@dataclass(frozen=True)
class Job:
    """A workload as jobs of 0.3, 3 and 30 s: ``epochs`` of each, for each instruction set.

    So long the fastest peer takes for its steps, once it is compiled, on the machine that the README's rows are from.
    The numbers stay what they are, so that rows can be compared.
    """

    workload: Workload
    epochs: dict[str, tuple[int, int, int]]


LENGTHS = (0.3, 3.0, 30.0)  # seconds
JOBS = {
    job.workload.name: job
    for job in (
        Job(replace(ARTICLE, steps=50), {"avx512": (13, 128, 1280), "avx2": (14, 140, 1400)}),
        Job(CLASSIFIER, {"avx512": (4, 36, 360), "avx2": (3, 28, 280)}),
        Job(replace(SQUARE, steps=2), {"avx512": (2, 18, 180), "avx2": (2, 14, 140)}),
        Job(POLICY, {"avx512": (9, 92, 920), "avx2": (8, 80, 800)}),
    )
}

# The most telling first, for what does not fit into the time is left out. The wide network's gradients are so small
# that Adam's epsilon would count, and that is where PyTorch's form of it differs from Keras's; and at the usual rate
# its second loss would be astronomical. A step costs the same either way.
GPU_STEPS = _named(
    replace(ARTICLE, steps=100, epochs=5),
    replace(POLICY, steps=100, epochs=5),
    Workload("1-32-32-1, batch 32", (1, 32, 32, 1), 32, 100, epochs=5),
    replace(CLASSIFIER, steps=100, epochs=5),
    Workload("4096x8, batch 8192", (4096,) * 9, 8192, 2, epochs=2, learning_rate=1e-5, epsilon=1e-12),
)
# Of compilers that take long to start, where launches count most.
GPU_COMPILED = _named(*(replace(w, name=f"{w.name}: compiled steps") for w in list(GPU_STEPS.values())[:2]))
GPU_FITS = _named(replace(ARTICLE, name="1-256x7-1, batch 20: a fit of 10 x 10 steps", steps=10, epochs=10))
# As many steps as a turn of the slowest, one model after the other, can take.
GPU_ENSEMBLES = _named(
    *(
        replace(base, name=f"{members} of {base.name}", steps=steps, members=members)
        for base, members, steps in (
            (ARTICLE, 8, 100), (POLICY, 256, 50), (ARTICLE, 64, 25), (POLICY, 16, 200), (ARTICLE, 132, 25),
            (POLICY, 1056, 20),
        )
    )
)  # fmt: skip
