"""What the kernel benchmark runs: each operation at its shapes, by gpumlp and by its peers, with the exact answer.

A Case has one amount of work (operations or bytes) and contenders that do it on the same inputs. Contenders are made
one by one, so that one that lacks a library or memory leaves the others alone. u below is float32's rounding unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import environment  # noqa: F401, its settings come before the libraries
import numpy as np
import units
from measure import normal

Array = Any
U = 2.0**-24
LARGE = 1e11  # floating-point operations
SAFETY = 4.0  # on the bound of a sum of K products, (K + 2) u (|A| |B|)


@dataclass
class Expected:
    """The exact values in float64, how far each may be off, and how far all may be off in the root mean square.

    The last one is relative, and what tells float32 from TF32: a bound for every element must allow the worst case.
    """

    exact: Array
    tolerance: Array
    relative: float = float("inf")


@dataclass
class Contender:
    """``work`` does it once; ``outputs`` are what it wrote, by name; ``verify`` stands in for the comparison."""

    work: Callable[[], Any]
    outputs: Callable[[], dict[str, Array]]
    packages: tuple[str, ...] = ("cupy",)
    note: str = ""
    amount: float | None = None  # bytes, where it moves others than the case says
    verify: Callable[[dict[str, Array]], str | None] | None = None


@dataclass
class Case:
    """An operation at a shape."""

    name: str
    amount: float
    rate_unit: str
    expected: Callable[[], dict[str, Expected]]
    contenders: dict[str, Callable[[], Contender]] = field(default_factory=dict)


def difference(outputs: dict[str, Array], expected: dict[str, Expected]) -> str | None:
    """Return what is wrong with the outputs, worst first; None where all are as exact as float32 should be."""
    import cupy

    for name, want in expected.items():
        error = cupy.abs(outputs[name].astype(cupy.float64).reshape(want.exact.shape) - want.exact)
        bad = ~(error <= want.tolerance)  # NaN is bad
        if int(bad.sum()):
            worst = float(cupy.nan_to_num(error, nan=float("inf")).max())
            return f"{name}: {int(bad.sum())} of {bad.size} elements are off, by up to {worst:.1e}"
        size = float(cupy.sqrt((want.exact**2).mean()))
        relative = float(cupy.sqrt((error**2).mean())) / size if size else 0.0
        if not relative <= want.relative:
            return f"{name}: relative error {relative:.1e}, where float32 stays below {want.relative:.1e}"
    return None


def double(a: Array) -> Array:
    """Return the array in float64."""
    return a.astype(np.float64)


def product(a: Array, b: Array, more: Array | float = 0.0) -> Expected:
    """Return what a float32 product of ``a`` and ``b`` plus ``more`` must be within; all float64."""
    inner = a.shape[1]
    bound = SAFETY * (inner + 2) * U * (abs(a) @ abs(b) + abs(more))
    return Expected(a @ b + more, bound, U * (8 + 2 * inner**0.5))


def as_torch(a: Array) -> Any:
    """Return the array as PyTorch's, in the same memory."""
    import torch

    return torch.from_dlpack(a)


def as_cupy(t: Any) -> Array:
    """Return PyTorch's tensor as CuPy's, in the same memory."""
    import cupy

    return cupy.from_dlpack(t.detach())


# ---- dense layers -------------------------------------------------------------------------------------------------


def dense_forward(backends: dict[str, Any], batch: int, inputs: int, outputs: int) -> Case:
    """Return y = relu(x w + b)."""
    import cupy

    from gpumlp.activations import relu

    x, w, b = normal((batch, inputs), 1), normal((inputs, outputs), 2), normal((outputs,), 3)

    def expected() -> dict[str, Expected]:
        y = product(double(x), double(w), double(b))
        return {"y": Expected(cupy.maximum(y.exact, 0.0), y.tolerance, y.relative)}

    def ours(backend: Any, tile: str | None) -> Contender:
        y = cupy.full((batch, outputs), cupy.nan, cupy.float32)

        def work() -> None:
            backend.tile = tile
            backend.dense_forward(x, w, b, relu, y)

        note = "" if tile else chosen_tile(backend, "forward_tile", batch, inputs, outputs)
        return Contender(work, lambda: {"y": y}, ("gpumlp", "cupy"), note)

    def unfused() -> Contender:
        y = cupy.full((batch, outputs), cupy.nan, cupy.float32)

        def work() -> None:
            cupy.dot(x, w, out=y)
            cupy.add(y, b, out=y)
            cupy.maximum(y, 0.0, out=y)

        return Contender(work, lambda: {"y": y})

    def bare() -> Contender:
        y = cupy.full((batch, outputs), cupy.nan, cupy.float32)

        def verify(got: dict[str, Array]) -> str | None:
            return difference(got, {"y": product(double(x), double(w))})

        return Contender(lambda: cupy.dot(x, w, out=y), lambda: {"y": y}, verify=verify, note="the product alone")

    flops = units.dense_forward_flops(batch, inputs, outputs)
    case = Case(f"dense_forward {batch}x{inputs}x{outputs}", flops, "TFLOP/s", expected)
    large = flops > LARGE
    case.contenders = dense_contenders(backends, ours, unfused, bare, lambda: torch_forward(x, w, b), large)
    return case


def torch_forward(x: Array, w: Array, b: Array) -> Contender:
    """Return PyTorch's relu(linear), its weights as [O, I], which is how it keeps them."""
    import torch

    xt, wt, bt = as_torch(x), as_torch(w).t().contiguous(), as_torch(b)
    kept: dict[str, Any] = {}

    def work() -> None:
        with torch.no_grad():
            kept["y"] = torch.relu_(torch.nn.functional.linear(xt, wt, bt))

    return Contender(work, lambda: {"y": as_cupy(kept["y"])}, ("torch",))


def dense_backward(backends: dict[str, Any], batch: int, inputs: int, outputs: int) -> Case:
    """Return dw, db and dx of y = relu(x w + b), from dy."""
    import cupy

    from gpumlp.activations import relu

    x, w, b = normal((batch, inputs), 1), normal((inputs, outputs), 2), normal((outputs,), 3)
    dy = normal((batch, outputs), 4)
    y = cupy.maximum(x @ w + b, 0.0)
    shapes = {"dw": (inputs, outputs), "db": (outputs,), "dx": (batch, inputs)}

    def fresh() -> dict[str, Array]:
        return {name: cupy.full(shape, cupy.nan, cupy.float32) for name, shape in shapes.items()}

    def expected() -> dict[str, Expected]:
        return gradients(x, w, double(dy) * (y > 0))

    def ours(backend: Any, tile: str | None) -> Contender:
        out = fresh()

        def work() -> None:
            backend.tile = tile
            backend.dense_backward(dy, x, w, y, None, relu, out["dx"], out["dw"], out["db"])

        note = "" if tile else chosen_tile(backend, "backward_tile", batch, inputs, outputs, True, True)
        return Contender(work, lambda: out, ("gpumlp", "cupy"), note)

    def unfused() -> Contender:
        out, dz = fresh(), cupy.empty_like(dy)

        def work() -> None:
            cupy.multiply(dy, y > 0, out=dz)
            cupy.dot(x.T, dz, out=out["dw"])
            cupy.sum(dz, axis=0, out=out["db"])
            cupy.dot(dz, w.T, out=out["dx"])

        return Contender(work, lambda: out)

    def bare() -> Contender:
        out = fresh()

        def work() -> None:
            cupy.dot(x.T, dy, out=out["dw"])
            cupy.dot(dy, w.T, out=out["dx"])

        def verify(got: dict[str, Array]) -> str | None:
            wanted = gradients(x, w, double(dy))
            return difference(got, {name: wanted[name] for name in ("dw", "dx")})

        return Contender(work, lambda: out, verify=verify, note="the two products alone")

    flops = units.dense_backward_flops(batch, inputs, outputs)
    case = Case(f"dense_backward {batch}x{inputs}x{outputs}", flops, "TFLOP/s", expected)
    large = flops > LARGE
    case.contenders = dense_contenders(backends, ours, unfused, bare, lambda: torch_backward(x, w, b, dy), large)
    return case


def gradients(x: Array, w: Array, dz: Array) -> dict[str, Expected]:
    """Return what dw, db and dx must be, from dz in float64."""
    import cupy

    ones = cupy.ones((1, len(x)))
    return {"dw": product(double(x).T, dz), "db": product(ones, dz), "dx": product(dz, double(w).T)}


def torch_backward(x: Array, w: Array, b: Array, dy: Array) -> Contender:
    """Return PyTorch's autograd through relu(linear), the forward pass done once and kept."""
    import torch

    leaves = [t.detach().requires_grad_() for t in (as_torch(x), as_torch(w).t().contiguous(), as_torch(b))]
    out, slope = torch.relu(torch.nn.functional.linear(*leaves)), as_torch(dy)
    kept: dict[str, Any] = {}

    def work() -> None:
        kept["grads"] = torch.autograd.grad(out, leaves, slope, retain_graph=True)

    def outputs() -> dict[str, Array]:
        dx, dwt, db = kept["grads"]
        return {"dx": as_cupy(dx), "dw": as_cupy(dwt).T, "db": as_cupy(db)}

    def verify(got: dict[str, Array]) -> str | None:  # by its own mask: an output near 0 may fall on the other side
        return difference(got, gradients(x, w, double(dy) * (as_cupy(out) > 0)))

    return Contender(work, outputs, ("torch",), verify=verify)


def chosen_tile(backend: Any, choice: str, *arguments: int) -> str:
    """Return the name of the tile that the backend chooses by one of its methods; empty where it has no such choice."""
    if not hasattr(backend, choice):
        return ""
    from gpumlp.backends.cuda_backend import TILES

    backend.tile = None
    tile = getattr(backend, choice)(*arguments)
    return next((f"chose the {name} tile" for name, known in TILES.items() if known == tile), "")


def dense_contenders(
    backends: dict[str, Any], ours: Callable[[Any, str | None], Contender], unfused: Callable[[], Contender],
    bare: Callable[[], Contender], pytorch: Callable[[], Contender], large: bool,
) -> dict[str, Callable[[], Contender]]:  # fmt: skip
    """Return the contenders of a dense operation by name: ours by choice and with each tile, then the peers.

    Of ``large`` products tiles of few outputs, and Numba's kernels, would take the time of everything else.
    """
    from gpumlp.backends.cuda_backend import TILES

    makers: dict[str, Callable[[], Contender]] = {}
    for family, backend in backends.items():
        tiles = [name for name, t in TILES.items() if not large or t.block_m * t.block_n >= 64 * 64]
        if hasattr(backend, "forward_tile") or not large:
            makers[family] = lambda backend=backend: ours(backend, None)
        if hasattr(backend, "forward_tile"):
            for tile in tiles:
                makers[f"{family}, {tile} tile"] = lambda backend=backend, tile=tile: ours(backend, tile)
    peers = {"CuPy, cuBLAS and one call an operation": unfused, "cuBLAS alone": bare, "PyTorch": pytorch}
    return {**makers, **peers}
