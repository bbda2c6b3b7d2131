"""What a metric of a user's own adds up in."""

from __future__ import annotations

from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = np.ndarray


class Variable(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that a metric of a user's own adds up in: it goes wherever NumPy's arrays go.

    Parameters
    ----------
    value : numpy.ndarray
        What it starts at; its shape and type stay.
    name : str, optional
        What it is called.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import metrics
    >>> total = metrics.Variable(np.zeros(2), "total")
    >>> total.assign_add([1.0, 2.0])
    <Variable total: [1. 2.]>
    >>> float(total[1])
    2.0
    """

    def __init__(self, value: Array, name: str | None = None) -> None:
        self.value, self.name = value, name

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.value.shape

    @property
    def dtype(self) -> str:
        """The name of its type."""
        return self.value.dtype.name

    def assign(self, value: npt.ArrayLike) -> Self:
        """Put other numbers in its place.

        Parameters
        ----------
        value : array_like
            Of its shape, or one that is broadcast to it.

        Returns
        -------
        Variable
            Itself.
        """
        self.value = np.broadcast_to(np.asarray(value, self.value.dtype), self.shape).copy()
        return self

    def assign_add(self, value: npt.ArrayLike) -> Self:
        """Add numbers to it.

        Parameters
        ----------
        value : array_like
            Of its shape, or one that is broadcast to it.

        Returns
        -------
        Variable
            Itself.
        """
        return self.assign(self.value + np.asarray(value))

    def assign_sub(self, value: npt.ArrayLike) -> Self:
        """Take numbers from it.

        Parameters
        ----------
        value : array_like
            Of its shape, or one that is broadcast to it.

        Returns
        -------
        Variable
            Itself.
        """
        return self.assign(self.value - np.asarray(value))

    def numpy(self) -> Array:
        """Return a copy of the numbers.

        Returns
        -------
        numpy.ndarray
            An array that nobody else has.
        """
        return self.value.copy()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.value, dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **kwargs: object) -> object:
        plain = [x.value if isinstance(x, Variable) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def __getitem__(self, at: int | slice | Array | tuple[int | slice | Array | None, ...]) -> Array:
        return self.value[at]

    def __len__(self) -> int:
        return len(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"<Variable {self.name}: {self.value}>"
