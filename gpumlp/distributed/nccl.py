"""NCCL, by nccl4py or CuPy: ranks with a GPU each. No GPU has run this yet; a stand-in for NCCL has, in the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gpumlp.backends.runtime import Array
from gpumlp.distributed.communicator import Communicator
from gpumlp.errors import DeviceUnavailable


class Library(Protocol):
    """What carries arrays of a GPU to those of others, in the order of the current stream."""

    def all_to_all(self, sent: Array, received: Array) -> None: ...

    def all_gather(self, own: Array, received: Array) -> None: ...


class NCCL:
    """A `Communicator` over GPUs: arrays go by NCCL from one to the other, everything else by another communicator.

    Parameters
    ----------
    host : Communicator
        Between the same ranks, such as ``MPI(comm)``. It carries small objects, and ends all when one rank fails.

    Raises
    ------
    DeviceUnavailable
        Where neither nccl4py nor CuPy has NCCL.
    """

    def __init__(self, host: Communicator) -> None:
        self._host, self.rank, self.size = host, host.rank, host.size
        self._library = _library(host)

    def __repr__(self) -> str:
        return f"<NCCL: rank {self.rank} of {self.size}>"

    def all_to_all(self, sent: Array, received: Array) -> None:
        """See `Communicator.all_to_all`."""
        self._library.all_to_all(sent, received)

    def all_gather(self, own: Array, received: Array) -> None:
        """See `Communicator.all_gather`."""
        self._library.all_gather(own, received)

    def gather(self, own: object, what: str = "") -> list[object]:
        """See `Communicator.gather`."""
        return self._host.gather(own, what)

    def fail(self, message: str) -> None:
        """See `Communicator.fail`."""
        self._host.fail(message)


def _library(host: Communicator) -> Library:
    """Return NVIDIA's own binding, or CuPy's where that is not installed."""
    found: list[str] = []
    for kind in (Nccl4py, CupyNccl):
        try:
            return kind(host)
        except ImportError as error:
            found.append(str(error))
    raise DeviceUnavailable(
        f"NCCL is not there ({'; '.join(found)}). pip install nccl4py nvidia-nccl-cu13, or -cu12 for CUDA 12."
    )


def _shared(host: Communicator, make: Callable[[], object]) -> object:
    """Return what rank 0 makes, on all ranks."""
    return host.gather(make() if host.rank == 0 else None)[0]


def _stream() -> int:
    """Return the address of the stream that is current in this thread."""
    import cupy

    return int(cupy.cuda.get_current_stream().ptr)


def _address(array: Array) -> int:
    """Return where an array of CuPy's begins."""
    return int(array.data.ptr)  # type: ignore[attr-defined]


class Nccl4py:
    """`Library` by NVIDIA's nccl4py."""

    def __init__(self, host: Communicator) -> None:
        from nccl import core

        self._comm = core.Communicator.init(host.size, host.rank, _shared(host, core.get_unique_id))

    def all_to_all(self, sent: Array, received: Array) -> None:
        self._comm.alltoall(sent, received, stream=_stream())

    def all_gather(self, own: Array, received: Array) -> None:
        self._comm.allgather(own, received, stream=_stream())


class CupyNccl:
    """`Library` by CuPy."""

    def __init__(self, host: Communicator) -> None:
        from cupy.cuda import nccl

        if not nccl.available:
            raise ImportError("CuPy does not find NCCL")
        self._nccl, self._size = nccl, host.size
        self._comm = nccl.NcclCommunicator(host.size, _shared(host, nccl.get_unique_id), host.rank)

    def _kind(self, array: Array) -> int:
        kinds: dict[str, int] = {"float32": self._nccl.NCCL_FLOAT32, "float64": self._nccl.NCCL_FLOAT64}
        return kinds[array.dtype.name]

    def all_to_all(self, sent: Array, received: Array) -> None:
        stream, kind = _stream(), self._kind(sent)
        self._nccl.groupStart()
        for other in range(self._size):
            self._comm.send(_address(sent[other]), sent[other].size, kind, other, stream)
            self._comm.recv(_address(received[other]), received[other].size, kind, other, stream)
        self._nccl.groupEnd()

    def all_gather(self, own: Array, received: Array) -> None:
        self._comm.allGather(_address(own), _address(received), own.size, self._kind(own), _stream())
