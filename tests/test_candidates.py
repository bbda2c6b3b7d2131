"""Ways of working that are off until a clock has judged them: asked for by name, right, and what they say they are."""

import re
from pathlib import Path

import pytest
from host.runtime import HostRuntime

from gpumlp import candidates, check
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
    monkeypatch.setenv("GPUMLP_TRY", " dependent,")
    assert candidates.chosen() == {"dependent"}
    monkeypatch.setenv("GPUMLP_TRY", "dependant")
    with pytest.raises(ValueError, match=r"GPUMLP_TRY must name some of dependent; got dependant"):
        CudaBackend(HostRuntime())


def test_dependent_kernels_are_told_so_and_begin_with_their_wait(monkeypatch):
    for path in KERNELS:
        bodies = re.findall(r"^KERNEL\(\w+\)\([^{]*\{\n(.*)\n", path.read_text(), flags=re.MULTILINE)
        assert path.name == "fit.cu" or (bodies and all(first == "    begin();" for first in bodies)), path.name
    case = next(check.dense_cases((20, 36, 20), check.activations.relu))
    for names, told in (("", [None]), ("dependent", [1])):
        seen = launched(monkeypatch, names, lambda backend: check.hold(case, backend, ""))
        assert [defines.get("DEPENDENT") for _, defines, _ in seen] == told
