"""Optimizers whose steps go by the gradient, or by sums of its squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from gpumlp.optimizers.base import LearningRate, Optimizer, Rates
from gpumlp.optimizers.checks import Checks, flags, fractions, numbers, within
from gpumlp.optimizers.moments import POSITIVE
from gpumlp.optimizers.rules import adadelta, adagrad, ftrl, ftrl_by_root, lion, rmsprop, sgd, sgd_momentum
from gpumlp.optimizers.stages import Rule
from gpumlp.signatures import constructor


class SGD(Optimizer):
    """Gradient descent, with momentum where it is wanted.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.01
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    momentum : float, default 0.0
        How much of the last step remains, in [0, 1].
    nesterov : bool, default False
        Whether the step is taken by what the momentum will be, if the gradient stays the same.
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
    Without momentum w becomes w - lr g. With it u = momentum u - lr g, and w becomes w + u, with ``nesterov`` w +
    momentum u - lr g (Polyak 1964; Nesterov 1983; Sutskever et al. 2013).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.SGD(momentum=0.9)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.995, -2.005])
    """

    checks: ClassVar[Checks] = {**Optimizer.checks, "momentum": within("momentum", 0.0, 1.0), **flags("nesterov")}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.01, momentum: float = 0.0, nesterov: bool = False,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"momentum": 0.0} if self.momentum else {}

    def update_rule(self) -> Rule:
        return sgd_momentum if self.momentum else sgd

    def rule_constants(self) -> dict[str, object]:
        return {"factor": self.momentum, "nesterov": self.nesterov} if self.momentum else {}


class RMSprop(Optimizer):
    """Steps by the gradient over the root of a moving average of its squares.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    rho : float, default 0.9
        How much of the squares' moving average remains at an update, in [0, 1).
    momentum : float, default 0.0
        How much of the last step remains, in [0, 1].
    epsilon : float, default 1e-07
        What keeps the divisor from 0.
    centered : bool, default False
        Whether the divisor is the standard deviation, and not the root of the mean square.
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
    v = rho v + (1 - rho) g^2, and w becomes w - lr g / sqrt(v + epsilon) (Hinton 2012, lecture 6e).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.RMSprop(rho=0.95)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9955, -2.0045])
    """

    checks: ClassVar[Checks] = {
        **Optimizer.checks, **fractions("rho"), "momentum": within("momentum", 0.0, 1.0), **numbers("epsilon"),
        **flags("centered"),
    }  # fmt: skip

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7,
        centered: bool = False, weight_decay: float | None = None, clipnorm: float | None = None,
        clipvalue: float | None = None, global_clipnorm: float | None = None, use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"v": 0.0} | ({"momentum": 0.0} if self.momentum else {}) | ({"mean": 0.0} if self.centered else {})

    def update_rule(self) -> Rule:
        return rmsprop

    def rule_constants(self) -> dict[str, object]:
        return {"keep": 1.0 - self.rho, "factor": self.momentum, "epsilon": self.epsilon}


class Adagrad(Optimizer):
    """Steps by the gradient over the root of the sum of all its squares.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    initial_accumulator_value : float, default 0.1
        What the sum starts at, from 0 on.
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
    accumulator = accumulator + g^2, and w becomes w - lr g / sqrt(accumulator + epsilon) (Duchi et al. 2011).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Adagrad(learning_rate=0.1)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9155, -2.0845])
    """

    checks: ClassVar[Checks] = {**Optimizer.checks, **numbers("initial_accumulator_value", "epsilon")}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"accumulator": self.initial_accumulator_value}

    def update_rule(self) -> Rule:
        return adagrad

    def rule_constants(self) -> dict[str, object]:
        return {"epsilon": self.epsilon}


class Adadelta(Optimizer):
    """Steps as large as earlier ones, by the root mean squares of steps and gradients.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    rho : float, default 0.95
        How much of both moving averages remains at an update, in [0, 1).
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
    v is the moving average of g^2, and d that of the squares of steps s = sqrt(d + epsilon) / sqrt(v + epsilon) g; w
    becomes w - lr s (Zeiler 2012, whose lr is 1).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Adadelta(learning_rate=1.0)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9986, -2.0014])
    """

    checks: ClassVar[Checks] = {**Optimizer.checks, **fractions("rho"), **numbers("epsilon")}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.95, epsilon: float = 1e-7,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"v": 0.0, "d": 0.0}

    def update_rule(self) -> Rule:
        return adadelta

    def rule_constants(self) -> dict[str, object]:
        return {"keep": 1.0 - self.rho, "epsilon": self.epsilon}


class Ftrl(Optimizer):
    """Follow the regularized leader: many weights become exactly 0.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    learning_rate_power : float, default -0.5
        How a weight's rate falls with the sum of its squared gradients; 0 or less.
    initial_accumulator_value : float, default 0.1
        What that sum starts at, from 0 on.
    l1_regularization_strength : float, default 0.0
        What keeps weights at 0, from 0 on.
    l2_regularization_strength : float, default 0.0
        What keeps them small, from 0 on.
    l2_shrinkage_regularization_strength : float, default 0.0
        What shrinks them by way of their gradients, from 0 on.
    beta : float, default 0.0
        What is added to the root in the rate of a weight, from 0 on.
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
    The weights that are best for all gradients so far, taken as planes, beside l1 abs(w) + l2 w^2 (McMahan et al. 2013,
    Ad Click Prediction). A weight's rate is lr accumulator^learning_rate_power, accumulator the sum of its g^2.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Ftrl(l1_regularization_strength=0.01)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.4646, -0.9318])
    """

    checks: ClassVar[Checks] = {
        **Optimizer.checks, "learning_rate_power": within("learning_rate_power", -math.inf, 0.0),
        **numbers("initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
                  "l2_shrinkage_regularization_strength", "beta"),
    }  # fmt: skip

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1, l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0, l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def update_rule(self) -> Rule:
        return ftrl_by_root if self.learning_rate_power == -0.5 else ftrl

    def rule_constants(self) -> dict[str, object]:
        found = {"l1": self.l1_regularization_strength, "shrinkage": self.l2_shrinkage_regularization_strength}
        return found if self.learning_rate_power == -0.5 else found | {"exponent": -self.learning_rate_power}

    def rates(self, rate: float, update: int) -> Rates:  # type: ignore[override]
        more = self.beta / (2.0 * rate) if rate else math.inf if self.beta else 0.0
        return {"rate": rate, "l2": self.l2_regularization_strength + more}


class Lion(Optimizer):
    """Steps of one size for all weights, by the sign of a moving average.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict, default 0.001
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these.
    beta_1 : float, default 0.9
        How much of m there is in a step, and not of g; in (0, 1].
    beta_2 : float, default 0.99
        How much of m remains at an update, in [0, 1).
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
    w becomes w - lr sign(beta_1 m + (1 - beta_1) g), and then m = beta_2 m + (1 - beta_2) g (Chen et al. 2023). Its
    rate is to be 3 to 10 times less than Adam's.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import optimizers
    >>> optimizer = optimizers.Lion(learning_rate=0.0001)
    >>> w = np.array([1.0, -2.0])
    >>> optimizer.apply([np.array([0.5, 0.5])], [w])
    >>> w.round(4)
    array([ 0.9999, -2.0001])
    """

    checks: ClassVar[Checks] = {**Optimizer.checks, **fractions("beta_2"), **POSITIVE}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.99,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0}

    def update_rule(self) -> Rule:
        return lion

    def rule_constants(self) -> dict[str, object]:
        return {"keep_1": 1.0 - self.beta_1, "keep_2": 1.0 - self.beta_2}
