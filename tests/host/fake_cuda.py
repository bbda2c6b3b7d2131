"""Stand-ins for CuPy, cuda.core and the driver, so that the runtime for real GPUs runs its own lines without one.

They have what `gpumlp.backends.cuda_runtime` uses and no more. Device memory is NumPy's; a launch finds its kernel by
what was "compiled", and runs it through `HostRuntime`, with each pointer's bounds looked up among the allocations. A
stream that captures keeps its launches; what would be an error in a capture is one here.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import types
import weakref
from typing import Any

import numpy as np
from cuda.bindings import driver

from gpumlp import kernel_sources
from gpumlp.backends.numpy_backend import aligned_zeros
from gpumlp.backends.runtime import parted
from host.runtime import HostRuntime, poison

ATTRIBUTES = {"MultiProcessorCount": 8, "MaxSharedMemoryPerBlockOptin": 232448}
UNASKED = 48 << 10  # bytes of dynamic shared memory that a kernel may have without being told first


class CudaError(RuntimeError):
    """CuPy's CUDARuntimeError."""


class OutOfMemory(MemoryError):
    """CuPy's OutOfMemoryError."""


class FakeCuda:
    """One faked GPU: its memory, its streams and what was launched."""

    def __init__(self) -> None:
        self.host = HostRuntime()
        self.allocations: list[tuple[int, int, Any]] = []  # start, end, a weak reference to what owns it
        self.launches: list[tuple[str, tuple[Any, ...]]] = []
        self.order: list[tuple[str, int, int]] = []  # what was asked of which stream, with the event or the address
        self.events: list[Any] = []  # kept, so that no two have one id
        self.kernels: list[Any] = []  # what was loaded; a kernel's handle is its place here
        self.room = 1 << 40
        self.capability, self.devices, self.driver, self.current = "90", 1, 13000, [0]
        self.broken: str | None = None  # what every call says, once a kernel has faulted
        self.streams = [self.make_stream(0)]
        self.dependent = 0  # how many launches were allowed to start while the one before them ends
        self.pointer_words = 3  # inside a struct a pointer is what the host's kernels take for one: with its bounds
        self._next = 100

    # ---- CuPy ------------------------------------------------------------------------------------------------------

    def make_stream(self, pointer: int | None = None) -> Any:
        fake = self

        class Stream:
            def __init__(self, non_blocking: bool = False) -> None:
                if pointer is None:
                    fake._next += 1
                self.ptr = fake._next if pointer is None else pointer
                self.captured: list[Any] | None = None

            def __enter__(self) -> Any:
                fake.streams.append(self)
                return self

            def __exit__(self, *error: object) -> None:
                fake.streams.pop()

            def begin_capture(self) -> None:
                self.captured = []

            def end_capture(self) -> Any:
                launches, self.captured = self.captured, None

                def run(stream: Any) -> None:
                    for launch in launches or []:
                        fake.execute(*launch)

                return types.SimpleNamespace(launch=run)

            def synchronize(self) -> None:
                fake.check()

            def record(self, event: Any) -> Any:
                fake.order.append(("record", self.ptr, id(event)))
                fake.events.append(event)
                return event

            def wait_event(self, event: Any) -> None:
                fake.order.append(("wait", self.ptr, id(event)))

        return Stream() if pointer is not None else Stream

    def check(self) -> None:
        assert self.streams[-1].captured is None, "what waits for the device cannot be captured"
        if self.broken:
            raise CudaError(self.broken)

    def cupy(self) -> types.ModuleType:
        fake = self

        class ndarray(np.ndarray):
            @property
            def data(self) -> Any:  # type: ignore[override]
                return types.SimpleNamespace(ptr=self.ctypes.data)

            @property
            def device(self) -> Any:
                return types.SimpleNamespace(id=0)

            @property
            def __cuda_array_interface__(self) -> Any:
                return self.__array_interface__

            @property
            def __array_namespace__(self) -> Any:
                raise AttributeError("CuPy's arrays have none")

            def set(self, values: np.ndarray, stream: Any = None) -> None:
                fake.check()
                fake.order.append(("copy", fake.streams[-1].ptr if stream is None else stream.ptr, self.ctypes.data))
                assert type(values) is np.ndarray and values.dtype == self.dtype and values.shape == self.shape
                self[...] = values

            def get(self) -> np.ndarray:
                fake.check()
                return np.array(self)

        def empty(shape: Any, dtype: Any) -> Any:
            fake.check()
            array = aligned_zeros(shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype))
            if array.nbytes > fake.room:
                raise OutOfMemory(f"Out of memory allocating {array.nbytes:,} bytes (allocated so far: 0 bytes).")
            poison(array)
            owner = array
            while owner.base is not None:
                owner = owner.base
            fake.allocations.append((array.ctypes.data, array.ctypes.data + array.nbytes, weakref.ref(owner)))
            return array.view(ndarray)

        class Device:
            def __init__(self, index: int | None = None) -> None:
                self.id = fake.current[-1] if index is None else index
                self.attributes, self.compute_capability = dict(ATTRIBUTES), fake.capability
                self.mem_info = (fake.room, 1 << 40)

            def __enter__(self) -> Any:
                fake.current.append(self.id)

            def __exit__(self, *error: object) -> None:
                fake.current.pop()

        def device_count() -> int:
            if fake.driver < 13000:
                raise CudaError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
            return fake.devices

        module = types.ModuleType("cupy")
        module.ndarray, module.empty = ndarray, empty  # type: ignore[attr-defined]
        module.asarray = lambda a: a.array  # type: ignore[attr-defined]
        module.from_dlpack = lambda a: a.array  # type: ignore[attr-defined]
        module.ascontiguousarray = lambda a: np.ascontiguousarray(a).view(ndarray)  # type: ignore[attr-defined]
        module.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 0)  # type: ignore[attr-defined]
        module.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
            Device=Device, Stream=self.make_stream(),
            Event=lambda disable_timing: types.SimpleNamespace(synchronize=fake.check),
            get_current_stream=lambda: fake.streams[-1],
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemory),
            runtime=types.SimpleNamespace(
                CUDARuntimeError=CudaError, getDeviceCount=device_count, driverGetVersion=lambda: fake.driver,
                runtimeGetVersion=lambda: 13000,
            ),
        )  # fmt: skip
        return module

    # ---- cuda.core -------------------------------------------------------------------------------------------------

    def cuda_core(self) -> types.ModuleType:
        fake = self

        class Kernel(types.SimpleNamespace):
            def __init__(self, file: str, defines: dict[str, int | str], function: str) -> None:
                super().__init__(file=file, defines=defines, function=function, handle=len(fake.kernels))
                fake.kernels.append(self)
                self.shared = UNASKED

        class ObjectCode:
            @staticmethod
            def from_cubin(code: bytes) -> Any:
                return types.SimpleNamespace(get_kernel=lambda function: Kernel(*json.loads(code), function))

        module = types.ModuleType("cuda.core")
        module.__version__ = "1.2.0"  # type: ignore[attr-defined]
        module.Device = lambda index: types.SimpleNamespace(set_current=lambda: None)  # type: ignore[attr-defined]
        module.ObjectCode = ObjectCode  # type: ignore[attr-defined]
        return module

    # ---- the driver ------------------------------------------------------------------------------------------------

    def allow_shared(self, attribute: Any, value: int, kernel: int, device: int) -> tuple[Any]:
        """The driver's cuKernelSetAttribute, for the one attribute that is set: how much shared memory it may have."""
        assert attribute == driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        assert type(kernel) is int and device == self.current[-1]
        if value > ATTRIBUTES["MaxSharedMemoryPerBlockOptin"]:
            return (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)
        self.kernels[kernel].shared = value
        return (driver.CUresult.CUDA_SUCCESS,)

    def launch(self, config: Any, function: Any, parameters: Any, extra: int) -> tuple[Any]:
        """The driver's cuLaunchKernelEx, with the parameters as two tuples: values, and their types."""
        assert int(config.hStream) == self.streams[-1].ptr, "not CuPy's current stream"
        assert config.numAttrs == len(config.attrs) and config.gridDimZ == config.blockDimY == config.blockDimZ == 1
        kernel, shape = self.kernels[int(function)], (config.gridDimX, config.gridDimY, config.blockDimX)
        ids = driver.CUlaunchAttributeID
        asked = {
            ids.CU_LAUNCH_ATTRIBUTE_COOPERATIVE: lambda value: value.cooperative,
            ids.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: (
                lambda value: value.programmaticStreamSerializationAllowed
            ),
        }
        told = {attribute.id: asked[attribute.id](attribute.value) for attribute in config.attrs}
        assert all(value == 1 for value in told.values())
        self.dependent += ids.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION in told
        cooperative = ids.CU_LAUNCH_ATTRIBUTE_COOPERATIVE in told
        if config.sharedMemBytes > kernel.shared:
            return (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)
        if cooperative and shape[0] * shape[1] > ATTRIBUTES["MultiProcessorCount"]:
            return (driver.CUresult.CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,)
        job = (kernel, (*shape, config.sharedMemBytes, cooperative), *parameters)
        if self.streams[-1].captured is not None:
            self.streams[-1].captured.append(job)
        else:
            self.execute(*job)
        return (driver.CUresult.CUDA_SUCCESS,)

    def execute(self, kernel: Any, shape: tuple[int, ...], values: tuple[Any, ...], kinds: tuple[Any, ...]) -> None:
        """Run a launch, as the driver would: by the kernel's own parameters, each as large as it is declared."""
        function, text = kernel.function, kernel_sources.expanded(kernel.file, parted(kernel.defines)[1])
        found = re.search(rf"KERNEL\({function}\)\((.*?)\)", text, re.DOTALL)
        assert found is not None
        parameters, packed = found[1].split(","), []
        assert len(parameters) == len(values), f"{function} takes {len(parameters)}, got {len(values)}"
        for parameter, value, kind in zip(parameters, values, kinds, strict=True):
            declared, told = parameter.split()[0], f"{function}: {parameter} got {value!r} as {kind}"
            if declared.startswith("Global"):
                assert kind is ctypes.c_void_p, told
                packed.append((ctypes.c_longlong * 3)(*self.bounds(value)))
            elif declared == "float":
                assert kind is ctypes.c_float and isinstance(value, float), told
                packed.append(ctypes.c_float(value))
            elif declared == "long":
                assert kind is ctypes.c_longlong and type(value) is int and -(1 << 63) <= value < 1 << 63, told
                packed.append(ctypes.c_longlong(value))
            else:
                assert kind is None and isinstance(value, ctypes.Structure), told
                assert ctypes.sizeof(value) == self.size_of(declared, text), told
                packed.append(value)
        assert shape[2] == kernel.defines["THREADS"]
        self.launches.append((function, values))
        self.host._run(self.host._library(kernel.file, kernel.defines), function, shape, packed, None)

    def size_of(self, struct: str, text: str) -> int:
        """Return how many bytes a struct of integers and pointers takes, by its declaration in a kernel's text."""
        found = re.search(rf"^struct {struct} {{\n(.*?)^}};", text, re.DOTALL | re.MULTILINE)
        assert found is not None
        lines = re.sub(r"//.*", "", found[1]).split(";")[:-1]
        each = [
            8 * self.pointer_words if "Global" in line else 4 if line.split()[0] == "float" else 8 for line in lines
        ]
        counts = [int(n[1]) if (n := re.search(r"\[(\d+)\]", line)) else 1 + line.count(",") for line in lines]
        return sum(size * count for size, count in zip(each, counts, strict=True))

    def bounds(self, pointer: int) -> tuple[int, int, int]:
        if pointer == 0:
            return 0, 0, 0
        for start, end, owner in self.allocations:
            if start <= pointer < max(end, start + 1) and owner() is not None:
                return pointer, start, end  # a view's own end is not known to a driver; the allocation's is
        raise AssertionError(f"{pointer:#x} points to no allocation")


def install(monkeypatch: Any) -> tuple[FakeCuda, Any]:
    """Put the stand-ins in place; return the faked GPU and the freshly imported cuda_runtime."""
    fake = FakeCuda()
    cupyx = types.ModuleType("cupyx")
    cupyx.empty_pinned = np.empty  # type: ignore[attr-defined]
    monkeypatch.setattr(driver, "cuKernelSetAttribute", fake.allow_shared)
    monkeypatch.setattr(driver, "cuLaunchKernelEx", fake.launch)
    for name, module in (("cupy", fake.cupy()), ("cupyx", cupyx), ("cuda.core", fake.cuda_core())):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "gpumlp.backends.cuda_runtime", None)
    del sys.modules["gpumlp.backends.cuda_runtime"]
    import importlib

    runtime = importlib.import_module("gpumlp.backends.cuda_runtime")
    monkeypatch.setattr(
        runtime, "compiled", lambda file, defines, arch, cache: json.dumps([file, defines]).encode()
    )  # fmt: skip
    monkeypatch.setattr(runtime.CudaRuntime, "pointer_words", fake.pointer_words)
    monkeypatch.setattr(runtime.CudaRuntime, "pointer", lambda self, a: fake.bounds(0 if a is None else a.ctypes.data))
    return fake, runtime
