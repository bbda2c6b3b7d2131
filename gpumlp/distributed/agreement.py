"""How ranks begin something together, and what becomes of all when one of them fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

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
        Where ranks are about to do different things; the message has which.
    """
    if comm is None:
        return prepare()
    error: BaseException | None = None
    try:
        found = prepare()
        told: object = dict(described(found))
    except BaseException as problem:
        error, told = problem, f"{type(problem).__name__}: {problem}"
    everybody = comm.gather(told)
    if error is not None:
        raise error
    for rank, other in enumerate(everybody):
        if isinstance(other, str):
            raise RuntimeError(f"Rank {rank} of {comm.size} could not begin to {what}, so none does: {other}")
    first = everybody[0]
    assert isinstance(first, dict)
    for rank, other in enumerate(everybody):
        assert isinstance(other, dict)
        for name in first:
            if first[name] != other.get(name):
                raise ValueError(
                    f"All ranks must {what} alike: {name} is {other.get(name)} on rank {rank}, and {first[name]} on "
                    "rank 0. Give all ranks the same data and arguments, in the same order of calls."
                )
    return found


@contextmanager
def failing_together(comm: Communicator | None) -> Iterator[None]:
    """Let out an exception of this rank where all have one; otherwise end all: nobody waits for one that has failed."""
    try:
        yield
    except BaseException as error:
        if comm is not None:
            comm.fail("".join(traceback.format_exception(error)))
        raise
