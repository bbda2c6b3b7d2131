"""The operations that move memory: optimizers over the arena, losses, softmax, dropout, gathering a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import units
from cases import Array, Case, Contender, Expected, U, as_cupy, as_torch, difference, double
from measure import normal

from gpumlp import optimizers

RATE, BETA_1, BETA_2, EPSILON, STEP = 1e-3, 0.9, 0.999, 1e-7, 2
MOMENTUM = 0.9
DROPPED = 0.5
KEY = 12345


def family(backends: dict[str, Any], make: Callable[[Any], Contender]) -> dict[str, Callable[[], Contender]]:
    """Return the makers of our own contenders."""
    return {name: lambda backend=backend: make(backend) for name, backend in backends.items()}  # type: ignore[misc]


# ---- optimizers ------------------------------------------------------------------------------------------------------


def adam(backends: dict[str, Any], count: int) -> Case:
    """Return Adam's step number 2 over ``count`` parameters."""
    import cupy

    w, g, m = (normal((count,), seed) for seed in (1, 2, 3))
    v = 0.01 + normal((count,), 4) ** 2
    alpha = RATE * (1 - BETA_2**STEP) ** 0.5 / (1 - BETA_1**STEP)

    def expected() -> dict[str, Expected]:
        first = double(m) + (double(g) - double(m)) * (1 - BETA_1)
        second = double(v) + (double(g) ** 2 - double(v)) * (1 - BETA_2)
        update = alpha * first / (cupy.sqrt(second) + EPSILON)
        return {"w": Expected(double(w) - update, 64 * U * (abs(w) + abs(update)))}

    def ours(backend: Any) -> Contender:
        state = [a.copy() for a in (w, m, v)]
        scalars = cupy.array([alpha, 1.0], cupy.float32)  # on the device, as in a recorded step
        optimizer, slots = optimizers.Adam(RATE, BETA_1, BETA_2, EPSILON), {"m": state[1], "v": state[2]}

        def work() -> None:
            optimizer.update(backend, state[0], g, slots, STEP, scalars)

        return Contender(work, lambda: {"w": state[0]}, ("gpumlp", "cupy"))

    def unfused() -> Contender:
        p, a, b, t = w.copy(), m.copy(), v.copy(), cupy.empty_like(w)

        def work() -> None:
            nonlocal a, b, p
            a += (g - a) * np.float32(1 - BETA_1)
            b += (g * g - b) * np.float32(1 - BETA_2)
            cupy.sqrt(b, out=t)
            cupy.add(t, np.float32(EPSILON), out=t)
            p -= a * np.float32(alpha) / t

        return Contender(work, lambda: {"w": p})

    def fused() -> Contender:
        p, a, b = w.copy(), m.copy(), v.copy()
        kernel = cupy.ElementwiseKernel(
            "float32 g, float32 alpha, float32 k1, float32 k2, float32 epsilon", "float32 w, float32 m, float32 v",
            "m += (g - m) * k1; v += (g * g - v) * k2; w -= alpha * m / (sqrtf(v) + epsilon);", "adam",
        )  # fmt: skip
        numbers = [np.float32(n) for n in (alpha, 1 - BETA_1, 1 - BETA_2, EPSILON)]
        return Contender(lambda: kernel(g, *numbers, p, a, b), lambda: {"w": p})

    peers = {
        "CuPy, one call an operation": unfused,
        "CuPy ElementwiseKernel": fused,
        "PyTorch, fused Adam": lambda: torch_adam(w, g, m, v),
    }
    case = Case(f"adam {count:,}", units.adam_bytes(count), "GB/s", expected)
    case.contenders = {**family(backends, ours), **peers}
    return case


def torch_adam(w: Array, g: Array, m: Array, v: Array) -> Contender:
    """Return PyTorch's fused Adam at its step number 2."""
    import torch

    p = as_torch(w).clone().requires_grad_()
    p.grad = as_torch(g)
    optimizer = torch.optim.Adam([p], lr=RATE, betas=(BETA_1, BETA_2), eps=EPSILON, fused=True)
    optimizer.step()  # makes its state; then all is set as it was for step 2
    with torch.no_grad():
        p.copy_(as_torch(w))
        optimizer.state[p]["exp_avg"].copy_(as_torch(m))
        optimizer.state[p]["exp_avg_sq"].copy_(as_torch(v))
    return Contender(optimizer.step, lambda: {"w": as_cupy(p)}, ("torch",))


def sgd(backends: dict[str, Any], count: int) -> Case:
    """Return SGD with momentum over ``count`` parameters."""
    import cupy

    w, g, u = (normal((count,), seed) for seed in (1, 2, 3))

    def expected() -> dict[str, Expected]:
        update = MOMENTUM * double(u) - RATE * double(g)
        return {"w": Expected(double(w) + update, 16 * U * (abs(w) + abs(u) + abs(g)))}

    def ours(backend: Any) -> Contender:
        state, grads = [w.copy(), u.copy()], g.copy()
        scalars = cupy.array([RATE, 1.0], cupy.float32)
        optimizer, slots = optimizers.SGD(RATE, MOMENTUM), {"momentum": state[1]}

        def work() -> None:
            optimizer.update(backend, state[0], grads, slots, STEP, scalars)

        return Contender(work, lambda: {"w": state[0]}, ("gpumlp", "cupy"))

    def unfused() -> Contender:
        p, a, t = w.copy(), u.copy(), cupy.empty_like(w)

        def work() -> None:
            cupy.multiply(a, np.float32(MOMENTUM), out=a)
            cupy.multiply(g, np.float32(RATE), out=t)
            cupy.subtract(a, t, out=a)
            cupy.add(p, a, out=p)

        return Contender(work, lambda: {"w": p})

    def pytorch() -> Contender:
        import torch

        p = as_torch(w).clone().requires_grad_()
        p.grad = as_torch(g)
        optimizer = torch.optim.SGD([p], lr=RATE, momentum=MOMENTUM, fused=True)
        optimizer.step()
        with torch.no_grad():  # its momentum is ours without the rate: w -= lr (momentum b + g)
            p.copy_(as_torch(w))
            optimizer.state[p]["momentum_buffer"].copy_(as_torch(u) / -RATE)
        return Contender(optimizer.step, lambda: {"w": as_cupy(p)}, ("torch",))

    case = Case(f"sgd, momentum {count:,}", units.sgd_bytes(count, momentum=True), "GB/s", expected)
    peers = {"CuPy, one call an operation": unfused, "PyTorch, fused SGD": pytorch}
    case.contenders = {**family(backends, ours), **peers}
    return case


def rmsprop(backends: dict[str, Any], count: int) -> Case:
    """Return RMSprop over ``count`` parameters."""
    import cupy

    rho, epsilon = 0.9, 1e-7
    w, g = (normal((count,), seed) for seed in (1, 2))
    v = cupy.abs(normal((count,), 3))

    def expected() -> dict[str, Expected]:
        square = double(v) + (double(g) ** 2 - double(v)) * (1 - rho)
        update = RATE * double(g) / cupy.sqrt(square + epsilon)
        return {"w": Expected(double(w) - update, 16 * U * (abs(w) + abs(update)))}

    def ours(backend: Any) -> Contender:
        state, grads = [w.copy(), v.copy()], g.copy()
        scalars = cupy.array([RATE, 1.0], cupy.float32)
        optimizer, slots = optimizers.RMSprop(RATE, rho, epsilon=epsilon), {"v": state[1]}

        def work() -> None:
            optimizer.update(backend, state[0], grads, slots, STEP, scalars)

        return Contender(work, lambda: {"w": state[0]}, ("gpumlp", "cupy"))

    def pytorch() -> Contender:
        import torch

        p = as_torch(w).clone().requires_grad_()
        p.grad = as_torch(g)
        optimizer = torch.optim.RMSprop([p], lr=RATE, alpha=rho, eps=0.0, foreach=True)
        optimizer.step()
        with torch.no_grad():
            p.copy_(as_torch(w))
            optimizer.state[p]["square_avg"].copy_(as_torch(v))
        return Contender(
            optimizer.step, lambda: {"w": as_cupy(p)}, ("torch",), "its epsilon is outside the root: 0 here"
        )

    case = Case(f"rmsprop {count:,}", 20 * count, "GB/s", expected)  # w and v read and written, g read
    case.contenders = {**family(backends, ours), "PyTorch, foreach RMSprop": pytorch}
    return case


# ---- activations, losses, softmax -----------------------------------------------------------------------------------


def cross_entropy(backends: dict[str, Any], batch: int, outputs: int) -> Case:
    """Return softmax cross-entropy of class numbers, from logits: the loss and its gradient."""
    import cupy

    from gpumlp.losses import SparseCategoricalCrossentropy

    p = normal((batch, outputs), 1)
    labels = cupy.asarray(np.random.default_rng(0).integers(0, outputs, batch))
    rows = cupy.arange(batch)

    def computed(z: Array) -> tuple[Array, Array]:
        shifted = z - z.max(axis=1, keepdims=True)
        e = cupy.exp(shifted)
        s = e.sum(axis=1, keepdims=True)
        dp = e / s
        value = (cupy.log(s)[:, 0] - shifted[rows, labels]).mean()
        dp[rows, labels] -= 1
        dp /= batch
        return value, dp

    def expected() -> dict[str, Expected]:
        value, dp = computed(double(p))
        return {"loss": Expected(value, 1e-5 * abs(value)), "dp": Expected(dp, 1e-5 * abs(dp) + 1e-6 / batch)}

    def ours(backend: Any) -> Contender:
        loss, target = SparseCategoricalCrossentropy(from_logits=True), labels.astype(cupy.float32).reshape(batch, 1)
        values, dp = cupy.empty(batch, cupy.float32), cupy.full_like(p, cupy.nan)
        return Contender(
            lambda: backend.loss_into(values, loss, target, p, None, dp),
            lambda: {"loss": values.mean(dtype=cupy.float64), "dp": dp}, ("gpumlp", "cupy"),
        )  # fmt: skip

    def unfused() -> Contender:
        kept: dict[str, Array] = {}

        def work() -> None:
            kept["loss"], kept["dp"] = computed(p)

        return Contender(work, lambda: kept)

    def pytorch() -> Contender:
        import torch

        z, target = as_torch(p).detach().requires_grad_(), as_torch(labels)
        kept: dict[str, Any] = {}

        def work() -> None:
            value = torch.nn.functional.cross_entropy(z, target)
            kept["loss"], kept["dp"] = value, torch.autograd.grad(value, z)[0]

        return Contender(work, lambda: {k: as_cupy(t) for k, t in kept.items()}, ("torch",))

    case = Case(f"loss, cross-entropy {batch}x{outputs}", 8 * batch * outputs + 8 * batch, "GB/s", expected)
    peers = {"CuPy, one call an operation": unfused, "PyTorch, forward and backward": pytorch}
    case.contenders = {**family(backends, ours), **peers}
    return case


def squared_error(backends: dict[str, Any], batch: int, outputs: int) -> Case:
    """Return the mean squared error and its gradient."""
    import cupy

    from gpumlp.losses import MeanSquaredError

    p, t = normal((batch, outputs), 1), normal((batch, outputs), 2)

    def expected() -> dict[str, Expected]:
        error = double(p) - double(t)
        dp = error * (2 / error.size)
        value = (error**2).mean()
        return {"loss": Expected(value, 1e-5 * value), "dp": Expected(dp, 8 * U * 2 / error.size * (abs(p) + abs(t)))}

    def ours(backend: Any) -> Contender:
        loss, values, dp = MeanSquaredError(), cupy.empty(batch, cupy.float32), cupy.full_like(p, cupy.nan)
        return Contender(
            lambda: backend.loss_into(values, loss, t, p, None, dp),
            lambda: {"loss": values.mean(dtype=cupy.float64), "dp": dp}, ("gpumlp", "cupy"),
        )  # fmt: skip

    def unfused() -> Contender:
        kept, dp = {}, cupy.empty_like(p)  # type: ignore[var-annotated]

        def work() -> None:
            cupy.subtract(p, t, out=dp)
            kept["loss"] = (dp * dp).mean()
            cupy.multiply(dp, np.float32(2 / dp.size), out=dp)

        return Contender(work, lambda: {**kept, "dp": dp})

    def pytorch() -> Contender:
        import torch

        z, target = as_torch(p).detach().requires_grad_(), as_torch(t)
        kept: dict[str, Any] = {}

        def work() -> None:
            value = torch.nn.functional.mse_loss(z, target)
            kept["loss"], kept["dp"] = value, torch.autograd.grad(value, z)[0]

        return Contender(work, lambda: {k: as_cupy(a) for k, a in kept.items()}, ("torch",))

    case = Case(f"loss, squared error {batch}x{outputs}", 12 * batch * outputs, "GB/s", expected)
    peers = {"CuPy, one call an operation": unfused, "PyTorch, forward and backward": pytorch}
    case.contenders = {**family(backends, ours), **peers}
    return case


def activation(backends: dict[str, Any], batch: int, outputs: int) -> Case:
    """Return tanh as a layer of its own."""
    import cupy

    from gpumlp import activations

    z, function = normal((batch, outputs), 1), activations.get("tanh")

    def expected() -> dict[str, Expected]:
        exact = cupy.tanh(double(z))
        return {"y": Expected(exact, 1e-6 * abs(exact))}

    def ours(backend: Any) -> Contender:
        y = cupy.full_like(z, cupy.nan)
        return Contender(lambda: backend.activation_forward(function, z, y), lambda: {"y": y}, ("gpumlp", "cupy"))

    def library(name: str) -> Contender:
        y = cupy.full_like(z, cupy.nan)
        if name == "CuPy":
            return Contender(lambda: cupy.tanh(z, out=y), lambda: {"y": y})
        import torch

        source, target = as_torch(z), as_torch(y)
        return Contender(lambda: torch.tanh(source, out=target), lambda: {"y": y}, ("torch",))

    case = Case(f"tanh {batch}x{outputs}", 8 * batch * outputs, "GB/s", expected)
    case.contenders = {**family(backends, ours), **{n: lambda n=n: library(n) for n in ("CuPy", "PyTorch")}}
    return case


def softmax(backends: dict[str, Any], batch: int, outputs: int) -> Case:
    """Return softmax over rows."""
    import cupy

    from gpumlp import activations

    z, function = normal((batch, outputs), 1), activations.get("softmax")

    def computed(z: Array) -> Array:
        e = cupy.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def expected() -> dict[str, Expected]:
        exact = computed(double(z))
        return {"y": Expected(exact, 1e-5 * exact)}

    def ours(backend: Any) -> Contender:
        y = cupy.full_like(z, cupy.nan)
        return Contender(lambda: backend.activation_forward(function, z, y), lambda: {"y": y}, ("gpumlp", "cupy"))

    def library(name: str) -> Contender:
        kept: dict[str, Any] = {}
        if name == "CuPy":
            return Contender(lambda: kept.update(y=computed(z)), lambda: kept)
        import torch

        source = as_torch(z)
        return Contender(lambda: kept.update(y=torch.softmax(source, 1)), lambda: {"y": as_cupy(kept["y"])}, ("torch",))

    case = Case(f"softmax {batch}x{outputs}", 8 * batch * outputs, "GB/s", expected)
    peers = {"CuPy, one call an operation": lambda: library("CuPy"), "PyTorch": lambda: library("PyTorch")}
    case.contenders = {**family(backends, ours), **peers}
    return case


def metric(backends: dict[str, Any], batch: int, outputs: int) -> Case:
    """Return whether each sample's largest output is its class, one-hot."""
    import cupy

    from gpumlp.metrics import CategoricalAccuracy

    p, t = normal((batch, outputs), 1), normal((batch, outputs), 2)

    def expected() -> dict[str, Expected]:
        return {"values": Expected((p.argmax(1) == t.argmax(1)).astype(np.float64), cupy.zeros(batch))}

    def ours(backend: Any) -> Contender:
        values = cupy.full((1, batch), cupy.nan, cupy.float32)  # of one sum

        def work() -> None:
            backend.metric_into(values, None, CategoricalAccuracy(), t, p, None)

        return Contender(work, lambda: {"values": values[0]}, ("gpumlp", "cupy"))

    def library(name: str) -> Contender:
        kept: dict[str, Any] = {}
        if name == "CuPy":
            return Contender(lambda: kept.update(values=p.argmax(1) == t.argmax(1)), lambda: kept)
        a, b = as_torch(p), as_torch(t)

        def work() -> None:
            kept["values"] = (a.argmax(1) == b.argmax(1)).float()

        return Contender(work, lambda: {"values": as_cupy(kept["values"])}, ("torch",))

    case = Case(f"categorical accuracy {batch}x{outputs}", 8 * batch * outputs, "GB/s", expected)
    case.contenders = {**family(backends, ours), **{n: lambda n=n: library(n) for n in ("CuPy", "PyTorch")}}
    return case


def penalty(backends: dict[str, Any], count: int) -> Case:
    """Return an l2 penalty: its value in parts, its gradient added to dw."""
    import cupy

    from gpumlp.backends.device_backend import PENALTY_PARTS
    from gpumlp.regularizers import L2

    factor = 0.01
    w, g = (normal((count,), seed) for seed in (1, 2))

    def expected() -> dict[str, Expected]:
        return {"dw": Expected(double(g) + 2 * factor * double(w), 8 * U * (abs(g) + abs(w)))}

    def ours(backend: Any) -> Contender:
        parts, dw = cupy.zeros(PENALTY_PARTS, cupy.float32), g.copy()
        return Contender(lambda: backend.penalty_into(parts, L2(factor), w, dw), lambda: {"dw": dw}, ("gpumlp", "cupy"))

    def unfused() -> Contender:
        dw, work_array = g.copy(), cupy.empty_like(g)

        def work() -> None:
            cupy.dot(w, w)
            cupy.multiply(w, np.float32(2 * factor), out=work_array)
            cupy.add(dw, work_array, out=dw)

        return Contender(work, lambda: {"dw": dw})

    case = Case(f"l2 penalty {count:,}", 12 * count, "GB/s", expected)  # w read, dw read and written
    case.contenders = {**family(backends, ours), "CuPy, one call an operation": unfused}
    return case


# ---- dropout, gathering ---------------------------------------------------------------------------------------------


def dropout(backends: dict[str, Any], batch: int, outputs: int) -> Case:
    """Return y = x mask with a fresh mask; ours is NumPy's Philox to the bit, the peers draw their own."""
    import cupy

    from gpumlp.backends.numpy_backend import NumpyBackend

    x = normal((batch, outputs), 1)

    def expected() -> dict[str, Expected]:
        host = x.get()
        mask, y = np.empty_like(host), np.empty_like(host)
        NumpyBackend().dropout(host, mask, y, DROPPED, KEY, 0, STEP)
        return {name: Expected(double(cupy.asarray(a)), 0.0) for name, a in (("mask", mask), ("y", y))}

    def plausible(got: dict[str, Array]) -> str | None:
        kept = float((got["mask"] != 0).mean())
        scaled = x * (got["mask"] != 0) * np.float32(1 / (1 - DROPPED))
        wrong = difference({"y": got["y"]}, {"y": Expected(double(scaled), 4 * U * abs(scaled))})
        return wrong or (None if abs(kept - (1 - DROPPED)) < 0.02 else f"{kept:.3f} of the values were kept")

    def ours(backend: Any) -> Contender:
        y, mask = cupy.full_like(x, cupy.nan), cupy.full_like(x, cupy.nan)
        live, iteration = cupy.array([batch], cupy.int32), cupy.array([STEP], cupy.int64)

        def work() -> None:
            with backend.live(live, batch, iteration):  # the step's number on the device, as in a recorded step
                backend.dropout(x, mask, y, DROPPED, KEY, 0, STEP)

        return Contender(work, lambda: {"y": y, "mask": mask}, ("gpumlp", "cupy"))

    def pytorch() -> Contender:
        import torch

        source, kept = as_torch(x), {}  # type: ignore[var-annotated]

        def work() -> None:
            kept["y"], kept["mask"] = torch.native_dropout(source, DROPPED, True)

        def outputs_() -> dict[str, Array]:
            return {"y": as_cupy(kept["y"]), "mask": as_cupy(kept["mask"].to(torch.uint8))}

        return Contender(work, outputs_, ("torch",), amount=9 * x.size, verify=plausible, note="a mask of bytes")

    case = Case(f"dropout {batch}x{outputs}", 12 * batch * outputs, "GB/s", expected)
    case.contenders = {**family(backends, ours), "PyTorch": pytorch}
    return case


def take(backends: dict[str, Any], batch: int, width: int, samples: int) -> Case:
    """Return the gathering of ``batch`` rows of a data set of ``samples``, in random order."""
    import cupy

    source = normal((samples, width), 1)
    rows = cupy.asarray(np.random.default_rng(0).permutation(samples)[:batch])

    def expected() -> dict[str, Expected]:
        return {"out": Expected(double(source)[rows], 0.0)}

    def ours(backend: Any) -> Contender:
        out = cupy.full((batch, width), cupy.nan, cupy.float32)
        return Contender(lambda: backend.take(source, rows, out), lambda: {"out": out}, ("gpumlp", "cupy"))

    def cupys() -> Contender:
        out = cupy.full((batch, width), cupy.nan, cupy.float32)
        return Contender(lambda: cupy.take(source, rows, axis=0, out=out), lambda: {"out": out})

    def pytorch() -> Contender:
        import torch

        data, index = as_torch(source), as_torch(rows)
        out = torch.empty((batch, width), device=data.device)
        return Contender(lambda: torch.index_select(data, 0, index, out=out), lambda: {"out": as_cupy(out)}, ("torch",))

    case = Case(f"take {batch}x{width} of {samples}", 8 * batch * width + 8 * batch, "GB/s", expected)
    case.contenders = {**family(backends, ours), "CuPy": cupys, "PyTorch": pytorch}
    return case
