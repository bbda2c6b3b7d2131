// Memory that checks every access: bounds, alignment, and whether anything orders it after what others did there.
#pragma once
#include <type_traits>
#include <unordered_map>

#include "fibers.h"

namespace host {

// ---- races ----------------------------------------------------------------------------------------------------------

constexpr int NOBODY = -1;  // a block that comes before no one: several at once, or an access that is no plain one
struct Trace {
    uint32 launch = 0, epoch = 0;
    int block = 0, thread = 0;
    uint32 releases = 0;
    bool many = false;    // several threads of the block
    bool others = false;  // other blocks have read too: ``readers`` has them
};
struct Cell { Trace write, read; };
struct Page { Cell cells[1024]; };
inline std::unordered_map<uintptr_t, Page> shadow;
inline std::unordered_map<uintptr_t, std::vector<Trace>> readers;  // by address, a trace per block
inline uintptr_t last_page = 0;
inline Page *last = nullptr;

inline Cell &cell_of(uintptr_t address) {
    uintptr_t page = address >> 12;
    if (page != last_page || !last) last = &shadow[page], last_page = page;
    return last->cells[address >> 2 & 1023];
}
// Shared memory is every block's own: what another block did there is no race.
inline void forget(const char *start, size_t size) {
    auto from = reinterpret_cast<uintptr_t>(start) & ~uintptr_t(3), to = reinterpret_cast<uintptr_t>(start) + size;
    for (uintptr_t a = from; a < to; a += 4) cell_of(a) = {};
}

inline bool knows(const Clock &clock, const Trace &t) {
    if (size_t(t.block) < clock.epochs.size() && t.epoch < clock.epochs[t.block]) return true;
    if (t.many || clock.threads.empty()) return false;
    auto found = clock.threads.find(thread_key(t.block, t.thread));
    return found != clock.threads.end() && t.releases < found->second;
}
// Whether that access comes before whatever the running thread does now.
inline bool ordered(const Trace &t) {
    if (t.launch != s.launch) return true;
    if (t.block == NOBODY) return false;
    if (t.block == s.block->index) return t.epoch < s.block->epoch || (t.thread == s.current && !t.many);
    return knows(s.block->clock, t) || knows(running().acquired, t);
}
inline Trace trace_of_running() {
    return {s.launch, s.block->epoch, int(s.block->index), s.current, running().releases, false, false};
}
inline bool all_readers_ordered(uintptr_t address) {
    for (const Trace &t : readers[address])
        if (!ordered(t)) return false;
    return true;
}
// Keep a block's last read beside those of others.
inline void keep(uintptr_t address, Trace read) {
    auto &all = readers[address];
    for (Trace &t : all)
        if (t.launch == read.launch && t.block == read.block) {
            read.many |= t.many || (t.epoch == read.epoch && t.thread != read.thread);
            t = read;
            return;
        }
    all.push_back(read);
}
inline void touch(uintptr_t address, bool write) {
    Cell &cell = cell_of(address);
    if (!ordered(cell.write)) fail(write ? "two threads write one element with no barrier between"
                                         : "a thread reads what another wrote with no barrier between");
    Trace now = trace_of_running();
    if (write) {
        bool others = cell.read.launch == s.launch && cell.read.others;
        if (!ordered(cell.read) || (others && !all_readers_ordered(address)))
            fail("a thread overwrites what another reads with no barrier between");
        cell.write = now;
        return;
    }
    const Trace &before = cell.read;
    if (before.launch == s.launch) {
        now.others = before.others;
        bool same = before.block == now.block;
        if (same) now.many = before.epoch == now.epoch && (before.many || before.thread != s.current);
        else if (!s.cooperative) now.block = NOBODY;
        else if (!ordered(before)) keep(address, before), now.others = true;
    }
    cell.read = now;
}
// An access that blocks may make at once: no race among its like, but one with every plain access in the launch.
inline void touch_between(uintptr_t address, int size, bool write) {
    for (int i = 0; i < size; i += 4) {
        Cell &cell = cell_of(address + i);
        if (cell.write.block != NOBODY && !ordered(cell.write)) fail("a plain write meets packets or counters");
        if (write) cell.write = {s.launch, 0, NOBODY};
    }
}

// ---- arrays ---------------------------------------------------------------------------------------------------------

template <class T> struct Reference;

// A pointer that knows the array it points into.
template <class T> struct Pointer {
    T *p;
    const char *low, *high;

    explicit operator bool() const { return p != nullptr; }
    Pointer operator+(long long n) const { return {p + n, low, high}; }
    operator Pointer<const T>() const { return {p, low, high}; }

    // The place of ``count`` elements, which lie within the array and are aligned as one access of them must be.
    T *inside(long long index, long long count, bool write) const {
        T *at = p + index;
        auto first = reinterpret_cast<const char *>(at);
        if (first < low || first + count * sizeof(T) > high) {
            long long size = (high - low) / (long long)sizeof(T), element = at - reinterpret_cast<const T *>(low);
            fail(std::string(write ? "write" : "read") + " of element " + std::to_string(element) + " (" +
                 std::to_string(count) + " at once) of an array of " + std::to_string(size));
        }
        if (reinterpret_cast<uintptr_t>(at) % (count * sizeof(T)) != 0 && count > 1)
            fail("an access of " + std::to_string(count) + " elements at an address that is not a multiple of it");
        return at;
    }
    T *checked(long long index, int count, bool write) const {
        T *at = inside(index, count, write);
        for (int i = 0; i < count; ++i) touch(reinterpret_cast<uintptr_t>(at + i), write);
        return at;
    }
    decltype(auto) operator[](long long index) const {
        if constexpr (std::is_const_v<T>) return std::remove_const_t<T>(*checked(index, 1, false));
        else return Reference<T>{*this, index};
    }
};

// An element that may be read or written; which of them is checked when it happens.
template <class T> struct Reference {
    Pointer<T> array;
    long long index;
    operator T() const { return *array.checked(index, 1, false); }
    void operator=(T value) const { *array.checked(index, 1, true) = value; }
    void operator=(const Reference &other) const { *this = T(other); }
};

// A SHARED array: bytes of its own for every block that is live, NaN when the block begins.
struct Storage {
    std::vector<std::vector<char>> bytes;
    Storage();
    char *of(const Block &block, size_t size) {
        if (bytes.size() <= size_t(block.slot)) bytes.resize(block.slot + 1);
        auto &mine = bytes[block.slot];
        if (mine.size() != size + 16) mine.assign(size + 16, char(0xff)), forget(mine.data(), mine.size());
        return reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(mine.data()) + 15) & ~uintptr_t(15));
    }
    void poison(const Block &block) {
        if (bytes.size() <= size_t(block.slot)) return;
        auto &mine = bytes[block.slot];
        if (mine.empty()) return;
        memset(mine.data(), 0xff, mine.size());
        forget(mine.data(), mine.size());
    }
};
inline std::vector<Storage *> storages;
inline Storage::Storage() { storages.push_back(this); }
inline Storage dynamic;  // what DYNAMIC_SHARED names

template <class T> Pointer<T> place(Storage &storage, size_t size) {
    char *start = storage.of(*s.block, size);
    return {reinterpret_cast<T *>(start), start, start + size};
}

}  // namespace host
