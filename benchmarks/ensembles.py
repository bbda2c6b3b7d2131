"""The contenders that train several models: each takes a workload with members and returns ``turn()``.

As in contenders.py: a turn trains every member on all batches in order, once, and returns the mean of the members' mean
losses. All members have the same batches, which is best for those that compute them as one larger array. For each
library there are the ways to do it that its documentation has, and the fastest other one that was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from contenders import (
    Contenders,
    Turn,
    jax_parts,
    jax_state,
    on_the_cpu,
    torch_adam,
    torch_network,
    torch_parts,
    torch_step,
)
from workloads import Workload

Stacked = Callable[[Any, Any], Any]  # fills the gradients of stacked weights from x, y, and returns each member's loss


def gpumlp_together(workload: Workload) -> Turn:
    """gpumlp's Ensemble, with its compiled kernels."""
    import gpumlp

    ensemble = gpumlp.Ensemble(lambda k: on_the_cpu(workload, "compiled", k), workload.members)
    x, y = workload.data()

    def turn() -> float:
        histories = ensemble.fit(x, y, batch_size=workload.batch, shuffle=False, verbose=0)
        return float(np.mean([h.history["loss"][0] for h in histories]))

    return turn


def gpumlp_in_turn(workload: Workload) -> Turn:
    """gpumlp's models one after the other, with its compiled kernels and all threads in each."""
    models = [on_the_cpu(workload, "compiled", k) for k in range(workload.members)]
    x, y = workload.data()

    def fitted(model: Any) -> float:
        return model.fit(x, y, batch_size=workload.batch, shuffle=False, verbose=0).history["loss"][0]

    return lambda: float(np.mean([fitted(model) for model in models]))


def jax_vmap(workload: Workload) -> Turn:
    """One jitted ``vmap`` over members of a ``lax.scan`` over batches, buffers donated."""
    import jax
    import jax.numpy as jnp

    step, _, x, y = jax_parts(workload)
    states = [jax_state(workload, k) for k in range(workload.members)]
    state = jax.tree_util.tree_map(lambda *each: jnp.stack(each), *states)
    one = jax.vmap(lambda state, x, y: jax.lax.scan(step, state, (x, y)), in_axes=(0, None, None))
    epoch = jax.jit(one, donate_argnums=0)

    def turn() -> float:
        nonlocal state
        state, losses = epoch(state, x, y)
        return float(losses.mean())

    return turn


def jax_threads(workload: Workload) -> Turn:
    """A jitted ``lax.scan`` a member, called by as many Python threads as there are processors: JAX lets them run."""
    import jax

    step, _, x, y = jax_parts(workload)
    states = [jax_state(workload, k) for k in range(workload.members)]
    epoch = jax.jit(lambda state, x, y: jax.lax.scan(step, state, (x, y)), donate_argnums=0)
    pool = ThreadPoolExecutor(os.cpu_count())

    def one(k: int) -> float:
        states[k], losses = epoch(states[k], x, y)
        return float(losses.mean())

    return lambda: float(np.mean(list(pool.map(one, range(workload.members)))))


def _torch_stacked(workload: Workload, params: list[Any], backward: Stacked) -> Turn:
    """Return the turn of stacked ``params``."""
    import torch

    _, _, batches = torch_parts(workload, "cpu")
    adam = torch.optim.Adam(params, lr=workload.learning_rate, eps=workload.epsilon, fused=True)

    def turn() -> float:
        values = []
        for xb, yb in batches:
            values.append(backward(xb, yb))
            adam.step()
        return float(torch.stack(values).mean())

    return turn


def vmap_parts(workload: Workload, device: str) -> tuple[list[Any], Stacked]:
    """Return the stacked weights and the backward pass of ``torch.func``: ``vmap`` of ``grad_and_value``."""
    import torch
    from torch.func import functional_call, grad_and_value, stack_module_state, vmap

    net, loss, _ = torch_parts(workload, device)
    stacked, _ = stack_module_state([torch_network(workload, device, k) for k in range(workload.members)])
    params = {name: value.detach() for name, value in stacked.items()}

    def objective(params: Any, x: Any, y: Any) -> Any:
        return loss(functional_call(net, params, (x,)), y)

    gradients = vmap(grad_and_value(objective), in_dims=(0, None, None))

    def backward(x: Any, y: Any) -> Any:
        grads, values = gradients(params, x, y)
        for name, value in params.items():
            value.grad = grads[name]
        return values

    torch.set_grad_enabled(False)  # vmap's functions take gradients of their own
    return list(params.values()), backward


def torch_vmap(workload: Workload) -> Turn:
    """PyTorch's ``vmap`` over stacked weights, and its fused Adam over these."""
    return _torch_stacked(workload, *vmap_parts(workload, "cpu"))


def baddbmm_parts(workload: Workload, device: str) -> tuple[list[Any], Stacked]:
    """Return the stacked weights, and the backward pass by hand, layer by layer as ``baddbmm``: what ``vmap`` does."""
    import torch

    weights = zip(*(workload.weights(k) for k in range(workload.members)), strict=True)
    params = [torch.from_numpy(np.stack(each)).to(device).requires_grad_() for each in weights]

    def backward(x: Any, y: Any) -> Any:
        for p in params:
            p.grad = None
        h = x.expand(workload.members, -1, -1)
        for i in range(0, len(params), 2):
            h = torch.baddbmm(params[i + 1].unsqueeze(1), h if i == 0 else torch.relu(h), params[i])
        values = ((h - y) ** 2).mean((1, 2))
        values.sum().backward()
        return values.detach()

    return params, backward


def torch_baddbmm(workload: Workload) -> Turn:
    """PyTorch with stacked weights, layer by layer as ``baddbmm``, and its fused Adam."""
    return _torch_stacked(workload, *baddbmm_parts(workload, "cpu"))


def torch_in_turn(workload: Workload) -> Turn:
    """PyTorch eager with its fused Adam, one model after the other."""
    import torch

    _, loss, batches = torch_parts(workload, "cpu")
    nets = [torch_network(workload, "cpu", k) for k in range(workload.members)]
    steps = [torch_step(net, torch_adam(workload, net), loss) for net in nets]
    return lambda: float(torch.stack([step(*batch) for step in steps for batch in batches]).mean())


ENSEMBLERS: Contenders = {  # ours first
    "gpumlp, compiled": (gpumlp_together, ("gpumlp", "numpy", "numba")),
    "gpumlp, one model after the other": (gpumlp_in_turn, ("gpumlp", "numpy", "numba")),
    "JAX, vmap of lax.scan": (jax_vmap, ("jax",)),
    "JAX, lax.scan, a model a thread": (jax_threads, ("jax",)),
    "PyTorch, vmap": (torch_vmap, ("torch",)),
    "PyTorch, baddbmm": (torch_baddbmm, ("torch",)),
    "PyTorch, one model after the other": (torch_in_turn, ("torch",)),
}
