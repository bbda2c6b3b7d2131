"""Batches to train on, in the ways in which they come, and a model for them."""

import numpy as np

from gpumlp import layers, models, optimizers
from gpumlp.utils import PyDataset, set_random_seed

N, BATCH = 57, 10
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("f4")
Y = np.sin(X @ RNG.normal(size=(3, 2))).astype("f4")
W = RNG.random(N).astype("f4")
RAN_OUT = "Your input ran out of data"


def build(**how):
    set_random_seed(0)
    model = models.Sequential([layers.Input((3,)), layers.Dense(19, "tanh"), layers.Dropout(0.2), layers.Dense(2)])
    model.compile(optimizers.SGD(0.1, momentum=0.9), "mse", **how)
    return model


def parts(*arrays, size=BATCH):
    """The batches of an epoch over arrays."""
    return [tuple(a[i : i + size] for a in arrays) for i in range(0, len(arrays[0]), size)]


def forever(*arrays):
    while True:
        yield from parts(*arrays)


class Numbered(PyDataset):
    """Notes what is asked of it."""

    def __init__(self, batches=None, **how):
        super().__init__(**how)
        self.batches, self.notes = parts(X, Y) if batches is None else batches, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        self.notes.append(index)
        return self.batches[index]

    def on_epoch_begin(self):
        self.notes.append("begin")

    def on_epoch_end(self):
        self.notes.append("end")


class Endless(Numbered):
    num_batches = None

    def __getitem__(self, index):
        return super().__getitem__(index % len(self.batches)) if self.notes.append(index) is None else None


class Loader:
    """Like a DataLoader: a list of arrays a batch, from the start each time; ``length`` None: it does not say."""

    def __init__(self, length=None, arrays=(X, Y)):
        self.length, self.arrays, self.starts = length, arrays, 0

    def __iter__(self):
        self.starts += 1
        return iter([list(batch) for batch in parts(*self.arrays)])

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def fit(model, x, *rest, **how):
    return model.fit(x, *rest, **{"verbose": 0, "shuffle": False, **how}).history
