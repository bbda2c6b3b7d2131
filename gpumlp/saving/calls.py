"""Models as files by functions, as Keras has them: a model does it itself, see `gpumlp.models.files`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gpumlp.saving.disk import PathLike
from gpumlp.signatures import named

if TYPE_CHECKING:
    Model = Any  # a Sequential, which stands above


def save_model(
    model: Model, filepath: PathLike, overwrite: bool = True, zipped: bool | None = None, *,
    include_optimizer: bool = True, **kwargs: object,
) -> None:  # fmt: skip
    """Save a model to a file: see `gpumlp.models.save_model`.

    Parameters
    ----------
    model : Sequential
    filepath : str or path
        Its name ends in ".keras", ".gpumlp" or ".h5".
    overwrite : bool
        Whether a file that is there is replaced.
    zipped : None or True
        A ``.keras`` file is a zip.
    include_optimizer : bool
        Whether the state of the optimizer goes with it.
    **kwargs : object
        Refused by name, with a ValueError.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(3,))])
    >>> gpumlp.saving.save_model(model, "line.keras")
    """
    model.save(filepath, overwrite, zipped, include_optimizer=include_optimizer, **kwargs)


@named
def load_model(
    filepath: PathLike, custom_objects: Mapping[str, object] | None = None, compile: bool = True, safe_mode: bool = True
) -> Model:
    """Return a new model from a file: see `gpumlp.models.load_model`.

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

    Examples
    --------
    >>> import gpumlp
    >>> gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(3,))]).save("line.keras")
    >>> gpumlp.saving.load_model("line.keras").count_params()
    4
    """
    models = importlib.import_module("gpumlp.models")  # which stands above, and is there when somebody loads a model
    return models.load_model(filepath, custom_objects, compile, safe_mode)


@named
def save_weights(
    model: Model, filepath: PathLike, overwrite: bool = True, max_shard_size: None = None, *,
    objects_to_skip: Iterable[object] | None = None,
) -> None:  # fmt: skip
    """Save a model's weights to a file: see `Sequential.save_weights`.

    Parameters
    ----------
    model : Sequential
        It is built.
    filepath : str or path
        Its name ends in ".weights.h5" or ".safetensors".
    overwrite : bool
        Whether a file that is there is replaced.
    max_shard_size : None
        One file has all of them.
    objects_to_skip : list of layers, optional
        What is left out of a ".weights.h5"; the optimizer can be among them.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(3,))])
    >>> gpumlp.saving.save_weights(model, "line.safetensors")
    """
    model.save_weights(filepath, overwrite, max_shard_size, objects_to_skip=objects_to_skip)


@named
def load_weights(
    model: Model, filepath: PathLike, skip_mismatch: bool = False, *, by_name: bool | None = None,
    objects_to_skip: Iterable[object] | None = None,
) -> None:  # fmt: skip
    """Load a model's weights from a file: see `Sequential.load_weights`.

    Parameters
    ----------
    model : Sequential
        It is built.
    filepath : str or path
        Its name ends in ".weights.h5", ".keras", ".h5", ".safetensors" or ".gpumlp".
    skip_mismatch : bool
        Whether layers that the file has nothing for, or of other shapes, keep their weights, with a warning.
    by_name : bool, optional
        In an ".h5" file: whether layers are found by their names, and those without are left as they are.
    objects_to_skip : list of layers, optional
        Of a ".weights.h5" file: what is left as it is; the optimizer can be among them.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(3,))])
    >>> model.save_weights("line.safetensors")
    >>> gpumlp.saving.load_weights(model, "line.safetensors")
    """
    model.load_weights(filepath, skip_mismatch, by_name=by_name, objects_to_skip=objects_to_skip)
