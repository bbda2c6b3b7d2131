"""What is shown, on whatever standard output is: nothing, an object of somebody's, a poor encoding, a broken pipe."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpumlp import callbacks, cli, layers, models
from gpumlp.training.progress import say

ROOT = Path(cli.__file__).parents[1]
X = np.linspace(0, 1, 20)


def build():
    model = models.Sequential([layers.Dense(2, input_shape=(1,), name="schön"), layers.Dense(1, name="last")])
    model.compile(loss="mse", optimizer="sgd")
    return model


def train(verbose=1, **how):
    """Run everything that shows something; return the History."""
    model = build()
    history = model.fit(X, X, epochs=3, verbose=verbose, **how)
    model.evaluate(X, X, verbose=verbose)
    model.predict(X, verbose=verbose)
    return history


class WriteOnly:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class WriteAndFlush(WriteOnly):
    written = ""

    def flush(self):
        self.written = self.text


class Failing(WriteAndFlush):
    """Takes so many writes, then raises."""

    def __init__(self, error, writes=0):
        super().__init__()
        self._error, self._writes = error, writes

    def write(self, text):
        if not self._writes:
            raise self._error
        self._writes -= 1
        super().write(text)


class FailingToFlush(WriteOnly):
    def flush(self):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("verbose", [1, 2])
def test_without_a_standard_output_training_is_silent(monkeypatch, verbose):
    monkeypatch.setattr(sys, "stdout", None)
    assert len(train(verbose).epoch) == 3
    say("nobody hears")
    assert cli.main(["info"]) == 0


@pytest.mark.parametrize("kind", [WriteOnly, WriteAndFlush])
@pytest.mark.parametrize("verbose", [1, 2])
def test_an_object_that_can_only_be_written_to_gets_plain_lines(monkeypatch, kind, verbose):
    monkeypatch.setattr(sys, "stdout", out := kind())
    train(verbose)
    lines = out.text.splitlines()
    assert lines[0::2][:3] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"] and len(lines) == 8
    assert all("/step - loss: " in line for line in lines[1:6:2]) and "\r" not in out.text


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left"), ValueError("closed"), RuntimeError()]
)
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_training_outlives_a_stream_that_breaks(monkeypatch, error, writes):
    monkeypatch.setattr(sys, "stdout", out := Failing(error, writes))
    history = train()
    assert history.epoch == [0, 1, 2] and np.isfinite(history.history["loss"]).all()
    assert out.text.count("\n") == writes


def test_training_outlives_a_closed_stream_and_one_that_cannot_be_flushed(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, FailingToFlush()):
        monkeypatch.setattr(sys, "stdout", stream)
        assert len(train().epoch) == 3


def test_a_broken_stream_is_tried_again_by_the_next_epoch(monkeypatch):
    broken, later = Failing(BrokenPipeError()), io.StringIO()
    monkeypatch.setattr(sys, "stdout", broken)
    mend = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch and monkeypatch.setattr(sys, "stdout", later)
    )
    train(callbacks=mend)
    assert later.getvalue().startswith("Epoch 2/3\n1/1 ")


def test_an_interrupt_in_a_stream_is_an_interrupt(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train()


def test_every_finished_epoch_is_written_out_before_the_next(monkeypatch):
    monkeypatch.setattr(sys, "stdout", out := WriteAndFlush())
    written = []
    look = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: written.append(out.written))
    build().fit(X, X, epochs=3, verbose=1, callbacks=look)
    assert [text.count("- loss: ") for text in written] == [0, 1, 2] and out.written.count("- loss: ") == 3


def test_the_log_file_of_a_killed_job_has_its_finished_epochs(tmp_path):
    code = (
        "import os, numpy as np; from gpumlp import callbacks, layers, models\n"
        "model = models.Sequential([layers.Dense(1, input_shape=(1,))]); model.compile(loss='mse')\n"
        "kill = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch == 2 and os._exit(9))\n"
        "model.fit(np.ones(4), np.ones(4), epochs=5, verbose={}, callbacks=kill)"
    )
    for verbose in (1, 2):
        with open(tmp_path / "log", "wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
            done = subprocess.run(
                [sys.executable, "-c", code.format(verbose)], stdout=log, env=environment, timeout=600
            )
        assert done.returncode == 9
        assert (tmp_path / "log").read_bytes().count(b"- loss: ") == 2


def test_a_stream_replaced_between_epochs_gets_the_epochs_that_follow(monkeypatch):
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", first)
    replace = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: monkeypatch.setattr(sys, "stdout", second if epoch else first)
    )
    build().fit(X, X, epochs=2, verbose=2, callbacks=replace)
    assert first.getvalue().startswith("Epoch 1/2\n1/1 - ") and second.getvalue().startswith("Epoch 2/2\n1/1 - ")
    with contextlib.redirect_stdout(io.StringIO()) as third:
        build().predict(X, verbose=1)
    assert third.getvalue().startswith("1/1 ━")


# ---- encodings -------------------------------------------------------------------------------------------------------


class Tee:
    """What scripts put in place of standard output: it says nothing of its encoding."""

    def __init__(self, file):
        self._file = file

    def write(self, text):
        self._file.write(text)


def encoded(encoding, errors="strict", tee=False):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding, errors, newline="\n", write_through=True)
    return raw, Tee(file) if tee else file


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(("errors", "tee"), [("strict", False), ("replace", False), ("strict", True)])
def test_an_encoding_without_boxes_gets_the_table_and_the_bar_in_ascii(monkeypatch, encoding, errors, tee):
    raw, stream = encoded(encoding, errors, tee)
    model = build()
    monkeypatch.setattr(sys, "stdout", stream)
    model.summary(line_length=50)
    model.fit(X, X, epochs=1, verbose=1)
    lines = raw.getvalue().decode(encoding).splitlines()
    name = "schön" if encoding == "cp1252" else "sch?n"
    assert lines[:5] == [
        f'Model: "{model.name}"',
        "+=====================+================+=========+",
        "| Layer (type)        | Output Shape   | Param # |",
        "+=====================+================+=========+",
        f"| {name} (Dense)       | (None, 2)      |       4 |",
    ]
    assert lines[-1].startswith("1/1 " + "=" * 20)


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "│ ├─┤ │\n┏━┓\n"), ("cp437", "│ ├─┤ │\n+=+\n"), ("ascii", "| +-+ |\n+=+\n")]
)
def test_an_encoding_that_has_boxes_gets_them(monkeypatch, encoding, shown):
    raw, stream = encoded(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    say("│ ├─┤ │")
    say("┏━┓")
    assert raw.getvalue().decode(encoding) == shown


def test_a_function_given_to_summary_gets_the_text_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", encoded("ascii")[1])
    got = []
    build().summary(print_fn=got.append)
    assert "┃ Layer (type)" in got[0] and "schön" in got[0]


def test_the_commands_print_in_any_encoding_and_say_when_they_cannot(monkeypatch, capsys):
    monkeypatch.setattr(cli, "version", lambda package: "1.0 ä")
    raw, stream = encoded("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["info"]) == 0
    assert b"1.0 ?" in raw.getvalue()
    monkeypatch.setattr(sys, "stdout", Failing(OSError(28, "No space left on device")))
    assert cli.main(["info"]) == 1
    assert "No more can be written: [Errno 28] No space left on device" in capsys.readouterr().err
