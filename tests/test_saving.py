"""Config dicts of what has one, and names of a user's own."""

import numpy as np
import pytest

from gpumlp import constraints, initializers, naming, saving, utils


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(naming, "registered", {})
    monkeypatch.setattr(saving.objects, "_names", {})


class Halved(initializers.Initializer):
    """Half of another one's."""

    def __init__(self, of="ones"):
        self.of = initializers.get(of)

    def __call__(self, shape, dtype=None):
        return self.of(shape, dtype) / 2


def test_what_is_registered_is_found_by_its_name():
    assert saving.register_keras_serializable("mine", "Half")(Halved) is Halved
    assert saving.get_registered_name(Halved) == "mine>Half" and saving.get_registered_name(len) == "len"
    assert saving.get_registered_object("mine>Half") is Halved is utils.get_custom_objects()["mine>Half"]
    one = Halved(initializers.Constant(3.0))
    described = saving.serialize_keras_object(one)
    assert described["registered_name"] == "mine>Half" and described["module"] == __name__
    for made in (initializers.deserialize(described), saving.deserialize_keras_object(described)):
        assert made == one and made((2,)).tolist() == [1.5, 1.5]
    assert initializers.get("mine>Half") == Halved()
    with pytest.raises(ValueError, match="Bare must have a method get_config"):
        saving.register_keras_serializable()(type("Bare", (), {}))


def test_a_scope_ends():
    with saving.custom_object_scope({"a": 1}), saving.CustomObjectScope({"b": 2}):
        assert [saving.get_registered_object(n) for n in "ab"] == [1, 2]
    assert saving.get_registered_object("a") is None
    assert saving.get_registered_object("a", {"b": 1}, {"a": 2}) == 2


def test_a_function_is_known_by_its_name():
    def positive(w):
        return np.abs(w)

    described = saving.serialize_keras_object(positive)
    assert described["class_name"] == "function" and described["config"] == "positive"
    for deserialize in (constraints.deserialize, saving.deserialize_keras_object):
        assert deserialize(described, {"positive": positive}) is positive
    with pytest.raises(TypeError, match="named functions"):
        saving.serialize_keras_object(lambda w: w)


def test_values_come_back():
    thing = {"a": [1, None, ("x", 2.5)], "b": {"c": np.arange(3)}, "d": constraints.MaxNorm(3.0), "e": np.float32(2)}
    back = saving.deserialize_keras_object(saving.serialize_keras_object(thing))
    assert back["a"] == thing["a"] and back["b"]["c"].tolist() == [0, 1, 2]
    assert back["d"] == thing["d"] and back["e"] == 2.0
    for wrong in (object(), Halved):
        with pytest.raises(TypeError, match="A config holds numbers, arrays"):
            saving.serialize_keras_object({"x": wrong})


def test_no_code_is_loaded_by_a_config():
    for module in ("os", None, "keras.nowhere"):
        with pytest.raises(ValueError, match=r"'system' of module .* is not known. Register it"):
            saving.deserialize_keras_object({"module": module, "class_name": "system", "config": {}})
