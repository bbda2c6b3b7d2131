"""Machine code on disk: what a compiler made once, for the GPU or the CPU, is there for the next process.

Whoever can write an entry can run code as the user that loads it. So the cache trusts nobody: what is loaded belongs to
this user or to root, alone, and is what was stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpumlp.errors import warn_once

HEAD = struct.Struct("<8sQ32s")  # what it is, the content's length, the digest of key and content
MAGIC = b"gpumlp\0\1"
LARGEST = 1 << 30  # bytes: no machine code of ours comes near
LEFT = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{16}\.tmp")  # files of writers, which a killed one leaves behind
OLD = 86_400  # seconds from which on such a file is nobody's: writing one takes a moment
NOWHERE = "no folder for caches is known (GPUMLP_CACHE, XDG_CACHE_HOME and the user's home name none)"
# Nothing is opened blindly: no link is followed, and a FIFO or a device is not waited for. (Windows has no such flags.)
NOT_BLINDLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class DiskCache:
    """Machine code by key, in files that are whole or ignored.

    Writers write beside the file and rename; readers look at a digest. So processes may share it, and a file that a
    crash or a full disk tore is made anew. Where ``folder`` (default: `default_folder`) cannot be trusted, or cannot be
    written, a folder of the user's own among the temporary files serves, and a warning says so, once. So a folder that
    root has filled for all is read, and what it lacks is kept in one's own. Where nothing can be written, everything
    works without a cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def path(self, key: str) -> Path:
        """Return where the entry for ``key`` should stand; OSError where there is no place for it."""
        if self.folder is None:
            raise OSError(NOWHERE)
        return self.folder / _name(digest(key))

    def get(self, key: str) -> bytes | None:
        """Return the entry, or None where there is none to be trusted, or not a whole one."""
        if why := self._problem():
            self._say(why, next(self._folders(), None))
        return self.peek(key)

    def peek(self, key: str) -> bytes | None:
        """Return what `get` returns, without a word."""
        for folder in self._folders():
            content = opened(key, _read(folder / _name(digest(key))))
            if content is not None:
                return content
        return None

    def put(self, key: str, content: bytes) -> bool:
        """Keep ``content``; return whether that could be done."""
        return self.keep(digest(key), sealed(key, content))

    def keep(self, of_key: bytes, entry: bytes) -> bool:
        """Keep what `sealed` made for the key of this digest; return whether that could be done."""
        why = self._problem()
        for folder in self._folders():
            try:
                _write(folder, _name(of_key), entry)
            except OSError as error:
                if _read(folder / _name(of_key)) != entry:  # not even kept by another process meanwhile
                    why = why or f"{folder} cannot be written ({error.strerror or error})"
                    continue
            if why:
                self._say(why, folder)
            return True
        self._say(why, None)
        return False

    def where(self) -> str:
        """Return, in words, where entries are kept."""
        return _where(self._problem(), next(self._folders(), None))

    def _problem(self) -> str:
        return NOWHERE if self.folder is None else refused(self.folder)

    def _folders(self) -> Iterator[Path]:
        """Yield the folders that may be used: the one that was asked for, the one among the temporary files."""
        for find in (lambda: self.folder, spare_folder):
            folder = find()
            if folder is not None and not refused(folder):
                yield folder

    def _say(self, why: str, folder: Path | None) -> None:
        where = _where(why, folder)
        warn_once(
            "compile cache",
            f"gpumlp keeps its compiled kernels {where}. Set GPUMLP_CACHE to a folder that only you can write.",
        )


def _where(why: str, folder: Path | None) -> str:
    place = "nowhere, so that every process compiles anew" if folder is None else f"in {folder}"
    return f"{place}: {why}" if why else place


# ---- entries ---------------------------------------------------------------------------------------------------------


def digest(key: str) -> bytes:
    """Return what stands for a key: entries are named by it, and travel under it, as keys are whole texts."""
    return hashlib.sha256(key.encode()).digest()


def _name(of_key: bytes) -> str:
    return of_key.hex()[:32] + ".bin"


def sealed(key: str, content: bytes) -> bytes:
    """Return ``content`` behind a head by which `opened` knows that it is whole and stands under its own key."""
    return _head(digest(key), content) + content


def opened(key: str, entry: bytes) -> bytes | None:
    """Return the content of what `sealed` made for this key; None for anything else."""
    return entry[HEAD.size :] if is_whole(digest(key), entry) else None


def is_whole(of_key: bytes, entry: bytes) -> bool:
    """Return whether an entry is what `sealed` made for the key of this digest."""
    return entry[: HEAD.size] == _head(of_key, memoryview(entry)[HEAD.size :])


def _head(of_key: bytes, content: bytes | memoryview) -> bytes:
    both = hashlib.sha256(of_key)
    both.update(content)
    return HEAD.pack(MAGIC, len(content), both.digest())


def _read(path: Path) -> bytes:
    """Return what is in a regular file of this user's or of root's; nothing where there is no such file."""
    try:
        file = os.open(path, os.O_RDONLY | NOT_BLINDLY)
    except OSError:
        return b""
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST or _foreign(info):
            return b""
        with open(file, "rb", closefd=False) as stream:
            return stream.read()
    except OSError:
        return b""
    finally:
        os.close(file)


def _write(folder: Path, name: str, data: bytes) -> None:
    """Put a file in its place, whole, whoever else writes it now; OSError where that cannot be, and nothing is left."""
    _make(folder)
    if why := refused(folder):  # in a folder open to all, somebody else may have made it just now
        raise PermissionError(why)
    _sweep(folder)
    path = folder / name
    temporary = path.with_suffix(f".{os.urandom(8).hex()}.tmp")
    try:
        # Others may read it: root fills a folder for all, and a user's own folder lets nobody in.
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOT_BLINDLY, 0o644)
        with open(file, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _make(folder: Path) -> None:
    """Make a folder for this user alone, and those above it that are missing (as XDG wants ~/.cache made)."""
    if not folder.is_dir():
        _make(folder.parent)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.mkdir(folder, 0o700)


def _sweep(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):  # somebody else removes it too
            if LEFT.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD:
                os.unlink(entry.path)


# ---- folders ---------------------------------------------------------------------------------------------------------


def default_folder() -> Path | None:
    """Return GPUMLP_CACHE, or gpumlp/ in the user's folder for caches; None for a user without a home.

    A ``~`` in GPUMLP_CACHE is somebody's home, and a relative one starts at the current directory. Variables of the
    system's that are relative are ignored, as the XDG base directory specification says.
    """
    windows = sys.platform == "win32"
    try:
        if own := os.environ.get("GPUMLP_CACHE"):
            return Path(own).expanduser().absolute()
        base = Path(os.environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME", ""))
        if not base.is_absolute():
            base = Path.home() / ("AppData/Local" if windows else ".cache")
        return base / "gpumlp" if base.is_absolute() else None
    except (RuntimeError, OSError):  # no such home, no current directory
        return None


def spare_folder() -> Path | None:
    """Return this user's folder among the temporary files; None where there are none."""
    import tempfile  # for those only who need it

    try:
        base = Path(tempfile.gettempdir())
    except OSError:
        return None
    return base / ("gpumlp" if os.name == "nt" else f"gpumlp-{os.geteuid()}")


def refused(folder: Path) -> str:
    """Return, in words, why what is in a folder cannot be trusted; "" where it can, and where it is not there as yet.

    Nobody else than this user and root may own it or write there. Nor may anybody else put another one in its place: so
    the same holds of the folders above it, though others may write in a sticky one (/tmp), where each can rename only
    what is theirs. As with ssh's StrictModes, looking begins at the home of a user whose it is in; and below a folder
    that lets nobody else in, only the folder itself is looked at. Links are followed: what they lead to is looked at.
    """
    if os.name == "nt":  # a user's folders are closed by lists of access rights, which Python does not show
        return ""
    try:
        if folder.is_symlink() and (why := _foreign(folder.lstat(), mode=0)):
            return f"{folder} {why}"
        end = Path(os.path.realpath(folder))
        for place in _above(end):
            info = place.stat()
            if why := _foreign(info, mode=0 if info.st_mode & stat.S_ISVTX else info.st_mode):
                return f"{place}, above {folder}, {why}"
            if info.st_uid == os.geteuid() and not info.st_mode & 0o077:
                break
        info = end.stat()
        why = _foreign(info) if stat.S_ISDIR(info.st_mode) else "is no folder"
        return why and f"{folder} {why}"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{folder} cannot be looked at ({error.strerror})"


def _above(folder: Path) -> list[Path]:
    """Return the folders above one, from the root of the file system or from the user's home on."""
    above = list(folder.parents)[::-1]
    with contextlib.suppress(RuntimeError):  # no home
        home = Path(os.path.realpath(Path.home()))
        if home in above:
            return above[above.index(home) :]
    return above


def _foreign(info: os.stat_result, mode: int | None = None) -> str:
    """Return, in words, in what a file or folder is not this user's or root's alone; "" where it is.

    A list of access rights shows as rights of the group. ``mode`` is looked at instead of the file's own.
    """
    if os.name == "nt":
        return ""
    mode = info.st_mode if mode is None else mode
    if info.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (number {info.st_uid})"
    if mode & 0o002 or (mode & 0o020 and not _of_one(info.st_gid)):
        return f"can be written by others (its mode is {stat.S_IMODE(mode):o})"
    return ""


def _of_one(group: int) -> bool:
    """Return whether a group has nobody in it but this user: many systems give everybody such a group, and let it write
    what they make."""
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return bool(user.pw_uid and user.pw_gid == group and found.gr_name == user.pw_name and {*found.gr_mem} <= {user[0]})


# ---- what an object file holds ---------------------------------------------------------------------------------------


def symbols(code: bytes) -> tuple[set[str], set[str]]:
    """Return the names that an object file defines for others, and those that it refers to and does not define.

    ELF (System V ABI, "Object Files") and Mach-O (mach-o/loader.h, mach-o/nlist.h), both of 64 bits and little-endian:
    what NVRTC makes, and what LLVM's engine loads, also on Windows. ValueError for anything else, and for a torn file.
    """
    try:
        if code.startswith(b"\x7fELF\2\1"):
            return _symbols_of_elf(code)
        if code.startswith(b"\xcf\xfa\xed\xfe"):
            return _symbols_of_macho(code)
    except (struct.error, IndexError) as error:
        raise ValueError(f"the object file is torn: {error}") from error
    raise ValueError("no object file whose symbols are known to be there")


def _symbols_of_elf(code: bytes) -> tuple[set[str], set[str]]:
    (start,), (size, count) = struct.unpack_from("<Q", code, 0x28), struct.unpack_from("<HH", code, 0x3A)
    sections = [struct.unpack_from("<IIQQQQII", code, start + i * size) for i in range(count)]
    found: tuple[set[str], set[str]] = set(), set()
    for _, kind, _, _, at, length, strings, _ in sections:
        if kind == 2:  # SHT_SYMTAB
            for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", code[at : at + length]):
                if name and (section == 0 or info >> 4):  # others are local
                    n = sections[strings][4] + name
                    found[section == 0].add(code[n : code.index(0, n)].decode())
    return found


def _symbols_of_macho(code: bytes) -> tuple[set[str], set[str]]:
    found: tuple[set[str], set[str]] = set(), set()
    at = 32
    for _ in range(*struct.unpack_from("<I", code, 16)):
        command, length, symbols, count, strings = struct.unpack_from("<5I", code, at)
        if command == 2:  # LC_SYMTAB
            for name, kind, _, _, _ in struct.iter_unpack("<IBBHQ", code[symbols : symbols + 16 * count]):
                if kind & 1 and not kind & 0xE0:  # external, and not for a debugger
                    n = strings + name
                    found[not kind & 0x0E].add(code[n : code.index(0, n)].decode().removeprefix("_"))
        at += max(length, 8)
    return found
