"""One model over several ranks, with the same bits on 1, 2, 4 and 8 of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    from gpumlp.distributed.communicator import Communicator


def communicator_of(given: object) -> Communicator:
    """Return the Communicator that ``distributed=`` means: itself, or that of mpi4py's.

    TypeError for anything else, and ValueError for a number of ranks that a batch's shards cannot be shared by.
    """
    from gpumlp.distributed import mpi, tree

    asked = ("rank", "size", "all_to_all", "all_gather", "gather", "fail")
    if type(given).__module__.startswith("mpi4py."):
        found: Communicator = mpi.MPI(cast("Intracomm", given))
    elif all(hasattr(given, name) for name in asked):
        found = cast("Communicator", given)
    else:
        raise TypeError(
            f"distributed must be a communicator of mpi4py's, such as MPI.COMM_WORLD, or what has {', '.join(asked)}; "
            f"got {given!r}."
        )
    if tree.SHARDS % found.size:
        raise ValueError(
            f"distributed must have 1, 2, 4 or 8 ranks, which can share a batch's {tree.SHARDS} shards; it has "
            f"{found.size}. Start as many, or give some of them a communicator of their own, by comm.Split."
        )
    return found
