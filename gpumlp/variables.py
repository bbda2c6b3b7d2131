"""Variables: arrays that live somewhere else, read and set through an object, as Keras's are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gpumlp import config
from gpumlp.naming import automatic, flag, unmasked

Change = Callable[[np.ndarray], object]


class Variable(np.lib.mixins.NDArrayOperatorsMixin):
    """An array with a name, that can be read as an array and set by `assign`; it computes as NumPy's arrays do.

    Parameters
    ----------
    initializer : array, or function of shape and dtype
        Its first values, or what returns them.
    shape : tuple of int, optional
        What a function is called with.
    dtype : str, optional
        ``gpumlp.config.floatx()`` when None; any of NumPy's number types.
    trainable : bool
        Whether an optimizer is meant to change it.
    name : str, optional
        Its last name; ``path`` is where it is, such as "dense_1/kernel". Made of the class's when None.

    Examples
    --------
    >>> import gpumlp
    >>> count = gpumlp.Variable([0.0, 0.0], name="count")
    >>> count.assign_add([1.0, 2.0])
    array([1., 2.], dtype=float32)
    >>> count * 10
    array([10., 20.], dtype=float32)
    """

    def __init__(
        self,
        initializer: ArrayLike | Callable[..., ArrayLike],
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        kind = config.floatx() if dtype is None else np.dtype(dtype).name
        made = initializer(shape, kind) if callable(initializer) else initializer
        self._array = np.array(made, kind)
        self.name = self.path = automatic(Variable) if name is None else name
        self.trainable = flag("trainable", trainable)

    # ---- where it is: what other kinds of variables have in another way ---------------------------------------------

    def numpy(self) -> np.ndarray:
        """Return a copy of its values, on the host.

        Returns
        -------
        array
        """
        return self._array.copy()

    def change(self, to: Change) -> None:
        """Have it be what ``to`` returns of what it is, while nobody else changes it."""
        self._array = self.fitting(to(self._array))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._array.shape

    @property
    def dtype(self) -> str:
        """The name of its dtype."""
        return self._array.dtype.name

    # ---- what all have -----------------------------------------------------------------------------------------------

    def fitting(self, value: object) -> np.ndarray:
        """Return ``value`` as an array of its shape and dtype; TypeError or ValueError where it is not."""
        array = np.asarray(unmasked(f"the value of {self.path!r}", value))
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{self.path!r} takes numbers; got {type(value).__name__} of dtype {array.dtype}.")
        if array.shape != self.shape:
            raise ValueError(
                f"The shape of the target variable and the shape of the target value in `variable.assign(value)` must "
                f"match: {self.path!r} has shape {self.shape}; got {array.shape}."
            )
        return np.array(array, self.dtype)

    def assign(self, value: object) -> np.ndarray:
        """Set it.

        Parameters
        ----------
        value : array
            Numbers of its shape.

        Returns
        -------
        array
            What it is now.

        Raises
        ------
        TypeError, ValueError
            For what holds no numbers, and for another shape; then it is what it was.
        """
        array = self.fitting(value)
        self.change(lambda now: array)
        return array

    def assign_add(self, value: ArrayLike) -> np.ndarray:
        """Add to it.

        Parameters
        ----------
        value : array
            Numbers of its shape, or of one that NumPy takes for it.

        Returns
        -------
        array
            What it is now.
        """
        return self._replace(lambda now: now + np.asarray(value))

    def assign_sub(self, value: ArrayLike) -> np.ndarray:
        """Subtract from it.

        Parameters
        ----------
        value : array
            Numbers of its shape, or of one that NumPy takes for it.

        Returns
        -------
        array
            What it is now.
        """
        return self._replace(lambda now: now - np.asarray(value))

    def _replace(self, to: Change) -> np.ndarray:
        found: list[np.ndarray] = []

        def put(now: np.ndarray) -> np.ndarray:
            found.append(self.fitting(to(now)))
            return found[0]

        self.change(put)
        return found[0]

    @property
    def value(self) -> np.ndarray:
        """A copy of its values."""
        return self.numpy()

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of its elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(out, Variable) for out in kwargs.get("out", ())):
            del kwargs["out"]  # `v += 1` makes an array of v; what is to stay a variable is assigned
        return getattr(ufunc, method)(*(v.numpy() if isinstance(v, Variable) else v for v in inputs), **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self.numpy()[key]

    def __len__(self) -> int:
        return len(self.numpy())

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __hash__(self) -> int:
        return id(self)  # == compares values, element by element

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}, value={self.numpy()}>"


@dataclass(frozen=True)
class Symbol:
    """What goes into a layer or comes out of it, before there is data: its shape, the batch first, and its dtype."""

    shape: tuple[int | None, ...]
    dtype: str
    name: str
