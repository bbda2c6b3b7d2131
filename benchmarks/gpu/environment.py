"""What this machine has: whether its GPU can be used and if not why, and what it is, in words."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in (ROOT, ROOT / "benchmarks"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

# float32 means float32: cuBLAS is kept from rounding operands to TF32, for gpumlp's peers as for ceilings. JAX, which
# would take nine tenths of the memory, takes what it needs.
EXACT = {"CUPY_TF32": "0", "NVIDIA_TF32_OVERRIDE": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
os.environ.update(EXACT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # for what we start

PACKAGES = (
    "numpy", "cupy", "cupy-cuda13x", "cupy-cuda12x", "cuda-core", "cuda-bindings", "numba", "numba-cuda", "torch",
    "triton", "trainkernel", "jax", "keras", "pytest",
)  # fmt: skip


def problem() -> str | None:
    """Return why no GPU can be used here; None where one can."""
    from gpumlp import devices

    return devices.gpu_problem(0)


def gpu() -> str:
    """Return the GPU's name and its driver's version."""
    answer = asked("name", "driver_version")
    if answer:
        name, version = answer.split(", ")
        return f"{name}; driver {version}"
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return f"{name}; driver for CUDA {cupy.cuda.runtime.driverGetVersion()}"


def asked(*what: str) -> str:
    """Return what nvidia-smi says of the first GPU; empty where it says nothing."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(what)}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def description() -> str:
    """Return the GPU, its clocks and limits, and the versions that matter, a line each."""
    import cupy
    import rows

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    lines = {
        "GPU": gpu(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory, bytes": properties["totalGlobalMem"],
        "L2, bytes": properties["l2CacheSize"],
        "clocks, power": asked("clocks.max.sm", "clocks.max.mem", "power.limit", "persistence_mode") or "unknown",
        "CUDA, driver and runtime": f"{cupy.cuda.runtime.driverGetVersion()}, {cupy.cuda.runtime.runtimeGetVersion()}",
        "host": rows.machine(),
        "Python": sys.version.split()[0],
        "commit": rows.commit(),
        "time": rows.now(),
        "float32": "; ".join(f"{k}={v}" for k, v in EXACT.items()),
    }
    return "\n".join(f"{name}: {value}" for name, value in (lines | versions()).items()) + "\n"


def versions() -> dict[str, str]:
    """Return the versions of the packages that are here."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
