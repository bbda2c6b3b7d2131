"""The contenders that are called for one batch at a time, as reinforcement learning does: a step, a prediction, a fit.

As in contenders.py each takes a workload and returns ``turn()``, here a call for each of its batches: of a method of
`CALLS`, which the workload names. All get NumPy arrays, and what comes back is NumPy's, or Python's number. A library
without such a method has done the same work by what it has: for a fit, a step.

Peers are used by the fastest of the ways that were tried: JAX's jitted functions with the weights as arguments, their
buffers donated by the step; PyTorch eager, its Adam fused, its forward pass in inference mode.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from contenders import (
    Contenders,
    Turn,
    jax_network,
    jax_parts,
    keras_model,
    on_the_cpu,
    torch_adam,
    torch_network,
    torch_step,
)
from predictors import calls
from workloads import Workload

Call = Callable[..., Any]
CALLS = ("train_on_batch", "test_on_batch", "fit", "evaluate", "predict")


def turns(workload: Workload, call: Call) -> Turn:
    """Return the turn that makes the workload's call for each batch; it returns the mean loss, where there is one."""
    if workload.call == "predict":
        return calls(workload, call)
    x, y = workload.data()
    each = workload.batch
    batches = [(x[i : i + each], y[i : i + each]) for i in range(0, len(x), each)]

    def turn() -> float:
        return float(np.mean([call(*batch) for batch in batches]))

    return turn


def _of_model(workload: Workload, model: Any, predict: Call) -> Turn:
    """Return the turn of a model of Keras's or of ours."""
    found: dict[str, Call] = {
        "train_on_batch": model.train_on_batch,
        "test_on_batch": model.test_on_batch,
        "evaluate": lambda x, y: model.evaluate(x, y, verbose=0),
        "fit": lambda x, y: model.fit(x, y, verbose=0).history["loss"][0],
        "predict": predict,
    }
    return turns(workload, found[workload.call])


def gpumlp_compiled(workload: Workload) -> Turn:
    """gpumlp's methods with its compiled kernels; ``predict``, ``predict_on_batch`` and ``model(x)`` are one."""
    model = on_the_cpu(workload, "compiled")
    return _of_model(workload, model, lambda x: model.predict(x, verbose=0))


def gpumlp_numpy(workload: Workload) -> Turn:
    """gpumlp's methods with NumPy."""
    model = on_the_cpu(workload, "numpy")
    return _of_model(workload, model, lambda x: model.predict(x, verbose=0))


def jax_jit(workload: Workload) -> Turn:
    """A jitted step, and a jitted forward pass."""
    import jax
    import jax.numpy as jnp

    parts = jax_parts(workload)
    state = parts[1]
    if workload.call == "predict":
        forward, params = jax.jit(jax_network), state[0]
        return turns(workload, lambda x: np.asarray(forward(params, x)))
    if workload.call in ("test_on_batch", "evaluate"):
        judged, params = jax.jit(lambda params, x, y: jnp.mean((jax_network(params, x) - y) ** 2)), state[0]
        return turns(workload, lambda x, y: float(judged(params, x, y)))
    step = jax.jit(lambda state, x, y: parts[0](state, (x, y)), donate_argnums=0)

    def train(x: np.ndarray, y: np.ndarray) -> float:
        nonlocal state
        state, loss = step(state, x, y)
        return float(loss)

    return turns(workload, train)


def torch_eager(workload: Workload) -> Turn:
    """PyTorch, one operation after the other."""
    import torch

    net, loss = torch_network(workload, "cpu"), torch.nn.MSELoss()
    if workload.call == "predict":

        def predict(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return net(torch.from_numpy(x)).numpy()

        return turns(workload, predict)
    if workload.call in ("test_on_batch", "evaluate"):

        def judge(x: np.ndarray, y: np.ndarray) -> float:
            with torch.inference_mode():
                return loss(net(torch.from_numpy(x)), torch.from_numpy(y)).item()

        return turns(workload, judge)
    step = torch_step(net, torch_adam(workload, net), loss)
    return turns(workload, lambda x, y: step(torch.from_numpy(x), torch.from_numpy(y)).item())


def keras_jax(workload: Workload) -> Turn:
    """Keras's methods on JAX, and `predict_on_batch` to predict: its ``predict`` takes several times as long."""
    os.environ["KERAS_BACKEND"] = "jax"
    model = keras_model(workload, "keras")
    return _of_model(workload, model, lambda x: np.asarray(model.predict_on_batch(x)))


CALLERS: Contenders = {  # ours first
    "gpumlp, compiled": (gpumlp_compiled, ("gpumlp", "numpy", "numba")),
    "gpumlp, NumPy": (gpumlp_numpy, ("gpumlp", "numpy")),
    "JAX, jit": (jax_jit, ("jax",)),
    "PyTorch, eager": (torch_eager, ("torch",)),
    "Keras on JAX": (keras_jax, ("keras", "jax")),
}
