"""The contenders that a compiler makes of a whole step: PyTorch's Inductor, XLA's command buffers, TrainKernel.

As in gpu_contenders.py. They are slow to start, with what else is, and so a suite of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from contenders import Contenders, Turn, inductor_parts, torch_parts
from gpu_contenders import (
    exact_torch,
    gpumlp_by,
    gpumlp_numba,
    jax_scanned,
    repeated,
    torch_compiled,
    torch_epoch_graph,
)
from workloads import Workload

# A loop becomes part of a CUDA graph: by conditional nodes, or, as its length is known, written out. Otherwise the host
# launches a graph for each pass.
LOOPS = "--xla_gpu_enable_command_buffer=+WHILE --xla_gpu_graph_min_graph_size=1"
WRITTEN_OUT = f"{LOOPS} --xla_gpu_command_buffer_unroll_loops=true"


# ---- PyTorch: a step of Inductor's ----------------------------------------------------------------------------------


def torch_inductor(workload: Workload, mode: str) -> Turn:
    """PyTorch's whole step, compiled by Inductor in this ``mode``, and its epoch as one CUDA graph."""
    exact_torch()
    import torch

    compiled = partial(torch.compile, fullgraph=True, mode=mode)
    return repeated(workload, torch_epoch_graph(*inductor_parts(workload, "cuda", compiled)))


# ---- TrainKernel: a step in one launch ------------------------------------------------------------------------------


def trainkernel_parts(workload: Workload, device: str, products: str) -> tuple[Any, ...]:
    """Return the batches, a pure step, and the state that it goes from and to: the sum of losses, the weights, Adam's.

    The step keeps to the operations that TrainKernel knows: its ``products`` are of this type, all else is float32.
    The state is zeros at first, but for the weights: of b**t for Adam's b, which would not be, 1 - b**t is kept.
    """
    import torch

    _, _, batches = torch_parts(workload, device)
    params = [torch.from_numpy(w).to(device) for w in workload.weights()]
    total, *corrections = (torch.zeros((), device=device) for _ in range(3))
    moments = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    state = [total, params] if workload.sgd else [total, params, *moments, corrections]
    kind = getattr(torch, products)

    def cost(params: Any, x: Any, y: Any) -> Any:
        for i in range(0, len(params), 2):
            w, b = (p.to(kind) for p in params[i : i + 2])
            x = (x.to(kind) if i == 0 else torch.relu(x)) @ w + b
        return ((x.float() - y) ** 2).mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        total, params, *adam = state
        grads, value = torch.func.grad_and_value(cost)(params, x, y)
        total = total + value
        if not adam:
            return [total, [p - workload.learning_rate * g for p, g in zip(params, grads, strict=True)]]
        m, v, (one, two) = adam
        one, two = one * 0.9 + (1 - 0.9), two * 0.999 + (1 - 0.999)
        alpha = workload.learning_rate * two**0.5 / one
        m = [m + (g - m) * (1 - 0.9) for m, g in zip(m, grads, strict=True)]
        v = [v + (g * g - v) * (1 - 0.999) for v, g in zip(v, grads, strict=True)]
        new = [p - alpha * m / (v**0.5 + workload.epsilon) for p, m, v in zip(params, m, v, strict=True)]
        return [total, new, m, v, [one, two]]

    return batches, step, state


def trainkernel(workload: Workload, products: str, **options: Any) -> Turn:
    """TrainKernel's step, one cooperative launch, the epoch of them as one CUDA graph; ``options`` are its compiler's.

    By itself it takes as many blocks as have work somewhere, up to one a multiprocessor; fewer wait less at its
    barriers.
    """
    exact_torch()
    import trainkernel as package
    from torch.utils._pytree import tree_leaves

    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # where its ninja is
    batches, step, state = trainkernel_parts(workload, "cuda", products)
    total, params, *adam = state

    @cache
    def kernel() -> Any:
        in_place = {i: i for i in range(len(tree_leaves(state)))}
        return package.compile(step, (state, *batches[0]), inplace_outputs=in_place, **options)

    def launch(x: Any, y: Any) -> None:
        kernel()(state, x, y)

    return repeated(workload, torch_epoch_graph(batches, launch, total, params, lambda: tree_leaves(adam)))


def by_sgd(make: Callable[[Workload], Turn]) -> Callable[[Workload], Turn]:
    """Return the contender that trains by SGD instead."""
    return lambda workload: make(workload.by_sgd())


TRAINKERNEL, BY_SGD = ("trainkernel", "torch"), "gpumlp, SGD"
GPU_COMPILERS: Contenders = {  # ours first
    "gpumlp": (gpumlp_by("auto"), ("gpumlp", "cupy")),
    "PyTorch, Inductor's step, CUDA graph": (partial(torch_inductor, mode="default"), ("torch",)),
    "PyTorch, Inductor's autotuned step, CUDA graph": (
        partial(torch_inductor, mode="max-autotune-no-cudagraphs"),
        ("torch",),
    ),
    "JAX, lax.scan unrolled by 10": (partial(jax_scanned, unroll=10), ("jax",)),
    "JAX, lax.scan in a CUDA graph": (partial(jax_scanned, flags=LOOPS), ("jax",)),
    "JAX, lax.scan unrolled by 10, in a CUDA graph": (partial(jax_scanned, unroll=10, flags=LOOPS), ("jax",)),
    "JAX, lax.scan written out in a CUDA graph": (partial(jax_scanned, flags=WRITTEN_OUT), ("jax",)),
    "TrainKernel, float32 and Adam": (partial(trainkernel, products="float32"), TRAINKERNEL),
    "TrainKernel, float32 and Adam, 32 blocks": (partial(trainkernel, products="float32", max_blocks=32), TRAINKERNEL),
    BY_SGD: (by_sgd(gpumlp_by("auto")), ("gpumlp", "cupy")),
    "TrainKernel, bf16 and SGD": (by_sgd(partial(trainkernel, products="bfloat16")), TRAINKERNEL),
    "TrainKernel, bf16 and SGD, 32 blocks": (
        by_sgd(partial(trainkernel, products="bfloat16", max_blocks=32)),
        TRAINKERNEL,
    ),
    "PyTorch, torch.compile": (torch_compiled, ("torch",)),
    "gpumlp, Numba": (gpumlp_numba, ("gpumlp", "numba")),
}
BESIDE = {name: BY_SGD for name in GPU_COMPILERS if "SGD" in name}  # another optimizer's loss is another
