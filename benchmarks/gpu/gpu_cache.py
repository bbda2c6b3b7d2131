"""The machine code that ``make gpu`` will ask for, compiled where there is no GPU: ``make gpu-cache``.

NVRTC needs no driver. What will be asked for is found by asking: the same tests, the benchmarks' trainings and the fits
of the first minute and the sanitizer run on a GPU that the host plays (tests/host/runtime.py), with the real one's
multiprocessors, shared memory and architecture, which are all that a plan looks at; each kernel that they launch is
noted. Then NVRTC, in the version that the other machine has, compiles them into an archive, which
``python -m gpumlp cache import`` takes over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import environment

sys.path.append(str(environment.ROOT / "tests"))

import fit_cases
import nvrtcs
import run
from host.runtime import HostRuntime
from suites import SUITES
from variants import variants
from workloads import Workload

from gpumlp import devices
from gpumlp.backends import cache_archive, compiler

ARCHIVE = environment.ROOT / "gpu-cache.zip"
OURS = "gpumlp"
SETTINGS = ("GPUMLP_DEVICE", "GPUMLP_FIT", "GPUMLP_KERNELS", "GPUMLP_TRY")  # which contenders set for their process


class Listing(HostRuntime):
    """A GPU of the host's that notes what it is asked to launch; ``idle``, it does no more."""

    def __init__(self, chip: fit_cases.Chip) -> None:
        super().__init__()
        self.arch, self.multiprocessors, self.shared_bytes = chip.arch, chip.multiprocessors, chip.shared_bytes
        self.asked: dict[str, str] = {}  # the file of each text that is to be compiled
        self.idle = False

    def ask(self, file: str, defines: Any) -> None:
        """Note a kernel file with its constants."""
        self.asked.setdefault(compiler.text_of(file, defines), file)

    def launch(self, file: str, function: str, defines: Any, *arguments: Any, **how: Any) -> None:
        self.ask(file, defines)
        if not self.idle:
            super().launch(file, function, defines, *arguments, **how)


def asked(chip: fit_cases.Chip) -> dict[str, str]:
    """Return every text that ``make gpu`` will have compiled on this GPU, with the name of its file."""
    gpu = Listing(chip)
    for file, defines in variants():
        gpu.ask(file, defines)
    for training, arch, tags in fit_cases.CASES:
        plan = training.plan(gpu, tags)
        if arch == chip.arch and not isinstance(plan, str):
            gpu.ask("fit.cu", plan.defines)
    there = {"open_runtime": lambda index=0: gpu, "gpu_problem": lambda index=0: None}
    for work in (tested, trained, others):
        with mock.patch.multiple(devices, **there), mock.patch.dict(os.environ):
            for name in SETTINGS:
                os.environ.pop(name, None)
            before, began = len(gpu.asked), time.perf_counter()
            work(gpu)
            print(f"{work.__name__}: {len(gpu.asked) - before} more, {time.perf_counter() - began:.0f} s", flush=True)
    return gpu.asked


def tested(gpu: Listing) -> None:
    """Run the tests that need a GPU."""
    import pytest

    os.chdir(environment.ROOT)
    if pytest.main(["-q", "-m", "gpu", "-p", "no:cacheprovider", *run.TESTS]):
        raise RuntimeError("tests that need a GPU fail on the host, so that what they would ask for is not known")
    import test_gpu

    with idle(gpu):  # its own tests need CuPy, and train this
        test_gpu.build().fit(*test_gpu.data(), verbose=0)


def trained(gpu: Listing) -> None:
    """Have our contenders of every training benchmark take a turn, of a single step, that computes nothing."""
    for suite in ("gpu step", "gpu compiled", "gpu fit", "gpu ensemble"):
        contenders, workloads = SUITES[suite]
        ours = [make for name, (make, _) in contenders.items() if name.startswith(OURS) and "Numba" not in name]
        for workload in filter(lambda w: fits(w, gpu), workloads.values()):
            for make in ours:
                with idle(gpu), mock.patch.dict(os.environ):
                    make(replace(workload, steps=1, epochs=1))()


def fits(workload: Workload, gpu: Listing) -> bool:
    """Whether there is a whole-fit kernel for a network: others ask for nothing of their own."""
    return not isinstance(fit_cases.of(workload).plan(gpu, True), str)


def others(gpu: Listing) -> None:
    """Have the fits of the sanitizer and of the first minute begin."""
    import sanitized
    import whole_runs

    for fit in (
        lambda: sanitized.losses("tags"),
        lambda: sanitized.losses("barrier"),
        lambda: whole_runs.fitted(whole_runs.FIRST, "cuda"),
    ):
        with idle(gpu), contextlib.suppress(RuntimeError):  # what has not run is not what it should be
            fit()


@contextlib.contextmanager
def idle(gpu: Listing) -> Iterator[None]:
    """Within: launches are noted and not run. So whole fits are given up, of which nobody need be told."""
    gpu.idle = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gpu.idle = False


def compiled(texts: dict[str, str], arch: str, nvrtc: nvrtcs.Nvrtc) -> Iterator[tuple[str, bytes]]:
    """Yield each text's key and machine code."""
    number = ".".join(nvrtc.version.split(".")[:2])  # as NVRTC itself tells it

    def one(item: tuple[str, str]) -> tuple[str, bytes]:
        text, file = item
        code, _ = nvrtc.compile(text, arch, file)
        if missing := compiler.lacking(code, text):
            raise RuntimeError(f"NVRTC {number} compiled {file} for {arch} to something without {', '.join(missing)}.")
        return compiler.key_of(text, arch, number), code

    with ThreadPoolExecutor() as pool:
        yield from pool.map(one, texts.items())


def main() -> None:
    """Find out what will be asked for, compile it and write the archive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--arch", choices=fit_cases.CHIPS, default="sm_90", help="as `compiler.target` says it")
    parser.add_argument("--nvrtc", default=nvrtcs.COMMON, help="the other machine's compiler, such as 12.8.93")
    parser.add_argument("--output", type=Path, default=ARCHIVE, help="where the archive goes")
    chosen = parser.parse_args()
    output = chosen.output.resolve()
    try:
        nvrtc = nvrtcs.get(chosen.nvrtc)
    except ValueError as error:
        parser.error(str(error))
    if not nvrtc.knows(chosen.arch):
        parser.error(f"NVRTC {nvrtc.version} does not know {chosen.arch}; it knows {nvrtc.architectures()}.")
    print("what will be asked for: the tests of a GPU run here first, some minutes", flush=True)
    texts = asked(fit_cases.CHIPS[chosen.arch])
    print(f"compiling {len(texts)} files with NVRTC {nvrtc.version} for {chosen.arch}", flush=True)
    began = time.perf_counter()
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f"{output.name}.part")  # what is found under its name is whole
    cache_archive.write(part, f"NVRTC {nvrtc.version}, {chosen.arch}", compiled(texts, chosen.arch, nvrtc))
    part.replace(output)
    size, seconds = output.stat().st_size / 1e6, time.perf_counter() - began
    print(f"{output}: {len(texts)} entries, {size:.1f} MB, compiled in {seconds:.0f} s")


if __name__ == "__main__":
    main()
