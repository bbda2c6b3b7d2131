"""search: candidates over folds, each trained and judged as a model by itself, many at a time."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from gpumlp import config, random, utils
from gpumlp.errors import SearchFailed, SearchInterrupted, caller_level, in_words
from gpumlp.maps import rows_of
from gpumlp.members import (
    Given,
    Hooks,
    How,
    Member,
    apart,
    asked,
    copies,
    files_of,
    gives_callbacks,
    outline,
    prepared,
    randomness_of,
)  # fmt: skip
from gpumlp.metrics import for_model
from gpumlp.models import Sequential
from gpumlp.models.fitting import HeldOut
from gpumlp.models.sequential import Verbose, verbosity
from gpumlp.signatures import named
from gpumlp.sweeps.cases import Case, Fold, candidates, comparable, dealt, folds
from gpumlp.sweeps.result import DATA, UNKNOWN, Scored, SearchResult, reasons
from gpumlp.training import data, loop
from gpumlp.training.blocks import check_held
from gpumlp.training.progress import Progress
from gpumlp.workers import Outcome, counted, differences, digest, executor_of, listed, run

RENAMED = re.compile(r"^weighted_|_\d+$")  # how one of two metrics of one name is told from the other


class _Plan(NamedTuple):
    """What is the same for all cases, but for the data."""

    build: Callable[..., Sequential]
    params: list[dict[str, Any]]
    given: list[dict[str, Any]]  # of these, what each candidate's build takes
    hows: list[How]  # of each candidate
    seed: int
    callbacks: object
    validates: bool
    folds: int


class _Table(NamedTuple):
    """The data: arrays, and which rows of them each fold has."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    validation: tuple[np.ndarray | None, ...] | None
    folds: list[Fold]

    def part(self, rows: np.ndarray) -> tuple[Any, Any, Any]:
        """Return these rows of x, y and the weights."""
        x, y, weights = (None if array is None else rows_of(array, rows) for array in (self.x, self.y, self.weights))
        return x, y, weights

    def digests(self) -> dict[str, str]:
        """Return a name for each of the data, which no other data have."""
        given = (self.x,), (self.y,), (self.weights,), self.validation or ()
        plain = ([None if array is None else np.ascontiguousarray(array) for array in each] for each in given)
        return {name: digest(tuple(each)) for name, each in zip(DATA, plain, strict=True)}


@named
def search(
    build: Callable[..., Sequential],
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    x: object,
    y: object,
    *,
    cv: Any = 5,
    monitor: str = "loss",
    mode: Literal["auto", "min", "max"] = "auto",
    seed: int = 0,
    refit: bool = False,
    executor: object = None,
    resume: SearchResult | None = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Verbose = "auto",
    callbacks: object = None,
    validation_split: float = 0.0,
    validation_data: object = None,
    shuffle: bool = True,
    class_weight: dict[int, float] | None = None,
    sample_weight: object = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
) -> SearchResult:
    """Train candidates of a model, and judge them on samples that they were not trained on.

    Each candidate on each fold comes to the bits of ``utils.set_random_seed(seed); model = build(**params);
    model.fit(x[train], y[train], ...)``, and is judged by ``model.evaluate(x[test], y[test], batch_size)``. Models of
    one shape that take steps of the same sizes are trained together, as an `Ensemble`. The caller's random numbers go
    on as if there were no candidates.

    Parameters
    ----------
    build : callable
        Returns a new compiled `Sequential` for a candidate's parameters, which it is given by name.
    grid : dict of lists, or list of dicts
        All combinations of the lists' values are candidates; or each dict is one. What of batch_size, epochs, shuffle,
        class_weight and steps_per_epoch ``build`` does not take goes to ``fit``, in place of what is said here.
    x : array [n, *sample]
        Inputs. Of a file that is mapped, `numpy.memmap`, a fold's rows are copied into memory when it is trained, and
        an executor's workers are sent all of it; what lies elsewhere, such as HDF5's or zarr's, is read as a whole,
        and refused if it has more than 16 MiB.
    y : array [n] or [n, *output]
        Targets.
    cv : int, iterable of pairs, or splitter of scikit-learn's
        Into how many folds the samples are dealt, in an order drawn by ``seed``; or which rows each fold trains on, and
        which it is judged by. Where the order of samples means something, as in time, pass pairs.
    monitor : str
        The number by which candidates are compared: "loss", in which penalties are, or a metric's name.
    mode : {"auto", "min", "max"}
        Which is better, less or more of it. "auto": less of a loss, of a metric what its class says.
    seed : int
        By which each model is begun.
    refit : bool
        Whether the best candidate is trained on all samples, in this process.
    executor : concurrent.futures.Executor or ray.util.multiprocessing.Pool, optional
        Whose workers train the candidates, as those of `Ensemble.fit`. The data are sent once to each worker.
    resume : SearchResult, optional
        Of a search that had failures, or was cut off: what it has, of the same candidates and folds, is not done again.
        Data, seed and arguments of fit must be the same; whether ``build`` and ``callbacks`` are, is yours to know.
    batch_size : int, optional
        How many samples make a step; 32 when None.
    epochs : int
        How often the samples of a fold are gone through.
    verbose : {"auto", 0, 1, 2}
        Nothing (0), or a line that counts models.
    callbacks : Callback, list of these, or callable, optional
        Each model has copies; or what the function returns, new ones each time, when it is given the candidate's
        parameters, a dict. What they draw from Python's or NumPy's own generators are the caller's numbers. In the
        names of files that they write, ``{member}`` stands for the model's number, candidate * folds + fold; the one
        after the last is of what ``refit`` trains.
    validation_split : float
        From 0 to below 1: the last share of a fold's samples that its fit holds out.
    validation_data : tuple ``(x, y)`` or ``(x, y, sample_weight)``, optional
        What each fit validates on.
    shuffle : bool
        Whether samples come in another order in each epoch.
    class_weight : dict of float by class number, optional
        What a class's samples count in the loss.
    sample_weight : array [n], optional
        What a sample counts in the loss, and in weighted metrics.
    steps_per_epoch, validation_steps : int, optional
        All batches when None.
    validation_batch_size : int, optional
        ``batch_size`` when None.
    validation_freq : int or list of int
        After every how many epochs there is a validation; or the epochs, from 1.

    Returns
    -------
    SearchResult
        Candidates that have failed are listed there, with a warning.

    Raises
    ------
    TypeError, ValueError
        For a grid, folds, data or a monitor that are none, callbacks that are not each model's own, or whose files are
        not, a parameter that ``build`` does not take, or lacks, and for a ``resume`` of other data or arguments; before
        anything is trained.
    SearchFailed
        Where no model could be trained, the best one not on all samples, or where a warning is an error: with what
        there is as its ``result``.
    SearchInterrupted
        A KeyboardInterrupt, with what was done as its ``result``.

    Examples
    --------
    >>> import gpumlp
    >>> import numpy as np
    >>> def build(units, rate):
    ...     model = gpumlp.Sequential(
    ...         [gpumlp.layers.Dense(units, "tanh"), gpumlp.layers.Dense(1)]
    ...     )
    ...     model.compile(gpumlp.optimizers.Adam(rate), "mse")
    ...     return model
    >>> x = np.linspace(-1.0, 1.0, 60)[:, None]
    >>> grid = {"units": [4, 16], "rate": [0.001, 0.03]}
    >>> found = gpumlp.search(build, grid, x, x**2, cv=3, epochs=20, verbose=0)
    >>> found.best_params["rate"], len(found.rows())
    (0.03, 4)
    """
    workers = None if executor is None else executor_of(executor)
    table = _table(x, y, sample_weight, validation_data, cv, seed)
    fit = {
        "batch_size": batch_size, "epochs": epochs, "shuffle": bool(shuffle), "class_weight": class_weight,
        "steps_per_epoch": steps_per_epoch, "validation_split": validation_split,
        "validation_batch_size": validation_batch_size, "validation_steps": validation_steps,
        "validation_freq": validation_freq,
    }  # fmt: skip
    if not callable(build) or isinstance(build, Sequential):
        raise TypeError(f"build must be a function that returns a compiled Sequential; got {build!r}.")
    validates = bool(validation_split) or validation_data is not None
    params = candidates(grid)
    parts = dealt(build, params)
    hows = [_how(fit | own) for _, own in parts]
    plan = _Plan(build, params, [own for own, _ in parts], hows, seed, callbacks, validates, len(table.folds))
    _check(plan, monitor, mode)
    found = SearchResult(plan.params, table.folds, monitor, mode, seed)
    if batch_size is None and not any(steps for _, steps, _ in (how.pace for how in hows)):
        fit["batch_size"] = data.DEFAULT_BATCH
    found._made_of = table.digests() | comparable(fit | {"floatx": config.floatx()})
    if resume is not None:
        found._going_on(resume)
    level = verbosity(verbose)
    try:
        _search(workers, plan, table, found, level)
        _tell(found)
    except Warning as error:  # which somebody has had made errors: what is trained is not lost with that
        raise SearchFailed(found, in_words(error)) from error
    if refit:
        try:
            found.model = _refit(plan, table, found.best_index)
        except KeyboardInterrupt as error:
            raise SearchInterrupted(found) from error
        except Exception as error:
            raise SearchFailed(
                found, f"The best candidate was not trained on all samples. {in_words(error)}"
            ) from error
    return found


def _check(plan: _Plan, monitor: str, mode: str) -> None:
    """Raise TypeError or ValueError for what would be told when all is trained."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode must be one of auto, min, max; got {mode!r}.")
    if not isinstance(monitor, str):
        raise TypeError(f"monitor must be the name of a number, such as 'loss'; got {monitor!r}.")
    _check_callbacks(plan)
    if monitor != "loss":
        _check_monitor(plan, monitor, mode)


def _check_callbacks(plan: _Plan) -> None:
    """Raise ValueError where models would not have callbacks of their own, or write to the same files."""
    stream, taken, hooks = random.Stream(), dict[object, int](), []
    count = len(plan.params) + 1 if gives_callbacks(plan.callbacks) else 1  # at last those of the first one again
    with randomness_of(stream):
        for k in range(count):
            hooks.append(_hooks(plan, Case(k % len(plan.params), 0), k, stream))  # all are alive: an id is of one
            apart(taken, k, hooks[-1])


def _check_monitor(plan: _Plan, monitor: str, mode: str) -> None:
    """Raise ValueError where no candidate has the number by which they are to be compared, or nobody knows how."""
    names: dict[str, None] = {"loss": None}
    for candidate in range(len(plan.params)):
        try:
            model = _built(plan, Case(candidate, 0)).model
            metrics = [for_model(metric, model._loss, 1, 1, by) for metric, by in model._metric_names]
        except Exception:  # which is told as that of a candidate
            return
        meant = [metric for metric in metrics if metric.name in (monitor, RENAMED.sub("", monitor))]
        if mode == "auto" and any(not metric._direction for metric in meant):
            raise ValueError(UNKNOWN.format(monitor))
        if meant:
            return
        names |= dict.fromkeys(metric.name for metric in metrics)
    raise ValueError(f"monitor must be one of {', '.join(names)}; got {monitor!r}.")


def _how(fit: Mapping[str, Any]) -> How:
    """Return arguments of fit, by their names, as `members` takes them."""
    held_out = HeldOut(None, *(fit[f"validation_{name}"] for name in ("split", "batch_size", "steps", "freq")))
    pace = fit["batch_size"], fit["steps_per_epoch"], bool(fit["shuffle"])
    return How(fit["class_weight"], pace, (0, fit["epochs"]), held_out, False, 0)


def _table(x: object, y: object, weight: object, validation: object, cv: object, seed: int) -> _Table:
    """Return the data as arrays of as many rows, and their folds."""
    if data.gives_batches(x) or data.gives_batches(validation):
        raise ValueError(
            "search takes arrays, of which folds are cut; x, or validation_data, gives batches. If there is room "
            "for all, pass numpy.concatenate(list(batches)); else fit models one by one, which read them in turn."
        )
    there = validation if isinstance(validation, (tuple, list)) else (validation,)
    given = {"x": x, "y": y, "sample_weight": weight} | {f"validation_data[{k}]": v for k, v in enumerate(there)}
    found = {name: _array(name, value) for name, value in given.items() if name in ("x", "y") or value is not None}
    own = {name: found[name] for name in ("x", "y", "sample_weight") if name in found}
    data.same_length(**own)
    held_out = None if validation is None else tuple(found.get(f"validation_data[{k}]") for k in range(len(there)))
    return _Table(own["x"], own["y"], own.get("sample_weight"), held_out, folds(cv, own["x"], own["y"], seed))


def _array(name: str, value: object) -> np.ndarray:
    """Return an array of NumPy's; TypeError or ValueError for what is none."""
    check_held("search", **{name: value})
    found = data.to_array(name, value)
    if data.on_gpu(found):
        raise ValueError("search cuts folds of NumPy's arrays: copy them to the host first (cupy.asnumpy).")
    return found


def _search(executor: Any, plan: _Plan, table: _Table, found: SearchResult, level: int) -> None:
    """Have all cases done that are not yet in what was found."""
    all_of = [Case(i, j) for i in range(len(plan.params)) for j in range(len(table.folds))]
    cases = [case for case in all_of if case not in found.scores]
    ways: dict[str, list[int]] = {}
    shown = Progress(len(cases), level, f"Training {counted(len(cases), 'model')}" if level and cases else "", "model")
    done = 0

    def take(outcome: Outcome) -> None:
        nonlocal done
        failed = [] if outcome.error is None else [_failure(outcome.error)] * len(outcome.numbers)
        for k, scored in zip(outcome.numbers, failed or outcome.results, strict=True):
            found._take(cases[k], scored)
            if scored.program and outcome.place is not None:
                way = f"{scored.program.partition(';')[0]}, with NumPy {outcome.place.numpy}"
                ways.setdefault(way, []).append(cases[k].candidate)
        done += len(outcome.numbers)
        shown.update(done, {})

    try:
        run(executor, functools.partial(_scored, plan), cases, tuple(table), take)
    except KeyboardInterrupt as error:
        raise SearchInterrupted(found) from error
    if level and cases:
        shown.finish(done, {})
    if executor is not None:
        differences(ways, "candidates")


def _tell(found: SearchResult) -> None:
    """Warn of failures, and of losses that are no measure; SearchFailed where there is nothing else."""
    if found.failed and not found.scores:
        raise SearchFailed(
            found, f"All models of the search have failed, {len(found.failed)}. The first one: {found.failed[0].reason}"
        )
    if found.failed:
        warnings.warn(
            f"{counted(len(found.failed), 'model')} of {len(found.params) * len(found.folds)} failed: "
            f"{reasons(found.failed)} The result's failed has all; search(..., resume=result) tries them again.",
            stacklevel=caller_level(),
        )
    lacking = sorted({case.candidate for case, scores in found.scores.items() if found.monitor not in scores})
    if lacking and len(lacking) < len({case.candidate for case in found.scores}):
        warnings.warn(
            f"Candidates without {found.monitor!r} come last: {listed(lacking)}. Have all compile with that metric.",
            stacklevel=caller_level(),
        )
    if found.monitor == "loss" and len(differing := sorted(set(found._penalties.values()))) > 1:
        warnings.warn(
            f"Candidates are compared by the loss with its penalties, which differ: {'; '.join(differing)}. To compare "
            "what they predict, compile with metrics=['mse'], or another metric, and search with monitor='mse'.",
            stacklevel=caller_level(),
        )


def _refit(plan: _Plan, table: _Table, best: int) -> Sequential:
    """Return the best candidate, trained on all samples."""
    member = _built(plan, Case(best, 0), len(plan.params) * plan.folds)
    given, how = (table.x, table.y, table.weights, table.validation), plan.hows[best]
    work = asked([member], given, how)
    loop.fit(prepared([member], work, how), work.epochs)
    return member.model


# ---- in a worker -----------------------------------------------------------------------------------------------------
def _built(plan: _Plan, case: Case, number: int | None = None) -> Member:
    """Return a case's model, before it is trained; ``number``: another one than it has in the search."""
    stream = random.Stream()
    with randomness_of(stream):
        utils.set_random_seed(plan.seed)
        model = plan.build(**plan.given[case.candidate])
        if not isinstance(model, Sequential):
            raise TypeError(f"build must return a compiled Sequential; got {model!r}.")
        model._need_compiled("search", training=True)
        own = case.candidate * plan.folds + case.fold
        return Member(model, stream, _hooks(plan, case, own if number is None else number, stream))


def _hooks(plan: _Plan, case: Case, number: int, stream: random.Stream) -> Hooks:
    """Return a model's callbacks; ValueError where they would write what those of others write."""
    own = plan.callbacks
    if gives_callbacks(own):
        own = own(dict(plan.params[case.candidate]))
    else:
        own = copies(own, 1)[0]
    hooks = Hooks(stream, own)
    for callback, attribute, path in files_of(hooks, number, "Go on with search(..., resume=result)."):
        if path == getattr(callback, attribute):
            raise ValueError(
                f"{type(callback).__name__} of all models would write to {path!r}. Have '{{member}}', which stands for "
                "the model's number in the search, in the name."
            )
        setattr(callback, attribute, path)
    return hooks


def _scored(plan: _Plan, cases: list[Case], given: tuple[Any, ...]) -> list[Scored]:
    """Return what becomes of cases; those that take the same steps are trained together."""
    table = _Table(*given)
    found: dict[Case, Scored] = {}
    groups: list[tuple[object, list[tuple[Case, Member]]]] = []
    for case in cases:
        try:
            member = _built(plan, case)
            rows = table.folds[case.fold][0]
            shape = outline(member.model, table.x.shape[1:] or (1,))
            key = case.fold if plan.validates else len(rows), repr(plan.hows[case.candidate]), shape
        except Exception as error:
            found[case] = _failure(error)
            continue
        group = next((of for known, of in groups if known == key), None)
        if group is None:
            groups.append((key, group := []))
        group.append((case, member))
    for _, group in groups:
        found |= _trained(plan, table, group)
    return [found[case] for case in cases]


def _trained(plan: _Plan, table: _Table, group: list[tuple[Case, Member]]) -> dict[Case, Scored]:
    """Return what becomes of cases that are trained together; where that fails, of each by itself."""
    try:
        return _judged(plan, table, group)
    except Exception as error:
        if len(group) == 1:
            return {group[0][0]: _failure(error)}
    found: dict[Case, Scored] = {}
    for case, _ in group:
        found |= _trained(plan, table, [(case, _built(plan, case))])
    return found


def _judged(plan: _Plan, table: _Table, group: list[tuple[Case, Member]]) -> dict[Case, Scored]:
    members = [member for _, member in group]
    if plan.validates:
        given: Given = (*table.part(table.folds[group[0][0].fold][0]), table.validation)
    else:
        given = table.x, table.y, table.weights, None
        members = [replace(member, rows=table.folds[case.fold][0]) for case, member in group]
    how = plan.hows[group[0][0].candidate]
    work = asked(members, given, how)
    loop.fit(prepared(members, work, how), work.epochs)
    found = {}
    for (case, _), member in zip(group, members, strict=True):
        model, program = member.model, member.model.program
        x, y, weights = table.part(table.folds[case.fold][1])
        with random.drawing_from(member.stream):
            scores = model.evaluate(x, y, how.pace[0], 0, weights, return_dict=True)
        assert model.history is not None and model._objective is not None
        directions = {m.name: m._direction for m in model._objective.metrics}
        penalties = [*model._runner.current().penalties, *(layer.activity_regularizer for layer in model.layers)]
        words = ", ".join(sorted({repr(each) for each in penalties if each is not None})) or "none"
        found[case] = Scored(scores, model.history.history, {"loss": "down"} | directions, program, words)
    return found


def _failure(error: BaseException) -> Scored:
    return Scored({}, {}, {}, "", reason=in_words(error))
