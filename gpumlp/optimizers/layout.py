"""Where an optimizer's state stands: beside the weights that it is of."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gpumlp.optimizers.stages import Array

if TYPE_CHECKING:
    from gpumlp.optimizers.base import Optimizer


class Updates(Protocol):
    """What updates weights where they are: part of the contract of backends, see `gpumlp.backends.numpy_backend`."""

    def update(
        self,
        optimizer: Optimizer,
        params: Array,
        grads: Array,
        slots: dict[str, Array],
        step: int,
        scalars: Sequence[float] | Array,
    ) -> None: ...


class Layout(Protocol):
    """Where the state of an optimizer stands: `gpumlp.engine.arena.Stretches`, or one rank's `Share` of them."""

    @property
    def backend(self) -> Updates: ...

    offsets: list[int]

    def is_like(self, other: Layout) -> bool:
        """Whether arrays of the other layout are arrays of this one."""

    def full(self, value: float) -> Array: ...

    def get(self, flat: Array | None = None) -> list[np.ndarray]: ...

    def set(self, arrays: Sequence[Array], flat: Array | None = None) -> None: ...


@dataclass
class State:
    """State arrays by name, laid out like the weights, which are those of ``layers``."""

    slots: dict[str, Array]
    layout: Layout
    layers: list[weakref.ref[object]]
