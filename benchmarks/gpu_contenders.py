"""The contenders on a GPU, in float32 (TF32 off for all), their data on the device before anything is timed.

As in contenders.py: each takes a workload and returns ``turn()``, here over all its epochs; a turn returns the mean
loss of its first epoch. What compiles or captures does so in the first turn, whose seconds are reported as its cost.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from contenders import Contenders, Turn, jax_parts, keras_model, torch_adam, torch_fused, torch_parts, torch_step
from workloads import Workload

State = Callable[[], list[Any]]  # the tensors that a step of PyTorch changes beside the weights; all begin as zeros


def repeated(workload: Workload, epoch: Turn) -> Turn:
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


def exact_torch() -> None:
    """Have PyTorch compute in float32; RuntimeError without a GPU."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA, or sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False


def exact_jax() -> None:
    """Have JAX compute in float32; RuntimeError without a GPU."""
    import jax

    if jax.default_backend() == "cpu":
        raise RuntimeError("this JAX has no CUDA, or sees no GPU")
    jax.config.update("jax_default_matmul_precision", "highest")


FAILED = "the whole-fit kernel was given up"


def not_given_up(program: str) -> str:
    """Return what a Program says of itself; RuntimeError, with the reason, where its whole-fit kernel failed."""
    from gpumlp.engine.fit_program import GIVEN_UP

    _, found, why = program.partition(GIVEN_UP)
    if found:
        raise RuntimeError(f"{FAILED}: {why}")
    return program


class OurFit:
    """gpumlp's fit as a turn, which also tells how it trained and what that was predicted to take.

    ``mode`` is GPUMLP_FIT's: who decides, or how to train; ``tries`` GPUMLP_TRY's. RuntimeError, with the reason, where
    that cannot be.
    """

    def __init__(self, workload: Workload, mode: str, on_host: bool = False, tries: str = "") -> None:
        import fit_cases  # which imports gpumlp: peers' processes hold one library only

        os.environ["GPUMLP_DEVICE"], os.environ["GPUMLP_FIT"], os.environ["GPUMLP_TRY"] = "cuda", mode, tries
        self._mode, self._training = mode, fit_cases.of(workload)
        self._model = keras_model(workload, "gpumlp")
        self._runtime = self._model.device.backend().runtime
        plan = self._training.plan(self._runtime, mode == "tags")
        if mode in ("tags", "barrier") and isinstance(plan, str):
            raise RuntimeError(f"no whole-fit kernel: {plan}")
        x, y = workload.data()
        if not on_host:
            x, y = self._runtime.xp.asarray(x), self._runtime.xp.asarray(y)
        self._turn = _fitted(workload, self._model, x, y)

    def __call__(self) -> float | None:
        return self._turn()

    def told(self) -> dict[str, Any]:
        """Return the Program in words, and the seconds a step that were predicted for it, where there is a model."""
        program = not_given_up(self._model.program)
        whole = program.startswith("whole-fit kernel")
        if self._mode in ("tags", "barrier") and not whole:
            raise RuntimeError(program)
        return {"program": program, "predicted": self._training.predicted(self._runtime, self._mode, whole)}


def gpumlp_by(mode: str, tries: str = "") -> Callable[[Workload], Turn]:
    """Return the contender that is gpumlp's fit on the GPU by GPUMLP_FIT and GPUMLP_TRY: all epochs in one call."""
    return functools.partial(OurFit, mode=mode, tries=tries)


def gpumlp_from_host(workload: Workload) -> Turn:
    """gpumlp's fit as a user calls it: from NumPy's arrays."""
    return OurFit(workload, "auto", on_host=True)


def gpumlp_numba(workload: Workload) -> Turn:
    """gpumlp's fit with its Numba kernels."""
    import cupy

    os.environ["GPUMLP_DEVICE"], os.environ["GPUMLP_KERNELS"] = "cuda", "numba"
    x, y = (cupy.asarray(a) for a in workload.data())
    return _fitted(workload, keras_model(workload, "gpumlp"), x, y)


def torch_eager(workload: Workload) -> Turn:
    """PyTorch eager with its fused Adam."""
    exact_torch()
    return repeated(workload, torch_fused(workload, "cuda"))


def torch_captured(steps: Callable[[], None], warm: Callable[[], Any], params: list[Any], state: State) -> Any:
    """Return the CUDA graph of ``steps``; weights are afterwards as they were before, and what ``state()`` names zero.

    ``warm``, a step of the same kind, is taken a few times beside the default stream first, as the documentation asks.
    """
    import torch

    first = [p.detach().clone() for p in params]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            warm()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steps()
    with torch.no_grad():
        for p, w in zip(params, first, strict=True):
            p.copy_(w)
        for moment in state():
            moment.zero_()
    return graph


def state_of(adam: Any) -> State:
    """Return the function that names Adam's state: moments and numbers of steps, there after its first step."""
    return lambda: [tensor for each in adam.state.values() for tensor in each.values()]


def torch_epoch_graph(
    batches: list[tuple[Any, Any]], step: Callable[[Any, Any], Any], total: Any, params: list[Any], state: State
) -> Turn:
    """Return the turn of an epoch as one CUDA graph of steps, each of which adds its loss to ``total``."""
    graph: Any = None

    def steps() -> None:
        for pair in batches:
            step(*pair)

    def epoch() -> float:
        nonlocal graph
        graph = graph or torch_captured(steps, lambda: step(*batches[0]), params, state)
        total.zero_()
        graph.replay()
        return float(total) / len(batches)

    return epoch


def torch_graph(workload: Workload) -> Turn:
    """PyTorch's whole step (forward, backward, capturable fused Adam) as one CUDA graph, replayed per batch."""
    exact_torch()
    net, loss, batches = torch_parts(workload, "cuda")
    adam = torch_adam(workload, net, capturable=True)
    step, total = torch_step(net, adam, loss), batches[0][0].new_zeros(())
    x, y = (a.clone() for a in batches[0])
    graph: Any = None

    def add() -> None:
        total.add_(step(x, y))

    def epoch() -> float:
        nonlocal graph
        graph = graph or torch_captured(add, add, list(net.parameters()), state_of(adam))
        total.zero_()
        for xb, yb in batches:
            x.copy_(xb)
            y.copy_(yb)
            graph.replay()
        return float(total) / len(batches)

    return repeated(workload, epoch)


def torch_epoch(workload: Workload) -> Turn:
    """PyTorch's whole epoch as one CUDA graph: nothing is left to the host but the mean loss."""
    exact_torch()
    net, loss, batches = torch_parts(workload, "cuda")
    adam = torch_adam(workload, net, capturable=True)
    step, total = torch_step(net, adam, loss), batches[0][0].new_zeros(())

    def add(x: Any, y: Any) -> None:
        total.add_(step(x, y))

    return repeated(workload, torch_epoch_graph(batches, add, total, list(net.parameters()), state_of(adam)))


def torch_compiled(workload: Workload) -> Turn:
    """PyTorch's compiled forward and backward (mode "reduce-overhead": in CUDA graphs), fused Adam."""
    import torch

    exact_torch()
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

    return repeated(workload, epoch)


def jax_steps(workload: Workload) -> Turn:
    """JAX's jitted step, called per batch, state donated."""
    exact_jax()
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

    return repeated(workload, epoch)


def jax_epochs(workload: Workload, unroll: int = 1) -> Turn:
    """JAX's ``lax.scan`` of the step over an epoch, and of that over all epochs: one compiled call, state donated."""
    import jax

    step, state, x, y = jax_parts(workload)

    def epochs(state: Any, x: Any, y: Any) -> Any:
        def epoch(state: Any, _: None) -> Any:
            return jax.lax.scan(step, state, (x, y), unroll=unroll)

        return jax.lax.scan(epoch, state, length=workload.epochs)

    compiled = jax.jit(epochs, donate_argnums=0)

    def turn() -> float:
        nonlocal state
        state, losses = compiled(state, x, y)
        return float(losses[0].mean())

    return turn


def jax_scanned(workload: Workload, unroll: int = 1, flags: str = "") -> Turn:
    """JAX's scans on the GPU, ``unroll`` steps a pass of the loop; XLA reads ``flags`` as it starts."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()  # a blank would name a file
    exact_jax()
    return jax_epochs(workload, unroll)


def keras_on_jax(workload: Workload) -> Turn:
    """Keras's fit, compiled by JAX, from arrays on the device."""
    os.environ["KERAS_BACKEND"] = "jax"
    exact_jax()
    import jax.numpy as jnp

    model = keras_model(workload, "keras")
    x, y = (jnp.asarray(a) for a in workload.data())

    return _fitted(workload, model, x, y)


# Ours first: "gpumlp" chooses by itself, and the others' ratios refer to it.
GPU_CONTENDERS: Contenders = {
    "gpumlp": (gpumlp_by("auto"), ("gpumlp", "cupy")),
    "gpumlp, whole fit by tags": (gpumlp_by("tags"), ("gpumlp", "cupy")),
    "gpumlp, whole fit by a barrier": (gpumlp_by("barrier"), ("gpumlp", "cupy")),
    "gpumlp, graphs": (gpumlp_by("graph"), ("gpumlp", "cupy")),
    "gpumlp, graphs, dependent": (gpumlp_by("graph", "dependent"), ("gpumlp", "cupy")),
    "PyTorch, CUDA graph of the step": (torch_graph, ("torch",)),
    "PyTorch, CUDA graph of the epoch": (torch_epoch, ("torch",)),
    "JAX, lax.scan on the GPU": (jax_scanned, ("jax",)),
    "Keras on JAX, GPU": (keras_on_jax, ("keras", "jax")),
    "PyTorch eager, fused Adam": (torch_eager, ("torch",)),
    "JAX, jitted step": (jax_steps, ("jax",)),
}
GPU_FITTERS: Contenders = {
    "gpumlp": (gpumlp_from_host, ("gpumlp", "cupy")),
    "PyTorch, CUDA graph of the step": (torch_graph, ("torch",)),
    "PyTorch, CUDA graph of the epoch": (torch_epoch, ("torch",)),
    "JAX, lax.scan on the GPU": (jax_scanned, ("jax",)),
    "Keras on JAX, GPU": (keras_on_jax, ("keras", "jax")),
}
