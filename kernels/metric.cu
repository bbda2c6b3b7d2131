// metric: values[b] = the metric of sample b, times its weight where weights are given; counts[b] = that weight
//
// t[B, T] targets and p[B, O] predictions; definitions in gpumlp/metrics.py. counts may be null. Samples beyond the live
// ones count zero. A group of ``lanes`` threads owns a sample, as in softmax.cu.
#include "primitives.cuh"

enum Metric { SQUARED_ERROR, ABSOLUTE_ERROR, BINARY_ACCURACY, CATEGORICAL_ACCURACY, SPARSE_ACCURACY };

// The first place of the largest value, NaN being larger than any number, as NumPy's argmax says.
struct Best {
    float value;
    int place;
    DEVICE void take(float v, int at) {
        bool mine = value != value, theirs = v != v;
        bool better = mine != theirs ? theirs : (mine ? at < place : v > value || (v == value && at < place));
        if (place < 0 || better) value = v, place = at;
    }
};

DEVICE int argmax(Global<const float> row_of, long long base, long long end, int lane, int lanes) {
    Best best{0.0f, -1};
    for (long long c = lane; c < end; c += lanes) best.take(row_of[base + c], (int)c);
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
        float v = shuffle_xor(best.value, mask);
        int at = shuffle_xor(best.place, mask);
        if (at >= 0) best.take(v, at);
    }
    return best.place;
}

KERNEL(metric)(Global<float> values, Global<float> counts, Global<const float> t, Global<const float> p,
               Global<const float> weights, Global<const int> live, long long batch, long long outputs,
               long long lanes_, long long kind) {
    int lanes = (int)lanes_, lane = thread_index() % lanes;
    long long r = first_element() / lanes, rows = live_rows(live, batch, 1), base = r * outputs;
    long long end = r < rows ? outputs : 0;
    float weight = r < rows ? (weights ? weights[r] : 1.0f) : 0.0f, value = 0.0f;
    if (kind < CATEGORICAL_ACCURACY) {
        for (long long o = lane; o < end; o += lanes) {
            float error = p[base + o] - t[base + o];
            value += kind == SQUARED_ERROR    ? error * error
                     : kind == ABSOLUTE_ERROR ? fabsf(error)
                                              : ((p[base + o] > 0.5f ? 1.0f : 0.0f) == t[base + o] ? 1.0f : 0.0f);
        }
        value = group_sum(value, lanes) / (float)outputs;
    } else {
        int guess = argmax(p, base, end, lane, lanes);
        int truth = argmax(t, base, kind == CATEGORICAL_ACCURACY ? end : 0, lane, lanes);
        if (r < rows) value = (float)guess == (kind == CATEGORICAL_ACCURACY ? (float)truth : t[r]) ? 1.0f : 0.0f;
    }
    if (lane != 0 || r >= batch) return;
    values[r] = r < rows ? value * weight : 0.0f;
    if (counts) counts[r] = weight;
}
