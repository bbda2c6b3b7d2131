"""The whole-fit kernel over whole runs: as near to float64 as NumPy is, and the same bits however it is launched."""

from dataclasses import replace

import numpy as np
import pytest
from host.runtime import HostRuntime
from whole_fit import Case, Dense, assert_same_bits, by_kernel, by_numpy, force, launches_of, state, train

from gpumlp import layers, losses, optimizers, regularizers
from gpumlp.activations import Gelu
from gpumlp.engine import fit_program
from gpumlp.optimizers import schedules
from gpumlp.training import loop


@pytest.fixture(autouse=True)
def whole_epochs(monkeypatch):
    """An epoch is one launch, however slow it is here."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)


# ---- against float64 -------------------------------------------------------------------------------------------------

# Every activation, loss, optimizer, penalty, exchange, group and awkward size is in one of these at least; 50 steps each.
# Batches of 7, 3, 20 and 2 of which the last has one sample; layers narrower than the group; last layers of up to 16
# outputs, which every block computes, and of more, which are exchanged.
CASES = {
    "one layer, binary crossentropy, weighted metrics": Case(
        lambda: [Dense(3, "sigmoid")], features=17, samples=41, batch=20, epochs=17, group=1, threads=96,
        loss=lambda: losses.BinaryCrossentropy(label_smoothing=0.1), targets="shares", weighted=True,
        optimizer=lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        metrics=("accuracy", "mae"), weighted_metrics=("acc", "mse"),
    ),
    "two layers, one feature, one output": Case(
        lambda: [Dense(20, "relu"), Dense(1)], features=1, samples=29, epochs=10, metrics=("mae",),
    ),
    "a wide last layer, mae, momentum": Case(
        lambda: [Dense(33, "tanh"), Dense(65, "sigmoid"), Dense(17)], samples=7, batch=3, epochs=17, loss="mae",
        optimizer=lambda: optimizers.SGD(0.01, momentum=0.8), group=3, threads=96, exchange="barrier", weighted=True,
    ),
    "activations whose slope needs their input, also the last": Case(
        lambda: [Dense(31, "gelu"), Dense(17, "silu"), Dense(20, Gelu(approximate=True))], features=20, samples=9,
        batch=4, epochs=17, loss=lambda: losses.Huber(0.5), optimizer=lambda: optimizers.AdamW(0.003, weight_decay=0.1),
    ),
    "nine layers, a wide softmax, labels": Case(
        lambda: [Dense(20, "relu"), *(Dense(17, "elu") for _ in range(6)), Dense(3, "tanh"), Dense(20, "softmax")],
        samples=22, epochs=13, loss="sparse_categorical_crossentropy", targets="labels", group=5, metrics=("accuracy",),
        optimizer=lambda: optimizers.Adam(0.003),
    ),
    "logits, smoothed labels, l1, Activation layers": Case(
        lambda: [
            Dense(9, kernel_regularizer=regularizers.L1L2(0.01, 0)), layers.Activation("leaky_relu"),
            layers.Dropout(0), Dense(17), layers.Activation("linear"),
        ], samples=21, batch=20, epochs=25, group=3, exchange="barrier", targets="one hot", threads=128,
        loss=lambda: losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), metrics=("accuracy",),
    ),
    "frozen layers, layers without bias, l2 on biases": Case(
        lambda: [
            Dense(33, "relu", trainable=False, kernel_regularizer="l2"), Dense(17, "tanh", use_bias=False),
            Dense(20, "sigmoid", bias_regularizer="l2"), Dense(5, trainable=False, bias_regularizer="l1"),
            Dense(2, bias_regularizer="l1_l2", use_bias=True),
        ], samples=29, epochs=10, group=5, threads=32, optimizer=lambda: optimizers.Adam(0.01),
    ),
    "little shared memory, by tags": Case(
        lambda: [Dense(17, "tanh") for _ in range(5)] + [Dense(2)], samples=41, batch=20, epochs=17, shared=15_500,
    ),
    "little shared memory, by a barrier, both penalties": Case(
        lambda: [Dense(17, "sigmoid", kernel_regularizer="l1_l2") for _ in range(4)] + [Dense(18)], samples=41,
        batch=20, epochs=17, shared=17_000, exchange="barrier", optimizer=lambda: optimizers.SGD(0.1),
    ),
    "one sample a batch, a schedule": Case(
        lambda: [Dense(20, "leaky_relu"), Dense(3)], samples=10, batch=1, epochs=5, exchange="barrier",
        optimizer=lambda: optimizers.SGD(schedules.ExponentialDecay(0.1, 5, 0.8)),
    ),
    "layers of one, two samples a batch": Case(
        lambda: [Dense(1, "tanh"), Dense(31, "elu"), Dense(1), Dense(2)], samples=9, batch=2, epochs=10, group=5,
        optimizer=lambda: optimizers.AdamW(schedules.ExponentialDecay(0.01, 5, 0.8), weight_decay=0.05),
    ),
    "binary crossentropy of wide logits": Case(
        lambda: [Dense(9, "silu", bias_regularizer="l1"), Dense(20)], samples=22, epochs=13, exchange="barrier",
        loss=lambda: losses.BinaryCrossentropy(from_logits=True), targets="shares", weighted=True, group=4, threads=32,
    ),
    "categorical crossentropy of sigmoids, rates that change": Case(
        lambda: [Dense(65, "gelu"), Dense(5, "sigmoid")], samples=29, epochs=10, group=3, targets="one hot",
        loss="categorical_crossentropy", rates=(0.01, 0.0, 0.002), metrics=("mse",), weighted_metrics=("accuracy",),
        weighted=True,
    ),
    "one block, labels as logits": Case(
        lambda: [Dense(17, "silu", kernel_regularizer="l2"), Dense(20, "elu", use_bias=False), Dense(17)], samples=22,
        epochs=13, group=1, loss=lambda: losses.SparseCategoricalCrossentropy(from_logits=True), targets="labels",
        optimizer=lambda: optimizers.SGD(0.05, momentum=0.9), metrics=("accuracy",),
    ),
}  # fmt: skip


def assert_as_near(truths, plains, gots):
    """Errors over several runs together: at most twice those of float32 NumPy, beyond the rounding of what is stored."""
    for name in truths[0]:
        truth, plain, got = (np.concatenate([r[name].ravel() for r in runs]) for runs in (truths, plains, gots))
        finite = np.isfinite(plain)
        assert np.array_equal(np.isnan(plain), np.isnan(got)) and np.array_equal(plain[~finite], got[~finite], True)
        own, theirs = (np.linalg.norm((a - truth)[finite]) for a in (got, plain))
        assert own <= 2 * theirs + 2.0**-22 * np.linalg.norm(truth[finite]), (name, own, theirs)


@pytest.mark.parametrize("name", CASES)
def test_fifty_steps_are_as_near_to_float64_as_numpy_s_are(gpu, monkeypatch, name):
    case = CASES[name]
    force(monkeypatch, case)
    if case.shared:
        monkeypatch.setattr(gpu, "shared_bytes", case.shared, raising=False)
    launched = launches_of(gpu)
    truths, plains, gots = [], [], []
    for seed in range(3):
        truths.append(by_numpy(case, "float64", seed))
        plains.append(by_numpy(case, "float32", seed))
        gots.append(by_kernel(case, seed))
    assert len(gots[0]["losses"]) >= 50
    assert launched.count(("fit", case.group)) == len(launched) == 3 * case.epochs
    assert_as_near(truths, plains, gots)
