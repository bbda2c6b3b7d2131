// take: out[r, :] = source[rows[r], :]                    out[B, F], source[n, F], rows[B] in [0, n)
//
// A batch's samples, gathered by index. Each thread copies one element and then the one a whole grid further on;
// neighbouring threads copy neighbouring elements, so that a warp reads and writes whole cache lines.
#include "primitives.cuh"

KERNEL(take)(Global<float> out, Global<const float> source, Global<const long long> rows, long long count,
             long long width) {
    begin();
    for (long long e = first_element(); e < count * width; e += element_stride())
        out[e] = source[rows[e / width] * width + e % width];
}
