"""Optimizers that go over weight arrays one by one, as they need sums or products of an array."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import ClassVar

import numpy as np

from gpumlp.naming import number
from gpumlp.optimizers import stages
from gpumlp.optimizers.base import LearningRate, Optimizer, Rates
from gpumlp.optimizers.checks import Checks, flags, fractions, numbers, or_none, within
from gpumlp.optimizers.checks import whole as whole_number
from gpumlp.optimizers.moments import correction
from gpumlp.optimizers.rules import adam
from gpumlp.optimizers.stages import Array, Library, Variable
from gpumlp.signatures import constructor


def _root_mean_square(xp: ModuleType, a: Array) -> float:
    return math.sqrt(stages.square_sum(xp, a) / a.size)


class Adafactor(Optimizer):
    """Adam's step without momentum, of whose mean squares the means of rows and columns are kept.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_2_decay : float, default -0.8
        At update t, 1 - t^beta_2_decay of the mean squares remains; 0 or less.
    epsilon_1 : float, default 1e-30
        What is added to the squares.
    epsilon_2 : float, default 0.001
        The least that the weights' root mean square counts for.
    clip_threshold : float, default 1.0
        The most that a step's root mean square may be; above 0.
    relative_step : bool, default True
        As in Keras the same either way: the rate is 1 / sqrt(t) at most.
    weight_decay : float, optional
        Before an update w becomes w - learning_rate weight_decay w; see `exclude_from_weight_decay`.
    clipnorm : float, optional
        The most that the norm of each array's gradient may be; one of the three clips may be given.
    clipvalue : float, optional
        The most that a gradient's element may be, either way.
    global_clipnorm : float, optional
        The most that the norm of all gradients together may be.
    use_ema : bool, default False
        Whether there is a moving average of the weights, which replaces them at the end of ``fit``.
    ema_momentum : float, default 0.99
        How much of the average remains at an update.
    ema_overwrite_frequency : int, optional
        After how many updates the average replaces the weights, again and again.
    loss_scale_factor : float, optional
        What the loss was multiplied by whose gradients `apply` is given; training has no use for it.
    gradient_accumulation_steps : int, optional
        How many steps' gradients one update takes the mean of, 2 or more.
    name : str, optional
        By default the class's name in snake case, and a number.

    Raises
    ------
    ValueError
        If an argument is unknown, or out of its range.

    Notes
    -----
    The rate is min(lr, 1 / sqrt(t)) times the weights' root mean square (Shazeer & Stern 2018).

    The state v of a kernel is r c / mean(r), of the moving averages r and c of the means of rows and columns of g^2.
    Their own means are the same, so r and c are the means of v's rows and columns: nothing else is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Adafactor(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.8419, -2.1581])
    """

    checks: ClassVar[Checks] = {
        **Optimizer.checks, "beta_2_decay": within("beta_2_decay", -math.inf, 0.0), **numbers("epsilon_1", "epsilon_2"),
        "clip_threshold": lambda value: number("clip_threshold", value, 0.0, above=True), **flags("relative_step"),
    }  # fmt: skip
    own_way = "Adafactor has means of rows and columns"

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30,
        epsilon_2: float = 0.001, clip_threshold: float = 1.0, relative_step: bool = True,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"v": 0.0}

    def rates(self, rate: float, update: int) -> Rates:  # type: ignore[override]
        return {"rate": min(rate, 1.0 / math.sqrt(update)), "share": update**self.beta_2_decay}

    def update_one(self, on: Library, v: Variable, numbers: Mapping[str, float]) -> None:
        """See `Optimizer.update_one`."""
        xp, g, square, take, decay = on.xp, v.g, v.slots["v"], numbers["share"], numbers["decay"]
        new = xp.square(g) + self.epsilon_1
        if g.ndim < 2:
            square += (new - square) * take
        else:
            rows, columns = (
                square.mean(axis, keepdims=True) * (1.0 - take) + new.mean(axis, keepdims=True) * take
                for axis in (-1, -2)
            )
            xp.multiply(rows / rows.mean(-2, keepdims=True), columns, out=square)
        g /= xp.sqrt(square)
        size = np.maximum(self.epsilon_2, abs(decay) * _root_mean_square(xp, v.w))
        length = np.maximum(1.0, _root_mean_square(xp, g) / self.clip_threshold)
        g *= float(numbers["rate"] * size / length)
        stages.run(on, stages.decayed(stages.step_along), {"w": v.w, "g": g}, {"decay": decay}, {})


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, Iterable) else []


class Muon(Optimizer):
    """Steps of matrices whose singular values are all about 1; of all else Adam's.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    adam_beta_1 : float, default 0.9
        Adam's beta_1.
    adam_beta_2 : float, default 0.999
        Adam's beta_2.
    adam_weight_decay : float or None, default 0.004
        The decay of what has Adam's step.
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
    weight_decay : float or None, default 0.004
        The decay of matrices: before an update w becomes w - learning_rate weight_decay w.
    clipnorm : float, optional
        The most that the norm of each array's gradient may be; one of the three clips may be given.
    clipvalue : float, optional
        The most that a gradient's element may be, either way.
    global_clipnorm : float, optional
        The most that the norm of all gradients together may be.
    use_ema : bool, default False
        Whether there is a moving average of the weights, which replaces them at the end of ``fit``.
    ema_momentum : float, default 0.99
        How much of the average remains at an update.
    ema_overwrite_frequency : int, optional
        After how many updates the average replaces the weights, again and again.
    loss_scale_factor : float, optional
        What the loss was multiplied by whose gradients `apply` is given; training has no use for it.
    gradient_accumulation_steps : int, optional
        How many steps' gradients one update takes the mean of, 2 or more.
    name : str, optional
        By default the class's name in snake case, and a number.
    exclude_layers : sequence of str, optional
        Regular expressions: matrices in whose path ("dense/kernel") one is found have Adam's step.
    exclude_embeddings : bool, default True
        Whether those with "embedding" in their path have it, too.
    muon_a : float, default 3.4445
        The iteration's first coefficient.
    muon_b : float, default -4.775
        Its second one.
    muon_c : float, default 2.0315
        Its third one.
    adam_lr_ratio : float, default 1.0
        What the learning rate is multiplied by for Adam's step.
    momentum : float, default 0.95
        How much of the sum of gradients remains at an update, in [0, 1].
    ns_steps : int, default 5
        How many times the iteration is done.
    nesterov : bool, default True
        Whether the step is by what the momentum will be, if the gradient stays the same.
    rms_rate : float or None, default 0.2
        A step is multiplied by it and the root of the matrix's larger size; not with None.

    Raises
    ------
    ValueError
        If an argument is unknown, or out of its range.

    Notes
    -----
    The momentum of a matrix, divided by its norm, goes through Newton and Schulz's iteration X = a X + (b Y + c Y^2) X,
    Y = X X^T (Jordan et al. 2024; the scale is that of Liu et al. 2025).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Muon(exclude_layers=["last"])
    >>> w = np.array([[1.0, -2.0], [0.5, 1.0]])
    >>> optimizer.apply([np.array([[0.5, 0.5], [0.0, 1.0]])], [w])
    >>> w.round(4)
    array([[ 0.9997, -2.    ],
           [ 0.5001,  0.9998]])
    """

    checks: ClassVar[Checks] = {
        **Optimizer.checks, **fractions("adam_beta_1", "adam_beta_2"), "momentum": within("momentum", 0.0, 1.0),
        **numbers("epsilon", "adam_lr_ratio"), **flags("nesterov", "exclude_embeddings"),
        **{name: or_none(within(name, 0.0)) for name in ("adam_weight_decay", "rms_rate")},
        **numbers("muon_a", "muon_b", "muon_c", low=-math.inf), "ns_steps": whole_number("ns_steps", 0),
        "exclude_layers": _listed,
    }  # fmt: skip
    own_way = "Muon has products of matrices"
    decay_names = ("decay", "adam_decay")

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, adam_beta_1: float = 0.9, adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004, epsilon: float = 1e-7, weight_decay: float | None = 0.004,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False, ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
        name: str | None = None, *, exclude_layers: Sequence[str] | None = None, exclude_embeddings: bool = True,
        muon_a: float = 3.4445, muon_b: float = -4.775, muon_c: float = 2.0315, adam_lr_ratio: float = 1.0,
        momentum: float = 0.95, ns_steps: int = 5, nesterov: bool = True, rms_rate: float | None = 0.2,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "v": 0.0}

    def rates(self, rate: float, update: int) -> Rates:  # type: ignore[override]
        corrected = math.sqrt(correction(self.adam_beta_2, update)) / correction(self.adam_beta_1, update)
        return {
            "rate": rate, "adam_rate": rate * self.adam_lr_ratio * corrected,
            "adam_decay": 1.0 - (self.adam_weight_decay or 0.0) * rate,
        }  # fmt: skip

    def is_adams(self, v: Variable) -> bool:
        """Whether an array has Adam's step."""
        if v.w.ndim != 2 or (self.exclude_embeddings and "embedding" in v.path.lower()):
            return True
        return any(re.search(keyword, v.path) for keyword in self.exclude_layers)

    def update_one(self, on: Library, v: Variable, numbers: Mapping[str, float]) -> None:
        """See `Optimizer.update_one`."""
        w, g, m = v.w, v.g, v.slots["m"]
        if self.is_adams(v):
            keeps = {"keep_1": 1.0 - self.adam_beta_1, "keep_2": 1.0 - self.adam_beta_2, "epsilon": self.epsilon}
            scalars = {"rate": numbers["adam_rate"], "decay": numbers["adam_decay"]}
            stages.run(on, stages.decayed(adam), {"w": w, "g": g, "m": m, "v": v.slots["v"]}, scalars, keeps)
            return
        m *= self.momentum
        m += g
        step = self._evened(on.xp, g + self.momentum * m if self.nesterov else m)
        larger = 1.0 if self.rms_rate is None else math.sqrt(max(w.shape)) * self.rms_rate
        on.xp.multiply(step, numbers["rate"] * larger, out=g)
        stages.run(on, stages.decayed(stages.step_along), {"w": w, "g": g}, {"decay": numbers["decay"]}, {})

    def _evened(self, xp: ModuleType, x: Array) -> Array:
        """Return x with its singular values about 1."""
        if x.shape[0] > x.shape[1]:
            return self._evened(xp, x.T).T
        x = x / (math.sqrt(stages.square_sum(xp, x)) + 1e-7)
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = self.muon_a * x + (self.muon_b * square + self.muon_c * square @ square) @ x
        return x
