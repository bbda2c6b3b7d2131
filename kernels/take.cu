// take: out[r, :] = source[rows[r], :]                    out[B, F], source[n, F], rows[B] in [0, n)
//
// A batch's samples, gathered by index. One element per thread and turn, neighbours in a row of ``out`` by neighbours.
#include "primitives.cuh"

KERNEL(take)(Global<float> out, Global<const float> source, Global<const long long> rows, long long count,
             long long width) {
    for (long long e = first_element(); e < count * width; e += element_stride())
        out[e] = source[rows[e / width] * width + e % width];
}
