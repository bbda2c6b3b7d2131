"""What callbacks write: rows of logs, and TensorBoard's events."""

import csv
import errno
import os
import sys

import numpy as np
import pytest

from gpumlp import callbacks, layers, models
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype("f4")
Y = np.sin(X[:, :1])
HOW = {"batch_size": 4, "verbose": 0}


def build(**how):
    set_random_seed(0)
    model = models.Sequential([layers.Dense(2, "tanh", input_shape=(3,), name="first"), layers.Dense(1, name="last")])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **how})
    return model


def rows(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=separator))


# ---- CSVLogger -------------------------------------------------------------------------------------------------------
def test_a_row_is_there_when_its_epoch_is_over(tmp_path):
    path, seen = tmp_path / "log.csv", []
    look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(len(rows(path))))
    model = build(metrics=["mae"])
    history = model.fit(X, Y, epochs=3, callbacks=[callbacks.CSVLogger(path), look], **HOW).history
    assert seen == [2, 3, 4]
    names, *values = rows(path)
    assert names == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    for epoch, row in enumerate(values):
        assert row == [str(epoch), str(history["loss"][epoch]), str(history["mae"][epoch]), "NA", "NA"]
    assert b"\r\n" in path.read_bytes()  # as Keras's


def test_rows_are_added_or_written_anew(tmp_path):
    path = tmp_path / "log.tsv"
    model, log = build(), callbacks.CSVLogger(str(path), separator="\t", append=True)
    for _ in range(2):
        model.fit(X, Y, epochs=2, validation_freq=[2], validation_data=(X, Y), callbacks=log, **HOW)
    found = rows(path, "\t")
    assert [row[0] for row in found] == ["epoch", "0", "1", "0", "1"]
    assert found[0] == ["epoch", "loss", "val_loss"]  # the first epoch had none
    assert [row[2] == "NA" for row in found] == [False, True, False, True, False]
    model.fit(X, Y, callbacks=callbacks.CSVLogger(path), **HOW)
    assert len(rows(path)) == 2


@pytest.mark.parametrize("append", [True, False])
def test_rows_are_those_of_training_that_was_not_cut_off(tmp_path, append):
    class Stop(Exception):
        pass

    def stop(epoch, logs):
        if epoch == 2:
            raise Stop

    def fit(name, *more):
        backup = callbacks.BackupAndRestore(tmp_path / f"{name} backup")
        log = callbacks.CSVLogger(tmp_path / name, append=append)
        build().fit(X, Y, epochs=4, callbacks=[log, *more, backup], **HOW)

    for name in ("alone", "cut"):
        (tmp_path / name).write_text("what was there\r\n")
    fit("alone")
    with pytest.raises(Stop):
        fit("cut", callbacks.LambdaCallback(on_epoch_end=stop))
    assert len(rows(tmp_path / "cut")) == 4  # of which the backup does not have the last
    fit("cut")
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "alone").read_bytes()
    assert (tmp_path / "cut").read_bytes().startswith(b"what" if append else b"epoch")


def test_texts_and_several_numbers_are_written_as_keras_does(tmp_path):
    def more(epoch, logs):
        logs |= {"note": "a, b", "each": np.array([1.5, 2.0])}

    path = tmp_path / "log.csv"
    hooks = [callbacks.LambdaCallback(on_epoch_end=more), callbacks.CSVLogger(path)]
    history = build().fit(X, Y, callbacks=hooks, **HOW).history
    assert rows(path)[1][:2] == ["0", '"[1.5, 2.0]"'] and "a, b" in rows(path)[1]
    assert history["note"] == ["a, b"] and history["each"][0].tolist() == [1.5, 2.0]


def test_a_file_that_cannot_be_written_says_so(tmp_path):
    model = build()
    before = model.get_weights()
    with pytest.raises(FileNotFoundError, match="CSVLogger cannot write"):
        model.fit(X, Y, callbacks=callbacks.CSVLogger(tmp_path / "none" / "log.csv"), **HOW)
    assert np.array_equal(before[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="one character"):
        callbacks.CSVLogger("log.csv", separator=";;")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_ends_training_with_the_epoch_in_the_history():
    model = build()
    with pytest.raises(OSError, match="CSVLogger cannot write") as caught:
        model.fit(X, Y, epochs=3, callbacks=callbacks.CSVLogger("/dev/full", append=True), **HOW)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == "/dev/full"
    assert model.history.epoch == [0] and model.optimizer.iterations == 4


# ---- TensorBoard -----------------------------------------------------------------------------------------------------
def events(folder):
    """Return what is in the files of a folder: by tag a list of (step, values)."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    from tensorboard.util import tensor_util

    found = {}
    for path in sorted(folder.iterdir()):
        for event in loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                kind = value.metadata.plugin_data.plugin_name
                found.setdefault((value.tag, kind), []).append((event.step, tensor_util.make_ndarray(value.tensor)))
    return found


@pytest.fixture
def board(tmp_path):
    pytest.importorskip("tensorboard")
    return lambda **how: callbacks.TensorBoard(tmp_path / "logs", **how), tmp_path / "logs"


def test_epochs_and_validations_are_written(board):
    make, folder = board
    model = build(metrics=["mae"])
    history = model.fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=make(), **HOW).history
    train, held_out = events(folder / "train"), events(folder / "validation")
    assert sorted(tag for tag, _ in train) == ["epoch_learning_rate", "epoch_loss", "epoch_mae"]
    assert {kind for _, kind in [*train, *held_out]} == {"scalars"}
    expected = [(epoch, np.float32(value)) for epoch, value in enumerate(history["loss"])]
    assert train["epoch_loss", "scalars"] == expected
    assert [step for step, _ in held_out["evaluation_loss_vs_iterations", "scalars"]] == [4, 8]
    assert [value for _, value in held_out["epoch_mae", "scalars"]] == list(map(np.float32, history["val_mae"]))


def test_batches_histograms_and_speed_are_written_where_asked_for(board):
    make, folder = board
    tensorboard = make(update_freq=3, histogram_freq=2, write_steps_per_second=True, write_graph=False)
    model, before = build(), []
    keep = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: before.append(model.get_weights()[0]))
    note = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(note="no number"))
    model.fit(X, Y, epochs=3, callbacks=[note, tensorboard, keep], **HOW)
    found = events(folder / "train")
    assert [step for step, _ in found["batch_loss", "scalars"]] == [3, 6, 9, 12]
    assert all(value > 0 for name in ("epoch", "batch") for _, value in found[f"{name}_steps_per_second", "scalars"])
    histograms = found["first/kernel/histogram", "histograms"]
    assert [step for step, _ in histograms] == [0, 2]
    assert histograms[1][1][:, 2].sum() == 6 and histograms[1][1][0, 0] == before[2].min()
    assert tensorboard.get_state() == {"batches": 12}
    assert not (folder / "validation").exists()


def test_what_has_no_meaning_here_is_said(board):
    with pytest.warns(UserWarning, match="does not read write_images, profile_batch"):
        board[0](write_images=True, profile_batch=(2, 4))
    with pytest.raises(TypeError, match="update_freq must be"):
        board[0](update_freq="step")
    with pytest.raises(OSError, match="TensorBoard cannot write"):
        board[1].write_text("a file, where there is to be a folder")
        build().fit(X, Y, callbacks=board[0](), **HOW)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(ImportError, match=r"pip install 'gpumlp\[tensorboard\]'"):
        callbacks.TensorBoard()


def test_a_checkpoint_says_before_the_first_step_what_is_missing(monkeypatch, tmp_path):
    model = build()
    before = model.get_weights()
    monkeypatch.setitem(sys.modules, "h5py", None)
    for name, alone in (("m.keras", False), ("m.h5", False), ("m.weights.h5", True)):
        keep = callbacks.ModelCheckpoint(tmp_path / name, save_weights_only=alone)
        with pytest.raises(ImportError, match=r"pip install 'gpumlp\[keras\]'"):
            model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=keep)
    assert all(map(np.array_equal, before, model.get_weights())) and not list(tmp_path.iterdir())
    for name, alone in (("m.gpumlp", False), ("m.safetensors", True)):
        keep = callbacks.ModelCheckpoint(tmp_path / name, save_weights_only=alone)
        model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=keep)
        assert (tmp_path / name).exists()
