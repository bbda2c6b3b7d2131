"""The contenders: each takes a workload and returns ``turn()``, which trains on all its batches in order, once.

``turn`` returns the mean loss over the batches of the pass, or None where the library does not tell. Every one is used
as its documentation recommends for speed; imports stand inside, so that a process holds one library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from workloads import Workload

Turn = Callable[[], "float | None"]


def _keras_like(workload: Workload, package: str) -> Turn:
    from importlib import import_module

    layers, models = import_module(f"{package}.layers"), import_module(f"{package}.models")
    *hidden, last = workload.sizes[1:]
    model = models.Sequential([layers.Input(shape=(workload.sizes[0],))])
    for units in hidden:
        model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(last, activation="softmax" if workload.classes else None))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy" if workload.classes else "mse")
    model.set_weights(workload.weights())
    x, y = workload.data()

    def turn() -> float:
        return model.fit(x, y, batch_size=workload.batch, shuffle=False, verbose=0).history["loss"][0]

    return turn


def gpumlp_numpy(workload: Workload) -> Turn:
    """gpumlp's fit on the CPU."""
    os.environ["GPUMLP_DEVICE"] = "cpu"
    return _keras_like(workload, "gpumlp")


def keras_jax(workload: Workload) -> Turn:
    """Keras's fit, compiled by JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    return _keras_like(workload, "keras")


def keras_tensorflow(workload: Workload) -> Turn:
    """Keras's fit, as a TensorFlow graph."""
    os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
    return _keras_like(workload, "keras")


def jax_scan(workload: Workload) -> Turn:
    """A hand-written JAX step with Adam; one jitted ``lax.scan`` over all batches, buffers donated."""
    import jax
    import jax.numpy as jnp

    x, y = workload.data()
    x = jnp.asarray(x).reshape(workload.steps, workload.batch, -1)
    y = jnp.asarray(y).reshape(workload.steps, workload.batch, *y.shape[1:])

    def loss(params, x, y):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        out = x @ params[-1][0] + params[-1][1]
        if workload.classes:
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1))
        return jnp.mean((out - y) ** 2)

    def step(state, batch):
        params, m, v, t = state
        value, grads = jax.value_and_grad(loss)(params, *batch)
        t = t + 1
        alpha = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: m + (g - m) * (1 - 0.9), m, grads)
        v = tree(lambda v, g: v + (g * g - v) * (1 - 0.999), v, grads)
        params = tree(lambda p, m, v: p - alpha * m / (jnp.sqrt(v) + 1e-7), params, m, v)
        return (params, m, v, t), value

    epoch = jax.jit(lambda state: jax.lax.scan(step, state, (x, y)), donate_argnums=0)
    flat = [jnp.asarray(w) for w in workload.weights()]
    params = list(zip(flat[::2], flat[1::2], strict=True))

    def zeros():
        return jax.tree_util.tree_map(jnp.zeros_like, params)

    state = (params, zeros(), zeros(), jnp.float32(0))

    def turn() -> float:
        nonlocal state
        state, losses = epoch(state)
        return float(losses.mean())

    return turn


def torch_fused(workload: Workload) -> Turn:
    """PyTorch eager with its fused Adam."""
    import torch

    x, y = (torch.from_numpy(a) for a in workload.data())
    stack: list[torch.nn.Module] = []
    for i in range(len(workload.sizes) - 1):
        linear = torch.nn.Linear(workload.sizes[i], workload.sizes[i + 1])
        with torch.no_grad():
            w, b = workload.weights()[2 * i : 2 * i + 2]
            linear.weight.copy_(torch.from_numpy(w.T.copy()))
            linear.bias.copy_(torch.from_numpy(b))
        stack += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*stack[:-1])
    optimizer = torch.optim.Adam(net.parameters(), eps=1e-7, fused=True)
    loss = torch.nn.CrossEntropyLoss() if workload.classes else torch.nn.MSELoss()
    y = y.long() if workload.classes else y
    batches = list(zip(x.split(workload.batch), y.split(workload.batch), strict=True))

    def turn() -> float:
        values = []
        for xb, yb in batches:
            optimizer.zero_grad(set_to_none=True)
            value = loss(net(xb), yb)
            value.backward()
            optimizer.step()
            values.append(value.detach())
        return float(torch.stack(values).mean())

    return turn


def scikit_learn(workload: Workload) -> Turn:
    """scikit-learn's MLP, one ``partial_fit`` per pass (its own first weights: its losses are not compared)."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    make = MLPClassifier if workload.classes else MLPRegressor
    model = make(
        hidden_layer_sizes=workload.sizes[1:-1], alpha=0.0, batch_size=workload.batch, shuffle=False, random_state=0
    )
    x, y = workload.data()
    if not workload.classes and y.shape[1] == 1:
        y = y[:, 0]
    classes = {"classes": range(workload.sizes[-1])} if workload.classes else {}

    def turn() -> None:
        model.partial_fit(x, y, **classes)

    return turn


CONTENDERS: dict[str, tuple[Callable[[Workload], Turn], tuple[str, ...]]] = {  # with the packages whose versions count
    "gpumlp, NumPy": (gpumlp_numpy, ("gpumlp", "numpy")),
    "PyTorch, fused Adam": (torch_fused, ("torch",)),
    "JAX, lax.scan": (jax_scan, ("jax",)),
    "Keras on JAX": (keras_jax, ("keras", "jax")),
    "Keras on TensorFlow": (keras_tensorflow, ("keras", "tensorflow")),
    "scikit-learn": (scikit_learn, ("scikit-learn",)),
}
