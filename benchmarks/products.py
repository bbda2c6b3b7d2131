"""The products of a dense layer beside those of OpenBLAS and oneDNN: ``python benchmarks/products.py``.

y = x w + b, dx = dz w^T and dw = x^T dz, each at the rate that 2 B I O operations in its time amount to. Ours are
phases of a job of one operation, as training runs them: with the bias, and with an update that does nothing. OpenBLAS
is called by NumPy, PyTorch's matmul by PyTorch where it is installed; neither adds a bias. All take turns in one
process, and a ratio is that of two times of one round.

OPENBLAS_CORETYPE=Haswell, ONEDNN_MAX_CPU_ISA=AVX2 and ATEN_CPU_CAPABILITY=avx2, set before Python starts, hold the
others to AVX2, as GPUMLP_CPU=avx2 does gpumlp.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import profile_step
import rows
from threadpoolctl import threadpool_info, threadpool_limits

from gpumlp import layers, optimizers
from gpumlp.backends import instruction_set, llvm, native
from gpumlp.backends.job import layout
from gpumlp.backends.team import Team, processors
from gpumlp.engine.arena import alone
from gpumlp.engine.compiled_program import CompiledProgram
from gpumlp.engine.network import describe

Shape = tuple[int, int, int]  # batch, inputs, outputs
SHAPES: dict[str, Shape] = {
    "x".join(map(str, shape)): shape
    for shape in (
        *((n, n, n) for n in (512, 528, 960, 1000, 1024, 1056)),
        (128, 784, 512), (128, 512, 512), (20, 256, 256), (64, 64, 64), (64, 512, 512),
    )
}  # fmt: skip
PRODUCTS = ("y", "dx", "dw")
MOMENT, MOMENT_TOGETHER = 0.01, 0.06  # seconds of a turn, at least; threads that just woke may share a core at first
PAUSE = 0.15  # seconds before a turn of several threads: OpenBLAS's spin, and keep a core, for about as long
MOST = 20_000  # products in a turn
NOTHING = "define i64 @nothing(ptr, ptr, ptr, i64, ptr, ptr) {\n  ret i64 0\n}\n"  # an update
Work = dict[str, Callable[[int], object]]  # a product, so many times


def ours(shape: Shape, threads: int) -> Work:
    """Return the compiled kernels' products, with so many threads, as far as they can be of use."""
    batch, inputs, outputs = shape
    network = describe([layers.Rescaling(1.0), layers.Dense(outputs)], (inputs,))
    arena = alone(network.weights, "float32")
    program = CompiledProgram(network, arena, batch, native.functions(), Team(threads))
    program._set_optimizer(optimizers.SGD(0.0), {})
    chosen = instruction_set.chosen()
    nothing = llvm.assembled(NOTHING, llvm.target_machine(chosen))
    program._job.set(UPDATE_CODE=llvm.addresses(nothing, ["nothing"], chosen)[0])
    rng, names, x = np.random.default_rng(0), layout(), np.zeros((1, inputs), np.float32)
    arena.set([rng.standard_normal(weights.shape, np.float32) for weights in network.weights])
    for values in (program._values[1], program._deltas[2]):
        values[...] = rng.standard_normal(values.shape, np.float32)
    program._job.set(RESULTS=np.zeros((MOST, 1)), SCALARS=np.tile(np.float32([0, 1]), (MOST, 1)))

    threads = program._threads_for(batch, 2.0 * batch * inputs * outputs)

    def phase(name: str, number: int) -> Callable[[int], object]:
        part = profile_step.Part(name, number, first=1, count=1)
        return lambda times: profile_step.seconds_of(part, program, x, batch, times, threads)

    return {"y": phase("y", names.FORWARD), "dx": phase("dx", names.BACK), "dw": phase("dw", names.UPDATE)}


def called(multiply: Callable[..., Any], arrays: list[Any]) -> Work:
    """Return the products by a library's function that takes two matrices and ``out``."""
    x, w, dz, y, dx, dw = arrays

    def repeated(a: Any, b: Any, out: Any) -> Callable[[int], object]:
        def run(times: int) -> None:
            for _ in range(times):
                multiply(a, b, out=out)

        return run

    return {"y": repeated(x, w, y), "dx": repeated(dz, w.T, dx), "dw": repeated(x.T, dz, dw)}


def matrices(shape: Shape) -> list[np.ndarray]:
    """Return x, w, dz, and room for y, dx, dw."""
    b, i, o = shape
    rng = np.random.default_rng(0)
    filled = [rng.standard_normal(s, np.float32) for s in ((b, i), (i, o), (b, o))]
    return [*filled, *(np.zeros(s, np.float32) for s in ((b, o), (b, i), (i, o)))]


def contenders(shape: Shape, threads: int) -> dict[str, Work]:
    """Return who takes turns, by name."""
    blas = next(pool for pool in threadpool_info() if pool["user_api"] == "blas")
    out = {"gpumlp": ours(shape, threads)}
    out[f"{blas['internal_api']} ({blas.get('architecture', '?')})"] = called(np.matmul, matrices(shape))
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)
        out["PyTorch"] = called(torch.matmul, [torch.from_numpy(a) for a in matrices(shape)])
    return out


def seconds(work: Callable[[int], object], times: int) -> float:
    """Return the seconds of a product, of so many."""
    began = time.perf_counter()
    work(times)
    return (time.perf_counter() - began) / times


def measured(shape: Shape, threads: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each product by each contender, {product: {contender: one a round}}."""
    import gc

    with threadpool_limits(threads, "blas") if threads else nullcontext():
        who, out = contenders(shape, threads), {}
        gc.collect()
        for product in PRODUCTS:
            out[product] = {name: [] for name in who}
            moment = MOMENT if threads == 1 else MOMENT_TOGETHER
            times = {name: max(1, min(MOST, int(moment / seconds(w[product], 2)))) for name, w in who.items()}
            for _ in range(repeats):
                for name, work in who.items():
                    time.sleep(PAUSE if threads > 1 else 0.0)
                    out[product][name].append(seconds(work[product], times[name]))
    return out


def main() -> None:
    """Measure and print the chosen shapes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--shape", choices=SHAPES, action="append", help="batch x inputs x outputs (default: all)")
    parser.add_argument("--threads", type=int, action="append", help="how many (default: one, and all processors)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--output", type=Path, help="folder that cpu_products.csv is written to (default: none)")
    chosen = parser.parse_args()
    instructions = instruction_set.chosen().name
    print(f"{rows.machine()}; {instructions}; {rows.commit()}; {rows.now()}; GFLOP/s, ratio of times to gpumlp's")
    found: list[rows.Row] = []
    for threads in chosen.threads or sorted({1, processors()}):
        for title in chosen.shape or SHAPES:
            b, i, o = SHAPES[title]
            for product, times in measured(SHAPES[title], threads, chosen.repeats).items():
                cells = []
                for name, each in times.items():
                    us = [1e6 * s for s in each]
                    workload = f"{product} of {title}, threads: {threads}, {instructions}"
                    made = rows.row(
                        "products", workload, name, "us", us, [1e6 * s for s in times["gpumlp"]],
                        ("numpy", *(("torch",) if name == "PyTorch" else ())),
                    )  # fmt: skip
                    rate = 2 * b * i * o / statistics.median(each) / 1e9
                    found.append(rows.RateRow(**vars(made), rate=rows.significant(rate), rate_unit="GFLOP/s"))
                    cells.append(f"{name} {rate:7.1f}" + (f" {made.ratio:5.2f}" if name != "gpumlp" else ""))
                print(f"{title:>16} {product:>2} {threads}:  {'   '.join(cells)}", flush=True)
    if chosen.output:
        rows.write(chosen.output / "cpu_products.csv", found)


if __name__ == "__main__":
    main()
