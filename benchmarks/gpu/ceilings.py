"""What this GPU reaches at best, measured in the same run as what is held against it.

Memory: a large device-to-device copy, bytes read and written. Arithmetic: cuBLAS on square float32 matrices, with TF32
off (CUPY_TF32=0, NVIDIA_TF32_OVERRIDE=0) and checked to be off; bfloat16 through PyTorch where it is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import environment
import report
import units
from measure import Timer, normal
from report import Report

COPY = 1 << 30  # bytes
SECONDS = 0.5  # of rounds, for each
FLOAT32_ERROR = 1e-5  # of a product of 4096 x 4096 normal numbers, relative to its size: float32 has 1e-6, TF32 3e-4


@dataclass
class Ceilings:
    """GB/s of a copy, TFLOP/s of the better float32 product."""

    memory: float
    float32: float


def exact_error() -> float:
    """Return the relative error of cuBLAS's float32 product: what tells float32 from TF32."""
    import cupy

    a, b = normal((512, 4096), 0), normal((512, 4096), 1)
    exact = a.astype(cupy.float64) @ b.T.astype(cupy.float64)
    return float(cupy.sqrt(((a @ b.T - exact) ** 2).sum() / (exact**2).sum()))


def measured(timer: Timer, out: Report) -> Ceilings:
    """Measure the ceilings and report a row each."""
    import cupy

    memory = copied(timer, out)
    error = exact_error()
    if not error < FLOAT32_ERROR:
        raise RuntimeError(f"cuBLAS does not compute in float32 here: relative error {error:.1e}. Is TF32 on?")
    best = max(multiplied(timer, out, n, f"TF32 off; relative error {error:.1e}") for n in (4096, 8192))
    bfloat16(timer, out)
    cupy.get_default_memory_pool().free_all_blocks()
    return Ceilings(memory, best)


def copied(timer: Timer, out: Report) -> float:
    """Report a copy within the device's memory; return GB/s."""
    import cupy

    source = normal((COPY // 4,), 0)
    target = cupy.empty_like(source)
    times = timer.rounds({"copy": lambda: cupy.copyto(target, source)}, SECONDS)["copy"]
    return out.add_rate(f"copy of {COPY >> 20} MiB", "device to device", times, (), 2 * COPY, "GB/s", 0.0).rate


def multiplied(timer: Timer, out: Report, n: int, note: str) -> float:
    """Report cuBLAS's float32 product of two n x n matrices; return TFLOP/s."""
    import cupy

    a, b = normal((n, n), 0), normal((n, n), 1)
    c = cupy.empty_like(a)
    times = timer.rounds({"product": lambda: cupy.dot(a, b, out=c)}, SECONDS)["product"]
    flops = units.dense_forward_flops(n, n, n)
    return out.add_rate(f"{n}x{n}x{n}", "cuBLAS float32", times, (), flops, "TFLOP/s", 0.0, note=note).rate


def bfloat16(timer: Timer, out: Report) -> None:
    """Report the bfloat16 product of PyTorch, or why there is none."""
    n = 8192
    workload, contender = f"{n}x{n}x{n}", "cuBLAS bfloat16, PyTorch"
    try:
        import torch

        a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        c = torch.empty_like(a)
        times = timer.rounds({"product": lambda: torch.mm(a, b, out=c)}, SECONDS)["product"]
    except Exception as error:  # not installed, built without CUDA, or too little memory: the rest does not need it
        out.skip(workload, contender, report.first_line(error))
        return
    flops = units.dense_forward_flops(n, n, n)
    out.add_rate(workload, contender, times, (), flops, "TFLOP/s", 0.0, packages=("torch",))


if __name__ == "__main__":
    chosen = report.arguments(__doc__)
    report.need_gpu()
    print(environment.gpu(), flush=True)
    measured(Timer(), Report(chosen.output, "ceiling"))
