// The host's twin of kernels/primitives.cuh: executes a kernel's source on a CPU, and is out to break it.
//
// Threads are fibers. Each runs until it meets a barrier or a shuffle; which goes next is drawn from a seeded generator,
// and so is the order of blocks. Shared memory starts as NaN. Every access to an array is checked: against the bounds of
// the array that was passed (not of its allocation), for alignment, and for races: an element that one thread wrote may
// not be touched by another before a barrier has parted them, nor by another block at all. What goes wrong ends the
// launch with a message that names block, thread, array and element. Asynchronous copies land only when waited for.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#define KERNEL(name) static void name
#define DEVICE inline
#define CONSTANT static const
#define SHARED(type, name, count)                                 \
    static host::Storage name##_storage((count) * sizeof(type)); \
    Shared<type> name = host::place<type>(name##_storage, count)

using std::expm1;
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
typedef unsigned int uint32;
typedef unsigned long long uint64;

namespace host {

// ---- fibers --------------------------------------------------------------------------------------------------------

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

constexpr size_t STACK = 64 * 1024;
enum Status { READY, AT_BARRIER, AT_SHUFFLE, DONE };
struct Fiber {
    void *sp = nullptr;
    char *stack = nullptr;
    Status status = READY;
    std::vector<std::pair<float *, const float *>> copies;  // on their way
};
struct Warp {
    int lanes = 0, arrived = 0;
    uint64 values[2][32];
    int turn = 0;
};
// Bytes of one SHARED array; filled with NaN before every block.
struct Storage {
    std::vector<char> bytes;
    explicit Storage(size_t size);
};
struct State {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<int> ready;
    std::vector<Storage *> shared;
    void *scheduler = nullptr;
    void (*body)() = nullptr;
    int threads = 0, alive = 0, waiting = 0, current = 0;
    long long block = 0, grid_x = 1, grid_y = 1;
    uint32 launch = 0, epoch = 0;
    uint64 random = 1;
    std::string error;
};
inline State s;

inline Storage::Storage(size_t size) : bytes(size + 16, char(0xff)) { s.shared.push_back(this); }

inline uint32 draw(uint32 below) {  // xorshift64*
    s.random ^= s.random >> 12, s.random ^= s.random << 25, s.random ^= s.random >> 27;
    return uint32((s.random * 2685821657736338717ull) >> 33) % below;
}
inline void to_scheduler() { gpumlp_host_switch(&s.fibers[s.current].sp, s.scheduler); }

[[noreturn]] inline void fail(const std::string &what) {
    if (s.error.empty())
        s.error = what + " (block " + std::to_string(s.block) + ", thread " + std::to_string(s.current) + ")";
    to_scheduler();
    abort();  // a failed launch's fibers are never resumed
}

inline void fiber_main() {
    s.body();
    if (!s.fibers[s.current].copies.empty()) fail("a thread ended before it waited for its asynchronous copies");
    s.fibers[s.current].status = DONE;
    --s.alive;
    if (s.waiting > 0) fail("a thread ended while others wait at a barrier that it never reached");
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
    fiber.status = READY;
    fiber.copies.clear();
}

void forget(const char *start, size_t size);

// Run one block's threads to their ends; false where it cannot go on.
inline void run_block() {
    s.alive = s.threads, s.waiting = 0, s.epoch = 0;
    for (Storage *storage : s.shared) {
        memset(storage->bytes.data(), 0xff, storage->bytes.size());
        forget(storage->bytes.data(), storage->bytes.size());
    }
    s.ready.clear();
    for (int t = 0; t < s.threads; ++t) start(s.fibers[t]), s.ready.push_back(t);
    for (auto &warp : s.warps) warp.arrived = 0;
    while (!s.ready.empty() && s.error.empty()) {
        uint32 pick = draw(uint32(s.ready.size()));
        s.current = s.ready[pick];
        s.ready[pick] = s.ready.back();
        s.ready.pop_back();
        gpumlp_host_switch(&s.scheduler, s.fibers[s.current].sp);
    }
    if (s.error.empty() && s.alive > 0)
        s.error = "deadlock: " + std::to_string(s.alive) + " threads of block " + std::to_string(s.block) +
                  " wait at a barrier or a shuffle that others never reach";
}

// ---- memory --------------------------------------------------------------------------------------------------------

struct Trace { uint32 launch = 0, epoch = 0; long long block = 0; int thread = 0; bool many = false; };
struct Cell { Trace write, read; };
struct Page { Cell cells[1024]; };
inline std::unordered_map<uintptr_t, Page> shadow;
inline uintptr_t last_page = 0;
inline Page *last = nullptr;

inline Page *page_of(uintptr_t address) {
    uintptr_t page = address >> 12;
    if (page != last_page || !last) last = &shadow[page], last_page = page;
    return last;
}
// Shared memory is every block's own: what another block did there is no race.
inline void forget(const char *start, size_t size) {
    auto from = reinterpret_cast<uintptr_t>(start) & ~uintptr_t(3), to = reinterpret_cast<uintptr_t>(start) + size;
    for (uintptr_t a = from; a < to; a += 4) page_of(a)->cells[a >> 2 & 1023] = {};
}

inline bool clashes(const Trace &t) {
    return t.launch == s.launch &&
           (t.block != s.block || (t.epoch == s.epoch && (t.thread != s.current || t.many)));
}
inline void touch(uintptr_t address, bool write) {
    Cell &cell = page_of(address)->cells[address >> 2 & 1023];
    if (clashes(cell.write)) fail(write ? "two threads write one element with no barrier between"
                                        : "a thread reads what another wrote with no barrier between");
    if (write && clashes(cell.read)) fail("a thread overwrites what another reads with no barrier between");
    Trace &trace = write ? cell.write : cell.read;
    bool many = !write && trace.launch == s.launch && trace.block == s.block && trace.epoch == s.epoch &&
                (trace.many || trace.thread != s.current);
    bool blocks = !write && trace.launch == s.launch && trace.block != s.block;
    trace = {s.launch, s.epoch, blocks ? -1 : s.block, s.current, many};
}

template <class T> struct Reference;

// A pointer that knows the array it points into.
template <class T> struct Pointer {
    T *p;
    const char *low, *high;

    explicit operator bool() const { return p != nullptr; }
    Pointer operator+(long long n) const { return {p + n, low, high}; }
    operator Pointer<const T>() const { return {p, low, high}; }

    T *checked(long long index, int count, bool write) const {
        T *at = p + index;
        auto first = reinterpret_cast<const char *>(at);
        if (first < low || first + count * sizeof(T) > high) {
            long long size = (high - low) / (long long)sizeof(T), element = at - reinterpret_cast<const T *>(low);
            fail(std::string(write ? "write" : "read") + " of element " + std::to_string(element) + " (" +
                 std::to_string(count) + " at once) of an array of " + std::to_string(size));
        }
        if (reinterpret_cast<uintptr_t>(at) % (count * sizeof(T)) != 0 && count > 1)
            fail("an access of " + std::to_string(count) + " elements at an address that is not a multiple of it");
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

template <class T> Pointer<T> place(Storage &storage, long long count) {
    auto start = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(storage.bytes.data()) + 15) & ~uintptr_t(15));
    return {reinterpret_cast<T *>(start), start, start + count * sizeof(T)};
}

// ---- launching -----------------------------------------------------------------------------------------------------

template <class Tuple> inline Tuple *arguments;
template <class... A> inline void (*kernel_of)(A...);

// Run every block of a launch; what went wrong, or null. ``values[i]`` points to argument i; ``shape`` is grid x, grid y,
// threads; the same seed gives the same schedule.
template <class... A>
const char *run(void (*kernel)(A...), void **values, const long long *shape, unsigned long long seed) {
    static std::string message;
    size_t i = 0;
    std::tuple<A...> packed{*reinterpret_cast<std::remove_const_t<A> *>(values[i++])...};
    arguments<std::tuple<A...>> = &packed;
    kernel_of<A...> = kernel;
    s.body = [] { std::apply(kernel_of<A...>, *arguments<std::tuple<A...>>); };
    s.grid_x = shape[0], s.grid_y = shape[1], s.threads = int(shape[2]);
    s.random = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;
    s.error.clear();
    ++s.launch;
    if (s.fibers.size() < size_t(s.threads)) s.fibers.resize(s.threads);
    s.warps.assign((s.threads + 31) / 32, {});
    for (int w = 0; w < int(s.warps.size()); ++w) s.warps[w].lanes = s.threads - w * 32 < 32 ? s.threads - w * 32 : 32;
    std::vector<long long> order(s.grid_x * s.grid_y);
    for (size_t b = 0; b < order.size(); ++b) order[b] = (long long)b;
    for (size_t b = order.size(); b > 1; --b) std::swap(order[b - 1], order[draw(uint32(b))]);
    for (long long block : order) {
        s.block = block;
        run_block();
        if (!s.error.empty()) break;
    }
    message = s.error;
    return message.empty() ? nullptr : message.c_str();
}

}  // namespace host

template <class T> using Global = host::Pointer<T>;
template <class T> using Shared = host::Pointer<T>;
template <class T> using Array = host::Pointer<T>;

// ---- the primitives ------------------------------------------------------------------------------------------------

inline int thread_index() { return host::s.current; }
inline long long block_index() { return host::s.block % host::s.grid_x; }
inline int block_row() { return int(host::s.block / host::s.grid_x); }
inline long long block_count() { return host::s.grid_x; }

inline void barrier() {
    using namespace host;
    if (s.alive < s.threads) fail("a barrier that " + std::to_string(s.threads - s.alive) + " ended threads miss");
    if (++s.waiting == s.threads) {
        s.waiting = 0;
        ++s.epoch;
        for (int t = 0; t < s.threads; ++t) {
            s.fibers[t].status = READY;
            s.ready.push_back(t);
        }
    } else {
        s.fibers[s.current].status = AT_BARRIER;
    }
    to_scheduler();
}

template <class T> T shuffle_xor(T value, int mask) {
    using namespace host;
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    int lane = s.current % 32;
    Warp &warp = s.warps[s.current / 32];
    int turn = warp.turn;
    memcpy(&warp.values[turn][lane], &value, sizeof(T));
    if (++warp.arrived == warp.lanes) {
        warp.arrived = 0;
        warp.turn ^= 1;
        for (int t = s.current - lane; t < s.current - lane + warp.lanes; ++t) {
            s.fibers[t].status = READY;
            s.ready.push_back(t);
        }
    } else {
        s.fibers[s.current].status = AT_SHUFFLE;
    }
    to_scheduler();
    if ((lane ^ mask) >= warp.lanes) fail("a shuffle with a lane that does not exist");
    T other;
    memcpy(&other, &warp.values[turn][lane ^ mask], sizeof(T));
    return other;
}

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

// A copy is NaN until it is waited for, and its source is read only then.
inline void copy_async4(host::Pointer<float> to, host::Pointer<const float> from) {
    auto target = to.checked(0, 4, true);
    memset(target, 0xff, 16);
    host::s.fibers[host::s.current].copies.push_back({target, from.checked(0, 4, false)});
}
inline void copies_wait() {
    auto &copies = host::s.fibers[host::s.current].copies;
    for (auto &[to, from] : copies) {
        for (int i = 0; i < 4; ++i) host::touch(reinterpret_cast<uintptr_t>(to + i), true);
        memcpy(to, from, 16);
    }
    copies.clear();
}
