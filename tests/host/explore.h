// Every order in which the blocks of a small cooperative launch may meet, instead of one that is drawn.
//
// Only two things that a block does concern another: a load of a packet or counter, and a store's landing. So a thread
// runs on until its next load, and then there is a choice: which thread loads, or which store lands. A script holds the
// choices; the launch is run again for every script, depth first. A state that was seen before is not gone on from:
// what follows from it has been tried, or will be. A thread's state is what its loads have given it, as it has nothing
// else to go by; so a digest of that, of the memory and of the stores on their way stands for the state. A thread that
// polls sleeps until something lands where it looks, and has forgotten what a place gave it when it looks there again
// (packets.h): so there are finitely many executions. Neither a count of rounds nor what came first may decide anything
// in the kernel.
#pragma once
#include <unordered_set>

#include "primitives.h"

namespace host {

struct Choice { uint32 taken, options; };
struct Exploration {
    std::vector<Choice> script;
    size_t at = 0;                    // how much of the script this execution has taken
    bool known = false;               // the state was seen before
    std::unordered_set<uint64> seen;  // digests of states in which there was a choice
    std::string trail;                // the execution in words
};
inline Exploration exploration;

inline uint64 digest() {
    uint64 sum = 0;
    for (int b = 0; b < s.live; ++b)
        for (int t = 0; t < s.threads; ++t) {
            const Fiber &fiber = s.blocks[b].fibers[t];
            uint64 own = mixed(mixed(thread_key(b, t) + 1, fiber.history), fiber.status);
            for (const Watch &watch : fiber.watched)
                own = mixed(mixed(mixed(own, watch.address), watch.value), watch.version == watch.place->version);
            sum += own;
        }
    for (size_t i = 0; i < stores.size(); ++i) {
        uint64 before = 0;
        for (size_t j = 0; j < i; ++j) before += stores[j].place == stores[i].place;
        sum += mixed(mixed(thread_key(stores[i].block, stores[i].thread) + 2, stores[i].number), before);
    }
    for (auto &[address, place] : places) {
        uint64 words[2] = {0, 0};
        memcpy(words, reinterpret_cast<const void *>(address), place.size);
        sum += mixed(mixed(address, words[0]), words[1]);
    }
    return sum;
}
// The script's choice among so many; where it ends, the first, unless the state is known.
inline uint32 choose(uint32 options) {
    auto &[script, at, known, seen, trail] = exploration;
    if (options == 1) return 0;
    if (at == script.size()) {
        known = !seen.insert(digest()).second;
        if (known) return 0;
        script.push_back({0, options});
    }
    return script[at++].taken;
}
// Whether there is another script: the last choice that has an alternative takes the next one.
inline bool next_script() {
    auto &script = exploration.script;
    while (!script.empty() && script.back().taken + 1 == script.back().options) script.pop_back();
    if (!script.empty()) ++script.back().taken;
    return !script.empty();
}

inline bool explored_turn() {
    uint32 threads = 0, landings = 0;
    for (int b = 0; b < s.live; ++b) {
        Block &block = s.blocks[b];
        for (size_t i = 0; i < block.ready.size(); ++i)
            if (!block.fibers[block.ready[i]].at_load) return resume(block, uint32(i)), true;
        threads += uint32(block.ready.size());
    }
    for (size_t i = 0; i < stores.size(); ++i) landings += may_land(i);
    if (threads + landings == 0) return false;  // who polls would find again what it found
    uint32 pick = choose(threads + landings);
    if (exploration.known) return false;
    for (int b = 0; b < s.live; pick -= uint32(s.blocks[b++].ready.size()))
        if (pick < s.blocks[b].ready.size()) {
            exploration.trail += " block " + std::to_string(b) + " loads,";
            return resume(s.blocks[b], pick), true;
        }
    size_t i = 0;
    while (!may_land(i) || pick-- > 0) ++i;
    const Store &store = stores[i];
    exploration.trail += " store " + std::to_string(store.number) + " of block " + std::to_string(store.block) + ",";
    land(i);
    return true;
}

struct Snapshot { char *start; std::vector<char> bytes; };
template <class T> void take_snapshot(std::vector<Snapshot> &all, T &argument) {
    if constexpr (!std::is_arithmetic_v<T>) {
        auto start = const_cast<char *>(argument.low);
        all.push_back({start, std::vector<char>(start, const_cast<char *>(argument.high))});
    }
}

// Run a cooperative launch in every order. What went wrong in one of them, or null; ``found`` becomes executions,
// states and whether these were all, which they are not where ``limit`` executions did not suffice.
template <class... A>
const char *explore(void (*kernel)(A...), void **values, const long long *shape, unsigned long long limit,
                    long long *found) {
    static std::string message;
    bind(kernel, values);
    std::vector<Snapshot> memory;
    std::apply([&](auto &...argument) { (take_snapshot(memory, argument), ...); }, *arguments<std::tuple<A...>>);
    exploration = {};
    found[0] = found[2] = 0;
    do {
        for (auto &[start, bytes] : memory) memcpy(start, bytes.data(), bytes.size());
        begin(shape);
        for (int slot = 0; slot < s.live; ++slot) start_block(slot, slot);
        exploration.at = 0, exploration.known = false, exploration.trail.clear();
        while (s.error.empty() && explored_turn()) {}
        if (s.error.empty() && !exploration.known) s.error = stuck();
        ++found[0];
        found[2] = s.error.empty() && !next_script();
    } while (s.error.empty() && !found[2] && (unsigned long long)found[0] < limit);
    found[1] = (long long)exploration.seen.size();
    message = s.error.empty() ? "" : s.error + "; the order:" + exploration.trail;
    return message.empty() ? nullptr : message.c_str();
}

}  // namespace host
