// dense_forward: y[B, O] = f(z), z = x[B, I] w[I, O] + b[O]
//
// x[B, I], w[I, O], b[O] or null; y[B, O]; z[B, O] or null, kept where f's gradient needs it. All row-major.
// One block per BLOCK_M x BLOCK_N tile of y, tiles of one row of tiles side by side; bias and f in the epilogue.
// Sums run over I in the order that product.cuh fixes. f is the `activate` of formulas.cuh.
#include "formulas.cuh"
#include "product.cuh"

struct Forward {
    Global<float> y, z;
    Global<const float> bias;
    int rows, outputs;
    Numbers numbers;

    DEVICE void operator()(int m, int n, const float *values, int count) const {
        if (m >= rows) return;
        float before[4], after[4];
        long long at = (long long)m * outputs + n;
        for (int j = 0; j < count; ++j) {
            if (n + j >= outputs) break;
            before[j] = bias ? values[j] + bias[n + j] : values[j];
            after[j] = activate(before[j], numbers);
            if (VECTOR && count == 4) continue;
            if (z) z[at + j] = before[j];
            y[at + j] = after[j];
        }
        if (VECTOR && count == 4 && n < outputs) {
            if (z) store4(z, at, make_float4(before[0], before[1], before[2], before[3]));
            store4(y, at, make_float4(after[0], after[1], after[2], after[3]));
        }
    }
    DEVICE void total(int, float) const {}
};

KERNEL(dense_forward)(Global<float> y, Global<float> z, Global<const float> x, Global<const float> w,
                      Global<const float> bias, Global<const int> live, long long batch, long long inputs,
                      long long outputs, Numbers numbers) {
    begin();
    constexpr int FLOATS = SHARED_FLOATS<Matrix<true>, Matrix<false>>;
    static_assert(FLOATS <= MOST_FLOATS, "a smaller stage, or fewer buffers");
    SHARED(float, memory, FLOATS);
    int rows = (int)live_rows(live, batch, 1);
    int tiles_n = ((int)outputs + BLOCK_N - 1) / BLOCK_N;
    int m0 = (int)(block_index() / tiles_n) * BLOCK_M, n0 = (int)(block_index() % tiles_n) * BLOCK_N;
    if (m0 >= rows) return;  // the whole block leaves: no barrier is missed
    Matrix<true> left{x, rows, (int)inputs};
    Matrix<false> right{w, (int)outputs, (int)outputs};
    Forward out{y, z, bias, rows, (int)outputs, numbers};
    tile_product(left, right, out, m0, n0, 0, (int)inputs, memory);
}
