"""The GPU benchmarks without a GPU: what they compute, what they skip, and that a part's failure stays its own."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from gpumlp import devices

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu"


@pytest.fixture
def scripts(monkeypatch):
    """The folders of the scripts on the path, and the environment as it was."""
    for name in ("CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "XLA_PYTHON_CLIENT_PREALLOCATE", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(GPU), str(ROOT / "benchmarks"), *sys.path])
    yield
    for name in set(sys.modules) - before:
        if str(ROOT / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]  # run, report: names that others may want


def test_rates_and_shares(scripts):
    import units

    assert units.dense_forward_flops(2, 3, 5) == 60
    assert units.dense_backward_flops(2, 3, 5) == 120
    assert units.mlp_step_flops((3, 5, 7), 2) == 3 * (60 + 140) - 60
    assert units.adam_bytes(10) == 280
    assert units.sgd_bytes(10, momentum=True) == 200 and units.sgd_bytes(10, momentum=False) == 120
    assert units.tflops(2 * 4096**3, 2748.779) == pytest.approx(50.0, rel=1e-6)
    assert units.gigabytes(2 << 30, 536.870912) == pytest.approx(4000.0)
    assert math.isnan(units.tflops(1, 0.0)) and math.isnan(units.share(1.0, math.nan))
    assert units.share(30.0, 50.0) == pytest.approx(0.6)


@pytest.mark.skipif(devices.has_driver(), reason="this machine may have a GPU: make gpu is its test")
@pytest.mark.parametrize("script", ["run", "microbench", "kernels", "training", "sanitize"])
def test_without_a_gpu_everything_is_skipped(script, tmp_path):
    output = {"run": ["--output", str(tmp_path / "out")], "sanitize": []}.get(script, ["--output", str(tmp_path / "o")])
    done = subprocess.run(
        [sys.executable, str(GPU / f"{script}.py"), *output], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped: there is no NVIDIA driver") == (6 if script == "run" else 1)
    assert not list(tmp_path.iterdir()), "results of an earlier run must stay"


def test_a_part_that_fails_or_hangs_keeps_what_it_said(scripts, tmp_path):
    import run

    code = "import time; print('half', flush=True); time.sleep(60)"
    hangs = run.run(run.Part("slow", ("-c", code), 2.0, "slow.txt", gate=True), tmp_path)
    assert not hangs.passed and "ended after 2 s" in hangs.verdict
    assert (tmp_path / "slow.txt").read_text() == "half\n"
    fails = run.run(run.Part("bad", ("-c", "print('ERROR: found'); raise SystemExit(3)"), 30, "bad.txt"), tmp_path)
    assert not fails.passed and fails.verdict == "failed with status 3: ERROR: found"
    good = run.run(run.Part("good", ("-c", "print('3 passed')"), 30, "good.txt"), tmp_path)
    assert good.passed and good.verdict == "3 passed"
    assert run.summary([hangs, fails, good], tmp_path).count("\n") == 4


def test_the_parts_fit_into_ten_minutes_and_eight_files(scripts):
    import run

    assert sum(part.seconds for part in run.PARTS) < 600
    assert len({part.file for part in run.PARTS}) + 2 <= 8  # gpu_machine.txt and gpu_summary.txt are the runner's own


def test_rows_of_a_gpu_survive_their_file_and_make_a_table(scripts, tmp_path):
    import rows
    import run
    import tables

    made = [
        rows.gpu_row(
            "kernel", "dense_forward 1x2x3", name, "us", values, [10.0, 10.0, 10.0], ("numpy",), "a GPU", **more
        )
        for name, values, more in (
            ("gpumlp", [10.0, 10.0, 10.0], {"rate": 30.0, "rate_unit": "TFLOP/s", "share": 0.6}),
            ("cuBLAS alone", [8.0, 9.0, 12.0], {"rate": 33.0, "rate_unit": "TFLOP/s", "share": 0.66}),
        )
    ]
    made.append(
        rows.gpu_row("kernel", "adam 5", "PyTorch", "us", [], [], ("numpy",), "a GPU", note="skipped: no torch")
    )
    rows.write(tmp_path / "gpu_kernels.csv", made)
    found = rows.read(tmp_path / "gpu_kernels.csv")
    assert [repr(r) for r in found] == [repr(r) for r in made]  # NaN is not equal to itself, but reads the same
    assert found[1].ratio == pytest.approx(0.9) and found[1].share == pytest.approx(0.66)
    table = tables.rate_table(found)
    assert "| cuBLAS alone | 9 [8, 12] us | 33 TFLOP/s | 66% | 0.90 [0.80, 1.20] |" in table
    assert "PyTorch" not in table
    assert "cuBLAS alone takes 0.90x of our time" in "\n".join(run.against_cublas(found))


def test_a_sanitizers_words_are_judged(scripts):
    import sanitize

    assert sanitize.verdict(0, "...\n========= ERROR SUMMARY: 0 errors\n")[1]
    assert not sanitize.verdict(99, "========= ERROR SUMMARY: 2 errors")[1]
    assert not sanitize.verdict(1, "========= ERROR SUMMARY: 0 errors")[1], "the check itself failed"
    assert sanitize.verdict(1, "========= Error: Device not supported. Please refer to ...")[1]
    assert not sanitize.verdict(None, "")[1]
    assert not sanitize.verdict(127, "")[1]


def test_a_contender_that_fails_says_why(scripts):
    from turns import Worker

    worker = Worker("gpu step", "no such contender", "1-256x7-1, batch 20")
    with pytest.raises(RuntimeError, match="no such contender"):
        worker.ready(30)
    worker.close()


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_the_microbenchmarks_compile(scripts, arch):
    pytest.importorskip("cuda.bindings.nvrtc", reason="the CUDA bindings with NVRTC are not installed")
    import launcher

    try:
        code = launcher.compiled(launcher.SOURCE.read_text(), arch)
    except RuntimeError as error:
        if "does not compile" in str(error):
            raise
        pytest.skip(f"NVRTC cannot be used here: {error}")
    assert code.startswith(b"\x7fELF")
