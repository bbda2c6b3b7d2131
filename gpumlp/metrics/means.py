"""Metrics of numbers alone, and of a function of a user's own: means and sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import numpy.typing as npt

from gpumlp import config, losses
from gpumlp.literals import FloatLike
from gpumlp.metrics.metric import Array, Metric, Result, Summed, Sums, ratio, samplewise
from gpumlp.naming import automatic, look_up, number
from gpumlp.objectives import Rule, defaults, looked_at
from gpumlp.saving import deserialize_keras_object, serialize_keras_object


def whole(name: str, value: object, low: int = 1) -> int:
    """Return ``value`` as an int; ValueError unless it is one from ``low`` on."""
    found = number(name, value, low)
    if found != int(found):
        raise ValueError(f"{name} must be a whole number >= {low}; got {value!r}.")
    return int(found)


class Mean(Summed):
    """The mean of the numbers that are given, weighted.

    Parameters
    ----------
    name : str or None, default "mean"
        What it is called; None means the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the numbers; by default the default type.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> mean = metrics.Mean()
    >>> mean.update_state([1.0, 3.0], sample_weight=[1.0, 3.0])
    >>> float(mean.result())
    2.5
    """

    def __init__(self, name: str | None = "mean", dtype: FloatLike = None) -> None:
        super().__init__(dtype, name)

    def update_state(  # type: ignore[override]
        self, values: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> None:
        """Take in values of any shape; axes beyond the weights' are averaged.

        Parameters
        ----------
        values : array_like
            The numbers.
        sample_weight : array_like, optional
            A number for each value, or for each place of the first axes.
        """
        found = config.floats("values", values, self._asked)
        totals, count = samplewise(found[None], sample_weight)
        self.take([totals[0], np.asarray(count)])

    def empty(self) -> list[Array]:
        """See `Summed.empty`."""
        return [np.zeros(()), np.zeros(())]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return "total", "count"

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`."""
        return ratio(*sums)


class Sum(Summed):
    """The sum of the numbers that are given, times their weights.

    Parameters
    ----------
    name : str or None, default "sum"
        What it is called; None means the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the numbers; by default the default type.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> total = metrics.Sum()
    >>> total.update_state([1.0, 3.0])
    >>> total.update_state(2.0)
    >>> float(total.result())
    6.0
    """

    def __init__(self, name: str | None = "sum", dtype: FloatLike = None) -> None:
        super().__init__(dtype, name)

    def update_state(  # type: ignore[override]
        self, values: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> None:
        """Take in values of any shape.

        Parameters
        ----------
        values : array_like
            The numbers.
        sample_weight : array_like, optional
            A number for each value, or for each place of the first axes.
        """
        found = config.floats("values", values, self._asked)
        self.take([samplewise(found[None], sample_weight, mean=False)[0][0]])

    def empty(self) -> list[Array]:
        """See `Summed.empty`."""
        return [np.zeros(())]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return ("total",)

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`."""
        return np.float64(sums[0])


class MeanMetricWrapper(Sums):
    """The mean of a function of targets and predictions over samples.

    Parameters
    ----------
    fn : callable
        A function (y_true, y_pred, ...) of gpumlp.ops, of which kernels are made, or of NumPy, which the host calls
        with each batch; it gives a number for each sample, or several, which are averaged.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    **kwargs : object
        The function's other arguments.

    Raises
    ------
    TypeError
        If ``fn`` cannot be called.
    ValueError
        If ``dtype`` is none of these, or the name no string.

    Examples
    --------
    >>> from gpumlp import metrics, ops
    >>> def within(y_true, y_pred, limit):
    ...     return ops.mean(ops.absolute(y_pred - y_true) < limit, axis=-1)
    >>> metric = metrics.MeanMetricWrapper(within, "within_0.5", limit=0.5)
    >>> metric.update_state([[1.0], [2.0]], [[1.25], [3.0]])
    >>> float(metric.result())
    0.5
    """

    arguments = "fn", "name", "dtype"
    fn: Rule
    _kwargs: dict[str, object]

    def __init__(self, fn: Rule, name: str | None = None, dtype: FloatLike = None, **kwargs: object) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be a function of targets and predictions; got {fn!r}.")
        if (checks := getattr(fn, "checks", None)) is not None:
            kwargs = looked_at(fn.__name__, defaults(fn, 2), defaults(fn, 2) | kwargs, checks)
        own = self._looked_at({"name": name or automatic(type(self)), "dtype": dtype})
        self.__dict__.update(own, function=fn, fn=fn, _kwargs=kwargs)

    @property
    def constants(self) -> dict[str, object]:
        """What the function takes beside targets and predictions."""
        return self._kwargs

    @property
    def own(self) -> bool:
        """Whether the function is a user's."""
        return getattr(self.function, "kind", None) is None

    @property
    def _direction(self) -> str:  # type: ignore[override]
        of_loss = isinstance(self.function, losses.Loss) or losses.Loss in getattr(self.function, "kind", {})
        return "down" if of_loss else ""

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            With the function as a config dict of its own.
        """
        config = Metric.get_config(self)
        return config | {"fn": serialize_keras_object(self.fn)} | serialize_keras_object(self._kwargs)

    def _key(self) -> tuple[object, ...]:
        return type(self), self.function, self.name, self.dtype, self.weighted, self.rows, *self._kwargs.items()

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Return a new metric, as `get_config` has described one.

        Parameters
        ----------
        config : Mapping
            The constructor's arguments by name.

        Returns
        -------
        MeanMetricWrapper
            A new one, with nothing taken in.
        """
        fn = config.get("fn")
        if isinstance(fn, str):  # as Keras 2 has it
            known = look_up("metric", fn, {**losses.KNOWN, **Sums.known})
            return cls(**{**config, "fn": getattr(known, "function", known)})
        return cls(**{**config, "fn": deserialize_keras_object(fn)} if isinstance(fn, dict) else config)
