"""What metrics are: numbers added up over samples, and a result of these.

`Metric` is the base, of a user's own classes too. `Summed` has what is added up and the result as two methods. `Sums`
is given by a function of gpumlp.ops, from which Programs' kernels are made: one number or several for each sample. What
is no such function is computed on the host, from each batch's outputs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from gpumlp import config, formulas, initializers, objectives, variables
from gpumlp.attributes import Attributes, once
from gpumlp.literals import FloatLike, InitializerLike
from gpumlp.metrics.variable import Array, Variable
from gpumlp.naming import automatic
from gpumlp.objectives import Described
from gpumlp.saving import serialize_keras_object
from gpumlp.signatures import constructor, shown

Result: TypeAlias = float | np.ndarray
Shape: TypeAlias = int | Sequence[int]


class Metric(objectives.OfTargets, Attributes):
    """Base of all metrics. One of a user's own has ``update_state`` and ``result``, and computes on the host.

    Parameters
    ----------
    dtype : {"float32", "float64"}, optional
        Of the variables, and of the arithmetic where the metric is called on arrays; in a model that of the model
        counts.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import metrics
    >>> class Largest(metrics.Metric):
    ...     def __init__(self, name="largest"):
    ...         super().__init__(name=name)
    ...         self.error = self.add_variable((), "zeros", name="error")
    ...
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.error.assign(
    ...             max(float(self.error), np.abs(np.asarray(y_pred) - y_true).max())
    ...         )
    ...
    ...     def result(self):
    ...         return float(self.error)
    >>> metric = Largest()
    >>> metric([1.0, 2.0], [1.5, 2.0])
    0.5
    >>> metric([1.0, 2.0], [1.0, 4.0])
    2.0
    """

    # `Any`, as these are properties of some classes, and of a user's own whatever these set them to.
    series: int = 0  # how many sums Programs add up, by the formula; 0: it is computed on the host, from outputs
    formula: Any = None  # what kernels are made of
    numbers: Any = MappingProxyType({})  # those that kernels are given
    constants: Any = MappingProxyType({})  # what the formula takes beside targets and predictions
    weighted = False  # whether a model's sample weights count; ``compile`` says so
    exact = False  # whether it takes as many targets as there are outputs, or one class number
    overridden: Any = False  # whether a class of a user's own has methods that kernels would not call
    own: Any = False
    default_name: ClassVar[str] = ""
    _direction: str = ""  # "up" where more is better, "down" where less is, for callbacks; the name is Keras's
    name: str
    _variables: list[Variable]

    def __init__(self, dtype: FloatLike = None, name: str | None = None) -> None:
        self.name = automatic(type(self)) if name is None else _name(name)
        self.__dict__["dtype"] = dtype if dtype is None else self._float_type(dtype)
        self._variables = []

    @property
    def dtype(self) -> str:
        """The type that was asked for, or else the default one."""
        return self._asked or config.floatx()

    _dtype = dtype  # which classes written for Keras ask for

    @property
    def _asked(self) -> str | None:
        return self.__dict__["dtype"]

    @staticmethod
    def _float_type(dtype: object) -> str:
        return config.float_type(dtype).name

    @property
    def why(self) -> str:
        """Why it is computed on the host, in words."""
        return f"{self.name} ({type(self).__name__}) is computed from each batch's outputs"

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch; a class of a user's own says what it takes.

        Parameters
        ----------
        *args : array_like
            Targets and predictions, in a model.
        **kwargs : array_like
            As ``sample_weight`` weights.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method update_state(y_true, y_pred, sample_weight).")

    def result(self) -> object:
        """Return what it is of all that was taken in; a class of a user's own says what that is.

        Returns
        -------
        float, numpy.ndarray or dict
            A number, or several, or several by their names.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method result().")

    def reset_state(self) -> None:
        """Start anew."""
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape))

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        """Take in a batch, and return the result of all."""
        self.update_state(*args, **kwargs)
        return self.result()

    def add_variable(
        self, shape: Shape, initializer: InitializerLike, dtype: npt.DTypeLike | None = None, aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:  # fmt: skip
        """Return a variable that `reset_state` makes 0.

        Parameters
        ----------
        shape : int or sequence of int
            Its shape.
        initializer : str, callable, dict or None
            What it starts at, as `gpumlp.initializers.get` takes it; None means zeros.
        dtype : str, optional
            By default the metric's.
        aggregation : str, default "sum"
            Keras's, for several machines; without meaning here.
        name : str, optional
            What it is called.

        Returns
        -------
        Variable
            An array that can be assigned, and added to.

        Raises
        ------
        RuntimeError
            If the class's constructor has not called that of `Metric`.
        """
        if "_variables" not in self.__dict__:
            raise RuntimeError(f"{type(self).__name__}: call super().__init__() first.")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        kind = np.dtype(dtype or self.dtype)
        values = initializers.get("zeros" if initializer is None else initializer)(shape, "float64")
        self._variables.append(Variable(np.asarray(values).astype(kind), name))
        return self._variables[-1]

    def add_weight(
        self, shape: Shape = (), initializer: InitializerLike = None, dtype: npt.DTypeLike | None = None,
        name: str | None = None,
    ) -> Variable:  # fmt: skip
        """`add_variable`, with defaults.

        Parameters
        ----------
        shape : int or sequence of int, default ()
            Its shape.
        initializer : str, callable, dict or None
            What it starts at, as `gpumlp.initializers.get` takes it; None means zeros.
        dtype : str, optional
            By default the metric's.
        name : str, optional
            What it is called.

        Returns
        -------
        Variable
            An array that can be assigned, and added to.
        """
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """Its variables, and those of the metrics among its attributes, in lists and dicts too."""
        held = [v for name, value in vars(self).items() if name not in ("_variables", "_state") for v in _held(value)]
        mine = self.__dict__.get("_variables", [])
        known = {id(v) for v in mine}
        return [*mine, *(v for v in held if id(v) not in known)]

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            Of what are attributes, too; a class of a user's own adds the others.
        """
        names = [n for n in inspect.signature(type(self).__init__).parameters if n != "self"]
        found = {n: serialize_keras_object(getattr(self, n)) for n in names if hasattr(self, n)}
        return {"name": self.name} | found | {"dtype": self.dtype}

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Return a new metric, as `get_config` has described one.

        Parameters
        ----------
        config : Mapping
            The constructor's arguments by name.

        Returns
        -------
        Metric
            A new one, with nothing taken in.
        """
        return cls(**config)  # type: ignore[arg-type]

    def fresh(self) -> Self:
        """Return a copy that nobody else adds to, with nothing taken in."""
        other = copy.deepcopy(self)
        other.reset_state()
        return other

    def has_the_state(self, of: Metric | list[Array]) -> None:
        """Have the state of a copy, which has taken in what a model computed; or sums, as ``of`` takes them."""
        assert isinstance(of, Metric)
        named = ("name", "weighted")  # a copy may have been given another name
        self.__dict__.update({k: v for k, v in of.__dict__.items() if k not in named})

    def for_targets(self, given: int, width: int) -> Self:
        """Return it for targets of ``given`` numbers a sample, of ``width`` outputs."""
        return self

    def of(self, *sums: Array) -> Result:
        """Return the result of a formula's sums, the last one the weights', that Programs have added up."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return shown(self, never=() if self._asked else ("dtype",))


def _held(value: object) -> Iterator[Variable | variables.Variable]:
    """Yield the variables of what a metric has as an attribute."""
    if isinstance(value, Metric):
        yield from value.variables
    elif isinstance(value, (Variable, variables.Variable)):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _held(part)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"name must be a string; got {name!r}.")
    return name


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """a / b, and 0 where b is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)[()]


class Summed(Metric):
    """A metric with what a batch adds to it in one method, and the result of that in another.

    A class of a user's own that overrides ``update_state`` or ``result`` has these called, on the host.
    """

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """Return what a batch adds: arrays of double."""
        raise NotImplementedError

    def empty(self) -> list[Array] | None:
        """Return what nothing adds up to, where that is known before anything came."""
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """What the sums are called: attributes of these names are the variables that they are in."""
        return ()

    @property
    def state(self) -> list[Variable] | None:
        """What was added up: None before anything came, where its shape depends on that."""
        if (given := self.__dict__.pop("_sums", None)) is not None:
            self._hold(self.state_of(given))
        elif self.__dict__.get("_state") is None and (sums := self.empty()) is not None:
            self._hold(sums)
        return self.__dict__.get("_state")

    def _hold(self, sums: list[Array]) -> None:
        names = self.names if len(self.names) == len(sums) else (None,) * len(sums)
        self.__dict__["_state"] = [Variable(np.array(a), name) for a, name in zip(sums, names, strict=True)]

    def has_the_state(self, of: Metric | list[Array]) -> None:
        """See `Metric.has_the_state`."""
        if isinstance(of, list):
            self.__dict__.update(_state=None, _sums=of)  # until somebody asks: batches alone would take longer
        elif self.overridden or not isinstance(of, Summed):
            super().has_the_state(of)
        else:
            self.__dict__["_state"] = of.state

    def state_of(self, sums: Sequence[Array]) -> list[Array]:
        """Return sums of the formula, the last one the weights', as what ``sums`` returns."""
        return list(sums)

    def __getattr__(self, name: str) -> Variable | None:
        if not name.startswith("_") and name in self.names and self.state is not None:
            return next((v for v in self.state if v.name == name), None)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def update_state(
        self, y_true: npt.ArrayLike, y_pred: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> None:
        """Take in a batch.

        Parameters
        ----------
        y_true : array_like
            Targets.
        y_pred : array_like
            Predictions.
        sample_weight : array_like, optional
            A number for each sample, or for each value.

        Raises
        ------
        ValueError
            If the shapes do not go together, or outputs differ in number from those before.
        TypeError
            If the values are no numbers.
        """
        with np.errstate(all="ignore"):
            self.take(self.sums(y_true, y_pred, sample_weight))

    def take(self, found: list[Array]) -> None:
        """Add up what a batch gave."""
        state = self.state
        if state is None:
            self._hold(found)
            return
        if [a.shape for a in state] != [np.shape(b) for b in found]:
            raise ValueError(
                f"{self.name} has added up numbers of shape {state[0].shape}; got {np.shape(found[0])}: outputs differ "
                "in number. Make another metric for these."
            )
        for variable, more in zip(state, found, strict=True):
            variable.assign_add(more)

    def result(self) -> Result:
        """Return what the metric is, of all that was taken in.

        Returns
        -------
        numpy.floating or numpy.ndarray
            A number, or several; 0 of nothing.
        """
        if self.state is None:
            return 0.0
        with np.errstate(all="ignore"):
            return self.of(*(v.value for v in self.state))

    @property
    def variables(self) -> list[Variable]:
        """What was added up so far, and what a user's class has."""
        return [*(self.state or []), *super().variables]

    @once
    def overridden(self) -> bool:
        """Whether a class of a user's own has methods that kernels would not call."""
        own = [k for k in type(self).__mro__ if k is not object and k.__module__.split(".")[0] != "gpumlp"]
        return any(m in vars(k) for k in own for m in ("update_state", "result", "reset_state", "sums", "of"))

    @property
    def series(self) -> int:  # type: ignore[override]
        """How many sums Programs add up; see `Metric`."""
        formula: formulas.Formula | None = None if self.overridden else self.formula
        return 0 if formula is None else len(formula.names)


def samplewise(values: Array, sample_weight: object, mean: bool = True) -> tuple[Array, float]:
    """Return values [series, n, ...] times their weights, added up, and the weights' sum, as Keras's Mean does.

    Axes beyond the samples' are averaged, or with ``mean`` False added up. Weights have one number for each place, or
    for the places of the first axes.
    """
    places, reduce = values.shape[1:], np.mean if mean else np.sum
    if sample_weight is None:
        count = len(values[0]) if places else 1
    else:
        w = config.floats("sample_weight", sample_weight, values.dtype)
        if w.ndim > len(places) and w.shape[-1] == 1:
            w = w[..., 0]
        if not places:  # one value of the whole batch, whatever each sample counts
            values = np.broadcast_to(values.reshape(-1, *[1] * w.ndim), (len(values), *w.shape))
            places = w.shape
        if mean and w.ndim < len(places):
            values = np.mean(values, axis=tuple(range(1 + w.ndim, values.ndim)))
        elif w.ndim < len(places):
            w = w.reshape(w.shape + (1,) * (len(places) - w.ndim))
        try:
            w = np.broadcast_to(w, values.shape[1:])
        except ValueError:
            raise ValueError(
                f"sample_weight must have one number a sample, or a value; got {w.shape} for values of {places}."
            ) from None
        values, count = values * w, np.sum(reduce(w, axis=tuple(range(1, w.ndim))) if w.ndim > 1 else w)
    axes = tuple(range(2, values.ndim))
    values = reduce(values, axis=axes) if axes else values
    return values.reshape(len(values), -1).sum(axis=1, dtype=np.float64), np.float64(count)


class Sums(Described, Summed):
    """A metric that is a function, of which kernels are made; what it gives for each sample is averaged.

    Parameters
    ----------
    name : str, optional
        In the history; the class's own when None.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic where the metric is called on arrays; in a model that of the model counts.
    """

    known: ClassVar[dict[str, type[Described]]] = {}
    weighted: bool
    mean: ClassVar[bool] = True  # whether it averages; else it adds up
    _refused = ""  # why the function is no formula

    @constructor
    def __init__(self, name: str | None = None, dtype: FloatLike = None) -> None: ...

    def _looked_at(self, arguments: dict[str, object]) -> dict[str, object]:
        if arguments["dtype"] is not None:
            arguments["dtype"] = self._float_type(arguments["dtype"])
        name = arguments["name"]
        named = (self.default_name or automatic(type(self))) if name is None else _name(name)
        return arguments | {"name": named, "weighted": False, "_variables": []}

    @once
    def formula(self) -> formulas.Formula | None:
        """What kernels are made of; None where the function is not made of what formulas are."""
        sparse = self.sparse or self.rows
        if (axis := self.constants.get("axis", -1)) not in (-1, 1):
            self.__dict__["_refused"] = f"it goes along axis {axis!r}, and so over samples"
            return None
        try:
            return formulas.metric(self.rule, self.constants, sparse)
        except Exception as error:  # whatever a function says to symbols: on arrays it says it again
            if not self.own and not isinstance(error, TypeError):
                raise
            self.__dict__["_refused"] = str(error)
            return None

    @property
    def _leaves_out(self) -> bool:
        """Whether weights of some samples do not count: those of a class that is ignored."""
        return self.weighted and self.constants.get("ignore_class") is not None

    @property
    def series(self) -> int:  # type: ignore[override]
        """How many sums Programs add up; see `Metric`."""
        return 0 if self._leaves_out else super().series

    @property
    def why(self) -> str:
        """See `Metric.why`."""
        if self._leaves_out:
            return f"{self.name} leaves the weights of ignore_class out"
        if self.overridden or self.formula is not None:
            return super().why
        return f"{self.name} is no formula of each sample ({self._refused.split('. ')[0].rstrip('.')})"

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """See `Summed.sums`."""
        name = getattr(self.rule, "__name__", self.name)
        p = config.floats("y_pred", y_pred, self._asked)
        t = config.floats("y_true", y_true, p.dtype)
        t, p = objectives.same_rank(t, p)
        w = None if sample_weight is None else config.floats("sample_weight", sample_weight, p.dtype)
        if w is not None and (ignored := self.constants.get("ignore_class")) is not None:
            w, kept = objectives.same_rank(w, t != ignored)
            w = w * kept
        if getattr(self.function, "elementwise", False) and (
            p.ndim <= 1 or (w is not None and w.ndim == p.ndim and w.shape[-1] != 1)
        ):
            shape = objectives.common_shape(name, y_true=t, y_pred=p)
            t, p = (np.atleast_1d(np.broadcast_to(a, shape))[..., None] for a in (t, p))
        ours = hasattr(self.rule, "checks")  # a function that takes arrays of any shape
        if ours or (self.formula is not None and not (w is not None and w.ndim == p.ndim > 1)):
            values = objectives.sums(self.rule, self.constants, t, p, self._asked)
        else:
            found = np.asarray(self.rule(t, p, **self.constants))
            if found.dtype.kind not in "biuf":
                raise TypeError(
                    f"The metric {self.name} must return numbers, one for all samples or each; got {found!r:.80}."
                )
            values = found.astype(p.dtype)[None]
        totals, count = samplewise(values, w, self.mean)
        return [*(np.asarray(t) for t in totals), np.asarray(count)]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return "total", "count"

    def empty(self) -> list[Array]:
        """See `Summed.empty`."""
        return [np.zeros(()) for _ in range(1 + max(1, 0 if self.formula is None else len(self.formula.names)))]

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`: the last one is the weights' sum."""
        total, count = sums
        return ratio(total, count)

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            With the type that it computes in.
        """
        return super().get_config() | {"dtype": self.dtype}

    __repr__ = Metric.__repr__

    def _key(self) -> tuple[object, ...]:
        return *super()._key(), self.weighted

    def __getstate__(self) -> dict[str, object]:
        """Return what it is made of, without what is found out from that."""
        return {k: v for k, v in self.__dict__.items() if k not in ("formula", "overridden")}
