"""Predictions: of arrays, in pieces that fit, and of batches as they come."""

from __future__ import annotations

import functools
import time

import numpy as np

from gpumlp.backends.runtime import Array
from gpumlp.engine.dispatch import Choice
from gpumlp.engine.program import Program
from gpumlp.engine.runner import Runner, together
from gpumlp.maps import check_there
from gpumlp.training import loop
from gpumlp.training.data import on_gpu
from gpumlp.training.streams import Source, Stretch
from gpumlp.training.trained import Hooks


def predict_at_once(runner: Runner, x: Array, out: Array, piece: int, choice: Choice) -> None:
    """Write the predictions for x[n, F] into out[n, O], at most ``piece`` samples: the shortest way for the smallest.

    See `predict`.
    """
    sizes, (_, width) = runner.current().sizes, x.shape
    if sizes[0] != width or sizes[-1] != out.shape[1]:
        runner.current(())

    def run() -> None:
        runner.current(sizes)
        runner.program_for(piece, choice).predict(x, out, piece)

    together((runner,), run, runner.runtime is not None)


def predict(runner: Runner, x: Array, out: Array, batch: int, choice: Choice, callbacks: Hooks) -> int:
    """Write the predictions for x[n, F] into out[n, O], ``batch`` samples at a time; return how many there are.

    That is all, unless a callback set ``model.stop_predicting``.

    A handler that raises may come between the steps: what it leaves unfinished is ``out``.
    """
    piece = runner.predicting(batch)
    sizes = runner.current().sizes
    if (sizes[0], sizes[-1]) != (x.shape[1], out.shape[1]):
        runner.current(())  # other layers since x and out were made

    def program() -> Program:
        runner.current(sizes)
        return runner.program_for(piece, choice)

    def steps(rows: slice[int, int, None]) -> None:
        check_there(x)
        program().predict(x[rows], out[rows], piece)

    done = 0
    together([runner], program)  # made before the display counts seconds
    callbacks.on_predict_begin()
    step = batch if callbacks.per_batch else piece  # of a batch that is larger than a piece, a piece is a stretch
    pace = loop.Pace(runner.in_seconds(loop.CHUNK_SECONDS, step))
    start, last = 0, -(-len(x) // step)
    while start < last:
        stop = min(start + pace.most(callbacks.per_batch), last)
        callbacks.on_predict_batch_begin(start * step // batch)
        rows = slice(start * step, min(stop * step, len(x)))
        began = time.perf_counter()
        together([runner], functools.partial(steps, rows))
        pace.took(stop - start, began)
        start, done = stop, rows.stop
        callbacks.on_predict_batch_end(-(-done // batch) - 1, {"outputs": out[rows]})
        if callbacks.model.stop_predicting:
            break
    callbacks.on_predict_end()
    return done


def predict_batches(runner: Runner, source: Source, choice: Choice, callbacks: Hooks) -> list[Array]:
    """Return the predictions for the batches of ``source``, some batches in each array, where their samples are.

    In one array where it is known how many samples there are: so no more is needed than what they take.
    """
    sizes, found, done, ready = runner.current().sizes, [], 0, 0
    callbacks.on_predict_begin()
    source.begin_epoch(anew=True)
    pace = loop.Pace(runner.in_seconds(loop.CHUNK_SECONDS, max(source.batch, 1)))
    whole = np.empty((source.samples, sizes[-1]), runner.dtype) if source.samples else None

    def run(stretch: Stretch) -> Array:
        runner.current(sizes)
        x, piece = stretch.data.x, runner.predicting(stretch.batch)
        x = x[stretch.first * stretch.batch : stretch.last * stretch.batch]
        if whole is not None:
            out = whole[ready : ready + len(x)]
        else:
            out = (runner.backend.empty if on_gpu(x) else np.empty)((len(x), sizes[-1]), x.dtype)
        began = time.perf_counter()
        runner.program_for(piece, choice).predict(x, out, piece)
        pace.took(stretch.steps, began)
        return out

    while stretch := source.take(most := pace.most(callbacks.per_batch), pace.worth(most)):
        callbacks.on_predict_batch_begin(done)
        ahead = None if callbacks.per_batch else functools.partial(source.read_ahead, most)
        found.append(together([runner], functools.partial(run, stretch), meanwhile=ahead))
        done, ready = done + stretch.steps, ready + len(found[-1])
        callbacks.on_predict_batch_end(done - 1, {"outputs": found[-1]})
        if callbacks.model.stop_predicting:
            break
    source.end_epoch()
    callbacks.on_predict_end()
    return found if whole is None else [whole[:ready]]
