"""One contender in a process of its own: a line in asks for one turn, a line out gives its seconds and its loss.

``python worker.py CONTENDER WORKLOAD``; the first line out is "ready". Whatever the library prints goes to stderr.
"""

import json
import os
import sys
import time

from contenders import CONTENDERS
from workloads import STEPS


def main() -> None:
    """Serve turns until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    make, _ = CONTENDERS[sys.argv[1]]
    turn = make(STEPS[sys.argv[2]])
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = turn()
        print(json.dumps({"seconds": time.perf_counter() - began, "loss": loss}), file=answers, flush=True)


if __name__ == "__main__":
    main()
