// metric: values[s][b] = sum s of the metric for sample b, times its weight where they are given; counts[b] = that weight
//
// t[B, T] ``targets``, as many as outputs, 1, or what else the metric reads, and p[B, O] predictions; the sums' values stand
// ``apart``. counts may be null. Samples beyond the live ones count zero. A group of ``lanes`` threads owns a sample, as in
// rowwise.cu.
#include "formulas.cuh"

KERNEL(metric)(Global<float> values, Global<float> counts, Global<const float> t, Global<const float> p,
               Global<const float> weights, Global<const int> live, long long batch, long long apart, long long targets,
               long long outputs, long long lanes, Numbers numbers) {
    begin();
    long long r = first_element() / lanes, rows = live_rows(live, batch, 1), base = r * outputs;
    int lane = thread_index() % (int)lanes, end = r < rows ? (int)outputs : 0;
    float weight = r < rows ? (weights ? weights[r] : 1.0f) : 0.0f, sums[SUMS];
    row_metrics(t + r * targets, p + base, sums, (int)outputs, end, lane, (int)lanes, numbers);
    if (lane != 0 || r >= batch) return;
    for (int s = 0; s < SUMS; ++s) values[s * apart + r] = r < rows ? sums[s] * weight : 0.0f;
    if (counts) counts[r] = weight;
}
