"""What ``fit`` was asked for, looked at, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpumlp.engine.feed import Dataset
from gpumlp.layers import Shape, whole_number
from gpumlp.losses import Loss
from gpumlp.naming import number
from gpumlp.training import data, samples
from gpumlp.training.blocks import Blocks, cut
from gpumlp.training.loop import Validation
from gpumlp.training.streams import Source

if TYPE_CHECKING:
    from gpumlp.models.sequential import Sequential

Given = tuple[object, object, object]  # x, y and sample weights


class HeldOut(NamedTuple):
    """Arguments of ``fit`` that say what is held out, by their names there without ``validation_``."""

    data: object
    split: float
    batch_size: int | None
    steps: int | None
    freq: object


class Job(NamedTuple):
    """The batches of an epoch, a sample's shape, the epochs, and what is validated on."""

    source: Source
    shape: Shape
    epochs: range
    validation: Validation | None


def job(
    model: Sequential, given: Given, class_weight: Mapping[int, float] | None,
    pace: tuple[int | None, int | None, bool], epochs: tuple[int, int], held_out: HeldOut,
) -> Job:  # fmt: skip
    """Return what ``fit`` was asked for; TypeError or ValueError for what cannot be.

    ``given`` is x, y and sample_weight; ``pace`` batch_size, steps_per_epoch and shuffle; ``epochs`` initial_epoch and
    epochs.
    """
    loss, _ = model._need_compiled("fit", training=True)
    last = whole_number("epochs", epochs[1], 0)
    first = whole_number("initial_epoch", epochs[0], 0)
    due = _due(held_out.freq)
    given, validation_data = _split(model, given, held_out)
    source, shape = model._source(given, class_weight, loss, pace)
    validation = None
    if validation_data is not None:
        size = pace[0] if held_out.batch_size is None else held_out.batch_size
        there = _validation_source(model, validation_data, loss, shape, (size, held_out.steps, False))
        _check_width(there.sample, source.sample)
        there.sample = there.sample or source.sample
        validation = Validation(there, due)
    return Job(source, shape, range(first, last), validation)


def _split(model: Sequential, given: Given, held_out: HeldOut) -> tuple[Given, object]:
    """Return what to train on, and what to validate on: rows of the former, where ``split`` says how many."""
    share = number("validation_split", held_out.split, 0.0, 1.0, below=True)
    if not share or held_out.data is not None:
        return given, held_out.data
    found = given if isinstance(given[0], np.ndarray) else cut(given, model._runner.dtype, True)
    if isinstance(found[0], Blocks):
        samples.check_alone(*found)
        train, held = found[0].split(share)
        return (train, None, None), held
    if data.gives_batches(found[0]):
        raise ValueError(
            f"validation_split cuts arrays; x is {data.kind(found[0])}, which gives batches. Pass those to "
            "validate with as validation_data."
        )
    x, y, weights = (samples.adopted(model._runner, value) for value in given)
    data.same_length(x=data.to_array("x", x), y=data.to_array("y", y))
    parts = [data.split(value, share) for value in (x, y, weights)]
    (train_x, held_x), (train_y, held_y), (train_weights, held_weights) = parts
    return (train_x, train_y, train_weights), (held_x, held_y, held_weights)


def _validation_source(
    model: Sequential, validation_data: object, loss: Loss, shape: Shape, pace: tuple[int | None, int | None, bool]
) -> Source:
    if data.gives_batches(validation_data):
        validation_data = (validation_data, None)
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise ValueError("validation_data must be (x, y) or (x, y, sample_weight), or what gives such batches.")
    given = (*validation_data, None)[:3]
    known = model._known_input_shape() or shape
    found, got = samples.source(model._runner, known, given, None, loss, pace, "validation ")
    if got != shape:
        raise ValueError(f"validation x has samples of shape {got}, x of shape {shape}.")
    return found


def _check_width(there: Dataset | None, here: Dataset | None) -> None:
    """Raise ValueError for targets that are not as wide as those trained on, for which the loss was looked up."""
    if there is None or here is None or there.y is None or here.y is None:
        return
    if (width := there.y.shape[1]) != (expected := here.y.shape[1]):
        raise ValueError(f"validation y has {width} numbers a sample, where y has {expected}.")


def _due(frequency: object) -> Callable[[int], bool]:
    """Return whether there is a validation after an epoch, whose number is from 0, by ``validation_freq``, from 1."""
    if isinstance(frequency, (list, tuple)):
        epochs = {whole_number("each of validation_freq", epoch) for epoch in frequency}
        return lambda epoch: epoch + 1 in epochs
    every = whole_number("validation_freq", frequency)
    return lambda epoch: (epoch + 1) % every == 0
