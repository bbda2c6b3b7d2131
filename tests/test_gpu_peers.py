"""Peers whose compilers make a whole step, as far as they run without a GPU: that they train as float64 does."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gpumlp import layers, models, optimizers

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PATIENCE = 600  # seconds, for what ends a hang
SMALL = "Workload('small', (3, 16, 16, 2), 8, 20)"
INDUCTOR = """
import functools, torch, gpu_compiled
batches, step, total, *_ = gpu_compiled.inductor_parts(workload, "cpu", {compiled})
for batch in batches:
    step(*batch)
loss = float(total) / len(batches)
"""
JAX = """
import gpu_contenders
from gpu_compiled import LOOPS, WRITTEN_OUT
gpu_contenders.exact_jax = lambda: None  # which wants a GPU
loss = gpu_contenders.jax_scanned(workload, {unroll}, {flags})()  # an unknown flag ends the process
"""
TRAINKERNEL = """
import gpu_compiled, trainkernel.codegen, trainkernel.reference
from torch.utils._pytree import tree_leaves
batches, step, state = gpu_compiled.trainkernel_parts(workload, "cpu", "{products}")
program, _ = trainkernel.capture(step, (state, *batches[0]))
leaves = tree_leaves(state)
kernel = trainkernel.codegen.generate(program, inplace_outputs={{i: i for i in range(len(leaves))}})
assert kernel.direct_state_commits == len(leaves), "a state that is copied is not the peer's best"
for batch in batches:
    leaves = trainkernel.reference.run(program, [*leaves, *batch])
loss = float(leaves[0]) / len(batches)
"""
EXACT = 1e-5  # in float32, after 20 steps
ROUNDED = 2**-8  # a product of bf16's, relative; over many samples roundings cancel
PEERS = {  # the code, the packages it needs, the optimizer, and how far its loss may be from float64's
    "PyTorch, one function": (INDUCTOR.format(compiled="lambda step: step"), ["torch"], "adam", EXACT),
    "PyTorch, Inductor": (
        INDUCTOR.format(compiled="functools.partial(torch.compile, fullgraph=True)"), ["torch"], "adam", EXACT,
    ),
    "JAX": (JAX.format(unroll=1, flags="''"), ["jax"], "adam", EXACT),
    "JAX, unrolled": (JAX.format(unroll=3, flags="LOOPS"), ["jax"], "adam", EXACT),
    "JAX, written out": (JAX.format(unroll=1, flags="WRITTEN_OUT"), ["jax"], "adam", EXACT),
    "TrainKernel, Adam": (TRAINKERNEL.format(products="float32"), ["torch", "trainkernel"], "adam", EXACT),
    "TrainKernel, SGD": (TRAINKERNEL.format(products="float32"), ["torch", "trainkernel"], "sgd", EXACT),
    "TrainKernel, bf16": (TRAINKERNEL.format(products="bfloat16"), ["torch", "trainkernel"], "sgd", ROUNDED),
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_whole_steps_of_peers_train_as_float64_does(monkeypatch, name):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from workloads import Workload

    code, packages, optimizer, bound = PEERS[name]
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    made = SMALL + (".by_sgd()" if optimizer == "sgd" else "")
    code = f"from workloads import Workload\nworkload = {made}\n{code}\nprint(repr(loss))"
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    workload = eval(made, {"Workload": Workload})
    *hidden, last = workload.sizes[1:]
    stack = [layers.Input(workload.sizes[:1]), *(layers.Dense(n, "relu") for n in hidden), layers.Dense(last)]
    model = models.Sequential(stack, dtype="float64")
    adam = optimizers.Adam(workload.learning_rate, epsilon=workload.epsilon)
    model.compile(optimizers.SGD(workload.learning_rate) if workload.sgd else adam, "mse", device="cpu")
    model.set_weights(workload.weights())
    x, y = workload.data()
    loss = model.fit(x, y, batch_size=workload.batch, shuffle=False, verbose=0).history["loss"][0]
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(loss, rel=bound)
