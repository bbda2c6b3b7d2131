"""Work that an executor's workers do, in pieces: given out, taken back, and what all of it reads sent once to each.

It knows nothing of models. Workers are those of any `concurrent.futures.Executor`: processes, MPI's ranks, Dask's or
Ray's. A piece names its data by a digest, and goes without them; a worker that has not got them says so, and is given
the piece again, with the data along. No more pieces are out than there are workers, so that such an answer comes from
one that has nothing else to do.
"""

from __future__ import annotations

import copy
import functools
import os
import pickle
import platform
import re
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpumlp import config
from gpumlp.backends import team
from gpumlp.errors import caller_level, in_words, warn_once

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

Function = Callable[[list[Any], Any], list[Any]]  # of items and the data: a result of each
PIECES = 2  # for a worker: one that is slow, or late, leaves less to wait for at the end
MOST = 16  # items in a piece: what is lost with a worker
KEPT = 2  # data that a worker keeps: the newest, such as two folds' or two tables'
MAIN = (
    "Workers are new processes, which cannot see it: put classes and functions into a module that they can import, in "
    "place of lambdas and of the __main__ of a notebook or an interactive session."
)
ENGINES = {  # by the beginning of the name of an executor's module
    "concurrent.futures.process": "processes", "concurrent.futures.thread": "threads", "mpi4py.": "MPI",
    "distributed.": "Dask", "loky.": "loky", "joblib.externals.loky.": "loky", __name__: "Ray",
}  # fmt: skip
NUMBER = re.compile(r"\d+")
DEATHS = (
    "A worker has ended without a word: killed (for want of memory?), or by os._exit. If none has ever begun, the "
    'script starts its workers anew in each of them: put what it does under `if __name__ == "__main__":`.'
)

_kept: dict[str, Any] = {}  # by digest, of this process where it is a worker
_alone = threading.Lock()  # held by the one who has the warnings, which are all threads'
_token = os.urandom(8)


class Place(NamedTuple):
    """What a worker computes with, as far as it changes bits or what can be read."""

    gpumlp: str
    python: str
    numpy: str
    host: str


class _Piece(NamedTuple):
    """What travels to a worker, but for the data. ``key``: no engine is to take two for the same."""

    key: str
    work: object  # the function and the items; as bytes, unless it stays in this process
    digest: str
    sender: tuple[str, int, bytes]
    workers: int
    place: Place
    settings: tuple[str, str, str, bool]


class _Answer(NamedTuple):
    """What a worker says: ``results`` None where it has not got the data. ``by``: who it is; None: this process."""

    results: object
    place: Place
    by: object
    warned: tuple[tuple[type[Warning], str], ...] = ()


class Outcome(NamedTuple):
    """What has become of some items, by their numbers: their results, or the error that ended them."""

    numbers: tuple[int, ...]
    results: list[Any]
    error: BaseException | None
    place: Place | None


def run(
    executor: Executor | None, function: Function, items: Sequence[Any], data: tuple[Any, ...],
    take: Callable[[Outcome], None],
) -> int:  # fmt: skip
    """Have workers do ``function(some of items, data)``, and ``take`` what comes, in any order; return how many worked.

    A piece that fails is cut into its items, so that what fails in the end is the items that are to blame. Ctrl-C, or
    what ``take`` raises, cancels what has not begun, and is raised when what is done has been taken. Without an
    executor this thread does the pieces, and what it raises is raised.
    """
    if executor is None:
        for numbers in _cut(len(items), 1):
            take(Outcome(numbers, function([items[k] for k in numbers], data), None, None))
        return 1
    return _Giving(executor, function, items, data, take).all()


class _Giving:
    """Pieces of work that are given to an executor's workers, no more at a time than there are of these."""

    def __init__(
        self, executor: Any, function: Function, items: Sequence[Any], data: tuple[Any, ...],
        take: Callable[[Outcome], None],
    ) -> None:  # fmt: skip
        self._executor, self._function, self._items, self._data, self._take = executor, function, items, data, take
        self._count = workers_of(executor)
        self._pieces = deque(_cut(len(items), self._count))
        self._out: dict[Future[_Answer], tuple[int, ...]] = {}
        # workers to whom data were sent; pieces that were sent twice without
        self._lacking, self._again = set[object](), set[tuple[int, ...]]()
        self._digest, self._pack = digest(data), _packer(executor)
        self._warned: dict[tuple[type[Warning], str], str] = {}

    def all(self) -> int:
        """Have all pieces done, and return by how many workers."""
        from concurrent.futures import FIRST_COMPLETED, wait

        try:
            while self._pieces or self._out:
                while self._pieces and len(self._out) < self._count:
                    self._give(self._pieces.popleft())
                for future in wait(self._out, return_when=FIRST_COMPLETED).done:
                    self._came(future)
        except BaseException:
            self._pieces.clear()
            for future in list(self._out):
                if not future.cancel() and future.done() and not future.exception() and future.result().results:
                    self._came(future)
            raise
        for (kind, _), message in self._warned.items():
            warnings.warn(message, kind, stacklevel=caller_level())
        return self._count

    def _give(self, numbers: tuple[int, ...], along: bool = False) -> None:
        """Give out a piece, with the data ``along`` or by their name alone."""
        try:
            work = self._pack((self._function, [self._items[k] for k in numbers]))
            piece = _Piece(os.urandom(8).hex(), work, self._digest, _sender(), self._count, _place(), config.settings())
            with warnings.catch_warnings():  # Dask would have data sent by its own calls
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                self._out[self._executor.submit(_work, piece, self._data if along else None)] = numbers
        except Exception as error:  # nothing of it can travel, or nobody is there
            self._failed(numbers, error)

    def _failed(self, numbers: tuple[int, ...], error: BaseException) -> None:
        """Have the items of a piece done one by one; tell of one that has failed by itself."""
        if len(numbers) > 1:
            self._pieces.extendleft((k,) for k in reversed(numbers))
        else:
            self._take(Outcome(numbers, [], _explained(error), None))

    def _came(self, future: Future[_Answer]) -> None:
        """Take what has come of a piece."""
        numbers = self._out.pop(future)
        try:
            answer = future.result()
            results: Any = answer.results if answer.results is None else _unpacked(answer.results)
        except Exception as error:  # CancelledError too: Dask's, whose workers are gone
            return self._failed(numbers, error)
        if results is None:
            wait_for_data = answer.by in self._lacking and numbers not in self._again  # which are on their way there
            self._lacking.update(() if answer.by is None else (answer.by,))
            self._again.add(numbers)
            return self._give(numbers, along=not wait_for_data)
        for kind, message in answer.warned:  # of two that differ in a number, such as a layer's, the first one
            self._warned.setdefault((kind, NUMBER.sub("", message)), message)
        self._take(Outcome(numbers, results, None, answer.place))


def executor_of(given: Any) -> Any:
    """Return what pieces can be submitted to; TypeError for anything else."""
    if callable(getattr(given, "submit", None)) and not hasattr(given, "get_executor"):
        if type(given).__module__.startswith("mpi4py."):
            _look_at_ranks(given)
        return given
    if type(given).__module__.startswith("ray.") and hasattr(given, "apply_async"):
        return _of_ray(given)
    instead = "Pass a concurrent.futures.Executor, such as ProcessPoolExecutor(), mpi4py's MPIPoolExecutor or loky's."
    if hasattr(given, "get_executor"):
        instead = "Pass client.get_executor()."
    elif hasattr(given, "apply_async"):
        instead = "Pass a concurrent.futures.ProcessPoolExecutor: this pool waits for ever for a worker that has died."
    raise TypeError(f"executor must have a method submit that returns a Future; got {given!r}. {instead}")


def _look_at_ranks(executor: Any) -> None:
    """Warn where several ranks run the script that the first one of them should run, with the others as its workers.

    mpi4py does not say in public whether they are; where it has other names for it, nothing is said here either.
    """
    from mpi4py import MPI
    from mpi4py.futures import _core

    served = getattr(_core, "SharedPool", executor) is not None or getattr(executor, "_pool", executor) is not None
    if MPI.COMM_WORLD.size > 1 and not served:
        warn_once(
            "ranks",
            f"Each of {MPI.COMM_WORLD.size} MPI ranks runs this script, and does all of the work with workers that it "
            "begins by itself, if it can. To have one rank run it, and the others work for that one: "
            f"mpiexec -n {MPI.COMM_WORLD.size} python -m mpi4py.futures script.py",
        )


def _of_ray(pool: Any) -> Executor:
    """Return Ray's pool, ray.util.multiprocessing.Pool, as an Executor."""
    from concurrent.futures import Executor, Future

    class RayPool(Executor):
        _max_workers = len(pool._actor_pool)

        def submit(self, function: Callable[..., Any], /, *args: Any, **given: Any) -> Future[Any]:
            future: Future[Any] = Future()
            pool.apply_async(function, args, given, future.set_result, future.set_exception)
            return future

    return RayPool()


def workers_of(executor: Any) -> int:
    """Return how many workers an executor has, as far as it says; else as many as there are processors here."""
    client: Any = getattr(executor, "_client", None)  # Dask's, whose workers may come and go
    found = len(client.nthreads()) if hasattr(client, "nthreads") else None
    for name in ("_max_workers", "num_workers"):  # MPI's ranks are known when they have begun
        found = found or getattr(executor, name, None)
    return max(1, found if isinstance(found, int) else team.processors())


def counted(count: int, what: str) -> str:
    """Return how many there are, in words: "1 fold", "2 folds"."""
    return f"{count} {what}{'s' * (count != 1)}"


def engine(executor: Any) -> str:
    """Return whose workers an executor has, in a word."""
    kind = type(executor)
    return next((word for module, word in ENGINES.items() if kind.__module__.startswith(module)), kind.__name__)


def differences(found: Mapping[str, Sequence[int]], what: str) -> None:
    """Warn where items were not all computed alike; ``found``: their numbers, by how they were."""
    if len(found) > 1:
        ways = "; ".join(f"{what} {listed(numbers)} by {how}" for how, numbers in found.items())
        warnings.warn(
            f"Workers compute differently, so that bits depend on who has trained what: {ways}. The same versions on "
            "all machines, and GPUMLP_CPU=avx2 where some have AVX-512, make them the same.",
            stacklevel=caller_level(),
        )


def listed(numbers: Sequence[int]) -> str:
    """Return numbers in words, in order, of many the first ten."""
    listed = [str(k) for k in sorted(numbers)]
    return ", ".join(listed if len(listed) < 12 else [*listed[:10], f"... ({len(listed)} in all)"])


def _cut(count: int, workers: int) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of all items in pieces of about one size, the larger ones first."""
    pieces = max(min(count, PIECES * workers), -(-count // MOST))
    for numbers in np.array_split(np.arange(count), pieces) if count else ():
        yield tuple(numbers.tolist())


# ---- what travels ----------------------------------------------------------------------------------------------------
def digest(data: tuple[Any, ...]) -> str:
    """Return a name for data that no other data have."""
    import hashlib

    buffers: list[pickle.PickleBuffer] = []
    found = hashlib.blake2b(pickle.dumps(data, 5, buffer_callback=buffers.append), digest_size=16)
    for buffer in buffers:
        found.update(buffer.raw())
    return found.hexdigest()


def _packer(executor: Executor) -> Callable[[Any], Any]:
    """Return what makes of work what travels: bytes, so that what cannot be read is told by whom, and in which words.

    Threads are given copies, as what they work on must be there to be trained again. Functions without an importable
    name travel where the engine has brought cloudpickle along, which its workers then have as well.
    """
    from concurrent.futures import ThreadPoolExecutor

    if isinstance(executor, ThreadPoolExecutor):
        return copy.deepcopy
    by_reference = type(executor).__module__.startswith(("concurrent.", "mpi4py."))
    by_value: Any = None if by_reference else sys.modules.get("cloudpickle")
    return functools.partial((by_value or pickle).dumps, protocol=pickle.HIGHEST_PROTOCOL)


def _unpacked(work: Any) -> Any:
    return pickle.loads(work) if isinstance(work, bytes) else work


def _sender() -> tuple[str, int, bytes]:
    return platform.node(), os.getpid(), _token


def _place() -> Place:
    return Place(sys.modules["gpumlp"].__version__, platform.python_version(), np.__version__, platform.node())


def _explained(error: BaseException) -> BaseException:
    """Return the error with what to do about it, where that is known."""
    name, text = type(error).__name__, str(error)
    if "PicklingError" in name or "pickle" in text or "Can't get attribute" in text or "Can't get local" in text:
        error.add_note(MAIN)
    elif any(word in name for word in ("Broken", "Terminated", "KilledWorker", "ActorDied", "RayActorError")):
        error.add_note(DEATHS)
    return error


# ---- in a worker -----------------------------------------------------------------------------------------------------
def _work(piece: _Piece, data: tuple[Any, ...] | None) -> _Answer:
    """Do a piece, if the data are there."""
    place, here = _place(), piece.sender == _sender()
    if place.gpumlp != piece.place.gpumlp:
        raise RuntimeError(
            f"The worker on {place.host} has gpumlp {place.gpumlp}, who asks it has {piece.place.gpumlp}: install the "
            "same version for both."
        )
    if data is None:
        data = _kept.get(piece.digest)
    elif not here:
        _keep(piece.digest, data)
    by = None if here else (place.host, os.getpid())
    if data is None:
        return _Answer(None, place, by)
    if not here:
        team.share(piece.workers)
    with nullcontext() if here else _going_by(piece.settings), _noted(here) as warned:
        results = _results(piece.work, data)
    return _Answer(results, place, by, tuple(warned))


_turn = threading.Condition()
_guests = 0  # pieces that are done by the settings of who asks for them
_own = config.settings()  # this process's, meanwhile


@contextmanager
def _going_by(found: tuple[str, str, str, bool]) -> Iterator[None]:
    """Go by somebody's settings, which are those of all threads: pieces that go by others wait for their turn."""
    global _guests, _own
    with _turn:
        _turn.wait_for(lambda: not _guests or config.settings() == found)
        if not _guests:
            _own = config.settings()
            config.go_by(found)
        _guests += 1
    try:
        yield
    finally:
        with _turn:
            _guests -= 1
            if not _guests:
                config.go_by(_own)
                _turn.notify_all()


def _after_fork() -> None:
    """Take it that no piece is done here: a fork has no other thread of its parent's, but what those had set."""
    global _alone, _turn, _guests
    if _guests:
        config.go_by(_own)
    _alone, _turn, _guests = threading.Lock(), threading.Condition(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _results(work: Any, data: tuple[Any, ...]) -> Any:
    """Return what comes of work, as it travels; what is raised can travel too."""
    if not isinstance(work, bytes):
        function, items = work
        return _without_exit(function, items, data)
    pack: Any = (b"cloudpickle" in work and sys.modules.get("cloudpickle")) or pickle
    try:
        function, items = pickle.loads(work)
        return pack.dumps(_without_exit(function, items, data), protocol=pickle.HIGHEST_PROTOCOL)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        try:  # one that cannot be read would end all of an executor's workers
            travels = type(pickle.loads(pack.dumps(error))) is type(error)
        except Exception:
            travels = False
        if travels:
            raise
        told = RuntimeError(in_words(error))
        told.add_note(f"In the worker it was:\n{''.join(traceback.format_exception(error))}")
        raise told from None


def _without_exit(function: Function, items: list[Any], data: tuple[Any, ...]) -> list[Any]:
    """Return a function's results; SystemExit would end the worker."""
    try:
        return function(items, data)
    except SystemExit as error:
        raise RuntimeError(f"SystemExit({error.code!r}) was raised in a worker.") from error


def _keep(digest: str, data: tuple[Any, ...]) -> None:
    """Have data at hand for the pieces to come, and forget the oldest."""
    _kept[digest] = data
    for old in list(_kept)[:-KEPT]:
        _kept.pop(old, None)


@contextmanager
def _noted(here: bool) -> Iterator[list[tuple[type[Warning], str]]]:
    """Have warnings listed, for the one to see them who has asked; not where he is here, or several threads work."""
    found: list[tuple[type[Warning], str]] = []
    if here or not _alone.acquire(blocking=False):
        yield found
        return
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default", UserWarning)
            yield found
        found += [(w.category, str(w.message)) for w in caught if issubclass(w.category, UserWarning)]
    finally:
        _alone.release()
