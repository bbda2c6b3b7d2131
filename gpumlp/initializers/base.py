"""What an initializer is: called with a shape and a dtype, it gives first values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from gpumlp import config
from gpumlp.saving import Configured

Shape = tuple[int, ...]
Initializing: TypeAlias = Callable[..., object]  # of a shape and a dtype: what makes first values


class Initializer(Configured):
    """Base of what makes first values: called with a shape and a dtype, one gives a new array.

    One of a user's own has a method ``__call__(self, shape, dtype=None)``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import initializers, layers
    >>> class Halves(initializers.Initializer):
    ...     def __call__(self, shape, dtype=None):
    ...         return np.full(shape, 0.5, dtype)
    >>> layer = layers.Dense(2, kernel_initializer=Halves())
    >>> layer.build((None, 1))
    >>> layer.kernel.numpy()
    array([[0.5, 0.5]], dtype=float32)
    """

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> np.ndarray:
        """Return first values.

        Parameters
        ----------
        shape : tuple of int
            Of the array.
        dtype : dtype, optional
            None: ``config.floatx()``, "float32" unless changed.

        Returns
        -------
        ndarray
            A new array.
        """
        return self.values(tuple(shape)).astype(config.floatx() if dtype is None else dtype, copy=False)

    def values(self, shape: Shape) -> np.ndarray:
        """Return a new array of float64."""
        raise NotImplementedError(f"{type(self).__name__} must have a method __call__(self, shape, dtype=None).")

    def clone(self) -> Self:
        """Return another one, made of the same config.

        Returns
        -------
        Initializer
            One that begins anew.
        """
        return self.from_config(self.get_config())
