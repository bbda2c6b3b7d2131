"""One model over ranks of this machine, against the same model by itself, and against what `distributed.cost` predicts.

    python benchmarks/ranks.py --only "4 x 1024" --rounds 3     a network's rows, added to results/ranks.csv
    python benchmarks/ranks.py --exchange                      what an exchange takes: rows of two constants
    python benchmarks/ranks.py --predict                       results/ranks_predicted.csv: no measurement

Ranks are processes under mpiexec, of one thread each, so that as many processors do as much as ranks say; 4 ranks on 2
processors share these, and are there for their bits and the model's sake. Rounds alternate between contenders.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import rows

ROOT = Path(__file__).parents[1]
NETWORKS: dict[str, tuple[tuple[int, ...], int]] = {  # sizes, and the batch
    "the article's, 1-256x7-1, batch 20": ((1, *[256] * 7, 1), 20),
    "784-512-512-10, batch 128": ((784, 512, 512, 10), 128),
    "4 x 128 wide, batch 1024": ((128, *[128] * 4, 1), 1024),
    "4 x 256 wide, batch 1024": ((256, *[256] * 4, 1), 1024),
    "4 x 1024 wide, batch 1024": ((1024, *[1024] * 4, 1), 1024),
    "3 x 2048 wide, batch 1024": ((2048, *[2048] * 3, 1), 1024),
    "2 x 4096 wide, batch 1024": ((1024, 4096, 4096, 1), 1024),
}
ALONE = "not distributed"
STEPS, SECONDS = 4, 1.2  # of an epoch; of a turn's measurement
CONTENDERS = {ALONE: 1, "1 rank": 1, "2 ranks": 2, "4 ranks": 4}
BYTES = (1 << 12, 1 << 24)  # of what each rank exchanges, to tell latency and bandwidth apart


def mpiexec(size: int, *arguments: str) -> dict[str, Any]:
    """Return what rank 0 of so many processes of this file prints, which are of one thread each."""
    beside = Path(sys.executable).with_name("mpiexec")
    threads = dict.fromkeys(("GPUMLP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    env = os.environ | threads | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [str(beside if beside.exists() else "mpiexec"), "-n", str(size), sys.executable, __file__, *arguments],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


# ---- what a rank does ------------------------------------------------------------------------------------------------


def train(name: str, contender: str) -> dict[str, Any]:
    """Return the seconds of a step, the median over epochs; and the weights' checksum, the same on all ranks."""
    import zlib

    import numpy as np
    from mpi4py import MPI

    import gpumlp

    comm, (sizes, batch) = MPI.COMM_WORLD, NETWORKS[name]
    gpumlp.utils.set_random_seed(1)
    model = gpumlp.Sequential([gpumlp.layers.Input((sizes[0],))])
    for size in sizes[1:-1]:
        model.add(gpumlp.layers.Dense(size, "relu"))
    model.add(gpumlp.layers.Dense(sizes[-1]))
    model.compile("adam", "mse", distributed=None if contender == ALONE else comm)
    numbers = np.random.default_rng(0)
    x, y = (numbers.standard_normal((STEPS * batch, width), np.float32) for width in (sizes[0], sizes[-1]))
    taken, end, epochs = [], 0.0, 0
    while not taken or comm.bcast(time.perf_counter() < end or len(taken) < 4):
        comm.Barrier()
        began = time.perf_counter()
        model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
        comm.Barrier()
        taken.append((time.perf_counter() - began) / STEPS)
        end, epochs = end or time.perf_counter() + SECONDS, epochs + 1
        if epochs == 2:
            found = zlib.crc32(b"".join(array.tobytes() for array in model.get_weights()))
    assert comm.allgather(found) == [found] * comm.size
    return {"seconds": statistics.median(taken[1:]), "checksum": found, "program": model.program}


def exchange(size: int) -> dict[str, Any]:
    """Return the seconds of an all_to_all and an all_gather of so many bytes of each rank, the median."""
    import numpy as np
    from mpi4py import MPI

    from gpumlp.distributed.mpi import of

    comm = of(MPI.COMM_WORLD)
    sent = np.ones((comm.size, size // 4 // comm.size), np.float32)
    received, own, whole, taken = np.empty_like(sent), sent[0].copy(), np.empty_like(sent), []
    for _ in range(60):
        began = time.perf_counter()
        comm.all_to_all(sent, received)
        comm.all_gather(own, whole)
        taken.append(time.perf_counter() - began)
    return {"seconds": statistics.median(taken[10:])}


# ---- predictions ---------------------------------------------------------------------------------------------------


def predictions() -> list[dict[str, object]]:
    """Return what clusters are predicted to do: one model over ranks, and many, each on one machine or over 8."""
    from gpumlp.distributed import cost

    # 64 threads do half of what as many times one would; memory by 8 channels of DDR5
    node = cost.Machine("1,000 CPU nodes of 64 cores, 100 Gb/s", 9.6e12, 3e11, 3e12, 128 << 20, 1e-4, 3e-5, 1.1e10)
    # dense kernels at 4096 as benchmarks/results/gpu_kernels.csv has them; some 40 launches for a shard
    gpu = cost.Machine("8 nodes of 8 H100, NVLink", 4.6e13, 2.8e12, 2.8e12, 0, 4e-4, 2e-5, 3e11)
    between = replace(gpu, name="the same, a model over 8 nodes, 400 Gb/s", latency=4e-5, bandwidth=4.5e10)
    works = {
        "4 x 1024, batch 1024": (cost.Work.dense(*[1024] * 5), 1024),
        "8 x 4096, batch 8192": (cost.Work.dense(*[4096] * 9), 8192),
        "4 x 16384, batch 8192": (cost.Work.dense(*[16384] * 5), 8192),
    }
    found: list[dict[str, object]] = []
    for (machine, count), (name, (work, batch)) in itertools.product(
        ((node, 1000), (gpu, 64), (between, 64)), works.items()
    ):
        steps = {1: cost.alone(work, batch, machine).step}
        steps |= {ranks: cost.over(ranks, work, batch, machine).step for ranks in (2, 4, 8)}
        width = cost.least_width(8, 4, 8192, machine)
        found.append(
            {
                "machines": machine.name, "network": name, "alone, ms a step": told(1e3 * steps[1]),
                **{f"{ranks} ranks": told(1e3 * steps[ranks]) for ranks in (2, 4, 8)},
                "steps a second, a model each": told(count / steps[1]),
                "8 ranks each": told(count / 8 / steps[8]),
                "8 ranks pay from width (4 layers, batch 8192)": "never" if width is None else width,
                "commit": rows.commit(),
            }
        )  # fmt: skip
    return found


def told(value: float) -> str:
    """Return three digits of a number, or a whole one."""
    return f"{value:.3g}" if value < 1000 else f"{round(value, 2 - int(math.log10(value))):,.0f}"


def predict_again() -> None:
    """Write the predictions, those beside measurements too."""
    table(rows.RESULTS / "ranks_predicted.csv", predictions())
    path = rows.RESULTS / "ranks.csv"
    there = list(csv.DictReader(path.open(encoding="utf-8")))
    for row in there:
        if row["workload"] in NETWORKS:
            row["predicted"] = str(rows.significant(predicted(row["workload"], row["contender"])))
    table(path, there)


def table(path: Path, found: Sequence[Mapping[str, object]]) -> None:
    """Write a file of rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v != v else v for k, v in row.items()} for row in found)


# ---- rows ------------------------------------------------------------------------------------------------------------


def predicted(name: str, contender: str) -> float:
    """Return the milliseconds that the model of cost says."""
    from gpumlp.distributed import cost

    (sizes, batch), ranks = NETWORKS[name], CONTENDERS[contender]
    work, processors = cost.Work.dense(*sizes), len(os.sched_getaffinity(0))
    machine = shared(cost.MEASURED, max(1.0, ranks / processors))
    step = cost.alone(work, batch, machine) if contender == ALONE else cost.over(ranks, work, batch, machine)
    return 1e3 * step.step


def shared(machine: Any, by: float) -> Any:
    """Return the machine of a rank that shares its processor with others."""
    rates = {name: getattr(machine, name) / by for name in ("operations", "memory", "cached")}
    return replace(machine, **rates, call=machine.call * by)


def measure(name: str, rounds: int) -> list[rows.Row]:
    """Return a network's rows."""
    found: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    checksums: dict[str, int] = {}
    for _ in range(rounds):
        for contender, size in CONTENDERS.items():
            told = mpiexec(size, "--train", name, contender)
            found[contender].append(1e3 * told["seconds"])
            assert (
                checksums.setdefault("alone" if contender == ALONE else "ranks", told["checksum"]) == told["checksum"]
            )
    packages = ("gpumlp", "numpy", "mpi4py", "mpich")
    return [
        replace(
            rows.gpu_row("ranks", name, contender, "ms/step", values, found[ALONE], packages, "ranks of one thread"),
            predicted=rows.significant(predicted(name, contender)),
        )
        for contender, values in found.items()
    ]


def exchanges(rounds: int) -> list[rows.Row]:
    """Return what exchanges take on 2 ranks, by their bytes."""
    found = []
    for size in BYTES:
        values = [1e3 * mpiexec(2, "--exchanged", str(size))["seconds"] for _ in range(rounds)]
        packages = ("gpumlp", "numpy", "mpi4py", "mpich")
        found.append(rows.gpu_row("ranks", f"exchange of {size} bytes", "2 ranks", "ms", values, [], packages, "MPI"))
    return found


def write(found: list[rows.Row]) -> None:
    """Put rows in the places of those of the same workload."""
    path = rows.RESULTS / "ranks.csv"
    workloads = {row.workload for row in found}
    there = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    kept = [row for row in there if row["workload"] not in workloads]
    table(path, [*kept, *(asdict(row) for row in found)])


def main() -> None:
    """Measure, or be a rank that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="of the networks, those that have this in their names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exchange", action="store_true")
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--train", nargs=2)
    parser.add_argument("--exchanged", type=int)
    asked = parser.parse_args()
    if asked.train or asked.exchanged:
        told = train(*asked.train) if asked.train else exchange(asked.exchanged)
        from mpi4py import MPI

        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(told))
        return
    if asked.predict:
        predict_again()
        return
    names = [] if asked.exchange else [name for name in NETWORKS if asked.only in name]
    found = exchanges(asked.rounds) if asked.exchange else []
    for name in names:
        found += measure(name, asked.rounds)
    write(found)
    for row in found:
        told = f"{row.median:9.4g} [{row.low:.4g}, {row.high:.4g}] {row.unit}"
        print(
            f"{row.workload:38} {row.contender:16} {told:40} predicted {getattr(row, 'predicted', 0):.4g}", flush=True
        )


if __name__ == "__main__":
    main()
