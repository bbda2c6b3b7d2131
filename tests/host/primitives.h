// The host's twin of kernels/primitives.cuh: executes a kernel's source on a CPU, and is out to break it.
//
// Threads are fibers (fibers.h). Each runs until it meets a barrier or a shuffle; which goes next is drawn from a
// seeded generator, and so is the order of blocks. Shared memory starts as NaN. Every access to an array is checked
// (memory.h): against the bounds of the array that was passed (not of its allocation), for alignment, and for races: an
// element that one thread wrote may not be touched by another before a barrier has parted them, nor by another block at
// all, but for what a release and an acquire have ordered in a cooperative launch (packets.h). What goes wrong ends the
// launch with a message that names block, thread, array and element. Asynchronous copies land only when waited for.
#pragma once
#include <cmath>
#include <cstdio>
#include <tuple>

#include "packets.h"

#define KERNEL(name) static void name
#define DEVICE inline
#define CALLED static
#define CONSTANT static const
#define SHARED(type, name, count)         \
    static host::Storage name##_storage; \
    Shared<type> name = host::place<type>(name##_storage, (count) * sizeof(type))
#define DYNAMIC_SHARED(type, name) Shared<type> name = host::place<type>(host::dynamic, host::s.dynamic_bytes)

using std::expm1;
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace host {

// ---- launching ------------------------------------------------------------------------------------------------------

template <class Tuple> inline Tuple *arguments;
template <class... A> inline void (*kernel_of)(A...);

inline void start_block(int slot, long long index) {
    Block &block = s.blocks[slot];
    block.slot = slot;
    for (Storage *storage : storages) storage->poison(block);
    start(block, index);
}
// Everything but the scheduling of a launch. ``shape`` is grid x, grid y, threads, dynamic shared bytes, cooperative.
inline void begin(const long long *shape) {
    s.grid_x = shape[0], s.grid_y = shape[1], s.threads = int(shape[2]);
    s.dynamic_bytes = size_t(shape[3]), s.cooperative = shape[4];
    s.live = s.cooperative ? int(s.grid_x * s.grid_y) : 1;
    if (s.blocks.size() < size_t(s.live)) s.blocks.resize(s.live);
    s.error.clear();
    s.whim = {}, s.idle_rounds = 0;
    ++s.launch;
    readers.clear();
    forget_places();
}
inline void run_live_blocks() {
    while (s.error.empty() && turn()) {}
    if (s.error.empty()) s.error = stuck();
}

// Make the kernel with its arguments, to which ``values`` point, what every thread runs.
template <class... A> void bind(void (*kernel)(A...), void **values) {
    size_t i = 0;
    static std::tuple<A...> packed;
    packed = {*reinterpret_cast<std::remove_const_t<A> *>(values[i++])...};
    arguments<std::tuple<A...>> = &packed;
    kernel_of<A...> = kernel;
    s.body = [] { std::apply(kernel_of<A...>, *arguments<std::tuple<A...>>); };
}
// Run every block of a launch; what went wrong, or null. The same seed gives the same schedule.
template <class... A>
const char *run(void (*kernel)(A...), void **values, const long long *shape, unsigned long long seed) {
    static std::string message;
    bind(kernel, values);
    s.random = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;
    begin(shape);
    std::vector<long long> order(s.grid_x * s.grid_y);
    for (size_t b = 0; b < order.size(); ++b) order[b] = (long long)b;
    for (size_t b = order.size(); b > 1; --b) std::swap(order[b - 1], order[draw(uint32(b))]);
    for (size_t b = 0; b < order.size() && s.error.empty(); b += s.live) {
        for (int slot = 0; slot < s.live; ++slot) start_block(slot, order[b + slot]);
        run_live_blocks();
    }
    message = s.error;
    return message.empty() ? nullptr : message.c_str();
}

}  // namespace host

template <class T> using Global = host::Pointer<T>;
template <class T> using Shared = host::Pointer<T>;
template <class T> using Array = host::Pointer<T>;

// ---- the primitives -------------------------------------------------------------------------------------------------

inline void begin() {}
inline int thread_index() { return host::s.current; }
inline long long block_index() { return host::s.block->index % host::s.grid_x; }
inline int block_row() { return int(host::s.block->index / host::s.grid_x); }
inline long long block_count() { return host::s.grid_x; }
inline void barrier() { host::meet(); }
inline bool any_thread(bool value) {
    host::s.block->vote |= value;
    host::meet();
    return host::s.block->voted;
}

template <class T> T shuffle_xor(T value, int mask) {
    using namespace host;
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    int lane = s.current % 32;
    Warp &warp = s.block->warps[s.current / 32];
    int turn = warp.turn;
    memcpy(&warp.values[turn][lane], &value, sizeof(T));
    if (++warp.arrived == warp.lanes) {
        warp.arrived = 0;
        warp.turn ^= 1;
        for (int t = s.current - lane; t < s.current - lane + warp.lanes; ++t) make_ready(*s.block, t);
    } else {
        running().status = AT_SHUFFLE;
    }
    to_scheduler();
    if ((lane ^ mask) >= warp.lanes) fail("a shuffle with a lane that does not exist");
    T other;
    memcpy(&other, &warp.values[turn][lane ^ mask], sizeof(T));
    return other;
}

inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float root(float x) { return sqrtf(x); }
inline float quotient(float a, float b) { return a / b; }
inline int unhoisted(int v) { return v; }
inline uint64 multiply_high(uint64 a, uint64 b) { return uint64((unsigned __int128)a * b >> 64); }

template <class T> float4 load4(host::Pointer<T> p, long long index) {
    return *reinterpret_cast<const float4 *>(p.checked(index, 4, false));
}
template <class T> float2 load2(host::Pointer<T> p, long long index) {
    return *reinterpret_cast<const float2 *>(p.checked(index, 2, false));
}
inline void store4(host::Pointer<float> p, long long index, float4 v) {
    *reinterpret_cast<float4 *>(p.checked(index, 4, true)) = v;
}

// ``count`` elements from ``offset`` on, with the bounds of an array of their own.
template <class T> host::Pointer<T> part(host::Pointer<T> p, long long offset, long long count) {
    auto start = reinterpret_cast<const char *>(p.p + offset), end = start + count * (long long)sizeof(T);
    if (count < 0 || start < p.low || end > p.high)
        host::fail("a part of " + std::to_string(count) + " from element " + std::to_string(offset) +
                   " of an array of " + std::to_string((p.high - p.low) / (long long)sizeof(T)));
    return {p.p + offset, start, end};
}

// A copy is NaN until it is waited for, and its source is read only then.
template <int COUNT> void copy_async(host::Pointer<float> to, host::Pointer<const float> from, bool there) {
    auto target = to.checked(0, COUNT, true);
    memset(target, 0xff, sizeof(float) * COUNT);
    host::Fiber &thread = host::running();
    thread.copies.push_back({target, there ? from.checked(0, COUNT, false) : nullptr, COUNT, thread.closed});
}
inline void copies_close() { ++host::running().closed; }
template <int PENDING> void copies_wait() {
    host::Fiber &thread = host::running();
    while (!thread.copies.empty() && thread.copies.front().group + PENDING < thread.closed) {
        auto [to, from, count, group] = thread.copies.front();
        thread.copies.pop_front();
        for (int i = 0; i < count; ++i) {
            host::touch(reinterpret_cast<uintptr_t>(to + i), true);
            to[i] = from ? from[i] : 0.0f;
        }
    }
}
