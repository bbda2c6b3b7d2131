"""Ensemble: independent models of one shape, trained together; their mean and their spread as a prediction."""

from __future__ import annotations

import inspect
import random as python_random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpumlp import random, utils
from gpumlp.callbacks import CallbackList, History
from gpumlp.engine.network import describe
from gpumlp.layers import Shape, whole_number
from gpumlp.models import Sequential
from gpumlp.models.sequential import verbosity
from gpumlp.training import data, loop
from gpumlp.training.streams import Held


class Ensemble:
    """Models of one shape that are trained together, each to the bits that it would have alone.

    A member has a stream of random numbers of its own, begun by its seed, from which come its weights, its shuffles
    and its dropout. So member k is what ``utils.set_random_seed(seeds[k]); model = build(); model.fit(...)`` makes:
    weights, optimizer and history. The caller's random numbers go on as if there were no members.

    On the CPU, members that run compiled kernels are trained in one call, each by one thread. Which kernels a member
    takes is decided as for a model alone: many short jobs are NumPy's, one after the other, unless
    ``GPUMLP_KERNELS=numba`` asks for compiled kernels.

    Parameters
    ----------
    build : callable
        Returns a new compiled `Sequential`. If it has a parameter without a default, it is given the member's number,
        0 to members - 1: learning rates, dropout rates, penalties and initializers may differ between members.
    members : int
        How many models.
    seeds : sequence of int, optional
        One a member; 0, 1, 2, ... when None.

    Attributes
    ----------
    members : list of Sequential
        The models. They are whole: ``ensemble.members[0].evaluate(x, y)``. One that is trained or built by itself draws
        from the package's random numbers, not from its own.
    samples : list of int arrays of shape (n,), or None
        The rows of x that each member had in the last ``fit``, where that was with ``bootstrap``.

    Raises
    ------
    TypeError
        If ``build`` is not callable or returns something else.
    ValueError
        If a model is not compiled, if two share what must be their own, or are of different shapes, or if there are not
        as many seeds as members.
    """

    def __init__(self, build: Callable[..., Sequential], members: int, seeds: Sequence[int] | None = None) -> None:
        count = whole_number("members", members)
        seeds = range(count) if seeds is None else list(seeds)
        if len(seeds) != count:
            raise ValueError(f"seeds must be one for each of {count} members; got {len(seeds)}.")
        if not callable(build) or isinstance(build, Sequential):  # a model can be called too
            raise TypeError(f"build must be a function that returns a compiled Sequential; got {build!r}.")
        self.members: list[Sequential] = []
        self._streams = [random.Stream() for _ in seeds]
        for k, (seed, stream) in enumerate(zip(seeds, self._streams, strict=True)):
            with _randomness_of(stream):
                utils.set_random_seed(seed)
                model = build(k) if _takes_a_number(build) else build()
            if not isinstance(model, Sequential):
                raise TypeError(f"build must return a compiled Sequential; got {model!r}.")
            self.members.append(model)
        self.samples: list[np.ndarray] | None = None
        self.stop_training = False
        _check_alike(self.members, None)
        parts = [layer for member in self.members for layer in member._runner.stack]
        optimizers = [member.optimizer for member in self.members]
        for what, own in (("model", self.members), ("optimizer", optimizers), ("layer", parts)):
            if len({id(each) for each in own}) < len(own):
                raise ValueError(f"Members share one {what}: build must make a new one each time it is called.")

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.members)} members, each like {self.members[0]!r}>"

    @property
    def program(self) -> str:
        """How the steps are run on the device, and why so; known once something has run."""
        return f"{len(self.members)} members, each {self.members[0].program}"

    def fit(
        self,
        x: object,
        y: object = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: object = "auto",
        shuffle: bool = True,
        steps_per_epoch: int | None = None,
        sample_weight: object = None,
        bootstrap: bool = False,
    ) -> list[History]:
        """Train all members; return a History of each, which is also its model's ``history``.

        Arguments are `Sequential.fit`'s; there are no callbacks and no validation. The progress display shows the mean
        over the members. Ctrl-C ends training after the steps under way: members keep their weights, their histories
        the epochs done.

        Parameters
        ----------
        bootstrap : bool
            Each member has samples of its own, as many as there are, drawn with replacement from its random numbers
            before anything else: ``rows = integers(n, size=n)``, then ``fit(x[rows], y[rows])`` (Breiman, "Bagging
            predictors", 1996). `samples` keeps the rows.

        Raises
        ------
        TypeError, ValueError
            As `Sequential.fit`, and where members have become different; before anything is changed.
        """
        epochs, level = whole_number("epochs", epochs), verbosity(verbose)
        first = self.members[0]
        for member in self.members:
            loss, _ = member._need_compiled("fit", training=True)
        source, shape = first._source((x, y, sample_weight), None, loss, (batch_size, steps_per_epoch, bool(shuffle)))
        _check_alike(self.members, shape)
        train = source.sample
        assert train is not None
        if bootstrap and source.reads:
            raise ValueError("bootstrap draws from arrays; batches that come one by one cannot be drawn again.")
        samples: list[np.ndarray] = []
        trainees: list[loop.Trainee] = []
        for member, stream in zip(self.members, self._streams, strict=True):
            with random.drawing_from(stream):
                rows = random.generator().integers(len(train), size=len(train)) if bootstrap else None
                own = source  # read once for all
                if not source.reads:
                    own = Held(train, data.Batches(len(train), batch_size, steps_per_epoch, bool(shuffle), rows))
                trainees.append(member._trainee(own, shape, epochs))
                samples += [] if rows is None else [rows]
        self.samples, self.stop_training = samples or None, False
        params = {"epochs": epochs, "steps": source.steps, "verbose": level}
        histories = [History() for _ in self.members]
        for member, history in zip(self.members, histories, strict=True):
            member.history = history
            history.set_model(member)
            history.set_params(params)

        def close(epoch: int, averages: list[dict[str, float]]) -> dict[str, float]:
            for history, logs in zip(histories, averages, strict=True):
                history.on_epoch_end(epoch, logs)
            return loop.mean(averages)

        shown = CallbackList(add_progbar=level != 0, model=self)
        shown.set_params(params)
        loop.fit(trainees, range(epochs), shown, close)
        return histories

    def predict(self, x: object, batch_size: int | None = None) -> tuple[Any, Any]:
        """Return the members' mean and their spread for ``x``, each of the shape of one model's predictions.

        The spread is the standard deviation over the members, divided by their number: that of the mixture of all of
        them in equal parts (Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
        ensembles", 2017), and 0 for a single one. It says how far the members disagree, not how noisy the targets are.
        """
        each = self.predict_members(x, batch_size)
        # in double: where all members agree the spread is exactly 0
        return each.mean(0, dtype=np.float64).astype(each.dtype), each.std(0, dtype=np.float64).astype(each.dtype)

    def predict_members(self, x: object, batch_size: int | None = None) -> Any:
        """Return every member's predictions for ``x``, shape (members, n, *output_shape); where, as `Sequential`."""
        each = [member.predict(x, batch_size, verbose=0) for member in self.members]
        return data.library(each[0]).stack(each)


@contextmanager
def _randomness_of(stream: random.Stream) -> Iterator[None]:
    """Draw from ``stream``; afterwards the package's, Python's and NumPy's generators are as they were."""
    python, numpy = python_random.getstate(), np.random.get_state()
    try:
        with random.drawing_from(stream):
            yield
    finally:
        python_random.setstate(python)
        np.random.set_state(numpy)


def _takes_a_number(build: Callable[..., Any]) -> bool:
    """Whether ``build`` cannot be called without an argument."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return any(p.kind in kinds and p.default is p.empty for p in inspect.signature(build).parameters.values())


def _check_alike(members: Sequence[Sequential], shape: Shape | None) -> None:
    """Raise ValueError, saying what differs, unless models take the same steps on samples of ``shape``.

    ``shape`` None: as far as they know their own.
    """
    expected = _outline(members[0], shape)
    for k, member in enumerate(members):
        found = _outline(member, shape)
        for name in [*expected, *found]:
            if found.get(name) != expected.get(name):
                raise ValueError(
                    f"Members of an ensemble must be of one shape: {name} of member {k} is {found.get(name)}, "
                    f"of member 0 {expected.get(name)}."
                )


def _outline(model: Sequential, shape: Shape | None) -> dict[str, object]:
    """Return by name what must be the same in all members. Numbers that a step only reads may differ."""
    loss, optimizer = model._need_compiled("An ensemble")
    device, known = model.device, model._known_input_shape() or shape
    outline: dict[str, object] = {
        "the loss": loss, "the metrics": [name for name, _ in model._metric_names],
        "the weighting of metrics": [weighted for _, weighted in model._metric_names],
        "the optimizer": type(optimizer).__name__, "the optimizer's state": optimizer.slots,
        "the dtype": model.dtype.name, "the device": device.name, "the device's kernels": device.kernels,
        "the input shape": known,
    }  # fmt: skip
    if known is None or not model.layers:
        return outline
    network = model._runner.network or describe(model._runner.stack, known)
    for i, op in enumerate(network.ops):
        outline[f"operation {i}"] = op.outline()
    for i, spec in enumerate(network.weights):
        outline[f"the shape of weight array {i}"] = spec.shape
        outline[f"the training of weight array {i}"] = network.trainable[i]
    for i, frozen in enumerate(network.frozen):
        outline[f"the training of operation {i}"] = not frozen
    return outline
