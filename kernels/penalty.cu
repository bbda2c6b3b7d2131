// penalty: partial[block] = the block's share of the penalty of w[count]; dw += its gradient (dw or null)
//
// Each warp has a stretch of the weights, whose penalty it computes as a row's: a penalty that is a sum over the weights is
// the sum of those of its parts. One that is none is computed by a single warp. A block adds up its warps' in order.
#include "formulas.cuh"

KERNEL(penalty)(Global<float> partial, Global<float> dw, Global<const float> w, long long count, Numbers numbers) {
    begin();
    constexpr int WARPS = THREADS / 32;
    SHARED(float, sums, WARPS);
    long long warps = block_count() * WARPS, each = (count + warps - 1) / warps, start = first_element() / 32 * each;
    int lane = thread_index() % 32, end = start >= count ? 0 : (int)(count - start < each ? count - start : each);
    float value = dw ? penalty_and_gradient(w + start, dw + start, end, end, lane, 32, numbers)
                     : penalty_of(w + start, end, end, lane, 32, numbers);
    if (lane == 0) sums[thread_index() / 32] = value;
    barrier();
    if (thread_index() != 0) return;
    float sum = sums[0];
    for (int i = 1; i < WARPS; ++i) sum += sums[i];
    partial[block_index()] = sum;
}
