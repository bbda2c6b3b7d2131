"""Which instructions the CPU's code is made for: what GPUMLP_CPU says, otherwise the best that there are."""

import builtins
import io
import platform
import re
import sys

import numpy as np
import pytest
from compiled import SETS, build, data, flat

from gpumlp import cli
from gpumlp.backends import instruction_set, kernel_compiler, llvm, native
from gpumlp.backends.instruction_set import available, chosen
from gpumlp.errors import DeviceUnavailable

FLAGS = {
    "sse4": "fpu sse sse2 ssse3 cx16 sse4_1 sse4_2 popcnt",
    "avx2": "avx fma bmi1 avx2 bmi2 f16c movbe abm",
    "avx512": "avx512f avx512dq avx512cd avx512bw avx512vl",
}


@pytest.fixture
def processor(monkeypatch):
    """A function: from now on this is Linux on a processor with these flags."""

    def has(flags, machine="x86_64"):
        text = f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: avx512f\n\nprocessor\t: 1\nflags\t: none\n"
        opened = builtins.open
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(
            builtins, "open",
            lambda file, *more: io.BytesIO(text.encode()) if file == "/proc/cpuinfo" else opened(file, *more),
        )  # fmt: skip
        available.cache_clear()

    yield has
    monkeypatch.undo()
    available.cache_clear()


@pytest.mark.parametrize("best", FLAGS)
def test_the_best_that_there_is(processor, monkeypatch, best):
    monkeypatch.delenv("GPUMLP_CPU", raising=False)
    names = list(FLAGS)[: list(FLAGS).index(best) + 1]
    processor(" ".join(FLAGS[name] for name in names))
    assert chosen().name == best and available() == tuple(names[::-1])


@pytest.mark.parametrize("lacking", FLAGS["avx2"].split()[1:])
def test_a_set_without_one_of_its_instructions_is_none(processor, lacking):
    processor(re.sub(rf"\b{lacking}\b", "", " ".join(FLAGS.values())))
    assert available() == ("sse4",)


def test_processors_of_arm_have_one_set(processor):
    processor("", "aarch64")
    assert available() == ("neon",) and chosen().lanes == 4


def test_a_processor_without_any_is_told(processor, monkeypatch):
    monkeypatch.delenv("GPUMLP_CPU", raising=False)
    processor("", "riscv64")
    with pytest.raises(DeviceUnavailable, match="no compiled kernels for this processor \\(riscv64\\)"):
        chosen()
    monkeypatch.setenv("GPUMLP_CPU", "avx2")
    with pytest.raises(DeviceUnavailable, match="it has none of them"):
        chosen()


def test_an_unknown_set_is_an_error(monkeypatch):
    monkeypatch.setenv("GPUMLP_CPU", "mmx")
    with pytest.raises(ValueError, match="GPUMLP_CPU must be one of avx512, avx2, sse4, neon; got 'mmx'"):
        chosen()
    monkeypatch.setenv("GPUMLP_KERNELS", "numba")
    with pytest.raises(ValueError, match="GPUMLP_CPU must be one of"):
        build().fit(*data(), verbose=0)


def test_where_no_set_is_known_numpy_trains(processor, kernels, monkeypatch):
    """As on a system that is not Linux, where llvmlite is not installed to ask."""
    monkeypatch.delenv("GPUMLP_CPU", raising=False)
    kernels("auto")
    processor("", "riscv64")
    monkeypatch.setattr(sys, "platform", "freebsd")
    monkeypatch.setattr(instruction_set, "_features", set)
    model = build()
    model.fit(*data(), verbose=0)
    assert "numpy" in model.program and "no compiled kernels for this processor (riscv64)" in model.program
    available.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert "(AMD64), as far as can be told without llvmlite" in native.problem()


@pytest.mark.parametrize(("name", "words"), [("mmx", "GPUMLP_CPU must be one of"), ("avx512", "has not got these")])
def test_a_wish_that_cannot_be_met_is_an_error_and_info_says_the_same(processor, kernels, monkeypatch, name, words):
    kernels("auto")
    monkeypatch.setenv("GPUMLP_CPU", name)
    processor(FLAGS["sse4"])
    with pytest.raises((ValueError, DeviceUnavailable), match=words) as error:
        build().fit(*data(), verbose=0)
    rows = cli.cpu_rows()
    assert rows["compiled"] == f"none: {error.value}" and rows["cpu kernels"].startswith("none: ")
    assert cli.main(["check", "--device", "cpu", "--small"]) == 2
    kernels("numpy")
    build().fit(*data(), verbose=0)
    assert cli.cpu_rows()["cpu kernels"] == "NumPy, from GPUMLP_KERNELS"


def test_info_says_who_chose_the_instructions(monkeypatch):
    monkeypatch.setattr(native.shipped, "library", lambda instructions: instructions)
    monkeypatch.setenv("GPUMLP_CPU", SETS[0])
    assert native.state() == f"came with gpumlp, for {SETS[0]}, which GPUMLP_CPU names"
    monkeypatch.delenv("GPUMLP_CPU")
    assert native.state() == f"came with gpumlp, for {available()[0]}, the best that this processor has"


def test_a_set_that_this_processor_lacks_is_told(processor, monkeypatch):
    processor(FLAGS["sse4"])
    monkeypatch.setenv("GPUMLP_CPU", "avx512")
    with pytest.raises(DeviceUnavailable, match=r"GPUMLP_CPU=avx512: this processor .* has not got .* it has sse4"):
        chosen()


@pytest.mark.skipif(len(SETS) < 2, reason="this processor has one set of instructions")
def test_a_model_keeps_the_instructions_that_it_began_with(kernels, monkeypatch):
    """A table for other metrics is made anew in the middle, and takes formulas for the same instructions."""
    kernels("numba")
    x, y = data()
    found = []
    for later in (SETS[0], SETS[1]):
        monkeypatch.setenv("GPUMLP_CPU", SETS[0])
        model = build(metrics=["mae"])
        model.fit(x, y, verbose=0)
        monkeypatch.setenv("GPUMLP_CPU", later)
        model.evaluate(x, y, verbose=0)
        model.fit(x, y, verbose=0)
        found.append(flat(model))
    assert np.array_equal(*found)
    assert native.functions().instructions.name == SETS[1]


@pytest.mark.skipif("avx512" not in SETS, reason="this processor has no AVX-512")
def test_code_for_avx512_has_vectors_of_512_bits():
    """LLVM prefers 256 by itself, for some processors that it is compiled for."""
    binding = llvm.binding()
    machine = llvm.target_machine(instruction_set.SETS["avx512"])
    text = """define void @f(ptr %x, i64 %n) {
entry: br label %next
next: %i = phi i64 [ 0, %entry ], [ %j, %next ]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %w = fadd float %v, 1.0
  store float %w, ptr %p
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %next, label %done
done: ret void
}"""
    module = binding.parse_assembly(llvm.head(machine) + text)
    kernel_compiler.optimise(module, machine)
    assert "zmm" in machine.emit_assembly(module)
