"""An optimizer's numbers: Rate and Count, which Keras has as variables; and what several have for their next steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from gpumlp import config

if TYPE_CHECKING:
    from gpumlp.optimizers.base import Optimizer


class _Number:
    """What Keras's variable of one number offers beside being a number."""

    name: ClassVar[str]
    shape: ClassVar[tuple[int, ...]] = ()
    ndim, trainable = 0, False
    _optimizer: Optimizer

    @property
    def path(self) -> str:
        """Whose it is, and what: "adam/learning_rate"."""
        return f"{self._optimizer.name}/{self.name}"

    @property
    def dtype(self) -> str:
        """The type that Keras has it in."""
        raise NotImplementedError

    @property
    def value(self) -> np.number:
        """The number, of that type."""
        return self.numpy()

    def numpy(self) -> np.number:
        """Return the number, of that type."""
        found: np.number = np.dtype(self.dtype).type(self)
        return found


class Rate(_Number, float):
    """An optimizer's learning rate, in double."""

    name = "learning_rate"

    def __new__(cls, value: float, optimizer: Optimizer) -> Self:
        """Return ``value``, as the rate of ``optimizer``."""
        found = super().__new__(cls, value)
        found._optimizer = optimizer
        return found

    @property
    def dtype(self) -> str:
        """The default type of floats."""
        return config.floatx()

    def assign(self, value: float) -> Rate:
        """Set the optimizer's rate, and return it; see `Optimizer.learning_rate`."""
        self._optimizer.learning_rate = value
        return self._optimizer.learning_rate

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)


class Count(_Number, int):
    """How many updates an optimizer has done."""

    name = "iteration"

    def __new__(cls, value: int, optimizer: Optimizer) -> Self:
        """Return ``value``, as the count of ``optimizer``."""
        found = super().__new__(cls, value)
        found._optimizer = optimizer
        return found

    @property
    def dtype(self) -> str:
        """Of Keras's 32 bits, or of 64 where it takes them."""
        return "int32" if self < 1 << 31 else "int64"

    def assign(self, value: int) -> Count:
        """Set the optimizer's count, and return it; see `Optimizer.iterations`."""
        self._optimizer.iterations = value
        return self._optimizer.iterations

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


def coming(optimizers: Sequence[Optimizer], steps: int) -> list[np.ndarray]:
    """Return what `Optimizer.coming` gives of each: once for those that are alike, and have done as many steps."""
    if len(optimizers) == 1:
        return [optimizers[0].coming(steps)]
    each, found = list[np.ndarray](), dict[tuple[str, int], np.ndarray]()
    for optimizer in optimizers:
        kind = optimizer._once("kind", lambda optimizer=optimizer: _kind(optimizer)), optimizer.steps  # type: ignore[misc]
        values = found.get(kind)
        if values is None:
            values = optimizer.coming(steps)
            if kind[0]:
                found[kind] = values
        each.append(values)
    return each


def _kind(optimizer: Optimizer) -> str:
    """Return in words all that the numbers of a step depend on; nothing where they are asked of a user's code."""
    kind, rate = type(optimizer), optimizer._learning_rate
    if not isinstance(rate, float) or not kind.__module__.startswith("gpumlp."):
        return ""
    own = sorted((name, repr(value)) for name, value in vars(optimizer).items() if name[0] != "_" and name != "name")
    return f"{kind.__name__} {rate!r} {own}"
