"""What a person sees: the progress display on a terminal, in a file and in a notebook; the commands."""

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpumlp import Ensemble, callbacks, cli, devices, layers, models, optimizers
from gpumlp.training import progress

ROOT = Path(cli.__file__).parents[1]
SCRIPT = """
import numpy as np
from gpumlp import callbacks, layers, models
from gpumlp.training import progress
progress.REFRESH_SECONDS = 0.0
model = models.Sequential([layers.Dense(4, input_shape=(1,)), layers.Dense(1)])
model.compile(loss="mse", metrics=["mae"])
x = np.linspace(0, 1, 60)
model.fit(x, x, batch_size=10, epochs=2, validation_split=0.5{arguments})
model.evaluate(x, x{arguments})
model.predict(x{arguments})
"""
TIME = r"\d+s \d+(ms|us|s)/step"
LINE = r"{0}/{0} ━{{20}} " + TIME
EVERY_BATCH = ", callbacks=callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)"


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **more}


def piped(arguments="", **more):
    command = [sys.executable, "-c", SCRIPT.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, env=environment(**more), timeout=600, check=True)
    return done.stdout.decode(more.get("PYTHONIOENCODING", "utf-8"))


def test_into_a_file_go_plain_lines():
    lines = piped().splitlines()
    logs = r" - loss: [\d.e-]+ - mae: [\d.e-]+"
    epoch = LINE.format(3) + logs + r" - val_loss: [\d.e-]+ - val_mae: [\d.e-]+"
    patterns = ["Epoch 1/2", epoch, "Epoch 2/2", epoch, LINE.format(2) + logs, LINE.format(2)]
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_verbose_2_is_one_line_an_epoch_and_0_is_silent():
    lines = piped(", verbose=2").splitlines()
    values = r" - loss: [\d.e-]+ - mae: [\d.e-]+ - val_loss: [\d.e-]+ - val_mae: [\d.e-]+"
    assert lines[0] == "Epoch 1/2" and re.fullmatch(r"3/3 - \d+s - \d+(ms|us|s)/step" + values, lines[1])
    assert piped(", verbose=0") == ""


def test_an_encoding_without_box_characters_gets_ascii():
    assert "3/3 " + "=" * 20 in piped(PYTHONIOENCODING="ascii")


def on_a_terminal(arguments="", size=None, **more):
    """Return what the script sends to a terminal of ``size`` (rows, columns); None: one that does not know its own."""
    pty, termios, fcntl = (pytest.importorskip(m) for m in ("pty", "termios", "fcntl"))
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", *(size or (0, 0)), 0, 0))
    variables = {k: v for k, v in environment(**more).items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-c", SCRIPT.format(arguments=arguments)]
    with subprocess.Popen(command, stdout=terminal, env=variables) as child:
        os.close(terminal)
        received = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            received += part
        assert child.wait(600) == 0
    os.close(main)
    return received.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("size", "columns"), [((24, 80), 80), ((24, 60), 60), ((24, 30), 30), (None, 80), ((24, 9), 9)]
)
def test_on_a_terminal_the_line_is_rewritten_in_place_and_does_not_wrap_before_it_is_whole(size, columns):
    rows = on_a_terminal(EVERY_BATCH, size).split("\n")
    assert rows[0] == "Epoch 1/2" and rows[2] == "Epoch 2/2"
    *frames, last = rows[1].split("\r")[1:]
    assert [frame[:4] for frame in frames] == ["1/3 ", "2/3 ", "3/3 "]
    assert all(len(frame) == columns - 1 or "mae" in frame for frame in frames)
    assert all(len(frame) < columns for frame in frames)
    bar = {80: "━" * 6 + "╺" + "─" * 13 + " ", 60: "━"}.get(columns, "0s"[: columns - 5])  # before numbers are cut
    assert frames[0].startswith("1/3 " + bar)
    assert columns < 60 or all(re.search(r" - loss: [\d.e-]+ - mae: [\d.e-]+ *$", frame) for frame in frames)
    assert last.startswith("3/3 " + "━" * 20) and re.search(r" - val_mae: [\d.e-]+ *$", last)


def test_on_a_terminal_in_ascii_the_line_is_rewritten_too():
    rows = on_a_terminal(EVERY_BATCH, (24, 80), PYTHONIOENCODING="ascii").split("\n")
    frames = rows[1].split("\r")[1:]
    assert frames[0].startswith("1/3 " + "=" * 6 + "-" * 14) and frames[-1].startswith("3/3 " + "=" * 20)


def test_in_a_notebook_the_line_is_rewritten_too(monkeypatch):
    out = io.StringIO()
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    bar = progress.Progress(4, 1, "Epoch 1/1")
    bar.update(1, {"loss": 0.5})
    bar.finish(4, {"loss": 2e-5})
    first, second = out.getvalue().split("\r")[1:]
    assert out.getvalue().startswith("Epoch 1/1\n")
    assert "1/4 ━━━━━╺" in first and first.endswith("loss: 0.5000")
    assert second.rstrip().endswith("loss: 2.0000e-05") and second.endswith("\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5123, "0.5123"), (12.0, "12.0000"), (1e-3, "1.0000e-03"), (-2e-7, "-2.0000e-07"), (0, "0.0000e+00")],
)
def test_numbers_are_shown_as_keras_shows_them(value, text):
    assert progress.number(value) == text


@pytest.fixture
def figures(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    yield pyplot
    pyplot.close("all")


def test_results_show_themselves_in_a_line():
    model = models.Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile(loss="mse")
    x, y = np.ones((4, 3)), np.ones((4, 2))
    assert repr(model.gradients(x, y)) == "<Gradients by inputs of shape (4, 3), by weights of shapes [(3, 2), (2,)]>"
    assert repr(model.fit(x, y, epochs=2, verbose=0)) == "<History of 2 epochs: loss>"

    def build():
        member = models.Sequential([layers.Dense(1, input_shape=(1,))], name="one")
        member.compile(loss="mse")
        return member

    each = "<Sequential one: 1 layer, 2 parameters, compiled with RMSprop, mean_squared_error>"
    assert repr(Ensemble(build, 1)) == f"<Ensemble of 1 member, {each}>"
    assert repr(Ensemble(build, 3)) == f"<Ensemble of 3 members, each like {each}>"


def test_reprs_are_one_line():
    norm = layers.Normalization(name="norm")
    norm.adapt(np.random.default_rng(0).normal(size=(50, 13)))
    assert re.fullmatch(r"<Normalization norm: mean=\[(-?[\d.]+, ){4}\.\.\.\], variance=\[.*, \.\.\.\]>", repr(norm))
    decay = optimizers.schedules.ExponentialDecay(3e-3, 2000, 0.7)
    adam = optimizers.Adam(decay)
    assert repr(adam) == f"Adam(learning_rate={decay!r})" and "decay_rate=0.7" in repr(adam)
    assert repr(devices.Device("cpu", "asked for")) == "<Device cpu, auto kernels, asked for>"


def test_the_demo_prints_a_table_and_writes_its_plots(figures, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "SETTINGS", (("short", 10, 3, False), ("article", 30, 2, True)))
    assert cli.main(["demo", "--output", str(tmp_path / "plots")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"short +10 x 3 +cpu +395,521 +\d+\.\d\d +\d\.\d\de[+-]\d\d\n", out)
    for name in ("sine_short.png", "sine_article.png", "loss.png"):
        assert (tmp_path / "plots" / name).stat().st_size > 10_000
        assert str(tmp_path / "plots" / name) in out
    assert f"the plots go to {tmp_path / 'plots'}{os.sep}\n" in out


def test_the_demo_says_when_its_folder_cannot_be_written(figures, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--output", str(tmp_path / "file")]) == 1
    assert "Choose another --output" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error_message(figures, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "SETTINGS", (("short", 1, 1, False),))
    (tmp_path / "sine_short.png").symlink_to("/dev/full")
    assert cli.main(["demo", "--output", str(tmp_path)]) == 1
    assert "No space left" in capsys.readouterr().err


def test_without_matplotlib_the_demo_names_the_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["demo", "--output", str(tmp_path)]) == 1
    assert "gpumlp[plot]" in capsys.readouterr().err


def test_info_says_what_is_wrong_with_a_variable(monkeypatch, capsys):
    monkeypatch.setenv("GPUMLP_KERNELS", "foo")
    assert cli.main(["info"]) == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "got 'foo'" in rows["compiled"] and "compiled" not in rows["cpu kernels"]


def test_info_names_versions_blas_threads_and_the_device(capsys):
    assert cli.main(["info"]) == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["numpy"] == np.__version__
    assert rows["device"] == "cpu (from GPUMLP_DEVICE)"
    assert re.match(r"\d+ \(\d+ processors\)|.*default|.*_NUM_THREADS", rows["blas threads"])


def test_the_environment_chooses_the_device(monkeypatch):
    from gpumlp import devices

    monkeypatch.setenv("GPUMLP_DEVICE", "cpu")
    assert devices.resolve().reason == "from GPUMLP_DEVICE"
    monkeypatch.setenv("GPUMLP_DEVICE", "tpu")
    with pytest.raises(ValueError, match="'tpu' \\(from GPUMLP_DEVICE\\)"):
        devices.resolve()


def test_callbacks_say_what_they_were_made_with():
    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    assert repr(stop) == "EarlyStopping(monitor='loss', patience=2, restore_best_weights=True)"
    assert repr(callbacks.CallbackList([callbacks.TerminateOnNaN()])) == "CallbackList([TerminateOnNaN()])"
    assert repr(callbacks.Callback()) == "Callback()"


def test_without_a_command_there_is_help(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert out == capsys.readouterr().out and "demo" in out


def test_check_has_a_line_an_operation(monkeypatch, capsys):
    assert cli.main(["check", "--device", "cpu", "--kernels", "numpy", "--small"]) == 0
    _, _, head, *lines, end = capsys.readouterr().out.splitlines()
    assert len(lines) < 30 and max(map(len, [head, *lines])) < 100 and all("  PASS  " in line for line in lines)
    cases = sum(int(line[36:42]) for line in lines)
    assert cli.main(["check", "--device", "cpu", "--kernels", "numpy", "--small", "--all"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert len(every) == cases + 4 and every[-1] == end and end.startswith(f"{cases} passed, 0 failed")


def test_check_shows_each_case_that_failed(monkeypatch, capsys):
    from gpumlp import activations, check

    right = check.dense_cases

    def wrong(shape, activation, bias=True):
        for case in right(shape, activation, bias):
            exact = {**vars(case), "bound": lambda inputs, truth: dict.fromkeys(truth, 0.0)}
            yield check.Case(**exact) if case.operation == "dense_forward" else case

    monkeypatch.setattr(check, "dense_sweep", lambda shapes: wrong((3, 17, 5), activations.tanh))
    monkeypatch.setattr(check, "other_cases", lambda small: ())
    assert cli.main(["check", "--device", "cpu", "--kernels", "numpy", "--small"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"dense_forward +3x17x5 tanh +numpy +\S+  FAIL  y\[\d, \d\] = ", out)
    assert re.search(r"dense_forward +numpy +1 +\S+  FAIL  3x17x5 tanh\n", out) and "1 passed, 1 failed" in out
