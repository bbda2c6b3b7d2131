"""The Numba kernels, in numba-cuda's simulator and to PTX: in processes of their own, and no GPU is needed."""

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


def compiled(*change):
    """Run numba_ptx.py; return how it ended, and what it said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    command = [sys.executable, str(HERE / "numba_ptx.py"), *change]
    done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stdout.strip())
    return done.returncode, done.stdout + done.stderr


def test_every_kernel_compiles_to_ptx_without_doubles():
    code, said = compiled()
    assert code == 0, said[-8000:]


def test_a_double_shows():
    code, said = compiled("ZERO, ONE = float32(0.0), float32(1.0)", "ZERO, ONE = float32(0.0), 1.0")
    assert code == 1 and "loss of" in said, said[-8000:]


@pytest.mark.parametrize("there", ["no Numba", "Numba alone"])
def test_without_numba_cuda_the_error_says_what_to_install(monkeypatch, there):
    alone = types.SimpleNamespace(cuda=types.SimpleNamespace(implementation="Built-in"))
    monkeypatch.setitem(sys.modules, "numba", alone if there == "Numba alone" else None)
    numba_backend.load_kernels.cache_clear()
    with pytest.raises(DeviceUnavailable, match=r"need numba-cuda.*gpumlp\[cuda12\]"):
        numba_backend.load_kernels()
