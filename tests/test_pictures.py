"""README's pictures of speed: they are of the committed rows, and show of each peer the fastest way."""

import sys
from pathlib import Path

import numpy as np
import pytest

import gpumlp


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(gpumlp.__file__).parents[1] / "benchmarks"), *sys.path])
    monkeypatch.setattr(sys, "argv", ["pictures.py", "--check"])
    import pictures

    return pictures


def row(contender, median=1.0, ratio=1.0):
    import rows

    return rows.Row("jobs", "1-2-1: 3 s, 10 steps", contender, "s", median, 1, 1, ratio, 1, 1, 3, "", "", "", "")


@pytest.mark.parametrize("name", ["ROWS", "GPU_ROWS"])
def test_a_picture_knows_the_rows_that_it_is_of(pictures, monkeypatch, tmp_path, capsys, name):
    import rows

    assert pictures.main() == 0
    found = rows.read(getattr(pictures, name))
    drawn = next(r for r in found if r.unit in ("s", "us per step") and "turns" not in r.workload)
    drawn.median += 1
    changed = tmp_path / "rows.csv"
    rows.write(changed, found)
    monkeypatch.setattr(pictures, name, changed)
    assert pictures.main() == 1
    assert ("speed_gpu.png" in capsys.readouterr().err) == (name == "GPU_ROWS")


def test_of_each_peer_it_is_the_fastest_way(pictures):
    nothing, *others = pictures.times([row("JAX, lax.scan, newest Python", ratio=2.0), row("JAX, lax.scan", ratio=3.0)])
    assert nothing == 2.0 and np.isnan(others).all()
    group = [row("JAX, lax.scan on the GPU", 5.0), row("JAX, lax.scan unrolled by 10", 4.0)]
    assert pictures.fastest(group, "JAX, lax.scan") == 4.0 and np.isnan(pictures.fastest(group, "Keras"))


def test_of_ours_it_is_what_users_get(pictures):
    group = [row("gpumlp", 3.0), row("gpumlp, whole fit by tags", 2.0), row("gpumlp", 2.5)]
    assert pictures.fastest(group, "gpumlp") == 3.0
