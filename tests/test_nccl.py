"""NCCL's Communicator, over a stand-in for NCCL: what it carries is what the protocol says."""

import ctypes
import sys
import threading
import types

import numpy as np
import pytest
from ranks import over

from gpumlp.distributed import nccl
from gpumlp.errors import DeviceUnavailable


class DeviceArray(np.ndarray):
    """NumPy's memory that says where it is as CuPy's does."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)


def device(array):
    return np.ascontiguousarray(array).view(DeviceArray)


class FakeNccl:
    """NCCL as CuPy has it, over the threads of `ranks.over`, and as nccl4py has it."""

    available, NCCL_FLOAT32, NCCL_FLOAT64 = True, 7, 8

    def __init__(self):
        self.ranks, self.grouped = {}, {}

    def get_unique_id(self):
        return "one"

    def groupStart(self):
        self.grouped[_thread()] = []

    def groupEnd(self):
        calls = self.grouped.pop(_thread())
        comm = calls[0][1]
        for kind, other in (("send", "recv"), ("recv", "send")):
            assert [c[4] for c in calls if c[0] == kind] == list(range(comm.size)), f"no {other} for each {kind}"
        texts = [ctypes.string_at(c[2], c[3]) for c in calls if c[0] == "send"]
        for (_, _, place, count, other), own in zip(
            [c for c in calls if c[0] == "recv"], comm.gather(texts), strict=True
        ):
            assert len(own[comm.rank]) == count, other
            ctypes.memmove(place, own[comm.rank], count)

    def NcclCommunicator(self, size, name, rank):
        assert name == "one"
        fake, comm = self, self.ranks[rank]
        assert (comm.size, comm.rank) == (size, rank)
        width = {self.NCCL_FLOAT32: 4, self.NCCL_FLOAT64: 8}

        def noted(what):
            def note(place, count, kind, other, stream):
                assert stream == 77
                fake.grouped[_thread()].append((what, comm, place, count * width[kind], other))

            return note

        def all_gather(own, received, count, kind, stream):
            assert stream == 77
            size = count * width[kind]
            for r, text in enumerate(comm.gather(ctypes.string_at(own, size))):
                ctypes.memmove(received + r * size, text, size)

        return types.SimpleNamespace(send=noted("send"), recv=noted("recv"), allGather=all_gather)

    def core(self):
        """Return nccl.core."""

        def init(size, rank, name):
            assert name == "one"
            comm = self.ranks[rank]
            return types.SimpleNamespace(
                alltoall=lambda sent, received, stream: comm.all_to_all(sent, received),
                allgather=lambda own, received, stream: comm.all_gather(own, received),
            )

        return types.SimpleNamespace(get_unique_id=self.get_unique_id, Communicator=types.SimpleNamespace(init=init))


def _thread():
    return threading.get_ident()


@pytest.fixture
def fake(monkeypatch):
    found = FakeNccl()
    stream = types.SimpleNamespace(ptr=77)
    cuda = types.SimpleNamespace(nccl=found, get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by", ["nccl4py", "CuPy"])
def test_nccl_carries_what_the_protocol_says(fake, monkeypatch, by, dtype):
    monkeypatch.setitem(sys.modules, "nccl", types.SimpleNamespace(core=fake.core()) if by == "nccl4py" else None)
    sent = np.random.default_rng(1).normal(size=(4, 4, 5)).astype(dtype)

    def work(host):
        fake.ranks[host.rank] = host
        comm = nccl.NCCL(host)
        received, whole = device(np.full((4, 5), np.nan, dtype)), device(np.full((4, 5), np.nan, dtype))
        comm.all_to_all(device(sent[comm.rank]), received)
        comm.all_gather(device(sent[comm.rank, 0]), whole)
        assert comm.gather(comm.rank) == [0, 1, 2, 3] and repr(comm) == f"<NCCL: rank {comm.rank} of 4>"
        return type(comm._library).__name__, np.array(received), np.array(whole)

    for rank, (library, received, whole) in enumerate(over(4, work)):
        assert library == {"nccl4py": "Nccl4py", "CuPy": "CupyNccl"}[by]
        np.testing.assert_array_equal(received, sent[:, rank])
        np.testing.assert_array_equal(whole, sent[:, 0])


def test_without_nccl_it_says_what_to_install(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "nccl", None)
    fake.available = False
    with pytest.raises(DeviceUnavailable, match="pip install nccl4py nvidia-nccl-cu13"):
        over(1, nccl.NCCL)
