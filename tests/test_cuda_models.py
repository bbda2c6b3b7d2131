"""Whole models through the Program of graphs: against NumPy over whole runs, streamed, from device arrays.

The same through the whole-fit kernel: test_fit_kernel.py.
"""

import numpy as np
import pytest
from host.runtime import DeviceArray, HostKernelError, HostRuntime, broken

from gpumlp import callbacks, devices, errors, layers, models, optimizers
from gpumlp.engine import feed, graph_program
from gpumlp.errors import DeviceMemoryError, KernelError
from gpumlp.training import loop
from gpumlp.utils import set_random_seed


@pytest.fixture(autouse=True)
def by_graphs(monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "graph")


def data(n=57, features=3, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)).astype(np.float32)
    return x, np.sin(x @ rng.standard_normal((features, outputs))).astype(np.float32)


def build(device, dtype="float32", stack=None, optimizer="adam", loss="mse", **more):
    set_random_seed(0)
    stack = stack or [layers.Dense(19, "tanh"), layers.Dense(33, "relu"), layers.Dense(2)]
    model = models.Sequential([layers.Input((3,)), *stack], dtype=dtype)
    model.compile(loss=loss, optimizer=optimizer, device=device, **more)
    return model


def flat(model):
    return np.concatenate([w.ravel().astype(np.float64) for w in model.get_weights()])


# ---- whole runs against NumPy ----------------------------------------------------------------------------------------

RUNS = {
    "adam, tanh and relu": {},
    "sgd with momentum, gelu, l2": {
        "stack": lambda: [layers.Dense(17, "gelu", kernel_regularizer="l2"), layers.Dense(2, use_bias=False)],
        "optimizer": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    },
    "rmsprop, elu and silu, huber, l1": {
        "stack": lambda: [layers.Dense(20, "elu"), layers.Dense(5, "silu", bias_regularizer="l1"), layers.Dense(2)],
        "optimizer": lambda: optimizers.RMSprop(0.01, centered=True),
        "loss": lambda: "huber",
    },
    "adamw, dropout, rescaling, leaky relu": {
        "stack": lambda: [
            layers.Rescaling(0.5, 0.1), layers.Dense(31, "leaky_relu"), layers.Dropout(0.2, seed=5),
            layers.Dense(9), layers.Activation("sigmoid"), layers.Dense(2),
        ],
        "optimizer": lambda: optimizers.AdamW(0.01),
    },
    "a frozen layer": {
        "stack": lambda: [layers.Dense(8, "relu", trainable=False), layers.Dense(8, "relu"), layers.Dense(2)],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("steps", [50, pytest.param(200, marks=pytest.mark.gpu)])
def test_a_run_is_as_near_to_float64_as_numpy_s_is(gpu, name, steps):
    if steps == 200 and isinstance(gpu, HostRuntime):
        pytest.skip("the long runs are for real GPUs")
    how = {key: make() for key, make in RUNS[name].items() if key != "stack"}
    x, y = data()
    initial, found = None, {}
    for device, dtype in (("cpu", "float64"), ("cpu", "float32"), ("cuda", "float32")):
        stack = RUNS[name].get("stack", lambda: None)()
        model = build(device, dtype, stack, **how)
        initial = initial or model.get_weights()
        model.set_weights(initial)
        history = model.fit(
            x, y, batch_size=25, epochs=-(-steps // 3), verbose=0, validation_data=(x[::2], y[::2])
        ).history  # batches of 25, 25 and 7; no dropout in validation
        found[device, dtype] = flat(model), np.array(history["loss"]), np.array(history["val_loss"])
    for truth, plain, got in zip(*found.values(), strict=True):
        own, theirs = np.linalg.norm(got - truth), np.linalg.norm(plain - truth)
        assert own <= 2 * theirs + 1e-6 * np.linalg.norm(truth), (own, theirs)


@pytest.mark.parametrize(
    ("loss", "last", "labels"),
    [
        ("sparse_categorical_crossentropy", "softmax", "numbers"),
        ("categorical_crossentropy", "softmax", "one hot"),
        ("binary_crossentropy", "sigmoid", "one hot"),
    ],
)
def test_classification_with_weights_metrics_and_validation(gpu, loss, last, labels):
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((70, 3)), rng.uniform(0.5, 2, 70)
    classes = rng.integers(0, 4, 70)
    y = classes if labels == "numbers" else np.eye(4)[classes]
    logs = []
    for device in ("cpu", "cuda"):
        model = build(
            device, stack=[layers.Dense(16, "relu"), layers.Dense(4, last)], loss=loss, metrics=["accuracy", "mae"]
            if labels != "numbers" else ["accuracy"], weighted_metrics=["acc"],
        )  # fmt: skip
        history = model.fit(
            x, y, sample_weight=weight, batch_size=32, epochs=3, validation_data=(x[:41], y[:41]), verbose=0
        )
        logs.append({**history.history, "evaluate": model.evaluate(x, y, verbose=0)})
    assert logs[0].keys() == logs[1].keys()
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=2e-5, err_msg=name)


def test_the_article_s_network(gpu):
    from gpumlp.cli import article_model

    x = np.arange(0, 20, 0.1)
    losses = []
    for device in ("cpu", "cuda"):
        set_random_seed(0)
        model = article_model()
        model.compile(loss="mse", optimizer="adam", device=device)
        losses.append(model.fit(x[:40], np.sin(x[:40]), steps_per_epoch=2, epochs=2, verbose=0).history["loss"])
        assert model.predict(x + 0.05, verbose=0).shape == (200, 1)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_a_metric_that_would_read_past_the_targets_is_an_error(gpu):
    x, _ = data(20)
    stack = [layers.Dense(4, "softmax")]
    model = build("cuda", stack=stack, loss="sparse_categorical_crossentropy", metrics=["mae"])
    before = flat(model)
    with pytest.raises(ValueError, match="'mae' takes 4 numbers per sample; y has 1"):
        model.fit(x, np.arange(20) % 4, verbose=0)
    assert np.array_equal(flat(model), before)


# ---- the same bits ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(as_gpu):
    x, y = data()
    runs = []
    for seed in range(3):  # three schedules of blocks and threads
        as_gpu(HostRuntime(seed))
        model = build("cuda")
        model.fit(x, y, batch_size=20, epochs=3, verbose=0)
        runs.append(model.get_weights())
    assert all(np.array_equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other, strict=True))


@pytest.mark.gpu
def test_ten_runs_on_a_gpu_give_the_same_bits(gpu):
    if isinstance(gpu, HostRuntime):
        pytest.skip("for real GPUs; the host's schedules are in the test above")
    x, y = data(4000, 3, 2)
    runs = []
    for _ in range(10):
        model = build("cuda", stack=[layers.Dense(256, "relu"), layers.Dense(512, "relu"), layers.Dense(2)])
        model.fit(x, y, batch_size=100, epochs=2, verbose=0)
        runs.append(flat(model))
    assert all(np.array_equal(runs[0], other) for other in runs[1:])


def test_callbacks_of_every_batch_change_no_bit_and_stop_in_time(gpu):
    x, y = data()
    seen, weights = [], []
    for hook in (None, lambda batch, logs: seen.append((batch, logs["loss"]))):
        model = build("cuda")
        model.fit(x, y, batch_size=20, epochs=2, verbose=0, callbacks=callbacks.LambdaCallback(on_train_batch_end=hook))
        weights.append(flat(model))
    assert [batch for batch, _ in seen] == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(*weights)


def test_a_learning_rate_assigned_in_a_callback_holds_from_the_next_step(gpu):
    x, y = data()
    weights = []
    for device in ("cpu", "cuda"):
        model = build(device, optimizer=optimizers.SGD(0.1))

        def slow(batch, logs, model=model):
            model.optimizer.learning_rate = 0.1 / (batch + 2)

        model.fit(x, y, batch_size=20, epochs=2, verbose=0, callbacks=callbacks.LambdaCallback(on_train_batch_end=slow))
        weights.append(flat(model))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-4, atol=1e-6)


def test_a_schedule_s_rates_are_there_at_every_step(gpu):
    x, y = data()
    weights = []
    for device in ("cpu", "cuda"):
        rate = optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        model = build(device, optimizer=optimizers.SGD(rate))
        model.fit(x, y, batch_size=20, epochs=3, verbose=0)
        assert model.optimizer.learning_rate == pytest.approx(0.1 * 0.5**4.5)
        weights.append(flat(model))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-4, atol=1e-6)
    constant = build("cpu", optimizer=optimizers.SGD(0.1))
    constant.fit(x, y, batch_size=20, epochs=3, verbose=0)
    assert not np.allclose(flat(constant), weights[0], rtol=1e-3)


def test_an_optimizer_s_constants_can_be_changed_between_fits(gpu):
    x, y = data()
    weights = []
    for device in ("cpu", "cuda"):
        model = build(device)
        model.fit(x, y, verbose=0)
        model.optimizer.beta_1 = 0.5
        model.fit(x, y, verbose=0)
        weights.append(flat(model))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-4, atol=1e-6)


# ---- graphs ----------------------------------------------------------------------------------------------------------


def test_an_epoch_is_one_recording_and_one_fetch(as_gpu, monkeypatch):
    runtime = as_gpu(HostRuntime())
    model = build("cuda")
    x, y = data(60)
    model.fit(x, y, batch_size=20, epochs=1, verbose=0)
    downloads = []
    fetch = runtime.download
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)
    runtime.download = lambda array: downloads.append(array.shape) or fetch(array)
    before = runtime.recorded
    model.fit(x, y, batch_size=20, epochs=5, verbose=0, callbacks=[])
    assert len(downloads) == 5 and runtime.recorded == before == 1
    assert "CUDA graphs" in model.program and "launches a step" in model.program


def test_long_runs_go_on_over_several_recordings_and_several_control_blocks(as_gpu, monkeypatch):
    monkeypatch.setattr(graph_program, "LONGEST", 4)
    monkeypatch.setattr(graph_program, "CAPACITY", 6)
    x, y = data(45)
    results = []
    for place in (lambda: None, lambda: as_gpu(HostRuntime())):
        place()
        model = build("cuda" if results else "cpu")
        history = model.fit(x, y, batch_size=2, epochs=2, verbose=0)  # 23 steps, the last of one sample
        results.append((flat(model), history.history["loss"]))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-5)


def test_recordings_of_many_batch_sizes_do_not_pile_up(as_gpu):
    as_gpu(HostRuntime())
    model = build("cuda")
    x, y = data()
    for size in (57, *range(1, 30, 2), 57):
        model.train_on_batch(x[:size], y[:size])
    assert len(model._runner.last.graphs._plans) == graph_program.PLANS


def test_where_nothing_can_be_recorded_it_runs_one_by_one_and_says_so(as_gpu):
    class NoRecording(HostRuntime):
        def record(self, work):
            raise KernelError("this driver records nothing")

    x, y = data()
    weights = []
    for runtime in (NoRecording(), HostRuntime()):
        as_gpu(runtime)
        model = build("cuda")
        model.fit(x, y, batch_size=20, epochs=2, verbose=0)
        weights.append(flat(model))
        if not isinstance(runtime, NoRecording):
            break
        assert "one operation after the other" in model.program and "records nothing" in model.program
    assert np.array_equal(*weights)


def test_step_by_step_records_nothing(as_gpu):
    runtime = HostRuntime()
    runtime.step_by_step = True
    as_gpu(runtime)
    model = build("cuda")
    model.fit(*data(), batch_size=20, verbose=0)
    assert runtime.launches > 20
    assert runtime.recorded == 0 and "one operation after the other" in model.program


# ---- where the data is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_data_without_room_is_streamed_and_gives_the_same_bits(as_gpu, monkeypatch, shuffle, graphs):
    monkeypatch.setattr(feed, "STAGE_BYTES", 20 * 3 * 20)  # two to three batches a stage
    x, y = data(205)
    weight = np.random.default_rng(3).uniform(0.5, 2, 205)
    weights = []
    for share in (0.75, 0.0):
        monkeypatch.setattr(feed, "RESIDENT_SHARE", share)
        runtime = as_gpu(HostRuntime())
        runtime.step_by_step = not graphs
        model = build("cuda")
        history = model.fit(x, y, sample_weight=weight, batch_size=20, epochs=2, shuffle=shuffle, verbose=0)
        weights.append((flat(model), history.history["loss"]))
        assert bool(runtime.copies) == (share == 0.0)
    assert np.array_equal(weights[0][0], weights[1][0]) and weights[0][1] == weights[1][1]


def test_streaming_with_and_without_weights_and_validation(as_gpu, monkeypatch):
    monkeypatch.setattr(feed, "STAGE_BYTES", 1000)
    x, y = data(205)
    weight = np.random.default_rng(4).uniform(0.5, 2, 205)
    losses = []
    for device, share in (("cpu", 0.75), ("cuda", 0.75), ("cuda", 0.0)):
        monkeypatch.setattr(feed, "RESIDENT_SHARE", share)
        if device == "cuda":
            as_gpu(HostRuntime())
        model = build(device)
        for how in ({}, {"sample_weight": weight}, {"validation_data": (x[:50], y[:50])}, {"sample_weight": weight}):
            history = model.fit(x, y, batch_size=20, verbose=0, **how).history
            losses.append([*history["loss"], *history.get("val_loss", [])])
    assert losses[4:8] == losses[8:]
    for got, expected in zip(losses[4:8], losses[:4], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_data_that_fits_in_pieces_only_is_streamed(as_gpu):
    class InPieces(HostRuntime):
        refused = False

        def empty(self, shape, dtype):
            if shape == (205, 3) and not self.refused:
                self.refused = True
                raise DeviceMemoryError(205 * 3 * 4)
            return super().empty(shape, dtype)

    runtime = as_gpu(InPieces())
    model = build("cuda")
    assert np.isfinite(model.fit(*data(205), batch_size=20, verbose=0).history["loss"][0]) and runtime.copies


def test_an_optimizer_can_be_replaced_between_fits(gpu):
    x, y = data()
    weights = []
    for device in ("cpu", "cuda"):
        model = build(device, optimizer=optimizers.SGD(0.1))
        model.fit(x, y, verbose=0)
        before = flat(model)
        model.optimizer = optimizers.SGD(0.0)
        model.fit(x, y, verbose=0)
        assert model.optimizer.iterations == 2 and np.array_equal(flat(model), before)
        model.optimizer = optimizers.SGD(0.2)
        model.fit(x, y, verbose=0)
        weights.append(flat(model))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-4, atol=1e-6)


def test_samples_of_several_rows_and_a_penalty_of_many_weights(gpu):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((23, 4, 5)), rng.standard_normal((23, 20))
    losses = []
    for device in ("cpu", "cuda"):
        set_random_seed(0)
        stack = [
            layers.Input((4, 5)), layers.Activation("softmax"), layers.Flatten(),
            layers.Dense(300, "tanh", kernel_regularizer="l2"), layers.Dense(20),
        ]  # fmt: skip
        model = models.Sequential(stack)
        model.compile("adam", "mse", device=device)
        losses.append(model.fit(x, y, batch_size=10, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_where_recording_fails_nothing_has_been_trained(as_gpu, monkeypatch):
    class Full(HostRuntime):
        def record(self, work):
            if self.recorded:
                raise KernelError("no room for another graph")
            return super().record(work)

    monkeypatch.setattr(graph_program, "LONGEST", 4)
    monkeypatch.setattr(feed, "STAGE_BYTES", 1000)
    x, y = data(205)
    results = []
    for kind, share in ((HostRuntime, 0.75), (Full, 0.75), (Full, 0.0)):
        monkeypatch.setattr(feed, "RESIDENT_SHARE", share)
        as_gpu(kind())
        model = build("cuda")
        model.fit(x, y, batch_size=20, verbose=0)  # 11 steps: recordings of 4 and of 3
        assert ("no room" in model.program) == (kind is Full) and model.optimizer.iterations == 11
        results.append(flat(model))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_the_history_does_not_depend_on_the_pace(gpu, monkeypatch):
    x, y = data(2000)
    losses = []
    for seconds in (1e-9, 1e-3, 10.0):
        monkeypatch.setattr(loop, "CHUNK_SECONDS", seconds)
        model = build("cuda", stack=[layers.Dense(4, "tanh"), layers.Dense(2)], metrics=["mae"])
        losses.append(model.fit(x, y, batch_size=50, epochs=2, verbose=0).history)
    assert losses[0] == losses[1] == losses[2]


def test_a_model_that_goes_to_the_cpu_never_opens_the_gpu(as_gpu, monkeypatch):
    as_gpu(HostRuntime())

    def opened(index):
        raise AssertionError("the GPU was opened")

    monkeypatch.setattr(devices, "open_runtime", opened)
    model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse", device="cpu")
    model.fit(*data(), verbose=0)


def test_weights_can_be_set_from_device_arrays(as_gpu):
    runtime = as_gpu(HostRuntime())
    model = build("cuda")
    there = []
    for w in model.get_weights():
        there.append(runtime.zeros(w.shape, w.dtype))
        runtime.upload(there[-1], w + 1)
    model.set_weights(there)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), there, strict=True))


def test_device_arrays_are_taken_without_a_copy_and_given_back(as_gpu):
    runtime = as_gpu(HostRuntime())
    x, y = data()
    there = [runtime.zeros(a.shape, a.dtype) for a in (x, y)]
    for array, values in zip(there, (x, y), strict=True):
        runtime.upload(array, values)
    model = build("cuda")
    uploads = []
    send = runtime.upload
    runtime.upload = lambda array, values: uploads.append(array.nbytes) or send(array, values)
    model.fit(*there, batch_size=20, epochs=2, verbose=0, validation_data=(there[0], y))
    assert uploads.count(x.nbytes) == 0
    other = build("cuda")
    other.fit(x, y, batch_size=20, epochs=2, verbose=0, validation_data=(x, y))
    assert np.array_equal(flat(model), flat(other))
    prediction, on_host = model.predict(there[0], verbose=0), model.predict(x, verbose=0)
    assert isinstance(prediction, DeviceArray) and type(on_host) is np.ndarray
    assert np.array_equal(np.array(prediction), on_host)
    assert model.evaluate(*there, verbose=0) == model.evaluate(x, y, verbose=0)
    assert isinstance(model.predict_on_batch(there[0]), DeviceArray)
    assert model.test_on_batch(*there) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    model.fit(*there, validation_split=0.2, verbose=0)
    with pytest.warns(UserWarning, match="NaN or Inf"):
        model.fit(there[0] * np.float32(np.nan), there[1], verbose=0)


def test_batches_that_are_on_the_device(gpu):
    x, y = data()
    model, other = build("cuda"), build("cuda")
    held = [[gpu.empty(a.shape, a.dtype) for a in (x, y)] for _ in range(3)]
    for there in held:
        for array, values in zip(there, (x, y), strict=True):
            gpu.upload(array, values)

    def batches():
        for k in range(18):
            yield tuple(a[k % 6 * 10 : k % 6 * 10 + 10] for a in held[k % 3])

    found = model.fit(batches(), epochs=3, steps_per_epoch=6, verbose=0).history
    assert found == other.fit(x, y, batch_size=10, epochs=3, shuffle=False, verbose=0).history
    assert np.array_equal(flat(model), flat(other))
    prediction = model.predict(batches(), steps=6, verbose=0)
    assert type(prediction) is type(held[0][0])
    np.testing.assert_allclose(gpu.download(prediction), other.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_device_array_for_a_model_on_the_cpu_is_an_error():
    x = HostRuntime().zeros((4, 3), np.float32)
    with pytest.raises(TypeError, match=r"on a GPU.*on the CPU.*device='cuda'"):
        build("cpu").predict(x)


def test_compile_moves_the_weights(gpu):
    x, y = data()
    model = build("cpu")
    model.fit(x, y, verbose=0)
    before, prediction = model.get_weights(), model.predict(x, verbose=0)
    for device in ("cuda", "cpu"):
        model.compile(loss="mse", optimizer="adam", device=device)
        assert model.device.name.startswith(device)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        np.testing.assert_allclose(model.predict(x, verbose=0), prediction, rtol=1e-4, atol=1e-6)
    model.compile(loss="mse", optimizer="adam", device="cuda")
    model.add(layers.Dense(1))
    model.fit(x, y[:, :1], verbose=0)
    assert model.pop().units == 1 and model.predict(x, verbose=0).shape == (57, 2)


def test_train_on_batch_and_large_predictions(gpu, monkeypatch):
    from gpumlp.engine import program

    monkeypatch.setattr(program, "PREDICT_BYTES", 100)
    x, y = data()
    results = []
    for device in ("cpu", "cuda"):
        model = build(device, metrics=["mae"])
        results.append([*model.train_on_batch(x, y), *model.test_on_batch(x, y), *model.predict(x, verbose=0).ravel()])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-6)


# ---- failures --------------------------------------------------------------------------------------------------------


def test_a_full_device_says_what_was_asked_and_keeps_the_weights(as_gpu):
    runtime = as_gpu(HostRuntime())
    x, y = data()
    model = build("cuda")
    model.fit(x, y, batch_size=10, verbose=0)
    before = model.get_weights()
    runtime.memory = 60_000
    with pytest.raises(MemoryError, match=r"no room for another .*KiB.*weights are kept.*batch_size") as caught:
        model.fit(np.tile(x, (200, 1)), np.tile(y, (200, 1)), batch_size=10_000, verbose=0)
    assert isinstance(caught.value, DeviceMemoryError) and caught.value.asked > 60_000
    runtime.memory = None
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.fit(x, y, batch_size=10, verbose=0)


def test_a_fault_in_a_kernel_names_the_operation(as_gpu):
    wrong = "rows[e / width] * width", "rows[e / width] * 1000000"
    as_gpu(HostRuntime(mutate=lambda file, text: text.replace(*wrong))).step_by_step = True
    model = build("cuda")
    with pytest.raises(HostKernelError, match=r"take: read of element \d+"):
        model.fit(*data(), batch_size=20, verbose=0)


STEP_BREAKS = {
    "a batch from the wrong place": ("step.cu", "start = (run.first + index) * run.batch", "start = index * run.batch"),
    "a batch that is too long": ("step.cu", "run.samples - start < run.batch ?", "run.samples - start < 0 ?"),
    "the steps are not counted": ("step.cu", "counters[0] + steps;", "counters[0];"),
    "a sum without its barrier": ("step.cu", "        barrier();\n    }\n    if", "    }\n    if"),
    "the rate of another step": ("step.cu", "run.scalars[count * index + i]", "run.scalars[i]"),
    "dead samples count": ("loss.cu", "r < rows ? value * weight : 0.0f", "value * weight + 1.0f"),
    "dead samples train": ("primitives.cuh", "return count < rows ? count : rows;", "return rows;"),
}  # fmt: skip


@pytest.mark.parametrize("name", STEP_BREAKS)
def test_a_broken_step_is_noticed(as_gpu, monkeypatch, name):
    runtime, found = broken(*STEP_BREAKS[name][1:])
    monkeypatch.setattr(graph_program, "LONGEST", 2)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e6)  # all steps at once, however slow the machine is
    x, y = data(45)
    results = []
    for device in ("cpu", "cuda"):
        if device == "cuda":
            as_gpu(runtime)
        model = build(device)
        try:
            one_by_one = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
            model.fit(x, y, batch_size=20, shuffle=False, verbose=0, callbacks=one_by_one)
            history = model.fit(x, y, batch_size=20, epochs=3, shuffle=False, verbose=0)
        except HostKernelError:
            return
        results.append(np.append(flat(model), history.history["loss"]))
    assert found and not np.allclose(*results, rtol=1e-4, atol=1e-6)


# ---- devices ---------------------------------------------------------------------------------------------------------


def test_auto_takes_the_gpu_and_says_why(as_gpu, monkeypatch):
    monkeypatch.setattr(devices, "has_driver", lambda: False)
    monkeypatch.setattr(devices, "gpu_problem", devices.gpu_problem.__wrapped__)
    assert devices.resolve("auto") == devices.Device("cpu", f"auto: {devices.gpu_problem().rstrip('.')}")
    as_gpu(HostRuntime())
    assert (devices.resolve("auto").name, devices.resolve("auto").kernels) == ("cuda:0", "cuda")
    assert "float64" in devices.resolve("auto", "float64").reason
    with pytest.raises(ValueError, match="float32"):
        build("cuda", dtype="float64")
    monkeypatch.setenv("GPUMLP_KERNELS", "nonsense")
    with pytest.raises(ValueError, match="GPUMLP_KERNELS must be one of auto, compiled, numpy, cuda, numba"):
        devices.resolve("auto")


def test_auto_that_falls_back_from_a_driver_says_so_once(monkeypatch):
    monkeypatch.setattr(devices, "has_driver", lambda: True)
    monkeypatch.setattr(devices, "gpu_problem", lambda index=0: "the driver is too old.")
    monkeypatch.setattr(errors, "_said", set())
    with pytest.warns(UserWarning, match="runs on the CPU: the driver is too old"):
        assert devices.resolve("auto").name == "cpu"
    devices.resolve("auto")  # a second warning would be an error here
