"""Which Program trains on a CPU, compiled or NumPy's, and what is said of it."""

import numpy as np
import pytest
from compiled import build, data, flat

from gpumlp import devices, errors, layers, models, optimizers
from gpumlp.backends import native
from gpumlp.errors import DeviceUnavailable


def test_jobs_of_any_length_are_compiled_and_give_the_same_bits(kernels):
    x, y = data()
    found = []
    for name, epochs in (("auto", (1, 1, 1, 1)), ("auto", (4,)), ("numba", (4,))):
        kernels(name, always=False)
        model = build()
        model.predict(x, verbose=0)
        assert model.program.startswith("compiled for")
        for some in epochs:
            model.fit(x, y, epochs=some, shuffle=False, verbose=0)
            assert model.program.startswith("compiled for")
        found.append(flat(model).tobytes())
    assert found[0] == found[1] == found[2]


def test_the_optimizer_s_state_goes_over_to_the_compiled_program(kernels):
    x, y = data()
    found = []
    for name in ("numpy", "auto"):
        kernels("numpy")
        model = build()
        model.fit(x, y, epochs=3, verbose=0)
        assert "numpy" in model.program
        model._runner.choose(devices.Device("cpu", "asked for", name))
        model.fit(x, y, epochs=3, verbose=0)
        assert model.program.startswith("compiled") == (name == "auto")
        found.append(flat(model))
    np.testing.assert_allclose(found[1], found[0], rtol=2e-4, atol=2e-6)


def test_float64_models_are_numpy_s(kernels):
    kernels("auto")
    model = build(dtype="float64")
    x, y = data()
    model.fit(x, y, verbose=0)
    assert "float64" in model.program and "numpy" in model.program
    kernels("numba")
    with pytest.raises(ValueError, match="float32"):
        build(dtype="float64")


def test_without_kernels_auto_is_numpy_with_a_line_and_numba_is_an_error(kernels, monkeypatch, caplog):
    monkeypatch.setattr(native, "problem", lambda: "No compiled CPU kernels came, and numba is not installed.")
    monkeypatch.setattr(errors, "_said", set())
    kernels("auto")
    x, y = data()
    for _ in range(2):
        model = build()
        model.fit(x, y, verbose=0)
    assert "numba is not installed" in model.program
    (line,) = [record.getMessage() for record in caplog.records if record.name == "gpumlp"]
    assert "which is slower: No compiled CPU kernels came" in line
    kernels("numba")
    with pytest.raises(DeviceUnavailable, match="not installed"):
        build()


def test_kernels_that_do_not_compile_are_a_warning_and_numpy(kernels, monkeypatch):
    def broken():
        raise DeviceUnavailable("no compiler today.")

    monkeypatch.setattr(native, "functions", broken)
    monkeypatch.setattr(errors, "_said", set())
    kernels("auto")
    model = build()
    x, y = data()
    with pytest.warns(UserWarning, match="no compiler today"):
        model.fit(x, y, verbose=0)
    assert "no compiler today" in model.program and np.isfinite(flat(model)).all()
    kernels("numba")
    with pytest.raises(DeviceUnavailable, match="no compiler today"):
        build().fit(x, y, verbose=0)


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning")  # on purpose
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("numbers", [{"learning_rate": 1e300}, {"clipvalue": 1e300}])
def test_numbers_beyond_float32_are_infinite_in_silence(kernels, name, numbers):
    kernels(name)
    model = build(optimizer=optimizers.SGD(**numbers))
    model.fit(*data(), verbose=0)
    assert np.isfinite(flat(model)).all() == ("clipvalue" in numbers)


def test_a_network_without_operations_is_numpy_s(kernels):
    kernels("numba")
    model = build([layers.Flatten()])
    x, _ = data()
    assert np.array_equal(model.predict(x, verbose=0), x)


def test_what_has_no_kernel_is_told_once(kernels, caplog, monkeypatch):
    kernels("numba")
    monkeypatch.setattr(errors, "_said", set())
    x = np.ones((8, 3), "f4")
    for _ in range(2):
        model = models.Sequential([layers.Input((3,)), layers.GaussianNoise(0.1), layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, x[:, :1], epochs=2, verbose=0)
    lines = [record.getMessage() for record in caplog.records if record.name == "gpumlp"]
    assert len(lines) == 1 and "slower: no compiled kernel for GaussianNoise" in lines[0]
    monkeypatch.setattr(errors, "_said", set())
    caplog.clear()
    plain = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    plain.compile("sgd", "mse")
    plain.fit(x, x[:, :1], verbose=0)
    assert not caplog.records
