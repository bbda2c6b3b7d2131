"""Try the files of a release in fresh environments: python tests/packages.py [dist] [--output ROWS.csv]; by make dist.

Every extra that a user may ask for, the oldest and the newest of every version that pyproject.toml allows, each Python
from the oldest on that this machine has; the wheel without kernels, the source with no linker at hand, the wheel in a
checkout. What an installation must do is in `packaged.py`, which each environment's Python runs. The file of rows says
of each what was installed, and whether it passed; the exit status is 1 where one did not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = Path(__file__).with_name("packaged.py")
DEVELOPMENT = {"test", "parity", "bench", "lint", "dist", "docs"}  # extras that a checkout alone has a use for
OLDEST, NEWEST = "lowest-direct", "highest"  # as uv says it; "direct" are the packages that pyproject.toml names
WITHOUT = {"no linker": {"PATH": ""}, "GPUMLP_LIBRARY=none": {"GPUMLP_LIBRARY": "none"}}  # kernels are not built with
LEFT_OUT = ("PYTHON", "GPUMLP_", "NUMBA_", "VIRTUAL_ENV")  # variables that change what an environment does


@dataclass
class Trial:
    """One environment: what is installed in it, and what came of it."""

    python: str
    package: str
    extra: str = ""
    resolution: str = NEWEST
    versions: str = ""
    passed: str = "no"
    note: str = ""


class Release:
    """The files of a folder: the source, the wheel with kernels for this machine, and the one for all others."""

    def __init__(self, folder: Path) -> None:
        wheels = {path: parse_wheel_filename(path.name)[3] for path in folder.glob("*.whl")}
        plain = [path for path, tags in wheels.items() if any(tag.platform == "any" for tag in tags)]
        ours = [path for path in wheels if path not in plain]
        sources = list(folder.glob("*.tar.gz"))
        if not (len(plain) == len(ours) == len(sources) == 1):
            raise SystemExit(f"There must be a source and two wheels in {folder}; make dist puts them there.")
        self.files = {"wheel": ours[0], "wheel without kernels": plain[0], "source": sources[0]}
        self.metadata = next(iter(metadata.distributions(path=[str(ours[0])]))).metadata

    def extras(self) -> list[str]:
        """Return the extras that are a user's."""
        return [extra for extra in self.metadata.get_all("Provides-Extra", []) if extra not in DEVELOPMENT]

    def parts(self, extra: str, python: str) -> list[str]:
        """Return the extras that an extra stands for: itself, where it is not made of others."""
        others = {name for r in self._added(extra, python) if r.name == "gpumlp" for name in r.extras}
        return sorted({part for name in others for part in self.parts(name, python)}) or [extra]

    def requirements(self, extra: str, python: str) -> list[str]:
        """Return what the package itself requires with an extra, as for this Python."""
        parts = ["", *self.parts(extra, python)]
        found = [r for part in dict.fromkeys(parts) for r in self._added(part, python)]
        for requirement in found:
            requirement.marker = None
        return list(dict.fromkeys(map(str, found)))

    def _added(self, extra: str, python: str) -> list[Requirement]:
        where = {"python_version": python.rpartition(".")[0], "python_full_version": python}

        def holds(requirement: Requirement, extra: str) -> bool:
            return requirement.marker is None or requirement.marker.evaluate({**where, "extra": extra})

        found = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return [r for r in found if holds(r, extra) and not (extra and holds(r, ""))]


def uv(*arguments: str | Path, **variables: str) -> str:
    """Return what uv prints; RuntimeError with its words where it fails."""
    return ran([str(Path(sys.executable).with_name("uv")), *map(str, arguments)], **variables)


def ran(call: Sequence[str], inside: Path | None = None, **variables: str) -> str:
    """Return what a command prints; RuntimeError with its words where it fails.

    Of the variables that change what an environment does it has those that are given alone.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    done = subprocess.run(call, cwd=inside, env=inherited | variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip())
    return done.stdout


def pythons(at_least: str) -> dict[str, Path | None]:
    """Return for each minor version of CPython that is recent enough the interpreter; None where there is none here.

    Those of pyenv count, too, whichever of them are on the PATH.
    """
    folders = sorted((Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions").glob("3.*/bin"))
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    found: dict[tuple[int, ...], tuple[str, Path | None]] = {}
    for line in json.loads(uv("python", "list", "--output-format", "json", PATH=path)):  # the newest first
        version, place = Version(line["version"]), line["path"] and Path(line["path"])
        usual = line["implementation"] == "cpython" and line["variant"] == "default" and not version.is_prerelease
        if usual and version >= Version(at_least) and not found.get(version.release[:2], ("", None))[1]:
            found[version.release[:2]] = line["version"], place
    return {version: place for _, (version, place) in sorted(found.items())}


def trials(release: Release, versions: Sequence[str]) -> Iterator[Trial]:
    """Return what is to be tried: all of it by the wheel, the rest by the oldest Python alone."""
    for python in versions:
        for extra in ["", *release.extras()]:
            for resolution in (OLDEST, NEWEST):
                yield Trial(python, "wheel", extra, resolution)
    oldest = versions[0]
    yield Trial(oldest, "wheel, in a checkout")
    yield Trial(oldest, "wheel without kernels")
    yield Trial(oldest, "wheel without kernels", "jit")
    yield Trial(oldest, "source, no linker")
    yield Trial(oldest, "source, GPUMLP_LIBRARY=none")


def tried(trial: Trial, release: Release, interpreter: Path, folder: Path) -> None:
    """Make an environment, install into it, and have it do what is promised; say so in the trial."""
    kind, _, how = trial.package.partition(", ")
    file = Path(shutil.copy(release.files[kind], folder))  # uv builds a source once, and knows it by its place
    python = python_of(folder / "environment")
    uv("venv", "--python", interpreter, folder / "environment")
    direct = release.requirements(trial.extra, trial.python)
    uv(
        "pip", "install", "--python", python, "--resolution", trial.resolution,
        *(["--only-binary", ":all:"] if kind != "source" else []),  # the oldest that this Python can install
        f"gpumlp{f'[{trial.extra}]' if trial.extra else ''} @ {file.as_uri()}", *direct,
        **WITHOUT.get(how, {}),
    )  # fmt: skip
    installed = {
        line["name"]: line["version"] for line in json.loads(uv("pip", "list", "--format", "json", "-p", python))
    }
    names = dict.fromkeys(canonicalize_name(Requirement(text).name) for text in direct)
    trial.versions = "; ".join(f"{name} {installed[name]}" for name in names)
    extras = release.parts(trial.extra, trial.python) if trial.extra else []
    promised(
        python, "compiled" if kind == "wheel" else "numpy", extras, folder, ROOT if how == "in a checkout" else folder
    )
    trial.passed = "yes"


def python_of(environment: Path) -> Path:
    """Return an environment's Python."""
    return environment / ("Scripts" if os.name == "nt" else "bin") / "python"


def promised(python: Path, kernels: str, extras: Sequence[str], folder: Path, inside: Path) -> None:
    """Have a Python do what is in `packaged.py`, writing into a folder, inside another; RuntimeError where it fails."""
    options = [f"--kernels={kernels}", *(f"--extra={extra}" for extra in extras)]
    call = [str(python), "-P", "-E", "-W", "error", str(PACKAGED), *options]
    ran(call, inside, GPUMLP_CACHE=str(folder / "cache"), GPUMLP_DEVICE="cpu", MPLBACKEND="Agg")


def write(path: Path, rows: Sequence[Trial]) -> None:
    """Write the rows in the place of those of the same trials, and leave the others."""
    known = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            known = [Trial(**line) for line in csv.DictReader(file)]

    def of(row: Trial) -> tuple[Version, str, str, str]:
        version = Version(row.python)
        return Version(f"{version.major}.{version.minor}"), row.package, row.extra, row.resolution

    found = {of(row): row for row in (*known, *rows)}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Trial)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(found[key]) for key in sorted(found, key=lambda key: key[0]))


def main() -> int:
    """Try all, or what is named; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist", help="of the files (default: dist)")
    parser.add_argument("--python", action="append", help="one of the Pythons, as 3.12 (default: all)")
    parser.add_argument("--extra", action="append", help="one of the extras; '' is the package alone (default: all)")
    parser.add_argument("--output", type=Path, help="a file for the rows; those of other trials stay in it")
    chosen = parser.parse_args()
    release = Release(chosen.folder)
    here = pythons(release.metadata["Requires-Python"].removeprefix(">="))
    rows = [Trial(v.rpartition(".")[0], "", "", "", "", "", "not here") for v, path in here.items() if path is None]
    for trial in trials(release, [version for version, path in here.items() if path]):
        minor = trial.python.rpartition(".")[0]
        if minor not in (chosen.python or [minor]) or trial.extra not in (chosen.extra or [trial.extra]):
            continue
        with tempfile.TemporaryDirectory(prefix="gpumlp-packages-") as folder:
            try:
                tried(trial, release, here[trial.python], Path(folder))  # type: ignore[arg-type]
            except RuntimeError as error:
                print(error, file=sys.stderr)
                trial.note = str(error).splitlines()[-1][:200]
        words = (trial.python, trial.package, trial.extra, trial.resolution, trial.versions, trial.note)
        print(f"{'PASS' if trial.passed == 'yes' else 'FAIL'}  {'  '.join(filter(None, words))}", flush=True)
        rows.append(trial)
    if chosen.output:
        if not (chosen.python or chosen.extra):
            chosen.output.unlink(missing_ok=True)
        write(chosen.output, rows)
    passed = [row.passed for row in rows]
    print(f"{passed.count('yes')} passed, {passed.count('no')} failed")
    return int("no" in passed)


if __name__ == "__main__":
    sys.exit(main())
