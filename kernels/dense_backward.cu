// dense_backward: both gradients of a dense layer in one launch, from dz = dy * f'(z)
//
//   dw[I, O] = x^T dz,  db[O] = sum over the batch of dz        (sums over B)
//   dx[B, I] = dz w^T                                           (sums over O)
//
// x[B, I], w[I, O], dy[B, O], y[B, O] the retained output; all row-major. dz is the `gradient` of formulas.cuh, computed
// from y where dy is read, so it is never stored. Where that is not cheap, and for large tiles, which would wait for y and
// the slope at every load, the backend computes dz in dy's place beforehand, and the formula is LINEAR.
//
// The first ``weight_blocks`` blocks compute dw and db, the others dx: neither waits for the other. db is what the blocks
// of the first row of tiles add up of dz as it passes.
// With ``splits`` > 1 the batch is cut into that many stretches of ``stretch`` samples, each with a product of its own at
// partial[split][I + 1][O]; sum_partials.cu adds them in order. No atomics: the same input gives the same bits.
#include "formulas.cuh"
#include "product.cuh"

// dy and y at one place.
struct Both {
    Global<const float> dy, y;
    DEVICE Both operator+(long long n) const { return {dy + n, y + n}; }
};

// dz of dy, read as the left operand (K along its rows) or the right one (K down its columns); where it is not dy itself.
template <bool ALONG> struct Slope : Matrix<ALONG> {
    static constexpr bool COPIED = false;
    using Place = Both;
    Global<const float> y;
    Numbers numbers;
    DEVICE Place start() const { return {this->data, y}; }
    template <int WIDE> DEVICE void read(Place from, float (&v)[WIDE]) const {
        float of[WIDE];
        read_some(from.dy, v);
        read_some(from.y, of);
#pragma unroll
        for (int i = 0; i < WIDE; ++i) v[i] = gradient(v[i], of[i], numbers);
    }
};
template <bool ALONG>
DEVICE auto gradient_of(Matrix<ALONG> dy, Global<const float> y, Numbers numbers) {
    if constexpr (LINEAR) return dy;
    else return Slope<ALONG>{dy, y, numbers};
}

struct WeightGradient {
    Global<float> dw, db;
    int inputs, outputs;
    DEVICE void operator()(int m, int n, const float *values, int count) const {
        if (m >= inputs) return;
        long long at = (long long)m * outputs + n;
        if (VECTOR && count == 4) {
            if (n < outputs) store4(dw, at, make_float4(values[0], values[1], values[2], values[3]));
            return;
        }
        for (int j = 0; j < count; ++j)
            if (n + j < outputs) dw[at + j] = values[j];
    }
    DEVICE void total(int n, float value) const {
        if (n < outputs) db[n] = value;
    }
};

struct InputGradient {
    Global<float> dx;
    int rows, inputs;
    DEVICE void operator()(int m, int n, const float *values, int count) const {
        if (m >= rows) return;
        long long at = (long long)m * inputs + n;
        if (VECTOR && count == 4) {
            if (n < inputs) store4(dx, at, make_float4(values[0], values[1], values[2], values[3]));
            return;
        }
        for (int j = 0; j < count; ++j)
            if (n + j < inputs) dx[at + j] = values[j];
    }
    DEVICE void total(int, float) const {}
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
    SHARED(float, memory, SHARED_FLOATS);
    int rows = (int)live_rows(of.live, size.batch, 1), I = (int)size.inputs, O = (int)size.outputs;
    if (block_index() < cut.weight_blocks) {
        int tiles_n = (O + BLOCK_N - 1) / BLOCK_N;
        long long per_split = cut.weight_blocks / cut.splits, tile = block_index() % per_split;
        int split = (int)(block_index() / per_split);
        int m0 = (int)(tile / tiles_n) * BLOCK_M, n0 = (int)(tile % tiles_n) * BLOCK_N;
        int begin = split * (int)cut.stretch, end = begin + (int)cut.stretch < rows ? begin + (int)cut.stretch : rows;
        WeightGradient out{to.dw, to.db, I, O};
        if (cut.splits > 1) {
            out.dw = to.partial + split * (size.inputs + 1) * size.outputs;
            if (to.db) out.db = out.dw + size.inputs * size.outputs;
        }
        Matrix<false> left{of.x, I, I};
        auto right = gradient_of(Matrix<false>{of.dy, O, O}, of.y, numbers);
        tile_product(left, right, out, m0, n0, begin, end, memory, to.db && m0 == 0);
    } else {
        long long tile = block_index() - cut.weight_blocks;
        int tiles_n = (I + BLOCK_N - 1) / BLOCK_N;
        int m0 = (int)(tile / tiles_n) * BLOCK_M, n0 = (int)(tile % tiles_n) * BLOCK_N;
        if (m0 >= rows) return;
        auto left = gradient_of(Matrix<true>{of.dy, rows, O}, of.y, numbers);
        Matrix<true> right{of.w, I, O};
        InputGradient out{to.dx, rows, I};
        tile_product(left, right, out, m0, n0, 0, O, memory);
    }
}
