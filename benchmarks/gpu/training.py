"""Training on this GPU, gpumlp beside PyTorch, JAX and Keras: steps of whole networks, and a short fit as it is called.

gpumlp takes part in all its ways: as it chooses, by the whole-fit kernel with either exchange, and by graphs. Beside
what was measured of it stands what its model of a GPU (gpumlp/engine/cost.py) predicts. The networks that count
most, and the hardest opponents, come first: what does not fit into the time is left out. See contest.py.
"""

from __future__ import annotations

import sys

import environment  # noqa: F401, its paths and settings come before the libraries
import report
from contest import FIRST, Contest, each_its_part, verdict
from gpu_compiled import BESIDE
from report import Report
from workloads import GPU_COMPILED, GPU_FITS, GPU_STEPS, Workload

LIMIT = 170.0  # seconds for all; each workload may take its part of what is left
STEPS = Contest("gpu step", "us per step", 1e6, lambda w: w.steps * w.epochs)
COMPILED = Contest("gpu compiled", STEPS.unit, STEPS.scale, STEPS.parts, BESIDE)
FITS = Contest("gpu fit", "ms", 1e3, lambda w: 1)


def main() -> int:
    """Measure every workload, within the time; return the exit status."""
    chosen = report.arguments(__doc__, LIMIT)
    report.need_gpu()
    out = Report(chosen.output, "training")

    def measure(workload: Workload, seconds: float) -> None:
        if workload.name in GPU_FITS:
            FITS.measure(workload, out, seconds)
        elif workload.name in GPU_COMPILED:
            COMPILED.measure(workload, out, seconds, patience=max(seconds, FIRST))
        else:
            STEPS.measure(workload, out, seconds)

    article, policy, *others = GPU_STEPS.values()
    hardest = GPU_COMPILED.values()  # of the first two
    each_its_part([article, policy, *hardest, *GPU_FITS.values(), *others], out, chosen.seconds, STEPS.unit, measure)
    return verdict(out)


if __name__ == "__main__":
    sys.exit(main())
