// loss: values[b] = loss of sample b times its weight; dp[B, O] = gradient of sum(values) / B by the predictions p[B, O]
//
// t[B, T] ``targets``, as many as outputs, 1, or what else the loss reads; weights[B] or null. values of samples beyond
// the live ones are set to zero, so that their sum over the whole batch is the batch's. A group of ``lanes`` threads owns
// a sample, as in rowwise.cu.
#include "formulas.cuh"

KERNEL(loss)(Global<float> dp, Global<float> values, Global<const float> t, Global<const float> p,
             Global<const float> weights, Global<const int> live, long long batch, long long targets,
             long long outputs, long long lanes, Numbers numbers) {
    begin();
    long long r = first_element() / lanes, rows = live_rows(live, batch, 1), base = r * outputs;
    int lane = thread_index() % (int)lanes, end = r < rows ? (int)outputs : 0;
    float weight = r < rows && weights ? weights[r] : 1.0f;
    float value = row_loss(t + r * targets, p + base, dp + base, weight / (float)rows, (int)outputs, end, lane,
                           (int)lanes, numbers);
    if (lane == 0 && r < batch) values[r] = r < rows ? value * weight : 0.0f;
}
