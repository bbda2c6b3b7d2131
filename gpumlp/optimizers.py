"""Optimizers: hyperparameters with Keras's names and defaults; the update itself is an operation of the backend.

Every optimizer updates a stretch of the flat parameter arena at once. Its scalars are computed once per step, on the
host, in double precision.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from gpumlp import schedules
from gpumlp.naming import look_up, neutral
from gpumlp.schedules import LearningRateSchedule

Array = Any
LearningRate = float | LearningRateSchedule


def _number(name: str, value: object, low: float, high: float = math.inf) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number; got {value!r}.") from None
    if not low <= number < high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}); got {value!r}.")
    return number


class Optimizer:
    """What all optimizers share: the learning rate, decoupled weight decay, the count of steps."""

    name: ClassVar[str]
    slots: tuple[str, ...] = ()  # the state arrays kept beside the parameters, all starting at zero

    def __init__(self, learning_rate: LearningRate, weight_decay: float | None = None) -> None:
        self.iterations = 0
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else _number("weight_decay", weight_decay, 0.0)

    @property
    def learning_rate(self) -> float:
        """The next step's size. A number or a schedule can be assigned at any time and holds from the next step on."""
        return self._learning_rate_of(self.iterations + 1)

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        self._learning_rate = value if isinstance(value, LearningRateSchedule) else _number("learning_rate", value, 0.0)

    def _learning_rate_of(self, step: int) -> float:
        """Return the learning rate of step number ``step``, from 1."""
        rate = self._learning_rate
        return rate if isinstance(rate, float) else _number("a schedule's learning rate", rate(step - 1), 0.0)

    def scalars(self, step: int) -> tuple[float, float]:
        """Return what changes from step to step: the rate, and what the weights decay by (1: not at all)."""
        return self._rate(step), 1.0 - (self.weight_decay or 0.0) * self._learning_rate_of(step)

    def _rate(self, step: int) -> float:
        return self._learning_rate_of(step)

    def update(
        self, backend: Any, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any = None
    ) -> None:
        """Apply step number ``step`` (from 1) to ``params`` and ``slots``, in place. ``grads`` may be overwritten.

        ``scalars`` is what `scalars` gives, where a backend has it on its device already.
        """
        self.apply(backend, params, grads, slots, step, self.scalars(step) if scalars is None else scalars)

    def apply(
        self, backend: Any, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any
    ) -> None:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the hyperparameters by their Keras names."""
        hidden = {"iterations"}
        own = {k.lstrip("_"): v for k, v in vars(self).items() if k not in hidden}
        return {"name": self.name, **own}


class SGD(Optimizer):
    """w -= lr g; with momentum: u = momentum u - lr g, w += u (nesterov: w += momentum u - lr g)."""

    name = "SGD"

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = _number("momentum", momentum, 0.0, 1.0 + 1e-12)
        self.nesterov = bool(nesterov)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("momentum",) if self.momentum else ()

    def apply(
        self, backend: Any, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any
    ) -> None:
        backend.sgd_update(params, grads, slots.get("momentum"), scalars, self.momentum, nesterov=self.nesterov)


class Adam(Optimizer):
    """Kingma & Ba 2014 in the "epsilon hat" form that Keras uses (the end of the paper's section 2)."""

    name = "adam"
    slots = ("m", "v")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        neutral("Adam", amsgrad=(amsgrad, False))
        super().__init__(learning_rate, weight_decay)
        self.beta_1 = _number("beta_1", beta_1, 0.0, 1.0)
        self.beta_2 = _number("beta_2", beta_2, 0.0, 1.0)
        self.epsilon = _number("epsilon", epsilon, 0.0)

    def _rate(self, step: int) -> float:
        return self._learning_rate_of(step) * math.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)

    def apply(
        self, backend: Any, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any
    ) -> None:
        m, v = slots["m"], slots["v"]
        backend.adam_update(params, grads, m, v, scalars, self.beta_1, self.beta_2, self.epsilon, step)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017): w -= lr * weight_decay * w before the step."""

    name = "adamw"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay)


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon), with optional momentum and centring (Hinton 2012)."""

    name = "rmsprop"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.rho = _number("rho", rho, 0.0, 1.0)
        self.momentum = _number("momentum", momentum, 0.0, 1.0 + 1e-12)
        self.epsilon = _number("epsilon", epsilon, 0.0)
        self.centered = bool(centered)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v", *(("momentum",) if self.momentum else ()), *(("mean",) if self.centered else ()))

    def apply(
        self, backend: Any, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any
    ) -> None:
        backend.rmsprop_update(
            params, grads, slots["v"], slots.get("momentum"), slots.get("mean"),
            scalars, self.rho, self.momentum, self.epsilon,
        )  # fmt: skip


__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "schedules"]
KNOWN: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def get(identifier: object) -> Optimizer:
    """Return the optimizer for a name (any case), a class or an instance; ValueError or TypeError otherwise."""
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()  # type: ignore[call-arg]
    if isinstance(identifier, str):
        return look_up("optimizer", identifier, KNOWN)()
    raise TypeError(f"optimizer must be a name such as 'adam' or one of gpumlp.optimizers; got {identifier!r}.")
