"""What a person passes as data: what is taken and what comes of it, what is refused and in which words."""

import array
import datetime
import tracemalloc
from collections import deque

import numpy as np
import pytest

from gpumlp import layers, losses, models
from gpumlp.training import data

F32 = np.dtype("float32")
MIB = 1 << 20


def features(value):
    return data.features("x", value, None, F32)[0]


def targets(value, width=1, loss="mse", dtype=F32):
    return data.targets("y", value, width, losses.described(loss), dtype)


def build(loss="mse", last=None, units=1):
    model = models.Sequential([layers.Dense(units, last, input_shape=(2,))])
    model.compile(loss=loss, optimizer="sgd")
    return model


# ---- masked arrays ---------------------------------------------------------------------------------------------------


def masked(*shape):
    values = np.ma.array(np.full(shape, -9999.0), mask=False)
    values[1] = np.ma.masked
    return values


X, Y = np.ones((5, 2)), np.ones(5)
HOLES = {
    "x": lambda m: m.fit(masked(5, 2), Y),
    "y": lambda m: m.fit(X, masked(5)),
    "sample_weight": lambda m: m.fit(X, Y, sample_weight=masked(5)),
    "validation x": lambda m: m.fit(X, Y, validation_data=(masked(5, 2), Y)),
    "validation y": lambda m: m.fit(X, Y, validation_data=(X, masked(5))),
    "validation sample_weight": lambda m: m.fit(X, Y, validation_data=(X, Y, masked(5))),
    "part of x": lambda m: m.fit(masked(5, 2), Y, validation_split=0.2),
    "predict's x": lambda m: m.predict(masked(5, 2)),
    "a list of masked arrays": lambda m: m.predict(list(masked(5, 2))),
    "a list with a masked number": lambda m: m.predict([[1.0, 2.0], [np.ma.masked, 3.0]]),
}


@pytest.mark.parametrize("where", HOLES)
def test_a_masked_value_is_no_data_wherever_it_stands(where):
    model = build()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"masked values. Fill them, as \w+.filled\(0.0\) does, or leave their rows"):
        HOLES[where](model)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("mask", [np.ma.nomask, False, [False, False]])
def test_a_masked_array_without_a_hole_is_an_array(mask):
    assert features(np.ma.array([1.0, 2.0], mask=mask)).tolist() == [[1], [2]]


# ---- data frames -----------------------------------------------------------------------------------------------------


class Column:
    """A column as pandas and polars have it: not an ndarray, but one for who asks."""

    def __init__(self, values, dtype=None, name=""):
        self._values, self.name = np.asarray(values), name
        self.dtype = self._values.dtype if dtype is None else dtype

    def __array__(self, dtype=None, copy=None):
        return self._values


class Own:
    """An extension type of pandas."""

    def __init__(self, kind, name):
        self.kind, self._name = kind, name

    def __str__(self):
        return self._name


class NAType:
    """Like pandas.NA: neither a number nor None."""


class Frame:
    """A data frame reduced to what is asked of one."""

    def __init__(self, **columns):
        self._columns = {k: v if isinstance(v, Column) else Column(v, name=k) for k, v in columns.items()}

    columns = property(lambda self: list(self._columns))
    dtypes = property(lambda self: [c.dtype for c in self._columns.values()])

    def __len__(self):
        return len(next(iter(self._columns.values()))._values)

    def __array__(self, dtype=None, copy=None):
        return np.column_stack([c._values.astype(object) for c in self._columns.values()])

    def to_numpy(self):
        return np.column_stack([c._values for c in self._columns.values()])


class PandasFrame(Frame):
    def items(self):
        return self._columns.items()


class PolarsFrame(Frame):
    def iter_columns(self):
        return iter(self._columns.values())


def pandas_frame(columns):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(columns)


def polars_frame(columns):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(columns)


FRAMES = [lambda c: PandasFrame(**c), lambda c: PolarsFrame(**c), pandas_frame, polars_frame]
FRAME_NAMES = ["like pandas", "like polars", "pandas", "polars"]


@pytest.mark.parametrize("frame", FRAMES, ids=FRAME_NAMES)
def test_a_frame_of_int_float_and_bool_columns_trains(frame):
    x = frame({"age": [3, 4, 5], "height": [0.5, 1.5, 2.5], "member": [True, False, True]})
    y = frame({"label": [0, 1, 0]})
    assert features(x).tolist() == [[3, 0.5, 1], [4, 1.5, 0], [5, 2.5, 1]]
    assert features(frame({"a": [1, 2], "b": [True, False]})).tolist() == [[1, 1], [2, 0]]
    model = models.Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile(loss="mse", optimizer="sgd")
    history = model.fit(x, y, verbose=0, validation_data=(x, y))
    assert np.isfinite(history.history["val_loss"]).all()


def nullable_like(kind):
    rows = {"i": [1, None], "f": [0.5, None], "b": [True, None]}
    if kind == "pandas":
        pandas = pytest.importorskip("pandas")
        types = {"i": "Int64", "f": "Float64", "b": "boolean"}
        return pandas.DataFrame({k: pandas.array(v, types[k]) for k, v in rows.items()})
    if kind == "polars":
        return polars_frame(rows)
    holes = {k: np.array([v[0], NAType()], object) for k, v in rows.items()}
    types = {"i": "Int64", "f": "Float64", "b": "boolean"}
    return PandasFrame(**{k: Column(v, Own(k, types[k])) for k, v in holes.items()})


@pytest.mark.parametrize("kind", ["like pandas", "pandas", "polars"])
def test_several_nullable_columns_are_numbers_and_nan_which_is_warned_of(kind):
    with pytest.warns(UserWarning, match="x has NaN or Inf, first in row 1"):
        x = features(nullable_like(kind))
    np.testing.assert_array_equal(x, [[1, 0.5, 1], [np.nan] * 3])


def wrong_like(kind):
    when = datetime.datetime(2020, 1, 2)
    if kind == "pandas":
        pandas = pytest.importorskip("pandas")
        return pandas.DataFrame(
            {"age": [1, 2], "city": ["a", "b"], "when": [when, when], "size": pandas.Categorical([1, 2])}
        )
    if kind == "polars":
        polars = pytest.importorskip("polars")
        size = polars.Series(["s", "m"], dtype=polars.Categorical)
        return polars.DataFrame({"age": [1, 2], "city": ["a", "b"], "when": [when, when], "size": size})
    return PandasFrame(
        age=[1, 2],
        city=np.array(["a", "b"], object),
        when=np.array(["2020-01-02"] * 2, "M8[us]"),
        size=Column([1, 2], Own("O", "category")),
    )


@pytest.mark.parametrize("kind", ["like pandas", "pandas", "polars"])
def test_columns_of_text_times_and_categories_are_named_with_their_types(kind):
    with pytest.raises(TypeError, match="x has columns that are no numbers") as caught:
        features(wrong_like(kind))
    words = str(caught.value)
    assert "'city' (" in words and "'when' (" in words and "ategor" in words.split("'size' (")[1]
    assert "'age'" not in words and "get_dummies" in words and "leave the columns out" in words


def test_a_column_alone_is_as_an_array_and_categories_are_no_numbers():
    assert features(Column([1, 2])).tolist() == [[1], [2]]
    with pytest.raises(TypeError, match="y must be an array of numbers; got dtype category"):
        targets(Column([0, 1], Own("O", "category")))
    pandas = pytest.importorskip("pandas")
    assert targets(pandas.Series([1.5, 2], index=[7, 3])).tolist() == [[1.5], [2]]
    with pytest.raises(TypeError, match="dtype category"):
        targets(pandas.Series([0, 1]).astype("category"))


def test_a_frame_of_one_type_is_not_copied_before_it_must_be():
    pandas = pytest.importorskip("pandas")
    values = np.ones((8, 4), np.float32)
    assert np.shares_memory(features(pandas.DataFrame(values, copy=False)), values)


# ---- what is no array of numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [np.array([1, 2.5, True], object), [1, 2.5, True], deque([1, 2.5, 1]), array.array("d", [1, 2.5, 1])]
)
def test_objects_that_are_all_numbers_are_numbers(value):
    assert features(value).tolist() == [[1], [2.5], [1]]


def test_numbers_beyond_64_bits_are_numbers_as_long_as_a_float_holds_them():
    assert features([1, 2**70])[1, 0] == 2.0**70
    with pytest.raises(ValueError, match="x has a number that no floating-point type holds"):
        features([1, 10**400])


def test_none_among_numbers_is_nan_and_alone_it_is_nothing():
    with pytest.warns(UserWarning, match="NaN or Inf, first in row 1"):
        assert np.isnan(features([1.0, None])[1, 0])
    with pytest.raises(TypeError, match="dtype object, with None in row 0"):
        features([[None], [None]])
    with pytest.raises(ValueError, match="y is missing"):
        targets(None)


def rows_of_objects():
    rows = np.empty(2, object)
    rows[:] = [np.ones(3), np.ones(3)]
    return rows


WRONG = [
    (np.array([[1, 2], [3, "4"]], object), TypeError, r"with '4' in row 1. Encode it first"),
    ([1, 2 + 1j, datetime.date(2020, 1, 1)], TypeError, r"with \(2\+1j\) in row 1"),
    (rows_of_objects(), TypeError, r"with array.* in row 0. numpy.stack makes rows one array"),
    (["a", "b"], TypeError, "dtype <U1. Where the text spells numbers, astype.float. reads them"),
    (np.array([b"a"]), TypeError, "numpy.unique"),
    ("abc", TypeError, "Where the text spells numbers"),
    (np.array(["2020-01-01"], "M8[D]"), TypeError, r"dtype datetime64\[D\]. Pass times as numbers"),
    (np.array([1], "m8[s]"), TypeError, "Pass times as numbers"),
    ([1j], TypeError, "dtype complex128. Pass real and imaginary parts"),
    (np.zeros(2, [("a", "f4"), ("b", "f8")]), TypeError, "structured_to_unstructured"),
    (np.float64(3), ValueError, "one row per sample; got the single number 3.0"),
    ([[1, 2], [3]], ValueError, "rows differ in length"),
    ((np.ones((4, 2)), np.ones(4)), ValueError, r"got 2 arrays of shapes \(4, 2\), \(4,\)\. Targets and weights"),
    (print, TypeError, "must be an array of numbers"),
    ({"a": [1, 2]}, TypeError, r"got a dict. Pass numpy.column_stack\(list\(x.values\(\)\)\)"),
]


@pytest.mark.parametrize(("value", "error", "words"), WRONG, ids=[w for _, _, w in WRONG])
def test_what_is_no_array_of_numbers_is_refused_with_what_to_do(value, error, words):
    with pytest.raises(error, match="^x.*" + words):
        features(value)


class Sparse:
    shape, nnz, format = (3, 4), 2, "csr"

    def toarray(self):
        raise AssertionError("a sparse matrix may have no room as an array: its owner decides")


def test_sparse_matrices_name_toarray():
    with pytest.raises(TypeError, match=r"x is sparse, a Sparse of shape \(3, 4\); .* pass x.toarray\(\)"):
        features(Sparse())
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csr_matrix, sparse.coo_array):
        with pytest.raises(TypeError, match=r"pass y.toarray\(\)"):
            targets(kind(np.eye(3)))


class Tensor:
    """A tensor of another library: ``held`` None is one that does not give its memory."""

    def __init__(self, held, device=(1, 0), **attributes):
        self._held, self._device = held, device
        self.__dict__.update(attributes)

    def __array__(self, dtype=None, copy=None):
        if self._held is None:
            raise RuntimeError("it cannot be had")
        return self._held

    def __dlpack_device__(self):
        if self._device is None:
            raise ValueError("no number for this device")
        return self._device


def test_tensors_of_other_libraries_are_arrays_or_say_why_not():
    held = np.arange(6, dtype=np.float32).reshape(3, 2)
    held.flags.writeable = False  # as JAX's are
    assert np.shares_memory(features(Tensor(held, requires_grad=False)), held)
    assert features([Tensor(row) for row in held]).tolist() == held.tolist()
    with pytest.raises(TypeError, match=r"requires gradients cannot be used as data: pass tensor.detach\(\)"):
        build().fit(Tensor(held, requires_grad=True), held)
    with pytest.raises(TypeError, match="x cannot be read as an array of numbers: it cannot be had"):
        features(Tensor(None, device=None))


# ---- iterators -------------------------------------------------------------------------------------------------------


class Batched:
    """Like a data set of samples of PyTorch: by number. NumPy would take it for a list."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index >= 2:
            raise IndexError(index)
        return np.ones((4, 2)), np.ones(4)


class Loader:
    """Like a DataLoader or a tf.data.Dataset."""

    def __iter__(self):
        return iter(Batched())


@pytest.mark.parametrize(
    "value", [(row for row in X), zip(X, Y, strict=True), map(abs, Y), {1.0, 2.0}, Batched(), Loader()],
    ids=["generator", "zip", "map", "set", "like a data set of samples", "like DataLoader"],
)  # fmt: skip
def test_what_gives_batches_or_samples_when_asked_is_no_array_and_says_what_to_do(value):
    with pytest.raises(TypeError, match=r"^y must be an array; got a \w+. What gives batches .* as x, by itself"):
        build().fit(X, value)


@pytest.mark.parametrize("value", [{1.0, 2.0}, Batched()], ids=["set", "like a data set of samples"])
def test_what_gives_no_batches_is_not_taken(value):
    with pytest.raises(TypeError, match=r"^x must be an array; got a \w+. .*goes into a data loader first"):
        build().fit(value, Y)


# ---- layout, byte order and type -------------------------------------------------------------------------------------


def unaligned(values):
    raw = np.zeros(values.nbytes + 1, np.uint8)
    out = raw[1:].view(values.dtype).reshape(values.shape)
    out[...] = values
    assert not out.flags.aligned
    return out


def from_field(values):
    records = np.zeros(values.shape, [("flag", "i1"), ("value", values.dtype)])
    records["value"] = values
    return records["value"]


LAYOUTS = {
    "unaligned": unaligned,
    "a field of records": from_field,
    "big-endian": lambda a: a.astype(">f4"),
    "columns first": np.asfortranarray,
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "unaligned big-endian float64": lambda a: unaligned(a.astype(">f8")),
    "int64": lambda a: a.astype(np.int64),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_comes_out_can_be_gone_through_by_address(layout, dtype):
    plain = np.arange(12, dtype=np.float32).reshape(6, 2)
    given = LAYOUTS[layout](plain)
    given.flags.writeable = False
    dtype = np.dtype(dtype)
    x = data.features("x", given, None, dtype)[0]
    y = data.targets("y", given, 2, losses.described("mse"), dtype)
    column = np.ascontiguousarray(plain[:, 0])
    w = data.sample_weights(LAYOUTS[layout](column), None, y, losses.described("mse"))
    for out, expected in ((x, plain), (y, plain), (w, plain[:, 0])):
        assert out.dtype == dtype and out.dtype.isnative and out.flags.c_contiguous and out.flags.aligned
        np.testing.assert_array_equal(out, expected)


def test_a_memory_mapped_file_at_an_odd_offset_is_copied_and_one_that_fits_is_not(tmp_path):
    values = np.arange(64, dtype=np.float32).reshape(32, 2)
    (tmp_path / "odd").write_bytes(b"\0" + values.tobytes())
    (tmp_path / "even").write_bytes(b"\0" * 64 + values.tobytes())
    odd = np.memmap(tmp_path / "odd", np.float32, "r", 1, (32, 2))
    even = np.memmap(tmp_path / "even", np.float32, "r", 64, (32, 2))
    assert not odd.flags.aligned
    assert features(odd).flags.aligned and np.array_equal(features(odd), values)
    assert np.shares_memory(features(even), even) and np.shares_memory(targets(even[:, :1].copy()), even) is False
    first, last = data.split(even, 0.25)
    assert np.shares_memory(first, even) and np.shares_memory(last, even) and len(last) == 8


def test_integers_are_judged_as_class_numbers_before_they_are_rounded():
    loss = "sparse_categorical_crossentropy"
    assert targets(np.array([0, 3], np.uint64), 4, loss).tolist() == [[0], [3]]
    for wrong in (np.array([0, 2**64 - 1], np.uint64), np.array([0.0, 1.0000000001]), np.array([0, np.nan])):
        with pytest.raises(ValueError, match=r"y must hold class numbers 0 to 3; got .* in row 1"):
            targets(wrong, 4, loss)


# ---- targets and objectives that do not go together ------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 1, -1], [1, 0, 2.0], [0, 1, 255]])
def test_labels_beside_0_to_1_are_warned_of_for_binary_cross_entropy(labels):
    with pytest.warns(
        UserWarning, match=r"y must lie in 0 to 1 for the loss binary_crossentropy.*row 2 has [-\d.]+\. Labels"
    ):
        targets(labels, 1, "binary_crossentropy")


def test_soft_labels_are_labels_and_rounding_beside_them_is_none():
    soft = [0.0, 0.3, 1.0, 1.0 + 1e-12, -1e-12, True]
    assert targets(soft, 1, "binary_crossentropy", np.dtype("float64")).shape == (6, 1)


def test_one_hot_and_class_numbers_say_which_loss_they_go_with():
    with pytest.raises(ValueError, match=r"takes one class number per sample. One-hot .* loss categorical_cross"):
        targets(np.eye(4), 4, "sparse_categorical_crossentropy")
    for numbers in (np.arange(4), np.arange(4)[:, None]):
        with pytest.raises(ValueError, match=r"takes 4 values per sample.*Class numbers .* loss sparse_categorical"):
            targets(numbers, 4, "categorical_crossentropy")
    with pytest.raises(ValueError, match=r"the loss mean_squared_error takes 4 values per sample, [^.]*\.$"):
        targets(np.zeros((3, 0)), 4)


CONSTANT = [
    ("softmax", 1, "binary_crossentropy", "softmax over a single unit is constant. Use activation='sigmoid'"),
    ("softmax", 1, "mse", "softmax over a single unit is constant"),
    ("sigmoid", 1, "categorical_crossentropy", "over a single unit is constant. .* loss='binary_crossentropy'"),
    ("linear", 1, losses.SparseCategoricalCrossentropy(from_logits=True), "over a single unit is constant"),
    ("linear", 1, "binary_crossentropy", r"activation='sigmoid', or BinaryCrossentropy\(from_logits=True\)"),
    ("linear", 5, "sparse_categorical_crossentropy", r"activation='softmax', or SparseCategoricalCrossentropy\(from"),
]


@pytest.mark.parametrize(("activation", "width", "loss", "words"), CONSTANT)
def test_a_last_layer_and_a_loss_that_cannot_learn_together_are_warned_of(activation, width, loss, words):
    with pytest.warns(UserWarning, match="The model may not learn: .*" + words):
        data.check_objective(activation, width, losses.described(loss))


@pytest.mark.parametrize(
    ("activation", "width", "loss"),
    [
        ("sigmoid", 1, "binary_crossentropy"),
        ("sigmoid", 5, "categorical_crossentropy"),
        ("softmax", 2, "sparse_categorical_crossentropy"),
        ("linear", 1, "mse"),
        ("linear", 1, losses.BinaryCrossentropy(from_logits=True)),
        (None, 3, "categorical_crossentropy"),
    ],
)
def test_what_goes_together_is_not_spoken_of(activation, width, loss):
    data.check_objective(activation, width, losses.described(loss))  # a warning would be an error


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak(call):
    """Return how many bytes were held at the worst beyond what was held before, and the result."""
    call()  # what is imported or made once is not the data's
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.fixture
def mapped(tmp_path):
    """A function: a read-only memory-mapped file of zeros, of a shape and a type."""

    def make(shape, dtype=np.float32):
        with open(path := tmp_path / f"{np.dtype(dtype)}{shape}", "wb") as file:
            file.truncate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.memmap(path, dtype, "r", shape=shape)

    return make


def test_checks_look_at_a_mapped_file_in_pieces_and_copy_nothing(mapped):
    x, labels, y = mapped((MIB, 16)), mapped((16 * MIB,)), mapped((16 * MIB, 1))
    long_rows = mapped((2, 8 * MIB))
    for call, given in (
        (lambda: features(x), x),
        (lambda: features(long_rows[:1]), long_rows),
        (lambda: targets(labels, 3, "sparse_categorical_crossentropy"), labels),
        (lambda: targets(y, 1, "binary_crossentropy"), y),
        (lambda: data.split(x, 0.5)[0], x),
    ):
        held, result = peak(call)
        assert np.shares_memory(result, given)
        assert held <= (10 if given is long_rows else 4) * MIB  # a row of 8 Mi is a piece, at a byte an element


def test_fit_and_evaluate_of_a_mapped_file_take_a_batch_of_it_at_a_time(mapped):
    x, y = mapped((MIB, 16)), mapped((MIB,))
    model = models.Sequential([layers.Dense(1, input_shape=(16,))])
    model.compile(loss="mse", optimizer="sgd")
    how = {"batch_size": 1024, "verbose": 0}
    held, _ = peak(lambda: model.fit(x, y, shuffle=False, steps_per_epoch=2, validation_split=0.5, **how))
    assert held < 6 * MIB
    held, _ = peak(lambda: model.evaluate(x, y, **how))
    assert held < 6 * MIB


@pytest.mark.parametrize("kind", ["float64", "columns first", "images by columns", "unaligned"])
def test_a_conversion_makes_the_result_and_no_other_copy(kind):
    rows = MIB // 2
    given = {
        "float64": lambda: np.zeros((rows, 16)),
        "columns first": lambda: np.zeros((16, rows), np.float32).T,
        "images by columns": lambda: np.zeros((4, 4, rows)).T,
        "unaligned": lambda: unaligned(np.zeros((rows, 16), np.float32)),
    }[kind]()
    held, result = peak(lambda: features(given))
    assert result.nbytes == 32 * MIB and held < result.nbytes + 4 * MIB


def test_the_row_of_a_bad_number_is_found_in_any_piece():
    x = np.zeros((3 * MIB, 1), np.float32)
    for row in (0, MIB - 1, MIB, 3 * MIB - 1):
        x[row] = np.inf
        with pytest.warns(UserWarning, match=f"first in row {row}:"):
            features(x)
        x[row] = 0
