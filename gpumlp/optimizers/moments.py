"""Adam and what is made like it: steps by moving averages of the gradient and of its square."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from gpumlp.naming import number
from gpumlp.optimizers.base import LearningRate, Optimizer, Rates, of_many
from gpumlp.optimizers.checks import Checks, flags, fractions, numbers, within
from gpumlp.optimizers.rules import adam, adamax, lamb, nadam, schedule_free_adam
from gpumlp.optimizers.stages import Array, Rule
from gpumlp.signatures import constructor

POSITIVE = {"beta_1": functools.partial(number, "beta_1", low=0.0, high=1.0, above=True)}


def correction(beta: float, update: int | range) -> float | Array:
    """Return 1 - beta^update: what a moving average that began at 0 has taken in."""
    return _corrections(beta, update) if isinstance(update, range) else 1.0 - beta**update


@functools.lru_cache(maxsize=8)  # members of an ensemble ask for the same ones
def _corrections(beta: float, updates: range) -> Array:
    found: Array = 1.0 - np.array([beta**update for update in updates])  # by the same powers: NumPy's differ in a bit
    found.flags.writeable = False
    return found


class _Moments(Optimizer):
    """What has moving averages of the gradient, m, and of its square, v, which forget by beta_1 and beta_2."""

    checks: ClassVar[Checks] = {**Optimizer.checks, **numbers("epsilon"), **fractions("beta_1", "beta_2")}
    unread: ClassVar[Mapping[str, str]] = {**Optimizer.unread, "eps": "Use epsilon."}
    flushed = ("m",)

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "v": 0.0}

    def rule_constants(self) -> dict[str, object]:
        return {"keep_1": 1.0 - self.beta_1, "keep_2": 1.0 - self.beta_2, "epsilon": self.epsilon}


class Adam(_Moments):
    """Steps by the gradient's moving average over the root of that of its squares.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_1 : float, default 0.9
        How much of the gradient's moving average remains at an update, in [0, 1).
    beta_2 : float, default 0.999
        How much of the squares' moving average remains at an update, in [0, 1).
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
    amsgrad : bool, default False
        Whether the largest v so far is the divisor (Reddi et al. 2018).
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
    m = beta_1 m + (1 - beta_1) g and v = beta_2 v + (1 - beta_2) g^2; w becomes w - alpha m / (sqrt(v) + epsilon),
    alpha = lr sqrt(1 - beta_2^t) / (1 - beta_1^t) at update t: Kingma & Ba 2014 in the form at the end of their section
    2, whose epsilon is not that of algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Adam(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9, -2.1])
    """

    checks: ClassVar[Checks] = {**_Moments.checks, **flags("amsgrad")}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        amsgrad: bool = False, weight_decay: float | None = None, clipnorm: float | None = None,
        clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "v": 0.0} | ({"top": 0.0} if self.amsgrad else {})

    def update_rule(self) -> Rule:
        return adam

    @of_many
    def rates(self, rate: float, update: int | range) -> Rates:
        of_m, of_v = correction(self.beta_1, update), correction(self.beta_2, update)
        return {"rate": rate * (math.sqrt(of_v) if isinstance(of_v, float) else np.sqrt(of_v)) / of_m}


def _some_decay(value: object) -> float:
    if value is None:
        raise ValueError("weight_decay must be a number; got None. Adam is the optimizer without one.")
    return within("weight_decay", 0.0)(value)


class AdamW(Adam):
    """Adam with weight decay that does not go through the moving averages.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    weight_decay : float, default 0.004
        Before an update w becomes w - learning_rate weight_decay w; see `exclude_from_weight_decay`.
    beta_1 : float, default 0.9
        How much of the gradient's moving average remains at an update, in [0, 1).
    beta_2 : float, default 0.999
        How much of the squares' moving average remains at an update, in [0, 1).
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
    amsgrad : bool, default False
        Whether the largest v so far is the divisor (Reddi et al. 2018).
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
    Loshchilov & Hutter 2017, Decoupled Weight Decay Regularization; the step is that of `Adam`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.AdamW(weight_decay=0.01)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.999, -2.001])
    """

    checks: ClassVar[Checks] = {**Adam.checks, "weight_decay": _some_decay}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-7, amsgrad: bool = False, clipnorm: float | None = None,
        clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None: ...  # fmt: skip


@functools.lru_cache(maxsize=16)
def _products(beta_1: float, count: int) -> np.ndarray:
    """Return the products of the first 1, 2, ... ``count`` of Nadam's betas."""
    return np.cumprod([_beta(beta_1, t) for t in range(1, count + 1)])


def _beta(beta_1: float, update: int) -> float:
    """Return the beta_1 of an update, which warms up."""
    return beta_1 * (1.0 - 0.5 * 0.96**update)


class Nadam(_Moments):
    """Adam with Nesterov's momentum.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_1 : float, default 0.9
        How much of the gradient's moving average remains at an update, in [0, 1).
    beta_2 : float, default 0.999
        How much of the squares' moving average remains at an update, in [0, 1).
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
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
    As `Adam`, by the moving average that comes next, of which beta_1 (1 - 0.96^t / 2) remains at update t (Dozat 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Nadam(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.8937, -2.1063])
    """

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def update_rule(self) -> Rule:
        return nadam

    def product(self, update: int) -> float:
        """Return the product of the beta_1 of all updates up to this one, 1 before the first."""
        return 1.0 if update < 1 else float(_products(self.beta_1, 2 << update.bit_length())[update - 1])

    def rates(self, rate: float, update: int) -> Rates:  # type: ignore[override]
        product, coming = self.product(update), self.product(update + 1)
        now, later = _beta(self.beta_1, update), _beta(self.beta_1, update + 1)
        of_m, of_g = rate * later / (1.0 - coming), rate * (1.0 - now) / (1.0 - product)
        return {"of_m": of_m, "of_g": of_g, "of_v": 1.0 / correction(self.beta_2, update)}


class Adamax(_Moments):
    """Adam by the largest of the gradients in place of their mean square.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_1 : float, default 0.9
        How much of the gradient's moving average remains at an update, in [0, 1).
    beta_2 : float, default 0.999
        How much of the largest gradient remains at an update, in [0, 1).
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
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
    m = beta_1 m + (1 - beta_1) g and u = max(beta_2 u, abs(g)); w becomes w - lr / (1 - beta_1^t) m / (u + epsilon)
    (Kingma & Ba 2014, section 7.1).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Adamax(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9, -2.1])
    """

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "u": 0.0}

    def update_rule(self) -> Rule:
        return adamax

    def rule_constants(self) -> dict[str, object]:
        return {"keep_1": 1.0 - self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    @of_many
    def rates(self, rate: float, update: int | range) -> Rates:
        return {"rate": rate / correction(self.beta_1, update)}


class ScheduleFreeAdamW(Optimizer):
    """Adam that averages its weights in place of a schedule that falls.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.0025
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_1 : float, default 0.9
        Where the gradient is taken, between the steps (0) and their mean (1); in (0, 1].
    beta_2 : float, default 0.999
        How much of the squares' moving average remains at an update, in [0, 1).
    epsilon : float, default 1e-08
        What keeps the divisor from 0.
    warmup_steps : int, default 0
        Over how many updates the rate rises from 0.
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
    z goes by Adam's step without momentum, x is the mean of all z, and w = (1 - beta_1) z + beta_1 x (Defazio et al.
    2024, The Road Less Scheduled).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.ScheduleFreeAdamW(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9, -2.1])
    """

    checks: ClassVar[Checks] = {
        **Optimizer.checks, **fractions("beta_2"),
        **POSITIVE,
        **numbers("epsilon", "warmup_steps"),
    }  # fmt: skip

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.0025, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        warmup_steps: int = 0, weight_decay: float | None = None, clipnorm: float | None = None,
        clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"z": None, "v": 0.0}

    def update_rule(self) -> Rule:
        return schedule_free_adam

    def rule_constants(self) -> dict[str, object]:
        return {"beta_1": self.beta_1, "keep_2": 1.0 - self.beta_2, "epsilon": self.epsilon}

    def rates(self, rate: float, update: int) -> Rates:  # type: ignore[override]
        warm = min(update / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        return {"rate": rate * warm, "of_v": 1.0 / correction(self.beta_2, update), "weight": 1.0 / update}


class Lamb(_Moments):
    """Adam whose step is as long as the weights are, for large batches.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_1 : float, default 0.9
        How much of the gradient's moving average remains at an update, in [0, 1).
    beta_2 : float, default 0.999
        How much of the squares' moving average remains at an update, in [0, 1).
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
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
    An array's step, with both bias corrections, is multiplied by the norm of its weights over that of the step (You et
    al. 2019). Sums over an array of weights: these are updated one by one.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Lamb(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.8419, -2.1581])
    """

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def update_rule(self) -> Rule:
        return lamb

    def rates(self, rate: float, update: int) -> Rates:  # type: ignore[override]
        of_m, of_v = (1.0 / correction(beta, update) for beta in (self.beta_1, self.beta_2))
        return {"rate": rate, "of_m": of_m, "of_v": of_v}
