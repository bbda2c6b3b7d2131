"""Whole jobs as a user gets them: a fresh process each, nothing cached, from before ``compile`` to the end of ``fit``.

Contenders are in environments of their own, each set up by `make`: gpumlp is installed without extras, the peers as the
newest that there are for this Python and for the newest one. They take turns, job after job; one that takes more than
`HOPELESS` times the fastest peer's time in the first round gets no other, and one that spent a job's nominal time on a
job a tenth as long is left out. The longest jobs are for gpumlp and the two peers that were the fastest in those.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import holding
import rows
from turns import same_loss
from workloads import JOBS, LENGTHS

HERE = Path(__file__).parent
OURS, NUMPY = "gpumlp", "gpumlp, NumPy"
HOPELESS = 3.0
LONGEST = LENGTHS[-1]
ROUNDS = dict(zip(LENGTHS, (7, 3, 2), strict=True))  # at most
PATIENCE = 600.0  # seconds, for a job with all that its process does before
PAUSE = 0.2  # seconds between jobs
UNITS = ("s", "s of processors")
# Variables of these names would change what a job does; the last one has Python compile gpumlp each time.
LEFT_OUT = ("GPUMLP_", "NUMBA_", "JAX_", "XLA_", "KERAS_", "TORCH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Contender:
    """Who does a job: one of job.py's ``trainer``, in a virtual ``environment``, with ``variables`` of its own."""

    trainer: str
    environment: str
    variables: dict[str, str] = field(default_factory=dict)

    def python(self) -> Path:
        """Return its Python, which may not be there."""
        return HERE.parent / self.environment / "bin" / "python"


def _peers(environment: str, suffix: str) -> dict[str, Contender]:
    names = {
        "JAX, lax.scan": "jax", "PyTorch, fused Adam": "torch", "PyTorch, compiled step": "torch.compile",
        "Keras on JAX": "keras", "scikit-learn": "scikit-learn",
    }  # fmt: skip
    return {name + suffix: Contender(trainer, environment) for name, trainer in names.items()}


CONTENDERS = {
    OURS: Contender("gpumlp", ".venv-user"),
    NUMPY: Contender("gpumlp", ".venv-user", {"GPUMLP_KERNELS": "numpy"}),
    **_peers(".venv-bench", ""),
    **_peers(".venv-bench-newest", ", newest Python"),
    # beside the others, and not among those that gpumlp is compared to: see rows.peers
    "JAX without YNNPACK": Contender("jax", ".venv-bench", {"XLA_FLAGS": holding.NO_YNNPACK}),
    "JAX 0.6.2, no thunks": Contender("jax", ".venv-bench-jax", {"XLA_FLAGS": "--xla_cpu_use_thunk_runtime=false"}),
}


def here() -> dict[str, Contender]:
    """Return the contenders that are installed, and say who is not, and why."""
    found, missing = {}, []
    for name, contender in CONTENDERS.items():
        needs = {"scikit-learn": "sklearn", "torch.compile": "torch"}.get(contender.trainer, contender.trainer)
        python = contender.python()
        if not python.exists() or subprocess.run([python, "-c", look_for(needs)], cwd="/").returncode:
            missing.append(f"{name} ({contender.environment})")
        elif contender.trainer == "torch.compile" and not shutil.which(os.environ.get("CXX", "g++")):
            missing.append(f"{name} (no C++ compiler)")
        else:
            found[name] = contender
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}", flush=True)
    if OURS not in found:
        raise SystemExit("gpumlp is not installed as a user installs it: make .venv-user/.ready")
    return found


def look_for(package: str) -> str:
    """Return a program that fails where there is no such package."""
    return f"import sys, importlib.util as u; sys.exit(u.find_spec({package!r}) is None)"


def run(contender: Contender, workload: str, epochs: int, launcher: Sequence[str] = ()) -> dict[str, Any]:
    """Do a job; return what job.py tells. RuntimeError where it fails.

    ``launcher``: a command that starts the process, as ``taskset -c 0``.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    variables = {**inherited, **holding.variables()}
    for name, value in contender.variables.items():
        variables[name] = f"{variables[name]} {value}" if name == "XLA_FLAGS" and name in variables else value
    python, program = str(contender.python()), str(HERE / "job.py")
    with tempfile.TemporaryDirectory() as folder:
        empty = {"GPUMLP_CACHE": f"{folder}/gpumlp", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        time.sleep(PAUSE)
        done = subprocess.run(
            [*launcher, python, program, contender.trainer, workload, str(epochs)], cwd=folder, timeout=PATIENCE,
            env={**variables, **empty}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the job failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def title(workload: str, length: float, instructions: str) -> str:
    """Return a row's name of a job: the workload, its nominal seconds, and its steps."""
    job = JOBS[workload]
    steps = job.epochs[instructions][LENGTHS.index(length)] * job.workload.steps
    return f"{workload}: {length:g} s, {steps} steps"


def measure(
    workload: str, length: float, rounds: int, known: Sequence[rows.Row], launcher: Sequence[str] = ()
) -> list[rows.Row]:
    """Measure one job in turns; ``known`` has the rows of shorter ones, by which the longest choose their peers."""
    instructions = holding.instructions()
    epochs = JOBS[workload].epochs[instructions][LENGTHS.index(length)]
    who = here()
    if length == LONGEST:
        who = {name: who[name] for name in (OURS, *fastest(workload, instructions, known))}
    elif length > LENGTHS[0]:
        before = title(workload, LENGTHS[LENGTHS.index(length) - 1], instructions), instructions, UNITS[0]
        slow = {r.contender for r in known if (r.workload, r.instructions, r.unit) == before and r.median > length}
        who = {name: contender for name, contender in who.items() if name not in slow}
    told: dict[str, list[dict[str, Any]]] = {}
    for number in range(min(rounds, ROUNDS[length])):
        for name, contender in list(who.items()):
            try:
                job = run(contender, workload, epochs, launcher)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                if name == OURS:
                    raise
                told.pop(name, None)
                del who[name]
                print(f"{name}: left out: {error}", flush=True)
                continue
            told.setdefault(name, []).append(job)
            verify(workload, name, job["losses"], told[OURS][0]["losses"])
        if not number:
            who = {name: contender for name, contender in who.items() if name in hopeful(told)}
    return made(title(workload, length, instructions), told)


def fastest(workload: str, instructions: str, known: Sequence[rows.Row]) -> list[str]:
    """Return the two peers that were the fastest in jobs a tenth as long as the longest."""
    before = title(workload, LENGTHS[-2], instructions)
    found = [r for r in known if (r.workload, r.instructions, r.unit) == (before, instructions, UNITS[0])]
    names = [r.contender for r in rows.peers(found)][:2]
    if not names:
        raise SystemExit(f"{before!r} has no rows for {instructions}: measure it before what is ten times as long.")
    return names


def hopeful(told: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Return who goes on after the first round: ours, and who is not too far behind the fastest peer."""
    seconds = {name: jobs[0]["seconds"] for name, jobs in told.items()}
    best = min((s for name, s in seconds.items() if name not in (OURS, NUMPY)), default=math.inf)
    return {name for name, s in seconds.items() if name in (OURS, NUMPY) or s <= HOPELESS * best}


def verify(workload: str, name: str, losses: list[float] | None, ours: list[float]) -> None:
    """Raise RuntimeError unless a contender that tells its losses had ours in the first epoch, and a number at last."""
    if losses and not (same_loss(losses[0], ours[0]) and math.isfinite(losses[1])):
        raise RuntimeError(f"{workload}: {name} has the losses {losses}, {OURS} {ours}: not the same work.")


def made(workload: str, told: dict[str, list[dict[str, Any]]]) -> list[rows.Row]:
    """Return the rows of what the jobs told: times, and times of processors."""
    out = []
    for key, unit in zip(("seconds", "processors"), UNITS, strict=True):
        for name, jobs in told.items():
            ours = [job[key] for job in told[OURS][: len(jobs)]]
            r = rows.row("jobs", workload, name, unit, [job[key] for job in jobs], ours, ())
            out.append(replace(r, versions=jobs[0]["versions"]))
    return out
