"""Build the libraries that come with the package: python -m gpumlp.backends.build_library FOLDER [--set NAME].

It takes Numba, llvmlite and a linker, half a minute, and no processor of the kind that the code is for. `setup.py`
calls it; in a checkout, `gpumlp/compiled` is the folder that is looked into.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpumlp import kernel_sources
from gpumlp.backends import built_in, kernel_compiler, llvm, llvm_writer, shipped
from gpumlp.backends.disk_cache import symbols
from gpumlp.backends.instruction_set import SETS
from gpumlp.errors import DeviceUnavailable

# The sets that come with the package: those of this kind of machine, unless others are asked for.
NAMES = tuple(name for name in ("avx512", "avx2", "neon") if not SETS[name].foreign)
# A library that needs nothing, not even the C library: ALLOWED functions are found in the process that loads it.
BY_COMPILER = ("-shared", "-nostdlib", "-Wl,-z,noexecstack,-s,--build-id=none")
BY_LINKER = ("-shared", "-z", "noexecstack", "-s", "--build-id=none")
LINKERS = {"cc": BY_COMPILER, "gcc": BY_COMPILER, "clang": BY_COMPILER, "ld": BY_LINKER}
ANY_MACHINE = {"ld.lld": BY_LINKER}


def build(folder: Path, names: Sequence[str] = NAMES) -> list[Path]:
    """Build what is not there yet, of today's sources, nor in the checkout; return the files.

    DeviceUnavailable where it cannot be.
    """
    paths = {name: folder / f"{name}.so" for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    codes = built_in.codes()

    def is_whole(path: Path) -> bool:
        found = shipped.opened(path)
        return isinstance(found, shipped.Library) and all(map(found.formula, codes))

    for path in paths.values():
        if not is_whole(path) and is_whole(shipped.FOLDER / path.name):
            shutil.copyfile(shipped.FOLDER / path.name, path)
    with ThreadPoolExecutor() as threads:  # each waits for a process
        kernels = {
            name: threads.submit(kernel_compiler.compile_apart, kernel_sources.folder() / "cpu", SETS[name])
            for name, path in paths.items() if not is_whole(path)
        }  # fmt: skip
        functions = [code.function() for code in codes.values()] if kernels else []
        for name in kernels:
            machine, instructions = llvm.target_machine(SETS[name]), SETS[name]
            text = llvm_writer.written(functions, instructions.lanes, instructions.masks)
            entries, kernel = llvm.checked(kernels[name].result())
            parts = [kernel, llvm.assembled(text, machine), llvm.assembled(_made_of(entries), machine)]
            _link(parts, paths[name])
    return list(paths.values())


def _made_of(entries: Sequence[str]) -> str:
    text = json.dumps([shipped.digest(), *entries]).replace('"', "\\22")
    return f'@{shipped.MADE_OF} = constant [{len(text) - 2 * text.count(chr(92)) + 1} x i8] c"{text}\\00"\n'


def _link(parts: Sequence[bytes], path: Path) -> None:
    """Link object files to the library for the set that the file is named after; it replaces another as a whole."""
    instructions = SETS[path.stem]
    if foreign := {name for part in parts for name in symbols(part)[1]} - llvm.ALLOWED:
        raise DeviceUnavailable(f"The CPU's code needs {', '.join(sorted(foreign))}.")
    prefix = f"{instructions.machines[0]}-linux-gnu-" if instructions.foreign else ""
    linkers = {prefix + name: options for name, options in LINKERS.items()} | ANY_MACHINE
    said = "there is none of " + ", ".join(linkers)
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        files = [Path(work) / f"{i}.o" for i in range(len(parts))]
        for file, part in zip(files, parts, strict=True):
            file.write_bytes(part)
        for linker, options in linkers.items():
            if (program := shutil.which(linker)) is None:
                continue
            call = [program, *options, "-o", f"{work}/library", *map(str, files)]
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                library = Path(work) / "library"
                library.write_bytes(shipped.sealed(instructions.name, library.read_bytes()))
                os.replace(library, path)
                return
            said = f"{linker} says: {done.stderr.strip()}"
    raise DeviceUnavailable(f"The CPU's code cannot be linked: {said}.")


def main() -> int:
    """Build the libraries into a folder, and say where they are, or why there are none; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gpumlp.backends.build_library", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to put them")
    parser.add_argument("--set", action="append", choices=SETS, help="for which instructions (default: this machine's)")
    try:
        chosen = parser.parse_args()
        for path in build(chosen.folder, chosen.set or NAMES):
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    except (DeviceUnavailable, OSError) as error:
        print(f"No compiled kernels come with this installation: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
