"""Runs each script here whose engine is installed, and says in a line how it went: python examples/cluster."""

import importlib.util
import subprocess
import sys
from pathlib import Path

SECONDS = 120  # after which one that hangs is ended
MPI = str(Path(sys.executable).with_name("mpiexec"))  # where a wheel puts it
MPIEXEC = MPI if Path(MPI).exists() else "mpiexec"
ENGINES = {  # scripts, with what they need, and how they begin
    "processes": (None, [sys.executable]),
    "loky_processes": ("loky", [sys.executable]),
    "dask_workers": ("distributed", [sys.executable]),
    "ray_pool": ("ray", [sys.executable]),
    "mpi_ranks": ("mpi4py", [MPIEXEC, "-n", "4", sys.executable, "-m", "mpi4py.futures"]),
    "one_model": ("mpi4py", [MPIEXEC, "-n", "2", sys.executable]),
}


def told(name: str, needs: str | None, begin: list[str]) -> tuple[bool, str]:
    """Return whether a script has failed, and how it went."""
    if needs is not None and importlib.util.find_spec(needs) is None:
        return False, f"not run: {needs} is not installed"
    command = [*begin, str(Path(__file__).with_name(f"{name}.py"))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (subprocess.TimeoutExpired, FileNotFoundError) as error:
        return True, f"failed: {error}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [""]
    if done.returncode:
        return True, f"failed ({done.returncode}): {lines[-1]}"
    return False, next((line for line in lines if "trained by" in line), lines[-1])


if __name__ == "__main__":
    failed = 0
    for name, (needs, begin) in ENGINES.items():
        wrong, words = told(name, needs, begin)
        failed += wrong
        print(f"{name:<16} {words}", flush=True)
    sys.exit(failed > 0)
