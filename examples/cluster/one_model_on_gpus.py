"""One model over ranks that have a GPU each. No GPU has run this yet.

mpiexec -n 2 python examples/cluster/one_model_on_gpus.py
"""

import numpy as np
from mpi4py.MPI import COMM_WORLD

from gpumlp import layers, models
from gpumlp.distributed.mpi import MPI
from gpumlp.distributed.nccl import NCCL

host = MPI(COMM_WORLD)  # carries what is not on a GPU, and ends all when one fails
x = np.random.default_rng(0).normal(size=(65536, 1024)).astype("float32")
hidden = [layers.Dense(4096, "relu") for _ in range(4)]
model = models.Sequential([layers.Input((1024,)), *hidden, layers.Dense(1)])
model.compile("adam", "mse", device=f"cuda:{host.rank}", distributed=NCCL(host))
model.fit(x, np.sin(x[:, :1]), batch_size=8192, epochs=3, verbose=2)
print(model.program)
