"""Whole runs give the bits that are committed, on the host and on a GPU: see benchmarks/whole_runs.py."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import whole_runs

sys.path.pop(0)


@pytest.mark.parametrize("run", whole_runs.RUNS, ids=lambda run: run.name)
def test_a_run_gives_the_bits_that_are_committed_and_agrees_with_float64(gpu, run):
    found, truth = whole_runs.fitted(run, "cuda"), whole_runs.fitted(run, "cpu", "float64")
    wanted = "CUDA graphs" if run.how == "graph" else "whole-fit kernel"
    assert found.program.startswith(wanted), found.program
    np.testing.assert_allclose(found.losses, truth.losses, rtol=1e-4)
    assert found.checksum() == whole_runs.committed()[run.name]


def test_a_checksum_is_of_every_bit():
    weights = [np.ones((3, 2), np.float32), np.zeros(2, np.float32)]
    digests = {whole_runs.Fitted("", [], weights, 0, 0).checksum()}
    weights[0][1, 1] = np.nextafter(np.float32(1), np.float32(2))
    digests.add(whole_runs.Fitted("", [], weights, 0, 0).checksum())
    weights[1][0] = -0.0
    digests.add(whole_runs.Fitted("", [], weights, 0, 0).checksum())
    assert len(digests) == 3
    assert {run.name for run in whole_runs.RUNS} == set(whole_runs.committed())
