// Losses of one sample, with their gradients: what the loss kernel and the whole-fit kernel share.
//
// Definitions: gpumlp/losses.py. ``c`` is huber's delta or the label smoothing.
#pragma once
#include "activations.cuh"

enum Loss { SQUARED, ABSOLUTE, HUBER, BINARY, BINARY_LOGITS, CATEGORICAL, CATEGORICAL_LOGITS };
constexpr float FUZZ = 1e-7f;  // Keras clips probabilities to [FUZZ, 1 - FUZZ]


// One output's share of the loss; its gradient into ``slope``.
DEVICE float elementwise_loss(int kind, float t, float p, float c, float &slope) {
    float error = p - t;
    if (kind == SQUARED) {
        slope = 2.0f * error;
        return error * error;
    }
    if (kind == ABSOLUTE) {
        slope = error > 0.0f ? 1.0f : (error < 0.0f ? -1.0f : error);  // 0 at 0, NaN at NaN
        return fabsf(error);
    }
    if (kind == HUBER) {
        slope = clip(error, -c, c);
        return slope * (error - 0.5f * slope);
    }
    t = t * (1.0f - c) + 0.5f * c;
    if (kind == BINARY_LOGITS) {
        p = bounded(p);
        float softplus = log1pf(expf(-fabsf(p))) + (p < 0.0f ? 0.0f : p);
        slope = expf(p - softplus) - t;
        return softplus - p * t;
    }
    float q = clip(p, FUZZ, 1.0f - FUZZ);
    slope = (q - t) / (q * (1.0f - q)) * (p == q ? 1.0f : 0.0f);
    return -(t * (logf(q) - logf(1.0f - q)) + logf(1.0f - q));
}

struct Targets {
    Array<const float> t;
    int outputs;
    bool sparse;
    float smoothing;
    DEVICE float at(int c) const {
        float v = sparse ? (t[0] == (float)c ? 1.0f : 0.0f) : t[c];
        return smoothing > 0.0f ? v * (1.0f - smoothing) + smoothing / (float)outputs : v;
    }
};

DEVICE float probabilities_loss(Array<float> dp, Array<const float> p, const Targets &t, int end, int lane, int lanes,
                                float factor) {
    float total = 0.0f, value = 0.0f, pull = 0.0f;
    for (int c = lane; c < end; c += lanes) total += p[c];
    total = group_sum(total, lanes);
    for (int c = lane; c < end; c += lanes) {
        float q = p[c] / total, inside = clip(q, FUZZ, 1.0f - FUZZ), target = t.at(c);
        float slope = -(target / inside) * (inside == q ? 1.0f : 0.0f);
        value -= target * logf(inside);
        pull += slope * q;
    }
    pull = group_sum(pull, lanes);
    for (int c = lane; c < end; c += lanes) {
        float q = p[c] / total, inside = clip(q, FUZZ, 1.0f - FUZZ);
        float slope = -(t.at(c) / inside) * (inside == q ? 1.0f : 0.0f);
        dp[c] = (slope - pull) / total * factor;
    }
    return group_sum(value, lanes);
}

DEVICE float logits_loss(Array<float> dp, Array<const float> p, const Targets &t, int end, int lane, int lanes,
                         float factor) {
    float top = -INFINITY, sum = 0.0f, weight = 0.0f, value = 0.0f;
    for (int c = lane; c < end; c += lanes) {
        float v = p[c];
        top = v > top || v != v ? v : top;
    }
    top = bounded(group_max(top, lanes));
    for (int c = lane; c < end; c += lanes) {
        sum += expf(bounded(p[c]) - top);
        weight += t.at(c);
    }
    sum = group_sum(sum, lanes);
    weight = group_sum(weight, lanes);
    float log_sum = logf(sum);
    for (int c = lane; c < end; c += lanes) {
        float shifted = bounded(p[c]) - top, target = t.at(c);
        value -= target * bounded(shifted - log_sum);
        dp[c] = (expf(shifted) / sum * weight - target) * factor;
    }
    return group_sum(value, lanes);
}

// The loss of a sample whose row is p[0 ... end - 1]; the gradient times ``factor`` into dp. A group of ``lanes`` threads
// owns the sample and all of it gets the value; end is ``outputs``, or 0 for a group without a sample. ``t`` is the
// sample's row of targets, or its class number where ``sparse``.
DEVICE float row_loss(int kind, bool sparse, float c, Array<float> dp, Array<const float> p, Array<const float> t,
                      int outputs, int end, int lane, int lanes, float factor) {
    if (kind < CATEGORICAL) {
        float value = 0.0f;
        for (int o = lane; o < end; o += lanes) {
            float slope;
            value += elementwise_loss(kind, t[o], p[o], c, slope);
            dp[o] = slope * (factor / (float)outputs);
        }
        return group_sum(value, lanes) / (float)outputs;
    }
    Targets targets{t, outputs, sparse, c};
    return kind == CATEGORICAL ? probabilities_loss(dp, p, targets, end, lane, lanes, factor)
                               : logits_loss(dp, p, targets, end, lane, lanes, factor);
}
