"""What machine code is said to be made of: on kernels whose loops are known, and of a checkout beside another."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = """
extern "C" __global__ void tiny(float *y, const float *x, int n) {
    __shared__ __align__(16) float memory[1024];
    float sum = 0.0f;
    for (int outer = 0; outer < n; ++outer) {
#pragma unroll 1
        for (int k = 0; k < n; ++k) {
            __syncthreads();
            memory[threadIdx.x] = x[(long long)k * 1024 + threadIdx.x];
            __syncthreads();
            float4 v = *reinterpret_cast<float4 *>(memory + (threadIdx.x ^ 32) * 4);
            sum = fmaf(sum, v.x, v.y);
            sum = fmaf(sum, v.z, v.w);
        }
        y[outer] = sum;
    }
}
"""
STRAIGHT = 'extern "C" __global__ void straight(float *y) { y[threadIdx.x] = y[threadIdx.x] * y[threadIdx.x + 64]; }'
SWITCH = """
        /*0000*/                   MOV R0, RZ ;
.L_x_0:
        /*0010*/                   BRX R0 -0x20          (*"BRANCH_TARGETS .L_x_1,.L_x_2"*);
.L_x_1:
        /*0020*/                   LDS.64 R4, [R0] ;
        /*0030*/                   FADD R2, R2, R3 ;
        /*0040*/                   ISETP.EQ.OR P0, PT, R5, R2, P1 ;
        /*0050*/                   BRA `(.L_x_3) ;
.L_x_2:
        /*0060*/                   BRA.DIV UR4, `(.L_x_5) ;
        /*0070*/                   SHFL.BFLY P1, R3, R2, 0x1, 0x1f ;
.L_x_3:
        /*0080*/              @!P0 BRA `(.L_x_0) ;
        /*0090*/                   EXIT ;
.L_x_4:
        /*00a0*/                   BRA `(.L_x_4) ;
.L_x_5:
        /*00b0*/                   SHFL.BFLY P1, R3, R2, 0x1, 0x1f ;
        /*00c0*/                   BRA `(.L_x_3) ;
"""


@pytest.fixture
def machine_code(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pytest.importorskip("cuda.core", reason="cuda.core is not installed")
    import machine_code

    return machine_code


@pytest.fixture
def nvdisasm(machine_code):
    try:
        return machine_code.disassembly.nvdisasm()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def compiled(machine_code, nvdisasm):
    def parts(text, arch="sm_90a", most=3):
        (found,) = machine_code.of_text("test.cu", text, machine_code.nvrtcs.get(), arch, most).values()
        return found

    return parts


@pytest.mark.parametrize("arch", ["sm_75", "sm_90a", "sm_100", "sm_120"])
def test_the_inner_loop_of_a_known_kernel_is_counted(compiled, arch):
    whole, loop = compiled(TINY, arch)
    assert whole.name == "whole, 1 loop" and whole.numbers["bytes"] == 16 * whole.numbers["all"]
    counted = {k: n for k, n in loop.numbers.items() if k not in ("all", "LDS>use", "LDG>use")}
    assert counted == {"FFMA": 2, "LDS.128": 1, "LDG": 1, "STS": 1, "BAR": 2}
    assert sum(counted.values()) < loop.numbers["all"] < 30 < whole.numbers["all"]
    assert whole.numbers["STG"] == 1, "which is in the outer loop"
    assert loop.numbers["LDS>use"] == 1, "nothing else is left to do"
    assert 1 <= loop.numbers["LDG>use"] <= 6, "a barrier may be in between"


def test_a_kernel_without_loops_has_none(compiled):
    (whole,) = compiled(STRAIGHT)
    assert whole.name == "whole, 0 loops"
    assert (whole.numbers["LDG"], whole.numbers["FMUL"], whole.numbers["STG"]) == (2, 1, 1)


def test_loops_that_count_the_same_share_a_line_and_only_the_heaviest_are_shown(compiled):
    twice = TINY[: TINY.index("        y[outer]")] + TINY[TINY.index("#pragma") :]
    whole, loop = compiled(twice)
    assert whole.name == "whole, 2 loops" and loop.name.startswith("2 loops, ") and loop.numbers["FFMA"] == 2
    lighter = twice.replace("            sum = fmaf(sum, v.z, v.w);\n", "", 1)
    assert [part.numbers["FFMA"] for part in compiled(lighter)] == [3, 2, 1]
    assert [part.numbers["FFMA"] for part in compiled(lighter, most=1)] == [3, 2]


def test_of_a_changed_kernel_what_was_and_what_is_stand_beside_each_other(machine_code, compiled):
    before, after = compiled(TINY), compiled(TINY.replace("fmaf(sum, v.x, v.y)", "fmaf(sum, v.x, v.y) * v.x * v.y"))
    (_, whole), (name, loop) = machine_code.beside(before, after)
    assert name.startswith("  loop, ")
    assert (loop["FFMA"], loop["FMUL"], loop["BAR"], loop["MUFU"]) == ("2", "0 > 2", "2", "")
    assert whole["FMUL"] == "0 > 2" and " > " in loop["all"]
    gone = machine_code.beside(before, before[:1])[1]
    assert gone[0].endswith(", gone") and gone[1]["FFMA"] == "2 > 0"
    assert machine_code.beside([], after)[1][1]["FMUL"] == "2", "there is nothing to compare a new one with"
    first, second, *rows = machine_code.table([("a variant of a long name", {}), (name, loop)]).splitlines()
    assert first.split()[:2] == ["all", "FFMA"] and "MUFU" not in first and second == "a variant of a long name"
    assert len(rows) == 1 and len(rows[0]) <= len(first) and rows[0].startswith(name)


def test_loops_are_found_where_branches_are_indirect_and_warps_do_not_come_apart(machine_code):
    code = machine_code.disassembly.parsed('\t.section\t.text.k,"ax",@progbits\n' + SWITCH)["k"]
    (loop,) = code.loops()
    assert loop == list(range(1, 9))
    assert code.counts(loop) == {"all": 8, "LDS.64": 1, "FADD": 1, "SHFL": 1}
    assert code.until_used(loop) == {"LDS": [2], "LDG": []}, "R5 is the second register of the load"


@pytest.mark.parametrize(
    ("following", "loops"),
    [
        ([[1], [2], [1, 3], [0, 4], []], [[1, 2]]),  # one in another
        ([[3], [2], [3], [1, 4], []], [[1, 2, 3]]),  # its condition last, and first done
        ([[1], [2, 3], [1], [1, 4], []], [[1, 2, 3]]),  # two ways back
        ([[1], [1, 2], [3], [2, 0]], [[2, 3]]),  # one instruction alone is none
        ([[1], [0, 2], [3], [2]], [[0, 1], [2, 3]]),  # from the first on; without an end
        ([[1, 2], [2], [1]], [[1, 2]]),  # entered at two places
        ([[1], [2], []], []),
    ],
)
def test_innermost_loops(machine_code, following, loops):
    assert sorted(machine_code.disassembly.innermost(range(len(following)), following)) == loops


def test_text_that_is_not_understood_is_refused(machine_code):
    text = '\t.section\t.text.k,"ax",@progbits\n' + SWITCH
    with pytest.raises(ValueError, match="instructions are missing"):
        machine_code.disassembly.parsed(text.replace("LDS.64", "lds"))
    with pytest.raises(ValueError, match="instructions are missing"):
        machine_code.disassembly.parsed(text.partition("\n")[0])


def test_without_nvdisasm_it_is_said_how_to_install_it(machine_code, monkeypatch):
    def absent(name):
        raise machine_code.disassembly.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine_code.disassembly.metadata, "files", absent)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="pip install 'nvidia-cuda-nvdisasm==13"):
        machine_code.disassembly.nvdisasm()


def test_a_variant_is_compared_with_what_it_was_under_a_shorter_name(machine_code):
    before = {("a.cu", "large"): "", ("a.cu", "large, 16-byte access"): "", ("b.cu", ""): ""}
    assert machine_code.earlier(("a.cu", "large"), before) == ("a.cu", "large")
    assert machine_code.earlier(("a.cu", "large, kind 1"), before) == ("a.cu", "large")
    assert machine_code.earlier(("a.cu", "tall, kind 1"), before) is None
    assert machine_code.earlier(("b.cu", "tall"), before) == ("b.cu", "")
    wide = ("a.cu", "large, 16-byte access, kind 1")
    assert machine_code.earlier(wide, before) == ("a.cu", "large, 16-byte access"), "the nearest one"


def test_what_is_new_and_what_is_gone(machine_code):
    pairs = machine_code.pairs(
        {("a.cu", "large"): "now", ("b.cu", ""): "b"}, {("a.cu", "large"): "was", ("c.cu", ""): "c"}
    )
    assert [(pair.name[0], pair.now, pair.was) for pair in pairs] == [
        ("a.cu", "now", "was"), ("b.cu", "b", ""), ("c.cu", "", "c"),
    ]  # fmt: skip


def test_another_commits_text_that_does_not_compile_is_told(machine_code, nvdisasm):
    pairs = [machine_code.Pair(("straight.cu", ""), STRAIGHT, "nonsense"), machine_code.Pair(("gone.cu", ""), "", "x")]
    said = machine_code.page(pairs, "newest", "sm_90a", 3)
    assert "\nstraight, which did not compile\n" in said and " > " not in said
    assert said.endswith("\nGone: gone.cu.")
    with pytest.raises(RuntimeError, match="nonsense"):
        machine_code.page([machine_code.Pair(("now.cu", ""), "nonsense", "")], "newest", "sm_90a", 3)
    assert machine_code.page(pairs, "newest", "sm_10", 3).endswith("does not know")


def test_variants_are_told_apart_by_whatever_differs(machine_code):
    import resources

    from gpumlp.backends.cuda_backend import TILES

    small = TILES["small"].defines
    assert resources.variant_name({**small, "VECTOR": 1, "KIND": 3}) == "small, 16-byte access, elu"
    assert resources.variant_name({**small, "VECTOR": 0}) == "small"
    assert "block_k 48" in resources.variant_name({**small, "BLOCK_K": 48})
    names = [name for name in machine_code.texts(ROOT, "sm_90a") if name[0] != "fit.cu"]
    assert len(names) == len(list(resources.variants())), "two have the same name"


def test_a_checkout_is_compared_with_its_commit(machine_code, nvdisasm, tmp_path):
    for folder in ("gpumlp", "kernels", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    sums = tmp_path / "kernels" / "sum_partials.cu"
    text = sums.read_text()
    sums.write_text(re.sub(r"sum \+= (.*);", r"sum = multiply_add(2.5f, \1, sum);", text))
    assert sums.read_text() != text
    script = [
        sys.executable,
        str(tmp_path / "benchmarks" / "machine_code.py"),
        "--nvrtc",
        "newest",
        "--against",
        "HEAD",
    ]
    done = subprocess.run([*script, "s.cu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n## ") == 1 and "\n## sum_partials.cu\n" in done.stdout
    (loop,) = [line for line in done.stdout.splitlines() if line.startswith("  loop") and " 0 > 4 " in line]
    assert "4 > 0" in loop, "additions are multiply-adds now"
    assert done.stdout.endswith("\nUnchanged: loss.cu.\n")
