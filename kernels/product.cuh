// One tile of a matrix product, C[M, N] = A[M, K] B[K, N], in float32: the heart of the dense kernels.
//
// A block computes BLOCK_M x BLOCK_N elements of C; each of its threads THREAD_M x THREAD_N of them in registers, so that
// every value read from shared memory is used several times. A and B pass through shared memory BLOCK_K at a time in
// BUFFERS buffers: while one is multiplied, asynchronous copies fill the others, and one barrier a stage is enough. The
// more buffers, the earlier a stage sets out: where a multiprocessor has few warps, little else hides its way.
// SLICES > 1 lets that many groups of threads share one tile, each with its own part of every stage of K; their sums are
// added at the end in a fixed order. That is what keeps a chip busy when C is small: 20 x 256 has 160 elements per
// multiprocessor of a large GPU, too few for one thread each to hide any latency.
//
// An operand is a matrix in device memory of which one dimension is K: along its rows where ALONG_K. It says how many
// ARRAYS it is made of, how to copy() from each of them, and how to finish() what a thread has copied. The order of every
// sum is fixed by the shape alone: the same input gives the same bits.
#pragma once
#include "primitives.cuh"

static_assert(BLOCK_M % THREAD_M == 0 && BLOCK_N % THREAD_N == 0, "threads must tile the block exactly");
static_assert(BLOCK_K % 4 == 0 && BLOCK_M % 4 == 0 && BLOCK_N % 4 == 0, "tiles are filled four values at a time");
static_assert(BLOCK_K % SLICES == 0, "every slice takes as many steps of a stage");
static_assert(BUFFERS >= 2, "one to compute from, and one to fill");

constexpr int ACROSS_N = BLOCK_N / THREAD_N, ACROSS_M = BLOCK_M / THREAD_M;
constexpr int PER_SLICE = ACROSS_N * ACROSS_M;
static_assert(PER_SLICE * SLICES == THREADS, "the launch must match the tile");

constexpr int PITCH_M = BLOCK_M + 4, PITCH_N = BLOCK_N + 4;  // padded, see Carrier
constexpr int SUMS = (BLOCK_M + 1) * BLOCK_N;  // of a slice; the last row are B's totals
constexpr int SUMS_FLOATS = SLICES > 1 ? SLICES * SUMS : 0;
template <class A, class B> constexpr int STAGE_FLOATS = BLOCK_K * (A::ARRAYS * PITCH_M + B::ARRAYS * PITCH_N);
template <class A, class B>
constexpr int SHARED_FLOATS = BUFFERS * STAGE_FLOATS<A, B> > SUMS_FLOATS ? BUFFERS * STAGE_FLOATS<A, B> : SUMS_FLOATS;
constexpr int MOST_FLOATS = 48 * 1024 / 4;  // more shared memory needs an opt-in at launch, which no tile here is worth

// How many steps of K a slice has in a stage.
constexpr int STEPS = BLOCK_K / SLICES;

// A thread's rows and columns come in groups of up to four neighbours, one vector access each; the groups of one thread
// lie BLOCK / groups apart, so that the threads of a warp read neighbouring vectors.
constexpr int GROUP_M = THREAD_M < 4 ? THREAD_M : 4, GROUP_N = THREAD_N < 4 ? THREAD_N : 4;
// A warp covers 8 threads along N and the rest along M: the fewest distinct values for shared memory to deliver. Of two
// neighbouring lanes both have one column, of two that are two apart one row: shared memory serves 16 bytes a lane of half
// a warp at once where each lane shares its address with such a partner, and of a quarter otherwise (as CUTLASS's lanes).
constexpr int WARP = PER_SLICE < 32 ? PER_SLICE : 32;
constexpr int WARP_N = ACROSS_N < 8 ? ACROSS_N : 8, WARP_M = WARP / WARP_N;

DEVICE int slice_of(int thread) { return thread / PER_SLICE; }
DEVICE int column_of(int thread) {
    int t = thread % PER_SLICE;
    return t / WARP % (ACROSS_N / WARP_N) * WARP_N + t % WARP / 2 % WARP_N;
}
DEVICE int row_of(int thread) {
    int t = thread % PER_SLICE;
    return t / WARP / (ACROSS_N / WARP_N) * WARP_M + t % WARP / (2 * WARP_N) * 2 + t % 2;
}

// A matrix as an operand, with K along its rows (ALONG) or down its columns.
template <bool ALONG> struct Matrix {
    static constexpr bool ALONG_K = ALONG;
    static constexpr int ARRAYS = 1;
    using Place = Global<const float>;
    Global<const float> data;
    int limit, columns;  // how many rows or columns there are beside K; how many floats lie between two rows in memory
    DEVICE Place start() const { return data; }
    template <int WIDE> DEVICE void copy(Shared<float> to, int, Place from, bool there) const {
        copy_async<WIDE>(to, from, there);
    }
    template <int WIDE> DEVICE void finish(Shared<float>, int) const {}
};

// What one thread carries of every BLOCK x BLOCK_K stage of an operand from device to shared memory.
//
// Along K eight neighbouring threads take neighbours in memory (32 bytes, the least that memory moves), and the next ones
// the next rows: a thread's bank is (PITCH k + i) % 32, and the padding spreads the 8 x 4 of a warp over all 32 banks.
// Where K runs down the columns, threads take a stage's whole row, four values each if VECTOR, which promises that rows
// are whole quads, 16-byte aligned. A thread walks along K from where it was; its rows are found anew from its first one,
// as places that are kept would be the registers too many. What lies beyond the last i counts as the last, as nothing that
// is made of it is kept; what lies beyond the end of K is zero.
template <class Operand, int BLOCK> struct Carrier {
    static constexpr bool ALONG = Operand::ALONG_K;
    static constexpr int WIDE = VECTOR && !ALONG ? 4 : 1, ACROSS = ALONG ? 8 : BLOCK / WIDE;
    static constexpr int EACH = BLOCK * BLOCK_K / WIDE / THREADS;  // units of WIDE values
    static constexpr int ROWS = ALONG && BLOCK * ACROSS > THREADS ? BLOCK * ACROSS / THREADS : 1;
    static constexpr int ROW_STEP = THREADS / ACROSS, K_STEP = BLOCK_K * ROWS / EACH, PITCH = BLOCK + 4;
    static constexpr int APART = BLOCK_K * PITCH;  // an operand's second array from its first, in a stage
    static_assert(EACH * WIDE * THREADS == BLOCK * BLOCK_K && THREADS % ACROSS == 0 && K_STEP * EACH == BLOCK_K * ROWS,
                  "every thread has as much of a stage, at regular places");
    const Operand operand;
    typename Operand::Place at;  // of the first value of this thread's part of the next stage
    int k, place, left, room;    // its step of a stage and place there; how much of K and how many rows there are from it on
    uint32 columns;

    DEVICE Carrier(const Operand &given, int i0, int k0, int k_end) : operand(given), at(given.start()) {
        int thread = thread_index(), i = ALONG ? thread / ACROSS % BLOCK : thread % ACROSS * WIDE;
        k = ALONG ? thread / ACROSS / BLOCK * ACROSS + thread % ACROSS : thread / ACROSS;
        int last = operand.limit - WIDE, first = i0 + i < last ? i0 + i : last;
        place = k * PITCH + i, left = k_end - k0 - k, room = last - first, columns = operand.columns;
        at = at + (ALONG ? along_columns(first) + (k0 + k) : along_columns(k0 + k) + first);
    }
    DEVICE long long along_columns(int rows) const { return (long long)((uint64)(uint32)rows * columns); }
    DEVICE static constexpr int steps_of(int c) { return c / ROWS * K_STEP; }  // of K, from its first to its c-th unit
    DEVICE static constexpr int place_of(int c) { return steps_of(c) * PITCH + c % ROWS * ROW_STEP; }

    DEVICE void copy(Shared<float> tile) {
        Shared<float> to = tile + place;
        int rows_left = unhoisted(room);
#pragma unroll
        for (int c = 0; c < EACH; ++c) {
            int further = c % ROWS * ROW_STEP, rows = further < rows_left ? further : rows_left;
            long long offset = ALONG ? along_columns(further ? rows : 0) + steps_of(c) : 0;
            operand.template copy<WIDE>(to + place_of(c), APART, at + offset, steps_of(c) < left);
            if (!ALONG) at = at + along_columns(K_STEP);
        }
        if (ALONG) at = at + BLOCK_K;
        left -= BLOCK_K;
    }
    DEVICE void finish(Shared<float> tile, int steps) const {  // of which so many are within K
#pragma unroll
        for (int c = 0; c < EACH; ++c)
            if (k + steps_of(c) < steps) operand.template finish<WIDE>(tile + (place + place_of(c)), APART);
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
// of row m from column n on, each element exactly once; and B's sums over K, if ``totals``, to out.total(n, value).
// ``memory`` has SHARED_FLOATS<A, B> floats.
template <class A, class B, class Out>
DEVICE void tile_product(const A &a, const B &b, const Out &out, int m0, int n0, int k_begin, int k_end,
                         Shared<float> memory, bool totals = false) {
    int thread = thread_index(), slice = slice_of(thread), row = row_of(thread), column = column_of(thread);
    Carrier<A, BLOCK_M> carry_a(a, m0, k_begin, k_end);
    Carrier<B, BLOCK_N> carry_b(b, n0, k_begin, k_end);
    constexpr int STAGE = STAGE_FLOATS<A, B>, TO_B = BLOCK_K * A::ARRAYS * PITCH_M, AHEAD = BUFFERS - 1;
    float sums[THREAD_M][THREAD_N] = {}, total = 0.0f;
    static_assert(PER_SLICE >= BLOCK_N, "a thread for every column's total");
    totals = totals && thread % PER_SLICE < BLOCK_N;

#pragma unroll
    for (int stage = 0; stage < AHEAD; ++stage) {
        if (k_begin + stage * BLOCK_K < k_end) {
            carry_a.copy(memory + stage * STAGE);
            carry_b.copy(memory + stage * STAGE + TO_B);
        }
        copies_close();
    }
    int stage = 0;
    for (int k0 = k_begin; k0 < k_end; k0 += BLOCK_K, stage = stage + 1 == BUFFERS ? 0 : stage + 1) {
        Shared<float> tile_a = memory + stage * STAGE, tile_b = tile_a + TO_B;
        copies_wait<AHEAD - 1>();
        carry_a.finish(tile_a, k_end - k0);
        carry_b.finish(tile_b, k_end - k0);
        barrier();  // this stage is whole, and the one before it has been read
        if (k0 + AHEAD * BLOCK_K < k_end) {
            Shared<float> before = memory + ((stage == 0 ? BUFFERS : stage) - 1) * STAGE;
            carry_a.copy(before);
            carry_b.copy(before + TO_B);
        }
        copies_close();
        auto multiply = [&](int k) {
            float of_a[THREAD_M], of_b[THREAD_N];
            read_fragment<THREAD_M, GROUP_M, BLOCK_M>(of_a, tile_a + k * PITCH_M, row);
            read_fragment<THREAD_N, GROUP_N, BLOCK_N>(of_b, tile_b + k * PITCH_N, column);
#pragma unroll
            for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
                for (int j = 0; j < THREAD_N; ++j) sums[i][j] = multiply_add(of_a[i], of_b[j], sums[i][j]);
        };
        int steps = SLICES > 1 && k_end - k0 < BLOCK_K ? (k_end - k0 + SLICES - 1) / SLICES : STEPS;
        if (steps == STEPS) {
#pragma unroll
            for (int step = 0; step < STEPS; ++step) multiply(step * SLICES + slice);
        } else {  // beyond the end are zeros, which only small tiles leave out
#pragma unroll 1
            for (int step = 0; step < steps; ++step) multiply(step * SLICES + slice);
        }
        if (totals)
            for (int step = 0; step < steps; ++step)
                total += tile_b[(step * SLICES + slice) * PITCH_N + thread % PER_SLICE];
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
                    memory[slice * SUMS + m * BLOCK_N + n + j] = sums[i][g * GROUP_N + j];
            }
        }
    }
    if (SLICES == 1) {
        if (totals) out.total(n0 + thread, total);
        return;
    }
    if (totals) memory[slice * SUMS + BLOCK_M * BLOCK_N + thread % PER_SLICE] = total;
    barrier();
    for (int e = thread; e < SUMS; e += THREADS) {
        bool is_total = e >= BLOCK_M * BLOCK_N;
        if (is_total && !totals) continue;
        float sum = memory[e];
#pragma unroll
        for (int s = 1; s < SLICES; ++s) sum += memory[s * SUMS + e];
        if (is_total) out.total(n0 + e % BLOCK_N, sum);
        else out(m0 + e / BLOCK_N, n0 + e % BLOCK_N, &sum, 1);
    }
}
