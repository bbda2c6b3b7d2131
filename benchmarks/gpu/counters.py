"""What limits the kernels that matter, by Nsight Compute's counters of one launch of each (counted.py).

Exit status 0 also where the profiler cannot be used here, which is said.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import environment
import limited
import report

JOB = Path(__file__).with_name("counted.py")
LIMIT = 38.0  # seconds
KERNELS = "regex:^(fit|dense_forward|dense_backward|update)$"
COUNT = 5  # launches: of each kernel one, and of two fits
SECTIONS = (
    "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "LaunchStats", "Occupancy", "SchedulerStats",
    "WarpStateStats", "InstructionStats",
)  # fmt: skip


def main() -> int:
    """Profile; return the exit status."""
    report.need_gpu()
    path = shutil.which("ncu")
    if path is None:
        print("skipped: Nsight Compute (ncu) is not on this machine (it comes with the CUDA toolkit)", flush=True)
        return 0
    command = [path, "--kernel-name", KERNELS, "--launch-count", str(COUNT), "--clock-control", "none"]
    for section in SECTIONS:
        command += ["--section", section]
    status, output = limited.run([*command, sys.executable, str(JOB)], LIMIT, folder=environment.ROOT)
    if status is None:
        print(f"ended after {LIMIT:.0f} s", flush=True)
    return int(status not in (0, None) and "==ERROR==" not in output)


if __name__ == "__main__":
    sys.exit(main())
