// What blocks of one launch hand each other: packets and counters, and how late the others may see them.
//
// A store goes into a list, and lands at a time that is drawn: in any order, but for two to one place. An addition with
// release lands after all that it must come after. A load sees what has landed, and what is ordered before it within
// its own block. Loads of one thread are in program order; a GPU may turn round two relaxed ones.
#pragma once
#include "memory.h"

struct alignas(16) Packet {
    float a, b, c;
    uint32 tag;
};

namespace host {

struct Place {
    size_t size = 0;     // bytes
    uint32 version = 0;  // how often something has landed
    Clock released;
    struct Sleeper { Block *block; int thread; uint32 ticket; };
    std::vector<Sleeper> sleepers;
};
struct Store {
    Place *place;
    void *address;
    Packet packet;
    uint32 added;
    bool adds;
    int block, thread;
    uint32 epoch, number;
    Clock clock;  // what an addition releases
};
inline std::unordered_map<uintptr_t, Place> places;
inline std::vector<Store> stores;  // on their way, in the order in which they were issued

inline Place &place_at(const void *address, size_t size) {
    Place &place = places[reinterpret_cast<uintptr_t>(address)];
    place.size = size;
    return place;
}
inline void forget_places() {
    stores.clear();
    for (auto &[address, place] : places) place.version = 0, place.released.clear(), place.sleepers.clear();
}

// Whether store ``a``, issued earlier, must land before ``b``.
inline bool goes_first(const Store &a, const Store &b) {
    return a.place == b.place || (b.adds && a.block == b.block && (a.thread == b.thread || a.epoch < b.epoch));
}
inline bool may_land(size_t i) {
    for (size_t j = 0; j < i; ++j)
        if (goes_first(stores[j], stores[i])) return false;
    return true;
}
inline void land(size_t i) {
    Store store = std::move(stores[i]);
    stores.erase(stores.begin() + i);
    if (store.adds) {
        *static_cast<uint32 *>(store.address) += store.added;
        store.place->released.join(store.clock);
    } else {
        *static_cast<Packet *>(store.address) = store.packet;
    }
    ++store.place->version;
    s.idle_rounds = 0;
    for (auto &sleeper : store.place->sleepers) {
        Fiber &fiber = sleeper.block->fibers[sleeper.thread];
        if (fiber.status == POLLING && fiber.ticket == sleeper.ticket) wake(*sleeper.block, sleeper.thread);
    }
    store.place->sleepers.clear();
}
// Land a store that was drawn, or the first of those that must land before it.
inline void land_in_turn(size_t i) {
    for (size_t j = 0; j < i;)
        if (goes_first(stores[j], stores[i])) i = j, j = 0;
        else ++j;
    land(i);
}

inline void issue(void *address, const Packet &packet, uint32 added, bool adds) {
    progress();
    Fiber &fiber = running();
    Place &place = place_at(address, adds ? sizeof(uint32) : sizeof(Packet));
    int block = int(s.block->index);
    Store store{&place, address, packet, added, adds, block, s.current, s.block->epoch, fiber.stores++, {}};
    if (adds) {
        store.clock.join(s.block->clock);
        store.clock.join(fiber.acquired);
        store.clock.raise(s.block->index, s.block->epoch);
        store.clock.threads[thread_key(s.block->index, s.current)] = ++fiber.releases;
    }
    stores.push_back(std::move(store));
}
// Whether the running thread must see a store that has not landed: its own, or one that a barrier has put before it.
inline bool seen_here(const Store &store) {
    return store.block == s.block->index && (store.thread == s.current || store.epoch < s.block->epoch);
}

// Let others go on before a load. A thread that comes back to where it has looked before, without having done anything
// else, is polling: it sleeps first where nothing has landed at what it has looked at since. What the place gave it before,
// it has forgotten.
template <class T> Place &look(Pointer<const T> p, long long index) {
    Place &place = place_at(p.inside(index, 1, false), sizeof(T));
    touch_between(reinterpret_cast<uintptr_t>(p.p + index), sizeof(T), false);
    Fiber &fiber = running();
    auto &watched = fiber.watched;
    size_t round = 0;
    while (round < watched.size() && watched[round].place != &place) ++round;
    bool sleeps = round < watched.size();
    for (size_t i = round; i < watched.size(); ++i) sleeps = sleeps && watched[i].version == watched[i].place->version;
    if (sleeps) {
        long long size = (p.high - p.low) / (long long)sizeof(T);
        long long element = p.p + index - reinterpret_cast<const T *>(p.low);
        fiber.status = POLLING;
        fiber.polled = "element " + std::to_string(element) + " of an array of " + std::to_string(size);
        for (size_t i = round; i < watched.size(); ++i)
            watched[i].place->sleepers.push_back({s.block, s.current, fiber.ticket});
    } else {
        make_ready(*s.block, s.current);
    }
    if (round < watched.size()) watched.erase(watched.begin() + (long long)round);
    fiber.at_load = true;
    to_scheduler();
    fiber.at_load = false;
    watched.push_back({&place, place.version, reinterpret_cast<uintptr_t>(p.p + index)});
    return place;
}
inline void remember(uint64 value) {
    Watch &watch = running().watched.back();
    watch.value = mixed(watch.value, value);
}

// One thread goes on, or one store lands. False: nothing can happen.
inline bool turn() {
    constexpr int ROUNDS = 1000;  // a thread that looks again and again at what is there already is not stuck
    bool drawn = s.cooperative || !stores.empty();
    if (drawn && --s.whim.left < 0) change_mind();
    bool lands = !stores.empty() && draw(s.whim.laziness) == 0;
    if (!lands)
        if (Block *block = drawn ? drawn_block() : s.blocks[0].ready.empty() ? nullptr : &s.blocks[0]) {
            resume(*block, draw(uint32(block->ready.size())));
            return true;
        }
    if (stores.empty()) return wake_pollers(ROUNDS);
    land_in_turn(s.whim.newest_first ? stores.size() - 1 : draw(uint32(stores.size())));
    return true;
}

}  // namespace host

// ---- the primitives -------------------------------------------------------------------------------------------------

inline void store_packet(host::Pointer<Packet> p, long long index, Packet v) {
    Packet *at = p.inside(index, 1, true);
    host::touch_between(reinterpret_cast<uintptr_t>(at), sizeof(Packet), true);
    host::issue(at, v, 0, false);
}
inline Packet load_packet(host::Pointer<const Packet> p, long long index) {
    host::Place &place = host::look(p, index);
    Packet packet = p.p[index];
    for (const host::Store &store : host::stores)
        if (store.place == &place && host::seen_here(store)) packet = store.packet;
    uint64 words[2];
    memcpy(words, &packet, sizeof packet);
    host::remember(words[0]), host::remember(words[1]);
    return packet;
}
inline void add_release(host::Pointer<uint32> p, long long index, uint32 v) {
    uint32 *at = p.inside(index, 1, true);
    host::touch_between(reinterpret_cast<uintptr_t>(at), sizeof(uint32), true);
    host::issue(at, {}, v, true);
}
inline uint32 load_acquire(host::Pointer<const uint32> p, long long index) {
    using namespace host;
    Place &place = look(p, index);
    for (size_t i = 0; i < stores.size();)
        if (stores[i].place == &place && seen_here(stores[i])) land_in_turn(i), i = 0;
        else ++i;
    running().acquired.join(place.released);
    remember(p.p[index]);
    return p.p[index];
}
