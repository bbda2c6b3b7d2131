"""The contenders on a GPU, in float32 (TF32 off for all), their data on the device before anything is timed.

As in contenders.py: each takes a workload and returns ``turn()``, here over all its epochs; a turn returns the mean
loss of its first epoch. What compiles or captures does so in the first turn, whose seconds are reported as its cost.
"""

from __future__ import annotations

import os
from typing import Any

from contenders import Contenders, Turn, jax_parts, jax_scan, keras_model, torch_adam, torch_fused, torch_parts
from workloads import Workload


def _repeated(workload: Workload, epoch: Turn) -> Turn:
    """Return the turn of all epochs from that of one."""

    def turn() -> float | None:
        first, *_ = [epoch() for _ in range(workload.epochs)]
        return first

    return turn


def _fitted(workload: Workload, model: Any, x: Any, y: Any) -> Turn:
    """Return the turn of a Keras-like model: all epochs in one fit."""

    def turn() -> float:
        fitted = model.fit(x, y, batch_size=workload.batch, epochs=workload.epochs, shuffle=False, verbose=0)
        return fitted.history["loss"][0]

    return turn


def _exact_torch() -> None:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA, or sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False


def _exact_jax() -> None:
    import jax

    if jax.default_backend() == "cpu":
        raise RuntimeError("this JAX has no CUDA, or sees no GPU")
    jax.config.update("jax_default_matmul_precision", "highest")


def gpumlp_cuda(workload: Workload) -> Turn:
    """gpumlp's fit on the GPU: all epochs in one call."""
    os.environ["GPUMLP_DEVICE"] = "cuda"
    import cupy

    model = keras_model(workload, "gpumlp")
    x, y = (cupy.asarray(a) for a in workload.data())

    return _fitted(workload, model, x, y)


def gpumlp_numba(workload: Workload) -> Turn:
    """The same with the Numba kernels."""
    os.environ["GPUMLP_KERNELS"] = "numba"
    return gpumlp_cuda(workload)


def torch_eager(workload: Workload) -> Turn:
    """PyTorch eager with its fused Adam."""
    _exact_torch()
    return _repeated(workload, torch_fused(workload, "cuda"))


def torch_graph(workload: Workload) -> Turn:
    """PyTorch's whole step (forward, backward, capturable fused Adam) as one CUDA graph, replayed per batch."""
    import torch

    _exact_torch()
    net, loss, batches = torch_parts(workload, "cuda")
    optimizer = torch_adam(workload, net, capturable=True)
    x, y = (torch.clone(a) for a in batches[0])
    total = torch.zeros((), device="cuda")

    def step() -> None:
        value = loss(net(x), y)
        value.backward()
        optimizer.step()
        total.add_(value.detach())

    def captured() -> torch.cuda.CUDAGraph:
        first = [p.detach().clone() for p in net.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # as the documentation asks: a few steps beside the default stream come first
            for _ in range(3):
                optimizer.zero_grad(set_to_none=True)
                step()
        torch.cuda.current_stream().wait_stream(side)
        optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        with torch.no_grad():  # those steps must not count: weights and moments are as they were
            for p, w in zip(net.parameters(), first, strict=True):
                p.copy_(w)
                for state in optimizer.state[p].values():
                    state.zero_()
        return graph

    graph: torch.cuda.CUDAGraph | None = None

    def epoch() -> float:
        nonlocal graph
        graph = graph or captured()
        total.zero_()
        for xb, yb in batches:
            x.copy_(xb)
            y.copy_(yb)
            graph.replay()
        return float(total) / len(batches)

    return _repeated(workload, epoch)


def torch_compiled(workload: Workload) -> Turn:
    """PyTorch's compiled forward and backward (mode "reduce-overhead": in CUDA graphs), fused Adam."""
    import torch

    _exact_torch()
    net, loss, batches = torch_parts(workload, "cuda")
    optimizer = torch_adam(workload, net)
    forward = torch.compile(lambda x, y: loss(net(x), y), mode="reduce-overhead")

    def epoch() -> float:
        total = torch.zeros((), device="cuda")
        for xb, yb in batches:
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            value = forward(xb, yb)
            value.backward()
            optimizer.step()
            total += value.detach()  # before the next step, which overwrites it
        return float(total) / len(batches)

    return _repeated(workload, epoch)


def jax_steps(workload: Workload) -> Turn:
    """JAX's jitted step, called per batch, state donated."""
    _exact_jax()
    import jax
    import jax.numpy as jnp

    step, state, x, y = jax_parts(workload)
    batches = list(zip(x, y, strict=True))
    jitted = jax.jit(step, donate_argnums=0)

    def epoch() -> float:
        nonlocal state
        losses = []
        for batch in batches:
            state, value = jitted(state, batch)
            losses.append(value)
        return float(jnp.stack(losses).mean())

    return _repeated(workload, epoch)


def jax_scanned(workload: Workload) -> Turn:
    """JAX's ``lax.scan`` of the step over an epoch, one compiled call."""
    _exact_jax()
    return _repeated(workload, jax_scan(workload))


def keras_on_jax(workload: Workload) -> Turn:
    """Keras's fit, compiled by JAX, from arrays on the device."""
    os.environ["KERAS_BACKEND"] = "jax"
    _exact_jax()
    import jax.numpy as jnp

    model = keras_model(workload, "keras")
    x, y = (jnp.asarray(a) for a in workload.data())

    return _fitted(workload, model, x, y)


GPU_CONTENDERS: Contenders = {  # ours first; the slow starters last
    "gpumlp, CUDA": (gpumlp_cuda, ("gpumlp", "cupy")),
    "PyTorch eager, fused Adam": (torch_eager, ("torch",)),
    "PyTorch, CUDA graph of the step": (torch_graph, ("torch",)),
    "JAX, jitted step": (jax_steps, ("jax",)),
    "JAX, lax.scan on the GPU": (jax_scanned, ("jax",)),
    "Keras on JAX, GPU": (keras_on_jax, ("keras", "jax")),
    "gpumlp, Numba": (gpumlp_numba, ("gpumlp", "numba")),
    "PyTorch, torch.compile": (torch_compiled, ("torch",)),
}
