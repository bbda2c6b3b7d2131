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
        ("asynchronous copies", "if (thread_index() == 0) copy_async4(s, a);", SHARED),
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
    copy = "if (thread_index() % 4 == 0) copy_async4(s + thread_index(), a + thread_index());"
    early = f"{copy} barrier(); float v = s[thread_index()]; barrier(); copies_wait(); a[thread_index()] = v;"
    late = f"{copy} copies_wait(); barrier(); float v = s[thread_index()]; barrier(); a[thread_index()] = 2 * v;"
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
