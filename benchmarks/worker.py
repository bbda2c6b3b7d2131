"""One contender in a process of its own: a line in asks for one turn, a line out gives its seconds and its loss.

``python worker.py SUITE CONTENDER WORKLOAD``; the first line out is {"ready": true}. What a turn's ``told`` returns,
where it has one, is in the line too. A failure is a line, the last one: {"failed": why}. Whatever the library prints
goes to stderr.
"""

import json
import os
import sys
import time

from suites import SUITES


def main() -> None:
    """Serve turns until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**words: object) -> None:
        print(json.dumps(words), file=answers, flush=True)

    try:
        suite, contender, workload = sys.argv[1:]
        contenders, workloads = SUITES[suite]
        make, _ = contenders[contender]
        turn = make(workloads[workload])
        answer(ready=True)
        for _ in sys.stdin:
            began = time.perf_counter()
            loss = turn()
            seconds = time.perf_counter() - began
            answer(seconds=seconds, loss=loss, **getattr(turn, "told", dict)())
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
