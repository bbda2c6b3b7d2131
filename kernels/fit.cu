// fit: many training steps of one network in one launch, its weights and optimizer state on the chip
//
// A group of GROUP blocks trains a model; a launch has a group for each of ``members``, and all its blocks are resident.
// A block owns the same share of every layer's columns: it computes those outputs of all B samples, and the gradients by
// them. What is computed in slices is needed whole, so it is exchanged (exchange.cuh):
//
//   forward    y[B, own] = f(x[B, I] w[I, own] + b[own])            then all collect y
//   loss       every block computes the gradient by the outputs itself; one block writes losses and metrics down
//   backward   dx[B, own rows] = dy[B, O] w[own rows, O]^T f'       then all collect dx, and meanwhile
//   update     dw[I, own] = x^T dy[B, own], dw[own rows, O] = x[B, own rows]^T dy, each with its optimizer at once
//
// A last layer of few outputs is computed whole by every block: cheaper than an exchange. A network of one block
// exchanges nothing. Sums run over inputs in a fixed tree, over samples in their order; neither depends on GROUP or
// THREADS, so the bits of a model do not depend on how many blocks train it, nor on what else the launch trains.
//
// What is computed of single numbers and of rows stands in formulas.cuh, which is made for the network: an activation for
// each of its KINDS, the loss, the metrics, the penalties, the optimizer's step and its state.
#include "formulas.cuh"

#include "exchange.cuh"
#include "fit_layout.cuh"

struct Member {
    Global<const float> x, y, weights;  // the data set: x[n, F], y[n, TARGETS], weights[n] or null
    Global<const long long> order;      // order[p samples + i]: the row that is i-th in pass p; null: as it stands
    Global<const float> scalars;        // [steps, SCALARS]: what the optimizer needs at each step
    Global<double> results;             // [steps, SERIES]: sums over the batch of loss, metrics (and their divisor);
                                        // then, where all went well, -0.5 - number - steps: no sum is that
    Global<float> penalties;            // [steps, PENALTIES]: each column's, or null
    Global<float> params;
    Slots slots;
    Global<Packet> packets;
    Global<uint32> arrivals;
    // Step s has batch (first + s) % batches of pass (first + s) / batches over the data, in 32 bits: in a GPU's memory
    // there are not samples for more. ``number`` is the first step's; see Exchange.
    long long first, batches, samples, number, awaited;
};

// The network's Rescaling, where it begins with one.
DEVICE float rescaled(float x) { return RESCALES ? multiply_add(x, SCALE, OFFSET) : x; }

DEVICE float dot4(float4 a, float4 b, float sum) {
    sum = multiply_add(a.x, b.x, sum);
    sum = multiply_add(a.y, b.y, sum);
    sum = multiply_add(a.z, b.z, sum);
    return multiply_add(a.w, b.w, sum);
}

template <int N> DEVICE void load_some(Array<const float> p, int index, float (&v)[N]) {
    if constexpr (N == 4) {
        load_quad(p, index, v);
    } else if constexpr (N == 2) {
        float2 q = load2(p, index);
        v[0] = q.x, v[1] = q.y;
    } else {
        v[0] = p[index];
    }
}

// How many columns a group of lanes sums at a time. Each value of a that is read serves so many: two columns take five
// reads for six sums, where one takes four for three; four only where there is work for all groups then, too.
DEVICE constexpr int tile_columns(int columns, int groups) {
    if (columns >= 4 && TRIPLES * divide_up(columns, 4) >= groups) return 4;
    return columns >= 2 ? 2 : 1;
}

// Add up 3 x HAVE sums over the lanes that differ in MASK and the bits below it. A lane that has several columns keeps half
// of them, for which it gets its partner's sums, and gives its own of the others: every column is added in the same tree,
// with less than half of the shuffles, and has lanes of its own in the end.
template <int MASK, int HAVE, int TILE> DEVICE void add_lanes(float (&sums)[3][TILE], int lane) {
    constexpr int KEPT = HAVE > 1 ? HAVE / 2 : HAVE;
    bool upper = KEPT < HAVE && (lane & MASK);
#pragma unroll
    for (int j = 0; j < KEPT; ++j)
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            float low = sums[i][j], high = sums[i][j + HAVE - KEPT];
            sums[i][j] = (upper ? high : low) + shuffle_xor(upper ? low : high, MASK);
        }
    if constexpr (MASK > 1) add_lanes<MASK / 2, KEPT>(sums, lane);
}

// finish(t, c, s0, s1, s2) for samples 3 t, 3 t + 1, 3 t + 2 and each own column c: s = sum over k of a[b, k] w[c, k]
//
// a[BATCH, 4 QUADS], w[N, 4 QUADS] in rows ``lda``, ``ldw`` apart, of which the first ``own`` are wanted. A group of
// LANES threads makes a tile of 3 samples and TILE columns; lane i sums quads i, i + LANES, ... in order, then a tree.
template <int N, int QUADS, class Finish>
DEVICE void products(Array<const float> a, int lda, Array<const float> w, int ldw, int own, Finish finish) {
    constexpr int LANES = lanes_for(QUADS), GROUPS = THREADS / LANES, TILE = tile_columns(N, GROUPS);
    constexpr int ACROSS = divide_up(N, TILE), TILES = TRIPLES * ACROSS, TRIPS = divide_up(QUADS, LANES);
    constexpr int LEFT = divide_up(TILE, LANES), SAME = LANES * LEFT / TILE;  // see add_lanes
    int thread = unhoisted(thread_index()), lane = thread % LANES, group = thread / LANES;
    for (int before = 0; before < TILES; before += GROUPS) {  // as often for all lanes of a warp: they shuffle
        int tile = before + group, t = tile / ACROSS, c = tile % ACROSS * TILE;
        bool mine = tile < TILES && c < own;
        float sums[3][TILE] = {};
#pragma unroll (TRIPS > 2 ? 1 : TRIPS)
        for (int trip = 0; trip < TRIPS; ++trip) {
            int q = lane + trip * LANES;
            if (!mine || (QUADS % LANES && q >= QUADS)) continue;
            float4 x[3];
#pragma unroll
            for (int i = 0; i < 3; ++i) x[i] = load4(a, at_most(3 * t + i, BATCH - 1) * lda + 4 * q);
#pragma unroll
            for (int j = 0; j < TILE; ++j) {
                float4 v = load4(w, at_most(c + j, N - 1) * ldw + 4 * q);
#pragma unroll
                for (int i = 0; i < 3; ++i) sums[i][j] = dot4(x[i], v, sums[i][j]);
            }
        }
        if constexpr (LANES > 1) add_lanes<LANES / 2, TILE>(sums, lane);
        c += lane / SAME * LEFT;
#pragma unroll
        for (int j = 0; j < LEFT; ++j)  // each column by another lane: its activations are computed side by side
            if (mine && lane % SAME == j % SAME && c + j < own) finish(t, c + j, sums[0][j], sums[1][j], sums[2][j]);
    }
}

#include "fit_block.cuh"

KERNEL(fit)(Global<const Member> members, long long steps, Numbers numbers) {
    DYNAMIC_SHARED(float, memory);
    Block block{members + block_index() / GROUP, memory, (int)(block_index() % GROUP), numbers};
    block.run((int)steps);
}
