"""All parameters of a model in one flat buffer, and every state array of the same layout beside it.

Weights stand in Keras's order (layer by layer, kernel then bias). Each starts at a multiple of 64 bytes, so that
vector loads are aligned; the gaps hold zeros, whose gradients are zero, so every optimizer leaves them zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpumlp.backends.numpy_backend import ALIGNMENT, NumpyBackend
from gpumlp.layers import WeightSpec


class Arena:
    """The layout of weights in a flat array, the parameters themselves, and room for more arrays of that layout.

    The arrays are a backend's: they live where it computes. `get` and `set` speak the host's NumPy.
    """

    def __init__(self, specs: list[WeightSpec], dtype: np.dtype, backend: Any = None) -> None:
        self.specs, self.dtype, self.backend = specs, dtype, backend or NumpyBackend()
        step = ALIGNMENT // dtype.itemsize
        self.offsets: list[int] = []
        self.size = 0
        for spec in specs:
            self.offsets.append(self.size)
            self.size += -(-math.prod(spec.shape) // step) * step
        self.version = 0  # counts the times that the weights were set or trained
        self.params = self.zeros()
        self.weights = self.views(self.params)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "weights"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.weights = self.views(self.params)  # views that were copied would be arrays of their own

    def zeros(self) -> Any:
        """Return a new flat array of this layout, of zeros."""
        return self.backend.zeros(self.size, self.dtype)

    def views(self, flat: Any) -> list[Any]:
        """Return one view into ``flat`` per weight array, in order."""
        return [
            flat[start : start + math.prod(spec.shape)].reshape(spec.shape)
            for start, spec in zip(self.offsets, self.specs, strict=True)
        ]

    def get(self) -> list[np.ndarray]:
        """Return copies of the weight arrays, in one transfer."""
        return self.views(self.backend.to_host(self.params))

    def set(self, arrays: Sequence[Any]) -> None:
        """Set all weight arrays, in one transfer; their shapes must be the specs'."""
        self.version += 1
        on_host = type(self.params) is np.ndarray
        flat = self.params if on_host else np.zeros(self.size, self.dtype)
        for view, array in zip(self.views(flat), arrays, strict=True):
            view[...] = array
        if not on_host:
            self.backend.assign(self.params, flat)

    def spans(self, trainable: list[bool]) -> list[slice]:
        """Return the stretches of the flat array that hold trainable weights: the whole of it where all are."""
        spans: list[slice] = []
        for i, (start, wanted) in enumerate(zip(self.offsets, trainable, strict=True)):
            stop = self.offsets[i + 1] if i + 1 < len(self.offsets) else self.size
            if wanted and spans and spans[-1].stop == start:
                spans[-1] = slice(spans[-1].start, stop)
            elif wanted:
                spans.append(slice(start, stop))
        return spans
