"""Data that are read block by block: the same bits as arrays in the same order, what is held, and what goes wrong."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from batches import N, W, X, Y, bits, build, fit

from gpumlp import callbacks, layers, models, random
from gpumlp.engine.feed import Dataset
from gpumlp.ensemble import Ensemble
from gpumlp.training import blocks as blocks_module
from gpumlp.training import parquet, windows
from gpumlp.training.data import Batches
from gpumlp.utils import Blocks

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory, and a mapped file, as Linux has them")


class Elsewhere:
    """An array that is read by slices alone, and notes which."""

    def __init__(self, array, chunks=None):
        self._array, self.shape, self.dtype, self.chunks, self.notes = array, array.shape, array.dtype, chunks, []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.notes.append((rows.start, rows.stop))
        return self._array[rows]


@pytest.fixture
def small_windows(monkeypatch):
    """Have 57 rows be more than is held, and blocks be some rows."""
    monkeypatch.setattr(blocks_module, "WINDOW_BYTES", 600)
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 200)


# ---- the same numbers as arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("size", "mixed"), [(1, 1), (7, 3), (10, 2), (57, 1), (100, None)])
def test_as_they_stand_numbers_are_those_of_arrays_to_the_bit(size, mixed, weighted, family):
    measured = {"metrics": ["mae"], "weighted_metrics": ["mse"]}
    one, other, weights = build(**measured), build(**measured), {"sample_weight": W} if weighted else {}
    expected = fit(one, X, Y, batch_size=10, epochs=2, validation_data=(X[:25], Y[:25]), **weights)
    held_out = Blocks(X[:25], Y[:25], block_size=4)
    data = Blocks(X, Y, W if weighted else None, size, mixed)
    assert fit(other, data, batch_size=10, epochs=2, validation_data=held_out) == expected
    assert bits(one) == bits(other) and one.program.split(":")[0] == other.program.split(":")[0]
    assert other.evaluate(data, batch_size=10, verbose=0) == one.evaluate(X, Y, 10, verbose=0, **weights)
    np.testing.assert_allclose(other.predict(data, verbose=0), one.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def ordered(key, size, mixed, epoch):
    """Return the order of an epoch, one window after the other, as it is documented, from all rows at once."""
    rows = [np.arange(start, min(start + size, N)) for start in range(0, N, size)]
    order = np.random.default_rng([key, epoch]).permutation(len(rows))
    found = []
    for number, group in enumerate(np.array_split(order, -(-len(rows) // mixed)), 1):
        window = np.concatenate([rows[block] for block in group])
        found.append(np.random.default_rng([key, epoch, number]).permutation(window))
    return np.concatenate(found)


@pytest.mark.parametrize("batch", [4, 10, 40])
@pytest.mark.parametrize(("size", "mixed"), [(3, 4), (7, 3), (10, 6)])
def test_mixed_they_are_those_of_arrays_in_that_order(size, mixed, batch, family):
    model = build()
    random.seed(5)
    found = fit(model, Blocks(X, Y, W, size, mixed), batch_size=batch, epochs=3, shuffle=True)
    random.seed(5)
    key = int(random.generator().integers(2**63))
    other, losses = build(), []
    for epoch in range(3):
        rows = ordered(key, size, mixed, epoch)
        assert sorted(rows) == list(range(N)) and (rows != np.arange(N)).any()
        losses += fit(other, X[rows], Y[rows], sample_weight=W[rows], batch_size=batch)["loss"]
    assert found["loss"] == losses and bits(model) == bits(other)


def test_rows_of_distant_blocks_come_side_by_side():
    """Data in the order of their classes: each window has several, and no epoch the order of the one before."""
    rows, seen = np.arange(1000, dtype="f4")[:, None], []
    data, batches = Blocks(rows, rows, block_size=50, shuffle_blocks=4), Batches(1000, 200, None, False)
    source = windows.Windows(data, batches, True, lambda parts, name: Dataset(*parts))
    for _ in range(2):
        source.begin_epoch()
        while stretch := source.take(1):
            part = stretch.order[stretch.first * 200 : stretch.last * 200]
            seen.append(stretch.data.x[part, 0])
    for window in seen:
        assert len(set(window // 50)) == 4 and (np.diff(window) < 0).mean() > 0.3
    assert not np.array_equal(np.concatenate(seen[:5]), np.concatenate(seen[5:]))


def two_classes(mixed_up):
    """10 000 rows of each class, the one after the other, or by chance."""
    y = np.repeat([0, 1], 10_000).astype("f4")
    return np.random.default_rng(0).permutation(y)[:, None] if mixed_up else y[:, None]


@pytest.mark.parametrize(("mixed_up", "size", "mixed", "warns"), [
    (False, 500, 4, True), (False, 100, 20, True), (False, 20, 100, False), (False, 500, 40, False),
    (True, 500, 4, False), (True, 100, 20, False),
])  # fmt: skip
def test_a_sorted_file_of_which_few_blocks_are_mixed_is_a_warning(mixed_up, size, mixed, warns):
    y = two_classes(mixed_up)
    model = models.Sequential([layers.Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(Blocks(y, y, None, size, mixed), batch_size=500, epochs=2, verbose=0)
        model.evaluate(Blocks(y, y, None, size, mixed), batch_size=500, verbose=0)
    assert [str(w.message).startswith("Each block has targets of its own") for w in told] == [True] * warns
    assert all(w.filename == __file__ for w in told)


@pytest.mark.parametrize("mixed", [2, 8, 30])
def test_how_far_windows_are_from_all_is_estimated_from_each(mixed):
    rng = np.random.default_rng(0)
    y = (np.sort(rng.normal(size=20_000)) + 0.3 * rng.normal(size=20_000)).reshape(40, 500)
    drawn = [rng.permutation(40)[:mixed] for _ in range(2000)]
    actual = np.std([y[blocks].mean() for blocks in drawn]) / y.std()
    sizes = np.full(mixed, 500)
    found = [windows._drift(y[blocks].reshape(-1), sizes, 40) for blocks in drawn[:300]]
    assert 0.75 < np.median(found) / actual < 1.25


@pytest.mark.parametrize("how", ["one by one", "slowly", "all at once"])
def test_how_far_is_read_ahead_changes_no_bit(how, monkeypatch):
    one, data = build(), Blocks(X, Y, W, 5, 3)
    expected = fit(one, data, batch_size=4, epochs=3, shuffle=True)
    other = build()
    if how == "slowly":
        monkeypatch.setattr(windows.Windows, "read_ahead", lambda *given: None)
    if how == "all at once":
        take = windows.Windows.take
        monkeypatch.setattr(windows.Windows, "take", lambda self, *given: (ahead(self), take(self, *given))[1])

        def ahead(source):
            source.read_ahead(1, lambda: False)

    look = [callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)] if how == "one by one" else None
    assert fit(other, data, batch_size=4, epochs=3, shuffle=True, callbacks=look) == expected
    assert bits(one) == bits(other)


def test_an_epoch_of_some_steps_goes_on_where_the_last_one_ended(family):
    one, data = build(), Blocks(X, Y, None, 7, 3)
    fit(one, data, batch_size=10, epochs=1, shuffle=True)
    other = build()
    fit(other, data, batch_size=10, epochs=3, steps_per_epoch=2, shuffle=True)
    assert bits(one) == bits(other) and other.optimizer.iterations == 6
    with pytest.warns(UserWarning, match="ran out after 2 of 4 steps"):
        fit(build(), data, batch_size=10, epochs=2, steps_per_epoch=4)
    assert other.evaluate(data, batch_size=10, steps=2, verbose=0) == other.evaluate(X[:20], Y[:20], 10, verbose=0)
    assert len(other.predict(data, batch_size=10, steps=2, verbose=0)) == 20


def test_an_ensemble_reads_them_once_for_all():
    x = Elsewhere(X)
    data = Blocks(x, Y, None, 10, 2)
    members = Ensemble(lambda k: build(), 3)
    members.fit(data, batch_size=10, shuffle=False, verbose=0)
    assert len(x.notes) == 1 + 6  # the first one to know shapes by
    assert all(member.optimizer.iterations == 6 for member in members.members)
    expected = np.stack([member.predict(X, 32, verbose=0) for member in members.members])
    np.testing.assert_array_equal(members.predict_members(data), expected)
    with pytest.raises(ValueError, match="bootstrap draws from arrays"):
        members.fit(data, bootstrap=True, verbose=0)


# ---- what is passed as it is -----------------------------------------------------------------------------------------


def zarr_array(folder, array):
    import zarr

    return zarr.create_array(folder / "a.zarr", data=array, chunks=(6, *array.shape[1:]))


def hdf5_array(folder, array):
    h5py = pytest.importorskip("h5py")
    return h5py.File(folder / "a.h5", "w").create_dataset("a", data=array)


def mapped(folder, array):
    np.save(folder / "a.npy", array)
    return np.load(folder / "a.npy", mmap_mode="r")


def elsewhere(folder, array):
    return Elsewhere(array)


@pytest.mark.parametrize("kind", [zarr_array, hdf5_array, mapped, elsewhere])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_large_arrays_of_files_are_cut_into_blocks(kind, dtype, tmp_path, small_windows, monkeypatch):
    read, of = [], Blocks.read
    monkeypatch.setattr(Blocks, "read", lambda self, block: read.append(block) or of(self, block))
    array = (X * 100).astype(dtype)
    given, one, other = kind(tmp_path, array), build(), build()
    expected = fit(one, Blocks(array, Y, block_size=6, shuffle_blocks=3), batch_size=10, shuffle=True)
    random.seed(0)
    read.clear()
    model = build()
    found = fit(model, given, Y, batch_size=10, shuffle=True, validation_data=(given, Y))
    assert len(read) > 8 and found.keys() == {"loss", "val_loss"}
    if kind is zarr_array:
        assert found["loss"] == expected["loss"] and bits(model) == bits(one)
    fit(one, array, Y, batch_size=10)
    other.set_weights(one.get_weights())
    assert other.evaluate(given, Y, batch_size=10, verbose=0) == one.evaluate(array, Y, 10, verbose=0)
    np.testing.assert_allclose(other.predict(given, verbose=0), one.predict(array, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["lists", "frame", "labels"])
def test_what_is_beside_it_may_be_a_list_or_a_frame(kind, small_windows):
    pd = pytest.importorskip("pandas")
    labels = np.arange(N)[::-1] / 2  # by which pandas would slice
    y, weights = {
        "lists": (Y.tolist(), W.tolist()),
        "frame": (pd.DataFrame(Y), pd.Series(W)),
        "labels": (pd.DataFrame(Y, labels), pd.Series(W, labels)),
    }[kind]
    x, one, other = Elsewhere(X), build(), build()
    assert fit(one, x, y, sample_weight=weights) == fit(other, X, Y, sample_weight=W)
    assert bits(one) == bits(other) and max(stop - start for start, stop in x.notes) < 20
    blocks = Blocks(X, Y, pd.Series(W, labels), block_size=10)
    assert fit(one, blocks) == fit(other, X, Y, sample_weight=W)


def test_a_normalization_adapts_to_one_block_after_the_other():
    x, whole, by_blocks = Elsewhere(X), layers.Normalization(), layers.Normalization()
    whole.adapt(X)
    by_blocks.adapt(Blocks(x, block_size=10))
    assert max(stop - start for start, stop in x.notes) == 10
    for found, expected in zip(by_blocks.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_other_lengths_are_an_error_before_anything_is_read(small_windows):
    x = Elsewhere(X)
    for y in (Y[:50], Y[:50].tolist()):
        with pytest.raises(ValueError, match=r"cardinality is ambiguous.*x: 57, y: 50"):
            fit(build(), x, y)
    assert not x.notes


@pytest.mark.parametrize("kind", [zarr_array, hdf5_array, mapped])
def test_small_ones_are_arrays(kind, tmp_path):
    expected = fit(one := build(), X, Y, shuffle=True)
    assert fit(other := build(), kind(tmp_path, X), Y, shuffle=True) == expected
    assert bits(one) == bits(other)


def test_a_map_of_what_kernels_take_is_used_where_it_is_when_no_order_is_needed(tmp_path, small_windows, monkeypatch):
    monkeypatch.setattr(Blocks, "read", None)
    given, model = mapped(tmp_path, X), build()
    assert fit(model, given, Y) == fit(build(), X, Y)
    assert np.array_equal(model.predict(given, verbose=0), model.predict(X, verbose=0))


def test_blocks_are_whole_chunks_and_no_more_is_held_than_a_few(small_windows):
    x = Elsewhere(X, chunks=(4, 3))
    fit(build(), x, Y, batch_size=5, shuffle=True)
    assert {stop - start for start, stop in x.notes} <= {4, 1} and all(start % 4 == 0 for start, _ in x.notes)
    assert repr(Blocks(x, Y)) == "<Blocks: 57 rows in 15 blocks, of which 5 are mixed>"
    assert repr(Blocks(Elsewhere(X, chunks=(40, 3)), Y)) == "<Blocks: 57 rows in 2 blocks, of which 2 are mixed>"
    assert [len(part) for part in Blocks(X, block_size=30)] == [1, 1]


LARGE = """
import resource, sys
import numpy as np
import gpumlp
from gpumlp import layers, models

rows, by_blocks = (1 << 28) // 64, sys.argv[2] == "blocks"
x = np.memmap(sys.argv[1], "u1", "r", shape=(rows, 64))
y = np.memmap(sys.argv[1], "u1", "r", shape=(rows,))
model = models.Sequential([layers.Input((64,)), layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x[:64], y[:64], verbose=0)
taken = sum(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
resource.setrlimit(resource.RLIMIT_DATA, (taken + (200 << 20),) * 2)
x, y = (x, y) if by_blocks else (np.asarray(x), np.asarray(y))
model.fit(x, y, batch_size=1 << 14, verbose=0)
assert model.predict(x[: 1 << 20], verbose=0).shape == (1 << 20, 1)
print("done")
"""


@LINUX
@pytest.mark.parametrize("how", ["blocks", "whole"])
def test_a_gigabyte_is_trained_on_with_little_memory(how, tmp_path):
    """A file of bytes that would take 1 GiB as float32, with 200 MiB."""
    path = tmp_path / "bytes"
    with path.open("wb") as file:
        file.truncate(1 << 28)
    command = [sys.executable, "-c", textwrap.dedent(LARGE), str(path), how]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (found.stdout.strip() == "done") == (how == "blocks"), found.stderr
    assert how == "blocks" or "MemoryError" in found.stderr


# ---- Parquet ---------------------------------------------------------------------------------------------------------


def write_parquet(path, x=X, y=Y, **more):
    import pyarrow as pa
    from pyarrow import parquet as file

    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(x)), 3)
    columns = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "x": lists, "y": y[:, 0], "z": y[:, 1], "w": W[: len(x)]}
    file.write_table(pa.table({**columns, **more}), path, row_group_size=8)
    return path


@pytest.mark.parametrize("features", [["a", "b", "c"], ["x"]])
@pytest.mark.parametrize("several", [False, True])
def test_row_groups_are_blocks(features, several, tmp_path):
    if several:
        first = write_parquet(tmp_path / "1.parquet", X[:30], Y[:30])
        second = write_parquet(tmp_path / "2.parquet", X[30:], Y[30:], w=W[30:])
        paths = [tmp_path, [first, str(second)]]
    else:
        paths = [write_parquet(tmp_path / "all.parquet")]
    for path in paths:
        data = Blocks.from_parquet(path, features, ["y", "z"], "w", shuffle_blocks=3)
        assert len(data) == N and (np.diff(data.bounds) <= 8).all()
        one, other = build(), build()
        assert fit(one, data, batch_size=10, epochs=2) == fit(
            other, X, Y, sample_weight=W, batch_size=10, epochs=2, shuffle=False
        )
        assert bits(one) == bits(other)
        assert fit(one, data, batch_size=10, shuffle=True)["loss"] != fit(other, X, Y, batch_size=10)["loss"]
    np.testing.assert_array_equal(one.predict(data, verbose=0).shape, (N, 2))


@pytest.mark.parametrize("kind", ["list_", "large_list"])
def test_lists_of_one_length_are_numbers_side_by_side(kind, tmp_path):
    import pyarrow as pa

    of = getattr(pa, kind)(pa.float32())
    path = write_parquet(tmp_path / "a.parquet", v=pa.array(X.tolist(), of), two=pa.array(Y.tolist(), of))
    data = Blocks.from_parquet(path, ["v", "a"], "two")
    for part, given in ((0, np.column_stack([X, X[:, 0]])), (1, Y)):
        np.testing.assert_array_equal(np.concatenate([block[part] for block in data]), given)
    for value, says in (([1.0], "'v' has a list of 1 numbers; the first one has 3"), (None, "a list is missing")):
        rows = [value if row == 20 else list(map(float, X[row])) for row in range(N)]
        path = write_parquet(tmp_path / "b.parquet", v=pa.array(rows, of))
        with pytest.raises(RuntimeError, match=rf"Block 2 \(rows 16 to 23\) cannot be read: .*{says}"):
            list(Blocks.from_parquet(path, ["v"]))
    none = write_parquet(tmp_path / "0.parquet", X[:0], Y[:0], v=pa.array([], of))
    path = write_parquet(tmp_path / "1.parquet", v=pa.array(X.tolist(), of))
    assert len(Blocks.from_parquet([none, path], ["v"])) == N
    with pytest.raises(ValueError, match="x is empty"):
        Blocks.from_parquet(none, ["v"])
    path = write_parquet(tmp_path / "c.parquet", v=pa.array([["text"]] * N), empty=pa.array([[]] * N, of))
    with pytest.raises(TypeError, match=r"'v' \(string\)"):
        Blocks.from_parquet(path, ["v"])
    with pytest.raises(ValueError, match="'empty' begins with a list that is empty or missing"):
        Blocks.from_parquet(path, ["empty"])
    path = write_parquet(tmp_path / "d.parquet", v=pa.array(X.tolist(), of), one=pa.array(X[:, :1].tolist(), of))
    with pytest.raises(ValueError, match=r"sample_weight must be a column of numbers, .* 'v' has lists of 3"):
        Blocks.from_parquet(path, ["a"], "y", "v")
    weights = Blocks.from_parquet(path, ["a"], "y", "one").read(1)[2]
    np.testing.assert_array_equal(weights, X[8:16, 0])


def test_blocks_of_files_travel(tmp_path):
    data = Blocks.from_parquet(write_parquet(tmp_path / "a.parquet"), ["a", "b"], "y")
    for block in range(3):  # whether files are open or not
        for there in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
            np.testing.assert_array_equal(there.read(block)[0], data.read(block)[0])


@LINUX
def test_many_files_are_not_all_open(tmp_path):
    for number in range(40):
        write_parquet(tmp_path / f"{number:02}.parquet", X[:8] + number, Y[:8])
    there = len(os.listdir("/proc/self/fd"))
    data = Blocks.from_parquet(tmp_path, ["x"])
    for block in (*range(40), 39, 0, 20):
        np.testing.assert_array_equal(data.read(block)[0], X[:8] + np.float32(block))
        assert len(os.listdir("/proc/self/fd")) <= there + 17


def test_columns_that_are_no_numbers_are_refused_as_a_frame_s_are(tmp_path):
    text = np.array(["red", "green", "blue"] * 19)
    path = write_parquet(tmp_path / "a.parquet", text=text)
    with pytest.raises(TypeError, match=r"a\.parquet has columns that are no numbers: 'text' \(string\)\. One-hot"):
        Blocks.from_parquet(path, ["a", "text"], "y")
    with pytest.raises(ValueError, match="has no column 'd'; it has 'a', 'b', 'c'"):
        Blocks.from_parquet(path, ["a", "d"], "y")
    with pytest.raises(ValueError, match="features must name at least one column"):
        Blocks.from_parquet(path, [], "y")
    with pytest.raises(ValueError, match="target must name at least one column"):
        Blocks.from_parquet(path, ["a"], [])
    with pytest.raises(ValueError, match="There is no Parquet file"):
        Blocks.from_parquet([], ["a"])


def test_row_groups_that_are_too_large_to_be_held_are_told_of(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet")  # groups of 8 rows, of 5 numbers and a place in an order
    monkeypatch.setattr(parquet, "LARGE", 8 * 28)
    Blocks.from_parquet(path, ["x"], ["y", "z"])
    monkeypatch.setattr(parquet, "LARGE", 8 * 28 - 1)
    with pytest.warns(UserWarning, match=r"the largest has 8 rows.* row_group_size=37449, groups of 1 MiB") as told:
        Blocks.from_parquet(path, ["x"], ["y", "z"])
    assert told[0].filename == __file__


def test_what_is_missing_in_a_column_is_nan(tmp_path):
    import pyarrow as pa

    path = write_parquet(tmp_path / "a.parquet", a=pa.array([None if k == 20 else float(k) for k in range(N)]))
    with pytest.warns(UserWarning, match=r"block 2 \(its row 0 is row 16\): x has NaN or Inf, first in row 4"):
        fit(build(), Blocks.from_parquet(path, ["a", "b", "c"], ["y", "z"]), batch_size=10)


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path):
    path = write_parquet(tmp_path / "a.parquet")
    data = Blocks.from_parquet(path, ["a", "b", "c"], ["y", "z"])
    os.truncate(path, 1000)
    with pytest.raises(RuntimeError, match=r"Block \d \(rows .*\) cannot be read"):
        fit(build(), data, batch_size=10)


# ---- what is refused, and what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Blocks([1.0, 2.0]), TypeError, "x must have shape, dtype and slices, as arrays have; got a list"),
        (lambda: Blocks(X, Y[:50]), ValueError, "cardinality is ambiguous.*x: 57, y: 50"),
        (lambda: Blocks(X[:0]), ValueError, "x is empty"),
        (lambda: Blocks(np.array(["a", "b"])), TypeError, "x must be an array of numbers; got dtype <U1"),
        (lambda: Blocks(np.ma.masked_less(X, 0.0)), ValueError, "x has masked values. Fill them"),
        (lambda: Blocks(X, np.ma.masked_less(Y, 0.0)), ValueError, "y has masked values. Fill them"),
        (lambda: Blocks(sparse(X), Y), TypeError, r"x is sparse, a csr_array of shape \(57, 3\).*x\.toarray\(\)"),
        (lambda: Blocks(X, block_size=10).read(-1), IndexError, "block must be 0 to 5; got -1"),
        (lambda: Blocks(X, block_size=10).read(6), IndexError, "block must be 0 to 5; got 6"),
        (lambda: Blocks(X, Y, block_size=0), ValueError, "block_size must be a whole number >= 1"),
        (lambda: Blocks(X, Y, shuffle_blocks=0), ValueError, "shuffle_blocks must be a whole number >= 1"),
        (lambda: fit(build(), Blocks(X, Y), Y), ValueError, "x is a Blocks, which has its own y: pass it to Blocks"),
        (lambda: fit(build(), Blocks(X, Y), Y, validation_split=0.5), ValueError, "a Blocks, which has its own y"),
        (lambda: fit(build(), iter([(X, Y)]), Y), ValueError, "which gives batches: y comes with each of them"),
        (lambda: fit(build(), iter([(X, Y)]), validation_split=0.5), ValueError, "cuts arrays; x is a list_iter"),
        (lambda: Blocks(Ellipsis), TypeError, "got an ellipsis"),
        (lambda: Blocks(X, Y).split(1.0), ValueError, "share must be a finite number > 0 and < 1; got 1.0"),
        (lambda: Blocks(X, Y).split(0.99), ValueError, "of 57 samples leaves training or validation empty"),
        (lambda: fit(build(), Blocks(X)), ValueError, r"^block 0 \(its row 0 is row 0\): y is missing"),
        (lambda: fit(build(), Blocks(X[:, :2], Y)), ValueError, r"x has shape \(57, 2\).* samples of shape \(3,\)"),
        (lambda: fit(build(), Blocks(X, Y[:, :1])), ValueError, "y has shape"),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("kind", ["h5py", "zarr"])
def test_of_a_file_of_arrays_its_names_are_told(kind, tmp_path):
    if kind == "h5py":
        file = pytest.importorskip("h5py").File(tmp_path / "a.h5", "w")
        file["x"], file["y"] = X, Y
    else:
        import zarr

        file = zarr.create_group(tmp_path / "a.zarr")
        for name, array in (("x", X), ("y", Y)):
            file.create_array(name, data=array)
    with pytest.raises(
        TypeError, match=r"holds \[.*'[xy]'.*\]\. Pass its arrays, by their names: fit\(f\['x'\], f\['y'\]\)"
    ):
        fit(build(), file)
    assert fit(build(), file["x"], file["y"]) == fit(build(), X, Y)


@pytest.mark.parametrize(("size", "mixed", "said"), [
    (57, 1, "in 1 block"), (10, 1, "in 6 blocks, each mixed by itself"), (10, 9, "in 6 blocks, of which 6 are mixed"),
])  # fmt: skip
def test_how_many_blocks_there_are_is_said_in_words(size, mixed, said):
    assert repr(Blocks(X, Y, None, size, mixed)) == f"<Blocks: 57 rows {said}>"


# ---- what is held out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("size", [1, 7, 19, 57])
def test_a_split_cuts_blocks_where_it_cuts_arrays(share, size):
    data, cut = Blocks(X, Y, W, size, 3), int(N * (1 - share))
    for part, rows in zip(data.split(share), (slice(cut), slice(cut, None)), strict=True):
        for found, array in zip(zip(*part, strict=True), (X, Y, W), strict=True):
            np.testing.assert_array_equal(np.concatenate(found), array[rows])
        assert set(part.bounds[1:-1] + (rows.start or 0)) <= set(data.bounds.tolist())
    again = data.split(share)[1].split(0.5)[0]
    np.testing.assert_array_equal(np.concatenate([x for x, *_ in again]), X[cut : cut + int((N - cut) * 0.5)])


@pytest.mark.parametrize("kind", ["blocks", "parquet", "zarr", "h5py"])
def test_validation_split_holds_out_the_last_rows_and_loads_nothing(kind, tmp_path, small_windows, monkeypatch):
    given = {
        "blocks": lambda: (Blocks(X, Y, block_size=10),),
        "parquet": lambda: (Blocks.from_parquet(write_parquet(tmp_path / "a.parquet"), ["x"], ["y", "z"]),),
        "zarr": lambda: (zarr_array(tmp_path, X), Y),
        "h5py": lambda: (hdf5_array(tmp_path, X), Y),
    }[kind]()
    read, of = [], Blocks.read
    monkeypatch.setattr(Blocks, "read", lambda self, block: read.append((len(self), block)) or of(self, block))
    one, other = build(), build()
    found = fit(one, *given, validation_split=0.4, batch_size=10, epochs=2)
    assert {rows for rows, _ in read} == {34, 23}
    assert found == fit(other, X, Y, validation_split=0.4, batch_size=10, epochs=2, shuffle=False)
    assert bits(one) == bits(other)


def sparse(array):
    return pytest.importorskip("scipy.sparse").csr_array(array)


@pytest.mark.usefixtures("small_windows")
def test_a_large_sparse_matrix_is_refused_as_a_small_one_is():
    with pytest.raises(TypeError, match="x is sparse, a csr_array"):
        fit(build(), sparse(X), Y)


@pytest.mark.usefixtures("small_windows")
def test_a_split_of_a_mapped_file_is_read_in_blocks(tmp_path, monkeypatch):
    read, of = [], Blocks.read
    monkeypatch.setattr(Blocks, "read", lambda self, block: read.append(len(self)) or of(self, block))
    fit(build(), mapped(tmp_path, X.astype("f8")), Y, validation_split=0.4, batch_size=10)
    assert set(read) == {34, 23}


class Breaking(Elsewhere):
    """Raise for rows from 40 on, once the first blocks were read; or give fewer."""

    broken = "raise"

    def __getitem__(self, rows):
        if rows.start >= 40 and self.broken == "raise":
            raise OSError("the disk is gone")
        return super().__getitem__(rows)[: 3 if rows.start >= 40 and self.broken == "short" else None]


@pytest.mark.parametrize(("how", "says"), [("raise", "the disk is gone"), ("short", "x has 3 rows there now")])
def test_a_block_that_cannot_be_read_is_named_and_the_steps_before_it_stand(how, says, family):
    x, model, other = Breaking(X), build(), build()
    x.broken = how
    data = Blocks(x, Y, block_size=10, shuffle_blocks=2)
    with pytest.raises(RuntimeError, match=rf"^Block 4 \(rows 40 to 49\) cannot be read: {says}"):
        fit(model, data, batch_size=8)
    fit(other, X[:40], Y[:40], batch_size=8)
    assert model.optimizer.iterations == 5 and bits(model) == bits(other)
    x.broken = ""
    fit(model, data, batch_size=8)
    assert model.optimizer.iterations == 13


@LINUX
def test_a_mapped_file_that_is_cut_off_is_an_error_and_not_the_end(tmp_path):
    path = tmp_path / "x"
    X.tofile(path)
    x = np.memmap(path, "f4", "r", shape=X.shape)
    data = Blocks(x[7:], Y[7:], block_size=10, shuffle_blocks=2)
    os.truncate(path, X[:37].nbytes)
    model = build()
    with pytest.raises(RuntimeError, match=r"^Block 3 \(rows 30 to 39\) cannot .* has been cut to 444 bytes"):
        fit(model, data, batch_size=5)
    assert model.optimizer.iterations >= 4
    path.unlink()
    assert len(data.read(0)[0]) == 10  # what has lost its name is still there


def test_nan_is_told_of_by_block_and_row(family):
    x = X.copy()
    x[33, 1] = np.nan
    with pytest.warns(UserWarning, match=r"block 3 \(its row 0 is row 30\): x has NaN or Inf, first in row 3"):
        fit(build(), Blocks(x, Y, block_size=10, shuffle_blocks=2), batch_size=8)
