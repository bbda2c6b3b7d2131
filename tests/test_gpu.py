"""What only a real GPU can show; skipped without one. The kernels and models are in the tests beside this."""

import numpy as np
import pytest
from host.runtime import HostRuntime

from gpumlp import activations, check, devices, layers, models
from gpumlp.backends.cuda_backend import CudaBackend
from gpumlp.errors import DeviceMemoryError, DeviceUnavailable
from gpumlp.utils import set_random_seed

pytestmark = pytest.mark.gpu


@pytest.fixture
def cupy(runtime):
    if isinstance(runtime, HostRuntime):
        pytest.skip("for real GPUs")
    return pytest.importorskip("cupy")


def build(units=64, **how):
    set_random_seed(0)
    model = models.Sequential([layers.Dense(units, "relu", input_shape=(3,)), layers.Dense(2)])
    model.compile("adam", "mse", device="cuda", **how)
    return model


def data(n=1000):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 3)).astype(np.float32), rng.standard_normal((n, 2)).astype(np.float32)


def test_arrays_of_other_libraries_are_taken_without_a_copy(cupy, runtime, monkeypatch):
    x, y = data()
    expected = build().fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"]
    makers = {"cupy": lambda a: a}
    try:
        import torch

        makers["torch"] = torch.from_dlpack
    except ImportError:
        pass
    try:
        from numba import cuda

        makers["numba"] = cuda.as_cuda_array
    except ImportError:
        pass
    there = [cupy.asarray(a) for a in (x, y)]
    sent = []
    upload = runtime.upload
    monkeypatch.setattr(runtime, "upload", lambda array, values: sent.append(array.nbytes) or upload(array, values))
    for name, make in makers.items():
        model = build()
        history = model.fit(*map(make, there), epochs=2, shuffle=False, verbose=0)
        assert history.history["loss"] == expected, name
        assert isinstance(model.predict(make(there[0]), verbose=0), cupy.ndarray)
    assert x.nbytes not in sent and y.nbytes not in sent


def test_work_on_another_stream(cupy):
    x, y = data()
    results = []
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        with stream:
            model = build()
            model.fit(x, y, epochs=2, shuffle=False, verbose=0)
            results.append(model.predict(x, verbose=0))
    assert np.array_equal(*results)


def test_streamed_data_gives_the_bits_of_resident_data(cupy, monkeypatch):
    from gpumlp.engine import feed

    x, y = data(20_000)
    losses = []
    for share in (0.75, 0.0):
        monkeypatch.setattr(feed, "RESIDENT_SHARE", share)
        monkeypatch.setattr(feed, "STAGE_BYTES", 1 << 16)
        losses.append(build().fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_full_memory_is_an_error_and_the_model_goes_on(cupy, runtime):
    x, y = data()
    model = build()
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    with pytest.raises(DeviceMemoryError, match="no room for another"):
        runtime.empty((1 << 40,), np.float32)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.fit(x, y, verbose=0)
    model.set_weights([cupy.asarray(w) for w in before])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_more_than_2_to_the_31_elements(cupy, runtime):
    count = (1 << 31) + 5
    if runtime.free_bytes() < 3 * 4 * count:
        pytest.skip("this GPU has too little memory")
    backend = CudaBackend(runtime)
    x, y = cupy.full((count, 1), 2.0, cupy.float32), cupy.full((count, 1), cupy.nan, cupy.float32)
    backend.affine(x, 3.0, 1.0, y)
    backend.activation_backward(activations.relu, x, y, None)
    assert float(y.min()) == float(y.max()) == 7.0 and float(x[-1, 0]) == 2.0


def test_a_gpu_that_is_not_there(cupy):
    with pytest.raises(DeviceUnavailable, match="number 99 is none of them"):
        devices.resolve("cuda:99")


NUMBA_CASES = [*check.dense_sweep(check.SMALL_SHAPES), *check.other_cases(small=True)]


@pytest.mark.parametrize("case", NUMBA_CASES, ids=lambda c: f"{c.operation}: {c.shape}")
def test_the_numba_kernels(cupy, case, numba_kernels):
    result = check.hold(case, numba_kernels, "numba")
    assert result.passed, f"{result.error:.3g} times its bound at {result.worst}"


@pytest.fixture(scope="module")
def numba_kernels():
    if problem := devices.gpu_problem():
        pytest.skip(problem)
    try:
        return devices.Device("cuda:0", "", "numba").backend()
    except DeviceUnavailable as error:
        pytest.skip(str(error))


def test_a_model_on_numba_kernels(cupy, monkeypatch):
    x, y = data()
    losses = [build().fit(x, y, shuffle=False, verbose=0).history["loss"][0]]
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    model = build()
    losses.append(model.fit(x, y, shuffle=False, verbose=0).history["loss"][0])
    assert model.device.kernels == "numba" and "numba kernels" in model.program
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
