// Exchange: how the blocks that train one model hand each other numbers, within a launch, without the host.
//
// A number travels in a packet: three values and a tag, 16 bytes that memory moves as one. Every exchange of a step has
// its own places, twice, for even and odd steps; a block publishes into the places of its columns, and every block
// collects all. Two ways to know that a packet has come, which differ in these few lines alone:
//
//   TAGS      the tag is the step's number: whoever sees it has the values too. Nobody waits for more than it needs.
//   otherwise a barrier of the group between publishing and collecting: one counter that only ever grows.
//
// Why two halves are enough: a block publishes in step t + 2 only after it has collected in step t + 1 from every
// block, which that block published after its last collecting in step t. So what is overwritten has been read by all.
// (A step has at least one exchange; and with TAGS every block has something to publish in every step, which all
// collect: nobody waits for a block that is silent.) Numbers wrap: a tag is compared for equality with the one of two
// steps before at most, a count by its signed distance.
#pragma once
#include "primitives.cuh"

struct Exchange {
    Global<Packet> packets;   // [2, ``half``]: zeros before the first launch
    Global<uint32> arrivals;  // [1]: zero before the first launch
    int half;
    uint32 tag;      // the step's number, from 1, counted over all launches
    uint32 awaited;  // the count at which all blocks have arrived at the last exchange

    DEVICE void begin_step(uint32 number) { tag = number; }
    DEVICE int base() const { return (int)(tag & 1) * half; }  // where the step's half begins
    // Hand out a packet; ``at`` is its place in the half.
    DEVICE void publish(int at, float a, float b, float c) const {
        store_packet(packets, base() + at, Packet{a, b, c, tag});
    }
    // All threads of the block: what it had to publish in this exchange is published.
    DEVICE void sent() {
        if (!TAGS) arrive();
    }
    // All threads of the block: call take(i, packet) once for each of the COUNT packets from place ``from`` on, as soon as
    // they have come; ``again``: of an exchange of this step that was collected before. False, in every thread, where they
    // do not come within PATIENCE: then something is broken, and the kernel must end. What ``take`` writes is there for
    // the block when this returns.
    template <int COUNT, class Take> DEVICE bool collect(int from, bool again, Take take) const {
        if (TAGS || again) barrier();  // the block is done with what ``take`` overwrites
        else if (!all_arrived()) return false;
        // A thread's loads are under way all at once: one by one, each would take a latency.
        constexpr int ROUNDS = (COUNT + 8 * THREADS - 1) / (8 * THREADS);
        constexpr int EACH = (COUNT + ROUNDS * THREADS - 1) / (ROUNDS * THREADS);
        bool late = false;
        for (int round = 0, first = thread_index(); round < ROUNDS; ++round, first += EACH * THREADS) {
            Packet held[EACH];
            int missing = 0;  // a bit for each
#pragma unroll
            for (int j = 0; j < EACH; ++j) missing |= first + j * THREADS < COUNT ? 1 << j : 0;
            // Only what has not come is read again: all blocks poll, and what they read passes through one cache.
            for (int polls = 0; missing && !late; late = ++polls > PATIENCE) {
#pragma unroll
                for (int j = 0; j < EACH; ++j)
                    if (missing >> j & 1) held[j] = load_packet(packets, base() + from + first + j * THREADS);
#pragma unroll
                for (int j = 0; j < EACH; ++j)
                    if ((missing >> j & 1) && (!TAGS || held[j].tag == tag)) missing &= ~(1 << j);
            }
            if (late) break;  // what is held is old, or nothing at all
#pragma unroll
            for (int j = 0; j < EACH; ++j)
                if (first + j * THREADS < COUNT) take(first + j * THREADS, held[j]);
        }
        return !any_thread(late);
    }

    // A barrier of the group, in two halves: what was written before the one may be read after the other.
    DEVICE void arrive() {
        barrier();
        awaited += GROUP;
        if (thread_index() == 0) add_release(arrivals, 0, 1);
    }
    DEVICE bool all_arrived() const {
        bool late = false;
        if (thread_index() == 0)
            for (int polls = 0; !late && (int)(load_acquire(arrivals, 0) - awaited) < 0;) late = ++polls > PATIENCE;
        return !any_thread(late);
    }
    // The last meeting of a launch: true in all blocks, or in none. A block that has given up says so, by a number that no
    // count of blocks makes up for; so nobody need lose patience here, and what one block does all do.
    DEVICE void give_up() const {
        if (thread_index() == 0) add_release(arrivals, 0, 1 << 20);
    }
    DEVICE bool all_are_well() {
        arrive();
        bool well = true;
        if (thread_index() == 0) {
            uint32 count;
            do count = load_acquire(arrivals, 0);
            while ((int)(count - awaited) < 0);
            well = count == awaited;
        }
        return !any_thread(!well);
    }
};
