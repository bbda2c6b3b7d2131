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
    def parts(text, arch="sm_90"):
        (found,) = machine_code.of_text("test.cu", text, machine_code.nvrtcs.get(), arch).values()
        return found

    return parts


@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_100", "sm_120"])
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


def test_loops_that_count_the_same_share_a_line_and_only_the_heaviest_are_shown(machine_code, compiled):
    twice = TINY[: TINY.index("        y[outer]")] + TINY[TINY.index("#pragma") :]
    whole, loop = compiled(twice)
    assert whole.name == "whole, 2 loops" and loop.name.startswith("2 loops, ") and loop.numbers["FFMA"] == 2
    lighter = twice.replace("            sum = fmaf(sum, v.z, v.w);\n", "", 1)
    assert [part.numbers["FFMA"] for part in compiled(lighter)] == [3, 2, 1]
    shown = [[cells["FFMA"] for _, cells in machine_code.beside([], compiled(lighter), most)] for most in (1, 2)]
    assert shown == [["3", "2"], ["3", "2", "1"]]


def test_of_a_changed_kernel_what_was_and_what_is_stand_beside_each_other(machine_code, compiled):
    before, after = compiled(TINY), compiled(TINY.replace("fmaf(sum, v.x, v.y)", "fmaf(sum, v.x, v.y) * v.x * v.y"))
    (_, whole), (name, loop) = machine_code.beside(before, after, 3)
    assert name.startswith("  loop ")
    assert (loop["FFMA"], loop["FMUL"], loop["BAR"], loop["MUFU"]) == ("2", "0>2", "2", "")
    assert whole["FMUL"] == "0>2" and ">" in loop["all"]
    gone = machine_code.beside(before, before[:1], 3)[1]
    assert gone[0].endswith(", gone") and gone[1]["FFMA"] == "2>0"
    assert machine_code.beside([], after, 3)[1][1]["FMUL"] == "2", "there is nothing to compare a new one with"


def test_loops_are_compared_with_those_that_the_same_line_heads(machine_code):
    def part(head, number):
        return machine_code.Part(f"loop {head}", {"all": number}, head)

    whole = machine_code.Part("whole", {"all": 100})
    before = [whole, part("sum: for (i)", 30), part("sum: for (j)", 20), part("old: for (i)", 10), part("old: do", 5)]
    after = [whole, part("sum: for (j)", 21), part("new: for (i)", 11), part("sum: for (k)", 9), part("new: do", 6)]
    shown = [(name.strip(), cells["all"]) for name, cells in machine_code.beside(before, after, 3)]
    assert shown == [
        ("whole", "100"), ("loop sum: for (j)", "20>21"), ("loop new: for (i)", "0>11"),
        ("loop sum: for (k)", "30>9"), ("loop old: for (i), gone", "10>0"),
    ]  # fmt: skip
    shown = [cells["all"] for _, cells in machine_code.beside(before, after, 1)]
    assert shown == ["100", "20>21", "30>9"], "what is heaviest now, and what was"


def lines(machine_code, *rows):
    return [(name, {c: cells.get(c, "") for c in machine_code.COLUMNS}) for name, cells in rows]


def test_a_table_has_the_columns_that_say_something(machine_code):
    rows = lines(machine_code, ("large", {"all": "9", "FFMA": "4"}), ("  loop", {"all": "5", "MUFU": "1"}))
    assert machine_code.table(rows).splitlines() == [
        "        all  FFMA  MUFU",
        "large     9     4",
        "  loop    5           1",
    ]
    rows = lines(machine_code, ("large", {"all": "9", "FFMA": "4", "LDS": "1>2"}), ("  loop", {"FADD": "3"}))
    assert machine_code.table(rows).splitlines()[0].split() == ["all", "LDS"], "the others did not change"


def test_no_line_is_wide_however_much_changed_and_however_long_the_names_are(machine_code):
    cells = {c: "123,456>654,321" for c in machine_code.COLUMNS}
    names = "; ".join(f"variant, of a number, {i}" for i in range(9))
    quiet = {**dict.fromkeys(cells, ""), "all": "1>2"}
    page = machine_code.table([("large", cells), (names, cells), ("  loop", quiet)])
    assert max(map(len, page.splitlines())) <= machine_code.WIDEST
    tables = page.split("\n\n")
    assert [c for table in tables for c in table.splitlines()[0].split()] == list(machine_code.COLUMNS), "all are there"
    assert page.count("  loop") == 1, "what has nothing in a further table is not in it"
    assert all(table.count("large  ") == 1 and "number, 7;" in table for table in tables)
    paragraph = machine_code.listed("New", [("a.cu", name) for name in names.split("; ")])[1]
    first, *rest = paragraph.splitlines()
    assert first.startswith("New in a.cu: variant, of a number, 0; ") and rest
    assert all(len(line) <= 120 for line in (first, *rest))
    assert all(line.endswith(";") for line in (first, *rest[:-1])), "a name is not broken"
    assert machine_code.listed("New", [("a.cu", ""), ("b.cu", "")]) == ["", "New: a.cu; b.cu."]
    assert machine_code.listed("New", []) == []


def test_variants_that_count_the_same_share_lines(machine_code):
    def block(title, whole, loop):
        return machine_code.Block(
            title, lines(machine_code, ("  whole, 1 loop", {"all": whole}), (f"  loop {title}", {"all": loop})), True
        )

    found = machine_code.grouped(
        [block("a", "9", "5"), block("b", "9", "5"), block("c", "8", "5"), block("d", "9", "4")]
    )
    assert [(name, cells["all"]) for name, cells in found] == [
        ("a; b (whole, 1 loop)", "9"), ("c (whole, 1 loop)", "8"), ("  loop a", "5"),
        ("d (whole, 1 loop)", "9"), ("  loop d", "4"),
    ]  # fmt: skip


def test_loops_are_named_by_the_lines_that_head_them(machine_code, compiled, monkeypatch):
    monkeypatch.setattr(machine_code, "WIDEST_LOOP", 24)
    twice = TINY[: TINY.index("        y[outer]")] + TINY[TINY.index("#pragma") :].replace("int k = 0", "int other = 0")
    twice = twice.replace("other = 0; k < n; ++k", "other = 0; other < n; ++other").replace("k * 1024", "0 * 1024")
    _, one = compiled(TINY)
    names = sorted(part.name.partition(" in ")[2] for part in compiled(twice)[1:])
    assert one.name.endswith(" in tiny: for (int k = 0; k < n...") and one.name.startswith("loop ")
    assert len(names) == 2 and names[1].startswith("tiny: for (int other"), "each by its own"


def test_line_information_does_not_change_what_is_compiled(machine_code, nvdisasm):
    from gpumlp.backends.compiler import text_of

    def instructions(**more):
        cubin, _ = machine_code.nvrtcs.get().compile(text, "sm_90", "loss.cu", **more)
        code = machine_code.disassembly.read(cubin)["loss"]
        return [(i.name, i.operands) for i in code.instructions], {i.line for i in code.instructions}

    file, defines = next(one for one in machine_code.resources.chosen_variants() if one[0] == "loss.cu")
    text = text_of(file, defines)
    without, none = instructions()
    told, some = instructions(lineinfo=True)
    assert told == without and none == {0} and len(some) > 10


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("template <int N> DEVICE float add(float a,\n{", "add"),
        ("KERNEL(fit)(int a) {\n// DEVICE void not_this()\n#define DEVICE no(x)\n{", "fit"),
        ("CALLED void f(int a) {\n    DEVICE bool operator()(int b) {\n        g(1);\n{", "operator"),
        ("int a;\n{", "?"),
    ],
)
def test_the_function_of_a_line(machine_code, text, function):
    head = "    while (any) {"
    assert machine_code.place(f"{text}\n{head}\nKERNEL(later)(", text.count("\n") + 2) == f"{function}: while (any)"
    assert machine_code.place(text, 0) == ""


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


def test_another_commits_text_that_does_not_compile_is_told(machine_code, nvdisasm, capsys):
    pairs = [machine_code.Pair(("straight.cu", ""), STRAIGHT, "nonsense"), machine_code.Pair(("gone.cu", ""), "", "x")]
    said = machine_code.page(pairs, "newest", "sm_90", 3)
    assert "\nstraight, which did not compile (whole, 0 loops) " in said and ">" not in said
    assert "\n## straight.cu, nothing to compare with\n" in said and said.endswith("\nGone: gone.cu.")
    assert "2 of 2 texts compiled" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="nonsense"):
        machine_code.page([machine_code.Pair(("now.cu", ""), "nonsense", "")], "newest", "sm_90", 3)


def test_what_counts_the_same_is_only_named(machine_code, nvdisasm, capsys):
    pairs = [
        machine_code.Pair(("straight.cu", "old"), STRAIGHT, STRAIGHT),
        machine_code.Pair(("straight.cu", "told"), STRAIGHT, f"// another comment\n{STRAIGHT}"),
        machine_code.Pair(("straight.cu", "less"), STRAIGHT, STRAIGHT.replace("* y", "+ y")),
    ]
    said = machine_code.page(pairs, "newest", "sm_90", 3)
    assert "3 of 3 texts compiled" in capsys.readouterr().err, "what two variants were, once"
    assert said.endswith(
        "\n\nAnother text that counts the same in straight.cu: told.\n\nThe same text in straight.cu: old."
    )
    assert said.count("whole") == 1 and "\nless (whole, 0 loops) " in said and " 1>0 " in said


@pytest.mark.parametrize("arch", ["hopper", "sm_70", "compute_90", "sm_90x", "sm_"])
def test_an_architecture_that_the_compiler_does_not_know_is_told_before_anything_else(
    machine_code, capsys, nvdisasm, arch
):
    with pytest.raises(SystemExit, match=rf"^NVRTC \S+ does not compile for {arch}, but for sm_75, [^\n]*$"):
        machine_code.main(["--arch", arch, "--nvrtc", "newest"])
    assert not capsys.readouterr().out
    for known in ("sm_90", "sm_90a", "sm_100f"):
        machine_code.refuse_unknown(known, machine_code.nvrtcs.get())


def test_only_variants_that_stand_for_all_are_shown_unless_every_one_is_asked_for(machine_code, monkeypatch, capsys):
    def main(*arguments):
        shown = []
        monkeypatch.setattr(machine_code, "page", lambda found, *_: shown.extend(found) or "")
        machine_code.main([*arguments, "--nvrtc", "newest"])
        return [pair.name for pair in shown]

    monkeypatch.setattr(machine_code.disassembly, "nvdisasm", lambda: "")
    few, every = main("dense_forward"), main("dense_forward", "--every")
    assert ("dense_forward.cu", "large, relu") in few and ("dense_forward.cu", "large, tanh") not in few
    assert ("dense_forward.cu", "large, tanh") in every and set(few) < set(every)
    assert len(main("fit.cu")) == 6
    assert capsys.readouterr().out.count("MUFU: ") == 3


def test_variants_are_told_apart_by_whatever_differs(machine_code):
    import resources

    from gpumlp import activations
    from gpumlp.backends import cuda_formulas
    from gpumlp.backends.cuda_backend import TILES

    small, elu = TILES["small"].defines, cuda_formulas.epilogue(activations.elu).header
    file = "dense_forward.cu"
    assert resources.variant_name(file, {**small, "VECTOR": 1, **elu}) == "small, 16-byte access, elu"
    assert resources.variant_name(file, {**small, "VECTOR": 0}) == "small"
    assert "block_k 48" in resources.variant_name(file, {**small, "BLOCK_K": 48})
    names = [name for name in machine_code.texts(ROOT, "sm_90") if name[0] != "fit.cu"]
    assert len(names) == len(list(resources.variants())), "two have the same name"


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout of its own, and a function that runs git in it."""
    for folder in ("gpumlp", "kernels", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    words = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]

    def git(*command):
        return subprocess.run([*words, *command], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    return tmp_path, git


def test_a_checkout_is_compared_with_its_commit(nvdisasm, checkout):
    folder, git = checkout
    git("add", ".")
    git("commit", "--quiet", "--message", "all")
    sums = folder / "kernels" / "sum_partials.cu"
    text = sums.read_text()
    sums.write_text(re.sub(r"sum \+= (.*);", r"sum = multiply_add(2.5f, \1, sum);", text))
    assert sums.read_text() != text
    script = [sys.executable, str(folder / "benchmarks" / "machine_code.py"), "--nvrtc", "newest", "--against", "HEAD"]
    done = subprocess.run([*script, "s.cu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n## ") == 1 and "\n## sum_partials.cu\n" in done.stdout
    found = [line for line in done.stdout.splitlines() if line.startswith("  loop ") and " 0>4 " in line]
    assert len(found) == 1 and "4>0" in found[0], "additions are multiply-adds now"
    assert " in sum_partials: for (" in found[0]
    assert "\nThe same text in loss.cu: mean_squared_error;" in done.stdout
    assert "2 of 2 texts compiled" in done.stderr


def test_a_commit_that_cannot_be_compared_is_told_in_one_line(machine_code, checkout, monkeypatch):
    folder, git = checkout
    commits = []
    (folder / "benchmarks" / "fit_cases.py").rename(folder / "fit_cases.py")
    for _ in range(2):
        git("add", ".")
        git("commit", "--quiet", "--message", "all")
        commits.append(git("rev-parse", "--short", "HEAD"))
        if not (folder / "benchmarks" / "fit_cases.py").exists():
            (folder / "fit_cases.py").rename(folder / "benchmarks" / "fit_cases.py")
    old, new = commits
    monkeypatch.setattr(machine_code, "ROOT", folder)
    monkeypatch.setattr(machine_code.disassembly, "nvdisasm", lambda: "")
    too_old = rf"^{old} is from before .*fit_cases\.py: the oldest that can be compared is {new}\.$"
    with pytest.raises(SystemExit, match=too_old):
        machine_code.main(["--against", old, "--nvrtc", "newest"])
    with pytest.raises(SystemExit, match=r"^There is no commit nowhere in [^\n]*\.$"):
        machine_code.main(["--against", "nowhere", "--nvrtc", "newest"])
    assert machine_code.texts_of_commit(new, "sm_90") == machine_code.texts(ROOT, "sm_90")
    (folder / "benchmarks" / "fit_cases.py").write_text("raise ValueError('of\\nseveral lines')")
    git("commit", "--quiet", "--all", "--message", "broken")
    with pytest.raises(SystemExit, match=r"^HEAD: The kernels cannot be listed: several lines$"):
        machine_code.main(["--against", "HEAD", "--nvrtc", "newest"])
