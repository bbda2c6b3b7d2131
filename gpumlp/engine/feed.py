"""How samples reach the place where a backend computes: as they are, resident on the device, or streamed to it.

A data set that fits stays on the device from its first step on, and batches are gathered there. One that does not is
gathered batch by batch on the host, some batches at a time, into page-locked memory, and copied beside the kernels that
still work on the batches before: two stages, used in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np

from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Array, Rows
from gpumlp.errors import DeviceMemoryError

STAGE_BYTES = 64 << 20  # of a streamed stage: long enough that its copy's start-up costs nothing beside it
RESIDENT_SHARE = 0.75  # of the free memory that a resident data set may take


@dataclass
class Dataset:
    """Arrays as a Program takes them: x[n, F], y[n, O] (or [n, 1] labels), weights[n] or None, of the model's dtype."""

    x: Array
    y: Array | None = None
    weights: Array | None = None
    resident: Dataset | None = field(default=None, repr=False, kw_only=True)  # the same on the device, once it is there
    streamed: bool = field(default=False, kw_only=True)  # whether the device had no room for it: decided once

    def __len__(self) -> int:
        return len(self.x)

    @property
    def arrays(self) -> list[Array]:
        """The arrays that there are."""
        return [a for a in (self.x, self.y, self.weights) if a is not None]

    def each(self, to: Callable[[Array], Array]) -> Dataset:
        """Return a Dataset of what ``to`` makes of each array."""
        x = to(self.x)
        y, weights = (None if a is None else to(a) for a in (self.y, self.weights))
        return Dataset(x, y, weights)


def passes(samples: int, order: Rows | None, batch: int, first: int, last: int) -> list[tuple[Rows | None, int, int]]:
    """Return batches ``first`` to ``last`` - 1 of ``samples``, cut where a pass over these ends.

    What comes behind the last batch is the first one of the next pass: ``order`` has the rows of all passes, one after
    the other. Of each pass there is its own order, with its first batch, and one more than the last.
    """
    batches = -(-samples // batch)
    found = []
    for k in range(first // batches, -(-last // batches)):
        own = None if order is None else order[k * samples : (k + 1) * samples]
        found.append((own, max(first - k * batches, 0), min(last - k * batches, batches)))
    return found


@dataclass
class Part:
    """``steps`` batches where the backend computes: batches ``first`` on of ``data`` in ``order`` (None: as is).

    They may be those of several `passes`.
    """

    data: Dataset
    order: Rows | None
    first: int
    steps: int


@dataclass
class _Stage:
    """One of the two places through which a stream goes, with the marks of its last copy and its last use."""

    pinned: list[Array]
    device: list[Array]
    copied: list[object] = field(default_factory=list)
    used: object = None


class Feed:
    """The samples of one Program."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._runtime = backend, backend.runtime
        self._order: tuple[Rows, Rows] | None = None
        self._stages: list[_Stage] = []

    def parts(
        self, data: Dataset, order: Rows | None, batch: int, first: int, last: int
    ) -> Generator[Part, None, None]:
        """Yield batches ``first`` to ``last`` - 1 in parts; work on one part must be launched before the next.

        They may be those of several `passes`, which a part of a resident data set has as they are.
        """
        if self._runtime is None:
            yield Part(data, order, first, last - first)
        elif self._make_resident(data):
            assert data.resident is not None
            yield Part(data.resident, self._on_device(order), first, last - first)
        else:
            for own, start, stop in passes(len(data), order, batch, first, last):
                yield from self._stream(data, own, batch, start, stop)

    def part_steps(self, data: Dataset, batch: int, first: int, last: int) -> list[int]:
        """Return how many steps each part will have."""
        if self.is_resident(data):
            return [last - first]
        steps = self._stage_steps(data, batch, first, last)
        return [min(steps, last - start) for start in range(first, last, steps)]

    def is_resident(self, data: Dataset) -> bool:
        """Whether ``data`` is where the backend computes, or can be brought there as a whole."""
        return self._runtime is None or self._make_resident(data)

    def _stage_steps(self, data: Dataset, batch: int, first: int, last: int) -> int:
        row = sum(a.nbytes for a in data.arrays) // len(data)
        return min(last - first, max(1, STAGE_BYTES // (batch * row)))

    def is_foreign(self, array: Array) -> bool:
        """Whether ``array`` is not where the backend computes."""
        return self._runtime is not None and not self._runtime.owns(array)

    def _make_resident(self, data: Dataset) -> bool:
        if data.resident is not None or data.streamed:
            return not data.streamed
        missing = [a for a in data.arrays if not self._runtime.owns(a)]  # type: ignore[union-attr]
        needed = sum(a.nbytes for a in missing) + 8 * len(data)  # and its order
        data.streamed = bool(missing) and needed > RESIDENT_SHARE * self._runtime.free_bytes()  # type: ignore[union-attr]
        if not data.streamed:
            try:
                data.resident = data.each(self._backend.to_device)
            except DeviceMemoryError:  # free memory may be in pieces
                data.streamed = True
        return not data.streamed

    def _on_device(self, order: Rows | None) -> Rows | None:
        if order is None:
            return None
        host, device = self._order or (None, None)
        if device is None or device.shape != order.shape:
            device = self._backend.empty(order.shape, np.int64)
        if host is not order:
            self._backend.assign(device, order)
        self._order = (order, device)
        return device

    def _stream(self, data: Dataset, order: Rows | None, batch: int, first: int, last: int) -> Iterator[Part]:
        runtime = self._runtime
        assert runtime is not None
        arrays: list[Array] = [self._backend.to_host(a) if runtime.owns(a) else a for a in data.arrays]
        data = Dataset(*arrays)
        steps = self._stage_steps(data, batch, first, last)
        self._make_stages(data, min(steps * batch, len(data)))
        starts = range(first, last, steps)

        def load(i: int) -> None:
            stage, start = self._stages[i % 2], starts[i] * batch
            stop = min(start + min(steps, last - starts[i]) * batch, len(data))
            for mark in stage.copied:
                runtime.reached(mark)  # what was pinned has left
            stage.copied = []
            for array, pinned, device in zip(data.arrays, stage.pinned, stage.device, strict=True):
                pinned, device = pinned[: stop - start], device[: stop - start]
                if order is None:
                    pinned[...] = array[start:stop]
                else:
                    np.take(array, order[start:stop], axis=0, out=pinned, mode="clip")
                stage.copied.append(runtime.upload_beside(device, pinned, stage.used))

        try:
            load(0)
            for i, start in enumerate(starts):
                stage, count = self._stages[i % 2], min(steps, last - start)
                rows = min((start + count) * batch, len(data)) - start * batch
                for mark in stage.copied:
                    runtime.wait_for(mark)
                yield Part(Dataset(*(a[:rows] for a in stage.device)), None, 0, count)
                stage.used = runtime.mark()
                if i + 1 < len(starts):
                    load(i + 1)  # while the device works on what was just launched
        finally:  # also where the steps failed: nothing may be on its way into memory that is used for something else
            for stage in self._stages:
                for mark in stage.copied:
                    runtime.reached(mark)
                stage.copied, stage.used = [], runtime.mark()

    def _make_stages(self, data: Dataset, rows: int) -> None:
        shapes = [(rows, *a.shape[1:]) for a in data.arrays]
        if (
            self._stages
            and len(self._stages[0].pinned) == len(shapes)
            and all(
                held.shape[0] >= shape[0] and held.shape[1:] == shape[1:]
                for held, shape in zip(self._stages[0].pinned, shapes, strict=True)
            )
        ):
            return
        self._runtime.synchronize()  # type: ignore[union-attr]
        make, kind = self._runtime, data.x.dtype
        self._stages = [
            _Stage([make.pinned(s, kind) for s in shapes], [make.empty(s, kind) for s in shapes])  # type: ignore[union-attr]
            for _ in range(2)
        ]
