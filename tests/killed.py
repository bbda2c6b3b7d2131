"""Training that is killed again and again, and ends with the bits of training that was not: `tests/killed.py 200`

A process trains with everything that has a state: shuffled batches that go on over epochs, dropout, a schedule or a
plateau's rate, early stopping with the best weights, averages. It is killed at a random moment, in a step, while a
backup is written, in a validation, and started again, until it comes to its end. The argument is the number of kills.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("plateau", "schedule", "generator", "batches", "dataset")


def train(kind: str, folder: str, out: str) -> None:
    """Train, and write a digest of all that came of it to ``out``; say so when the training begins."""
    import numpy as np

    from gpumlp import callbacks, layers, models, optimizers, utils

    utils.set_random_seed(3)
    x = np.random.default_rng(0).normal(size=(150, 4)).astype("f4")
    y = np.sin(x[:, :1] * 2)
    rate = optimizers.schedules.CosineDecay(0.01, 300) if kind == "schedule" else 0.01
    model = models.Sequential([
        layers.Input((4,)), layers.Dense(24, "relu"), layers.Dropout(0.2), layers.BatchNormalization(), layers.Dense(1),
    ])  # fmt: skip
    model.compile(optimizers.Adam(rate, use_ema=kind == "batches"), "mse", metrics=["mae"])
    hooks = [
        callbacks.EarlyStopping("val_loss", patience=8, restore_best_weights=True),
        callbacks.BackupAndRestore(folder, save_freq=4 if kind == "batches" else "epoch", delete_checkpoint=False),
        callbacks.ModelCheckpoint(folder + "/best.gpumlp", save_best_only=True),
    ]
    if kind != "schedule":
        hooks.append(callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=3))

    def batches():
        rng = np.random.default_rng(5)
        while True:
            rows = rng.integers(0, 100, 16)
            yield x[rows], y[rows] + 0.01 * np.random.normal(size=(16, 1))  # by the global numbers, too

    class Rows(utils.PyDataset):
        def __len__(self):
            return 9

        def __getitem__(self, i):
            return x[i * 11 : i * 11 + 11], y[i * 11 : i * 11 + 11]

    how = {
        "generator": {"x": batches(), "steps_per_epoch": 6}, "dataset": {"x": Rows(), "steps_per_epoch": 3},
    }.get(kind, {"x": x[:100], "y": y[:100], "steps_per_epoch": 4, "batch_size": 9})  # fmt: skip
    print("begun", flush=True)
    history = model.fit(**how, epochs=25, validation_data=(x[100:], y[100:]), callbacks=hooks, verbose=0)
    found = hashlib.sha256(repr((history.epoch, history.history)).encode())
    for array in [*model.get_weights(), np.array([model.optimizer.iterations, float(model.optimizer.learning_rate)])]:
        found.update(np.ascontiguousarray(array).tobytes())
    found.update(np.random.normal(size=3).tobytes())
    Path(out).write_text(found.hexdigest())


def run(kind: str, folder: Path, most: float | None, rng: random.Random) -> tuple[str | None, bool, float]:
    """Start a process, and kill it within ``most`` seconds of the training's beginning.

    Return its digest, whether it died, and how long it trained.
    """
    out = folder / "digest"
    environment = os.environ | {"GPUMLP_KERNELS": "numpy", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    process = subprocess.Popen(
        [sys.executable, __file__, "--train", kind, str(folder / "backup"), str(out)], env=environment,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    began = time.perf_counter()
    if most is not None:
        time.sleep(rng.uniform(0, most))
        os.kill(process.pid, signal.SIGKILL)
    died = process.wait() == -signal.SIGKILL
    process.stdout.close()
    if not died and process.returncode:
        raise AssertionError(f"{kind}: a process that was not killed ended with {process.returncode}")
    return (out.read_text() if out.exists() else None), died, time.perf_counter() - began


def trial(kind: str, kills: int, rng: random.Random, folder: Path) -> int:
    """Train without and with ``kills`` kills; return how many there were. AssertionError where the bits differ."""
    alone, _, took = run(kind, folder / "alone", None, rng)
    done = 0
    while True:
        found, died, _ = run(kind, folder / "killed", took / 2 if done < kills else None, rng)
        done += died
        if found is not None:
            break
    assert found == alone, f"{kind}: after {done} kills other bits came out"
    return done


def main(kills: int) -> None:
    """Kill ``kills`` processes, of all kinds in turn."""
    rng, done, rounds = random.Random(0), 0, 0
    while done < kills:
        folder = Path(tempfile.mkdtemp())
        for name in ("alone", "killed"):
            (folder / name).mkdir()
        kind = KINDS[rounds % len(KINDS)]
        killed = trial(kind, min(10, kills - done), rng, folder)
        shutil.rmtree(folder)
        done, rounds = done + killed, rounds + 1
        print(f"{done} of {kills} kills: {kind} came to the same bits after {killed}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
