"""How ranks begin something together, and what becomes of all when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from gpumlp.distributed.communicator import Communicator

Found = TypeVar("Found")


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
        for name in [*first, *other]:
            if (here := other.get(name)) != (there := first.get(name)):
                raise ValueError(
                    f"All ranks must {what} alike: {name} is {here} on rank {rank}, and {there} on rank 0. "
                    "Have all ranks make the same calls, in the same order, with all of the data: each batch is cut "
                    "into the ranks' parts for you."
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
    error, found = None, []
    try:
        found.append(work())
    except BaseException as problem:
        error = problem
    told = comm.gather((what, found, "" if error is None else f"{type(error).__name__}: {error}"), f"a call to {what}")
    everybody = cast("list[tuple[str, list[Found], str]]", told)
    for rank, (other, _, _) in enumerate(everybody):
        if other != everybody[0][0]:
            raise RuntimeError(
                f"Rank {rank} of {comm.size} is to {other}, and rank 0 to {everybody[0][0]}: all ranks must make the "
                "same calls, in the same order."
            ) from error
    if error is not None:
        raise error
    for rank, (_, _, why) in enumerate(everybody):
        if why:
            raise RuntimeError(f"Rank {rank} of {comm.size} could not {what}, and so none does. It has {why}")
    return [each[0] for _, each, _ in everybody]


@contextmanager
def failing_together(comm: Communicator | None) -> Iterator[None]:
    """Let out an exception of this rank where all have one; otherwise end all: nobody waits for one that has failed."""
    try:
        yield
    except BaseException as error:
        if comm is not None:
            import traceback

            comm.fail("".join(traceback.format_exception(error)))
        raise
