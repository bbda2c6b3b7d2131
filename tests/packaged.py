"""Hold an installed gpumlp to what its users were promised; `packages.py` runs it in each of its environments.

    GPUMLP_CACHE=FOLDER/cache python -P -E -W error packaged.py --kernels compiled|numpy [--extra EXTRA]...

It needs gpumlp and what its extras bring, nothing of the checkout, and writes into FOLDER. ``compiled``: kernels came
with the package, and a fit compiles nothing; ``numpy``: none came, and NumPy trains.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np

import gpumlp
from gpumlp import callbacks, layers, models, ops, plotting, utils

X = np.linspace(-1, 1, 200, dtype=np.float32).reshape(-1, 1)
Y = np.sin(3 * X)
FOLDER = Path(os.environ["GPUMLP_CACHE"]).parent


def command(*words: str) -> str:
    """Return what gpumlp's command prints; it must succeed, and warn of nothing."""
    call = [sys.executable, "-P", "-E", "-W", "error", "-m", "gpumlp", *words]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    assert not done.stderr, done.stderr
    return done.stdout


def fitted(activation="relu", epochs: int = 30, **more) -> models.Sequential:
    """Return a model that has learnt something."""
    gpumlp.utils.set_random_seed(0)
    stack = [layers.Input((1,)), layers.Dense(32, activation), layers.Dense(1)]
    model = models.Sequential(stack)
    model.compile("adam", "mse")
    losses = model.fit(X, Y, epochs=epochs, verbose=0, **more).history["loss"]
    assert losses[-1] < losses[0], losses
    return model


def same(model: models.Sequential, name: str) -> None:
    """Save a model and load it: it must predict to the bit, and go on training."""
    path = FOLDER / name
    model.save(path)
    loaded = models.load_model(path)
    assert loaded.predict(X, verbose=0).tobytes() == model.predict(X, verbose=0).tobytes(), name
    loaded.fit(X, Y, verbose=0)


# ---- what everybody was promised -------------------------------------------------------------------------------------


def package() -> None:
    """The installed one was imported; it is whole, and says its version, its licence and that it has types."""
    assert Path(gpumlp.__file__).is_relative_to(sys.prefix), gpumlp.__file__
    assert gpumlp.__version__ == metadata.version("gpumlp")
    files = {str(file) for file in metadata.files("gpumlp") or ()}
    assert any(re.fullmatch(r"gpumlp-.*\.dist-info/licenses/LICENSE", file) for file in files), "LICENSE"
    assert "gpumlp/py.typed" in files
    assert not [file for file in files if file.startswith(("tests/", "kernels/", "benchmarks/"))]


def readme() -> None:
    """The first example of README, which is the package's description, runs as it stands there."""
    text = metadata.metadata("gpumlp").get_payload()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code, "there is no example in the description"
    call = [sys.executable, "-I", "-W", "error", "-c", code[1]]
    done = subprocess.run(call, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def files() -> None:
    """Models are saved and loaded with what every installation has."""
    model = fitted()
    same(model, "m.gpumlp")
    weights = FOLDER / "m.safetensors"
    model.save_weights(weights)
    other = fitted(epochs=2)
    other.load_weights(weights)
    assert other.predict(X, verbose=0).tobytes() == model.predict(X, verbose=0).tobytes()


def kernels(expected: str) -> None:
    """Kernels that came train; then no compiler was loaded, and nothing was compiled. Where none came, NumPy does."""
    program = fitted().program
    assert program.startswith("compiled") == (expected == "compiled"), program
    compilers = {name.partition(".")[0] for name in sys.modules} & {"numba", "llvmlite", "cupy"}
    assert not compilers, compilers
    assert not Path(os.environ["GPUMLP_CACHE"]).exists()


def commands(expected: str) -> None:
    """Info says which kernels there are; check, which compiles what did not come where it can, finds no difference."""
    told = dict(re.findall(r"(?m)^(\w[\w. ]*?)  +(.*)$", command("info")))
    assert told["gpumlp"] == metadata.version("gpumlp")
    assert told["compiled"].startswith("came with gpumlp") == (expected == "compiled"), told["compiled"]
    assert ", 0 failed" in command("check", "--small")


# ---- and what each extra adds ----------------------------------------------------------------------------------------


def keras() -> None:
    """Keras's kinds of files."""
    model = fitted()
    same(model, "m.keras")
    same(model, "m.h5")


def plot() -> None:
    """A history as a picture."""
    axes = np.ravel(plotting.plot_history(fitted().history))
    axes[0].figure.savefig(FOLDER / "loss.png")
    assert (FOLDER / "loss.png").read_bytes().startswith(b"\x89PNG")


def tensorboard() -> None:
    """Files that TensorBoard itself reads."""
    fitted(callbacks=[callbacks.TensorBoard(str(FOLDER / "logs"))], epochs=3)
    code = (
        "import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E; "
        "events = E(sys.argv[1]).Reload(); print(events.Tags())"
    )
    call = [sys.executable, "-I", "-c", code, str(FOLDER / "logs" / "train")]
    assert "epoch_loss" in subprocess.run(call, capture_output=True, text=True, check=True).stdout


def data() -> None:
    """Arrays in chunks and a Parquet file, read in blocks."""
    import pyarrow
    import zarr
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": X[:, 0], "y": Y[:, 0]}), FOLDER / "xy.parquet", row_group_size=50)
    held = utils.Blocks(zarr.array(X, chunks=(50, 1)), Y, block_size=50)
    for blocks in (held, utils.Blocks.from_parquet(FOLDER / "xy.parquet", ["x"], "y")):
        assert np.allclose(fitted().evaluate(blocks, verbose=0), fitted().evaluate(X, Y, verbose=0), rtol=1e-4)


def build() -> models.Sequential:
    """Return a member of an ensemble."""
    made = models.Sequential([layers.Input((1,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    made.compile("adam", "mse")
    return made


def cluster() -> None:
    """Members are trained by loky's processes, and by Dask's, to the bits of training here; mpi4py is there."""
    from distributed import Client
    from loky import get_reusable_executor

    assert metadata.version("mpi4py")  # whose import needs MPI
    here = gpumlp.Ensemble(build, members=2)
    here.fit(X, Y, epochs=3, verbose=0)
    client = Client(n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
    with client, get_reusable_executor(1) as processes, client.get_executor() as dask:
        for executor in (processes, dask):
            there = gpumlp.Ensemble(build, members=2)
            there.fit(X, Y, epochs=3, verbose=0, executor=executor)
            assert np.array_equal(here.predict_members(X), there.predict_members(X))


def onnx() -> None:
    """A model as ONNX's own checker takes it."""
    import onnx.checker

    from gpumlp.interop import to_onnx

    to_onnx(fitted(), FOLDER / "m.onnx")
    onnx.checker.check_model(str(FOLDER / "m.onnx"), full_check=True)


def sklearn() -> None:
    """An estimator within a pipeline."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from gpumlp.sklearn import MLPRegressor

    pipeline = make_pipeline(StandardScaler(), MLPRegressor(max_iter=5000, random_state=0)).fit(X, Y[:, 0])
    assert pipeline.score(X, Y[:, 0]) > 0.5


def jit() -> None:
    """A formula of a user's own is compiled, and so are the kernels where none came."""
    assert fitted(lambda x: x + ops.square(ops.sin(x))).program.startswith("compiled")


def cuda() -> None:
    """What a GPU needs can be imported without one, NVRTC compiles, and asking for the GPU says what is missing."""
    import cupy

    with warnings.catch_warnings():  # numba-cuda 0.30 beside NumPy 2.5, as pyproject.toml says
        warnings.filterwarnings("ignore", "The 'generic' unit for NumPy timedelta", DeprecationWarning)
        import numba.cuda

    from gpumlp.errors import DeviceUnavailable

    told = command("info")
    assert re.search(r"nvrtc +\d+\.\d+, compiles a kernel", told), told
    assert cupy.__version__ and numba.cuda
    if re.search(r"driver +none", told):
        model = models.Sequential([layers.Input((1,)), layers.Dense(1)])
        try:
            model.compile("adam", "mse", device="cuda")
            model.fit(X, Y, verbose=0)
        except DeviceUnavailable as error:
            assert "driver" in str(error), error
        else:
            raise AssertionError('there is no driver, and device="cuda" was taken')


EXTRAS = {
    "keras": keras, "plot": plot, "tensorboard": tensorboard, "onnx": onnx, "sklearn": sklearn, "jit": jit,
    "data": data, "cluster": cluster, "cuda12": cuda, "cuda13": cuda,
}  # fmt: skip


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kernels", choices=("compiled", "numpy"), required=True, help="what is to train")
    parser.add_argument("--extra", action="append", default=[], choices=EXTRAS, help="what was asked for")
    chosen = parser.parse_args()
    package()
    readme()
    if chosen.kernels == "compiled" or "jit" not in chosen.extra:
        kernels(chosen.kernels)
    files()
    commands(chosen.kernels)
    for extra in chosen.extra:
        EXTRAS[extra]()


if __name__ == "__main__":
    main()
