"""Trees of arrays in HDF5, as Keras has them: a name is a path, "layers/dense/vars/0".

A file may lie: of links to other files, of shapes that its bytes do not fill. Nothing is followed out of the file, and
nothing is read from one that declares more than what stands on the disk would fill.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import h5py

FLOOR, EXPANSION = 1 << 24, 100  # bytes that may be declared at will; beyond: how many for each that is there
SAID = "layer_names", "weight_names", "model_config", "training_config"  # what is read of what is said of a group
HEAP = b"GCOL\x01\0\0\0"
DEPTH, MOST = 64, 100_000  # groups in each other, and entries, at most
EXTRA = "HDF5 files need h5py: pip install 'gpumlp[keras]'. Files named .gpumlp and .safetensors need nothing more."


def library() -> ModuleType:
    """Return h5py; ImportError, with what to install, where it is not there."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(EXTRA) from error
    return h5py


def pack(write: Callable[[h5py.Group], None]) -> bytes:
    """Return the bytes of a file that ``write`` fills, which is given its root."""
    data = io.BytesIO()
    with library().File(data, "w") as root:
        write(root)
    return data.getvalue()


def read(data: bytes, what: str) -> Tree:
    """Return all that is in a file; whatever is wrong with it is a ValueError that names ``what`` it is."""
    h5py = library()
    _check_heaps(data, what)
    try:
        root = h5py.File(io.BytesIO(data), "r")
    except Exception as error:
        raise ValueError(f"{what} is no whole HDF5 file: {error}.") from None
    try:
        with root:
            return Tree(root, what, max(FLOOR, EXPANSION * len(data)))
    except ValueError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, OverflowError, AttributeError, MemoryError) as error:
        raise ValueError(f"{what} is damaged: HDF5 cannot read it ({str(error)[:200]}).") from None


def _check_heaps(data: bytes, what: str) -> None:
    """Raise ValueError where strings stand in a heap whose sizes do not add up: HDF5 would go on for ever, or crash.

    A heap: GCOL and a version, its size; then its objects: number, references, size and content, up to number 0.
    """
    at = data.find(HEAP)
    while at >= 0:
        size, place = int.from_bytes(data[at + 8 : at + 16], "little"), 16
        good = 16 <= size <= len(data) - at and size % 8 == 0
        while good and place + 16 <= size:
            number = int.from_bytes(data[at + place : at + place + 2], "little")
            length = int.from_bytes(data[at + place + 8 : at + place + 16], "little")
            if not number:  # what is free, up to the end, with its own head
                good = place + length == size
                break
            place += 16 + -(-length // 8) * 8
            good = place <= size and number <= size // 16
        seen = data.find(at.to_bytes(8, "little"))  # who has a string there says its length before, its number behind
        while good and seen >= 4:
            length, number = (int.from_bytes(data[i : i + 4], "little") for i in (seen - 4, seen + 8))
            good = length <= len(data) or not 0 < number <= size // 16
            seen = data.find(at.to_bytes(8, "little"), seen + 1)
        if not good:
            raise ValueError(f"{what} is damaged: a heap of strings in it has sizes that do not add up.")
        at = data.find(HEAP, at + 8)


class Tree:
    """What a file has: the arrays by their paths, and what is said about groups.

    Parameters
    ----------
    root : h5py.File
    what : str
        What errors call it.
    most : int
        Bytes of arrays that it may declare.
    """

    def __init__(self, root: h5py.Group, what: str, most: int) -> None:
        self.what, self._left = what, most
        self.groups: dict[str, dict[str, np.ndarray | str]] = {}
        self._arrays: dict[str, np.ndarray | str] = {}  # or why one is not there
        self._walk(root, "", 0)

    def _walk(self, group: h5py.Group, at: str, depth: int) -> None:
        h5py = library()
        self.groups[at] = {name: self._said(group, name) for name in group.attrs if name.rstrip("0123456789") in SAID}
        if depth > DEPTH or len(self._arrays) + len(self.groups) > MOST:
            raise ValueError(f"{self.what} has more than {DEPTH} groups in each other, or more than {MOST} entries.")
        for name in group:
            path = f"{at}/{name}" if at else name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{self.what} has a {type(link).__name__} at {path!r}: links are not followed.")
            each = group[name]
            if isinstance(each, h5py.Group):
                self._walk(each, path, depth + 1)
            elif isinstance(each, h5py.Dataset):
                self._arrays[path] = self._taken(each, path)
            else:
                raise ValueError(f"{self.what} has something that is no group and no array at {path!r}.")

    def _said(self, group: h5py.Group, name: str) -> np.ndarray | str:
        if not isinstance(group.attrs.get_id(name).get_type(), library().h5t.TypeStringID):
            empty = group.attrs.get_id(name).shape == (0,)  # as numbers, which is how Keras writes no names
            if not empty:
                raise ValueError(f"{self.what} has no strings as {name!r}.")
        return group.attrs[name]

    def _taken(self, data: h5py.Dataset, path: str) -> np.ndarray | str:
        if data.external or data.is_virtual:
            raise ValueError(f"{self.what} has an array at {path!r} whose numbers stand in another file.")
        kind = (
            data.attrs["dtype"] if "dtype" in data.attrs else data.dtype
        )  # Keras says it of what HDF5 has no type for
        if data.shape is None or data.dtype.kind not in "biuf" or kind == "bfloat16":
            return f"{self.what} has no numbers of NumPy's at {path!r}, but {kind}."
        self._left -= math.prod(data.shape) * data.dtype.itemsize
        if self._left < 0:
            raise ValueError(
                f"{self.what} declares an array of shape {data.shape} at {path!r}, with others before it far more than "
                "it has: it holds no weights."
            )
        return np.asarray(data[()])

    def names(self, at: str) -> list[str]:
        """Return the names of the arrays that stand in a group, numbers in their order."""
        names = [path[len(at) + 1 :] for path in self._arrays if path.rpartition("/")[0] == at]
        return sorted(names, key=lambda name: (int(name) if name.isascii() and name.isdigit() else math.inf, name))

    def array(self, path: str) -> np.ndarray:
        """Return an array of numbers; ValueError where there is none."""
        found = self._arrays.get(path, f"{self.what} has no array at {path!r}.")
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def numbers(self, but: str) -> int:
        """Return how many numbers there are, but for arrays whose paths begin so."""
        return sum(a.size for path, a in self._arrays.items() if not isinstance(a, str) and not path.startswith(but))

    def words(self, at: str, name: str) -> list[str]:
        """Return a list of strings that is said about a group, also where it is in pieces, ``name0``, ``name1``."""
        if at not in self.groups:
            raise ValueError(f"{self.what} has no group {at!r}.")
        said = self.groups[at]
        pieces = [name] if name in said else []
        while name not in said and f"{name}{len(pieces)}" in said:
            pieces.append(f"{name}{len(pieces)}")
        return [as_text(each) for piece in pieces for each in np.ravel(said[piece])]


def as_text(value: object) -> str:
    """Return a string that HDF5 may have as bytes; ValueError for bytes that are none."""
    return value.decode() if isinstance(value, bytes) else str(value)


def say(group: h5py.Group, name: str, words: list[str], limit: int = 64512) -> None:
    """Say a list of strings about a group, in pieces where it is longer than HDF5 allows."""
    array = np.array([word.encode() for word in words]) if words else np.zeros(0)
    pieces = 1
    while pieces < len(array) and max(piece.nbytes for piece in np.array_split(array, pieces)) > limit:
        pieces += 1
    if pieces == 1:
        group.attrs[name] = array
        return
    for i, piece in enumerate(np.array_split(array, pieces)):
        group.attrs[f"{name}{i}"] = piece
