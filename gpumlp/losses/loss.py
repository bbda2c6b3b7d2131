"""What losses are: values of samples, by a formula, their weights, and what becomes of a batch of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self, get_args

import numpy as np
import numpy.typing as npt

from gpumlp import config, formulas, literals, ops
from gpumlp.attributes import once
from gpumlp.columns import WidthUnknown
from gpumlp.expressions import Node
from gpumlp.literals import FloatLike, Reduction
from gpumlp.objectives import Described, Values, common_shape, same_rank, values
from gpumlp.signatures import constructor

EPSILON = 1e-7  # Keras's fuzz factor: probabilities are clipped to [EPSILON, 1 - EPSILON] before the logarithm
MEAN: literals.ReductionName = "sum_over_batch_size"
REDUCTIONS = (*get_args(literals.ReductionName), None)


class Loss(Described):
    """Base of losses, and of a user's own, whose formula is a method ``call`` of `gpumlp.ops`.

    Parameters
    ----------
    name : str, optional
        What it is called in messages and configs; by default the class's name.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If ``reduction`` or ``dtype`` is none of these, or the name no string.

    Examples
    --------
    >>> from gpumlp import losses, ops
    >>> class Quartic(losses.Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ops.mean((y_pred - y_true) ** 4, axis=-1)
    >>> float(Quartic()([[0.0, 1.0]], [[1.0, 1.0]]))
    0.5
    """

    known: ClassVar[dict[str, type[Described]]] = {}
    reduction: Reduction
    dtype: FloatLike
    outputs: int | None = None  # how many there are, where its formula asks for that
    targets: int | None = None  # and how many numbers a sample's targets are, where they are not as many, or one

    @constructor
    def __init__(self, name: str | None = None, reduction: Reduction = MEAN, dtype: FloatLike = None) -> None: ...

    def _looked_at(self, arguments: dict[str, object]) -> dict[str, object]:
        reduction = arguments["reduction"]
        if not any(reduction is r or (isinstance(reduction, str) and reduction == r) for r in REDUCTIONS):
            expected = ", ".join(map(repr, REDUCTIONS))
            raise ValueError(f"Invalid value for argument `reduction`: expected {expected}; got {reduction!r}.")
        arguments["name"] = type(self).__name__ if arguments["name"] is None else arguments["name"]
        if not isinstance(arguments["name"], str):
            raise ValueError(f"name must be a string; got {arguments['name']!r}.")
        if arguments["dtype"] is not None:
            config.float_type(arguments["dtype"])
        return arguments

    def __call__(
        self, y_true: npt.ArrayLike | Node, y_pred: npt.ArrayLike | Node, sample_weight: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """Return the loss of arrays of any shape, each a list or a number too, as Keras's objects do.

        Of a formula's symbols it is the mean over the batch, with reduction None the value of each sample. The last
        axis has a sample's outputs, so there is a value for each place of the others; these are multiplied by
        ``sample_weight`` and reduced. Where two arrays differ by one axis, a last axis of size 1 comes or goes.

        Parameters
        ----------
        y_true : array_like
            Targets.
        y_pred : array_like
            Predictions.
        sample_weight : array_like, optional
            What values are multiplied by: a number a sample, or a value.

        Returns
        -------
        numpy.floating or numpy.ndarray
            A number; an array with reduction None.

        Raises
        ------
        ValueError
            If the shapes do not go together.
        TypeError
            If the values are no numbers.
        """
        if isinstance(y_true, Node) or isinstance(y_pred, Node):  # part of a formula of a user's own
            return self._of_symbols(y_true, y_pred)  # type: ignore[return-value]
        with np.errstate(all="ignore"):
            found = self.of_samples(y_true, y_pred)
            return _reduced(found, sample_weight, self.reduction, self.counts(y_true, found))

    def _of_symbols(self, y_true: object, y_pred: object) -> Values:
        found = self.rule(y_true, y_pred, **self.constants)
        if self.averages:
            return ops.mean(found)
        if self.reduction == "sum":
            return ops.sum(found)
        if self.reduction in (None, "none"):
            return found
        raise TypeError(f"{self.name} in a formula has no weights; it has reduction={self.reduction!r}.")

    def of_samples(self, y_true: object, y_pred: object) -> np.ndarray:
        """Return the values of arrays, as yet without weights; a user's own formula has them in any shape."""
        if not self.own:
            return values(self.rule, self.constants, y_true, y_pred, self.dtype)
        p = config.floats("y_pred", y_pred, self.dtype)
        t, p = same_rank(config.floats("y_true", y_true, p.dtype), p)
        if t.ndim != p.ndim:
            raise ValueError(f"{self.name}: the shapes do not go together: y_true {t.shape}, y_pred {p.shape}.")
        return np.asarray(self.rule(t, p), p.dtype)

    def counts(self, y_true: object, found: np.ndarray) -> np.ndarray | None:
        """Return which of the values a mean is taken of; None: of all."""
        return None

    def beyond_models(self) -> str:
        """Return why no model is trained on it, and what to do; nothing where one is."""
        if self.reduction in (None, "none"):
            return (
                f"A model is trained on one number a batch; {self.name} has reduction={self.reduction!r}. Leave it at "
                f"{MEAN!r} in compile; called on arrays, a loss has all of Keras's."
            )
        if (axis := getattr(self, "axis", -1)) not in (-1, 1):
            return (
                f"A model is trained on a value for each sample, over its outputs; {self.name} has axis={axis!r}, "
                "which arrays may have. Give axis=-1."
            )
        return ""

    @property
    def averages(self) -> bool:
        """Whether its ``reduction`` is a mean."""
        return self.reduction in (MEAN, "mean")

    @property
    def of_batch(self) -> bool:
        """Whether a batch's loss is not the mean of what it is for each sample: see `share`."""
        return self.formula.of_batch or not self.averages

    def share(self, samples: int, values: int, weight: float | None) -> float:
        """Return what the mean over all ``values`` of ``samples`` is multiplied by, by its ``reduction``.

        ``weight`` is the sum of the samples' weights, None where they have none.
        """
        if self.formula.of_batch:  # one value, which each sample's weight is a factor of
            values = 1 if weight is None else samples
        if self.reduction == "sum":
            return float(values)
        if self.reduction != "mean_with_sample_weight" or weight is None:
            return 1.0
        return values / weight if weight else 0.0

    @once
    def formula(self) -> formulas.Formula:
        """What kernels are made of; WidthUnknown where a user's asks for the number of outputs, before that is said."""
        rows = self.sparse or self.rows
        return formulas.loss(self.rule, self.constants, rows, self.outputs, self.targets, self.averages)

    def target_width(self, width: int) -> int:
        """See `OfTargets.target_width`."""
        return self.targets or super().target_width(width)

    def refusal(self, given: int, width: int) -> str:
        """Return what a user's formula says of targets of ``given`` numbers a sample, which it does not go with."""
        try:
            assert not self.own or given < 2 or self.changed(outputs=width, targets=given).formula
        except TypeError as error:
            return f" By columns, of {given}: {error}"
        return ""

    def for_targets(self, given: int, width: int) -> Self:
        """Return it for targets of ``given`` numbers a sample: as many as a user's formula makes something of."""
        if not self.own:
            return self
        try:
            if given in (0, 1, width):
                found = super().for_targets(given, width)
                assert found.formula
            else:
                found = self.changed(outputs=width, targets=given)
                assert found.formula
        except WidthUnknown:
            return found.changed(outputs=width)
        except TypeError:  # it does not go together: these are not its targets
            return self
        return found


class _Function(Loss):
    """A loss that is a user's function."""

    def __init__(self, function: Callable[..., Values]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self.__dict__["function"] = function

    @property
    def own(self) -> bool:
        return True


def _reduced(
    values: np.ndarray, sample_weight: object, reduction: str | None, counts: np.ndarray | None = None
) -> np.ndarray:
    """Return the values times their weights, reduced; a number or an empty vector as it is, as in Keras."""
    divisor: np.ndarray | None = None
    if counts is not None:
        own = counts.astype(values.dtype)
        if reduction in (MEAN, "mean"):
            own *= values.dtype.type(counts.size / max(counts.sum(), 1))
        if sample_weight is not None:
            given, own = same_rank(config.floats("sample_weight", sample_weight, values.dtype), own)
            own = own * given
        sample_weight = own
    if sample_weight is not None:
        weights = config.floats("sample_weight", sample_weight, values.dtype)
        values, weights = same_rank(values, weights)
        common_shape("sample_weight must have one weight per value", values=values, sample_weight=weights)
        values = values * weights
        divisor = weights.sum()
    if reduction in (None, "none") or values.shape in ((), (0,)):
        return values[()]
    total: np.ndarray = values.sum()
    if reduction == "sum":
        return total
    if reduction != "mean_with_sample_weight" or divisor is None:
        divisor = values.dtype.type(values.size)
    return total / divisor if divisor else np.zeros_like(total)
