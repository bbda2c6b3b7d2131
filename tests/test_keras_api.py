"""The tables of how much of Keras runs: counted from what was run, and written into the README."""

import json
import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The benchmarks' folder on the path."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])


def test_scripts_are_counted_by_what_they_are_about(monkeypatch, tmp_path):
    import keras_api
    import rows
    import tables

    lines = [
        "01_first_net       ok  ", "02_second_net      differs  ", "      w: keras 1", "50_titanic_frame   ok  ",
        "31_multi_output    stops  NotImplementedError: gpumlp has no keras.models.Model. Sequential is | 8: Model()",
        "07_functional      stops  NotImplementedError: gpumlp has no keras.layers.Concatenate. Sequential | 8: x",
        "08_functional_two  stops  TypeError: Layer 'dense' computes. There is no functional API: Seq | 8: x",
        "17_saving          stops  AttributeError: 'Sequential' object has no attribute 'save' | 9: model.save()",
        "2 of 5 scripts are right",
    ]  # fmt: skip
    parts = keras_api.of_scripts(lines, "Keras 3")
    assert [(p.part, p.right, p.of) for p in parts] == [
        ("first networks", 1, 2), ("frames, generators, series", 1, 1), ("saving, checkpoints", 0, 1),
        ("several inputs or outputs, the functional API", 0, 3),
    ]  # fmt: skip
    assert parts[2].words == "Sequential.save" and parts[3].words == "keras.Model, keras.layers.Concatenate"
    keras_api.write(tmp_path / "keras_scripts.csv", parts)
    assert keras_api.read(tmp_path / "keras_scripts.csv") == parts
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    text = tables.filled("<!-- table keras_scripts -->\n<!-- end -->\n<!-- table keras_tests -->\nold\n<!-- end -->\n")
    assert text.splitlines()[1:8] == [
        "| scripts | run | what the others want |",
        "|---|---:|---|",
        "| first networks | 1 of 2 |  |",
        "| frames, generators, series | 1 of 1 |  |",
        "| saving, checkpoints | 0 of 1 | `Sequential.save` |",
        "| several inputs or outputs, the functional API | 0 of 3 | `keras.Model`, `keras.layers.Concatenate` |",
        "| all | 2 of 7 |  |",
    ]
    assert "Not measured yet." in text and tables.filled(text) == text


def test_tests_are_counted_by_module():
    import keras_api

    lines = [
        json.dumps({"file": "layers/core/dense_test.py", "class": kind})
        for kind in ("passed", "adapted", "absent", "differs", "out", "skipped")
    ]
    parts = keras_api.of_tests([*lines, '{"file": "losses/loss_test.py", "class": "passed"}'], "Keras 3")
    assert [(p.part, p.right, p.of, p.outside) for p in parts] == [("layers", 2, 4, 1), ("losses", 1, 1, 0)]
    assert keras_api.table(parts, "tests").splitlines()[2:] == [
        "| layers | 2 of 4 | 1 |", "| losses | 1 of 1 |  |", "| all | 3 of 5 | 1 |",
    ]  # fmt: skip
