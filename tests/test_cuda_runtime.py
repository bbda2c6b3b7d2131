"""The runtime for real GPUs, line by line on stand-ins for CuPy and cuda.core; and how a GPU is found, or why not."""

from functools import partial

import numpy as np
import pytest
from host import fake_cuda
from host.runtime import HostRuntime

from gpumlp import activations, check, cli, devices, errors, layers, models
from gpumlp.backends import cache_archive, compiler, cuda_formulas
from gpumlp.backends.cuda_backend import TILES, CudaBackend
from gpumlp.backends.runtime import words
from gpumlp.errors import DeviceMemoryError, DeviceUnavailable, KernelError
from gpumlp.utils import set_random_seed

opened = devices.open_runtime  # which remembers what it opened


@pytest.fixture
def fake(monkeypatch):
    opened.cache_clear()
    yield from faked(monkeypatch)
    opened.cache_clear()


def faked(monkeypatch):
    made, module = fake_cuda.install(monkeypatch)
    made.module = module
    monkeypatch.setattr(devices, "has_driver", lambda: True)
    monkeypatch.setattr(devices, "cupy_wheels", lambda: ["cupy-cuda13x"])
    yield made


problem = devices.gpu_problem.__wrapped__  # which would remember its answer


def train(runtime, as_gpu, **fit):
    as_gpu(runtime)
    set_random_seed(0)
    model = models.Sequential(
        [layers.Dense(17, "relu", input_shape=(3,)), layers.Dropout(0.2, seed=1), layers.Dense(2)]
    )
    model.compile("adam", "mse", metrics=["mae"], device="cuda")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((45, 3)), rng.standard_normal((45, 2))
    history = model.fit(x, y, batch_size=20, epochs=2, verbose=0, **fit)
    return model, history.history, model.predict(x, verbose=0)


def test_kernels_get_their_arguments_as_they_declare_them(fake):
    backend = CudaBackend(fake.module.CudaRuntime(0))
    for case in [*check.dense_cases((20, 36, 20), activations.relu), *check.other_cases(small=True)]:
        result = check.hold(case, backend, "cuda")
        assert result.passed, (case, result.worst)
    assert backend.runtime.arch == "sm_90" and len(fake.launches) > 100


def test_a_model_trains_to_the_same_bits_as_through_the_host_runtime(fake, as_gpu):
    ours, theirs = train(fake.module.CudaRuntime(0), as_gpu), train(HostRuntime(), as_gpu)
    assert all(np.array_equal(a, b) for a, b in zip(ours[0].get_weights(), theirs[0].get_weights(), strict=True))
    assert ours[1] == theirs[1] and np.array_equal(ours[2], theirs[2])
    assert "CUDA graphs" in ours[0].program


def test_data_is_streamed_through_pinned_memory(fake, as_gpu, monkeypatch):
    from gpumlp.engine import feed

    resident = train(fake.module.CudaRuntime(0), as_gpu)
    monkeypatch.setattr(feed, "RESIDENT_SHARE", 0.0)
    monkeypatch.setattr(feed, "STAGE_BYTES", 500)
    runtime, pinned = fake.module.CudaRuntime(0), []
    take = runtime.pinned
    monkeypatch.setattr(runtime, "pinned", lambda shape, dtype: pinned.append(shape) or take(shape, dtype))
    streamed = train(runtime, as_gpu)
    assert len(pinned) == 4  # x and y, twice
    beside = runtime._copies.ptr
    copies = [i for i, (what, stream, _) in enumerate(fake.order) if (what, stream) == ("copy", beside)]
    assert len(copies) > 8
    for n, i in enumerate(copies):
        what, stream, end = fake.order[i + 1]
        assert (what, stream) == ("record", beside)  # every copy's end is marked, and its readers wait for the mark
        assert ("wait", 0, end) in fake.order[i:]
        before = [j for j in copies[:n] if fake.order[j][2] == fake.order[i][2]]
        if before:  # a copy to the same place waits for a mark behind what read it
            what, stream, mark = fake.order[i - 1]
            assert (what, stream) == ("wait", beside) and ("record", 0, mark) in fake.order[before[-1] : i]
    assert streamed[1] == resident[1] and np.array_equal(streamed[2], resident[2])


def test_step_by_step_waits_for_every_operation(fake, as_gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_SYNC", "1")
    runtime = fake.module.CudaRuntime(0)
    assert runtime.step_by_step
    waits = []
    monkeypatch.setattr(runtime, "synchronize", lambda: waits.append(1))
    model, *_ = train(runtime, as_gpu)
    assert len(waits) == len(fake.launches) > 50
    assert "one operation after the other" in model.program


@pytest.mark.parametrize("protocol", ["__cuda_array_interface__", "__dlpack__"])
def test_arrays_of_other_libraries_are_taken_by_their_protocol(fake, as_gpu, protocol):
    runtime = as_gpu(fake.module.CudaRuntime(0))
    model, _, expected = train(runtime, as_gpu)
    there = runtime.zeros((45, 3), np.float32)
    runtime.upload(there, np.random.default_rng(0).standard_normal((45, 3)))

    class Other:
        array = there

        def __getattr__(self, name):
            if name == "__cuda_array_interface__" and protocol == name:
                return {"shape": (45, 3)}
            if name in ("__dlpack__", "__dlpack_device__") and protocol == "__dlpack__":
                return lambda: (2, 0)
            raise AttributeError(name)

    prediction = model.predict(Other(), verbose=0)
    assert runtime.owns(prediction) and np.array_equal(np.array(prediction), expected)
    model.compile("adam", "mse", device="cpu")
    with pytest.raises(TypeError, match="on a GPU, and the model computes on the CPU"):
        model.predict(Other())


def test_full_memory_says_what_was_asked_and_what_there_is(fake):
    runtime = fake.module.CudaRuntime(0)
    fake.room = 3000
    with pytest.raises(DeviceMemoryError, match=r"another 3\.9 KiB; 2\.9 KiB of 1024\.0 GiB are free"):
        runtime.zeros(1000, np.float32)


def test_a_fault_names_the_operation_and_what_to_do(fake):
    runtime = fake.module.CudaRuntime(0)
    backend = CudaBackend(runtime)
    y = backend.zeros((4, 4), np.float32)
    backend.activation_forward(activations.tanh, y, y)
    mark = runtime.mark()
    fake.broken = "cudaErrorIllegalAddress: an illegal memory access was encountered"
    waits = (
        runtime.synchronize, lambda: runtime.download(y), lambda: runtime.empty(3, np.float32),
        lambda: runtime.upload(y, np.zeros((4, 4), np.float32)), lambda: runtime.reached(mark),
        lambda: runtime.upload_beside(y, np.zeros((4, 4), np.float32), None),
    )  # fmt: skip
    for wait in waits:
        with pytest.raises(KernelError, match=r"failed in elementwise.*IllegalAddress.*is lost.*GPUMLP_SYNC=1"):
            wait()


def test_a_launch_that_the_driver_refuses_is_named(fake, monkeypatch):
    runtime = fake.module.CudaRuntime(0)

    refused = (fake_cuda.driver.CUresult.CUDA_ERROR_INVALID_VALUE,)
    monkeypatch.setattr(fake_cuda.driver, "cuLaunchKernelEx", lambda *arguments: refused)
    y = runtime.zeros((4, 4), np.float32)
    with pytest.raises(KernelError, match=r"elementwise could not be launched on cuda:0: CUDA_ERROR_INVALID"):
        CudaBackend(runtime).activation_forward(activations.tanh, y, y)


def take_rows(runtime, shared, cooperative, blocks=2):
    """Launch the smallest kernel with so much shared memory; return what it took."""
    out, source = runtime.zeros((2, 3), np.float32), runtime.zeros((2, 3), np.float32)
    rows = runtime.zeros(2, np.int64)
    runtime.upload(source, np.arange(6).reshape(2, 3))
    runtime.upload(rows, [1, 0])
    defines = {"THREADS": 32, "WIDTHS": "1,256,1"}
    runtime.launch("take.cu", "take", defines, (blocks, 1), (out, source, rows, 2, 3), shared, cooperative)
    return np.array(runtime.download(out))


def test_shared_memory_beyond_what_every_kernel_has_is_asked_for(fake, monkeypatch):
    runtime, asked = fake.module.CudaRuntime(0), []
    allow = fake_cuda.driver.cuKernelSetAttribute
    monkeypatch.setattr(fake_cuda.driver, "cuKernelSetAttribute", lambda *a: asked.append(a[1]) or allow(*a))
    assert runtime.shared_bytes == HostRuntime.shared_bytes == 232448
    for shared in (0, 1000, 48 << 10, 50_000, 49_900, 60_000):
        for cooperative in (False, True):
            assert take_rows(runtime, shared, cooperative).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert asked == [50_000, 60_000]  # what is allowed stays so
    with pytest.raises(
        KernelError, match=r"take could not be launched.*232449 bytes.*INVALID_VALUE \(at most 232448\)"
    ):
        take_rows(runtime, 232449, True)


@pytest.mark.parametrize("runtime", ["cuda", "host"])
def test_a_cooperative_launch_of_too_many_blocks_is_a_kernel_error(fake, runtime):
    runtime = fake.module.CudaRuntime(0) if runtime == "cuda" else HostRuntime()
    take_rows(runtime, 0, True, blocks=8)
    take_rows(runtime, 0, False, blocks=9)
    with pytest.raises(KernelError, match=r"COOPERATIVE_LAUNCH_TOO_LARGE|9 blocks cannot be resident on 8"):
        take_rows(runtime, 0, True, blocks=9)


@pytest.mark.parametrize(("capability", "dependent"), [("89", 0), ("90", 1)])
def test_a_kernel_may_start_while_the_one_before_it_ends_where_the_gpu_can(fake, capability, dependent):
    fake.capability = capability
    runtime = fake.module.CudaRuntime(0)
    counters = runtime.zeros(2, np.int64)
    for defines in ({}, {"DEPENDENT": 1}):
        runtime.launch("step.cu", "advance", {"THREADS": 32, "VECTOR": 0, **defines}, (1, 1), (counters, 3))
    assert runtime.download(counters)[0] == 6 and fake.dependent == dependent


def test_a_struct_is_its_members_and_a_kernel_that_declares_other_ones_does_not_get_them(fake):
    runtime = fake.module.CudaRuntime(0)
    array = runtime.zeros(4, np.float32)
    assert words(runtime, (array, 7, None)) == [*runtime.pointer(array), 7, 0, 0, 0]
    text = "struct Two {\n    Global<float> a, b;  // of these, two\n    long long n;\n};"
    assert fake.size_of("Two", text) == 8 * 7
    assert fake.size_of("Some", "struct Some {\n    Global<float> at[3];\n    float of[4];\n};") == 8 * 9 + 16
    tile = {**TILES["small"].defines, "VECTOR": 0, **cuda_formulas.slope(activations.linear).header}
    for short in ((array, array), (array,) * 5):
        with pytest.raises(KernelError, match=r"dense_backward could not be launched.*Gradients to got"):
            runtime.launch("dense_backward.cu", "dense_backward", tile, (1, 1), (short, (), (), (), (0,)))


def test_a_recording_keeps_its_arrays_alive(fake):
    runtime = fake.module.CudaRuntime(0)
    backend = CudaBackend(runtime)
    arrays = [backend.zeros((40, 40), np.float32) for _ in range(2)]
    there = runtime.pointer(arrays[1])
    work = partial(backend.activation_forward, activations.sigmoid, *arrays)
    recording = runtime.record(work)
    del arrays, work
    recording.replay()
    assert fake.bounds(there[0]) == there and recording.nodes == 1
    del recording
    with pytest.raises(AssertionError, match="points to no allocation"):
        fake.bounds(there[0])


def test_another_thread_launches_while_one_records(fake):
    from threading import Thread

    runtime = fake.module.CudaRuntime(0)
    backend = CudaBackend(runtime)
    ours, theirs = (backend.zeros((4, 4), np.float32) for _ in range(2))
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:  # while this thread only prepares
            other = Thread(target=backend.activation_forward, args=(activations.sigmoid, theirs, theirs))
            other.start()
            other.join()
        backend.activation_forward(activations.sigmoid, ours, ours)

    recording = runtime.record(work)
    assert (runtime.download(theirs) == 0.5).all() and (runtime.download(ours) == 0).all()
    recording.replay()
    assert (runtime.download(ours) == 0.5).all()


def test_what_a_recording_needs_is_compiled_once_and_before_it(fake, as_gpu, monkeypatch):
    made, captured = [], []
    compile_one = fake.module.compiled

    def compiled(file, defines, arch, cache):
        made.append((file, *defines.values()))
        captured.append(fake.streams[-1].captured is not None)
        return compile_one(file, defines, arch, cache)

    monkeypatch.setattr(fake.module, "compiled", compiled)
    train(fake.module.CudaRuntime(0), as_gpu)
    assert len(made) == len(set(made)) > 5 and not any(captured)


def test_what_was_imported_is_not_compiled(fake, as_gpu, monkeypatch, tmp_path):
    """With the compiler's real place in the cache, and no compiler."""
    elsewhere, codes = fake.module.compiled, {}

    def compiled(file, defines, arch, cache):
        key = compiler.key_of(compiler.text_of(file, defines), arch, compiler.version())
        return codes.setdefault(key, elsewhere(file, defines, arch, cache))

    monkeypatch.setattr(fake.module, "compiled", compiled)
    _, expected, _ = train(fake.module.CudaRuntime(0), as_gpu)
    cache_archive.write(tmp_path / "cache.zip", "a test", codes.items())

    def missing(text, arch, name):
        raise RuntimeError("there is no compiler")

    monkeypatch.setattr(fake.module, "compiled", compiler.compiled)
    monkeypatch.setattr(compiler, "compile_text", missing)
    monkeypatch.setattr(compiler, "lacking", lambda code, text: [])  # the stand-in's machine code has no symbols
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(KernelError, match="no compiler"):
        train(fake.module.CudaRuntime(0), as_gpu)
    assert cli.main(["cache", "import", str(tmp_path / "cache.zip")]) == 0
    assert train(fake.module.CudaRuntime(0), as_gpu)[1] == expected


def test_a_capture_that_fails_is_a_kernel_error(fake):
    runtime = fake.module.CudaRuntime(0)
    array = runtime.zeros(4, np.float32)
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 2:
            raise fake_cuda.CudaError("cudaErrorStreamCaptureInvalidated")

    with pytest.raises(KernelError, match=r"could not be recorded.*CaptureInvalidated"):
        runtime.record(work)
    runtime.download(array)  # and the stream is as it was


# ---- finding a GPU, or not -------------------------------------------------------------------------------------------


def test_a_gpu_that_can_be_used_has_no_problem(fake):
    assert problem() is None


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"driver": 12040}, r"driver is too old: it supports CUDA 12\.4.*for CUDA 13.*Update the driver"),
        ({"devices": 0}, r"shows 0 GPUs.*CUDA_VISIBLE_DEVICES"),
        ({"capability": "61"}, r"compute capability is 6\.1; the kernels need 7\.5"),
    ],
)
def test_a_gpu_that_cannot_be_used_says_why(fake, setting, words, monkeypatch):
    for name, value in setting.items():
        setattr(fake, name, value)
    import re

    assert re.search(words, problem())
    monkeypatch.setattr(devices, "gpu_problem", problem)
    with pytest.raises(DeviceUnavailable, match=words):
        devices.resolve("cuda")


def test_a_gpu_that_cannot_be_opened_is_told_and_auto_takes_the_cpu(fake, monkeypatch):
    fake.broken = "cudaErrorDevicesUnavailable: all CUDA-capable devices are busy"
    words = r"cuda:0 cannot be opened \(CudaError: .*busy"
    monkeypatch.setattr(fake.module.CudaRuntime, "__init__", lambda self, index: fake.check())
    monkeypatch.setattr(devices, "gpu_problem", problem)
    monkeypatch.setattr(errors, "_said", set())
    with pytest.warns(UserWarning, match=words):
        assert devices.resolve("auto").name == "cpu"
    with pytest.raises(DeviceUnavailable, match=words):
        devices.resolve("cuda")


def test_two_cupy_wheels_are_told(fake, monkeypatch):
    monkeypatch.setattr(devices, "cupy_wheels", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    assert "CuPy is installed 2 times (cupy-cuda12x, cupy-cuda13x)" in problem()


def test_missing_packages_are_told(fake, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cuda.core", None)
    assert "cuda.core cannot be imported" in problem() and "gpumlp[cuda13]" in problem()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "CuPy cannot be imported" in problem()


@pytest.mark.parametrize("version", ["0.7.0", "1.1.1", "2.0.0", "10.2.0"])
def test_a_cuda_core_of_another_version_is_told_and_nothing_is_computed_with_it(fake, monkeypatch, version):
    import sys

    monkeypatch.setattr(sys.modules["cuda.core"], "__version__", version)
    monkeypatch.setattr(devices, "gpu_problem", problem)
    monkeypatch.setattr(errors, "_said", set())
    words = rf"cuda\.core {version} is installed.*pip install 'cuda-core>=1\.2,<2'"
    with pytest.raises(DeviceUnavailable, match=words):
        devices.resolve("cuda")
    with pytest.warns(UserWarning, match=words):
        assert devices.resolve("auto").name == "cpu"
    assert f"cuda.core {version} is installed" in cli.smoke_compile()


@pytest.mark.parametrize("version", ["1.2.0", "1.12.0", "1.3.0.dev1+g0"])
def test_a_cuda_core_that_will_do_is_no_problem(fake, monkeypatch, version):
    import sys

    monkeypatch.setattr(sys.modules["cuda.core"], "__version__", version)
    assert problem() is None


def test_a_missing_nvrtc_is_told(fake, monkeypatch):
    def missing():
        raise DeviceUnavailable("NVRTC, which compiles the kernels, cannot be used (no library).")

    monkeypatch.setattr(compiler, "architectures", missing)
    assert "NVRTC" in problem()
    assert "NVRTC" in cli.smoke_compile()


def test_no_driver_is_told_before_anything_is_imported(monkeypatch):
    monkeypatch.setattr(devices, "has_driver", lambda: False)
    assert "no NVIDIA driver" in problem()


# ---- the command -----------------------------------------------------------------------------------------------------


def test_check_prints_a_table_and_its_exit_status_tells(as_gpu, capsys):
    as_gpu(HostRuntime())
    assert cli.main(["check", "--device", "cuda", "--kernels", "cuda", "--small"]) == 0
    out = capsys.readouterr().out
    assert "dense_backward" in out and "cuda, large" in out and "FAIL" not in out and ", 0 failed" in out
    as_gpu(HostRuntime(mutate=lambda file, text: text.replace("rates[i] = scalars[i]", "rates[i] = 0.5f")))
    assert cli.main(["check", "--device", "cuda", "--kernels", "cuda", "--small"]) == 1
    assert "FAIL" in capsys.readouterr().out
    assert cli.main(["check", "--device", "cpu", "--small"]) == 0
    assert cli.main(["check", "--device", "gpu"]) == 2


def test_info_tells_what_stands_in_the_way(capsys, monkeypatch):
    monkeypatch.setattr(devices, "has_driver", lambda: False)
    monkeypatch.setattr(devices, "gpu_problem", problem)
    monkeypatch.delenv("GPUMLP_DEVICE")
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "none is used: there is no NVIDIA driver" in out and "compiles a kernel in" in out
    assert "device        cpu (auto: there is no NVIDIA driver" in out


def test_info_asks_for_nothing_that_a_machine_without_a_gpu_has_no_use_for(monkeypatch, capsys):
    from gpumlp.backends import compiler

    def lacks():
        raise devices.DeviceUnavailable("NVRTC cannot be imported. Install it.")

    monkeypatch.setattr(compiler, "architectures", lacks)
    monkeypatch.setattr(devices, "has_driver", lambda: False)
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "nothing needs it" in out and "nstall it" not in out and "pip" not in out


def test_info_and_check_bear_a_wrong_environment(monkeypatch, capsys):
    monkeypatch.setenv("GPUMLP_DEVICE", "cuda")
    monkeypatch.setattr(devices, "gpu_problem", lambda index=0: "it is not there.")
    assert cli.main(["info"]) == 0
    assert "device        none: device 'cuda' (from GPUMLP_DEVICE) cannot be used" in capsys.readouterr().out
    assert cli.main(["check", "--device", "cpu", "--kernels", "cuda"]) == 2
    assert "no cuda kernels of the device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["compiled", "numba"])  # the latter is older
def test_compiled_kernels_have_one_name_on_the_cpu(word, monkeypatch, capsys):
    monkeypatch.setattr(check, "dense_sweep", lambda shapes: check.dense_cases((3, 5, 2), activations.relu))
    monkeypatch.setattr(check, "other_cases", lambda small: ())
    assert cli.main(["check", "--device", "cpu", "--kernels", word]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines() if "PASS" in line} == {"compiled"}
    monkeypatch.setenv("GPUMLP_KERNELS", word)
    assert devices.resolve("cpu").kernels == "compiled"
    assert cli.cpu_rows()["cpu kernels"] == "compiled, from GPUMLP_KERNELS"
    with pytest.raises(ValueError, match="compiled kernels, which compute in float32; the model is float64"):
        devices.resolve("cpu", "float64")


@pytest.mark.parametrize("word", ["compiled", "numpy"])
def test_kernels_of_the_cpu_are_none_of_a_gpu(word, as_gpu, monkeypatch, capsys):
    as_gpu(HostRuntime())
    assert cli.main(["check", "--device", "cuda", "--kernels", word]) == 2
    assert f"no {word} kernels of the device cuda:0" in capsys.readouterr().err
    monkeypatch.setenv("GPUMLP_KERNELS", word)
    assert devices.resolve("auto").name == "cpu" and devices.resolve("auto").reason == f"auto: GPUMLP_KERNELS={word}"
    with pytest.raises(ValueError, match=f"GPUMLP_KERNELS={word}: these kernels are the CPU's"):
        devices.resolve("cuda")


def test_check_goes_on_after_a_fault(as_gpu, capsys):
    as_gpu(HostRuntime(mutate=lambda file, text: text.replace("rows[e / width] * width", "rows[e / width] * 1000000")))
    assert cli.main(["check", "--device", "cuda", "--kernels", "cuda", "--small"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  take: read of element" in out and "update rmsprop" in out and " failed (" in out
