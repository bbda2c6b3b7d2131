"""A command with a time limit: its words as they come, kept also where it is ended; with it, all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path


def run(
    command: Sequence[str], seconds: float, log: Path | None = None, echo: bool = True, folder: Path | None = None
) -> tuple[int | None, str]:
    """Return the command's exit status, None where it was ended after ``seconds``, and what it said.

    Its words go to ``log`` too, line by line, and with ``echo`` to our own output.
    """
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    said: list[str] = []
    file = log.open("w", encoding="utf-8") if log else None

    def listen() -> None:
        for line in process.stdout or ():
            said.append(line)
            if file:
                file.write(line)
                file.flush()
            if echo:
                sys.stdout.write(line)
                sys.stdout.flush()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    status: int | None = None
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also on Ctrl-C
        try:
            os.killpg(process.pid, signal.SIGKILL)  # the group may outlive its leader
        except ProcessLookupError:
            pass
        process.wait()
        listener.join(5)
        if process.stdout and not listener.is_alive():
            process.stdout.close()
        if file:
            file.close()
    return status, "".join(said)
