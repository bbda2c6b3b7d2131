"""Compiling without a GPU: every kernel for every architecture, and a cache on disk that survives what disks do."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from host.runtime import HostRuntime

from gpumlp import activations, check, layers, models
from gpumlp.backends import compiler, disk_cache
from gpumlp.backends.cuda_backend import TILES, CudaBackend, variants
from gpumlp.backends.disk_cache import DiskCache

ROOT = Path(__file__).parents[1]


@pytest.fixture
def resources(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import resources

    return resources


def test_every_kernel_compiles_for_every_architecture_and_spills_nothing(resources):
    found = list(resources.all_uses())
    assert {u.arch for u in found} == set(resources.ARCHITECTURES)
    assert not [u for u in found if u.local]
    assert all(u.registers <= 128 for u in found)
    committed, now = (ROOT / "kernels" / "RESOURCES.md").read_text(), resources.table(found)
    said, taken = resources.numbers(committed), resources.numbers(now)
    assert said.keys() == taken.keys(), "kernels/RESOURCES.md lists other kernels: run make resources"
    if now.splitlines()[3] == committed.splitlines()[3]:  # written with this NVRTC
        for kernel, (*registers, shared) in taken.items():
            assert shared == said[kernel][-1], f"{kernel}: run make resources"
            # NVRTC does not always give the same code for the same text: four registers more were seen once
            assert np.allclose(registers, said[kernel][:-1], rtol=0, atol=8), f"{kernel}: run make resources"


def test_the_whole_fit_kernel_compiles_for_every_architecture_and_spills_nothing(resources):
    import fit_cases

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(resources.measured, fit_cases.CASES))
    compiled = [fit for fit in found if not fit.why]
    assert {fit.arch for fit in compiled} == {arch.rstrip("a") for arch in resources.ARCHITECTURES}
    assert not [fit for fit in compiled if fit.local]


def test_what_is_launched_is_what_is_compiled(as_gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "graph")  # the whole-fit kernel is compiled for each network: see test_fit_plan.py
    seen = set()

    class Listing(HostRuntime):
        def launch(self, file, function, defines, grid, arguments, **more):
            seen.add((file, *sorted(defines.items())))
            super().launch(file, function, defines, grid, arguments, **more)

    backend = CudaBackend(Listing())
    for backend.tile in TILES:
        for shape in ((4, 8, 12), (3, 5, 7)):
            for case in check.dense_cases(shape, activations.relu):
                check.hold(case, backend, "")
    for case in (*check.dense_cases((2000, 3, 9), activations.relu), *check.other_cases(small=True)):
        check.hold(case, backend, "")
    as_gpu(Listing())
    model = models.Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile("adam", "mse", device="cuda")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    listed = {(file, *sorted(defines.items())) for file, defines in variants()}
    assert seen == listed


def test_a_newer_gpu_than_nvrtc_knows_gets_the_newest_older_ptx(monkeypatch):
    monkeypatch.setattr(compiler, "architectures", lambda: [75, 80, 90])
    assert [compiler.target(c) for c in (75, 80, 89, 90, 130)] == [
        "sm_75", "sm_80", "compute_80", "sm_90", "compute_90",
    ]  # fmt: skip


def test_a_kernel_that_does_not_compile_is_an_error_with_the_compiler_s_words():
    with pytest.raises(RuntimeError, match=r"could not compile probe.cu for sm_90[\s\S]*nonsense"):
        compiler.compile_text("nonsense;", "sm_90", "probe.cu")


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_an_entry_is_compiled_once_and_by_all_that_matters(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(compiler, "compile_text", lambda *a: calls.append(a) or (b"code" + bytes([len(calls)]), ""))
    cache, defines = DiskCache(tmp_path), {"THREADS": 256, "VECTOR": 0}
    first = compiler.compiled("take.cu", defines, "sm_90", cache)
    assert compiler.compiled("take.cu", defines, "sm_90", DiskCache(tmp_path)) == first and len(calls) == 1
    compiler.compiled("take.cu", defines, "sm_80", cache)
    compiler.compiled("take.cu", {**defines, "THREADS": 128}, "sm_90", cache)
    monkeypatch.setattr(compiler, "versions", lambda: "another")
    compiler.compiled("take.cu", defines, "sm_90", cache)
    monkeypatch.setattr(compiler, "OPTIONS", {"std": "c++20"})
    compiler.compiled("take.cu", defines, "sm_90", cache)
    assert len(calls) == 5


@pytest.mark.parametrize("tear", [lambda b: b[:-1], lambda b: b"", lambda b: b[:10], lambda b: b[:40] + b"x" + b[41:]])
def test_a_torn_entry_is_made_anew(tmp_path, tear):
    cache = DiskCache(tmp_path)
    assert cache.put("key", bytes(range(100)))
    cache.path("key").write_bytes(tear(cache.path("key").read_bytes()))
    assert cache.get("key") is None
    assert cache.put("key", b"again") and cache.get("key") == b"again"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "folder")
    assert not cache.put("key", b"code") and cache.get("key") is None

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache.os, "replace", full)
    cache = DiskCache(tmp_path)
    assert not cache.put("key", b"code") and cache.get("key") is None and not list(tmp_path.glob("*.tmp"))


def test_processes_share_a_cache(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gpumlp.backends.disk_cache import DiskCache\n"
        "cache, content = DiskCache(Path(sys.argv[1])), bytes(200_000)\n"
        "for _ in range(40):\n"
        "    cache.put('key', content); got = cache.get('key'); assert got is None or got == content\n"
        "assert cache.get('key') == content"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT) for _ in range(3)]
    assert [p.wait() for p in running] == [0, 0, 0]


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("GPUMLP_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(disk_cache.Path, "home", homeless)
    cache = DiskCache()
    assert cache.folder is None and not cache.put("key", b"code") and cache.get("key") is None


def test_the_folder_is_the_user_s_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path))
    assert disk_cache.default_folder() == tmp_path
    monkeypatch.delenv("GPUMLP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert disk_cache.default_folder() == tmp_path / "gpumlp"
