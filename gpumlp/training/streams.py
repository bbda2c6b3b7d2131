"""Where an epoch's batches come from: arrays that are all there, or what a person's code gives, batch by batch.

Both give `Stretch`es: some batches in a row, as one small Dataset, so that a Program runs them as it runs an epoch's.
How many batches come at a time is a matter of speed, and changes no bit.

What reads batches is the caller's own thread, as in Keras: a generator may hold what belongs to one thread, draw from
`numpy.random`, raise, and be interrupted. It reads ahead while another thread trains (`gate.apart`), within the epoch
alone, as callbacks may change what comes after it. Where the code of a batch uses a model, the steps before that batch
are done first (`gate.settling`): it finds the weights that it would find if nothing was read ahead.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Any, NamedTuple

import numpy as np

from gpumlp import gate, random
from gpumlp.backends.runtime import Array, Rows
from gpumlp.engine.feed import Dataset, passes
from gpumlp.errors import caller_level
from gpumlp.layers import whole_number
from gpumlp.maps import check_there
from gpumlp.saving.text import a_dict
from gpumlp.training import randoms
from gpumlp.training.data import Batches, library

AHEAD_BYTES = 64 << 20  # of batches that are read and not yet used
ORDER_BYTES = 16 << 20  # of the orders of several epochs that come as one
READ_SECONDS = 0.0005  # for which more batches are collected although nothing is computed meanwhile
PEEKED = 2  # batches that Keras takes from a generator to know their shapes, and gives again at each new start

Convert = Callable[[object, int], Dataset]  # from what was given, and its number from 1 on
CatchUp = Callable[[], None] | None


class Stretch(NamedTuple):
    """Batches ``first`` to ``last`` - 1 of ``data`` in ``order``, of ``batch`` samples each: as a `Task` begins.

    They may be those of several `gpumlp.engine.feed.passes`, an epoch's each.
    """

    data: Dataset
    order: Rows | None
    batch: int
    first: int
    last: int

    @property
    def steps(self) -> int:
        """How many batches."""
        return self.last - self.first

    def by_epoch(self) -> list[Stretch]:
        """Return it cut where an epoch ends."""
        cut = passes(len(self.data), self.order, self.batch, self.first, self.last)
        return [Stretch(self.data, order, self.batch, first, last) for order, first, last in cut]


class Source:
    """The batches of one epoch after the other.

    ``sample`` is like all data that come; ``batch`` how many samples a batch has, as far as is known; ``steps`` how
    many batches an epoch has, None where its end is not known. ``given`` counts the epoch's batches so far. ``reads``:
    whether batches have to be read, which can be done ahead; ``samples``: how many an epoch then has, 0 if unknown.
    """

    reads: bool = False
    sample: Dataset | None = None
    batch, given, samples = 0, 0, 0
    steps: int | None = None
    orders_itself = ""  # what has an order of its own, of which nothing can be written down

    @property
    def over(self) -> bool:
        """Whether the epoch's batches are all given."""
        raise NotImplementedError

    def epochs_in(self, steps: int) -> int:
        """Return how many epochs, of so many steps in all, can be had as one, with `begin_epochs`; one at least."""
        return 1

    def begin_epochs(self, count: int) -> None:
        """Begin so many epochs, the batches of which come as those of one."""
        assert count == 1
        self.begin_epoch()

    def begin_epoch(self, anew: bool = False) -> None:
        """Begin an epoch; ``anew``: with the first batch, whatever the last one left."""
        raise NotImplementedError

    def take(self, most: int, worth: int = 1, catch_up: CatchUp = None) -> Stretch | None:
        """Return the next batches, ``most`` at most; None at the epoch's end.

        Fewer than are ``worth`` the trouble come where reading takes long. ``catch_up()`` does the steps of all
        batches before the one that is read.
        """
        raise NotImplementedError

    def ready(self, most: int) -> Stretch | None:
        """Return what can be had without reading; None where that is nothing."""
        return None

    def read_ahead(self, most: int, until: Callable[[], bool], catch_up: CatchUp = None) -> None:
        """Have up to ``most`` batches ready, unless ``until`` says that there is no more time."""

    def end_epoch(self) -> None:
        """End the epoch."""

    def position(self) -> dict[str, object]:
        """Return where the batches are, for `going_on_from`: between two epochs, or where nothing is read ahead."""
        raise NotImplementedError

    def going_on_from(self, position: Mapping[str, Any], what: str) -> Callable[[], None]:
        """Return what has the batches be where `position` was; ValueError, naming ``what``, where it is of others."""
        raise NotImplementedError


class Held(Source):
    """Batches of arrays that are all there."""

    def __init__(self, data: Dataset, batches: Batches) -> None:
        self.sample, self.batch, self.steps, self._batches = data, batches.batch_size, batches.steps, batches
        self._order: Rows | None = None
        self._next = self._last = 0

    @property
    def over(self) -> bool:
        return self._next == self._last

    def epochs_in(self, steps: int) -> int:
        batches = self._batches
        if batches.steps != batches.total or batches.within:
            return 1
        return max(1, min(steps // batches.total, ORDER_BYTES // (8 * batches.n)))

    def begin_epochs(self, count: int) -> None:
        self.begin_epoch()
        orders = [self._order, *(self._batches.epoch()[0] for _ in range(1, count))]
        if count > 1 and self._order is not None:
            self._order = np.concatenate([order for order in orders if order is not None])
        self._last *= count

    def begin_epoch(self, anew: bool = False) -> None:
        if anew:
            self._batches.start_anew()
        self._order, self._next, self._last = self._batches.epoch()
        self.given = 0

    def take(self, most: int, worth: int = 1, catch_up: CatchUp = None) -> Stretch | None:
        if self.over:
            return None
        assert self.sample is not None
        for array in self.sample.arrays:
            check_there(array)
        first, stop = self._next, min(self._next + most, self._last)
        self.given += stop - first  # before it is over: a handler that raises in between leaves steps that lack
        self._next = stop
        return Stretch(self.sample, self._order, self.batch, first, stop)

    def position(self) -> dict[str, object]:
        within = {"next": self._next, "last": self._last, "given": self.given}
        return self._batches.position() | within

    def going_on_from(self, position: Mapping[str, Any], what: str) -> Callable[[], None]:
        begin = self._batches.going_on_from(position, what)
        start, last, given = (position.get(name, -1) for name in ("next", "last", "given"))
        if not all(type(v) is int for v in (start, last, given)) or not 0 <= start <= last <= self._batches.total:
            raise ValueError(f"{what} must have the batches of an epoch, at most {self._batches.total}; got {start!r}.")

        def put() -> None:
            begin()
            self._order, self._next, self._last, self.given = self._batches.order, start, last, given

        return put


class Stream(Source):
    """Batches that a generator, or another iterable, or a `PyDataset` gives.

    An iterator goes on where it was, and is read once; of anything else a new one is begun for each epoch, or, where
    ``steps`` says how many batches an epoch has, when the last one has ended. Whatever has no length and ends is told
    about, as in Keras.

    Parameters
    ----------
    given : iterable
    steps : int or None
        Batches of an epoch; as many as there are when None.
    shuffle : bool
        Whether a PyDataset's batches come in another order in each epoch; nothing else has an order to change.
    convert : callable
        Makes of what was given, and its number, a Dataset; raises where it does not fit.
    """

    reads = True

    def __init__(self, given: Any, steps: int | None, shuffle: bool, convert: Convert, name: str = "x") -> None:
        self._source, self._name, self._convert = given, name, convert
        self._asked = None if steps is None else whole_number("steps", steps)
        self._numbered = all(hasattr(given, has) for has in ("__getitem__", "on_epoch_begin", "on_epoch_end"))
        self._once = not self._numbered and hasattr(given, "__next__")
        self._shuffle, self._random = shuffle, random.current()
        self._shuffles: np.random.Generator | None = None
        self._head: list[Dataset] = []
        self._rest = _Counted(())
        self._pass: list[int] | range | None = None  # the numbers of a PyDataset's batches, in their order
        self._stateful = all(callable(getattr(given, has, None)) for has in ("get_state", "set_state"))
        self._began: dict[str, Any] | None = None  # what an iterable's order may depend on, when its pass began
        self.steps = self._asked or self._length()
        self._iterator: Iterator[object] | None = None
        self._total: int | None = None  # batches that this iterator has
        self._read = 0  # of them so far
        self._left: int | None = 0  # batches that the epoch still has; None: nobody knows
        self._ready: deque[tuple[Dataset, int]] = deque()  # each with the size of which it is a batch, or a part
        self._last = 0  # the size of the batch before
        self._short = False
        self._error: BaseException | None = None

    # ---- the source ------------------------------------------------------------------------------------------------

    def _length(self) -> int | None:
        """Return how many batches there are from start to end; None where that is not said, or without end."""
        if self._once:
            return None
        if self._numbered and hasattr(self._source, "num_batches"):
            return self._source.num_batches
        try:
            return len(self._source)
        except TypeError:
            return None

    def peek(self) -> None:
        """Read the first batch, of a generator the first two, and have them come again; ValueError where none is there.

        A PyDataset, which may give another one by then, is asked again.
        """
        if self._numbered:
            self._source.on_epoch_begin()
            found = [self._own(self._source[0], 1)] if self._length() != 0 else []
            self._source.on_epoch_end()
        else:
            self._note()
            rest = _Counted(self._source)
            batches = islice(rest, PEEKED if self._once else 1)
            found = [self._own(batch, number) for number, batch in enumerate(batches, 1)]
            self._head, self._rest = found, rest
        if not found:
            raise ValueError(f"{self._name} must give at least one batch; it gave none.")
        self._check(found[0], 1)  # a validation's are of the kind of those that are trained on
        self.sample, self.batch = found[0], max(map(len, found))

    def _start(self) -> Iterator[object]:
        """Return an iterator over all batches; those that are read already are Datasets."""
        if self._numbered:
            self._pass = None if self._total is None else self._order(self._total)
            return self._numbers(0)
        if self._once and not self._head:
            self.peek()
        if self._head:
            found = chain(self._head, self._rest)
            if not self._once:
                self._head, self._rest = [], _Counted(())
            return found
        self._note()
        return iter(self._source)

    def _note(self) -> None:
        """Take note of what the order of a pass that begins now may depend on."""
        if not self._once:
            self._began = {"random": randoms.states(), "state": self._state()}

    def _state(self) -> object:
        """Return the state that the data say they have."""
        return copy.deepcopy(self._source.get_state()) if self._stateful else None

    @property
    def orders_itself(self) -> str:  # type: ignore[override]
        """The name of a PyDataset's class that does something between epochs, and has no `get_state`."""
        kind, hooks = type(self._source), ("on_epoch_begin", "on_epoch_end")
        if not self._numbered or self._stateful:
            return ""
        definers = [next((c for c in kind.__mro__ if hook in vars(c)), kind) for hook in hooks]
        return kind.__name__ if any(c.__module__.partition(".")[0] not in ("gpumlp", "keras") for c in definers) else ""

    def _numbers(self, first: int) -> Iterator[object]:
        """Return a PyDataset's batches from the one on that comes as number ``first``."""
        return (self._source[i] for i in (count(first) if self._pass is None else self._pass[first:]))

    def _order(self, length: int) -> list[int] | range:
        if not self._shuffle:
            return range(length)
        if self._shuffles is None:
            self._shuffles = np.random.default_rng(self._random.generator().integers(2**63))
        return self._shuffles.permutation(length).tolist()

    def _own(self, batch: object, number: int) -> Dataset:
        """Return a batch in memory of its own: a generator may fill the same arrays again."""
        return self._convert(batch, number).each(lambda array: array.copy())

    # ---- an epoch --------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._left == 0 and not self._ready and self._error is None

    def begin_epoch(self, anew: bool = False) -> None:
        if self._numbered:
            self._source.on_epoch_begin()
        if self._iterator is None or anew or self._asked is None:
            self._total = self._length()
            self._iterator, self._read = self._start(), 0
        self._left, self._short = self._asked, False
        if self._total is not None:
            rest = max(self._total - self._read, 0)
            self._left = rest if self._asked is None else min(rest, self._asked)
            self._short = self._asked is not None and rest < self._asked
        self._ready.clear()
        self._error, self.given = None, 0

    def end_epoch(self) -> None:
        if self._error is not None and not isinstance(self._error, Exception):  # Ctrl-C, where a callback ends all
            raise self._error
        if self._total is not None and self._read >= self._total:
            self._iterator = None
        if self._numbered:
            self._source.on_epoch_end()

    def position(self) -> dict[str, object]:
        began = self._began if self._iterator is not None and not self._numbered else None
        return {
            "state": self._state(),
            "began": began and {"random": randoms.packed(began["random"]), "state": began["state"]},
            "read": None if self._iterator is None else self._read, "drawn": self._rest.count, "left": self._left,
            "short": self._short, "given": self.given, "pass": None if self._pass is None else list(self._pass),
            "shuffles": None if self._shuffles is None else dict(self._shuffles.bit_generator.state),
        }  # fmt: skip

    def going_on_from(self, position: Mapping[str, Any], what: str) -> Callable[[], None]:
        numbers = {name: position.get(name) for name in ("read", "drawn", "left", "given")}
        if not all(v is None or (type(v) is int and v >= 0) for v in numbers.values()):
            raise ValueError(f"{what} must have numbers of batches; got {numbers}.")
        shuffles, order = random.generator_in(position.get("shuffles")), position.get("pass")
        total, began = self._length(), position.get("began")
        if began is not None:
            began = a_dict(began, f"What is 'began' in {what}")
            began = {**began, "random": randoms.unpacked(began.get("random"), what)}
        if self._stateful and position.get("state") is None:
            raise ValueError(f"{what} is of a fit on data without a state; {self._name} has get_state.")
        if order is not None and (not self._numbered or sorted(order) != list(range(total or 0))):
            raise ValueError(f"{what} is of a fit on other batches: their order has {len(order)} numbers.")

        def put() -> None:
            with randoms.drawn_from(began and began["random"]):
                self._skip(numbers["read"], numbers["drawn"] or 0, order, began, position.get("state"))
            self._left, self.given, self._short = numbers["left"], numbers["given"] or 0, bool(position.get("short"))
            self._shuffles = shuffles  # behind what a new pass has drawn

        return put

    def _skip(self, read: int | None, drawn: int, order: list[int] | None, began: Any, state: Any) -> None:
        """Read what has been read already, and leave it out; data that have a state are given that."""
        self._total, self._iterator, self._read = self._length(), None, read or 0
        if self._once:
            if drawn and not self._head:  # of a validation, which is not read before its time
                self.peek()
            while self._rest.count < drawn and not self._stateful and next(self._rest, self) is not self:
                pass
            self._rest.count = drawn
        elif not self._numbered:
            self._head, self._rest = [], _Counted(())  # they were of a pass of another order
            if read is not None:
                if self._stateful and began is not None:
                    self._source.set_state(began["state"])
                self._iterator, self._began = iter(self._source), began
                deque(islice(self._iterator, read), 0)
        if self._stateful:
            self._source.set_state(state)
        if read is not None and self._numbered:
            self._pass = order
            self._iterator = self._numbers(read)
        elif read is not None and self._once:
            self._iterator = chain(self._head[read:], self._rest)

    def take(self, most: int, worth: int = 1, catch_up: CatchUp = None) -> Stretch | None:
        until = time.perf_counter() + READ_SECONDS
        if self._ready or self._read_one(catch_up):
            self.read_ahead(worth, lambda: time.perf_counter() > until, catch_up)
        if self._ready:
            return self.ready(most)
        if self._error is not None:
            error, self._error, self._left = self._error, None, None
            raise error
        if self._short:
            self._short = False
            warnings.warn(
                "Your input ran out of data; interrupting training. Make sure that your dataset or generator can "
                "generate at least `steps_per_epoch * epochs` batches.",
                stacklevel=caller_level(),
            )
        return None

    def ready(self, most: int) -> Stretch | None:
        if not self._ready:
            return None
        most = 1 << min(most, len(self._ready)).bit_length() - 1  # in few lengths: a GPU's Program records each
        data, batch = self._ready[0]
        parts: list[Dataset] = []
        for found, size in islice(self._ready, most):
            if size != batch or not _alike(found, data):
                break
            parts.append(found)
            if len(found) < batch:
                break  # as an epoch's last batch: a Dataset's others are of one size
        self.given += len(parts)  # before they are gone, as in `Held`
        for _ in parts:
            self._ready.popleft()
        return Stretch(_joined(parts), None, batch, 0, len(parts))

    def read_ahead(self, most: int, until: Callable[[], bool], catch_up: CatchUp = None) -> None:
        while len(self._ready) < most and not until() and self._bytes() < AHEAD_BYTES and self._read_one(catch_up):
            pass

    def _bytes(self) -> int:
        return len(self._ready) and len(self._ready) * sum(a.nbytes for a in self._ready[-1][0].arrays)

    def _read_one(self, catch_up: CatchUp) -> bool:
        """Read a batch, if the epoch has one. What the source raises comes out when the batches before are used."""
        if self._left == 0 or self._error is not None:
            return False
        assert self._iterator is not None
        before = gate.settling(catch_up)
        try:
            batch = next(self._iterator)
            gate.settling(before)
            number = self._read + 1
            data = batch if isinstance(batch, Dataset) else self._own(batch, number)
            self._check(data, number)
        except StopIteration:
            gate.settling(before)
            self._left, self._short, self._iterator = 0, True, None
            return False
        except BaseException as error:
            gate.settling(before)  # a handler's comes anywhere: the steps that are next are nobody else's to do
            self._error, self._iterator = error, None
            return False
        if len(data) > self.batch or len(data) == self._last:
            self.batch = len(data)  # by what came before alone: so it does not depend on how far was read
        self._last = len(data)
        self._ready.append((data, self.batch))
        self._read, self._left = number, None if self._left is None else self._left - 1
        return True

    def _check(self, data: Dataset, number: int) -> None:
        """Raise ValueError where targets are of another width than those that the loss was looked up for."""
        if data.y is None or self.sample is None or self.sample.y is None:
            return
        if (width := data.y.shape[1]) != (expected := self.sample.y.shape[1]):
            raise ValueError(
                f"{self._name}: y of batch {number} has {width} numbers a sample, where {expected} came first."
            )


class Reader(Source):
    """The batches of a source for one of several that evaluate on them, one after the other.

    They are read once, by the first, and kept until one of them begins anew.
    """

    def __init__(self, kept: _Kept) -> None:
        self._kept, source, self._passes = kept, kept.source, 0
        self.reads, self.sample, self.batch, self.steps = source.reads, source.sample, source.batch, source.steps

    def begin_epoch(self, anew: bool = False) -> None:
        kept = self._kept
        self._passes, self._at, self._first, self._reading = self._passes + 1, 0, 0, False
        if self._passes > kept.passes:
            kept.passes = self._passes
            kept.stretches.clear()
            kept.source.begin_epoch(anew)
        self.batch = kept.source.batch

    def take(self, most: int, worth: int = 1, catch_up: CatchUp = None) -> Stretch | None:
        kept = self._kept.stretches
        if self._at == len(kept):
            self._reading = True
            found = self._kept.source.take(most, worth, catch_up)
            if found is None:
                return None
            kept.append(found)
        whole = kept[self._at]
        first = whole.first + self._first
        found = whole._replace(first=first, last=min(first + most, whole.last))
        self._first += found.steps
        if found.last == whole.last:
            self._at, self._first = self._at + 1, 0
        return found

    def read_ahead(self, most: int, until: Callable[[], bool], catch_up: CatchUp = None) -> None:
        if self._at == len(self._kept.stretches):
            self._kept.source.read_ahead(most, until, catch_up)

    def end_epoch(self) -> None:
        if self._reading:
            self._kept.source.end_epoch()

    def all_read(self) -> Dataset:
        """Return all batches of the last pass as one Dataset."""
        return _joined([_rows(s.data, slice(s.first * s.batch, s.last * s.batch)) for s in self._kept.stretches])


@dataclass
class _Kept:
    """What was read of a source in so many passes; of the last one."""

    source: Source
    stretches: list[Stretch] = field(default_factory=list)
    passes: int = 0


def readers(source: Source, count: int) -> list[Reader]:
    """Return a reader of ``source`` for each of so many."""
    kept = _Kept(source)
    return [Reader(kept) for _ in range(count)]


class _Counted:
    """An iterator over what another one gives, that counts."""

    def __init__(self, given: Iterable[object]) -> None:
        self._given, self.count = iter(given), 0

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        found = next(self._given)
        self.count += 1
        return found


def _alike(one: Dataset, other: Dataset) -> bool:
    """Whether two batches can be one Dataset."""
    return (one.weights is None) == (other.weights is None) and type(one.x) is type(other.x)


def _rows(data: Dataset, part: slice[int, int, None]) -> Dataset:
    return data.each(lambda array: array[part])


def _joined(parts: list[Dataset]) -> Dataset:
    return Dataset(*map(joined, zip(*(part.arrays for part in parts), strict=True)))


def joined(arrays: Sequence[Array]) -> Array:
    """Return one array of all rows, where the first one is; a single array as it is."""
    if len(arrays) == 1:
        return arrays[0]
    xp, rows = library(arrays[0]), sum(map(len, arrays))
    found: Array = xp.concatenate(arrays, out=xp.empty_like(arrays[0], shape=(rows, *arrays[0].shape[1:])))
    return found
