"""Training on a file of 2 GiB that is read block by block, beside arrays in memory: steps a second, and the memory.

``python benchmarks/larger.py`` writes ``results/larger.csv``; ``--only "784 zarr"`` measures those of whose network and
kind all words are part, and their rows take the place of the earlier ones. Files are made one at a time, read once, so
that the page cache has them, and removed; in a ``--folder`` that is given they stay, and are not made again: with
``--parts file`` nothing else is done. It needs zarr, h5py and pyarrow.

Speed: the file's process and that of arrays in memory take turns of SECONDS, in the middle of one long fit each.
Memory: a process under RLIMIT_DATA, whose RssAnon is sampled while it goes through the whole file once, with the
network; where that would take half an hour: through a part of it with the network, and the whole with one Dense layer.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rows
from workloads import ARTICLE, CLASSIFIER, Workload

GIB, MIB = 1 << 30, 1 << 20
FILE = 2 * GIB
LIMIT = 700 * MIB  # of RLIMIT_DATA: half of it is taken by Python's and the libraries' own, most of it never touched
ROUNDS, SECONDS = 31, 0.5  # of each, in turn
PIECE = 64 * MIB  # that is made at a time
PART = 12.0  # seconds of the network, where the whole file would take half an hour
OUT = rows.RESULTS / "larger.csv"


@dataclass(frozen=True)
class Kind:
    """How a file holds x and y: ``write`` makes it of pieces, ``read`` returns what ``fit`` is given."""

    name: str
    dtype: str
    write: Callable[[Path, Workload, int, str], None]
    read: Callable[[Path, Workload, int, str], tuple[Any, ...]]

    def samples(self, workload: Workload) -> int:
        """Return how many samples make FILE bytes."""
        return FILE // (np.dtype(self.dtype).itemsize * workload.sizes[0] + 4)


def pieces(workload: Workload, n: int, dtype: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield x and y[., 1] of n samples in all, always the same ones: of a type without fractions 0 to 255."""
    width = workload.sizes[0]
    for k, start in enumerate(range(0, n, size := PIECE // (4 * width))):
        rng, count = np.random.default_rng([0, k]), min(size, n - start)
        if dtype == "uint8":
            x = rng.integers(0, 256, (count, width), np.uint8)
        else:
            x = rng.standard_normal((count, width), np.float32).astype(dtype)
        y = rng.integers(0, workload.sizes[-1], (count, 1)) if workload.classes else np.sin(x[:, :1].astype("f4"))
        yield x, y.astype(np.float32)


def write_map(path: Path, workload: Workload, n: int, dtype: str) -> None:
    with path.open("wb") as file:
        for x, _ in pieces(workload, n, dtype):
            file.write(x.data)
        for _, y in pieces(workload, n, dtype):
            file.write(y.data)


def read_map(path: Path, workload: Workload, n: int, dtype: str) -> tuple[Any, ...]:
    x = np.memmap(path, dtype, "r", 0, (n, workload.sizes[0]))
    return x, np.memmap(path, np.float32, "r", x.nbytes, (n, 1))


def chunk(workload: Workload) -> int:
    """Return how many rows a chunk of a file has: some 1.5 MiB, or a quarter of a million."""
    return min(1 << 18, 3 * MIB // 2 // (4 * workload.sizes[0]))


def _write_arrays(x: Any, y: Any, workload: Workload, n: int, dtype: str) -> None:
    start = 0
    for piece, targets in pieces(workload, n, dtype):
        x[start : start + len(piece)], y[start : start + len(piece)] = piece, targets
        start += len(piece)


def write_zarr(path: Path, workload: Workload, n: int, dtype: str) -> None:
    import zarr

    group = zarr.create_group(path)

    def make(name: str, width: int, kind: str) -> Any:
        rows = chunk(workload)
        return group.create_array(name, shape=(n, width), chunks=(rows, width), dtype=kind, compressors=None)

    _write_arrays(make("x", workload.sizes[0], dtype), make("y", 1, "float32"), workload, n, dtype)


def read_zarr(path: Path, workload: Workload, n: int, dtype: str) -> tuple[Any, ...]:
    import zarr

    group = zarr.open_group(path, mode="r")
    return group["x"], group["y"]


def write_hdf5(path: Path, workload: Workload, n: int, dtype: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:

        def make(name: str, width: int, kind: str) -> Any:
            return file.create_dataset(name, (n, width), kind, chunks=(chunk(workload), width))

        _write_arrays(make("x", workload.sizes[0], dtype), make("y", 1, "float32"), workload, n, dtype)


def read_hdf5(path: Path, workload: Workload, n: int, dtype: str) -> tuple[Any, ...]:
    import h5py

    file = h5py.File(path)
    return file["x"], file["y"]


def write_parquet(path: Path, workload: Workload, n: int, dtype: str) -> None:
    """Write x as one column: of lists, where it is wide."""
    import pyarrow as pa
    from pyarrow import parquet

    width = workload.sizes[0]
    kind = pa.float32() if width == 1 else pa.list_(pa.field("item", pa.float32(), nullable=False), width)
    schema = pa.schema([pa.field("x", kind, nullable=False), pa.field("y", pa.float32(), nullable=False)])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for x, y in pieces(workload, n, dtype):
            flat = pa.array(x.ravel())
            lists = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, type=kind)
            writer.write_table(pa.table([lists, pa.array(y[:, 0])], schema), row_group_size=chunk(workload))


def read_parquet(path: Path, workload: Workload, n: int, dtype: str) -> tuple[Any, ...]:
    from gpumlp import utils

    return (utils.Blocks.from_parquet(path, ["x"], "y"),)


KINDS = [
    Kind("memmap, float32", "float32", write_map, read_map),
    Kind("memmap, uint8", "uint8", write_map, read_map),
    Kind("memmap, float64", "float64", write_map, read_map),
    Kind("zarr, float32, not compressed", "float32", write_zarr, read_zarr),
    Kind("HDF5, float32, not compressed", "float32", write_hdf5, read_hdf5),
    Kind("Parquet, float32, not compressed", "float32", write_parquet, read_parquet),
]
RESIDENT = "arrays in memory, float32"


def model_of(workload: Workload, dtype: str, sizes: tuple[int, ...] | None = None) -> Any:
    """Return the network, compiled; of bytes it takes the 256th part."""
    import gpumlp
    from gpumlp import layers, models

    gpumlp.utils.set_random_seed(0)
    first, *hidden, last = sizes or workload.sizes
    model = models.Sequential([layers.Input((first,))])
    if dtype == "uint8":
        model.add(layers.Rescaling(1 / 256))
    for units in hidden:
        model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(last))
    loss = gpumlp.losses.SparseCategoricalCrossentropy(from_logits=True) if workload.classes else "mse"
    model.compile(loss=loss, optimizer=gpumlp.optimizers.Adam(1e-4))  # at which relus stay alive: zeros are quick
    return model


def resident(given: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return what is read as arrays of float32, as many samples as take FILE bytes."""
    from gpumlp import utils

    blocks = given[0] if len(given) == 1 else utils.Blocks(*given)
    width = np.shape(blocks.read(0)[0])[1]
    n = min(len(blocks), FILE // (4 * width + 4))
    x, y, start = np.empty((n, width), np.float32), np.empty((n, 1), np.float32), 0
    for block in blocks:
        stop = min(start + len(block[0]), n)
        for array, found in zip((x, y), block, strict=True):
            array[start:stop] = np.reshape(found, (len(found), -1))[: stop - start]
        start = stop
    return x, y


# ---- in a process of its own -----------------------------------------------------------------------------------------


def _given(task: dict[str, Any]) -> tuple[Workload, str, tuple[Any, ...]]:
    workload = next(w for w in (ARTICLE, CLASSIFIER) if w.name == task["workload"])
    kind = next(k for k in KINDS if k.name == task["kind"])
    found = kind.read(Path(task["path"]), workload, kind.samples(workload), kind.dtype)
    return workload, kind.dtype, resident(found) if task["resident"] else found


def take_turns(task: dict[str, Any]) -> None:
    """Train in one long fit: for each line that comes some steps, of which it is told how many a second."""
    from gpumlp import callbacks

    workload, dtype, given = _given(task)
    model, began, before = model_of(workload, dtype), 0.0, 0
    warnings.simplefilter("ignore")  # where the data end within a round, it is shorter

    def begin(epoch: int, logs: object = None) -> None:
        nonlocal began, before
        print(json.dumps({"ready": epoch}), flush=True)
        sys.stdin.readline()
        began, before = time.perf_counter(), int(model.optimizer.iterations)

    def end(epoch: int, logs: object = None) -> None:
        rate = (int(model.optimizer.iterations) - before) / (time.perf_counter() - began)
        print(json.dumps({"rate": rate}), flush=True)

    turns = callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)
    model.fit(
        *given, batch_size=workload.batch, steps_per_epoch=task["steps"], epochs=ROUNDS + 1, verbose=0,
        callbacks=[turns],
    )  # fmt: skip


def go_through(task: dict[str, Any]) -> None:
    """Train on the file under the limit: see the module."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    workload, dtype, given = _given(task)
    samples = given[0].shape[0] if len(given) == 2 else len(given[0])
    warnings.simplefilter("ignore")  # random numbers teach nothing
    began, steps = time.perf_counter(), -(-samples // workload.batch)
    if samples < 100 * MIB:
        model_of(workload, dtype).fit(*given, batch_size=workload.batch, verbose=0)
        said = f"{steps} steps"
    else:
        steps = task["steps"] * int(PART / SECONDS)
        model_of(workload, dtype).fit(*given, batch_size=workload.batch, steps_per_epoch=steps, verbose=0)
        model_of(workload, dtype, (workload.sizes[0], 1)).fit(*given, batch_size=8192, verbose=0)
        said = f"{steps} steps, and once through the file with one Dense layer in batches of 8192"
    print(json.dumps({"said": f"{said}, {time.perf_counter() - began:.0f} s"}), flush=True)


class Process:
    """A process that does one of the two, and says so line by line."""

    def __init__(self, what: str, task: dict[str, Any]) -> None:
        command = [sys.executable, __file__, what, json.dumps(task)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError("its process has ended; its own words stand above")
        return json.loads(line)

    def turn(self) -> float:
        """Return the steps a second of a turn."""
        assert self.process.stdin is not None
        self.answer()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()["rate"]

    def anonymous(self) -> float:
        """Return its RssAnon in MiB; 0 where it has ended."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0.0
        return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), default=0.0)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def speeds(task: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return steps a second of both, a pair a round, after one to warm up."""
    both = [Process("turns", task | {"resident": where}) for where in (True, False)]
    try:
        rates = [[each.turn() for each in both] for _ in range(ROUNDS + 1)][1:]
    finally:
        for each in both:
            each.close()
    held, read = zip(*rates, strict=True)
    return list(held), list(read)


def memory(task: dict[str, Any]) -> tuple[float, str]:
    """Return the largest RssAnon that was seen, in MiB, and what was done."""
    process, most = Process("memory", task | {"resident": False}), 0.0
    while process.process.poll() is None:
        most = max(most, process.anonymous())
        time.sleep(0.005)
    said = process.answer()["said"]
    return most, said


def measure(workload: Workload, kind: Kind, folder: Path, parts: str) -> list[rows.Row]:
    """Return the rows of one network on one kind of file."""
    n = kind.samples(workload)
    path = folder / f"{workload.name} {kind.name}".replace(", ", " ").replace(" ", "-")
    steps = int({ARTICLE.name: 6000, CLASSIFIER.name: 900}[workload.name] * SECONDS)
    task = {"workload": workload.name, "kind": kind.name, "path": str(path), "steps": steps}
    if not path.exists():
        kind.write(path, workload, n, kind.dtype)
    size = warm([path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()])
    about, where = f"{size / GIB:.2f} GiB, {n} samples, page cache warm", f"{workload.name}: {kind.name}"
    found: list[rows.Row] = []
    if "speed" in parts:
        held, read = speeds(task)
        for name, values in ((RESIDENT, held), (kind.name, read)):
            found.append(_row(f"{where}: speed", name, "steps/s", values, held, f"{about}; {steps} steps a round"))
    if "memory" in parts:
        most, said = memory(task)
        note = f"{about}; peak of RssAnon; RLIMIT_DATA {LIMIT // MIB} MiB; {said}"
        found.append(_row(f"{where}: memory", kind.name, "MiB", [most], [], note))
    return found


def _row(workload: str, name: str, unit: str, values: list[float], ours: list[float], note: str) -> rows.Row:
    packages = "numpy", "zarr", "h5py", "pyarrow"
    return replace(
        rows.gpu_row("larger", workload, name, unit, values, ours, packages, ""), note=note, machine=rows.machine()
    )


def warm(files: list[Path]) -> int:
    """Read files, and return their bytes."""
    total = 0
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while count := len(opened.read(PIECE)):
                total += count
    return total


def main() -> None:
    if sys.argv[1:2] in (["turns"], ["memory"]):
        return {"turns": take_turns, "memory": go_through}[sys.argv[1]](json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="words that are part of the network's and the kind's names")
    parser.add_argument("--parts", default="file speed memory", help="which of these")
    parser.add_argument("--folder", type=Path, help="where files are made; a temporary one when left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for workload in (ARTICLE, CLASSIFIER):
            for kind in KINDS:
                if all(word in f"{workload.name} {kind.name}" for word in arguments.only.split()):
                    new = measure(workload, kind, arguments.folder or Path(folder), arguments.parts)
                    for row in new:
                        print(row.workload, row.contender, row.median, row.unit, row.ratio, row.note, flush=True)
                    if new:
                        rows.write(OUT, rows.replaced(rows.read(OUT) if OUT.exists() else [], new))


if __name__ == "__main__":
    main()
