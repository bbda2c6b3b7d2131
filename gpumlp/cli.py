"""The commands: ``demo`` trains the article's network and plots it, ``info`` says what there is, ``check`` holds every
kernel against NumPy, ``compile`` compiles the CPU's kernels ahead, ``cache import`` takes over machine code that was
compiled elsewhere."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import gpumlp
from gpumlp import callbacks, devices, layers, models
from gpumlp.errors import DeviceUnavailable
from gpumlp.training.progress import say
from gpumlp.utils import set_random_seed

# (name, steps per epoch, epochs, whether the best epoch's weights are kept): the article's two settings, and one that
# fits all of [0, 20]; its loss falls below 1e-4 but swings up again now and then, so the last epoch is a matter of luck
SETTINGS = (("short", 10, 10, False), ("article", 30, 30, False), ("long", 10, 600, True))


def article_model() -> models.Sequential:
    """Return the article's network: seven Dense(256, relu) and a Dense(1); 395,521 parameters."""
    stack: list[layers.Layer] = [layers.Input(shape=(1,))]
    stack += [layers.Dense(256, activation="relu") for _ in range(7)]
    return models.Sequential([*stack, layers.Dense(1)])


def demo(folder: Path) -> int:
    """Fit sin(x) with each setting, print a table and write the plots into ``folder``."""
    try:
        import matplotlib
    except ImportError:
        print("The demo draws plots and needs matplotlib: pip install 'gpumlp[plot]'.", file=sys.stderr)
        return 1
    matplotlib.use("Agg")
    from matplotlib import pyplot

    from gpumlp.plotting import plot_history, plot_prediction, style

    folder.mkdir(parents=True, exist_ok=True)
    say(f"y = sin(x) on [0, 20], three times; the plots go to {folder.resolve()}{os.sep}")
    x = np.arange(0, 20, 0.1)
    test_x = x + 0.05
    histories, lengths = {}, {}
    warm_up = article_model()
    warm_up.compile(loss="mse", optimizer="adam")
    warm_up.fit(x, np.sin(x), steps_per_epoch=10, verbose=0)  # what is done once in a process is no part of a setting
    say(f"{'setting':<8} {'steps x epochs':>14} {'device':>6} {'parameters':>10} {'seconds':>8} {'MSE(x + 0.05)':>13}")
    for name, steps, epochs, best in SETTINGS:
        set_random_seed(0)
        model = article_model()
        model.compile(loss="mse", optimizer="adam")
        keep = callbacks.EarlyStopping("loss", patience=epochs, restore_best_weights=True) if best else None
        began = time.perf_counter()
        with warnings.catch_warnings():  # 200 samples make 29 batches of 7, not 30: known, and shown in the title
            warnings.simplefilter("ignore", UserWarning)
            history = model.fit(x, np.sin(x), steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=keep)
        seconds = time.perf_counter() - began
        prediction = model.predict(test_x, verbose=0)
        error = float(np.mean((prediction[:, 0] - np.sin(test_x)) ** 2))
        trained = f"{steps} steps x {epochs} epochs"
        say(
            f"{name:<8} {f'{steps} x {epochs}':>14} {model.device.name:>6} {model.count_params():>10,} {seconds:>8.2f} "
            f"{error:>13.2e}"
        )
        histories[trained], lengths[trained] = history, steps
        kept = ", best epoch" if best else ""
        axes = plot_prediction(test_x, np.sin(test_x), prediction, title=f"{trained}{kept}: MSE {error:.1e}")
        axes.set(ylabel="sin(x)", xticks=range(0, 21, 2))
        if (end := followed(test_x, prediction[:, 0])) < test_x[-1]:
            axes.axvspan(end, test_x[-1], color=style.GROUND, zorder=0)
            axes.text(end + 0.15, -1.2, "not followed: train for longer", color=style.SOFT)
        pyplot.savefig(folder / f"sine_{name}.png")
        pyplot.close()
    (axes,) = plot_history(dict(reversed(histories.items())), "loss", title="Mean squared error while training")
    for line in axes.lines:  # epochs differ in length
        line.set_xdata(np.multiply(line.get_xdata(), lengths[line.get_label()]))
    axes.relim()
    axes.autoscale_view()
    axes.set(xlabel="step")
    axes.set_xscale("log")  # the short settings would be a dot beside the long one
    axes.xaxis.set_major_formatter("{x:g}")
    pyplot.savefig(folder / "loss.png")
    pyplot.close()
    written = sorted(folder / f"{name}.png" for name in ("loss", *(f"sine_{name}" for name, *_ in SETTINGS)))
    say(f"plots: {', '.join(map(str, written))}")
    return 0


def followed(x: np.ndarray, prediction: np.ndarray) -> float:
    """Return up to which x a prediction follows sin(x): its mean squared error from the left is a tenth of a sine's."""
    errors = np.cumsum((prediction - np.sin(x)) ** 2) / np.arange(1, len(x) + 1)
    return float(x[np.flatnonzero(errors <= 0.05)[-1:]].max(initial=x[0]))


def blas_threads() -> str:
    """Return how many threads the BLAS uses: asked of the OpenBLAS in NumPy's wheels, otherwise what is set."""
    from gpumlp.backends import blas

    if found := blas.openblas():
        return str(found[0]())
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    return ", ".join(f"{n}={os.environ[n]}" for n in names if n in os.environ) or "its default"


def info() -> int:
    """Print versions, the BLAS and its threads, and what ``device="auto"`` picks and why."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    try:
        auto = devices.resolve(None)
        device = f"{auto.name} ({auto.reason})"
    except (DeviceUnavailable, ValueError) as error:  # from the environment: what info is asked about
        device = f"none: {error}"
    rows = {
        "gpumlp": gpumlp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "blas threads": f"{blas_threads()} ({os.cpu_count()} processors)",
        **cpu_rows(),
        **gpu_rows(),
        "device": device,
    }
    for name, value in rows.items():
        say(f"{name:<13} {value}")
    return 0


def cpu_rows() -> dict[str, str]:
    """Return what `info` says of the CPU: which kernels train, where they come from, and on how many threads."""
    from gpumlp.backends import native, team

    asked = ""
    try:
        asked = devices.family()
        missing = native.problem()
        rule = "auto: NumPy, as there are no compiled kernels" if missing else "auto: compiled; NumPy for float64"
        said = "compiled, from GPUMLP_KERNELS" if devices.on_cpu(asked) == "compiled" else rule
    except (DeviceUnavailable, ValueError) as error:  # a variable that cannot be met
        missing, said = f"none: {error}", "none: a float32 model ends with the next line's error; NumPy for float64"
    if asked == "numpy":
        said = "NumPy, from GPUMLP_KERNELS"
    try:
        threads = f"up to {team.processors()} (GPUMLP_THREADS)"
    except ValueError as error:
        threads = f"none: {error}"
    return {"cpu kernels": said, "compiled": missing or native.state(), "cpu threads": threads}


def compile_kernels() -> int:
    """Compile the CPU's kernels, where none came with gpumlp, and say what there is."""
    from gpumlp.backends import native

    began = time.perf_counter()
    instructions = native.functions().instructions
    seconds = time.perf_counter() - began
    say(f"The CPU's kernels for {instructions.name} are there ({seconds:.1f} s): {native.state()}")
    return 0


def version(package: str) -> str:
    """Return an installed package's version, or that it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def gpu_rows() -> dict[str, str]:
    """Return what `info` says of the GPU: packages, driver, NVRTC, each GPU, and what stands in the way of using it."""
    rows = {
        "cupy": ", ".join(f"{name} {version(name)}" for name in devices.cupy_wheels()) or "not installed",
        "cuda.core": version("cuda-core"),
        "nvrtc": smoke_compile(),
        "numba": f"{version('numba')} (numba-cuda: {version('numba-cuda')})",
    }
    if len(devices.cupy_wheels()) > 1:
        rows["cupy"] += ": these break each other; uninstall all, then install one"
    version_of_driver = devices.driver_version()
    rows["driver"] = "none" if version_of_driver is None else f"for CUDA up to {version_of_driver}"
    problem = devices.gpu_problem()
    if problem is None:
        import cupy

        runtime = cupy.cuda.runtime
        for i in range(runtime.getDeviceCount()):
            p = runtime.getDeviceProperties(i)
            rows[f"gpu {i}"] = (
                f"{p['name'].decode()}, compute capability {p['major']}.{p['minor']}, {p['multiProcessorCount']} "
                f"multiprocessors, {p['totalGlobalMem'] / 2**30:.0f} GiB"
            )
        rows["kernels"] = (
            f"{os.environ.get('GPUMLP_KERNELS') or 'auto'} (GPUMLP_KERNELS: {', '.join(devices.FAMILIES)})"
        )
    else:
        rows["gpu"] = f"none is used: {problem}"
    return rows


def smoke_compile() -> str:
    """Return NVRTC's version, once it has compiled a kernel of ours, or why it could not."""
    from gpumlp.backends import compiler, disk_cache

    try:
        newest = max(compiler.architectures())
        began = time.perf_counter()
        compiler.compile_text(compiler.text_of("take.cu", {"THREADS": 256, "VECTOR": 0}), f"sm_{newest}")
    except (DeviceUnavailable, RuntimeError) as error:
        if not devices.has_driver():
            return "not there; without an NVIDIA GPU nothing needs it"
        return str(error).splitlines()[0]
    seconds = time.perf_counter() - began
    return f"{compiler.version()}, compiles a kernel in {seconds:.2f} s (kept {disk_cache.DiskCache().where()})"


def check(device: str | None, kernels: Sequence[str], small: bool, every: bool = False) -> int:
    """Hold kernels against NumPy in float64 and print a line an operation, or, with ``every``, a line a case.

    Return 1 where one disagrees. Formulas that would have to be compiled are skipped where there is no compiler.
    """
    from gpumlp import check as checks

    chosen = devices.resolve(device)
    there = devices.OF_GPU
    if chosen.name == "cpu":
        there, kernels = devices.OF_CPU, [devices.on_cpu(name) for name in kernels]
    if others := [name for name in kernels if name not in there]:
        raise DeviceUnavailable(
            f"There are no {others[0]} kernels of the device {chosen.name} ({chosen.reason}): --device chooses another."
        )
    say(f"device {chosen.name} ({chosen.reason}); held against NumPy in float64")
    families = list(implementations(chosen, kernels))
    if chosen.name == "cpu":
        say("The GPU's kernels are not checked here; the tests run them.")
    failed = False

    def results() -> Iterator[checks.Result]:
        nonlocal failed
        for name, backend, tile in families:
            dense_only = tile is not None
            if hasattr(backend, "tile"):
                backend.tile = tile
            cases = [*checks.dense_sweep(checks.SMALL_SHAPES if small else (*checks.SHAPES, *checks.LARGE_SHAPES))]
            for case in cases if dense_only else [*cases, *checks.other_cases(small)]:
                result = checks.hold(case, backend, name, own_reference=name == "numpy")
                failed |= not (result.passed or result.skipped)
                yield result

    for line in (checks.table if every else checks.summary)(results()):
        say(line)
    return 1 if failed else 0


def implementations(device: devices.Device, kernels: Sequence[str]) -> Iterator[tuple[str, Any, str | None]]:
    """Yield (name, backend, tile of the dense layers or None) for the kernel families that are to be checked."""
    if device.name == "cpu":
        yield from cpu_implementations(kernels)
        return
    from gpumlp.backends.cuda_backend import TILES

    for family in kernels or devices.OF_GPU:
        try:
            backend = devices.Device(device.name, device.reason, family).backend()
        except DeviceUnavailable as error:
            if kernels:
                raise
            say(f"{family}: left out. {error}")
            continue
        yield family, backend, None
        for tile in TILES if family == "cuda" else ():
            yield f"cuda, {tile}", backend, tile


def cpu_implementations(kernels: Sequence[str]) -> Iterator[tuple[str, Any, str | None]]:
    """Yield NumPy and the compiled kernels, as far as they are asked for and can be had."""
    from gpumlp.backends import native

    if "numpy" in kernels or not kernels:
        yield "numpy", devices.Device("cpu", "").backend(), None
    if "compiled" in kernels or not kernels:
        problem = native.problem()
        try:
            if problem:
                raise DeviceUnavailable(problem)
            from gpumlp.backends.compiled_backend import CompiledBackend

            yield "compiled", CompiledBackend(), None
        except DeviceUnavailable as error:
            if kernels:
                raise
            say(f"compiled: left out. {error}")


def import_cache(file: Path) -> int:
    """Put an archive's entries into this user's cache; ValueError, and nothing is written, unless all are whole."""
    from gpumlp.backends import cache_archive, compiler, disk_cache

    made_for, entries = cache_archive.read(file)
    cache = disk_cache.DiskCache()
    for number, (of_key, entry) in enumerate(entries.items()):
        if not cache.keep(of_key, entry):
            raise OSError(f"{cache.folder} (GPUMLP_CACHE) took {number} of {len(entries)} entries, and then no more")
    size = sum(map(len, entries.values()))
    say(f"imported {len(entries)} entries for {made_for} ({size / 1e6:.1f} MB), kept {cache.where()}")
    try:
        here = compiler.version()
    except Exception:  # no NVRTC, or none that can be loaded: the folder may be another environment's
        return 0
    if not made_for.startswith(f"NVRTC {here}."):
        say(f"this environment has NVRTC {here}, which will not use them: only the version that made them does")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gpumlp")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("info", help="versions, and what device='auto' picks and why")
    commands.add_parser("compile", help="compile the CPU's kernels now, where none came with gpumlp, not at first use")
    show = commands.add_parser("demo", help="fit y = sin(x) with the article's network and plot it")
    show.add_argument("--output", type=Path, default=Path("demo"), help="folder for the plots (default: demo)")
    compare = commands.add_parser(
        "check", help="hold every kernel against NumPy: a line an operation; exit status 1 on a difference"
    )
    compare.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: GPUMLP_DEVICE, then auto)")
    compare.add_argument(
        "--kernels",
        nargs="+",
        choices=devices.FAMILIES[1:],
        default=[],
        help="compiled and numpy of a CPU, cuda and numba of a GPU (default: all that the device has)",
    )
    compare.add_argument("--all", action="store_true", help="a line for each case, not for each operation")
    compare.add_argument("--small", action="store_true", help="small shapes only, as under a slow memory checker")
    cache = commands.add_parser("cache", help="import FILE: take over machine code that was compiled elsewhere")
    cache.add_argument("action", choices=["import"])
    cache.add_argument("file", type=Path, help="an archive from `make gpu-cache`, by somebody whom you trust")
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    try:
        if chosen.command == "cache":
            return import_cache(chosen.file)
        if chosen.command == "info":
            return info()
        if chosen.command == "compile":
            return compile_kernels()
        if chosen.command == "check":
            return check(chosen.device, chosen.kernels, chosen.small, chosen.all)
        return demo(chosen.output)
    except (DeviceUnavailable, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # no such place, no permission, full disk
        where = (
            f"The plots cannot be written to {chosen.output}" if chosen.command == "demo" else "No more can be written"
        )
        hint = " Choose another --output." if chosen.command == "demo" else ""
        print(f"{where}: {error}.{hint}", file=sys.stderr)
        return 1
