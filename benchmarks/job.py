"""One whole job, in a process and an environment of its own: ``python job.py TRAINER WORKLOAD EPOCHS``.

A line of JSON comes out: the seconds from before ``compile`` to the end of ``fit``, those of all processors in that
time, the mean losses of the first and the last epoch (None where the library does not tell), and the versions. Outside
the time are imports, the network with its first weights, and for JAX and PyTorch also the batches as arrays of theirs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from contenders import (
    inductor_parts,
    jax_parts,
    keras_compile,
    keras_network,
    scikit_learn,
    torch_adam,
    torch_parts,
    torch_step,
)
from rows import versions
from workloads import JOBS, Workload

Train = Callable[[], "list[float] | None"]


def of_keras(package: str, workload: Workload) -> Train:
    """``compile`` and ``fit``, of Keras or of gpumlp, from NumPy's arrays."""
    model, (x, y) = keras_network(workload, package), workload.data()

    def train() -> list[float]:
        keras_compile(workload, package, model)
        fitted = model.fit(x, y, batch_size=workload.batch, epochs=workload.epochs, shuffle=False, verbose=0)
        return fitted.history["loss"]

    return train


def keras_jax(workload: Workload) -> Train:
    """Keras, compiled by JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    return of_keras("keras", workload)


def jax_scan(workload: Workload) -> Train:
    """A jitted ``lax.scan`` over an epoch's batches, buffers donated; nobody waits for a loss before the end."""
    import jax

    step, state, x, y = jax_parts(workload)
    jax.block_until_ready((state, x, y))

    def train() -> list[float]:
        def pass_over(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
            state, losses = jax.lax.scan(step, state, (x, y))
            return state, losses.mean()

        epoch, now, losses = jax.jit(pass_over, donate_argnums=0), state, []
        for _ in range(workload.epochs):
            now, loss = epoch(now, x, y)
            losses.append(loss)
        return [float(loss) for loss in losses]

    return train


def torch_fused(workload: Workload) -> Train:
    """PyTorch eager with its fused Adam."""
    import torch

    net, loss, batches = torch_parts(workload, "cpu")

    def train() -> list[float]:
        step, losses = torch_step(net, torch_adam(workload, net), loss), []
        for _ in range(workload.epochs):
            losses.append(torch.stack([step(*batch) for batch in batches]).mean())
        return [float(loss) for loss in losses]

    return train


def torch_compiled(workload: Workload) -> Train:
    """PyTorch's whole step, compiled by Inductor, which calls the C++ compiler."""
    import torch

    def train() -> list[float]:
        batches, step, total, *_ = inductor_parts(workload, "cpu", partial(torch.compile, fullgraph=True))
        losses = []
        for _ in range(workload.epochs):
            total.zero_()
            for batch in batches:
                step(*batch)
            losses.append(float(total) / len(batches))
        return losses

    return train


def sklearn_fit(workload: Workload) -> Train:
    """scikit-learn, a ``partial_fit`` an epoch (its own first weights: its losses are not told)."""
    turn = scikit_learn(workload)

    def train() -> None:
        for _ in range(workload.epochs):
            turn()

    return train


TRAINERS: dict[str, tuple[Callable[[Workload], Train], tuple[str, ...]]] = {  # with the packages whose versions count
    "gpumlp": (partial(of_keras, "gpumlp"), ("gpumlp", "numpy")),
    "jax": (jax_scan, ("jax",)),
    "torch": (torch_fused, ("torch",)),
    "torch.compile": (torch_compiled, ("torch",)),
    "keras": (keras_jax, ("keras", "jax")),
    "scikit-learn": (sklearn_fit, ("scikit-learn",)),
}


def main() -> None:
    """Do the job that the arguments name, and tell."""
    trainer, workload, epochs = sys.argv[1:]
    make, packages = TRAINERS[trainer]
    train = make(replace(JOBS[workload].workload, epochs=int(epochs)))
    began, before = time.perf_counter(), time.process_time()
    losses = train()
    seconds, processors = time.perf_counter() - began, time.process_time() - before
    print(json.dumps({
        "seconds": seconds, "processors": processors, "losses": losses and [losses[0], losses[-1]],
        "versions": versions(packages),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
