// Threads of a kernel as fibers: blocks, barriers, and the generator that draws who goes next.
//
// A launch has its blocks one after the other; a cooperative one has all of them at once, as a GPU that keeps them
// resident, and draws with more malice: for stretches of random length one block is held back, or goes alone.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

typedef unsigned int uint32;
typedef unsigned long long uint64;

namespace host {

#if !defined(__x86_64__)
#error "the host harness switches fibers with x86-64 instructions; add the switch for this processor here"
#endif
extern "C" void gpumlp_host_switch(void **save, void *load);
asm(R"(
.text
.hidden gpumlp_host_switch
.globl gpumlp_host_switch
.type gpumlp_host_switch, @function
gpumlp_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

// What is known of other threads' accesses: that they come before whatever is done now. A block's clock is its epoch,
// how many barriers it has passed; a thread that releases tells besides what it did itself since then.
struct Clock {
    std::vector<uint32> epochs;        // by block: all its threads' accesses in earlier epochs are known
    std::map<uint64, uint32> threads;  // by thread: its accesses before so many releases are known

    bool empty() const { return epochs.empty() && threads.empty(); }
    void clear() { epochs.clear(), threads.clear(); }
    void raise(long long block, uint32 epoch) {
        if (epochs.size() <= size_t(block)) epochs.resize(block + 1);
        if (epochs[block] < epoch) epochs[block] = epoch;
    }
    void join(const Clock &other) {
        for (size_t b = 0; b < other.epochs.size(); ++b) raise((long long)b, other.epochs[b]);
        for (auto [thread, releases] : other.threads)
            if (threads[thread] < releases) threads[thread] = releases;
    }
};
inline uint64 thread_key(long long block, int thread) { return uint64(block) << 32 | uint32(thread); }

#ifndef GPUMLP_HOST_STACK
#define GPUMLP_HOST_STACK (64 * 1024)
#endif
constexpr size_t STACK = GPUMLP_HOST_STACK;
enum Status { READY, AT_BARRIER, AT_SHUFFLE, POLLING, DONE };
inline uint64 mixed(uint64 a, uint64 b) {
    a = (a ^ b) * 0x9E3779B97F4A7C15ull;
    a = (a ^ a >> 32) * 0xD6E8FEB86659FD93ull;
    return a ^ a >> 29;
}
struct Place;  // of a packet or a counter: packets.h
struct Watch {
    Place *place;
    uint32 version;  // how often it had changed when the thread looked
    uint64 address, value = 0;  // of the place, and a digest of what it gave
};
struct Copy {
    float *to;
    const float *from;  // null: zeros
    int count;
    uint32 group;
};
struct Fiber {
    void *sp = nullptr;
    char *stack = nullptr;
    Status status = READY;
    std::deque<Copy> copies;  // on their way
    uint32 closed = 0;        // how many groups of them there were
    Clock acquired;           // since the block's last barrier
    uint32 releases = 0, stores = 0;
    std::vector<Watch> watched;  // where it has looked since it last did anything else
    std::string polled;          // the last of them, in words
    uint32 ticket = 0;           // how often it was woken
    bool at_load = false;        // what it does next is a load that other blocks' stores may change
    uint64 history = 0;          // a digest of what such loads gave it before those: decides what it does, so its state
};
struct Warp {
    int lanes = 0, arrived = 0;
    uint64 values[2][32];
    int turn = 0;
};
struct Block {
    long long index = 0;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<int> ready;
    int slot = 0, alive = 0, waiting = 0;
    uint32 epoch = 0;
    bool vote = false, voted = false;  // any_thread's
    Clock clock;
};
// For how many turns what is preferred.
struct Whim {
    int left = 0;
    long long held = -1, alone = -1;  // blocks
    uint32 laziness = 1;              // a store lands once in so many turns
    bool newest_first = false;
};
struct State {
    std::vector<Block> blocks;  // those that are live; more may have been before
    Block *block = nullptr;     // the one that runs
    int current = 0;            // its thread
    int live = 1, threads = 0;
    void *scheduler = nullptr;
    void (*body)() = nullptr;
    long long grid_x = 1, grid_y = 1;
    size_t dynamic_bytes = 0;  // of shared memory
    bool cooperative = false;
    uint32 launch = 0;
    int idle_rounds = 0;  // how often all pollers were woken, and nothing came of it
    uint64 random = 1;
    Whim whim;
    std::string error;
};
inline State s;

inline uint32 draw(uint32 below) {  // xorshift64*
    s.random ^= s.random >> 12, s.random ^= s.random << 25, s.random ^= s.random >> 27;
    return uint32((s.random * 2685821657736338717ull) >> 33) % below;
}
inline Fiber &running() { return s.block->fibers[s.current]; }
inline void to_scheduler() { gpumlp_host_switch(&running().sp, s.scheduler); }
inline void make_ready(Block &block, int thread) {
    block.fibers[thread].status = READY;
    block.ready.push_back(thread);
}
inline void wake(Block &block, int thread) {
    ++block.fibers[thread].ticket;
    make_ready(block, thread);
}
// What a thread has seen at the places where it looked is history, in whatever order it came to see it.
inline void conclude(Fiber &fiber) {
    uint64 sum = 0;
    for (const Watch &watch : fiber.watched) sum += mixed(watch.address, watch.value);
    if (!fiber.watched.empty()) fiber.history = mixed(fiber.history, sum);
    fiber.watched.clear();
}
// The thread did what others may wait for.
inline void progress() {
    s.idle_rounds = 0;
    conclude(running());
}

[[noreturn]] inline void fail(const std::string &what) {
    if (s.error.empty())
        s.error = what + " (block " + std::to_string(s.block->index) + ", thread " + std::to_string(s.current) + ")";
    to_scheduler();
    abort();  // a failed launch's fibers are never resumed
}

inline void fiber_main() {
    s.body();
    if (!running().copies.empty()) fail("a thread ended before it waited for its asynchronous copies");
    progress();
    running().status = DONE;
    --s.block->alive;
    if (s.block->waiting > 0) fail("a thread ended while others wait at a barrier that it never reached");
    to_scheduler();
    abort();
}
inline void start(Fiber &fiber) {
    if (!fiber.stack) fiber.stack = static_cast<char *>(aligned_alloc(64, STACK));
    auto top = reinterpret_cast<void **>(fiber.stack + STACK);
    *--top = nullptr;  // what fiber_main would return to; and the alignment that a called function expects
    *--top = reinterpret_cast<void *>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.sp = top;
    fiber.copies.clear();
    fiber.closed = 0;
    fiber.acquired.clear();
    fiber.watched.clear();
    fiber.polled.clear();
    fiber.releases = fiber.stores = fiber.ticket = 0;
    fiber.history = 0;
    fiber.at_load = false;
}
inline void start(Block &block, long long index) {
    block.index = index;
    block.alive = s.threads, block.waiting = 0, block.epoch = 0;
    block.vote = block.voted = false;
    block.clock.clear();
    block.ready.clear();
    if (block.fibers.size() < size_t(s.threads)) block.fibers.resize(s.threads);
    block.warps.assign((s.threads + 31) / 32, {});
    for (int w = 0; w < int(block.warps.size()); ++w)
        block.warps[w].lanes = s.threads - w * 32 < 32 ? s.threads - w * 32 : 32;
    for (int t = 0; t < s.threads; ++t) start(block.fibers[t]), make_ready(block, t);
}

// ---- meetings within a block ----------------------------------------------------------------------------------------

inline void meet() {
    Block &block = *s.block;
    int ended = s.threads - block.alive;
    if (ended) fail("a barrier that " + std::to_string(ended) + " ended threads miss");
    if (++block.waiting == s.threads) {
        block.waiting = 0;
        ++block.epoch;
        block.voted = block.vote, block.vote = false;
        s.idle_rounds = 0;
        for (int t = 0; t < s.threads; ++t) {
            Fiber &fiber = block.fibers[t];
            if (!fiber.acquired.empty()) block.clock.join(fiber.acquired), fiber.acquired.clear();
            conclude(fiber);
            make_ready(block, t);
        }
    } else {
        running().status = AT_BARRIER;
    }
    to_scheduler();
}

// ---- who goes next --------------------------------------------------------------------------------------------------

inline void resume(Block &block, uint32 pick) {
    s.block = &block;
    s.current = block.ready[pick];
    block.ready[pick] = block.ready.back();
    block.ready.pop_back();
    gpumlp_host_switch(&s.scheduler, block.fibers[s.current].sp);
}
inline void change_mind() {
    Whim whim;
    whim.left = 1 << draw(11);
    uint32 kind = draw(4);
    if (kind == 1) whim.held = draw(s.live);
    if (kind == 2) whim.alone = draw(s.live);
    whim.laziness = 1u << 3 * draw(4);
    whim.newest_first = draw(2);
    s.whim = whim;
}
// A block with a thread that can go on, by lot and by whim; null where there is none.
inline Block *drawn_block() {
    Block *chosen = nullptr, *held = nullptr;
    uint32 count = 0;
    for (int b = 0; b < s.live; ++b) {
        Block &block = s.blocks[b];
        if (block.ready.empty()) continue;
        if (b == s.whim.alone) return &block;
        if (b == s.whim.held) held = &block;
        else if (draw(++count) == 0) chosen = &block;
    }
    return chosen ? chosen : held;
}
// Threads that poll sleep until what they look at changes. Where nothing else can happen, they look once more.
inline bool wake_pollers(int rounds) {
    bool woken = false;
    if (++s.idle_rounds > rounds) return false;
    for (int b = 0; b < s.live; ++b)
        for (int t = 0; t < s.threads; ++t)
            if (s.blocks[b].fibers[t].status == POLLING) wake(s.blocks[b], t), woken = true;
    return woken;
}
// What is wrong where nothing can happen any more and threads are left; empty where none are.
inline std::string stuck() {
    static const char *const WORDS[] = {"", "at a barrier", "at a shuffle", "for", ""};
    std::string all;
    for (int b = 0; b < s.live; ++b) {
        Block &block = s.blocks[b];
        if (!block.alive) continue;
        std::map<std::string, int> where;
        for (int t = 0; t < s.threads; ++t) {
            Fiber &fiber = block.fibers[t];
            if (fiber.status == DONE) continue;
            ++where[WORDS[fiber.status] + (fiber.status == POLLING ? " " + fiber.polled : "")];
        }
        for (auto &[words, count] : where)
            all += (all.empty() ? "" : "; ") + std::to_string(count) + " threads of block " +
                   std::to_string(block.index) + " wait " + words;
    }
    return all.empty() ? all : "deadlock: " + all + "; and nothing that they wait for can come";
}

}  // namespace host
