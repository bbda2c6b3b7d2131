// What every kernel file starts from: the names of everything that is not plain C++.
//
// A kernel says barrier(), shuffle_xor(), load4() and Global<float>; on a GPU these are the hardware's, and under
// GPUMLP_HOST they are their twins in tests/host/primitives.h, which run the same source on a CPU with threads as fibers
// and check every access. Nothing else in kernels/ may use a CUDA name.
//
// Integers are passed as long long, reals as float, arrays as Global<T>; where these are many, integers and arrays go in
// structs, by value (eight-byte members, so that nothing lies between them). Sizes that are looped over become int, as no
// single one passes 2^31, and offsets, which are products of them, stay long long.
#pragma once

#ifdef GPUMLP_HOST
#include "primitives.h"
#else

// At least 512 threads of a kernel must fit a multiprocessor, that is, 128 registers each: fewer hide too little latency.
// A kernel that takes the whole multiprocessor for itself says RESIDENT 1.
#ifndef RESIDENT
#define RESIDENT (512 / THREADS)
#endif
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) name
#define DEVICE __device__ __forceinline__
#define CALLED static __device__ __noinline__  // a function that stands once, and whose registers are free for its caller
#define CONSTANT static __constant__ const
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]  // as many as the launch asked for

template <class T> using Global = T *;  // an array in device memory
template <class T> using Shared = T *;  // an array in the block's shared memory
template <class T> using Array = T *;   // in either

typedef unsigned int uint32;
typedef unsigned long long uint64;
#ifndef INFINITY  // NVRTC has no math.h
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif

// DEPENDENT: the kernel was launched to start while the one before it ends (a candidate, see gpumlp/candidates.py). What
// that one wrote may be read, and what it read be written, from here on: every kernel's first line.
#ifndef DEPENDENT
#define DEPENDENT 0
#endif
DEVICE void begin() {
#if DEPENDENT && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

DEVICE int thread_index() { return threadIdx.x; }
DEVICE long long block_index() { return blockIdx.x; }
DEVICE int block_row() { return blockIdx.y; }
DEVICE long long block_count() { return gridDim.x; }
DEVICE void barrier() { __syncthreads(); }
// All 32 lanes of a warp must call it together.
template <class T> DEVICE T shuffle_xor(T value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE uint64 multiply_high(uint64 a, uint64 b) { return __umul64hi(a, b); }
// 16 (8) bytes at once: index must be a multiple of 4 (2), and the array aligned likewise.
DEVICE float4 load4(const float *p, long long index) { return *reinterpret_cast<const float4 *>(p + index); }
DEVICE float2 load2(const float *p, long long index) { return *reinterpret_cast<const float2 *>(p + index); }
DEVICE void store4(float *p, long long index, float4 v) { *reinterpret_cast<float4 *>(p + index) = v; }
// COUNT floats (1, or 4 that are aligned) from device to shared memory beside the thread's other work; if not ``there``,
// zeros, and nothing is read. copies_close() makes a group of those since the last one; copies_wait() waits for all groups
// but the newest PENDING: they have landed for the thread itself, for the block after the next barrier. Before compute
// capability 8.0: at once.
template <int COUNT> DEVICE void copy_async(float *to, const float *from, bool there) {
    static_assert(COUNT == 1 || COUNT == 4, "there is no other width of both");
#if __CUDA_ARCH__ >= 800
    unsigned target = (unsigned)__cvta_generic_to_shared(to), bytes = there ? 4 * COUNT : 0;
    if constexpr (COUNT == 4)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(from), "r"(bytes) : "memory");
#else
    if constexpr (COUNT == 4) store4(to, 0, there ? load4(from, 0) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    else *to = there ? *from : 0.0f;
#endif
}
DEVICE void copies_close() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int PENDING> DEVICE void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}
DEVICE bool any_thread(bool value) { return __syncthreads_or(value); }  // of the block; a barrier
// ``count`` elements from ``offset`` on, as an array of their own
template <class T> DEVICE T *part(T *p, long long offset, long long) { return p + offset; }
// a b + c, rounded once. Where it is not written there is none: the compiler is told to make none of its own, so that
// what a kernel computes of additions, products, quotients and roots are the same bits on every device.
DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
// sqrtf(x), and below a / b, to the same bits. Those of CUDA leave the straight way, by a call, for zeros and tiny numbers:
// and of these an optimizer's state has many, as units die. Newton's steps are CUDA's own, on numbers that are scaled
// by powers of two to where nothing is lost.
DEVICE float root(float x) {
    bool tiny = x < 0x1p-64f;
    float scaled = tiny ? x * 0x1p64f : x, y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(scaled));
    float s = scaled * y;
    s = fmaf(fmaf(-s, s, scaled), 0.5f * y, s);
    return x == 0.0f || x == INFINITY ? x : tiny ? s * 0x1p-32f : s;
}
DEVICE float quotient(float a, float b) {
    float size = fabsf(a);
    if (!(size <= 0x1p60f && b >= 0x1p-60f && b <= 0x1p40f)) return a / b;
    bool tiny = size < 0x1p-40f;
    float scaled = tiny ? a * 0x1p80f : a, y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
    y = fmaf(fmaf(-b, y, 1.0f), y, y);
    float q = scaled * y;
    q = fmaf(fmaf(-b, q, scaled), y, q);
    if (tiny) {  // On its way back it may be rounded again. What is not exact must not look as if it were in the middle: where
        // one bit goes it is made even, towards where the rest lies, and where more go, odd.
        float rest = fmaf(-b, q, scaled);
        uint32 bits = __float_as_uint(q), even = fabsf(q) >= 0x1p-47f;
        if (fabsf(q) < 0x1p-46f && rest != 0.0f && (bits & 1) == even) bits += (rest < 0.0f) == (q < 0.0f) ? 1 : -1;
        q = a == 0.0f ? a : __uint_as_float(bits) * 0x1p-80f;
    }
    return q;
}
// A number of which the compiler is to assume nothing: what depends on it is computed where it is used, rather than once
// before all loops, to be kept in registers that are needed inside.
DEVICE int unhoisted(int v) {
    asm volatile("" : "+r"(v));
    return v;
}

// ---- between the blocks of one launch, all of which are resident ----
// 16 bytes that are written and read as one. Nothing else is ordered by them.
struct __align__(16) Packet {
    float a, b, c;
    uint32 tag;
};
DEVICE void store_packet(Packet *p, long long index, Packet v) {
    uint64 low = (uint64)__float_as_uint(v.b) << 32 | __float_as_uint(v.a);
    uint64 high = (uint64)v.tag << 32 | __float_as_uint(v.c);
    asm volatile("{\n.reg .b128 t;\nmov.b128 t, {%1, %2};\nst.relaxed.gpu.global.b128 [%0], t;\n}" ::"l"(p + index),
                 "l"(low), "l"(high)
                 : "memory");
}
DEVICE Packet load_packet(const Packet *p, long long index) {
    uint64 low, high;
    asm volatile("{\n.reg .b128 t;\nld.relaxed.gpu.global.b128 t, [%2];\nmov.b128 {%0, %1}, t;\n}"
                 : "=l"(low), "=l"(high)
                 : "l"(p + index)
                 : "memory");
    return {__uint_as_float((uint32)low), __uint_as_float((uint32)(low >> 32)), __uint_as_float((uint32)high),
            (uint32)(high >> 32)};
}
// Add, after all that the block wrote before its last barrier and the thread before this; load, before all after it.
DEVICE void add_release(uint32 *p, long long index, uint32 v) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p + index), "r"(v) : "memory");
}
DEVICE uint32 load_acquire(const uint32 *p, long long index) {
    uint32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p + index) : "memory");
    return v;
}

#endif

// ---- what is built from them -------------------------------------------------------------------------------------

// How many of ``rows`` rows are live. In a recorded step the batch's size is on the device: live[0] samples of
// ``multiple`` rows each; without ``live`` all rows are.
DEVICE long long live_rows(Global<const int> live, long long rows, long long multiple) {
    if (!live) return rows;
    long long count = live[0] * multiple;
    return count < rows ? count : rows;
}

DEVICE long long first_element() { return block_index() * THREADS + thread_index(); }
DEVICE long long element_stride() { return block_count() * THREADS; }

// Sum, maximum over a group of ``lanes`` (a power of two, at most 32) neighbouring threads; each gets the result.
// The order is a fixed tree, so the same input gives the same bits.
DEVICE float group_sum(float value, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}
DEVICE float group_max(float value, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
        float other = shuffle_xor(value, mask);
        value = value > other || value != value ? value : other;  // NaN wins, as in NumPy
    }
    return value;
}
// Four neighbours as an array.
DEVICE void load_quad(Array<const float> p, long long index, float (&v)[4]) {
    float4 q = load4(p, index);
    v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}
DEVICE void store_quad(Array<float> p, long long index, const float (&v)[4]) {
    store4(p, index, make_float4(v[0], v[1], v[2], v[3]));
}
