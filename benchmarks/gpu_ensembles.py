"""The contenders that train several models on a GPU, as ensembles.py has those on the CPU; data and dtype as elsewhere.

A turn trains every member on all batches in order, once, and returns the mean of the members' mean losses.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from contenders import Contenders, Turn, keras_model, torch_adam, torch_network, torch_parts, torch_step
from ensembles import Stacked, baddbmm_parts, jax_vmap, vmap_parts
from gpu_contenders import exact_jax, exact_torch, not_given_up, state_of, torch_captured, torch_epoch_graph
from workloads import Workload


class OurEnsemble:
    """gpumlp's Ensemble as a turn, which also tells how it trained."""

    def __init__(self, workload: Workload) -> None:
        os.environ["GPUMLP_DEVICE"], os.environ["GPUMLP_FIT"] = "cuda", "auto"
        import fit_cases

        import gpumlp

        self._training = fit_cases.of(workload)
        self._ensemble = gpumlp.Ensemble(lambda k: keras_model(workload, "gpumlp", k), workload.members)
        self._runtime = self._ensemble.members[0].device.backend().runtime
        self._batch, (self._x, self._y) = workload.batch, (self._runtime.xp.asarray(a) for a in workload.data())

    def __call__(self) -> float:
        histories = self._ensemble.fit(self._x, self._y, batch_size=self._batch, shuffle=False, verbose=0)
        return float(np.mean([h.history["loss"][0] for h in histories]))

    def told(self) -> dict[str, Any]:
        """Return the Program in words, and the seconds that were predicted for a step of all members."""
        for member in self._ensemble.members:  # those of another launch may have fared otherwise
            not_given_up(member.program)
        program, members = self._ensemble.program, len(self._ensemble.members)
        whole = "each whole-fit kernel" in program
        return {"program": program, "predicted": self._training.predicted(self._runtime, "auto", whole, members)}


def jax_vmapped(workload: Workload) -> Turn:
    """JAX's jitted ``vmap`` over members of a ``lax.scan`` over batches."""
    exact_jax()
    return jax_vmap(workload)


def _torch_stacked(workload: Workload, params: list[Any], backward: Stacked) -> Turn:
    """Return the turn of stacked ``params``: a CUDA graph of the epoch, with one capturable fused Adam over them."""
    import torch

    _, _, batches = torch_parts(workload, "cuda")
    rates = {"lr": workload.learning_rate, "eps": workload.epsilon}
    adam = torch.optim.Adam(params, fused=True, capturable=True, **rates)
    total = batches[0][0].new_zeros(())

    def step(x: Any, y: Any) -> None:
        total.add_(backward(x, y).mean())
        adam.step()

    return torch_epoch_graph(batches, step, total, params, state_of(adam))


def torch_vmap(workload: Workload) -> Turn:
    """PyTorch's ``torch.func.vmap`` over stacked weights, the epoch as a CUDA graph."""
    exact_torch()
    return _torch_stacked(workload, *vmap_parts(workload, "cuda"))


def torch_baddbmm(workload: Workload) -> Turn:
    """PyTorch with stacked weights, by hand, the epoch as a CUDA graph."""
    exact_torch()
    return _torch_stacked(workload, *baddbmm_parts(workload, "cuda"))


def torch_in_turn(workload: Workload) -> Turn:
    """PyTorch, one model after the other by one CUDA graph of the epoch; what belongs to each is copied in and out."""
    import torch

    exact_torch()
    net, loss, batches = torch_parts(workload, "cuda")
    adam = torch_adam(workload, net, capturable=True)
    params, total = list(net.parameters()), batches[0][0].new_zeros(())
    weights = [[p.detach() for p in torch_network(workload, "cuda", k).parameters()] for k in range(workload.members)]

    step = torch_step(net, adam, loss)

    def steps() -> None:
        for pair in batches:
            total.add_(step(*pair))

    graph: torch.cuda.CUDAGraph | None = None
    own: list[Any] = []  # what the graph works on: weights, moments, numbers of steps
    kept: list[list[Any]] = []  # each member's

    def prepare() -> None:
        nonlocal graph, own, kept
        graph = torch_captured(steps, lambda: step(*batches[0]), params, state_of(adam))
        states = state_of(adam)()
        own = [p.detach() for p in params] + states
        kept = [[*w, *(torch.zeros_like(tensor) for tensor in states)] for w in weights]

    def turn() -> float:
        if graph is None:
            prepare()
        total.zero_()
        for member in kept:
            torch._foreach_copy_(own, member)
            graph.replay()
            torch._foreach_copy_(member, own)
        return float(total) / len(batches) / workload.members

    return turn


GPU_ENSEMBLERS: Contenders = {  # ours first
    "gpumlp": (OurEnsemble, ("gpumlp", "cupy")),
    "JAX, vmap of lax.scan, GPU": (jax_vmapped, ("jax",)),
    "PyTorch, vmap in a CUDA graph": (torch_vmap, ("torch",)),
    "PyTorch, baddbmm in a CUDA graph": (torch_baddbmm, ("torch",)),
    "PyTorch, one model after the other by a CUDA graph": (torch_in_turn, ("torch",)),
}
