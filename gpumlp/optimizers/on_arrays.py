"""An optimizer without a model: Keras's `apply` on arrays, for a training loop of a user's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from gpumlp.attributes import Attributes
from gpumlp.optimizers.stages import AVERAGE, Array, Assignable, Variable
from gpumlp.variables import Variable as Shown

Scaled = TypeVar("Scaled", float, np.ndarray)


class Host:
    """NumPy, with new work arrays each time."""

    xp: ModuleType = np

    def scratch(self, index: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Return a work array."""
        return np.empty(shape, dtype)


class OnArrays(Attributes):
    """What `Optimizer` has for arrays: writeable ones of floats, or objects that are read as arrays and have `assign`.

    The optimizer has state for the arrays that it was first given; a model's has it for the model's weights, and a step
    by gradients of these is one as ``fit`` does it.
    """

    _steps: int
    _arrays: list[Variable]  # with the state of each; w and g are those of a step

    if TYPE_CHECKING:  # what a constructor declares is an attribute

        def __getattr__(self, name: str) -> Any: ...

    def build(self, variables: Iterable[Assignable]) -> None:
        """Have state for arrays from now on: of a model's optimizer for that model's trainable weights.

        Parameters
        ----------
        variables : iterable of numpy.ndarray, or of what has ``assign``
            Writeable arrays of floats.

        Raises
        ------
        RuntimeError
            Where there is state for other arrays.
        ValueError
            Where the weights are not the model's.
        """
        if (owner := self.owner) is not None:
            owner._make_state(list(variables))
            return
        if self._owner is not None or self._arrays:
            whose = "a model" if self._owner is not None else "other arrays"
            raise RuntimeError(f"The optimizer is that of {whose}, whose state it has. Use a new one.")
        self._arrays = [self._with_state(variable) for variable in variables]

    @property
    def built(self) -> bool:
        """Whether there is state for arrays, or for a model's weights."""
        return self.has_state or bool(self._arrays)

    def _with_state(self, variable: Assignable) -> Variable:
        w = _read(variable)
        starts = self._starts()
        slots = {name: w.copy() if start is None else np.full_like(w, start) for name, start in starts.items()}
        return Variable(str(getattr(variable, "path", getattr(variable, "name", ""))), w, w, slots, variable)

    def apply(
        self, grads: Iterable[npt.ArrayLike | None], trainable_variables: Iterable[Assignable] | None = None
    ) -> None:
        """Update arrays by their gradients, which are left as they are; None for an array is left out.

        Parameters
        ----------
        grads : iterable of arrays
            One for each variable, of its shape; with loss_scale_factor those of the loss multiplied by that.
        trainable_variables : iterable, optional
            By default those that `build`, or the first call, was given; of a model's optimizer all its trainable
            weights. Gradients of these may be on the model's GPU.

        Raises
        ------
        ValueError
            If there is no gradient, or not one for each variable, or shapes differ, or a variable is unknown.
        TypeError
            If a variable is no writeable array of floats.
        """
        grads, owner = list(grads), self.owner
        if not grads:
            return
        if trainable_variables is None:
            trainable_variables = (
                [v.of for v in self._arrays if v.of is not None] if owner is None else owner.trainable_weights
            )
        variables = list(trainable_variables)
        if len(variables) != len(grads):
            raise ValueError(f"There must be a gradient for each variable; got {len(grads)} for {len(variables)}.")
        if all(g is None for g in grads):
            raise ValueError("No gradients provided for any variable.")
        given = [(v, g) for v, g in zip(variables, grads, strict=True) if g is not None]
        if len(given) < len(grads):
            missing = [str(getattr(variables[i], "path", i)) for i, g in enumerate(grads) if g is None]
            warnings.warn(f"There are no gradients for the variables {', '.join(missing)}.", stacklevel=2)
        if owner is not None:
            owner._apply(given)
            return
        if not self._arrays:
            self.build(variables)
        self._step([self._ready(v, g) for v, g in given])

    def _ready(self, variable: Assignable, grad: npt.ArrayLike) -> Variable:
        known = next((v for v in self._arrays if v.of is variable), None)
        if known is None:
            raise ValueError(
                "Unknown variable: an optimizer has state for those that it was first given. Use a new one."
            )
        w = _read(variable)
        g = np.array(grad, w.dtype, order="C")
        if g.shape != w.shape:
            raise ValueError(f"A gradient must have its variable's shape, {w.shape}; got {g.shape}.")
        return known._replace(w=w, g=g if self.loss_scale_factor is None else g / self.loss_scale_factor)

    def _step(self, variables: Sequence[Variable]) -> None:
        step = self._steps + 1
        scalars = self.scalars(step)
        with np.errstate(all="ignore"):
            self.update_each(Host(), variables, step, scalars)
        self._steps = step
        for v in variables:
            if v.of is None:
                continue
            constraint = getattr(v.of, "constraint", None)
            _write(v.of, v.w if constraint is None else constraint(v.w))

    def apply_gradients(self, grads_and_vars: Iterable[tuple[npt.ArrayLike | None, Assignable]]) -> int:
        """Update arrays by their gradients; see `apply`.

        Parameters
        ----------
        grads_and_vars : iterable of tuple
            Pairs of a gradient and its array.

        Returns
        -------
        int
            How many steps there were.
        """
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._steps

    @property
    def variables(self) -> list[Shown]:
        """What it keeps, in Keras's order: steps, the learning rate unless a schedule gives it, the state arrays.

        A model's optimizer has its state with the model: then they can be assigned, between two steps.
        """
        if (owner := self.owner) is not None:
            found: list[Shown] = owner._optimizer_variables()
            return found
        rate, made = self._learning_rate, [("iteration", np.array(self._steps))]
        made += [("learning_rate", np.array(rate))] if isinstance(rate, float) else []
        made += [(f"{v.path}_{name}".lstrip("_"), array) for v in self._arrays for name, array in v.slots.items()]
        return [Shown(array, dtype=array.dtype.name, trainable=False, name=name) for name, array in made]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Set `variables`.

        Parameters
        ----------
        weights : sequence of array_like
            In the order of `variables`.

        Raises
        ------
        ValueError
            And no change, where their number or shapes differ, or before `build`.
        """
        if not self._arrays:
            raise ValueError("You are calling set_weights of an optimizer without arrays. Call build(arrays) first.")
        mine, values = self.variables, [np.asarray(w) for w in weights]
        if [a.shape for a in mine] != [w.shape for w in values]:
            raise ValueError(f"set_weights expects arrays of shapes {[a.shape for a in mine]}, as `variables` has.")
        if isinstance(self._learning_rate, float):
            self.learning_rate = float(values[1])
        slots = [slot for v in self._arrays for slot in v.slots.values()]
        for slot, w in zip(slots, values[len(values) - len(slots) :], strict=True):
            slot[...] = w
        self._steps = int(values[0])

    def scale_loss(self, loss: Scaled) -> Scaled:
        """Return the loss whose gradients `apply` takes: multiplied by loss_scale_factor.

        Parameters
        ----------
        loss : float or numpy.ndarray
            The loss.

        Returns
        -------
        float or numpy.ndarray
            Itself, where there is no factor.
        """
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def finalize_variable_values(self, var_list: Iterable[Assignable]) -> None:
        """Have the averages of arrays that `apply` was given be their values, with use_ema; ``fit`` does so itself.

        Parameters
        ----------
        var_list : iterable of numpy.ndarray, or of what has ``assign``
            Some or all of those arrays.
        """
        if self.use_ema and (owner := self.owner) is not None:
            owner._take_averages(list(var_list))
            return
        for variable in var_list if self.use_ema else ():
            for v in self._arrays:
                if v.of is variable:
                    _write(variable, v.slots[AVERAGE].copy())


def _read(variable: Assignable) -> Array:
    """Return a copy of an array that can be written, of its type; TypeError for anything else."""
    array = np.array(variable, order="C")
    writeable = variable.flags.writeable if isinstance(variable, np.ndarray) else hasattr(variable, "assign")
    if array.dtype not in (np.float32, np.float64) or not writeable:
        raise TypeError(f"Variables are writeable arrays of float32 or float64; got {variable!r:.80}.")
    return array


def _write(variable: Assignable, value: Array) -> None:
    if isinstance(variable, np.ndarray):
        variable[...] = value
    else:
        variable.assign(value)
