"""The Numba kernels, run in numba-cuda's simulator: no GPU is needed, and no other test sees that it was chosen."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import gpumlp.backends.numba_backend as numba_backend
from gpumlp.errors import DeviceUnavailable

HERE = Path(__file__).parent


def test_every_operation_in_the_simulator():
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.fail("the Numba kernels cannot be run: numba-cuda is missing. Install gpumlp with its extra [test].")
    # the simulator is chosen before numba is imported, for the whole process
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider"]
    checks = HERE / "numba_simulator.py"
    done = subprocess.run([*command, checks], cwd=HERE.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stdout[-8000:] + done.stderr[-2000:], pytrace=False)


@pytest.mark.parametrize("there", ["no Numba", "Numba alone"])
def test_without_numba_cuda_the_error_says_what_to_install(monkeypatch, there):
    alone = types.SimpleNamespace(cuda=types.SimpleNamespace(implementation="Built-in"))
    monkeypatch.setitem(sys.modules, "numba", alone if there == "Numba alone" else None)
    numba_backend.load_kernels.cache_clear()
    with pytest.raises(DeviceUnavailable, match=r"need numba-cuda.*gpumlp\[cuda12\]"):
        numba_backend.load_kernels()
