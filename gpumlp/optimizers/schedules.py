"""Learning-rate schedules: the step size as a function of the steps done so far."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from gpumlp.naming import flag, listing, number, resolve
from gpumlp.optimizers.checks import Check, Checks
from gpumlp.saving import Configured, read_by, serialize_keras_object
from gpumlp.signatures import shown

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]
Numbers: TypeAlias = Sequence[float]


class LearningRateSchedule(Configured):
    """Base of schedules; an optimizer takes one in place of a learning rate.

    One of a user's own has a method ``__call__(self, step)``, of how many steps there were; attributes of its
    constructor's names are its config.

    Examples
    --------
    >>> from gpumlp import optimizers
    >>> class Warmup(optimizers.schedules.LearningRateSchedule):
    ...     def __init__(self, top, steps):
    ...         self.top, self.steps = top, steps
    ...
    ...     def __call__(self, step):
    ...         return self.top * min((step + 1) / self.steps, 1.0)
    >>> optimizer = optimizers.SGD(Warmup(0.1, steps=4))
    >>> float(optimizer.learning_rate)
    0.025
    """

    def __call__(self, step: int) -> float:
        """Return the learning rate of the step that follows ``step`` steps."""
        raise NotImplementedError(f"{type(self).__name__} must have a method __call__(self, step).")


class _Known(LearningRateSchedule):
    """One of Keras's: a formula of one step, which a curve is drawn by, too."""

    def __call__(self, step: npt.ArrayLike) -> float | np.ndarray:  # type: ignore[override]
        """Return the learning rate of the step that follows ``step`` steps; of an array of steps, one of rates."""
        if isinstance(step, (int, float)) or not np.ndim(step):
            return self.at(float(step))  # type: ignore[arg-type]
        return np.array([self.at(float(one)) for one in np.ravel(step)]).reshape(np.shape(step))

    def __repr__(self) -> str:
        return shown(self)

    def at(self, step: float) -> float:
        """Return the learning rate of the step that follows ``step`` steps.

        Parameters
        ----------
        step : float
            How many steps there were.

        Returns
        -------
        float
            The rate.
        """
        raise NotImplementedError


def _rates(*names: str) -> dict[str, Check]:
    return {name: functools.partial(number, name, low=0.0) for name in names}


class _Decay(_Known):
    """What begins at a rate, and is done or repeated after some steps."""

    checks: ClassVar[Checks] = {
        **_rates("initial_learning_rate", "end_learning_rate", "decay_rate", "power", "alpha", "m_mul"),
        **{name: functools.partial(flag, name) for name in ("staircase", "cycle")},
        **{name: functools.partial(number, name, low=0.0, above=True) for name in ("decay_steps", "first_decay_steps")},
        "warmup_steps": functools.partial(number, "warmup_steps", low=0.0),
        "warmup_target": lambda value: None if value is None else number("warmup_target", value, 0.0),
        "t_mul": functools.partial(number, "t_mul", low=1.0),  # below 1 all periods together would come to an end
    }


class _Stepped(_Decay):
    """What goes on for ever; with ``staircase`` only whole ``decay_steps`` count."""

    def __init__(
        self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool, name: str
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def periods(self, step: float) -> float:
        """Return how many times ``decay_steps`` there were."""
        found = step / self.decay_steps
        return math.floor(found) if self.staircase else found


class ExponentialDecay(_Stepped):
    """A rate that is multiplied by ``decay_rate`` every ``decay_steps`` steps.

    Parameters
    ----------
    initial_learning_rate : float
        What it begins at, 0 or more.
    decay_steps : float
        After how many steps it is ``decay_rate`` times as large; above 0.
    decay_rate : float
        What it is multiplied by, 0 or more.
    staircase : bool, default False
        Whether only whole ``decay_steps`` count, so that the rate falls at once.
    name : str, default "ExponentialDecay"
        What it is called in configs.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    initial_learning_rate decay_rate^(step / decay_steps).

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedule = schedules.ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)
    >>> [round(float(schedule(step)), 5) for step in (0, 50, 100, 200)]
    [0.1, 0.07071, 0.05, 0.025]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def at(self, step: float) -> float:
        return self.initial_learning_rate * self.decay_rate ** self.periods(step)


class InverseTimeDecay(_Stepped):
    """A rate that falls with one over the number of steps.

    Parameters
    ----------
    initial_learning_rate : float
        What it begins at, 0 or more.
    decay_steps : float
        The unit in which steps count; above 0.
    decay_rate : float
        How fast it falls, 0 or more.
    staircase : bool, default False
        Whether only whole ``decay_steps`` count, so that the rate falls at once.
    name : str, default "InverseTimeDecay"
        What it is called in configs.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    initial_learning_rate / (1 + decay_rate step / decay_steps).

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedule = schedules.InverseTimeDecay(0.1, decay_steps=100, decay_rate=1.0)
    >>> [round(float(schedule(step)), 5) for step in (0, 100, 300)]
    [0.1, 0.05, 0.025]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def at(self, step: float) -> float:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self.periods(step))


class PiecewiseConstantDecay(_Known):
    """A rate that is one number up to a step, another up to the next, and so on.

    Parameters
    ----------
    boundaries : sequence of float
        Up to and with which step each value holds, but the last; they increase.
    values : sequence of float
        The rates, one more than boundaries.
    name : str, default "PiecewiseConstant"
        What it is called in configs.

    Raises
    ------
    ValueError
        If the numbers of both do not go together, or boundaries do not increase.

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedule = schedules.PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    >>> [round(float(schedule(step)), 5) for step in (0, 100, 101, 201)]
    [0.1, 0.1, 0.01, 0.001]
    """

    def __init__(self, boundaries: Numbers, values: Numbers, name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"There must be one value more than boundaries; got boundaries={boundaries!r} and values={values!r}."
            )
        self.boundaries = [number("each of boundaries", b) for b in boundaries]
        self.values = [number("each of values", v, 0.0) for v in values]
        self.name = name
        if self.boundaries != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries must increase; got {boundaries!r}.")

    def at(self, step: float) -> float:
        return self.values[sum(step > boundary for boundary in self.boundaries)]


class PolynomialDecay(_Decay):
    """A rate that falls to ``end_learning_rate`` by a power of the steps that are left.

    Parameters
    ----------
    initial_learning_rate : float
        What it begins at, 0 or more.
    decay_steps : float
        How many steps it takes; above 0.
    end_learning_rate : float, default 0.0001
        What it ends at.
    power : float, default 1.0
        1: in a line.
    cycle : bool, default False
        Whether it begins again, with twice, three times ... as many steps, whenever it is at its end.
    name : str, default "PolynomialDecay"
        What it is called in configs.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    (initial_learning_rate - end_learning_rate) (1 - step / decay_steps)^power + end_learning_rate.

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedule = schedules.PolynomialDecay(
    ...     0.1, decay_steps=100, end_learning_rate=0.0, power=2.0
    ... )
    >>> [round(float(schedule(step)), 5) for step in (0, 50, 100)]
    [0.1, 0.025, 0.0]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def at(self, step: float) -> float:
        done = step / self.decay_steps
        done = done / max(1, math.ceil(done)) if self.cycle else min(done, 1.0)
        end = self.end_learning_rate
        return (self.initial_learning_rate - end) * (1.0 - done) ** self.power + end


def _half_wave(done: float, alpha: float) -> float:
    """Half a cosine, from 1 where nothing is done to ``alpha`` where all is."""
    return (1.0 - alpha) * 0.5 * (1.0 + math.cos(math.pi * done)) + alpha


class CosineDecay(_Decay):
    """A rate that falls by half a cosine, after a rise in a line where that is wanted.

    Parameters
    ----------
    initial_learning_rate : float
        What it begins at, 0 or more.
    decay_steps : float
        How many steps the fall takes; above 0.
    alpha : float, default 0.0
        At which share of the largest rate it ends, and stays.
    name : str, default "CosineDecay"
        What it is called in configs.
    warmup_target : float, optional
        The largest rate, which it rises to from ``initial_learning_rate`` first.
    warmup_steps : float, default 0
        How many steps the rise takes, with a ``warmup_target``.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    top ((1 - alpha) (1 + cos(pi step / decay_steps)) / 2 + alpha) (Loshchilov & Hutter 2016, SGDR), steps counted after
    the rise.

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedule = schedules.CosineDecay(
    ...     0.0, decay_steps=100, warmup_target=0.1, warmup_steps=10
    ... )
    >>> [round(float(schedule(step)), 5) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.name, self.warmup_target, self.warmup_steps = name, warmup_target, warmup_steps

    def at(self, step: float) -> float:
        first, top, left = self.initial_learning_rate, self.initial_learning_rate, step
        if self.warmup_target is not None:
            if left < self.warmup_steps:
                return first + (self.warmup_target - first) * left / self.warmup_steps
            top, left = self.warmup_target, left - self.warmup_steps
        return top * _half_wave(min(left / self.decay_steps, 1.0), self.alpha)


class CosineDecayRestarts(_Decay):
    """A rate that falls by half a cosine, and begins again, in periods that grow.

    Parameters
    ----------
    initial_learning_rate : float
        What it begins at, 0 or more.
    first_decay_steps : float
        How many steps the first period takes; above 0.
    t_mul : float, default 2.0
        How many times as long as the one before each period is, 1 or more.
    m_mul : float, default 1.0
        How many times as high it begins.
    alpha : float, default 0.0
        At which share of ``initial_learning_rate`` periods end.
    name : str, default "SGDRDecay"
        What it is called in configs.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Loshchilov & Hutter 2016, SGDR: Stochastic Gradient Descent with Warm Restarts.

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedule = schedules.CosineDecayRestarts(0.1, first_decay_steps=100)
    >>> [round(float(schedule(step)), 5) for step in (0, 50, 99, 100, 200)]
    [0.1, 0.05, 2e-05, 0.1, 0.05]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def at(self, step: float) -> float:
        done, longer = step / self.first_decay_steps, self.t_mul - 1.0
        # the restarts so far; a quotient of logarithms may come out below the whole number that it is at a restart
        restarts = math.floor(done if not longer else math.log1p(done * longer) / math.log(self.t_mul) + 1e-9)
        before = float(restarts) if not longer else (self.t_mul**restarts - 1.0) / longer
        height = self.m_mul**restarts
        wave = height * _half_wave((done - before) / self.t_mul**restarts, 0.0)
        return self.initial_learning_rate * ((1.0 - self.alpha) * wave + self.alpha)


KNOWN: dict[str, type[LearningRateSchedule]] = {
    kind.__name__: kind
    for kind in (
        ExponentialDecay, PiecewiseConstantDecay, PolynomialDecay, InverseTimeDecay, CosineDecay, CosineDecayRestarts
    )
}  # fmt: skip


def _get(identifier: object) -> LearningRateSchedule:
    found: LearningRateSchedule = resolve("learning-rate schedule", identifier, KNOWN, LearningRateSchedule)
    return found


def serialize(learning_rate_schedule: LearningRateSchedule | Callable[[int], float]) -> dict[str, object]:
    """Return the config dict of a schedule.

    Parameters
    ----------
    learning_rate_schedule : LearningRateSchedule or callable
        Of the package, or of a class of a user's own.

    Returns
    -------
    dict
        With the keys "module", "class_name", "config" and "registered_name".

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> config = schedules.serialize(schedules.CosineDecay(0.01, 100))
    >>> config["class_name"], config["config"]["decay_steps"]
    ('CosineDecay', 100.0)
    """
    found: dict[str, object] = serialize_keras_object(learning_rate_schedule)
    return found


_read = read_by("keras.optimizers.schedules", _get)


def deserialize(
    config: Mapping[str, object] | str, custom_objects: Mapping[str, object] | None = None
) -> LearningRateSchedule:
    """Return the schedule that a config dict describes.

    Parameters
    ----------
    config : dict
        As `serialize` has made it.
    custom_objects : Mapping, optional
        Classes and functions of a user's own by name.

    Returns
    -------
    LearningRateSchedule
        A new one.

    Raises
    ------
    ValueError
        For an unknown name, and for arguments that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp.optimizers import schedules
    >>> schedules.deserialize(schedules.serialize(schedules.CosineDecay(0.01, 100)))
    CosineDecay(initial_learning_rate=0.01, decay_steps=100.0)
    """
    found: LearningRateSchedule = _read(config, custom_objects)
    return found


__dir__ = listing(__name__)
