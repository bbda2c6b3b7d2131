"""Ways of working that are off until a clock has judged them: asked for by name, right, and what they say they are."""

import re
from pathlib import Path

import numpy as np
import pytest
from host.runtime import HostRuntime

from gpumlp import candidates, check, layers, models
from gpumlp.backends.cuda_backend import CudaBackend

KERNELS = sorted((Path(__file__).parents[1] / "kernels").glob("*.cu"))


class Listing(HostRuntime):
    """What was launched: file, constants, grid."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def launch(self, file, function, defines, grid, arguments, **more):
        self.seen.append((file, dict(defines), grid))
        super().launch(file, function, defines, grid, arguments, **more)


def launched(monkeypatch, names, work):
    monkeypatch.setenv("GPUMLP_TRY", names)
    runtime = Listing()
    work(CudaBackend(runtime))
    return runtime.seen


def test_nothing_is_tried_unless_asked_and_what_does_not_exist_is_an_error(monkeypatch):
    monkeypatch.delenv("GPUMLP_TRY", raising=False)
    assert candidates.chosen() == frozenset()
    monkeypatch.setenv("GPUMLP_TRY", " whole-sums, dependent,")
    assert candidates.chosen() == {"whole-sums", "dependent"}
    monkeypatch.setenv("GPUMLP_TRY", "wole-sums")
    with pytest.raises(ValueError, match=r"GPUMLP_TRY must name some of fewer-blocks, .*; got wole-sums"):
        CudaBackend(HostRuntime())


def test_an_update_by_fewer_blocks_is_the_same_update(monkeypatch):
    case = check.update_case(1 << 18, "adam")

    def update(backend):
        assert check.hold(case, backend, "").passed

    grids = [launched(monkeypatch, names, update)[0][2] for names in ("", "fewer-blocks")]
    assert grids == [(16 * 8, 1), (5 * 8, 1)]


def test_dependent_kernels_are_told_so_and_begin_with_their_wait(monkeypatch):
    for path in KERNELS:
        bodies = re.findall(r"^KERNEL\(\w+\)\([^{]*\{\n(.*)\n", path.read_text(), flags=re.MULTILINE)
        assert path.name == "fit.cu" or (bodies and all(first == "    begin();" for first in bodies)), path.name
    case = next(check.dense_cases((20, 36, 20), check.activations.relu))
    for names, told in (("", [None]), ("dependent", [1])):
        seen = launched(monkeypatch, names, lambda backend: check.hold(case, backend, ""))
        assert [defines.get("DEPENDENT") for _, defines, _ in seen] == told


def test_whole_sums_are_the_same_bits(monkeypatch, as_gpu):
    """The tree is the same for each column, however the lanes share it out."""
    trained = []
    for names in ("", "whole-sums"):
        monkeypatch.setenv("GPUMLP_TRY", names)
        monkeypatch.setenv("GPUMLP_FIT", "tags")
        as_gpu(HostRuntime())
        model = models.Sequential([layers.Dense(n, "relu") for n in (40, 37)] + [layers.Dense(3)])
        model.build((None, 19))
        rng = np.random.default_rng(3)
        model.set_weights([rng.normal(size=w.shape) / 4 for w in model.get_weights()])
        model.compile("adam", "mse", device="cuda")
        x = rng.normal(size=(40, 19)).astype(np.float32)
        model.fit(x, x[:, :3], batch_size=8, epochs=2, verbose=0, shuffle=False)
        assert model.program.startswith("whole-fit kernel"), model.program
        trained.append(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*trained, strict=True))
