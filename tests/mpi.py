"""Ranks that are processes: scripts under mpiexec, where mpi4py is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpumlp

SECONDS = 120  # after which a run that hangs is killed


def run(size, script, *arguments):
    """Return what ``size`` ranks of a script gave, all of which have ended."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")  # where a wheel puts it
    command = [str(beside if beside.exists() else "mpiexec"), "-n", str(size), sys.executable, str(script)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = os.environ | {"PYTHONPATH": str(Path(gpumlp.__file__).parents[1]), "GPUMLP_THREADS": "1"}
    process = subprocess.Popen([*command, *arguments], env=env, text=True, **pipes)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpiexec ends its ranks
        out, err = process.communicate()
        raise AssertionError(f"{command} hangs: {out}{err}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
