// softmax_forward: y[r, :] = exp(z[r, :] - max) / sum; softmax_backward: dz = (dy - sum(dy y)) y, in place in dy
//
// A group of ``lanes`` neighbouring threads (a power of two, at most a warp) owns a row and strides over its columns;
// sums are per-thread in column order, then a fixed tree over the group. y may be z.
#include "primitives.cuh"

KERNEL(softmax_forward)(Global<float> y, Global<const float> z, Global<const int> live, long long rows,
                        long long multiple, long long row, long long lanes) {
    long long r = first_element() / lanes, count = live_rows(live, rows, multiple);
    int lane = thread_index() % (int)lanes;
    long long end = r < count ? row : 0;  // groups without a row still take part in the shuffles
    float top = -INFINITY, sum = 0.0f;
    for (long long c = lane; c < end; c += lanes) {
        float v = z[r * row + c];
        top = v > top || v != v ? v : top;
    }
    top = group_max(top, (int)lanes);
    for (long long c = lane; c < end; c += lanes) sum += expf(z[r * row + c] - top);
    sum = group_sum(sum, (int)lanes);
    for (long long c = lane; c < end; c += lanes) y[r * row + c] = expf(z[r * row + c] - top) / sum;
}

KERNEL(softmax_backward)(Global<float> dy, Global<const float> y, Global<const int> live, long long rows,
                         long long multiple, long long row, long long lanes) {
    long long r = first_element() / lanes, count = live_rows(live, rows, multiple);
    int lane = thread_index() % (int)lanes;
    long long end = r < count ? row : 0;
    float sum = 0.0f;
    for (long long c = lane; c < end; c += lanes) sum += dy[r * row + c] * y[r * row + c];
    sum = group_sum(sum, (int)lanes);
    for (long long c = lane; c < end; c += lanes) dy[r * row + c] = (dy[r * row + c] - sum) * y[r * row + c];
}
