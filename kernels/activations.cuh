// Activation functions of one element: value, and slope from the retained output y or pre-activation z.
// Definitions and sources: gpumlp/activations.py. ``a`` is the constant of leaky_relu and elu; affine is a z + b.
#pragma once
#include "elementary.cuh"

enum Activation { LINEAR, RELU, LEAKY_RELU, ELU, TANH, SIGMOID, GELU, GELU_TANH, SILU, AFFINE };

constexpr float FAR = 1000.0f;  // farther out sigmoid and CDF are 0 or 1: a product with z takes it, not inf * 0

DEVICE float normal_cdf(float z) { return 0.5f + 0.5f * erff(z * 0.70710678f); }
DEVICE float gelu_tanh_cdf(float z) {
    return 0.5f + 0.5f * tanhf(0.79788456f * z * (1.0f + 0.044715f * z * z));
}

DEVICE float activate(int kind, float z, float a, float b) {
    switch (kind) {
        case RELU: return z < 0.0f ? 0.0f : z;  // keeps NaN, which max() would not
        case LEAKY_RELU: return z < 0.0f ? a * z : z;
        case ELU: return z < 0.0f ? a * expm1f(z) : z;
        case TANH: return tanhf(z);
        case SIGMOID: return sigmoid(z);
        case GELU: return clip(z, -FAR, INFINITY) * normal_cdf(clip(z, -FAR, FAR));
        case GELU_TANH: return clip(z, -FAR, INFINITY) * gelu_tanh_cdf(clip(z, -FAR, FAR));
        case SILU: return clip(z, -FAR, INFINITY) * sigmoid(z);
        case AFFINE: return a * z + b;
        default: return z;
    }
}

// f'(z) where the output y = f(z) alone tells it: cheap enough to be computed wherever dy is read.
DEVICE float slope_from_output(int kind, float y, float a) {
    switch (kind) {
        case RELU: return y > 0.0f ? 1.0f : (y == y ? 0.0f : y);
        case LEAKY_RELU: return y > 0.0f ? 1.0f : (y == y ? a : y);
        case ELU: return y > 0.0f ? 1.0f : y + a;
        case TANH: return 1.0f - y * y;
        case SIGMOID: return (1.0f - y) * y;
        case AFFINE: return a;
        default: return 1.0f;
    }
}

// f'(z) where the pre-activation is needed.
DEVICE float slope_from_input(int kind, float z) {
    float s;
    z = clip(z, -FAR, FAR);
    switch (kind) {
        case GELU: return normal_cdf(z) + z * 0.39894228f * expf(-0.5f * z * z);
        case GELU_TANH:
            s = gelu_tanh_cdf(z);
            return s + z * 2.0f * s * (1.0f - s) * 0.79788456f * (1.0f + 3.0f * 0.044715f * z * z);
        default: return sigmoid(z) * (1.0f + z * sigmoid(-z));  // silu: 1 - s would lose what a large z magnifies
    }
}

// z, its infinities as the largest numbers: no difference is NaN, and no product with a target of 0.
DEVICE float bounded(float z) { return clip(z, -LARGEST, LARGEST); }

// y = exp(z - max) / sum over a row of ``end`` elements; y may be z. A group of ``lanes`` threads owns the row.
DEVICE void softmax_row(Array<float> y, Array<const float> z, int end, int lane, int lanes) {
    float top = -INFINITY, sum = 0.0f;
    for (int c = lane; c < end; c += lanes) {
        float v = z[c];
        top = v > top || v != v ? v : top;
    }
    top = bounded(group_max(top, lanes));
    for (int c = lane; c < end; c += lanes) sum += expf(bounded(z[c]) - top);
    sum = group_sum(sum, lanes);
    for (int c = lane; c < end; c += lanes) y[c] = expf(bounded(z[c]) - top) / sum;
}

// dy becomes the gradient by z: (dy - sum(dy y)) y
DEVICE void softmax_slope_row(Array<float> dy, Array<const float> y, int end, int lane, int lanes) {
    float sum = 0.0f;
    for (int c = lane; c < end; c += lanes) sum += dy[c] * y[c];
    sum = group_sum(sum, lanes);
    for (int c = lane; c < end; c += lanes) dy[c] = (dy[c] - sum) * y[c];
}
