"""Training that was cut off goes on with the same bits; checkpoints; what a damaged or foreign backup leads to."""

import errno
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import killed
import numpy as np
import pytest

from gpumlp import callbacks, layers, metrics, models, optimizers, utils
from gpumlp.callbacks.backup import FILE, completed
from gpumlp.saving import disk
from gpumlp.saving.state import read_state, write_state

X = np.random.default_rng(0).normal(size=(70, 4)).astype("f4")
Y = np.sin(X[:, :1] * 2)


@pytest.fixture(autouse=True)
def process():
    """Each test is as a process of its own, and whatever clears this begins another one."""
    completed.clear()
    return completed


class Stop(Exception):
    """What cuts training off."""


class CutOff(callbacks.Callback):
    """Raise once, at an epoch's beginning or behind a batch."""

    def __init__(self, epoch, batch=None):
        self.at, self.wants_batches, self.done = (epoch, batch), batch is not None, False

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.at == (epoch, None) and not self.done:
            self.done = True
            raise Stop

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.epoch, batch) and not self.done:
            self.done = True
            raise Stop


def build(seed=1, rate=0.01, **how):
    utils.set_random_seed(seed)
    model = models.Sequential(
        [layers.Input((4,)), layers.Dense(17, "relu"), layers.Dropout(0.3), layers.Dense(1)], **how
    )
    model.compile(optimizers.Adam(rate, use_ema=True), "mse", metrics=["mae"])
    return model


def hooks(folder, freq="epoch"):
    return [
        callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        callbacks.BackupAndRestore(folder, save_freq=freq, delete_checkpoint=False),
        callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.02),
    ]


def came_of(model, history):
    return (
        history.epoch, history.history, [w.tobytes() for w in model.get_weights()], model.optimizer.iterations,
        float(model.optimizer.learning_rate), np.random.random(), random.random(),
    )  # fmt: skip


def of_arrays(batch=9, **how):
    return lambda: {"x": X[:50], "y": Y[:50], "batch_size": batch, **how}


def of_generator():
    def batches():
        rng = np.random.default_rng(3)
        while True:
            rows = rng.integers(0, 50, 8)
            yield X[rows], Y[rows] + 0.1 * np.random.normal(size=(8, 1))

    return {"x": batches(), "steps_per_epoch": 5}


def of_list():
    return {"x": [], "steps_per_epoch": 4} | {"x": [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 56, 8)]}


class Rows(utils.PyDataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return X[5 * i : 5 * i + 5], Y[5 * i : 5 * i + 5]


DATA = {
    "arrays": of_arrays(), "arrays in order": of_arrays(shuffle=False), "arrays over epochs": of_arrays(
        steps_per_epoch=2), "generator": of_generator, "dataset": lambda: {"x": Rows()},
    "dataset over epochs": lambda: {"x": Rows(), "steps_per_epoch": 5},
}  # fmt: skip


def train(folder, data, cut=None, freq="epoch", epochs=8, model=None, **how):
    model = build(**how) if model is None else model
    own = hooks(folder, freq) + ([cut] if cut else [])
    history = model.fit(**data(), epochs=epochs, validation_data=(X[50:], Y[50:]), callbacks=own, verbose=0)
    return came_of(model, history)


@pytest.mark.filterwarnings("ignore:Your input ran out", "ignore:The data ran out")
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize("cut", [(3, None), (2, 1), (0, 0)], ids=str)
def test_it_ends_with_the_bits_of_training_that_was_not_cut_off(tmp_path, data, cut):
    alone = train(tmp_path / "alone", data)
    with pytest.raises(Stop):
        train(tmp_path / "cut", data, CutOff(*cut))
    assert train(tmp_path / "cut", data) == alone  # everything anew, as a process that begins again


@pytest.mark.filterwarnings("ignore:The data ran out")
@pytest.mark.parametrize("data", [DATA[k] for k in ("arrays", "arrays over epochs", "generator", "dataset")])
@pytest.mark.parametrize(("freq", "cut"), [(1, (2, 1)), (3, (1, 4)), (4, (3, None))])
def test_it_goes_on_within_an_epoch(tmp_path, data, freq, cut):
    alone = train(tmp_path / "alone", data, freq=freq)
    with pytest.raises(Stop):
        train(tmp_path / "cut", data, CutOff(*cut) if data is not DATA["arrays over epochs"] else CutOff(3), freq=freq)
    assert train(tmp_path / "cut", data, freq=freq) == alone


def test_training_that_had_stopped_stays_so(tmp_path, process):
    alone = train(tmp_path / "alone", DATA["arrays"], epochs=60)
    assert len(alone[0]) < 60  # it stopped early; its backup has that

    class AtTheEnd(callbacks.Callback):
        def on_train_end(self, logs=None):
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "cut", DATA["arrays"], AtTheEnd(), epochs=60)
    process.clear()
    assert train(tmp_path / "cut", DATA["arrays"], epochs=60) == alone


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_longer_fit_goes_on_where_a_shorter_one_has_ended(tmp_path, process, dtype):
    alone = train(tmp_path / "alone", DATA["arrays"], epochs=5, dtype=dtype)
    train(tmp_path / "cut", DATA["arrays"], epochs=2, dtype=dtype)
    process.clear()
    found = train(tmp_path / "cut", DATA["arrays"], epochs=5, dtype=dtype)
    assert found[0] == alone[0] == [0, 1, 2, 3, 4]  # averages replaced the weights at the end of the shorter one


def test_all_families_of_kernels_go_on_with_their_bits(tmp_path, family):
    alone = train(tmp_path / "alone", DATA["arrays over epochs"], epochs=4)
    with pytest.raises(Stop):
        train(tmp_path / "cut", DATA["arrays over epochs"], CutOff(2), epochs=4)
    assert train(tmp_path / "cut", DATA["arrays over epochs"], epochs=4) == alone


def test_processes_that_are_killed(tmp_path):
    rng, done = random.Random(1), 0
    for kind in killed.KINDS[:3]:
        folder = tmp_path / kind
        for name in ("alone", "killed"):
            (folder / name).mkdir(parents=True)
        done += killed.trial(kind, 3, rng, folder)
    assert done >= 3


def test_the_file_goes_when_training_has_ended(tmp_path, process):
    model = build()
    backup = callbacks.BackupAndRestore(tmp_path / "b")
    model.fit(X, Y, epochs=2, callbacks=[backup], verbose=0)
    assert not (tmp_path / "b").exists()
    process.clear()
    with pytest.raises(Stop):
        model.fit(X, Y, epochs=4, callbacks=[backup, CutOff(1)], verbose=0)
    (tmp_path / "b" / f".{FILE}.0123.part").write_bytes(b"what a kill left")
    assert sorted(p.name for p in (tmp_path / "b").iterdir())[-1] == FILE
    assert len(model.fit(X, Y, epochs=4, callbacks=[backup], verbose=0).epoch) == 4
    assert not (tmp_path / "b").exists()


def test_the_fits_of_a_script_have_files_of_their_own(tmp_path, process):
    steps = []

    def script(cut=None):
        model = build()
        count = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
        for epochs in (3, 4):
            own = [callbacks.BackupAndRestore(tmp_path), count, *([cut] if cut and epochs == 4 else [])]
            model.fit(X[:48], Y[:48], batch_size=8, epochs=epochs, callbacks=own, verbose=0)
        return [w.tobytes() for w in model.get_weights()], model.optimizer.iterations

    alone = script()
    process.clear()
    with pytest.raises(Stop):
        script(CutOff(2))
    assert [p.name for p in tmp_path.iterdir()] == ["backup-1.gpumlp"]
    process.clear()
    assert script() == alone and alone[1] == 42
    process.clear()
    steps.clear()
    model = build()
    for epochs, cut in ((3, None), (4, CutOff(2)), (4, None)):  # one that is cut off in a process that lives on
        own = [callbacks.BackupAndRestore(tmp_path), *([cut] if cut else [])]
        try:
            model.fit(X[:48], Y[:48], batch_size=8, epochs=epochs, callbacks=own, verbose=0)
        except Stop:
            assert model.optimizer.iterations == 18 + 12
    assert ([w.tobytes() for w in model.get_weights()], model.optimizer.iterations) == alone


def test_a_model_that_is_made_otherwise_is_refused_with_what_differs(tmp_path, process):
    def made(activation="relu", loss="mse", trainable=True, judged=("mae",), rate=0.01, kind=optimizers.Adam):
        utils.set_random_seed(1)
        first = layers.Dense(17, activation, trainable=trainable)
        model = models.Sequential([layers.Input((4,)), first, layers.Dropout(0.3), layers.Dense(1)])
        model.compile(kind(rate), loss, metrics=list(judged))
        return model

    def fit(model, epochs=3, cut=None):
        own = [callbacks.BackupAndRestore(tmp_path), *([cut] if cut else [])]
        return model.fit(X, Y, epochs=epochs, callbacks=own, verbose=0)

    with pytest.raises(Stop):
        fit(made(), cut=CutOff(1))
    for how, match in (
        ({"activation": "tanh"}, "layers 0 activation was relu, and is tanh"), ({"loss": "mae"}, "loss"),
        ({"trainable": False}, "layers 0 trainable was True, and is False"), ({"judged": ["mse"]}, "metrics 0"),
        ({"judged": ["mae", "mse"]}, "metrics 1"), ({"kind": optimizers.Nadam}, "optimizer was Adam, and is Nadam"),
    ):  # fmt: skip
        model = made(**how)
        before = model.get_weights()
        with pytest.raises(ValueError, match=f"another model: .*{match}"):
            fit(model)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert len(fit(made(rate=0.5), epochs=5).epoch) == 5


def cut_off(folder, **how):
    with pytest.raises(Stop):
        train(folder, DATA["arrays"], CutOff(2), **how)


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    cut_off(tmp_path)
    path = tmp_path / FILE
    good = path.read_bytes()
    state = read_state(path)

    def refused(match, **how):
        model = how.pop("model", None) or build(seed=5)
        before, steps = model.get_weights(), model.optimizer.iterations
        with pytest.raises(ValueError, match=match):
            model.fit(**{**DATA["arrays"](), "verbose": 0, "epochs": 4, "validation_data": (X[50:], Y[50:]),
                         "callbacks": hooks(tmp_path), **how})  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        assert model.optimizer.iterations == steps

    path.write_bytes(good[:-5])
    refused(FILE)
    path.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    refused("damaged")
    for part, match in (("position", "position"), ("fit", "fit"), ("callbacks", "callbacks"), ("random", "random")):
        broken = dict(state)
        broken["position"] = {k: v for k, v in state["position"].items() if k != part}
        write_state(path, {k: v for k, v in broken.items() if k != part})
        refused(match)
    path.write_bytes(good)
    refused("batches of 9 out of 50", batch_size=10)
    refused("other data", validation_data=None)
    refused("other callbacks", callbacks=[callbacks.BackupAndRestore(tmp_path)])
    other = models.Sequential([layers.Input((4,)), layers.Dense(3), layers.Dense(1)])
    other.compile(optimizers.Adam(use_ema=True), "mse", metrics=["mae"])
    refused("another model", model=other)
    wrong = read_state(path)
    wrong["position"]["fit"]["sources"][0]["order"] = np.full(50, 1 << 40)
    write_state(path, wrong)
    refused("numbers of samples")
    assert path.exists()


def test_metrics_of_the_host_and_bad_arguments_say_what_to_do(tmp_path):
    model = build()
    model.compile("adam", "mse", metrics=[metrics.R2Score()])
    with pytest.raises(ValueError, match="save_freq='epoch'"):
        model.fit(X, Y, callbacks=[callbacks.BackupAndRestore(tmp_path, save_freq=1)], verbose=0)
    for wrong, match in (({"backup_dir": ""}, "backup_dir"), ({"backup_dir": "b", "save_freq": 0}, "save_freq")):
        with pytest.raises(ValueError, match=match):
            callbacks.BackupAndRestore(**wrong)


def test_a_disk_that_cannot_be_written_ends_training_and_leaves_the_backup(tmp_path, monkeypatch):
    cut_off(tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def read_only(path, flags, *more):
        raise OSError(errno.EROFS, "Read-only file system", path)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Read-only"):
        patched.setattr(disk.os, "open", read_only)
        train(tmp_path, DATA["arrays"])
    assert (tmp_path / FILE).read_bytes() == before
    assert train(tmp_path, DATA["arrays"])[:5] == train(tmp_path / "alone", DATA["arrays"])[:5]


def test_a_full_disk_ends_training_and_leaves_the_backup_before(tmp_path, monkeypatch):
    script = textwrap.dedent(
        f"""
        import resource, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_resuming as t
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        class Full(t.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            t.train({str(tmp_path)!r}, t.DATA["arrays"], Full())
        except OSError as error:
            print("ended:", error.strerror, *error.__notes__)
        """
    )
    monkeypatch.setenv("GPUMLP_KERNELS", "numpy")  # here and there: a full disk takes no kernels either
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert "ended: File too large" in done.stdout and "what stood there is what it was" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [FILE]
    assert read_state(tmp_path / FILE)["position"]["fit"]["epoch"] == 2
    alone = train(tmp_path / "alone", DATA["arrays"])
    assert train(tmp_path, DATA["arrays"])[:5] == alone[:5]


# ---- checkpoints -----------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:Skipping variable loading")  # of an optimizer that has no steps
@pytest.mark.parametrize("end", [".keras", ".weights.h5", ".safetensors", ".gpumlp"])
def test_a_checkpoint_after_each_epoch_by_its_name(tmp_path, end):
    if end in (".keras", ".weights.h5"):
        pytest.importorskip("h5py")
    weights = end in (".weights.h5", ".safetensors")
    model = build()
    seen = {}
    look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.setdefault(epoch, model.get_weights()))
    path = str(tmp_path / ("m-{epoch:02d}-{loss:.2f}" + end))
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[look, callbacks.ModelCheckpoint(path, save_weights_only=weights)])
    files = sorted(tmp_path.iterdir())
    assert [f.name[:5] for f in files] == ["m-01-", "m-02-", "m-03-"]
    other = build(seed=9)
    for epoch, file in enumerate(files):
        if weights:
            other.load_weights(file)
        else:
            other = models.load_model(file)
        assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), seen[epoch], strict=True))


def test_the_best_alone_is_saved(tmp_path, capsys):
    scores = iter([3.0, 1.0, 2.0, 0.5])
    score = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(score=next(scores)))
    path = str(tmp_path / "best-{epoch}.gpumlp")
    kept = callbacks.ModelCheckpoint(
        path, "score", verbose=1, save_best_only=True, mode="min", initial_value_threshold=2.5
    )
    model = build()
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[score, kept])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-2.gpumlp", "best-4.gpumlp"] and kept.best == 0.5
    shown = capsys.readouterr().out
    assert "Epoch 1: score did not improve from 2.50000" in shown
    assert "Epoch 2: score improved from 2.50000 to 1.00000, saving model to" in shown
    again = callbacks.ModelCheckpoint(path, "score", save_best_only=True, mode="min")
    again.set_state(kept.get_state())
    assert again.best == 0.5


def test_a_checkpoint_after_so_many_batches(tmp_path):
    kept = callbacks.ModelCheckpoint(tmp_path / "m-{epoch}-{batch}.safetensors", save_weights_only=True, save_freq=3)
    build().fit(X[:40], Y[:40], batch_size=8, epochs=2, verbose=0, callbacks=[kept])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m-1-3.safetensors", "m-2-1.safetensors", "m-2-4.safetensors"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"filepath": "m.txt"}, "must end in .keras"), ({"filepath": "m.weights.h5"}, "save_weights_only=False"),
        ({"filepath": "m.keras", "save_weights_only": True}, "must end in .weights.h5"),
        ({"filepath": "m.keras", "save_freq": 0}, "save_freq"),
        ({"filepath": "m.keras", "save_freq": "batch"}, "save_freq must be 'epoch'"),
    ],
)  # fmt: skip
def test_bad_checkpoints_say_so(arguments, match):
    with pytest.raises(ValueError, match=match):
        callbacks.ModelCheckpoint(**arguments)


def test_a_name_that_the_logs_do_not_have(tmp_path):
    with pytest.raises(ValueError, match=r"'val_loss'.*there are loss, mae, epoch"):
        build().fit(X, Y, verbose=0, callbacks=[callbacks.ModelCheckpoint(tmp_path / "{val_loss}.gpumlp")])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_s_folder_is_made(tmp_path):
    build().fit(X, Y, verbose=0, callbacks=[callbacks.ModelCheckpoint(tmp_path / "a" / "b" / "{epoch}.keras")])
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["1.keras"]


def test_a_checkpoint_is_written_where_nobody_can_say_whether_it_is_the_best(tmp_path):
    kept = callbacks.ModelCheckpoint(tmp_path / "m.keras", monitor="val_loss", save_best_only=True)
    with pytest.warns(UserWarning, match="ModelCheckpoint watches 'val_loss', which is not in the logs"):
        build().fit(X, Y, verbose=0, callbacks=[kept])
    assert (tmp_path / "m.keras").exists() and kept.best is None
