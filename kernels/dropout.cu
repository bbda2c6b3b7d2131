// dropout: mask = 0 with probability rate, else 1 / (1 - rate); y = x mask            x, y, mask [B, F]
//
// The mask is a function of (key, layer, step) alone: Philox4x64-10 (Salmon et al. 2011) at key (key, layer) and counter
// (block + 1, step, 0, 0), whose four 64-bit words give eight 24-bit uniforms, low half first. That is bit for bit what
// numpy.random.Philox gives the NumPy backend. One thread makes eight neighbours.
#include "primitives.cuh"

DEVICE void philox(uint64 (&c)[4], uint64 k0, uint64 k1) {
    for (int round = 0; round < 10; ++round) {
        uint64 high0 = multiply_high(0xD2E7470EE14C6C93ull, c[0]), low0 = 0xD2E7470EE14C6C93ull * c[0];
        uint64 high1 = multiply_high(0xCA5A826395121157ull, c[2]), low1 = 0xCA5A826395121157ull * c[2];
        uint64 c1 = c[1], c3 = c[3];
        c[0] = high1 ^ c1 ^ k0, c[1] = low1, c[2] = high0 ^ c3 ^ k1, c[3] = low0;
        k0 += 0x9E3779B97F4A7C15ull, k1 += 0xBB67AE8584CAA73Bull;
    }
}

KERNEL(dropout)(Global<float> y, Global<float> mask, Global<const float> x, Global<const int> live,
                Global<const long long> iteration, long long batch, long long row, long long key, long long layer,
                float rate, float scale) {
    begin();
    long long count = live_rows(live, batch, 1) * row;
    for (long long block = first_element(); block * 8 < count; block += element_stride()) {
        uint64 words[4] = {(uint64)block + 1, (uint64)iteration[0], 0, 0};
        philox(words, (uint64)key, (uint64)layer);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            long long e = block * 8 + i;
            if (e >= count) break;
            float uniform = (float)((uint32)(words[i / 2] >> (i % 2 * 32)) >> 8) * (1.0f / 16777216.0f);
            float keep = uniform >= rate ? scale : 0.0f;
            mask[e] = keep;
            y[e] = x[e] * keep;
        }
    }
}

// multiply: y *= mask, dropout's way back
KERNEL(multiply)(Global<float> y, Global<const float> mask, Global<const int> live, long long batch, long long row) {
    begin();
    long long count = live_rows(live, batch, 1) * row;
    for (long long e = first_element(); e < count; e += element_stride()) y[e] = y[e] * mask[e];
}
