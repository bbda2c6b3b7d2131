"""The Numba kernels, run in Numba's simulator: no GPU is needed, and no other test sees that it was chosen."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpumlp.backends.numba_backend as numba_backend
from gpumlp.errors import DeviceUnavailable

HERE = Path(__file__).parent


def test_every_operation_in_the_simulator():
    if importlib.util.find_spec("numba") is None:
        pytest.fail("the Numba kernels cannot be run: Numba is missing. Install gpumlp with its extra [test].")
    # the simulator is chosen before numba is imported, for the whole process
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider"]
    checks = HERE / "numba_simulator.py"
    done = subprocess.run([*command, checks], cwd=HERE.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stdout[-8000:] + done.stderr[-2000:], pytrace=False)


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    numba_backend.load_kernels.cache_clear()
    with pytest.raises(DeviceUnavailable, match=r"gpumlp\[cuda12\]"):
        numba_backend.load_kernels()
