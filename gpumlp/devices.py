"""Devices: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; then the environment's GPUMLP_DEVICE; then auto.

Whether a GPU can be used is asked in order of cost: is there a driver at all (a few microseconds on a machine without),
then the packages, then the driver's age and the GPU itself. Kernel families are chosen by GPUMLP_KERNELS.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Runtime
from gpumlp.errors import INSTALL, DeviceUnavailable, warn_once

# What GPUMLP_KERNELS may say. auto is the package's CUDA C++ on a GPU; on the CPU it is compiled kernels where they can
# be had, and else NumPy.
OF_CPU, OF_GPU = ("compiled", "numpy"), ("cuda", "numba")
FAMILIES = ("auto", *OF_CPU, *OF_GPU)
_DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")


@dataclass(frozen=True)
class Device:
    """A device, the reason why it was picked, and the kernels that run there ("auto": as each job is short or long)."""

    name: str
    reason: str
    kernels: str = "auto"

    def __repr__(self) -> str:
        return f"<Device {self.name}, {self.kernels} kernels, {self.reason}>"

    @property
    def index(self) -> int:
        """Which GPU."""
        return int(self.name.partition(":")[2] or 0)

    def backend(self) -> Backend:
        """Return a new backend for this device, where the weights live; DeviceUnavailable where it cannot be used."""
        if self.name == "cpu":
            from gpumlp.backends.numpy_backend import NumpyBackend

            return NumpyBackend()
        runtime = open_runtime(self.index)
        if self.kernels == "numba":
            from gpumlp.backends.numba_backend import NumbaBackend

            return NumbaBackend(runtime)
        from gpumlp.backends.cuda_backend import CudaBackend

        return CudaBackend(runtime)


@functools.cache
def open_runtime(index: int) -> Runtime:
    """Return the runtime of a GPU, the same one every time: its compiled kernels serve all models."""
    from gpumlp.backends.cuda_runtime import CudaRuntime

    return CudaRuntime(index)


def has_driver() -> bool:
    """Whether there is an NVIDIA driver to be loaded."""
    for name in _DRIVERS:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def driver_version() -> str | None:
    """Return the newest CUDA that the driver supports, such as "13.0", asked of the driver alone; None without one."""
    for name in _DRIVERS:
        try:
            ask = ctypes.CDLL(name).cuDriverGetVersion
        except (OSError, AttributeError):
            continue
        number = ctypes.c_int()
        if ask(ctypes.byref(number)) == 0:
            return f"{number.value // 1000}.{number.value % 1000 // 10}"
    return None


def cupy_wheels() -> list[str]:
    """Return the CuPy distributions that are installed; more than one and they overwrite each other's files."""
    from importlib import metadata  # 20 ms of start-up, for those who ask only

    found = {str(d.metadata["Name"]).lower() for d in metadata.distributions() if d.metadata["Name"]}
    return sorted(n for n in found if n == "cupy" or n.startswith("cupy-cuda") or n.startswith("cupy-rocm"))


@functools.cache
def gpu_problem(index: int = 0) -> str | None:
    """Return why GPU number ``index`` cannot be used, and what to do about it; None where it can."""
    if not has_driver():
        return "there is no NVIDIA driver on this machine (its library libcuda cannot be loaded)."
    if len(wheels := cupy_wheels()) > 1:
        return (
            f"CuPy is installed {len(wheels)} times ({', '.join(wheels)}), and these break each other: "
            "uninstall all of them, then install one."
        )
    try:
        import cupy
        import cupyx  # noqa: F401
    except Exception as error:  # a wheel for another CUDA fails with whatever its libraries fail with
        return f"CuPy cannot be imported ({type(error).__name__}: {error}). {INSTALL}"
    from gpumlp.backends.compiler import OLDEST, architectures, check_core

    try:
        check_core()
    except DeviceUnavailable as error:
        return str(error)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return _driver_problem(cupy, error)
    if index >= count:
        return (
            f"the driver shows {count} GPUs, counted from 0, and number {index} is none of them. "
            "CUDA_VISIBLE_DEVICES may hide some; python -m gpumlp info lists what there is."
        )
    capability = int(cupy.cuda.Device(index).compute_capability)
    if capability < OLDEST:
        return (
            f"the GPU's compute capability is {capability / 10:.1f}; the kernels need {OLDEST / 10:.1f} (Turing, 2018) "
            "or newer."
        )
    try:
        architectures()
        open_runtime(index)
    except DeviceUnavailable as error:
        return str(error)
    except Exception as error:  # busy, out of memory, in somebody else's exclusive mode: the driver's own words
        return f"cuda:{index} cannot be opened ({type(error).__name__}: {error})."
    return None


def _driver_problem(cupy: Any, error: Exception) -> str:
    try:
        driver, needed = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    except Exception:
        return f"the driver does not answer ({error})."
    if 0 < driver < needed // 1000 * 1000:
        return (
            f"the driver is too old: it supports CUDA {driver // 1000}.{driver % 1000 // 10}, and the installed CuPy "
            f"is for CUDA {needed // 1000}. Update the driver, or install the extra for CUDA {driver // 1000}."
        )
    return f"the driver shows no GPU ({error})."


def family() -> str:
    """Return what GPUMLP_KERNELS says, or "auto"; ValueError for an unknown name."""
    name = os.environ.get("GPUMLP_KERNELS") or "auto"
    if name not in FAMILIES:
        raise ValueError(f"GPUMLP_KERNELS must be one of {', '.join(FAMILIES)}; got {name!r}.")
    return name


def on_cpu(kernels: str) -> str:
    """Return what a family is called on the CPU, where "numba", which compiles them, is older for "compiled"."""
    return "compiled" if kernels == "numba" else kernels


def _on_cpu(reason: str, kernels: str, dtype: str) -> Device:
    """Return the CPU with the kernels asked for; DeviceUnavailable where those that are compiled cannot be had."""
    if (kernels := on_cpu(kernels)) != "compiled":
        return Device("cpu", reason, "numpy" if kernels == "numpy" else "auto")
    if dtype != "float32":
        raise ValueError(f"GPUMLP_KERNELS asks for compiled kernels, which compute in float32; the model is {dtype}.")
    from gpumlp.backends import native

    if problem := native.problem():
        raise DeviceUnavailable(f"GPUMLP_KERNELS asks for compiled kernels: {problem}")
    return Device("cpu", reason, "compiled")


def resolve(device: str | None = None, dtype: str = "float32") -> Device:
    """Return the Device for a name; None means GPUMLP_DEVICE, then ``"auto"``. ``dtype`` is the model's.

    Raises
    ------
    ValueError
        For an unknown name, and for a GPU with a float64 model.
    DeviceUnavailable
        A RuntimeError, for a GPU that cannot be used, with the cause.
    """
    source, of = "asked for", ""
    if device is None:
        device = os.environ.get("GPUMLP_DEVICE") or "auto"
        source = "from GPUMLP_DEVICE" if os.environ.get("GPUMLP_DEVICE") else "the default"
        of = f" ({source})"
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r}{of}.")
    kernels = family()
    if device == "cpu":
        return _on_cpu(source, kernels, dtype)
    if device == "auto":
        if kernels in OF_CPU:
            return _on_cpu(f"auto: GPUMLP_KERNELS={kernels}", kernels, dtype)
        problem = gpu_problem()
        if problem is None and dtype != "float32":
            problem = f"the GPU's kernels compute in float32, the model in {dtype}."
        if problem:
            if has_driver():
                warn_once("no gpu", f"gpumlp runs on the CPU: {problem}")
            return _on_cpu(f"auto: {problem.rstrip('.')}", kernels, dtype)
        return Device("cuda:0", "auto: a GPU that can be used", "numba" if kernels == "numba" else "cuda")
    if dtype != "float32":
        raise ValueError(
            f"device {device!r}{of} computes in float32; the model is {dtype}. "
            "Make it with dtype='float32', or use device='cpu'."
        )
    if kernels in OF_CPU:
        raise ValueError(f"device {device!r}{of} and GPUMLP_KERNELS={kernels}: these kernels are the CPU's. Unset one.")
    index = int(device.partition(":")[2] or 0)
    if problem := gpu_problem(index):
        raise DeviceUnavailable(f"device {device!r}{of} cannot be used: {problem} device='cpu' needs no GPU.")
    return Device(f"cuda:{index}", source, "numba" if kernels == "numba" else "cuda")
