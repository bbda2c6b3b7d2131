"""Many models trained at once on this GPU: gpumlp's Ensemble beside JAX and PyTorch. See contest.py."""

from __future__ import annotations

import sys

import environment  # noqa: F401, its paths and settings come before the libraries
import report
from contest import Contest, each_its_part, verdict
from report import Report
from workloads import GPU_ENSEMBLES, Workload

LIMIT = 90.0  # seconds for all; each workload may take its part of what is left
ENSEMBLES = Contest("gpu ensemble", "us per step of one model", 1e6, lambda w: w.members * w.steps * w.epochs)


def main() -> int:
    """Measure every workload, within the time; return the exit status."""
    chosen = report.arguments(__doc__, LIMIT)
    report.need_gpu()
    out = Report(chosen.output, "ensemble")

    def measure(workload: Workload, seconds: float) -> None:
        ENSEMBLES.measure(workload, out, seconds)

    each_its_part(list(GPU_ENSEMBLES.values()), out, chosen.seconds, ENSEMBLES.unit, measure)
    return verdict(out)


if __name__ == "__main__":
    sys.exit(main())
