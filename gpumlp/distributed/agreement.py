"""How ranks begin something together, and what becomes of all when one of them fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from gpumlp.distributed.communicator import Communicator

Found = TypeVar("Found")


class _Told(NamedTuple):
    """What a rank says of what it has prepared: what it found, or why it could not."""

    problem: str
    found: object


def agreed(
    comm: Communicator | None,
    what: str,
    prepare: Callable[[], Found],
    described: Callable[[Found], Mapping[str, object]],
) -> Found:
    """Return what ``prepare()`` does, once all ranks have done it, and are found to be about to do the same.

    ``described`` says by name, in short, what must be the same. Where ``prepare`` raises on this rank, that is raised.

    Raises
    ------
    RuntimeError
        Where it has raised on another rank alone; the message has that.
    ValueError
        Where ranks are about to do different things; the message says which.
    """
    if comm is None:
        return prepare()
    own: list[Found] = []

    def tell() -> dict[str, object]:
        own.append(prepare())
        return dict(described(own[0]))

    everybody = _met(comm, what, tell)
    first = everybody[0]
    for rank, other in enumerate(everybody):
        for name in first:
            if first[name] != other.get(name):
                raise ValueError(
                    f"All ranks must {what} alike: {name} is {other.get(name)} on rank {rank}, and {first[name]} on "
                    "rank 0. Have all ranks make the same calls, in the same order, on the same data."
                )
    return own[0]


def by_one(comm: Communicator | None, what: str, work: Callable[[], Found]) -> Found:
    """Return ``work()`` of rank 0, which alone does it, on all ranks, once it is done.

    Raises
    ------
    RuntimeError
        On the others, where it has raised there; the message has that.
    """
    if comm is None:
        return work()
    return _met(comm, what, lambda: work() if comm.rank == 0 else None)[0]  # type: ignore[return-value]


def _met(comm: Communicator, what: str, work: Callable[[], Found]) -> list[Found]:
    """Return ``work()`` of each rank; its exception, where it has raised here, and RuntimeError for another rank's."""
    error: BaseException | None = None
    try:
        told = _Told("", work())
    except BaseException as problem:
        error, told = problem, _Told(f"{type(problem).__name__}: {problem}", None)
    everybody: list[_Told] = [_Told(*each) for each in comm.gather(told)]  # type: ignore[misc]
    if error is not None:
        raise error
    for rank, each in enumerate(everybody):
        if each.problem:
            raise RuntimeError(f"Rank {rank} of {comm.size} could not {what}, and so none does. It has {each.problem}")
    return [each.found for each in everybody]  # type: ignore[misc]


@contextmanager
def failing_together(comm: Communicator | None) -> Iterator[None]:
    """Let out an exception of this rank where all have one; otherwise end all: nobody waits for one that has failed."""
    try:
        yield
    except BaseException as error:
        if comm is not None:
            comm.fail("".join(traceback.format_exception(error)))
        raise
