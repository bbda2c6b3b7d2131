"""The CPU's code for machines of another kind: it cannot run here, but what it defines and needs can be seen."""

import shutil
import struct

import pytest

from gpumlp import kernel_sources
from gpumlp.backends import build_library, kernel_compiler, llvm
from gpumlp.backends.disk_cache import symbols
from gpumlp.backends.instruction_set import SETS
from gpumlp.errors import DeviceUnavailable

OTHER = SETS["avx2" if SETS["avx2"].foreign else "neon"]
MACHINE = {"avx2": 62, "neon": 183}[OTHER.name]  # ELF's numbers
OBJECT, LIBRARY = 1, 3


def kind_of(code):
    """Return of what type an ELF file is, and for which machine."""
    assert code.startswith(b"\x7fELF")
    return struct.unpack_from("<HH", code, 16)


@pytest.fixture(scope="module")
def kernels():
    """What compiling kernels/cpu gives."""
    return kernel_compiler.compile_apart(kernel_sources.folder() / "cpu", OTHER)


def test_the_kernels_need_nothing_but_the_processor(kernels):
    entries, code = llvm.checked(kernels)
    assert entries == ["run", "run_many"] and kind_of(code) == (OBJECT, MACHINE)
    assert symbols(code)[1] <= llvm.ALLOWED


def test_a_library_is_built_where_a_linker_is_there(kernels, tmp_path, monkeypatch):
    parts, link = [], build_library._link
    monkeypatch.setattr(kernel_compiler, "compile_apart", lambda folder, instructions: kernels)
    monkeypatch.setattr(build_library, "_link", lambda objects, *to: parts.extend(objects) or link(objects, *to))
    prefix = f"{OTHER.machines[0]}-linux-gnu-"
    if any(map(shutil.which, (prefix + "gcc", prefix + "ld", "ld.lld"))):
        (path,) = build_library.build(tmp_path, [OTHER.name])
        assert kind_of(path.read_bytes()) == (LIBRARY, MACHINE)
    else:
        with pytest.raises(DeviceUnavailable, match=f"cannot be linked: there is none of {prefix}cc, .*ld.lld"):
            build_library.build(tmp_path, [OTHER.name])
    assert [kind_of(part) for part in parts] == 3 * [(OBJECT, MACHINE)]
    assert len(symbols(parts[1])[0]) > 100 and not symbols(parts[1])[1] - llvm.ALLOWED  # the package's formulas
