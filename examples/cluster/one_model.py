"""One model over ranks, which share each batch and the optimizer's state; the bits are the same on 1, 2, 4 and 8.

mpiexec -n 2 python examples/cluster/one_model.py
"""

import zlib

import numpy as np
from mpi4py import MPI

import gpumlp
from gpumlp import layers, models

comm = MPI.COMM_WORLD
numbers = np.random.default_rng(0)
x = numbers.normal(size=(4096, 64)).astype("float32")
y = np.sin(x @ numbers.normal(size=(64, 1)) / 8)

gpumlp.utils.set_random_seed(0)
hidden = [layers.Dense(512, "relu") for _ in range(3)]
model = models.Sequential([layers.Input((64,)), *hidden, layers.Dense(1)])
model.compile("adam", "mse", distributed=comm)
model.fit(x, y, batch_size=1024, epochs=3, validation_split=0.1, verbose=2)

if comm.rank == 0:
    print(model.program)
    digest = zlib.crc32(b"".join(array.tobytes() for array in model.get_weights()))
    print(f"one model, trained by {comm.size} ranks: {digest:x}, as by 1, 2, 4 or 8")
