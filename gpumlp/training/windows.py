"""Batches of data that are read block by block: a few blocks at a time, whose rows are mixed."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from gpumlp import gate, random
from gpumlp.backends.runtime import Array, Rows
from gpumlp.engine.feed import Dataset
from gpumlp.errors import caller_level
from gpumlp.training.blocks import Block, Blocks
from gpumlp.training.data import Batches
from gpumlp.training.streams import CatchUp, Source, Stretch

DRIFT = 0.15  # standard deviations by which windows may differ: from there on two sorted classes are learned worse
SURE = 1000  # rows of a window, from which on chance alone comes nowhere near that


class Window:
    """Some blocks, one after the other in memory, and before them what the window before has left of a batch.

    ``order`` says which row comes when. ``blocks`` are those that are still to be read.
    """

    def __init__(self, blocks: list[int], rows: int, left: Dataset, batch: int, last: bool) -> None:
        def room(array: Array) -> Array:
            made: Array = np.empty((len(array) + rows, *array.shape[1:]), array.dtype)
            made[: len(array)] = array
            return made

        self.blocks, self.batch, self.data = blocks, batch, left.each(room)
        self.head = self.filled = len(left)
        self.order: Rows | None = None
        self.given, self.complete = 0, False  # batches; whether they can be given
        self.batches = -(-len(self.data) // batch) if last else len(self.data) // batch

    def fill(self, block: Dataset) -> None:
        """Put the next block in its place."""
        for array, found in zip(self.data.arrays, block.arrays, strict=True):
            array[self.filled : self.filled + len(block)] = found
        self.filled += len(block)
        self.blocks = self.blocks[1:]

    def rest(self, first: int) -> Dataset:
        """Return the rows that come from number ``first`` on."""
        if self.order is None:
            return self.data.each(lambda array: array[first:])
        rows = self.order[first:]
        return self.data.each(lambda array: array[rows])


class Windows(Source):
    """The batches of `Blocks`: blocks in an order of their own for each pass, so many at a time, with their rows mixed.

    The order is a function of a key, the number of the pass, and the blocks: so a fit can go on anywhere, whatever was
    read ahead. The key is drawn from the stream that is current at the construction, when the first pass begins.
    Batches go on from one window to the next: all but a pass's last one are full.

    Parameters
    ----------
    blocks : Blocks
    batches : Batches
        How many there are in a pass, and in an epoch; in order.
    shuffle : bool
    convert : callable
        Makes a Dataset of a block, and what an error is to begin with.
    """

    reads = True

    def __init__(
        self, blocks: Blocks, batches: Batches, shuffle: bool, convert: Callable[[Block, str], Dataset]
    ) -> None:
        self._blocks, self._batches, self._shuffle, self._convert = blocks, batches, shuffle, convert
        self.batch, self.steps = batches.batch_size, batches.steps
        self.samples = min(batches.n, batches.steps * batches.batch_size)
        self._stream, self._key, self._pass = random.current(), 0, -1
        self._groups: list[list[int]] = []  # of the pass: the blocks of each window
        self._group = self._skip = 0  # of the next window: its number, and how many rows are left out
        self._next = self._last = 0
        self._window: Window | None = None
        self._coming: Window | None = None
        self._looks = shuffle  # at the targets of the windows of the first pass, until it has warned
        self.sample = self._read(0, None).each(np.array)

    # ---- a pass ----------------------------------------------------------------------------------------------------

    def _begin_pass(self, number: int, batch: int = 0) -> None:
        """Begin a pass, with one of its batches."""
        count = len(self._blocks.bounds) - 1
        order = np.random.default_rng([self._key, number]).permutation(count) if self._shuffle else np.arange(count)
        groups = np.array_split(order, -(-count // self._blocks.shuffle_blocks))
        self._groups, self._pass = [group.tolist() for group in groups], number
        self._window = self._coming = None
        self._group, self._skip = 0, batch * self.batch
        while self._group < len(self._groups) and self._skip >= (rows := self._rows(self._groups[self._group])):
            self._group, self._skip = self._group + 1, self._skip - rows

    def _rows(self, blocks: list[int]) -> int:
        bounds = self._blocks.bounds
        return int(sum(bounds[block + 1] - bounds[block] for block in blocks))

    def _read(self, block: int, catch_up: CatchUp) -> Dataset:
        before = gate.settling(catch_up)  # the code of somebody's array may use the model
        try:
            found = self._blocks.read(block)
        finally:
            gate.settling(before)
        return self._convert(found, f"block {block} (its row 0 is row {self._blocks.bounds[block]}): ")

    def _go_on(self, catch_up: CatchUp) -> None:
        """Read a block of the next window, or, where all are there, mix its rows."""
        last = self._group == len(self._groups) - 1
        if (window := self._coming) is None:
            blocks, now = self._groups[self._group], self._window
            assert self.sample is not None
            left = now.rest(now.batches * self.batch) if now else self.sample.each(lambda array: array[:0])
            self._coming = Window(blocks, self._rows(blocks), left, self.batch, last)
        elif window.blocks:
            window.fill(self._read(window.blocks[0], catch_up))
        else:
            if self._shuffle:
                draw = np.random.default_rng([self._key, self._pass, 1 + self._group])
                order = np.arange(len(window.data))
                draw.shuffle(order[window.head :])
                window.order = order
            if self._skip:
                self._coming = window = Window([], 0, window.rest(self._skip), self.batch, last)
            self._group, self._skip = self._group + 1, 0
            window.complete = True

    # ---- an epoch --------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._next == self._last

    def begin_epoch(self, anew: bool = False) -> None:
        if anew:
            self._batches.start_anew()
        _, self._next, self._last = self._batches.epoch()
        if self._next == 0:
            if self._shuffle and self._pass < 0:
                self._key = int(self._stream.generator().integers(2**63))
            self._begin_pass(self._pass + 1)
        self.given = 0

    def take(self, most: int, worth: int = 1, catch_up: CatchUp = None) -> Stretch | None:
        if self.over:
            return None
        while (found := self.ready(most)) is None:
            while self._coming is None or not self._coming.complete:
                self._go_on(catch_up)
            self._window, self._coming = self._coming, None
            self._look(self._window)
        return found

    def _look(self, window: Window) -> None:
        """Warn, once, in the first pass, where the blocks' targets differ so much that mixing a few is too little."""
        self._looks = self._looks and self._pass == 0
        blocks, bounds, y = self._groups[self._group - 1], self._blocks.bounds, window.data.y
        if not self._looks or y is None or not SURE <= self._rows(blocks) == len(y) - window.head:
            return
        drift = _drift(y[window.head :], np.diff(bounds)[blocks], len(bounds) - 1)
        if drift > DRIFT:
            self._looks = False
            warnings.warn(
                f"Each block has targets of its own, as in a sorted file: with {len(blocks)} blocks mixed at a time, "
                f"the mean of what is trained on next is some {drift:.1f} standard deviations beside that of all, and "
                "the model forgets one part of the data over another. Mix more blocks, and smaller ones: "
                "block_size=... and shuffle_blocks=64 of utils.Blocks (row_group_size=... where Parquet is written); "
                "or shuffle the rows once.",
                stacklevel=caller_level(),
            )

    def ready(self, most: int) -> Stretch | None:
        window = self._window
        if window is None or self.over or window.given == window.batches:
            return None
        first = window.given
        last = min(first + most, window.batches, first + self._last - self._next)
        self.given += last - first  # before it is over, as in `Held`
        self._next += last - first
        window.given = last
        return Stretch(window.data, window.order, self.batch, first, last)

    def read_ahead(self, most: int, until: Callable[[], bool], catch_up: CatchUp = None) -> None:
        window = self._window
        if window is None or window.batches - window.given >= self._last - self._next:
            return  # the next one is not this epoch's
        with suppress(Exception):  # it is read again when the batches before are used, and raises then
            while not until() and (self._coming is None or not self._coming.complete):
                self._go_on(catch_up)

    # ---- where it is -----------------------------------------------------------------------------------------------

    @property
    def _made_of(self) -> str:
        """What an order depends on, beside the key and the pass, as text."""
        bounds = self._blocks.bounds
        return f"{self._blocks!r} {zlib.crc32(bounds.tobytes())} {'mixed' if self._shuffle else 'as they stand'}"

    def position(self) -> dict[str, object]:
        within = {"next": self._next, "last": self._last, "given": self.given}
        order = {"key": self._key, "pass": self._pass, "blocks": self._made_of}
        return self._batches.position() | within | order

    def going_on_from(self, position: Mapping[str, Any], what: str) -> Callable[[], None]:
        begin = self._batches.going_on_from(position, what)
        numbers: list[Any] = [position.get(name) for name in ("next", "last", "given", "key", "pass")]
        start, last, given, key, number = numbers
        if not all(type(v) is int for v in numbers) or not 0 <= start <= last <= self._batches.total or key < 0:
            raise ValueError(f"{what} must have the batches of an epoch, at most {self._batches.total}; got {start!r}.")
        if position.get("blocks") != self._made_of:
            raise ValueError(f"{what} is of a fit on {position.get('blocks')}; here they are {self._made_of}.")

        def put() -> None:
            begin()
            self._key = key
            if number >= 0:
                self._begin_pass(number, start)
            self._pass, self._next, self._last, self.given = number, start, last, given

        return put


def _drift(y: Array, sizes: Rows, count: int) -> float:
    """Return how far the mean of some blocks' targets y is expected to lie from that of all ``count`` blocks.

    In standard deviations of the targets, for the column with most; 0 where blocks differ as chance makes them.
    ``sizes`` are the blocks' rows, in their order. It is the deviation of a mean of as many blocks, drawn without
    replacement, from the share of y's variance that is between blocks (eta squared).
    """
    y, rows, mixed = y.reshape(len(y), -1), len(y), len(sizes)
    with np.errstate(all="ignore"):  # a NaN is told of elsewhere
        means = np.add.reduceat(y, np.cumsum(sizes) - sizes, axis=0, dtype=np.float64) / sizes[:, None]
        whole = y.var(axis=0, dtype=np.float64)
        between = sizes @ np.square(means - y.mean(axis=0, dtype=np.float64)) / rows
        share = np.where(whole > 0, between / whole, 0.0).max() - (mixed - 1) / rows
    return math.sqrt(max(0.0, share) / mixed * (1 - mixed / count))
