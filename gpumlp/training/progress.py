"""The progress display: Keras's line, updated in place on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

WIDTH = 20
REFRESH_SECONDS = 0.1


def number(value: float) -> str:
    """Return a number as Keras shows it: four decimals, or scientific up to 1e-3."""
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def duration(seconds: float) -> str:
    """Return a time per step in a unit that suits it."""
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


def updates_in_place() -> bool:
    """Whether standard output can rewrite a line: a terminal, or a notebook's cell."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


class Progress:
    """The line of one epoch, one evaluation or one prediction.

    ``verbose`` 1 shows a bar while it runs, 2 one line when it is done. ``title`` stands on a line above.
    """

    def __init__(self, steps: int, verbose: int, title: str = "") -> None:
        self._steps, self._verbose = steps, verbose
        self._live = verbose == 1 and updates_in_place()
        self._began = self._shown = time.perf_counter()
        self._length = 0
        if title:
            print(title, flush=self._live)

    def update(self, done: int, logs: dict[str, float]) -> None:
        """Show ``done`` steps, unless the last line is fresh."""
        now = time.perf_counter()
        if self._live and now - self._shown >= REFRESH_SECONDS:
            self._shown = now
            self._write(self._line(done, logs, (now - self._began) / done * (self._steps - done)), "")

    def finish(self, done: int, logs: dict[str, float]) -> None:
        """Show the finished epoch."""
        self._write(self._line(done, logs, time.perf_counter() - self._began), "\n")

    def _line(self, done: int, logs: dict[str, float], seconds: float) -> str:
        per_step = (time.perf_counter() - self._began) / max(done, 1)
        values = "".join(f" - {name}: {number(value)}" for name, value in logs.items())
        if self._verbose == 2:
            return f"{done}/{self._steps} - {seconds:.0f}s - {duration(per_step)}/step{values}"
        full = WIDTH * min(done, self._steps) // self._steps
        bar = "━" * full + ("╺" + "─" * (WIDTH - full - 1) if full < WIDTH else "")
        if not _can_print(bar):
            bar = "=" * full + "-" * (WIDTH - full)
        return f"{done:>{len(str(self._steps))}}/{self._steps} {bar} {seconds:.0f}s {duration(per_step)}/step{values}"

    def _write(self, line: str, end: str) -> None:
        if self._live:
            if not end:  # a line that wraps could not be rewritten
                line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self._length), end=end, flush=True)
            self._length = len(line)
        else:
            print(line, end=end)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
