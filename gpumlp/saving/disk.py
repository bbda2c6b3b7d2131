"""Files as a whole: one that is written is there, or the one before it is; one that is read is an ordinary file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

PathLike: TypeAlias = str | os.PathLike[str]


def path_of(value: object) -> Path:
    """Return a path, a leading ~ expanded; TypeError for what is none, ValueError for an empty or impossible one."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"A file is named by a string or a path; got {value!r} of type {type(value).__name__}.")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"A file is named by a string that is not empty; got {value!r}.")
    return Path(text).expanduser()


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Write bytes to a file that takes the place of ``path`` at once, when all of it is on the disk.

    Whatever happens before, a kill or a full disk too, leaves what stood there. The link's own file is replaced where
    ``path`` is a symbolic link, and its permissions are kept.

    Raises
    ------
    OSError
        Where the disk is full, or the folder is not there or not writable.
    ValueError
        Where something else than a file has that name, such as a device.
    """
    given, path = str(path), Path(os.path.realpath(path))
    if not os.path.lexists(path.parent):
        raise FileNotFoundError(
            errno.ENOENT, "The folder of the file does not exist: make it first, or name another", given
        )
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = _ordinary(path, os.stat(path))
    beside = path.with_name(f".{path.name[:200]}.{os.urandom(8).hex()}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.chmod(beside, mode)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        if isinstance(error, OSError):
            error.filename = given
            error.add_note(f"{path} was not written; what stood there is what it was.")
        raise
    if hasattr(os, "O_DIRECTORY"):  # a folder is synced so where it can be opened at all
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path) -> bytes:
    """Return what is in a file; OSError where it cannot be read, ValueError where it is no file, such as a pipe."""
    _ordinary(path, os.stat(path))
    return path.read_bytes()


def _ordinary(path: Path, found: os.stat_result) -> int:
    """Return the permissions of an ordinary file."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path} is a folder; a file is expected.")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no ordinary file (a device or a pipe); a file is expected.")
    return stat.S_IMODE(found.st_mode)
