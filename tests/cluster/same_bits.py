"""Trains by an engine's workers, and says whether that came to the bits of training here; one line, for a test.

python same_bits.py dask | loky | ray | unguarded; mpiexec -n 4 python -m mpi4py.futures same_bits.py mpi
mpiexec -n 2 python same_bits.py ranks, which says what is told to ranks that should be begun in the other way.
"""

import contextlib
import multiprocessing
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import gpumlp
from gpumlp import callbacks, layers, models, optimizers, workers

X = np.random.default_rng(1).standard_normal((60, 3)).astype(np.float32)
Y = np.sin(X.sum(1))


def build(units=9):
    stack = [layers.Input((3,)), layers.Dense(units, "tanh"), layers.Dropout(0.2), layers.Dense(1)]
    model = models.Sequential(stack)
    model.compile(optimizers.Adam(0.03), "mse", metrics=["mae"])
    return model


class Lists(callbacks.Callback):
    """Remembers, and draws from the member's random numbers."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch, logs["loss"], gpumlp.random.generator().random()))


def counting(executor):
    """Have an executor count how often data go along, to a worker or back to its queue; return these."""
    sent, submit = [], getattr(executor, "submit", None)

    def counted(function, piece, data):
        sent.extend([piece] * (data is not None))
        return submit(function, piece, data)

    if submit is not None:  # Ray's pool has none
        executor.submit = counted
    return sent


def parts(ensemble):
    """Return all that training changes."""
    found = []
    for member, own, stream in zip(ensemble.members, ensemble.callbacks, ensemble._streams, strict=True):
        arrays = [*member.get_weights(), *(a for slot in member.optimizer.saved().values() for a in slot)]
        found.append(([a.tobytes() for a in arrays], member.history.history, own[0].seen, stream.state()))
    return found


def compare(executor, times=2):
    """Return, in words, whether an engine's bits are those of here, and how often data went out."""
    here, there = gpumlp.Ensemble(build, 7), gpumlp.Ensemble(build, 7)
    sent = counting(executor)
    for _ in range(times):
        here.fit(X, Y, epochs=3, verbose=0, callbacks=[Lists()], validation_split=0.2)
        there.fit(X, Y, epochs=3, verbose=0, callbacks=[Lists()], validation_split=0.2, executor=executor)
    same = parts(here) == parts(there)
    grid = {"units": [4, 9]}
    found = [gpumlp.search(build, grid, X, Y, cv=3, epochs=2, verbose=0, executor=e) for e in (None, executor)]
    same = same and found[0].scores == found[1].scores and found[0].histories == found[1].histories
    return f"same bits: {same}; data sent {len(sent)} times; {there.program}"


def dask():
    from distributed import Client, LocalCluster

    cluster = LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    with cluster, Client(cluster) as client:
        return compare(client.get_executor())


def loky():
    from loky import get_reusable_executor

    executor = get_reusable_executor(2)
    try:
        return compare(executor)
    finally:
        executor.shutdown()


def mpi():
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as executor:
        return compare(executor)


def ranks():
    """Return in words what is said to each rank of those that run a script side by side; no worker is begun."""
    from mpi4py.futures import MPIPoolExecutor

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            workers.executor_of(MPIPoolExecutor())
    return " ".join(str(each.message) for each in caught) or "nothing"


def ray():
    import ray
    from ray.util.multiprocessing import Pool

    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    try:
        return compare(Pool(2))
    finally:
        ray.shutdown()


def unguarded():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        try:
            return compare(executor)
        except gpumlp.errors.NotTrained as error:
            if __name__ != "__main__":
                raise  # as a script's error ends a worker that has read it as its main module
            return str(error)


ENGINES = {"dask": dask, "loky": loky, "mpi": mpi, "ranks": ranks, "ray": ray, "unguarded": unguarded}
if __name__ == "__main__" or "unguarded" in sys.argv:
    with contextlib.suppress(BrokenPipeError):
        print(ENGINES[sys.argv[1]](), flush=True)
