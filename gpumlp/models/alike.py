"""What all ranks that train one model must have alike, in words that can be compared, and read where they differ."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

import numpy as np

from gpumlp import random
from gpumlp.backends.runtime import Array
from gpumlp.engine.dispatch import Choice
from gpumlp.engine.feed import Dataset
from gpumlp.optimizers import Optimizer
from gpumlp.optimizers.schedules import LearningRateSchedule

if TYPE_CHECKING:
    from gpumlp.models.compiled import Compiled
    from gpumlp.models.fitting import Job

LOOKED_AT = 64  # samples, of all, that ranks compare
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in what functions are called, which differs from process to process


def of_model(model: Compiled, choice: Choice) -> dict[str, object]:
    """Return what a model is made of, and what it is compiled with."""
    optimizer = model._optimizer
    how: Mapping[str, object] = model._compiled_with or {}
    layers = {
        f"layer {i} ({type(layer).__name__})": _words(_config(layer), getattr(layer, "key", ""), layer.trainable)
        for i, layer in enumerate(model._runner.stack)
    }
    return {
        **layers,
        "the loss": _words(how.get("loss")),
        "the metrics": _words(how.get("metrics"), how.get("weighted_metrics")),
        "the optimizer": "none" if optimizer is None else _of_optimizer(optimizer),
        "the number of the optimizer's steps": 0 if optimizer is None else optimizer.steps,
        # rank 0's become those of all when they are first shared
        "a sum of the weights' bits": _sum_of_bits(model) if model._runner.shares else "",
        "the kernels": "NumPy" if choice.functions is None else choice.functions.instructions.name,
    }


def of_data(data: Dataset, what: str = "") -> dict[str, object]:
    """Return how many samples there are, and what some of them are."""
    looked_at = slice(None, None, max(1, len(data) // LOOKED_AT))  # of what may be a map of a large file
    arrays = zip(("x", "y", "sample weights"), (data.x, data.y, data.weights), strict=True)
    sums = {f"the CRC-32 of some {what}{name}": checksum([a[looked_at]]) for name, a in arrays if a is not None}
    return {f"the number of {what}samples": len(data), **sums}


def of_fit(model: Compiled, job: Job, choice: Choice, shuffle: bool) -> dict[str, object]:
    """Return what a fit is about to do."""
    held_out, epochs = job.validation, job.epochs
    assert job.source.sample is not None
    found = of_model(model, choice) | of_data(job.source.sample) | {
        "the batch size": job.source.batch,
        "the number of steps": job.source.steps,
        "the epochs": (epochs.start, epochs.stop),
        "shuffle": shuffle,
        "the epochs that are validated": [] if held_out is None else [e for e in epochs if held_out.due(e)],
        "the state of random numbers (utils.set_random_seed)": random.current().state(),
    }  # fmt: skip
    if held_out is not None and held_out.source.sample is not None:
        found |= of_data(held_out.source.sample, "validation ")
        found["the validation's batches"] = held_out.source.batch, held_out.source.steps
    return found


def _sum_of_bits(model: Compiled) -> int:
    """Return a number that other weights most likely do not have: ten times as fast as a CRC, as each call asks."""
    words = (np.ascontiguousarray(array).reshape(-1).view(np.uint32) for array in model.get_weights())
    return sum((i + 1) * int(each.sum(dtype=np.uint64)) for i, each in enumerate(words))


def checksum(arrays: Iterable[Array]) -> int:
    """Return the CRC-32 of numbers, wherever they are."""
    return functools.reduce(lambda before, array: zlib.crc32(array.tobytes(), before), arrays, 0)


def _of_optimizer(optimizer: Optimizer) -> str:
    """Return the optimizer's settings; a function that gives rates is called by training alone."""
    rate = optimizer._learning_rate
    told = (
        _config(rate) if isinstance(rate, LearningRateSchedule) else rate if isinstance(rate, float) else "a function"
    )
    own = {name: value for name, value in vars(optimizer).items() if name[0] != "_" and name != "name"}
    return _words(type(optimizer).__name__, told, own, optimizer._excluded)


def _config(thing: object) -> object:
    """Return what something is made with, but for its name, which counts what a process has made."""
    try:
        config = thing.get_config()  # type: ignore[attr-defined]
    except Exception:  # of a user's class, which may have none
        return ""
    return {k: v for k, v in config.items() if k != "name"} if isinstance(config, Mapping) else ""


def _words(*things: object) -> str:
    return ", ".join(map(_plain, things))


def _plain(thing: object) -> str:
    """Return a thing in words that are the same in every process: of a function what it does, too."""
    if isinstance(thing, FunctionType):
        inside = [cell.cell_contents for cell in thing.__closure__ or ()]
        made_of = _words(thing.__defaults__, thing.__kwdefaults__, inside)
        return f"{thing.__qualname__} ({zlib.crc32(_code(thing.__code__) + made_of.encode()):08x})"
    if isinstance(thing, Mapping):
        return f"{{{', '.join(sorted(f'{_plain(key)}: {_plain(value)}' for key, value in thing.items()))}}}"
    if isinstance(thing, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_plain, thing)))}}}"
    if isinstance(thing, (list, tuple)):
        return f"[{_words(*thing)}]"
    return ADDRESS.sub("", repr(thing))


def _code(code: CodeType) -> bytes:
    """Return what a function does, as bytes, without where it stands."""
    constants = [_code(c) if isinstance(c, CodeType) else _plain(c).encode() for c in code.co_consts]
    return b"".join([code.co_code, repr(code.co_names).encode(), *constants])
