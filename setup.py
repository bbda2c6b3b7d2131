"""Metadata is in pyproject.toml; what stands here is where the packages are, and the machine code that they carry.

The kernel sources live in `kernels/`, beside the package; a wheel carries them inside it, as gpumlp/kernels, because
`kernels` is another project's import name. On Linux x86-64 and AArch64 the CPU's kernels are compiled here, into
gpumlp/compiled: in a wheel or, for an editable install, in the checkout. Where that cannot be, for want of Numba or of
a linker, the package is installed without, and says so; with GPUMLP_LIBRARY=require that is an error, and with
GPUMLP_LIBRARY=none it is not tried.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent


class build_library(Command):
    """Compile the CPU's kernels and the package's formulas into a library for each set of instructions."""

    user_options = []  # noqa: RUF012  as setuptools has it
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    @property
    def folder(self):
        return (ROOT if self.editable_mode else Path(self.build_lib)) / "gpumlp" / "compiled"

    def run(self):
        asked = os.environ.get("GPUMLP_LIBRARY", "")
        if asked not in ("", "none", "require"):
            raise SystemExit(f"GPUMLP_LIBRARY must be none or require; got {asked!r}.")
        done = asked != "none" and self._build()
        if not done:
            for old in self.folder.glob("*.so"):
                old.unlink()
        if asked == "require" and not done:
            raise SystemExit("GPUMLP_LIBRARY=require: the CPU's kernels could not be compiled; see above.")

    def _build(self):
        if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
            print("No compiled kernels come with it: they are for Linux on x86-64 and AArch64.", file=sys.stderr)
            return False
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        call = [sys.executable, "-m", "gpumlp.backends.build_library", str(self.folder)]
        return subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, check=False).returncode == 0

    def get_source_files(self):
        return []

    def get_outputs(self):
        return list(map(str, self.folder.glob("*.so")))

    def get_output_mapping(self):
        return {}


class wheel(bdist_wheel):
    """A wheel for one platform and any Python where it carries machine code, which knows nothing of Python."""

    def run(self):
        self.run_command("build")
        if self.get_finalized_command("build_library").get_outputs():
            self.root_is_pure = False
            self.distribution.has_ext_modules = lambda: True  # what is asked where files go
        super().run()

    def get_tag(self):
        return "py3", "none", "any" if self.root_is_pure else super().get_tag()[2]


build.sub_commands = [*build.sub_commands, ("build_library", None)]

setup(
    packages=[*find_packages(include=["gpumlp", "gpumlp.*"]), "gpumlp.kernels", "gpumlp.kernels.cpu"],
    package_dir={"gpumlp.kernels": "kernels"},
    package_data={"gpumlp": ["py.typed"], "gpumlp.kernels": ["*"]},
    cmdclass={"bdist_wheel": wheel, "build_library": build_library},
)
