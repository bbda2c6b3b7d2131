"""Machine code that travels: entries of the cache in one file, made where there is a compiler and taken over by an act.

A ZIP file with entries as `gpumlp.backends.disk_cache` seals them, each named by its key's digest, which is no path
and leads to none. Its comment says what it is, and what the code was made for. Whoever imports a file trusts whoever
made it: the digests tell a whole file from a torn one, not a friend from a foe.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from gpumlp.backends.disk_cache import digest, is_whole, sealed

LARGEST = 1 << 28  # bytes of all entries: what `make gpu-cache` makes has some 20 MB
KIND = re.compile(r"gpumlp machine code for ([ -~]{1,200}): (\d+) entries\n")  # the end is there to be missed
NAME = re.compile(r"[0-9a-f]{64}")
# What zipfile raises for files that are none, or not whole: of kinds and versions that it does not know, RuntimeError.
TORN = (ValueError, OSError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)
TIME = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same code makes the same file


def write(path: Path, made_for: str, codes: Iterable[tuple[str, bytes]]) -> None:
    """Write the (key, machine code) pairs; ``made_for``, which compiler and GPU, is for whoever reads it."""
    found = sorted(codes)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = f"gpumlp machine code for {made_for}: {len(found)} entries\n".encode()
        for key, content in found:
            archive.writestr(zipfile.ZipInfo(digest(key).hex(), TIME), sealed(key, content), zipfile.ZIP_DEFLATED)


def read(path: Path) -> tuple[str, dict[bytes, bytes]]:
    """Return what an archive was made for, and its entries by their keys' digests, all of them whole.

    ValueError, with what was found, for everything else.
    """
    try:
        if not path.is_file():  # a device might go on for ever
            raise ValueError("there is no such file")
        with zipfile.ZipFile(path) as archive:
            kind = KIND.fullmatch(archive.comment.decode(errors="replace"))
            if kind is None:
                raise ValueError(f"its comment is {archive.comment[:80]!r}, where {KIND.pattern!r} is expected")
            for info in archive.infolist():
                _look_at(info)
            if len(archive.infolist()) != int(kind[2]) or not int(kind[2]):
                raise ValueError(f"it has {len(archive.infolist())} entries, where {kind[2]} are expected")
            if (size := sum(info.file_size for info in archive.infolist())) > LARGEST:
                raise ValueError(f"its entries have {size:,} bytes together, where at most {LARGEST:,} are expected")
            return kind[1], {bytes.fromhex(info.filename): _entry(archive, info) for info in archive.infolist()}
    except TORN as error:
        raise ValueError(
            f"{path} is no whole archive of gpumlp's machine code: {error}. Nothing was imported. "
            "Make it with `make gpu-cache`, and copy it as binary."
        ) from error


def _look_at(info: zipfile.ZipInfo) -> None:
    """Raise ValueError for a member that `write` does not make, before anything of it is read."""
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    if not NAME.fullmatch(name):
        raise ValueError(f"a member is named {name[:80]!r}, where 64 hexadecimal digits are expected")
    if kind not in (0, stat.S_IFREG) or info.flag_bits & 1 or info.compress_type != zipfile.ZIP_DEFLATED:
        raise ValueError(f"member {name} is not a plain compressed file (mode {info.external_attr >> 16:o})")


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member, of which no more is unpacked than it says to have; ValueError where it is not a whole entry."""
    with archive.open(info) as member:
        entry = member.read(info.file_size)
        if len(entry) != info.file_size or member.read(1) or not is_whole(bytes.fromhex(info.filename), entry):
            raise ValueError(f"member {info.filename} is not what was sealed under that digest")
    return entry
