// dense_backward: both gradients of a dense layer in one launch, from dz = dy * f'(z)
//
//   dw[I, O] = x^T dz,  db[O] = sum over the batch of dz        (sums over B)
//   dx[B, I] = dz w^T                                           (sums over O)
//
// x[B, I], w[I, O], dy[B, O], y[B, O] the retained output; all row-major. dz is the `gradient` of formulas.cuh, computed
// from y where dy is read, so it is never stored. Where that is not cheap, and for large tiles, which would wait for y and
// the slope at every load, the backend computes dz in dy's place beforehand, and the formula is LINEAR.
//
// The first ``weight_blocks`` blocks compute dw and db, the others dx: neither waits for the other. The bias is the
// weight of a constant input: x counts as [B, I + 1] with a last column of ones, and row I of the product is db.
// With ``splits`` > 1 the batch is cut into that many stretches of ``stretch`` samples, each with a product of its own at
// partial[split][I + 1][O]; sum_partials.cu adds them in order. No atomics: the same input gives the same bits.
#include "formulas.cuh"
#include "product.cuh"

// dz of [rows, columns], read as the left operand (K along its rows) or the right one (K down its columns).
template <bool ALONG> struct Gradient {
    static constexpr bool ALONG_K = ALONG, AS_IT_IS = LINEAR && Matrix<ALONG>::AS_IT_IS;
    Matrix<ALONG> dy, y;
    Numbers numbers;
    DEVICE float4 quad(int i, int k) const {
        float4 v = dy.quad(i, k);
        if (LINEAR) return v;
        float4 of = y.quad(i, k);
        v.x = gradient(v.x, of.x, numbers);
        v.y = gradient(v.y, of.y, numbers);
        v.z = gradient(v.z, of.z, numbers);
        v.w = gradient(v.w, of.w, numbers);
        return v;
    }
    DEVICE void copy(Shared<float> to, int i, int k) const { dy.copy(to, i, k); }
};

// x[rows, inputs] with a column of ones behind it where there is a bias; K runs down the columns.
struct InputsAndOne {
    static constexpr bool ALONG_K = false, AS_IT_IS = COPIES;
    Global<const float> x;
    int rows, inputs;
    bool bias;
    DEVICE float4 quad(int i, int k) const {
        float4 v = matrix_quad(x, k, i, rows, inputs);
        if (!bias || k >= rows) return v;
        if (i == inputs) v.x = 1.0f;
        if (i + 1 == inputs) v.y = 1.0f;
        if (i + 2 == inputs) v.z = 1.0f;
        if (i + 3 == inputs) v.w = 1.0f;
        return v;
    }
    DEVICE void copy(Shared<float> to, int i, int k) const {  // inputs are a multiple of four: the ones begin a quad
        if (i < inputs && k < rows) copy_async4(to, x + ((long long)k * inputs + i));
        else store4(to, 0, make_float4(bias && i == inputs && k < rows ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f));
    }
};

struct WeightGradient {
    Global<float> dw, db;
    int inputs, outputs;
    DEVICE void operator()(int m, int n, const float *values, int count) const {
        if (m > inputs || (m == inputs && !db)) return;
        long long at = (long long)m * outputs + n;
        if (VECTOR && count == 4 && m < inputs) {
            if (n < outputs) store4(dw, at, make_float4(values[0], values[1], values[2], values[3]));
            return;
        }
        for (int j = 0; j < count; ++j) {
            if (n + j >= outputs) break;
            if (m < inputs) dw[at + j] = values[j];
            else db[n + j] = values[j];
        }
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
        InputsAndOne left{of.x, end, I, bool(to.db)};
        Gradient<false> right{{of.dy, end, O}, {of.y, end, O}, numbers};
        tile_product(left, right, out, m0, n0, begin, end, memory);
    } else {
        long long tile = block_index() - cut.weight_blocks;
        int tiles_n = (I + BLOCK_N - 1) / BLOCK_N;
        int m0 = (int)(tile / tiles_n) * BLOCK_M, n0 = (int)(tile % tiles_n) * BLOCK_N;
        if (m0 >= rows) return;
        Gradient<true> left{{of.dy, rows, O}, {of.y, rows, O}, numbers};
        Matrix<true> right{of.w, I, O};
        InputGradient out{to.dx, rows, I};
        tile_product(left, right, out, m0, n0, 0, O, memory);
    }
}
