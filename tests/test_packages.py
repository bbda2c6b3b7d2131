"""A wheel in a fresh environment, outside of the checkout; and what is written about releases agrees.

The rest, each extra with the oldest and the newest versions by each Python, is `packages.py`, for `make dist`.
"""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import packages
import pytest

import gpumlp

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
METADATA = """Metadata-Version: 2.4
Name: gpumlp
Version: 1
Requires-Python: >=3.11
Requires-Dist: numpy>=2.0
Provides-Extra: plot
Requires-Dist: matplotlib>=3.10; extra == "plot"
Requires-Dist: old>=1; python_version < "3.12" and extra == "plot"
Provides-Extra: keras
Requires-Dist: h5py[more]<4,>=3; extra == "keras"
Provides-Extra: all
Requires-Dist: gpumlp[keras,plot]; extra == "all"
Provides-Extra: test
Requires-Dist: gpumlp[all]; extra == "test"
"""


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


# ---- what an installation does ---------------------------------------------------------------------------------------


def test_an_installed_wheel_does_what_was_promised(wheel_file, tmp_path):
    environment, outside = tmp_path / "environment", tmp_path / "outside"
    outside.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = packages.python_of(environment)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(wheel_file)]
    packages.ran(install)
    came = "numpy" if wheel_file.name.endswith("-any.whl") else "compiled"
    packages.promised(python, came, [], outside, outside)
    with pytest.raises(RuntimeError, match="AssertionError"):
        packages.promised(python, "compiled" if came == "numpy" else "numpy", [], outside, outside)


@pytest.fixture
def release(tmp_path):
    """Files of a release of which nothing is there but what they are called, and a wheel's metadata."""
    for name in ("gpumlp-1-py3-none-any.whl", "gpumlp-1-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("gpumlp-1.dist-info/METADATA", METADATA)
    (tmp_path / "gpumlp-1.tar.gz").touch()
    return packages.Release(tmp_path)


def test_the_oldest_versions_are_asked_of_what_the_package_names_itself(release):
    """Uv takes the oldest of what it is told by name alone, so all of it must be told, without conditions."""
    assert release.extras() == ["plot", "keras", "all"]
    assert release.requirements("", "3.11.7") == ["numpy>=2.0"]
    assert release.requirements("plot", "3.11.7") == ["numpy>=2.0", "matplotlib>=3.10", "old>=1"]
    assert release.requirements("plot", "3.12.1") == ["numpy>=2.0", "matplotlib>=3.10"]
    assert release.parts("all", "3.12.1") == ["keras", "plot"] and release.parts("keras", "3.12.1") == ["keras"]
    assert release.requirements("all", "3.12.1") == ["numpy>=2.0", "h5py[more]<4,>=3", "matplotlib>=3.10"]


def test_every_extra_is_tried_by_every_python_with_the_oldest_and_the_newest(release):
    tried = [(t.python, t.extra, t.resolution) for t in packages.trials(release, ["3.11.7", "3.12.1"])]
    for python in ("3.11.7", "3.12.1"):
        for extra in ("", *release.extras()):
            assert {(python, extra, how) for how in (packages.OLDEST, packages.NEWEST)} <= set(tried)


def test_a_trial_s_row_takes_its_predecessor_s_place(tmp_path):
    first = [
        packages.Trial("3.12.1", "wheel"),
        packages.Trial("3.11.7", "wheel"),
        packages.Trial("3.14", "", note="none"),
    ]
    packages.write(tmp_path / "rows.csv", first)
    packages.write(tmp_path / "rows.csv", [packages.Trial("3.11.9", "wheel", passed="yes")])
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ["3.11.9,wheel,,highest,,yes,", "3.12.1,wheel,,highest,,no,", "3.14,,,highest,,no,none"]


def test_a_release_wants_a_source_and_two_wheels(release, tmp_path):
    (tmp_path / "gpumlp-1-py3-none-any.whl").unlink()
    with pytest.raises(SystemExit, match="a source and two wheels"):
        packages.Release(tmp_path)


def test_every_extra_of_a_user_s_has_its_trial(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    import packaged

    extras = {name: needs for name, needs in PROJECT["optional-dependencies"].items()}
    ours = extras.keys() - packages.DEVELOPMENT - {"all"}
    assert ours == packaged.EXTRAS.keys()
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything)) == {"gpumlp", *ours} - {"cuda12", "cuda13"}


# ---- what is written about releases ----------------------------------------------------------------------------------


def test_the_version_stands_once_and_the_files_about_it_agree():
    assert "version" not in PROJECT and "version" in PROJECT["dynamic"]
    cited = dict(re.findall(r"(?m)^(version|date-released): (.*)$", text("CITATION.cff")))
    released = re.findall(r"(?m)^## \[(\d.*?)\] - (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"))
    assert (cited["version"], cited["date-released"]) == released[0]
    assert gpumlp.__version__ == released[0][0]


def test_the_public_ci_service_runs_the_gate_and_the_makefile_s_targets():
    """Its file is held to its schema by make dist; this is what no schema knows."""
    workflow, targets = text(".github/workflows/ci.yml"), re.findall(r"(?m)^(\w[\w-]*):", text("Makefile"))
    commands = re.findall(r"(?m)^ *(?:- )?run: (.*)$", workflow)
    assert "bash .ci/run" in commands
    called = re.findall(r"(?m)^make (\S+)$", "\n".join([*commands, text(".ci/run")]))
    assert {"lint", "test", "parity", "dist"} <= set(called) <= set(targets)
    tried = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.", c)]
    assert re.search(r"python: \[(.*)\]", workflow)[1] == ", ".join(f'"{python}"' for python in tried)


def test_install_sizes_are_a_table_of_the_readme_s(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import install_sizes
    import rows
    import tables

    more = ("3.11.7", "Linux x86_64", "0123456789", "2026-11-26T12:00Z")
    sizes = [
        install_sizes.Size("gpumlp", 40.0, 3, "gpumlp 1", *more),
        install_sizes.Size("JAX", 400.5, 7, "jax 2", *more),
    ]
    install_sizes.write(tmp_path / "install_sizes.csv", sizes)
    assert install_sizes.read(tmp_path / "install_sizes.csv") == sizes
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    filled = tables.filled("<!-- table install_sizes -->\n<!-- end -->\n")
    assert "| `gpumlp` | 40 | 1.0 | 3 |\n| JAX | 400 | 10.0 | 7 |\n" in filled
    assert "Linux x86_64; Python 3.11.7; gpumlp 1, jax 2; 2026-11-26." in filled
