// The bookkeeping of recorded steps, on the device, so that a recorded graph can be replayed without the host.
//
// Run is written by the host before a run of steps. counters[0] counts the run's finished steps; a graph of k steps
// knows each step's place in it (``slot``), and advances the counter by k at its end. gather tells the later kernels of
// its step what they need: live[0] samples, the optimizer's scalars, counters[1] = the iteration number (from 1).
#include "primitives.cuh"

struct Run {
    Global<const float> x, y, weights;  // the data set: x[n, F], y[n, T], weights[n] or null
    Global<const long long> order;      // order[i]: the row that stands i-th in this epoch; null: as it stands
    Global<const float> scalars;        // [steps, count]: what the optimizer needs at each step
    Global<double> results;             // [steps, series]: what reduce writes
    long long first, batch, samples, iteration, series;  // first: batch number of the run's first step
};

// gather: x_batch[B, F], y_batch[B, T], w_batch[B] (or null) = rows order[start ...] of the data set
KERNEL(gather)(Global<float> x_batch, Global<float> y_batch, Global<float> w_batch, Global<int> live,
               Global<float> scalars, Global<long long> counters, Global<const Run> runs, long long slot,
               long long features, long long targets, long long training, long long count) {
    begin();
    const Run run = runs[0];
    long long index = counters[0] + slot, start = (run.first + index) * run.batch;
    long long rows = run.samples - start < run.batch ? run.samples - start : run.batch;
    long long width = features + targets + 1;
    for (long long e = first_element(); e < rows * width; e += element_stride()) {
        long long r = e / width, c = e % width;
        long long from = run.order ? run.order[start + r] : start + r;
        if (c < features) x_batch[r * features + c] = run.x[from * features + c];
        else if (c < features + targets) y_batch[r * targets + c - features] = run.y[from * targets + c - features];
        else if (w_batch) w_batch[r] = run.weights[from];
    }
    if (first_element() != 0) return;
    live[0] = (int)rows;
    if (!training) return;
    counters[1] = run.iteration + index + 1;
    for (int i = 0; i < count; ++i) scalars[i] = run.scalars[count * index + i];
}

// reduce: results[step][series] = sum of values[slot][series][:], in double; one block per (slot, series)
KERNEL(reduce)(Global<const Run> runs, Global<const long long> counters, Global<const float> values, long long length) {
    begin();
    SHARED(double, sums, THREADS);
    const Run run = runs[0];
    long long base = (block_index() * run.series + block_row()) * length;
    double sum = 0.0;
    for (long long i = thread_index(); i < length; i += THREADS) sum += values[base + i];
    sums[thread_index()] = sum;
    barrier();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (thread_index() < half) sums[thread_index()] = sums[thread_index()] + sums[thread_index() + half];
        barrier();
    }
    if (thread_index() == 0) run.results[(counters[0] + block_index()) * run.series + block_row()] = sums[0];
}

// advance: the graph's steps are done
KERNEL(advance)(Global<long long> counters, long long steps) {
    begin();
    if (first_element() == 0) counters[0] = counters[0] + steps;
}
