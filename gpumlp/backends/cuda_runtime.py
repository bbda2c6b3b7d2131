"""The runtime for NVIDIA GPUs: code that NVRTC made, launched by the driver, on CuPy's memory and current stream.

cuda.core compiles and loads; its launch knows no structs by value, which the driver's own entry point takes.

See `gpumlp.backends.runtime` for what each method means. Imported only when a GPU is asked for.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import cupy
import cupyx
import numpy as np
import numpy.typing as npt
from cuda.bindings import driver
from cuda.core import Device, ObjectCode

from gpumlp.backends.compiler import compiled, side_by_side, target
from gpumlp.backends.disk_cache import DiskCache
from gpumlp.backends.runtime import Argument, Defines, Kind, Recording, Result, Scalar, words
from gpumlp.errors import DeviceMemoryError, DeviceUnavailable, KernelError

ON_CUDA = (2, 13)  # DLPack's numbers for CUDA and CUDA-managed memory
if TYPE_CHECKING:
    from cuda.core import Kernel

Array: TypeAlias = cupy.ndarray
Key = tuple[str | int, ...]  # of a kernel: its file, its name and what it is compiled with; of code, without the name
UNASKED = 48 << 10  # bytes of dynamic shared memory that every kernel may have; for more, the kernel must be told first


@cache
def _struct(length: int) -> type[ctypes.Structure]:
    """Return the type of a struct of so many words."""
    return type("Words", (ctypes.Structure,), {"_fields_": [("words", ctypes.c_longlong * length)]})


class _Thread(threading.local):
    """What is going on in one thread: another one may launch while this one records."""

    wanted: dict[Key, tuple[str, str, Defines]] | None = None  # what would be launched, while it only prepares
    recorded: list[tuple[Argument, ...]] | None = None  # the arguments of what is captured


class CudaRuntime:
    """One GPU."""

    name = "CUDA"
    xp: ModuleType = cupy
    pointer_words = 1

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._cache = DiskCache()
        self._codes: dict[Key, bytes] = {}
        self._kernels: dict[Key, Kernel] = {}
        self._allowed: dict[Key, int] = {}  # dynamic shared memory per kernel, where it is more than UNASKED
        self._thread = _Thread()
        self.last = "nothing"
        # One operation after the other, each waited for: then an error names the operation that made it.
        self.step_by_step = os.environ.get("GPUMLP_SYNC", "0") not in ("", "0")
        with cupy.cuda.Device(index):  # and the driver's own words where it cannot be opened
            Device(index).set_current()
            attributes = cupy.cuda.Device(index).attributes
            self.multiprocessors = int(attributes["MultiProcessorCount"])
            self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
            self.arch = target(int(cupy.cuda.Device(index).compute_capability))
            self._copies = cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def current(self) -> Iterator[None]:
        try:
            with cupy.cuda.Device(self.index):
                yield
        except cupy.cuda.memory.OutOfMemoryError as error:
            asked = re.search(r"[\d,]+(?= bytes)", str(error))  # only CuPy's words have the number
            raise DeviceMemoryError(int(asked[0].replace(",", "")) if asked else 0, *self._room()) from error
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise self._failure(error) from error

    @property
    def stream_pointer(self) -> int:
        """The current stream, as a number."""
        return int(cupy.cuda.get_current_stream().ptr)

    # ---- memory ----------------------------------------------------------------------------------------------------

    def empty(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        with self.current():
            return cupy.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        array = self.empty(shape, dtype)
        with self.current():
            array.fill(0)
        return array

    def free_bytes(self) -> int:
        return self._room()[0]

    def _room(self) -> tuple[int, int]:
        """Return how many bytes are free, CuPy's own reserve included, and how many there are."""
        with self.current():
            free, total = cupy.cuda.Device(self.index).mem_info
            return int(free) + int(cupy.get_default_memory_pool().free_bytes()), int(total)

    def owns(self, value: object) -> bool:
        return isinstance(value, cupy.ndarray) and value.device.id == self.index

    def adopt(self, value: object) -> Array | None:
        array = None
        with self.current():
            if isinstance(value, cupy.ndarray):
                array = value
            elif hasattr(value, "__cuda_array_interface__"):
                array = cupy.asarray(value)
            elif hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in ON_CUDA:
                array = cupy.from_dlpack(value)
        if array is not None and array.device.id != self.index:
            raise DeviceUnavailable(
                f"The array is on cuda:{array.device.id}, the model on cuda:{self.index}. "
                f"Copy it there, or compile the model with device='cuda:{array.device.id}'."
            )
        return array

    def upload(self, array: Array, values: npt.ArrayLike) -> None:
        with self.current():
            array.set(np.ascontiguousarray(values, array.dtype).reshape(array.shape))

    def download(self, array: Array) -> Array:
        with self.current():
            return array.get()

    def pinned(self, shape: int | tuple[int, ...], dtype: Kind[Scalar]) -> npt.NDArray[Scalar]:
        with self.current():
            return cupyx.empty_pinned(shape, dtype)

    def upload_beside(self, array: Array, pinned: Array, after: cupy.cuda.Event | None) -> cupy.cuda.Event:
        with self.current():
            if after is not None:
                self._copies.wait_event(after)
            array.set(pinned, stream=self._copies)
            return self._copies.record(cupy.cuda.Event(disable_timing=True))

    def carried(self, work: Callable[[], Result]) -> Callable[[], Result]:
        stream = cupy.cuda.get_current_stream()

        def there() -> Result:
            with self.current(), stream:
                return work()

        return there

    def mark(self) -> cupy.cuda.Event:
        with self.current():
            return cupy.cuda.get_current_stream().record(cupy.cuda.Event(disable_timing=True))

    def wait_for(self, mark: cupy.cuda.Event) -> None:
        with self.current():
            cupy.cuda.get_current_stream().wait_event(mark)

    def reached(self, mark: cupy.cuda.Event) -> None:
        with self.current():
            mark.synchronize()

    def pointer(self, array: Array | None) -> tuple[int, ...]:
        return (0,) if array is None else (int(array.data.ptr),)

    def synchronize(self) -> None:
        with self.current():
            cupy.cuda.get_current_stream().synchronize()

    # ---- kernels ---------------------------------------------------------------------------------------------------

    def launch(
        self, file: str, function: str, defines: Defines, grid: tuple[int, int], arguments: tuple[Argument, ...],
        shared: int = 0, cooperative: bool = False,
    ) -> None:  # fmt: skip
        if self._thread.wanted is not None:
            self._thread.wanted[(file, function, *defines.values())] = (file, function, defines)
            return
        kernel = self._kernel(file, function, defines)
        self.last = function
        if self._thread.recorded is not None:
            self._thread.recorded.append(arguments)
        try:
            config = self._config(grid, int(defines["THREADS"]), shared, cooperative, "DEPENDENT" in defines)
            values, types = zip(*map(self._parameter, arguments), strict=True)
            with self.current():
                self._allow(kernel, (file, function, *defines.values()), shared)
                there = driver.CUfunction(int(kernel.handle))
                (status,) = driver.cuLaunchKernelEx(config, there, (values, types), 0)
            if status != driver.CUresult.CUDA_SUCCESS:
                raise RuntimeError(status.name)
        except Exception as error:  # the libraries' own types are no part of their APIs
            raise KernelError(f"{function} could not be launched on cuda:{self.index}: {error}") from error
        if self.step_by_step:
            self.synchronize()

    def _config(
        self, grid: tuple[int, int], threads: int, shared: int, cooperative: bool, dependent: bool
    ) -> driver.CUlaunchConfig:
        """Return how to launch, on the current stream. It is made anew each time, in a microsecond."""
        config, ids, attributes = driver.CUlaunchConfig(), driver.CUlaunchAttributeID, []
        config.gridDimX, config.gridDimY, config.gridDimZ = *grid, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes, config.hStream = shared, driver.CUstream(self.stream_pointer)
        if cooperative:
            attributes.append(driver.CUlaunchAttribute())
            attributes[-1].id = ids.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
            attributes[-1].value.cooperative = 1
        if dependent and int(re.sub(r"\D", "", self.arch)) >= 90:  # older ones start one after the other
            attributes.append(driver.CUlaunchAttribute())
            attributes[-1].id = ids.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attributes[-1].value.programmaticStreamSerializationAllowed = 1
        config.attrs, config.numAttrs = attributes, len(attributes)
        return config

    def _parameter(self, argument: Argument) -> tuple[int | float | ctypes.Structure, type | None]:
        """Return an argument as the driver's binding takes it: a value and its type, which a struct has itself."""
        if isinstance(argument, int):
            return argument, ctypes.c_longlong
        if isinstance(argument, float):
            return argument, ctypes.c_float
        if isinstance(argument, tuple):
            members = words(self, argument)
            return _struct(len(members))(tuple(members)), None
        return self.pointer(argument)[0], ctypes.c_void_p

    def _allow(self, kernel: Kernel, key: Key, shared: int) -> None:
        """Let a kernel have so much dynamic shared memory. cuda.core shows the limit, but cannot set it."""
        if shared <= self._allowed.get(key, UNASKED):
            return
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (status,) = driver.cuKernelSetAttribute(limit, shared, int(kernel.handle), self.index)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{shared} bytes of shared memory refused: {status.name} (at most {self.shared_bytes})")
        self._allowed[key] = shared

    def _kernel(self, file: str, function: str, defines: Defines) -> Kernel:
        key = (file, function, *defines.values())
        kernel = self._kernels.get(key)
        if kernel is None:
            code = self._codes.get((file, *defines.values())) or self._compile([(file, defines)])[0]
            load = ObjectCode.from_ptx if self.arch.startswith("compute") else ObjectCode.from_cubin
            try:
                with self.current():
                    kernel = self._kernels[key] = load(code).get_kernel(function)
            except Exception as error:  # as in launch
                raise KernelError(f"{function} could not be loaded on cuda:{self.index}: {error}") from error
        return kernel

    def _compile(self, wanted: list[tuple[str, Defines]]) -> list[bytes]:
        """Return the machine code of kernel files; several are compiled side by side, which NVRTC allows."""
        try:
            codes = side_by_side(lambda one: compiled(one[0], one[1], self.arch, self._cache), wanted)
        except RuntimeError as error:
            raise KernelError(str(error)) from error
        for (file, defines), code in zip(wanted, codes, strict=True):
            self._codes[(file, *defines.values())] = code
        return codes

    def _prepare(self, work: Callable[[], None]) -> None:
        """Call ``work`` without launching anything; then compile and load all that it would launch."""
        wanted: dict[Key, tuple[str, str, Defines]] = {}
        self._thread.wanted = wanted
        try:
            work()
        finally:
            self._thread.wanted = None
        new = [(file, defines) for key, (file, _, defines) in wanted.items() if key not in self._kernels]
        files = {(file, *defines.values()): (file, defines) for file, defines in new}
        self._compile([one for key, one in files.items() if key not in self._codes])
        for one in wanted.values():
            self._kernel(*one)

    def record(self, work: Callable[[], None]) -> Recording:
        """Record what ``work`` launches. It is called twice: first to compile, load and allocate, then to capture."""
        recorded: list[
            tuple[Argument, ...]
        ] = []  # the arrays whose addresses the graph holds: they must live as long as it does
        self._prepare(work)
        with cupy.cuda.Device(self.index):
            stream = cupy.cuda.Stream(non_blocking=True)
            try:
                with stream:
                    stream.begin_capture()
                    self._thread.recorded = recorded
                    try:
                        work()
                    finally:
                        self._thread.recorded = None
                        graph = stream.end_capture()
            except cupy.cuda.runtime.CUDARuntimeError as error:
                raise KernelError(f"the steps could not be recorded on cuda:{self.index}: {error}") from error

        def replay() -> None:
            self.last = "a recorded step"
            with self.current():
                graph.launch(stream=cupy.cuda.get_current_stream())

        return Recording(replay, len(recorded), recorded)

    def _failure(self, error: Exception) -> KernelError:
        hint = "" if self.step_by_step else " Set GPUMLP_SYNC=1 to run one operation after the other and see which."
        return KernelError(
            f"cuda:{self.index} failed in {self.last} or before it: {error}. This process cannot use the GPU any more; "
            f"what stood in its memory is lost.{hint}"
        )
