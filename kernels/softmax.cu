// softmax_forward: y[r, :] = exp(z[r, :] - max) / sum; softmax_backward: dz = (dy - sum(dy y)) y, in place in dy
//
// A group of ``lanes`` neighbouring threads (a power of two, at most a warp) owns a row and strides over its columns;
// sums are per-thread in column order, then a fixed tree over the group. y may be z.
#include "activations.cuh"

KERNEL(softmax_forward)(Global<float> y, Global<const float> z, Global<const int> live, long long rows,
                        long long multiple, long long row, long long lanes) {
    begin();
    long long r = first_element() / lanes, count = live_rows(live, rows, multiple);
    int end = r < count ? (int)row : 0;  // groups without a row still take part in the shuffles
    softmax_row(y + r * row, z + r * row, end, thread_index() % (int)lanes, (int)lanes);
}

KERNEL(softmax_backward)(Global<float> dy, Global<const float> y, Global<const int> live, long long rows,
                         long long multiple, long long row, long long lanes) {
    begin();
    long long r = first_element() / lanes, count = live_rows(live, rows, multiple);
    int end = r < count ? (int)row : 0;
    softmax_slope_row(dy + r * row, y + r * row, end, thread_index() % (int)lanes, (int)lanes);
}
