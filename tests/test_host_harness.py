"""The harness that runs CUDA C++ on the host: it stops every kernel that would be wrong on a GPU, and says where."""

import numpy as np
import pytest
from host import runtime as host
from host.runtime import HostKernelError, HostRuntime

DEFINES = {"THREADS": 64, "VECTOR": 0}


def run(body, array=None, blocks=1, seed=0, shared=""):
    """Run a kernel of ``body`` over ``array``; return what it leaves there."""
    text = f'#include "primitives.h"\n{PREAMBLE}KERNEL(probe)(Global<float> a, long long n) {{ {shared}\n{body}\n}}\n'
    runtime = HostRuntime(seed, mutate=lambda file, source: text)
    there = runtime.zeros(64, np.float32) if array is None else array
    runtime.launch("take.cu", "probe", DEFINES, (blocks, 1), (there, 64))
    return np.array(there)


PREAMBLE = ""
SHARED = "SHARED(float, s, THREADS);"


def test_a_kernel_that_is_right_runs():
    out = run("s[thread_index()] = a[thread_index()] + 1; barrier(); a[thread_index()] = s[63 - thread_index()];",
              np.arange(64, dtype=np.float32), shared=SHARED)  # fmt: skip
    assert out.tolist() == [64.0 - i for i in range(64)]


@pytest.mark.parametrize(
    ("words", "body", "shared"),
    [
        ("write of element 64", "a[thread_index() + 1] = 1;", ""),
        ("read of element -1", "float v = a[-1]; a[thread_index()] = v;", ""),
        ("write of element 64", "s[thread_index() + 1] = 1;", SHARED),
        ("not a multiple", "if (thread_index() == 0) a[0] = load4(a, 2).x;", ""),
        ("two threads write", "a[0] = 1;", ""),
        (r"another wrote|another reads", "s[thread_index()] = 1; a[thread_index()] = s[thread_index() ^ 1];", SHARED),
        (r"another wrote|another reads", "float v = s[63 - thread_index()]; s[thread_index()] = v;", SHARED),
        (r"never reached|ended threads miss", "if (thread_index() < 32) barrier();", ""),
        ("asynchronous copies", "if (thread_index() == 0) copy_async<4>(s, a, true);", SHARED),
    ],
)
def test_a_kernel_that_is_wrong_is_stopped(words, body, shared):
    with pytest.raises(HostKernelError, match=f"probe: .*({words})"):
        for seed in range(4):  # some orders hide it
            run(body, seed=seed, shared=shared)


def test_blocks_may_not_meet_in_an_array():
    with pytest.raises(HostKernelError, match="two threads write"):
        run("if (thread_index() == 0) a[0] = (float)block_index();", blocks=2)


def test_a_lane_that_stays_away_from_a_shuffle_is_a_deadlock():
    with pytest.raises(HostKernelError, match=r"deadlock|never reached"):
        run("if (thread_index() != 5) a[thread_index()] = shuffle_xor(1.0f, 1);")


def test_shared_memory_starts_as_nan_in_every_block():
    body = "float v = s[thread_index()]; barrier(); s[thread_index()] = 1; if (block_index()) a[thread_index()] = v;"
    out = run(body, blocks=2, shared=SHARED)
    assert np.isnan(out).all()


def test_an_asynchronous_copy_is_not_there_before_it_is_waited_for():
    copy = "if (thread_index() % 4 == 0) copy_async<4>(s + thread_index(), a + thread_index(), true);"
    wait, read = "copies_close(); copies_wait<0>();", "barrier(); float v = s[thread_index()]; barrier();"
    early, late = f"{copy} {read} {wait} a[thread_index()] = v;", f"{copy} {wait} {read} a[thread_index()] = 2 * v;"
    ones = np.ones(64, np.float32)
    assert np.isnan(run(early, host.aligned_copy(ones), shared=SHARED)).all()
    assert (run(late, host.aligned_copy(ones), shared=SHARED) == 2).all()


def test_the_order_of_threads_differs_from_seed_to_seed():
    body = "static int count = 0; a[thread_index()] = (float)count++;"
    first, again, other = (run(f"{body} // {i}", seed=s) for i, s in ((0, 1), (1, 1), (2, 2)))
    assert (first == again).all() and (first != other).any()


def test_a_missing_compiler_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(host, "COMPILER", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler 'no-such-compiler'"):
        run("a[0] = 0;")


def test_a_kernel_that_does_not_compile_shows_the_compiler_s_words():
    with pytest.raises(RuntimeError, match="nonsense"):
        run("nonsense;")


def test_recordings_hold_no_copies_and_no_allocations():
    runtime = HostRuntime()
    array = runtime.zeros(4, np.float32)
    for forbidden in (
        lambda: runtime.upload(array, np.ones(4, np.float32)),
        lambda: runtime.download(array),
        lambda: runtime.empty(3, np.float32),
    ):
        calls = []

        def work(forbidden=forbidden, calls=calls):
            calls.append(1)
            if len(calls) == 2:  # the second call is the recorded one
                forbidden()

        with pytest.raises(AssertionError, match="recorded"):
            runtime.record(work)


# ---- blocks that wait for each other ---------------------------------------------------------------------------------

ARRIVE = "if (thread_index() == 0) add_release(n, 0, 1);"
AWAIT = "if (thread_index() == 0) while (load_acquire(n, 0) < block_count()) {}"
MEET = f"barrier(); {ARRIVE} {AWAIT} barrier();"
OWN, THEIRS = "a[32 * block_index() + thread_index()]", "a[32 * (1 - block_index()) + thread_index()]"
HAND_OVER = f"{OWN} = 1; {MEET} float v = {THEIRS};"
# A thread hands a packet to the other block's, which tells what it saw of it.
POST = "if (thread_index() == 0) store_packet(p, block_index(), Packet{1, 2, 3, 4});"
SEEN = "Packet v = load_packet(p, 1 - block_index()); a[block_index()] = v.a + v.b + v.c + v.tag;"
LOOK = f"if (thread_index() == 1) {{ {SEEN} }}"


def together(body, seed=0, blocks=2, threads=32, shared=0, runtime=None, packets=8):
    """Run a kernel over numbers a, packets p and counters n with all its blocks live; return the numbers it leaves."""
    text = f'#include "primitives.h"\nKERNEL(probe)(Global<float> a, Global<Packet> p, Global<uint32> n) {{ {body} }}\n'
    runtime = runtime or HostRuntime(seed)
    runtime._mutate = lambda file, source: text
    a, p, n = runtime.zeros(64, np.float32), runtime.zeros((packets, 4), np.float32), runtime.zeros(2, np.uint32)
    runtime.launch("take.cu", "probe", {"THREADS": threads}, (blocks, 1), (a, p, n), shared, cooperative=True)
    return np.array(a)


def test_blocks_hand_over_what_they_wrote():
    for seed in range(20):
        assert (
            together(f"{HAND_OVER} {MEET.replace('block_count()', '2 * block_count()')} {OWN} = v + 1;", seed) == 2
        ).all()


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("another wrote|another reads", HAND_OVER.replace("barrier(); if", "if", 1)),
        ("another wrote|another reads", HAND_OVER.replace(AWAIT, "")),
        ("another wrote|another reads", HAND_OVER.replace(AWAIT + " barrier();", AWAIT)),
        ("another wrote|another reads", HAND_OVER.replace(ARRIVE + " " + AWAIT, "")),
        ("another wrote|another reads", f"{HAND_OVER} {OWN} = v;"),
        ("another wrote|another reads", f"{POST} Packet v = p[1 - block_index()];"),
        (r"deadlock: .*31 threads of block \d wait at a barrier; 1 threads of block \d wait for element 5 of an array",
         "if (thread_index() == 0) while (load_packet(p, 5).tag != 4) {} barrier();"),
        ("deadlock: 1 threads of block 0 wait for element 1 of an array of 2; and",
         "if (!thread_index() && !block_index()) { add_release(n, 0, 1); while (load_acquire(n, 1) < 1) {} }"),
        ("write of element 4 .* of an array of 4", "if (thread_index() == 0) part(a, 4, 4)[4] = 1;"),
        ("read of element -1 .* of an array of 4", "if (thread_index() == 0) { float v = part(a, 4, 4)[-1]; }"),
        ("a part of 4 from element 62 of an array of 64", "part(a, 62, 4);"),
        ("read of element 8 .* of an array of 8", "load_packet(p, 8);"),
        ("write of element 4 .* of an array of 4", "DYNAMIC_SHARED(float, s); if (thread_index() == 0) s[4] = 1;"),
    ],
)  # fmt: skip
def test_blocks_that_do_not_wait_as_they_must_are_stopped(words, body):
    with pytest.raises(HostKernelError, match=f"probe: .*({words})"):
        for seed in range(20):
            together(body, seed, shared=16)


def test_the_addition_waits_for_what_others_of_its_block_stored_before_the_barrier_and_for_no_more():
    store = "if (thread_index() == 3) store_packet(p, block_index(), Packet{1, 0, 0, 0});"
    look = f"if (thread_index() == 3) {OWN} = load_packet(p, 1 - block_index()).a;"
    before = f"{store} {MEET} {look}"
    after = f"barrier(); {store} {ARRIVE} {AWAIT} barrier(); {look}"
    assert {float(together(before, seed)[[3, 35]].min()) for seed in range(30)} == {1}
    assert {float(together(after, seed)[[3, 35]].min()) for seed in range(30)} == {0, 1}


def test_packets_come_late_and_whole():
    seen = {tuple(map(float, together(f"{POST} {LOOK}", seed)[:2])) for seed in range(60)}
    assert seen == {(x, y) for x in (0, 10) for y in (0, 10)}


def test_two_stores_to_one_place_stay_in_order_and_two_places_do_not():
    stores = "for (int i = 1; i < 4; ++i) store_packet(p, {}, Packet{{(float)i, 0, 0, 0}});"
    post = f"if (thread_index() == 0 && block_index()) {stores}"
    look = "if (thread_index() == 0 && !block_index()) for (int i = 0; i < 9; ++i) a[i] = load_packet(p, {}).a;"
    for seed in range(60):
        last = together(f"{post.format('0')} {look.format('0')}", seed)[:9]
        assert (np.diff(last) >= 0).all()
    apart = [together(f"{post.format('i')} {look.format('1 + i % 3')}", seed)[:9] for seed in range(60)]
    assert any(seen[i] == 0 and seen[i + 1] > 0 for seen in apart for i in (0, 1))


def test_a_thread_sees_its_own_packet_at_once_and_its_block_after_a_barrier():
    post = "if (thread_index() == 0) { store_packet(p, 0, Packet{7, 0, 0, 0}); a[0] = load_packet(p, 0).a; }"
    look = "if (thread_index()) a[thread_index()] = load_packet(p, 0).a;"
    for seed in range(30):
        out = together(
            f"if (block_index()) return; {post} barrier(); {look}",
            seed,
        )
        assert (out[:32] == 7).all()


def test_packets_that_nobody_waits_for_land_at_the_end():
    post = "if (thread_index() == 0) store_packet(p, block_index(), Packet{1, 0, 0, 0});"
    for seed in range(5):
        runtime = HostRuntime(
            seed, mutate=lambda f, t: f'#include "primitives.h"\nKERNEL(probe)(Global<Packet> p) {{ {post} }}'
        )
        p = runtime.zeros((2, 4), np.float32)
        runtime.launch("take.cu", "probe", {"THREADS": 32}, (2, 1), (p,), cooperative=True)
        assert p[:, 0].tolist() == [1, 1]


def test_shared_memory_is_each_block_s_own_while_all_are_live():
    body = f"""SHARED(float, s, 32); DYNAMIC_SHARED(float, d);
        float x = s[thread_index()], y = d[thread_index()]; bool fresh = x != x && y != y; barrier();
        s[thread_index()] = (float)block_index(); d[thread_index()] = (float)block_index(); {MEET}
        {OWN} = fresh ? s[31 - thread_index()] + d[31 - thread_index()] : -1;"""
    for seed in range(10):
        out = together(body, seed, shared=128)
        assert (out[:32] == 0).all() and (out[32:] == 2).all()


def test_any_thread_asks_all_of_the_block():
    ask = "bool one = any_thread(thread_index() == 7 && block_index()), none = any_thread(false);"
    body = f"{ask} {OWN} = one + 2 * none;"
    for seed in range(10):
        out = together(body, seed)
        assert (out[:32] == 0).all() and (out[32:] == 1).all()


def test_more_blocks_than_are_resident_are_refused():
    runtime = HostRuntime()
    runtime.multiprocessors = 3
    with pytest.raises(HostKernelError, match="probe: 4 blocks cannot be resident on 3"):
        together("", blocks=4, runtime=runtime)
    with pytest.raises(HostKernelError, match="probe: 232449 bytes of shared memory; a block may have 232448"):
        together("", shared=232449, runtime=runtime)


def test_the_order_of_blocks_differs_from_seed_to_seed_only():
    body = "static int count = 0; load_packet(p, 0); if (thread_index() == 0) a[block_index()] = (float)count++; // {}"
    first, again, *others = (together(f"{body.format(i)}\n", s, blocks=4) for i, s in enumerate((1, 1, 2, 3, 4, 5)))
    assert (first == again).all() and any((first != other).any() for other in others)
