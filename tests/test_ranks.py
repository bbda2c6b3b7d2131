"""One model over ranks: the same bits on 1, 2, 4 and 8 of them, and what it computes without any, but for rounding."""

import copy
import pickle

import mpi
import numpy as np
import pytest
from host.runtime import HostRuntime
from ranks import over

import gpumlp
from gpumlp import (
    Sequential,
    constraints,
    devices,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    regularizers,
    utils,
)
from gpumlp.backends.compiled_backend import CompiledBackend
from gpumlp.backends.cuda_backend import CudaBackend
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.distributed import tree
from gpumlp.layers import Dense

SIZES = 1, 2, 4, 8
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((50, 5)), RNG.standard_normal((50, 3))
LABELS = RNG.integers(0, 3, 50)
WEIGHTS = RNG.uniform(0.5, 2.0, 50)


@pytest.fixture(params=["numpy", "numba"])
def by(request, monkeypatch):
    """NumPy, and the compiled kernels, which compute in float32."""
    monkeypatch.setenv("GPUMLP_KERNELS", request.param)
    return request.param


def stack(*inner, units=3, **last):
    return [layers.Input((5,)), Dense(17, "tanh"), *inner, Dense(units, **last)]


def trained(comm, build, how, dtype="float32", device=None):
    """Return by name what a rank has at the end: weights, the optimizer's state, what was reported."""
    how = {"optimizer": "adam", "loss": "mse", "batch_size": 20, "x": X, "y": Y, "epochs": 2} | how
    model = Sequential(build(), dtype=dtype)
    optimizer, judged = how.pop("optimizer"), {name: how.pop(name) for name in ("loss", "metrics") if name in how}
    made = optimizer() if callable(optimizer) else optimizer
    model.compile(made, **judged, distributed=comm, device=device)
    history = model.fit(**how, verbose=0).history
    x, y = (X, Y) if how["y"] is None else (how["x"], how["y"])
    found = model.evaluate(x, y, batch_size=13, sample_weight=how.get("sample_weight"), verbose=0)
    slots = model.optimizer.saved() or {}
    reported = [np.array(value) for value in history.values()] + [np.array(found)]
    return {"weights": model.get_weights(), "reported": reported, **slots}


def bits(found):
    return {name: [array.tobytes() for array in arrays] for name, arrays in found.items()}


def on_all(build, how, sizes=SIZES, **more):
    """Return what one rank has, when all have the same bits, however many there are."""
    found = {size: over(size, lambda comm: trained(comm, build, dict(how), **more)) for size in sizes}
    first = found[sizes[0]][0]
    for size, ranks in found.items():
        for rank, other in enumerate(ranks):
            assert bits(other) == bits(first), f"rank {rank} of {size}"
    return first


def close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name in expected:
        for a, b in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


class Fourth(regularizers.Regularizer):
    def __call__(self, x):
        return 0.1 * ops.sum(ops.square(ops.square(x)))


def cubed(y_true, y_pred):
    return ops.mean(ops.power(ops.absolute(y_true - y_pred), 3), -1)


class Batches(utils.PyDataset):
    """Batches of different sizes, with weights."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        rows = slice((0, 20, 23)[i], (20, 23, 50)[i])
        return X[rows], Y[rows], WEIGHTS[rows]


def undecayed():
    found = optimizers.AdamW(0.01, weight_decay=0.1)
    found.exclude_from_weight_decay(var_names=["bias"])
    return found


CASES = {
    **{f"batches of {n}": (stack, {"batch_size": n}) for n in (1, 3, 7, 8, 9, 17, 128)},
    "as they stand": (stack, {"shuffle": False}),
    "sample weights": (stack, {"sample_weight": WEIGHTS, "metrics": ["mae"]}),
    "class weights": (
        lambda: stack(activation="softmax"),
        {"y": LABELS, "class_weight": {0: 1.0, 1: 0.3, 2: 2.0}, "loss": "sparse_categorical_crossentropy"},
    ),
    **{
        name: (stack, {"optimizer": name})
        for name in ("sgd", "rmsprop", "adam", "adamw", "adadelta", "adagrad", "adamax", "nadam", "ftrl", "lion")
    },
    "momentum": (stack, {"optimizer": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True)}),
    "a schedule": (stack, {"optimizer": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 2, 0.9))}),
    "clipvalue": (stack, {"optimizer": lambda: optimizers.Adam(clipvalue=0.01)}),
    "clipnorm": (stack, {"optimizer": lambda: optimizers.SGD(0.1, clipnorm=0.1)}),
    "global_clipnorm": (stack, {"optimizer": lambda: optimizers.SGD(0.1, global_clipnorm=0.1)}),
    "some do not decay": (stack, {"optimizer": undecayed}),
    "averages": (stack, {"optimizer": lambda: optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8)}),
    "averages that overwrite": (
        stack,
        {"optimizer": lambda: optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=2)},
    ),
    "accumulation": (stack, {"optimizer": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=4)}),
    "accumulation, clipped": (
        stack,
        {"optimizer": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2, clipnorm=0.1)},
    ),
    "dropout": (lambda: stack(layers.Dropout(0.4)), {}),
    "dropout of columns": (lambda: stack(layers.Dropout(0.4, noise_shape=(1, 17))), {}),
    "dropout of rows": (lambda: stack(layers.Dropout(0.4, noise_shape=(None, 1))), {}),
    "noise": (lambda: stack(layers.GaussianNoise(0.1), layers.AlphaDropout(0.2)), {}),
    "noise that multiplies": (lambda: stack(layers.GaussianDropout(0.2)), {"batch_size": 3}),
    "penalties": (
        lambda: stack(
            Dense(6, kernel_regularizer="orthogonal_regularizer", bias_regularizer=Fourth()), kernel_regularizer="l2"
        ),
        {},
    ),
    "penalties of outputs": (lambda: stack(Dense(6, "relu", activity_regularizer=regularizers.L1L2(0.1, 0.2))), {}),
    "constraints": (lambda: stack(Dense(6, kernel_constraint=constraints.MaxNorm(0.5))), {"optimizer": "sgd"}),
    "frozen": (lambda: stack(Dense(6, trainable=False, kernel_regularizer="l2")), {}),
    "nothing trains": (lambda: [layers.Input((5,)), Dense(3, trainable=False)], {}),
    "frozen statistics": (lambda: stack(layers.BatchNormalization(trainable=False)), {}),
    "normalized rows": (lambda: stack(layers.LayerNormalization(), layers.PReLU(), layers.UnitNormalization()), {}),
    "labels": (
        lambda: stack(),
        {"y": LABELS, "loss": losses.SparseCategoricalCrossentropy(from_logits=True), "metrics": ["accuracy"]},
    ),
    "an own loss": (stack, {"loss": cubed, "metrics": [cubed, metrics.R2Score()]}),
    "thresholds": (
        lambda: stack(units=1, activation="sigmoid"),
        {
            "y": (LABELS > 1).astype(float), "loss": "binary_crossentropy", "sample_weight": WEIGHTS,
            "metrics": [metrics.AUC(name="auc"), metrics.Recall(name="recall"), "accuracy"],
        },
    ),
    "rows of outputs": (
        lambda: [layers.Input((5,)), Dense(12, "tanh"), layers.Reshape((4, 3)), Dense(2, "softmax")],
        {"y": RNG.dirichlet([1, 1], (50, 4)), "loss": "categorical_crossentropy", "sample_weight": WEIGHTS},
    ),
    "validation": (stack, {"validation_split": 0.3, "metrics": ["mae"]}),
    "batches that are read": (stack, {"x": Batches(), "y": None, "batch_size": None}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_all_numbers_of_ranks_have_the_same_bits(by, case):
    on_all(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_ranks_compute_what_there_is_without_them(case):
    build, how = CASES[case]
    found, expected = (
        over(1, lambda comm, given=given: trained(comm if given else None, build, dict(how), "float64"))[0]
        for given in (True, False)
    )
    close(found, expected, 1e-9)


def test_float64_has_the_same_bits():
    on_all(stack, {"optimizer": lambda: optimizers.Adam(0.01, global_clipnorm=0.5)}, dtype="float64")


def test_float32_with_ranks_is_as_near_to_float64_as_it_is_without_ranks(by, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("GPUMLP_KERNELS", "numpy")
        truth = over(1, lambda comm: trained(None, stack, {"epochs": 10}, "float64"))[0]["weights"]
    errors = []
    for given in (True, False):
        found = over(1, lambda comm, given=given: trained(comm if given else None, stack, {"epochs": 10}))[0]["weights"]
        errors.append(max(abs(a - b).max() for a, b in zip(found, truth, strict=True)))
    assert errors[0] <= 2 * errors[1]


def test_memory_that_was_never_written_is_never_read(monkeypatch, by):
    build = lambda: stack(layers.Dropout(0.2), Dense(6, activity_regularizer="l2"))  # noqa: E731
    expected = on_all(build, {"batch_size": 7})

    def empty(self, shape, dtype):
        return np.full(shape, np.nan, dtype)

    monkeypatch.setattr(NumpyBackend, "empty", empty)
    assert bits(on_all(build, {"batch_size": 7})) == bits(expected)


def test_another_order_of_sums_has_other_bits(monkeypatch, by):
    def one_after_the_other(partials):
        for other in partials[1:]:
            np.add(partials[0], other, out=partials[0])
        return partials[0]

    monkeypatch.setattr(tree, "total", one_after_the_other)
    with pytest.raises(AssertionError, match="rank 0 of"):
        on_all(stack, {"batch_size": 50})


def test_models_that_share_layers_leave_each_others_weights_alone(by):
    def work(comm):
        shared, own, others = Dense(9, "tanh"), Dense(3), Dense(3)
        one = Sequential([layers.Input((5,)), shared, own])
        two = Sequential([layers.Input((5,)), shared, Dense(9), others])
        one.compile("adam", "mse", distributed=comm)
        two.compile("adam", "mse", distributed=comm)
        for model in (one, two, one):
            before = others.get_weights()
            model.fit(X, Y, batch_size=7, epochs=1, verbose=0)
            if model is one:
                assert bits({"": before}) == bits({"": others.get_weights()})
        return {"one": one.get_weights(), "two": two.get_weights(), **one.optimizer.saved()}

    found = [work_of for size in SIZES for work_of in over(size, work)]
    assert all(bits(each) == bits(found[0]) for each in found)
    close(found[0], over(1, lambda comm: work(None))[0], 1e-4)


def test_ranks_begin_with_the_weights_numbers_and_masks_of_rank_0():
    def work(comm):
        model = Sequential(stack(layers.Dropout(0.5)))
        model.build()
        if comm.rank:
            model.set_weights([np.full_like(w, 7.0) for w in model.get_weights()])
        first = model.get_weights()
        model.compile("sgd", "mse", distributed=comm)
        model.evaluate(X, Y, verbose=0)
        return first, model.get_weights(), model.layers[1].key, gpumlp.random.normal(3)

    ranks = over(2, work)
    assert bits({"": ranks[1][1]}) == bits({"": ranks[0][0]}) != bits({"": ranks[1][0]})
    assert ranks[0][2] == ranks[1][2] and (ranks[0][3] == ranks[1][3]).all()


@pytest.mark.parametrize("make", [NumpyBackend, CompiledBackend, lambda: CudaBackend(HostRuntime())])
@pytest.mark.parametrize("first", [1, 4, 9])
def test_rows_have_the_masks_that_they_have_among_all(make, first):
    backend, x = make(), RNG.standard_normal((10, 3)).astype(np.float32)
    whole, mask, y = (backend.zeros((n, 3), np.float32) for n in (10, 10 - first, 10 - first))
    backend.dropout(backend.to_device(x), whole, backend.zeros(x.shape, np.float32), 0.4, 1 << 40, 2, 3)
    backend.dropout(backend.to_device(x[first:].copy()), mask, y, 0.4, 1 << 40, 2, 3, first)
    assert 0 < (backend.to_host(whole) == 0).sum() < 30
    assert (backend.to_host(mask) == backend.to_host(whole)[first:]).all()
    assert (backend.to_host(y) == x[first:] * backend.to_host(mask)).all()


# ---- what each rank has ----------------------------------------------------------------------------------------------


def test_rows_and_state_are_shared():
    def work(comm):
        model = Sequential([layers.Input((64,)), Dense(128), Dense(1)])
        model.compile("adam", "mse", distributed=comm)
        model.fit(np.ones((40, 64)), np.ones(40), batch_size=16, verbose=0)
        share = model._runner.share
        assert model.distributed is comm
        assert {len(slot) for slot in model.optimizer._state.slots.values()} == {share.size}
        return share.rows, *share.state_bytes, model.program

    for size in SIZES:
        ranks = over(size, work)
        assert sum(rows for rows, *_ in ranks) == 40
        assert sum(own for _, own, *_ in ranks) == ranks[0][2] >= 2 * 4 * (64 * 128 + 128 + 128 + 1)
        assert max(own for _, own, *_ in ranks) <= 1.05 * ranks[0][2] / size
    assert "rank 7 of 8, shard 7 of the 8 of each batch" in ranks[7][3]
    assert f"5 rows computed, {ranks[7][1]:,} of {ranks[7][2]:,} bytes" in ranks[7][3]


def test_a_step_sends_what_an_allreduce_would():
    def work(comm):
        model = Sequential([layers.Input((64,)), Dense(128), Dense(1)])
        model.compile("adam", "mse", distributed=comm)
        model.train_on_batch(np.ones((16, 64)), np.ones(16))
        before = comm.sent
        model.train_on_batch(np.ones((16, 64)), np.ones(16))
        return comm.sent - before, 4 * model.count_params()

    for size in (2, 4, 8):
        for sent, weights in over(size, work):
            assert sent <= 1.1 * 2 * weights * (size - 1) / size + 100


def test_each_rank_predicts_what_it_is_asked():
    def work(comm):
        model = Sequential(stack())
        model.compile("adam", "mse", distributed=comm)
        model.fit(X, Y, verbose=0)
        return model.predict(X[comm.rank :], verbose=0)  # of other rows each, which nobody waits for

    first, second = over(2, work)
    np.testing.assert_allclose(first[1:], second, rtol=1e-5, atol=1e-6)


def test_batches_one_by_one(by):
    def work(comm):
        model = Sequential(stack())
        model.compile("adam", "mse", metrics=["mae"], distributed=comm)
        found = [model.train_on_batch(X[:9], Y[:9]) for _ in range(3)] + [model.test_on_batch(X, Y)]
        return {"found": [np.array(f) for f in found], "weights": model.get_weights()}

    found = [each for size in SIZES for each in over(size, work)]
    assert all(bits(each) == bits(found[0]) for each in found)
    close(found[0], over(1, lambda comm: work(None))[0], 1e-5)


# ---- data that are not in memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["blocks", "map", "generator"])
def test_ranks_read_what_lies_elsewhere(tmp_path, kind):
    np.save(tmp_path / "x.npy", X)

    def fit(comm):
        there = np.load(tmp_path / "x.npy", mmap_mode="r")
        data = {
            "blocks": lambda: (utils.Blocks(there, Y, block_size=7, shuffle_blocks=3),),
            "map": lambda: (there, Y),
            "generator": lambda: (((there[i : i + 9], Y[i : i + 9]) for _ in range(9) for i in range(0, 45, 9)),),
        }[kind]()
        model = Sequential(stack())
        model.compile("adam", "mse", distributed=comm)
        pace = {"steps_per_epoch": 4} if kind == "generator" else {"batch_size": 9}
        model.fit(*data, **pace, epochs=3, verbose=0)
        return {"weights": model.get_weights()}

    found = [over(size, fit) for size in (1, 4)]
    assert all(bits(rank) == bits(found[0][0]) for ranks in found for rank in ranks)


# ---- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".gpumlp", ".keras"])
@pytest.mark.parametrize("size", [1, 8, None])
def test_what_4_ranks_have_saved_others_go_on_from(tmp_path, size, ending):
    def build(comm):
        model = Sequential(stack(), name="saved")
        model.compile(optimizers.Adam(0.01, use_ema=True), "mse", distributed=comm)
        return model

    def fit(model, comm, epochs):
        model.fit(X, Y, batch_size=20, epochs=epochs, shuffle=False, verbose=0)
        return {"weights": model.get_weights(), **(model.optimizer.saved() or {})}

    def begin(comm):
        model = build(comm)
        fit(model, comm, 2)
        model.save(tmp_path / f"model{ending}")  # rank 0 writes it, and all go on when it is there
        return fit(model, comm, 2)

    def go_on(comm):
        model = models.load_model(tmp_path / f"model{ending}")
        model.compile(model.optimizer, "mse", distributed=comm if size else None)
        return fit(model, comm, 2)

    expected = over(4, begin)[0]
    found = over(size or 1, go_on)[0]
    if size is None:
        close(found, expected, 1e-4)
    else:
        assert bits(found) == bits(expected)


def test_copies_are_whole_models_of_no_ranks():
    def work(comm):
        model = Sequential(stack())
        model.compile("adam", "mse", distributed=comm)
        model.fit(X, Y, verbose=0)
        found = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        state = model.optimizer.saved()
        for other in found:
            assert other.distributed is None and bits(other.optimizer.saved()) == bits(state)
            if comm.rank == 0:
                other.fit(X, Y, verbose=0)
        assert models.clone_model(model).distributed is comm

    over(4, work)


def test_another_compile_brings_the_state_along():
    def work(comm):
        model = Sequential(stack())
        model.compile("adam", "mse", distributed=comm)
        model.fit(X, Y, verbose=0)
        before = model.optimizer.saved()
        model.compile(model.optimizer, "mse")
        model.evaluate(X, Y, verbose=0)
        model.optimizer.build(model.trainable_weights)
        assert bits(model.optimizer.saved()) == bits(before)
        model.compile(model.optimizer, "mse", distributed=comm)
        model.fit(X, Y, verbose=0)
        return model.optimizer.saved()

    found = [each for size in (1, 4) for each in over(size, work)]
    assert all(bits(each) == bits(found[0]) for each in found)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "how", "named"),
    [
        (lambda: stack(layers.BatchNormalization(name="bn")), {}, "BatchNormalization 'bn' in training"),
        (stack, {"optimizer": "lamb"}, "optimizer Lamb"),
        (stack, {"optimizer": "adafactor"}, "optimizer Adafactor, as Adafactor has means"),
        (stack, {"optimizer": "muon"}, "optimizer Muon, as Muon has products"),
        (stack, {"loss": losses.Huber(reduction="sum")}, "the loss huber: it is of a whole batch"),
        (
            stack,
            {"loss": lambda t, p: ops.sqrt(ops.mean(ops.square(t - p)))},
            "the loss <lambda>: it is of a whole batch",
        ),
        (lambda: stack(Dense(4, activity_regularizer=Fourth())), {}, "activity regularizer Fourth"),
    ],
)
def test_what_ranks_cannot_share_is_refused_by_name(build, how, named):
    def work(comm):
        with pytest.raises(NotImplementedError, match=f"Ranks cannot share .*{named}"):
            trained(comm, build, how)

    over(2, work)


def test_gradients_from_elsewhere_are_refused():
    def work(comm):
        model = Sequential(stack())
        model.compile("adam", "mse", distributed=comm)
        found = model.gradients(X, Y)
        with pytest.raises(NotImplementedError, match="not shared by ranks"):
            model.optimizer.apply(found.weights, model.trainable_weights)

    over(2, work)


def test_what_is_no_communicator_is_refused():
    def work(comm):
        model = Sequential(stack())
        model.compile("sgd", "mae")
        with pytest.raises(ValueError, match=r"1, 2, 4 or 8 ranks.*it has 3"):
            model.compile("adam", "mse", distributed=comm)
        with pytest.raises(TypeError, match=r"mpi4py's, such as MPI\.COMM_WORLD"):
            model.compile("adam", "mse", distributed="mpi")
        assert model.loss == "mae" and model.distributed is None

    over(3, work)


def test_members_of_an_ensemble_are_refused():
    def work(comm):
        def build():
            model = Sequential(stack())
            model.compile("adam", "mse", distributed=comm)
            return model

        with pytest.raises(NotImplementedError, match=r"Members of an ensemble.*distributed="):
            gpumlp.Ensemble(build, 2)

    over(1, work)  # of several ranks that are threads one would wait for another that builds, which are one at a time


# ---- on GPUs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["batches of 9", "dropout", "penalties of outputs", "clipnorm"])
def test_a_gpu_each(monkeypatch, case):
    monkeypatch.setattr(devices, "open_runtime", lambda index: HostRuntime())
    monkeypatch.setattr(devices, "gpu_problem", lambda index=0: None)
    build, how = CASES[case]
    how = {"epochs": 1, "x": X[:20], "y": Y[:20]} | how
    found = [
        over(size, lambda comm: trained(comm, build, dict(how), device="cuda"), in_turns=True) for size in (1, 2, 8)
    ]
    assert all(bits(rank) == bits(found[0][0]) for ranks in found for rank in ranks)
    close(found[0][0], over(1, lambda comm: trained(None, build, dict(how)))[0], 1e-4)


# ---- by MPI ----------------------------------------------------------------------------------------------------------

MPI_SCRIPT = """
import hashlib
import numpy as np
from mpi4py import MPI
import gpumlp
from gpumlp import layers

comm = MPI.COMM_WORLD
gpumlp.utils.set_random_seed(3 + comm.rank)
x, y = np.random.default_rng(0).standard_normal((2, 50, 5))
model = gpumlp.Sequential([layers.Input((5,)), layers.Dense(17, "relu"), layers.Dropout(0.2), layers.Dense(5)])
model.compile(gpumlp.optimizers.Adam(0.01, clipnorm=0.5), "mse", metrics=["mae"], distributed=comm)
losses = model.fit(x, y, batch_size=20, epochs=3, verbose=0).history["loss"]
found = [*model.get_weights(), np.array(losses), np.array(model.evaluate(x, y, verbose=0))]
digest = hashlib.sha256(b"".join(a.tobytes() for a in found)).hexdigest()
assert comm.allgather(digest) == [digest] * comm.size
if comm.rank == 0:
    print(digest)
"""


def test_mpi_has_the_same_bits(tmp_path):
    script, digests = tmp_path / "train.py", set()
    script.write_text(MPI_SCRIPT, encoding="utf-8")
    for size in (1, 2, 4):
        done = mpi.run(size, script)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
