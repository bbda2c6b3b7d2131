"""Files that are mapped: what is good is taken however it lies, and what has been cut is an error, not the end."""

import os
import sys

import numpy as np
import pytest
from batches import N, X, Y, bits, build, fit
from sklearn.exceptions import ConvergenceWarning

from gpumlp import callbacks, errors, layers, search
from gpumlp.maps import check_there
from gpumlp.sklearn import MLPRegressor
from gpumlp.training import blocks as blocks_module
from gpumlp.utils import Blocks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a mapped file that is cut, as Linux has it")
LARGE = np.random.default_rng(0).normal(size=(20_000, 3)).astype("f4")
TARGETS = np.stack([LARGE[:, 0], LARGE[:, 1]], 1)


def mapped(path, array):
    np.save(path, array)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("view", [np.s_[:], np.s_[::-1], np.s_[:, ::-1], np.s_[40:5:-2, 1:], np.s_[:0]], ids=str)
def test_a_whole_file_is_there_however_it_is_looked_at(view, order, tmp_path):
    array = np.array(X, order=order)
    found = mapped(tmp_path / "x.npy", array)[view]
    for value in (found, np.asarray(found), np.memmap(tmp_path / "x.npy", "f4", "r", 64, (20, 3))[::-1]):
        check_there(value)
    np.testing.assert_array_equal(found, array[view])
    if found.shape == X.shape:
        model, other = build(), build()
        assert fit(model, Blocks(found, Y, block_size=10), batch_size=8) == fit(other, array[view], Y, batch_size=8)
        assert bits(model) == bits(other)


def test_a_file_that_has_got_another_s_place_is_still_there(tmp_path):
    x = mapped(tmp_path / "x.npy", X)
    np.save(tmp_path / "other.npy", X[:2])
    os.replace(tmp_path / "other.npy", tmp_path / "x.npy")
    check_there(x)
    assert fit(build(), Blocks(x, Y)) == fit(build(), X, Y)


@pytest.mark.parametrize(("order", "rows"), [("C", slice(40, 41)), ("F", slice(10, 11)), ("C", slice(None, None, -1))])
def test_a_part_that_is_gone_is_an_error(order, rows, tmp_path):
    x = mapped(tmp_path / "x.npy", np.array(X, order=order))
    os.truncate(tmp_path / "x.npy", 128 + 40 * 12)
    with pytest.raises(OSError, match=r"x\.npy has been cut to 608 bytes, of which byte \d+ is asked for"):
        check_there(x[rows])
    if order == "C":
        check_there(x[:40])


class Cut(callbacks.Callback):
    """Cut the file after some batches."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            os.truncate(self.path, 10_000)

    def on_predict_batch_end(self, batch, logs=None):
        self.on_train_batch_end(batch)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_fit_ends_with_an_error_and_what_was_trained_stands(shuffle, order, tmp_path, monkeypatch, family):
    monkeypatch.setattr(blocks_module, "WINDOW_BYTES", 600)
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 20_000)
    x, model = mapped(tmp_path / "x.npy", np.array(LARGE, order=order)), build()
    with pytest.raises((OSError, RuntimeError), match="has been cut to 10000 bytes"):
        fit(model, x, TARGETS, batch_size=1000, shuffle=shuffle, callbacks=[Cut(tmp_path / "x.npy")])
    assert 3 <= model.optimizer.iterations < 20 and np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize("before", [True, False])
def test_a_prediction_ends_with_an_error(before, tmp_path, family):
    path = tmp_path / "x.npy"
    x, model = mapped(path, LARGE), build()
    if before:
        os.truncate(path, 10_000)
    with pytest.raises(OSError, match="has been cut to 10000 bytes"):
        model.predict(x, batch_size=1000, verbose=0, callbacks=[] if before else [Cut(path)])
    with pytest.raises(OSError, match="has been cut to 10000 bytes"):
        model.evaluate(x, TARGETS, verbose=0)
    with pytest.raises(OSError, match="has been cut to 10000 bytes"):
        model.train_on_batch(x[-N:], Y)
    with pytest.raises(OSError, match="has been cut to 10000 bytes"):
        layers.Normalization().adapt(x)


class CutLate(callbacks.Callback):
    """Cut the file when a model is trained."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        os.truncate(self.path, 1_000)


def test_a_search_fails_where_its_data_are_gone(tmp_path):
    path = tmp_path / "x.npy"
    with pytest.raises(errors.SearchFailed, match="has been cut to 1000 bytes"):
        search(build, [{}], mapped(path, LARGE), TARGETS, cv=2, verbose=0, callbacks=[CutLate(path)])


def test_scikit_learn_s_estimators_fail_where_data_are_gone(tmp_path):
    path = tmp_path / "x.npy"
    x, y = mapped(path, LARGE), TARGETS
    with pytest.warns(ConvergenceWarning):
        found = MLPRegressor(max_iter=1, batch_size=100, hidden_layer_sizes=(3,)).fit(x[:200], y[:200])
    os.truncate(path, 10_000)
    for call in (found.predict, lambda x: found.fit(x, y)):
        with pytest.raises(OSError, match="has been cut to 10000 bytes"):
            call(x)
