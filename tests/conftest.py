"""Fixtures: a GPU to run on: host execution here, NVRTC's PTX under the marker ``ptx``, a real one under ``gpu``."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from compiled import instructions as instructions  # fixtures
from compiled import kernels as kernels
from executors import mortal as mortal
from executors import processes as processes
from executors import threads as threads
from host.runtime import HostRuntime

from gpumlp import devices

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# NVIDIA's compilers and numba-cuda, which there are none of for macOS, are what these are about
if sys.platform == "darwin":
    collect_ignore = [
        f"test_{name}.py"
        for name in (
            "compiler", "cuda_runtime", "gpu_benchmarks", "gpu_trainings", "machine_code", "numba_kernels", "ptx",
        )
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def ctrl_c_as_in_a_terminal():
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started with it ignored, as in the background.

    Child processes inherit that it is ignored, and not that it is handled.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """What names no device runs on the CPU, also on a machine with a GPU."""
    monkeypatch.setenv("GPUMLP_DEVICE", "cpu")


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory):
    """A wheel of today's sources."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(BENCHMARKS.parent)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def pytest_addoption(parser):
    parser.addoption("--nvrtc", help="the version whose PTX the tests marked ptx execute, as in benchmarks/nvrtcs.py")


def pytest_configure(config):
    """Refuse a version of NVRTC that is not here before anything runs."""
    if (version := config.getoption("nvrtc")) is not None:
        import ptx.runtime

        try:
            ptx.runtime.nvrtcs.get(version)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_terminal_summary(terminalreporter, config):
    """Say what was executed by PTX: a run that selects too little passes too."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", ()) if "[ptx" in report.nodeid]
    if passed:
        from ptx.runtime import PtxRuntime

        fits, version = PtxRuntime.launched["fit"], config.getoption("nvrtc") or "13.0.88"
        files = Counter(node.partition("::")[0] for node in passed)
        terminalreporter.write_line(
            f"By the PTX of NVRTC {version}: {fits} launches of whole fits, "
            f"{PtxRuntime.launched.total() - fits} of other kernels; passed: "
            + ", ".join(f"{count} of {file}" for file, count in files.items())
        )


def pytest_collection_modifyitems(items):
    """Leave out by PTX what is for a real GPU alone, and let a GPU's libraries announce their own changes.

    Such a warning is no failure of ours.
    """
    items[:] = [item for item in items if not (item.get_closest_marker("gpu") and item.get_closest_marker("ptx"))]
    for item in items:
        if item.get_closest_marker("gpu"):
            for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"default::{kind}"))


@pytest.fixture(params=["numpy", "numba", "cuda"])
def family(request, monkeypatch, as_gpu):
    """Every kernel family in turn: NumPy, the compiled kernels, and the GPU's on the host; returns its name."""
    if request.param == "cuda":
        as_gpu(HostRuntime())
        monkeypatch.setenv("GPUMLP_DEVICE", "cuda")
        monkeypatch.delenv("GPUMLP_KERNELS", raising=False)
    else:
        monkeypatch.setenv("GPUMLP_KERNELS", request.param)
    return request.param


@pytest.fixture(
    params=["host", pytest.param("ptx", marks=pytest.mark.ptx), pytest.param("cuda", marks=pytest.mark.gpu)]
)
def runtime(request):
    """A runtime for the package's CUDA C++ kernels."""
    if request.param == "host":
        return HostRuntime()
    if request.param == "ptx":
        from ptx.runtime import PtxRuntime  # which needs cuda.core

        return PtxRuntime(version=request.config.getoption("nvrtc"))
    if problem := devices.gpu_problem():
        pytest.skip(problem)
    return devices.open_runtime(0)


@pytest.fixture
def as_gpu(monkeypatch):
    """A function: from now on device="cuda" finds this runtime."""

    def place(runtime):
        monkeypatch.setattr(devices, "open_runtime", lambda index: runtime)
        monkeypatch.setattr(devices, "gpu_problem", lambda index=0: None)
        return runtime

    return place


@pytest.fixture
def gpu(runtime, as_gpu):
    """The runtime that device="cuda" finds."""
    return as_gpu(runtime)


@pytest.fixture
def scripts(monkeypatch):
    """The folders of the GPU benchmarks' scripts on the path, and the environment as it was."""
    for name in ("CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "XLA_PYTHON_CLIENT_PREALLOCATE", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "gpu"), str(BENCHMARKS), *sys.path])
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]  # run, report: names that others may want
