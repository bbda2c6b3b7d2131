// One tile of a matrix product, C[M, N] = A[M, K] B[K, N], in float32: the heart of the dense kernels.
//
// A block computes BLOCK_M x BLOCK_N elements of C; each of its threads THREAD_M x THREAD_N of them in registers, so that
// every value read from shared memory is used several times. A and B pass through shared memory BLOCK_K at a time in two
// buffers: while one is multiplied, the next is on its way, in registers or by asynchronous copies, and one barrier a
// stage is enough. BUFFERS 1 is for stages so long that K often fits in one: all of its loads are under way at once, where
// several short stages would each wait for memory.
// SLICES > 1 lets that many groups of threads share one tile, each with its own part of every stage of K; their sums are
// added at the end in a fixed order. That is what keeps a chip busy when C is small: 20 x 256 has 160 elements per
// multiprocessor of a large GPU, too few for one thread each to hide any latency.
//
// An operand is a struct with a static ALONG_K and quad(i, k): four neighbours in memory, which are (i, k .. k + 3)
// where ALONG_K, else (i .. i + 3, k); zero outside the matrix. Those that lie along K are transposed on their way into
// shared memory; an operand that goes there as it stands says AS_IT_IS, and is copied without passing through registers.
// The order of every sum is fixed by the shape alone: the same input gives the same bits.
#pragma once
#include "primitives.cuh"

static_assert(BLOCK_M % THREAD_M == 0 && BLOCK_N % THREAD_N == 0, "threads must tile the block exactly");
static_assert(BLOCK_K % 4 == 0 && BLOCK_M % 4 == 0 && BLOCK_N % 4 == 0, "tiles are filled four values at a time");
static_assert(BLOCK_K % SLICES == 0, "every slice takes as many steps of a stage");
static_assert(BUFFERS == 1 || BUFFERS == 2, "one to compute from, and perhaps one to fill");

constexpr int ACROSS_N = BLOCK_N / THREAD_N, ACROSS_M = BLOCK_M / THREAD_M;
constexpr int PER_SLICE = ACROSS_N * ACROSS_M;
static_assert(PER_SLICE * SLICES == THREADS, "the launch must match the tile");

constexpr int PITCH_M = BLOCK_M + 4, PITCH_N = BLOCK_N + 4;  // room for the padding of any operand's rows
constexpr int STAGE_FLOATS = BLOCK_K * (PITCH_M + PITCH_N);
constexpr int SUMS_FLOATS = SLICES > 1 ? SLICES * BLOCK_M * BLOCK_N : 0;
constexpr int SHARED_FLOATS = BUFFERS * STAGE_FLOATS > SUMS_FLOATS ? BUFFERS * STAGE_FLOATS : SUMS_FLOATS;
static_assert(SHARED_FLOATS * 4 <= 48 * 1024, "more needs an opt-in at launch, which no tile here is worth");

// Whether operands may be copied into a stage while another one is read, and how many steps of K a slice has in a stage.
constexpr bool COPIES = VECTOR && BUFFERS == 2;
constexpr int STEPS = BLOCK_K / SLICES, UNROLLED = BUFFERS == 2 ? STEPS : 8;

// A thread's rows and columns come in groups of up to four neighbours, one vector access each; the groups of one thread
// lie BLOCK / groups apart, so that the threads of a warp read neighbouring vectors.
constexpr int GROUP_M = THREAD_M < 4 ? THREAD_M : 4, GROUP_N = THREAD_N < 4 ? THREAD_N : 4;
// A warp covers 8 threads along N and the rest along M: the fewest distinct values for shared memory to deliver.
constexpr int WARP = PER_SLICE < 32 ? PER_SLICE : 32;
constexpr int WARP_N = ACROSS_N < 8 ? ACROSS_N : 8, WARP_M = WARP / WARP_N;

DEVICE int slice_of(int thread) { return thread / PER_SLICE; }
DEVICE int column_of(int thread) {
    int t = thread % PER_SLICE;
    return t / WARP % (ACROSS_N / WARP_N) * WARP_N + t % WARP % WARP_N;
}
DEVICE int row_of(int thread) {
    int t = thread % PER_SLICE;
    return t / WARP / (ACROSS_N / WARP_N) * WARP_M + t % WARP / WARP_N;
}

// Four neighbours of one row of a matrix [outer, inner], zero outside. VECTOR promises that inner is a multiple of four
// and the array 16-byte aligned, so that a quad is either whole or absent.
DEVICE float4 matrix_quad(Global<const float> data, int outer, int inner, int rows, int columns) {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (outer >= rows) return v;
    long long at = (long long)outer * columns + inner;
    if (VECTOR) {
        if (inner < columns) v = load4(data, at);
        return v;
    }
    if (inner < columns) v.x = data[at];
    if (inner + 1 < columns) v.y = data[at + 1];
    if (inner + 2 < columns) v.z = data[at + 2];
    if (inner + 3 < columns) v.w = data[at + 3];
    return v;
}

// A matrix as it stands: [rows, columns], with K along its rows (ALONG) or down its columns.
template <bool ALONG> struct Matrix {
    static constexpr bool ALONG_K = ALONG, AS_IT_IS = COPIES && !ALONG;
    Global<const float> data;
    int rows, columns;
    DEVICE float4 quad(int i, int k) const {
        return ALONG ? matrix_quad(data, i, k, rows, columns) : matrix_quad(data, k, i, rows, columns);
    }
    DEVICE void copy(Shared<float> to, int i, int k) const {  // of quad(i, k), where AS_IT_IS
        if (i < columns && k < rows) copy_async4(to, data + ((long long)k * columns + i));
        else store4(to, 0, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    }
};

// What one thread carries of a BLOCK x BLOCK_K stage of an operand, from device memory to the stage's place in shared
// memory. fetch() sets out, and may write there already; after deliver() and a barrier it is there.
//
// Where quads lie along K, ACROSS neighbouring threads take neighbours in memory (64 bytes) and the next threads the next
// rows. In shared memory each quad is four rows apart there: a thread's bank is (4 PITCH g + i) % 32 for its quad g of row i,
// which the padding spreads over all 32 banks (over 16, so two threads a bank, where rows are read four floats at a time
// and PITCH must be a multiple of four).
template <class Operand, int BLOCK, int GROUP> struct Carrier {
    static constexpr int PITCH = BLOCK + (Operand::ALONG_K && GROUP < 4 ? 2 : 4);
    static constexpr int QUADS = BLOCK * BLOCK_K / 4, EACH = (QUADS + THREADS - 1) / THREADS;
    static constexpr int ACROSS = BLOCK_K / 4 < 4 ? BLOCK_K / 4 : 4;
    static_assert(BLOCK_K / 4 % ACROSS == 0, "every row's quads are dealt out in whole groups");
    float4 held[EACH];

    DEVICE static int i_of(int e) { return Operand::ALONG_K ? e / ACROSS % BLOCK : e % (BLOCK / 4) * 4; }
    DEVICE static int k_of(int e) {
        return Operand::ALONG_K ? (e / ACROSS / BLOCK * ACROSS + e % ACROSS) * 4 : e / (BLOCK / 4);
    }

    DEVICE void fetch(const Operand &operand, int i0, int k0, Shared<float> tile) {
        int thread = unhoisted(thread_index());
#pragma unroll
        for (int c = 0; c < EACH; ++c) {
            int e = thread + c * THREADS;
            if (QUADS % THREADS != 0 && e >= QUADS) continue;
            if constexpr (Operand::AS_IT_IS) operand.copy(tile + (k_of(e) * PITCH + i_of(e)), i0 + i_of(e), k0 + k_of(e));
            else held[c] = operand.quad(i0 + i_of(e), k0 + k_of(e));
        }
    }
    DEVICE void deliver(Shared<float> tile) {
        if constexpr (Operand::AS_IT_IS) {
            copies_wait();
        } else {
#pragma unroll
            for (int c = 0; c < EACH; ++c) {
                int e = thread_index() + c * THREADS;
                if (QUADS % THREADS != 0 && e >= QUADS) continue;
                int at = k_of(e) * PITCH + i_of(e);
                if (Operand::ALONG_K) {
                    tile[at] = held[c].x;
                    tile[at + PITCH] = held[c].y;
                    tile[at + 2 * PITCH] = held[c].z;
                    tile[at + 3 * PITCH] = held[c].w;
                } else {
                    store4(tile, at, held[c]);
                }
            }
        }
    }
};

// One thread's values of a row of a tile: THREAD of them in groups of GROUP.
template <int THREAD, int GROUP, int BLOCK>
DEVICE void read_fragment(float (&fragment)[THREAD], Shared<float> row, int place) {
#pragma unroll
    for (int g = 0; g < THREAD / GROUP; ++g) {
        int at = g * (BLOCK / (THREAD / GROUP)) + place * GROUP;
        if (GROUP == 4) {
            float4 v = load4(row, at);
            fragment[g * GROUP] = v.x, fragment[g * GROUP + 1] = v.y;
            fragment[g * GROUP + 2] = v.z, fragment[g * GROUP + 3] = v.w;
        } else if (GROUP == 2) {
            float2 v = load2(row, at);
            fragment[g * GROUP] = v.x, fragment[g * GROUP + 1] = v.y;
        } else {
            fragment[g * GROUP] = row[at];
        }
    }
}

// Compute the tile at (m0, n0) over K in [k_begin, k_end) and hand it to out(m, n, values, count): ``count`` neighbours
// of row m from column n on, each element exactly once. ``memory`` has SHARED_FLOATS floats.
template <class A, class B, class Out>
DEVICE void tile_product(const A &a, const B &b, const Out &out, int m0, int n0, int k_begin, int k_end,
                         Shared<float> memory) {
    int thread = thread_index(), slice = slice_of(thread), row = row_of(thread), column = column_of(thread);
    Carrier<A, BLOCK_M, GROUP_M> carry_a;
    Carrier<B, BLOCK_N, GROUP_N> carry_b;
    float sums[THREAD_M][THREAD_N] = {};

    constexpr int TO_B = BLOCK_K * PITCH_M;
    carry_a.fetch(a, m0, k_begin, memory);
    carry_b.fetch(b, n0, k_begin, memory + TO_B);
    int stage = 0;
    for (int k0 = k_begin; k0 < k_end; k0 += BLOCK_K, stage ^= BUFFERS - 1) {
        Shared<float> tile_a = memory + stage * STAGE_FLOATS, tile_b = tile_a + TO_B;
        Shared<float> next = memory + (stage ^ (BUFFERS - 1)) * STAGE_FLOATS;
        if (BUFFERS == 1 && k0 > k_begin) barrier();  // the stage before has been read
        carry_a.deliver(tile_a);
        carry_b.deliver(tile_b);
        barrier();  // this stage is whole; another buffer was last read before the previous barrier
        if (k0 + BLOCK_K < k_end) {
            carry_a.fetch(a, m0, k0 + BLOCK_K, next);
            carry_b.fetch(b, n0, k0 + BLOCK_K, next + TO_B);
        }
        int left = (k_end - k0 + SLICES - 1) / SLICES, steps = BUFFERS == 2 || left > STEPS ? STEPS : left;
#pragma unroll UNROLLED
        for (int step = 0; step < steps; ++step) {
            int k = step * SLICES + slice;
            float of_a[THREAD_M], of_b[THREAD_N];
            read_fragment<THREAD_M, GROUP_M, BLOCK_M>(of_a, tile_a + k * carry_a.PITCH, row);
            read_fragment<THREAD_N, GROUP_N, BLOCK_N>(of_b, tile_b + k * carry_b.PITCH, column);
#pragma unroll
            for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
                for (int j = 0; j < THREAD_N; ++j) sums[i][j] = multiply_add(of_a[i], of_b[j], sums[i][j]);
        }
    }

    if (SLICES > 1) barrier();  // the stages are read for the last time; their room is for the slices' sums now
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
        int m = i / GROUP_M * (BLOCK_M / (THREAD_M / GROUP_M)) + row * GROUP_M + i % GROUP_M;
#pragma unroll
        for (int g = 0; g < THREAD_N / GROUP_N; ++g) {
            int n = g * (BLOCK_N / (THREAD_N / GROUP_N)) + column * GROUP_N;
            if (SLICES == 1) {
                out(m0 + m, n0 + n, &sums[i][g * GROUP_N], GROUP_N);
            } else {
#pragma unroll
                for (int j = 0; j < GROUP_N; ++j)
                    memory[(slice * BLOCK_M + m) * BLOCK_N + n + j] = sums[i][g * GROUP_N + j];
            }
        }
    }
    if (SLICES > 1) {
        barrier();
        for (int e = thread; e < BLOCK_M * BLOCK_N; e += THREADS) {
            float sum = memory[e];
#pragma unroll
            for (int s = 1; s < SLICES; ++s) sum += memory[s * BLOCK_M * BLOCK_N + e];
            out(m0 + e / BLOCK_N, n0 + e % BLOCK_N, &sum, 1);
        }
    }
}
