// penalty: partial[block] = the block's share of l1 sum |w| + l2 sum w^2; dw += l1 sign(w) + 2 l2 w (dw or null)
//
// Elements are dealt to threads in turn; a thread sums in order, then a fixed tree over the block.
#include "primitives.cuh"

KERNEL(penalty)(Global<float> partial, Global<float> dw, Global<const float> w, long long count, float l1, float l2) {
    begin();
    SHARED(float, sums, THREADS);
    float sum = 0.0f;
    for (long long e = first_element(); e < count; e += element_stride()) {
        float v = w[e];
        sum += (l1 > 0.0f ? l1 * fabsf(v) : 0.0f) + (l2 > 0.0f ? l2 * v * v : 0.0f);  // 0 times infinity is none of both
        if (dw) dw[e] = dw[e] + l1 * (v > 0.0f ? 1.0f : (v < 0.0f ? -1.0f : v)) + 2.0f * l2 * v;
    }
    sums[thread_index()] = sum;
    barrier();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (thread_index() < half) sums[thread_index()] = sums[thread_index()] + sums[thread_index() + half];
        barrier();
    }
    if (thread_index() == 0) partial[block_index()] = sums[0];
}
