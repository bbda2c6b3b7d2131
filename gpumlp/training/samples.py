"""What a person passes to a model becomes a Dataset where it computes, or an error before anything has changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from gpumlp import metrics
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network, describe
from gpumlp.engine.runner import Runner
from gpumlp.layers import Layer, Shape
from gpumlp.losses import Loss
from gpumlp.training import data
from gpumlp.training.loop import Objective

NOWHERE = nullcontext()


def on_device(runner: Runner) -> Any:
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


def on_host(runner: Runner, value: object) -> Any:
    """Return an array that is on the model's GPU as NumPy's; other values as they are."""
    return runner.backend.to_host(adopted(runner, value)) if data.on_gpu(value) else value


def features(runner: Runner, x: object, shape: Shape | None, name: str = "x") -> tuple[Any, Shape]:
    """Return x as [n, F] where the model computes, and the shape of one sample."""
    with on_device(runner):
        return data.features(name, adopted(runner, x), shape, runner.dtype)


def dataset(
    runner: Runner, stack: Sequence[Layer], shape: Shape | None, given: tuple[object, object, object],
    class_weight: Any, loss: Loss, prefix: str = "",
) -> tuple[Dataset, Shape]:  # fmt: skip
    """Return ``given`` = (x, y, sample weights) as a Dataset for ``stack``, and the shape of one sample.

    ``shape``: what the model takes; None: what comes.
    """
    with on_device(runner):
        x, y, weight = (adopted(runner, value) for value in given)
        found, got = data.features(f"{prefix}x", x, shape, runner.dtype)
        data.same_length(**{f"{prefix}x": found, f"{prefix}y": data.to_array(f"{prefix}y", y)})
        network = runner.network or describe(list(stack), got)
        if not prefix:
            last = getattr(network.ops[-1], "activation", None) if network.ops else None
            data.check_objective(getattr(last, "name", None), math.prod(network.output_shape), loss)
        data.check_axes(f"{prefix}y", y, network.output_shape, loss)
        if class_weight is not None and network.rows > 1:
            raise ValueError(
                f"class_weight is of samples of one class each; the model's output has samples of shape "
                f"{network.output_shape}. Pass sample_weight."
            )
        targets = data.targets(f"{prefix}y", y, network.output_shape[-1], loss, runner.dtype, network.rows)
        return Dataset(found, targets, data.sample_weights(weight, class_weight, targets, loss)), got


def objective(
    runner: Runner, network: Network, loss: Loss, asked: Sequence[tuple[object, bool]], held: Dataset
) -> Objective:
    """Return the loss and the metrics ``asked`` for, each with whether it is weighted, for data like ``held``.

    A weighted one that is also there without weights is named ``weighted_...``, as in Keras.
    """
    assert held.y is not None
    given, width = held.y.shape[1] // network.rows, network.output_shape[-1]
    loss = loss.for_targets(given, width)
    found = [
        metrics.get(m, loss=loss, target_width=given, output_width=width, weighted=weighted) for m, weighted in asked
    ]
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
    for of in (loss, *(metric for metric in found if metric.series)):
        widths = {"p": width, "t": given}
        of.formula.look_at_columns(f"{type(of).__name__} {of.name!r}", **widths)
    return Objective(loss, found)


def _check_targets(metric: metrics.Metric, given: int, width: int, on_gpu: bool) -> None:
    """Raise ValueError for targets of ``given`` numbers a sample that the metric of ``width`` outputs does not mean.

    A single number is compared with every output by NumPy; the GPU's kernels would read past it.
    """
    takes = metric.target_width(width)
    exact = metric.exact and not metric.overridden
    if given != takes and (exact or (on_gpu and metric.series)):
        what = "one class number" if takes == 1 else f"{takes} numbers"
        raise ValueError(
            f"The metric {metric.name!r} takes {what} per sample; y has {given}. Choose another metric"
            + (", or device='cpu'." if on_gpu and not exact else "; 'accuracy' means the one that fits.")
        )
