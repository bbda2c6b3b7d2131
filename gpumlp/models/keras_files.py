"""Keras's files: ``.keras``, ``.weights.h5``, and whole models as HDF5, which was Keras 2's way."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gpumlp.layers import Layer, Weight
from gpumlp.models import state
from gpumlp.models.keras_layout import places
from gpumlp.models.reading import compile_as, made
from gpumlp.saving import archive, hdf5, serialize_keras_object
from gpumlp.saving.text import a_dict, parse

if TYPE_CHECKING:
    import h5py

    from gpumlp.models.compiled import Compiled
    from gpumlp.models.sequential import Sequential
    from gpumlp.models.stack import Stack

KERAS = "3.15.1"  # whose files these are like


def write_keras(model: Compiled, with_optimizer: bool) -> bytes:
    hdf5.library()  # before anything else
    about = {"keras_version": KERAS, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}
    weights = hdf5.pack(lambda root: write_tree(root, model, with_optimizer))
    config = json.dumps(serialize_keras_object(model)).encode()
    return archive.pack(
        {archive.METADATA: json.dumps(about).encode(), archive.CONFIG: config, archive.WEIGHTS: weights}
    )


def weights_of(entries: Mapping[str, bytes], what: str) -> bytes:
    if archive.WEIGHTS not in entries:
        raise ValueError(f"{what} has no {archive.WEIGHTS}.")
    return entries[archive.WEIGHTS]


def read_keras(data: bytes, what: str, compiled: bool) -> Sequential:
    entries = archive.unpack(data, what)
    config = parse(entries[archive.CONFIG], f"{archive.CONFIG} in {what}")
    tree = hdf5.read(weights_of(entries, what), f"{archive.WEIGHTS} in {what}")
    model = made(config, what, tree.numbers("optimizer/"))
    if compiled:
        compile_as(model, config, what)
    if model.built:
        put_tree(model, tree, new=True)
    return model


def write_tree(root: h5py.Group, model: Compiled, with_optimizer: bool, skipped: Iterable[object] = ()) -> None:
    """Write a model's arrays as Keras's model.weights.h5 has them, but for those of what is ``skipped``."""
    moment, left_out = state.moment(model), [id(each) for each in skipped]
    own = {id(layer): arrays for layer, arrays in state.of_layers(model, moment.weights)}
    _write_group(root.create_group("vars"), model.name, [])
    for path, layer in places(model, left_out=left_out):
        _write_group(root.create_group(f"{path}/vars"), layer.name, own.get(id(layer), []))
    if moment.training is not None and with_optimizer and id(model.optimizer) not in left_out:
        found = [entry.array for entry in state.in_order(model, moment.training)]
        _write_group(root.create_group("optimizer/vars"), model.optimizer.name, found)


def _write_group(group: h5py.Group, name: str, arrays: Sequence[np.ndarray]) -> None:
    group.attrs["name"] = name
    for i, array in enumerate(arrays):
        group.create_dataset(str(i), data=array)


def put_tree(
    model: Compiled, tree: hdf5.Tree, skip_mismatch: bool = False, skipped: Iterable[object] = (), new: bool = False
) -> None:
    """Take weights and the optimizer's state from a file that `write_tree`, or Keras, has written."""
    left_out = [id(each) for each in skipped]
    taken = {path for path, _ in places(model, left_out=left_out)}

    def look(path: str, layer: Layer) -> list[np.ndarray] | None:
        if path not in taken:
            return None
        return [tree.array(f"{path}/vars/{name}") for name in tree.names(f"{path}/vars")]

    arrays = state.fitting(model, look, tree.what, skip_mismatch)
    names = () if id(model._optimizer) in left_out else tree.names("optimizer/vars")
    saved = [tree.array(f"optimizer/vars/{name}") for name in names]
    state.put(model, arrays, state.from_order(model, saved, arrays, new))


# ---- the way of Keras 2, in which a model is one HDF5 file -----------------------------------------------------------
def write_legacy(root: h5py.Group, model: Compiled, with_optimizer: bool) -> None:
    moment, config = state.moment(model), serialize_keras_object(model)
    root.attrs["keras_version"], root.attrs["backend"] = KERAS, "numpy"
    root.attrs["model_config"] = json.dumps({"class_name": config["class_name"], "config": config["config"]})
    how = config.get("compile_config")
    if how and with_optimizer:
        optimizer = how.pop("optimizer")
        how = {name: _function_names(value) for name, value in how.items()}
        said = {"class_name": optimizer["class_name"], "config": optimizer["config"]}
        root.attrs["training_config"] = json.dumps(how | {"optimizer_config": said})
    top = root.create_group("model_weights")
    top.attrs["keras_version"], top.attrs["backend"] = KERAS, "numpy"
    hdf5.say(top, "layer_names", [layer.name for layer in model.layers])
    values = dict(zip(model.weights, moment.weights, strict=True))
    owners = dict(_owners(model))
    for layer in sorted(model.layers, key=lambda layer: layer.name):
        named = ((f"{owners[weight]}/{weight.path}", values[weight]) for weight in _legacy_order(layer))
        _write_named(top.create_group(layer.name), named)
    _write_named(top.create_group("top_level_model_weights"), ())
    if moment.training is not None and with_optimizer:
        found = state.in_order(model, moment.training)
        named = ((f"{model.optimizer.name}/{entry.name}", entry.array) for entry in found)
        _write_named(root.create_group("optimizer_weights"), named)


def _function_names(given: object) -> object:
    """Return a config with names for what are functions."""
    if isinstance(given, (list, tuple)):
        return [_function_names(each) for each in given]
    if not isinstance(given, Mapping):
        return given
    if "class_name" in given:
        return given["config"] if given["class_name"] == "function" else given
    return {name: _function_names(value) for name, value in given.items()}


def _owners(model: Stack) -> Iterator[tuple[Weight, str]]:
    """Yield the weights of a model, each with the name of the model that holds its layer."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _owners(layer)
        else:
            yield from ((weight, model.name) for weight in layer.weights)


def _legacy_order(layer: Layer | Stack) -> list[Weight]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _write_named(group: h5py.Group, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    named: dict[str, np.ndarray] = {}
    for name, array in arrays:  # models in a model may have layers of one name
        free = (each for i in itertools.count() if (each := f"{name}_{i}" if i else name) not in named)
        named[next(free)] = array
    hdf5.say(group, "weight_names", list(named))
    for name, array in named.items():
        group.create_dataset(name, data=array)


def read_legacy(tree: hdf5.Tree, compiled: bool) -> Sequential:
    what, said = tree.what, tree.groups[""]
    if "model_config" not in said:
        raise ValueError(f"No model config found in {what}: it has weights alone. Use model.load_weights.")
    config = _modern(parse(hdf5.as_text(said["model_config"]), f"The model_config in {what}"), "keras")
    model = made(config, what, tree.numbers("optimizer_weights/"))
    if compiled and "training_config" in said:
        how = a_dict(parse(hdf5.as_text(said["training_config"]), f"The training_config in {what}"), "training_config")
        compile_as(model, {"compile_config": {**how, "optimizer": how.get("optimizer_config")}}, what)
    if model.built:
        put_legacy(model, tree, new=True)
    return model


def _modern(config: object, module: str) -> dict[str, object]:
    """Return a layer's config with the name of its module, which older files have not, and a shape as it is now."""
    found = dict(a_dict(config, "The config of a layer"))
    inner = dict(a_dict(found.get("config"), "What is 'config' of a layer"))
    if "module" not in found:
        found["module"] = "keras" if found.get("class_name") == "Sequential" else module
    if "batch_input_shape" in inner:
        shape = inner.pop("batch_input_shape")
        if found.get("class_name") == "InputLayer":
            inner["batch_shape"] = shape
        else:
            inner["input_shape"] = shape[1:] if isinstance(shape, list) else shape
    if isinstance(inner.get("layers"), list):
        inner["layers"] = [_modern(each, "keras.layers") for each in inner["layers"]]
    return found | {"config": inner}


def put_legacy(
    model: Compiled, tree: hdf5.Tree, skip_mismatch: bool = False, by_name: bool = False, new: bool = False
) -> None:
    top = "model_weights" if "model_weights" in tree.groups and "layer_names" not in tree.groups[""] else ""
    head = f"{top}/" if top else ""
    stored = {name: tree.words(f"{head}{name}", "weight_names") for name in tree.words(top, "layer_names")}
    mine = [layer for layer in model.layers if layer.weights]
    if by_name:
        pairs = [(layer, layer.name) for layer in mine if layer.name in stored]
    else:
        filled = [name for name in stored if stored[name]]
        if len(filled) != len(mine):
            raise ValueError(
                f"Layer count mismatch when loading weights from {tree.what}. Model expected {len(mine)} layers, found "
                f"{len(filled)} saved layers."
            )
        pairs = list(zip(mine, filled, strict=True))
    paths: dict[Weight, str] = {}
    for layer, name in pairs:
        for weight, path in zip(_legacy_order(layer), stored[name], strict=False):
            paths[weight] = f"{head}{name}/{path}"
        if len(stored[name]) != len(layer.weights) and not skip_mismatch:
            raise ValueError(
                f"Weight count mismatch for layer {layer.name!r} ({name!r} in {tree.what}). Layer expects "
                f"{len(layer.weights)} weight(s). Received {len(stored[name])} saved weight(s)."
            )

    def look(path: str, layer: Layer) -> list[np.ndarray] | None:
        found = [paths[weight] for weight in layer.weights if weight in paths]
        return None if by_name and not found else [tree.array(each) for each in found]

    arrays, saved = state.fitting(model, look, tree.what, skip_mismatch), []
    if new and "optimizer_weights" in tree.groups:
        names = tree.words("optimizer_weights", "weight_names")
        saved = [tree.array(f"optimizer_weights/{name}") for name in names]
    state.put(model, arrays, state.from_order(model, saved, arrays, new))
