"""Whether every one of Keras's own unit tests that gives something else has a reason in keras_differences.csv.

    python tests/keras_differences.py RESULTS

RESULTS is a file of JSON lines, one for each test that was run against gpumlp: "file", its path from keras/src, "test",
"class" ("differs", or "absent" where a name is missing; others count as right) and "why", what it said. A line of the
CSV is for the tests that match its ``file`` and ``test``, patterns, and have ``says`` in what they said. Printed are
tests without a reason, and reasons that no test needs any more; the exit status is 1 where there are any.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

LIST = Path(__file__).with_suffix(".csv")
Row = dict[str, str]


def reasons(path: Path = LIST) -> list[Row]:
    """Return the lines of the CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compared(results: Iterable[Row], known: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return which tests have no reason, and which reasons no test needs."""
    differing = [found for found in results if found["class"] in ("differs", "absent")]

    def fits(reason: Row, found: Row) -> bool:
        named = all(fnmatchcase(found[what], reason[what]) for what in ("file", "test"))
        return named and reason["says"] in found["why"]

    without = [found for found in differing if not any(fits(reason, found) for reason in known)]
    return without, [reason for reason in known if not any(fits(reason, found) for found in differing)]


def main(arguments: Sequence[str]) -> int:
    """Print what does not agree; see above."""
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    lines = Path(arguments[0]).read_text(encoding="utf-8").splitlines()
    without, idle = compared(map(json.loads, lines), reasons())
    for found in without:
        print(f"no reason: {found['file']}::{found['test']}: {found['why'][:120]!r}")
    for reason in idle:
        print(f"not needed: {reason['file']}, {reason['test']}: {reason['reason']}")
    return bool(without or idle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
