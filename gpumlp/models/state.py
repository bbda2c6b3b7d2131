"""What a model is at one moment, and how it becomes that again: weights, steps, an optimizer's state, and the rest."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from gpumlp import random
from gpumlp.callbacks import History, Record
from gpumlp.engine.runner import together
from gpumlp.errors import caller_level
from gpumlp.layers import Changes, Layer
from gpumlp.models.keras_layout import Entry, entries, places
from gpumlp.models.stack import Stack, leaves
from gpumlp.naming import number
from gpumlp.optimizers import Optimizer
from gpumlp.saving import serialize_keras_object
from gpumlp.saving.text import a_dict
from gpumlp.variables import Change, Variable

if TYPE_CHECKING:
    from gpumlp.distributed.communicator import Communicator
    from gpumlp.models.compiled import Compiled
    from gpumlp.models.kept import Kept

Look = Callable[
    [str, Layer], "list[np.ndarray] | None"
]  # from a layer's path and itself: its arrays, or None: as they are
KIND, ENSEMBLE = "gpumlp.model", "gpumlp.ensemble"


class Training(NamedTuple):
    """Where training is: steps, and the state arrays by name, one for each weight array; None before there are any."""

    steps: int
    slots: dict[str, list[np.ndarray]] | None
    rate: float | None = None  # the learning rate, where that is one number and not the optimizer's own already
    undecayed: Sequence[list[str]] = ()  # the paths, and patterns of names, of weights that do not decay


class Moment(NamedTuple):
    """A model's weight arrays, and where its training is; None for one that is not compiled."""

    weights: list[np.ndarray]
    training: Training | None


def moment(model: Compiled) -> Moment:
    """Return weights and training as they are between two steps, also while another thread trains the model.

    Over ranks each has a part of the optimizer's state: all ranks ask for it at once.
    """
    runner = model._runner
    look = functools.partial(_now, model)
    return look() if runner.weights is None else together([runner], look, change=False)


def _now(model: Compiled) -> Moment:
    """Return weights and training; the caller holds the gate, where there is one."""
    runner, optimizer = model._runner, model._optimizer
    weights = model.get_weights() if runner.weights is None else runner.weights.get()
    if optimizer is None or not optimizer.belongs_to(model):
        return Moment(weights, None)
    return Moment(weights, Training(optimizer.steps, optimizer.saved()))


def _go_on(optimizer: Optimizer, training: Training) -> None:
    optimizer.go_on_from(training.steps, training.slots)
    if training.rate is not None:
        optimizer.learning_rate = training.rate


def gather(model: Compiled) -> None:
    """Have the whole state of the optimizer here, where ranks have had a part of it each; all ranks do so at once."""
    if model._runner.comm is not None and (now := moment(model).training) is not None:
        put_on = functools.partial(_go_on, model.optimizer, now)
        together([model._runner], put_on, brief=True) if model._runner.weights is not None else put_on()


def draw_alike(model: Stack, comm: Communicator) -> None:
    """Have random numbers, and the masks of layers, be those of rank 0 from now on; all ranks do so at once."""
    drawing = [layer for layer in leaves(model._layers) if hasattr(layer, "key")]
    own = random.current().state(), [layer.key for layer in drawing]
    everybody = cast("list[tuple[dict[str, object], list[int]]]", comm.gather(own, "a call to compile"))
    counts = [len(keys) for _, keys in everybody]
    if len(set(counts)) > 1:
        raise ValueError(f"All ranks must compile the same model: the layers that draw are {counts} on the ranks.")
    numbers, keys = everybody[0]
    random.current().go_on_from(numbers)
    for layer, key in zip(drawing, keys, strict=True):
        layer.key = key


def put(model: Compiled, arrays: list[np.ndarray], training: Training | None = None) -> None:
    """Have a model be at a moment, between two steps; everything has been looked at."""
    model._put(arrays, lambda: None if training is None else _go_on(model.optimizer, training))


# ---- weights ---------------------------------------------------------------------------------------------------------
def of_layers(model: Stack, arrays: Sequence[np.ndarray]) -> Iterator[tuple[Layer, list[np.ndarray]]]:
    """Yield the layers that have weights, each with its own of all ``arrays``."""
    rest = iter(arrays)
    for layer in leaves(model._layers):
        if layer.weight_shapes:
            yield layer, [next(rest) for _ in layer.weight_shapes]


def _named(path: str, layer: Layer) -> list[str]:
    at = "/".join(path.split("/")[1::2])  # every other word is "layers"
    return [f"{at}/{weight.name}" for weight in layer.weights]


def by_name(model: Stack, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays of the model's weights by their names in files: "dense_1/kernel" is of the second Dense layer."""
    own = {id(layer): mine for layer, mine in of_layers(model, arrays)}
    found: dict[str, np.ndarray] = {}
    for path, layer in places(model):
        if id(layer) in own:
            found |= zip(_named(path, layer), own[id(layer)], strict=True)
    return found


def from_names(found: Mapping[str, np.ndarray]) -> Look:
    """Return what finds a layer's arrays by their names in files."""

    def look(path: str, layer: Layer) -> list[np.ndarray]:
        return [found[name] for name in _named(path, layer) if name in found]

    return look


def fitting(model: Compiled, look: Look, what: str, skip_mismatch: bool = False) -> list[np.ndarray]:
    """Return arrays for all weights, as ``look`` finds them.

    Where what it finds does not fit: ValueError, that names the layers of ``what`` they are; or with ``skip_mismatch``
    a warning, and the weights that are there.
    """
    there = {id(layer): arrays for layer, arrays in of_layers(model, model.get_weights())}
    found: list[np.ndarray] = []
    faults = []
    for path, layer in places(model):
        if id(layer) not in there:
            continue
        arrays = look(path, layer)
        if arrays is not None and (fault := _fault(layer, arrays)):
            faults.append(f"layer {layer.name!r} ({path}) {fault}")
            arrays = None
        found += there[id(layer)] if arrays is None else arrays
    if faults and not skip_mismatch:
        raise ValueError(
            f"{what} has weights of another model. A total of {len(faults)} objects could not be loaded: "
            f"{'; '.join(faults[:5])}. With skip_mismatch=True these keep their weights."
        )
    if faults:
        warnings.warn(f"{what}: these keep their weights: {'; '.join(faults)}.", stacklevel=caller_level())
    return found


def _fault(layer: Layer, arrays: Sequence[np.ndarray]) -> str:
    shapes = [np.shape(array) for array in arrays]
    if len(shapes) != len(layer.weight_shapes):
        names = [weight.name for weight in layer.weights]
        return f"expected {len(names)} variables {names}, but received {len(shapes)} variables"
    if shapes != layer.weight_shapes:
        return f"expected shapes {layer.weight_shapes}, but received {shapes}"
    kinds = {getattr(array, "dtype", np.dtype(object)).kind for array in arrays}
    return "" if kinds <= set("biuf") else "received what is no array of numbers"


# ---- an optimizer's state in Keras's order ---------------------------------------------------------------------------
def in_order(model: Compiled, training: Training) -> list[Entry]:
    """Return what Keras keeps of the model's optimizer."""
    return entries(model._optimizer, training.steps, training.slots, model.weights, model.trainable_weights)


def from_order(
    model: Compiled, arrays: Sequence[np.ndarray], weights: Sequence[np.ndarray], new: bool
) -> Training | None:
    """Return the training that arrays in Keras's order mean; ValueError for numbers that no optimizer has.

    None where there is no optimizer to take them, and, with a warning, where they are another optimizer's; so they are
    if this one has no state yet, unless it is ``new``. ``weights``: what the model's weights will be.
    """
    optimizer = model._optimizer
    if optimizer is None or not optimizer.belongs_to(model) or not arrays:
        return None
    starts = optimizer._starts()
    slots = {
        name: [np.array(w) if start is None else np.full(w.shape, start, w.dtype) for w in weights]
        for name, start in starts.items()
    }
    bare = in_order(model, Training(0, None))
    full = in_order(model, Training(0, slots)) if new or optimizer.has_state else bare
    expected = bare if new and len(arrays) == len(bare) else full
    if [np.shape(a) for a in arrays] != [entry.array.shape for entry in expected]:
        warnings.warn(
            f"Skipping variable loading for optimizer {optimizer.name!r}, because it has {len(expected)} variables "
            f"whereas the saved optimizer has {len(arrays)} variables, or others: its state is left as it is.",
            stacklevel=caller_level(),
        )
        return None
    values = dict(zip((entry.name for entry in expected), arrays, strict=True))
    for entry, array in zip(expected, arrays, strict=True):
        if entry.into is not None:
            slots[entry.into[0]][entry.into[1]] = array
    steps = values["iteration"]
    if steps.dtype.kind not in "iu" or steps < 0:
        raise ValueError(f"An optimizer's steps are a whole number >= 0; the file has {steps!r}.")
    rate: float | None = None
    if "learning_rate" in values:
        rate = number("learning_rate", values["learning_rate"][()], 0.0)
        if values["learning_rate"] == np.asarray(optimizer._learning_rate, values["learning_rate"].dtype):
            rate = None  # the optimizer's own may have more digits
    return Training(int(steps), slots if expected is full and full is not bare else None, rate)


class Part(Variable):
    """An array of an optimizer's, in Keras's order, wherever it stands by now."""

    trainable = False

    def __init__(self, model: Compiled, place: int, entry: Entry) -> None:
        self._model, self._place = model, place
        self.name, self.path = entry.name, f"{model.optimizer.name}/{entry.name}"

    def _parts(self, now: Moment | None = None) -> list[Entry]:
        training = (now or moment(self._model)).training
        found = [] if training is None else in_order(self._model, training)
        if self._place >= len(found):
            raise RuntimeError(f"The optimizer's state has started anew, without {self.path!r}.")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return self._parts()[self._place].array.shape

    @property
    def dtype(self) -> str:
        return self._parts()[self._place].array.dtype.name

    def numpy(self) -> np.ndarray:
        return np.array(self._parts()[self._place].array)

    def change(self, to: Change) -> None:
        model, runner, place = self._model, self._model._runner, self._place

        def between_steps() -> None:
            now = _now(model)
            arrays = [entry.array for entry in self._parts(now)]
            arrays[place] = np.asarray(to(np.array(arrays[place])), arrays[place].dtype)
            if (training := from_order(model, arrays, now.weights, new=False)) is not None:
                _go_on(model.optimizer, training)

        between_steps() if runner.weights is None else together([runner], between_steps, brief=True)


def parts(model: Compiled) -> list[Part]:
    """Return the arrays of a model's optimizer, as Keras has them."""
    now = moment(model).training
    return [] if now is None else [Part(model, i, entry) for i, entry in enumerate(in_order(model, now))]


# ---- all of it -------------------------------------------------------------------------------------------------------
def whole(
    model: Kept, with_optimizer: bool = True, position: Mapping[str, object] | None = None, config: bool = True
) -> dict[str, object]:
    """Return a model, and all that its training goes on from, as `gpumlp.saving.write_state` takes it.

    ``position`` is for whoever goes on: where in its data the training is, in numbers and arrays by name. ``config``:
    whether it says what the model is made of, so that one can be made of it.
    """
    now = moment(model)
    optimizer: dict[str, object] | None = None
    if now.training is not None and with_optimizer:
        rate, slots = model.optimizer._learning_rate, now.training.slots
        optimizer = {
            "steps": now.training.steps,
            "learning_rate": rate if isinstance(rate, float) else None,
            "slots": None if slots is None else {name: by_name(model, arrays) for name, arrays in slots.items()},
            "undecayed": [[each for each in listed if isinstance(each, str)] for listed in model.optimizer._excluded],
        }
    record = model._record
    return {
        "kind": KIND,
        "config": serialize_keras_object(model) if config else None,
        "weights": by_name(model, now.weights),
        "optimizer": optimizer,
        "keys": {path: layer.key for path, layer in places(model) if hasattr(layer, "key")},
        "random": random.current().state(),
        "history": record and dict(vars(record)),
        "position": dict(position or {}),
    }


def weights_in(found: Mapping[str, object], what: str) -> dict[str, np.ndarray]:
    """Return a state's weights by their names; ValueError, naming ``what`` it is, where it is no model's."""
    if found.get("kind") == ENSEMBLE:
        raise ValueError(f"{what} has an ensemble: gpumlp.Ensemble.load reads it, whose members are models.")
    if found.get("kind") != KIND:
        raise ValueError(f"{what} has no model, but a state of another kind: {list(found)[:8]}.")
    return a_dict(found.get("weights"), f"What is 'weights' in {what}")


def numbers(found: Mapping[str, object], what: str) -> int:
    """Return how many weights a state has; ValueError, naming ``what`` it is, where it is no model's."""
    return sum(math.prod(np.shape(array)) for array in weights_in(found, what).values())


def restore(model: Kept, found: Mapping[str, object], what: str) -> None:
    """Have a model of the same layers be what `whole` has described, and the package's random numbers go on from there.

    A model that is not compiled has no use for the optimizer's state. ValueError, and no change, where it does not fit.
    """
    arrays = fitting(model, from_names(weights_in(found, what)), what)
    training = _training_in(model, found.get("optimizer"), what)
    keys = a_dict(found.get("keys"), f"What is 'keys' in {what}")
    drawing = {path: layer for path, layer in places(model) if hasattr(layer, "key")}
    if keys.keys() != drawing.keys() or not all(type(k) is int and 0 <= k < 1 << 64 for k in keys.values()):
        raise ValueError(f"{what} has other keys, of layers that draw, than the model: {keys}.")
    record = _record_in(found.get("history"), what)
    random.current().go_on_from(a_dict(found.get("random"), f"What is 'random' in {what}"))
    put(model, arrays, training)
    if training is not None and any(training.undecayed):
        model.optimizer.exclude_from_weight_decay(*training.undecayed)
    for path, layer in drawing.items():
        layer.key = keys[path]
    if record is not None:
        model.history = History(record=record)


def _training_in(model: Compiled, found: object, what: str) -> Training | None:
    optimizer = model._optimizer
    if found is None or optimizer is None or not optimizer.belongs_to(model):
        return None
    found = a_dict(found, f"What is 'optimizer' in {what}")
    steps, rate, slots = (found.get(name) for name in ("steps", "learning_rate", "slots"))
    if type(steps) is not int or steps < 0:
        raise ValueError(f"{what} must have a whole number of steps >= 0; it has {steps!r}.")
    if rate is not None:
        rate = number("learning_rate", rate, 0.0)
    if slots is not None:
        slots = a_dict(slots, f"What is 'slots' in {what}")
        if set(slots) != set(optimizer.slots):
            raise ValueError(
                f"{what} has the state of another optimizer: {list(slots)}; {optimizer.name!r} has "
                f"{list(optimizer.slots)}."
            )
        slots = {
            name: fitting(model, from_names(a_dict(slots[name], name)), f"The state {name!r} in {what}")
            for name in optimizer.slots
        }
    undecayed = found.get("undecayed")
    if not isinstance(undecayed, list) or not all(isinstance(each, list) for each in undecayed) or len(undecayed) != 2:
        raise ValueError(f"{what} must have two lists of weights that do not decay; it has {undecayed!r}.")
    return Training(steps, slots, rate, [[str(each) for each in listed] for listed in undecayed])


def _record_in(found: object, what: str) -> Record | None:
    if found is None:
        return None
    found = a_dict(found, f"What is 'history' in {what}")
    history, epoch, params = (found.get(name) for name in ("history", "epoch", "params"))
    validated = found.get("validated", [])  # which an older file has not
    if not isinstance(history, dict) or not isinstance(epoch, list) or not isinstance(params, dict):
        raise ValueError(f"{what} must have lists of values by name as its history, the epochs, and params.")
    if not isinstance(validated, list):
        raise ValueError(f"{what} must have a list of the epochs that were validated; it has {validated!r}.")
    return Record(history, epoch, params, validated)


# ---- what a copy has become ------------------------------------------------------------------------------------------
# What an object has by itself, of which a copy of it elsewhere knows nothing: where its arrays stand, and whose it is.
OWN = {
    "model": {
        "_runner", "_layers", "_optimizer", "_loss", "_history", "_objective", "_metric_names", "_compiled_with",
    },
    "layer": {"held", "samples", "_shown"},
    "optimizer": {"_state", "_owner", "_steps", "_kept", "_made", "_arrays", "_excluded"},
}  # fmt: skip


def become(model: Kept, other: Kept) -> dict[int, object]:
    """Have a model, its layers and its optimizer be what those of a copy, trained elsewhere, have become.

    Returns what stands for what, by the id of the copy's. ValueError, and no change, where the copy has other layers.
    """
    pairs, now = list(_pairs(model, other)), moment(other)
    if compiled_anew := model._compilations != other._compilations:
        model.optimizer = other.optimizer
        for name in ("_loss", "_metric_names", "_compiled_with", "_objective"):
            setattr(model, name, getattr(other, name))
        model._runner.restart()
    network = other._runner.network
    if network is not None and model._runner.network is None:
        with random.drawing_from(random.Stream()):  # of weights that come from the copy
            model._built_for(network.input_shape)
    stands: dict[int, object] = {id(model._optimizer): model._optimizer}
    for mine, theirs, kind in pairs:
        if kind == "optimizer" and compiled_anew:
            continue
        stands[id(theirs)] = mine
        vars(mine).update({
            name: value for name, value in vars(theirs).items()
            if name not in OWN[kind] and not _copied(vars(mine).get(name), value)
        })  # fmt: skip
    Changes.count += 1
    for name in ("calls", "looked_at", "advised"):
        setattr(model._runner, name, getattr(other._runner, name))
    if model._optimizer is not None:
        model._optimizer._made = {}
    put(model, now.weights, now.training)
    return stands


def _copied(mine: object, theirs: object) -> bool:
    """Whether it is a copy of the same function, initializer or the like: one's own of `__main__` travel by value."""
    return callable(mine) and _same(mine, theirs)


def _same(one: object, other: object, depth: int = 8) -> bool:
    """Whether two things do the same, as far as that can be seen; of what cannot be compared: no."""
    if one is other:
        return True
    if type(one) is not type(other) or not depth:
        return False
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return _same(_parts_of(one), _parts_of(other), depth - 1)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_same(a, b, depth - 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key], depth - 1) for key in one)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "__dict__"):
        return _same(_settings(one), _settings(other), depth - 1)
    try:
        return bool(one == other)
    except Exception:  # of a user's class
        return False


def _parts_of(function: FunctionType) -> tuple[object, ...]:
    """Return what a function is made of."""
    inside = [cell.cell_contents for cell in function.__closure__ or ()]
    return function.__code__, function.__qualname__, function.__defaults__, function.__kwdefaults__, inside


def _settings(thing: object) -> dict[str, object]:
    """Return an object's attributes, without what its class has made of these and keeps there."""
    kind, found = type(thing), vars(thing).items()
    own = {name: value for name, value in found if not hasattr(getattr(kind, name, None), "__get__")}
    if kind.__module__.startswith("gpumlp."):
        own = {name: value for name, value in own.items() if not name.startswith("_")}
    return own


def _pairs(model: Kept, other: Kept) -> Iterator[tuple[object, object, str]]:
    """Yield each part of a model with that of a copy, and of what kind they are; ValueError for other layers."""

    def of(mine: Stack, theirs: Stack) -> Iterator[tuple[object, object, str]]:
        yield mine, theirs, "model"
        kinds, found = ([type(layer).__qualname__ for layer in stack._layers] for stack in (mine, theirs))
        if kinds != found:
            raise ValueError(
                f"The model came back with other layers: it has {', '.join(kinds)}; what was trained has "
                f"{', '.join(found)}. Callbacks that add or remove layers need a training here, without an executor."
            )
        for one, there in zip(mine._layers, theirs._layers, strict=True):
            if isinstance(one, Stack) and isinstance(there, Stack):
                yield from of(one, there)
            elif isinstance(one, Layer) and isinstance(there, Layer):
                if one.weight_shapes and one.weight_shapes != there.weight_shapes:
                    raise ValueError(
                        f"{one.name} came back with weights of {there.weight_shapes}; it has {one.weight_shapes}."
                    )
                yield one, there, "layer"

    yield from of(model, other)
    if model._optimizer is not None and other._optimizer is not None:
        yield model._optimizer, other._optimizer, "optimizer"
