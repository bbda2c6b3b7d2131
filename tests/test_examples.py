"""The examples, run as a person runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, folder, *arguments):
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(EXAMPLES.parent), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=600)


def test_the_articles_script_runs_and_learns(tmp_path):
    done = run("sine.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "395,521" in done.stdout
    losses = [float(line.rsplit(": ", 1)[1]) for line in done.stdout.splitlines() if " - loss: " in line]
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    assert "\r" not in done.stdout and "\x1b" not in done.stdout


def test_digits_are_recognised(tmp_path):
    pytest.importorskip("sklearn")
    done = run("digits.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.rsplit(": ", 1)[1].rstrip("%\n")) >= 97.0


def test_the_ensemble_is_sure_where_there_is_data_and_nowhere_else(tmp_path):
    done = run("uncertainty.py", tmp_path, "--output", "plot.png")
    assert done.returncode == 0, done.stderr
    inside, outside = (float(line.rsplit(": ", 1)[1]) for line in done.stdout.splitlines()[1:])
    assert inside < 0.05 < 0.2 < outside
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_the_gallery_has_a_small_picture_of_each_kind(tmp_path):
    done = run("gallery.py", tmp_path, "--output", "pictures")
    assert done.returncode == 0, done.stderr
    made = {path.name: path.stat().st_size for path in (tmp_path / "pictures").iterdir()}
    assert made.keys() == {path.name for path in (EXAMPLES / "plots" / "gallery").iterdir()}
    assert all(3_000 < size < 60_000 for size in made.values()), made
