"""Models as files: Keras's, whole or their weights alone, and gpumlp's own. A name's end says which.

    m.keras           a model, as Keras writes and reads it: architecture, weights, optimizer, how it was compiled
    m.weights.h5      weights and the optimizer's state, as Keras has them
    m.h5, m.hdf5      a model in the way of Keras 2 and of older scripts
    m.safetensors     weights alone, by their names
    m.gpumlp          a model and all that its training goes on from, to the bit

Everything is read, and looked at, before anything is changed; a file that is written takes the place of the old one
when all of it is on the disk.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpumlp.distributed.agreement import by_one
from gpumlp.errors import caller_level
from gpumlp.models import state
from gpumlp.models.keras_files import (
    put_legacy,
    put_tree,
    read_keras,
    read_legacy,
    weights_of,
    write_keras,
    write_legacy,
    write_tree,
)
from gpumlp.models.reading import compile_as, made
from gpumlp.naming import neutral
from gpumlp.saving import archive, custom_object_scope, disk, hdf5
from gpumlp.saving.disk import PathLike
from gpumlp.saving.state import pack, packed, read_state, unpack
from gpumlp.signatures import named
from gpumlp.training.progress import say

if TYPE_CHECKING:
    from gpumlp.models.kept import Kept
    from gpumlp.models.sequential import Sequential

LEGACY = (".h5", ".hdf5")
WHOLE = "'.keras', '.gpumlp' or '.h5'"
ALONE = "A file named .safetensors has weights alone"
Objects = Mapping[str, Any] | None


# ---- whole models ----------------------------------------------------------------------------------------------------
def save_model(
    model: Kept, filepath: PathLike, overwrite: bool = True, zipped: bool | None = None, *,
    include_optimizer: bool = True, **kwargs: object,
) -> None:  # fmt: skip
    """Save a model to a file, whose name's end says how: ".keras", ".gpumlp" or ".h5".

    Parameters
    ----------
    model : Sequential
        What is saved: its layers, its weights, and how it was compiled.
    filepath : str or path
        Where to.
    overwrite : bool
        Whether a file that is there is replaced. Otherwise a person at a terminal is asked; without one it is an error.
    zipped : None or True
        A ``.keras`` file is a zip.
    include_optimizer : bool
        Whether the state of the optimizer goes with it.
    **kwargs : object
        Refused by name, with a ValueError.

    Raises
    ------
    ValueError
        For another ending.
    FileExistsError, OSError
        Where the file is not to be replaced, or cannot be written: what was there is what it was.
    ImportError
        Without h5py, for the files that are Keras's.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(3,))])
    >>> gpumlp.models.save_model(model, "line.keras")
    """
    neutral("save", zipped=(zipped, zipped or None))
    with_optimizer, path = include_optimizer, disk.path_of(filepath)
    if kwargs.pop("save_format", None) and path.suffix not in (".keras", *LEGACY):
        raise ValueError("The `save_format` argument is deprecated: the name's end says the format, '.keras' or '.h5'.")
    if kwargs:
        raise ValueError(f"The following argument(s) are not supported: {list(kwargs)}")
    writers: dict[str, Callable[[], bytes]] = {
        ".keras": lambda: write_keras(model, with_optimizer),
        **dict.fromkeys(LEGACY, lambda: hdf5.pack(lambda root: write_legacy(root, model, with_optimizer))),
    }
    if path.suffix not in (*writers, ".gpumlp"):
        more = f"{ALONE}: save_weights writes it." if path.suffix == ".safetensors" else "Add one."
        raise ValueError(
            f"Invalid filepath extension for saving: a model's name ends in {WHOLE}; got {str(path)!r}. {more}"
        )
    if not model.built:
        warnings.warn(
            "The model has not yet been built, so that it has no weights to save: call it on data, or build it, first.",
            stacklevel=caller_level(),
        )
    writers[".gpumlp"] = lambda: packed(state.whole(model, with_optimizer))
    _write(model, path, overwrite, writers[path.suffix])


@named
def load_model(
    filepath: PathLike, custom_objects: Objects = None, compile: bool = True, safe_mode: bool = True
) -> Sequential:
    """Return a new model, as `save_model` or Keras has written it.

    From a ``.gpumlp`` file the package's random numbers go on, too, from where they were.

    Parameters
    ----------
    filepath : str or path
        Its name ends in ".keras", ".gpumlp" or ".h5".
    custom_objects : dict, optional
        Classes and functions of a user's own by name, that are not registered.
    compile : bool
        Whether it is compiled, with its optimizer's state, if it was.
    safe_mode : bool
        Code that stands in files is never executed, whatever this says.

    Returns
    -------
    Sequential

    Raises
    ------
    ValueError
        Where the file is damaged, or has what gpumlp has not; the message names it.
    OSError
        Where it cannot be read.

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(3,))]).save("line.keras")
    >>> gpumlp.models.load_model("line.keras").count_params()
    4
    """
    path = disk.path_of(filepath)
    if path.is_dir() or path.suffix not in (".keras", ".gpumlp", *LEGACY):
        folders = "Folders, as TensorFlow writes them, are not read: load them with Keras, and save them as .keras."
        alone = f"{ALONE}: build the model, and call its load_weights."
        raise ValueError(
            f"File format not supported: a model's name ends in {WHOLE}; got {str(path)!r}. "
            f"{alone if path.suffix == '.safetensors' else folders}"
        )
    if path.suffix == ".keras" and not path.exists():
        raise ValueError(f"File not found: {path}. A .keras file is expected there.")
    with custom_object_scope(custom_objects):
        if path.suffix == ".gpumlp":
            return from_state(read_state(path), str(path), compile)
        if path.suffix == ".keras":
            return read_keras(disk.read(path), str(path), compile)
        return read_legacy(hdf5.read(disk.read(path), str(path)), compile)


def from_state(found: Mapping[str, object], what: str, compile: bool = True) -> Sequential:
    """Return a new model, as `state.whole` has described it; ValueError, naming ``what`` has it, where it has none."""
    model = made(found.get("config"), what, state.numbers(found, what))
    if compile:
        compile_as(model, found["config"], what)
    state.restore(model, found, what)
    return model


def _write(model: Kept, path: Path, overwrite: bool, content: Callable[[], bytes]) -> None:
    """Write a file; of a model over ranks, who all have a part in what is in it, rank 0 does so."""
    ranks, what = model.distributed, f"write {path}"
    if by_one(ranks, what, lambda: may_write(path, overwrite)):
        found = content()
        by_one(ranks, what, lambda: disk.write(path, [found]))


def may_write(path: Path, overwrite: bool) -> bool:
    """Return whether ``path`` may be written: it is not there, or may be replaced, or a person says so.

    FileExistsError where it is there and nobody can be asked.
    """
    if overwrite or not os.path.lexists(path):
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise FileExistsError(f"{path} is there already, and overwrite=False. Choose another name, or overwrite=True.")
    answer = ""
    while answer not in ("y", "n"):
        say(f"[WARNING] {path} already exists - overwrite? [y/n]")
        answer = input().strip().lower()
    return answer == "y"


# ---- weights alone ---------------------------------------------------------------------------------------------------
def save_weights(
    model: Kept, filepath: PathLike, overwrite: bool = True, max_shard_size: None = None,
    objects_to_skip: Iterable[object] | None = None,
) -> None:  # fmt: skip
    """Save a model's weights: with its optimizer's state as ".weights.h5", or alone as ".safetensors".

    ``objects_to_skip``, layers or the optimizer, are left out of a ".weights.h5". ValueError for another ending, or a
    model that is not built; otherwise as `save_model`.
    """
    neutral("save_weights", max_shard_size=(max_shard_size, None))
    path = disk.path_of(filepath)
    if not path.name.endswith(".weights.h5") and path.suffix != ".safetensors":
        raise ValueError(f"The filename must end in `.weights.h5` or `.safetensors`. Received: filepath={path}")
    _need_built(model, "saving")

    def alone() -> bytes:
        return pack(state.by_name(model, model.get_weights()), {"format": "gpumlp.weights"})

    def in_keras_way() -> bytes:
        return hdf5.pack(lambda root: write_tree(root, model, True, objects_to_skip or ()))

    _write(model, path, overwrite, alone if path.suffix == ".safetensors" else in_keras_way)


def load_weights(
    model: Kept, filepath: PathLike, skip_mismatch: bool = False, by_name: bool | None = None,
    objects_to_skip: Iterable[object] | None = None,
) -> None:  # fmt: skip
    """Load weights from a file that a model of the same layers has been saved to, whole or its weights alone.

    An optimizer that has steps already goes on from the file's state, as in Keras; one that has none keeps its
    settings, with a warning.

    Parameters
    ----------
    model : Sequential
        It is built.
    filepath : str or path
        Its name ends in ".weights.h5", ".keras", ".h5", ".safetensors" or ".gpumlp".
    skip_mismatch : bool
        Whether layers that the file has nothing for, or of other shapes, keep their weights, with a warning.
    by_name : bool
        In an ".h5" file: whether layers are found by their names, and those without are left as they are.
    objects_to_skip : list of layers, optional
        Of a ".weights.h5" file: what is left as it is; the optimizer can be among them.

    Raises
    ------
    ValueError
        Where the file is damaged, or does not fit; then no weight is changed.
    """
    path, skipped = disk.path_of(filepath), objects_to_skip
    if skipped is not None and not path.name.endswith(".weights.h5"):
        raise ValueError(f"`objects_to_skip` only supports loading '.weights.h5' files. Received: {path}")
    legacy = path.suffix in LEGACY and not path.name.endswith(".weights.h5")
    if by_name is not None and not legacy:
        raise ValueError(f"`by_name` only supports loading legacy '.h5' or '.hdf5' files. Received: {path}")
    if path.suffix not in (".keras", ".safetensors", ".gpumlp", *LEGACY):
        raise ValueError(
            f"File format not supported: filepath={path}. Weights are read from files named .weights.h5, .keras, .h5, "
            ".safetensors and .gpumlp."
        )
    _need_built(model, "loading weights into")
    what = str(path)
    if path.suffix in (".safetensors", ".gpumlp"):
        plain = path.suffix == ".safetensors"
        found = unpack(disk.read(path), what)[0] if plain else state.weights_in(read_state(path), what)
        look = state.from_names(found)
        state.put(model, state.fitting(model, look, what, skip_mismatch))
        return
    data = disk.read(path)
    if path.suffix == ".keras":
        data = weights_of(archive.unpack(data, what), what)
    tree = hdf5.read(data, what)
    if legacy:
        put_legacy(model, tree, skip_mismatch, bool(by_name))
    else:
        put_tree(model, tree, skip_mismatch, skipped or ())


def _need_built(model: Kept, doing: str) -> None:
    if not model.built:
        raise ValueError(
            f"You are {doing} a model that has not yet been built. Build it first: call it on data, or use `build()`."
        )
