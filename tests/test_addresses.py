"""What is handed to machine code is writeable, aligned, of the right type and size, and alive."""

import copy
import pickle

import numpy as np
import pytest

from gpumlp import layers, models, optimizers
from gpumlp.backends import fields, instruction_set, job
from gpumlp.backends.fields import address, readable
from gpumlp.utils import set_random_seed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 3)).astype("f4")
Y = np.sin(X[:, :2])


pytestmark = pytest.mark.usefixtures("family")


def trained(optimizer=optimizers.RMSprop):
    set_random_seed(0)
    model = models.Sequential([layers.Input((3,)), layers.Dense(17, "relu"), layers.Dense(5, "tanh"), layers.Dense(2)])
    model.compile(optimizer(momentum=0.9), "mse")
    model.fit(X, Y, shuffle=False, verbose=0)
    return model


def bits(model):
    return [w.tobytes() for w in model.get_weights()]


def through_buffers(model, place):
    """Pickle ``model`` with its arrays apart, each moved by ``place`` to other memory."""
    buffers = []
    data = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[place(bytes(b.raw())) for b in buffers])


def odd(data):
    """The same bytes at an address that no float can have."""
    memory = bytearray(len(data) + 1)
    memory[1:] = data
    return memoryview(memory)[1:]


@pytest.mark.parametrize("place", [bytes, bytearray, odd], ids=["read-only", "writeable", "odd addresses"])
def test_a_model_unpickled_onto_foreign_memory_trains(place):
    model = trained()
    other = through_buffers(model, place)
    for each in (model, other):
        each.fit(X, Y, shuffle=False, verbose=0)
    assert bits(model) == bits(other)


def test_a_model_in_memory_mapped_files_trains_and_leaves_them(tmp_path):
    joblib = pytest.importorskip("joblib")
    model = trained()
    file = tmp_path / "model"
    joblib.dump(model, file)
    before = file.read_bytes()
    other = joblib.load(file, mmap_mode="r")
    for each in (model, other):
        each.fit(X, Y, shuffle=False, verbose=0)
    assert bits(model) == bits(other) and file.read_bytes() == before


def odd_array(array):
    """Return a copy of ``array`` that is not aligned."""
    raw = np.empty(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def unwriteable(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "not aligned": odd_array,
    "read-only": unwriteable,
    "by columns": np.asfortranarray,
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "of double precision": lambda a: a.astype("f8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_data_of_any_form_trains_and_predicts_as_the_plain_one(form):
    weights, found = np.linspace(0.5, 2, len(X), dtype="f4"), []
    for make in (np.array, FORMS[form]):
        model, x, y = trained(), make(X), make(Y)
        model.fit(x, y, sample_weight=make(weights), batch_size=20, verbose=0, validation_data=(x, y, make(weights)))
        many = make(np.tile(X, (40, 1)))
        found.append([bits(model), model.predict(x, verbose=0).tobytes(), model.predict(many, verbose=0).tobytes()])
        found[-1].append(model.evaluate(x, y, verbose=0))
        model.set_weights([make(w) for w in model.get_weights()])
        assert bits(model) == found[-1][0]
    assert found[0] == found[1]


def test_weights_of_a_copy_do_not_stand_where_the_first_s_do():
    model = trained()
    before = bits(model)
    copy.deepcopy(model).fit(X, Y, verbose=0)
    for array in model.get_weights():
        array[...] = np.nan
    assert bits(model) == before


def test_the_gate_to_machine_code_refuses_what_kernels_could_not_use():
    good = np.zeros(8, np.float32)
    assert address("VALUES", good, 8) == good.ctypes.data and address("VALUES", None) == 0
    for name, wrong in (
        ("VALUES", unwriteable(good)), ("VALUES", odd_array(good)), ("VALUES", good[::2]),
        ("VALUES", good.astype("f8")), ("RESULTS", good), ("ORDER", np.zeros(3, np.int32)), ("VALUES", good[:7]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} of a compiled step must be a contiguous, aligned"):
            address(name, wrong, 8 if wrong.size == 7 else 0)
    assert address("X", unwriteable(good)) and readable("X", good) is good
    assert readable("X", odd_array(good)).flags.aligned
    with pytest.raises(TypeError, match="BATCH of a compiled step is no array, but a whole number"):
        address("BATCH", good)


def test_every_word_of_the_table_has_a_kind():
    names = job.layout()
    for kinds, count in (
        (fields.JOB, names.JOB_WORDS), (fields.OPERATION, names.OP_WORDS), (fields.METRIC, names.METRIC_WORDS)
    ):  # fmt: skip
        assert sorted(getattr(names, name) for name in kinds) == list(range(count))
    assert len(fields.FIELDS) == names.JOB_WORDS + names.OP_WORDS + names.METRIC_WORDS


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"BATHC": 1}, TypeError, "no field 'BATHC' there; there are THREADS, BARRIER"),
        ({"KERNEL": None}, TypeError, "no field 'KERNEL' there"),
        ({"BATCH": 1.0}, TypeError, "BATCH of a compiled step must be a whole number; got 1.0"),
        ({"BATCH": 1 << 64}, ValueError, "BATCH of a compiled step must be a whole number of 64 bits"),
        ({"THREADS": "2"}, TypeError, "THREADS of a compiled step must be a whole number; got '2'"),
        ({"VALUES": 4096}, TypeError, "VALUES of a compiled step must be an array of float32, or None; got 4096"),
        ({"RESULTS": np.zeros(3, np.float32)}, ValueError, "RESULTS of a compiled step .* 0 float64; got 3 float32"),
    ],
)
def test_a_word_of_another_kind_is_refused_by_name(values, kind, message):
    table = job.Job(1, 0, instruction_set.chosen())
    with pytest.raises(kind, match=message):
        table.set(**values)
    with pytest.raises(TypeError, match="RATE of a compiled step must be a number; got"):
        table.operations[0].set(RATE="0.5")


def test_a_word_is_what_was_set():
    table = job.Job(1, 0, instruction_set.chosen())
    table.operations[0].set(KEY=(1 << 64) - 2, RATE=1, BIAS=None)
    assert [table.operations[0].get(name) for name in ("KEY", "RATE", "BIAS")] == [-2, 0x3FF0 << 48, 0]
