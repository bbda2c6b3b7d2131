"""CUDA C++ compiled with NVRTC and launched through the driver: what the microbenchmarks need and no more.

Clusters and cooperative launches are attributes of a launch; the driver's own entry point takes them in every version
of the Python bindings. Compiling needs no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("microbench.cu")


def compiled(source: str, arch: str) -> bytes:
    """Return the cubin of ``source`` for ``arch``, such as "sm_90"; RuntimeError with the compiler's words."""
    from cuda.bindings import nvrtc

    program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(source.encode(), b"kernels", 0, [], []))[0]
    options = [f"--gpu-architecture={arch}".encode(), b"--std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))[0]
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"a microbenchmark does not compile for {arch}:\n{log.decode()}")
    code = b" " * _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))[0]
    _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, code))
    nvrtc.nvrtcDestroyProgram(program)
    return code


def _checked(module: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what follows the status of an answer; RuntimeError unless that is zero."""
    if int(answer[0]):
        raise RuntimeError(f"{module.__name__.rsplit('.', 1)[-1]}: {answer[0].name}")
    return answer[1:]


def packed(arguments: Sequence[Any]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the arguments as one-element arrays, and their addresses as the driver takes them.

    A CuPy array (or any object with ``data.ptr``) goes as a pointer, None as a null one, a NumPy scalar as itself.
    """
    values = []
    for a in arguments:
        if a is None or hasattr(getattr(a, "data", None), "ptr"):
            values.append(np.array([0 if a is None else a.data.ptr], np.uint64))
        elif isinstance(a, np.generic):
            values.append(np.array([a]))
        else:
            raise TypeError(f"a kernel's argument must be an array, None or a NumPy scalar; got {a!r}.")
    return values, np.array([v.ctypes.data for v in values], np.uint64)


class Kernels:
    """The kernels of a source, of microbench.cu where none is given, on the current GPU."""

    def __init__(self, source: str | None = None) -> None:
        import cupy
        from cuda.bindings import driver

        self._driver, self._cupy = driver, cupy
        cupy.zeros(1)  # makes the device's context the current one
        self.capability = int(cupy.cuda.Device().compute_capability)
        self.code = compiled(source or SOURCE.read_text(), f"sm_{self.capability}")
        self._module = _checked(driver, driver.cuModuleLoadData(self.code))[0]

    def function(self, name: str) -> Any:
        """Return a kernel's handle."""
        return _checked(self._driver, self._driver.cuModuleGetFunction(self._module, name.encode()))[0]

    def allow_large_clusters(self, function: Any) -> None:
        """Allow clusters of more than the eight blocks that every GPU with clusters promises."""
        attribute = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        _checked(self._driver, self._driver.cuFuncSetAttribute(function, attribute, 1))

    def launch(
        self, function: Any, blocks: int, threads: int, arguments: Sequence[Any], cluster: int = 0,
        cooperative: bool = False,
    ) -> None:  # fmt: skip
        """Launch on CuPy's current stream; RuntimeError where the driver refuses, as a grid that cannot be resident."""
        driver = self._driver
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.hStream = driver.CUstream(self._cupy.cuda.get_current_stream().ptr)
        attributes = []
        if cluster:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
            attribute.value.clusterDim.x, attribute.value.clusterDim.y, attribute.value.clusterDim.z = cluster, 1, 1
            attributes.append(attribute)
        if cooperative:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
            attribute.value.cooperative = 1
            attributes.append(attribute)
        config.attrs, config.numAttrs = attributes, len(attributes)
        values, addresses = packed(arguments)  # both live until the call returns, which copies what they hold
        _checked(driver, driver.cuLaunchKernelEx(config, function, addresses.ctypes.data, 0))
        del values


class Launcher:
    """``launch`` with everything prepared once: the driver's cost alone, for the table of launch costs."""

    def __init__(self, kernels: Kernels, function: Any, arguments: Sequence[Any]) -> None:
        self._driver, self._function = kernels._driver, function
        self._values, addresses = packed(arguments)
        self._held, self._addresses = addresses, addresses.ctypes.data
        self._stream = self._driver.CUstream(kernels._cupy.cuda.get_current_stream().ptr)

    def __call__(self) -> None:
        self._driver.cuLaunchKernel(self._function, 1, 1, 1, 32, 1, 1, 0, self._stream, self._addresses, 0)
