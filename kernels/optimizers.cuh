// Updates of one parameter: what the arena's kernels and the whole-fit kernel share. Formulas: adam.cu, sgd.cu.
#pragma once
#include "primitives.cuh"

struct Adam {
    float alpha, decay, keep_1, keep_2, epsilon;  // keep: 1 - beta
    DEVICE void step(float &w, float g, float &m, float &v) const {
        m = multiply_add(g - m, keep_1, m);
        v = multiply_add(multiply_add(g, g, -v), keep_2, v);
        w = multiply_add(decay, w, -(alpha * m / (sqrtf(v) + epsilon)));
    }
};

struct Sgd {
    float rate, decay, momentum;
    bool moving, nesterov;
    DEVICE void step(float &w, float g, float &u) const {
        float change = -rate * g;
        if (moving) {
            u = multiply_add(momentum, u, change);
            change = nesterov ? multiply_add(momentum, u, change) : u;
        }
        w = multiply_add(decay, w, change);
    }
};
