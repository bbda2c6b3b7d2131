// metric: values[b] = the metric of sample b, times its weight where weights are given; counts[b] = that weight
//
// t[B, T] targets (T = 1 class number for sparse accuracy) and p[B, O] predictions. counts may be null. Samples beyond the
// live ones count zero. A group of ``lanes`` threads owns a sample, as in softmax.cu.
#include "metrics.cuh"

KERNEL(metric)(Global<float> values, Global<float> counts, Global<const float> t, Global<const float> p,
               Global<const float> weights, Global<const int> live, long long batch, long long outputs,
               long long lanes, long long kind) {
    begin();
    long long r = first_element() / lanes, rows = live_rows(live, batch, 1), base = r * outputs;
    int lane = thread_index() % (int)lanes, end = r < rows ? (int)outputs : 0;
    float weight = r < rows ? (weights ? weights[r] : 1.0f) : 0.0f;
    float value = row_metric((int)kind, p + base, t + (kind == SPARSE_ACCURACY ? r : base), (int)outputs, end, lane,
                             (int)lanes);
    if (lane != 0 || r >= batch) return;
    values[r] = r < rows ? value * weight : 0.0f;
    if (counts) counts[r] = weight;
}
