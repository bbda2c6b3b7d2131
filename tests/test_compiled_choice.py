"""Which Program trains on a CPU, compiled or NumPy's, and what is said of it."""

import numpy as np
import pytest
from compiled import build, data, flat

from gpumlp import callbacks, errors, layers, models
from gpumlp.backends import native
from gpumlp.engine import dispatch
from gpumlp.errors import DeviceUnavailable


def test_short_jobs_are_numpy_s_and_long_ones_are_compiled(kernels, monkeypatch):
    kernels("auto", always=False)
    x, y = data()
    model = build()
    model.fit(x, y, epochs=2, verbose=0)
    assert "numpy" in model.program and "GPUMLP_KERNELS=numba" in model.program
    before = model.get_weights()
    model.fit(x, y, epochs=10**6, verbose=0, callbacks=StopAtOnce())
    assert model.program.startswith("compiled")
    assert not np.array_equal(before[0], model.get_weights()[0])
    model.fit(x, y, epochs=1, verbose=0)  # and stay so, whatever the next job is
    assert model.program.startswith("compiled")
    model.compile(loss="mse", optimizer="adam")
    model.fit(x, y, epochs=1, verbose=0)
    assert "numpy" in model.program


class StopAtOnce(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_many_short_jobs_of_one_model_are_a_long_one(kernels, monkeypatch):
    kernels("auto")
    monkeypatch.setattr(dispatch, "LONG", 0.02)
    x, y = data()
    model = build()
    programs = []
    for _ in range(100):
        model.train_on_batch(x, y)
        programs.append(model.program.startswith("compiled"))
    assert not programs[0] and programs[-1] and programs == sorted(programs)


def test_the_optimizer_s_state_goes_over_to_the_compiled_program(kernels, monkeypatch):
    x, y = data()
    found = []
    for name in ("numpy", "auto"):
        kernels(name)
        monkeypatch.setattr(dispatch, "LONG", 1.0)
        model = build()
        model.fit(x, y, epochs=3, verbose=0)
        assert "numpy" in model.program
        monkeypatch.setattr(dispatch, "LONG", model._runner._asked[True] + 1e-9)
        model.fit(x, y, epochs=3, verbose=0)
        assert (model.program.startswith("compiled")) == (name == "auto")
        found.append(flat(model))
    np.testing.assert_allclose(found[1], found[0], rtol=2e-4, atol=2e-6)


def test_float64_models_are_numpy_s(kernels):
    kernels("auto")
    model = build(dtype="float64")
    x, y = data()
    model.fit(x, y, epochs=10**6, verbose=0, callbacks=StopAtOnce())
    assert "float64" in model.program and "numpy" in model.program
    kernels("numba")
    with pytest.raises(ValueError, match="float32"):
        build(dtype="float64")


def test_without_numba_auto_is_numpy_and_numba_is_an_error(kernels, monkeypatch):
    monkeypatch.setattr(native, "problem", lambda: "The compiled CPU kernels need numba, which is not installed.")
    kernels("auto")
    model = build()
    x, y = data()
    model.fit(x, y, epochs=10**6, verbose=0, callbacks=StopAtOnce())
    assert "numba, which is not installed" in model.program
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
        model.fit(x, y, epochs=10**6, verbose=0, callbacks=StopAtOnce())
    assert "no compiler today" in model.program and np.isfinite(flat(model)).all()
    kernels("numba")
    with pytest.raises(DeviceUnavailable, match="no compiler today"):
        build().fit(x, y, verbose=0)


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
