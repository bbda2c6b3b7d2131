"""Machine code of formulas: compiled once, kept on disk, loaded without Numba; what cannot be had is told in words."""

import ctypes
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gpumlp import errors, formulas, layers, losses, metrics, models, ops, regularizers
from gpumlp.backends import instruction_set, job, llvm, native
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.disk_cache import DiskCache
from gpumlp.errors import DeviceUnavailable
from gpumlp.utils import set_random_seed

ROOT = Path(__file__).parents[1]
HERE = instruction_set.chosen()


def bent(z, much):
    return z / ops.sqrt(1.0 + much * (z * z))


CODE = Code("forward", formulas.activation(bent, None, {"much": 0.25}).forward)


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """A function that forgets what is loaded, as another process would; and how often something was compiled."""
    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native.shipped, "library", lambda instructions: None)
    texts, assembled = [], llvm.assembled
    monkeypatch.setattr(llvm, "assembled", lambda text, machine: texts.append(text) or assembled(text, machine))

    def forget():
        monkeypatch.setattr(native, "_formulas", {})
        monkeypatch.setattr(native, "_formula_names", {})
        return texts

    forget()
    return forget


def hold():
    z, much = np.linspace(-3, 3, 37, dtype=np.float32), np.array([0.25], np.float32)
    y = np.empty_like(z)
    (address,) = native.formula_addresses([CODE], HERE)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 6)(address)
    call(y.ctypes.data, z.ctypes.data, 37, 1, 37, much.ctypes.data)
    np.testing.assert_allclose(y, z / np.sqrt(1 + 0.25 * z**2), rtol=1e-6)


def test_a_formula_is_compiled_once(anew):
    hold()
    again = Code("forward", formulas.activation(bent, None, {"much": 3.0}).forward)  # of another constant
    assert native.formula_addresses([again, CODE], HERE) == 2 * native.formula_addresses([CODE], HERE)
    anew()
    hold()
    assert len(anew()) == 1


def test_the_same_text_is_the_same_function():
    def other(z, much):
        return z / ops.sqrt(1.0 + much * (z * z))

    assert Code("forward", formulas.activation(other, None, {"much": 0.5}).forward).name == CODE.name
    assert Code("back", CODE.formula).name != CODE.name


@pytest.mark.parametrize("content", [b"", b"\x7fELF\2\1 torn", None])
def test_what_is_no_code_of_the_formula_is_made_anew(anew, monkeypatch, content):
    hold()
    empty = llvm.assembled("", llvm.target_machine(HERE))
    monkeypatch.setattr(DiskCache, "get", lambda self, key: empty if content is None else content)
    anew()
    hold()
    assert len([text for text in anew() if text]) == 2


def test_without_numba():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import test_native_formulas; test_native_formulas.hold()\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'numba'])"
    )
    arguments = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(arguments, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['numba']\n", "")


@dataclass(frozen=True)
class Length(regularizers.L1L2):
    """A penalty that is no sum over weights."""

    @property
    def formula(self):
        return formulas.penalty(lambda w: ops.sqrt(ops.sum(ops.square(w))), {})


def model_with(regularizer=None):
    model = models.Sequential([layers.Input((3,)), layers.Dense(2, kernel_regularizer=regularizer)])
    model.compile("sgd", "mse")
    return model


def test_what_is_not_compiled_is_left_to_numpy(monkeypatch):
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    x = np.ones((4, 3), np.float32)
    model = model_with(Length(0.1, 0.1))
    model.fit(x, x[:, :2], verbose=0)
    assert "by the numpy kernels" in model.program and "must be a sum over weights" in model.program


def test_formulas_that_cannot_be_loaded_are_told_or_left_to_numpy(anew, monkeypatch):
    def fail(text, machine):
        raise DeviceUnavailable("LLVM is not well.")

    x = np.ones((4, 3), np.float32)
    monkeypatch.setattr(llvm, "assembled", fail)
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    monkeypatch.setattr(native, "functions", lambda: native.Kernels({}, HERE))
    with pytest.raises(DeviceUnavailable, match="LLVM is not well"):
        model_with().fit(x, x[:, :2], verbose=0)
    monkeypatch.setenv("GPUMLP_KERNELS", "auto")
    monkeypatch.setattr(errors, "_said", set())
    with pytest.warns(UserWarning, match="LLVM is not well"):
        model_with().fit(x, x[:, :2], verbose=0)


def test_columns_that_are_not_there_are_refused():
    class Second(metrics.Metric):
        formula = formulas.metric(lambda t, p: p[:, 1] - t[:, 2], {}, False)

    table = job.Job(1, 1, HERE)
    with pytest.raises(ValueError, match="reads column 1 of the predictions, counted from 0; there are 1"):
        table.set_objective(losses.MeanSquaredError(), [Second()], 1, 3)
    with pytest.raises(ValueError, match="reads column 2 of the targets, counted from 0; there are 2"):
        table.set_objective(losses.MeanSquaredError(), [Second()], 2, 2)


def test_a_model_of_own_functions(monkeypatch):
    def mish(z):
        return z * ops.tanh(ops.softplus(z))

    def siren(z):
        return ops.sin(2.0 * z)

    def likelihood(t, p):
        size = ops.softplus(p[:, 1]) + 0.1
        return ops.log(size) + ops.square((t[:, 0] - p[:, 0]) / size)

    def error(t, p):
        return ops.mean(ops.absolute(t - p) ** 1.5, -1)

    def small(w):
        return 0.01 * ops.sum(ops.log1p(w * w))

    def losses_of(kernels, dtype):
        monkeypatch.setenv("GPUMLP_KERNELS", kernels)
        set_random_seed(1)
        stack = [layers.Dense(32, mish), layers.Dense(17, siren), layers.Dense(2, kernel_regularizer=small)]
        model = models.Sequential([layers.Input((3,)), *stack], dtype=dtype)
        model.compile("rmsprop", likelihood, metrics=[error])
        x = np.random.default_rng(0).standard_normal((100, 3))
        found = model.fit(x, np.sin(x[:, :2]), epochs=3, batch_size=32, verbose=0).history
        assert model.program.startswith("compiled") == (kernels == "numba")
        return np.array([*found["loss"], *found["error"]])

    np.testing.assert_allclose(losses_of("numba", "float32"), losses_of("numpy", "float64"), rtol=2e-5, atol=2e-6)
