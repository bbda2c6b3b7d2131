"""A ``.keras`` file: a zip of metadata.json, config.json and model.weights.h5."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

FLOOR, EXPANSION = 1 << 24, 100  # bytes of an entry that may be compressed at will; beyond: how much, at most
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def pack(entries: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a zip of these entries, as Keras writes them: not compressed."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return data.getvalue()


def unpack(data: bytes, what: str) -> dict[str, bytes]:
    """Return the entries of a ``.keras`` file; those that other libraries may have beside them are left out.

    ValueError, naming ``what`` it is, where it is no zip or not whole, and for what no such file has: entries that are
    there twice, that lead out of a folder, or that are larger than their bytes would fill.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"{what} has an entry that is there twice: {max(names, key=names.count)!r}.")
            for entry in entries:
                _check(entry, what)
            if CONFIG not in names:
                raise ValueError(f"{what} is no .keras file: it has no {CONFIG}, but {', '.join(names[:5])!r}.")
            wanted = [name for name in (CONFIG, METADATA, WEIGHTS) if name in names]
            return {name: archive.read(name) for name in wanted}  # looks at the checksums
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, IndexError) as error:
        raise ValueError(f"{what} is no whole .keras file, which is a zip: {str(error)[:200]}.") from None


def _check(entry: zipfile.ZipInfo, what: str) -> None:
    name = entry.filename
    if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
        raise ValueError(f"{what} has an entry {name!r}, which leads out of it: it is no .keras file.")
    if entry.file_size > max(FLOOR, EXPANSION * entry.compress_size):
        raise ValueError(
            f"{what} declares {entry.file_size} bytes for {name!r} and has {entry.compress_size}: it is no .keras file."
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{what} has {name!r} compressed in a way that .keras files are not.")
