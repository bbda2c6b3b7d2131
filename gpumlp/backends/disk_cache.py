"""Machine code on disk: what a compiler made once, for the GPU or the CPU, is there for the next process."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

DIGEST = 32  # bytes of SHA-256


class DiskCache:
    """Machine code by key, in files that are whole or ignored.

    Writers write beside the file and rename; readers check a digest. So processes may share it, and a file that a
    crash or a full disk tore is made anew. Where nothing can be written, everything works without a cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def path(self, key: str) -> Path:
        """Return where the entry for ``key`` stands; OSError where there is no place for it."""
        if self.folder is None:
            raise OSError("there is no folder for caches")
        return self.folder / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".bin")

    def get(self, key: str) -> bytes | None:
        """Return the entry, or None where there is none or not a whole one."""
        try:
            data = self.path(key).read_bytes()
        except OSError:
            return None
        content = data[DIGEST:]
        return content if data[:DIGEST] == hashlib.sha256(content).digest() else None

    def put(self, key: str, content: bytes) -> bool:
        """Keep ``content``; return whether that could be done."""
        temporary = None
        try:
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                temporary = file.name
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            return False
        return True


def default_folder() -> Path | None:
    """Return GPUMLP_CACHE, or gpumlp/ in the user's folder for caches; None for a user without a home."""
    if own := os.environ.get("GPUMLP_CACHE"):
        return Path(own)
    windows = sys.platform == "win32"
    if base := os.environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME"):
        return Path(base) / "gpumlp"
    try:
        return Path.home() / ("AppData/Local" if windows else ".cache") / "gpumlp"
    except RuntimeError:
        return None
