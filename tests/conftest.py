"""Fixtures: a GPU to run on, which is host execution here and the real one under the marker ``gpu``."""

import pytest
from host.runtime import HostRuntime

from gpumlp import devices


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def runtime(request):
    """A runtime for the package's CUDA C++ kernels."""
    if request.param == "host":
        return HostRuntime()
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
