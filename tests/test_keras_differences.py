"""The list of what Keras's own unit tests find different, and the script that holds it against a run of them."""

import json

import keras_differences
import pytest

COLUMNS = ["file", "test", "says", "kind", "reason"]


def test_every_line_says_why():
    known = keras_differences.reasons()
    for row in known:
        assert list(row) == COLUMNS and all(row[name] for name in COLUMNS if name != "says"), row
    assert len({(row["file"], row["test"], row["says"]) for row in known}) == len(known)


def test_tests_without_a_reason_and_reasons_without_a_test_are_found(tmp_path, monkeypatch, capsys):
    known = [
        dict(zip(COLUMNS, row, strict=True))
        for row in (("a/*", "*::test_one", "float16", "dtype", "half"), ("b.py", "*", "", "private", "a helper"))
    ]
    monkeypatch.setattr(keras_differences, "reasons", lambda: known)
    ran = [
        {"file": "a/x.py", "test": "A::test_one", "class": "differs", "why": "ValueError: float16"},
        {"file": "a/x.py", "test": "A::test_one", "class": "differs", "why": "AssertionError"},
        {"file": "a/x.py", "test": "A::test_two", "class": "passed", "why": ""},
        {"file": "b.py", "test": "B::test", "class": "passed", "why": ""},
    ]
    (tmp_path / "results").write_text("\n".join(map(json.dumps, ran)), encoding="utf-8")
    assert keras_differences.main([str(tmp_path / "results")]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == ["no reason: a/x.py::A::test_one: 'AssertionError'", "not needed: b.py, *: a helper"]
    ran[1]["class"], ran[3]["class"] = "passed", "absent"
    (tmp_path / "results").write_text("\n".join(map(json.dumps, ran)), encoding="utf-8")
    assert keras_differences.main([str(tmp_path / "results")]) == 0 and capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="RESULTS"):
        keras_differences.main([])
