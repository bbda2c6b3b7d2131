"""The kernel sources are found however gpumlp is installed."""

import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gpumlp import kernel_sources

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (sys.platform, platform.machine()) == ("linux", "x86_64")
CODE = """
from gpumlp import kernel_sources
from gpumlp.backends import instruction_set, job, native

assert kernel_sources.source("README.md") and job.layout().JOB_WORDS
assert native.key_of(kernel_sources.folder() / "cpu", instruction_set.chosen())
print(kernel_sources.folder())
"""


def found(python_path, cwd, *options):
    environment = {**os.environ, "PYTHONPATH": str(python_path)}
    command = [sys.executable, *options, "-c", CODE]
    out = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return Path(out.stdout.strip())


@pytest.fixture(scope="module")
def wheel(wheel_file, tmp_path_factory):
    """A wheel's content."""
    assert wheel_file.name.endswith("py3-none-linux_x86_64.whl" if LIBRARIES else "py3-none-any.whl")
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_outside_a_checkout(wheel, tmp_path):
    assert found(wheel, tmp_path) == wheel / "gpumlp" / "kernels"
    assert not (wheel / "kernels").exists()


@pytest.mark.skipif(not LIBRARIES, reason="machine code comes with gpumlp on Linux on x86-64 alone")
def test_a_wheel_has_the_machine_code_for_its_sources(wheel, tmp_path):
    code = """
from gpumlp.backends import shipped
from gpumlp.backends.build_library import NAMES

print([isinstance(shipped.opened(shipped.FOLDER / f"{name}.so"), shipped.Library) for name in NAMES], shipped.FOLDER)
"""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert out.stdout == f"[True, True] {wheel / 'gpumlp' / 'compiled'}\n"


def test_wheel_inside_a_checkout(wheel):
    assert found(wheel, ROOT, "-P") == wheel / "gpumlp" / "kernels"  # the current folder is not searched first


def test_bare_checkout():
    # "" is the current folder, first on the path: site-packages cannot shadow the checkout
    assert found("", ROOT) == ROOT / "kernels"


def test_editable_install(tmp_path):
    assert found("", tmp_path) == ROOT / "kernels"


def test_an_unknown_source_lists_what_there_is():
    with pytest.raises(FileNotFoundError, match=r"README\.md"):
        kernel_sources.source("nothing.cu")
