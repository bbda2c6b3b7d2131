// rowwise: out[r, :] = what formulas.cuh makes of row r of the inputs; out may be one of them
//
// A group of ``lanes`` neighbouring threads (a power of two, at most a warp) owns a row and strides over its columns;
// sums are per-thread in column order, then a fixed tree over the group. A thread touches no columns but its own.
#include "primitives.cuh"

struct Inputs {
    Global<const float> dy, y, z;  // those that the formula reads
};

#include "formulas.cuh"

KERNEL(rowwise)(Global<float> out, Inputs inputs, Global<const int> live, long long rows, long long multiple,
                long long row, long long lanes, Numbers numbers) {
    begin();
    long long r = first_element() / lanes, count = live_rows(live, rows, multiple);
    int end = r < count ? (int)row : 0;  // groups without a row still take part in the shuffles
    compute_row(out, inputs, r * row, (int)row, end, thread_index() % (int)lanes, (int)lanes, numbers);
}
