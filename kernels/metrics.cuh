// Metrics of one sample: what the metric kernel and the whole-fit kernel share. Definitions: gpumlp/metrics.py.
#pragma once
#include "elementary.cuh"

enum Metric { SQUARED_ERROR, ABSOLUTE_ERROR, BINARY_ACCURACY, CATEGORICAL_ACCURACY, SPARSE_ACCURACY };

DEVICE int argmax(Array<const float> row, int end, int lane, int lanes) {
    Best best;
    for (int c = lane; c < end; c += lanes) best.take(row[c], c);
    return group_argmax(best, lanes);
}

// A sample's metric; t and p are its rows, the rest as in losses.cuh.
DEVICE float row_metric(int kind, Array<const float> p, Array<const float> t, int outputs, int end, int lane, int lanes) {
    if (kind < CATEGORICAL_ACCURACY) {
        float value = 0.0f;
        for (int o = lane; o < end; o += lanes) {
            float error = p[o] - t[o];
            value += kind == SQUARED_ERROR    ? error * error
                     : kind == ABSOLUTE_ERROR ? fabsf(error)
                                              : ((p[o] > 0.5f ? 1.0f : 0.0f) == t[o] ? 1.0f : 0.0f);
        }
        return group_sum(value, lanes) / (float)outputs;
    }
    int guess = argmax(p, end, lane, lanes), truth = argmax(t, kind == CATEGORICAL_ACCURACY ? end : 0, lane, lanes);
    if (end == 0) return 0.0f;
    return (float)guess == (kind == CATEGORICAL_ACCURACY ? (float)truth : t[0]) ? 1.0f : 0.0f;
}
