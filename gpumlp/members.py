"""Models of one shape in training together, each with random numbers of its own: what ensembles and sweeps share."""

from __future__ import annotations

import copy
import functools
import os
import random as python_random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np

from gpumlp import random
from gpumlp.callbacks import BackupAndRestore, CallbackList, CSVLogger, History, ModelCheckpoint, TensorBoard
from gpumlp.callbacks.base import Logs
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import describe
from gpumlp.layers import Shape
from gpumlp.maps import rows_of
from gpumlp.models import Sequential, state
from gpumlp.models.fitting import HeldOut, Job, job
from gpumlp.training import data, loop
from gpumlp.training.streams import Held, Source, readers

FILES = {ModelCheckpoint: "filepath", CSVLogger: "filename", TensorBoard: "log_dir"}  # where callbacks write
_generators = threading.RLock()  # Python's and NumPy's, which are all threads'
Given: TypeAlias = tuple[Any, Any, Any, Any]  # x, y, sample weights, and what is validated on


class Hooks(CallbackList):
    """A member's callbacks: what they draw comes from its random numbers."""

    def __init__(self, stream: random.Stream, callbacks: object) -> None:
        self._stream = stream
        super().__init__(callbacks, add_history=True)

    def _call(self, hook: str, at: tuple[int, ...], logs: Logs) -> None:
        if not self._others and type(history := self.history) is History:  # which draws nothing
            if hook in vars(History) or hook in vars(history):
                super()._call(hook, at, logs)
            return
        with random.drawing_from(self._stream):
            super()._call(hook, at, logs)

    def become(self, other: CallbackList, memo: dict[int, Any]) -> None:
        """Have callbacks be what copies of them have become; ``memo``: what stands for what these refer to, by id."""
        mine, theirs = self.callbacks, other.callbacks
        if [type(one) for one in mine] == [type(one) for one in theirs] and all(hasattr(c, "__dict__") for c in mine):
            for one, there in zip(mine, theirs, strict=True):
                memo[id(there)] = one
            for one, there in zip(mine, theirs, strict=True):
                vars(one).update(copy.deepcopy(vars(there), memo))
        else:  # some were added meanwhile
            self._others, self.history = copy.deepcopy((other._others, other.history), memo)
        self._model, self.params = memo[id(other.model)], other.params
        assert self.history is not None
        self.model.history = self.history


@dataclass
class Member:
    """A model, the random numbers that it draws from, its callbacks, and its rows of x.

    ``rows`` None: all of them. All members have as many.
    """

    model: Sequential
    stream: random.Stream
    hooks: Hooks
    rows: np.ndarray | None = None
    program: str = ""  # how it was trained, where that was elsewhere

    def become(self, other: Member) -> None:
        """Have model, numbers and callbacks be what a copy of them has become elsewhere."""
        memo: dict[int, Any] = state.become(self.model, other.model)
        memo[id(other.stream)] = self.stream
        self.stream.go_on_from(other.stream.state())
        self.hooks.become(other.hooks, memo)
        self.rows, self.program = other.rows, other.program


class How(NamedTuple):
    """Arguments of ``fit``, but for the data.

    ``pace``: batch_size, steps_per_epoch and shuffle; ``epochs``: initial_epoch and epochs; ``held_out``: those that
    begin with ``validation_``, without the data.
    """

    class_weight: Mapping[int, float] | None
    pace: tuple[int | None, int | None, bool]
    epochs: tuple[int, int]
    held_out: HeldOut
    bootstrap: bool
    verbose: object


def asked(members: Sequence[Member], given: Given, how: How) -> Job:
    """Return what is to be done with all; TypeError or ValueError for what cannot be, before anything is changed."""
    for member in members:
        member.model._need_compiled("fit", training=True)
    held_out = how.held_out._replace(data=given[3])
    with random.drawing_from(members[0].stream):  # the order of what is read once for all
        found = job(members[0].model, given[:3], how.class_weight, how.pace, how.epochs, held_out)
    check_alike([member.model for member in members], found.shape)
    if how.bootstrap and found.source.reads:
        raise ValueError("bootstrap draws from arrays; batches that come one by one cannot be drawn again.")
    return found


def prepared(members: Sequence[Member], found: Job, how: How, shown: Sequence[Any] = ()) -> list[loop.Trainee]:
    """Return all as `loop.fit` trains them, each to the bits that it would have alone; ``shown`` see their mean."""
    trainees = _trainees(members, found, how)
    params = {"epochs": found.epochs.stop, "steps": found.source.steps, "verbose": how.verbose}
    for member, trainee in zip(members, trainees, strict=True):
        member.model.stop_training = False
        member.hooks.set_model(member.model)
        member.hooks.set_params(params | {"steps": trainee.source.steps})  # of its own rows
    for display in shown:
        display.set_params(params)
    return trainees


def train_elsewhere(how: How, members: list[Member], given: Given) -> list[Member]:
    """Train members in a worker, and return them."""
    found = asked(members, given, how)
    loop.fit(prepared(members, found, how), found.epochs)
    for member in members:
        member.program = member.model.program
    return members


def _trainees(members: Sequence[Member], found: Job, how: How) -> list[loop.Trainee]:
    """Return the members as the loop trains them."""
    held, parts = found.source.sample, dict[int, Dataset]()
    assert held is not None
    held_out: Sequence[Source | None] = [None] * len(members)
    if found.validation is not None:
        held_out = readers(found.validation.source, len(members))
    trainees = []
    for member, there in zip(members, held_out, strict=True):
        with random.drawing_from(member.stream):
            own, drawn = held, None
            if how.bootstrap:
                member.rows = drawn = random.generator().integers(len(held), size=len(held))
            elif (rows := member.rows) is not None:  # several have the same
                own = parts[id(rows)] = parts.get(id(rows)) or held.each(functools.partial(rows_of, rows=rows))
            source = found.source  # read once for all
            if not source.reads:
                source = Held(own, data.Batches(len(own), *how.pace, drawn))
            validation = None
            if found.validation is not None and there is not None:
                validation = loop.Validation(there, found.validation.due)
            hooks = member.hooks
            trainees.append(member.model._trainee(source, found.shape, len(found.epochs), hooks, validation))
    return trainees


@contextmanager
def randomness_of(stream: random.Stream) -> Iterator[None]:
    """Draw from ``stream``; afterwards the package's, Python's and NumPy's generators are as they were."""
    with _generators:
        python, numpy = python_random.getstate(), np.random.get_state()
        try:
            with random.drawing_from(stream):
                yield
        finally:
            python_random.setstate(python)
            np.random.set_state(numpy)


def _after_fork() -> None:
    """Take it that nobody draws for a member: a fork has no other thread of its parent's, but the lock as it was."""
    global _generators
    _generators = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_alike(models: Sequence[Sequential], shape: Shape | None) -> None:
    """Raise ValueError, saying what differs, unless models take the same steps on samples of ``shape``.

    ``shape`` None: as far as they know their own.
    """
    expected = outline(models[0], shape)
    for k, model in enumerate(models[1:], 1):
        found = outline(model, shape)
        for name in [*expected, *found] if found != expected else ():
            if found.get(name) != expected.get(name):
                raise ValueError(
                    f"Members of an ensemble must be of one shape: {name} of member {k} is {found.get(name)}, "
                    f"of member 0 {expected.get(name)}."
                )


def outline(model: Sequential, shape: Shape | None) -> dict[str, object]:
    """Return by name what must be the same in all members. Numbers that a step only reads may differ."""
    loss, optimizer = model._need_compiled("An ensemble")
    device, known = model.device, model._known_input_shape() or shape
    found: dict[str, object] = {
        "the loss": (loss.name, loss.rule) if loss.own else loss,  # one's own is equal to itself alone
        "the metrics": [name for name, _ in model._metric_names],
        "the weighting of metrics": [weighted for _, weighted in model._metric_names],
        "the optimizer": type(optimizer).__name__, "the optimizer's state": optimizer.slots,
        "the dtype": model.dtype, "the device": device.name, "the device's kernels": device.kernels,
        "the input shape": known,
    }  # fmt: skip
    if known is None or not model.layers:
        return found
    model._runner.reread(model._trainable)
    network = model._runner.network or describe(model._runner.stack, known)
    return found | network.outline


def gives_callbacks(given: object) -> TypeGuard[Callable[..., object]]:
    """Whether this is a function that returns callbacks, for each model its own."""
    return callable(given) and not hasattr(given, "set_model")


def copies(callbacks: object, count: int, known: Sequence[object] = ()) -> list[object]:
    """Return copies of callbacks, which have the models that they have; TypeError where there can be none.

    ``known``: what else is not copied.
    """
    models = [getattr(each, "model", None) for each in CallbackList(callbacks).callbacks]
    kept = {id(each): each for each in (*known, *models) if each is not None}
    try:
        return [copy.deepcopy(callbacks, dict(kept)) for _ in range(count)]
    except Exception as error:
        raise TypeError(
            f"The callbacks cannot be copied for each member ({error}). Pass a function that is given the member's "
            "number and returns new ones: callbacks=lambda k: [...]."
        ) from error


def apart(taken: dict[object, int], k: int, hooks: CallbackList) -> None:
    """Raise ValueError where model ``k`` has a callback of another's; ``taken``: whose each is, by its id."""
    for callback in hooks.callbacks:
        if taken.setdefault(id(callback), k) != k:
            name = type(callback).__name__
            raise ValueError(f"Models share one {name}: the function must make a new one for each of them.")


def files_of(hooks: CallbackList, k: int, instead: str) -> list[tuple[Any, str, str]]:
    """Return which callbacks write files: each, its attribute, and the name of model ``k``.

    That is with the number in the place of "{member}", or of "{member:02d}" in that format. ValueError for a
    BackupAndRestore, which has ``instead`` of it.
    """
    found = []
    for callback in hooks.callbacks:
        if isinstance(callback, BackupAndRestore):
            raise ValueError(f"BackupAndRestore is of one model. {instead}")
        for kind, attribute in FILES.items():
            if isinstance(callback, kind):
                path = re.sub(
                    r"\{member(?::([^{}]*))?\}", lambda at: format(k, at[1] or ""), getattr(callback, attribute)
                )
                found.append((callback, attribute, path))
    return found
