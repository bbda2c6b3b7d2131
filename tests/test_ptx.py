"""The kernels by what NVRTC emits: its PTX, translated and run on the host (tests/ptx), also broken on purpose.

This is the short part; what is marked ``ptx`` here and elsewhere, through the fixture ``runtime``, `make ptx` runs.
"""

from dataclasses import replace

import numpy as np
import pytest
from host.runtime import HostKernelError, HostRuntime, broken
from ptx.module import PtxError
from ptx.runtime import PtxRuntime
from ptx.translate import translated
from whole_fit import Case, Dense, by_numpy, force, train

from gpumlp import activations, check, kernel_sources
from gpumlp.backends import compiler
from gpumlp.backends.cuda_backend import CudaBackend
from gpumlp.training import loop

# ---- what is not known is refused ------------------------------------------------------------------------------------

MODULE = """
.version 9.0
.target sm_90
.address_size 64
.visible .entry probe(.param .u64 probe_param_0)
{{
    .reg .pred %p<3>;
    .reg .b32 %r<5>;
    .reg .f32 %f<5>;
    .reg .b64 %rd<5>;
    {}
    ret;
}}
"""


@pytest.mark.parametrize(
    "line",
    [
        "popc.b32 %r1, %r2;", "add.cc.u32 %r1, %r2, %r3;", "mul24.lo.s32 %r1, %r2, %r3;",  # nobody knows them
        "add.ftz.f32 %f1, %f2, %f3;", "mul.ftz.f32 %f1, %f2, %f3;", "fma.rn.sat.f32 %f1, %f2, %f3, %f4;",
        "div.approx.f32 %f1, %f2, %f3;", "div.full.f32 %f1, %f2, %f3;", "sqrt.approx.f32 %f1, %f2;",
        "setp.lt.ftz.f32 %p1, %f1, %f2;", "setp.lt.and.s32 %p1, %r1, %r2, %p2;", "cvt.rzi.ftz.s32.f32 %r1, %f1;",
        "ld.volatile.global.f32 %f1, [%rd1];", "ld.global.L1::no_allocate.f32 %f1, [%rd1];",
        "ld.relaxed.gpu.global.u32 %r1, [%rd1];", "red.relaxed.gpu.global.add.u32 [%rd1], %r1;",
        "shfl.sync.idx.b32 %r1, %r2, %r3, 31, -1;", "shfl.bfly.b32 %r1, %r2, %r3, 31;",
        "bar.sync 1;", "bar.sync 0, 32;", "bar.arrive 0, 32;", "cp.async.cg.shared.global [%r1], [%rd1], 8;",
        "cp.async.mbarrier.arrive.b64 [%rd1];", '.pragma "something";', ".reg .b8 %c<3>;",
        "add.s32 %r1, %r2;", "add.s32 %r1, %r2, %r9;", "mov.u32 %r1, %clock;", "mov.u64 %rd1, nowhere;",
        "ld.param.u64 %rd1, [nothing];", "brx.idx %r1, nowhere;", "call.uni nowhere, (%r1);",
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(line):
    with pytest.raises(PtxError, match=r"probe: |not a declaration"):
        translated(MODULE.format(line))
    translated(MODULE.format(""))


# ---- what instructions compute ---------------------------------------------------------------------------------------

PROBE = """{0}
KERNEL(probe)(Global<float> a, Global<Packet> p, Global<uint32> n) {{
    SHARED(float, s, 64);
    int t = thread_index();
    {1}
}}
"""


def run(body, array=None, seed=0, blocks=1, threads=64, cooperative=False, change=("", "")):
    """Run a kernel over 64 numbers, packets and counters; return the numbers that it leaves.

    ``change``: what is replaced by what in the primitives.
    """
    primitives = kernel_sources.expanded("primitives.cuh")
    assert change[0] in primitives, "the primitives no longer have what is to be broken"
    text = PROBE.format(f"#define THREADS {threads}\n{primitives.replace(*change) if change[0] else primitives}", body)
    runtime = PtxRuntime(seed, mutate=lambda file, source: text)
    there = runtime.zeros(64, np.float32) if array is None else array
    others = runtime.zeros((8, 4), np.float32), runtime.zeros(2, np.uint32)
    runtime.launch(
        "take.cu", "probe", {"THREADS": threads}, (blocks, 1), (there, *others), cooperative=cooperative
    )  # fmt: skip
    return np.array(there)


INF, NAN, TINY = np.inf, np.nan, 2.0**-140
REALS = [
    ("fma.rn.f32 %0, %1, %2, %3;", (1 + 2.0**-12, 1 + 2.0**-12, -1), 2.0**-11 + 2.0**-24),
    ("add.rz.f32 %0, %1, %2;", (1, 2.0**-24 * 1.5, 0), 1),
    ("add.rz.f32 %0, %1, %2;", (-1, 2.0**-26, 0), -1 + 2.0**-24),
    ("fma.rm.f32 %0, %1, %2, %3;", (1, -(2.0**-30), 1), 1 - 2.0**-24),
    ("fma.rp.f32 %0, %1, %2, %3;", (1, 2.0**-30, 1), 1 + 2.0**-23),
    ("mul.f32 %0, %1, %2;", (TINY, 0.5, 0), TINY / 2),
    ("div.rn.f32 %0, %1, %2;", (1, 3, 0), np.float32(1) / np.float32(3)),
    ("sqrt.rn.f32 %0, %1;", (2, 0, 0), np.sqrt(np.float32(2))),
    ("min.f32 %0, %1, %2;", (NAN, 3, 0), 3),
    ("max.f32 %0, %1, %2;", (-5, NAN, 0), -5),
    ("max.f32 %0, %1, %2;", (-5, 3, 0), 3),
    ("copysign.f32 %0, %1, %2;", (-0.0, 3, 0), -3),
    ("cvt.sat.f32.f32 %0, %1;", (NAN, 0, 0), 0),
    ("cvt.sat.f32.f32 %0, %1;", (1.5, 0, 0), 1),
    ("cvt.rni.f32.f32 %0, %1;", (2.5, 0, 0), 2),
    ("ex2.approx.f32 %0, %1;", (-130, 0, 0), 2.0**-130),
    ("ex2.approx.ftz.f32 %0, %1;", (-130, 0, 0), 0),
    ("rcp.approx.ftz.f32 %0, %1;", (TINY, 0, 0), INF),
    ("lg2.approx.f32 %0, %1;", (0.125, 0, 0), -3),
    ("lg2.approx.ftz.f32 %0, %1;", (TINY, 0, 0), -INF),
    ("tanh.approx.f32 %0, %1;", (-50, 0, 0), -1),
    ("sub.rm.f32 %0, %1, %2;", (1, 2.0**-30, 0), 1 - 2.0**-24),
    ("cvt.rmi.f32.f32 %0, %1;", (-2.5, 0, 0), -3),
    (
        "{.reg .f64 d, e; cvt.f64.f32 d, %1; cvt.f64.f32 e, %2; add.f64 d, d, e; cvt.rn.f32.f64 %0, d;}",
        (1, 2.0**-24 + 2.0**-40, 0),
        1 + 2.0**-23,
    ),
]
# Of words: what they leave in the first. -1 in a place is a predicate that holds.
WHOLE = [
    ("shl.b32 %0, %1, %2;", (5, 32, 0), 0),
    ("shr.s32 %0, %1, %2;", (-9, 40, 0), -1),
    ("shr.u32 %0, %1, %2;", (-9, 40, 0), 0),
    ("mul.hi.s32 %0, %1, %2;", (-3, 1 << 30, 0), -1),
    ("mad.lo.s32 %0, %1, %2, %3;", (1 << 30, 4, 7), 7),
    ("bfi.b32 %0, %1, %2, 4, 8;", (0x12F, 0x7FFFFFFF, 0), 0x7FFFF2FF),
    ("div.s32 %0, %1, %2;", (-7, 2, 0), -3),
    ("rem.s32 %0, %1, %2;", (-7, 2, 0), -1),
    ("shf.l.wrap.b32 %0, %1, %2, %3;", (1 << 31, 1, 33), 3),
    ("shf.r.wrap.b32 %0, %1, %2, %3;", (2, 1, 1), -(1 << 31) + 1),
    ("{.reg .f32 f; mov.b32 f, 0f4F32D05E; cvt.rzi.s32.f32 %0, f;}", (0, 0, 0), 2**31 - 1),
    ("{.reg .f32 f; mov.b32 f, 0f7FC00000; cvt.rzi.s32.f32 %0, f;}", (0, 0, 0), 0),
    ("{.reg .f32 f; mov.b32 f, 0fC0200000; cvt.rni.s32.f32 %0, f;}", (0, 0, 0), -2),
    ("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.s32.s16 %0, h;}", (0x1FFFE, 0, 0), -2),
    *(
        (f"{{.reg .pred q; .reg .f32 f; mov.b32 f, {f}; setp.{how}.f32 q, f, 0f3F800000; selp.s32 %0, -1, 0, q;}}",
         (0, 0, 0), -int(holds))
        for how, f, holds in [
            ("ne", "0f7FC00000", False), ("neu", "0f7FC00000", True), ("lt", "0f7FC00000", False),
            ("geu", "0f7FC00000", True), ("geu", "0f3F000000", False), ("ltu", "0f3F000000", True),
            ("num", "0f3F000000", True), ("nan", "0f7FC00000", True), ("equ", "0f7FC00000", True),
        ]
    ),
    ("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, l};}", (0x12345678, 0, 0), 0x56781234),
    ("{.reg .b32 t; bra there; mov.b32 t, 7; there: mov.b32 %0, t;}", (0, 0, 0), -1),  # never written: not zero
    ("{to: .branchtargets one, two; brx.idx %1, to; one: mov.b32 %0, 1; bra end; two: mov.b32 %0, 2; end:}",
     (1, 0, 0), 2),
    ("{.reg .pred q; mov.pred q, 0; mov.b32 %0, 1; @!q mov.b32 %0, 2; @q mov.b32 %0, 3;}", (0, 0, 0), 2),
]  # fmt: skip


def test_instructions_compute_what_they_must():
    """All in one kernel, which is compiled once; inputs come from memory, so that NVRTC leaves the instructions."""
    lines, inputs = [], np.zeros((64, 4), np.float32)
    for i, (code, values, _) in enumerate([*REALS, *WHOLE]):
        kind, letter = ("float", "f") if i < len(REALS) else ("int", "r")
        words = np.array(values)
        inputs[i, :3] = words if i < len(REALS) else (words % 2**32).astype(np.uint32).view(np.float32)
        lines.append(f"""{{ {kind} *v = ({kind} *)(a + {4 * i}); {kind} out;
            asm volatile("{code}" : "={letter}"(out) : "{letter}"(v[0]), "{letter}"(v[1]), "{letter}"(v[2]));
            v[3] = out; }}""")
    array = PtxRuntime().zeros(256, np.float32)
    array[...] = inputs.ravel()
    found = run(f"if (t == 0) {{ {' '.join(lines)} }}", array).reshape(64, 4)[:, 3]
    for i, (code, values, expected) in enumerate([*REALS, *WHOLE]):
        got = found[i] if i < len(REALS) else found[i : i + 1].view(np.int32)[0]
        assert got == expected, (code, values, got, expected)


# ---- what threads do to memory and to each other ---------------------------------------------------------------------

ASK = "a[t] = any_thread(t == 3) + 2 * any_thread(false);"
SWAP = "s[t] = a[t]; barrier(); a[t] = s[63 - t];"
COPY = (
    "if (t % 4 == 0) copy_async<4>(s + t, a + t, true); copies_close(); copies_wait<0>(); barrier(); a[t] = s[t ^ 1];"
)
COPY_ONE = "copy_async<1>(s + t, a + (t ^ 1), t > 1); copies_close(); copies_wait<0>(); a[t] = s[t];"
HIGH = "a[t] = (float)multiply_high((uint64)a[t] << 58, 12);"
WIDE = "if (t < 16) { float4 v = load4(a, 4 * t); store4(a, 4 * t, make_float4(v.w, v.z, v.y, v.x)); }"
PAIRS = "if (t < 32) { float2 v = load2(a, 2 * t); a[2 * t] = v.y; a[2 * t + 1] = v.x; }"
HAND_OVER = """if (t == 0) {
    int b = (int)block_index();
    a[b] = 1.0f + b;
    store_packet(p, b, Packet{1.0f + b, 2, 3, 4});
    add_release(n, 0, 1);
    while (load_acquire(n, 0) < 2) {}
    Packet v;
    do v = load_packet(p, 1 - b); while (v.tag != 4);
    a[2 + b] = a[1 - b] + 10 * v.a + 100 * v.b + 1000 * v.c;
}"""
NUMBERS = np.arange(64, dtype=np.float32)
TOGETHER = {"blocks": 2, "threads": 32, "cooperative": True}
RIGHT = {
    "swap": (SWAP, {}, NUMBERS[::-1]),
    "ask": (ASK, {}, np.ones(64)),
    "copy": (COPY, {}, NUMBERS.reshape(32, 2)[:, ::-1]),
    "copy one": (COPY_ONE, {}, [0, 0, 3, 2, *NUMBERS[4:].reshape(30, 2)[:, ::-1].ravel()]),
    "high": (HIGH, {}, NUMBERS * 12 // 64),
    "wide": (WIDE, {}, NUMBERS.reshape(16, 4)[:, ::-1]),
    "pairs": (PAIRS, {}, NUMBERS.reshape(32, 2)[:, ::-1]),
    "shuffle": ("a[t] = shuffle_xor(a[t], 5);", {}, [t ^ 5 for t in range(64)]),
    "hand over": (HAND_OVER, TOGETHER, [1, 2, 3222, 3211, *NUMBERS[4:]]),
}


def given():
    array = PtxRuntime().zeros(64, np.float32)
    array[...] = NUMBERS
    return array


def wrong(name, change):
    """Whether the kernel is stopped, or leaves something else, in one of a few schedules."""
    body, how, expected = RIGHT[name]
    for seed in range(4):
        try:
            if not np.array_equal(run(body, given(), seed, change=change, **how), np.ravel(expected)):
                return True
        except HostKernelError:
            return True
    return False


@pytest.mark.ptx
@pytest.mark.parametrize("name", RIGHT)
def test_a_primitive_does_what_it_says(name):
    assert not wrong(name, ("", ""))


PRIMITIVES = {
    "a barrier is dropped": ("swap", "{ __syncthreads(); }", "{}"),
    "a vote of all": ("ask", "__syncthreads_or(value)", "__syncthreads_and(value)"),
    "a vote of one": ("ask", "__syncthreads_or(value)", "value"),
    "a shuffle of 31 lanes": ("shuffle", "0xffffffffu, value", "0x7fffffffu, value"),
    "a shuffle of another lane": ("shuffle", "value, mask);", "value, mask ^ 1);"),
    "copies are not waited for": ("copy", '    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");', ""),
    "copies of no group": ("copy", '    asm volatile("cp.async.commit_group;" ::: "memory");', ""),
    "a copy from elsewhere": ("copy", '"l"(from)', '"l"(from + 4)'),
    "one value from elsewhere": ("copy one", '"l"(from)', '"l"(from + 4)'),
    "a copy of what is not there": ("copy one", "bytes = there ? 4 * COUNT : 0", "bytes = 4 * COUNT"),
    "the low half of a product": ("high", "__umul64hi(a, b)", "a * b"),
    "a wide load four further": ("wide", "const float4 *>(p + index)", "const float4 *>(p + index + 4)"),
    "a wide load off its place": ("wide", "const float4 *>(p + index)", "const float4 *>(p + index + 1)"),
    "a wide store off its place": ("wide", "<float4 *>(p + index) = v", "<float4 *>(p + index + 2) = v"),
    "a pair off its place": ("pairs", "const float2 *>(p + index)", "const float2 *>(p + index + 1)"),
    "a packet's halves on the way out": ("hand over", '"l"(low), "l"(high)', '"l"(high), "l"(low)'),
    "a packet's halves on the way in": ("hand over", '"=l"(low), "=l"(high)', '"=l"(high), "=l"(low)'),
    "a packet in another's place": ("hand over", '"=l"(high)\n                 : "l"(p + index)',
                                    '"=l"(high)\n                 : "l"(p + (index ^ 1))'),
    "an addition that releases nothing": ("hand over", 'asm volatile("red.release.gpu.global.add.u32 [%0], %1;"',
                                          'p[index] += v; asm volatile(""'),
    "a count that is too high": ("hand over", '"l"(p + index), "r"(v)', '"l"(p + index), "r"(2 * v)'),
    "a load that acquires nothing": ("hand over", 'asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"',
                                     'asm volatile("ld.global.u32 %0, [%1];"'),
}  # fmt: skip


@pytest.mark.ptx
@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_broken_primitive_is_noticed(name):
    probe, *change = PRIMITIVES[name]
    assert wrong(probe, tuple(change))


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("outside of all arrays", "a[t + 65536] = 1;"),
        ("outside of all arrays", "a[t + 1] = 1;"),
        ("outside of all arrays", "*(float *)(t * 4ull) = 1;"),
        ("write of element 64", "s[t + 1] = 1; barrier(); a[t] = s[t];"),
        ("not aligned", "if (t == 0) store4(a, 0, load4(a, 2));"),
        ("two threads write", "a[0] = (float)t;"),
        ("another wrote|another reads", "s[t] = 1; a[t] = s[t ^ 1];"),
        ("never reached|ended threads miss", "if (t < 32) barrier();"),
        ("different instructions", "if (t < 32) a[t] = any_thread(true); else { a[t] = 2; barrier(); }"),
        ("mask is not all lanes", "a[t] = __shfl_xor_sync(t < 32 ? 0xffffffffu : 0xffffu, a[t], 1);"),
        ("deadlock|never reached", "if (t != 5) a[t] = shuffle_xor(1.0f, 1);"),
        ("asynchronous copies", "if (t == 0) copy_async<4>(s, a, true);"),
        ("division by zero", "a[t] = (float)(7 / (int)(a[t] - t));"),
        ("a trap", "__trap();"),
    ],
)
def test_a_kernel_that_is_wrong_is_stopped(words, body):
    with pytest.raises(HostKernelError, match=f"probe: .*({words})"):
        for seed in range(4):  # some orders hide it
            run(body, given(), seed)


def test_memory_begins_as_nan():
    shared, local = "a[t] = s[t];", "float v[8]; v[t % 3] = 1; a[t] = v[3 + (int)a[t] % 5];"
    assert np.isnan(run(shared)).all() and np.isnan(run(local, given())).all()


def test_a_copy_is_not_there_before_it_is_waited_for():
    early = "copy_async<1>(s + t, a + t, true); copies_close(); {}; float v = s[t]; copies_wait<0>(); a[t] = v;"
    assert np.isnan(run(early.format(""), given())).all()
    assert np.isnan(run(early.format("copies_close(); copies_wait<2>()"), given())).all()
    there = run(early.format("copies_close(); copies_wait<1>()"), given())
    np.testing.assert_array_equal(there, given())


# ---- the kernels -----------------------------------------------------------------------------------------------------


@pytest.fixture
def version(request):
    return request.config.getoption("nvrtc")


def first(cases):
    return next(iter(cases))


SOFTMAX = first(check.activation_cases((33, 20), activations.softmax))
TAKE, AFFINE, DROPOUT = check.plain_cases((7, 5))
CASES = [
    *check.activation_cases((20, 33), activations.gelu), SOFTMAX,
    TAKE, AFFINE, DROPOUT, check.loss_case((33, 10), *check.LOSSES[6], weighted=True),
    check.metric_case((33, 10), check.METRICS[0], weighted=True), check.penalty_case(5000, check.L1L2(0.1, 0.1)),
    *(check.update_case(257, name) for name in ("adamw", "sgd nesterov", "rmsprop centered")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}: {case.shape}")
def test_an_operation(version, case):
    result = check.hold(case, CudaBackend(PtxRuntime(version=version)), "ptx")
    assert result.passed, f"{result.error:.3g} times its bound at {result.worst}"


FORWARD, BACKWARD = check.dense_cases((20, 36, 20), activations.relu)
SPLIT = [*check.dense_cases((2000, 3, 9), activations.relu)][1]  # its gradient is a sum of parts


@pytest.mark.parametrize(
    ("case", "tile", "capability"),
    [
        (FORWARD, "medium", 90),
        (FORWARD, "medium", 75),  # which copies nothing asynchronously
        (BACKWARD, "medium", 90),
        (FORWARD, "small", 90),
        (SPLIT, "small", 90),
    ],
)
def test_a_dense_layer(version, case, tile, capability):
    backend = CudaBackend(PtxRuntime(version=version, capability=capability))
    backend.tile = tile
    result = check.hold(case, backend, "ptx")
    assert result.passed, f"{result.error:.3g} times its bound at {result.worst}"


@pytest.mark.ptx
@pytest.mark.parametrize("case", [FORWARD, BACKWARD, check.update_case(257, "adamw")], ids=lambda case: case.operation)
def test_host_execution_gives_the_same_bits(version, case):
    inputs = case.inputs(np.random.default_rng(3))
    found = []
    for runtime in (HostRuntime(), PtxRuntime(version=version)):
        backend = CudaBackend(runtime)
        backend.tile = "medium"
        found.append(check.outputs(case, backend, inputs))
    for name, value in found[0].items():
        assert np.array_equal(value, found[1][name]), name


SMALL = Case(lambda: [Dense(5, "tanh"), Dense(2)], samples=19, batch=4, epochs=3, threads=32)


@pytest.mark.parametrize("exchange", ["tags", pytest.param("barrier", marks=pytest.mark.ptx)])
def test_a_whole_fit(as_gpu, monkeypatch, version, exchange):
    runtime = as_gpu(PtxRuntime(version=version))
    assert near(fitted(exchange, runtime, monkeypatch))


def fitted(exchange, runtime, monkeypatch):
    """Return what a small fit leaves, or None where the kernel was stopped."""
    case = replace(SMALL, exchange=exchange)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)
    force(monkeypatch, case)
    model = case.build("cuda")
    found = train(case, model)
    return found if model.program.startswith("whole-fit kernel") else None


def near(found):
    truth = by_numpy(SMALL, "float32")
    return found is not None and all(np.allclose(found[k], v, rtol=2e-4, atol=1e-6) for k, v in truth.items())


# ---- broken on purpose -----------------------------------------------------------------------------------------------

KERNELS = {
    "a shuffle of 31 lanes": (SOFTMAX, "0xffffffffu, value", "0x7fffffffu, value"),
    "the low half of a product": (DROPOUT, "__umul64hi(a, b)", "a * b"),
    "no barrier at all": (check.penalty_case(5000, check.L1L2(0.1, 0.1)), "{ __syncthreads(); }", "{}"),
    "a wide load two off": (check.update_case(256, "adam"), "float4 *>(p + index);", "float4 *>(p + index + 2);"),
    "copies are not waited for": (FORWARD, 'asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");', ""),
    "no barrier after a stage is delivered": (FORWARD, "barrier();  // this stage", "//"),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_a_broken_kernel_is_noticed(name):
    case, old, new = KERNELS[name]
    runtime, found = broken(old, new, PtxRuntime)
    backend = CudaBackend(runtime)
    backend.tile = "medium"
    assert not check.hold(case, backend, "broken").passed
    assert found, "the text that was to be broken is not in the kernel any more"


def test_dependent_kernels_wait_in_their_ptx(monkeypatch):
    monkeypatch.setenv("GPUMLP_TRY", "dependent")
    runtime = PtxRuntime()
    backend = CudaBackend(runtime)
    assert check.hold(FORWARD, backend, "dependent").passed
    text = compiler.text_of("take.cu", {"THREADS": 256, "VECTOR": 0, "DEPENDENT": 1})
    for capability, waits in ((90, True), (80, False)):
        ptx, _ = runtime.nvrtc.compile(text, f"sm_{capability}", ptx=True)
        assert (b"griddepcontrol.wait" in ptx) == waits


FITS = {
    "votes are no barriers": ("tags", "__syncthreads_or(value)", "value"),
    "packets' halves on the way out": ("tags", '"l"(low), "l"(high)', '"l"(high), "l"(low)'),
    "packets' halves on the way in": ("tags", '"=l"(low), "=l"(high)', '"=l"(high), "=l"(low)'),
    "additions that release nothing": ("barrier", 'asm volatile("red.release.gpu.global.add.u32 [%0], %1;"',
                                       'p[index] += v; asm volatile(""'),
    "loads that acquire nothing": ("barrier", "ld.acquire.gpu.global.u32", "ld.global.u32"),
    "counts that are too high": ("barrier", '"l"(p + index), "r"(v)', '"l"(p + index), "r"(2 * v)'),
    "a product without its sum": ("tags", "return fmaf(a, b, c)", "return a * b"),
    "one half of the packets": ("barrier", "(int)(tag & 1) * half", "0"),
}  # fmt: skip


@pytest.mark.ptx
@pytest.mark.filterwarnings("ignore:The whole-fit kernel can:UserWarning")
@pytest.mark.parametrize("name", FITS)
def test_a_broken_whole_fit_is_noticed(as_gpu, monkeypatch, name):
    exchange, old, new = FITS[name]
    for seed in range(8):  # some schedules hide it
        runtime, found = broken(old, new, lambda mutate, seed=seed: PtxRuntime(seed, mutate))
        as_gpu(runtime)
        noticed = not near(fitted(exchange, runtime, monkeypatch))
        assert found, "the text that was to be broken is not in the kernel any more"
        if noticed:
            break
    else:
        raise AssertionError("nothing noticed")
