"""Ensemble: independent models of one shape, trained together; their mean and their spread as a prediction."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gpumlp import random, utils
from gpumlp.callbacks import History, ProgbarLogger
from gpumlp.engine.feed import Dataset
from gpumlp.errors import NotTrained
from gpumlp.layers import Activation, Input, Shape, whole_number
from gpumlp.members import (
    Given,
    Hooks,
    How,
    Member,
    apart,
    asked,
    check_alike,
    copies,
    files_of,
    gives_callbacks,
    prepared,
    randomness_of,
    train_elsewhere,
)
from gpumlp.models import Sequential, files, state
from gpumlp.models.fitting import HeldOut, Job
from gpumlp.models.sequential import Verbose, result, verbosity
from gpumlp.saving import custom_object_scope, disk, read_state, write_state
from gpumlp.saving.disk import PathLike
from gpumlp.saving.text import a_dict
from gpumlp.signatures import Named, named
from gpumlp.training import data, loop, samples
from gpumlp.training.blocks import check_held
from gpumlp.training.progress import Progress
from gpumlp.training.results import mean
from gpumlp.training.streams import Held, readers
from gpumlp.workers import Outcome, counted, differences, engine, executor_of, run

if TYPE_CHECKING:
    from concurrent.futures import Executor

GO_ON = (
    "Save an ensemble between two fits, ensemble.save(path), and go on with "
    "gpumlp.Ensemble.load(path).fit(..., initial_epoch=...)."
)


class Ensemble(Named):
    """Models of one shape that are trained together, each to the bits that it would have alone.

    A member has a stream of random numbers of its own, begun by its seed, from which come its weights, its shuffles
    and its dropout. So member k is what ``utils.set_random_seed(seeds[k]); model = build(); model.fit(...)`` makes:
    weights, optimizer and history. The caller's random numbers go on as if there were no members.

    On the CPU, members that run compiled kernels are trained in one call, each by one thread; by NumPy one after the
    other.

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
    seeds : list of int
        One a member.
    callbacks : list of lists of Callback
        Those of each member in the last ``fit``, its History last; copies of an ensemble, and files, have none.
    samples : list of int arrays of shape (n,), or None
        The rows of x that each member had in the last ``fit``, where that was with ``bootstrap``.

    Raises
    ------
    TypeError
        If ``build`` is not callable or returns something else.
    ValueError
        If a model is not compiled, if two share what must be their own, or are of different shapes, or if there are not
        as many seeds as members.

    Examples
    --------
    >>> import gpumlp
    >>> import numpy as np
    >>> def build():
    ...     model = gpumlp.Sequential(
    ...         [gpumlp.layers.Dense(16, "tanh", input_shape=(1,)), gpumlp.layers.Dense(1)]
    ...     )
    ...     model.compile("adam", "mse")
    ...     return model
    >>> x = np.linspace(-1.0, 1.0, 64)[:, None]
    >>> ensemble = gpumlp.Ensemble(build, members=4)
    >>> histories = ensemble.fit(x, x**2, epochs=5, verbose=0)
    >>> mean, spread = ensemble.predict(x)
    >>> mean.shape, spread.shape
    ((64, 1), (64, 1))
    """

    def __init__(self, build: Callable[..., Sequential], members: int, seeds: Sequence[int] | None = None) -> None:
        count = whole_number("members", members)
        seeds = list(range(count) if seeds is None else seeds)
        if len(seeds) != count:
            raise ValueError(f"seeds must be one for each of {count} members; got {len(seeds)}.")
        if not callable(build) or isinstance(build, Sequential):  # a model can be called too
            raise TypeError(f"build must be a function that returns a compiled Sequential; got {build!r}.")
        made: list[Sequential] = []
        streams = [random.Stream() for _ in seeds]
        for k, (seed, stream) in enumerate(zip(seeds, streams, strict=True)):
            with randomness_of(stream):
                utils.set_random_seed(seed)
                model = build(k) if _takes_a_number(build) else build()
            if not isinstance(model, Sequential):
                raise TypeError(f"build must return a compiled Sequential; got {model!r}.")
            made.append(model)
        self._take(made, streams, seeds)

    def _take(self, members: list[Sequential], streams: list[random.Stream], seeds: list[int]) -> None:
        if any(member.distributed is not None for member in members):
            raise NotImplementedError(
                "Members of an ensemble train side by side, each by itself: compile them without distributed=."
            )
        self.members, self._streams, self.seeds = members, streams, seeds
        self.callbacks: list[list[Any]] = []
        self.samples: list[np.ndarray] | None = None
        self._elsewhere = ""
        check_alike(members, None)
        parts = [layer for member in members for layer in member._runner.stack]
        optimizers = [member.optimizer for member in members]
        for what, own in (("model", members), ("optimizer", optimizers), ("layer", parts)):
            if len({id(each) for each in own}) < len(own):
                raise ValueError(f"Members share one {what}: build must make a new one each time it is called.")

    def __repr__(self) -> str:
        if len(self.members) == 1:
            return f"<Ensemble of 1 member, {self.members[0]!r}>"
        return f"<Ensemble of {len(self.members)} members, each like {self.members[0]!r}>"

    def __getstate__(self) -> dict[str, object]:
        """Return the ensemble without callbacks, which may be what no file can hold."""
        return self.__dict__ | {"callbacks": []}

    @property
    def program(self) -> str:
        """How the steps are run on the device, and why so; known once something has run."""
        return f"{counted(len(self.members), 'member')}, {self._elsewhere or f'each {self.members[0].program}'}"

    @named
    def fit(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: object = None,
        validation_split: float = 0.0,
        validation_data: object = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: object = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        bootstrap: bool = False,
        executor: object = None,
        members: Iterable[int] | None = None,
    ) -> list[History]:
        """Train all members, as `Sequential.fit` trains one.

        What gives batches is read once for all, so that these come to every member in one order. The progress display
        shows the mean over the members that train. Ctrl-C, or a callback's exception, ends training after the steps
        under way: members keep their weights, their histories the epochs done.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches
            Inputs.
        y : array, optional
            Targets.
        batch_size : int, optional
            How many samples make a step; 32 when None.
        epochs : int
            The number of the last epoch.
        verbose : {"auto", 0, 1, 2}
            Nothing (0), a line that grows (1, "auto") or one line an epoch (2).
        callbacks : Callback, list of these, or callable, optional
            Each member has callbacks of its own: copies (`copy.deepcopy`), or what the function returns, when it is
            given the member's number, 0 to members - 1. They see their member as ``self.model``, and its logs. One that
            sets ``stop_training`` ends the training of its member, behind that epoch; the others go on. `callbacks`
            has them afterwards. In the names of files that they write, ``{member}`` stands for the number.
        validation_split : float
            From 0 to below 1: the last share of x and y that is held out.
        validation_data : tuple ``(x, y)`` or ``(x, y, sample_weight)``, or what gives such batches, optional
            What each member is evaluated by at an epoch's end.
        shuffle : bool
            Whether samples come in another order in each epoch; each member has its own.
        class_weight : dict of float by class number, optional
            What a class's samples count in the loss.
        sample_weight : array [n], optional
            What a sample counts in the loss.
        initial_epoch : int
            The first epoch, from 0.
        steps_per_epoch, validation_steps : int, optional
            All batches when None.
        validation_batch_size : int, optional
            ``batch_size`` when None.
        validation_freq : int or list of int
            After every how many epochs there is a validation; or the epochs, from 1.
        bootstrap : bool
            Each member has samples of its own, as many as there are, drawn with replacement from its random numbers
            before anything else: ``rows = integers(n, size=n)``, then ``fit(x[rows], y[rows])`` (Breiman, "Bagging
            predictors", 1996). `samples` keeps the rows. What is held out is not drawn from.
        executor : concurrent.futures.Executor or ray.util.multiprocessing.Pool, optional
            Whose workers train the members, several at a time each, to the same bits: a ProcessPoolExecutor,
            mpi4py's MPIPoolExecutor, Dask's ``client.get_executor()``. The data, arrays, are sent once to each worker,
            of a file that is mapped all of it; what would be read in blocks is refused. Members
            and callbacks travel there and back, and those here become what they have become; so the display counts
            members, and what callbacks have to do with other objects stays there.
        members : list of int, optional
            The numbers of those that are trained, such as a NotTrained error's; all when None.

        Returns
        -------
        list of History
            One of each member that is trained, which is also its model's ``history``.

        Raises
        ------
        TypeError, ValueError
            As `Sequential.fit`, where members have become different, where members' callbacks would write the same
            file, and for a `BackupAndRestore`; before anything is changed.
        NotTrained
            Where workers have died, or members' training has raised there: of the members it names. The others are
            trained.
        """
        level, chosen = verbosity(verbose), self._chosen(members)
        workers = None if executor is None else executor_of(executor)
        each = self._each(chosen, callbacks)
        held_out = HeldOut(None, validation_split, validation_batch_size, validation_steps, validation_freq)
        pace = batch_size, steps_per_epoch, bool(shuffle)
        how = How(class_weight, pace, (initial_epoch, epochs), held_out, bootstrap, verbose)
        given = x, y, sample_weight, validation_data
        if workers is not None:
            there = validation_data if isinstance(validation_data, (tuple, list)) else ()
            validates = {f"validation_data[{k}]": value for k, value in enumerate(there)}
            check_held("executor", x=x, y=y, sample_weight=sample_weight, **validates)
        found = asked(each, given, how)
        if workers is not None:
            _check_sendable(given, found)
            self._train_by(workers, chosen, each, given, how, level)
        else:
            shown = [ProgbarLogger()] if level else []
            trainees = prepared(each, found, how, shown)
            self._keep(zip(chosen, each, strict=True))
            loop.fit(trainees, found.epochs, shown)
        return [member.hooks.history for member in each if member.hooks.history is not None]

    def _train_by(
        self, executor: Executor, chosen: list[int], each: list[Member], given: Given, how: How, level: int
    ) -> None:  # fmt: skip
        """Have an executor's workers train members; NotTrained where some were not, when the others are."""
        reasons: dict[int, BaseException] = {}
        ways: dict[str, list[int]] = {}
        shown = Progress(len(each), level, f"Training {counted(len(each), 'member')}" if level else "", "member")

        def take(outcome: Outcome) -> None:
            for i, back in zip(outcome.numbers, outcome.results, strict=False):
                try:
                    each[i].become(back)
                except ValueError as error:  # it has other layers by now
                    reasons[chosen[i]] = error
                    continue
                self._keep([(chosen[i], each[i])])
                assert outcome.place is not None
                way = f"{each[i].program.partition(';')[0]}, with NumPy {outcome.place.numpy}"
                ways.setdefault(way, []).append(chosen[i])
            if outcome.error is not None:
                reasons.update((chosen[i], outcome.error) for i in outcome.numbers)
            shown.update(max(1, sum(map(len, ways.values()))), {})

        count = run(executor, functools.partial(train_elsewhere, how), each, given, take)
        if level and ways:
            logs = [dict(member.model._results) for member in each if member.program]
            shown.finish(len(logs), mean(logs))
        self._elsewhere = f"trained by {counted(count, 'worker')} ({engine(executor)}): {'; '.join(ways)}"
        differences(ways, "members")
        if reasons:
            raise NotTrained(reasons) from reasons[min(reasons)]

    def _keep(self, trained: Iterable[tuple[int, Member]]) -> None:
        """Have the callbacks and the rows of members that were trained, each with its number."""
        self._elsewhere, none = "", np.zeros(0, np.int64)
        self.callbacks = self.callbacks or [[] for _ in self.members]
        drawn = self.samples or [none] * len(self.members)
        for k, member in trained:
            self.callbacks[k] = member.hooks.callbacks
            drawn[k] = none if member.rows is None else member.rows
        self.samples = drawn if any(map(len, drawn)) else None

    def _chosen(self, members: Iterable[int] | None) -> list[int]:
        """Return the numbers of the members that are meant; ValueError where there are none."""
        count = len(self.members)
        chosen = list(range(count)) if members is None else [operator.index(k) for k in members]
        if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= k < count for k in chosen):
            raise ValueError(f"members must be different numbers from 0 to {count - 1}; got {chosen}.")
        return chosen

    def _each(self, chosen: Sequence[int], callbacks: object) -> list[Member]:
        """Return members with callbacks of their own."""
        hooks = self._hooks_of_each(chosen, callbacks)
        return [Member(self.members[k], self._streams[k], own) for k, own in zip(chosen, hooks, strict=True)]

    def _hooks_of_each(self, chosen: Sequence[int], callbacks: object) -> list[Hooks]:
        """Return each member's callbacks; TypeError or ValueError where they cannot be its own."""
        if gives_callbacks(callbacks):
            given = [callbacks(k) for k in chosen]
        else:
            given = copies(callbacks, len(chosen), (self, *self.members))
        hooks = [Hooks(self._streams[k], own) for k, own in zip(chosen, given, strict=True)]
        taken: dict[object, int] = {}
        for k, own in zip(chosen, hooks, strict=True):
            apart(taken, k, own)
            for callback, attribute, path in files_of(own, k, GO_ON):
                if taken.setdefault((attribute, path), k) != k:
                    raise ValueError(
                        f"{type(callback).__name__} of members {taken[attribute, path]} and {k} would write to "
                        f"{path!r}. Have '{{member}}', which stands for the number, in the name."
                    )
                setattr(callback, attribute, path)
        return hooks

    @named
    def evaluate(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        sample_weight: object = None,
        steps: int | None = None,
        return_dict: bool = False,
    ) -> tuple[Any, list[Any]]:
        """Return what the members' mean prediction is worth, and what each member is worth by itself.

        The loss and the metrics of the mean are those of what `predict` returns first, as if one model had predicted
        that: no penalties are in its loss, as no weights are its own.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches
            Inputs.
        y : array, optional
            Targets.
        batch_size : int, optional
            How many samples are computed at once; 32 when None.
        verbose : {"auto", 0, 1, 2}
            Nothing (0), a line that grows (1, "auto") or a line at the end (2).
        sample_weight : array [n], optional
            What a sample counts in the loss, and in weighted metrics.
        steps : int, optional
            How many batches; all when None.
        return_dict : bool
            Whether what is returned has names.

        Returns
        -------
        mean : float, list of float, or dict
            As `Sequential.evaluate` returns it, of the mean prediction.
        each : list
            The same of each member.
        """
        first, level = self.members[0], verbosity(verbose)
        loss, _ = first._need_compiled("evaluate")
        source, shape = first._source((x, y, sample_weight), None, loss, (batch_size, steps, False))
        check_alike(self.members, shape)
        each = []
        own = readers(source, len(self.members))
        for member, stream, there in zip(self.members, self._streams, own, strict=True):
            with random.drawing_from(stream):
                each.append(member._evaluated(there, shape, member._hooks(None, 0, source.steps), return_dict))
        return self._worth(own[0].all_read(), shape, max(source.batch, 1), level, return_dict), each

    def _worth(self, found: Dataset, shape: Shape, batch: int, level: int, return_dict: bool) -> Any:
        """Return the loss and the metrics of the mean prediction: those of a model that gives what it is given."""
        first = self.members[0]
        mean = self.predict(found.x.reshape(-1, *shape), batch)[0]
        judge = Sequential(
            [Input(mean.shape[1:], name="mean"), Activation("linear", name="as_it_is")], name="ensemble",
            dtype=first.dtype.name,
        )  # fmt: skip
        judge._runner.choose(first.device)
        source = Held(
            Dataset(mean.reshape(len(mean), -1), found.y, found.weights), data.Batches(len(mean), batch, None, False)
        )
        objective = first._objective
        assert objective is not None
        choice, hooks = judge._choice(source, objective), judge._hooks(None, level, source.steps)
        return result(loop.evaluate(judge._runner, source, objective, choice, hooks), objective, return_dict)

    @named
    def predict(
        self, x: object, batch_size: int | None = None, verbose: Verbose = 0, steps: int | None = None
    ) -> tuple[Any, Any]:
        """Return the members' mean and their spread.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches of such
            Inputs.
        batch_size : int, optional
            How many samples are computed at once; as many as are fast when None.
        verbose : {0, "auto", 1, 2}
            What is shown of each member: see `Sequential.predict`.
        steps : int, optional
            How many batches; all when None.

        Returns
        -------
        mean, spread : array [n, *output]
            On the GPU if ``x`` is, else NumPy's.

        Notes
        -----
        The spread is the standard deviation over the members, divided by their number: that of the mixture of all of
        them in equal parts (Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
        ensembles", 2017), and 0 for a single one. It says how far the members disagree, not how noisy the targets are.
        """
        each = self.predict_members(x, batch_size, verbose, steps)
        # in double: where all members agree the spread is exactly 0
        return each.mean(0, dtype=np.float64).astype(each.dtype), each.std(0, dtype=np.float64).astype(each.dtype)

    @named
    def predict_members(
        self, x: object, batch_size: int | None = None, verbose: Verbose = 0, steps: int | None = None
    ) -> Any:
        """Return every member's predictions. What gives batches is read once for all.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches of such
            Inputs.
        batch_size : int, optional
            How many samples are computed at once; as many as are fast when None.
        verbose : {0, "auto", 1, 2}
            What is shown of each member: see `Sequential.predict`.
        steps : int, optional
            How many batches; all when None.

        Returns
        -------
        array [members, n, *output]
            On the GPU if ``x`` is, else NumPy's.
        """
        if not data.gives_batches(x):
            each = [member.predict(x, batch_size, verbose, steps) for member in self.members]
            return data.library(each[0]).stack(each)
        first = self.members[0]
        source, shape = samples.unlabelled(first._runner, x, first._known_input_shape(), batch_size, steps)
        own = readers(source, len(self.members))
        pairs = zip(self.members, own, strict=True)
        each = [member._predicted(there, shape, member._hooks(None, verbose, source.steps)) for member, there in pairs]
        return data.library(each[0]).stack(each)

    # ---- files -----------------------------------------------------------------------------------------------------

    @named
    def save(self, filepath: PathLike, overwrite: bool = True) -> None:
        """Save all members, and all that their training goes on from, to one file, for `load`.

        Parameters
        ----------
        filepath : str or path
            Its name ends in ".gpumlp".
        overwrite : bool
            As in `models.save_model`.

        Raises
        ------
        ValueError
            For another ending.
        FileExistsError, OSError
            Where the file is not to be replaced, or cannot be written: what was there is what it was.
        """
        path = disk.path_of(filepath)
        if path.suffix != ".gpumlp":
            raise ValueError(f"An ensemble's file is gpumlp's own, and its name ends in '.gpumlp'; got {str(path)!r}.")
        if not files.may_write(path, overwrite):
            return
        found = []
        for member, stream in zip(self.members, self._streams, strict=True):
            with random.drawing_from(stream):  # where it is, is in the member's state
                found.append(state.whole(member))
        seeds = [int(seed) for seed in self.seeds]
        write_state(path, {"kind": state.ENSEMBLE, "seeds": seeds, "members": found, "samples": self.samples})

    @classmethod
    def load(cls, filepath: PathLike, custom_objects: Mapping[str, object] | None = None) -> Self:
        """Return a new ensemble, as `save` has written it: its training goes on to the bits of the one that was saved.

        Parameters
        ----------
        filepath : str or path
            Its name ends in ".gpumlp".
        custom_objects : dict, optional
            Classes and functions of a user's own by name, that are not registered.

        Returns
        -------
        Ensemble

        Raises
        ------
        ValueError
            Where the file is damaged, or is no ensemble's.
        OSError
            Where it cannot be read.
        """
        what = str(disk.path_of(filepath))
        found = read_state(what)
        if found.get("kind") != state.ENSEMBLE:
            raise ValueError(f"{what} has no ensemble, but {found.get('kind')!r}: models.load_model reads a model.")
        each, drawn = found.get("members"), found.get("samples")
        seeds: Any = found.get("seeds")  # looked at below
        if not isinstance(each, list) or not each:
            raise ValueError(f"{what} must have members; it has none.")
        for name, value, kind in (("seeds", seeds, int), ("samples", drawn, np.ndarray)):
            there = isinstance(value, list) and [type(one) for one in value] == [kind] * len(each)
            if not there and (value is not None or name == "seeds"):
                raise ValueError(f"{what} must have as many {name} as members, {len(each)}.")
        members, streams = [], [random.Stream() for _ in each]
        for k, (member, stream) in enumerate(zip(each, streams, strict=True)):
            where = f"Member {k} in {what}"
            with custom_object_scope(custom_objects), randomness_of(stream):
                members.append(files.from_state(a_dict(member, where), where))
        ensemble = cls.__new__(cls)
        ensemble._take(members, streams, seeds)
        ensemble.samples = drawn
        return ensemble


def _check_sendable(given: Given, found: Job) -> None:
    """Raise ValueError for data that cannot be sent to workers."""
    if found.source.reads or (found.validation is not None and found.validation.source.reads):
        raise ValueError(
            "executor sends data to its workers: pass arrays; x, or validation_data, gives batches, or lies in a file "
            "and is read in blocks. If there is room for it, pass numpy.asarray(x); else train here, without executor."
        )
    if any(data.on_gpu(value) for value in given):
        raise ValueError("executor sends data to its workers: copy them to the host first (cupy.asnumpy).")


def _takes_a_number(build: Callable[..., object]) -> bool:
    """Whether ``build`` cannot be called without an argument."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return any(p.kind in kinds and p.default is p.empty for p in inspect.signature(build).parameters.values())
