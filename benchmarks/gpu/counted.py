"""What counters.py looks at: one launch of each kernel that matters, at the size that matters.

Dense forward and backward of a wide layer, Adam over as many weights, and fits of the first two networks.
"""

from __future__ import annotations

from dataclasses import replace

import environment  # noqa: F401, its paths come before the package
import more_cases
from cases import dense_backward, dense_forward
from gpu_contenders import gpumlp_by
from workloads import ARTICLE, POLICY

from gpumlp import devices

WIDE = (8192, 4096, 4096)  # rows, inputs, outputs
STEPS = 32  # of a fit: what its first launch does


def main() -> None:
    """Launch each kernel."""
    import cupy

    ours = {"gpumlp": devices.resolve("cuda").backend()}
    for case in (dense_forward(ours, *WIDE), dense_backward(ours, *WIDE), more_cases.adam(ours, WIDE[1] * WIDE[2])):
        case.contenders["gpumlp"]().work()
        cupy.get_default_memory_pool().free_all_blocks()
    for workload in (ARTICLE, POLICY):
        print(gpumlp_by("auto")(replace(workload, steps=STEPS, epochs=1))())


if __name__ == "__main__":
    main()
