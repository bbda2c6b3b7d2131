// What translated PTX runs on: registers, memory and meetings of threads, over the fibers of tests/host.
//
// The twins there do the work: barriers, votes, shuffles, packets that others see late, asynchronous copies that land
// when they are waited for, and the check of every access for bounds, alignment and races. What PTX adds is what a
// pointer has lost there: which array it points into is looked up among all that are alive. Shared memory is a window
// that begins at 0; device and local memory have the host's own addresses.
#pragma once
#include <xmmintrin.h>

#include <algorithm>
#include <limits>

#include "primitives.h"

namespace ptx {

using host::fail, host::s;
typedef uint8_t u8, b8;
typedef uint16_t u16, b16;
typedef uint32_t u32, b32;
typedef unsigned long long u64, b64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef long long s64;
typedef float f32;
typedef double f64;
typedef bool pred;
struct b128 { u64 low, high; };

// ---- registers: bits, taken as whatever an instruction says ---------------------------------------------------------

template <class R> inline R poison() { return R(-1); }
template <> inline b128 poison() { return {~0ull, ~0ull}; }

template <class T> struct Halves { T low, high; };
inline Halves<u16> halves(u32 v) { return {u16(v), u16(v >> 16)}; }
inline Halves<u32> halves(u64 v) { return {u32(v), u32(v >> 32)}; }
inline Halves<u64> halves(b128 v) { return {v.low, v.high}; }
inline u32 joined(u16 low, u16 high) { return u32(high) << 16 | low; }
inline u64 joined(u32 low, u32 high) { return u64(high) << 32 | low; }
inline b128 joined(u64 low, u64 high) { return {low, high}; }

// ---- arithmetic -----------------------------------------------------------------------------------------------------

inline u32 wide(u16 v) { return v; }
inline s32 wide(s16 v) { return v; }
inline u64 wide(u32 v) { return v; }
inline s64 wide(s32 v) { return v; }
template <class T> T high(T a, T b) { return T((__int128(a) * b) >> 8 * sizeof(T)); }
template <> inline u64 high(u64 a, u64 b) { return u64((unsigned __int128)a * b >> 64); }
template <class T> T quotient(T a, T b) {
    if (b == 0) fail("a division by zero");
    return std::is_signed_v<T> && b == T(-1) ? T(-a) : T(a / b);
}
template <class T> T remainder(T a, T b) {
    if (b == 0) fail("a division by zero");
    return std::is_signed_v<T> && b == T(-1) ? T(0) : T(a % b);
}
template <class T> T shifted_left(T a, u64 count) { return count < 8 * sizeof(T) ? T(a << count) : T(0); }
template <class T> T shifted_right(T a, u32 count) {  // by more than there is: the sign alone is left
    bool all = count >= 8 * sizeof(T);
    return T(a >> (all ? 8 * sizeof(T) - 1 : count) >> all);
}
// ``count`` bits of a put into b from bit ``at`` on
template <class T> T inserted(T a, T b, u32 at, u32 count) {
    at &= 0xff, count &= 0xff;
    T mask = shifted_left(T(shifted_left(T(1), count) - 1), at);
    return (b & ~mask) | (shifted_left(a, at) & mask);
}

enum Rounding { rz = _MM_ROUND_TOWARD_ZERO, rm = _MM_ROUND_DOWN, rp = _MM_ROUND_UP };
template <Rounding mode> [[gnu::noinline]] f32 rounded(f32 a, f32 b, f32 c) {
    volatile f32 x = a, y = b, z = c;  // so that nothing is computed before the mode is set
    auto before = _MM_GET_ROUNDING_MODE();
    _MM_SET_ROUNDING_MODE(mode);
    volatile f32 result = std::fma(x, y, z);
    _MM_SET_ROUNDING_MODE(before);
    return result;
}
template <class T> T rni(T v) { return std::nearbyint(v); }
template <class T> T rzi(T v) { return std::trunc(v); }
template <class T> T rmi(T v) { return std::floor(v); }
template <class T> T rpi(T v) { return std::ceil(v); }
// A whole real as an integer: the nearest that there is; a NaN is 0, or the lowest of 64 bits.
template <class T, class R> T whole(R v) {
    constexpr T LOWEST = std::numeric_limits<T>::min(), LARGEST = std::numeric_limits<T>::max();
    if (v != v) return sizeof(T) == 8 || sizeof(R) == 8 ? T(T(1) << (8 * sizeof(T) - 1)) : T(0);
    return v <= R(LOWEST) ? LOWEST : v >= R(LARGEST) ? LARGEST : T(v);
}
inline f32 saturated(f32 v) { return v > 0 ? std::min(v, 1.0f) : 0.0f; }
inline f32 flushed(f32 v) { return std::fabs(v) < std::numeric_limits<f32>::min() ? std::copysign(0.0f, v) : v; }
template <class T> T least(T a, T b) {  // a number rather than a NaN, -0 before +0
    if (a != a || b != b) return a != a ? b : a;
    return a < b || (a == b && std::signbit(a)) ? a : b;
}
inline f32 near_exp2(f32 v) { return f32(std::exp2(f64(v))); }
inline f32 near_log2(f32 v) { return f32(std::log2(f64(v))); }
inline f32 near_tanh(f32 v) { return f32(std::tanh(f64(v))); }

// ---- memory ---------------------------------------------------------------------------------------------------------

// Bytes of the running thread alone: a parameter. They begin as NaN.
template <size_t N> struct Bytes {
    alignas((N & -N) < 16 ? (N & -N) : 16) char bytes[N];
    Bytes() { memset(bytes, 0xff, N); }
};
// A place, and the array that it is in.
struct Place {
    host::Pointer<char> pointer;
    bool own = false;  // nobody else's: there can be no race
};

struct Range { u64 low, high; };
inline std::vector<Range> variables;  // the module's
inline std::vector<Range> arrays;     // all that are alive, and the variables, in order
inline std::map<u64, Range> locals;   // of all threads, by where they begin
inline size_t last_found = 0;         // the array of the last access
inline size_t static_bytes = 0;       // of shared memory, what the kernel has whatever the launch asks for

inline void remember_variable(void *start, u64 size) { variables.push_back({u64(start), u64(start) + size}); }
extern "C" void hold_arrays(const u64 *ranges, long long count) {
    arrays = variables;
    for (long long i = 0; i < count; ++i) arrays.push_back({ranges[2 * i], ranges[2 * i + 1]});
    std::sort(arrays.begin(), arrays.end(), [](const Range &a, const Range &b) { return a.low < b.low; });
    last_found = 0;
}
template <size_t N> struct alignas(16) Local : Bytes<N> {
    Local() { locals[u64(this->bytes)] = {u64(this->bytes), u64(this->bytes) + N}; }
    ~Local() { locals.erase(u64(this->bytes)); }
    Local(const Local &) = delete;
};

inline Place place_in(Range range, u64 address, bool own) {
    return {{(char *)address, (const char *)range.low, (const char *)range.high}, own};
}
[[gnu::noinline]] inline Place global(u64 address) {
    auto holds = [&](const Range &r) { return address >= r.low && address < r.high; };
    if (last_found >= arrays.size() || !holds(arrays[last_found])) {
        auto after = [](u64 a, const Range &r) { return a < r.low; };
        size_t next = std::upper_bound(arrays.begin(), arrays.end(), address, after) - arrays.begin();
        if (next == 0 || !holds(arrays[next - 1])) fail("an access outside of all arrays");
        last_found = next - 1;
    }
    return place_in(arrays[last_found], address, false);
}
inline Range shared_range() {
    auto window = host::place<char>(host::dynamic, static_bytes + s.dynamic_bytes);
    return {u64(window.low), u64(window.high)};
}
inline u64 dynamic_start() { return static_bytes; }
inline u64 from_shared(u64 offset) { return shared_range().low + offset; }
inline u64 within_shared(u64 address) { return address - shared_range().low; }
[[gnu::noinline]] inline Place shared(u32 offset) {
    Range window = shared_range();
    return place_in(window, window.low + offset, false);
}
[[gnu::noinline]] inline Place local(u64 address) {
    auto next = locals.upper_bound(address);
    if (next == locals.begin() || address >= (--next)->second.high) fail("an access outside of all local arrays");
    return place_in(next->second, address, true);
}
[[gnu::noinline]] inline Place generic(u64 address) {
    Range window = shared_range();
    if (address >= window.low && address < window.high) return place_in(window, address, false);
    const char *stack = host::running().stack;
    return address >= u64(stack) && address < u64(stack + host::STACK) ? local(address) : global(address);
}
template <size_t N> Place within(Bytes<N> &own, long long offset) {
    return place_in({u64(own.bytes), u64(own.bytes) + N}, u64(own.bytes) + offset, true);
}

template <class T, int N> struct Vector {
    T values[N];
};
template <class T, int N> T *checked(const Place &place, bool write) {
    host::Pointer<T> p{(T *)place.pointer.p, place.pointer.low, place.pointer.high};
    if (u64(p.p) % (N * sizeof(T))) fail("an access of " + std::to_string(N * sizeof(T)) + " bytes that is not aligned");
    return place.own ? p.inside(0, N, write) : p.checked(0, N, write);
}
template <class T, int N> [[gnu::noinline]] Vector<T, N> load(Place place) {
    Vector<T, N> found;
    memcpy(found.values, checked<T, N>(place, false), sizeof found);
    return found;
}
template <class T, int N> [[gnu::noinline]] void store(Place place, Vector<T, N> given) {
    memcpy(checked<T, N>(place, true), given.values, sizeof given);
}
template <class T> host::Pointer<T> as_pointer(const Place &place) {
    if (u64(place.pointer.p) % alignof(T)) fail("an access that is not aligned");
    return {(T *)place.pointer.p, place.pointer.low, place.pointer.high};
}
// ``from`` tells the place: where nothing is read, it may be none.
template <int COUNT, class From> void copy(Place to, From from, u32 bytes) {
    if (bytes != 0 && bytes != 4 * COUNT) fail("an asynchronous copy of a part of its bytes");
    copy_async<COUNT>(as_pointer<float>(to), as_pointer<const float>(bytes ? from() : to), bytes);
}

// ---- between blocks -------------------------------------------------------------------------------------------------

inline void post_packet(Place place, b128 packet) {
    store_packet(as_pointer<Packet>(place), 0, __builtin_bit_cast(Packet, packet));
}
inline b128 see_packet(Place place) {
    return __builtin_bit_cast(b128, load_packet(as_pointer<const Packet>(place), 0));
}
inline void count_release(Place place, u32 count) { add_release(as_pointer<uint32>(place), 0, count); }
inline u32 count_acquire(Place place) { return load_acquire(as_pointer<const uint32>(place), 0); }

// ---- between the threads of a block ---------------------------------------------------------------------------------

// Threads may wait for each other at one instruction only: which the first to come decides.
struct Meeting { int site = 0, arrived = 0; };
inline std::vector<Meeting> at_barriers, at_shuffles;  // by block; by warp

inline void join(std::vector<Meeting> &meetings, size_t which, int site, int expected) {
    if (meetings.size() <= which) meetings.resize(which + 1);
    Meeting &meeting = meetings[which];
    if (meeting.arrived == 0) meeting.site = site;
    if (meeting.site != site) fail("threads that wait for each other at different instructions");
    if (++meeting.arrived == expected) meeting.arrived = 0;
}
inline void meet_at(int site) {
    join(at_barriers, s.block->slot, site, s.threads);
    host::meet();
}
inline bool vote_at(int site, bool value) {
    join(at_barriers, s.block->slot, site, s.threads);
    return any_thread(value);
}
struct Swapped { u32 value; bool within; };
// ``group``: bits 0 to 4, the last lane; 8 to 12, which bits of a lane's number name its group.
inline Swapped swapped_at(int site, u32 value, u32 mask, u32 group, u32 lanes) {
    u32 lane = s.current % 32, warp = s.current / 32, fixed = group >> 8 & 31;
    if (lanes != 0xffffffffu || s.block->warps[warp].lanes != 32) fail("a shuffle whose mask is not all lanes of a warp");
    join(at_shuffles, s.block->slot * 32 + warp, site, 32);
    u32 last = (lane & fixed) | (group & 31 & ~fixed), other = lane ^ (mask & 31);
    bool within = other <= last;
    u64 all = shuffle_xor(u64(value), int(within ? other ^ lane : 0));
    return {u32(all), within};
}

// ---- launches -------------------------------------------------------------------------------------------------------

template <class... A>
const char *run(void (*kernel)(A...), size_t shared_size, void **values, const long long *shape, u64 seed) {
    static_bytes = (shared_size + 15) / 16 * 16;
    locals.clear(), at_barriers.clear(), at_shuffles.clear();
    return host::run(kernel, values, shape, seed);
}

}  // namespace ptx
