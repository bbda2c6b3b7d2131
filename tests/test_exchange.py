"""What blocks of one launch hand each other (kernels/exchange.cuh): in drawn schedules, and in all of them.

The kernel here publishes numbers that depend on all that was collected before, and checks every packet that it gets.
"""

import re

import numpy as np
import pytest
from host.runtime import Explorer, HostKernelError, HostRuntime

from gpumlp import kernel_sources

KERNEL = """
// Every GROUP blocks are a group. Each block publishes OWN packets in each exchange and collects those of all; with
// AGAIN, then once more those of its neighbour alone, into the same shared memory.
KERNEL(probe)(Global<Packet> packets, Global<uint32> arrivals, Global<int> late, long long first, long long steps,
              long long leaver) {
    constexpr int COUNT = GROUP * OWN;
    constexpr int HALF = EXCHANGES * COUNT;
    SHARED(float, values, COUNT);
    if (block_index() == leaver) return;
    int block = (int)(block_index() % GROUP), neighbour = (block + 1) % GROUP;
    long long group = block_index() / GROUP;
    Exchange exchange{part(packets, group * 2 * HALF, 2 * HALF), part(arrivals, group, 1), HALF, 0,
                      (uint32)((first - 1) * EXCHANGES * GROUP)};
    float state = 1;
    for (long long step = first; step < first + steps; ++step) {
        exchange.begin_step((uint32)step);
        for (int x = 0; x < EXCHANGES; ++x) {
            float now = (float)((step * EXCHANGES + x) % 4096);
            auto take = [&](int base, int i, Packet p) {
                if (p.a != state || p.b != (float)(base + i) || p.c != now) host::fail("a wrong packet");
                values[i] = p.a + p.b;
            };
            for (int i = thread_index(); i < OWN; i += THREADS)
                exchange.publish(x * COUNT + block * OWN + i, state, (float)(block * OWN + i), now);
            exchange.sent();
            bool came = exchange.template collect<COUNT>(x * COUNT, false, [&](int i, Packet p) { take(0, i, p); });
            float sum = 0;
            for (int i = 0; came && i < COUNT; ++i) sum += values[i];
            int place = x * COUNT + neighbour * OWN;
            if (AGAIN) came = came && exchange.template collect<OWN>(place, true, [&](int i, Packet p) {
                take(neighbour * OWN, i, p);
            });
            if (!came) {
                if (thread_index() == 0) late[block_index()] = 1;
                return;
            }
            if (AGAIN && values[OWN - 1] != state + neighbour * OWN + OWN - 1) host::fail("a wrong value");
            state = sum - 64 * (float)(int)(sum / 64);
        }
    }
}
"""


class Probe:
    """The kernel with its arrays, for launch after launch: ``tags``, blocks of a group, packets of a block."""

    def __init__(
        self, runtime, tags, group, own, exchanges, threads=1, groups=1, first=1, change=None, patience=1 << 20, again=1
    ):
        text = re.sub(r'^#include "primitives.cuh"$', "", kernel_sources.expanded("exchange.cuh"), flags=re.MULTILINE)
        whole = change(text + KERNEL) if change else text + KERNEL
        runtime._mutate = lambda file, source: whole
        self.runtime, self.blocks, self.step = runtime, group * groups, first
        runtime.multiprocessors = self.blocks
        self.defines = {
            "TAGS": tags, "GROUP": group, "OWN": own, "EXCHANGES": exchanges, "THREADS": threads, "PATIENCE": patience,
            "AGAIN": again,
        }  # fmt: skip
        self.packets = runtime.zeros((groups * 2 * exchanges * group * own, 4), np.float32)
        self.arrivals = runtime.zeros(groups, np.uint32)
        self.arrivals[...] = np.uint32((first - 1) * exchanges * group % (1 << 32))
        self.late = runtime.zeros(self.blocks, np.int32)

    def run(self, steps, leaver=-1):
        arguments = (self.packets, self.arrivals, self.late, self.step, steps, leaver)
        self.runtime.launch("take.cu", "probe", self.defines, (self.blocks, 1), arguments, cooperative=True)
        self.step += steps
        return np.array(self.late)


# tags or a barrier, blocks of a group, packets of a block, exchanges of a step, threads, groups
SHAPES = [
    (tags, *shape)
    for tags in (0, 1)
    for shape in ((2, 2, 2, 32, 1), (3, 1, 1, 1, 2), (4, 20, 2, 33, 1), (2, 70, 1, 33, 2))
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_block_gets_what_every_block_published(shape):
    for seed in range(50):
        probe = Probe(HostRuntime(seed), *shape)
        for steps in (3, 2):
            assert not probe.run(steps).any()


@pytest.mark.parametrize("tags", [0, 1])
def test_numbers_of_steps_and_counts_may_wrap(tags):
    for seed in range(30):
        for first in ((1 << 32) - 3, (1 << 31) - 3):
            assert not Probe(HostRuntime(seed), tags, 2, 2, 2, 32, first=first).run(6).any()


@pytest.mark.parametrize("tags", [0, 1])
def test_a_block_that_never_comes_ends_the_others(tags):
    for seed in range(5):
        assert Probe(HostRuntime(seed), tags, 3, 2, 2, 33, patience=20).run(4, leaver=1).tolist() == [1, 0, 1]
    with pytest.raises(HostKernelError, match=r"deadlock: .*block 0 wait for element \d+ of an array"):
        Probe(HostRuntime(), tags, 3, 2, 2, 33).run(4, leaver=1)


# name: what is replaced by what, and the shape that notices
SMALL, ONE, TWO, WIDE = (3, 1, 1, 1, 2), (2, 2, 1, 32, 1), (2, 2, 2, 32, 1), (4, 20, 2, 33, 1)
BREAKS = {
    "tags: one half": ("(int)(tag & 1) * half", "0", (1, *ONE)),
    "barrier: one half": ("(int)(tag & 1) * half", "0", (0, *ONE)),
    "tags: not compared": ("held[j].tag == tag", "true", (1, *TWO)),
    "tags: any later one will do": ("held[j].tag == tag", "held[j].tag + 2 >= tag", (1, *TWO)),
    "tags: the number of no step": ("tag = number;", "", (1, *TWO)),
    "tags: only a thread's last packet": ("missing &= ~(1 << j)", "missing = 0", (1, *WIDE)),
    "tags: taken before the block is done": ("barrier();  // the block is done", ";  //", (1, *WIDE)),
    "step not begun": ("exchange.begin_step((uint32)step);", "", (0, *ONE)),
    "tags: step not begun": ("exchange.begin_step((uint32)step);", "", (1, *ONE)),
    "barrier: arrived before all had published": ("barrier();\n        awaited +=", "awaited +=", (0, *WIDE)),
    "barrier: the count is not advanced": ("awaited += GROUP;", "", (0, *TWO)),
    "barrier: the count is advanced by one": ("awaited += GROUP;", "awaited += 1;", (0, *TWO)),
    "barrier: every thread arrives": ("if (thread_index() == 0) add_release", "add_release", (0, *TWO)),
    "barrier: only one thread waits": (
        "> PATIENCE;\n        return !any_thread(late);", "> PATIENCE;\n        return !late;", (0, *TWO),
    ),
    "what was taken is not waited for": ("return !any_thread(late);", "return !late;", (1, *WIDE)),
    "a packet too few": ("THREADS < COUNT ? 1", "THREADS + 1 < COUNT ? 1", (1, *SMALL)),
    "a packet too many": ("THREADS < COUNT ? 1", "THREADS <= COUNT ? 1", (1, *WIDE)),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_exchange_is_noticed(name):
    old, new, shape = BREAKS[name]

    def change(text):
        return text.replace(old, new)

    assert old in kernel_sources.expanded("exchange.cuh") + KERNEL, (
        "the text that was to be broken is not there any more"
    )
    with pytest.raises((HostKernelError, AssertionError)):
        for seed in range(60):
            assert not Probe(HostRuntime(seed), *shape, change=change, patience=1000).run(4).any()


# ---- all orders ------------------------------------------------------------------------------------------------------

# tags or a barrier, blocks, packets of a block, exchanges of a step; steps
ALL_ORDERS = [
    (1, 2, 1, 1, 5), (1, 2, 2, 2, 4), (1, 3, 1, 1, 4), (1, 3, 1, 2, 3),
    (0, 2, 1, 1, 5), (0, 2, 2, 2, 3), (0, 3, 1, 1, 3),
]  # fmt: skip


@pytest.mark.parametrize("shape", ALL_ORDERS, ids=str)
def test_no_order_of_loads_and_stores_gives_a_wrong_packet_or_a_deadlock(shape, record_property):
    *shape, steps = shape
    explorer = Explorer()
    assert not Probe(explorer, *shape, again=0).run(steps).any()  # which raises where not all orders were tried
    record_property("executions", explorer.executions)
    record_property("states", explorer.states)
    assert explorer.states > 200


@pytest.mark.parametrize("name", ["tags: one half", "barrier: one half", "tags: not compared", "step not begun"])
def test_some_order_shows_what_is_broken(name):
    old, new, (tags, *_) = BREAKS[name]
    with pytest.raises(HostKernelError, match=r"(a wrong packet|deadlock).*; the order: "):
        Probe(Explorer(), tags, 2, 1, 1, again=0, change=lambda text: text.replace(old, new)).run(4)
