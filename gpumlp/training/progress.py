"""What is shown: text on whatever standard output is, and the progress display on it.

The display is Keras's line, updated in place on a terminal or in a notebook; elsewhere it is one line for each epoch,
written out at once.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from gpumlp import config

WIDTH = 20
REFRESH_SECONDS = 0.1
PLAIN = str.maketrans("━╺─┃│┏┳┓┡╇┩├┼┤└┴┘", "=--||++++++++++++")  # what stands for lines and boxes in ASCII


def say(text: str, end: str = "\n") -> None:
    """Write ``text`` to standard output, as it is at this moment, and out of its buffers.

    Where the encoding lacks lines and boxes they become ASCII, and where it lacks letters too those become "?". Any
    object with a ``write`` will do, and None takes nothing, as under pythonw. Raises what writing raises. Where
    interactive logging is disabled the text goes to the logger "gpumlp".
    """
    if not config.is_interactive_logging_enabled():
        import logging  # which takes 2 ms

        logging.getLogger("gpumlp").info(text)
        return
    stream = sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    plain = text.translate(PLAIN)
    for written in (text, plain, plain.encode("ascii", "replace").decode()):  # all of one length: tables stay tables
        try:
            written.encode(encoding)  # a stream that puts "?" for what it lacks would not say so
            stream.write(written + end)
            break
        except UnicodeEncodeError:  # also out of an object that says nothing of the encoding beneath it
            continue
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()


def number(value: Any) -> str:
    """Return a number as Keras shows it: four decimals, or scientific up to 1e-3; of an array each of them."""
    if getattr(value, "ndim", 0):
        return f"[{', '.join(map(number, value))}]"
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


def duration(seconds: float) -> str:
    """Return a time per step in a unit that suits it."""
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


def updates_in_place() -> bool:
    """Whether standard output can rewrite a line: a terminal, or a notebook's cell."""
    try:
        return config.is_interactive_logging_enabled() and ("ipykernel" in sys.modules or sys.stdout.isatty())
    except (AttributeError, ValueError):  # no stream at all, one that has only what print needs, or a closed one
        return False


class Progress:
    """The line of one epoch, one evaluation or one prediction.

    ``verbose`` 1 shows a bar while it runs, 2 one line when it is done; where ``steps`` is None, and nobody knows them,
    the bar comes when it is done. ``title`` stands on a line above, ``unit`` is what a step is called. What cannot be
    written is not shown: a full disk or a reader that has gone must not cost the training.
    """

    def __init__(self, steps: int | None, verbose: int, title: str = "", unit: str = "step") -> None:
        self._steps, self._verbose, self._unit = steps, verbose, unit
        self._began = self._shown = time.perf_counter()
        self._length = 0
        self._lost = False
        if title:
            self._say(title)

    def update(self, done: int, logs: dict[str, float]) -> None:
        """Show ``done`` steps, unless the last line is fresh."""
        now = time.perf_counter()
        if self._verbose != 1 or now - self._shown < REFRESH_SECONDS or not updates_in_place():
            return
        self._shown = now
        seconds = now - self._began
        room = (shutil.get_terminal_size().columns or 80) - 1
        left = seconds if self._steps is None else seconds / done * (self._steps - done)
        line = self._line(done, logs, left, room)[:room]  # a line that wraps could not be rewritten
        self._say("\r" + line.ljust(self._length), "")
        self._length = len(line)

    def finish(self, done: int, logs: dict[str, float]) -> None:
        """Show the finished epoch."""
        self._steps = self._steps or done
        line = self._line(done, logs, time.perf_counter() - self._began)
        self._say("\r" + line.ljust(self._length) if self._verbose == 1 and updates_in_place() else line)

    def _line(self, done: int, logs: dict[str, float], seconds: float, room: int = sys.maxsize) -> str:
        """Return a line whose bar is as short as the room for it, if need be."""
        per_step = duration((time.perf_counter() - self._began) / max(done, 1))
        values = f"{per_step}/{self._unit}" + "".join(f" - {name}: {number(value)}" for name, value in logs.items())
        if self._steps is None:
            return f"{done:>7}/Unknown {seconds:.0f}s {values}"
        count = f"{done:>{len(str(self._steps))}}/{self._steps}"
        if self._verbose == 2:
            return f"{count} - {seconds:.0f}s - {values}"
        rest = f"{seconds:.0f}s {values}"
        width = min(WIDTH, max(room - len(count) - len(rest) - 2, 0))
        full = width * min(done, self._steps) // max(self._steps, 1)
        bar = "━" * full + ("╺" + "─" * (width - full - 1) if full < width else "")
        return f"{count} {bar} {rest}" if bar else f"{count} {rest}"

    def _say(self, text: str, end: str = "\n") -> None:
        if self._lost:
            return
        try:
            say(text, end)
        except Exception:  # whatever a stream of anybody's raises; the next epoch tries again
            self._lost = True
