"""What a person passes to a model becomes a Dataset where it computes, or an error before anything has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from gpumlp import metrics
from gpumlp.backends.runtime import Array
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network, describe
from gpumlp.engine.runner import Runner
from gpumlp.layers import Input, Shape
from gpumlp.losses import Loss
from gpumlp.objectives import Described
from gpumlp.training import again, data
from gpumlp.training.blocks import Blocks, cut
from gpumlp.training.results import Objective
from gpumlp.training.streams import Held, Source, Stream
from gpumlp.training.windows import Windows

NOWHERE = nullcontext()


def on_device(runner: Runner) -> AbstractContextManager[object]:
    """Return a context in which libraries that have a current device have the model's."""
    return NOWHERE if runner.runtime is None else runner.runtime.current()


def adopted(runner: Runner, value: object) -> Any:
    """Return an array that is on the model's GPU uncopied, as the model takes it; other values as they are."""
    if isinstance(value, np.ndarray) and not data.on_gpu(value):
        return value
    if runner.runtime is None and data.on_gpu(value):
        raise TypeError(
            f"The data is on a GPU, and the model computes on the CPU ({runner.resolved().reason}). "
            "Copy it to the host (cupy.asnumpy), or compile the model with device='cuda'."
        )
    found = None if runner.runtime is None else runner.runtime.adopt(value)
    return value if found is None else found


def on_host(runner: Runner, value: object) -> object:
    """Return an array that is on the model's GPU as NumPy's; other values as they are."""
    return runner.backend.to_host(adopted(runner, value)) if data.on_gpu(value) else value


def only(runner: Runner, x: object) -> object:
    """Return what a list of one, or a dict with the input's name, has for the only input; other values as they are."""
    if type(x) is np.ndarray:
        return x
    first = runner.stack[0] if runner.stack else None
    return data.one_of_one(x, first.name if isinstance(first, Input) else "")


def features(runner: Runner, x: object, shape: Shape | None, name: str = "x") -> tuple[Array, Shape]:
    """Return x as [n, F] where the model computes, and the shape of one sample."""
    with on_device(runner):
        return data.features(name, adopted(runner, only(runner, x)), shape, runner.dtype)


def dataset(
    runner: Runner, shape: Shape | None, given: tuple[object, object, object],
    class_weight: Mapping[int, float] | None, loss: Loss, prefix: str = "",
) -> tuple[Dataset, Shape]:  # fmt: skip
    """Return ``given`` = (x, y, sample weights) as a Dataset for the runner's layers, and the shape of one sample.

    ``shape``: what the model takes; None: what comes.
    """
    x, y, weight = given
    if weight is None and class_weight is None and (known := again.dataset(runner, x, y, loss)) is not None:
        return known
    with on_device(runner):
        x, y, weight = (adopted(runner, v) for v in (only(runner, x), data.one_of_one(y), data.one_of_one(weight)))
        found, got = data.features(f"{prefix}x", x, shape, runner.dtype)
        y = data.to_array(f"{prefix}y", y)
        if len(found) != len(y):
            data.same_length(**{f"{prefix}x": found, f"{prefix}y": y})
        network = runner.network or describe(list(runner.stack), got)
        data.check_axes(f"{prefix}y", y, network.output_shape, loss)
        if class_weight is not None and network.rows > 1:
            raise ValueError(
                f"class_weight is of samples of one class each; the model's output has samples of shape "
                f"{network.output_shape}. Pass sample_weight."
            )
        targets = data.targets(f"{prefix}y", y, network.output_shape[-1], loss, runner.dtype, network.rows)
        return Dataset(found, targets, data.sample_weights(weight, class_weight, targets, loss)), got


def source(
    runner: Runner, shape: Shape | None, given: tuple[object, object, object],
    class_weight: Mapping[int, float] | None, loss: Loss, pace: tuple[int | None, int | None, bool], prefix: str = "",
) -> tuple[Source, Shape | None]:  # fmt: skip
    """Return the batches of ``given`` as `dataset` takes it, or of the iterable that is its x, and a sample's shape.

    ``pace``: batch_size, of arrays alone, then steps and shuffle. What is read of an iterable is its first batch, or
    nothing where it comes later: for a validation, whose samples are of ``shape``.
    """
    x, y, weight = given = cut(given, runner.dtype, pace[2])
    if not data.gives_batches(x):
        found, got = dataset(runner, shape, given, class_weight, loss, prefix)
        return Held(found, data.Batches(len(found), *pace)), got
    check_alone(x, y, weight, prefix)
    known = shape

    def convert(parts: tuple[object, object, object], name: str) -> Dataset:
        nonlocal known
        found, known = dataset(runner, known, parts, class_weight, loss, name)
        return found

    if isinstance(x, Blocks):
        batches = data.Batches(len(x), *pace[:2], False)
        return Windows(x, batches, pace[2], lambda parts, name: convert(parts, prefix + name)), known

    def converted(batch: object, number: int) -> Dataset:
        name = f"{prefix}batch {number}: "
        return convert(_parts(batch, name), name)

    stream = Stream(x, pace[1], pace[2], converted, f"{prefix}x")
    if not prefix:
        stream.peek()
    return stream, known


def check_alone(x: object, y: object, weight: object, prefix: str = "") -> None:
    """Raise ValueError where anything is given beside what has targets and weights of its own."""
    for name, value in (("y", y), ("sample_weight", weight)):
        if value is None:
            continue
        if isinstance(x, Blocks):
            raise ValueError(f"{prefix}x is a Blocks, which has its own {name}: pass it to Blocks(...), not beside it.")
        raise ValueError(
            f"{prefix}x is {data.kind(x)}, which gives batches: {name} comes with each of them, as (x, y) or "
            f"(x, y, sample_weight). Pass no {name} beside it."
        )


def _parts(batch: object, name: str) -> tuple[object, object, object]:
    """Return x, y and weights of what an iterable gave; None for what is not there."""
    try:
        return data.unpack_x_y_sample_weight(batch)
    except ValueError as error:
        raise ValueError(f"{name}{error}") from None


def unlabelled(
    runner: Runner, x: object, shape: Shape | None, size: int | None, steps: int | None
) -> tuple[Source, Shape]:
    """Return the batches of an iterable to predict for, and a sample's shape; of (x, y) it is x that counts.

    ``size``: of a batch of `Blocks`.
    """
    known = shape

    def convert(x: object, name: str) -> Dataset:
        nonlocal known
        found, known = features(runner, x, known, f"{name}x")
        return Dataset(found)

    def converted(batch: object, number: int) -> Dataset:
        name = f"batch {number}: "
        return convert(_parts(batch, name)[0], name)

    source: Source
    if isinstance(x, Blocks):
        batches = data.Batches(len(x), size, steps, False)
        source = Windows(x, batches, False, lambda parts, name: convert(parts[0], name))
    else:
        source = stream = Stream(x, steps, False, converted)
        if shape is None:
            stream.peek()
    assert known is not None
    return source, known


def objective(
    runner: Runner, network: Network, loss: Loss, asked: Sequence[tuple[object, bool]], held: Dataset
) -> Objective:
    """Return the loss and the metrics ``asked`` for, each with whether it is weighted, for data like ``held``.

    A weighted one that is also there without weights is named ``weighted_...``, as in Keras.
    """
    assert held.y is not None
    given, width = held.y.shape[1] // network.rows, network.output_shape[-1]
    last = getattr(network.ops[-1], "activation", None) if network.ops else None
    warned = data.check_objective(getattr(last, "name", None), width, loss)
    loss = loss.for_targets(given, width)
    found = [metrics.for_model(m, loss, given, width, weighted) for m, weighted in asked]
    found = [metric.for_targets(given, width) for metric in found]
    plain = {metric.name for metric in found if not metric.weighted}
    taken = {"loss"}
    for i, metric in enumerate(found):
        name = "weighted_" + metric.name if metric.weighted and metric.name in plain else metric.name
        if name == "loss":
            raise ValueError("A metric cannot be named 'loss', which is the loss's name in the logs.")
        number = 0
        while (own := f"{name}_{number}" if number else name) in taken:
            number += 1
        taken.add(own)
        found[i] = metric if own == metric.name else metric.changed(name=own)
        _check_targets(metric, given, width, runner.runtime is not None)
    traced: list[Loss | metrics.Metric] = [loss, *(metric for metric in found if metric.series)]
    for of in traced:
        widths = {"p": width, "t": given}
        of.formula.look_at_columns(f"The {'loss' if of is loss else 'metric'} {of.name!r}", **widths)
    lasts = not warned and all(isinstance(metric, Described) and not metric.own for metric in found)
    objects = [m if isinstance(m, metrics.Metric) else None for m, _ in asked]
    return Objective(loss, found, objects, lasts=lasts)


def _check_targets(metric: metrics.Metric, given: int, width: int, on_gpu: bool) -> None:
    """Raise ValueError for targets of ``given`` numbers a sample that the metric of ``width`` outputs does not mean.

    A single number is compared with every output by NumPy; the GPU's kernels would read past it.
    """
    takes = metric.target_width(width)
    exact = metric.exact and not metric.overridden
    beyond = metric.series and (on_gpu or given != 1) and metric.formula.reads_rows("t")
    if given != takes and (exact or beyond):
        what = f"{takes} numbers" if takes > 1 else "one class number" if metric.sparse else "one number"
        raise ValueError(
            f"The metric {metric.name!r} takes {what} per sample; y has {given}. Choose another metric"
            + (", or device='cpu'." if on_gpu and not exact else "; 'accuracy' means the one that fits.")
        )
