"""A model as it is kept: copies, configs and files of it."""

from __future__ import annotations

import copy
import importlib
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Self

from gpumlp import saving
from gpumlp.callbacks import History, Record
from gpumlp.layers import Layer, Snapshot
from gpumlp.models import configs, files, state
from gpumlp.models.compiled import Compiled
from gpumlp.models.stack import Stack
from gpumlp.naming import neutral
from gpumlp.saving.disk import PathLike
from gpumlp.signatures import named


class Kept(Compiled):
    """The base of `Sequential` that can be copied, described and saved, with the history of its training."""

    def __init__(
        self, layers: Iterable[Layer | Stack] | None = None, trainable: bool = True, name: str | None = None, *,
        dtype: object = None,
    ) -> None:  # fmt: skip
        self._record: Record | None = None
        self._history: weakref.ref[History] | None = None
        super().__init__(layers, trainable, name, dtype=dtype)

    @property
    def history(self) -> History | None:
        """What the last ``fit`` returned; None before."""
        if self._record is None:
            return None
        found = None if self._history is None else self._history()
        if found is None:  # the one that fit returned is gone, and with it what it had of the model
            found = History(record=self._record)
            found.set_model(self)  # type: ignore[arg-type]  # whose only base this is
            found.params = self._record.params
            self._history = weakref.ref(found)
        return found

    @history.setter
    def history(self, value: History) -> None:
        if not isinstance(value, History):
            raise TypeError(f"model.history is a History, as fit returns it; got {value!r}.")
        self._record, self._history = value.record, weakref.ref(value)

    # ---- copies ----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, object]:
        """Return the model as it is at one moment, also while another thread trains it."""
        runner, now = self._runner, state.moment(self)
        snapshot = None  # layers whose weights stand in no arena have them themselves
        if runner.weights is not None:
            snapshot = Snapshot({id(layer): arrays for layer, arrays in state.of_layers(self, now.weights)})
        more = {
            "_runner": copy.copy(runner),
            "_history": None,
            "_objective": None,
            "_training": now.training and now.training[:2],
            "_snapshot": snapshot,
        }
        return self.__dict__ | more

    def __setstate__(self, given: dict[str, Any]) -> None:
        training = given.pop("_training")
        del given["_snapshot"]  # it was there for the layers' sake
        self.__dict__.update(given)
        if self._optimizer is not None and training is not None:
            self._optimizer.go_on(self, *training)

    # ---- configs ---------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, object]:
        """Return what the model is made of, by Keras's names, as JSON can hold it; weights are not in it.

        Returns
        -------
        dict
        """
        return configs.described(self)

    @classmethod
    def from_config(cls, config: Mapping[str, object], custom_objects: Mapping[str, object] | None = None) -> Self:
        """Return a new model of the same layers, with new weights.

        Parameters
        ----------
        config : dict
            As `get_config` returns it.
        custom_objects : dict, optional
            Classes and functions of a user's own by name, that are not registered.

        Returns
        -------
        Sequential

        Raises
        ------
        ValueError
            For what is no config of a model, and for names that nobody knows.
        """
        with saving.custom_object_scope(custom_objects):
            return configs.from_config(cls, config)

    def to_json(self, **kwargs: Any) -> str:
        """Return the model as JSON, without its weights, for `models.model_from_json`.

        Parameters
        ----------
        **kwargs : object
            Arguments of `json.dumps`, such as ``indent=2``.

        Returns
        -------
        str
        """
        return configs.to_json(self, **kwargs)

    # ---- files -----------------------------------------------------------------------------------------------------

    def save(
        self, filepath: PathLike, overwrite: bool = True, zipped: bool | None = None, *,
        include_optimizer: bool = True, **kwargs: object,
    ) -> None:  # fmt: skip
        """Save the model to a file: its layers, its weights, and how it was compiled.

        Parameters
        ----------
        filepath : str or path
            Its name ends in ".keras", ".gpumlp" (all that training goes on from, to the bit) or ".h5".
        overwrite : bool
            Whether a file that is there is replaced. Otherwise a person at a terminal is asked; without one it is an
            error.
        zipped : None or True
            A ``.keras`` file is a zip.
        include_optimizer : bool
            Whether the state of the optimizer goes with it.
        **kwargs : object
            Refused by name, with a ValueError.

        Raises
        ------
        ValueError
            For another ending. Weights alone are saved by `save_weights`.
        FileExistsError, OSError
            Where the file is not to be replaced, or cannot be written: what was there is what it was.
        ImportError
            Without h5py, for the files that are Keras's.
        """
        files.save_model(self, filepath, overwrite, zipped, include_optimizer=include_optimizer, **kwargs)

    @named
    def save_weights(
        self, filepath: PathLike, overwrite: bool = True, max_shard_size: None = None, *,
        objects_to_skip: Iterable[object] | None = None,
    ) -> None:  # fmt: skip
        """Save the weights to a file, for `load_weights`.

        Parameters
        ----------
        filepath : str or path
            Its name ends in ".weights.h5", with the optimizer's state, or in ".safetensors".
        overwrite : bool
            Whether a file that is there is replaced, as in `save`.
        max_shard_size : None
            One file has all of them.
        objects_to_skip : list of layers, optional
            What is left out of a ".weights.h5"; the optimizer can be among them.

        Raises
        ------
        ValueError
            For another ending, and for a model that is not built.
        FileExistsError, OSError
            Where the file is not to be replaced, or cannot be written: what was there is what it was.
        """
        files.save_weights(self, filepath, overwrite, max_shard_size, objects_to_skip)

    @named
    def load_weights(
        self, filepath: PathLike, skip_mismatch: bool = False, *, by_name: bool | None = None,
        objects_to_skip: Iterable[object] | None = None,
    ) -> None:  # fmt: skip
        """Load weights that `save` or `save_weights` has saved, here or in Keras, from a model of the same layers.

        An optimizer that has steps already goes on from the file's state, as in Keras; one that has none keeps its
        settings, with a warning.

        Parameters
        ----------
        filepath : str or path
            Its name ends in ".weights.h5", ".keras", ".h5", ".safetensors" or ".gpumlp".
        skip_mismatch : bool
            Whether layers that the file has nothing for, or of other shapes, keep their weights, with a warning.
        by_name : bool, optional
            In an ".h5" file: whether layers are found by their names, and those without are left as they are.
        objects_to_skip : list of layers, optional
            Of a ".weights.h5" file: what is left as it is; the optimizer can be among them.

        Raises
        ------
        ValueError
            Where the file is damaged, or does not fit; then no weight is changed.
        OSError
            Where it cannot be read.
        """
        files.load_weights(self, filepath, skip_mismatch, by_name, objects_to_skip)

    def export(
        self, filepath: PathLike, format: str = "tf_saved_model", verbose: object = None, input_signature: None = None,
        *, opset_version: int | None = None,
    ) -> None:  # fmt: skip
        """Write the model for prediction by other software: as ONNX; the other formats are Keras's to write.

        Parameters
        ----------
        filepath : str or path
            Where to, such as "model.onnx".
        format : str, default "tf_saved_model"
            "onnx", as `gpumlp.interop.to_onnx` writes it.
        verbose : object, optional
            Taken for Keras's sake: nothing is printed.
        input_signature : None
            As in Keras; the model's own input is what there is.
        opset_version : int, optional
            The version of ONNX's operators; `gpumlp.interop.to_onnx` has the default.

        Raises
        ------
        NotImplementedError
            For another format, with what to do: save the model for Keras, which exports it.
        """
        neutral("export", input_signature=(input_signature, None))
        if format != "onnx":
            raise NotImplementedError(
                "gpumlp exports format='onnx'. For anything else save the model as 'm.keras', and have Keras export "
                f"it: keras.models.load_model('m.keras').export({str(filepath)!r}, format={format!r})."
            )
        write = importlib.import_module("gpumlp.interop").to_onnx  # by name: that is made of models
        write(self, filepath, **({} if opset_version is None else {"opset": opset_version}))
