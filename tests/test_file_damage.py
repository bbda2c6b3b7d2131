"""Files that are cut off, changed, foreign or made to harm: each is a ValueError in words, and changes nothing."""

import contextlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumlp import layers, models, saving
from gpumlp.saving import archive, hdf5, text
from gpumlp.saving.state import pack, read_state, write_state

EXAMPLES = int(os.environ.get("GPUMLP_FUZZ", "60"))  # of each kind of file; `make full` asks for more
NAMES = ("m.keras", "m.weights.h5", "m.h5", "m.safetensors", "m.gpumlp")


def small():
    model = models.Sequential(
        [layers.Input((2,)), layers.Dense(3, activation="relu"), layers.Dropout(0.1), layers.Dense(1)]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a file of each kind, of one model."""
    folder = tmp_path_factory.mktemp("good")
    model = small()
    model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    for name in NAMES:
        (model.save_weights if "weights" in name or "safe" in name else model.save)(folder / name)
    return {name: (folder / name).read_bytes() for name in NAMES}


def read(path, model):
    """Read a file in every way that its name allows."""
    with np.errstate(all="ignore"):
        if path.name not in ("m.weights.h5", "m.safetensors"):
            models.load_model(path)
        model.load_weights(path)


def refused(path, match, model=None):
    """Whatever reads the file says ValueError, with these words, and has not changed the model."""
    model = model or small()
    before = model.get_weights()
    if path.name not in ("m.weights.h5", "m.safetensors"):
        with pytest.raises(ValueError, match=match):
            models.load_model(path)
    with pytest.raises(ValueError, match=match):
        model.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer.iterations == 0


# ---- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_cut_off_or_foreign(name, good, tmp_path):
    path = tmp_path / name
    whole = good[name]
    for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, "no whole|damaged")
    for foreign in (b"a,b\n1,2\n" * 50, pickle.dumps([small]), bytes(5000), *(good[n] for n in NAMES if n != name)):
        if {name, *(n for n in NAMES if good[n] == foreign)} != {"m.h5", "m.weights.h5"}:
            path.write_bytes(foreign)
            refused(path, "no whole|damaged|no file of gpumlp's|no \\.keras|another model|has no model")


def test_every_bit_of_gpumlps_own_file_counts(good, tmp_path):
    whole, path = good["m.gpumlp"], tmp_path / "m.gpumlp"
    there = read_state_of(whole, path)
    changed = 0
    for at in range(0, len(whole), 17):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            assert repr(read_state(path)) == there  # a space of the header's, or an order: it says the same
        except ValueError:
            changed += 1
    assert changed > len(whole) / 17 * 0.9


def read_state_of(data, path):
    path.write_bytes(data)
    return repr(read_state(path))


def test_bits_of_a_keras_file_are_held_against_its_checksums(good, tmp_path):
    whole, path = good["m.keras"], tmp_path / "m.keras"
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        start = found.getinfo("model.weights.h5").header_offset + 100
    for at in range(start, start + 5000, 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="no whole"):
            models.load_model(path)


# ---- zips ------------------------------------------------------------------------------------------------------------
def zipped(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as found:
        for name, content in entries:
            found.writestr(name, content)
    return path


def entries_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return {name: found.read(name) for name in found.namelist()}


def test_zips_that_are_no_models(good, tmp_path):
    path, there = tmp_path / "m.keras", entries_of(good["m.keras"])
    for name in ("../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:evil"):
        refused(zipped(path, [*there.items(), (name, b"x")]), "leads out of it")
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(path, [*there.items(), ("config.json", b"{}")])
    refused(path, "there twice: 'config.json'")
    refused(zipped(path, [("a.txt", b"x")]), "no config.json")
    only = [(k, v) for k, v in there.items() if k != "model.weights.h5"]
    refused(zipped(path, only), "has no model.weights.h5")
    bomb = [*only, ("model.weights.h5", bytes(1 << 26))]
    refused(zipped(path, bomb, zipfile.ZIP_DEFLATED), "declares 67108864 bytes for 'model.weights.h5'")
    refused(zipped(path, there.items(), zipfile.ZIP_BZIP2), "compressed in a way")
    model = models.load_model(zipped(path, [*there.items(), ("assets/a", b"x")], zipfile.ZIP_DEFLATED))
    assert model.optimizer.iterations == 1 and not list(tmp_path.glob("*evil*"))


# ---- configs ---------------------------------------------------------------------------------------------------------
def with_config(good, path, change):
    """Write a .keras file whose config is changed by ``change``, or is the text that it returns."""
    there = entries_of(good["m.keras"])
    config = json.loads(there["config.json"])
    made = change(config)
    there["config.json"] = made if isinstance(made, (str, bytes)) else json.dumps(config)
    return zipped(path, there.items())


def set_at(keys, value):
    def change(config):
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return change


FIRST = ("config", "layers", 1, "config")  # of the first Dense


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: "{", "no JSON"),
        (lambda c: b"\xff\xfe", "no JSON"),
        (lambda c: "[" * 100_000, "no JSON"),
        (lambda c: '{"a":' * 300 + "1" + "}" * 300, "more than 200"),
        (lambda c: "[]", "must be a dict"),
        (lambda c: "{}", "has no model"),
        (lambda c: json.dumps(c).replace("0.1", "NaN"), "NaN is no number"),
        (lambda c: json.dumps(c).replace("0.1", "9" * 5000), "no JSON"),
        (set_at(["class_name"], "Functional"), "class 'Functional' cannot be made"),
        (set_at(["module"], "os"), "'os' is not known"),
        (set_at(["config", "layers"], {"a": 1}), "list of layers"),
        (set_at(["config", "layers", 1], 7), "layer must be"),
        (set_at(["config", "layers", 1, "class_name"], "Conv2D"), "m.keras: Unknown layer 'Conv2D'.*use Keras"),
        (set_at(["config", "layers", 1, "class_name"], ["x"]), "class_name"),
        (set_at([*FIRST, "units"], "many"), "units must be a positive integer"),
        (set_at([*FIRST, "units"], 10**12), "more weights by its config than there are in the file"),
        (set_at([*FIRST, "units"], 4), "more weights|another model"),
        (set_at([*FIRST, "units"], -1), "units must be a positive integer"),
        (set_at([*FIRST, "kernel_initializer"], {"class_name": "Constant", "config": 3}), "a dict must have a name"),
        (set_at([*FIRST, "activation"], {"class_name": "function", "config": "system", "module": "os"}), "system"),
        (set_at([*FIRST, "activation"], {"class_name": "__lambda__", "config": {"code": "4wAA"}}), "never executes"),
        (set_at([*FIRST, "color"], "red"), "Dense.. has no argument 'color'"),
        (set_at(["config", "layers", 0, "config", "batch_shape"], [None, 10**12]), "more weights"),
        (set_at(["build_config"], [1]), "must be a dict"),
        (set_at(["compile_config"], [1]), "must be a dict"),
        (set_at(["compile_config", "optimizer", "config", "learning_rate"], "fast"), "learning_rate must be"),
        (set_at(["compile_config", "loss"], "luck"), "Unknown loss"),
        (set_at(["compile_config", "metrics"], [{"class_name": "AUC", "config": {"num_thresholds": 1 << 30}}]), "most"),
    ],
)  # fmt: skip
def test_configs_that_are_none(change, words, good, tmp_path):
    with pytest.raises(ValueError, match=words):
        models.load_model(with_config(good, tmp_path / "m.keras", change))


def test_code_in_a_file_is_not_executed(good, tmp_path):
    lay = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "l", "function": {
        "class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None, "closure": None}}}}  # fmt: skip
    path = with_config(good, tmp_path / "m.keras", lambda c: c["config"]["layers"].append(lay))
    for safe in (True, False):
        with pytest.raises(ValueError, match="never executes"):
            models.load_model(path, safe_mode=safe)
    with pytest.raises(ValueError, match="must be a dict"):
        text.a_dict([], "It")


# ---- HDF5 ------------------------------------------------------------------------------------------------------------
def hdf5_with(good, path, change):
    data = io.BytesIO(good["m.weights.h5"])
    with h5py.File(data, "r+") as root:
        change(root)
    path.write_bytes(data.getvalue())
    return path


def replaced(name, make):
    def change(root):
        del root[name]
        make(root, name)

    return change


KERNEL = "layers/dense/vars/0"


def nested(root, name):
    group = root
    for _ in range(80):
        group = group.create_group("a")


def bfloat16(root, name):
    root.create_dataset(name, data=np.ones((2, 3), np.uint16)).attrs["dtype"] = "bfloat16"


def circle(root, name):
    root["layers/dense/again"] = root["layers"]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda root, name: root.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/x")), "ExternalLink"),
        (lambda root, name: root.__setitem__(name, h5py.SoftLink("/layers/dense/vars/1")), "SoftLink"),
        (lambda root, name: root.__setitem__(name, np.dtype("f4")), "no group and no array"),
        (lambda root, name: root.create_dataset(name, (2, 3), "f4", external=[("/etc/passwd", 0, 24)]), "another file"),
        (lambda root, name: root.create_dataset(name, (2, 1 << 40), "f4", chunks=(1, 1024)), "far more than it has"),
        (lambda root, name: root.create_dataset(name, data="text"), "no numbers"),
        (lambda root, name: root.create_dataset(name, data=np.zeros((2, 3), [("a", "f4")])), "no numbers"),
        (lambda root, name: root.create_dataset(name, data=np.zeros((2, 3), "c8")), "no numbers"),
        (lambda root, name: root.create_dataset(name, data=h5py.Empty("f4")), "no numbers"),
        (bfloat16, "no numbers of NumPy's at 'layers/dense/vars/0', but bfloat16"),
        (lambda root, name: root.create_dataset(name, data=np.zeros((3, 2))), "expected shapes"),
        (lambda root, name: None, "received 1 variables"),
        (nested, "groups in each other"),
        (circle, "groups in each other"),
    ],
)  # fmt: skip
def test_hdf5_that_is_no_weights(make, words, good, tmp_path):
    refused(hdf5_with(good, tmp_path / "m.weights.h5", replaced(KERNEL, make)), words)


def test_a_virtual_array_is_not_read(good, tmp_path):
    def virtual(root, name):
        layout = h5py.VirtualLayout((2, 3), "f4")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (2, 3))
        root.create_virtual_dataset(name, layout)

    refused(hdf5_with(good, tmp_path / "m.weights.h5", replaced(KERNEL, virtual)), "another file|do not add up")


@pytest.mark.parametrize("value, words", [(np.int32(-3), "whole number >= 0"), (np.float32(2.5), "whole number >= 0")])
def test_steps_that_are_none(value, words, good, tmp_path):
    def change(root):
        del root["optimizer/vars/0"]
        root["optimizer/vars/0"] = value

    model = small()
    model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    before = model.get_weights()
    path = hdf5_with(good, tmp_path / "m.weights.h5", change)
    with pytest.raises(ValueError, match=words):
        model.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_long_lists_of_names_come_in_pieces():
    names = [f"{'layer' * 20}_{i}" for i in range(2000)]
    data = hdf5.pack(lambda root: hdf5.say(root, "layer_names", names))
    tree = hdf5.read(data, "it")
    assert tree.words("", "layer_names") == names and tree.words("", "others") == []
    with pytest.raises(ValueError, match="no group 'a'"):
        tree.words("a", "others")
    with pytest.raises(ValueError, match="no array at 'a'"):
        tree.array("a")


def test_heaps_of_strings_in_which_hdf5_would_hang(tmp_path):
    """What was found at random: sizes, numbers, lengths and kinds of strings."""
    whole = (Path(__file__).parent / "golden" / "files" / "legacy.h5").read_bytes()
    heap = whole.index(b"GCOL")
    refers = whole.index(heap.to_bytes(8, "little"), whole.index(b"layer_names"))
    kind = whole.index(b"\x19\x01", whole.index(b"layer_names")) + 1
    path = tmp_path / "m.h5"
    for at, byte, words in (
        (heap + 17, 13, "do not add up"), (heap + 24, 200, "do not add up"), (heap + 9, 200, "do not add up"),
        (refers - 1, 203, "do not add up"), (kind, 127, "no strings as 'layer_names'"),
    ):  # fmt: skip
        path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=words):
            models.load_model(path)


# ---- gpumlp's own ----------------------------------------------------------------------------------------------------
def changed(data, path, change):
    """Write a state with a right digest whose content is changed."""
    path.write_bytes(data)
    found = read_state(path)
    change(found)
    write_state(path, found)
    return path


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.update(kind="other"), "state of another kind"),
        (lambda s: s.update(weights=3), "must be a dict"),
        (lambda s: s["weights"].pop("dense/bias"), "more weights by its config"),
        (lambda s: s["weights"].update({"dense/bias": "text"}), "more weights by its config"),
        (lambda s: s["weights"].update({"dense/bias": [1, 2, 3]}), "no array of numbers"),
        (lambda s: s["config"]["config"]["layers"][1]["config"].update(units=10**9), "more weights"),
        (lambda s: s["optimizer"].update(steps=-1), "whole number of steps"),
        (lambda s: s["optimizer"].update(learning_rate="x"), "learning_rate must be"),
        (lambda s: s["optimizer"].update(undecayed=["a"]), "lists of weights that do not decay"),
        (lambda s: s["optimizer"]["slots"].pop("m"), "another optimizer"),
        (lambda s: s["optimizer"]["slots"]["m"].pop("dense/bias"), "received 1 variables"),
        (lambda s: s.update(keys={"layers/dropout": -1}), "other keys"),
        (lambda s: s.update(keys={}), "other keys"),
        (lambda s: s.update(random={"state": 1}), "state of random numbers"),
        (lambda s: s.update(history={"epoch": 3}), "lists of values by name"),
    ],
)
def test_states_that_are_no_models(change, words, good, tmp_path):
    with pytest.raises(ValueError, match=words):
        models.load_model(changed(good["m.gpumlp"], tmp_path / "m.gpumlp", change))


def test_files_of_safetensors_that_are_no_states(tmp_path):
    path = tmp_path / "s"
    for metadata, words in (
        ({}, "no file of gpumlp's"),
        ({"format": "pt"}, "no file of gpumlp's"),
        ({"format": "gpumlp.state", "version": "2"}, "version '2'.*Use a newer one"),
        ({"format": "gpumlp.state", "version": "1", "state": "{}", "sha256": "0"}, "digest"),
    ):
        path.write_bytes(pack({"a": np.zeros(2)}, metadata))
        with pytest.raises(ValueError, match=words):
            read_state(path)
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}" * 50)
    with pytest.raises(ValueError, match="no whole file"):
        read_state(path)
    path.write_bytes(pack({"a": np.zeros(2, np.complex64)}, {}))
    with pytest.raises(ValueError, match="dtype C64"):
        read_state(path)


# ---- at random -------------------------------------------------------------------------------------------------------
@st.composite
def damages(draw):
    """A function from the bytes of a file, and of others, to damaged ones."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "drop", "splice", "fill"]))
    where, length = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    byte, other = draw(st.integers(0, 255)), draw(st.sampled_from(NAMES))

    def damage(data, others):
        at = int(where * (len(data) - 1))
        if kind == "flip":
            return data[:at] + bytes([data[at] ^ (byte or 1)]) + data[at + 1 :]
        if kind == "cut":
            return data[:at]
        if kind == "splice":
            return data[:at] + others[other][at:]
        middle = {
            "insert": bytes([byte]) * length + data[at : at + length],
            "drop": b"",
            "fill": bytes([byte]) * length,
        }
        return data[:at] + middle[kind] + data[at + length :]

    return damage


LOOSE = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@LOOSE
@given(found=st.lists(damages(), min_size=1, max_size=3))
def test_damage_at_random(name, found, good, tmp_path):
    data = good[name]
    for damage in found:
        data = damage(data, good) or b"x"
    path = tmp_path / name
    path.write_bytes(data)
    model = small()
    try:
        read(path, model)
    except (ValueError, FileNotFoundError):
        return
    assert [w.shape for w in model.get_weights()] == [w.shape for w in small().get_weights()]


@st.composite
def json_edits(draw):
    """A function that changes a JSON value somewhere."""
    steps = draw(st.lists(st.integers(0, 30), min_size=1, max_size=8))
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
        | st.sampled_from(["keras", "keras.layers", "Sequential", "Dense", "function", "__numpy__", "relu", "mse"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=5,
    )  # fmt: skip
    value, how = draw(values), draw(st.sampled_from(["set", "delete", "copy"]))

    def edit(config):
        place, key = config, None
        for step in steps:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = keys[step % len(keys)]
            if not isinstance(place[key], (dict, list)) or not place[key]:
                break
            place, last = place[key], place
        else:
            place = last
        if how == "delete":
            del place[key]
        else:
            place[key] = json.loads(json.dumps(place)) if how == "copy" else value

    return edit


@pytest.mark.filterwarnings("ignore")
@LOOSE
@given(edits=st.lists(json_edits(), min_size=1, max_size=2))
def test_configs_at_random(edits, good, tmp_path):
    def change(config):
        for edit in edits:
            if config:
                edit(config)

    path = with_config(good, tmp_path / "m.keras", change)
    with contextlib.suppress(ValueError):
        models.load_model(path)


def test_the_parts_of_it_refuse_by_themselves():
    with pytest.raises(ValueError, match="no whole"):
        archive.unpack(b"PK", "it")
    with pytest.raises(ValueError, match="no whole HDF5 file"):
        hdf5.read(b"\x89HDF", "it")
    assert Path(saving.__file__).name == "__init__.py"
