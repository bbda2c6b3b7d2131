// loss: values[b] = loss of sample b times its weight; dp[B, O] = gradient of sum(values) / B by the predictions p[B, O]
//
// t[B, O] targets, or [B, 1] class numbers where ``sparse``; weights[B] or null. ``c`` is huber's delta or the label
// smoothing. Definitions: gpumlp/losses.py. values of samples beyond the live ones are set to zero, so that their sum
// over the whole batch is the batch's. A group of ``lanes`` threads owns a sample, as in softmax.cu.
#include "primitives.cuh"

enum Loss { SQUARED, ABSOLUTE, HUBER, BINARY, BINARY_LOGITS, CATEGORICAL, CATEGORICAL_LOGITS };
constexpr float FUZZ = 1e-7f;  // Keras clips probabilities to [FUZZ, 1 - FUZZ]

DEVICE float clip(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }  // keeps NaN

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
        float softplus = log1pf(expf(-fabsf(p))) + (p < 0.0f ? 0.0f : p);
        slope = expf(p - softplus) - t;
        return softplus - p * t;
    }
    float q = clip(p, FUZZ, 1.0f - FUZZ);
    slope = (q - t) / (q * (1.0f - q)) * (p == q ? 1.0f : 0.0f);
    return -(t * (logf(q) - logf(1.0f - q)) + logf(1.0f - q));
}

struct Targets {
    Global<const float> t;
    long long row, outputs;
    bool sparse;
    float smoothing;
    DEVICE float at(long long c) const {
        float v = sparse ? (t[row] == (float)c ? 1.0f : 0.0f) : t[row * outputs + c];
        return smoothing > 0.0f ? v * (1.0f - smoothing) + smoothing / (float)outputs : v;
    }
};

DEVICE float probabilities_loss(Global<float> dp, Global<const float> p, const Targets &t, long long base,
                                long long end, int lane, int lanes, float factor) {
    float total = 0.0f, value = 0.0f, pull = 0.0f;
    for (long long c = lane; c < end; c += lanes) total += p[base + c];
    total = group_sum(total, lanes);
    for (long long c = lane; c < end; c += lanes) {
        float q = p[base + c] / total, inside = clip(q, FUZZ, 1.0f - FUZZ), target = t.at(c);
        float slope = -(target / inside) * (inside == q ? 1.0f : 0.0f);
        value -= target * logf(inside);
        pull += slope * q;
    }
    pull = group_sum(pull, lanes);
    for (long long c = lane; c < end; c += lanes) {
        float q = p[base + c] / total, inside = clip(q, FUZZ, 1.0f - FUZZ);
        float slope = -(t.at(c) / inside) * (inside == q ? 1.0f : 0.0f);
        dp[base + c] = (slope - pull) / total * factor;
    }
    return group_sum(value, lanes);
}

DEVICE float logits_loss(Global<float> dp, Global<const float> p, const Targets &t, long long base, long long end,
                         int lane, int lanes, float factor) {
    float top = -INFINITY, sum = 0.0f, weight = 0.0f, value = 0.0f;
    for (long long c = lane; c < end; c += lanes) {
        float v = p[base + c];
        top = v > top || v != v ? v : top;
    }
    top = group_max(top, lanes);
    for (long long c = lane; c < end; c += lanes) {
        sum += expf(p[base + c] - top);
        weight += t.at(c);
    }
    sum = group_sum(sum, lanes);
    weight = group_sum(weight, lanes);
    float log_sum = logf(sum);
    for (long long c = lane; c < end; c += lanes) {
        float shifted = p[base + c] - top, target = t.at(c);
        value -= target * (shifted - log_sum);
        dp[base + c] = (expf(shifted) / sum * weight - target) * factor;
    }
    return group_sum(value, lanes);
}

KERNEL(loss)(Global<float> dp, Global<float> values, Global<const float> t, Global<const float> p,
             Global<const float> weights, Global<const int> live, long long batch, long long outputs, long long lanes,
             long long kind, long long sparse, float c) {
    long long r = first_element() / lanes, rows = live_rows(live, batch, 1), base = r * outputs;
    int lane = thread_index() % (int)lanes;
    long long end = r < rows ? outputs : 0;
    float weight = r < rows && weights ? weights[r] : 1.0f, factor = weight / (float)rows, value = 0.0f;
    if (kind < CATEGORICAL) {
        for (long long o = lane; o < end; o += lanes) {
            float slope;
            value += elementwise_loss((int)kind, t[base + o], p[base + o], c, slope);
            dp[base + o] = slope * (factor / (float)outputs);
        }
        value = group_sum(value, (int)lanes) / (float)outputs;
    } else {
        Targets targets{t, r, outputs, sparse != 0, c};
        value = kind == CATEGORICAL ? probabilities_loss(dp, p, targets, base, end, lane, (int)lanes, factor)
                                    : logits_loss(dp, p, targets, base, end, lane, (int)lanes, factor);
    }
    if (lane == 0 && r < batch) values[r] = r < rows ? value * weight : 0.0f;
}
