"""What all optimizers share: whose they are, their state, the learning rate, the stages of an update.

An optimizer's own rule is a formula of a weight w, its gradient g, its state, and the scalars of the update, which are
computed on the host, in double precision, once for all weights.
"""

from __future__ import annotations

import functools
import inspect
import re
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

import numpy as np

from gpumlp import formulas
from gpumlp.errors import caller_level
from gpumlp.naming import automatic, number
from gpumlp.optimizers import schedules, stages
from gpumlp.optimizers.checks import Checks, flags, or_none, whole, within
from gpumlp.optimizers.layout import Layout, State, Updates
from gpumlp.optimizers.on_arrays import OnArrays
from gpumlp.optimizers.scalars import Count, Rate
from gpumlp.optimizers.schedules import LearningRateSchedule
from gpumlp.optimizers.stages import AVERAGE, GATHERED, Array, Library, Norms, Rule, Variable
from gpumlp.saving import custom_object_scope, deserialize_keras_object, serialize_keras_object
from gpumlp.signatures import shown

LearningRate: TypeAlias = float | LearningRateSchedule | Callable[[], float] | Mapping[str, object]
Rates: TypeAlias = dict[str, float | Array]  # of one update; of several arrays, or a number for all
Function = TypeVar("Function", bound=Callable[..., object])
Made = TypeVar("Made")
CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
PASSING = frozenset({"_steps", "_state", "_kept", "_owner", "_made", "_arrays"})  # what the formula does not depend on


def of_many(rates: Function) -> Function:
    """Have it that an optimizer's `rates` can also be asked for a range of updates: an array, or a number for all."""
    vars(rates)["of_many"] = True
    return rates


class Optimizer(OnArrays):
    """Base of optimizers, and of a user's own, whose rule is a formula of `gpumlp.ops`.

    ``state`` names the state arrays, ``update_rule`` gives the formula of w, g, the state, `rates` and
    `rule_constants`, by name, which returns what w and the state become.

    A rule may have ops.sum and the like, which go over all elements of a weight array. ``rates`` is for scalars that
    differ from update to update.

    The steps and the state belong together, and to one model's weights: they go on, start anew, or are refused
    together. An optimizer with which another model is compiled starts anew there; the model that had it before has to
    be compiled again before it trains. Where a setting that says which state there is changes, the state starts anew.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, callable or dict
        The size of a step: a number from 0 on, a schedule, a function without arguments, or a config dict of one of
        these. A function is called once for each step, in their order, those of a whole stretch before it runs.
    weight_decay : float, optional
        Before an update w becomes w - learning_rate weight_decay w; see `exclude_from_weight_decay`.
    clipnorm : float, optional
        The most that the norm of each array's gradient may be; one of the three clips may be given.
    clipvalue : float, optional
        The most that a gradient's element may be, either way.
    global_clipnorm : float, optional
        The most that the norm of all gradients together may be.
    use_ema : bool, default False
        Whether there is a moving average of the weights, average = ema_momentum average + (1 - ema_momentum) w, which
        replaces them at the end of ``fit``.
    ema_momentum : float, default 0.99
        How much of the average remains at an update.
    ema_overwrite_frequency : int, optional
        After how many updates the average replaces the weights, again and again.
    loss_scale_factor : float, optional
        What the loss is multiplied by, that gradients given to `apply` are divided by. Training has no use for it: it
        computes in float32 or float64, scales nothing, and so divides nothing.
    gradient_accumulation_steps : int, optional
        Every so many steps, 2 or more, there is one update, by the mean of their gradients. Schedules count the steps.
    name : str, optional
        By default the class's name in snake case, and a number.

    Raises
    ------
    ValueError
        If an argument is out of its range, or there are two clips.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import ops, optimizers
    >>> def signed(w, g, m, rate, keep):
    ...     m = m + (g - m) * keep
    ...     return {"w": w - rate * ops.sign(m), "m": m}
    >>> class Signed(optimizers.Optimizer):
    ...     def __init__(self, learning_rate=0.001, beta=0.9, **kwargs):
    ...         super().__init__(learning_rate, **kwargs)
    ...         self.beta = beta
    ...
    ...     def state(self):
    ...         return {"m": 0.0}
    ...
    ...     def update_rule(self):
    ...         return signed
    ...
    ...     def rule_constants(self):
    ...         return {"keep": 1.0 - self.beta}
    >>> w = np.array([1.0, -2.0])
    >>> Signed(learning_rate=0.5).apply([np.array([0.1, -0.1])], [w])
    >>> w
    array([ 0.5, -1.5])
    """

    unread: ClassVar[Mapping[str, str]] = {
        "lr": "Use learning_rate.",
        "decay": "Use a schedule as learning_rate, or weight_decay.",
        "jit_compile": "GPUMLP_KERNELS chooses the kernels.",
    }
    checks: ClassVar[Checks] = {
        **{n: or_none(within(n, 0.0)) for n in ("weight_decay", *CLIPS)}, **flags("use_ema"),
        "ema_momentum": within("ema_momentum", 0.0, 1.0),
        "ema_overwrite_frequency": or_none(whole("ema_overwrite_frequency", 1)),
        "gradient_accumulation_steps": or_none(whole("gradient_accumulation_steps", 2)),
        "loss_scale_factor": or_none(functools.partial(number, "loss_scale_factor", low=0.0, above=True)),
    }  # fmt: skip
    flushed: ClassVar[tuple[str, ...]] = ()  # state whose smallest numbers may be zero, as they count in sums alone
    own_way: ClassVar[str] = ""  # in words, what the class computes by the array library, an array of weights at a time

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        self.name = automatic(type(self)) if name is None else str(name)
        self._steps = 0
        self._state: State | None = None
        self._kept: dict[str, list[np.ndarray]] | None = None  # the state of an optimizer that was unpickled
        self._owner: weakref.ref[object] | None = None
        self._arrays: list[Variable] = []  # what `apply` has state for
        self._excluded: tuple[tuple[object, ...], tuple[str, ...]] = (), ()
        self.learning_rate = learning_rate
        self.weight_decay, self.loss_scale_factor = weight_decay, loss_scale_factor
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.gradient_accumulation_steps = gradient_accumulation_steps

    def _recognized(self, given: dict[str, object]) -> dict[str, object]:
        """Return the arguments given; as in Keras ``decay`` of older scripts is none, with a warning."""
        if given.pop("decay", None):  # 0 is in every file that Keras 2 wrote
            warnings.warn(
                f"{type(self).__name__}: argument `decay` is no longer supported and will be ignored. A schedule, such "
                "as schedules.InverseTimeDecay(rate, 1, decay), lowers the learning rate.",
                stacklevel=caller_level(),
            )
        return given

    def _take(self, arguments: dict[str, object]) -> None:
        """Be an optimizer with what all take; what is the class's own are attributes, which `checks` look at."""
        Optimizer.__init__(self, **{name: arguments.pop(name) for name in COMMON})  # type: ignore[arg-type]
        for name, value in arguments.items():
            self.__dict__[name] = self.checks[name](value) if name in self.checks else value

    def __setattr__(self, name: str, value: object) -> None:
        if name in CLIPS and value is not None:
            given = {n: self.__dict__.get(n) for n in CLIPS} | {name: value}
            if sum(v is not None for v in given.values()) > 1:
                several = ", ".join(f"{n}={v}" for n, v in given.items())
                raise ValueError(
                    f"Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set; got {several}."
                )
        super().__setattr__(name, value)
        if name not in PASSING:
            self.__dict__["_made"] = {}

    # ---- whose it is -------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many steps there were, those that only gather gradients too."""
        return self._steps

    @property
    def iterations(self) -> Count:
        """How many updates the state has in it; it can be set as long as there is no state. RuntimeError later.

        That is the number of steps, or with gradient_accumulation_steps how many times so many there were.
        """
        return Count(self._steps // (self.gradient_accumulation_steps or 1), self)

    @iterations.setter
    def iterations(self, value: int) -> None:
        if self.has_state:
            raise RuntimeError(
                "iterations are counted along with the optimizer's state, and there is one already: it cannot be set "
                "alone. Use a new optimizer."
            )
        self._steps = int(value) * (self.gradient_accumulation_steps or 1)

    def count(self, steps: int) -> None:
        """Take note of ``steps`` that a Program has done."""
        self.__dict__["_steps"] += steps  # nothing depends on it that is kept

    def start_anew(self) -> None:
        """Forget all steps."""
        self._steps, self._state, self._kept = 0, None, None

    def belong_to(self, model: object) -> None:
        """Be the optimizer of ``model`` from now on: anew, unless it was already."""
        if self._owner is None or self._owner() is not model:
            self.start_anew()
            self._owner = weakref.ref(model)

    @property
    def owner(self) -> Any:
        """The model that was last compiled with it, if that is still there."""
        return None if self._owner is None else self._owner()

    def belongs_to(self, model: object) -> bool:
        """Whether ``model`` was the last one to be compiled with it."""
        return self._owner is not None and self._owner() is model

    def slots_for(self, layout: Layout, layers: Sequence[object]) -> dict[str, Array]:
        """Return the state arrays for the weights of ``layers``, laid out as these are; the caller holds their gate.

        State of the same layers that stood elsewhere is brought along; for other layers everything starts anew.
        """
        state = self._state
        if state is not None and state.layout is layout and tuple(state.slots) == self.slots:
            return state.slots
        if state is not None and (
            tuple(state.slots) != self.slots
            or len(state.layers) != len(layers)
            or any(ref() is not layer for ref, layer in zip(state.layers, layers, strict=True))
        ):
            self.start_anew()
            state = None
        if state is not None and state.layout.is_like(layout):
            state.layout = layout
            return state.slots
        kept = self.saved() or {}
        slots = {name: layout.full(0.0 if start is None else start) for name, start in self._starts().items()}
        for name, start in self._starts().items():
            if start is None:
                layout.set(layout.get(), slots[name])
        for name, arrays in kept.items():
            if name in slots and len(arrays) == len(layout.offsets):
                layout.set(arrays, slots[name])
        self._state, self._kept = State(slots, layout, [weakref.ref(layer) for layer in layers]), None
        return slots

    @property
    def has_state(self) -> bool:
        """Whether there is a state: it has begun to train, or goes on from what another has trained."""
        return self._state is not None or self._kept is not None

    def saved(self) -> dict[str, list[np.ndarray]] | None:
        """Return copies of the state, by name an array for each weight array; the caller holds their gate."""
        if self._state is None:
            return self._kept
        return {name: self._state.layout.get(slot) for name, slot in self._state.slots.items()}

    def __getstate__(self) -> dict[str, object]:
        """Return the optimizer with its state, as a model's; by itself it has none that anybody could go on with."""
        return self.__dict__ | {"_state": None, "_owner": None, "_steps": 0, "_kept": None, "_made": {}, "_arrays": []}

    def go_on(self, model: object, steps: int, kept: dict[str, list[np.ndarray]] | None) -> None:
        """Be the optimizer of a model's copy, unless it is somebody's, with the steps and the state that it had."""
        if self._owner is None:
            self._owner, self._steps, self._kept = weakref.ref(model), steps, kept

    def go_on_from(self, steps: int, kept: dict[str, list[np.ndarray]] | None) -> None:
        """Go on with steps and a state of the same weights that `saved` has returned; the caller holds their gate."""
        self._steps, self._state, self._kept = steps, None, kept

    # ---- an optimizer's own ------------------------------------------------------------------------------------------

    def state(self) -> Mapping[str, float | None]:
        """Return the names of the state arrays, with the numbers that they start at.

        Returns
        -------
        Mapping
            By name a number; None where the state starts as the weights.
        """
        return {}

    def update_rule(self) -> Rule:
        """Return the formula of an update.

        Returns
        -------
        callable
            Of w, g, the state, `rates` and `rule_constants`, by name; it gives a dict of what w and the state become.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must have a method update_rule: see gpumlp.optimizers.Optimizer."
        )

    def rule_constants(self) -> dict[str, object]:
        """Return what the formula takes that is the same at every update.

        Returns
        -------
        dict
            By name a number, or what shapes the formula.
        """
        return {}

    @of_many
    def rates(self, rate: float, update: int | range) -> Rates:
        """Return what the formula takes that differs from update to update.

        Parameters
        ----------
        rate : float
            The learning rate.
        update : int
            The update's number, from 1; with the decorator `of_many` a range of them, too.

        Returns
        -------
        dict
            By name a number; of a range an array, or a number for all.
        """
        return {"rate": rate}

    # ---- the learning rate -------------------------------------------------------------------------------------------

    @property
    def learning_rate(self) -> Rate:
        """The next step's size. What the constructor takes can be assigned; it holds from the next step on.

        But no number in the place of a schedule, as in Keras: TypeError.
        """
        return Rate(self._learning_rate_of(self._steps + 1), self)

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        if isinstance(value, Mapping):
            read = deserialize_keras_object if value.get("class_name") == "function" else schedules.deserialize
            value = read(value)
        given = isinstance(value, LearningRateSchedule) or (callable(value) and not isinstance(value, type))
        if not given:
            value = number("learning_rate", value, 0.0)
            if isinstance(self.__dict__.get("_learning_rate"), LearningRateSchedule):
                raise TypeError(
                    "This optimizer was created with a `LearningRateSchedule` as its learning rate, which no number "
                    f"can replace; got {value}. Assign another schedule, or make an optimizer with a number."
                )
        self._learning_rate: float | LearningRateSchedule | Callable[[], float] = value

    def _learning_rate_of(self, step: int) -> float:
        """Return the learning rate of step number ``step``, from 1."""
        rate = self._learning_rate
        if isinstance(rate, float):
            return rate
        if isinstance(rate, LearningRateSchedule):
            return number("a schedule's learning rate", rate(step - 1), 0.0)
        return number("the learning rate that a function gives", rate(), 0.0)

    # ---- the step ----------------------------------------------------------------------------------------------------

    def scalars(self, step: int) -> tuple[float, ...]:
        """Return what changes from step to step, in the order of `scalar_names`, for step number ``step``, from 1.

        Among them is what the weights decay by, 1 where they do not.
        """
        return tuple(self._scalars(step, self._learning_rate_of(step)).values())

    def _scalars_of(self, rate: float, update: int | range) -> Rates:
        return self.rates(rate, update) | {"decay": 1.0 - (self.weight_decay or 0.0) * rate}

    def _scalars(self, step: int, rate: float) -> dict[str, float]:
        gathers, every = self.gradient_accumulation_steps, self.ema_overwrite_frequency
        done = (step - 1) // (gathers or 1)  # updates
        found = self._scalars_of(rate, done + 1)
        if gathers:
            found["updates"] = float(step % gathers == 0)
        if self.use_ema:
            found["take"] = 1.0 - self.ema_momentum if done else 1.0
            found["overwrites"] = float(every is not None and (done + 1) % every == 0)
        return found  # type: ignore[return-value]  # numbers, of one update

    def coming(self, steps: int) -> np.ndarray:
        """Return the `scalars` of the next ``steps`` steps, [steps, len(scalar_names)] in double."""
        if steps == 1:
            return np.array((self.scalars(self._steps + 1),), np.float64)
        numbers, rate = range(self._steps + 1, self._steps + 1 + steps), self._learning_rate
        alike = not self.gradient_accumulation_steps and not self.use_ema and getattr(self.rates, "of_many", False)
        if not isinstance(rate, float) or not alike:
            found = [self.scalars(step) for step in numbers]
            return np.array(found, np.float64).reshape(steps, len(self.scalar_names))
        together = np.empty((steps, len(self.scalar_names)))
        for column, values in zip(together.T, self._scalars_of(rate, numbers).values(), strict=True):
            column[:] = values
        return together

    def update(
        self,
        backend: Updates,
        params: Array,
        grads: Array,
        slots: dict[str, Array],
        step: int,
        scalars: Sequence[float] | Array | None = None,
    ) -> None:
        """Apply step number ``step`` (from 1) to ``params`` and ``slots``, in place. ``grads`` may be overwritten.

        ``scalars`` is what `scalars` gives, where a backend has it on its device already.
        """
        backend.update(self, params, grads, slots, step, self.scalars(step) if scalars is None else scalars)

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what ``make`` gives, made again where an attribute was set."""
        made = self._made
        if name not in made:
            made[name] = make()
        return made[name]

    def _starts(self) -> dict[str, float | None]:
        starts: dict[str, float | None] = dict(self.state())
        if self.use_ema:
            starts[AVERAGE] = 0.0
        if self.gradient_accumulation_steps:
            starts[GATHERED] = 0.0
        return starts

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of all state arrays."""
        return self._once("slots", lambda: tuple(self._starts()))

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The names of what `scalars` gives."""
        return self._once("scalar_names", lambda: tuple(self._scalars(1, 1.0)))

    @property
    def formula(self) -> formulas.Formula:
        """What kernels are made of, that go over all weights alike; NotImplementedError where `apart`."""
        if self.apart:
            raise NotImplementedError(self.apart)
        return self._once("formula", self._whole)

    def _whole(self) -> formulas.Formula:
        gathers = bool(self.gradient_accumulation_steps)
        rule = stages.whole(self.update_rule(), bool(self.clipvalue), gathers, self.use_ema)
        return formulas.update(rule, self.slots, self.scalar_names, self._constants())

    def _constants(self) -> dict[str, object]:
        gathers = self.gradient_accumulation_steps
        shared = {"clipvalue": self.clipvalue} if self.clipvalue else {}
        return self.rule_constants() | shared | ({"micro_steps": float(gathers)} if gathers else {})

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given, the same at every step."""
        return self._once("numbers", lambda: formulas.numbers_of(self._constants()))

    # ---- an array of weights at a time -------------------------------------------------------------------------------

    @property
    def apart(self) -> str:
        """Why weight arrays are updated one by one, in words; nothing where one formula goes over all that there are.

        Then there is no `formula`, and whoever has kernels for formulas alone leaves the task to `LoopProgram`.
        """
        return self._once("apart", lambda: (why := self._why_apart()) and f"the optimizer goes array by array: {why}")

    @property
    def needs_whole(self) -> str:
        """Why weight arrays are not updated in parts, in words; nothing where they can be."""
        return self.own_way or (f"{type(self).__name__} has sums over weights" if self._whole().rowwise else "")

    def _why_apart(self) -> str:
        if self.own_way:
            return self.own_way
        if self.clipnorm or self.global_clipnorm:
            return f"{'clipnorm' if self.clipnorm else 'global_clipnorm'} is of norms"
        if any(self._excluded) and self.weight_decay:
            return "some weights do not decay"
        return self.needs_whole

    def exclude_from_weight_decay(
        self, var_list: Iterable[object] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Have some weights not decay, from the next step on, and no others.

        Parameters
        ----------
        var_list : list, optional
            Arrays that `apply` is given, or paths of a model's weights, such as "dense_1/kernel".
        var_names : list of str, optional
            Regular expressions: weights in whose name ("kernel", "bias") one is found do not decay.
        """
        self._excluded = tuple(var_list or ()), tuple(var_names or ())

    def decays(self, variable: Variable) -> bool:
        """Whether weights decay where there is a decay."""
        listed, names = self._excluded
        if any(one is variable.of or (isinstance(one, str) and one == variable.path) for one in listed):
            return False
        return not any(re.search(name, variable.name) for name in names)

    def update_each(
        self, on: Library, variables: Sequence[Variable], step: int, scalars: Sequence[float],
        norms: Norms = stages.norms,
    ) -> None:  # fmt: skip
        """Apply step number ``step`` to all weights, each with its gradient, which is spent, and its state.

        ``on`` has the array library ``xp``, and work arrays, ``scratch``, as a backend has. ``norms`` gives those of
        the gradients, where the variables are parts of weight arrays.
        """
        of_step, shared = dict(zip(self.scalar_names, scalars, strict=True)), self._constants()
        if GATHERED in self.slots:
            numbers, constants = {"updates": of_step["updates"]}, {"micro_steps": shared["micro_steps"]}
            for v in variables:
                stages.run(on, stages.gather, {"g": v.g, GATHERED: v.slots[GATHERED]}, numbers, constants)
        if of_step.get("updates", 1.0):
            limits = self.clipvalue, self.clipnorm, self.global_clipnorm
            stages.clip(on.xp, [v.g for v in variables], *limits, norms)
            for v in variables:
                self.update_one(on, v, of_step if self.decays(v) else of_step | dict.fromkeys(self.decay_names, 1.0))
        if self.use_ema:
            numbers = {name: of_step[name] for name in ("take", "overwrites")}
            for v in variables:
                stages.run(on, stages.average, {"w": v.w, AVERAGE: v.slots[AVERAGE]}, numbers, {})

    decay_names: ClassVar[tuple[str, ...]] = ("decay",)  # the scalars that are 1 for weights that do not decay

    def update_one(self, on: Library, v: Variable, numbers: Mapping[str, float]) -> None:
        """Apply the rule, and the decay before it, to one weight array; ``numbers`` are the step's scalars."""
        arrays = {"w": v.w, "g": v.g, **{name: v.slots[name] for name in self.state()}}
        numbers = {name: value for name, value in numbers.items() if name not in ("updates", "take", "overwrites")}
        stages.run(on, stages.decayed(self.update_rule()), arrays, numbers, self.rule_constants())

    # ---- configs -----------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, as JSON can hold it.

        Returns
        -------
        dict
            By name; a class of a user's own adds what is no attribute.
        """
        own = inspect.signature(type(self).__init__).parameters.values()
        names = [p.name for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)][1:]
        found = {n: getattr(self, n) for n in (*COMMON, *names) if hasattr(self, n)}
        return found | {"learning_rate": serialize_keras_object(self._learning_rate)}

    @classmethod
    def from_config(cls, config: Mapping[str, object], custom_objects: Mapping[str, object] | None = None) -> Self:
        """Return a new optimizer, as `get_config` has described one.

        Parameters
        ----------
        config : Mapping
            The constructor's arguments by name.
        custom_objects : Mapping, optional
            Classes and functions of a user's own by name.

        Returns
        -------
        Optimizer
            A new one, without state.
        """
        with custom_object_scope(custom_objects):
            return cls(**config)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return shown(self, ("learning_rate",), ("name",), {"learning_rate": self._learning_rate})


COMMON = list(inspect.signature(Optimizer).parameters)  # what all take
