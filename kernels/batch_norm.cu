// batch_norm: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, and back     x, y, dx, dy [B, C]; all else [C]
//
// mean and variance go over the batch. ``kept`` [2, C] has the means, then 1 / sqrt(variance + epsilon), from forward to
// back; ``sums`` [2, C] the gradients by gamma, then by beta. A block owns 32 columns: a warp reads them side by side, and
// its GROUPS warps take every GROUPS-th row, each in order; their sums are added by a fixed tree. Statistics take two
// passes, and the mean that rounding has left in the differences is taken out of both.
#include "primitives.cuh"

constexpr int COLUMNS = 32, GROUPS = THREADS / COLUMNS;
static_assert(THREADS % COLUMNS == 0 && (GROUPS & (GROUPS - 1)) == 0, "the tree halves the number of groups");

// The sum of the groups' values for each column; every thread gets its column's.
DEVICE float column_sum(Shared<float> work, float value) {
    int t = thread_index();
    barrier();  // the sums before have been read
    work[t] = value;
    for (int half = GROUPS / 2; half > 0; half /= 2) {
        barrier();
        if (t < half * COLUMNS) work[t] = work[t] + work[t + half * COLUMNS];
    }
    barrier();
    return work[t % COLUMNS];
}

KERNEL(batch_statistics)(Global<float> kept, Global<float> means, Global<float> variances, Global<const float> x,
                         Global<const int> live, long long batch, long long columns, float momentum, float epsilon) {
    begin();
    SHARED(float, work, THREADS);
    int rows = (int)live_rows(live, batch, 1), group = thread_index() / COLUMNS;
    long long c = block_index() * COLUMNS + thread_index() % COLUMNS;
    int end = c < columns ? rows : 0;  // threads without a column still meet the others
    float sum = 0.0f, rest = 0.0f, squares = 0.0f;
    for (int r = group; r < end; r += GROUPS) sum = sum + x[r * columns + c];
    float mean = column_sum(work, sum) / (float)rows;
    for (int r = group; r < end; r += GROUPS) {
        float off = x[r * columns + c] - mean;
        rest = rest + off;
        squares = multiply_add(off, off, squares);
    }
    rest = column_sum(work, rest) / (float)rows;
    float variance = column_sum(work, squares) / (float)rows - rest * rest;
    if (group > 0 || c >= columns) return;
    mean = mean + rest;
    variance = variance < 0.0f ? 0.0f : variance;  // NaN stays NaN
    kept[c] = mean;
    kept[columns + c] = 1.0f / sqrtf(variance + epsilon);
    means[c] = means[c] * momentum + mean * (1.0f - momentum);
    variances[c] = variances[c] * momentum + variance * (1.0f - momentum);
}

KERNEL(batch_gradients)(Global<float> sums, Global<float> dgamma, Global<float> dbeta, Global<const float> dy,
                        Global<const float> x, Global<const float> kept, Global<const int> live, long long batch,
                        long long columns) {
    begin();
    SHARED(float, work, THREADS);
    int rows = (int)live_rows(live, batch, 1), group = thread_index() / COLUMNS;
    long long c = block_index() * COLUMNS + thread_index() % COLUMNS;
    bool mine = c < columns;
    float mean = mine ? kept[c] : 0.0f, inverse = mine ? kept[columns + c] : 0.0f, of_gamma = 0.0f, of_beta = 0.0f;
    for (int r = group; r < (mine ? rows : 0); r += GROUPS) {
        long long e = r * columns + c;
        of_beta = of_beta + dy[e];
        of_gamma = multiply_add(dy[e], (x[e] - mean) * inverse, of_gamma);
    }
    of_gamma = column_sum(work, of_gamma);
    of_beta = column_sum(work, of_beta);
    if (group > 0 || !mine) return;
    sums[c] = of_gamma;
    sums[columns + c] = of_beta;
    if (dgamma) dgamma[c] = of_gamma;
    if (dbeta) dbeta[c] = of_beta;
}

// Element by element. ``gamma`` and ``beta`` may be null.
KERNEL(batch_slope)(Global<float> dx, Global<const float> dy, Global<const float> x, Global<const float> gamma,
                    Global<const float> kept, Global<const float> sums, Global<const int> live, long long batch,
                    long long columns) {
    begin();
    long long rows = live_rows(live, batch, 1);
    float share = 1.0f / (float)rows;
    for (long long e = first_element(); e < rows * columns; e += element_stride()) {
        long long c = e % columns;
        float normal = (x[e] - kept[c]) * kept[columns + c];
        float slope = (dy[e] - sums[columns + c] * share - normal * (sums[c] * share)) * kept[columns + c];
        dx[e] = gamma ? slope * gamma[c] : slope;
    }
}

// y = gamma (x - mean) d + beta: d is ``spread`` itself, or, where it is a variance, 1 / max(sqrt(it + epsilon), least).
DEVICE float inverse_of(float spread, long long is_variance, float epsilon, float least) {
    if (!is_variance) return spread;
    float deviation = sqrtf(spread + epsilon);
    return 1.0f / (deviation < least ? least : deviation);
}

KERNEL(standardize)(Global<float> y, Global<const float> x, Global<const float> gamma, Global<const float> beta,
                    Global<const float> mean, Global<const float> spread, Global<const int> live, long long batch,
                    long long columns, long long is_variance, float epsilon, float least) {
    begin();
    long long count = live_rows(live, batch, 1) * columns;
    for (long long e = first_element(); e < count; e += element_stride()) {
        long long c = e % columns;
        float v = (x[e] - mean[c]) * inverse_of(spread[c], is_variance, epsilon, least);
        if (gamma) v = v * gamma[c];
        y[e] = beta ? v + beta[c] : v;
    }
}

KERNEL(fixed_slope)(Global<float> dx, Global<const float> dy, Global<const float> gamma, Global<const float> variance,
                    Global<const int> live, long long batch, long long columns, float epsilon, float least) {
    begin();
    long long count = live_rows(live, batch, 1) * columns;
    for (long long e = first_element(); e < count; e += element_stride()) {
        float v = dy[e] * inverse_of(variance[e % columns], 1, epsilon, least);
        dx[e] = gamma ? v * gamma[e % columns] : v;
    }
}
