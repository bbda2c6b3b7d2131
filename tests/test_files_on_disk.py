"""Files as a whole: what one that cannot be written leaves behind, kills and full disks; states."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from host.runtime import HostRuntime
from saved import X, Y, fit, made, same

from gpumlp import (
    callbacks,
    config,
    layers,
    models,
    random,
    saving,
)
from gpumlp.saving import disk


# ---- the file as a whole ---------------------------------------------------------------------------------------------
def test_overwriting_is_asked_for(tmp_path, monkeypatch, capsys):
    model, path = made(), tmp_path / "m.keras"
    model.save(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=False"):
        model.save(path, overwrite=False)
    model.save(tmp_path / "new.keras", overwrite=False)

    class Terminal:
        def isatty(self):
            return True

    answers = iter(["what", "n", "y"])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda *_: next(answers))
    model.save(path, overwrite=False)
    assert path.read_bytes() == before and "already exists - overwrite?" in capsys.readouterr().out
    fit(model)
    model.save(path, overwrite=False)
    assert path.read_bytes() != before


@pytest.mark.parametrize("fails", ["open", "write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(fails, tmp_path, monkeypatch):
    path = tmp_path / "m.gpumlp"
    made().save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails == "write":
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the system itself writes a part, then refuses
    else:
        monkeypatch.setattr(os, fails, full)
    try:
        with pytest.raises(OSError, match=r"space left|too large") as caught:
            made(units=50).save(path)
    finally:
        if fails == "write":
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
    assert "what stood there is what it was" in caught.value.__notes__[0]
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.gpumlp"]


def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path):
    code = (
        "import sys, itertools, numpy as np\nfrom gpumlp.saving import write_state\n"
        "for i in itertools.count():\n    write_state(sys.argv[1], {'i': i, 'a': np.full(200_000, i)})\n"
        "    print(i, flush=True)"
    )
    path = tmp_path / "s.state"
    for wait in (0.0, 0.013, 0.031):
        child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
        child.stdout.readline()  # one is there
        time.sleep(wait)
        child.kill()
        child.communicate()
        found = saving.read_state(path)
        assert (found["a"] == found["i"]).all()


def test_links_permissions_and_what_is_no_file(tmp_path):
    model = made()
    real = tmp_path / "real.gpumlp"
    model.save(real)
    real.chmod(0o640)
    link = tmp_path / "link.gpumlp"
    link.symlink_to(real)
    fit(model)
    model.save(link)
    assert link.is_symlink() and same(models.load_model(real), model) and real.stat().st_mode & 0o777 == 0o640
    with pytest.raises(IsADirectoryError):
        disk.write(tmp_path, [b""])
    with pytest.raises(ValueError, match="no ordinary file"):
        disk.write(Path("/dev/full"), [b""])
    os.mkfifo(tmp_path / "pipe.gpumlp")
    with pytest.raises(ValueError, match="no ordinary file"):
        models.load_model(tmp_path / "pipe.gpumlp")
    for wrong in ("", "a\0b"):
        with pytest.raises(ValueError, match="named by a string"):
            disk.path_of(wrong)


def test_a_callback_saves_while_the_model_trains(tmp_path):
    model = made()

    class Saves(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save(tmp_path / f"{epoch}.keras")
            self.seen = self.model.get_weights()

    saves = Saves()
    fit(model, 3, callbacks=[saves])
    loaded = models.load_model(tmp_path / "2.keras")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), saves.seen, strict=True))
    assert models.load_model(tmp_path / "0.keras").optimizer.iterations == 3


@pytest.mark.parametrize("name", ["m.keras", "m.gpumlp"])
def test_what_one_device_has_saved_another_loads(name, as_gpu, tmp_path):
    as_gpu(HostRuntime())
    model = models.Sequential([layers.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse", device="cuda")
    fit(model, shuffle=False)
    model.save(tmp_path / name)
    loaded = models.load_model(tmp_path / name)
    assert model.device.name.startswith("cuda") and loaded.device.name == "cpu" and same(loaded, model)
    theirs, ours = fit(model, shuffle=False).history, fit(loaded, shuffle=False).history
    np.testing.assert_allclose(theirs["loss"], ours["loss"], rtol=1e-4)
    loaded.save_weights(tmp_path / "m.weights.h5")
    model.load_weights(tmp_path / "m.weights.h5")
    assert same(loaded, model) and model.optimizer.iterations == loaded.optimizer.iterations


def test_models_that_keras_2_has_written(tmp_path):
    """Their configs have no modules, and a layer's own shape with the batch."""
    import h5py

    path = tmp_path / "old.h5"
    given = models.Sequential([layers.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)])
    given.save(path)
    old = [
        {"class_name": "Dense", "config": {
            "name": "a", "trainable": True, "dtype": "float32", "batch_input_shape": [None, 4], "units": 3,
            "activation": "relu", "use_bias": True, "kernel_initializer": {
                "class_name": "GlorotUniform", "config": {"seed": None}}, "kernel_regularizer": None}},
        {"class_name": "Dense", "config": {"name": "b", "units": 1, "activation": "linear"}},
    ]  # fmt: skip
    as_input = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "i", "sparse": False}}
    training = {
        "loss": "mse", "metrics": [[{"class_name": "MeanMetricWrapper", "config": {"name": "mae", "fn": "mae"}}]],
        "optimizer_config": {"class_name": "Adam", "config": {"name": "Adam", "learning_rate": 0.01, "decay": 0.0}},
    }  # fmt: skip
    for stack in (old, [as_input, *old]):
        with h5py.File(path, "r+") as file:
            config_of = {"class_name": "Sequential", "config": {"name": "old", "layers": stack}}
            file.attrs["model_config"] = json.dumps(config_of).encode()
            file.attrs["training_config"] = json.dumps(training).encode()
        loaded = models.load_model(path, compile=False)
        assert loaded.name == "old" and same(loaded, given)
        loaded = models.load_model(path)  # its decay, which is 0, is ignored
        assert loaded.evaluate(X, Y, verbose=0, return_dict=True).keys() == {"loss", "mae"}


# ---- states ----------------------------------------------------------------------------------------------------------
def test_a_state_comes_back_as_it_was(tmp_path):
    arrays = [
        np.array(value, kind)
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4")
        for value in (1, [], [[0, 1]])
    ]
    given = {
        "arrays": arrays, "n": None, "t": True, "i": 2**90, "f": [0.1, float("nan"), float("-inf"), -0.0],
        "s": "ü\n", "deep": {"a": [{"b": (1, 2)}]}, "np": np.float32(0.5), "empty": {},
    }  # fmt: skip
    saving.write_state(tmp_path / "s", given)
    found = saving.read_state(tmp_path / "s")
    for a, b in zip(found.pop("arrays"), given.pop("arrays"), strict=True):
        assert a.dtype == b.dtype.newbyteorder("=") and a.shape == b.shape and np.array_equal(a, b)
        assert a.flags.writeable
    assert repr(found) == repr(given | {"np": 0.5})
    for wrong in ({1: 2}, {"__array__": 0}, {"a": object()}, {"a": {2, 3}}, {"a": np.array(["x"])}, {"a": 1j}):
        with pytest.raises(TypeError, match="A state has None, bools, numbers"):
            saving.write_state(tmp_path / "s", wrong)
    assert saving.read_state(tmp_path / "s")["s"] == "ü\n"


def test_random_numbers_go_on():
    stream = random.Stream()
    stream.seed(4)
    before = stream.state()
    drawn = stream.generator().random(3)
    stream.go_on_from(json.loads(json.dumps(before)))
    assert np.array_equal(stream.generator().random(3), drawn)
    for wrong in (
        {},
        {"bit_generator": "MT19937"},
        {**before, "state": {"state": -1, "inc": 1}},
        {**before, "state": 3},
    ):
        with pytest.raises(ValueError, match="state of random numbers"):
            stream.go_on_from(wrong)


def test_a_keras_file_is_a_zip_of_three(tmp_path):
    made().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        written = json.loads(archive.read("config.json"))
    assert written["class_name"] == "Sequential" and written["compile_config"]["metrics"] == ["mae"]
    assert config.floatx() == "float32"
