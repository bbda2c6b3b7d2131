"""Contenders in processes of their own, which take turns on one workload."""

from __future__ import annotations

import json
import math
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
LOSS_TOLERANCE = 0.02  # relative, on a mean loss over a pass: float32 runs drift apart; another algorithm is far off
PATIENCE = 600.0  # seconds, for a start or a turn


class Worker:
    """A contender's process, on one workload of a suite (see suites.py), all by name.

    It starts at once; `ready` waits until it has its data and its model.
    """

    def __init__(self, suite: str, contender: str, workload: str) -> None:
        self.contender, self.workload = contender, workload
        command = [sys.executable, str(WORKER), suite, contender, workload]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._pending = b""

    def ready(self, patience: float = PATIENCE) -> None:
        """Wait for the start; RuntimeError where it fails."""
        self.answer(patience)

    def turn(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Ask for one turn; return its seconds, its loss and what else it tells. RuntimeError where it fails."""
        self.ask()
        return self.answer(patience)

    def ask(self) -> None:
        """Ask for one turn, and do not wait for it."""
        self.process.stdin.write(b"\n")  # type: ignore[union-attr]

    def answer(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Return the next line of answers; RuntimeError for a failure, an end, or none within the patience."""
        deadline = time.monotonic() + patience
        output = self.process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(deadline - time.monotonic(), 0.0)):
                    self.process.kill()
                    raise RuntimeError(f"no answer within {patience:.0f} s")
                part = output.read(1 << 16)
                if not part:
                    raise RuntimeError("its process ended without an answer; its own words stand above")
                self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def close(self, patience: float = 10.0) -> None:
        """End the process, by force where it takes longer than the patience."""
        try:
            self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def same_loss(value: float | None, other: float | None, tolerance: float = LOSS_TOLERANCE) -> bool:
    """Whether two losses are those of the same work; a contender that does not tell its loss is believed."""
    return value is None or other is None or math.isclose(value, other, rel_tol=tolerance)
