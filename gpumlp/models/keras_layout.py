"""Where Keras has each array of a model in its files, and in which order the state of an optimizer.

vars                              the model's own: none
layers/dense/vars/0, 1            of the first layer of that class: kernel, bias
layers/dense_1/vars/0, 1          of the second
layers/sequential/layers/dense/   of a model in it
optimizer/vars/0, 1, 2, ...       steps, learning rate, then the state
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpumlp.layers import Weight
from gpumlp.naming import snake
from gpumlp.optimizers.stages import AVERAGE, GATHERED, Variable

if TYPE_CHECKING:
    from gpumlp.models.stack import Stack

NAMES = {  # Keras's, of state arrays that have others here
    "m": "momentum", "v": "velocity", "z": "momentum", "u": "norm", "top": "velocity_hat", "mean": "average_gradient",
}  # fmt: skip
ALONE = (AVERAGE, GATHERED, "momentum", "mean", "top")  # all weights' one after the other; others by turns for each


def places(model: Stack, at: str = "", left_out: Sequence[int] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the layers of a model, and those of models in it, each with its path, but those of the ids ``left_out``."""
    taken: Counter[str] = Counter()
    for layer in model.layers:
        name = snake(type(layer))
        path = f"{at}layers/{name}_{taken[name]}" if taken[name] else f"{at}layers/{name}"
        taken[name] += 1
        if id(layer) in left_out:
            continue
        yield path, layer
        if hasattr(layer, "layers"):
            yield from places(layer, f"{path}/", left_out)


class Entry(NamedTuple):
    """An array of an optimizer's in a file."""

    name: str
    array: np.ndarray
    into: tuple[str, int] | None = (
        None  # the state array that it is, and which weights' it is; None: it follows from them
    )


def entries(
    optimizer: Any, steps: int, state: Mapping[str, Sequence[np.ndarray]] | None, weights: Sequence[Weight],
    trained: Sequence[Weight],
) -> list[Entry]:  # fmt: skip
    """Return what Keras keeps of an optimizer, in its order.

    Parameters
    ----------
    steps, state
        As `Optimizer.saved` has it: by name an array for each of ``weights``; None before there is one.
    weights, trained : list of Weight
        A model's, and those of them that are trained, which alone have a state in Keras.
    """
    found = [Entry("iteration", np.array(steps, np.int32 if steps < 1 << 31 else np.int64))]
    if isinstance(optimizer._learning_rate, float):
        dtype = weights[0].dtype if weights else "float32"
        found.append(Entry("learning_rate", np.array(optimizer._learning_rate, dtype)))
    if state is None:
        return found
    kept = set(trained)
    at = [i for i, weight in enumerate(weights) if weight in kept]
    for slots in _turns(optimizer.slots):
        for i in at:
            path = weights[i].path.replace("/", "_")
            for slot in slots:
                array = state[slot][i]
                own = Entry(f"{path}_{NAMES.get(slot, slot)}", array, (slot, i))
                found += _beside(optimizer, weights[i].path, own)
    if type(optimizer).__name__ == "Nadam":
        found.append(
            Entry(
                "u_product",
                np.array(
                    optimizer.product(steps // (optimizer.gradient_accumulation_steps or 1)), found[-1].array.dtype
                ),
            )
        )
    return found


def _turns(slots: Sequence[str]) -> list[list[str]]:
    """Return the state arrays' names in groups, each of which goes by turns."""
    together = [slot for slot in slots if slot not in ALONE]
    ordered = [slot for slot in (AVERAGE, GATHERED) if slot in slots]
    rest = [slot for slot in slots if slot in ALONE and slot not in ordered]
    return [[slot] for slot in ordered] + ([together] if together else []) + [[slot] for slot in rest]


def _beside(optimizer: Any, path: str, own: Entry) -> list[Entry]:
    """Return a state array with what Keras has before it, or nothing where Keras has none of it."""
    kind, (slot, _) = type(optimizer).__name__, own.into or ("", 0)
    if kind == "Adafactor" and slot == "v":
        v = own.array
        if v.ndim < 2:
            means = [np.array(0, np.int32)] * 2
        else:
            means = [v.mean(-1), v.mean(-2)]
        return [*(Entry(f"{path}_{name}", mean) for name, mean in zip("rc", means, strict=True)), own]
    if kind == "Muon" and slot == "v" and not optimizer.is_adams(Variable(path, own.array, own.array, {})):
        return []
    return [own]
