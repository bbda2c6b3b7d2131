"""A state, dicts and lists of numbers, strings and arrays, as one file: gpumlp's own container.

The file is of the format safetensors: a header in JSON, and the bytes of the arrays, nothing else, so that no reader
executes anything. The header's metadata have the dicts and lists, with a reference for each array, and a digest of
them and of all arrays: what has changed by a bit is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpumlp.saving import disk, text
from gpumlp.saving.disk import PathLike

FORMAT = "gpumlp.state", "1"
ARRAY, NUMBER, TUPLE = "__array__", "__number__", "__tuple__"  # what stands for what JSON has not
KINDS = {  # safetensors' names of NumPy's dtypes
    "BOOL": np.dtype(bool), **{f"{k}{8 * n}": np.dtype(f"{k.lower()}{n}") for k in "IU" for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": np.dtype(f"f{n}") for n in (2, 4, 8)},
}  # fmt: skip


def write_state(path: PathLike, state: Mapping[str, object]) -> None:
    """Write a state to a file, which takes the place of what stands there at once.

    Parameters
    ----------
    path : str or path
        By custom its name ends in ".gpumlp".
    state : dict
        Its keys are strings; its values None, bools, numbers, strings, NumPy arrays of numbers, and dicts, lists and
        tuples of these.

    Raises
    ------
    TypeError
        For anything else in it.
    OSError
        Where the disk is full, or the folder cannot be written; then what stood there is what it was.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import saving
    >>> saving.write_state("now.gpumlp", {"episode": 12, "returns": np.zeros(3)})
    >>> saving.read_state("now.gpumlp")
    {'episode': 12, 'returns': array([0., 0., 0.])}
    """
    disk.write(disk.path_of(path), [packed(state)])


def packed(state: Mapping[str, object]) -> bytes:
    """Return a state as `write_state` writes it; TypeError for what it does not take."""
    arrays: list[np.ndarray] = []
    tree = json.dumps(_packed(state, arrays, "state"), allow_nan=False)
    named = {str(i): array for i, array in enumerate(arrays)}
    metadata = {"format": FORMAT[0], "version": FORMAT[1], "state": tree, "sha256": _digest(tree, named)}
    return pack(named, metadata)


def read_state(path: PathLike) -> dict[str, Any]:
    """Return what `write_state` has written.

    Parameters
    ----------
    path : str or path
        Of a file of `write_state`'s.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        Where the file is another's, cut off, or changed by as little as a bit.
    OSError
        Where it cannot be read.

    Examples
    --------
    >>> from gpumlp import saving
    >>> saving.write_state("best.gpumlp", {"loss": 0.25})
    >>> saving.read_state("best.gpumlp")
    {'loss': 0.25}
    """
    file = disk.path_of(path)
    arrays, metadata = unpack(disk.read(file), str(file))
    if metadata.get("format") != FORMAT[0]:
        raise ValueError(f"{file} is no file of gpumlp's: it is safetensors, of format {metadata.get('format')!r}.")
    if metadata.get("version") != FORMAT[1]:
        raise ValueError(
            f"{file} is of version {metadata.get('version')!r}; this gpumlp reads version {FORMAT[1]}. Use a newer one."
        )
    tree = metadata.get("state", "")
    if metadata.get("sha256") != _digest(tree, arrays):
        raise ValueError(f"{file} is damaged: its digest is not that of what is in it.")
    found = _unpacked(text.parse(tree, str(file)), arrays, file)
    return text.a_dict(found, f"The state in {file}")


def pack(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Return the bytes of a file of safetensors."""
    return _safetensors().numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()}, metadata)


def unpack(data: bytes, what: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and metadata of a file of safetensors; ValueError, naming ``what`` it is, where it is none."""
    library = _safetensors()
    try:  # sizes and places in the header are looked at before anything else
        found = library.deserialize(data)
    except library.SafetensorError as error:
        raise ValueError(f"{what} is no whole file of safetensors: {error}.") from None
    header = text.parse(data[8 : 8 + int.from_bytes(data[:8], "little")], what)
    if foreign := [entry["dtype"] for _, entry in found if entry["dtype"] not in KINDS]:
        raise ValueError(f"{what} has arrays of dtype {foreign[0]}; what is read is {', '.join(KINDS)}.")
    arrays = {
        name: np.frombuffer(entry["data"], KINDS[entry["dtype"]]).reshape(entry["shape"]) for name, entry in found
    }
    return arrays, header.get("__metadata__", {})


def _safetensors() -> Any:
    import safetensors.numpy

    return safetensors


def _digest(tree: str, arrays: Mapping[str, np.ndarray]) -> str:
    import hashlib  # 3 ms, of a start that reads no file

    found = hashlib.sha256(tree.encode())
    for name in sorted(arrays):
        found.update(f"\0{name} {arrays[name].dtype.str} {arrays[name].shape}\0".encode())
        found.update(arrays[name].reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _packed(value: object, arrays: list[np.ndarray], where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {NUMBER: repr(value)}
    if isinstance(value, np.ndarray) and value.dtype.newbyteorder("=") in KINDS.values():
        arrays.append(np.asarray(value, value.dtype.newbyteorder("="), order="C"))
        return {ARRAY: len(arrays) - 1}
    if isinstance(value, Mapping) and all(isinstance(key, str) and key[:2] != "__" for key in value):
        return {key: _packed(each, arrays, f"{where}[{key!r}]") for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        found = [_packed(each, arrays, f"{where}[{i}]") for i, each in enumerate(value)]
        return found if isinstance(value, list) else {TUPLE: found}
    raise TypeError(
        f"A state has None, bools, numbers, strings, arrays of numbers, and lists, tuples and dicts of these, whose "
        f"keys are strings that do not begin with '__'; {where} is {str(value)[:60]!r} of type {type(value).__name__}."
    )


def _unpacked(value: object, arrays: Mapping[str, np.ndarray], file: Path) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, arrays, file) for each in value]
    if not isinstance(value, dict):
        return value
    if ARRAY in value:
        return arrays[str(value[ARRAY])]
    if NUMBER in value:
        return float(value[NUMBER])
    if TUPLE in value:
        return tuple(_unpacked(each, arrays, file) for each in value[TUPLE])
    return {key: _unpacked(each, arrays, file) for key, each in value.items()}
