"""Optimizers: hyperparameters with Keras's names and defaults; the update itself is an operation of the backend.

Every optimizer updates a stretch of the flat parameter arena at once. Its scalars are computed once per step, on the
host, in double precision.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from gpumlp import formulas, ops, schedules
from gpumlp.attributes import Attributes, refuse_overrides
from gpumlp.naming import automatic, flag, neutral, number, resolve
from gpumlp.schedules import LearningRateSchedule

Array = Any
LearningRate = float | LearningRateSchedule


def _within(name: str, low: float, high: float = math.inf, below: bool = False) -> Callable[[Any], float]:
    """Return a function that returns a number in [low, high], or with ``below`` in [low, high), as a float."""

    def check(value: Any) -> float:
        found = number(name, value, low, high)
        if below and found == high:
            raise ValueError(f"{name} must be below {high:g}; got {value!r}.")
        return found

    return check


def _decay(value: Any) -> float | None:
    return None if value is None else number("weight_decay", value, 0.0)


# ---- the formulas, each once: what w and the slots become, of the gradient g and the step's rate and decay -----------
def _sgd(w: Any, g: Any, rate: Any, decay: Any) -> dict[str, Any]:
    return {"w": decay * w - rate * g}


def _sgd_momentum(w: Any, g: Any, momentum: Any, rate: Any, decay: Any, factor: Any, nesterov: bool) -> dict[str, Any]:
    change = -(rate * g)
    momentum = factor * momentum + change
    return {"w": decay * w + (factor * momentum + change if nesterov else momentum), "momentum": momentum}


def _adam(
    w: Any, g: Any, m: Any, v: Any, rate: Any, decay: Any, keep_1: Any, keep_2: Any, epsilon: Any
) -> dict[str, Any]:
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    return {"w": decay * w - rate * m / (ops.sqrt(v) + epsilon), "m": m, "v": v}


def _rmsprop(
    w: Any, g: Any, v: Any, rate: Any, decay: Any, keep: Any, factor: Any, epsilon: Any, momentum: Any = None,
    mean: Any = None,
) -> dict[str, Any]:  # fmt: skip
    v = v + (g * g - v) * keep
    found, square = {"v": v}, v
    if mean is not None:
        found["mean"] = mean = mean + (g - mean) * keep
        square = v - mean * mean
    change = rate * (g / ops.sqrt(square + epsilon))
    if momentum is not None:
        found["momentum"] = change = factor * momentum + change
    return found | {"w": decay * w - change}


class Updates(Protocol):
    """What updates weights where they are: part of the contract of backends, see `gpumlp.backends.numpy_backend`."""

    def update(
        self, optimizer: Any, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any
    ) -> None: ...


class Layout(Protocol):
    """Where the weights stand that an optimizer has state for: see `gpumlp.engine.arena.Stretches`."""

    @property
    def backend(self) -> Updates: ...

    offsets: list[int]
    size: int

    def zeros(self) -> Array: ...

    def get(self, flat: Array) -> list[np.ndarray]: ...

    def set(self, arrays: Sequence[Any], flat: Array) -> None: ...


@dataclass
class _State:
    """State arrays by name, laid out like the weights, which are those of ``layers``."""

    slots: dict[str, Array]
    layout: Layout
    layers: list[weakref.ref[Any]]


class Optimizer(Attributes):
    """What all optimizers share: the learning rate, decoupled weight decay, the count of steps and the state arrays.

    The count and the state belong together, and to one model's weights: they go on, start anew, or are refused
    together. An optimizer with which another model is compiled starts anew there; the model that had it before has to
    be compiled again before it trains. ``name`` is made from the class's name and a number when None.
    """

    unread: ClassVar = {
        "lr": "Use learning_rate.",
        "decay": "Use a schedule as learning_rate, or weight_decay.",
        "amsgrad": "It is not there yet.",
        **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm"), "Clipping of gradients is not there yet."),
        **dict.fromkeys(
            ("use_ema", "ema_momentum", "ema_overwrite_frequency"), "Averages of weights are not there yet."
        ),
        "loss_scale_factor": "Losses are not scaled.",
        "gradient_accumulation_steps": "Use a larger batch_size.",
        "jit_compile": "GPUMLP_KERNELS chooses the kernels.",
    }
    checks: ClassVar = {"weight_decay": _decay}
    slots: tuple[str, ...] = ()  # the state arrays kept beside the parameters, all starting at zero
    flushed: ClassVar[tuple[str, ...]] = ()  # those whose smallest numbers may be zero, as they count in sums alone

    def __init__(self, learning_rate: LearningRate, weight_decay: float | None = None, name: str | None = None) -> None:
        self.name = automatic(type(self)) if name is None else str(name)
        self._iterations = 0
        self._state: _State | None = None
        self._kept: dict[str, list[np.ndarray]] | None = None  # the state of an optimizer that was unpickled
        self._owner: weakref.ref[Any] | None = None
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    # ---- whose it is -------------------------------------------------------------------------------------------------

    @property
    def iterations(self) -> int:
        """How many steps the state has in it; it can be set as long as there is no state. RuntimeError later."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        if self._state is not None or self._kept is not None:
            raise RuntimeError(
                "iterations are counted along with the optimizer's state, and there is one already: it cannot be set "
                "alone. Use a new optimizer."
            )
        self._iterations = int(value)

    def count(self, steps: int) -> None:
        """Take note of ``steps`` that a Program has done."""
        self._iterations += steps

    def start_anew(self) -> None:
        """Forget all steps."""
        self._iterations, self._state, self._kept = 0, None, None

    def belong_to(self, model: Any) -> None:
        """Be the optimizer of ``model`` from now on: anew, unless it was already."""
        if self._owner is None or self._owner() is not model:
            self.start_anew()
            self._owner = weakref.ref(model)

    @property
    def owner(self) -> Any:
        """The model that was last compiled with it, if that is still there."""
        return None if self._owner is None else self._owner()

    def belongs_to(self, model: Any) -> bool:
        """Whether ``model`` was the last one to be compiled with it."""
        return self._owner is not None and self._owner() is model

    def slots_for(self, layout: Layout, layers: Sequence[Any]) -> dict[str, Array]:
        """Return the state arrays for the weights of ``layers``, laid out as these are; the caller holds their gate.

        State of the same layers that stood elsewhere is brought along; for other layers everything starts anew.
        """
        state = self._state
        if state is not None and (
            tuple(state.slots) != self.slots
            or len(state.layers) != len(layers)
            or any(ref() is not layer for ref, layer in zip(state.layers, layers, strict=True))
        ):
            self.start_anew()
            state = None
        if state is not None and (
            state.layout is layout or (state.layout.backend, state.layout.offsets) == (layout.backend, layout.offsets)
        ):
            return state.slots
        kept = self.saved() or {}
        slots = {name: layout.zeros() for name in self.slots}
        for name, arrays in kept.items():
            if name in slots and len(arrays) == len(layout.offsets):
                layout.set(arrays, slots[name])
        self._state, self._kept = _State(slots, layout, [weakref.ref(layer) for layer in layers]), None
        return slots

    def saved(self) -> dict[str, list[np.ndarray]] | None:
        """Return copies of the state, by name an array for each weight array; the caller holds their gate."""
        if self._state is None:
            return self._kept
        return {name: self._state.layout.get(slot) for name, slot in self._state.slots.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Return the optimizer with its state, as a model's; by itself it has none that anybody could go on with."""
        return self.__dict__ | {"_state": None, "_owner": None, "_iterations": 0, "_kept": None}

    def go_on(self, model: Any, iterations: int, kept: dict[str, list[np.ndarray]] | None) -> None:
        """Be the optimizer of a model's copy, unless it is somebody's, with the steps and the state that it had."""
        if self._owner is None:
            self._owner, self._iterations, self._kept = weakref.ref(model), iterations, kept

    # ---- the step ----------------------------------------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The next step's size. A number or a schedule can be assigned at any time and holds from the next step on."""
        return self._learning_rate_of(self.iterations + 1)

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        self._learning_rate = value if isinstance(value, LearningRateSchedule) else number("learning_rate", value, 0.0)

    def _learning_rate_of(self, step: int) -> float:
        """Return the learning rate of step number ``step``, from 1."""
        rate = self._learning_rate
        return rate if isinstance(rate, float) else number("a schedule's learning rate", rate(step - 1), 0.0)

    def scalars(self, step: int) -> tuple[float, float]:
        """Return what changes from step to step: the rate, and what the weights decay by (1: not at all)."""
        return self._rate(step), 1.0 - (self.weight_decay or 0.0) * self._learning_rate_of(step)

    def _rate(self, step: int) -> float:
        return self._learning_rate_of(step)

    def coming(self, steps: int) -> np.ndarray:
        """Return the `scalars` of the next ``steps`` steps, [steps, len(scalar_names)] in double."""
        first = self.iterations + 1
        return np.array([self.scalars(first + k) for k in range(steps)], np.float64).reshape(
            steps, len(self.scalar_names)
        )

    def update(
        self, backend: Updates, params: Array, grads: Array, slots: dict[str, Array], step: int, scalars: Any = None
    ) -> None:
        """Apply step number ``step`` (from 1) to ``params`` and ``slots``, in place. ``grads`` may be overwritten.

        ``scalars`` is what `scalars` gives, where a backend has it on its device already.
        """
        backend.update(self, params, grads, slots, step, self.scalars(step) if scalars is None else scalars)

    scalar_names: ClassVar[tuple[str, ...]] = ("rate", "decay")  # of what `scalars` gives

    def update_rule(self) -> Callable[..., dict[str, Any]]:
        """Return the formula of w, g, the slots, the scalars and `numbers`, by name, that gives what they become."""
        raise NotImplementedError

    def rule_constants(self) -> dict[str, Any]:
        """Return what the formula takes that is the same at every step."""
        return {}

    @property
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.update(self.update_rule(), self.slots, self.scalar_names, self.rule_constants())

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given, the same at every step."""
        return formulas.numbers_of(self.rule_constants())

    def get_config(self) -> dict[str, Any]:
        """Return the hyperparameters by their Keras names: what the constructor takes."""
        code = type(self).__init__.__code__
        names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        config = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return config | {"name": self.name, "learning_rate": self._learning_rate}


class SGD(Optimizer):
    """w -= lr g; with momentum: u = momentum u - lr g, w += u (nesterov: w += momentum u - lr g)."""

    checks: ClassVar = {
        **Optimizer.checks, "momentum": _within("momentum", 0.0, 1.0), "nesterov": functools.partial(flag, "nesterov")
    }  # fmt: skip

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, name)
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("momentum",) if self.momentum else ()

    def update_rule(self) -> Callable[..., dict[str, Any]]:
        return _sgd_momentum if self.momentum else _sgd

    def rule_constants(self) -> dict[str, Any]:
        return {"factor": self.momentum, "nesterov": self.nesterov} if self.momentum else {}


class Adam(Optimizer):
    """Kingma & Ba 2014 in the "epsilon hat" form that Keras uses (the end of the paper's section 2)."""

    checks: ClassVar = {
        **Optimizer.checks, "epsilon": _within("epsilon", 0.0),
        **{name: _within(name, 0.0, 1.0, below=True) for name in ("beta_1", "beta_2")},
    }  # fmt: skip
    unread: ClassVar = {**Optimizer.unread, "eps": "Use epsilon."}
    slots = ("m", "v")
    flushed = ("m",)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        *,
        name: str | None = None,
    ) -> None:
        neutral("Adam", amsgrad=(amsgrad, False))
        super().__init__(learning_rate, weight_decay, name)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def update_rule(self) -> Callable[..., dict[str, Any]]:
        return _adam

    def rule_constants(self) -> dict[str, Any]:
        return {"keep_1": 1.0 - self.beta_1, "keep_2": 1.0 - self.beta_2, "epsilon": self.epsilon}

    def _rate(self, step: int) -> float:
        return self._learning_rate_of(step) * math.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017): w -= lr * weight_decay * w before the step."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        if weight_decay is None:
            raise ValueError("weight_decay must be a number; got None. Adam is the optimizer without one.")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, name=name)


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon), with optional momentum and centring (Hinton 2012)."""

    checks: ClassVar = {
        **Optimizer.checks, "rho": _within("rho", 0.0, 1.0, below=True), "momentum": _within("momentum", 0.0, 1.0),
        "epsilon": _within("epsilon", 0.0), "centered": functools.partial(flag, "centered"),
    }  # fmt: skip

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, name)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v", *(("momentum",) if self.momentum else ()), *(("mean",) if self.centered else ()))

    def update_rule(self) -> Callable[..., dict[str, Any]]:
        return _rmsprop

    def rule_constants(self) -> dict[str, Any]:
        return {"keep": 1.0 - self.rho, "factor": self.momentum, "epsilon": self.epsilon}


__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "schedules"]
KNOWN: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def get(identifier: object) -> Optimizer:
    """Return the optimizer for a name, a class, an instance or a config dict; ValueError or TypeError otherwise."""
    found: Optimizer = resolve("optimizer", identifier, KNOWN, Optimizer)
    refuse_overrides(type(found), ("apply", "update", "scalars", "slots", "update_step", "apply_gradients"))
    return found
