"""The libraries that come with the package: every formula is found by its name, and is the right one; who uses them."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiled import SETS, build, data, flat

from gpumlp import activations, kernel_sources, layers, losses, ops
from gpumlp.backends import build_library, built_in, llvm, llvm_writer, native, shipped
from gpumlp.backends.cpu_formulas import KINDS, LENGTHS, Code
from gpumlp.backends.instruction_set import SETS as ALL
from gpumlp.errors import DeviceUnavailable

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="there are none for this system"
)
CODES = built_in.codes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The libraries of today's sources: those of an editable install, if they are."""
    place = tmp_path_factory.mktemp("compiled")
    assert [p.name for p in build_library.build(place)] == ["avx512.so", "avx2.so"]
    return place


@pytest.fixture(scope="module", params=SETS)
def library(request, folder):
    """The library for each set of instructions."""
    return shipped.opened(folder / f"{request.param}.so"), ALL[request.param]


# ---- what is in it ---------------------------------------------------------------------------------------------------


def called(code, address):
    """Return what a function makes of numbers at random, all in one array, and what it returns."""
    room = np.random.default_rng(3).uniform(0.05, 0.95, 9 * 1024).astype(np.float32)
    pointers = [name for name in KINDS[code.kind].parameters if name not in LENGTHS]
    places = {name: room.ctypes.data + 4096 * i for i, name in enumerate(pointers)}
    rows, columns = (33, 1) if code.narrow else (7, 21)
    distance = 1 if code.narrow else 32
    lengths = dict.fromkeys(LENGTHS, distance) | {"rows": rows, "columns": columns, "series": 64}
    if code.single:
        lengths["t_row"] = 1
    slots = np.array([1024 * (6 + i % 2) + 256 * (i // 2) for i in range(len(code.slots))], np.int64)
    if code.kind == "update":
        lengths["columns"], places["slots"] = 200, slots.ctypes.data
    values = [lengths[name] if name in LENGTHS else places[name] for name in KINDS[code.kind].parameters]
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(values))(address)
    return function(*values), room.tobytes()


def alone(code, instructions):
    """Return where a formula's function stands, compiled by itself."""
    text = llvm_writer.written([code.function()], instructions.lanes, instructions.masks)
    content = llvm.assembled(text, llvm.target_machine(instructions))
    return llvm.addresses(content, [code.name], instructions)[0]


def test_every_formula_is_found_by_its_name_and_is_the_right_one(library):
    found, instructions = library
    results = set()
    for i, (name, code) in enumerate(CODES.items()):
        address = found.formula(name)
        assert address, code
        results.add(result := called(code, address))
        if instructions.name == SETS[0] or i % 5 == 0:  # compiling each by itself takes ten seconds for a set
            assert result == called(code, alone(code, instructions)), code
    assert len(results) > 0.7 * len(CODES)  # others give the same for these numbers, as a clip that clips nothing


def test_what_models_use_is_there():
    from gpumlp import metrics, optimizers
    from gpumlp.backends.job import activation_codes, objective_codes, update_code

    used = [c for a in activations.KNOWN.values() for c in activation_codes(a, fused=False) if c is not None]
    for loss in (kind() for kind in losses.KNOWN.values() if isinstance(kind, type)):
        if not loss.own and not loss.beyond_models():
            for outputs in (1, 10):
                used += objective_codes(loss, [], outputs, loss.target_width(outputs))
    for name in ("mse", "mae", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"):
        metric = metrics.get(name)
        used += objective_codes(losses.MeanSquaredError(), [metric], 10, metric.target_width(10))
    used += [update_code(o) for o in (kind() for kind in optimizers.KNOWN.values()) if not o.apart]
    used.append(update_code(optimizers.Adam(3e-4, beta_1=0.5, clipvalue=1.0, use_ema=True)))
    used.append(update_code(optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)))
    assert not [code for code in used if code.name not in CODES and able(code)]


def able(code):
    try:
        code.function()
    except NotImplementedError:
        return False
    return True


# ---- when it is used -------------------------------------------------------------------------------------------------


ALONE = """
import sys, time
for name in ("llvmlite", "numba"):
    sys.modules[name] = None
from pathlib import Path
from gpumlp.backends import shipped
shipped.FOLDER = Path(sys.argv[1])
from compiled import build, data
model = build(metrics=["mae"])
model.fit(*data(), verbose=0)
print(model.program.partition(",")[0], any(m.startswith(("llvmlite.", "numba.")) for m in sys.modules))
"""


def test_it_needs_nothing_but_numpy_and_writes_nothing(folder, tmp_path):
    settings = {"GPUMLP_CACHE": str(tmp_path / "cache"), "GPUMLP_KERNELS": "numba", "GPUMLP_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, folder], cwd=Path(__file__).parent, env={**os.environ, **settings},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"compiled for {SETS[0]} False\n", "")
    assert not (tmp_path / "cache").exists()


def test_what_came_and_what_is_compiled_here_give_the_same_bits(folder, kernels, monkeypatch):
    kernels("numba", 2)
    x, y = data()
    found = []
    for place in (folder, folder / "nowhere"):
        for name in ("_found", "_formulas", "_formula_names"):
            monkeypatch.setattr(native, name, {})
        monkeypatch.setattr(shipped, "FOLDER", place)
        assert (shipped.library(native.functions().instructions) is None) == (place != folder)
        model = build(metrics=["mae"])
        found.append((model.fit(x, y, epochs=3, verbose=0).history, flat(model).tobytes()))
    assert found[0] == found[1]


def test_a_library_of_other_sources_is_none(folder, tmp_path, monkeypatch):
    path = folder / "avx2.so"
    assert isinstance(shipped.opened(path), shipped.Library)
    shutil.copytree(kernel_sources.folder() / "cpu", tmp_path / "cpu")
    monkeypatch.setattr(kernel_sources, "folder", lambda: tmp_path)
    assert isinstance(shipped.opened(path), shipped.Library)
    with open(tmp_path / "cpu" / "rows.py", "a") as file:
        file.write("# a word\n")
    assert shipped.opened(path) == f"{path} is of other sources than are here"


def test_another_library_is_none(tmp_path):
    build_library._link([llvm.assembled("", llvm.target_machine(ALL["avx2"]))], tmp_path / "avx2.so")
    assert "avx2.so cannot be loaded" in shipped.opened(tmp_path / "avx2.so")


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "empty": lambda content: b"",
    "a beginning": lambda content: content[:4],
    "torn": lambda content: content[:65536],
    "torn at its end": lambda content: content[:-1],
    "flipped": flipped,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_told_and_never_loaded(folder, tmp_path, monkeypatch, damage):
    """The system's loader ends the process for some of these."""
    path = tmp_path / "avx2.so"
    path.write_bytes(DAMAGE[damage]((folder / "avx2.so").read_bytes()))
    monkeypatch.setattr(shipped, "Library", None)
    assert shipped.opened(path) == f"{path} is damaged (install gpumlp again)"


def test_a_library_under_another_set_s_name_is_damaged(folder, tmp_path):
    shutil.copyfile(folder / "avx2.so", tmp_path / "avx512.so")
    assert "avx512.so is damaged" in shipped.opened(tmp_path / "avx512.so")


def test_a_damaged_library_is_built_anew(folder, tmp_path, monkeypatch):
    (tmp_path / "avx2.so").write_bytes((folder / "avx2.so").read_bytes()[:65536])
    monkeypatch.setattr(shipped, "FOLDER", folder)
    build_library.build(tmp_path, ["avx2"])
    assert (tmp_path / "avx2.so").read_bytes() == (folder / "avx2.so").read_bytes()


def test_why_there_is_none_is_told_as_it_is(folder, tmp_path, monkeypatch):
    """Each by what stops it: without a compiler NumPy trains, and this is all that a user sees."""
    spec, name = llvm.spec_of, SETS[0]
    monkeypatch.setattr(llvm, "spec_of", lambda name: None if name == "llvmlite" else spec(name))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setenv("GPUMLP_CPU", name)
    said = []
    for content in (None, b"torn", (folder / f"{name}.so").read_bytes()):
        monkeypatch.setattr(shipped, "_libraries", {})
        if content is not None:
            (tmp_path / f"{name}.so").write_bytes(content)
        if content != b"torn":
            monkeypatch.setattr(shipped, "digest", lambda: "another")
        said.append(native.problem())
    for words, found in zip((f"none for {name} came", "is damaged", "is of other sources"), said, strict=True):
        assert found.startswith("There are no compiled CPU kernels: ")
        assert words in found and "llvmlite is not installed. Install gpumlp with its compiler" in found


def test_check_skips_what_has_to_be_compiled_where_no_compiler_is(folder, monkeypatch, capsys):
    from gpumlp import check, cli

    spec = llvm.spec_of
    monkeypatch.setattr(llvm, "spec_of", lambda name: None if name == "llvmlite" else spec(name))
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.setattr(check, "dense_sweep", lambda shapes: check.dense_cases((3, 5, 2), activations.relu))
    for name in ("_found", "_formulas", "_formula_names"):
        monkeypatch.setattr(native, name, {})
    assert cli.main(["check", "--device", "cpu", "--small", "--kernels", "compiled", "--all"]) == 0
    *lines, passed, skipped = capsys.readouterr().out.splitlines()
    count = sum(line.endswith("  SKIP") for line in lines)
    assert 0 < count < sum("  PASS" in line for line in lines) and "0 failed" in passed
    assert skipped.startswith(f"{count} skipped") and "llvmlite is not installed" in skipped
    assert all(" compiled " in line and "numba" not in line for line in lines[2:-1] if "PASS" in line)


def test_a_user_s_own_formula_says_what_it_wants(monkeypatch):
    from gpumlp import formulas

    code = Code("forward", formulas.activation(lambda z: z / (2.0 + ops.absolute(z)), None, {}).forward)
    spec = llvm.spec_of
    monkeypatch.setattr(llvm, "spec_of", lambda name: None if name == "llvmlite" else spec(name))
    with pytest.raises(DeviceUnavailable, match=r"activation has a formula of its own.*gpumlp\[jit\]"):
        native.formula_addresses([code], ALL[SETS[0]])


# ---- building --------------------------------------------------------------------------------------------------------


def test_without_a_linker_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DeviceUnavailable, match="cannot be linked: there is none of cc, gcc, clang, ld"):
        build_library._link([], tmp_path / "avx2.so")
    assert not list(tmp_path.iterdir())


def test_a_linker_s_words_are_passed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(build_library, "symbols", lambda part: (set(), set()))
    with pytest.raises(DeviceUnavailable, match=r"cannot be linked: .* says: "):
        build_library._link([b"no object"], tmp_path / "avx2.so")
    assert not list(tmp_path.iterdir())


def test_code_that_needs_more_than_the_c_library_is_refused(tmp_path):
    text = "declare float @expf(float)\ndefine float @f() {\n  %y = call float @expf(float 1.0)\n  ret float %y\n}"
    with pytest.raises(DeviceUnavailable, match="needs expf"):
        build_library._link([llvm.assembled(text, llvm.target_machine(ALL["avx2"]))], tmp_path / "avx2.so")


@pytest.mark.parametrize("linker", [name for name in build_library.LINKERS if shutil.which(name)])
def test_every_linker_that_is_here_makes_it(tmp_path, monkeypatch, linker):
    monkeypatch.setattr(build_library, "LINKERS", {linker: build_library.LINKERS[linker]})
    machine = llvm.target_machine(ALL["avx2"])
    text = f"define i32 @{llvm.PREFIX}one(i64 %a, i64 %b) {{\n  ret i32 1\n}}\n" + build_library._made_of(["one"])
    build_library._link([llvm.assembled(text, machine)], tmp_path / "avx2.so")
    assert shipped.opened(tmp_path / "avx2.so").functions()["one"](0, 0) == 1


def test_a_failure_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    def fail(folder, instructions):
        raise DeviceUnavailable("Numba is not well.")

    monkeypatch.setattr(build_library.kernel_compiler, "compile_apart", fail)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["build_library", str(tmp_path / "compiled")])
    assert build_library.main() == 1
    assert capsys.readouterr().err == "No compiled kernels come with this installation: Numba is not well.\n"


def test_a_model_of_rows_and_a_layer_of_its_own(folder, kernels, monkeypatch):
    """Nothing is compiled for a model of built-in parts."""
    kernels("numba")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    for name in ("_found", "_formulas", "_formula_names"):
        monkeypatch.setattr(native, name, {})
    monkeypatch.setattr(llvm, "binding", None)
    stack = [layers.Dense(9, "softmax"), layers.BatchNormalization(), layers.Activation("gelu"), layers.Dropout(0.1),
             layers.Dense(2, kernel_regularizer="l2")]  # fmt: skip
    model = build(stack, "rmsprop", "huber", metrics=["mae", "cosine_similarity"])
    model.fit(*data(), verbose=0)
    assert model.program.startswith("compiled")
