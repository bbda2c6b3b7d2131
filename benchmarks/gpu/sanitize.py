"""compute-sanitizer over whole fits and small cases of ``python -m gpumlp check``: out-of-bounds accesses, and races.

Exit status 1 where a tool found something or did not finish; 0 where all is well or the tool cannot be used here, which
is said.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import environment
import limited
import report

TOOLS = ("memcheck", "racecheck")  # racecheck looks at shared memory, and barriers that lack
LIMIT = 35.0  # seconds, for each
JOB = Path(__file__).with_name("sanitized.py")
FOUND = 99  # the exit status that we ask for where something is found
VERDICT = re.compile(r"(ERROR SUMMARY|RACECHECK SUMMARY):.*")
UNUSABLE = re.compile(r"Device not supported|Internal Sanitizer Error|Unable to find injection library", re.I)
PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin")


def installed() -> str | None:
    """Return compute-sanitizer's path, None where it is not here."""
    return shutil.which("compute-sanitizer") or next(
        (str(p) for folder in PLACES if (p := Path(folder, "compute-sanitizer")).exists()), None
    )


def verdict(status: int | None, output: str) -> tuple[str, bool]:
    """Return the verdict in words, and whether it may pass, from a tool's exit status (None: ended) and its words."""
    if unusable := UNUSABLE.search(output):
        return f"skipped: {unusable.group(0)}", True
    if status is None:
        return f"no verdict within {LIMIT:.0f} s", False
    if summary := VERDICT.search(output):
        return f"{summary.group(0)}; exit status {status}", status == 0
    return f"no verdict, exit status {status}: {report.first_line(output)}", False


def run(path: str, name: str) -> tuple[str, bool]:
    """Run one tool; return its verdict and whether it may pass."""
    # cuda.bindings asks the driver for names that it may not have: an error of the API that is none of ours
    command = [path, "--tool", name, "--report-api-errors", "no", "--error-exitcode", str(FOUND), "--print-limit", "10"]
    command += [sys.executable, str(JOB)]
    status, output = limited.run(command, LIMIT, echo=False, folder=environment.ROOT)
    words, passed = verdict(status, output)
    if not passed:
        print(output[-8000:], flush=True)
    return words, passed


def main() -> int:
    """Run the tools; return the exit status."""
    report.need_gpu()
    path = installed()
    if path is None:
        print("skipped: compute-sanitizer is not on this machine (it comes with the CUDA toolkit)", flush=True)
        return 0
    results = []
    for name in TOOLS:
        words, passed = run(path, name)
        print(f"{name}: {words}", flush=True)
        results.append(passed)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
