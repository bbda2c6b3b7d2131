"""The contenders: each takes a workload and returns ``turn()``, which trains on all its batches in order, once.

``turn`` returns the mean loss over the batches of the pass, or None where the library does not tell. Every one is used
as its documentation recommends for speed; imports stand inside, so that a process holds one library only. Made from the
same pieces are those that a GPU adds (gpu_contenders.py), and those that predict (predictors.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from workloads import Workload

Turn = Callable[[], "float | None"]
Contenders = dict[str, tuple[Callable[[Workload], Turn], tuple[str, ...]]]  # with the packages whose versions count


def keras_network(workload: Workload, package: str, member: int = 0) -> Any:
    """Return the model, in Keras or in gpumlp, with the first weights of a member, not yet compiled."""
    from importlib import import_module

    layers, models = (import_module(f"{package}.{name}") for name in ("layers", "models"))
    *hidden, last = workload.sizes[1:]
    model = models.Sequential([layers.Input(shape=(workload.sizes[0],))])
    for units in hidden:
        model.add(layers.Dense(units, activation=workload.activation))
    model.add(layers.Dense(last, activation="softmax" if workload.classes else None))
    model.set_weights(workload.weights(member))
    return model


def keras_compile(workload: Workload, package: str, model: Any) -> None:
    """Compile a model of `keras_network` for the workload's training."""
    from importlib import import_module

    optimizers = import_module(f"{package}.optimizers")
    adam = optimizers.Adam(learning_rate=workload.learning_rate, epsilon=workload.epsilon)
    optimizer = optimizers.SGD(workload.learning_rate) if workload.sgd else adam
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy" if workload.classes else "mse")


def keras_model(workload: Workload, package: str, member: int = 0) -> Any:
    """Return the compiled model, in Keras or in gpumlp, with the first weights of a member."""
    model = keras_network(workload, package, member)
    keras_compile(workload, package, model)
    return model


def _fitted(workload: Workload, model: Any) -> Turn:
    x, y = workload.data()

    def turn() -> float:
        return model.fit(x, y, batch_size=workload.batch, shuffle=False, verbose=0).history["loss"][0]

    return turn


def on_the_cpu(workload: Workload, kernels: str, member: int = 0) -> Any:
    """Return gpumlp's compiled model, with these kernels on the CPU; RuntimeError where it would take others."""
    os.environ["GPUMLP_DEVICE"], os.environ["GPUMLP_KERNELS"] = "cpu", kernels
    model = keras_model(workload, "gpumlp", member)
    if model.device.kernels != kernels:
        raise RuntimeError(f"gpumlp was asked for its {kernels} kernels, and would run with {model.device.kernels}.")
    return model


def gpumlp_compiled(workload: Workload) -> Turn:
    """gpumlp's fit with its compiled kernels."""
    return _fitted(workload, on_the_cpu(workload, "compiled"))


def gpumlp_numpy(workload: Workload) -> Turn:
    """gpumlp's fit with NumPy."""
    return _fitted(workload, on_the_cpu(workload, "numpy"))


def keras_jax(workload: Workload) -> Turn:
    """Keras's fit, compiled by JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    return _fitted(workload, keras_model(workload, "keras"))


def keras_tensorflow(workload: Workload) -> Turn:
    """Keras's fit, as a TensorFlow graph."""
    os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
    return _fitted(workload, keras_model(workload, "keras"))


def jax_weights(workload: Workload, member: int = 0) -> list[tuple[Any, Any]]:
    """Return the first weights as JAX's arrays: a pair of w[I, O] and b[O] a layer."""
    import jax.numpy as jnp

    flat = [jnp.asarray(w) for w in workload.weights(member)]
    return list(zip(flat[::2], flat[1::2], strict=True))


def jax_network(params: list[tuple[Any, Any]], x: Any, activation: str = "relu") -> Any:
    """Return the network's outputs, [B, O]; of class scores, the scores."""
    import jax

    for w, b in params[:-1]:
        x = getattr(jax.nn, activation)(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def jax_state(workload: Workload, member: int = 0) -> tuple[Any, Any, Any, Any]:
    """Return what a JAX step changes, as it is at first: weights, Adam's moments, and the number of steps done."""
    import jax
    import jax.numpy as jnp

    params = jax_weights(workload, member)
    return params, *(jax.tree_util.tree_map(jnp.zeros_like, params) for _ in range(2)), jnp.float32(0)


def jax_parts(workload: Workload) -> tuple[Any, Any, Any, Any]:
    """Return a hand-written JAX step with Adam, its first state, and all batches: x[steps, B, F], y[steps, B, ...]."""
    import jax
    import jax.numpy as jnp

    x, y = workload.data()
    x = jnp.asarray(x).reshape(workload.steps, workload.batch, -1)
    y = jnp.asarray(y).reshape(workload.steps, workload.batch, *y.shape[1:])
    rate, epsilon = workload.learning_rate, workload.epsilon

    def loss(params, x, y):
        out = jax_network(params, x, workload.activation)
        if workload.classes:
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1))
        return jnp.mean((out - y) ** 2)

    def step(state, batch):
        params, m, v, t = state
        value, grads = jax.value_and_grad(loss)(params, *batch)
        t = t + 1
        alpha = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: m + (g - m) * (1 - 0.9), m, grads)
        v = tree(lambda v, g: v + (g * g - v) * (1 - 0.999), v, grads)
        params = tree(lambda p, m, v: p - alpha * m / (jnp.sqrt(v) + epsilon), params, m, v)
        return (params, m, v, t), value

    return step, jax_state(workload), x, y


def jax_scan(workload: Workload) -> Turn:
    """One jitted ``lax.scan`` of the step over all batches, buffers donated."""
    import jax

    step, state, x, y = jax_parts(workload)
    epoch = jax.jit(lambda state, x, y: jax.lax.scan(step, state, (x, y)), donate_argnums=0)

    def turn() -> float:
        nonlocal state
        state, losses = epoch(state, x, y)
        return float(losses.mean())

    return turn


def torch_network(workload: Workload, device: str, member: int = 0) -> Any:
    """Return PyTorch's network with the first weights of a member, on ``device``; of class scores, the scores."""
    import torch

    arrays = [torch.from_numpy(w) for w in workload.weights(member)]
    stack: list[torch.nn.Module] = []
    for i in range(len(workload.sizes) - 1):
        linear = torch.nn.Linear(workload.sizes[i], workload.sizes[i + 1], device=device)
        with torch.no_grad():
            linear.weight.copy_(arrays[2 * i].T)
            linear.bias.copy_(arrays[2 * i + 1])
        stack += [linear, {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[workload.activation]()]
    return torch.nn.Sequential(*stack[:-1])


def torch_parts(workload: Workload, device: str) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """Return PyTorch's network with the first weights, its loss, and the batches, on ``device``."""
    import torch

    x, y = (torch.from_numpy(a).to(device) for a in workload.data())
    loss = torch.nn.CrossEntropyLoss() if workload.classes else torch.nn.MSELoss()
    y = y.long() if workload.classes else y
    batches = list(zip(x.split(workload.batch), y.split(workload.batch), strict=True))
    return torch_network(workload, device), loss, batches


def torch_adam(workload: Workload, net: Any, **options: Any) -> Any:
    """Return PyTorch's fused Adam for the network."""
    import torch

    return torch.optim.Adam(
        net.parameters(), lr=workload.learning_rate, eps=workload.epsilon, fused=True, **options
    )  # fmt: skip


def torch_step(net: Any, adam: Any, loss: Any) -> Callable[[Any, Any], Any]:
    """Return a step of training, from x and y to the loss before it, without a wait."""

    def step(x: Any, y: Any) -> Any:
        adam.zero_grad(set_to_none=True)
        value = loss(net(x), y)
        value.backward()
        adam.step()
        return value.detach()

    return step


def torch_fused(workload: Workload, device: str = "cpu") -> Turn:
    """PyTorch eager with its fused Adam."""
    import torch

    net, loss, batches = torch_parts(workload, device)
    step = torch_step(net, torch_adam(workload, net), loss)
    return lambda: float(torch.stack([step(*batch) for batch in batches]).mean())


def inductor_parts(workload: Workload, device: str, compiled: Callable[..., Any]) -> tuple[Any, ...]:
    """Return batches, PyTorch's whole step as one function, which is ``compiled``, the sum of losses, and its state.

    It goes forward and back, updates, and adds its loss to the sum. The update is by operations on lists of tensors, of
    which Inductor makes one kernel; written tensor by tensor, it would be a kernel each.
    """
    import torch

    net, loss, batches = torch_parts(workload, device)
    names, params = zip(*((name, p.detach()) for name, p in net.named_parameters()), strict=True)
    m, v = ([torch.zeros_like(p) for p in params] for _ in range(2))
    t, total = (torch.zeros((), device=device) for _ in range(2))

    def cost(params: Any, x: Any, y: Any) -> Any:
        return loss(torch.func.functional_call(net, dict(zip(names, params, strict=True)), (x,)), y)

    def step(params: Any, m: Any, v: Any, t: Any, total: Any, x: Any, y: Any) -> None:
        grads, value = torch.func.grad_and_value(cost)(params, x, y)
        total.add_(value)
        t.add_(1)
        alpha = workload.learning_rate * torch.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        torch._foreach_lerp_(m, grads, 1 - 0.9)
        torch._foreach_mul_(v, 0.999)
        torch._foreach_addcmul_(v, grads, grads, 1 - 0.999)
        roots = torch._foreach_add(torch._foreach_sqrt(v), workload.epsilon)
        torch._foreach_sub_(params, torch._foreach_mul(torch._foreach_div(m, roots), alpha))

    whole = partial(compiled(step), params, m, v, t, total)
    return batches, whole, total, list(params), lambda: [*m, *v, t]


def scikit_learn(workload: Workload) -> Turn:
    """scikit-learn's MLP, one ``partial_fit`` per pass (its own first weights: its losses are not compared)."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    make = MLPClassifier if workload.classes else MLPRegressor
    model = make(
        hidden_layer_sizes=workload.sizes[1:-1], activation=workload.activation, alpha=0.0, batch_size=workload.batch,
        shuffle=False, random_state=0,
    )  # fmt: skip
    x, y = workload.data()
    if not workload.classes and y.shape[1] == 1:
        y = y[:, 0]
    classes = {"classes": range(workload.sizes[-1])} if workload.classes else {}

    def turn() -> None:
        model.partial_fit(x, y, **classes)

    return turn


CONTENDERS: Contenders = {  # ours first
    "gpumlp, compiled": (gpumlp_compiled, ("gpumlp", "numpy", "numba")),
    "gpumlp, NumPy": (gpumlp_numpy, ("gpumlp", "numpy")),
    "PyTorch, fused Adam": (torch_fused, ("torch",)),
    "JAX, lax.scan": (jax_scan, ("jax",)),
    "Keras on JAX": (keras_jax, ("keras", "jax")),
    "Keras on TensorFlow": (keras_tensorflow, ("keras", "tensorflow")),
    "scikit-learn": (scikit_learn, ("scikit-learn",)),
}
