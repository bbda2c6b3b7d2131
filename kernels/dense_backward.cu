// dense_backward: both gradients of a dense layer in one launch, from dz = dy * f'(z)
//
//   dw[I, O] = x^T dz,  db[O] = sum over the batch of dz        (sums over B)
//   dx[B, I] = dz w^T                                           (sums over O)
//
// x[B, I], w[I, O], dy[B, O], y[B, O] the retained output; all row-major. dz is the `gradient` of formulas.cuh, computed
// from y where dy is read, so it is never stored. Where that is not cheap, and for tiles that would do it too often, the
// backend computes dz in dy's place beforehand, and the formula is LINEAR.
//
// ``weight_blocks`` blocks compute dw and db, the others dx: neither waits for the other, and those whose sums are longer
// come first. db is what the blocks of the first row of tiles add up of dz as it passes.
// With ``splits`` > 1 the batch is cut into that many stretches of ``stretch`` samples, each with a product of its own at
// partial[split][I + 1][O]; sum_partials.cu adds them in order. No atomics: the same input gives the same bits.
#include "formulas.cuh"
#include "product.cuh"

// dy and y at one place.
struct Both {
    Global<const float> dy, y;
    DEVICE Both operator+(long long n) const { return {dy + n, y + n}; }
};

// dz, as the left operand (K along its rows) or the right one (K down its columns): dy, and y beside it, of which who
// copied them makes dz before anyone else reads them.
template <bool ALONG> struct Gradient {
    static constexpr bool ALONG_K = ALONG;
    static constexpr int ARRAYS = LINEAR ? 1 : 2;
    using Place = Both;
    Global<const float> dy, y;
    int limit, columns;
    Numbers numbers;
    DEVICE Place start() const { return {dy, y}; }
    template <int WIDE> DEVICE void copy(Shared<float> to, int apart, Place from, bool there) const {
        copy_async<WIDE>(to, from.dy, there);
        if (!LINEAR) copy_async<WIDE>(to + apart, from.y, there);
    }
    template <int WIDE> DEVICE void finish(Shared<float> values, int apart) const {
        if (LINEAR) return;
        float d[4], of[4];
        if constexpr (WIDE == 4) load_quad(values, 0, d), load_quad(values, apart, of);
        else d[0] = values[0], of[0] = values[apart];
#pragma unroll
        for (int i = 0; i < WIDE; ++i) d[i] = gradient(d[i], of[i], numbers);
        if constexpr (WIDE == 4) store_quad(values, 0, d);
        else values[0] = d[0];
    }
};

// Where a product goes: [rows, columns] from ``values`` on, its right operand's totals from ``totals`` on; of a split's
// part, as many rows and one more further for each part before it.
struct Into {
    Global<float> values, totals;
    int rows, columns, part;
    DEVICE long long from() const { return part * (rows + 1LL) * columns; }
    DEVICE void operator()(int m, int n, const float *v, int count) const {
        if (m >= rows) return;
        long long at = from() + (long long)m * columns + n;
        if (VECTOR && count == 4) {
            if (n < columns) store4(values, at, make_float4(v[0], v[1], v[2], v[3]));
            return;
        }
        for (int j = 0; j < count; ++j)
            if (n + j < columns) values[at + j] = v[j];
    }
    DEVICE void total(int n, float v) const {
        if (n < columns) totals[from() + n] = v;
    }
};

struct Gradients {
    Global<float> dx, dw, db, partial;  // dx and db, or null where nobody wants them; partial where splits > 1
};

struct Operands {
    Global<const float> dy, x, w, y;
    Global<const int> live;
};

struct Sizes {
    long long batch, inputs, outputs;
};

struct Split {
    long long splits, stretch, weight_blocks;
};

KERNEL(dense_backward)(Gradients to, Operands of, Sizes size, Split cut, Numbers numbers) {
    begin();
    constexpr int FOR_WEIGHTS = SHARED_FLOATS<Matrix<false>, Gradient<false>>;
    constexpr int FOR_INPUTS = SHARED_FLOATS<Gradient<true>, Matrix<true>>;
    constexpr int FLOATS = FOR_WEIGHTS > FOR_INPUTS ? FOR_WEIGHTS : FOR_INPUTS;
    static_assert(FLOATS <= MOST_FLOATS, "a smaller stage, or fewer buffers");
    SHARED(float, memory, FLOATS);
    int rows = (int)live_rows(of.live, size.batch, 1), I = (int)size.inputs, O = (int)size.outputs;
    long long input_blocks = block_count() - cut.weight_blocks, before = cut.stretch < O ? input_blocks : 0;
    long long block = block_index() - before;  // of those for the weights; below 0 and behind them are the others
    if (block >= 0 && block < cut.weight_blocks) {
        int tiles_n = (O + BLOCK_N - 1) / BLOCK_N;
        long long per_split = cut.weight_blocks / cut.splits, tile = block % per_split;
        int split = (int)(block / per_split);
        int m0 = (int)(tile / tiles_n) * BLOCK_M, n0 = (int)(tile % tiles_n) * BLOCK_N;
        int begin = split * (int)cut.stretch, end = begin + (int)cut.stretch < rows ? begin + (int)cut.stretch : rows;
        Into out{to.dw, to.db, I, O, split};
        if (cut.splits > 1) out.values = to.partial, out.totals = to.partial + size.inputs * size.outputs;
        Matrix<false> left{of.x, I, I};
        Gradient<false> right{of.dy, of.y, O, O, numbers};
        tile_product(left, right, out, m0, n0, begin, end, memory, to.db && m0 == 0);
    } else {
        long long tile = before ? block_index() : block - cut.weight_blocks;
        int tiles_n = (I + BLOCK_N - 1) / BLOCK_N;
        int m0 = (int)(tile / tiles_n) * BLOCK_M, n0 = (int)(tile % tiles_n) * BLOCK_N;
        if (m0 >= rows) return;
        Gradient<true> left{of.dy, of.y, rows, O, numbers};
        Matrix<true> right{of.w, I, O};
        tile_product(left, right, Into{to.dx, to.dx, rows, I, 0}, m0, n0, 0, O, memory);
    }
}
